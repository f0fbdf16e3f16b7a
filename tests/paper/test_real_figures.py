"""Figures of the real record: what is drawn of which numbers, and what is said of them."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from chameleon_usage.viz import palette
from paper.figures import real_leases, real_record

NAMES = {"a": "Site A", "b": "Site B"}


def month(year: int, number: int) -> datetime:
    return datetime(year, number, 1, tzinfo=UTC)


def panels(figure) -> list[dict]:
    return figure.chart.to_dict()["concat"]


def heading(panel) -> str:
    """The words above a panel: its last layer."""
    return panel["layer"][-1]["mark"]["text"]


class TestRecords:
    TABLE = pl.DataFrame(
        [
            ("a", "legacy", "total", 2018, "real", 5.0),
            ("a", "legacy", "total", 2018, "twin", 6.0),
            ("a", "legacy", "idle", 2018, "real", -1.0),
            ("b", "legacy", "total", 2025, "real", 7.0),
        ],
        schema=["site", "collector_type", "count_type", "year", "record", "value"],
        orient="row",
    )

    def test_a_row_a_count_type_and_a_column_a_site_without_holes(self):
        drawn = real_record.records(self.TABLE, site_names=NAMES, count_types=["total", "idle"])
        found = [heading(panel) for panel in panels(drawn)]
        assert found == ["Site A: Total", "Site B: Total", "Site A: Idle", "Site B: Idle"]
        assert drawn.chart.to_dict()["columns"] == 2
        assert panels(drawn)[3]["layer"][0]["mark"]["text"] == "no published curve"

    def test_the_key_of_real_is_black_and_no_mark_is_cut_at_the_edge(self):
        drawn = real_record.records(self.TABLE, site_names=NAMES, count_types=["total"])
        lines = panels(drawn)[0]["layer"][0]["encoding"]
        legend = lines["strokeDash"]["legend"]
        assert legend["symbolStrokeColor"] == palette.TOTAL != palette.COLLECTORS["legacy"][0]
        low, high = lines["x"]["scale"]["domain"]
        assert low < 2018
        assert high > 2025


class TestPublished:
    def test_the_caches_are_bars_a_year_long_and_what_is_partial_is_told(self):
        table = pl.DataFrame(
            {
                "site": "a",
                "count_type": "committed",
                "record": ["files", "files", "caches", "twin"],
                "timestamp": [month(2017, 5), month(2018, 5), month(2018, 1), month(2018, 5)],
                "value": [1.0, 2.0, 9.0, 8.0],
            }
        )
        drawn = real_record.published(
            table, site_names=NAMES, files="files", caches="caches", ours="twin", partial=" (part)"
        )
        (panel,) = panels(drawn)
        assert heading(panel) == "Site A: committed (part)"
        bars, lines, _ = panel["layer"]
        rows = drawn.chart.to_dict()["datasets"]
        (bar,) = rows[bars["data"]["name"]].splitlines()[1:]
        assert bar == "2018-01-01T00:00Z,2019-01-01T00:00Z,caches,9.0"
        assert "caches" not in rows[lines["data"]["name"]]
        assert "Site A committed, files: 1.5 on average" in drawn.chart.to_dict()["description"]


class TestMachines:
    def test_real_stands_left_of_ours_on_the_same_scale(self):
        table = pl.DataFrame(
            {
                "site": "a",
                "record": ["twin", "real"] * 2,
                "timestamp": [month(2017, 5)] * 4,
                "node_type": ["x", "x", "y", "y"],
                "value": [1.0, 2.0, 3.0, 40.0],
            }
        )
        drawn = real_record.machines(table, site_names=NAMES, ours="twin")
        left, right = panels(drawn)
        assert [heading(p) for p in (left, right)] == ["Site A: real", "Site A: twin"]
        scales = [p["layer"][0]["encoding"]["y"]["scale"]["domain"] for p in (left, right)]
        assert scales[0] == scales[1]
        assert scales[0][1] > 42
        assert "Site A, real: 42; Site A, twin: 4" in drawn.chart.to_dict()["description"]


class TestFiles:
    TABLE = pl.DataFrame(
        {
            "site": ["a", "a", "b"],
            "month": ["2017-11", "2017-12", "2017-12"],
            "leases": [20, 10, 9],
            "early": [5, 10, 9],
        }
    )

    def test_shares_are_of_months_with_some_leases(self):
        drawn = real_leases.files(
            self.TABLE, site_names=NAMES, colours={"a": "#111", "b": "#222"}, changed="2017-12"
        )
        assert drawn.data["early share"].to_list() == [0.25, 1, None]
        words = drawn.chart.to_dict()["description"]
        assert words.endswith("after: 100.0%; before: 25.0%.")


class TestSurvival:
    def table(self) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "record": ["real", "real", "twin", "twin"],
                "nodes": "gpu",
                "quantity": "lead time",
                "hours": [1.0, 24.0, 1.0, 24.0],
                "share": [1.0, 0.25, 1.0, 0.5],
                "low": [1.0, 0.2, None, None],
                "high": [1.0, 0.3, None, None],
            }
        )

    def test_the_real_one_has_a_band_and_ours_is_dashed(self):
        drawn = real_leases.survival(self.table(), ours="twin")
        (panel,) = panels(drawn)
        band, lines, _ = panel["layer"]
        assert band["transform"] == [{"filter": "(datum.record === 'real')"}]
        assert lines["encoding"]["strokeDash"]["scale"] == {
            "domain": ["real", "twin"],
            "range": [[1, 0], [5, 3]],
        }
        words = drawn.chart.to_dict()["description"]
        assert "lead time with GPUs, real: 25%; lead time with GPUs, twin: 50%" in words

    @pytest.mark.parametrize("suffix", ["csv", "png", "svg"])
    def test_it_is_saved_the_same_on_every_run(self, tmp_path, suffix):
        for folder in ("one", "two"):
            real_leases.survival(self.table(), ours="twin").save("x", tmp_path / folder)
        one, two = ((tmp_path / folder / f"x.{suffix}").read_bytes() for folder in ("one", "two"))
        assert one == two
        assert one
