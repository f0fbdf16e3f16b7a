"""The published record beside our count: the same years, the same months, the same leases."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from paper import published, record

STAMP = pl.Datetime("us", "UTC")
CALIBRATION = {
    "real_curves": {
        "chi_uc": {
            "legacy_total": {2016: [8.0, 12], 2017: [10.0, 12]},
            "current_idle": {2017: [4.0, 12]},
            "events_total": {2017: [99.0, 12]},
        }
    },
    "curves_begin": {"chi_uc": {"legacy_total": date(2016, 7, 1)}},
    "curves_end": date(2018, 1, 1),
}
FACTS = {
    "uc_2017_legacy_total": {"value": 11},
    "uc_2018_legacy_total": {"value": 12},
    "uc_nodes": {"value": 5},
}


def usage(values: list[tuple[date, float]], kind="total", collector="legacy") -> pl.DataFrame:
    times = [datetime(d.year, d.month, d.day, tzinfo=UTC) for d, _ in values]
    return pl.DataFrame(
        {
            "site": "chi_uc",
            "timestamp": pl.Series(times, dtype=STAMP),
            "collector_type": collector,
            "count_type": kind,
            "value": [value for _, value in values],
        }
    )


class TestYears:
    def test_facts_stand_in_where_the_curve_lacks_a_year(self):
        real = record.published_means(CALIBRATION, FACTS)
        assert real.drop("record").rows() == [
            ("chi_uc", "legacy", "total", 2016, 8.0),
            ("chi_uc", "legacy", "total", 2017, 10.0),
            ("chi_uc", "uncorrected", "idle", 2017, 4.0),
            ("chi_uc", "legacy", "total", 2018, 12.0),
        ]

    def test_our_means_are_over_the_part_that_the_curves_cover(self):
        days = [(date(2016, 6, 30), 99.0), (date(2016, 7, 1), 6.0), (date(2017, 1, 1), 9.0)]
        ours = record.our_means(usage([*days, (date(2018, 1, 1), 99.0)]), CALIBRATION, "twin")
        assert ours.select("year", "value", "record").rows() == [
            (2016, 6, "twin"),
            (2017, 9, "twin"),
        ]

    def test_alike_is_within_15_percent_and_idle_is_told_in_nodes(self):
        real = record.published_means(CALIBRATION, {})
        means = {(2016, "total"): 6.0, (2017, "total"): 9.0, (2017, "idle"): 1.0}
        ours = real.with_columns(
            value=pl.Series(
                [means[y, k] for y, k in real.select("year", "count_type").iter_rows()]
            ),
            record=pl.lit("twin"),
        )
        both = pl.concat([real, ours])
        measured = record.likeness(both, "twin")
        assert measured["difference"].to_list() == pytest.approx([-0.25, -0.1])
        assert measured["near"].to_list() == [False, True]
        assert record.idle_apart(both, "twin").to_list() == [3]
        (row,) = record.likeness_by_series(measured).rows()
        assert row == ("chi_uc", "legacy", "total", 2, 1, pytest.approx(-0.175))


class TestMonths:
    MEANS = pl.DataFrame(
        {
            "site": "chi_tacc",
            "collector_type": "legacy",
            "count_type": ["committed", "committed", "occupied"],
            "year": [2017, 2030, 2017],
            "value": [30.0, 9.0, 9.0],
        }
    )

    def months(self, folder, *months: str) -> pl.DataFrame:
        rows = [f"chi_tacc,{m},committed,12.0" for m in months]
        rows += ["chi_uc,2017-05,total,9.0", "chi_tacc,2017-05,total,5.0"]
        text = "\n".join(["site,month,quantity_type,nodes", *rows])
        (folder / "published_monthly.csv").write_text(text)
        return published.published_months(folder, self.MEANS, ["chi_tacc"])

    def test_files_and_caches_stand_side_by_side(self, tmp_path):
        told = self.months(tmp_path, "2017-04")
        assert told.select("count_type", "record", "value").rows() == [
            ("committed", published.FILES, 12),
            ("total", published.FILES, 5),
            ("committed", published.CACHES, 30),
        ]
        assert told["timestamp"].dt.month().to_list() == [4, 5, 1]

    def test_ours_are_of_the_months_that_were_published(self, tmp_path):
        told = self.months(tmp_path, "2017-04")
        counted = usage([(date(2017, m, 1), 4.0) for m in (3, 4, 5)], "committed", "corrected")
        ours = published.our_months(
            counted.with_columns(pl.lit("chi_tacc").alias("site")), told, "twin"
        )
        assert ours.select(pl.col("timestamp").dt.month(), "record", "value").rows() == [
            (4, "twin", 4)
        ]

    def test_a_share_is_told_of_whole_years_only(self, tmp_path):
        months = [f"2017-{m:02}" for m in range(1, 13)]
        (row,) = published.share_published(self.months(tmp_path, *months)).to_dicts()
        assert row == {"site": "chi_tacc", "year": 2017, "files": 12, "caches": 30, "share": 0.4}
        assert published.share_published(self.months(tmp_path, *months[1:])).is_empty()

    def test_hosts_by_type_are_means_over_the_month(self, tmp_path):
        (tmp_path / "published_machines.csv").write_text(
            "site,month,node_type,nodes,disabled\nchi_tacc,2017-04,compute,3.0,0.0\n"
        )
        days = [datetime(2017, 4, day, tzinfo=UTC) for day in range(1, 16)]
        ours = pl.DataFrame(
            {
                "timestamp": pl.Series([*days, datetime(2017, 5, 1, tzinfo=UTC)], dtype=STAMP),
                "collector_type": "corrected",
                "count_type": "total",
                "resource": "nodes",
                "node_type": pl.Series([None] * 16, dtype=pl.String),
                "value": 8.0,
            }
        )
        types = published.machine_types(tmp_path, {"chi_tacc": ours}, "twin")
        # Half of April, of which the table has no rows where there is no host.
        assert types.select("record", "node_type", "value").rows() == [
            (published.FILES, "compute", 3),
            ("twin", "unknown", 4),
        ]

    @pytest.mark.parametrize("column", ["user_id", "project_id"])
    def test_our_leases_are_those_that_others_would_have_published(self, column):
        made = [datetime(2017, 4, 1, tzinfo=UTC), datetime(2018, 4, 1, tzinfo=UTC)]
        told = pl.DataFrame(
            {
                "lease_id": ["a", "b", "c", "d"],
                "node_type": ["gpu_p100", None, "compute", "compute"],
                "nodes": [2, 1, 1, 1],
                "created_at": pl.Series([made[0]] * 3 + [made[1]], dtype=STAMP),
                "outcome": ["started", "cancelled", "error", "started"],
            }
        )
        moment = pl.Series([made[0]] * 4, dtype=STAMP)
        rows = pl.DataFrame(
            {"id": ["d", "c", "b", "a"], column: ["u", "u", "v", "w"]}
        ).with_columns(
            *(moment.alias(n) for n in ("created_at", "start_date", "end_date", "deleted_at"))
        )
        leases = published.our_leases(told, rows, "here", ["2017-04"])
        assert leases.select("site", "user", "gpu", "nodes").rows() == [
            ("here", "w", True, 2),
            ("here", "v", False, 1),
        ]


def test_figures_are_written_in_percent_and_hours_with_their_intervals():
    real = pl.DataFrame(
        {
            "era": "all",
            "nodes": ["gpu", "all"],
            "figure": ["actual_median_h", "advance_share"],
            "leases": [7, 9],
            "value": [22.44, 0.0957],
            "low": [20.0, 0.08],
            "high": [24.06, 0.11],
        }
    )
    found = real.with_columns(pl.col("value") * 2).head(1)
    assert published.figures_beside(real, found).rows() == [
        ("all nodes", "made in advance", 9, "9.6%", "8.0 to 11.0%", None),
        ("nodes with GPU", "actual duration, median (h)", 7, "22.4", "20.0 to 24.1", "44.9"),
    ]
    eras = pl.concat([real, real.with_columns(era=pl.lit("before"))])
    by_era = published.figures_by_era(eras)
    assert by_era.columns == ["figure", "before"]
    assert by_era.rows() == [("made in advance", "9.6% (8.0 to 11.0%)")]
