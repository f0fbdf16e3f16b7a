"""Intervals per second of the interval functions, on random intervals.

With ``--save DIR`` the intervals are kept as Parquet, so that another library can be measured on
the same ones; ``--other`` is such a measurement, of polars-bio, which needs an environment of its
own and runs there without this package.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS, YEARS, REPEATS = 1000, 10, 3
SECONDS = YEARS * 365 * 86400


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def measured(what: str, intervals: int, work: Callable[[], object]) -> None:
    """Print the least of some times, in seconds of wall clock and of processor."""
    wall, cpu = [], []
    for _ in range(REPEATS):
        start, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    rate = intervals / min(cpu) / 1e6
    say(f"{what:28} {min(wall):6.2f} s {min(cpu):6.2f} s of CPU {rate:6.1f} M a CPU second")


def ours(count: int, save: Path | None) -> None:
    """Measure the functions of this package."""
    import numpy as np
    import polars as pl

    from chameleon_usage.intervals import arithmetic

    random = np.random.default_rng(1)
    kind = pl.Enum([f"c{number:04}" for number in range(KEYS)])

    def intervals(count: int, longest: int) -> pl.DataFrame:
        host = pl.Series(random.integers(0, KEYS, count)).cast(pl.UInt16).cat.to(kind)
        start = random.integers(0, SECONDS, count) + 1_450_000_000
        end = start + random.integers(1, longest, count)
        return pl.DataFrame({"host": host, "start": start, "end": end, "units": 1}).with_columns(
            pl.from_epoch(name).cast(pl.Datetime("us")) for name in ("start", "end")
        )

    on = ["host"]
    # As long as the gaps between them, on average: about half of them overlap another.
    rows = intervals(count, 2 * SECONDS * KEYS // count)
    other = intervals(count, 2 * SECONDS * KEYS // count)
    parents = arithmetic.union(other, on)
    if save:
        save.mkdir(parents=True, exist_ok=True)
        for name, frame in (("rows", rows), ("other", other), ("parents", parents)):
            frame.write_parquet(save / f"{name}.parquet")
    edges = arithmetic.bucket_edges(rows["start"].min(), rows["end"].max(), "1d")
    both = count + parents.height
    measured("union", count, lambda: arithmetic.union(rows, on))
    measured("intersect", both, lambda: arithmetic.intersect(rows, parents, on))
    measured("split_overlaps", count, lambda: arithmetic.split_overlaps(rows, on, ["end"]))
    measured("sum_overlaps", count, lambda: arithmetic.sum_overlaps(rows, on, ["units"]))
    measured("integrate", count, lambda: arithmetic.integrate(rows, edges, on, ["units"]))


def theirs(save: Path) -> None:
    """Measure polars-bio on the same intervals."""
    import polars as pl
    import polars_bio as pb

    def frame(name: str) -> pl.DataFrame:
        return pl.read_parquet(save / f"{name}.parquet").select(
            chrom=pl.col("host").cast(pl.String),
            start=pl.col("start").dt.epoch("s") - 1_450_000_000,
            end=pl.col("end").dt.epoch("s") - 1_450_000_000,
        )

    columns = ["chrom", "start", "end"]
    rows, parents = frame("rows"), frame("parents")
    for frames in (rows, parents):
        frames.config_meta.set(coordinate_system_zero_based=True)
    both = rows.height + parents.height
    whole = {"cols": columns, "output_type": "polars.DataFrame"}
    pairs = {"cols1": columns, "cols2": columns, "output_type": "polars.DataFrame"}
    measured("polars-bio merge", rows.height, lambda: pb.merge(rows, **whole))
    measured("polars-bio overlap", both, lambda: pb.overlap(rows, parents, **pairs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--other", action="store_true")
    asked = parser.parse_args()
    say(f"{asked.count:,} intervals of {KEYS:,} keys, {os.cpu_count()} processors")
    theirs(asked.save) if asked.other else ours(asked.count, asked.save)
