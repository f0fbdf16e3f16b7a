"""How a frame is brought to a schema; dataframely, without importing libraries it does not need.

Where something else has installed SQLAlchemy and Pydantic, dataframely imports them for features
not used here: 0.3 s at each start, which is a fifth of a run of CHI@Edge, a twentieth of one of
CHI@UC, and most of what a short command takes.
"""

import sys
from collections.abc import Iterator
from functools import cache

import polars as pl

_UNUSED = [name for name in ("sqlalchemy", "pydantic", "pydantic_core") if name not in sys.modules]
try:
    sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type] # None: as if not installed
    import dataframely as dy
finally:
    for _name in _UNUSED:
        del sys.modules[_name]


Parts = Iterator[pl.DataFrame]
"""A table of millions of rows, one part of which is in memory at a time; there is at least one."""

Table = pl.DataFrame | Parts
"""A table, whole or part by part."""


@cache
def empty(schema: type[dy.Schema]) -> pl.DataFrame:
    """Give a frame of a contract without rows: always the same one, as no frame is changed."""
    # Not ``create_empty``, which casts what has its types already.
    return pl.DataFrame(schema={name: column.dtype for name, column in schema.columns().items()})


@cache
def columns(schema: type[dy.Schema]) -> pl.Schema:
    """Give the columns of a contract with their types."""
    return empty(schema).schema


def conform(frame: pl.DataFrame, schema: type[dy.Schema]) -> pl.DataFrame:
    """Order, cast and complete (with nulls) the columns of a frame to those of a schema."""
    has, kinds = frame.schema, columns(schema)
    return frame.select(
        _cast(name, has[name], kind) if name in has else pl.lit(None, kind).alias(name)
        for name, kind in kinds.items()
    )


def _cast(name: str, old: pl.DataType, new: pl.DataType) -> pl.Expr:
    if isinstance(old, pl.Enum) and isinstance(new, pl.Categorical):
        # Each name once: a cast looks up the text of every row.
        return pl.lit(old.categories.cast(new)).gather(pl.col(name).to_physical()).alias(name)
    return pl.col(name).cast(new)


def finish(rows: pl.DataFrame, schema: type[dy.Schema], site: str) -> pl.DataFrame:
    """Bring rows of one site to an output's columns, types and order: that of its key."""
    key = [name for name in schema.primary_key() if name != "site"]  # it has but one value
    return conform(rows.with_columns(site=pl.lit(site)), schema).sort(key)


__all__ = ["Parts", "Table", "columns", "conform", "dy", "empty", "finish"]
