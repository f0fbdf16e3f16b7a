"""Time and memory of the pipeline: site by site, then as `make run` does it, side by side.

A time tells little without the machine, and a shared one is quick at one moment and slow at the
next. So a yardstick is measured before and after: exact daily means of 1.2 million intervals, in
DuckDB. And each site has a floor, measured in the same minutes: a process that starts, reads the
columns that are needed of its raw tables, does nothing with them and ends. What was measured is
recorded for the page of the book, in data/bench.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import click
import duckdb
import polars as pl

from chameleon_usage.ingest import loader, registry
from chameleon_usage.io.files import whole_file
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.site import load_sites
from support import PROJECT

RECORD = PROJECT / "data" / "bench.json"
REPEATS = 3
PACKAGES = ("chameleon-usage", "polars", "numpy", "duckdb")

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
    """Give the least of three times, in seconds.

    In a process of its own: what this one holds would count as memory of those that it starts.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_least_of_three)


def _least_of_three() -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with duckdb.connect() as session:
            session.execute(f"CREATE TABLE means AS {YARDSTICK}")
        times.append(time.perf_counter() - start)
    return min(times)


def read_only(site: str, data_dir: Path, *, documents: bool) -> None:
    """Read what is needed of a site's raw tables, and print how many rows they have.

    Args:
        site: its key.
        data_dir: where the raw tables are.
        documents: read the JSON documents, too, and take from them what is used.
    """
    entry = load_sites(PROJECT / "data" / "sites.yaml", frozenset(registry.ADAPTERS))[site]
    tables = {
        name: data_dir / site / f"{name}.parquet" for name in registry.tables_of(entry.adapters)
    }
    rows = 0
    for name, path in tables.items():
        if not path.exists():
            continue
        if documents:
            rows += loader._read(path, name).height
            continue
        scan = pl.scan_parquet(path)
        needed = [column for column in RAW_TABLES[name].kept if column in scan.collect_schema()]
        rows += scan.select(needed).collect().height
    click.echo(rows)


def floor(site: str, data_dir: Path, *, documents: bool) -> tuple[int, float]:
    """Give the rows of a site, and the median of some times of a process that reads it."""
    call = [sys.executable, __file__, "--data-dir", data_dir, "--floor", site]
    call += ["--documents"] * documents
    rows, times = 0, []
    for _ in range(REPEATS):
        start = time.perf_counter()
        rows = int(subprocess.check_output(call, text=True))
        times.append(time.perf_counter() - start)
    return rows, statistics.median(times)


def run(site: str, data_dir: Path, out: str, **environment: str) -> dict[str, float]:
    """Run a site in a process of its own: seconds, those of processors, and peak memory in GiB."""
    command = ["chameleon-usage", "run", "--site", site, "--data-dir", data_dir, "--output", out]
    command += ["--start", "2016-01-01", "--end", "2026-01-01"]  # the years of the paper
    start = time.perf_counter()
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=shell() | environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{site}: the run failed; run it by itself to see why")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "memory_gib": used.ru_maxrss / 2**20,
    }


def shell() -> dict[str, str]:
    """Give the environment of an operator's shell, to which Polars adds how to keep memory."""
    return {name: value for name, value in os.environ.items() if name != "_RJEM_MALLOC_CONF"}


def machine() -> dict[str, object]:
    """Tell what it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "versions": {"Python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
    }


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """Give the median of each figure."""
    return {name: statistics.median(one[name] for one in runs) for name in runs[0]}


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.option("--jobs", default=2, show_default=True, help="Sites at once, one thread each.")
@click.option("--record", is_flag=True, help="Record what was measured for the book.")
@click.option("--floor", "floor_of", is_flag=True, help="(for its own use)")
@click.option("--documents", is_flag=True, help="(for its own use)")
@click.argument("sites", nargs=-1, required=True)
def main(
    data_dir: Path,
    jobs: int,
    sites: tuple[str, ...],
    *,
    record: bool,
    floor_of: bool,
    documents: bool,
) -> None:
    """Run SITES one after another, then side by side; print seconds and peak memory."""
    if floor_of:
        read_only(sites[0], data_dir, documents=documents)
        return
    found: dict[str, object] = {"machine": machine(), "sites": {}}
    yardsticks = [yardstick()]
    with tempfile.TemporaryDirectory() as out:
        for site in sites:
            rows, plain = floor(site, data_dir, documents=False)
            _, documented = floor(site, data_dir, documents=True)
            took = middle([run(site, data_dir, out) for _ in range(REPEATS)])
            told = {"rows": rows, "floor": plain, "floor_documents": documented} | took
            found["sites"][site] = told  # type: ignore[index]
            click.echo(
                f"{site:12} {rows:>10,} rows: floor {plain:.2f} s, with documents {documented:.2f} "
                f"s; run {took['seconds']:.2f} s, {took['seconds'] / documented:.1f} times that; "
                f"{took['memory_gib']:.2f} GiB"
            )
        if len(sites) > 1:
            start = time.perf_counter()
            with ThreadPoolExecutor(jobs) as pool:
                alone = [
                    pool.submit(run, site, data_dir, out, POLARS_MAX_THREADS="1") for site in sites
                ]
            peak = max(one.result()["memory_gib"] for one in alone)
            both = {"jobs": jobs, "seconds": time.perf_counter() - start, "memory_gib": peak}
            found["together"] = both
            click.echo(f"all, {jobs} at a time: {both['seconds']:.2f} s, {peak:.2f} GiB")
    yardsticks.append(yardstick())
    found["yardstick"] = yardsticks
    click.echo(f"yardstick: {yardsticks[0]:.2f} s before, {yardsticks[1]:.2f} s after")
    if record:
        with whole_file(RECORD) as part:
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
