"""The axis of lead times, and the bins of time and lead time that pictures are made of.

The axis is logarithmic from one minute on, in decades: one minute lies at 0, ten minutes at 1. What
is at most one minute, also less than nothing, starts *at once* and has a band of its own below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from chameleon_usage.viz import raster
from chameleon_usage.viz.base import Figure, figure, in_words, lookup, time_axis

if TYPE_CHECKING:
    from datetime import datetime, timedelta

KINDS = ("requested", "effective")
MINUTE = 1 / 60
"""In hours."""
AT_ONCE = pl.col("hours") <= MINUTE
BAND = (-0.625, -0.125)
"""Where on the axis what starts at once is drawn."""

_TICKS = {MINUTE: "1 min", 1: "1 h", 24: "1 d", 168: "7 d", 720: "30 d"}


def by_kind(leases: pl.DataFrame, *index: str) -> pl.DataFrame:
    """Give `leadtime_type` and `hours` a row each, in order, beside the columns of `index`."""
    return (
        leases.select(*index, requested="requested_h", effective="effective_h")
        .unpivot(index=index, variable_name="leadtime_type", value_name="hours")
        .drop_nulls("hours")
        .with_columns(pl.col("leadtime_type").cast(pl.Enum(KINDS)))
        .sort("leadtime_type", *index, "hours")
    )


def place(hours: pl.Expr) -> pl.Expr:
    """Tell where on the axis lead times lie: those at once in the middle of their band."""
    longer = (hours.clip(MINUTE) / MINUTE).log10()
    return pl.when(hours <= MINUTE).then(sum(BAND) / 2).otherwise(longer)


def rung(hours: pl.Expr, step: float) -> pl.Expr:
    """Number the bins of lead times, `step` decades each, from 1; 0 is what starts at once."""
    number = 1 + ((hours.clip(MINUTE) / MINUTE).log10() / step).floor().cast(pl.Int64)
    return pl.when(hours <= MINUTE).then(0).otherwise(number)


def foot(step: float) -> pl.Expr:
    """Give where the bin with the number `rung` begins, in hours: no value for *at once*."""
    return pl.when(pl.col("rung") > 0).then(MINUTE * 10 ** ((pl.col("rung") - 1) * step)).round(4)


def hours_axis(
    top: float,
    title: str | None = "lead time",
    *,
    low: float = BAND[0],
    channel: type[alt.X | alt.Y] = alt.Y,
    band: str = "at once",
) -> Any:  # noqa: ANN401 - of the kind that is asked for
    """Give an axis of lead times, of the field `x` or `y`, from the place `low` to `top`.

    The band below is labelled `band`; on a horizontal axis it leaves no room for one minute.
    """
    ticks = {math.log10(hours / MINUTE): words for hours, words in _TICKS.items()}
    ticks[sum(BAND) / 2] = band
    if channel is alt.X and low < 0:
        del ticks[0.0]
    words = {f"{at:.2f}": text for at, text in ticks.items()}
    return channel(
        f"{channel.__name__.lower()}:Q",
        title=title,
        scale=alt.Scale(domain=[low, top], nice=False, zero=False),
        axis=alt.Axis(
            values=[at for at in ticks if low <= at <= top],
            # Vega writes a minus sign, not a hyphen.
            labelExpr=lookup("format(datum.value, '.2f')", words).replace("'-", "'\u2212"),
        ),
    )


def in_short(table: pl.DataFrame) -> str:
    """Say of each kind how many leases there are, and how many of them start at once."""
    kinds = table.group_by("leadtime_type", maintain_order=True).agg(
        leases=pl.len(),
        share=AT_ONCE.mean(),
        ahead=pl.col("hours").filter(~AT_ONCE).median().fill_null(0),
    )
    return in_words(
        kinds,
        "{leadtime_type}: {leases:,} leases, {share:.1%} at once, the others {ahead:.2f} h "
        "in the median",
    )


def no_leases(table: pl.DataFrame, site_name: str) -> Figure:
    """Give the figure of a site of which no lease is known: the empty table."""
    empty = alt.Chart(alt.InlineData(values=[])).mark_point()
    return figure(empty, table, description=f"{site_name}: no lease with a lead time.")


@dataclass(frozen=True)
class Grid:
    """Equal bins of time, and bins of lead time: the pixels of a picture.

    Attributes:
        step: height of a bin in decades; a divisor of the band of *at once* and of what is below.
        top: number of the highest bin.
        columns: how many bins of time there are.
        first: where the first begins.
        length: how long each is.
    """

    step: float
    top: int
    columns: int
    first: datetime
    length: timedelta

    @classmethod
    def over(cls, table: pl.DataFrame, step: float, most: int) -> tuple[Grid, pl.DataFrame]:
        """Cut the time of a table, not empty, into at most `most` bins of whole days.

        Args:
            table: `created_at` and `hours`.
            step: height of a bin in decades.
            most: number of bins of time.

        Returns:
            the grid, and the table with `column`, `rung`, and `timestamp`, where its bin begins.
        """
        first: Any = table["created_at"].dt.truncate("1d").min()
        last: Any = table["created_at"].max()
        days = math.ceil(((last - first).days + 1) / most)
        column = (pl.col("created_at") - first).dt.total_days() // days
        binned = table.with_columns(column=column, rung=rung(pl.col("hours"), step)).with_columns(
            timestamp=first + pl.duration(days=pl.col("column") * days)
        )
        top, columns = binned.select(pl.col("rung").max(), 1 + pl.col("column").max()).row(0)
        length: Any = pl.duration(days=days)
        return cls(step, max(top, 1), columns, first, pl.select(length).item()), binned

    @property
    def below(self) -> int:
        """How many lines of pixels lie below one minute."""
        return round(-BAND[0] / self.step)

    @property
    def band(self) -> range:
        """The lines of pixels, from the bottom, of what starts at once."""
        return range(round((BAND[1] - BAND[0]) / self.step))

    @property
    def height(self) -> float:
        """Where on the axis the picture ends."""
        return self.top * self.step

    @property
    def line(self) -> pl.Expr:
        """The line of pixels of a bin that does not start at once."""
        return pl.col("rung") + (self.below - 1)

    def time_axis(self, count: int, title: str | None = None) -> alt.X:
        """Give an axis that ends with the last bin."""
        ends = [self.first, self.first + self.columns * self.length]
        return time_axis(pl.DataFrame({"timestamp": ends}), count=count, title=title)

    def picture(
        self, bins: pl.DataFrame, shades: pl.DataFrame, x: alt.X, title: str | None = "lead time"
    ) -> alt.Chart:
        """Draw bins, each with its `column` and `line`, in their shades."""
        ends = (self.first, self.first + self.columns * self.length)
        start, until = (f"{moment:%Y-%m-%dT%H:%MZ}" for moment in ends)
        return raster.picture(
            bins["column"],
            bins["line"],
            shades,
            (self.columns, self.top + self.below),
            {"timestamp": start, "until": until, "y": BAND[0], "y2": self.height},
            x=x,
            x2="until:T",
            y=hours_axis(self.height, title),
        )
