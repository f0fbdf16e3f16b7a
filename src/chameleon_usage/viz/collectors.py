"""The collectors of a site against each other: side by side, and corrected minus legacy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    LINE_LEGEND,
    WIDTH,
    Figure,
    as_text,
    ceiling,
    coarsen,
    gap_layers,
    inline_values,
    panel_title,
    side_by_side,
    since_opening,
    span_words,
    styled,
    time_axis,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


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
            .mark_line(strokeJoin="round")
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
