"""What each correction is worth, why the counts differ, and how far from the truth they may be."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from chameleon_usage.cli import cli
from paper import ablation
from support.sites import DAYS, HOUR, PROJECT, TinySite, lively, on


def left_out(site: TinySite, name: str) -> pl.DataFrame:
    """The corrected count with one correction left out."""
    names = {ablation.NOTHING} if name == ablation.SAMPLING else {name}
    return ablation.ablate(site.facts.ingested, site.facts.as_of, site.site, site.window, names)


def daily(table: pl.DataFrame, name: str, count_type: str) -> list[float]:
    """Daily nodes of one series of an ablation."""
    rows = table.filter(pl.col("left_out") == name, pl.col("count_type") == count_type)
    return rows.sort("timestamp")["value"].to_list()


def without(site: TinySite, name: str, count_type: str) -> list[float]:
    """Daily nodes of the corrected count with one correction left out."""
    return daily(left_out(site, name), name, count_type)


def causes(site: TinySite, count_type: str) -> dict[str, float]:
    """Node-hours by cause of corrected - uncorrected."""
    table = site.outputs["comparison_causes"].filter(pl.col("count_type") == count_type)
    return dict(table.select("cause", "node_hours").iter_rows())


@pytest.fixture(scope="module", params=["chi_tacc", "kvm_tacc"])
def unchanged(request) -> tuple[TinySite, pl.DataFrame]:
    """A lively site, and its ablation in which nothing is left out."""
    site = lively(request.param)
    return site, left_out(site, ablation.NOTHING)


class TestAblation:
    @pytest.mark.parametrize("count_type", ablation.QUANTITIES)
    def test_nothing_left_out_is_the_corrected_count(self, unchanged, count_type):
        site, table = unchanged
        same = daily(table, ablation.NOTHING, count_type)
        assert same == pytest.approx(site.corrected(count_type), abs=1e-9)

    def test_a_sample_at_midnight_misses_what_ends_before_and_holds_all_day_what_holds_then(self):
        site = TinySite()
        site.host()
        site.lease("day", 2 + HOUR, 3 - HOUR)
        site.lease("night", 5 - HOUR, 5 + HOUR)
        assert without(site, ablation.NOTHING, "committed")[2] == 22 / 24
        assert without(site, ablation.SAMPLING, "committed") == on((5, 6))

    def test_without_merging_a_host_with_two_rows_counts_twice(self):
        site = TinySite()
        site.host()
        site.hypervisor("h1", 4, 6)
        site.pool_host("h1", 2, 5, host_id="twin")
        for count_type in ("total", "reservable"):
            assert without(site, ablation.NOTHING, count_type) == [1] * DAYS
        assert without(site, "merging", "total") == [1, 1, 1, 1, 2, 2, 1, 1, 1, 1]
        assert without(site, "merging", "reservable") == [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]

    def test_without_clamping_an_instance_outlives_its_reservation(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 5)
        site.instance("I", "h1", 3, 8, lease="L")
        assert without(site, ablation.NOTHING, "occupied") == on((3, 5))
        assert without(site, "clamping", "occupied") == on((3, 8))

    def test_without_the_name_of_a_gone_host_its_allocations_are_lost(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.lease("L", 2, 5, ["b-gone"])
        site.instance("I", "h1", 3, 4, lease="L")
        assert without(site, ablation.NOTHING, "committed") == on((2, 5))
        # What the instance proves by itself is all that is left.
        assert without(site, "gone hosts", "committed") == on((2, 4))

    def test_without_lost_allocations_a_host_whose_allocation_is_gone_is_not_committed(self):
        site = TinySite()
        site.host("h1")
        site.host("h2")
        site.lease("L", 2, 6, ["b-h2"])
        site.tables["blazar.computehost_reservations"][-1]["count_range"] = "1-2"
        site.instance("I", "h1", 2, 4, lease="L")
        assert without(site, ablation.NOTHING, "committed") == [
            a + b for a, b in zip(on((2, 6)), on((2, 4)), strict=True)
        ]
        assert without(site, "lost allocations", "committed") == on((2, 6))

    def test_without_finding_reservations_an_instance_without_spec_does_not_count(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8, project_id="p")
        site.instance("mine", "h1", 3, 6, project_id="p")
        assert without(site, ablation.NOTHING, "occupied") == on((3, 6))
        assert without(site, "purged specs", "occupied") == [0] * DAYS

    def test_without_event_replay_a_stopped_instance_is_active(self):
        site = TinySite()
        site.host()
        site.lease("L", 1, 9)
        site.instance("I", "h1", 2, 8, lease="L", active=2)
        site.action("I", "stop", 4)
        site.action("I", "start", 6)
        assert without(site, ablation.NOTHING, "active") == on((2, 4), (6, 8))
        assert without(site, "event replay", "active") == on((2, 8))

    def test_without_indirect_evidence_a_host_that_nova_does_not_know_is_not_there(self):
        site = TinySite()
        site.pool_host("h1", 0)
        assert without(site, ablation.NOTHING, "total") == [1] * DAYS
        assert without(site, "witnesses", "total") == [0] * DAYS

    def test_a_source_that_the_site_does_not_have_is_not_left_out(self):
        site = TinySite()
        table = ablation.ablate(site.facts.ingested, site.facts.as_of, site.site, site.window)
        assert "services" not in table["left_out"].to_list()
        assert set(table["left_out"]) <= set(ablation.ABLATIONS)

    def test_the_command_writes_it(self, lively_raw, tmp_path, run_command):
        config = PROJECT / "data" / "sites.yaml"
        call = ("--config", config, "--site", "chi_tacc", "--data-dir", lively_raw)
        said = run_command("-m", "paper", "ablation", *call, "--output", tmp_path / "out")
        assert said.returncode == 0, said.stderr
        table = pl.read_parquet(tmp_path / "out/ablation/chi_tacc/ablation.parquet")
        assert table.columns == ["site", "timestamp", "left_out", "count_type", "value"]
        assert table["timestamp"].min() == datetime(2016, 1, 1, tzinfo=UTC)


class TestCausesOfTheDifference:
    @pytest.mark.parametrize("key", ["chi_tacc", "kvm_tacc"])
    @pytest.mark.parametrize("count_type", ablation.QUANTITIES)
    def test_they_sum_to_corrected_minus_uncorrected(self, key, count_type):
        site = lively(key)
        sums = [24 * sum(read(count_type)) for read in (site.corrected, site.uncorrected)]
        assert sum(causes(site, count_type).values()) == pytest.approx(sums[0] - sums[1], abs=1e-6)

    def test_a_duplicate_is_taken_away(self):
        site = TinySite()
        site.host()
        site.hypervisor("h1", 4, 6)
        assert causes(site, "total") == {"duplicate of another row of the host": -48}

    def test_indirect_evidence_adds(self):
        site = TinySite()
        site.pool_host("h1", 0, 5)
        assert causes(site, "total") == {"inferred from witnesses": 5 * 24}
        assert causes(site, "reservable") == {}

    def test_a_gone_host_that_is_named_adds_its_allocations(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.lease("L", 2, 5, ["b-gone"])
        site.instance("I", "h1", 3, 4, lease="L")
        assert causes(site, "committed") == {"inferred from blazar.computehost_allocations": 72}

    def test_what_outlives_its_reservation_is_taken_away(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 5)
        site.instance("I", "h1", 3, 8, lease="L")
        assert causes(site, "occupied") == {"outside its reservation": -72}

    def test_the_replay_of_events_is_the_rest(self):
        site = TinySite()
        site.host()
        site.lease("L", 1, 9)
        site.instance("I", "h1", 2, 8, lease="L", active=2)
        site.action("I", "stop", 4)
        site.action("I", "start", 6)
        assert causes(site, "active") == {"rest": -48}


FROM_2022 = dict.fromkeys(("total", "reservable", "committed", "occupied"), 0.005) | {
    "active": 0.01
}
BEFORE = {"total": 0.03, "reservable": 0.04, "committed": 0.02, "occupied": 0.03}
ERAS = {"2016_2017": (2016, 2018), "2018_2019": (2018, 2020), "2020_2021": (2020, 2022),
        "2022_on": (2022, 2026)}  # fmt: skip
OPENED = {"chi_tacc": 2016, "chi_uc": 2016, "kvm_tacc": 2020, "chi_edge": 2022}


@pytest.fixture(scope="module")
def real_size(tmp_path_factory) -> Path:
    """The decayed twin (``raw``) and what the command makes of it (``out``)."""
    folder = tmp_path_factory.mktemp("real size")
    twin = Path(sys.executable).with_name("chameleon-twin")
    subprocess.run([twin, "make", "--data-dir", folder / "raw"], check=True)
    for site in OPENED:
        run = ["run", "--config", str(PROJECT / "data/sites.yaml"), "--site", site]
        run += ["--data-dir", str(folder / "raw"), "--output", str(folder / "out")]
        run += ["--start", "2016-01-01", "--end", "2026-01-01"]
        cli(run, standalone_mode=False)
    return folder


@pytest.fixture(scope="module")
def days(real_size) -> pl.DataFrame:
    """Site, day, count type, corrected value, truth."""
    folder = real_size
    parts = []
    for site in OPENED:
        found = pl.read_parquet(folder / "out" / site / "usage_timeline.parquet")
        parts.append(
            found.filter(pl.col("collector_type") == "corrected")
            .with_columns(pl.col("count_type").cast(pl.String))
            .join(true_days(folder / "raw" / site), on=["timestamp", "count_type"], how="left")
            .with_columns(pl.col("truth").fill_null(0.0))
        )
    return pl.concat(parts)


def true_days(folder: Path) -> pl.DataFrame:
    """Sum the truth's intervals day by day: a row for each day that an interval touches."""
    day = pl.duration(days=1)
    pieces = (
        pl.scan_parquet(folder / "truth" / "intervals.parquet")
        .with_columns(
            timestamp=pl.datetime_ranges(
                pl.col("start").dt.truncate("1d"), pl.col("end"), "1d", closed="left"
            ),
            count_type=pl.col("quantity_type").str.replace("_(reservation|ondemand)$", ""),
        )
        .explode("timestamp", empty_as_null=False)
        .with_columns(
            held=(
                pl.min_horizontal("end", pl.col("timestamp") + day)
                - pl.max_horizontal("start", "timestamp")
            ).dt.total_seconds()
        )
        .group_by("timestamp", "count_type")
        .agg(truth=(pl.col("nodes") * pl.col("held")).sum() / 86400)
    )
    return pieces.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC")).collect()


@pytest.mark.slow
class TestDistanceToTheTruthAtRealSize:
    """The decayed twin at its real size: no error beyond the bars wherever a value is published."""

    @pytest.mark.parametrize("era", ERAS)
    @pytest.mark.parametrize("site", OPENED)
    def test_the_errors_stay_below_the_bars(self, days, site, era):
        first, last = ERAS[era]
        years = pl.col("timestamp").dt.year()
        mine = days.filter(pl.col("site") == site, years >= first, years < last)
        found = dict(
            mine.drop_nulls("value")
            .group_by("count_type")
            .agg((pl.col("value") - pl.col("truth")).abs().sum() / pl.col("truth").sum())
            .iter_rows()
        )
        assert found or last <= OPENED[site]
        bars = FROM_2022 if era == "2022_on" else BEFORE
        over = {name: found[name] for name, bar in bars.items() if found.get(name, 0) > bar}
        assert over == {}

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc"])
    def test_hosts_are_of_the_type_of_their_time(self, real_size, site):
        """On the first of each month; the bar of a year is that of total, and some."""
        months = pl.DataFrame({"timestamp": pl.datetime_range(
            pl.datetime(2016, 1, 1), pl.datetime(2025, 12, 1), "1mo", eager=True)})  # fmt: skip
        told = (
            pl.scan_parquet(real_size / "raw" / site / "truth" / "intervals.parquet")
            .filter(pl.col("quantity_type") == "total")
            .join(months.lazy(), how="cross")
            .filter(pl.col("start") <= pl.col("timestamp"), pl.col("timestamp") < pl.col("end"))
            .group_by("timestamp", "node_type")
            .agg(truth=pl.col("nodes").sum())
            .collect()
        )
        found = (
            pl.read_parquet(real_size / "out" / site / "usage_by_node_type.parquet")
            .filter(pl.col("collector_type") == "corrected", pl.col("count_type") == "total",
                    pl.col("resource") == "nodes")
            .with_columns(pl.col("timestamp").dt.replace_time_zone(None))
            .join(months, on="timestamp", how="semi")
            .select("timestamp", "node_type", "value")
        )  # fmt: skip
        errors = (
            told.join(found, on=["timestamp", "node_type"], how="full", coalesce=True)
            .with_columns(pl.col("truth", "value").fill_null(0.0))
            .group_by(pl.col("timestamp").dt.year())
            .agg((pl.col("value") - pl.col("truth")).abs().sum() / pl.col("truth").sum())
        )
        bars = {False: BEFORE["total"] + 0.01, True: FROM_2022["total"] + 0.005}
        over = {year: error for year, error in errors.iter_rows() if error > bars[year >= 2022]}
        assert over == {}

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "kvm_tacc"])
    def test_most_days_are_known(self, days, site):
        mine = days.filter(pl.col("site") == site, pl.col("count_type").is_in(list(FROM_2022)))
        late = pl.col("timestamp").dt.year() >= 2018
        for part, least in ((mine.filter(late), 0.95), (mine.filter(~late), 0.8)):
            shares = part.group_by("count_type").agg(pl.col("value").is_not_null().mean())
            assert all(share >= least for share in shares["value"]), shares
