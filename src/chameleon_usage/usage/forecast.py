"""What is booked ahead, and what is free when: the schedule as it stands when it was read."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.usage.projected import (
    DURATION,
    NODES,
    waits_for,
    whole_hosts,
)

WEEKS = 4
"""How far ahead is told what is booked."""


def forecast(
    segments: pl.DataFrame,
    schedule: pl.DataFrame,
    as_of: datetime,
    *,
    nodes: Sequence[int] = NODES,
    duration: str = DURATION,
) -> dict[str, Any]:
    """Tell when nodes are free, and how many are booked on each day of the coming weeks.

    All bookings end as they are booked: what will be extended or given back, nobody knows.

    Args:
        segments: models.stages.Segments.
        schedule: models.stages.Schedule.
        as_of: when the tables were read: naive UTC.
        nodes: how many nodes are asked for at once.
        duration: for how long, a Polars duration.

    Returns:
        ``as_of``, ``duration``; ``node_types``: for each ``node_type`` the ``pool`` (nodes), and
        ``free``: number of nodes to the first time from which as many are free for the duration,
        None where the pool has fewer; ``booked``: ``node_type``, ``start`` and ``value``, the mean
        number of nodes of the pool that are booked in the 24 hours from then on.
    """
    now = pl.Series("at", [as_of], pl.Datetime("us"))
    # Hosts that are in the pool to this moment are there for all that anybody knows.
    pool = whole_hosts(segments).with_columns(
        end=pl.when(pl.col("end") >= as_of).then(arithmetic.MAX_TIME).otherwise("end")
    )
    pool = pool.filter(pl.col("start") <= as_of, pl.col("end") > as_of)
    known = (pl.col("known_from") <= as_of) & (pl.col("known_to") > as_of).fill_null(value=True)
    planned = schedule.filter(known, pl.col("end") > as_of)
    waits = waits_for(planned, pool, now, nodes, duration)
    sizes = pool.group_by("node_type").agg(pool=pl.col("hostname").n_unique()).sort("node_type")
    return {
        "as_of": f"{as_of:%FT%T}",
        "duration": duration,
        "node_types": [
            {
                "node_type": node_type,
                "pool": size,
                "free": {str(number): _free(waits, node_type, number, as_of) for number in nodes},
            }
            for node_type, size in sizes.iter_rows()
        ],
        "booked": _booked(planned, pool, as_of).to_dicts(),
    }


def _free(waits: pl.DataFrame, node_type: str, nodes: int, as_of: datetime) -> str | None:
    found = waits.filter((pl.col("node_type") == node_type) & (pl.col("nodes") == nodes))
    hours = found["wait"]
    return f"{as_of + timedelta(hours=hours[0]):%FT%T}" if len(hours) else None


def _booked(planned: pl.DataFrame, pool: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Give the mean nodes of each type that are booked day by day: node_type, start, value."""
    end = as_of + timedelta(weeks=WEEKS)
    edges = arithmetic.bucket_edges(as_of, end, "1d")
    held = planned.join(pool.select("hostname", "node_type"), on="hostname")
    held = arithmetic.clip(arithmetic.union(held, ["node_type", "hostname"]), as_of, end)
    held = held.with_columns(nodes=pl.lit(1, pl.Int64))
    seconds = arithmetic.integrate(held, edges, ["node_type"], ["nodes"])
    return seconds.select(
        "node_type",
        start=edges.gather(seconds["bucket"]).dt.strftime("%Y-%m-%dT%H:%M:%S"),
        value=pl.col("nodes") / 86400,
    )
