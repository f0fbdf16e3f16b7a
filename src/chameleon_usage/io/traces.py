"""A site's corrected history as a public trace: machine, instance and lease events.

The trace says what the corrected collector counts, not what the databases hold: hosts live and
leases hold them as it found. Machine and instance events are in format 0.3 of the Chameleon cloud
traces, which ``ingest.traces`` reads; lease events are an addition in its manner.

What the format cannot hold: when a host was reservable or in maintenance, and by which source each
second is known. An instance that was cut to its lease shows as one that left its host (a shelve
event) and came back. Names of instances and users are not among what is counted, and stay empty.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.intervals import arithmetic
from chameleon_usage.io.files import whole_directory
from chameleon_usage.models.vocabulary import KVM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chameleon_usage.io.privacy import Privacy

HOST = "HOST_NAME (PHYSICAL)"
EPOCH = datetime(2015, 9, 17)  # noqa: DTZ001 - naive UTC; the published traces count from here
FORMAT, MANIFEST = "0.3", "manifest.json"
SIZES = ("vcpus", "memory_mb", "disk_gb")
COLUMNS = {
    "machine_events": ("EVENT_TIME", "EVENT_TIME_SEC", HOST, "EVENT", "PROPERTIES"),
    "instance_events": (
        *("INSTANCE_UUID", "EVENT", "START_TIME", "START_SEC", "FINISH_TIME", "FINISH_SEC"),
        *("EVENT_DURATION", "RESULT", "INSTANCE_NAME", "USER_ID", "PROJECT_ID", HOST),
        "PROPERTIES",
    ),
    "lease_events": (
        *("EVENT_TIME", "EVENT_TIME_SEC", "LEASE_UUID", "EVENT", "PROJECT_ID", HOST),
        "PROPERTIES",
    ),
}
"""File to its columns, in the order in which they are written."""

CREATE, TERMINATE = "compute__do_build_and_run_instance", "compute_terminate_instance"
STOP, START = "compute_stop_instance", "compute_start_instance"
OFFLOAD, UNSHELVE = "compute_shelve_offload_instance", "compute_unshelve_instance"
ARRIVE = "compute_post_live_migration_at_destination"
PROJECT = "project"


def export_traces(
    directory: Path,
    sites: Mapping[str, tuple[Mapping[str, pl.DataFrame], datetime]],
    privacy: Privacy | None,
) -> dict[str, int]:
    """Write ``<site>_machine_events.csv`` and so on, and until when they tell; all or nothing.

    Args:
        directory: where to: new, empty, or what an export wrote before.
        sites: site to ``pipeline.trace_parts``.
        privacy: of ``trace_tables``.

    Returns:
        file to the number of its rows.

    Raises:
        UsageError: it holds other files, cannot be written, or the sites' tables were read at
            different times, of which one manifest cannot tell.
    """
    moments = {as_of for _, as_of in sites.values()}
    if len(moments) > 1:
        raise UsageError(
            f"the tables of {', '.join(sites)} were read at different times: export each site into "
            "a directory of its own (--site)"
        )
    if directory.exists() and not _replaceable(directory):
        raise UsageError(
            f"{directory} holds other files than those of an export: name a new or empty directory"
        )
    written = {}
    with whole_directory(directory) as scratch:
        for site, (parts, as_of) in sites.items():
            for name, frame in trace_tables(parts, as_of, privacy).items():
                frame.write_csv(scratch / f"{site}_{name}.csv")
                written[f"{site}_{name}.csv"] = frame.height
            manifest = {"as_of": as_of.isoformat(), "format": FORMAT}
            (scratch / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
    return written


def _replaceable(directory: Path) -> bool:
    """Whether nothing is there but what an export wrote."""
    names = {path.name for path in directory.iterdir()} - {MANIFEST}
    return all(name.removesuffix(".csv").endswith(tuple(COLUMNS)) for name in names)


def trace_tables(
    parts: Mapping[str, pl.DataFrame], as_of: datetime, privacy: Privacy | None
) -> dict[str, pl.DataFrame]:
    """Turn a site's corrected history into events.

    Args:
        parts: of ``pipeline.trace_parts``: hosts, held, leases.
        as_of: what lasts until then has no event that ends it.
        privacy: what becomes of keys (``_masked``); None keeps all as they are.

    Returns:
        machine_events, instance_events, lease_events, with ``COLUMNS``; events in order of time.
    """
    texts = {
        name: frame.cast({pl.selectors.categorical() | pl.selectors.enum(): pl.String})
        for name, frame in parts.items()
    }
    held = texts["held"].with_columns(
        entity=pl.col("entity_id"), entity_id=pl.col("entity_id").str.extract("^([^/]*)")
    )
    of_lease = pl.coalesce("lease_id", "reservation_id", "entity")
    committed = pl.col("quantity_type") == "committed"
    kinds = {
        "host": [texts["hosts"]["hostname"], held["hostname"]],
        "instance": [held.filter(~committed)["entity_id"]],
        "allocation": [held.filter(committed)["entity"]],
        "lease": [texts["leases"]["lease_id"], held.select(of_lease).to_series()],
        "reservation": [held["reservation_id"]],
        PROJECT: [held["project_id"]],
    }
    mask = {kind: _masked(kind, pl.concat(v, rechunk=True), privacy) for kind, v in kinds.items()}

    def hidden(kind: str, value: str | pl.Expr) -> pl.Expr:
        column = pl.col(value) if isinstance(value, str) else value
        return column.replace_strict(*mask[kind], default=None, return_dtype=pl.String)

    hosts = texts["hosts"].with_columns(hostname=hidden("host", "hostname"))
    held = held.with_columns(
        hostname=hidden("host", "hostname"),
        instance=hidden("instance", "entity_id"),
        allocation=hidden("allocation", "entity"),
        lease_id=hidden("lease", of_lease),
        reservation_id=hidden("reservation", "reservation_id"),
        project_id=hidden(PROJECT, "project_id"),
        # Only a slice tells its size; of a whole node its host does.
        **{name: pl.when(pl.col("host_class") == KVM).then(name) for name in SIZES},
    )
    leases = texts["leases"].with_columns(lease_id=hidden("lease", "lease_id"))
    found = {
        "machine_events": _machines(hosts, as_of),
        "instance_events": _instances(held.filter(~committed), as_of),
        "lease_events": _leases(leases, held.filter(committed), as_of),
    }
    return {name: frame.select(COLUMNS[name]) for name, frame in found.items()}


def _masked(kind: str, keys: pl.Series, privacy: Privacy | None) -> tuple[pl.Series, pl.Series]:
    """Give keys and what stands for each: a pseudonym; without a key a number, or no project."""
    known = keys.drop_nulls().unique().sort()
    if privacy is None:
        return known, known
    if privacy.key:
        shown = [privacy.pseudonym(key) for key in known]
    elif kind == PROJECT:
        shown = [None] * known.len()
    else:
        shown = [f"{kind}-{number}" for number in range(1, known.len() + 1)]
    return known, pl.Series(shown, dtype=pl.String)


def _since_epoch(moment: str) -> pl.Expr:
    """Give the seconds since the trace's beginning; -1 is before, as the format has it."""
    passed = (pl.col(moment) - EPOCH).dt.total_seconds()
    return pl.when(passed < 0).then(-1).otherwise(passed).cast(pl.Float64)


def _properties(**members: pl.Expr) -> pl.Expr:
    """Write a Python dictionary of what is not null; "__" stands for a dot in a name."""
    texts = [
        pl.concat_str(pl.lit(f"'{name.replace('__', '.')}': "), value)
        for name, value in members.items()
    ]
    listed = pl.concat_list(texts).list.drop_nulls().list.join(", ")
    return pl.concat_str(pl.lit("{"), listed, pl.lit("}"))


def _quoted(column: str | pl.Expr) -> pl.Expr:
    value = pl.col(column) if isinstance(column, str) else column
    return pl.concat_str(pl.lit("'"), value.cast(pl.String), pl.lit("'"))


def _machines(hosts: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Write CREATE, UPDATE where the host became another, DELETE."""
    on_kvm, count = pl.col("host_class") == KVM, pl.col("gpus").cast(pl.String)
    sizes = pl.when(on_kvm).then(
        _properties(
            vcpu_capability=pl.col("vcpus").cast(pl.String),
            memory_capability_mb=pl.col("memory_mb").cast(pl.String),
            disk_capability_gb=pl.col("disk_gb").cast(pl.String),
            node_type=_quoted("node_type"),
            gpu__gpu_count=count,
        )
    )
    bare = _properties(
        node_type=_quoted("node_type"),
        architecture__smt_size=_quoted("vcpus"),
        main_memory__ram_size=_quoted(pl.col("memory_mb") * 1024**2),
        storage_devices__0__size=_quoted(pl.col("disk_gb") * 1024**3),
        gpu__gpu_count=count,
    )
    lives = arithmetic.union(
        hosts.with_columns(PROPERTIES=sizes.otherwise(bare)), ["hostname", "PROPERTIES"]
    ).sort("hostname", "start")
    before = pl.col("end").shift(1).over("hostname") == pl.col("start")
    after = pl.col("start").shift(-1).over("hostname") == pl.col("end")
    begun = lives.with_columns(
        EVENT_TIME="start",
        EVENT=pl.when(before).then(pl.lit("UPDATE")).otherwise(pl.lit("CREATE")),
    )
    ended = lives.filter(~after.fill_null(value=False) & (pl.col("end") < as_of)).with_columns(
        EVENT_TIME="end", EVENT=pl.lit("DELETE"), PROPERTIES=pl.lit("{}")
    )
    return (
        pl.concat([begun, ended])
        .rename({"hostname": HOST})
        .sort("EVENT_TIME", HOST)
        .with_columns(EVENT_TIME_SEC=_since_epoch("EVENT_TIME"))
        .with_columns(EVENT_TIME=_iso("EVENT_TIME"))
    )


def _iso(column: str) -> pl.Expr:
    return pl.col(column).dt.strftime("%Y-%m-%dT%H:%M:%S")


def _instances(held: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Write the events that ``ingest.traces`` reads as when instances sat on hosts, and ran."""
    of = ["instance"]
    where = ["hostname", *SIZES, "reservation_id", "project_id"]
    occupied = pl.col("quantity_type").str.starts_with("occupied")
    # The keys by which intervals are joined may not be null.
    filled = held.with_columns(pl.col(where).cast(pl.String).fill_null(""))
    seats = arithmetic.union(filled.filter(occupied), [*of, *where])
    visits = arithmetic.union(seats, of).select(*of, "start", "end")
    visits = visits.sort("instance", "start").with_columns(
        _first=pl.col("instance").is_first_distinct(), _last=pl.col("instance").is_last_distinct()
    )
    runs, _ = arithmetic.intersect(
        arithmetic.union(filled.filter(~occupied), of).select(*of, "start", "end"),
        visits.select(*of, "start", "end", visit="start", visit_end="end"),
        of,
    )
    first_run = runs.group_by("instance", "visit").agg(_ran=pl.col("start").min())
    seats = seats.sort("instance", "start")
    begun = (
        visits.join(seats.rename({"end": "_seat_end"}), on=["instance", "start"])
        .join(first_run, left_on=["instance", "start"], right_on=["instance", "visit"], how="left")
        # A build can last until the machine first runs, unless it was moved before.
        .with_columns(
            finish=pl.when(pl.col("_first") & (pl.col("_ran") < pl.col("_seat_end")))
            .then("_ran")
            .otherwise("start")
        )
    )
    arrivals = begun.with_columns(
        EVENT=pl.when("_first").then(pl.lit(CREATE)).otherwise(pl.lit(UNSHELVE)), order=0
    )
    seated = begun.select("instance", "start", _built="finish", _begun=pl.lit(value=True))
    moves = seats.join(seated, on=["instance", "start"], how="anti").with_columns(
        EVENT=pl.lit(ARRIVE), finish="start", order=1
    )
    idle = begun.filter(pl.col("_ran").is_null() | (pl.col("_ran") != pl.col("finish")))
    idle = idle.select("instance", "start", EVENT=pl.lit(STOP), order=2)
    runs = runs.join(
        begun.select("instance", visit="start", _built="finish"), on=["instance", "visit"]
    )
    started = runs.filter(pl.col("start") != pl.col("_built")).select(
        "instance", "start", EVENT=pl.lit(START), order=3
    )
    stopped = runs.filter(pl.col("end") < pl.col("visit_end")).select(
        "instance", start="end", EVENT=pl.lit(STOP), order=2
    )
    left = visits.filter(pl.col("end") < as_of).select(
        "instance",
        start="end",
        EVENT=pl.when("_last").then(pl.lit(TERMINATE)).otherwise(pl.lit(OFFLOAD)),
        order=4,
    )
    turns = pl.concat([idle, started, stopped, left]).with_columns(finish="start")
    # What happens to an instance happens where it sits then, or sat last.
    there = turns.sort("start").join_asof(
        seats.select("instance", *where, start="start").sort("start"),
        on="start",
        by="instance",
        strategy="backward",
        check_sortedness=False,
    )
    columns = ["instance", *where, "start", "finish", "EVENT", "order"]
    events = pl.concat(frame.select(columns) for frame in (arrivals, moves, there))
    values = {name: pl.when(pl.col(name) != "").then(name) for name in where}
    return (
        events.with_columns(**values)
        .sort("start", "instance", "order")
        .with_columns(
            pl.lit(None, pl.String).alias("INSTANCE_NAME"),
            pl.lit(None, pl.String).alias("USER_ID"),
            INSTANCE_UUID="instance",
            START_SEC=_since_epoch("start"),
            FINISH_SEC=_since_epoch("finish"),
            EVENT_DURATION=(pl.col("finish") - pl.col("start")).dt.total_seconds().cast(pl.Float64),
            RESULT=pl.lit("Success"),
            PROJECT_ID="project_id",
            PROPERTIES=_properties(
                memory_mb=pl.col("memory_mb"),
                root_gb=pl.col("disk_gb"),
                vcpus=pl.col("vcpus"),
                reservation=_quoted("reservation_id").fill_null("None"),
            ),
            START_TIME=_iso("start"),
            FINISH_TIME=_iso("finish"),
        )
        .rename({"hostname": HOST})
    )


def _leases(leases: pl.DataFrame, held: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Write CREATE and START of leases, ALLOCATE and RELEASE of what they held."""

    def later(hours: str) -> pl.Expr:
        return pl.col("created_at") + pl.duration(seconds=(pl.col(hours) * 3600).round())

    asked = leases.with_columns(
        EVENT_TIME="created_at",
        EVENT=pl.lit("CREATE"),
        PROPERTIES=_properties(
            start_date=_quoted(later("requested_h").dt.strftime("%Y-%m-%dT%H:%M:%S")),
            nodes=pl.col("nodes").cast(pl.String),
            node_type=_quoted("node_type"),
            outcome=_quoted("outcome"),
        ),
    )
    started = leases.drop_nulls("effective_h").with_columns(
        EVENT_TIME=later("effective_h"), EVENT=pl.lit("START"), PROPERTIES=pl.lit("{}")
    )
    known = ["allocation", "lease_id", "project_id", "reservation_id", "hostname", "nodes", *SIZES]
    of_host = pl.when(pl.col("hostname").is_null()).then("node_type")
    parts = held.with_columns(
        node_type=of_host, gpus=pl.when(pl.col("vcpus").is_not_null()).then("gpus")
    )
    known += ["node_type", "gpus"]
    parts = arithmetic.union(
        parts.with_columns(pl.col(known).cast(pl.String).fill_null("")), known
    ).with_columns(pl.when(pl.col(name) != "").then(name) for name in known)
    # What an allocation held of another host or size counts under a key of its own.
    rank = (
        pl.struct("hostname", *SIZES, "nodes", "node_type", "gpus").rank("dense").over("allocation")
    )
    several = pl.concat_str("allocation", pl.lit("/"), rank.cast(pl.String))
    parts = parts.with_columns(
        allocation=pl.when(rank > 1).then(several).otherwise("allocation")
    ).with_columns(
        PROPERTIES=_properties(
            allocation=_quoted("allocation"),
            reservation=_quoted("reservation_id"),
            nodes=pl.when(pl.col("hostname").is_null()).then("nodes"),
            node_type=_quoted("node_type"),
            **{name: pl.col(name) for name in (*SIZES, "gpus")},
        )
    )
    given = parts.with_columns(EVENT_TIME="start", EVENT=pl.lit("ALLOCATE"))
    back = parts.filter(pl.col("end") < as_of).with_columns(
        EVENT_TIME="end", EVENT=pl.lit("RELEASE")
    )
    order = pl.Enum(["RELEASE", "CREATE", "START", "ALLOCATE"])
    return (
        pl.concat([asked, started, given, back], how="diagonal_relaxed")
        .rename({"lease_id": "LEASE_UUID", "project_id": "PROJECT_ID", "hostname": HOST})
        .sort("EVENT_TIME", "LEASE_UUID", pl.col("EVENT").cast(order), "PROPERTIES")
        .with_columns(EVENT_TIME_SEC=_since_epoch("EVENT_TIME"))
        .with_columns(EVENT_TIME=_iso("EVENT_TIME"))
    )
