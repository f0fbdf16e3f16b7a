"""The 24 cases that the design promises, each on a site small enough to count by hand.

One node unless said; days are whole days; the window is days 0 to 9.
"""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import itertools
from datetime import datetime

import polars as pl
import polars.selectors as cs
import pytest

from chameleon_usage.models.outputs import OUTPUTS, PROJECT_TABLES
from chameleon_usage.usage.buckets import Window
from support.sites import DAYS, HOUR, MINUTE, TinySite, day, on

NEVER = [0.0] * DAYS
ALWAYS = [1.0] * DAYS
HIERARCHY = (
    "total",
    "reservable",
    "committed",
    "occupied_reservation",
    "active_reservation",
)
PARTITION = (
    "maintenance",
    "available",
    "idle",
    "stopped",
    "active",
    "available_ondemand",
    "unknown",
)
KVM = {"hypervisor_type": "QEMU"}


def assert_lawful(site: TinySite) -> None:
    """Nothing negative, NaN or infinite; the hierarchy and the partition hold where known."""
    # Those of projects need another reading: only in ranges (test_ranges.py) they are made here.
    for name in OUTPUTS if site.ranges > 1 else OUTPUTS.keys() - PROJECT_TABLES:
        for column in site.outputs[name].select(cs.float()):
            finite = column.drop_nulls().is_finite().all()
            assert finite, f"{name}.{column.name} holds NaN or inf"
    wide = site.outputs["usage_timeline"].filter(pl.col("collector_type") == "corrected")
    wide = wide.pivot(on="count_type", index="timestamp", values="value")
    for column in wide.select(cs.float()):
        assert (column.drop_nulls() >= -1e-9).all(), f"{column.name} is negative"
    for parent, child in itertools.pairwise(HIERARCHY):
        if {parent, child} <= set(wide.columns):
            assert (wide[parent] >= wide[child] - 1e-9).drop_nulls().all(), f"{parent} < {child}"
    if set(PARTITION) <= set(wide.columns):
        rest = wide["total"] - wide.select(pl.sum_horizontal(PARTITION)).to_series()
        assert (rest.abs() <= 1e-9).drop_nulls().all(), f"partition: {rest.to_list()}"


def lead_time(site: TinySite, lease: str) -> tuple[float | None, float | None]:
    """Requested and effective lead time of a lease, in hours."""
    row = site.outputs["leadtime_leases"].row(by_predicate=pl.col("lease_id") == lease, named=True)
    return row["requested_h"], row["effective_h"]


def kvm_site() -> TinySite:
    """Two hosts of 48 vcpus, k1 in Blazar's pool and k2 outside."""
    site = TinySite("kvm_tacc")
    site.host("k1", **KVM)
    site.hypervisor("k2", 0, **KVM)
    return site


# --- 1: what a mean is --------------------------------------------------------------------------


def test_case_01_a_22_hour_lease_inside_one_day_counts_22_24ths():
    site = TinySite()
    site.host()
    site.lease("L", 3 + HOUR, 3 + 23 * HOUR)
    assert site.corrected("committed")[3] == 22 / 24
    assert site.uncorrected("committed")[3] == 22 / 24
    assert sum(site.corrected("committed")) == 22 / 24
    assert_lawful(site)


# --- 2, 3: one node, several rows ---------------------------------------------------------------


def test_case_02_two_overlapping_compute_nodes_rows_of_one_hypervisor_are_one_node():
    site = TinySite()
    site.hypervisor("h1", 0, 6)
    site.hypervisor("h1", 4, 9)
    assert site.corrected("total") == on((0, 9))
    assert site.uncorrected("total") == [1, 1, 1, 1, 2, 2, 1, 1, 1, 0]
    assert site.hours("nova.compute_nodes", "2", "corrected") == 48


def test_case_02_rows_less_than_15_minutes_apart_are_one_presence():
    site = TinySite()
    site.hypervisor("h1", 0, 3)
    site.hypervisor("h1", 3 + 14 * MINUTE, 6)
    site.hypervisor("h1", 6 + 15 * MINUTE, 9)
    expected = on((0, 6), (6 + 15 * MINUTE, 9))
    assert site.corrected("total") == pytest.approx(expected, abs=1e-12)
    plain = on((0, 3), (3 + 14 * MINUTE, 6), (6 + 15 * MINUTE, 9))
    assert site.uncorrected("total") == pytest.approx(plain, abs=1e-12)


def test_case_03_duplicate_blazar_hosts_of_one_hypervisor_are_one_reservable_node():
    site = TinySite()
    site.hypervisor("h1", 0)
    site.pool_host("h1", 0, 8, host_id="first")
    site.pool_host("h1", 2, 5, host_id="second")
    assert site.corrected("reservable") == on((0, 8))
    assert site.uncorrected("reservable") == [1, 1, 2, 2, 2, 1, 1, 1, 0, 0]
    assert site.corrected("available") == on((0, 8))
    assert_lawful(site)


# --- 4, 5, 6: leases over changing hosts --------------------------------------------------------


@pytest.mark.parametrize("gap", [5 * MINUTE, 3 * HOUR])
def test_case_04_host_row_re_created_mid_lease_committed_and_occupied_run_through(gap):
    site = TinySite()
    site.hypervisor("h1", 0, 4)
    site.hypervisor("h1", 4 + gap)
    site.pool_host("h1", 0, 4, host_id="old")
    site.pool_host("h1", 4 + gap, host_id="new")
    site.lease("L", 2, 7, ["old"])
    site.instance("I", "h1", 3, 6, lease="L")
    assert site.corrected("total") == ALWAYS
    assert site.corrected("reservable") == ALWAYS
    assert site.corrected("committed") == on((2, 7))
    assert site.corrected("occupied") == on((3, 6))
    assert_lawful(site)


def test_case_05_allocation_soft_deleted_mid_lease_ends_committed_there():
    site = TinySite()
    site.host()
    site.lease("L", 2, 8, [])
    site.allocation("L", "b-h1", 2, 5)
    assert site.corrected("committed") == on((2, 5))
    assert site.uncorrected("committed") == on((2, 5))


def test_case_06_host_added_to_a_running_lease_is_committed_from_the_allocations_creation():
    site = TinySite()
    site.host("h1")
    site.host("h2")
    site.lease("L", 2, 8, ["b-h1"])
    site.allocation("L", "b-h2", 5)
    assert site.corrected("committed") == [0, 0, 1, 1, 1, 2, 2, 2, 0, 0]
    assert site.uncorrected("committed") == [0, 0, 1, 1, 1, 2, 2, 2, 0, 0]
    assert site.corrected("committed", host="h2") == on((5, 8))


# --- 7: inferred hosts --------------------------------------------------------------------------


def test_case_07_blazar_host_without_any_nova_row_total_is_inferred_and_marked():
    site = TinySite()
    site.hypervisor("h1", 0)
    site.pool_host("h2", 2, 7)
    site.lease("L", 3, 5, ["b-h2"])
    assert site.corrected("total") == [1, 1, 2, 2, 2, 2, 2, 1, 1, 1]
    assert site.uncorrected("total") == ALWAYS
    assert site.inferred("total") == [(day(2), day(7))]
    assert site.corrected("reservable") == on((2, 7))
    assert site.corrected("committed") == on((3, 5))
    nova = site.outputs["coverage"].filter(
        (pl.col("source") == "nova.compute_nodes") & (pl.col("quantity_type") == "total")
    )
    assert nova.sort("timestamp")["known_share"].to_list() == [
        1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 1,
    ]  # fmt: skip
    assert_lawful(site)


# --- 8, 9, 10, 11: instances --------------------------------------------------------------------


def shelved_site() -> TinySite:
    site = TinySite()
    site.host()
    site.lease("L", 1, 9)
    site.instance("I", "h1", 1, 9, lease="L")
    return site


def test_case_08_shelved_and_offloaded_days_3_to_5_occupies_nothing_in_between():
    site = shelved_site()
    site.action("I", "shelve", 3)
    site.action("I", "shelve_offload", 3)
    site.action("I", "unshelve", 6, host="h1")
    assert site.corrected("occupied") == on((1, 3), (6, 9))
    assert site.corrected("active") == on((1, 3), (6, 9))
    assert site.corrected("idle") == on((3, 6))
    assert_lawful(site)


def test_case_08_shelved_but_not_offloaded_is_still_occupied_and_not_active():
    site = shelved_site()
    site.action("I", "shelve", 3)
    site.action("I", "shelve_offload", 5)
    site.action("I", "unshelve", 6, host="h1")
    assert site.corrected("occupied") == on((1, 5), (6, 9))
    assert site.corrected("active") == on((1, 3), (6, 9))
    assert site.corrected("stopped") == on((3, 5))


def test_case_08_shelve_without_an_offload_before_the_next_unshelve_offloads_at_its_finish():
    site = shelved_site()
    site.action("I", "shelve", 4, start=3)
    site.action("I", "unshelve", 6, host="h1")
    site.action("I", "shelve", 7, start=7)
    site.action("I", "shelve_offload", 8)
    assert site.corrected("occupied") == on((1, 4), (6, 8))
    assert site.corrected("active") == on((1, 4), (6, 7))


@pytest.mark.parametrize("state", ["building", "active"])
def test_case_09_instance_with_null_node_and_no_events_is_rejected_with_its_reason(state):
    site = TinySite()
    site.host()
    launched = None if state == "building" else 2
    site.instance("I", None, 2, launched_at=launched, vm_state=state, created_event=False)
    assert site.corrected("occupied") == NEVER
    assert site.uncorrected("occupied") == NEVER
    told = site.outputs["rejects"].filter(
        (pl.col("source_row_id") == "I") & pl.col("stage").is_in(["ingest", "corrected occupied"])
    )
    assert told["hours"].to_list() == [8 * 24]
    assert told["reason"][0]
    assert_lawful(site)


def test_case_09_a_failed_launch_occupies_nothing_and_is_a_reject_with_its_hours():
    site = TinySite()
    site.host()
    site.lease("L", 1, 8)
    site.instance(
        "I", None, 2, 5, lease="L", launched_at=None, vm_state="error", created_event=False
    )
    site.action("I", "create", 2, result="Error")
    assert site.corrected("occupied") == NEVER
    assert site.corrected("idle") == on((1, 8))
    assert "launch" in site.rejected("nova.instances")["I"]
    assert site.hours("nova.instances", "I", "ingest") == 3 * 24


def test_case_10_ironic_instance_with_null_node_sits_on_its_reservations_only_host():
    site = TinySite()
    site.host("h1")
    site.host("h2")
    site.lease("L", 2, 8, ["b-h2"])
    site.instance("I", None, 3, 6, lease="L")
    assert site.corrected("occupied", host="h2") == on((3, 6))
    assert site.corrected("occupied") == on((3, 6))


def test_case_10_or_on_the_only_host_that_the_reservations_other_instances_leave_free():
    site = TinySite()
    for name in ("h1", "h2", "h3"):
        site.host(name)
    site.lease("L", 2, 8, ["b-h1", "b-h2"])
    site.instance("I1", "h1", 2, 8, lease="L")
    site.instance("I2", None, 3, 6, lease="L")
    assert site.corrected("occupied", host="h1") == on((2, 8))
    assert site.corrected("occupied", host="h2") == on((3, 6))
    assert site.corrected("occupied", host="h3") in ([], NEVER)


def test_case_10_else_it_is_rejected():
    site = TinySite()
    site.host("h1")
    site.host("h2")
    site.lease("L", 2, 8, ["b-h1", "b-h2"])
    site.instance("I", None, 3, 6, lease="L", created_event=False)
    assert site.corrected("occupied") == NEVER
    assert site.rejected("nova.instances", "corrected")["I"]
    assert site.hours("nova.instances", "I", "corrected occupied") == 3 * 24


def test_case_11_purged_spec_and_host_committed_to_a_lease_of_the_project_is_reserved():
    site = TinySite()
    site.host()
    site.lease("L", 2, 8, project_id="p")
    site.instance("mine", "h1", 3, 6, project_id="p")
    assert site.corrected("occupied_reservation") == on((3, 6))
    assert site.corrected("occupied_ondemand") == NEVER


def test_case_11_on_kvm_it_is_reserved_and_not_on_demand():
    site = kvm_site()
    site.slices("L", 2, 8, ["b-k1"], vcpus=12, project_id="p")
    site.instance("mine", "k1", 3, 6, project_id="p", vcpus=12)
    site.instance("other", "k2", 4, 9, project_id="q", vcpus=24)
    assert site.corrected("occupied_reservation") == on((3, 6), height=0.25)
    assert site.corrected("occupied_ondemand") == on((4, 9), height=0.5)
    assert site.corrected("idle") == on((2, 3), (6, 8), height=0.25)
    assert_lawful(site)


def test_case_11_a_bare_metal_instance_that_no_reservation_covers_is_a_reject():
    site = TinySite()
    site.host()
    site.lease("L", 2, 8, project_id="p")
    site.instance("other", "h1", 3, 6, project_id="q", created_event=False)
    assert site.corrected("occupied") == NEVER
    assert site.rejected("nova.instances", "corrected")["other"]
    assert site.hours("nova.instances", "other", "corrected occupied") == 3 * 24


# --- 12 to 15: impossible and missing values ----------------------------------------------------


def test_case_12_end_before_start_is_rejected_and_nothing_is_negative():
    site = TinySite()
    site.host("h1")
    site.hypervisor("h2", 6, 3)
    site.pool_host("h1", 5, 4, host_id="backwards")
    site.lease("good", 2, 4)
    site.lease("backwards", 6, 5)
    site.instance("I", "h1", 4, 3, lease="good", created_event=False)
    assert site.rejected("nova.compute_nodes")["2"] == "end before start"
    assert site.rejected("blazar.computehosts")["backwards"] == "end before start"
    assert "end before start" in site.rejected("blazar.computehost_allocations").values()
    assert site.rejected("nova.instances")["I"] == "end before start"
    for reading in (site.corrected, site.uncorrected):
        assert reading("total") == ALWAYS
        assert reading("reservable") == ALWAYS
        assert reading("committed") == on((2, 4))
        assert reading("occupied") == NEVER
    assert_lawful(site)


@pytest.mark.parametrize("vcpus", [0, -1, None])
def test_case_13_no_vcpus_gives_no_inf_and_no_nan_anywhere(vcpus):
    site = TinySite("kvm_tacc")
    site.host("k1", **KVM)
    site.host("k2", vcpus=vcpus, **KVM)
    site.slices("L", 2, 8, ["b-k2"], vcpus=12)
    site.instance("I", "k2", 3, 6, lease="L", flavor=True, vcpus=12)
    site.instance("J", "k1", 3, 6, vcpus=0)
    assert site.corrected("total") == on((0, 10), height=2)
    assert site.corrected("committed") == on()
    lost = site.outputs["rejects"].filter(
        pl.col("stage").cast(pl.String).str.starts_with("corrected ")
    )
    assert set(lost["reason"]) == {"size unknown"}
    assert_lawful(site)


def test_case_13_an_ironic_row_without_sizes_is_still_a_whole_node():
    site = TinySite()
    site.host(vcpus=0, memory_mb=0, local_gb=0)
    site.lease("L", 2, 8)
    site.instance("I", "h1", 3, 6, lease="L")
    assert site.corrected("total") == ALWAYS
    assert site.corrected("committed") == on((2, 8))
    assert site.corrected("occupied") == on((3, 6))
    assert all(value is None for value in site.corrected("total", resource="vcpus"))
    assert_lawful(site)


def test_case_14_a_derived_state_is_emitted_only_where_its_operands_exist():
    site = TinySite(adapters=["nova_hosts", "blazar_hosts"])
    site.host()
    assert site.corrected("reservable") == ALWAYS
    for missing in ("committed", "available", "idle", "stopped", "occupied", "active"):
        assert site.corrected(missing) == []
        assert site.uncorrected(missing) == []


def test_case_14_and_only_for_the_resources_that_are_told():
    site = TinySite()
    site.host()
    site.lease("L", 2, 8)
    assert site.corrected("available", resource="vcpus") == [
        48, 48, 0, 0, 0, 0, 0, 0, 48, 48,
    ]  # fmt: skip
    for name in ("total", "reservable", "available", "idle"):
        assert site.corrected(name, resource="gpus") == []


def test_case_15_a_bare_metal_instance_occupies_the_whole_node_in_every_resource():
    site = TinySite()
    site.host(node_type="gpu_p100", gpus=2)
    site.lease("L", 2, 8)
    site.instance("I", "h1", 3, 6, lease="L", vcpus=1, memory_mb=1, root_gb=1)
    sizes = {"nodes": 1, "vcpus": 48, "memory_mb": 1000, "disk_gb": 10, "gpus": 2}
    for resource, size in sizes.items():
        for reading in (site.corrected, site.uncorrected):
            assert reading("total", resource=resource) == on((0, 10), height=size), resource
            assert reading("committed", resource=resource) == on((2, 8), height=size), resource
            assert reading("occupied", resource=resource) == on((3, 6), height=size), resource
        assert site.corrected("active", resource=resource) == on((3, 6), height=size), resource
    assert site.corrected("occupied", node_type="gpu_p100") == on((3, 6))


# --- 16, 17: missing bounds ---------------------------------------------------------------------


@pytest.mark.parametrize("never", [None, "0000-00-00 00:00:00"])
class TestCase16:
    """created_at NULL or a zero date: inferred from other evidence or rejected, never vanished."""

    def test_case_16_a_host_starts_with_its_blazar_row(self, never):
        site = TinySite()
        site.hypervisor("h1", never)
        site.hypervisor("h2", 0, 1)
        site.pool_host("h1", 3, 8)
        # It lives on: only when it began is not told.
        assert site.corrected("total") == [1, 0, 0, 1, 1, 1, 1, 1, 1, 1]
        assert (day(3), day(DAYS)) in site.inferred("total")

    def test_case_16_a_host_starts_where_its_row_before_ended(self, never):
        site = TinySite()
        site.hypervisor("h1", 0, 3)
        site.hypervisor("h1", never, 8)
        assert site.corrected("total") == on((0, 8))
        assert (day(3), day(8)) in site.inferred("total")
        assert site.uncorrected("total") == on((0, 3))

    def test_case_16_ids_count_up_so_a_host_starts_after_the_row_before_it(self, never):
        site = TinySite()
        site.hypervisor("h1", 0, 3)
        site.hypervisor("h2", 5, 6)
        site.hypervisor("h1", never, 8)
        assert site.corrected("total") == [1, 1, 1, 0, 0, 2, 1, 1, 0, 0]

    def test_case_16_a_host_without_other_evidence_is_rejected(self, never):
        site = TinySite()
        site.hypervisor("h1", never, 5)
        site.hypervisor("h2", 0)
        assert site.corrected("total") == ALWAYS
        assert site.rejected("nova.compute_nodes")["1"] == "no start"

    def test_case_16_a_blazar_host_starts_with_its_first_allocation(self, never):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.pool_host("h1", never, 9)
        site.lease("L", 4, 6)
        assert site.corrected("reservable") == on((4, 9))

    def test_case_16_a_blazar_host_without_other_evidence_is_rejected(self, never):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.pool_host("h1", never, 9)
        assert site.corrected("reservable") == NEVER
        assert site.rejected("blazar.computehosts")["b-h1"] == "no start"

    def test_case_16_an_allocation_starts_with_its_lease(self, never):
        site = TinySite()
        site.host()
        site.lease("L", 4, 6, [])
        site.allocation("L", "b-h1", never)
        assert site.corrected("committed") == on((4, 6))

    def test_case_16_a_lease_holds_from_its_start_date(self, never):
        site = TinySite()
        site.host()
        site.lease("L", 4, 6, created_at=never, allocated=1)
        assert site.corrected("committed") == on((4, 6))
        assert site.rejected("blazar.leases")["L"]

    def test_case_16_an_instance_starts_with_its_create_action(self, never):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8)
        site.instance("I", "h1", never, 6, lease="L", active=4, created_event=False)
        site.action("I", "create", 4, start=3)
        assert site.corrected("occupied") == on((3, 6))
        assert site.corrected("active") == on((4, 6))

    def test_case_16_an_instance_without_events_starts_with_its_launch(self, never):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8)
        site.instance("I", "h1", never, 6, lease="L", active=4, created_event=False)
        assert site.corrected("occupied") == on((4, 6))


def test_case_16_an_instance_without_any_start_is_rejected():
    site = TinySite()
    site.host()
    site.lease("L", 2, 8)
    site.instance("I", "h1", None, 6, lease="L", created_event=False)
    assert site.corrected("occupied") == NEVER
    assert site.rejected("nova.instances")["I"]


def test_case_17_lease_without_an_end_date_ends_with_its_allocation():
    site = TinySite()
    site.host()
    site.lease("L", 2, None, [])
    site.allocation("L", "b-h1", 2, 5)
    assert site.corrected("committed") == on((2, 5))
    assert site.inferred("committed") == [(day(2), day(5))]


def test_case_17_or_with_the_leases_deletion():
    site = TinySite()
    site.host()
    site.lease("L", 2, None, deleted_at=6)
    assert site.corrected("committed") == on((2, 6))
    assert site.inferred("committed") == [(day(2), day(6))]


def test_case_17_else_at_as_of():
    site = TinySite(as_of=9)
    site.host()
    site.lease("L", 2, None)
    assert site.corrected("committed") == [*on((2, 9))[:9], None]
    assert site.inferred("committed") == [(day(2), day(9))]


# --- 18, 19: sites and windows ------------------------------------------------------------------


def test_case_18_a_site_without_edge_tables_runs():
    site = TinySite("chi_uc")
    site.host()
    site.lease("L", 2, 5)
    assert not [name for name in site.tables if name.startswith(("zun.", "blazar.device"))]
    assert site.corrected("total") == ALWAYS
    assert site.corrected("committed") == on((2, 5))


def test_case_18_an_edge_site_without_nova_runs():
    site = TinySite("chi_edge")
    site.device("raspberry", 0)
    site.lease("L", 2, 8, ["d-raspberry"], resource_type="device")
    site.container("c1", "raspberry", 3, started_at=4)
    assert not [name for name in site.tables if name.startswith("nova")]
    for reading in (site.corrected, site.uncorrected):
        assert reading("total") == ALWAYS
        assert reading("reservable") == ALWAYS
        assert reading("committed") == on((2, 8))
    assert site.corrected("occupied") == on((3, 8))
    assert site.corrected("active") == on((4, 8))
    assert site.corrected("stopped") == on((3, 4))
    assert_lawful(site)


@pytest.mark.parametrize(
    ("start", "end", "bucket", "count", "last"),
    [
        (datetime(2020, 1, 2), datetime(2020, 1, 5), "1d", 3, datetime(2020, 1, 4)),
        (datetime(2020, 1, 2, 6), datetime(2020, 1, 3, 9), "1h", 27, datetime(2020, 1, 3, 8)),
        (datetime(2020, 1, 1), datetime(2020, 3, 15), "1mo", 3, datetime(2020, 3, 1)),
    ],
)
def test_case_19_the_first_row_is_at_a_and_the_last_bucket_ends_at_b(
    start, end, bucket, count, last
):
    site = TinySite(as_of=100)
    site.host()
    site.window = Window(start, end, bucket)
    for table in ("usage_timeline", "usage_by_resource"):
        stamps = site.outputs[table]["timestamp"].unique().sort().dt.replace_time_zone(None)
        assert stamps.len() == count
        assert stamps[0] == start
        assert stamps[-1] == last
    assert site.corrected("total") == [1.0] * count


# --- 20, 21: devices and migrations -------------------------------------------------------------


def test_case_20_a_device_not_reservable_today_was_reservable_for_its_enrolment():
    site = TinySite("chi_edge")
    site.device("jetson", 1, reservable=0, updated_at=7)
    site.lease("L", 2, 5, ["d-jetson"], resource_type="device")
    assert site.corrected("reservable") == on((1, 7))
    assert site.uncorrected("reservable") == on((1, 7))
    assert site.corrected("committed") == on((2, 5))
    assert_lawful(site)


def test_case_20_a_device_whose_row_is_gone_was_reservable_while_allocations_speak_of_it():
    """Its reservation's container names it, as instances name a host that is gone."""
    site = TinySite("chi_edge")
    site.lease("L", 2, 5, ["gone"], resource_type="device")
    reasons = site.rejected("blazar.device_allocations", "corrected")
    assert site.corrected("committed") == [0, 0, None, None, None, *[0.0] * 5]
    assert list(reasons.values()) == ["no instance names the host"]
    assert_lawful(site)


@pytest.mark.parametrize("how", ["migrate", "live-migration"])
def test_case_21_a_migrated_vm_is_on_the_first_host_until_the_migration_then_on_the_second(how):
    site = TinySite("kvm_tacc")
    site.hypervisor("k1", 0, **KVM)
    site.hypervisor("k2", 0, **KVM, vcpus=24)
    site.instance("VM", "k2", 2, 6, vcpus=12, created_event=False)
    site.action("VM", "create", 2, host="k1")
    site.action("VM", how, 4, host="k2")
    assert site.corrected("occupied", host="k1") == on((2, 4), height=0.25)
    assert site.corrected("occupied", host="k2") == on((4, 6), height=0.5)
    assert site.corrected("active", host="k1") == on((2, 4), height=0.25)
    assert site.corrected("active", host="k2") == on((4, 6), height=0.5)
    assert site.corrected("occupied", resource="vcpus") == on((2, 6), height=12)
    assert_lawful(site)


def test_case_21_a_failed_migration_moves_nothing():
    site = TinySite("kvm_tacc")
    site.hypervisor("k1", 0, **KVM)
    site.hypervisor("k2", 0, **KVM)
    site.instance("VM", "k1", 2, 6, vcpus=12)
    site.action("VM", "live-migration", 4, host="k2", result="Error")
    assert site.corrected("occupied", host="k1") == on((2, 6), height=0.25)
    assert site.corrected("occupied", host="k2") in ([], NEVER)


# --- 22: leases that came to nothing ------------------------------------------------------------


def test_case_22_a_lease_deleted_before_its_start_commits_nothing_and_has_no_effective_lead_time():
    site = TinySite()
    site.host()
    site.lease("L", 5, 8, created_at=1, deleted_at=3, status="TERMINATED")
    assert site.corrected("committed") == NEVER
    assert site.uncorrected("committed") == NEVER
    assert lead_time(site, "L") == (96, None)
    assert site.rejected("blazar.computehost_allocations")


def test_case_22_a_lease_never_given_hosts_commits_nothing_and_has_no_effective_lead_time():
    site = TinySite()
    site.host()
    site.lease("L", 5, 8, [], created_at=1, status="ERROR")
    site.add(
        "blazar.events",
        lease_id="L",
        event_type="start_lease",
        status="ERROR",
        time=5,
        updated_at=5,
    )
    assert site.corrected("committed") == NEVER
    assert lead_time(site, "L") == (96, None)


def test_case_22_a_done_start_event_is_its_effective_lead_time():
    site = TinySite()
    site.host()
    site.lease("L", 5, 8, created_at=1)
    site.add(
        "blazar.events",
        lease_id="L",
        event_type="start_lease",
        status="DONE",
        time=5,
        updated_at=5 + HOUR,
    )
    assert lead_time(site, "L") == (96, 97)


def test_case_22_a_launched_instance_goes_before_the_start_event():
    site = TinySite()
    site.host()
    site.lease("L", 5, 8, created_at=1)
    site.add(
        "blazar.events", lease_id="L", event_type="start_lease", status="DONE", time=5, updated_at=5
    )
    site.instance("I", "h1", 6, 7, lease="L", active=6 + HOUR, launched_at=6.5)
    assert lead_time(site, "L") == (96, 121)


# --- 23: the legacy caches ----------------------------------------------------------------------


def test_case_23_a_day_cached_twice_counts_once():
    site = TinySite()
    site.host()
    for number in (2, 3, 3, 4):
        site.cached_day(
            number, maint_hours=24, reserved_hours=36, used_hours=12, idle_hours=48, total_hours=120
        )
    site.cached_day(3, "storage", idle_hours=24, total_hours=24)
    legacy = {
        name: site.daily("legacy", name)[1:5]
        for name in ("total", "reservable", "committed", "occupied", "idle", "available")
    }
    assert legacy == {
        "total": [None, 5, 6, 5],
        "reservable": [None, 4, 5, 4],
        "committed": [None, 2, 2, 2],
        "occupied": [None, 0.5, 0.5, 0.5],
        "idle": [None, 1.5, 1.5, 1.5],
        "available": [None, 2, 3, 2],
    }
    reasons = site.rejected("chameleon_usage.node_usage_report_cache")
    assert list(reasons.values()) == ["duplicate row"]


def test_case_23_a_node_type_in_upper_case_is_the_same_type():
    site = TinySite()
    site.host()
    for number, name in ((2, "compute"), (3, "COMPUTE"), (4, "compute")):
        site.cached_day(number, name, idle_hours=24, total_hours=48)
    rows = site.outputs["comparison_by_node_type"].filter(pl.col("legacy") > 0)
    assert set(rows["node_type"]) == {"compute"}
    assert rows.filter(pl.col("count_type") == "total")["legacy"].to_list() == [2, 2, 2]


# --- 24: active ---------------------------------------------------------------------------------


def running_site(**row) -> TinySite:
    """A node that an instance occupies on days 1 to 8, running from day 2."""
    site = TinySite()
    site.host()
    site.lease("L", 1, 9)
    site.instance("I", "h1", 1, 9, lease="L", active=2, **row)
    return site


@pytest.mark.parametrize(
    ("off", "back"), [("stop", "start"), ("pause", "unpause"), ("suspend", "resume")]
)
def test_case_24_active_follows_what_was_done(off, back):
    site = running_site()
    site.action("I", off, 4)
    site.action("I", back, 6)
    assert site.corrected("occupied") == on((1, 9))
    assert site.corrected("active") == on((2, 4), (6, 9))
    assert site.corrected("stopped") == on((1, 2), (4, 6))
    assert_lawful(site)


@pytest.mark.parametrize(("off", "back"), [("stop", "start"), ("pause", "unpause")])
@pytest.mark.parametrize("result", ["Error", None])
def test_case_24_failed_actions_change_nothing(off, back, result):
    site = running_site()
    site.action("I", off, 3, result=result)
    site.action("I", off, 4)
    site.action("I", back, 5, result=result)
    site.action("I", back, 6)
    assert site.corrected("active") == on((2, 4), (6, 9))


def test_case_24_reboot_and_rebuild_do_not_restart_the_clock():
    site = running_site(launched_at=5)
    site.action("I", "reboot", 4)
    site.action("I", "rebuild", 5)
    assert site.corrected("active") == on((2, 9))


def test_case_24_a_rebuilt_stopped_instance_stays_stopped():
    site = running_site()
    site.action("I", "stop", 4)
    site.action("I", "rebuild", 5)
    site.action("I", "start", 7)
    assert site.corrected("active") == on((2, 4), (7, 9))


def test_case_24_a_reboot_starts_a_stopped_instance():
    site = running_site()
    site.action("I", "stop", 4)
    site.action("I", "reboot", 6)
    assert site.corrected("active") == on((2, 4), (6, 9))


def test_case_24_where_no_finish_time_was_kept_the_start_time_stands_for_it():
    site = running_site()
    site.action("I", "stop", None, start=4)
    site.action("I", "start", None, start=6)
    assert site.corrected("active") == on((2, 4), (6, 9))


def test_case_24_an_instance_in_error_after_a_failed_action_is_as_it_was():
    site = running_site(vm_state="error")
    site.action("I", "stop", 4)
    site.action("I", "start", 6, result="Error")
    assert site.corrected("active") == on((2, 4))
    assert site.corrected("stopped") == on((1, 2), (4, 9))
