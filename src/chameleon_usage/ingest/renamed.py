"""KVM hosts whose machine answers under another name: one machine, under its latest name."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import polars as pl

from chameleon_usage.ingest.base import deleted_at, host_class
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.vocabulary import KVM

COMPUTE_NODES, SERVICES = "nova.compute_nodes", "nova.services"
_NAMED_BY = {
    COMPUTE_NODES: ("hypervisor_hostname",),
    "nova.instances": ("node",),
    "nova.migrations": ("source_node", "dest_node"),
    "blazar.computehosts": ("hypervisor_hostname",),
}
"""Tables to their columns that hold a hypervisor's name."""
SILENT = timedelta(hours=1)
"""A service that has not reported for so long, while that of the other name has, is no more."""


def under_latest_name(inputs: RawInputs) -> RawInputs:
    """Write the latest name of each renamed KVM host wherever an earlier one stands.

    When libvirt's host name changes (k1, then k1.example.org), Nova makes a new row, and leaves the
    old one alive for ever, or deletes it then. Two rows are one machine's if they have the same
    service, or if the older one's service is silent while the other's reports, and both have
    the same address or the same first label.
    """
    names = _latest_names(inputs.get(COMPUTE_NODES), inputs.get(SERVICES))
    if not names:
        return inputs
    renamed = {
        table: inputs.tables[table].with_columns(pl.col(columns).replace(names))
        for table, columns in _NAMED_BY.items()
        if table in inputs.tables
    }
    return replace(inputs, tables=inputs.tables | renamed)


def _latest_names(nodes: pl.DataFrame, services: pl.DataFrame) -> Mapping[str, str]:
    """Find hypervisors' former names: name to the latest one of the machine."""
    beats = (
        services.filter((pl.col("binary") == "nova-compute") & deleted_at().is_null())
        .group_by("host")
        .agg(beat=pl.max_horizontal("last_seen_up", "updated_at").max())
    )
    rows = (
        nodes.filter(host_class() == KVM)
        .join(beats, on="host", how="left", maintain_order="left")
        .select(
            "host",
            "host_ip",
            "created_at",
            gone=deleted_at(),
            name="hypervisor_hostname",
            label=pl.col("hypervisor_hostname").str.extract(r"^([^.]+)"),
            beat=pl.coalesce("beat", "updated_at"),
        )
    )
    silent = pl.col("beat") + SILENT < pl.max_horizontal("beat_new", "created_at_new")
    # Of one service, the row made when the other was deleted takes its place.
    replaced = (pl.col("gone") - pl.col("created_at_new")).abs() < SILENT
    pairs = pl.concat(
        rows.join(rows, on=sign, suffix="_new").select(
            "name", "name_new", "created_at_new", certain=certain
        )
        for sign, certain in (
            ("host", pl.col("gone").is_null() | replaced),
            ("host_ip", pl.col("gone").is_null() & silent),
            ("label", pl.col("gone").is_null() & silent),
        )
    )
    later = rows.select("name", since="created_at").join(pairs, on="name")
    found = (
        later.filter(
            pl.col("certain")
            & (pl.col("name") != pl.col("name_new"))
            & (pl.col("since") < pl.col("created_at_new"))
        )
        .sort("name", "created_at_new", "name_new")
        .unique("name", keep="last", maintain_order=True)
    )
    return dict(found.select("name", "name_new").iter_rows())
