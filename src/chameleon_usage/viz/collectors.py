"""The collectors of a site against each other: side by side, and corrected minus legacy."""

from __future__ import annotations

from typing import Any

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

    Each panel has a scale of its own. Grey is where the corrected count does not know.
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
    shade, dash = (alt.Scale(domain=present, range=[look[i] for look in looks]) for i in range(2))
    # Not a scale: one of names would have a legend of its own.
    thick, dots, thin = (palette.COLLECTORS[c][2] for c in ("legacy", "truth", "corrected"))
    width = (
        alt.when(alt.datum.collector_type == "legacy")
        .then(alt.value(thick))
        .when(alt.datum.collector_type == "truth")
        .then(alt.value(dots))
        .otherwise(alt.value(thin))
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
            .mark_line(strokeJoin="round", strokeCap="round")
            .encode(
                x=time_axis(times, count=5),
                y=alt.Y(
                    "value:Q",
                    title="nodes",
                    scale=alt.Scale(domain=[0, max(1.0, ceiling(drawn["value"]))]),
                ),
                color=alt.Color("collector_type:N", scale=shade, title=None, legend=LINE_LEGEND),
                strokeDash=alt.StrokeDash("collector_type:N", scale=dash, title=None),
                strokeWidth=width,
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
    ends = [0.0, 1.0, *drawn["difference"]]
    scale = alt.Scale(domain=[min(ends), max(ends)], nice=True)
    month_end = table.select(pl.col("timestamp").max().dt.offset_by("1mo"))
    x = time_axis(pl.concat([table.select("timestamp"), month_end]), count=5)

    def panel(count_type: str) -> Any:  # noqa: ANN401 - Altair's own are unions
        months = table.filter(pl.col("count_type") == count_type).drop("count_type")
        bars = (
            alt.Chart(
                inline_values(
                    months.drop_nulls().with_columns(until=pl.col("timestamp").dt.offset_by("1mo"))
                )
            )
            .mark_rect(color=palette.COLLECTORS["corrected"][0], stroke="white", strokeWidth=0.3)
            .encode(
                x=x,
                x2="until:T",
                y=alt.Y("difference:Q", title="corrected − legacy (nodes)", scale=scale),
                y2=alt.Y2Datum(0),
                tooltip=[MONTH, alt.Tooltip("difference:Q", format="+,.1f")],
            )
        )
        return alt.layer(*gap_layers(months, "difference", "1mo"), bars).properties(
            width=WIDTH / 2 - 30, height=HEIGHT / 2, title=panel_title(LABELS[count_type])
        )

    labels = [LABELS[c] for c in COMPARED]
    by_type = means(drawn, "difference", "count_type").sort(
        pl.col("count_type").cast(pl.Enum(labels))
    )
    words = ", ".join(f"{label.lower()} {mean:+,.1f}" for label, mean in by_type.iter_rows())
    return figure(
        side_by_side([panel(c) for c in COMPARED if (table["count_type"] == c).any()], columns=2),
        table,
        title=f"{site_name}: corrected minus legacy",
        description=f"{site_name}, {span_words(table)}: monthly mean difference, corrected minus "
        f"legacy, in nodes. Means: {words or 'none, as legacy has no figures here'}.",
    )
