"""Nova: hypervisors -> total, instances and what was done to them -> occupied and active."""

from datetime import timedelta

import polars as pl

from chameleon_usage.ingest.base import (
    HELD,
    Joins,
    among,
    amount,
    deleted_at,
    deletion_is_inferred,
    host_class,
    join_one,
    positive,
    present,
    refuse,
    set_aside,
    speaks_of,
)
from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.arithmetic import MAX_TIME, MIN_TIME, state_intervals
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
MIGRATIONS = "nova.migrations"
FLAVORS, REQUEST_SPECS = "nova_api.flavors", "nova_api.request_specs"


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


_FIRST = pl.lit(-1, pl.Int64)
"""Of changes at one instant, that of the row itself comes before those of events."""

CREATE, TERMINATE = "compute__do_build_and_run_instance", "compute_terminate_instance"

ARRIVALS = (
    CREATE,
    "compute_finish_resize",
    "compute_finish_revert_resize",
    "compute_finish_snapshot_based_resize_at_dest",
    "compute_finish_revert_snapshot_based_resize_at_source",
    "compute_post_live_migration_at_destination",
    "compute_rebuild_instance",
    "compute_unshelve_instance",
)
"""Events whose host is where the instance is from their finish on."""

_MOVED, _REVERTED = ("completed", "confirmed", "finished", "done"), "reverted"
"""Statuses of migrations that took place; the last was taken back."""
_LATE = timedelta(minutes=10)
"""An event can end so long after the migration was changed last."""

_POWER = "compute_power_update"
"""Power changed outside Nova: the action says which way."""

# What an event that succeeded makes of an instance, by Nova's event name: whether it occupies its
# node (None: no change), from the event's start or its finish on, and whether it runs, from its
# finish.
_EFFECTS = pl.DataFrame(
    [
        (CREATE, None, None, True),
        ("compute_start_instance", None, None, True),
        (f"{_POWER} start", None, None, True),
        ("compute_unpause_instance", None, None, True),
        ("compute_resume_instance", None, None, True),
        ("compute_reboot_instance", None, None, True),
        ("compute_unrescue_instance", None, None, True),
        ("compute_restore_instance", None, None, True),
        ("compute_stop_instance", None, None, False),
        (f"{_POWER} stop", None, None, False),
        ("compute_pause_instance", None, None, False),
        ("compute_suspend_instance", None, None, False),
        ("compute_rescue_instance", None, None, False),
        ("compute_soft_delete_instance", None, None, False),
        ("compute_shelve_instance", None, None, False),
        ("compute_shelve_offload_instance", False, False, False),
        ("compute_unshelve_instance", True, True, True),
    ],
    schema={
        "event": NAME,
        "occupies": pl.Boolean,
        "from_its_start": pl.Boolean,
        "runs": pl.Boolean,
    },
    orient="row",
)


RUNS = tuple(_EFFECTS.filter("runs")["event"])
"""Events that show that an instance ran."""


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
    # The event of a failed build can say Success; a machine that was launched has a launched_at.
    failed = pl.col("launched_at").is_null() & (
        (pl.col("vm_state") == "error") | pl.col("end").is_not_null()
    )
    good, bad = refuse(
        rows, INSTANCES, "entity_id", pl.when(failed).then(pl.lit(Reason.FAILED_LAUNCH))
    )
    ran = good.with_columns(start="launched_at").filter(
        pl.col("start").is_not_null() & (pl.col("start") < pl.col("end")).fill_null(value=True)
    )
    moves = _moves(events, inputs)
    stays = _stays(moves)
    flavors = inputs.get(FLAVORS)
    known = _known_of_stays(good, moves, stays, flavors).drop("start", "end")
    occupied, active = (
        join_one(_by_stay(held, stays), known, "entity_id")[0]
        for held in replay(good, events, moves)
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
    reservation = pl.coalesce("flavor", "hint")
    specs = inputs.get(REQUEST_SPECS).select(
        uuid="instance_uuid", reservation_id=reservation, unreserved=reservation.is_null()
    )
    name = "nova.instances -> nova_api.request_specs"
    rows = joins.left(name, inputs.get(INSTANCES), specs, "uuid").rename({"uuid": "entity_id"})
    end = pl.coalesce(
        pl.when(pl.col("deleted_at").is_not_null()).then(deleted_at()), "terminated_at"
    )
    # What events tell is asked only where the row does not.
    begun = (
        _of(events, CREATE, rows.filter(pl.col("created_at").is_null()))
        .group_by("entity_id")
        .agg(begun=pl.col("begin").min())
    )
    freed = (
        _of(events, TERMINATE, rows.filter(end.is_null()))
        .group_by("entity_id")
        .agg(freed=pl.col("finish").max())
    )
    rows, _ = join_one(rows, begun, "entity_id")
    rows, _ = join_one(rows, freed, "entity_id")
    # Copied several times on the way: no more columns than are used.
    return rows.select(
        "entity_id",
        "reservation_id",
        "unreserved",
        "node",
        "vm_state",
        "launched_at",
        "project_id",
        start=pl.coalesce("created_at", "begun", "launched_at"),
        end=pl.coalesce(end, "freed", deleted_at("launched_at")),
        inferred=pl.col("created_at").is_null() | deletion_is_inferred(),
        hostname="node",
        vcpus=positive("vcpus"),
        memory_mb=positive("memory_mb"),
        disk_gb=amount(pl.col("root_gb").fill_null(0))
        + amount(pl.col("ephemeral_gb").fill_null(0)),
    )


def _of(events: pl.DataFrame, event: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Give the events of a kind of some instances."""
    kind = events.filter(pl.col("event") == event)
    return kind.filter(among(kind, rows, "entity_id"))


def _events(inputs: RawInputs, joins: Joins) -> pl.DataFrame:
    """Give the successful events of every instance: entity_id, event, begin, finish, order."""
    actions = inputs.get(ACTIONS).select(
        "action", entity_id="instance_uuid", action_id="id", action_finish="finish_time"
    )
    rows = joins.left(
        "nova.instance_actions_events -> nova.instance_actions",
        inputs.get(EVENTS).filter(pl.col("result") == "Success").drop("result"),
        actions,
        "action_id",
    )

    def power(way: str) -> pl.Expr:
        return (pl.col("event") == _POWER) & (pl.col("action") == way)

    return rows.select(
        "entity_id",
        "host",
        event=pl.when(power("start"))
        .then(pl.lit(f"{_POWER} start"))
        .when(power("stop"))
        .then(pl.lit(f"{_POWER} stop"))
        .otherwise("event"),
        order="id",
        begin="start_time",
        finish=pl.coalesce("finish_time", "action_finish", "start_time"),
    ).filter(pl.col("entity_id").is_not_null() & pl.col("finish").is_not_null())


def _moves(events: pl.DataFrame, inputs: RawInputs) -> pl.DataFrame:
    """Find the KVM hosts at which instances arrived, in order, and where their size changed.

    On Ironic an event's host is the compute service's, not the node: those are left out. Where an
    event names no host, the migration that it ended does; a migration without an event took place
    when it was changed last. An audit table dates a change of the row itself.

    Returns:
        entity_id, finish (null: from the first), hostname, order; ``old``, the flavor until then,
        of a resize. A row differs from the one before in host or size.
    """
    names = (
        inputs.get(COMPUTE_NODES)
        .filter((host_class() == KVM) & pl.col("host").is_not_null())
        .group_by(pl.col("host").cast(NAME))
        .agg(hostname=pl.col("hypervisor_hostname").unique())
        .filter(pl.col("hostname").list.len() == 1)
        .explode("hostname")
        .cast({"hostname": NAME})
    )
    if names.is_empty():
        return events.select(
            "entity_id", "finish", "order", hostname="host", old=pl.lit(None, pl.Int64)
        ).clear()
    arrivals = (
        events.filter(pl.col("event").is_in(ARRIVALS))
        .join(_built(inputs), on="order", how="left", maintain_order="left")
        .with_columns(host=pl.coalesce("_built", "host"))
        .join(names, on="host", how="left", maintain_order="left")
        .select("entity_id", "event", "finish", "hostname", "order", old=pl.lit(None, pl.Int64))
    )
    migrations = _migrations(inputs, names)
    if migrations.height:
        arrivals = _with_migrations(arrivals, migrations)
    arrivals = pl.concat([arrivals, _audited_moves(inputs, names)], how="diagonal")
    arrivals = arrivals.drop_nulls("hostname").sort("entity_id", "finish", "order")
    elsewhere = pl.col("hostname").ne_missing(pl.col("hostname").shift(1).over("entity_id"))
    return arrivals.filter(elsewhere | pl.col("old").is_not_null())


def _built(inputs: RawInputs) -> pl.DataFrame:
    """Name the last host of builds that went from host to host: order (of the event), _built.

    Nova can write Success to the first one's event.
    """
    builds = inputs.get(EVENTS).filter(pl.col("event") == CREATE)
    several = builds.filter(pl.col("action_id").is_duplicated()).sort("start_time", "id")
    return several.select(order="id", _built=pl.col("host").last().over("action_id"))


def _migrations(inputs: RawInputs, names: pl.DataFrame) -> pl.DataFrame:
    """Give the migrations of KVM instances that took place: from where to where, and when."""
    rows = inputs.get(MIGRATIONS).filter(pl.col("status").is_in([*_MOVED, _REVERTED]))
    kvm = names["hostname"].unique().implode()
    for side in ("source", "dest"):
        of_service = names.select(pl.col("host").alias(f"{side}_compute"), _node="hostname")
        rows = rows.join(of_service, on=f"{side}_compute", how="left", maintain_order="left")
        node = pl.coalesce(f"{side}_node", "_node")
        rows = rows.with_columns(pl.when(node.is_in(kvm)).then(node).alias(side)).drop("_node")
    resize = pl.col("old_instance_type_id") != pl.col("new_instance_type_id")
    return rows.filter(pl.any_horizontal(pl.col("source", "dest").is_not_null())).select(
        "source",
        "dest",
        entity_id="instance_uuid",
        begin="created_at",
        until=pl.coalesce("updated_at", "created_at"),
        reverted=pl.col("status") == _REVERTED,
        before=pl.when(resize).then("old_instance_type_id"),
        after=pl.when(resize).then("new_instance_type_id"),
        migration="id",
    )


def _audited_moves(inputs: RawInputs, names: pl.DataFrame) -> pl.DataFrame:
    """Find the moves between KVM hosts that an audit table dates: entity_id, finish, hostname."""
    kvm = names["hostname"].unique().implode()
    moved = (
        inputs.versions(INSTANCES, told=True)
        .drop_nulls("node")
        .with_columns(_before=pl.col("node").shift(1).over("uuid"))
        .filter(
            (pl.col("node") != pl.col("_before"))
            & pl.all_horizontal(pl.col("node", "_before").is_in(kvm))
            & (pl.col("known") == pl.col("since"))
        )
        .sort("uuid", "since")
    )
    begun = moved.unique("uuid", keep="first", maintain_order=True)
    return pl.concat(
        [
            moved.select(entity_id="uuid", finish="since", hostname="node", order=_FIRST),
            begun.select(entity_id="uuid", hostname="_before", order=_FIRST),
        ],
        how="diagonal",
    )


def _with_migrations(arrivals: pl.DataFrame, migrations: pl.DataFrame) -> pl.DataFrame:
    """Let migrations tell what arrivals do not: hosts, sizes, and moves without any event."""
    ended = (
        arrivals.filter(pl.col("event").is_in([CREATE, "compute_unshelve_instance"]).not_())
        .select("entity_id", "event", "finish", arrival="order")
        .sort("finish", "arrival")
        .join_asof(
            migrations.sort("begin", "migration"),
            left_on="finish",
            right_on="begin",
            by="entity_id",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("finish") <= pl.col("until") + _LATE)
    )
    back = pl.col("event").cast(pl.String).str.contains("_revert_")
    resized = pl.col("event").cast(pl.String).str.contains("_resize")
    told = ended.select(
        order="arrival",
        _there=pl.when(back).then("source").otherwise("dest"),
        _old=pl.when(resized).then(pl.when(back).then("after").otherwise("before")),
    )
    arrivals = arrivals.join(told, on="order", how="left", maintain_order="left").with_columns(
        hostname=pl.coalesce("hostname", "_there"), old="_old"
    )
    untold = migrations.filter(~pl.col("reverted")).join(ended, on="migration", how="anti")
    first = migrations.sort("begin", "migration").unique("entity_id", maintain_order=True)
    placed = arrivals.drop_nulls("hostname").group_by("entity_id").agg(pl.col("finish").min())
    # Where the instance was before its first move, if no event tells.
    begun = first.join(placed, on="entity_id", how="left").filter(
        (pl.col("finish") >= pl.col("begin")).fill_null(value=True)
    )
    columns = ("entity_id", "event", "finish", "hostname", "order", "old")
    return pl.concat(
        [
            arrivals.select(columns),
            untold.select("entity_id", finish="until", hostname="dest", order=_FIRST, old="before"),
            begun.select("entity_id", hostname="source", order=_FIRST),
        ],
        how="diagonal",
    )


def _stays(moves: pl.DataFrame) -> pl.DataFrame:
    """Tell where VMs that were moved or resized were, and when.

    An instance's row names its last node and size only; the events by which it arrived tell the
    others. The last stay is the row's own and keeps its key; the n-th before is "<uuid>/<n>".

    Returns:
        instance, entity_id, hostname, start, end, flavor_id (null: as in the row)
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
        flavor_id=pl.col("old").shift(-1).backward_fill().over("entity_id"),
    )


def _known_of_stays(
    rows: pl.DataFrame, moves: pl.DataFrame, stays: pl.DataFrame, flavors: pl.DataFrame
) -> pl.DataFrame:
    """Give every stay what is known of its instance, with the stay's own host and size.

    A machine that is shelved and offloaded has no node any more; its events tell where it was.
    """
    seat = moves.group_by("entity_id", maintain_order=True).agg(_seat=pl.col("hostname").last())
    seated = rows.join(seat, on="entity_id", how="left").with_columns(
        hostname=pl.coalesce("hostname", "_seat"),
        inferred=pl.col("inferred") | (pl.col("node").is_null() & pl.col("_seat").is_not_null()),
    )
    sizes = flavors.select(
        flavor_id="id",
        _vcpus=positive("vcpus"),
        _memory_mb=positive("memory_mb"),
        _disk_gb=amount(pl.col("root_gb") + pl.col("ephemeral_gb").fill_null(0)),
    )
    earlier = stays.filter(pl.col("instance") != pl.col("entity_id"))
    guests = (
        earlier.select("instance", "flavor_id", _id="entity_id", _host="hostname")
        .join(rows, left_on="instance", right_on="entity_id", how="inner")
        .join(sizes, on="flavor_id", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce(f"_{name}", name).alias(name) for name in ("vcpus", "memory_mb", "disk_gb")
        )
        .with_columns(entity_id="_id", hostname="_host")
    )
    return pl.concat([seated, guests.select(rows.columns)], how="diagonal")


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


def replay(
    rows: pl.DataFrame, events: pl.DataFrame, moves: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Replay the events of instances that have any: when they occupied, and when they ran.

    An instance whose create event is lost runs from its row's launched_at on.

    Returns:
        (occupied, active): entity_id, start, end
    """
    known = events.select(
        "entity_id", "begin", "finish", "order", event=pl.col("event").cast(NAME)
    ).join(_EFFECTS, on="event", how="inner")
    eventful = pl.concat([known.select("entity_id"), moves.select("entity_id")])
    lives = rows.select("entity_id", "start", "end", "launched_at")
    lives = lives.filter(among(lives, eventful, "entity_id"))
    created = events.filter(pl.col("event") == CREATE)
    uncreated = lives.filter(~among(lives, created, "entity_id")).drop_nulls("launched_at")
    # A later launch overwrites the first: it then ran before, from its start as far as is known.
    earliest = (
        events.filter(among(events, uncreated, "entity_id"))
        .group_by("entity_id")
        .agg(_seen=pl.col("begin").min())
    )
    again = (pl.col("_seen") <= pl.col("launched_at")).fill_null(value=False)
    uncreated = join_one(uncreated, earliest, "entity_id")[0].with_columns(
        launched_at=pl.when(again).then("start").otherwise("launched_at")
    )
    occupies_at = pl.when("from_its_start").then("begin").otherwise("finish")
    occupies = [
        lives.select("entity_id", timestamp="start", on=pl.lit(value=True), order=_FIRST),
        _offloads_without_event(events, rows),
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


def _offloads_without_event(events: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Find shelved instances that gave up their host without an offload event.

    Where the shelve grace time is 0, Nova's default, compute_shelve_instance finishes with the
    host given up. An unshelve that follows shows it, or a row that names no host any more, or one
    that still says shelved_offloaded.
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
    given_up = rows.filter(
        pl.col("node").is_null() | (pl.col("vm_state") == "shelved_offloaded")
    ).select("entity_id", _given_up=pl.lit(value=True))
    return (
        steps.with_columns(_following=following)
        .filter(pl.col("event") == "compute_shelve_instance")
        .join(given_up, on="entity_id", how="left", maintain_order="left")
        .filter(
            (pl.col("_following") == "compute_unshelve_instance")
            | (pl.col("_following").is_null() & pl.col("_given_up"))
        )
        .select("entity_id", timestamp="finish", on=pl.lit(value=False), order="order")
    )
