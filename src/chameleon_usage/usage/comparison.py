"""The collectors side by side: the legacy caches, the uncorrected and the corrected count."""

from collections.abc import Iterable, Iterator

import polars as pl

from chameleon_usage.intervals.keys import Numbers
from chameleon_usage.models.frames import columns, dy
from chameleon_usage.models.outputs import Comparison, ComparisonByNodeType
from chameleon_usage.usage.grid import Grid

_COLLECTORS = ("legacy", "uncorrected", "corrected")
_MOMENT = ["timestamp", "count_type"]
_VALUE = pl.Float64()
_Placed = tuple[str, Numbers, pl.Series]
"""A collector, places in a grid of which it has rows, and the values of these."""


def of_site(timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Set the collectors' site values side by side.

    Args:
        timeline: domain.UsageTimeline of one site.
        site: the site's key.

    Returns:
        domain.Comparison, a row for each bucket and count type of any collector.
    """
    grid = Grid.of(timeline, _MOMENT)
    wide = _wide(grid, _by_collector(timeline, grid))
    return _differences(grid, wide.filter("_told"), Comparison, site)


def of_node_types(rows: pl.DataFrame, timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Set the collectors' values of each node type side by side.

    A collector that has no row for a node type, while its site value is known, has none of that
    type.

    Args:
        rows: collector_type, count_type, node_type (an enumeration), timestamp and value, in nodes.
        timeline: domain.UsageTimeline of the site.
        site: the site's key.

    Returns:
        domain.ComparisonByNodeType, a row for each bucket, count type and node type of any
        collector.
    """
    moments = Grid.of(timeline, _MOMENT)
    grid = Grid((*moments.values, *Grid.of(rows, ["node_type"]).values))
    wide = _wide(grid, _by_collector(rows, grid)).filter("_told")
    of_type = wide["_place"] // grid.values[-1].len()
    none = _wide(moments, _by_collector(timeline, moments))[of_type].select(pl.col(_COLLECTORS) * 0)
    filled = wide.with_columns(
        wide[name].zip_with(wide[name].is_not_null(), none[name]) for name in _COLLECTORS
    )
    return _differences(grid, filled, ComparisonByNodeType, site)


def _by_collector(timeline: pl.DataFrame, grid: Grid) -> Iterator[_Placed]:
    for name in _COLLECTORS:
        mine = timeline.filter(pl.col("collector_type") == name)
        yield name, grid.places(mine), mine["value"]


def _wide(grid: Grid, placed: Iterable[_Placed]) -> pl.DataFrame:
    """Give a row for each place of a grid (``_place``): the collectors' values, and ``_told``."""
    values = {name: pl.repeat(None, grid.size, dtype=_VALUE, eager=True) for name in _COLLECTORS}
    told = pl.repeat(value=False, n=grid.size, eager=True)
    for name, places, own in placed:
        at = pl.Series(places)
        values[name].scatter(at, own)
        told.scatter(at, values=True)
    return pl.DataFrame(values | {"_told": told, "_place": pl.int_range(grid.size, eager=True)})


def _differences(
    grid: Grid, wide: pl.DataFrame, schema: type[dy.Schema], site: str
) -> pl.DataFrame:
    """Take the corrected count's distance to the legacy one."""
    difference = pl.col("corrected") - pl.col("legacy")
    relative = pl.when(pl.col("legacy") != 0).then(difference / pl.col("legacy"))
    return (
        grid.at(wide["_place"].to_numpy())
        .hstack(wide.select(_COLLECTORS))
        .with_columns(
            pl.lit(site).alias("site"), difference=difference, relative_difference=relative
        )
        .select(pl.col(name).cast(kind) for name, kind in columns(schema).items())
    )
