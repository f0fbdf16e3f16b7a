"""A site's raw tables many times over, as those of one site: what larger sites are made of.

Each copy has names and numbers of its own, wherever they stand, so that no row of one has to do
with a row of another: every sum is that of one copy, times their number.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MARK = 3
"""Hexadecimal digits of a name that tell its copy: a UUID's last ones, so that copies lie beside
each other in every order of names, as the rows of a larger site would."""
MOST = 16**_MARK
_UUIDS = (
    rf"\b([0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{9}})[0-9a-fA-F]{{{_MARK}}}\b",
    rf"\b([0-9a-fA-F]{{29}})[0-9a-fA-F]{{{_MARK}}}\b",
)
"""UUIDs, with hyphens or without, alone or in documents."""

_NAMES = frozenset(
    {
        *("host", "host_ip", "hypervisor_hostname", "node", "node_name", "name", "uid", "uuid"),
        *("source_node", "dest_node", "source_compute", "dest_compute"),
        *("id", "instance_uuid", "container_uuid", "lease_id", "reservation_id", "project_id"),
        *("compute_host_id", "computehost_id", "device_id", "property_id", "capability_id"),
    }
)
"""Columns of names that are marked even where they are no UUIDs."""

_NUMBERS: Mapping[str, Mapping[str, str]] = {
    "nova.instance_actions_events": {"action_id": "nova.instance_actions"},
    "nova.migrations": dict.fromkeys(
        ("old_instance_type_id", "new_instance_type_id"), "nova_api.flavors"
    ),
    "nova.instances": {"instance_type_id": "nova_api.flavors"},
    "blazar.computehost_allocations": {"compute_host_id": "blazar.computehosts"},
    "blazar.computehost_extra_capabilities": {"computehost_id": "blazar.computehosts"},
    "zun.container_actions_events": {"action_id": "zun.container_actions"},
}
"""Columns of the numbers of another table's rows; ``id`` is a row's own."""

_ADDED_UP = {
    "chameleon_usage.node_usage_report_cache": (
        *("maint_hours", "reserved_hours", "used_hours", "idle_hours", "total_hours"),
    ),
    "chameleon_usage.node_count_cache": ("cnt",),
}
"""Tables of sums over the site, one row a day and node type, and the columns that add up."""


def write_copies(source: Path, target: Path, copies: int) -> None:
    """Write the raw tables of a site so many times as large.

    Args:
        source: holds ``<schema>.<table>.parquet`` and ``manifest.json``.
        target: where to; it is made.
        copies: how many, the first of which has other names than the source, too.
    """
    if not 0 < copies <= MOST:
        raise ValueError(f"{copies} copies: from 1 to {MOST}")
    target.mkdir(parents=True)
    tables = {path.stem: pl.scan_parquet(path) for path in sorted(source.glob("*.parquet"))}
    steps = {name: _numbers_of(table) for name, table in tables.items()}
    rows = {}
    for name, table in tables.items():
        if name in _ADDED_UP:
            whole = table.with_columns(pl.col(_ADDED_UP[name]) * copies)
        else:
            whole = pl.concat(_copy(table, name, steps, number) for number in range(copies))
        whole.sink_parquet(target / f"{name}.parquet", compression_level=1)
        rows[name] = pl.scan_parquet(target / f"{name}.parquet").select(pl.len()).collect().item()
    told = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    manifest = json.dumps(told | {"site": target.name, "tables": rows}, indent=2)
    (target / "manifest.json").write_text(manifest + "\n", encoding="utf-8")


def _copy(table: pl.LazyFrame, name: str, steps: Mapping[str, int], number: int) -> pl.LazyFrame:
    """Give a copy of a table: the n-th, from 0 on."""
    kinds = table.collect_schema()
    raised = {"id": name, **_NUMBERS.get(name, {})}
    changed = []
    for column, kind in kinds.items():
        value = pl.col(column)
        if column in raised:
            by = number * steps.get(raised[column], 0)
            if kind.is_integer():
                changed.append(value + by)
                continue
            if steps.get(raised[column], 0):
                changed.append((value.cast(pl.Int64) + by).cast(pl.String))
                continue
        if kind != pl.String:
            continue
        mark = f"{number:0{_MARK}x}"
        renamed = value
        for pattern in _UUIDS:
            renamed = renamed.str.replace_all(pattern, f"${{1}}{mark}")
        if column in _NAMES:
            long = pl.any_horizontal(value.str.contains(pattern) for pattern in _UUIDS)
            renamed = pl.when(long).then(renamed).otherwise(pl.concat_str(pl.lit(mark), value))
        changed.append(renamed.alias(column))
    return table.with_columns(changed)


def _numbers_of(table: pl.LazyFrame) -> int:
    """Tell how many numbers a table's ids take, from 0 on; 0 if they are no numbers."""
    if "id" not in table.collect_schema():
        return 0
    number = pl.col("id").cast(pl.Int64, strict=False)
    whole = number.is_not_null().all() & pl.col("id").is_not_null().any()
    return int(table.select(pl.when(whole).then(number.max() + 1).otherwise(0)).collect().item())
