"""Public cloud traces: machine events -> total, lease events -> committed and lead times.

The format is that of the Chameleon cloud traces (ChameleonCloud/starcompactor, scienceclouds.org).
Version 0.1 has instance events, 0.2 machine events, too; both have a column for each size. Version
0.3 puts sizes and all else into PROPERTIES, a Python dictionary in text, so that it also fits bare
metal. All are read as 0.3. Times are UTC, a missing one is the word None. ``trace_instances`` reads
instance events.

Lease events are not in the format: they are this project's addition, written by ``io.traces``.
"""

import polars as pl

from chameleon_usage.ingest.base import present, refuse, set_aside, speaks_of
from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw_files import LEASE_EVENTS, MACHINE_EVENTS
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME, TIME
from chameleon_usage.models.stages import Ingested, Leases, Profiles
from chameleon_usage.models.vocabulary import BARE_METAL, KVM

HOST = "HOST_NAME (PHYSICAL)"


def property_of(name: str) -> pl.Expr:
    """Read one value of PROPERTIES, a dictionary as Python or JSON writes it; None is null."""
    quoted = rf"""["']{name.replace(".", "[.]")}["']\s*:\s*["']?([^"',}}]+)"""
    text = pl.col("PROPERTIES").str.extract(quoted).str.strip_chars()
    return pl.when(~text.is_in(["None", "null", "nan", ""])).then(text)


def number_of(name: str) -> pl.Expr:
    """Read a whole number of PROPERTIES; "48.0" is what shared a column with a missing one."""
    return property_of(name).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)


def machine_events(inputs: RawInputs) -> Ingested:
    """Machine events -> total: a host exists from CREATE to DELETE, as often as they come.

    A host whose first CREATE is lost existed at least from its first other event on. ENABLE and
    DISABLE say whether it took leases, UPDATE what it was.
    """
    events = inputs.get(MACHINE_EVENTS).with_columns(
        pl.col("EVENT").str.strip_chars().str.to_uppercase(), entity_id=HOST, hostname=HOST
    )
    seen = events.filter(pl.col("EVENT") != "DELETE").group_by("entity_id", "hostname")
    hosts = seen.agg(
        start=pl.col("EVENT_TIME").min(),
        inferred=(pl.col("EVENT") == "CREATE").not_().all(),
        end=pl.lit(None, TIME),
    )
    deletes = events.filter(pl.col("EVENT") == "DELETE")
    never = deletes.join(hosts, on="entity_id", how="anti").select(
        "entity_id", start=None, end="EVENT_TIME"
    )
    good, bad = refuse(pl.concat([hosts, never], how="diagonal"), MACHINE_EVENTS, "entity_id")
    turns = pl.concat(
        [
            good.select("entity_id", timestamp="start", on=pl.lit(value=True)),
            events.filter(pl.col("EVENT").is_in(["CREATE", "DELETE"])).select(
                "entity_id", timestamp="EVENT_TIME", on=pl.col("EVENT") == "CREATE"
            ),
        ]
    ).with_columns(order=pl.col("on").cast(pl.Int64))
    lives = arithmetic.state_intervals(turns, good.select("entity_id", "start", "end"))
    good = lives.join(good.drop("start", "end"), on="entity_id", maintain_order="left")
    return Ingested(
        completeness=speaks_of(MACHINE_EVENTS, "total"),
        intervals=present(good, MACHINE_EVENTS, "total"),
        profiles=conform(profiles_of(events), Profiles),
        rejects=bad,
    )


def profiles_of(events: pl.DataFrame) -> pl.DataFrame:
    """Tell what each machine was from each of its events on; sizes are in bytes on bare metal."""
    vcpus = pl.coalesce(number_of("vcpu_capability"), "VCPU_CAPACITY")
    return events.with_columns(
        start="EVENT_TIME",
        source=pl.lit(MACHINE_EVENTS),
        node_type=property_of("node_type"),
        vcpus=pl.coalesce(vcpus, number_of("architecture.smt_size")),
        memory_mb=pl.coalesce(
            number_of("memory_capability_mb"),
            "MEMORY_CAPACITY_MB",
            number_of("main_memory.ram_size") // 1024**2,
        ),
        disk_gb=pl.coalesce(
            number_of("disk_capability_gb"),
            "DISK_CAPACITY_GB",
            number_of("storage_devices.0.size") // 1024**3,
        ),
        gpus=number_of("gpu.gpu_count"),
        # Only a hypervisor's events tell its vcpus so; a host is the one or the other for good.
        host_class=pl.when(vcpus.is_not_null().any().over("hostname"))
        .then(pl.lit(KVM))
        .otherwise(pl.lit(BARE_METAL)),
    ).unique(["hostname", "start"], keep="first", maintain_order=True)


def lease_events(inputs: RawInputs) -> Ingested:
    """Lease events -> committed, host by host, and lead times.

    CREATE says when and for when a lease was asked for, START when its first instance ran, DELETE
    when it was deleted, ALLOCATE and RELEASE since and until when it held a host or a slice of one.
    """
    rows = inputs.get(LEASE_EVENTS)
    if rows.is_empty():  # the published traces have none, and then say nothing of leases
        return Ingested()
    rows = rows.with_row_index("order").with_columns(
        pl.col("order").cast(pl.Int64), lease_id="LEASE_UUID", entity_id=property_of("allocation")
    )
    asked = rows.filter(pl.col("EVENT") == "CREATE").unique(
        "lease_id", keep="first", maintain_order=True
    )
    started, deleted = (
        rows.filter(pl.col("EVENT") == event)
        .group_by("lease_id")
        .agg(pl.col("EVENT_TIME").min().alias(name))
        for event, name in (("START", "_started"), ("DELETE", "deleted_at"))
    )
    due, end = (
        property_of(name).str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False)
        for name in ("start_date", "end_date")
    )
    made = pl.col("EVENT_TIME")
    dated = asked.join(started, on="lease_id", how="left", maintain_order="left")
    leases = dated.join(deleted, on="lease_id", how="left", maintain_order="left").with_columns(
        created_at=made,
        node_type=property_of("node_type"),
        nodes=number_of("nodes"),
        requested_h=(due - made).dt.total_seconds() / 3600,
        effective_h=(pl.col("_started") - made).dt.total_seconds() / 3600,
        outcome=property_of("outcome").fill_null("started"),
        end_date=end,
        extended=property_of("extended").str.to_lowercase() == "true",
    )
    unasked = rows.select("lease_id").unique(maintain_order=True)
    allocations = rows.filter(pl.col("EVENT").is_in(["ALLOCATE", "RELEASE"]))
    good, bad = refuse(_allocations(allocations), LEASE_EVENTS, "entity_id")
    turns = allocations.select(
        "entity_id", "order", timestamp="EVENT_TIME", on=pl.col("EVENT") == "ALLOCATE"
    )
    # No RELEASE says that it was held to the last: the events leave nothing out, as tables do.
    lives = good.select("entity_id", "start", end=pl.col("end").fill_null(inputs.as_of))
    held = arithmetic.state_intervals(
        turns.cast({"entity_id": NAME}), lives.cast({"entity_id": NAME})
    )
    known = good.drop("start", "end").cast({"entity_id": NAME})
    return Ingested(
        completeness=speaks_of(LEASE_EVENTS, "committed"),
        intervals=present(
            held.join(known, on="entity_id", maintain_order="left"), LEASE_EVENTS, "committed"
        ),
        leases=conform(leases, Leases),
        aside=set_aside(unasked.join(asked, on="lease_id", how="anti"), LEASE_EVENTS, "lease_id"),
        rejects=bad,
    )


def _allocations(rows: pl.DataFrame) -> pl.DataFrame:
    """Make one row of an allocation of its events; without ALLOCATE it has no start."""
    begun = rows.filter(pl.col("EVENT") == "ALLOCATE")
    named = rows.with_columns(
        hostname=HOST,
        project_id="PROJECT_ID",
        reservation_id=pl.coalesce(property_of("reservation"), "lease_id"),
        nodes=number_of("nodes").fill_null(1),
        node_type=property_of("node_type"),
        host_class=pl.when(number_of("vcpus").is_null()).then(pl.lit(BARE_METAL)),
        vcpus=number_of("vcpus"),
        memory_mb=number_of("memory_mb"),
        disk_gb=number_of("disk_gb"),
        gpus=number_of("gpus"),
    ).unique("entity_id", keep="first", maintain_order=True)
    bounds = begun.group_by("entity_id").agg(start=pl.col("EVENT_TIME").min())
    last = (
        rows.sort("EVENT_TIME", "order")
        .group_by("entity_id")
        .agg(end=pl.when(pl.col("EVENT").last() == "RELEASE").then(pl.col("EVENT_TIME").last()))
    )
    return (
        named.drop("EVENT_TIME", "EVENT", "order")
        .join(bounds, on="entity_id", how="left", maintain_order="left")
        .join(last, on="entity_id", how="left", maintain_order="left")
    )
