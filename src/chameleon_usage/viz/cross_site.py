"""Nodes of all sites: their sum, each beside the others, and the shares that were used.

Each figure takes `usage`, the `usage_timeline` of all sites; `site_names`, site to its name in the
order of stacking from the bottom; and `site_colours`, site to its shades, dark first (fixed ones by
its name for one that is not there). It draws monthly means of the corrected count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    LINE_LEGEND,
    MONTH,
    WIDTH,
    Figure,
    as_text,
    colour,
    event_layers,
    figure,
    gap_layers,
    in_words,
    inline_values,
    means,
    panel_title,
    side_by_side,
    span_words,
    time_axis,
    total_line,
)
from chameleon_usage.viz.tables import ALL, QUANTITIES, cross_site_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Colours = Mapping[str, Sequence[str]] | None

STATES = {"used": "used", "leased": "leased (use unknown)", "available": "not used"}
NOT_LEASED = "not leased"
"""What is available at a site of which nobody knows how much of it was used."""
REST, UNKNOWN = "maintenance", "not known"
LEGEND = alt.Legend(symbolStrokeColor=palette.UNKNOWN_EDGE, symbolStrokeWidth=0.6)
"""White has an outline."""
STRIPES = 100
"""Of a width in which nobody knows how much was used; SVG files keep hundredths, not more."""
NODES = alt.Tooltip("nodes:Q", format=",.1f")


def cross_site_usage(
    usage: pl.DataFrame,
    *,
    site_names: dict[str, str],
    site_colours: Colours = None,
    events: pl.DataFrame | None = None,
) -> Figure:
    """Draw all sites: their sum stacked, with dated events, and each beside the others."""
    table = cross_site_table(usage, every="1mo").with_columns(pl.col(QUANTITIES).round(2))
    totals = table.filter(pl.col("site") == ALL)
    parts, shades = _stacked(table, site_names, site_colours)
    nodes = alt.Y("nodes:Q", title="nodes", stack="zero")
    area = _with_rest(_of_the_sum(parts, totals).select(parts.columns), totals)
    opened = dict(
        as_text(usage)
        .filter(pl.col("count_type") == "total", pl.col("collector_type") == "corrected")
        .filter(pl.col("value") > 0)
        .group_by("site")
        .agg(pl.col("timestamp").min())
        .iter_rows()
    )
    sites = {site: name for site, name in site_names.items() if (table["site"] == site).any()}
    areas, lines = {}, {}
    for site, name in sites.items():
        # The month in which a site opens begins on that day.
        begin = pl.max_horizontal("timestamp", pl.lit(opened[site], pl.Datetime("us", "UTC")))
        lines[site] = table.filter(pl.col("site") == site).with_columns(begin)
        one = parts.filter(pl.col("name") == name).with_columns(begin)
        areas[site] = _with_rest(one, lines[site])
    # The panels share the sum's key, so each has all its colours.
    shades = _with_beyond(shades, area, *areas.values())
    summed = alt.layer(
        *_areas(area, time_axis(totals), nodes, shades),
        total_line(alt.Chart(inline_values(totals)), 1.3),
        *gap_layers(totals, "total", "1mo"),
        *event_layers(events, totals),
    ).properties(width=WIDTH, height=HEIGHT, title="All sites together (black line = total)")
    panels = [
        alt.layer(
            *_areas(areas[site], time_axis(totals, count=5), nodes, shades),
            total_line(alt.Chart(inline_values(line.select("timestamp", "total"))), 1),
            *gap_layers(line, "used", "1mo"),
        ).properties(width=WIDTH / 2 - 40, height=110, title=panel_title(sites[site]))
        for site, line in lines.items()
    ]
    names = sites | ({ALL: "all sites"} if len(sites) > 1 else {})
    averages = table.group_by("site", maintain_order=True).agg(
        pl.col("total").mean(),
        used=pl.when(~(pl.col("leased") > 0).any()).then(pl.col("used").mean()),
    )
    words = "; ".join(
        f"{names[site]}: total {_average(total)}, used {_average(used)}"
        for site, total, used in averages.iter_rows()
        if site in names
    )
    return figure(
        alt.vconcat(summed, side_by_side(panels, columns=2)),
        table,
        description=f"Used and not used nodes of all sites, {span_words(table)}, monthly means. "
        f"{words}.",
    )


def cross_site_percent(
    usage: pl.DataFrame, *, site_names: dict[str, str], site_colours: Colours = None
) -> Figure:
    """Draw the sum over the sites in percent of all nodes: what is used at the bottom."""
    table = cross_site_table(usage, every="1mo")
    totals = table.filter(pl.col("site") == ALL)
    parts, shades = _stacked(table, site_names, site_colours, by_state=True)
    total = pl.when(pl.col("total") > 0).then(pl.col("total"))
    area = _with_rest(_of_the_sum(parts, totals).select(parts.columns), totals)
    percent = area.join(totals.select("timestamp", total), on="timestamp").select(
        "timestamp", "series", "order", percent=(100 * pl.col("nodes") / pl.col("total")).round(2)
    )
    used, leased, available = (pl.col(state) for state in STATES)
    ends = totals.select(
        "timestamp",
        used_percent=(100 * used / total).round(2),
        used_or_leased_percent=(100 * (used + leased) / total).round(2),
        usable_percent=(100 * (used + leased + available) / total).round(2),
    )
    areas = _areas(
        percent,
        time_axis(totals),
        alt.Y(
            "percent:Q",
            title="% of the nodes of all sites",
            stack="zero",
            scale=alt.Scale(domain=[0, 100], clamp=True),
        ),
        _with_beyond(shades, percent),
        alt.Tooltip("percent:Q", format=".1f", title="% of all"),
    )
    names = ["used", "used or leased", "could be used, or were"]
    average = ends.drop("timestamp").mean().row(0)
    words = "; ".join(
        f"{name} {mean:.1f} % on average"
        for name, mean in zip(names, average, strict=True)
        if mean is not None
    )
    return figure(
        alt.layer(*areas, *gap_layers(ends, "used_percent", "1mo")),
        ends.join(
            percent.pivot(on="series", index="timestamp", values="percent", sort_columns=False),
            on="timestamp",
            how="left",
        ).sort("timestamp"),
        width=WIDTH,
        height=HEIGHT,
        title="All sites together, in percent of all their nodes",
        description=f"Used and not used nodes in percent of the nodes of all sites, "
        f"{span_words(ends)}, monthly means. {words}.",
    )


def site_comparison(
    usage: pl.DataFrame, *, site_names: dict[str, str], site_colours: Colours = None
) -> Figure:
    """Draw the used share of each site's nodes as lines."""
    table = cross_site_table(usage, every="1mo").filter(pl.col("site") != ALL)
    share = pl.when(pl.col("total") > 0, pl.col("leased") == 0).then(
        100 * pl.col("used") / pl.col("total")
    )
    table = table.select("site", "timestamp", share.round(2).alias("used_percent"))
    known = set(table.drop_nulls("used_percent")["site"])
    sites = [site for site in site_names if site in known]
    there = set(table["site"])
    unknown = [n for site, n in site_names.items() if site in there and site not in known and sites]
    drawn = table.filter(pl.col("site").is_in(sites)).with_columns(
        pl.col("site").replace(site_names)
    )
    shades = {site_names[site]: palette.site_shades(site, site_colours)[0] for site in sites}
    words = in_words(
        means(drawn, "used_percent", "site"), "{site}: {used_percent:.1f} % on average"
    )
    chart = (
        alt.Chart(inline_values(drawn))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=time_axis(drawn),
            y=alt.Y("used_percent:Q", title="% of nodes used", scale=alt.Scale(domain=[0, 100])),
            color=colour("site", shades, legend=LINE_LEGEND),
            tooltip=[
                MONTH,
                "site:N",
                alt.Tooltip("used_percent:Q", format=".1f", title="% used"),
            ],
        )
    )
    return figure(
        chart,
        # Without a site to draw, the figure says that there is nothing to show.
        table if sites else table.clear(),
        width=WIDTH,
        height=HEIGHT,
        title=alt.TitleParams(
            "Share of each site's nodes that were used",
            subtitle=f"Use not known: {', '.join(unknown)}" if unknown else "",
        ),
        description=f"Share of each site's nodes that were used, {span_words(table)}, monthly. "
        f"{'; '.join([words, *(f'{name}: not known' for name in unknown)])}.",
    )


def _stacked(
    table: pl.DataFrame,
    site_names: dict[str, str],
    site_colours: Colours,
    *,
    by_state: bool = False,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Give the areas to stack, without those that a site never has.

    Args:
        table: from `cross_site_table`.
        site_names: site to its name, in the order of stacking from the bottom.
        site_colours: site to its shades, dark first.
        by_state: what is used of all sites lies below all that is not, rather than site by site.

    Returns:
        rows of `timestamp`, `days`, `name` of the site, `series`, `order` of stacking, `nodes`;
        and series to colour, in the order of the legend.
    """
    areas = (
        table.filter(pl.col("site").is_in(list(site_names)))
        .unpivot(list(STATES), index=["site", "timestamp", "days"], value_name="nodes")
        .filter((pl.col("nodes") > 0).any().over("site", "variable"))
        .with_columns(name=pl.col("site").replace(site_names))
    )
    if areas.is_empty():
        unknown_use = set()
    else:
        kinds = areas.group_by("site").agg(pl.col("variable").unique())
        unknown_use = {
            site for site, found in kinds.iter_rows() if "leased" in found and "used" not in found
        }

    def series(site: str, state: str) -> str:
        free = state == "available" and site in unknown_use
        return f"{site_names[site]}, {NOT_LEASED if free else STATES[state]}"

    areas = areas.with_columns(
        series=pl.struct("site", "variable").map_elements(
            lambda row: series(row["site"], row["variable"]), return_dtype=pl.String
        )
    )
    drawn = set(areas["series"])
    named = {
        (site, state): shade
        for site in site_names
        for state, shade in zip(STATES, palette.site_shades(site, site_colours), strict=True)
        if series(site, state) in drawn
    }
    shades = {series(*key): shade for key, shade in named.items()}
    order = list(shades)
    if by_state:
        order = [series(*key) for state in STATES for key in named if key[1] == state]
    areas = areas.with_columns(order=pl.col("series").cast(pl.Enum(order)).to_physical())
    columns = ["timestamp", "days", "name", "series", "order", "nodes"]
    return areas.select(columns).sort("order", "timestamp"), shades


def _of_the_sum(parts: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Weigh each site's mean by the days it was there: so its part in the mean of the sum."""
    return parts.join(
        totals.select("timestamp", "total", all_days="days"), on="timestamp", maintain_order="left"
    ).with_columns((pl.col("nodes") * pl.col("days") / pl.col("all_days")).round(2))


def _with_rest(parts: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Add what the parts leave of the total, on top of them: `UNKNOWN`, and `REST` above it."""
    known = parts.group_by("timestamp").agg(
        pl.col("nodes").sum(), known=pl.col("nodes").is_not_null().all()
    )
    left = (pl.col("total") - pl.col("nodes")).clip(0)
    unknown = pl.min_horizontal(left, "unknown")
    beyond = totals.join(known, on="timestamp", how="inner", maintain_order="left").with_columns(
        pl.when("known").then(nodes).round(2).alias(series)
        for series, nodes in ((UNKNOWN, unknown), (REST, left - unknown))
    )
    rows = [
        beyond.select(
            "timestamp", pl.col(series).alias("nodes"), series=pl.lit(series), order=pl.lit(order)
        )
        for order, series in enumerate((UNKNOWN, REST), len(parts) + 1)
        if series == REST or (beyond[series] > 0).any()
    ]
    return pl.concat([parts, *rows], how="diagonal_relaxed").drop("days", "name")


def _with_beyond(shades: dict[str, str], *frames: pl.DataFrame) -> dict[str, str]:
    """Add to the colours of series those of `UNKNOWN` and `REST`, where a frame has them."""
    beyond = {UNKNOWN: palette.STATES["unknown"], REST: palette.REST}
    found = {series for frame in frames for series in frame["series"].unique()}
    return shades | {series: shade for series, shade in beyond.items() if series in found}


def _areas(
    rows: pl.DataFrame, x: alt.X, y: alt.Y, shades: dict[str, str], value: alt.Tooltip = NODES
) -> list[alt.Chart]:
    """Stack the rows, and draw stripes over those of unknown use."""
    tooltip = [MONTH, alt.Tooltip("series:N", title="site"), value]
    stacked = (
        alt.Chart(inline_values(rows))
        .mark_area(interpolate="step-after")
        .encode(
            x=x,
            y=y,
            color=colour("series", shades, sort=None, legend=LEGEND),
            order="order:Q",
            tooltip=tooltip,
        )
    )
    field = str(value.shorthand).partition(":")[0]
    upper = pl.col(field).cum_sum().over("timestamp", order_by="order").round(2)
    ends = rows.with_columns(upper=upper, lower=(upper - pl.col(field)).round(2))
    return [
        stacked,
        *(
            alt.Chart(inline_values(ends.filter(pl.col("series") == series)))
            .mark_area(interpolate="step-after", color=_stripes(shade))
            .encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q", tooltip=tooltip)
            for series, shade in shades.items()
            if series.endswith(STATES["leased"]) and series in rows["series"]
        ),
    ]


def _stripes(shade: str) -> alt.LinearGradient:
    """Paint in upright stripes of a shade and white."""
    stops = [
        alt.GradientStop(color=(shade, palette.REST)[stripe % 2], offset=edge / STRIPES)
        for stripe in range(STRIPES)
        for edge in (stripe, stripe + 1)
    ]
    return alt.LinearGradient(gradient="linear", stops=stops, x1=0, y1=0, x2=1, y2=0)


def _average(nodes: float | None) -> str:
    return "not known" if nodes is None else f"{nodes:,.1f} nodes on average"
