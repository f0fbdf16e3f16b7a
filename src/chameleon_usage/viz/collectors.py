"""The collectors of a site against each other: side by side, and corrected minus legacy."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    COMPARED,
    HEIGHT,
    LABELS,
    LINE_LEGEND,
    MONTH,
    WIDTH,
    Figure,
    ceiling,
    coarsen,
    figure,
    gap_layers,
    inline_values,
    means,
    panel_title,
    side_by_side,
    since_opening,
    span_words,
    time_axis,
)


def usage_facet(usage: pl.DataFrame, *, site_name: str) -> Figure:
    """Set the collectors against each other by month, one panel for each count type.

    Args:
        usage: `usage_timeline` rows of one site.
        site_name: for the title.

    Grey is where the corrected count does not know.
    """
    usage = since_opening(usage)
    table = coarsen(
        usage.filter(pl.col("count_type").is_in(COMPARED)),
        "1mo",
        by=["collector_type", "count_type"],
    ).with_columns(
        # A month that began before the site starts with it.
        pl.max_horizontal("timestamp", pl.lit(usage["timestamp"].min())),
        pl.col("value").round(2),
    )
    times = table.select(pl.col("timestamp").unique().sort())
    present = [c for c in palette.COLLECTORS if (table["collector_type"] == c).any()]
    looks = [palette.COLLECTORS[c] for c in present]
    shade, dash, width = (
        alt.Scale(domain=present, range=[look[i] for look in looks]) for i in range(3)
    )
    panels = []
    for count_type in COMPARED:
        # In the order of drawing; the time that a collector has no row for is null.
        drawn = times.join(pl.DataFrame({"collector_type": present}), how="cross").join(
            table.filter(pl.col("count_type") == count_type).drop("count_type"),
            on=["timestamp", "collector_type"],
            how="left",
        )
        lines = (
            alt.Chart(inline_values(drawn.sort("timestamp", maintain_order=True)))
            .mark_line(strokeJoin="round")
            .encode(
                x=time_axis(times, count=5),
                y=alt.Y(
                    "value:Q",
                    title="nodes",
                    scale=alt.Scale(domain=[0, max(1.0, ceiling(drawn["value"]))]),
                ),
                color=alt.Color("collector_type:N", scale=shade, title=None, legend=LINE_LEGEND),
                strokeDash=alt.StrokeDash("collector_type:N", scale=dash, title=None),
                strokeWidth=alt.StrokeWidth("collector_type:N", scale=width, title=None),
                tooltip=[
                    MONTH,
                    alt.Tooltip("collector_type:N", title="collector"),
                    alt.Tooltip("value:Q", format=",.1f", title="nodes"),
                ],
            )
        )
        best = drawn.filter(pl.col("collector_type") == "corrected")
        panels.append(
            alt.layer(*gap_layers(best, "value", "1mo"), lines).properties(
                width=WIDTH / 2 - 30, height=HEIGHT / 1.7, title=panel_title(LABELS[count_type])
            )
        )
    words = "; ".join(_means_in_words(table, count_type, present) for count_type in COMPARED)
    return figure(
        side_by_side(panels, columns=2),
        table,
        title=f"{site_name}: the collectors side by side",
        description=f"{site_name}, {span_words(table)}: monthly means of "
        f"{', '.join(LABELS[c].lower() for c in COMPARED)} nodes as "
        f"{', '.join(present)} count them. Mean nodes: {words}.",
    )


def _means_in_words(table: pl.DataFrame, count_type: str, present: list[str]) -> str:
    of_one = table.filter(pl.col("count_type") == count_type)
    known = dict(means(of_one, "value", "collector_type").iter_rows())
    words = ", ".join(f"{c} {known[c]:,.1f}" for c in present if c in known) or "not known"
    last = "" if present[-1] in known else f", {present[-1]} not known"
    return f"{LABELS[count_type].lower()} {words}{last}"


def comparison(compared: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw corrected minus legacy by month, in nodes.

    Args:
        compared: `comparison` rows of one site.
        site_name: for the title.
    """
    table = coarsen(
        compared.filter(pl.col("count_type").is_in(COMPARED)),
        "1mo",
        by=["count_type"],
        value="difference",
    ).with_columns(pl.col("difference").round(2))
    drawn = table.drop_nulls().with_columns(pl.col("count_type").replace(LABELS))
    bars = (
        alt.Chart(inline_values(drawn))
        .mark_bar(width=2, color=palette.COLLECTORS["corrected"][0])
        .encode(
            x=time_axis(drawn, count=5),
            y=alt.Y("difference:Q", title="corrected − legacy (nodes)"),
            tooltip=[MONTH, alt.Tooltip("difference:Q", format="+,.1f")],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT / 2)
    )
    labels = [LABELS[c] for c in COMPARED]
    by_type = means(drawn, "difference", "count_type").sort(
        pl.col("count_type").cast(pl.Enum(labels))
    )
    words = ", ".join(f"{label.lower()} {mean:+,.1f}" for label, mean in by_type.iter_rows())
    return figure(
        bars.facet(
            facet=alt.Facet("count_type:N", title=None, sort=labels), columns=2
        ).resolve_axis(x="independent"),
        table,
        title=f"{site_name}: corrected minus legacy",
        description=f"{site_name}, {span_words(table)}: monthly mean difference, corrected minus "
        f"legacy, in nodes. Means: {words or 'none, as legacy has no figures here'}.",
    )
