"""Leases -> the lead time tables."""

import polars as pl

from chameleon_usage.models.frames import finish
from chameleon_usage.models.outputs import LeadtimeLeases, LeadtimeTimeline


def leadtime_tables(leases: pl.DataFrame, site: str) -> dict[str, pl.DataFrame]:
    """Make leadtime_leases, and leadtime_timeline with a point per request.

    Args:
        leases: domain.Leases.
        site: the site's key.
    """
    stamped = leases.with_columns(created_at=pl.col("created_at").dt.replace_time_zone("UTC"))
    points = (
        stamped.select("created_at", requested="requested_h", effective="effective_h")
        .unpivot(index="created_at", variable_name="leadtime_type")
        .drop_nulls("value")
        .group_by(timestamp="created_at", leadtime_type="leadtime_type")
        .agg(pl.col("value").median())
    )
    return {
        "leadtime_leases": finish(stamped, LeadtimeLeases, site),
        "leadtime_timeline": finish(points, LeadtimeTimeline, site),
    }
