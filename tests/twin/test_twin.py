"""The twin: its tables and its truth agree, it decays as reality did, and it is what it claims."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from chameleon_twin import calibrate
from chameleon_twin.calibration import SITES, Profile, damages, load
from chameleon_twin.cli import main
from chameleon_twin.intervals import cut, daily_seconds, staircase, union
from support import PROJECT
from support import twin_checks as plain

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = {"user_data", "key_data", "environment", "websocket_token", "cpu_info", "trust_id"}


def made(folder: Path, *options: str) -> Path:
    result = CliRunner().invoke(main, ["make", "--data-dir", str(folder), *options])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def whole(whole_twin: Path) -> Path:
    return whole_twin


@pytest.fixture
def decayed(decayed_twin: Path) -> Path:
    return decayed_twin


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sites at real size, as they are today."""
    return made(tmp_path_factory.mktemp("full"))


def manifest(folder: Path) -> dict[str, object]:
    return json.loads((folder / "manifest.json").read_text())


def as_of(folder: Path) -> int:
    return int(datetime.fromisoformat(manifest(folder)["as_of"]).replace(tzinfo=UTC).timestamp())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


class TestTablesTellTheTruth:
    """Without decay, a slow independent reading of the tables gives the truth, to the second."""

    @pytest.mark.parametrize("site", SITES)
    def test_total(self, whole: Path, site: str) -> None:
        folder = whole / site
        assert plain.total(folder, as_of(folder)) == plain.truth(folder, "total")

    @pytest.mark.parametrize("site", SITES)
    def test_reservable(self, whole: Path, site: str) -> None:
        folder = whole / site
        assert plain.reservable(folder, as_of(folder)) == plain.truth(folder, "reservable")

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "chi_edge"])
    def test_committed_nodes(self, whole: Path, site: str) -> None:
        folder = whole / site
        held = plain.committed(folder, as_of(folder)).select("host", "start", "end")
        assert plain.spans_by(held.rows()) == plain.truth(folder, "committed")

    @pytest.mark.parametrize("quantity", ["occupied", "active"])
    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "chi_edge"])
    def test_occupied_and_active_nodes(self, whole: Path, site: str, quantity: str) -> None:
        folder = whole / site
        stays = plain.lives(folder, as_of(folder)).filter(quantity=quantity)
        inside = plain.in_commitments(stays, plain.committed(folder, as_of(folder)))
        spans = plain.spans_by(inside.select("host", "start", "end").rows())
        assert spans == plain.truth(folder, f"{quantity}_reservation")

    @pytest.mark.parametrize("quantity", ["occupied", "active"])
    def test_virtual_machines(self, whole: Path, quantity: str) -> None:
        folder = whole / "kvm_tacc"
        stays = plain.lives(folder, as_of(folder)).filter(quantity=quantity)
        reserved = stays.filter(pl.col("reservation_id").is_not_null())
        held = plain.committed(folder, as_of(folder))
        parts = {
            "reservation": plain.in_commitments(reserved, held),
            "ondemand": stays.filter(pl.col("reservation_id").is_null()),
        }
        vcpu_seconds = ((pl.col("end") - pl.col("start")) * pl.col("vcpus")).sum().alias("sum")
        told = plain.read(folder / "truth", "intervals")
        for kind, rows in parts.items():
            ours = rows.group_by("host").agg(vcpu_seconds).sort("host")
            truth = told.filter(quantity_type=f"{quantity}_{kind}").group_by("host")
            assert ours.rows() == truth.agg(vcpu_seconds).sort("host").rows()


class TestTruth:
    @pytest.mark.parametrize("site", SITES)
    def test_rows_of_a_host_and_quantity_never_overlap(self, whole: Path, site: str) -> None:
        rows = plain.read(whole / site / "truth", "intervals").sort(
            "host", "quantity_type", "start"
        )
        before = pl.col("end").shift(1).over("host", "quantity_type")
        assert rows.filter(before > pl.col("start")).is_empty()
        assert rows.filter(pl.col("end") <= pl.col("start")).is_empty()
        assert rows["end"].max() <= as_of(whole / site)

    @pytest.mark.parametrize("site", SITES)
    @pytest.mark.parametrize("resource", ["vcpus", "memory_mb", "disk_gb", "gpus"])
    def test_hierarchy_holds_at_every_instant(self, whole: Path, site: str, resource: str) -> None:
        rows = plain.read(whole / site / "truth", "intervals")
        steps = pl.concat(
            [
                rows.select("host", "quantity_type", t="start", step=pl.col(resource)),
                rows.select("host", "quantity_type", t="end", step=-pl.col(resource)),
            ]
        )
        levels = (
            steps.group_by("host", "t", "quantity_type")
            .agg(pl.col("step").sum())
            .pivot(on="quantity_type", index=["host", "t"], values="step")
            .fill_null(0)
            .sort("host", "t")
        )
        names = [c for c in levels.columns if c not in {"host", "t"}]
        levels = levels.with_columns(pl.col(n).cum_sum().over("host") for n in names)
        levels = levels.with_columns(
            pl.lit(0).alias(n)
            for n in ("occupied_ondemand", "active_ondemand")
            if n not in levels.columns
        )
        for more, less in (
            ("total", "reservable"),
            ("reservable", "committed"),
            ("committed", "occupied_reservation"),
            ("occupied_reservation", "active_reservation"),
            ("occupied_ondemand", "active_ondemand"),
        ):
            assert levels.filter(pl.col(less) > pl.col(more)).is_empty(), (more, less)
        # No host ever carries more than it physically has.
        both = pl.col("committed") + pl.col("occupied_ondemand")
        assert levels.filter(both > pl.col("total")).is_empty()

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "chi_edge"])
    def test_no_two_leases_hold_one_machine_at_once(self, whole: Path, site: str) -> None:
        held = plain.committed(whole / site, as_of(whole / site)).sort("host", "start")
        before = pl.col("end").shift(1).over("host")
        assert held.filter(before > pl.col("start")).is_empty()

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "chi_edge"])
    def test_no_two_leases_were_ever_promised_one_machine(self, whole: Path, site: str) -> None:
        known = plain.read(whole / site / "truth", "knowledge")
        pairs = known.join(known, on="host", suffix="_b").filter(
            pl.col("lease_id") < pl.col("lease_id_b")
        )
        now = as_of(whole / site)
        believed = pl.min_horizontal(
            pl.col("known_to").fill_null(now), pl.col("known_to_b").fill_null(now)
        ) > pl.max_horizontal("known_from", "known_from_b")
        clash = pl.min_horizontal("end", "end_b") > pl.max_horizontal("start", "start_b")
        assert pairs.filter(believed & clash).is_empty()

    @pytest.mark.parametrize("site", SITES)
    def test_truth_is_the_same_before_and_after_the_decay(
        self, whole: Path, decayed: Path, site: str
    ) -> None:
        assert contents(whole / site / "truth") == contents(decayed / site / "truth")


class TestEveryKindOfEvent:
    """Even the tiny profile tells every kind of story."""

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc"])
    def test_outcomes_of_leases(self, whole: Path, site: str) -> None:
        outcomes = pl.read_parquet(whole / site / "truth" / "leases.parquet")["outcome"]
        assert set(outcomes) >= {"completed", "released_early", "cancelled", "never_started"}

    def test_actions(self, whole: Path) -> None:
        nodes = set(pl.read_parquet(whole / "chi_tacc/nova.instance_actions.parquet")["action"])
        assert nodes >= {"create", "delete", "stop", "start", "reboot", "rebuild", "shelve"}
        machines = set(pl.read_parquet(whole / "kvm_tacc/nova.instance_actions.parquet")["action"])
        assert machines >= nodes | {"live-migration", "pause", "suspend", "resize", "unshelve"}

    def test_hosts_added_replaced_and_given_back(self, whole: Path) -> None:
        held = plain.read(whole / "chi_tacc", "blazar.computehost_allocations")
        leases = plain.read(whole / "chi_tacc", "blazar.leases").select(
            "end_date", lease_id="id", made="created_at", gone="deleted_at"
        )
        reservations = plain.read(whole / "chi_tacc", "blazar.reservations").select(
            "lease_id", reservation_id="id"
        )
        rows = held.join(reservations, on="reservation_id").join(leases, on="lease_id")
        late = rows.filter(pl.col("created_at") > pl.col("made") + 60)
        early = rows.filter(pl.col("deleted_at") < pl.min_horizontal("end_date", "gone"))
        assert not late.is_empty()
        assert not early.is_empty()

    def test_hostnames_come_back_and_hosts_are_enrolled_again(self, whole: Path) -> None:
        for quantity in ("total", "reservable"):
            spans = plain.truth(whole / "chi_tacc", quantity)
            assert len(spans) > len({host for host, _, _ in spans})

    def test_prolonged_leases_are_known_version_by_version(self, whole: Path) -> None:
        known = pl.read_parquet(whole / "chi_tacc/truth/knowledge.parquet")
        ends = known.sort("known_from").group_by("lease_id", "host").agg(
            longer=(pl.col("end").diff() > pl.duration(hours=0)).any()
        )  # fmt: skip
        assert ends["longer"].any()

    def test_failed_launches_and_nodes_without_a_hint(self, whole: Path) -> None:
        rows = pl.read_parquet(whole / "chi_tacc/nova.instances.parquet")
        failed = rows.filter(pl.col("launched_at").is_null())
        assert failed["node"].null_count() not in {0, len(failed)}


class TestDecay:
    def test_removed_pool_hosts_left_no_trace_before_2022_05(self, decayed: Path) -> None:
        rows = pl.read_parquet(decayed / "chi_tacc/blazar.computehosts.parquet")
        assert rows["deleted_at"].min() >= datetime(2022, 5, 1)  # noqa: DTZ001

    def test_their_allocations_still_name_them(self, decayed: Path) -> None:
        folder = decayed / "chi_tacc"
        hosts = pl.read_parquet(folder / "blazar.computehosts.parquet").select(compute_host_id="id")
        held = pl.read_parquet(folder / "blazar.computehost_allocations.parquet")
        lost = held.join(hosts, on="compute_host_id", how="anti")
        assert 0.2 < len(lost) / len(held) < 0.9

    def test_nova_hosts_begin_with_the_restored_backups(self, decayed: Path) -> None:
        rows = pl.read_parquet(decayed / "chi_tacc/nova.compute_nodes.parquet")
        assert rows["deleted_at"].min() >= datetime(2018, 7, 17)  # noqa: DTZ001
        assert rows["created_at"].null_count() > 0

    def test_specs_are_purged_and_others_have_lost_their_instance(self, decayed: Path) -> None:
        folder = decayed / "chi_tacc"
        instances = pl.read_parquet(folder / "nova.instances.parquet").select(instance_uuid="uuid")
        specs = pl.read_parquet(folder / "nova_api.request_specs.parquet")
        assert len(instances.join(specs, on="instance_uuid", how="anti")) > 0
        assert len(specs.join(instances, on="instance_uuid", how="anti")) > 0

    def test_impossible_rows(self, decayed: Path) -> None:
        leases = pl.read_parquet(decayed / "chi_tacc/blazar.leases.parquet")
        assert (leases["end_date"] < leases["start_date"]).any()
        assert leases["end_date"].dt.year().max() == 9999
        instances = pl.read_parquet(decayed / "chi_tacc/nova.instances.parquet")
        assert (instances["deleted_at"] < instances["created_at"]).any()
        assert instances["created_at"].null_count() > 0

    def test_archived_machines_are_in_the_shadow_tables_only(self, decayed: Path) -> None:
        folder = decayed / "kvm_tacc"
        shadow = pl.read_parquet(folder / "nova.shadow_instances.parquet")
        live = pl.read_parquet(folder / "nova.instances.parquet")
        assert len(shadow) > 0
        # But for those at which the archiving was broken off.
        both = shadow.join(live, on="uuid", suffix="_live")
        assert 0 < len(both) <= 0.01 * len(shadow)
        assert (both["updated_at"] >= both["updated_at_live"]).all()
        actions = pl.read_parquet(folder / "nova.shadow_instance_actions.parquet")
        assert set(actions["instance_uuid"]) <= set(shadow["uuid"])

    def test_containers_are_all_but_gone(self, whole: Path, decayed: Path) -> None:
        was = pl.read_parquet(whole / "chi_edge/zun.container.parquet")
        left = pl.read_parquet(decayed / "chi_edge/zun.container.parquet")
        assert len(left) <= 4 < len(was)

    def test_the_legacy_collector_missed_days_and_cached_some_twice(self, decayed: Path) -> None:
        rows = pl.read_parquet(decayed / "chi_tacc/chameleon_usage.node_usage_report_cache.parquet")
        assert rows.is_duplicated().any()
        days = rows["date"].unique()
        assert len(days) < (days.max() - days.min()).days + 1


class TestWhatTheServicesWrite:
    """The shapes that Nova and Blazar leave by themselves, also where nothing is lost."""

    @pytest.fixture(params=["chi_tacc", "kvm_tacc"])
    def events(self, whole: Path, request: pytest.FixtureRequest) -> pl.DataFrame:
        return self.events_of(whole / request.param)

    @staticmethod
    def events_of(folder: Path) -> pl.DataFrame:
        actions = plain.read(folder, "nova.instance_actions").select(
            "action", "instance_uuid", action_id="id", action_finish="finish_time"
        )
        events = plain.read(folder, "nova.instance_actions_events")
        return actions.join(events, on="action_id", how="left")

    def test_shelved_for_good_without_an_offload_event(self, events: pl.DataFrame) -> None:
        per = events.group_by("instance_uuid").agg(
            shelved=(pl.col("event") == "compute_shelve_instance").any(),
            offloaded=(pl.col("event") == "compute_shelve_offload_instance").any(),
        )
        assert not per.filter("shelved", ~pl.col("offloaded")).is_empty()

    def test_who_is_offloaded_has_no_host(self, whole: Path) -> None:
        rows = plain.read(whole / "kvm_tacc", "nova.instances").filter(vm_state="shelved_offloaded")
        gone = plain.read(whole / "kvm_tacc", "nova.instances").filter(
            pl.col("node").is_null(), pl.col("launched_at").is_not_null(), pl.col("deleted") != 0
        )
        assert rows["node"].null_count() == rows["host"].null_count() == len(rows)
        assert len(gone)

    def test_power_changed_outside_nova(self, whole: Path) -> None:
        events = self.events_of(whole / "chi_tacc").filter(event="compute_power_update")
        assert set(events["action"]) == {"stop", "start"}
        assert self.events_of(whole / "kvm_tacc").filter(event="compute_power_update").is_empty()

    def test_migrations_of_every_kind_and_fate(self, whole: Path) -> None:
        rows = plain.read(whole / "kvm_tacc", "nova.migrations")
        fates = set(rows.select("migration_type", "status").rows())
        assert fates >= {
            ("live-migration", "completed"), ("migration", "confirmed"), ("resize", "confirmed"),
            ("resize", "error"),
        }  # fmt: skip
        kinds = rows.group_by("migration_type").agg(pl.col("status").unique())
        told = dict(kinds.rows())
        assert set(told["evacuation"]) <= {"done", "completed"}
        assert {"error", "failed"} & (set(told["migration"]) | set(told["live-migration"]))
        moved = rows.filter(~pl.col("status").is_in(["error", "failed"]))
        assert moved.filter(pl.col("source_node") == pl.col("dest_node")).is_empty()
        resized = moved.filter(pl.col("old_instance_type_id") != pl.col("new_instance_type_id"))
        assert set(resized["migration_type"]) == {"resize"}

    def test_events_of_some_migrated_machines_name_no_host(self, whole: Path) -> None:
        moved = plain.read(whole / "kvm_tacc", "nova.migrations")["instance_uuid"]
        events = self.events_of(whole / "kvm_tacc").drop_nulls("event")
        nameless = events.filter(pl.col("host").is_null() & (pl.col("event") != "rebuild_server"))
        assert not nameless.is_empty()
        assert set(nameless["instance_uuid"]) <= set(moved)

    def test_unshelved_on_another_host(self, whole: Path) -> None:
        events = self.events_of(whole / "kvm_tacc").sort("start_time")
        was = events.filter(event="compute_shelve_instance").select("instance_uuid", was="host")
        now = events.filter(event="compute_unshelve_instance").select("instance_uuid", "host")
        assert now.join(was, on="instance_uuid").filter(pl.col("host") != pl.col("was")).height

    def test_evacuated_and_restored(self, whole: Path) -> None:
        events = self.events_of(whole / "kvm_tacc")
        names = set(events.select("action", "event").drop_nulls().rows())
        assert names >= {
            ("evacuate", "compute_rebuild_instance"),
            ("delete", "compute_soft_delete_instance"),
            ("restore", "compute_restore_instance"),
        }

    def test_deleted_without_the_compute_service(self, events: pl.DataFrame) -> None:
        silent = events.filter(pl.col("event").is_null())
        assert set(silent["action"]) == {"delete"}
        assert len(silent) > 0

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc"])
    def test_ironic_says_what_is_in_maintenance_and_on_its_nodes(
        self, whole: Path, site: str
    ) -> None:
        folder, now = whole / site, as_of(whole / site)
        nodes = plain.read(folder, "ironic.nodes")
        told = plain.read(folder / "truth", "intervals").filter(pl.col("end") >= now)

        def today(quantity: str) -> set[str]:
            return set(told.filter(quantity_type=quantity)["host"])

        assert set(nodes["uuid"]) == today("total")
        assert set(nodes.filter(maintenance=1)["uuid"]) == today("maintenance")
        assert nodes.filter(pl.col("fault").is_not_null(), pl.col("maintenance") == 0).is_empty()
        held = nodes.filter(pl.col("instance_uuid").is_not_null())
        assert set(held["uuid"]) >= today("occupied_reservation")
        assert set(held["provision_state"]) <= {"active"}
        assert not set(nodes.filter(retired=1)["uuid"]) & today("reservable")
        assert (nodes["updated_at"] <= now).all()

    def test_compute_services_of_hosts_in_maintenance_are_disabled(self, whole: Path) -> None:
        folder, now = whole / "kvm_tacc", as_of(whole / "kvm_tacc")
        rows = plain.read(folder, "nova.services").filter(binary="nova-compute", disabled=1)
        told = plain.read(folder / "truth", "intervals").filter(
            pl.col("end") >= now, pl.col("quantity_type") == "maintenance"
        )
        assert set(rows["host"]) <= set(told["host"])

    def test_builds_that_failed_elsewhere_first(self, whole: Path) -> None:
        events = self.events_of(whole / "kvm_tacc").sort("start_time", "id").filter(
            event="compute__do_build_and_run_instance"
        )  # fmt: skip
        tries = events.group_by("instance_uuid").agg("result", "host")
        later = tries.filter(pl.col("result").list.len() > 1)
        # Only the first row is ever finished.
        assert later["result"].list.first().drop_nulls().len()
        assert (
            later["result"].list.slice(1).explode().null_count()
            == later["result"].list.slice(1).explode().len()
        )
        ran = plain.read(whole / "kvm_tacc", "nova.instances").select(
            instance_uuid="uuid", node="node"
        )
        elsewhere = later.join(ran, on="instance_uuid").filter(
            pl.col("host").list.first() != pl.col("node")
        )
        assert not elsewhere.is_empty()

    def test_builds_that_failed_say_success(self, events: pl.DataFrame, whole: Path) -> None:
        rows = pl.concat(
            plain.read(whole / site, "nova.instances").select("uuid", "launched_at")
            for site in ("chi_tacc", "kvm_tacc")
        )
        failed = rows.filter(pl.col("launched_at").is_null()).select(instance_uuid="uuid")
        builds = events.filter(event="compute__do_build_and_run_instance").join(
            failed, on="instance_uuid", how="semi"
        )  # fmt: skip
        assert set(builds["result"]) <= {"Success", None}
        assert len(builds)

    def test_no_action_has_a_finish_time(self, events: pl.DataFrame) -> None:
        assert events["action_finish"].null_count() == len(events)

    def test_deleted_softly(self, whole: Path) -> None:
        rows = plain.read(whole / "kvm_tacc", "nova.instances").filter(vm_state="soft-delete")
        assert (rows["deleted"] == 0).all()
        assert rows["deleted_at"].null_count() == 0
        assert rows["terminated_at"].null_count() == len(rows)

    def test_shelved_and_not_offloaded(self, whole: Path) -> None:
        events = self.events_of(whole / "kvm_tacc")
        assert not events.filter(action="unshelve", event="compute_start_instance").is_empty()


class TestWhatAccidentsLeave:
    """The kinds of damage to rows, each at least once however small the site."""

    def test_taken_out_of_the_pool_by_sql(self, decayed: Path) -> None:
        rows = plain.read(decayed / "chi_tacc", "blazar.computehosts")
        out = rows.filter(pl.col("reservable") == 0, pl.col("deleted_at").is_null())
        stale = pl.col("updated_at") <= pl.col("created_at") + 86_400
        assert out.filter(pl.col("updated_at").is_null() | stale).height

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc"])
    def test_hypervisors_lost_in_a_rebalance(self, whole: Path, decayed: Path, site: str) -> None:
        was, now = (
            plain.read(folder / site, "nova.compute_nodes").select(
                "id", "created_at", host="hypervisor_hostname", gone="deleted_at"
            )
            for folder in (whole, decayed)
        )
        both = now.join(was, on="id", suffix="_true")
        late = both.filter(pl.col("created_at") > pl.col("created_at_true") + 3600)
        # Of one made anew never, no row is live today.
        live = was.filter(pl.col("gone").is_null()).select("host")
        never = live.join(now.filter(pl.col("gone").is_null()), on="host", how="anti")
        assert late.height + never.height >= 1

    def test_hypervisors_younger_than_what_is_on_them(self, decayed: Path) -> None:
        hosts = plain.read(decayed / "kvm_tacc", "nova.compute_nodes").group_by(
            node="hypervisor_hostname"
        ).agg(begun=pl.col("created_at").min())  # fmt: skip
        ran = plain.read(decayed / "kvm_tacc", "nova.instances").drop_nulls("launched_at")
        early = ran.join(hosts, on="node").filter(pl.col("created_at") < pl.col("begun") - 86_400)
        assert early.height

    def test_renamed_hypervisors(self, decayed: Path) -> None:
        day = as_of(decayed / "kvm_tacc") - 86_400
        for table, column in (("nova.compute_nodes", "hypervisor_hostname"),
                              ("nova.services", "host")):  # fmt: skip
            live = plain.read(decayed / "kvm_tacc", table).filter(pl.col("deleted") == 0)
            silent = live.filter(pl.col("updated_at") < day)
            answers = live.filter(pl.col("updated_at") >= day)[column]
            assert silent.height, table
            short = answers.str.split(".").list.first()
            assert set(silent[column]) <= set(short), table
            assert silent.join(live, on="id").height == silent.height
            assert live["id"].is_unique().all()

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "kvm_tacc"])
    def test_deleted_without_a_date(self, decayed: Path, site: str) -> None:
        for table in ("nova.instances", "blazar.leases", "blazar.computehost_allocations"):
            rows = plain.read(decayed / site, table)
            flag = pl.col("deleted").cast(pl.String)
            gone = flag.is_not_null() & (flag != "0") & pl.col("deleted_at").is_null()
            assert rows.filter(gone).height == 1, table

    def test_an_archiving_broken_off(self, decayed: Path) -> None:
        folder = decayed / "kvm_tacc"
        shadow = plain.read(folder, "nova.shadow_instances").select("uuid", old="deleted_at")
        both = plain.read(folder, "nova.instances").join(shadow, on="uuid")
        assert both.height
        assert both["old"].null_count() == 0

    def test_rows_of_the_future(self, decayed: Path) -> None:
        for site in ("chi_tacc", "kvm_tacc"):
            for table in ("nova.compute_nodes", "nova.services", "nova.instances"):
                rows = plain.read(decayed / site, table)
                assert (rows["updated_at"] > as_of(decayed / site)).any(), (site, table)

    def test_who_deletes_a_lease_touches_its_start_event(self, decayed: Path) -> None:
        leases = plain.read(decayed / "chi_tacc", "blazar.leases")
        gone = leases.filter(pl.col("deleted_at").is_not_null())
        assert set(gone["status"]) >= {"DELETING"}
        starts = plain.read(decayed / "chi_tacc", "blazar.events").filter(event_type="start_lease")
        touched = starts.filter(pl.col("deleted_at").is_not_null())
        assert (touched["updated_at"] == touched["deleted_at"]).all()
        assert "DONE" in set(touched["status"])

    def test_leases_gone_whose_instances_remain(self, whole: Path, decayed: Path) -> None:
        folder = decayed / "chi_tacc"
        left = plain.read(folder, "blazar.leases").select("id")
        lost = plain.read(whole / "chi_tacc", "blazar.leases").join(left, on="id", how="anti")
        gone = plain.read(whole / "chi_tacc", "blazar.reservations").join(
            lost.select(lease_id="id"), on="lease_id", how="semi"
        )["id"]  # fmt: skip
        specs = plain.read(folder, "nova_api.request_specs").select(
            uuid="instance_uuid",
            reservation=pl.col("spec").str.extract(r'"reservation": \["([0-9a-f-]+)"'),
        )
        rows = plain.read(folder, "nova.instances").join(specs, on="uuid")
        ran = rows.filter(pl.col("launched_at").is_not_null())
        assert set(ran["reservation"].drop_nulls()) & set(gone)
        assert lost["created_at"].max() < datetime(2018, 7, 1, tzinfo=UTC).timestamp()


class TestDamage:
    """`make --damage` multiplies what the calibration file states, kind by kind."""

    def test_every_kind_says_what_it_is_a_share_of_and_who_says_so(self) -> None:
        for name, kind in damages().items():
            assert set(kind) == {"what", "rate", "of", "sites", "mark", "source"}, name
            assert kind["rate"] > 0, name
            assert set(kind["sites"]) <= {"baremetal", "kvm", "device"}, name
            assert kind["mark"] in {"published", "assumed"}, name
            assert kind["of"], name
            assert kind["source"], name
            # Twice as much is still a share.
            assert kind["rate"] <= 0.5 or isinstance(kind["rate"], int), name

    def test_a_factor_of_a_kind_of_another_cloud_changes_nothing(self) -> None:
        size = Profile("tiny", 1.0)
        ours, other = load("chi_uc", size), load("chi_uc", size, {"renamed": 2, "lease_gone": 2})
        assert other.share("renamed") == ours.share("renamed") == 0
        assert other.share("lease_gone") == 2 * ours.share("lease_gone") > 0

    def test_more_takes_what_less_takes_and_more(self) -> None:
        cal = load("chi_uc", Profile("tiny", 1.0))
        twice = load("chi_uc", Profile("tiny", 1.0), {"lease_gone": 2})
        less, more = (c.some("lease_gone", 5000, np.random.default_rng(1)) for c in (cal, twice))
        assert len(more) == 2 * len(less) == 40
        assert set(less) < set(more)
        never = load("chi_uc", Profile("tiny", 1.0), {"lease_gone": 0})
        assert not len(never.some("lease_gone", 5000, np.random.default_rng(1)))

    def test_more_damage_to_rows_and_the_same_truth(self, decayed: Path, tmp_path: Path) -> None:
        kinds = ("no_created_at", "orphan_allocations", "lease_gone", "rebalance_lost")
        options = [part for kind in kinds for part in ("--damage", f"{kind}=50")]
        made(tmp_path, "--profile", "tiny", "--site", "chi_uc", *options)
        assert manifest(tmp_path / "chi_uc")["damage"] == dict.fromkeys(kinds, 50.0)
        ours, more = contents(decayed / "chi_uc"), contents(tmp_path / "chi_uc")
        changed = {name for name in ours if ours[name] != more[name]}
        assert {"nova.compute_nodes.parquet", "blazar.leases.parquet"} <= changed
        assert not any(name.startswith("truth") or "instance" in name for name in changed)

    def test_none_and_all(self, whole: Path, tmp_path: Path) -> None:
        made(tmp_path, "--profile", "tiny", "--site", "chi_tacc", "--damage", "all=0")
        folder = tmp_path / "chi_tacc"
        rows = plain.read(folder, "nova.compute_nodes")
        assert rows["created_at"].null_count() == 0
        events = plain.read(folder, "nova.instance_actions_events")
        assert "compute_power_update" not in set(events["event"])
        assert events["finish_time"].null_count() <= plain.read(
            whole / "chi_tacc", "nova.instance_actions_events"
        )["finish_time"].null_count()  # fmt: skip
        assert manifest(folder)["damage"] == dict.fromkeys(damages(), 0.0)

    @pytest.mark.parametrize(
        ("given", "said"),
        [("no_such=2", "no_such"), ("renamed", "NAME=FACTOR"), ("renamed=-1", "at least 0"),
         ("renamed=nan", "at least 0")],
    )  # fmt: skip
    def test_a_wrong_kind_or_factor_says_what_is_known(
        self, tmp_path: Path, given: str, said: str
    ) -> None:
        result = CliRunner().invoke(main, ["make", "--data-dir", str(tmp_path), "--damage", given])
        assert result.exit_code == 2
        assert said in result.output
        assert "renamed" in result.output
        assert not list(tmp_path.iterdir())


class TestLayout:
    @pytest.mark.parametrize("site", SITES)
    def test_columns_are_those_of_the_schema(self, decayed: Path, site: str) -> None:
        schema = PROJECT.parent / "shared" / "schema" / "schema_columns.csv"
        if not schema.exists():
            pytest.skip("the published schema is not beside the project")
        known: dict[str, set[str]] = {}
        for db, table, column in pl.read_csv(schema).select("schema", "table", "column").rows():
            known.setdefault(f"{db}.{table}", set()).add(column)
        for path in sorted((decayed / site).glob("*.parquet")):
            columns = set(pl.read_parquet_schema(path))
            assert not columns & SECRETS, path.name
            name = path.stem.replace("shadow_", "")
            if name in known:
                assert columns <= known[name], path.name

    def test_profile_and_scale_multiply(self) -> None:
        assert Profile("tiny", 3.0).fleet == pytest.approx(3 * Profile("tiny", 1.0).fleet)

    @pytest.mark.parametrize("site", SITES)
    def test_manifest_counts_the_rows(self, decayed: Path, site: str) -> None:
        told = manifest(decayed / site)
        assert told["kind"] == "twin"
        assert told["as_of"] == "2026-01-08T03:00:00"
        counts = {p.stem: pl.scan_parquet(p).select(pl.len()).collect().item()
                  for p in (decayed / site).glob("*.parquet")}  # fmt: skip
        assert told["tables"] == counts

    @pytest.mark.parametrize("site", SITES)
    def test_times_are_naive_whole_seconds(self, decayed: Path, site: str) -> None:
        for path in (decayed / site).rglob("*.parquet"):
            for column, kind in pl.read_parquet_schema(path).items():
                if isinstance(kind, pl.Datetime):
                    assert kind == pl.Datetime("us"), (path.name, column)
                    values = pl.read_parquet(path, columns=[column])[column].drop_nulls()
                    assert (values.dt.microsecond() == 0).all(), (path.name, column)


class TestCommand:
    def test_same_seed_same_bytes_and_one_site_as_all(self, decayed: Path, tmp_path: Path) -> None:
        made(tmp_path, "--profile", "tiny", "--site", "chi_uc", "--site", "kvm_tacc")
        for site in ("chi_uc", "kvm_tacc"):
            assert contents(tmp_path / site) == contents(decayed / site)

    def test_another_seed_another_history(self, decayed: Path, tmp_path: Path) -> None:
        made(tmp_path, "--profile", "tiny", "--site", "chi_edge", "--seed", "7")
        ours, other = contents(tmp_path / "chi_edge"), contents(decayed / "chi_edge")
        assert ours["truth/intervals.parquet"] != other["truth/intervals.parquet"]

    def test_unknown_site_names_the_sites(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(
            main, ["make", "--site", "chi_mars", "--data-dir", str(tmp_path)]
        )
        assert result.exit_code != 0
        assert "chi_mars" in result.output
        assert all(site in result.output for site in SITES)
        assert not list(tmp_path.iterdir())

    def test_a_site_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        made(tmp_path, "--profile", "tiny", "--site", "chi_edge", "--no-decay")
        (tmp_path / "chi_edge" / "stray.parquet").write_bytes(b"old")
        made(tmp_path, "--profile", "tiny", "--site", "chi_edge", "--overwrite")
        assert [p.name for p in tmp_path.iterdir()] == ["chi_edge"]
        assert not (tmp_path / "chi_edge" / "stray.parquet").exists()
        assert manifest(tmp_path / "chi_edge")["decay"] is True

    @pytest.mark.parametrize(
        ("options", "said"),
        [(("--seed", "7"), "seed 2016"), (("--scale", "0.5"), "scale 1.0"),
         (("--no-decay",), "decay True"), (("--damage", "all=2"), "damage {}")],
    )  # fmt: skip
    def test_another_twin_does_not_replace_one_unasked(
        self, tmp_path: Path, options: tuple[str, ...], said: str
    ) -> None:
        tiny = ("--profile", "tiny", "--site", "chi_edge")
        before = contents(made(tmp_path, *tiny) / "chi_edge")
        result = CliRunner().invoke(main, ["make", "--data-dir", str(tmp_path), *tiny, *options])
        assert result.exit_code == 1
        assert said in result.output
        assert "--overwrite" in result.output
        assert contents(made(tmp_path, *tiny) / "chi_edge") == before, "the same twin is made anew"

    def test_tables_of_no_twin_are_never_replaced_unasked(self, tmp_path: Path) -> None:
        dump = tmp_path / "chi_edge" / "blazar.leases.parquet"
        dump.parent.mkdir()
        dump.write_bytes(b"real")
        tiny = ["make", "--data-dir", str(tmp_path), "--profile", "tiny"]
        result = CliRunner().invoke(main, tiny)
        assert result.exit_code == 1
        assert "no twin" in result.output
        assert dump.read_bytes() == b"real"
        assert [p.name for p in tmp_path.iterdir()] == ["chi_edge"]

    def test_a_failure_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full_disk(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pl.DataFrame, "write_parquet", full_disk)
        result = CliRunner().invoke(
            main, ["make", "--profile", "tiny", "--site", "chi_edge", "--data-dir", str(tmp_path)]
        )
        assert result.exit_code != 0
        assert not list(tmp_path.iterdir())

    def test_scale_scales_fleet_and_demand(self, decayed: Path, tmp_path: Path) -> None:
        made(tmp_path, "--profile", "tiny", "--site", "chi_tacc", "--scale", "3")
        small, large = manifest(decayed / "chi_tacc"), manifest(tmp_path / "chi_tacc")
        for table in ("blazar.leases", "nova.instances", "nova_api.request_specs"):
            ratio = large["tables"][table] / small["tables"][table]
            assert 2.4 < ratio < 3.6, table


class TestIntervals:
    """The interval functions against the obvious, second by second."""

    @pytest.mark.parametrize("seed", range(20))
    def test_union_cut_staircase_and_daily_seconds(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        key = rng.integers(0, 3, 12)
        start = rng.integers(0, 80, 12)
        end = start + rng.integers(-3, 25, 12)
        grid: dict[int, np.ndarray] = {k: np.zeros(120, dtype=np.int64) for k in range(3)}
        for k, s, e in zip(key, start, end, strict=True):
            grid[k][s : max(e, s)] += 1
        got = {k: np.zeros(120, dtype=np.int64) for k in range(3)}
        for k, s, e in zip(*union(key, start, end), strict=True):
            got[k][s:e] += 1
        assert all((got[k] == (grid[k] > 0)).all() for k in grid)
        steps = {k: np.zeros(120, dtype=np.int64) for k in range(3)}
        pieces = staircase(key, start, end, np.ones((12, 1), dtype=np.int64))
        for k, s, e, level in zip(*pieces, strict=True):
            steps[k][s:e] += level[0]
        assert all((steps[k] == grid[k]).all() for k in grid)
        owner, low, high = np.arange(2), np.array([5, 10]), np.array([60, 90])
        hole = np.array([0, 20, 50, 30, 85])
        fill = np.array([7, 25, 99, 40, 86])
        whose = np.array([0, 0, 0, 1, 1])
        line = np.zeros((2, 120), dtype=np.int64)
        for o, s, e in zip(*cut((owner, low, high), (whose, hole, fill)), strict=True):
            line[o, s:e] += 1
        there = np.zeros((2, 120), dtype=np.int64)
        there[0, 7:20] = there[0, 25:50] = 1
        there[1, 10:30] = there[1, 40:85] = there[1, 86:90] = 1
        assert (line == there).all()
        hours = daily_seconds(
            key, start * 7200, np.maximum(end, start) * 7200, groups=3, first_day=0, days=10
        )
        plain_hours = np.stack([grid[k] for k in range(3)], axis=1)[:120] * 7200
        assert (hours == plain_hours.reshape(10, 12, 3).sum(1)).all()


class TestRebuiltInPlace:
    """A node that becomes another type keeps its name, and in the decayed tables its Blazar row."""

    def rows(self, folder: Path) -> pl.DataFrame:
        types = pl.read_parquet(folder / "chi_uc/truth/intervals.parquet").filter(
            pl.col("quantity_type") == "reservable"
        )
        rebuilt = types.group_by("host").agg(pl.col("node_type").unique().sort())
        hosts = rebuilt.filter(pl.col("node_type").list.len() == 2)
        assert hosts["node_type"].to_list() == [["compute_skylake", "gpu_rtx_6000"]] * len(hosts)
        assert len(hosts)
        return pl.read_parquet(folder / "chi_uc/blazar.computehosts.parquet").join(
            hosts, left_on="hypervisor_hostname", right_on="host", how="semi"
        )

    def test_the_services_wrote_a_row_for_each_life(self, whole: Path) -> None:
        rows = self.rows(whole).sort("hypervisor_hostname", "created_at")
        follows = rows["deleted_at"].shift(1) == rows["created_at"]
        assert follows.sum() == rows["hypervisor_hostname"].n_unique()

    def test_the_decay_leaves_one_that_began_before(self, decayed: Path) -> None:
        rows = self.rows(decayed)
        assert rows["hypervisor_hostname"].is_unique().any()
        assert (rows["created_at"] < datetime(2020, 2, 19)).any()  # noqa: DTZ001
        ids = pl.read_parquet(decayed / "chi_uc/blazar.computehost_allocations.parquet")
        assert ids.join(rows, left_on="compute_host_id", right_on="id", how="semi").height


@pytest.mark.slow
class TestLikeTheRealOne:
    """At real size: row counts, yearly curves and lease figures."""

    @pytest.mark.parametrize("site", SITES)
    def test_row_counts_are_within_a_tenth(self, full: Path, site: str) -> None:
        counts = manifest(full / site)["tables"]
        for table, real in load(site, Profile("full", 1.0)).facts["row_counts"].items():
            assert abs(counts[table] - real) <= 0.1 * real, (table, counts[table], real)

    @pytest.mark.parametrize("site", ["chi_tacc", "chi_uc", "kvm_tacc"])
    def test_yearly_means_follow_the_real_curves(self, full: Path, site: str) -> None:
        """Within 15 % in most years of each series, and in nine tenths of all."""
        folder, cal = full / site, load(site, Profile("full", 1.0))
        ours = {"current": calibrate.uncorrected(folder, as_of(folder), cal)}
        if site != "kvm_tacc":
            ours["legacy"] = calibrate.legacy(folder)
        every = []
        for curve, real in cal.real_curves.items():
            collector, quantity = curve.split("_")
            if quantity in {"total", "reservable", "committed", "occupied"}:
                found = {y: (ours[collector][quantity][y], real[y][0]) for y in real if y > 2015}
                near = [abs(mean / truth - 1) <= 0.15 for mean, truth in found.values()]
                assert sum(near) > len(near) / 2, (curve, found)
                every += near
        assert sum(every) >= 0.9 * len(every), (sum(every), len(every))

    def test_idle_is_negative_before_2022_and_not_after(self, full: Path) -> None:
        for site in ("chi_tacc", "chi_uc"):
            folder, cal = full / site, load(site, Profile("full", 1.0))
            ours = calibrate.uncorrected(folder, as_of(folder), cal)
            for year, (real, _) in cal.real_curves["current_idle"].items():
                idle = ours["committed"][year] - ours["occupied"][year]
                assert (idle < 0) == (real < 0) == (year < 2022), (site, year, idle, real)
                assert abs(idle - real) <= 0.25 * abs(real) + 5, (site, year, idle, real)

    def test_leases_follow_the_published_figures(self, full: Path) -> None:
        folder = full / "chi_tacc"
        facts = load("chi_tacc", Profile("full", 1.0)).leases
        told = plain.read(folder / "truth", "leases")
        rows = plain.read(folder, "blazar.leases").select(
            "start_date", "end_date", "deleted_at", "user_id", lease_id="id"
        )
        low, high = (int(datetime(y, m, 1, tzinfo=UTC).timestamp()) for y, m in
                     ((2016, 9), (2021, 7)))  # fmt: skip
        leases = told.join(rows, on="lease_id").filter(
            pl.col("created_at").is_between(low, high), pl.col("outcome") != "no_hosts"
        )
        robots = leases["user_id"].value_counts(sort=True)["user_id"].head(2)
        leases = leases.filter(~pl.col("user_id").is_in(robots.implode()))
        over = pl.min_horizontal("end_date", "deleted_at")
        begin = pl.max_horizontal("start_date", "created_at")
        leases = leases.with_columns(
            requested=(pl.col("end_date") - pl.col("start_date")) / 3600,
            actual=(over - begin) / 3600,
            lead=pl.col("requested_h"),
            gpu=pl.col("node_type").str.starts_with("gpu_"),
            early=pl.col("end_date") - over > 300,
        )
        for gpu, name in ((False, "non_gpu"), (True, "gpu")):
            part = leases.filter(pl.col("gpu") == gpu)
            real = facts[name]
            ahead = part.filter(pl.col("lead") > 0)
            started = part.filter(pl.col("outcome") != "cancelled")
            found = {
                "advance_share": len(ahead) / len(part),
                "advance_lead_median_h": ahead["lead"].median(),
                "advance_lead_p90_h": ahead["lead"].quantile(0.9),
                "requested_median_h": part["requested"].median(),
                "actual_median_h": started["actual"].median(),
            }
            for figure, value in found.items():
                assert value == pytest.approx(real[figure], rel=0.2), (name, figure)
        seven = ((leases["requested"] - 168).abs() <= 2).mean()
        assert leases["early"].mean() == pytest.approx(facts["released_early_share"], abs=0.03)
        cancelled = (leases["outcome"] == "cancelled").mean()
        assert cancelled == pytest.approx(facts["cancelled_before_start_share"], abs=0.005)
        assert seven == pytest.approx(facts["seven_day_share"], abs=0.04)
        longer = (leases["requested"] > 170).mean()
        assert longer == pytest.approx(facts["longer_than_seven_days_share"], abs=0.03)
