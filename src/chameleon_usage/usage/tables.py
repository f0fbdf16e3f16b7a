"""The output tables of a site: usage, collectors side by side, lead times."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from chameleon_usage.intervals import keys
from chameleon_usage.models.frames import Parts, Table, columns, conform, dy, finish
from chameleon_usage.models.metrics import COLLECTORS, METRICS, UNCOUNTED, WIDE_NAMES
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
    quantities,
)
from chameleon_usage.usage.long import Label, LongTable, enumerated, labels_of, stretches


@dataclass(frozen=True)
class Elsewhere:
    """What there is in buckets of which the sums do not tell: series that are other than 0.

    Attributes:
        resources: those of which some host has any.
        node_types: the labels of usage_by_node_type, a row each.
        hosts: the labels of usage_by_host.
    """

    resources: frozenset[str] = frozenset()
    node_types: pl.DataFrame | None = None
    hosts: pl.DataFrame | None = None


def usage_tables(
    sums: pl.DataFrame,
    hosts: pl.DataFrame | None,
    legacy: pl.DataFrame,
    availability: Availability,
    window: Window,
    *,
    site: str,
    elsewhere: Elsewhere | None = None,
) -> Iterator[tuple[str, Table]]:
    """Make every usage table of one site.

    Args:
        sums: of ``buckets.unit_seconds``, by node type, of both collectors.
        hosts: the same by host and node type, for usage_by_host, if that is asked for.
        legacy: models.stages.Legacy.
        availability: what the site's tables can tell of.
        window: the time to cover and its buckets.
        site: the site's key.
        elsewhere: what there is beside the sums, where these do not tell of all buckets; the rows
            of the others do not count then.

    Yields:
        table name and table, each as its output contract says. The tables by node type and by host
        come part by part, in the order of their series: millions of rows take longer to sort than
        to make.
    """
    other = elsewhere or Elsewhere()
    node_types = enumeration(sums["node_type"], legacy["node_type"])
    sums = sums.cast({"node_type": node_types})
    cached = legacy_means(legacy.with_columns(pl.col("node_type").cast(node_types)), window)
    by_type, totals = _by_type(sums, cached, availability, window, other)
    del sums
    # Its parts let go of its series as they are written, while the next tables are made.
    yield (
        "usage_by_node_type",
        _parts(replace(by_type, series={**by_type.series}), UsageByNodeType, site),
    )
    by_resource = _by_resource(totals, cached, availability, window, site, other=other)
    timeline = conform(by_resource.filter(pl.col("resource") == "nodes"), UsageTimeline)
    yield "comparison_by_node_type", compare_node_types(by_type, timeline, window, site)
    del by_type
    if hosts is not None:
        by_host, types = _by_host(hosts, availability, window, other)
        yield "usage_by_host", _parts(by_host, UsageByHost, site, types)
    yield "usage_timeline", timeline
    yield "usage_by_resource", by_resource
    yield "comparison", compare_sites(timeline, site)
    yield "usage_wide", _wide(by_resource, site)


def _parts(
    table: LongTable, schema: type[dy.Schema], site: str, more: pl.DataFrame | None = None
) -> Parts:
    """Give the parts of a table as an output contract says, and what ``more`` tells of its rows."""
    key = ["hypervisor_hostname", "timestamp"]
    for part in table.parts():
        rows = part.with_columns(site=pl.lit(site))
        if more is not None:
            rows = rows.join(more, on=key, how="left", maintain_order="left")
        yield conform(rows, schema)


def _by_resource(
    totals: dict[str, pl.DataFrame],
    cached: pl.DataFrame,
    availability: Availability,
    window: Window,
    site: str,
    *,
    other: Elsewhere,
) -> pl.DataFrame:
    """Make usage_by_resource: every bucket of each state that is emitted.

    A state is emitted where the tables tell of its operands: null where they do not know. A
    resource that no host reports is left out.
    """
    recorded = availability.buckets(window)
    kinds = columns(UsageByResource)
    codes = {name: _codes(kinds[name]) for name in ("collector_type", "count_type", "resource")}
    series: dict[Label, pl.Series] = {}

    def add(frame: pl.DataFrame, resource: str, names: Mapping[str, Sequence[str]]) -> None:
        """Add the columns of each collector, completed to every bucket of the window."""
        for collector, of in names.items():
            own = frame.filter(pl.col("collector_type") == collector)
            every = stamps.join(own, on="timestamp", how="left", maintain_order="left")
            for name in of:
                label = codes["collector_type"][collector], codes["count_type"][name]
                series[*label, codes["resource"][resource]] = every[name]

    stamps = window.timestamps.select("timestamp")
    for resource, frame in totals.items():
        told = resource == "nodes" or resource in other.resources
        if told or frame.select(pl.any_horizontal(pl.col(METRICS) > 0).any()).item():
            known = frame.join(recorded, on="timestamp", how="semi")
            add(known, resource, {name: emitted(availability, name) for name in READINGS})
    legacy = (
        cached.sort("node_type")  # sums of floats depend on their order
        .group_by("collector_type", "timestamp", "count_type", maintain_order=True)
        .agg(pl.col("value").sum())
        .pivot(on="count_type", index=["collector_type", "timestamp"], values="value")
    )
    if legacy.height:
        add(legacy, "nodes", {"legacy": legacy.columns[2:]})
    # Series by series, that is; in the table they stand side by side.
    labels = sorted(series)
    shape = (len(labels), stamps.height)
    values = pl.concat([series[label] for label in labels] or [pl.Series([], dtype=pl.Float64)])
    of = np.array(labels, np.uint32).reshape(len(labels), 3).T
    return conform(
        pl.DataFrame(
            {
                "timestamp": stamps["timestamp"].gather(np.repeat(np.arange(shape[1]), shape[0])),
                **{
                    name: enumerated(np.tile(numbers, shape[1]), kinds[name])  # type: ignore[arg-type]
                    for name, numbers in zip(codes, of, strict=True)
                },
                "value": values.gather(np.arange(values.len()).reshape(shape).T.ravel()),
            }
        ).with_columns(site=pl.lit(site)),
        UsageByResource,
    )


def _codes(kind: pl.DataType) -> dict[str, int]:
    """Number the texts of an enumeration."""
    return {text: number for number, text in enumerate(kind.categories)}  # type: ignore[attr-defined]


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


_AT_ONCE = 64
"""Hosts whose states are held at once: all of a site, with every count type, take gigabytes."""


def _by_host(
    sums: pl.DataFrame, availability: Availability, window: Window, other: Elsewhere
) -> tuple[LongTable, pl.DataFrame]:
    """Give the series of usage_by_host, from the unit-seconds of hosts by node type.

    Returns:
        (the series, the node type of each host and bucket)
    """
    sums = sums.with_columns(
        pl.col(name).cast(pl.Enum(sums[name].unique().cast(pl.String).drop_nulls().sort()))
        for name in ("hostname", "node_type")
    )
    kinds = {name: columns(UsageByHost)[name] for name in ("collector_type", "count_type")}
    names = _codes(kinds["count_type"])
    label = kinds | {"hypervisor_hostname": sums.schema["hostname"]}
    table = LongTable(label, labels_of(other.hosts, label))  # type: ignore[arg-type]
    number, types = pl.col("hostname").to_physical(), [_types(sums.clear(), window)]
    for first in range(0, sums["hostname"].n_unique(), _AT_ONCE):
        some = sums.filter((number >= first) & (number < first + _AT_ONCE))
        types.append(_types(some, window))
        means = dict(mean_usage(some, window, ["hostname"]))["nodes"]
        states = derive(means, availability).join(
            availability.buckets(window), on="timestamp", how="semi", maintain_order="left"
        )
        for collector in READINGS:
            own = states.filter(pl.col("collector_type") == collector, _SOME)
            shared = (table.code("collector_type", collector),)
            table.add_states(own, "hostname", names, shared)
    return table, pl.concat(types)


def _types(sums: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Give the node type that each host had for most of a bucket.

    Returns:
        ``timestamp``, ``node_type``, ``hypervisor_hostname``.
    """
    held = pl.col("nodes") * pl.sum_horizontal(0, *quantities(sums))
    return (
        sums.select("hostname", "bucket", "node_type", _held=held)
        .sort("hostname", "bucket", "_held", "node_type")
        .unique(["hostname", "bucket"], keep="last", maintain_order=True)
        .join(window.timestamps, on="bucket")
        .select("timestamp", "node_type", hypervisor_hostname="hostname")
    )


UNTYPED = "unknown"
"""The node type of hosts of which no row names one."""


def enumeration(*node_types: pl.Series) -> pl.Enum:
    """Enumerate node types in order: a type sorts and compares by its number then."""
    named = [names.unique().cast(pl.String) for names in node_types]
    return pl.Enum(pl.concat([*named, pl.Series([UNTYPED])]).drop_nulls().unique().sort())


def _by_type(
    sums: pl.DataFrame,
    cached: pl.DataFrame,
    availability: Availability,
    window: Window,
    other: Elsewhere,
) -> tuple[LongTable, dict[str, pl.DataFrame]]:
    """Give the rows of usage_by_node_type, series by series; and the site's states by resource."""
    kinds = {
        name: columns(UsageByNodeType)[name]
        for name in ("collector_type", "resource", "count_type")
    } | {"node_type": cached.schema["node_type"]}
    table = LongTable(kinds, labels_of(other.node_types, kinds))  # type: ignore[arg-type]
    names = _codes(kinds["count_type"])
    legacy = cached.with_columns(pl.col("count_type").cast(kinds["count_type"]))
    # In order of time they are already.
    legacy = legacy[np.argsort(keys.number(legacy, ["count_type", "node_type"]), kind="stable")]
    shared = table.code("collector_type", "legacy"), table.code("resource", "nodes")
    times, values = legacy["timestamp"].to_physical().to_numpy(), legacy["value"].to_numpy()
    for of, rows in stretches(legacy, "count_type", "node_type"):
        table.add((*shared, *of), times[rows], values[rows])
    totals = {}
    for (resource, whole), (_, frame) in zip(
        mean_usage(sums, window), mean_usage(sums, window, ["node_type"]), strict=True
    ):
        totals[resource] = derive(whole, availability)
        states = _by_types(frame, totals[resource], availability, window)
        for collector in READINGS:
            shared = table.code("collector_type", collector), table.code("resource", resource)
            own = states.filter(pl.col("collector_type") == collector, _SOME)
            table.add_states(own, "node_type", names, shared)
    return table, totals


_SOME = pl.any_horizontal(pl.col(METRICS) != 0)
"""Of a node type or host, those buckets are told in which it has anything at all."""


def _wide(by_resource: pl.DataFrame, site: str) -> pl.DataFrame:
    """Give the corrected collector's measured types a column each, by the consumers' names."""
    rows = by_resource.filter(pl.col("collector_type") == "corrected").pivot(
        on="count_type", index=["timestamp", "resource"], values="value"
    )
    return finish(rows.rename({"timestamp": "time"} | WIDE_NAMES, strict=False), UsageWide, site)


# --- the collectors side by side ---------------------------------------------------------------

_COLLECTORS = list(COLLECTORS)
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


def compare_node_types(
    by_type: LongTable, timeline: pl.DataFrame, window: Window, site: str
) -> pl.DataFrame:
    """Set the collectors' values of each node type side by side.

    A collector that has no row for a node type, while its site value is known, has none of that
    type.

    Args:
        by_type: usage_by_node_type.
        timeline: models.outputs.UsageTimeline of the site.
        window: what they cover.
        site: the site's key.

    Returns:
        models.outputs.ComparisonByNodeType, a row for each bucket, count type and node type of any
        collector.
    """
    nodes = by_type.code("resource", "nodes")
    stamps = window.timestamps["timestamp"]
    begin = stamps.to_physical().to_numpy()
    series = {label: rows for label, rows in by_type.series.items() if label[1] == nodes}
    pairs = sorted({label[2:] for label in series})
    place = {pair: number for number, pair in enumerate(pairs)}
    # Dense, by collector, bucket and pair of count type and node type: most of it there is.
    values = np.full((len(_COLLECTORS), len(begin), len(pairs)), np.nan)
    for label, (times, own) in series.items():
        values[label[0], np.searchsorted(begin, times), place[label[2:]]] = own
    none = np.full((len(_COLLECTORS), len(begin), len(METRICS)), np.nan)
    of_site = timeline.drop_nulls("value")
    moment = np.searchsorted(begin, of_site["timestamp"].to_physical().to_numpy())
    collector, count_type = (
        of_site[name].to_physical().to_numpy() for name in ("collector_type", "count_type")
    )
    none[collector, moment, count_type] = 0.0
    moment, which = np.nonzero(~np.isnan(values).all(axis=0))
    count_type, node_type = np.array(pairs, np.uint32).reshape(len(pairs), 2)[which].T
    values, none = values[:, moment, which], none[:, moment, count_type]
    values = np.where(np.isnan(values), none, values)
    wide = pl.DataFrame(
        {
            "timestamp": stamps.gather(moment),
            "count_type": enumerated(count_type, by_type.kinds["count_type"]),
            "node_type": enumerated(node_type, by_type.kinds["node_type"]),
            **{
                name: pl.Series(own, nan_to_null=True)
                for name, own in zip(_COLLECTORS, values, strict=True)
            },
        }
    )
    return _differences(wide, ComparisonByNodeType, site)


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
