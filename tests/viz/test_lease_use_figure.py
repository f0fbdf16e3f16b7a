"""The figure of leased node-hours: by year, nothing lost, unknown use apart."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from chameleon_usage.models.frames import conform
from chameleon_usage.models.outputs import LeaseUse
from chameleon_usage.viz import palette
from chameleon_usage.viz.lease_use import PARTS, by_year, lease_use
from paper import findings, tables


@pytest.fixture
def use() -> pl.DataFrame:
    """Two months of a year, and one of another whose use nobody knows."""
    rows = [
        (datetime(2019, 1, 1, tzinfo=UTC), 10.0, 6.0, 1.0, 0.0, 2.0, 1.0, 5.0, 2, 1, 1),
        (datetime(2019, 2, 1, tzinfo=UTC), 30.0, 24.0, 0.0, 6.0, 0.0, 0.0, 0.0, 2, 0, 0),
        (datetime(2020, 1, 1, tzinfo=UTC), 7.0, None, None, None, None, None, 5.0, 3, None, 1),
    ]
    names = [name for name in LeaseUse.column_names() if name not in {"site", "node_type"}]
    frame = pl.DataFrame(rows, names[:-1], orient="row")
    return conform(frame.with_columns(site=pl.lit("s"), node_type=pl.lit("gpu")), LeaseUse)


def test_parts_of_a_year_add_up_to_what_was_reserved(use):
    years = by_year(use)
    parts = [name for name in PARTS if name != "given_back_h"]
    assert years.select(pl.sum_horizontal(parts)).to_series().to_list() == [40, 7]
    assert years["reserved_h"].to_list() == [40, 7]
    assert years["no_shows"].to_list() == [1, None]


def test_what_is_drawn_is_what_there_is(use):
    data = lease_use(use, site_name="CHI@Test").data
    assert data.filter(year=2019)["node_hours"].to_list() == [30, 1, 6, 2, 1, 5]
    assert data.filter(year=2020).select("part", "node_hours").rows() == [
        ("reserved (use unknown)", 7),
        ("given back early", 5),
    ]


def test_of_nothing_it_says_so(use, tmp_path):
    page = lease_use(use.clear(), site_name="CHI@Test").save("none", tmp_path)._repr_html_()
    assert "nothing to show" in page


def test_every_part_has_a_colour():
    assert list(palette.LEASE_USE) == list(PARTS.values())
    assert len(set(palette.LEASE_USE.values())) == len(PARTS)


def test_the_table_has_shares_of_what_is_known(use):
    first, second = tables.lease_use_by_year(use).rows(named=True)
    assert (first["no-shows"], first["released early"]) == (0.25, 0.25)
    assert (first["used"], first["idle"], first["given back"]) == (0.75, 0.25, 5)
    assert (second["no-shows"], second["used"], second["idle"]) == (None, None, None)
    assert second["reserved"] == 7


def test_findings_are_of_the_months_whose_use_is_known(use):
    found = findings.waste(use)
    assert found["given_back_share"] == 10 / 57
    assert (found["unused_share"], found["no_show_share"]) == (0.25, 0.25)
    assert (found["never_share"], found["waiting_share"]) == (1 / 40, 1 / 40)
    assert found["after_share"] == 8 / 40
    assert set(findings.waste(use.filter(pl.col("used_h").is_null()))) == {"given_back_share"}
    assert findings.waste(use.clear()) == {}


def test_types_with_gpus_are_those_of_which_a_host_has_some():
    usage = pl.DataFrame(
        [("gpu", "nodes"), ("gpu", "gpus"), ("plain", "nodes")],
        ["node_type", "resource"],
        orient="row",
    ).with_columns(count_type=pl.lit("total"), collector_type=pl.lit("corrected"))
    leases = pl.DataFrame({"node_type": ["plain", "gpu", "gone", None]})
    assert tables.with_gpus(leases, usage)["gpu"].to_list() == [False, True, None, None]
