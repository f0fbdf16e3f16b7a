"""Which buckets a change touches, and tables of which only these are made anew.

Every row of a table by bucket is made of what its bucket holds alone, but for this: which series
there are depends on all buckets. So it is seen to that they are the same; if not, or if much is
touched, the tables are made in full.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
import polars.selectors as cs

from chameleon_usage.intervals import arithmetic, keys
from chameleon_usage.intervals.sorting import Flags, Numbers
from chameleon_usage.usage.buckets import Window, quantities, unit_seconds

MOST = 0.5
"""The share of the buckets above which nothing is gained."""
BETWEEN = 30
"""Buckets between two that are touched which are made anew with them."""


def differing(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Give the rows that are in one of two frames of the same columns and not in the other.

    Returns:
        the rows, texts as categories, and ``sign``: how many times more the second frame has it.
    """
    if before.equals(now):
        return now.clear().with_columns(sign=pl.lit(0, pl.Int64))
    signed = [
        frame.with_columns(cs.string().cast(pl.Categorical), sign=pl.lit(sign, pl.Int64))
        for frame, sign in ((before, -1), (now, 1))
    ]
    sums = pl.concat(signed).group_by(now.columns).agg(pl.col("sign").sum())
    return sums.filter(pl.col("sign") != 0)


def differs_when(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Give the times (``start``, ``end``) at which two frames of intervals tell of other things."""
    rows = differing(before, now)
    # What began at one time in both and ends at two differs between these.
    return arithmetic.sum_overlaps(rows, rows.drop("start", "end", "sign").columns, ["sign"])


@dataclass(frozen=True)
class Touched:
    """The buckets of a window that are made anew.

    Attributes:
        window: the time that is covered.
        runs: of buckets, first and last, in order.
    """

    window: Window
    runs: Sequence[tuple[int, int]]

    @classmethod
    def by(cls, spans: Iterable[pl.DataFrame], window: Window) -> "Touched":
        """Find the buckets that spans (``start``, ``end``) touch."""
        borders = keys.epoch(window.edges)
        steps = np.zeros(len(borders) + 1, np.int64)
        for frame in spans:
            inside = arithmetic.clip(frame.select("start", "end"), window.start, window.end)
            first = keys.last_border(borders, keys.epoch(inside["start"]))
            last = keys.last_border(borders, keys.epoch(inside["end"]) - 1)
            np.add.at(steps, first, 1)
            np.add.at(steps, last + 1, -1)
        some = np.flatnonzero(np.cumsum(steps)[:-2])
        if not len(some):
            return cls(window, [])
        breaks = np.flatnonzero(np.diff(some) > BETWEEN)
        bounds = [0, *(breaks + 1), len(some)]
        return cls(window, [(int(some[a]), int(some[b - 1])) for a, b in pairwise(bounds)])

    @property
    def count(self) -> int:
        """How many buckets."""
        return sum(last - first + 1 for first, last in self.runs)

    @property
    def few(self) -> bool:
        """Whether it is worth while to make only these anew."""
        return self.count <= MOST * (len(self.window.edges) - 1)

    def windows(self) -> Iterator[Window]:
        """Give each run as a window."""
        edges = self.window.edges
        for first, last in self.runs:
            yield Window(edges[first], edges[last + 1], self.window.bucket)

    def cut(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Cut intervals to each run in turn."""
        for run in self.windows():
            some = rows.filter((pl.col("start") < run.end) & (pl.col("end") > run.start))
            yield arithmetic.clip(some, run.start, run.end)

    def has(self, at: Numbers) -> Flags:
        """Tell of each time, in seconds of the epoch, whether it is in one of them."""
        within = np.zeros(len(at), np.bool_)
        for run in self.windows():
            start, end = keys.epoch(pl.Series([run.start, run.end]))
            within |= (at >= start) & (at < end)
        return within


def sums_of(
    segments: pl.DataFrame, touched: Touched, by: Sequence[str], resources: Sequence[str]
) -> pl.DataFrame:
    """Integrate segments as ``buckets.unit_seconds`` does, over some buckets alone.

    Returns:
        the same columns, whatever those buckets lack.
    """
    window = touched.window
    inside = (pl.col("start") < window.end) & (pl.col("end") > window.start)
    every = segments.filter(inside)["quantity_type"].unique().sort().cast(pl.String)
    parts = [
        unit_seconds(rows, window, by, resources)
        for rows in [*touched.cut(segments), segments.clear()]
    ]
    sums = pl.concat(parts, how="diagonal")
    # What one stretch of buckets has and another has not is none there.
    return sums.with_columns(pl.col(quantities(sums)).fill_null(0)).with_columns(
        pl.lit(0, pl.Int64).alias(name) for name in every if name not in sums.columns
    )


def spliced(
    before: pl.DataFrame, now: pl.DataFrame, touched: Touched, order: Sequence[str]
) -> pl.DataFrame:
    """Put the rows of touched buckets in the place of those of an earlier table.

    Args:
        before: the earlier table.
        now: another, of which the rows of touched buckets are right.
        touched: the buckets.
        order: the columns by which both are in order, no two rows alike; one of them the time.
    """
    time = next(name for name in ("timestamp", "time") if name in order)
    number = [keys.epoch(frame[time]) for frame in (before, now)]
    stays = np.flatnonzero(~touched.has(number[0]))
    fresh = np.flatnonzero(touched.has(number[1]))
    if time == order[0]:
        rows = pl.concat([before[stays], now[fresh]], rechunk=True)
        return rows[_merged(number[0][stays], number[1][fresh])]
    label = [name for name in order if name != time]
    series = [runs_of(frame, label) for frame in (before, now)]
    labels = pl.concat(series).select(label)
    rank = _ranks(labels)
    of = [
        np.repeat(own << _BITS, runs["rows"])
        for own, runs in zip(np.split(rank, [series[0].height]), series, strict=True)
    ]
    after = np.concatenate([(number[0] + of[0])[stays], (number[1] + of[1])[fresh]])
    places = _merged(after)
    told = pl.concat([before.drop(label)[stays], now.drop(label)[fresh]], rechunk=True)[places]
    distinct, first = np.unique(rank, return_index=True)
    bounds = np.searchsorted(after[places], np.append(distinct, _LAST) << _BITS)
    names = labels[first][np.repeat(np.arange(len(first)), np.diff(bounds))]
    return told.hstack(names).select(now.columns)


def _merged(*parts: Numbers) -> Numbers:
    """Sort numbers of a few stretches that are in order each: at once, by this kind of sort."""
    return np.argsort(np.concatenate(parts), kind="stable")


_BITS, _LAST = 40, 2**22
"""Seconds of the epoch have fewer bits; a label has a lower number."""


def _ranks(labels: pl.DataFrame) -> Numbers:
    """Number labels in order, texts by their letters."""
    texts = [name for name, kind in labels.schema.items() if kind == pl.String]
    kinds = {name: pl.Enum(labels[name].unique().sort()) for name in texts}
    return keys.number(labels.cast(kinds), labels.columns)  # type: ignore[arg-type]


def runs_of(table: pl.DataFrame, label: Sequence[str]) -> pl.DataFrame:
    """List the series of a table whose rows stand together: label, ``first`` row, and ``rows``."""
    other = pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in label)
    first = table.select(other.fill_null(value=True).arg_true().cast(pl.Int64).alias("first"))
    rows = pl.col("first").shift(-1, fill_value=table.height) - pl.col("first")
    return table.select(label)[first["first"]].hstack(first.with_columns(rows=rows))


def series_of(table: pl.DataFrame, label: Sequence[str]) -> pl.DataFrame:
    """List the series of a table of ``runs_of``: label, and whether it is ever other than 0."""
    runs = runs_of(table, label)
    some = (table["value"] != 0).to_numpy()
    first = runs["first"].to_numpy()
    ever = np.logical_or.reduceat(some, first) if len(first) else np.zeros(0, np.bool_)
    return runs.select(label).with_columns(pl.Series("ever", ever, pl.Boolean))
