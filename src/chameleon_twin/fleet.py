"""The hardware calendar: which machine stood where, when in the pool, and when broken.

A machine is one hypervisor_hostname. A *presence* is one enrolment in Nova, the *pool life* is the
planned time in Blazar's pool inside a presence, and a *re-enrolment* is the plan to take the host
out of Blazar and put it back; the scheduler carries it out when the host is idle. At the Edge a
machine is a device, and presence and pool life are the same. A node that is rebuilt in place to
another type is two machines of one hypervisor_hostname, the later a `former` self's successor.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .calibration import Calibration
from .clock import DAY, HOUR, MINUTE, Seconds, seconds, whole, year_start
from .ids import source, uuids
from .intervals import Keys, intersect, union

AWAY_SHARE = 0.06  # of the machines, away for a while and back under the same hostname
FAR = 1 << 40  # later than any time the twin knows


@dataclass(frozen=True)
class Spans:
    """Intervals of machines: machine, start, end (seconds; `FAR` where still so)."""

    machine: Keys
    start: Seconds
    end: Seconds

    def __len__(self) -> int:
        return len(self.machine)


@dataclass(frozen=True)
class Fleet:
    """All machines of a site. Arrays are indexed by machine unless they are `Spans`."""

    uid: pl.Series
    name: pl.Series
    types: list[str]
    type_of: NDArray[np.int64]
    resources: NDArray[np.int64]  # (machine, [vcpus, memory_mb, disk_gb, gpus])
    presence: Spans
    pool: Spans
    reenrol_machine: Keys
    reenrol_at: Seconds
    wanted: NDArray[np.bool_]  # machines that stayed long: today's Blazar row is older than 2018-07
    maintenance: Spans
    former: Keys  # the machine that this one was before it was rebuilt in place, or -1

    def __len__(self) -> int:
        return len(self.type_of)


def build(cal: Calibration, seed: int) -> Fleet:
    """Lay out machines, presences, pool lives and maintenance of a site from its calendar."""
    rng = source(seed, cal.site, "fleet")
    batches = cal.facts["hardware"]
    counts = [cal.profile.count(b["count"]) for b in batches]
    batch = np.repeat(np.arange(len(batches)), counts)
    n = len(batch)
    begin = np.array([seconds(b["from"]) for b in batches])[batch]
    close = np.array([seconds(b["to"]) if "to" in b else FAR for b in batches])[batch]
    life = [batches[b].get("life", "") for b in batch]
    close = _remove_in_stages(cal, life, close)
    delay = np.array([b.get("pool_delay_days", 0) for b in batches])[batch] * DAY
    start = begin + 14 * HOUR + whole(rng.uniform(0, 10 * HOUR, n))
    end = np.where(close < FAR, close + 15 * HOUR + whole(rng.uniform(0, 6 * HOUR, n)), FAR)

    types = sorted({b[key] for b in batches for key in ("node_type", "becomes") if key in b})
    type_of = np.array([types.index(b["node_type"]) for b in batches])[batch]
    facts = [cal.node_types[t] for t in types]
    sizes = [[f[r] for r in ("vcpus", "memory_mb", "disk_gb", "gpus")] for f in facts]

    # Blazar comes minutes or hours after Nova and goes before it.
    pool_from = start + delay + whole(rng.uniform(5 * MINUTE, 6 * HOUR, n))
    pool_to = np.where(end < FAR, end - whole(rng.uniform(5 * MINUTE, 6 * HOUR, n)), FAR)
    pool_to = _leave_early(cal, life, pool_to)
    survivor, last_row = _surviving_rows(cal, rng, pool_from, pool_to)
    # A device's name is unique among Blazar's devices, so that none ever comes back.
    away_share = 0.0 if cal.facts["cloud_class"] == "device" else AWAY_SHARE
    every = np.arange(n)
    presence, pool = _absences(
        rng, Spans(every, start, end), Spans(every, pool_from, pool_to), last_row, away_share
    )
    reenrol_machine, reenrol_at = _reenrolments(cal, rng, pool, last_row)
    if cal.facts["cloud_class"] == "device":
        pool, reenrol_machine, reenrol_at = presence, reenrol_machine[:0], reenrol_at[:0]

    if cal.facts["cloud_class"] == "device":
        uid = pl.Series([f"{types[type_of[i]]}-{i:03d}" for i in range(n)])
    elif cal.facts["cloud_class"] == "kvm":
        uid = pl.Series([f"c{i // 20 + 1:02d}-{i % 20 + 1:02d}.tacc.chameleon" for i in range(n)])
    else:
        uid = uuids(rng, n)
    name = pl.Series([f"{'nc' if cal.site == 'chi_tacc' else 'chi'}{i + 1:03d}" for i in range(n)])
    fleet = Fleet(
        uid=uid,
        name=uid if cal.facts["cloud_class"] != "baremetal" else name,
        types=types,
        type_of=type_of,
        resources=np.array(sizes, dtype=np.int64)[type_of],
        presence=presence,
        pool=pool,
        reenrol_machine=reenrol_machine,
        reenrol_at=reenrol_at,
        wanted=survivor & (last_row < seconds("2018-07-01")),
        maintenance=_maintenance(cal, rng, presence),
        former=np.full(n, -1),
    )
    rebuilt = np.flatnonzero(["becomes" in batches[b] for b in batch])
    if not len(rebuilt):
        return fleet
    day = np.array([seconds(batches[batch[i]]["became"]) for i in rebuilt])
    kind = np.array([types.index(batches[batch[i]]["becomes"]) for i in rebuilt])
    at = day + 15 * HOUR + whole(rng.uniform(0, 6 * HOUR, len(rebuilt)))
    return _rebuild(fleet, rebuilt, at, kind, np.array(sizes, dtype=np.int64)[kind])


def _rebuild(
    fleet: Fleet, rebuilt: Keys, at: Seconds, kind: NDArray[np.int64], size: NDArray[np.int64]
) -> Fleet:
    """Hand over what machines do after they are rebuilt in place to successors of another type."""
    n = len(fleet)
    when = np.full(n, FAR)
    when[rebuilt] = at
    successor = np.arange(n)
    successor[rebuilt] = n + np.arange(len(rebuilt))

    def handed_over(spans: Spans) -> Spans:
        m = spans.machine
        first, last = intersect(spans.start, spans.end, 0, when[m])
        begin, end = intersect(spans.start, spans.end, when[m], FAR + 1)
        before, after = last > first, (end > begin) & (when[m] < FAR)
        return Spans(
            np.r_[m[before], successor[m[after]]],
            np.r_[first[before], begin[after]],
            np.r_[last[before], end[after]],
        )

    everyone = np.r_[np.arange(n), rebuilt]
    late = fleet.reenrol_at > when[fleet.reenrol_machine]
    return replace(
        fleet,
        uid=fleet.uid.gather(everyone),
        name=fleet.name.gather(everyone),
        type_of=np.r_[fleet.type_of, kind],
        resources=np.concatenate([fleet.resources, size]),
        presence=handed_over(fleet.presence),
        pool=handed_over(fleet.pool),
        reenrol_machine=np.where(late, successor[fleet.reenrol_machine], fleet.reenrol_machine),
        wanted=fleet.wanted[everyone],
        maintenance=handed_over(fleet.maintenance),
        former=np.r_[fleet.former, rebuilt],
    )


def _remove_in_stages(cal: Calibration, life: list[str], close: Seconds) -> Seconds:
    """Let the stages of a removal take machines of a batch, the last of the batch first."""
    close = close.copy()
    for name, kept in cal.facts.get("kept", {}).items():
        of_life = np.flatnonzero(np.array(life) == name)
        close[of_life[: cal.profile.count(kept)]] = FAR
    taken: set[int] = set()
    for stage in cal.facts.get("early_removals", []):
        of_life = np.flatnonzero(np.array(life) == stage["life"])
        free = [i for i in of_life[::-1] if i not in taken and close[i] < FAR]
        for i in free[: cal.profile.count(stage["count"], least=0)]:
            close[i] = min(close[i], seconds(stage["at"]))
            taken.add(i)
    return close


def _leave_early(cal: Calibration, life: list[str], pool_to: Seconds) -> Seconds:
    """Some machines leave Blazar's pool long before they leave Nova."""
    pool_to = pool_to.copy()
    for stage in cal.facts.get("left_pool_early", []):
        at = seconds(stage["at"])
        of_life = [i for i, name in enumerate(life) if name == stage["life"] and pool_to[i] > at]
        chosen = np.array(of_life[: cal.profile.count(stage["count"], least=0)], dtype=np.int64)
        pool_to[chosen] = at + 60 * np.arange(len(chosen))
    return pool_to


def _surviving_rows(
    cal: Calibration,
    rng: np.random.Generator,
    pool_from: Seconds,
    pool_to: Seconds,
) -> tuple[NDArray[np.bool_], Seconds]:
    """When each machine got the Blazar row that still exists after 2022-05.

    The levels of `surviving_pool_rows` are met by machines that arrive at that date first, then by
    older ones, which are re-enrolled there. Returns (survives, time of that row or of the first).
    """
    gone = seconds("2022-05-01")
    lives = (pool_from < gone) & (pool_to > gone)
    last_row = pool_from.copy()
    open_ = lives.copy()
    done = 0
    for day, level in sorted(cal.facts.get("surviving_pool_rows", {}).items()):
        at = seconds(day)
        wanted = cal.profile.count(level, least=0) - done
        fresh = np.flatnonzero(open_ & (pool_from <= at + 3 * DAY) & (pool_from > at - 60 * DAY))
        older = np.flatnonzero(open_ & (pool_from <= at - 60 * DAY))
        chosen = np.concatenate([fresh, rng.permutation(older)])[: max(wanted, 0)]
        again = chosen[pool_from[chosen] < at - 60 * DAY]
        last_row[again] = at + whole(rng.uniform(0, 20 * DAY, len(again)))
        open_[chosen] = False
        done += len(chosen)
    late = np.flatnonzero(open_ & (pool_from < seconds("2021-12-01")))
    if "surviving_pool_rows" in cal.facts and len(late):
        last_row[late] = seconds("2021-12-10") + whole(rng.uniform(0, 120 * DAY, len(late)))
    return lives, last_row


def _absences(
    rng: np.random.Generator, presence: Spans, pool: Spans, last_row: Seconds, share: float
) -> tuple[Spans, Spans]:
    """Some machines go away for days or months and come back under the same hostname.

    Takes one presence and one pool life per machine; those of the absent are cut in two.
    """
    machine, start, end = presence.machine, presence.start, presence.end
    pool_from, pool_to = pool.start, pool.end
    n = len(start)
    away = np.full(n, FAR)
    back = np.full(n, FAR)
    length = whole(np.exp(rng.normal(np.log(25 * DAY), 1.0, n)))
    draw = rng.random(n)
    # Either before the row that survives was made, or after removed rows began to leave a trace.
    room = last_row - start
    if share:
        draw[np.argmax(room)] = 0.0  # at least one, however small the site
    early = (draw < share) & (room > 200 * DAY)
    away[early] = (start + whole(room * 0.5))[early]
    traced = seconds("2022-06-01")
    until = np.minimum(pool_to, seconds("2025-11-01"))
    late = ~early & (draw > 1 - 0.15 * share) & (start < traced) & (until > traced + 200 * DAY)
    away[late] = (traced + whole((until - traced) * 0.4))[late]
    gone = away < FAR
    away[gone] += 20 * HOUR
    limit = np.where(early, last_row, until)
    back[gone] = np.minimum(away + np.maximum(length, 2 * DAY), limit - 30 * DAY)[gone]
    gone &= back > away + HOUR
    first_end = np.where(gone, away, end)
    first_pool_end = np.where(gone, away - 2 * HOUR, pool_to)
    again = np.flatnonzero(gone)
    twice = Spans(np.r_[machine, again], np.r_[start, back[again]], np.r_[first_end, end[again]])
    lives = Spans(
        np.r_[machine, again],
        np.r_[pool_from, back[again] + HOUR],
        np.r_[first_pool_end, pool_to[again]],
    )
    keep = lives.end > lives.start
    return twice, Spans(lives.machine[keep], lives.start[keep], lives.end[keep])


def _reenrolments(
    cal: Calibration, rng: np.random.Generator, pool: Spans, last_row: Seconds
) -> tuple[Keys, Seconds]:
    """Plans to re-enrol: the one that made the surviving row, and others of every second year."""
    machine, at = [], []
    stop = np.minimum(pool.end, cal.as_of)
    years = np.maximum(stop - pool.start, 0) / (365 * DAY)
    for piece in np.flatnonzero(years > 0):
        i = pool.machine[piece]
        plans = pool.start[piece] + whole(
            rng.random(rng.poisson(years[piece] * 0.45)) * (stop[piece] - pool.start[piece])
        )
        # After the surviving row was made only rarely: those rows leave a trace.
        kept = plans[(plans < last_row[i]) | (rng.random(len(plans)) < 0.02)]
        kept = kept[(kept < last_row[i]) | (kept > seconds("2022-06-01"))]
        machine += [i] * len(kept)
        at += kept.tolist()
        if pool.start[piece] + DAY < last_row[i] < stop[piece]:
            machine.append(i)
            at.append(int(last_row[i]))
    return np.array(machine, dtype=np.int64), np.array(at, dtype=np.int64)


def _maintenance(cal: Calibration, rng: np.random.Generator, presence: Spans) -> Spans:
    """Maintenance windows that meet the yearly mean level, and the site's outages."""
    machine, start, end = [np.empty(0, np.int64)] * 3
    for year, nodes in sorted(cal.yearly("maintenance_nodes").items()):
        low, high = year_start(year), min(year_start(year + 1), cal.as_of)
        stop = np.minimum(presence.end, cal.as_of)
        there = np.flatnonzero((presence.start < high) & (stop > low))
        if high <= low or not len(there):
            continue
        length = np.exp(rng.normal(np.log(24 * HOUR), 1.35, 5000))
        budget = nodes * (high - low)
        chosen = length[: max(1, int(np.searchsorted(np.cumsum(length), budget)))]
        piece = rng.choice(there, len(chosen))
        begin = np.maximum(presence.start[piece], low) + rng.random(len(chosen)) * (
            np.minimum(stop[piece], high) - np.maximum(presence.start[piece], low)
        )
        first, last = intersect(
            whole(begin), whole(begin + chosen), presence.start[piece], stop[piece]
        )
        machine = np.r_[machine, presence.machine[piece]]
        start, end = np.r_[start, first], np.r_[end, last]
    for outage in cal.facts.get("outages", []):
        low, high = seconds(outage["from"]) + 13 * HOUR, seconds(outage["to"]) + 22 * HOUR
        hit = np.flatnonzero((presence.start < low) & (presence.end > high))
        machine = np.r_[machine, presence.machine[hit]]
        start = np.r_[start, np.full(len(hit), low)]
        end = np.r_[end, np.full(len(hit), high)]
    return Spans(*union(machine, start, end))
