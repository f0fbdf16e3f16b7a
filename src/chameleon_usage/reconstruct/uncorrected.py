"""The uncorrected collector: each row of today's databases at its word."""

from collections.abc import Iterable

import polars as pl

from chameleon_usage.intervals.arithmetic import check_conservation
from chameleon_usage.intervals.cutting import parted
from chameleon_usage.models.raw import AT_THEIR_WORD, RAW_TABLES
from chameleon_usage.models.vocabulary import KVM, Reason, stage_of
from chameleon_usage.reconstruct.observed import SIZED_AS, USABLE, Observed, with_sizes
from chameleon_usage.reconstruct.reading import Collected, Reading

_HOSTLESS = [name for name, table in RAW_TABLES.items() if not table.names_hosts]


def collect(observed: Observed) -> Reading:
    """Take each row of today's databases at its word.

    Its own interval, neither merged nor clamped; an allocation whose host row is gone, and an
    instance that names no node, are dropped.

    Args:
        observed: of ``observed.observe``.

    Returns:
        the reading.
    """
    rows, history = observed.intervals, observed.history
    collected = Collected("uncorrected")
    for quantity, sources in AT_THEIR_WORD.items():
        own = rows.filter(
            (pl.col("quantity_type") == quantity)
            & pl.col("source").is_in(sources)
            & ~(pl.lit(quantity in {"total", "reservable"}) & pl.col("inferred"))
        )
        stage = stage_of("uncorrected", quantity)
        named, nameless = parted(
            own, pl.col("hostname").is_not_null() | pl.col("source").is_in(_HOSTLESS)
        )
        collected.refuse(nameless, stage, Reason.HOST_ROW_GONE)
        sized, unsized = parted(with_sizes(named, history, SIZED_AS[quantity]), USABLE)
        collected.refuse(unsized, stage, Reason.SIZE_UNKNOWN)
        check_conservation(stage, own, nameless, unsized, sized)
        if quantity in {"occupied", "active"}:
            for origin, part in _split_origin(sized, leased="committed" in observed.spoken_of):
                collected.emit(part, f"{quantity}_{origin}")
        else:
            collected.emit(sized, quantity)
    return collected.result()


def _split_origin(pieces: pl.DataFrame, *, leased: bool) -> Iterable[tuple[str, pl.DataFrame]]:
    """Split by where instances were launched; where no source tells of leases, all on demand."""
    by_lease = pl.col("reservation_id").is_not_null() | (pl.col("host_class") != KVM)
    reserved = pl.lit(value=leased) & by_lease.fill_null(value=True)
    return zip(("reservation", "ondemand"), parted(pieces, reserved), strict=True)
