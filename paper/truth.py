"""The twin's truth, day by day: the integral of its intervals, with nothing of the pipeline.

Shares no code with what it judges, so that it is evidence and not an echo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PARTS = {
    "occupied": ("occupied_reservation", "occupied_ondemand"),
    "active": ("active_reservation", "active_ondemand"),
}
"""The count types that are the sum of two quantities of the intervals."""


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
        return daily_means(intervals.filter(pl.col("quantity_type") == kind), edges)

    return pl.concat(
        pl.DataFrame(
            {
                "timestamp": days,
                "count_type": kind,
                "truth": np.sum([mean(part) for part in PARTS.get(kind, (kind,))], axis=0),
            }
        )
        for kind in count_types
    )


def daily_means(intervals: pl.DataFrame, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the mean count between each two edges (seconds) of intervals (start, end, nodes)."""
    start, end = (intervals[c].dt.epoch("s").to_numpy() - edges[0] for c in ("start", "end"))
    nodes = intervals["nodes"].to_numpy()
    at = np.concatenate([start, end])
    step = np.concatenate([nodes, -nodes])
    order = np.argsort(at, kind="stable")
    count = np.concatenate([[0.0], np.cumsum(step[order])])
    moment = np.concatenate([[0.0], np.cumsum((step * at)[order])])
    t = edges - edges[0]
    seen = np.searchsorted(at[order], t, side="right")
    means: NDArray[np.float64] = np.diff(t * count[seen] - moment[seen]) / np.diff(t)
    return means
