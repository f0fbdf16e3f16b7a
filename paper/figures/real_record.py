"""The real record, as published, beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from chameleon_usage.viz import palette
from chameleon_usage.viz.base import (
    HEIGHT,
    LABELS,
    LINE_LEGEND,
    MONTH,
    WIDTH,
    Figure,
    as_text,
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
    from collections.abc import Sequence


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
            pl.col("count_type").replace(LABELS),
            pl.col("value").round(1),
        )
    )
    present = [c for c in palette.COLLECTORS if (drawn["collector_type"] == c).any()]
    records_shown = ["real", *sorted(set(drawn["record"].to_list()) - {"real"})]
    sizes = dict.fromkeys(records_shown, 12) | {"real": 40}
    shades = {c: palette.COLLECTORS[c][0] for c in present}
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
            color=colour("collector_type", shades, legend=LINE_LEGEND),
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
    averages = means(drawn, "value", "site", "count_type", "collector_type", "record").with_columns(
        pl.col("site").replace(site_names), pl.col("count_type").str.to_lowercase()
    )
    words = in_words(averages, "{site} {count_type}, {collector_type}, {record}: {value:,.0f}")
    return figure(
        alt.vconcat(*blocks, spacing=30),
        table,
        title=f"Yearly means: real (solid) and {', '.join(records_shown[1:])} (dashed)",
        description=f"Yearly mean nodes of the real published curves beside ours. {words}.",
    )


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
    lines = (
        alt.Chart(inline_values(drawn))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=time_axis(drawn, count=7),
            y=alt.Y("value:Q", title=None),
            color=colour("record", {"real": palette.REAL, ours: palette.OURS}, legend=LINE_LEGEND),
            tooltip=["record:N", MONTH, alt.Tooltip("value:Q", format=",.1f")],
        )
        .properties(width=WIDTH / 2 - 30, height=HEIGHT / 1.8)
    )
    words = in_words(
        means(drawn, "value", "panel", "record"), "{panel}, {record}: {value:,.1f} on average"
    )
    return figure(
        lines.facet(facet=alt.Facet("panel:N", title=None, sort=order.to_list()), columns=2)
        .resolve_scale(y="independent")
        .resolve_axis(x="independent"),
        drawn.drop_nulls("value"),
        title=f"{site_name}: what published files say, and the {ours}",
        description=f"{site_name}, {span_words(table)}, monthly. {words}.",
    )
