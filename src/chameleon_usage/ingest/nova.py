"""Nova: instances and what was done to them -> occupied and active."""

import polars as pl

from chameleon_usage.ingest.base import (
    HELD,
    Joins,
    among,
    amount,
    deleted_at,
    deletion_is_inferred,
    join_one,
    positive,
    present,
    refuse,
    speaks_of,
)
from chameleon_usage.ingest.nova_moves import (
    CREATE,
    EVENTS,
    FIRST,
    INSTANCES,
    by_stay,
    known_of_stays,
    moves_of,
    stays_of,
)
from chameleon_usage.intervals.arithmetic import state_intervals
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import Ingested
from chameleon_usage.models.vocabulary import Reason

ACTIONS, FLAVORS = "nova.instance_actions", "nova_api.flavors"
REQUEST_SPECS = "nova_api.request_specs"

TERMINATE = "compute_terminate_instance"

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
    moves = moves_of(events, inputs)
    stays = stays_of(moves)
    flavors = inputs.get(FLAVORS)
    known = known_of_stays(good, moves, stays, flavors).drop("start", "end")
    occupied, active = (
        join_one(by_stay(held, stays), known, "entity_id")[0]
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
        lives.select("entity_id", timestamp="start", on=pl.lit(value=True), order=FIRST),
        _offloads_without_event(events, rows),
        known.drop_nulls("occupies").select(
            "entity_id", timestamp=occupies_at, on="occupies", order="order"
        ),
    ]
    runs = [
        lives.select("entity_id", timestamp="start", on=pl.lit(value=False), order=FIRST - 1),
        uncreated.select("entity_id", timestamp="launched_at", on=pl.lit(value=True), order=FIRST),
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
