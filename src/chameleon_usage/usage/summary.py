"""What a site's outputs say of a period, in one piece of plain data."""

import polars as pl


def rejects_within(rejects: pl.DataFrame, start: object, end: object) -> pl.DataFrame:
    """List what was refused of [start, end).

    Args:
        rejects: the output table of that name.
        start: a naive UTC time.
        end: a naive UTC time.

    Returns:
        the rows that reach into the period, ``hours`` cut to it, and those that tell no time.
    """
    first, last = pl.lit(start, pl.Datetime("us")), pl.lit(end, pl.Datetime("us"))
    begin, until = pl.min_horizontal("start", "end"), pl.max_horizontal("start", "end")
    length = (until - begin).dt.total_seconds()
    inside = pl.min_horizontal(until, last) - pl.max_horizontal(begin, first)
    touches = (begin < last) & ((until > first) | (begin == first))
    hours = pl.col("hours") * inside.dt.total_seconds() / length
    return rejects.filter(touches.fill_null(value=True)).with_columns(
        hours=pl.when(length > 0).then(hours).otherwise("hours")
    )
