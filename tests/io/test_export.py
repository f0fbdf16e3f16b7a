"""Outputs out: whole or not at all, wherever they go."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pymysql
import pytest
from frictionless import Package, system
from polars.testing import assert_frame_equal
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from chameleon_usage.errors import UsageError
from chameleon_usage.io.export import openmetrics, sql
from chameleon_usage.io.export.duckdb_file import VIEWS
from chameleon_usage.io.export.target import DASHBOARD_TABLES
from chameleon_usage.models.metrics import METRICS, PARTITION
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS
from chameleon_usage.stages import each_combined
from support.command import called
from support.sites import PROJECT

CONFIG = PROJECT / "data" / "sites.yaml"
SITES = ["chi_edge", "chi_tacc", "kvm_tacc"]
SECRET = "secret-of-the-writer"


@pytest.fixture(scope="module")
def output(lively_outputs, tmp_path_factory) -> Path:
    """Ten days of three sites."""
    return shutil.copytree(lively_outputs(), tmp_path_factory.mktemp("export") / "out")


@pytest.fixture(scope="module")
def tables(output) -> dict[str, pl.DataFrame]:
    return dict(each_combined(output, SITES))


@pytest.fixture
def export(usage, output):
    """Export these outputs, or others, to a target."""

    def call(target, *args, outputs: Path = output):
        return usage("export", "--output", outputs, "--to", target, *args)

    return call


# --- databases ------------------------------------------------------------------------------------


class Database:
    """One of the four, seen through a plain connection of its own driver."""

    def __init__(self, kind: str, request, folder: Path, monkeypatch) -> None:
        self.kind = kind
        self.reference = "${USAGE_TEST_URI}"
        if kind == "sqlite":
            self.file = folder / "usage.db"
            uri = f"sqlite:///{self.file}"
        elif kind == "mariadb":
            self.server = request.getfixturevalue("mariadb")
            self.server.sql("CREATE DATABASE usage_history")
            self.server.sql(
                f"CREATE USER reader_writer@'%' IDENTIFIED BY '{SECRET}'",
                "GRANT SELECT, INSERT, DELETE, CREATE, ALTER, DROP ON usage_history.* "
                "TO reader_writer@'%'",
            )
            uri = self.server.uri("reader_writer", SECRET) + "/usage_history"
        else:
            self.server = request.getfixturevalue("running_postgresql")
            self.server.sql("DROP DATABASE IF EXISTS usage_history WITH (FORCE)")
            self.server.sql("CREATE DATABASE usage_history")
            uri = self.server.uri() + "/usage_history"
        monkeypatch.setenv("USAGE_TEST_URI", uri)

    def connect(self):
        if self.kind == "sqlite":
            return sqlite3.connect(self.file)
        if self.kind == "postgresql":
            return self.server.connect("usage_history")
        return pymysql.connect(
            unix_socket=str(self.server.socket),
            user="root",
            database="usage_history",
            autocommit=True,
        )

    def query(self, statement: str) -> list[tuple]:
        with closing(self.connect()) as session:
            cursor = session.cursor()
            cursor.execute(statement)
            rows = list(cursor.fetchall()) if cursor.description else []
            session.commit()
            return rows

    def tables(self) -> set[str]:
        where = {
            "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
            "mariadb": "SHOW TABLES",
            "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        }[self.kind]
        return {name for (name,) in self.query(where)}

    def read(self, table: str) -> pl.DataFrame:
        """Read a table back as its contract has it: times in UTC, rows by key."""
        contract = OUTPUTS[table]
        rows = self.query(f"SELECT {', '.join(contract.column_names())} FROM {table}")
        columns = {}
        for at, (name, column) in enumerate(contract.columns().items()):
            values = [row[at] for row in rows]
            if isinstance(column.dtype, pl.Datetime):
                values = [self._utc(value) for value in values]
            columns[name] = pl.Series(name, values, dtype=column.dtype)
        return pl.DataFrame(columns).sort(contract.primary_key())

    def _utc(self, value: datetime | str) -> datetime:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


SERVERS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("mariadb", "postgresql")]


@pytest.fixture(params=["sqlite", *SERVERS])
def database(request, tmp_path, monkeypatch) -> Database:
    return Database(request.param, request, tmp_path, monkeypatch)


@pytest.fixture(params=SERVERS)
def server(request, tmp_path, monkeypatch) -> Database:
    """Those that are reached over a network."""
    return Database(request.param, request, tmp_path, monkeypatch)


class TestDatabases:
    def test_what_dashboards_ask_arrives_as_it_is(self, export, database, tables):
        said = export(database.reference)
        assert said.status == 0, said.err
        assert database.tables() == set(DASHBOARD_TABLES)
        for name in DASHBOARD_TABLES:
            expected = tables[name].sort(OUTPUTS[name].primary_key())
            assert_frame_equal(database.read(name), expected, check_exact=True)
            assert f"{name}: {expected.height:,} rows" in said.err

    def test_no_key_of_a_lease_or_of_a_row_unless_asked_for(self, export, database):
        assert not {"leadtime_leases", "rejects"} & set(DASHBOARD_TABLES)
        said = export(database.reference, "--table", "leadtime_leases")
        assert said.status == 0, said.err
        assert database.tables() == {"leadtime_leases"}

    def test_again_gives_the_same(self, export, database):
        export(database.reference)
        once = {name: database.read(name) for name in DASHBOARD_TABLES}
        assert export(database.reference).status == 0
        for name in DASHBOARD_TABLES:
            assert_frame_equal(database.read(name), once[name], check_exact=True)

    def test_rows_of_before_go_and_those_of_other_sites_stay(self, export, database, output):
        export(database.reference)
        before = database.read("leadtime_timeline")
        shorter = Path(shutil.copytree(output, database_folder(database, output) / "shorter"))
        for name in DASHBOARD_TABLES:  # a site that has none of them any more
            path = shorter / "chi_tacc" / f"{name}.parquet"
            kept = pl.read_parquet(path)[:1] if name != "leadtime_timeline" else None
            (pl.read_parquet(path)[:0] if kept is None else kept).write_parquet(path)
        said = export(database.reference, "--site", "chi_tacc", outputs=shorter)
        assert said.status == 0, said.err
        others = pl.col("site") != "chi_tacc"
        assert_frame_equal(database.read("leadtime_timeline"), before.filter(others))
        timeline = database.read("usage_timeline")
        assert timeline.filter(~others).height == 1
        assert set(timeline["site"]) == set(SITES)

    def test_rows_are_unique_and_what_is_unknown_is_null(self, export, database, tables):
        export(database.reference)
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            database.query("INSERT INTO coverage SELECT * FROM coverage")
        unknown = tables["comparison"]["legacy"].null_count()
        nulls = "SELECT count(*) FROM comparison WHERE legacy IS NULL"
        assert database.query(nulls)[0][0] == unknown > 0

    def test_a_fault_in_the_middle_changes_no_table(self, export, database, tables):
        export(database.reference)
        before = {name: database.read(name) for name in DASHBOARD_TABLES}
        usage_wide, coverage = tables["usage_wide"], tables["coverage"]
        faulty = {
            "usage_wide": usage_wide.with_columns(total=pl.lit(1e6)),
            "coverage": pl.concat([coverage, coverage[:1]]),
        }
        with pytest.raises(UsageError, match="untouched") as told:
            sql.write_sql(faulty, SITES, database.reference)
        assert SECRET not in str(told.value)
        for name in DASHBOARD_TABLES:
            assert_frame_equal(database.read(name), before[name], check_exact=True)

    def test_a_fault_at_the_first_time_leaves_no_table(self, database, tables):
        coverage = tables["coverage"]
        faulty = {
            "usage_wide": tables["usage_wide"],
            "coverage": pl.concat([coverage, coverage[:1]]),
        }
        with pytest.raises(UsageError, match="untouched"):
            sql.write_sql(faulty, SITES, database.reference)
        assert database.tables() == set()

    def test_what_a_killed_run_left_is_no_hindrance(self, export, database):
        database.query(f"CREATE TABLE usage_wide{sql.NEW} (x INT)")
        assert export(database.reference).status == 0
        assert set(DASHBOARD_TABLES) <= database.tables()

    def test_a_table_that_is_none_of_ours_is_named_and_kept(self, export, database):
        database.query("CREATE TABLE usage_timeline (site INT)")
        database.query("INSERT INTO usage_timeline VALUES (7)")
        said = export(database.reference)
        assert said.status == 1
        assert "usage_timeline" in said.err
        assert "drop or rename" in said.err
        assert database.tables() == {"usage_timeline"}
        assert database.query("SELECT * FROM usage_timeline") == [(7,)]

    def test_a_reader_never_sees_an_empty_or_a_half_table(self, export, database):
        export(database.reference)
        whole = [(database.read("usage_timeline").height,)]
        seen: list[tuple] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                with suppress(sqlite3.OperationalError):  # SQLite has readers wait
                    seen.extend(database.query("SELECT count(*) FROM usage_timeline"))

        reader = threading.Thread(target=look)
        reader.start()
        try:
            for number in range(50):  # how often it looks in a few, depends on the machine
                if number >= 3 and len(seen) > 3:
                    break
                assert export(database.reference).status == 0
        finally:
            done.set()
            reader.join()
        assert len(seen) > 3
        assert set(seen) == set(whole)


def database_folder(database: Database, output: Path) -> Path:
    folder = output.parent / f"of_{database.kind}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


class TestServers:
    def test_a_connection_that_is_cut_changes_nothing(self, export, server, tables):
        export(server.reference)
        before = server.read("usage_timeline")
        with closing(server.connect()) as holder:
            # The export waits for this row, and is then cut off.
            cursor = holder.cursor()
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM usage_timeline FOR UPDATE")
            cutter = threading.Thread(target=cut_off, args=(server,))
            cutter.start()
            said = export(server.reference)
            cutter.join()
        assert said.status == 1
        assert "untouched" in said.err
        assert SECRET not in said.err + said.out
        assert_frame_equal(server.read("usage_timeline"), before, check_exact=True)
        assert server.tables() == set(DASHBOARD_TABLES)

    def test_a_wrong_password(self, export, server, monkeypatch):
        wrong = os.environ["USAGE_TEST_URI"].replace("secret-of-the-", "wrong-")
        monkeypatch.setenv("USAGE_TEST_URI", wrong)
        said = export(server.reference)
        assert said.status == 1
        assert "password" in said.err
        assert "wrong-" not in said.err

    def test_nobody_listens(self, export, server, monkeypatch):
        uri = os.environ["USAGE_TEST_URI"].replace(f":{server.server.port}/", ":1/")
        monkeypatch.setenv("USAGE_TEST_URI", uri)
        said = export(server.reference)
        assert said.status == 1
        assert "127.0.0.1" in said.err
        assert "heck host" in said.err
        assert "secret" not in said.err

    def test_no_such_database(self, export, server, monkeypatch):
        monkeypatch.setenv("USAGE_TEST_URI", os.environ["USAGE_TEST_URI"] + "_not")
        said = export(server.reference)
        assert said.status == 1
        assert "usage_history_not" in said.err
        assert "heck" in said.err


def cut_off(server: Database) -> None:
    """End the export's connection once it waits for a lock."""
    waiting, end = {
        "mariadb": (
            "SELECT id FROM information_schema.processlist WHERE user = 'reader_writer' "
            "AND info LIKE 'DELETE%'",
            "KILL {}",
        ),
        "postgresql": (
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
            "SELECT pg_terminate_backend({})",
        ),
    }[server.kind]
    for _ in range(300):
        for (number,) in server.query(waiting):
            server.query(end.format(number))
            return
        time.sleep(0.1)


@pytest.mark.slow
class TestRights:
    def test_a_user_who_may_only_read(self, export, mariadb, monkeypatch):
        mariadb.sql(
            "CREATE DATABASE usage_history",
            f"CREATE USER reader_only@'%' IDENTIFIED BY '{SECRET}'",
            "GRANT SELECT ON usage_history.* TO reader_only@'%'",
        )
        monkeypatch.setenv("URI", mariadb.uri("reader_only", SECRET) + "/usage_history")
        said = export("${URI}")
        assert said.status == 1
        assert "INSERT, DELETE, CREATE" in said.err
        assert SECRET not in said.err

    def test_the_password_may_stand_in_an_option_file(self, export, mariadb, tmp_path):
        mariadb.sql(
            "CREATE DATABASE usage_history",
            f"CREATE USER reader_file@'%' IDENTIFIED BY '{SECRET}'",
            "GRANT ALL ON usage_history.* TO reader_file@'%'",
        )
        (tmp_path / "my.cnf").write_text(f"[client]\nuser=reader_file\npassword={SECRET}\n")
        target = f"mariadb://127.0.0.1:{mariadb.port}/usage_history"
        said = export(target, "--option-file", tmp_path / "my.cnf")
        assert said.status == 0, said.err


class TestAddresses:
    @pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
    def test_a_password_that_is_not_encoded_is_not_repeated(self, export, monkeypatch, scheme):
        monkeypatch.setenv("USAGE_URI", f"{scheme}://owner:half@{SECRET}@127.0.0.1:1/usage")
        said = export("${USAGE_URI}")
        assert (said.status, "percent-encoded" in said.err) == (1, True)
        assert SECRET not in said.err

    @pytest.mark.parametrize("scheme", ["mysql", "mariadb", "postgresql"])
    def test_a_password_on_the_command_line_is_refused(self, export, scheme):
        said = export(f"{scheme}://me:{SECRET}@127.0.0.1/usage_history")
        assert said.status == 1
        assert "environment variable" in said.err
        assert SECRET not in said.err

    def test_a_variable_that_is_not_set(self, export, monkeypatch):
        monkeypatch.delenv("USAGE_TEST_URI", raising=False)
        said = export("${USAGE_TEST_URI}")
        assert said.status == 1
        assert "USAGE_TEST_URI is not set" in said.err

    @pytest.mark.parametrize(
        "uri",
        [
            f"oracle://me:{SECRET}@host/db",
            f"postgresql://me:{SECRET}@host:port/db",
            f"postgresql://me:{SECRET}@host",
            f"mysql://me:{SECRET}@host:port/db",
            f"mysql://me:{SECRET}@127.0.0.1",
            "sqlite://",
        ],
    )
    def test_what_is_no_address_is_not_repeated(self, export, monkeypatch, uri):
        monkeypatch.setenv("USAGE_TEST_URI", uri)
        said = export("${USAGE_TEST_URI}")
        assert said.status == 1
        assert "mysql" in said.err
        assert SECRET not in said.err

    @pytest.mark.parametrize(
        "target", ["usage.xlsx", "usage", "csv:", f"mysql:/me:{SECRET}@host/x"]
    )
    def test_an_unknown_target_is_told_what_there_is(self, export, target, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        said = export(target)
        assert said.status == 1
        assert "sqlite:///" in said.err
        assert SECRET not in said.err
        assert not any(tmp_path.iterdir())

    def test_a_table_that_was_not_written_is_named(self, export, tmp_path):
        said = export(tmp_path / "a.duckdb", "--table", "usage_by_host")
        assert said.status == 1
        assert "--by-host" in said.err
        assert not any(tmp_path.iterdir())

    def test_outputs_that_are_not_there(self, export, tmp_path):
        said = export(tmp_path / "a.duckdb", outputs=tmp_path / "none")
        assert said.status == 1
        assert "chameleon-usage run" in said.err


# --- files ----------------------------------------------------------------------------------------


class TestDuckDB:
    @pytest.fixture
    def session(self, export, tmp_path):
        said = export(tmp_path / "usage.duckdb")
        assert said.status == 0, said.err
        with duckdb.connect(str(tmp_path / "usage.duckdb"), read_only=True) as session:
            session.execute("SET TimeZone = 'UTC'")
            yield session

    def test_one_file_holds_every_table_and_view(self, session, tables, tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["usage.duckdb"]
        held = {name for (name,) in session.sql("SHOW TABLES").fetchall()}
        assert held == {*(set(OUTPUTS) - OPTIONAL_OUTPUTS), *VIEWS, "metrics"}
        for name, frame in tables.items():
            found = session.sql(f"FROM {name}").pl()
            plain = frame.with_columns(pl.selectors.enum().cast(pl.String))
            assert_frame_equal(found, plain, check_exact=True)

    def test_states_add_up_to_the_total(self, session):
        states = session.sql("FROM states").pl()
        assert set(states.columns) == {"site", "timestamp", "total", *PARTITION}
        whole = states.drop_nulls()
        assert whole.height > 10
        parts = whole.select(pl.sum_horizontal(PARTITION)).to_series()
        assert (parts - whole["total"]).abs().max() < 1e-9

    def test_utilisation_divides_sums(self, session, tables):
        wide = tables["usage_wide"].filter(pl.col("resource") == "nodes")
        both = wide.drop_nulls(["committed", "reservable"])
        for site, month, utilisation in session.sql("FROM utilisation_monthly").fetchall():
            of_site = both.filter(pl.col("site") == site)
            expected = of_site["committed"].sum() / of_site["reservable"].sum()
            assert f"{month}" == "2020-01-01"
            assert utilisation == pytest.approx(expected)

    def test_lead_times_by_month(self, session, tables):
        for site, kind, _, median, moments in session.sql("FROM leadtime_monthly").fetchall():
            chosen = tables["leadtime_timeline"].filter(site=site, leadtime_type=kind)
            month = chosen.filter(pl.col("timestamp").dt.month() == _.month)
            assert (median, moments) == (pytest.approx(month["value"].median()), month.height)

    def test_the_registry_of_metrics_comes_with_it(self, session):
        rows = session.sql("SELECT count_type, definition FROM metrics").fetchall()
        assert dict(rows) == {name: metric.definition for name, metric in METRICS.items()}

    def test_an_older_file_is_replaced_whole_or_stays(self, export, tmp_path, output):
        target = tmp_path / "usage.duckdb"
        export(target)
        before = target.read_bytes()
        broken = Path(shutil.copytree(output, tmp_path / "broken"))
        (broken / "chi_tacc" / "usage_wide.parquet").write_bytes(b"PAR1")
        said = export(target, outputs=broken)
        assert said.status == 1
        assert "usage_wide.parquet" in said.err
        assert target.read_bytes() == before
        assert export(target, "--table", "coverage").status == 0
        with duckdb.connect(str(target), read_only=True) as session:
            assert {name for (name,) in session.sql("SHOW TABLES").fetchall()} == {
                "coverage",
                "metrics",
            }


class TestOpenMetrics:
    @pytest.fixture
    def text(self, export, tmp_path) -> str:
        said = export(tmp_path / "usage.om")
        assert said.status == 0, said.err
        assert [path.name for path in tmp_path.iterdir()] == ["usage.om"]
        return (tmp_path / "usage.om").read_text()

    def test_every_value_that_is_known_is_a_sample(self, text, tables):
        samples = {
            family.name: [(s.labels, s.value, s.timestamp) for s in family.samples]
            for family in text_string_to_metric_families(text)
        }
        usage = tables["usage_by_resource"].filter(
            pl.col("value").is_not_null(), pl.col("resource") == "nodes"
        )
        expected = {
            (*row[:3], row[3], row[4])
            for row in usage.select(
                *("site", "collector_type", "count_type", "value"),
                pl.col("timestamp").dt.epoch("s"),
            ).iter_rows()
        }
        found = {
            (labels["site"], labels["collector_type"], labels["count_type"], value, float(stamp))
            for labels, value, stamp in samples["chameleon_usage_nodes"]
        }
        assert found == expected
        known = tables["coverage"]["known_share"].count()
        assert len(samples["chameleon_coverage_ratio"]) == known
        assert len(samples["chameleon_leadtime_hours"]) == tables["leadtime_timeline"].height

    def test_a_series_stands_together_in_order_of_time(self, text):
        series = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        names = [line.rpartition(" ")[0] for line, _, _ in series]
        stamps = [int(stamp) for _, _, stamp in series]
        blocks = [at for at, name in enumerate(names) if at == 0 or name != names[at - 1]]
        assert len(blocks) == len(set(names))
        for begin, end in zip(blocks, [*blocks[1:], len(names)], strict=True):
            assert stamps[begin:end] == sorted(set(stamps[begin:end]))

    def test_names_that_need_escaping(self, tmp_path):
        odd = 'a "b"\\c\nd'
        coverage = OUTPUTS["coverage"].validate(
            pl.DataFrame(
                {
                    "site": [odd],
                    "timestamp": [datetime(2020, 1, 1, tzinfo=UTC)],
                    "source": ["s"],
                    "quantity_type": ["total"],
                    "known_share": [0.5],
                },
                schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
            )
        )
        openmetrics.write_openmetrics({"coverage": coverage}, tmp_path / "x.om")
        (family,) = text_string_to_metric_families((tmp_path / "x.om").read_text())
        assert family.samples[0].labels["site"] == odd

    def test_a_table_that_is_no_metric_is_named(self, export, tmp_path):
        said = export(tmp_path / "usage.om", "--table", "usage_timeline", "--table", "coverage")
        assert said.status == 1
        assert said.err.startswith("Error: usage_timeline cannot")
        assert not any(tmp_path.iterdir())

    def test_it_ends_as_the_format_asks(self, text):
        assert text.endswith("\n# EOF\n")

    @pytest.mark.slow
    def test_promtool_makes_blocks_of_it(self, export, tmp_path, text, tables):
        promtool = shutil.which("promtool") or pytest.skip(
            "no promtool (apt-get install prometheus)"
        )
        call = [promtool, "tsdb", "create-blocks-from", "openmetrics"]
        call += ["--max-block-duration=8760h", str(tmp_path / "usage.om"), str(tmp_path / "tsdb")]
        called(*call)
        metas = [json.loads(path.read_text()) for path in (tmp_path / "tsdb").glob("*/meta.json")]
        lines = sum(not line.startswith("#") for line in text.splitlines())
        assert sum(meta["stats"]["numSamples"] for meta in metas) == lines


class TestPackages:
    @pytest.mark.parametrize("form", ["csv", "json"])
    def test_it_is_valid_by_its_own_description(self, export, tmp_path, tables, form):
        said = export(f"{form}:{tmp_path / 'published'}")
        assert said.status == 0, said.err
        files = {path.name for path in (tmp_path / "published").iterdir()}
        assert files == {"datapackage.json", *(f"{name}.{form}" for name in tables)}
        path = tmp_path / "published" / "datapackage.json"
        description = json.loads(path.read_text())
        for resource in description["resources"]:
            content = (path.parent / resource["path"]).read_bytes()
            assert resource["hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert resource["bytes"] == len(content)
            if form == "json":  # of which Frictionless counts no bytes
                del resource["hash"], resource["bytes"]
        path.write_text(json.dumps(description))
        with system.use_context(trusted=True):
            report = Package(str(path)).validate()
        assert report.valid, report.flatten(["name", "note"])
        for task in report.tasks:
            assert task.stats["rows"] == tables[task.name].height, task.name

    def test_the_description_is_the_contract(self, export, tmp_path, tables):
        export(f"csv:{tmp_path / 'published'}")
        description = json.loads((tmp_path / "published" / "datapackage.json").read_text())
        for resource in description["resources"]:
            schema, contract = resource["schema"], OUTPUTS[resource["name"]]
            names = [field["name"] for field in schema["fields"]]
            assert names == tables[resource["name"]].columns
            if "site" in contract.column_names():
                assert schema.get("primaryKey", []) == contract.primary_key()
        (timeline,) = [r for r in description["resources"] if r["name"] == "usage_timeline"]
        fields = {field["name"]: field for field in timeline["schema"]["fields"]}
        assert fields["count_type"]["constraints"]["enum"] == list(METRICS)
        assert fields["timestamp"]["type"] == "datetime"
        assert fields["value"] == {"name": "value", "type": "number"}

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda text: text.replace(",corrected,", ",crooked,", 1), "constraint-error"),
            (lambda text: text.replace("T00:00:00Z", "", 1), "type-error"),
            (lambda text: text + text.splitlines()[1] + "\n", "primary-key"),
            (lambda text: text.replace("timestamp", "moment", 1), "incorrect-label"),
        ],
    )
    def test_what_breaks_the_contract_is_found(self, export, tmp_path, change, fault):
        export(f"csv:{tmp_path / 'published'}", "--table", "usage_timeline")
        path = tmp_path / "published" / "usage_timeline.csv"
        path.write_text(change(path.read_text()))
        with system.use_context(trusted=True):
            report = Package(str(tmp_path / "published" / "datapackage.json")).validate()
        assert fault in {kind for (kind,) in report.flatten(["type"])}

    def test_the_same_outputs_give_the_same_bytes(self, export, tmp_path):
        for name in ("one", "two"):
            export(f"csv:{tmp_path / name}")
        for path in (tmp_path / "one").iterdir():
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()

    def test_a_directory_that_no_export_wrote_is_left_alone(self, export, tmp_path, output):
        before = sorted(output.rglob("*"))
        said = export(f"csv:{output}")
        assert said.status == 1
        assert "new or empty directory" in said.err
        assert sorted(output.rglob("*")) == before
        assert export(f"csv:{tmp_path / 'new'}").status == 0
        assert export(f"json:{tmp_path / 'new'}", "--table", "coverage").status == 0
        assert {path.name for path in (tmp_path / "new").iterdir()} == {
            "coverage.json",
            "datapackage.json",
        }
        (tmp_path / "new" / "notes.txt").write_text("of someone")
        assert export(f"csv:{tmp_path / 'new'}").status == 1
        assert (tmp_path / "new" / "notes.txt").read_text() == "of someone"


@pytest.mark.parametrize("target", ["a.duckdb", "a.om", "csv:a", "sqlite:///{}/a.db"])
def test_a_place_that_cannot_be_written_is_named(export, tmp_path, target):
    (tmp_path / "file").write_text("in the way")
    place = f"{tmp_path}/file"
    scheme, colon, _ = target.partition(":")
    said = export(
        target.format(place)
        if "{}" in target
        else f"{scheme}:{place}/a"
        if colon
        else f"{place}/{target}"
    )
    assert said.status == 1
    assert str(place) in said.err
    assert (tmp_path / "file").read_text() == "in the way"


PAGE = (PROJECT / "book" / "dashboards.md").read_text()
SHOWN = [
    line for block in re.findall(r"(?ms)^```bash\n(.*?)^```$", PAGE) for line in block.splitlines()
]


class TestThePage:
    """What the chapter shows runs as it stands."""

    @pytest.fixture
    def nightly(self, lively_outputs):
        """What the night's run writes, with the options that it is shown with."""
        [run] = [line for line in SHOWN if " run " in line and "--output nightly" in line]
        return lively_outputs(*(name for name in ("--by-project",) if name in run))

    @pytest.mark.parametrize("line", [line for line in SHOWN if " export " in line])
    def test_every_export_that_is_shown(self, usage, nightly, tmp_path, monkeypatch, line):
        for name in ("output", "nightly"):
            (tmp_path / name).symlink_to(nightly)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("USAGE_DB_URI", "sqlite:///usage.db")
        said = usage(*(word.strip("'") for word in line.split()[1:]))
        assert said.status == 0, said.err
        assert len(list(tmp_path.iterdir())) == 3

    def test_every_target_is_told(self):
        for target in ("mysql://", "mariadb://", "postgresql://", "sqlite:///", ".duckdb", ".om"):
            assert target in PAGE
        assert all(name in PAGE for name in (*VIEWS, *DASHBOARD_TABLES))

    def test_the_files_that_are_named_are_there(self):
        for name in re.findall(r"dashboards/(?:grafana|kpireport)[\w./]*", PAGE):
            assert (PROJECT / name).exists(), name

    def test_the_options_that_are_shown_exist(self, usage):
        for line in SHOWN:
            if line.startswith("chameleon-usage "):
                command = line.split()[1]
                help_text = usage(command, "--help").out
                assert all(o in help_text for o in re.findall(r"--[a-z-]+", line)), line
