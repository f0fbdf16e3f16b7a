"""Exact interval arithmetic on data frames; it knows no table, no site and no cloud.

An interval is a row with ``start`` and ``end``, half-open [start, end), ``Datetime("us")`` in whole
seconds. All sums here are of integers (units times seconds), so neither row order nor parallelism
can change a digit; dividing is left to the caller.

The examples write intervals as (host, first day, day after the last): ``days`` makes a frame of
them, ``days_of`` reads one.
"""

import functools
from collections.abc import Sequence

import numpy as np
import polars as pl

from chameleon_usage.intervals import cutting, keys, sorting

START, END = pl.col("start"), pl.col("end")
SECONDS = (END - START).dt.total_seconds()
"""Length of an interval in whole seconds (Int64)."""

MIN_TIME = pl.datetime(1, 1, 1, time_unit="us")
MAX_TIME = pl.datetime(9999, 1, 1, time_unit="us")

_BEFORE, _AFTER = -(2**63), 2**63 - 1
"""Before and after every key and time."""


def seconds(intervals: pl.DataFrame) -> int:
    """Sum the lengths of all intervals, in seconds.

    >>> seconds(days(("a", 1, 3), ("b", 2, 3))) / 86400
    3.0
    """
    return int((keys.epoch(intervals["end"]) - keys.epoch(intervals["start"])).sum())


def clip(intervals: pl.DataFrame, start: object, end: object) -> pl.DataFrame:
    """Cut every interval to the window [start, end) and drop what lies outside it.

    >>> days_of(clip(days(("a", 1, 5), ("a", 7, 9)), day(2), day(6)))
    [('a', 2, 5)]
    """
    window_start = pl.lit(start, dtype=pl.Datetime("us"))
    window_end = pl.lit(end, dtype=pl.Datetime("us"))
    return intervals.with_columns(
        start=pl.max_horizontal(START, window_start), end=pl.min_horizontal(END, window_end)
    ).filter(START < END)


def split_overlaps(
    intervals: pl.DataFrame, on: Sequence[str], order: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make the intervals of each key disjoint, without losing a second.

    Each row keeps the part that no row before it (by ``start``, then ``order``) covers; the rest
    of the row is returned as superseded.

    Args:
        intervals: rows with ``start``, ``end`` and the columns of ``on`` and ``order``.
        on: the key within which overlaps are merged (nulls are a key of their own).
        order: the tie-break that makes the result independent of row order.

    Returns:
        (kept, superseded), both with the columns of ``intervals``;
        seconds(kept) + seconds(superseded) == seconds(intervals).

    >>> kept, superseded = split_overlaps(days(("a", 1, 4), ("a", 3, 6)), ["host"], ["end"])
    >>> days_of(kept), days_of(superseded)
    ([('a', 1, 4), ('a', 4, 6)], [('a', 3, 4)])
    """
    clock = keys.Clock.over(intervals)
    number = keys.number(intervals, on, clock.most)
    start, row = sorting.ascending(clock.pack(number, intervals["start"]))
    # Few begin together, and only these need the tie-break, which may be of texts.
    tied = np.zeros(len(start) + 1, np.bool_)
    tied[1:-1] = start[1:] == start[:-1]
    tied = tied[1:] | tied[:-1]
    ties = intervals.select(order)[row[tied]].with_columns(pl.Series("_start", start[tied]))
    row[tied] = row[tied][ties.select(pl.arg_sort_by("_start", *order)).to_series().to_numpy()]
    end = clock.pack(number, intervals["end"])[row]
    covered = np.append(_BEFORE, np.maximum.accumulate(end)[:-1])
    # Few are covered by others, too: all else is left as it is, and where it is.
    some = np.flatnonzero((start < covered) & (start < end))
    of = row[some]
    until = clock.times(np.minimum(end[some], covered[some]), number[of]).alias("end")
    begin = keys.instants(intervals["start"]).copy()
    begin[of] = keys.instants(until)
    left = intervals.with_columns(pl.Series("start", begin).cast(pl.Datetime("us")))
    return cutting.parted(left, START < END)[0], intervals[of].with_columns(until)


def union(intervals: pl.DataFrame, on: Sequence[str], *, tolerance: str = "0s") -> pl.DataFrame:
    """Merge the intervals of each key that overlap, touch, or lie less than ``tolerance`` apart.

    Args:
        intervals: rows with ``start``, ``end`` and the columns of ``on``.
        on: the key.
        tolerance: gaps shorter than this are closed (a Polars duration, as "15m").

    Returns:
        columns ``on``, ``start`` and ``end``, sorted by key and start, disjoint per key.

    >>> days_of(union(days(("a", 1, 4), ("a", 3, 6), ("a", 7, 8)), ["host"]))
    [('a', 1, 6), ('a', 7, 8)]
    >>> days_of(union(days(("a", 1, 4), ("a", 5, 6)), ["host"], tolerance="25h"))
    [('a', 1, 6)]
    """
    if intervals.is_empty():
        return intervals.select(*on, "start", "end")
    gap = max(_seconds(tolerance), 1)  # of less, or of none, two are one
    clock = keys.Clock.over(intervals, room=gap)
    number = keys.number(intervals, on, clock.most)
    start, row = sorting.ascending(clock.pack(number, intervals["start"]))
    end = clock.pack(number, intervals["end"])
    end.view(np.uint64).sort()  # without a sign, faster
    # A run is over where as many have ended as have begun, which the two orders tell side by side.
    over = np.flatnonzero(start[1:] - end[:-1] >= gap)
    first, last = np.append(0, over + 1), np.append(over, len(end) - 1)
    start, end, row = start[first], end[last], row[first]
    of = clock.keys(start)
    return intervals.select(on)[row].with_columns(
        clock.times(start, of).alias("start"), clock.times(end, of).alias("end")
    )


@functools.cache
def _seconds(duration: str) -> int:
    """Give the whole seconds of a Polars duration of fixed length."""
    start = pl.Series([0]).cast(pl.Datetime("us"))
    return int(start.dt.offset_by(duration).dt.epoch("s").item())


def intersect(
    children: pl.DataFrame, parents: pl.DataFrame, on: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cut children at the borders of their parents, joined by key and time.

    A child over several parents is cut, never multiplied: parents of one key must be disjoint.

    Args:
        children: rows with ``start``, ``end`` and the columns of ``on``.
        parents: disjoint intervals per key; their further columns are handed to the pieces.
        on: the key; a null key has no parent.

    Returns:
        (inside, outside): the pieces of the children within a parent, with the parent's further
        columns, and the pieces without one, with the children's columns;
        seconds(inside) + seconds(outside) == seconds(children).

    >>> inside, outside = intersect(days(("a", 1, 9)), days(("a", 2, 4), ("a", 6, 7)), ["host"])
    >>> days_of(inside), days_of(outside)
    ([('a', 2, 4), ('a', 6, 7)], [('a', 1, 2), ('a', 4, 6), ('a', 7, 9)])
    """
    clock = keys.Clock.over(children)
    number, of_parents = keys.number_alike(children, parents, on, clock.most)
    nameless = parents.select(pl.any_horizontal(pl.col(on).is_null())).to_series().to_numpy()
    # Where parents begin and end, in turn: an odd place among these borders is within a parent, an
    # even one in a gap; and so is a key without parents, before them all.
    begin, end = (clock.pack(of_parents, parents[name]) for name in ("start", "end"))
    parent = np.flatnonzero((begin < end) & ~nameless)  # at the time of the children
    begin, order = sorting.ascending(begin[parent])
    parent = parent[order]
    borders = np.stack([begin, end[parent]], axis=1).ravel()
    low, high = (clock.pack(number, children[name]) for name in ("start", "end"))
    # The parts of a child are all those from the one that holds its start to the one that holds
    # its last second: found by their ranks, not by pairing.
    last, first = sorting.ranks(borders, high, low)
    last = np.maximum(first, last)
    del number, low, high  # as long as the children, and not needed any more
    if (first == last).all():
        within = (first & 1).astype(np.bool_)
        inside, outside = cutting.parted(children, pl.Series(within))
        part = first[within]
    else:
        bounds = [keys.instants(parents[name])[parent] for name in ("start", "end")]
        borders = np.stack(bounds, axis=1).ravel()
        cut = [keys.instants(children[name]) for name in ("start", "end")]
        odd, even = cutting.cut(first, last, borders, *cut)
        inside, outside = _pieces(children, odd), _pieces(children, even)
        part = odd.part
    attributes = parents.drop("start", "end", *on)
    if attributes.width:
        inside = inside.hstack(attributes[parent[part // 2]])
    return inside, outside


def _pieces(children: pl.DataFrame, of: cutting.Pieces) -> pl.DataFrame:
    """Give pieces of children the columns of these."""
    times = {"start": of.start, "end": of.end}
    return children[of.row].with_columns(
        pl.Series(name, at).cast(pl.Datetime("us")) for name, at in times.items()
    )


def sum_overlaps(intervals: pl.DataFrame, on: Sequence[str], sums: Sequence[str]) -> pl.DataFrame:
    """Add up overlapping intervals of each key: the step function of their sums.

    Args:
        intervals: rows with ``start``, ``end``, ``on`` and the integer columns of ``sums``.
        on: the key; other columns are dropped, so put attributes of the key into it.
        sums: integer columns to add up while intervals overlap.

    Returns:
        disjoint intervals per key with the sums, sorted; each as long as no sum changes, rows
        where all sums are zero left out.

    >>> slices = days(("a", 1, 4), ("a", 3, 6)).with_columns(vcpus=12)
    >>> sum_overlaps(slices, ["host"], ["vcpus"])["vcpus"].to_list()
    [12, 24, 12]
    """
    if intervals.is_empty():
        return intervals.select(*on, "start", "end", *sums)
    clock = keys.Clock.over(intervals)
    number = keys.number(intervals, on, clock.most)
    at, order = sorting.ascending(
        np.concatenate([clock.pack(number, intervals[bound]) for bound in ("start", "end")])
    )
    ends = order >= intervals.height
    row = np.where(ends, order - intervals.height, order)
    # The steps of a key add up to nothing, so one running sum serves all keys in turn; it counts
    # where the next step is at another time, and starts a row where it differs from the last.
    counts = np.append(at[1:] != at[:-1], True)
    levels = {}
    for name in sums:
        steps = intervals[name].to_numpy()[row]
        np.negative(steps, out=steps, where=ends)
        levels[name] = np.cumsum(steps, out=steps)[counts]
    at, row = at[counts], row[counts]
    of = clock.keys(at)
    differs, some = np.append(True, of[1:] != of[:-1]), np.zeros(len(at), np.bool_)
    for level in levels.values():
        differs[1:] |= level[1:] != level[:-1]
        some |= level != 0
    starts = np.flatnonzero(differs)
    until = np.append(at[starts[1:]], 0)[some[starts]]
    starts = starts[some[starts]]
    of = of[starts]
    return intervals.select(on)[row[starts]].with_columns(
        clock.times(at[starts], of).alias("start"),
        clock.times(until, of).alias("end"),
        *(pl.Series(name, level[starts]) for name, level in levels.items()),
    )


def state_intervals(changes: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """Turn changes of a Boolean state into the intervals in which it holds, within each life.

    Args:
        changes: ``entity_id``, ``timestamp``, ``on``, and ``order``, which decides at one instant.
        lives: ``entity_id``, ``start``, ``end`` (null: still alive); one row per entity.

    Returns:
        ``entity_id``, ``start``, ``end`` (null: still so), disjoint per entity.

    >>> changes = pl.DataFrame(
    ...     {"entity_id": "i", "timestamp": [day(2), day(4)], "on": [True, False], "order": [1, 2]}
    ... )
    >>> days_of(state_intervals(changes, days(("i", 1, 9)).rename({"host": "entity_id"})))
    [('i', 2, 4)]
    """
    numbered = lives.with_row_index("_life")
    within = (
        changes.join(numbered, on="entity_id", how="inner")
        .with_columns(timestamp=pl.max_horizontal("timestamp", "start"))
        .filter(pl.col("end").is_null() | (pl.col("timestamp") < pl.col("end")))
        .select("_life", "timestamp", "order", "on")
        .sort("_life", "timestamp", "order")
    )
    # After one sort a life's changes are neighbours; of those at one instant the last one holds.
    alone = (pl.col("_life") != pl.col("_life").shift(-1)).fill_null(value=True)
    last = alone | (pl.col("timestamp") != pl.col("timestamp").shift(-1))
    first = (pl.col("_life") != pl.col("_life").shift(1)).fill_null(value=True)
    turns = within.filter(last).filter(first | (pl.col("on") != pl.col("on").shift(1)))
    held = turns.with_columns(end=pl.when(~alone).then(pl.col("timestamp").shift(-1))).filter("on")
    life = numbered.select("entity_id", _end="end")[held["_life"]]
    return life.hstack(held.select(start="timestamp", end="end")).select(
        "entity_id", "start", end=pl.coalesce("end", "_end")
    )


def bucket_edges(start: object, end: object, every: str) -> pl.Series:
    """List the borders of the buckets that cover [start, end), both ends included.

    Args:
        start: first border.
        end: last border; the last bucket is shorter where the length does not divide the window.
        every: a Polars duration, as "1h", "1d", "1mo".

    >>> bucket_edges(day(1), day(4), "2d").dt.day().to_list()
    [1, 3, 4]
    """
    edges = pl.datetime_range(start, end, every, time_unit="us", eager=True)  # type: ignore[call-overload]
    last = pl.Series([end], dtype=pl.Datetime("us"))
    if edges.is_empty() or edges[-1] != last[0]:
        edges = pl.concat([edges, last])
    return edges.alias("edge")


def integrate(
    segments: pl.DataFrame,
    edges: pl.Series,
    by: Sequence[str],
    units: Sequence[str],
    *,
    groups: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Integrate step functions over buckets, exactly: the unit-seconds of every group and bucket.

    The sum of each group's steps within a bucket, weighted with the time left in it, gives the
    bucket in which a step happens; a running sum of the steps gives every later one. No sort of
    the intervals, and memory goes with groups times buckets. The sums are scattered by NumPy,
    which adds to a place in an array much faster than a hash table groups.

    Args:
        segments: rows with ``start``, ``end``, ``by`` and the integer columns of ``units``,
            clipped to [edges[0], edges[-1]).
        edges: n + 1 ascending bucket borders.
        by: group columns, at least one.
        units: integer columns to integrate.
        groups: the groups to tell of, in order, each with its ``first`` and ``last`` bucket, which
            hold all its segments. Default: every group that occurs, sorted, all buckets.

    Returns:
        columns ``by``, ``bucket`` (Int64, 0..n-1) and ``units`` in unit-seconds (Int64): the
        buckets of every group in turn.

    >>> held = days(("a", 1, 3), ("a", 2, 3)).with_columns(nodes=1)
    >>> sums = integrate(held, bucket_edges(day(1), day(4), "1d"), ["host"], ["nodes"])
    >>> (sums["nodes"] // 86400).to_list()
    [1, 2, 0]
    """
    count = len(edges) - 1
    if groups is None:
        row, group = keys.groups(segments, by)
        groups = segments.select(by)[row].with_columns(
            first=pl.lit(0, pl.Int64), last=pl.lit(count - 1, pl.Int64)
        )
    else:
        group = keys.find(segments, groups, by)
    first, last = (groups[name].to_numpy() for name in ("first", "last"))
    # Each group has a slot for every bucket. The steps of a group add up to nothing, so one running
    # sum serves all groups in turn.
    slots = last - first + 1
    base = np.cumsum(slots) - slots - first
    size = int(slots.sum())
    borders = keys.epoch(edges)
    steps = []
    for bound, add, second in (("start", np.add, 0), ("end", np.subtract, 1)):
        at = keys.epoch(segments[bound])
        # What ends with a bucket does so in it, where no time is left.
        bucket = keys.last_border(borders, at - second)
        np.clip(bucket, first[group], last[group], out=bucket)
        steps.append((add, base[group] + bucket, borders[bucket + 1] - at))
    of_slot = np.repeat(np.arange(groups.height, dtype=np.uint32), slots)
    bucket = np.arange(size)
    bucket -= np.repeat(base, slots)
    lengths = np.diff(borders)
    sums = {"bucket": bucket}
    for name in units:
        held = segments[name].to_numpy().astype(np.int64, copy=False)  # NumPy adds slowly to others
        filled = np.flatnonzero(held)
        # To pick most of them out takes longer than to add a few zeros.
        some = filled if 2 * len(filled) < len(held) else slice(None)
        # What was held before the bucket, all of it; what changed within, as long as was left.
        before, within = np.zeros(size + 1, np.int64), np.zeros(size, np.int64)
        for add, slot, left in steps:
            add.at(before[1:], slot[some], held[some])
            add.at(within, slot[some], held[some] * left[some])
        np.cumsum(before, out=before)
        for block in sorting.blocks(size):
            within[block] += before[block] * lengths[bucket[block]]
        sums[name] = within
    return groups.select(by)[of_slot].with_columns(
        pl.Series(name, values) for name, values in sums.items()
    )


# --- the law of conservation, asserted in every run: no hour is lost or invented ----------------

REPORT = "the pipeline itself is wrong: please report it with the site's manifest"


class ConservationError(AssertionError):
    """A stage lost or invented rows or hours: a bug, never the user's fault."""


def check_conservation(stage: str, before: pl.DataFrame | int, *after: pl.DataFrame) -> None:
    """Assert that the entity-seconds of a stage are all accounted for.

    Args:
        stage: what is asserted.
        before: intervals that went in, or their seconds.
        after: intervals that came out, as kept or as rejected.

    Raises:
        ConservationError: names the stage, the difference in hours and, where the intervals tell
            it, the tables it lies in.

    >>> inside, outside = intersect(days(("a", 1, 9)), days(("a", 2, 4)), ["host"])
    >>> check_conservation("clamp", days(("a", 1, 9)), inside, outside)
    """
    went_in = before if isinstance(before, int) else seconds(before)
    difference = sum(seconds(frame) for frame in after) - went_in
    if difference:
        raise ConservationError(
            f"stage {stage}: {difference / 3600:+.4f} entity-hours after against before"
            f"{_by_table(before, *after)}; {REPORT}"
        )


def _by_table(before: pl.DataFrame | int, *after: pl.DataFrame) -> str:
    """Name the tables in which hours were lost or invented, if the intervals tell theirs."""
    if isinstance(before, int) or not all("source" in frame.columns for frame in (before, *after)):
        return ""
    signed = [
        frame.select("source", seconds=SECONDS * sign)
        for frame, sign in [(before, -1), *((frame, 1) for frame in after)]
    ]
    sums = pl.concat(signed).group_by("source").agg(pl.col("seconds").sum()).sort("source")
    differences = [f"{name} {value / 3600:+.4f}" for name, value in sums.iter_rows() if value]
    return f" ({', '.join(differences)})" if differences else ""
