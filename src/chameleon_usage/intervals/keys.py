"""Keys and times as single integers: what the interval arithmetic sorts and searches by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from chameleon_usage.intervals.sorting import Numbers, blocks, search

_SECOND = 1_000_000
"""Microseconds."""
_MOST = 2**24
"""More keys than this cannot be packed with any time: ten thousand years have 2**39 seconds."""
_WIDEST = 2**31
"""The widest range of integers that stand for themselves."""


def epoch(times: pl.Series) -> Numbers:
    """Give times in seconds of the epoch; what is less than a second is cut off."""
    return instants(times) // _SECOND


def instants(times: pl.Series) -> Numbers:
    """Give times in microseconds of the epoch, without a copy."""
    return times.to_numpy().view(np.int64)


def times(seconds: Numbers) -> pl.Series:
    """Give the times of seconds of the epoch."""
    return pl.Series(seconds * _SECOND).cast(pl.Datetime("us"))


@dataclass(frozen=True)
class Clock:
    """Packs keys and times into one integer each, which goes by key, then by time.

    So one sort or one search serves all keys in turn. Counted from the first second of the
    intervals at hand, times take few bits, and what has few bits is sorted quickly.

    Attributes:
        first: the first second, of the epoch.
        span: more seconds than lie between it and the last.
    """

    first: int
    span: int

    @classmethod
    def over(cls, intervals: pl.DataFrame, room: int = 0) -> "Clock":
        """Give the clock of the time from the first start to the last end, and ``room`` seconds."""
        first, last = (
            _int(end) // _SECOND
            for end in (
                intervals["start"].cast(pl.Int64).min(),
                intervals["end"].cast(pl.Int64).max(),
            )
        )
        return cls(first, max(last - first, 0) + 1 + room)

    @property
    def most(self) -> int:
        """How many keys can be packed with any of its times."""
        return 2**62 // self.span

    def pack(self, keys: Numbers, moments: pl.Series) -> Numbers:
        """Pack keys and times; a time out of the clock's range counts as the end of it.

        Args:
            keys: below ``most``; a negative one comes before all others.
            moments: from year 1 to year 9999.
        """
        moment = instants(moments)
        packed = np.empty(len(keys), np.int64)
        for block in blocks(len(keys)):
            some = packed[block]
            np.floor_divide(moment[block], _SECOND, out=some)
            some -= self.first
            np.clip(some, 0, self.span - 1, out=some)
            some += keys[block] * self.span
        return packed

    def keys(self, packed: Numbers) -> Numbers:
        """Give the keys of what is packed."""
        return packed // self.span

    def times(self, packed: Numbers, keys: Numbers) -> pl.Series:
        """Give the times of what is packed; the first of all where it belongs to a key before."""
        return times(np.maximum(packed - keys * self.span, 0) + self.first)


def last_border(borders: Numbers, at: Numbers) -> Numbers:
    """Find the last border at or before each moment.

    Args:
        borders: ascending.
        at: in the same unit.

    Returns:
        the border's place, -1 before the first. Borders at equal distances, but for the last, as
        those of days, are found by division, which is much faster than by search.
    """
    steps = np.diff(borders[:-1])
    if not len(steps) or (steps != steps[0]).any():
        return search(borders, at, "right") - 1
    return np.clip((at - borders[0]) // steps[0], -1, len(borders) - 2) + (at >= borders[-1])


def number(frame: pl.DataFrame, on: Sequence[str], most: int | None = None) -> Numbers:
    """Number the keys of a frame in order; a null comes first and is a key of its own.

    Args:
        frame: with the columns of ``on``.
        on: the key.
        most: more than any number may be.

    Raises:
        OverflowError: there are more keys than that.
    """
    codes, size = _codes([frame], on, most := most or _MOST)
    return codes[0] if size <= most else search(_distinct(codes[0], most), codes[0])


def number_alike(
    children: pl.DataFrame, parents: pl.DataFrame, on: Sequence[str], most: int | None = None
) -> tuple[Numbers, Numbers]:
    """Number the keys of parents, and those of their children alike; nulls are keys of their own.

    Returns:
        (numbers of the children, of the parents), one that no parent has for a key of theirs that
        no parent has.

    Raises:
        OverflowError: there are more keys than ``most``.
    """
    (of_children, of_parents), size = _codes([children, parents], on, most := most or _MOST)
    if size > most:
        distinct = _distinct(of_parents, most)
        places = search(distinct, of_children)
        strange = np.append(distinct, -1)[places] != of_children
        return np.where(strange, -1, places), search(distinct, of_parents)
    return of_children, of_parents


def find(children: pl.DataFrame, parents: pl.DataFrame, on: Sequence[str]) -> Numbers:
    """Give for each child the row of the parent that has its key; -1 if none has.

    Args:
        children: with the columns of ``on``; nulls are keys of their own.
        parents: with the columns of ``on``, too.
        on: the key, of one parent each.

    Raises:
        OverflowError: there are more keys than can be packed.
    """
    of_children, of_parents = number_alike(children, parents, on)
    most = max(of_children.max(initial=0), of_parents.max(initial=0))
    rows = np.full(most + 2, -1)  # the last is nobody's, and where a key of -1 looks
    rows[of_parents] = np.arange(parents.height)
    return rows[of_children]


def groups(frame: pl.DataFrame, by: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Group the rows of a frame by key, in order of the keys.

    Returns:
        (a row of each group, the group of each row)
    """
    codes = number(frame, by, _MOST + frame.height)  # each row may have another
    occurs = np.zeros(int(codes.max(initial=0)) + 1, np.bool_)
    occurs[codes] = True
    places = np.cumsum(occurs) - 1
    group = places[codes]
    row = np.empty(int(places[-1]) + 1, np.int64)
    row[group] = np.arange(frame.height)
    return row, group


def _codes(
    frames: Sequence[pl.DataFrame], on: Sequence[str], most: int
) -> tuple[list[Numbers], int]:
    """Number the keys of frames alike, in order; enumerations and categories by their own numbers.

    Returns:
        (the numbers in each frame, more than any of them)
    """
    numbers = [frame.select(pl.col(on).to_physical()) for frame in frames]
    codes, size = _column([frame[on[0]] for frame in numbers])
    for name in on[1:]:
        columns, count = _column([frame[name] for frame in numbers])
        if size * count > most:
            distinct = _distinct(np.concatenate(codes), most)
            codes, size = [search(distinct, code) for code in codes], len(distinct)
        codes = [code * count + column for code, column in zip(codes, columns, strict=True)]
        size *= count
    return codes, size


def _column(columns: Sequence[pl.Series]) -> tuple[list[Numbers], int]:
    """Number the values of columns alike, from 1 on; null is 0."""
    if columns[0].dtype == pl.Boolean:
        columns = [column.cast(pl.UInt8) for column in columns]
    if columns[0].dtype.is_integer():
        some = [column for column in columns if column.len() > column.null_count()]
        least = min((_int(column.min()) for column in some), default=0)
        most = max((_int(column.max()) for column in some), default=0)
        if most - least < _WIDEST:
            return [_from_one(column, least) for column in columns], most - least + 2
    ranks = pl.concat(columns).rank("dense").cast(pl.Int64)
    ends = np.cumsum([column.len() for column in columns])
    return np.split(ranks.fill_null(0).to_numpy(), ends[:-1]), _int(ranks.max()) + 1


def _from_one(column: pl.Series, least: int) -> Numbers:
    """Number integers by their distance to the least of them, which is 1; null is 0."""
    if column.null_count():
        column = column.cast(pl.Int64).fill_null(least - 1)
    return np.subtract(column.to_numpy(), least - 1, dtype=np.int64)


def _int(value: object) -> int:
    """Give a column's least or largest value; 0 where it has none."""
    return value if isinstance(value, int) else 0


def _distinct(codes: Numbers, most: int) -> Numbers:
    distinct = np.unique(codes)
    if len(distinct) > most:
        msg = f"{len(distinct)} keys are more than {most}: split the intervals by key"
        raise OverflowError(msg)
    return distinct
