"""What a record of weekly snapshots costs at a site's real size, in disk, time and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from support.player import Player


def size(folder: Path) -> float:
    """Megabytes of the Parquet files and manifests below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def run(*command: str | Path) -> tuple[float, float]:
    """Run a command; give the seconds of one processor that it took, and its peak memory in GiB.

    This process must stay small: a child's peak counts from its parent's size on.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}: failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


@cache
def player(site: Path) -> Player:
    """Read a site of the twin, once."""
    from support.player import Player

    return Player(site)


def play(site: Path, dump: Path, moment: datetime) -> None:
    """Write the dump of a moment."""
    player(site).write(dump, moment)


@click.command()
@click.option("--site", default="chi_tacc", show_default=True)
@click.option("--begin", type=click.DateTime(["%Y-%m-%d"]), default="2024-12-30", show_default=True)
@click.option("--weeks", default=52, show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Size against the real one.")
def main(site: str, begin: datetime, weeks: int, scale: float) -> None:
    """Play WEEKS weekly snapshots of a simulated site that forgets, and record each."""
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as aside,
    ):
        folder, costs = Path(name), []
        data, dump = folder / "data", folder / "dump"
        make = ["chameleon-twin", "make", "--site", site, "--no-decay", "--scale", str(scale)]
        run(*make, "--data-dir", folder / "twin")
        for week in range(weeks + 1):
            moment = begin + timedelta(weeks=week)
            aside.submit(play, folder / "twin" / site, dump, moment).result()
            record = ["chameleon-usage", "record", "--site", site, "--data-dir", data]
            costs.append(run(*record, "--from", dump))
            whole, history = size(dump), size(data / site / "history")
            shutil.rmtree(dump)
            click.echo(
                f"week {week:3}: {costs[-1][0]:5.1f} s {costs[-1][1]:5.2f} GiB, "
                f"dump {whole:6.1f} MB, history {history:6.2f} MB"
            )
        click.echo(
            f"{site}: {weeks} weekly snapshots\n"
            f"  disk: dump {whole:.0f} MB + history {history:.1f} MB "
            f"(all dumps: {whole * (weeks + 1):,.0f} MB)\n"
            f"  to record one: {median(cost for cost, _ in costs[1:]):.1f} s, "
            f"{max(memory for _, memory in costs):.2f} GiB"
        )
        command = ["chameleon-usage", "run", "--site", site, "--data-dir", data]
        for what in ("the record", "the last dump alone"):
            seconds, memory = run(*command, "--output", folder / "out")
            click.echo(f"  to run over {what}: {seconds:.1f} s, {memory:.2f} GiB")
            shutil.rmtree(data / site / "history", ignore_errors=True)
        click.echo("  (seconds of one processor)")


if __name__ == "__main__":
    main()
