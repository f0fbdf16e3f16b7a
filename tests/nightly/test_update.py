"""An update makes the bytes that a run makes, whatever changed since the run before it."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chameleon_usage.nightly import days, update
from chameleon_usage.nightly.update import run_update
from chameleon_usage.pipeline import run_pipeline
from chameleon_usage.usage.buckets import Period
from support import PROJECT
from support.little_sites import little_sites
from support.sites import DAY0, LIVELY, TEN_DAYS, TinySite, day
from support.yesterday import write_yesterday

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = PROJECT / "data" / "sites.yaml"
ALL = ("--by-host", "--by-project", "--save-stages")


@pytest.fixture(autouse=True)
def always_few(monkeypatch):
    """Little sites have few buckets: make only those anew that are touched."""
    monkeypatch.setattr(days, "BETWEEN", 1)
    monkeypatch.setattr(days, "MOST", 1.0)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.parquet"))
        if path.parent.name != "update"
    }


@pytest.fixture
def nights(usage, tmp_path) -> Callable[..., str]:
    """Run one night after the other, and hold each to a run; give what the last one said."""

    def run(*dumps: Path, args: tuple[str, ...] = (*TEN_DAYS, "--bucket", "1h", *ALL)) -> str:
        said = ""
        for dump in dumps:
            call = ["run", "--config", CONFIG, "--site", dump.name, "--data-dir", dump.parent]
            done = usage(*call, "--output", tmp_path / "updated", "--update", *args)
            assert done.status == 0, done.err
            whole = usage(*call, "--output", tmp_path / "whole", *args)
            assert whole.status == 0, whole.err
            assert bytes_below(tmp_path / "updated") == bytes_below(tmp_path / "whole")
            said = next(line for line in done.err.splitlines() if "made anew" in line)
        return said

    return run


@pytest.fixture
def dump(tmp_path) -> Callable[..., Path]:
    """Write a site's tables, each time to another directory."""
    count = iter(range(100))

    def write(site: TinySite, as_of: float | None = None) -> Path:
        site.as_of = site.as_of if as_of is None else as_of
        return site.write(tmp_path / f"dump{next(count)}")

    return write


@pytest.mark.parametrize("key", LIVELY)
@pytest.mark.parametrize("past", [0.3, 4.0])
def test_after_some_days(key, past, nights, lively_raw, tmp_path):
    yesterday = write_yesterday(lively_raw / key, tmp_path / "yesterday" / key, past)
    nights(yesterday, lively_raw / key)


TIED = {"chi_tacc": 1}
"""Hosts of a reservation of which an instance names none: they are always read again."""


@pytest.mark.parametrize("key", LIVELY)
def test_when_nothing_changed(key, nights, lively_raw):
    said = nights(lively_raw / key, lively_raw / key)
    assert f"{key}: made anew: {TIED.get(key, 0)} of" in said
    assert said.endswith(" 0 of 240 buckets")


@pytest.mark.parametrize("key", LIVELY)
def test_when_only_time_went_by(key, nights, dump):
    site = LIVELY[key]()
    said = nights(dump(site, 10.0), dump(site, 12.0), dump(site, 13.5))
    assert f"{key}: made anew: {TIED.get(key, 0)} of" in said


def test_the_window_grows_where_no_end_is_given(nights, dump):
    site = LIVELY["kvm_tacc"]()
    said = nights(*(dump(site, as_of) for as_of in (10.0, 11.5, 12.0)), args=ALL)
    assert said.endswith("buckets")


def delete_lease(site: TinySite) -> None:
    """An operator finds that a lease of long ago was given back early."""
    site.tables["blazar.leases"][1]["deleted_at"] = 2.5


def purge_event(site: TinySite) -> None:
    site.tables["nova.instance_actions_events"].pop(2)


def new_host(site: TinySite) -> None:
    site.host("brand-new", 1, node_type="gpu_v100", gpus=4)
    site.lease("brand-new lease", 2, 6, ["b-brand-new"])
    site.instance("brand-new instance", "brand-new", 3, 5, lease="brand-new lease")


def host_gone(site: TinySite) -> None:
    site.tables["nova.compute_nodes"].pop()


def host_renamed(site: TinySite) -> None:
    row = site.tables["nova.compute_nodes"][-1]
    row["hypervisor_hostname"] = row["host"] = "renamed"


def nameless_instance(site: TinySite) -> None:
    """It finds its host by what the others of its reservation leave free."""
    site.lease("three", 1, 5, ["b-h1", "b-h2"])
    site.instance("named", "h1", 1, 5, lease="three")
    site.instance("nameless", None, 2, 4, lease="three")


def cached(site: TinySite) -> None:
    site.cached_day(3, total_hours=50.0, used_hours=2.0)


def most_rows_purged(site: TinySite) -> None:
    del site.tables["nova.instances"][1:]


CHANGES = [
    delete_lease,
    purge_event,
    new_host,
    host_gone,
    host_renamed,
    nameless_instance,
    cached,
    most_rows_purged,
]


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_in_the_past_and_when_it_is_taken_back(change, nights, dump):
    site, other = LIVELY["chi_tacc"](), LIVELY["chi_tacc"]()
    change(other)
    nights(dump(site), dump(other), dump(site), dump(other, 11.0))


def test_only_the_hosts_and_hours_that_changed_are_made_anew(nights, dump):
    site, other = TinySite(), TinySite()
    for one in (site, other):
        for name in ("a", "b", "c"):
            one.host(name)
            one.lease(f"L{name}", 1, 3, [f"b-{name}"])
    other.tables["blazar.computehost_allocations"][-1]["deleted_at"] = 2.5
    said = nights(dump(site), dump(other))
    assert "made anew: 1 of 4 hosts, 12 of 240 buckets" in said


class TestWhenTheRunBeforeIsOfNoUse:
    """Then all is made in full, and the run says so."""

    @pytest.fixture
    def raw(self, lively_raw) -> Path:
        return lively_raw / "kvm_tacc"

    @pytest.fixture
    def kept(self, nights, raw, tmp_path) -> Path:
        assert "there is no run before it" in nights(raw)
        return tmp_path / "updated" / raw.name

    def test_it_kept_nothing(self, kept, nights, raw, usage):
        call = ["run", "--config", CONFIG, "--site", raw.name, "--data-dir", raw.parent]
        usage(*call, "--output", kept.parent, *TEN_DAYS)
        assert not (kept / "stages").exists()
        assert "no run before it kept anything" in nights(raw)
        assert "0 of" in nights(raw)

    @pytest.mark.parametrize(
        "args",
        [
            (*TEN_DAYS, "--bucket", "1d", *ALL),
            ("--start", "2020-01-02", "--end", "2020-01-11", "--bucket", "1h", *ALL),
            (*TEN_DAYS, "--bucket", "1h", "--by-project", "--save-stages"),
            (*TEN_DAYS, "--bucket", "1h", *ALL, "--projects", "omit"),
        ],
    )
    def test_its_options_were_others(self, kept, nights, raw, args):
        assert kept.exists()
        assert "of another version, configuration or choice of options" in nights(raw, args=args)

    def test_the_configuration_has_changed(self, kept, nights, raw, tmp_path, monkeypatch):
        text = CONFIG.read_text(encoding="utf-8")
        other = tmp_path / "sites.yaml"
        other.write_text(text.replace("name: KVM@TACC", "name: KVM at TACC"), encoding="utf-8")
        monkeypatch.setitem(globals(), "CONFIG", other)
        assert "of another version, configuration" in nights(raw)

    def test_the_key_of_the_pseudonyms_is_another(self, nights, raw, monkeypatch):
        args = (*TEN_DAYS, *ALL, "--projects", "${THE_KEY}")
        monkeypatch.setenv("THE_KEY", "one key, which is long enough")
        nights(raw, args=args)
        assert "0 of" in nights(raw, args=args)
        monkeypatch.setenv("THE_KEY", "another key, which is as long")
        assert "of another version, configuration" in nights(raw, args=args)

    @pytest.mark.parametrize("name", ["usage_by_node_type.parquet", "stages/update/segments.arrow"])
    def test_a_file_was_changed_or_is_gone(self, kept, nights, raw, name):
        (kept / name).write_bytes((kept / name).read_bytes()[:-1])
        assert "has been changed since" in nights(raw)
        (kept / name).unlink()
        assert "is damaged" in nights(raw)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"fits": 1}'])
    def test_what_it_says_of_itself_cannot_be_read(self, kept, nights, raw, text):
        (kept / "stages" / "update" / "kept.json").write_text(text, encoding="utf-8")
        assert "all buckets" not in nights(raw)
        assert "made anew: 0 of" in nights(raw)


def test_a_night_that_is_interrupted_changes_nothing(
    nights, lively_raw, usage, tmp_path, monkeypatch
):
    raw = lively_raw / "chi_tacc"
    yesterday = write_yesterday(raw, tmp_path / "yesterday" / raw.name)
    nights(yesterday)
    files = sorted((tmp_path / "updated").rglob("*"))
    before = {path: path.read_bytes() for path in files if path.is_file()}

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as one:
        one.setattr(update, "save", full)
        call = ["run", "--config", CONFIG, "--site", raw.name, "--data-dir", lively_raw, "--update"]
        call += ["--output", tmp_path / "updated", *TEN_DAYS, "--bucket", "1h", *ALL]
        said = usage(*call)
    assert said.status == 1
    assert "what was there before is untouched" in said.err
    files = sorted((tmp_path / "updated").rglob("*"))
    assert {path: path.read_bytes() for path in files if path.is_file()} == before
    assert "buckets" in nights(raw)


@pytest.mark.parametrize("other", [("--from", "facts"), ("--ranges", "2"), ("--engine", "slurm")])
def test_an_update_begins_with_the_raw_tables_in_one_process(other, usage, lively_raw):
    said = usage("run", "--config", CONFIG, "--data-dir", lively_raw, "--update", *other)
    assert said.status == 1
    assert "--update" in said.err


def changed(draw: Callable[..., Any], site: TinySite) -> None:
    """Change, take away or repeat some rows of some tables."""
    tables = [name for name, rows in site.tables.items() if rows]
    for name in draw(st.lists(st.sampled_from(tables), max_size=4)):
        rows = site.tables[name]
        if not rows:
            continue
        place = draw(st.integers(0, len(rows) - 1))
        row = rows[place] = dict(rows[place])
        times = [key for key, value in row.items() if isinstance(value, float) and value > -9]
        what = draw(st.sampled_from(["later", "later", "none", "gone"]))
        if what == "gone":
            rows.pop(place)
        elif times:
            key = draw(st.sampled_from(times))
            row[key] = row[key] + draw(st.sampled_from([0.25, 1.0])) if what == "later" else None


@st.composite
def two_nights(draw: Callable[..., Any], key: str) -> tuple[TinySite, float, dict[str, Any]]:
    """Draw a site, the moment of its second dump, and its tables at the second."""
    site = draw(little_sites(key, most=6))
    first = dict(site.tables)
    site.tables = {name: list(rows) for name, rows in first.items()}
    changed(draw, site)
    second, site.tables = site.tables, first
    site.as_of = draw(st.sampled_from([6.0, 8.0, 9.5]))
    return site, site.as_of + draw(st.sampled_from([0.0, 0.25, 1.0, 3.0])), second


@pytest.mark.parametrize("key", LIVELY)
@pytest.mark.parametrize("most", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_generated_sites(key, most, tmp_path):
    """So it is not by chance that the reading of a host is the same but for its open ends."""
    ours = settings(max_examples=most, suppress_health_check=list(HealthCheck), deadline=None)

    @ours
    @given(two_nights(key))
    def same(drawn: tuple[TinySite, float, dict[str, Any]]) -> None:
        site, as_of, tables = drawn
        shutil.rmtree(tmp_path)
        asked = Period(DAY0, day(10), "12h")
        options = {"by_host": True, "by_project": pl.DataFrame.clone, "skip_missing": True}
        site.write(tmp_path / "raw")
        run_update(site.site, tmp_path / "raw", tmp_path / "updated", asked, **options)
        site.as_of, site.tables = as_of, tables
        site.write(tmp_path / "raw")
        run_update(site.site, tmp_path / "raw", tmp_path / "updated", asked, **options)
        run_pipeline(site.site, tmp_path / "raw", tmp_path / "whole", asked, **options)
        assert bytes_below(tmp_path / "updated") == bytes_below(tmp_path / "whole")

    same()


@pytest.mark.slow
@pytest.mark.parametrize("key", ["chi_uc", "kvm_tacc", "chi_edge"])
def test_a_twin_night_after_night(key, decayed_twin, nights, tmp_path, monkeypatch):
    monkeypatch.undo()
    today = decayed_twin / key
    told = json.loads((today / "manifest.json").read_text(encoding="utf-8"))
    assert datetime.fromisoformat(told["as_of"]) - timedelta(days=40) > DAY0
    dumps = [write_yesterday(today, tmp_path / f"before{past}" / key, past) for past in (40, 2, 1)]
    said = nights(*dumps, today, args=("--by-host", "--by-project"))
    assert "buckets" in said
