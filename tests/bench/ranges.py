"""Time and memory of a site many times as large as a real one, range of hosts by range of hosts.

A simulated site is cut into ranges once, and its rows are copied under other names of hosts,
leases, instances and projects. So the truth is known: all unit-seconds are those of one copy, times
their number. What was measured is recorded for the page of the book, in data/ranges.json.
"""

from __future__ import annotations

import contextlib
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import polars as pl

from bench.pipeline import machine
from chameleon_usage import pipeline, ranges, spark, stages
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.io import files
from chameleon_usage.models.site import Site, load_sites
from chameleon_usage.processes import Processes, one_thread_each
from chameleon_usage.usage.buckets import Period
from support import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chameleon_usage.ranges import Cut

RECORD = PROJECT / "data" / "ranges.json"
RENAMED = (
    *("hostname", "host_id", "entity_id", "instance", "source_row_id"),
    *("reservation_id", "lease_id", "project_id"),
)
SPAWN = multiprocessing.get_context("spawn")
T = TypeVar("T")
STEPS = ("cut", "read", "add_up", "tables")


def site_of(key: str) -> Site:
    return load_sites(PROJECT / "data" / "sites.yaml", frozenset(ADAPTERS))[key]


# --- copies of a site that is cut once -----------------------------------------------------------


def cut_once(source: Path, key: str, room: Path, each: int) -> tuple[stages.SegmentsStage, Cut]:
    """Cut the site into ranges."""
    facts = stages.load_facts(source / key)
    return pipeline.cut_site(facts, site_of(key), room, each, by_project=False, keep=False)


def renamed(frame: pl.DataFrame, number: int) -> pl.DataFrame:
    """Give a frame of a copy, under names of its own; enumerations, which lack them, as text."""
    names = [column for column in RENAMED if column in frame.columns]
    texts = frame.with_columns(pl.col(names).cast(pl.String))
    if number:  # the first keeps its names
        texts = texts.with_columns(
            pl.format(f"{number:03}-{{}}", name).alias(name) for name in names
        )
    kinds = {name: frame.schema[name] for name in names}
    return texts.cast({name: kind for name, kind in kinds.items() if not isinstance(kind, pl.Enum)})


def copy_rows(room: Path, each: int, number: int) -> None:
    """Write the rows of the ranges of a copy, which is not the first."""
    for local in range(each + 1):
        here = room / "rows" / f"range={number * (each + 1) + local:06}"
        for path in (room / "rows" / f"range={local:06}").iterdir():
            files.save_tables(here, {path.stem: renamed(pl.read_parquet(path), number)})


def copied(frame: pl.DataFrame, copies: int) -> pl.DataFrame:
    """Put a frame and its copies together."""
    return pl.concat(renamed(frame, number) for number in range(copies))


def all_copied(part: T, names: Sequence[str], copies: int) -> T:
    """Put the named frames of a record and their copies together."""
    return replace(part, **{name: copied(getattr(part, name), copies) for name in names})


def cut_copies(
    pool: ProcessPoolExecutor,
    cut: Callable[[Path, int], tuple[stages.SegmentsStage, Cut]],
    room: Path,
    copies: int,
    each: int,
) -> tuple[stages.SegmentsStage, Cut]:
    """Cut the site once, and copy it into the ranges of one as large as all copies."""
    late, first = pool.submit(cut, room, each).result()
    list(pool.map(partial(copy_rows, room, each), range(1, copies)))
    shared = first.plan.shared.observed
    about = all_copied(shared, ("history", "maintenance", "status"), copies)
    numbers = [
        renamed(first.ranges, number).with_columns(pl.col("range") + number * (each + 1))
        for number in range(copies)
    ]
    nameless = {
        part: {
            name: copied(ranges.plain({name: frame})[name], copies) for name, frame in of.items()
        }
        for part, of in (("rows", first.nameless.rows), ("nameless", first.nameless.nameless))
    }
    whole = replace(
        first,
        count=copies * (each + 1) - 1,  # what names no host, of the last copy
        ranges=pl.concat(numbers),
        nameless=replace(first.nameless, **nameless),
        plan=replace(first.plan, shared=replace(first.plan.shared, observed=about)),
        early=all_copied(first.early, ("segments", "rejects", "adrift"), copies),
    )
    return all_copied(late, ("leases", "schedule", "rejects"), copies), whole


# --- engines, and what their workers take of memory ----------------------------------------------


@contextlib.contextmanager
def engine_of(name: str, jobs: int) -> Iterator[tuple[ranges.Engine, int | None]]:
    """Give an engine, and the process that works for it, where that is none of ours."""
    if name == "spark":
        with sail() as (session, process):
            yield spark.Cluster(session), process
    else:
        yield (Processes(jobs) if jobs > 1 else ranges.AtHome()), None


@contextlib.contextmanager
def sail() -> Iterator[tuple[object, int]]:
    """Start the server (Sail) that SAIL names; Spark's client must be there to be imported."""
    from pyspark.sql import SparkSession

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
        session = SparkSession.builder.remote(f"sc://127.0.0.1:{place[1]}").getOrCreate()
        yield session, process.pid
        session.stop()
    finally:
        process.kill()
        process.wait()


def peak_of(process: int) -> float:
    """Tell the most memory that a process has held, in GiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [told] = [line for line in lines if line.startswith("VmHWM")]
    return int(told.split()[1]) / 2**20


class Peak(threading.Thread):
    """The most memory that this process and its children held together, seen twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.over = 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.most = max(self.most, sum(map(held_by, family(os.getpid()))) / 2**30)


def family(process: int) -> list[int]:
    """List a process and its descendants."""
    found = [process]
    for own in found:
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{own}/task/{own}/children").read_text()
            found += [int(child) for child in told.split()]
    return found


def held_by(process: int) -> int:
    """Tell the bytes of memory of a process that it shares with no other."""
    with contextlib.suppress(OSError):
        held, shared = Path(f"/proc/{process}/statm").read_text().split()[1:3]
        return (int(held) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return 0


# --- the measurement ----------------------------------------------------------------------------


def measure(source: Path, copies: int, each: int, *, key: str, engine_name: str, jobs: int) -> None:
    """Run and tell; in a process of its own."""
    peak = Peak()
    peak.start()
    clock = [time.perf_counter()]
    with (
        tempfile.TemporaryDirectory(dir=source) as name,
        engine_of(engine_name, jobs) as (
            engine,
            process,
        ),
    ):
        started = time.perf_counter() - clock[0]
        clock = [time.perf_counter()]
        room = Path(name)
        with one_thread_each(), ProcessPoolExecutor(jobs, SPAWN) as pool:
            once = partial(cut_once, source, key)
            late, cut = cut_copies(pool, once, room, copies, each)
        clock.append(time.perf_counter())
        moved = sum(path.stat().st_size for path in room.rglob("*") if path.is_file())
        reading, begun = ranges.whole_reading(cut, engine)
        clock.append(time.perf_counter())
        window = pipeline.window_of(late, Period(), begun)
        sums = ranges.whole_tally(cut, engine, reading, window, by_host=False)
        sums = {**sums, **ranges.held_by_leases(cut, engine, late.leases, window)}
        clock.append(time.perf_counter())
        size = sum(path.stat().st_size for path in room.rglob("*") if path.is_file())
        worker = peak_of(process) if process else None
    driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    late = replace(late, rejects=pl.concat([late.rejects, reading.rejects]))
    del cut, reading
    with tempfile.TemporaryDirectory(dir=source) as name:
        made = pipeline.each_output(late, site_of(key), window, sums)
        stages.save_usage(Path(name), made, pipeline.REPORTED)
    clock.append(time.perf_counter())
    peak.over.set()
    peak.join()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    rows = (
        copies
        * pl.scan_parquet(source / key / "stages" / "facts" / "facts.parquet")
        .filter(pl.col("state") == "present")
        .select(pl.len())
        .collect()
        .item()
    )
    told = {
        "copies": copies,
        "engine": engine_name,
        "jobs": jobs,
        "intervals": rows,
        "start_up": started if process else start_up(),
        **dict(zip(STEPS, (b - a for a, b in itertools.pairwise(clock)), strict=True)),
        "cpu_seconds": sum(part.ru_utime + part.ru_stime for part in (own, children)),
        "driver_gib": driver,
        "driver_with_tables_gib": own.ru_maxrss / 2**20,
        "worker_gib": worker or children.ru_maxrss / 2**20,
        "together_gib": peak.most,
        "rows_mb": moved / 1e6,
        "disk_mb": size / 1e6,
    }
    usage = sums["usage"]
    units = usage.columns[usage.columns.index("bucket") + 1 :]
    checked = usage.select(pl.col(units).sum()).row(0, named=True)
    (source / "told.json").write_text(json.dumps({"told": told, "sums": checked}))


def start_up() -> float:
    """Tell how long a process takes until it can work."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import chameleon_usage.processes"], check=True)
    return time.perf_counter() - begun


def say(told: Mapping[str, float]) -> None:
    """Print what was measured."""
    spent = sum(told[step] for step in STEPS)
    steps = ", ".join(f"{step.replace('_', ' ')} {told[step]:.1f} s" for step in STEPS)
    click.echo(
        f"{told['copies']:4} times, {told['engine']} x {told['jobs']}: {told['intervals']:,} "
        f"intervals, start {told['start_up']:.1f} s, {steps}; {told['intervals'] / spent:,.0f} "
        f"intervals/s; processors {told['cpu_seconds']:,.0f} s; driver {told['driver_gib']:.2f} "
        f"GiB, with the tables {told['driver_with_tables_gib']:.2f}; worker "
        f"{told['worker_gib']:.2f}; together {told['together_gib']:.2f}; rows "
        f"{told['rows_mb']:,.0f} MB, all {told['disk_mb']:,.0f} MB"
    )


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.option("--site", "key", default="chi_tacc", show_default=True)
@click.option("--each", default=1, show_default=True, help="Ranges of each copy.")
@click.option("--engine", type=click.Choice(["home", "spark"]), default="home")
@click.option("--jobs", default=2, show_default=True, help="Copies, and ranges, at a time.")
@click.option("--facts", type=click.Path(path_type=Path), help="Saved facts, if there are any.")
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
    facts: Path | None,
    record: bool,
    source: Path | None,
    copies: tuple[int, ...],
) -> None:
    """Count a site COPIES times as large, for each number that is given."""
    if source:
        measure(source, copies[0], each, key=key, engine_name=engine, jobs=jobs)
        return
    sums, found = [], []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        if not facts:
            call = ["chameleon-usage", "run", "--data-dir", data_dir, "--site", key]
            subprocess.run([*call, "--output", name, "--save-stages"], check=True)
        place = facts or Path(name)
        for number in copies:
            call = [sys.executable, __file__, "--within", place, "--site", key, "--engine", engine]
            call += ["--each", str(each), "--jobs", str(jobs), str(number)]
            subprocess.run(call, check=True)
            told = json.loads((place / "told.json").read_text())
            say(told["told"])
            found.append(told["told"])
            sums.append(
                {k: v // number if v % number == 0 else None for k, v in told["sums"].items()}
            )
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
