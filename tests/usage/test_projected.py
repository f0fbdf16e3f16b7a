"""Projected lead times: what was booked, when it was known, and how long a request would wait."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_usage.models.metrics import METRICS, SCHEDULE
from chameleon_usage.usage import projected as projected_module
from chameleon_usage.usage.buckets import Availability, Window
from chameleon_usage.usage.forecast import forecast
from chameleon_usage.usage.projected import (
    as_extended,
    leadtime_projected,
    waits_for,
    whole_hosts,
)
from support.audit import AuditedSite
from support.sites import DAY0, PROJECT, UPSTREAM, TinySite, day, lively

LEASES, ALLOCATIONS = "blazar.leases", "blazar.computehost_allocations"
BOOKED = ("nova_hosts", "blazar_hosts", "blazar_allocations", "blazar_leases")
"""The adapters that tell of hosts and leases."""


def site_of(hosts: int = 1, make: type[TinySite] = TinySite) -> TinySite:
    site = make(adapters=BOOKED)
    for number in range(hosts):
        site.host(f"h{number + 1}", node_type="compute")
    return site


def projected(site: TinySite, nodes: int = 1) -> list[float | None]:
    """Give the waits of the ten days in hours, of one type and a number of nodes."""
    rows = site.outputs["leadtime_projected"]
    rows = rows.filter((pl.col("nodes") == nodes) & (pl.col("node_type") == "compute"))
    return rows.sort("timestamp")["value"].to_list()


class TestWait:
    def test_until_the_lease_is_over_as_booked(self):
        site = site_of()
        site.lease("L", 1, 4)
        assert projected(site) == [0, 72, 48, 24, 0, 0, 0, 0, 0, 0]

    def test_a_lease_is_not_foreseen_before_it_is_made(self):
        site = site_of()
        site.lease("L", 1, 4, created_at=0.5)
        assert projected(site)[:2] == [0, 72]

    def test_a_lease_in_advance_leaves_room_before_it_for_a_whole_day_only(self):
        site = site_of()
        site.lease("L", 1.5, 3, created_at=-1)
        assert projected(site)[:3] == [0, 48, 24]

    @pytest.mark.parametrize(("start", "waits"), [(3, [0, 0, 0, 24]), (2.99, [0, 0, 48, 24])])
    def test_what_fits_to_the_second_fits(self, start, waits):
        site = site_of()
        site.lease("L", start, 4, created_at=-1)
        assert projected(site)[:4] == waits

    def test_a_lease_given_back_early_was_booked_to_its_end_until_then(self):
        site = site_of()
        site.lease("L", 1, 5, deleted_at=2.5)
        assert projected(site)[:5] == [0, 96, 72, 0, 0]

    def test_a_lease_cancelled_before_its_start_was_booked_until_then(self):
        site = site_of()
        site.lease("L", 2.9, 5, created_at=0, deleted_at=2.5)
        assert projected(site)[:5] == [0, 0, 72, 0, 0]

    def test_an_allocation_removed_from_a_lease_frees_its_host(self):
        site = site_of()
        site.lease("L", 1, 5, [])
        site.allocation("L", "b-h1", 1, 3.5)
        assert projected(site)[:5] == [0, 96, 72, 48, 0]

    def test_four_nodes_wait_for_the_fourth(self):
        site = site_of(5)
        for number in (1, 2, 3):
            site.lease(f"L{number}", 1, 1 + number, [f"b-h{number}"])
        assert projected(site, 1) == [0] * 10
        assert projected(site, 4)[:5] == [0, 48, 24, 0, 0]

    def test_nodes_must_be_free_together(self):
        site = site_of(4)
        site.lease("early", 0, 2, ["b-h1"])
        site.lease("late", 2.5, 4, ["b-h2"], created_at=0)
        assert projected(site, 4)[0] == 96

    def test_another_type_is_no_help(self):
        site = site_of()
        site.host("g1", node_type="gpu")
        site.lease("L", 0, 2)
        assert projected(site)[:3] == [48, 24, 0]

    def test_a_pool_with_too_few_nodes_has_no_row(self):
        assert projected(site_of(3), 4) == []
        assert projected(site_of(4), 4) == [0] * 10

    def test_a_host_counts_while_it_is_in_the_pool(self):
        site = TinySite()
        site.host("h1", 0, 5, node_type="compute")
        assert projected(site) == [0] * 5

    def test_kvm_hosts_which_are_given_in_slices_have_no_row(self):
        site = TinySite("kvm_tacc")
        site.host("k1", hypervisor_type="QEMU", node_type="compute")
        site.slices("L", 1, 3, ["b-k1"], vcpus=4)
        assert site.outputs["leadtime_projected"].is_empty()

    def test_devices_do(self):
        site = TinySite("chi_edge")
        site.device("d1", 0)
        site.lease("L", 1, 3, ["d-d1"], resource_type="device")
        rows = site.outputs["leadtime_projected"].filter(pl.col("nodes") == 1)
        assert rows["value"].to_list()[:4] == [0, 48, 24, 0]

    def test_where_ended_leases_are_deleted_for_good_nothing_is_known(self):
        site = site_of()
        site.without = UPSTREAM
        site.lease("L", 1, 9, node_type="compute")
        values = site.outputs["leadtime_projected"]["value"]
        assert values.len() == values.null_count() > 0


def test_coverage_tells_of_what_is_counted_and_not_of_bookings():
    told = set(site_of().outputs["coverage"]["quantity_type"])
    assert told <= set(METRICS)


class TestExtension:
    """A lease of nine days was made for seven at most, and its first ends are written over."""

    def test_what_was_known_of_its_end_is_unknown_until_no_other_end_is_left(self):
        site = site_of()
        site.lease("L", 0, 9)
        assert projected(site) == [None] * 7 + [48, 24, 0]

    def test_it_does_not_matter_where_another_node_is_free(self):
        site = site_of(5)
        site.lease("L", 0, 9)
        assert projected(site, 1) == projected(site, 4) == [0] * 10

    def test_a_lease_that_may_be_as_long_from_the_first_was_not_extended(self):
        site = site_of()
        site.lease("L", 0, 7)
        assert projected(site)[0] == 168

    def test_an_audit_table_tells_each_end_of_its_time(self):
        site = site_of(make=AuditedSite)
        site.lease("L", 0, 9)
        row = site.tables[LEASES][-1]
        site.audit(LEASES, "INSERT", 0, row | {"end_date": 3})
        site.audit(LEASES, "UPDATE", 1.5, row | {"end_date": 6})
        site.audit(LEASES, "UPDATE", 4.5, row)
        assert projected(site) == [72, 48, 96, 72, 48, 96, 72, 48, 24, 0]

    def test_bookings_in_periods_hold_the_host_as_long_as_the_lease_does(self):
        site = site_of()
        site.lease("L", 0, 25)
        schedule = site.stage.schedule.filter(pl.col("entity_id") == "L").clear()
        booked = site.stage.schedule.filter(pl.col("hostname") == "h1")
        parts = as_extended(booked, "7d").sort("known_from")
        assert schedule.columns == parts.columns
        assert parts["end"].to_list() == [day(7), day(14), day(21), day(25)]
        assert parts["known_from"].to_list() == [day(0), day(7), day(14), day(21)]
        assert parts["known_to"].to_list() == [day(7), day(14), day(21), None]


HOURS = st.integers(0, 96)
BOOKING = st.tuples(st.integers(0, 4), HOURS, st.integers(1, 60), st.integers(-48, 0))


def hour(number: int):
    return DAY0 + timedelta(hours=number)


@given(
    st.lists(BOOKING, max_size=12),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(1, 30),
)
def test_the_wait_is_the_first_hour_at_which_enough_nodes_are_free(bookings, kinds, nodes, length):
    """The oracle tries one hour after another, with every booking of every host."""
    schedule = pl.DataFrame(
        {
            "hostname": [f"h{host}" for host, *_ in bookings],
            "known_from": [hour(known) for *_, known in bookings],
            "known_to": [None] * len(bookings),
            "start": [hour(start) for _, start, *_ in bookings],
            "end": [hour(start + size) for _, start, size, _ in bookings],
        },
        schema={"hostname": pl.String}
        | dict.fromkeys(("known_from", "known_to", "start", "end"), pl.Datetime("us")),
    )
    hosts = {f"h{number}": kind for number, kind in enumerate(kinds)}
    pool = pl.DataFrame({"hostname": list(hosts), "node_type": list(hosts.values())}).with_columns(
        start=pl.lit(hour(-100), pl.Datetime("us")), end=pl.lit(hour(1000), pl.Datetime("us"))
    )
    moments = pl.Series([hour(0), hour(24)], dtype=pl.Datetime("us"))
    found = waits_for(schedule, pool, moments, [nodes], f"{length}h")
    expected = {}
    for number, now in enumerate((0, 24)):
        for kind in set(kinds):
            members = [name for name, other in hosts.items() if other == kind]
            if len(members) < nodes:
                continue
            spans = {name: [] for name in members}
            for host, start, size, _ in bookings:
                if f"h{host}" in spans and start + size > now:
                    spans[f"h{host}"].append((start, start + size))
            wait = 0
            while True:
                begin, end = now + wait, now + wait + length
                free = [all(e <= begin or s >= end for s, e in spans[name]) for name in members]
                if sum(free) >= nodes:
                    break
                wait += 1
            expected[number, kind] = float(wait)
    rows = found.select("moment", "node_type", "wait").rows()
    assert {(number, kind): wait for number, kind, wait in rows} == expected


@pytest.mark.parametrize("most", [1, 12, 40])
def test_days_are_looked_at_by_and_by_with_equal_results(most, monkeypatch):
    site = lively("chi_tacc")
    stage, pool = site.stage, whole_hosts(site.stage.segments)
    told = Availability(frozenset({SCHEDULE}), {}, stage.as_of.item())
    every = leadtime_projected(pool, stage.schedule, told, site.window, site.site)
    monkeypatch.setattr(projected_module, "MOST_ROWS", most)
    assert leadtime_projected(pool, stage.schedule, told, site.window, site.site).equals(every)
    assert every["value"].max() > 0
    empty = Window(day(4000), day(4001))
    assert leadtime_projected(pool, stage.schedule, told, empty, site.site).is_empty()


class TestTimeline:
    def test_each_day_has_the_median_of_the_types(self):
        site = site_of()
        site.host("g1", node_type="gpu")
        site.lease("L", 0, 2)
        rows = site.outputs["leadtime_timeline"].filter(pl.col("leadtime_type") == "projected")
        assert rows["timestamp"][0] == DAY0.replace(tzinfo=UTC)
        assert rows["value"].to_list()[:3] == [24, 12, 0]


class TestForecast:
    def test_tells_what_is_booked_and_what_is_free_when(self):
        site = site_of(2)
        site.lease("now", 9, 12, ["b-h1"])
        site.lease("soon", 11, 13, ["b-h2"], created_at=9)
        found = forecast(site.stage.segments, site.stage.schedule, day(10), nodes=[1, 2, 3])
        [compute] = found["node_types"]
        assert compute == {
            "node_type": "compute",
            "pool": 2,
            "free": {"1": "2020-01-11T00:00:00", "2": "2020-01-14T00:00:00", "3": None},
        }
        booked = [row["value"] for row in found["booked"]]
        assert booked == [1, 2, 1, *[0] * 25]
        assert found["booked"][1]["start"] == "2020-01-12T00:00:00"

    def test_the_command_says_so(self, usage, tmp_path):
        site = site_of(2)
        site.lease("now", 9, 12, ["b-h1"])
        site.write(tmp_path)
        place = ("--config", PROJECT / "data" / "sites.yaml", "--data-dir", tmp_path)
        call = ("forecast", *place, "--site", "chi_tacc", "--skip-missing", "--nodes", "2")
        said = usage(*call)
        assert said.status == 0, said.err
        lines = [line.split() for line in said.out.splitlines() if line.startswith("compute")]
        assert lines == [
            ["compute", "2", "2020-01-13", "00:00"],
            ["compute", "2", "0.3", "0.0", "0.0", "0.0"],
        ]
        found = json.loads(usage(*call, "--json").out)
        assert found["site"] == "chi_tacc"
        assert found["node_types"][0]["free"] == {"2": "2020-01-13T00:00:00"}
        store = fsspec.filesystem("memory")
        store.put(str(tmp_path / "chi_tacc"), "/sites/chi_tacc", recursive=True)
        stored = [arg if arg != tmp_path else "memory://sites" for arg in call]
        assert usage(*stored).out == said.out

    def test_a_site_without_tables_is_told_how_to_get_them(self, usage, tmp_path):
        said = usage("forecast", "--data-dir", tmp_path, "--site", "chi_tacc")
        assert said.status == 1
        assert "extract the tables" in said.err
