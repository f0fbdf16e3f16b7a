"""Figures across sites and collectors: cross-site usage, the truth, the real record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    LINE_LEGEND,
    WIDTH,
    Figure,
    as_text,
    ceiling,
    coarsen,
    gap_layers,
    inline_values,
    lookup,
    panel_title,
    side_by_side,
    span_words,
    styled,
    time_axis,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


ALL = "all"
"""What stands in the column `site` for the sum of the sites."""

QUANTITIES = ("total", "used", "leased", "available")


def cross_site_table(
    usage: pl.DataFrame, *, every: str, collector: str = "corrected"
) -> pl.DataFrame:
    """Give used and available nodes per site, and of all sites together.

    Args:
        usage: `usage_timeline` of all sites.
        every: bucket to average over (see `coarsen`).
        collector: whose count to take.

    Returns:
        `site`, `timestamp`, `days` of the bucket on which the site was there, `total`, `used` =
        occupied, `leased` = committed where nobody knows how much of it was used (else 0),
        `available` = what else could have been used: reservable and on-demand capacity less the
        former; null where any of these is unknown. Means over the days from the site's first known
        node on. The site `all` is the sum of each day over the sites that are there by then,
        null where one of them is not known.
    """
    names = ["total", "reservable", "ondemand_capacity", "committed", "occupied"]
    wide = (
        as_text(usage)
        .filter(pl.col("collector_type") == collector, pl.col("count_type").is_in(names))
        .pivot(on="count_type", on_columns=names, index=["site", "timestamp"], values="value")
        .sort("site", "timestamp")
        .filter((pl.col("total") > 0).fill_null(value=False).cum_max().over("site"))
    )
    told = pl.col("occupied").is_not_null()
    known = pl.all_horizontal(pl.col(names[:3]).is_not_null()) & (
        told | pl.col("committed").is_not_null()
    )
    held = pl.when(told).then("occupied").otherwise("committed")
    capacity = pl.col("reservable") + pl.col("ondemand_capacity")
    daily = wide.select(
        "site",
        "timestamp",
        "total",
        pl.when(known).then(pl.when(told).then("occupied").otherwise(0.0)).alias("used"),
        pl.when(known).then(pl.when(told).then(0.0).otherwise("committed")).alias("leased"),
        pl.when(known).then((capacity - held).clip(0)).alias("available"),
    )
    summed = daily.group_by("timestamp").agg(
        pl.lit(ALL).alias("site"),
        *(
            pl.when(pl.col(name).is_not_null().all()).then(pl.col(name).sort_by("site").sum())
            for name in QUANTITIES
        ),
    )
    daily = pl.concat([daily, summed.select(daily.columns)])
    days = daily.group_by("site", pl.col("timestamp").dt.truncate(every)).len("days")
    return (
        coarsen(
            daily.unpivot(index=["site", "timestamp"], variable_name="quantity"),
            every,
            by=["site", "quantity"],
        )
        .pivot(on="quantity", on_columns=QUANTITIES, index=["site", "timestamp"], values="value")
        .join(days.cast({"days": pl.Int64}), on=["site", "timestamp"])
        .select("site", "timestamp", "days", *QUANTITIES)
        .sort("site", "timestamp")
    )


STATES = {"used": "used", "leased": "leased (use unknown)", "available": "not used"}


def _site_areas(
    table: pl.DataFrame, site_names: dict[str, str], *, by_state: bool = False
) -> tuple[pl.DataFrame, alt.Color, list[alt.Tooltip]]:
    """Give the areas to stack, as a long table, their colours and the words for the pointer.

    Args:
        table: from `cross_site_table`.
        site_names: site to its name, in the order of stacking from the bottom.
        by_state: what is used of all sites lies below all that is not, rather than site by site.
    """
    keys = [
        (f"{site_names[site]}, {words}", shade, f"{site}/{state}")
        for site in site_names
        for (state, words), shade in zip(STATES.items(), palette.site_shades(site), strict=True)
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


def cross_site_usage(
    usage: pl.DataFrame,
    *,
    site_names: dict[str, str],
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw all sites: their sum stacked, and each beside the others.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name, in the order of stacking from the bottom.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = cross_site_table(usage, every=every, collector=collector).with_columns(
        pl.col(QUANTITIES).round(2)
    )
    sites = [site for site in site_names if (table["site"] == site).any()]
    long, legend, tooltip = _site_areas(table, {site: site_names[site] for site in sites})
    totals = table.filter(pl.col("site") == ALL)
    area = alt.Chart(inline_values(_of_the_sum(long, totals).select(long.columns))).mark_area(
        interpolate="step-after"
    )
    summed = alt.layer(
        area.encode(
            x=time_axis(totals),
            y=alt.Y("nodes:Q", title="nodes", stack="zero"),
            color=legend,
            order="order:Q",
            tooltip=tooltip,
        ),
        alt.Chart(inline_values(totals))
        .mark_line(color=palette.TOTAL, strokeWidth=1.3, interpolate="step-after")
        .encode(x="timestamp:T", y="total:Q"),
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
                alt.Chart(inline_values(one))
                .mark_area(interpolate="step-after")
                .encode(
                    x=time_axis(totals, count=5),
                    y=alt.Y("nodes:Q", title="nodes", stack="zero"),
                    color=legend,
                    order="order:Q",
                    tooltip=tooltip,
                ),
                alt.Chart(inline_values(line.select("timestamp", "total")))
                .mark_line(color=palette.TOTAL, strokeWidth=1, interpolate="step-after")
                .encode(x="timestamp:T", y="total:Q"),
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
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw the sum over the sites in percent of all nodes: what is used at the bottom.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name, in the order of stacking from the bottom.
        every: bucket to average over (see `coarsen`).
        collector: whose count to draw.
    """
    table = cross_site_table(usage, every=every, collector=collector)
    totals = table.filter(pl.col("site") == ALL)
    long, legend, tooltip = _site_areas(table, site_names, by_state=True)
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
        alt.Chart(inline_values(percent))
        .mark_area(interpolate="step-after")
        .encode(
            x=time_axis(totals),
            y=alt.Y(
                "percent:Q",
                title="% of the nodes of all sites",
                stack="zero",
                scale=alt.Scale(domain=[0, 100], clamp=True),
            ),
            color=legend,
            order="order:Q",
            tooltip=[*tooltip[:2], alt.Tooltip("percent:Q", format=".1f", title="% of all")],
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
    every: str = "1mo",
    collector: str = "corrected",
) -> Figure:
    """Draw the used share of each site's nodes as lines.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name.
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
                    range=[palette.site_shades(s)[0] for s in sites],
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


HEADER = alt.Header(labelFontSize=12, labelFontWeight="bold")

LEAST_ERROR = 1e-4
"""Lower end of the axis of errors; less is drawn there."""


def errors(
    table: pl.DataFrame, *, site_names: dict[str, str], count_types: Sequence[str]
) -> Figure:
    """Draw each collector's distance to the truth, by era.

    Args:
        table: `site`, `era`, `count_type`, `collector_type`, `error` (a share of the truth).
        site_names: site to its name, in the order of the panels' columns.
        count_types: the panels' rows.

    Errors under 0.01 % are drawn at 0.01 %, the left end of the log axis.
    """
    table = as_text(table)
    labels = [METRICS[c].label for c in count_types]
    drawn = (
        table.filter(
            pl.col("count_type").is_in(list(count_types)), pl.col("site").is_in(list(site_names))
        )
        .drop_nulls("error")
        .select(
            pl.col("site").replace(site_names),
            pl.col("count_type").replace({c: METRICS[c].label for c in count_types}),
            "collector_type",
            pl.col("era").str.replace("_on", " on").str.replace("_", "–"),
            pl.col("error").clip(LEAST_ERROR).alias("error"),
        )
    )
    # Drawn in this order: what coincides stays visible, the wide and pale beneath.
    present = [c for c in palette.COLLECTORS if (drawn["collector_type"] == c).any()]
    looks = [palette.COLLECTORS[c] for c in present]
    colour, shape = (alt.Scale(domain=present, range=[look[i] for look in looks]) for i in (0, 3))
    drawn = drawn.sort(pl.col("collector_type").cast(pl.Enum(list(palette.COLLECTORS))), "era")
    base = alt.Chart(inline_values(drawn)).encode(
        y=alt.Y("era:O", title=None, axis=alt.Axis(grid=True, labelFontSize=11)),
        x=alt.X(
            "error:Q",
            title="error (log scale)",
            scale=alt.Scale(type="log", domain=[LEAST_ERROR, max(1.0, ceiling(drawn["error"]))]),
            axis=alt.Axis(
                values=[LEAST_ERROR, 1e-3, 1e-2, 1e-1, 1],
                labelExpr=lookup(
                    "format(datum.value, '.4f')",
                    {"0.0001": "≤ 0.01%", "0.0100": "1%", "1.0000": "100%"},
                )
                + " || ''",
                labelOverlap=False,
            ),
        ),
    )
    span = base.mark_line(color=palette.PALE, strokeWidth=1).encode(detail="era:O")
    # A layer each, in the order of drawing: what coincides stays visible.
    points = [
        base.transform_filter(alt.datum.collector_type == name)
        .mark_point(size=size, filled=True, opacity=1, strokeWidth=0)
        .encode(
            color=alt.Color(
                "collector_type:N", title=None, scale=colour, legend=alt.Legend(symbolSize=90)
            ),
            shape=alt.Shape("collector_type:N", title=None, scale=shape),
            tooltip=["collector_type:N", "era:O", alt.Tooltip("error:Q", format=".2%")],
        )
        for name, size in zip(present, (150, 80, 45, 45), strict=False)
    ]
    chart = (
        alt.layer(span, *points)
        .properties(width=WIDTH / 4 - 12, height=92)
        .facet(
            row=alt.Row("count_type:N", title=None, sort=labels, header=HEADER),
            column=alt.Column("site:N", title=None, sort=list(site_names.values()), header=HEADER),
        )
        .properties(
            title="Distance to the truth",
            description="Error of each collector against the twin's truth. "
            + "; ".join(
                f"{r['site']} {r['collector_type']}: {r['error']:.1%} in the middle"
                for r in drawn.group_by("site", "collector_type", maintain_order=True)
                .agg(pl.col("error").median())
                .iter_rows(named=True)
            )
            + ".",
        )
    )
    return Figure(styled(chart), table)


def records(
    table: pl.DataFrame, *, site_names: dict[str, str], count_types: Sequence[str]
) -> Figure:
    """Set yearly means of the real record beside ours.

    Args:
        table: `site`, `collector_type`, `count_type`, `year`, `record` (`real` or another word),
            `value` in nodes.
        site_names: site to its name, in the order of the panels.
        count_types: the panels of a site, in order; one without a real value is not drawn.
    """
    table = as_text(table)
    series = ["site", "collector_type", "count_type", "record"]
    years = pl.DataFrame(
        {"year": range(table["year"].min(), table["year"].max() + 1)},  # type: ignore[arg-type, operator]
        schema={"year": table.schema["year"]},
    )
    # A year without a value is null, so that no line leads across it.
    drawn = (
        table.select(series)
        .unique()
        .join(years, how="cross")
        .join(table, on=[*series, "year"], how="left")
        .sort(
            pl.col("site").cast(pl.Enum(list(site_names))),
            pl.col("count_type").cast(pl.Enum(list(count_types))),
            *series[1:],
            "year",
        )
        .with_columns(
            pl.col("count_type").replace({c: METRICS[c].label for c in count_types}),
            pl.col("value").round(1),
        )
    )
    present = [c for c in palette.COLLECTORS if (drawn["collector_type"] == c).any()]
    records_shown = ["real", *sorted(set(drawn["record"].to_list()) - {"real"})]
    sizes = dict.fromkeys(records_shown, 12) | {"real": 40}
    colours = alt.Scale(domain=present, range=[palette.COLLECTORS[c][0] for c in present])
    dashes = alt.Scale(domain=records_shown, range=[[1, 0], *([[5, 3]] * (len(records_shown) - 1))])
    first, last = years["year"][0], years["year"][-1]
    panels: dict[str, list[Any]] = {}
    for (site, label), one in drawn.group_by("site", "count_type", maintain_order=True):
        if one.filter(pl.col("record") == "real")["value"].count() == 0:
            continue  # nothing real to stand beside
        base = alt.Chart(
            inline_values(one.select("collector_type", "record", "year", "value"))
        ).encode(
            x=alt.X(
                "year:Q",
                title=None,
                scale=alt.Scale(domain=[first, last]),
                axis=alt.Axis(format="d", tickCount=5, grid=False),
            ),
            y=alt.Y("value:Q", title="nodes", axis=alt.Axis(tickCount=5)),
            color=alt.Color("collector_type:N", title=None, scale=colours, legend=LINE_LEGEND),
            tooltip=[
                "record:N",
                "collector_type:N",
                "year:Q",
                alt.Tooltip("value:Q", format=",.1f"),
            ],
        )
        lines = base.mark_line(strokeWidth=1.8).encode(
            strokeDash=alt.StrokeDash("record:N", title=None, scale=dashes, legend=LINE_LEGEND)
        )
        # Also the single year between two without a value has a mark.
        points = [
            base.transform_filter(alt.datum.record == record).mark_point(
                filled=True, opacity=1, size=size
            )
            for record, size in sizes.items()
        ]
        name = site_names[str(site)]
        panels.setdefault(name, []).append(
            alt.layer(lines, *points).properties(
                width=WIDTH / 3 - 25, height=130, title=panel_title(f"{name}: {label}")
            )
        )
    blocks = [side_by_side(of_site, columns=3) for of_site in panels.values()]
    chart = alt.vconcat(*blocks, spacing=30).properties(
        title=f"Yearly means: real (solid) and {', '.join(records_shown[1:])} (dashed)",
        description="Yearly mean nodes of the real published curves beside ours. "
        + "; ".join(
            f"{site_names[r['site']]} {r['count_type'].lower()}, {r['collector_type']}, "
            f"{r['record']}: "
            f"{r['value']:,.0f}"
            for r in drawn.group_by(
                "site", "count_type", "collector_type", "record", maintain_order=True
            )
            .agg(pl.col("value").mean())
            .drop_nulls()
            .iter_rows(named=True)
        )
        + ".",
    )
    return Figure(styled(chart), table)


def published(table: pl.DataFrame, *, site_name: str, ours: str) -> Figure:
    """Set what published files say, month by month, beside our count.

    Args:
        table: `panel`, `timestamp` (start of a month), `record` (`real` or `ours`), `value`.
        site_name: for the title.
        ours: what our record is called.
    """
    order = table["panel"].unique(maintain_order=True)
    months = table.select(
        pl.datetime_range(pl.col("timestamp").min(), pl.col("timestamp").max(), "1mo")
    )
    # A month without a value is null, so that no line leads across it.
    drawn = (
        table.select("panel", "record")
        .unique()
        .join(months, how="cross")
        .join(table, on=["panel", "record", "timestamp"], how="left")
        .with_columns(pl.col("value").round(2))
        .sort("panel", "record", "timestamp")
    )
    chart = (
        alt.Chart(inline_values(drawn))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=time_axis(drawn, count=7),
            y=alt.Y("value:Q", title=None),
            color=alt.Color(
                "record:N",
                title=None,
                legend=LINE_LEGEND,
                scale=alt.Scale(domain=["real", ours], range=[palette.REAL, palette.OURS]),
            ),
            tooltip=[
                "record:N",
                alt.Tooltip("utcyearmonth(timestamp):T", title="month"),
                alt.Tooltip("value:Q", format=",.1f"),
            ],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT / 1.8)
        .facet(
            facet=alt.Facet("panel:N", title=None, sort=order.to_list()),
            columns=2,
        )
        .resolve_scale(y="independent")
        .resolve_axis(x="independent")
        .properties(
            title=f"{site_name}: what published files say, and the {ours}",
            description=f"{site_name}, {span_words(table)}, monthly. "
            + "; ".join(
                f"{r['panel']}, {r['record']}: {r['value']:,.1f} on average"
                for r in drawn.group_by("panel", "record", maintain_order=True)
                .agg(pl.col("value").mean())
                .drop_nulls()
                .iter_rows(named=True)
            )
            + ".",
        )
    )
    return Figure(styled(chart), drawn.drop_nulls("value"))
