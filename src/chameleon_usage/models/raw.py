"""The input tables: which columns are read of each, and what they must be.

A table's columns are those that the services' own migrations make (Nova and Zun 2023.1, Chameleon's
Blazar); only the columns that are used are named, so that nothing secret is ever read. A table is
kept as ``<schema>.<table>.parquet``, one file a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

TIME, INT, FLOAT, TEXT = pl.Datetime("us"), pl.Int64(), pl.Float64(), pl.String()
NAME = pl.Categorical()
"""Of keys by which large tables are joined: each name is compared as text but once."""


@dataclass(frozen=True)
class RawTable:
    """What is read of one input table.

    Attributes:
        key: columns that identify a row; a second row with the same key is a duplicate.
        required: column to type; a file without one of them is refused.
        optional: column to type; a missing one is read as null (columns that came with a later
            release, or that only some deployments have).
        derived: columns computed while reading, from columns that are not kept (JSON documents).
        archive: the table that holds rows archived out of this one, same columns.
    """

    key: tuple[str, ...]
    required: dict[str, pl.DataType]
    optional: dict[str, pl.DataType] = field(default_factory=dict)
    derived: dict[str, pl.Expr] = field(default_factory=dict)
    archive: str | None = None

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """Every stored column that is read, with its type."""
        return self.required | self.optional

    @property
    def kept(self) -> dict[str, pl.DataType]:
        """The columns of the frame after reading, documents replaced by what they held."""
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

RAW_TABLES: dict[str, RawTable] = {
    # Nova
    "nova.compute_nodes": RawTable(
        ("id",),
        _ints("id", "vcpus", "memory_mb", "local_gb")
        | _texts("hypervisor_hostname", "hypervisor_type")
        | _times("created_at", "deleted_at"),
        _texts("host"),
        archive="nova.shadow_compute_nodes",
    ),
    "nova.services": RawTable(
        ("id",),
        _ints("id") | _texts("host", "binary") | _times("created_at", "updated_at", "deleted_at"),
        archive="nova.shadow_services",
    ),
    "nova.instances": RawTable(
        ("uuid",),
        _names("uuid")
        | _texts("node", "project_id", "vm_state")
        | _ints("vcpus", "memory_mb", "root_gb")
        | _times("created_at", "deleted_at", "launched_at", "terminated_at"),
        _ints("ephemeral_gb") | _texts("host"),
        archive="nova.shadow_instances",
    ),
    "nova.instance_actions": RawTable(
        ("id",),
        _ints("id") | _texts("action") | _names("instance_uuid") | _times("start_time"),
        _times("finish_time"),
        archive="nova.shadow_instance_actions",
    ),
    "nova.instance_actions_events": RawTable(
        ("id",),
        _ints("id", "action_id") | _texts("event", "result") | _times("start_time", "finish_time"),
        _texts("host"),
        archive="nova.shadow_instance_actions_events",
    ),
    "nova_api.request_specs": RawTable(
        ("instance_uuid",),
        _names("instance_uuid") | _texts("spec"),
        derived={
            # The scheduler hint of a bare-metal launch, or the flavor that Blazar made for a slice.
            "hint": pl.col("spec").str.extract(_HINT),
            "flavor": pl.col("spec").str.extract(rf'"reservation:({_UUID})"'),
        },
    ),
    # Blazar
    "blazar.leases": RawTable(
        ("id",),
        _names("id")
        | _texts("project_id", "status")
        | _times("created_at", "deleted_at", "start_date", "end_date"),
        _times("updated_at"),
    ),
    "blazar.reservations": RawTable(("id",), _names("id", "lease_id") | _texts("resource_type")),
    "blazar.events": RawTable(
        ("id",),
        _texts("id", "lease_id", "event_type", "status") | _times("time", "updated_at"),
    ),
    "blazar.computehosts": RawTable(
        ("id",),
        _texts("id", "hypervisor_hostname", "hypervisor_type")
        | _ints("vcpus", "memory_mb", "local_gb", "reservable")
        | _times("created_at", "updated_at"),
        _times("deleted_at"),  # soft delete since 2022-05
    ),
    "blazar.computehost_allocations": RawTable(
        ("id",),
        _names("id", "reservation_id") | _texts("compute_host_id") | _times("created_at"),
        _times("updated_at", "deleted_at"),  # soft delete since 2018-07
    ),
    "blazar.computehost_reservations": RawTable(
        ("id",), _names("id", "reservation_id") | _texts("resource_properties", "count_range")
    ),
    "blazar.instance_reservations": RawTable(
        ("id",), _names("id", "reservation_id") | _ints("vcpus", "memory_mb", "disk_gb", "amount")
    ),
    "blazar.computehost_extra_capabilities": RawTable(
        ("id",),
        _texts("id", "computehost_id", "capability_value"),
        # capability_name until 2020, capability_id until 2024-01, property_id since
        _texts("property_id", "capability_id", "capability_name") | _times("deleted_at"),
    ),
    "blazar.resource_properties": RawTable(("id",), _texts("id", "property_name")),
    "blazar.devices": RawTable(
        ("id",),
        _texts("id", "name") | _ints("reservable") | _times("created_at", "updated_at"),
        _times("deleted_at"),
    ),
    "blazar.device_allocations": RawTable(
        ("id",),
        _names("id", "reservation_id") | _texts("device_id") | _times("created_at"),
        _times("updated_at", "deleted_at"),
    ),
    "blazar.device_reservations": RawTable(
        ("id",), _names("id", "reservation_id") | _texts("resource_properties", "count_range")
    ),
    "blazar.device_extra_capabilities": RawTable(
        ("id",),
        _texts("id", "device_id", "capability_value"),
        _texts("property_id", "capability_id", "capability_name") | _times("deleted_at"),
    ),
    # Zun
    "zun.container": RawTable(
        ("uuid",),
        _ints("id")
        | _names("uuid")
        | _texts("project_id", "host", "status")
        | _times("created_at", "started_at"),
        _times("updated_at") | _texts("annotations"),
        # Where the deployment notes it: the reservation in which the container was launched.
        derived={"reservation_id": pl.col("annotations").str.extract(_HINT)},
    ),
    "zun.container_actions": RawTable(
        ("id",),
        _ints("id")
        | _texts("action")
        | _names("container_uuid")
        | _times("start_time", "finish_time"),
    ),
    "zun.container_actions_events": RawTable(
        ("id",),
        _ints("id", "action_id") | _texts("event", "result") | _times("start_time", "finish_time"),
    ),
    # The legacy collector's caches
    "chameleon_usage.node_usage_report_cache": RawTable(
        ("date", "node_type"),
        _times("date")
        | _texts("node_type")
        | dict.fromkeys(
            ("maint_hours", "reserved_hours", "used_hours", "idle_hours", "total_hours"), FLOAT
        ),
    ),
    "chameleon_usage.node_count_cache": RawTable(
        ("date", "node_type"), _times("date") | _texts("node_type") | _ints("cnt")
    ),
    "chameleon_usage.node_maintenance": RawTable(
        ("id",), _ints("id") | _texts("hypervisor_hostname") | _times("start_time", "end_time")
    ),
    # Inventory
    "doni.hardware": RawTable(
        ("uuid",), _texts("uuid", "name", "hardware_type") | _times("created_at", "deleted_at")
    ),
    "inventory.node_intervals": RawTable(
        ("uid", "valid_from"), _texts("uid", "node_type") | _times("valid_from", "valid_to")
    ),
    # The published record
    "trace.machine_events": RawTable(
        ("HOST_NAME (PHYSICAL)", "EVENT_TIME", "EVENT"),
        _texts("HOST_NAME (PHYSICAL)", "EVENT", "PROPERTIES") | _times("EVENT_TIME"),
    ),
    "published.leases": RawTable(
        ("lease_id",),
        _texts("lease_id", "project_id", "user_id", "status", "node_type")
        | _ints("node_cnt")
        | _times("created_at", "deleted_at", "start_on", "end_on"),
    ),
}
"""Every input table by its name ``<schema>.<table>``."""

FILES_ONLY = frozenset({"inventory", "published", "trace"})
"""Schemas that no database has: files of other makers."""


WINDOWS = _texts("source", "entity_id") | _times("start", "end") | _texts("state")


@dataclass(frozen=True)
class RawInputs:
    """The raw tables of one site, as they passed the door.

    Attributes:
        tables: name to frame, with exactly the columns of its ``RawTable``.
        rejects: rows refused at the door: ``source``, ``source_row_id``, ``reason``.
        rows: name to number of rows found in the file, refused ones included.
        absent: tables that were asked for and are not there, and time columns of later releases
            that a table does not have (``<table>.<column>``).
        as_of: the moment at which the tables were read from the services' databases.
        superseded: name to the earlier versions of rows that snapshots saw: the table's columns,
            and ``until``, when each was changed or deleted.
        windows: when an entity of a ``source`` was ``absent`` though its row does not say so, and
            when its presence is ``inferred`` (``state``), as earlier snapshots tell.
    """

    tables: dict[str, pl.DataFrame]
    rejects: pl.DataFrame
    rows: dict[str, int]
    absent: tuple[str, ...]
    as_of: datetime
    superseded: dict[str, pl.DataFrame] = field(default_factory=dict)
    windows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=WINDOWS))

    def get(self, name: str) -> pl.DataFrame:
        """Give a table, or an empty one with its columns if it is absent."""
        if name in self.tables:
            return self.tables[name]
        return pl.DataFrame(schema=RAW_TABLES[name].kept)

    def versions(self, name: str, by: Sequence[str] = ()) -> pl.DataFrame:
        """Give a table's rows with their earlier versions, and since when each was told so.

        Args:
            name: the table.
            by: what makes rows versions of one thing, if it is not the table's key.

        Returns:
            the table's columns, ``since`` (null: from the first) and ``until`` (null: to the end).
        """
        table, key = self.get(name), list(by or RAW_TABLES[name].key)
        told = [self.superseded[name]] if name in self.superseded else []
        return (
            pl.concat([*told, table.with_columns(until=pl.lit(None, TIME))], how="diagonal")
            .sort(*key, "until", nulls_last=True)
            .with_columns(since=pl.col("until").shift(1).over(key))
        )
