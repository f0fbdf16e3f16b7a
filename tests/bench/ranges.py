"""Time and memory of a site many times as large as a real one, range of hosts by range of hosts.

Processes read it in shards, too: as many of these, and ranges, as a run makes unasked; so does the
machine at which a cluster is asked, where there are so many rows.

The raw tables of a simulated site are copied under other names (``copies``), and run as those of
one site, from raw tables to outputs. So the truth is known: all unit-seconds are those of one copy,
times their number. What was measured is recorded for the page of the book, in data/ranges.json.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import click
import polars as pl

from bench.copies import write_copies
from bench.pipeline import machine, shell
from chameleon_usage import pipeline, ranges, runs, stages
from chameleon_usage.cli import ALLOCATOR
from chameleon_usage.engines import spark
from chameleon_usage.engines.home import AtHome
from chameleon_usage.engines.tasks import Processes, Tasks
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.io import files
from chameleon_usage.models.site import Site, load_sites
from chameleon_usage.shards import facts as sharded
from chameleon_usage.usage.buckets import Period
from support import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chameleon_usage.engines.engine import Engine

RECORD = PROJECT / "data" / "ranges.json"
SPAWN = multiprocessing.get_context("spawn")
HOME = ("threads", "processes")
STEPS = ("facts", "cut", "read", "add_up", "tables")


def site_of(key: str) -> Site:
    return load_sites(PROJECT / "data" / "sites.yaml", frozenset(ADAPTERS))[key]


# --- engines, and what their workers take of memory ----------------------------------------------


@contextlib.contextmanager
def engine_of(name: str, jobs: int) -> Iterator[Engine]:
    """Give an engine, with the server or cluster that it needs."""
    if name in HOME:
        yield AtHome(jobs) if name == "threads" else Processes(jobs)
        return
    with sail() if name == "sail" else local_cluster(jobs):
        session = spark.session()
        yield spark.Cluster(session)
        session.stop()


@contextlib.contextmanager
def sail() -> Iterator[None]:
    """Start the server (Sail) that SAIL names; Spark's client must be there to be imported."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = free.getsockname()
    call = [os.environ["SAIL"], "spark", "server", "--port", str(place[1])]
    process = subprocess.Popen([sys.executable, *call], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with socket.socket() as trial:
                if not trial.connect_ex(place):
                    break
            time.sleep(0.1)
        os.environ["SPARK_REMOTE"] = f"sc://127.0.0.1:{place[1]}"
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def local_cluster(jobs: int) -> Iterator[None]:
    """Have Spark, which must be there to be imported, start workers as on so many machines."""
    path = os.environ.get("PYTHONPATH", "")
    options = ["--master", f"local-cluster[{jobs},1,3072]", "--conf", "spark.ui.enabled=false"]
    options += ["--conf", "spark.executor.memory=3g"]
    options += ["--conf", f"spark.executorEnv.PYTHONPATH={path}", "pyspark-shell"]
    os.environ |= {"PYSPARK_SUBMIT_ARGS": " ".join(options), "PYSPARK_PYTHON": sys.executable}
    yield
    gateway = importlib.import_module("pyspark").SparkContext._gateway
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()  # so that its time counts


class Peak(threading.Thread):
    """The most memory that this process and those it started held, in GiB.

    Attributes:
        together: all of them, what they share left out, seen five times a second.
        worker: the largest of those it started.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.together, self.worker, self.over = 0.0, 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            own, *others = family(os.getpid())
            self.together = max(self.together, sum(map(held_by, [own, *others])) / 2**30)
            # One that has not yet become another program is told to have held what this one has.
            begun = [one for one in others if called(one) != called(own)]
            self.worker = max(self.worker, *map(peak_of, begun), 0.0)


def family(process: int) -> list[int]:
    """List a process and its descendants."""
    found = [process]
    for own in found:
        for told in Path(f"/proc/{own}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in told.read_text().split()]
    return found


def held_by(process: int) -> int:
    """Tell the bytes of memory of a process that it shares with no other."""
    with contextlib.suppress(OSError):
        held, shared = Path(f"/proc/{process}/statm").read_text().split()[1:3]
        return (int(held) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return 0


def called(process: int) -> bytes:
    """Give the command line of a process; nothing if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def peak_of(process: int) -> float:
    """Tell the most memory that a process has held, in GiB."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        for told in (line.split()[1] for line in lines if line.startswith("VmHWM")):
            return int(told) / 2**20
    return 0.0


# --- the measurement ----------------------------------------------------------------------------


def measure(
    source: Path, copies: int, count: int, *, key: str, engine_name: str, jobs: int
) -> None:
    """Run and tell; in a process of its own."""
    peak = Peak()
    peak.start()
    clock = [time.perf_counter()]
    site = site_of(key)
    with engine_of(engine_name, jobs) as engine:
        started = time.perf_counter() - clock[0]
        clock = [time.perf_counter()]
        with tempfile.TemporaryDirectory(dir=source) as name:
            room = Path(name)
            late, parts, intervals, read = in_ranges(
                site, source, room, engine, count=count, jobs=jobs
            )
            clock += [read, time.perf_counter()]
            moved = size_of(room)
            reading, begun = ranges.whole_reading(parts, engine)
            clock.append(time.perf_counter())
            window = pipeline.window_of(late, Period(), begun)
            sums = ranges.whole_tally(parts, engine, reading, window, by_host=False)
            sums = {**sums, **ranges.held_by_leases(parts, engine, late.leases, window)}
            clock.append(time.perf_counter())
            size = size_of(room)
    driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    late = pipeline.with_reading(late, reading, by_project=False)
    count = parts.division.count
    del parts, reading
    with tempfile.TemporaryDirectory(dir=source) as name:
        made = pipeline.each_output(late, site, window, sums)
        stages.save_usage(Path(name), made, runs.REPORTED)
    clock.append(time.perf_counter())
    peak.over.set()
    peak.join()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "copies": copies,
        "engine": engine_name,
        "jobs": jobs,
        "ranges": count,
        "rows": raw_rows(source / key),
        "intervals": intervals,
        "start_up": start_up() if engine_name in HOME else started,
        **dict(zip(STEPS, (b - a for a, b in itertools.pairwise(clock)), strict=True)),
        "cpu_seconds": sum(part.ru_utime + part.ru_stime for part in (own, children)),
        "driver_gib": driver,
        "driver_with_tables_gib": own.ru_maxrss / 2**20,
        "worker_gib": peak.worker,
        "together_gib": peak.together,
        "rows_mb": moved / 1e6,
        "disk_mb": size / 1e6,
    }
    usage = sums["usage"]
    units = usage.columns[usage.columns.index("bucket") + 1 :]
    checked = usage.select(pl.col(units).sum()).row(0, named=True)
    (source / "told.json").write_text(json.dumps({"told": told, "sums": checked}))


def in_ranges(
    site: Site, source: Path, room: Path, engine: Engine, *, count: int, jobs: int
) -> tuple[stages.SegmentsStage, ranges.Cut, int, float]:
    """Read a site and cut it into ranges; tell its intervals, and when it was read."""
    rows = raw_rows(source / site.key)
    if isinstance(engine, Tasks) or (engine.apart and rows > runs.MOST_RAW_ROWS):
        home = engine if isinstance(engine, Tasks) else Processes(jobs)
        shards = max(jobs, ceil(rows / runs.EACH_SHARD))
        read = sharded.facts(site, source / site.key, shards, room, home)
        clock, intervals = time.perf_counter(), read.intervals
        count = max(jobs, ceil(intervals / runs.EACH_RANGE))
        ingested, observed, parts = sharded.cut(read, site, room, count, home, by_project=False)
        early = stages.FactsStage(ingested, read.as_of)
        late = pipeline.unnamed(pipeline.late_of(early, observed, read.names))
        return late, parts, intervals, clock
    early, _ = pipeline.facts(site, source)
    clock, intervals = time.perf_counter(), early.ingested.intervals.height
    late, observed = pipeline.observed_of(early, keep=False)
    del early
    parts = ranges.cut(observed, site, room, count, apart=engine.apart)
    return late, parts, intervals, clock


def raw_rows(directory: Path) -> int:
    """Tell how many raw rows there are."""
    return sum(json.loads((directory / "manifest.json").read_text())["tables"].values())


def size_of(folder: Path) -> int:
    """Tell the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def start_up() -> float:
    """Tell how long a process takes until it can work."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import chameleon_usage.ranges"], check=True)
    return time.perf_counter() - begun


def say(told: Mapping[str, float]) -> None:
    """Print what was measured."""
    spent = sum(told[step] for step in STEPS)
    steps = ", ".join(f"{step.replace('_', ' ')} {told[step]:.1f} s" for step in STEPS)
    worker = f"worker {told['worker_gib']:.2f}; " if told["worker_gib"] else ""
    click.echo(
        f"{told['copies']:4} times, {told['engine']} x {told['jobs']}, {told['ranges']} ranges: "
        f"{told['rows']:,} rows, {told['intervals']:,} intervals, start {told['start_up']:.1f} s, "
        f"{steps}; {told['intervals'] / spent:,.0f} intervals/s; processors "
        f"{told['cpu_seconds']:,.0f} s; driver {told['driver_gib']:.2f} GiB, with the tables "
        f"{told['driver_with_tables_gib']:.2f}; {worker}together {told['together_gib']:.2f}; rows "
        f"{told['rows_mb']:,.0f} MB, all {told['disk_mb']:,.0f} MB"
    )


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.option("--site", "key", default="chi_tacc", show_default=True)
@click.option("--ranges", "each", default=1, show_default=True, help="Ranges for each copy.")
@click.option("--engine", type=click.Choice([*HOME, "sail", "spark"]), default="threads")
@click.option("--jobs", default=2, show_default=True, help="Ranges at a time.")
@click.option("--record", is_flag=True, help="Record what was measured for the book.")
@click.option("--within", "source", type=click.Path(path_type=Path), help="(for its own use)")
@click.argument("copies", nargs=-1, type=int, required=True)
def main(
    *,
    data_dir: Path,
    key: str,
    each: int,
    engine: str,
    jobs: int,
    record: bool,
    source: Path | None,
    copies: tuple[int, ...],
) -> None:
    """Count a site COPIES times as large, for each number that is given."""
    if source:
        measure(source, copies[0], copies[0] * each, key=key, engine_name=engine, jobs=jobs)
        return
    sums, found = [], []
    for number in copies:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
            place = Path(name)
            with ProcessPoolExecutor(1, SPAWN) as pool:  # its memory is none of the run's
                pool.submit(write_copies, data_dir / key, place / key, number).result()
            call = [sys.executable, __file__, "--within", place, "--site", key, "--engine", engine]
            call += ["--ranges", str(each), "--jobs", str(jobs), str(number)]
            subprocess.run(call, check=True, env=shell() | ALLOCATOR)
            told = json.loads((place / "told.json").read_text())
        say(told["told"])
        found.append(told["told"])
        sums.append({k: v // number if v % number == 0 else None for k, v in told["sums"].items()})
    if any(other != sums[0] for other in sums):
        sys.exit("Error: the sums are not those of one copy times their number")
    click.echo("sums: those of one copy times their number, exactly")
    if record:
        before = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        same = {(one["engine"], one["jobs"], one["copies"]) for one in found}
        kept = [
            one
            for one in before.get("runs", [])
            if (one["engine"], one["jobs"], one["copies"]) not in same
        ]
        runs = sorted(kept + found, key=lambda one: (one["engine"], one["jobs"], one["copies"]))
        with files.whole_file(RECORD) as part:
            told = {"machine": machine(), "site": key, "runs": runs}
            part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
