"""Which hosts could be used, and why the others could not.

Beside the partition, which does not change: a host can be in the pool and held, and out of use.
"""

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.arithmetic import check_conservation
from chameleon_usage.models.metrics import CAUSES
from chameleon_usage.models.vocabulary import PLANNED
from chameleon_usage.reconstruct.observed import HOST
from chameleon_usage.reconstruct.reading import Collected


def split_by_status(
    status: pl.DataFrame,
    windows: pl.DataFrame,
    room: dict[str, pl.DataFrame],
    out_of_pool: pl.DataFrame,
    collected: Collected,
) -> None:
    """Split the hosts by whether they could be used.

    Where any source tells a cause the host is out of use; else, where one speaks, it is usable;
    else nobody knows. Where no source of the site tells any status nothing is split: windows alone
    tell some causes, and of no host that it could be used.

    Args:
        status: what sources say (StatusIntervals).
        windows: maintenance windows: hostname, start, end.
        room: total and reservable: whole hosts with their sizes, at least the columns of
            ``observed.with_sizes``.
        out_of_pool: of total, what counts as maintenance because Blazar's pool is without it.
        collected: takes the quantities of ``OF_STATUS``, and how far each source speaks.

    Raises:
        ConservationError: an hour of the pool is neither usable, unusable nor unknown.
    """
    causes = _causes(status, windows)
    spoken = arithmetic.union(
        pl.concat([frame.select("hostname", "start", "end") for frame in (status, causes)]), HOST
    )
    known, unknown = arithmetic.intersect(room["reservable"], spoken, HOST)
    unusable, usable = arithmetic.intersect(known, causes, HOST)
    check_conservation("corrected usable", room["reservable"], unusable, usable, unknown)
    collected.emit(known, "status_known_in_pool")
    told = arithmetic.union(status, [*HOST, "source"])
    collected.record_support("status_known_in_pool", told, room["reservable"])
    collected.emit(unusable, "unusable_in_pool")
    known, _ = arithmetic.intersect(room["total"], spoken, HOST)
    collected.emit(known, "status_known")
    out_of_use, _ = arithmetic.intersect(known, causes, HOST)
    for cause in CAUSES:
        collected.emit(out_of_use.filter(pl.col("cause") == cause), cause)
    _, unexplained = arithmetic.intersect(out_of_pool, causes, HOST)
    collected.emit(unexplained, "unexplained")


def _causes(status: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Tell why each host was out of use, one cause at a time.

    A fault goes first: a service met it, and the flags that people set often follow it. A
    maintenance flag or window goes before a disabled one, which only says that nobody gets the
    host, and not why.

    Returns:
        hostname, start, end, cause: disjoint per host.
    """
    planned = windows.with_columns(cause=pl.lit(PLANNED, status.schema["cause"]))
    said = pl.concat(
        frame.select("hostname", "start", "end", "cause") for frame in (status, planned)
    ).drop_nulls("cause")
    causes = said.clear()
    for cause in CAUSES:
        held = arithmetic.union(said.filter(pl.col("cause") == cause), [*HOST, "cause"])
        _, new = arithmetic.intersect(held, causes.select("hostname", "start", "end"), HOST)
        causes = pl.concat([causes, new.select(causes.columns)])
    return causes
