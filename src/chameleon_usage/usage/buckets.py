"""Segments -> unit-seconds per bucket -> means -> every count type of the metric registry."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial

import numpy as np
import polars as pl

from chameleon_usage.intervals import arithmetic, keys
from chameleon_usage.intervals.sorting import Numbers
from chameleon_usage.models.metrics import (
    DERIVED,
    HOST_BY_HOST,
    IN_POOL,
    KNOWN_SHARE,
    MEASURED,
    METRICS,
    OF_STATUS,
    RESOURCES,
    STATUS,
    UNCOUNTED,
    needs,
)


@dataclass(frozen=True)
class Window:
    """The time the outputs cover, and their buckets (a Polars duration)."""

    start: datetime
    end: datetime
    bucket: str = "1d"

    @cached_property
    def edges(self) -> pl.Series:
        """Borders of the buckets, both ends included."""
        return arithmetic.bucket_edges(self.start, self.end, self.bucket)

    @cached_property
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
class Period:
    """The time that is asked for; what is None is as far as the tables reach."""

    start: datetime | None = None
    end: datetime | None = None
    bucket: str = "1d"


@dataclass(frozen=True)
class Availability:
    """What the tables of a site can tell of.

    Attributes:
        quantities: measured quantity types that some source of the site tells, ``STATUS`` and
            ``SCHEDULE``.
        completeness: quantity type to the share of its rows that are still there.
        as_of: when they were read; a bucket that reaches further is unknown.
        known_share: what is known to a smaller share is unknown.
    """

    quantities: frozenset[str]
    completeness: Mapping[str, float]
    as_of: datetime
    known_share: float = KNOWN_SHARE

    def buckets(self, window: Window) -> pl.DataFrame:
        """List the window's buckets that the tables cover (``timestamp``)."""
        recorded = pl.lit(self.as_of).dt.epoch("s") - pl.col("timestamp").dt.epoch("s")
        return window.timestamps.filter(
            pl.min_horizontal(recorded, "length") >= self.known_share * pl.col("length")
        ).select("timestamp")


READINGS = ["uncorrected", "corrected"]
"""The collectors that read intervals; the legacy one left its own means."""

_UNITS = {"nodes": "node_units"} | {name: name for name in RESOURCES if name != "nodes"}


def unit_seconds(
    segments: pl.DataFrame,
    window: Window,
    by: Sequence[str],
    resources: Sequence[str] = tuple(RESOURCES),
) -> pl.DataFrame:
    """Integrate segments over buckets, side by side for every quantity type.

    What holds whole nodes holds as many units of each resource as its nodes have: it is counted
    size by size, once for all resources. Slices have more sizes than there are resources: these
    are counted one by one.

    Args:
        segments: models.stages.Segments.
        window: what to cover.
        by: further group columns of the segments, as ``node_type``.
        resources: which of the metric registry's, ``nodes`` among them.

    Returns:
        ``collector_type``, ``by``, ``node_size``; ``resources``: how many units (of nodes,
        1/``node_size``) each one counted has, null where its host does not report them; ``bucket``,
        from the first to the last of such a group, which is sorted; and for each quantity type that
        occurs, by its name, the seconds for which one was there, added up (Int64).
    """
    index = ["collector_type", *by, "node_size"]
    groups = [*index, *resources]
    rows = segments.select(
        "quantity_type", "start", "end", *index, **{name: _UNITS[name] for name in resources}
    )
    within = pl.col("start") < window.end, pl.col("end") > window.start
    spans = pl.col("start").min(), pl.col("end").max()
    sizes = rows.lazy().filter(within).group_by(groups).agg(spans).collect()
    sliced, one = pl.len().over(index) > len(resources), pl.lit(1, pl.Int64)
    whole, slices = sizes.filter(~sliced), sizes.filter(sliced)
    sums = [_integrated(rows, whole, whole.select(groups), window, {"one": one})["one"]]
    if slices.height:
        # What a host does not report is told of its nodes; all else is counted, not told.
        untold = slices.select(*index, pl.col(resources) * 0)
        units = {name: pl.col(name).fill_null(0) for name in resources}
        counted = _integrated(rows, slices, untold, window, units)
        sums.append(counted.pop("nodes").with_columns(nodes=one))
        for resource, of in counted.items():
            unit = {name: pl.lit(int(name == resource), pl.Int64) for name in resources}
            sums.append(of.with_columns(**unit))
        sums = [pl.concat(sums, how="diagonal").with_columns(pl.exclude(groups).fill_null(0))]
    return sums[0]


def _integrated(
    rows: pl.DataFrame,
    sizes: pl.DataFrame,
    told: pl.DataFrame,
    window: Window,
    units: Mapping[str, pl.Expr],
) -> dict[str, pl.DataFrame]:
    """Integrate units over buckets: to the name of each, the sums as ``unit_seconds`` gives them.

    Args:
        rows: with ``quantity_type``, ``start``, ``end`` and the columns of ``told``.
        sizes: which of these to count: values of the columns of ``told``, and from which ``start``
            to which ``end`` there are any.
        told: what to write for each of the sizes.
        window: what to cover.
        units: what to integrate.
    """
    groups, edges = told.columns, window.edges
    labels = told.unique().sort(groups).with_row_index("_group")
    group = told.join(labels, on=groups, how="left", maintain_order="left", nulls_equal=True)
    sizes = arithmetic.clip(sizes.hstack([group["_group"]]), window.start, window.end)
    reach = extents(sizes, ["_group"], edges)
    index = (
        reach.select("_group", bucket=pl.int_ranges("first", pl.col("last") + 1))
        .explode("bucket")
        .join(labels, on="_group", how="left", maintain_order="left")
        .select(pl.col("collector_type").cast(pl.String), *groups[1:], "bucket")
    )
    sums = {unit: [index] for unit in units}
    # One quantity type after another: all segments take ten times the room of the sums.
    for quantity in rows["quantity_type"].unique().sort():
        some = rows.lazy().filter(pl.col("quantity_type") == quantity)
        some = some.join(sizes.lazy().select(*groups, "_group"), on=groups, nulls_equal=True)
        held = some.select("_group", "start", "end", **units).collect()
        held = arithmetic.clip(held, window.start, window.end)
        if held.height:
            of = arithmetic.integrate(held, edges, ["_group"], list(units), groups=reach)
            for unit, columns in sums.items():
                columns.append(of.select(pl.col(unit).alias(quantity)))
    return {unit: pl.concat(columns, how="horizontal") for unit, columns in sums.items()}


def quantities(sums: pl.DataFrame) -> list[str]:
    """List the quantity types that a frame of ``unit_seconds`` tells of."""
    return sums.columns[sums.columns.index("bucket") + 1 :]


def extents(segments: pl.DataFrame, index: Sequence[str], edges: pl.Series) -> pl.DataFrame:
    """Give the ``first`` and ``last`` bucket of every group that occurs, sorted."""
    spans = segments.group_by(index).agg(pl.col("start").min(), pl.col("end").max()).sort(index)
    borders = keys.epoch(edges)
    return spans.select(
        *index,
        first=pl.lit(pl.Series(keys.last_border(borders, keys.epoch(spans["start"])))),
        last=pl.lit(pl.Series(keys.last_border(borders, keys.epoch(spans["end"]) - 1))),
    )


def mean_usage(
    sums: pl.DataFrame, window: Window, by: Sequence[str] = ()
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Turn unit-seconds into means over buckets, resource by resource.

    Args:
        sums: of ``unit_seconds``; what it has beyond ``by`` is added up.
        window: what they cover.
        by: the group columns to keep.

    Yields:
        resource, and a frame with ``collector_type``, ``by``, ``timestamp`` and a column for each
        quantity type that occurs: units (nodes, vcpus, ...), time-weighted mean. Null where
        less than 95 % of a group's node time is of hosts that report the resource. Without ``by``,
        every bucket of both collectors.
    """
    index, groups = (
        ["collector_type", *by, "bucket"],
        ["collector_type", *by, "node_size", "bucket"],
    )
    row, place = keys.groups(sums, groups)
    rows = sums.select(groups)[row]
    add_up = partial(_add_up, sums, place, rows.height)
    nodes, size = add_up(sums["nodes"]), rows["node_size"]
    for resource in [name for name in RESOURCES if name in sums.columns]:
        units = sums[resource]
        # Of node units there are as many to a node as it has vCPUs, where it is held in slices.
        values = {name: held / size for name, held in nodes.items()}
        if resource != "nodes":
            values = add_up(units)
        untold = add_up(sums["nodes"] * units.is_null()) if units.null_count() else {}
        unsure = [name for name, of in untold.items() if (of != 0).any()]
        for name in unsure:
            values[f"nodes/{name}"] = nodes[name] / size
            values[f"reported/{name}"] = (nodes[name] - untold[name]) / size
        means = rows.select(index).hstack([of.alias(name) for name, of in values.items()])
        if size.n_unique() > 1:
            # Hosts of different sizes: their shares of a node are added up, in order of size.
            means = means.group_by(index, maintain_order=True).sum().sort(index)
        if not by:
            # A collector that found nothing at all still says so, bucket by bucket.
            every = pl.DataFrame({"collector_type": READINGS}).join(
                window.timestamps.select("bucket"), how="cross"
            )
            means = every.join(means, on=index, how="left", maintain_order="left").fill_null(0)
        means = means.hstack(window.timestamps[means["bucket"]].drop("bucket"))
        yield (
            resource,
            means.select(
                "collector_type",
                *by,
                "timestamp",
                *(_mean(name, known=name not in unsure) for name in nodes),
            ),
        )


def _add_up(
    sums: pl.DataFrame, place: Numbers, height: int, units: pl.Series
) -> dict[str, pl.Series]:
    """Add up the unit-seconds of each quantity at their places, of as many units a row as given."""
    factor = units.fill_null(0).to_numpy()
    some = np.flatnonzero(factor)
    place, factor = place[some], factor[some]
    added = {name: np.zeros(height, np.int64) for name in quantities(sums)}
    for name, of in added.items():
        np.add.at(of, place, sums[name].to_numpy()[some] * factor)
    return {name: pl.Series(of) for name, of in added.items()}


def _mean(quantity: str, *, known: bool) -> pl.Expr:
    """Divide unit-seconds by the length of the bucket, where enough of the hosts report them."""
    value = pl.col(quantity) / pl.col("length")
    if not known:
        enough = pl.col(f"reported/{quantity}") >= KNOWN_SHARE * pl.col(f"nodes/{quantity}")
        value = pl.when(enough).then(value)
    return value.alias(quantity)


def legacy_means(legacy: pl.DataFrame, window: Window) -> pl.DataFrame:
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
        .filter(pl.col("days") * 86400 >= KNOWN_SHARE * pl.col("length"))
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


def derive(means: pl.DataFrame, availability: Availability) -> pl.DataFrame:
    """Add the derived states, and blank what is not known.

    Args:
        means: one frame of ``mean_usage``.
        availability: what the site's tables can tell of.

    Returns:
        the same rows with every count type of the metric registry; null where an operand is
        unknown. The partition's maintenance, unknown and on-demand states are the corrected
        collector's alone: the others have no host-by-host reading to take them from.
    """
    corrected = pl.col("collector_type") == "corrected"

    # Of zeros one by one: Polars takes "0 - x" for "-x", which makes -0.0 of 0.
    none = pl.lit(pl.Series(np.zeros(means.height)))

    def column(name: str) -> pl.Expr:
        return pl.col(name) if name in means.columns else none

    def measured(name: str) -> pl.Expr:
        """A quantity that a table tells of and that has no segment is none, not unknown."""
        if name not in availability.quantities:
            return pl.lit(None, pl.Float64)
        if availability.completeness.get(name, 1.0) < availability.known_share:
            return pl.when(~corrected).then(column(name))
        uncounted = [of for of, names in UNCOUNTED.items() if name in names and of in means.columns]
        if uncounted:
            both = pl.sum_horizontal(column(name), *uncounted)
            enough = column(name) >= availability.known_share * both
            return pl.when(~corrected | enough).then(column(name))
        return column(name)

    def host_by_host(name: str) -> pl.Expr:
        if name in OF_STATUS and STATUS not in availability.quantities:
            return pl.lit(None, pl.Float64)
        told = pl.when(measured("reservable").is_not_null()).then(column(name))
        otherwise = pl.lit(0.0 if name in IN_POOL else None, pl.Float64)
        return pl.when(corrected).then(told).otherwise(otherwise)

    index = [
        name
        for name in ("collector_type", "project_id", "node_type", "hostname", "timestamp")
        if name in means.columns
    ]
    states = means.select(
        *index,
        *(measured(name).alias(name) for name in MEASURED),
        *(host_by_host(name).alias(name) for name in HOST_BY_HOST),
    )
    for name, metric in DERIVED.items():
        states = states.with_columns(metric.expression.alias(name))
    return states.select(*index, *METRICS)


def emitted(availability: Availability, collector: str) -> list[str]:
    """List the count types of a reading of whose operands the site's tables tell."""
    needed = {name: needs(name, collector) for name in METRICS}
    return [name for name, of in needed.items() if of is not None and of <= availability.quantities]
