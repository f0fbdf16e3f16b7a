"""The recorded errors: complete, computed as they are said to be, and the same when made again."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from chameleon_twin.calibration import damages
from paper import errors, validation
from paper.twins import put

START = datetime(2024, 1, 1)  # noqa: DTZ001 - the services keep naive UTC
WRITTEN = errors.services_sites()


def recorded(*rows: tuple[str, str, int, str, str, float]) -> pl.DataFrame:
    """Rows of the record, every day known."""
    rows_ = [(*row, 1.0) for row in rows]
    return pl.DataFrame(rows_, schema=errors.COLUMNS, orient="row")


class TestRuns:
    def test_each_damage_where_it_can_be_and_none_beside_it(self):
        runs = list(errors.runs())
        assert len(set(runs)) == len(runs)
        assert {(s, n) for s, what, n in runs if what == errors.NOTHING} == {
            (site, errors.SEEDS[0]) for site in errors.DAMAGED
        }
        assert {what for _, what, _ in runs} == {errors.NOTHING, errors.EVERY, *damages()}
        assert ("chi_tacc", "renamed", errors.SEEDS[0]) not in runs
        assert ("kvm_tacc", "renamed", errors.SEEDS[0]) in runs

    def test_as_asked(self):
        assert list(errors.runs(["chi_uc"], ["lease_gone"])) == [
            ("chi_uc", "lease_gone", errors.SEEDS[0])
        ]

    def test_an_unknown_damage_is_refused(self):
        result = CliRunner().invoke(errors.main, ["--damage", "no_such"])
        assert result.exit_code == 2
        assert "no_such" in result.output
        assert "lease_gone" in result.output


class TestRecord:
    def test_has_every_run_and_no_other(self):
        runs = errors.read_record().select("site", "damage", "seed").unique()
        twins = runs.filter(~pl.col("site").str.starts_with("services/"))
        assert set(twins.rows()) == set(errors.runs())
        services = runs.filter(pl.col("site").str.starts_with("services/"))
        assert services["site"].to_list() == [] or set(services["site"]) == {
            errors.services_site(*place) for place in WRITTEN
        }

    def test_is_sorted_and_each_row_once(self):
        record = errors.read_record()
        assert_frame_equal(record, record.sort(errors.KEY))
        assert record.select(errors.KEY).is_unique().all()

    def test_what_is_measured_anew_takes_the_place_of_the_same_run_alone(self, tmp_path):
        path, run = tmp_path / "errors.csv", ["site", "damage", "seed"]
        a = ("a", "nothing", 1, "2022_on", "total", 0.1)
        b = ("a", "nothing", 2, "2022_on", "total", 0.2)
        gone = ("a", "nothing", 1, "2016_2021", "total", 0.3)
        put(path, recorded(b, gone), run, errors.KEY)
        put(path, recorded(a), run, errors.KEY)
        assert_frame_equal(pl.read_csv(path, schema=errors.COLUMNS), recorded(a, b))

    def test_what_the_services_wrote_is_as_far_as_recorded(self):
        if not WRITTEN:
            pytest.skip("no site that the services wrote is here")
        site = errors.services_site(*WRITTEN[0])
        again = errors.measure_services(*WRITTEN[0])
        kept = errors.read_record().filter(pl.col("site") == site)
        assert_frame_equal(again, kept, abs_tol=2e-6, rel_tol=0)

    @pytest.mark.slow
    def test_made_again_it_is_the_same(self):
        run = ("kvm_tacc", "renamed", errors.SEEDS[0])
        kept = errors.read_record().filter(site=run[0], damage=run[1], seed=run[2])
        assert len(kept)
        assert_frame_equal(errors.measure(*run), kept, abs_tol=2e-6, rel_tol=0)


class TestSharesOfHosts:
    def test_shares_add_up_to_a_whole_host_at_most(self):
        def row(kind: str, start: int, end: int, vcpus: int) -> tuple[object, ...]:
            return kind, "h", START + timedelta(days=start), START + timedelta(days=end), vcpus

        told = pl.DataFrame(
            [row("total", 0, 9, 8), row("occupied_ondemand", 1, 5, 6),
             row("occupied_ondemand", 3, 7, 4), row("committed", 2, 3, 2)],
            schema=["kind", "hypervisor_hostname", "start", "end", "vcpus"], orient="row",
        )  # fmt: skip
        shares = errors.shares_of_hosts(told)
        rows = shares.with_columns(
            pl.col("start", "end").map_elements(lambda t: (t - START).days, return_dtype=pl.Int64)
        ).sort("quantity_type", "start")
        assert rows.select("quantity_type", "start", "end", "nodes").rows() == [
            ("committed", 2, 3, 0.25),
            ("occupied_ondemand", 1, 3, 0.75),
            ("occupied_ondemand", 3, 5, 1.0),
            ("occupied_ondemand", 5, 7, 0.5),
            ("total", 0, 9, 1.0),
        ]


class TestTables:
    def test_more_damage_is_held_against_the_same_twin(self):
        record = recorded(
            ("a", "nothing", 1, "2022_on", "total", 0.01),
            ("a", "nothing", 2, "2022_on", "total", 0.09),
            ("a", "lost", 1, "2022_on", "total", 0.03),
            ("a", "lost", 1, "2022_on", "committed", 0.03),
        )
        (row,) = validation.with_more_damage(record).to_dicts()
        assert (row["damage"], row["with_all"]) == ("lost", 0.01)
        assert row["added"] == pytest.approx(2)

    def test_each_damage_stands_where_it_matters_most(self):
        kinds = {
            name: {"what": f"is {name}", "rate": 0.1, "of": "rows", "mark": "assumed"}
            for name in ("lost", "other", "absent")
        }
        record = recorded(
            *((site, "nothing", 1, "2022_on", "total", 0.01) for site in "ab"),
            ("a", "lost", 1, "2022_on", "total", 0.02),
            ("b", "lost", 1, "2022_on", "total", 0.04),
            ("a", "other", 1, "2022_on", "total", 0.01),
        )
        worst = validation.worst_of_each(validation.with_more_damage(record), kinds)
        assert worst["what"].to_list() == ["is lost", "is other", "is absent"]
        assert worst["site"].to_list() == ["b", "a", None]
        assert worst["error"].to_list() == [0.04, 0.01, None]

    def test_of_the_services_a_release_beside_the_other(self):
        record = recorded(
            ("services/1/kvm", "nothing", 0, "2022_on", "total", 0.01),
            ("services/2/kvm", "nothing", 0, "2022_on", "total", 0.02),
            ("a", "nothing", 1, "2022_on", "total", 0.5),
        )
        (row,) = validation.of_services(record).to_dicts()
        assert row == {
            "place": "kvm", "count_type": "total", "error_1": 0.01, "error_2": 0.02,
            "known_days_1": 1.0, "known_days_2": 1.0,
        }  # fmt: skip
