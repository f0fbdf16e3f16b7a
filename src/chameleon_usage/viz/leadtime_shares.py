"""How long leases wait, on what, and when: shares, delays and hours of the week.

As in `leadtime`, the functions take leases as `leadtime_leases` has them, or of another origin with
the columns that they name, and leave out no lease of which these are known.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from chameleon_usage.viz import palette, raster
from chameleon_usage.viz.base import (
    HEIGHT,
    LINE_LEGEND,
    WIDTH,
    Figure,
    colour,
    figure,
    in_words,
    inline_values,
    lookup,
    panel_title,
    side_by_side,
)
from chameleon_usage.viz.leadtime_axis import (
    BAND,
    MINUTE,
    by_kind,
    foot,
    hours_axis,
    no_leases,
    place,
    rung,
)

_GPUS = dict(zip((True, False), palette.GPUS, strict=True))
_DASHES = {"requested": [1, 0], "effective": [5, 3]}


def survival(leases: pl.DataFrame, *, site_name: str, step: float = 1 / 12) -> Figure:
    """Draw which share of leases waits longer than a time, on nodes with GPUs and without.

    Args:
        leases: `requested_h`, `effective_h`, and `gpu`, whether the nodes have GPUs; a lease of
            which that is null is left out.
        site_name: for the title.
        step: distance of the times in decades.
    """
    table = by_kind(leases.drop_nulls("gpu"), "gpu")
    if table.is_empty():
        return no_leases(table, site_name)
    group = ["leadtime_type", "gpu"]
    counts = table.group_by(*group, rung=rung(pl.col("hours"), step)).agg(leases=pl.len())
    every = counts.select(rung=pl.int_range(pl.col("rung").max() + 1))
    curves = (
        counts.select(group)
        .unique()
        .join(every, how="cross")
        .join(counts, on=[*group, "rung"], how="left")
        .sort(*group, "rung")
        .with_columns(
            longer=pl.col("leases").fill_null(0).cum_sum(reverse=True).over(group),
            leases=pl.col("leases").sum().over(group),
        )
        .filter(pl.col("rung") > 0, pl.col("longer") > 0)
        .select(
            "leadtime_type",
            pl.col("gpu").replace_strict(_GPUS, return_dtype=pl.String),
            waits_h=foot(step),
            share=(pl.col("longer") / pl.col("leases")).round(6),
            leases="leases",
        )
    )
    words = in_words(
        curves.group_by("leadtime_type", "gpu", maintain_order=True).agg(
            pl.col("leases").first(),
            hour=pl.col("share").filter(pl.col("waits_h") >= 1).first().fill_null(0),
            day=pl.col("share").filter(pl.col("waits_h") >= 24).first().fill_null(0),
        ),
        "{leadtime_type} {gpu}: {leases:,} leases, {hour:.1%} longer than an hour, {day:.1%} than "
        "a day",
    )
    drawn = curves.with_columns(x=place(pl.col("waits_h")).round(3))
    shades = {name: shade for name, shade in palette.GPUS.items() if (drawn["gpu"] == name).any()}
    longest, least = drawn.select(pl.col("x").max(), pl.col("share").min()).row(0)
    chart = (
        alt.Chart(inline_values(drawn.with_columns(pl.col("leadtime_type").cast(pl.String))))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=hours_axis(max(longest, 1), "waits longer than", low=0, channel=alt.X),
            y=alt.Y(
                "share:Q",
                title="share of leases",
                scale=alt.Scale(type="log", domain=[min(least, 0.01), 1]),
                axis=alt.Axis(format="~%", values=[0.0001, 0.001, 0.01, 0.1, 1]),
            ),
            color=colour("gpu", shades, legend=LINE_LEGEND),
            strokeDash=alt.StrokeDash(
                "leadtime_type:N",
                title=None,
                scale=alt.Scale(domain=list(_DASHES), range=list(_DASHES.values())),
                legend=LINE_LEGEND,
            ),
            tooltip=[
                "gpu:N", "leadtime_type:N", alt.Tooltip("waits_h:Q", format=",.2f"),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        )
    )  # fmt: skip
    return figure(
        chart,
        curves,
        width=WIDTH * 0.8,
        height=HEIGHT * 0.9,
        title=f"{site_name}: how many wait longer",
        description=f"{site_name}: share of leases whose lead time is longer than a time, on log "
        f"scales. {words}.",
    )


def delays(leases: pl.DataFrame, *, site_name: str, step: float = 0.125) -> Figure:
    """Draw how much later than requested leases started, by requested lead time.

    Args:
        leases: `requested_h`, `effective_h`; those without one of them are left out.
        site_name: for the title.
        step: side of a bin in decades.
    """
    both = leases.drop_nulls(["requested_h", "effective_h"]).with_columns(
        delay=pl.col("effective_h") - pl.col("requested_h")
    )
    if both.is_empty():
        return no_leases(both.select("requested_h", "delay"), site_name)
    bins = (
        both.group_by(x=rung(pl.col("requested_h"), step), y=rung(pl.col("delay"), step))
        .agg(leases=pl.len())
        .sort("x", "y")
    )
    most, right, top = (int(bins[name].max()) for name in ("leases", "x", "y"))  # type: ignore[arg-type]
    right, top = max(right, 1), max(top, 1)
    pixels = bins.with_columns(_lines("x", step), _lines("y", step)).explode("x").explode("y")
    below = round(-BAND[0] / step)
    edges = {"x": BAND[0], "x2": right * step, "y": BAND[0], "y2": top * step}
    chart = alt.layer(
        raster.picture(
            pixels["x"],
            pixels["y"],
            raster.ramp(pixels["leases"], most),
            (right + below, top + below),
            edges,
            x=hours_axis(right * step, "requested lead time", channel=alt.X),
            x2="x2:Q",
            y=hours_axis(top * step, "later than requested", band="≤ 1 min"),
        ),
        raster.count_legend(most, "leases in a bin"),
    )
    late = pl.col("delay")
    count, prompt, middle, high = both.select(
        pl.len(), (late <= MINUTE).mean(), late.median().alias("m"), late.quantile(0.9).alias("h")
    ).row(0)
    data = bins.select(
        bins.select(rung="x").select(requested_from_h=foot(step)).to_series(),
        bins.select(rung="y").select(later_from_h=foot(step)).to_series(),
        "leases",
    )
    return figure(
        chart,
        data,
        width=WIDTH * 0.7,
        height=HEIGHT * 0.9,
        title=f"{site_name}: effective minus requested lead time",
        description=f"{site_name}: leases by requested lead time and by how much later they really "
        f"started, on log scales. Of {count:,} leases {prompt:.1%} started within a minute of the "
        f"time requested; the median is {middle:.2f} h later, and 90 % are at most {high:.2f} h "
        "late.",
    )


def _lines(name: str, step: float) -> pl.Expr:
    """List the lines of pixels of a bin: that of what starts at once is as wide as its band."""
    band = list(range(round((BAND[1] - BAND[0]) / step)))
    line = pl.concat_list(pl.col(name) + (round(-BAND[0] / step) - 1))
    return pl.when(pl.col(name) > 0).then(line).otherwise(pl.lit(band, pl.List(pl.Int64)))


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MOMENTS = ("created", "started")


def hours_of_week(leases: pl.DataFrame, *, site_name: str) -> Figure:
    """Draw at which hours of the week (UTC) leases are created, and at which they really start.

    Args:
        leases: `created_at`, `effective_h`.
        site_name: for the title.
    """
    first_start = pl.col("created_at") + pl.duration(seconds=(3600 * pl.col("effective_h")).round())
    moments = (
        leases.select(created="created_at", started=first_start)
        .unpivot(variable_name="moment", value_name="at")
        .drop_nulls("at")
    )
    if moments.is_empty():
        return no_leases(moments, site_name)
    counts = (
        moments.group_by("moment", day=pl.col("at").dt.weekday(), hour=pl.col("at").dt.hour())
        .agg(leases=pl.len())
        .sort("moment", "day", "hour")
    )
    most = int(counts["leases"].max())  # type: ignore[arg-type]
    ticks = {f"{6.5 - number:.1f}": day for number, day in enumerate(_DAYS)}
    x = alt.X(
        "x:Q",
        title="hour (UTC)",
        scale=alt.Scale(domain=[0, 24], nice=False),
        axis=alt.Axis(values=[0, 6, 12, 18, 24], grid=False),
    )
    y = alt.Y(
        "y:Q",
        title=None,
        scale=alt.Scale(domain=[0, 7], nice=False),
        axis=alt.Axis(
            values=[float(at) for at in ticks],
            labelExpr=lookup("format(datum.value, '.1f')", ticks),
            grid=False,
            ticks=False,
        ),
    )
    parts = {name: counts.filter(pl.col("moment") == name) for name in _MOMENTS}
    panels = [
        alt.layer(
            raster.picture(
                part["hour"],
                7 - part["day"],
                raster.ramp(part["leases"], most, log=False),
                (24, 7),
                {"x": 0, "x2": 24, "y": 0, "y2": 7},
                x=x,
                x2="x2:Q",
                y=y,
            ),
            raster.count_legend(most, "leases in the hour", log=False),
        ).properties(width=WIDTH / 2 - 45, height=130, title=panel_title(f"lease {name}"))
        for name, part in parts.items()
        if part.height
    ]
    peaks = (
        counts.sort("leases", "moment", "day", "hour", descending=[True, False, False, False])
        .group_by("moment", maintain_order=True)
        .first()
        .sort("moment")
        .with_columns(name=pl.col("day").cast(pl.Int64).replace_strict(dict(enumerate(_DAYS, 1))))
    )
    words = in_words(peaks, "most are {moment} on {name} at {hour:02d}:00 ({leases:,})")
    return figure(
        side_by_side(panels, columns=2),
        counts,
        title=f"{site_name}: when leases are created and start",
        description=f"{site_name}: number of leases by hour of the week, UTC: {words}.",
    )
