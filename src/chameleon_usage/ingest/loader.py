"""Files only: raw tables in, checked at the door; stages and outputs out, whole or not at all."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from pathlib import Path

import polars as pl
from tqdm import tqdm

from chameleon_usage.errors import UsageError
from chameleon_usage.intervals import conservation
from chameleon_usage.models.raw import RAW_TABLES, RawInputs, RawTable
from chameleon_usage.snapshots import history

ZERO_DATE = "0000-00-00"
MOST_UNREADABLE, FEW = 0.5, 10
"""A file of which more rows than this cannot be read is refused whole, unless they are few."""
NEVER = 9000
"""A date of this year or later stands for "never", not for a moment."""


@dataclass(frozen=True)
class _Admitted:
    """A table that passed the door: its good rows, and what is told of the rest."""

    name: str
    rows: pl.DataFrame
    rejects: pl.DataFrame
    found: int
    unread: list[str]
    paths: list[Path]


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
        The tables; a table without a file is listed as absent, and so is a file's time column
        that only a later release has (``<table>.<column>``).

    Raises:
        UsageError: the directory or all tables are missing, a file cannot be read, or lacks a
            required column.
    """
    if not directory.is_dir():
        raise UsageError(
            f"no data directory {directory}: make the default data with 'make data', "
            "or name the directory that holds the site's Parquet files with --data-dir"
        )
    files, wanted = files or {}, sorted(set(names))
    shown = tqdm(wanted, desc="read", unit="table", leave=False, disable=not progress)
    admitted = [_admit(name, directory, files) for name in shown]
    tables = {table.name: table.rows for table in admitted if table}
    if not tables:
        raise UsageError(
            f"{directory} holds none of the tables {', '.join(wanted)}: "
            "expected files named <schema>.<table>.parquet"
        )
    seen = [path for table in admitted if table for path in table.paths]
    inputs = RawInputs(
        tables,
        rejects=pl.concat(
            [pl.DataFrame(schema=REJECTED), *(table.rejects for table in admitted if table)]
        ),
        rows={table.name: table.found for table in admitted if table},
        absent=tuple(
            column
            for name, table in zip(wanted, admitted, strict=True)
            for column in (table.unread if table else [name])
        ),
        as_of=_as_of(directory / "manifest.json", tables, seen),
    )
    conservation.check_door(inputs)
    return history.complete(directory, inputs, _superseded)


def _admit(name: str, directory: Path, files: Mapping[str, str]) -> _Admitted | None:
    """Read a table and its archive, and check them; nothing if it has no file."""
    spec = RAW_TABLES[name]
    paths = _paths(directory, name, files)
    archive = _paths(directory, spec.archive, files) if paths and spec.archive else []
    judged = [_judge(_read(path, name, spec), path, spec) for path in [*paths, *archive]]
    if not judged:
        return None
    whole = pl.concat(judged)
    good, bad = _check(whole, name, spec)
    unread = sorted({f"{name}.{column}" for path in paths for column in _unread(path, spec)})
    return _Admitted(name, good, bad, whole.height, unread, [*paths, *archive])


def _superseded(paths: list[Path], name: str) -> pl.DataFrame:
    """Read the rows that increments kept of a table; what the door refused then, it refuses."""
    spec, told = RAW_TABLES[name], [history.FATE, history.FILE]
    scan = pl.scan_parquet(paths, include_file_paths=history.FILE)
    judged = _judge(_read(paths[0], name, spec, scan), paths[0], spec)
    return (
        judged.with_columns(scan.select(told).collect())
        .filter((pl.col(history.FATE) != history.ADDED) & pl.col("_reason").is_null())
        .unique([*spec.key, history.FILE], keep="first", maintain_order=True)
        .drop("_reason", "_row_id")
    )


def _paths(directory: Path, name: str, files: Mapping[str, str]) -> list[Path]:
    return sorted(directory.glob(files.get(name, f"{name}.parquet")))


def _read(path: Path, name: str, spec: RawTable, scan: pl.LazyFrame | None = None) -> pl.DataFrame:
    """Read the columns of one file (or ``scan``); JSON documents are reduced while reading."""
    try:
        if scan is None and path.suffix == ".csv":
            scan = pl.scan_csv(path, infer_schema=False)
        elif scan is None:
            scan = pl.scan_parquet(path)
        kinds = scan.collect_schema()
        present = kinds.names()
        missing = [column for column in spec.required if column not in present]
        if missing:
            raise UsageError(
                f"{path}: table {name} lacks the column {', '.join(missing)}; "
                "extract the table again with that column"
            )
        for column in present:
            if column in spec.columns and kinds[column].is_nested():
                raise UsageError(
                    f"{path}: table {name}, column {column} holds {kinds[column]}, "
                    f"expected {spec.columns[column]}; extract the table again"
                )
        stored = [
            pl.col(column) if column in present else pl.lit(None, dtype=kind).alias(column)
            for column, kind in spec.columns.items()
        ]
        documents = [
            _cast(pl.col(column), kinds[column], spec.columns[column])
            for column in spec.columns
            if column not in spec.kept and column in present
        ]
        told = scan.select(stored).with_columns(documents).with_columns(**spec.derived)
        return told.select(list(spec.kept)).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(
            f"{path}: table {name} cannot be read ({str(error).splitlines()[0]}); "
            "the file is damaged or not of its kind: extract it again"
        ) from error


def _unread(path: Path, spec: RawTable) -> Iterator[str]:
    """Name the time columns that a file does not have: what ended or changed is not seen there."""
    if path.suffix != ".csv":
        present = pl.scan_parquet(path).collect_schema().names()
        for column, kind in spec.optional.items():
            if kind == pl.Datetime("us") and column not in present:
                yield column


def _judge(frame: pl.DataFrame, path: Path, spec: RawTable) -> pl.DataFrame:
    """Cast one file to the declared types; tell why a row cannot be used (``_reason``)."""
    kinds = spec.kept
    texts = [column for column, kind in frame.schema.items() if kind == pl.String]
    # To trim all would cost more than to see that none begins as a blank one might.
    begins = frame.select(((pl.col(texts) < "!") | (pl.col(texts) > "~")).any())
    solid = {column for column in texts if not begins[column].item()}
    try:
        cast = frame.with_columns(
            _cast(pl.col(column), frame.schema[column], kind, solid=column in solid)
            for column, kind in kinds.items()
        )
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"{path}: a column is of a type that cannot be read ({str(error).splitlines()[0]}); "
            f"expected {', '.join(f'{name}: {kind}' for name, kind in kinds.items())}"
        ) from error
    lost = {
        column: _lost(frame[column], cast[column])
        for column, kind in kinds.items()
        if frame.schema[column] != kind
    }
    keyless = cast.select(pl.any_horizontal(pl.col(spec.key).is_null())).to_series()
    bad = reduce(or_, lost.values(), keyless).arg_true()
    # Most tables are whole: only of bad rows it is told what is wrong with which.
    told = pl.DataFrame({column: mask.gather(bad) for column, mask in lost.items()}).select(
        *(pl.when(column).then(pl.lit(f" {column}")).alias(column) for column in lost)
    )
    unreadable = (
        told.select(pl.concat_str(pl.lit("unreadable"), pl.all(), ignore_nulls=True))
        if lost
        else pl.DataFrame({"literal": ["unreadable"] * bad.len()})
    ).to_series()
    reason = unreadable.to_frame("reason").select(
        pl.when(pl.col("reason") == "unreadable").then(pl.lit("missing key")).otherwise("reason")
    )
    # A key is shown as it is understood; where it is not, as it is written.
    row_id = pl.DataFrame(
        [
            cast[key].gather(bad).cast(pl.String).fill_null(_text(frame[key].gather(bad)))
            for key in spec.key
        ]
    ).select(pl.concat_str(pl.all(), separator="|"))
    nothing = pl.repeat(None, cast.height, dtype=pl.String, eager=True)
    judged = cast.with_columns(
        _reason=nothing.clone().scatter(bad, reason.to_series()),
        _row_id=nothing.clone().scatter(bad, row_id.to_series()),
    )
    refused = judged["_reason"].count()
    if refused > MOST_UNREADABLE * judged.height and refused > FEW:
        raise UsageError(
            f"{path}: {refused} of {judged.height} rows cannot be read "
            f"({judged['_reason'].drop_nulls()[0]}); check how the column was written"
        )
    return judged


def _check(judged: pl.DataFrame, name: str, spec: RawTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a table into good rows and those that cannot be read, lack a key, or come twice."""
    bad = judged.filter(pl.col("_reason").is_not_null())
    good = judged.filter(pl.col("_reason").is_null()) if bad.height else judged
    if good.select(spec.key).n_unique() < good.height:
        # Sorted by every column, so that which row stays does not hang on the order of the file.
        good = good.with_row_index("_row").sort(*spec.key, *spec.kept, nulls_last=True)
        again = ~good.select(pl.struct(spec.key).is_first_distinct()).to_series()
        row_id = pl.concat_str([pl.col(key).cast(pl.String) for key in spec.key], separator="|")
        twice = good.filter(again).drop("_row")
        bad = pl.concat([bad, twice.with_columns(_reason=pl.lit("duplicate row"), _row_id=row_id)])
        good = good.filter(~again).sort("_row").drop("_row")
    rejects = bad.select(
        source=pl.lit(name), source_row_id=pl.col("_row_id").fill_null("(no key)"), reason="_reason"
    )
    return good.drop("_reason", "_row_id"), rejects


def _cast(
    column: pl.Expr, found: pl.DataType, wanted: pl.DataType, *, solid: bool = False
) -> pl.Expr:
    """Cast a column to the type wanted; ``solid`` is one that holds no blank name."""
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
    if wanted in {pl.String, pl.Categorical}:
        if found == pl.Binary:
            column = column.map_batches(_text, return_dtype=pl.String)
        if found in {pl.String, pl.Binary} and not solid:
            # An empty name is no name.
            column = pl.when(column.str.strip_chars() != "").then(column)
        elif found != wanted:
            column = column.cast(pl.String, strict=False)
    return column if found == wanted else column.cast(wanted, strict=False)


def _text(column: pl.Series) -> pl.Series:
    """Give a column as text; bytes that are no UTF-8 are none."""
    if column.dtype != pl.Binary:
        return column.cast(pl.String, strict=False)
    return pl.Series(
        column.name,
        [None if value is None else _utf8(value) for value in column],
        dtype=pl.String,
    )


def _utf8(octets: bytes) -> str | None:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None


def _lost(before: pl.Series, after: pl.Series) -> pl.Series:
    """Tell where a value was there and is none after the cast; a zero date is no value."""
    lost = before.is_not_null() & after.is_null()
    if before.dtype == pl.String:
        lost &= ~before.str.starts_with(ZERO_DATE).fill_null(value=False) & (before != "")
    if before.dtype == pl.Binary:
        lost &= before.bin.size() > 0
    if before.dtype.is_float() and after.dtype.is_integer():
        lost |= after.cast(before.dtype) != before  # half a number is none
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
        return history.manifest_as_of(manifest)
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
