"""How far each collector is from the twin's truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    LABELS,
    WIDTH,
    Figure,
    as_text,
    ceiling,
    colour,
    figure,
    in_words,
    inline_values,
    lookup,
)
from paper.eras import era_label

if TYPE_CHECKING:
    from collections.abc import Sequence


HEADER = alt.Header(labelFontSize=12, labelFontWeight="bold")

IN_LINES = "split(datum.label, ' ')"
"""Label expression: a word a line."""

LEAST_ERROR = 1e-4
"""Lower end of the axis of errors; less is drawn there."""


def errors(
    table: pl.DataFrame, *, site_names: dict[str, str], count_types: Sequence[str]
) -> Figure:
    """Draw each collector's distance to the truth, by era.

    Args:
        table: `site`, `era`, `count_type`, `collector_type`, `error` (a share of the truth).
        site_names: site to its name, in the order of the panels' columns.
        count_types: the panels' rows.

    Errors under 0.01 % are drawn at 0.01 %, the left end of the log axis.
    """
    table = as_text(table)
    drawn = (
        table.filter(
            pl.col("count_type").is_in(list(count_types)), pl.col("site").is_in(list(site_names))
        )
        .drop_nulls("error")
        .select(
            pl.col("site").replace(site_names),
            pl.col("count_type").replace(LABELS),
            "collector_type",
            era_label(pl.col("era")),
            pl.col("error").clip(LEAST_ERROR).alias("error"),
        )
    )
    # Drawn in this order: what coincides stays visible, the wide and pale beneath.
    present = [c for c in palette.COLLECTORS if (drawn["collector_type"] == c).any()]
    shades = {c: palette.COLLECTORS[c][0] for c in present}
    shapes = alt.Scale(domain=present, range=[palette.COLLECTORS[c][3] for c in present])
    drawn = drawn.sort(pl.col("collector_type").cast(pl.Enum(list(palette.COLLECTORS))), "era")
    base = alt.Chart(inline_values(drawn)).encode(
        y=alt.Y("era:O", title=None, axis=alt.Axis(grid=True, labelFontSize=11)),
        x=alt.X(
            "error:Q",
            title="error (log scale)",
            scale=alt.Scale(type="log", domain=[LEAST_ERROR, max(1.0, ceiling(drawn["error"]))]),
            axis=alt.Axis(
                values=[LEAST_ERROR, 1e-3, 1e-2, 1e-1, 1],
                labelExpr=lookup(
                    "format(datum.value, '.4f')",
                    {"0.0001": "≤ 0.01%", "0.0100": "1%", "1.0000": "100%"},
                )
                + " || ''",
                labelOverlap=False,
            ),
        ),
    )
    span = base.mark_line(color=palette.PALE, strokeWidth=1).encode(detail="era:O")
    # A layer each, in the order of drawing: what coincides stays visible.
    points = [
        base.transform_filter(alt.datum.collector_type == name)
        .mark_point(size=size, filled=True, opacity=1, strokeWidth=0)
        .encode(
            color=colour("collector_type", shades, legend=alt.Legend(symbolSize=90)),
            shape=alt.Shape("collector_type:N", title=None, scale=shapes),
            tooltip=["collector_type:N", "era:O", alt.Tooltip("error:Q", format=".2%")],
        )
        for name, size in zip(present, (150, 80, 45, 45), strict=False)
    ]
    chart = (
        alt.layer(span, *points)
        .properties(width=WIDTH / 4 - 12, height=92)
        .facet(
            row=alt.Row(
                "count_type:N", title=None, sort=[LABELS[c] for c in count_types], header=HEADER
            ),
            column=alt.Column("site:N", title=None, sort=list(site_names.values()), header=HEADER),
        )
    )
    medians = drawn.group_by("site", "collector_type", maintain_order=True).agg(
        pl.col("error").median()
    )
    words = in_words(medians, "{site} {collector_type}: {error:.1%} in the middle")
    return figure(
        chart,
        table,
        title="Distance to the truth",
        description=f"Error of each collector against the twin's truth. {words}.",
    )


def in_every_panel(drawn: pl.DataFrame) -> pl.DataFrame:
    """Add an empty row for each site and count type that has none.

    A grid of panels in which one lacks data puts the others in wrong places.
    """
    grid = drawn.select(pl.col("site").unique()).join(
        drawn.select(pl.col("count_type").unique()), how="cross"
    )
    by = ["site", "count_type"]
    return pl.concat([drawn, grid.join(drawn, on=by, how="anti").sort(by)], how="diagonal")


def seeds(table: pl.DataFrame, *, site_names: dict[str, str], count_types: Sequence[str]) -> Figure:
    """Draw the error of the corrected count on each of several twins.

    Args:
        table: `site`, `era`, `count_type`, `seed`, `error` (a share of the truth).
        site_names: site to its name, in the order of the panels' columns.
        count_types: the panels' rows.

    Errors under 0.01 % are drawn at 0.01 %, the left end of the log axis.
    """
    drawn = (
        table.filter(
            pl.col("count_type").is_in(list(count_types)), pl.col("site").is_in(list(site_names))
        )
        .select(
            pl.col("site").replace(site_names),
            pl.col("count_type").replace(LABELS),
            "seed",
            era_label(pl.col("era")),
            pl.col("error").clip(LEAST_ERROR),
        )
        .sort("site", "count_type", "era", "seed")
    )
    base = alt.Chart(inline_values(in_every_panel(drawn))).encode(
        y=alt.Y("era:O", title=None, axis=alt.Axis(grid=True, labelFontSize=11)),
        x=alt.X(
            "error:Q",
            title="error (log scale)",
            scale=alt.Scale(type="log", domain=[LEAST_ERROR, max(0.1, ceiling(drawn["error"]))]),
            axis=alt.Axis(
                values=[LEAST_ERROR, 1e-3, 1e-2, 1e-1],
                labelExpr=lookup(
                    "format(datum.value, '.4f')",
                    {"0.0001": "≤ 0.01%", "0.0010": "", "0.0100": "1%", "0.1000": "10%"},
                ),
                labelOverlap=False,
            ),
        ),
    )
    dark, pale = palette.COLLECTORS["corrected"][0], palette.PALE
    base = base.transform_filter("isValid(datum.error)")
    span = base.mark_rule(color=pale, strokeWidth=3).encode(x="min(error):Q", x2="max(error):Q")
    points = base.mark_circle(color=dark, size=30, opacity=0.55).encode(
        tooltip=["site:N", "era:O", "seed:O", alt.Tooltip("error:Q", format=".2%")]
    )
    middle = base.mark_tick(color=dark, thickness=2, size=18).encode(x="median(error):Q")
    chart = (
        alt.layer(span, points, middle)
        .properties(width=WIDTH / 4 - 36, height=46)
        .facet(
            row=alt.Row(
                "count_type:N",
                title=None,
                sort=[LABELS[c] for c in count_types],
                header=alt.Header(
                    labelFontSize=12,
                    labelFontWeight="bold",
                    labelAngle=0,
                    labelAlign="left",
                    labelExpr=IN_LINES,
                ),
            ),
            column=alt.Column("site:N", title=None, sort=list(site_names.values()), header=HEADER),
        )
    )
    most = (
        drawn.group_by("site", "era", maintain_order=True)
        .agg(pl.col("error").max())
        .sort("error", "site", descending=[True, False])
    )
    words = in_words(most, "{site}, {era}: at most {error:.1%}")
    return figure(
        chart,
        table,
        title="From seed to seed",
        description=f"Error of the corrected count on twins of several seeds. {words}.",
    )
