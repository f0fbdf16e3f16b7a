"""Usable or not: what each source's flags say of a host, since when, and what stays unknown."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import duckdb
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chameleon_usage.io.check import check_site
from chameleon_usage.models.metrics import CAUSES
from chameleon_usage.models.stages import StatusIntervals
from chameleon_usage.stages import FactsStage, save_usage
from support.sites import DAYS, TinySite, day, full_site, lively_kvm_site, lively_site, on

USABLE, UNUSABLE = "reservable_usable", "reservable_unusable"
CAUSE = {cause: f"out_of_use_{cause}" for cause in (*CAUSES, "unexplained")}
NEVER = [None] * DAYS
OF_HOSTS = ("nova_hosts", "blazar_hosts", "maintenance", "status")
"""The adapters that tell of hosts and not of what holds them."""


def known(value: float, since: int = 0) -> list[float | None]:
    """The same value from a day on, unknown before."""
    return [None] * since + [value] * (DAYS - since)


def bare_metal(**row) -> TinySite:
    """A site of one node, enrolled for the whole window, of which Ironic tells."""
    site = TinySite(adapters=OF_HOSTS)
    site.host("h1")
    site.ironic("h1", **row)
    return site


def kvm(**row) -> TinySite:
    """A site of one KVM host in the pool, of which its compute service tells."""
    site = TinySite("kvm_tacc", adapters=OF_HOSTS)
    site.hypervisor("k1.full.name", 0, host="k1", hypervisor_type="QEMU")
    site.pool_host("k1.full.name", 0, hypervisor_type="QEMU")
    site.service("k1", **row)
    return site


class TestIronic:
    def test_a_node_on_offer_that_was_never_changed_was_usable_from_the_beginning(self):
        site = bare_metal()
        assert site.corrected(USABLE) == known(1)
        assert site.corrected(UNUSABLE) == known(0)
        assert all(site.corrected(name) == known(0) for name in CAUSE.values())

    def test_what_a_row_said_before_it_was_last_changed_is_unknown(self):
        site = bare_metal(updated=4)
        assert site.corrected(USABLE) == known(1, since=4)
        assert site.corrected(UNUSABLE) == known(0, since=4)
        assert site.corrected("reservable") == known(1)

    def test_a_flag_tells_its_cause(self):
        causes = [
            ({"maintenance": 1}, "planned"),
            ({"maintenance": 1, "fault": "power failure"}, "broken"),
            ({"maintenance": 1, "retired": 1}, "planned"),
            ({"power_state": "error"}, "broken"),
            ({"provision_state": "clean failed"}, "broken"),
            ({"provision_state": "error", "maintenance": 1}, "broken"),
            ({"retired": 1}, "disabled"),
            ({"provision_state": "manageable"}, "disabled"),
        ]
        site = TinySite(adapters=OF_HOSTS)
        for number, (row, _) in enumerate(causes):
            site.host(f"h{number}")
            site.ironic(f"h{number}", 4, **row)
        assert site.corrected(UNUSABLE) == known(len(causes), since=4)
        assert site.corrected(USABLE) == known(0, since=4)
        for name, count_type in CAUSE.items():
            told = sum(cause == name for _, cause in causes)
            assert site.corrected(count_type) == known(told, since=4)
            for number, (row, cause) in enumerate(causes):
                expected = on((4, 10)) if cause == name else []
                assert site.corrected(count_type, host=f"h{number}") == expected, (row, name)

    def test_a_node_at_work_is_no_node_out_of_use(self):
        states = ["active", "cleaning", "clean wait", "deploying", "rescue"]
        site = TinySite(adapters=OF_HOSTS)
        for state in states:
            site.host(state)
            site.ironic(state, 4, provision_state=state)
        assert site.corrected(USABLE) == known(len(states), since=4)
        for state in states:
            assert site.corrected(USABLE, host=state) == on((4, 10)), state

    def test_the_provision_state_has_a_date_of_its_own(self):
        site = bare_metal(updated=6, provision_state="clean failed", provision_updated_at=3)
        assert site.corrected(UNUSABLE) == known(1, since=3)
        assert bare_metal(updated=6, provision_updated_at=3).corrected(USABLE) == known(1, since=6)

    def test_a_flag_without_any_date_is_known_for_the_moment_of_the_dump_only(self):
        site = bare_metal(maintenance=1)
        assert site.corrected(UNUSABLE) == site.corrected(USABLE) == NEVER
        assert site.corrected("maintenance") == known(0)

    def test_a_held_node_can_be_out_of_use_and_the_partition_does_not_change(self):
        site = TinySite()
        site.host("h1")
        site.ironic("h1", 2, maintenance=1)
        site.lease("L", 1, 5)
        assert site.corrected(UNUSABLE) == known(1, since=2)
        assert site.corrected("committed") == on((1, 5))
        assert site.corrected("available") == on((0, 1), (5, 10))
        assert site.corrected("maintenance") == known(0)


class TestNova:
    @pytest.mark.parametrize("flag", ["disabled", "forced_down"])
    def test_of_a_live_service_a_dump_knows_todays_flag_and_no_more(self, flag):
        for value in (0, 1):
            site = kvm(**{flag: value})
            assert site.corrected(USABLE) == site.corrected(UNUSABLE) == NEVER

    @pytest.mark.parametrize(
        ("flag", "cause"), [("disabled", "disabled"), ("forced_down", "broken")]
    )
    def test_a_row_that_nothing_has_touched_since_stands(self, flag, cause):
        site = kvm(heartbeat=6, **{flag: 1})
        assert site.corrected(UNUSABLE) == known(1, since=6)
        assert site.corrected(CAUSE[cause]) == known(1, since=6)

    def test_capacity_outside_the_pool_is_out_of_use_too(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, hypervisor_type="QEMU")
        site.service("k1", 6, disabled=1)
        assert site.corrected(CAUSE["disabled"]) == known(1, since=6)
        assert site.corrected("ondemand_capacity") == known(1)
        assert site.corrected(UNUSABLE) == known(0)

    def test_a_service_without_a_heartbeat_tells_nothing(self):
        assert kvm(heartbeat=None).corrected(USABLE) == NEVER

    def test_a_release_without_the_flag_tells_nothing(self):
        site = kvm(heartbeat=6, disabled=None, forced_down=None)
        assert site.corrected(USABLE) == []

    def test_a_service_disabled_takes_all_its_ironic_nodes_and_enabled_tells_nothing(self):
        site = TinySite(adapters=OF_HOSTS)
        for name, service in (("h1", "a"), ("h2", "a"), ("h3", "b")):
            site.hypervisor(name, 0, host=service)
            site.pool_host(name, 0)
        site.service("a", 4, disabled=1)
        site.service("b", 4)
        site.ironic("h3", 4)
        assert site.corrected(UNUSABLE) == known(2, since=4)
        site = TinySite(adapters=OF_HOSTS)
        site.host("h1")
        site.service("h1", 4)
        assert site.corrected(USABLE) == []


class TestBlazar:
    def test_it_tells_why_a_host_left_the_pool(self):
        site = TinySite(adapters=OF_HOSTS)
        for name in ("h1", "h2", "h3"):
            site.hypervisor(name, 0)
            site.ironic(name)
        site.pool_host("h1", 0)
        site.pool_host("h2", 0, reservable=0, disabled=1, updated_at=6)
        site.pool_host("h3", 0, reservable=0, updated_at=8)
        assert site.corrected(CAUSE["disabled"]) == on((6, 10))
        assert site.corrected(CAUSE["unexplained"]) == on((8, 10))
        assert site.corrected("maintenance") == [*on((6, 8))[:8], 2, 2]
        assert site.corrected(UNUSABLE) == known(0)

    def test_what_an_operator_wrote_into_status(self):
        causes = {"maintenance": "planned", "DOWN": "broken", "disabled": "disabled"}
        site = TinySite(adapters=OF_HOSTS)
        for text in causes:
            site.host(text, status=text, updated_at=6)
            site.ironic(text)
        for text, cause in causes.items():
            assert site.corrected(CAUSE[cause]) == on((6, 10))
            assert site.corrected(CAUSE[cause], host=text) == on((6, 10))

    def test_alone_it_cannot_say_that_a_host_in_its_pool_is_usable(self):
        site = TinySite(adapters=OF_HOSTS)
        site.host("h1", disabled=0, updated_at=2)
        assert site.corrected(USABLE) == []
        assert site.corrected(CAUSE["planned"]) == []


class TestSourcesTogether:
    def test_of_several_causes_the_first_counts(self):
        site = bare_metal(updated=6, maintenance=1, fault="clean failure")
        site.tables["blazar.computehosts"][-1] |= {"disabled": 1, "updated_at": 2}
        site.add(
            "chameleon_usage.node_maintenance", hypervisor_hostname="h1", start_time=4, end_time=8
        )
        assert site.corrected(CAUSE["disabled"]) == [None] * 2 + on((2, 4))[2:]
        assert site.corrected(CAUSE["planned"]) == [None] * 2 + on((4, 6))[2:]
        assert site.corrected(CAUSE["broken"]) == [None] * 2 + on((6, 10))[2:]
        assert site.corrected(UNUSABLE) == known(1, since=2)

    def test_windows_alone_tell_of_no_host_that_it_could_be_used(self):
        site = TinySite(adapters=OF_HOSTS)
        site.host("h1")
        site.add(
            "chameleon_usage.node_maintenance", hypervisor_hostname="h1", start_time=4, end_time=8
        )
        assert site.corrected(UNUSABLE) == []
        assert site.corrected("maintenance") == on((4, 8))

    def test_one_host_of_twenty_may_be_silent_and_of_nineteen_not(self):
        for hosts, usable in ((20, known(20)), (19, NEVER)):
            site = TinySite(adapters=OF_HOSTS)
            for number in range(hosts):
                site.host(f"n{number}")
                if number:
                    site.ironic(f"n{number}")
            assert site.corrected(USABLE) == usable
            assert site.corrected(USABLE, host="n1") == known(1)
            assert site.corrected(USABLE, host="n0") == []

    def test_types_and_resources_are_split_alike(self):
        site = TinySite(adapters=OF_HOSTS)
        for name, kind, flag in (("h1", "cpu", 0), ("h2", "gpu", 1)):
            site.host(name, node_type=kind, gpus=4 * flag)
            site.ironic(name, 5, maintenance=flag)
        assert site.corrected(USABLE, node_type="cpu") == on((5, 10))
        assert site.corrected(UNUSABLE, node_type="gpu") == on((5, 10))
        assert site.corrected(UNUSABLE, node_type="cpu") == []
        assert site.corrected(UNUSABLE, resource="gpus") == known(4, since=5)
        assert site.corrected(USABLE, resource="memory_mb") == known(1000, since=5)

    def test_other_collectors_and_sites_of_devices_do_not_tell_it(self):
        site = full_site()
        assert site.uncorrected(USABLE) == []
        assert site.corrected(USABLE) != []
        edge = TinySite("chi_edge")
        edge.device("pi", 0)
        assert edge.corrected(USABLE) == []

    def test_coverage_tells_which_source_speaks_of_how_much_of_the_pool(self):
        site = bare_metal(updated=4)
        site.host("h2")
        rows = site.outputs["coverage"].filter(pl.col("quantity_type") == USABLE)
        assert rows["source"].unique().to_list() == ["ironic.nodes"]
        assert rows.sort("timestamp")["known_share"].to_list() == [0.0] * 4 + [0.5] * 6


def test_no_other_count_type_moves():
    for make in (lively_site, lively_kvm_site):
        plain, told = make(), make()
        for host in ("h1", "h3", "h5"):
            told.ironic(host, 3, maintenance=1)
        for host in ("k1", "k3"):
            told.service(host, 3, disabled=1)
        plain.add("nova.services", host="none", binary="nova-conductor", created_at=0)
        frames = [
            site.outputs["usage_timeline"].filter(
                ~pl.col("count_type").is_in([USABLE, UNUSABLE, *CAUSE.values()])
            )
            for site in (plain, told)
        ]
        total = pl.col("count_type") == "total"  # a service is a source of total on KVM
        assert frames[0].filter(~total).equals(frames[1].filter(~total))
        assert told.corrected(USABLE)


# --- the laws, whatever the sources say -----------------------------------------------------------

HOSTS = ("h1", "h2", "h3")
SPANS = st.tuples(st.integers(0, DAYS - 1), st.integers(1, DAYS)).map(
    lambda span: (span[0], min(span[0] + span[1], DAYS))
)
SAID = st.lists(st.tuples(st.sampled_from(HOSTS), SPANS, st.sampled_from([None, *CAUSES])))


@cache
def before_status() -> FactsStage:
    """Three hosts, the second in the pool for a while and the third never."""
    site = TinySite()
    for host in HOSTS:
        site.hypervisor(host, 0)
    site.pool_host("h1", 0)
    site.pool_host("h2", 2, 7)
    site.lease("L", 3, 6, ["b-h1"])
    site.ironic("elsewhere")
    return site.facts


def with_status(said) -> TinySite:
    """Those hosts, and what is said of them."""
    site, facts = TinySite(), before_status()
    rows = [(host, day(a), day(b), cause, "ironic.nodes") for host, (a, b), cause in said]
    status = pl.DataFrame(rows, StatusIntervals.create_empty().schema, orient="row")
    site.facts = FactsStage(replace(facts.ingested, status=status), facts.as_of)
    return site


ORACLE = """
    WITH days AS (SELECT unnest(range(10)) AS d),
    hosts AS (SELECT unnest(['h1', 'h2', 'h3']) AS host),
    moments AS (
        SELECT hosts.host, d,
            hosts.host = 'h1' OR (hosts.host = 'h2' AND d BETWEEN 2 AND 6) AS pool,
            hosts.host = 'h2' AND d >= 7 AS left_pool,
            count(told.host) > 0 AS known,
            CASE WHEN bool_or(cause = 'broken') THEN 'broken'
                WHEN bool_or(cause = 'planned') THEN 'planned'
                WHEN bool_or(cause = 'disabled') THEN 'disabled' END AS why
        FROM hosts CROSS JOIN days LEFT JOIN told
            ON told.host = hosts.host AND d >= first_day AND d < last_day
        GROUP BY ALL
    )
    SELECT
        CASE WHEN count_if(pool AND known) >= 0.95 * count_if(pool)
            THEN count_if(pool AND why IS NULL) END AS reservable_usable,
        CASE WHEN count_if(pool AND known) >= 0.95 * count_if(pool)
            THEN count_if(pool AND why IS NOT NULL) END AS reservable_unusable,
        CASE WHEN bool_and(known) THEN count(*) FILTER (why = 'broken') END AS out_of_use_broken,
        CASE WHEN bool_and(known) THEN count(*) FILTER (why = 'planned') END AS out_of_use_planned,
        CASE WHEN bool_and(known)
            THEN count(*) FILTER (why = 'disabled') END AS out_of_use_disabled,
        CASE WHEN bool_and(known)
            THEN count_if(left_pool AND why IS NULL) END AS out_of_use_unexplained
    FROM moments GROUP BY d ORDER BY d
"""


@pytest.mark.parametrize("most", [8, pytest.param(25, marks=pytest.mark.slow)])
def test_the_pool_and_the_causes_are_as_a_database_counts_them(most):
    @settings(max_examples=most, deadline=None)
    @given(SAID)
    @example([(host, (0, 1), None) for host in HOSTS])
    def hold(said):
        site = with_status(said)
        with duckdb.connect() as database:
            database.execute(
                "CREATE TABLE told (host TEXT, first_day INT, last_day INT, cause TEXT)"
            )
            for host, (start, end), cause in said:
                database.execute("INSERT INTO told VALUES (?, ?, ?, ?)", [host, start, end, cause])
            answer = database.execute(ORACLE)
            names, days = [column[0] for column in answer.description], answer.fetchall()
        for count_type, expected in zip(names, zip(*days, strict=True), strict=True):
            assert site.corrected(count_type) == list(expected), count_type
        assert site.corrected("maintenance") == on((7, 10))
        assert site.corrected("available") == [1, 1, 2, 1, 1, 1, 2, 1, 1, 1]

    hold()


def test_check_holds_the_two_parts_to_the_pool(tmp_path):
    site = bare_metal(updated=4, maintenance=1)
    folder = tmp_path / site.site.key
    save_usage(folder, site.outputs.items())
    assert check_site(folder, site.site) == []
    usable = pl.col("count_type") == USABLE
    for name in ("usage_timeline", "usage_by_resource"):
        table = site.outputs[name].with_columns(
            pl.when(usable).then(pl.col("value") + 0.5).otherwise("value").alias("value")
        )
        table.write_parquet(folder / f"{name}.parquet")
    problems = check_site(folder, site.site)
    assert any("reservable_usable is not its formula in 6 buckets" in one for one in problems)
