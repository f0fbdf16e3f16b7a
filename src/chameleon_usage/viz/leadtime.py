"""Lead times of leases over time, requested and effective: every lease counts, none is left out.

Both functions take leases as `leadtime_leases` has them, or of another origin with the columns that
they name. A lease without a lead time of a kind is not drawn there; of a kind that no lease has
there is no panel. The axis is that of `leadtime_axis`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import polars as pl

from chameleon_usage.viz import palette, raster
from chameleon_usage.viz.base import (
    WIDTH,
    Figure,
    colour,
    figure,
    inline_values,
    panel_title,
    side_by_side,
)
from chameleon_usage.viz.leadtime_axis import (
    AT_ONCE,
    KINDS,
    Grid,
    by_kind,
    foot,
    hours_axis,
    in_short,
    no_leases,
    place,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_AHEAD = "median of those not at once"
_RANGE = "10% and 90%"
_LINES: dict[str, tuple[list[int], float]] = {
    "median": ([1, 0], 2.2),
    _RANGE: ([2, 2], 1.2),
    _AHEAD: ([6, 3], 1.6),
}
"""What is drawn of each quarter, with dash and width."""
_FEW = 10
"""A quarter with fewer leases has no line."""


def density(leases: pl.DataFrame, *, site_name: str, step: float = 0.125) -> Figure:
    """Draw how many leases have which lead time, over time, requested beside effective.

    Args:
        leases: `created_at`, `requested_h`, `effective_h`.
        site_name: for the title.
        step: height of a bin in decades.

    The shade of a bin goes with the logarithm of the number of leases. The lines are of each
    quarter with ten leases or more: the median, what 10 and 90 % of the leases do not exceed, and
    the median of those that do not start at once.
    """
    table = by_kind(leases, "created_at")
    if table.is_empty():
        return no_leases(table, site_name)
    grid, binned = Grid.over(table, step, 130)
    bins = (
        binned.group_by("leadtime_type", "timestamp", "column", "rung")
        .agg(leases=pl.len())
        .sort("leadtime_type", "timestamp", "rung")
    )
    lines = _quarters(table)
    most = bins["leases"].to_list()[bins["leases"].arg_max() or 0]
    parts = {kind: bins.filter(pl.col("leadtime_type") == kind) for kind in KINDS}
    panels = [
        alt.layer(
            _dense(grid, part, most),
            *_drawn(lines.filter(pl.col("leadtime_type") == kind), grid),
            raster.count_legend(most, "leases in a bin"),
        ).properties(width=WIDTH / 2 - 45, height=260, title=panel_title(kind))
        for kind, part in parts.items()
        if part.height
    ]
    counted = bins.with_columns(row=pl.lit("leases of the bin from"), hours=foot(step))
    data = pl.concat([counted, lines], how="diagonal").select(
        "leadtime_type", pl.col("timestamp").dt.date(), "row", pl.col("hours").round(4), "leases"
    )
    return figure(
        side_by_side(panels, columns=2),
        data,
        title=f"{site_name}: lead times of all leases",
        description=f"{site_name}: number of leases by time of creation and lead time, on a log "
        f"scale, with the median and the range from 10 to 90 % of each quarter. {in_short(table)}.",
    )


def _quarters(table: pl.DataFrame) -> pl.DataFrame:
    """Give the lines of each quarter: leadtime_type, timestamp, row (its name), hours, leases."""
    hours = pl.col("hours")
    return (
        table.group_by("leadtime_type", timestamp=pl.col("created_at").dt.truncate("1q"))
        .agg(
            hours.median().alias("median"),
            hours.quantile(0.1).alias("10 %"),
            hours.quantile(0.9).alias("90 %"),
            pl.when((~AT_ONCE).sum() >= _FEW).then(hours.filter(~AT_ONCE).median()).alias(_AHEAD),
            leases=pl.len(),
        )
        .filter(pl.col("leases") >= _FEW)
        .unpivot(
            index=["leadtime_type", "timestamp", "leases"], variable_name="row", value_name="hours"
        )
        .drop_nulls("hours")
        .sort("leadtime_type", "row", "timestamp")
    )


def _dense(grid: Grid, bins: pl.DataFrame, most: int) -> alt.Chart:
    """Draw bins by their count; that of what starts at once is as high as its band."""
    at_once = pl.lit([*grid.band], pl.List(pl.Int64))
    lines = pl.when(pl.col("rung") > 0).then(pl.concat_list(grid.line)).otherwise(at_once)
    pixels = bins.with_columns(line=lines).explode("line")
    return grid.picture(pixels, raster.ramp(pixels["leases"], most), grid.time_axis(5))


def _drawn(lines: pl.DataFrame, grid: Grid) -> list[alt.Chart]:
    """Draw the lines of quarters, at the middle of each, on a white ground.

    A line is broken where it goes from *at once* to longer, or back: the axis is, too. Each part
    reaches to the ends of its quarters, so that one of a single quarter is seen.
    """
    runs = lines.sort("row", "timestamp").with_columns(run=pl.struct("row", at=AT_ONCE).rle_id())
    first, last = (
        runs.group_by("run", maintain_order=True).agg(pl.all().first()),
        runs.group_by("run", maintain_order=True).agg(pl.all().last()),
    )
    columns = runs.columns
    placed = (
        pl.concat(
            [
                first.select(columns).with_columns(pl.col("timestamp").dt.offset_by("5d")),
                runs.with_columns(pl.col("timestamp").dt.offset_by("45d")),
                last.select(columns).with_columns(pl.col("timestamp").dt.offset_by("85d")),
            ]
        )
        .sort("run", "timestamp")
        .select(
            "run",
            pl.when(pl.col("row").is_in(["10 %", "90 %"]))
            .then(pl.lit(_RANGE))
            .otherwise("row")
            .alias("row"),
            hours=pl.col("hours").round(3),
            y=place(pl.col("hours")).round(3),
            timestamp="timestamp",
        )
    )
    names = [*_LINES]
    dash = alt.StrokeDash(
        "row:N",
        title=None,
        scale=alt.Scale(domain=names, range=[dash for dash, _ in _LINES.values()]),
        legend=alt.Legend(symbolType="stroke", symbolSize=400, symbolStrokeWidth=2),
    )
    # Not a scale: one of names would have a legend of its own.
    width = (
        alt.when(alt.datum.row == "median")
        .then(alt.value(_LINES["median"][1]))
        .when(alt.datum.row == _AHEAD)
        .then(alt.value(_LINES[_AHEAD][1]))
        .otherwise(alt.value(_LINES[_RANGE][1]))
    )
    base = alt.Chart(inline_values(placed)).encode(
        x=grid.time_axis(5), y=hours_axis(grid.height), detail=["row:N", "run:N"]
    )
    return [
        base.mark_line(color="white", strokeWidth=4, opacity=0.7, clip=True),
        base.mark_line(color=palette.TOTAL, clip=True).encode(
            strokeDash=dash, strokeWidth=width, tooltip=["row:N", "hours:Q"]
        ),
    ]


def leadtime(leases: pl.DataFrame, *, site_name: str, step: float = 0.0625) -> Figure:
    """Draw lead times as points, requested above effective, coloured by node type.

    Args:
        leases: `created_at`, `node_type`, `requested_h`, `effective_h`.
        site_name: for the title.
        step: height of a point in decades; the band of *at once* is to hold eight.

    Colours are of the types with the largest share of any one year's leases.

    A point is a bin that holds at least one lease. Its colour is the node type that most of them
    ask for; it is pale where they are one, and full where they are ten or more. Of what starts at
    once each type has its own line, so that none hides another.
    """
    node_type = pl.col("node_type")
    named = leases.with_columns(node_type.fill_null("unknown"))
    table = by_kind(named, "created_at", "node_type")
    if table.is_empty():
        return no_leases(table, site_name)
    # By the share of their best year, so that those that came last are among them.
    ranked = (
        table.group_by("node_type", year=pl.col("created_at").dt.year())
        .len()
        .with_columns(share=pl.col("len") / pl.col("len").sum().over("year"))
        .group_by("node_type")
        .agg(pl.col("share").max())
        .sort("share", "node_type", descending=[True, False])
    )
    colours = palette.node_type_colours([t for t in ranked["node_type"] if t != "unknown"])
    grid, binned = Grid.over(table, step, 180)
    shown = pl.when(node_type.is_in([*colours])).then(node_type).otherwise(pl.lit("other"))
    bins = (
        binned.with_columns(shown.cast(pl.Enum([*colours])))
        .group_by("leadtime_type", "timestamp", "column", "rung", "node_type")
        .agg(leases=pl.len())
        .sort("leadtime_type", "timestamp", "rung", -pl.col("leases").cast(pl.Int64), "node_type")
    )
    own_line = grid.band[-1] - node_type.to_physical().cast(pl.Int64)
    points = (
        bins.with_columns(line=pl.when(pl.col("rung") > 0).then(grid.line).otherwise(own_line))
        .group_by("leadtime_type", "column", "line", maintain_order=True)
        .agg(node_type.first(), pl.col("leases").sum())  # the first is the most frequent
        .with_columns(opacity=(0.45 + 0.55 * pl.col("leases").log10()).clip(0, 1))
    )
    parts = {kind: points.filter(pl.col("leadtime_type") == kind) for kind in KINDS}
    legend = _types(colours, points["node_type"])
    panels = [
        alt.layer(
            grid.picture(
                part,
                raster.painted([colours[name] for name in part["node_type"]], part["opacity"]),
                grid.time_axis(12, "lease created" if kind == KINDS[-1] else None),
            ),
            legend,
        ).properties(width=WIDTH, height=190, title=panel_title(kind))
        for kind, part in parts.items()
        if part.height
    ]
    return figure(
        alt.vconcat(*panels),
        bins.select(
            *("leadtime_type", pl.col("timestamp").dt.date()),
            *(foot(step).alias("hours_from"), "node_type", "leases"),
        ),
        title=f"{site_name}: lead times, requested and effective",
        description=f"{site_name}: hours from a lease's creation to its requested start and to its "
        f"first real start, on a log scale, every lease counted. {in_short(table)}.",
    )


def _types(colours: Mapping[str, str], drawn: pl.Series) -> alt.Chart:
    """Draw nothing but the legend of the node types that are drawn."""
    present = {name: shade for name, shade in colours.items() if (drawn == name).any()}
    legend = alt.Legend(symbolSize=60, symbolOpacity=1)
    return (
        alt.Chart(alt.InlineData(values=[{"node_type": name} for name in present]))
        .mark_square(opacity=0)
        .encode(color=colour("node_type", present, legend=legend))
    )
