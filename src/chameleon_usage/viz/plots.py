"""Figures: pure functions from output tables to Altair charts.

Every function takes frames shaped as the output contracts (`usage_timeline`, `leadtime_leases`,
...) and returns a `Figure`: the chart and the numbers it draws. Daily means are averaged to weeks
or months first; the mean of equal buckets is exact, so the area under a curve stays node-hours. A
bucket counts as known where at least 95 % of its days are; what is unknown is left blank or
hatched, never drawn as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl
import polars.selectors as cs

from chameleon_usage.models.metrics import METRICS, PARTITION, RESOURCES
from chameleon_usage.viz import palette
from chameleon_usage.viz.render import Drawing, save_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH = 640
HEIGHT = 280
KNOWN_SHARE = 0.95
"""A bucket of which less is known is unknown, as in the tables."""

PARTS: dict[str, str] = {
    **{part: METRICS[part].label for part in palette.STATES if part in METRICS},
    "leased": "Leased (use unknown)",
}
"""What the stacks are made of: the partition, and what stands for it where use is unknown."""

_LINE_LEGEND = alt.Legend(symbolType="stroke", symbolStrokeWidth=2, symbolSize=300)

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


@dataclass(frozen=True)
class Figure:
    """A chart and its numbers.

    Attributes:
        chart: what is drawn; its description is the alternative text.
        data: the same, as a table.
    """

    chart: alt.TopLevelMixin
    data: pl.DataFrame

    def save(self, name: str, out_dir: Path) -> Drawing:
        """Write `<name>.svg`, `.png` and `.csv` under `out_dir`; return what a page shows."""
        chart = self.chart if self.data.height else _nothing(self.chart)
        return save_figure(chart, name, out_dir, data=self.data)


def coarsen(
    frame: pl.DataFrame, every: str, *, by: Sequence[str], value: str = "value"
) -> pl.DataFrame:
    """Average daily means over longer buckets.

    Args:
        frame: `timestamp` (one row a day and group), `value`, and the columns of `by`.
        every: bucket as Polars writes durations: `1w` (from Monday), `1mo`.
        by: the columns that name a group.
        value: name of the value column.

    Returns:
        `timestamp` (start of the bucket), `by`, `value`: null where less than 95 % of the days
        that the frame has in the bucket are known. Sorted by `by`, then time.
    """
    return (
        _text(frame)
        .group_by([*by, pl.col("timestamp").dt.truncate(every)])
        .agg(
            pl.when(pl.col(value).is_not_null().mean() >= KNOWN_SHARE)
            .then(pl.col(value).sort_by("timestamp").mean())
            .alias(value)
        )
        .sort([*by, "timestamp"])
    )


def partition_table(
    usage: pl.DataFrame,
    *,
    every: str,
    by: Sequence[str] = (),
    collector: str = "corrected",
    sparse: bool = False,
) -> pl.DataFrame:
    """Lay the parts that make up the total side by side.

    Args:
        usage: `usage_timeline` rows of one site, or any table like it.
        every: bucket to average over (see `coarsen`).
        by: further columns that name a group.
        collector: whose count to take.
        sparse: the table leaves out the parts that a group never has (`usage_by_node_type`).

    Returns:
        `by`, `timestamp`, `total` and one column per part of `PARTS`, in nodes (or the unit of
        the table). Where nobody knows what became of leased nodes, they are `leased` and the
        parts of which they consist are 0. A day counts only where the total and all its parts
        are known, so that the parts add up; a bucket with too few such days is null. The buckets
        before there was anything are left out.
    """
    names = ["total", "committed", *PARTITION]
    used = ["active", "stopped", "idle"]
    rest = [name for name in ("total", *PARTITION) if name not in used]
    wide = (
        _text(usage)
        .filter(pl.col("collector_type") == collector, pl.col("count_type").is_in(names))
        .pivot(on="count_type", on_columns=names, index=[*by, "timestamp"], values="value")
        .sort(*by, "timestamp")
    )
    if sparse:
        any_told = pl.any_horizontal(pl.col(used).is_not_null())
        wide = wide.with_columns(
            pl.col(*rest[1:], "committed").fill_null(0.0),
            *(pl.when(any_told).then(pl.col(name).fill_null(0.0)).alias(name) for name in used),
        )
    told = pl.all_horizontal(pl.col(used).is_not_null())
    known = pl.all_horizontal(pl.col(rest).is_not_null()) & (
        told | pl.col("committed").is_not_null()
    )
    daily = wide.select(
        *by,
        "timestamp",
        *(pl.when(known).then(name).alias(name) for name in rest),
        *(pl.when(known & told).then(name).when(known).then(0.0).alias(name) for name in used),
        pl.when(known & told).then(0.0).when(known).then("committed").alias("leased"),
    )
    return (
        daily.group_by(*by, pl.col("timestamp").dt.truncate(every), maintain_order=True)
        .agg(
            pl.when(pl.col("total").is_not_null().mean() >= KNOWN_SHARE)
            .then(pl.col(name).mean())
            .round(3)
            .alias(name)
            for name in ("total", *PARTS)
        )
        .filter(((pl.col("total") > 0) | pl.col("total").is_null()).cum_max().over(by or pl.lit(0)))
    )


def usage_stack(
    usage: pl.DataFrame,
    *,
    site_name: str,
    percent: bool = False,
    collector: str = "corrected",
    every: str = "1w",
) -> Figure:
    """Draw what every node was doing: the parts stacked under the line of the total.

    Args:
        usage: `usage_timeline` rows of one site.
        site_name: for the title.
        percent: of the total, rather than nodes.
        collector: whose count to draw.
        every: bucket to average over (see `coarsen`).
    """
    table = partition_table(usage, every=every, collector=collector)
    parts = list(PARTS)
    if percent:
        table = table.with_columns(
            pl.when(pl.col("total") > 0).then(100 * pl.col(part) / pl.col("total")).alias(part)
            for part in parts
        ).with_columns(pl.when(pl.col("total") > 0).then(100.0).alias("total"))
    table = table.with_columns(pl.col("total", *parts).round(2))
    top = 100.0 if percent else _ceiling(table["total"])
    unit = "% of all nodes" if percent else "nodes"
    present = [p for p in palette.STATES if p != "unknown" and (table[p].fill_null(0) > 0).any()]
    drawn = table.select("timestamp", "total", "unknown", *present).with_columns(
        (pl.col("total") - pl.col("unknown")).alias("known")
    )
    legend = present + ["unknown"] * (table["unknown"].sum() > 0)
    colours = alt.Scale(
        domain=[PARTS[p] for p in legend], range=[palette.STATES[p] for p in legend]
    )
    base = alt.Chart(_values(drawn))
    x = _time_axis(drawn)
    stack = (
        base.transform_fold([*present], as_=["part", "value"])
        .transform_calculate(
            Part=_lookup("part", {p: PARTS[p] for p in present}),
            order=_lookup("part", {p: i for i, p in enumerate(present)}),
        )
        .mark_area(interpolate="step-after", line=False)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=unit, stack="zero", scale=alt.Scale(domain=[0, top])),
            color=alt.Color("Part:N", scale=colours, title=None, sort=None),
            order="order:Q",
            tooltip=[
                alt.Tooltip("utcyearmonthdate(timestamp):T", title="from"),
                alt.Tooltip("Part:N"),
                alt.Tooltip("value:Q", format=",.1f", title=unit),
            ],
        )
    )
    unknown_part = base.mark_area(
        interpolate="step-after", fill=_hatch(slope=0), tooltip="unknown"
    ).encode(x=x, y=alt.Y("known:Q"), y2="total:Q")
    line = base.mark_line(interpolate="step-after", color=palette.TOTAL, strokeWidth=1.3).encode(
        x=x, y="total:Q"
    )
    gaps = _gaps(table, "total", every)
    layers: list[alt.Chart] = [stack, unknown_part]
    if gaps.height:
        layers.append(_gap_bands(gaps))
    how = "percent of all nodes" if percent else "nodes"
    chart = alt.layer(*layers, line).properties(
        width=WIDTH,
        height=HEIGHT,
        title=f"{site_name}: what its nodes were doing ({how})",
        description=_stack_words(table, parts, site_name, collector, percent=percent),
    )
    return Figure(_styled(chart), table)


def _stack_words(
    table: pl.DataFrame, parts: list[str], site_name: str, collector: str, *, percent: bool
) -> str:
    unit = "percent of all nodes" if percent else "nodes"
    means = table.select(pl.col(*parts).mean()).row(0, named=True)
    words = ", ".join(f"{PARTS[p].lower()} {means[p]:,.1f}" for p in parts if means[p])
    span = _span(table)
    if not words:
        return f"{site_name}, {span}: no day of which all parts are known."
    return (
        f"Stacked areas of what the nodes of {site_name} were doing, {span}, {collector} count. "
        f"Means over the known time, in {unit}: {words}."
    )


def usage_facet(
    usage: pl.DataFrame,
    *,
    site_name: str,
    count_types: Sequence[str] = ("total", "reservable", "committed", "occupied"),
    collectors: Sequence[str] = ("legacy", "uncorrected", "corrected"),
    every: str = "1mo",
) -> Figure:
    """Set the collectors against each other, one panel for each count type.

    Args:
        usage: `usage_timeline` rows of one site.
        site_name: for the title.
        count_types: the panels, in order.
        collectors: the lines.
        every: bucket to average over (see `coarsen`).
    """
    chosen = _text(usage).filter(
        pl.col("count_type").is_in(list(count_types)),
        pl.col("collector_type").is_in(list(collectors)),
    )
    table = coarsen(chosen, every, by=["collector_type", "count_type"]).with_columns(
        pl.col("value").round(2)
    )
    present = [c for c in collectors if (table["collector_type"] == c).any()]
    drawn = table.with_columns(
        pl.col("count_type").replace({c: METRICS[c].label for c in count_types})
    )
    scale = alt.Scale(domain=present, range=[palette.COLLECTORS[c][0] for c in present])
    dash = alt.Scale(domain=present, range=[palette.COLLECTORS[c][1] for c in present])
    lines = (
        alt.Chart(_values(drawn))
        .mark_line(strokeWidth=1.6)
        .encode(
            x=_time_axis(drawn, count=5),
            y=alt.Y("value:Q", title="nodes"),
            color=alt.Color("collector_type:N", scale=scale, title=None, legend=_LINE_LEGEND),
            strokeDash=alt.StrokeDash("collector_type:N", scale=dash, title=None),
            tooltip=[
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                alt.Tooltip("collector_type:N", title="collector"),
                alt.Tooltip("value:Q", format=",.1f", title="nodes"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT / 1.7)
    )
    chart = lines.facet(
        facet=alt.Facet("count_type:N", title=None, sort=[METRICS[c].label for c in count_types]),
        columns=2,
    ).resolve_scale(y="independent")
    return Figure(
        _styled(
            chart.properties(
                title=f"{site_name}: the collectors side by side",
                description=(
                    f"{site_name}, {_span(table)}: monthly means of "
                    f"{', '.join(METRICS[c].label.lower() for c in count_types)} nodes as "
                    f"{', '.join(present)} count them. " + _facet_words(table, count_types, present)
                ),
            )
        ),
        table,
    )


def _facet_words(table: pl.DataFrame, count_types: Sequence[str], present: list[str]) -> str:
    means = {
        (row["count_type"], row["collector_type"]): row["value"]
        for row in table.group_by("count_type", "collector_type")
        .agg(pl.col("value").mean())
        .iter_rows(named=True)
    }
    words = [
        f"{METRICS[c].label.lower()} "
        + ", ".join(f"{k} {means[c, k]:,.1f}" for k in present if means.get((c, k)) is not None)
        for c in count_types
    ]
    return f"Mean nodes: {'; '.join(words)}."


def node_types(
    by_node_type: pl.DataFrame,
    *,
    site_name: str,
    every: str = "1mo",
    most: int = 12,
    collector: str = "corrected",
) -> Figure:
    """Draw for each node type what its nodes were doing.

    Args:
        by_node_type: `usage_by_node_type` rows of one site.
        site_name: for the title.
        every: bucket to average over, over the days that have a row.
        most: this many types, by node-hours; the rest are left to the table.
        collector: whose count to draw.
    """
    table = partition_table(
        by_node_type.filter(pl.col("resource") == "nodes"),
        every=every,
        by=["node_type"],
        collector=collector,
        sparse=True,
    )
    order = (
        table.group_by("node_type")
        .agg(pl.col("total").sum())
        .sort("total", "node_type", descending=[True, False])["node_type"]
        .to_list()
    )
    shown = order[:most]
    drawn = table.filter(pl.col("node_type").is_in(shown))
    chart = _part_panels(drawn, "node_type", shown, unit="nodes").properties(
        title=f"{site_name}: what the nodes of each type were doing (black line = total)",
        description=(
            f"{site_name}, {_span(table)}: stacked monthly means of what the nodes of each of its "
            f"{len(shown)} largest types of {len(order)} were doing: {', '.join(shown)}."
        ),
    )
    return Figure(_styled(chart), table)


def resources(
    by_resource: pl.DataFrame, *, site_name: str, every: str = "1mo", collector: str = "corrected"
) -> Figure:
    """Draw what each resource was doing, in percent of its total.

    Args:
        by_resource: `usage_by_resource` rows of one site.
        site_name: for the title.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = partition_table(by_resource, every=every, by=["resource"], collector=collector)
    order = [r for r in RESOURCES if (table.filter(pl.col("resource") == r)["total"] > 0).any()]
    labels = {r: RESOURCES[r] for r in order}
    drawn = table.filter(pl.col("resource").is_in(order)).with_columns(
        pl.col("resource").replace(labels),
        *(
            pl.when(pl.col("total") > 0).then(100 * pl.col(p) / pl.col("total")).round(2).alias(p)
            for p in ["total", *PARTS]
        ),
    )
    chart = _part_panels(drawn, "resource", list(labels.values()), unit="% of all", top=100)
    used = (
        table.filter(pl.col("resource").is_in(order), pl.col("total") > 0)
        .group_by("resource", maintain_order=True)
        .agg((100 * pl.col("active").sum() / pl.col("total").sum()).alias("share"))
    )
    words = ", ".join(f"{labels[r]} {share:.1f} %" for r, share in used.iter_rows())
    return Figure(
        _styled(
            chart.properties(
                title=f"{site_name}: what each resource was doing",
                description=(
                    f"{site_name}, {_span(table)}: stacked monthly shares of what each resource "
                    f"was doing, in percent of its total. Active share: {words}."
                ),
            )
        ),
        table,
    )


def _part_panels(
    drawn: pl.DataFrame, key: str, order: list[str], *, unit: str, top: float | None = None
) -> alt.FacetChart:
    present = [p for p in palette.STATES if (drawn[p].fill_null(0) > 0).any()]
    base = alt.Chart(_values(drawn.select(key, "timestamp", "total", *present)))
    x = _time_axis(drawn, count=4)
    scale = alt.Scale(domain=[0, top], clamp=True) if top else alt.Scale()
    areas = (
        base.transform_fold([*present], as_=["part", "value"])
        .transform_calculate(
            Part=_lookup("part", {p: PARTS[p] for p in present}),
            order=_lookup("part", {p: i for i, p in enumerate(present)}),
        )
        .mark_area(interpolate="step-after")
        .encode(
            x=x,
            y=alt.Y("value:Q", title=unit, stack="zero", scale=scale),
            color=alt.Color(
                "Part:N",
                title=None,
                scale=alt.Scale(
                    domain=[PARTS[p] for p in present],
                    range=[palette.STATES[p] for p in present],
                ),
            ),
            order="order:Q",
            tooltip=[
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                alt.Tooltip("Part:N"),
                alt.Tooltip("value:Q", format=",.1f", title=unit),
            ],
        )
    )
    line = base.mark_line(color=palette.TOTAL, strokeWidth=1, interpolate="step-after").encode(
        x=x, y="total:Q"
    )
    return (
        alt.layer(areas, line)
        .properties(width=WIDTH / 3 - 30, height=95)
        .facet(facet=alt.Facet(f"{key}:N", title=None, sort=order), columns=3)
        .resolve_scale(y="shared" if top else "independent")
    )


def rejects(audit: pl.DataFrame, *, site_name: str, most: int = 15) -> Figure:
    """Draw the hours that did not count, by the reason they were rejected for.

    Args:
        audit: `rejects` of one site.
        site_name: for the title.
        most: this many reasons, by hours; the rest are left to the table.
    """
    table = (
        audit.group_by("source", "reason")
        .agg(pl.len().alias("rows"), pl.col("hours").sum().round(1))
        .sort("hours", "reason", "source", descending=[True, False, False])
    )
    drawn = table.head(most).with_columns(
        (pl.col("source") + ": " + pl.col("reason")).alias("what")
    )
    base = alt.Chart(_values(drawn)).encode(
        y=alt.Y("what:N", sort=drawn["what"].to_list(), title=None, axis=alt.Axis(labelLimit=420))
    )
    bars = base.mark_bar(color=palette.GREY).encode(
        x=alt.X(
            "hours:Q",
            title="entity-hours rejected",
            scale=alt.Scale(type="symlog"),
            axis=alt.Axis(
                values=[0, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8],
                labelExpr="format(datum.value, '~s')",
            ),
        ),
        tooltip=["what:N", "rows:Q", alt.Tooltip("hours:Q", format=",.0f")],
    )
    text = base.mark_text(align="left", dx=4).encode(
        x="hours:Q", text=alt.Text("rows:Q", format=",d")
    )
    chart = alt.layer(bars, text).properties(
        width=WIDTH / 2,
        height=alt.Step(18),
        title=alt.TitleParams(f"{site_name}: what did not count", subtitle="label = rows"),
        description=f"{site_name}: rows and entity-hours rejected, by source and reason. "
        + "; ".join(
            f"{r['what']}: {r['rows']:,} rows, {r['hours']:,.0f} hours"
            for r in drawn.iter_rows(named=True)
        ),
    )
    return Figure(_styled(chart), table)


def coverage(shares: pl.DataFrame, *, site_name: str, every: str = "1mo") -> Figure:
    """Draw how much of the time each source can speak for, as a heat map.

    Args:
        shares: `coverage` rows of one site.
        site_name: for the title.
        every: bucket to average over (see `coarsen`).
    """
    table = coarsen(
        shares, every, by=["quantity_type", "source"], value="known_share"
    ).with_columns(pl.col("known_share").round(3))
    drawn = table.with_columns(
        (pl.col("quantity_type") + " / " + pl.col("source")).alias("row"),
        pl.col("timestamp").dt.offset_by(every).alias("until"),
    )
    chart = (
        alt.Chart(_values(drawn.select("row", "timestamp", "until", "known_share")))
        .mark_rect(stroke=None)
        .encode(
            x=_time_axis(drawn),
            x2="until:T",
            y=alt.Y("row:N", title=None, axis=alt.Axis(labelLimit=360)),
            color=alt.Color(
                "known_share:Q",
                title="known",
                legend=alt.Legend(format=".0%", values=[0, 0.5, 1]),
                scale=alt.Scale(domain=[0, 1], scheme="viridis"),
            ),
        )
        .properties(
            width=WIDTH * 0.7,
            height=alt.Step(20),
            title=f"{site_name}: how much each source knows",
            description=(
                f"{site_name}, {_span(table)}: share of host time that each source knows, by "
                "month. "
                + "; ".join(
                    f"{r['quantity_type']} from {r['source']}: {r['known_share']:.0%}"
                    for r in table.group_by("quantity_type", "source")
                    .agg(pl.col("known_share").mean())
                    .sort("quantity_type", "source")
                    .iter_rows(named=True)
                    if r["known_share"] is not None
                )
            ),
        )
    )
    return Figure(_styled(chart), table)


def comparison(
    compared: pl.DataFrame,
    *,
    site_name: str,
    count_types: Sequence[str] = ("total", "reservable", "committed", "occupied"),
    every: str = "1mo",
) -> Figure:
    """Draw corrected minus legacy, in nodes.

    Args:
        compared: `comparison` rows of one site.
        site_name: for the title.
        count_types: the panels, in order.
        every: bucket to average over (see `coarsen`).
    """
    table = coarsen(
        compared.filter(pl.col("count_type").is_in(list(count_types))),
        every,
        by=["count_type"],
        value="difference",
    ).with_columns(pl.col("difference").round(2))
    drawn = table.drop_nulls().with_columns(
        pl.col("count_type").replace({c: METRICS[c].label for c in count_types})
    )
    bars = (
        alt.Chart(_values(drawn))
        .mark_bar(width=2, color=palette.COLLECTORS["corrected"][0])
        .encode(
            x=_time_axis(drawn, count=5),
            y=alt.Y("difference:Q", title="corrected − legacy (nodes)"),
            tooltip=[
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                alt.Tooltip("difference:Q", format="+,.1f"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT / 2)
    )
    words = ", ".join(
        f"{r['count_type']} {r['difference']:+,.1f}"
        for r in drawn.group_by("count_type")
        .agg(pl.col("difference").mean())
        .sort("count_type")
        .iter_rows(named=True)
    )
    chart = bars.facet(
        facet=alt.Facet("count_type:N", title=None, sort=[METRICS[c].label for c in count_types]),
        columns=2,
    ).properties(
        title=f"{site_name}: corrected minus legacy",
        description=(
            f"{site_name}, {_span(table)}: monthly mean difference, corrected minus legacy, in "
            f"nodes. Means: {words or 'none, as legacy has no figures here'}."
        ),
    )
    return Figure(_styled(chart), table)


def leadtime(leases: pl.DataFrame, *, site_name: str, most: int = 1500) -> Figure:
    """Draw lead times as points, requested beside effective, coloured by node type.

    Args:
        leases: `leadtime_leases` rows of one site.
        site_name: for the title.
        most: points drawn of those up to one minute, and of the longer ones; where there are
            more, every n-th in the order of creation is drawn, and the title says so.

    Lead times under one minute are drawn at one minute, the left end of the log axis.
    """
    table = (
        leases.select(
            "created_at",
            pl.col("node_type").fill_null("unknown"),
            pl.col("requested_h").alias("requested"),
            pl.col("effective_h").alias("effective"),
        )
        .unpivot(
            on=["requested", "effective"],
            index=["created_at", "node_type"],
            variable_name="leadtime_type",
            value_name="hours",
        )
        .drop_nulls("hours")
        .sort("leadtime_type", "created_at", "node_type", "hours", descending=[True] + 3 * [False])
    )
    ranked = (table.group_by("node_type").len().sort("len", "node_type", descending=[True, False]))[
        "node_type"
    ].to_list()
    colours = palette.node_type_colours([t for t in ranked if t != "unknown"])
    named = [t for t in colours if t != "other"]
    at_once = pl.col("hours") <= 1 / 60
    strata = [table.filter(at_once), table.filter(~at_once)]
    steps = [max(1, -(-stratum.height // most)) for stratum in strata]
    drawn = pl.concat(
        stratum.gather_every(step) for stratum, step in zip(strata, steps, strict=True)
    ).select(
        pl.col("created_at").dt.truncate("1h").alias("timestamp"),
        pl.when(pl.col("node_type").is_in(named))
        .then("node_type")
        .otherwise(pl.lit("other"))
        .alias("node_type"),
        "leadtime_type",
        pl.col("hours").clip(1 / 60).round(3),
    )
    used = [t for t in colours if (drawn["node_type"] == t).any()]
    thin = (
        f"drawn: {_every(steps[0])} lead time of at most one minute, {_every(steps[1])} longer one"
    )
    chart = (
        alt.Chart(_values(drawn))
        .mark_point(filled=True, size=9, opacity=0.55)
        .encode(
            x=_time_axis(drawn, count=5, title="lease created"),
            y=alt.Y(
                "hours:Q",
                title="hours",
                scale=alt.Scale(type="log", domainMin=1 / 60),
                axis=alt.Axis(
                    values=[1 / 60, 1, 24, 168, 720],
                    labelExpr=_lookup(
                        "format(datum.value, '.2f')",
                        {
                            "0.02": "≤ 1 min",
                            "1.00": "1 h",
                            "24.00": "1 d",
                            "168.00": "7 d",
                            "720.00": "30 d",
                        },
                    ),
                ),
            ),
            color=alt.Color(
                "node_type:N",
                title=None,
                scale=alt.Scale(domain=used, range=[colours[t] for t in used]),
                legend=alt.Legend(symbolSize=60, symbolOpacity=1),
            ),
            tooltip=[
                alt.Tooltip("utcyearmonthdate(timestamp):T", title="created"),
                alt.Tooltip("node_type:N", title="node type"),
                alt.Tooltip("hours:Q", format=",.2f"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT)
        .facet(facet=alt.Facet("leadtime_type:N", title=None, sort=["requested", "effective"]))
        .properties(
            title=alt.TitleParams(
                f"{site_name}: lead times, requested and effective", subtitle=thin
            ),
            description=(
                f"{site_name}: hours from a lease's creation to its requested start and to its "
                f"first real start, on a log scale ({thin}). " + _leadtime_words(table)
            ),
        )
    )
    return Figure(_styled(chart), drawn)


def _leadtime_words(table: pl.DataFrame) -> str:
    return " ".join(
        f"{r['leadtime_type'].capitalize()}: {r['n']:,} leases, {r['advance']:.1%} over one hour, "
        f"median of these {r['median'] or 0:,.1f} h."
        for r in table.group_by("leadtime_type", maintain_order=True)
        .agg(
            pl.len().alias("n"),
            (pl.col("hours") > 1).mean().alias("advance"),
            pl.col("hours").filter(pl.col("hours") > 1).median().alias("median"),
        )
        .iter_rows(named=True)
    )


def cross_site_table(
    usage: pl.DataFrame, *, every: str, collector: str = "corrected"
) -> pl.DataFrame:
    """Give used and available nodes per site.

    Args:
        usage: `usage_timeline` of all sites.
        every: bucket to average over (see `coarsen`).
        collector: whose count to take.

    Returns:
        `site`, `timestamp`, `total`, `used` = occupied, `leased` = committed where nobody knows
        how much of it was used (else 0), `available` = what else could have been used: reservable
        and on-demand capacity less the former; null where any of these is unknown. The buckets
        before the site existed are left out.
    """
    names = ["total", "reservable", "ondemand_capacity", "committed", "occupied"]
    wide = (
        _text(usage)
        .filter(pl.col("collector_type") == collector, pl.col("count_type").is_in(names))
        .pivot(on="count_type", on_columns=names, index=["site", "timestamp"], values="value")
    )
    told = pl.col("occupied").is_not_null()
    known = pl.all_horizontal(pl.col(names[:3]).is_not_null()) & (
        told | pl.col("committed").is_not_null()
    )
    held = pl.when(told).then("occupied").otherwise("committed")
    capacity = pl.col("reservable") + pl.col("ondemand_capacity")
    daily = wide.select(
        "site",
        "timestamp",
        "total",
        pl.when(known).then(pl.when(told).then("occupied").otherwise(0.0)).alias("used"),
        pl.when(known).then(pl.when(told).then(0.0).otherwise("committed")).alias("leased"),
        pl.when(known).then((capacity - held).clip(0)).alias("available"),
    ).unpivot(index=["site", "timestamp"], variable_name="quantity")
    return (
        coarsen(daily, every, by=["site", "quantity"])
        .pivot(
            on="quantity",
            on_columns=["total", "used", "leased", "available"],
            index=["site", "timestamp"],
            values="value",
        )
        .sort("site", "timestamp")
        .filter(((pl.col("total") > 0) | pl.col("total").is_null()).cum_max().over("site"))
    )


def cross_site_usage(
    usage: pl.DataFrame,
    *,
    site_names: dict[str, str],
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw all sites: their sum stacked, and each beside the others.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name, in the order of stacking from the bottom.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = cross_site_table(usage, every=every, collector=collector).with_columns(
        pl.col("total", "used", "leased", "available").round(2)
    )
    sites = [site for site in site_names if (table["site"] == site).any()]
    keys: list[tuple[str, str, str]] = []
    for site in sites:
        states = ("used", "leased (use unknown)", "available")
        for state, shade in zip(states, palette.site_shades(site), strict=True):
            key = state.split()[0]
            if (table.filter(pl.col("site") == site)[key].fill_null(0) > 0).any():
                keys.append((f"{site_names[site]}, {state}", shade, f"{site}/{key}"))
    long = (
        table.select("site", "timestamp", "used", "leased", "available")
        .unpivot(index=["site", "timestamp"], variable_name="state", value_name="nodes")
        .select(
            "timestamp",
            pl.col("site").replace(site_names).alias("name"),
            (pl.col("site") + "/" + pl.col("state"))
            .replace_strict({key: label for label, _, key in keys}, default=None)
            .alias("series"),
            (pl.col("site") + "/" + pl.col("state"))
            .replace_strict({key: i for i, (_, _, key) in enumerate(keys)}, default=None)
            .alias("order"),
            "nodes",
        )
        .drop_nulls("series")
        .sort("order", "timestamp")
    )
    # The sum has a total only where every site that existed is known.
    totals = (
        table.group_by("timestamp")
        .agg(
            pl.when(
                pl.all_horizontal(pl.col("total", "used", "available").is_not_null()).all()
            ).then(pl.col("total").sum())
        )
        .sort("timestamp")
    )
    gaps = _gaps(totals, "total", every)
    colours = alt.Scale(domain=[k[0] for k in keys], range=[k[1] for k in keys])
    legend = alt.Color("series:N", scale=colours, title=None, sort=None)
    tooltip = [
        alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
        alt.Tooltip("series:N", title="site"),
        alt.Tooltip("nodes:Q", format=",.1f"),
    ]
    area = alt.Chart(_values(long)).mark_area(interpolate="step-after")
    summed = alt.layer(
        area.encode(
            x=_time_axis(totals),
            y=alt.Y("nodes:Q", title="nodes", stack="zero"),
            color=legend,
            order="order:Q",
            tooltip=tooltip,
        ),
        alt.Chart(_values(totals))
        .mark_line(color=palette.TOTAL, strokeWidth=1.3, interpolate="step-after")
        .encode(x="timestamp:T", y="total:Q"),
        *([_gap_bands(gaps)] if gaps.height else []),
    ).properties(width=WIDTH, height=HEIGHT, title="All sites together (black line = total)")
    panels = []
    for site in sites:
        name = site_names[site]
        one = long.filter(pl.col("name") == name)
        line = table.filter(pl.col("site") == site)
        blank = _gaps(line, "used", every)
        panels.append(
            alt.layer(
                alt.Chart(_values(one))
                .mark_area(interpolate="step-after")
                .encode(
                    x=_time_axis(totals, count=5),
                    y=alt.Y("nodes:Q", title="nodes", stack="zero"),
                    color=legend,
                    order="order:Q",
                    tooltip=tooltip,
                ),
                alt.Chart(_values(line.select("timestamp", "total")))
                .mark_line(color=palette.TOTAL, strokeWidth=1, interpolate="step-after")
                .encode(x="timestamp:T", y="total:Q"),
                *([_gap_bands(blank)] if blank.height else []),
            ).properties(width=WIDTH / 2 - 40, height=110, title=name)
        )
    chart = alt.vconcat(summed, alt.concat(*panels, columns=2)).properties(
        description=f"Used and available nodes of all sites, {_span(table)}, monthly means. "
        + "; ".join(
            f"{site_names[r['site']]}: total {r['total'] or 0:,.1f}, used {r['used'] or 0:,.1f} "
            "nodes on average"
            for r in table.group_by("site", maintain_order=True)
            .agg(pl.col("total", "used").mean())
            .iter_rows(named=True)
            if r["site"] in site_names
        )
        + "."
    )
    return Figure(_styled(chart), table)


def site_comparison(
    usage: pl.DataFrame,
    *,
    site_names: dict[str, str],
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw the used share of each site's nodes as lines.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = cross_site_table(usage, every=every, collector=collector).select(
        "site",
        "timestamp",
        pl.when(pl.col("total") > 0, pl.col("leased") == 0)
        .then(100 * pl.col("used") / pl.col("total"))
        .round(2)
        .alias("used_percent"),
    )
    sites = [site for site in site_names if (table["site"] == site).any()]
    drawn = table.with_columns(pl.col("site").replace(site_names))
    chart = (
        alt.Chart(_values(drawn))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=_time_axis(drawn),
            y=alt.Y("used_percent:Q", title="% of nodes used", scale=alt.Scale(domain=[0, 100])),
            color=alt.Color(
                "site:N",
                title=None,
                scale=alt.Scale(
                    domain=[site_names[s] for s in sites],
                    range=[palette.site_shades(s)[0] for s in sites],
                ),
                legend=_LINE_LEGEND,
            ),
            tooltip=[
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                "site:N",
                alt.Tooltip("used_percent:Q", format=".1f", title="% used"),
            ],
        )
        .properties(
            width=WIDTH,
            height=HEIGHT,
            title="Share of each site's nodes that were used",
            description=f"Share of each site's nodes that were used, {_span(table)}, monthly. "
            + "; ".join(
                f"{r['site']}: {r['used_percent']:.1f} % on average"
                for r in drawn.group_by("site", maintain_order=True)
                .agg(pl.col("used_percent").mean())
                .iter_rows(named=True)
                if r["used_percent"] is not None
            )
            + ".",
        )
    )
    return Figure(_styled(chart), table)


def errors(
    table: pl.DataFrame, *, site_names: dict[str, str], count_types: Sequence[str]
) -> Figure:
    """Draw each collector's distance to the truth, by era.

    Args:
        table: `site`, `era`, `count_type`, `collector_type`, `error` (a share of the truth).
        site_names: site to its name, in the order of the panels' rows.
        count_types: the panels' columns.

    Errors under 0.01 % are drawn at 0.01 %, the lower end of the log axis.
    """
    table = _text(table)
    labels = [METRICS[c].label for c in count_types]
    drawn = (
        table.filter(
            pl.col("count_type").is_in(list(count_types)), pl.col("site").is_in(list(site_names))
        )
        .drop_nulls("error")
        .select(
            pl.col("site").replace(site_names),
            pl.col("count_type").replace({c: METRICS[c].label for c in count_types}),
            "collector_type",
            pl.col("era").str.replace("_on", " on").str.replace("_", "–"),
            pl.col("error").clip(1e-4).alias("error"),
        )
    )
    present = [c for c in palette.COLLECTORS if (drawn["collector_type"] == c).any()]
    scale = alt.Scale(domain=present, range=[palette.COLLECTORS[c][0] for c in present])
    chart = (
        alt.Chart(_values(drawn))
        .mark_line(point=alt.OverlayMarkDef(size=35), strokeWidth=1.2)
        .encode(
            x=alt.X("era:O", title=None, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y(
                "error:Q",
                title="error",
                scale=alt.Scale(type="log", domainMin=1e-4),
                axis=alt.Axis(format="~%", values=[1e-4, 1e-3, 1e-2, 1e-1, 1]),
            ),
            color=alt.Color("collector_type:N", title=None, scale=scale, legend=_LINE_LEGEND),
            tooltip=["collector_type:N", "era:O", alt.Tooltip("error:Q", format=".2%")],
        )
        .properties(width=100, height=95)
        .facet(
            row=alt.Row("site:N", title=None, sort=list(site_names.values())),
            column=alt.Column("count_type:N", title=None, sort=labels),
        )
        .properties(
            title="Distance to the truth",
            description="Error of each collector against the twin's truth. "
            + "; ".join(
                f"{r['site']} {r['collector_type']}: {r['error']:.1%} in the middle"
                for r in drawn.group_by("site", "collector_type", maintain_order=True)
                .agg(pl.col("error").median())
                .iter_rows(named=True)
            )
            + ".",
        )
    )
    return Figure(_styled(chart), table)


def records(
    table: pl.DataFrame, *, site_names: dict[str, str], count_types: Sequence[str]
) -> Figure:
    """Set yearly means of the real record beside ours.

    Args:
        table: `site`, `collector_type`, `count_type`, `year`, `record` (`real` or another word),
            `value` in nodes.
        site_names: site to its name, in the order of the panels' rows.
        count_types: the panels' columns.
    """
    drawn = (
        _text(table)
        .with_columns(
            pl.col("site").replace(site_names),
            pl.col("count_type").replace({c: METRICS[c].label for c in count_types}),
            pl.col("value").round(1),
        )
        .sort("site", "count_type", "collector_type", "record", "year")
    )
    present = [c for c in palette.COLLECTORS if (drawn["collector_type"] == c).any()]
    others = sorted(set(drawn["record"].to_list()) - {"real"})
    colour = alt.Color(
        "collector_type:N",
        title=None,
        scale=alt.Scale(domain=present, range=[palette.COLLECTORS[c][0] for c in present]),
        legend=_LINE_LEGEND,
    )
    base = alt.Chart(_values(drawn)).encode(
        x=alt.X("year:Q", title=None, axis=alt.Axis(format="d", tickCount=4, grid=False)),
        y=alt.Y("value:Q", title="nodes"),
        color=colour,
        tooltip=["record:N", "collector_type:N", "year:Q", alt.Tooltip("value:Q", format=",.1f")],
    )
    lines = base.mark_line(strokeWidth=1.2).encode(
        strokeDash=alt.StrokeDash(
            "record:N",
            title=None,
            legend=_LINE_LEGEND,
            scale=alt.Scale(domain=["real", *others], range=[[1, 0], *([[4, 3]] * len(others))]),
        )
    )
    points = base.mark_point(size=25, filled=True).transform_filter("datum.record == 'real'")
    chart = (
        alt.layer(lines, points)
        .properties(width=125, height=105)
        .facet(
            row=alt.Row("site:N", title=None, sort=list(site_names.values())),
            column=alt.Column(
                "count_type:N", title=None, sort=[METRICS[c].label for c in count_types]
            ),
        )
        .resolve_scale(y="independent")
        .properties(
            title=f"Yearly means: real (solid) and {', '.join(others)} (dashed)",
            description="Yearly mean nodes of the real published curves beside ours. "
            + "; ".join(
                f"{r['site']} {r['count_type'].lower()}, {r['collector_type']}, {r['record']}: "
                f"{r['value']:,.0f}"
                for r in drawn.group_by(
                    "site", "count_type", "collector_type", "record", maintain_order=True
                )
                .agg(pl.col("value").mean())
                .iter_rows(named=True)
            )
            + ".",
        )
    )
    return Figure(_styled(chart), table)


def published(table: pl.DataFrame, *, site_name: str, ours: str) -> Figure:
    """Set what published files say, month by month, beside our count.

    Args:
        table: `panel`, `timestamp` (start of a month), `record` (`real` or `ours`), `value`.
        site_name: for the title.
        ours: what our record is called.
    """
    drawn = table.with_columns(pl.col("value").round(2)).sort("panel", "record", "timestamp")
    chart = (
        alt.Chart(_values(drawn))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=_time_axis(drawn, count=7),
            y=alt.Y("value:Q", title=None),
            color=alt.Color(
                "record:N",
                title=None,
                legend=_LINE_LEGEND,
                scale=alt.Scale(domain=["real", ours], range=[palette.REAL, palette.OURS]),
            ),
            tooltip=[
                "record:N",
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                alt.Tooltip("value:Q", format=",.1f"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT / 1.8)
        .facet(
            facet=alt.Facet(
                "panel:N", title=None, sort=table["panel"].unique(maintain_order=True).to_list()
            ),
            columns=2,
        )
        .resolve_scale(y="independent")
        .properties(
            title=f"{site_name}: what published files say, and the {ours}",
            description=f"{site_name}, {_span(table)}, monthly. "
            + "; ".join(
                f"{r['panel']}, {r['record']}: {r['value']:,.1f} on average"
                for r in drawn.group_by("panel", "record", maintain_order=True)
                .agg(pl.col("value").mean())
                .drop_nulls()
                .iter_rows(named=True)
            )
            + ".",
        )
    )
    return Figure(_styled(chart), drawn)


# What the figures share.


def _nothing(chart: Any) -> Any:  # noqa: ANN401 - any kind of Altair chart, and a plain one back
    """Say that there is nothing to draw, in place of a chart without a size."""
    words = chart.to_dict().get("description", "")
    return (
        alt.Chart(alt.InlineData(values=[{}]), description=f"Nothing to show. {words}")
        .mark_text(text="nothing to show", font=FONT, color=palette.GREY)
        .properties(width=WIDTH, height=60)
    )


def _text(frame: pl.DataFrame) -> pl.DataFrame:
    """Give enumerations as text: figures relabel them."""
    return frame.with_columns(cs.enum().cast(pl.String))


def _styled(chart: Any) -> Any:  # noqa: ANN401 - any kind of Altair chart, and the same back
    """Give every figure one look."""
    return (
        chart.configure(font=FONT, background="white", padding=6)
        .configure_view(stroke="#CCCCCC")
        .configure_axis(gridColor="#EEEEEE", titleFontWeight="normal")
        .configure_title(anchor="start", fontSize=13, subtitleFontSize=11)
        .configure_legend(orient="bottom", columns=4, labelLimit=240, symbolType="square")
    )


def _values(frame: pl.DataFrame) -> alt.InlineData:
    """Embed a frame as CSV, a third of the same rows as JSON.

    Times are ISO text in UTC, so that no reader's zone shifts them; null stays null.
    """
    parse = {
        name: "date" if isinstance(dtype, pl.Datetime) else "number"
        for name, dtype in frame.schema.items()
        if dtype != pl.String
    }
    times = [name for name, kind in parse.items() if kind == "date"]
    text = frame.with_columns(
        pl.col(times).dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%MZ")
    ).write_csv()
    return alt.InlineData(values=text, format=alt.CsvDataFormat(type="csv", parse=parse))


def _time_axis(frame: pl.DataFrame, *, count: int = 12, title: str | None = None) -> alt.X:
    """Give an axis of years over the time that the frame spans, with at most `count` labels."""
    scale = alt.Scale(type="utc")
    ticks: Any = count
    if not frame.is_empty():
        first, last = frame["timestamp"].min(), frame["timestamp"].max()
        scale = alt.Scale(type="utc", domain=[_milliseconds(first), _milliseconds(last)])
        years = 1 + last.year - first.year  # type: ignore[union-attr]
        ticks = {"interval": "year", "step": max(1, -(-years // count))}
    return alt.X(
        "timestamp:T",
        title=title,
        scale=scale,
        axis=alt.Axis(format="%Y", tickCount=ticks, grid=False),
    )


def _milliseconds(moment: Any) -> int:  # noqa: ANN401 - what Polars gives for a time
    return round(moment.timestamp() * 1000)


def _lookup(field: str, values: dict[str, Any]) -> str:
    """Write a Vega expression that maps the values of a field."""
    name = field if "(" in field else f"datum.{field}"
    items = ",".join(
        f"'{key}':{value}" if isinstance(value, int) else f"'{key}':'{value}'"
        for key, value in values.items()
    )
    return f"{{{items}}}[{name}]"


def _hatch(slope: float = 0.45) -> dict[str, Any]:
    """Stripes, as a gradient with hard steps: neither a value nor a zero.

    The gradient runs to the corner of the box: (1, slope), stretched so that (1, 1) is its end.
    """
    stripes = 160
    stretch = (1 + slope) / (1 + slope**2)
    stops = []
    for i in range(stripes):
        colour = palette.STATES["unknown"] if i % 2 else "#F4F4F4"
        stops += [
            {"offset": round(i / stripes, 4), "color": colour},
            {"offset": round((i + 1) / stripes, 4), "color": colour},
        ]
    return {
        "gradient": "linear",
        "x1": 0,
        "y1": 0,
        "x2": round(stretch, 4),
        "y2": round(slope * stretch, 4),
        "stops": stops,
    }


def _gaps(table: pl.DataFrame, value: str, every: str) -> pl.DataFrame:
    """Give the stretches [timestamp, until) in which `value` is null."""
    unknown = pl.col(value).is_null()
    return (
        table.with_columns((unknown != unknown.shift(1, fill_value=False)).cum_sum().alias("run"))
        .filter(unknown)
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("timestamp").min(),
            pl.col("timestamp").max().dt.offset_by(every).alias("until"),
        )
        .drop("run")
    )


def _gap_bands(gaps: pl.DataFrame) -> alt.Chart:
    return (
        alt.Chart(_values(gaps))
        .mark_rect(fill=_hatch(), tooltip="unknown")
        .encode(x=alt.X("timestamp:T", scale=alt.Scale(type="utc")), x2="until:T")
    )


def _ceiling(values: pl.Series) -> float:
    top = values.max()
    return 1.05 * float(top) if isinstance(top, int | float) and top > 0 else 1.0


def _span(table: pl.DataFrame) -> str:
    if table.is_empty():
        return "no days"
    times = table["timestamp"] if "timestamp" in table.columns else table["created_at"]
    years = sorted(set(times.dt.year().to_list()))
    return f"{years[0]}" if len(years) == 1 else f"{years[0]} to {years[-1]}"


def _every(n: int) -> str:
    if n == 1:
        return "every"
    tail = "th" if n % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"every {n}{tail}"
