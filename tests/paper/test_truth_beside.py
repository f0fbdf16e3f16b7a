"""The truth as one more collector of a site's figure, where it is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.models.metrics import COLLECTORS, METRICS
from chameleon_usage.viz.collectors import usage_facet
from paper import truth

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2019, 1, 1, tzinfo=UTC)
DAYS = [START + timedelta(days=n) for n in range(2)]
USAGE = pl.DataFrame(
    {
        "site": "s",
        "timestamp": DAYS,
        "collector_type": "corrected",
        "count_type": "total",
        "value": [2.0, None],
    },
    schema={
        "site": pl.String,
        "timestamp": pl.Datetime("us", "UTC"),
        "collector_type": pl.Enum(list(COLLECTORS)),
        "count_type": pl.Enum(list(METRICS)),
        "value": pl.Float64,
    },
)
HELD = pl.DataFrame(
    {
        "quantity_type": ["total"],
        "start": [START],
        "end": [START + timedelta(days=1.5)],
        "nodes": [2.0],
    }
)


def test_the_truth_has_a_value_on_each_day_of_the_usage() -> None:
    both = truth.beside(USAGE, HELD, ["total"])
    assert both.filter(collector_type="truth")["value"].to_list() == [2.0, 1.0]
    assert both.filter(collector_type="corrected")["value"].to_list() == [2.0, None]


def test_of_one_day_there_is_no_truth_to_add() -> None:
    assert truth.beside(USAGE.head(1), HELD, ["total"]).equals(USAGE.head(1))


def test_the_figure_draws_the_truth_last() -> None:
    drawn = usage_facet(truth.beside(USAGE, HELD, ["total"]), site_name="S")
    assert set(drawn.data["collector_type"]) == {"corrected", "truth"}
    shade = drawn.chart.to_dict()["concat"][0]["layer"][-2]["encoding"]["color"]
    assert shade["scale"]["domain"] == ["corrected", "truth"]


def test_where_there_are_no_intervals_no_truth_is_known(tmp_path: Path) -> None:
    assert not truth.known(tmp_path, "s")
    truth.path(tmp_path, "s").parent.mkdir(parents=True)
    HELD.write_parquet(truth.path(tmp_path, "s"))
    assert truth.known(tmp_path, "s")
