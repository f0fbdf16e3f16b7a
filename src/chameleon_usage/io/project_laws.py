"""The laws of the tables of projects: nothing of a site is lost or invented when it is divided."""

from pathlib import Path

import polars as pl

from chameleon_usage.models.metrics import OF_PROJECTS

_NODE_SECONDS = 1e-3
"""A unit-second of a KVM node is more: no host has a thousand vCPUs."""


def shares(directory: Path, projects: pl.DataFrame, by_resource: pl.DataFrame) -> list[str]:
    """Check that projects add up to their site, to the last unit-second of each bucket.

    Each value is turned back into the whole unit-seconds that it was made of, so that the sum is
    exact. Nodes, which are fractions on KVM, and the last bucket, whose length no table tells, are
    compared as they are.

    Args:
        directory: of the tables, for the message.
        projects: models.outputs.UsageByProject.
        by_resource: models.outputs.UsageByResource.
    """
    key = ["count_type", "resource", "timestamp"]
    site = by_resource.filter(
        pl.col("collector_type") == "corrected", pl.col("count_type").is_in(OF_PROJECTS)
    ).select(*key, site_value="value")
    stamps = site.select(pl.col("timestamp").unique().sort())
    lengths = stamps.with_columns(
        length=pl.col("timestamp").diff().shift(-1).dt.total_seconds(),
    )
    units = (pl.col("value") * pl.col("length")).round()
    summed = (
        projects.join(lengths, on="timestamp", how="left")
        .group_by(key)
        .agg(pl.col("value").sum(), units=units.sum())
    )
    both = site.join(summed, on=key, how="full", coalesce=True).join(lengths, on="timestamp")
    both = both.with_columns(pl.col("value", "units").fill_null(0))
    apart = (pl.col("value") - pl.col("site_value")).abs()
    whole = (pl.col("resource") != "nodes") & pl.col("length").is_not_null()
    off = both.filter(
        pl.when(pl.col("site_value").is_null())
        .then(pl.col("value") != 0)
        .when(whole)
        .then(pl.col("units") != (pl.col("site_value") * pl.col("length")).round())
        .when(pl.col("length").is_not_null())
        .then(apart * pl.col("length") > _NODE_SECONDS)
        .otherwise(apart > 1e-9 * pl.col("site_value").abs().clip(1))
    )
    return [
        f"{directory}: {row['count_type']} of projects ({row['resource']}) is not that of the site "
        f"in {row['len']} buckets, first at {row['timestamp']:%F %T}"
        for row in off.group_by("count_type", "resource")
        .agg(pl.len(), pl.col("timestamp").min())
        .sort("count_type", "resource")
        .iter_rows(named=True)
    ]


def sessions(directory: Path, table: pl.DataFrame) -> list[str]:
    """Check that whoever is present was so before or has just started.

    Args:
        directory: of the table, for the message.
        table: models.outputs.SessionsByProject.
    """
    if table.is_empty():
        return []
    group = ["project_id", "node_type"]
    stamps = table.select(pl.col("timestamp").unique().sort()).with_columns(
        next=pl.col("timestamp").shift(-1)
    )
    stayed = table.join(stamps, on="timestamp").select(
        *group, timestamp="next", stayed=pl.col("present") - pl.col("ended")
    )
    there = table.join(stayed.drop_nulls(), on=[*group, "timestamp"], how="full", coalesce=True)
    expected = pl.col("stayed").fill_null(0) + pl.col("started").fill_null(0)
    off = there.filter(
        pl.col("timestamp") > table["timestamp"].min(),
        pl.col("present").fill_null(0) != expected,
    )
    if off.is_empty():
        return []
    first = off.sort("timestamp", *group).row(0, named=True)
    return [
        f"{directory}: sessions of projects appear or vanish in {off.height} rows, first at "
        f"{first['timestamp']:%F %T} ({first['project_id']})"
    ]
