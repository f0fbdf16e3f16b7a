"""The ranges of a site on Spark; client and server (PySail, without a JVM) are the tests' own.

They are installed below ``build/`` from ``spark.lock``, which was compiled with the project's lock
as constraints, so that nobody else pays for them; ``spark-jvm.lock`` is Spark itself.
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
from support.command import alone, called, free_port
from support.sites import TEN_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
ON_REQUEST = ("--by-host", "--by-project", "--save-stages")

pytestmark = pytest.mark.slow


def installed(name: str) -> dict[str, str]:
    """Install what a lock lists; give the environment of processes that find it, too."""
    lock, packages = HERE / f"{name}.lock", PROJECT / "build" / name
    done = packages / lock.name
    with alone(packages):
        if not done.exists() or done.read_bytes() != lock.read_bytes():
            shutil.rmtree(packages, ignore_errors=True)
            call = ["uv", "--system-certs", "pip", "install", "-q", "--python", sys.executable]
            call += ["--target", str(packages), "--require-hashes", "-r", str(lock)]
            called(sys.executable, "-m", *call)
            shutil.copy(lock, done)
    paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    # Where Spark is not installed beside the interpreter, its client looks for a home of it.
    return os.environ | told | {"SPARK_HOME": str(packages / "pyspark")}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A server; the environment of processes that find it."""
    environment = installed("spark")
    port = free_port()
    said = (tmp_path_factory.mktemp("sail") / "said").open("w")
    call = [
        sys.executable,
        str(PROJECT / "build" / "spark" / "bin" / "sail"),
        "spark",
        "server",
        "--port",
        str(port),
    ]
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


COMMAND = ("-c", "from chameleon_usage.cli import main; main()")


def run(
    environment: dict[str, str],
    raw: Path,
    out: Path,
    *args: str,
    command: Sequence[str] = COMMAND,
) -> None:
    call = [sys.executable, *command, "run"]
    call += ["--config", str(PROJECT / "data" / "sites.yaml"), "--data-dir", str(raw)]
    call += ["--output", str(out), *args]
    done = subprocess.run(
        call,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # Spark's processes end others of their group when they end
    )
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


@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "nobody answers"])
def test_a_server_that_does_not_answer_is_named_within_seconds(listens):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = installed("spark") | {"SPARK_REMOTE": f"sc://{address}/;token=SECRET"}
        call = [sys.executable, "-c", "from chameleon_usage.engines import spark; spark.session()"]
        said = subprocess.run(
            call, env=environment, capture_output=True, text=True, timeout=60, check=False
        ).stderr
    assert f"no session ({address} did not answer within 5 s); name a server" in said
    assert "SECRET" not in said


@pytest.mark.parametrize(
    "url", ["sc://h:15002/;token=SECRET==", "sc://h:15002/token=SECRET", "sc:///;token=SECRET"]
)
def test_a_token_in_an_address_that_is_none_is_not_told(url):
    call = [sys.executable, "-c", "from chameleon_usage.engines import spark; spark.session()"]
    said = subprocess.run(
        call,
        env=installed("spark") | {"SPARK_REMOTE": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stderr
    assert "no session (" in said
    assert "name a server in SPARK_REMOTE" in said
    assert "SECRET" not in said


@pytest.mark.skipif(not shutil.which("java"), reason="Spark itself needs Java")
def test_workers_that_are_killed_in_the_middle_change_nothing(lively_raw, lively_outputs, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    environment = installed("spark-jvm")
    # Two workers with a process each, as on a cluster of two machines.
    options = [*("--master", "local-cluster[2,1,1024]"), *("--conf", "spark.ui.enabled=false")]
    for name in ("PYTHONPATH", "PYTHONWARNINGS"):
        options += ["--conf", f"spark.executorEnv.{name}={environment[name]}"]
    environment |= {
        "MARKS": str(marks),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": " ".join([*options, "pyspark-shell"]),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    engine = ("--engine", "spark", "--ranges", "3")
    args = ("--site", "kvm_tacc", *TEN_DAYS, *ON_REQUEST, *engine)
    run(environment, lively_raw, tmp_path, *args, command=[str(HERE / "killing.py")])
    assert sorted(path.name for path in marks.iterdir()) == ["executor", "worker"]
    assert different(lively_outputs(*ON_REQUEST) / "kvm_tacc", tmp_path / "kvm_tacc") == []
