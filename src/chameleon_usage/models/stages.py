"""The frames between the stages: columns, types and keys.

Times inside the pipeline are naive UTC in whole seconds; in the outputs they carry their zone.
"""

from dataclasses import dataclass, field, fields
from functools import partial

import polars as pl

from chameleon_usage.models.frames import conform, dy, empty
from chameleon_usage.models.metrics import CAUSES, COLLECTORS, HELD
from chameleon_usage.models.raw import QUANTITIES
from chameleon_usage.models.vocabulary import (
    HOLDINGS,
    REASONS,
    REJECT_STAGES,
    SOURCES,
    STATES,
    Reason,
)

_COLLECTOR_TYPES = list(COLLECTORS)


def _time(**options: object) -> dy.Datetime:
    return dy.Datetime(time_unit="us", **options)  # type: ignore[arg-type]


class Entities(dy.Schema):
    """What is known of each entity; what is not known is null."""

    source = dy.Enum(list(SOURCES), primary_key=True)  # the table that tells of it
    entity_id = dy.Categorical(primary_key=True)  # its row's key; "<key>/<n>" for its n-th host
    quantity_type = dy.Enum(list(QUANTITIES), primary_key=True)
    hostname = dy.Categorical(nullable=True)  # hypervisor_hostname, or the device's name
    host_id = dy.Categorical(nullable=True)  # Blazar's id of the host or device
    host_class = dy.Categorical(nullable=True)  # bare_metal, kvm or device
    node_type = dy.Categorical(nullable=True)
    nodes = dy.Int64()  # whole nodes held; 1 but for rows that name no host
    asked = dy.Int64(nullable=True)  # nodes that its reservation asks for at most
    vcpus = dy.Int64(nullable=True)
    memory_mb = dy.Int64(nullable=True)
    disk_gb = dy.Int64(nullable=True)
    gpus = dy.Int64(nullable=True)
    reservation_id = dy.Categorical(nullable=True)
    unreserved = dy.Bool(nullable=True)  # its request names no reservation; null: no request left
    lease_id = dy.Categorical(nullable=True)
    project_id = dy.Categorical(nullable=True)
    inferred = dy.Bool()  # a bound or the host came from another row


class Intervals(Entities):
    """When each entity was present: what adapters give and the collectors read.

    Intervals of one entity neither overlap nor touch, and none is empty.
    """

    start = _time()
    end = _time(nullable=True)  # null: no row tells an end


MORE, MISSING, REPLACED = "/more", "/missing", "/replaced"
"""End of the entity_id of what a reservation may have held beside what it did, of what it may have
held of what it asked for, as a host was lost, and of an allocation before its host was changed."""


class Schedule(dy.Schema):
    """Bookings of whole nodes: what the scheduler had planned, and from when to when it knew so."""

    entity_id = dy.Categorical()  # the allocation
    host_id = dy.Categorical()  # Blazar's id of the host or device
    hostname = dy.Categorical(nullable=True)
    known_from = _time()
    known_to = _time(nullable=True)  # null: to this day
    start = _time()
    end = _time()
    overwritten = dy.Bool()  # an extension may have moved the end, and nothing tells of it


class StatusIntervals(dy.Schema):
    """When a source speaks of whether a host can be used, and what it says; they may overlap."""

    hostname = dy.String()
    start = _time()
    end = _time()
    cause = dy.Enum(list(CAUSES), nullable=True)  # null: nothing against it
    source = dy.Enum(list(SOURCES))


class Facts(dy.Schema):
    """From this source: at this time this entity entered this state, for this quantity.

    The saved form of ``Intervals``, beside ``Entities``; an interval without an end has one fact.
    """

    timestamp = _time(primary_key=True)
    source = dy.Enum(list(SOURCES), primary_key=True)
    entity_id = dy.Categorical(primary_key=True)
    quantity_type = dy.Enum(list(QUANTITIES), primary_key=True)
    state = dy.Enum(list(STATES))


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


class HeldPieces(dy.Schema):
    """When an allocation or an instance held a host, and how much of it it asked for."""

    quantity_type = dy.Enum(list(HOLDINGS))
    entity_id = dy.Categorical()
    hostname = Entities.hostname  # null: nodes that no row names
    host_class = Entities.host_class
    node_type = Entities.node_type
    nodes = Entities.nodes
    vcpus = Entities.vcpus
    memory_mb = Entities.memory_mb
    disk_gb = Entities.disk_gb
    gpus = Entities.gpus
    reservation_id = Entities.reservation_id
    lease_id = Entities.lease_id
    project_id = Entities.project_id
    start = _time()
    end = _time()


class Holdings(dy.Schema):
    """What each project held, when: the corrected collector's segments, divided among projects.

    Whole nodes on bare metal and devices, parts of a host's sum on KVM; at every instant they add
    up to the segments of the quantity, where what is unknown counts as none.
    """

    quantity_type = dy.Enum(list(HELD))
    project_id = dy.Categorical(nullable=True)
    node_type = dy.Categorical(nullable=True)
    node_units = dy.Int64()  # nodes = node_units / node_size
    node_size = dy.Int64()
    vcpus = dy.Int64()
    memory_mb = dy.Int64()
    disk_gb = dy.Int64()
    gpus = dy.Int64()
    start = _time()
    end = _time()


class Sessions(dy.Schema):
    """Instances and containers that the corrected collector counts, from first to last second."""

    project_id = dy.Categorical(nullable=True)
    node_type = dy.Categorical(nullable=True)  # of the node on which it began
    start = _time()
    end = _time()
    launched_at = _time(nullable=True)  # when it first ran


class SourceSupport(dy.Schema):
    """Each source's own presences within what is published, disjoint per host and source."""

    quantity_type = dy.Enum(list(HOLDINGS))
    source = dy.Enum(list(SOURCES))
    hostname = dy.Categorical()
    start = _time()
    end = _time()


class Rejects(dy.Schema):
    """Every row and hour that was refused, and why."""

    stage = dy.Enum(list(REJECT_STAGES))
    source = dy.Enum(list(SOURCES))
    source_row_id = dy.String()
    reason = dy.Enum(list(REASONS))
    start = _time(nullable=True)
    end = _time(nullable=True)
    hours = dy.Float64(nullable=True)  # entity-hours lost; null where the row tells none


class JoinLog(dy.Schema):
    """What each join that decides whether a row counts kept and lost."""

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
    end_date = _time(nullable=True)  # as it was last asked for
    deleted_at = _time(nullable=True)
    extended = dy.Bool(nullable=True)  # an earlier version of the row had an earlier end


MAINTENANCE = {
    "hostname": pl.Categorical(),
    "start": pl.Datetime("us"),
    "end": pl.Datetime("us"),
}


ASIDE = {"source": pl.Enum(SOURCES), "source_row_id": pl.String()}


COMPLETENESS = {
    "quantity_type": pl.String(),
    "source": pl.String(),
    "keeps": pl.Boolean(),
    "held": pl.Int64(),
    "ever": pl.Int64(),
}


@dataclass(frozen=True)
class Ingested:
    """Everything the adapters of a site say; results of several adapters are concatenated.

    Attributes:
        intervals: when each entity was present, and what is known of it (Intervals).
        profiles: node type and physical size of hosts over time (Profiles).
        leases: lead times of leases that ask for nodes (Leases).
        schedule: what was booked, and since when that was known (Schedule).
        legacy: the legacy caches as count types (Legacy).
        maintenance: windows of hosts: hostname, start, end.
        status: what sources say of whether hosts can be used (StatusIntervals).
        completeness: quantity_type, source, keeps, held, ever: the quantities that a source speaks
            of, whether its service keeps the rows that it deletes, and where rows were deleted for
            good, how many it still holds, and how many it ever had.
        aside: source, source_row_id: rows that say nothing of a node, as another service's.
        rejects, join_log: the audit (Rejects, JoinLog).
    """

    intervals: pl.DataFrame = field(default_factory=partial(empty, Intervals))
    profiles: pl.DataFrame = field(default_factory=partial(empty, Profiles))
    leases: pl.DataFrame = field(default_factory=partial(empty, Leases))
    schedule: pl.DataFrame = field(default_factory=partial(empty, Schedule))
    legacy: pl.DataFrame = field(default_factory=partial(empty, Legacy))
    maintenance: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=MAINTENANCE))
    status: pl.DataFrame = field(default_factory=partial(empty, StatusIntervals))
    completeness: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=COMPLETENESS))
    aside: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ASIDE))
    rejects: pl.DataFrame = field(default_factory=partial(empty, Rejects))
    join_log: pl.DataFrame = field(default_factory=partial(empty, JoinLog))

    def tables(self) -> dict[str, pl.DataFrame]:
        """Give the frames by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def rejects(
    rows: pl.DataFrame, *, stage: str, source: str, reason: pl.Expr | Reason, row_id: str
) -> pl.DataFrame:
    """Make rejects of refused rows.

    Args:
        rows: those refused; hours are those of ``start``..``end`` where both are there.
        stage: of ``REJECT_STAGES``.
        source: the table that they are rows of.
        reason: why, for all of them or as an expression over them.
        row_id: the column with the key of each.

    Returns:
        Rejects.
    """
    bounds = [
        pl.col(name) if name in rows.columns else pl.lit(None, pl.Datetime("us")).alias(name)
        for name in ("start", "end")
    ]
    span = (pl.col("end") - pl.col("start")).dt.total_seconds() / 3600
    return conform(
        rows.with_columns(bounds).with_columns(
            stage=pl.lit(stage),
            source=pl.lit(source),
            source_row_id=pl.col(row_id).cast(pl.String),
            reason=pl.lit(reason) if isinstance(reason, str) else reason,
            hours=pl.when(span.is_not_null()).then(pl.max_horizontal(span, pl.lit(0.0))),
        ),
        Rejects,
    )
