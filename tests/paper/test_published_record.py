"""The published record beside our count: the same years, the same months, the same leases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from paper import record

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
    MADE = datetime(2017, 3, 1, tzinfo=UTC)

    def leases(self, *hours: float, node_type: str | None = None) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "lease_id": [f"{node_type}{n}" for n in range(len(hours))],
                "created_at": pl.Series([self.MADE] * len(hours), dtype=STAMP),
                "requested_h": list(hours),
                "node_type": pl.Series([node_type] * len(hours), dtype=pl.String),
            }
        )

    def test_leases_of_less_than_five_minutes_are_robots(self):
        leases = self.leases(0.0, 0.0, 0.0)
        held = [timedelta(minutes=4), timedelta(minutes=5), None]
        raw = pl.DataFrame(
            {
                "id": leases["lease_id"],
                "created_at": leases["created_at"],
                "start_date": leases["created_at"],
                "end_date": pl.Series([h and self.MADE + h for h in held], dtype=STAMP),
                "deleted_at": pl.Series([None] * 3, dtype=STAMP),
            }
        )
        assert record.peoples_leases(leases, raw)["lease_id"].to_list() == ["None1", "None2"]

    def test_both_records_tell_of_the_same_months(self, tmp_path):
        (tmp_path / "published_monthly.csv").write_text(
            "quantity_type,month,nodes\ntotal,2017-03,5.0\ncommitted,2017-04,3.0\n"
        )
        (tmp_path / "published_leadtime.csv").write_text("month,requested_h_p90\n2017-03,7.0\n")
        published = record.published_months(tmp_path)
        counted = usage([(date(2017, m, 1), 4.0) for m in (3, 4, 5)], collector="corrected")
        ours = record.our_months(counted, self.leases(0.0, 10.0), "twin")
        both = record.months_of_both(published, ours)
        assert both.filter(pl.col("record") == "twin").select("panel", "value").rows() == [
            ("total (nodes)", 4),
            (record.LEAD_TIME, 9),
        ]
        gpu = self.leases(0.0, 2.0, node_type="gpu_p100")
        later = self.leases(5.0).with_columns(pl.col("created_at").dt.offset_by("1y"))
        leases = pl.concat([self.leases(0.5, 2.0, 3.0, 4.0), gpu, later])
        assert record.advance_shares(leases, published) == {False: 0.75, True: 0.5}
