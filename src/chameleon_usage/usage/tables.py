"""Segments -> unit-seconds per bucket -> derived states -> the usage tables."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl

from chameleon_usage.intervals import arithmetic, keys
from chameleon_usage.models.frames import columns, dy
from chameleon_usage.models.metrics import HOST_BY_HOST, MEASURED, METRICS, OPERANDS, RESOURCES
from chameleon_usage.models.outputs import (
    UsageByHost,
    UsageByNodeType,
    UsageByResource,
    UsageTimeline,
    UsageWide,
)
from chameleon_usage.parallel import side_by_side
from chameleon_usage.usage import comparison
from chameleon_usage.usage.grid import Grid, finish
from chameleon_usage.usage.window import KNOWN_ENOUGH, Known, Window

READINGS = ["uncorrected", "corrected"]
"""The collectors that read facts; the legacy one left its own means."""

_UNITS = {"nodes": "node_units"} | {name: name for name in RESOURCES if name != "nodes"}


def unit_seconds(
    segments: pl.DataFrame,
    window: Window,
    by: Sequence[str],
    resources: Sequence[str] = tuple(RESOURCES),
) -> pl.DataFrame:
    """Integrate segments over buckets, side by side for every quantity type and resource.

    Args:
        segments: domain.Segments.
        window: what to cover.
        by: further group columns of the segments, as ``node_type``.
        resources: which of the metric registry's.

    Returns:
        ``collector_type``, ``by``, ``node_size``, ``bucket``, sorted, from the first to the last
        bucket of a group; and for each quantity type that occurs the columns
        ``<quantity_type>/<resource>``, in unit-seconds (Int64), and, where some hosts do not tell
        a resource, ``<quantity_type>/told_<resource>``: the unit-seconds of the hosts that do.
    """
    units = {resource: _UNITS[resource] for resource in resources}
    silent = [name for name in units.values() if segments[name].null_count()]
    sized = segments.with_columns(
        # Node time of the hosts that tell a resource: unknown is not zero.
        pl.when(pl.col(name).is_not_null()).then("node_units").otherwise(0).alias(f"told_{name}")
        for name in silent
    ).with_columns(pl.col(silent).fill_null(0))
    columns = units | {f"told_{name}": f"told_{name}" for name in silent}
    clipped = arithmetic.clip(sized, window.start, window.end)
    index = ["collector_type", *by, "node_size"]
    borders = window.edges
    quantities = clipped.select(pl.col("quantity_type").unique().sort())
    sums = arithmetic.integrate(
        clipped,
        borders,
        ["quantity_type", *index],
        list(columns.values()),
        groups=quantities.join(
            _extents(clipped, index, borders), how="cross", maintain_order="left_right"
        ),
    )
    height = sums.height // max(quantities.height, 1)
    collector = pl.col("collector_type").cast(pl.String)
    return sums.select(collector, *by, "node_size", "bucket")[:height].hstack(
        [
            sums[unit].slice(number * height, height).alias(f"{quantity}/{name}")
            for number, quantity in enumerate(quantities["quantity_type"])
            for name, unit in columns.items()
        ]
    )


def _extents(segments: pl.DataFrame, index: Sequence[str], edges: pl.Series) -> pl.DataFrame:
    """Give the ``first`` and ``last`` bucket of every group that occurs, sorted."""
    groups = segments.group_by(index).agg(pl.col("start").min(), pl.col("end").max()).sort(index)
    return groups.select(
        *index,
        first=edges.search_sorted(groups["start"], side="right").cast(pl.Int64) - 1,
        last=edges.search_sorted(groups["end"], side="left").cast(pl.Int64) - 1,
    )


def mean_usage(
    sums: pl.DataFrame, window: Window, by: Sequence[str] = ()
) -> dict[str, pl.DataFrame]:
    """Turn unit-seconds into means over buckets, by resource.

    Args:
        sums: of ``unit_seconds``; what it has beyond ``by`` is added up.
        window: what they cover.
        by: the group columns to keep.

    Returns:
        resource to a frame with ``collector_type``, ``by``, ``timestamp`` and a column for each
        quantity type that occurs: units (nodes, vcpus, ...), time-weighted mean. A resource that
        a group's hosts do not tell is null where less than 95 % of its node time is told. Without
        ``by``, every bucket of both collectors.
    """
    index = ["collector_type", *by, "bucket"]
    values = [name for name in sums.columns if "/" in name]
    groups = ["collector_type", *by, "node_size", "bucket"]
    whole = sums  # one row for each group already, unless there are other columns
    if set(groups) < set(sums.columns) - set(values):
        whole = sums.group_by(groups).agg(pl.col(values).sum()).sort(groups)
    per_node = [name for name in values if name.endswith("/nodes") or "/told_" in name]
    means = whole.with_columns(pl.col(per_node) / pl.col("node_size"))
    if whole["node_size"].n_unique() > 1:
        # Hosts of different sizes: their shares of a node are added up, in order of size.
        means = means.group_by(index, maintain_order=True).agg(pl.col(values).sum()).sort(index)
    if not by:
        # A collector that found nothing at all still says so, bucket by bucket.
        every = pl.DataFrame({"collector_type": READINGS}).join(
            window.timestamps.select("bucket"), how="cross"
        )
        means = every.join(means, on=index, how="left", maintain_order="left").with_columns(
            pl.col(values).fill_null(0)
        )
    means = means.join(window.timestamps, on="bucket", maintain_order="left")
    quantities = sorted({name.split("/")[0] for name in values})
    told_of = [name for name in RESOURCES if any(v.endswith(f"/{name}") for v in values)]
    resources = told_of or list(RESOURCES)

    def mean(quantity: str, resource: str) -> pl.Expr:
        value = pl.col(f"{quantity}/{resource}") / pl.col("length")
        told = f"{quantity}/told_{resource}"
        if told not in values:
            return value.alias(quantity)
        enough = pl.col(told) >= KNOWN_ENOUGH * pl.col(f"{quantity}/nodes")
        return pl.when(enough).then(value).alias(quantity)

    return {
        resource: means.select(
            "collector_type",
            *by,
            "timestamp",
            *(mean(quantity, resource) for quantity in quantities),
        )
        for resource in resources
    }


def derive(means: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Add the derived states, and blank what is not known.

    Args:
        means: one frame of ``mean_usage``.
        known: what the records can speak of.

    Returns:
        the same rows with every count type of the metric registry; null where an operand is
        unknown. The partition's maintenance, unknown and on-demand states are the corrected
        collector's alone: the others have no host-by-host reading to take them from.
    """
    corrected = pl.col("collector_type") == "corrected"

    def column(name: str) -> pl.Expr:
        return pl.col(name) if name in means.columns else pl.lit(0.0)

    def measured(name: str) -> pl.Expr:
        """A quantity that the records speak of and that has no segment is none, not unknown."""
        if name not in known.quantities:
            return pl.lit(None, pl.Float64)
        if known.completeness.get(name, 1.0) < KNOWN_ENOUGH:
            return pl.when(~corrected).then(column(name))
        return column(name)

    def part(name: str) -> pl.Expr:
        return pl.when(corrected & measured("reservable").is_not_null()).then(column(name))

    col = pl.col
    index = [
        name
        for name in ("collector_type", "node_type", "hostname", "timestamp")
        if name in means.columns
    ]
    return (
        means.select(
            *index,
            *(measured(name).alias(name) for name in MEASURED),
            unknown=part("unknown"),
            ondemand_capacity=part("ondemand_capacity"),
            maintenance=part("maintenance_out_of_pool")
            + part("maintenance_in_pool")
            + part("maintenance_ondemand"),
            _in_pool=(part("maintenance_in_pool") + part("occupied_ondemand_in_pool")).fill_null(
                0.0
            ),
            _beside=part("occupied_ondemand_in_pool").fill_null(0.0),
            _ondemand=part("maintenance_ondemand"),
        )
        .with_columns(
            occupied=col("occupied_reservation") + col("occupied_ondemand"),
            active=col("active_reservation") + col("active_ondemand"),
            available=col("reservable") - col("committed") - col("_in_pool"),
            idle=col("committed") - col("occupied_reservation"),
            available_ondemand=col("ondemand_capacity")
            - (col("occupied_ondemand") - col("_beside"))
            - col("_ondemand"),
        )
        .with_columns(stopped=col("occupied") - col("active"))
        .select(*index, *METRICS)
    )


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
        segments: domain.Segments of the uncorrected and corrected collectors.
        legacy: domain.Legacy.
        known: what the records can speak of.
        window: the time to cover and its buckets.
        site: the site's key.
        by_host: make usage_by_host, too.

    Returns:
        table name to frame, each as its output contract says.
    """
    node_types = _node_types(segments, legacy)
    sums = unit_seconds(
        segments.with_columns(pl.col("node_type").cast(node_types).fill_null(UNTYPED)),
        window,
        ["node_type"],
    )
    cached = _legacy_usage(legacy.with_columns(pl.col("node_type").cast(node_types)), window)
    by_resource, by_type = side_by_side(
        partial(make, sums, cached, known, window) for make in (_by_resource, _by_type)
    )
    timeline = by_resource.filter(pl.col("resource") == "nodes")
    timeline = finish(timeline, UsageTimeline, site)
    tables = {
        "usage_timeline": timeline,
        "usage_by_resource": finish(by_resource, UsageByResource, site),
        "usage_by_node_type": _as_told(by_type, UsageByNodeType, site),
        "comparison": comparison.of_site(timeline, site),
        "comparison_by_node_type": comparison.of_node_types(
            by_type.filter(pl.col("resource") == "nodes"), timeline, site
        ),
        "usage_wide": _wide(by_resource, site),
    }
    if by_host:
        by_hosts = pl.concat(_by_host(segments, known, window))
        tables["usage_by_host"] = _as_told(by_hosts, UsageByHost, site)
    return tables


def _by_resource(
    sums: pl.DataFrame, cached: pl.DataFrame, known: Known, window: Window
) -> pl.DataFrame:
    """Give the rows of usage_by_resource: every bucket of each state that is emitted.

    A state is emitted where the records speak of its operands: null where they do not know. A
    resource that no host tells is left out.
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
                "collector_type", "timestamp", *names
            ),
            resource,
        )
        for resource, frame in totals.items()
        if resource == "nodes" or frame.select(pl.any_horizontal(pl.col(METRICS) > 0).any()).item()
        for collector, names in _emitted(known).items()
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
    """Give the rows of usage_by_host, as ``_told`` does, collector by collector."""
    named = segments.filter(pl.col("hostname").is_not_null())
    sums = unit_seconds(named, window, ["hostname", "node_type"], ["nodes"])
    types = _types(sums, window)
    hosts = mean_usage(sums, window, ["hostname"])["nodes"]
    hosts = hosts.join(known.buckets(window), on="timestamp", how="semi", maintain_order="left")
    for collector in READINGS:
        rows = derive(hosts.filter(pl.col("collector_type") == collector), known)
        yield (
            _told(rows, "hostname")
            .join(types, on=["hostname", "timestamp"], how="left", maintain_order="left")
            .rename({"hostname": "hypervisor_hostname"})
        )


def _as_told(rows: pl.DataFrame, schema: type[dy.Schema], site: str) -> pl.DataFrame:
    """Bring rows to an output's columns and types, in the order they have.

    That is series by series: by time, millions of rows would take longer to sort than to make.
    """
    return rows.select(
        (pl.lit(site) if name == "site" else pl.col(name)).cast(kind).alias(name)
        for name, kind in columns(schema).items()
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


def _emitted(known: Known) -> dict[str, list[str]]:
    """List the count types of each reading whose operands the site's records speak of."""
    needs = {name: (name,) for name in MEASURED} | OPERANDS
    return {
        collector: [
            name
            for name in METRICS
            if set(needs[name]) <= known.quantities
            and (collector == "corrected" or name not in HOST_BY_HOST)
        ]
        for collector in READINGS
    }


UNTYPED = "unknown"
"""The node type of hosts of which no record tells one."""


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
    """Give the rows of usage_by_node_type: the cached ones, then each reading's as ``_told``."""
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
    order = keys.ascending(Grid.of(legacy, index).places(legacy))
    parts = [legacy.select(*index, "value")[order]]
    for collector in READINGS:
        for resource, frame in types.items():
            rows = _told(frame.filter(pl.col("collector_type") == collector), "node_type")
            told = rows.with_columns(resource=pl.lit(resource)).cast(named)  # type: ignore[arg-type]
            parts.append(told.select(*index, "value"))
    return pl.concat(parts)


def _told(frame: pl.DataFrame, thing: str) -> pl.DataFrame:
    """Give the values of a frame one below the other, where there are any.

    Args:
        frame: of ``derive``, sorted by ``thing`` and time.
        thing: a host or a node type; it has the count types that it ever has any of, at the times
            at which it has any of any.

    Returns:
        the frame's index, ``count_type`` (by the registry's order, then as the frame's rows) and
        ``value``.
    """
    rows = frame.filter(pl.any_horizontal(pl.col(name) != 0 for name in METRICS))
    values = np.stack([rows[name].to_numpy() for name in METRICS])
    known = ~np.isnan(values)
    if rows.height:
        blocks = keys.begins(rows[thing].to_physical().cast(pl.Int64).to_numpy())
        some = known & (values != 0)
        ever = np.logical_or.reduceat(some, np.flatnonzero(blocks), axis=1)
        known &= ever[:, np.cumsum(blocks) - 1]
    count_type, row = np.nonzero(known)
    number = pl.Series("count_type", count_type.astype(np.uint8))
    return rows.drop(METRICS)[row].with_columns(
        number.cat.to(columns(UsageByNodeType)["count_type"]), pl.Series("value", values[known])
    )


def _legacy_usage(legacy: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Bring the daily caches to the window's buckets.

    The mean of the cached days that lie in a bucket whole; none where these are less than 95 % of
    it, and so none in buckets shorter than a day. A type that a cached day does not list had none.
    """
    edges = window.edges.dt.epoch("s")
    days = legacy.select("timestamp").unique().sort("timestamp")
    begin = days["timestamp"].dt.epoch("s")
    inside = days.with_columns(
        bucket=edges.search_sorted(begin, side="right").cast(pl.Int64) - 1,
        last=edges.search_sorted(begin + 86400 - 1, side="right").cast(pl.Int64) - 1,
    ).filter(pl.col("bucket") == pl.col("last"))
    cached = (
        inside.join(window.timestamps, on="bucket", suffix="_bucket")
        .with_columns(days=pl.len().over("bucket"))
        .filter(pl.col("days") * 86400 >= KNOWN_ENOUGH * pl.col("length"))
    )
    return (
        legacy.join(cached, on="timestamp")
        .sort("timestamp")
        .group_by("node_type", "count_type", "timestamp_bucket", maintain_order=True)
        .agg(value=pl.col("value").sum() / pl.col("days").first())
        .select(
            "node_type",
            "count_type",
            "value",
            collector_type=pl.lit("legacy"),
            timestamp="timestamp_bucket",
        )
    )


def _wide(by_resource: pl.DataFrame, site: str) -> pl.DataFrame:
    """Give the corrected collector's measured types a column each, by the consumers' names."""
    rows = by_resource.filter(pl.col("collector_type") == "corrected").pivot(
        on="count_type", index=["timestamp", "resource"], values="value"
    )
    names = {
        "time": "timestamp",
        "occupied_reserved": "occupied_reservation",
        "active_reserved": "active_reservation",
    }
    told = {
        name: pl.col(names.get(name, name))
        if names.get(name, name) in rows.columns
        else pl.lit(None, pl.Float64)
        for name in UsageWide.column_names()
        if name != "site"
    }
    return finish(rows.select(**told), UsageWide, site)
