"""What leases made of the nodes they held, by year."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    WIDTH,
    Figure,
    colour,
    figure,
    in_words,
    inline_values,
)

PARTS = {
    "used_h": "used",
    "idle_before_h": "idle before the first instance",
    "idle_between_h": "idle between instances",
    "idle_after_h": "idle after the last instance",
    "never_used_h": "node never used",
    "unknown_h": "reserved (use unknown)",
    "given_back_h": "given back early",
}
"""Column of `lease_use` to what the figure calls it, in the order of stacking, from the bottom."""


def by_year(use: pl.DataFrame) -> pl.DataFrame:
    """Add up the node-hours of each year.

    Args:
        use: `lease_use`.

    Returns:
        `year`, `reserved_h`, the columns of `PARTS`, and the counts of `lease_use`, which are null
        where no month knows them; ``unknown_h`` is what was reserved in months whose use nobody
        knows.
    """
    counts = ["leases", "no_shows", "released_early"]
    unknown = pl.when(pl.col("used_h").is_null()).then("reserved_h").otherwise(0.0)
    hours = ["reserved_h", *PARTS]
    known = pl.col("no_shows").is_not_null().any()
    return (
        use.with_columns(unknown_h=unknown, year=pl.col("timestamp").dt.year())
        .sort("timestamp", "node_type")  # sums of floats depend on their order
        .group_by("year", maintain_order=True)
        .agg(
            pl.col(hours).sum(),
            pl.col("leases", "released_early").sum(),
            no_shows=pl.when(known).then(pl.col("no_shows").sum()),
        )
        .select("year", *hours, *counts)
    )


def lease_use(use: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw the node-hours that leases reserved, by what became of them, and what they gave back.

    Args:
        use: `lease_use` rows of one site.
        site_name: for the title.
    """
    years = by_year(use)
    table = (
        years.unpivot(index="year", on=list(PARTS), variable_name="part", value_name="node_hours")
        .filter(pl.col("node_hours") > 0)
        .with_columns(
            pl.col("part").replace_strict(PARTS, return_dtype=pl.Enum(list(PARTS.values())))
        )
        .sort("year", "part")
    )
    drawn = table.select(
        "year",
        pl.col("part").cast(pl.String),
        pl.col("node_hours").round(),
        order=pl.col("part").to_physical().cast(pl.Int64),
    )
    shades = {
        part: palette.LEASE_USE[part] for part in PARTS.values() if (drawn["part"] == part).any()
    }
    chart = (
        alt.Chart(inline_values(drawn))
        .mark_bar(stroke=palette.PLAIN, strokeWidth=0.4)
        .encode(
            x=alt.X("year:O", title=None, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("node_hours:Q", title="node-hours", axis=alt.Axis(format="~s")),
            color=colour(
                "part", shades, legend=alt.Legend(columns=3, symbolStrokeWidth=0.6, symbolSize=160)
            ),
            order="order:Q",
            tooltip=["year:O", "part:N", alt.Tooltip("node_hours:Q", format=",.0f")],
        )
    )
    whole = table.group_by("part", maintain_order=True).agg(pl.col("node_hours").sum()).sort("part")
    words = in_words(whole.cast({"part": pl.String}), "{part} {node_hours:,.0f}")
    return figure(
        chart,
        table,
        width=WIDTH,
        height=HEIGHT * 0.9,
        title=f"{site_name}: what leases made of their nodes",
        description=f"{site_name}: node-hours that leases reserved, each year, by their use, and "
        f"those given back before the lease would have ended. In all: {words}.",
    )
