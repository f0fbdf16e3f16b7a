"""The frames between the stages: columns, types and keys.

Times inside the pipeline are naive UTC in whole seconds; in the outputs they carry their zone.
"""

from dataclasses import dataclass, field, fields

import polars as pl

from chameleon_usage.models.frames import dy
from chameleon_usage.models.metrics import COLLECTORS
from chameleon_usage.models.vocabulary import HOLDINGS, QUANTITIES, SOURCES, STATES

_COLLECTOR_TYPES = list(COLLECTORS)


def _time(**options: object) -> dy.Datetime:
    return dy.Datetime(time_unit="us", **options)  # type: ignore[arg-type]


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


class SourceSupport(dy.Schema):
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


MAINTENANCE = {
    "hostname": pl.String(),
    "start": pl.Datetime("us"),
    "end": pl.Datetime("us"),
}


ASIDE = {"source": pl.String(), "source_row_id": pl.String()}


COMPLETENESS = {"quantity_type": pl.String(), "source": pl.String(), "share": pl.Float64()}


@dataclass(frozen=True)
class Ingested:
    """Everything the adapters of a site say; results of several adapters are concatenated.

    Attributes:
        facts, entities: who entered which state when, and what is known of them (Facts,
            Entities).
        profiles: node type and physical size of hosts over time (Profiles).
        leases: lead times of leases that ask for nodes (Leases).
        legacy: the legacy caches as count types (Legacy).
        maintenance: windows of hosts: hostname, start, end.
        completeness: quantity_type, source, share: the quantities that a source speaks of, and
            the share of its rows that it still holds (1 unless rows were deleted for good).
        aside: source, source_row_id: rows that say nothing of a node, as another service's.
        rejects, join_log: the audit (Rejects, JoinLog).
    """

    facts: pl.DataFrame = field(default_factory=Facts.create_empty)
    entities: pl.DataFrame = field(default_factory=Entities.create_empty)
    profiles: pl.DataFrame = field(default_factory=Profiles.create_empty)
    leases: pl.DataFrame = field(default_factory=Leases.create_empty)
    legacy: pl.DataFrame = field(default_factory=Legacy.create_empty)
    maintenance: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=MAINTENANCE))
    completeness: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=COMPLETENESS))
    aside: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ASIDE))
    rejects: pl.DataFrame = field(default_factory=Rejects.create_empty)
    join_log: pl.DataFrame = field(default_factory=JoinLog.create_empty)

    def tables(self) -> dict[str, pl.DataFrame]:
        """Give the frames by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}
