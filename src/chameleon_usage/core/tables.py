"""Rows of an output in the columns, types and order of its contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import polars as pl

from chameleon_usage.core import engine
from chameleon_usage.models.contract import columns, dy


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

    def places(self, rows: pl.DataFrame) -> pl.Series:
        """Give the place of each row (Int64); its values must be among the grid's."""
        place = pl.zeros(rows.height, pl.Int64, eager=True)
        for values in self.values:
            place = place * values.len() + _codes(values, rows[values.name]).cast(pl.Int64)
        return place

    def keys(self, places: pl.Series) -> pl.DataFrame:
        """Give the values at some places, a column each."""
        rest, told = places, []
        for values in reversed(self.values):
            told.append(values.gather(rest % values.len()))
            rest = rest // values.len()
        return pl.DataFrame(told[::-1])


def _codes(values: pl.Series, own: pl.Series) -> pl.Series:
    if isinstance(own.dtype, pl.Enum):
        return own.to_physical()
    if own.dtype.is_temporal():
        return engine.last_border(values.to_physical(), own.to_physical())
    return values.search_sorted(own)


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
    return finished[Grid.of(finished, key).places(finished).arg_sort()]
