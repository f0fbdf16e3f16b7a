"""The input tables: one declaration for each, which everything else reads.

A table's columns are those that the services' own migrations make (Nova and Zun 2023.1, Chameleon's
Blazar); only the columns that are used are named, so that nothing secret is ever read. A table is
kept as ``<schema>.<table>.parquet``, one file a table.
"""

from typing import Any

import polars as pl

from chameleon_usage.models.raw_files import FILES
from chameleon_usage.models.raw_table import (
    FLOAT,
    SOFT_DELETED,
    EndingStatus,
    RawTable,
    ints,
    names,
    texts,
    times,
)

QUANTITIES = ("total", "reservable", "committed", "occupied", "active")
"""Quantity types of intervals; segments have more (``vocabulary.HOLDINGS``)."""


_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_HINT = rf'"reservation":\s*\[?\s*"({_UUID})"'
_PROPERTY = ("property_id", "capability_id", "capability_name")
"""How a property is named: capability_name until 2020, capability_id until 2024-01, property_id."""


def _detail(label: str, required: dict[str, pl.DataType], **more: Any) -> RawTable:  # noqa: ANN401
    """Declare a table that describes rows of another one and has no time of its own."""
    return RawTable(label=label, required=required, begin=None, end=None, tells=(), **more)


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
        required=ints("id") | texts("hypervisor_hostname") | times("created_at"),
        optional=ints("vcpus", "memory_mb", "local_gb", "deleted")
        | texts("hypervisor_type", "host", "host_ip")
        | times("updated_at", "deleted_at"),
        counted=("id",),
        same=("hypervisor_hostname",),
        **SOFT_DELETED,
        tells=("total",),
        at_its_word=True,
        one_at_a_time="hypervisor_hostname",
        archive="nova.shadow_compute_nodes",
    ),
    "nova.services": RawTable(
        label="Nova services",
        required=ints("id") | texts("host", "binary") | times("created_at"),
        optional=ints("deleted", "disabled", "forced_down")
        | times("updated_at", "last_seen_up", "deleted_at"),
        counted=("id",),
        same=("host", "binary"),
        **SOFT_DELETED,
        tells=("total",),
        heartbeat=True,
        archive="nova.shadow_services",
    ),
    "nova.instances": RawTable(
        label="Nova instances",
        key=("uuid",),
        required=names("uuid") | texts("node") | times("created_at"),
        optional=ints("vcpus", "memory_mb", "root_gb", "ephemeral_gb", "deleted")
        | texts("host", "project_id", "vm_state")
        | times("updated_at", "deleted_at", "launched_at", "terminated_at"),
        **SOFT_DELETED,
        tells=("occupied", "active"),
        at_its_word=True,
        taken_away=("node", "host"),
        written_over=("launched_at",),
        archive="nova.shadow_instances",
        words=("node", "host", "project_id", "vm_state"),
    ),
    "nova.instance_actions": RawTable(
        label="Nova instances and their actions",
        required=ints("id") | texts("action") | names("instance_uuid") | times("start_time"),
        optional=times("finish_time"),
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
        required=ints("id", "action_id") | texts("event", "result") | times("start_time"),
        optional=texts("host") | times("finish_time"),
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
        required=ints("id") | names("instance_uuid") | texts("status") | times("created_at"),
        optional=ints("old_instance_type_id", "new_instance_type_id")
        | texts("source_node", "dest_node", "source_compute", "dest_compute", "migration_type")
        | times("updated_at"),
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
        ints("id", "vcpus", "memory_mb", "root_gb"),
        optional=ints("ephemeral_gb"),
    ),
    "nova_api.request_specs": _detail(
        "Nova request specs",
        names("instance_uuid") | texts("spec"),
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
        required=names("id") | times("created_at", "start_date", "end_date"),
        optional=texts("project_id", "status", "deleted") | times("updated_at", "deleted_at"),
        **SOFT_DELETED,
        tells=("committed",),
        names_hosts=False,
        words=("project_id", "status"),
        reduced=_MARK,
    ),
    "blazar.reservations": _detail(
        "Blazar reservations",
        names("id", "lease_id") | texts("resource_type"),
        optional=ints("missing_resources"),
        words=("resource_type",),
        used=~pl.col("resource_type").is_in(HOLD_NO_HOST).fill_null(value=False),
    ),
    "blazar.events": RawTable(
        label="Blazar events",
        required=texts("id", "lease_id", "event_type", "status") | times("time"),
        optional=times("updated_at"),
        begin="time",
        end=None,
        tells=(),
        words=("lease_id", "event_type", "status"),
        used=LEASE_STARTED,
        reduced={"id": None},
    ),
    "blazar.computehosts": RawTable(
        label="Blazar hosts",
        required=texts("id", "hypervisor_hostname") | times("created_at"),
        optional=texts("hypervisor_type", "deleted")
        | ints("vcpus", "memory_mb", "local_gb", "reservable")
        # soft delete since 2022-05, disabled since 2023-11
        | ints("disabled")
        | texts("status")
        | times("updated_at", "deleted_at"),
        **SOFT_DELETED,
        tells=("reservable",),
        at_its_word=True,
        flag="reservable",
        one_at_a_time="hypervisor_hostname",
        words=("id", "hypervisor_hostname"),
    ),
    "blazar.computehost_allocations": RawTable(
        label="Blazar allocations",
        required=names("id", "reservation_id") | texts("compute_host_id") | times("created_at"),
        optional=texts("deleted") | times("updated_at", "deleted_at"),  # soft delete since 2018-07
        **SOFT_DELETED,
        tells=("committed",),
        at_its_word=True,
        held_host="compute_host_id",
        words=("compute_host_id",),
        reduced=_MARK,
    ),
    "blazar.computehost_reservations": _detail(
        "Blazar host reservations",
        texts("id") | names("reservation_id") | texts("resource_properties", "count_range"),
        words=("resource_properties", "count_range"),
        reduced={"id": None},
    ),
    "blazar.instance_reservations": _detail(
        "Blazar instance reservations",
        names("id", "reservation_id") | ints("vcpus", "memory_mb", "disk_gb", "amount"),
    ),
    "blazar.computehost_extra_capabilities": _detail(
        "Blazar host properties",
        texts("id", "computehost_id", "capability_value"),
        optional=texts(*_PROPERTY) | times("deleted_at"),
        slot=("computehost_id", *_PROPERTY),
        words=("computehost_id",),
    ),
    "blazar.resource_properties": _detail("Blazar property names", texts("id", "property_name")),
    "blazar.extra_capabilities": _detail(  # the same until 2024-01
        "Blazar capability names", texts("id", "capability_name")
    ),
    "blazar.devices": RawTable(
        label="Blazar devices",
        required=texts("id", "name") | times("created_at"),
        optional=ints("reservable") | texts("deleted") | times("updated_at", "deleted_at"),
        **SOFT_DELETED,
        tells=("total", "reservable"),
        at_its_word=True,
        flag="reservable",
        one_at_a_time="name",
        words=("id", "name"),
    ),
    "blazar.device_allocations": RawTable(
        label="Blazar device allocations",
        required=names("id", "reservation_id") | texts("device_id") | times("created_at"),
        optional=texts("deleted") | times("updated_at", "deleted_at"),
        **SOFT_DELETED,
        tells=("committed",),
        at_its_word=True,
        held_host="device_id",
        words=("device_id",),
    ),
    "blazar.device_reservations": _detail(
        "Blazar device reservations",
        names("id", "reservation_id") | texts("resource_properties", "count_range"),
        words=("resource_properties", "count_range"),
    ),
    "blazar.device_extra_capabilities": _detail(
        "Blazar device properties",
        texts("id", "device_id", "capability_value"),
        optional=texts(*_PROPERTY) | times("deleted_at"),
        slot=("device_id", *_PROPERTY),
        words=("device_id",),
    ),
    # Zun
    "zun.container": RawTable(
        label="Zun containers",
        key=("uuid",),
        required=ints("id") | names("uuid") | texts("host", "status") | times("created_at"),
        optional=times("updated_at", "started_at") | texts("project_id", "annotations"),
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
        required=ints("id") | texts("action") | names("container_uuid") | times("start_time"),
        optional=times("finish_time"),
        begin="start_time",
        end=None,
        tells=(),
    ),
    "zun.container_actions_events": RawTable(
        label="Zun events",
        required=ints("id", "action_id") | texts("event", "result") | times("start_time"),
        optional=times("finish_time"),
        begin="start_time",
        end=None,
        tells=(),
    ),
    # Ironic
    "ironic.nodes": RawTable(
        label="Ironic nodes",
        key=("uuid",),
        required=texts("uuid", "provision_state")
        | ints("maintenance")
        | times("created_at", "updated_at"),
        optional=times("provision_updated_at") | texts("fault", "power_state") | ints("retired"),
        begin="created_at",
        end=None,
        ending_status=NODE_GONE,
        tells=(),
    ),
    # The legacy collector's caches
    "chameleon_usage.node_usage_report_cache": RawTable(
        label="the caches of the time",
        key=("date", "node_type"),
        required=times("date")
        | texts("node_type")
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
        required=times("date") | texts("node_type") | ints("cnt"),
        begin="date",
        end=None,
        tells=(),
    ),
    "chameleon_usage.node_maintenance": RawTable(
        label="maintenance windows",
        required=ints("id") | names("hypervisor_hostname") | times("start_time", "end_time"),
        begin="start_time",
        end="end_time",
        tells=(),
    ),
    # Doni
    "doni.hardware": RawTable(
        label="Doni's hardware",
        key=("uuid",),
        required=texts("uuid", "name", "hardware_type") | times("created_at", "deleted_at"),
        **SOFT_DELETED,
        tells=("total",),
    ),
    **FILES,
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
AUDIT_COLUMNS = ints("audit_id") | texts("id", "audit_event_type") | times("audit_changed_at")
AUDIT_OPTIONAL = times("audit_event_time") | texts("audit_changed_by", "data")
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
