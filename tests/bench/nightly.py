"""What a run costs that makes anew only what changed, against one that makes everything.

Yesterday's dump is made of today's, by taking back what was written since. Each run is held to a
run in full: the same bytes. What was measured is recorded for the page of the book, in
data/nightly.json.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import click
import polars as pl

from bench.pipeline import machine, shell
from chameleon_usage.io.files import whole_file
from support import PROJECT
from support.yesterday import write_yesterday

RECORD = PROJECT / "data" / "nightly.json"
USUAL, BY_HOST = "usual", "usual and by-host"
CASES = (("1d", "", USUAL), ("1d", "", BY_HOST), ("1h", "2024", USUAL), ("1h", "2025", BY_HOST))
"""Buckets, the first year, and tables: hours of ten years would take longer than anyone waits."""
NIGHTS = ("the next night", "a correction")
LEASES, HELD = "blazar.leases", "blazar.computehost_allocations"


def run(dump: Path, out: Path, *args: str) -> tuple[dict[str, float], str]:
    """Run a site in a process of its own: seconds of processors, peak memory, what it says."""
    command = ["chameleon-usage", "run", "--config", PROJECT / "data" / "sites.yaml", *args]
    command += ["--site", dump.name, "--data-dir", dump.parent, "--output", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=shell())
    said = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(said)
    cpu = used.ru_utime + used.ru_stime
    anew = re.findall(r"made anew: (.*)", said)
    return {"cpu_seconds": cpu, "memory_gib": used.ru_maxrss / 2**20}, "".join(anew)


def corrected(today: Path, folder: Path) -> Path:
    """Write a dump in which a lease of many hosts was given back early, years ago."""
    shutil.copytree(today, folder, ignore=shutil.ignore_patterns("truth"))
    leases, held = (pl.read_parquet(today / f"{name}.parquet") for name in (LEASES, HELD))
    reservations = pl.read_parquet(today / "blazar.reservations.parquet")
    of = reservations.select("lease_id", reservation_id="id")
    some = leases.filter(pl.col("end_date") < pl.col("end_date").max().dt.offset_by("-3y"))
    sizes = held.join(of, on="reservation_id").group_by("lease_id").len()
    lease = (
        some.join(sizes, left_on="id", right_on="lease_id").sort("len", "id").row(-1, named=True)
    )
    early = pl.lit(lease["start_date"] + (lease["end_date"] - lease["start_date"]) / 2)
    mine = of.filter(pl.col("lease_id") == lease["id"])["reservation_id"]
    for name, rows, which in (
        (LEASES, leases, pl.col("id") == lease["id"]),
        (HELD, held, pl.col("reservation_id").is_in(mine.implode())),
    ):
        at = pl.when(which).then(early.dt.truncate("1s")).otherwise("deleted_at")
        rows.with_columns(at.alias("deleted_at")).write_parquet(folder / f"{name}.parquet")
    return folder


def alike(one: Path, other: Path) -> None:
    """Make sure that two runs wrote the same."""
    for path in one.glob("*.parquet"):
        if path.read_bytes() != (other / path.name).read_bytes():
            sys.exit(f"{path.name} is another than that of a run in full")


def best(runs: list[dict[str, float]]) -> dict[str, float]:
    """Give the least time and the most memory of several runs of the same."""
    return {
        "cpu_seconds": min(run["cpu_seconds"] for run in runs),
        "memory_gib": max(run["memory_gib"] for run in runs),
    }


def measured(before: Path, now: Path, args: list[str], repeats: int) -> dict[str, Any]:
    """Run the dump of a site after that of the night before, in full and as an update."""
    with tempfile.TemporaryDirectory() as name:
        place, whole, updates, anew = Path(name), [], [], ""
        run(before, place / "first", *args, "--update")
        for _ in range(repeats):
            whole.append(run(now, place / "whole", *args)[0])
            shutil.rmtree(place / "updated", ignore_errors=True)
            shutil.copytree(place / "first", place / "updated")
            took, anew = run(now, place / "updated", *args, "--update")
            updates.append(took)
            alike(place / "whole" / now.name, place / "updated" / now.name)
        return {"anew": anew, "whole": best(whole), "update": best(updates)}


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.option("--repeats", default=3, show_default=True)
@click.option("--night", "nights", multiple=True, type=click.Choice(NIGHTS), default=NIGHTS)
@click.option("--record", is_flag=True, help="Record what was measured for the book.")
@click.argument("sites", nargs=-1, required=True)
def main(
    data_dir: Path, repeats: int, nights: tuple[str, ...], sites: tuple[str, ...], *, record: bool
) -> None:
    """Run SITES in full and as updates; print seconds of processors and peak memory."""
    for site, night in product(sites, nights):
        with tempfile.TemporaryDirectory() as name:
            today, other = data_dir / site, Path(name) / site
            before, now = (
                (write_yesterday(today, other), today)
                if night == NIGHTS[0]
                else (today, corrected(today, other))
            )
            for bucket, since, tables in CASES:
                args = ["--bucket", bucket, *(["--start", f"{since}-01-01"] if since else [])]
                args += ["--by-host"] if tables == BY_HOST else []
                case = {"site": site, "bucket": bucket, "since": since, "tables": tables}
                told = {**case, "night": night, **measured(before, now, args, repeats)}
                click.echo(", ".join(filter(None, [*case.values(), night, told["anew"]])))
                for kind in ("whole", "update"):
                    cpu, memory = told[kind]["cpu_seconds"], told[kind]["memory_gib"]
                    click.echo(f"    {kind:8} {cpu:6.1f} s of processors {memory:6.2f} GiB")
                if record:
                    keep(told)


def keep(told: dict[str, Any]) -> None:
    """Record what was measured in the place of what was measured of the same case before."""

    def case(run: dict[str, Any]) -> list[object]:
        return [run.get(name) for name in ("site", "night", "bucket", "since", "tables")]

    before = json.loads(RECORD.read_text(encoding="utf-8"))["runs"]
    runs = [*(run for run in before if case(run) != case(told)), told]
    with whole_file(RECORD) as part:
        record = {"machine": machine(), "runs": runs}
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
