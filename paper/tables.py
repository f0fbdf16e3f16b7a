"""What the notebooks tabulate, as plain frames; the notebooks only set them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE, Reason, stage_of
from chameleon_usage.viz.availability import SOURCES
from chameleon_usage.viz.base import coarsen, since_opening
from chameleon_usage.viz.lease_use import by_year
from chameleon_usage.viz.tables import ALL, cross_site_table
from paper.eras import era_label, era_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_HOURS = 500
"""A cause with fewer node-hours in every era is passed over."""

LABELS = {count_type: metric.label for count_type, metric in METRICS.items()}


def yearly_means(usage: pl.DataFrame) -> pl.DataFrame:
    """Give the means of each year since a site opened, where they are known.

    Args:
        usage: `usage_timeline` of one site.

    Returns:
        `collector_type`, `count_type`, `timestamp`, `value`, `year`.
    """
    return (
        coarsen(since_opening(usage), "1y", by=["collector_type", "count_type"])
        .with_columns(pl.col("timestamp").dt.year().alias("year"))
        .drop_nulls("value")
    )


def corrected_by_year(yearly: pl.DataFrame, count_types: Sequence[str]) -> pl.DataFrame:
    """Give the corrected count of each year with a node.

    Args:
        yearly: from `yearly_means`.
        count_types: `total` and others, a column each.

    Returns:
        `year` and the count types; null is unknown.
    """
    return (
        yearly.filter(pl.col("collector_type") == "corrected")
        .pivot(
            on="count_type",
            on_columns=list(dict.fromkeys(["total", *count_types])),
            index="year",
            values="value",
        )
        .remove(pl.col("total") == 0)
        .sort("year")
        .select("year", *count_types)
    )


def causes_by_era(causes: pl.DataFrame) -> pl.DataFrame:
    """Add up by era why the corrected count differs from the uncorrected one.

    Args:
        causes: `comparison_causes` of one site.

    Returns:
        `count_type` (its label), `cause` and the eras, as readers see them, in node-hours; the rest
        comes last of each count type, and causes that are small in every era are left out.
    """
    named = causes.with_columns(
        era_label(era_of(pl.col("timestamp"))), pl.col("cause").eq("rest").alias("is_rest")
    )
    eras = named["era"].unique().sort().to_list()
    return (
        named.group_by("count_type", "cause", "is_rest", "era", maintain_order=True)
        .agg(pl.col("node_hours").sum())
        .pivot(on="era", on_columns=eras, index=["count_type", "is_rest", "cause"])
        .remove(pl.all_horizontal(pl.col(eras).abs().fill_null(0) < LEAST_HOURS))
        .sort(pl.col("count_type").cast(pl.Enum(list(METRICS))), "is_rest", "cause")
        .select(
            pl.col("count_type").replace(LABELS),
            pl.col("cause").str.replace(f"{INDIRECT_EVIDENCE}$", SOURCES[INDIRECT_EVIDENCE]),
            *eras,
        )
    )


def lease_outcomes(leases: pl.DataFrame) -> pl.DataFrame:
    """Count the leases by what became of them.

    Args:
        leases: `leadtime_leases` of one site.

    Returns:
        `outcome`, `leases`, and the medians of both lead times in hours, which are at least 0.
    """
    return (
        leases.group_by("outcome")
        .agg(
            pl.len().alias("leases"),
            pl.col("requested_h").median().clip(0).alias("requested, median (h)"),
            pl.col("effective_h").median().clip(0).alias("effective, median (h)"),
        )
        .sort("leases", "outcome", descending=[True, False])
    )


def with_gpus(leases: pl.DataFrame, usage: pl.DataFrame) -> pl.DataFrame:
    """Tell of each lease whether its node type has GPUs.

    Args:
        leases: `leadtime_leases` of one site.
        usage: `usage_by_node_type` of the site.

    Returns:
        the leases and `gpu`: null where the node type is not known, or of none of the site's hosts.
    """
    nodes = usage.filter(pl.col("count_type") == "total", pl.col("collector_type") == "corrected")
    types = nodes.group_by("node_type").agg(gpu=(pl.col("resource") == "gpus").any())
    return leases.join(types, on="node_type", how="left", maintain_order="left")


def lease_use_by_year(use: pl.DataFrame) -> pl.DataFrame:
    """Give how leases used their nodes, year by year.

    Args:
        use: `lease_use` of one site.

    Returns:
        `year`, `leases`, `no-shows` and `released early` as shares of them, `reserved` in
        node-hours, `used` and `idle` as shares of these, `given back` in node-hours. A share is
        null where nobody knows it.
    """
    known = pl.col("reserved_h") - pl.col("unknown_h")
    used = pl.when(known > 0).then(pl.col("used_h") / known)
    return by_year(use).select(
        "year",
        "leases",
        (pl.col("no_shows") / pl.col("leases")).alias("no-shows"),
        (pl.col("released_early") / pl.col("leases")).alias("released early"),
        pl.col("reserved_h").alias("reserved"),
        used.alias("used"),
        (1 - used).alias("idle"),
        pl.col("given_back_h").alias("given back"),
    )


def duplicate_hours(audit: pl.DataFrame) -> float:
    """Add up the hours of total that were rejected as told twice by rows of the same host.

    Args:
        audit: `rejects` of one site.
    """
    twice = audit.filter(
        pl.col("stage") == stage_of("corrected", "total"),
        pl.col("reason") == Reason.DUPLICATE_OF_HOST,
    )
    return float(twice["hours"].sum())


def sites_by_year(usage: pl.DataFrame) -> pl.DataFrame:
    """Give the yearly means of each site and of all, in each year of the record.

    Args:
        usage: `usage_timeline` of all sites.

    Returns:
        the columns of `cross_site_table`, `year`, and `begun`: the first year of the site. A year
        before it has a row, too.
    """
    yearly = cross_site_table(usage, every="1y").with_columns(
        pl.col("timestamp").dt.year().alias("year")
    )
    begun = yearly.group_by("site").agg(pl.col("year").min().alias("begun"))
    return (
        yearly.select(pl.col("year").unique().sort())
        .join(begun, how="cross")
        .join(yearly, on=["site", "year"], how="left")
    )


def _cell(text: pl.Expr, known: pl.Expr) -> pl.Expr:
    """Show what is known; a dash before the record of a site begins."""
    return (
        pl.when(pl.col("year") < pl.col("begun"))
        .then(pl.lit("–"))
        .when(known)
        .then(text)
        .otherwise(pl.lit("unknown"))
    )


def _by_site(cells: pl.DataFrame, sites: Sequence[str]) -> pl.DataFrame:
    return cells.pivot(on="site", on_columns=list(sites), index="year", values="cell").sort("year")


def total_cells(by_year: pl.DataFrame, sites: Sequence[str]) -> pl.DataFrame:
    """Write the nodes of each site: `year` and a column of text for each of `sites`.

    Args:
        by_year: from `sites_by_year`.
        sites: sites, and `ALL`.
    """
    total = pl.col("total")
    text = _cell(total.round(1).cast(pl.String), total.is_not_null())
    return _by_site(by_year.select("year", "site", cell=text), sites)


USE_KNOWN = (pl.col("site") == ALL) | (pl.col("leased") == 0)
"""Of all sites a sum is told even where it lacks what nobody knows; of one site it is not."""


def used_cells(by_year: pl.DataFrame, sites: Sequence[str]) -> pl.DataFrame:
    """Write the nodes used at each site, as `total_cells`; a sum that lacks some is *at least*."""
    used = pl.col("used").round(1).cast(pl.String)
    text = _cell(
        pl.when(pl.col("site") == ALL, pl.col("leased") > 0).then("≥ " + used).otherwise(used),
        pl.col("used").is_not_null() & USE_KNOWN,
    )
    return _by_site(by_year.select("year", "site", cell=text), sites)


def share_cells(by_year: pl.DataFrame, sites: Sequence[str]) -> pl.DataFrame:
    """Write the used share of each site's nodes, as `total_cells`; bounds where it is not known."""

    def percent(*parts: str) -> pl.Expr:
        return (100 * pl.sum_horizontal(parts) / pl.col("total")).round(1).cast(pl.String)

    text = _cell(
        pl.when(pl.col("leased") > 0)
        .then(percent("used") + "–" + percent("used", "leased"))
        .otherwise(percent("used"))
        + "%",
        pl.col("total").is_not_null() & pl.col("used").is_not_null() & USE_KNOWN,
    )
    return _by_site(by_year.select("year", "site", cell=text), sites)


def used_shares(by_year: pl.DataFrame) -> pl.DataFrame:
    """Give `site`, `year` and `share`: used / total, where both are known.

    Args:
        by_year: from `sites_by_year`.
    """
    return (
        by_year.filter(pl.col("leased") == 0)
        .drop_nulls(["used", "total"])
        .sort("site", "year")
        .select("site", "year", (pl.col("used") / pl.col("total")).alias("share"))
    )
