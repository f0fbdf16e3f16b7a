"""What earlier snapshots knew: the versions of rows that the current dump no longer holds.

A row that was there at one snapshot and not at the next was deleted for good in between; a row that
differs was changed in between. A change is dated by the row's ``updated_at`` where that falls
between the two snapshots; all else by the middle between them, and what it bounds is inferred.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.base import facts
from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.raw import RAW_TABLES, WINDOWS, RawInputs
from chameleon_usage.models.stages import Ingested
from chameleon_usage.models.vocabulary import PRESENT

HISTORY, MANIFEST = "history", "manifest.json"
FATE, FILE = "record_fate", "record_file"
ADDED, CHANGED, GONE, UNREAD = "added", "changed", "gone", "unread"
"""Fates of a row between two snapshots; unread: the later dump lacks the table."""
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

_DELETED = "deleted_at"
ENDS = {
    "nova.compute_nodes": _DELETED,
    "nova.services": _DELETED,
    "nova.instances": _DELETED,
    "blazar.leases": _DELETED,
    "blazar.computehosts": _DELETED,
    "blazar.computehost_allocations": _DELETED,
    "blazar.devices": _DELETED,
    "blazar.device_allocations": _DELETED,
    "doni.hardware": _DELETED,
    "chameleon_usage.node_maintenance": "end_time",
}
"""The column that ends a row. Of the other tables, a row that is gone tells what it told."""

HOLDERS = {
    "blazar.computehost_allocations": "compute_host_id",
    "blazar.device_allocations": "device_id",
}
"""What a row may be moved to in place; the row held the earlier one until then."""

FLAGS = {"blazar.computehosts": "reservable", "blazar.devices": "reservable"}
"""A flag without which the row does not count, for as long as it is told so."""

NAMES = {
    "nova.compute_nodes": "hypervisor_hostname",
    "blazar.computehosts": "hypervisor_hostname",
    "blazar.devices": "name",
}
"""What has one row at a time: a row that is gone ended before the next of that name was made."""

LAST_TOLD = {
    "nova.instances": ("node", "host"),
    "nova_api.request_specs": ("hint", "flavor"),
    "zun.container": ("host", "reservation_id"),
}
"""What a service takes away from a row and the record still knows; created_at everywhere, too."""

FIRST_TOLD = {"nova.instances": ("launched_at",)}
"""What a service writes over; the first word is the one that is meant."""

_CAPABILITY = ("property_id", "capability_id", "capability_name")
SLOTS = {
    "blazar.computehost_extra_capabilities": ("computehost_id", *_CAPABILITY),
    "blazar.device_extra_capabilities": ("device_id", *_CAPABILITY),
}
"""A row that is gone and whose slot another has taken was changed, not taken away."""

REMADE = ("inventory.", "trace.", "published.")
"""Files that are made anew from a history of their own: the latest says all."""

SAME_ENTITIES = {"nova.instances": ("nova.instances", "nova.instance_actions")}
"""The sources whose entities are the rows of a table, where it is not the table alone."""

Load = Callable[[list[Path], str], pl.DataFrame]


def complete(directory: Path, inputs: RawInputs, load: Load) -> RawInputs:
    """Add to the tables of a dump what earlier snapshots knew.

    Args:
        directory: the site's, with or without a ``history``.
        inputs: the current dump's tables.
        load: reads files of increments, all of the same columns, for a table: its columns,
            ``record_fate`` and ``record_file``, without the rows ``added``.

    Returns:
        the tables, with each row that is gone added and ended, an allocation that was moved in
        place as one row for each host (the earlier ones as "<id>/<n>"), and values that the
        services took away filled in; with ``superseded`` and ``windows``.
    """
    steps = increments(directory)
    if not steps:
        return inputs
    tables, superseded, windows = dict(inputs.tables), {}, [inputs.windows]
    for name, current in inputs.tables.items():
        if name.startswith(REMADE):
            continue
        earlier = _versions(steps, name, current, load)
        if earlier.is_empty():
            continue
        tables[name], told = _read(name, current, earlier)
        superseded[name] = earlier.select(*current.columns, "until")
        windows.append(told)
    rows = inputs.rows | {name: tables[name].height for name in superseded}
    return replace(
        inputs, tables=tables, superseded=superseded, windows=pl.concat(windows), rows=rows
    )


def _versions(steps: list[Increment], name: str, current: pl.DataFrame, load: Load) -> pl.DataFrame:
    """Give the earlier versions of a table's rows, sorted by key and time.

    Returns:
        the table's columns, ``record_fate``, ``seen`` (the last snapshot with the row so),
        ``unseen`` (the next), ``until`` (when it ended, by the row's word or the middle of the two)
        and ``dated`` (by the row's word).
    """
    table = RAW_TABLES[name]
    key = list(table.key)
    kept = [
        (number, step, file, str(step.path / f"{file}.parquet"))
        for number, step in enumerate(steps)
        for file in (name, table.archive)
        if _superseded_rows(step, file)
    ]
    if not kept:
        return current.clear()
    alike: dict[str, list[Path]] = {}
    for *_, path in kept:
        alike.setdefault(str(pl.read_parquet_schema(path)), []).append(Path(path))
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
            FILE: [path for *_, path in kept],
            "seen": [step.since for _, step, *_ in kept],
            "_next": [step.as_of for _, step, *_ in kept],
            "_again": again,
        },
        schema_overrides=dict.fromkeys(("seen", "_next", "_again"), pl.Datetime("us")),
    )
    earlier = (
        rows.join(moments, on=FILE, how="left")
        .with_columns(unseen=pl.when(pl.col(FATE) == UNREAD).then("_again").otherwise("_next"))
        .drop(FILE, "_next", "_again")
    )
    middle = pl.col("seen") + (pl.col("unseen") - pl.col("seen")) / 2
    updated = (
        pl.col("updated_at") if "updated_at" in current.columns else pl.lit(None, pl.Datetime("us"))
    )
    word = updated.shift(-1).over(key)
    word = pl.when((word > pl.col("seen")) & (word <= pl.col("unseen"))).then(word)
    # What changed in a column that is not read is no change here.
    same = pl.all_horizontal(
        pl.col(column).eq_missing(pl.col(column).shift(-1)) for column in current.columns
    )
    return (
        pl.concat([earlier, current.join(earlier, on=key, how="semi")], how="diagonal")
        .sort(*key, "unseen", *current.columns, nulls_last=True)
        .filter(~same)
        .with_columns(until=pl.coalesce(word, middle.dt.truncate("1s")), dated=word.is_not_null())
        .filter(pl.col("unseen").is_not_null())
    )


def _superseded_rows(step: Increment, file: str | None) -> int:
    """Count the rows that an increment kept of a table."""
    told = step.manifest["tables"].get(file, {})
    return int(told.get("changed", 0)) + int(told.get("gone", 0))


def _read(
    name: str, current: pl.DataFrame, earlier: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a table together with its earlier versions.

    Returns:
        (the table, windows)
    """
    key = list(RAW_TABLES[name].key)
    columns, end = current.columns, ENDS.get(name)
    last = earlier.unique(key, keep="last", maintain_order=True)
    gone = last.join(current, on=key, how="anti")
    if slot := SLOTS.get(name):
        gone = gone.join(current, on=slot, how="anti", nulls_equal=True)
    if label := NAMES.get(name):
        gone = _until_the_next(gone, pl.concat([current, gone.select(columns)]), label)
    windows = []
    if name == "zun.container":
        status = pl.col("status").cast(pl.String)
        over = status.is_in(["Deleted", "Deleting", "Error"]).fill_null(value=False)
        windows.append(_window(name, gone.filter(~over), "seen", "unseen", "inferred"))
        gone = gone.with_columns(
            status=pl.when(over)
            .then(status)
            .otherwise(pl.lit("Deleted"))
            .cast(current.schema["status"]),
            updated_at=pl.when(over).then("updated_at").otherwise("until"),
        )
    elif end:
        windows.append(
            _window(name, gone.filter(pl.col(end).is_null()), "seen", "unseen", "inferred")
        )
        gone = gone.with_columns(pl.coalesce(end, "until").alias(end))
    rows = _fill(name, pl.concat([current, gone.select(columns)]), earlier)
    versions = pl.concat([earlier, rows.join(earlier, on=key, how="semi")], how="diagonal").sort(
        *key, "unseen", nulls_last=True
    )
    before = pl.col("until").shift(1).over(key)
    if flag := FLAGS.get(name):
        off = versions.with_columns(since=pl.coalesce(before, "updated_at", "created_at")).filter(
            pl.col(flag) == 0
        )
        windows.append(_window(name, off, "since", "until", "absent"))
    if end == _DELETED and _DELETED in columns:
        alive = pl.col(_DELETED).shift(-1).over(key).is_null()
        last_of_key = pl.int_range(pl.len()).over(key) == pl.len().over(key) - 1
        back = versions.filter(pl.col(_DELETED).is_not_null() & alive & ~last_of_key)
        windows.append(_window(name, back, _DELETED, "until", "absent"))
    if holder := HOLDERS.get(name):
        rows, moved = _moved(name, holder, rows, versions)
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
    last = [*LAST_TOLD.get(name, ()), *({"created_at"} & set(rows.columns))]
    first = FIRST_TOLD.get(name, ())
    key = list(RAW_TABLES[name].key)
    told = earlier.group_by(key).agg(
        *(pl.col(column).drop_nulls().last().alias(f"_{column}") for column in last),
        *(pl.col(column).drop_nulls().first().alias(f"_{column}") for column in first),
    )
    return (
        rows.join(told, on=key, how="left", maintain_order="left")
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
        pl.min_horizontal(_DELETED, "until").alias(_DELETED),
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
        for source in SAME_ENTITIES.get(name, (name,))
    ).filter(pl.col("start") < pl.col("end"))


# --- what becomes of the facts ------------------------------------------------------------------


def observe(found: Ingested, windows: pl.DataFrame) -> Ingested:
    """Hold facts to the windows in which the record knows more than the rows.

    Args:
        found: what the adapters say.
        windows: ``RawInputs.windows``.

    Returns:
        the same, entities taken out where they were ``absent``; what of their presence is
        ``inferred`` is an entity of its own, "<id>/inferred".
    """
    key = ["source", "entity_id"]
    on = ["source", "quantity_type", "entity_id"]
    touched = windows.select(key).unique().cast(_kinds(found.facts, key), strict=False)
    told = found.facts.join(touched, on=key, how="semi")
    if told.is_empty():
        return found
    spans = (
        told.cast(dict.fromkeys(on, pl.String()))
        .sort(*on, "timestamp")
        .with_columns(end=pl.col("timestamp").shift(-1).over(on).fill_null(arithmetic.MAX_TIME))
        .filter(pl.col("state") == PRESENT)
        .select(*on, start="timestamp", end="end")
    )
    absent, inferred = (
        arithmetic.union(windows.filter(pl.col("state") == state), key)
        for state in ("absent", "inferred")
    )
    _, present = arithmetic.intersect(spans, absent, key)
    guessed, certain = arithmetic.intersect(present, inferred, key)
    name = pl.concat_str(pl.col("entity_id").cast(pl.String), pl.lit("/inferred"))
    kinds = _kinds(found.entities, on)
    sides = found.entities.join(guessed.select(on).cast(kinds), on=on, how="semi").with_columns(
        name.cast(kinds["entity_id"]).alias("entity_id"), inferred=pl.lit(value=True)
    )
    pieces = pl.concat([certain, guessed.with_columns(name.alias("entity_id"))]).with_columns(
        end=pl.when(pl.col("end") < arithmetic.MAX_TIME).then("end")
    )
    again = [
        facts(part, str(source), str(quantity))
        for (source, quantity), part in pieces.partition_by(
            "source", "quantity_type", as_dict=True, maintain_order=True
        ).items()
    ]
    rest = found.facts.join(touched, on=key, how="anti")
    return replace(
        found,
        facts=pl.concat([rest, *again]),
        entities=pl.concat([found.entities, sides]),
    )


def _kinds(frame: pl.DataFrame, columns: list[str]) -> pl.Schema:
    return pl.Schema({column: frame.schema[column] for column in columns})
