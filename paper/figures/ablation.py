"""What each correction buys, and what more of each damage costs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import LABELS, Figure, as_text, figure, in_words, inline_values
from paper.eras import era_label
from paper.figures.truth import IN_LINES

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTICEABLE = 0.005
"""Percentage points; what changes less has a dot."""
CELL, HEIGHT = 30, 17
"""Width and height of a cell, in pixels: a number with two decimals and a sign fits."""
DOT, DASH = "·", "–"
"""What is hardly felt, and what there is not to leave out or to double."""


def points_added(
    table: pl.DataFrame,
    what: str,
    *,
    site_names: dict[str, str],
    count_types: Sequence[str],
    labels: dict[str, str],
    legend: list[float],
    title: str,
    description: str,
    each: str,
) -> Figure:
    """Draw how much larger the error is with each change, by era: a panel for each site and count.

    Args:
        table: `site`, `era`, `count_type`, `added` (percentage points) and the column `what`.
        what: the column that names the change.
        site_names: site to its name, in the order of the panels' rows.
        count_types: the panels' columns.
        labels: value of `what` to the words for it, in the order of the rows of a panel.
        legend: values of the scale of shades, the last one the darkest.
        title: of the figure.
        description: a sentence on what is drawn.
        each: what a change is called in a sentence.
    """
    table = as_text(table)
    drawn = (
        table.filter(
            pl.col("site").is_in(list(site_names)),
            pl.col("count_type").is_in(list(count_types)),
            pl.col(what).is_in(list(labels)),
        )
        .select(
            pl.col("site").replace(site_names),
            pl.col("count_type").replace(LABELS),
            pl.col(what).replace(labels),
            era_label(pl.col("era")),
            pl.col("added").round(3),
            pl.col("added").round(3).alias("shade"),
            pl.col("added").map_elements(_short, return_dtype=pl.String).alias("text"),
        )
        .sort("site", "count_type", what, "era")
    )
    eras = table.select(era_label(pl.col("era")).unique().sort())["era"].to_list()
    rows = list(labels.values())
    keys = ["site", "count_type", "era"]
    grid = (
        pl.DataFrame({"site": list(site_names.values())})
        .join(pl.DataFrame({"count_type": [LABELS[c] for c in count_types]}), how="cross")
        .join(pl.DataFrame({"era": eras}), how="cross")
    )
    counted = grid.join(drawn, on=keys, how="semi")
    uncounted = grid.join(drawn, on=keys, how="anti").with_columns(pl.lit(rows[0]).alias(what))
    lacking = counted.join(pl.DataFrame({what: rows}), how="cross").join(
        drawn, on=[*keys, what], how="anti"
    )
    drawn = pl.concat([drawn, lacking.with_columns(text=pl.lit(DASH)), uncounted], how="diagonal")
    base = alt.Chart(inline_values(drawn)).encode(
        x=alt.X(
            "era:O",
            title=None,
            axis=alt.Axis(labelAngle=-40),
            scale=alt.Scale(domain=eras),
        ),
        y=alt.Y(
            f"{what}:N",
            title=None,
            scale=alt.Scale(domain=rows),
            axis=alt.Axis(labelLimit=220),
        ),
        tooltip=[
            "site:N",
            "count_type:N",
            f"{what}:N",
            "era:O",
            alt.Tooltip("added:Q", format="+.3f", title="points"),
        ],
    )
    felt = base.transform_filter(f"isValid(datum.added) && datum.text !== '{DOT}'")
    grey = (
        base.transform_filter("!datum.text")
        .mark_rect(fill=palette.STATES["unknown"], tooltip="no error is defined")
        .encode(y=alt.value(0), y2=alt.value(HEIGHT * len(labels)))
    )
    cells = felt.mark_rect().encode(
        color=alt.Color(
            "shade:Q",
            title="percentage points added to the error (square-root scale)",
            scale=alt.Scale(
                type="sqrt",
                interpolate="lab",
                domain=[-legend[-1], 0, legend[-1]],
                clamp=True,
                range=[palette.TAKEN, palette.FAINT, palette.COLLECTORS["uncorrected"][0]],
            ),
            legend=alt.Legend(
                orient="bottom",
                values=[*(-value for value in legend[:0:-1]), *legend],
                titleLimit=400,
                gradientLength=300,
            ),
        )
    )
    numbers = (
        base.transform_filter("datum.text")
        .mark_text(fontSize=9)
        .encode(
            text="text:N",
            color=alt.when(f"abs(datum.shade) > {legend[-1] / 5}")
            .then(alt.value("white"))
            .when(alt.datum.shade < 0)
            .then(alt.value(palette.TAKEN))
            .otherwise(alt.value("black")),
        )
    )
    worst = (
        table.filter(pl.col(what).is_in(list(labels)))
        .group_by("site", what)
        .agg(pl.col("added").max())
        .sort("added", "site", what, descending=[True, False, False])
        .head(8)
        .with_columns(pl.col("site").replace(site_names), pl.col(what).replace(labels))
    )
    chart = (
        alt.layer(grey, cells, numbers)
        .properties(width=CELL * len(eras), height=HEIGHT * len(labels))
        .facet(
            row=alt.Row("site:N", title=None, sort=list(site_names.values())),
            column=alt.Column(
                "count_type:N",
                title=None,
                sort=[LABELS[c] for c in count_types],
                header=alt.Header(labelExpr=IN_LINES),
            ),
        )
    )
    words = in_words(worst, f"{{site}}, {each}: {{added:.2g}}")
    notes = [
        f"{DOT} less than {NOTICEABLE} points;  {DASH} not at this site",
        "grey: no error, as the truth is zero or there is no value",
    ]
    return figure(
        chart,
        table,
        title=alt.TitleParams(title, subtitle=notes),
        description=f"{description} The most: {words}.",
    )


ablation = partial(
    points_added,
    what="left_out",
    legend=[0, 1, 5, 20, 60],
    title="What each correction buys",
    description="Percentage points by which the error grows when one correction is left out.",
    each="without {left_out}",
)
"""Draw how much larger the error is without each correction."""

twice_the_damage = partial(
    points_added,
    what="damage",
    legend=[0, 0.2, 0.5, 1],
    title="Twice the damage",
    description="Percentage points by which the error grows when a kind of damage is twice as "
    "frequent.",
    each="{damage}",
)
"""Draw how much larger the error is when a kind of damage is twice as frequent."""


def _short(points: float) -> str:
    """Write points so that they fit a cell: the smaller, the more decimals.

    >>> [_short(points) for points in (0.001, -0.3, 3.44, 19.6)]
    ['·', '−0.30', '3.4', '20']
    """
    size = abs(points)
    if size < NOTICEABLE:
        return DOT
    decimals = 0 if size >= 10 else 1 if size >= 1 else 2
    return f"{points:.{decimals}f}".replace("-", "−")
