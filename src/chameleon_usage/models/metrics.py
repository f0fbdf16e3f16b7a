"""The metric registry: every count type and resource once, with its unit, formula and definition.

Schemas, captions and the metrics page of the book all read it; nothing else defines a metric.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One published quantity.

    Attributes:
        name: the value of ``count_type`` in every table.
        label: how figures and prose call it.
        unit: of ``value`` in ``usage_timeline``.
        formula: over other count types; empty for a quantity that is measured.
        definition: one sentence.
        measured: a quantity type seen in records, not derived by algebra.
    """

    name: str
    label: str
    unit: str
    formula: str
    definition: str

    @property
    def measured(self) -> bool:
        """Whether records tell it, so that no formula does."""
        return not self.formula


_NODES = "nodes (time-weighted mean over the bucket)"


def _metrics(*rows: tuple[str, str, str, str]) -> dict[str, Metric]:
    return {
        name: Metric(name, label, _NODES, formula, definition)
        for name, label, formula, definition in rows
    }


METRICS: dict[str, Metric] = _metrics(
    ("total", "Total", "", "The node exists: it is enrolled as a hypervisor, or as a device."),
    ("reservable", "Reservable", "", "The node is in the pool from which Blazar grants leases."),
    ("committed", "Committed", "", "A lease holds the node."),
    (
        "occupied_reservation",
        "Occupied (reservation)",
        "",
        "An instance or container launched inside a reservation sits on the node.",
    ),
    (
        "occupied_ondemand",
        "Occupied (on demand)",
        "",
        "An instance launched outside any reservation sits on a KVM host.",
    ),
    (
        "active_reservation",
        "Active (reservation)",
        "",
        "That instance or container, launched inside a reservation, runs.",
    ),
    (
        "active_ondemand",
        "Active (on demand)",
        "",
        "That instance, launched outside any reservation, runs.",
    ),
    (
        "occupied",
        "Occupied",
        "occupied_reservation + occupied_ondemand",
        "An instance or container sits on the node.",
    ),
    (
        "active",
        "Active",
        "active_reservation + active_ondemand",
        "An instance or container on the node runs.",
    ),
    (
        "maintenance",
        "Maintenance",
        "total - reservable where Blazar knows the node (bare metal, devices), "
        "plus maintenance windows while nothing holds the node",
        "The node exists but is out of service: out of Blazar's pool, or in a maintenance window.",
    ),
    (
        "unknown",
        "Unknown",
        "total - reservable where Blazar does not know the node (bare metal, devices)",
        "The node exists, and no record says whether it could be reserved.",
    ),
    (
        "ondemand_capacity",
        "On-demand capacity",
        "total - reservable (KVM hosts)",
        "KVM capacity outside Blazar's pool.",
    ),
    (
        "available",
        "Available",
        "reservable - committed - maintenance windows within it",
        "The node could be leased, and no lease holds it.",
    ),
    (
        "idle",
        "Idle",
        "committed - occupied_reservation",
        "A lease holds the node, and no instance sits on it.",
    ),
    (
        "stopped",
        "Stopped",
        "occupied - active",
        "An instance or container sits on the node and does not run (building included).",
    ),
    (
        "available_ondemand",
        "Available (on demand)",
        "ondemand_capacity - occupied_ondemand - maintenance windows within it",
        "KVM capacity outside the pool with no instance on it.",
    ),
)

MEASURED: tuple[str, ...] = tuple(name for name, metric in METRICS.items() if metric.measured)
"""The quantity types that segments carry; every other count type is algebra over them."""

OPERANDS: dict[str, tuple[str, ...]] = {
    "occupied": ("occupied_reservation", "occupied_ondemand"),
    "active": ("active_reservation", "active_ondemand"),
    "available": ("reservable", "committed"),
    "idle": ("committed", "occupied_reservation"),
    "stopped": (
        "occupied_reservation",
        "occupied_ondemand",
        "active_reservation",
        "active_ondemand",
    ),
    "maintenance": ("total", "reservable"),
    "unknown": ("total", "reservable"),
    "ondemand_capacity": ("total", "reservable"),
    "available_ondemand": ("total", "reservable", "occupied_ondemand"),
}
"""Derived count type to the measured quantity types without which it is not emitted."""

HOST_BY_HOST = frozenset({"maintenance", "unknown", "ondemand_capacity", "available_ondemand"})
"""Count types that need a reading host by host; only the corrected collector has them."""

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
}
