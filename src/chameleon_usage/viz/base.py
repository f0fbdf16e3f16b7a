"""What every figure is made of: the chart with its numbers, scales, gaps and words.

Every function that draws takes frames shaped as the output contracts (`usage_timeline`,
`leadtime_leases`, ...) and returns a `Figure`: the chart and the numbers it draws. Daily means are
averaged to weeks or months first; the mean of equal buckets is exact, so the area under a curve
stays node-hours. A bucket counts as known where at least 95 % of its days are; what is unknown is
left blank or grey, never drawn as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl
import polars.selectors as cs

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.viz import palette
from chameleon_usage.viz.render import Drawing, save_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


WIDTH = 640
HEIGHT = 280
KNOWN_SHARE = 0.95
"""A bucket of which less is known is unknown, as in the tables."""

PARTS: dict[str, str] = {
    **{part: METRICS[part].label for part in palette.STATES if part in METRICS},
    "leased": "Leased (use unknown)",
}
"""What the stacks are made of: the partition, and what stands for it where use is unknown."""

LINE_LEGEND = alt.Legend(symbolType="stroke", symbolStrokeWidth=2, symbolSize=300)

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


@dataclass(frozen=True)
class Figure:
    """A chart and its numbers.

    Attributes:
        chart: what is drawn; its description is the alternative text.
        data: the same, as a table.
    """

    chart: alt.TopLevelMixin
    data: pl.DataFrame

    def save(self, name: str, out_dir: Path) -> Drawing:
        """Write `<name>.svg`, `.png` and `.csv` under `out_dir`; return what a page shows."""
        chart = self.chart if self.data.height else nothing(self.chart)
        return save_figure(chart, name, out_dir, data=self.data)


def coarsen(
    frame: pl.DataFrame, every: str, *, by: Sequence[str], value: str = "value"
) -> pl.DataFrame:
    """Average daily means over longer buckets.

    Args:
        frame: `timestamp` (one row a day and group), `value`, and the columns of `by`.
        every: bucket as Polars writes durations: `1w` (from Monday), `1mo`.
        by: the columns that name a group.
        value: name of the value column.

    Returns:
        `timestamp` (start of the bucket), `by`, `value`: null where less than 95 % of the days
        that the frame has in the bucket are known. Sorted by `by`, then time.
    """
    return (
        as_text(frame)
        .group_by([*by, pl.col("timestamp").dt.truncate(every)])
        .agg(
            pl.when(pl.col(value).is_not_null().mean() >= KNOWN_SHARE)
            .then(pl.col(value).sort_by("timestamp").mean())
            .alias(value)
        )
        .sort([*by, "timestamp"])
    )


def since_opening(usage: pl.DataFrame) -> pl.DataFrame:
    """Leave out the days before a site had anything.

    Args:
        usage: `usage_timeline` of one site or more.

    Returns:
        The rows of each site from the first day on which a collector counts a node, or the
        corrected count does not know whether there was one. Before it, a zero is no finding.
    """
    there = (pl.col("count_type") == "total") & (
        (pl.col("value") > 0)
        | (pl.col("value").is_null() & (pl.col("collector_type") == "corrected"))
    )
    opening = usage.group_by("site").agg(pl.col("timestamp").filter(there).min().alias("opening"))
    return (
        usage.join(opening, on="site", how="left", maintain_order="left")
        .filter(pl.col("timestamp") >= pl.col("opening"))
        .drop("opening")
    )


def nothing(chart: Any) -> Any:  # noqa: ANN401 - any kind of Altair chart, and a plain one back
    """Say that there is nothing to draw, in place of a chart without a size."""
    words = chart.to_dict().get("description", "")
    return (
        alt.Chart(alt.InlineData(values=[{}]), description=f"Nothing to show. {words}")
        .mark_text(text="nothing to show", font=FONT, color=palette.PLAIN)
        .properties(width=WIDTH, height=60)
    )


def panel_title(text: str) -> alt.TitleParams:
    """Head one panel of several."""
    return alt.TitleParams(text, anchor="middle", fontSize=11, fontWeight="normal")


def side_by_side(panels: Sequence[Any], *, columns: int) -> alt.ConcatChart:
    """Put panels into rows, their plots (not their labels) aligned."""
    return alt.concat(*panels, columns=columns, bounds="flush", spacing={"row": 48, "column": 62})


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Give enumerations as text: figures relabel them."""
    return frame.with_columns(cs.enum().cast(pl.String))


def styled(chart: Any) -> Any:  # noqa: ANN401 - any kind of Altair chart, and the same back
    """Give every figure one look."""
    return (
        chart.configure(font=FONT, background="white", padding=6)
        .configure_view(stroke="#CCCCCC")
        .configure_axis(gridColor="#EEEEEE", titleFontWeight="normal")
        .configure_axisY(minExtent=34)  # panels of different scale stay aligned
        .configure_title(anchor="start", fontSize=13, subtitleFontSize=11)
        .configure_legend(orient="bottom", columns=4, labelLimit=240, symbolType="square")
    )


def inline_values(frame: pl.DataFrame) -> alt.InlineData:
    """Embed a frame as CSV, a third of the same rows as JSON.

    Times are ISO text in UTC, so that no reader's zone shifts them; null stays null.
    """
    parse = {
        name: "date" if isinstance(dtype, pl.Datetime) else "number"
        for name, dtype in frame.schema.items()
        if dtype != pl.String
    }
    times = [name for name, kind in parse.items() if kind == "date"]
    text = frame.with_columns(
        pl.col(times).dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%MZ")
    ).write_csv()
    return alt.InlineData(values=text, format=alt.CsvDataFormat(type="csv", parse=parse))


def time_axis(frame: pl.DataFrame, *, count: int = 12, title: str | None = None) -> alt.X:
    """Give an axis of years over the time that the frame spans, with at most `count` labels."""
    scale = alt.Scale(type="utc")
    ticks: Any = count
    if not frame.is_empty():
        first, last = frame["timestamp"].min(), frame["timestamp"].max()
        scale = alt.Scale(type="utc", domain=[milliseconds(first), milliseconds(last)])
        years = 1 + last.year - first.year  # type: ignore[union-attr]
        ticks = {"interval": "year", "step": max(1, -(-years // count))}
    return alt.X(
        "timestamp:T",
        title=title,
        scale=scale,
        axis=alt.Axis(format="%Y", tickCount=ticks, grid=False),
    )


def milliseconds(moment: Any) -> int:  # noqa: ANN401 - what Polars gives for a time
    """Give a moment as Vega writes it."""
    return round(moment.timestamp() * 1000)


def lookup(field: str, values: dict[str, Any]) -> str:
    """Write a Vega expression that maps the values of a field."""
    name = field if "(" in field else f"datum.{field}"
    items = ",".join(
        f"'{key}':{value}" if isinstance(value, int) else f"'{key}':'{value}'"
        for key, value in values.items()
    )
    return f"{{{items}}}[{name}]"


def unknown_stretches(table: pl.DataFrame, value: str, every: str) -> pl.DataFrame:
    """Give the stretches [timestamp, until) in which `value` is null."""
    unknown = pl.col(value).is_null()
    return (
        table.with_columns((unknown != unknown.shift(1, fill_value=False)).cum_sum().alias("run"))
        .filter(unknown)
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("timestamp").min(),
            pl.col("timestamp").max().dt.offset_by(every).alias("until"),
        )
        .drop("run")
    )


def gap_layers(table: pl.DataFrame, value: str, every: str) -> list[alt.Chart]:
    """Draw the stretches in which `value` is null as grey bands, the long ones with the words.

    Args:
        table: `timestamp` (in order) and `value`.
        value: name of the value column.
        every: length of a bucket.
    """
    gaps = unknown_stretches(table.sort("timestamp"), value, every)
    if gaps.is_empty():
        return []
    length = pl.col("until") - pl.col("timestamp")
    long = gaps.filter(5 * length >= pl.col("until").max() - table["timestamp"].min()).select(
        (pl.col("timestamp") + length / 2).alias("timestamp")
    )
    x = alt.X("timestamp:T", scale=alt.Scale(type="utc"))
    bands = (
        alt.Chart(inline_values(gaps))
        .mark_rect(
            fill=palette.STATES["unknown"],
            stroke=palette.UNKNOWN_EDGE,
            strokeWidth=0.6,
            tooltip="not known",
        )
        .encode(x=x, x2="until:T")
    )
    words = (
        alt.Chart(inline_values(long))
        .mark_text(text="not known", font=FONT, fontSize=10, color=palette.PLAIN)
        .encode(x=x, y=alt.value(12))
    )
    return [bands, words] if long.height else [bands]


def ceiling(values: pl.Series) -> float:
    """Give the top of an axis that leaves a little air."""
    top = values.max()
    return 1.05 * float(top) if isinstance(top, int | float) and top > 0 else 1.0


def span_words(table: pl.DataFrame) -> str:
    """Name the days that a table covers."""
    if table.is_empty():
        return "no days"
    times = table["timestamp"] if "timestamp" in table.columns else table["created_at"]
    years = sorted(set(times.dt.year().to_list()))
    return f"{years[0]}" if len(years) == 1 else f"{years[0]} to {years[-1]}"


def ordinal_every(n: int) -> str:
    """Say which share of the points is drawn: every, every 2nd, every 3rd, ..."""
    if n == 1:
        return "every"
    tail = "th" if n % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"every {n}{tail}"
