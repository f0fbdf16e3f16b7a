"""The frames between the stages, and the output tables: columns, types and keys.

Times inside the pipeline are naive UTC in whole seconds; in the outputs they carry their zone.
"""

import polars as pl

from chameleon_usage.models.contract import dy
from chameleon_usage.models.metrics import COLLECTORS, LEADTIMES, MEASURED, METRICS, RESOURCES
from chameleon_usage.models.raw import RAW_TABLES

_COLLECTOR_TYPES = list(COLLECTORS)
_COUNT_TYPES = list(METRICS)
_RESOURCES = list(RESOURCES)

STATES = ("present", "absent")
QUANTITIES = ("total", "reservable", "committed", "occupied", "active")
"""What facts speak of; segments tell more kinds of it."""
WITNESSES = "witnesses"
"""Stands for every record that names a host and is not of the quantity's own sources."""
HOLDINGS = (
    *MEASURED,
    "unknown",
    "ondemand_capacity",
    "maintenance_out_of_pool",
    "maintenance_in_pool",
    "maintenance_ondemand",
    "occupied_ondemand_in_pool",
)
"""What segments speak of: the measured quantity types, and what the derived states are made of."""
SOURCES = (*sorted(RAW_TABLES), WITNESSES)
"""Who can bear witness: every input table, in an order that settles ties."""
POLICIES = ("authoritative", "gap-fill", "supplement")
"""How several sources of one quantity make one history; see engine.resolve_source_priority."""


def _time(**options: object) -> dy.Datetime:
    return dy.Datetime(time_unit="us", **options)  # type: ignore[arg-type]


def _stamp(**options: object) -> dy.Datetime:
    return dy.Datetime(time_unit="us", time_zone="UTC", **options)  # type: ignore[arg-type]


# --- stages ---------------------------------------------------------------------------------


class Facts(dy.Schema):
    """From this source: at this time this entity entered this state, for this quantity."""

    timestamp = _time(primary_key=True)
    source = dy.Enum(list(SOURCES), primary_key=True)  # the table that says so
    entity_id = dy.Categorical(primary_key=True)  # its row's key; "<key>/<n>" for its n-th host
    quantity_type = dy.Enum(list(QUANTITIES), primary_key=True)
    state = dy.Enum(list(STATES))


class Entities(dy.Schema):
    """What is known of each entity; what is not known is null."""

    source = dy.Enum(list(SOURCES), primary_key=True)
    entity_id = dy.Categorical(primary_key=True)
    quantity_type = dy.Enum(list(QUANTITIES), primary_key=True)
    hostname = dy.Categorical(nullable=True)  # hypervisor_hostname, or the device's name
    host_id = dy.Categorical(nullable=True)  # Blazar's id of the host or device
    host_class = dy.Categorical(nullable=True)  # bare_metal, kvm or device
    node_type = dy.Categorical(nullable=True)
    nodes = dy.Int64()  # whole nodes held; 1 but for records that name no host
    vcpus = dy.Int64(nullable=True)
    memory_mb = dy.Int64(nullable=True)
    disk_gb = dy.Int64(nullable=True)
    gpus = dy.Int64(nullable=True)
    reservation_id = dy.Categorical(nullable=True)
    lease_id = dy.Categorical(nullable=True)
    project_id = dy.Categorical(nullable=True)
    inferred = dy.Bool()  # a bound or the host came from another record


class Profiles(dy.Schema):
    """What a host was, from ``start`` until its next row: node type and physical size."""

    hostname = dy.String(primary_key=True)
    start = _time(primary_key=True)
    source = dy.String(primary_key=True)
    host_class = dy.String(nullable=True)
    node_type = dy.String(nullable=True)
    vcpus = dy.Int64(nullable=True)
    memory_mb = dy.Int64(nullable=True)
    disk_gb = dy.Int64(nullable=True)
    gpus = dy.Int64(nullable=True)


class Segments(dy.Schema):
    """Who held what, when: disjoint per host for bare metal, step functions of sums for KVM."""

    collector_type = dy.Enum(_COLLECTOR_TYPES)
    quantity_type = dy.Enum(list(HOLDINGS))
    source = dy.Enum(list(SOURCES), nullable=True)
    hostname = dy.Categorical(nullable=True)
    node_type = dy.Categorical(nullable=True)
    node_units = dy.Int64()  # nodes = node_units / node_size
    node_size = dy.Int64()
    vcpus = dy.Int64(nullable=True)
    memory_mb = dy.Int64(nullable=True)
    disk_gb = dy.Int64(nullable=True)
    gpus = dy.Int64(nullable=True)
    start = _time()
    end = _time()
    inferred = dy.Bool()


class Bearing(dy.Schema):
    """Each source's own presences within what is published, disjoint per host and source."""

    quantity_type = dy.Enum(list(HOLDINGS))
    source = dy.Enum(list(SOURCES))
    hostname = dy.Categorical()
    start = _time()
    end = _time()


class Rejects(dy.Schema):
    """Every row and hour that was refused, and why."""

    stage = dy.String()
    source = dy.String()
    source_row_id = dy.String()
    reason = dy.String()
    start = _time(nullable=True)
    end = _time(nullable=True)
    hours = dy.Float64(nullable=True)  # entity-hours lost; null where the row tells none


class JoinLog(dy.Schema):
    """What every join kept and lost."""

    name = dy.String(primary_key=True)
    rows_left = dy.Int64()
    matched = dy.Int64()  # left rows with at least one partner
    unmatched = dy.Int64()
    fan_out = dy.Float64()  # rows out per matched left row


class Legacy(dy.Schema):
    """The legacy caches as count types: one row per UTC date, node type and count type."""

    timestamp = _time(primary_key=True)
    node_type = dy.String(primary_key=True)
    count_type = dy.String(primary_key=True)
    value = dy.Float64()


class Leases(dy.Schema):
    """Leases that ask for nodes, with what their lead times rest on."""

    lease_id = dy.String(primary_key=True)
    node_type = dy.String(nullable=True)
    created_at = _time()
    nodes = dy.Int64(nullable=True)
    requested_h = dy.Float64(nullable=True)
    effective_h = dy.Float64(nullable=True)
    outcome = dy.String()


# --- outputs --------------------------------------------------------------------------------


class UsageTimeline(dy.Schema):
    """Time-weighted mean nodes per site, bucket, collector and count type."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    collector_type = dy.Enum(_COLLECTOR_TYPES, primary_key=True)
    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    value = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)


class UsageByResource(dy.Schema):
    """As UsageTimeline, for every resource."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    collector_type = dy.Enum(_COLLECTOR_TYPES, primary_key=True)
    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    resource = dy.Enum(_RESOURCES, primary_key=True)
    value = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)


class UsageByNodeType(dy.Schema):
    """As UsageByResource, for every node type; rows with a value only.

    In the readings of facts a node type has the count types that it ever has any of, in the
    buckets in which it has any of any; of the legacy collector, what its caches list.
    """

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    collector_type = dy.Enum(_COLLECTOR_TYPES, primary_key=True)
    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    resource = dy.Enum(_RESOURCES, primary_key=True)
    node_type = dy.String(primary_key=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


class UsageByHost(dy.Schema):
    """Mean nodes per host; rows with a value only, as for node types."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    collector_type = dy.Enum(_COLLECTOR_TYPES, primary_key=True)
    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    hypervisor_hostname = dy.String(primary_key=True)
    node_type = dy.String(nullable=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


class LeadtimeLeases(dy.Schema):
    """One row per lease that asks for nodes; hours between its creation and its start."""

    site = dy.String(primary_key=True)
    lease_id = dy.String(primary_key=True)
    node_type = dy.String(nullable=True)
    created_at = _stamp()
    nodes = dy.Int64(nullable=True)
    requested_h = dy.Float64(nullable=True)
    effective_h = dy.Float64(nullable=True)
    outcome = dy.String()


class LeadtimeTimeline(dy.Schema):
    """Lead time in hours at the time of the request; the median where several share it."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    leadtime_type = dy.Enum(list(LEADTIMES), primary_key=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


class Comparison(dy.Schema):
    """The three collectors side by side, in nodes."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    legacy = dy.Float64(nullable=True)
    uncorrected = dy.Float64(nullable=True)
    corrected = dy.Float64(nullable=True)
    difference = dy.Float64(nullable=True)  # corrected - legacy
    relative_difference = dy.Float64(nullable=True)  # difference / legacy, null at 0


class ComparisonByNodeType(dy.Schema):
    """The three collectors side by side for each node type, in nodes."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    node_type = dy.String(primary_key=True)
    legacy = dy.Float64(nullable=True)
    uncorrected = dy.Float64(nullable=True)
    corrected = dy.Float64(nullable=True)
    difference = dy.Float64(nullable=True)
    relative_difference = dy.Float64(nullable=True)


class ComparisonCauses(dy.Schema):
    """What accounts for corrected - uncorrected, in node-hours of a year; see core.causes."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)  # the year's first instant
    count_type = dy.String(primary_key=True)
    cause = dy.String(primary_key=True)
    node_hours = dy.Float64(allow_inf=False, allow_nan=False)


class Coverage(dy.Schema):
    """Share of the published host time that a source's own records bear out."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    source = dy.String(primary_key=True)
    quantity_type = dy.String(primary_key=True)
    known_share = dy.Float64(nullable=True, min=0, max=1)


class UsageWide(dy.Schema):
    """One row per bucket and resource, columns as dashboards and KPI reports name them."""

    time = _stamp(primary_key=True)
    site = dy.String(primary_key=True)
    resource = dy.Enum(_RESOURCES, primary_key=True)
    total = dy.Float64(nullable=True)
    reservable = dy.Float64(nullable=True)
    committed = dy.Float64(nullable=True)
    occupied_ondemand = dy.Float64(nullable=True)
    occupied_reserved = dy.Float64(nullable=True)
    active_ondemand = dy.Float64(nullable=True)
    active_reserved = dy.Float64(nullable=True)


class Ablation(dy.Schema):
    """The corrected count with one correction left out, in nodes; see core.ablation."""

    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)
    left_out = dy.String(primary_key=True)  # "nothing" for the corrected count itself
    count_type = dy.String(primary_key=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


OUTPUTS: dict[str, type[dy.Schema]] = {
    "usage_timeline": UsageTimeline,
    "usage_by_resource": UsageByResource,
    "usage_by_node_type": UsageByNodeType,
    "usage_by_host": UsageByHost,
    "leadtime_leases": LeadtimeLeases,
    "leadtime_timeline": LeadtimeTimeline,
    "comparison": Comparison,
    "comparison_by_node_type": ComparisonByNodeType,
    "comparison_causes": ComparisonCauses,
    "coverage": Coverage,
    "rejects": Rejects,
    "join_log": JoinLog,
    "usage_wide": UsageWide,
}
"""Output table to its contract: exactly these columns, types and keys."""

OPTIONAL_OUTPUTS = frozenset({"usage_by_host"})
"""Written on request only."""


def empty(schema: type[dy.Schema]) -> pl.DataFrame:
    """Give a frame with a schema's columns and no row."""
    return schema.create_empty()
