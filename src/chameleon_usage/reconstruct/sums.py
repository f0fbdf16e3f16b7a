"""How much of a host is held: a union or a sum below its ceiling; and what remains of a room."""

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.conservation import REPORT, ConservationError, check_conservation
from chameleon_usage.models.stages import rejects
from chameleon_usage.models.vocabulary import KVM, Reason, stage_of
from chameleon_usage.reconstruct.observed import HOST, SIZED_AS, UNITS, USABLE, with_sizes
from chameleon_usage.reconstruct.reading import Collected

TIME_ORDER = ("source", "entity_id")
"""Which of two pieces that begin together holds the host."""

_SIZED_COLUMNS = (
    "source",
    "hostname",
    "host_class",
    "node_type",
    "node_size",
    "start",
    "end",
    "inferred",
    *UNITS,
)


def merge_held(
    pieces: pl.DataFrame,
    history: pl.DataFrame,
    ceiling: pl.DataFrame,
    quantity: str,
    collected: Collected,
) -> pl.DataFrame:
    """Merge what holds a host: a union on bare metal and devices, a sum of slices on KVM.

    A KVM sum never exceeds what its parent holds of the host at that time (``ceiling``).

    Args:
        pieces: what holds hosts, as ``with_sizes`` takes it, and source, entity_id, inferred; a
            piece without hostname holds nodes that no row names.
        history: of ``observed.profile_history``.
        ceiling: what the parent holds: hostname, start, end, host_class and ``UNITS``; one row of
            a KVM host at a time.
        quantity: what to count it as: a key of ``SIZED_AS``, or that, "_" and the origin.
        collected: takes the segments and what is refused.

    Returns:
        the rows that were emitted: source (null for a sum), hostname, host_class, node_type,
        node_size, start, end, inferred and ``UNITS``.

    Raises:
        ConservationError: an hour of a piece, or a unit of a slice, is neither kept nor refused.
    """
    stage = stage_of("corrected", quantity)
    sized = with_sizes(pieces, history, SIZED_AS[quantity.split("_", maxsplit=1)[0]])
    unsized, sized = sized.filter(~USABLE), sized.filter(USABLE)
    collected.refuse(unsized, stage, Reason.SIZE_UNKNOWN)
    check_conservation(f"{stage}: sizes", pieces, unsized, sized)
    shared = ((pl.col("host_class") == KVM) & pl.col("hostname").is_not_null()).fill_null(
        value=False
    )
    single = sized.filter(~shared & pl.col("hostname").is_not_null())
    kept, twice = arithmetic.split_overlaps(single, HOST, TIME_ORDER)
    check_conservation(f"{stage}: union per host", single, kept, twice)
    kept = collected.part(kept, twice, stage, Reason.ALREADY_HELD, on=collected.corrections.merge)
    hostless = sized.filter(~shared & pl.col("hostname").is_null())
    parts = [
        kept.select(*_SIZED_COLUMNS),
        hostless.select(*_SIZED_COLUMNS),
        _slices(sized.filter(shared), ceiling, stage, collected),
    ]
    whole = pl.concat(parts)
    collected.emit(whole, quantity)
    return whole


def _slices(
    sized: pl.DataFrame, ceiling: pl.DataFrame, stage: str, collected: Collected
) -> pl.DataFrame:
    """Add up the slices of each KVM host and bound the sum by its parent's.

    What goes beyond the parent is rejected per host, in node-hours: a sum has no single row.
    """
    untold = [f"_untold_{name}" for name in UNITS]
    slots = sized.with_columns(
        *(pl.col(name).is_null().cast(pl.Int64).alias(f"_untold_{name}") for name in UNITS),
        *(pl.col(name).fill_null(0) for name in UNITS),
    )
    sums = arithmetic.sum_overlaps(
        slots, ["hostname", "host_class", "node_type", "node_size"], [*UNITS, *untold]
    )
    limits = ceiling.filter(pl.col("host_class") == KVM).select(
        "hostname", "start", "end", *(pl.col(name).alias(f"_max_{name}") for name in UNITS)
    )
    inside, outside = arithmetic.intersect(sums, limits, HOST)
    over = pl.col("node_units") - pl.col("_max_node_units")
    beyond = pl.concat(
        [
            outside.with_columns(_lost="node_units"),
            inside.filter(over > 0).with_columns(_lost=over),
        ],
        how="diagonal",
    )
    if beyond.height:
        lost = rejects(
            beyond.sort("hostname", "start"),
            stage=stage,
            source=str(sized["source"].drop_nulls().min()),
            reason=Reason.BEYOND_PARENT,
            row_id="hostname",
        )
        share = beyond.sort("hostname", "start").select(pl.col("_lost") / pl.col("node_size"))
        collected.rejects.append(lost.with_columns(hours=pl.col("hours") * share.to_series()))
    kept = inside.with_columns(
        *(
            # What one slice does not tell is unknown, unless the host has none of it.
            pl.when(pl.col(f"_max_{name}") == 0)
            .then(0)
            .when(pl.col(f"_untold_{name}") == 0)
            .then(pl.min_horizontal(name, f"_max_{name}"))
            .alias(name)
            for name in UNITS
        ),
        source=pl.lit(None, sized["source"].dtype),
        inferred=pl.lit(value=False),
    )
    counted = [_unit_seconds(frame, "node_units") for frame in (slots, kept)]
    if counted[0] != counted[1] + _unit_seconds(beyond, "_lost"):
        difference = counted[1] + _unit_seconds(beyond, "_lost") - counted[0]
        raise ConservationError(
            f"stage {stage}: {difference / 3600:+.4f} vcpu-hours after against before; {REPORT}"
        )
    return kept.select(_SIZED_COLUMNS)


def _unit_seconds(pieces: pl.DataFrame, units: str) -> int:
    return int(pieces.select((pl.col(units) * arithmetic.SECONDS).sum()).item() or 0)


def remaining(room: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Take what is held from the units of a room, host by host and instant by instant.

    Args:
        room: hostname, start, end and ``UNITS``; other columns are kept.
        held: hostname, start, end and ``UNITS``, one row of a host at a time; a row without
            hostname, and units that are unknown, take nothing.

    Returns:
        pieces of the room with what is left of ``UNITS``; where no node_units are left, none.
    """
    levels = held.filter(pl.col("hostname").is_not_null()).select(
        "hostname", "start", "end", *(pl.col(name).alias(f"_held_{name}") for name in UNITS)
    )
    partly, free = arithmetic.intersect(room, levels, HOST)
    left = partly.with_columns(
        pl.col(name) - pl.col(f"_held_{name}").fill_null(0) for name in UNITS
    ).filter(pl.col("node_units") > 0)
    return pl.concat([left.select(free.columns), free])
