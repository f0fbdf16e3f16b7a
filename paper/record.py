"""The published curves of the real testbed, and our count beside them.

The published plots show two collectors: the legacy caches, and today's databases taken at their
word, here `uncorrected`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from chameleon_usage.viz.base import as_text, since_opening

if TYPE_CHECKING:
    from collections.abc import Mapping

COLLECTORS = {"legacy": "legacy", "current": "uncorrected"}
"""What the published curves call a collector, and what we call it."""

COMPARED = ("total", "occupied", "reservable", "committed", "idle")
"""In the order of the panels: first those that every site has."""

NEAR = 0.15
"""Yearly means at most so far apart are told as near."""

KEY = ["site", "collector_type", "count_type", "year"]


def published_means(calibration: Mapping[str, Any], facts: Mapping[str, Any]) -> pl.DataFrame:
    """Give the yearly means that were published.

    Args:
        calibration: data/calibration.yaml: means of the digitised curves.
        facts: data/facts.yaml: means read by eye, which stand in where a curve lacks a year.

    Returns:
        `site`, `collector_type`, `count_type`, `year`, `value`, and `record`: `real`.
    """
    curves = calibration["real_curves"]
    means = {
        (site, *named, year): float(mean)
        for site, series in curves.items()
        for key, years in series.items()
        if (named := _series(key))
        for year, (mean, _bins) in years.items()
    }
    site_of = {site.split("_", 1)[1]: site for site in curves if site.startswith("chi_")}
    for key, fact in facts.items():
        short, _, rest = key.partition("_")
        year, _, what = rest.partition("_")
        named = _series(what)
        if short in site_of and year.isdigit() and named:
            means.setdefault((site_of[short], *named, int(year)), float(fact["value"]))
    return pl.DataFrame(
        [(*key, mean) for key, mean in means.items()], schema=[*KEY, "value"], orient="row"
    ).with_columns(pl.lit("real").alias("record"))


def _series(key: str) -> tuple[str, str] | None:
    """Give the collector and count type that the name of a series stands for; None of others."""
    prefix, _, count_type = key.partition("_")
    return (
        (COLLECTORS[prefix], count_type)
        if prefix in COLLECTORS and count_type in COMPARED
        else None
    )


def our_means(usage: pl.DataFrame, calibration: Mapping[str, Any], ours: str) -> pl.DataFrame:
    """Give our yearly means of one site, over the part of each year that the curves cover.

    Args:
        usage: `usage_timeline` of the site.
        calibration: data/calibration.yaml: where the curves begin and end.
        ours: what to call our record.

    Returns:
        the columns of `published_means`, for any collector and count type.
    """
    begins = pl.DataFrame(
        [
            (site, COLLECTORS[prefix], count_type, day)
            for site, series in calibration["curves_begin"].items()
            for prefix, _, count_type, day in (
                (*name.partition("_"), day) for name, day in series.items()
            )
        ],
        schema=["site", "collector_type", "count_type", "begin"],
        orient="row",
    )
    day = pl.col("timestamp").dt.date()
    return (
        as_text(since_opening(usage))
        .join(begins, on=["site", "collector_type", "count_type"], how="left")
        .remove((day < pl.col("begin")).fill_null(value=False))
        .remove(day >= calibration["curves_end"])
        .drop_nulls("value")
        .group_by(
            *KEY[:3],
            pl.col("timestamp").dt.year().cast(pl.Int64).alias("year"),
            maintain_order=True,
        )
        .agg(pl.col("value").mean())
        .with_columns(pl.lit(ours).alias("record"))
    )


def side_by_side(both: pl.DataFrame, ours: str) -> pl.DataFrame:
    """Set both records of a year beside each other: columns `real` and `ours`."""
    return both.pivot(
        on="record", on_columns=["real", ours], index=KEY, values="value"
    ).drop_nulls()


def likeness(both: pl.DataFrame, ours: str) -> pl.DataFrame:
    """Give the relative differences of the yearly means from 2016 on.

    Args:
        both: `published_means` and `our_means`.
        ours: what our record is called.

    Returns:
        the columns of `side_by_side`, `difference` (ours / real - 1) and whether it is `near`.
        Not idle: as the difference of two means, it has an error in percent that says little.
    """
    difference = (pl.col(ours) / pl.col("real") - 1).alias("difference")
    return (
        side_by_side(both, ours)
        .with_columns(difference)
        .filter(pl.col("count_type") != "idle", pl.col("year") >= 2016)
        .with_columns((pl.col("difference").abs() <= NEAR).alias("near"))
    )


def likeness_by_series(measured: pl.DataFrame) -> pl.DataFrame:
    """Sum up `likeness`: years, those within 15 %, and the median difference of each series."""
    return (
        measured.group_by("site", "collector_type", "count_type")
        .agg(
            pl.len().alias("years"),
            pl.col("near").sum().alias("years within 15%"),
            pl.col("difference").median().alias("median difference"),
        )
        .sort("site", "count_type", "collector_type")
    )


def idle_apart(both: pl.DataFrame, ours: str) -> pl.Series:
    """Give how many nodes the two records of idle are apart, year by year."""
    return (
        side_by_side(both.filter(pl.col("count_type") == "idle"), ours)
        .select((pl.col(ours) - pl.col("real")).abs())
        .to_series()
    )
