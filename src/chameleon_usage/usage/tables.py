"""The usage tables of a site: means and states, laid out as their contracts say."""

from collections.abc import Iterator

import polars as pl

from chameleon_usage.models.frames import columns, conform, finish
from chameleon_usage.models.metrics import METRICS, WIDE_NAMES
from chameleon_usage.models.outputs import (
    UsageByHost,
    UsageByNodeType,
    UsageByResource,
    UsageTimeline,
    UsageWide,
)
from chameleon_usage.usage import comparison
from chameleon_usage.usage.buckets import READINGS, legacy_means, mean_usage, unit_seconds
from chameleon_usage.usage.states import derive, emitted
from chameleon_usage.usage.window import Known, Window


def usage_tables(
    segments: pl.DataFrame,
    legacy: pl.DataFrame,
    known: Known,
    window: Window,
    site: str,
    *,
    by_host: bool = False,
) -> dict[str, pl.DataFrame]:
    """Make every usage table of one site.

    Args:
        segments: models.stages.Segments of the uncorrected and corrected collectors.
        legacy: models.stages.Legacy.
        known: what the records can speak of.
        window: the time to cover and its buckets.
        site: the site's key.
        by_host: make usage_by_host, too.

    Returns:
        table name to frame, each as its output contract says. The tables by node type and by host
        are in the order of their series: millions of rows take longer to sort than to make.
    """
    node_types = _node_types(segments, legacy)
    sums = unit_seconds(
        segments.with_columns(pl.col("node_type").cast(node_types).fill_null(UNTYPED)),
        window,
        ["node_type"],
    )
    cached = legacy_means(legacy.with_columns(pl.col("node_type").cast(node_types)), window)
    by_resource = _by_resource(sums, cached, known, window)
    by_type = _by_type(sums, cached, known, window)
    timeline = by_resource.filter(pl.col("resource") == "nodes")
    timeline = finish(timeline, UsageTimeline, site)
    tables = {
        "usage_timeline": timeline,
        "usage_by_resource": finish(by_resource, UsageByResource, site),
        "usage_by_node_type": conform(by_type.with_columns(site=pl.lit(site)), UsageByNodeType),
        "comparison": comparison.of_site(timeline, site),
        "comparison_by_node_type": comparison.of_node_types(
            by_type.filter(pl.col("resource") == "nodes"), timeline, site
        ),
        "usage_wide": _wide(by_resource, site),
    }
    if by_host:
        by_hosts = pl.concat(_by_host(segments, known, window)).with_columns(site=pl.lit(site))
        tables["usage_by_host"] = conform(by_hosts, UsageByHost)
    return tables


def _by_resource(
    sums: pl.DataFrame, cached: pl.DataFrame, known: Known, window: Window
) -> pl.DataFrame:
    """Give the rows of usage_by_resource: every bucket of each state that is emitted.

    A state is emitted where the records speak of its operands: null where they do not know. A
    resource that no host reports is left out.
    """
    timestamps = window.timestamps.select("timestamp")
    recorded = known.buckets(window)
    totals = {
        resource: _every_bucket(
            derive(frame, known).join(recorded, on="timestamp", how="semi"), timestamps
        )
        for resource, frame in mean_usage(sums, window).items()
    }
    rows = [
        _long(
            frame.filter(pl.col("collector_type") == collector).select(
                "collector_type", "timestamp", *emitted(known, collector)
            ),
            resource,
        )
        for resource, frame in totals.items()
        if resource == "nodes" or frame.select(pl.any_horizontal(pl.col(METRICS) > 0).any()).item()
        for collector in READINGS
    ]
    legacy = _every_bucket(
        cached.sort("node_type")  # sums of floats hang on their order
        .group_by("collector_type", "timestamp", "count_type", maintain_order=True)
        .agg(pl.col("value").sum())
        .pivot(on="count_type", index=["collector_type", "timestamp"], values="value"),
        timestamps,
    )
    return pl.concat([*rows, _long(legacy, "nodes")])


def _by_host(segments: pl.DataFrame, known: Known, window: Window) -> Iterator[pl.DataFrame]:
    """Give the rows of usage_by_host, as ``_series`` does, collector by collector."""
    named = segments.filter(pl.col("hostname").is_not_null())
    sums = unit_seconds(named, window, ["hostname", "node_type"], ["nodes"])
    types = _types(sums, window)
    hosts = mean_usage(sums, window, ["hostname"])["nodes"]
    hosts = hosts.join(known.buckets(window), on="timestamp", how="semi", maintain_order="left")
    for collector in READINGS:
        rows = derive(hosts.filter(pl.col("collector_type") == collector), known)
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
"""The node type of hosts of which no record names one."""


def _node_types(segments: pl.DataFrame, legacy: pl.DataFrame) -> pl.Enum:
    """Enumerate the node types in order: a type sorts and compares by its number then."""
    named = [frame["node_type"].unique().cast(pl.String) for frame in (segments, legacy)]
    return pl.Enum(pl.concat([*named, pl.Series([UNTYPED])]).drop_nulls().unique().sort())


def _every_bucket(frame: pl.DataFrame, timestamps: pl.DataFrame) -> pl.DataFrame:
    """Complete the rows of each collector to every bucket of the window."""
    grid = frame.select("collector_type").unique().join(timestamps, how="cross")
    return grid.join(frame, on=["collector_type", "timestamp"], how="left")


def _long(frame: pl.DataFrame, resource: str) -> pl.DataFrame:
    long = frame.unpivot(index=["collector_type", "timestamp"], variable_name="count_type")
    return long.with_columns(resource=pl.lit(resource))


def _by_type(
    sums: pl.DataFrame, cached: pl.DataFrame, known: Known, window: Window
) -> pl.DataFrame:
    """Give the rows of usage_by_node_type: the cached ones, then each reading's as ``_series``."""
    kinds = columns(UsageByNodeType)
    index = ["collector_type", "resource", "count_type", "node_type", "timestamp"]
    named = {name: kinds[name] for name in index[:3]}
    recorded = known.buckets(window)
    types = {
        resource: derive(frame, known).join(
            recorded, on="timestamp", how="semi", maintain_order="left"
        )
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
        thing: a host or a node type; it has the count types that it ever has any of, at the times
            at which it has any of any.

    Returns:
        the frame's index, ``count_type`` (by the registry's order, then as the frame's rows) and
        ``value``.
    """
    rows = frame.filter(pl.any_horizontal(pl.col(METRICS) != 0))
    index = [name for name in frame.columns if name not in METRICS]
    count_type = columns(UsageByNodeType)["count_type"]
    return pl.concat(
        rows.select(
            *index,
            pl.lit(name).cast(count_type).alias("count_type"),
            pl.when((pl.col(name) != 0).any().over(thing)).then(name).alias("value"),
        ).drop_nulls("value")
        for name in METRICS
    )


def _wide(by_resource: pl.DataFrame, site: str) -> pl.DataFrame:
    """Give the corrected collector's measured types a column each, by the consumers' names."""
    rows = by_resource.filter(pl.col("collector_type") == "corrected").pivot(
        on="count_type", index=["timestamp", "resource"], values="value"
    )
    return finish(rows.rename({"timestamp": "time"} | WIDE_NAMES, strict=False), UsageWide, site)
