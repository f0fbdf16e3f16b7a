"""Whole-node leases: who held which machine when, and what the scheduler knew at the time.

An event loop over lease wishes, releases, extensions, hosts added or given back, maintenance with
replacement of broken hosts, and enrolments in the pool. Two leases never hold one machine at once,
whether in what happened or in what was planned.
"""

import heapq
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .clock import DAY, HOUR, MINUTE, NEVER, Seconds
from .demand import Level, Requests
from .fleet import FAR, Fleet
from .ids import source
from .intervals import Keys

# Kinds of event, in the order in which those of one second happen.
ENROL, HEALTHY, END, REMOVE, REENROL, BROKEN, START, EXTEND, ADD, SHRINK = range(10)

# What became of a lease.
OUTCOMES = (
    "pending", "running", "completed", "released_early", "cancelled", "never_started", "no_hosts",
)  # fmt: skip
PENDING, RUNNING, COMPLETED, RELEASED, CANCELLED, NEVER_STARTED, NO_HOSTS = range(7)

WEEK = 7 * DAY
REPLACED_SHARE = 0.15  # of the leases whose host breaks
ADDED_SHARE, SHRUNK_SHARE = 0.03, 0.012
NEVER_STARTED_SHARE = 0.008
# Machines that stayed longest were also the more wanted ones (digitised current_committed against
# current_reservable before 2022): how often a look at another machine prefers one of them.
FAVOUR = 0.85


@dataclass(frozen=True)
class Enrolments:
    """Rows of the pool: machine, [start, end) with end `FAR` where still enrolled."""

    machine: Keys
    start: Seconds
    end: Seconds


@dataclass(frozen=True)
class Leases:
    """Leases for nodes; `deleted` is `NEVER` unless released or cancelled."""

    created: Seconds
    start: Seconds
    end: Seconds
    first_end: Seconds  # as requested at creation
    deleted: Seconds
    updated: Seconds
    outcome: NDArray[np.int64]
    node_type: NDArray[np.int64]
    nodes: NDArray[np.int64]
    robot: NDArray[np.bool_]
    gpu: NDArray[np.bool_]
    advance: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.created)


@dataclass(frozen=True)
class Allocations:
    """Host x lease; `deleted` is `NEVER` while the row lives; `heir` replaced it, or -1."""

    lease: Keys
    machine: Keys
    enrolment: Keys
    created: Seconds
    deleted: Seconds
    heir: Keys
    in_place: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.lease)


@dataclass(frozen=True)
class Versions:
    """What was known of an allocation from `known_from` to `known_to` (`NEVER`: to this day)."""

    allocation: Keys
    known_from: Seconds
    known_to: Seconds
    start: Seconds
    end: Seconds


@dataclass(frozen=True)
class Schedule:
    """Everything that the event loop decided."""

    enrolments: Enrolments
    leases: Leases
    allocations: Allocations
    versions: Versions

    def held(self) -> tuple[Seconds, Seconds]:
        """[start, end) of each allocation's commitment, by the definition of `committed`."""
        a, leases = self.allocations, self.leases
        begin = np.maximum(np.maximum(leases.start, leases.created)[a.lease], a.created)
        end = leases.end[a.lease]
        for deleted in (leases.deleted[a.lease], a.deleted):
            end = np.where(deleted == NEVER, end, np.minimum(end, deleted))
        return begin, np.maximum(end, begin)


class Controller:
    """Decides how many leases are long, so that the committed level follows its target."""

    def __init__(self, first: int) -> None:
        self.last = first
        self.drift = 0.0

    def long_share(self, now: int, target: float, level: int) -> float:
        """Probability that a lease made now is a long one."""
        gap = (1.02 * target - level) / max(target, 1.0)
        self.drift += (gap - self.drift) * min(1.0, (now - self.last) / (40 * DAY))
        self.last = now
        return min(0.9, max(0.0, 0.22 + 1.0 * gap + 4.0 * self.drift))


class Pool:
    """The machines in Blazar's pool: their bookings, and which are free right now."""

    def __init__(self, fleet: Fleet, rng: np.random.Generator) -> None:
        n = len(fleet)
        self.rng = rng
        self.type_of: list[int] = fleet.type_of.tolist()
        self.enrolment = [-1] * n
        self.pool_end = [0] * n
        self.broken = [0] * n
        self.draining = [False] * n
        self.bookings: list[list[list[int]]] = [[] for _ in range(n)]  # [start, end, allocation]
        self.free: list[list[int]] = [[] for _ in fleet.types]
        self.slot = [-1] * n
        self.favoured: list[bool] = fleet.wanted.tolist()
        self.members = [
            [i for i in range(n) if self.type_of[i] == t] for t in range(len(self.free))
        ]
        self.count = [0] * len(self.free)
        self.windows: list[tuple[list[int], list[int]]] = [([], []) for _ in range(n)]
        down = fleet.maintenance
        for m, s, e in zip(
            down.machine.tolist(), down.start.tolist(), down.end.tolist(), strict=True
        ):
            self.windows[m][0].append(s)
            self.windows[m][1].append(e)

    def refresh(self, m: int) -> None:
        """Put the machine into its type's free list, or take it out."""
        idle = (
            self.enrolment[m] >= 0
            and not self.bookings[m]
            and not self.broken[m]
            and not self.draining[m]
        )
        row, at = self.free[self.type_of[m]], self.slot[m]
        if idle and at < 0:
            self.slot[m] = len(row)
            row.append(m)
        elif not idle and at >= 0:
            last = row.pop()
            if last != m:
                row[at] = last
                self.slot[last] = at
            self.slot[m] = -1

    def down_at(self, m: int, when: int) -> bool:
        """Whether a maintenance window of the machine holds that time."""
        starts, ends = self.windows[m]
        i = bisect_right(starts, when) - 1
        return i >= 0 and ends[i] > when

    def fits(self, m: int, start: int, end: int, own: int = -1) -> bool:
        """Whether nobody else has booked the machine in [start, end) and it stays that long."""
        if self.pool_end[m] < end or self.enrolment[m] < 0 or self.draining[m]:
            return False
        return all(b[1] <= start or b[0] >= end or b[2] == own for b in self.bookings[m])

    def pick(self, kind: int, n: int, start: int, end: int, now: int) -> list[int]:
        """Up to `n` machines of a type for [start, end); fewer if there are no more."""
        chosen: list[int] = []
        row, rng = self.free[kind], self.rng
        if start <= now:
            tries = 0
            while len(chosen) < n and len(row) > len(chosen) and tries < 4 * n + 40:
                m = row[int(rng.random() * len(row))]
                if not self.favoured[m] and rng.random() < FAVOUR:
                    m = row[int(rng.random() * len(row))]
                tries += 1
                if m not in chosen and self.pool_end[m] >= end:
                    chosen.append(m)
            if len(chosen) == n:
                return chosen
        members = self.members[kind]
        first = int(rng.random() * len(members))
        for i in range(len(members)):
            m = members[first + i - len(members)]
            if m in chosen or not self.fits(m, start, end):
                continue
            if self.broken[m] if start <= now else self.down_at(m, start):
                continue
            chosen.append(m)
            if len(chosen) == n:
                break
        return chosen


def run(cal: Calibration, fleet: Fleet, wishes: Requests, level: Level, seed: int) -> Schedule:
    """Play all leases for nodes of a site."""
    return _Play(cal, fleet, wishes, level, seed).play()


class _Play:
    """The state of the event loop."""

    def __init__(
        self, cal: Calibration, fleet: Fleet, wishes: Requests, level: Level, seed: int
    ) -> None:
        self.fleet, self.wishes, self.as_of = fleet, wishes, cal.as_of
        self.in_place = cal.share("replaced_in_place")
        self.rng = source(seed, cal.site, "scheduler")
        self.pool = Pool(fleet, self.rng)
        self.heap: list[tuple[int, int, int, int]] = []
        self.serial = 0
        self.is_gpu = [cal.node_types[t]["gpus"] > 0 for t in fleet.types]
        self.popularity = [cal.node_types[t]["popularity"] for t in fleet.types]
        self.targets = level.at(wishes.created).tolist()
        self.level = 0
        # Rare events that have happened: each happens at its first chance, however small the site.
        self.seen: set[str] = set()
        advance = wishes.advance & ~wishes.robot
        share = cal.leases["cancelled_before_start_share"] * (~wishes.robot).sum()
        self.cancel_share = min(0.6, share / max(1, advance.sum()))
        self.enrol: list[list[int]] = []
        self.alloc: list[list[int]] = []  # lease, machine, enrolment, created, deleted, heir, place
        self.version: list[list[int]] = []  # allocation, from, to, start, end
        self.open_version: list[int] = []
        n = len(wishes)
        self.held_by: list[list[int]] = [[] for _ in range(n)]  # live allocations
        self.started = [False] * n
        self.extends = [False] * n
        self.start, self.end, self.first_end = [0] * n, [0] * n, [0] * n
        self.need, self.plan = [0] * n, [0] * n
        self.deleted, self.updated = [NEVER] * n, wishes.created.tolist()
        self.outcome, self.kind, self.nodes = [PENDING] * n, [0] * n, [1] * n

    def push(self, when: int, kind: int, what: int) -> None:
        """Note an event, unless it lies beyond the end of the story."""
        if when < self.as_of:
            self.serial += 1
            heapq.heappush(self.heap, (when, kind, self.serial, what))

    def play(self) -> Schedule:
        """Run the loop and return what came of it."""
        self._plan_pool()
        handlers = {
            ENROL: self._enrol, HEALTHY: self._healthy, END: self._end, REMOVE: self._remove,
            REENROL: self._reenrol, BROKEN: self._broken, START: self._start,
            EXTEND: self._extend, ADD: self._add, SHRINK: self._shrink,
        }  # fmt: skip
        created = self.wishes.created.tolist()
        control = Controller(created[0] if created else 0)
        heap = self.heap
        for i, now in enumerate(created):
            while heap and heap[0][0] <= now:
                when, kind, _, what = heapq.heappop(heap)
                handlers[kind](when, what)
            self._lease(i, now, control)
        while heap:
            when, kind, _, what = heapq.heappop(heap)
            handlers[kind](when, what)
        return self._schedule()

    def _plan_pool(self) -> None:
        f = self.fleet
        self.lives: list[int] = []
        for i, (m, s, e) in enumerate(
            zip(f.pool.machine.tolist(), f.pool.start.tolist(), f.pool.end.tolist(), strict=True)
        ):
            self.push(s, ENROL, i)
            self.push(e, REMOVE, m)
        self.life_end = f.pool.end.tolist()
        for m, at in zip(f.reenrol_machine.tolist(), f.reenrol_at.tolist(), strict=True):
            self.push(at, REENROL, m)
        down = f.maintenance
        for m, s, e in zip(
            down.machine.tolist(), down.start.tolist(), down.end.tolist(), strict=True
        ):
            self.push(s, BROKEN, m)
            self.push(e, HEALTHY, m)

    # --- the pool -----------------------------------------------------------------------------

    def _enrol(self, now: int, life: int) -> None:
        m = int(self.fleet.pool.machine[life])
        self._open(now, m, self.life_end[life])

    def _open(self, now: int, m: int, until: int) -> None:
        pool = self.pool
        pool.enrolment[m] = len(self.enrol)
        self.enrol.append([m, now, FAR])
        pool.pool_end[m] = until
        pool.count[pool.type_of[m]] += 1
        pool.refresh(m)

    def _close(self, now: int, m: int) -> None:
        pool = self.pool
        if pool.enrolment[m] < 0:
            return
        self.enrol[pool.enrolment[m]][2] = now
        pool.enrolment[m] = -1
        pool.draining[m] = False
        pool.count[pool.type_of[m]] -= 1
        pool.refresh(m)

    def _remove(self, now: int, m: int) -> None:
        self._close(now, m)

    def _reenrol(self, now: int, m: int) -> None:
        pool = self.pool
        if pool.enrolment[m] < 0:
            return
        if pool.bookings[m]:
            pool.draining[m] = True
            pool.refresh(m)
            return
        until = pool.pool_end[m]
        again = now + int(self.rng.integers(4 * MINUTE, 50 * MINUTE))
        if again + DAY < until:
            self._close(now, m)
            if again < self.as_of:
                # Nothing else can happen to a machine that is not in the pool.
                self._open(again, m, until)
                pool.broken[m] += 1
                pool.refresh(m)
                self.push(again, HEALTHY, m)
        else:
            pool.draining[m] = False
            pool.refresh(m)

    def _healthy(self, _now: int, m: int) -> None:
        self.pool.broken[m] -= 1
        self.pool.refresh(m)

    def _broken(self, now: int, m: int) -> None:
        pool = self.pool
        pool.broken[m] += 1
        pool.refresh(m)
        for booking in pool.bookings[m]:
            lease = self.alloc[booking[2]][0]
            replaced = self.rng.random() < REPLACED_SHARE or "replaced" not in self.seen
            if booking[0] <= now < booking[1] and replaced:
                heirs = pool.pick(pool.type_of[m], 1, now, booking[1], now)
                if heirs and self.started[lease]:
                    old = booking[2]
                    self._release(old, now)
                    new = self._allocate(lease, heirs[0], now, now, self.end[lease])
                    self.alloc[old][5] = new
                    # By editing the row: its past is lost in the decay.
                    edited = self.rng.random() < self.in_place or "replaced" not in self.seen
                    in_place = edited and self.in_place > 0
                    self.alloc[old][6] = int(in_place)
                    self.seen.add("replaced")
                    self.level += 1
                return

    # --- allocations --------------------------------------------------------------------------

    def _allocate(self, lease: int, m: int, now: int, start: int, end: int) -> int:
        i = len(self.alloc)
        self.alloc.append([lease, m, self.pool.enrolment[m], now, NEVER, -1, 0])
        self.pool.bookings[m].append([start, end, i])
        self.held_by[lease].append(i)
        self.open_version.append(len(self.version))
        self.version.append([i, now, NEVER, start, end])
        self.pool.refresh(m)
        return i

    def _release(self, i: int, now: int, deleted: int | None = None) -> None:
        """End an allocation at `now`; its row is marked deleted then or at `deleted`."""
        lease, m = self.alloc[i][0], self.alloc[i][1]
        self.alloc[i][4] = now if deleted is None else deleted
        self.held_by[lease].remove(i)
        pool = self.pool
        pool.bookings[m] = [b for b in pool.bookings[m] if b[2] != i]
        if self.started[lease]:
            self.level -= 1
        known = self.version[self.open_version[i]]
        if now < known[4]:
            known[2] = now
            self.open_version[i] = len(self.version)
            self.version.append([i, now, NEVER, known[3], max(now, known[3])])
        if pool.draining[m] and not pool.bookings[m]:
            pool.draining[m] = False
            self._reenrol(now, m)
        pool.refresh(m)

    # --- leases -------------------------------------------------------------------------------

    def _lease(self, i: int, now: int, control: Controller) -> None:
        w, rng = self.wishes, self.rng
        target = self.targets[i]
        robot = bool(w.robot[i])
        share = control.long_share(now, target, self.level)
        is_long = not robot and rng.random() < share
        n = int(w.nodes_long[i] if is_long else w.nodes_short[i])
        if target > 8:
            n = min(n, max(2, int(2 * max(target - self.level, 0)) + 4))
        need = int(w.long[i] if is_long else w.short[i])
        advance = bool(w.advance[i])
        start = (now + int(w.lead[i])) // MINUTE * MINUTE + MINUTE if advance else now // 60 * 60
        end = start + int(w.requested_long[i] if is_long else w.requested_short[i])
        self.extends[i] = is_long and bool(w.extends[i])
        first = max(start, now)
        kind, hosts = self._find(bool(w.gpu[i]), n, start, end, now)
        self.kind[i], self.nodes[i] = kind, len(hosts) or n
        self.start[i], self.end[i], self.first_end[i] = start, end, end
        self.need[i] = first + need
        if not hosts:
            self.outcome[i] = NO_HOSTS
            self.updated[i] = now + 2
            return
        for m in hosts:
            self._allocate(i, m, now + int(rng.integers(0, 2)), first, end)
        if advance and rng.random() < self.cancel_share:
            self.outcome[i] = CANCELLED
            self.plan[i] = now + int(rng.random() * (start - now - 1)) + 1
            self.push(self.plan[i], END, i)
            return
        if rng.random() < NEVER_STARTED_SHARE and not robot:
            self.outcome[i] = NEVER_STARTED
        if advance:
            self.push(first, START, i)
        else:
            self._start(now, i)
        self._plan(i)
        if not robot and need > 4 * HOUR:
            dice = rng.random()
            when = first + int(need * rng.uniform(0.1, 0.6))
            if dice < ADDED_SHARE or "added" not in self.seen:
                self.push(when, ADD, i)
            elif dice < ADDED_SHARE + SHRUNK_SHARE or "shrunk" not in self.seen:
                self.push(when, SHRINK, i)

    def _find(self, gpu: bool, n: int, start: int, end: int, now: int) -> tuple[int, list[int]]:
        pool, rng = self.pool, self.rng
        kinds = [k for k, c in enumerate(pool.count) if c and self.is_gpu[k] == gpu]
        kinds = kinds or [k for k, c in enumerate(pool.count) if c]
        if not kinds:
            return 0, []
        weights = [pool.count[k] * self.popularity[k] for k in kinds]
        best: tuple[int, list[int]] = (kinds[0], [])
        for _ in range(4):
            x = rng.random() * sum(weights)
            at = 0
            while at < len(kinds) - 1 and x >= weights[at]:
                x -= weights[at]
                at += 1
            kind = kinds.pop(at)
            weights.pop(at)
            wanted = min(n, max(1, pool.count[kind] // 3))
            hosts = pool.pick(kind, wanted, start, end, now)
            if len(hosts) == wanted:
                return kind, hosts
            if len(hosts) >= len(best[1]):
                best = (kind, hosts)
            if not kinds:
                break
        return best

    def _plan(self, i: int) -> None:
        """Note when the lease is given back, extended, or simply over."""
        need, end = self.need[i], self.end[i]
        if need < end:
            self.plan[i] = need
            self.push(need, END, i)
            return
        length = min(2 * DAY, int(0.8 * (end - max(self.start[i], self.wishes.created[i]))))
        when = end - 1 - int(self.rng.random() * length)
        if self.extends[i] and need > end + HOUR and when > self.updated[i]:
            self.push(when, EXTEND, i)
        self.plan[i] = end
        self.push(end, END, i)

    def _start(self, _now: int, i: int) -> None:
        if self.started[i] or not self.held_by[i]:
            return
        self.started[i] = True
        if self.outcome[i] == PENDING:
            self.outcome[i] = RUNNING
        self.level += len(self.held_by[i])

    def _end(self, now: int, i: int) -> None:
        if self.plan[i] != now or not self.held_by[i]:
            return
        early = now < self.end[i]
        late = 0 if early else int(self.rng.integers(2, 9))
        for a in list(self.held_by[i]):
            self._release(a, now, now + late)
        if early:
            self.deleted[i] = now
        self.updated[i] = now + late
        if self.outcome[i] == RUNNING:
            self.outcome[i] = RELEASED if early else COMPLETED

    def _extend(self, now: int, i: int) -> None:
        old = self.end[i]
        if not self.held_by[i] or now >= old:
            return
        wish = min(self.need[i] + int(self.rng.uniform(0.02, 0.6) * DAY), old + WEEK)
        new = max(wish // MINUTE * MINUTE, old + HOUR)
        hosts = [self.alloc[a][1] for a in self.held_by[i]]
        if not all(
            self.pool.fits(m, old, new, a) for m, a in zip(hosts, self.held_by[i], strict=True)
        ):
            return
        for m, a in zip(hosts, self.held_by[i], strict=True):
            for booking in self.pool.bookings[m]:
                if booking[2] == a:
                    booking[1] = new
            known = self.version[self.open_version[a]]
            known[2] = now
            self.open_version[a] = len(self.version)
            self.version.append([a, now, NEVER, known[3], new])
        self.end[i] = new
        self.updated[i] = now
        self._plan(i)

    def _add(self, now: int, i: int) -> None:
        if not self.held_by[i] or not self.started[i] or now >= self.plan[i]:
            return
        for m in self.pool.pick(self.kind[i], 1, now, self.end[i], now):
            self._allocate(i, m, now, now, self.end[i])
            self.level += 1
            self.nodes[i] += 1
            self.seen.add("added")
            self.updated[i] = now

    def _shrink(self, now: int, i: int) -> None:
        if self.started[i] and len(self.held_by[i]) > 1 and now < self.plan[i]:
            self._release(self.held_by[i][-1], now)
            self.updated[i] = now
            self.seen.add("shrunk")

    def _schedule(self) -> Schedule:
        w = self.wishes
        deleted = np.array(self.deleted, dtype=np.int64)
        outcome = np.array(self.outcome, dtype=np.int64)
        # Who will cancel has not done so yet.
        outcome[(outcome == CANCELLED) & (deleted == NEVER)] = PENDING
        enrol = np.array(self.enrol, dtype=np.int64).reshape(-1, 3)
        alloc = np.array(self.alloc, dtype=np.int64).reshape(-1, 7)
        version = np.array(self.version, dtype=np.int64).reshape(-1, 5)
        return Schedule(
            Enrolments(enrol[:, 0], enrol[:, 1], enrol[:, 2]),
            Leases(
                w.created,
                np.array(self.start, dtype=np.int64),
                np.array(self.end, dtype=np.int64),
                np.array(self.first_end, dtype=np.int64),
                deleted,
                np.array(self.updated, dtype=np.int64),
                outcome,
                np.array(self.kind, dtype=np.int64),
                np.array(self.nodes, dtype=np.int64),
                w.robot,
                w.gpu,
                w.advance,
            ),
            Allocations(
                alloc[:, 0], alloc[:, 1], alloc[:, 2], alloc[:, 3], alloc[:, 4], alloc[:, 5],
                alloc[:, 6].astype(bool),
            ),
            Versions(*version.T),
        )  # fmt: skip
