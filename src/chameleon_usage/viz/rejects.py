"""What did not count, and for which reason."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import WIDTH, Figure, ceiling, inline_values, styled
from chameleon_usage.viz.tables import rejected


def rejects(audit: pl.DataFrame, *, site_name: str, most: int = 15) -> Figure:
    """Draw the hours that did not count, by the reason they were rejected for.

    Args:
        audit: `rejects` of one site.
        site_name: for the title.
        most: this many reasons, by hours; the rest are left to the table.
    """
    table = rejected(audit)
    kinds = ["rejected", "superseded: another source was believed"]
    drawn = table.head(most).select(
        (pl.col("stage") + " · " + pl.col("source") + ": " + pl.col("reason")).alias("what"),
        pl.when("superseded").then(pl.lit(kinds[1])).otherwise(pl.lit(kinds[0])).alias("kind"),
        "rows",
        "hours",
    )
    top = max(10.0, ceiling(drawn["hours"]))
    base = alt.Chart(inline_values(drawn)).encode(
        y=alt.Y(
            "what:N",
            sort=drawn["what"].to_list(),
            title=None,
            axis=alt.Axis(labelLimit=460, grid=True),
        ),
        x=alt.X(
            "hours:Q",
            title="entity-hours rejected",
            scale=alt.Scale(type="symlog", domain=[0, top]),
            axis=alt.Axis(
                values=[0, *(10**n for n in range(1, 9) if 10**n <= top)],
                labelExpr="format(datum.value, '~s')",
            ),
        ),
    )
    points = base.mark_point(size=55, filled=True, opacity=1).encode(
        color=alt.Color(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=kinds, range=[palette.PLAIN, palette.PALE]),
            legend=alt.Legend(symbolType="circle", labelLimit=400)
            if drawn["kind"].n_unique() > 1
            else None,
        ),
        tooltip=["what:N", "rows:Q", alt.Tooltip("hours:Q", format=",.0f")],
    )
    text = base.mark_text(align="left", dx=7).encode(text=alt.Text("rows:Q", format=",d"))
    notes = ["number = rows"]
    if table.height > most:
        notes.append(f"the {most} largest of {table.height}; the rest are in the CSV")
    if not (table["hours"] > 0).any():
        notes.append("none of these rows held any hour of the record")
    chart = alt.layer(points, text).properties(
        width=WIDTH / 2,
        height=alt.Step(18),
        title=alt.TitleParams(f"{site_name}: what did not count", subtitle="; ".join(notes)),
        description=f"{site_name}: rows and entity-hours that the corrected count rejected, by "
        "stage, source and reason. "
        + "; ".join(
            f"{r['what']}: {r['rows']:,} rows, {r['hours']:,.0f} hours"
            for r in drawn.iter_rows(named=True)
        ),
    )
    return Figure(styled(chart), table)
