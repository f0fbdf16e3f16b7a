"""The colours of figures: apart for every reader, and the bands of a stack on grey paper, too."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import yaml

from chameleon_usage.viz import palette
from support import PROJECT
from support.colours import SEEN_BY, distance, lightness_apart

LEAST = 10.0
"""Four times what can just be noticed side by side (2.3)."""
LEAST_ON_GREY = 8.0

_sites = yaml.safe_load((PROJECT / "data/sites.yaml").read_text(encoding="utf-8"))
SHADES = {site: of["colours"] for site, of in _sites.items() if "colours" in of}
FIGURES: dict[str, dict[str, str]] = {
    "states": palette.STATES,
    "out of use": palette.OUT_OF_USE,
    "lease use": palette.LEASE_USE,
    "sites": {f"{site} {n}": shade for site, of in SHADES.items() for n, shade in enumerate(of)},
    "collectors": {name: look[0] for name, look in palette.COLLECTORS.items()},
    "node types": palette.node_type_colours([str(n) for n in range(7)]),
    "with GPUs and without": palette.GPUS,
    "seen, inferred, not known": dict(palette.SEEN.values()),
    "units of the error": {name: look[1] for name, look in palette.UNITS.items()},
    "published record": {
        "real": palette.REAL,
        "caches": palette.COLLECTORS["legacy"][0],
        "ours": palette.OURS,
    },
    "rejects": {"rejected": palette.PLAIN, "superseded": palette.PALE},
}
"""Colours that stand in one figure, by what they mean."""

STACKS = {
    "bare metal": ["active", "stopped", "idle", "available", "maintenance", "unknown"],
    "KVM": ["active", "stopped", "idle", "available", "available_ondemand", "maintenance"],
    "Edge": ["leased", "available", "maintenance"],
}
"""Bands of the stack that lie on each other."""


@pytest.mark.parametrize("reader", SEEN_BY)
@pytest.mark.parametrize("figure", FIGURES)
def test_every_reader_tells_the_colours_of_a_figure_apart(figure, reader):
    colours = FIGURES[figure]
    near = {
        (one, other): round(apart, 1)
        for one, other in combinations(colours, 2)
        if (apart := distance(colours[one], colours[other], reader)) < LEAST
    }
    assert near == {}


@pytest.mark.parametrize("site", STACKS)
def test_neighbours_in_the_stack_differ_on_grey_paper(site):
    near = {
        (one, other): round(apart, 1)
        for one, other in pairwise(STACKS[site])
        if (apart := lightness_apart(palette.STATES[one], palette.STATES[other])) < LEAST_ON_GREY
    }
    assert near == {}


@pytest.mark.parametrize(
    "parts", [palette.OUT_OF_USE, palette.LEASE_USE, dict(palette.SEEN.values())]
)
def test_neighbours_in_other_stacks_differ_on_grey_paper(parts):
    apart = {pair: lightness_apart(parts[pair[0]], parts[pair[1]]) for pair in pairwise(parts)}
    assert min(apart.values()) >= LEAST_ON_GREY, apart


class TestSimulation:
    """The readers of the test see as readers do."""

    def test_distances_are_those_of_published_colours(self):
        assert distance("#FF0000", "#00FF00") == pytest.approx(170.6, abs=0.5)
        assert distance("#FFFFFF", "#000000") == pytest.approx(100)

    def test_red_and_green_come_near_each_other_without_one_of_their_cones(self):
        for reader in ("protanopia", "deuteranopia"):
            assert distance("#B35C2E", "#6B7A2B", reader) < 0.5 * distance("#B35C2E", "#6B7A2B")

    def test_blue_and_green_come_near_each_other_without_the_third_cone(self):
        assert distance("#2E86B3", "#2E9B8A", "tritanopia") < 0.5 * distance("#2E86B3", "#2E9B8A")

    def test_greys_are_greys_to_all(self):
        for reader in SEEN_BY:
            assert distance("#808080", "#808080", reader) == 0
            assert distance("#404040", "#C0C0C0", reader) == pytest.approx(
                distance("#404040", "#C0C0C0"), abs=0.1
            )
