"""Tables that figures draw and findings read: usage by part and by site, what was rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.models.metrics import KNOWN_SHARE, PARTITION, USE, USE_IS_KNOWN, names_in
from chameleon_usage.models.vocabulary import COLLECTOR_STAGES, SUPERSEDED
from chameleon_usage.viz.base import PARTS, as_text, coarsen

if TYPE_CHECKING:
    from collections.abc import Sequence


SLACK = 1e-6
"""Sums of floating-point means closer than this are equal."""

ALL = "all"
"""What stands in the column `site` for the sum of the sites."""

QUANTITIES = ("total", *USE, "unknown")
"""What `cross_site_table` tells of a site, in nodes."""

UNCORRECTED = [
    stage for stage, (collector, _) in COLLECTOR_STAGES.items() if collector == "uncorrected"
]


def partition_table(
    usage: pl.DataFrame,
    *,
    every: str,
    by: Sequence[str] = (),
    collector: str = "corrected",
    sparse: bool = False,
) -> pl.DataFrame:
    """Lay the parts that make up the total side by side.

    Args:
        usage: `usage_timeline` rows of one site, or any table like it.
        every: bucket to average over (see `coarsen`).
        by: further columns that name a group.
        collector: whose count to take.
        sparse: the table leaves out the parts that a group never has (`usage_by_node_type`).

    Returns:
        `by`, `timestamp`, `total` and one column per part of `PARTS`, in nodes (or the unit of
        the table). Where nobody knows what became of leased nodes, they are `leased` and the
        parts of which they consist are 0. A day counts only where the total and all its parts
        are known, so that the parts add up (one that nobody tells is 0 where the others make the
        total); a bucket with too few such days is null. The days before there was anything
        are left out, and the first bucket begins with the first day of a group.
    """
    names = ["total", "committed", *PARTITION]
    used = ["active", "stopped", "idle"]
    rest = [name for name in ("total", *PARTITION) if name not in used]
    wide = (
        as_text(usage)
        .filter(pl.col("collector_type") == collector, pl.col("count_type").is_in(names))
        .pivot(on="count_type", on_columns=names, index=[*by, "timestamp"], values="value")
        .sort(*by, "timestamp")
    )
    if sparse:
        any_told = pl.any_horizontal(pl.col(used).is_not_null())
        wide = wide.with_columns(
            pl.col(*rest[1:], "committed").fill_null(0.0),
            *(pl.when(any_told).then(pl.col(name).fill_null(0.0)).alias(name) for name in used),
        )
    told = pl.all_horizontal(pl.col(used).is_not_null())
    held = pl.when(told).then(pl.sum_horizontal(used)).otherwise("committed")
    adds_up = (pl.sum_horizontal(rest[1:]) + held - pl.col("total")).abs() <= SLACK
    known = (
        pl.col("total").is_not_null()
        & held.is_not_null()
        & (pl.all_horizontal(pl.col(rest).is_not_null()) | adds_up)
    )
    daily = wide.select(
        *by,
        "timestamp",
        *(pl.when(known).then(pl.col(name).fill_null(0.0)).alias(name) for name in rest),
        *(pl.when(known & told).then(name).when(known).then(0.0).alias(name) for name in used),
        pl.when(known & told).then(0.0).when(known).then("committed").alias("leased"),
    ).filter(((pl.col("total") > 0) | pl.col("total").is_null()).cum_max().over(by or pl.lit(0)))
    return (
        daily.group_by(*by, bucket=pl.col("timestamp").dt.truncate(every), maintain_order=True)
        .agg(
            pl.col("timestamp").first(),
            *(
                pl.when(pl.col("total").is_not_null().mean() >= KNOWN_SHARE)
                .then(pl.col(name).mean())
                .round(3)
                .alias(name)
                for name in ("total", *PARTS)
            ),
        )
        # A bucket that began before the first day starts with it; all others at their beginning.
        .with_columns(
            pl.when(pl.col("bucket") == pl.col("bucket").first().over(by or pl.lit(0)))
            .then("timestamp")
            .otherwise("bucket")
            .alias("timestamp")
        )
        .drop("bucket")
    )


def cross_site_table(
    usage: pl.DataFrame, *, every: str, collector: str = "corrected"
) -> pl.DataFrame:
    """Give used and available nodes per site, and of all sites together.

    Args:
        usage: `usage_timeline` of all sites.
        every: bucket to average over (see `coarsen`).
        collector: whose count to take.

    Returns:
        `site`, `timestamp`, `days` of the bucket on which the site was there, `total`, `used`,
        `leased`, `available` as the metric registry's `USE` says, and the nodes of `unknown` state;
        null where they are unknown.
        Means over the days from the site's first known node on. The site `all` is the sum of each
        day over the sites that are there by then, null where one of them is not known.
    """
    wide = (
        as_text(usage)
        .filter(pl.col("collector_type") == collector)
        .pivot(
            on="count_type",
            on_columns=sorted(names_in(USE_IS_KNOWN, *USE.values(), "unknown")),
            index=["site", "timestamp"],
            values="value",
        )
        .join(_every_bucket(usage), on=["site", "timestamp"], how="right")
        .sort("site", "timestamp")
        .filter((pl.col("total") > 0).fill_null(value=False).cum_max().over("site"))
    )
    known = pl.sql_expr(USE_IS_KNOWN)
    daily = wide.select(
        "site",
        "timestamp",
        "total",
        *(pl.when(known).then(pl.sql_expr(of)).alias(part) for part, of in USE.items()),
        pl.when(known).then(pl.col("unknown").fill_null(0)).alias("unknown"),
    )
    summed = daily.group_by("timestamp").agg(
        pl.lit(ALL).alias("site"),
        *(
            pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sort_by("site").sum())
            for name in QUANTITIES
        ),
    )
    daily = pl.concat([daily, summed.select(daily.columns)])
    days = daily.group_by("site", pl.col("timestamp").dt.truncate(every)).len("days")
    return (
        coarsen(
            daily.unpivot(index=["site", "timestamp"], variable_name="quantity"),
            every,
            by=["site", "quantity"],
        )
        .pivot(on="quantity", on_columns=QUANTITIES, index=["site", "timestamp"], values="value")
        .join(days.cast({"days": pl.Int64}), on=["site", "timestamp"])
        .select("site", "timestamp", "days", *QUANTITIES)
        .sort("site", "timestamp")
    )


def _every_bucket(usage: pl.DataFrame) -> pl.DataFrame:
    """Pair each site with each time of all: a site that was read earlier is unknown later."""
    usage = as_text(usage)
    return usage.select("site").unique().join(usage.select("timestamp").unique(), how="cross")


def rejected(audit: pl.DataFrame) -> pl.DataFrame:
    """Add up what the corrected count rejected.

    Args:
        audit: `rejects` of one site.

    Returns:
        `stage`, `source`, `reason`, `superseded` (another source was believed for these hours),
        `rows`, `hours`, the most hours first. An hour can be rejected once for each quantity, so
        hours of different stages do not add up. What only the uncorrected count rejects is left
        out.
    """
    return (
        as_text(audit)
        .filter(~pl.col("stage").is_in(UNCORRECTED))
        .group_by("stage", "source", "reason")
        .agg(pl.len().alias("rows"), pl.col("hours").sum().round(1))
        .with_columns(pl.col("reason").is_in(SUPERSEDED).alias("superseded"))
        .select("stage", "source", "reason", "superseded", "rows", "hours")
        .sort("hours", "stage", "reason", "source", descending=[True, False, False, False])
    )
