"""What a colour means, once for every figure.

The states of a node use the eight colours of Okabe and Ito (Color Universal Design, 2008), which
readers with any of the common colour deficiencies can tell apart. Collectors and sites are other
questions, asked in other figures; collectors also differ by dash, so that they survive print.
"""

from __future__ import annotations

from zlib import crc32

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#9A9A9A"

TOTAL = BLACK
"""The line that the parts add up to."""

STATES: dict[str, str] = {
    "active": BLUE,
    "stopped": PURPLE,
    "idle": ORANGE,
    "leased": YELLOW,
    "available": SKY_BLUE,
    "available_ondemand": GREEN,
    "maintenance": VERMILION,
    "unknown": "#D9D9D9",
}
"""Part of the partition to colour, in the order of stacking, from the bottom.

`leased` stands for active, stopped and idle together, where nothing tells them apart.
"""

COLLECTORS: dict[str, tuple[str, list[int]]] = {
    "legacy": (GREY, [1, 0]),
    "uncorrected": ("#882255", [5, 3]),
    "corrected": ("#332288", [1, 0]),
    "truth": ("#117733", [1, 2]),
}
"""Collector type to colour and dash."""

SITES: dict[str, tuple[str, str, str]] = {
    "chi_edge": ("#8C4A72", "#BD86A4", "#E9C9DA"),
    "chi_tacc": ("#00568A", "#5A9AC4", "#A9D2EC"),
    "chi_uc": ("#00694D", "#4FA88D", "#A2DCC9"),
    "kvm_tacc": ("#C9A800", "#E0CB4C", "#F7EE9B"),
}
"""Site to its shades: dark = used, middle = leased (nobody knows if used), light = available.

KVM is the yellow one.
"""

REAL, OURS = BLACK, VERMILION
"""The published record, and what stands beside it."""

_OTHER_SITES: tuple[tuple[str, str, str], ...] = (
    ("#A34700", "#D0824A", "#F5C9AB"),
    ("#A66F00", "#D3A441", "#F8DEA0"),
    ("#4D4D4D", "#8A8A8A", "#CCCCCC"),
)

_NODE_TYPES: tuple[str, ...] = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK)


def site_shades(site: str) -> tuple[str, str, str]:
    """Give the shades of a site, dark first; a site not listed gets fixed ones by its name."""
    return SITES.get(site) or _OTHER_SITES[crc32(site.encode()) % len(_OTHER_SITES)]


def node_type_colours(node_types: list[str]) -> dict[str, str]:
    """Give the leading node types of one site a colour each, all others together grey.

    Args:
        node_types: most important first; those beyond the seventh share the grey of `other`.

    Returns:
        node type to colour, in the same order, `other` last.
    """
    colours = dict(zip(node_types, _NODE_TYPES, strict=False))
    return {**colours, "other": GREY}
