"""Whole little sites, held to a plain-Python reading of the design, instant by instant."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, note, settings

from chameleon_usage.core import pipeline
from chameleon_usage.io import audit
from little_sites import little_sites
from reference import Reference
from sites import DAY0, DAYS, TinySite, lively_edge_site, lively_kvm_site, lively_site

if TYPE_CHECKING:
    from collections.abc import Callable

Steps = dict[tuple[str, str, str], list[tuple[int, int, Fraction]]]

PARTS = {
    "maintenance": ("maintenance_out_of_pool", "maintenance_in_pool", "maintenance_ondemand"),
    "unknown": ("unknown",),
    "ondemand_capacity": ("ondemand_capacity",),
}


def steps_of(site: TinySite) -> Steps:
    """Give the pipeline's segments by collector, quantity and host, in seconds and nodes."""
    steps: Steps = defaultdict(list)
    for row in site.stage.segments.iter_rows(named=True):
        start, end = ((row[name] - DAY0).total_seconds() for name in ("start", "end"))
        steps[row["collector_type"], row["quantity_type"], row["hostname"]].append(
            (int(start), int(end), Fraction(row["node_units"], row["node_size"]))
        )
    return steps


def value(steps: Steps, collector: str, quantity: str, host: str, t: int) -> Fraction:
    """Add up what holds at an instant."""
    return sum(
        (n for start, end, n in steps[collector, quantity, host] if start <= t < end), Fraction(0)
    )


def readings(steps: Steps, host: str, t: int) -> dict[str, Fraction]:
    """Give every count type of the corrected collector for one host and instant."""

    def told(quantity: str) -> Fraction:
        return value(steps, "corrected", quantity, host, t)

    found = {
        name: told(name)
        for name in (
            "total",
            "reservable",
            "committed",
            "occupied_reservation",
            "occupied_ondemand",
            "active_reservation",
            "active_ondemand",
        )
    }
    found |= {name: sum(map(told, parts), Fraction(0)) for name, parts in PARTS.items()}
    in_pool = told("occupied_ondemand_in_pool")
    found["available"] = (
        found["reservable"] - found["committed"] - told("maintenance_in_pool") - in_pool
    )
    found["available_ondemand"] = (
        found["ondemand_capacity"]
        - (found["occupied_ondemand"] - in_pool)
        - told("maintenance_ondemand")
    )
    found["idle"] = found["committed"] - found["occupied_reservation"]
    found["stopped"] = (
        found["occupied_reservation"]
        + found["occupied_ondemand"]
        - found["active_reservation"]
        - found["active_ondemand"]
    )
    return found


def assert_lawful(found: dict[str, Fraction], where: object) -> None:
    """Hold one host and instant to the hierarchy and to the partition."""
    assert min(found.values()) >= 0, (where, found)
    chain = ("total", "reservable", "committed", "occupied_reservation", "active_reservation")
    for parent, child in itertools.pairwise(chain):
        assert found[parent] >= found[child], (where, parent, child, found)
    assert found["occupied_ondemand"] >= found["active_ondemand"], (where, found)
    parts = ("maintenance", "available", "idle", "stopped", "available_ondemand", "unknown")
    active = found["active_reservation"] + found["active_ondemand"]
    assert sum(found[name] for name in parts) + active == found["total"], (where, found)


def assert_as_designed(site: TinySite) -> None:
    """Compare both collectors with the reference, host by host and instant by instant."""
    plain = Reference(site)
    steps = steps_of(site)
    borders = plain.instants()
    hosts = {host for _, _, host in steps} | plain.hosts()
    assert None not in hosts
    for (collector, quantity, host), spans in steps.items():
        ends = {time for start, end, _ in spans for time in (start, end)}
        assert ends <= set(borders), (collector, quantity, host, ends - set(borders))
    for host in sorted(hosts):
        for t in borders[:-1]:
            where = (host, t / 86400)
            found = readings(steps, host, t)
            assert_lawful(found, where)
            assert found == plain.corrected(host, t), where
            told = plain.uncorrected(host, t)
            assert {name: value(steps, "uncorrected", name, host, t) for name in told} == told, (
                where
            )


@pytest.mark.parametrize("make", [lively_site, lively_kvm_site, lively_edge_site])
def test_a_lively_site_is_as_designed(make: Callable[[], TinySite]):
    assert_as_designed(make())


KEYS = ("chi_tacc", "kvm_tacc", "chi_edge")
QUICK = 5


def given_sites(key: str, examples: int) -> Callable[[Callable[[TinySite], None]], Any]:
    """Try a law on so many generated sites, the same ones in every run."""

    def decorate(law: Callable[[TinySite], None]) -> Any:
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(site=little_sites(key))
        def hold(site: TinySite) -> None:
            show(site)
            law(site)

        return hold

    return decorate


def show(site: TinySite) -> None:
    """Print what a failing site's tables hold."""
    note(f"as_of {site.as_of}")
    for name, rows in site.tables.items():
        for row in rows:
            if row.get("id") != 1000 and not str(row.get("id")).endswith("h0"):
                told = {key: value for key, value in row.items() if value is not None}
                note(f"{name}: {told}")


def assert_means_as_designed(site: TinySite) -> None:
    """Compare the daily means of every host with the reference's, count type by count type."""
    plain = Reference(site)
    borders = sorted({*plain.instants(), *(86400 * day for day in range(DAYS + 1))})
    known = [day for day in range(DAYS) if (day + 0.95) <= site.as_of]
    told = {
        (collector, count, host, (stamp.replace(tzinfo=None) - DAY0).days): value
        for collector, count, host, stamp, value in site.outputs["usage_by_host"]
        .select("collector_type", "count_type", "hypervisor_hostname", "timestamp", "value")
        .iter_rows()
    }
    for host in sorted(plain.hosts()):
        sums: dict[tuple[str, str, str, int], float] = defaultdict(float)
        for start, end in itertools.pairwise(borders):
            for count, n in plain.corrected(host, start).items():
                sums["corrected", count, host, start // 86400] += float(n) * (end - start) / 86400
        for key, expected in sums.items():
            if key[-1] in known:
                assert told.get(key, 0.0) == pytest.approx(expected, rel=1e-9, abs=1e-9), key


@pytest.mark.parametrize("key", KEYS)
class TestGenerated:
    def test_every_instant_is_as_designed(self, key):
        given_sites(key, QUICK)(assert_as_designed)()

    @pytest.mark.slow
    def test_every_instant_of_many_sites_is_as_designed(self, key):
        given_sites(key, 100)(assert_as_designed)()

    def test_daily_means_are_as_designed_and_pass_the_check(self, key, tmp_path):
        @given_sites(key, 2)
        def means(site: TinySite) -> None:
            assert_means_as_designed(site)
            pipeline.save_usage(tmp_path, site.outputs)
            assert audit.check_site(tmp_path, replace(site.site, known_gaps=())) == []

        means()

    def test_the_order_of_rows_changes_no_byte(self, key, tmp_path):
        @given_sites(key, 2)
        def same(site: TinySite) -> None:
            written = []
            for shuffle in (None, 1):
                raw, out = tmp_path / f"raw{shuffle}", tmp_path / f"out{shuffle}"
                site.write(raw, shuffle=shuffle)
                pipeline.run_pipeline(site.site, raw, out, site.window)
                written.append(
                    {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.parquet")}
                )
            assert written[0]
            assert written[0] == written[1]

        same()
