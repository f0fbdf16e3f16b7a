"""What an operator's trial found: each was a wrong number in silence, or a traceback."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import polars as pl
import pytest

from chameleon_usage import pipeline
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest import loader
from chameleon_usage.models.site import DEFAULT_SOURCES, Priority
from chameleon_usage.usage.buckets import Window
from support.sites import DAY0, SITES, TinySite, day

KVM = {"hypervisor_type": "QEMU"}


def kvm_site(**host: object) -> TinySite:
    """One KVM host of 48 vcpus."""
    site = TinySite("kvm_tacc")
    site.hypervisor("k1", 0, **KVM | host)
    return site


def test_a_site_that_names_no_sources_counts_each_instance_once():
    site = kvm_site()
    site.site = replace(site.site, sources=DEFAULT_SOURCES)
    site.instance("I", "k1", 2, 6, vcpus=24)
    assert sum(site.corrected("occupied")) == 4 * 0.5


def test_an_order_without_a_table_that_is_read_is_refused():
    rule = {"total": Priority("gap-fill", ("trace.machine_events", "inventory.node_intervals"))}
    site = TinySite("kvm_tacc")
    site.site = replace(site.site, sources=DEFAULT_SOURCES | rule, declared=rule)
    with pytest.raises(UsageError, match=r"order of total .* names no table"):
        site.facts  # noqa: B018 - computed when read


def test_a_month_of_the_caches_is_the_mean_of_its_days_or_unknown():
    site = TinySite()
    site.host()
    for number in range(31):
        site.cached_day(number, total_hours=24.0 * 5)
    for number in range(31, 31 + 20):  # February lacks nine days
        site.cached_day(number, total_hours=24.0 * 7)
    window = Window(DAY0, datetime(2020, 3, 1), "1mo")
    table = site.over(window).outputs["usage_timeline"]
    legacy = table.filter(
        (pl.col("collector_type") == "legacy") & (pl.col("count_type") == "total")
    )
    assert legacy["value"].to_list() == [5.0, None]


def test_a_maintenance_window_without_an_end_lasts():
    site = TinySite()
    site.host()
    site.add(
        "chameleon_usage.node_maintenance", hypervisor_hostname="h1", start_time=6, end_time=None
    )
    assert site.corrected("maintenance") == [0.0] * 6 + [1.0] * 4
    assert site.corrected("available") == [1.0] * 6 + [0.0] * 4


@pytest.mark.parametrize("text", ["2020-01-03T06:00:00Z", "2020-01-03 00:00:00-06:00"])
def test_text_with_a_zone_is_read_in_utc(tmp_path, text):
    site = TinySite()
    site.host()
    folder = site.write(tmp_path)
    path = folder / "nova.compute_nodes.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(created_at=pl.lit(text)).write_parquet(path)
    read = loader.load_raw_inputs(folder, ["nova.compute_nodes"])
    assert read.tables["nova.compute_nodes"]["created_at"][0] == datetime(2020, 1, 3, 6)


def test_a_file_most_of_which_cannot_be_read_is_refused(tmp_path):
    site = TinySite()
    for number in range(20):
        site.hypervisor(f"h{number + 1}", 0)
    folder = site.write(tmp_path)
    path = folder / "nova.compute_nodes.parquet"
    pl.read_parquet(path).with_columns(created_at=pl.lit("yesterday")).write_parquet(path)
    with pytest.raises(UsageError, match=r"compute_nodes.parquet: 21 of 21 rows .* created_at"):
        loader.load_raw_inputs(folder, ["nova.compute_nodes"])


def test_an_archive_table_may_have_types_of_its_own(tmp_path):
    site = kvm_site()
    site.instance("live", "k1", 2, 3, vcpus=12)
    folder = site.write(tmp_path)
    live = pl.read_parquet(folder / "nova.instances.parquet")
    live.with_columns(
        pl.lit("archived").alias("uuid"),
        pl.col("vcpus").cast(pl.Int32),
        pl.col("created_at").dt.replace_time_zone("UTC"),
    ).head(1).write_parquet(folder / "nova.shadow_instances.parquet")
    read = loader.load_raw_inputs(folder, ["nova.instances"]).tables["nova.instances"]
    assert set(read["uuid"]) >= {"live", "archived"}


def test_a_machine_without_reservation_on_a_host_in_the_pool_takes_from_what_can_be_leased():
    site = TinySite("kvm_tacc")
    site.host("k1", **KVM)
    site.slices("L", 2, 6, ["b-k1"], vcpus=24)
    site.instance("stray", "k1", 4, 8, vcpus=36, project_id="q")
    committed, stray = site.corrected("committed"), site.corrected("occupied_ondemand")
    assert committed == [0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0]
    assert stray == [0, 0, 0, 0, 0.5, 0.5, 0.75, 0.75, 0, 0]  # never more than the lease leaves
    assert site.corrected("available") == [1, 1, 0.5, 0.5, 0, 0, 0.25, 0.25, 1, 1]
    assert site.corrected("available_ondemand") == [0.0] * 10
    # Two days of a quarter of the node did not fit beside the lease: 12 node-hours.
    assert site.hours("nova.instance_actions", "k1", "corrected occupied_ondemand") == 12.0


@pytest.mark.parametrize("vcpus", [None, 0, -12])
def test_a_machine_that_does_not_tell_its_size_is_rejected(vcpus):
    site = kvm_site()
    site.instance("I", "k1", 2, 6, vcpus=vcpus)
    assert site.corrected("occupied") == [0.0] * 10
    assert "size unknown" in site.rejected("nova.instance_actions", "corrected")["I"]


@pytest.mark.parametrize("size", [2**30, 2**55])
def test_a_giant_is_no_size_and_overflows_no_sum(size):
    site = TinySite("kvm_tacc")
    site.host("k1", **KVM)
    site.slices("L", 2, 6, ["b-k1"], vcpus=12)
    site.slices("giant", 2, 6, ["b-k1"], vcpus=size)
    site.instance("I", "k1", 2, 6, lease="L", flavor=True, vcpus=12, memory_mb=size, root_gb=size)
    assert site.corrected("committed") == [0, 0, 0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0]
    assert site.corrected("occupied") == site.corrected("committed")
    assert site.uncorrected("occupied", resource="disk_gb")[2:6] == [None] * 4
    reasons = site.rejected("blazar.computehost_allocations").values()
    assert list(reasons) == ["size of the slice unknown"]


def test_a_slice_that_does_not_tell_its_size_is_rejected():
    site = TinySite("kvm_tacc")
    site.host("k1", **KVM)
    site.lease("L", 2, 6, ["b-k1"], resource_type="flavor:instance")
    assert site.corrected("committed") == [0.0] * 10
    assert "size of the slice unknown" in site.rejected("blazar.computehost_allocations").values()


def test_a_name_that_only_a_stray_instance_bears_makes_no_node():
    site = TinySite()
    site.host()
    site.instance("I", "typo", 2, 6)
    assert site.corrected("total") == [1.0] * 10


def test_what_begins_after_the_tables_were_read_is_rejected():
    site = TinySite()
    site.host()
    site.hypervisor("h2", 30)
    assert site.rejected("nova.compute_nodes", "as_of") == {"2": "begins later"}


def test_a_host_written_over_in_a_running_lease_is_found_by_its_instance():
    site = TinySite()
    site.host("h1")
    site.host("h2")
    site.lease("L", 2, 8, ["b-h2"])  # h1 was replaced on day 5, and its row written over
    site.instance("first", "h1", 2, 5, lease="L")
    site.instance("second", "h2", 5, 8, lease="L")
    assert site.corrected("occupied") == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert site.corrected("committed") == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert (day(2), day(5)) in site.inferred("committed")


def test_gpus_are_numbers_or_unknown():
    for text, expected in ((" 4", 4.0), ("4.0", 4.0), ("four", None), ("-4", None)):
        site = TinySite()
        site.host(node_type="gpu", gpus=text)
        got = site.corrected("total", resource="gpus")
        assert got == ([expected] * 10 if expected else []), text


def test_sites_of_the_project_declare_only_sources_that_are_read():
    for site in SITES.values():
        pipeline.check_orders(site)
