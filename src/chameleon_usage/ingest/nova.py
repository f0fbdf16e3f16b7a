"""Nova: hypervisors -> total, instances and what was done to them -> occupied and active."""

import polars as pl

from chameleon_usage.ingest.base import (
    HELD,
    Joins,
    entities,
    facts,
    refuse_bad_bounds,
    rejects,
    set_aside,
    speaks_of,
    state_intervals,
)
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import RawInputs
from chameleon_usage.models.stages import Ingested, Profiles

COMPUTE_NODES, SERVICES = "nova.compute_nodes", "nova.services"
INSTANCES, ACTIONS, EVENTS = (
    "nova.instances",
    "nova.instance_actions",
    "nova.instance_actions_events",
)
REQUEST_SPECS = "nova_api.request_specs"

BARE_METAL, KVM, DEVICE = "bare_metal", "kvm", "device"


def host_class(hypervisor_type: str = "hypervisor_type") -> pl.Expr:
    """Tell a bare-metal node (Ironic) from a KVM host by its hypervisor type."""
    kind = pl.col(hypervisor_type).str.to_lowercase()
    return pl.when(kind == "ironic").then(pl.lit(BARE_METAL)).when(kind != "").then(pl.lit(KVM))


LARGEST = 2**30
"""No size of a machine reaches this; sums of sizes times seconds stay exact below it."""


def positive(column: str) -> pl.Expr:
    """Read a size; 0 and less mean that it was never filled in, 2^30 and more are no size."""
    return pl.when(pl.col(column).is_between(1, LARGEST - 1)).then(pl.col(column))


def amount(size: pl.Expr) -> pl.Expr:
    """Read what an instance or a slice asked for, which may be none of a resource."""
    return pl.when(size.is_between(0, LARGEST - 1)).then(size)


def hosts(inputs: RawInputs) -> Ingested:
    """nova.compute_nodes -> total: a row is a hypervisor's life from created_at to deleted_at.

    A row without a created_at starts where the rows before it tell (``_started``), or it is refused
    here and other witnesses speak for the host. A KVM host's own nova-compute service
    (nova.services) is such a witness: its ``host`` is the hypervisor's name there, which it is not
    for Ironic.
    """
    rows = _started(inputs.get(COMPUTE_NODES)).with_columns(
        entity_id=pl.col("id").cast(pl.String), end="deleted_at", host_class=host_class()
    )
    nameless = rows.filter(pl.col("hypervisor_hostname").is_null())
    named = rows.filter(pl.col("hypervisor_hostname").is_not_null())
    good, bad = refuse_bad_bounds(named, stage="ingest", source=COMPUTE_NODES, row_id="id")
    seen = good.with_columns(hostname="hypervisor_hostname")
    profile = (
        inputs.versions(COMPUTE_NODES)
        .filter(
            pl.col("hypervisor_hostname").is_not_null()
            & pl.min_horizontal("created_at", "deleted_at").is_not_null()
        )
        .with_columns(host_class=host_class())
    ).with_columns(
        hostname="hypervisor_hostname",
        start=pl.coalesce("since", "created_at", "deleted_at"),
        source=pl.lit(COMPUTE_NODES),
        vcpus=positive("vcpus"),
        memory_mb=positive("memory_mb"),
        disk_gb=positive("local_gb"),
    )
    services = inputs.get(SERVICES).with_columns(
        entity_id=pl.col("id").cast(pl.String),
        hostname="host",
        start="created_at",
        end="deleted_at",
    )
    names = named.filter(pl.col("host_class") == KVM)["hypervisor_hostname"].unique()
    of_host = (pl.col("binary") == "nova-compute") & pl.col("host").is_in(names.implode())
    of_host = of_host.fill_null(value=False)
    of_hosts = services.filter(of_host)
    up, down = refuse_bad_bounds(of_hosts, stage="ingest", source=SERVICES, row_id="id")
    return Ingested(
        completeness=speaks_of(COMPUTE_NODES, "total"),
        facts=pl.concat([facts(seen, COMPUTE_NODES, "total"), facts(up, SERVICES, "total")]),
        entities=pl.concat(
            [entities(seen, COMPUTE_NODES, "total"), entities(up, SERVICES, "total")]
        ),
        profiles=conform(profile, Profiles),
        aside=set_aside(services.filter(~of_host), SERVICES, "entity_id"),
        rejects=pl.concat(
            [
                bad,
                down,
                rejects(
                    nameless,
                    stage="ingest",
                    source=COMPUTE_NODES,
                    reason="no hypervisor_hostname",
                    row_id="id",
                ),
            ]
        ),
    )


def _started(rows: pl.DataFrame) -> pl.DataFrame:
    """Tell when each row began: ``start``, and ``inferred`` where its created_at is lost.

    A hypervisor that had a row before has its next one after the end of that, and, as ids count up,
    after the row with the id before was made. Who had none before has no start.
    """
    made = pl.col("created_at").forward_fill()
    ended = pl.col("deleted_at").cum_max().forward_fill().shift(1).over("hypervisor_hostname")
    after = pl.when(ended.is_not_null()).then(pl.max_horizontal(made, ended))
    before_its_end = (after < pl.col("deleted_at")).fill_null(value=True)
    return rows.sort("id").with_columns(
        start=pl.coalesce("created_at", pl.when(before_its_end).then(after)),
        inferred=pl.col("created_at").is_null(),
    )


CREATE = "compute__do_build_and_run_instance"

_ARRIVALS = (
    CREATE,
    "compute_finish_resize",
    "compute_finish_revert_resize",
    "compute_post_live_migration_at_destination",
    "compute_rebuild_instance",
    "compute_unshelve_instance",
)
"""Events whose host is where the instance is from their finish on."""

# What an event that succeeded makes of an instance, by Nova's event name:
# (occupies from, runs from). "start"/"finish": from that time of the event on; None: no change.
_EFFECTS = pl.DataFrame(
    [
        (CREATE, None, None, True, "finish"),
        ("compute_start_instance", None, None, True, "finish"),
        ("compute_unpause_instance", None, None, True, "finish"),
        ("compute_resume_instance", None, None, True, "finish"),
        ("compute_reboot_instance", None, None, True, "finish"),
        ("compute_unrescue_instance", None, None, True, "finish"),
        ("compute_restore_instance", None, None, True, "finish"),
        ("compute_stop_instance", None, None, False, "finish"),
        ("compute_pause_instance", None, None, False, "finish"),
        ("compute_suspend_instance", None, None, False, "finish"),
        ("compute_rescue_instance", None, None, False, "finish"),
        ("compute_soft_delete_instance", None, None, False, "finish"),
        ("compute_shelve_instance", None, None, False, "finish"),
        ("compute_shelve_offload_instance", False, "finish", False, "finish"),
        ("compute_unshelve_instance", True, "start", True, "finish"),
    ],
    schema={
        "event": pl.String,
        "occupies": pl.Boolean,
        "occupies_at": pl.String,
        "runs": pl.Boolean,
        "runs_at": pl.String,
    },
    orient="row",
)


def instances(inputs: RawInputs) -> Ingested:
    """nova.instances and their actions -> occupied and active.

    Two witnesses for each instance: its row alone (``nova.instances``), and the row together with
    its successful events (``nova.instance_actions``), which knows of shelving, stops and starts.
    The reservation is the request spec's scheduler hint, or its flavor's name; where the spec is
    purged it is null, and found later from the commitment of that host at that time.
    """
    joins = Joins()
    rows = joins.left(
        "nova.instances -> nova_api.request_specs",
        inputs.get(INSTANCES),
        inputs.get(REQUEST_SPECS).rename({"instance_uuid": "uuid"}),
        "uuid",
    )
    events = _events(inputs, joins)
    create = pl.col("event") == CREATE
    last_known = events.group_by("entity_id").agg(
        begun=pl.col("begin").filter(create).min(),
        created=pl.col("finish").filter(create).min(),
        freed=pl.col("finish").filter(pl.col("event") == "compute_terminate_instance").max(),
    )
    rows = rows.rename({"uuid": "entity_id"}).join(last_known, on="entity_id", how="left")
    rows = rows.with_columns(
        start=pl.coalesce("created_at", "begun", "launched_at"),
        end=pl.coalesce("deleted_at", "terminated_at", "freed"),
        inferred=pl.col("created_at").is_null(),
        vcpus=positive("vcpus"),
        memory_mb=positive("memory_mb"),
        hostname="node",
        reservation_id=pl.coalesce("flavor", "hint"),
        disk_gb=amount(pl.col("root_gb").fill_null(0))
        + amount(pl.col("ephemeral_gb").fill_null(0)),
    )
    failed = pl.col("launched_at").is_null() & pl.col("created").is_null()
    failed &= (pl.col("vm_state") == "error") | pl.col("end").is_not_null()
    launched = rows.filter(~failed.fill_null(value=False))
    good, bad = refuse_bad_bounds(launched, stage="ingest", source=INSTANCES, row_id="entity_id")
    runs = good.with_columns(start="launched_at").filter(
        pl.col("start").is_not_null() & (pl.col("start") < pl.col("end")).fill_null(value=True)
    )
    moves = _moves(events, inputs.get(COMPUTE_NODES))
    stays = _stays(moves)
    seat = moves.group_by("entity_id", maintain_order=True).agg(_seat=pl.col("hostname").last())
    # A machine that is shelved and offloaded has no node any more; its events tell where it was.
    seated = good.join(seat, on="entity_id", how="left").with_columns(
        hostname=pl.coalesce("hostname", "_seat"),
        inferred=pl.col("inferred") | (pl.col("node").is_null() & pl.col("_seat").is_not_null()),
    )
    moved = pl.concat(
        [seated, _guests(good, stays)],
        how="diagonal",
    )
    by_events = _replay(good, events, moves, stays)
    occupied = pl.concat(
        [entities(good, INSTANCES, "occupied"), entities(moved, ACTIONS, "occupied")]
    )
    active = pl.lit("active", occupied["quantity_type"].dtype)
    return Ingested(
        completeness=speaks_of(INSTANCES, *HELD),
        facts=pl.concat(
            [
                facts(good, INSTANCES, "occupied"),
                facts(runs, INSTANCES, "active"),
                *by_events,
            ]
        ),
        entities=pl.concat([occupied, occupied.with_columns(quantity_type=active)]),
        rejects=pl.concat(
            [
                bad,
                rejects(
                    rows.filter(failed.fill_null(value=False)),
                    stage="ingest",
                    source=INSTANCES,
                    reason="launch failed or never happened",
                    row_id="entity_id",
                ),
            ]
        ),
        join_log=joins.log(),
    )


def _events(inputs: RawInputs, joins: Joins) -> pl.DataFrame:
    """Give the successful events of every instance: entity_id, event, begin, finish, order."""
    actions = inputs.get(ACTIONS).select(
        entity_id="instance_uuid", action_id="id", action_finish="finish_time"
    )
    rows = joins.left(
        "nova.instance_actions_events -> nova.instance_actions",
        inputs.get(EVENTS).filter(pl.col("result") == "Success"),
        actions,
        "action_id",
    )
    return rows.select(
        "entity_id",
        "event",
        "host",
        order="id",
        begin="start_time",
        finish=pl.coalesce("finish_time", "action_finish", "start_time"),
    ).filter(pl.col("entity_id").is_not_null() & pl.col("finish").is_not_null())


def _moves(events: pl.DataFrame, nodes: pl.DataFrame) -> pl.DataFrame:
    """Find the KVM hosts at which instances arrived: the events' columns and hostname, in order.

    On Ironic an event's host is the compute service's, not the node: those are left out.
    """
    names = (
        nodes.filter((host_class() == KVM) & pl.col("host").is_not_null())
        .group_by("host")
        .agg(hostname=pl.col("hypervisor_hostname").unique())
        .filter(pl.col("hostname").list.len() == 1)
        .explode("hostname")
    )
    arrivals = (
        events.filter(pl.col("event").is_in(_ARRIVALS))
        .join(names, on="host", how="inner")
        .sort("entity_id", "finish", "order")
    )
    return arrivals.filter(
        pl.col("hostname").ne_missing(pl.col("hostname").shift(1).over("entity_id"))
    )


def _stays(moves: pl.DataFrame) -> pl.DataFrame:
    """Tell where migrated VMs were, and when: uuid, entity_id, hostname, start, end.

    An instance's row names its last node only; the events by which it arrived tell the others.
    The last stay is the row's own and keeps its key; the n-th host before is "<uuid>/<n>".
    """
    numbered = moves.with_columns(
        n=pl.int_range(pl.len()).over("entity_id"), stays=pl.len().over("entity_id")
    )
    last = pl.col("n") == pl.col("stays") - 1
    return (
        numbered.filter(pl.col("stays") > 1)
        .with_columns(
            # Before its first arrival was done, it was already being built there.
            start=pl.when(pl.col("n") > 0).then("finish"),
            end=pl.col("finish").shift(-1).over("entity_id"),
            uuid="entity_id",
        )
        .with_columns(
            entity_id=pl.when(last)
            .then("uuid")
            .otherwise(
                pl.concat_str(pl.col("uuid").cast(pl.String), pl.lit("/"), pl.col("n") + 1).cast(
                    pl.Categorical
                )
            )
        )
        .select("uuid", "entity_id", "hostname", "start", "end")
    )


def _guests(rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Give the earlier stays of migrated VMs rows of their own, with their own host."""
    earlier = stays.filter(pl.col("uuid") != pl.col("entity_id"))
    return (
        earlier.select(pl.col("uuid"), _id="entity_id", _host="hostname")
        .join(rows, left_on="uuid", right_on="entity_id", how="inner")
        .with_columns(entity_id="_id", hostname="_host")
        .drop("_id", "_host", "uuid")
    )


def _by_stay(intervals: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Cut the intervals of migrated VMs at their moves; stays have no gap between them."""
    there = stays.rename({"entity_id": "_id", "uuid": "entity_id"})
    return (
        intervals.join(there, on="entity_id", how="left", suffix="_there")
        .select(
            entity_id=pl.coalesce("_id", "entity_id"),
            start=pl.max_horizontal("start", "start_there"),
            end=pl.min_horizontal("end", "end_there"),
        )
        .filter((pl.col("start") < pl.col("end")).fill_null(value=True))
    )


def _replay(
    rows: pl.DataFrame, events: pl.DataFrame, moves: pl.DataFrame, stays: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Replay the events of instances that have any: occupied and active facts.

    An instance whose create event is lost runs from its row's launched_at on.
    """
    known = events.join(_EFFECTS, on="event", how="inner")
    told = pl.concat([known.select("entity_id"), moves.select("entity_id")]).unique()
    lives = rows.select("entity_id", "start", "end", "launched_at").join(
        told, on="entity_id", how="semi"
    )
    created = events.filter(pl.col("event") == CREATE).select("entity_id").unique()
    uncreated = lives.join(created, on="entity_id", how="anti")
    lives = lives.drop("launched_at")
    born = lives.select("entity_id", timestamp="start", on=pl.lit(value=True))
    unborn = lives.select("entity_id", timestamp="start", on=pl.lit(value=False))
    launched = uncreated.select("entity_id", timestamp="launched_at", on=pl.lit(value=True))
    given_up = _offloads_without_event(events)
    occupies = pl.concat(
        [
            born.with_columns(order=pl.lit(-1, pl.Int64)),
            given_up,
            known.filter(pl.col("occupies").is_not_null()).select(
                "entity_id",
                timestamp=pl.when(pl.col("occupies_at") == "start")
                .then("begin")
                .otherwise("finish"),
                on="occupies",
                order="order",
            ),
        ]
    )
    active = pl.concat(
        [
            unborn.with_columns(order=pl.lit(-2, pl.Int64)),
            launched.drop_nulls("timestamp").with_columns(order=pl.lit(-1, pl.Int64)),
            known.select("entity_id", timestamp="finish", on="runs", order="order"),
        ]
    )
    return (
        facts(_by_stay(state_intervals(occupies, lives), stays), ACTIONS, "occupied"),
        facts(_by_stay(state_intervals(active, lives), stays), ACTIONS, "active"),
    )


def _offloads_without_event(events: pl.DataFrame) -> pl.DataFrame:
    """Find shelved instances that were unshelved without an offload event in between.

    Nova offloads at once where the shelve grace time is 0; compute_shelve_instance then finishes
    with the host given up.
    """
    steps = events.filter(
        pl.col("event").is_in(
            [
                "compute_shelve_instance",
                "compute_shelve_offload_instance",
                "compute_unshelve_instance",
            ]
        )
    ).sort("entity_id", "finish", "order")
    following = pl.col("event").shift(-1).over("entity_id")
    return steps.filter(
        (pl.col("event") == "compute_shelve_instance") & (following == "compute_unshelve_instance")
    ).select("entity_id", timestamp="finish", on=pl.lit(value=False), order="order")
