"""The metric registry: every count type and resource once, with its unit, formula and definition.

A formula that stands here is what is computed (usage.buckets), held to (io.check), drawn, asked of
databases and shown; nothing else spells it. It is an SQL expression over other names of the
registry, which Polars, DuckDB and MySQL read alike, and people too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Metric:
    """One published quantity.

    Attributes:
        name: the value of ``count_type`` in every table.
        label: how figures and prose call it.
        definition: one sentence.
        formula: over other count types and ``HOST_BY_HOST``; empty for what records tell.
        within: the count type of which it is a part, and so never more; empty where no record
            makes it one.
        unit: of ``value`` in ``usage_timeline``.
    """

    name: str
    label: str
    definition: str
    formula: str = ""
    within: str = ""
    unit: str = "nodes (time-weighted mean over the bucket)"

    @property
    def expression(self) -> pl.Expr:
        """What the formula computes, from columns of the names in it."""
        return pl.sql_expr(self.formula)


def names_in(*formulas: str) -> frozenset[str]:
    """List the names of which formulas speak."""
    return frozenset(name for one in formulas for name in pl.sql_expr(one).meta.root_names())


def renamed(formula: str, names: Mapping[str, str]) -> str:
    """Write a formula over other names."""
    return re.sub(r"\w+", lambda word: names.get(word[0], word[0]), formula)


KNOWN_SHARE = 0.95
"""What is known to a smaller share, of time or of hosts, is published as unknown."""


def _where_known(name: str, known: str, of: str) -> str:
    """Write a formula that is null where too small a part of a quantity is known."""
    return f"CASE WHEN {known} >= {KNOWN_SHARE} * {of} THEN {name} END"


def _of_holders(metric: Metric) -> bool:
    """Tell whether a formula speaks, through others, of nothing but what somebody holds."""
    return all(
        name in HELD or (name in DERIVED and _of_holders(DERIVED[name]))
        for name in names_in(metric.formula)
    )


def _by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: dict[str, Metric] = _by_name(
    [
        Metric(
            "total", "Total", "The node exists: it is enrolled as a hypervisor, or as a device."
        ),
        Metric(
            "reservable",
            "Reservable",
            "The node is in the pool from which Blazar grants leases.",
            within="total",
        ),
        Metric("committed", "Committed", "A lease holds the node.", within="reservable"),
        Metric(
            "occupied_reservation",
            "Occupied (reservation)",
            "An instance or container launched inside a reservation sits on the node.",
            within="committed",
        ),
        Metric(
            "occupied_ondemand",
            "Occupied (on demand)",
            "An instance launched outside any reservation sits on a KVM host.",
        ),
        Metric(
            "active_reservation",
            "Active (reservation)",
            "That instance or container, launched inside a reservation, runs.",
            within="occupied_reservation",
        ),
        Metric(
            "active_ondemand",
            "Active (on demand)",
            "That instance, launched outside any reservation, runs.",
            within="occupied_ondemand",
        ),
        Metric(
            "occupied",
            "Occupied",
            "An instance or container sits on the node.",
            "occupied_reservation + occupied_ondemand",
            within="total",
        ),
        Metric(
            "active",
            "Active",
            "An instance or container on the node runs.",
            "active_reservation + active_ondemand",
        ),
        Metric(
            "maintenance",
            "Maintenance",
            "The node exists but is out of service: out of Blazar's pool, or in a maintenance "
            "window.",
            "maintenance_out_of_pool + maintenance_in_pool + maintenance_ondemand",
        ),
        Metric(
            "unknown",
            "Unknown",
            "The node exists, and no record says whether it could be reserved: total - reservable "
            "where Blazar does not know the node (bare metal, devices).",
        ),
        Metric(
            "ondemand_capacity",
            "On-demand capacity",
            "KVM capacity outside Blazar's pool: total - reservable of KVM hosts.",
        ),
        Metric(
            "available",
            "Available",
            "The node could be leased, and no lease holds it.",
            "reservable - committed - (maintenance_in_pool + occupied_ondemand_in_pool)",
        ),
        Metric(
            "idle",
            "Idle",
            "A lease holds the node, and no instance sits on it.",
            "committed - occupied_reservation",
        ),
        Metric(
            "stopped",
            "Stopped",
            "An instance or container sits on the node and does not run (building included).",
            "occupied - active",
        ),
        Metric(
            "available_ondemand",
            "Available (on demand)",
            "KVM capacity outside the pool with no instance on it.",
            "ondemand_capacity - (occupied_ondemand - occupied_ondemand_in_pool)"
            " - maintenance_ondemand",
        ),
        Metric(
            "reservable_unusable",
            "Reservable, unusable",
            "The node is in the pool, and a status record says that it is out of use: broken, in "
            "planned maintenance or disabled, whoever holds it. Null where status records speak of "
            f"less than {KNOWN_SHARE:.0%} of reservable.",
            _where_known("unusable_in_pool", "status_known_in_pool", "reservable"),
            within="reservable",
        ),
        Metric(
            "reservable_usable",
            "Reservable, usable",
            "The node is in the pool, and no status record says that it is out of use.",
            "reservable - reservable_unusable",
            within="reservable",
        ),
        Metric(
            "out_of_use_broken",
            "Out of use: broken",
            "A service found the node at fault, or was told that it is down. Null, as the next "
            f"three, where status records speak of less than {KNOWN_SHARE:.0%} of total.",
            _where_known("broken", "status_known", "total"),
            within="total",
        ),
        Metric(
            "out_of_use_planned",
            "Out of use: planned maintenance",
            "The node is not known to be broken, and has a maintenance flag or window.",
            _where_known("planned", "status_known", "total"),
            within="total",
        ),
        Metric(
            "out_of_use_disabled",
            "Out of use: disabled",
            "Neither of them, but the node or its service is disabled, retired or not on offer.",
            _where_known("disabled", "status_known", "total"),
            within="total",
        ),
        Metric(
            "out_of_use_unexplained",
            "Out of use: unexplained",
            "The node is out of the pool, and no status record says why (bare metal, devices).",
            _where_known("unexplained", "status_known", "total"),
            within="total",
        ),
    ]
)

HOST_BY_HOST: dict[str, str] = {
    "unknown": METRICS["unknown"].definition,
    "ondemand_capacity": METRICS["ondemand_capacity"].definition,
    "maintenance_out_of_pool": "total - reservable where Blazar knows the node (bare metal, "
    "devices).",
    "maintenance_in_pool": "Maintenance windows in Blazar's pool, while nothing holds the node.",
    "maintenance_ondemand": "Maintenance windows of KVM capacity outside the pool, while nothing "
    "holds it.",
    "occupied_ondemand_in_pool": "occupied_ondemand on hosts in the pool, where no lease can have "
    "it.",
    "status_known_in_pool": "Hosts in the pool of which a status record speaks.",
    "unusable_in_pool": "Those of them that one says are out of use.",
    "status_known": "Hosts of which a status record speaks, in the pool or not.",
    "broken": "Those that one says are broken.",
    "planned": "Those that one says are in planned maintenance, and none that they are broken.",
    "disabled": "Those that one says are disabled, and none that they are planned or broken.",
    "unexplained": "maintenance_out_of_pool where no status record says that the host is out of "
    "use.",
}
"""What formulas speak of and only a reading host by host tells: the corrected collector's."""

IN_POOL = frozenset({"maintenance_in_pool", "occupied_ondemand_in_pool"})
"""Those that need only ``reservable``: a collector that does not count them takes them as 0. The
others need ``total``, too, and are unknown to such a collector."""

CAUSES = ("broken", "planned", "disabled")
"""Why a host is out of use; of several at once the first counts (reconstruct.usable)."""

STATUS = "status"
"""Told of where a source says whether hosts can be used; no quantity type of its own."""

SCHEDULE = "schedule"
"""What a source speaks of whose service keeps the bookings that are over."""

OF_STATUS = frozenset(
    {"status_known_in_pool", "unusable_in_pool", "status_known", *CAUSES, "unexplained"}
)
"""Those that need a source of ``STATUS``."""

UNCOUNTED: dict[str, tuple[str, ...]] = {
    "reservable_unknown": ("reservable",),
    "committed_unknown": ("committed",),
    "occupied_reservation_unknown": ("occupied_reservation", "active_reservation"),
    "occupied_ondemand_unknown": ("occupied_ondemand", "active_ondemand"),
}
"""Nodes that may belong to quantities, and nobody can tell, because what told was deleted for good:
a quantity is unknown where they are more than 5 % of it. The corrected collector's alone."""

MEASURED: tuple[str, ...] = tuple(
    name for name, metric in METRICS.items() if not metric.formula and name not in HOST_BY_HOST
)
"""The quantity types that every reading of intervals gives."""

DERIVED: dict[str, Metric] = _by_name(metric for metric in METRICS.values() if metric.formula)
"""The count types that are algebra, each after those of which its formula speaks."""


HELD: tuple[str, ...] = tuple(name for name in MEASURED if name not in ("total", "reservable"))
"""The measured quantity types that somebody holds: those that belong to a project."""

OF_PROJECTS: tuple[str, ...] = (
    *HELD,
    *(name for name, metric in DERIVED.items() if _of_holders(metric)),
)
"""The count types that belong to a project: what it holds, and what is algebra of that alone."""


HOLD: tuple[str, ...] = ("committed", "occupied_ondemand")
"""What a project holds, and others cannot have: what it leased, and what it has without a lease."""


def needs(name: str, collector: str) -> frozenset[str] | None:
    """List the measured quantity types without which a collector does not know a quantity.

    Args:
        name: of a count type, or of ``HOST_BY_HOST``.
        collector: one that reads intervals.

    Returns:
        their names, and ``STATUS`` if it takes that; None for what the collector never tells.
    """
    if name in MEASURED:
        return frozenset({name})
    if name in HOST_BY_HOST:
        if collector != "corrected":
            return frozenset() if name in IN_POOL else None
        status = {STATUS} if name in OF_STATUS else set()
        return frozenset({"reservable"} if name in IN_POOL else {"reservable", "total"} | status)
    parts = [needs(operand, collector) for operand in names_in(DERIVED[name].formula)]
    known = [part for part in parts if part is not None]
    return frozenset().union(*known) if len(known) == len(parts) else None


PARTITION: tuple[str, ...] = (
    "maintenance",
    "available",
    "idle",
    "stopped",
    "active",
    "available_ondemand",
    "unknown",
)
"""Disjoint at every instant, and together the total."""

USE: dict[str, str] = {
    "used": "COALESCE(occupied, 0)",
    "leased": "CASE WHEN occupied IS NULL THEN committed ELSE 0 END",
    "available": (
        "GREATEST(reservable + ondemand_capacity - COALESCE(occupied, committed)"
        " - (COALESCE(reservable - committed - available, 0)"
        " + COALESCE(ondemand_capacity - occupied_ondemand - available_ondemand, 0)), 0)"
    ),
}
"""How full a site is: the parts that figures and dashboards show, over count types.

``leased`` is what leases hold where nobody knows how much of it is used. ``available`` is what
else could have been used: all capacity, less what is held, less what maintenance windows take from
``available`` and ``available_ondemand``.
"""

USE_IS_KNOWN = (
    "total IS NOT NULL AND reservable IS NOT NULL AND ondemand_capacity IS NOT NULL"
    " AND (occupied IS NOT NULL OR committed IS NOT NULL)"
)
"""Whether ``USE`` is known; its parts are null elsewhere."""

WIDE_NAMES: dict[str, str] = {
    "occupied_reservation": "occupied_reserved",
    "active_reservation": "active_reserved",
}
"""Count type to the column of ``usage_wide``, where dashboards and reports call it otherwise."""

RESOURCES: dict[str, str] = {
    "nodes": "nodes",
    "vcpus": "vCPUs",
    "memory_mb": "MiB of memory",
    "disk_gb": "GiB of disk",
    "gpus": "GPUs",
}
"""Resource name to unit. On KVM a node is counted by vCPUs over the host's physical vCPUs."""

COLLECTORS: dict[str, str] = {
    "legacy": "The daily caches that the testbed's earlier collector wrote at the time.",
    "uncorrected": "Each row of today's databases taken at its word.",
    "corrected": "After source priority, gap-filling, merging and clamping.",
}
"""Collector type to definition. The twin adds ``truth``, for validation only."""

LEADTIMES: dict[str, str] = {
    "requested": "lease start_date - lease created_at, in hours",
    "effective": "first real start (first successful create among the lease's instances, "
    "else its completed start_lease event) - lease created_at, in hours",
    "projected": "wait until the scheduler, by the bookings that it knew at the time, could have "
    "given one node for 24 hours, in hours",
}
