"""The sentences that open a page of results: true for any data, or not there."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from chameleon_usage.models.outputs import OUTPUTS
from paper import findings, run
from paper.context import context

START = datetime(2019, 1, 1, tzinfo=UTC)
YEAR = 365


def usage(values: dict[str, list[float | None]], *, collector="corrected", site="a"):
    """A usage timeline from a value for each year, 2019 on (none of them a leap year)."""
    rows = [
        (site, START + timedelta(days=YEAR * year + day), collector, kind, value)
        for kind, years in values.items()
        for year, value in enumerate(years)
        for day in range(YEAR)
    ]
    names = {"site": pl.String, "timestamp": pl.Datetime("us", "UTC"), "collector_type": pl.String}
    return pl.DataFrame(
        rows, schema={**names, "count_type": pl.String, "value": pl.Float64}, orient="row"
    )


def compared(count: str, legacy: float, corrected: float, node_type: str | None = None):
    """A year of the comparison."""
    frame = pl.DataFrame(
        {
            "timestamp": [START + timedelta(days=day) for day in range(YEAR)],
            "count_type": count,
            "legacy": legacy,
            "corrected": corrected,
            "difference": corrected - legacy,
        }
    ).cast({"timestamp": pl.Datetime("us", "UTC")})
    return frame if node_type is None else frame.with_columns(node_type=pl.lit(node_type))


NO_TYPES = compared("total", 0, 0, "x").clear()


class TestUse:
    def test_names_the_years_of_the_largest_and_the_smallest_share(self):
        found = findings.use(usage({"total": [10, 20], "occupied": [5, 5], "active": [4, 4]}))
        assert found["used_share"] == pytest.approx(10 / 30)
        assert (found["used_peak"], found["used_peak_share"]) == (2019, 0.5)
        assert (found["used_low"], found["used_low_share"]) == (2020, 0.25)
        assert found["ran_share"] == pytest.approx(0.8)

    def test_a_year_that_is_not_known_is_passed_over(self):
        found = findings.use(usage({"total": [10, 20, 10], "occupied": [5, None, 9]}))
        assert (found["used_peak"], found["used_low"]) == (2021, 2019)
        assert found["used_share"] == pytest.approx(14 / 20)

    def test_what_nobody_knows_is_not_found(self):
        found = findings.use(
            usage({"total": [9], "occupied": [None], "committed": [3], "reservable": [9]})
        )
        assert found == {"leased_share": pytest.approx(1 / 3)}

    def test_beside_capacity_on_demand_leases_are_told_of_all_nodes_too(self):
        pool = {"total": [10], "reservable": [4], "committed": [2], "occupied": [None]}
        found = findings.use(usage(pool | {"ondemand_capacity": [6]}))
        assert (found["leased_share"], found["leased_of_all"]) == (0.5, pytest.approx(0.2))
        assert "leased_of_all" not in findings.use(usage(pool | {"ondemand_capacity": [0]}))

    def test_the_year_of_opening_counts_from_the_first_node(self):
        late = usage({"total": [10, 10], "occupied": [5, 4]}).with_columns(
            pl.when(pl.col("timestamp") >= START + timedelta(days=300))
            .then("value")
            .otherwise(0.0)
            .alias("value")
        )
        assert findings.use(late)["used_peak_share"] == 0.5


class TestGap:
    def test_is_that_of_the_count_and_year_furthest_apart(self):
        found = findings.gap(
            pl.concat([compared("total", 9, 10), compared("committed", 9, 6)]), NO_TYPES
        )
        assert found == {
            "gap_year": 2019,
            "gap_count": "committed",
            "gap_nodes": 3,
            "gap_word": "fewer",
            "gap_share": 0.5,
        }

    def test_tells_the_nodes_of_types_that_legacy_has_none_of(self):
        types = [("old name", 6, 0), ("new name", 0, 6), ("both", 3, 4), ("new", 0, 2)]
        by_type = pl.concat(compared("total", lg, co, name) for name, lg, co in types)
        found = findings.gap(compared("total", 9, 12), by_type)
        assert (found["gap_nodes"], found["gap_types"]) == (3, 2)

    def test_without_legacy_there_is_none(self):
        untold = compared("total", 9, 12).with_columns(
            pl.lit(None, pl.Float64).alias(name) for name in ("legacy", "difference")
        )
        assert findings.gap(untold, NO_TYPES) == {}
        assert findings.gap(compared("total", 9, 9), NO_TYPES) == {}


def test_today_s_rows_are_held_to_the_corrected_count_of_the_same_year():
    both = [
        usage({"total": [10, 10], "committed": [5, 5]}),
        usage({"total": [8, 10], "committed": [5, 1]}, collector="uncorrected"),
    ]
    assert findings.at_their_word(pl.concat(both)) == {
        "word_year": 2020,
        "word_count": "committed",
        "word_uncorrected": 1,
        "word_corrected": 5,
    }
    assert findings.at_their_word(both[0]) == {}


class TestBusiest:
    def types(self, **of: tuple[float, float]) -> pl.DataFrame:
        return pl.concat(
            usage({"total": [total], "active": [active], "committed": [active]}).with_columns(
                resource=pl.lit("nodes"), node_type=pl.lit(name)
            )
            for name, (total, active) in of.items()
        )

    def test_is_by_share_of_its_own_time_and_most_by_node_hours(self):
        found = findings.busiest(self.types(small=(2, 2), large=(10, 5), rare=(0.01, 0)))
        assert (found["busy_type"], found["quiet_type"]) == ("small", "large")
        assert (found["most_type"], found["most_share"]) == ("large", pytest.approx(5 / 7))

    def test_nodes_of_no_known_type_are_told_and_not_ranked(self):
        found = findings.busiest(self.types(small=(2, 2), large=(10, 5), unknown=(4, 0)))
        assert (found["quiet_type"], found["untyped_share"]) == ("large", 0.25)

    def test_of_one_type_there_is_nothing_to_say(self):
        assert findings.busiest(self.types(only=(2, 2))) == {}


class TestAhead:
    def leases(self, hours: list[float | None], outcome: str = "started") -> pl.DataFrame:
        return pl.DataFrame({"requested_h": hours, "outcome": outcome}).cast(
            {"requested_h": pl.Float64, "outcome": pl.String}
        )

    def test_counts_those_made_ahead(self):
        found = findings.ahead(
            pl.concat([self.leases([0.0, 0.5, 2.0, 4.0]), self.leases([None], "error")])
        )
        assert (found["advance_share"], found["advance_hours"]) == (0.5, 3)
        assert found["failed_share"] == 0.2

    def test_without_leases_there_is_none(self):
        assert findings.ahead(self.leases([])) == {}


def test_what_another_source_tells_is_not_refused():
    audit = pl.DataFrame(
        [
            ("corrected total", "hosts", "1", "a source of higher priority speaks", 500.0),
            ("corrected total", "hosts", "2", "duplicate of another row of the host", 60.0),
            ("corrected total", "hosts", "2", "no start", 5.0),
            ("uncorrected total", "hosts", "3", "no end", 50.0),
        ],
        schema=["stage", "source", "source_row_id", "reason", "hours"],
        orient="row",
    )
    found = findings.refused(audit)
    assert (found["refused_rows"], found["refused_records"]) == (2, 1)
    assert (found["refused_reason"], found["refused_hours"]) == ("no start", 5)
    assert findings.refused(audit.clear()) == {"refused_rows": 0}


class TestAcrossSites:
    NAMES = {"a": "A", "b": "B"}  # noqa: RUF012

    def site(self, site: str, total: float, **more: float | None) -> pl.DataFrame:
        parts = {"total": total, "reservable": total, "ondemand_capacity": 0.0, **more}
        return usage({kind: [value] for kind, value in parts.items()}, site=site)

    def test_adds_the_sites_up(self):
        both = [
            self.site("a", 10, committed=5, occupied=5),
            self.site("b", 30, committed=5, occupied=3),
        ]
        found = findings.across_sites(pl.concat(both), self.NAMES)
        assert (found["size_nodes"], found["last_free"], found["sites"]) == (40, 32, 2)
        assert (found["part_site"], found["part_share"]) == ("A", pytest.approx(5 / 8))
        assert (found["best_site"], found["worst_site"]) == ("A", "B")
        assert "unknown_sites" not in found
        assert "held_peak" not in found  # of one year only

    def test_what_is_in_a_maintenance_window_could_not_have_been_used(self):
        one = self.site(
            "a", 10, committed=5, occupied=4, occupied_ondemand=0, available=3, available_ondemand=0
        )
        assert findings.across_sites(one, self.NAMES)["last_free"] == 4

    def test_a_site_of_unknown_use_is_not_compared(self):
        both = [
            self.site("a", 10, committed=5, occupied=None),
            self.site("b", 30, committed=5, occupied=3),
        ]
        found = findings.across_sites(pl.concat(both), self.NAMES)
        assert found["unknown_sites"] == "A"
        assert "best_site" not in found


def empty(folder):
    """Write the output tables of a site of which nothing is known."""
    for name in ("usage_timeline", "usage_by_node_type", "leadtime_leases", "lease_use", "rejects"):
        OUTPUTS[name].create_empty().write_parquet(folder / f"{name}.parquet")
    for name in ("comparison", "comparison_by_node_type"):
        OUTPUTS[name].create_empty().write_parquet(folder / f"{name}.parquet")


class TestSentences:
    """A page glues what was found, and nothing else."""

    FULL = {  # noqa: RUF012 - what each sentence needs
        "used": {"used_share": 0.5},
        "used years": {"used_peak": 1, "used_peak_share": 1, "used_low": 1, "used_low_share": 1},
        "ran": {"ran_share": 0.9},
        "leased": {"leased_share": 0.5},
        "leased of all": {"leased_of_all": 0.1},
        "leased years": {f"leased_{w}": 1 for w in ("peak", "peak_share", "low", "low_share")},
        "idle": {"idle_share": 0.1},
        "busy": {
            "busy_word": "leased",
            **{f"{w}_{x}": 1 for w in ("busy", "quiet", "most") for x in ("type", "share")},
        },
        "untyped": {"untyped_share": 0.1},
        "leases": {"leases": 5, "advance_share": 0.1, "failed_share": 0.1},
        "advance": {"advance_hours": 3.0},
        "unused": {f"{w}_share": 0.1 for w in ("unused", "never", "waiting", "after", "no_show")},
        "given back": {"given_back_share": 0.4},
        "gap": {"gap_year": 1, "gap_count": "total", "gap_nodes": 3.0, "gap_word": "more"},
        "gap share": {"gap_share": 0.5},
        "gap types": {"gap_types": 1.0},
        "word": {f"word_{w}": 1 for w in ("year", "count", "uncorrected", "corrected")},
        "refused": {"refused_rows": 3},
        "records": {"refused_records": 2},
        "reason": {f"refused_{w}": 1 for w in ("hours", "reason", "source")},
    }

    def glued(self, notebook: str, found: dict, values: dict) -> set[str]:
        page = run.read_notebook(notebook)
        words = context(run.parameters(page, notebook, tuple(values.items())))
        run.fill(page, notebook, words | {"found": found, "has_lease_use": True})
        text = "\n".join(c.source for c in page.cells if c.cell_type == "markdown")
        return set(re.findall(r"\{glue:text\}`(\w+):", text))

    @pytest.mark.parametrize("without", [None, *FULL])
    def test_of_a_site_stand_where_their_numbers_are(self, without):
        found = {
            k: v for name, part in self.FULL.items() if name != without for k, v in part.items()
        }
        glued = self.glued("site", found, {"site": "chi_uc"})
        assert glued <= {f"chi_uc_{name}" for name in found}
        if without is None:
            words = {"busy_word", "gap_word"}
            assert glued == {f"chi_uc_{name}" for name in found.keys() - words}

    def test_of_nothing_there_are_none(self, tmp_path):
        assert findings.of_site(tmp_path) == {}
        empty(tmp_path)
        found = findings.of_site(tmp_path)
        assert found == {"refused_rows": 0}
        assert self.glued("site", found, {}) == {"chi_tacc_refused_rows"}
        assert self.glued("site", {}, {}) == set()
        assert self.glued("cross_site", {}, {}) == set()

    @pytest.mark.parametrize("sites", [["a"], ["a", "b"]])
    def test_of_all_sites_stand_where_their_numbers_are(self, sites):
        of = TestAcrossSites()
        parts = [of.site(s, 10.0 * n, committed=5, occupied=5) for n, s in enumerate(sites, 1)]
        found = findings.across_sites(pl.concat(parts), of.NAMES)
        assert self.glued("cross_site", found, {}) <= {f"all_{name}" for name in found}
