"""The pipeline against the twin's truth, on the tiny twin.

Without decay the tables say all that happened, so what the pipeline makes of them must be the
truth; with decay the laws must hold all the same. The truth is summed here day by day in plain
Python.
"""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage.cli import cli
from paper.projected import projected_errors, true_waits
from support.sites import PROJECT, SITES

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = PROJECT / "data" / "sites.yaml"
TWINS = ("chi_edge", "chi_tacc", "chi_uc", "kvm_tacc")
FIRST, DAYS = date(2016, 1, 1), 3653
TEN_YEARS = ("--start", "2016-01-01", "--end", "2026-01-01")
SECONDS = 86_400


def read_by_the_pipeline(twin: Path, folder: Path, *options: str) -> None:
    """Run the pipeline over a twin, and put its tables (``raw``) beside the outputs (``out``)."""
    (folder / "raw").symlink_to(twin)
    call = ["run", "--config", CONFIG, "--data-dir", twin, "--output", folder / "out", *options]
    call += TEN_YEARS
    sites = (part for site in TWINS for part in ("--site", site))
    cli([*map(str, call), *sites], standalone_mode=False)


@pytest.fixture(scope="module")
def whole(once, whole_twin) -> Path:
    return once("whole", lambda folder: read_by_the_pipeline(whole_twin, folder))


@pytest.fixture(scope="module")
def decayed(once, decayed_twin) -> Path:
    return once("decayed", lambda folder: read_by_the_pipeline(decayed_twin, folder, "--by-host"))


def daily_truth(folder: Path, site: str, quantity: str, column: str = "nodes") -> list[float]:
    """Mean of each day: what is held times the seconds of the day in which it is held."""
    rows = pl.read_parquet(folder / "raw" / site / "truth" / "intervals.parquet")
    rows = rows.filter(pl.col("quantity_type") == quantity).select("start", "end", column)
    origin = int(datetime(FIRST.year, 1, 1, tzinfo=UTC).timestamp())
    held = [0.0] * DAYS
    for start, end, units in rows.with_columns(pl.col("start", "end").dt.epoch("s")).rows():
        first, last = max(start - origin, 0), min(end - origin, DAYS * SECONDS)
        for day in range(first // SECONDS, -(-last // SECONDS)):
            within = min(last, (day + 1) * SECONDS) - max(first, day * SECONDS)
            held[day] += units * within / SECONDS
    return held


def daily(folder: Path, site: str, count_type: str, resource: str = "nodes") -> list[float | None]:
    table = pl.read_parquet(folder / "out" / site / "usage_by_resource.parquet").filter(
        (pl.col("collector_type") == "corrected")
        & (pl.col("count_type") == count_type)
        & (pl.col("resource") == resource)
    )
    by_day = dict(table.select(pl.col("timestamp").dt.date(), "value").rows())
    return [by_day.get(FIRST + timedelta(days=day)) for day in range(DAYS)]


def worst(found: list[float | None], truth: list[float]) -> tuple[float, date]:
    """Greatest distance, and its day; an unknown is infinitely far."""
    distances = [
        abs(f - t) if f is not None else float("inf") for f, t in zip(found, truth, strict=True)
    ]
    far = max(distances)
    return far, FIRST + timedelta(days=distances.index(far))


@pytest.mark.parametrize("site", TWINS)
class TestWithoutDecay:
    @pytest.mark.parametrize(
        "quantity",
        [
            "total",
            "reservable",
            "committed",
            "occupied_reservation",
            "occupied_ondemand",
            "active_reservation",
            "active_ondemand",
        ],
    )
    def test_every_day_is_the_truth(self, whole, site, quantity):
        truth = daily_truth(whole, site, quantity)
        assert quantity.endswith("ondemand") or max(truth) > 0.5
        far, when = worst(daily(whole, site, quantity), truth)
        assert far <= 1e-6, f"{far} nodes on {when}"

    def test_lead_times_are_the_truths(self, whole, site):
        truth = pl.read_parquet(whole / "raw" / site / "truth" / "leases.parquet")
        found = pl.read_parquet(whole / "out" / site / "leadtime_leases.parquet")
        assert set(found["lease_id"]) == set(truth["lease_id"])
        both = found.join(truth, on="lease_id", suffix="_true")
        for name in ("requested_h", "effective_h"):
            same = (both[name] - both[f"{name}_true"]).abs() <= 1e-6
            neither = both[name].is_null() & both[f"{name}_true"].is_null()
            off = both.filter(~(same.fill_null(value=False) | neither))
            assert off.is_empty(), f"{name}: {off.height} of {both.height}: {off.head(3)}"

    def test_nothing_is_rejected_as_corrected_nonsense(self, whole, site, usage):
        said = usage("check", "--config", CONFIG, "--output", whole / "out", "--site", site)
        # Without decay the declared gaps are none, and check says so; all else must hold.
        complaints = [line for line in said.err.splitlines() if "declared as a gap" not in line]
        assert [line for line in complaints if not line.startswith("Error: ")] == []


# No table tells the size of an Edge device.
@pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "kvm_tacc"])
@pytest.mark.parametrize("quantity", ["total", "reservable", "committed"])
@pytest.mark.parametrize("resource", ["vcpus", "memory_mb", "disk_gb", "gpus"])
def test_every_day_is_the_truth_in_every_resource(whole, site, quantity, resource):
    truth = daily_truth(whole, site, quantity, resource)
    found = daily(whole, site, quantity, resource)
    known = [(f, t) for f, t in zip(found, truth, strict=True) if f is not None]
    # Blazar alone tells GPUs: of a host that it does not know they are unknown.
    if resource != "gpus":
        assert len(known) == DAYS
    assert known
    wrong = sum(abs(f - t) > 1e-6 * max(t, 1) for f, t in known)
    assert wrong == 0, f"{wrong} of {len(known)} days"


@pytest.mark.parametrize("site", TWINS)
class TestWithDecay:
    def test_contracts_hierarchy_partition_and_declared_gaps_hold(self, decayed, site, usage):
        said = usage("check", "--config", CONFIG, "--output", decayed / "out", "--site", site)
        assert said.status == 0, said.err

    def test_the_hierarchy_holds_for_every_host_and_day(self, decayed, site):
        rows = pl.read_parquet(decayed / "out" / site / "usage_by_host.parquet").filter(
            pl.col("collector_type") == "corrected"
        )
        keys = ["hypervisor_hostname", "timestamp"]
        sums = rows.group_by(*keys, "count_type").agg(pl.col("value").sum())
        table = sums.pivot(on="count_type", index=keys, values="value").fill_null(0.0)
        chain = ["total", "reservable", "committed", "occupied_reservation", "active_reservation"]
        chain = [name for name in chain if name in table.columns]
        assert len(chain) >= 3
        for parent, child in itertools.pairwise(chain):
            broken = table.filter(pl.col(parent) < pl.col(child) - 1e-6)
            assert broken.is_empty(), f"{parent} < {child}: {broken.head(3)}"

    def test_every_row_is_kept_or_rejected(self, decayed, site):
        """Rows in = rows kept + rows rejected, for each table that tells of hosts or holders."""
        from chameleon_usage import pipeline

        stage, _ = pipeline.facts(SITES[site], decayed / "raw")
        tables = {
            "nova.compute_nodes": ("id", "total"),
            "blazar.computehosts": ("id", "reservable"),
            "blazar.computehost_allocations": ("id", "committed"),
            "nova.instances": ("uuid", "occupied"),
            "blazar.devices": ("id", "reservable"),
            "blazar.device_allocations": ("id", "committed"),
            "zun.container": ("uuid", "occupied"),
        }
        intervals, rejects = stage.ingested.intervals, stage.ingested.rejects
        seen = 0
        for table, (key, quantity) in tables.items():
            paths = [decayed / "raw" / site / f"{table}.parquet"]
            archive = table.replace("nova.", "nova.shadow_")
            paths += (decayed / "raw" / site).glob(f"{archive}.parquet") if "nova" in table else []
            kept = intervals.filter(
                (pl.col("source") == table) & (pl.col("quantity_type") == quantity)
            ).unique("entity_id")
            if kept.is_empty():
                continue
            rows = [
                str(value)
                for path in paths
                for value in pl.read_parquet(path, columns=[key])[key].to_list()
            ]
            gone = rejects.filter(pl.col("source") == table)["source_row_id"].to_list()
            mine = [entity for entity in kept["entity_id"] if entity in set(rows)]
            assert sorted([*mine, *gone]) == sorted(rows), table
            seen += len(rows)
        assert seen > 50

    def test_every_day_of_ten_years_is_there(self, decayed, site):
        timeline = pl.read_parquet(decayed / "out" / site / "usage_timeline.parquet")
        total = timeline.filter(
            (pl.col("collector_type") == "corrected") & (pl.col("count_type") == "total")
        )
        assert total.height == DAYS
        assert total["value"].null_count() == 0


def test_the_order_of_rows_changes_no_byte_of_the_decayed_twin(decayed, tmp_path):
    """At a size at which sums are made in parallel."""
    site = "chi_uc"
    raw, again = decayed / "raw" / site, tmp_path / "raw" / site
    again.mkdir(parents=True)
    (again / "manifest.json").write_bytes((raw / "manifest.json").read_bytes())
    for path in raw.glob("*.parquet"):
        pl.read_parquet(path).sample(fraction=1, shuffle=True, seed=7).write_parquet(
            again / path.name
        )
    arguments = ["run", "--config", str(CONFIG), "--data-dir", str(tmp_path / "raw"), "--by-host"]
    cli([*arguments, *TEN_YEARS, "--output", str(tmp_path / "out")], standalone_mode=False)
    for path in sorted((decayed / "out" / site).glob("*.parquet")):
        assert (tmp_path / "out" / site / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("site", ["chi_edge", "chi_tacc", "chi_uc"])
def test_a_projected_lead_time_is_what_the_scheduler_knew(decayed, site):
    """From 2022 on, 95 % of what is given within an hour, and most of it given for one node."""
    projected = pl.read_parquet(decayed / "out" / site / "leadtime_projected.parquet")
    true = true_waits(projected, decayed / "raw" / site / "truth")
    found = projected_errors(projected, true).filter(pl.col("era") == "2022_on")
    assert found.height
    assert found["within"].min() >= 0.95
    assert found.filter(pl.col("nodes") == 1)["known"].item() >= 0.7
