"""Use by project, fit to be published: a few named, and all others in groups large enough.

What is published is one table of cells, project by node type. Each cell is that of a named project,
which the operator chose to name, or stands for at least ``least`` projects; there are no sums
beside the cells, so that no subtraction gives a smaller group. Groups that are too small are merged
and never left blank, so that the cells add up to all that was held.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.models.metrics import HOLD
from chameleon_usage.models.vocabulary import ALL_PROJECTS, UNKNOWN_PROJECT
from chameleon_usage.usage.summary import buckets_of

EVERYTHING_ELSE, OTHER_TYPES = "everything else", "other types"
"""The project and the node type of cells that stand for several."""
PUBLISHED = {
    "project_id": pl.String(),
    "node_type": pl.String(),
    "projects": pl.Int64(),
    "node_hours": pl.Float64(),
    "share": pl.Float64(),
}


@dataclass(frozen=True)
class Period:
    """A time of which something is published, [start, end), UTC."""

    start: datetime
    end: datetime

    def overlaps(self, other: "Period") -> bool:
        """Tell whether the difference of what is published of both could tell of a few projects."""
        return self.start < other.end and other.start < self.end


def held(projects: pl.DataFrame, timeline: pl.DataFrame, period: Period) -> pl.DataFrame:
    """Give the node-hours that each project held of each node type.

    Args:
        projects: models.outputs.UsageByProject of a site.
        timeline: models.outputs.UsageTimeline of the site.
        period: the buckets that begin in it count.

    Returns:
        project_id, node_type and node_hours (more than 0), sorted.

    Raises:
        UsageError: names were left out, so that there are no projects to tell apart.
    """
    if projects["project_id"].eq(ALL_PROJECTS).any():
        raise UsageError(
            "usage_by_project tells no projects apart, as their names were left out; "
            "run with --projects keep, or with a key"
        )
    begins = pl.col("timestamp").dt.replace_time_zone(None)
    inside = (begins >= period.start) & (begins < period.end)
    return (
        projects.filter(inside, pl.col("resource") == "nodes", pl.col("count_type").is_in(HOLD))
        .join(buckets_of(timeline), on="timestamp")
        .sort("project_id", "node_type", "timestamp", "count_type")  # sums of floats need an order
        .group_by("project_id", "node_type", maintain_order=True)
        .agg(node_hours=(pl.col("value") * pl.col("hours")).sum())
        .filter(pl.col("node_hours") > 0)
    )


def published(held: pl.DataFrame, top: int, least: int) -> pl.DataFrame:
    """Make the published table.

    Args:
        held: of ``held``.
        top: name at most so many projects, those with the most node-hours.
        least: a group stands for no fewer projects. What no row gives a project counts as none.

    Returns:
        the columns of ``PUBLISHED``: a row for each cell that is not empty, the greatest projects
        first, then ``EVERYTHING_ELSE``; within a project by node type. ``projects`` is how many a
        cell stands for, ``share`` its part of all node-hours.

    Raises:
        UsageError: fewer than ``least`` projects held anything, so that nothing can be told.
    """
    known = pl.col("project_id") != UNKNOWN_PROJECT
    by_size = (
        held.filter(known)
        .group_by("project_id")
        .agg(pl.col("node_hours").sum())
        .sort("node_hours", "project_id", descending=[True, False])
    )
    if by_size.height < least:
        raise UsageError(
            f"{by_size.height} projects held nodes in this time, fewer than {least}: "
            "choose a longer time"
        )
    rest = by_size.height - min(top, by_size.height)
    if rest < least and (rest or held.height > held.filter(known).height):
        rest = least
    names = by_size["project_id"].head(by_size.height - rest).to_list()
    named = pl.col("project_id").is_in(names)
    rows = held.with_columns(
        project_id=pl.when(named).then("project_id").otherwise(pl.lit(EVERYTHING_ELSE)),
        _project=pl.when(known).then("project_id"),
        _place=pl.when(named)
        .then("project_id")
        .replace_strict(names, range(len(names)), default=len(names), return_dtype=pl.Int64),
    )
    merged = _merged_types(rows, least)
    last = pl.col("node_type").is_in(merged)
    return (
        rows.with_columns(node_type=pl.when(last).then(pl.lit(OTHER_TYPES)).otherwise("node_type"))
        .sort("_place", last.cast(pl.Int8), "node_type", "_project")
        .group_by("project_id", "node_type", maintain_order=True)
        .agg(
            projects=pl.col("_project").drop_nulls().n_unique().cast(pl.Int64),
            node_hours=pl.col("node_hours").sum(),
        )
        .with_columns(share=pl.col("node_hours") / pl.col("node_hours").sum())
        .select(*PUBLISHED)
    )


def _merged_types(rows: pl.DataFrame, least: int) -> list[str]:
    """List the node types that are merged: each that is too small, and more until all are not."""
    sizes = _sizes(rows, "node_type").sort("others", "projects", "node_type")
    small = sizes.filter(~_fits(least))["node_type"].to_list()
    left = [name for name in sizes["node_type"] if name not in small]
    while small and left:
        together = rows.filter(pl.col("node_type").is_in(small)).with_columns(node_type=pl.lit(""))
        if _sizes(together, "node_type").select(_fits(least)).item():
            break
        small.append(left.pop(0))
    return small


def _sizes(rows: pl.DataFrame, by: str) -> pl.DataFrame:
    """Count all projects, those that are not named, and the rows that are not of a named one."""
    unnamed = pl.col("project_id") == EVERYTHING_ELSE
    return rows.group_by(by).agg(
        projects=pl.col("_project").drop_nulls().n_unique(),
        others=pl.col("_project").filter(unnamed).drop_nulls().n_unique(),
        rest=unnamed.sum(),
    )


def _fits(least: int) -> pl.Expr:
    return (pl.col("projects") >= least) & ((pl.col("rest") == 0) | (pl.col("others") >= least))
