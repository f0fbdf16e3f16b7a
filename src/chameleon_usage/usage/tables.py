"""The output tables of a site: usage, collectors side by side, lead times."""

from collections.abc import Iterator

import polars as pl

from chameleon_usage.models.frames import columns, conform, dy, finish
from chameleon_usage.models.metrics import METRICS, UNCOUNTED, WIDE_NAMES
from chameleon_usage.models.outputs import (
    Comparison,
    ComparisonByNodeType,
    LeadtimeLeases,
    LeadtimeTimeline,
    UsageByHost,
    UsageByNodeType,
    UsageByResource,
    UsageTimeline,
    UsageWide,
)
from chameleon_usage.usage.buckets import (
    READINGS,
    Availability,
    Window,
    derive,
    emitted,
    legacy_means,
    mean_usage,
)


def usage_tables(
    sums: pl.DataFrame,
    hosts: pl.DataFrame | None,
    legacy: pl.DataFrame,
    availability: Availability,
    window: Window,
    *,
    site: str,
) -> dict[str, pl.DataFrame]:
    """Make every usage table of one site.

    Args:
        sums: of ``buckets.unit_seconds``, by node type, of both collectors.
        hosts: the same by host and node type, for usage_by_host, if that is asked for.
        legacy: models.stages.Legacy.
        availability: what the site's tables can tell of.
        window: the time to cover and its buckets.
        site: the site's key.

    Returns:
        table name to frame, each as its output contract says. The tables by node type and by host
        are in the order of their series: millions of rows take longer to sort than to make.
    """
    node_types = enumeration(sums["node_type"], legacy["node_type"])
    sums = sums.cast({"node_type": node_types})
    cached = legacy_means(legacy.with_columns(pl.col("node_type").cast(node_types)), window)
    totals = {
        resource: derive(frame, availability)
        for resource, frame in mean_usage(sums, window).items()
    }
    by_resource = _by_resource(totals, cached, availability, window)
    by_type = _by_type(sums, cached, totals, availability, window)
    timeline = by_resource.filter(pl.col("resource") == "nodes")
    timeline = finish(timeline, UsageTimeline, site)
    tables = {
        "usage_timeline": timeline,
        "usage_by_resource": finish(by_resource, UsageByResource, site),
        "usage_by_node_type": conform(by_type.with_columns(site=pl.lit(site)), UsageByNodeType),
        "comparison": compare_sites(timeline, site),
        "comparison_by_node_type": compare_node_types(
            by_type.filter(pl.col("resource") == "nodes"), timeline, site
        ),
        "usage_wide": _wide(by_resource, site),
    }
    if hosts is not None:
        by_hosts = pl.concat(_by_host(hosts, availability, window)).with_columns(site=pl.lit(site))
        tables["usage_by_host"] = conform(by_hosts, UsageByHost)
    return tables


def _by_resource(
    totals: dict[str, pl.DataFrame],
    cached: pl.DataFrame,
    availability: Availability,
    window: Window,
) -> pl.DataFrame:
    """Give the rows of usage_by_resource: every bucket of each state that is emitted.

    A state is emitted where the tables tell of its operands: null where they do not know. A
    resource that no host reports is left out.
    """
    timestamps = window.timestamps.select("timestamp")
    recorded = availability.buckets(window)
    totals = {
        resource: _every_bucket(frame.join(recorded, on="timestamp", how="semi"), timestamps)
        for resource, frame in totals.items()
    }
    rows = [
        _long(
            frame.filter(pl.col("collector_type") == collector).select(
                "collector_type", "timestamp", *names
            ),
            resource,
        )
        for resource, frame in totals.items()
        if resource == "nodes" or frame.select(pl.any_horizontal(pl.col(METRICS) > 0).any()).item()
        for collector in READINGS
        if (names := emitted(availability, collector))
    ]
    legacy = _every_bucket(
        cached.sort("node_type")  # sums of floats depend on their order
        .group_by("collector_type", "timestamp", "count_type", maintain_order=True)
        .agg(pl.col("value").sum())
        .pivot(on="count_type", index=["collector_type", "timestamp"], values="value"),
        timestamps,
    )
    return pl.concat([*rows, _long(legacy, "nodes")])


def _by_types(
    frame: pl.DataFrame, site: pl.DataFrame, availability: Availability, window: Window
) -> pl.DataFrame:
    """Give the states of node types, as far as the site's are known, of which they are parts.

    Args:
        frame: of ``mean_usage``, by node type.
        site: the site's states, of ``derive``.
        availability: what the site's tables can tell of.
        window: what they cover.
    """
    states = derive(frame.drop(UNCOUNTED, strict=False), availability).join(
        availability.buckets(window), on="timestamp", how="semi", maintain_order="left"
    )
    if not set(UNCOUNTED) & set(frame.columns):
        return states
    index = ["collector_type", "timestamp"]
    known = site.select(*index, *(pl.col(name).is_not_null().alias(f"_{name}") for name in METRICS))
    return (
        states.join(known, on=index, how="left", maintain_order="left")
        .with_columns(pl.when(f"_{name}").then(name).alias(name) for name in METRICS)
        .select(states.columns)
    )


def _by_host(
    sums: pl.DataFrame, availability: Availability, window: Window
) -> Iterator[pl.DataFrame]:
    """Give the rows of usage_by_host, as ``_series`` does, collector by collector."""
    types = _types(sums, window)
    hosts = mean_usage(sums, window, ["hostname"])["nodes"]
    hosts = hosts.join(
        availability.buckets(window), on="timestamp", how="semi", maintain_order="left"
    )
    for collector in READINGS:
        rows = derive(hosts.filter(pl.col("collector_type") == collector), availability)
        yield (
            _series(rows, "hostname")
            .join(types, on=["hostname", "timestamp"], how="left", maintain_order="left")
            .rename({"hostname": "hypervisor_hostname"})
        )


def _types(sums: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Give the type each host had for most of a bucket: hostname, timestamp, node_type."""
    held = pl.sum_horizontal(0, *(name for name in sums.columns if name.endswith("/nodes")))
    return (
        sums.select("hostname", "bucket", "node_type", _held=held)
        .sort("hostname", "bucket", "_held", "node_type")
        .unique(["hostname", "bucket"], keep="last", maintain_order=True)
        .join(window.timestamps, on="bucket")
        .select("hostname", "timestamp", "node_type")
    )


UNTYPED = "unknown"
"""The node type of hosts of which no row names one."""


def enumeration(*node_types: pl.Series) -> pl.Enum:
    """Enumerate node types in order: a type sorts and compares by its number then."""
    named = [names.unique().cast(pl.String) for names in node_types]
    return pl.Enum(pl.concat([*named, pl.Series([UNTYPED])]).drop_nulls().unique().sort())


def _every_bucket(frame: pl.DataFrame, timestamps: pl.DataFrame) -> pl.DataFrame:
    """Complete the rows of each collector to every bucket of the window."""
    grid = frame.select("collector_type").unique().join(timestamps, how="cross")
    return grid.join(frame, on=["collector_type", "timestamp"], how="left")


def _long(frame: pl.DataFrame, resource: str) -> pl.DataFrame:
    long = frame.unpivot(index=["collector_type", "timestamp"], variable_name="count_type")
    return long.with_columns(resource=pl.lit(resource))


def _by_type(
    sums: pl.DataFrame,
    cached: pl.DataFrame,
    totals: dict[str, pl.DataFrame],
    availability: Availability,
    window: Window,
) -> pl.DataFrame:
    """Give the rows of usage_by_node_type: the cached ones, then each reading's as ``_series``."""
    kinds = columns(UsageByNodeType)
    index = ["collector_type", "resource", "count_type", "node_type", "timestamp"]
    named = {name: kinds[name] for name in index[:3]}
    types = {
        resource: _by_types(frame, totals[resource], availability, window)
        for resource, frame in mean_usage(sums, window, ["node_type"]).items()
    }
    legacy = cached.with_columns(resource=pl.lit("nodes")).cast(named)  # type: ignore[arg-type]
    parts = [legacy.select(*index, "value").sort(index)]
    for collector in READINGS:
        for resource, frame in types.items():
            rows = _series(frame.filter(pl.col("collector_type") == collector), "node_type")
            rows = rows.with_columns(resource=pl.lit(resource)).cast(named)  # type: ignore[arg-type]
            parts.append(rows.select(*index, "value"))
    return pl.concat(parts)


def _series(frame: pl.DataFrame, thing: str) -> pl.DataFrame:
    """Give the values of a frame one below the other, where there are any.

    Args:
        frame: of ``derive``.
        thing: the column of hosts or node types; each has the count types that are ever more than
            0, at the times at which at least one is.

    Returns:
        the frame's index, ``count_type`` (by the registry's order, then as the frame's rows) and
        ``value``.
    """
    rows = frame.filter(pl.any_horizontal(pl.col(METRICS) != 0))
    index = [name for name in frame.columns if name not in METRICS]
    count_type = columns(UsageByNodeType)["count_type"]
    ever = rows.group_by(thing).agg((pl.col(METRICS) != 0).any())
    return pl.concat(
        rows.filter(
            pl.col(name).is_not_null(), pl.col(thing).is_in(ever.filter(name)[thing].implode())
        ).select(*index, pl.lit(name).cast(count_type).alias("count_type"), value=name)
        for name in METRICS
    )


def _wide(by_resource: pl.DataFrame, site: str) -> pl.DataFrame:
    """Give the corrected collector's measured types a column each, by the consumers' names."""
    rows = by_resource.filter(pl.col("collector_type") == "corrected").pivot(
        on="count_type", index=["timestamp", "resource"], values="value"
    )
    return finish(rows.rename({"timestamp": "time"} | WIDE_NAMES, strict=False), UsageWide, site)


# --- the collectors side by side ---------------------------------------------------------------

_COLLECTORS = ["legacy", "uncorrected", "corrected"]
_MOMENT = ["timestamp", "count_type"]


def compare_sites(timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Set the collectors' site values side by side.

    Args:
        timeline: models.outputs.UsageTimeline of one site.
        site: the site's key.

    Returns:
        models.outputs.Comparison, a row for each bucket and count type of any collector.
    """
    return _differences(_side_by_side(timeline, _MOMENT), Comparison, site)


def compare_node_types(rows: pl.DataFrame, timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Set the collectors' values of each node type side by side.

    A collector that has no row for a node type, while its site value is known, has none of that
    type.

    Args:
        rows: collector_type, count_type, node_type, timestamp and value, in nodes.
        timeline: models.outputs.UsageTimeline of the site.
        site: the site's key.

    Returns:
        models.outputs.ComparisonByNodeType, a row for each bucket, count type and node type of any
        collector.
    """
    wide = _side_by_side(rows, [*_MOMENT, "node_type"])
    none = _side_by_side(timeline, _MOMENT).with_columns(pl.col(_COLLECTORS) * 0)
    filled = wide.join(
        none, on=_MOMENT, how="left", suffix="_none", maintain_order="left"
    ).with_columns(pl.col(name).fill_null(pl.col(f"{name}_none")) for name in _COLLECTORS)
    return _differences(filled, ComparisonByNodeType, site)


def _side_by_side(rows: pl.DataFrame, index: list[str]) -> pl.DataFrame:
    """Give the collectors a column each, by joins: a pivot takes half as long again."""
    legacy, uncorrected, corrected = (
        rows.filter(pl.col("collector_type") == name).select(*index, pl.col("value").alias(name))
        for name in _COLLECTORS
    )
    either = legacy.join(uncorrected, on=index, how="full", coalesce=True)
    return either.join(corrected, on=index, how="full", coalesce=True).sort(index)


def _differences(wide: pl.DataFrame, schema: type[dy.Schema], site: str) -> pl.DataFrame:
    """Take the corrected count's distance to the legacy one."""
    difference = pl.col("corrected") - pl.col("legacy")
    relative = pl.when(pl.col("legacy") != 0).then(difference / pl.col("legacy"))
    return conform(
        wide.with_columns(site=pl.lit(site), difference=difference, relative_difference=relative),
        schema,
    )


# --- lead times -----------------------------------------------------------------------------------


def leadtime_tables(leases: pl.DataFrame, site: str) -> dict[str, pl.DataFrame]:
    """Make leadtime_leases, and leadtime_timeline with a point per request.

    Args:
        leases: Leases.
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
