"""The output tables: columns, types and keys."""

from chameleon_usage.models.frames import dy
from chameleon_usage.models.metrics import COLLECTORS, LEADTIMES, METRICS, RESOURCES
from chameleon_usage.models.stages import JoinLog, Rejects

_COLLECTOR_TYPES = list(COLLECTORS)
_COUNT_TYPES = list(METRICS)
_RESOURCES = list(RESOURCES)


def _stamp(**options: object) -> dy.Datetime:
    return dy.Datetime(time_unit="us", time_zone="UTC", **options)  # type: ignore[arg-type]


class _Timed(dy.Schema):
    site = dy.String(primary_key=True)
    timestamp = _stamp(primary_key=True)  # of a bucket, its first instant


class _Counted(_Timed):
    collector_type = dy.Enum(_COLLECTOR_TYPES, primary_key=True)
    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)


class UsageTimeline(_Counted):
    """Time-weighted mean nodes per site, bucket, collector and count type."""

    value = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)


class UsageByResource(_Counted):
    """As UsageTimeline, for every resource."""

    resource = dy.Enum(_RESOURCES, primary_key=True)
    value = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)


class UsageByNodeType(_Counted):
    """As UsageByResource, for every node type; rows with a value only.

    Of the uncorrected and corrected collectors a node type has the count types that are ever more
    than 0, in the buckets in which at least one is; of the legacy one, what its caches list.
    """

    resource = dy.Enum(_RESOURCES, primary_key=True)
    node_type = dy.String(primary_key=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


class UsageByHost(_Counted):
    """Mean nodes per host; rows with a value only, as for node types."""

    hypervisor_hostname = dy.String(primary_key=True)
    node_type = dy.String(nullable=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


class UsageByProject(_Timed):
    """Mean use per project, corrected collector only; rows with a value other than 0 only.

    A project may use several node types at once, so that node_type is part of the key. Over
    projects and node types the rows add up to usage_by_resource, wherever that is known. What no
    row gives a project is that of ``unknown``. Of two projects that claim a node at once the one
    that came first holds it. What sits or runs in a lease of a whole node or device is that of the
    lease's project. Idle is negative where a project's slices of a KVM host hold more than it
    leased there.
    """

    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    resource = dy.Enum(_RESOURCES, primary_key=True)
    project_id = dy.String(primary_key=True)
    node_type = dy.String(primary_key=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


class SessionsByProject(_Timed):
    """Instances and containers of each project, by the node type on which they began.

    A session lasts from its creation to its last second on a node, what it was shelved included.
    Rows for buckets in which there is at least one.
    """

    project_id = dy.String(primary_key=True)
    node_type = dy.String(primary_key=True)
    started = dy.Int64(min=0)  # began in the bucket
    ended = dy.Int64(min=0)  # had its last second in it
    present = dy.Int64(min=1)  # was there at some time of it
    launched = dy.Int64(min=0)  # first ran in it
    build_seconds = dy.Int64(min=0)  # from their creation till then, added up


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


class LeadtimeTimeline(_Timed):
    """Lead time in hours at the time of the request; the median where several share it."""

    leadtime_type = dy.Enum(list(LEADTIMES), primary_key=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


class LeaseUse(_Timed):
    """How leases used the whole nodes they held, in node-hours of a month; see usage.lease_use."""

    node_type = dy.String(primary_key=True)
    reserved_h = dy.Float64(allow_inf=False, allow_nan=False)  # the sum of the next five
    used_h = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)
    idle_before_h = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)
    idle_between_h = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)
    idle_after_h = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)
    never_used_h = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)
    given_back_h = dy.Float64(allow_inf=False, allow_nan=False)  # not reserved any more
    leases = dy.Int64()  # that began to hold a node in the month
    no_shows = dy.Int64(nullable=True)  # of them
    released_early = dy.Int64()
    extended = dy.Int64(nullable=True)  # null: no earlier version of their rows is known


class LeadtimeProjected(_Timed):
    """Wait for a number of nodes of a type, by what the scheduler knew at the start of each day.

    Hours until that many nodes of the pool were first free together for 24 hours; no row where the
    pool had fewer, null where an end that was written over makes a difference of more than an hour.
    """

    node_type = dy.String(primary_key=True)
    nodes = dy.Int64(primary_key=True, min=1)
    value = dy.Float64(nullable=True, min=0, allow_inf=False, allow_nan=False)


class Comparison(_Timed):
    """The three collectors side by side, in nodes."""

    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    legacy = dy.Float64(nullable=True)
    uncorrected = dy.Float64(nullable=True)
    corrected = dy.Float64(nullable=True)
    difference = dy.Float64(nullable=True)  # corrected - legacy
    relative_difference = dy.Float64(nullable=True)  # difference / legacy, null at 0


class ComparisonByNodeType(_Timed):
    """The three collectors side by side for each node type, in nodes."""

    count_type = dy.Enum(_COUNT_TYPES, primary_key=True)
    node_type = dy.String(primary_key=True)
    legacy = dy.Float64(nullable=True)
    uncorrected = dy.Float64(nullable=True)
    corrected = dy.Float64(nullable=True)
    difference = dy.Float64(nullable=True)
    relative_difference = dy.Float64(nullable=True)


class ComparisonCauses(_Timed):
    """What accounts for corrected - uncorrected, in node-hours of a year; see usage.causes."""

    count_type = dy.String(primary_key=True)
    cause = dy.String(primary_key=True)
    node_hours = dy.Float64(allow_inf=False, allow_nan=False)


class Coverage(_Timed):
    """Share of the published host time that a source's own rows support."""

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


OUTPUTS: dict[str, type[dy.Schema]] = {
    "usage_timeline": UsageTimeline,
    "usage_by_resource": UsageByResource,
    "usage_by_node_type": UsageByNodeType,
    "usage_by_host": UsageByHost,
    "usage_by_project": UsageByProject,
    "sessions_by_project": SessionsByProject,
    "leadtime_leases": LeadtimeLeases,
    "leadtime_timeline": LeadtimeTimeline,
    "lease_use": LeaseUse,
    "leadtime_projected": LeadtimeProjected,
    "comparison": Comparison,
    "comparison_by_node_type": ComparisonByNodeType,
    "comparison_causes": ComparisonCauses,
    "coverage": Coverage,
    "rejects": Rejects,
    "join_log": JoinLog,
    "usage_wide": UsageWide,
}
"""Output table to its contract: exactly these columns, types and keys."""

PROJECT_TABLES = frozenset({"usage_by_project", "sessions_by_project"})
"""Those that tell projects apart."""

OPTIONAL_OUTPUTS = frozenset({"usage_by_host"}) | PROJECT_TABLES
"""Written on request only."""
