"""Half-open integer intervals, grouped by a key, as numpy columns."""

import numpy as np
from numpy.typing import NDArray

from .clock import DAY, Seconds

Keys = NDArray[np.int64]
Spans = tuple[Keys, Seconds, Seconds]  # key, start, end


def union(key: Keys, start: Seconds, end: Seconds, gap: int = 0) -> Spans:
    """Merge what overlaps, touches, or lies less than `gap` seconds apart within a key."""
    keep = end > start
    key, start, end = key[keep], start[keep], end[keep]
    if not len(key):
        return key, start, end
    order = np.lexsort((start, key))
    key, start, end = key[order], start[order], end[order]
    # A running maximum of the ends per key: keys are ascending, so an offset per key that exceeds
    # every time keeps one key's ends from reaching into the next.
    low, span = int(start.min()), int(end.max() - start.min()) + gap + 2
    rank = np.cumsum(np.r_[0, key[1:] != key[:-1]])
    reach = np.maximum.accumulate(end - low + rank * span)
    first = np.r_[True, (start - low + rank * span)[1:] > reach[:-1] + max(gap - 1, 0)]
    first |= np.r_[True, key[1:] != key[:-1]]
    last = np.r_[np.flatnonzero(first)[1:] - 1, len(key) - 1]
    return key[first], start[first], reach[last] - rank[last] * span + low


def intersect(
    start: Seconds, end: Seconds, low: Seconds | int, high: Seconds | int
) -> tuple[Seconds, Seconds]:
    """Clip each interval to its own bounds; what lies outside becomes empty."""
    first = np.maximum(start, low)
    return first, np.maximum(np.minimum(end, high), first)


def cut(spans: Spans, holes: Spans) -> Spans:
    """Take the holes out of their owners' intervals.

    The keys of `spans` must be 0..n-1 ascending, one interval each; the holes of an owner must not
    overlap. Returns owner, start, end of the pieces.
    """
    owner, start, end = spans
    hole_owner, hole, fill = holes
    order = np.lexsort((hole, hole_owner))
    hole_owner, hole, fill = hole_owner[order], hole[order], fill[order]
    low, high = start[hole_owner], end[hole_owner]
    hole, fill = np.clip(hole, low, high), np.clip(fill, low, high)
    owners = np.concatenate([owner, hole_owner])
    begins = np.concatenate([start, fill])
    order = np.lexsort((begins, np.r_[np.zeros(len(owner)), np.ones(len(hole))], owners))
    owners, begins = owners[order], begins[order]
    ends = np.concatenate([hole, end])
    order = np.lexsort(
        (ends, np.r_[np.zeros(len(hole)), np.ones(len(owner))], np.r_[hole_owner, owner])
    )
    ends = ends[order]
    keep = ends > begins
    return owners[keep], begins[keep], ends[keep]


def staircase(
    key: Keys, start: Seconds, end: Seconds, weights: NDArray[np.int64]
) -> tuple[Keys, Seconds, Seconds, NDArray[np.int64]]:
    """Piecewise-constant sums per key: weights is (rows, columns); where all are 0 no piece."""
    keep = end > start
    key, start, end, weights = key[keep], start[keep], end[keep], weights[keep]
    keys = np.concatenate([key, key])
    times = np.concatenate([start, end])
    deltas = np.concatenate([weights, -weights])
    order = np.lexsort((times, keys))
    keys, times = keys[order], times[order]
    level = np.cumsum(deltas[order], axis=0)
    if not len(keys):
        return key, start, end, weights
    last = np.r_[(keys[1:] != keys[:-1]) | (times[1:] != times[:-1]), True]
    keys, times, level = keys[last], times[last], level[last]
    until = np.r_[times[1:], times[-1:]]
    on = (level != 0).any(axis=1)
    keys, times, until, level = keys[on], times[on], until[on], level[on]
    # Neighbours of equal level are one piece.
    same = np.r_[
        False,
        (keys[1:] == keys[:-1]) & (times[1:] == until[:-1]) & (level[1:] == level[:-1]).all(axis=1),
    ]
    first = np.flatnonzero(~same)
    ends = np.r_[first[1:] - 1, len(keys) - 1] if len(first) else first
    return keys[first], times[first], until[ends], level[first]


def daily_seconds(
    group: Keys, start: Seconds, end: Seconds, *, groups: int, first_day: int, days: int
) -> NDArray[np.float64]:
    """Seconds covered per (day, group): shape (days, groups). `first_day` is a midnight."""
    start, end = intersect(start, end, first_day, first_day + days * DAY)
    keep = end > start
    group, start, end = group[keep], start[keep] - first_day, end[keep] - first_day
    first, last = start // DAY, (end - 1) // DAY
    # Steps in the number of whole days covered, corrected by the parts missing at both ends.
    edge = np.zeros((days + 1, groups))
    np.add.at(edge, (first, group), DAY)
    np.add.at(edge, (last + 1, group), -DAY)
    total = np.cumsum(edge, axis=0)[:-1]
    np.add.at(total, (first, group), -(start - first * DAY).astype(float))
    np.add.at(total, (last, group), -((last + 1) * DAY - end).astype(float))
    return total
