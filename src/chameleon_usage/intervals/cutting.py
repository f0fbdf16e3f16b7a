"""Rows parted in two, and children cut into pieces at the borders between parts of time."""

import numpy as np
import polars as pl

from chameleon_usage.intervals.sorting import Counts, Flags, Numbers, blocks

_CHILDREN = 2**14
"""Of so many, all that is made of them on the way stays in the processor's cache."""


def parted(rows: pl.DataFrame, which: pl.Expr | pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the rows of which something is true, and all others; without a copy if these are none.

    Args:
        rows: any.
        which: is true of a row, or not; null counts as false.
    """
    flags = rows.select(which.fill_null(value=False).alias("")).to_series()
    if flags.all():
        return rows, rows.clear()
    if not flags.any():
        return rows.clear(), rows
    return rows.filter(flags), rows.filter(~flags)


class Pieces:
    """Pieces of children, block by block.

    Attributes:
        row: of the child of each.
        part: the number of its part of time.
        start: its start.
        end: its end.
    """

    def __init__(self, most: int) -> None:
        """Make room for so many; memory that is never written to is never taken."""
        self.row, self.part = np.empty(most, np.uint32), np.empty(most, np.uint32)
        self.start, self.end = np.empty(most, np.int64), np.empty(most, np.int64)
        self._count = 0

    def add(self, flags: Flags, row: Numbers, part: Numbers, start: Numbers, end: Numbers) -> None:
        """Add those of a block that are flagged."""
        some = np.flatnonzero(flags)
        to = slice(self._count, self._count + len(some))
        self.row[to], self.part[to] = row[some], part[some]
        self.start[to], self.end[to] = start[some], end[some]
        self._count = to.stop

    def close(self) -> "Pieces":
        """Give up the room that is left."""
        self.row, self.part = self.row[: self._count], self.part[: self._count]
        self.start, self.end = self.start[: self._count], self.end[: self._count]
        return self


def cut(
    first: Counts, last: Counts, borders: Numbers, start: Numbers, end: Numbers
) -> tuple[Pieces, Pieces]:
    """Cut children at borders: one piece for every part that a child reaches into.

    Args:
        first: the part in which each child begins; part n ends with border n.
        last: the part in which it ends, not before the first.
        borders: their times.
        start: of each child.
        end: of each child.

    Returns:
        (the pieces in odd parts, those in even ones), in the order of the children, then of time;
        none between two borders at one time.
    """
    count = len(first) + int((last - first).sum(dtype=np.int64))
    odd = int(((last + 1) // 2 - first // 2).sum(dtype=np.int64))
    in_odd, in_even = Pieces(odd), Pieces(count - odd)
    for block in blocks(len(first), _CHILDREN):
        # The pieces of a child lie side by side; each but its first begins at a border.
        opening, closing = first[block], last[block]
        closes = np.cumsum(closing - opening + np.uint32(1), dtype=np.int64) - 1
        opens = np.append(0, closes[:-1] + 1)
        inner = np.ones(closes[-1] + 1, np.bool_)
        inner[opens] = False
        row = np.cumsum(~inner)
        row += block.start - 1
        part = np.ones(len(row), np.int64)
        part[opens] = opening
        part[opens[1:]] -= closing[:-1]
        np.cumsum(part, out=part)
        inside = np.flatnonzero(inner)
        border = borders[part[inside] - 1]
        begin, over = np.empty(len(row), np.int64), np.empty(len(row), np.int64)
        begin[opens], begin[inside] = start[block], border
        over[closes], over[inside - 1] = end[block], border
        is_odd = (part & 1).astype(np.bool_)
        in_odd.add(is_odd, row, part, begin, over)
        is_odd[inside] |= border == over[inside]  # of no time
        in_even.add(~is_odd, row, part, begin, over)
    return in_odd.close(), in_even.close()
