"""Keys and times as single integers: what the interval arithmetic sorts and searches by."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_SECOND = 1_000_000
"""Microseconds."""
_YEAR_ONE = -62_135_596_800
"""The first moment that counts, in seconds of the epoch."""
_SPAN = 2**39
"""More seconds than ten thousand years have."""
_MOST = 2**63 // _SPAN
_WIDEST = 2**31
"""The widest range of integers that stand for themselves."""


def epoch(times: pl.Series) -> Numbers:
    """Give times in seconds of the epoch; what is less than a second is cut off."""
    return times.to_numpy().view(np.int64) // _SECOND


def times(seconds: Numbers) -> pl.Series:
    """Give the times of seconds of the epoch."""
    return pl.Series((seconds * _SECOND).view("datetime64[us]"))


def pack(keys: Numbers, moments: pl.Series) -> Numbers:
    """Order by key, then by time, in one integer.

    So one sort, one search or one running maximum serves all keys in turn.

    Args:
        keys: below 2**24; a negative one comes before all others.
        moments: from year 1 to year 9999.
    """
    return keys * _SPAN + (epoch(moments) - _YEAR_ONE)


def unpack(packed: Numbers, keys: Numbers) -> pl.Series:
    """Give the time of a packed key and time; that of year 1 where it belongs to a key before."""
    return times(np.maximum(packed - keys * _SPAN, 0) + _YEAR_ONE)


def ascending(values: Numbers) -> Numbers:
    """Give the places of the values in ascending order."""
    return pl.Series(values).arg_sort().cast(pl.Int64).to_numpy()


def search(ordered: Numbers, values: Numbers, side: Literal["left", "right"] = "left") -> Numbers:
    """Find where in an ordered array each value belongs."""
    found = pl.Series(ordered).search_sorted(pl.Series(values), side=side)
    return found.cast(pl.Int64).to_numpy()


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


def begins(keys: Numbers) -> Flags:
    """Tell where in an ordered array another key begins."""
    first = np.ones(len(keys), np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    return first


def number(frame: pl.DataFrame, on: Sequence[str]) -> Numbers:
    """Number the keys of a frame in order; a null comes first and is a key of its own.

    Raises:
        OverflowError: there are more keys than can be packed.
    """
    codes, size = _codes([frame], on)
    return codes[0] if size <= _MOST else search(_distinct(codes[0]), codes[0])


def number_alike(
    children: pl.DataFrame, parents: pl.DataFrame, on: Sequence[str]
) -> tuple[Numbers, Numbers]:
    """Number the keys of parents, and those of their children alike; nulls are keys of their own.

    Returns:
        (numbers of the children, of the parents), one that no parent has for a key of theirs that
        no parent has.

    Raises:
        OverflowError: there are more keys than can be packed.
    """
    (of_children, of_parents), size = _codes([children, parents], on)
    if size > _MOST:
        distinct = _distinct(of_parents)
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


def _codes(frames: Sequence[pl.DataFrame], on: Sequence[str]) -> tuple[list[Numbers], int]:
    """Number the keys of frames alike, in order; enumerations and categories by their own numbers.

    Returns:
        (the numbers in each frame, more than any of them)
    """
    numbers = [frame.select(pl.col(on).to_physical()) for frame in frames]
    codes, size = [np.zeros(frame.height, np.int64) for frame in frames], 1
    for name in on:
        columns, count = _column([frame[name] for frame in numbers])
        if size > 1 and size * count > _MOST:
            distinct = _distinct(np.concatenate(codes))
            codes, size = [search(distinct, code) for code in codes], len(distinct)
        codes = [code * count + column for code, column in zip(codes, columns, strict=True)]
        size *= count
    return codes, size


def _column(columns: Sequence[pl.Series]) -> tuple[list[Numbers], int]:
    """Number the values of columns alike, from 1 on; null is 0."""
    whole = pl.concat(columns)
    if whole.dtype.is_integer() and _int(whole.max()) - _int(whole.min()) < _WIDEST:
        ranks = whole.cast(pl.Int64) - (_int(whole.min()) - 1)
    else:
        ranks = whole.rank("dense").cast(pl.Int64)
    ends = np.cumsum([column.len() for column in columns])
    return np.split(ranks.fill_null(0).to_numpy(), ends[:-1]), _int(ranks.max()) + 1


def _int(value: object) -> int:
    """Give a column's least or largest value; 0 where it has none."""
    return value if isinstance(value, int) else 0


def _distinct(codes: Numbers) -> Numbers:
    distinct = pl.Series(codes).unique().sort().to_numpy()
    if len(distinct) > _MOST:
        msg = f"{len(distinct)} keys are more than {_MOST}: split the intervals by key"
        raise OverflowError(msg)
    return distinct
