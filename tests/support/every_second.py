"""Intervals counted second by second: a plain-Python reading of the arithmetic.

Times are small whole numbers of seconds after a common epoch; keys are letters.
"""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import polars as pl
from hypothesis import settings
from hypothesis import strategies as st

EPOCH = datetime(2020, 1, 1)
LATE = 40
SCHEMA = {
    "key": pl.String,
    "start": pl.Datetime("us"),
    "end": pl.Datetime("us"),
    "row": pl.Int64,
    "units": pl.Int64,
}

quick = settings(max_examples=40, deadline=None)


def at(second: float) -> datetime:
    return EPOCH + timedelta(seconds=second)


def seconds_of(moment: datetime) -> int:
    return int((moment - EPOCH).total_seconds())


def frame(*rows: tuple[str | None, int, int]) -> pl.DataFrame:
    """Rows of key, start, end; ``row`` numbers them, ``units`` is row + 1."""
    return pl.DataFrame(
        [
            {"key": key, "start": at(start), "end": at(end), "row": n, "units": n + 1}
            for n, (key, start, end) in enumerate(rows)
        ],
        schema=SCHEMA,
    )


def plain(intervals: pl.DataFrame) -> list[tuple[str, int, int]]:
    """Key, start and end of every row, sorted."""
    rows = intervals.select("key", "start", "end").iter_rows()
    return sorted((key, seconds_of(start), seconds_of(end)) for key, start, end in rows)


def held(intervals: pl.DataFrame, *columns: str) -> Counter:
    """Count how often each second is held, per value of the columns."""
    count: Counter = Counter()
    for row in intervals.iter_rows(named=True):
        start = max(seconds_of(row["start"]), -LATE)
        end = min(seconds_of(row["end"]), 3 * LATE)
        for second in range(start, end):
            count[*(row[name] for name in columns), second] += 1
    return count


def disjoint(intervals: pl.DataFrame, *columns: str) -> bool:
    return all(times == 1 for times in held(intervals, *columns).values())


@st.composite
def some_intervals(draw, *, keys: str = "ab", most: int = 8) -> pl.DataFrame:
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(keys), st.integers(0, LATE - 1), st.integers(1, LATE)),
            max_size=most,
        )
    )
    return frame(*((key, start, start + length) for key, start, length in rows))


@st.composite
def with_shuffled(draw, **options) -> tuple[pl.DataFrame, pl.DataFrame]:
    intervals = draw(some_intervals(**options))
    order = draw(st.permutations(range(intervals.height)))
    return intervals, intervals[list(order)] if intervals.height else intervals
