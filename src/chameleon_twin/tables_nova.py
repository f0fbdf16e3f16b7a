"""Nova's tables: compute_nodes, services, instances, their actions and events, request_specs."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .clock import DAY, HOUR, MINUTE, NEVER, Seconds, datetimes, seconds, whole, year_start
from .fleet import FAR
from .ids import hexes, uuids
from .lifecycle import (
    ACTIONS,
    CREATE,
    EVACUATE,
    EVENTS,
    LIVE_MIGRATION,
    MIGRATE,
    PAUSE,
    POWER_OFF,
    REBUILD,
    RESIZE,
    RESIZED,
    SHELVE,
    SOFT_DELETE,
    STOP,
    SUSPEND,
    UNSHELVE,
)  # fmt: skip
from .truth import presence_spans
from .vms import FLAVORS, SIZES
from .world import World

Tables = dict[str, pl.DataFrame]

SUCCESS, ERROR, OPEN = range(3)  # results of events
IRONIC_HOSTS = 4  # compute services that stand for the Ironic nodes
ZERO_SIZE_SINCE = seconds("2023-03-01")  # newer Nova: an Ironic row has all sizes 0 (assumption)


def compute_nodes(world: World) -> pl.DataFrame:
    """Rows of compute_nodes, all inside the presences.

    Rebalancing cuts a presence, with gaps of seconds to minutes, and leaves orphans that overlap
    the next row.
    """
    rng, cal = world.rng("compute_nodes"), world.cal
    machine, start, end = presence_spans(world)
    still = end >= cal.as_of
    if world.kind == "kvm":
        cuts = np.empty((0, 2), np.int64)
        at = _poisson_cuts(rng, start, end, 0.075)
    else:
        cuts = _restored(world, rng, len(start))
        at = _poisson_cuts(rng, start, end, _rebalance_rate(world, start, end))
    cuts = np.concatenate([cuts, at])
    # One row per piece between the cuts of a presence, cuts at least two hours apart.
    cuts = cuts[np.lexsort((cuts[:, 1], cuts[:, 0]))]
    near = np.r_[False, (np.diff(cuts[:, 0]) == 0) & (np.diff(cuts[:, 1]) < 2 * HOUR)]
    near |= (cuts[:, 1] < start[cuts[:, 0]] + HOUR) | (cuts[:, 1] > end[cuts[:, 0]] - HOUR)
    piece, when = cuts[~near].T
    owner = np.concatenate([np.arange(len(machine)), piece])
    created = np.concatenate([start, when + rng.integers(5, 700, len(when))])
    order = np.lexsort((created, owner))
    owner, created = owner[order], created[order]
    gone_owner = np.concatenate([piece, np.arange(len(machine))])
    gone = np.concatenate([when, end])
    final = np.concatenate([np.zeros(len(when), dtype=bool), np.ones(len(machine), dtype=bool)])
    order = np.lexsort((gone, gone_owner))
    gone, final = gone[order], final[order]
    # Orphans: the old row lives on for hours or weeks beside the new one.
    orphan = ~final & (rng.random(len(gone)) < cal.share("rebalance_overlap"))
    late = gone + whole(rng.exponential(3 * DAY, len(gone))) + MINUTE
    gone = np.where(orphan, np.minimum(late, np.minimum(end[owner], cal.as_of) - HOUR), gone)
    live = final & still[owner]
    gone = np.where(live, NEVER, gone)
    extra_owner, extra_from, extra_to = _long_orphans(world, rng, start, end)
    owner = np.r_[owner, extra_owner]
    created, gone = np.r_[created, extra_from], np.r_[gone, extra_to]
    order = np.lexsort((owner, created))
    owner, created, gone = owner[order], created[order], gone[order]

    n = len(owner)
    m = machine[owner]
    ids = np.arange(n) + 1
    deleted = gone != NEVER
    kvm = world.kind == "kvm"
    size = world.fleet.resources[m].copy()
    zero = ~kvm & (~deleted | (gone > ZERO_SIZE_SINCE)) & (rng.random(n) < cal.share("zero_size"))
    size[zero] = 0
    host = world.fleet.uid.gather(m) if kvm else conductors(world).gather(
        (m + np.arange(n)) % IRONIC_HOSTS)  # fmt: skip
    return pl.DataFrame(
        {
            "created_at": datetimes(created),
            "updated_at": datetimes(np.where(deleted, gone, cal.as_of - rng.integers(0, 60, n))),
            "deleted_at": datetimes(gone),
            "id": ids,
            "service_id": pl.repeat(None, n, dtype=pl.Int64, eager=True),
            "vcpus": size[:, 0],
            "memory_mb": size[:, 1],
            "local_gb": size[:, 2],
            "vcpus_used": np.zeros(n, dtype=np.int64),
            "memory_mb_used": np.zeros(n, dtype=np.int64),
            "local_gb_used": np.zeros(n, dtype=np.int64),
            "hypervisor_type": pl.repeat("QEMU" if kvm else "ironic", n, eager=True),
            "hypervisor_version": np.full(n, 2012000 if kvm else 1),
            "hypervisor_hostname": world.fleet.uid.gather(m),
            "deleted": np.where(deleted, ids, 0),
            "host": host,
            "uuid": uuids(rng, n),
        }
    )


def conductors(world: World) -> pl.Series:
    """The compute service hosts that stand for Ironic nodes."""
    return pl.Series(
        [f"{world.cal.site.replace('_', '-')}-ironic-{i}" for i in range(IRONIC_HOSTS)]
    )


def _poisson_cuts(
    rng: np.random.Generator, start: Seconds, end: Seconds, per_year: float
) -> NDArray[np.int64]:
    count = rng.poisson(np.maximum(end - start, 0) / (365 * DAY) * per_year)
    owner = np.repeat(np.arange(len(start)), count)
    at = start[owner] + whole(rng.random(len(owner)) * (end - start)[owner])
    return np.stack([owner, at], axis=1)


def _restored(world: World, rng: np.random.Generator, n_presences: int) -> NDArray[np.int64]:
    """Cuts at the dates at which backups were restored and rows made anew."""
    left = rng.permutation(n_presences)
    parts = []
    for stage in world.cal.facts.get("nova_recreated", []):
        n = round(stage["share"] * n_presences)
        last = stage is world.cal.facts["nova_recreated"][-1]
        chosen = left if last else left[:n]
        left = left[len(chosen) :]
        at = seconds(stage["at"]) + whole(rng.uniform(10 * HOUR, 20 * HOUR, len(chosen)))
        parts.append(np.stack([chosen, at], axis=1))
    return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)


def _rebalance_rate(world: World, start: Seconds, end: Seconds) -> float:
    """Cuts per machine and year that give the real number of rows from 2018-07 on."""
    since = seconds(world.cal.facts["nova_recreated"][-1]["at"])
    years = np.maximum(end - np.maximum(start, since), 0).sum() / (365 * DAY)
    orphans = sum(world.cal.yearly("orphan_nodes").values())
    rows = (end > since).sum() + orphans
    return float(max(0.05, (world.cal.rows("nova.compute_nodes") - rows) / max(years, 1)))


def _long_orphans(
    world: World, rng: np.random.Generator, start: Seconds, end: Seconds
) -> tuple[NDArray[np.int64], Seconds, Seconds]:
    """Second rows of a live hypervisor that stayed for months, by the yearly level of orphans."""
    owners, begins, ends = [], [], []
    for year, nodes in world.cal.yearly("orphan_nodes").items():
        low, high = year_start(year), year_start(year + 1)
        room = np.minimum(end, high) - np.maximum(start, low)
        budget = nodes * (high - low) * world.cal.share("orphan_rows")
        for i in rng.permutation(np.flatnonzero(room > 20 * DAY)):
            if budget <= 0:
                break
            first = max(int(start[i]), low) + int(rng.integers(HOUR, 12 * DAY))
            stop = min(int(end[i]), high) - int(rng.integers(HOUR, 5 * DAY))
            stop = min(stop, first + int(budget) + HOUR)
            owners.append(i)
            begins.append(first)
            ends.append(stop)
            budget -= stop - first
    as_array = [np.array(x, dtype=np.int64) for x in (owners, begins, ends)]
    return as_array[0], as_array[1], as_array[2]


def services(world: World) -> pl.DataFrame:
    """Compute services and the others; on KVM the service host is the hypervisor."""
    rng, cal = world.rng("services"), world.cal
    n = cal.rows("nova.services")
    machine, start, end = presence_spans(world)
    kvm = world.kind == "kvm"
    own = min(len(machine), n) if kvm else 0
    rest = n - own
    binary = pl.Series(
        ["nova-compute", "nova-conductor", "nova-scheduler", "nova-consoleauth"]
    ).gather(np.r_[np.zeros(own, np.int64), rng.integers(0 if not kvm else 1, 4, rest)])
    made = np.r_[start[:own], cal.opened + whole(rng.random(rest) * (cal.as_of - cal.opened))]
    gone = np.r_[np.where(end[:own] >= cal.as_of, NEVER, end[:own]),
                 np.where(rng.random(rest) < 0.9, made[own:] + DAY, NEVER)]  # fmt: skip
    gone = np.where(gone >= cal.as_of, NEVER, gone)
    names = pl.Series([f"{cal.site.replace('_', '-')}-ctl-{i}" for i in range(rest)],
                      dtype=pl.String)  # fmt: skip
    ids = np.arange(n) + 1
    # On KVM, who is in maintenance takes no machines; elsewhere a service is no node.
    down = world.fleet.maintenance
    today = down.machine[(down.start < cal.as_of) & (down.end >= cal.as_of)]
    disabled = rng.random(n) < 0.05
    disabled[:own] = np.isin(machine[:own], today) & (gone[:own] == NEVER)
    return pl.DataFrame(
        {
            "created_at": datetimes(made),
            "updated_at": datetimes(np.where(gone == NEVER, cal.as_of - 20, gone)),
            "deleted_at": datetimes(gone),
            "id": ids,
            "host": pl.concat([world.fleet.uid.gather(machine[:own]), names]),
            "binary": binary,
            "topic": binary.str.strip_prefix("nova-"),
            "report_count": rng.integers(1, 10**6, n),
            "disabled": disabled.astype(np.int64),
            "deleted": np.where(gone == NEVER, 0, ids),
            "disabled_reason": pl.Series([None, "maintenance"], dtype=pl.String).gather(
                disabled.astype(int)
            ),
            "forced_down": np.zeros(n, dtype=np.int64),
            "last_seen_up": datetimes(np.where(gone == NEVER, cal.as_of - 20, gone)),
            "version": np.full(n, 66),
            "uuid": uuids(rng, n),
        }
    )


# What an instance's row says while nobody has undone an action.
STATES = {
    STOP: "stopped", POWER_OFF: "stopped", PAUSE: "paused", SUSPEND: "suspended",
    SHELVE: "shelved", SOFT_DELETE: "soft-delete",
}  # fmt: skip


def instances(world: World) -> pl.DataFrame:
    """One row per instance: a snapshot of its last state."""
    rng, run, as_of = world.rng("nova.instances"), world.instances, world.cal.as_of
    n = len(run)
    ran = run.launched != NEVER
    # A failed launch mostly has no node; where it has one, it was scheduled and then broke.
    broke = rng.random(n) < world.cal.share("failed_with_node")
    placed = ran | ((run.machine >= 0) & broke)
    node = np.where(placed, run.machine, -1)
    a = run.actions
    # launched_at is overwritten by whatever starts the instance anew.
    launched = run.launched.copy()
    anew = a.ok & np.isin(a.kind, (REBUILD, UNSHELVE, MIGRATE, RESIZED, EVACUATE))
    np.maximum.at(launched, a.instance[anew], a.finish[anew])
    state = np.full(n, "active", dtype=object)
    state[~ran] = "error"
    # What the last action of those that switch off has left.
    off = a.ok & np.isin(a.kind, list(STATES))
    how = np.full(n, -1)
    how[a.instance[off]] = a.kind[off]
    whom = run.stopped.instance[run.stopped.end >= FAR]
    state[whom] = [STATES[kind] for kind in how[whom]]
    # Whoever is shelved and offloaded has given up its host, also in its row.
    out = run.offloaded.instance[run.offloaded.end >= FAR]
    state[out] = "shelved_offloaded"
    node[out] = -1
    gone = run.deleted != NEVER
    state[gone] = "deleted"
    # Deleted softly: the row has a date, and is not deleted.
    begun = np.full(n, NEVER)
    begun[whom] = run.stopped.start[run.stopped.end >= FAR]
    dated = np.where(state == "soft-delete", begun, run.deleted)
    ids = np.arange(n) + 1
    kvm = world.kind == "kvm"
    size = SIZES[run.flavor] if kvm else np.tile([1, 1, 20, 0], (n, 1))
    terminated = run.deleted.copy()
    if not kvm:  # on bare metal terminated_at is sometimes missing or wrong
        dice = rng.random(n) / max(world.cal.share("terminated_wrong"), 1e-9)
        terminated[dice < 0.6] = NEVER
        wrong = gone & (dice > 0.6) & (dice < 1)
        terminated[wrong] -= rng.integers(HOUR, 40 * HOUR, wrong.sum())
    has_node = pl.Series(node >= 0)
    on = world.fleet.uid.gather(np.maximum(node, 0))
    host = on if kvm else conductors(world).gather(np.maximum(node, 0) % IRONIC_HOSTS)
    last_touch = np.where(gone, run.deleted, np.where(ran, launched, run.created + 60))
    frame = pl.DataFrame(
        {
            "created_at": datetimes(run.created),
            "updated_at": datetimes(np.minimum(last_touch, as_of)),
            "deleted_at": datetimes(dated),
            "id": ids,
            "user_id": world.user_of(run.project, rng),
            "project_id": world.projects.gather(run.project),
            "image_ref": pl.repeat("", n, eager=True),
            "power_state": np.where(gone | ~ran, 0, np.where(np.isin(np.arange(n), whom), 4, 1)),
            "vm_state": pl.Series(state.tolist(), dtype=pl.String),
            "memory_mb": size[:, 1],
            "vcpus": size[:, 0],
            "hostname": pl.select(pl.format("node-{}", pl.Series(ids))).to_series(),
            "host": host,
            "reservation_id": pl.select(
                pl.format("r-{}", pl.Series(rng.integers(10**7, 10**8, n)))
            ).to_series(),
            "launched_at": datetimes(launched),
            "terminated_at": datetimes(terminated),
            "display_name": pl.select(pl.format("node-{}", pl.Series(ids))).to_series(),
            "availability_zone": pl.repeat("nova", n, eager=True),
            "instance_type_id": run.flavor + 1,
            "uuid": world.instance_id,
            "root_gb": size[:, 2],
            "ephemeral_gb": np.zeros(n, dtype=np.int64),
            "node": on,
            "deleted": np.where(gone, ids, 0),
            "cleaned": gone.astype(np.int64),
            "hidden": np.zeros(n, dtype=np.int64),
        }
    )
    return frame.with_columns(
        pl.when(has_node).then("node").alias("node"), pl.when(has_node).then("host").alias("host")
    )


def actions(world: World) -> Tables:
    """instance_actions and their events."""
    rng, run, a = world.rng("nova.instance_actions"), world.instances, world.instances.actions
    as_of = world.cal.as_of
    keep = a.start < as_of
    a = a.where(keep)
    n = len(a)
    who, kind, start, finish, ok = a.instance, a.kind, a.start, a.finish, a.ok
    ids = np.arange(n) + 1
    project = run.project[who]
    table = pl.DataFrame(
        {
            "created_at": datetimes(start),
            "updated_at": datetimes(np.where(a.silent, NEVER, np.minimum(finish, as_of))),
            "deleted_at": datetimes(np.full(n, NEVER)),
            "id": ids,
            "action": pl.Series(ACTIONS).gather(kind),
            "instance_uuid": world.instance_id.gather(who),
            "request_id": pl.select("req-" + uuids(rng, n)).to_series(),
            "user_id": world.user_of(project, rng),
            "project_id": world.projects.gather(project),
            "start_time": datetimes(start),
            "finish_time": datetimes(np.full(n, NEVER)),  # Nova never fills it for these actions
            "message": pl.Series([None, "Error"], dtype=pl.String).gather(
                (~ok & (kind != CREATE)).astype(np.int64)
            ),
            "deleted": np.zeros(n, dtype=np.int64),
        }
    )
    return {
        "nova.instance_actions": table,
        "nova.instance_actions_events": _events(world, keep, ids),
    }


def _events(world: World, keep: NDArray[np.bool_], ids: NDArray[np.int64]) -> pl.DataFrame:
    rng, run, a = world.rng("events of actions"), world.instances, world.instances.actions
    as_of = world.cal.as_of
    a = a.where(keep)
    who, kind, start, finish, ok = a.instance, a.kind, a.start, a.finish, a.ok
    left, target, offload = a.source, a.target, a.offload
    names = sorted(
        {*EVENTS.values(), "compute_live_migration", "compute_prep_resize", "rebuild_server",
         "compute_check_can_live_migrate_destination", "compute_resize_instance"}
    )  # fmt: skip
    code = np.array([names.index(EVENTS[k]) for k in range(len(ACTIONS))])
    kvm = world.kind == "kvm"
    machine = run.machine[who]
    if kvm:  # before a migration the instance was elsewhere
        machine = _host_at(world, who, start)
        machine = np.where(target >= 0, target, machine)
    heard = ~a.silent
    event = code[kind]
    for way, first in (
        (LIVE_MIGRATION, "compute_check_can_live_migrate_destination"),
        (MIGRATE, "compute_prep_resize"),
        (RESIZED, "compute_prep_resize"),
    ):  # a move that fails does so at its first step
        event[(kind == way) & ~ok] = names.index(first)
    # A build that fails ends its event in success; only the row tells.
    told = np.where(ok | (kind == CREATE), SUCCESS, ERROR)
    main = (ids, event, start, finish, told, machine)
    parts = [tuple(column[heard] for column in main)]
    create = np.flatnonzero(kind == CREATE)
    wanted = world.cal.rows("nova.instance_actions_events")
    share = world.cal.rows("nova.instance_actions") / max(1, len(ids))
    offs = np.flatnonzero(offload != NEVER)
    offs = offs[kind[offs] != ACTIONS.index("shelveOffload")]
    parts.append((ids[offs], np.full(len(offs), names.index("compute_shelve_offload_instance")),
                  offload[offs] - 2, offload[offs], np.full(len(offs), SUCCESS),
                  machine[offs]))  # fmt: skip
    for way, steps in (
        (LIVE_MIGRATION, (("compute_check_can_live_migrate_destination", True),
                          ("compute_live_migration", False))),
        (MIGRATE, (("compute_prep_resize", True), ("compute_resize_instance", False))),
        (RESIZED, (("compute_prep_resize", True), ("compute_resize_instance", False))),
        (EVACUATE, (("rebuild_server", True),)),
    ):  # fmt: skip
        rows = np.flatnonzero((kind == way) & ok)
        for step, at_target in steps:
            parts.append((ids[rows], np.full(len(rows), names.index(step)), start[rows],
                          np.minimum(start[rows] + 8, finish[rows]),
                          np.full(len(rows), SUCCESS),
                          (target if at_target else left)[rows]))  # fmt: skip
    # Builds that were tried on other hosts first. Each try begins a row, and each one's end is
    # written into the first: that names the wrong host and the right result, the others none.
    so_far = sum(len(p[0]) for p in parts)
    retries = max(0, int(wanted / max(share, 1e-9)) - so_far)
    again = np.sort(rng.choice(create, retries)) if len(create) and retries else create[:0]
    room = np.maximum(finish[again] - start[again], 2)
    begun = start[again] + whole(rng.uniform(0.1, 0.5, len(again)) * room)
    order = np.lexsort((begun, again))
    again, begun = again[order], begun[order]
    other = [_tried(world, rng, who[again], begun, machine[again]) for _ in range(2)]
    last = np.r_[again[1:] != again[:-1], np.ones(min(1, len(again)), dtype=bool)]
    parts.append((ids[again], code[kind[again]], begun, np.full(len(again), NEVER),
                  np.full(len(again), OPEN), np.where(last, machine[again], other[0])))  # fmt: skip
    first_try = np.full(len(ids), -1)
    first_try[again] = other[1]
    action, event, begin, end, told, where = (np.concatenate(c) for c in zip(*parts, strict=True))
    tried = (event == code[CREATE]) & (end != NEVER) & (first_try[action - 1] >= 0)
    where = np.where(tried, first_try[action - 1], where)
    order = np.lexsort((end, begin, action))
    action, event, begin, end, told, where = (
        c[order] for c in (action, event, begin, end, told, where)
    )
    n = len(action)
    done = (end < as_of) & (told != OPEN)
    result = np.where(done, told, OPEN)
    nameless = _nameless(world)[who[action - 1]]
    known = pl.Series((where >= 0) & ~nameless)
    host = (world.fleet.uid.gather(np.maximum(where, 0) % len(world.fleet)) if kvm
            else conductors(world).gather(np.maximum(where, 0) % IRONIC_HOSTS))  # fmt: skip
    return pl.DataFrame(
        {
            "created_at": datetimes(begin),
            "updated_at": datetimes(np.where(told == OPEN, NEVER, np.minimum(end, as_of))),
            "deleted_at": datetimes(np.full(n, NEVER)),
            "id": np.arange(n) + 1,
            "event": pl.Series(names).gather(event),
            "action_id": action,
            "start_time": datetimes(begin),
            "finish_time": datetimes(np.where(done, end, NEVER)),
            "result": pl.Series(["Success", "Error", None], dtype=pl.String).gather(result),
            "deleted": np.zeros(n, dtype=np.int64),
            "host": pl.select(pl.when(known).then(host)).to_series(),
        }
    )


def _tried(
    world: World,
    rng: np.random.Generator,
    who: NDArray[np.int64],
    when: Seconds,
    machine: NDArray[np.int64],
) -> NDArray[np.int64]:
    """A host on which a build could be tried: one that is there and open to everybody.

    A reserved machine is tried on its own alone.
    """
    f, kvm = world.fleet, world.kind == "kvm"
    found = machine.copy()
    if not kvm:
        return found
    there, gone, closed = np.full(len(f), FAR), np.zeros(len(f), np.int64), np.full(len(f), FAR)
    p, pool = f.presence, f.pool
    there[p.machine], gone[p.machine], closed[pool.machine] = p.start, p.end, pool.start
    for _ in range(6):
        some = rng.integers(0, len(f), len(who))
        fits = (there[some] < when) & (np.minimum(gone, closed)[some] > when + DAY)
        found = np.where(fits & (world.instances.lease[who] < 0), some, found)
    return found


def _nameless(world: World) -> NDArray[np.bool_]:
    """Which instances' events name no host: some of those whose migrations do."""
    m = world.instances.moves
    nameless = np.zeros(len(world.instances), dtype=bool)
    able = np.setdiff1d(m.instance[m.ok], m.instance[m.kind == UNSHELVE])
    rng = world.rng("events without host")
    nameless[able[world.cal.some("event_no_host", len(able), rng)]] = True
    return nameless


def _host_at(world: World, who: NDArray[np.int64], when: Seconds) -> NDArray[np.int64]:
    """The host of an instance at a time: what the next move left, else the last."""
    run = world.instances
    m = run.moves.where(run.moves.ok)
    if not len(m):
        return run.machine[who]
    span = 1 << 33
    nxt = np.searchsorted(m.instance * span + m.there, who * span + when, side="right")
    row = np.minimum(nxt, len(m) - 1)
    same = (nxt < len(m)) & (m.instance[row] == who)
    return np.where(same, m.source[row], run.machine[who])


def migrations(world: World) -> pl.DataFrame:
    """nova.migrations: moves that the service decides a host for; unshelving is none."""
    run, as_of = world.instances, world.cal.as_of
    m = run.moves
    m = m.where((m.kind != UNSHELVE) & (m.start < as_of))
    rng = world.rng("nova.migrations")
    sized = np.isin(m.kind, (MIGRATE, RESIZED))
    confirmed = m.ok & sized & (m.done + 310 < as_of)
    # The source of an evacuation that comes back cleans up, and says so.
    back = m.ok & (m.kind == EVACUATE) & (rng.random(len(m)) < 0.5)
    returned = m.done + 2 * HOUR
    back &= returned < as_of
    names = ("completed", "confirmed", "finished", "done", "error", "failed")
    done = np.where(sized, np.where(confirmed, 1, 2), np.where(m.kind == EVACUATE, 3, 0))
    status = np.where(m.ok, np.where(back, 0, done), np.where(sized, 4, 5))
    changed = np.where(confirmed, m.done + 310, np.where(back, returned, m.done))
    types = {LIVE_MIGRATION: "live-migration", MIGRATE: "migration", RESIZED: "resize",
             EVACUATE: "evacuation", RESIZE: "resize"}  # fmt: skip
    # A resize that failed before it found a host.
    a = run.actions
    vain = np.flatnonzero((a.kind == RESIZE) & (a.start < as_of))
    who = np.r_[m.instance, a.instance[vain]]
    kind = np.r_[m.kind, a.kind[vain]]
    created = np.r_[m.start, a.start[vain]]
    touched = np.minimum(np.r_[changed, a.finish[vain]], as_of)
    source = np.r_[m.source, _host_at(world, a.instance[vain], a.start[vain])]
    target = np.r_[m.target, np.full(len(vain), -1)]
    status = np.r_[status, np.full(len(vain), 4)]
    before = np.r_[m.before, run.flavor[a.instance[vain]]]
    after = np.r_[m.after, run.flavor[a.instance[vain]]]
    order = np.lexsort((who, created))
    who, kind, created, touched, source, target, status, before, after = (
        c[order] for c in (who, kind, created, touched, source, target, status, before, after)
    )
    n = len(who)
    found = pl.Series(target >= 0)
    to = pl.select(
        pl.when(found).then(world.fleet.uid.gather(np.maximum(target, 0)))
    ).to_series()  # fmt: skip
    of = world.fleet.uid.gather(source)
    ids, gone = np.arange(n) + 1, run.deleted[who]  # an instance takes its migrations with it
    return pl.DataFrame(
        {
            "created_at": datetimes(created),
            "updated_at": datetimes(touched),
            "deleted_at": datetimes(gone),
            "id": ids,
            "source_compute": of,
            "dest_compute": to,
            "status": pl.Series(names, dtype=pl.String).gather(status),
            "instance_uuid": world.instance_id.gather(who),
            "old_instance_type_id": _flavor_id(before, kind),
            "new_instance_type_id": _flavor_id(after, kind),
            "source_node": of,
            "dest_node": to,
            "deleted": np.where(gone == NEVER, 0, ids),
            "migration_type": pl.Series([types[k] for k in kind.tolist()], dtype=pl.String),
            "uuid": uuids(rng, n),
        }
    )


def _flavor_id(flavor: NDArray[np.int64], kind: NDArray[np.int64]) -> pl.Series:
    """A flavor's id in nova_api.flavors; an evacuation names none."""
    named = pl.Series(kind != EVACUATE)
    return pl.select(pl.when(named).then(pl.Series(flavor + 1))).to_series()


def request_specs(world: World) -> pl.DataFrame:
    """What was asked of Nova, as JSON: flavor name, and the reservation as scheduler hint."""
    run = world.instances
    n = len(run)
    kvm = world.kind == "kvm"
    reserved = run.lease >= 0
    reservation = world.reservation_id.gather(np.maximum(run.lease, 0))
    has = pl.Series(reserved)
    size = SIZES[run.flavor] if kvm else np.tile([1, 1, 20, 0], (n, 1))
    plain = pl.Series([f.name for f in FLAVORS] if kvm else ["baremetal"] * len(FLAVORS))
    name = plain.gather(run.flavor)
    if kvm:
        name = pl.select(
            pl.when(has).then(pl.format("reservation:{}", reservation)).otherwise(name)
        ).to_series()
        hint = pl.repeat("null", n, eager=True)
    else:
        hint = pl.select(
            pl.when(has).then(
                pl.concat_str(pl.lit('{"reservation": ["'), reservation, pl.lit('"]}'))
            ).otherwise(pl.lit("null"))
        ).to_series()  # fmt: skip
    spec = pl.select(
        pl.concat_str(
            pl.lit('{"nova_object.name": "RequestSpec", "nova_object.namespace": "nova", '
                   '"nova_object.version": "1.14", "nova_object.data": {"project_id": "'),
            world.projects.gather(run.project),
            pl.lit('", "instance_uuid": "'),
            world.instance_id,
            pl.lit('", "num_instances": 1, "flavor": {"nova_object.name": "Flavor", '
                   '"nova_object.data": {"name": "'),
            name,
            pl.lit('", "vcpus": '),
            pl.Series(size[:, 0]).cast(pl.String),
            pl.lit(', "memory_mb": '),
            pl.Series(size[:, 1]).cast(pl.String),
            pl.lit(', "root_gb": '),
            pl.Series(size[:, 2]).cast(pl.String),
            pl.lit('}}, "scheduler_hints": '),
            hint,
            pl.lit("}}"),
        )
    ).to_series()  # fmt: skip
    return pl.DataFrame(
        {
            "created_at": datetimes(run.created),
            "updated_at": datetimes(np.full(n, NEVER)),
            "id": np.arange(n) + 1,
            "instance_uuid": world.instance_id,
            "spec": spec,
        }
    )


def flavors(world: World) -> pl.DataFrame:
    """nova_api.flavors: the plain ones, and on KVM one per live flavor:instance reservation."""
    rng = world.rng("flavors")
    if world.kind != "kvm":
        names, size = ["baremetal"], np.array([[1, 1, 20, 0]])
        made = np.array([world.cal.opened])
        ids = hexes(rng, 1)
    else:
        rows = world.plan.leases
        over = np.where(rows.deleted == NEVER, rows.end, rows.deleted)
        live = np.flatnonzero((over > world.cal.as_of) & (rows.outcome < 2))
        made = np.r_[np.full(len(FLAVORS), world.cal.opened), rows.created[live]]
        size = np.concatenate([SIZES, SIZES[world.flavor[live]]])
        reservation = world.reservation_id.gather(live)
        names = [f.name for f in FLAVORS] + [f"reservation:{r}" for r in reservation]
        ids = pl.concat([hexes(rng, len(FLAVORS)), reservation])
    n = len(names)
    return pl.DataFrame(
        {
            "created_at": datetimes(made),
            "updated_at": datetimes(np.full(n, NEVER)),
            "name": names,
            "id": np.arange(n) + 1,
            "memory_mb": size[:, 1],
            "vcpus": size[:, 0],
            "swap": np.zeros(n, dtype=np.int64),
            "flavorid": ids,
            "root_gb": size[:, 2],
            "ephemeral_gb": np.zeros(n, dtype=np.int64),
            "disabled": np.zeros(n, dtype=np.int64),
            "is_public": pl.Series([int(":" not in x) for x in names], dtype=pl.Int64),
        }
    )
