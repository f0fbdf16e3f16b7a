"""Extraction from a real MariaDB: what is granted, what is read, and what goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pymysql
import pytest
from tqdm import tqdm

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.io import columns, snapshot
from chameleon_usage.io.columns import content
from chameleon_usage.io.databases import parse, resolve
from chameleon_usage.io.grants import Wanted, wanted
from chameleon_usage.models.raw import FILES_ONLY, RAW_TABLES
from chameleon_usage.models.site import Site
from chameleon_usage.snapshots import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.command import Said
    from support.mariadb import MariaDB

pytestmark = pytest.mark.slow

PASSWORD = "secret-of-the-reader"
HOSTS, SERVICES = "nova.compute_nodes", "nova.services"
PUBLISHED = {"grants": (), "extract": ("--db-uri", "mysql://localhost")}
TINY = "tiny: {name: Tiny, adapters: [nova_hosts], db_uri: '${TINY_DB_URI}'}"


class Tiny:
    """A site with two tables, one of which its adapter cannot do without, and an account."""

    def __init__(self, server: MariaDB, usage, root: Path, monkeypatch) -> None:
        self.server, self.usage, self.root = server, usage, root
        self.config = root / "sites.yaml"
        self.config.write_text(TINY)
        self.out = root / "data"
        server.sql(
            "CREATE DATABASE nova",
            "CREATE TABLE nova.compute_nodes (id int PRIMARY KEY, created_at datetime, "
            "deleted_at datetime, vcpus int, memory_mb int, local_gb int, "
            "hypervisor_hostname varchar(255), hypervisor_type mediumtext, host varchar(255), "
            "cpu_info mediumtext)",
            "CREATE TABLE nova.services (id int PRIMARY KEY, host varchar(255), "
            "`binary` varchar(255), created_at datetime, updated_at datetime, "
            "deleted_at datetime, disabled_reason varchar(255))",
        )
        self.host(1)
        server.sql("INSERT INTO nova.services (id, host) VALUES (1, 's1'), (2, 's2')")
        self.grant()
        monkeypatch.setenv("TINY_DB_URI", server.uri())

    def host(self, number: int, **values: str) -> None:
        told = {"created_at": "'2020-01-01'", "hypervisor_hostname": f"'n{number}'", **values}
        self.server.sql(
            f"INSERT INTO nova.compute_nodes (id, vcpus, {', '.join(told)}) "
            f"VALUES ({number}, 4, {', '.join(told.values())})"
        )

    def grant(self) -> None:
        said = self.usage("grants", "--config", self.config, "--site", "tiny", "--user", "reader")
        assert said.status == 0, said.err
        self.server.script(said.out)
        self.server.sql(f"ALTER USER reader@localhost IDENTIFIED BY '{PASSWORD}' ACCOUNT UNLOCK")

    def extract(self, *more: str, to: str | Path | None = None) -> Said:
        said = self.usage(
            *("extract", "--config", self.config, "--site", "tiny"),
            *("--data-dir", to or self.out, *more),
        )
        assert PASSWORD not in said.out + said.err
        return said

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.out / "tiny" / f"{name}.parquet")

    @property
    def manifest(self) -> dict:
        return json.loads((self.out / "tiny" / "manifest.json").read_text())

    def read(self, table: Wanted) -> pl.DataFrame:
        """Read other columns of a table than those that are used."""

        async def run() -> None:
            async with snapshot.Snapshot(parse(self.server.uri())) as session:
                await session.begin()
                listed = await session.columns({table.schema})
                plan = snapshot.plan(table, listed[table.name])
                await session.dump(plan, self.root, tqdm(disable=True))

        asyncio.run(run())
        return pl.read_parquet(self.root / f"{table.name}.parquet")

    def clock(self, now: str) -> None:
        """Set the server's clock, as every account but the administrator's sees it."""
        self.server.sql(
            "SET time_zone = '+00:00'",
            f"SET GLOBAL init_connect = CONCAT('SET timestamp = ', UNIX_TIMESTAMP('{now}'))",
        )

    def run(self) -> pl.DataFrame:
        """Give the days of 2020, how many nodes there were, and how many of them by inference."""
        out = self.root / "out"
        said = self.usage(
            *("run", "--config", self.config, "--data-dir", self.out, "--output", out),
            *("--start", "2020-01-01", "--end", "2021-01-01", "--save-stages"),
        )
        assert said.status == 0, said.err
        days = (
            pl.read_parquet(out / "tiny" / "usage_timeline.parquet")
            .filter(collector_type="corrected", count_type="total")
            .select(pl.col("timestamp").dt.replace_time_zone(None).alias("day"), "value")
        )
        segments = pl.read_parquet(out / "tiny" / "stages" / "segments" / "segments.parquet")
        guessed = segments.filter("inferred", collector_type="corrected", quantity_type="total")
        inferred = [
            guessed.filter(pl.col("start") <= day, pl.col("end") > day).height
            for day in days["day"]
        ]
        return days.with_columns(inferred=pl.Series(inferred))

    @property
    def left(self) -> list[str]:
        """Everything below the data directory."""
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*"))


@pytest.fixture
def tiny(mariadb, usage, tmp_path, monkeypatch) -> Tiny:
    return Tiny(mariadb, usage, tmp_path, monkeypatch)


def as_reader(server: MariaDB) -> pymysql.Connection:
    return pymysql.connect(
        host="127.0.0.1", port=server.port, user="reader", password=PASSWORD, autocommit=True
    )


def first(name: str, act: Callable[[], object], monkeypatch, owner=columns.Writer) -> None:
    """Let something happen on the server just before a method is first called."""
    method, done = getattr(owner, name), []

    def called(self, *args):
        if not done:
            done.append(act())
        return method(self, *args)

    monkeypatch.setattr(owner, name, called)


def interrupted(*_args: object) -> None:
    raise KeyboardInterrupt


class TestGrants:
    def test_the_account_can_read_what_is_extracted_and_nothing_else(self, tiny):
        assert tiny.extract().status == 0
        tiny.server.sql("CREATE TABLE nova.instances (id int, user_data mediumtext)")
        with closing(as_reader(tiny.server)) as reader, reader.cursor() as cursor:
            for statement in (
                "SELECT * FROM nova.compute_nodes",
                "SELECT cpu_info FROM nova.compute_nodes",
                "SELECT disabled_reason FROM nova.services",
                "SELECT user_data FROM nova.instances",
                "SELECT * FROM mysql.user",
                "INSERT INTO nova.services (id) VALUES (9)",
                "UPDATE nova.services SET host = 'x'",
                "DELETE FROM nova.services",
                "CREATE TABLE nova.more (id int)",
                "DROP TABLE nova.services",
            ):
                with pytest.raises(pymysql.err.OperationalError, match="denied"):
                    cursor.execute(statement)

    def test_the_account_is_locked_until_it_has_a_password(self, tiny):
        said = tiny.usage("grants", "--config", tiny.config, "--site", "tiny", "--user", "reader2")
        tiny.server.script(said.out)
        with pytest.raises(pymysql.err.OperationalError, match="locked"):
            pymysql.connect(host="127.0.0.1", port=tiny.server.port, user="reader2")

    def test_a_table_that_a_site_lacks_does_not_stop_the_script(self, tiny):
        tiny.server.sql("DROP TABLE nova.services")
        tiny.grant()
        assert tiny.extract().status == 0

    def test_a_table_that_no_site_can_lack_does(self, tiny):
        tiny.server.sql("DROP TABLE nova.compute_nodes")
        with pytest.raises(RuntimeError, match="compute_nodes"):
            tiny.grant()

    def test_a_site_without_databases_has_none(self, usage):
        for command in ("grants", "extract"):
            said = usage(command, "--site", "chi_tacc_published", *PUBLISHED[command])
            assert said.status == 1
            assert "none of its adapters reads a database" in said.err

    def test_it_is_derived_from_what_the_adapters_read(self):
        tables = wanted(Site("all", "All", tuple(ADAPTERS), {}))
        assert {t.name for t in tables if not t.extra} == {
            name for name in RAW_TABLES if name.partition(".")[0] not in FILES_ONLY
        }
        for table in tables:
            if not table.extra:
                assert {*table.required, *table.optional} == set(RAW_TABLES[table.name].columns)
        everything = {
            column
            for table in tables
            for column in (*table.required, *table.optional, *table.document)
        }
        secret = {"user_data", "key_data", "environment", "websocket_token", "trust_id"}
        assert everything & secret == set()


class TestValues:
    def test_types_are_those_of_the_columns(self, tiny):
        tiny.extract()
        assert dict(tiny.table(HOSTS).schema) == {
            **dict.fromkeys(("id", "vcpus", "memory_mb", "local_gb"), pl.Int32()),
            **dict.fromkeys(("hypervisor_hostname", "hypervisor_type"), pl.String()),
            **dict.fromkeys(("created_at", "deleted_at"), pl.Datetime("us")),
            "host": pl.String(),
        }
        assert "cpu_info" not in tiny.table(HOSTS).columns

    def test_zero_dates_are_null_and_counted(self, tiny):
        tiny.host(2, created_at="'0000-00-00 00:00:00'", deleted_at="'2020-02-00 00:00:00'")
        tiny.host(3, created_at="'0000-00-00 00:00:00'", deleted_at="NULL")
        said = tiny.extract()
        assert tiny.table(HOSTS)["created_at"].to_list() == [datetime(2020, 1, 1), None, None]  # noqa: DTZ001
        assert tiny.manifest["tables"][HOSTS]["zero_dates"] == {"created_at": 2, "deleted_at": 1}
        assert f"{HOSTS}.created_at: 2 zero dates are null" in said.err

    def test_characters_of_every_encoding_arrive(self, tiny):
        tiny.server.sql(
            "ALTER TABLE nova.compute_nodes MODIFY host varchar(255) CHARACTER SET latin1, "
            "MODIFY hypervisor_type mediumtext CHARACTER SET utf8mb4",
        )
        tiny.host(2, host="_latin1 x'4DFC6E6368656E'", hypervisor_type="_utf8mb4 x'F09F9880'")
        tiny.extract()
        assert tiny.table(HOSTS)["host"].to_list() == [None, "München"]
        assert tiny.table(HOSTS)["hypervisor_type"][1] == "😀"
        assert "not_utf8" not in tiny.manifest["tables"][HOSTS]

    def test_bytes_that_are_not_utf8_are_read_as_latin1_and_counted(self, tiny):
        """As an older server let them in: one of today can only be made to hold them."""
        files = [tiny.server.folder / "data" / "nova" / f"services.MY{kind}" for kind in "DI"]
        columns_ = "id int PRIMARY KEY, `binary` int, created_at date, updated_at date, "
        tiny.server.sql(
            "DROP TABLE nova.services",
            f"CREATE TABLE nova.services ({columns_} deleted_at date, host varbinary(765)) "
            "ENGINE=MyISAM",
            "INSERT INTO nova.services (id, host) VALUES (1, x'4DFC6E6368656E'), (2, 'ü')",
            "FLUSH TABLES",
        )
        before = [path.read_bytes() for path in files]
        tiny.server.sql(
            "ALTER TABLE nova.services MODIFY host varchar(255) CHARACTER SET utf8mb3",
            "FLUSH TABLES",
        )
        for path, content_ in zip(files, before, strict=True):
            path.write_bytes(content_)
        said = tiny.extract()
        assert said.status == 0, said.err
        assert tiny.table(SERVICES)["host"].to_list() == ["München", "ü"]
        assert tiny.manifest["tables"][SERVICES]["not_utf8"] == {"host": 1}
        assert f"{SERVICES}.host: 1 values are Latin-1, not UTF-8" in said.err

    def test_timestamps_are_utc_whatever_zone_the_server_keeps(self, tiny):
        tiny.server.sql(
            "ALTER TABLE nova.services MODIFY updated_at timestamp NULL",
            "SET time_zone = '+09:00'",
            "UPDATE nova.services SET updated_at = '2021-01-01 09:00:00' WHERE id = 1",
        )
        tiny.extract()
        assert tiny.table(SERVICES)["updated_at"].to_list() == [datetime(2021, 1, 1), None]  # noqa: DTZ001

    def test_kinds_that_only_other_tables_have(self, tiny):
        """Each column's value is what the server wrote."""
        kinds = {
            "tiny": ("tinyint unsigned", "255", pl.UInt8(), 255),
            "big": ("bigint unsigned", "18446744073709551615", pl.UInt64(), 2**64 - 1),
            "exact": ("decimal(10,3)", "-1.5", pl.Decimal(10, 3), None),
            "day": ("date", "'9999-12-31'", pl.Date(), date(9999, 12, 31)),
            "double_": ("double", "0.1", pl.Float64(), 0.1),
            "fine": ("datetime(6)", "'2020-01-01 00:00:00.000001'", pl.Datetime("us"), None),
            "choice": ("enum('a','b')", "'b'", pl.String(), "b"),
            "text": ("text", "'tab\\tline\\nquote\"'", pl.String(), 'tab\tline\nquote"'),
            "none": ("text", "''", pl.String(), ""),
            "raw": ("blob", "x'00FF'", pl.Binary(), b"\x00\xff"),
        }
        definition = ", ".join(f"{name} {kind[0]}" for name, kind in kinds.items())
        tiny.server.sql(
            "DROP TABLE nova.services",
            f"CREATE TABLE nova.services (id int PRIMARY KEY, {definition})",
            f"INSERT INTO nova.services VALUES (1, {', '.join(k[1] for k in kinds.values())})",
            "GRANT SELECT ON nova.services TO reader@localhost",
        )
        frame = tiny.read(Wanted(SERVICES, tuple(kinds)))
        assert dict(frame.schema) == {name: kind[2] for name, kind in kinds.items()}
        for name, (*_, value) in kinds.items():
            if value is not None:
                assert frame[name][0] == value, name
        assert str(frame["exact"][0]) == "-1.500"
        assert frame["fine"].dt.microsecond()[0] == 1


class TestManifest:
    def test_it_tells_rows_checksums_moment_and_versions(self, tiny):
        tiny.server.sql(
            "CREATE TABLE nova.alembic_version (version_num varchar(32))",
            "INSERT INTO nova.alembic_version VALUES ('ccb0fa1a2252')",
        )
        tiny.grant()
        tiny.extract()
        manifest = tiny.manifest
        told = {key: manifest[key] for key in ("site", "name", "kind", "missing")}
        assert told == {"site": "tiny", "name": "Tiny", "kind": "extract", "missing": {}}
        assert manifest["schema_revisions"] == {"nova": "ccb0fa1a2252"}
        ((version, now),) = tiny.server.sql("SELECT VERSION(), UTC_TIMESTAMP()")
        assert manifest["server_version"] == version
        assert 0 <= (now - datetime.fromisoformat(manifest["as_of"])).total_seconds() < 60
        for name, facts in manifest["tables"].items():
            frame = tiny.table(name)
            assert facts["rows"] == frame.height
            assert list(facts["columns"]) == frame.columns
            assert facts["checksum"] == f"sha256:{hashlib.sha256(content(frame)).hexdigest()}"

    def test_equal_tables_make_equal_files_in_the_order_of_the_key(self, tiny):
        for number in (9, 3, 7):
            tiny.host(number)
        tiny.extract()
        before = {path.name: path.read_bytes() for path in (tiny.out / "tiny").glob("*.parquet")}
        tiny.extract()
        assert {p.name: p.read_bytes() for p in (tiny.out / "tiny").glob("*.parquet")} == before
        assert tiny.table(HOSTS)["id"].to_list() == [1, 3, 7, 9]

    def test_many_row_groups_have_the_checksum_of_one(self, tiny, monkeypatch):
        tiny.server.sql(
            "INSERT INTO nova.services (id, host) SELECT seq, seq FROM nova.seq_3_to_9000"
        )
        tiny.extract()
        whole = tiny.manifest["tables"][SERVICES]
        monkeypatch.setattr(columns, "GROUP_ROWS", 1000)
        tiny.extract()
        assert tiny.manifest["tables"][SERVICES]["checksum"] == whole["checksum"]
        assert tiny.manifest["tables"][SERVICES]["rows"] == 9000

    def test_an_audit_table_is_cut_to_the_columns_that_are_used(self, tiny):
        tiny.server.sql(
            "CREATE DATABASE openstack_audit",
            "CREATE TABLE openstack_audit.audit_nova_services (audit_id int PRIMARY KEY, "
            "id varchar(36), audit_event_type enum('INSERT', 'UPDATE', 'DELETE'), "
            "audit_changed_by varchar(255), audit_changed_at timestamp, data json)",
            "INSERT INTO openstack_audit.audit_nova_services VALUES (1, '1', 'UPDATE', 'alice', "
            """'2025-01-01', '{"id": 1, "host": "s1", "disabled_reason": "private"}')""",
        )
        tiny.grant()
        tiny.extract()
        row = tiny.table("openstack_audit.audit_nova_services").row(0, named=True)
        assert (row["audit_event_type"], row["id"]) == ("UPDATE", "1")
        assert json.loads(row["data"])["host"] == "s1"
        assert "private" not in str(row)
        assert "alice" not in str(row)
        assert row["audit_changed_by"] is None

    def test_of_a_document_that_is_none_nothing_is_read(self, tiny):
        tiny.server.sql(
            "CREATE DATABASE openstack_audit",
            "CREATE TABLE openstack_audit.audit_nova_services (audit_id int PRIMARY KEY, "
            "id int, audit_event_type enum('INSERT', 'UPDATE', 'DELETE'), "
            "audit_changed_at datetime, data longtext)",
            "INSERT INTO openstack_audit.audit_nova_services VALUES (1, 1, 'UPDATE', "
            """'2025-01-01', '{"host": "s1", "disabled_reason": "private')""",
        )
        tiny.grant()
        assert tiny.extract().status == 0
        row = tiny.table("openstack_audit.audit_nova_services").row(0, named=True)
        assert (row["id"], row["data"]) == (1, None)


class TestSnapshot:
    def test_what_is_written_meanwhile_is_not_seen(self, tiny, monkeypatch):
        def write() -> None:
            tiny.host(2)
            tiny.server.sql(
                "INSERT INTO nova.services (id) VALUES (3)",
                "DELETE FROM nova.services WHERE id = 1",
                "UPDATE nova.compute_nodes SET vcpus = 99",
            )

        first("add", write, monkeypatch)
        tiny.extract()
        assert tiny.table(HOSTS)["vcpus"].to_list() == [4]
        assert tiny.table(SERVICES)["id"].to_list() == [1, 2]
        tiny.extract()
        assert tiny.table(HOSTS)["vcpus"].to_list() == [99, 99]
        assert tiny.table(SERVICES)["id"].to_list() == [2, 3]

    def test_a_table_can_be_altered_once_it_has_been_read(self, tiny, monkeypatch):
        """An upgrade of a service does not wait for the whole extraction."""
        opened, altered = snapshot.Snapshot._open, []

        async def then(self, select):
            if "services" in select:
                altered.append(
                    tiny.server.sql(
                        "SET lock_wait_timeout = 2", "ALTER TABLE nova.compute_nodes ADD more int"
                    )
                )
            return await opened(self, select)

        monkeypatch.setattr(snapshot.Snapshot, "_open", then)
        assert tiny.extract().status == 0
        assert len(altered) == 1


class TestWhatIsNotThere:
    def test_an_optional_table_is_reported_and_the_rest_goes_on(self, tiny):
        tiny.server.sql("DROP TABLE nova.services")
        said = tiny.extract()
        assert said.status == 0
        assert "nova.services is not there, or not granted" in said.err
        assert tiny.manifest["missing"] == {SERVICES: "is not there, or not granted"}
        assert tiny.left == ["tiny", "tiny/manifest.json", f"tiny/{HOSTS}.parquet"]

    def test_a_table_that_is_needed_is_told_loudly_and_the_rest_goes_on(self, tiny):
        tiny.server.sql("DROP TABLE nova.compute_nodes")
        said = tiny.extract()
        assert said.status == 1
        assert "cannot do without: nova.compute_nodes" in said.err
        assert tiny.table(SERVICES).height == 2

    def test_a_permission_that_is_missing_on_one_table(self, tiny):
        tiny.server.sql(
            "REVOKE SELECT (id, host, `binary`, created_at, updated_at, deleted_at) "
            "ON nova.services FROM reader@localhost"
        )
        assert "nova.services is not there, or not granted" in tiny.extract().err
        assert tiny.table(HOSTS).height == 1

    def test_a_permission_that_is_missing_on_one_column(self, tiny):
        tiny.server.sql("REVOKE SELECT (host) ON nova.services FROM reader@localhost")
        said = tiny.extract()
        assert "nova.services has no column host, or it is not granted" in said.err

    def test_an_optional_column_is_left_out(self, tiny):
        tiny.server.sql("ALTER TABLE nova.compute_nodes DROP host")
        assert tiny.extract().status == 0
        assert "host" not in tiny.table(HOSTS).columns

    def test_nothing_at_all_leaves_nothing(self, tiny):
        tiny.server.sql("DROP DATABASE nova")
        said = tiny.extract()
        assert said.status == 1
        assert "no table of Tiny can be read" in said.err
        assert tiny.left == []

    @pytest.mark.parametrize("table", [HOSTS, SERVICES])
    def test_an_earlier_extraction_is_never_replaced_by_less(self, tiny, table):
        tiny.extract()
        tiny.server.sql(f"DROP TABLE {table}")
        said = tiny.extract()
        assert said.status == 1
        assert f"{table} is not there" in said.err
        assert "--skip-missing" in said.err
        assert tiny.table(table).height > 0
        assert tiny.manifest["missing"] == {}
        tiny.extract("--skip-missing")
        assert list(tiny.manifest["missing"]) == [table]
        assert f"tiny/{table}.parquet" not in tiny.left

    def test_a_table_dropped_between_listing_and_reading(self, tiny, monkeypatch):
        first("add", lambda: tiny.server.sql("DROP TABLE nova.services"), monkeypatch)
        said = tiny.extract()
        assert said.status == 0
        assert "nova.services is gone" in said.err
        assert tiny.left == ["tiny", "tiny/manifest.json", f"tiny/{HOSTS}.parquet"]

    def test_a_table_altered_between_listing_and_reading(self, tiny, monkeypatch):
        first(
            "add",
            lambda: tiny.server.sql("ALTER TABLE nova.services ADD more int, ALGORITHM=COPY"),
            monkeypatch,
        )
        said = tiny.extract()
        assert "nova.services was changed after the snapshot was taken" in said.err


class TestRecord:
    """Each extraction into a directory is a snapshot, and the pipeline reads all of them."""

    @pytest.fixture
    def grown(self, tiny) -> Said:
        """Two extractions, a month apart; in between a row was deleted for good, one changed."""
        tiny.host(2)
        tiny.host(3)
        tiny.clock("2020-06-01")
        assert tiny.extract().status == 0
        tiny.server.sql(
            "DELETE FROM nova.compute_nodes WHERE id = 2",
            "UPDATE nova.compute_nodes SET vcpus = 8 WHERE id = 3",
        )
        tiny.clock("2020-07-01")
        return tiny.extract()

    def test_a_row_that_was_deleted_for_good_counts_until_then(self, tiny, grown):
        assert f"tiny: {HOSTS}: 0 rows new, 1 changed, 1 gone" in grown.err
        assert tiny.table(HOSTS)["id"].to_list() == [1, 3]
        days = tiny.run()
        seen, guessed, gone = (datetime(2020, *day) for day in ((6, 1), (6, 16), (7, 1)))  # noqa: DTZ001
        for begin, end, *told in (
            (datetime(2020, 1, 1), seen, 3, 0),  # noqa: DTZ001
            (seen, guessed, 3, 1),
            (guessed, gone, 2, 0),
        ):
            part = days.filter(pl.col("day").is_between(begin, end, closed="left"))
            assert part.height >= 15
            assert set(part.select("value", "inferred").iter_rows()) == {tuple(told)}

    def test_the_earlier_extraction_comes_back(self, tiny, grown):
        back = tiny.root / "back"
        said = tiny.usage(
            *("record", "--config", tiny.config, "--site", "tiny", "--data-dir", tiny.out),
            *("--as-of", "2020-06-15", "--to", back),
        )
        assert said.status == 0, said.err
        hosts = pl.read_parquet(back / f"{HOSTS}.parquet").sort("id")
        assert hosts["id"].to_list() == [1, 2, 3]
        assert hosts["vcpus"].to_list() == [4, 4, 4]
        assert json.loads((back / "manifest.json").read_text())["as_of"] == "2020-06-01T00:00:00"

    def test_one_that_is_broken_off_leaves_dump_and_history(self, tiny, grown, monkeypatch):
        def all_files() -> dict[str, bytes]:
            return {str(p): p.read_bytes() for p in tiny.out.rglob("*") if p.is_file()}

        before = all_files()
        tiny.clock("2020-08-01")
        tiny.host(4)
        for owner, name in ((columns.Writer, "add"), (snapshot.Snapshot, "revisions")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, interrupted)
                assert tiny.extract().status == 1
            assert all_files() == before
        with monkeypatch.context() as patch:
            patch.setattr(record, "diff", interrupted)
            assert tiny.extract().status == 1
        assert all_files() == before
        assert tiny.extract().status == 0
        assert before.items() - {(k, v) for k, v in all_files().items() if "history" in k} == {
            (k, v) for k, v in before.items() if "history" not in k
        }

    def test_a_table_that_cannot_be_read_is_kept_as_it_was(self, tiny, grown):
        tiny.server.sql("RENAME TABLE nova.compute_nodes TO nova.away")
        tiny.clock("2020-08-01")
        said = tiny.extract()
        assert (said.status, "--skip-missing" in said.err) == (1, True)
        assert tiny.table(HOSTS).height == 2
        said = tiny.extract("--skip-missing")
        assert said.status == 1
        assert f"cannot do without: {HOSTS}" in said.err
        assert f"tiny: {HOSTS}: 0 rows new, 0 changed, 2 gone, kept whole" in said.err
        tiny.server.sql("RENAME TABLE nova.away TO nova.compute_nodes")
        tiny.clock("2020-09-01")
        assert tiny.extract().status == 0
        days = tiny.run().filter(pl.col("day").dt.month() < 9)
        assert days["value"].to_list() == [3.0] * 167 + [2.0] * 77
        guessed = days.filter(pl.col("inferred") > 0)["day"].dt.date()
        assert guessed.to_list() == [date(2020, 6, number) for number in range(1, 16)]

    def test_a_clock_that_does_not_go_on_is_refused(self, tiny, grown):
        before = tiny.left
        for now in ("2020-07-01", "2020-06-20"):
            tiny.clock(now)
            said = tiny.extract()
            assert said.status == 1
            assert "is not later" in said.err
        assert tiny.left == before

    def test_two_within_a_second_are_two_snapshots(self, tiny):
        for _ in range(3):
            assert tiny.extract().status == 0
        assert len(list((tiny.out / "tiny" / "history").iterdir())) == 2


class TestFaults:
    def test_a_wrong_password(self, tiny, monkeypatch):
        monkeypatch.setenv("TINY_DB_URI", tiny.server.uri(password="another-secret"))
        said = tiny.extract()
        assert said.status == 1
        assert "Access denied for user 'reader'" in said.err
        assert "check the user and the password" in said.err
        assert "another-secret" not in said.err
        assert not tiny.out.exists()

    @pytest.mark.parametrize(
        "uri", ["mysql://reader:{}@127.0.0.1:1", "mysql://reader:{}@host.invalid"]
    )
    def test_a_server_that_cannot_be_reached(self, tiny, monkeypatch, uri):
        monkeypatch.setenv("TINY_DB_URI", uri.format(PASSWORD))
        said = tiny.extract()
        assert said.status == 1
        assert "check host and port" in said.err
        assert not tiny.out.exists()

    @pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
    def test_a_connection_killed_in_the_middle(self, tiny, monkeypatch, again):
        if again:
            tiny.extract()
        before = tiny.left
        tiny.server.sql(
            "INSERT INTO nova.services (id, host) "
            "SELECT seq, REPEAT('x', 200) FROM nova.seq_3_to_200000"
        )

        def kill() -> None:
            ((number,),) = tiny.server.sql(
                "SELECT id FROM information_schema.processlist WHERE user = 'reader'"
            )
            tiny.server.sql(f"KILL {number}")

        with monkeypatch.context() as patch:
            add = columns.Writer.add

            def some_then_kill(self, rows):
                if self.path.name == f"{SERVICES}.parquet" and not self.parts:
                    kill()
                add(self, rows)

            patch.setattr(columns.Writer, "add", some_then_kill)
            said = tiny.extract()
        assert said.status == 1
        assert "the connection was lost in nova.services after" in said.err
        assert tiny.left == before
        assert tiny.extract().status == 0
        assert tiny.table(SERVICES).height == 200_000

    def test_a_full_disk(self, tiny):
        tiny.out.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tiny.out]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system takes root")
        try:
            tiny.extract()
            before = tiny.left, (tiny.out / "tiny" / f"{SERVICES}.parquet").read_bytes()
            tiny.server.sql(
                "INSERT INTO nova.services (id, host) "
                "SELECT seq, SHA2(seq, 512) FROM nova.seq_3_to_20000"
            )
            said = tiny.extract()
            assert said.status == 1
            assert "No space left" in said.err
            assert "untouched" in said.err
            after = tiny.left, (tiny.out / "tiny" / f"{SERVICES}.parquet").read_bytes()
            assert after == before
        finally:
            subprocess.run(["umount", tiny.out], check=True)

    def test_an_interrupt_leaves_nothing_and_the_next_run_redoes_it(self, tiny, monkeypatch):
        def interrupt() -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            first("add", interrupt, patch)
            assert tiny.extract().status == 1
        assert tiny.left == []
        assert tiny.extract().status == 0

    def test_a_process_that_was_killed_leaves_the_earlier_extraction(self, tiny):
        tiny.extract()
        tiny.server.sql(
            "INSERT INTO nova.services (id, host) "
            "SELECT seq, REPEAT('x', 200) FROM nova.seq_3_to_300000"
        )
        main = "from chameleon_usage.cli import main; main()"
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", main, "extract", "--site", "tiny"),
                *("--config", tiny.config, "--data-dir", tiny.out),
            ]
        )
        while not list(tiny.out.glob(f".tiny.*/new/{SERVICES}.parquet")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert tiny.table(SERVICES).height == 2
        assert not (tiny.out / "tiny" / "history").exists()
        said = tiny.extract()
        assert f"tiny: {SERVICES}: 299,998 rows new, 0 changed, 0 gone" in said.err
        assert [path.name for path in tiny.out.iterdir()] == ["tiny"]
        assert tiny.table(SERVICES).height == 300_000

    def test_a_server_that_goes_away_between_two_statements(self, tiny, monkeypatch):
        def kill() -> None:
            ((number,),) = tiny.server.sql(
                "SELECT id FROM information_schema.processlist WHERE user = 'reader'"
            )
            tiny.server.sql(f"KILL {number}")

        first("columns", kill, monkeypatch, snapshot.Snapshot)
        said = tiny.extract()
        assert said.status == 1
        assert "the server refused or was lost" in said.err
        assert tiny.left == []

    def test_tables_that_no_extraction_wrote_are_not_replaced(self, tiny):
        folder = tiny.out / "tiny"
        folder.mkdir(parents=True)
        (folder / f"{HOSTS}.parquet").write_text("of another maker")
        said = tiny.extract()
        assert said.status == 1
        assert "holds tables that no extraction wrote" in said.err
        assert (folder / f"{HOSTS}.parquet").read_text() == "of another maker"

    def test_other_files_stay(self, tiny):
        folder = tiny.out / "tiny"
        (folder / "history" / "2025").mkdir(parents=True)
        (folder / "history" / "2025" / "rows.parquet").write_text("old")
        (folder / "inventory.node_intervals.parquet").write_text("by hand")
        for _ in range(2):
            assert tiny.extract().status == 0
            assert (folder / "history" / "2025" / "rows.parquet").read_text() == "old"
            assert (folder / "inventory.node_intervals.parquet").read_text() == "by hand"


class TestSecrets:
    """A password comes from the environment, a file or a prompt, and goes nowhere."""

    def test_it_is_in_nothing_that_is_written(self, tiny):
        tiny.extract()
        for path in (tiny.out / "tiny").iterdir():
            assert PASSWORD.encode() not in path.read_bytes()

    def test_a_uri_that_shows_it_is_refused(self, tiny):
        said = tiny.extract("--db-uri", tiny.server.uri())
        assert said.status == 1
        assert "can read a command line" in said.err

    def test_the_command_line_can_name_another_variable(self, tiny, monkeypatch):
        monkeypatch.delenv("TINY_DB_URI")
        monkeypatch.setenv("OTHER", tiny.server.uri())
        assert tiny.extract("--db-uri", "${OTHER}").status == 0
        assert "TINY_DB_URI is not set" in tiny.extract().err

    def test_an_option_file(self, tiny):
        options = tiny.root / "my.cnf"
        options.write_text(
            f"!includedir /nowhere\n[mysqld]\nport=1\n[client]\nuser = reader\n"
            f'password = "{PASSWORD}"\nhost=127.0.0.1\nport={tiny.server.port}\n'
        )
        assert tiny.extract("--db-uri", "mysql://", "--option-file", str(options)).status == 0
        said = tiny.extract("--option-file", str(tiny.root / "none.cnf"))
        assert said.status == 1
        assert "none.cnf" in said.err

    def test_a_prompt_where_there_is_a_terminal(self, tiny, monkeypatch):
        asked = []
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("getpass.getpass", lambda text: asked.append(text) or PASSWORD)
        assert tiny.extract("--db-uri", f"mysql://reader@127.0.0.1:{tiny.server.port}").status == 0
        assert asked == [f"Password of reader@127.0.0.1:{tiny.server.port}: "]

    @pytest.mark.parametrize("password", ["a#b", "a/b", "a?b=c@d", "12?b=c", "a@b", "a:b", "1x"])
    def test_a_password_that_is_not_encoded_is_not_repeated(self, tiny, monkeypatch, password):
        monkeypatch.setenv("TINY_DB_URI", f"mysql://reader:{password}@127.0.0.1:1/")
        said = tiny.extract()
        assert said.status == 1
        assert password not in said.err


class TestAddresses:
    """What is read of a URI and of an option file."""

    def test_the_uri_holds_before_the_option_file_and_a_host_before_a_socket(self, tmp_path):
        (tmp_path / "my.cnf").write_text(
            '[client]\nUser=u\npassword="a#%(b)s=c"\nsocket=/run/s\nssl-mode=VERIFY_CA\ncompress\n'
        )
        of_file = resolve("mysql://", option_file=tmp_path / "my.cnf")
        assert (str(of_file), of_file.password) == ("u@/run/s", "a#%(b)s=c")
        assert of_file.ssl_mode == "verify_ca"
        of_both = resolve("mysql://v@h:1/db", option_file=tmp_path / "my.cnf")
        assert (str(of_both), of_both.database, of_both.unix_socket) == ("v@h:1", "db", "")

    @pytest.mark.parametrize(
        "text", ["[mysqld]\nuser=u", "user=u", "[client]\nport=many", "[client]\nssl-mode=maybe"]
    )
    def test_an_option_file_that_cannot_be_used(self, tmp_path, text):
        (tmp_path / "my.cnf").write_text(text)
        with pytest.raises(UsageError, match=r"option file|must be"):
            resolve("mysql://", option_file=tmp_path / "my.cnf")

    @pytest.mark.parametrize(
        ("uri", "words"),
        [
            ("mysql://u@h?ssl_mode", "each once"),
            ("mysql://u@h?ssl_ca=a&ssl_ca=b", "each once"),
            ("mysql://u@h?sslmode=required", "options after"),
            ("mysql://u@h?ssl_mode=maybe", "ssl_mode must be"),
            ("mysql://u@h:port", "no address"),
            ("postgresql://u@h", "no address"),
            ("u@h", "no address"),
            ("mysql://u:a/b@h", "shows a password"),
            ("mysql://u:a?b@c@h", "shows a password"),
        ],
    )
    def test_a_uri_that_is_none_is_told(self, uri, words):
        with pytest.raises(UsageError, match=words):
            resolve(uri)


class TestEncryption:
    def test_a_certificate_of_a_known_authority(self, tiny, monkeypatch):
        tiny.server.sql("ALTER USER reader@localhost REQUIRE SSL")
        assert tiny.extract().status == 1
        uri = tiny.server.uri().replace("127.0.0.1", "localhost")
        monkeypatch.setenv("TINY_DB_URI", f"{uri}?ssl_ca={tiny.server.authority}")
        assert tiny.extract().status == 0
        monkeypatch.setenv("TINY_DB_URI", f"{uri}?ssl_mode=required")
        assert tiny.extract().status == 0

    def test_a_certificate_of_an_unknown_authority_or_another_host_is_refused(
        self, tiny, monkeypatch
    ):
        monkeypatch.setenv("TINY_DB_URI", tiny.server.uri() + "?ssl_mode=verify_ca")
        said = tiny.extract()
        assert said.status == 1
        assert "see ssl_mode" in said.err
        monkeypatch.setenv("TINY_DB_URI", f"{tiny.server.uri()}?ssl_ca={tiny.server.authority}")
        said = tiny.extract()
        assert said.status == 1
        assert "see ssl_mode" in said.err

    def test_the_way_to_another_machine_is_encrypted_by_default(self):
        assert parse("mysql://u@db.example.org").ssl_mode == "required"
        assert parse("mysql://u@db.example.org?ssl_mode=disabled").ssl_mode == "disabled"
        assert parse("mysql://u@localhost").ssl_mode == "disabled"
        assert parse("mysql://u@localhost?ssl_ca=/ca.pem").ssl_mode == "verify_identity"


def test_five_million_rows_take_less_than_a_gigabyte():
    """The benchmark fails by itself where the peak of the extracting process is higher."""
    tests = Path(__file__).parents[1]
    bench = tests / "bench" / "extract.py"
    command = [sys.executable, bench, "--rows", "5000000", "--times", "1"]
    tools = Path(sys.executable).parent
    done = subprocess.run(
        command,
        env=os.environ
        | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "GiB at most" in done.stdout
