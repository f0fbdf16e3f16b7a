"""Projected lead times: how long nodes of each type had to be waited for, quarter by quarter."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    Figure,
    figure,
    in_words,
    inline_values,
    panel_title,
    span_words,
    time_axis,
)

TYPES = 14
"""At most so many node types are drawn, those that are longest in the pool."""
STEP = 15
"""Height of a node type's row, in pixels."""

LEGEND = {"none": 0.0, "6 h": 6.0, "1 d": 24.0, "3 d": 72.0, "7 d": 168.0}
"""Words to hours; what is longer has the colour of the longest."""


def projected(waits: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw the mean projected wait by quarter and node type, a panel for each number of nodes.

    Args:
        waits: `leadtime_projected` rows of one site.
        site_name: for the title.

    A quarter is grey where fewer than half of its days are known. White: the pool had fewer nodes
    of the type.
    """
    kept = (
        waits.filter(pl.col("nodes") == pl.col("nodes").min())
        .group_by("node_type")
        .len()
        .sort("len", "node_type", descending=[True, False])["node_type"]
        .head(TYPES)
        .sort()
    )
    table = (
        waits.filter(pl.col("node_type").is_in(kept.implode()))
        .group_by("nodes", "node_type", pl.col("timestamp").dt.truncate("1q"))
        .agg(
            known_share=pl.col("value").is_not_null().mean().round(3),
            wait_h=pl.when(pl.col("value").is_not_null().mean() >= 0.5).then(
                pl.col("value").sort_by("timestamp").mean().round(1)
            ),
        )
        .sort("nodes", "node_type", "timestamp")
    )
    drawn = table.with_columns(until=pl.col("timestamp").dt.offset_by("1q")).drop("known_share")
    panels = [
        _panel(rows, waits, number, kept.to_list())
        for (number,), rows in drawn.partition_by("nodes", as_dict=True).items()
    ]
    words = in_words(
        table.group_by("nodes", maintain_order=True)
        .agg(
            wait=pl.col("wait_h").mean().fill_null(0.0),
            known=pl.col("wait_h").is_not_null().mean(),
        )
        .sort("nodes"),
        "{nodes} at once: mean of the known quarters and types ({known:.0%}) {wait:.0f} hours",
    )
    return figure(
        alt.vconcat(*panels, spacing=14).resolve_scale(color="shared"),
        table,
        title=f"{site_name}: how long nodes had to be waited for",
        description=f"{site_name}, {span_words(table)}: projected wait for nodes of each type. "
        f"{words}.",
    )


def _panel(
    rows: pl.DataFrame, waits: pl.DataFrame, number: object, kinds: list[str]
) -> alt.LayerChart:
    there = rows["node_type"].unique()
    order = [kind for kind in kinds if kind in there]
    title = f"{number} node" if number == 1 else f"{number} nodes at once"
    place = {
        "x": time_axis(waits),
        "x2": "until:T",
        "y": alt.Y("node_type:N", title=None, sort=order, axis=alt.Axis(labelLimit=200)),
    }
    scale = alt.Scale(
        type="symlog",
        constant=4,
        scheme="viridis",
        reverse=True,
        clamp=True,
        domain=[0, max(LEGEND.values())],
    )
    tests = "".join(f"datum.value == {at:g} ? '{words}' : " for words, at in LEGEND.items())
    known = rows.filter(pl.col("wait_h").is_not_null())
    cells = (
        alt.Chart(inline_values(known.select("node_type", "timestamp", "until", "wait_h")))
        .mark_rect(stroke=None, clip=True, aria=False)
        .encode(
            **place,
            color=alt.Color(
                "wait_h:Q",
                title="mean wait",
                scale=scale,
                legend=alt.Legend(
                    values=[*LEGEND.values()],
                    labelExpr=f"{tests}''",
                    labelOverlap=False,
                    gradientLength=300,
                ),
            ),
            tooltip=[
                "node_type:N",
                alt.Tooltip("utcyearquarter(timestamp):T", title="quarter"),
                alt.Tooltip("wait_h:Q", title="hours"),
            ],
        )
    )
    unknown = rows.filter(pl.col("wait_h").is_null()).select("node_type", "timestamp", "until")
    grey = (
        alt.Chart(inline_values(unknown))
        .mark_rect(fill=palette.STATES["unknown"], tooltip="not known", clip=True, aria=False)
        .encode(**place)
    )
    return (grey + cells).properties(width=440, height=STEP * len(order), title=panel_title(title))
