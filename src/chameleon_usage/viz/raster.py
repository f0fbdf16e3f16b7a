"""Pictures of counts: one pixel a bin, so that any number of rows is drawn whole and stays light.

A chart that holds a mark for each of a hundred thousand leases is too big for a page, and one that
draws some of them misleads. These pictures count all rows into the pixels first.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from chameleon_usage.viz import palette

if TYPE_CHECKING:
    from collections.abc import Sequence


_LEVELS, _STEPS = 100, 20
"""Shades of `ramp`, and grades of opacity: no picture has more than 255 colours."""

Numbers = np.ndarray[Any, np.dtype[np.uint8]]


def ramp(counts: pl.Series, most: float, *, log: bool = True) -> pl.DataFrame:
    """Give counts their colours.

    Args:
        counts: of each bin, at least 1 where the scale is logarithmic.
        most: the count of the darkest colour.
        log: whether the shade goes with the logarithm of the count; if not, with the count.

    Returns:
        red, green, blue, alpha (0 to 255), a row for each count.
    """
    share = (counts.log() / np.log(max(most, 2))) if log else counts / max(most, 1)
    share = (share.clip(0, 1) * _LEVELS).round() / _LEVELS
    low, high = (np.array(_rgb(shade)) for shade in palette.COUNTS)
    shades = low + (high - low) * share.to_numpy()[:, None]
    return pl.DataFrame(shades.round(), list("rgb")).with_columns(a=pl.lit(255)).cast(pl.UInt8)


def painted(shades: Sequence[str], opacity: pl.Series) -> pl.DataFrame:
    """Give a row of red, green, blue and alpha (0 to 255) for each shade and opacity (0 to 1)."""
    rows = pl.DataFrame([_rgb(shade) for shade in shades], list("rgb"), orient="row")
    return rows.with_columns(a=(opacity * _STEPS).round() * (255 / _STEPS)).cast(pl.UInt8)


def _rgb(shade: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(shade.removeprefix("#")))


def picture(
    columns: pl.Series,
    rows: pl.Series,
    shades: pl.DataFrame,
    size: tuple[int, int],
    within: dict[str, Any],
    *,
    x: alt.X,
    x2: str,
    y: alt.Y,
) -> alt.Chart:
    """Draw bins as the pixels of one picture; those that are not named stay transparent.

    Args:
        columns: place of each bin from the left, from 0.
        rows: the same from the bottom.
        shades: of `ramp` or `painted`, a row for each bin.
        size: columns and rows of the whole picture.
        within: the values that the picture's edges lie at, by field; times are text.
        x: encoding of the left edge.
        x2: field of the right edge.
        y: encoding of the lower edge; the field of the upper one is `y2`.
    """
    width, height = size
    colours, number = np.unique(shades.to_numpy(), axis=0, return_inverse=True)
    pixels = np.zeros((height, width), np.uint8)  # 0 is transparent
    pixels[height - 1 - rows.to_numpy(), columns.to_numpy()] = 1 + number
    nothing = np.zeros((1, 4), np.uint8)
    return (
        alt.Chart(alt.InlineData(values=[within]))
        .mark_image(
            aspect=False, smooth=False, aria=False, url=_png(pixels, np.vstack([nothing, colours]))
        )
        .encode(x=x, x2=x2, y=y, y2="y2:Q")
    )


def _png(pixels: Numbers, colours: Numbers) -> str:
    """Write a PNG file into a data address: no time, no name, the same bytes on every run.

    Args:
        pixels: (height, width), the number of each pixel's colour.
        colours: red, green, blue, alpha of each.
    """
    height, width = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    lines = np.hstack([np.zeros((height, 1), np.uint8), pixels])  # each begins with "no filter"
    file = (
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", colours[:, :3].tobytes()),
        chunk(b"tRNS", colours[:, 3].tobytes()),
        chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
        chunk(b"IEND", b""),
    )
    return "data:image/png;base64," + b64encode(b"".join(file)).decode()


def count_legend(most: int, title: str, *, log: bool = True) -> alt.Chart:
    """Draw nothing but the legend of `ramp`."""
    scale = alt.Scale(
        type="log" if log else "linear",
        domain=[1 if log else 0, max(most, 2)],
        range=[*palette.COUNTS],
        interpolate="rgb",
    )
    ticks = [10**k for k in range(12) if 10**k <= max(most, 2)] if log else alt.Undefined
    legend = alt.Legend(format=",.0f", titleLimit=220, values=ticks, gradientLength=180)
    return (
        alt.Chart(alt.InlineData(values=[{"count": 1}]))
        .mark_point(opacity=0)
        .encode(color=alt.Color("count:Q", title=title, scale=scale, legend=legend))
    )
