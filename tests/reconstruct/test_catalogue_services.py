"""Cases 25 to 38 of the design, and 8 and 21 again: what the services really leave behind.

One node unless said; days are whole days; the window is days 0 to 9. The shapes are those of Nova
2023.1 and 2026.1 and of Blazar 2023.1 and 2026.1, as running them shows (tests/services).
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from chameleon_usage import pipeline
from chameleon_usage.snapshots.record import add_snapshot
from chameleon_usage.usage.buckets import Window
from support.sites import DAYS, HOUR, UPSTREAM, TinySite, day, on, uid, write_table

NEVER = [0.0] * DAYS
ALWAYS = [1.0] * DAYS
NOVA = ("nova_hosts", "nova_instances")
BLAZAR = (*NOVA, "blazar_hosts", "blazar_allocations", "blazar_leases")


def kvm(*hosts: str, adapters: tuple[str, ...] = NOVA, start: float = 0) -> TinySite:
    """A KVM cloud of hosts of 48 vCPUs, without leases unless the adapters read them."""
    site = TinySite("kvm_tacc", adapters=adapters)
    for host in hosts:
        site.hypervisor(host, start, hypervisor_type="QEMU")
    return site


def metal(*hosts: str) -> TinySite:
    site = TinySite(adapters=BLAZAR)
    for host in hosts:
        site.host(host)
    return site


class TestCase8:
    """With Nova's default shelve grace time of 0, no offload event is ever written."""

    def test_case_8_the_row_without_host_tells_that_it_was_given_up(self):
        site = kvm("k1")
        site.instance("I", None, 1, vcpus=24, created_event=False, vm_state="shelved_offloaded")
        site.action("I", "create", 1, host="k1")
        site.action("I", "shelve", 3, start=3 - HOUR, host="k1")
        assert site.corrected("occupied_ondemand") == on((1, 3), height=0.5)

    def test_case_8_deleted_while_it_was_shelved(self):
        site = kvm("k1")
        site.instance("I", None, 1, 8, vcpus=24, created_event=False)
        site.action("I", "create", 1, host="k1")
        site.action("I", "shelve", 3, host="k1")
        assert site.corrected("occupied_ondemand") == on((1, 3), height=0.5)

    def test_case_8_shelved_and_kept_is_still_there(self):
        site = kvm("k1")
        site.instance("I", "k1", 1, vcpus=24, vm_state="shelved")
        site.action("I", "shelve", 3, host="k1")
        assert site.corrected("occupied_ondemand") == on((1, 10), height=0.5)
        assert site.corrected("active_ondemand") == on((1, 3), height=0.5)

    def test_case_8_unshelved_without_offload_by_a_start(self):
        site = kvm("k1")
        site.instance("I", "k1", 1, 9, vcpus=24)
        site.action("I", "shelve", 3, host="k1")
        site.action("I", "unshelve", 5, host="k1", event="compute_start_instance")
        assert site.corrected("occupied_ondemand") == on((1, 9), height=0.5)
        assert site.corrected("active_ondemand") == on((1, 3), (5, 9), height=0.5)


class TestCase24:
    def test_case_24_the_event_of_a_failed_build_says_success(self):
        site = kvm("k1")
        site.instance("I", None, 1, launched_at=None, vm_state="error", created_event=False)
        site.action("I", "create", 2, host="k1")
        assert site.corrected("occupied_ondemand") == NEVER
        assert site.rejected("nova.instances")["I"] == "launch failed or never happened"

    def test_case_24_of_a_build_that_went_on_the_last_host_holds(self):
        site = kvm("k1", "k2")
        site.instance("I", "k2", 1, 9, vcpus=24, created_event=False)
        for host, result in (("k1", "Success"), ("k2", None)):
            site.action("I", "create", 1, host=host, result=result)
        for event in site.tables["nova.instance_actions_events"][-1:]:
            event["action_id"] -= 1
        assert site.corrected("occupied_ondemand", host="k1") in ([], NEVER)
        assert site.corrected("occupied_ondemand", host="k2") == on((1, 9), height=0.5)

    def test_case_24_soft_deleted_holds_its_host_until_it_is_reclaimed(self):
        site = kvm("k1")
        gone = {"deleted": 0, "vm_state": "soft-delete", "terminated_at": None}
        site.instance("I", "k1", 1, 4, vcpus=24, **gone)
        site.action("I", "delete", 4, host="k1", event="compute_soft_delete_instance")
        assert site.corrected("occupied_ondemand") == on((1, 10), height=0.5)
        assert site.corrected("active_ondemand") == on((1, 4), height=0.5)

    def test_case_24_a_rebuild_writes_over_the_launch(self):
        site = kvm("k1")
        site.instance("I", "k1", 1, 9, vcpus=24, launched_at=4, created_event=False)
        site.action("I", "rebuild", 4, host="k1")
        assert site.corrected("active_ondemand") == on((1, 9), height=0.5)


@pytest.mark.parametrize(("back", "runs"), [(6, [(1, 3), (6, 9)]), (None, [(1, 3)])])
def test_case_25_power_changed_outside_nova(back, runs):
    site = metal("h1")
    site.lease("L", 1, 9)
    site.instance("I", "h1", 1, 9, lease="L")
    site.action("I", "stop", 3, event="compute_power_update")
    if back:
        site.action("I", "start", back, event="compute_power_update")
    assert site.corrected("occupied") == on((1, 9))
    assert site.corrected("active") == on(*runs)


class TestCase26:
    """Moves: by the event's host, else by the migration."""

    def moved(self, **migration) -> TinySite:
        site = kvm("k1", "k2")
        site.instance("I", "k2", 1, 9, vcpus=24, created_event=False)
        given = {"status": "completed", "created_at": 4, "updated_at": 4}
        given |= {"source_node": "k1", "dest_node": "k2"} | migration
        site.add("nova.migrations", instance_uuid="I", **given)
        return site

    def assert_moved(self, site: TinySite) -> None:
        assert site.corrected("occupied_ondemand", host="k1") == on((1, 4), height=0.5)
        assert site.corrected("occupied_ondemand", host="k2") == on((4, 9), height=0.5)

    def test_case_26_by_the_migration_alone(self):
        self.assert_moved(self.moved())

    @pytest.mark.parametrize(
        ("action", "event"),
        [
            ("migrate", "compute_finish_resize"),
            ("live-migration", "compute_post_live_migration_at_destination"),
            ("evacuate", "compute_rebuild_instance"),
            ("migrate", "compute_finish_snapshot_based_resize_at_dest"),
        ],
    )
    def test_case_26_the_event_dates_the_move_that_was_confirmed_later(self, action, event):
        site = self.moved(status="confirmed", created_at=4 - HOUR, updated_at=7)
        site.action("I", "create", 1)
        site.action("I", action, 4, event=event)
        self.assert_moved(site)

    def test_case_26_by_the_services_where_no_node_is_named(self):
        nodeless = {"source_node": None, "dest_node": None}
        self.assert_moved(self.moved(source_compute="k1", dest_compute="k2", **nodeless))

    @pytest.mark.parametrize("status", ["error", "failed", "cancelled", "running", "reverted"])
    def test_case_26_a_move_that_did_not_take_place(self, status):
        site = self.moved(status=status, source_node="k2", dest_node="k1")
        assert site.corrected("occupied_ondemand", host="k2") == on((1, 9), height=0.5)

    def test_case_26_a_resize_changes_the_size_from_then_on(self):
        site = self.moved(
            status="confirmed",
            dest_node="k1",
            updated_at=6,
            old_instance_type_id=1,
            new_instance_type_id=2,
        )
        site.tables["nova.instances"][-1]["node"] = "k1"
        for number, vcpus in ((1, 12), (2, 24)):
            site.add("nova_api.flavors", id=number, vcpus=vcpus, memory_mb=1000, root_gb=10)
        site.action("I", "create", 1, host="k1")
        site.action("I", "resize", 4, host="k1", event="compute_finish_resize")
        assert site.corrected("occupied_ondemand") == [0, *[0.25] * 3, *[0.5] * 5, 0]

    def test_case_26_a_resize_taken_back(self):
        site = self.moved(
            status="reverted",
            updated_at=6,
            old_instance_type_id=1,
            new_instance_type_id=2,
        )
        site.tables["nova.instances"][-1] |= {"node": "k1", "vcpus": 12}
        for number, vcpus in ((1, 12), (2, 24)):
            site.add("nova_api.flavors", id=number, vcpus=vcpus, memory_mb=1000, root_gb=10)
        site.action("I", "create", 1, host="k1")
        site.action("I", "resize", 4, host="k2", event="compute_finish_resize")
        site.action("I", "revertResize", 6, host="k1", event="compute_finish_revert_resize")
        assert site.corrected("occupied_ondemand", host="k1") == [
            *(0, 0.25, 0.25, 0.25, 0, 0, 0.25, 0.25, 0.25, 0)
        ]
        assert site.corrected("occupied_ondemand", host="k2") == on((4, 6), height=0.5)


class TestCase27:
    def test_case_27_a_host_whose_row_is_younger_than_its_machines(self):
        site = kvm("k1", start=5)
        site.instance("A", "k1", 1, 9, vcpus=24)
        site.instance("B", "k1", 2, 4, vcpus=24)
        assert site.corrected("total") == on((1, 10))
        assert (day(1), day(5)) in site.inferred("total")
        assert site.corrected("occupied_ondemand") == [0, 0.5, 1, 1, *[0.5] * 5, 0]

    def test_case_27_a_machine_without_an_end_never_prolongs_its_host(self):
        site = kvm()
        site.hypervisor("k1", 2, 4, hypervisor_type="QEMU")
        site.instance("A", "k1", 1, vcpus=24)
        assert site.corrected("total") == on((1, 4))

    def test_case_27_a_host_that_nova_brought_back_was_away_meanwhile(self):
        site = kvm("k1")
        for start, end in ((0, 3), (6, None)):
            site.add(
                "nova.services", host="k1", binary="nova-compute", created_at=start, deleted_at=end
            )
        assert site.corrected("total") == on((0, 3), (6, 10))


@pytest.mark.parametrize("kind", ["ironic", "QEMU"])
def test_case_28_without_blazar_everything_is_on_demand(kind):
    site = TinySite(adapters=NOVA)
    site.hypervisor("h1", 0, hypervisor_type=kind)
    site.instance("A", "h1", 1, 5, lease="of a former Blazar")
    site.instance("B", "h1", 7, 9)
    assert site.corrected("occupied_ondemand") == on((1, 5), (7, 9))
    assert site.corrected("occupied_reservation") == NEVER
    assert site.uncorrected("occupied_ondemand") == on((1, 5), (7, 9))
    assert site.corrected("occupied") == on((1, 5), (7, 9))


class TestCase29:
    """Blazar itself deletes for good: no deleted_at, and ended leases lose their allocations."""

    def ended(self, *, amount: str = "1-1") -> TinySite:
        site = metal("h1", "h2")
        site.without = UPSTREAM
        site.lease("OLD", 1, 4, [], status="TERMINATED")
        site.tables["blazar.computehost_reservations"][-1]["count_range"] = amount
        site.lease("NOW", 6, 12, ["b-h2"])
        return site

    def test_case_29_an_instance_tells_which_host_it_was(self):
        site = self.ended()
        site.instance("I", "h1", 2, 3, lease="OLD")
        assert site.corrected("committed", host="h1") == on((1, 4))
        assert site.corrected("committed") == on((1, 4), (6, 10))
        assert site.corrected("occupied_reservation") == on((2, 3))
        assert (day(1), day(4)) in site.inferred("committed")

    def test_case_29_the_request_tells_how_many_they_were(self):
        assert self.ended().corrected("committed") == on((1, 4), (6, 10))

    def test_case_29_what_nobody_can_count_is_unknown(self):
        site = self.ended(amount="1-2")
        assert site.corrected("committed") == [0, None, None, None, 0, 0, 1, 1, 1, 1]
        assert site.corrected("available") == [2, None, None, None, 2, 2, 1, 1, 1, 1]
        assert site.corrected("idle") == [0, None, None, None, 0, 0, 1, 1, 1, 1]
        assert "nobody tells how many nodes it held" in {*site.outputs["rejects"]["reason"]}

    def test_case_29_where_the_site_is_unknown_no_type_is_said_to_be_free(self):
        site = self.ended(amount="1-2")
        free = site.outputs["usage_by_node_type"].filter(
            count_type="available", collector_type="corrected", resource="nodes"
        )
        assert free["timestamp"].dt.day().unique().to_list() == [1, 5, 6, 7, 8, 9, 10]

    def test_case_29_nothing_is_counted_twice_that_instances_show(self):
        site = self.ended(amount="2-2")
        site.instance("I", "h1", 2, 3, lease="OLD")
        assert site.corrected("committed") == [0, 2, 2, 2, 0, 0, 1, 1, 1, 1]

    @pytest.mark.parametrize("gone", [3, 5])
    def test_case_29_a_host_replaced_in_a_lease_that_ended_counts_in_its_turn(self, gone):
        site = metal("h1", "h2")
        site.without = UPSTREAM
        site.lease("OLD", 1, 8, [], status="TERMINATED")
        site.instance("A", "h1", 2, gone, lease="OLD")
        site.instance("B", "h2", 4, 6, lease="OLD")
        moved = min(gone, 4)
        assert site.corrected("committed") == on((1, 8))
        assert site.corrected("committed", host="h1") == on((1, moved))
        assert site.corrected("committed", host="h2") == on((moved, 8))

    def test_case_29_of_a_lease_that_lost_a_host_the_rest_is_unknown(self):
        site = self.ended(amount="2-2")
        site.tables["blazar.reservations"][-2]["missing_resources"] = 1
        site.instance("A", "h1", 1, 2, lease="OLD")
        site.instance("B", "h2", 1, 4, lease="OLD")
        assert site.corrected("committed") == [0, 2, None, None, 0, 0, 1, 1, 1, 1]

    def test_case_29_of_a_lease_deleted_for_good_instances_are_left(self):
        site = metal("h1", "h2")
        site.lease("NOW", 1, 9, ["b-h2"])
        site.instance("I", "h1", 2, 6, lease="GONE")
        assert site.corrected("occupied_reservation") == on((2, 6))
        assert site.corrected("committed", host="h1") == on((2, 6))
        assert site.corrected("occupied_reservation", host="h1") == on((2, 6))

    def test_case_29_slices_that_nobody_used_are_unknown(self):
        site = kvm("k1", adapters=BLAZAR)
        site.pool_host("k1", 0, hypervisor_type="QEMU")
        site.without = UPSTREAM
        site.lease("OLD", 1, 4, [], resource_type="virtual:instance", status="TERMINATED")
        site.add("blazar.instance_reservations", reservation_id=uid("OLD"), vcpus=12, amount=2)
        assert site.corrected("committed") == [0, None, None, None, *[0.0] * 6]

    def test_case_29_slices_are_known_while_all_are_in_use(self):
        site = kvm("k1", adapters=BLAZAR)
        site.pool_host("k1", 0, hypervisor_type="QEMU")
        site.without = UPSTREAM
        site.lease("OLD", 1, 6, [], resource_type="virtual:instance", status="TERMINATED")
        site.add("blazar.instance_reservations", reservation_id=uid("OLD"), vcpus=12, amount=2)
        site.instance("A", "k1", 2, 5, lease="OLD", vcpus=12)
        site.instance("B", "k1", 3, 4, lease="OLD", vcpus=12)
        half = [0, None, None, 0.5, None, None]
        assert site.corrected("committed") == [*half, *[0.0] * 4]

    def test_case_29_a_purged_instance_that_no_lease_explains_was_in_one_that_is_gone(self):
        site = self.ended()
        for name, host, since in (("in OLD", "h1", 2), ("in none", "h2", 3)):
            site.instance(name, host, since, 4, project_id="p")
        for lease in site.tables["blazar.leases"]:
            lease["project_id"] = "p"
        assert site.corrected("committed") == [0, 1, 1, None, 0, 0, 1, 1, 1, 1]

    def test_case_29_an_allocation_moved_in_place_held_another_host_before(self):
        site = metal("h1", "h2")
        site.lease("L", 1, 9, [])
        site.allocation("L", "b-h2", 1, updated_at=4)
        site.instance("A", "h1", 1, 3, lease="L")
        site.instance("B", "h2", 5, 9, lease="L")
        assert site.corrected("committed") == on((1, 9))
        assert site.corrected("committed", host="h1") == on((1, 4))
        assert site.corrected("occupied") == on((1, 3), (5, 9))

    @pytest.mark.parametrize(("asked", "both"), [("1-1", 1), ("2-2", 2)])
    def test_case_29_a_row_that_tells_of_two_hosts_held_one_after_the_other(self, asked, both):
        """The lease's end wrote over when the healer had written over the host."""
        site = metal("h1", "h2")
        site.lease("L", 1, 9, [])
        site.tables["blazar.computehost_reservations"][-1]["count_range"] = asked
        site.allocation("L", "b-h2", 1, updated_at=9)
        site.instance("A", "h1", 1, 4, lease="L")
        site.instance("B", "h2", 5, 9, lease="L")
        assert site.corrected("committed") == [0, *[both] * 3, *[1] * 5, 0]
        assert site.corrected("committed", host="h1") == on((1, 4))
        assert site.corrected("occupied") == on((1, 4), (5, 9))

    def test_case_29_a_purged_spec_is_not_one_that_names_no_reservation(self):
        site = kvm("k1", adapters=BLAZAR)
        site.pool_host("k1", 0, hypervisor_type="QEMU")
        site.slices("L", 1, 9, ["b-k1"], vcpus=24)
        site.instance("purged", "k1", 2, 4, vcpus=24)
        site.instance("asks for none", "k1", 2, 4, vcpus=12)
        site.add("nova_api.request_specs", instance_uuid="asks for none", spec="{}")
        assert site.corrected("occupied_reservation") == on((2, 4), height=0.5)
        assert site.corrected("occupied_ondemand") == on((2, 4), height=0.25)


class TestCase30:
    """Flag and date disagree: the evidence later in time wins, and is marked inferred."""

    def test_case_30_a_host_deleted_without_a_date(self):
        site = kvm("k1")
        site.hypervisor("k2", 0, hypervisor_type="QEMU", updated_at=4, deleted=7)
        site.hypervisor("k3", 0, hypervisor_type="QEMU", updated_at=4, deleted=8)
        site.instance("I", "k3", 1, 6, vcpus=48)
        assert site.corrected("total") == [3, 3, 3, 3, 2, 2, 1, 1, 1, 1]
        assert site.corrected("occupied_ondemand") == on((1, 6))

    def test_case_30_a_host_undeleted_by_hand(self):
        site = kvm()
        site.hypervisor("k1", 0, 3, hypervisor_type="QEMU", deleted=0)
        assert site.corrected("total") == ALWAYS

    @pytest.mark.parametrize(("updated", "leased"), [(None, (2, 5)), (1, (2, 5))])
    def test_case_30_a_pool_host_withdrawn_by_hand(self, updated, leased):
        site = metal("h2")
        site.hypervisor("h1", 0)
        site.pool_host("h1", 0, reservable=0, updated_at=updated)
        site.lease("L", *leased)
        assert site.corrected("reservable", host="h1") == on((0, 5))
        assert site.corrected("committed") == on(leased)

    def test_case_30_a_pool_host_that_was_leased_after_its_deletion(self):
        site = TinySite(adapters=BLAZAR)
        site.hypervisor("h1", 0)
        site.pool_host("h1", 0, 3)
        site.lease("L", 5, 8)
        assert site.corrected("committed") == on((5, 8))
        assert site.corrected("reservable") == on((0, 3), (5, 8))

    def test_case_30_a_lease_deleted_without_a_date(self):
        site = metal("h1", "h2")
        site.lease("A", 1, 9, updated_at=4, deleted="A")
        site.lease("B", 1, 9, [])
        site.allocation("B", "b-h2", 1, updated_at=5)["deleted"] = "x"
        assert site.corrected("committed") == [0, 2, 2, 2, 1, 0, 0, 0, 0, 0]

    @pytest.mark.parametrize("zero", ["0000-00-00 00:00:00", "1970-01-01", "0001-01-01 00:00:00"])
    def test_case_30_no_date_by_whatever_name(self, zero):
        site = kvm("k1")
        site.tables["nova.compute_nodes"][-1]["deleted_at"] = zero
        site.instance("I", "k1", 1, vcpus=24, deleted_at=zero, terminated_at=zero)
        assert site.corrected("total") == ALWAYS
        assert site.corrected("occupied_ondemand") == on((1, 10), height=0.5)


@pytest.mark.parametrize("kind", ["flavor:instance", "virtual:instance"])
def test_case_31_every_reservation_that_holds_hosts_has_lead_times(kind):
    site = kvm("k1", adapters=BLAZAR)
    site.pool_host("k1", 0, hypervisor_type="QEMU")
    site.lease("L", 2, 6, ["b-k1", "b-k1"], resource_type=kind, created_at=1)
    site.add("blazar.instance_reservations", reservation_id=uid("L"), vcpus=12, amount=2)
    site.instance("I", "k1", 2.5, 6, lease="L", flavor=True, vcpus=12)
    assert site.corrected("committed") == on((2, 6), height=0.5)
    found = site.outputs["leadtime_leases"].filter(pl.col("lease_id") == "L")
    assert found.select("requested_h", "effective_h").rows() == [(24.0, 36.0)]


def test_case_32_machine_events_of_several_lives(tmp_path):
    site = TinySite("chi_tacc_published", as_of=10)
    site.tables = {}
    rows = [
        *(("aa", 0, "CREATE"), ("aa", 3, "DELETE"), ("aa", 6, "CREATE")),
        *(("bb", 1, "UPDATE"), ("bb", 4, "DELETE")),
        *(("cc", 0, "CREATE"), ("cc", 3, "DELETE"), ("cc", 3, "CREATE")),
    ]
    for host, when, event in rows:
        site.add(
            "trace.machine_events",
            **{"HOST_NAME (PHYSICAL)": host, "EVENT_TIME": when, "EVENT": event},
        )
    write_table(tmp_path, "trace.machine_events", site.tables["trace.machine_events"])
    events = tmp_path / "trace.machine_events.parquet"
    pl.read_parquet(events).write_csv(tmp_path / "events.csv")
    site.site = replace(
        site.site,
        adapters=("machine_events",),
        files={"trace.machine_events": "events.csv"},
        sources=site.site.sources,
    )
    stage, _ = pipeline.facts(site.site, tmp_path)
    lives = stage.ingested.intervals.sort("entity_id", "start")
    told = [
        (str(host), start, end)
        for host, start, end in lives["hostname", "start", "end"].iter_rows()
    ]
    assert sorted(told, key=str) == sorted(
        [
            ("aa", day(0), day(3)),
            ("aa", day(6), None),
            ("bb", day(1), day(4)),
            ("cc", day(0), None),
        ],
        key=str,
    )


class TestCase33:
    """Two cells: ids count from 1 in each, and are never duplicates."""

    def cell(self, number: int) -> TinySite:
        site = kvm()
        site.tables = {name: [] for name in site.tables}
        site.numbers.clear()
        for host in range(3):
            site.hypervisor(f"c{number}k{host}", 0, hypervisor_type="QEMU")
        first = f"c{number}k0"
        site.instance(f"I{number}", first, number, 6 + number)
        site.action(f"I{number}", "stop", 2 + number, host=first)
        return site

    def written(self, folder, how: str) -> TinySite:
        cells = {number: self.cell(number) for number in (1, 2)}
        (folder / "kvm_tacc").mkdir()
        for name in cells[1].tables:
            if how == "together":
                write_table(
                    folder / "kvm_tacc", name, [*cells[1].tables[name], *cells[2].tables[name]]
                )
                continue
            for number, cell in cells.items():
                file = name.replace("nova.", f"nova_cell{number}.")
                write_table(folder / "kvm_tacc", name, cell.tables[name], file=file)
        (folder / "kvm_tacc" / "manifest.json").write_text(f'{{"as_of": "{day(10):%FT%T}"}}')
        return cells[1]

    @pytest.mark.parametrize("how", ["apart", "together"])
    def test_case_33_both_cells_count(self, how, tmp_path):
        site = self.written(tmp_path, how)
        stage, _ = pipeline.facts(site.site, tmp_path)
        tables = pipeline.outputs(
            pipeline.segments(stage, site.site), site.site, site.window, by_host=True
        )
        values = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")

        def series(count_type: str) -> list[float]:
            return (
                values.filter(pl.col("count_type") == count_type)
                .sort("timestamp")["value"]
                .to_list()
            )

        assert series("total") == [6.0] * DAYS
        assert series("occupied_ondemand") == [0, 1, 2, 2, 2, 2, 2, 1, 0, 0]
        assert series("active_ondemand") == [0, 1, 2, 1, 0, 0, 0, 0, 0, 0]
        assert "duplicate row" not in {*tables["rejects"]["reason"].cast(pl.String)}

    def test_case_33_a_reject_names_the_cell_and_the_number_in_it(self, tmp_path):
        site = self.written(tmp_path, "apart")
        table = tmp_path / "kvm_tacc" / "nova_cell2.compute_nodes.parquet"
        rows = pl.read_parquet(table).with_columns(hypervisor_hostname=pl.lit(None, pl.String))
        rows.write_parquet(table)
        stage, _ = pipeline.facts(site.site, tmp_path)
        tables = pipeline.outputs(pipeline.segments(stage, site.site), site.site, site.window)
        refused = tables["rejects"].filter(pl.col("reason") == "no hypervisor_hostname")
        assert refused["source_row_id"].to_list() == ["cell 2: 1", "cell 2: 2", "cell 2: 3"]

    def test_case_33_what_a_cell_deleted_for_good_counts_from_its_record(self, tmp_path):
        """Each cell has a host with number 1; that of the second goes, that of the first stays."""
        for moment in (4, 8):
            dump = tmp_path / f"dump-{moment}"
            dump.mkdir()
            (dump / "manifest.json").write_text(f'{{"as_of": "{day(moment):%FT%T}"}}')
            for number in (1, 2):
                site = kvm()
                site.tables = {name: [] for name in site.tables}
                for host in range(2):
                    name = f"c{number}k{host}"
                    if moment == 4 or (number, host) != (2, 0):
                        site.numbers["nova.compute_nodes"] = host
                        site.hypervisor(name, 0, hypervisor_type="QEMU")
                rows = site.tables["nova.compute_nodes"]
                file = f"nova_cell{number}.compute_nodes"
                write_table(dump, "nova.compute_nodes", rows, file=file)
            write_table(dump, "nova.instances", [])
            add_snapshot(tmp_path / "kvm_tacc", dump)
        site = kvm().site
        stage, _ = pipeline.facts(site, tmp_path, skip_missing=True)
        window = Window(day(0), day(8))
        usage = pipeline.outputs(pipeline.segments(stage, site), site, window)["usage_timeline"]
        total = usage.filter(count_type="total", collector_type="corrected").sort("timestamp")
        assert total["value"].to_list() == [4] * 6 + [3] * 2


def test_case_34_names_of_properties_before_2024():
    site = metal()
    site.host("h1", node_type="gpu_p100", gpus=2)
    names = site.tables.pop("blazar.resource_properties")
    for row in names:
        site.add("blazar.extra_capabilities", id=row["id"], capability_name=row["property_name"])
    for row in site.tables["blazar.computehost_extra_capabilities"]:
        row["capability_id"] = row.pop("property_id")
    assert site.corrected("total", node_type="gpu_p100") == ALWAYS
    assert site.corrected("total", resource="gpus") == [2.0] * DAYS


@pytest.mark.parametrize("seed", range(4))
def test_case_35_of_two_states_of_a_row_the_later_stands(seed, tmp_path):
    site = metal("h1")
    site.lease("L", 1, 9, updated_at=1)
    extended = site.tables["blazar.leases"][-1]
    site.tables["blazar.leases"].append(extended | {"end_date": 5, "updated_at": 4})
    site.instance("I", "h1", 2, lease="L")
    alive = site.tables["nova.instances"][-1]
    site.tables["nova.instances"].append(
        alive | {"deleted_at": 4, "terminated_at": 4, "vm_state": "deleted"}
    )
    site.write(tmp_path, shuffle=seed)
    stage, _ = pipeline.facts(site.site, tmp_path)
    site.__dict__["facts"] = stage
    assert site.corrected("committed") == on((1, 5))
    assert site.corrected("occupied") == on((2, 4))


@pytest.mark.parametrize("lost", ["hypervisor", "pool_host"])
def test_case_36_the_past_does_not_depend_on_the_day_of_the_dump(lost):
    def told(as_of: float, *, again: bool) -> dict[str, list[float | None]]:
        site = TinySite(adapters=BLAZAR, as_of=as_of)
        for write, key in ((site.hypervisor, {}), (site.pool_host, {"host_id": "new"})):
            ends = write.__name__ == lost
            write("h1", 0, 4 if ends else None)
            if again and ends:
                write("h1", 9, **key)
        site.lease("L", 1, 8)
        site.instance("I", "h1", 1, 8 if again else None, lease="L")
        quantities = ("total", "reservable", "committed", "occupied_reservation")
        return {name: site.corrected(name)[:7] for name in quantities}

    assert told(7, again=False) == told(10, again=True)
    assert told(7, again=False)["occupied_reservation"] == [0, 1, 1, 1, 1, 1, 1]


class TestCase37:
    """A live row whose machine answers under another name: one machine, under its latest name."""

    @pytest.mark.parametrize("sign", [{"host_ip": "10.0.0.1"}, {}])
    def test_case_37_its_own_service_is_silent(self, sign):
        site = kvm()
        full = {"hypervisor_type": "QEMU"} | sign
        site.hypervisor("k1", 0, **full)
        site.hypervisor("k1.example.org", 4, **full)
        for host, start, beat in (("k1", 0, 4), ("k1.example.org", 4, 10)):
            site.add(
                "nova.services", host=host, binary="nova-compute", created_at=start, updated_at=beat
            )
        site.instance("I", "k1", 1, 3, vcpus=24)
        site.instance("J", "k1.example.org", 5, 9, vcpus=24)
        assert site.corrected("total") == ALWAYS
        assert site.corrected("total", host="k1.example.org") == ALWAYS
        assert site.corrected("occupied_ondemand") == on((1, 3), (5, 9), height=0.5)

    def test_case_37_two_hosts_that_both_report_are_two(self):
        site = kvm()
        for host, start in (("k1", 0), ("k1.example.org", 4)):
            site.hypervisor(host, start, hypervisor_type="QEMU")
            site.add(
                "nova.services", host=host, binary="nova-compute", created_at=start, updated_at=10
            )
        assert site.corrected("total") == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("ahead", [400, 2600])
def test_case_38_a_clock_that_went_wrong_never_moves_as_of(ahead):
    site = kvm("k1", "k2")
    site.as_of = None
    for host in ("k1", "k2"):
        site.add("nova.services", host=host, binary="nova-compute", created_at=0, updated_at=10)
    site.add("nova.services", host="k3", binary="nova-compute", created_at=ahead, updated_at=ahead)
    site.instance("I", "k1", 1, vcpus=24)
    assert site.facts.as_of == day(10)
    assert site.corrected("occupied_ondemand") == on((1, 10), height=0.5)
