"""Data availability: what of each year was seen, inferred or is not known, and by which source."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.models.raw import QUANTITIES, RAW_TABLES
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE
from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    LABELS,
    WIDTH,
    Figure,
    as_text,
    coarsen,
    colour,
    figure,
    in_words,
    inline_values,
    means,
    since_opening,
    span_words,
    time_axis,
)

SOURCES: dict[str, str] = {
    **{name: table.label for name, table in RAW_TABLES.items()},
    INDIRECT_EVIDENCE: "indirect evidence",
}
"""What figures call a source; one not listed keeps its name."""


def availability(shares: pl.DataFrame, usage: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw of each year which share of it was seen, inferred and not known, by quantity.

    Args:
        shares: `coverage` rows of one site; `seen` and `inferred` are read.
        usage: its `usage_timeline` rows; the corrected collector's are read.
        site_name: for the title.

    Days without a value are not known; the rest of the year divides as its node-days do, where
    `shares` tells what was seen; of other quantities it is just known. The days before the site
    had a node are left out.
    """
    apart_kinds, kinds = ["seen", "inferred"], ["seen", "inferred", "known"]
    apart = (
        as_text(shares)
        .filter(pl.col("source").is_in(apart_kinds))
        .rename({"quantity_type": "count_type"})
        .pivot(
            on="source",
            on_columns=apart_kinds,
            index=["count_type", "timestamp"],
            values="known_share",
        )
    )
    told = set(apart["count_type"])
    # Where reservations hold all that is occupied, their part is told apart and stands for the sum.
    drawn_types = [
        *told,
        *(name for name in QUANTITIES if not any(part.startswith(name) for part in told)),
    ]
    days = as_text(since_opening(usage)).filter(
        pl.col("collector_type") == "corrected",
        pl.col("count_type").is_in(drawn_types),
        pl.col("timestamp") >= apart["timestamp"].min(),
    )
    whole = pl.sum_horizontal(kinds)
    table = (
        days.join(apart, on=["count_type", "timestamp"], how="left")
        .sort("count_type", "timestamp")
        .group_by("count_type", year=pl.col("timestamp").dt.year(), maintain_order=True)
        .agg(
            (pl.col(apart_kinds).fill_null(0) * pl.col("value")).sum(),
            known=pl.col("value").filter(~pl.col("count_type").is_in(told)).sum(),
            unknown=pl.col("value").is_null().mean(),
        )
        .filter((whole > 0) | (pl.col("unknown") > 0))
        .with_columns(
            pl.when(whole > 0)
            .then((1 - pl.col("unknown")) * pl.col(part) / whole)
            .otherwise(0.0)
            .alias(part)
            for part in kinds
        )
        .unpivot(
            list(palette.SEEN),
            index=["count_type", "year"],
            variable_name="part",
            value_name="share",
        )
        .with_columns(pl.col("share").round(4))
        .sort(pl.col("count_type").cast(pl.Enum(list(LABELS))), "year", "part")
    )
    drawn = table.with_columns(
        pl.col("count_type").replace(LABELS),
        pl.col("part").replace({part: words for part, (words, _) in palette.SEEN.items()}),
        order=pl.col("part").cast(pl.Enum(list(palette.SEEN))).to_physical(),
    )
    ends = (
        drawn.filter(
            pl.col("part") == "seen", pl.col("count_type").is_in([LABELS[name] for name in told])
        )
        .group_by("count_type", maintain_order=True)
        .agg(
            first=pl.col("share").first(),
            last=pl.col("share").last(),
            begin=pl.col("year").first(),
            end=pl.col("year").last(),
        )
    )
    years = drawn["year"].unique().sort().to_list()
    told_years = years[:: 3 if len(years) > 3 else 1]  # all of them would not fit upright
    bars = (
        alt.Chart(inline_values(drawn.filter(pl.col("share") > 0)))
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("year:O", title=None, axis=alt.Axis(labelAngle=0, values=told_years)),
            y=alt.Y(
                "share:Q",
                title="share of the year",
                axis=alt.Axis(format=".0%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=colour("part", dict(palette.SEEN.values()), legend=alt.Legend(orient="bottom")),
            order="order:Q",
            tooltip=["count_type:N", "year:O", "part:N", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(width=104, height=150)
    )
    labels = drawn["count_type"].unique(maintain_order=True).to_list()
    lost = (
        drawn.filter(pl.col("part") == palette.SEEN["unknown"][0])
        .group_by("count_type", maintain_order=True)
        .agg(pl.col("share").mean())
        .filter(pl.col("share") > 0)
    )
    words = "; ".join(
        part
        for part in (
            in_words(ends, "{count_type}: {first:.0%} in {begin}, {last:.0%} in {end}"),
            in_words(lost, "{count_type} not known: {share:.0%}"),
        )
        if part
    )
    return figure(
        bars.facet(column=alt.Column("count_type:N", title=None, sort=labels)),
        table,
        title=f"{site_name}: seen, inferred, not known",
        description=f"{site_name}, share of each year that was seen. {words}.",
    )


def coverage(shares: pl.DataFrame, *, site_name: str, on_demand: bool = True) -> Figure:
    """Draw how much of the time each source can speak for, by month, as a heat map.

    Args:
        shares: `coverage` rows of one site.
        site_name: for the title.
        on_demand: whether the site has nodes to use without a lease; if not, the rows of
            quantities on demand are left out.

    The time before any source names a node is blank.
    """
    source, quantity = pl.col("source"), pl.col("quantity_type")
    shares = as_text(shares).filter(~source.is_in(["seen", "inferred"]))  # see `availability`
    named = shares.filter(source != "records").drop_nulls("known_share")
    first = (named if named.height else shares)["timestamp"].min()
    table = coarsen(
        shares.filter(
            pl.col("timestamp") >= first, pl.lit(on_demand) | ~quantity.str.ends_with("_ondemand")
        ),
        "1mo",
        by=["quantity_type", "source"],
        value="known_share",
    ).with_columns(pl.col("known_share").round(3))
    drawn = table.with_columns(
        row=quantity.replace(LABELS)
        + pl.when(source == "records")
        .then(pl.lit(", published (all sources together)"))
        .otherwise(", by " + source.replace(SOURCES)),
        until=pl.col("timestamp").dt.offset_by("1mo"),
    )
    rows = drawn.sort(quantity.cast(pl.Enum(list(LABELS))), source == "records", "source")["row"]
    cells = _spells(drawn.select("row", "timestamp", "until", "known_share"))
    words = in_words(means(drawn, "known_share", "row"), "{row}: {known_share:.0%}")
    chart = (
        alt.Chart(inline_values(cells))
        .mark_rect(stroke=None)
        .encode(
            x=time_axis(shares),
            x2="until:T",
            y=alt.Y(
                "row:N",
                title=None,
                sort=rows.unique(maintain_order=True).to_list(),
                axis=alt.Axis(labelLimit=360),
            ),
            color=alt.Color(
                "known_share:Q",
                title="known (white: nothing there yet)",
                legend=alt.Legend(
                    format=".0%", values=[0, 0.5, 1], titleLimit=300, gradientLength=220
                ),
                scale=alt.Scale(
                    domain=[0, 1],
                    range=[palette.STATES["unknown"], palette.SEEN["seen"][1]],
                    interpolate="lab",
                ),
            ),
        )
    )
    return figure(
        chart,
        table,
        width=WIDTH * 0.7,
        height=alt.Step(20),
        title=f"{site_name}: how much each source knows",
        description=f"{site_name}, {span_words(table)}: share of host time that each source knows, "
        f"by month. {words}",
    )


def _spells(months: pl.DataFrame) -> pl.DataFrame:
    """Join the months of each `row` that follow each other and have the same `known_share`."""
    months = months.drop_nulls("known_share").sort("row", "timestamp")
    follows = (
        pl.struct("row", "known_share", "timestamp")
        == pl.struct("row", "known_share", timestamp="until").shift()
    )
    return (
        months.group_by((~follows).fill_null(value=True).cum_sum().alias("spell"))
        .agg(pl.first("row", "timestamp"), pl.last("until"), pl.first("known_share"))
        .sort("spell")
        .drop("spell")
    )
