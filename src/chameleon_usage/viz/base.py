"""What every figure is made of: the chart with its numbers, scales, gaps and words.

Every function that draws takes frames shaped as the output contracts (`usage_timeline`,
`leadtime_leases`, ...) and returns a `Figure`: the chart and the numbers it draws. Daily means are
averaged to weeks or months first; the mean of equal buckets is exact, so the area under a curve
stays node-hours. A bucket counts as known where at least 95 % of its days are; what is unknown is
left blank or grey, never drawn as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl
import polars.selectors as cs
from altair.utils import schemapi

from chameleon_usage.io.files import whole_file
from chameleon_usage.models.metrics import KNOWN_SHARE, METRICS
from chameleon_usage.viz import palette
from chameleon_usage.viz.render import Drawing, save_chart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


# Else Altair holds every part of a chart against the schema when it is made, and all once more in
# the end: half of the time of a page. The tests hold whole charts to it.
schemapi.disable_debug_mode()

WIDTH = 640
HEIGHT = 280

LABELS: dict[str, str] = {name: metric.label for name, metric in METRICS.items()}
"""Count type to what figures call it."""

PARTS: dict[str, str] = {
    **{part: LABELS[part] for part in palette.STATES if part in LABELS},
    "leased": "Leased (use unknown)",
}
"""What the stacks are made of: the partition, and what stands for it where use is unknown."""

COMPARED = ("total", "reservable", "committed", "occupied")
"""The count types of which the collectors are set against each other, in order."""

LINE_LEGEND = alt.Legend(symbolType="stroke", symbolStrokeWidth=2, symbolSize=300)
MONTH = alt.Tooltip("utcyearmonth(timestamp):T", title="month")

_LETTER = 5.2
"""Width of a letter of an event's label, in pixels."""

_LINE = 11
"""Height of a line of such labels, in pixels."""

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

LOOK = alt.Config(
    font=FONT,
    background="white",
    padding=6,
    view=alt.ViewConfig(stroke="#CCCCCC"),
    axis=alt.AxisConfig(gridColor="#EEEEEE", titleFontWeight="normal"),
    axisY=alt.AxisConfig(minExtent=34),  # panels of different scale stay aligned
    title=alt.TitleConfig(anchor="start", fontSize=13, subtitleFontSize=11),
    legend=alt.LegendConfig(orient="bottom", columns=4, labelLimit=240, symbolType="square"),
)
"""How all figures look."""


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
        """Write `<name>.svg`, `.png` and `.csv`, each whole or not at all, under `out_dir`.

        Returns:
            the chart as a page shows it: a notebook cell ends with the call.
        """
        chart = self.chart if self.data.height else nothing(self.chart)
        drawing = Drawing(both_ends_alike(chart.to_dict(validate=False)))
        save_chart(drawing.spec, out_dir / name)
        with whole_file(out_dir / f"{name}.csv") as part:
            self.data.write_csv(part)
        return drawing


def both_ends_alike(spec: Any) -> Any:  # noqa: ANN401 - what JSON holds
    """Give the second end of a range the type of the first.

    Without it Vega-Lite reads the domain of a time axis once as times and once as numbers, and
    warns of the conflict; Altair has no place for that type.
    """
    if isinstance(spec, list):
        return [both_ends_alike(part) for part in spec]
    if not isinstance(spec, dict):
        return spec
    spec = {key: both_ends_alike(part) for key, part in spec.items()}
    match spec:
        case {"x": {"type": kind}, "x2": {"field": _} as second}:
            spec["x2"] = {**second, "type": kind}
    return spec


def figure(chart: Any, data: pl.DataFrame, **properties: Any) -> Figure:  # noqa: ANN401
    """Give a chart its properties (title, description, size), the look of all, and its numbers."""
    return Figure(chart.properties(config=LOOK, **properties), data)


def nothing(chart: Any) -> Any:  # noqa: ANN401 - any kind of Altair chart, and a plain one back
    """Say that there is nothing to draw, in place of a chart without a size."""
    words = chart.to_dict().get("description", "")
    return (
        alt.Chart(alt.InlineData(values=[{}]), description=f"Nothing to show. {words}")
        .mark_text(text="nothing to show", font=FONT, color=palette.PLAIN)
        .properties(width=WIDTH, height=60)
    )


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


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Give enumerations as text: figures relabel them."""
    return frame.with_columns(cs.enum().cast(pl.String))


def means(frame: pl.DataFrame, value: str, *by: str) -> pl.DataFrame:
    """Average `value` in each group that has one, the groups in order of appearance."""
    return frame.group_by(*by, maintain_order=True).agg(pl.col(value).mean()).drop_nulls(value)


def in_words(rows: pl.DataFrame, template: str) -> str:
    """Write each row as the template has it, `{column}` by `{column}`."""
    return "; ".join(template.format(**row) for row in rows.iter_rows(named=True))


def span_words(table: pl.DataFrame) -> str:
    """Name the years that a table covers."""
    years = table["timestamp"].dt.year().unique().sort().to_list()
    if not years:
        return "no days"
    return f"{years[0]}" if len(years) == 1 else f"{years[0]} to {years[-1]}"


def panel_title(text: str) -> alt.TitleParams:
    """Head one panel of several."""
    return alt.TitleParams(text, anchor="middle", fontSize=11, fontWeight="normal")


def side_by_side(panels: Sequence[Any], *, columns: int) -> alt.ConcatChart:
    """Put panels into rows, their plots (not their labels) aligned, and so their headings."""
    return alt.concat(
        *map(_headed, panels), columns=columns, bounds="flush", spacing={"row": 48, "column": 62}
    )


def _headed(panel: Any) -> Any:  # noqa: ANN401 - any kind of Altair chart
    """Write the title of a panel at a fixed height; as a title it would avoid labels of axes."""
    panel = panel.copy()
    title, panel.title = panel.title, alt.Undefined
    words = alt.Chart(alt.InlineData(values=[{}])).mark_text(
        text=title.text, font=FONT, fontSize=title.fontSize, x=panel.width / 2, y=-9
    )
    return panel.add_layers(words) if isinstance(panel, alt.LayerChart) else panel + words


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
    """Give an axis of years or months over the time that the frame spans.

    It has at most `count` labels; of less than two years those of months.
    """
    scale = alt.Scale(type="utc")
    ticks: Any = count
    words = "%Y"
    first: Any = frame["timestamp"].min()
    last: Any = frame["timestamp"].max()
    if first is not None:
        scale.domain = [round(moment.timestamp() * 1000) for moment in (first, last)]
        years = 1 + last.year - first.year
        ticks = {"interval": "year", "step": max(1, -(-years // count))}
        if years <= 2:
            words, months = "%b %Y", 12 * (years - 1) + last.month - first.month + 1
            ticks = {"interval": "month", "step": -(-2 * months // count)}
    return alt.X(
        "timestamp:T",
        title=title,
        scale=scale,
        axis=alt.Axis(format=words, tickCount=ticks, grid=False, labelFlush=False),
    )


def colour(field: str, shades: Mapping[str, str], **options: Any) -> alt.Color:  # noqa: ANN401
    """Colour by a field as `shades` has it, value by value in the order of the legend."""
    scale = alt.Scale(domain=list(shades), range=list(shades.values()))
    if not shades:  # a legend of nothing has no size
        options["legend"] = None
    return alt.Color(f"{field}:N", title=None, scale=scale, **options)


def lookup(field: str, values: dict[str, Any]) -> str:
    """Write a Vega expression that maps the values of a field."""
    name = field if "(" in field else f"datum.{field}"
    items = ",".join(
        f"'{key}':{value}" if isinstance(value, int) else f"'{key}':'{value}'"
        for key, value in values.items()
    )
    return f"{{{items}}}[{name}]"


def total_line(base: alt.Chart, width: float, x: alt.X | str = "timestamp:T") -> alt.Chart:
    """Draw the line that the parts add up to."""
    return base.mark_line(interpolate="step-after", color=palette.TOTAL, strokeWidth=width).encode(
        x=x, y="total:Q"
    )


def gap_layers(table: pl.DataFrame, value: str, every: str) -> list[alt.Chart]:
    """Draw the stretches in which `value` is null as grey bands, the long ones with the words.

    Args:
        table: `timestamp` and `value`.
        value: name of the value column.
        every: length of a bucket.
    """
    unknown = pl.col(value).is_null()
    gaps = (
        table.sort("timestamp")
        .with_columns(run=unknown.rle_id())
        .filter(unknown)
        .group_by("run", maintain_order=True)
        .agg(pl.col("timestamp").min(), until=pl.col("timestamp").max().dt.offset_by(every))
        .drop("run")
    )
    if gaps.is_empty():
        return []
    # The axis ends where the last bucket begins.
    length = pl.min_horizontal("until", table["timestamp"].max()) - pl.col("timestamp")
    long = gaps.filter(5 * length >= pl.col("until").max() - table["timestamp"].min()).select(
        pl.col("timestamp") + length / 2
    )
    x = alt.X("timestamp:T", scale=alt.Scale(type="utc"))
    bands = (
        alt.Chart(inline_values(gaps))
        .mark_rect(
            fill=palette.STATES["unknown"],
            stroke=palette.UNKNOWN_EDGE,
            strokeWidth=0.6,
            tooltip="not known",
            clip=True,
        )
        .encode(x=x, x2="until:T")
    )
    words = (
        alt.Chart(inline_values(long))
        .mark_text(text="not known", font=FONT, fontSize=10, color=palette.PLAIN)
        .encode(x=x, y=alt.value(12))
    )
    return [bands, words] if long.height else [bands]


def event_layers(events: pl.DataFrame | None, over: pl.DataFrame) -> list[alt.Chart]:
    """Mark dated events: a dashed line each, and its label above the plot.

    Args:
        events: `timestamp` and `label`.
        over: the frame of the figure; what lies outside the time that it spans is left out.

    Labels that would touch each other stand in lines one above the other, with a line down to the
    plot.
    """
    first, last = over["timestamp"].min(), over["timestamp"].max()
    if events is None or not isinstance(first, datetime) or not isinstance(last, datetime):
        return []
    within = events.filter(pl.col("timestamp").is_between(first, last)).sort("timestamp")
    if within.is_empty() or first == last:
        return []
    ends: list[float] = []
    lines = []
    for moment, label in within.select("timestamp", "label").iter_rows():
        middle = WIDTH * ((moment - first) / (last - first))
        half = _LETTER * len(label) / 2
        line = next((n for n, end in enumerate(ends) if middle - half > end), len(ends))
        ends[line : line + 1] = [middle + half + _LETTER]
        lines.append(line)
    marked = within.select("timestamp", "label", line=pl.Series(lines))
    x = alt.X("timestamp:T", scale=alt.Scale(type="utc"))
    rules = alt.Chart(inline_values(marked.select("timestamp"))).mark_rule(
        color=palette.PLAIN, strokeDash=[2, 3], strokeWidth=0.8
    )
    words = [
        alt.Chart(inline_values(part.drop("line")))
        .mark_text(fontSize=9.5, font=FONT, color=palette.PLAIN, y=-7 - _LINE * part["line"][0])
        .encode(x=x, text="label:N")
        for part in marked.partition_by("line", maintain_order=True)
    ]
    raised = marked.filter(pl.col("line") > 0)
    leaders = [
        alt.Chart(inline_values(part.select("timestamp")))
        .mark_rule(
            color=palette.PALE, strokeWidth=0.8, y=0, y2=-2 - _LINE * part["line"][0], clip=False
        )
        .encode(x=x)
        for part in raised.partition_by("line", maintain_order=True)
    ]
    halos = [layer.copy() for layer in words if leaders]
    for halo in halos:  # so that a leader does not cross the words of another event
        halo.mark = halo.mark.copy()
        halo.mark.stroke, halo.mark.strokeWidth = "white", 3
    return [rules.encode(x=x), *leaders, *halos, *words]


def ceiling(values: pl.Series) -> float:
    """Give the top of an axis that leaves a little air."""
    top = values.max()
    return 1.05 * float(top) if isinstance(top, int | float) and top > 0 else 1.0
