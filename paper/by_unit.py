"""How far a count is from the truth host by host, node type by node type and lease by lease.

In the sum of a site a node counted on a wrong host cancels against the one that is missed. Here it
counts twice. Nothing of the pipeline computes these errors, only its segments are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from paper.eras import era_of
from paper.truth import PARTS, means_by, seconds_held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

COUNTS = ("total", "reservable", "committed", "occupied", "active")
READINGS = ("uncorrected", "corrected")
"""The collectors that name hosts; the caches of the time name none."""

BY = {"error_node_type": "node_type", "error_host": "host"}
"""Measure to the column by which it adds up the absolute errors."""

OFF = 0.01
"""A lease of which a larger share is missed is off."""

LEAST = 1e-6
"""Node-days; less truth is the rounding of none."""

COLUMNS = {
    **dict.fromkeys(("era", "collector_type", "count_type", "measure"), pl.String),
    "value": pl.Float64,
}


def as_intervals(segments: pl.DataFrame) -> pl.DataFrame:
    """Give the pipeline's segments the columns of the truth's intervals.

    Args:
        segments: of the pipeline (`models.stages.Segments`).

    Returns:
        `collector_type`, `quantity_type`, `inferred`, `host`, `node_type`, `start`, `end`, `nodes`.
    """
    return segments.select(
        pl.col("collector_type", "quantity_type").cast(pl.String),
        "inferred",
        pl.col("hostname").cast(pl.String).alias("host"),
        pl.col("node_type").cast(pl.String),
        "start",
        "end",
        nodes=pl.col("node_units") / pl.col("node_size"),
    )


def of_quantity(intervals: pl.DataFrame, count: str) -> pl.DataFrame:
    """Give the intervals that make a count type."""
    return intervals.filter(pl.col("quantity_type").is_in(PARTS.get(count, (count,))))


def errors_by(counted: pl.DataFrame, truth: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Add up the absolute errors of node types and of hosts, over the truth.

    Args:
        counted: of `as_intervals`.
        truth: `quantity_type`, `host`, `node_type`, `start`, `end`, `nodes`.
        known: `timestamp`, `collector_type`, `count_type`, `value`: the days to judge, without a
            gap, and null where a count is not published.

    Returns:
        `COLUMNS`; the measures are those of `BY`.
    """
    days = known["timestamp"].unique().sort()
    eras = days.to_frame("day").select(era_of(pl.col("day")))["era"].to_numpy()
    seconds = days.dt.epoch("s").to_numpy()
    edges = np.append(seconds, 2 * seconds[-1] - seconds[-2])

    def measured() -> Iterator[tuple[object, ...]]:
        for count in COUNTS:
            true = of_quantity(truth, count)
            for measure, by in BY.items():
                every = of_quantity(counted, count)
                groups = pl.concat([true[by], every[by]]).fill_null("").unique().sort()
                of_truth = means_by(true, by, groups, edges)
                for (collector,), part in known.filter(count_type=count).group_by("collector_type"):
                    if collector not in READINGS:
                        continue
                    rows = every.filter(collector_type=collector)
                    told = days.is_in(part.drop_nulls("value")["timestamp"].implode()).to_numpy()
                    apart = np.abs(means_by(rows, by, groups, edges) - of_truth).sum(axis=0)
                    for era in np.unique(eras):
                        here = told & (eras == era)
                        if (whole := of_truth[:, here].sum()) > LEAST:
                            yield era, collector, count, measure, apart[here].sum() / whole

    return pl.DataFrame(list(measured()), schema=COLUMNS, orient="row")


def errors_of_leases(
    counted: pl.DataFrame, leases: pl.DataFrame, days: tuple[object, object]
) -> pl.DataFrame:
    """Say how much of each lease a count has on the hosts that the lease really held.

    Args:
        counted: of `as_intervals`; whole nodes.
        leases: of `held_by_leases`.
        days: begin and end of the time to judge.

    Returns:
        `COLUMNS`; `error_lease`: the share of the leases' node-hours that is missed, and
        `leases_off`: the share of the leases that miss more than `OFF` of theirs.
    """
    claims = leases.with_columns(
        pl.col("start", "end").clip(pl.lit(days[0]), pl.lit(days[1]))
    ).filter(pl.col("start") < pl.col("end"))
    length = (pl.col("end") - pl.col("start")).dt.total_seconds()
    found = [
        claims.with_columns(
            length.alias("all"),
            era_of(pl.col("start").min().over("lease_id")),
            collector_type=pl.lit(reading),
            found=seconds_held(
                claims, of_quantity(counted, "committed").filter(collector_type=reading)
            ),
        )
        for reading in READINGS
    ]
    by = ["era", "collector_type"]
    of_leases = pl.concat(found).group_by(*by, "lease_id").agg(pl.col("all", "found").sum())
    missed = 1 - pl.col("found") / pl.col("all")
    return (
        of_leases.sort(*by, "lease_id")
        .group_by(by, maintain_order=True)
        .agg(
            error_lease=1 - pl.col("found").sum() / pl.col("all").sum(),
            leases_off=(missed > OFF).mean(),
        )
        .with_columns(count_type=pl.lit("committed"))
        .unpivot(index=[*by, "count_type"], variable_name="measure")
        .select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
    )


def held_by_leases(knowledge: pl.DataFrame, as_of: object) -> pl.DataFrame:
    """Give when each lease held each host: of what was planned, as long as it was the plan.

    Args:
        knowledge: the twin's: `lease_id`, `host`, `known_from`, `known_to`, `start`, `end`.
        as_of: what held then has its end there.

    Returns:
        `lease_id`, `host`, `start`, `end`.
    """
    return knowledge.select(
        "lease_id",
        "host",
        start=pl.max_horizontal("start", "known_from"),
        end=pl.min_horizontal("end", "known_to", pl.lit(as_of)),
    ).filter(pl.col("start") < pl.col("end"))


def errors_of_inferred(
    counted: pl.DataFrame, truth: pl.DataFrame, eras: pl.DataFrame
) -> pl.DataFrame:
    """Say how much of the corrected count is inferred, and how much of that is not so.

    Args:
        counted: of `as_intervals`.
        truth: `quantity_type`, `host`, `start`, `end`, `nodes`.
        eras: `era`, `since`, `until`.

    Returns:
        `COLUMNS`; `inferred`: the share of the node-hours that is inferred, and `inferred_wrong`:
        the share of these at which the truth has nothing on that host.
    """

    def measured() -> Iterator[tuple[object, ...]]:
        for count in COUNTS:
            rows = of_quantity(counted, count).filter(collector_type="corrected")
            true = of_quantity(truth, count)
            for era, since, until in eras.iter_rows():
                here = rows.with_columns(pl.col("start", "end").clip(since, until)).filter(
                    pl.col("start") < pl.col("end")
                )
                claims = here.filter("inferred")
                hours, of_claims = (_node_seconds(part).sum() for part in (here, claims))
                if of_claims > 0:
                    so = (seconds_held(claims, true) * claims["nodes"].to_numpy()).sum()
                    yield era, "corrected", count, "inferred", of_claims / hours
                    yield era, "corrected", count, "inferred_wrong", 1 - so / of_claims

    return pl.DataFrame(list(measured()), schema=COLUMNS, orient="row")


def _node_seconds(rows: pl.DataFrame) -> NDArray[np.float64]:
    length = (rows["end"] - rows["start"]).dt.total_seconds()
    return (length * rows["nodes"]).to_numpy()
