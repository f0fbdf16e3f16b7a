"""What may have been, and nobody can tell, because a service deleted its rows for good.

It is counted apart (``models.metrics.UNCOUNTED``): a quantity of which more than 5 % is in doubt is
published as unknown, never as less than it was. Chameleon's Blazar keeps what it deletes; Blazar
itself deletes hosts, allocations and leases for good.
"""

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.vocabulary import KVM
from chameleon_usage.reconstruct.observed import HOST, SIZED_AS, SIZES, USABLE, with_sizes
from chameleon_usage.reconstruct.reading import Collected


def count_unnamed(bounds: pl.DataFrame, history: pl.DataFrame, collected: Collected) -> None:
    """Count what reservations may have held on hosts that nobody names.

    Args:
        bounds: rows of which only is known how many ``nodes`` they held at most; of slices of KVM
            hosts ``vcpus`` of each, else null.
        history: of ``observed.profile_history``.
        collected: takes them.
    """
    sizes = history.filter(pl.col("host_class") == KVM)["vcpus"].drop_nulls()
    size = int(sizes.median()) if len(sizes) else None  # type: ignore[arg-type]
    sliced = (pl.col("vcpus") > 0).fill_null(value=False) & pl.lit(size is not None)
    sized = bounds.with_columns(
        node_units=pl.when(sliced).then(pl.col("nodes") * pl.col("vcpus")).otherwise("nodes"),
        node_size=pl.when(sliced).then(pl.lit(size, pl.Int64)).otherwise(1),
    )
    collected.emit(_sizeless(sized), "committed_unknown")


def count_gone_leases(lost: pl.DataFrame, history: pl.DataFrame, collected: Collected) -> None:
    """Count what leases that are gone with all their rows may have held beside what is known.

    Args:
        lost: allocations that their instances show: such a lease may have held as much again.
        history: of ``observed.profile_history``.
        collected: takes them.
    """
    collected.emit(with_sizes(lost, history, "allocation").filter(USABLE), "committed_unknown")


def count_hosts(
    outside: pl.DataFrame,
    reservable: pl.DataFrame,
    pool_known: pl.DataFrame,
    collected: Collected,
) -> None:
    """Count hosts that may have been in the pool before the first row that Blazar has of them.

    A KVM host that nothing ever shows in the pool counts as capacity on demand.

    Args:
        outside: total without reservable, as ``with_sizes`` gives it.
        reservable: when hosts are shown in the pool: hostname.
        pool_known: since when Blazar has a row of each host: hostname, start, end.
        collected: takes them.
    """
    elsewhere = pl.col("host_class").ne_missing(pl.lit(KVM))
    traced = outside.filter(elsewhere | pl.col("hostname").is_in(reservable["hostname"].implode()))
    _, before = arithmetic.intersect(traced, pool_known, HOST)
    collected.emit(before, "reservable_unknown")


def count_instances(
    stray: pl.DataFrame, ondemand: pl.DataFrame, history: pl.DataFrame, collected: Collected
) -> None:
    """Count instances that may have been in a reservation, as their request is lost, too.

    Args:
        stray: those on bare metal that no reservation covers.
        ondemand: those on KVM that no reservation covers; they count as on demand.
        history: of ``observed.profile_history``.
        collected: takes them.
    """
    whole, parts = (
        with_sizes(rows.filter(_SPECLESS), history, SIZED_AS["occupied"]).filter(USABLE)
        for rows in (stray, ondemand)
    )
    for quantity in ("committed", "occupied_reservation", "occupied_ondemand"):
        collected.emit(parts, f"{quantity}_unknown")
    collected.emit(whole, "occupied_reservation_unknown")


_SPECLESS = pl.col("unreserved").is_null()
"""No request is left that would say whether an instance was in a reservation."""


def keep_adrift(stray: pl.DataFrame, unnamed: pl.DataFrame, collected: Collected) -> None:
    """Keep what ``count_nodes`` counts of a whole site.

    Args:
        stray: of ``count_instances``.
        unnamed: what reservations held on hosts that nobody names: project_id, nodes, start, end.
        collected: takes them.
    """
    columns = ["project_id", "nodes", "start", "end"]
    for rows, room in ((stray.filter(_SPECLESS), False), (unnamed, True)):
        collected.adrift.append(rows.select(*columns, room=pl.lit(room)))


def count_nodes(adrift: pl.DataFrame, collected: Collected) -> None:
    """Count the nodes of instances that may have been in a reservation.

    If one was, so was its node: of a lease of its project whose hosts nobody names, as far as these
    have nodes enough, else of one that is gone.

    Args:
        adrift: the instances, and the reservations that may give them room: project_id, nodes,
            start, end, room.
        collected: takes them.
    """
    if adrift.is_empty():
        return
    project, nodes = ["project_id"], ["nodes"]
    held = arithmetic.sum_overlaps(adrift.filter(~pl.col("room")), project, nodes)
    room = arithmetic.sum_overlaps(adrift.filter("room"), project, nodes)
    within, without = arithmetic.intersect(held, room.rename({"nodes": "_room"}), project)
    beyond = pl.concat([within, without], how="diagonal").with_columns(
        node_units=pl.col("nodes") - pl.col("_room").fill_null(0), node_size=1
    )
    collected.emit(_sizeless(beyond.filter(pl.col("node_units") > 0)), "committed_unknown")


def _sizeless(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(None, pl.Int64).alias(name) for name in SIZES)
