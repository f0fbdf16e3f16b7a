"""What is measured on other twins than the book's: they are made and counted, and put on record."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from chameleon_twin.calibration import Profile
from chameleon_twin.site import make
from chameleon_usage import pipeline
from chameleon_usage.cli.options import read_sites
from chameleon_usage.io import files
from chameleon_usage.usage.buckets import Window
from paper.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chameleon_usage.models.site import Site
    from chameleon_usage.stages import FactsStage

SEEDS = (2016, 1, 2, 3, 4)
"""The first is the book's own."""

SIZE = Profile("full", 1.0)
"""The real one: of a tenth of the hosts, one that has lost its row would be ten times as much."""

WINDOW = Window(datetime.fromisoformat("2016-01-01"), datetime.fromisoformat("2026-01-01"), "1d")


@dataclass(frozen=True)
class Twin:
    """A simulated site, read: its entry, its facts, and the folder of its truth."""

    entry: Site
    facts: FactsStage
    folder: Path

    def truth(self, name: str) -> pl.DataFrame:
        """Read a table of the truth."""
        return pl.read_parquet(self.folder / "truth" / f"{name}.parquet")


@contextmanager
def twin_of(
    site: str,
    seed: int,
    *,
    factors: Mapping[str, float] | None = None,
    years: str | None = None,
    size: Profile = SIZE,
) -> Iterator[Twin]:
    """Make a site of the twin and read its tables; its folder is gone afterwards.

    Args:
        site: its key.
        seed: of the twin.
        factors: kind of damage to how many times as frequent it is.
        years: "even" or "odd", if the real curves of these alone steer it.
        size: of the twin.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(site, folder, seed, size, True, factors=factors or {}, years=years)
        entry = read_sites(ROOT / "data" / "sites.yaml", [site])[site]
        facts, _ = pipeline.facts(entry, folder)
        yield Twin(entry, facts, folder / site)


def measure_all(
    runs: Sequence[tuple[Callable[..., pl.DataFrame], tuple[Any, ...]]],
    record: Callable[[pl.DataFrame], None],
    jobs: int,
) -> None:
    """Measure side by side, record each as soon as it is there, and say so.

    Args:
        runs: what measures, and its arguments.
        record: puts a frame on record.
        jobs: how many at once.
    """
    # Runs side by side share the cores; a process reads this before it loads Polars.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running: dict[Future[pl.DataFrame], tuple[Any, ...]] = {
            pool.submit(measure, *run): run for measure, run in runs
        }
        for done, future in enumerate(as_completed(running), 1):
            record(future.result())
            click.echo(f"{done} of {len(running)}: {' '.join(map(str, running[future]))}", err=True)


def put(path: Path, new: pl.DataFrame, run: Sequence[str], key: Sequence[str]) -> None:
    """Put what was measured into a record, in the place of what it had of the same runs.

    Args:
        path: of the record, a CSV file with the columns of `new`.
        new: what was measured.
        run: the columns that name a run.
        key: the columns by which the record is sorted.
    """
    known = [pl.read_csv(path, schema=new.schema)] if path.exists() else []
    kept = [old.join(new, on=list(run), how="anti") for old in known]
    with files.whole_file(path) as part:
        pl.concat([*kept, new]).sort(key).write_csv(part)
