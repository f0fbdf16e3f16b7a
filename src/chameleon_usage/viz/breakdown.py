"""What each node type and each resource of a site was doing, in panels."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.models.metrics import RESOURCES
from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    PARTS,
    WIDTH,
    Figure,
    ceiling,
    gap_layers,
    inline_values,
    lookup,
    panel_title,
    side_by_side,
    span_words,
    styled,
    time_axis,
)
from chameleon_usage.viz.tables import partition_table


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
