"""What users ask for: how much, when, for how long, and how far ahead.

Levels follow the yearly means of the real curves with the rhythm of the week, the semester and the
deadlines of conferences; each lease's wishes follow the published figures (calibration `leases`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .clock import DAY, HOUR, MINUTE, Seconds, seconds, whole, year_start
from .fleet import Fleet, Spans
from .ids import source

# Relative activity by weekday (Monday first), UTC hour and month: assumption, shaped after the
# weekly and semester rhythm of the published leases.
WEEKDAY = np.array([1.05, 1.12, 1.12, 1.1, 1.0, 0.78, 0.83])
HOURLY = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.7,
                   1.0, 1.3, 1.6, 1.8, 1.8, 1.7, 1.7, 1.8, 1.8, 1.6, 1.3, 1.0])  # fmt: skip
MONTH = np.array([0.84, 1.02, 1.06, 1.14, 0.96, 0.90, 0.92, 0.90, 1.06, 1.12, 1.12, 0.90])
DEADLINES = ((4, 5), (9, 20), (11, 10))  # month, day: submissions and course projects
DEADLINE_DAYS, DEADLINE_RISE = 8.0, 0.18


@dataclass(frozen=True)
class Level:
    """A level in nodes on an hourly grid."""

    origin: int
    hourly: NDArray[np.float64]

    def at(self, times: Seconds) -> NDArray[np.float64]:
        """The level at each time."""
        index = np.clip((times - self.origin) // HOUR, 0, len(self.hourly) - 1)
        return self.hourly[index]


@dataclass(frozen=True)
class Requests:
    """Leases for nodes as users wish them, ascending by `created`. Durations in seconds."""

    created: Seconds
    robot: NDArray[np.bool_]
    gpu: NDArray[np.bool_]
    advance: NDArray[np.bool_]
    lead: Seconds
    short: Seconds  # how long the nodes are really needed: a short and a long draw,
    long: Seconds  # between which the state of the site decides,
    requested_short: Seconds  # and how long they are asked for
    requested_long: Seconds
    extends: NDArray[np.bool_]  # a long need that is met by extensions
    nodes_short: NDArray[np.int64]
    nodes_long: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.created)


def rhythm(origin: int, hours: int) -> NDArray[np.float64]:
    """Semester and deadline rhythm per hour, with mean 1 in every whole year."""
    days = (origin // DAY + np.arange(hours) // 24).astype("datetime64[D]")
    month = days.astype("datetime64[M]").astype(np.int64) % 12
    # Months melt into one another: interpolate between mid-months.
    in_month = (days - days.astype("datetime64[M]")).astype(np.int64) / 30.4
    other = np.where(in_month < 0.5, (month - 1) % 12, (month + 1) % 12)
    share = np.abs(in_month - 0.5)
    level = MONTH[month] * (1 - share) + MONTH[other] * share
    year = days.astype("datetime64[Y]")
    for mon, day in DEADLINES:
        due = (year.astype("datetime64[M]") + (mon - 1)).astype("datetime64[D]") + (day - 1)
        apart = (days - due).astype(np.int64)
        level += DEADLINE_RISE * np.exp(-0.5 * (apart / DEADLINE_DAYS) ** 2)
    years = year.astype(np.int64)
    for y in np.unique(years):
        level[years == y] /= level[years == y].mean() if (years == y).sum() > 8000 else 1.0
    return level


def target_level(cal: Calibration, quantity: str, capacity: Level | None = None) -> Level:
    """The level to steer to: yearly means, melted into one another, under 86 % of capacity."""
    origin = cal.opened - cal.opened % HOUR
    hours = (cal.as_of - origin) // HOUR + 1
    times = origin + np.arange(hours) * HOUR
    yearly = cal.target(quantity)
    first, last = min(yearly), max(yearly)
    edges = np.array([year_start(y) for y in range(first, last + 2)])
    which = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, last - first)
    level = np.array([yearly[y] for y in range(first, last + 1)])[which]
    smooth = np.convolve(np.pad(level, 720, mode="edge"), np.ones(1441) / 1441, mode="valid")
    level = smooth * rhythm(origin, len(times))
    # Gradual ramp-up after opening.
    level *= np.clip((times - cal.opened) / (60 * DAY), 0.02, 1)
    if capacity is not None:
        level = np.minimum(level, 0.86 * capacity.at(times))
    return Level(origin, level)


def per_hour(cal: Calibration, spans: Spans) -> Level:
    """Number of machines that are in a span, per hour."""
    origin = cal.opened - cal.opened % HOUR
    hours = (cal.as_of - origin) // HOUR + 1
    steps = np.zeros(hours + 1)
    for times, step in ((spans.start, 1), (spans.end, -1)):
        np.add.at(steps, np.clip((times - origin) // HOUR + 1, 0, hours), step)
    return Level(origin, np.cumsum(steps)[:hours])


def arrivals(
    rng: np.random.Generator,
    n: int,
    level: Level,
    start: int,
    end: int,
    *,
    outages: Sequence[tuple[int, int]] = (),
) -> Seconds:
    """`n` ascending arrival times, as dense as the level and as lively as the hour of the week."""
    low = max(0, (start - level.origin) // HOUR)
    high = min(len(level.hourly), (end - level.origin) // HOUR)
    grid = level.origin + np.arange(low, high) * HOUR
    weekday = (grid // DAY + 3) % 7
    density = level.hourly[low:high] * WEEKDAY[weekday] * HOURLY[grid // HOUR % 24]
    for first, last in outages:
        density[(grid >= first) & (grid < last)] = 0
    cumulated = np.cumsum(density)
    position = np.sort(rng.random(n)) * cumulated[-1]
    hour = np.searchsorted(cumulated, position, side="right")
    times = grid[np.minimum(hour, len(grid) - 1)] + rng.integers(0, HOUR, n)
    return np.sort(np.minimum(times, end - 1))


def lognormal_sigma(median: float, p90: float) -> float:
    """Width of the log-normal with this median and 90th percentile."""
    return float(np.log(p90 / median) / 1.2815515655446004)


# What a lease is made for: a short need, or a long one, between which the state of the site decides
# (`scheduler.Controller`); a few long needs go on for weeks, by extension or by a long request.
# Medians in hours and widths of log-normals; chosen so that the published medians and shares
# of `calibration.leases` come out of the whole, for non-GPU (False) and GPU leases (True).
SHORT = {
    False: {"median_h": 2.15, "sigma": 1.8, "day": 0.34, "week": 0.06, "other_median_h": 40.0},
    True: {"median_h": 10.5, "sigma": 1.6, "day": 0.12, "week": 0.11, "other_median_h": 96.0},
}
LONG = {"median_h": 96.0, "sigma": 0.65, "week": 0.62, "other_median_h": 100.0}
ENDLESS = {"share": 0.26, "median_h": 560.0, "sigma": 0.75, "requested_at_once": 0.35}
LAPSE_SHARE = 0.05  # of the short needs nobody gives back: the lease simply ends


def requests(cal: Calibration, fleet: Fleet, level: Level, n: int, seed: int) -> Requests:
    """Draw `n` leases for nodes, robots' among them."""
    rng = source(seed, cal.site, "requests")
    outages = [
        (seconds(x["from"]) + 13 * HOUR, seconds(x["to"]) + 22 * HOUR)
        for x in cal.facts.get("outages", [])
    ]
    robots = round(n * cal.facts["robot_share"])
    robot_from = max(cal.opened, year_start(2016))
    people = arrivals(rng, n - robots, level, cal.opened + DAY, cal.as_of, outages=outages)
    machines = arrivals(rng, robots, level, robot_from, cal.as_of, outages=outages)
    created = np.concatenate([people, machines])
    order = np.argsort(created, kind="stable")
    created, robot = created[order], (np.arange(n) >= n - robots)[order]

    gpu = rng.random(n) < _gpu_share(cal, fleet, created)
    advance = np.zeros(n, dtype=bool)
    lead, short, long_, asked_short, asked_long = (np.zeros(n, dtype=np.int64) for _ in range(5))
    extends = np.zeros(n, dtype=bool)
    for is_gpu in (False, True):
        rows = np.flatnonzero(gpu == is_gpu)
        facts = cal.leases["gpu" if is_gpu else "non_gpu"]
        m = len(rows)
        advance[rows] = rng.random(m) < facts["advance_share"]
        median, p90 = facts["advance_lead_median_h"], facts["advance_lead_p90_h"]
        hours = np.exp(rng.normal(np.log(median), lognormal_sigma(median, p90), m))
        lead[rows] = whole(np.clip(hours, 0.1, 90 * 24) * 60) * MINUTE
        asked_short[rows] = _requested(rng, m, SHORT[is_gpu])
        short[rows] = _lognormal(rng, m, SHORT[is_gpu])
        long_[rows], asked_long[rows], extends[rows] = _long_needs(rng, m)
    gpu &= ~robot
    advance &= ~robot
    asked_short[robot] = DAY
    short[robot] = rng.integers(24, 40, robot.sum())
    lapses = ~robot & (rng.random(n) < LAPSE_SHARE)
    short = np.where(lapses, asked_short + HOUR, short)
    size = cal.facts["lease_size"]
    nodes_short = np.ceil(size * np.exp(rng.normal(-0.2, 0.8, n))).astype(np.int64)
    nodes_long = np.ceil(size * np.exp(rng.normal(1.15, 1.1, n))).astype(np.int64)
    if cal.facts["cloud_class"] == "device":
        nodes_short = nodes_long = 1 + (rng.random(n) < 0.04)
    few = gpu & (rng.random(n) < 0.8)
    nodes_short[few | robot] = 1
    nodes_long[few] = 1
    return Requests(
        created, robot, gpu, advance, lead, np.maximum(short, 20), long_,
        asked_short, asked_long, extends, nodes_short, nodes_long,
    )  # fmt: skip


def _lognormal(rng: np.random.Generator, n: int, shape: dict[str, float]) -> Seconds:
    hours = np.exp(rng.normal(np.log(shape["median_h"]), shape["sigma"], n))
    return whole(np.minimum(hours, 2400) * HOUR)


def _in_minutes(hours: NDArray[np.float64]) -> Seconds:
    """As the dashboard takes it: whole minutes, one less than meant."""
    return np.maximum(whole(hours * 60) - 1, 10) * MINUTE


def _requested(rng: np.random.Generator, n: int, shape: dict[str, float]) -> Seconds:
    """Durations asked for by those with a short need: a day, a week, or something else."""
    kind = rng.random(n)
    hours = np.clip(np.exp(rng.normal(np.log(shape["other_median_h"]), 1.0, n)), 0.5, 168)
    hours[kind < shape["day"]] = 24
    hours[kind > 1 - shape["week"]] = 168
    return _in_minutes(hours)


def _long_needs(rng: np.random.Generator, n: int) -> tuple[Seconds, Seconds, NDArray[np.bool_]]:
    """Long needs, what is asked for at first, and whether the rest comes by extension."""
    need = _lognormal(rng, n, LONG)
    hours = np.clip(np.exp(rng.normal(np.log(LONG["other_median_h"]), 0.6, n)), 12, 168)
    hours[rng.random(n) < LONG["week"]] = 168
    endless = rng.random(n) < ENDLESS["share"]
    at_once = endless & (rng.random(n) < ENDLESS["requested_at_once"])
    need[endless] = np.maximum(_lognormal(rng, int(endless.sum()), ENDLESS), 8 * DAY)
    hours[endless] = 168
    hours[at_once] = need[at_once] / HOUR * rng.uniform(1.0, 1.3, at_once.sum())
    return need, _in_minutes(hours), endless & ~at_once


def _gpu_share(cal: Calibration, fleet: Fleet, times: Seconds) -> NDArray[np.float64]:
    """Share of the requests for a GPU node: by popularity of the nodes then in the pool."""
    facts = [cal.node_types[t] for t in fleet.types]
    weight = np.array([f["popularity"] for f in facts])[fleet.type_of[fleet.pool.machine]]
    is_gpu = fleet.resources[fleet.pool.machine, 3] > 0
    grid = np.arange(cal.opened, cal.as_of + 30 * DAY, 30 * DAY)
    there = (fleet.pool.start[:, None] <= grid) & (fleet.pool.end[:, None] > grid)
    everything = (there * weight[:, None]).sum(0)
    share = (there * (weight * is_gpu)[:, None]).sum(0) / np.maximum(everything, 1e-9)
    return share[np.searchsorted(grid, times, side="right") - 1]
