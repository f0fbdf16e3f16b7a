"""Time and memory of the pipeline, site by site, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.argument("sites", nargs=-1, required=True)
def main(data_dir: Path, sites: tuple[str, ...]) -> None:
    """Run `chameleon-usage run` for each of SITES and print seconds and peak memory."""
    with tempfile.TemporaryDirectory() as out:
        for site in sites:
            command = ["chameleon-usage", "run", "--site", site, "--data-dir", data_dir]
            start = time.perf_counter()
            process = subprocess.Popen([*command, "--output", out], stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                sys.exit(f"{site}: the run failed")
            seconds = time.perf_counter() - start
            click.echo(f"{site:12} {seconds:7.2f} s {used.ru_maxrss / 2**20:7.2f} GiB")


if __name__ == "__main__":
    main()
