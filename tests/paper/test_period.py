"""Output tables cut to a period: rows, buckets, hours, and what a notebook makes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage.errors import UsageError
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS
from paper import period
from paper import run as build
from paper.context import context

if TYPE_CHECKING:
    from pathlib import Path

HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cut_table(rows: dict[str, list], table: str, first: str, last: str) -> pl.DataFrame:
    return period.inside(pl.LazyFrame(rows), table, at(first), at(last)).collect()


class TestRows:
    def test_belong_to_the_period_in_which_their_bucket_begins(self):
        days = [at(f"2018-01-0{day}") for day in range(1, 6)]
        left = cut_table({"timestamp": days}, "usage_timeline", "2018-01-02", "2018-01-04")
        assert left["timestamp"].to_list() == days[1:3]

    def test_of_leases_belong_to_the_period_in_which_these_were_made(self):
        made = [at("2018-01-01") - HOUR, at("2018-01-01"), at("2018-02-01") - HOUR]
        left = cut_table({"created_at": made}, "leadtime_leases", "2018-01-01", "2018-02-01")
        assert left["created_at"].to_list() == made[1:]

    @pytest.mark.parametrize(
        ("table", "begins", "last", "kept"),
        [
            ("lease_use", "2018-02-01", "2018-03-01", 1),
            ("lease_use", "2018-02-01", "2018-02-28", 0),
            ("lease_use", "2018-01-01", "2018-03-01", 0),
            ("comparison_causes", "2018-01-01", "2019-01-01", 0),
            ("comparison_causes", "2019-01-01", "2020-01-01", 1),
            ("comparison_causes", "2019-01-01", "2019-12-31", 0),
        ],
    )
    def test_of_coarser_tables_count_where_all_of_the_bucket_is_inside(
        self, table, begins, last, kept
    ):
        left = cut_table({"timestamp": [at(begins)]}, table, "2018-01-15", last)
        assert left.height == kept

    def test_of_the_join_log_are_those_of_the_whole_run(self):
        assert cut_table({"name": ["a"]}, "join_log", "2018-01-01", "2018-01-02").height == 1

    @pytest.mark.parametrize("table", sorted(OUTPUTS.keys() - OPTIONAL_OUTPUTS))
    def test_every_table_has_a_time_or_is_not_cut(self, table):
        columns = OUTPUTS[table].column_names()
        time = period.TIMES.get(table, "timestamp")
        assert time in columns or table in {"join_log", "rejects"}


class TestRejects:
    """Of one day, 2018-01-02."""

    def rejected(self, start: str | None, end: str | None, hours: float | None) -> list[float]:
        times = {
            "start": [start and datetime.fromisoformat(start)],
            "end": [end and datetime.fromisoformat(end)],
        }
        frame = pl.LazyFrame(
            {**times, "hours": [hours]},
            schema={"start": pl.Datetime("us"), "end": pl.Datetime("us"), "hours": pl.Float64},
        )
        left = period.inside(frame, "rejects", at("2018-01-02"), at("2018-01-03")).collect()
        for row in left.drop_nulls(["start", "end", "hours"]).iter_rows(named=True):
            if row["end"] > row["start"]:
                assert row["hours"] == pytest.approx((row["end"] - row["start"]) / HOUR)
        return left["hours"].to_list()

    @pytest.mark.parametrize(
        ("start", "end", "hours", "inside"),
        [
            ("2018-01-02T06", "2018-01-02T09", 3.0, [3.0]),
            ("2018-01-01T22", "2018-01-02T01", 3.0, [1.0]),
            ("2018-01-02T23", "2018-01-03T02", 3.0, [1.0]),
            ("2018-01-01", "2018-01-04", 72.0, [24.0]),
            ("2018-01-01", "2018-01-02", 24.0, []),
            ("2018-01-03", "2018-01-04", 24.0, []),
        ],
    )
    def test_keep_the_hours_inside(self, start, end, hours, inside):
        assert self.rejected(start, end, hours) == pytest.approx(inside)

    @pytest.mark.parametrize(
        ("start", "end", "kept"),
        [
            ("2018-01-02T06", None, 1),
            (None, "2018-01-02T06", 1),
            ("2018-01-02T06", "2018-01-02T06", 1),
            ("2018-01-02T06", "2018-01-01T06", 1),
            ("2018-01-03T06", "2018-01-02T06", 0),
            ("2018-01-03T00", None, 0),
            (None, None, 0),
        ],
    )
    def test_without_a_length_are_a_moment_and_without_a_time_in_no_period(self, start, end, kept):
        assert len(self.rejected(start, end, 0.0)) == kept


class TestParameters:
    @pytest.mark.parametrize(
        ("start", "end", "said"),
        [
            ("spring", "", "'start': 'spring' is not a day as in 2018-01-01"),
            ("", "2018-02-30", "'end': '2018-02-30' is not a day"),
            ("2018-01-02", "2018-01-02", "'end': 2018-01-02 is not after the start"),
        ],
    )
    def test_that_are_no_period_are_an_error(self, tmp_path, start, end, said):
        with pytest.raises(UsageError, match=said):
            period.cut(tmp_path, "chi_tacc", "output", start, end)

    def test_a_period_that_the_tables_do_not_cover_is_an_error_that_says_what_they_do(
        self, lively_outputs, tmp_path
    ):
        outputs = lively_outputs()
        with pytest.raises(UsageError, match=r"no bucket from 1999-01-01 .* begin from \d{4}-"):
            period.cut(tmp_path, "chi_tacc", str(outputs), "1999-01-01", "2000-01-01")

    def test_empty_ones_mean_the_tables_as_they_are(self, tmp_path):
        assert period.cut(tmp_path, "chi_tacc", "output") == tmp_path / "output"
        assert list(tmp_path.iterdir()) == []


@pytest.fixture
def outputs(lively_outputs, tmp_path) -> Path:
    """Ten days of three sites, reached by a link of the test's own."""
    (folder := tmp_path / "output").mkdir()
    for path in lively_outputs().iterdir():
        (folder / path.name).symlink_to(path)
    return folder


class TestTables:
    def test_are_written_beside_those_they_are_cut_from_which_stay_as_they_were(self, outputs):
        usage = outputs / "chi_tacc" / "usage_timeline.parquet"
        before = usage.read_bytes()
        days = pl.read_parquet(usage)["timestamp"].unique().sort()
        start, end = (days[number].date().isoformat() for number in (2, 5))
        into = period.cut(outputs.parent, "chi_tacc", "output", start, end)
        assert into == outputs / "periods" / f"{start}_{end}"
        assert usage.read_bytes() == before
        written = {path.stem for path in (into / "chi_tacc").iterdir()}
        assert written == {path.stem for path in (outputs / "chi_tacc").glob("*.parquet")}
        left = pl.read_parquet(into / "chi_tacc" / "usage_timeline.parquet")
        assert left["timestamp"].unique().sort().to_list() == days[2:5].to_list()
        for name in written & OUTPUTS.keys():
            OUTPUTS[name].validate(pl.read_parquet(into / "chi_tacc" / f"{name}.parquet"))

    def test_reach_words_and_captions_of_a_page(self, outputs):
        days = pl.read_parquet(outputs / "chi_tacc" / "usage_timeline.parquet")[
            "timestamp"
        ].unique()
        last = days.max().date().isoformat()
        given = (("site", "chi_tacc"), ("output_dir", str(outputs)))
        notebook = build.read_notebook("site")
        whole = context(build.parameters(notebook, "site", given))
        part = context(build.parameters(notebook, "site", (*given, ("start", last))))
        assert whole["output_dir"] == str(outputs)
        assert part["output_dir"] == f"{outputs}/periods/{last}_last"
        assert 0 <= part["found"]["refused_rows"] < whole["found"]["refused_rows"]
