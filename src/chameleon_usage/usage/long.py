"""Long tables of millions of rows, put together series by series.

A series is what one label has in bucket after bucket: a stretch of a column. Copied one below the
other, series need no join, no filter and no sort.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from chameleon_usage.models.frames import Parts

Label = tuple[int, ...]
Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


ROWS = 122_880
"""About as many rows has a part: as many as Polars writes to a row group."""


@dataclass
class LongTable:
    """A long table in the making.

    Attributes:
        kinds: the columns of the label, enumerations, by which the rows are sorted.
        ever: labels of series that are told though they may be 0 in all that is added.
        series: label, in the numbers of the enumerations, to its times (microseconds) and values.
    """

    kinds: Mapping[str, pl.Enum]
    ever: frozenset[Label] = frozenset()
    series: dict[Label, tuple[Times, Values]] = field(default_factory=dict)

    def code(self, column: str, text: str) -> int:
        """Give the number of a text in the enumeration of a column."""
        return self.kinds[column].categories.to_list().index(text)

    def add(self, label: Label, times: Times, values: Values) -> None:
        """Add a series, in order of time."""
        self.series[label] = times, values

    def add_states(
        self, states: pl.DataFrame, thing: str, names: Mapping[str, int], shared: Label
    ) -> None:
        """Add the columns that are ever other than 0, thing by thing, where they are known.

        Args:
            states: sorted by ``thing`` and ``timestamp``.
            thing: an enumeration, the last of the label.
            names: the columns, and their numbers, which come before the thing's.
            shared: what the labels begin with.
        """
        found = list(stretches(states, thing))
        begins = [rows.start for _, rows in found]
        times = states["timestamp"].to_physical().to_numpy()
        series: dict[Label, tuple[Times, Values]] = {}
        for name, number in names.items():
            if states[name].null_count() == states.height:
                continue
            known = states[name].is_not_null().to_numpy()
            values = states[name].fill_null(0.0).to_numpy()
            ever = np.logical_or.reduceat(values != 0, begins)
            for (of, rows), some_time in zip(found, ever, strict=True):
                if not some_time and (*shared, number, *of) not in self.ever:
                    continue
                some = rows if known[rows].all() else rows.start + np.flatnonzero(known[rows])
                series[*shared, number, *of] = times[some], values[some]
        if series:
            # Copied together, so that the states can go, of which most is 0.
            ends = np.cumsum([len(own) for _, own in series.values()])[:-1]
            copies = np.split(np.concatenate([own for _, own in series.values()]), ends)
            for (label, (when, _)), own in zip(series.items(), copies, strict=True):
                self.add(label, when, own)

    def listed(self) -> pl.DataFrame:
        """List the series in the order of ``parts``: the label, as text, and how many ``rows``."""
        labels = sorted(self.series)
        rows = pl.Series([len(self.series[label][1]) for label in labels], dtype=pl.Int64)
        return self._named(labels).cast(pl.String).with_columns(rows=rows)

    def _named(self, labels: list[Label]) -> pl.DataFrame:
        """Give labels as a frame, in the texts of their enumerations."""
        numbers = np.array(labels, np.uint32).reshape(len(labels), len(self.kinds)).T
        return pl.DataFrame(
            {
                name: enumerated(number, kind)
                for number, (name, kind) in zip(numbers, self.kinds.items(), strict=True)
            }
        )

    def parts(self) -> Parts:
        """Give the table part by part, by label and time, and let the series go.

        Yields:
            the label, ``timestamp`` and ``value``.
        """
        labels = sorted(self.series)
        named = self._named(labels)
        ends = np.cumsum([0, *(len(self.series[label][1]) for label in labels)])
        for begin, end in pairwise(_borders(int(ends[-1]))):
            of = slice(
                np.searchsorted(ends, begin, "right") - 1, np.searchsorted(ends, end, "left")
            )
            lengths = np.diff(np.clip(ends[of.start : of.stop + 1], begin, end))
            rows = slice(begin - int(ends[of.start]), end - int(ends[of.start]))
            here = [self.series[label] for label in labels[of]]
            times = np.concatenate([np.empty(0, np.int64), *(times for times, _ in here)])[rows]
            values = np.concatenate([np.empty(0), *(values for _, values in here)])[rows]
            number = np.repeat(np.arange(of.start, of.start + len(here)), lengths)
            yield named[number].hstack(
                [
                    pl.Series("timestamp", times).cast(pl.Datetime("us", "UTC")),
                    pl.Series("value", values),
                ]
            )
            for label in labels[of][:-1]:
                del self.series[label]
        self.series.clear()


Make = Callable[[LongTable, pl.DataFrame], None]
"""Adds to a table the series that are in sums of ``buckets.unit_seconds``, the bucket of each
series made of what that bucket holds alone."""


class Earlier(Protocol):
    """An earlier run, of whose tables the buckets that are the same can be taken."""

    def fill(self, name: str, table: LongTable, sums: pl.DataFrame, thing: str, make: Make) -> None:
        """Add to a table what ``make`` would add of all the sums; ``thing`` is its last label."""


def _borders(height: int) -> list[int]:
    """Divide rows into parts of the same size, as Polars divides a frame into row groups."""
    least = max(height // ROWS, 1)
    count = min(least, least + 1, key=lambda number: abs(height / number - ROWS))
    sizes = [(height + number) // count for number in reversed(range(count))]
    return [0, *np.cumsum(sizes).tolist()]


def enumerated(numbers: npt.NDArray[np.integer], kind: pl.Enum) -> pl.Series:
    """Give the texts of an enumeration by their numbers."""
    physical = pl.Series([], dtype=kind).to_physical().dtype
    return pl.Series(numbers).cast(physical).cat.to(kind)


def stretches(rows: pl.DataFrame, *things: str) -> Iterator[tuple[Label, slice]]:
    """Find where in a frame, sorted by ``things``, each thing is: its numbers, and the rows."""
    codes = [rows[thing].to_physical().cast(pl.Int64).to_numpy() for thing in things]
    other = np.logical_or.reduce([code[1:] != code[:-1] for code in codes])
    bounds = [0, *(np.flatnonzero(other) + 1).tolist(), rows.height] if rows.height else []
    for begin, end in pairwise(bounds):
        yield tuple(int(code[begin]) for code in codes), slice(begin, end)
