"""The twin against reality: no number of the calibration file is passed over in silence."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import yaml

from chameleon_twin.calibration import Profile
from chameleon_twin.site import make
from paper import calibration, leases, outcome
from support import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT: dict[str, Any] = yaml.safe_load((PROJECT / "data/calibration.yaml").read_text())
TARGETS = calibration.targets(DOCUMENT)


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Each number of the file with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def left_out(path: str) -> bool:
    return any(
        re.match(re.escape(pattern).replace(r"\*", r"[^.]+") + r"(\.|$)", path)
        for pattern in calibration.LEFT_OUT
    )


class TestTargets:
    def test_every_number_of_the_file_is_a_target_or_left_out_with_a_reason(self):
        aims = sorted(float(v) for v in TARGETS.values())
        stated = [(p, float(v)) for p, v in numbers(DOCUMENT) if not left_out(p)]
        # Batches of a type that come on one day are one figure; how many bins a mean is of is none.
        same_day = [v for p, v in stated if p == "sites.chi_uc.hardware.count" and v in (8, 23)]
        assert sum(same_day) == 31
        bins = [v for p, v in stated if p.startswith("real_curves.")][1::2]
        known = sorted([*aims, *same_day, *map(float, bins)])
        assert known == sorted([*(v for _, v in stated), 31.0])

    @pytest.mark.parametrize("pattern", calibration.LEFT_OUT)
    def test_what_is_left_out_is_in_the_file(self, pattern):
        flat = {re.sub(r"\b20\d\d-.*", "", path) for path, _ in numbers(DOCUMENT)}
        flat |= set(DOCUMENT)
        alone = re.escape(pattern).replace(r"\*", r"[^.]+")
        assert any(re.match(alone, path) for path in flat)

    def test_some_by_hand(self):
        assert TARGETS["leases", "chi_tacc, chi_uc", "actual_median_h, gpu"] == 22.4
        assert TARGETS["row count", "chi_uc", "nova.services"] == 179
        assert TARGETS["fleet", "chi_uc", "compute_skylake from 2018-06-27"] == 31
        assert TARGETS["legacy curve", "chi_tacc", "legacy_total, 2020"] == 342.3
        assert TARGETS["difference of two curves", "chi_uc", "current_idle, 2019"] == -14.8


AIMS: calibration.Figures = {
    ("a", "s", "x"): 10,
    ("a", "s", "y"): 0,
    ("a", "s", "z"): -4,
    ("b", "t", "x"): 1,
    ("c", "", "p"): 2,
    ("c", "", "q"): 3,
}
FOUND: calibration.Figures = {
    ("a", "s", "x"): 10.5,
    ("a", "s", "y"): 0,
    ("a", "s", "z"): -5,
    ("c", "", "p"): 2,
}


class TestBeside:
    def test_deviation_is_relative_and_unmade_sites_and_types_are_not_asked_for(self):
        table = calibration.beside(AIMS, FOUND, ["s"])
        assert table.select("block", "name", "difference", "deviation").rows() == [
            ("a", "x", 0.5, pytest.approx(0.05)),
            ("a", "y", 0.0, None),
            ("a", "z", -1.0, -0.25),
            ("c", "p", 0.0, 0.0),
        ]

    def test_a_figure_that_nobody_measured_is_null_and_not_near(self):
        table = calibration.beside(AIMS, {}, ["s", "t"])
        assert table["outcome"].null_count() == 4
        assert calibration.by_block(table)["near"].to_list() == [0, 0]

    def test_blocks_name_what_is_farthest_off(self):
        blocks = calibration.by_block(calibration.beside(AIMS, FOUND, ["s"]))
        assert blocks.rows() == [
            ("a", 3, 2, pytest.approx(0.15), -0.25, "s: z"),
            ("c", 1, 1, 0, 0, None),
        ]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> calibration.Figures:
    """What is measured in a testbed of a few hosts."""
    folder = tmp_path_factory.mktemp("little")
    for site in ("chi_uc", "kvm_tacc"):
        make(site, folder, 1, Profile("tiny", 1.0), with_decay=True, factors={})
    made = datetime(2017, 6, 1)  # noqa: DTZ001 - naive UTC
    times = dict.fromkeys(["created_at", "start", "end", "deleted_at"], made)
    rows = [
        {"site": site, "user": "u", "gpu": gpu, "nodes": 1} | times
        for site in ("chi_tacc", "chi_uc")
        for gpu in (True, False)
    ]
    sites = (outcome.of_site(folder / s, s, DOCUMENT) for s in ("chi_uc", "kvm_tacc"))
    return outcome.behaviour(leases.measured(pl.DataFrame(rows))) | outcome.by_name(sites)


class TestOutcome:
    def test_every_target_of_a_made_site_is_measured(self, found):
        aims = calibration.beside(TARGETS, found, ["chi_uc", "kvm_tacc"])
        assert aims.filter(pl.col("outcome").is_null())["name"].to_list() == []
        assert aims["site"].unique().sort().to_list() == ["", "chi_uc", "kvm_tacc"]

    def test_sizes_of_nodes_are_exact_whatever_the_scale(self, found):
        sizes = calibration.beside(TARGETS, found, ["chi_uc"]).filter(block="size of a node")
        assert sizes.height > 40
        assert sizes["deviation"].fill_null(0).to_list() == [0] * sizes.height

    def test_behaviour_is_that_of_the_leases_given(self, found):
        assert found["leases", calibration.BOTH, "cancelled_before_start_share, all"] == 1
        assert found["share or count", "chi_uc", "robot_share"] == 0
