"""When a site's tables were read, which closes all that was open then."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.snapshots import history

STAMPED = ("created_at", "updated_at", "deleted_at")
"""Times at which the services themselves wrote a row."""
ALONE, FEW_ROWS = timedelta(days=180), 6
NEVER = 9000
"""A date of this year or later stands for "never", not for a moment."""


def _stamps(path: Path) -> Iterator[datetime]:
    """Give the two last times of change in a file's rows, kept or not."""
    if path.suffix == ".csv":
        return
    scan = pl.scan_parquet(path)
    kinds = scan.collect_schema()
    names = [name for name in STAMPED if isinstance(kinds.get(name), pl.Datetime)]
    if names:
        last = scan.select(_utc(pl.col(name), kinds[name]) for name in names)
        yield from _last_of(last.collect())


def _utc(moment: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if isinstance(kind, pl.Datetime) and kind.time_zone:
        moment = moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return moment.cast(pl.Datetime("us")).dt.truncate("1s")


def _last_of(times: pl.DataFrame, rows: int = 2) -> Iterator[datetime]:
    """Give the last time of each of the rows that were changed last, by default of two."""
    real = [pl.when(pl.col(name).dt.year() < NEVER).then(name) for name in times.columns]
    last = times.select(_last=pl.max_horizontal(pl.lit(None, pl.Datetime("us")), *real))
    yield from last["_last"].drop_nulls().top_k(rows)


def as_of(manifest: Path, admitted: Iterable[tuple[str, pl.DataFrame, Sequence[Path]]]) -> datetime:
    """Tell when tables were read: the manifest's word, else the last time in a row.

    What ``FEW_ROWS`` at most say, ``ALONE`` after all others, is a clock that went wrong.

    Args:
        manifest: the extractor's, where there is one.
        admitted: name, good rows and files of each table.

    Raises:
        UsageError: there is neither a manifest nor a time.
    """
    if manifest.exists():
        return history.manifest_as_of(manifest)
    times: Counter[datetime] = Counter()
    for name, rows, paths in admitted:
        kept = [one for one in (*STAMPED, "EVENT_TIME", "FINISH_TIME") if one in rows.columns]
        stored = Counter(moment for path in paths for moment in _stamps(path))
        # Files of other makers need not end together: one that many rows carry on is no odd clock.
        most = FEW_ROWS + 1 if RAW_TABLES[name].remade else 2
        times += stored | Counter(_last_of(rows.select(kept), most))
    if not times:
        raise UsageError(
            f"{manifest.parent}: no row has a created_at, updated_at or deleted_at, so the time of "
            "the dump is not known; add a manifest.json with 'as_of'"
        )
    latest = sorted(times.elements(), reverse=True)
    for above in range(1, min(FEW_ROWS, len(latest) // 2) + 1):
        if latest[above - 1] - latest[above] > ALONE:
            return latest[above]
    return latest[0]
