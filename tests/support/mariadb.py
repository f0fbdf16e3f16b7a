"""A real MariaDB for the tests: a data directory and a loopback port of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pymysql
import pytest
import trustme

from chameleon_usage.models.raw import FILES_ONLY, RAW_TABLES
from support import PROJECT
from support.command import called, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SYSTEM_SCHEMAS = {"information_schema", "mysql", "performance_schema", "sys"}
SCHEMA = PROJECT.parent / "shared" / "schema" / "schema.sql"
NO_DEFAULT = 1364
ARCHIVED = {spec.archive: name for name, spec in RAW_TABLES.items() if spec.archive}


class MariaDB:
    """A server that runs until it is stopped. Its own time zone is not UTC, to show who minds."""

    def __init__(self, folder: Path, *options: str) -> None:
        if not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
            pytest.skip("no MariaDB server here (apt-get install mariadb-server)")
        # Paths of Unix sockets must be short.
        self.folder, self.run = folder, Path(tempfile.mkdtemp(prefix="mariadb-"))
        self.socket = self.run / "s"
        self.port = free_port()
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
        user = f"--user={getpass.getuser()}"
        # A server that starts clears its folder of temporary tables: one that is being installed
        # beside it, in the same folder, would lose its own.
        called(
            *("mariadb-install-db", "--no-defaults", user, f"--datadir={folder / 'data'}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
            env=os.environ | {"TMPDIR": str(self.run)},
        )
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [
                *("mariadbd", "--no-defaults", user, f"--datadir={folder / 'data'}"),
                *(f"--socket={self.socket}", f"--port={self.port}", "--bind-address=127.0.0.1"),
                *(f"--pid-file={self.run / 'pid'}", "--default-time-zone=+05:00"),
                f"--tmpdir={self.run}",
                *("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"),
                *("--local-infile=1", "--sql-mode=", "--skip-log-bin"),
                *(f"--ssl-cert={folder / 'certificate.pem'}", f"--ssl-key={folder / 'key.pem'}"),
                *options,
            ],
            stderr=self.log,
        )
        self.root = self._connect()

    def _connect(self) -> pymysql.Connection[Any]:
        for _ in range(600):
            with socket.socket(socket.AF_UNIX) as probe:
                if not probe.connect_ex(str(self.socket)):
                    return pymysql.connect(
                        unix_socket=str(self.socket),
                        user="root",
                        autocommit=True,
                        local_infile=True,
                    )
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self) -> None:
        self.root.close()
        self.process.terminate()
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.run)

    def sql(self, *statements: str) -> tuple[Any, ...]:
        """Run statements as the administrator; give the rows of the last."""
        with self.root.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def script(self, text: str) -> None:
        """Run a script through the command-line client, as an administrator would."""
        called("mariadb", "--no-defaults", f"--socket={self.socket}", "-uroot", input=text)

    def clear(self) -> None:
        """Drop every schema and every account that a test made."""
        for (name,) in self.sql("SHOW DATABASES"):
            if name not in SYSTEM_SCHEMAS:
                self.sql(f"DROP DATABASE `{name}`")
        for user, host in self.sql("SELECT user, host FROM mysql.user WHERE user LIKE 'reader%'"):
            self.sql(f"DROP USER '{user}'@'{host}'")
        self.sql("SET GLOBAL init_connect = ''")

    def uri(self, user: str = "reader", password: str = "secret-of-the-reader") -> str:
        return f"mysql://{user}:{password}@127.0.0.1:{self.port}"

    def fill(self, folder: Path, *, real_schema: bool = False) -> None:
        """Make the tables of a folder of Parquet files and load their rows.

        Args:
            folder: holds ``<schema>.<table>.parquet``.
            real_schema: the services' own table definitions, where they have the table.
        """
        if real_schema:
            self.script(SCHEMA.read_text())
        for path in sorted(folder.glob("*.*.parquet")):
            name = path.name.removesuffix(".parquet")
            if name.partition(".")[0] not in FILES_ONLY:
                self.load(name, pl.read_parquet(path))

    def load(self, name: str, frame: pl.DataFrame) -> None:
        """Load rows into a table, which is made if it is not there."""
        schema, _, table = name.partition(".")
        quoted = f"`{schema}`.`{table}`"
        self.sql(f"CREATE DATABASE IF NOT EXISTS `{schema}`")
        live = ARCHIVED.get(name, name)
        try:
            if live != name:
                self.sql(f"CREATE TABLE IF NOT EXISTS {quoted} LIKE `{live.replace('.', '`.`')}`")
        except pymysql.err.ProgrammingError:
            pass  # no live table
        key = [column for column in ("id",) if column in frame.columns]
        self.sql(f"CREATE TABLE IF NOT EXISTS {quoted} ({definition(frame.schema, key)})")
        if frame.is_empty():
            return
        rows = self.folder / "rows.csv"
        frame.write_csv(
            rows,
            include_header=False,
            null_value="NULL",
            quote_style="non_numeric",
            datetime_format="%Y-%m-%d %H:%M:%S",
        )
        columns = ", ".join(f"`{column}`" for column in frame.columns)
        self.sql(
            "SET foreign_key_checks = 0, unique_checks = 0, time_zone = '+00:00'",
            f"LOAD DATA LOCAL INFILE '{rows}' INTO TABLE {quoted} CHARACTER SET utf8mb4 "
            "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' "
            f"({columns})",
        )
        # A column that the rows do not have takes the default of its type.
        warnings = [told for told in self.sql("SHOW WARNINGS") if told[1] != NO_DEFAULT]
        ((count,),) = self.sql(f"SELECT COUNT(*) FROM {quoted}")
        assert (count, warnings) == (frame.height, []), name


def definition(kinds: Mapping[str, pl.DataType], key: Iterable[str]) -> str:
    """Write the columns of a table as the services' migrations would."""
    types = {pl.Datetime("us"): "datetime", pl.Float64(): "double", pl.Boolean(): "tinyint(1)"}
    columns = []
    for name, kind in kinds.items():
        text = "varchar(255)" if name in {*key, "uuid"} or name.endswith("_id") else "mediumtext"
        sql = "bigint" if kind.is_integer() else types.get(kind, text)
        columns.append(f"`{name}` {sql} NULL" if name not in key else f"`{name}` {sql} NOT NULL")
    keys = [f"PRIMARY KEY ({', '.join(f'`{name}`' for name in key)})"] if key else []
    return ", ".join(columns + keys)
