"""Lead times of leases, requested beside effective."""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    WIDTH,
    Figure,
    inline_values,
    lookup,
    ordinal_every,
    styled,
    time_axis,
)


def leadtime(leases: pl.DataFrame, *, site_name: str, most: int = 1500) -> Figure:
    """Draw lead times as points, requested beside effective, coloured by node type.

    Args:
        leases: `leadtime_leases` rows of one site.
        site_name: for the title.
        most: points drawn of those up to one minute, and of the longer ones; where there are
            more, every n-th in the order of creation is drawn, and the title says so.

    Lead times under one minute are drawn at one minute, the lower end of the log axis.
    """
    table = (
        leases.select(
            "created_at",
            pl.col("node_type").fill_null("unknown"),
            pl.col("requested_h").alias("requested"),
            pl.col("effective_h").alias("effective"),
        )
        .unpivot(
            on=["requested", "effective"],
            index=["created_at", "node_type"],
            variable_name="leadtime_type",
            value_name="hours",
        )
        .drop_nulls("hours")
        .sort("leadtime_type", "created_at", "node_type", "hours", descending=[True] + 3 * [False])
    )
    ranked = (table.group_by("node_type").len().sort("len", "node_type", descending=[True, False]))[
        "node_type"
    ].to_list()
    colours = palette.node_type_colours([t for t in ranked if t != "unknown"])
    named = [t for t in colours if t != "other"]  # the rest, and types not known
    at_once = pl.col("hours") <= 1 / 60
    strata = [table.filter(at_once), table.filter(~at_once)]
    steps = [max(1, -(-stratum.height // most)) for stratum in strata]
    drawn = pl.concat(
        stratum.gather_every(step) for stratum, step in zip(strata, steps, strict=True)
    ).select(
        pl.col("created_at").dt.truncate("1h").alias("timestamp"),
        pl.when(pl.col("node_type").is_in(named))
        .then("node_type")
        .otherwise(pl.lit("other"))
        .alias("node_type"),
        "leadtime_type",
        pl.col("hours").clip(1 / 60).round(3),
    )
    used = [t for t in colours if (drawn["node_type"] == t).any()]
    thin = (
        "every lease is drawn"
        if max(steps) == 1
        else f"drawn: {ordinal_every(steps[0])} lead time of at most one minute, "
        f"{ordinal_every(steps[1])} longer one"
    )
    chart = (
        alt.Chart(inline_values(drawn))
        .mark_point(filled=True, size=9, opacity=0.55)
        .encode(
            x=time_axis(drawn, count=5, title="lease created"),
            y=alt.Y(
                "hours:Q",
                title="lead time",
                scale=alt.Scale(type="log", domainMin=1 / 60),
                axis=alt.Axis(
                    values=[1 / 60, 1, 24, 168, 720],
                    labelExpr=lookup(
                        "format(datum.value, '.2f')",
                        {
                            "0.02": "≤ 1 min",
                            "1.00": "1 h",
                            "24.00": "1 d",
                            "168.00": "7 d",
                            "720.00": "30 d",
                        },
                    ),
                ),
            ),
            color=alt.Color(
                "node_type:N",
                title=None,
                scale=alt.Scale(domain=used, range=[colours[t] for t in used]),
                legend=alt.Legend(symbolSize=60, symbolOpacity=1),
            ),
            tooltip=[
                alt.Tooltip("utcyearmonthdate(timestamp):T", title="created"),
                alt.Tooltip("node_type:N", title="node type"),
                alt.Tooltip("hours:Q", format=",.2f"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT)
        .facet(facet=alt.Facet("leadtime_type:N", title=None, sort=["requested", "effective"]))
        .properties(
            title=alt.TitleParams(
                f"{site_name}: lead times, requested and effective", subtitle=thin
            ),
            description=(
                f"{site_name}: hours from a lease's creation to its requested start and to its "
                f"first real start, on a log scale ({thin}). " + _leadtime_words(table)
            ),
        )
    )
    return Figure(styled(chart), drawn)


def _leadtime_words(table: pl.DataFrame) -> str:
    return " ".join(
        f"{r['leadtime_type'].capitalize()}: {r['n']:,} leases, {r['advance']:.1%} over one hour, "
        f"median of these {r['median'] or 0:,.1f} h."
        for r in table.group_by("leadtime_type", maintain_order=True)
        .agg(
            pl.len().alias("n"),
            (pl.col("hours") > 1).mean().alias("advance"),
            pl.col("hours").filter(pl.col("hours") > 1).median().alias("median"),
        )
        .iter_rows(named=True)
    )
