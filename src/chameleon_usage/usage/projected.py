"""Projected lead times: how long a request would have had to wait, by what was known then.

At a time T the scheduler knew which nodes were in the pool and which bookings it had made. The wait
for n nodes of a type is the time from T to the first moment at which n of them are free for the
standard duration, as far as the bookings known at T say.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from chameleon_usage.intervals import arithmetic, keys
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

MOST_ROWS = 2_000_000
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
    spans = [(hosts["start"], hosts["end"]), (booked["known_from"], over)]
    parts = []
    for first, count in _stretches(spans, days):
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
    pool = pool_at(hosts, days)
    waits = waits_for(planned_at(booked, days), pool, days)
    if not site.longest_lease:
        return waits
    extended = planned_at(as_extended(booked, site.longest_lease), days)
    others = waits_for(extended, pool, days)["wait"]
    return waits.with_columns(
        wait=pl.when((pl.col("wait") - others).abs() <= _TOLERANCE_H).then("wait")
    )


def _stretches(
    spans: Sequence[tuple[pl.Series, pl.Series]], moments: pl.Series
) -> Iterator[tuple[int, int]]:
    """Divide moments so that few rows are looked at together, but at least one moment.

    Args:
        spans: since and until when rows hold.
        moments: ascending times; none are one stretch.

    Yields:
        the first of a stretch, and how many it has.
    """
    change = np.zeros(len(moments) + 1, np.int64)
    for bounds in spans:
        first, last = (moments.search_sorted(bound, "left").to_numpy() for bound in bounds)
        some = first < last
        change += np.bincount(first[some], minlength=len(change))
        change -= np.bincount(last[some], minlength=len(change))
    rows = np.cumsum(np.cumsum(change)[:-1])
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


def planned_at(schedule: pl.DataFrame, moments: pl.Series) -> pl.DataFrame:
    """Give what of the schedule was known at each moment, and not over then.

    Args:
        schedule: models.stages.Schedule.
        moments: ascending times.

    Returns:
        the schedule's rows with ``moment``, the number of the moment; one row each per moment.
    """
    over = schedule.select(_over()).to_series()
    return _at(schedule, schedule["known_from"], over, moments)


def _over() -> pl.Expr:
    return pl.min_horizontal("known_to", "end")


def pool_at(pool: pl.DataFrame, moments: pl.Series) -> pl.DataFrame:
    """Give the hosts that were in the pool at each moment: the pool's columns and ``moment``."""
    return _at(pool, pool["start"], pool["end"], moments)


def _at(rows: pl.DataFrame, since: pl.Series, until: pl.Series, moments: pl.Series) -> pl.DataFrame:
    first, last = (moments.search_sorted(bound, "left").to_numpy() for bound in (since, until))
    count = np.maximum(last.astype(np.int64) - first, 0)
    row = np.repeat(np.arange(rows.height), count)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + first[row]
    return rows[row].with_columns(pl.Series("moment", number, pl.Int64))


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
    planned: pl.DataFrame,
    pool: pl.DataFrame,
    moments: pl.Series,
    nodes: Sequence[int] = NODES,
    duration: str = DURATION,
) -> pl.DataFrame:
    """Find how long after each moment n nodes of a type are first free together.

    Args:
        planned: of ``planned_at``, with ``hostname``.
        pool: of ``pool_at``: moment, hostname, node_type; a host once at a moment.
        moments: those times.
        nodes: how many nodes are asked for.
        duration: for how long.

    Returns:
        moment, node_type, nodes and ``wait`` (hours); no row where the pool has not as many.
    """
    index, host = ["moment", "node_type"], ["moment", "hostname"]
    of_size, group = keys.groups(pool, index)
    sizes = pool.select(index)[of_size].with_columns(size=np.bincount(group))
    row = keys.find(planned.select(host), pool, host)
    planned, row = planned.select(*host, "start", "end")[np.flatnonzero(row >= 0)], row[row >= 0]
    of = pl.DataFrame({"moment": range(len(moments)), "at": moments})
    # A request cannot start where the booking would begin before its end: so much earlier.
    busy = planned.with_columns(
        pool["node_type"][row], at=moments.gather(planned["moment"])
    ).with_columns(
        start=pl.max_horizontal(
            "at", pl.col("start") - _duration(duration) + pl.duration(seconds=1)
        )
    )
    # Where so few are busy at once that the most are free together, nobody waits.
    at_once = busy.filter(pl.col("start") == pl.col("at")).group_by(index).agg(taken=pl.len())
    free = pl.col("size") - pl.col("taken")
    short = at_once.join(sizes, on=index).filter(
        pl.any_horizontal((pl.col("size") >= wanted) & (free < wanted) for wanted in nodes)
    )
    busy = busy.join(short, on=index, how="semi")
    blocked = arithmetic.union(busy, [*index, "hostname"]).with_columns(hosts=pl.lit(1, pl.Int64))
    levels = arithmetic.sum_overlaps(blocked, index, ["hosts"]).join(sizes, on=index)
    found = []
    for wanted in nodes:
        short = levels.filter(pl.col("hosts") > pl.col("size") - wanted)
        first = (
            arithmetic.union(short, index)
            .join(of, on="moment")
            .filter(pl.col("start") == pl.col("at"))
            .select(*index, wait=(pl.col("end") - pl.col("at")).dt.total_seconds() / 3600)
        )
        asked = sizes.filter(pl.col("size") >= wanted).select(
            *index, nodes=pl.lit(wanted, pl.Int64)
        )
        found.append(
            asked.join(first, on=index, how="left").with_columns(pl.col("wait").fill_null(0.0))
        )
    return pl.concat(found).sort(*index, "nodes")
