"""Whole little sites, held to a plain-Python reading of the design, instant by instant."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, note, settings

from chameleon_usage import runs, stages
from chameleon_usage.io import check
from support.little_sites import little_sites
from support.reference import Reference
from support.sites import DAY0, DAYS, TinySite, lively_edge_site, lively_kvm_site, lively_site

if TYPE_CHECKING:
    from collections.abc import Callable

from support.as_designed import assert_as_designed


@pytest.mark.parametrize("make", [lively_site, lively_kvm_site, lively_edge_site])
def test_a_lively_site_is_as_designed(make: Callable[[], TinySite]):
    assert_as_designed(make())


KEYS = ("chi_tacc", "kvm_tacc", "chi_edge")
QUICK = 3


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
            stages.save_usage(tmp_path, site.outputs.items())
            assert check.check_site(tmp_path, replace(site.site, known_gaps=())) == []

        means()

    def test_the_order_of_rows_changes_no_byte(self, key, tmp_path):
        @given_sites(key, 2)
        def same(site: TinySite) -> None:
            written = []
            for shuffle in (None, 1):
                raw, out = tmp_path / f"raw{shuffle}", tmp_path / f"out{shuffle}"
                site.write(raw, shuffle=shuffle)
                runs.run_site(site.site, raw, out, site.window)
                written.append(
                    {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.parquet")}
                )
            assert written[0]
            assert written[0] == written[1]

        same()
