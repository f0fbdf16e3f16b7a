"""Which adapters there are, and which tables each reads."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest import (
    blazar,
    blazar_hosts,
    blazar_leases,
    inventory,
    legacy,
    nova,
    nova_hosts,
    published,
    status,
    trace_instances,
    traces,
    zun,
)
from chameleon_usage.ingest.base import concat
from chameleon_usage.intervals.arithmetic import REPORT, ConservationError
from chameleon_usage.intervals.sorting import Numbers
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.raw_files import INSTANCE_EVENTS, LEASE_EVENTS, MACHINE_EVENTS
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import Ingested, Rejects
from chameleon_usage.models.vocabulary import INPUT_VALIDATION
from chameleon_usage.snapshots import history


@dataclass(frozen=True)
class Adapter:
    """A function from raw tables to intervals.

    Attributes:
        read: the function.
        tables: what it needs, with rows.
        optional: what it can use; absent or empty is fine.
        beside: what it reads, too, where another adapter of the site has it read.
        may_be_empty: of ``tables``, those in which no row is a normal state of affairs.
        accounts: frame of the result to the tables whose every row it keeps, rejects or sets
            aside (``check_rows``); rows of other tables only say more of these.
    """

    read: Callable[[RawInputs], Ingested]
    tables: tuple[str, ...]
    optional: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    may_be_empty: tuple[str, ...] = ()
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_LEASES = ("blazar.leases", "blazar.reservations")
_NAMES = ("blazar.resource_properties", "blazar.extra_capabilities")
_CAPABILITIES = ("blazar.computehost_extra_capabilities", *_NAMES)

ADAPTERS: dict[str, Adapter] = {
    "nova_hosts": Adapter(
        nova_hosts.hosts,
        ("nova.compute_nodes",),
        ("nova.services",),
        ("nova.instances", "blazar.computehosts"),
        accounts={"intervals": ("nova.compute_nodes", "nova.services")},
    ),
    "nova_instances": Adapter(
        nova.instances,
        ("nova.instances",),
        (
            "nova.compute_nodes",
            "nova.instance_actions",
            "nova.instance_actions_events",
            "nova.migrations",
            "nova_api.flavors",
            "nova_api.request_specs",
        ),
        accounts={"intervals": ("nova.instances",)},
    ),
    "blazar_hosts": Adapter(
        blazar_hosts.hosts,
        ("blazar.computehosts",),
        (*_LEASES, "blazar.computehost_allocations", *_CAPABILITIES),
        accounts={"intervals": ("blazar.computehosts",)},
    ),
    "blazar_allocations": Adapter(
        blazar.allocations,
        _LEASES,
        (
            "blazar.computehost_allocations",
            "blazar.computehosts",
            "blazar.computehost_reservations",
            "blazar.instance_reservations",
        ),
        ("blazar.device_reservations",),
        accounts={"intervals": ("blazar.computehost_allocations",)},
    ),
    "blazar_leases": Adapter(
        blazar_leases.leases,
        _LEASES,
        (
            "blazar.events",
            "blazar.computehost_reservations",
            "blazar.instance_reservations",
            "blazar.device_reservations",
            "blazar.computehost_allocations",
            "blazar.device_allocations",
            "blazar.device_extra_capabilities",
            *_CAPABILITIES,
        ),
        (
            "nova.instances",
            "nova.instance_actions",
            "nova.instance_actions_events",
            "nova_api.request_specs",
            "zun.container",
        ),
        accounts={"leases": ("blazar.leases",)},
    ),
    "edge_devices": Adapter(
        blazar_hosts.devices,
        ("blazar.devices",),
        (
            *_LEASES,
            "blazar.device_allocations",
            "blazar.device_extra_capabilities",
            *_NAMES,
        ),
        accounts={"intervals": ("blazar.devices",)},
    ),
    "edge_allocations": Adapter(
        blazar.device_allocations,
        (*_LEASES, "blazar.device_allocations", "blazar.devices"),
        ("blazar.device_reservations",),
        ("blazar.computehost_reservations", "blazar.instance_reservations"),
        accounts={"intervals": ("blazar.device_allocations",)},
    ),
    "edge_containers": Adapter(
        zun.containers,
        ("zun.container",),
        ("zun.container_actions", "zun.container_actions_events"),
        may_be_empty=("zun.container",),  # deleted for good: only what runs now is there
        accounts={"intervals": ("zun.container",)},
    ),
    "inventory": Adapter(
        inventory.hardware,
        (),
        ("doni.hardware", "inventory.node_intervals"),
        accounts={"intervals": ("doni.hardware", "inventory.node_intervals")},
    ),
    "maintenance": Adapter(
        legacy.maintenance,
        (),
        ("chameleon_usage.node_maintenance",),
        accounts={"maintenance": ("chameleon_usage.node_maintenance",)},
    ),
    "status": Adapter(
        status.flags,
        (),
        ("ironic.nodes", "nova.services", "nova.compute_nodes", "blazar.computehosts"),
    ),
    "legacy": Adapter(
        legacy.caches,
        (),
        ("chameleon_usage.node_usage_report_cache", "chameleon_usage.node_count_cache"),
        accounts={
            "legacy": (
                "chameleon_usage.node_usage_report_cache",
                "chameleon_usage.node_count_cache",
            )
        },
    ),
    "machine_events": Adapter(
        traces.machine_events, (MACHINE_EVENTS,), accounts={"intervals": (MACHINE_EVENTS,)}
    ),
    "instance_events": Adapter(
        trace_instances.instance_events,
        (INSTANCE_EVENTS,),
        (MACHINE_EVENTS,),
        accounts={"intervals": (INSTANCE_EVENTS,)},
    ),
    "lease_events": Adapter(
        traces.lease_events, (), (LEASE_EVENTS,), accounts={"leases": (LEASE_EVENTS,)}
    ),
    "published_leases": Adapter(
        published.leases, ("published.leases",), accounts={"intervals": ("published.leases",)}
    ),
}


def tables_of(adapters: Iterable[str]) -> list[str]:
    """List the tables that the named adapters read."""
    return sorted(
        {table for name in adapters for table in (*ADAPTERS[name].tables, *ADAPTERS[name].optional)}
    )


def lacking(rows: Mapping[str, int], name: str) -> list[str]:
    """List the tables that an adapter cannot do without: absent, or if none is, without rows.

    Args:
        rows: of each table that is there, how many.
        name: of the adapter.
    """
    adapter = ADAPTERS[name]
    if missing := [table for table in adapter.tables if table not in rows]:
        return missing
    needed = [table for table in adapter.tables if table not in adapter.may_be_empty]
    return [table for table in needed if not rows[table]]


def able(
    rows: Mapping[str, int], adapters: Iterable[str], *, skip_missing: bool = False
) -> tuple[list[str], dict[str, list[str]]]:
    """Tell which adapters have all the tables that they need.

    Args:
        rows: of each table that is there, how many.
        adapters: names of ``ADAPTERS``.
        skip_missing: leave out an adapter whose table is absent instead of failing.

    Returns:
        (those that can run, the others and what each lacks)

    Raises:
        UsageError: an adapter's table is absent.
    """
    can, left_out = [], {}
    for name in adapters:
        missing = lacking(rows, name)
        if not missing:
            can.append(name)
        elif skip_missing:
            left_out[name] = missing
        else:
            empty = missing[0] in rows
            raise UsageError(
                f"adapter {name} needs the table {', '.join(missing)}"
                f"{', which holds no row: extract it again' if empty else ': extract it'}, or take "
                "the adapter out of the site's entry, or run with --skip-missing"
            )
    return can, left_out


def run_adapters(inputs: RawInputs, adapters: Sequence[str]) -> Ingested:
    """Run the named adapters over the raw tables.

    Args:
        inputs: what ``load_raw_inputs`` gave; its tables are taken out of it as soon as the last
            adapter has read them, since together they take more memory than all that follows.
        adapters: names of ``ADAPTERS``, of ``able``.

    Returns:
        the adapters' results together, those that input validation refused among the rejects.

    Raises:
        ConservationError: a row is unaccounted for.
    """
    found = concat(_read_last(adapters, inputs))
    refused = conform(inputs.rejects.with_columns(stage=pl.lit(INPUT_VALIDATION)), Rejects)
    return replace(
        found,
        intervals=history.apply_windows(found.intervals, inputs.windows),
        rejects=refused.vstack(found.rejects),
    )


def _read_last(names: Sequence[str], inputs: RawInputs) -> Iterator[Ingested]:
    """Run adapters, and let go of each table when none is left that reads it."""
    for number, name in enumerate(names, start=1):
        yield _read(name, inputs)
        still = {table for later in names[number:] for table in _all_tables(ADAPTERS[later])}
        for table in inputs.tables.keys() - still:
            del inputs.tables[table]


def _all_tables(adapter: Adapter) -> tuple[str, ...]:
    return (*adapter.tables, *adapter.optional, *adapter.beside)


def _read(name: str, inputs: RawInputs) -> Ingested:
    adapter = ADAPTERS[name]
    result = adapter.read(inputs)
    check_rows(name, adapter.accounts, inputs, result)
    return result


# --- the law of rows: each is kept, rejected or set aside, and just once ------------------------

_COUNTED: dict[str, Callable[[pl.DataFrame], int]] = {
    "maintenance": lambda windows: windows.height,
    # Of each day and node type that a cache holds, a total is told.
    "legacy": lambda counts: (
        counts.filter(pl.col("count_type") == "total").select("timestamp", "node_type").n_unique()
    ),
}
"""Frames that do not name the rows they are made of, and how these are counted."""


def check_rows(
    adapter: str, accounts: Mapping[str, Sequence[str]], inputs: RawInputs, result: Ingested
) -> None:
    """Assert that an adapter keeps each row of its tables, rejects it or sets it aside, once.

    Args:
        adapter: its name.
        accounts: frame of the result to the tables whose rows it keeps: ``intervals`` and
            ``leases`` are held to the rows' keys, ``maintenance`` and ``legacy`` to their number.
            An instance need not have run: its intervals of ``active`` do not count.
        inputs: the raw tables that it read.
        result: what it gave back.

    Raises:
        ConservationError: names the adapter, the table and the difference.
    """
    stage = f"adapter {adapter}"
    others = pl.concat([result.rejects, result.aside], how="diagonal").select(
        "source", "source_row_id"
    )
    for frame, tables in accounts.items():
        if frame in _COUNTED:
            found = sum(inputs.get(table).height for table in tables)
            kept = _COUNTED[frame](getattr(result, frame))
            left = others.filter(pl.col("source").is_in(tables)).height
            _check_number(stage, ", ".join(tables), found, kept + left)
            continue
        for table in tables:
            spec = RAW_TABLES[table]
            rows = _keys(inputs.get(table), *(spec.entity or spec.key))
            rows = rows.unique() if spec.entity else rows
            if frame == "leases":
                places = _times(rows, _keys(result.leases, "lease_id"))
            else:
                held = result.intervals.select("source", "quantity_type", "entity_id").filter(
                    (pl.col("source") == table) & (pl.col("quantity_type") != "active")
                )
                places = np.minimum(_times(rows, _keys(held, "entity_id")), 1)
            elsewhere = others.filter(pl.col("source") == table)
            places += _times(rows, _keys(elsewhere, "source_row_id"))
            if (wrong := pl.Series(places != 1)).any():
                lost, key = int((places == 0).sum()), rows.filter(wrong).sort()[0]
                raise ConservationError(
                    f"stage {stage}, table {table}: {lost} rows are neither kept nor rejected, "
                    f"{wrong.sum() - lost} are both (as {key}); {REPORT}"
                )


def _keys(frame: pl.DataFrame, *names: str) -> pl.Series:
    """Name the rows as their rejects or entities do."""
    if len(names) == 1 and frame.schema[names[0]] == NAME:
        return frame[names[0]]
    parts = [pl.col(name).cast(pl.String) for name in names]
    return frame.select(pl.concat_str(parts, separator="|").cast(NAME)).to_series()


def _times(rows: pl.Series, keys: pl.Series) -> Numbers:
    """Count how often the name of each row is among others."""
    row, key = (
        (names.to_physical().cast(pl.Int64).fill_null(-1) + 1).to_numpy() for names in (rows, keys)
    )
    times = np.bincount(key, minlength=row.max(initial=0) + 1)
    times[0] = 0  # what has no name is not found
    return times[row]


def _check_number(stage: str, table: str, found: int, accounted: int) -> None:
    if found != accounted:
        raise ConservationError(
            f"stage {stage}, table {table}: {found} rows in, {accounted} kept or rejected "
            f"({accounted - found:+d}); {REPORT}"
        )
