"""Output tables cut to a period: what the parameters `start` and `end` of a notebook do."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import save_tables
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
TIMES = {"leadtime_leases": "created_at", "usage_wide": "time"}
"""Table to its column of time, where that is not `timestamp`."""
COARSE = {"lease_use": "1mo", "comparison_causes": "1y"}
"""Table to the length of its buckets, where that is not the run's: only whole ones count."""


def folder(output_dir: str, start: str, end: str) -> str:
    """Name the folder of the tables of a period, which is `output_dir` for all of the time.

    >>> folder("output", "2018-01-01", "2019-01-01")
    'output/periods/2018-01-01_2019-01-01'
    """
    return (
        f"{output_dir}/periods/{start or 'first'}_{end or 'last'}" if start or end else output_dir
    )


def cut(root: Path, name: str, output_dir: str, start: str = "", end: str = "") -> Path:
    """Give the folder of output tables of a period, cut from those of all of the time.

    A row belongs to the period in which its bucket begins, a lease to that in which it was made.
    Months and years of the coarser tables count where all of them is inside. The hours of a reject
    are those inside; without a time it is in no period. The joins are those of the whole run.

    Args:
        root: what `output_dir` is relative to.
        name: the folder to cut: a site's, or `combined`.
        output_dir: output tables, a folder for each.
        start: first day, as in 2018-01-01; empty: from the first on.
        end: the day after the last one; empty: to the last.

    Raises:
        UsageError: a day that is none, or a period without any bucket.
    """
    whole, into = root / output_dir, root / folder(output_dir, start, end)
    if whole == into:
        return whole
    first, last = day("start", start, FIRST), day("end", end, LAST)
    if first >= last:
        raise UsageError(f"parameter 'end': {end} is not after the start, {start}")
    usage = whole / name / "usage_timeline.parquet"
    if not usage.exists():
        return into
    rows = pl.scan_parquet(usage)
    if inside(rows, "usage_timeline", first, last).collect().is_empty():
        known = rows.select(pl.col("timestamp").dt.date()).collect().to_series().sort()
        raise UsageError(
            f"parameters 'start' and 'end': no bucket from {start or 'the first'} to "
            f"{end or 'the last'}; those of {usage} begin from {known[0]} to {known[-1]}"
        )
    tables = {
        table: inside(pl.scan_parquet(path), table, first, last).collect()
        for table in OUTPUTS
        if table not in OPTIONAL_OUTPUTS and (path := whole / name / f"{table}.parquet").exists()
    }
    save_tables(into / name, tables)
    return into


def day(parameter: str, text: str, default: datetime) -> datetime:
    """Read the day that a parameter names.

    Raises:
        UsageError: it is none.
    """
    try:
        at = date.fromisoformat(text) if text else default
    except ValueError:
        raise UsageError(
            f"parameter '{parameter}': '{text}' is not a day as in 2018-01-01"
        ) from None
    return datetime(at.year, at.month, at.day, tzinfo=UTC)


def inside(rows: pl.LazyFrame, table: str, first: datetime, last: datetime) -> pl.LazyFrame:
    """Give the rows of an output table that belong to a period; see `cut`."""
    if table == "join_log":
        return rows
    if table == "rejects":
        return rejected(rows, first, last)
    time = pl.col(TIMES.get(table, "timestamp"))
    if table in COARSE:
        return rows.filter(time >= first, time.dt.offset_by(COARSE[table]) <= last)
    return rows.filter(time.is_between(first, last, closed="left"))


def rejected(audit: pl.LazyFrame, first: datetime, last: datetime) -> pl.LazyFrame:
    """Clip rejects to a period, and their hours with them; one without a length is a moment."""
    first, last = first.replace(tzinfo=None), last.replace(tzinfo=None)
    begins = pl.coalesce("start", "end")
    ends = pl.max_horizontal(begins, "end")
    share = (ends.clip(first, last) - begins.clip(first, last)) / (ends - begins)
    crossing = (ends > begins) & (begins < last) & (ends > first)
    return audit.filter(crossing | begins.is_between(first, last, closed="left")).with_columns(
        pl.when(crossing).then(pl.col("start").clip(first, last)).otherwise("start").alias("start"),
        pl.when(crossing).then(pl.col("end").clip(first, last)).otherwise("end").alias("end"),
        pl.when(crossing).then(pl.col("hours") * share).otherwise("hours").alias("hours"),
    )
