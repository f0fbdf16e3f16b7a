"""A real PostgreSQL for the tests: a data directory and a loopback port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.command import called, free_port


class PostgreSQL:
    """A server that runs until it is stopped. Its own time zone is not UTC, to show who minds."""

    password = "secret-of-the-owner"

    def __init__(self) -> None:
        places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]]
        search = os.pathsep.join([*places, os.environ["PATH"]])
        if not shutil.which("initdb", path=search):
            pytest.skip("no PostgreSQL server here (apt-get install postgresql)")
        self.folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        secret = self.folder / "password"
        secret.write_text(self.password)
        # The server refuses to run as root.
        other: list[str] = []
        if os.getuid() == 0:
            other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self.folder, "postgres")
            shutil.chown(secret, "postgres")
        self.port = free_port()
        data = self.folder / "data"
        login = ("--auth=scram-sha-256", "--username=owner", f"--pwfile={secret}")
        settings = ("-c", "fsync=off", "-c", "timezone=Asia/Karachi")
        places = {"env": os.environ | {"PATH": search}, "cwd": "/"}
        made = ("initdb", f"--pgdata={data}", "--encoding=UTF8", "--no-sync")
        called(*other, *made, *login, **places)
        self.log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(
            [
                *(*other, "postgres", "-D", data, "-p", f"{self.port}", "-h", "127.0.0.1"),
                *("-k", self.folder, *settings),
            ],
            stdout=self.log,
            stderr=self.log,
            **places,
        )
        while not self._answers():
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # at SIGTERM it would wait for its clients
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.folder)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="owner",
            password=self.password,
            dbname=database,
            autocommit=True,
        )

    def sql(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the owner; give the rows of the last."""
        with self.connect(database) as session, session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def uri(self, user: str = "owner", password: str = password) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}"
