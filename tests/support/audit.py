"""Audit tables of tiny sites, as the triggers of chi-in-a-box's role write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from chameleon_usage.models.raw import AUDIT_TABLES, RAW_TABLES
from chameleon_usage.models.raw_table import TIME
from support.sites import TinySite, day

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLUMNS = {
    "blazar.computehosts": (
        *("id", "hypervisor_hostname", "vcpus", "memory_mb", "local_gb", "status", "reservable"),
        *("disabled", "created_at", "deleted_at"),
    ),
}
"""What the role keeps of a row, where it is not every column that is read."""


def document(table: str, row: Mapping[str, Any]) -> str:
    """Write a row as ``JSON_OBJECT`` does: times as text, flags as numbers."""
    columns = RAW_TABLES[table].columns
    kept = COLUMNS.get(table, columns)
    return json.dumps(
        {
            name: f"{day(value):%F %T}"
            if isinstance(value, int | float) and kind == TIME
            else value
            for name, kind in columns.items()
            if name in kept
            for value in [row.get(name)]
        }
    )


class AuditedSite(TinySite):
    """A site of which some tables are audited.

    Attributes:
        audits: audited table to the rows of its audit table.
    """

    def __init__(self, key: str = "chi_tacc", **options: Any) -> None:
        self.audits: dict[str, list[dict[str, Any]]] = {}
        super().__init__(key, **options)

    def audit(
        self,
        table: str,
        kind: str,
        at: float | None,
        row: Mapping[str, Any],
        *,
        event: float | None = None,
        by: str | None = "service@%",
        **more: Any,
    ) -> None:
        """Write a row of an audit table at a day; ``event``: when it happened, if not then."""
        rows = self.audits.setdefault(table, [])
        rows.append(
            {
                "audit_id": len(rows) + 1,
                "id": str(row.get("id")),
                "audit_event_type": kind,
                "audit_event_time": None if at is None else day(at if event is None else event),
                "audit_changed_by": by,
                "audit_changed_at": None if at is None else day(at),
                "data": document(table, row),
            }
            | more
        )

    def backfill(self, at: float, *tables: str, by: str | None = "backfill") -> None:
        """Switch tables on (all of them): what is in them now is back-filled."""
        for table in tables or [name for name in self.tables if name in AUDIT_TABLES]:
            self.audits.setdefault(table, [])
            for row in self.tables[table]:
                for kind, column in (("INSERT", "created_at"), ("DELETE", "deleted_at")):
                    if kind == "INSERT" or row.get(column) is not None:
                        event = row.get(column)
                        own = None if event is None else day(event)
                        self.audit(table, kind, at, row, by=by, audit_event_time=own)

    def write(self, data_dir: Path, *, shuffle: int | None = None) -> Path:
        folder = super().write(data_dir, shuffle=shuffle)
        for table, rows in self.audits.items():
            frame = pl.DataFrame(rows, infer_schema_length=None)
            if shuffle is not None:
                frame = frame.sample(fraction=1, shuffle=True, seed=shuffle)
            frame.write_parquet(folder / f"{AUDIT_TABLES[table]}.parquet")
        return folder
