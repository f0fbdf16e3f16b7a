"""The ranges of a site on Spark; client and server (PySail, without a JVM) are the tests' own.

They are installed below ``build/`` from ``spark.lock``, which was compiled with the project's lock
as constraints, so that nobody else pays for them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import PROJECT
from support.sites import TEN_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = Path(__file__).with_name("spark.lock")
PACKAGES = PROJECT / "build" / "spark"
ON_REQUEST = ("--by-host", "--by-project", "--save-stages")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Processes that find Spark's packages, besides those of this environment."""
    done = PACKAGES / LOCK.name
    if not done.exists() or done.read_bytes() != LOCK.read_bytes():
        shutil.rmtree(PACKAGES, ignore_errors=True)
        call = ["uv", "--system-certs", "pip", "install", "-q", "--python", sys.executable]
        call += ["--target", str(PACKAGES), "--require-hashes", "-r", str(LOCK)]
        subprocess.run([sys.executable, "-m", *call], check=True)
        shutil.copy(LOCK, done)
    paths = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    # Where Spark is not installed beside the interpreter, its client looks for a home of it.
    return os.environ | told | {"SPARK_HOME": str(PACKAGES / "pyspark")}


@pytest.fixture(scope="module")
def server(environment, tmp_path_factory) -> Iterator[dict[str, str]]:
    """A server; the processes that find it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = (tmp_path_factory.mktemp("sail") / "said").open("w")
    call = [sys.executable, str(PACKAGES / "bin" / "sail"), "spark", "server", "--port", str(port)]
    process = subprocess.Popen(call, env=environment, stdout=said, stderr=said)
    try:
        for _ in range(600):
            assert process.poll() is None, Path(said.name).read_text()
            with socket.socket() as trial:
                if not trial.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        yield environment | {"SPARK_REMOTE": f"sc://127.0.0.1:{port}"}
    finally:
        process.kill()
        process.wait()
        said.close()


def run(environment: dict[str, str], raw: Path, out: Path, *args: str) -> None:
    call = [sys.executable, "-c", "from chameleon_usage.cli import main; main()", "run"]
    call += ["--config", str(PROJECT / "data" / "sites.yaml"), "--data-dir", str(raw)]
    call += ["--output", str(out), *args]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def different(one: Path, two: Path) -> list[str]:
    """Name the files that are not the same, byte for byte."""
    names = {path.relative_to(place) for place in (one, two) for path in place.rglob("*.parquet")}
    assert names
    files = sorted(map(str, names))
    return [
        name
        for name in files
        if not ((one / name).exists() and (two / name).exists())
        or (one / name).read_bytes() != (two / name).read_bytes()
    ]


@pytest.mark.parametrize("key", ["chi_tacc", "kvm_tacc", "chi_edge"])
def test_what_a_cluster_makes_is_what_one_process_makes(
    key, server, lively_raw, lively_outputs, tmp_path
):
    whole = lively_outputs(*ON_REQUEST)
    engine = ("--engine", "spark", "--ranges", "3")
    run(server, lively_raw, tmp_path, "--site", key, *TEN_DAYS, *ON_REQUEST, *engine)
    assert different(whole / key, tmp_path / key) == []


@pytest.mark.parametrize("key", ["chi_tacc"])
def test_a_site_that_forgets_is_the_same_too(key, server, decayed_twin, tmp_path):
    run(server, decayed_twin, tmp_path / "one", "--site", key)
    run(server, decayed_twin, tmp_path / "two", "--site", key, "--engine", "spark", "--ranges", "4")
    assert different(tmp_path / "one" / key, tmp_path / "two" / key) == []
