"""Nodes of all sites: their sum, each beside the others, and the shares that were used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    LINE_LEGEND,
    WIDTH,
    Figure,
    as_text,
    gap_layers,
    inline_values,
    panel_title,
    side_by_side,
    span_words,
    styled,
    time_axis,
)
from chameleon_usage.viz.tables import ALL, QUANTITIES, cross_site_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Colours = Mapping[str, Sequence[str]] | None

STATES = {"used": "used", "leased": "leased (use unknown)", "available": "not used"}


def _site_areas(
    table: pl.DataFrame,
    site_names: dict[str, str],
    site_colours: Colours,
    *,
    by_state: bool = False,
) -> tuple[pl.DataFrame, alt.Color, list[alt.Tooltip]]:
    """Give the areas to stack, as a long table, their colours and the words for the pointer.

    Args:
        table: from `cross_site_table`.
        site_names: site to its name, in the order of stacking from the bottom.
        site_colours: site to its shades, dark first.
        by_state: what is used of all sites lies below all that is not, rather than site by site.
    """
    shades = {site: palette.site_shades(site, site_colours) for site in site_names}
    keys = [
        (f"{site_names[site]}, {words}", shade, f"{site}/{state}")
        for site in site_names
        for (state, words), shade in zip(STATES.items(), shades[site], strict=True)
        if (table.filter(pl.col("site") == site)[state].fill_null(0) > 0).any()
    ]
    stacked = keys
    if by_state:
        stacked = sorted(keys, key=lambda k: list(STATES).index(k[2].split("/")[1]))
    long = (
        table.select("site", "timestamp", "days", *STATES)
        .unpivot(index=["site", "timestamp", "days"], variable_name="state", value_name="nodes")
        .select(
            "timestamp",
            "days",
            pl.col("site").replace(site_names).alias("name"),
            (pl.col("site") + "/" + pl.col("state"))
            .replace_strict({key: label for label, _, key in keys}, default=None)
            .alias("series"),
            (pl.col("site") + "/" + pl.col("state"))
            .replace_strict({key: i for i, (_, _, key) in enumerate(stacked)}, default=None)
            .alias("order"),
            "nodes",
        )
        .drop_nulls("series")
        .sort("order", "timestamp")
    )
    colours = alt.Scale(domain=[k[0] for k in keys], range=[k[1] for k in keys])
    tooltip = [
        alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
        alt.Tooltip("series:N", title="site"),
        alt.Tooltip("nodes:Q", format=",.1f"),
    ]
    return long, alt.Color("series:N", scale=colours, title=None, sort=None), tooltip


def _of_the_sum(long: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Weigh each site's mean by the days it was there: so its part in the mean of the sum."""
    return long.join(
        totals.select("timestamp", pl.col("days").alias("all_days"), "total"),
        on="timestamp",
        maintain_order="left",
    ).with_columns((pl.col("nodes") * pl.col("days") / pl.col("all_days")).round(2))


def _areas(rows: pl.DataFrame, x: alt.X, y: alt.Y, color: alt.Color, tooltip: object) -> alt.Chart:
    return (
        alt.Chart(inline_values(rows))
        .mark_area(interpolate="step-after")
        .encode(x=x, y=y, color=color, order="order:Q", tooltip=tooltip)
    )


def _total(rows: pl.DataFrame, width: float) -> alt.Chart:
    return (
        alt.Chart(inline_values(rows))
        .mark_line(color=palette.TOTAL, strokeWidth=width, interpolate="step-after")
        .encode(x="timestamp:T", y="total:Q")
    )


def cross_site_usage(
    usage: pl.DataFrame,
    *,
    site_names: dict[str, str],
    site_colours: Colours = None,
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw all sites: their sum stacked, and each beside the others.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name, in the order of stacking from the bottom.
        site_colours: site to its shades, dark first; fixed ones by its name for one not there.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = cross_site_table(usage, every=every, collector=collector).with_columns(
        pl.col(QUANTITIES).round(2)
    )
    sites = [site for site in site_names if (table["site"] == site).any()]
    long, legend, tooltip = _site_areas(
        table, {site: site_names[site] for site in sites}, site_colours
    )
    totals = table.filter(pl.col("site") == ALL)
    nodes = alt.Y("nodes:Q", title="nodes", stack="zero")
    area = _of_the_sum(long, totals).select(long.columns)
    summed = alt.layer(
        _areas(area, time_axis(totals), nodes, legend, tooltip),
        _total(totals, 1.3),
        *gap_layers(totals, "total", every),
    ).properties(width=WIDTH, height=HEIGHT, title="All sites together (black line = total)")
    opened = dict(
        as_text(usage)
        .filter(pl.col("count_type") == "total", pl.col("collector_type") == collector)
        .filter(pl.col("value") > 0)
        .group_by("site")
        .agg(pl.col("timestamp").min())
        .iter_rows()
    )
    panels = []
    for site in sites:
        name = site_names[site]
        # The month in which a site opens begins on that day.
        begin = pl.max_horizontal("timestamp", pl.lit(opened[site], pl.Datetime("us", "UTC")))
        one = long.filter(pl.col("name") == name).with_columns(begin)
        line = table.filter(pl.col("site") == site).with_columns(begin)
        panels.append(
            alt.layer(
                _areas(one, time_axis(totals, count=5), nodes, legend, tooltip),
                _total(line.select("timestamp", "total"), 1),
                *gap_layers(line, "used", every),
            ).properties(width=WIDTH / 2 - 40, height=110, title=panel_title(name))
        )
    chart = alt.vconcat(summed, side_by_side(panels, columns=2)).properties(
        description=f"Used and not used nodes of all sites, {span_words(table)}, monthly means. "
        + "; ".join(
            f"{site_names.get(r['site'], 'all sites')}: total {_average(r['total'])}, "
            f"used {_average(r['used'])}"
            for r in table.group_by("site", maintain_order=True)
            .agg(
                pl.col("total").mean(),
                used=pl.when((pl.col("leased") > 0).any().not_()).then(pl.col("used").mean()),
            )
            .iter_rows(named=True)
            if r["site"] in site_names or len(sites) > 1
        )
        + "."
    )
    return Figure(styled(chart), table)


def cross_site_percent(
    usage: pl.DataFrame,
    *,
    site_names: dict[str, str],
    site_colours: Colours = None,
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw the sum over the sites in percent of all nodes: what is used at the bottom.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name, in the order of stacking from the bottom.
        site_colours: site to its shades, dark first; fixed ones by its name for one not there.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = cross_site_table(usage, every=every, collector=collector)
    totals = table.filter(pl.col("site") == ALL)
    long, legend, tooltip = _site_areas(table, site_names, site_colours, by_state=True)
    percent = _of_the_sum(long, totals).select(
        "timestamp",
        "series",
        "order",
        pl.when(pl.col("total") > 0)
        .then((100 * pl.col("nodes") / pl.col("total")).round(2))
        .alias("percent"),
    )
    ends = totals.select(
        "timestamp",
        *(
            pl.when(pl.col("total") > 0).then((100 * of / pl.col("total")).round(2)).alias(name)
            for name, of in {
                "used_percent": pl.col("used"),
                "used_or_leased_percent": pl.col("used") + pl.col("leased"),
                "usable_percent": pl.col("used") + pl.col("leased") + pl.col("available"),
            }.items()
        ),
    )
    chart = alt.layer(
        _areas(
            percent,
            time_axis(totals),
            alt.Y(
                "percent:Q",
                title="% of the nodes of all sites",
                stack="zero",
                scale=alt.Scale(domain=[0, 100], clamp=True),
            ),
            legend,
            [*tooltip[:2], alt.Tooltip("percent:Q", format=".1f", title="% of all")],
        ),
        *gap_layers(ends, "used_percent", every),
    ).properties(
        width=WIDTH,
        height=HEIGHT,
        title="All sites together, in percent of all their nodes",
        description=f"Used and not used nodes in percent of the nodes of all sites, "
        f"{span_words(ends)}, monthly means. "
        + "; ".join(
            f"{words} {ends.select(pl.col(name).mean()).item():.1f} % on average"
            for name, words in {
                "used_percent": "used",
                "used_or_leased_percent": "used or leased",
                "usable_percent": "could be used, or were",
            }.items()
            if ends[name].count()
        )
        + ".",
    )
    return Figure(
        styled(chart),
        ends.join(
            percent.pivot(on="series", index="timestamp", values="percent", sort_columns=False),
            on="timestamp",
            how="left",
        ).sort("timestamp"),
    )


def _average(nodes: float | None) -> str:
    return "not known" if nodes is None else f"{nodes:,.1f} nodes on average"


def site_comparison(
    usage: pl.DataFrame,
    *,
    site_names: dict[str, str],
    site_colours: Colours = None,
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw the used share of each site's nodes as lines.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name.
        site_colours: site to its shades, dark first; fixed ones by its name for one not there.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = cross_site_table(usage, every=every, collector=collector)
    table = table.filter(pl.col("site") != ALL).select(
        "site",
        "timestamp",
        pl.when(pl.col("total") > 0, pl.col("leased") == 0)
        .then(100 * pl.col("used") / pl.col("total"))
        .round(2)
        .alias("used_percent"),
    )
    known = table.drop_nulls("used_percent")["site"].unique()
    sites = [site for site in site_names if site in known]
    drawn = table.filter(pl.col("site").is_in(sites)).with_columns(
        pl.col("site").replace(site_names)
    )
    chart = (
        alt.Chart(inline_values(drawn))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=time_axis(drawn),
            y=alt.Y("used_percent:Q", title="% of nodes used", scale=alt.Scale(domain=[0, 100])),
            color=alt.Color(
                "site:N",
                title=None,
                scale=alt.Scale(
                    domain=[site_names[s] for s in sites],
                    range=[palette.site_shades(s, site_colours)[0] for s in sites],
                ),
                legend=LINE_LEGEND,
            ),
            tooltip=[
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                "site:N",
                alt.Tooltip("used_percent:Q", format=".1f", title="% used"),
            ],
        )
        .properties(
            width=WIDTH,
            height=HEIGHT,
            title="Share of each site's nodes that were used",
            description=f"Share of each site's nodes that were used, {span_words(table)}, monthly. "
            + "; ".join(
                f"{r['site']}: {r['used_percent']:.1f} % on average"
                for r in drawn.group_by("site", maintain_order=True)
                .agg(pl.col("used_percent").mean())
                .iter_rows(named=True)
                if r["used_percent"] is not None
            )
            + ".",
        )
    )
    # Without a site to draw, the figure says that there is nothing to show.
    return Figure(styled(chart), table if sites else table.clear())
