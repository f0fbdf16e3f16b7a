"""Two other ways to the same integral: SQL in DuckDB, and staircase's step functions."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC; the SQL is the tests' own
# Imported where they are used, since pandas and staircase take a second in every process of pytest.
from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import polars as pl
import pytest

from chameleon_usage.cli import cli
from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.metrics import MEASURED, RESOURCES
from support.sites import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

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


def engine_sums(
    intervals: pl.DataFrame, bucket: str, end: datetime = END
) -> tuple[pl.Series, pl.DataFrame]:
    edges = arithmetic.bucket_edges(START, end, bucket)
    clipped = arithmetic.clip(intervals, START, end)
    return edges, arithmetic.integrate(clipped, edges, ["key"], ["units"])


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


# Staircase takes its time for each bucket: three weeks of hours, the turn of the year in them.
@pytest.mark.parametrize(
    ("bucket", "end"),
    [
        ("1h", datetime(2020, 1, 10)),
        pytest.param("1h", END, marks=pytest.mark.slow),
        ("1d", END),
        ("1mo", END),
    ],
)
def test_staircase_finds_the_same_means(bucket, end):
    import pandas as pd
    import staircase as sc

    intervals = random_intervals(3, count=150).filter(pl.col("key") == "a")
    edges, ours = engine_sums(intervals, bucket, end)
    # Always clip first: staircase would else average over the whole of time.
    clipped = arithmetic.clip(intervals, START, end)
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


# --- the same three ways over a small twin ------------------------------------------------------

TWINS = ("chi_tacc", "kvm_tacc", "chi_edge")
UNITS = {"nodes": "node_units"} | {name: name for name in RESOURCES if name != "nodes"}


@pytest.fixture(scope="module")
def twin(tmp_path_factory, decayed_twin) -> Path:
    """Outputs and saved stages of the tiny twin."""
    folder = tmp_path_factory.mktemp("twin")
    sites = [part for site in TWINS for part in ("--site", site)]
    config = ["--config", str(PROJECT / "data" / "sites.yaml"), "--data-dir", str(decayed_twin)]
    run = ["run", *config, "--output", str(folder / "out"), "--save-stages", *sites]
    run += ["--start", "2016-01-01", "--end", "2026-01-01"]
    cli(run, standalone_mode=False)
    return folder / "out"


def published(twin: Path, site: str, resource: str) -> dict[tuple[str, str, datetime], float]:
    """Known values of usage_by_resource that are measured, by collector, quantity and day."""
    rows = pl.read_parquet(twin / site / "usage_by_resource.parquet").filter(
        (pl.col("resource") == resource)
        & (pl.col("collector_type") != "legacy")
        & pl.col("count_type").cast(pl.String).is_in(MEASURED)
        & pl.col("value").is_not_null()
    )
    return {
        (collector, count, stamp.replace(tzinfo=None)): value
        for collector, count, stamp, value in rows.select(
            "collector_type", "count_type", "timestamp", "value"
        ).iter_rows()
    }


def segments_of(twin: Path, site: str) -> Path:
    return twin / site / "stages" / "segments" / "segments.parquet"


@pytest.mark.slow
@pytest.mark.parametrize("site", TWINS)
def test_sql_over_the_saved_segments_of_a_twin_gives_the_published_means(twin, site):
    compared = 0
    for resource, unit in UNITS.items():
        share = f"{unit} / node_size::DOUBLE" if resource == "nodes" else unit
        theirs = duckdb.sql(f"""
            SELECT collector_type, quantity_type, day,
                   sum({share} * epoch(least("end", day + INTERVAL 1 DAY)
                                       - greatest(start, day))) / 86400
            FROM '{segments_of(twin, site)}',
                 unnest(generate_series(date_trunc('day', start),
                                        "end" - INTERVAL 1 SECOND, INTERVAL 1 DAY)) AS days(day)
            GROUP BY ALL
        """).fetchall()
        means = {(collector, name, day): value for collector, name, day, value in theirs}
        ours = published(twin, site, resource)
        compared += len(ours)
        expected = [means.get(key) or 0.0 for key in ours]
        np.testing.assert_allclose(list(ours.values()), expected, rtol=1e-9, atol=1e-12)
    assert compared > 50_000


@pytest.mark.slow
@pytest.mark.parametrize("site", TWINS)
def test_staircase_over_the_saved_segments_of_a_twin_gives_the_published_means(twin, site):
    import pandas as pd
    import staircase as sc

    segments = pl.read_parquet(segments_of(twin, site))
    first, days = datetime(2021, 3, 1), 40
    periods = pd.IntervalIndex.from_breaks(
        pd.date_range(first, periods=days + 1, freq="D"), closed="left"
    )
    compared = 0
    for resource in ("nodes", "vcpus"):
        ours = published(twin, site, resource)
        for collector, quantity in sorted({key[:2] for key in ours}):
            held = arithmetic.clip(
                segments.filter(collector_type=collector, quantity_type=quantity),
                first,
                first + timedelta(days=days),
            )
            size = held["node_size"] if resource == "nodes" else pl.lit(1)
            step = sc.Stairs(
                start=pd.to_datetime(held["start"].to_list()),
                end=pd.to_datetime(held["end"].to_list()),
                value=held.select(pl.col(UNITS[resource]).fill_null(0) / size).to_series(),
            )
            means = (
                step.slice(periods).mean().to_numpy(dtype=float) if held.height else [0.0] * days
            )
            for period, mean in zip(periods, means, strict=True):
                value = ours.get((collector, quantity, period.left.to_pydatetime()))
                if value is not None:
                    assert value == pytest.approx(mean, rel=1e-9, abs=1e-9), (quantity, period)
                    compared += 1
    assert compared >= 10 * days
