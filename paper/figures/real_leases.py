"""The published leases: what their files hold, and how long people lease, beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    LINE_LEGEND,
    MONTH,
    WIDTH,
    Figure,
    colour,
    figure,
    in_words,
    inline_values,
    panel_title,
    side_by_side,
    time_axis,
)
from chameleon_usage.viz.leadtime_axis import hours_axis, place
from paper.figures.real_record import dashes

if TYPE_CHECKING:
    from collections.abc import Mapping

_GPUS = dict(zip(("gpu", "non_gpu"), palette.GPUS, strict=True))
_FULL_LEGEND = alt.Legend(symbolType="stroke", symbolStrokeWidth=2, symbolSize=300, symbolOpacity=1)
"""The lines in full, not pale as the bands around them."""

_FEW = 10
"""A month with fewer leases has no share."""


def files(
    table: pl.DataFrame, *, site_names: Mapping[str, str], colours: Mapping[str, str], changed: str
) -> Figure:
    """Draw how many leases the published files hold, and which share was deleted early.

    Args:
        table: `site`, `month`, `leases`, `early`.
        site_names: site to its name.
        colours: site to its colour.
        changed: the month from which on the files hold another kind of leases.
    """
    month = pl.col("month").str.to_datetime("%Y-%m", time_zone="UTC").alias("timestamp")
    share = pl.when(pl.col("leases") >= _FEW).then((pl.col("early") / pl.col("leases")).round(4))
    drawn = table.select(
        pl.col("site").replace(dict(site_names)), month, "leases", share.alias("early share")
    ).sort("site", "timestamp")
    shades = {site_names[site]: shade for site, shade in colours.items()}
    line = alt.Chart(
        inline_values(pl.DataFrame({"month": [changed]}).select(month)),
    ).mark_rule(color=palette.PLAIN, strokeDash=[2, 2])

    def panel(field: str, title: str, form: str, says: int) -> Any:  # noqa: ANN401 - Altair's own are unions
        curves = (
            alt.Chart(inline_values(drawn.select("site", "timestamp", field).drop_nulls()))
            .mark_line(strokeWidth=1.6)
            .encode(
                x=time_axis(drawn, count=6),
                y=alt.Y(
                    f"{field}:Q",
                    title="leases" if field == "leases" else "share of leases",
                    axis=alt.Axis(format=form, tickCount=5),
                    scale=alt.Scale(zero=True),
                ),
                color=colour("site", shades, legend=LINE_LEGEND),
                tooltip=["site:N", MONTH, alt.Tooltip(f"{field}:Q", format=form)],
            )
        )
        marked = line.encode(x=time_axis(drawn, count=6))
        said = line.mark_text(text="files change", align="left", dx=3, y=says, color=palette.PLAIN)
        said = said.encode(x=time_axis(drawn, count=6))
        return alt.layer(curves, marked, said).properties(
            width=WIDTH / 2 - 45, height=150, title=panel_title(title)
        )

    before = pl.col("month") < changed
    early = table.group_by(pl.when(before).then(pl.lit("before")).otherwise(pl.lit("after")))
    words = in_words(
        early.agg((pl.col("early").sum() / pl.col("leases").sum()).alias("share")).sort("literal"),
        "{literal}: {share:.1%}",
    )
    return figure(
        side_by_side(
            [
                panel("leases", "leases made in a month, robots left out", "~s", 7),
                panel("early share", "share of these deleted before their end", ".0%", 140),
            ],
            columns=2,
        ),
        drawn,
        title="What the published lease files hold",
        description=f"Leases of the published files by month of creation. Of those made before and "
        f"after {changed}, deleted before their end, {words}.",
    )


def survival(table: pl.DataFrame, *, ours: str) -> Figure:
    """Draw which share of leases is longer than a time: a panel a quantity.

    Args:
        table: `record` (`real` or `ours`), `nodes` (gpu, non_gpu), `quantity`, `hours`, `share`,
            and `low` and `high`, the 95 % interval of the real ones.
        ours: what our record is called.
    """
    drawn = table.filter(pl.col("nodes").is_in(list(_GPUS))).with_columns(
        pl.col("nodes").replace(_GPUS), place(pl.col("hours")).round(3).alias("x")
    )
    shown = ["real", *(r for r in drawn["record"].unique(maintain_order=True) if r != "real")]
    top: float = drawn["x"].max()  # type: ignore[assignment]

    def panel(quantity: str) -> Any:  # noqa: ANN401 - Altair's own are unions
        part = drawn.filter(pl.col("quantity") == quantity).drop("quantity")
        base = alt.Chart(inline_values(part)).encode(
            x=hours_axis(top, None, low=0, channel=alt.X),
            color=colour("nodes", palette.GPUS, legend=_FULL_LEGEND),
        )
        band = (
            base.transform_filter(alt.datum.record == "real")
            .mark_area(opacity=0.22)
            .encode(y="low:Q", y2="high:Q")
        )
        lines = base.mark_line(strokeWidth=1.8).encode(
            y=alt.Y(
                "share:Q",
                title="share of leases",
                axis=alt.Axis(format=".0%", tickCount=5),
                scale=alt.Scale(domain=[0, 1]),
            ),
            strokeDash=dashes(shown),
            tooltip=[
                "record:N",
                "nodes:N",
                alt.Tooltip("hours:Q", format=",.2f"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
        return alt.layer(band, lines).properties(
            width=WIDTH / 3 - 30, height=190, title=panel_title(f"{quantity} longer than")
        )

    day = (
        drawn.filter(pl.col("hours") >= 24)
        .group_by("record", "nodes", "quantity", maintain_order=True)
        .agg(pl.col("share").first())
    )
    return figure(
        side_by_side([panel(q) for q in drawn["quantity"].unique(maintain_order=True)], columns=3),
        drawn.drop("x"),
        title=f"How long people lease: real (solid) and {ours} (dashed)",
        description="Share of leases longer than a time, on a log scale of time, with 95 % "
        "intervals. Longer than a day: "
        f"{in_words(day, '{quantity} {nodes}, {record}: {share:.0%}')}.",
    )
