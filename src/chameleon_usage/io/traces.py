"""A site's corrected history as a public trace: machine, instance and lease events.

The trace says what the corrected collector counts, not what the databases hold: hosts live and
leases hold them as it found. Machine and instance events are in format 0.3 of the Chameleon cloud
traces, which ``ingest.traces`` reads; lease events are an addition in its manner.

What the format cannot hold: when a host was reservable or in maintenance, and by which source each
second is known. An instance that was cut to its lease shows as one that left its host (a shelve
event) and came back. Of two instances on one bare-metal node at once, the first is read as over if
it has no end. Names of instances and users are not among what is counted, and stay empty.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.io import events
from chameleon_usage.io.events import HOST, SIZES
from chameleon_usage.io.files import whole_directory
from chameleon_usage.models.vocabulary import KVM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from chameleon_usage.io.privacy import Privacy

FORMAT, MANIFEST = "0.3", "manifest.json"
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
        "machine_events": events.machines(hosts, as_of),
        "instance_events": events.instances(held.filter(~committed), as_of),
        "lease_events": events.leases(leases, held.filter(committed), as_of),
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
