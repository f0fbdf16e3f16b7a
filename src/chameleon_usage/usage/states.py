"""Means of what is measured -> every count type: the algebra of the metric registry."""

import polars as pl

from chameleon_usage.models.metrics import (
    DERIVED,
    HOST_BY_HOST,
    IN_POOL,
    MEASURED,
    METRICS,
    needs,
)
from chameleon_usage.usage.window import KNOWN_ENOUGH, Known


def derive(means: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Add the derived states, and blank what is not known.

    Args:
        means: one frame of ``mean_usage``.
        known: what the records can speak of.

    Returns:
        the same rows with every count type of the metric registry; null where an operand is
        unknown. The partition's maintenance, unknown and on-demand states are the corrected
        collector's alone: the others have no host-by-host reading to take them from.
    """
    corrected = pl.col("collector_type") == "corrected"

    def column(name: str) -> pl.Expr:
        return pl.col(name) if name in means.columns else pl.lit(0.0)

    def measured(name: str) -> pl.Expr:
        """A quantity that the records speak of and that has no segment is none, not unknown."""
        if name not in known.quantities:
            return pl.lit(None, pl.Float64)
        if known.completeness.get(name, 1.0) < KNOWN_ENOUGH:
            return pl.when(~corrected).then(column(name))
        return column(name)

    def host_by_host(name: str) -> pl.Expr:
        told = pl.when(measured("reservable").is_not_null()).then(column(name))
        otherwise = pl.lit(0.0 if name in IN_POOL else None, pl.Float64)
        return pl.when(corrected).then(told).otherwise(otherwise)

    index = [
        name
        for name in ("collector_type", "node_type", "hostname", "timestamp")
        if name in means.columns
    ]
    states = means.select(
        *index,
        *(measured(name).alias(name) for name in MEASURED),
        *(host_by_host(name).alias(name) for name in HOST_BY_HOST),
    )
    for name, metric in DERIVED.items():
        states = states.with_columns(metric.expression.alias(name))
    return states.select(*index, *METRICS)


def emitted(known: Known, collector: str) -> list[str]:
    """List the count types of a reading whose operands the site's records speak of."""
    needed = {name: needs(name, collector) for name in METRICS}
    return [name for name, of in needed.items() if of is not None and of <= known.quantities]
