"""An operator's first quarter of an hour: what is covered, what is refused, what is said."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date, timedelta

import polars as pl
import pytest
import yaml

from chameleon_usage import pipeline, runs
from chameleon_usage.errors import UsageError
from chameleon_usage.io import survey
from chameleon_usage.io.files import claimed
from chameleon_usage.models.metrics import PARTITION
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.usage.buckets import Period, Window
from chameleon_usage.usage.summary import rejects_within
from support.sites import DAY0, DAYS, PROJECT, TEN_DAYS, TinySite, day, lively

CONFIG = PROJECT / "data" / "sites.yaml"
DAY, FIRST = timedelta(days=1), day(-20)


@pytest.fixture
def raw(tmp_path):
    """A site of one host since day 1, a lease of days 2 to 5; read on day 8 at noon.

    Another host was there for a day, 20 days before.
    """
    little_site().write(tmp_path / "raw")
    return tmp_path / "raw"


def little_site() -> TinySite:
    site = TinySite(as_of=8.5)
    site.host(start=1)
    site.lease("L", 2, 6, ["b-h1"])
    site.instance("I", "h1", 3, 5, lease="L")
    return site


@pytest.fixture
def run(usage, raw, tmp_path):
    def call(*args, output=tmp_path / "out"):
        place = ("--data-dir", raw, "--output", output, "--site", "chi_tacc")
        return usage("run", "--config", CONFIG, *place, *args)

    return call


def timeline(folder):
    return pl.read_parquet(folder / "out" / "chi_tacc" / "usage_timeline.parquet")


class TestWindow:
    def test_by_default_it_is_what_the_tables_cover(self, run, tmp_path):
        said = run()
        assert said.status == 0, said.err
        days = timeline(tmp_path)["timestamp"].dt.date().unique().sort()
        # From the first row on; the day on which the tables were read was not over.
        assert days.to_list() == [date(2019, 12, 12) + n * DAY for n in range(28)]
        assert "2019-12-12 to 2020-01-09" in said.err

    @pytest.mark.parametrize(
        ("asked", "window"),
        [
            (("--start", "2020-01-04"), (day(3), day(8))),
            (("--end", "2020-01-04"), (FIRST, day(3))),
            (("--end", "2020-02-01"), (FIRST, day(31))),
            (("--bucket", "1h"), (FIRST, day(8.5))),
        ],
    )
    def test_what_is_given_holds_and_the_rest_follows_the_tables(
        self, run, tmp_path, asked, window
    ):
        assert run(*asked).status == 0
        stamps = timeline(tmp_path)["timestamp"].unique().sort().dt.replace_time_zone(None)
        assert (stamps[0], stamps[-1] + (stamps[1] - stamps[0])) == window

    def test_long_buckets_begin_with_the_calendars_and_are_whole(self):
        stage = lively("chi_tacc").stage
        window = pipeline.window_of(stage, Period(bucket="1mo"))
        assert (f"{window.start:%F}", f"{window.end:%F}") == ("2019-12-01", "2020-01-01")
        with pytest.raises(UsageError, match=r"before a bucket of 1y from 2020-01-01 on is over"):
            pipeline.window_of(stage, Period(start=DAY0, bucket="1y"))

    @pytest.mark.parametrize("more", [(), ("--end", "2021-01-01")])
    def test_after_the_last_date_is_an_error_that_names_it(self, run, tmp_path, more):
        said = run("--start", "2020-06-01", *more)
        assert said.status == 1
        assert "2020-01-09 12:00:00" in said.err
        assert not (tmp_path / "out" / "chi_tacc").exists()

    def test_before_the_first_date_is_an_error_that_names_it(self, run):
        said = run("--start", "2010-01-01", "--end", "2011-01-01")
        assert (said.status, "2019-12-12" in said.err) == (1, True)

    def test_nothing_is_covered_after_the_last_date(self, run, tmp_path):
        run("--start", "2020-01-01", "--end", "2020-02-01")
        coverage = pl.read_parquet(tmp_path / "out" / "chi_tacc" / "coverage.parquet")
        known = coverage.filter(pl.col("known_share") > 0)
        assert known["timestamp"].max().replace(tzinfo=None) == day(7)
        assert coverage["timestamp"].max().replace(tzinfo=None) == day(7)

    def test_the_papers_years_stay_as_they_were(self):
        makefile = (PROJECT / "Makefile").read_text()
        assert "WINDOW := $(if $(IS_TWIN),--start 2016-01-01 --end 2026-01-01)" in makefile


class TestWhatIsSaid:
    def test_counts_are_of_the_window(self, run):
        every, part = run(), run("--start", "2020-01-05", "--end", "2020-01-07")
        assert "2 leases" in every.err
        assert "0 leases" in part.err

    def test_hours_refused_are_cut_to_the_period(self):
        kind = pl.Datetime("us")
        rows = pl.DataFrame(
            {
                "start": [day(0), day(4), day(8), None, day(5)],
                "end": [day(2), day(8), day(9), None, day(5)],
                "hours": [48.0, 96.0, 24.0, None, 0.0],
            },
            schema={"start": kind, "end": kind, "hours": pl.Float64},
        )
        found = rejects_within(rows, day(5), day(7))
        assert found["hours"].to_list() == [48.0, None, 0.0]

    def test_an_adapter_left_out_is_a_warning_of_its_own(self, run, raw):
        (raw / "chi_tacc" / "nova.instances.parquet").unlink()
        assert run().status == 1
        said = run("--skip-missing", "--quiet")
        assert said.status == 0
        [warning] = said.err.splitlines()
        assert "WARNING: adapter nova_instances is left out" in warning
        assert "nova.instances" in warning
        assert "active, occupied" in warning

    def test_quiet_says_nothing_where_all_is_well(self, run, usage, tmp_path):
        assert run("--quiet", "--start", "2020-01-02").err == ""
        said = usage("check", "--config", CONFIG, "--output", tmp_path / "out", "-q")
        assert (said.status, said.out, said.err) == (0, "", "")

    def test_the_version_is_that_of_the_package(self, usage):
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
        assert usage("--version").out == f"chameleon-usage {project['version']}\n"

    def test_exit_codes_are_told_and_hold(self, usage, tmp_path):
        told = dict(re.findall(r"^ +(\d)  (.+)$", usage("--help").out, re.MULTILINE))
        assert set(told) == {"0", "1", "2"}
        assert usage("run", "--no-such-option").status == 2
        assert usage("check", "--config", CONFIG, "--output", tmp_path / "none").status == 1

    def test_prometheus_is_told_how_long_its_blocks_are(self, usage):
        assert "--max-block-duration" in usage("export", "--help").out


class TestAdvice:
    def test_absent_outputs_are_run_and_not_made(self, usage, tmp_path):
        for call in (
            ("check",),
            ("check", "--site", "chi_tacc"),
            *(("run", "--from", stage) for stage in runs.SAVED_STAGES),
            *(("run", "--from", stage, "--site", "chi_tacc") for stage in runs.SAVED_STAGES),
        ):
            said = usage(*call, "--config", CONFIG, "--output", tmp_path / "none")
            assert said.status == 1
            assert "chameleon-usage run" in said.err, call
            assert "make data" not in said.err, call

    def test_without_a_configuration_the_option_is_named(self, usage, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        said = usage("run", "--data-dir", tmp_path)
        assert said.status == 1
        assert "--config" in said.err
        assert "chameleon-usage init" in said.err

    def test_a_configuration_here_is_found(self, usage, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "sites.yaml").write_text("here: {adapters: [nova_hosts]}")
        assert usage("check-config").out.startswith("sites.yaml: here")


class TestOneRunAtATime:
    def test_a_directory_that_another_run_has_is_refused(self, run, tmp_path):
        with claimed(tmp_path / "out" / "chi_tacc"):
            said = run()
            assert said.status == 1
            assert "another run" in said.err
        assert run().status == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["chi_tacc"]

    def test_sites_do_not_stand_in_each_others_way(self, run, tmp_path):
        with claimed(tmp_path / "out" / "chi_uc"):
            assert run().status == 0

    def test_what_a_killed_run_left_keeps_nobody_away(self, run, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / ".chi_tacc.lock").touch()
        assert run().status == 0

    def test_a_directory_that_cannot_be_written_is_found_before_anything_is_read(
        self, run, tmp_path, monkeypatch
    ):
        (tmp_path / "file").write_text("no directory")
        monkeypatch.setattr(pipeline, "facts", lambda *_, **__: pytest.fail("it was read"))
        said = run(output=tmp_path / "file")
        assert said.status == 1
        assert f"{tmp_path}/file/chi_tacc: cannot be written" in said.err


ENTRY = """
good: {adapters: [nova_hosts]}
one: {adapters: [nova_host]}
two: {adapters: [nova_hosts], merge_tolerence: 15m}
three: {adapters: [nova_hosts], sources: {totl: {policy: gap-fill, order: [nova.compute_nodes]}}}
four: {adapters: [nova_hosts], sources: {total: {policy: gapfill, order: [nova.compute_nodes]}}}
five: {adapters: [nova_hosts], sources: {total: {policy: gap-fill, order: [nova.compute_node]}}}
six: {adapters: [nova_hosts], known_gaps: [{source: blazar.computehost, before: 2018-01-01}]}
seven: {adapters: [nova_hosts], files: {nova.service: a.csv}}
eight: {adapters: [nova_hosts], sources: {total: {policy: gap-fill, order: [blazar.devices]}}}
"""
NEAREST = {
    "one": "nova_hosts",
    "two": "merge_tolerance",
    "three": "total",
    "four": "gap-fill",
    "five": "nova.compute_nodes",
    "six": "blazar.computehosts",
    "seven": "nova.services",
}


class TestCheckConfig:
    def test_the_projects_own_is_good(self, usage):
        said = usage("check-config", CONFIG)
        assert said.status == 0, said.err

    def test_every_mistake_is_told_with_the_nearest_right_name(self, usage, tmp_path):
        path = tmp_path / "sites.yaml"
        path.write_text(ENTRY)
        said = usage("check-config", "--config", path)
        assert said.status == 1
        lines = said.err.splitlines()
        for key, name in NEAREST.items():
            [line] = [line for line in lines if f"site {key}: " in line]
            assert f"(did you mean {name}?)" in line
        [line] = [line for line in lines if "site eight: " in line and "WARNING" not in line]
        assert "names no table that its adapters read" in line
        assert "8 of 9 sites" in lines[-1]

    def test_a_variable_is_named_and_its_value_never_shown(self, usage, tmp_path, monkeypatch):
        path = tmp_path / "sites.yaml"
        path.write_text("one: {adapters: [nova_hosts], db_uri: '${ONE_URI}'}")
        monkeypatch.delenv("ONE_URI", raising=False)
        said = usage("check-config", path)
        assert said.status == 0
        assert "ONE_URI is not set" in said.err
        monkeypatch.setenv("ONE_URI", "mysql://u:hush@h")
        said = usage("check-config", path)
        assert said.err == ""
        assert "hush" not in said.out

    def test_a_source_that_no_adapter_reads_is_a_warning(self, usage, tmp_path):
        path = tmp_path / "sites.yaml"
        order = "{total: {policy: gap-fill, order: [nova.compute_nodes, blazar.devices]}}"
        path.write_text(f"one: {{adapters: [nova_hosts], sources: {order}}}")
        said = usage("check-config", path)
        assert said.status == 0
        assert "no adapter of the site reads blazar.devices" in said.err

    @pytest.mark.parametrize("text", ["", "a: [", "- a"])
    def test_what_is_no_configuration_is_told(self, usage, tmp_path, text):
        path = tmp_path / "sites.yaml"
        path.write_text(text)
        said = usage("check-config", path)
        assert (said.status, str(path) in said.err) == (1, True)


class TestSummary:
    @pytest.fixture
    def summed(self, ran, usage):
        out = ran("summed", little_site, "--start", "2020-01-02")

        def call(*args):
            return usage("summary", "--output", out, "--site", "chi_tacc", *args)

        return call

    def test_node_hours_are_those_of_the_site(self, summed):
        found = json.loads(summed("--json").out)
        assert (found["start"], found["end"]) == ("2020-01-02T00:00:00", "2020-01-09T00:00:00")
        hours = {name: state["node_hours"] for name, state in found["states"].items()}
        assert hours["total"] == 7 * 24
        assert hours["available"] == 3 * 24
        assert hours["idle"] == 2 * 24
        assert hours["occupied"] == 2 * 24
        assert sum(hours[name] for name in PARTITION) == hours["total"]
        assert found["states"]["idle"]["share"] == 2 / 7
        assert found["ratios"] == {"committed/reservable": 4 / 7, "occupied/total": 2 / 7}
        assert found["leases"] == 1
        [busiest] = found["node_types"]
        assert busiest["share"] == 2 / 7
        assert found["coverage"]["total"]["seen"] == 1.0
        assert len(found["curve"]) == 7

    def test_a_period_is_cut_out(self, summed):
        found = json.loads(summed("--json", "--start", "2020-01-04", "--end", "2020-01-06").out)
        assert found["states"]["occupied"]["node_hours"] == 48
        assert found["states"]["total"]["node_hours"] == 48
        assert found["leases"] == 0

    def test_what_is_not_known_is_no_zero(self, run, usage, tmp_path):
        run("--start", "2020-01-02", "--end", "2020-01-20")
        call = ("summary", "--output", tmp_path / "out", "--site", "chi_tacc", "--json")
        found = json.loads(usage(*call).out)
        assert found["states"]["total"]["known_share"] == pytest.approx(7 / 18)
        assert found["curve"][-1]["share"] is None
        said = usage(*call, "--start", "2020-01-12")
        assert said.status == 1
        assert "2020-01-08" in said.err

    def test_node_types_whose_use_is_unknown_are_not_idle(self, summed, tmp_path):
        path = tmp_path / "out" / "chi_tacc" / "usage_by_node_type.parquet"
        rows = pl.read_parquet(path)
        lost = pl.col("count_type").cast(pl.String).str.starts_with("occupied")
        known = rows.filter(~lost | (pl.col("timestamp").dt.day() == 4))
        known.write_parquet(path)
        [part] = json.loads(summed("--json").out)["node_types"]
        assert (part["occupied_node_hours"], part["share"]) == (24, 1.0)
        rows.filter(~lost).write_parquet(path)
        [none] = json.loads(summed("--json").out)["node_types"]
        assert (none["node_hours"], none["occupied_node_hours"], none["share"]) == (168, None, None)
        said = summed().out
        table = said[said.index("Busiest node types") :].splitlines()
        assert "occupied / total" in table[0]
        assert table[1].split()[-2:] == ["168", "unknown"]

    @pytest.mark.parametrize("years", [("2030-01-01", "2031-01-01"), ("2001-01-01", "2002-01-01")])
    def test_another_time_is_an_error_that_names_what_is_there(self, summed, years):
        said = summed("--start", years[0], "--end", years[1])
        assert said.status == 1
        assert "2020-01-02" in said.err
        assert "2020-01-09" in said.err

    def test_on_the_terminal_are_a_table_and_a_chart(self, summed):
        said = summed()
        assert said.status == 0, said.err
        for text in ("168", "28.6 %", "Busiest node types", "Coverage", "Rejects", "|"):
            assert text in said.out
        [curve] = re.findall(r"^\|(.*)\|$", said.out, re.MULTILINE)
        assert curve == "  ██   "

    def test_rejects_are_by_reason(self, lively_outputs, usage):
        out = lively_outputs()
        found = json.loads(usage("summary", "--output", out, "--site", "chi_tacc", "--json").out)
        table = rejects_within(
            pl.read_parquet(out / "chi_tacc" / "rejects.parquet"), DAY0, day(DAYS)
        )
        counted = table.filter(~pl.col("stage").cast(pl.String).str.starts_with("uncorrected"))
        assert sum(row["rows"] for row in found["rejects"]) == counted.height > 0
        hours = sum(row["hours"] for row in found["rejects"])
        assert hours == pytest.approx(counted["hours"].sum())

    @pytest.mark.parametrize(("bucket", "total"), [("1h", 240.0), ("5d", 240.0), ("1mo", None)])
    def test_buckets_of_any_length(self, lively_raw, usage, tmp_path, bucket, total):
        place = ("--output", tmp_path, "--site", "chi_edge")
        call = ("run", "--config", CONFIG, "--data-dir", lively_raw, *place, *TEN_DAYS)
        assert usage(*call, "--bucket", bucket).status == 0
        said = usage("summary", *place, "--json")
        if total is None:
            assert (said.status, "one bucket" in said.err) == (1, True)
        else:
            found = json.loads(said.out)["states"]
            assert found["total"]["node_hours"] == pytest.approx(total * nodes_of("chi_edge"))

    def test_a_site_without_outputs(self, usage, tmp_path):
        said = usage("summary", "--output", tmp_path, "--site", "chi_tacc")
        assert (said.status, "chameleon-usage run" in said.err) == (1, True)


def nodes_of(key: str) -> float:
    site = lively(key)
    table = pipeline.outputs(site.stage, site.site, Window(DAY0, day(DAYS), "10d"))
    rows = table["usage_timeline"].filter(collector_type="corrected", count_type="total")
    return rows["value"].item()


class FakeServer:
    """Answers as a database would that holds these tables: name to rows, first and last date."""

    def __init__(self, tables, revisions=()) -> None:
        self.tables, self.told = tables, dict(revisions)

    def version(self) -> str:
        return "10.11.6-MariaDB"

    def columns(self):
        found = {}
        for place in self.tables:
            name = re.sub(r"^(nova_cell\d|c2)\b", "nova", place)
            spec = RAW_TABLES.get(name)
            found[place] = {*spec.required, *spec.optional} if spec else {"id"}
        return found | {table: {column} for table, (column, _) in self.told.items()}

    def revisions(self, table, column):
        assert self.told[table][0] == column
        return [self.told[table][1]]

    def extent(self, table, times):
        return self.tables[table]


ROWS = (7, "2019-05-01", "2026-03-01")
NOVA = ("compute_nodes", "services", "instances", "instance_actions", "instance_actions_events")
BLAZAR = ("leases", "reservations", "computehosts", "computehost_allocations")
CLOUD = {
    **{f"nova.{table}": ROWS for table in NOVA},
    **{f"blazar.{table}": ROWS for table in BLAZAR},
    "nova_api.request_specs": ROWS,
}


def entry_of(tables, revisions=()) -> str:
    return survey.write_entry(survey.survey(FakeServer(tables, revisions)), "mine", "MINE_DB_URI")


class TestInit:
    def test_a_cloud_with_leases(self):
        told = {
            "nova.alembic_version": ("version_num", "960aac0e09ea"),
            "blazar.alembic_version": ("version_num", "553383923ca0"),
        }
        text = entry_of(CLOUD, told)
        entry = yaml.safe_load(text)["mine"]
        assert entry["db_uri"] == "${MINE_DB_URI}"
        assert set(entry["adapters"]) == {
            *("nova_hosts", "nova_instances", "status"),
            *("blazar_hosts", "blazar_allocations", "blazar_leases"),
        }
        assert entry["sources"]["total"]["order"] == [
            *("nova.compute_nodes", "nova.services", "witnesses"),
        ]
        assert entry["sources"]["committed"]["order"] == [
            *("blazar.computehost_allocations", "blazar.leases"),
        ]
        assert "# nova: release 2023.1 (revision 960aac0e09ea)" in text
        assert "# blazar: release 2024.1 or later" in text
        assert "compute_nodes: 7 rows, 2019-05-01 to 2026-03-01" in text
        assert "zun" in text.split("Not there")[1].splitlines()[0]

    def test_what_it_writes_passes_its_own_check(self, usage, tmp_path, monkeypatch):
        monkeypatch.setenv("MINE_DB_URI", "mysql://u@h")
        (tmp_path / "sites.yaml").write_text(entry_of(CLOUD))
        said = usage("check-config", tmp_path / "sites.yaml")
        assert (said.status, said.err) == (0, "")

    def test_a_cloud_without_leases(self):
        text = entry_of({name: rows for name, rows in CLOUD.items() if "blazar" not in name})
        entry = yaml.safe_load(text)["mine"]
        assert set(entry["adapters"]) == {"nova_hosts", "nova_instances", "status"}
        assert "committed" not in entry["sources"]
        assert "# committed: nothing here tells of it" in text
        assert "# - blazar_hosts: no blazar.computehosts" in text

    def test_an_empty_table_makes_no_adapter(self):
        text = entry_of(CLOUD | {"blazar.computehosts": (0, "", "")})
        assert "blazar_hosts" not in yaml.safe_load(text)["mine"]["adapters"]
        assert "# - blazar_hosts: no rows" in text

    def test_a_table_that_may_not_be_read_is_told(self):
        assert "leases: cannot be read" in entry_of(CLOUD | {"blazar.leases": None})

    def test_cells_are_one_site(self):
        cells = {
            f"nova_cell{n}.{table}": (rows, f"20{18 + n}-01-01", "2026-01-01")
            for n, rows in ((0, 0), (1, 5), (2, 6))
            for table in NOVA
        }
        entry = yaml.safe_load(entry_of(cells))["mine"]
        assert entry["cells"] == ["nova_cell0", "nova_cell1", "nova_cell2"]
        assert set(entry["adapters"]) == {"nova_hosts", "nova_instances", "status"}
        assert "cells" not in yaml.safe_load(entry_of(CLOUD))["mine"]

    def test_a_cell_of_another_name_is_told(self):
        cells = {
            f"{cell}.{table}": (5, "2020-01-01", "") for cell in ("nova", "c2") for table in NOVA
        }
        text = entry_of(cells)
        assert "dump its tables as nova_c2.<table>.parquet" in text
        assert "cells" not in yaml.safe_load(text)["mine"]

    @pytest.mark.parametrize(
        ("told", "release"),
        [
            ({"nova.migrate_version": ("version", "402")}, "Wallaby or older (migration 402)"),
            ({"nova.alembic_version": ("version_num", "f00")}, "unknown to this program"),
            ({}, "release not told"),
        ],
    )
    def test_releases_are_guessed_or_not_told(self, told, release):
        assert release in entry_of(CLOUD, told)

    def test_hosts_that_begin_late_are_proposed_as_a_gap_and_not_declared(self):
        late = CLOUD | {"nova.compute_nodes": (3, "2021-01-01", "2026-01-01")}
        text = entry_of(late)
        assert "#   - {source: nova.compute_nodes, before: 2021-01-01}" in text
        assert "known_gaps" not in yaml.safe_load(text)["mine"]
        assert "known_gaps" not in entry_of(CLOUD)

    def test_a_file_that_is_there_stays(self, usage, tmp_path):
        (tmp_path / "sites.yaml").write_text("mine")
        call = ("init", "--db-uri", "mysql://u@127.0.0.1:9", "--output", tmp_path / "sites.yaml")
        said = usage(*call)
        assert (said.status, "is there already" in said.err) == (1, True)
        assert (tmp_path / "sites.yaml").read_text() == "mine"

    def test_a_password_on_the_command_line_is_refused(self, usage, tmp_path):
        said = usage("init", "--db-uri", "mysql://u:hush@h", "--output", tmp_path / "s.yaml")
        assert said.status == 1
        assert "hush" not in said.err


@pytest.mark.slow
class TestInitOfAServer:
    def test_from_a_database_to_a_summary(
        self, mariadb, usage, decayed_twin, tmp_path, monkeypatch
    ):
        """The whole quarter of an hour, with nothing but what the commands say."""
        monkeypatch.chdir(tmp_path)
        mariadb.fill(decayed_twin / "chi_uc", real_schema=True)
        mariadb.sql(
            "CREATE USER reader@localhost IDENTIFIED BY 'secret-of-the-reader'",
            "GRANT SELECT ON *.* TO reader@localhost",
        )
        monkeypatch.setenv("MINE_URI", mariadb.uri())
        said = usage("init", "--db-uri", "${MINE_URI}", "--site", "mine")
        assert said.status == 0, said.err
        text = (tmp_path / "sites.yaml").read_text()
        assert "secret-of" not in text
        entry = yaml.safe_load(text)["mine"]
        assert entry["db_uri"] == "${MINE_URI}"
        wanted = {"nova_hosts", "nova_instances", "blazar_hosts", "blazar_allocations", "legacy"}
        assert wanted <= set(entry["adapters"])
        rows = pl.read_parquet(decayed_twin / "chi_uc" / "nova.instances.parquet")
        assert f"instances: {rows.height:,} rows, " in text
        assert said.err.rstrip().endswith("check-config sites.yaml")
        for call in (
            ("check-config", "sites.yaml"),
            ("extract", "--site", "mine"),
            ("run", "--site", "mine", "--data-dir", "data/extracted"),
            ("check",),
            ("summary", "--site", "mine"),
        ):
            said = usage(*call)
            assert said.status == 0, said.err
        assert "Busiest node types" in said.out

    def test_an_account_that_sees_nothing_is_told(self, mariadb, usage, tmp_path, monkeypatch):
        mariadb.sql("CREATE USER reader@localhost IDENTIFIED BY 'secret-of-the-reader'")
        monkeypatch.setenv("MINE_URI", mariadb.uri())
        said = usage("init", "--db-uri", "${MINE_URI}", "--output", tmp_path / "sites.yaml")
        assert said.status == 1
        assert "no table that an adapter could read" in said.err
        assert not (tmp_path / "sites.yaml").exists()
