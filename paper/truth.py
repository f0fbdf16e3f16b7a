"""The twin's truth, day by day: the integral of its intervals, with nothing of the pipeline.

Shares no code with what it judges, so that it is evidence and not an echo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PARTS = {
    "occupied": ("occupied_reservation", "occupied_ondemand"),
    "active": ("active_reservation", "active_ondemand"),
}
"""The count types that are the sum of two quantities of the intervals."""

STATES = {"idle": ("committed", "occupied_reservation"), "stopped": ("occupied", "active")}
"""States that are what is left of one count type without another, which lies in it."""


def daily_truth(
    intervals: pl.DataFrame, days: pl.Series, count_types: Sequence[str]
) -> pl.DataFrame:
    """Give the true mean count of each day, or of other buckets of one length.

    Args:
        intervals: `quantity_type`, `start`, `end`, `nodes`: so many were in it from start to end.
        days: their first moments, without a gap, in order; two at least.
        count_types: what to give.

    Returns:
        `timestamp`, `count_type`, `truth`.
    """
    seconds = days.dt.epoch("s").to_numpy()
    edges = np.append(seconds, 2 * seconds[-1] - seconds[-2])

    def mean(kind: str) -> NDArray[np.float64]:
        if kind in STATES:
            whole, part = map(mean, STATES[kind])
            return whole - part
        if kind in PARTS:
            return sum(map(mean, PARTS[kind]), np.zeros(len(days)))
        return daily_means(intervals.filter(pl.col("quantity_type") == kind), edges)

    return pl.concat(
        pl.DataFrame({"timestamp": days, "count_type": kind, "truth": mean(kind)})
        for kind in count_types
    )


def known(data_dir: Path, site: str) -> bool:
    """Whether the truth about a site is among the data."""
    return path(data_dir, site).exists()


def path(data_dir: Path, site: str) -> Path:
    """Say where the intervals of a site's truth are."""
    return data_dir / site / "truth" / "intervals.parquet"


def beside(
    usage: pl.DataFrame, intervals: pl.DataFrame, count_types: Sequence[str]
) -> pl.DataFrame:
    """Add the truth to the usage of a site, as one more collector.

    Args:
        usage: `usage_timeline` of the site.
        intervals: as `daily_truth` takes them.
        count_types: of which to add it.
    """
    days = usage["timestamp"].unique().sort()
    if len(days) < 2:
        return usage
    rows = daily_truth(intervals, days, count_types).select(
        pl.lit(usage["site"][0]).alias("site"),
        "timestamp",
        pl.lit("truth").alias("collector_type"),
        "count_type",
        pl.col("truth").round(9).alias("value"),
    )
    as_text = pl.col("collector_type", "count_type").cast(pl.String)
    return pl.concat([usage.with_columns(as_text), rows.select(usage.columns)])


def daily_means(intervals: pl.DataFrame, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the mean count between each two edges (seconds) of intervals (start, end, nodes)."""
    start, end = (intervals[c].dt.epoch("s").to_numpy() for c in ("start", "end"))
    return means_between(start, end, intervals["nodes"].to_numpy(), edges)


def means_by(
    intervals: pl.DataFrame, by: str, groups: pl.Series, edges: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the mean count of each group between each two edges: a row each, a column for each span.

    Args:
        intervals: `by`, `start`, `end`, `nodes`.
        by: the column of the groups; null stands for "".
        groups: their names, sorted.
        edges: in seconds.
    """
    # One group after the other on a long axis, so that one pass serves all of them.
    length = edges[-1] - edges[0]
    number = groups.search_sorted(intervals[by].fill_null("")).to_numpy().astype(np.int64)
    start, end = (
        np.clip(intervals[c].dt.epoch("s").to_numpy(), edges[0], edges[-1]) + number * length
        for c in ("start", "end")
    )
    behind = length * np.arange(len(groups))[:, None]
    axis = np.append((behind + edges[:-1]).ravel(), edges[0] + length * len(groups))
    means = means_between(start, end, intervals["nodes"].to_numpy(), axis)
    return means.reshape(len(groups), len(edges) - 1)


def means_between(
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    nodes: NDArray[np.float64],
    edges: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Give the mean count between each two edges; all times are seconds."""
    at = np.concatenate([start, end]) - edges[0]
    step = np.concatenate([nodes, -nodes])
    order = np.argsort(at, kind="stable")
    count = np.concatenate([[0.0], np.cumsum(step[order])])
    moment = np.concatenate([[0.0], np.cumsum((step * at)[order])])
    t = edges - edges[0]
    seen = np.searchsorted(at[order], t, side="right")
    means: NDArray[np.float64] = np.diff(t * count[seen] - moment[seen]) / np.diff(t)
    return means


def seconds_held(claims: pl.DataFrame, held: pl.DataFrame) -> NDArray[np.float64]:
    """Give the seconds of each claim in which its host was held, at most as a whole.

    Args:
        claims: `host`, `start`, `end`.
        held: `host`, `start`, `end`, `nodes`; they may overlap.
    """
    if claims.is_empty() or held.is_empty():
        return np.zeros(len(claims))
    hosts = pl.concat([claims["host"], held["host"]]).fill_null("").unique().sort()
    seconds = [of[c].dt.epoch("s").to_numpy() for of in (claims, held) for c in ("start", "end")]
    first = min(int(times.min()) for times in seconds)
    length = max(int(times.max()) for times in seconds) - first + 1

    def axis(of: pl.DataFrame, column: str) -> NDArray[np.int64]:
        number = hosts.search_sorted(of["host"].fill_null("")).to_numpy().astype(np.int64)
        return of[column].dt.epoch("s").to_numpy() - first + number * length

    at = np.concatenate([axis(held, "start"), axis(held, "end")])
    nodes = held["nodes"].to_numpy()
    order = np.argsort(at, kind="stable")
    level = np.cumsum(np.concatenate([nodes, -nodes])[order])
    at = at[order]
    until = np.concatenate([[0.0], np.cumsum(np.minimum(level[:-1], 1.0) * np.diff(at))])
    begin, end = (np.interp(axis(claims, column), at, until) for column in ("start", "end"))
    difference: NDArray[np.float64] = end - begin
    return difference
