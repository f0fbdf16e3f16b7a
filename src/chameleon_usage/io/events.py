"""What a site's history is, as the events of a public trace; ``io.traces`` writes them."""

from datetime import datetime

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.vocabulary import KVM

HOST = "HOST_NAME (PHYSICAL)"
EPOCH = datetime(2015, 9, 17)  # noqa: DTZ001 - naive UTC; the published traces count from here
ISO = "%Y-%m-%dT%H:%M:%S"
SIZES = ("vcpus", "memory_mb", "disk_gb")
WHERE = ("hostname", *SIZES, "reservation_id", "project_id")
"""What is known of an instance as long as it sits on a host."""

CREATE, TERMINATE = "compute__do_build_and_run_instance", "compute_terminate_instance"
STOP, START = "compute_stop_instance", "compute_start_instance"
OFFLOAD, UNSHELVE = "compute_shelve_offload_instance", "compute_unshelve_instance"
ARRIVE = "compute_post_live_migration_at_destination"
IN_TURN = pl.Enum([CREATE, UNSHELVE, ARRIVE, STOP, START, TERMINATE, OFFLOAD])
"""Events of an instance at one instant happen in this order."""


def _since_epoch(moment: str) -> pl.Expr:
    """Give the seconds since the trace's beginning; -1 is before, as the format has it."""
    passed = (pl.col(moment) - EPOCH).dt.total_seconds()
    return pl.when(passed < 0).then(-1).otherwise(passed).cast(pl.Float64)


def _properties(**members: pl.Expr) -> pl.Expr:
    """Write a Python dictionary of what is not null; "__" stands for a dot in a name."""
    texts = [
        pl.concat_str(pl.lit(f"'{name.replace('__', '.')}': "), value)
        for name, value in members.items()
    ]
    listed = pl.concat_list(texts).list.drop_nulls().list.join(", ")
    return pl.concat_str(pl.lit("{"), listed, pl.lit("}"))


def _quoted(column: str | pl.Expr) -> pl.Expr:
    value = pl.col(column) if isinstance(column, str) else column
    return pl.concat_str(pl.lit("'"), value.cast(pl.String), pl.lit("'"))


def _dated(rows: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Write times as text, and beside each its seconds since the trace's beginning."""
    seconds = {name.removesuffix("_TIME" * (name != "EVENT_TIME")) + "_SEC": name for name in names}
    return rows.with_columns(
        **{name: _since_epoch(moment) for name, moment in seconds.items()}
    ).with_columns(pl.col(names).dt.strftime(ISO))


def _null_as_text(rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Fill what is not known: keys by which intervals are joined may not be null."""
    return rows.with_columns(pl.col(names).cast(pl.String).fill_null(""))


def _text_as_null(rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    return rows.with_columns(pl.when(pl.col(name) != "").then(name).alias(name) for name in names)


def machines(hosts: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Write CREATE, UPDATE where the host became another, DELETE."""
    on_kvm, count = pl.col("host_class") == KVM, pl.col("gpus").cast(pl.String)
    sizes = pl.when(on_kvm).then(
        _properties(
            vcpu_capability=pl.col("vcpus").cast(pl.String),
            memory_capability_mb=pl.col("memory_mb").cast(pl.String),
            disk_capability_gb=pl.col("disk_gb").cast(pl.String),
            node_type=_quoted("node_type"),
            gpu__gpu_count=count,
        )
    )
    bare = _properties(
        node_type=_quoted("node_type"),
        architecture__smt_size=_quoted("vcpus"),
        main_memory__ram_size=_quoted(pl.col("memory_mb") * 1024**2),
        storage_devices__0__size=_quoted(pl.col("disk_gb") * 1024**3),
        gpu__gpu_count=count,
    )
    lives = arithmetic.union(
        hosts.with_columns(PROPERTIES=sizes.otherwise(bare)), ["hostname", "PROPERTIES"]
    ).sort("hostname", "start")
    before = pl.col("end").shift(1).over("hostname") == pl.col("start")
    after = pl.col("start").shift(-1).over("hostname") == pl.col("end")
    begun = lives.with_columns(
        EVENT_TIME="start",
        EVENT=pl.when(before).then(pl.lit("UPDATE")).otherwise(pl.lit("CREATE")),
    )
    ended = lives.filter(~after.fill_null(value=False) & (pl.col("end") < as_of)).with_columns(
        EVENT_TIME="end", EVENT=pl.lit("DELETE"), PROPERTIES=pl.lit("{}")
    )
    events = pl.concat([begun, ended]).rename({"hostname": HOST}).sort("EVENT_TIME", HOST)
    return _dated(events, "EVENT_TIME")


def instances(held: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Write the events by which instances sat on hosts, and ran.

    Args:
        held: pieces of HeldPieces, quantity types occupied and active; ``instance``, its key.
        as_of: what lasts until then has no event that ends it.

    Returns:
        the columns of ``traces.COLUMNS``, and others.
    """
    where = list(WHERE)
    filled = _null_as_text(held, where)
    occupied = pl.col("quantity_type").str.starts_with("occupied")
    # A seat is on one host; a visit has one or several, without a gap between them.
    seats = arithmetic.union(filled.filter(occupied), ["instance", *where])
    seats = seats.sort("instance", "start")
    visits = arithmetic.union(seats, ["instance"]).select("instance", "start", "end")
    runs, _ = arithmetic.intersect(
        arithmetic.union(filled.filter(~occupied), ["instance"]).select("instance", "start", "end"),
        visits.with_columns(visit="start", visit_end="end"),
        ["instance"],
    )
    begun = _begun(visits, seats, runs)
    moves = seats.join(begun, on=["instance", "start"], how="anti").with_columns(
        EVENT=pl.lit(ARRIVE), finish="start"
    )
    # What is done to an instance is done where it sits, or sat last.
    turns = _turns(visits, begun, runs, as_of).sort("start")
    there = turns.join_asof(
        seats.select("instance", *where, "start").sort("start"),
        on="start",
        by="instance",
        strategy="backward",
        check_sortedness=False,
    )
    columns = ["instance", *where, "start", "finish", "EVENT"]
    events = pl.concat(frame.select(columns) for frame in (begun, moves, there))
    events = events.sort("start", "instance", pl.col("EVENT").cast(IN_TURN))
    described = _text_as_null(events, where).with_columns(
        pl.lit(None, pl.String).alias("INSTANCE_NAME"),
        pl.lit(None, pl.String).alias("USER_ID"),
        EVENT_DURATION=(pl.col("finish") - pl.col("start")).dt.total_seconds().cast(pl.Float64),
        RESULT=pl.lit("Success"),
        PROPERTIES=_properties(
            memory_mb=pl.col("memory_mb"),
            root_gb=pl.col("disk_gb"),
            vcpus=pl.col("vcpus"),
            reservation=_quoted("reservation_id").fill_null("None"),
        ),
    )
    names = {"instance": "INSTANCE_UUID", "project_id": "PROJECT_ID", "hostname": HOST}
    names |= {"start": "START_TIME", "finish": "FINISH_TIME"}
    return _dated(described.rename(names), "START_TIME", "FINISH_TIME")


def _begun(visits: pl.DataFrame, seats: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Begin each visit: an instance's first by its build, the others by an unshelve event.

    A build lasts until the machine first runs, unless it was moved before; all else takes no time.
    """
    first_run = runs.group_by("instance", start="visit").agg(ran=pl.col("start").min())
    first = pl.col("instance").is_first_distinct()
    return (
        visits.sort("instance", "start")
        .select(
            "instance",
            "start",
            EVENT=pl.when(first).then(pl.lit(CREATE)).otherwise(pl.lit(UNSHELVE)),
        )
        .join(seats.rename({"end": "_left"}), on=["instance", "start"])
        .join(first_run, on=["instance", "start"], how="left", maintain_order="left")
        .with_columns(
            finish=pl.when((pl.col("EVENT") == CREATE) & (pl.col("ran") < pl.col("_left")))
            .then("ran")
            .otherwise("start")
        )
    )


def _turns(
    visits: pl.DataFrame, begun: pl.DataFrame, runs: pl.DataFrame, as_of: datetime
) -> pl.DataFrame:
    """Start and stop instances where they did not run from their build on, and end their visits.

    Returns:
        instance, start, finish, EVENT
    """
    # What begins a visit also lets it run: one that did not was stopped at once.
    idle = begun.filter(pl.col("ran").ne_missing(pl.col("finish"))).select("instance", "finish")
    built = begun.select("instance", visit="start", _built="finish")
    runs = runs.join(built, on=["instance", "visit"])
    last = pl.col("instance").is_last_distinct()
    left = visits.sort("instance", "start").with_columns(
        EVENT=pl.when(last).then(pl.lit(TERMINATE)).otherwise(pl.lit(OFFLOAD))
    )
    turns = [
        idle.with_columns(EVENT=pl.lit(STOP)),
        runs.filter(pl.col("start") != pl.col("_built")).select(
            "instance", finish="start", EVENT=pl.lit(START)
        ),
        runs.filter(pl.col("end") < pl.col("visit_end")).select(
            "instance", finish="end", EVENT=pl.lit(STOP)
        ),
        left.filter(pl.col("end") < as_of).select("instance", "EVENT", finish="end"),
    ]
    columns = ("instance", "finish", "EVENT")
    return pl.concat(turn.select(columns) for turn in turns).with_columns(start="finish")


def leases(asked: pl.DataFrame, held: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Write CREATE, START and DELETE of leases, ALLOCATE and RELEASE of what they held.

    Args:
        asked: Leases.
        held: pieces of HeldPieces, quantity type committed; ``allocation``, its key.
        as_of: what lasts until then has no event that ends it.

    Returns:
        the columns of ``traces.COLUMNS``, and others.
    """

    def later(hours: str) -> pl.Expr:
        return pl.col("created_at") + pl.duration(seconds=(pl.col(hours) * 3600).round())

    created = asked.with_columns(
        EVENT_TIME="created_at",
        EVENT=pl.lit("CREATE"),
        PROPERTIES=_properties(
            start_date=_quoted(later("requested_h").dt.strftime(ISO)),
            end_date=_quoted(pl.col("end_date").dt.strftime(ISO)),
            extended=pl.col("extended").cast(pl.String),
            nodes=pl.col("nodes").cast(pl.String),
            node_type=_quoted("node_type"),
            outcome=_quoted("outcome"),
        ),
    )
    started = asked.drop_nulls("effective_h").with_columns(
        EVENT_TIME=later("effective_h"), EVENT=pl.lit("START"), PROPERTIES=pl.lit("{}")
    )
    deleted = asked.drop_nulls("deleted_at").with_columns(
        EVENT_TIME="deleted_at", EVENT=pl.lit("DELETE"), PROPERTIES=pl.lit("{}")
    )
    parts = _allocations(held)
    given = parts.with_columns(EVENT_TIME="start", EVENT=pl.lit("ALLOCATE"))
    back = parts.filter(pl.col("end") < as_of).with_columns(
        EVENT_TIME="end", EVENT=pl.lit("RELEASE")
    )
    in_turn = pl.col("EVENT").cast(pl.Enum(["RELEASE", "CREATE", "START", "ALLOCATE", "DELETE"]))
    events = (
        pl.concat([created, started, given, back, deleted], how="diagonal_relaxed")
        .rename({"lease_id": "LEASE_UUID", "project_id": "PROJECT_ID", "hostname": HOST})
        .sort("EVENT_TIME", "LEASE_UUID", in_turn, "PROPERTIES")
    )
    return _dated(events, "EVENT_TIME")


def _allocations(held: pl.DataFrame) -> pl.DataFrame:
    """Put together what an allocation held of one host, and write what that is.

    What it held of another host, or of another size, counts as an allocation of its own.
    """
    what = ["hostname", *SIZES, "gpus", "nodes", "node_type"]
    of = ["allocation", "lease_id", "project_id", "reservation_id", *what]
    told = held.with_columns(
        # A host tells its type and its GPUs itself.
        node_type=pl.when(pl.col("hostname").is_null()).then("node_type"),
        gpus=pl.when(pl.col("vcpus").is_not_null()).then("gpus"),
    )
    parts = _text_as_null(arithmetic.union(_null_as_text(told, of), of), of)
    rank = pl.struct(what).rank("dense").over("allocation")
    other = pl.concat_str("allocation", pl.lit("/"), rank.cast(pl.String))
    return parts.with_columns(
        allocation=pl.when(rank > 1).then(other).otherwise("allocation")
    ).with_columns(
        PROPERTIES=_properties(
            allocation=_quoted("allocation"),
            reservation=_quoted("reservation_id"),
            nodes=pl.when(pl.col("hostname").is_null()).then("nodes"),
            node_type=_quoted("node_type"),
            **{name: pl.col(name) for name in (*SIZES, "gpus")},
        )
    )
