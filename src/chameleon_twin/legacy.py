"""The legacy collector: daily caches per node type, made each morning from the night's backup.

Its habits: node types as they were called then, and types it did not know for months after their
arrival; hosts counted from an inventory that lags; some of the hosts never counted; months in which
it did not note a part of the leases; whole days missing, days cached twice, hours rounded; a node
is in maintenance only while nobody holds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .clock import DAY, HOUR, datetimes, seconds, year_start
from .fleet import FAR
from .intervals import cut, daily_seconds, intersect, union
from .truth import commitments, pool_spans, presence_spans, usage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .intervals import Spans
    from .world import World

    # From when to when which machines are missed.
    Missed = list[tuple[int, int, NDArray[np.bool_]]]

MISSING_SHARE, TWICE_SHARE, SHOUTED_SHARE = 0.012, 0.01, 0.004  # of the days


def caches(world: World) -> dict[str, pl.DataFrame]:
    """chameleon_usage.node_usage_report_cache and node_count_cache."""
    rng, days = world.rng("legacy"), _days(world)
    rows = _every_day(world, rng)
    kept = rng.random(days) >= MISSING_SHARE
    rows = rows.filter(pl.Series(kept).gather(rows["day"]))
    surplus = 1 - world.cal.rows("chameleon_usage.node_usage_report_cache") / max(len(rows), 1)
    if surplus > 0.02:  # whole stretches of days were never cached
        cached = np.ones(days, dtype=bool)
        for at in rng.integers(0, days, max(1, round(surplus * days / 9))):
            cached[at : at + 9] = False
        rows = rows.filter(pl.Series(cached).gather(rows["day"]))
    twice = pl.Series(rng.random(days) < TWICE_SHARE).gather(rows["day"])
    rows = pl.concat([rows, rows.filter(twice)]).sort("date", "node_type")
    return {
        "chameleon_usage.node_usage_report_cache": rows.drop("cnt", "day"),
        "chameleon_usage.node_count_cache": rows.select(
            pl.col("date").dt.date(), "node_type", "cnt"
        ),
    }


def _days(world: World) -> int:
    """Whole days from the opening to the last morning."""
    return (world.cal.as_of - world.cal.opened) // DAY


def _every_day(world: World, rng: np.random.Generator) -> pl.DataFrame:
    """What the collector would write if it never missed a day; `day` counts from the opening."""
    cal, f, days = world.cal, world.fleet, _days(world)
    first = cal.opened - cal.opened % DAY
    seen = _Sight(world, rng)

    # The inventory of the day: new nodes counted a few days late, removed ones a little too long.
    machine, start, end = presence_spans(world)
    lag = rng.integers(0, 9, len(machine)) * DAY
    late = (machine, start + lag, np.where(end < cal.as_of, end + lag // 2, end))
    held = union(*commitments(world)[:3])
    used_spans = union(*usage(world, active=False)["occupied_reservation"][:3])
    unnoted = _unnoted(world)
    count, committed, used, maintenance = (
        daily_seconds(
            f.type_of[m], s, e, groups=len(f.types), first_day=first, days=days
        ) / HOUR
        for m, s, e in map(seen, (late, _without(held, unnoted), _without(used_spans, unnoted),
                                  _unheld_maintenance(world, held)))
    )  # fmt: skip
    count = np.rint(count / 24)
    maintenance = np.minimum(maintenance, count * 24)
    committed = np.minimum(committed, count * 24 - maintenance)
    used = np.minimum(used, committed)
    day, kind = np.nonzero(count)
    when = first + day * DAY
    label = np.array(f.types, dtype=object)[kind]
    for rename in cal.facts["legacy"]["renames"]:  # earlier days go under the name of the time
        if rename["node_type"] in f.types:
            then = (kind == f.types.index(rename["node_type"])) & (when < seconds(rename["until"]))
            label = np.where(then, rename["was"], label)
    odd = rng.random(days) < SHOUTED_SHARE
    label = np.where(odd[day], np.char.upper(label.astype(str)).astype(object), label)
    return pl.DataFrame(
        {
            "date": datetimes(when),
            "node_type": pl.Series(label.tolist(), dtype=pl.String),
            "maint_hours": np.round(maintenance[day, kind], 2),
            "reserved_hours": np.round((committed - used)[day, kind], 2),
            "used_hours": np.round(used[day, kind], 2),
            "idle_hours": np.round((count * 24 - maintenance - committed)[day, kind], 2),
            "total_hours": (count * 24).astype(np.int64)[day, kind],
            "cnt": count.astype(np.int64)[day, kind],
            "day": day,
        }
    )


class _Sight:
    """What the collector can see of machines: known types only, and never the machines it misses.

    Types become known months after they arrived; the missed machines change from year to year.
    """

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        f, legacy = world.fleet, world.cal.facts["legacy"]
        self.known_from = np.full(len(f), world.cal.opened)
        for name, when in legacy["known_from"].items():
            if name in f.types:
                self.known_from[f.type_of == f.types.index(name)] = seconds(when)
        order = rng.permutation(len(f))
        machine, start, end = presence_spans(world)
        self.missed: Missed = []
        for year, nodes in world.cal.yearly_legacy("unknown_nodes").items():
            low, high = year_start(year), year_start(year + 1)
            there = np.zeros(len(f))
            np.add.at(there, machine, np.subtract(*intersect(start, end, low, high)[::-1]))
            share = np.cumsum(there[order]) / (high - low)
            flags = np.zeros(len(f), dtype=bool)
            flags[order[: int(np.searchsorted(share, nodes))]] = True
            self.missed.append((low, high, flags))

    def __call__(self, spans: Spans) -> Spans:
        """Cut intervals of machines to what is seen."""
        m, start, end = spans
        return _without((m, *intersect(start, end, self.known_from[m], FAR)), self.missed)


def _without(spans: Spans, missed: Missed) -> Spans:
    """Cut the missed times out of the missed machines' intervals."""
    m, s, e = spans
    for low, high, flags in missed:
        hit = flags[m]
        before, after = intersect(s, e, 0, low), intersect(s, e, high, FAR)
        m = np.concatenate([m, m[hit]])
        e = np.concatenate([np.where(hit, before[1], e), after[1][hit]])
        s = np.concatenate([np.where(hit, before[0], s), after[0][hit]])
    return m, s, e


def _unnoted(world: World) -> Missed:
    """Machines whose leases the collector did not note for months."""
    rng = world.rng("leases that legacy did not note")
    return [
        (seconds(x["from"]), seconds(x["to"]), rng.random(len(world.fleet)) < x["share"])
        for x in world.cal.facts["legacy"].get("unnoted_leases", [])
    ]


def _unheld_maintenance(world: World, held: Spans) -> Spans:
    """Time in maintenance, or out of Blazar's pool, while nobody holds the node."""
    down = world.fleet.maintenance
    machine, start, end = presence_spans(world)
    pool_m, pool_s, pool_e = pool_spans(world)
    # Each enrolment lies in one presence: the last that began before it.
    span = 1 << 33
    row = np.searchsorted(machine * span + start, pool_m * span + pool_s, side="right") - 1
    o, s, e = cut((np.arange(len(machine)), start, end), (row, pool_s, pool_e))
    window = union(np.r_[down.machine, machine[o]], np.r_[down.start, s], np.r_[down.end, e])
    rows = np.arange(len(window[0]))
    owner, start, end = cut((rows, window[1], window[2]), _overlaps(window, held))
    return window[0][owner], start, end


def _overlaps(windows: Spans, others: Spans) -> Spans:
    """All overlaps of windows with intervals of the same key: (window, start, end).

    Both are sorted and disjoint per key, so that those that overlap a window are neighbours.
    """
    key, start, end = windows
    other, begin, stop = others
    span = 1 << 33
    low = np.searchsorted(other * span + stop, key * span + start, side="right")
    high = np.searchsorted(other * span + begin, key * span + end, side="left")
    count = np.maximum(high - low, 0)
    window = np.repeat(np.arange(len(key)), count)
    nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row = np.repeat(low, count) + nth
    return window, begin[row], stop[row]
