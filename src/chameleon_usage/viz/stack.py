"""What the nodes of a site, a type, a resource were doing, or why they could not: stacked parts."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from chameleon_usage.models.metrics import RESOURCES
from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    LABELS,
    MONTH,
    PARTS,
    WIDTH,
    Figure,
    as_text,
    ceiling,
    coarsen,
    colour,
    event_layers,
    figure,
    gap_layers,
    inline_values,
    lookup,
    panel_title,
    side_by_side,
    since_opening,
    span_words,
    time_axis,
    total_line,
)
from chameleon_usage.viz.tables import partition_table

MOST_TYPES = 12
"""This many node types have a panel; the rest are left to the table."""

NAMES = LABELS | PARTS
SHADES = palette.STATES | palette.OUT_OF_USE


def usage_stack(
    usage: pl.DataFrame,
    *,
    site_name: str,
    percent: bool = False,
    events: pl.DataFrame | None = None,
    shares: pl.DataFrame | None = None,
) -> Figure:
    """Draw what every node was doing, by week: the parts stacked under the line of the total.

    Args:
        usage: `usage_timeline` rows of one site.
        site_name: for the title.
        percent: of the total, rather than nodes.
        events: `timestamp` and `label` of what to mark, if anything.
        shares: `coverage` rows of the site, to draw below the stack how much of it is inferred.
    """
    table = partition_table(usage, every="1w")
    table = _in_percent(table) if percent else table.with_columns(pl.col("total", *PARTS).round(2))
    unit = "percent of all nodes" if percent else "nodes"
    legend = _present(table)
    parts = [part for part in legend if part != "unknown"]
    drawn = table.select(
        "timestamp", "total", "unknown", *parts, known=pl.col("total") - pl.col("unknown")
    )
    base = alt.Chart(inline_values(drawn))
    x = time_axis(drawn)
    areas = _areas(
        base,
        parts,
        legend,
        x,
        scale=alt.Scale(domain=[0, 100.0 if percent else ceiling(table["total"])]),
        unit="% of all nodes" if percent else "nodes",
        when=alt.Tooltip("utcyearmonthdate(timestamp):T", title="from"),
    )
    unknown_part = base.mark_area(
        interpolate="step-after",
        fill=palette.STATES["unknown"],
        stroke=palette.UNKNOWN_EDGE,
        strokeWidth=0.4,
        tooltip="unknown",
    ).encode(x=x, y="known:Q", y2="total:Q")
    means = table.select(pl.col(*PARTS).mean()).row(0, named=True)
    words = ", ".join(f"{PARTS[p].lower()} {mean:,.1f}" for p, mean in means.items() if mean)
    stack = alt.layer(
        areas,
        unknown_part,
        *gap_layers(table, "total", "1w"),
        total_line(base, 1.3, x),
        *event_layers(events, table),
    ).properties(width=WIDTH, height=HEIGHT)
    inferred = None if shares is None else inferred_table(shares)
    if inferred is not None:
        table = table.with_columns(month=pl.col("timestamp").dt.truncate("1mo"))
        for (row,), part in inferred.partition_by("row", as_dict=True, maintain_order=True).items():
            months = part.select(month="timestamp").with_columns(
                part["share"].alias(f"inferred_{row}")
            )
            table = table.join(months, on="month", how="left", maintain_order="left")
        table = table.drop("month")
    return figure(
        stack
        if inferred is None
        else alt.vconcat(stack, _strip(inferred, x), spacing=4).resolve_scale(color="shared"),
        table,
        title=f"{site_name}: what its nodes were doing ({unit})",
        description=(
            f"Stacked areas of what the nodes of {site_name} were doing, {span_words(table)}, "
            f"corrected count. Means over the known time, in {unit}: {words}."
            if words
            else f"{site_name}, {span_words(table)}: no day of which all parts are known."
        ),
    )


def inferred_table(shares: pl.DataFrame) -> pl.DataFrame | None:
    """Give by month which share of total and committed is inferred: `row`, `timestamp`, `share`.

    Args:
        shares: `coverage` rows of one site.

    Returns:
        None where nothing is.
    """
    kinds = ["total", "committed"]
    table = coarsen(
        as_text(shares)
        .filter(pl.col("source") == "inferred", pl.col("quantity_type").is_in(kinds))
        .rename({"quantity_type": "row"}),
        "1mo",
        by=["row"],
        value="known_share",
    ).select("row", "timestamp", share=pl.col("known_share").round(2))
    return table if (table["share"] > 0).any() else None


def _strip(inferred: pl.DataFrame, x: alt.X) -> alt.Chart:
    """Draw a line of cells for each row: the darker, the more is inferred."""
    months = inferred.drop_nulls("share").sort("row", "timestamp")
    ends = months.with_columns(
        until=pl.col("timestamp").dt.offset_by("1mo"), run=pl.struct("row", "share").rle_id()
    )
    cells = ends.group_by("run", maintain_order=True).agg(
        pl.first("row", "timestamp", "share"), pl.last("until")
    )
    plain: Any = x.copy()
    plain.axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False)
    return (
        alt.Chart(inline_values(cells.drop("run").filter(pl.col("share") > 0)))
        .mark_rect(clip=True, color=palette.SEEN["inferred"][1], stroke=None)
        .encode(
            x=plain,
            x2="until:T",
            y=alt.Y(
                "row:N",
                title=None,
                scale=alt.Scale(domain=["total", "committed"]),
                axis=alt.Axis(
                    labelExpr="'inferred: ' + datum.label",
                    labelFontSize=10,
                    ticks=False,
                    domain=False,
                    labelPadding=2,
                ),
            ),
            opacity=alt.Opacity(
                "share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None
            ),
            tooltip=["row:N", alt.Tooltip("share:Q", format=".0%", title="inferred")],
        )
        .properties(width=WIDTH, height=18)
    )


def out_of_use(usage: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw why nodes were out of use, by week: the causes stacked under the line of their sum.

    Args:
        usage: `usage_timeline` rows of one site that has records of status.
        site_name: for the title.
    """
    causes = list(palette.OUT_OF_USE)
    told = as_text(since_opening(usage)).filter(
        pl.col("collector_type") == "corrected", pl.col("count_type").is_in(causes)
    )
    weekly = coarsen(told, "1w", by=["count_type"]).pivot(
        on="count_type", on_columns=causes, index="timestamp", values="value"
    )
    table = (
        weekly.sort("timestamp")
        .with_columns(total=pl.sum_horizontal(causes, ignore_nulls=False))
        .with_columns(pl.col("total", *causes).round(2))
    )
    base, x = alt.Chart(inline_values(table)), time_axis(table)
    areas = _areas(
        base,
        causes,
        causes,
        x,
        scale=alt.Scale(domain=[0, ceiling(table["total"])]),
        unit="nodes",
        when=alt.Tooltip("utcyearmonthdate(timestamp):T", title="from"),
    )
    means = table.select(pl.col(causes).mean()).row(0, named=True)
    words = ", ".join(
        f"{LABELS[cause].lower()} {mean:,.1f}" for cause, mean in means.items() if mean is not None
    )
    return figure(
        alt.layer(areas, *gap_layers(table, "total", "1w"), total_line(base, 1, x)),
        table,
        width=WIDTH,
        height=HEIGHT / 2,
        title=f"{site_name}: nodes out of use, and why",
        description=f"Stacked areas of the nodes of {site_name} that were out of use, "
        f"{span_words(table)}, by cause. Means over the known time, in nodes: {words or 'none'}.",
    )


def node_types(by_node_type: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw for each node type what its nodes were doing, by month, over the days with a row.

    Args:
        by_node_type: `usage_by_node_type` rows of one site.
        site_name: for the title.
    """
    table = partition_table(
        by_node_type.filter(pl.col("resource") == "nodes"),
        every="1mo",
        by=["node_type"],
        sparse=True,
    )
    order = (
        table.group_by("node_type")
        .agg(pl.col("total").sum())
        .sort("total", "node_type", descending=[True, False])["node_type"]
        .to_list()
    )
    names = {t: "type not known" if t == "unknown" else t for t in order[:MOST_TYPES]}
    which = (
        f"the {MOST_TYPES} types of {len(order)} with most node-hours"
        if len(order) > MOST_TYPES
        else f"all {len(order)} types"
    )
    return figure(
        _panels(table, "node_type", names, unit="nodes"),
        table,
        title=alt.TitleParams(
            f"{site_name}: what the nodes of each type were doing (black line = total)",
            subtitle=f"{which}, the largest first",
        ),
        description=f"{site_name}, {span_words(table)}: stacked monthly means of what the nodes of "
        f"{which} were doing: {', '.join(names.values())}.",
    )


def resources(by_resource: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw what each resource was doing by month, in percent of its total.

    Args:
        by_resource: `usage_by_resource` rows of one site.
        site_name: for the title.
    """
    table = partition_table(by_resource, every="1mo", by=["resource"])
    sums = (
        table.filter(pl.col("total") > 0).group_by("resource").agg(pl.col("active", "total").sum())
    )
    active = dict(sums.select("resource", 100 * pl.col("active") / pl.col("total")).iter_rows())
    names = {r: unit.split(" of ")[-1] for r, unit in RESOURCES.items() if r in active}
    words = ", ".join(f"{name} {active[r]:.1f} %" for r, name in sorted(names.items()))
    return figure(
        _panels(_in_percent(table), "resource", names, unit="% of all", top=100),
        table,
        title=f"{site_name}: what each resource was doing",
        description=f"{site_name}, {span_words(table)}: stacked monthly shares of what each "
        f"resource was doing, in percent of its total. Active share: {words}.",
    )


def _in_percent(table: pl.DataFrame) -> pl.DataFrame:
    total = pl.col("total")
    return table.with_columns(
        pl.when(total > 0).then(100 * pl.col(part) / total).round(2).alias(part)
        for part in ("total", *PARTS)
    )


def _present(table: pl.DataFrame) -> list[str]:
    return [part for part in palette.STATES if (table[part] > 0).any()]


def _areas(
    base: alt.Chart,
    parts: list[str],
    legend: list[str],
    x: alt.X,
    *,
    scale: alt.Scale,
    unit: str,
    when: alt.Tooltip,
) -> alt.Chart:
    """Stack the columns `parts` of the data of `base`; `legend` may name others too."""
    return (
        base.transform_fold([*parts], as_=["part", "value"])
        .transform_calculate(
            Part=lookup("part", {p: NAMES[p] for p in parts}),
            order=lookup("part", {p: i for i, p in enumerate(parts)}),
        )
        .mark_area(interpolate="step-after")
        .encode(
            x=x,
            y=alt.Y("value:Q", title=unit, stack="zero", scale=scale),
            color=colour("Part", {NAMES[p]: SHADES[p] for p in legend}),
            order="order:Q",
            tooltip=[when, "Part:N", alt.Tooltip("value:Q", format=",.1f", title=unit)],
        )
    )


def _panels(
    table: pl.DataFrame, key: str, names: dict[str, str], *, unit: str, top: float | None = None
) -> alt.ConcatChart:
    """Draw a panel for each value of the column `key` that has a name, in its order."""
    drawn = table.filter(pl.col(key).is_in(list(names)))
    present = _present(drawn)
    x = time_axis(drawn, count=4)
    panels = []
    for value, name in names.items():
        one = drawn.filter(pl.col(key) == value).select("timestamp", "total", *present)
        base = alt.Chart(inline_values(one))
        scale = alt.Scale(domain=[0, top or ceiling(one["total"])], clamp=True)
        panels.append(
            alt.layer(
                _areas(base, present, present, x, scale=scale, unit=unit, when=MONTH),
                *gap_layers(one, "total", "1mo"),
                total_line(base, 1, x),
            ).properties(width=WIDTH / 3 - 30, height=95, title=panel_title(name))
        )
    return side_by_side(panels, columns=3)
