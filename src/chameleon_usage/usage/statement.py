"""What one project used of a site in one month."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.models.metrics import HOLD, OF_PROJECTS
from chameleon_usage.usage.causes import NEGLIGIBLE
from chameleon_usage.usage.summary import buckets_of

TABLES = ("usage_timeline", "usage_by_resource", "usage_by_project", "sessions_by_project")
"""The output tables that it reads."""
ALL_TYPES = "all"
"""The node type of rows that sum over all."""
STATES = ("active", "stopped", "idle")
"""What a project does with what it holds: disjoint, and together all of it where all is known."""
LEASED = "leased"
"""What it holds, and nobody knows how much of it it used."""


@dataclass(frozen=True)
class Statement:
    """A project's month.

    Attributes:
        site, project: whose.
        start, end: the month, UTC.
        use: count_type, resource, node_type (``ALL_TYPES`` first), hours (units times hours),
            share of the site's where all types are meant, known_share of the month.
        sessions: node_type (``ALL_TYPES`` first), started, ended, present (at some time of the
            month), launched, build_hours (mean of those launched, null without any).
        days: timestamp, node_type, and node-hours in each of ``STATES`` and ``LEASED``, for every
            day.
    """

    site: str
    project: str
    start: datetime
    end: datetime
    use: pl.DataFrame
    sessions: pl.DataFrame
    days: pl.DataFrame

    @property
    def held(self) -> float:
        """The node-hours that the project held."""
        nodes = self.use.filter(
            pl.col("node_type") == ALL_TYPES,
            pl.col("resource") == "nodes",
            pl.col("count_type").is_in(HOLD),
        )
        return float(nodes["hours"].sum())


def statement(
    tables: Mapping[str, pl.DataFrame], site: str, project: str, month: datetime
) -> Statement:
    """Sum up a project's use of a month.

    Args:
        tables: output tables of the site (``TABLES``).
        site: its key.
        project: as the tables name it.
        month: its first moment, naive UTC.

    Raises:
        UsageError: the site was not run by project, the tables do not cover the month, their
            buckets do not fit into it, or the project had nothing in it.
    """
    buckets = _month(buckets_of(tables["usage_timeline"]), site, month)
    end = buckets["until"][-1].replace(tzinfo=None)
    mine = pl.col("project_id") == project
    use = tables["usage_by_project"].filter(mine).join(buckets, on="timestamp")
    sessions = tables["sessions_by_project"].filter(mine).join(buckets, on="timestamp")
    if use.is_empty() and sessions.is_empty():
        raise UsageError(
            f"{site}: project {project} has no use in {month:%Y-%m}: check the name, which may be "
            "a pseudonym (run --projects), and the month"
        )
    return Statement(
        site,
        project,
        month,
        end,
        _use(use, tables["usage_by_resource"], buckets),
        _sessions(sessions, buckets["timestamp"][0]),
        _days(use, buckets),
    )


def _month(buckets: pl.DataFrame, site: str, month: datetime) -> pl.DataFrame:
    """Pick the buckets of a month, which are to cover it and no other time."""
    first, past = (
        pl.Series([month]).dt.offset_by(by).dt.replace_time_zone("UTC")[0] for by in ("0d", "1mo")
    )
    reach = f"{buckets['timestamp'][0]:%F} to {buckets['until'][-1]:%F}"
    if first < buckets["timestamp"][0] or past > buckets["until"][-1]:
        raise UsageError(f"{site}: the outputs cover {reach}, and not all of {month:%Y-%m}")
    inside = buckets.filter(pl.col("timestamp") >= first, pl.col("timestamp") < past)
    if inside.is_empty() or inside["timestamp"][0] != first or inside["until"][-1] != past:
        raise UsageError(
            f"{site}: the buckets of its outputs do not begin and end with {month:%Y-%m}: "
            "run with --bucket 1d"
        )
    return inside


def _use(use: pl.DataFrame, by_resource: pl.DataFrame, buckets: pl.DataFrame) -> pl.DataFrame:
    hours = (pl.col("value") * pl.col("hours")).sum()
    key = ["count_type", "resource"]
    typed = use.sort("timestamp").group_by(*key, "node_type", maintain_order=True).agg(hours=hours)
    whole = (
        typed.sort("node_type")
        .group_by(key, maintain_order=True)
        .agg(pl.col("hours").sum())
        .with_columns(node_type=pl.lit(ALL_TYPES))
    )
    site = (
        by_resource.filter(
            pl.col("collector_type") == "corrected", pl.col("count_type").is_in(OF_PROJECTS)
        )
        .join(buckets, on="timestamp")
        .sort("timestamp")
        .group_by(key, maintain_order=True)
        .agg(
            site_hours=hours,
            known_share=pl.col("hours").filter(pl.col("value").is_not_null()).sum()
            / pl.col("hours").sum(),
        )
    )
    share = pl.when(pl.col("node_type") == ALL_TYPES, pl.col("site_hours") > 0).then(
        pl.col("hours") / pl.col("site_hours")
    )
    return (
        pl.concat([whole.select(typed.columns), typed])
        .join(site, on=key)
        .sort(
            "resource",
            "count_type",
            pl.col("node_type") != ALL_TYPES,
            "node_type",
        )
        .select(*key, "node_type", "hours", share=share, known_share="known_share")
    )


def _sessions(sessions: pl.DataFrame, first: datetime) -> pl.DataFrame:
    # Whoever was present was so in the first bucket, or has started since.
    before = (pl.col("present") - pl.col("started")).filter(pl.col("timestamp") == first).sum()
    sums = [
        *(pl.col(name).sum() for name in ("started", "ended")),
        (pl.col("started").sum() + before).alias("present"),
        pl.col("launched").sum(),
        (pl.col("build_seconds").sum() / 3600).alias("_hours"),
    ]
    typed = sessions.group_by("node_type").agg(sums).sort("node_type")
    whole = sessions.select(pl.lit(ALL_TYPES).alias("node_type"), *sums).unique()
    build = pl.when(pl.col("launched") > 0).then(pl.col("_hours") / pl.col("launched"))
    return pl.concat([whole, typed]).with_columns(build_hours=build).drop("_hours")


def _days(use: pl.DataFrame, buckets: pl.DataFrame) -> pl.DataFrame:
    """Give the node-hours of each day in each state; a day with nothing has one row, of all."""
    nodes = use.filter(pl.col("resource") == "nodes")
    hours = pl.col("value") * pl.col("hours")
    day = pl.col("timestamp").dt.truncate("1d")
    spent = (
        nodes.sort("count_type")
        .group_by(day, "node_type", maintain_order=True)
        .agg(
            *(hours.filter(pl.col("count_type") == name).sum().alias(name) for name in STATES),
            held=hours.filter(pl.col("count_type").is_in(HOLD)).sum(),
        )
    )
    left = pl.col("held") - pl.sum_horizontal(STATES)
    spent = spent.with_columns(pl.when(left > NEGLIGIBLE).then(left).otherwise(0.0).alias(LEASED))
    days = buckets.select(day).unique()
    return (
        days.join(spent, on="timestamp", how="left")
        .with_columns(
            pl.col("node_type").fill_null(ALL_TYPES),
            pl.col(*STATES, LEASED).fill_null(0.0),
        )
        .select("timestamp", "node_type", *STATES, LEASED)
        .sort("timestamp", "node_type")
    )
