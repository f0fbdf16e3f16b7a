"""Blazar: hosts and devices -> reservable, and what they are."""

from collections.abc import Sequence

import polars as pl

from chameleon_usage.ingest.base import (
    Joins,
    flagged_undated,
    host_class,
    positive,
    present,
    refuse,
    speaks_of,
)
from chameleon_usage.ingest.blazar import (
    ALLOCATIONS,
    COMPUTEHOSTS,
    DEVICE_ALLOCATIONS,
    DEVICES,
    allocation_intervals,
    keeps_deleted,
)
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import TIME
from chameleon_usage.models.stages import (
    Ingested,
    Profiles,
)
from chameleon_usage.models.vocabulary import DEVICE

HOST_PROPERTIES, DEVICE_PROPERTIES = (
    "blazar.computehost_extra_capabilities",
    "blazar.device_extra_capabilities",
)
NODE_TYPE, GPU_COUNT = "node_type", "gpu.gpu_count"


def hosts(inputs: RawInputs) -> Ingested:
    """blazar.computehosts -> reservable: one id is one contiguous enrolment.

    From created_at to deleted_at. A row that is not reservable today, or flagged as deleted without
    a date, ended when it was last updated, or when its last allocation did: what is later. A row
    without a created_at, and ids whose row is gone, are told by their allocations.
    """
    rows = inputs.get(COMPUTEHOSTS).with_columns(
        hostname="hypervisor_hostname",
        host_class=host_class(),
        vcpus=positive("vcpus"),
        memory_mb=positive("memory_mb"),
        disk_gb=positive("local_gb"),
    )
    return _pool(inputs, rows, COMPUTEHOSTS, ("reservable",))


def devices(inputs: RawInputs) -> Ingested:
    """blazar.devices -> total and reservable: at the Edge a device is a node."""
    rows = inputs.get(DEVICES).with_columns(hostname="name", host_class=pl.lit(DEVICE))
    return _pool(inputs, rows, DEVICES, ("reservable", "total"))


_OF_POOL = {
    COMPUTEHOSTS: (ALLOCATIONS, "compute_host_id", HOST_PROPERTIES, "computehost_id"),
    DEVICES: (DEVICE_ALLOCATIONS, "device_id", DEVICE_PROPERTIES, "device_id"),
}
"""Table of hosts or devices to their allocations and their properties, table and column each."""


def spans(inputs: RawInputs, source: str) -> pl.DataFrame:
    """Tell from when to when allocations held each host or device: host_id, first, last.

    ``last`` is null where one of them still does.
    """
    table, holder, _, _ = _OF_POOL[source]
    held = allocation_intervals(
        inputs, inputs.get(table).rename({holder: "host_id"}), Joins(), source
    )
    still = pl.col("end").is_null()
    return (
        held.filter((pl.col("start") < pl.col("end")) | (pl.col("start").is_not_null() & still))
        .group_by("host_id")
        .agg(
            first=pl.coalesce("created_at", "start").min(),
            last=pl.when(~still.any()).then(pl.col("end").max()),
        )
    )


def _pool(
    inputs: RawInputs, rows: pl.DataFrame, source: str, quantities: tuple[str, ...]
) -> Ingested:
    """Make the enrolments of hosts or devices, those whose row is gone or undated included."""
    _, _, properties, owner = _OF_POOL[source]
    by_allocations = inputs.spans[source] if source in inputs.spans else spans(inputs, source)
    # An enrolment ends where its row was deleted, else where its reservable flag was taken away:
    # by Blazar, which dates it, or by hand, which does not; what leases held later was there.
    withdrawn = ((pl.col("reservable") == 0) | flagged_undated()).fill_null(value=False)
    later = withdrawn & pl.col("deleted_at").is_null() & (pl.col("last") > pl.col("updated_at"))
    undated = withdrawn & pl.col("updated_at").is_null() & pl.col("deleted_at").is_null()
    end = pl.when(withdrawn).then(pl.coalesce("updated_at", "last", "created_at"))
    described = (
        rows.join(
            capabilities(inputs, properties, owner), left_on="id", right_on="owner", how="left"
        )
        .rename({"id": "host_id"})
        .join(by_allocations, on="host_id", how="left")
        .with_columns(
            entity_id="host_id",
            start=pl.coalesce("created_at", "first"),
            end=pl.coalesce("deleted_at", end),
            inferred=pl.col("created_at").is_null() | undated,
        )
    )
    good, bad = refuse(described, source, "entity_id")
    held = described.filter(later).with_columns(
        entity_id=pl.concat_str(pl.col("host_id").cast(pl.String), pl.lit("/held")),
        start=pl.max_horizontal("start", "updated_at"),
        end="last",
        inferred=pl.lit(value=True),
    )
    gone = (
        by_allocations.join(described, on="host_id", how="anti")
        .filter(pl.col("host_id").is_not_null())
        .with_columns(
            entity_id="host_id",
            start=pl.min_horizontal("first", "last"),
            end="last",
            inferred=pl.lit(value=True),
        )
    )
    gone, gone_bad = refuse(gone, source, "entity_id")
    earlier = _earlier(inputs, properties, owner)
    profile = good.filter(pl.col("hostname").is_not_null()).with_columns(source=pl.lit(source))
    profile = pl.concat(
        [
            profile.join(earlier, left_on="host_id", right_on="owner", how="anti"),
            profile.drop("node_type", "gpus")
            .join(earlier, left_on="host_id", right_on="owner", how="inner")
            .with_columns(start=pl.max_horizontal("start", "since")),
        ],
        how="diagonal",
    )
    return Ingested(
        completeness=speaks_of(source, *quantities, keeps=keeps_deleted(inputs, source)),
        intervals=pl.concat([present(rows, source, *quantities) for rows in (good, held, gone)]),
        profiles=conform(profile, Profiles),
        rejects=pl.concat([bad, gone_bad]),
    )


def capabilities(inputs: RawInputs, table: str, owner: str) -> pl.DataFrame:
    """Read node type and GPU count of each host or device: owner, node_type, gpus."""
    return _told(inputs, inputs.get(table).with_columns(owner=owner), ["owner"])


def _earlier(inputs: RawInputs, table: str, owner: str) -> pl.DataFrame:
    """Read what hosts were before their capabilities were changed: owner, since, node_type, gpus.

    Only of those of which earlier snapshots tell something else; ``since`` is null at first.
    """
    slot = [owner, "property_id", "capability_id", "capability_name"]
    versions = inputs.versions(table, slot).with_columns(owner=owner)
    changed = versions.filter(pl.col("until").is_not_null())
    moments = pl.concat(
        [changed.select("owner", at="until"), changed.select("owner", at=pl.lit(None, TIME))]
    ).unique()
    valid = (pl.col("since") <= pl.col("at")).fill_null(pl.col("since").is_null()) & (
        pl.col("at") < pl.col("until")
    ).fill_null(value=True)
    then = moments.join(versions, on="owner").filter(valid)
    return _told(inputs, then, ["owner", "at"]).rename({"at": "since"})


def _told(inputs: RawInputs, rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Find node type and GPU count among capabilities: ``by``, node_type, gpus.

    The property's name stands in ``resource_properties`` (property_id), before 2024-01 in
    ``extra_capabilities`` (capability_id), in old dumps in the row itself. Of a property's rows
    those that are not deleted count; of an owner that is gone with all its rows, those deleted
    last.
    """
    names = pl.concat(
        [
            inputs.get("blazar.resource_properties").select("id", "property_name"),
            inputs.get("blazar.extra_capabilities").select("id", property_name="capability_name"),
        ]
    ).unique("id", keep="first", maintain_order=True)
    rows = (
        rows.with_columns(id=pl.coalesce("property_id", "capability_id"))
        .join(names, on="id", how="left")
        .with_columns(
            name=pl.coalesce("property_name", "capability_name"),
            _until=pl.col("deleted_at").fill_null(pl.datetime(9999, 1, 1, time_unit="us")),
        )
        .filter(pl.col("_until") == pl.col("_until").max().over(*by, "name"))
    )

    def values(name: str) -> pl.Expr:
        return pl.col("capability_value").filter(pl.col("name") == name)

    number = values(GPU_COUNT).str.strip_chars().cast(pl.Float64, strict=False)
    counted = number.filter(number.is_between(0, 1024)).max().cast(pl.Int64)
    # A host without the property has no GPU; one whose count cannot be read has an unknown number.
    counted_at_all = values(GPU_COUNT).len() > 0
    return rows.group_by(by).agg(
        node_type=values(NODE_TYPE).max(), gpus=pl.when(counted_at_all).then(counted).otherwise(0)
    )
