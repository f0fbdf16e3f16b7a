"""When each quantity holds: the sentences of the design that are no case of its catalogue."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from chameleon_usage.models.site import Priority
from support.sites import DAYS, HOUR, TinySite, day, on

NEVER = [0.0] * DAYS
KVM = {"hypervisor_type": "QEMU"}


class TestReservable:
    def test_a_host_not_reservable_today_was_so_until_its_last_update(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.pool_host("h1", 2, reservable=0, updated_at=6)
        assert site.corrected("reservable") == on((2, 6))
        assert site.corrected("maintenance") == on((6, 10))
        assert site.corrected("unknown") == on((0, 2))

    def test_a_gone_row_is_told_by_its_allocations_and_named_by_their_instances(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.lease("L1", 2, 4, ["gone"], created_at=1)
        site.lease("L2", 6, 8, ["gone"])
        site.instance("I1", "h1", 2, 4, lease="L1")
        assert site.corrected("reservable") == on((1, 8))
        assert site.corrected("committed") == on((2, 4), (6, 8))
        assert site.uncorrected("committed") == NEVER
        assert site.uncorrected("occupied") == on((2, 4))
        assert site.uncorrected("idle")[2:4] == [-1, -1]

    def test_a_gone_row_lasts_while_an_allocation_has_no_end(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.lease("L1", 2, 4, ["gone"], created_at=1)
        site.lease("L2", 6, None, ["gone"])
        site.instance("I1", "h1", 2, 4, lease="L1")
        assert site.corrected("reservable") == on((1, 10))
        assert site.corrected("committed") == on((2, 4), (6, 10))

    def test_an_undated_row_begins_with_an_allocation_that_has_no_end(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.pool_host("h1", None, 9)
        site.lease("L", 4, None)
        assert site.corrected("reservable") == on((4, 9))
        assert site.corrected("committed") == on((4, 9))

    def test_it_lives_only_within_total(self):
        site = TinySite()
        site.hypervisor("h1", 0, 5)
        site.pool_host("h1", 2)
        assert site.corrected("total") == on((0, 5))
        assert site.corrected("reservable") == on((2, 5))
        assert site.uncorrected("reservable") == on((2, 10))
        assert site.hours("blazar.computehosts", "h1", "corrected reservable") == 5 * 24


class TestCommitted:
    def test_not_before_the_lease_was_made(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 6, created_at=2 + 6 * HOUR, allocated=2 + 6 * HOUR)
        assert site.corrected("committed") == on((2.25, 6))

    def test_not_after_it_was_deleted(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8, deleted_at=4.5)
        assert site.corrected("committed") == on((2, 4.5))

    def test_a_lease_in_error_commits_while_its_allocations_hold_hosts(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8, [], status="ERROR")
        site.allocation("L", "b-h1", 2, 5)
        assert site.corrected("committed") == on((2, 5))

    def test_only_sources_of_the_sites_priority_are_believed(self):
        site = TinySite()
        rule = Priority("authoritative", ("blazar.device_allocations",))
        site.site = replace(site.site, sources={**site.site.sources, "committed": rule})
        site.host()
        site.lease("L", 2, 5)
        reasons = site.rejected("blazar.computehost_allocations", "corrected")
        assert site.corrected("committed") == on()
        assert set(reasons.values()) == {"source not in the site's priority"}

    def test_two_leases_at_once_on_one_node_are_one_committed_node(self):
        site = TinySite()
        site.host()
        site.lease("L1", 2, 5)
        site.lease("L2", 4, 7)
        assert site.corrected("committed") == on((2, 7))
        assert site.uncorrected("committed") == [0, 0, 1, 1, 2, 1, 1, 0, 0, 0]

    def test_slots_of_a_kvm_host_add_up_to_at_most_the_host(self):
        site = TinySite("kvm_tacc")
        site.host("k1", **KVM)
        site.slices("L1", 1, 5, ["b-k1", "b-k1"], vcpus=12)
        site.slices("L2", 3, 7, ["b-k1"], vcpus=36)
        assert site.corrected("committed") == [0, 0.5, 0.5, 1, 1, 0.75, 0.75, 0, 0, 0]
        assert site.corrected("committed", resource="vcpus")[3] == 48

    def test_a_slot_inferred_from_its_machine_is_no_larger_than_its_siblings(self):
        site = TinySite("kvm_tacc")
        site.host("k1", **KVM)
        site.host("k2", **KVM)
        site.slices("L", 2, 8, ["b-k1"], vcpus=12)
        site.instance("VM", "k2", 2, 6, lease="L", flavor=True, vcpus=12)
        assert site.corrected("committed", host="k2") == on((2, 6), height=0.25)
        assert site.corrected("occupied_reservation") == on((2, 6), height=0.25)

    def test_a_slot_outside_its_hosts_enrolment_is_cut(self):
        site = TinySite()
        site.host("h1", 0, 4)
        site.lease("L", 2, 8)
        assert site.corrected("committed") == on((2, 4))
        rejects = site.outputs["rejects"].filter(stage="corrected committed")
        assert rejects["hours"].sum() == 4 * 24


class TestOccupied:
    def test_the_node_is_held_while_it_builds(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8)
        site.instance("I", "h1", 3, 6, lease="L", active=3.5)
        assert site.corrected("occupied") == on((3, 6))
        assert site.corrected("active") == on((3.5, 6))
        assert site.corrected("stopped") == on((3, 3.5))

    def test_without_deleted_at_it_ends_with_terminated_at(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8)
        site.instance("I", "h1", 3, None, lease="L", terminated_at=6)
        assert site.corrected("occupied") == on((3, 6))

    def test_else_with_the_event_that_freed_it(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 8)
        site.instance("I", "h1", 3, None, lease="L")
        site.action("I", "delete", 5)
        assert site.corrected("occupied") == on((3, 5))

    def test_else_at_as_of(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 12)
        site.instance("I", "h1", 3, None, lease="L")
        assert site.corrected("occupied") == on((3, 10))

    def test_a_reserved_instance_is_clipped_to_its_reservations_commitment(self):
        site = TinySite()
        site.host()
        site.lease("L", 2, 5)
        site.instance("I", "h1", 3, 8, lease="L", created_event=False)
        assert site.corrected("occupied") == on((3, 5))
        assert site.uncorrected("occupied") == on((3, 8))
        assert site.hours("nova.instances", "I", "corrected occupied") == 3 * 24

    def test_a_reused_hostname_is_joined_by_time_too(self):
        site = TinySite()
        site.hypervisor("h1", 0, 3, vcpus=24)
        site.hypervisor("h1", 6, vcpus=96)
        site.pool_host("h1", 0, 3, host_id="old", vcpus=24)
        site.pool_host("h1", 6, host_id="new", vcpus=96)
        site.lease("L1", 1, 4, ["old"])
        site.lease("L2", 7, 9, ["new"])
        site.instance("I1", "h1", 1, 4, lease="L1")
        site.instance("I2", "h1", 7, 9, lease="L2")
        # The allocation is evidence of day 3; the size is the one of the time.
        assert site.corrected("occupied", resource="vcpus") == [
            0, 24, 24, 24, 0, 0, 0, 96, 96, 0,
        ]  # fmt: skip
        assert site.corrected("total") == on((0, 4), (6, 10))

    def test_virtual_machines_of_one_host_add_up(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, **KVM)
        site.instance("V1", "k1", 1, 5, vcpus=12)
        site.instance("V2", "k1", 3, 7, vcpus=24)
        site.instance("V3", "k1", 4, 6, vcpus=36)  # more than there is
        assert site.corrected("occupied_ondemand") == [0, 0.25, 0.25, 0.75, 1, 1, 0.5, 0, 0, 0]

    def test_a_machine_that_lost_its_node_when_it_was_offloaded_was_where_its_events_say(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, **KVM)
        site.instance("VM", None, 2, None, vcpus=12, created_event=False)
        site.action("VM", "create", 2, host="k1")
        site.action("VM", "shelve", 5, host="k1")
        site.action("VM", "shelve_offload", 6, host="k1")
        assert site.corrected("occupied", host="k1") == on((2, 6), height=0.25)
        assert site.corrected("active", host="k1") == on((2, 5), height=0.25)
        assert site.uncorrected("occupied") == NEVER

    def test_a_machine_of_which_only_a_rebuild_is_told_was_where_it_was_rebuilt(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, **KVM)
        site.instance("VM", None, 2, 8, vcpus=12, active=3, created_event=False)
        site.action("VM", "rebuild", 5, host="k1")
        assert site.corrected("occupied", host="k1") == on((2, 8), height=0.25)
        assert site.corrected("active", host="k1") == on((3, 8), height=0.25)


class TestTotal:
    def test_a_row_without_an_end_of_its_own_never_extends_a_hosts_life(self):
        site = TinySite()
        site.hypervisor("h1", 0, 4)
        site.pool_host("h1", 0, 4)
        site.lease("L", 2, 3)
        site.instance("I", "h1", 2, None, lease="L")  # never deleted
        assert site.corrected("total") == on((0, 4))
        assert site.corrected("occupied") == on((2, 3))

    def test_between_its_rows_an_allocation_makes_a_host_present_and_it_is_marked(self):
        site = TinySite()
        site.hypervisor("h1", 0, 3)
        site.hypervisor("h1", 8)
        site.pool_host("h1", 0, 3, host_id="old")
        site.pool_host("h1", 8, host_id="new")
        site.lease("L", 2, 6, ["old"])
        assert site.corrected("total") == on((0, 6), (8, 10))
        assert site.corrected("reservable") == on((0, 6), (8, 10))
        assert site.corrected("committed") == on((2, 6))
        assert site.inferred("total") == [(day(3), day(6))]

    def test_an_inventory_fills_what_is_before_the_first_row(self):
        site = TinySite()
        site.hypervisor("h1", 5)
        site.add("inventory.node_intervals", uid="h1", node_type="compute", valid_from=2)
        assert site.corrected("total") == on((2, 10))
        assert site.uncorrected("total") == on((5, 10))
        assert site.inferred("total") == [(day(2), day(5))]


def test_a_deleted_property_of_a_host_that_is_still_there_does_not_count():
    site = TinySite()
    site.host(node_type="compute", gpus=1)
    for label, value in (("node_type", "zz_before"), ("gpu.gpu_count", "4")):
        site.add(
            "blazar.computehost_extra_capabilities",
            computehost_id="b-h1",
            capability_value=value,
            property_id=f"p-{label}",
            deleted_at=3,
        )
    assert site.corrected("total", node_type="compute") == on((0, 10))
    assert site.corrected("total", node_type="zz_before") == []
    assert site.corrected("total", resource="gpus") == on((0, 10))


class TestChangeOfNodeType:
    """Blazar's properties are written over without a date; the inventory dates the change."""

    def retyped(self) -> TinySite:
        site = TinySite()
        site.host(node_type="gpu_p100", gpus=2)
        for kind, start, end in (("compute", 1, 5), ("gpu_p100", 4, None)):
            site.add(
                "inventory.node_intervals",
                uid="h1",
                node_type=kind,
                valid_from=start,
                valid_to=end,
            )
        return site

    def test_before_its_dated_change_a_host_was_of_the_earlier_type(self):
        site = self.retyped()
        assert site.corrected("total", node_type="compute") == on((0, 4))
        assert site.corrected("total", node_type="gpu_p100") == on((4, 10))

    def test_on_the_day_of_the_change_it_is_of_the_type_it_had_longer(self):
        site = TinySite()
        site.host(node_type="gpu_p100", gpus=2)
        for kind, start in (("compute", 1), ("gpu_p100", 4.75)):
            site.add("inventory.node_intervals", uid="h1", node_type=kind, valid_from=start)
        rows = site.outputs["usage_by_host"].filter(
            pl.col("collector_type") == "corrected", pl.col("count_type") == "total"
        )
        types = rows.filter(pl.col("hypervisor_hostname") == "h1").sort("timestamp")["node_type"]
        assert types.to_list() == ["compute"] * 5 + ["gpu_p100"] * 5

    def test_a_change_that_blazar_dates_itself_is_believed(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.pool_host("h1", 0, 3, host_id="first", node_type="compute")
        site.pool_host("h1", 3, host_id="second", node_type="gpu_p100")
        for kind, start in (("compute", 1), ("gpu_p100", 4)):
            site.add("inventory.node_intervals", uid="h1", node_type=kind, valid_from=start)
        assert site.corrected("total", node_type="compute") == on((0, 3))

    def test_its_gpus_were_those_of_other_hosts_of_the_type(self):
        site = self.retyped()
        site.host("h2", node_type="compute")
        assert site.corrected("total", resource="gpus") == on((4, 10), height=2)

    def test_else_nobody_knows_how_many_gpus_it_had(self):
        assert self.retyped().corrected("total", resource="gpus") == [None] * 4 + [2.0] * 6


class TestActive:
    def test_without_a_create_event_it_runs_from_its_launch_and_follows_what_was_done(self):
        site = TinySite()
        site.host()
        site.lease("L", 1, 9)
        site.instance("I", "h1", 1, 9, lease="L", active=2, created_event=False)
        site.action("I", "stop", 4)
        site.action("I", "start", 5)
        site.action("I", "shelve", 6)
        site.action("I", "shelve_offload", 7)
        assert site.corrected("occupied") == on((1, 7))
        assert site.corrected("active") == on((2, 4), (5, 6))

    def test_what_was_seen_to_stop_at_once_never_ran(self):
        site = TinySite()
        site.host()
        site.lease("L", 1, 9)
        site.instance("I", "h1", 2, 8, lease="L")
        site.action("I", "stop", 2)
        assert site.corrected("occupied") == on((2, 8))
        assert site.corrected("active") == NEVER

    def test_a_machine_that_was_migrated_while_stopped_stays_stopped(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, **KVM)
        site.hypervisor("k2", 0, **KVM)
        site.instance("VM", "k2", 1, 8, vcpus=12, created_event=False)
        site.action("VM", "create", 1, host="k1")
        site.action("VM", "stop", 3, host="k1")
        site.action("VM", "migrate", 5, host="k2")
        assert site.corrected("occupied", host="k2") == on((5, 8), height=0.25)
        assert site.corrected("active") == on((1, 3), height=0.25)

    def test_a_machine_that_was_deleted_as_it_arrived_was_where_it_came_from(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, **KVM)
        site.hypervisor("k2", 0, **KVM)
        site.instance("VM", "k2", 1, 5, vcpus=12, created_event=False)
        site.action("VM", "create", 1, host="k1")
        site.action("VM", "migrate", 5, host="k2")
        assert site.corrected("occupied", host="k1") == on((1, 5), height=0.25)
        assert site.corrected("occupied") == on((1, 5), height=0.25)


def coverage_of(site: TinySite, source: str, quantity: str) -> list[float | None]:
    rows = site.outputs["coverage"].filter(
        (pl.col("source") == source) & (pl.col("quantity_type") == quantity)
    )
    return rows.sort("timestamp")["known_share"].to_list()


def test_the_caches_of_the_time_bound_what_they_bear_out():
    site = TinySite()
    site.host("h1")
    site.host("h2")
    site.cached_day(2, total_hours=24.0)
    site.cached_day(3, total_hours=72.0)
    caches = "chameleon_usage.node_usage_report_cache"
    assert coverage_of(site, caches, "total") == [0.5, 1.0]


def test_what_is_published_is_seen_or_inferred():
    """A host that only its Blazar row names was there, and nobody saw it in Nova."""
    site = TinySite()
    site.hypervisor("h1", 0)
    site.pool_host("h2", 2, 7)
    seen, inferred = (coverage_of(site, source, "total") for source in ("seen", "inferred"))
    assert seen == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 1]
    assert [1 - share for share in seen] == inferred
