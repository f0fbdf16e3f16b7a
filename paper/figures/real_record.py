"""The real record of nodes, as published, beside ours: yearly means, months, machines by type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    LABELS,
    LINE_LEGEND,
    MONTH,
    WIDTH,
    Figure,
    as_text,
    ceiling,
    colour,
    figure,
    in_words,
    inline_values,
    means,
    panel_title,
    side_by_side,
    span_words,
    time_axis,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PANEL = {"width": WIDTH / 3 - 25, "height": 120}
RECORD_LEGEND = alt.Legend(
    symbolType="stroke", symbolStrokeWidth=2, symbolSize=400, symbolStrokeColor=palette.TOTAL
)
"""Dashes in black: a grey one would look like the legacy collector's."""


def dashes(records: Sequence[str], legend: alt.Legend | None = RECORD_LEGEND) -> alt.StrokeDash:
    """Draw the first record solid and the others dashed."""
    ranges = [[1, 0], *[[5, 3]] * (len(records) - 1)]
    scale = alt.Scale(domain=list(records), range=ranges)
    return alt.StrokeDash("record:N", title=None, scale=scale, legend=legend)


def nodes_axis(values: pl.Series) -> alt.Y:
    """Give an axis of nodes from zero, or below, that ends a little above the values."""
    low: float = values.min() or 0  # type: ignore[assignment]
    scale = alt.Scale(domain=[min(1.1 * low, 0), ceiling(values)], nice=False)
    return alt.Y("value:Q", title="nodes", scale=scale, axis=alt.Axis(tickCount=4))


def records(
    table: pl.DataFrame, *, site_names: dict[str, str], count_types: Sequence[str]
) -> Figure:
    """Set yearly means of the real record beside ours: a row a count type, a column a site.

    Args:
        table: `site`, `collector_type`, `count_type`, `year`, `record` (`real` or another word),
            `value` in nodes.
        site_names: site to its name, in the order of the columns.
        count_types: the rows, in order.
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
        .with_columns(pl.col("value").round(1))
        .sort(*series, "year")
    )
    present = [c for c in palette.COLLECTORS if (drawn["collector_type"] == c).any()]
    shades = {c: palette.COLLECTORS[c][0] for c in present}
    shown = ["real", *sorted(set(drawn["record"].to_list()) - {"real"})]
    with_curve = drawn.filter(pl.col("record") == "real").drop_nulls("value")
    sites = [site for site in site_names if (with_curve["site"] == site).any()]
    rows = [kind for kind in count_types if (with_curve["count_type"] == kind).any()]
    first, last = years["year"][0], years["year"][-1]
    x = alt.X(
        "year:Q",
        title=None,
        scale=alt.Scale(domain=[first - 0.4, last + 0.4], nice=False),
        axis=alt.Axis(format="d", values=[*range(first, last + 1, 3)], grid=False),
    )

    def panel(site: str, kind: str) -> Any:  # noqa: ANN401 - a chart of either sort
        title = panel_title(f"{site_names[site]}: {LABELS.get(kind, kind)}")
        here = drawn.filter(pl.col("site") == site, pl.col("count_type") == kind)
        if with_curve.filter(pl.col("site") == site, pl.col("count_type") == kind).is_empty():
            nothing = alt.Chart(alt.InlineData(values=[{}])).mark_text(
                text="no published curve", color=palette.PLAIN
            )
            return nothing.properties(title=title, **PANEL)
        base = alt.Chart(
            inline_values(here.select("collector_type", "record", "year", "value"))
        ).encode(
            x=x,
            y=nodes_axis(here["value"]),
            color=colour("collector_type", shades, legend=LINE_LEGEND),
            tooltip=[
                "record:N",
                "collector_type:N",
                "year:Q",
                alt.Tooltip("value:Q", format=",.1f"),
            ],
        )
        lines = base.mark_line(strokeWidth=1.8).encode(strokeDash=dashes(shown))
        # Also the single year between two without a value has a mark.
        points = [
            base.transform_filter(alt.datum.record == record).mark_point(
                filled=True, opacity=1, size=40 if record == "real" else 12
            )
            for record in shown
        ]
        return alt.layer(lines, *points).properties(title=title, **PANEL)

    averages = means(drawn, "value", "site", "count_type", "collector_type", "record").with_columns(
        pl.col("site").replace(site_names)
    )
    words = in_words(averages, "{site} {count_type}, {collector_type}, {record}: {value:,.0f}")
    return figure(
        side_by_side([panel(s, k) for k in rows for s in sites], columns=max(len(sites), 1)),
        table,
        title=f"Yearly means: real (solid) and {', '.join(shown[1:])} (dashed)",
        description=f"Yearly mean nodes of the real published curves beside ours. {words}.",
    )


def published(
    table: pl.DataFrame,
    *,
    site_names: Mapping[str, str],
    files: str,
    caches: str,
    ours: str,
    partial: str,
) -> Figure:
    """Set what published files say, month by month, beside our count: a column a site.

    Args:
        table: `site`, `count_type`, `timestamp` (start of a month), `record`, `value`.
        site_names: site to its name, in the order of the columns.
        files: what the record of the published files is called.
        caches: the same of the caches: yearly means, a wide grey bar each, as long as the year.
        ours: the same of our count.
        partial: what the title of the committed panels says of the files.
    """
    table = as_text(table)
    grey, _, width, _ = palette.COLLECTORS["legacy"]
    shades = {files: palette.REAL, caches: grey, ours: palette.OURS}
    drawn = table.with_columns(pl.col("value").round(2)).sort("record", "timestamp")
    x = time_axis(drawn.filter(pl.col("record") != caches), count=7)
    yearly = drawn.filter(pl.col("record") == caches).with_columns(
        pl.col("timestamp").dt.offset_by("1y").alias("until")
    )

    def panel(site: str, kind: str) -> Any:  # noqa: ANN401 - Altair's own are unions
        here, bars = (
            part.filter(pl.col("site") == site, pl.col("count_type") == kind)
            for part in (drawn, yearly)
        )
        y = nodes_axis(here["value"])
        shade = colour("record", shades, legend=LINE_LEGEND)
        value = alt.Tooltip("value:Q", format=",.1f")
        year = alt.Tooltip("utcyear(timestamp):T", title="year")
        wide = (
            alt.Chart(inline_values(bars.select("timestamp", "until", "record", "value")))
            .mark_rule(strokeWidth=width, clip=True)
            .encode(x=x, x2="until:T", y=y, color=shade, tooltip=["record:N", year, value])
        )
        monthly = here.filter(pl.col("record") != caches).select("timestamp", "record", "value")
        lines = (
            alt.Chart(inline_values(monthly))
            .mark_line(strokeWidth=1.5)
            .encode(x=x, y=y, color=shade, tooltip=["record:N", MONTH, value])
        )
        note = partial if kind == "committed" else ""
        title = f"{site_names[site]}: {LABELS.get(kind, kind).lower()}{note}"
        return alt.layer(wide, lines).properties(
            width=WIDTH / 2 - 45, height=130, title=panel_title(title)
        )

    kinds = table["count_type"].unique(maintain_order=True)
    sites = [site for site in site_names if (table["site"] == site).any()]
    averages = means(drawn, "value", "site", "count_type", "record").with_columns(
        pl.col("site").replace(dict(site_names))
    )
    words = in_words(averages, "{site} {count_type}, {record}: {value:,.1f} on average")
    return figure(
        side_by_side([panel(s, k) for k in kinds for s in sites], columns=max(len(sites), 1)),
        drawn,
        title=f"What the published record says, and the {ours}",
        description=f"Nodes, {span_words(table)}, monthly. {words}.",
    )


def machines(table: pl.DataFrame, *, site_names: Mapping[str, str], ours: str) -> Figure:
    """Stack the hosts of each node type: the published events on the left, our count beside them.

    Args:
        table: `site`, `record`, `timestamp` (start of a month), `node_type`, `value` in nodes.
        site_names: site to its name, in the order of the rows.
        ours: what our record is called.
    """
    ranked = table.group_by("node_type").agg(pl.col("value").sum()).sort("value", descending=True)
    shades = palette.node_type_colours(ranked["node_type"].to_list())
    kind = pl.col("node_type")
    drawn = (
        table.group_by(
            *("site", "record", "timestamp"),
            pl.when(kind.is_in(list(shades))).then(kind).otherwise(pl.lit("other")),
        )
        .agg(pl.col("value").sum().round(2))
        .with_columns(kind.replace_strict({t: n for n, t in enumerate(shades)}).alias("order"))
        .sort("site", "record", "timestamp", "order")
    )
    shown = sorted(drawn["record"].unique(), key=lambda record: record == ours)

    def panel(site: str, record: str) -> alt.Chart:
        here = drawn.filter(pl.col("site") == site)
        whole = here.group_by("record", "timestamp").agg(pl.col("value").sum())
        top = ceiling(whole["value"])
        part = here.filter(pl.col("record") == record)
        return (
            alt.Chart(inline_values(part.select("timestamp", "node_type", "value", "order")))
            .mark_area(interpolate="step-after")
            .encode(
                x=time_axis(here, count=7),
                y=alt.Y("value:Q", title="nodes", scale=alt.Scale(domain=[0, top], nice=False)),
                color=colour("node_type", shades),
                order="order:Q",
                tooltip=["node_type:N", MONTH, alt.Tooltip("value:Q", format=",.1f")],
            )
            .properties(
                width=WIDTH / 2 - 45,
                height=150,
                title=panel_title(f"{site_names[site]}: {record}"),
            )
        )

    sites = [site for site in site_names if (table["site"] == site).any()]
    last = (
        drawn.filter(pl.col("timestamp") == pl.col("timestamp").max().over("site"))
        .group_by("site", "record", maintain_order=True)
        .agg(pl.col("value").sum())
        .with_columns(pl.col("site").replace(dict(site_names)))
    )
    return figure(
        side_by_side([panel(s, r) for s in sites for r in shown], columns=len(shown)),
        drawn.drop("order"),
        title="Hosts by node type",
        description=f"Stacked monthly means of hosts by node type, {span_words(table)}. In the "
        f"last month: {in_words(last, '{site}, {record}: {value:,.0f}')}.",
    )
