"""What holds a host: allocations and instances, clipped to parents, then united or added up."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from chameleon_usage.intervals import arithmetic, keys
from chameleon_usage.intervals.arithmetic import REPORT, ConservationError, check_conservation
from chameleon_usage.intervals.cutting import parted
from chameleon_usage.models.site import Site
from chameleon_usage.models.stages import rejects
from chameleon_usage.models.vocabulary import BARE_METAL, KVM, Reason, stage_of
from chameleon_usage.reconstruct import inference, uncounted
from chameleon_usage.reconstruct.observed import (
    HOST,
    SIZED_AS,
    UNITS,
    USABLE,
    instances,
    with_sizes,
)
from chameleon_usage.reconstruct.projects import divide
from chameleon_usage.reconstruct.reading import Collected


def preferred(
    rows: pl.DataFrame, quantity: str, site: Site, known: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Keep, of each instance, the source that the site's source priority puts first.

    A source that speaks of an instance in ``known`` knows it, even if it has no row here: what
    it saw occupy and never run was never active.

    Args:
        rows: stays of instances: source, entity_id and any others.
        quantity: whose order to go by.
        site: source priority.
        known: source, entity_id.

    Returns:
        the rows that are kept, as they are.
    """
    order = site.sources[quantity].order
    unlisted = len(order)
    place = pl.col("source").replace_strict(
        list(order), range(unlisted), default=unlisted, return_dtype=pl.Int64
    )
    frames = [rows] if known is None else [rows, known]
    told = pl.concat(frame.select("entity_id", _place=place) for frame in frames)
    places = told["_place"].to_numpy()
    whole = instances(told["entity_id"]).to_frame()
    instance = keys.number(whole, whole.columns, most=2**24 + told.height)  # each may be another
    first = np.full(instance.max(initial=-1) + 1, unlisted)
    np.minimum.at(first, instance, places)
    best = (places == first[instance]) & (places < unlisted)
    return rows.filter(pl.Series(best[: rows.height]))


def clamp_allocations(
    rows: pl.DataFrame, reservable: pl.DataFrame, history: pl.DataFrame, collected: Collected
) -> pl.DataFrame:
    """Clamp allocations to their host's time in the pool.

    Args:
        rows: allocations: the columns of ``Observed.intervals``.
        reservable: when hosts were in the pool: hostname, start, end.
        history: of ``observed.profile_history``.
        collected: takes what lies outside, and allocations of a host that nothing names, which are
            unknown, too.

    Returns:
        the pieces that are left, with the columns of ``rows``; those of a lease that tells no
        host whole.

    Raises:
        ConservationError: an hour of the rows is neither kept nor refused.
    """
    stage = stage_of("corrected", "committed")
    hostless = rows.filter(pl.col("host_id").is_null() & pl.col("hostname").is_null())
    nameless = rows.filter(pl.col("host_id").is_not_null() & pl.col("hostname").is_null())
    named = rows.filter(pl.col("hostname").is_not_null())
    collected.refuse(nameless, stage, Reason.HOST_NOT_NAMED)
    uncounted.count_unnamed(nameless, history, collected)
    inside, outside = arithmetic.intersect(
        named, reservable.select("hostname", "start", "end"), HOST
    )
    check_conservation(f"{stage}: clamp", rows, hostless, nameless, inside, outside)
    inside = collected.part(
        inside, outside, stage, Reason.OUTSIDE_RESERVABLE, on=collected.corrections.clamp
    )
    return pl.concat([inside, hostless.select(inside.columns)])


def clip_instances(
    rows: pl.DataFrame,
    committed: pl.DataFrame,
    total: pl.DataFrame,
    history: pl.DataFrame,
    collected: Collected,
    *,
    leased: bool,
    purged: bool,
    seen_by: Sequence[str],
) -> pl.DataFrame:
    """Clip instances to their reservation's commitment on their host, or to their host's life.

    Args:
        rows: stays of instances: the columns of ``Observed.intervals``; those whose row names no
            host have the one that was found (``inference.assign_hosts``).
        committed: of ``clamp_allocations``.
        total: when hosts existed: hostname, start, end.
        history: of ``observed.profile_history``.
        collected: takes what lies outside, and what has no host or no reservation it needs.
        leased: whether a source tells of leases; if none does, every instance is on demand.
        purged: whether leases leave no allocation when they are over. Then an instance whose
            request is lost may have been in one.
        seen_by: the sources that tell of the site's instances.

    Returns:
        pieces with the columns of ``rows`` that what follows reads, and ``origin``: reservation or
        ondemand. A container counts as reserved while any lease holds its device.

    Raises:
        ConservationError: an hour of the rows is neither kept nor refused.
    """
    stage = stage_of("corrected", "occupied")
    placed, homeless = parted(rows, pl.col("hostname").is_not_null())
    # That it held a node, and not which, a bare-metal instance's row can tell of itself.
    some_node = (pl.col("host_class") == BARE_METAL).fill_null(value=False) & pl.lit(not leased)
    somewhere, nowhere = parted(homeless, some_node)
    collected.refuse(nowhere, stage, Reason.NO_HOST_INFERRED)
    if collected.corrections.find_reservations:
        placed = inference.find_reservations(placed, committed, seen_by)
    reserved, free = parted(placed, pl.col("reservation_id").is_not_null())
    holds = arithmetic.union(
        committed.filter(pl.col("hostname").is_not_null()), ["reservation_id", "hostname"]
    )
    inside, outside = arithmetic.intersect(reserved, holds, ["reservation_id", "hostname"])
    check_conservation(f"{stage}: clip to reservation", reserved, inside, outside)
    inside = collected.part(
        inside, outside, stage, Reason.OUTSIDE_RESERVATION, on=collected.corrections.clamp
    )

    classes = history.group_by("hostname").agg(_class=pl.col("host_class").last())
    free = free.join(classes, on="hostname", how="left")
    devices = (pl.col("source") == "zun.container") & pl.lit(value=leased)
    needs_none = (pl.col("_class") == KVM).fill_null(value=False) | pl.lit(value=not leased)
    stray = free.filter(~needs_none & ~devices)
    collected.refuse(stray, stage, Reason.NOT_RESERVED)
    ondemand = free.filter(needs_none & ~devices).drop("_class")
    lives, lost = arithmetic.intersect(ondemand, total.select("hostname", "start", "end"), HOST)
    check_conservation(f"{stage}: clip to host", ondemand, lives, lost)
    lives = collected.part(lives, lost, stage, Reason.OUTSIDE_TOTAL, on=collected.corrections.clamp)

    on_devices = free.filter(devices).drop("_class")
    leases = arithmetic.union(committed.filter(pl.col("hostname").is_not_null()), HOST)
    used, unused = arithmetic.intersect(on_devices, leases, HOST)
    check_conservation(f"{stage}: clip to lease", on_devices, used, unused)
    collected.refuse(unused, stage, Reason.NOT_RESERVED)
    check_conservation(stage, rows, nowhere, somewhere, reserved, stray, ondemand, on_devices)
    if purged:
        bare, sliced = stray.select(rows.columns), lives.select(rows.columns)
        unnamed = committed.filter(pl.col("hostname").is_null())
        uncounted.count_instances(bare, sliced, history, collected)
        uncounted.keep_adrift(bare, unnamed, collected)
    read = pl.exclude("quantity_type", "host_id", "asked", "unreserved", "open")
    columns = inside.select(read).columns
    return pl.concat(
        frame.select(*columns, origin=pl.lit(origin))
        for origin, frames in {
            "reservation": (inside, used),
            "ondemand": (lives, somewhere),
        }.items()
        for frame in frames
    )


def clip_runs(rows: pl.DataFrame, occupied: pl.DataFrame, collected: Collected) -> pl.DataFrame:
    """Clip the running time of each instance to where and when it occupies.

    Args:
        rows: runs of instances: source, entity_id, start, end.
        occupied: of ``clip_instances``.
        collected: takes what lies outside.

    Returns:
        pieces with the columns of ``occupied``: the source of the run, all else of the stay.

    Raises:
        ConservationError: an hour of the rows is neither kept nor refused.
    """
    stage = stage_of("corrected", "active")
    runs = rows.select("source", "entity_id", "start", "end")
    seats = occupied.drop("source")
    inside, outside = arithmetic.intersect(runs, seats, ["entity_id"])
    check_conservation(f"{stage}: clip to occupied", runs, inside, outside)
    collected.refuse(outside, stage, Reason.OUTSIDE_OCCUPIED)
    return inside.select(occupied.columns)


# --- how much of a host is held: a union, or a sum below its ceiling ------------------------------

_TIE_BREAK = ("source", "entity_id")
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
    sized, unsized = parted(sized, USABLE)
    collected.refuse(unsized, stage, Reason.SIZE_UNKNOWN)
    check_conservation(f"{stage}: sizes", pieces, unsized, sized)
    collected.keep(sized, quantity)
    shared = (pl.col("host_class") == KVM) & pl.col("hostname").is_not_null()
    slots, others = parted(sized, shared)
    single, hostless = parted(others, pl.col("hostname").is_not_null())
    kept, twice = arithmetic.split_overlaps(single, HOST, _TIE_BREAK)
    check_conservation(f"{stage}: union per host", single, kept, twice)
    kept = collected.part(kept, twice, stage, Reason.ALREADY_HELD, on=collected.corrections.merge)
    sums = _slices(slots, ceiling, stage, collected)
    whole = pl.concat(
        [kept.select(_SIZED_COLUMNS), hostless.select(_SIZED_COLUMNS), sums.drop("less")]
    )
    collected.emit(whole, quantity)
    if collected.projects is not None:
        projects = collected.projects
        projects.whole[quantity] = pl.concat([kept, hostless.select(kept.columns)])
        projects.slices[quantity] = divide(slots, sums)
    return whole


def _slices(
    sized: pl.DataFrame, ceiling: pl.DataFrame, stage: str, collected: Collected
) -> pl.DataFrame:
    """Add up the slices of each KVM host and bound the sum by its parent's.

    What goes beyond the parent is rejected per host, in node-hours: a sum has no single row.

    Returns:
        ``_SIZED_COLUMNS``, and less: not all that the slices claim is counted.
    """
    if sized.is_empty():
        return sized.select(*_SIZED_COLUMNS, less=pl.lit(value=False))
    untold = [f"_untold_{name}" for name in UNITS]
    slots = sized.with_columns(
        *(pl.col(name).is_null().cast(pl.Int32).alias(f"_untold_{name}") for name in UNITS),
        *(pl.col(name).fill_null(0) for name in UNITS),
    )
    sums = arithmetic.sum_overlaps(
        slots, ["hostname", "host_class", "node_type", "node_size"], [*UNITS, *untold]
    )
    limits = ceiling.filter(pl.col("host_class") == KVM).select(
        "hostname", "start", "end", *(pl.col(name).alias(f"_max_{name}") for name in UNITS)
    )
    first = slots.drop_nulls("source").group_by("hostname").agg(_first=pl.col("source").min())
    claimed = _unit_seconds(slots, "node_units")
    del slots  # large, on a busy site, as are the sums
    inside, outside = arithmetic.intersect(sums, limits, HOST)
    del sums
    over = pl.col("node_units") - pl.col("_max_node_units")
    beyond = pl.concat(
        [
            outside.with_columns(_lost="node_units"),
            inside.filter(over > 0).with_columns(_lost=over),
        ],
        how="diagonal",
    )
    beyond = beyond.join(first, on="hostname", how="left").sort("hostname", "start")
    for (source,), part in beyond.partition_by("_first", as_dict=True).items():
        lost = rejects(
            part,
            stage=stage,
            source=str(source),
            reason=Reason.BEYOND_PARENT,
            row_id="hostname",
        )
        share = part.select(pl.col("_lost") / pl.col("node_size"))
        collected.rejects.append(lost.with_columns(hours=pl.col("hours") * share.to_series()))
    counts = [
        # What one slice does not tell is unknown, unless the host has none of it.
        pl.when(pl.col(f"_max_{name}") == 0)
        .then(0)
        .when(pl.col(f"_untold_{name}") == 0)
        .then(pl.min_horizontal(name, f"_max_{name}"))
        .alias(name)
        for name in UNITS
    ]
    kept = inside.with_columns(
        *counts,
        less=pl.any_horizontal(
            count.fill_null(0) < pl.col(name) for name, count in zip(UNITS, counts, strict=True)
        ),
        source=pl.lit(None, sized["source"].dtype),
        inferred=pl.lit(value=False),
    )
    difference = _unit_seconds(kept, "node_units") + _unit_seconds(beyond, "_lost") - claimed
    if difference:
        raise ConservationError(
            f"stage {stage}: {difference / 3600:+.4f} vcpu-hours after against before; {REPORT}"
        )
    return kept.select(*_SIZED_COLUMNS, "less")


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
