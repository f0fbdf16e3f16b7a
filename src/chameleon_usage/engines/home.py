"""The engine at home: some ranges at a time, in threads of this process.

Names (enumerations and categories) are numbers in memory, which only this process knows. What does
not leave it is written with these numbers, which takes a tenth of the time that texts take.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import polars as pl

from chameleon_usage.engines.engine import NAMES, Tables, Work, places
from chameleon_usage.io.files import writing


class AtHome:
    """Some ranges at a time, in this process, each in a thread of its own."""

    apart = False

    def __init__(self, jobs: int = 1) -> None:
        """Take how many at a time."""
        self.jobs = jobs

    def ask(self, folder: Path, work: Work, names: Sequence[str]) -> Iterable[Tables]:
        """Give what the work makes of each range's rows."""
        return self._each(partial(_made, work, names), places(folder / "rows"))

    def keep(self, folder: Path, work: Work, names: Sequence[str]) -> None:
        """Keep what the work makes of each range's rows."""
        deque(self._each(partial(_keep, work, names), places(folder / "rows")), maxlen=0)

    def kept(self, folder: Path, names: Sequence[str]) -> Iterable[Tables]:
        """Give tables that were kept of each range."""
        return (_numbered_in(place, names) for place in places(folder / "readings"))

    def ask_kept(
        self,
        folder: Path,
        of: Sequence[str],
        work: Callable[[Tables], Tables],
        names: Sequence[str],
    ) -> Iterable[Tables]:
        """Give what the work makes of tables that were kept of each range."""
        return self._each(partial(_of_kept, work, of, names), places(folder / "readings"))

    def _each(self, work: Callable[[Path], Tables], of: Sequence[Path]) -> Iterator[Tables]:
        """Give what is made of each place, in order; of few at a time, to save memory."""
        if self.jobs == 1:
            yield from map(work, of)
            return
        pool, waiting = ThreadPoolExecutor(self.jobs), deque[Future[Tables]]()
        wait = True  # where one fails, none of the others writes on in a folder that is cleared
        try:
            for place in of:
                waiting.append(pool.submit(work, place))
                if len(waiting) > self.jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except GeneratorExit:  # whoever takes no more waits for none
            wait = False
            raise
        finally:
            pool.shutdown(wait=wait, cancel_futures=True)


def _made(work: Work, names: Sequence[str], place: Path) -> Tables:
    made = work(pl.concat(pl.read_ipc(path) for path in sorted(place.glob("*.arrow"))))
    return {name: made[name] for name in names}


def _keep(work: Work, names: Sequence[str], place: Path) -> Tables:
    save_numbered(place.parents[1] / "readings" / place.name, _made(work, names, place))
    return {}


def _of_kept(
    work: Callable[[Tables], Tables], of: Sequence[str], names: Sequence[str], place: Path
) -> Tables:
    made = work(_numbered_in(place, of))
    return {name: made[name] for name in names}


def save_numbered(directory: Path, tables: Tables) -> None:
    """Write each frame to ``<name>.arrow`` in a directory, names as their numbers."""
    directory.mkdir(parents=True, exist_ok=True)
    with writing():
        for name, frame in tables.items():
            frame.with_columns(NAMES.to_physical()).write_ipc(directory / f"{name}.arrow")


def _numbered_in(place: Path, names: Sequence[str]) -> dict[str, pl.DataFrame]:
    return {name: pl.read_ipc(place / f"{name}.arrow") for name in names}
