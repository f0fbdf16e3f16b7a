"""The published machine events and leases, and what our tables say of the same.

All is read from the aggregates of `data/real`, which `data/real/recipe.py` makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.viz.base import as_text, coarsen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MONTHLY = ("total", "committed")
FILES, CACHES = "real, published files", "real, caches (yearly mean)"
"""Two real records: machine events and leases, and the curves of the caches."""


def published_months(real_dir: Path, means: pl.DataFrame, sites: Sequence[str]) -> pl.DataFrame:
    """Give what was published of nodes, month by month.

    Args:
        real_dir: the folder of aggregates made of the published files.
        means: from `paper.record.published_means`, for the caches; the mean of a year stands at its
            first day.
        sites: which.

    Returns:
        `site`, `count_type` (total, committed), `timestamp`, `record` (`FILES` or `CACHES`),
        `value` in nodes.
    """
    files = pl.read_csv(real_dir / "published_monthly.csv").select(
        "site",
        pl.col("quantity_type").alias("count_type"),
        pl.col("month").str.to_datetime("%Y-%m", time_zone="UTC").alias("timestamp"),
        pl.lit(FILES).alias("record"),
        pl.col("nodes").alias("value"),
    )
    last = pl.col("timestamp").max()
    caches = means.filter(
        pl.col("collector_type") == "legacy",
        pl.col("count_type").is_in(MONTHLY),
        pl.col("year") <= files.select(last.dt.year()).item(),
    ).select(
        "site",
        "count_type",
        pl.datetime("year", 1, 1, time_zone="UTC").alias("timestamp"),
        pl.lit(CACHES).alias("record"),
        "value",
    )
    return pl.concat([files, caches]).filter(pl.col("site").is_in(sites))


def our_months(usage: pl.DataFrame, published: pl.DataFrame, ours: str) -> pl.DataFrame:
    """Give our corrected monthly means over the time of the published files.

    Args:
        usage: `usage_timeline` of the sites.
        published: from `published_months`.
        ours: what to call our record.

    Returns:
        the columns of `published_months`.
    """
    counted = usage.filter(
        pl.col("collector_type") == "corrected", pl.col("count_type").is_in(MONTHLY)
    )
    told = published.filter(record=FILES)
    return (
        coarsen(counted, "1mo", by=["site", "count_type"])
        .select("site", "count_type", "timestamp", pl.lit(ours).alias("record"), "value")
        .join(told, on=["site", "count_type", "timestamp"], how="semi")
    )


def share_published(months: pl.DataFrame) -> pl.DataFrame:
    """Give which share of the node-hours of the caches the published leases hold, year by year.

    Args:
        months: from `published_months`.

    Returns:
        `site`, `year`, `files` and `caches` (nodes), `share`: of years of which all months were
        published.
    """
    committed = months.filter(count_type="committed")
    year = pl.col("timestamp").dt.year().alias("year")
    files = (
        committed.filter(record=FILES)
        .group_by("site", year)
        .agg(pl.col("value").mean().alias("files"), pl.len().alias("months"))
        .filter(pl.col("months") == 12)
    )
    caches = committed.filter(record=CACHES).select("site", year, pl.col("value").alias("caches"))
    return (
        files.join(caches, on=["site", "year"])
        .select("site", "year", "files", "caches", share=pl.col("files") / pl.col("caches"))
        .sort("site", "year")
    )


def machine_types(real_dir: Path, usage: Mapping[str, pl.DataFrame], ours: str) -> pl.DataFrame:
    """Give the hosts of each node type by month, in the published events and in our count.

    Args:
        real_dir: the folder of aggregates.
        usage: site to its `usage_by_node_type`.
        ours: what to call our record.

    Returns:
        `site`, `record` (`FILES` or `ours`), `timestamp`, `node_type`, `value`.
    """
    real = pl.read_csv(real_dir / "published_machines.csv").select(
        "site",
        pl.lit(FILES).alias("record"),
        pl.col("month").str.to_datetime("%Y-%m", time_zone="UTC").alias("timestamp"),
        "node_type",
        pl.col("nodes").alias("value"),
    )
    parts = [real.filter(pl.col("site").is_in(list(usage)))]
    for site, table in usage.items():
        total = as_text(table).filter(
            collector_type="corrected", count_type="total", resource="nodes"
        )
        spent = pl.col("timestamp").dt.truncate("1mo")
        days = spent.dt.month_end().dt.day()
        parts.append(
            total.group_by(spent, "node_type")
            .agg((pl.col("value").sort_by("timestamp").sum() / days.first()).alias("value"))
            .join(real.filter(site=site), on="timestamp", how="semi")
            .select(
                pl.lit(site).alias("site"),
                pl.lit(ours).alias("record"),
                "timestamp",
                pl.col("node_type").fill_null("unknown"),
                "value",
            )
        )
    return pl.concat(parts).sort("site", "record", "timestamp", "node_type")


def our_leases(
    told: pl.DataFrame, rows: pl.DataFrame, site: str, months: Sequence[str]
) -> pl.DataFrame:
    """Give the leases of a database as `paper.leases` wants them.

    Args:
        told: `leadtime_leases` of the site: the leases of whole nodes.
        rows: `blazar.leases` of it.
        site: its key.
        months: in which the published leases were made.

    Those who published the real leases left out what failed, and so do we. Without a column of
    users, a project stands for its users.
    """
    user = "user_id" if "user_id" in rows.columns else "project_id"
    return (
        told.filter(
            pl.col("outcome").is_in(["started", "cancelled"]),
            pl.col("created_at").dt.strftime("%Y-%m").is_in(list(months)),
        )
        .select("lease_id", "node_type", "nodes")
        .join(rows, left_on="lease_id", right_on="id", maintain_order="left")
        .select(
            pl.lit(site).alias("site"),
            pl.col(user).alias("user"),
            pl.col("node_type").str.contains("gpu").fill_null(value=False).alias("gpu"),
            "nodes",
            "created_at",
            pl.col("start_date").alias("start"),
            pl.col("end_date").alias("end"),
            "deleted_at",
        )
    )


def leases_of_all(
    output: Path, data: Path, sites: Sequence[str], months: pl.Series
) -> pl.DataFrame:
    """Give `our_leases` of all these sites, of the months in which the published ones were made.

    Args:
        output: the folder of the outputs, with one of each site.
        data: the folder of the raw tables.
        sites: which.
        months: any number of times each.
    """
    return pl.concat(
        our_leases(
            pl.read_parquet(output / site / "leadtime_leases.parquet"),
            pl.read_parquet(data / site / "blazar.leases.parquet"),
            site,
            months.unique().to_list(),
        )
        for site in sites
    )


FIGURE_NAMES = {
    "advance_share": "made in advance",
    "advance_lead_median_h": "lead time of these, median (h)",
    "advance_lead_p90_h": "lead time of these, 90th percentile (h)",
    "requested_median_h": "requested duration, median (h)",
    "actual_median_h": "actual duration, median (h)",
    "released_early_share": "deleted more than 5 min early",
    "cancelled_before_start_share": "cancelled before the start",
    "seven_day_share": "request a week (±2 h)",
    "longer_than_seven_days_share": "have a longer row",
}
KINDS = {"all": "all nodes", "non_gpu": "nodes without GPU", "gpu": "nodes with GPU"}


def figures_beside(real: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Set what the published leases say of each kind of node beside ours.

    Args:
        real: `nodes`, `figure`, `leases`, `value`, `low`, `high`, from `paper.leases.figures`.
        found: ours.

    Returns:
        `nodes`, `figure` (in words), `leases`, `real`, `interval`, `ours`, as text.
    """
    return (
        real.join(found.select("nodes", "figure", ours="value"), on=["nodes", "figure"], how="left")
        .with_columns(pl.col("nodes").cast(pl.Enum(list(KINDS))))
        .sort("nodes", maintain_order=True)
        .select(
            pl.col("nodes").cast(pl.String).replace(KINDS),
            pl.col("figure").replace(FIGURE_NAMES),
            "leases",
            _told("value").alias("real"),
            _interval().alias("interval"),
            _told("ours").alias("ours"),
        )
    )


def figures_by_era(real: pl.DataFrame) -> pl.DataFrame:
    """Give the figures of all nodes, a column a part of the time, with intervals, as text."""
    return (
        real.filter(pl.col("era") != "all", nodes="all")
        .with_columns(pl.format("{} ({})", _told("value"), _interval()).alias("told"))
        .pivot(on="era", index="figure", values="told", maintain_order=True)
        .with_columns(pl.col("figure").replace(FIGURE_NAMES))
    )


def _told(column: str) -> pl.Expr:
    """Write a share in percent and hours with one decimal."""
    share = pl.col("figure").str.ends_with("_share")
    number = (pl.when(share).then(100 * pl.col(column)).otherwise(column)).round(1)
    unit = pl.when(share).then(pl.lit("%")).otherwise(pl.lit(""))
    return pl.concat_str(number.cast(pl.String), unit)


def _interval() -> pl.Expr:
    return pl.format("{} to {}", _told("low").str.strip_suffix("%"), _told("high"))
