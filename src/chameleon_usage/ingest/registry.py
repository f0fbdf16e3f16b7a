"""Which adapters there are, and which tables each reads."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest import accounting, blazar, inventory, legacy, nova, published, zun
from chameleon_usage.ingest.base import concat
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import RawInputs
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
        may_be_empty: of ``tables``, those in which no row is a normal state of affairs.
        accounts: frame of the result to the tables whose every row it keeps, rejects or sets
            aside (accounting.check_rows); rows of other tables only say more of these.
    """

    read: Callable[[RawInputs], Ingested]
    tables: tuple[str, ...]
    optional: tuple[str, ...] = ()
    may_be_empty: tuple[str, ...] = ()
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_LEASES = ("blazar.leases", "blazar.reservations")
_CAPABILITIES = ("blazar.computehost_extra_capabilities", "blazar.resource_properties")

ADAPTERS: dict[str, Adapter] = {
    "nova_hosts": Adapter(
        nova.hosts,
        ("nova.compute_nodes",),
        ("nova.services",),
        accounts={"intervals": ("nova.compute_nodes", "nova.services")},
    ),
    "nova_instances": Adapter(
        nova.instances,
        ("nova.instances",),
        (
            "nova.compute_nodes",
            "nova.instance_actions",
            "nova.instance_actions_events",
            "nova_api.request_specs",
        ),
        accounts={"intervals": ("nova.instances",)},
    ),
    "blazar_hosts": Adapter(
        blazar.hosts,
        ("blazar.computehosts",),
        (*_LEASES, "blazar.computehost_allocations", *_CAPABILITIES),
        accounts={"intervals": ("blazar.computehosts",)},
    ),
    "blazar_allocations": Adapter(
        blazar.allocations,
        (*_LEASES, "blazar.computehost_allocations", "blazar.computehosts"),
        ("blazar.instance_reservations",),
        accounts={"intervals": ("blazar.computehost_allocations",)},
    ),
    "blazar_leases": Adapter(
        blazar.leases,
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
        accounts={"leases": ("blazar.leases",)},
    ),
    "edge_devices": Adapter(
        blazar.devices,
        ("blazar.devices",),
        (
            *_LEASES,
            "blazar.device_allocations",
            "blazar.device_extra_capabilities",
            "blazar.resource_properties",
        ),
        accounts={"intervals": ("blazar.devices",)},
    ),
    "edge_allocations": Adapter(
        blazar.device_allocations,
        (*_LEASES, "blazar.device_allocations", "blazar.devices"),
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
        published.machine_events,
        ("trace.machine_events",),
        accounts={"intervals": ("trace.machine_events",)},
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


def run_adapters(
    inputs: RawInputs, adapters: Iterable[str], *, skip_missing: bool = False
) -> Ingested:
    """Run the named adapters over the raw tables.

    Args:
        inputs: what ``load_raw_inputs`` gave.
        adapters: names of ``ADAPTERS``.
        skip_missing: leave out an adapter whose table is absent instead of failing.

    Returns:
        the adapters' results together, those that input validation refused among the rejects.

    Raises:
        UsageError: an adapter's table is absent.
        ConservationError: a row is unaccounted for.
    """
    able = []
    for name in adapters:
        adapter = ADAPTERS[name]
        if missing := [table for table in adapter.tables if table not in inputs.tables]:
            if skip_missing:
                continue
            raise UsageError(
                f"adapter {name} needs the table {', '.join(missing)}: extract it, or take the "
                "adapter out of the site's entry, or run with --skip-missing"
            )
        needed = [table for table in adapter.tables if table not in adapter.may_be_empty]
        if empty := [table for table in needed if not inputs.rows[table]]:
            if skip_missing:
                continue
            raise UsageError(
                f"adapter {name} needs the table {', '.join(empty)}, which holds no row: extract "
                "it again, or take the adapter out of the site's entry, or run with --skip-missing"
            )
        able.append(name)
    found = concat(_read(name, inputs) for name in able)
    refused = conform(inputs.rejects.with_columns(stage=pl.lit(INPUT_VALIDATION)), Rejects)
    return replace(
        found,
        intervals=history.apply_windows(found.intervals, inputs.windows),
        rejects=refused.vstack(found.rejects),
    )


def _read(name: str, inputs: RawInputs) -> Ingested:
    adapter = ADAPTERS[name]
    result = adapter.read(inputs)
    accounting.check_rows(name, adapter.accounts, inputs, result)
    return result
