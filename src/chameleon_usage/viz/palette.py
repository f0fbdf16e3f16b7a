"""What a colour means, once for every figure.

The states of a node use the hues of Okabe and Ito (Color Universal Design, 2008), shifted in
lightness so that what lies side by side differs for readers with any of the common colour
deficiencies, and on grey paper, too; yellow is left to a site. Collectors, sites and node types
are other questions, asked in other figures, with colours of their own; collectors also differ by
dash and width, so that they survive print. Node types use the "bright" scheme of Paul Tol (Colour
Schemes, SRON technical note, 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOTAL = "#000000"
"""The line that the parts add up to."""

STATES: dict[str, str] = {
    "active": "#0072B2",  # blue
    "stopped": "#CC79A7",  # purple
    "idle": "#E8A713",  # orange
    "leased": "#3B4763",  # slate
    "available": "#BFE8A9",  # pale green
    "available_ondemand": "#2AAE7E",  # green
    "maintenance": "#CC4C0A",  # vermilion
    "unknown": "#D3D3D3",
}
"""Part of the partition to colour, in the order of stacking, from the bottom.

`leased` stands for active, stopped and idle together, where nothing tells them apart.
"""

OUT_OF_USE: dict[str, str] = {
    "out_of_use_broken": "#7A1E1E",  # dark red
    "out_of_use_planned": "#EE8F5A",  # pale vermilion
    "out_of_use_disabled": "#D6C3AE",  # sand
    "out_of_use_unexplained": "#F6EDE1",  # pale sand
}
"""Count type of what is out of use to colour, in the order of stacking, from the bottom."""

LEASE_USE: dict[str, str] = {
    "used": STATES["active"],
    "idle before the first instance": "#FBE3B0",
    "idle between instances": "#F3C15F",
    "idle after the last instance": "#C98A1B",
    "node never used": "#8A5800",
    "reserved (use unknown)": STATES["leased"],
    "given back early": "#F4F4F4",
}
"""What became of leased node-hours, in the hues of `STATES`: use, four kinds of idling from pale to
dark, and what is not held any more, near white."""

SEEN: dict[str, tuple[str, str]] = {
    "seen": ("seen", "#332288"),
    "inferred": ("inferred", "#9C93D1"),
    "known": ("known, not told apart", "#1B7F74"),
    "unknown": ("not known", STATES["unknown"]),
}
"""Part of a year to its words and colour, from the bottom of the stack."""

REST = "#FFFFFF"
"""What of a total is in no part that is drawn."""

UNKNOWN_EDGE = "#8C8C8C"
"""The outline of what is not known."""

COLLECTORS: dict[str, tuple[str, list[int], float, str]] = {
    "legacy": ("#B0B0B0", [1, 0], 4.5, "square"),
    "uncorrected": ("#882255", [4, 4], 1.6, "triangle-up"),
    "corrected": ("#332288", [1, 0], 1.6, "circle"),
    "truth": (TOTAL, [1, 9], 3.2, "cross"),
}
"""Collector type to colour, dash, width and shape, in the order of drawing: legacy is wide and
pale, as it often lies beneath the others; the truth is dots on top of all."""

UNITS: dict[str, tuple[str, str, str]] = {
    "error_site": ("sum of the site", "#332288", "circle"),
    "error_node_type": ("by node type", "#DD9A1F", "square"),
    "error_host": ("by host", "#44AA99", "diamond"),
}
"""Unit that errors are added up by to what the legend calls it, colour and shape."""

REAL, OURS = TOTAL, COLLECTORS["corrected"][0]
"""The published record, and the corrected count beside it."""

PLAIN, PALE = "#4D4D4D", "#B3B3B3"
"""Marks that mean nothing by their colour, and the lesser ones among them."""

COUNTS = ("#DFD9EE", "#371A66")
"""A bin with one row, and the fullest bin, in a picture of counts."""

FAINT, TAKEN = "#F8F4F6", "#00605A"
"""The shade of an error to which nothing is added, and of one of which the most is taken away."""

GPUS: dict[str, str] = {"with GPUs": "#00504A", "without GPUs": "#62B5A8"}
"""What leases are on."""

_OTHER_SITES: tuple[tuple[str, str, str], ...] = (
    ("#A34700", "#D0824A", "#F5C9AB"),
    ("#A66F00", "#D3A441", "#F8DEA0"),
    ("#4D4D4D", "#8A8A8A", "#CCCCCC"),
)

_NODE_TYPES: tuple[str, ...] = (
    *("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377"),
    "#222222",
)


def site_shades(site: str, declared: Mapping[str, Sequence[str]] | None = None) -> Sequence[str]:
    """Give the shades of a site: dark = used, middle = leased (nobody knows if used), light = free.

    Args:
        site: its key.
        declared: site to its shades; one that is not there gets fixed ones by its name.
    """
    return (declared or {}).get(site) or _OTHER_SITES[crc32(site.encode()) % len(_OTHER_SITES)]


def node_type_colours(node_types: list[str]) -> dict[str, str]:
    """Give the leading node types of one site a colour each, all others together grey.

    Args:
        node_types: most important first; those beyond the seventh share the grey of `other`.

    Returns:
        node type to colour, in the same order, `other` last.
    """
    return dict(zip(node_types, _NODE_TYPES, strict=False)) | {"other": PALE}
