"""The published record of the testbed: machine events and lease files of other makers."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import csv
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage import pipeline, runs
from chameleon_usage.stages import load_usage
from chameleon_usage.usage.buckets import Window
from support.sites import PROJECT, SITES, day, on

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = PROJECT / "data" / "sites.yaml"
SITE = "chi_tacc_published"

EVENTS = """\
EVENT_TIME,EVENT_TIME_SEC,HOST_NAME (PHYSICAL),EVENT,PROPERTIES
2020-01-01T00:00:00,0.0,aa,CREATE,"{'placement.rack': 6, 'architecture.smt_size': '48', \
'storage_devices.0.size': '250059350016', 'main_memory.ram_size': '134956859392'}"
2020-01-03T12:00:00,0.0,bb,CREATE,"{'node_type': 'gpu_p100', 'architecture.smt_size': '24'}"
2020-01-02T00:00:00,0.0,aa,UPDATE,"{'node_type': 'compute_haswell', \
'architecture.smt_size': '48', 'main_memory.ram_size': '137438953472'}"
2020-01-04T00:00:00,0.0,bb,DISABLE,
2020-01-05T00:00:00,0.0,bb,ENABLE,
2020-01-06T00:00:00,0.0,aa,DELETE,
2020-01-07T00:00:00,0.0,cc,DELETE,
2020-01-11T00:00:00,0.0,bb,UPDATE,"{'node_type': 'gpu_p100', 'architecture.smt_size': '24'}"
"""

LEASE_COLUMNS = (
    "lease_id,project_id,user_id,created_at,deleted_at,start_on,end_on,status,node_cnt,"
    "reserve_conditions,reserve_count_range,node_type"
)
ON_DEMAND = f"""\
{LEASE_COLUMNS}
early,p,u,2020-01-02 00:00:00,2020-01-04 12:00:00,2020-01-02 00:00:00,2020-01-09 00:00:00,\
completed,3,"[""="", ""$node_type"", ""compute_haswell""]",3-3,compute_haswell
late,p,u,2020-01-05 06:00:00,2020-01-08 00:00:00,2020-01-05 00:00:00,2020-01-07 00:00:00,\
completed,1,"[""="", ""$node_type"", ""compute_haswell""]",1-1,compute_haswell
none,p,u,2020-01-05 00:00:00,2020-01-08 00:00:00,2020-01-05 00:00:00,2020-01-07 00:00:00,\
completed,0,[],0-0,compute_haswell
"""
IN_ADVANCE = f"""\
{LEASE_COLUMNS}
ahead,p,u,2020-01-01 00:00:00,2020-01-08 00:00:00,2020-01-06 00:00:00,2020-01-08 00:00:00,\
active,2,"[""="", ""$node_type"", ""gpu_p100""]",2-2,gpu_p100
given up,p,u,2020-01-01 00:00:00,2020-01-03 00:00:00,2020-01-06 00:00:00,2020-01-08 00:00:00,\
completed,2,"[""="", ""$node_type"", ""gpu_p100""]",2-2,gpu_p100
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict[str, pl.DataFrame]:
    """The same formats in small: three machines, five leases."""
    folder = tmp_path_factory.mktemp("published")
    files = {
        "chameleon_machine_events/tacc_machine_events.csv": EVENTS,
        "chameleon_leases_tacc/on_demand/compute_haswell.csv": ON_DEMAND,
        "chameleon_leases_tacc/in_advance/gpu_p100.csv": IN_ADVANCE,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    runs.run_site(SITES[SITE], folder, folder / "out", Window(day(0), day(10)))
    return load_usage(folder / "out" / SITE)


def daily(tables: dict[str, pl.DataFrame], count_type: str, *, resource: str = "nodes", **of: str):
    table = tables["usage_by_node_type" if of else "usage_by_resource"].filter(
        (pl.col("collector_type") == "corrected")
        & (pl.col("count_type") == count_type)
        & (pl.col("resource") == resource),
        **of,
    )
    by_day = dict(table.select(pl.col("timestamp").dt.replace_time_zone(None), "value").rows())
    return [by_day.get(day(n), 0.0) for n in range(10)]


class TestSmall:
    def test_a_machine_exists_from_its_create_to_its_delete_event(self, small):
        expected = [a + b for a, b in zip(on((0, 5)), on((2.5, 10)), strict=True)]
        assert daily(small, "total") == expected

    def test_properties_tell_type_and_size(self, small):
        assert daily(small, "total", node_type="compute_haswell") == on((0, 5))
        assert daily(small, "total", node_type="gpu_p100") == on((2.5, 10))
        assert daily(small, "total", node_type="compute_haswell", resource="vcpus") == on(
            (0, 5), height=48
        )
        # 134956859392 bytes, and from the update on 137438953472.
        memory = daily(small, "total", node_type="compute_haswell", resource="memory_mb")
        assert memory == [134956859392 // 2**20, *[137438953472 / 2**20] * 4, 0, 0, 0, 0, 0]

    def test_a_lease_commits_its_nodes_from_start_or_creation_to_end_or_deletion(self, small):
        early = on((1, 3.5), height=3)
        late = on((4.25, 6))
        ahead = on((5, 7), height=2)
        assert daily(small, "committed") == [sum(n) for n in zip(early, late, ahead, strict=True)]

    def test_of_each_type(self, small):
        assert daily(small, "committed", node_type="gpu_p100") == on((5, 7), height=2)

    def test_requested_lead_times(self, small):
        leases = small["leadtime_leases"]
        assert dict(leases.select("lease_id", "requested_h").rows()) == {
            "early": 0,
            "late": -6,
            "none": 0,
            "ahead": 120,
            "given up": 120,
        }
        assert leases["effective_h"].null_count() == 5
        outcomes = dict(leases.select("lease_id", "outcome").rows())
        assert outcomes["given up"] == "cancelled"

    def test_what_is_refused_has_its_reason(self, small):
        rows = small["rejects"].filter(pl.col("stage") == "ingest")
        reasons = {row["source_row_id"]: row["reason"] for row in rows.iter_rows(named=True)}
        assert set(reasons) == {"cc", "none", "given up"}
        assert reasons["cc"] == "no start"

    def test_nothing_is_said_of_what_the_record_does_not_tell(self, small):
        told = small["usage_timeline"].filter(pl.col("value").is_not_null())
        types = set(told["count_type"].unique())
        assert not types & {"reservable", "occupied", "active", "idle", "available", "stopped"}


# --- the real files -----------------------------------------------------------------------------


def rows_of(*paths: Path) -> list[dict[str, str]]:
    found = []
    for path in paths:
        with path.open(newline="") as file:
            found += csv.DictReader(file)
    return found


def overlap(start: datetime, end: datetime, year: int) -> float:
    """Hours of [start, end) within a year."""
    first, last = datetime(year, 1, 1), datetime(year + 1, 1, 1)
    return max(0.0, (min(end, last) - max(start, first)).total_seconds() / 3600)


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory) -> Path:
    """Run the command over the real files; give the site's output directory."""
    from chameleon_usage.cli import cli

    out = tmp_path_factory.mktemp("real")
    arguments = ["run", "--config", str(CONFIG), "--site", SITE]
    arguments += ["--data-dir", str(real_data), "--output", str(out)]
    cli(arguments, standalone_mode=False)
    return out / SITE


@pytest.fixture(scope="module")
def real_leases(real_data) -> list[dict[str, str]]:
    return rows_of(*sorted((real_data / "chameleon_leases_tacc").glob("*/*.csv")))


def yearly_hours(out: Path, count_type: str) -> dict[int, float]:
    timeline = pl.read_parquet(out / "usage_timeline.parquet").filter(
        (pl.col("collector_type") == "corrected") & (pl.col("count_type") == count_type)
    )
    by_year = timeline.group_by(pl.col("timestamp").dt.year()).agg(pl.col("value").sum() * 24)
    return dict(by_year.rows())


@pytest.mark.real
class TestReal:
    def test_every_one_of_the_24985_leases_is_in_the_lead_times(self, real, real_leases):
        leases = pl.read_parquet(real / "leadtime_leases.parquet")
        assert leases.height == 24_985 == len(real_leases)
        assert leases["lease_id"].n_unique() == 24_985
        assert leases["requested_h"].null_count() == 0

    def test_requested_lead_times_are_those_of_the_files(self, real, real_leases):
        expected = {
            row["lease_id"]: (
                datetime.fromisoformat(row["start_on"]) - datetime.fromisoformat(row["created_at"])
            ).total_seconds()
            / 3600
            for row in real_leases
        }
        leases = pl.read_parquet(real / "leadtime_leases.parquet")
        assert dict(leases.select("lease_id", "requested_h").rows()) == pytest.approx(expected)

    def test_every_lease_is_kept_or_rejected(self, real, real_data, real_leases):
        stage, _ = pipeline.facts(SITES[SITE], real_data)
        kept = stage.ingested.intervals.filter(pl.col("source") == "published.leases")
        rejects = pl.read_parquet(real / "rejects.parquet").filter(
            (pl.col("source") == "published.leases")
            & pl.col("stage").is_in(["input validation", "ingest"])
        )
        both = [*kept["entity_id"], *rejects["source_row_id"]]
        assert sorted(both) == sorted(row["lease_id"] for row in real_leases)
        assert 0 < rejects.height < 0.1 * len(real_leases)
        assert rejects["reason"].null_count() == 0

    def test_committed_node_hours_are_those_of_a_plain_count(self, real, real_leases):
        hours = dict.fromkeys(range(2016, 2021), 0.0)
        for row in real_leases:
            first = max(datetime.fromisoformat(row[name]) for name in ("start_on", "created_at"))
            ends = [row[name] for name in ("end_on", "deleted_at") if row[name]]
            last = min(map(datetime.fromisoformat, ends))
            for year in hours:
                hours[year] += int(row["node_cnt"]) * overlap(first, max(first, last), year)
        found = yearly_hours(real, "committed")
        assert min(hours.values()) > 0
        assert {year: found[year] for year in hours} == pytest.approx(hours, rel=1e-9)

    def test_total_is_that_of_a_plain_count(self, real, real_data):
        events = rows_of(real_data / "chameleon_machine_events" / "tacc_machine_events.csv")
        assert len(events) == 2_229
        created = [
            datetime.fromisoformat(e["EVENT_TIME"]) for e in events if e["EVENT"] == "CREATE"
        ]
        assert len(created) == 398
        assert not [e for e in events if e["EVENT"] == "DELETE"]
        still = datetime(2020, 1, 1)  # no machine leaves the record before its end
        hours = {y: sum(overlap(c, still, y) for c in created) for y in range(2016, 2020)}
        found = yearly_hours(real, "total")
        assert {year: found[year] for year in hours} == pytest.approx(hours, rel=1e-9)
        means = [hours[year] / 8766 for year in hours]
        assert means == sorted(means)
        assert 200 < means[0] < means[-1] < 398

    def test_the_outputs_pass_check(self, real, usage):
        said = usage("check", "--config", CONFIG, "--output", real.parent, "--site", SITE)
        assert said.status == 0, said.err
