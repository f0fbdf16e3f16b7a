"""Facts of a site shard by shard, cut into ranges of hosts: no process has them all in memory.

What no shard can know by itself is gathered of all first, and is small: when instances and
allocations first name a host, the names of hosts whose rows are gone, whether leases leave no row.
The adapters of hosts read it, and so does the reconstruction of each shard.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from chameleon_usage.engines.engine import Tables
from chameleon_usage.engines.tasks import Tasks, path_of
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest import blazar_hosts, loader, registry, renamed
from chameleon_usage.ingest.blazar import COMPUTEHOSTS, DEVICES
from chameleon_usage.intervals import arithmetic
from chameleon_usage.io.files import load_table
from chameleon_usage.models import cells
from chameleon_usage.models.frames import columns, conform
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME, TIME
from chameleon_usage.models.site import Site
from chameleon_usage.models.stages import (
    COMPLETENESS,
    MAINTENANCE,
    Ingested,
    Intervals,
    JoinLog,
    Leases,
    Rejects,
    Schedule,
)
from chameleon_usage.models.vocabulary import INPUT_VALIDATION, Reason
from chameleon_usage.ranges import (
    ROWS,
    Cut,
    Division,
    Plan,
    balanced,
    named,
    rows_of,
    without_a_host,
    without_rows,
    write_rows,
)
from chameleon_usage.reconstruct import corrected, inference
from chameleon_usage.reconstruct.observed import HOST, Observed, observe
from chameleon_usage.reconstruct.reading import Collected, Corrections, together
from chameleon_usage.shards.deal import DEALT, deal, files_of, reason_against

INSTANCES = "nova.instances"
_POOLS = {"blazar_hosts": COMPUTEHOSTS, "edge_devices": DEVICES}
"""Adapters of hosts of which allocations tell something, too, and the tables of these hosts."""
GATHERED = {"nova_hosts", *_POOLS}
"""Adapters of hosts that read dealt tables, of which what they need is gathered of all shards."""

_KINDS = columns(Intervals)
_SAID: Mapping[str, Mapping[str, pl.DataType]] = {
    "intervals": _KINDS,
    "leases": columns(Leases),
    "schedule": {name: kind for name, kind in columns(Schedule).items() if name != "entity_id"},
    "maintenance": MAINTENANCE,
    "rejects": columns(Rejects),
    "join_log": columns(JoinLog),
    "completeness": COMPLETENESS,
    # Beside what the adapters of a shard say (Ingested), what is gathered of all shards:
    "witnesses": {"node": NAME, "created_at": TIME},
    "spans": {"source": pl.String(), "host_id": NAME, "first": TIME, "last": TIME},
    "votes": {
        name: _KINDS[name] for name in ("quantity_type", "reservation_id", "host_id", "hostname")
    },
    "names": {name: _KINDS[name] for name in ("host_id", "hostname")},
    "counts": {"hostname": NAME, "rows": pl.Int64()},
    "unallocated": {"any": pl.Boolean()},
    "absent": {"name": pl.String()},
    "unreadable": {"source": pl.String(), "reason": pl.String()},
}
"""What is kept of each shard."""
_LARGE = frozenset({"intervals", "leases", "schedule", "rejects"})
"""What of it is read again shard by shard, or later."""

_NOTHING = Collected("corrected").result()
_BEFORE: Mapping[str, Mapping[str, pl.DataType]] = {
    **{name: getattr(_NOTHING, name).schema for name in ("segments", "rejects", "adrift")},
    **dict.fromkeys(("others", "occupied", "active"), dict(_KINDS) | {"open": pl.Boolean()}),
    "seen_by": {"source": pl.String()},
}
"""What is told of each shard when it is cut into ranges: ``Cut.before`` and ``Cut.to_assign``."""


@dataclass(frozen=True)
class Shards:
    """The facts of a site, those of leases and instances in a directory a shard.

    Attributes:
        places: these directories.
        hosts: what the adapters of hosts say, with what all say of completeness and maintenance.
        as_of: when the raw tables were read.
        gone: of ``Observed.gone``.
        unallocated: of ``Observed.unallocated``.
        names: host_id and hostname of the hosts that rows name.
        counts: intervals by hostname: hostname, rows.
        absent: what was asked for and is absent or holds no row: tables, and columns.
        left_out: adapters that did not run, and the tables that each lacks.
    """

    places: Sequence[Path]
    hosts: Ingested
    as_of: datetime
    gone: pl.DataFrame
    unallocated: bool
    names: pl.DataFrame
    counts: pl.DataFrame
    absent: tuple[str, ...]
    left_out: Mapping[str, Sequence[str]]

    @property
    def intervals(self) -> int:
        """How many there are."""
        return int(self.counts["rows"].sum())


def facts(
    site: Site,
    directory: Path,
    count: int,
    room: Path,
    workers: Tasks,
    *,
    skip_missing: bool = False,
) -> Shards:
    """Read a site's raw tables shard by shard, and what its adapters say of hosts once.

    Args:
        site: its configuration.
        directory: its raw tables.
        count: of shards.
        room: a directory for them, that all workers see.
        workers: who reads them.
        skip_missing: leave out adapters whose table is absent.

    Returns:
        what the adapters say: of hosts in memory, of leases and instances in a directory a shard.

    Raises:
        UsageError: tables are missing, or cannot be read, or not in shards; a process was killed.
        ConservationError: a row is unaccounted for.
    """
    if not directory.is_dir():
        raise UsageError(loader.NO_DIRECTORY.format(directory))
    tables = registry.tables_of(site.adapters)
    if against := reason_against(directory, tables, site.files):
        raise UsageError(
            f"site {site.key}: its raw tables cannot be read in shards ({against}); read them "
            "whole, with --shards 1"
        )
    rows = _rows(directory, tables)
    able, left_out = registry.able(rows, site.adapters, skip_missing=skip_missing)
    ours = [name for name in able if of_shards(name)]
    pools = [source for name, source in _POOLS.items() if name in able]
    *dealt, apart = deal(directory, tables, count, room / "raw")
    work = partial(_read, tables, ours, pools)
    places = workers.each(room / "facts", dealt, work, tuple(_SAID))
    said = {name: _all(places, name) for name in _SAID if name not in _LARGE}
    for name in [name for name in rows if name in DEALT]:
        loader.check_readable(
            files_of(directory, [name])[0], rows[name], said["unreadable"].filter(source=name)
        )
    inputs = _inputs(
        apart,
        [name for name in rows if name not in DEALT],
        cell_numbers=cells.numbers(files_of(directory, tables)),
    )
    shutil.rmtree(room / "raw")
    inputs.tables[INSTANCES] = said["witnesses"]
    inputs = replace(inputs, spans=_spans(said["spans"], pools))
    others = registry.run_adapters(inputs, [name for name in able if name not in ours])
    counts = pl.concat([said["counts"], _counts(others.intervals)])
    return Shards(
        places,
        hosts=_together(others, said),
        as_of=inputs.as_of,
        gone=inference.gone_hosts(said["votes"]),
        unallocated=bool(said["unallocated"]["any"].any()),
        names=pl.concat([said["names"], others.intervals.select(list(_SAID["names"]))]),
        counts=counts.group_by("hostname").agg(pl.col("rows").sum()),
        absent=(
            *said["absent"]["name"].unique(maintain_order=True),  # the same of every shard
            *(name for name in rows if not rows[name]),
        ),
        left_out=left_out,
    )


def _spans(told: pl.DataFrame, pools: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Put together when the allocations of all shards held each host."""
    last = pl.col("last")
    spans = told.group_by("source", "host_id").agg(
        pl.col("first").min(), last=pl.when(~last.is_null().any()).then(last.max())
    )
    return {source: spans.filter(source=source).drop("source") for source in pools}


def _together(others: Ingested, said: Mapping[str, pl.DataFrame]) -> Ingested:
    """Add to what the adapters of hosts say what all shards say of the whole site."""
    known = said["completeness"].group_by("quantity_type", "source", "keeps", maintain_order=True)
    return replace(
        others,
        maintenance=pl.concat([others.maintenance, said["maintenance"]]),
        completeness=pl.concat(
            [others.completeness, known.agg(pl.col("held").sum(), pl.col("ever").max())]
        ),
        join_log=_joined([others.join_log, said["join_log"]]),
    )


def _counts(intervals: pl.DataFrame) -> pl.DataFrame:
    counts = intervals.group_by("hostname").agg(rows=pl.len().cast(pl.Int64))
    return counts.cast({"hostname": NAME})


def of_shards(adapter: str) -> bool:
    """Tell whether an adapter accounts for rows that are dealt into shards."""
    accounts = registry.ADAPTERS[adapter].accounts
    return any(table in DEALT for tables in accounts.values() for table in tables)


def _rows(directory: Path, tables: Sequence[str]) -> dict[str, int]:
    """Count the rows of each table that has a file, with those of its archive."""
    return {
        name: sum(_rows_in(file, name) for file in files)
        for name in tables
        if (files := files_of(directory, [name]))
    }


def _rows_in(file: Path, name: str) -> int:
    with loader.reading(file, name):
        return int(pl.scan_parquet(file).select(pl.len()).collect().item())


def _inputs(place: Path, tables: Sequence[str], **how: Any) -> RawInputs:  # noqa: ANN401
    return renamed.under_latest_name(loader.load_raw_inputs(place, tables, **how))


def _all(places: Sequence[Path], name: str) -> pl.DataFrame:
    """Put a table of all shards together."""
    kinds = _SAID[name] if name in _SAID else _BEFORE[name]
    return pl.concat(
        named(load_table(path_of(place, name), list(kinds)), kinds) for place in places
    )


def _read(
    tables: Sequence[str], adapters: Sequence[str], pools: Sequence[str], place: Path
) -> Tables:
    """Read a shard: what the adapters say of its leases and instances, and ``_SAID`` of these."""
    inputs = _inputs(place, tables, part=True)
    spans = [
        blazar_hosts.spans(inputs, source).with_columns(source=pl.lit(source)) for source in pools
    ]
    witnesses = inputs.get(INSTANCES).group_by("node").agg(pl.col("created_at").min())
    said = registry.run_adapters(inputs, adapters)
    begun = said.intervals.filter(pl.col("start") < inputs.as_of)
    kind = pl.col("quantity_type")
    unnamed = (kind == "committed") & pl.col("host_id").is_not_null() & pl.col("hostname").is_null()
    votes = begun.filter(kind.is_in(["committed", "occupied"])).join(
        begun.filter(unnamed), on="reservation_id", how="semi"
    )
    # Every shard has the tables of hosts: what is refused of them is told once, by those alone.
    elsewhere = (pl.col("stage") == INPUT_VALIDATION) & ~pl.col("source").is_in(list(DEALT))
    told = {
        "maintenance": arithmetic.union(said.maintenance, HOST),
        "rejects": said.rejects.filter(~elsewhere),
        "witnesses": witnesses,
        "spans": pl.concat([pl.DataFrame(schema=_SAID["spans"]), *spans], how="diagonal"),
        "votes": votes.select(list(_SAID["votes"])).unique(),
        "names": begun.select(list(_SAID["names"])).drop_nulls().unique(),
        "counts": _counts(said.intervals),
        "unallocated": pl.DataFrame({"any": [inference.any_unallocated(begun)]}),
        "absent": pl.DataFrame({"name": inputs.absent}, schema=_SAID["absent"]),
        "unreadable": inputs.rejects.filter(pl.col("reason") != Reason.DUPLICATE_ROW).select(
            list(_SAID["unreadable"])
        ),
    }
    return {name: told[name] if name in told else getattr(said, name) for name in _SAID}


def _joined(logs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up join logs."""
    hits = (pl.col("fan_out") * pl.col("matched")).round().sum()
    matched = pl.col("matched").sum()
    return (
        pl.concat(logs)
        .group_by("name")
        .agg(
            pl.col("rows_left", "matched", "unmatched").sum(),
            fan_out=pl.when(matched > 0).then(hits / matched).otherwise(0.0),
        )
        .select(JoinLog.column_names())
    )


def cut(
    shards: Shards, site: Site, folder: Path, count: int, workers: Tasks, *, by_project: bool
) -> tuple[Ingested, Observed, Cut]:
    """Write what is observed of a site range by range, shard by shard.

    Args:
        shards: of ``facts``; their directories are removed as soon as they are read.
        site: its configuration.
        folder: where to.
        count: of ranges: neighbours by name, with about as many rows each. What names no host is
            one more.
        workers: who cuts them.
        by_project: tell, too, what projects held.

    Returns:
        (what is ingested but for the intervals, what is observed of hosts, the site in ranges)
    """
    observed = _observe(shards, shards.hosts)
    division = balanced(shards.counts.drop_nulls(), count)
    # What each of them has to know.
    about = Ingested(profiles=shards.hosts.profiles, completeness=shards.hosts.completeness)
    known = replace(shards, places=(), hosts=about, names=shards.names.clear())
    done = workers.each(
        folder / "cut", shards.places, partial(_cut, known, site, folder, division), tuple(_BEFORE)
    )
    ingested = replace(
        shards.hosts,
        leases=_all(shards.places, "leases"),
        schedule=conform(_all(shards.places, "schedule"), Schedule),
    )
    for place in shards.places:
        shutil.rmtree(place)
    prepared, before = corrected.prepare(observed, site, Corrections())
    own = without_a_host(prepared)
    write_rows(rows_of(observed, prepared), division, folder, "hosts")
    seen_by = {*prepared.seen_by, *_all(done, "seen_by")["source"]}
    prepared = replace(prepared, seen_by=tuple(sorted(seen_by)))
    told = {name: _all(done, name) for name in _BEFORE}
    before = together(
        [
            before,
            replace(_NOTHING, **{name: told[name] for name in ("segments", "rejects", "adrift")}),
        ]
    )
    nameless = replace(
        own,
        seen_by=prepared.seen_by,
        rows={"occupied": told["others"]},
        nameless={name: told[name] for name in ("occupied", "active")},
    )
    shared = without_rows(prepared, apart=True)
    plan = Plan(site, shared, by_project, whole=False, kinds=ROWS)
    return ingested, observed, Cut(folder, plan, division, before, nameless)


def _observe(shards: Shards, ingested: Ingested) -> Observed:
    return observe(ingested, shards.as_of, shards.gone, unallocated=shards.unallocated)


def _cut(shards: Shards, site: Site, folder: Path, division: Division, place: Path) -> Tables:
    """Write the rows of a shard range by range, and tell ``_BEFORE`` of it.

    Args:
        shards: what is known of all.
        site: its configuration.
        folder: where to.
        division: which hosts are of which range.
        place: the shard's.
    """
    said = {name: _all([place], name) for name in ("intervals", "rejects")}
    observed = _observe(shards, replace(shards.hosts, **said))
    prepared, before = corrected.prepare(observed, site, Corrections())
    nameless = without_a_host(prepared)
    write_rows(rows_of(observed, prepared), division, folder, place.name)
    return {
        "segments": before.segments,
        "rejects": pl.concat([observed.rejects, before.rejects]),
        "adrift": before.adrift,
        "others": nameless.rows["occupied"],
        **nameless.nameless,
        "seen_by": pl.DataFrame({"source": prepared.seen_by}, schema=_BEFORE["seen_by"]),
    }
