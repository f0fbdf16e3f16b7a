"""Figures: pure functions from output tables to Altair charts.

Every function takes frames shaped as the output contracts (`usage_timeline`, `leadtime_leases`,
...) and returns a `Figure`: the chart and the numbers it draws. Daily means are averaged to weeks
or months first; the mean of equal buckets is exact, so the area under a curve stays node-hours. A
bucket counts as known where at least 95 % of its days are; what is unknown is left blank or grey,
never drawn as zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.models.metrics import METRICS, PARTITION, RESOURCES
from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    KNOWN_SHARE,
    LINE_LEGEND,
    PARTS,
    WIDTH,
    Figure,
    as_text,
    ceiling,
    coarsen,
    gap_layers,
    inline_values,
    lookup,
    ordinal_every,
    panel_title,
    side_by_side,
    since_opening,
    span_words,
    styled,
    time_axis,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


SLACK = 1e-6
"""Sums of floating-point means closer than this are equal."""

ON_DEMAND = "_ondemand"


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
        are known, so that the parts add up (one that nobody tells is 0 where the others make the
        total); a bucket with too few such days is null. The days before there was anything
        are left out, and the first bucket begins with the first day of a group.
    """
    names = ["total", "committed", *PARTITION]
    used = ["active", "stopped", "idle"]
    rest = [name for name in ("total", *PARTITION) if name not in used]
    wide = (
        as_text(usage)
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
    held = pl.when(told).then(pl.sum_horizontal(used)).otherwise("committed")
    adds_up = (pl.sum_horizontal(rest[1:]) + held - pl.col("total")).abs() <= SLACK
    known = (
        pl.col("total").is_not_null()
        & held.is_not_null()
        & (pl.all_horizontal(pl.col(rest).is_not_null()) | adds_up)
    )
    daily = wide.select(
        *by,
        "timestamp",
        *(pl.when(known).then(pl.col(name).fill_null(0.0)).alias(name) for name in rest),
        *(pl.when(known & told).then(name).when(known).then(0.0).alias(name) for name in used),
        pl.when(known & told).then(0.0).when(known).then("committed").alias("leased"),
    ).filter(((pl.col("total") > 0) | pl.col("total").is_null()).cum_max().over(by or pl.lit(0)))
    return (
        daily.group_by(*by, bucket=pl.col("timestamp").dt.truncate(every), maintain_order=True)
        .agg(
            pl.col("timestamp").first(),
            *(
                pl.when(pl.col("total").is_not_null().mean() >= KNOWN_SHARE)
                .then(pl.col(name).mean())
                .round(3)
                .alias(name)
                for name in ("total", *PARTS)
            ),
        )
        # A bucket that began before the first day starts with it; all others at their beginning.
        .with_columns(
            pl.when(pl.col("bucket") == pl.col("bucket").first().over(by or pl.lit(0)))
            .then("timestamp")
            .otherwise("bucket")
            .alias("timestamp")
        )
        .drop("bucket")
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
    top = 100.0 if percent else ceiling(table["total"])
    unit = "% of all nodes" if percent else "nodes"
    present = [p for p in palette.STATES if p != "unknown" and (table[p].fill_null(0) > 0).any()]
    drawn = table.select("timestamp", "total", "unknown", *present).with_columns(
        (pl.col("total") - pl.col("unknown")).alias("known")
    )
    legend = present + ["unknown"] * (table["unknown"].sum() > 0)
    colours = alt.Scale(
        domain=[PARTS[p] for p in legend], range=[palette.STATES[p] for p in legend]
    )
    base = alt.Chart(inline_values(drawn))
    x = time_axis(drawn)
    stack = (
        base.transform_fold([*present], as_=["part", "value"])
        .transform_calculate(
            Part=lookup("part", {p: PARTS[p] for p in present}),
            order=lookup("part", {p: i for i, p in enumerate(present)}),
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
        interpolate="step-after",
        fill=palette.STATES["unknown"],
        stroke=palette.UNKNOWN_EDGE,
        strokeWidth=0.4,
        tooltip="unknown",
    ).encode(x=x, y=alt.Y("known:Q"), y2="total:Q")
    line = base.mark_line(interpolate="step-after", color=palette.TOTAL, strokeWidth=1.3).encode(
        x=x, y="total:Q"
    )
    layers = [stack, unknown_part, *gap_layers(table, "total", every)]
    how = "percent of all nodes" if percent else "nodes"
    chart = alt.layer(*layers, line).properties(
        width=WIDTH,
        height=HEIGHT,
        title=f"{site_name}: what its nodes were doing ({how})",
        description=_stack_words(table, parts, site_name, collector, percent=percent),
    )
    return Figure(styled(chart), table)


def _stack_words(
    table: pl.DataFrame, parts: list[str], site_name: str, collector: str, *, percent: bool
) -> str:
    unit = "percent of all nodes" if percent else "nodes"
    means = table.select(pl.col(*parts).mean()).row(0, named=True)
    words = ", ".join(f"{PARTS[p].lower()} {means[p]:,.1f}" for p in parts if means[p])
    span = span_words(table)
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
        collectors: the lines, from the lowest; grey is where the last of them does not know.
        every: bucket to average over (see `coarsen`).
    """
    usage = since_opening(usage)
    chosen = as_text(usage).filter(
        pl.col("count_type").is_in(list(count_types)),
        pl.col("collector_type").is_in(list(collectors)),
    )
    table = coarsen(chosen, every, by=["collector_type", "count_type"]).with_columns(
        # A month that began before the site starts with it.
        pl.max_horizontal("timestamp", pl.lit(usage["timestamp"].min())),
        pl.col("value").round(2),
    )
    times = table.select(pl.col("timestamp").unique().sort())
    present = [c for c in collectors if (table["collector_type"] == c).any()]
    looks = [palette.COLLECTORS[c] for c in present]
    colour, dash, width = (
        alt.Scale(domain=present, range=[look[i] for look in looks]) for i in range(3)
    )
    panels = []
    for count_type in count_types:
        # In the order of drawing; the time that a collector has no row for is null.
        drawn = times.join(pl.DataFrame({"collector_type": present}), how="cross").join(
            table.filter(pl.col("count_type") == count_type).drop("count_type"),
            on=["timestamp", "collector_type"],
            how="left",
        )
        lines = (
            alt.Chart(inline_values(drawn.sort("timestamp", maintain_order=True)))
            .mark_line()
            .encode(
                x=time_axis(times, count=5),
                y=alt.Y(
                    "value:Q",
                    title="nodes",
                    scale=alt.Scale(domain=[0, max(1.0, ceiling(drawn["value"]))]),
                ),
                color=alt.Color("collector_type:N", scale=colour, title=None, legend=LINE_LEGEND),
                strokeDash=alt.StrokeDash("collector_type:N", scale=dash, title=None),
                strokeWidth=alt.StrokeWidth("collector_type:N", scale=width, title=None),
                tooltip=[
                    alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                    alt.Tooltip("collector_type:N", title="collector"),
                    alt.Tooltip("value:Q", format=",.1f", title="nodes"),
                ],
            )
        )
        best = drawn.filter(pl.col("collector_type") == collectors[-1])
        panels.append(
            alt.layer(*gap_layers(best, "value", every), lines).properties(
                width=WIDTH / 2 - 30,
                height=HEIGHT / 1.7,
                title=panel_title(METRICS[count_type].label),
            )
        )
    chart = side_by_side(panels, columns=2)
    return Figure(
        styled(
            chart.properties(
                title=f"{site_name}: the collectors side by side",
                description=(
                    f"{site_name}, {span_words(table)}: monthly means of "
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
        + (
            ", ".join(f"{k} {means[c, k]:,.1f}" for k in present if means.get((c, k)) is not None)
            or "not known"
        )
        + ("" if means.get((c, present[-1])) is not None else f", {present[-1]} not known")
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
    names = {"unknown": "type not known"}
    drawn = table.filter(pl.col("node_type").is_in(shown)).with_columns(
        pl.col("node_type").replace(names)
    )
    which = (
        f"the {len(shown)} types of {len(order)} with most node-hours"
        if len(order) > len(shown)
        else f"all {len(order)} types"
    )
    chart = _part_panels(
        drawn, "node_type", [names.get(s, s) for s in shown], unit="nodes", every=every
    ).properties(
        title=alt.TitleParams(
            f"{site_name}: what the nodes of each type were doing (black line = total)",
            subtitle=f"{which}, the largest first",
        ),
        description=(
            f"{site_name}, {span_words(table)}: stacked monthly means of what the nodes of "
            f"{which} were doing: {', '.join(names.get(s, s) for s in shown)}."
        ),
    )
    return Figure(styled(chart), table)


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
    labels = {r: RESOURCES[r].split(" of ")[-1] for r in order}
    drawn = table.filter(pl.col("resource").is_in(order)).with_columns(
        pl.col("resource").replace(labels),
        *(
            pl.when(pl.col("total") > 0).then(100 * pl.col(p) / pl.col("total")).round(2).alias(p)
            for p in ["total", *PARTS]
        ),
    )
    chart = _part_panels(
        drawn, "resource", list(labels.values()), unit="% of all", every=every, top=100
    )
    used = (
        table.filter(pl.col("resource").is_in(order), pl.col("total") > 0)
        .group_by("resource", maintain_order=True)
        .agg(
            (100 * pl.col(name).filter(pl.col("active").is_not_null())).sum().alias(name)
            for name in ("active", "total")
        )
        .with_columns(pl.when(pl.col("total") > 0).then(pl.col("active") / pl.col("total")))
    )
    words = ", ".join(
        f"{labels[r]} not known" if share is None else f"{labels[r]} {100 * share:.1f} %"
        for r, share, _ in used.iter_rows()
    )
    return Figure(
        styled(
            chart.properties(
                title=f"{site_name}: what each resource was doing",
                description=(
                    f"{site_name}, {span_words(table)}: stacked monthly shares of what each "
                    f"resource was doing, in percent of its total. Active share: {words}."
                ),
            )
        ),
        table,
    )


def _part_panels(
    drawn: pl.DataFrame,
    key: str,
    order: list[str],
    *,
    unit: str,
    every: str,
    top: float | None = None,
) -> alt.ConcatChart:
    present = [p for p in palette.STATES if (drawn[p].fill_null(0) > 0).any()]
    colours = alt.Scale(
        domain=[PARTS[p] for p in present], range=[palette.STATES[p] for p in present]
    )
    x = time_axis(drawn, count=4)
    panels = []
    for name in order:
        one = drawn.filter(pl.col(key) == name).select("timestamp", "total", *present)
        base = alt.Chart(inline_values(one))
        areas = (
            base.transform_fold([*present], as_=["part", "value"])
            .transform_calculate(
                Part=lookup("part", {p: PARTS[p] for p in present}),
                order=lookup("part", {p: i for i, p in enumerate(present)}),
            )
            .mark_area(interpolate="step-after")
            .encode(
                x=x,
                y=alt.Y(
                    "value:Q",
                    title=unit,
                    stack="zero",
                    scale=alt.Scale(domain=[0, top or ceiling(one["total"])], clamp=True),
                ),
                color=alt.Color("Part:N", title=None, scale=colours),
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
        panels.append(
            alt.layer(areas, *gap_layers(one, "total", every), line).properties(
                width=WIDTH / 3 - 30, height=95, title=panel_title(name)
            )
        )
    return side_by_side(panels, columns=3)


SUPERSEDED = ("a source of higher priority speaks", "source not in the site's priority")
"""Reasons for which nothing is lost: another source tells the same hours."""


def rejected(audit: pl.DataFrame) -> pl.DataFrame:
    """Add up what the corrected count rejected.

    Args:
        audit: `rejects` of one site.

    Returns:
        `stage`, `source`, `reason`, `superseded` (another source was believed for these hours),
        `rows`, `hours`, the most hours first. An hour can be rejected once for each quantity, so
        hours of different stages do not add up. What only the uncorrected count rejects is left
        out.
    """
    return (
        audit.filter(~pl.col("stage").str.starts_with("uncorrected"))
        .group_by("stage", "source", "reason")
        .agg(pl.len().alias("rows"), pl.col("hours").sum().round(1))
        .with_columns(pl.col("reason").is_in(SUPERSEDED).alias("superseded"))
        .select("stage", "source", "reason", "superseded", "rows", "hours")
        .sort("hours", "stage", "reason", "source", descending=[True, False, False, False])
    )


def rejects(audit: pl.DataFrame, *, site_name: str, most: int = 15) -> Figure:
    """Draw the hours that did not count, by the reason they were rejected for.

    Args:
        audit: `rejects` of one site.
        site_name: for the title.
        most: this many reasons, by hours; the rest are left to the table.
    """
    table = rejected(audit)
    kinds = ["rejected", "superseded: another source was believed"]
    drawn = table.head(most).select(
        (pl.col("stage") + " · " + pl.col("source") + ": " + pl.col("reason")).alias("what"),
        pl.when("superseded").then(pl.lit(kinds[1])).otherwise(pl.lit(kinds[0])).alias("kind"),
        "rows",
        "hours",
    )
    top = max(10.0, ceiling(drawn["hours"]))
    base = alt.Chart(inline_values(drawn)).encode(
        y=alt.Y(
            "what:N",
            sort=drawn["what"].to_list(),
            title=None,
            axis=alt.Axis(labelLimit=460, grid=True),
        ),
        x=alt.X(
            "hours:Q",
            title="entity-hours rejected",
            scale=alt.Scale(type="symlog", domain=[0, top]),
            axis=alt.Axis(
                values=[0, *(10**n for n in range(1, 9) if 10**n <= top)],
                labelExpr="format(datum.value, '~s')",
            ),
        ),
    )
    points = base.mark_point(size=55, filled=True, opacity=1).encode(
        color=alt.Color(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=kinds, range=[palette.PLAIN, palette.PALE]),
            legend=alt.Legend(symbolType="circle", labelLimit=400)
            if drawn["kind"].n_unique() > 1
            else None,
        ),
        tooltip=["what:N", "rows:Q", alt.Tooltip("hours:Q", format=",.0f")],
    )
    text = base.mark_text(align="left", dx=7).encode(text=alt.Text("rows:Q", format=",d"))
    notes = ["number = rows"]
    if table.height > most:
        notes.append(f"the {most} largest of {table.height}; the rest are in the CSV")
    if not (table["hours"] > 0).any():
        notes.append("none of these rows held any hour of the record")
    chart = alt.layer(points, text).properties(
        width=WIDTH / 2,
        height=alt.Step(18),
        title=alt.TitleParams(f"{site_name}: what did not count", subtitle="; ".join(notes)),
        description=f"{site_name}: rows and entity-hours that the corrected count rejected, by "
        "stage, source and reason. "
        + "; ".join(
            f"{r['what']}: {r['rows']:,} rows, {r['hours']:,.0f} hours"
            for r in drawn.iter_rows(named=True)
        ),
    )
    return Figure(styled(chart), table)


SOURCES: dict[str, str] = {
    "nova.compute_nodes": "Nova hosts",
    "nova.services": "Nova services",
    "blazar.computehosts": "Blazar hosts",
    "blazar.devices": "Blazar devices",
    "inventory.node_intervals": "the inventory",
    "chameleon_usage.node_usage_report_cache": "the caches of the time",
    "records": "published (all sources together)",
}
"""What figures call a source; one not listed keeps its name."""


def coverage(
    shares: pl.DataFrame, *, site_name: str, every: str = "1mo", on_demand: bool = True
) -> Figure:
    """Draw how much of the time each source can speak for, as a heat map.

    Args:
        shares: `coverage` rows of one site.
        site_name: for the title.
        every: bucket to average over (see `coarsen`).
        on_demand: whether the site has nodes to use without a lease; if not, the rows of
            quantities on demand are left out.

    The time before any source names a node is blank.
    """
    shares = shares.filter(~pl.col("source").is_in(["seen", "inferred"]))  # see viz/known.py
    named = shares.filter(pl.col("source") != "records", pl.col("known_share").is_not_null())
    first = (named if named.height else shares)["timestamp"].min()
    table = coarsen(
        shares.filter(
            pl.col("timestamp") >= first,
            pl.lit(on_demand) | ~pl.col("quantity_type").str.ends_with(ON_DEMAND),
        ),
        every,
        by=["quantity_type", "source"],
        value="known_share",
    ).with_columns(pl.col("known_share").round(3))
    drawn = table.select(
        pl.col("quantity_type").replace({m: METRICS[m].label for m in METRICS})
        + ", by "
        + pl.col("source").replace(SOURCES),
        "timestamp",
        pl.col("timestamp").dt.offset_by(every).alias("until"),
        "known_share",
        "source",
        order="quantity_type",
    ).rename({"quantity_type": "row"})
    drawn = drawn.with_columns(
        pl.col("row").str.replace(", by published", ", published", literal=True)
    )
    rows = (
        drawn.sort(
            pl.col("order").replace_strict({m: i for i, m in enumerate(METRICS)}, default=99),
            pl.col("source") == "records",
            "source",
        )["row"]
        .unique(maintain_order=True)
        .to_list()
    )
    chart = (
        alt.Chart(
            inline_values(
                drawn.select("row", "timestamp", "until", "known_share").drop_nulls("known_share")
            )
        )
        .mark_rect(stroke=None)
        .encode(
            x=time_axis(shares),
            x2="until:T",
            y=alt.Y("row:N", title=None, sort=rows, axis=alt.Axis(labelLimit=360)),
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
                f"{site_name}, {span_words(table)}: share of host time that each source knows, by "
                "month. "
                + "; ".join(
                    f"{r['row']}: {r['known_share']:.0%}"
                    for r in drawn.group_by("row", maintain_order=True)
                    .agg(pl.col("known_share").mean())
                    .iter_rows(named=True)
                    if r["known_share"] is not None
                )
            ),
        )
    )
    return Figure(styled(chart), table)


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
        alt.Chart(inline_values(drawn))
        .mark_bar(width=2, color=palette.COLLECTORS["corrected"][0])
        .encode(
            x=time_axis(drawn, count=5),
            y=alt.Y("difference:Q", title="corrected − legacy (nodes)"),
            tooltip=[
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                alt.Tooltip("difference:Q", format="+,.1f"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT / 2)
    )
    labels = [METRICS[c].label for c in count_types]
    words = ", ".join(
        f"{r['count_type'].lower()} {r['difference']:+,.1f}"
        for r in drawn.group_by("count_type")
        .agg(pl.col("difference").mean())
        .sort(pl.col("count_type").cast(pl.Enum(labels)))
        .iter_rows(named=True)
    )
    chart = (
        bars.facet(facet=alt.Facet("count_type:N", title=None, sort=labels), columns=2)
        .resolve_axis(x="independent")
        .properties(
            title=f"{site_name}: corrected minus legacy",
            description=(
                f"{site_name}, {span_words(table)}: monthly mean difference, corrected minus "
                f"legacy, in nodes. Means: {words or 'none, as legacy has no figures here'}."
            ),
        )
    )
    return Figure(styled(chart), table)


def leadtime(leases: pl.DataFrame, *, site_name: str, most: int = 1500) -> Figure:
    """Draw lead times as points, requested beside effective, coloured by node type.

    Args:
        leases: `leadtime_leases` rows of one site.
        site_name: for the title.
        most: points drawn of those up to one minute, and of the longer ones; where there are
            more, every n-th in the order of creation is drawn, and the title says so.

    Lead times under one minute are drawn at one minute, the lower end of the log axis.
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
    named = [t for t in colours if t != "other"]  # the rest, and types not known
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
        "every lease is drawn"
        if max(steps) == 1
        else f"drawn: {ordinal_every(steps[0])} lead time of at most one minute, "
        f"{ordinal_every(steps[1])} longer one"
    )
    chart = (
        alt.Chart(inline_values(drawn))
        .mark_point(filled=True, size=9, opacity=0.55)
        .encode(
            x=time_axis(drawn, count=5, title="lease created"),
            y=alt.Y(
                "hours:Q",
                title="lead time",
                scale=alt.Scale(type="log", domainMin=1 / 60),
                axis=alt.Axis(
                    values=[1 / 60, 1, 24, 168, 720],
                    labelExpr=lookup(
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
    return Figure(styled(chart), drawn)


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
