"""What every test may use: where the project is, and how its commands are run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chameleon_usage import cli
from mariadb import MariaDB
from postgresql import PostgreSQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project() -> Path:
    """Root of the source tree."""
    return PROJECT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real public record kept beside the project; the test is skipped where it is absent."""
    folder = PROJECT.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip("the real public record (../shared/real) is not here")
    return folder


@pytest.fixture
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python ARGS...` with this interpreter and capture what it says."""

    def run(*args: str | Path, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def running_mariadb(tmp_path_factory) -> Iterator[MariaDB]:
    """A MariaDB server of the session's own; the test is skipped where none is installed."""
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.stop()


@pytest.fixture
def mariadb(running_mariadb) -> MariaDB:
    """The session's MariaDB server, without any schema or account of another test."""
    running_mariadb.clear()
    return running_mariadb


@pytest.fixture(scope="session")
def running_postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of the session's own; the test is skipped where none is installed."""
    server = PostgreSQL()
    yield server
    server.stop()


@dataclass
class Said:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str


@pytest.fixture
def usage(capsys, monkeypatch) -> Callable[..., Said]:
    """Run `chameleon-usage ARGS...` in this process.

    An exception that would end in a traceback fails the test.
    """

    def run(*args: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["chameleon-usage", *map(str, args)])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run
