"""What did not count, and for which reason."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    WIDTH,
    Figure,
    ceiling,
    colour,
    figure,
    in_words,
    inline_values,
)
from chameleon_usage.viz.tables import rejected

KINDS = {"rejected": palette.PLAIN, "superseded: another source was believed": palette.PALE}
MOST_REASONS = 15
"""This many reasons are drawn, by hours; the rest are left to the table."""
ROOM = 50
"""A number stands left of its point if the axis ends at less than this many times its hours."""


def rejects(audit: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw the hours that did not count, by the reason they were rejected for.

    Args:
        audit: `rejects` of one site.
        site_name: for the title.
    """
    table = rejected(audit)
    plain, superseded = KINDS
    drawn = table.head(MOST_REASONS).select(
        pl.format("{} · {}: {}", "stage", "source", "reason").alias("what"),
        pl.when("superseded").then(pl.lit(superseded)).otherwise(pl.lit(plain)).alias("kind"),
        "rows",
        "hours",
    )
    top = max(10.0, 2 * ceiling(drawn["hours"]))
    base = alt.Chart(inline_values(drawn)).encode(
        y=alt.Y(
            "what:N",
            sort=drawn["what"].to_list(),
            title=None,
            axis=alt.Axis(labelLimit=460, grid=True),
        ),
        x=alt.X(
            "hours:Q",
            title="hours of rejected rows (linear near 0, log above)",
            scale=alt.Scale(type="symlog", domain=[0, top]),
            axis=alt.Axis(
                values=[0, *(10**n for n in range(1, 9) if 10**n <= top)],
                labelExpr="format(datum.value, '~s')",
            ),
        ),
    )
    points = base.mark_point(size=55, filled=True, opacity=1).encode(
        color=colour(
            "kind",
            KINDS,
            legend=alt.Legend(symbolType="circle", labelLimit=400)
            if drawn["kind"].n_unique() > 1
            else None,
        ),
        tooltip=["what:N", "rows:Q", alt.Tooltip("hours:Q", format=",.0f")],
    )
    # Beside the point, on the side where there is room within the frame.
    right = alt.datum.hours < top / ROOM
    text = [
        base.transform_filter(right if align == "left" else ~right)
        .mark_text(align=align, dx=7 if align == "left" else -7)
        .encode(text=alt.Text("rows:Q", format=",d"))
        for align in ("left", "right")
    ]
    notes = ["number = rows"]
    if table.height > MOST_REASONS:
        notes.append(f"the {MOST_REASONS} largest of {table.height}; the rest are in the CSV")
    if not (table["hours"] > 0).any():
        notes.append("none of these rows held any hour of the record")
    words = in_words(drawn, "{what}: {rows:,} rows, {hours:,.0f} hours")
    return figure(
        alt.layer(points, *text),
        table,
        width=WIDTH / 2,
        height=alt.Step(18),
        title=alt.TitleParams(f"{site_name}: what did not count", subtitle="; ".join(notes)),
        description=f"{site_name}: rows and hours that the corrected count rejected, by "
        f"stage, source and reason. {words}",
    )
