"""What an engine is: who works on the ranges of a site."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl
import polars.selectors as cs

Tables = Mapping[str, pl.DataFrame]
Work = Callable[[pl.DataFrame], Tables]
"""What is done with the rows of a range."""

NAMES = cs.by_dtype(pl.Enum, pl.Categorical)


class Engine(Protocol):
    """Who works on ranges. Results come in any order; see ``ranges.named`` for the names in them.

    Attributes:
        jobs: ranges that are worked on at a time at home, and the fewest that a site is cut into
            where nobody says how many.
        apart: whether it works in other processes, so that names have to be written as text.
    """

    jobs: int
    apart: bool

    def ask(self, folder: Path, work: Work, names: Sequence[str]) -> Iterable[Tables]:
        """Give the named tables that the work makes of each range's rows, which lie in a folder."""

    def keep(self, folder: Path, work: Work, names: Sequence[str]) -> None:
        """Keep in the folder the named tables that the work makes of each range's rows."""

    def kept(self, folder: Path, names: Sequence[str]) -> Iterable[Tables]:
        """Give the named tables that were kept of each range."""

    def ask_kept(
        self,
        folder: Path,
        of: Sequence[str],
        work: Callable[[Tables], Tables],
        names: Sequence[str],
    ) -> Iterable[Tables]:
        """Give the named tables that the work makes of those that were kept of each range."""


def places(folder: Path) -> list[Path]:
    """List the directories in a folder, as those of ranges, in order."""
    return sorted(folder.iterdir())


def plain(tables: Tables) -> dict[str, pl.DataFrame]:
    """Write all names as text: what they are numbered by, another process does not know."""
    return {name: frame.cast({NAMES: pl.String}) for name, frame in tables.items()}
