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
from chameleon_usage.usage.long import (
    Earlier,
    Label,
    LongTable,
    Times,
    enumerated,
    stretches,
)


def usage_tables(
    sums: pl.DataFrame,
    hosts: pl.DataFrame | None,
    legacy: pl.DataFrame,
    availability: Availability,
    window: Window,
    *,
    site: str,
    earlier: Earlier | None = None,
) -> Iterator[tuple[str, Table]]:
    """Make every usage table of one site.

    Args:
        sums: of ``buckets.unit_seconds``, by node type, of both collectors.
        hosts: the same by host and node type, for usage_by_host, if that is asked for.
        legacy: models.stages.Legacy.
        availability: what the site's tables can tell of.
        window: the time to cover and its buckets.
        site: the site's key.
        earlier: a run whose series are taken over where they are the same.

    Yields:
        table name and table, each as its output contract says. The tables by node type and by host
        come part by part, in the order of their series: millions of rows take longer to sort than
        to make.
    """
    node_types = enumeration(sums["node_type"], legacy["node_type"])
    sums = sums.cast({"node_type": node_types})
    cached = legacy_means(legacy.with_columns(pl.col("node_type").cast(node_types)), window)
    by_type, totals = _by_type(sums, cached, availability, window, earlier)
    del sums
    # Its parts let go of its series as they are written, while the next tables are made.
    yield (
        "usage_by_node_type",
        _parts(replace(by_type, series={**by_type.series}), UsageByNodeType, site),
    )
    by_resource = _by_resource(totals, cached, availability, window, site)
    timeline = conform(by_resource.filter(pl.col("resource") == "nodes"), UsageTimeline)
    yield "comparison_by_node_type", compare_node_types(by_type, timeline, window, site)
    del by_type
    if hosts is not None:
        by_host, types = _by_host(hosts, availability, window, earlier)
        yield "usage_by_host", _parts(by_host, UsageByHost, site, types)
    yield "usage_timeline", timeline
    yield "usage_by_resource", by_resource
    yield "comparison", compare_sites(timeline, site)
    yield "usage_wide", _wide(by_resource, site)


def _parts(
    table: LongTable, schema: type[dy.Schema], site: str, types: "_Types | None" = None
) -> Parts:
    """Give the parts of a table as an output contract says, and the node types of hosts."""
    for part in table.parts():
        rows = part.with_columns(site=pl.lit(site))
        yield conform(rows.with_columns(types.of(rows)) if types else rows, schema)


def _by_resource(
    totals: dict[str, pl.DataFrame],
    cached: pl.DataFrame,
    availability: Availability,
    window: Window,
    site: str,
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
        if resource == "nodes" or frame.select(pl.any_horizontal(pl.col(METRICS) > 0).any()).item():
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
    sums: pl.DataFrame, availability: Availability, window: Window, earlier: Earlier | None
) -> tuple[LongTable, "_Types"]:
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
    table = LongTable(label)  # type: ignore[arg-type]

    def make(table: LongTable, sums: pl.DataFrame) -> None:
        hosts = sums["hostname"].unique().sort()
        for first in range(0, len(hosts), _AT_ONCE):
            some = sums.filter(pl.col("hostname").is_in(hosts[first : first + _AT_ONCE].implode()))
            means = dict(mean_usage(some, window, ["hostname"]))["nodes"]
            states = derive(means, availability).join(
                availability.buckets(window), on="timestamp", how="semi", maintain_order="left"
            )
            for collector in READINGS:
                own = states.filter(pl.col("collector_type") == collector, _SOME)
                shared = (table.code("collector_type", collector),)
                table.add_states(own, "hostname", names, shared)

    if earlier:
        earlier.fill("usage_by_host", table, sums, "hostname", make)
    else:
        make(table, sums)
    return table, _Types.among(sums, window)


@dataclass(frozen=True)
class _Types:
    """The node type that each host had for most of a bucket.

    Attributes:
        names: of the types, the last one null.
        since: number of a host to the times from which it had a type, and the types' numbers.
    """

    names: pl.Series
    since: Mapping[int, tuple[Times, Times]]

    @classmethod
    def among(cls, sums: pl.DataFrame, window: Window) -> "_Types":
        """Find the types in unit-seconds of hosts by node type, both enumerations."""
        kinds = sums.schema["node_type"].categories  # type: ignore[attr-defined]
        pairs = sums.select("hostname", "node_type").unique()
        several = pairs.filter(pl.col("hostname").is_duplicated())["hostname"].unique()
        held = pl.col("nodes") * pl.sum_horizontal(0, *quantities(sums))
        changes = (
            sums.filter(pl.col("hostname").is_in(several.implode()))
            .select("hostname", "bucket", "node_type", _held=held)
            .sort("hostname", "bucket", "_held", "node_type")
            .unique(["hostname", "bucket"], keep="last", maintain_order=True)
        )
        alone = pairs.filter(~pl.col("hostname").is_in(several.implode()))
        rows = pl.concat(
            [changes.drop("_held"), alone.with_columns(bucket=pl.lit(0, pl.Int64))], how="diagonal"
        )
        stamps = window.timestamps["timestamp"].to_physical().to_numpy()
        since = stamps[rows["bucket"].to_numpy()]
        kind = rows["node_type"].to_physical().cast(pl.Int64).fill_null(len(kinds)).to_numpy()
        return cls(
            pl.concat([kinds, pl.Series([None], dtype=pl.String)]).alias("node_type"),
            {host: (since[of], kind[of]) for (host,), of in stretches(rows, "hostname")},
        )

    def of(self, rows: pl.DataFrame) -> pl.Series:
        """Give the type of each row of a part of usage_by_host."""
        times, found = rows["timestamp"].to_physical().to_numpy(), np.empty(rows.height, np.int64)
        for (host,), some in stretches(rows, "hypervisor_hostname"):
            since, kind = self.since[host]
            found[some] = kind[np.searchsorted(since[1:], times[some], "right")]
        return self.names[found]


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
    earlier: Earlier | None,
) -> tuple[LongTable, dict[str, pl.DataFrame]]:
    """Give the rows of usage_by_node_type, series by series; and the site's states by resource."""
    kinds = {
        name: columns(UsageByNodeType)[name]
        for name in ("collector_type", "resource", "count_type")
    } | {"node_type": cached.schema["node_type"]}
    table = LongTable(kinds)  # type: ignore[arg-type]
    legacy = cached.with_columns(pl.col("count_type").cast(kinds["count_type"]))
    # In order of time they are already.
    legacy = legacy[np.argsort(keys.number(legacy, ["count_type", "node_type"]), kind="stable")]
    shared = table.code("collector_type", "legacy"), table.code("resource", "nodes")
    times, values = legacy["timestamp"].to_physical().to_numpy(), legacy["value"].to_numpy()
    for of, rows in stretches(legacy, "count_type", "node_type"):
        table.add((*shared, *of), times[rows], values[rows])
    names = _codes(kinds["count_type"])
    totals = {of: derive(means, availability) for of, means in mean_usage(sums, window)}

    def make(table: LongTable, sums: pl.DataFrame) -> None:
        for resource, frame in mean_usage(sums, window, ["node_type"]):
            states = _by_types(frame, totals[resource], availability, window)
            for collector in READINGS:
                shared = table.code("collector_type", collector), table.code("resource", resource)
                own = states.filter(pl.col("collector_type") == collector, _SOME)
                table.add_states(own, "node_type", names, shared)

    if earlier:
        earlier.fill("usage_by_node_type", table, sums, "node_type", make)
    else:
        make(table, sums)
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
    # Type by type: the leases of a large site, twice, take much memory.
    points = pl.concat(
        stamped.drop_nulls(f"{kind}_h")
        .group_by(timestamp="created_at")
        .agg(value=pl.col(f"{kind}_h").median())
        .with_columns(leadtime_type=pl.lit(kind))
        for kind in ("requested", "effective")
    )
    return {
        "leadtime_leases": finish(stamped, LeadtimeLeases, site),
        "leadtime_timeline": finish(points, LeadtimeTimeline, site),
    }
