"""The ranges of a site in several processes of one machine, each of which uses one core.

A range by itself does not keep two cores busy: much of what is done with it is done in turn. Two of
them do, in twice the memory of one.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from chameleon_usage.errors import UsageError
from chameleon_usage.ranges import AtHome, Tables

EACH = 12
"""Ranges that a process does: it keeps the names of all it has seen, as Polars does."""


class Processes(AtHome):
    """So many ranges at a time, each in a process of its own."""

    def __init__(self, jobs: int) -> None:
        """Take how many."""
        self.jobs = jobs

    def _each(self, work: Callable[[Path], Tables], of: Sequence[Path]) -> Iterator[Tables]:
        """Give what is made of each place, in order; of few at a time, to save memory.

        Raises:
            UsageError: a process was killed.
        """
        most = self.jobs * EACH
        for first in range(0, len(of), most):
            yield from self._some(work, of[first : first + most])

    def _some(self, work: Callable[[Path], Tables], of: Sequence[Path]) -> Iterator[Tables]:
        """Do so in processes that end with it."""
        with (
            one_thread_each(),
            ProcessPoolExecutor(
                min(self.jobs, len(of)), multiprocessing.get_context("spawn")
            ) as pool,
        ):
            waiting: deque[Future[Tables]] = deque()
            try:
                for place in of:
                    waiting.append(pool.submit(work, place))
                    if len(waiting) > self.jobs:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BrokenProcessPool as error:
                raise UsageError(
                    f"--jobs {self.jobs}: a process was killed, most likely for want of memory; "
                    "give more --ranges, or fewer --jobs"
                ) from error


@contextmanager
def one_thread_each() -> Iterator[None]:
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
