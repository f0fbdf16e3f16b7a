"""Time as the twin keeps it: whole seconds since 1970 UTC, `NEVER` for what has not been."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

Seconds = NDArray[np.int64]

NEVER = np.iinfo(np.int64).min
MINUTE, HOUR, DAY = 60, 3600, 86400


def seconds(when: str | date | datetime) -> int:
    """Seconds since 1970 of a date or datetime in UTC."""
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if not isinstance(when, datetime):
        when = datetime(when.year, when.month, when.day, tzinfo=UTC)
    return int(when.replace(tzinfo=UTC).timestamp())


def year_start(year: int) -> int:
    """Seconds since 1970 of the first instant of a year."""
    return seconds(date(year, 1, 1))


def years_of(times: Seconds) -> NDArray[np.int64]:
    """Calendar year of each time."""
    return times.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970


def datetimes(times: Seconds) -> pl.Series:
    """Naive UTC `Datetime("us")`, null where `NEVER`."""
    known = times != NEVER
    values = pl.Series(np.where(known, times, 0) * 1_000_000).cast(pl.Datetime("us"))
    if known.all():
        return values
    return pl.select(pl.when(pl.Series(known)).then(values)).to_series()


def whole(values: NDArray[np.floating]) -> Seconds:
    """Round to whole seconds."""
    return np.rint(values).astype(np.int64)
