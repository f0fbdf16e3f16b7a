"""Files only: raw tables in, checked at the door; stages and outputs out, whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from tqdm import tqdm

from chameleon_usage.errors import UsageError
from chameleon_usage.models.raw import RAW_TABLES, RawInputs, RawTable

ZERO_DATE = "0000-00-00"
MOST_UNREADABLE, FEW = 0.5, 10
"""A file of which more rows than this cannot be read is refused whole, unless they are few."""
NEVER = 9000
"""A date of this year or later stands for "never", not for a moment."""


@dataclass
class _Door:
    rejects: list[pl.DataFrame] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)


REJECTED = {"source": pl.String(), "source_row_id": pl.String(), "reason": pl.String()}


def load_raw_inputs(
    directory: Path,
    names: Iterable[str],
    *,
    files: Mapping[str, str] | None = None,
    progress: bool = False,
) -> RawInputs:
    """Read the named raw tables of one site and check them at the door.

    Args:
        directory: holds ``<schema>.<table>.parquet`` files, and a ``manifest.json`` if the
            extractor wrote one (its ``as_of`` closes what is still open).
        names: tables to read, of ``RAW_TABLES``; an archive table is added to its live one.
        files: table name to a path or glob below ``directory``, for layouts of other makers
            (Parquet or CSV).
        progress: show a bar on a terminal.

    Returns:
        The tables; a table without a file is listed as absent.

    Raises:
        UsageError: the directory or all tables are missing, a file cannot be read, or lacks a
            required column.
    """
    if not directory.is_dir():
        raise UsageError(
            f"no data directory {directory}: make the default data with 'make data', "
            "or name the directory that holds the site's Parquet files with --data-dir"
        )
    door, tables, absent = _Door(), {}, []
    seen: list[Path] = []
    wanted = sorted(set(names))
    for name in tqdm(wanted, desc="read", unit="table", leave=False, disable=not progress):
        spec = RAW_TABLES[name]
        paths = _paths(directory, name, files or {})
        archive = _paths(directory, spec.archive, files or {}) if spec.archive else []
        if not paths:
            absent.append(name)
            continue
        seen += [*paths, *archive]
        judged = [_judge(_read(path, name, spec), path, spec) for path in [*paths, *archive]]
        tables[name] = _check(pl.concat(judged), name, spec, door)
    if not tables:
        raise UsageError(
            f"{directory} holds none of the tables {', '.join(wanted)}: "
            "expected files named <schema>.<table>.parquet"
        )
    rejects = pl.concat(door.rejects) if door.rejects else pl.DataFrame(schema=REJECTED)
    as_of = _as_of(directory / "manifest.json", tables, seen)
    return RawInputs(tables, rejects, door.rows, tuple(absent), as_of)


def _paths(directory: Path, name: str, files: Mapping[str, str]) -> list[Path]:
    return sorted(directory.glob(files.get(name, f"{name}.parquet")))


def _read(path: Path, name: str, spec: RawTable) -> pl.DataFrame:
    """Read the columns of one file; JSON documents are reduced while reading."""
    try:
        if path.suffix == ".csv":
            scan = pl.scan_csv(path, infer_schema=False)
        else:
            scan = pl.scan_parquet(path)
        present = scan.collect_schema().names()
        missing = [column for column in spec.required if column not in present]
        if missing:
            raise UsageError(
                f"{path}: table {name} lacks the column {', '.join(missing)}; "
                "extract the table again with that column"
            )
        stored = [
            pl.col(column) if column in present else pl.lit(None, dtype=kind).alias(column)
            for column, kind in spec.columns.items()
        ]
        return scan.select(stored).with_columns(**spec.derived).select(list(spec.kept)).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(
            f"{path}: table {name} cannot be read ({str(error).splitlines()[0]}); "
            "the file is damaged or not of its kind: extract it again"
        ) from error


def _judge(frame: pl.DataFrame, path: Path, spec: RawTable) -> pl.DataFrame:
    """Cast one file to the declared types; tell why a row cannot be used (``_reason``)."""
    kinds = spec.kept
    try:
        cast = frame.with_columns(
            [_cast(pl.col(column), frame.schema[column], kind) for column, kind in kinds.items()]
        )
        row_id = frame.select(
            pl.concat_str([pl.col(key).cast(pl.String) for key in spec.key], separator="|")
        ).to_series()
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"{path}: a column is of a type that cannot be read ({str(error).splitlines()[0]}); "
            f"expected {', '.join(f'{name}: {kind}' for name, kind in kinds.items())}"
        ) from error
    converted = [column for column, kind in kinds.items() if frame.schema[column] != kind]
    unreadable = pl.concat_str(
        pl.lit("unreadable"),
        *(
            pl.when(_lost(frame[column], cast[column])).then(pl.lit(f" {column}"))
            for column in converted
        ),
        ignore_nulls=True,
    )
    no_key = pl.any_horizontal(pl.col(key).is_null() for key in spec.key)
    judged = cast.with_columns(_reason=unreadable, _row_id=row_id).with_columns(
        _reason=pl.when(pl.col("_reason") != "unreadable")
        .then("_reason")
        .when(no_key)
        .then(pl.lit("missing key"))
    )
    refused = judged["_reason"].count()
    if refused > MOST_UNREADABLE * judged.height and refused > FEW:
        raise UsageError(
            f"{path}: {refused} of {judged.height} rows cannot be read "
            f"({judged['_reason'].drop_nulls()[0]}); check how the column was written"
        )
    return judged


def _check(judged: pl.DataFrame, name: str, spec: RawTable, door: _Door) -> pl.DataFrame:
    """Refuse rows that cannot be read, lack a key, or come twice."""
    door.rows[name] = judged.height
    kinds = spec.kept
    good = judged.filter(pl.col("_reason").is_null())
    bad = judged.filter(pl.col("_reason").is_not_null())
    if good.select(spec.key).is_duplicated().any():
        # Sorted by every column, so that which row stays does not hang on the order of the file.
        good = good.with_row_index("_row").sort(*spec.key, *kinds, nulls_last=True)
        again = ~good.select(pl.struct(spec.key).is_first_distinct()).to_series()
        bad = pl.concat(
            [bad, good.filter(again).drop("_row").with_columns(_reason=pl.lit("duplicate row"))]
        )
        good = good.filter(~again).sort("_row").drop("_row")
    if bad.height:
        door.rejects.append(
            bad.select(
                source=pl.lit(name),
                source_row_id=pl.col("_row_id").fill_null("(no key)"),
                reason="_reason",
            )
        )
    return good.drop("_reason", "_row_id")


def _cast(column: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    if wanted == pl.Datetime("us"):
        if found == pl.String:
            column = pl.coalesce(
                column.str.to_datetime(form, time_unit="us", strict=False)
                for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")
            ).fill_null(
                pl.coalesce(
                    column.str.replace("Z$", "+00:00")
                    .str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
                    .dt.replace_time_zone(None)
                    for form in ("%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M:%S%.f%:z")
                )
            )
        elif isinstance(found, pl.Datetime) and found.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        elif not found.is_temporal():
            column = pl.lit(None, dtype=wanted).alias(column.meta.output_name())
        # The services write whole seconds; the arithmetic is exact in whole seconds.
        return column.cast(wanted, strict=False).dt.truncate("1s")
    if wanted == pl.String and found == pl.String:
        # An empty name is no name.
        return pl.when(column.str.strip_chars() != "").then(column)
    return column if found == wanted else column.cast(wanted, strict=False)


def _lost(before: pl.Series, after: pl.Series) -> pl.Series:
    """Tell where a value was there and is none after the cast; a zero date is no value."""
    lost = before.is_not_null() & after.is_null()
    if before.dtype == pl.String:
        lost &= ~before.str.starts_with(ZERO_DATE).fill_null(value=False) & (before != "")
    return lost.fill_null(value=False)


def _stamps(path: Path) -> Iterator[datetime]:
    """Give the last created_at, updated_at and deleted_at of a file, kept or not."""
    if path.suffix == ".csv":
        return
    scan = pl.scan_parquet(path)
    kinds = scan.collect_schema()
    told = [
        name
        for name in ("created_at", "updated_at", "deleted_at")
        if isinstance(kinds.get(name), pl.Datetime)
    ]
    if told:
        for column in scan.select(pl.col(told).max()).collect():
            moment = column[0]
            if moment is not None:
                zoned = moment.astimezone(UTC) if moment.tzinfo else moment
                yield zoned.replace(microsecond=0, tzinfo=None)


def _as_of(manifest: Path, tables: Mapping[str, pl.DataFrame], paths: Iterable[Path]) -> datetime:
    """Tell when the tables were read: the manifest's word, else the last thing recorded."""
    if manifest.exists():
        try:
            moment = datetime.fromisoformat(json.loads(manifest.read_text())["as_of"])
            if moment.tzinfo is not None:
                moment = moment.astimezone(UTC)
            return moment.replace(microsecond=0, tzinfo=None)
        except (ValueError, KeyError, TypeError, OSError, OverflowError) as error:
            raise UsageError(
                f"{manifest}: no readable 'as_of' ({error!r}); "
                "it must be an ISO time in UTC, or the file must go"
            ) from error
    latest = [
        frame[column].max()
        for frame in tables.values()
        for column in ("created_at", "updated_at", "deleted_at", "EVENT_TIME")
        if column in frame.columns
    ]
    found = [moment for moment in latest if isinstance(moment, datetime)]
    found += [moment for path in paths for moment in _stamps(path)]
    found = [moment for moment in found if moment.year < NEVER]
    if not found:
        raise UsageError(
            f"{manifest.parent}: no row has a created_at, updated_at or deleted_at, so the time of "
            "the dump is not known; add a manifest.json with 'as_of'"
        )
    return max(found)


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Fill a directory that appears at ``target`` whole, or not at all.

    Yields:
        a temporary directory beside the target; on success it takes the target's place.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        prefix = f".{target.name}.{os.getpid()}."
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as error:
        raise UsageError(
            f"{target}: cannot be written ({error.strerror}); name another directory"
        ) from error
    old = scratch.with_name(scratch.name + ".old")
    try:
        yield scratch
        scratch.chmod(0o755)
        if target.exists():
            target.replace(old)
        scratch.replace(target)
    except (OSError, pl.exceptions.ComputeError) as error:
        if old.exists() and not target.exists():
            old.replace(target)
        raise UsageError(
            f"{target}: could not be written ({str(error).splitlines()[0]}); "
            "what was there before is untouched"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Write a file that appears at ``target`` whole, or not at all.

    Yields:
        a path in a temporary directory beside the target; on success what is written there takes
        the target's place.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        prefix = f".{target.name}.{os.getpid()}."
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as scratch:
            part = Path(scratch) / target.name
            yield part
            part.replace(target)
    except (OSError, pl.exceptions.ComputeError) as error:
        raise UsageError(
            f"{target}: could not be written ({str(error).splitlines()[0]}); "
            "what was there before is untouched. Name another file, or make room"
        ) from error


def _sweep(target: Path) -> None:
    """Remove what a killed run left beside the target, and bring back what it had moved away."""
    for left in sorted(target.parent.glob(f".{target.name}.*")):
        pid = left.name.removeprefix(f".{target.name}.").split(".")[0]
        if not pid.isdigit() or Path(f"/proc/{pid}").exists():
            continue
        if left.suffix == ".old" and not target.exists():
            left.replace(target)
        else:
            shutil.rmtree(left, ignore_errors=True)


def save_tables(directory: Path, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write each frame to ``<name>.parquet`` in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.write_parquet(directory / f"{name}.parquet", compression="zstd")


def load_table(path: Path) -> pl.DataFrame:
    """Read one stage or output table.

    Raises:
        UsageError: it is not there, or is damaged.
    """
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); "
            "run 'chameleon-usage run --save-stages' again"
        ) from error
