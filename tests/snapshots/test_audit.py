"""What audit tables tell of a site: every change of a row, from the switch-on."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_usage import pipeline, runs
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.loader import load_raw_inputs
from chameleon_usage.models.raw import AUDIT_TABLES, RAW_TABLES
from chameleon_usage.snapshots import audit
from chameleon_usage.snapshots.record import add_snapshot
from support.audit import AuditedSite
from support.sites import LIVELY, day, on, uid

if TYPE_CHECKING:
    from chameleon_usage.models.raw_inputs import RawInputs

HOSTS, NODES = "blazar.computehosts", "nova.compute_nodes"
ALLOCATIONS, LEASES = "blazar.computehost_allocations", "blazar.leases"
POOL = ("nova_hosts", "blazar_hosts")
"""The adapters that tell of hosts and the pool."""
CAPABILITIES, CONTAINERS = "blazar.computehost_extra_capabilities", "zun.container"


def pool(site: AuditedSite, **row) -> dict:
    """Two hypervisors, h2 in the pool for good; give the row of h1 in the pool."""
    site.hypervisor("h1", 0)
    site.host("h2")
    return site.pool_host("h1", 0, **row)


class TestChanges:
    def test_a_flag_taken_away_and_given_back_leaves_a_gap(self):
        site = AuditedSite()
        row = pool(site, updated_at=7)
        site.backfill(1, HOSTS)
        site.audit(HOSTS, "UPDATE", 3, row | {"reservable": 0})
        site.audit(HOSTS, "UPDATE", 7, row)
        assert site.corrected("reservable", host="h1") == on((0, 3), (7, 10))
        assert site.corrected("maintenance", host="h1") == on((3, 7))
        assert site.inferred("reservable") == []

    @pytest.mark.parametrize("updated_at", [None, 1, 9])
    def test_a_flag_set_by_hand_counts_from_the_change_whatever_the_row_says(self, updated_at):
        site = AuditedSite(adapters=POOL)
        row = pool(site, reservable=0, updated_at=updated_at)
        site.audit(HOSTS, "INSERT", 0, row | {"reservable": 1})
        site.audit(HOSTS, "UPDATE", 4, row)
        assert site.corrected("reservable", host="h1") == on((0, 4))

    @pytest.mark.parametrize("updated_at", [None, 1, 9])
    def test_nor_does_it_take_a_version_before(self, updated_at):
        site = AuditedSite(adapters=POOL)
        row = pool(site, reservable=0, updated_at=updated_at)
        site.audit(HOSTS, "UPDATE", 4, row)
        assert site.corrected("reservable", host="h1") == on((0, 4))

    def test_an_allocation_edited_in_place_held_its_earlier_host_until_then(self):
        site = AuditedSite()
        site.host("h1")
        site.host("h2")
        site.lease("L", 1, 9, ())
        row = site.allocation("L", "b-h2", 1, id="A")
        site.audit(ALLOCATIONS, "INSERT", 1, row | {"compute_host_id": "b-h1"})
        site.audit(ALLOCATIONS, "UPDATE", 5.25, row)
        assert site.corrected("committed", host="h1") == on((1, 5.25))
        assert site.corrected("committed", host="h2") == on((5.25, 9))
        assert site.inferred("committed") == []

    def test_node_type_and_size_are_those_of_their_time(self):
        site = AuditedSite()
        node = site.hypervisor("h1", 0, vcpus=96)
        site.pool_host("h1", 0, node_type="gpu_a100")
        [capability] = site.tables[CAPABILITIES]
        site.audit(NODES, "INSERT", 0, node | {"vcpus": 48})
        site.audit(NODES, "UPDATE", 5, node)
        site.audit(CAPABILITIES, "INSERT", 0, capability | {"capability_value": "gpu_p100"})
        site.audit(CAPABILITIES, "UPDATE", 5, capability)
        assert site.corrected("total", node_type="gpu_p100") == on((0, 5))
        assert site.corrected("total", node_type="gpu_a100") == on((5, 10))
        assert site.corrected("total", resource="vcpus") == [48] * 5 + [96] * 5

    def test_a_capability_that_is_another_row_now_is_a_change_too(self):
        site = AuditedSite()
        site.host("h1", node_type="compute_new")
        [row] = site.tables[CAPABILITIES]
        before = row | {"id": "before", "capability_value": "compute_old"}
        site.audit(CAPABILITIES, "INSERT", 0, before)
        site.audit(CAPABILITIES, "DELETE", 5, before)
        site.audit(CAPABILITIES, "INSERT", 5, row)
        assert site.corrected("total", node_type="compute_old") == on((0, 5))
        assert site.corrected("total", node_type="compute_new") == on((5, 10))

    @pytest.mark.parametrize("eventful", [True, False])
    def test_a_machine_was_on_its_earlier_host_until_it_moved(self, eventful):
        site = AuditedSite("kvm_tacc")
        for name in ("k1", "k2"):
            site.host(name, hypervisor_type="QEMU")
        start = {"lease": None, "created_event": False, "vcpus": 48, "project_id": "q"}
        site.instance("V", "k2", 2, 9, **start)
        row = site.tables["nova.instances"][-1]
        site.audit("nova.instances", "INSERT", 2, row | {"node": None, "deleted_at": None})
        site.audit("nova.instances", "UPDATE", 2.001, row | {"node": "k1", "deleted_at": None})
        site.audit("nova.instances", "UPDATE", 5.5, row | {"deleted_at": None})
        if eventful:
            site.action("V", "create", 2.01, start=2, host="k1")
            site.action("V", "live-migration", 5.51, start=5.4, host="k2")
        assert site.corrected("occupied_ondemand", host="k1") == on((2, 5.5))
        assert site.corrected("occupied_ondemand", host="k2") == on((5.5, 9))

    def test_each_end_of_a_lease_is_known_with_its_time(self, tmp_path):
        site = AuditedSite()
        site.host("h1")
        site.lease("L", 1, 9)
        row = site.tables[LEASES][-1]
        site.audit(LEASES, "INSERT", 1, row | {"end_date": 3})
        site.audit(LEASES, "UPDATE", 2, row | {"end_date": 6})
        site.audit(LEASES, "UPDATE", 5, row)
        inputs = load_raw_inputs(site.write(tmp_path), [LEASES])
        versions = inputs.versions(LEASES).filter(pl.col("id") == "L")
        assert versions.select("end_date", "since", "until", "known").rows() == [
            (day(3), None, day(2), day(1)),
            (day(6), day(2), day(5), day(2)),
            (day(9), day(5), None, day(5)),
        ]
        assert site.corrected("committed") == on((1, 9))

    def test_of_changes_within_a_second_the_last_counts(self):
        site = AuditedSite(adapters=POOL)
        row = pool(site)
        site.audit(HOSTS, "INSERT", 0, row)
        for flag in (0, 1, 0):
            site.audit(HOSTS, "UPDATE", 4, row | {"reservable": flag})
        site.audit(HOSTS, "UPDATE", 6, row)
        assert site.corrected("reservable", host="h1") == on((0, 4), (6, 10))

    def test_a_row_that_never_changed_is_known_since_its_insert_or_the_switch_on(self, tmp_path):
        site = AuditedSite(adapters=POOL)
        pool(site)
        site.backfill(4, HOSTS)
        site.audit(HOSTS, "INSERT", 6, site.pool_host("h3", 6))
        site.pool_host("h4", 0)
        inputs = load_raw_inputs(site.write(tmp_path), [HOSTS])
        known = dict(inputs.versions(HOSTS).select("id", "known").iter_rows())
        assert known == {"b-h0": day(4), "b-h1": day(4), "b-h2": day(4)} | {
            "b-h3": day(6),
            "b-h4": None,
        }


class TestFlagsOfStatus:
    """Why a host could not be used, dated by the second; before the first row, unknown."""

    def test_ironics_flags(self):
        site = AuditedSite()
        site.host("h1")
        row = site.ironic("h1", 9)
        for at, flags in (
            (2, {}),
            (3, {"maintenance": 1}),
            (5, {"maintenance": 1, "fault": "power failure"}),
            (6, {"retired": 1}),
            (9, {}),
        ):
            site.audit("ironic.nodes", "UPDATE", at, row | flags | {"updated_at": at})
        assert site.corrected("reservable_usable") == [None, None, *on((2, 3), (9, 10))[2:]]
        assert site.corrected("out_of_use_planned") == [None, None, *on((3, 5))[2:]]
        assert site.corrected("out_of_use_broken") == [None, None, *on((5, 6))[2:]]
        assert site.corrected("out_of_use_disabled") == [None, None, *on((6, 9))[2:]]

    def test_a_compute_services_flags_and_not_its_heartbeats(self):
        site = AuditedSite("kvm_tacc")
        site.host("k1", hypervisor_type="QEMU")
        row = site.service("k1")
        for at, flag in ((2, 0), (4, 1), (7, 0)):
            changed = row | {"disabled": flag, "updated_at": at - 0.001}
            site.audit("nova.services", "UPDATE", at, changed)
        assert site.corrected("reservable_usable") == [None, None, *on((2, 4), (7, 10))[2:]]
        assert site.corrected("out_of_use_disabled") == [None, None, *on((4, 7))[2:]]

    def test_what_is_only_backfilled_is_known_from_the_switch_on(self):
        site = AuditedSite("kvm_tacc")
        site.host("k1", hypervisor_type="QEMU")
        site.service("k1", disabled=1)
        site.backfill(3, "nova.services")
        assert site.corrected("reservable_unusable") == [None] * 3 + [1] * 7

    def test_a_node_that_ironic_deleted_tells_nothing_after(self):
        site = AuditedSite()
        site.host("h1")
        site.ironic("another", 9)
        row = {"uuid": "h1", "maintenance": 1, "provision_state": "available", "created_at": 0}
        site.audit("ironic.nodes", "UPDATE", 2, row)
        site.audit("ironic.nodes", "DELETE", 6, row)
        assert site.corrected("reservable_unusable") == [None, None, *[1] * 4, *[None] * 4]


class TestRowsThatAreGone:
    def test_a_host_deleted_for_good_ended_at_that_second(self):
        site = AuditedSite(adapters=POOL)
        site.host("h2")
        node = site.hypervisor("h1", 0)
        row = site.pool_host("h1", 0)
        for table, of in ((NODES, node), (HOSTS, row)):
            site.audit(table, "INSERT", 0, of)
            site.audit(table, "DELETE", 5.25, of)
            site.tables[table].remove(of)
        for count_type in ("total", "reservable"):
            assert site.corrected(count_type, host="h1") == on((0, 5.25))
            assert site.inferred(count_type) == []

    @pytest.mark.parametrize("mark", [0, None])
    def test_that_it_is_marked_as_not_deleted_says_nothing_of_a_row_that_is_gone(self, mark):
        site = AuditedSite(adapters=POOL)
        site.host("h2")
        row = site.hypervisor("h1", 0, deleted=mark)
        site.audit(NODES, "INSERT", 0, row)
        site.audit(NODES, "DELETE", 5, row)
        site.tables[NODES].remove(row)
        assert site.corrected("total", host="h1") == on((0, 5))

    def test_a_lease_keeps_the_allocation_that_its_end_deleted_for_good(self):
        """As upstream Blazar does, which marks nothing as deleted."""
        site = AuditedSite()
        site.host("h1")
        site.lease("L", 1, 6)
        row = site.tables[ALLOCATIONS].pop()
        site.audit(ALLOCATIONS, "INSERT", 1, row)
        site.audit(ALLOCATIONS, "DELETE", 6, row)
        assert site.corrected("committed") == on((1, 6))
        assert site.inferred("committed") == []

    def test_a_host_given_up_in_the_middle_of_a_lease_was_held_until_then(self):
        site = AuditedSite()
        site.host("h1")
        site.host("h2")
        site.lease("L", 1, 9, ["b-h1", "b-h2"])
        row = site.tables[ALLOCATIONS].pop()
        site.audit(ALLOCATIONS, "DELETE", 4, row)
        assert site.corrected("committed", host="h2") == on((1, 4))
        assert site.corrected("committed", host="h1") == on((1, 9))

    def test_a_lease_purged_with_all_its_rows_is_still_told(self):
        site = AuditedSite()
        site.host("h1")
        site.lease("L", 1, 3.5, node_type="compute_skylake")
        names = (LEASES, ALLOCATIONS, "blazar.reservations", "blazar.computehost_reservations")
        for table in names:
            site.audit(table, "DELETE", 8, site.tables[table].pop())
        assert site.corrected("committed") == on((1, 3.5))
        assert "L" in site.outputs["leadtime_leases"]["lease_id"].to_list()

    def test_what_the_service_had_marked_as_deleted_ended_then_and_not_when_it_was_purged(self):
        site = AuditedSite()
        site.host("h1")
        site.lease("L", 1, 9)
        site.instance("I", "h1", 2, 5, lease="L")
        row = site.tables["nova.instances"].pop()
        site.audit("nova.instances", "DELETE", 8, row)
        assert site.corrected("occupied_reservation") == on((2, 5))
        assert site.inferred("occupied_reservation") == []

    def test_a_row_that_was_archived_is_not_gone(self):
        """To archive is to delete from the live table: its trigger fires."""
        site = AuditedSite(adapters=POOL)
        site.host("h2")
        row = site.hypervisor("h1", 0, 5)
        site.audit(NODES, "INSERT", 0, row | {"deleted_at": None})
        site.audit(NODES, "DELETE", 7, row)
        assert site.corrected("total", host="h1") == on((0, 5))

    def test_a_container_is_known_after_zun_deleted_it(self):
        site = AuditedSite("chi_edge")
        site.device("pi", 0)
        site.lease("L", 1, 9, ["d-pi"], resource_type="device")
        site.container("c1", "pi", 2)
        row = site.tables[CONTAINERS].pop()
        site.audit(CONTAINERS, "INSERT", 2, row)
        site.audit(CONTAINERS, "DELETE", 6.5, row)
        assert AUDIT_TABLES[CONTAINERS] == "openstack_audit.audit_zun_containers"
        assert site.corrected("occupied_reservation") == on((2, 6.5))
        assert site.inferred("occupied_reservation") == []

    def test_a_row_that_came_back_was_away_in_between(self):
        site = AuditedSite(adapters=POOL)
        site.host("h2")
        row = site.hypervisor("h1", 0)
        site.audit(NODES, "INSERT", 0, row)
        site.audit(NODES, "DELETE", 3, row)
        site.audit(NODES, "INSERT", 7, row)
        assert site.corrected("total", host="h1") == on((0, 3), (7, 10))

    def test_a_row_that_went_without_a_trigger_ended_before_the_dump(self):
        """A foreign key that cascades fires none."""
        site = AuditedSite()
        site.host("h1")
        site.lease("L", 1, 9)
        row = site.tables[ALLOCATIONS].pop()
        site.audit(ALLOCATIONS, "INSERT", 1, row)
        assert site.corrected("committed") == on((1, 5.5))
        assert site.inferred("committed") == [(day(1), day(5.5))]


class TestWhatTheTriggersDoNotTell:
    def test_a_deletion_that_no_trigger_watches_still_counts(self):
        site = AuditedSite(adapters=POOL)
        site.hypervisor("h1", 0)
        site.host("h2")
        row = site.pool_host("h1", 0, 6)
        site.audit(HOSTS, "INSERT", 0, row | {"deleted_at": None})
        site.audit(HOSTS, "UPDATE", 2, row | {"deleted_at": None, "reservable": 0})
        site.audit(HOSTS, "UPDATE", 4, row | {"deleted_at": None})
        assert site.corrected("reservable", host="h1") == on((0, 2), (4, 6))

    def test_a_creation_that_the_row_does_not_date_is_the_one_that_was_seen(self):
        site = AuditedSite(adapters=POOL)
        site.host("h2")
        row = site.hypervisor("h1", None)
        site.audit(NODES, "INSERT", 2.5, row)
        assert site.corrected("total", host="h1") == on((2.5, 10))

    def test_a_mark_that_is_not_kept_was_not_there_before_the_row_was_deleted(self, tmp_path):
        site = AuditedSite(adapters=POOL)
        row = site.hypervisor("h1", 0, 6, id=7, deleted=7)
        before = row | {"deleted_at": None, "deleted": None}
        site.audit(NODES, "INSERT", 0, before | {"vcpus": 3})
        site.audit(NODES, "UPDATE", 4, before)
        inputs = load_raw_inputs(site.write(tmp_path), [NODES])
        versions = inputs.versions(NODES).filter(pl.col("id") == 7)
        assert versions.select("until", "deleted").rows() == [
            (day(4), None),
            (day(6), None),
            (None, 7),
        ]

    def test_a_column_that_is_not_kept_is_that_of_the_row(self):
        site = AuditedSite()
        row = pool(site, hypervisor_type="ironic")
        site.audit(HOSTS, "INSERT", 0, row)
        site.audit(HOSTS, "UPDATE", 3, row | {"reservable": 0})
        site.audit(HOSTS, "UPDATE", 5, row)
        assert "hypervisor_type" not in json.loads(site.audits[HOSTS][0]["data"])
        assert site.corrected("reservable", host="h1") == on((0, 3), (5, 10))

    def test_what_changes_often_and_unwatched_is_not_believed(self, monkeypatch, tmp_path):
        monkeypatch.setitem(audit.NOT_WATCHED, HOSTS, ("vcpus",))
        site = AuditedSite()
        row = pool(site, vcpus=1)
        site.audit(HOSTS, "INSERT", 0, row | {"vcpus": 7})
        site.audit(HOSTS, "UPDATE", 3, row | {"vcpus": 7, "reservable": 0})
        site.audit(HOSTS, "UPDATE", 5, row | {"vcpus": 7})
        inputs = load_raw_inputs(site.write(tmp_path), [HOSTS])
        versions = inputs.versions(HOSTS).filter(pl.col("id") == "b-h1")
        assert versions["vcpus"].to_list() == [None, None, None, 1]
        assert versions["reservable"].to_list() == [1, 0, 1, 1]


class TestBackfill:
    @pytest.mark.parametrize("key", LIVELY)
    def test_what_is_only_backfilled_changes_no_byte(
        self, key, lively_outputs, tmp_path, monkeypatch
    ):
        monkeypatch.setitem(LIVELY[key].__globals__, "TinySite", AuditedSite)
        audited = LIVELY[key]()
        audited.backfill(10)
        assert audited.audits
        audited.write(tmp_path / "in")
        runs.run_site(audited.site, tmp_path / "in", tmp_path / "out", audited.window)
        plain = list((lively_outputs() / key).iterdir())
        assert len(plain) > 10
        for path in plain:
            assert (tmp_path / "out" / key / path.name).read_bytes() == path.read_bytes(), path.name

    @pytest.mark.parametrize("by", ["backfill", None])
    def test_a_value_of_that_day_is_not_believed_for_the_time_before(self, by):
        site = AuditedSite(adapters=POOL)
        row = pool(site, reservable=0)
        site.backfill(4, HOSTS, by=by)
        row["reservable"] = 1
        site.audit(HOSTS, "UPDATE", 6, row)
        assert site.corrected("reservable", host="h1") == on((0, 4), (6, 10))

    def test_that_its_row_is_out_of_the_pool_since_before_is_told_by_the_row(self):
        site = AuditedSite(adapters=POOL)
        pool(site, reservable=0, updated_at=2)
        site.backfill(4, HOSTS)
        assert site.corrected("reservable", host="h1") == on((0, 2))

    def test_a_backfilled_deletion_is_none(self):
        site = AuditedSite(adapters=POOL)
        site.host("h2")
        site.hypervisor("h1", 0, 5)
        site.backfill(8, NODES)
        assert [r["audit_event_type"] for r in site.audits[NODES]].count("DELETE") > 0
        assert site.corrected("total", host="h1") == on((0, 5))

    def test_triggers_switched_off_and_on_again_say_nothing_of_the_time_between(self):
        site = AuditedSite(adapters=POOL)
        row = pool(site, updated_at=1)
        site.audit(HOSTS, "INSERT", 0, row)
        more = site.pool_host("h3", 2, reservable=0)
        site.hypervisor("h3", 2)
        site.audit(HOSTS, "INSERT", 6, more, event=2, by="backfill")
        assert site.corrected("reservable", host="h3") == on((2, 6))


class TestTimes:
    def test_the_event_counts_where_it_has_a_time(self):
        site = AuditedSite(adapters=POOL)
        row = pool(site, updated_at=9)
        site.backfill(1, HOSTS)
        site.audit(HOSTS, "UPDATE", 4, row | {"reservable": 0}, event=3)
        site.audit(HOSTS, "UPDATE", 7, row, audit_event_time=None)
        assert site.corrected("reservable", host="h1") == on((0, 3), (7, 10))

    def test_no_event_is_before_the_switch_on(self):
        site = AuditedSite(adapters=POOL)
        row = pool(site, updated_at=9)
        site.backfill(2, HOSTS)
        site.audit(HOSTS, "UPDATE", 4, row | {"reservable": 0}, event=1)
        site.audit(HOSTS, "UPDATE", 7, row)
        assert site.corrected("reservable", host="h1") == on((0, 2), (7, 10))

    def test_nothing_is_written_down_before_it_happens(self):
        """A column that was added on day 8 holds that day in the rows of before."""
        site = AuditedSite(adapters=POOL)
        row = pool(site, updated_at=9)
        site.audit(HOSTS, "INSERT", 0, row, event=8)
        site.audit(HOSTS, "UPDATE", 3, row | {"reservable": 0}, event=8)
        site.audit(HOSTS, "UPDATE", 7, row, event=8)
        assert site.corrected("reservable", host="h1") == on((0, 3), (7, 10))

    @pytest.mark.parametrize(
        "form",
        [
            lambda at: at.dt.strftime("%Y-%m-%d %H:%M:%S"),
            lambda at: at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            lambda at: at.dt.replace_time_zone("UTC"),
            lambda at: at.dt.replace_time_zone("UTC").dt.convert_time_zone("America/Chicago"),
            lambda at: at.cast(pl.Datetime("ns")),
        ],
    )
    def test_datetime_and_timestamp_in_every_form_are_utc(self, form, tmp_path):
        site = AuditedSite(adapters=POOL)
        row = pool(site)
        site.audit(HOSTS, "INSERT", 0, row)
        site.audit(HOSTS, "UPDATE", 3.25, row | {"reservable": 0})
        path = site.write(tmp_path) / f"{AUDIT_TABLES[HOSTS]}.parquet"
        times = ("audit_event_time", "audit_changed_at")
        pl.read_parquet(path).with_columns(form(pl.col(t)).alias(t) for t in times).write_parquet(
            path
        )
        inputs = load_raw_inputs(path.parent, [HOSTS])
        first = inputs.versions(HOSTS).filter(pl.col("id") == "b-h1", pl.col("reservable") == 1)
        assert first["until"].to_list()[0] == day(3.25)


class TestLayouts:
    def test_the_first_form_of_the_role_had_columns_and_no_document(self, tmp_path):
        site = AuditedSite()
        row = pool(site, updated_at=7)
        for at, flag in ((0, 1), (3, 0), (7, 1)):
            site.audit(HOSTS, "UPDATE" if at else "INSERT", at, row | {"reservable": flag})
        path = site.write(tmp_path) / f"{AUDIT_TABLES[HOSTS]}.parquet"
        rows = pl.read_parquet(path)
        kinds = {
            name: RAW_TABLES[HOSTS].columns.get(name, pl.String)
            for name in json.loads(rows["data"][0])
            if name != "id"
        }
        read = [{n: v for n, v in json.loads(text).items() if n != "id"} for text in rows["data"]]
        texts = pl.DataFrame(read, schema=dict.fromkeys(kinds, pl.String), strict=False)
        typed = texts.with_columns(
            pl.col(n).str.to_datetime() if k == pl.Datetime("us") else pl.col(n).cast(k)
            for n, k in kinds.items()
        )
        rows.drop("data", "audit_event_time").hstack(typed).write_parquet(path)
        stage = pipeline.facts(site.site, tmp_path)[0]
        site.__dict__["facts"] = stage
        assert site.corrected("reservable", host="h1") == on((0, 3), (7, 10))

    def test_a_site_with_no_dump_of_a_table_has_what_its_audit_table_leaves(self):
        site = AuditedSite(adapters=POOL)
        for name in ("h1", "h2"):
            site.host(name)
        second = site.tables[HOSTS][-1]
        rows = site.tables.pop(HOSTS)
        site.audits[HOSTS] = []
        for row in rows:
            made = day(row["created_at"])
            site.audit(HOSTS, "INSERT", 0, row, audit_event_time=made, by="backfill")
        site.audit(HOSTS, "DELETE", 6, second)
        assert site.corrected("reservable", host="h1") == on((0, 10))
        assert site.corrected("reservable", host="h2") == on((0, 6))

    def test_the_number_of_an_instance_is_not_its_key(self, tmp_path):
        site = AuditedSite()
        site.host("h1")
        site.lease("L", 1, 9)
        name = uid("instance")
        site.instance(name, "h1", 2, 5, lease="L")
        row = site.tables["nova.instances"][-1]
        site.audit("nova.instances", "UPDATE", 3, row, id="17")
        site.audit("nova.instances", "UPDATE", 4, row | {"uuid": None}, id="17")
        site.audit("nova.instances", "UPDATE", 4, row | {"uuid": None}, id=name)
        inputs = load_raw_inputs(site.write(tmp_path), ["nova.instances"])
        assert inputs.rejects.rows() == [(AUDIT_TABLES["nova.instances"], "2", "missing key")]

    def test_a_document_within_the_row_is_reduced_as_in_a_dump(self, tmp_path):
        site = AuditedSite()
        site.spec("I", uid("L"))
        row = site.tables["nova_api.request_specs"].pop()
        site.audit("nova_api.request_specs", "DELETE", 3, row)
        inputs = load_raw_inputs(site.write(tmp_path), ["nova_api.request_specs"])
        specs = inputs.get("nova_api.request_specs").filter(pl.col("instance_uuid") == "I")
        assert specs["hint"].to_list() == [uid("L")]


class TestValidation:
    def rejects(self, tmp_path, *wrong: dict) -> dict[str, str]:
        """Give the reason why each of these rows is refused, and count on as if it were not."""
        site = AuditedSite(adapters=POOL)
        row = pool(site)
        for at in range(20):
            site.audit(HOSTS, "UPDATE", at / 4, row)
        for one in wrong:
            site.audit(HOSTS, "UPDATE", 6, row | {"reservable": 0}, **one)
        inputs = load_raw_inputs(site.write(tmp_path), [HOSTS])
        assert inputs.rejects["source"].unique().to_list() == [AUDIT_TABLES[HOSTS]]
        assert site.corrected("reservable", host="h1") == on((0, 10))
        stated = site.rejected(AUDIT_TABLES[HOSTS], "input validation")
        assert stated == dict(inputs.rejects.select("source_row_id", "reason").iter_rows())
        return stated

    def test_a_row_without_a_document_is_rejected(self, tmp_path):
        data = ["{broken", "", "[1, 2]", "17", "[" * 9999, None]
        found = self.rejects(tmp_path, *({"data": text} for text in data))
        assert found == {str(21 + number): "unreadable data" for number in range(len(data))}

    def test_a_value_that_cannot_be_read_is_named(self, tmp_path):
        wrong = '{"id": "b-h1", "reservable": "perhaps", "created_at": "2020-01-01 00:00:00"}'
        assert self.rejects(tmp_path, {"data": wrong}) == {"21": "unreadable reservable"}

    def test_an_empty_document_has_no_value(self, tmp_path):
        assert self.rejects(tmp_path, {"data": "{}", "id": None}) == {"21": "missing key"}

    def test_bytes_are_read_as_text_and_those_that_are_none_are_rejected(self, tmp_path):
        site = AuditedSite(adapters=POOL)
        row = pool(site)
        for flag in (1, 0, 1):
            site.audit(HOSTS, "UPDATE", 5 - flag, row | {"reservable": flag})
        path = site.write(tmp_path) / f"{AUDIT_TABLES[HOSTS]}.parquet"
        rows = pl.read_parquet(path)
        octets = [*(text.encode() for text in rows["data"][:2]), b"\xff"]
        rows.with_columns(data=pl.Series(octets, dtype=pl.Binary)).write_parquet(path)
        inputs = load_raw_inputs(path.parent, [HOSTS])
        assert inputs.rejects.rows() == [(AUDIT_TABLES[HOSTS], "3", "unreadable data")]
        assert inputs.versions(HOSTS).filter(pl.col("id") == "b-h1").height == 3

    def test_an_event_of_no_known_kind_is_rejected(self, tmp_path):
        kinds = [{"audit_event_type": kind} for kind in ("REPLACE", None)]
        found = self.rejects(tmp_path, *kinds)
        assert found == dict.fromkeys(("21", "22"), "unreadable audit_event_type")

    def test_a_row_without_a_time_is_rejected(self, tmp_path):
        found = self.rejects(tmp_path, {"audit_event_time": None, "audit_changed_at": None})
        assert found == {"21": "unreadable audit_changed_at"}

    def test_a_row_that_names_no_row_is_rejected(self, tmp_path):
        found = self.rejects(tmp_path, {"data": '{"reservable": 0}', "id": None})
        assert found == {"21": "missing key"}

    def test_a_row_of_no_number_is_rejected(self, tmp_path):
        assert self.rejects(tmp_path, {"audit_id": None}) == {"(no key)": "missing key"}

    def test_a_row_that_is_there_twice_counts_once(self, tmp_path):
        site = AuditedSite(adapters=POOL)
        row = pool(site)
        for _ in range(2):
            site.audit(HOSTS, "INSERT", 0, row, audit_id=1)
        inputs = load_raw_inputs(site.write(tmp_path), [HOSTS])
        assert inputs.rejects.rows() == [(AUDIT_TABLES[HOSTS], "1", "duplicate row")]

    def test_a_table_without_its_columns_is_refused(self, tmp_path):
        site = AuditedSite(adapters=POOL)
        site.audit(HOSTS, "INSERT", 0, pool(site))
        path = site.write(tmp_path) / f"{AUDIT_TABLES[HOSTS]}.parquet"
        pl.read_parquet(path).drop("audit_changed_at").write_parquet(path)
        with pytest.raises(
            UsageError, match=r"audit_blazar_computehosts lacks .* audit_changed_at"
        ):
            load_raw_inputs(path.parent, [HOSTS])

    def test_an_empty_audit_table_tells_nothing(self, tmp_path):
        site = AuditedSite(adapters=POOL)
        site.audit(HOSTS, "INSERT", 0, pool(site))
        path = site.write(tmp_path) / f"{AUDIT_TABLES[HOSTS]}.parquet"
        pl.read_parquet(path).clear().write_parquet(path)
        inputs = load_raw_inputs(path.parent, [HOSTS])
        assert (inputs.audited, inputs.superseded) == ({}, {})


class TestWithSnapshots:
    def recorded(self, tmp_path, *, audited: bool) -> AuditedSite:
        """Snapshots every other day of a host whose flag goes on and off; the last is returned."""
        changes = [(0, 1), (3, 0), (5.25, 1), (8.5, 0)]
        for now in (2, 4, 6, 8, 10):
            site = AuditedSite(as_of=now)
            at, flag = max(change for change in changes if change[0] < now)
            row = pool(site, reservable=flag, updated_at=None if audited else at)
            if audited and now >= 6:
                site.audit(HOSTS, "INSERT", 4.5, row | {"reservable": 0}, event=0, by="backfill")
                for at, flag in changes[2:]:
                    if at < now:
                        site.audit(HOSTS, "UPDATE", at, row | {"reservable": flag})
            dump = site.write(tmp_path / f"dump-{now}")
            add_snapshot(tmp_path / "data" / "chi_tacc", dump)
        site.__dict__["facts"] = pipeline.facts(site.site, tmp_path / "data")[0]
        return site

    def test_they_tell_of_the_time_before_and_the_audit_table_of_the_time_after(self, tmp_path):
        site = self.recorded(tmp_path, audited=True)
        assert site.corrected("reservable", host="h1") == on((0, 3), (5.25, 8.5))

    def test_where_both_tell_they_agree(self, tmp_path):
        both = self.recorded(tmp_path / "both", audited=True)
        plain = self.recorded(tmp_path / "plain", audited=False)
        found = [site.corrected("reservable", host="h1") for site in (both, plain)]
        assert found[0] == found[1]

    def test_rows_of_an_audit_table_that_are_gone_from_it_are_still_told(self, tmp_path):
        for now in (6, 10):
            site = AuditedSite(as_of=now)
            row = pool(site)
            if now == 6:
                site.audit(HOSTS, "INSERT", 0, row)
                site.audit(HOSTS, "UPDATE", 2, row | {"reservable": 0})
            else:
                site.audit(HOSTS, "INSERT", 0, row)  # the table was made anew, its numbers too
                site.audits[HOSTS].clear()
            site.audit(HOSTS, "UPDATE", 5, row)
            add_snapshot(tmp_path / "data" / "chi_tacc", site.write(tmp_path / f"dump-{now}"))
        site.__dict__["facts"] = pipeline.facts(site.site, tmp_path / "data")[0]
        assert site.corrected("reservable", host="h1") == on((0, 2), (5, 10))


class TestTheWhole:
    def test_the_order_of_rows_changes_no_byte(self, tmp_path):
        site = AuditedSite()
        row = pool(site, updated_at=9)
        site.lease("L", 1, 9, ["b-h1", "b-h2"])
        allocation = site.tables[ALLOCATIONS].pop()
        site.backfill(2)
        site.audit(HOSTS, "UPDATE", 3, row | {"reservable": 0})
        site.audit(HOSTS, "UPDATE", 3, row | {"reservable": 1, "vcpus": 3})
        site.audit(HOSTS, "UPDATE", 4, row | {"reservable": 0}, audit_id=3)
        site.audit(ALLOCATIONS, "INSERT", 3, allocation | {"compute_host_id": "b-h1"})
        site.audit(ALLOCATIONS, "DELETE", 7, allocation)
        outs = []
        for seed in (None, 1, 2):
            site.write(tmp_path / f"in-{seed}", shuffle=seed)
            outs.append(tmp_path / f"out-{seed}")
            runs.run_site(site.site, tmp_path / f"in-{seed}", outs[-1], site.window)
        for path in (outs[0] / "chi_tacc").iterdir():
            for other in outs[1:]:
                assert (other / "chi_tacc" / path.name).read_bytes() == path.read_bytes()


# --- a random history, replayed -----------------------------------------------------------------

ON = 3
CHANGES = st.tuples(
    st.integers(0, 9),
    st.sampled_from(["b-1", "b-2", "b-3"]),
    st.sampled_from(["flag", "size", "mark", "delete", "insert"]),
)


class World:
    """A table that changes, and what its audit table keeps of it from day ON."""

    def __init__(self) -> None:
        self.rows: dict[str, dict] = {}
        self.site = AuditedSite(adapters=["blazar_hosts"])
        self.site.tables = {HOSTS: []}
        self.states: list[tuple[float, dict[str, dict]]] = []

    def act(self, at: float, key: str, what: str) -> None:
        row = self.rows.get(key)
        if row is None and what == "insert":
            self.rows[key] = {
                "id": key,
                "hypervisor_hostname": key,
                "reservable": 1,
                "vcpus": 1,
                "created_at": at,
            }
            self.write(at, "INSERT", self.rows[key])
        elif row is not None and what == "flag":
            self.rows[key] = row | {"reservable": 1 - row["reservable"]}
            self.write(at, "UPDATE", self.rows[key])
        elif row is not None and what == "size":
            self.rows[key] = row | {"vcpus": row["vcpus"] + 1, "reservable": 1}
            self.write(at, "UPDATE", self.rows[key])
        elif row is not None and what == "mark" and row.get("deleted_at") is None:
            self.rows[key] = row | {"deleted_at": at}  # no trigger watches it
        elif row is not None and what == "delete":
            self.write(at, "DELETE", self.rows.pop(key))
        self.states.append((at, dict(self.rows)))

    def write(self, at: float, kind: str, row: dict) -> None:
        if at >= ON:
            self.site.audit(HOSTS, kind, at, row)

    def switch_on(self) -> None:
        self.site.tables[HOSTS] = list(self.rows.values())
        self.site.backfill(ON)

    def at(self, moment: float) -> dict[str, dict]:
        return [state for at, state in [(-1, {}), *self.states] if at <= moment][-1]


@pytest.mark.parametrize("most", [30, pytest.param(120, marks=pytest.mark.slow)])
def test_replaying_the_audit_of_a_history_gives_at_each_time_the_row_that_was(most):
    @settings(max_examples=most)
    @given(st.lists(CHANGES, max_size=14))
    def hold(changes):
        world, switched = World(), False
        seconds = 1 / 86400
        ordered = sorted(changes, key=lambda change: change[0])
        for number, (at, key, what) in enumerate(ordered):
            if at >= ON and not switched:
                world.switch_on()
                switched = True
            world.act(at + (number + 1) * 60 * seconds, key, what)
        if not switched:
            world.switch_on()
        world.site.tables[HOSTS] = list(world.rows.values())
        inputs = replay(world.site)
        versions = inputs.versions(HOSTS)
        for tick in range(ON * 24 + 1, 10 * 24, 5):
            moment = tick / 24
            then = versions.filter(
                (pl.col("since") <= day(moment)).fill_null(value=True)
                & (pl.col("created_at") <= day(moment))
                & (day(moment) < pl.col("until")).fill_null(value=True)
            )
            found = {
                row["id"]: (row["reservable"], row["vcpus"])
                for row in then.to_dicts()
                if row["deleted_at"] is None or row["deleted_at"] > day(moment)
            }
            true = {
                key: (row["reservable"], row["vcpus"])
                for key, row in world.at(moment).items()
                if row.get("deleted_at") is None
            }
            assert found == true, moment

    hold()


def replay(site: AuditedSite) -> RawInputs:
    site.audits = {name: rows for name, rows in site.audits.items() if rows}
    with tempfile.TemporaryDirectory() as folder:
        return load_raw_inputs(site.write(Path(folder)), [HOSTS])
