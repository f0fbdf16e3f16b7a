"""The real record: what the project carries is what the recipe makes of the published files."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from paper import leases as of_leases
from support import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

REAL = PROJECT / "data" / "real"
LEASES = pl.read_csv(REAL / "published_leases.csv")

# What was published of the leases of both sites, and to how many digits (DOMAIN, section 3).
PUBLISHED = {
    "non_gpu": {
        "advance_share": 0.061,
        "advance_lead_median_h": 17.1,
        "advance_lead_p90_h": 130,
        "requested_median_h": 48,
        "actual_median_h": 6.1,
    },
    "gpu": {
        "advance_share": 0.327,
        "advance_lead_median_h": 62.8,
        "advance_lead_p90_h": 277,
        "requested_median_h": 144,
        "actual_median_h": 22.4,
    },
    "all": {
        "released_early_share": 0.83,
        "cancelled_before_start_share": 0.015,
        "seven_day_share": 0.226,
        "longer_than_seven_days_share": 0.078,
    },
}


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("recipe", REAL / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files_of(directory: Path, *sites: str) -> Path:
    """The folder of the published files, if it has those of the sites."""
    for site in sites:
        folder = f"chameleon_leases_{site.removeprefix('chi_')}"
        if not (directory / folder).is_dir():
            pytest.skip(f"the published files of {site} ({folder}) are not here")
    return directory


def figures_of(leases: pl.DataFrame) -> dict[tuple[str, str], float]:
    """(kind of node, figure) to value, of all years and both sites."""
    chosen = leases.filter(site=of_leases.BOTH, era="all")
    return {(n, f): v for n, f, v in chosen.select("nodes", "figure", "value").iter_rows()}


def assert_published(found: dict[tuple[str, str], float]) -> None:
    for nodes, figures in PUBLISHED.items():
        for figure, value in figures.items():
            # Shares were published to a tenth of a percent.
            assert found[nodes, figure] == pytest.approx(value, rel=0.01, abs=0.0005), (
                nodes,
                figure,
            )


def test_the_carried_figures_are_those_that_were_published():
    assert_published(figures_of(LEASES))
    both = LEASES.filter(site=of_leases.BOTH, era="all", nodes="all", figure="advance_share")
    assert both["leases"].item() == 14_032
    robots = pl.read_csv(REAL / "published_robots.csv")
    assert both["leases"].item() + robots["leases"].sum() == 43_700


def test_the_calibration_of_the_twin_has_the_same_figures():
    calibration = yaml.safe_load((PROJECT / "data" / "calibration.yaml").read_text())["leases"]
    assert {"all": {k: v for k, v in calibration.items() if k not in ("gpu", "non_gpu")}} | {
        k: calibration[k] for k in ("gpu", "non_gpu")
    } == PUBLISHED


def test_every_figure_lies_in_its_interval_and_nothing_names_anyone():
    assert LEASES.remove(pl.col("value").is_between("low", "high")).is_empty()
    survival = pl.read_csv(REAL / "published_survival.csv")
    assert survival.remove(pl.col("share").is_between("low", "high")).is_empty()
    falling = pl.col("share").diff().over("site", "era", "nodes", "quantity") <= 0
    assert survival.select(falling.fill_null(value=True).all()).item()
    for path in REAL.glob("published_*.csv"):
        columns = set(pl.read_csv(path).columns)
        assert not columns & {"user", "user_id", "lease_id", "project_id", "host"}, path


@pytest.mark.real
class TestRecipe:
    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc"])
    def test_the_carried_aggregates_are_those_of_the_published_files(self, recipe, real_data, site):
        directory = files_of(real_data, site)
        recipe.check_sources(directory, [site])
        made = recipe.aggregates(directory, [site])
        assert made
        for name, frame in made.items():
            carried = pl.read_csv(REAL / name).filter(site=site)
            assert_frame_equal(frame, carried, check_dtypes=False, abs_tol=1e-9)

    def test_the_files_of_both_sites_give_the_published_figures(self, recipe, real_data):
        sites = ["chi_tacc", "chi_uc"]
        directory = files_of(real_data, *sites)
        leases = pl.concat(recipe.read_leases(directory, site) for site in sites)
        assert leases.height == 43_700
        people = of_leases.without_robots(leases)
        assert people.height == 14_032
        assert_published(figures_of(of_leases.figures(people)))

    def test_the_folder_says_what_ten_minutes_say(self, recipe, real_data):
        leases = recipe.read_leases(real_data, "chi_tacc")
        assert leases.remove((pl.col("kind") == "in_advance") == of_leases.ADVANCE).is_empty()

    @pytest.mark.parametrize("minutes", [1, 5])
    @pytest.mark.parametrize("least", [50, 100, 10_000])
    def test_the_robot_does_not_hang_on_where_the_rule_draws_the_line(
        self, recipe, real_data, monkeypatch, minutes, least
    ):
        monkeypatch.setattr(of_leases, "ROBOT_MINUTES", minutes)
        monkeypatch.setattr(of_leases, "ROBOT_LEASES", least)
        found = of_leases.robots(recipe.read_leases(real_data, "chi_tacc"))
        assert found.select("leases", "median_minutes").rows() == [(15_421, 0.5)]
