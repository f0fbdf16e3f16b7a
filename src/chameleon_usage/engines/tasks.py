"""Ranges as tasks of other processes, which see the same folder and tell each other by files."""

import multiprocessing
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import polars as pl
from tqdm import tqdm

from chameleon_usage.engines.engine import Tables, Work, places, plain
from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import load_table, save_tables, whole_directory

JOB, DONE = "job.pickle", "done"

SPAWN = multiprocessing.get_context("spawn")


class Tasks(ABC):
    """Each range is a task of some other process."""

    jobs = 1
    apart = True

    @abstractmethod
    def launch(self, job: Path, of: Sequence[Path]) -> None:
        """Have the task of each place done (``do_task``), by its number."""

    def each(
        self, job: Path, of: Sequence[Path], work: Callable[[Path], Tables], names: Sequence[str]
    ) -> list[Path]:
        """Do the work on each place.

        Args:
            job: a folder that is made.
            of: places, each of which is a task.
            work: gives tables.
            names: of those that are kept.

        Returns:
            where the tables of each place lie, as ``<name>.parquet``, in the places' order.

        Raises:
            UsageError: a task was not done.
        """
        job.mkdir()
        (job / JOB).write_bytes(pickle.dumps((list(of), work, tuple(names))))
        self.launch(job, of)
        return [job / DONE / place.name for place in of]

    def ask(self, folder: Path, work: Work, names: Sequence[str]) -> Iterable[Tables]:
        """Give what the work makes of each range's rows."""
        done = self.each(folder / "asked", places(folder / "rows"), partial(_of_rows, work), names)
        return (tables_of(place, names) for place in done)

    def keep(self, folder: Path, work: Work, names: Sequence[str]) -> None:
        """Keep what the work makes of each range's rows."""
        self.each(folder / "read", places(folder / "rows"), partial(_of_rows, work), names)
        (folder / "read" / DONE).rename(folder / "readings")

    def kept(self, folder: Path, names: Sequence[str]) -> Iterable[Tables]:
        """Give tables that were kept of each range."""
        return (tables_of(place, names) for place in places(folder / "readings"))

    def ask_kept(
        self,
        folder: Path,
        of: Sequence[str],
        work: Callable[[Tables], Tables],
        names: Sequence[str],
    ) -> Iterable[Tables]:
        """Give what the work makes of tables that were kept of each range."""
        job, made = folder / f"of-{'-'.join(of)}", partial(_of_tables, work, of)
        return (
            tables_of(place, names)
            for place in self.each(job, places(folder / "readings"), made, names)
        )


class Processes(Tasks):
    """Some at a time, each in a process of this machine, which uses one core."""

    def __init__(self, jobs: int = 1, *, progress: bool = False) -> None:
        """Take how many at a time, and whether to show a bar on a terminal."""
        self.jobs, self.progress = jobs, progress

    def launch(self, job: Path, of: Sequence[Path]) -> None:
        """Have the task of each place done.

        Raises:
            UsageError: a process was killed.
        """
        pool = ThreadPoolExecutor(self.jobs)
        try:
            with _one_thread_each(), self._bar(job, len(of)) as bar:
                for _ in pool.map(partial(self._alone, job), range(len(of))):
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)

    def _alone(self, job: Path, number: int) -> None:
        """Do a task in a process that ends with it: Polars keeps all names that it has seen."""
        with ProcessPoolExecutor(1, SPAWN) as process:
            try:
                process.submit(do_task, job, number).result()
            except BrokenProcessPool as error:
                raise UsageError(
                    f"--jobs {self.jobs}: a process was killed, most likely for want of memory; "
                    "give more --ranges and --shards, or fewer --jobs"
                ) from error

    def _bar(self, job: Path, tasks: int) -> "tqdm[NoReturn]":
        return tqdm(desc=job.name, total=tasks, leave=False, disable=not self.progress)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Start processes whose Polars has one thread: those of several would wait for each other."""
    name = "POLARS_MAX_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _of_rows(work: Work, place: Path) -> Tables:
    return work(pl.concat(load_table(path) for path in sorted(place.glob("*.parquet"))))


def _of_tables(work: Callable[[Tables], Tables], of: Sequence[str], place: Path) -> Tables:
    return work(tables_of(place, of))


def tables_of(place: Path, names: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Read tables of a place."""
    return {name: load_table(path_of(place, name)) for name in names}


def path_of(place: Path, name: str) -> Path:
    """Tell where a table of a place lies."""
    return place / f"{name}.parquet"


def do_task(job: Path, number: int) -> None:
    """Do one task; what it makes appears whole or not at all, so it can be done again."""
    of, work, names = pickle.loads((job / JOB).read_bytes())  # noqa: S301 - the run's own
    made = work(of[number])
    with whole_directory(job / DONE / of[number].name) as scratch:
        save_tables(scratch, plain({name: made[name] for name in names}))
