"""The collectors side by side: the legacy caches, the uncorrected and the corrected count."""

import polars as pl

from chameleon_usage.models.frames import conform, dy
from chameleon_usage.models.outputs import Comparison, ComparisonByNodeType

_COLLECTORS = ["legacy", "uncorrected", "corrected"]
_MOMENT = ["timestamp", "count_type"]


def of_site(timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Set the collectors' site values side by side.

    Args:
        timeline: models.outputs.UsageTimeline of one site.
        site: the site's key.

    Returns:
        models.outputs.Comparison, a row for each bucket and count type of any collector.
    """
    return _differences(_wide(timeline, _MOMENT), Comparison, site)


def of_node_types(rows: pl.DataFrame, timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Set the collectors' values of each node type side by side.

    A collector that has no row for a node type, while its site value is known, has none of that
    type.

    Args:
        rows: collector_type, count_type, node_type, timestamp and value, in nodes.
        timeline: models.outputs.UsageTimeline of the site.
        site: the site's key.

    Returns:
        models.outputs.ComparisonByNodeType, a row for each bucket, count type and node type of any
        collector.
    """
    wide = _wide(rows, [*_MOMENT, "node_type"])
    none = _wide(timeline, _MOMENT).with_columns(pl.col(_COLLECTORS) * 0)
    filled = wide.join(
        none, on=_MOMENT, how="left", suffix="_none", maintain_order="left"
    ).with_columns(pl.col(name).fill_null(pl.col(f"{name}_none")) for name in _COLLECTORS)
    return _differences(filled, ComparisonByNodeType, site)


def _wide(rows: pl.DataFrame, index: list[str]) -> pl.DataFrame:
    wide = rows.pivot(on="collector_type", on_columns=_COLLECTORS, index=index, values="value")
    return wide.sort(index)


def _differences(wide: pl.DataFrame, schema: type[dy.Schema], site: str) -> pl.DataFrame:
    """Take the corrected count's distance to the legacy one."""
    difference = pl.col("corrected") - pl.col("legacy")
    relative = pl.when(pl.col("legacy") != 0).then(difference / pl.col("legacy"))
    return conform(
        wide.with_columns(site=pl.lit(site), difference=difference, relative_difference=relative),
        schema,
    )
