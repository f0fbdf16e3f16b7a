"""How a chart reaches paper and page: files that are the same on every run, HTML that needs nobody.

A chart on a page is its SVG, complete without scripts, and its specification. One script, shared
by all pages of the book, turns the SVG into the interactive chart when it comes into view.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from struct import pack
from typing import Any
from zlib import crc32

import vl_convert as vlc

from chameleon_usage.io.files import whole_file

PNG_SCALE = 2.0


@dataclass(frozen=True, repr=False)
class Drawing:
    """A chart as notebooks show it.

    Attributes:
        spec: its Vega-Lite specification; the description is the alternative text.
    """

    spec: dict[str, Any]

    def __repr__(self) -> str:
        return str(self.spec.get("description", "chart"))

    def _repr_html_(self) -> str:
        return chart_html(self.spec)


_DRAWN: dict[str, str] = {}
"""Specification to SVG: a figure goes to a file and to a page."""


def chart_svg(spec: dict[str, Any]) -> str:
    """Draw a Vega-Lite specification as SVG; the same specification gives the same text."""
    text = json.dumps(spec, sort_keys=True)
    if text not in _DRAWN:
        # Vega numbers its ids through the whole process; here each drawing counts from 0.
        drawn = _named_ids(vlc.vegalite_to_svg(text, allowed_base_urls=[]), "id")
        _DRAWN[text] = _slim(drawn)
    return _DRAWN[text]


def save_chart(spec: dict[str, Any], stem: Path) -> None:
    """Write a chart to `<stem>.svg` and `<stem>.png`, each whole or not at all.

    To start Vega and to draw takes longer than the rest of many a page. So the PNG ends with a sum
    over the specification and what draws it, and where files of the same sum stand they stay.
    """
    svg, png = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")
    text = json.dumps(spec, sort_keys=True)
    end = _png_end(sha256(f"{text}{_makers()}".encode()).hexdigest())
    if svg.exists() and png.exists() and png.read_bytes().endswith(end):
        _DRAWN[text] = svg.read_text(encoding="utf-8")
        svg.touch()
        png.touch()
        return
    with whole_file(svg) as part:
        part.write_text(chart_svg(spec), encoding="utf-8")
    with whole_file(png) as part:
        drawn = vlc.svg_to_png(chart_svg(spec), scale=PNG_SCALE)
        part.write_bytes(drawn[: -len(_png_chunk(b"IEND"))] + end)


@cache
def _makers() -> str:
    """Give what tells which version of what draws this is."""
    return version("vl-convert-python") + Path(__file__).read_text(encoding="utf-8")


def _png_end(comment: str) -> bytes:
    """Give the last chunks of a PNG with a comment."""
    return _png_chunk(b"tEXtComment\0" + comment.encode()) + _png_chunk(b"IEND")


def _png_chunk(content: bytes) -> bytes:
    """Give a chunk of a PNG: its length without the four letters of the type, and a checksum."""
    return pack(">I", len(content) - 4) + content + pack(">I", crc32(content))


_NO_MARK = re.compile(r'<path [^>]*d="(?:M0,0h0v0h0Z)?"[^>]*/>')
_UNSAID = re.compile(
    # To readers a chart is one image, with words for all of it; the rest is what holds anyway.
    r' (?:role|aria-[a-z]+|class|pointer-events)="[^"]*"| (?:opacity="1"|[xy]2="0")'
)
_FONT = re.compile(r' font-family="[^"]*"')
_LONG = re.compile(r"-?\d+\.\d{3,}")
_RGB = re.compile(r"rgb\((\d+), (\d+), (\d+)\)")
_STEPS = re.compile(r'(?<= d=")M[-\d.,L]+')


def _slim(svg: str) -> str:
    """Leave out of an SVG what nobody sees, and round to a hundredth of a pixel.

    It is then half as long or less.
    """
    start, end, body = svg.partition(">")
    body = _UNSAID.sub("", _NO_MARK.sub("", body))
    if len(fonts := set(_FONT.findall(body))) == 1:
        start, body = start + fonts.pop(), _FONT.sub("", body)
    return start + end + re.sub("<[^>]*>", lambda tag: _short(tag[0]), body)


def _short(tag: str) -> str:
    """Write numbers, colours and the steps of a path in the short way."""
    tag = _LONG.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag)
    tag = _RGB.sub(lambda rgb: "#" + bytes(map(int, rgb.groups())).hex(), tag)
    return _STEPS.sub(lambda path: _steps(path[0]), tag)


def _steps(path: str) -> str:
    """Write a line from point to point (M, L) so that what does not change is not repeated."""
    points = [point.split(",") for point in path[1:].split("L")]
    lines = [
        f"H{x}" if y == before[1] else f"V{y}" if x == before[0] else f"L{x},{y}"
        for before, (x, y) in pairwise(points)
    ]
    return "M" + ",".join(points[0]) + "".join(lines)


def chart_html(spec: dict[str, Any]) -> str:
    """Wrap a specification for a page: figure with static SVG, and the JSON to make it live.

    Ids inside the SVG are made unique by the chart's own hash, as a page holds many charts.
    """
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    name = "chart-" + sha256(text.encode()).hexdigest()[:12]
    svg = _named_ids(chart_svg(spec), name)
    label = html.escape(spec.get("description", ""), quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    script = text.replace("<", "\\u003c")
    return (
        f'<div class="chart" id="{name}">'
        f'<div class="chart-static">{svg}</div>'
        f'<script type="application/json" class="chart-spec">{script}</script>'
        "</div>"
    )


def _named_ids(svg: str, prefix: str) -> str:
    """Number the ids of an SVG in the order of their appearance, after a prefix."""
    names = {old: f"{prefix}-{i}" for i, old in enumerate(re.findall(r'\bid="([^"]+)"', svg))}
    svg = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{names[m[1]]}"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{names[m[1]]})", svg)
    return re.sub(r'href="#([^"]+)"', lambda m: f'href="#{names[m[1]]}"', svg)


def book_script() -> str:
    """Give the script that brings charts to life: the Vega libraries and a few lines of ours."""
    return f"(() => {{\n{vlc.javascript_bundle(_LIVE)}\n}})();"


# Charts start when they come into view. They stand on white in the dark theme, too: their colours
# are chosen for it, and captions name them. The static picture is removed, not hidden, once the
# live one stands, and stays if that fails. Vega gives the box around the live one the description
# of the chart: it is one picture with words for all of it, without Vega's own for every mark.
_LIVE = """
const start = async (chart) => {
  const spec = JSON.parse(chart.querySelector(".chart-spec").textContent);
  const place = document.createElement("div");
  place.className = "chart-live";
  chart.append(place);
  try {
    await vegaEmbed(place, spec, {actions: false, renderer: "svg"});
    place.querySelector("svg").setAttribute("aria-hidden", "true");
    chart.querySelector(".chart-static").remove();
    chart.dataset.live = "true";
  } catch (error) {
    place.remove();
    console.error(error);
  }
};
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) {
    seen.unobserve(entry.target);
    start(entry.target);
  }
}, {rootMargin: "200px"});
const begin = () => document.querySelectorAll(".chart").forEach((chart) => seen.observe(chart));
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
else begin();
"""
