"""What a record of weekly snapshots costs at a site's real size, in disk, time and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import click

from player import Player


def size(folder: Path) -> float:
    """Megabytes of the Parquet files and manifests below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def run(*command: str | Path) -> tuple[float, float]:
    """Run a command; give its seconds and its peak memory in GiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}: failed")
    return time.perf_counter() - start, used.ru_maxrss / 2**20


@click.command()
@click.option("--site", default="chi_tacc", show_default=True)
@click.option("--begin", type=click.DateTime(["%Y-%m-%d"]), default="2024-12-30", show_default=True)
@click.option("--weeks", default=52, show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Size against the real one.")
def main(site: str, begin: datetime, weeks: int, scale: float) -> None:
    """Play WEEKS weekly snapshots of a simulated site that forgets, and record each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        make = ["chameleon-twin", "make", "--site", site, "--no-decay", "--scale", str(scale)]
        run(*make, "--data-dir", folder / "twin")
        player = Player(folder / "twin" / site)
        costs = []
        for week in range(weeks + 1):
            dump = player.write(folder / "dump", begin + timedelta(weeks=week))
            record = ["chameleon-usage", "record", "--site", site, "--data-dir", data]
            costs.append(run(*record, "--from", dump))
            whole = size(dump)
            shutil.rmtree(dump)
            click.echo(
                f"week {week:3}: {costs[-1][0]:6.1f} s {costs[-1][1]:5.2f} GiB; "
                f"dump {whole:7.1f} MB, history {size(data / site / 'history'):7.2f} MB"
            )
        seconds = median(cost for cost, _ in costs[1:])
        click.echo(
            f"{site}: {weeks} weeks cost {size(data / site / 'history'):.1f} MB beside a dump of "
            f"{whole:.1f} MB, kept whole {whole * weeks:,.0f} MB; a snapshot takes {seconds:.1f} s "
            f"and at most {max(memory for _, memory in costs):.2f} GiB"
        )
        command = ["chameleon-usage", "run", "--site", site, "--data-dir"]
        with_history = run(*command, data, "--output", folder / "out")
        shutil.rmtree(data / site / "history")
        without = run(*command, data, "--output", folder / "out")
        click.echo(
            f"{site}: the pipeline takes {with_history[0]:.1f} s and {with_history[1]:.2f} GiB "
            f"over the record, {without[0]:.1f} s and {without[1]:.2f} GiB over the last dump alone"
        )


if __name__ == "__main__":
    main()
