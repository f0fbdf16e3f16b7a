"""What the nodes of a site were doing: the parts stacked under the line of the total."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    PARTS,
    WIDTH,
    Figure,
    ceiling,
    gap_layers,
    inline_values,
    lookup,
    span_words,
    styled,
    time_axis,
)
from chameleon_usage.viz.tables import partition_table


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
