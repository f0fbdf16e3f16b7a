"""Blazar's own tables, of two releases, against what is true of them.

Upstream Blazar deletes for good: the hosts of a lease that ended, all of a lease that was deleted,
a host that was removed. What it no longer tells is unknown, null, and never none.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from services import blazar_make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY0 = datetime(2024, 1, 1)  # noqa: DTZ001 - naive UTC, as the services keep it
DAYS = 60
AS_OF = DAY0 + timedelta(days=DAYS)
WINDOW = ("--start", "2024-01-01", "--end", "2024-03-01")
BLAZAR = ["blazar_hosts", "blazar_allocations", "blazar_leases"]
NOVA = ["nova_hosts", "nova_instances"]
ALL_LEFT = 52
"""From this day on all hosts and leases are there when the tables are read."""


@pytest.fixture(params=blazar_make.RELEASES)
def release(request) -> str:
    return request.param


@pytest.fixture(params=blazar_make.SITES)
def site(request) -> str:
    return request.param


CHAMELEON = pytest.mark.parametrize(("release", "site"), [("chameleon-2023.1", "baremetal")])
"""Chameleon's Blazar, which keeps what it deletes."""


@pytest.fixture
def fixture(release, site) -> Path:
    return blazar_make.HERE / "fixture" / release / site


@pytest.fixture
def outputs(fixture, release, site, usage, once) -> Callable[[list[str]], Path]:
    """Give the folder of what `run` makes of a site with these adapters."""

    def of(adapters: list[str]) -> Path:
        def make(place: Path) -> None:
            tables = place / "data" / site
            tables.mkdir(parents=True)
            for path in fixture.glob("*.*.parquet"):
                shutil.copy(path, tables)
            (tables / "manifest.json").write_text(json.dumps({"as_of": AS_OF.isoformat()}))
            sites = place / "sites.yaml"
            sites.write_text(f"{site}: {{name: {site}, adapters: [{', '.join(adapters)}]}}\n")
            given = ("--config", sites, "--data-dir", place / "data", "--output", place / "out")
            said = usage("run", *given, "--site", site, *WINDOW)
            assert said.status == 0, said.err

        return once(f"blazar-{release}-{site}-{len(adapters)}", make) / "out" / site

    return of


@pytest.fixture
def told(outputs) -> Callable[[list[str], str], list[float | None]]:
    """Give the daily means of a count type, as these adapters have it."""

    def of(adapters: list[str], count_type: str) -> list[float | None]:
        return (
            pl.read_parquet(outputs(adapters) / "usage_timeline.parquet")
            .filter(pl.col("collector_type") == "corrected", pl.col("count_type") == count_type)
            .sort("timestamp")["value"]
            .to_list()
        )

    return of


@pytest.fixture
def truth(fixture) -> pl.DataFrame:
    return pl.read_parquet(fixture / "blazar_truth.parquet")


@pytest.fixture
def truth_left(truth, release, site) -> pl.DataFrame:
    """What is true of the hosts and leases of which Blazar still has rows."""
    known = json.loads(blazar_make.reservations(release, site).read_text())
    deleted = [one["reservation_id"] for one in known if one["deleted_day"] is not None]
    at_the_end = truth.filter(
        pl.col("end") == AS_OF, pl.col("kind").is_in(["reservable", "outage"])
    )
    last = (
        truth.filter(kind="reservable").group_by("hypervisor_hostname").agg(pl.col("start").max())
    )
    there = last.join(at_the_end, on="hypervisor_hostname", how="semi")
    return pl.concat(
        [
            truth.filter(kind="reservable").join(there, on=["hypervisor_hostname", "start"]),
            truth.filter(~pl.col("entity").is_in(deleted), kind="committed"),
        ]
    )


def daily(truth: pl.DataFrame, size: dict[str, int], kind: str) -> list[float]:
    """Give the true daily means of a count type: shares of hosts, at most 1 of each."""
    sums = [0.0] * DAYS
    midnights = [DAY0 + timedelta(days=day) for day in range(DAYS + 1)]
    mine = truth.filter(kind=kind).partition_by("hypervisor_hostname", as_dict=True)
    for (host,), held in mine.items():
        spans = held.select("start", "end", "vcpus").rows()
        cuts = sorted({*midnights, *(cut for start, end, _ in spans for cut in (start, end))})
        for begin, finish in pairwise(cuts):
            vcpus = sum(share for start, end, share in spans if start <= begin < end)
            share = min(1, vcpus / size[host])
            sums[(begin - DAY0).days] += share * ((finish - begin) / timedelta(days=1))
    return sums


def sizes(truth: pl.DataFrame) -> dict[str, int]:
    return dict(truth.filter(kind="reservable").select("hypervisor_hostname", "vcpus").iter_rows())


def error(told: list[float | None], true: list[float]) -> float:
    """Give the mean absolute error over the days of which something is told, as a share."""
    known = [(ours, real) for ours, real in zip(told, true, strict=True) if ours is not None]
    return sum(abs(ours - real) for ours, real in known) / sum(real for _, real in known)


def said_to_be_none(told: list[float | None], true: list[float]) -> list[int]:
    """List the days that are told to be 0 and are not."""
    both = zip(told, true, strict=True)
    return [day for day, (ours, real) in enumerate(both) if ours == 0 and real > 0]


MOST = {"reservable": 0.003, "committed": 0.005}
"""The largest mean error of days of which something is told."""


@pytest.mark.parametrize("quantity", MOST)
class TestBlazarAlone:
    """Without Nova, nothing tells of a lease that was deleted, or of a host that was removed."""

    def test_what_is_told_of_the_rest_is_true(self, told, truth, truth_left, quantity):
        true = daily(truth_left, sizes(truth), quantity)
        assert error(told(BLAZAR, quantity), true) <= MOST[quantity]

    def test_what_is_gone_is_unknown_and_not_none(self, told, truth, truth_left, quantity):
        true = daily(truth_left, sizes(truth), quantity)
        assert said_to_be_none(told(BLAZAR, quantity), true) == []

    def test_what_is_left_is_told(self, told, quantity):
        assert None not in told(BLAZAR, quantity)[ALL_LEFT:]


@pytest.mark.parametrize("quantity", MOST)
class TestBesideNova:
    """Nova's hosts and instances tell that there was more than Blazar still has rows of."""

    @pytest.fixture(autouse=True)
    def nova(self, fixture) -> None:
        if not (fixture / "nova_cell1.compute_nodes.parquet").exists():
            pytest.skip("Nova's tables of the same days are not here")

    def test_what_is_told_is_true(self, told, truth, quantity):
        true = daily(truth, sizes(truth), quantity)
        assert error(told(NOVA + BLAZAR, quantity), true) <= MOST[quantity]

    def test_what_is_gone_is_unknown_and_not_none(self, told, truth, quantity):
        true = daily(truth, sizes(truth), quantity)
        assert said_to_be_none(told(NOVA + BLAZAR, quantity), true) == []

    def test_what_is_left_is_told(self, told, quantity):
        assert None not in told(NOVA + BLAZAR, quantity)[ALL_LEFT:]


@CHAMELEON
@pytest.mark.parametrize("quantity", MOST)
class TestChameleon:
    """Nothing is lost but which of a lease's hosts were given back before it was deleted."""

    def test_what_is_told_is_true(self, told, truth, quantity):
        assert error(told(BLAZAR, quantity), daily(truth, sizes(truth), quantity)) <= MOST[quantity]

    def test_nothing_is_said_to_be_none_that_was(self, told, truth, quantity):
        true = daily(truth, sizes(truth), quantity)
        assert said_to_be_none(told(BLAZAR, quantity), true) == []

    def test_what_is_kept_is_told(self, told, quantity):
        assert sum(value is None for value in told(BLAZAR, quantity)) <= 3


@pytest.fixture
def leases(release, site) -> dict[str, dict[str, float | None]]:
    """What is true of every lease, by lease."""
    known = json.loads(blazar_make.reservations(release, site).read_text())
    return {one["lease_id"]: one for one in known}


@pytest.fixture
def lead(outputs) -> dict[str, dict[str, float | None]]:
    """Lead times by Blazar's word alone, by lease."""
    rows = pl.read_parquet(outputs(BLAZAR) / "leadtime_leases.parquet")
    return {row["lease_id"]: row for row in rows.iter_rows(named=True)}


def requested(lease: dict[str, float | None]) -> float:
    return (lease["requested_day"] - lease["created_day"]) * 24


def effective(lease: dict[str, float | None]) -> float | None:
    if lease["started_day"] is None:
        return None
    return (lease["started_day"] - lease["created_day"]) * 24


class TestLeadTimes:
    def test_of_every_lease_that_is_left(self, lead, leases):
        left = {key for key, one in leases.items() if one["deleted_day"] is None}
        assert lead.keys() == left

    def test_requested(self, lead, leases):
        for key, row in lead.items():
            assert row["requested_h"] == pytest.approx(requested(leases[key]), abs=1e-3)

    def test_effective_is_the_done_start(self, lead, leases):
        for key, row in lead.items():
            wanted = effective(leases[key])
            assert row["effective_h"] == pytest.approx(wanted, abs=1e-3), leases[key]["lease"]


@CHAMELEON
class TestLeadTimesOfChameleon:
    def test_of_every_lease(self, lead, leases):
        assert lead.keys() == leases.keys()

    def test_requested(self, lead, leases):
        for key, row in lead.items():
            assert row["requested_h"] == pytest.approx(requested(leases[key]), abs=1e-3)

    def test_effective_is_the_start_and_not_a_later_deletion(self, lead, leases):
        # The manager looks for what is due every ten seconds.
        for key, row in lead.items():
            wanted = effective(leases[key])
            assert row["effective_h"] == pytest.approx(wanted, abs=11 / 3600), leases[key]["lease"]


@pytest.mark.slow
def test_blazar_writes_the_same_today(fixture, release, site, mariadb, tmp_path):
    folder, known = blazar_make.make(mariadb, release, site, tmp_path)
    names = {path.name for path in folder.glob("blazar*.parquet")}
    assert names == {path.name for path in fixture.glob("blazar*.parquet")}
    for name in names:
        assert_frame_equal(
            pl.read_parquet(folder / name), pl.read_parquet(fixture / name), check_row_order=False
        )
    kept = json.loads(blazar_make.reservations(release, site).read_text())
    assert json.loads(json.dumps(known)) == kept
