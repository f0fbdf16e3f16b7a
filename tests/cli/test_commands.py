"""The operator's commands: run, combine, check."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from chameleon_usage import stages
from chameleon_usage.io import files
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS
from chameleon_usage.usage.buckets import Window
from support.command import called
from support.sites import DAY0, DAYS, LIVELY, PROJECT, TEN_DAYS, day, lively

CONFIG = PROJECT / "data" / "sites.yaml"
TABLES = set(OUTPUTS) - OPTIONAL_OUTPUTS


@pytest.fixture
def raw(lively_raw) -> Path:
    return lively_raw


@pytest.fixture
def done(lively_outputs, tmp_path):
    """Give a copy, to be changed, of what a run of ten days of all three sites makes."""

    def call(*args: str) -> Path:
        return shutil.copytree(lively_outputs(*args), tmp_path / "done")

    return call


@pytest.fixture
def run(usage, raw, tmp_path):
    """Run ten days of every site that is not told otherwise; give the output directory."""

    def call(*args: str, output: Path = tmp_path / "out") -> Path:
        said = usage(
            *("run", "--config", CONFIG, "--data-dir", raw, "--output", output), *TEN_DAYS, *args
        )
        assert said.status == 0, said.err
        return output

    return call


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


class TestRun:
    def test_every_site_with_data_gets_a_directory_with_every_table(self, lively_outputs):
        out = lively_outputs()
        assert names(out) == {"chi_tacc", "kvm_tacc", "chi_edge"}
        for site in out.iterdir():
            assert names(site) == {f"{table}.parquet" for table in TABLES}

    def test_only_the_named_sites(self, run):
        assert names(run("--site", "kvm_tacc", "--site", "chi_edge")) == {"kvm_tacc", "chi_edge"}

    @pytest.mark.parametrize("site", LIVELY)
    def test_by_host_adds_one_table_and_changes_no_other(self, lively_outputs, site):
        plain = bytes_of(lively_outputs() / site)
        more = bytes_of(lively_outputs("--by-host", "--save-stages") / site)
        assert set(more) - set(plain) == {"usage_by_host.parquet"}
        assert {name: more[name] for name in plain} == plain

    @pytest.mark.parametrize("site", LIVELY)
    def test_by_project_adds_two_tables_and_changes_no_other(self, lively_outputs, site):
        plain = bytes_of(lively_outputs() / site)
        more = bytes_of(lively_outputs("--by-project") / site)
        assert set(more) - set(plain) == {
            *("usage_by_project.parquet", "sessions_by_project.parquet"),
        }
        assert {name: more[name] for name in plain} == plain

    def test_by_host_holds_every_host(self, lively_outputs):
        out = lively_outputs("--by-host", "--save-stages")
        hosts = pl.read_parquet(out / "chi_tacc" / "usage_by_host.parquet")
        assert set(hosts["hypervisor_hostname"]) == {"h1", "h2", "h3", "h4", "h5"}

    def test_an_older_output_is_replaced_whole(self, done, run):
        out = done("--by-host", "--save-stages")
        (out / "chi_tacc" / "old_table.parquet").write_bytes(b"left over")
        run("--site", "chi_tacc", output=out)
        assert names(out / "chi_tacc") == {f"{table}.parquet" for table in TABLES}

    def test_it_says_what_it_did(self, usage, raw, tmp_path):
        said = usage(
            *("run", "--config", CONFIG, "--data-dir", raw, "--output", tmp_path / "out"),
            *("--site", "chi_tacc", *TEN_DAYS),
        )
        assert "chi_tacc" in said.err
        assert "rows" in said.err


class TestBuckets:
    @pytest.mark.parametrize("key", LIVELY)
    def test_sum_times_length_is_node_hours_whatever_the_bucket(self, key):
        site, hours = lively(key), {}
        for bucket, length in (("1h", 1), ("1d", 24), ("5d", 120), ("1mo", 240)):
            window = Window(DAY0, day(DAYS), bucket)
            table = site.over(window).outputs["usage_by_resource"]
            ours = table.filter(pl.col("collector_type") != "legacy")
            sums = ours.group_by("collector_type", "count_type", "resource").agg(
                pl.col("value").sum() * length, complete=pl.col("value").null_count() == 0
            )
            hours[bucket] = {row[:3]: row[3] for row in sums.rows() if row[4]}
        assert hours["1d"]["corrected", "committed", "nodes"] > 0
        for bucket in ("1h", "5d", "1mo"):
            both = set(hours["1d"]) & set(hours[bucket])
            assert len(both) >= 20
            for series in both:
                same = pytest.approx(hours["1d"][series], rel=1e-12)
                assert hours[bucket][series] == same, series

    def test_an_hourly_run_has_an_hour_a_row(self, lively_outputs):
        out = lively_outputs("--site", "chi_tacc", "--bucket", "1h") / "chi_tacc"
        assert pl.read_parquet(out / "usage_timeline.parquet")["timestamp"].n_unique() == 240

    def test_legacy_is_daily_and_is_averaged_over_longer_buckets_only(self, lively_outputs):
        def legacy(bucket: str) -> list[float | None]:
            args = () if bucket == "1d" else ("--site", "chi_tacc", "--bucket", bucket)
            table = pl.read_parquet(lively_outputs(*args) / "chi_tacc" / "usage_timeline.parquet")
            rows = table.filter(
                (pl.col("collector_type") == "legacy") & (pl.col("count_type") == "occupied")
            )
            return rows.sort("timestamp")["value"].to_list()

        daily = legacy("1d")
        assert daily == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
        assert legacy("5d") == [sum(daily[:5]) / 5, sum(daily[5:]) / 5]
        assert not any(legacy("1h"))


class TestInterrupted:
    """A directory appears whole or not at all, however the run ends."""

    @pytest.fixture
    def broken_off(self, monkeypatch):
        """Let writing the outputs end in the middle."""
        whole = files.save_table

        def arm(error: type[BaseException]) -> None:
            def half(path, table):
                whole(path, table)
                if path.name == "comparison.parquet":
                    raise error

            monkeypatch.setattr(stages, "save_table", half)

        yield arm
        monkeypatch.undo()

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    def test_nothing_half_written_is_left(self, usage, raw, tmp_path, broken_off, error):
        out = tmp_path / "out"
        broken_off(error)
        call = ("run", "--config", CONFIG, "--data-dir", raw, "--output", out, *TEN_DAYS)
        if error is KeyboardInterrupt:
            assert usage(*call, "--site", "chi_tacc").status != 0
        else:
            with pytest.raises(error):
                usage(*call, "--site", "chi_tacc")
        assert not out.exists() or names(out) == set()

    def test_what_was_there_before_stays(self, usage, done, raw, broken_off):
        out = done()
        shutil.rmtree(out / "chi_edge")
        shutil.rmtree(out / "kvm_tacc")
        before = bytes_of(out / "chi_tacc")
        broken_off(KeyboardInterrupt)
        for site in ("chi_edge", "chi_tacc"):
            call = ("run", "--config", CONFIG, "--data-dir", raw, "--output", out)
            assert usage(*call, "--site", site, *TEN_DAYS).status != 0
        assert names(out) == {"chi_tacc"}
        assert bytes_of(out / "chi_tacc") == before

    def test_killed_and_started_again_it_ends_with_the_same_bytes(
        self, lively_outputs, run, raw, tmp_path, usage
    ):
        killed = tmp_path / "killed"
        script = (
            "import os, signal, sys\n"
            "from chameleon_usage import cli\n"
            "from chameleon_usage import stages\n"
            "whole = stages.save_table\n"
            "def half(path, table):\n"
            "    whole(path, table)\n"
            "    if path.name == 'comparison.parquet':\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "stages.save_table = half\n"
            "cli.main()\n"
        )
        call = ["run", "--config", CONFIG, "--data-dir", raw, "--output", killed, *TEN_DAYS]
        ended = subprocess.run(
            [sys.executable, "-c", script, *map(str, call), "--site", "chi_tacc"],
            check=False,
            capture_output=True,
        )
        assert ended.returncode == -9, ended.stderr
        assert not (killed / "chi_tacc").exists()
        run("--site", "chi_tacc", output=killed)
        undisturbed = lively_outputs()
        assert bytes_of(killed / "chi_tacc") == bytes_of(undisturbed / "chi_tacc")
        assert usage("combine", "--output", killed).status == 0
        assert usage("check", "--config", CONFIG, "--output", killed).status == 0


class TestCombine:
    def test_all_sites_together(self, usage, done):
        out = done()
        said = usage("combine", "--output", out)
        assert said.status == 0, said.err
        assert names(out / "combined") == {f"{table}.parquet" for table in TABLES}
        for table in TABLES:
            combined = pl.read_parquet(out / "combined" / f"{table}.parquet")
            parts = [
                pl.read_parquet(out / site / f"{table}.parquet").height
                for site in ("chi_tacc", "kvm_tacc", "chi_edge")
            ]
            assert combined.height == sum(parts), table
            # Nothing was refused at the KVM site, and its hosts are given in slices.
            if table not in {"rejects", "leadtime_projected", "lease_use"}:
                assert set(combined["site"]) == {"chi_tacc", "kvm_tacc", "chi_edge"}, table

    def test_combining_again_does_not_combine_the_combined(self, usage, done):
        out = done()
        usage("combine", "--output", out)
        once = bytes_of(out / "combined")
        usage("combine", "--output", out)
        assert bytes_of(out / "combined") == once

    def test_only_the_named_sites(self, usage, done):
        out = done()
        usage("combine", "--output", out, "--site", "chi_edge", "--site", "kvm_tacc")
        combined = pl.read_parquet(out / "combined" / "usage_timeline.parquet")
        assert set(combined["site"]) == {"chi_edge", "kvm_tacc"}

    def test_a_site_without_outputs_is_named(self, usage, done):
        said = usage("combine", "--output", done(), "--site", "chi_uc")
        assert said.status != 0
        assert "chi_uc" in said.err

    def test_nothing_to_combine(self, usage, tmp_path):
        said = usage("combine", "--output", tmp_path / "none")
        assert said.status != 0
        assert "chameleon-usage run" in said.err


COUNT = pl.col("count_type")
CORRECTED = pl.col("collector_type") == "corrected"
VALUE = pl.col("value")
FIRST = pl.col("timestamp") == pl.col("timestamp").min()


def add_to(count_type: str, amount: float) -> pl.Expr:
    chosen = CORRECTED & (count_type == COUNT) & FIRST
    return pl.when(chosen).then(VALUE + amount).otherwise(VALUE)


def uncountable(rejects: pl.DataFrame) -> pl.DataFrame:
    """Give a row that says that a lease held nodes through all times, and not how many."""
    told = {
        "stage": "corrected committed",
        "source": "blazar.leases",
        "source_row_id": "lease",
        "reason": "nobody tells how many nodes it held",
        "start": day(-1),
        "end": day(11),
        "hours": 1.0,
    }
    return pl.DataFrame([told], schema=rejects.schema, strict=False).select(rejects.columns)


TAMPERINGS = {
    "none, where nobody knows": (
        "rejects",
        lambda t: pl.concat([t, uncountable(t)]),
        "committed is 0",
    ),
    "committed above reservable": (
        "usage_timeline",
        lambda t: t.with_columns(value=add_to("committed", 100)),
        "committed",
    ),
    "a negative value": (
        "usage_timeline",
        lambda t: t.with_columns(value=add_to("stopped", -1)),
        "stopped",
    ),
    "a partition that does not add up": (
        "usage_timeline",
        lambda t: t.with_columns(value=add_to("maintenance", 1)),
        "partition",
    ),
    "a derived state that is not its formula": (
        "usage_timeline",
        lambda t: t.with_columns(value=add_to("idle", 0.5)).with_columns(
            value=add_to("available", -0.5)
        ),
        "idle",
    ),
    "NaN": (
        "usage_timeline",
        lambda t: t.with_columns(value=VALUE.fill_null(0.0) * float("nan")),
        "usage_timeline",
    ),
    "infinity": (
        "usage_by_resource",
        lambda t: t.with_columns(value=VALUE + float("inf")),
        "usage_by_resource",
    ),
    "a row twice": ("usage_timeline", lambda t: pl.concat([t, t[:1]]), "usage_timeline"),
    "a day that is missing": (
        "usage_timeline",
        lambda t: t.filter(pl.col("timestamp") != datetime(2020, 1, 5, tzinfo=UTC)),
        "usage_timeline",
    ),
    "an extra column": (
        "usage_by_node_type",
        lambda t: t.with_columns(note=pl.lit("x")),
        "note",
    ),
    "a missing column": ("leadtime_leases", lambda t: t.drop("outcome"), "outcome"),
    "an unknown count type": (
        "usage_timeline",
        lambda t: t.with_columns(COUNT.cast(pl.String).replace("idle", "lazy")),
        "usage_timeline",
    ),
    "a difference that is none": (
        "comparison",
        lambda t: t.with_columns(difference=pl.col("difference") + 1),
        "comparison",
    ),
    "a share above 1": (
        "coverage",
        lambda t: t.with_columns(known_share=pl.lit(1.5)),
        "coverage",
    ),
    "a resource that disagrees with the timeline": (
        "usage_by_resource",
        lambda t: t.with_columns(value=VALUE * 2),
        "usage_by_resource",
    ),
}


class TestCheck:
    @pytest.fixture
    def alone(self, done) -> Path:
        """Outputs of one site that nothing is wrong with."""
        out = done()
        for site in ("chi_edge", "kvm_tacc"):
            shutil.rmtree(out / site)
        return out

    def check(self, usage, out: Path):
        return usage("check", "--config", CONFIG, "--output", out)

    def test_good_outputs_pass(self, usage, done):
        out = done("--by-host", "--save-stages")
        usage("combine", "--output", out)
        said = self.check(usage, out)
        assert said.status == 0, said.err
        for site in ("chi_tacc", "kvm_tacc", "chi_edge"):
            assert site in said.out

    @pytest.mark.parametrize("what", TAMPERINGS)
    def test_tampered_outputs_fail_and_are_named(self, usage, alone, what):
        table, change, named = TAMPERINGS[what]
        path = alone / "chi_tacc" / f"{table}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)
        said = self.check(usage, alone)
        assert said.status != 0
        assert str(alone / "chi_tacc") in said.err
        assert named in said.err

    def test_a_missing_table(self, usage, alone):
        (alone / "chi_tacc" / "coverage.parquet").unlink()
        said = self.check(usage, alone)
        assert said.status != 0
        assert "coverage.parquet" in said.err
        assert "chameleon-usage run" in said.err

    def test_a_damaged_table(self, usage, alone):
        path = alone / "chi_tacc" / "comparison.parquet"
        path.write_bytes(path.read_bytes()[:100])
        said = self.check(usage, alone)
        assert said.status != 0
        assert str(path) in said.err

    def test_a_declared_gap_that_is_none(self, usage, lively_outputs, tmp_path):
        """Declared gaps are confirmed by coverage: here the source bears out every day."""
        config = tmp_path / "sites.yaml"
        text = CONFIG.read_text().replace("before: 2018-01-01", "before: 2020-01-08")
        config.write_text(text)
        call = ("--config", config, "--output", lively_outputs(), "--site", "chi_tacc")
        said = usage("check", *call)
        assert said.status != 0
        assert "nova.compute_nodes" in said.err
        assert "known_gaps" in said.err

    def test_a_site_without_outputs(self, usage, alone):
        said = usage("check", "--config", CONFIG, "--output", alone, "--site", "chi_uc")
        assert said.status != 0
        assert "chi_uc" in said.err


class TestInstalledCommand:
    def test_it_lists_its_commands(self):
        command = Path(sys.executable).with_name("chameleon-usage")
        said = called(command, "--help")
        for name in ("run", "check", "combine"):
            assert f"\n  {name} " in said

    def test_an_error_is_one_line_and_status_1(self, tmp_path):
        command = Path(sys.executable).with_name("chameleon-usage")
        said = subprocess.run(
            [command, "run", "--config", CONFIG, "--data-dir", tmp_path / "none"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 1
        assert said.stderr.startswith("Error: ")
        assert len(said.stderr.strip().splitlines()) == 1


class TestStart:
    """What a command does not use costs it no time."""

    HEAVY = ("sqlalchemy", "psycopg", "duckdb", "pymysql", "asyncmy", "fsspec", "altair", "pyarrow")

    def loaded(self, run_command, *statements: str) -> list[str]:
        told = f"print(*(name for name in {self.HEAVY} if name in sys.modules))"
        said = run_command("-c", "; ".join(("import sys", *statements, told)))
        assert said.returncode == 0, said.stderr
        return said.stdout.split()

    def test_the_command_line_loads_no_library_of_databases_or_stores(self, run_command):
        modules = ", ".join(f"chameleon_usage.cli.{name}" for name in ("run", "config", "summary"))
        assert self.loaded(run_command, f"import {modules}") == []

    def test_a_directory_takes_no_library_of_stores(self, run_command, raw, tmp_path):
        call = ["chameleon-usage", "run", "--config", CONFIG, "--data-dir", raw, *TEN_DAYS]
        call += ["--output", tmp_path, "--site", "chi_edge"]
        run = f"sys.argv = {[*map(str, call)]}; from chameleon_usage.cli import cli"
        assert self.loaded(run_command, run, "cli(standalone_mode=False)") == []
        assert (tmp_path / "chi_edge").is_dir()

    @pytest.mark.parametrize("first", ["sqlalchemy", "chameleon_usage.models.frames"])
    def test_libraries_kept_away_from_dataframely_load_before_and_after(self, run_command, first):
        loaded = self.loaded(
            run_command,
            f"import {first}",
            "import chameleon_usage.models.frames, chameleon_usage.io.export.sql, sqlalchemy",
            "assert sys.modules['sqlalchemy'] is sqlalchemy is chameleon_usage.io.export.sql.sa",
        )
        assert "sqlalchemy" in loaded

    def test_every_command_is_in_the_help(self, usage):
        said = usage("--help")
        listed = set(re.findall(r"^  ([a-z-]+)  ", said.out, re.MULTILINE)) - {"--version"}
        commands = {"check", "combine", "run", "export", "extract", "grants", "record"}
        commands |= {"init", "check-config", "summary", "forecast", "projects", "statement"}
        assert listed == commands
        for command in commands:
            assert usage(command, "--help").status == 0

    def test_an_unknown_command_is_told(self, usage):
        said = usage("exrtact")
        assert (said.status, "No such command" in said.err) == (2, True)
