"""Two other ways to the same integral: SQL in DuckDB, and staircase's step functions."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

from datetime import datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import staircase as sc

from chameleon_usage.core import engine

START, END = datetime(2019, 12, 20), datetime(2020, 4, 3)
BUCKETS = ("1h", "1d", "1mo")


def random_intervals(seed: int, count: int = 400) -> pl.DataFrame:
    """Intervals of three groups in whole seconds; some reach over the window's ends."""
    random = np.random.default_rng(seed)
    length = int((END - START).total_seconds())
    starts = random.integers(-length // 4, length, count)
    lengths = random.choice([1, 59, 3_600, 86_400, 10**6, 5 * 10**6], count) * random.integers(
        1, 4, count
    )
    return pl.DataFrame(
        {
            "key": random.choice(["a", "b", "c"], count),
            "start": [START + timedelta(seconds=int(s)) for s in starts],
            "end": [
                START + timedelta(seconds=int(s + n)) for s, n in zip(starts, lengths, strict=True)
            ],
            "units": random.integers(1, 50, count),
        },
        schema_overrides={"start": pl.Datetime("us"), "end": pl.Datetime("us")},
    )


def engine_sums(intervals: pl.DataFrame, bucket: str) -> tuple[pl.Series, pl.DataFrame]:
    edges = engine.bucket_edges(START, END, bucket)
    clipped = engine.clip(intervals, START, END)
    return edges, engine.integrate(clipped, edges, ["key"], ["units"])


@pytest.mark.parametrize("bucket", BUCKETS)
@pytest.mark.parametrize("seed", [1, 2])
def test_duckdb_finds_the_same_integrals(bucket, seed):
    intervals = random_intervals(seed)
    edges, ours = engine_sums(intervals, bucket)
    buckets = pl.DataFrame(
        {"bucket": range(len(edges) - 1), "lower": edges[:-1], "upper": edges[1:]}
    )
    with duckdb.connect() as connection:
        connection.register("intervals", intervals)
        connection.register("buckets", buckets)
        theirs = connection.sql("""
            SELECT key, bucket, coalesce(sum(units * greatest(0, epoch(
                least("end", upper)) - epoch(greatest("start", lower)))), 0) AS units
            FROM (SELECT DISTINCT key FROM intervals) CROSS JOIN buckets
            LEFT JOIN intervals USING (key)
            GROUP BY key, bucket ORDER BY key, bucket
        """).pl()
    assert ours["key"].to_list() == theirs["key"].to_list()
    assert ours["bucket"].to_list() == theirs["bucket"].to_list()
    np.testing.assert_allclose(ours["units"], theirs["units"], rtol=1e-9)


@pytest.mark.parametrize("bucket", BUCKETS)
def test_staircase_finds_the_same_means(bucket):
    intervals = random_intervals(3, count=150).filter(pl.col("key") == "a")
    edges, ours = engine_sums(intervals, bucket)
    # Always clip first: staircase would else average over the whole of time.
    clipped = engine.clip(intervals, START, END)
    step = sc.Stairs(
        start=pd.to_datetime(clipped["start"].to_list()),
        end=pd.to_datetime(clipped["end"].to_list()),
        value=clipped["units"].to_list(),
    )
    breaks = pd.DatetimeIndex(edges.to_list())
    periods = pd.IntervalIndex.from_breaks(breaks, closed="left")
    theirs = step.slice(periods).mean().to_numpy(dtype=float)
    lengths = edges.diff().drop_nulls().dt.total_seconds().to_numpy()
    np.testing.assert_allclose(ours["units"].to_numpy() / lengths, theirs, rtol=1e-9, atol=1e-12)
