"""Instance events of public cloud traces -> occupied and active.

A trace's row is an event of Nova's ``instance_actions_events`` with the instance beside it; the
instance's own row is not there. ``traces`` says what the format is.
"""

import polars as pl

from chameleon_usage.ingest import nova, nova_moves
from chameleon_usage.ingest.base import HELD, amount, positive, present, refuse, speaks_of
from chameleon_usage.ingest.traces import HOST, number_of, profiles_of, property_of
from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw_files import INSTANCE_EVENTS, MACHINE_EVENTS
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import Ingested, Profiles
from chameleon_usage.models.vocabulary import BARE_METAL, KVM, Reason

ONE_AT_A_TIME = 2
"""A node has one instance at a time; what has more than so many, on average, is no node."""


def instance_events(inputs: RawInputs) -> Ingested:
    """Instance events -> occupied and active, by Nova's events, as ``nova.instances`` reads them.

    An instance occupies from the start of its build to the finish of its termination. Its row is
    not in the trace: one whose build is not there existed at least from its first event on. Of a
    bare-metal node that got another instance while the one before was never ended, the end is
    lost, and inferred. Until 2026 traces of bare metal name Nova's compute service instead of the
    node: of such an instance we know that it held a node, and not which.
    """
    machines = profiles_of(inputs.get(MACHINE_EVENTS).with_columns(hostname=HOST))
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
        vcpus=pl.coalesce(number_of("vcpus"), "VCPUS"),
        memory_mb=pl.coalesce(number_of("memory_mb"), "MEMORY_MB"),
        disk_gb=pl.coalesce(number_of("root_gb"), "DISK_GB"),
        reservation_id=property_of("reservation"),
        unreserved=pl.col("PROPERTIES").str.contains(r"""["']reservation["']\s*:\s*(None|null)"""),
    )


def _instances(told: pl.DataFrame, events: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """Make one row of an instance of its events.

    Returns:
        entity_id, start, end, hostname, host_class, project_id, reservation_id, unreserved,
        inferred, launched_at (null: its build tells); tried: its build was begun, built: when it
        was done, ran: another event shows that it ran.
    """
    create = pl.col("event") == nova_moves.CREATE
    rows = told.group_by("entity_id", maintain_order=True).agg(
        start=pl.col("begin").filter(pl.col("event") != nova.TERMINATE).min(),
        tried=create.any(),
        hostname=pl.col("hostname").drop_nulls().last(),
        sliced=pl.col("vcpus").is_not_null().any(),
        project_id=pl.col("PROJECT_ID").drop_nulls().last(),
        reservation_id=pl.col("reservation_id").drop_nulls().last(),
        unreserved=pl.col("unreserved").any(),
    )
    done = events.group_by("entity_id").agg(
        built=pl.col("finish").filter(create).min(),
        end=pl.col("finish").filter(pl.col("event") == nova.TERMINATE).max(),
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
        events.filter(pl.col("event").is_in(nova_moves.ARRIVALS))
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
