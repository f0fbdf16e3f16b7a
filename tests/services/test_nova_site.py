"""Two sites that Nova's own services wrote: does the pipeline find what was true?

``fixture/<release>/<site>`` holds the tables and ``truth.parquet``, by ``nova_make.py``; Blazar's
tables of the same site, by ``blazar_make.py``, lie beside them. Whatever is wrong here is wrong
with real tables, too.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from chameleon_usage import runs
from chameleon_usage.models.site import DEFAULT_SOURCES, Site
from chameleon_usage.usage.buckets import Window
from services import nova_make
from services.blazar_make import OF_BLAZAR
from services.nova_make import OF_NOVA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

START, DAYS = datetime(2024, 1, 1), 60  # noqa: DTZ001
BARS = {
    "total": 0.003,
    "occupied_reservation": 0.005,
    "occupied_ondemand": 0.003,
    "active_reservation": 0.01,
    "active_ondemand": 0.01,
}
"""How far the daily values may be from the truth: sum of |value - truth| by sum of truth."""


@pytest.fixture(params=nova_make.MADE, ids="-".join)
def made(request) -> Path:
    """A site's folder."""
    return nova_make.FIXTURE.joinpath(*request.param)


def daily_truth(folder: Path, kinds: Iterable[str]) -> list[float]:
    """Nodes of each day, summed host by host over the times at which nothing changes.

    A whole node is held by whatever is on it, a share of a virtual one by its cores.
    """
    truth = pl.read_parquet(folder / "truth.parquet")
    total = truth.filter(kind="total")
    size = dict(total.select("hypervisor_hostname", "vcpus").rows())
    rows = truth.filter(pl.col("kind").is_in(list(kinds)))
    held = [0.0] * DAYS
    for (host,), of_host in rows.group_by("hypervisor_hostname"):
        spans = [
            ((start - START).total_seconds(), (end - START).total_seconds(), vcpus)
            for start, end, vcpus in of_host.select("start", "end", "vcpus").rows()
        ]
        midnights = {day * 86_400.0 for day in range(DAYS + 1)}
        changes = sorted(midnights.union(*((start, end) for start, end, _ in spans)))
        for since, until in itertools.pairwise(changes):
            cores = sum(vcpus for start, end, vcpus in spans if start <= since and until <= end)
            if cores and until <= DAYS * 86_400:
                held[int(since // 86_400)] += min(1, cores / size[host]) * (until - since) / 86_400
    return held


def found(folder: Path, scratch: Path, adapters: tuple[str, ...], *patterns: str) -> pl.DataFrame:
    """What the pipeline makes of some of the tables of a folder: day, count_type, value."""
    raw = scratch / "raw" / folder.name
    raw.mkdir(parents=True)
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        (raw / path.name).symlink_to(path)
    window = Window(START, START + timedelta(DAYS))
    site = Site(key=folder.name, name=folder.name, adapters=adapters, sources=DEFAULT_SOURCES)
    tables, _ = runs.run_site(site, scratch / "raw", scratch / "out", window)
    return tables["usage_timeline"].filter(collector_type="corrected").sort("timestamp")


def gone(folder: Path) -> list[bool]:
    """Days of machines whose reservation nobody can tell any more.

    Their request specs went with their archiving, and the leases' allocations with the leases' end:
    upstream Blazar deletes these for good.
    """
    if folder.parent.name.startswith("chameleon"):
        return [False] * DAYS
    specs = pl.read_parquet(folder / "nova_api.request_specs.parquet")
    archived = pl.concat(
        (pl.read_parquet(path) for path in folder.glob("nova_cell*.shadow_instances.parquet")),
        how="vertical_relaxed",
    )
    lost = archived.join(specs, left_on="uuid", right_on="instance_uuid", how="anti")
    return [
        lost.filter(
            pl.col("created_at") < START + timedelta(day + 1),
            pl.col("deleted_at") > START + timedelta(day),
        ).height
        > 0
        for day in range(DAYS)
    ]


def error(
    usage: pl.DataFrame, count_type: str, truth: list[float], unknown: Iterable[bool]
) -> float:
    """How far daily values are from the truth, as a share of it.

    Where a value is unknown and may be, it is not wrong; elsewhere it is as far as can be.
    """
    values = usage.filter(count_type=count_type)["value"].to_list()
    assert len(values) == DAYS, count_type
    days = [
        (value, real)
        for value, real, may_be in zip(values, truth, unknown, strict=True)
        if value is not None or not may_be
    ]
    far = sum(max(real, 1) if value is None else abs(value - real) for value, real in days)
    real = sum(real for _, real in days)
    return far / real if real else far


def errors(
    usage: pl.DataFrame, truth: Callable[[str], list[float]], unknown: Sequence[bool]
) -> dict[str, str]:
    """Give the count types that are farther from the truth than they may be, and how far."""
    nothing = [False] * DAYS
    far = {
        kind: error(usage, kind, truth(kind), unknown if "_" in kind else nothing) for kind in BARS
    }
    return {kind: f"{far[kind]:.2%}" for kind, bar in BARS.items() if far[kind] > bar}


def test_the_truth_is_found(made, tmp_path):
    usage = found(made, tmp_path, OF_NOVA + OF_BLAZAR, "nova*.parquet", "blazar.*.parquet")
    assert errors(usage, lambda kind: daily_truth(made, [kind]), gone(made)) == {}


def test_without_blazar_all_is_on_demand(made, tmp_path):
    usage = found(made, tmp_path, OF_NOVA, "nova*.parquet")

    def truth(kind: str) -> list[float]:
        name, _, where = kind.partition("_")
        kinds = {"reservation": [], "ondemand": [f"{name}_reservation", f"{name}_ondemand"]}
        return daily_truth(made, kinds.get(where, [kind]))

    assert errors(usage, truth, [False] * DAYS) == {}


def test_every_kind_of_operation_is_there(made):
    """The site is as lively as it is meant to be, so that a bar that is held says something."""
    truth = pl.read_parquet(made / "truth.parquet")
    assert set(truth["kind"]) >= {"total", "occupied_reservation", "active_reservation"}
    actions = pl.concat(
        [pl.read_parquet(path) for path in made.glob("nova_cell*.*instance_actions.parquet")],
        how="diagonal_relaxed",
    )
    events = pl.concat(
        [pl.read_parquet(p) for p in made.glob("nova_cell*.*instance_actions_events.parquet")],
        how="diagonal_relaxed",
    )
    asked, done = set(actions["action"]), set(events["event"])
    common = {"create", "delete", "stop", "start", "rebuild"}
    assert asked >= (common | OF_VMS if made.name == "kvm" else common)
    if made.name == "baremetal":
        assert "compute_power_update" in done
    assert (made / "nova_cell1.shadow_instances.parquet").exists()


def test_all_clocks_were_the_scripts(made):
    for path in made.glob("nova*.parquet"):
        times = pl.read_parquet(path).select(pl.col(pl.Datetime))
        for column in times.iter_columns():
            late = column.drop_nulls()
            assert late.is_between(START, START + timedelta(DAYS)).all(), (path.name, column.name)


OF_VMS = {
    *("reboot", "pause", "unpause", "suspend", "resume", "rescue", "unrescue", "resetState"),
    *("shelve", "shelveOffload", "unshelve", "resize", "confirmResize", "revertResize"),
    *("migrate", "live-migration", "evacuate", "restore"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("release", "site"), nova_make.MADE, ids=map("-".join, nova_make.MADE))
def test_the_services_write_the_same_again(release, site, tmp_path):
    again = nova_make.make(release, site, tmp_path)
    kept = nova_make.FIXTURE / release / site
    names = {path.name for path in again.iterdir()}
    assert {path.name for path in kept.iterdir() if "blazar" not in path.name} == names
    for name in sorted(names):
        assert_frame_equal(pl.read_parquet(again / name), pl.read_parquet(kept / name))
