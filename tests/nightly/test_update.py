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

from chameleon_usage.nightly import update
from chameleon_usage.runs import Notes, Options, run_site
from chameleon_usage.usage.buckets import Availability, Period
from support import PROJECT
from support.little_sites import little_sites
from support.sites import DAY0, LIVELY, SITES, TEN_DAYS, TinySite, day
from support.yesterday import write_yesterday

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = PROJECT / "data" / "sites.yaml"
QUARTERS = Period(DAY0, day(10), "6h")


@pytest.fixture(autouse=True)
def always_few(monkeypatch):
    """Little sites have few buckets and rows: take over what stays, and little at once."""
    monkeypatch.setattr(update, "MOST", 1.0)
    monkeypatch.setattr(update, "AT_ONCE", 50)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.fixture
def nights(tmp_path) -> Callable[..., str]:
    """Run one night after the other, hold all but the first to a run; give what the last said."""

    def run(*dumps: Path, asked: Period = QUARTERS, **options: Any) -> str:
        notes, whole, host = Notes(), tmp_path / "whole", {"by_host": True}
        for dump in dumps:
            site, raw, updated = SITES[dump.name], dump.parent, tmp_path / "updated"
            before = (updated / site.key).exists()
            _, notes = run_site(site, raw, updated, asked, Options(update=True, **host, **options))
            if before:
                run_site(site, raw, whole, asked, Options(**host))
                assert bytes_below(updated / site.key) == bytes_below(whole / site.key)
        return notes.anew

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
@pytest.mark.parametrize("past", [0.3, pytest.param(4.0, marks=pytest.mark.slow)])
def test_after_some_days(key, past, nights, lively_raw, tmp_path):
    yesterday = write_yesterday(lively_raw / key, tmp_path / "yesterday" / key, past)
    nights(yesterday, lively_raw / key)


def test_when_only_time_went_by(nights, dump):
    site = LIVELY["kvm_tacc"]()
    said = nights(*(dump(site, as_of) for as_of in (9.0, 10.0)))
    assert said == "4 of 40 buckets"


def test_the_window_grows_where_no_end_is_given(nights, dump):
    site = LIVELY["kvm_tacc"]()
    asked = Period(None, None, "6h")
    assert nights(dump(site, 10.0), dump(site, 11.5), asked=asked).startswith("6 of ")


def test_the_window_moves(nights, dump):
    where = dump(LIVELY["kvm_tacc"]())
    nights(where)
    assert nights(where, asked=Period(day(2), day(12), "6h")) == "8 of 40 buckets"
    assert nights(where, asked=Period(day(2), day(9), "1d")) == "all buckets: most are touched"


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


def cached(site: TinySite) -> None:
    site.cached_day(3, total_hours=50.0, used_hours=2.0)


def most_rows_purged(site: TinySite) -> None:
    del site.tables["nova.instances"][1:]


CHANGES = [
    delete_lease,
    new_host,
    host_renamed,
    *(
        pytest.param(change, marks=pytest.mark.slow)
        for change in (purge_event, host_gone, most_rows_purged)
    ),
]


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_in_the_past_and_when_it_is_taken_back(change, nights, dump):
    site, other = LIVELY["chi_tacc"](), LIVELY["chi_tacc"]()
    change(other)
    first, second = dump(site), dump(other)
    nights(first, second, first)


def test_a_day_is_cached_later(nights, dump):
    site, other = LIVELY["chi_tacc"](), LIVELY["chi_tacc"]()
    cached(other)
    nights(dump(site), dump(other), asked=Period(DAY0, day(10), "1d"))


def three_hosts() -> TinySite:
    site = TinySite()
    for name in ("a", "b", "c"):
        site.host(name)
        site.lease(f"L{name}", 1, 3, [f"b-{name}"])
    return site


def test_only_the_buckets_that_changed_are_made_anew(nights, dump):
    site, other = three_hosts(), three_hosts()
    other.tables["blazar.computehost_allocations"][-1]["deleted_at"] = 2.5
    assert nights(dump(site), dump(other)) == "2 of 40 buckets"


def test_a_first_instance_makes_rows_in_all_buckets_of_its_type_and_touches_few(
    nights, dump, tmp_path
):
    site, other = three_hosts(), three_hosts()
    other.lease("late", 8, 9, ["b-a"])
    other.instance("late", "a", 8.5, 9, lease="late")
    assert nights(dump(site), dump(other)) == "4 of 40 buckets"
    rows = pl.read_parquet(tmp_path / "updated" / "chi_tacc" / "usage_by_node_type.parquet").filter(
        collector_type="corrected", count_type="active", resource="nodes"
    )
    assert rows.height == 40
    assert rows.filter(pl.col("value") > 0)["timestamp"].to_list() == [
        moment.replace(tzinfo=rows["timestamp"][0].tzinfo) for moment in (day(8.5), day(8.75))
    ]
    assert nights(dump(other), dump(site)) == "4 of 40 buckets"


def test_a_new_host_touches_the_buckets_in_which_it_is(nights, dump):
    site, other = three_hosts(), three_hosts()
    other.host("new", 9, node_type="gpu_v100", gpus=4)
    assert nights(dump(site), dump(other), dump(site)) == "4 of 40 buckets"


def test_ranges_of_hosts_and_a_saved_stage_are_updated_as_well(nights, lively_raw):
    raw = lively_raw / "chi_tacc"
    nights(raw, save_stages=True)
    assert nights(raw, resume_from="segments") == "0 of 40 buckets"
    assert nights(raw, count=2) == "0 of 40 buckets"


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """Run the first night of a site."""
    folder = tmp_path_factory.mktemp("first")
    raw = LIVELY["kvm_tacc"]().write(folder / "raw")
    run_site(SITES[raw.name], raw.parent, folder, QUARTERS, Options(update=True))
    return folder


class TestWhenTheRunBeforeIsOfNoUse:
    """Then all is made in full, and the run says so."""

    @pytest.fixture
    def again(self, first, tmp_path) -> Callable[..., str]:
        """Run on, and give what that said."""
        shutil.copytree(first / "kvm_tacc", tmp_path / "kvm_tacc")

        def run() -> str:
            site = SITES["kvm_tacc"]
            _, notes = run_site(site, first / "raw", tmp_path, QUARTERS, Options(update=True))
            assert bytes_below(tmp_path / "kvm_tacc") == bytes_below(first / "kvm_tacc")
            return notes.anew

        return run

    def test_it_kept_nothing(self, again, tmp_path):
        shutil.rmtree(tmp_path / "kvm_tacc" / "stages")
        assert again() == "all buckets: no run before it kept anything"
        assert again() == "0 of 40 buckets"
        shutil.rmtree(tmp_path / "kvm_tacc")
        assert again() == "all buckets: there is no run before it"

    def test_its_version_was_another(self, again, monkeypatch):
        monkeypatch.setattr(update, "PACKAGES", ("polars",))
        assert again() == "all buckets: the run before it was of another version"

    def test_it_told_of_other_quantities(self, again, monkeypatch):
        monkeypatch.setattr(update, "_known", lambda *_: "others")
        assert again() == "all buckets: the tables tell of other quantities, or of more hours"

    def test_it_knew_of_nodes_that_may_belong_to_a_quantity(self):
        availability = Availability(frozenset(), {}, DAY0)
        sums = pl.DataFrame({"total": [1], "committed": [1]})
        more = sums.with_columns(committed_unknown=0)
        one, other = (update._known(availability, {"usage": of}) for of in (sums, more))
        assert one != other
        assert one == update._known(availability, {"usage": sums.with_columns(idle=0)})

    def test_a_file_was_changed_or_is_gone(self, again, tmp_path):
        for name in ("usage_by_node_type.parquet", "stages/update/buckets.arrow"):
            path = tmp_path / "kvm_tacc" / name
            path.write_bytes(path.read_bytes()[:-1])
            assert "has been changed since" in again()
        path.unlink()
        assert "is damaged" in again()

    @pytest.mark.parametrize("text", ["", "{}"])
    def test_what_it_says_of_itself_cannot_be_read(self, again, tmp_path, text):
        (tmp_path / "kvm_tacc" / "stages" / "update" / "kept.json").write_text(text)
        assert "is damaged" in again()

    def test_most_buckets_are_touched(self, nights, dump, monkeypatch):
        monkeypatch.setattr(update, "MOST", 0.5)
        other = LIVELY["chi_tacc"]()
        new_host(other)
        said = nights(dump(LIVELY["chi_tacc"]()), dump(other))
        assert said == "all buckets: most are touched"


def test_the_command_says_what_it_made_anew(usage, lively_raw, tmp_path):
    call = ["run", "--config", CONFIG, "--site", "chi_tacc", "--data-dir", lively_raw, "--update"]
    call += ["--output", tmp_path, *TEN_DAYS]
    assert "chi_tacc: made anew: all buckets: there is no run before it" in usage(*call).err
    assert "chi_tacc: made anew: 0 of 10 buckets" in usage(*call).err
    said = usage(*call, "--from", "usage")
    assert said.status == 1
    assert "--update" in said.err


def test_a_night_that_is_interrupted_changes_nothing(usage, lively_raw, tmp_path, monkeypatch):
    call = ["run", "--config", CONFIG, "--site", "chi_tacc", "--data-dir", lively_raw, "--update"]
    call += ["--output", tmp_path]
    usage(*call, *TEN_DAYS)
    files = sorted(tmp_path.rglob("*"))
    before = {path: path.read_bytes() for path in files if path.is_file()}

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(update.Update, "save", full)
    said = usage(*call, "--bucket", "1h")
    assert said.status == 1
    assert "what was there before is untouched" in said.err
    files = sorted(tmp_path.rglob("*"))
    assert {path: path.read_bytes() for path in files if path.is_file()} == before


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
@pytest.mark.parametrize("most", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_generated_sites(key, most, tmp_path):
    ours = settings(max_examples=most, suppress_health_check=list(HealthCheck), deadline=None)

    @ours
    @given(two_nights(key))
    def same(drawn: tuple[TinySite, float, dict[str, Any]]) -> None:
        site, as_of, tables = drawn
        shutil.rmtree(tmp_path)
        asked = Period(DAY0, day(10), "12h")
        options = {"by_host": True, "skip_missing": True}
        site.write(tmp_path / "raw")
        run_site(
            site.site,
            tmp_path / "raw",
            tmp_path / "updated",
            asked,
            Options(update=True, **options),
        )
        site.as_of, site.tables = as_of, tables
        site.write(tmp_path / "raw")
        for name, new in (("updated", True), ("whole", False)):
            run_site(
                site.site, tmp_path / "raw", tmp_path / name, asked, Options(update=new, **options)
            )
        updated, whole = (tmp_path / name / key for name in ("updated", "whole"))
        assert bytes_below(updated) == bytes_below(whole)

    same()


@pytest.mark.slow
@pytest.mark.parametrize("key", ["chi_uc", "kvm_tacc", "chi_edge"])
def test_a_twin_night_after_night(key, decayed_twin, nights, tmp_path, monkeypatch):
    monkeypatch.undo()
    today = decayed_twin / key
    told = json.loads((today / "manifest.json").read_text(encoding="utf-8"))
    assert datetime.fromisoformat(told["as_of"]) - timedelta(days=40) > DAY0
    dumps = [write_yesterday(today, tmp_path / f"before{past}" / key, past) for past in (40, 2, 1)]
    said = nights(*dumps, today, asked=Period())
    assert not said.startswith("all buckets")
