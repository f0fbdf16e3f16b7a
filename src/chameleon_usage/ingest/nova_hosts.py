"""Nova: hypervisors and their services -> total."""

import polars as pl

from chameleon_usage.ingest.base import (
    deleted_at,
    deletion_is_inferred,
    host_class,
    positive,
    present,
    refuse,
    set_aside,
    speaks_of,
)
from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.arithmetic import MAX_TIME, MIN_TIME
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import Ingested, Profiles
from chameleon_usage.models.vocabulary import KVM, Reason

COMPUTE_NODES, SERVICES = "nova.compute_nodes", "nova.services"
INSTANCES = "nova.instances"


def hosts(inputs: RawInputs) -> Ingested:
    """nova.compute_nodes -> total: a row is a hypervisor's life from created_at to deleted_at.

    A row of which only the flag says that it is deleted ends when it was changed last. A row
    without a created_at starts where the rows before it tell (``_started``), or it is refused here
    and other sources speak for the host. A KVM host's own nova-compute service (nova.services) is
    such a source: its ``host`` is the hypervisor's name there, which it is not for Ironic.
    """
    nodes = inputs.get(COMPUTE_NODES).with_columns(
        host_class=host_class(), end=deleted_at(), end_inferred=deletion_is_inferred()
    )
    rows = _started(nodes, _witnessed(inputs)).with_columns(
        entity_id=pl.col("id").cast(pl.String), hostname="hypervisor_hostname"
    )
    unattended = _unattended(inputs.get(SERVICES))
    nameless = pl.when(pl.col("hostname").is_null()).then(pl.lit(Reason.NO_HYPERVISOR_HOSTNAME))
    seen, bad = refuse(rows, COMPUTE_NODES, "id", nameless)
    profiles = inputs.versions(COMPUTE_NODES).select(
        host_class=host_class(),
        hostname="hypervisor_hostname",
        start=pl.coalesce("since", "created_at", "deleted_at", MIN_TIME),
        source=pl.lit(COMPUTE_NODES),
        vcpus=positive("vcpus"),
        memory_mb=positive("memory_mb"),
        disk_gb=positive("local_gb"),
    )
    services = inputs.get(SERVICES).with_columns(
        entity_id=pl.col("id").cast(pl.String),
        hostname="host",
        start="created_at",
        end=deleted_at(),
        inferred=deletion_is_inferred(),
    )
    on_kvm_row = pl.col("host_class") == KVM
    on_kvm = rows.filter(on_kvm_row)["hostname"].drop_nulls().unique()
    of_host = (pl.col("binary") == "nova-compute") & pl.col("host").is_in(on_kvm.implode())
    of_host = of_host.fill_null(value=False)
    up, down = refuse(services.filter(of_host), SERVICES, "id")
    # A row that Nova brought back to life does not tell that its host was away meanwhile.
    on_host = seen.with_columns(
        end=pl.coalesce("end", MAX_TIME), host=pl.when(on_kvm_row).then("host")
    )
    _, there = arithmetic.intersect(on_host, unattended, ["host"])
    seen = there.with_columns(end=pl.when(pl.col("end") < MAX_TIME).then("end"))
    return Ingested(
        completeness=speaks_of(COMPUTE_NODES, "total"),
        intervals=pl.concat(
            [present(seen, COMPUTE_NODES, "total"), present(up, SERVICES, "total")]
        ),
        profiles=conform(profiles.drop_nulls(["hostname", "start"]), Profiles),
        aside=set_aside(services.filter(~of_host), SERVICES, "entity_id"),
        rejects=pl.concat([bad, down]),
    )


def _unattended(services: pl.DataFrame) -> pl.DataFrame:
    """Tell when hosts had no compute service, between two that they had: host, start, end.

    When a service is deleted, so is its hypervisor's row; when the host is enrolled again, Nova
    makes a new service, but can bring the hypervisor's old row back as if nothing had been.
    """
    lives = services.filter(
        (pl.col("binary") == "nova-compute") & pl.col("created_at").is_not_null()
    )
    lives = lives.select(
        "host", start="created_at", end=pl.coalesce(deleted_at(), MAX_TIME)
    ).filter(pl.col("start") < pl.col("end"))
    return (
        arithmetic.union(lives, ["host"])
        .sort("host", "start")
        .select("host", start="end", end=pl.col("start").shift(-1).over("host"))
        .drop_nulls("end")
    )


def _witnessed(inputs: RawInputs) -> pl.DataFrame:
    """Find the first moment at which a service, an instance or Blazar names each hypervisor."""
    return (
        pl.concat(
            inputs.get(table).select(pl.col(name).cast(NAME).alias("name"), _seen="created_at")
            for table, name in (
                (SERVICES, "host"),
                (INSTANCES, "node"),
                ("blazar.computehosts", "hypervisor_hostname"),
            )
        )
        .group_by("name")
        .agg(pl.col("_seen").min())
        .select("_seen", hypervisor_hostname=pl.col("name").cast(pl.String))
    )


def _started(rows: pl.DataFrame, witnessed: pl.DataFrame) -> pl.DataFrame:
    """Tell when each row began: ``start``, and ``inferred`` where its created_at is lost.

    A hypervisor that had a row before has its next one after the end of that, and, as ids count up,
    after the row with the id before was made. Who had none before began when another table names
    it first (``witnessed``: hypervisor_hostname, _seen); if none does, it has no start.
    """
    made = pl.col("created_at").forward_fill()
    ended = pl.col("end").cum_max().forward_fill().shift(1).over("hypervisor_hostname")
    after = pl.when(ended.is_not_null()).then(pl.max_horizontal(made, ended))
    began = pl.coalesce(after, "_seen")
    before_its_end = (began < pl.col("end")).fill_null(value=True)
    named = rows.sort("id").join(
        witnessed, on="hypervisor_hostname", how="left", maintain_order="left"
    )
    return named.with_columns(
        start=pl.coalesce("created_at", pl.when(before_its_end).then(began)),
        inferred=pl.col("created_at").is_null() | pl.col("end_inferred"),
    )
