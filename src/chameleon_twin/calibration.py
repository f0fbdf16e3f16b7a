"""The calibration facts of data/calibration.yaml, read once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from .clock import seconds

PATH = Path(__file__).parents[2] / "data" / "calibration.yaml"
PROJECTS = 300  # per site, and users per project (assumption)
USERS_PER_PROJECT = 5
# The tiny profile is a testbed of a few hosts through all the years, for tests.
PROFILES = {"full": 1.0, "tiny": 0.02}
SITES = ("chi_tacc", "chi_uc", "kvm_tacc", "chi_edge")


@dataclass(frozen=True)
class Profile:
    """How large a twin is, against the size of the profile's name."""

    name: str
    scale: float

    @property
    def fleet(self) -> float:
        """Size of the fleet, and of the demand with it, against the real one."""
        return PROFILES[self.name] * self.scale

    def count(self, real: float, least: int = 1) -> int:
        """A real count at this size, never below `least` unless the real one is 0."""
        return max(least, round(real * self.fleet)) if real else 0


@dataclass(frozen=True)
class Calibration:
    """One site's block of the calibration file with what all sites share."""

    site: str
    facts: dict[str, Any]
    node_types: dict[str, dict[str, Any]]
    leases: dict[str, Any]
    real_curves: dict[str, dict[int, list[float]]]
    curves_begin: dict[str, date]
    curves_end: int
    as_of: int
    profile: Profile
    damage: dict[str, float]

    @property
    def opened(self) -> int:
        """When the site opened."""
        return seconds(self.facts["opened"])

    def curve_begin(self, curve: str) -> int:
        """When the real curve of that name begins, or the site opened."""
        return max(self.opened, seconds(self.curves_begin.get(curve, date(2015, 1, 1))))

    def rows(self, table: str) -> int:
        """The real row count of a table, at this profile's size."""
        return self.profile.count(self.facts["row_counts"][table], least=4)

    def yearly(self, name: str) -> dict[int, float]:
        """A yearly level in nodes, at this profile's size."""
        return {year: v * self.profile.fleet for year, v in self.facts.get(name, {}).items()}

    def yearly_legacy(self, name: str) -> dict[int, float]:
        """A yearly level of the legacy collector's habits in nodes, at this profile's size."""
        return {year: v * self.profile.fleet for year, v in self.facts["legacy"][name].items()}

    def share(self, damage: str) -> float:
        """The share of cases that a kind of damage takes, as `make --damage` multiplies it."""
        return self.damage[damage]

    def some(self, damage: str, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Which of `n` cases a kind of damage takes, ascending: at least one, unless its rate is 0.

        A higher rate takes all that a lower one takes, and more.
        """
        share = self.share(damage)
        return np.sort(rng.permutation(n)[: max(share > 0, round(share * n))])

    def target(self, quantity: str) -> dict[int, float]:
        """The yearly mean that the truth of a quantity is steered to, in nodes."""
        return {y: v * self.profile.fleet for y, v in self.facts["targets"][quantity].items()}


@cache
def _document() -> dict[str, Any]:
    with PATH.open() as stream:
        document: dict[str, Any] = yaml.safe_load(stream)
    return document


def damages() -> dict[str, dict[str, Any]]:
    """Every kind of damage by its name, as the file has it: what, rate, of, sites, mark, source."""
    kinds: dict[str, dict[str, Any]] = _document()["damage"]
    return kinds


YEARLY = ("maintenance_nodes", "lingering_nodes", "orphan_nodes")
HALVES = {"even": 0, "odd": 1}
"""Halves of the years that a twin can be steered by, and the remainder of their years by 2."""


def half(facts: Mapping[str, Any], years: str) -> dict[str, Any]:
    """A site's block without what the real curves of the other years say.

    Yearly levels of those are taken from the nearest years that are left, on the line between
    two of them. A dated level of today's pool holds until the next that is left.
    """
    kept = dict(facts)
    for name in YEARLY:
        if name in facts:
            kept[name] = filled(facts[name], years)
    kept["targets"] = {name: filled(levels, years) for name, levels in facts["targets"].items()}
    if "legacy" in facts:
        unknown = filled(facts["legacy"]["unknown_nodes"], years)
        kept["legacy"] = {**facts["legacy"], "unknown_nodes": unknown}
    if facts.get("surviving_pool_rows"):
        rows = facts["surviving_pool_rows"].items()
        kept["surviving_pool_rows"] = {d: n for d, n in rows if d.year % 2 == HALVES[years]}
    return kept


def filled(levels: Mapping[int, float], years: str) -> dict[int, float]:
    """The same years, each of the other half between its nearest neighbours of this half.

    >>> filled({2018: 10, 2019: 99, 2020: 30, 2021: 99}, "even")
    {2018: 10.0, 2019: 20.0, 2020: 30.0, 2021: 30.0}
    """
    kept = [year for year in sorted(levels) if year % 2 == HALVES[years]]
    if not kept:
        return dict(levels)
    values = np.interp(list(levels), kept, [levels[year] for year in kept])
    return dict(zip(levels, values.tolist(), strict=True))


def load(
    site: str,
    profile: Profile,
    factors: Mapping[str, float] | None = None,
    years: str | None = None,
) -> Calibration:
    """The calibration of one site; `KeyError` naming the known sites if there is none such.

    `factors` multiply the rates of the kinds of damage that they name. `years` is of `HALVES`: the
    real curves of other years do not steer.
    """
    document = _document()
    factors = factors or {}
    if site not in document["sites"]:
        raise KeyError(f"unknown site {site!r}: the twin has {', '.join(SITES)}")
    facts = document["sites"][site]
    as_of, cloud = document["as_of"], facts["cloud_class"]
    return Calibration(
        site=site,
        facts=half(facts, years) if years else facts,
        node_types=document["node_types"],
        leases=document["leases"],
        real_curves=document["real_curves"].get(site, {}),
        curves_begin=document["curves_begin"].get(site, {}),
        curves_end=seconds(document["curves_end"]),
        as_of=seconds(as_of if not isinstance(as_of, date) else as_of.isoformat()),
        profile=profile,
        damage={
            name: kind["rate"] * factors.get(name, 1.0) * (cloud in kind["sites"])
            for name, kind in damages().items()
        },
    )
