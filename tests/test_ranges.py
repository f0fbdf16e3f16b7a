"""Into how many ranges the hosts are cut, and who works on them, changes nothing."""

from __future__ import annotations

import pickle
import shutil
import threading
import time
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from chameleon_usage.engines import spark
from chameleon_usage.engines.engine import plain
from chameleon_usage.engines.home import AtHome, save_numbered
from support import PROJECT
from support.little_sites import little_sites
from support.sites import TEN_DAYS, TinySite, lively

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SITES = ["chi_tacc", "kvm_tacc", "chi_edge"]


def assert_same(site: TinySite, count: int, engine: AtHome | None = None) -> None:
    """The tables are the same, row by row and bit by bit, as those of all hosts at once."""
    told = site.outputs_in(count, engine)
    assert told.keys() == site.outputs.keys()
    for name, table in site.outputs.items():
        assert told[name].schema == table.schema, name
        assert told[name].equals(table), name


def there(work: Callable) -> Callable:
    """Give what another process would get."""
    return pickle.loads(pickle.dumps(work))  # noqa: S301 - our own bytes


class Elsewhere(AtHome):
    """As a cluster does: all that is done and given back travels as bytes, in another order."""

    def ask(self, folder: Path, work: Callable, names: list[str]) -> list[Mapping]:
        return list(super().ask(folder, there(work), names))[::-1]

    def keep(self, folder: Path, work: Callable, names: list[str]) -> None:
        super().keep(folder, there(work), names)

    def kept(self, folder: Path, names: list[str]) -> list[Mapping]:
        return list(super().kept(folder, names))[::-1]


@pytest.mark.parametrize("key", SITES)
def test_a_lively_site_is_the_same_in_one_range_and_in_seven(key):
    site = lively(key)
    assert_same(site, 1)
    assert_same(site, 7)


def test_nothing_depends_on_the_order_in_which_ranges_are_done_or_on_the_process():
    assert_same(lively("chi_tacc"), 3, Elsewhere())


def examples(key: str, most: int) -> Callable:
    """Run a test on generated sites."""
    ours = settings(max_examples=most, suppress_health_check=list(HealthCheck), deadline=None)
    return lambda test: ours(given(little_sites(key))(test))


@pytest.mark.slow
@pytest.mark.parametrize("key", SITES)
def test_generated_sites_are_the_same_in_ranges(key):
    @examples(key, 25)
    def same(site: TinySite) -> None:
        for count in (2, 7):
            assert_same(site, count)

    same()


def test_an_instance_without_a_node_finds_its_host_in_another_range():
    site = TinySite()
    for name in ("a", "b", "c"):
        site.host(name)
    site.lease("L", 1, 5, ["b-a", "b-c"])
    site.instance("I", "a", 1, 5, lease="L")
    site.instance("J", None, 2, 4, lease="L")
    assert site.daily("corrected", "occupied_reservation", host="c")[2] == 1
    assert_same(site, 4)


def test_names_are_written_as_text():
    names = pl.Series("name", ["b", None, "a"])
    frame = pl.DataFrame([names.cast(pl.Enum(["b", "a"])), names.cast(pl.Categorical).alias("c")])
    assert plain({"t": frame})["t"].dtypes == [pl.String, pl.String]


@pytest.mark.slow
def test_the_catalogue_holds_in_ranges(run_command):
    files = ["test_catalogue.py", "test_catalogue_services.py", "test_semantics.py"]
    paths = [PROJECT / "tests" / "reconstruct" / name for name in files]
    done = run_command("-m", "pytest", "-q", "-n", "0", "--ranges", "3", *paths)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


class TestCommand:
    @pytest.mark.parametrize(
        "key", ["kvm_tacc", *(pytest.param(key, marks=pytest.mark.slow) for key in SITES[::2])]
    )
    def test_files_are_equal_byte_for_byte(self, key, usage, lively_raw, lively_outputs, tmp_path):
        asked = ("--site", key, "--by-host", "--by-project", "--save-stages")
        whole = lively_outputs(*asked) / key
        said = usage(
            *("run", "--config", PROJECT / "data" / "sites.yaml", "--data-dir", lively_raw),
            *("--output", tmp_path, *TEN_DAYS, *asked, "--ranges", "3"),
        )
        assert said.status == 0, said.err
        files = sorted(path.relative_to(whole) for path in whole.rglob("*.parquet"))
        assert len(files) > 30
        ours = tmp_path / key
        assert files == sorted(path.relative_to(ours) for path in ours.rglob("*.parquet"))
        assert [n for n in files if (whole / n).read_bytes() != (ours / n).read_bytes()] == []
        assert [path.name for path in tmp_path.iterdir()] == [key]

    def test_ranges_side_by_side_make_the_same_files(
        self, usage, lively_raw, lively_outputs, tmp_path
    ):
        whole = lively_outputs("--by-host", "--save-stages") / "chi_tacc"
        call = ["run", "--config", PROJECT / "data" / "sites.yaml", "--data-dir", lively_raw]
        call += ["--site", "chi_tacc", "--output", tmp_path, *TEN_DAYS, "--by-host", "--jobs", "2"]
        said = usage(*call)
        assert said.status == 0, said.err
        names = sorted(path.name for path in (tmp_path / "chi_tacc").iterdir())
        assert names == sorted(path.name for path in whole.glob("*.parquet"))
        for name in names:
            ours = (tmp_path / "chi_tacc" / name).read_bytes()
            assert ours == (whole / name).read_bytes(), name

    def test_jobs_are_of_this_machine(self, usage):
        said = usage("run", "--engine", "slurm", "--jobs", "2")
        assert (said.status, "--jobs is for this machine" in said.err) == (1, True)

    def test_without_an_end_the_window_is_the_same(self, usage, lively_raw, tmp_path):
        call = ["run", "--config", PROJECT / "data" / "sites.yaml", "--data-dir", lively_raw]
        call += ["--site", "kvm_tacc", "--output"]
        assert usage(*call, tmp_path / "one").status == 0
        assert usage(*call, tmp_path / "two", "--ranges", "2").status == 0
        name = "kvm_tacc/usage_timeline.parquet"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    def test_a_cluster_needs_sparks_client(self, usage, lively_raw, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyspark", None)
        call = ["run", "--config", PROJECT / "data" / "sites.yaml", "--data-dir", lively_raw]
        said = usage(*call, "--output", tmp_path / "out", "--engine", "spark")
        assert said.status == 1
        assert "chameleon-usage[spark]" in said.err


def test_where_one_range_fails_no_other_writes_on_in_a_folder_that_is_cleared(tmp_path):
    for number in range(3):
        save_numbered(tmp_path / "rows" / str(number), {"rows": pl.DataFrame({"n": [number]})})
    begun = threading.Event()

    def work(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        if not rows["n"].item():
            begun.wait(5)
            raise OSError("no room")
        begun.set()
        time.sleep(0.2)
        return {"made": rows}

    with pytest.raises(OSError, match="no room"):
        AtHome(2).keep(tmp_path, work, ["made"])
    shutil.rmtree(tmp_path / "readings", ignore_errors=True)
    time.sleep(0.5)
    assert not (tmp_path / "readings").exists()


def test_what_a_cluster_has_kept_is_read_where_it_lies_and_not_through_its_driver(tmp_path):
    place = tmp_path / spark.READINGS
    place.mkdir()
    tables = [{name: pl.DataFrame({name: [n]}) for name in ("one", "two")} for n in range(3)]
    for number, of in enumerate((tables[:1], tables[1:])):
        packed = [
            {name: table.write_ipc(None).getvalue() for name, table in one.items()} for one in of
        ]
        pl.DataFrame(packed).write_parquet(place / f"part-{number}.parquet")
    kept = list(spark.Cluster(None).kept(tmp_path, ["two"]))
    assert [one["two"].item() for one in kept] == [0, 1, 2]
    assert all(one.keys() == {"two"} for one in kept)
