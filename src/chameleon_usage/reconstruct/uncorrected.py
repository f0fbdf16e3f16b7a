"""The uncorrected collector: each row of today's databases at its word."""

from collections.abc import Iterable

import polars as pl

from chameleon_usage.intervals.conservation import check_conservation
from chameleon_usage.models.vocabulary import KVM
from chameleon_usage.reconstruct.profiles import HOLDERS, USABLE, with_sizes
from chameleon_usage.reconstruct.reading import Collected, Reading
from chameleon_usage.reconstruct.record import Record

SOURCES = {
    "total": ("nova.compute_nodes", "blazar.devices", "trace.machine_events"),
    "reservable": ("blazar.computehosts", "blazar.devices"),
    "committed": (
        "blazar.computehost_allocations",
        "blazar.device_allocations",
        "published.leases",
    ),
    "occupied": ("nova.instances", "zun.container"),
    "active": ("nova.instances", "zun.container"),
}
"""The service tables whose rows the uncorrected collector takes at their word."""


def collect(record: Record) -> Reading:
    """Take each row of today's databases at its word.

    Its own interval, neither merged nor clamped; an allocation whose host row is gone, and an
    instance that names no node, are dropped.

    Args:
        record: of ``intervals.read_record``.

    Returns:
        the reading.
    """
    rows, history = record.rows, record.history
    collected = Collected("uncorrected", record.names)
    for quantity, sources in SOURCES.items():
        own = rows.filter(
            (pl.col("quantity_type") == quantity)
            & pl.col("source").is_in(list(sources))
            & ~(pl.lit(quantity in {"total", "reservable"}) & pl.col("inferred"))
        )
        named = pl.col("hostname").is_not_null() | (pl.col("source") == "published.leases")
        collected.refuse(own.filter(~named), f"uncorrected {quantity}", "host row is gone")
        sized = with_sizes(own.filter(named), history, HOLDERS[quantity])
        unsized, sized = sized.filter(~USABLE), sized.filter(USABLE)
        collected.refuse(unsized, f"uncorrected {quantity}", "size unknown")
        check_conservation(f"uncorrected {quantity}", own, own.filter(~named), unsized, sized)
        if quantity in {"occupied", "active"}:
            for origin, part in _split_origin(sized):
                collected.emit(part, f"{quantity}_{origin}")
        else:
            collected.emit(sized, quantity)
    return collected.result()


def _split_origin(pieces: pl.DataFrame) -> Iterable[tuple[str, pl.DataFrame]]:
    reserved = (pl.col("reservation_id").is_not_null() | (pl.col("host_class") != KVM)).fill_null(
        value=True
    )
    yield "reservation", pieces.filter(reserved)
    yield "ondemand", pieces.filter(~reserved)
