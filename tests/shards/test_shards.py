"""A site that is read in shards has the tables of one that is read whole, byte for byte."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from chameleon_usage import runs
from chameleon_usage.engines.tasks import Processes
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import tables_of
from chameleon_usage.shards.deal import DEALT
from chameleon_usage.shards.facts import facts
from support import PROJECT
from support.engines import Here, killed
from support.little_sites import little_sites
from support.sites import LIVELY, TEN_DAYS, TinySite, lively

if TYPE_CHECKING:
    from pathlib import Path


SITES = ["chi_tacc", "kvm_tacc", "chi_edge"]


def made(site: TinySite, folder: Path, *, shards: int = 1, count: int | None = None) -> dict:
    """Give the bytes of every file that a site's run makes of the raw tables in a folder."""
    options = runs.Options(
        by_host=True,
        by_project=lambda table: table,
        skip_missing=True,
        shards=shards,
        count=count,
        engine=Here() if shards > 1 else None,
    )
    output = folder / f"out-{shards}-{count}"
    runs.run_site(site.site, folder / "raw", output, site.window, options)
    assert [path.name for path in output.iterdir()] == [site.site.key]
    return {path.name: path.read_bytes() for path in (output / site.site.key).iterdir()}


def assert_same(site: TinySite, folder: Path, *shards: int) -> None:
    """The files are the same in so many shards, and as many ranges of hosts."""
    site.write(folder / "raw")
    assert_files_same(site, folder, *shards)


def assert_files_same(site: TinySite, folder: Path, *shards: int) -> None:
    """Do so where the raw tables are written."""
    whole = made(site, folder)
    assert len(whole) > 10
    for count in shards:
        ours = made(site, folder, shards=count, count=count)
        assert ours.keys() == whole.keys()
        assert [name for name, found in whole.items() if ours[name] != found] == []


@pytest.mark.parametrize("key", SITES)
def test_a_lively_site_is_the_same_in_four_shards(key, tmp_path):
    assert_same(lively(key), tmp_path, 4)


@pytest.mark.slow
@pytest.mark.parametrize("key", SITES)
def test_generated_sites_are_the_same_in_shards(key, tmp_path_factory):
    @settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
    @given(little_sites(key))
    def same(site: TinySite) -> None:
        if site.tables:
            assert_same(site, tmp_path_factory.mktemp("site"), 2, 5)

    same()


class TestWhatNoShardKnowsAlone:
    """Each needs rows that lie in several shards."""

    def test_a_host_begins_where_an_instance_of_any_shard_names_it_first(self, tmp_path):
        site = TinySite()
        site.hypervisor("a", None, None)
        for number in range(6):
            site.instance(f"I{number}", "a", 1 + number, 9)
        assert site.corrected("total")[:3] == [0, 1, 1]
        assert_same(site, tmp_path, 3)

    def test_votes_of_all_shards_name_a_host_whose_row_is_gone(self, tmp_path):
        site = TinySite()
        site.hypervisor("a", 0, None)
        site.hypervisor("b", 0, None)
        for number in range(7):  # four votes for one name, three for the other
            lease = f"L{number}"
            site.lease(lease, number, number + 1, ["gone"])
            site.instance(f"I{number}", "ab"[number % 2], number, number + 1, lease=lease)
        assert site.daily("corrected", "committed", host="a")[:2] == [1, 0]
        assert_same(site, tmp_path, 3)

    def test_an_enrolment_without_a_row_lasts_as_long_as_allocations_of_all_shards(self, tmp_path):
        site = TinySite()
        site.hypervisor("a", 0, None)
        for number in range(5):
            lease = f"L{number}"
            site.lease(lease, 1 + number, 2 + number, ["gone"])
            site.instance(f"I{number}", "a", 1 + number, 2 + number, lease=lease)
        assert site.daily("corrected", "reservable", host="a")[:7] == [0, 1, 1, 1, 1, 1, 0]
        assert_same(site, tmp_path, 4)

    def test_leases_of_one_shard_tell_that_leases_leave_no_row_anywhere(self, tmp_path):
        site = TinySite()
        site.host("a")
        site.host("b")
        site.lease("L", 1, 3, [], status="TERMINATED")
        for number in range(4):
            site.instance(f"I{number}", "b", 4 + number, 5 + number)
        assert_same(site, tmp_path, 5)

    def test_what_is_left_of_containers_is_counted_over_all_shards(self, tmp_path):
        site = LIVELY["chi_edge"]()
        for number in range(9):
            site.container(f"C{number}", "rpi", 2, id=100 + number)
        assert_same(site, tmp_path, 4)


class TestOddRawTables:
    """Dumps that others made, and sites that lack much: in shards as whole."""

    def test_numbers_that_one_table_has_as_text_are_the_same_numbers(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        raw = site.write(tmp_path / "raw")
        for name, column, kind in (
            ("nova.instance_actions_events", "action_id", pl.String),
            ("nova.instance_actions", "id", pl.Float64),
            ("blazar.reservations", "lease_id", pl.Categorical),
            ("nova.instances", "uuid", pl.Binary),
        ):
            file = raw / f"{name}.parquet"
            pl.read_parquet(file).cast({column: kind}).write_parquet(file)
        assert_files_same(site, tmp_path, 3)

    def test_an_archive_may_have_other_columns_than_its_table(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        raw = site.write(tmp_path / "raw")
        rows = pl.read_parquet(raw / "nova.instance_actions.parquet")
        old, new = rows.head(rows.height // 2), rows.tail(-(rows.height // 2))
        new.write_parquet(raw / "nova.instance_actions.parquet")
        old.with_columns(more=1).write_parquet(raw / "nova.shadow_instance_actions.parquet")
        assert_files_same(site, tmp_path, 2)

    def test_documents_of_no_row_have_no_type(self, tmp_path):
        site = LIVELY["chi_edge"]()
        file = site.write(tmp_path / "raw") / "zun.container.parquet"
        none = pl.lit(None, pl.Null).alias("annotations")
        pl.read_parquet(file).with_columns(none).write_parquet(file)
        assert_files_same(site, tmp_path, 2)

    def test_cells_have_the_numbers_that_all_their_files_give_them(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        raw = site.write(tmp_path / "raw")
        hosts = pl.read_parquet(raw / "nova.compute_nodes.parquet")
        again = pl.concat([hosts, hosts]).with_columns("c-" + pl.col("hypervisor_hostname"))
        again.write_parquet(raw / "nova_cell1.compute_nodes.parquet")
        rows = pl.read_parquet(raw / "nova.instances.parquet").with_columns("c-" + pl.col("uuid"))
        rows.write_parquet(raw / "nova_cell0.shadow_instances.parquet")
        assert_files_same(site, tmp_path, 2)

    def test_a_site_without_tables_of_hosts(self, tmp_path):
        site = LIVELY["chi_edge"]()
        site.container("C", "pi", 1)
        site.site = replace(site.site, adapters=("edge_containers",))
        assert not {*tables_of(site.site.adapters)} - DEALT.keys()
        (tmp_path / "room").mkdir()
        read = facts(site.site, site.write(tmp_path / "raw"), 2, tmp_path / "room", Here())
        assert read.intervals == site.facts.ingested.intervals.height > 0

    def test_a_site_of_hosts_alone(self, tmp_path):
        site = TinySite()
        site.host("a")
        site.site = replace(site.site, adapters=("nova_hosts",))
        assert_same(site, tmp_path, 2)

    def test_a_site_without_any_interval(self, tmp_path):
        site = TinySite()
        for number in range(4):
            site.lease(f"L{number}", 1, 5, [])
        site.cached_day(1, total_hours=24.0)
        site.site = replace(site.site, adapters=("blazar_leases", "legacy"))
        assert site.facts.ingested.intervals.is_empty()
        assert_same(site, tmp_path, 2)


class TestRefusals:
    """What cannot be read in shards is said, and nothing is left."""

    def run(self, site: TinySite, folder: Path, **options) -> None:
        options = runs.Options(shards=2, engine=Here(), **options)
        runs.run_site(site.site, folder / "raw", folder / "out", site.window, options)

    def test_without_a_manifest_nobody_knows_when_the_tables_were_read(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        (site.write(tmp_path / "raw") / "manifest.json").unlink()
        with pytest.raises(
            UsageError, match=r"not be read in shards .*manifest\.json.* --shards 1"
        ):
            self.run(site, tmp_path)
        assert list((tmp_path / "out").iterdir()) == []

    def test_earlier_snapshots_are_read_whole(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        (site.write(tmp_path / "raw") / "history").mkdir()
        with pytest.raises(UsageError, match="history tells of its rows, too"):
            self.run(site, tmp_path)

    def test_an_action_of_two_instances_is_refused(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        first = site.tables["nova.instance_actions"][0]
        others = [f"other-{number}" for number in range(20)]
        for other in others:
            site.add("nova.instance_actions", **first | {"instance_uuid": other})
        site.write(tmp_path / "raw")
        with pytest.raises(UsageError, match=r"nova\.instance_actions: two rows of one key"):
            self.run(site, tmp_path)

    @pytest.mark.parametrize(
        ("table", "other"),
        [
            ("blazar.computehost_allocations", "reservation_id"),
            ("blazar.computehost_reservations", "reservation_id"),
            ("nova.instance_actions_events", "action_id"),
        ],
    )
    def test_rows_of_one_key_that_would_part_are_refused(self, table, other, tmp_path):
        site = LIVELY["chi_tacc"]()
        file = site.write(tmp_path / "raw") / f"{table}.parquet"
        rows = pl.read_parquet(file)
        kind = rows.schema[other]
        others = pl.Series(other, range(100, 120)).cast(kind)
        again = pl.concat([rows.head(1)] * 20).with_columns(others)
        pl.concat([rows, again]).write_parquet(file)
        with pytest.raises(UsageError, match=f"{table}: two rows of one key .* --shards 1"):
            self.run(site, tmp_path)

    def test_a_table_most_of_whose_rows_cannot_be_read_is_refused_as_a_whole(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        file = site.write(tmp_path / "raw") / "blazar.leases.parquet"
        rows = pl.read_parquet(file)
        many = pl.concat([rows.head(1)] * 40).with_columns(
            id=pl.Series([f"L{number}" for number in range(40)]),
            start_date=pl.Series(["no time"] * 28 + ["2020-01-02 03:04:05"] * 12),
        )
        many.write_parquet(file)
        whole = re.escape(f"{file}: 28 of 40 rows cannot be read (unreadable start_date)")
        with pytest.raises(UsageError, match=whole):
            made(site, tmp_path)
        with pytest.raises(UsageError, match=whole):
            self.run(site, tmp_path)

    @pytest.mark.parametrize("table", ["nova.instances", "nova.compute_nodes"])
    def test_a_damaged_file_is_named_as_elsewhere(self, table, tmp_path):
        site = LIVELY["chi_tacc"]()
        file = site.write(tmp_path / "raw") / f"{table}.parquet"
        file.write_bytes(file.read_bytes()[:-40])
        with pytest.raises(UsageError, match=f"table {table} cannot be read .* extract it again"):
            self.run(site, tmp_path)

    def test_a_directory_that_is_not_there_is_named_as_elsewhere(self, tmp_path):
        with pytest.raises(UsageError, match=r"no data directory .*/raw/chi_tacc"):
            self.run(LIVELY["chi_tacc"](), tmp_path)

    def test_a_missing_column_is_named_as_elsewhere(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        site.without = ("blazar.leases.start_date",)
        site.write(tmp_path / "raw")
        with pytest.raises(UsageError, match=r"blazar\.leases lacks the column start_date"):
            self.run(site, tmp_path)

    def test_an_adapter_without_its_table_ends_the_run_unless_it_is_skipped(self, tmp_path):
        site = LIVELY["chi_tacc"]()
        del site.tables["nova.instances"]
        site.write(tmp_path / "raw")
        with pytest.raises(UsageError, match=r"nova_instances needs the table nova\.instances"):
            self.run(site, tmp_path)
        assert_same(site, tmp_path, 2)

    def test_stages_are_not_kept(self, usage):
        said = usage("run", "--shards", "2", "--save-stages")
        assert (said.status, "--shards reads and keeps no stage" in said.err) == (1, True)


class TestUnasked:
    """A site is read in shards where its manifest lists more rows than fit."""

    @pytest.mark.parametrize(("rows", "shards"), [(100_000_000, 1), (100_000_001, 21)])
    @pytest.mark.parametrize("told", [int, lambda rows: {"rows": rows, "bytes": 1}])
    def test_by_the_rows_of_the_manifest(self, rows, shards, told, tmp_path):
        site = LIVELY["chi_tacc"]()
        manifest = site.write(tmp_path) / "manifest.json"
        listed = {"tables": {"nova.instances": told(rows)}}
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | listed))
        assert runs.shards_unasked(site.site, manifest.parent) == shards


def test_other_processes_make_the_same_files(usage, lively_raw, lively_outputs, tmp_path):
    asked = ("--site", "chi_tacc", "--by-host", "--by-project")
    whole = lively_outputs(*asked) / "chi_tacc"
    call = ["run", "--config", PROJECT / "data" / "sites.yaml", "--data-dir", lively_raw, *TEN_DAYS]
    said = usage(*call, "--output", tmp_path, *asked, "--shards", "3", "--jobs", "2")
    assert said.status == 0, said.err
    names = sorted(path.name for path in whole.glob("*.parquet"))
    ours = tmp_path / "chi_tacc"
    assert names == sorted(path.name for path in ours.iterdir())
    assert [n for n in names if (whole / n).read_bytes() != (ours / n).read_bytes()] == []


def test_a_process_that_is_killed_ends_the_run_and_tells_why(tmp_path):
    places = [tmp_path / name for name in "abc"]
    with pytest.raises(UsageError, match=r"--jobs 2: a process was killed.* give more --ranges"):
        Processes(2).each(tmp_path / "job", places, killed, ("told",))
