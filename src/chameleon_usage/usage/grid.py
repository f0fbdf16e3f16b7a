"""Rows of an output in the columns, types and order of its contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import polars as pl

from chameleon_usage.intervals import keys
from chameleon_usage.models.frames import columns, dy


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some columns, in order: its place is one integer.

    Rows sort, compare and meet by that integer, at a fraction of what their columns cost.

    Attributes:
        values: the ascending values of each column, the first column the slowest.
    """

    values: tuple[pl.Series, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame, key: Sequence[str]) -> "Grid":
        """Span the values that the rows have in the columns of ``key``."""
        return cls(tuple(_values(rows[name]) for name in key))

    @property
    def size(self) -> int:
        """How many places there are."""
        return prod(values.len() for values in self.values)

    def places(self, rows: pl.DataFrame) -> keys.Numbers:
        """Give the place of each row; its values must be among the grid's."""
        place = np.zeros(rows.height, np.int64)
        for values in self.values:
            place = place * values.len() + _codes(values, rows[values.name])
        return place

    def at(self, places: keys.Numbers) -> pl.DataFrame:
        """Give the values at some places, a column each."""
        rest, told = places, []
        for values in reversed(self.values):
            place, rest = rest, rest // values.len()
            told.append(values.gather(pl.Series(place - rest * values.len())))
        return pl.DataFrame(told[::-1])


def _codes(values: pl.Series, own: pl.Series) -> keys.Numbers:
    if isinstance(own.dtype, pl.Enum):
        return own.to_physical().cast(pl.Int64).to_numpy()
    if own.dtype.is_temporal():
        return keys.last_border(keys.epoch(values), keys.epoch(own))
    return values.search_sorted(own).cast(pl.Int64).to_numpy()


def _values(column: pl.Series) -> pl.Series:
    """Give the values that a column has, or, of an enumeration, can have: ascending."""
    if isinstance(column.dtype, pl.Enum):
        return pl.Series(column.name, column.dtype.categories, column.dtype)
    return column.unique().sort()


def finish(rows: pl.DataFrame, schema: type[dy.Schema], site: str) -> pl.DataFrame:
    """Bring rows of one site to an output's columns, types and order."""
    finished = rows.with_columns(site=pl.lit(site)).select(
        pl.col(name).cast(kind) for name, kind in columns(schema).items()
    )
    # A whole site has one name.
    key = [name for name in schema.primary_key() if name != "site"]
    return finished[keys.ascending(Grid.of(finished, key).places(finished))]
