"""What every test may use: where the project is, and how its commands are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from chameleon_twin.cli import main as make_twin
from chameleon_usage import cli
from support import PROJECT
from support.command import Said, alone
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.sites import LIVELY, TEN_DAYS, TinySite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Once = Callable[[str, Callable[[Path], object]], Path]


# How long an example takes tells of the machine's other guests.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let every little site be counted in several ranges of hosts."""
    parser.addoption("--ranges", type=int, default=1, help="ranges that little sites are made in")


def pytest_configure(config: pytest.Config) -> None:
    """Tell the little sites."""
    TinySite.ranges = config.getoption("--ranges")


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


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Once:
    """Make a folder that tests only read: one process makes it, the others wait for it."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # that of all workers

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, part = place / f"once-{name}", place / f"part-{name}"
        with alone(folder):
            if not folder.exists():
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                part.rename(folder)
        return folder

    return made


def made_twin(folder: Path, *options: str) -> None:
    """Make all sites of the tiny twin."""
    call = ["make", "--profile", "tiny", "--data-dir", str(folder), *options]
    make_twin(call, standalone_mode=False)


@pytest.fixture(scope="session")
def whole_twin(once) -> Path:
    """All sites, tiny, with nothing lost."""
    return once("whole-twin", lambda folder: made_twin(folder, "--no-decay"))


@pytest.fixture(scope="session")
def decayed_twin(once) -> Path:
    """All sites, tiny, as they are today."""
    return once("decayed-twin", made_twin)


@pytest.fixture(scope="session")
def lively_raw(once) -> Path:
    """Raw tables of the three lively sites."""
    return once("lively-raw", lambda folder: [make().write(folder) for make in LIVELY.values()])


@pytest.fixture(scope="session")
def lively_outputs(once, lively_raw) -> Callable[..., Path]:
    """Give what `run` with these arguments makes of ten days of the three lively sites."""

    def outputs(*args: str) -> Path:
        call = ["run", "--config", PROJECT / "data" / "sites.yaml", "--data-dir", lively_raw]

        def make(folder: Path) -> None:
            given = [*call, "--output", folder, *TEN_DAYS, *args]
            cli.cli([*map(str, given)], standalone_mode=False)

        return once("".join(("lively", *args)), make)

    return outputs


@pytest.fixture
def ran(once, tmp_path) -> Callable[..., Path]:
    """Give a copy, to be changed, of what `run` with these arguments makes of a little site.

    It is made once for all that call it by the same name.
    """

    def copy(name: str, make: Callable[[], TinySite], *args: str) -> Path:
        def run(folder: Path) -> None:
            make().write(folder / "raw")
            call = ["run", "--config", PROJECT / "data" / "sites.yaml", *args]
            call += ["--data-dir", folder / "raw", "--output", folder / "out"]
            cli.cli([*map(str, call)], standalone_mode=False)

        return shutil.copytree(once(name, run) / "out", tmp_path / "out")

    return copy


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
