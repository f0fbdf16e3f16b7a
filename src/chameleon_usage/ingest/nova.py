"""Nova: hypervisors -> total, instances and what was done to them -> occupied and active."""

import polars as pl

from chameleon_usage.ingest.base import (
    HELD,
    Joins,
    amount,
    host_class,
    positive,
    present,
    refuse,
    set_aside,
    speaks_of,
)
from chameleon_usage.intervals.arithmetic import state_intervals
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import NAME, RawInputs
from chameleon_usage.models.stages import Ingested, Profiles
from chameleon_usage.models.vocabulary import KVM, Reason

COMPUTE_NODES, SERVICES = "nova.compute_nodes", "nova.services"
INSTANCES, ACTIONS, EVENTS = (
    "nova.instances",
    "nova.instance_actions",
    "nova.instance_actions_events",
)
REQUEST_SPECS = "nova_api.request_specs"


def hosts(inputs: RawInputs) -> Ingested:
    """nova.compute_nodes -> total: a row is a hypervisor's life from created_at to deleted_at.

    A row without a created_at starts where the rows before it tell (``_started``), or it is refused
    here and other sources speak for the host. A KVM host's own nova-compute service
    (nova.services) is such a source: its ``host`` is the hypervisor's name there, which it is not
    for Ironic.
    """
    rows = _started(inputs.get(COMPUTE_NODES)).with_columns(
        entity_id=pl.col("id").cast(pl.String),
        hostname="hypervisor_hostname",
        end="deleted_at",
        host_class=host_class(),
    )
    nameless = pl.when(pl.col("hostname").is_null()).then(pl.lit(Reason.NO_HYPERVISOR_HOSTNAME))
    seen, bad = refuse(rows, COMPUTE_NODES, "id", nameless)
    dated = pl.min_horizontal("created_at", "deleted_at").is_not_null()
    profiles = inputs.versions(COMPUTE_NODES).select(
        host_class=host_class(),
        hostname="hypervisor_hostname",
        start=pl.when(dated).then(pl.coalesce("since", "created_at", "deleted_at")),
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
    on_kvm = rows.filter(pl.col("host_class") == KVM)["hostname"].drop_nulls().unique()
    of_host = (pl.col("binary") == "nova-compute") & pl.col("host").is_in(on_kvm.implode())
    of_host = of_host.fill_null(value=False)
    up, down = refuse(services.filter(of_host), SERVICES, "id")
    return Ingested(
        completeness=speaks_of(COMPUTE_NODES, "total"),
        intervals=pl.concat(
            [present(seen, COMPUTE_NODES, "total"), present(up, SERVICES, "total")]
        ),
        profiles=conform(profiles.drop_nulls(["hostname", "start"]), Profiles),
        aside=set_aside(services.filter(~of_host), SERVICES, "entity_id"),
        rejects=pl.concat([bad, down]),
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

# What an event that succeeded makes of an instance, by Nova's event name: whether it occupies its
# node, from the event's start or finish on (None: no change), and whether it runs, from its finish.
_EFFECTS = pl.DataFrame(
    [
        (CREATE, None, None, True),
        ("compute_start_instance", None, None, True),
        ("compute_unpause_instance", None, None, True),
        ("compute_resume_instance", None, None, True),
        ("compute_reboot_instance", None, None, True),
        ("compute_unrescue_instance", None, None, True),
        ("compute_restore_instance", None, None, True),
        ("compute_stop_instance", None, None, False),
        ("compute_pause_instance", None, None, False),
        ("compute_suspend_instance", None, None, False),
        ("compute_rescue_instance", None, None, False),
        ("compute_soft_delete_instance", None, None, False),
        ("compute_shelve_instance", None, None, False),
        ("compute_shelve_offload_instance", False, "finish", False),
        ("compute_unshelve_instance", True, "start", True),
    ],
    schema={
        "event": pl.String,
        "occupies": pl.Boolean,
        "occupies_at": pl.String,
        "runs": pl.Boolean,
    },
    orient="row",
)


def instances(inputs: RawInputs) -> Ingested:
    """nova.instances and their actions -> occupied and active.

    Two sources for each instance: its row alone (``nova.instances``), and the row together with
    its successful events (``nova.instance_actions``), which knows of shelving, stops and starts.
    The reservation is the request spec's scheduler hint, or its flavor's name; where the spec is
    purged it is null, and found later from the commitment of that host at that time.
    """
    joins = Joins()
    events = _events(inputs, joins)
    rows = _rows(inputs, events, joins)
    failed = pl.col("launched_at").is_null() & pl.col("created").is_null()
    failed &= (pl.col("vm_state") == "error") | pl.col("end").is_not_null()
    good, bad = refuse(
        rows, INSTANCES, "entity_id", pl.when(failed).then(pl.lit(Reason.FAILED_LAUNCH))
    )
    ran = good.with_columns(start="launched_at").filter(
        pl.col("start").is_not_null() & (pl.col("start") < pl.col("end")).fill_null(value=True)
    )
    moves = _moves(events, inputs.get(COMPUTE_NODES))
    stays = _stays(moves)
    known = _known_of_stays(good, moves, stays).drop("start", "end")
    occupied, active = (
        _by_stay(held, stays).join(known, on="entity_id", maintain_order="left")
        for held in _replay(good, events, moves)
    )
    return Ingested(
        completeness=speaks_of(INSTANCES, *HELD),
        intervals=pl.concat(
            [
                present(good, INSTANCES, "occupied"),
                present(ran, INSTANCES, "active"),
                present(occupied, ACTIONS, "occupied"),
                present(active, ACTIONS, "active"),
            ]
        ),
        rejects=bad,
        join_log=joins.log(),
    )


def _rows(inputs: RawInputs, events: pl.DataFrame, joins: Joins) -> pl.DataFrame:
    """Give each instance its reservation, its bounds and its size; ``created`` by its events."""
    specs = inputs.get(REQUEST_SPECS).select(
        uuid="instance_uuid", reservation_id=pl.coalesce("flavor", "hint")
    )
    name = "nova.instances -> nova_api.request_specs"
    rows = joins.left(name, inputs.get(INSTANCES), specs, "uuid").rename({"uuid": "entity_id"})
    create = pl.col("event") == CREATE
    by_events = events.group_by("entity_id").agg(
        begun=pl.col("begin").filter(create).min(),
        created=pl.col("finish").filter(create).min(),
        freed=pl.col("finish").filter(pl.col("event") == "compute_terminate_instance").max(),
    )
    return rows.join(by_events, on="entity_id", how="left").with_columns(
        start=pl.coalesce("created_at", "begun", "launched_at"),
        end=pl.coalesce("deleted_at", "terminated_at", "freed"),
        inferred=pl.col("created_at").is_null(),
        hostname="node",
        vcpus=positive("vcpus"),
        memory_mb=positive("memory_mb"),
        disk_gb=amount(pl.col("root_gb").fill_null(0))
        + amount(pl.col("ephemeral_gb").fill_null(0)),
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
    """Tell where migrated VMs were, and when: instance, entity_id, hostname, start, end.

    An instance's row names its last node only; the events by which it arrived tell the others.
    The last stay is the row's own and keeps its key; the n-th host before is "<uuid>/<n>".
    """
    number, last = pl.int_range(pl.len()).over("entity_id"), pl.len().over("entity_id") - 1
    earlier = pl.concat_str(pl.col("entity_id").cast(pl.String), pl.lit("/"), number + 1)
    return moves.filter(pl.len().over("entity_id") > 1).select(
        "hostname",
        instance="entity_id",
        entity_id=pl.when(number == last).then("entity_id").otherwise(earlier.cast(NAME)),
        # Before its first arrival was done, it was already being built there.
        start=pl.when(number > 0).then("finish"),
        end=pl.col("finish").shift(-1).over("entity_id"),
    )


def _known_of_stays(rows: pl.DataFrame, moves: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Give every stay what is known of its instance, with the stay's own host.

    A machine that is shelved and offloaded has no node any more; its events tell where it was.
    """
    seat = moves.group_by("entity_id", maintain_order=True).agg(_seat=pl.col("hostname").last())
    seated = rows.join(seat, on="entity_id", how="left").with_columns(
        hostname=pl.coalesce("hostname", "_seat"),
        inferred=pl.col("inferred") | (pl.col("node").is_null() & pl.col("_seat").is_not_null()),
    )
    earlier = stays.filter(pl.col("instance") != pl.col("entity_id"))
    guests = earlier.select("instance", _id="entity_id", _host="hostname").join(
        rows, left_on="instance", right_on="entity_id", how="inner"
    )
    return pl.concat(
        [seated, guests.with_columns(entity_id="_id", hostname="_host").drop("_id", "_host")],
        how="diagonal",
    )


def _by_stay(intervals: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Cut the intervals of migrated VMs at their moves; stays have no gap between them."""
    there = stays.select(entity_id="instance", _id="entity_id", _start="start", _end="end")
    return (
        intervals.join(there, on="entity_id", how="left")
        .select(
            entity_id=pl.coalesce("_id", "entity_id"),
            start=pl.max_horizontal("start", "_start"),
            end=pl.min_horizontal("end", "_end"),
        )
        .filter((pl.col("start") < pl.col("end")).fill_null(value=True))
    )


def _replay(
    rows: pl.DataFrame, events: pl.DataFrame, moves: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Replay the events of instances that have any: when they occupied, and when they ran.

    An instance whose create event is lost runs from its row's launched_at on.

    Returns:
        (occupied, active): entity_id, start, end
    """
    known = events.join(_EFFECTS, on="event", how="inner")
    eventful = pl.concat([known.select("entity_id"), moves.select("entity_id")]).unique()
    lives = rows.select("entity_id", "start", "end", "launched_at").join(
        eventful, on="entity_id", how="semi"
    )
    created = events.filter(pl.col("event") == CREATE).select("entity_id").unique()
    uncreated = lives.join(created, on="entity_id", how="anti").drop_nulls("launched_at")
    occupies_at = pl.when(pl.col("occupies_at") == "start").then("begin").otherwise("finish")
    occupies = [
        lives.select("entity_id", timestamp="start", on=pl.lit(value=True), order=_FIRST),
        _offloads_without_event(events),
        known.drop_nulls("occupies").select(
            "entity_id", timestamp=occupies_at, on="occupies", order="order"
        ),
    ]
    runs = [
        lives.select("entity_id", timestamp="start", on=pl.lit(value=False), order=_FIRST - 1),
        uncreated.select("entity_id", timestamp="launched_at", on=pl.lit(value=True), order=_FIRST),
        known.select("entity_id", timestamp="finish", on="runs", order="order"),
    ]
    lives = lives.drop("launched_at")
    return state_intervals(pl.concat(occupies), lives), state_intervals(pl.concat(runs), lives)


_FIRST = pl.lit(-1, pl.Int64)
"""Of changes at one instant, that of the row itself comes before those of events."""


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
