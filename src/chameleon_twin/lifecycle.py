"""What users do with what they hold: instances and containers, from launch to deletion.

Rules of time, the same for the tables and for the truth:

* a node is occupied from an instance's `created_at` to its `deleted_at`, only inside the commitment
  of its reservation on that host, and not while it is shelved and offloaded: that time runs from
  the finish of the `compute_shelve_offload_instance` event (without one: of the
  `compute_shelve_instance` event) to the start of the `unshelve` action, and is none where that
  action starts the instance as if it had been stopped (`compute_start_instance`);
* an instance is active from the finish of its successful create event; every later action takes
  effect at the finish of its event; a failed action, a reboot or a rebuild changes nothing;
* a migrated, resized or evacuated machine is on its new host, with its new size, from the finish of
  that action's last event; one unshelved elsewhere from the start of the `unshelve` action;
* a machine that is deleted softly stays on its host, switched off, until restored or reclaimed;
* a launch that failed (`launched_at` null) occupies nothing, however long its row lingers.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .clock import DAY, HOUR, MINUTE, NEVER, Seconds, seconds, whole, year_start, years_of
from .fleet import FAR
from .ids import source
from .intervals import Keys, cut
from .scheduler import NEVER_STARTED, Schedule

# Actions as nova names them, and the event that carries each one's effect.
ACTIONS = (
    "create", "delete", "stop", "start", "reboot", "rebuild", "pause", "unpause", "suspend",
    "resume", "shelve", "unshelve", "attach_interface", "migrate", "live-migration",
    "confirmResize", "resize", "shelveOffload", "stop", "start", "delete", "restore", "resize",
    "evacuate", "unshelve",
)  # fmt: skip
(CREATE, DELETE, STOP, START, REBOOT, REBUILD, PAUSE, UNPAUSE, SUSPEND, RESUME, SHELVE, UNSHELVE,
 ATTACH, MIGRATE, LIVE_MIGRATION, CONFIRM, RESIZE, OFFLOAD, POWER_OFF, POWER_ON, SOFT_DELETE,
 RESTORE, RESIZED, EVACUATE, UNSHELVE_KEPT) = range(len(ACTIONS))  # fmt: skip
EVENTS = {
    CREATE: "compute__do_build_and_run_instance",
    DELETE: "compute_terminate_instance",
    STOP: "compute_stop_instance",
    START: "compute_start_instance",
    REBOOT: "compute_reboot_instance",
    REBUILD: "compute_rebuild_instance",
    PAUSE: "compute_pause_instance",
    UNPAUSE: "compute_unpause_instance",
    SUSPEND: "compute_suspend_instance",
    RESUME: "compute_resume_instance",
    SHELVE: "compute_shelve_instance",
    UNSHELVE: "compute_unshelve_instance",
    ATTACH: "compute_attach_interface",
    MIGRATE: "compute_finish_resize",
    LIVE_MIGRATION: "compute_post_live_migration_at_destination",
    CONFIRM: "compute_confirm_resize",
    RESIZE: "compute_prep_resize",
    OFFLOAD: "compute_shelve_offload_instance",
    POWER_OFF: "compute_power_update",
    POWER_ON: "compute_power_update",
    SOFT_DELETE: "compute_soft_delete_instance",
    RESTORE: "compute_restore_instance",
    RESIZED: "compute_finish_resize",
    EVACUATE: "compute_rebuild_instance",
    UNSHELVE_KEPT: "compute_start_instance",
}
PAIRS = {
    STOP: START, PAUSE: UNPAUSE, SUSPEND: RESUME, SHELVE: UNSHELVE, POWER_OFF: POWER_ON,
    SOFT_DELETE: RESTORE,
}  # fmt: skip
POWER_UPDATE_SINCE = seconds("2020-06-01")  # the sites' move to Nova's Train (assumption)


@dataclass(frozen=True)
class Holes:
    """Stretches in the life of instances: instance, [start, end), `FAR` where to its end."""

    instance: Keys
    start: Seconds
    end: Seconds

    @staticmethod
    def none() -> "Holes":
        """No stretches at all."""
        empty = np.empty(0, np.int64)
        return Holes(empty, empty, empty)

    def and_more(self, other: "Holes") -> "Holes":
        """These stretches and others."""
        return Holes(
            np.r_[self.instance, other.instance],
            np.r_[self.start, other.start],
            np.r_[self.end, other.end],
        )


@dataclass(frozen=True)
class Moves:
    """Machines that went from a host to another, or were to go, ascending by instance and time.

    `kind` is the action. The machine leaves `source` at `left` (later actions of a machine that is
    shelved and unshelved elsewhere, else the action's start); it is on `target`, with the flavor
    `after`, from `there` on; the action ends at `done`. What is not `ok` moved nothing.
    """

    instance: Keys
    kind: NDArray[np.int64]
    left: Seconds
    start: Seconds
    done: Seconds
    source: Keys
    target: Keys
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    ok: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.instance)

    @property
    def there(self) -> Seconds:
        """From when on the machine is on its new host."""
        return np.where(self.kind == UNSHELVE, self.start, self.done)

    def where(self, keep: NDArray[np.bool_]) -> "Moves":
        """Only the moves of a mask."""
        return self.take(np.flatnonzero(keep))

    def take(self, rows: NDArray[np.int64]) -> "Moves":
        """The moves of these numbers, in their order."""
        return Moves(*(column[rows] for column in vars(self).values()))

    @staticmethod
    def of(rows: NDArray[np.int64]) -> "Moves":
        """Moves from rows of ten numbers, as the columns stand above."""
        columns: list[Any] = [*rows.reshape(-1, 10).T]
        columns[-1] = columns[-1].astype(bool)
        return Moves(*columns)


@dataclass(frozen=True)
class Actions:
    """Actions on instances.

    `offload` is the finish of the offload event, `NEVER` without one; of what is `silent` no
    compute service heard, so that it left no event.
    """

    instance: Keys
    kind: NDArray[np.int64]
    start: Seconds
    finish: Seconds
    ok: NDArray[np.bool_]
    offload: Seconds
    source: Keys  # machine that the instance left, or -1
    target: Keys  # machine that it came to, or -1
    silent: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.instance)

    def where(self, keep: NDArray[np.bool_]) -> "Actions":
        """Only the actions of a mask."""
        return Actions(*(column[keep] for column in vars(self).values()))

    @staticmethod
    def make(
        instance: Keys,
        kind: NDArray[np.int64] | int,
        start: Seconds,
        finish: Seconds,
        *,
        ok: NDArray[np.bool_] | bool = True,
        offload: Seconds | int = NEVER,
        source: Keys | int = -1,
        target: Keys | int = -1,
        silent: NDArray[np.bool_] | bool = False,
    ) -> "Actions":
        """Actions from columns, single values being the same for all."""
        n = len(instance)
        columns = [np.broadcast_to(np.asarray(c), n).copy()
                   for c in (kind, start, finish, ok, offload, source, target, silent)]  # fmt: skip
        return Actions(instance, *columns)

    @staticmethod
    def none() -> "Actions":
        """No actions at all."""
        empty = np.empty(0, np.int64)
        return Actions.make(empty, 0, empty, empty)

    @staticmethod
    def join(parts: list["Actions"]) -> "Actions":
        """All parts in one, ordered by start, then instance."""
        columns = [np.concatenate(c) for c in zip(*(vars(p).values() for p in parts), strict=True)]
        order = np.lexsort((columns[1], columns[0], columns[2]))
        return Actions(*(c[order] for c in columns))


@dataclass(frozen=True)
class Instances:
    """Instances or containers, ascending by `created`.

    `allocation` and `lease` are -1 on demand; `launched` is `NEVER` when the launch failed;
    `deleted` is `NEVER` while it lives; `machine` and `flavor` are the last ones.
    """

    allocation: Keys
    lease: Keys
    machine: Keys
    flavor: NDArray[np.int64]
    project: NDArray[np.int64]
    created: Seconds
    launched: Seconds
    deleted: Seconds
    actions: Actions
    offloaded: Holes
    stopped: Holes
    moves: Moves

    def __len__(self) -> int:
        return len(self.created)

    def life(self, as_of: int) -> tuple[Seconds, Seconds]:
        """[created, deleted or as_of), empty for failed launches."""
        end = np.where(self.deleted == NEVER, as_of, self.deleted)
        return self.created, np.where(self.launched == NEVER, self.created, end)

    def occupied(self, as_of: int) -> tuple[Keys, Seconds, Seconds]:
        """Pieces (instance, start, end) of occupation, not yet clipped to commitments."""
        start, end = self.life(as_of)
        h = self.offloaded
        return cut((np.arange(len(self)), start, end), (h.instance, h.start, h.end))

    def active(self, as_of: int) -> tuple[Keys, Seconds, Seconds]:
        """Pieces (instance, start, end) in which the instance runs, not yet clipped."""
        _, end = self.life(as_of)
        start = np.where(self.launched == NEVER, end, self.launched)
        h = self.stopped
        return cut(
            (np.arange(len(self)), np.minimum(start, end), end), (h.instance, h.start, h.end)
        )


def on_nodes(cal: Calibration, plan: Schedule, projects: NDArray[np.int64], seed: int) -> Instances:
    """Instances (at the Edge: containers) on whole nodes, inside the leases that hold them.

    `projects` gives the project of each lease. How much of a commitment is used follows the yearly
    ratio of the targets of occupied and committed.
    """
    rng = source(seed, cal.site, "instances")
    device = cal.facts["cloud_class"] == "device"
    build = 40 if device else 600
    begin, end = plan.held()
    end = np.minimum(end, cal.as_of)
    a = plan.allocations
    people = ~plan.leases.robot[a.lease] & (plan.leases.outcome[a.lease] != NEVER_STARTED)
    rows = np.flatnonzero(people & (end - begin > 4 * build) & (begin < cal.as_of))

    # How much of each hold is used: all of it, some of it, or nothing. Hours count, not rows.
    committed, occupied = cal.target("committed"), cal.target("occupied")
    years = np.clip(years_of(begin[rows]), min(committed), max(committed))
    ratio = np.array([occupied[y] / committed[y] for y in range(min(committed), 2026)])
    full = np.clip((ratio[years - min(committed)] * 1.015 - 0.25) / 0.75, 0, 1)
    dice, part = rng.random(len(rows)), rng.random(len(rows))
    used = np.where(dice < full, 1.0, np.where(part < 0.5, 0.0, part * 2 - 1))
    rows, used = rows[used > 0.02], used[used > 0.02]

    hold = (end - begin)[rows]
    delay = whole(np.exp(rng.normal(np.log(240), 1.1, len(rows))))
    first = begin[rows] + np.minimum(np.maximum(delay, 20), hold // 6)
    stays = used >= 1
    last = np.where(stays, end[rows], first + whole((end[rows] - first) * used))
    keep = last - first > 2 * build
    rows, first, last, stays = rows[keep], first[keep], last[keep], stays[keep]

    wanted = cal.profile.count(cal.facts["containers"]) if device else cal.rows("nova.instances")
    failures = 0 if device else round(wanted * 0.085)
    rows, first, last, stays = _relaunch(
        rng, rows, first, last, stays, more=wanted - failures - len(rows), build=build
    )
    n = len(rows)
    launched = first + np.minimum(
        whole(build * rng.uniform(0.7, 1.8, n)), np.maximum((last - first) // 3, 1)
    )
    # The lease's end takes the instance with it, some seconds before or after the second.
    over = a.deleted[rows] != NEVER
    slip = rng.integers(-20, 40, n)
    deleted = np.where(stays, last + slip, last)
    deleted = np.where((stays & ~over) | (deleted >= cal.as_of), NEVER, deleted)
    deleted = _linger(cal, rng, last, deleted, stays & over)
    failed = _failures(cal, rng, plan, failures)
    created = np.concatenate([first, failed[1]])
    order = np.argsort(created, kind="stable")
    allocation = np.concatenate([rows, failed[0]])[order]
    launched = np.concatenate([launched, np.full(len(failed[0]), NEVER)])[order]
    deleted = np.concatenate([deleted, failed[2]])[order]
    lease = a.lease[allocation]
    bare = Instances(
        allocation, lease, a.machine[allocation], np.zeros(len(order), np.int64),
        projects[lease], created[order], launched, deleted,
        Actions.none(),
        Holes.none(), Holes.none(), Moves.of(np.empty(0, np.int64)),
    )  # fmt: skip
    extra = 0.5 * n if device else cal.rows("nova.instance_actions") - 2 * len(order)
    kinds = {STOP: 1.0} if device else NODE_STORIES
    # A row that lost its node can be told by its lease, if that has one host.
    hosts = np.bincount(a.lease, minlength=len(plan.leases))
    told_by_lease = hosts[bare.lease] == 1
    return tell(cal, rng, bare, int(extra), stories=kinds, quick=device, findable=told_by_lease)


def _relaunch(
    rng: np.random.Generator,
    rows: Keys,
    first: Seconds,
    last: Seconds,
    stays: NDArray[np.bool_],
    *,
    more: int,
    build: int,
) -> tuple[Keys, Seconds, Seconds, NDArray[np.bool_]]:
    """Break lives into several instances one after the other until there are `more` of them."""
    if more <= 0 or not len(rows):
        return rows, first, last, stays
    room = np.maximum((last - first) // (12 * build) - 1, 0)
    weight = np.minimum(room, 12.0) ** 0.7 + 1e-12
    picks = np.bincount(rng.choice(len(rows), more, p=weight / weight.sum()), minlength=len(rows))
    pieces = np.minimum(picks, room) + 1
    index = np.repeat(np.arange(len(rows)), pieces)
    nth = np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    width = ((last - first) // pieces)[index]
    is_last = nth == pieces[index] - 1
    start = first[index] + nth * width
    stop = np.where(is_last, last[index], start + width - 30 - rng.integers(0, build, len(index)))
    return rows[index], start, stop, stays[index] & is_last


def _linger(
    cal: Calibration,
    rng: np.random.Generator,
    last: Seconds,
    deleted: Seconds,
    may: NDArray[np.bool_],
) -> Seconds:
    """Rows of instances that were deleted long after their lease had ended (before 2022)."""
    mean = 220 * HOUR
    deleted = deleted.copy()
    years = years_of(last)
    for year, nodes in cal.yearly("lingering_nodes").items():
        rows = np.flatnonzero(may & (years == year))
        level = 0.7 * nodes * cal.share("lingering")
        n = min(len(rows), round(level * (year_start(year + 1) - year_start(year)) / mean))
        chosen = rng.choice(rows, n, replace=False) if n else rows[:0]
        late = last[chosen] + whole(rng.exponential(mean, n)) + MINUTE
        deleted[chosen] = np.minimum(late, cal.as_of - DAY)
    return deleted


def _failures(
    cal: Calibration, rng: np.random.Generator, plan: Schedule, n: int
) -> tuple[Keys, Seconds, Seconds]:
    """Launches that failed inside a lease: (allocation, created, deleted)."""
    begin, end = plan.held()
    end = np.minimum(end, cal.as_of)
    lengths = np.where(plan.leases.robot[plan.allocations.lease], 0, np.maximum(end - begin, 0))
    rows = np.flatnonzero((lengths > 20 * MINUTE) & (begin < cal.as_of - DAY))
    if not n or not len(rows):
        return rows[:0], begin[:0], begin[:0]
    rows = np.sort(rng.choice(rows, n))
    created = begin[rows] + whole(rng.random(n) * np.minimum(lengths[rows], 6 * HOUR) * 0.8)
    years = years_of(created)
    stay = rng.exponential(40 * MINUTE, n) + MINUTE
    for year, nodes in cal.yearly("lingering_nodes").items():
        of_year = np.flatnonzero(years == year)
        if len(of_year):
            level = 0.3 * nodes * cal.share("lingering")
            mean = level * (year_start(year + 1) - year_start(year)) * 2 / len(of_year)
            some = of_year[rng.random(len(of_year)) < 0.5]
            stay[some] += rng.exponential(mean, len(some))
    return rows, created, np.minimum(created + whole(stay), cal.as_of - HOUR)


# How often each story is told, for bare metal and for virtual machines.
NODE_STORIES = {STOP: 0.32, REBOOT: 0.34, REBUILD: 0.14, ATTACH: 0.17, SHELVE: 0.008, RESIZE: 0.0}
VM_STORIES = {STOP: 0.28, REBOOT: 0.33, REBUILD: 0.05, ATTACH: 0.22, SHELVE: 0.03,
              PAUSE: 0.03, SUSPEND: 0.04, RESIZE: 0.02}  # fmt: skip
FAILED_SHARE = 0.04  # of the stories: the action fails and changes nothing
OPEN_SHARE = 0.10  # of the pairs that are an instance's last story: nobody undoes them


def tell(
    cal: Calibration,
    rng: np.random.Generator,
    bare: Instances,
    extra: int,
    *,
    stories: dict[int, float],
    quick: bool,
    findable: NDArray[np.bool_],
) -> Instances:
    """Give instances their actions, `extra` of them besides create, delete and moves.

    The life of an instance is divided into equal slots, one story each, so that stories never
    overlap; machines that move have no other story. Only `findable` ones stay shelved, since
    their row forgets its host.
    """
    ran = bare.launched != NEVER
    kinds = np.array(list(stories))
    chance = np.array(list(stories.values())) / sum(stories.values())
    cost = float(np.where(np.isin(kinds, list(PAIRS)), 1.9, 1.0) @ chance)
    who, begin, width, last = _slots(rng, bare, int(extra / cost), cal.as_of)
    kind = kinds[np.searchsorted(np.cumsum(chance), rng.random(len(who)) * 0.999999)]
    pair = np.isin(kind, list(PAIRS))
    failed = (rng.random(len(who)) < FAILED_SHARE) | (kind == RESIZE)
    open_ = pair & last & (rng.random(len(who)) < OPEN_SHARE)
    open_ &= (kind != SHELVE) | findable[who]
    took = whole(np.clip(rng.gamma(2.0, 8.0 if quick else 60.0, len(who)), 2, 0.04 * width))
    done = begin + took
    undo = whole(begin + rng.uniform(0.15, 0.6, len(who)) * width)
    undone = undo + whole(np.clip(rng.gamma(2.0, 60.0, len(who)), 2, 0.05 * width))
    if cal.facts["cloud_class"] == "baremetal":
        outside = rng.random(len(who)) < cal.share("power_outside")
        kind[(kind == STOP) & ~failed & outside & (begin > POWER_UPDATE_SINCE)] = POWER_OFF

    effective = pair & ~failed
    shelved = effective & (kind == SHELVE)
    # Offloaded at the shelving itself without an event; or later, by a periodic task whose event
    # joins the shelving's action or by an action of its own; or not at all.
    quiet = rng.random(len(who)) < cal.share("shelve_no_offload")
    way = rng.random(len(who))
    kept = shelved & ~quiet & (way < 0.2)
    asked = shelved & ~quiet & (way >= 0.2) & (way < 0.4)
    later = shelved & ~quiet & ~kept
    offload = np.full(len(who), NEVER)
    offload[later] = (done + whole(0.4 * (undo - done)))[later]
    out_from = np.where(offload == NEVER, done, offload)
    out = shelved & ~kept

    main = Actions.make(who, kind, begin, done, ok=~failed, offload=np.where(asked, NEVER, offload))
    tail = effective & ~open_
    partner = np.array([PAIRS.get(k, k) for k in range(len(ACTIONS))])[kind]
    partner[kept] = UNSHELVE_KEPT
    second = Actions.make(who[tail], partner[tail], undo[tail], undone[tail])
    late = Actions.make(who[asked], OFFLOAD, offload[asked] - 5, offload[asked])
    n = np.arange(len(bare))
    first = Actions.make(
        n, CREATE, bare.created, np.where(ran, bare.launched, bare.created + 45), ok=ran
    )
    # Nobody asks for the end of what was deleted softly; no service hears of that of what is on
    # no host, or on one that is down.
    reclaimed, nowhere = np.zeros(len(bare), dtype=bool), np.zeros(len(bare), dtype=bool)
    reclaimed[who[effective & open_ & (kind == SOFT_DELETE)]] = True
    nowhere[who[out & open_]] = True
    ended = (bare.deleted != NEVER) & ~reclaimed
    local = nowhere | (rng.random(len(bare)) < cal.share("local_delete"))
    end = Actions.make(
        n[ended], DELETE, np.maximum(bare.deleted[ended] - 12, bare.created[ended]),
        bare.deleted[ended], silent=local[ended],
    )  # fmt: skip
    moved, moved_off, moved_out = _told_moves(cal, rng, bare.moves)
    return replace(
        bare,
        actions=Actions.join([first, main, second, late, end, moved]),
        stopped=Holes(
            who[effective], done[effective], np.where(open_, FAR, undone)[effective]
        ).and_more(moved_off),
        offloaded=Holes(who[out], out_from[out], np.where(open_, FAR, undo)[out]).and_more(
            moved_out
        ),
    )


def _told_moves(
    cal: Calibration, rng: np.random.Generator, m: Moves
) -> tuple[Actions, Holes, Holes]:
    """The actions of moves, and when machines unshelved elsewhere were off, and out."""
    main = Actions.make(
        m.instance, m.kind, m.start, m.done, ok=m.ok,
        source=np.where(m.ok, m.source, -1), target=np.where(m.ok, m.target, -1),
    )  # fmt: skip
    sized = m.where(m.ok & np.isin(m.kind, (MIGRATE, RESIZED)))
    confirm = Actions.make(
        sized.instance, CONFIRM, sized.done + 300, sized.done + 310,
        source=sized.source, target=sized.source,
    )  # fmt: skip
    back = m.where(m.kind == UNSHELVE)
    off = back.left + 90
    quiet = rng.random(len(back)) < cal.share("shelve_no_offload")
    offload = np.where(quiet, NEVER, off + (back.start - off) // 3)
    shelve = Actions.make(back.instance, SHELVE, back.left, off, offload=offload)
    out = np.where(offload == NEVER, off, offload)
    return (
        Actions.join([main, confirm, shelve]),
        Holes(back.instance, off, back.done),
        Holes(back.instance, out, back.start),
    )


def _slots(
    rng: np.random.Generator, bare: Instances, told: int, as_of: int
) -> tuple[Keys, Seconds, NDArray[np.float64], NDArray[np.bool_]]:
    """Room for `told` stories: (instance, begin, width of the slot, whether it is the last)."""
    _, gone = bare.life(as_of)
    low = np.where(bare.launched != NEVER, bare.launched, gone)
    length = gone - low
    room = np.clip(length // (20 * MINUTE) - 1, 0, 40)
    room[bare.moves.instance] = 0
    weight = np.sqrt(room)
    count = np.zeros(len(bare), dtype=np.int64)
    for _ in range(7):  # what does not fit goes to others that have room
        short = told - int(count.sum())
        if short <= 0 or not weight.sum():
            break
        picks = rng.choice(len(bare), short, p=weight / weight.sum())
        count = np.minimum(count + np.bincount(picks, minlength=len(bare)), room)
        weight = (room - count).astype(float)
    who = np.repeat(np.arange(len(bare)), count)
    nth = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
    width = length[who] / count[who]
    begin = whole(low[who] + (nth + rng.uniform(0.05, 0.3, len(who))) * width)
    return who, begin, width, nth == count[who] - 1
