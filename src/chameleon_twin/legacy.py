"""The legacy collector: daily caches per node type, made each morning from the night's backup.

Its habits: node types as they were called then, and types it did not know for months after their
arrival; hosts counted from an inventory that lags; some of the hosts never counted; whole days
missing, days cached twice, hours rounded; a node is in maintenance only while nobody holds it.
"""

import numpy as np
import polars as pl

from .clock import DAY, HOUR, datetimes, seconds, year_start
from .intervals import cut, daily_seconds, intersect, union
from .truth import commitments, pool_spans, presence_spans, usage
from .world import World

MISSING_SHARE, TWICE_SHARE = 0.012, 0.01


def caches(world: World) -> dict[str, pl.DataFrame]:
    """chameleon_usage.node_usage_report_cache and node_count_cache."""
    rng, cal, f = world.rng("legacy"), world.cal, world.fleet
    first = cal.opened - cal.opened % DAY
    days = (cal.as_of - first) // DAY  # the last whole day before the last morning
    names, group = _names(world)
    known_from = np.full(len(f), cal.opened)
    for name, when in cal.facts["legacy"]["known_from"].items():
        if name in f.types:
            known_from[f.type_of == f.types.index(name)] = seconds(when)
    blind = _never_counted(world, rng)

    def hours(machine: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Hours per day and machine type of what the collector can see."""
        low = np.maximum(known_from[machine], 0)
        start, end = intersect(start, end, low, cal.as_of)
        parts = [(machine, start, end)]
        for (year_low, year_high), machines in blind.items():
            cut_parts = []
            for m, s, e in parts:
                inside = machines[m]
                cut_parts += [
                    (m[~inside], s[~inside], e[~inside]),
                    (m[inside], *intersect(s[inside], e[inside], 0, year_low)),
                    (m[inside], *intersect(s[inside], e[inside], year_high, cal.as_of + 1)),
                ]
            parts = cut_parts
        m, s, e = (np.concatenate(c) for c in zip(*parts))
        per_type = daily_seconds(f.type_of[m], s, e, len(f.types), first, days)
        return per_type / HOUR

    # The inventory of the day: new nodes counted a few days late, removed ones a little too long.
    machine, start, end = presence_spans(world)
    lag = rng.integers(0, 9, len(machine)) * DAY
    total = hours(machine, start + lag, np.where(end < cal.as_of, end + lag // 2, end))
    committed_m, committed_s, committed_e, _ = commitments(world)
    held = union(committed_m, committed_s, committed_e)
    committed = hours(*held)
    occupied_m, occupied_s, occupied_e, _ = usage(world, active=False)["occupied_reservation"]
    used = hours(*union(occupied_m, occupied_s, occupied_e))
    maintenance = hours(*_unheld_maintenance(world, held))

    count = np.rint(total / 24)
    maintenance = np.minimum(maintenance, count * 24)
    committed = np.minimum(committed, count * 24 - maintenance)
    used = np.minimum(used, committed)
    shown = count > 0
    # Renamed types: the days before the renaming go under the old name.
    day, kind = np.nonzero(shown)
    when = first + day * DAY
    label = names[0][kind]
    for i, (_, until) in enumerate(group):
        label = np.where((kind == group[i][0]) & (when < until), names[1][i], label)
    odd = rng.random(days) < 0.004  # a day on which the names came in capitals
    label = np.where(odd[day], np.char.upper(label.astype(str)).astype(object), label)
    rows = pl.DataFrame(
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
    kept = np.ones(days, dtype=bool)
    kept[rng.random(days) < MISSING_SHARE] = False
    rows = rows.filter(pl.Series(kept[day]))
    surplus = 1 - world.cal.rows("chameleon_usage.node_usage_report_cache") / max(len(rows), 1)
    if surplus > 0.02:  # whole stretches of days were never cached
        gaps = np.ones(days, dtype=bool)
        for at in rng.integers(0, days, max(1, round(surplus * days / 9))):
            gaps[at : at + 9] = False
        rows = rows.filter(pl.Series(gaps).gather(rows["day"]))
    twice = pl.Series(rng.random(days) < TWICE_SHARE).gather(rows["day"])
    rows = pl.concat([rows, rows.filter(twice)]).sort("date", "node_type")
    usage_cache = rows.drop("cnt", "day")
    count_cache = rows.select(pl.col("date").dt.date(), "node_type", "cnt")
    return {
        "chameleon_usage.node_usage_report_cache": usage_cache,
        "chameleon_usage.node_count_cache": count_cache,
    }


def empty_caches() -> dict[str, pl.DataFrame]:
    """The caches of a site that the legacy collector never served."""
    hours = dict.fromkeys(("maint_hours", "reserved_hours", "used_hours", "idle_hours"), pl.Float64)  # fmt: skip
    return {
        "chameleon_usage.node_usage_report_cache": pl.DataFrame(
            schema={"date": pl.Datetime("us"), "node_type": pl.String, **hours,
                    "total_hours": pl.Int64}
        ),
        "chameleon_usage.node_count_cache": pl.DataFrame(
            schema={"date": pl.Date, "node_type": pl.String, "cnt": pl.Int64}
        ),
    }  # fmt: skip


def _names(world: World) -> tuple[tuple[np.ndarray, list[str]], list[tuple[int, int]]]:
    """Today's type names; older names with (type, until)."""
    types, older, spans = world.fleet.types, [], []
    for rename in world.cal.facts["legacy"]["renames"]:
        if rename["node_type"] in types:
            older.append(rename["was"])
            spans.append((types.index(rename["node_type"]), seconds(rename["until"])))
    return (np.array(types, dtype=object), older), spans


def _never_counted(world: World, rng: np.random.Generator) -> dict[tuple[int, int], np.ndarray]:
    """Per year the machines that the collector's inventory missed."""
    order = rng.permutation(len(world.fleet))
    machine, start, end = presence_spans(world)
    missed = {}
    for year, nodes in world.cal.yearly_legacy("unknown_nodes").items():
        low, high = year_start(year), year_start(year + 1)
        there = np.zeros(len(world.fleet))
        np.add.at(there, machine, np.maximum(np.minimum(end, high) - np.maximum(start, low), 0))
        share = np.cumsum(there[order]) / (high - low)
        flags = np.zeros(len(world.fleet), dtype=bool)
        flags[order[: int(np.searchsorted(share, nodes))]] = True
        missed[(low, high)] = flags
    return missed


def _unheld_maintenance(
    world: World, held: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time in maintenance, or out of Blazar's pool, while nobody holds the node."""
    down = world.fleet.maintenance
    machine, start, end = presence_spans(world)
    pool_m, pool_s, pool_e = pool_spans(world)
    row = _row_of(machine, start, end, pool_m, pool_s)
    o, s, e = cut(np.arange(len(machine)), start, end, row, pool_s, pool_e)
    away = (machine[o], s, e)
    out = union(*(np.concatenate(c) for c in zip((down.machine, down.start, down.end), away)))
    # Take the held stretches out, one window at a time per machine.
    m, s, e = out
    pieces = _overlaps(m, s, e, *held)
    o, s2, e2 = cut(np.arange(len(m)), s, e, *pieces)
    return m[o], s2, e2


def _row_of(
    machine: np.ndarray, start: np.ndarray, end: np.ndarray, ask: np.ndarray, when: np.ndarray
) -> np.ndarray:
    order = np.lexsort((start, machine))
    span = 1 << 33
    code = machine[order] * span + start[order]
    return order[np.searchsorted(code, ask * span + when, side="right") - 1]


def _overlaps(
    key: np.ndarray, start: np.ndarray, end: np.ndarray,
    other: np.ndarray, begin: np.ndarray, stop: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """All overlaps of windows with intervals of the same key: (window, start, end)."""
    windows = pl.DataFrame({"k": key, "s": start, "e": end, "w": np.arange(len(key))})
    others = pl.DataFrame({"k": other, "b": begin, "x": stop})
    span = 1 << 33
    # Both are disjoint per key and sorted: the overlapping ones are neighbours.
    code = (others["k"] * span + others["x"]).to_numpy()
    low = np.searchsorted(code, key * span + start, side="right")
    code = (others["k"] * span + others["b"]).to_numpy()
    high = np.searchsorted(code, key * span + end, side="left")
    count = np.maximum(high - low, 0)
    window = np.repeat(windows["w"].to_numpy(), count)
    row = np.repeat(low, count) + np.arange(count.sum()) - np.repeat(
        np.cumsum(count) - count, count
    )  # fmt: skip
    return window, begin[row], stop[row]
