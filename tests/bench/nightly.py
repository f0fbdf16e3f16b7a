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
from pathlib import Path

import click
import polars as pl

from bench.pipeline import machine, middle, shell
from chameleon_usage.io.files import whole_file
from support import PROJECT
from support.yesterday import write_yesterday

RECORD = PROJECT / "data" / "nightly.json"
OPTIONS = {"the usual tables": (), "by host and project, too": ("--by-host", "--by-project")}
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


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.option("--repeats", default=3, show_default=True)
@click.option("--bucket", "buckets", multiple=True, default=["1d"], show_default=True)
@click.option("--record", is_flag=True, help="Record what was measured for the book.")
@click.argument("sites", nargs=-1, required=True)
def main(
    data_dir: Path, repeats: int, buckets: tuple[str, ...], sites: tuple[str, ...], *, record: bool
) -> None:
    """Run SITES in full and as updates; print seconds of processors and peak memory."""
    found = []
    cases = [(site, bucket, tables) for site in sites for bucket in buckets for tables in OPTIONS]
    for site, bucket, tables in cases:
        with tempfile.TemporaryDirectory() as name:
            place, args = Path(name), (*OPTIONS[tables], "--bucket", bucket)
            today = data_dir / site
            nights = {
                "the next night": (write_yesterday(today, place / "yesterday" / site), today),
                "a correction": (today, corrected(today, place / "corrected" / site)),
            }
            for night, (before, now) in nights.items():
                whole, updates, anew = [], [], ""
                run(before, place / "first", *args, "--update")
                for _ in range(repeats):
                    whole.append(run(now, place / "whole", *args)[0])
                    shutil.rmtree(place / "updated", ignore_errors=True)
                    shutil.copytree(place / "first", place / "updated")
                    took, anew = run(now, place / "updated", *args, "--update")
                    updates.append(took)
                    alike(place / "whole" / site, place / "updated" / site)
                costs = {"whole": middle(whole), "update": middle(updates)}
                told = {"site": site, "bucket": bucket, "tables": tables, "night": night}
                found.append({**told, "anew": anew, **costs})
                click.echo(f"{site}, {bucket}, {tables}, {night}: {anew}")
                for kind, cost in costs.items():
                    cpu, memory = cost["cpu_seconds"], cost["memory_gib"]
                    click.echo(f"    {kind:8} {cpu:6.1f} s of processors {memory:6.2f} GiB")
    if record:
        told = {"machine": machine(), "runs": found}
        with whole_file(RECORD) as part:
            part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
