"""How far each collector is from the twin's truth, over twins of several seeds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    FONT,
    LABELS,
    WIDTH,
    Figure,
    ceiling,
    figure,
    in_words,
    inline_values,
    lookup,
)
from paper.eras import era_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


HEADER = alt.Header(labelFontSize=12, labelFontWeight="bold")

IN_LINES = "split(datum.label, ' ')"
"""Label expression: a word a line."""

PANEL_WIDTH = WIDTH / 4 - 32

LEAST_ERROR = 1e-4
"""Lower end of the axis of errors; less is drawn there."""

READINGS = {name: palette.COLLECTORS[name][::3] for name in ("uncorrected", "corrected")}
"""Collector to colour and shape."""


def ranges(
    table: pl.DataFrame,
    of: str,
    looks: Mapping[str, tuple[str, str, str]],
    *,
    site_names: dict[str, str],
    count_types: Sequence[str],
    zero: pl.DataFrame | None = None,
    seeds: int | None = None,
    title: str,
    description: str,
) -> Figure:
    """Draw how far counts are from the truth, by era: the median, on a line from low to high.

    Errors under 0.01 % are drawn at 0.01 %, the left end of the log axis.

    Args:
        table: of `validation.ranges`, one measure or one collector of it.
        of: the column of which each value has a point and a line.
        looks: value of `of` to its label, colour and shape.
        site_names: site to its name, in the order of the panels' columns.
        count_types: the panels' rows.
        zero: of `validation.without_error`; marked as such.
        seeds: of how many the table is, for the subtitle.
        title: of the figure.
        description: a sentence on what is drawn.
    """
    labels = [label for label, *_ in looks.values()]
    words_of = [
        pl.col("site").replace(site_names),
        pl.col("count_type").replace(LABELS),
        era_label(pl.col("era")),
    ]
    drawn = (
        table.filter(
            pl.col("count_type").is_in(list(count_types)),
            pl.col("site").is_in(list(site_names)),
            pl.col(of).is_in(list(looks)),
        )
        .sort("site", "count_type", "era", of)
        .select(
            *words_of,
            pl.col(of).replace({name: look[0] for name, look in looks.items()}).alias("series"),
            pl.col("low", "mid", "high").clip(LEAST_ERROR),
        )
    )
    rows = in_every_panel(drawn)
    if zero is not None and zero.height:
        rows = pl.concat(
            [rows, zero.select(*words_of, note=pl.lit("truth is zero"))], how="diagonal"
        )
    else:
        rows = rows.with_columns(note=pl.lit(None, pl.String))
    every = alt.Chart(inline_values(rows))
    base = every.transform_filter("isValid(datum.mid)").encode(
        y=alt.Y("era:O", title=None, axis=alt.Axis(grid=True, labelFontSize=11)),
        yOffset=alt.YOffset("series:N", sort=labels, scale=alt.Scale(paddingOuter=0.3)),
        color=alt.Color(
            "series:N",
            title=None,
            scale=alt.Scale(domain=labels, range=[look[1] for look in looks.values()]),
            legend=alt.Legend(symbolSize=90, symbolOpacity=1),
        ),
    )
    scale = alt.Scale(type="log", domain=[LEAST_ERROR, max(1.0, ceiling(drawn["high"]))])
    axis = alt.Axis(
        values=[LEAST_ERROR, 1e-3, 1e-2, 1e-1, 1],
        labelExpr=lookup(
            "format(datum.value, '.4f')",
            {
                "0.0001": "≤0.01%",
                "0.0010": "0.1%",
                "0.0100": "1%",
                "0.1000": "10%",
                "1.0000": "100%",
            },
        )
        + " || ''",
        labelOverlap=False,
        labelFlush=False,
        labelFontSize=8.5,
    )

    def along(name: str) -> alt.X:
        return alt.X(f"{name}:Q", title="error (log scale)", scale=scale, axis=axis)

    span = base.mark_rule(strokeWidth=2, opacity=0.5).encode(x=along("low"), x2="high:Q")
    points = base.mark_point(filled=True, opacity=1, size=50, strokeWidth=0).encode(
        x=along("mid"),
        shape=alt.Shape(
            "series:N",
            title=None,
            scale=alt.Scale(domain=labels, range=[look[2] for look in looks.values()]),
        ),
        tooltip=[
            "site:N",
            "count_type:N",
            "era:O",
            "series:N",
            *(alt.Tooltip(f"{name}:Q", format=".2%") for name in ("low", "mid", "high")),
        ],
    )
    noted = (
        every.transform_filter("datum.note")
        .mark_text(fontSize=9, font=FONT, color=palette.PLAIN, x=PANEL_WIDTH / 2)
        .encode(y=alt.Y("era:O", title=None), text="note:N")
    )
    chart = (
        alt.layer(span, points, noted)
        .properties(width=PANEL_WIDTH, height=22 * len(looks) + 40)
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
        .properties(spacing={"row": 20, "column": 38})
    )
    most = (
        drawn.group_by("site", "series", maintain_order=True)
        .agg(pl.col("high").max())
        .sort("high", "site", "series", descending=[True, False, False])
    )
    words = in_words(most, "{site}, {series}: at most {high:.1%}")
    subtitle = f"twins of {seeds} seeds: median and range"
    return figure(
        chart,
        table,
        title=title if seeds is None else alt.TitleParams(title, subtitle=subtitle),
        description=f"{description} {words}.",
    )


readings = partial(
    ranges,
    of="collector_type",
    looks={name: (name, *look) for name, look in READINGS.items()},
    title="Distance to the truth",
    description="Error of the uncorrected and the corrected count on twins of several seeds.",
)
"""Draw the uncorrected and the corrected count."""

units = partial(
    ranges,
    of="measure",
    looks=palette.UNITS,
    title="The corrected count: sum, node types, hosts",
    description="Error of the corrected count, of the sum, by node type and by host.",
)
"""Draw the corrected count with its errors added up over sites, node types and hosts."""


def in_every_panel(drawn: pl.DataFrame) -> pl.DataFrame:
    """Add an empty row for each site and count type that has none.

    A grid of panels in which one lacks data puts the others in wrong places.
    """
    grid = drawn.select(pl.col("site").unique()).join(
        drawn.select(pl.col("count_type").unique()), how="cross"
    )
    by = ["site", "count_type"]
    return pl.concat([drawn, grid.join(drawn, on=by, how="anti").sort(by)], how="diagonal")
