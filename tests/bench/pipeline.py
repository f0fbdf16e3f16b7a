"""Time and memory of the pipeline: site by site, then as `make run` does it, side by side.

A time tells little without the machine, and a shared one is quick at one moment and slow at the
next. So a yardstick is measured before and after: exact daily means of 1.2 million intervals, in
DuckDB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import duckdb

YARDSTICK = """
WITH intervals AS (
    SELECT i % 160 AS grp, 1 + i % 49 AS units, hash(i) % 346000000 AS begun,
        begun + 3600 + hash(-i) % 2500000 AS ended
    FROM range(1200000) AS t(i)
), steps AS (
    SELECT grp, begun // 86400 AS day, units, units * (86400 - begun % 86400) AS within
    FROM intervals
    UNION ALL
    SELECT grp, ended // 86400, -units, -units * (86400 - ended % 86400) FROM intervals
), sums AS (
    SELECT grp, day, sum(units) AS units, sum(within) AS within FROM steps GROUP BY ALL
), days AS (
    SELECT * FROM (SELECT DISTINCT grp FROM sums), range(4040) AS t(day)
)
SELECT grp, day, within + 86400 * coalesce(sum(units) OVER (
    PARTITION BY grp ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
FROM days LEFT JOIN sums USING (grp, day)
"""


def yardstick() -> float:
    """Give the least of three times, in seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with duckdb.connect() as session:
            session.execute(f"CREATE TABLE means AS {YARDSTICK}")
        times.append(time.perf_counter() - start)
    return min(times)


def run(site: str, data_dir: Path, out: str, **environment: str) -> tuple[float, float]:
    """Run a site in a process of its own: seconds, and peak memory in GiB."""
    command = ["chameleon-usage", "run", "--site", site, "--data-dir", data_dir, "--output", out]
    command += ["--start", "2016-01-01", "--end", "2026-01-01"]  # the years of the paper
    start = time.perf_counter()
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdout=nowhere, stderr=nowhere, env=os.environ | environment
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{site}: the run failed; run it by itself to see why")
    return time.perf_counter() - start, used.ru_maxrss / 2**20


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.option("--jobs", default=2, show_default=True, help="Sites at once, one thread each.")
@click.argument("sites", nargs=-1, required=True)
def main(data_dir: Path, jobs: int, sites: tuple[str, ...]) -> None:
    """Run SITES one after another, then side by side; print seconds and peak memory."""

    def tell(what: str, seconds: float, memory: float | None = None) -> None:
        peak = "" if memory is None else f" {memory:7.2f} GiB"
        click.echo(f"{what:26} {seconds:7.2f} s{peak}")

    with tempfile.TemporaryDirectory() as out:
        tell("yardstick", yardstick())
        for site in sites:
            tell(site, *run(site, data_dir, out))
        if len(sites) > 1:
            start = time.perf_counter()
            with ThreadPoolExecutor(jobs) as pool:
                alone = [
                    pool.submit(run, site, data_dir, out, POLARS_MAX_THREADS="1") for site in sites
                ]
            peak = max(one.result()[1] for one in alone)
            tell(f"all, {jobs} at a time", time.perf_counter() - start, peak)
        tell("yardstick", yardstick())


if __name__ == "__main__":
    main()
