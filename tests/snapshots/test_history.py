"""What several snapshots of a site tell together that the last one alone does not.

Snapshots are taken on days 2, 4, 6, 8 and 10; what is written is the state of the tables then.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from chameleon_usage import pipeline, runs
from chameleon_usage.snapshots.record import add_snapshot
from support.sites import TinySite, day, lively_edge_site, lively_kvm_site, lively_site, on

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = (2, 4, 6, 8, 10)
HOSTS = "blazar.computehosts"
POOL = ("nova_hosts", "blazar_hosts")
"""The adapters that tell of hosts and the pool."""
ALLOCATIONS = "blazar.computehost_allocations"


class Recorded(TinySite):
    """A site whose record is read: its state on each day of SNAPSHOTS, the last is its own.

    Args:
        state: fills a site with the rows that it had on a day.
        leave_out: tables that a day's dump lacks.
    """

    def __init__(
        self,
        state: Callable[[TinySite, float], None],
        key: str = "chi_tacc",
        *,
        leave_out: dict[int, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(key, **options)
        self.leave_out = leave_out or {}
        self.earlier = []
        for moment in SNAPSHOTS[:-1]:
            then = TinySite(key, as_of=moment, **options)
            state(then, moment)
            self.earlier.append(then)
        state(self, SNAPSHOTS[-1])

    def write(self, data_dir: Path, *, shuffle: int | None = None) -> Path:
        for moment, site in zip(SNAPSHOTS, [*self.earlier, super()], strict=True):
            with tempfile.TemporaryDirectory() as scratch:
                dump = site.write(Path(scratch), shuffle=shuffle)
                if moment in self.leave_out:
                    (dump / f"{self.leave_out[moment]}.parquet").unlink()
                add_snapshot(data_dir / self.site.key, dump)
        return data_dir / self.site.key


def leased(site: TinySite, start: float, end: float | None, hosts: tuple[str, ...] = ("b-h1",)):
    """Enrol h1 and h2 for good and lease hosts."""
    site.host("h1")
    site.host("h2")
    site.lease("L", start, end, hosts)


class TestRowsThatAreGone:
    def test_a_host_ends_in_the_middle_between_the_snapshots_and_that_is_inferred(self):
        def state(site, now):
            site.host("h2")
            if now < 5.5:
                site.host("h1")

        site = Recorded(state, adapters=POOL)
        for count_type in ("total", "reservable"):
            assert site.corrected(count_type, host="h1") == on((0, 5))
            assert site.inferred(count_type) == [(day(4), day(5))]

    def test_though_it_was_marked_as_not_deleted(self):
        def state(site, now):
            site.host("h2")
            if now < 5.5:
                site.hypervisor("h1", 0, deleted=0)

        assert Recorded(state, adapters=POOL).corrected("total", host="h1") == on((0, 5))

    def test_what_the_next_host_of_that_name_tells_goes_before_the_middle(self):
        def state(site, now):
            site.hypervisor("h1", 0)
            if now < 5:
                site.pool_host("h1", 0, host_id="1")
            if now > 5.5:
                site.pool_host("h1", 5.5, host_id="2")

        assert Recorded(state, adapters=POOL).corrected("reservable") == on((0, 10))

    def test_a_lease_keeps_the_host_whose_row_is_gone(self):
        def state(site, now):
            if now < 7:
                site.host("h1")
            site.host("h2")
            site.lease("L", 1, 5)

        assert Recorded(state).corrected("committed", host="h1") == on((1, 5))

    def test_an_allocation_ends_in_the_middle(self):
        def state(site, now):
            leased(site, 1, 9, ("b-h1", "b-h2") if now < 5 else ("b-h1",))

        site = Recorded(state)
        assert site.corrected("committed", host="h2") == on((1, 5))
        assert site.corrected("committed", host="h1") == on((1, 9))
        assert site.inferred("committed") == [(day(4), day(5))]

    def test_a_lease_purged_with_all_its_rows_after_its_end_still_tells_it(self):
        def state(site, now):
            site.host("h1")
            if now < 7:
                site.lease("L", 1, 3.5, node_type="compute_skylake")

        site = Recorded(state)
        assert site.corrected("committed") == on((1, 3.5))
        assert site.inferred("committed") == []
        assert "L" in site.outputs["leadtime_leases"]["lease_id"].to_list()

    def test_an_instance_purged_after_its_end_still_occupies_until_then(self):
        def state(site, now):
            leased(site, 1, 9)
            if now < 7:
                site.instance("I", "h1", 2, 5 if now > 5 else None, lease="L")

        site = Recorded(state)
        assert site.corrected("occupied_reservation") == on((2, 5))
        assert site.corrected("active_reservation") == on((2, 5))
        assert site.inferred("occupied_reservation") == []

    def test_a_purged_request_spec_still_tells_the_reservation(self):
        def state(site, now):
            leased(site, 1, 9)
            site.instance("I", "h1", 2, 5, lease="L" if now < 7 else None, project_id="other")

        assert Recorded(state).corrected("occupied_reservation") == on((2, 5))

    def test_a_row_that_was_archived_is_not_gone(self, tmp_path):
        def state(site, _now):
            leased(site, 1, 9)
            site.instance("I", "h1", 2, None, lease="L")

        site = Recorded(state)
        site.write(tmp_path / "live")
        dump = site.earlier[0].write(tmp_path / "dump")
        (dump / "nova.instances.parquet").rename(dump / "nova.shadow_instances.parquet")
        empty = pl.read_parquet(dump / "nova.shadow_instances.parquet").clear()
        empty.write_parquet(dump / "nova.instances.parquet")
        (dump / "manifest.json").write_text('{"as_of": "2020-01-12"}')
        add_snapshot(tmp_path / "live" / "chi_tacc", dump)
        stage, _ = pipeline.facts(site.site, tmp_path / "live")
        lives = stage.ingested.intervals.filter(pl.col("entity_id") == "I")
        assert lives.height > 0
        assert lives["end"].null_count() == lives.height

    def test_a_container_ends_in_the_middle_and_its_actions_are_still_known(self):
        def state(site, now):
            site.device("pi", 0)
            site.lease("L", 1, 9, ["d-pi"], resource_type="device")
            if now < 7:
                site.container("c1", "pi", 2)

        site = Recorded(state, "chi_edge")
        assert site.corrected("occupied_reservation") == on((2, 7))
        assert site.inferred("occupied_reservation") == [(day(6), day(7))]

    def test_a_table_that_a_dump_lacks_ends_nothing(self):
        def state(site, _now):
            leased(site, 1, 9)

        for table in (HOSTS, "blazar.leases", "nova.compute_nodes"):
            site = Recorded(state, leave_out={6: table})
            assert site.corrected("total") == on((0, 10), height=2)
            assert site.corrected("reservable") == on((0, 10), height=2)
            assert site.corrected("committed") == on((1, 9))

    @pytest.mark.parametrize("lacking", [4, 6, 8])
    def test_a_row_that_is_gone_when_its_table_is_back_ended_since_it_was_seen(self, lacking):
        def state(site, now):
            site.hypervisor("h1", 0)
            site.host("h2")
            if now < lacking - 1:
                site.pool_host("h1", 0)

        site = Recorded(state, leave_out={lacking: HOSTS}, adapters=POOL)
        assert site.corrected("reservable", host="h1") == on((0, lacking))
        assert site.inferred("reservable") == [(day(lacking - 2), day(lacking))]


class TestRowsThatChanged:
    def test_an_allocation_edited_in_place_held_its_earlier_host_until_then(self):
        def state(site, now):
            leased(site, 1, 9, ())
            host, changed = ("b-h1", 1) if now < 5.25 else ("b-h2", 5.25)
            site.allocation("L", host, 1, id="A", updated_at=changed)

        site = Recorded(state)
        assert site.corrected("committed", host="h1") == on((1, 5.25))
        assert site.corrected("committed", host="h2") == on((5.25, 9))
        assert site.inferred("committed") == []

    def test_without_the_time_of_the_change_it_is_the_middle_and_inferred(self):
        def state(site, now):
            leased(site, 1, 9, ())
            site.allocation("L", "b-h1" if now < 5.25 else "b-h2", 1, id="A")

        site = Recorded(state)
        assert site.corrected("committed", host="h1") == on((1, 5))
        assert site.corrected("committed", host="h2") == on((5, 9))
        assert site.inferred("committed") == [(day(4), day(5)), (day(5), day(6))]

    def test_an_allocation_edited_twice_had_three_hosts(self):
        def state(site, now):
            leased(site, 1, 9, ())
            site.host("h3")
            n = sum(now > change for change in (3, 7))
            site.allocation("L", f"b-h{n + 1}", 1, id="A", updated_at=(1, 3, 7)[n])

        site = Recorded(state)
        held = [site.corrected("committed", host=f"h{n}") for n in (1, 2, 3)]
        assert held == [on((1, 3)), on((3, 7)), on((7, 9))]

    def test_a_flag_taken_away_and_given_back_leaves_a_gap(self):
        def state(site, now):
            site.hypervisor("h1", 0)
            site.host("h2")
            changed, flag = max((c, f) for c, f in ((0, 1), (3, 0), (7, 1)) if c < now)
            site.pool_host("h1", 0, reservable=flag, updated_at=changed)

        site = Recorded(state)
        assert site.corrected("reservable", host="h1") == on((0, 3), (7, 10))
        assert site.corrected("maintenance", host="h1") == on((3, 7))

    def test_a_flag_taken_away_counts_from_then_though_the_row_changed_again(self):
        def state(site, now):
            site.hypervisor("h1", 0)
            site.host("h2")
            changed, flag = max((c, f) for c, f in ((0, 1), (3, 0), (7, 0)) if c < now)
            site.pool_host("h1", 0, reservable=flag, updated_at=changed)

        assert Recorded(state, adapters=POOL).corrected("reservable", host="h1") == on((0, 3))

    def test_a_hypervisor_that_was_deleted_and_restored_was_away_in_between(self):
        def state(site, now):
            site.host("h2")
            site.hypervisor("h1", 0, 3 if 3 < now < 7 else None, id=7)

        site = Recorded(state, adapters=POOL)
        assert site.corrected("total", host="h1") == on((0, 3), (7, 10))

    def test_an_extended_lease_runs_through_and_a_shortened_one_ends(self):
        for before, after in ((5, 9), (9, 5.5)):

            def state(site, now, ends=(before, after)):
                leased(site, 1, ends[now > 5])

            site = Recorded(state)
            assert site.corrected("committed") == on((1, after))
            assert site.outputs["lease_use"]["extended"].to_list() == [int(after > before)]

    def test_a_host_that_a_service_took_from_an_instance_is_the_one_it_had(self):
        def state(site, now):
            site.host("h1")
            site.host("h2")
            site.lease("L", 1, 9, ["b-h1", "b-h2"])
            site.instance("I", "h2" if now < 5 else None, 2, 7 if now > 7 else None, lease="L")

        assert Recorded(state).corrected("occupied_reservation", host="h2") == on((2, 7))

    def test_a_creation_date_that_was_lost_is_the_one_that_was_told(self):
        def state(site, now):
            site.host("h2")
            site.hypervisor("h1", 1 if now < 5 else None, id=7)

        assert Recorded(state, adapters=POOL).corrected("total", host="h1") == on((1, 10))

    def test_node_type_and_size_are_those_of_their_time(self):
        def state(site, now):
            new = now > 5
            site.hypervisor("h1", 0, vcpus=96 if new else 48, id=7)
            site.pool_host(
                "h1", 0, node_type="gpu_a100" if new else "gpu_p100", gpus=4 if new else 2
            )

        site = Recorded(state, adapters=POOL)
        assert site.corrected("total", node_type="gpu_p100") == on((0, 5))
        assert site.corrected("total", node_type="gpu_a100") == on((5, 10))
        assert site.corrected("total", resource="gpus") == [2] * 5 + [4] * 5
        assert site.corrected("total", resource="vcpus") == [48] * 5 + [96] * 5

    def test_a_capability_that_is_another_row_now_is_a_change_too(self):
        def state(site, now):
            site.hypervisor("h1", 0)
            site.pool_host("h1", 0)
            site.add("blazar.resource_properties", id="p", property_name="node_type")
            site.add(
                "blazar.computehost_extra_capabilities",
                id=f"{now > 5}",
                computehost_id="b-h1",
                property_id="p",
                capability_value="compute_new" if now > 5 else "compute_old",
            )

        site = Recorded(state, adapters=POOL)
        assert site.corrected("total", node_type="compute_old") == on((0, 5))
        assert site.corrected("total", node_type="compute_new") == on((5, 10))


class TestTheWhole:
    @pytest.mark.parametrize(
        ("key", "lively"),
        [
            ("chi_tacc", lively_site),
            ("kvm_tacc", lively_kvm_site),
            ("chi_edge", lively_edge_site),
        ],
    )
    def test_snapshots_that_tell_nothing_new_change_no_byte(self, key, lively, tmp_path):
        dump = lively().write(tmp_path / "dump")
        for moment in SNAPSHOTS:
            (dump / "manifest.json").write_text(f'{{"as_of": "{day(moment).isoformat()}"}}')
            add_snapshot(tmp_path / "record" / key, dump)
        assert len(list((tmp_path / "record" / key / "history").iterdir())) == 4
        site = lively()
        for folder in ("dump", "record"):
            runs.run_site(site.site, tmp_path / folder, tmp_path / f"out-{folder}", site.window)
        for path in (tmp_path / "out-dump" / key).iterdir():
            assert (tmp_path / "out-record" / key / path.name).read_bytes() == path.read_bytes()

    def test_the_order_of_rows_changes_no_byte(self, tmp_path):
        def state(site, now):
            leased(site, 1, 9, ("b-h1", "b-h2") if now < 5 else ("b-h2",))
            if now < 7:
                site.host("h3")
                site.instance("I", "h1", 2, None, lease="L")

        site = Recorded(state)
        for name, seed in (("one", None), ("other", 3)):
            site.write(tmp_path / name, shuffle=seed)
            runs.run_site(site.site, tmp_path / name, tmp_path / f"out-{name}", site.window)
        paths = list((tmp_path / "out-one" / "chi_tacc").iterdir())
        assert paths
        for path in paths:
            assert (
                tmp_path / "out-other" / "chi_tacc" / path.name
            ).read_bytes() == path.read_bytes()

    def test_the_hierarchy_holds(self):
        def state(site, now):
            leased(site, 1, 9, ("b-h1", "b-h2") if now < 5 else ("b-h2",))
            if now < 7:
                site.instance("I", "h1", 2, None, lease="L")
            if now < 3:
                site.host("h3")

        site = Recorded(state)
        chain = ["total", "reservable", "committed", "occupied_reservation", "active_reservation"]
        for parent, child in pairwise(chain):
            values = zip(site.corrected(parent), site.corrected(child), strict=True)
            assert all(p >= c for p, c in values), (parent, child)


class TestFlagsOfStatus:
    """When a flag was set and taken away again, as dated snapshots tell of Ironic and Nova."""

    @staticmethod
    def told(site: TinySite, *causes: str) -> list[list[float | None]]:
        names = ["reservable_usable", *(f"out_of_use_{cause}" for cause in causes)]
        return [site.corrected(name) for name in names]

    def test_ironics_updated_at_dates_a_flag(self):
        def state(site, now):
            site.host("h1")
            flagged = 5 < now < 8
            changed = 1 if now < 5 else 5 if flagged else 7
            site.ironic("h1", changed, maintenance=int(flagged))

        usable, planned = self.told(Recorded(state), "planned")
        assert usable == [None, *on((1, 5), (7, 10))[1:]]
        assert planned == [None, *on((5, 7))[1:]]

    def test_a_services_heartbeat_dates_no_flag_so_the_middle_does(self):
        def state(site, now):
            site.host("k1", hypervisor_type="QEMU")
            site.service("k1", now, disabled=int(5 < now < 7))

        site = Recorded(state, "kvm_tacc")
        usable, disabled = self.told(site, "disabled")
        assert usable == [None, None, *on((2, 5), (7, 10))[2:]]
        assert disabled == [None, None, *on((5, 7))[2:]]
        assert site.corrected("reservable_unusable") == disabled

    def test_a_node_that_ironic_deleted_tells_nothing_after(self):
        def state(site, now):
            site.host("h1")
            site.ironic("another")
            if now < 7:
                site.ironic("h1", 1, maintenance=1)

        usable, planned = self.told(Recorded(state), "planned")
        assert usable == [None, *[0] * 6, None, None, None]
        assert planned == [None, *[1] * 6, None, None, None]

    def test_blazars_flag_is_told_while_it_is_set(self):
        def state(site, now):
            site.hypervisor("h1", 0)
            site.ironic("h1")
            off = 5 < now < 8
            changed = None if now < 5 else 5 if off else 7
            flags = {"reservable": int(not off), "disabled": int(off), "updated_at": changed}
            site.pool_host("h1", 0, **flags)

        site = Recorded(state)
        usable, disabled = self.told(site, "disabled")
        assert usable == site.corrected("reservable") == on((0, 5), (7, 10))
        assert disabled == on((5, 7))
