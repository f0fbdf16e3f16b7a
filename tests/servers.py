"""Real database servers for the tests, on loopback, each with a data directory of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pymysql
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PASSWORD = "s3cret/p@ss:word"  # noqa: S105 - of servers that last as long as the tests
ENCODED = "s3cret%2Fp%40ss%3Aword"
SECONDS_TO_START = 60


@dataclass(frozen=True)
class Server:
    """A running server and its administrator."""

    scheme: str
    port: int
    user: str

    def uri(self, database: str, *, user: str = "", password: str = ENCODED) -> str:
        secret = f":{password}" if password else ""
        return f"{self.scheme}://{user or self.user}{secret}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = None):
        """Open a connection as the administrator; the caller closes it."""
        if self.scheme == "mysql":
            return pymysql.connect(
                host="127.0.0.1",
                port=self.port,
                user=self.user,
                password=PASSWORD,
                database=database,
                autocommit=True,
                init_command="SET time_zone = '+00:00'",
            )
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=PASSWORD,
            dbname=database or "postgres",
            autocommit=True,
        )

    def rows(self, statement: str, database: str | None = None) -> list[tuple]:
        """Run a statement; give its rows, if it has any."""
        session = self.connect(database)
        try:
            with session.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            session.close()


def program(name: str, *places: str) -> str:
    """Find a server's program, or skip the test."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *places]))
    if found is None:
        pytest.skip(f"{name} is not installed (.ci/run installs it)")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def mariadb(*options: str) -> Iterator[Server]:
    """Run MariaDB; its administrator is root with the password."""
    install, serve = program("mariadb-install-db"), program("mariadbd")
    with _folder("mariadb") as folder:
        data, port = folder / "data", free_port()
        common = ["--no-defaults", f"--datadir={data}", f"--user={getpass.getuser()}"]
        subprocess.run(
            [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True,
            capture_output=True,
        )
        first = folder / "init.sql"
        first.write_text(f"ALTER USER root@localhost IDENTIFIED BY '{PASSWORD}';\n")
        server = Server("mysql", port, "root")
        call = [serve, *common, f"--port={port}", "--bind-address=127.0.0.1"]
        call += [f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--init-file={first}"]
        with _running([*call, *options], server, folder / "log"):
            yield server


@contextmanager
def postgresql() -> Iterator[Server]:
    """Run PostgreSQL; its administrator is admin with the password."""
    places = [f"{place}" for place in sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]]
    initdb, serve = program("initdb", *places), program("postgres", *places)
    with _folder("postgresql") as folder:
        data, port, secret = folder / "data", free_port(), folder / "password"
        secret.write_text(PASSWORD)
        other: list[str] = []
        if os.getuid() == 0:  # the server refuses to run as root
            other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(folder, "postgres")
            shutil.chown(secret, "postgres")
        login = ["--auth=scram-sha-256", "--username=admin", f"--pwfile={secret}"]
        subprocess.run(
            [*other, initdb, f"--pgdata={data}", *login, "--encoding=UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd="/",
        )
        server = Server("postgresql", port, "admin")
        call = [*other, serve, "-D", f"{data}", "-p", f"{port}", "-h", "127.0.0.1"]
        with _running([*call, "-k", f"{folder}"], server, folder / "log"):
            yield server


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(call: Sequence[str], server: Server, log: Path) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(call, stdout=said, stderr=said, cwd="/")
    try:
        end = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                server.connect().close()
                break
            except (pymysql.Error, psycopg.Error):
                if process.poll() is not None or time.monotonic() > end:
                    pytest.fail(f"{call[0]} does not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
        yield
    finally:
        # PostgreSQL takes SIGTERM as a wish to wait for its clients.
        process.send_signal(signal.SIGINT if server.scheme == "postgresql" else signal.SIGTERM)
        process.wait(timeout=SECONDS_TO_START)
