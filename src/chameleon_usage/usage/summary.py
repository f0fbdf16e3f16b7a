"""What the outputs of a site say of a period: a few numbers for the terminal or a program."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.models.metrics import PARTITION
from chameleon_usage.models.vocabulary import COLLECTOR_STAGES

TABLES = ("usage_timeline", "usage_by_node_type", "coverage", "rejects", "leadtime_leases")
"""The output tables that it reads."""
STATES = ("total", *PARTITION, "reservable", "committed", "occupied")
POINTS = 60
"""The curve has at most so many."""
_MONTH = 365.2425 / 12 * 86400
_HOURS = pl.duration(hours=1)


def summarise(
    tables: Mapping[str, pl.DataFrame],
    site: str,
    start: datetime | None = None,
    end: datetime | None = None,
) -> dict[str, Any]:
    """Sum up the corrected count of a site over the buckets that begin in [start, end).

    Args:
        tables: output tables of the site (``TABLES``).
        site: its key.
        start: naive UTC; None is the first bucket.
        end: naive UTC; None is after the last.

    Returns:
        ``site``, ``start`` and ``end`` of the buckets, ``bucket_hours``; ``states``: node-hours,
        their share of the total's and the share of time for which they are known; ``ratios``:
        committed / reservable and occupied / total; ``curve``: occupied / total from each
        ``start`` on; ``node_types``, by occupied / total; ``coverage``: mean known share by
        quantity type and source; ``leases`` made in the period; ``rejects`` by stage and reason,
        the most hours first, as far as they touch the corrected count. None is unknown.

    Raises:
        UsageError: the outputs know nothing of the period; the message says of which they do.
    """
    buckets = buckets_of(tables["usage_timeline"])
    told = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")
    first, last = buckets["timestamp"][0], buckets["until"][-1]
    known = told.drop_nulls("value")["timestamp"].sort()
    begin, until = (_utc(start) or first), (_utc(end) or last)
    inside = (pl.col("timestamp") >= begin) & (pl.col("timestamp") < until)
    period = buckets.filter(inside)
    if not known.is_between(begin, until, closed="left").any():
        reach = f"from {known[0]:%F} to {known[-1]:%F}" if len(known) else "for no time at all"
        asked_for = f"from {begin:%F} {f'to {end:%F}' if end else 'on'}"
        raise UsageError(
            f"{site}: nothing is known of the time {asked_for}: its outputs cover {first:%F} to "
            f"{last:%F} and are known {reach}; give other --start and --end"
        )
    wide = told.filter(inside).pivot(on="count_type", index="timestamp", values="value")
    wide = period.join(wide, on="timestamp", how="left").sort("timestamp")
    wide = wide.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in STATES if name not in wide.columns
    )
    cut = (period["timestamp"][0].replace(tzinfo=None), period["until"][-1].replace(tzinfo=None))
    asked = tables["leadtime_leases"]["created_at"].dt.replace_time_zone(None)
    return {
        "site": site,
        "start": f"{cut[0]:%FT%T}",
        "end": f"{cut[1]:%FT%T}",
        "bucket_hours": period["hours"].median(),
        "states": {name: _state(wide, name) for name in STATES},
        "ratios": {
            f"{part}/{whole}": _share(wide, part, whole)
            for part, whole in (("committed", "reservable"), ("occupied", "total"))
        },
        "curve": _curve(wide),
        "node_types": _node_types(tables["usage_by_node_type"].join(period, on="timestamp")),
        "coverage": _coverage(tables["coverage"].filter(inside)),
        "leases": int(asked.is_between(*cut, closed="left").sum()),
        "rejects": _rejects(rejects_within(tables["rejects"], *cut)),
    }


def _utc(moment: datetime | None) -> datetime | None:
    return moment and pl.Series([moment]).dt.replace_time_zone("UTC")[0]


def buckets_of(timeline: pl.DataFrame) -> pl.DataFrame:
    """Tell how long each bucket is: until the next; the last as long as its kind.

    Args:
        timeline: models.outputs.UsageTimeline.

    Returns:
        ``timestamp``, ``until`` and ``hours`` of each bucket, in order.

    Raises:
        UsageError: there is but one.
    """
    stamps = timeline["timestamp"].unique().sort()
    steps = stamps.diff().drop_nulls()
    if steps.is_empty():
        raise UsageError("one bucket does not tell how long it is: run with a shorter --bucket")
    step = f"{steps.dt.total_microseconds()[0]}us"
    if steps.n_unique() > 1:  # months, quarters, years
        months = int(steps.dt.total_seconds().sum()) / len(steps) / _MONTH
        step = f"{round(months)}mo"
    until = pl.concat([stamps[1:], stamps[-1:].dt.offset_by(step)])
    return pl.DataFrame({"timestamp": stamps, "until": until}).with_columns(
        hours=(pl.col("until") - pl.col("timestamp")) / _HOURS
    )


def _share(wide: pl.DataFrame, part: str, whole: str) -> float | None:
    """Divide sums over the buckets that know both."""
    both = wide.drop_nulls([part, whole])
    held, there = (_node_hours(both, name) for name in (part, whole))
    return held / there if there else None


def _node_hours(wide: pl.DataFrame, name: str) -> float:
    return float(wide.select((pl.col(name) * pl.col("hours")).sum()).item())


def _state(wide: pl.DataFrame, name: str) -> dict[str, float | None]:
    known = wide.drop_nulls(name)
    return {
        "node_hours": _node_hours(known, name) if known.height else None,
        "share": _share(wide, name, "total"),
        "known_share": float(known["hours"].sum()) / float(wide["hours"].sum()),
    }


def _curve(wide: pl.DataFrame) -> list[dict[str, Any]]:
    size = -(-wide.height // POINTS)
    return [
        {"start": f"{part['timestamp'][0]:%FT%T}", "share": _share(part, "occupied", "total")}
        for part in wide.iter_slices(size)
    ]


def _node_types(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """List the node types by occupied / total, the highest first, unknown ones last.

    A bucket in which a type has no row of a count is one in which that count is unknown.
    """
    both = pl.col("total").is_not_null() & pl.col("occupied").is_not_null()
    hours = {name: pl.col(name) * pl.col("hours") for name in ("total", "occupied")}
    compared = hours["total"].filter(both).sum()
    return (
        rows.filter(pl.col("collector_type") == "corrected", pl.col("resource") == "nodes")
        .group_by("node_type", "timestamp", "hours")
        .agg(
            pl.col("value").filter(pl.col("count_type") == name).first().alias(name)
            for name in hours
        )
        .group_by("node_type")
        .agg(
            node_hours=hours["total"].sum(),
            occupied_node_hours=pl.when(both.any()).then(hours["occupied"].sum()),
            share=pl.when(compared > 0).then(hours["occupied"].filter(both).sum() / compared),
        )
        .filter(pl.col("node_hours") > 0)
        .sort(
            *("share", "node_hours", "node_type"),
            descending=[True, True, False],
            nulls_last=True,
        )
        .to_dicts()
    )


def _coverage(rows: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Give the mean of each source over the buckets of its quantity; without a row it is none."""
    known = rows.drop_nulls("known_share")
    buckets = known.select("quantity_type", "timestamp").unique().group_by("quantity_type").len()
    means = (
        known.group_by("quantity_type", "source")
        .agg(pl.col("known_share").sum())
        .join(buckets, on="quantity_type")
        .select("quantity_type", "source", pl.col("known_share") / pl.col("len"))
        .sort("quantity_type", "source")
    )
    found: dict[str, dict[str, float]] = {}
    for quantity, source, share in means.iter_rows():
        found.setdefault(quantity, {})[source] = share
    return found


def _rejects(rows: pl.DataFrame) -> list[dict[str, Any]]:
    other = [stage for stage, (reading, _) in COLLECTOR_STAGES.items() if reading != "corrected"]
    return (
        rows.with_columns(pl.col("stage", "reason").cast(pl.String))
        .filter(~pl.col("stage").is_in(other))
        .group_by("stage", "reason")
        .agg(rows=pl.len(), hours=pl.col("hours").sum())
        .sort("hours", "stage", "reason", descending=[True, False, False])
        .to_dicts()
    )


def rejects_within(rejects: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """List what was refused of [start, end).

    Args:
        rejects: the output table of that name.
        start: naive UTC.
        end: naive UTC.

    Returns:
        the rows that reach into the period, ``hours`` cut to it, and those that tell no time.
    """
    first, last = pl.lit(start, pl.Datetime("us")), pl.lit(end, pl.Datetime("us"))
    begin, until = pl.min_horizontal("start", "end"), pl.max_horizontal("start", "end")
    length = (until - begin).dt.total_seconds()
    inside = pl.min_horizontal(until, last) - pl.max_horizontal(begin, first)
    touches = (begin < last) & ((until > first) | (begin == first))
    hours = pl.col("hours") * inside.dt.total_seconds() / length
    return rejects.filter(touches.fill_null(value=True)).with_columns(
        hours=pl.when(length > 0).then(hours).otherwise("hours")
    )
