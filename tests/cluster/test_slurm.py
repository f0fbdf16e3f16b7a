"""The ranges of a site in job arrays; Slurm's command is a stand-in that does task after task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from support import PROJECT
from support.sites import TEN_DAYS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SBATCH = """#!/usr/bin/env bash
set -u
for word in "$@"; do
    case "$word" in
        --array=*) last="${word##*-}" ;;
        --output=*) said="${word#--output=}" ;;
        --wrap=*) task="${word#--wrap=}" ;;
    esac
done
echo "7;cluster"
[ -e "$HERE/refuse" ] && echo "sbatch: error: invalid partition" >&2 && exit 1
[ -e "$HERE/wait" ] && exec sleep 60
status=0
for number in $(seq 0 "$last"); do
    export SLURM_ARRAY_TASK_ID="$number"
    if [ -e "$HERE/kill" ]; then
        # The first task is killed while it works, and Slurm does it again.
        rm "$HERE/kill"
        timeout --signal=KILL 0.2 bash -c "$task" > "${said/\\%a/$number}" 2>&1
        echo "killed $number" >> "$HERE/log"
    fi
    bash -c "$task" > "${said/\\%a/$number}" 2>&1 || status=1
    echo "done $number" >> "$HERE/log"
done
exit "$status"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A folder with the command."""
    command = tmp_path / "bin" / "sbatch"
    command.parent.mkdir()
    command.write_text(SBATCH)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(command.parent))
    return command.parent


@pytest.fixture
def call(usage, lively_raw, tmp_path) -> Callable:
    base = ["run", "--config", PROJECT / "data" / "sites.yaml", "--data-dir", lively_raw]
    base += ["--site", "kvm_tacc", "--output", tmp_path / "my out", *TEN_DAYS]
    return lambda *more: usage(*base, "--engine", "slurm", "--ranges", "2", *more)


def test_job_arrays_make_what_one_process_makes_and_a_killed_task_is_done_again(
    slurm, call, lively_outputs, tmp_path
):
    (slurm / "kill").touch()
    said = call("--by-host")
    assert said.status == 0, said.err
    log = (slurm / "log").read_text().splitlines()
    assert log[:2] == ["killed 0", "done 0"]
    assert "done 1" in log
    whole, ours = lively_outputs("--by-host") / "kvm_tacc", tmp_path / "my out" / "kvm_tacc"
    names = sorted(path.name for path in whole.glob("*.parquet"))
    assert names == sorted(path.name for path in ours.iterdir())
    assert [n for n in names if (whole / n).read_bytes() != (ours / n).read_bytes()] == []


@pytest.mark.usefixtures("slurm")
def test_a_task_that_fails_ends_the_run_and_tells_why(call, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", "false")
    said = call()
    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("Error: --engine slurm: ")
    assert "tasks failed" in said.err
    assert list((tmp_path / "my out").iterdir()) == []


@pytest.mark.usefixtures("slurm")
def test_the_word_of_the_task_that_failed_is_told_and_not_that_of_another(
    call, monkeypatch, tmp_path
):
    command = tmp_path / "some"
    command.write_text(
        "#!/usr/bin/env bash\n"
        f'[ "$SLURM_ARRAY_TASK_ID" = 0 ] && echo Well && exec {sys.executable} "$@"\n'
        "echo Too little memory; exit 1\n"
    )
    command.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(command))
    said = call()
    assert said.status == 1
    assert "tasks failed (Too little memory)" in said.err


def test_where_slurm_takes_no_job_the_command_says_so_and_not_that_memory_is_short(slurm, call):
    (slurm / "refuse").touch()
    said = call()
    assert said.status == 1
    assert "no task began, and sbatch ended with 1" in said.err
    assert "memory" not in said.err


def test_a_run_that_is_interrupted_takes_its_job_back(slurm, tmp_path):
    (slurm / "wait").touch()
    cancel = slurm / "scancel"
    cancel.write_text('#!/usr/bin/env bash\necho "$@" > "$HERE/cancelled"\n')
    cancel.chmod(0o755)
    work = (
        "import pathlib, sys; from chameleon_usage.engines.slurm import JobArray;"
        "JobArray().each(pathlib.Path(sys.argv[1]), [pathlib.Path('a')], len, ())"
    )
    run = subprocess.Popen([sys.executable, "-c", work, tmp_path / "job"])
    for _ in range(600):
        if run.poll() is not None or (tmp_path / "job").exists():
            break
        time.sleep(0.1)
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    assert run.wait(20) != 0
    assert (slurm / "cancelled").read_text() == "7\n"


def test_without_slurm_the_command_says_so(call, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = call()
    assert (said.status, said.err.splitlines()[-1]) == (
        1,
        "Error: --engine slurm: there is no command sbatch here",
    )
