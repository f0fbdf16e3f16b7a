"""What earlier snapshots and audit tables knew: versions of rows that the dump no longer holds.

A row that was there at one snapshot and not at the next was deleted for good in between; a row that
differs was changed in between. A change is dated by the audit table where there is one, else by the
row's ``updated_at`` where that falls between the two snapshots; all else by the middle between
them, and what it bounds is inferred.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.intervals import arithmetic
from chameleon_usage.models import cells
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.raw_inputs import WINDOWS, RawInputs
from chameleon_usage.models.raw_table import NAME, TIME, RawTable
from chameleon_usage.snapshots import audit

HISTORY, MANIFEST = "history", "manifest.json"
CHANGE_TYPE, FROM_FILE = "record_fate", "record_file"
ADDED, CHANGED, GONE, UNREAD = "added", "changed", "gone", "unread"
"""What became of a row between two snapshots; unread: the later dump lacks the table."""
FORM = "%Y-%m-%dT%H%M%SZ"
"""How an increment's folder is named after the moment of its snapshot."""


@dataclass(frozen=True)
class Increment:
    """What one snapshot superseded of the one before it.

    Attributes:
        path: its folder.
        since: the last moment at which the superseded rows were seen.
        as_of: the moment at which they no longer were.
        manifest: its ``manifest.json``.
    """

    path: Path
    since: datetime
    as_of: datetime
    manifest: dict[str, Any]


def increments(directory: Path) -> list[Increment]:
    """List the increments of a site's directory, the earliest first.

    Raises:
        UsageError: a manifest of an increment is damaged.
    """
    found = []
    for path in sorted((directory / HISTORY).glob("*/" + MANIFEST)):
        since, as_of = (manifest_as_of(path, name) for name in ("since", "as_of"))
        found.append(Increment(path.parent, since, as_of, json.loads(path.read_text())))
    return sorted(found, key=lambda step: step.as_of)


def manifest_as_of(manifest: Path, name: str = "as_of") -> datetime:
    """Read when a dump was made from its manifest: naive UTC, whole seconds.

    Raises:
        UsageError: there is no manifest, or it does not tell.
    """
    try:
        moment = datetime.fromisoformat(json.loads(manifest.read_text())[name])
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
        return moment.replace(microsecond=0, tzinfo=None)
    except (ValueError, KeyError, TypeError, OSError, OverflowError) as error:
        raise UsageError(
            f"{manifest}: no readable {name!r} ({error!r}); give it as an ISO time in UTC, "
            f'like {{"as_of": "2026-01-08T03:00:00"}}'
        ) from error


# --- how the tables read ------------------------------------------------------------------------

Load = Callable[[list[Path], str], pl.DataFrame]


def complete(
    directory: Path,
    inputs: RawInputs,
    load: Load,
    audits: Mapping[str, pl.DataFrame] | None = None,
) -> RawInputs:
    """Add to the tables of a dump what earlier snapshots and audit tables knew.

    Args:
        directory: the site's, with or without a ``history``.
        inputs: the current dump's tables.
        load: reads files of increments, all of one cell and of the same columns, for a table: its
            columns, ``record_fate`` and ``record_file``, without the rows ``added``.
        audits: input table to the rows of its audit table (``audit.as_read``).

    Returns:
        the tables, with each row that is gone added and ended, an allocation that was moved in
        place as one row for each host (the earlier ones as "<id>/<n>"), and values that the
        services took away filled in; with ``superseded``, ``windows`` and ``audited``. A table of
        which there is nothing but its audit table is made of that.
    """
    steps, audits = increments(directory), audits or {}
    moments = sorted({inputs.as_of, *(at for step in steps for at in (step.since, step.as_of))})
    tables, superseded, audited, windows = dict(inputs.tables), {}, {}, [inputs.windows]
    for name in [*inputs.tables, *(audits.keys() - inputs.tables.keys())]:
        if RAW_TABLES[name].remade:
            continue
        observed, not_kept = pl.DataFrame(), []
        if name in audits:
            observed = audit.observations(audits[name], name, moments)
            not_kept = audit.not_kept(audits[name], name)
            tables.setdefault(name, audit.latest(observed, name))
        current = tables[name]
        snapshots = _of_snapshots(steps, name, current, load)
        observed = pl.concat([snapshots, observed], how="diagonal")
        if observed.is_empty():
            continue
        earlier, stands = _versions(name, current, observed, not_kept)
        tables[name], seen = _read(name, current, earlier, stands)
        known = pl.coalesce("began", "audited").alias("known")
        superseded[name] = earlier.select(*current.columns, "until", known)
        if name in audits:
            audited[name] = stands.select(*RAW_TABLES[name].key, known).drop_nulls()
        windows.append(seen)
    rows = inputs.rows | {name: tables[name].height for name in superseded}
    return replace(
        inputs,
        tables=tables,
        superseded=superseded,
        windows=pl.concat(windows),
        rows=rows,
        absent=tuple(name for name in inputs.absent if name not in tables),
        audited=audited,
    )


def _of_snapshots(
    steps: list[Increment], name: str, current: pl.DataFrame, load: Load
) -> pl.DataFrame:
    """Give the rows of a table that later snapshots superseded.

    Returns:
        the table's columns, ``seen`` (the last snapshot with the row so) and ``unseen`` (the next).
    """
    table = RAW_TABLES[name]
    kept = [
        (number, step, file, str(step.path / f"{file}.parquet"))
        for number, step in enumerate(steps)
        for file in sorted(step.manifest["tables"])
        if cells.table_of(file) in (name, table.archive) and _superseded_rows(step, file)
    ]
    if not kept:
        return current.clear()
    alike: dict[tuple[str, str], list[Path]] = {}
    for _, _, file, path in kept:
        kind = file.partition(".")[0], str(pl.read_parquet_schema(path))
        alike.setdefault(kind, []).append(Path(path))
    rows = pl.concat(load(paths, name) for paths in alike.values())
    # Of a table that was not read, the next dump that has it again says what is gone.
    again = [
        next(
            (later.since for later in steps[number + 1 :] if file in later.manifest["tables"]),
            steps[-1].as_of,
        )
        for number, _, file, _ in kept
    ]
    moments = pl.DataFrame(
        {
            FROM_FILE: [path for *_, path in kept],
            "seen": [step.since for _, step, *_ in kept],
            "_next": [step.as_of for _, step, *_ in kept],
            "_again": again,
        },
        schema_overrides=dict.fromkeys(("seen", "_next", "_again"), TIME),
    )
    return (
        rows.join(moments, on=FROM_FILE, how="left")
        .with_columns(
            unseen=pl.when(pl.col(CHANGE_TYPE) == UNREAD).then("_again").otherwise("_next")
        )
        .drop(CHANGE_TYPE, FROM_FILE, "_next", "_again")
    )


_OF_AUDIT = {"began": TIME, "purged": pl.Boolean(), "order": pl.Int64()}
"""What audit tables tell of a state beside ``seen`` and ``unseen``; null of snapshots."""


def _versions(
    name: str, current: pl.DataFrame, observed: pl.DataFrame, not_kept: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Put the observed states of a table's rows in order.

    Args:
        name: the table.
        current: its rows now.
        observed: its columns, ``seen`` and ``unseen``, and what audit tables tell.
        not_kept: columns that the audit table does not have; their values are those observed
            before, else those after.

    Returns:
        (the earlier versions, what is now), sorted by key and time: the table's columns, ``seen``
        (the last moment with the row so), ``unseen`` (the first without), ``until`` (when it
        ended, by a witness's word or the middle of the two), ``dated`` (by a witness's word),
        ``began`` (since when, if an audit table dates it) and ``audited`` (the first audit row that
        shows it so).
    """
    table = RAW_TABLES[name]
    key, columns = list(table.key), current.columns
    lacking = {column: kind for column, kind in _OF_AUDIT.items() if column not in observed.columns}
    observed = observed.with_columns(pl.lit(None, kind).alias(c) for c, kind in lacking.items())
    states = (
        pl.concat([observed, current.join(observed, on=key, how="semi")], how="diagonal")
        .with_columns(pl.col("purged").fill_null(value=False))
        .sort(*key, "seen", "order", "purged", *columns, nulls_last=True)
    )
    states = _end_deleted(table, _fill_audited(states, key, not_kept))
    # What changed in a column that is not read is no change here.
    changed = pl.any_horizontal(
        pl.col(column).ne_missing(pl.col(column).shift(1)) for column in [*columns, "purged"]
    )
    first_audited = pl.when(pl.col("order").is_not_null()).then("seen")
    states = (
        states.with_columns(_run=changed.cum_sum())
        .with_columns(
            pl.col("began").first().over("_run"), audited=first_audited.first().over("_run")
        )
        .unique("_run", keep="last", maintain_order=True)
    )
    # Of several states within a second the last one counts.
    momentary = pl.col("began").shift(-1).over(key) <= pl.col("began")
    states = states.filter(~momentary.fill_null(value=False))
    unseen = pl.min_horizontal("unseen", pl.col("audited").shift(-1).over(key))

    def word(column: str | None) -> pl.Expr:
        """Give a time of the next state, if that is when this one became it."""
        at = pl.col(column).shift(-1).over(key) if column in columns else pl.lit(None, TIME)
        return pl.when((at > pl.col("seen")) & (at <= unseen)).then(at)

    # A row's own deletion comes first: no trigger need have watched it.
    exact = pl.coalesce(word(table.end), pl.col("began").shift(-1).over(key))
    dated = pl.coalesce(exact, word(None if table.heartbeat else "updated_at"))
    middle = pl.col("seen") + (unseen - pl.col("seen")) / 2
    states = states.with_columns(
        seen=pl.coalesce(exact, "seen"),
        unseen=pl.coalesce(exact, unseen),
        until=pl.coalesce(dated, middle.dt.truncate("1s")),
        dated=dated.is_not_null(),
        _now=pl.col("seen").is_null(),
    ).drop("_run", "order")
    if not (table.end or table.ending_status):  # a row that is gone still says what it said
        states = states.filter(~pl.col("purged"))
    parts = states.drop("purged").partition_by("_now", as_dict=True, include_key=False)
    none = states.clear().drop("purged", "_now")
    return parts.get((False,), none), parts.get((True,), none)


def _fill_audited(states: pl.DataFrame, key: list[str], not_kept: list[str]) -> pl.DataFrame:
    """Fill in what an audit table does not keep, and what only the row of an INSERT dates."""
    before = {c: pl.col(c).forward_fill().over(key) for c in [*not_kept, "created_at"]}
    after = {c: pl.col(c).backward_fill().over(key) for c in not_kept}
    by_audit = pl.col("order").is_not_null()
    states = states.with_columns(
        pl.when(by_audit).then(pl.coalesce(before[c], after.get(c))).otherwise(c).alias(c)
        for c in before
        if c in states.columns
    )
    if "deleted" not in not_kept:
        return states
    # That a row is marked as deleted now does not say that it was then.
    later = (pl.col("deleted").cast(pl.String) != "0") & pl.col("deleted_at").is_null()
    return states.with_columns(deleted=pl.when(~(by_audit & later)).then("deleted"))


def _end_deleted(table: RawTable, states: pl.DataFrame) -> pl.DataFrame:
    """Let a row that was deleted for good end at that moment, as one marked as deleted does."""
    ends: dict[str, pl.Expr] = {}
    if over := table.ending_status:
        kind = states.schema[over.column]
        ends = {over.column: pl.lit(over.values[0]).cast(kind), over.at: pl.col("began")}
    elif table.end:
        ends = {table.end: pl.col("began")} | _unmarked(states)
    return states.with_columns(
        pl.when(pl.col("purged")).then(value).otherwise(column).alias(column)
        for column, value in ends.items()
    )


def _unmarked(rows: pl.DataFrame) -> dict[str, pl.Expr]:
    """Of a row that was deleted for good, the mark that it is not deleted says nothing."""
    return {"deleted": pl.lit(None, rows.schema["deleted"])} if "deleted" in rows.columns else {}


def _superseded_rows(step: Increment, file: str) -> int:
    """Count the rows that an increment kept of a table."""
    counts = step.manifest["tables"][file]
    return int(counts.get("changed", 0)) + int(counts.get("gone", 0))


def _read(
    name: str, current: pl.DataFrame, earlier: pl.DataFrame, stands: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a table together with its earlier versions; ``stands``: since when it is as it is now.

    Returns:
        (the table, windows)
    """
    spec = RAW_TABLES[name]
    key, columns, end = list(spec.key), current.columns, spec.end
    last = earlier.unique(key, keep="last", maintain_order=True)
    gone = last.join(current, on=key, how="anti")
    if spec.slot:
        gone = gone.join(current, on=spec.slot, how="anti", nulls_equal=True)
    if spec.one_at_a_time:
        rows = pl.concat([current, gone.select(columns)])
        gone = _until_the_next(gone, rows, spec.one_at_a_time)
    windows = []
    if over := spec.ending_status:
        status = pl.col(over.column).cast(pl.String)
        is_over = status.is_in(over.values).fill_null(value=False)
        windows.append(_window(name, gone.filter(~is_over), "seen", "unseen", "inferred"))
        gone = gone.with_columns(
            pl.when(is_over).then(status).otherwise(pl.lit(over.values[0])).alias(over.column),
            pl.when(is_over).then(over.at).otherwise("until").alias(over.at),
        ).cast({over.column: current.schema[over.column]})
    elif end:
        windows.append(
            _window(name, gone.filter(pl.col(end).is_null()), "seen", "unseen", "inferred")
        )
        ended = {end: pl.col("until")} | _unmarked(gone)
        gone = gone.with_columns(
            pl.when(pl.col(end).is_null()).then(value).otherwise(column).alias(column)
            for column, value in ended.items()
        )
    rows = _fill(name, pl.concat([current, gone.select(columns)]), earlier)
    dates = stands.select(*key, "began", "audited")
    still = rows.join(dates, on=key, how="left", maintain_order="left")
    if spec.flag:
        # By hand the flag is changed without a date; the audit table has one.
        at = pl.coalesce("began", pl.min_horizontal("updated_at", "audited"), "updated_at")
        still = still.with_columns(
            updated_at=pl.when(pl.col(spec.flag) == 0).then(at).otherwise("updated_at")
        )
        rows = still.select(columns)
    versions = pl.concat([earlier, still.join(earlier, on=key, how="semi")], how="diagonal").sort(
        *key, "unseen", nulls_last=True
    )
    before = pl.col("until").shift(1).over(key)
    if spec.flag:
        since = pl.min_horizontal("updated_at", "audited")
        off = versions.with_columns(since=pl.coalesce(before, "began", since, "created_at")).filter(
            pl.col(spec.flag) == 0
        )
        windows.append(_window(name, off, "since", "until", "absent"))
    if end == "deleted_at":
        alive = pl.col(end).shift(-1).over(key).is_null()
        last_of_key = pl.int_range(pl.len()).over(key) == pl.len().over(key) - 1
        back = versions.filter(pl.col(end).is_not_null() & alive & ~last_of_key)
        windows.append(_window(name, back, end, "until", "absent"))
    if spec.held_host:
        rows, moved = _moved(name, spec.held_host, rows, versions)
        windows.append(moved)
    return rows, pl.concat([pl.DataFrame(schema=WINDOWS), *windows])


def _until_the_next(gone: pl.DataFrame, rows: pl.DataFrame, label: str) -> pl.DataFrame:
    """End a row that is gone where the next of its name begins, if that was made meanwhile."""
    made = rows.select(label, made="created_at").drop_nulls()
    heirs = (
        gone.select("id", "seen", "unseen", label)
        .join(made, on=label)
        .filter((pl.col("seen") < pl.col("made")) & (pl.col("made") <= pl.col("unseen")))
        .group_by("id")
        .agg(pl.col("made").min())
    )
    return gone.join(heirs, on="id", how="left", maintain_order="left").with_columns(
        until=pl.coalesce("made", "until")
    )


def _fill(name: str, rows: pl.DataFrame, earlier: pl.DataFrame) -> pl.DataFrame:
    """Fill in what the services took away or wrote over."""
    spec = RAW_TABLES[name]
    last = [*spec.taken_away, *({"created_at"} & set(rows.columns))]
    first, key = spec.written_over, list(spec.key)
    values = earlier.group_by(key).agg(
        *(pl.col(column).drop_nulls().last().alias(f"_{column}") for column in last),
        *(pl.col(column).drop_nulls().first().alias(f"_{column}") for column in first),
    )
    return (
        rows.join(values, on=key, how="left", maintain_order="left")
        .with_columns(
            *(pl.coalesce(column, f"_{column}").alias(column) for column in last),
            *(pl.coalesce(f"_{column}", column).alias(column) for column in first),
        )
        .select(rows.columns)
    )


def _moved(
    name: str, holder: str, rows: pl.DataFrame, versions: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give a row that was moved in place a row for each holder that it had.

    Returns:
        (the table, windows)
    """
    turn = pl.col(holder).ne_missing(pl.col(holder).shift(1).over("id"))
    first = pl.int_range(pl.len()).over("id") == 0
    stints = (
        versions.with_columns(_stint=(turn & ~first).cum_sum().over("id"))
        .unique(["id", "_stint"], keep="last", maintain_order=True)
        .with_columns(
            since=pl.col("until").shift(1).over("id"),
            _open=pl.col("unseen").shift(1).over("id"),
            _dated=pl.col("dated").shift(1).over("id"),
            _last=pl.col("_stint") == pl.col("_stint").max().over("id"),
        )
        .filter(pl.col("_stint").max().over("id") > 0)
        .with_columns(created_at=pl.max_horizontal("created_at", "since"))
    )
    before = stints.filter(~pl.col("_last")).with_columns(
        pl.concat_str(pl.col("id").cast(pl.String), pl.lit("/"), pl.col("_stint") + 1)
        .cast(rows.schema["id"])
        .alias("id"),
        deleted_at=pl.min_horizontal("deleted_at", "until"),
    )
    after = stints.filter("_last")
    windows = [
        _window(name, before.filter(~pl.col("dated")), "seen", "until", "inferred"),
        _window(name, after.filter(~pl.col("_dated")), "since", "_open", "inferred"),
    ]
    still = rows.join(after, on="id", how="anti")
    return (
        pl.concat([still, after.select(rows.columns), before.select(rows.columns)]),
        pl.concat(windows),
    )


def _window(name: str, rows: pl.DataFrame, start: str, end: str, state: str) -> pl.DataFrame:
    """Say of the entities of some rows that their presence is ``inferred`` or ``absent`` then."""
    key = RAW_TABLES[name].key[0]
    return pl.concat(
        rows.select(
            source=pl.lit(source),
            entity_id=pl.col(key).cast(pl.String),
            start=start,
            end=pl.col(end).fill_null(arithmetic.MAX_TIME),
            state=pl.lit(state),
        )
        for source in (name, *(other for other, of in RAW_TABLES.items() if of.rows_of == name))
    ).filter(pl.col("start") < pl.col("end"))


# --- what becomes of the intervals --------------------------------------------------------------


def apply_windows(intervals: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Hold intervals to the windows in which earlier snapshots know more than the rows.

    Args:
        intervals: Intervals, of all adapters.
        windows: ``RawInputs.windows``.

    Returns:
        the same, entities taken out where they were ``absent``; what of their presence is
        ``inferred`` is an entity of its own, "<id>/inferred".
    """
    if windows.is_empty():
        return intervals
    key = ["source", "entity_id"]
    windows = windows.cast({name: intervals.schema[name] for name in key}, strict=False)
    touched = intervals.join(windows, on=key, how="semi")
    if touched.is_empty():
        return intervals
    absent, inferred = (
        arithmetic.union(windows.filter(pl.col("state") == state), key)
        for state in ("absent", "inferred")
    )
    closed = touched.with_columns(pl.col("end").fill_null(arithmetic.MAX_TIME))
    _, present = arithmetic.intersect(closed, absent, key)
    guessed, certain = arithmetic.intersect(present, inferred, key)
    name = pl.concat_str(pl.col("entity_id").cast(pl.String), pl.lit("/inferred"))
    pieces = pl.concat(
        [
            certain,
            guessed.with_columns(entity_id=name.cast(NAME), inferred=pl.lit(value=True)),
        ]
    ).with_columns(end=pl.when(pl.col("end") < arithmetic.MAX_TIME).then("end"))
    return pl.concat([intervals.join(windows, on=key, how="anti"), pieces])
