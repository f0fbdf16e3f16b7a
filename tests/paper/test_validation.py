"""The truth, integrated apart from the pipeline, and how far each collector is from it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from paper import seeds, validation
from paper.ablation import ABLATIONS, NOTHING
from paper.truth import daily_truth
from support import PROJECT

START = datetime(2019, 1, 1, tzinfo=UTC)
DAYS = pl.Series([START + timedelta(days=n) for n in range(3)], dtype=pl.Datetime("us", "UTC"))


def intervals(*rows: tuple[str, float, float, int]) -> pl.DataFrame:
    """Intervals from (quantity, first hour, last hour, nodes)."""
    at = [
        (kind, START + timedelta(hours=a), START + timedelta(hours=b), n) for kind, a, b, n in rows
    ]
    stamp = pl.Datetime("us", "UTC")
    schema = {"quantity_type": pl.String, "start": stamp, "end": stamp, "nodes": pl.Int64}
    return pl.DataFrame(at, schema=schema, orient="row")


class TestTruth:
    def test_a_lease_of_22_hours_counts_22_of_24(self):
        truth = daily_truth(intervals(("committed", 1, 23, 1)), DAYS, ["committed"])
        assert truth["truth"].to_list() == pytest.approx([22 / 24, 0, 0])

    def test_what_runs_over_midnight_or_out_of_the_days_is_cut(self):
        rows = intervals(("total", -24, 36, 2), ("total", 60, 100, 4))
        assert daily_truth(rows, DAYS, ["total"])["truth"].to_list() == pytest.approx([2, 1, 2])

    def test_other_buckets_are_counted_as_they_are_long(self):
        hours = pl.Series([START + timedelta(hours=n) for n in range(3)], dtype=DAYS.dtype)
        rows = intervals(("total", 0.5, 2.25, 4))
        assert daily_truth(rows, hours, ["total"])["truth"].to_list() == pytest.approx([2, 4, 1])

    def test_occupied_is_the_sum_of_its_two_parts(self):
        rows = intervals(("occupied_reservation", 0, 24, 1), ("occupied_ondemand", 0, 12, 1))
        truth = daily_truth(rows, DAYS, ["occupied", "total"])
        assert truth["truth"].to_list() == pytest.approx([1.5, 0, 0, 0, 0, 0])

    def test_idle_is_leased_without_an_instance_and_stopped_is_held_without_running(self):
        rows = intervals(
            *(("committed", 0, 24, 3), ("occupied_reservation", 0, 12, 2)),
            *(("occupied_ondemand", 0, 24, 1), ("active_reservation", 6, 12, 2)),
        )
        truth = daily_truth(rows, DAYS, ["idle", "stopped"])
        assert truth["truth"].to_list() == pytest.approx([2, 0, 0, 1.5, 0, 0])

    def test_it_shares_no_code_with_what_it_judges(self):
        text = (PROJECT / "paper" / "truth.py").read_text(encoding="utf-8")
        assert not re.search(r"(?m)^\s*(?:from|import) (?:chameleon|paper)", text)


def usage(values: list[float | None], collector: str = "corrected") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "site": "a",
            "timestamp": DAYS,
            "collector_type": collector,
            "count_type": "total",
            "value": values,
        },
        schema_overrides={"value": pl.Float64},
    )


def truth(values: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"timestamp": DAYS, "count_type": "total", "truth": values})


class TestErrors:
    def test_are_shares_of_the_truth_on_the_days_with_a_value(self):
        (row,) = validation.errors(usage([9, 12, None]), truth([10.0, 10.0, 10.0])).to_dicts()
        assert (row["site"], row["era"], row["collector_type"]) == ("a", "2018_2019", "corrected")
        assert row["error"] == pytest.approx(3 / 20)
        assert row["bias"] == pytest.approx(1 / 20)
        assert row["known_days"] == pytest.approx(2 / 3)
        assert (row["mean_absolute_nodes"], row["bias_nodes"]) == (1.5, 0.5)

    def test_a_day_without_a_row_is_a_day_without_a_value(self):
        both = pl.concat([usage([10, 10, 10]), usage([5, 5, 5], "legacy").head(1)])
        errors = validation.errors(both, truth([10.0, 10.0, 10.0]))
        known = dict(errors.select("collector_type", "known_days").iter_rows())
        assert known == {"corrected": 1, "legacy": pytest.approx(1 / 3)}

    def test_an_era_of_nothing_is_left_out(self):
        assert validation.errors(usage([0, 0, 1]), truth([0.0, 0.0, 0.0])).is_empty()


class TestAblation:
    def test_a_correction_is_worth_the_error_that_it_takes_away(self):
        counted = pl.concat(
            usage(values).drop("collector_type").with_columns(left_out=pl.lit(name))
            for name, values in (("nothing", [9, 10, 99]), ("merging", [13, 10, 99]))
        )
        published = usage([9, 10, None])  # the third day is not judged
        without = validation.errors_without(counted, published, truth([10.0, 10.0, 10.0]))
        (row,) = validation.added_errors(without, "nothing").to_dicts()
        assert row["left_out"] == "merging"
        assert (row["with_all"], row["error"]) == (pytest.approx(0.05), pytest.approx(0.15))
        assert row["added"] == pytest.approx(10)


class TestTables:
    ROWS = pl.DataFrame(
        [
            ("a", n, "all", "total", "corrected", measure, "2022_on", value)
            for measure, values in (
                ("error_site", (0.01, 0.05, 0.02)),
                ("inferred", (0.2, 0.3, 0.4)),
                ("inferred_wrong", (0.0, 0.1, 0.0)),
            )
            for n, value in enumerate(values)
        ],
        schema=seeds.COLUMNS,
        orient="row",
    )

    def test_the_median_stands_between_the_ends(self):
        of = validation.ranges(self.ROWS).filter(measure="error_site")
        assert of.select("low", "mid", "high").row(0) == (0.01, 0.02, 0.05)
        told = validation.by_count(validation.in_percent(of)).to_dicts()
        assert told == [{"site": "a", "era": "2022_on", "total": "2.00 (1.00–5.00)"}]

    def test_of_what_is_inferred_the_worst_twin_says_how_much_is_right(self):
        (row,) = validation.inferred(validation.ranges(self.ROWS), ["total"]).to_dicts()
        assert (row["total_share"], row["total_right"]) == (0.3, pytest.approx(0.9))

    def test_years_that_steered_stand_apart_from_others(self):
        halves = pl.DataFrame(
            {
                "site": "a",
                "steered_by": ["all", "all", "even", "even", "odd", "odd"],
                "collector_type": "legacy",
                "count_type": "total",
                "year": [2018, 2019] * 3,
                "real": 10.0,
                "twin": [10.0, 11.0, 12.0, 5.0, 6.0, 10.0],
            }
        )
        (row,) = validation.apart_by_half(halves).to_dicts()
        assert (row["all"], row["inside"], row["outside"], row["years"]) == (
            pytest.approx(0.05),
            pytest.approx(0.1),
            pytest.approx(0.45),
            2,
        )

    def test_what_half_of_the_years_moves(self):
        half = self.ROWS.head(1).with_columns(steered_by=pl.lit("even"), value=0.04)
        assert validation.moved_by_half(pl.concat([self.ROWS, half])) == pytest.approx(3)
        assert validation.moved_by_half(self.ROWS) is None


class TestWorstDays:
    def test_are_those_that_are_off_by_most_nodes_and_say_how_much_is_undercount(self):
        off = pl.concat(
            usage(values).with_columns(count_type=pl.lit(count))
            for count, values in (("total", [9, 10, 11]), ("reservable", [4, 12, 10]))
        )
        true = pl.concat(
            truth([10.0, 10.0, 10.0]).with_columns(count_type=pl.lit(count))
            for count in ("total", "reservable")
        )
        worst = validation.worst_days(validation.errors(off, true))
        assert worst["count_type"] == "reservable"
        assert worst["under"] == pytest.approx(6 / 8)

    @pytest.mark.parametrize(
        ("parts", "words"), [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b and c")]
    )
    def test_a_list_reads_as_words(self, parts, words):
        assert validation.listed(parts) == words


def test_days_of_services_are_told_apart_by_what_blazar_keeps():
    rows = [("2023.1", 0.5), ("2026.2", 0.6), ("chameleon-2023.1", 1.0)]
    recorded = pl.DataFrame(
        {
            "site": [f"services/{release}/kvm" for release, _ in rows],
            "count_type": "committed",
            "known_days": [days for _, days in rows],
        }
    )
    told = validation.days_of_services(recorded)
    assert told == {"chameleon": "100%", "committed_kvm": "50% to 60%"}


def test_every_correction_of_the_figure_is_told_in_the_table_beside_it():
    page = (PROJECT / "notebooks/validation.py").read_text()
    rows = [line for line in page.splitlines() if line.startswith("# | ")]
    labels = [what.label for name, what in ABLATIONS.items() if name != NOTHING]
    told = " ".join(row.split("|")[1] for row in rows)
    assert [label for label in labels if label not in told] == []


def test_what_a_step_costs_is_what_its_lack_saves():
    added = pl.DataFrame(
        {
            "site": "a",
            "era": ["2018_2019", "2022_on"],
            "count_type": "total",
            "left_out": "merging",
            "added": [3.0, -0.5],
        }
    )
    assert validation.most_costly(added).select("era", "saved").row(0) == ("2022_on", 0.5)
