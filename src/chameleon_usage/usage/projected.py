"""Projected lead times: how long a request would have had to wait, by what was known then.

At a time T the scheduler knew which nodes were in the pool and which bookings it had made. The wait
for n nodes of a type is the time from T to the first moment at which n of them are free for the
standard duration, as far as the bookings known at T say.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from chameleon_usage.intervals import arithmetic, keys
from chameleon_usage.intervals.sorting import Numbers
from chameleon_usage.models.frames import conform, finish
from chameleon_usage.models.metrics import SCHEDULE
from chameleon_usage.models.outputs import LeadtimeProjected, LeadtimeTimeline
from chameleon_usage.models.site import Site
from chameleon_usage.usage.buckets import Availability, Window
from chameleon_usage.usage.tables import UNTYPED

NODES = (1, 4, 16)
"""How many nodes are asked for at once."""

DURATION = "24h"
"""For how long they are asked for."""

MOST_ROWS = 500_000
"""Hosts and bookings, each once for every day on which it is there, that are looked at together."""

_TOLERANCE_H = 1.0


def leadtime_projected(
    hosts: pl.DataFrame,
    schedule: pl.DataFrame,
    availability: Availability,
    window: Window,
    site: Site,
) -> pl.DataFrame:
    """Make leadtime_projected: the wait at the start of each day, by node type and nodes.

    The wait is computed twice: with each lease booked to its last end, and with leases that must
    have been extended booked as ``as_extended`` says. Where the two differ by more than an hour,
    nobody can tell which of the ends was known, and the value is null. KVM hosts, which are given
    in slices, have no rows. A booking of a host that nobody names keeps no node busy.

    Args:
        hosts: of ``whole_hosts``.
        schedule: models.stages.Schedule.
        availability: without ``SCHEDULE``, what was booked is deleted when it is over, and every
            value is null.
        window: the days to cover, as far as the tables were read by then.
        site: its key, and the longest that a lease may be.

    Returns:
        models.outputs.LeadtimeProjected.
    """
    days = Window(window.start, window.end, "1d").edges[:-1].alias("at")
    days = days.filter(days <= availability.as_of)
    hosts, booked = _numbered(hosts, schedule)
    over = booked.select(_over()).to_series()
    known = pl.lit(SCHEDULE in availability.quantities)
    parts = []
    for first, count in _stretches(booked["known_from"], over, days):
        some = days.slice(first, count)
        begin, end = (pl.lit(day, days.dtype) for day in (some.min(), some.max()))
        told = booked.filter((pl.col("known_from") <= end) & (_over() > begin))
        waits = _waits(hosts, told, some, site)
        parts.append(
            waits.with_columns(
                timestamp=some.gather(waits["moment"]).dt.replace_time_zone("UTC"),
                value=pl.when(known).then("wait"),
            )
        )
    return finish(pl.concat(parts), LeadtimeProjected, site.key)


def _waits(hosts: pl.DataFrame, booked: pl.DataFrame, days: pl.Series, site: Site) -> pl.DataFrame:
    """Give the waits of ``waits_for``, null where the two ways to book extended leases differ."""
    waits = waits_for(booked, hosts, days)
    if not site.longest_lease:
        return waits
    others = waits_for(as_extended(booked, site.longest_lease), hosts, days)["wait"]
    return waits.with_columns(
        wait=pl.when((pl.col("wait") - others).abs() <= _TOLERANCE_H).then("wait")
    )


def _stretches(since: pl.Series, until: pl.Series, moments: pl.Series) -> Iterator[tuple[int, int]]:
    """Divide moments so that few rows are looked at together, but at least one moment.

    Args:
        since: from when rows hold.
        until: until when.
        moments: ascending times; none are one stretch.

    Yields:
        the first of a stretch, and how many it has.
    """
    first, last = _reached(moments, since, until)
    rows = np.cumsum(_held(np.zeros_like(first), first, last, 1, len(moments)))
    begin, before = 0, 0
    while True:
        end = max(int(np.searchsorted(rows, before + MOST_ROWS, "right")), begin + 1)
        yield begin, min(end, len(moments)) - begin
        if end >= len(moments):
            return
        begin, before = end, int(rows[end - 1])


def _numbered(hosts: pl.DataFrame, schedule: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Enumerate hosts and node types in order, and leave out bookings of no such host."""
    names = {
        name: pl.Enum(hosts[name].unique().cast(pl.String).sort())
        for name in ("hostname", "node_type")
    }
    booked = schedule.with_columns(pl.col("hostname").cast(names["hostname"], strict=False))
    return hosts.cast(names), booked.drop_nulls("hostname")  # type: ignore[arg-type]


def with_projected(timeline: pl.DataFrame, projected: pl.DataFrame) -> pl.DataFrame:
    """Add to leadtime_timeline the wait for one node, the median of the node types of each day."""
    rows = (
        projected.filter(pl.col("nodes") == 1)
        .drop_nulls("value")
        .group_by("site", "timestamp")
        .agg(pl.col("value").median())
        .with_columns(leadtime_type=pl.lit("projected"))
    )
    return pl.concat([timeline, conform(rows, LeadtimeTimeline)]).sort(
        LeadtimeTimeline.primary_key()
    )


def whole_hosts(segments: pl.DataFrame) -> pl.DataFrame:
    """Give when each host that is leased as a whole was in the pool: hostname, node_type, bounds.

    Args:
        segments: models.stages.Segments.
    """
    in_pool = (
        (pl.col("collector_type") == "corrected")
        & (pl.col("quantity_type") == "reservable")
        & (pl.col("node_size") == 1)
    )
    return segments.filter(in_pool & pl.col("hostname").is_not_null()).select(
        "hostname", pl.col("node_type").cast(pl.String).fill_null(UNTYPED), "start", "end"
    )


def _over() -> pl.Expr:
    return pl.min_horizontal("known_to", "end")


def as_extended(schedule: pl.DataFrame, longest: str) -> pl.DataFrame:
    """Give the schedule in which leases that must have been extended were so at the last moment.

    A lease longer than any may be when it is made was extended, and its earlier ends are written
    over. Today's row has it booked to its last end from the first; here it has one period of
    ``longest`` after another, and each becomes known when the one before is over. The ends of the
    time lay, most likely, between the two.

    Args:
        schedule: models.stages.Schedule.
        longest: the longest that a lease may be when it is made, a Polars duration.

    Returns:
        Schedule, in which such bookings are several rows, each known for a time.
    """
    period = _duration(longest)
    length = pl.col("end") - pl.col("start")
    extended = pl.col("overwritten") & (length > period)
    periods = (length.dt.total_seconds() - 1) // period.dt.total_seconds() + 1
    in_turn = (
        schedule.filter(extended)
        .with_columns(_period=pl.int_ranges(periods))
        .explode("_period")
        .with_columns(_begin=pl.col("start") + pl.col("_period") * period)
        .with_columns(_over=pl.col("_begin") + period)
        .with_columns(
            known_from=pl.when(pl.col("_period") == 0)
            .then("known_from")
            .otherwise(pl.max_horizontal("known_from", "_begin")),
            known_to=pl.when(pl.col("_over") < pl.col("end"))
            .then(pl.min_horizontal("known_to", "_over"))
            .otherwise("known_to"),
            end=pl.min_horizontal("end", "_over"),
        )
        .filter((pl.col("known_from") < pl.col("known_to")).fill_null(value=True))
    )
    return pl.concat([schedule.filter(~extended), in_turn.select(schedule.columns)])


def _duration(text: str) -> pl.Expr:
    epoch = pl.datetime(1970, 1, 1, time_unit="us")
    return epoch.dt.offset_by(text) - epoch


def waits_for(
    schedule: pl.DataFrame,
    pool: pl.DataFrame,
    moments: pl.Series,
    nodes: Sequence[int] = NODES,
    duration: str = DURATION,
) -> pl.DataFrame:
    """Find how long after each moment n nodes of a type are first free together.

    Args:
        schedule: models.stages.Schedule.
        pool: of ``whole_hosts``, disjoint per host, which is named as in the schedule.
        moments: ascending times.
        nodes: how many nodes are asked for.
        duration: for how long.

    Returns:
        moment (its number), node_type, nodes and ``wait`` (hours), sorted; no row where the pool
        has not as many.
    """
    row, kind = keys.groups(pool, ["node_type"])
    types, grid = pool["node_type"][row], (len(row), len(moments))
    size = _held(kind, *_reached(moments, pool["start"], pool["end"]), *grid)
    known = schedule.select(
        "hostname", start="known_from", end=_over(), _start="start", _end="end"
    ).filter(pl.col("start") < pl.col("end"))
    hosts = pool.select("hostname", "start", "end", _kind=pl.Series(kind))
    booked, _ = arithmetic.intersect(known, hosts, ["hostname"])
    first, last = _reached(moments, booked["start"], booked["end"])
    kind = booked["_kind"].to_numpy()
    # A request cannot start where the booking would begin before its end: so much earlier.
    length = int(pl.select(_duration(duration).dt.total_seconds()).item())
    begin, end = keys.epoch(booked["_start"]) - length + 1, keys.epoch(booked["_end"])
    at = keys.epoch(moments)
    # Where so few are busy at once that the most are free together, nobody waits.
    busy = np.clip(_before(at, begin), first, last)
    free = size - _held(kind, busy, last, *grid)
    short = np.any([(size >= wanted) & (free < wanted) for wanted in nodes], axis=0)
    before = np.append(0, np.cumsum(short))
    base = before[kind * len(moments) + first]
    count = before[kind * len(moments) + last] - base
    row = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - base, count)
    cell = np.flatnonzero(short)[place]
    now = at[cell % len(moments)]
    blocked = booked.select("hostname")[row].with_columns(
        keys.times(np.maximum(begin[row] - now, 0)).alias("start"),
        keys.times(end[row] - now).alias("end"),
        cell=pl.Series(cell),
    )
    waits = _first_free(blocked, size.ravel(), nodes).reshape(len(nodes), *grid)
    enough = np.stack([size >= wanted for wanted in nodes])
    moment, kind, wanted = np.nonzero(enough.transpose(2, 1, 0))
    return pl.DataFrame(
        {
            "moment": moment,
            "node_type": types[kind],
            "nodes": np.array(nodes, np.int64)[wanted],
            "wait": waits[wanted, kind, moment] / 3600,
        }
    )


def _first_free(blocked: pl.DataFrame, size: Numbers, nodes: Sequence[int]) -> Numbers:
    """Find when so many nodes are first free together.

    Args:
        blocked: cell (a node type at a moment), hostname, and since and until when it is not free,
            from the moment on.
        size: how many hosts each cell has.
        nodes: how many are asked for.

    Returns:
        the seconds from the moment on, for each of ``nodes`` and each cell.
    """
    wait = np.zeros((len(nodes), len(size)), np.int64)
    hosts = arithmetic.union(blocked, ["cell", "hostname"]).with_columns(hosts=pl.lit(1, pl.Int64))
    levels = arithmetic.sum_overlaps(hosts, ["cell"], ["hosts"])
    if levels.is_empty():
        return wait
    cell, taken = levels["cell"].to_numpy(), levels["hosts"].to_numpy()
    start, end = keys.epoch(levels["start"]), keys.epoch(levels["end"])
    head = np.append(True, cell[1:] != cell[:-1])
    # From the moment on, one level after another, until one leaves enough free, or there is a gap.
    follows = start == np.where(head, 0, np.append(0, end[:-1]))
    of = np.maximum.accumulate(np.where(head, np.arange(len(head)), 0))
    for found, wanted in zip(wait, nodes, strict=True):
        over = ~(follows & (taken > size[cell] - wanted))
        passed = np.cumsum(over)
        waiting = passed == (passed - over)[of]
        found[cell[waiting]] = end[waiting]
    return wait


def _reached(moments: pl.Series, since: pl.Series, until: pl.Series) -> tuple[Numbers, Numbers]:
    """Give the first moment in each [since, until), and the one after the last."""
    first, last = (_before(keys.epoch(moments), keys.epoch(bound)) for bound in (since, until))
    return first, np.maximum(first, last)


def _before(moments: Numbers, at: Numbers) -> Numbers:
    """Count the moments before each time."""
    return keys.last_border(moments, at - 1) + 1


def _held(kind: Numbers, first: Numbers, last: Numbers, kinds: int, moments: int) -> Numbers:
    """Count the rows of each kind that hold at each moment, from their first to their last."""
    width = moments + 1
    change = np.bincount(kind * width + first, minlength=kinds * width)
    change -= np.bincount(kind * width + last, minlength=kinds * width)
    return np.cumsum(change.reshape(kinds, width), axis=1)[:, :-1]
