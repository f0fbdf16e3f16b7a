"""KVM: virtual machines on shared hosts, on demand until 2025-08 and in reservations.

The scheduler of the twin never puts more vcpus or memory on a host than it physically has. Hosts in
Blazar's pool carry only slots of flavor:instance reservations; before a host joins the pool its
machines are migrated away.
"""

import heapq
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .calibration import PROJECTS, Calibration
from .clock import DAY, HOUR, MINUTE, NEVER, Seconds, seconds, whole
from .demand import Level, arrivals, per_hour, target_level
from .fleet import FAR, Fleet, Spans
from .ids import source
from .intervals import Keys
from .lifecycle import (
    EVACUATE,
    LIVE_MIGRATION,
    MIGRATE,
    RESIZED,
    SOFT_DELETE,
    UNSHELVE,
    VM_STORIES,
    Actions,
    Holes,
    Instances,
    Moves,
    tell,
)  # fmt: skip
from .scheduler import (
    CANCELLED,
    COMPLETED,
    NO_HOSTS,
    PENDING,
    RELEASED,
    RUNNING,
    Allocations,
    Controller,
    Enrolments,
    Leases,
    Schedule,
    Versions,
)  # fmt: skip


@dataclass(frozen=True)
class Flavor:
    """A size of virtual machine."""

    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    gpus: int
    share: float


FLAVORS = (
    Flavor("m1.tiny", 1, 512, 1, 0, 0.08),
    Flavor("m1.small", 1, 2048, 20, 0, 0.28),
    Flavor("m1.medium", 2, 4096, 40, 0, 0.33),
    Flavor("m1.large", 4, 8192, 40, 0, 0.19),
    Flavor("m1.xlarge", 8, 16384, 40, 0, 0.09),
    Flavor("m1.xxlarge", 16, 32768, 40, 0, 0.03),
    Flavor("g1.h100.pci.1", 48, 262144, 480, 1, 0.0),
)
GPU_FLAVOR = len(FLAVORS) - 1
SIZES = np.array([[f.vcpus, f.memory_mb, f.disk_gb, f.gpus] for f in FLAVORS])
SHORT_HOURS, SHORT_SIGMA = 2.5, 1.9  # what on-demand machines live, two kinds (assumption)
LONG_DAYS, LONG_SIGMA = 9.0, 1.0
AWAY_HOURS = 5.0  # mean time that a machine is shelved that is unshelved elsewhere (assumption)


def pool_plan(cal: Calibration, fleet: Fleet, seed: int) -> tuple[Fleet, Enrolments, Seconds]:
    """Which hosts are in Blazar's pool when; also from when a host takes no on-demand machine."""
    rng = source(seed, cal.site, "pool")
    required = seconds(cal.facts["reservations_required"])
    p = fleet.presence
    start = np.maximum(p.start + HOUR, required + 3 * DAY + rng.integers(0, 14 * DAY, len(p)))
    open_ended = np.flatnonzero(p.end == FAR)
    gpu = open_ended[fleet.resources[p.machine[open_ended], 3] > 0]
    start[gpu] = p.start[gpu] + 2 * HOUR
    plain = [i for i in open_ended if i not in set(gpu.tolist())]
    taken = 0
    for stage in cal.facts["pool"]:
        at, n = seconds(stage["from"]), cal.profile.count(stage["count"])
        there = [i for i in plain[taken:] if p.start[i] < at - 60 * DAY][:n]
        start[there] = at + 11 * HOUR + 60 * np.arange(len(there))
        taken += len(there)
    end = np.where(p.end < FAR, p.end - HOUR, FAR)
    keep = (start < end) & (start < cal.as_of)
    order = np.flatnonzero(keep)[np.argsort(start[keep], kind="stable")]
    pool = Spans(p.machine[order], start[order], end[order])
    closed = np.full(len(fleet), FAR)
    closed[pool.machine] = np.minimum(pool.start, required)
    closed[gpu] = 0
    return replace(fleet, pool=pool), Enrolments(pool.machine, pool.start, pool.end), closed


def run(
    cal: Calibration, fleet: Fleet, closed: Seconds, enrolments: Enrolments, seed: int
) -> tuple[Schedule, NDArray[np.int64], Instances]:
    """Play reservations and machines; returns schedule, flavor of each lease, instances."""
    schedule, flavor = _reservations(cal, fleet, enrolments, seed)
    total = cal.rows("nova.instances") / (1 - cal.facts["archived_share"])
    reserved = _in_reservations(cal, schedule, flavor, seed)
    n = int(total) - len(reserved[0])
    failures = int(0.03 * total)
    demand = _OnDemand(cal, fleet, closed, n - failures, seed)
    ondemand = demand.play()
    rng = source(seed, cal.site, "stories")
    projects = source(seed, cal.site, "vm projects").zipf(1.3, n) % PROJECTS
    failed_at = np.sort(rng.choice(ondemand[0], failures)) + rng.integers(1, 600, failures)
    columns = [
        np.concatenate(parts)
        for parts in zip(
            [*reserved, np.full(len(reserved[0]), -1)],
            [np.full(len(ondemand[0]), -1), np.full(len(ondemand[0]), -1), ondemand[1],
             ondemand[2], ondemand[0], ondemand[3], ondemand[4], np.arange(len(ondemand[0]))],
            [np.full(failures, -1), np.full(failures, -1), np.zeros(failures, np.int64),
             rng.integers(0, GPU_FLAVOR, failures), failed_at, np.full(failures, NEVER),
             np.minimum(failed_at + whole(rng.exponential(2 * HOUR, failures)) + 60, cal.as_of - 1),
             np.full(failures, -1)],
            strict=True,
        )
    ]  # fmt: skip
    order = np.argsort(columns[4], kind="stable")
    allocation, lease, machine, kind, created, launched, deleted, origin = (
        c[order] for c in columns
    )
    place = np.full(len(ondemand[0]), -1)
    place[origin[origin >= 0]] = np.flatnonzero(origin >= 0)
    moves = demand.moves()
    moves = replace(moves, instance=place[moves.instance])
    moves = moves.take(np.lexsort((moves.there, moves.instance)))
    who = np.where(lease >= 0, lease % PROJECTS, np.resize(projects, len(order)))
    bare = Instances(
        allocation, lease, machine, kind, who, created, launched, deleted,
        Actions.none(), Holes.none(), Holes.none(), moves,
    )  # fmt: skip
    actions = cal.rows("nova.instance_actions") / (1 - cal.facts["archived_share"])
    extra = int(actions - 2 * len(order) - len(moves))
    stories = VM_STORIES | {SOFT_DELETE: cal.share("soft_deleted")}
    everyone = np.ones(len(order), dtype=bool)  # the events' hosts are the hypervisors
    return (
        schedule,
        flavor,
        tell(cal, rng, bare, extra, stories=stories, quick=True, findable=everyone),
    )


def _reservations(
    cal: Calibration, fleet: Fleet, enrolments: Enrolments, seed: int
) -> tuple[Schedule, NDArray[np.int64]]:
    """Leases with flavor:instance reservations, their slots on pool hosts, and failed leases."""
    rng = source(seed, cal.site, "reservations")
    required = seconds(cal.facts["reservations_required"])
    first = int(enrolments.start.min()) + DAY
    n = cal.rows("blazar.leases")
    early = int(0.14 * n)
    flat = Level(first - first % HOUR, np.ones((cal.as_of - first) // HOUR + 2))
    created = np.concatenate([
        arrivals(rng, early, flat, first, required),
        arrivals(rng, n - early, flat, required, cal.as_of),
    ])  # fmt: skip
    wanted = cal.rows("blazar.instance_reservations")
    hosts = rng.permutation(n) < wanted  # the others never got a reservation of nodes
    kind = rng.choice(GPU_FLAVOR, n, p=[0.02, 0.2, 0.34, 0.26, 0.14, 0.04])
    gpu_there = [m for m in enrolments.machine if fleet.resources[m, 3] > 0]
    if gpu_there:
        opens = enrolments.start[np.isin(enrolments.machine, gpu_there)].min()
        kind = np.where((rng.random(n) < 0.1) & (created > opens + DAY), GPU_FLAVOR, kind)
    amount = np.minimum(np.ceil(np.exp(rng.normal(0.93, 0.95, n))), 40).astype(np.int64)
    amount[kind == GPU_FLAVOR] = 1
    advance = rng.random(n) < 0.1
    lead = whole(np.exp(rng.normal(np.log(20 * HOUR), 1.2, n)))
    start = np.where(advance, (created + lead) // MINUTE * MINUTE + 60, created // 60 * 60)
    days = np.where(kind == GPU_FLAVOR, 7.0, np.clip(np.exp(rng.normal(2.4, 0.9, n)), 0.2, 180))
    end = start + whole(days * 1440) * MINUTE - MINUTE
    need = np.maximum(start, created) + whole(rng.beta(1.6, 0.9, n) * 1.3 * (end - start))
    deleted = np.where(need < end, need, NEVER)
    cancelled = advance & (rng.random(n) < 0.12)
    deleted = np.where(cancelled, created + (start - created) // 2, deleted)
    outcome = np.where(hosts, PENDING, NO_HOSTS)

    stop = np.where(deleted == NEVER, end, deleted)
    rows = []
    book = _SlotBook(fleet, enrolments, rng)
    for i in np.flatnonzero(hosts).tolist():
        now = int(created[i])
        slots = book.take(now, int(stop[i]), int(end[i]), int(kind[i]), int(amount[i]))
        if not slots:
            outcome[i] = NO_HOSTS
        second = now + int(rng.integers(0, 2))
        gone = NEVER if stop[i] >= cal.as_of else stop[i] + (4 if deleted[i] == NEVER else 0)
        rows += [(i, m, e, second, int(gone)) for m, e in slots]
    deleted = np.where((deleted < cal.as_of) & (outcome != NO_HOSTS), deleted, NEVER)
    over = np.where(deleted == NEVER, end, deleted)
    live = outcome != NO_HOSTS
    outcome = np.where(live & (start < cal.as_of), RUNNING, outcome)
    outcome = np.where(live & (over < cal.as_of), np.where(deleted == NEVER, COMPLETED, RELEASED),
                       outcome)  # fmt: skip
    outcome = np.where(live & cancelled & (deleted != NEVER), CANCELLED, outcome)
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    lease = table[:, 0]
    none = np.zeros(n, dtype=bool)
    updated = np.where(over < cal.as_of, over, created)
    return Schedule(
        enrolments,
        Leases(created, start, end, end, deleted, updated, outcome, np.zeros(n, np.int64),
               amount, none, kind == GPU_FLAVOR, advance),
        Allocations(lease, table[:, 1], table[:, 2], table[:, 3], table[:, 4],
                    np.full(len(lease), -1), np.zeros(len(lease), dtype=bool)),
        _versions(table, created, start, end, deleted),
    ), kind  # fmt: skip


class _SlotBook:
    """The slots on pool hosts: a slot takes its vcpus and memory until its lease is over."""

    def __init__(self, fleet: Fleet, enrolments: Enrolments, rng: np.random.Generator) -> None:
        self.size, self.rng = fleet.resources, rng
        self.used = np.zeros((len(fleet), 4), dtype=np.int64)
        self.over: list[tuple[int, int, int]] = []  # (when, machine, flavor): slots to give back
        self.pool = enrolments

    def take(
        self, now: int, stop: int, end: int, flavor: int, amount: int
    ) -> list[tuple[int, int]]:
        """(machine, enrolment) of `amount` slots booked until `stop`, or none at all."""
        while self.over and self.over[0][0] <= now:
            _, m, f = heapq.heappop(self.over)
            self.used[m] -= SIZES[f]
        wants = SIZES[flavor]
        p = self.pool
        fit = np.flatnonzero(
            (p.start <= now) & (p.end > end) & ((self.size[p.machine, 3] > 0) == (wants[3] > 0))
        )
        needed = wants > 0
        needed[2] = False  # disk may be promised more than once
        slots: list[tuple[int, int]] = []
        for e in self.rng.permutation(fit).tolist():
            m = int(p.machine[e])
            room = int(((self.size[m] - self.used[m])[needed] // wants[needed]).min())
            slots += [(m, e)] * min(room, amount - len(slots))
            if len(slots) == amount:
                break
        if len(slots) < amount:
            return []
        for m, _ in slots:
            self.used[m] += wants
            heapq.heappush(self.over, (stop, m, flavor))
        return slots


def _versions(
    table: NDArray[np.int64], created: Seconds, start: Seconds, end: Seconds, deleted: Seconds
) -> Versions:
    """One version per slot, and a second where the lease was given back early."""
    i = np.arange(len(table))
    lease = table[:, 0]
    first = np.maximum(start, created)[lease]
    early = deleted[lease] != NEVER
    back = deleted[lease][early]
    return Versions(
        np.r_[i, i[early]],
        np.r_[table[:, 3], back],
        np.r_[np.where(early, deleted[lease], NEVER), np.full(len(back), NEVER)],
        np.r_[first, first[early]],
        np.r_[end[lease], np.maximum(back, first[early])],
    )


def _in_reservations(
    cal: Calibration, plan: Schedule, flavor: NDArray[np.int64], seed: int
) -> list[NDArray[np.int64]]:
    """Machines in slots: allocation, lease, machine, flavor, created, launched, deleted."""
    rng = source(seed, cal.site, "slots")
    begin, end = plan.held()
    end = np.minimum(end, cal.as_of)
    rows = np.flatnonzero((end - begin > 10 * MINUTE) & (rng.random(len(begin)) < 0.93))
    pieces = 1 + rng.poisson(0.4, len(rows)) * (end - begin > DAY)[rows]
    index = np.repeat(np.arange(len(rows)), pieces)
    nth = np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    a = rows[index]
    first = (
        begin[a]
        + np.minimum(whole(rng.exponential(400, len(rows))), (end - begin)[rows] // 4)[index]
    )
    width = (end[a] - first) // pieces[index]
    last = nth == pieces[index] - 1
    created = first + nth * width
    stop = np.where(last, end[a], created + np.maximum(whole(width * 0.97), width - 900))
    stays = last & (plan.allocations.deleted[a] == NEVER)
    deleted = np.where(stays, NEVER, np.minimum(stop + last * rng.integers(-5, 20, len(a)),
                                                cal.as_of - 1))  # fmt: skip
    launched = created + np.minimum(rng.integers(15, 60, len(a)), np.maximum(width // 4, 1))
    lease = plan.allocations.lease[a]
    machine = plan.allocations.machine[a]
    return [a, lease, machine, flavor[lease], created, launched, deleted]


class _OnDemand:
    """The event loop of on-demand machines: created, migrated, deleted, within what hosts have."""

    def __init__(self, cal: Calibration, fleet: Fleet, closed: Seconds, n: int, seed: int) -> None:
        self.cal, self.fleet, self.as_of = cal, fleet, cal.as_of
        self.rng = rng = source(seed, cal.site, "machines")
        required = seconds(cal.facts["reservations_required"])
        level = target_level(cal, "occupied", per_hour(cal, fleet.presence))
        self.created = arrivals(rng, n, level, cal.opened + 3 * DAY, required)
        self.targets = level.at(self.created).tolist()
        share = np.array([f.share for f in FLAVORS[:GPU_FLAVOR]])
        self.flavor = rng.choice(GPU_FLAVOR, n, p=share / share.sum())
        short = np.exp(rng.normal(np.log(SHORT_HOURS), SHORT_SIGMA, n)) * HOUR
        long_ = np.exp(rng.normal(np.log(LONG_DAYS), LONG_SIGMA, n)) * DAY
        self.short = np.clip(whole(short), 5 * MINUTE, 20 * DAY).tolist()
        self.long = np.clip(whole(long_), HOUR, 200 * DAY).tolist()
        # When the last on-demand machines had to go.
        self.last = (required + rng.integers(0, 3 * DAY - HOUR, n)).tolist()
        self.closed = closed.tolist()
        self.vcpus = fleet.resources[:, 0].tolist()
        self.memory = fleet.resources[:, 1].tolist()
        self.free_vcpus, self.free_memory = [0] * len(fleet), [0] * len(fleet)
        self.open: list[int] = []
        self.on: list[set[int]] = [set() for _ in range(len(fleet))]
        self.host, self.until = [-1] * n, [NEVER] * n
        self.busy = [0] * n  # until when a move is under way
        self.log: list[tuple[int, int, int, int, int, int, int, int, int, int]] = []
        self.heap: list[tuple[int, int, int, int]] = []
        self.level = 0.0
        self.seen: set[str] = set()

    def push(self, when: int, kind: int, what: int) -> None:
        if when < self.as_of:
            heapq.heappush(self.heap, (when, kind, len(self.heap), what))

    def play(self) -> tuple[NDArray[np.int64], ...]:
        """created, machine, flavor, launched, deleted of the machines that found a host."""
        opens, goes, drain, dies, lands, moves = range(6)
        p, down = self.fleet.presence, self.fleet.maintenance
        for m, s, e in zip(p.machine.tolist(), p.start.tolist(), p.end.tolist(), strict=True):
            if self.closed[m] > s:
                self.push(s + 20 * MINUTE, opens, m)
                self.push(min(e - 2 * DAY, self.closed[m] - 2 * DAY), goes, m)
        for m, s in zip(down.machine.tolist(), down.start.tolist(), strict=True):
            if self.rng.random() < 0.5:
                self.push(s, drain, m)
        control = Controller(int(self.created[0]))
        moved = self.cal.share("moved")
        size = SIZES.tolist()
        launched = [NEVER] * len(self.created)
        handlers = {opens: self._open, goes: self._close, drain: self._drain, dies: self._die,
                    lands: self._land, moves: self._move}  # fmt: skip
        flavors = self.flavor.tolist()
        for i, now in enumerate(self.created.tolist()):
            while self.heap and self.heap[0][0] <= now:
                when, kind, _, what = heapq.heappop(self.heap)
                handlers[kind](when, what)
            vcpus, memory = size[flavors[i]][:2]
            m = self._place(vcpus, memory)
            share = control.long_share(now, self.targets[i], round(self.level))
            if m < 0:
                continue
            need = self.long[i] if self.rng.random() < share * 0.8 else self.short[i]
            self.host[i] = m
            self.on[m].add(i)
            self._take(m, vcpus, memory)
            launched[i] = now + int(self.rng.integers(10, 55))
            end = max(min(now + need, self.last[i]), now + 2 * MINUTE)
            self.until[i] = end
            self.push(end, dies, i)
            if need > DAY and self.rng.random() < moved:
                self.push(now + HOUR + int(self.rng.random() * need * 0.8), moves, i)
        while self.heap:
            when, kind, _, what = heapq.heappop(self.heap)
            handlers[kind](when, what)
        host = np.array(self.host)
        good = np.flatnonzero(host >= 0)
        self.renumber = np.cumsum(host >= 0) - 1
        until = np.array(self.until)[good]
        return (self.created[good], host[good], self.flavor[good], np.array(launched)[good],
                np.where(until < self.as_of, until, NEVER))  # fmt: skip

    def _take(self, m: int, vcpus: int, memory: int) -> None:
        self.free_vcpus[m] -= vcpus
        self.free_memory[m] -= memory
        self.level += vcpus / self.vcpus[m]

    def _place(self, vcpus: int, memory: int, but: int = -1, like: bool = False) -> int:
        """The emptiest of a few random hosts that has room, else the first that has.

        Not `but` itself; with `like`, only hosts of its type.
        """
        open_, rng, types = self.open, self.rng, self.fleet.type_of
        if like:
            open_ = [m for m in open_ if types[m] == types[but]]
        best, most = -1, -1
        for _ in range(min(3, len(open_))):
            m = open_[int(rng.random() * len(open_))]
            fits = self.free_vcpus[m] >= vcpus and self.free_memory[m] >= memory and m != but
            if fits and self.free_vcpus[m] > most:
                best, most = m, self.free_vcpus[m]
        if best >= 0:
            return best
        for m in open_:
            if self.free_vcpus[m] >= vcpus and self.free_memory[m] >= memory and m != but:
                return m
        return -1

    def _open(self, _now: int, m: int) -> None:
        self.free_vcpus[m], self.free_memory[m] = self.vcpus[m], self.memory[m]
        self.open.append(m)

    def _close(self, now: int, m: int) -> None:
        """A host goes or joins the pool: whatever is on it moves, or is deleted."""
        self.open.remove(m)
        last_chance = self.last[0] - 3 * DAY < now
        for i in sorted(self.on[m]):
            if last_chance:  # all on-demand machines end these days anyway
                continue
            if not self._start_move(now, i, LIVE_MIGRATION) and self.until[i] > now + 30 * HOUR:
                self._end_at(i, now + int(self.rng.integers(HOUR, 30 * HOUR)))

    def _drain(self, now: int, m: int) -> None:
        """A host is emptied for its maintenance, or has failed and its machines are evacuated."""
        if m in self.open:
            failed = self.on[m] and self._happens("evacuated")
            for i in sorted(self.on[m]):
                begin = now + int(self.rng.integers(0, 600))
                if failed or not self._fails(begin, i, LIVE_MIGRATION):
                    self._start_move(begin, i, EVACUATE if failed else LIVE_MIGRATION)

    def _move(self, now: int, i: int) -> None:
        kinds = (("unshelved_elsewhere", UNSHELVE), ("resized", RESIZED))
        kind = next((kind for name, kind in kinds if self._happens(name)), -1)
        if kind < 0:
            kind = MIGRATE if self.rng.random() < 0.2 else LIVE_MIGRATION
        if kind == UNSHELVE or not self._fails(now, i, kind):
            self._start_move(now, i, kind)

    def _happens(self, damage: str) -> bool:
        """Whether a kind of damage strikes here: it does at its first chance, unless never."""
        share = self.cal.share(damage)
        strikes = share > 0 and (self.rng.random() < share or damage not in self.seen)
        if strikes:
            self.seen.add(damage)
        return strikes

    def _fails(self, now: int, i: int, kind: int) -> bool:
        """Whether a move fails, and with it all that it was to bring."""
        able = self.until[i] > now + HOUR and self.busy[i] <= now and len(self.open) > 1
        if not able or not self._happens("move_failed"):
            return False
        target = next(m for m in self.open if m != self.host[i])
        done = now + int(self.rng.integers(5, 60))
        if done < self.as_of:
            size = int(self.flavor[i])
            self.log.append((i, kind, now, now, done, self.host[i], target, size, size, 0))
        return True

    def _start_move(self, now: int, i: int, kind: int) -> bool:
        source_ = self.host[i]
        if self.busy[i] > now or self.until[i] < now + HOUR:
            return False
        before = after = int(self.flavor[i])
        if kind == RESIZED:
            step = 1 if before == 0 or (before < GPU_FLAVOR - 1 and self.rng.random() < 0.7) else -1
            after = before + step
        vcpus, memory = int(SIZES[after, 0]), int(SIZES[after, 1])
        # While a machine is built where it is unshelved, it matters not on which of its hosts.
        target = self._place(vcpus, memory, but=source_, like=kind == UNSHELVE)
        if target < 0 or target == source_:
            return False
        begin = now
        if kind == UNSHELVE:
            away = min(int(self.rng.exponential(AWAY_HOURS) * HOUR), 20 * HOUR)
            begin += min(10 * MINUTE + away, (self.until[i] - now) // 2)
        done = begin + int(self.rng.integers(20, 400))
        if done >= self.as_of:
            return False
        self._take(target, vcpus, memory)
        self.level -= vcpus / self.vcpus[target]
        self.busy[i] = done
        self.log.append((i, kind, now, begin, done, source_, target, before, after, 1))
        self.push(done, 4, len(self.log) - 1)
        return True

    def _land(self, now: int, move: int) -> None:
        i, _, _, _, _, source_, target, before, after, _ = self.log[move]
        self.on[source_].discard(i)
        self.on[target].add(i)
        self._take(source_, -int(SIZES[before, 0]), -int(SIZES[before, 1]))
        self.level += int(SIZES[after, 0]) / self.vcpus[target]
        self.host[i], self.flavor[i] = target, after
        if target not in self.open:  # the host left meanwhile: the machine ends with it
            self._end_at(i, now + int(self.rng.integers(HOUR, 20 * HOUR)))

    def _end_at(self, i: int, when: int) -> None:
        when = max(when, self.busy[i] + HOUR)
        if when < self.until[i]:
            self.until[i] = when
            self.push(when, 3, i)

    def _die(self, now: int, i: int) -> None:
        if self.until[i] != now or self.host[i] < 0 or i not in self.on[self.host[i]]:
            return
        m = self.host[i]
        self.on[m].discard(i)
        vcpus, memory = int(SIZES[self.flavor[i], 0]), int(SIZES[self.flavor[i], 1])
        self._take(m, -vcpus, -memory)

    def moves(self) -> Moves:
        """What moved or was to move, machines numbered as `play` returns them."""
        log = np.array(self.log, dtype=np.int64).reshape(-1, 10)
        log[:, 0] = self.renumber[log[:, 0]]
        return Moves.of(log)


def places(vms: Instances) -> tuple[Keys, Keys, NDArray[np.int64], Seconds, Seconds]:
    """Where each machine was, and of which flavor: (instance, host, flavor, [from, to))."""
    m = vms.moves.where(vms.moves.ok)
    n = len(vms)
    begin = np.concatenate([np.zeros(n, np.int64), m.there])
    owner = np.concatenate([np.arange(n), m.instance])
    by_begin = np.lexsort((begin, owner))
    owner, begin = owner[by_begin], begin[by_begin]
    end_owner = np.concatenate([m.instance, np.arange(n)])
    end = np.concatenate([m.there, np.full(n, FAR)])
    host = np.concatenate([m.source, vms.machine])
    flavor = np.concatenate([m.before, vms.flavor])
    by_end = np.lexsort((end, end_owner))
    return owner, host[by_end], flavor[by_end], begin, end[by_end]
