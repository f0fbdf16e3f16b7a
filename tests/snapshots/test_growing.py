"""Two years of weekly snapshots of databases that forget, held against the truth.

The player writes what the tables of a tiny twin held at each snapshot, hosts and allocations
deleted for good meanwhile. What the record of them tells of every host and day may differ from the
truth only in those weeks in which something of that host began or ended: what happened between two
snapshots is known to within their interval, all else exactly.
"""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from chameleon_usage import pipeline
from chameleon_usage.snapshots.record import add_snapshot, dump_as_of
from chameleon_usage.usage.buckets import Window
from support.command import called
from support.player import Player
from support.sites import SITES

pytestmark = pytest.mark.slow

WEEKS = 105
BEGIN = {
    "chi_tacc": datetime(2020, 1, 6),
    "kvm_tacc": datetime(2023, 11, 6),
    "chi_edge": datetime(2024, 1, 1),
}
"""A Monday: the two years in which most of a site's machines come and go."""

QUANTITIES = ("total", "reservable", "committed")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("twin")
    command = Path(sys.executable).with_name("chameleon-twin")
    options = ["make", "--profile", "tiny", "--no-decay", "--data-dir", folder]
    sites = (part for site in BEGIN for part in ("--site", site))
    called(command, *options, *sites)
    return folder


@pytest.fixture(scope="module", params=BEGIN)
def played(request, twin, tmp_path_factory) -> tuple[str, Player, Path, list[datetime]]:
    """(site, player, data directory with the record, moments of the snapshots)."""
    site, folder = request.param, tmp_path_factory.mktemp(request.param)
    player = Player(twin / site)
    moments = [BEGIN[site] + timedelta(weeks=week, hours=3) for week in range(WEEKS)]
    for moment in moments:
        dump = player.write(folder / "dump", moment)
        add_snapshot(folder / "data" / site, dump)
        shutil.rmtree(dump)
    return site, player, folder / "data", moments


def found(site: str, data: Path, window: Window) -> pl.DataFrame:
    """What the pipeline says: host, day, quantity, nodes.

    Without the public inventory, which is no database and lags by months.
    """
    entry = SITES[site]
    entry = replace(entry, adapters=tuple(a for a in entry.adapters if a != "inventory"))
    stage, _ = pipeline.facts(entry, data)
    tables = pipeline.outputs(pipeline.segments(stage, entry), entry, window, by_host=True)
    return (
        tables["usage_by_host"]
        .filter(pl.col("collector_type") == "corrected")
        .select(
            host="hypervisor_hostname",
            day=pl.col("timestamp").dt.replace_time_zone(None),
            quantity=pl.col("count_type").cast(pl.String),
            found="value",
        )
    )


def true(player: Player, window: Window) -> pl.DataFrame:
    """What happened: host, day, quantity, nodes."""
    rows = (
        player.truth("intervals")
        .with_columns(
            start=pl.max_horizontal("start", pl.lit(window.start)),
            end=pl.min_horizontal("end", pl.lit(window.end)),
        )
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(
            day=pl.datetime_ranges(
                pl.col("start").dt.truncate("1d"),
                (pl.col("end") - timedelta(seconds=1)).dt.truncate("1d"),
                "1d",
            )
        )
        .explode("day")
    )
    begin, end = pl.max_horizontal("start", "day"), pl.min_horizontal("end", pl.col("day") + DAY)
    held = pl.col("nodes") * (end - begin).dt.total_seconds() / DAY.total_seconds()
    return rows.group_by("host", "day", quantity="quantity_type").agg(true=held.sum())


def turns(player: Player, moments: list[datetime]) -> pl.DataFrame:
    """The days between the snapshots around each beginning and end: host, day, quantity."""
    rows = player.truth("intervals")
    edges = pl.concat(
        rows.select("host", at=bound, quantity="quantity_type") for bound in ("start", "end")
    ).sort("at")
    before = pl.DataFrame({"before": moments}, schema={"before": pl.Datetime("us")})
    return (
        edges.join_asof(before, left_on="at", right_on="before")
        .drop_nulls("before")
        .with_columns(
            day=pl.datetime_ranges(
                pl.col("before").dt.truncate("1d"),
                (pl.col("before") + timedelta(weeks=1)).dt.truncate("1d"),
                "1d",
            )
        )
        .explode("day")
        .select("host", "day", "quantity")
        .unique()
    )


def distances(player: Player, site: str, data: Path, moments: list[datetime]) -> pl.DataFrame:
    """Truth and finding of each host, day and quantity between the first and last snapshot."""
    window = Window(moments[0] + DAY - timedelta(hours=3), moments[-1] - timedelta(hours=3))
    both = true(player, window).join(
        found(site, data, window), on=["host", "day", "quantity"], how="full", coalesce=True
    )
    return both.with_columns(pl.col("true", "found").fill_null(0.0)).with_columns(
        off=(pl.col("true") - pl.col("found")).abs()
    )


def test_the_record_is_the_truth_to_within_the_snapshot_interval(played):
    site, player, data, moments = played
    days = distances(player, site, data, moments)
    outside = days.filter(pl.col("off") > 1e-6).join(
        turns(player, moments), on=["host", "day", "quantity"], how="anti"
    )
    for quantity in QUANTITIES:
        assert days.filter(pl.col("quantity") == quantity)["true"].sum() > 0
        wrong = outside.filter(pl.col("quantity") == quantity)
        assert wrong.is_empty(), f"{quantity}: {wrong.sort('host', 'day').head(5)}"


def test_the_sum_over_all_hosts_is_the_truth_but_for_a_hundredth(played):
    site, player, data, moments = played
    days = distances(player, site, data, moments)
    sums = days.group_by("quantity").agg(pl.col("true", "off").sum())
    for quantity in QUANTITIES:
        true_, off = sums.filter(pl.col("quantity") == quantity).select("true", "off").row(0)
        assert off <= 0.01 * true_, quantity


def test_the_last_dump_alone_has_lost_much_of_it(played, tmp_path):
    """Else the databases did not forget, and the tests above show nothing."""
    site, player, data, moments = played
    if site == "kvm_tacc":
        pytest.skip("the tiny cloud removes no machine and no lease in these years")
    shutil.copytree(data / site, tmp_path / site, ignore=shutil.ignore_patterns("history"))
    sums = [
        distances(player, site, folder, moments).group_by("quantity").agg(pl.col("off").sum())
        for folder in (data, tmp_path)
    ]
    for quantity in QUANTITIES:
        kept, lost = (s.filter(pl.col("quantity") == quantity)["off"].item() for s in sums)
        assert lost > 50 * kept, quantity
        assert lost > 30, quantity


def test_every_snapshot_comes_back(played):
    site, player, data, moments = played
    for moment in moments[::26]:
        back = dump_as_of(data / site, moment + DAY)
        assert back.as_of == moment
        then = player.at(moment)
        assert back.tables.keys() == then.keys()
        for name, frame in then.items():
            assert_frame_equal(back.tables[name], frame, check_row_order=False)
