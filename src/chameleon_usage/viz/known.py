"""How much is known: of each year seen, inferred or not known, and what each source can tell."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    WIDTH,
    Figure,
    as_text,
    coarsen,
    inline_values,
    since_opening,
    span_words,
    styled,
    time_axis,
)

PARTS: dict[str, tuple[str, str]] = {
    "seen": ("seen", palette.COLLECTORS["corrected"][0]),
    "inferred": ("inferred", "#9C93D1"),
    "unknown": ("not known", palette.STATES["unknown"]),
}
"""Part of a year to its words and colour, from the bottom of the stack."""

ON_DEMAND = "_ondemand"

SOURCES: dict[str, str] = {name: table.label for name, table in RAW_TABLES.items()} | {
    "records": "published (all sources together)"
}
"""What figures call a source; one not listed keeps its name."""


def known(shares: pl.DataFrame, usage: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw of each year which share of it was seen, inferred and not known, by quantity.

    Args:
        shares: `coverage` rows of one site; `seen` and `inferred` are read.
        usage: its `usage_timeline` rows; the corrected collector's are read.
        site_name: for the title.

    Days without a value are not known; the rest of the year divides as its node-days do. The
    days before the site had a node are left out.
    """
    apart = (
        as_text(shares)
        .filter(pl.col("source").is_in(["seen", "inferred"]))
        .pivot(
            on="source",
            on_columns=["seen", "inferred"],
            index=["quantity_type", "timestamp"],
            values="known_share",
        )
        .rename({"quantity_type": "count_type"})
    )
    days = as_text(since_opening(usage)).filter(
        pl.col("collector_type") == "corrected",
        pl.col("count_type").is_in(apart["count_type"].unique().implode()),
        pl.col("timestamp") >= apart["timestamp"].min(),
    )
    nodes = pl.col("value")
    table = (
        days.join(apart, on=["count_type", "timestamp"], how="left")
        .sort("count_type", "timestamp")
        .group_by("count_type", year=pl.col("timestamp").dt.year(), maintain_order=True)
        .agg(
            unknown=nodes.is_null().mean(),
            seen=(nodes * pl.col("seen").fill_null(0)).sum(),
            inferred=(nodes * pl.col("inferred").fill_null(0)).sum(),
        )
        .with_columns(whole=pl.col("seen") + pl.col("inferred"))
        .filter((pl.col("whole") > 0) | (pl.col("unknown") > 0))
        .with_columns(
            pl.when(pl.col("whole") > 0)
            .then((1 - pl.col("unknown")) * pl.col(part) / pl.col("whole"))
            .otherwise(0.0)
            .alias(part)
            for part in ("seen", "inferred")
        )
        .unpivot(
            on=list(PARTS), index=["count_type", "year"], variable_name="part", value_name="share"
        )
        .with_columns(pl.col("share").round(4))
        .sort(pl.col("count_type").cast(pl.Enum(list(METRICS))), "year", "part")
    )
    drawn = table.with_columns(
        pl.col("count_type").replace({name: METRICS[name].label for name in METRICS}),
        pl.col("part").replace({part: words for part, (words, _) in PARTS.items()}),
        order=pl.col("part").replace_strict({p: n for n, p in enumerate(PARTS)}, default=9),
    )
    labels = [METRICS[name].label for name in METRICS if name in set(table["count_type"])]
    chart = (
        alt.Chart(inline_values(drawn.filter(pl.col("share") > 0)))
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("year:O", title=None, axis=alt.Axis(labelAngle=-60)),
            y=alt.Y(
                "share:Q",
                title="share of the year",
                axis=alt.Axis(format=".0%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(
                    domain=[words for words, _ in PARTS.values()],
                    range=[colour for _, colour in PARTS.values()],
                ),
                legend=alt.Legend(orient="bottom"),
            ),
            order=alt.Order("order:Q"),
            tooltip=[
                "count_type:N",
                "year:O",
                "part:N",
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
        .properties(width=130, height=150)
        .facet(column=alt.Column("count_type:N", title=None, sort=labels))
        .properties(
            title=f"{site_name}: seen, inferred, not known",
            description=f"{site_name}, share of each year that was seen. "
            + "; ".join(
                f"{METRICS[row['count_type']].label}: {row['first']:.0%} in {row['from']}, "
                f"{row['last']:.0%} in {row['to']}"
                for row in table.filter(pl.col("part") == "seen")
                .group_by("count_type", maintain_order=True)
                .agg(
                    first=pl.col("share").first(),
                    last=pl.col("share").last(),
                    **{"from": pl.col("year").first(), "to": pl.col("year").last()},
                )
                .iter_rows(named=True)
            )
            + ".",
        )
    )
    return Figure(styled(chart), table)


def coverage(
    shares: pl.DataFrame, *, site_name: str, every: str = "1mo", on_demand: bool = True
) -> Figure:
    """Draw how much of the time each source can speak for, as a heat map.

    Args:
        shares: `coverage` rows of one site.
        site_name: for the title.
        every: bucket to average over (see `coarsen`).
        on_demand: whether the site has nodes to use without a lease; if not, the rows of
            quantities on demand are left out.

    The time before any source names a node is blank.
    """
    shares = shares.filter(~pl.col("source").is_in(["seen", "inferred"]))  # see `known`
    named = shares.filter(pl.col("source") != "records", pl.col("known_share").is_not_null())
    first = (named if named.height else shares)["timestamp"].min()
    table = coarsen(
        shares.filter(
            pl.col("timestamp") >= first,
            pl.lit(on_demand) | ~pl.col("quantity_type").str.ends_with(ON_DEMAND),
        ),
        every,
        by=["quantity_type", "source"],
        value="known_share",
    ).with_columns(pl.col("known_share").round(3))
    drawn = table.select(
        pl.col("quantity_type").replace({m: METRICS[m].label for m in METRICS})
        + ", by "
        + pl.col("source").replace(SOURCES),
        "timestamp",
        pl.col("timestamp").dt.offset_by(every).alias("until"),
        "known_share",
        "source",
        order="quantity_type",
    ).rename({"quantity_type": "row"})
    drawn = drawn.with_columns(
        pl.col("row").str.replace(", by published", ", published", literal=True)
    )
    rows = (
        drawn.sort(
            pl.col("order").replace_strict({m: i for i, m in enumerate(METRICS)}, default=99),
            pl.col("source") == "records",
            "source",
        )["row"]
        .unique(maintain_order=True)
        .to_list()
    )
    chart = (
        alt.Chart(
            inline_values(
                drawn.select("row", "timestamp", "until", "known_share").drop_nulls("known_share")
            )
        )
        .mark_rect(stroke=None)
        .encode(
            x=time_axis(shares),
            x2="until:T",
            y=alt.Y("row:N", title=None, sort=rows, axis=alt.Axis(labelLimit=360)),
            color=alt.Color(
                "known_share:Q",
                title="known",
                legend=alt.Legend(format=".0%", values=[0, 0.5, 1]),
                scale=alt.Scale(domain=[0, 1], scheme="viridis"),
            ),
        )
        .properties(
            width=WIDTH * 0.7,
            height=alt.Step(20),
            title=f"{site_name}: how much each source knows",
            description=(
                f"{site_name}, {span_words(table)}: share of host time that each source knows, by "
                "month. "
                + "; ".join(
                    f"{r['row']}: {r['known_share']:.0%}"
                    for r in drawn.group_by("row", maintain_order=True)
                    .agg(pl.col("known_share").mean())
                    .iter_rows(named=True)
                    if r["known_share"] is not None
                )
            ),
        )
    )
    return Figure(styled(chart), table)
