"""The input tables: one declaration for each, which everything else reads.

A table's columns are those that the services' own migrations make (Nova and Zun 2023.1, Chameleon's
Blazar); only the columns that are used are named, so that nothing secret is ever read. A table is
kept as ``<schema>.<table>.parquet``, one file a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

TIME, INT, FLOAT, TEXT = pl.Datetime("us"), pl.Int64(), pl.Float64(), pl.String()
NAME = pl.Categorical()
"""Type of the keys by which large tables are joined: each distinct name is stored once."""

MACHINE_EVENTS, INSTANCE_EVENTS = "trace.machine_events", "trace.instance_events"
LEASE_EVENTS = "trace.lease_events"

QUANTITIES = ("total", "reservable", "committed", "occupied", "active")
"""Quantity types of intervals; segments have more (``vocabulary.HOLDINGS``)."""


@dataclass(frozen=True)
class EndingStatus:
    """How a table without a time of deletion tells that a row is over.

    Attributes:
        column: holds the status.
        values: those of rows that are over.
        at: the column with the time since when.
    """

    column: str
    values: tuple[str, ...]
    at: str


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """What one input table holds, and how its rows are to be read.

    What has no default must be said of every table, if only to say that there is none.

    Attributes:
        label: how figures and prose call it.
        required: column to type; a file without one of them is refused.
        begin: the column that says since when a row holds.
        end: the column that says until when; None where a row that is gone from a later snapshot
            still says what it said, as a request does.
        tells: quantity types of which it may tell.
        key: columns that identify a row; a second row with the same key is a duplicate.
        counted: integers that count up in each cell of Nova, so that they are keys in one only.
        same: columns that two states of one row share; with another value, a row of the same key
            is of another cell.
        optional: column to type; a missing one is read as null (columns that came with a later
            release, or that only some deployments have).
        derived: columns computed while reading, from columns that are not kept (JSON documents).
        archive: the table that holds rows archived out of this one, same columns.
        at_its_word: the uncorrected collector counts its rows.
        rows_of: the table whose rows, and whose keys, its entities are, if it is another one.
        entity: columns that name an entity, where several rows tell of one.
        names_hosts: its rows tell which host they are about.
        ending_status: how rows end where no column has the time of it.
        flag: a column that takes the row out of the count while it is 0.
        held_host: a column that is written over in place: the row held the earlier host until then.
        one_at_a_time: a name that has one row at a time: a row that is gone ended before the next
            row of that name was made.
        taken_away: columns that the service empties, and earlier snapshots still know.
        written_over: columns that the service overwrites; the first value is the right one.
        slot: columns that say what a row describes: a new row with the same values replaces one
            that is gone.
        heartbeat: its updated_at is touched though nothing changes, and so dates no change.
        remade: a file that is made anew from a history of its own, so that the latest says all.
        words: texts that become names when they are validated: few are distinct, or they are
            compared with names.
        used: which of its rows adapters read, if not all: the others are validated and let go.
        reduced: column to what of it adapters read, if not all (None: nothing): likewise.
    """

    label: str
    required: dict[str, pl.DataType]
    begin: str | None
    end: str | None
    tells: tuple[str, ...]
    key: tuple[str, ...] = ("id",)
    optional: dict[str, pl.DataType] = field(default_factory=dict)
    derived: dict[str, pl.Expr] = field(default_factory=dict)
    counted: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    archive: str | None = None
    at_its_word: bool = False
    rows_of: str | None = None
    entity: tuple[str, ...] = ()
    names_hosts: bool = True
    ending_status: EndingStatus | None = None
    flag: str | None = None
    held_host: str | None = None
    one_at_a_time: str | None = None
    taken_away: tuple[str, ...] = ()
    written_over: tuple[str, ...] = ()
    slot: tuple[str, ...] = ()
    heartbeat: bool = False
    remade: bool = False
    words: tuple[str, ...] = ()
    used: pl.Expr | None = None
    reduced: dict[str, pl.Expr | None] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """Every stored column that is read, with its type."""
        return self.required | self.optional

    @property
    def kept(self) -> dict[str, pl.DataType]:
        """The columns of the frame after input validation."""
        return self.validated | dict.fromkeys(self.words, NAME)

    @property
    def validated(self) -> dict[str, pl.DataType]:
        """The columns as they are validated: what documents held in their place, words as text."""
        documents = {
            name for expression in self.derived.values() for name in expression.meta.root_names()
        }
        stored = {name: kind for name, kind in self.columns.items() if name not in documents}
        return stored | dict.fromkeys(self.derived, NAME)


def _texts(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, TEXT)


def _names(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, NAME)


def _times(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, TIME)


def _ints(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, INT)


_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_HINT = rf'"reservation":\s*\[?\s*"({_UUID})"'
_PROPERTY = ("property_id", "capability_id", "capability_name")
"""How a property is named: capability_name until 2020, capability_id until 2024-01, property_id."""


def _detail(label: str, required: dict[str, pl.DataType], **more: Any) -> RawTable:  # noqa: ANN401
    """Declare a table that describes rows of another one and has no time of its own."""
    return RawTable(label=label, required=required, begin=None, end=None, tells=(), **more)


_SOFT_DELETED: dict[str, Any] = {"begin": "created_at", "end": "deleted_at"}
"""Of a table whose rows the service dates itself and keeps when they are deleted."""

CONTAINER_OVER = EndingStatus("status", ("Deleted", "Deleting", "Error"), "updated_at")

LEASE_STARTED = (pl.col("event_type") == "start_lease") & (pl.col("status") == "DONE")
"""Of Blazar's events, those that tell when a lease began."""

HOLD_NO_HOST = ("network", "virtual:floatingip")
"""Types of reservations that are of no host and no device."""

_MARK: dict[str, pl.Expr | None] = {
    "deleted": pl.when(pl.col("deleted").is_in(["", "0"]))
    .then("deleted")
    .when(pl.col("deleted").is_not_null())
    .then(pl.lit("1"))
}
"""Of the flag that a row is deleted, which holds its id then, whether it says so."""

NODE_GONE = EndingStatus("provision_state", ("deleted",), "provision_updated_at")
"""Ironic deletes rows for good; those that only earlier snapshots know are marked so."""

RAW_TABLES: dict[str, RawTable] = {
    # Nova
    "nova.compute_nodes": RawTable(
        label="Nova hosts",
        required=_ints("id") | _texts("hypervisor_hostname") | _times("created_at"),
        optional=_ints("vcpus", "memory_mb", "local_gb", "deleted")
        | _texts("hypervisor_type", "host", "host_ip")
        | _times("updated_at", "deleted_at"),
        counted=("id",),
        same=("hypervisor_hostname",),
        **_SOFT_DELETED,
        tells=("total",),
        at_its_word=True,
        one_at_a_time="hypervisor_hostname",
        archive="nova.shadow_compute_nodes",
    ),
    "nova.services": RawTable(
        label="Nova services",
        required=_ints("id") | _texts("host", "binary") | _times("created_at"),
        optional=_ints("deleted", "disabled", "forced_down")
        | _times("updated_at", "last_seen_up", "deleted_at"),
        counted=("id",),
        same=("host", "binary"),
        **_SOFT_DELETED,
        tells=("total",),
        heartbeat=True,
        archive="nova.shadow_services",
    ),
    "nova.instances": RawTable(
        label="Nova instances",
        key=("uuid",),
        required=_names("uuid") | _texts("node") | _times("created_at"),
        optional=_ints("vcpus", "memory_mb", "root_gb", "ephemeral_gb", "deleted")
        | _texts("host", "project_id", "vm_state")
        | _times("updated_at", "deleted_at", "launched_at", "terminated_at"),
        **_SOFT_DELETED,
        tells=("occupied", "active"),
        at_its_word=True,
        taken_away=("node", "host"),
        written_over=("launched_at",),
        archive="nova.shadow_instances",
        words=("node", "host", "project_id", "vm_state"),
    ),
    "nova.instance_actions": RawTable(
        label="Nova instances and their actions",
        required=_ints("id") | _texts("action") | _names("instance_uuid") | _times("start_time"),
        optional=_times("finish_time"),
        counted=("id",),
        same=("instance_uuid", "action", "start_time"),
        begin="start_time",
        end=None,
        tells=("occupied", "active"),
        rows_of="nova.instances",
        archive="nova.shadow_instance_actions",
        words=("action",),
    ),
    "nova.instance_actions_events": RawTable(
        label="Nova events",
        required=_ints("id", "action_id") | _texts("event", "result") | _times("start_time"),
        optional=_texts("host") | _times("finish_time"),
        counted=("id", "action_id"),
        same=("event", "start_time", "host"),
        begin="start_time",
        end=None,
        tells=(),
        archive="nova.shadow_instance_actions_events",
        words=("event", "result", "host"),
    ),
    "nova.migrations": RawTable(
        label="Nova migrations",
        required=_ints("id") | _names("instance_uuid") | _texts("status") | _times("created_at"),
        optional=_ints("old_instance_type_id", "new_instance_type_id")
        | _texts("source_node", "dest_node", "source_compute", "dest_compute", "migration_type")
        | _times("updated_at"),
        counted=("id",),
        same=("instance_uuid", "created_at"),
        begin="created_at",
        end=None,
        tells=(),
        archive="nova.shadow_migrations",
        words=("source_node", "dest_node", "source_compute", "dest_compute"),
    ),
    "nova_api.flavors": _detail(
        "Nova flavors",
        _ints("id", "vcpus", "memory_mb", "root_gb"),
        optional=_ints("ephemeral_gb"),
    ),
    "nova_api.request_specs": _detail(
        "Nova request specs",
        _names("instance_uuid") | _texts("spec"),
        key=("instance_uuid",),
        derived={
            # The scheduler hint of a bare-metal launch, or the flavor that Blazar made for a slice.
            "hint": pl.col("spec").str.extract(_HINT),
            "flavor": pl.col("spec").str.extract(rf'"reservation:({_UUID})"'),
        },
        taken_away=("hint", "flavor"),
    ),
    # Blazar
    "blazar.leases": RawTable(
        label="Blazar leases",
        required=_names("id") | _times("created_at", "start_date", "end_date"),
        optional=_texts("project_id", "status", "deleted") | _times("updated_at", "deleted_at"),
        **_SOFT_DELETED,
        tells=("committed",),
        names_hosts=False,
        words=("project_id", "status"),
        reduced=_MARK,
    ),
    "blazar.reservations": _detail(
        "Blazar reservations",
        _names("id", "lease_id") | _texts("resource_type"),
        optional=_ints("missing_resources"),
        words=("resource_type",),
        used=~pl.col("resource_type").is_in(HOLD_NO_HOST).fill_null(value=False),
    ),
    "blazar.events": RawTable(
        label="Blazar events",
        required=_texts("id", "lease_id", "event_type", "status") | _times("time"),
        optional=_times("updated_at"),
        begin="time",
        end=None,
        tells=(),
        words=("lease_id", "event_type", "status"),
        used=LEASE_STARTED,
        reduced={"id": None},
    ),
    "blazar.computehosts": RawTable(
        label="Blazar hosts",
        required=_texts("id", "hypervisor_hostname") | _times("created_at"),
        optional=_texts("hypervisor_type", "deleted")
        | _ints("vcpus", "memory_mb", "local_gb", "reservable")
        # soft delete since 2022-05, disabled since 2023-11
        | _ints("disabled")
        | _texts("status")
        | _times("updated_at", "deleted_at"),
        **_SOFT_DELETED,
        tells=("reservable",),
        at_its_word=True,
        flag="reservable",
        one_at_a_time="hypervisor_hostname",
        words=("id", "hypervisor_hostname"),
    ),
    "blazar.computehost_allocations": RawTable(
        label="Blazar allocations",
        required=_names("id", "reservation_id") | _texts("compute_host_id") | _times("created_at"),
        optional=_texts("deleted")
        | _times("updated_at", "deleted_at"),  # soft delete since 2018-07
        **_SOFT_DELETED,
        tells=("committed",),
        at_its_word=True,
        held_host="compute_host_id",
        words=("compute_host_id",),
        reduced=_MARK,
    ),
    "blazar.computehost_reservations": _detail(
        "Blazar host reservations",
        _texts("id") | _names("reservation_id") | _texts("resource_properties", "count_range"),
        words=("resource_properties", "count_range"),
        reduced={"id": None},
    ),
    "blazar.instance_reservations": _detail(
        "Blazar instance reservations",
        _names("id", "reservation_id") | _ints("vcpus", "memory_mb", "disk_gb", "amount"),
    ),
    "blazar.computehost_extra_capabilities": _detail(
        "Blazar host properties",
        _texts("id", "computehost_id", "capability_value"),
        optional=_texts(*_PROPERTY) | _times("deleted_at"),
        slot=("computehost_id", *_PROPERTY),
        words=("computehost_id",),
    ),
    "blazar.resource_properties": _detail("Blazar property names", _texts("id", "property_name")),
    "blazar.extra_capabilities": _detail(  # the same until 2024-01
        "Blazar capability names", _texts("id", "capability_name")
    ),
    "blazar.devices": RawTable(
        label="Blazar devices",
        required=_texts("id", "name") | _times("created_at"),
        optional=_ints("reservable") | _texts("deleted") | _times("updated_at", "deleted_at"),
        **_SOFT_DELETED,
        tells=("total", "reservable"),
        at_its_word=True,
        flag="reservable",
        one_at_a_time="name",
        words=("id", "name"),
    ),
    "blazar.device_allocations": RawTable(
        label="Blazar device allocations",
        required=_names("id", "reservation_id") | _texts("device_id") | _times("created_at"),
        optional=_texts("deleted") | _times("updated_at", "deleted_at"),
        **_SOFT_DELETED,
        tells=("committed",),
        at_its_word=True,
        held_host="device_id",
        words=("device_id",),
    ),
    "blazar.device_reservations": _detail(
        "Blazar device reservations",
        _names("id", "reservation_id") | _texts("resource_properties", "count_range"),
        words=("resource_properties", "count_range"),
    ),
    "blazar.device_extra_capabilities": _detail(
        "Blazar device properties",
        _texts("id", "device_id", "capability_value"),
        optional=_texts(*_PROPERTY) | _times("deleted_at"),
        slot=("device_id", *_PROPERTY),
        words=("device_id",),
    ),
    # Zun
    "zun.container": RawTable(
        label="Zun containers",
        key=("uuid",),
        required=_ints("id") | _names("uuid") | _texts("host", "status") | _times("created_at"),
        optional=_times("updated_at", "started_at") | _texts("project_id", "annotations"),
        words=("project_id",),
        # Where the deployment notes it: the reservation in which the container was launched.
        derived={"reservation_id": pl.col("annotations").str.extract(_HINT)},
        begin="created_at",
        end=None,
        ending_status=CONTAINER_OVER,
        tells=("occupied", "active"),
        at_its_word=True,
        taken_away=("host", "reservation_id"),
    ),
    "zun.container_actions": RawTable(
        label="Zun actions",
        required=_ints("id") | _texts("action") | _names("container_uuid") | _times("start_time"),
        optional=_times("finish_time"),
        begin="start_time",
        end=None,
        tells=(),
    ),
    "zun.container_actions_events": RawTable(
        label="Zun events",
        required=_ints("id", "action_id") | _texts("event", "result") | _times("start_time"),
        optional=_times("finish_time"),
        begin="start_time",
        end=None,
        tells=(),
    ),
    # Ironic
    "ironic.nodes": RawTable(
        label="Ironic nodes",
        key=("uuid",),
        required=_texts("uuid", "provision_state")
        | _ints("maintenance")
        | _times("created_at", "updated_at"),
        optional=_times("provision_updated_at") | _texts("fault", "power_state") | _ints("retired"),
        begin="created_at",
        end=None,
        ending_status=NODE_GONE,
        tells=(),
    ),
    # The legacy collector's caches
    "chameleon_usage.node_usage_report_cache": RawTable(
        label="the caches of the time",
        key=("date", "node_type"),
        required=_times("date")
        | _texts("node_type")
        | dict.fromkeys(
            ("maint_hours", "reserved_hours", "used_hours", "idle_hours", "total_hours"), FLOAT
        ),
        begin="date",
        end=None,
        tells=(),
    ),
    "chameleon_usage.node_count_cache": RawTable(
        label="the cached node counts",
        key=("date", "node_type"),
        required=_times("date") | _texts("node_type") | _ints("cnt"),
        begin="date",
        end=None,
        tells=(),
    ),
    "chameleon_usage.node_maintenance": RawTable(
        label="maintenance windows",
        required=_ints("id") | _names("hypervisor_hostname") | _times("start_time", "end_time"),
        begin="start_time",
        end="end_time",
        tells=(),
    ),
    # Inventory
    "doni.hardware": RawTable(
        label="Doni's hardware",
        key=("uuid",),
        required=_texts("uuid", "name", "hardware_type") | _times("created_at", "deleted_at"),
        **_SOFT_DELETED,
        tells=("total",),
    ),
    "inventory.node_intervals": RawTable(
        label="the inventory",
        key=("uid", "valid_from"),
        required=_texts("uid", "node_type") | _times("valid_from", "valid_to"),
        begin="valid_from",
        end="valid_to",
        tells=("total",),
        remade=True,
    ),
    # The published record
    MACHINE_EVENTS: RawTable(
        label="published machine events",
        key=("HOST_NAME (PHYSICAL)", "EVENT_TIME", "EVENT"),
        required=_texts("HOST_NAME (PHYSICAL)", "EVENT") | _times("EVENT_TIME"),
        # Sizes have columns in format 0.2, and stand in PROPERTIES in 0.3.
        optional=_texts("PROPERTIES")
        | _ints("VCPU_CAPACITY", "MEMORY_CAPACITY_MB", "DISK_CAPACITY_GB"),
        begin="EVENT_TIME",
        end=None,
        tells=("total",),
        at_its_word=True,
        entity=("HOST_NAME (PHYSICAL)",),
        remade=True,
    ),
    INSTANCE_EVENTS: RawTable(
        label="published instance events",
        key=("INSTANCE_UUID", "EVENT", "FINISH_TIME"),
        required=_names("INSTANCE_UUID")
        | _texts("EVENT", "RESULT", "HOST_NAME (PHYSICAL)")
        | _times("START_TIME", "FINISH_TIME"),
        # Sizes have columns in formats 0.1 and 0.2.
        optional=_texts("PROJECT_ID", "PROPERTIES") | _ints("VCPUS", "MEMORY_MB", "DISK_GB"),
        begin="START_TIME",
        end=None,
        tells=("occupied", "active"),
        at_its_word=True,
        entity=("INSTANCE_UUID",),
        names_hosts=False,  # not which, where it names Nova's compute service
        remade=True,
    ),
    LEASE_EVENTS: RawTable(
        label="lease events",
        key=("LEASE_UUID", "EVENT", "EVENT_TIME", "PROPERTIES"),
        required=_texts("LEASE_UUID", "EVENT", "HOST_NAME (PHYSICAL)", "PROPERTIES")
        | _times("EVENT_TIME"),
        optional=_texts("PROJECT_ID"),
        begin="EVENT_TIME",
        end=None,
        tells=("committed",),
        at_its_word=True,
        entity=("LEASE_UUID",),
        names_hosts=False,  # a lost allocation's host is not known
        remade=True,
    ),
    "published.leases": RawTable(
        label="published leases",
        key=("lease_id",),
        required=_texts("lease_id") | _ints("node_cnt") | _times("start_on", "end_on"),
        optional=_texts("project_id", "node_type") | _times("created_at", "deleted_at"),
        begin="start_on",
        end="end_on",
        tells=("committed",),
        at_its_word=True,
        names_hosts=False,
        remade=True,
    ),
}
"""Every input table by its name ``<schema>.<table>``."""

FILES_ONLY = frozenset({"inventory", "published", "trace"})
"""Schemas that no database has: files of other makers."""

AUDIT = "openstack_audit"
"""The schema in which triggers keep each change of a row, where a deployment has them."""
AUDIT_TABLES = {
    name: f"{AUDIT}.audit_{name.replace('.', '_')}"
    for name in RAW_TABLES
    if name.partition(".")[0] not in FILES_ONLY
} | {"zun.container": f"{AUDIT}.audit_zun_containers"}
"""Input table to its audit table."""
AUDIT_COLUMNS = _ints("audit_id") | _texts("id", "audit_event_type") | _times("audit_changed_at")
AUDIT_OPTIONAL = _times("audit_event_time") | _texts("audit_changed_by", "data")
"""An audit table's own columns; beside them it has the audited row, as a document or in columns."""

FLAGS = frozenset(
    {"reservable", "missing_resources", "disabled", "forced_down", "maintenance", "retired"}
)
"""Integers that are 0 or 1, which other databases and formats write as words."""

LEGACY_CACHE = "chameleon_usage.node_usage_report_cache"
AT_THEIR_WORD = {
    quantity: [
        name for name, table in RAW_TABLES.items() if quantity in table.tells and table.at_its_word
    ]
    for quantity in QUANTITIES
}
"""Quantity type to the tables whose rows the uncorrected collector counts."""

WINDOWS = _texts("source", "entity_id") | _times("start", "end") | _texts("state")


@dataclass(frozen=True)
class RawInputs:
    """The raw tables of one site, as they passed input validation.

    Attributes:
        tables: name to frame, with exactly the columns of its ``RawTable``.
        rejects: rows that did not: ``source``, ``source_row_id``, ``reason``.
        rows: name to number of rows found in the file, refused ones included.
        absent: tables that were asked for and are not there, and time columns of later releases
            that a table does not have (``<table>.<column>``).
        as_of: the moment at which the tables were read from the services' databases.
        superseded: name to the earlier versions of rows that snapshots saw or an audit table
            kept: the table's columns, ``until``, when each was changed or deleted, and ``known``.
        windows: when an entity of a ``source`` was ``absent`` though its row does not say so, and
            when its presence is ``inferred`` (``state``), as snapshots and audit tables tell.
        audited: name to the rows of which an audit table tells since when they stand as they do
            now: the table's key and ``known``.
    """

    tables: dict[str, pl.DataFrame]
    rejects: pl.DataFrame
    rows: dict[str, int]
    absent: tuple[str, ...]
    as_of: datetime
    superseded: dict[str, pl.DataFrame] = field(default_factory=dict)
    windows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=WINDOWS))
    audited: dict[str, pl.DataFrame] = field(default_factory=dict)

    def get(self, name: str) -> pl.DataFrame:
        """Give a table, or an empty one with its columns if it is absent."""
        if name in self.tables:
            return self.tables[name]
        return pl.DataFrame(schema=RAW_TABLES[name].kept)

    def versions(self, name: str, by: Sequence[str] = (), *, told: bool = False) -> pl.DataFrame:
        """Give a table's rows with their earlier versions, and since when each stood so.

        Args:
            name: the table.
            by: what makes rows versions of one thing, if it is not the table's key.
            told: only rows of which a snapshot or an audit table tells something: of large tables
                they are few or none, and to put all rows in order takes long.

        Returns:
            the table's columns, ``since`` (null: from the first), ``until`` (null: to the end) and
            ``known``: since when an audit table shows it so (null: none does). Of what was before,
            the first version says no more than the row of a single dump.
        """
        table, key, own = self.get(name), list(by or RAW_TABLES[name].key), RAW_TABLES[name].key
        earlier = [self.superseded[name]] if name in self.superseded else []
        if told:
            tellers = [*earlier, *([self.audited[name]] if name in self.audited else [])]
            keys = [table.select(own).clear(), *(rows.select(own) for rows in tellers)]
            table = table.join(pl.concat(keys), on=own, how="semi")
        if name in self.audited:
            table = table.join(self.audited[name], on=own, how="left")
        else:
            table = table.with_columns(known=pl.lit(None, TIME))
        last = table.with_columns(until=pl.lit(None, TIME))
        if not earlier:
            return last.with_columns(since=pl.lit(None, TIME))
        return (
            pl.concat([*earlier, last], how="diagonal")
            .sort(*key, "until", nulls_last=True)
            .with_columns(since=pl.col("until").shift(1).over(key))
        )
