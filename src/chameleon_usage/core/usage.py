"""Segments -> unit-seconds per bucket -> derived states -> the usage tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from chameleon_usage.core import engine
from chameleon_usage.ingest.legacy import REPORT_CACHE
from chameleon_usage.models.contract import dy
from chameleon_usage.models.domain import (
    Comparison,
    ComparisonByNodeType,
    Coverage,
    LeadtimeLeases,
    LeadtimeTimeline,
    UsageByHost,
    UsageByNodeType,
    UsageByResource,
    UsageTimeline,
    UsageWide,
)
from chameleon_usage.models.metrics import HOST_BY_HOST, MEASURED, METRICS, OPERANDS, RESOURCES

KNOWN_ENOUGH = 0.95
"""A site's value is published where at least this share of its host time is known."""

READINGS = ["uncorrected", "corrected"]
"""The collectors that read facts; the legacy one left its own means."""

_UNITS = {"nodes": "node_units"} | {name: name for name in RESOURCES if name != "nodes"}


@dataclass(frozen=True)
class Window:
    """The time the outputs cover, and their buckets (a Polars duration)."""

    start: datetime
    end: datetime
    bucket: str = "1d"

    @property
    def edges(self) -> pl.Series:
        """Borders of the buckets, both ends included."""
        return engine.bucket_edges(self.start, self.end, self.bucket)

    @property
    def timestamps(self) -> pl.DataFrame:
        """Bucket number, its start (UTC) and its length in seconds."""
        edges = self.edges
        return pl.DataFrame(
            {
                "bucket": pl.int_range(len(edges) - 1, eager=True),
                "timestamp": edges[:-1].dt.replace_time_zone("UTC"),
                "length": edges.dt.epoch("s").diff().drop_nulls(),
            }
        )


@dataclass(frozen=True)
class Known:
    """What the records of a site can speak of.

    Attributes:
        quantities: measured quantity types that some source of the site tells.
        completeness: quantity type to the share of its rows that are still there.
        as_of: the records end here; a bucket that reaches further is unknown.
    """

    quantities: frozenset[str]
    completeness: Mapping[str, float]
    as_of: datetime

    def buckets(self, window: Window) -> pl.DataFrame:
        """List the window's buckets that the records cover (``timestamp``)."""
        recorded = pl.lit(self.as_of).dt.epoch("s") - pl.col("timestamp").dt.epoch("s")
        return window.timestamps.filter(
            pl.min_horizontal(recorded, "length") >= KNOWN_ENOUGH * pl.col("length")
        ).select("timestamp")


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
    clipped = engine.clip(sized, window.start, window.end)
    index = ["collector_type", *by, "node_size"]
    borders = window.edges
    quantities = clipped.select(pl.col("quantity_type").unique().sort())
    sums = engine.integrate(
        clipped,
        borders,
        ["quantity_type", *index],
        list(columns.values()),
        groups=quantities.join(
            _extents(clipped, index, borders), how="cross", maintain_order="left_right"
        ),
    )
    height = sums.height // max(quantities.height, 1)
    return sums.select(*index, "bucket")[:height].hstack(
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
    whole = sums.group_by("collector_type", *by, "node_size", "bucket").agg(pl.col(values).sum())
    whole = whole.sort("collector_type", *by, "node_size", "bucket")
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
    timestamps = window.timestamps.select("timestamp")
    recorded = known.buckets(window)
    sums = unit_seconds(
        segments.with_columns(pl.col("node_type").fill_null(UNTYPED)), window, ["node_type"]
    )
    totals = {
        resource: _every_bucket(
            derive(frame, known).join(recorded, on="timestamp", how="semi"), timestamps
        )
        for resource, frame in mean_usage(sums, window).items()
    }
    types = {
        resource: derive(frame, known).join(
            recorded, on="timestamp", how="semi", maintain_order="left"
        )
        for resource, frame in mean_usage(sums, window, ["node_type"]).items()
    }
    cached = _legacy_usage(legacy, window)
    by_resource = pl.concat([_long(frame, resource=resource) for resource, frame in totals.items()])
    # A state is emitted where the records speak of its operands: null where they do not know. A
    # resource that no host tells is left out.
    told = by_resource.filter(pl.col("value") > 0).select("resource").unique()
    by_resource = by_resource.join(_emitted(known), on=["collector_type", "count_type"], how="semi")
    by_resource = by_resource.filter(
        (pl.col("resource") == "nodes") | pl.col("resource").is_in(told["resource"].implode())
    )
    legacy_totals = _every_bucket(
        cached.sort("node_type")  # sums of floats hang on their order
        .group_by("collector_type", "timestamp", "count_type", maintain_order=True)
        .agg(pl.col("value").sum())
        .pivot(on="count_type", index=["collector_type", "timestamp"], values="value"),
        timestamps,
    )
    by_resource = pl.concat([by_resource, _long(legacy_totals, resource="nodes")])
    by_type = _by_type(types, cached, site)
    timeline = by_resource.filter(pl.col("resource") == "nodes")
    tables = {
        "usage_timeline": _finish(timeline, UsageTimeline, site),
        "usage_by_resource": _finish(by_resource, UsageByResource, site),
        "usage_by_node_type": by_type,
        "comparison": _comparison(timeline, Comparison, site),
        "comparison_by_node_type": _comparison(
            by_type.filter(pl.col("resource") == "nodes").drop("site"),
            ComparisonByNodeType,
            site,
            known=timeline,
        ),
        "usage_wide": _wide(by_resource, site),
    }
    if by_host:
        host = ["hostname", "node_type"]
        named = segments.filter(pl.col("hostname").is_not_null())
        sums = unit_seconds(named, window, host, ["nodes"])
        hosts = mean_usage(sums, window, host)["nodes"]
        hosts = hosts.join(recorded, on="timestamp", how="semi")
        long = _present(_long(derive(hosts, known)))
        tables["usage_by_host"] = _finish(
            long.rename({"hostname": "hypervisor_hostname"}), UsageByHost, site
        )
    return tables


def _emitted(known: Known) -> pl.DataFrame:
    """List the count types of each reading whose operands the site's records speak of."""
    needs = {name: (name,) for name in MEASURED} | OPERANDS
    rows = [
        (collector, name)
        for collector in READINGS
        for name in METRICS
        if set(needs[name]) <= known.quantities
        and (collector == "corrected" or name not in HOST_BY_HOST)
    ]
    return pl.DataFrame(
        rows, schema={"collector_type": pl.String, "count_type": pl.String}, orient="row"
    )


UNTYPED = "unknown"
"""The node type of hosts of which no record tells one."""


def _every_bucket(frame: pl.DataFrame, timestamps: pl.DataFrame) -> pl.DataFrame:
    """Complete the rows of each collector to every bucket of the window."""
    grid = frame.select("collector_type").unique().join(timestamps, how="cross")
    return grid.join(frame, on=["collector_type", "timestamp"], how="left")


def _long(frame: pl.DataFrame, **constants: str) -> pl.DataFrame:
    index = [
        name
        for name in ("collector_type", "hostname", "node_type", "timestamp")
        if name in frame.columns
    ]
    return frame.unpivot(index=index, variable_name="count_type").with_columns(
        pl.lit(value).alias(name) for name, value in constants.items()
    )


def _by_type(types: Mapping[str, pl.DataFrame], cached: pl.DataFrame, site: str) -> pl.DataFrame:
    """Make usage_by_node_type: rows with a value, of count types that a node type ever has.

    Written series by series, in order as they come: sorting millions of rows costs more than
    making them.
    """
    codes = UsageByNodeType.create_empty().schema
    present = pl.any_horizontal(pl.col(name) != 0 for name in METRICS)
    parts = [
        cached.filter(pl.col("count_type") == count_type)
        .sort("node_type", "timestamp")
        .select(
            *_constants(codes, site, "legacy", count_type, "nodes"),
            "timestamp",
            "node_type",
            "value",
        )
        .select(codes.names())
        for count_type in METRICS
    ]
    for collector in READINGS:
        for resource, frame in types.items():
            rows = frame.filter((pl.col("collector_type") == collector) & present)
            ever = rows.group_by("node_type").agg((pl.col(name) != 0).any() for name in METRICS)
            for count_type in METRICS:
                having = ever.filter(pl.col(count_type))["node_type"]
                part = rows.select("timestamp", "node_type", value=count_type)
                if having.len() < ever.height:
                    part = part.filter(pl.col("node_type").is_in(having.implode()))
                part = part.drop_nulls("value")
                constants = _constants(codes, site, collector, count_type, resource)
                parts.append(part.with_columns(constants).select(codes.names()))
    return pl.concat(parts)


def _constants(
    codes: pl.Schema, site: str, collector: str, count_type: str, resource: str
) -> list[pl.Expr]:
    values = {
        "site": site,
        "collector_type": collector,
        "count_type": count_type,
        "resource": resource,
    }
    return [pl.lit(value, dtype=codes[name]).alias(name) for name, value in values.items()]


def _present(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep rows with a value, of hosts and times at which the host has any."""
    group = ["collector_type", "hostname", "node_type", "timestamp"]
    told = rows.filter(pl.col("value").is_not_null())
    some = told.filter(pl.col("value") != 0).select(group).unique()
    return told.join(some, on=group, how="semi", nulls_equal=True)


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


def _finish(rows: pl.DataFrame, schema: type[dy.Schema], site: str) -> pl.DataFrame:
    """Bring rows to an output's columns, types and order."""
    kinds = schema.create_empty().schema
    finished = rows.with_columns(site=pl.lit(site)).select(
        pl.col(name).cast(kind) for name, kind in kinds.items()
    )
    # A whole site has one name.
    key = [name for name in schema.primary_key() if name != "site"]
    return finished[_number(finished, key).arg_sort()]


def _number(rows: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Number rows as their key orders them, so that they sort and compare by one integer."""
    number = pl.zeros(rows.height, pl.Int64, eager=True)
    for name in key:
        values = rows[name]
        if isinstance(values.dtype, pl.Enum):
            codes, count = values.to_physical(), len(values.dtype.categories)
        else:
            distinct = values.unique().sort()
            codes, count = distinct.search_sorted(values), distinct.len()
        number = number * count + codes.cast(pl.Int64)
    return number


def _comparison(
    rows: pl.DataFrame, schema: type[dy.Schema], site: str, *, known: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Join the three collectors on their keys, and take the corrected one's distance to legacy.

    With ``known`` (the site's own series) a collector that has no row for a node type, while its
    site value is known, has none of that type.
    """
    readings = ("legacy", "uncorrected", "corrected")
    index = [name for name in ("timestamp", "count_type", "node_type") if name in rows.columns]
    number = _number(rows, index)
    keys = rows.select(index).with_columns(_key=number).unique("_key")
    for name in readings:
        mine = rows["collector_type"] == name
        told = pl.DataFrame({"_key": number.filter(mine), name: rows["value"].filter(mine)})
        keys = keys.join(told, on="_key", how="left")
    if known is not None:
        none = (
            known.filter(pl.col("value").is_not_null())
            .with_columns(pl.col("count_type").cast(keys["count_type"].dtype), value=pl.lit(0.0))
            .pivot(on="collector_type", index=["timestamp", "count_type"], values="value")
        )
        keys = keys.join(none, on=["timestamp", "count_type"], how="left", suffix="_none")
        keys = keys.with_columns(
            pl.coalesce(name, f"{name}_none").alias(name)
            for name in readings
            if name in none.columns
        )
    wide = keys.with_columns(difference=pl.col("corrected") - pl.col("legacy"))
    relative = pl.when(pl.col("legacy") != 0).then(pl.col("difference") / pl.col("legacy"))
    return _finish(wide.with_columns(relative_difference=relative), schema, site)


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
    return _finish(rows.select(**told), UsageWide, site)


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
        "leadtime_leases": _finish(stamped, LeadtimeLeases, site),
        "leadtime_timeline": _finish(points, LeadtimeTimeline, site),
    }


def borne_out_by_caches(timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Tell how much of the corrected count the caches of the time bear out: a bound from outside.

    The caches name no host, so they cannot speak for one; but more nodes than they counted need
    another witness.

    Args:
        timeline: usage_timeline.
        site: the site's key.

    Returns:
        domain.Coverage, of the buckets that both collectors know.
    """
    legacy, corrected = pl.col("legacy"), pl.col("corrected")
    return _finish(
        timeline.filter(pl.col("count_type").is_in(["total", "reservable", "committed"]))
        .pivot(
            on="collector_type",
            on_columns=["legacy", "corrected"],
            index=["timestamp", "count_type"],
            values="value",
        )
        .filter(legacy.is_not_null() & (corrected > 0))
        .with_columns(
            quantity_type="count_type",
            source=pl.lit(REPORT_CACHE),
            known_share=pl.min_horizontal(legacy / corrected, 1.0),
        ),
        Coverage,
        site,
    )


SEEN = ["total", "reservable", "committed", "occupied_reservation"]
"""Quantities of which coverage says how much was seen, and how much inferred."""


def coverage_table(
    segments: pl.DataFrame, bearing: pl.DataFrame, known: Known, window: Window, site: str
) -> pl.DataFrame:
    """Tell how much of the published host time each source's own records bear out.

    And how much of it is ``seen``, by a record of the first source that knows the host, and how
    much ``inferred``.

    Args:
        segments: domain.Segments.
        bearing: quantity_type, source, hostname, start, end: each source's own presences, disjoint
            per host and source, within what is published.
        known: what the records can speak of.
        window: the time to cover.
        site: the site's key.

    Returns:
        domain.Coverage; null where nothing is published.
    """
    timestamps = window.timestamps
    one = pl.lit(1, pl.Int64).alias("held")
    published = segments.filter(
        (pl.col("collector_type") == "corrected") & pl.col("quantity_type").is_in(SEEN)
    )
    hosts = published.filter(pl.col("quantity_type").is_in(["total", "reservable"]))
    # A sum of slices is not the word of one record: of such a quantity nothing is told.
    sliced = published.filter(pl.col("node_size") > 1).join(hosts, on="quantity_type", how="anti")
    whole = published.join(sliced, on="quantity_type", how="anti")

    def hours(frame: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        counted = frame.select(*by, "start", "end", one)
        return engine.integrate(
            engine.clip(counted, window.start, window.end), window.edges, by, ["held"]
        )

    def share(own: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
        return (
            hours(own, ["quantity_type", "source"])
            .join(
                hours(published, ["quantity_type"]),
                on=["quantity_type", "bucket"],
                suffix="_published",
            )
            .join(timestamps, on="bucket")
            .with_columns(
                known_share=pl.when(pl.col("held_published") > 0).then(
                    pl.col("held") / pl.col("held_published")
                )
            )
        )

    seen = pl.when("inferred").then(pl.lit("inferred")).otherwise(pl.lit("seen"))
    shares = [share(bearing, hosts), share(whole.with_columns(source=seen), whole)]
    told = [
        timestamps.select(
            "timestamp", quantity_type=pl.lit(quantity), known_share=pl.lit(value)
        ).with_columns(source=pl.lit("records"))
        for quantity, value in sorted(known.completeness.items())
    ]
    columns = ["timestamp", "quantity_type", "source", "known_share"]
    return _finish(pl.concat([frame.select(columns) for frame in (*shares, *told)]), Coverage, site)
