"""Public cloud traces: machines -> total, instances -> occupied and active, leases -> committed.

The format is that of the Chameleon cloud traces (ChameleonCloud/starcompactor, scienceclouds.org).
Version 0.1 has instance events, 0.2 machine events, too; both have a column for each size. Version
0.3 puts sizes and all else into PROPERTIES, a Python dictionary in text, so that it also fits bare
metal. All are read as 0.3. Times are UTC, a missing one is the word None.

Lease events are not in the format: they are this project's addition, written by ``io.traces``.
"""

import polars as pl

from chameleon_usage.ingest import nova
from chameleon_usage.ingest.base import (
    HELD,
    amount,
    positive,
    present,
    refuse,
    set_aside,
    speaks_of,
)
from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import (
    INSTANCE_EVENTS,
    LEASE_EVENTS,
    MACHINE_EVENTS,
    NAME,
    TIME,
    RawInputs,
)
from chameleon_usage.models.stages import Ingested, Leases, Profiles
from chameleon_usage.models.vocabulary import BARE_METAL, KVM, Reason

HOST = "HOST_NAME (PHYSICAL)"
TERMINATE = "compute_terminate_instance"
ONE_AT_A_TIME = 2
"""A node has one instance at a time; what has more than so many, on average, is no node."""


def _property(name: str) -> pl.Expr:
    """Read one value of PROPERTIES, a dictionary as Python or JSON writes it; None is null."""
    quoted = rf"""["']{name.replace(".", "[.]")}["']\s*:\s*["']?([^"',}}]+)"""
    text = pl.col("PROPERTIES").str.extract(quoted).str.strip_chars()
    return pl.when(~text.is_in(["None", "null", "nan", ""])).then(text)


def _number(name: str) -> pl.Expr:
    """Read a whole number of PROPERTIES; "48.0" is what shared a column with a missing one."""
    return _property(name).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)


def machine_events(inputs: RawInputs) -> Ingested:
    """Machine events -> total: a host exists from CREATE to DELETE, as often as they come.

    A host whose first CREATE is lost existed at least from its first other event on. ENABLE and
    DISABLE say whether it took leases, UPDATE what it was.
    """
    events = inputs.get(MACHINE_EVENTS).with_columns(entity_id=HOST, hostname=HOST)
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
        profiles=conform(_profiles(events), Profiles),
        rejects=bad,
    )


def _profiles(events: pl.DataFrame) -> pl.DataFrame:
    """Tell what each machine was from each of its events on; sizes are in bytes on bare metal."""
    vcpus = pl.coalesce(_number("vcpu_capability"), "VCPU_CAPACITY")
    return events.with_columns(
        start="EVENT_TIME",
        source=pl.lit(MACHINE_EVENTS),
        node_type=_property("node_type"),
        vcpus=pl.coalesce(vcpus, _number("architecture.smt_size")),
        memory_mb=pl.coalesce(
            _number("memory_capability_mb"),
            "MEMORY_CAPACITY_MB",
            _number("main_memory.ram_size") // 1024**2,
        ),
        disk_gb=pl.coalesce(
            _number("disk_capability_gb"),
            "DISK_CAPACITY_GB",
            _number("storage_devices.0.size") // 1024**3,
        ),
        gpus=_number("gpu.gpu_count"),
        # Only a hypervisor's events tell its vcpus so; a host is the one or the other for good.
        host_class=pl.when(vcpus.is_not_null().any().over("hostname"))
        .then(pl.lit(KVM))
        .otherwise(pl.lit(BARE_METAL)),
    ).unique(["hostname", "start"], keep="first", maintain_order=True)


def instance_events(inputs: RawInputs) -> Ingested:
    """Instance events -> occupied and active, by Nova's events, as ``nova.instances`` reads them.

    An instance occupies from the start of its build to the finish of its termination. Its row is
    not in the trace: one whose build is not there existed at least from its first event on. Of a
    bare-metal node that got another instance while the one before was never ended, the end is
    lost, and inferred. Until 2026 traces of bare metal name Nova's compute service instead of the
    node: of such an instance we know that it held a node, and not which.
    """
    machines = _profiles(inputs.get(MACHINE_EVENTS).with_columns(hostname=HOST))
    classes = machines.select("hostname", "host_class").unique()
    told = _told(inputs.get(INSTANCE_EVENTS))
    events = told.filter(pl.col("RESULT") == "Success")
    rows = _instances(told, events, classes)
    failed = pl.col("built").is_null() & pl.col("tried") & ~pl.col("ran")
    good, bad = refuse(
        rows, INSTANCE_EVENTS, "entity_id", pl.when(failed).then(pl.lit(Reason.FAILED_LAUNCH))
    )
    good = _placed(good)
    # Replayed, all count as instances with events.
    occupied, active = nova.replay(
        good.with_columns(node="hostname", vm_state=pl.lit(None, pl.String)), events, good
    )
    stays = _stays(events, good)
    known = good.select(
        *("entity_id", "project_id", "reservation_id", "unreserved", "inferred"),
        host_class=pl.when(pl.col("hostname").is_null()).then("host_class"),
    )
    held = []
    for quantity, intervals in (("occupied", occupied), ("active", active)):
        parts = _by_stay(intervals, stays).join(known, left_on="instance", right_on="entity_id")
        held.append(present(parts, INSTANCE_EVENTS, quantity))
    strangers = good.join(classes, on="hostname", how="anti").drop_nulls("hostname")
    profiles = strangers.select("hostname", "start", "host_class", source=pl.lit(INSTANCE_EVENTS))
    return Ingested(
        completeness=speaks_of(INSTANCE_EVENTS, *HELD),
        intervals=pl.concat(held),
        profiles=conform(
            profiles.sort("hostname", "start", "host_class").unique(
                ["hostname", "start"], keep="first", maintain_order=True
            ),
            Profiles,
        ),
        rejects=bad,
    )


def _told(rows: pl.DataFrame) -> pl.DataFrame:
    """Give the events with the names that ``nova.replay`` knows, and the size each tells."""
    return rows.with_row_index("order").with_columns(
        pl.col("order").cast(pl.Int64),
        entity_id="INSTANCE_UUID",
        event="EVENT",
        hostname=HOST,
        begin=pl.coalesce("START_TIME", "FINISH_TIME"),
        finish="FINISH_TIME",
        vcpus=pl.coalesce(_number("vcpus"), "VCPUS"),
        memory_mb=pl.coalesce(_number("memory_mb"), "MEMORY_MB"),
        disk_gb=pl.coalesce(_number("root_gb"), "DISK_GB"),
        reservation_id=_property("reservation"),
        unreserved=pl.col("PROPERTIES").str.contains(r"""["']reservation["']\s*:\s*(None|null)"""),
    )


def _instances(told: pl.DataFrame, events: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """Make one row of an instance of its events.

    Returns:
        entity_id, start, end, hostname, host_class, project_id, reservation_id, unreserved,
        inferred, launched_at (null: its build tells); tried: its build was begun, built: when it
        was done, ran: another event shows that it ran.
    """
    create = pl.col("event") == nova.CREATE
    rows = told.group_by("entity_id", maintain_order=True).agg(
        start=pl.col("begin").filter(pl.col("event") != TERMINATE).min(),
        tried=create.any(),
        hostname=pl.col("hostname").drop_nulls().last(),
        sliced=pl.col("vcpus").is_not_null().any(),
        project_id=pl.col("PROJECT_ID").drop_nulls().last(),
        reservation_id=pl.col("reservation_id").drop_nulls().last(),
        unreserved=pl.col("unreserved").any(),
    )
    done = events.group_by("entity_id").agg(
        built=pl.col("finish").filter(create).min(),
        end=pl.col("finish").filter(pl.col("event") == TERMINATE).max(),
        ran=pl.col("event").is_in(nova.RUNS).any(),
    )
    by_size = pl.when("sliced").then(pl.lit(KVM)).otherwise(pl.lit(BARE_METAL))
    return (
        rows.join(done, on="entity_id", how="left", maintain_order="left")
        .join(classes, on="hostname", how="left", maintain_order="left")
        .with_columns(
            ran=pl.col("ran").fill_null(value=False),
            host_class=pl.coalesce("host_class", by_size),
            inferred=~pl.col("tried"),
            launched_at=pl.when(~pl.col("tried")).then("start"),
        )
    )


def _placed(rows: pl.DataFrame) -> pl.DataFrame:
    """Take from bare-metal instances what is no node, and end those that another one followed."""
    bare = pl.col("host_class") == BARE_METAL
    ended = rows.filter(bare & pl.col("end").is_not_null() & pl.col("hostname").is_not_null())
    lengths = [
        frame.group_by("hostname").agg(arithmetic.SECONDS.sum().alias(name))
        for name, frame in (
            ("_added", ended),
            ("_once", arithmetic.union(ended, ["hostname"])),
        )
    ]
    services = (
        lengths[0]
        .join(lengths[1], on="hostname")
        .filter(pl.col("_added") > ONE_AT_A_TIME * pl.col("_once"))
    )["hostname"]
    service = (bare & pl.col("hostname").is_in(services.implode())).fill_null(value=False)
    placed = rows.with_columns(hostname=pl.when(~service).then("hostname"))
    following = pl.col("start").shift(-1).over("hostname")
    replaced = (
        bare & pl.col("hostname").is_not_null() & pl.col("end").is_null() & following.is_not_null()
    )
    return placed.sort("hostname", "start", "entity_id", nulls_last=True).with_columns(
        end=pl.when(replaced & (following > pl.col("start"))).then(following).otherwise("end"),
        inferred=pl.col("inferred") | replaced,
    )


def _stays(events: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Tell on which host instances were, and of which size, from each arrival to the next.

    Returns:
        instance, start (null: from the first), end (null: to the last), hostname, sizes. One whose
        host is taken from it, as no node, has one stay without.
    """
    sizes = ["vcpus", "memory_mb", "disk_gb"]
    first = events.group_by("entity_id", maintain_order=True).agg(
        pl.col(name).drop_nulls().first() for name in sizes
    )
    arrived = (
        events.filter(pl.col("event").is_in(nova.ARRIVALS))
        .drop_nulls("hostname")
        .sort("entity_id", "finish", "order")
        .with_columns(pl.col(sizes).forward_fill().backward_fill().over("entity_id"))
    )
    changed = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(name).shift(1).over("entity_id"))
        for name in ("hostname", *sizes)
    )
    moved = arrived.filter(changed | pl.col("entity_id").is_first_distinct())
    at_home = rows.filter(pl.col("host_class") == BARE_METAL)
    moved = moved.join(at_home, on="entity_id", how="anti").join(rows, on="entity_id", how="semi")
    still = rows.join(moved, on="entity_id", how="anti").join(first, on="entity_id", how="left")
    later = ~pl.col("entity_id").is_first_distinct()
    life = rows.select(instance="entity_id", _begun="start")
    stays = pl.concat(
        [
            moved.select(
                "hostname",
                *sizes,
                instance="entity_id",
                start=pl.when(later).then("finish"),
                end=pl.col("finish").shift(-1).over("entity_id"),
            ),
            still.select("hostname", *sizes, instance="entity_id"),
        ],
        how="diagonal",
    ).join(life, on="instance", maintain_order="left")
    return stays.filter((pl.col("end") > pl.col("_begun")).fill_null(value=True)).with_columns(
        vcpus=positive("vcpus"), memory_mb=positive("memory_mb"), disk_gb=amount(pl.col("disk_gb"))
    )


def _by_stay(intervals: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Cut the intervals of instances at their moves; a later stay's key is "<uuid>/<n>".

    Both quantities of an instance name its stays alike: an instance that was there at all was on
    its first.
    """
    number = pl.col("_number").cast(pl.String)
    later = pl.concat_str(pl.col("instance").cast(pl.String), pl.lit("/"), number).cast(NAME)
    numbered = stays.with_columns(_number=pl.int_range(1, pl.len() + 1).over("instance"))
    return (
        intervals.join(
            numbered.rename({"start": "_start", "end": "_end"}),
            left_on="entity_id",
            right_on="instance",
            how="left",
            maintain_order="left",
        )
        .with_columns(
            instance="entity_id",
            start=pl.max_horizontal("start", "_start"),
            end=pl.min_horizontal("end", "_end"),
        )
        .filter((pl.col("start") < pl.col("end")).fill_null(value=True))
        .with_columns(entity_id=pl.when(pl.col("_number") > 1).then(later).otherwise("instance"))
        .drop("_start", "_end", "_number")
    )


def lease_events(inputs: RawInputs) -> Ingested:
    """Lease events -> committed, host by host, and lead times.

    CREATE says when and for when a lease was asked for, START when its first instance ran,
    ALLOCATE and RELEASE since and until when it held a host or a slice of one.
    """
    rows = inputs.get(LEASE_EVENTS)
    if rows.is_empty():  # the published traces have none, and then say nothing of leases
        return Ingested()
    rows = rows.with_row_index("order").with_columns(
        pl.col("order").cast(pl.Int64), lease_id="LEASE_UUID", entity_id=_property("allocation")
    )
    asked = rows.filter(pl.col("EVENT") == "CREATE").unique(
        "lease_id", keep="first", maintain_order=True
    )
    started = (
        rows.filter(pl.col("EVENT") == "START")
        .group_by("lease_id")
        .agg(_started=pl.col("EVENT_TIME").min())
    )
    due = _property("start_date").str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False)
    made = pl.col("EVENT_TIME")
    leases = asked.join(started, on="lease_id", how="left", maintain_order="left").with_columns(
        created_at=made,
        node_type=_property("node_type"),
        nodes=_number("nodes"),
        requested_h=(due - made).dt.total_seconds() / 3600,
        effective_h=(pl.col("_started") - made).dt.total_seconds() / 3600,
        outcome=_property("outcome").fill_null("started"),
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
        reservation_id=pl.coalesce(_property("reservation"), "lease_id"),
        nodes=_number("nodes").fill_null(1),
        node_type=_property("node_type"),
        host_class=pl.when(_number("vcpus").is_null()).then(pl.lit(BARE_METAL)),
        vcpus=_number("vcpus"),
        memory_mb=_number("memory_mb"),
        disk_gb=_number("disk_gb"),
        gpus=_number("gpus"),
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
