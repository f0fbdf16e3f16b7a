"""Raw tables of a site from its files: input validation, and what of them is refused."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
from tqdm import tqdm

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.as_of import as_of
from chameleon_usage.intervals.arithmetic import REPORT, ConservationError
from chameleon_usage.models import cells
from chameleon_usage.models.raw import AUDIT_TABLES, FLAGS, RAW_TABLES
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME, RawTable
from chameleon_usage.models.raw_values import as_flag, as_kind, blanks_as_null, whole_seconds
from chameleon_usage.models.vocabulary import INPUT_VALIDATION, UNREADABLE, Reason
from chameleon_usage.snapshots import audit, history

MOST_UNREADABLE, FEW = 0.5, 10
"""A file of which more rows than this cannot be read is refused whole, unless they are few."""
CHANGES = (
    *("created_at", "updated_at", "deleted_at", "launched_at", "terminated_at"),
    *("started_at", "start_time", "finish_time"),
)
"""Times in a row at which it was changed: of two states of a row, the later one stands."""
AT_ONCE = 2
"""Files read at a time: much of what is done with one of them keeps a single core busy."""


@dataclass(frozen=True)
class _Admitted:
    """A table after input validation: its good rows, how many are let go, and the rejects."""

    name: str
    rows: pl.DataFrame
    let_go: int
    rejects: pl.DataFrame
    found: int
    unread: list[str]
    paths: list[Path]


NO_DIRECTORY = (
    "no data directory {}: extract the site's tables with 'chameleon-usage extract' (the paper's "
    "simulated ones with 'make data'), or name the directory that holds the site's Parquet files "
    "with --data-dir"
)
REJECTED = {"source": pl.String(), "source_row_id": pl.String(), "reason": pl.String()}


def load_raw_inputs(
    directory: Path,
    names: Iterable[str],
    *,
    files: Mapping[str, str] | None = None,
    cell_numbers: Mapping[str, int] | None = None,
    part: bool = False,
    progress: bool = False,
) -> RawInputs:
    """Read the named raw tables of one site and validate them.

    Args:
        directory: holds ``<schema>.<table>.parquet`` files, and a ``manifest.json`` if the
            extractor wrote one (its ``as_of`` closes what is still open).
        names: tables to read, of ``RAW_TABLES``; an archive table is added to its live one.
        files: table name to a path or glob below ``directory``, for layouts of other makers
            (Parquet or CSV); files named ``nova_<cell>.<table>`` are those of a cell.
        cell_numbers: of Nova's cells (``cells.numbers``), where the directory has not the files of
            all of them.
        part: these are some rows of each table: whether too many are unreadable is not judged.
        progress: show a bar on a terminal.

    Returns:
        The tables; a table without a file is listed as absent, and so is a file's time column
        that only a later release has (``<table>.<column>``).

    Raises:
        UsageError: the directory or all tables are missing, a file cannot be read, or lacks a
            required column.
    """
    if not directory.is_dir():
        raise UsageError(NO_DIRECTORY.format(directory))
    files, wanted = files or {}, sorted(set(names))
    places = {name: paths_of(directory, name, files) for name in wanted}
    archives = {
        name: paths_of(directory, archive, files)
        for name in wanted
        if (archive := RAW_TABLES[name].archive)
    }
    # To read a file takes most memory for a moment: the largest first, with nothing beside it.
    sizes = {name: sum(path.stat().st_size for path in paths) for name, paths in places.items()}
    by_size = sorted(wanted, key=lambda name: -sizes[name])
    numbers = cell_numbers or cells.numbers(
        [
            *(path for of in (places, archives) for paths in of.values() for path in paths),
            *directory.glob(f"{history.HISTORY}/*/nova*.parquet"),
        ]
    )
    audits = {
        name: table
        for name in wanted
        if (table := _admit_audit(name, directory, files)) is not None
    }
    # Every row is needed to tell what became of it, and, without a manifest, when they were read.
    dated = (directory / history.MANIFEST).exists()
    single = dated and not (directory / history.HISTORY).is_dir()

    def admit(name: str) -> _Admitted | None:
        whole = name in audits or not single
        paths = [*places[name], *archives.get(name, [])]
        return _admit(name, paths, places[name], numbers, whole=whole, part=part)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        shown = tqdm(
            pool.map(admit, by_size),
            desc="read",
            total=len(by_size),
            unit="table",
            leave=False,
            disable=not progress,
        )
        read = dict(zip(by_size, shown, strict=True))
    admitted = [read[name] for name in wanted]
    tables = {table.name: table.rows for table in admitted if table}
    if wanted and not tables and not audits:
        raise UsageError(
            f"{directory} holds none of the tables {', '.join(wanted)}: "
            "expected files named <schema>.<table>.parquet"
        )
    if cells.ACTIONS in tables and cells.EVENTS in tables:
        tables[cells.EVENTS] = cells.rejoined(tables[cells.ACTIONS], tables[cells.EVENTS])
    inputs = RawInputs(
        tables,
        rejects=pl.concat(
            [
                pl.DataFrame(schema=REJECTED),
                *(table.rejects for table in [*admitted, *audits.values()] if table),
            ]
        ),
        rows={table.name: table.found for table in admitted if table},
        absent=tuple(
            column
            for name, table in zip(wanted, admitted, strict=True)
            for column in (table.unread if table else [name])
        ),
        as_of=as_of(
            directory / "manifest.json",
            ((table.name, table.rows, table.paths) for table in admitted if table),
        ),
    )
    _check_rows(tables, [table for table in [*admitted, *audits.values()] if table])
    audited = {name: _with_earlier(table, name, directory) for name, table in audits.items()}
    return history.complete(directory, inputs, partial(_superseded, numbers=numbers), audited)


def _check_rows(tables: Mapping[str, pl.DataFrame], admitted: Iterable[_Admitted]) -> None:
    """Assert that every row found in a file was let in, let go or refused.

    Raises:
        ConservationError: names the table and the difference.
    """
    for table in admitted:
        kept = tables.get(table.name, table.rows).height
        accounted = kept + table.let_go + table.rejects.height
        if table.found != accounted:
            raise ConservationError(
                f"stage {INPUT_VALIDATION}, table {table.name}: {table.found} rows in, {accounted} "
                f"kept or rejected ({accounted - table.found:+d}); {REPORT}"
            )


def _admit(
    name: str,
    paths: list[Path],
    live: list[Path],
    numbers: Mapping[str, int],
    *,
    whole: bool,
    part: bool,
) -> _Admitted | None:
    """Read the files of a table, some of them ``live``, and check them; nothing if there is none.

    What no adapter reads (``RawTable.used`` and ``reduced``) is let go then, unless it is to stay
    whole.
    """
    spec = RAW_TABLES[name]
    judged = []
    for path in paths:
        rows, bad = _judge(_read(path, name), path, name)
        if not part:
            check_readable(path, rows.height + bad.height, bad)
        judged.append((cells.raised(rows, name, path, numbers) if spec.counted else rows, bad))
    if not judged:
        return None
    read = sum(rows.height + rejects.height for rows, rejects in judged)
    together = pl.concat(rows for rows, _ in judged)
    if whole or spec.used is None:
        together = _named(together, spec)  # so keys are compared by number
    good, twice = _without_duplicates(
        cells.parted(together, name) if spec.counted else together, name
    )
    bad = pl.concat([*(rejects for _, rejects in judged), twice])
    unread = sorted({f"{name}.{column}" for path in live for column in _unread(path, spec)})
    rows = _named(good if whole else _reduced(good, spec), spec)
    let_go = good.height - rows.height
    # Rows that count up are mostly stored so: what is known to be in order is joined unhashed.
    for column in spec.counted:
        if not rows[column].null_count() and rows[column].is_sorted():
            rows = rows.set_sorted(column)
    return _Admitted(name, rows, let_go, bad, read, unread, paths)


def _reduced(good: pl.DataFrame, spec: RawTable) -> pl.DataFrame:
    """Let go of rows that no adapter reads, and of what none reads of the others."""
    rows = good if spec.used is None else good.filter(spec.used)
    if not spec.reduced:
        return rows
    dropped = [column for column, part in spec.reduced.items() if part is None]
    parts = {column: part for column, part in spec.reduced.items() if part is not None}
    return rows.drop(dropped).with_columns(**parts)


def _named(rows: pl.DataFrame, spec: RawTable) -> pl.DataFrame:
    """Make names of the texts that are declared as such: each distinct one is stored once."""
    return rows.with_columns(
        pl.col(column).cast(kind)
        for column, kind in spec.kept.items()
        if kind == NAME and column in rows.columns
    )


def _admit_audit(name: str, directory: Path, files: Mapping[str, str]) -> _Admitted | None:
    """Read the audit table of a table and check its rows; nothing if it has no file."""
    own = AUDIT_TABLES.get(name)
    if own is None or not (paths := paths_of(directory, own, files)):
        return None
    found = [_read(path, own, spec=audit.as_stored(name)) for path in paths]
    judged = [_judge_audit(*pair, name) for pair in zip(found, paths, strict=True)]
    together = pl.concat(rows for rows, _ in judged)
    good, twice = _without_duplicates(together, own, audit.as_read(name))
    bad = pl.concat([*(rejects for _, rejects in judged), twice])
    rows = _named(good, audit.as_read(name))
    return _Admitted(own, rows, 0, bad, sum(rows.height for rows in found), [], paths)


def _with_earlier(audited: _Admitted, name: str, directory: Path) -> pl.DataFrame:
    """Add to the rows of an audit table those that only earlier dumps of it have."""
    parts = [audited.rows]
    for path in sorted((directory / history.HISTORY).glob(f"*/{audited.name}.parquet")):
        kept = pl.scan_parquet(path).filter(pl.col(history.CHANGE_TYPE) != history.ADDED)
        rows = _read(path, audited.name, kept, audit.as_stored(name))
        parts.append(_named(_judge_audit(rows, path, name)[0], audit.as_read(name)))
    one = [*("audit_id", "audit_event_type", "audit_changed_at"), *RAW_TABLES[name].key]
    return pl.concat(parts).unique(one, keep="first", maintain_order=True)


def _judge_audit(frame: pl.DataFrame, path: Path, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cast the rows of an audit table, and of the rows that they show: (good rows, rejects)."""
    own = AUDIT_TABLES[name]
    rows, bad = _judge(audit.opened(frame, name), path, own, audit.as_read(name))
    check_readable(path, frame.height, bad)
    reason = rows.select(audit.refusal(name)).to_series()
    unusable = reason.is_not_null()
    more = _rejects(own, rows.filter(unusable).select("audit_id"), reason.filter(unusable))
    return rows.filter(~unusable), pl.concat([bad, more])


def _superseded(paths: list[Path], name: str, numbers: Mapping[str, int]) -> pl.DataFrame:
    """Read the rows that increments kept of a table, all in one cell; none that cannot be read."""
    scan = pl.scan_parquet(paths, include_file_paths=history.FROM_FILE)
    changes = scan.select(history.CHANGE_TYPE, history.FROM_FILE).collect()
    good, bad = _judge(_read(paths[0], name, scan).hstack(changes), paths[0], name)
    check_readable(paths[0], changes.height, bad)
    good = _named(good, RAW_TABLES[name])
    if RAW_TABLES[name].counted:
        good = cells.raised(good, name, paths[0], numbers)
    return good.filter(pl.col(history.CHANGE_TYPE) != history.ADDED).unique(
        [*RAW_TABLES[name].key, history.FROM_FILE], keep="first", maintain_order=True
    )


def paths_of(directory: Path, name: str, files: Mapping[str, str] | None = None) -> list[Path]:
    """List the files of a table, those of other cells included, in order.

    Args:
        directory: where they are.
        name: the table.
        files: table name to a path or glob below the directory, for layouts of other makers.
    """
    files = files or {}
    found = sorted(directory.glob(files.get(name, cells.pattern(name))))
    return found if name in files else [path for path in found if _is_of(path, name)]


def _is_of(path: Path, name: str) -> bool:
    return path.name == f"{name}.parquet" or cells.is_of_cell(path)


def _read(
    path: Path, name: str, scan: pl.LazyFrame | None = None, spec: RawTable | None = None
) -> pl.DataFrame:
    """Read the columns of one file (or ``scan``); JSON documents are reduced while reading."""
    spec = spec or RAW_TABLES[name]
    with reading(path, name):
        if scan is None and path.suffix == ".csv":
            lines = pl.scan_csv(path, infer_schema=False)
            scan = lines.filter(~pl.all_horizontal(pl.all().is_null()))  # an empty line is no row
        elif scan is None:
            scan = pl.scan_parquet(path)
        kinds = scan.collect_schema()
        present = kinds.names()
        check_columns(path, name, present, spec)
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
            as_kind(pl.col(column), kinds[column], spec.columns[column])
            for column in spec.columns
            if column not in spec.validated and column in present
        ]
        rows = scan.select(stored).with_columns(documents).with_columns(**spec.derived)
        return rows.select(list(spec.validated)).collect()


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Name the file and its table where what is done here fails to read it.

    Raises:
        UsageError: it does.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(
            f"{path}: table {name} cannot be read ({str(error).splitlines()[0]}); "
            "the file is damaged or not of its kind: extract it again"
        ) from error


def check_columns(
    path: Path, name: str, present: Sequence[str], spec: RawTable | None = None
) -> None:
    """Refuse a file of a table that lacks a required column.

    Args:
        path: the file.
        name: the table.
        present: the columns that it has.
        spec: what is required, where it is not the table's own declaration.

    Raises:
        UsageError: it does.
    """
    required = (spec or RAW_TABLES[name]).required
    if missing := [column for column in required if column not in present]:
        raise UsageError(
            f"{path}: table {name} lacks the column {', '.join(missing)}; "
            "extract the table again with that column"
        )


def _unread(path: Path, spec: RawTable) -> Iterator[str]:
    """Name the time columns that a file does not have: what ended or changed is not seen there."""
    if path.suffix != ".csv":
        present = pl.scan_parquet(path).collect_schema().names()
        for column, kind in spec.optional.items():
            if kind == pl.Datetime("us") and column not in present:
                yield column


def _judge(
    frame: pl.DataFrame, path: Path, name: str, spec: RawTable | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cast the rows of one file to the declared types, names still as text: (good rows, rejects).

    dataframely's ``filter(cast=True)`` takes as long as all this, and cannot take its place: Polars
    casts no text to times, and refuses a whole table for one value that is no UTF-8.
    """
    spec = spec or RAW_TABLES[name]
    given = frame.with_columns(blanks_as_null(frame, spec.validated))
    names = [column for column, kind in spec.validated.items() if kind == NAME]
    kinds = spec.validated | dict.fromkeys(names, pl.String())
    try:
        whole = whole_seconds(given, kinds)
        cast = given.with_columns(
            as_flag(pl.col(column), frame.schema[column])
            if column in FLAGS
            else as_kind(pl.col(column), frame.schema[column], kind)
            for column, kind in kinds.items()
            if column not in whole
        )
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"{path}: a column is of a type that cannot be read ({str(error).splitlines()[0]}); "
            f"expected {', '.join(f'{column}: {kind}' for column, kind in spec.validated.items())}"
        ) from error
    # Most tables are whole, and how many nulls a column has is known without looking.
    lossy = [column for column in kinds if given[column].null_count() < cast[column].null_count()]
    if not lossy and not any(cast[key].null_count() for key in spec.key):
        return cast, pl.DataFrame(schema=REJECTED)
    lost = {column: given[column].is_not_null() & cast[column].is_null() for column in lossy}
    reason = cast.select(
        pl.coalesce(
            *(pl.when(mask).then(pl.lit(UNREADABLE.format(key))) for key, mask in lost.items()),
            pl.when(pl.any_horizontal(pl.col(spec.key).is_null())).then(pl.lit(Reason.MISSING_KEY)),
        )
    ).to_series()
    bad = reason.is_not_null()
    # A key is shown as it is understood; where it is not, as it is written.
    written = frame.filter(bad).select(
        as_kind(pl.col(key), frame.schema[key], pl.String()) for key in spec.key
    )
    understood = cast.filter(bad).select(pl.col(spec.key).cast(pl.String))
    keys = pl.DataFrame([understood[key].fill_null(written[key]) for key in spec.key])
    return cast.filter(~bad), _rejects(name, keys, reason.filter(bad))


def check_readable(path: Path, rows: int, unreadable: pl.DataFrame) -> None:
    """Refuse a file of which most rows cannot be read.

    Args:
        path: the file.
        rows: how many it has.
        unreadable: those that cannot be, with the ``reason`` of each.

    Raises:
        UsageError: they are too many.
    """
    if unreadable.height > max(MOST_UNREADABLE * rows, FEW):
        raise UsageError(
            f"{path}: {unreadable.height} of {rows} rows cannot be read "
            f"({unreadable['reason'][0]}); check how the column was written"
        )


def _without_duplicates(
    good: pl.DataFrame, name: str, spec: RawTable | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Keep one row of each key, as it was changed last: (these, rejects)."""
    spec = spec or RAW_TABLES[name]
    if _all_differ(good.select(spec.key)):
        return good, pl.DataFrame(schema=REJECTED)
    # Then by every column, so that which row stays does not depend on the order of the file.
    changed = pl.max_horizontal(
        pl.lit(None, pl.Datetime("us")), *(name for name in CHANGES if name in spec.kept)
    )
    # Of two changed in one second, the one that tells more of what happened, as its end.
    told = pl.sum_horizontal(
        pl.lit(0), *(pl.col(name).is_not_null() for name in CHANGES if name in spec.kept)
    )
    good = (
        good.with_row_index("_row")
        .with_columns(_changed=changed, _told=told)
        .sort(
            *(*spec.key, "_changed", "_told", *spec.kept),
            descending=[*(False for _ in spec.key), True, True, *(False for _ in spec.kept)],
            nulls_last=True,
        )
        .drop("_changed", "_told")
    )
    first = good.select(pl.struct(spec.key).is_first_distinct()).to_series()
    again = good.filter(~first).select(spec.key)
    return good.filter(first).sort("_row").drop("_row"), _rejects(name, again, Reason.DUPLICATE_ROW)


def _all_differ(keys: pl.DataFrame) -> bool:
    """Tell whether no key comes twice."""
    # What differs in a hash differs: to compare the texts themselves takes seven times as long.
    if pl.String in keys.dtypes:
        one = pl.all() if keys.width == 1 else pl.struct(pl.all())
        if keys.select(one.hash()).n_unique() == keys.height:
            return True
    return keys.n_unique() == keys.height


def _rejects(name: str, keys: pl.DataFrame, reason: pl.Series | str) -> pl.DataFrame:
    row_id = pl.concat_str(pl.all().cast(pl.String), separator="|").fill_null("(no key)")
    return keys.select(source=pl.lit(name), source_row_id=row_id, reason=pl.lit(reason))
