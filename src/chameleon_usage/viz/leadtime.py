"""Lead times of leases, requested beside effective."""

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
    inline_values,
    lookup,
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
            requested="requested_h",
            effective="effective_h",
        )
        .unpivot(
            index=["created_at", "node_type"], variable_name="leadtime_type", value_name="hours"
        )
        .drop_nulls("hours")
        .sort("leadtime_type", "created_at", "node_type", "hours", descending=[True] + 3 * [False])
    )
    ranked = table.group_by("node_type").len().sort("len", "node_type", descending=[True, False])
    colours = palette.node_type_colours([t for t in ranked["node_type"] if t != "unknown"])
    at_once = pl.col("hours") <= 1 / 60
    strata = [table.filter(at_once), table.filter(~at_once)]
    steps = [max(1, -(-stratum.height // most)) for stratum in strata]
    node_type = pl.col("node_type")
    drawn = pl.concat(
        stratum.gather_every(step) for stratum, step in zip(strata, steps, strict=True)
    ).select(
        pl.col("created_at").dt.truncate("1h").alias("timestamp"),
        # The rest, and types not known, are `other`.
        pl.when(node_type.is_in(list(colours))).then(node_type).otherwise(pl.lit("other")),
        "leadtime_type",
        pl.col("hours").clip(1 / 60).round(3),
    )
    thin = (
        "every lease is drawn"
        if max(steps) == 1
        else f"drawn: {_every(steps[0])} lead time of at most one minute, "
        f"{_every(steps[1])} longer one"
    )
    ticks = {1 / 60: "≤ 1 min", 1: "1 h", 24: "1 d", 168: "7 d", 720: "30 d"}
    points = (
        alt.Chart(inline_values(drawn))
        .mark_point(filled=True, size=9, opacity=0.55)
        .encode(
            x=time_axis(drawn, count=5, title="lease created"),
            y=alt.Y(
                "hours:Q",
                title="lead time",
                scale=alt.Scale(type="log", domainMin=1 / 60),
                axis=alt.Axis(
                    values=list(ticks),
                    labelExpr=lookup(
                        "format(datum.value, '.2f')",
                        {f"{hours:.2f}": words for hours, words in ticks.items()},
                    ),
                ),
            ),
            color=colour(
                "node_type",
                {t: shade for t, shade in colours.items() if (drawn["node_type"] == t).any()},
                legend=alt.Legend(symbolSize=60, symbolOpacity=1),
            ),
            tooltip=[
                alt.Tooltip("utcyearmonthdate(timestamp):T", title="created"),
                alt.Tooltip("node_type:N", title="node type"),
                alt.Tooltip("hours:Q", format=",.2f"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT)
    )
    advance = pl.col("hours") > 1
    medians = table.group_by("leadtime_type", maintain_order=True).agg(
        pl.len(), advance.mean(), median=pl.col("hours").filter(advance).median().fill_null(0)
    )
    words = " ".join(
        f"{kind.capitalize()}: {leases:,} leases, {share:.1%} over one hour, "
        f"median of these {median:,.1f} h."
        for kind, leases, share, median in medians.iter_rows()
    )
    return figure(
        points.facet(
            facet=alt.Facet("leadtime_type:N", title=None, sort=["requested", "effective"])
        ),
        drawn,
        title=alt.TitleParams(f"{site_name}: lead times, requested and effective", subtitle=thin),
        description=f"{site_name}: hours from a lease's creation to its requested start and to its "
        f"first real start, on a log scale ({thin}). {words}",
    )


def _every(n: int) -> str:
    """Say which share of the points is drawn: every, every 2nd, every 3rd, ..."""
    if n == 1:
        return "every"
    tail = "th" if n % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"every {n}{tail}"
