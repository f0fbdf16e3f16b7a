"""The corrected collector: the facts reconstructed, step by step."""

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.site import Site
from chameleon_usage.models.vocabulary import KVM, Reason
from chameleon_usage.reconstruct import holders, hosts, inference, sums
from chameleon_usage.reconstruct.observed import Observed
from chameleon_usage.reconstruct.profiles import HOLDERS, HOST, whole_hosts, with_sizes
from chameleon_usage.reconstruct.reading import Collected, Corrections, Reading


def collect(observed: Observed, site: Site, corrections: Corrections | None = None) -> Reading:
    """Reconstruct: source priority, gap-filling, merging, clamping.

    Args:
        observed: of ``observed.observe``.
        site: source priority and merge tolerance.
        corrections: for an ablation, what to leave out.

    Returns:
        the reading; per host and instant total >= reservable >= committed >=
        occupied_reservation >= active_reservation.
    """
    made = corrections or Corrections()
    rows, history = observed.intervals, observed.history
    collected = Collected("corrected", made)
    if made.name_gone_hosts:
        rows = inference.name_gone_hosts(rows)
    rows = rows.with_columns(instance=holders.instances(rows["entity_id"]))
    by_quantity = {
        quantity: rows.filter(pl.col("quantity_type") == quantity) for quantity in HOLDERS
    }
    by_quantity["active"] = holders.preferred(
        by_quantity["active"], "active", site, by_quantity["occupied"]
    )
    by_quantity["occupied"] = holders.preferred(by_quantity["occupied"], "occupied", site)
    listed = pl.col("source").is_in(site.sources["committed"].order)
    by_quantity["committed"], unlisted = (
        by_quantity["committed"].filter(having) for having in (listed, ~listed)
    )
    collected.refuse(unlisted, "corrected committed", Reason.NOT_IN_PRIORITY)
    if made.infer_allocations:
        lost = inference.lost_allocations(by_quantity["committed"], by_quantity["occupied"])
        by_quantity["committed"] = pl.concat([by_quantity["committed"], lost], how="diagonal")
    windows = arithmetic.union(observed.maintenance, HOST)
    total = hosts.resolve_total(by_quantity, site, collected)
    reservable = hosts.resolve_reservable(by_quantity, total, site, collected)
    committed = holders.clamp_allocations(by_quantity["committed"], reservable, collected)
    occupied = holders.clip_instances(by_quantity["occupied"], committed, total, history, collected)
    active = holders.clip_runs(by_quantity["active"], occupied, collected)

    sized_total = with_sizes(whole_hosts(total), history, "host")
    collected.emit(sized_total, "total")
    sized_pool = with_sizes(whole_hosts(reservable), history, "host")
    collected.emit(sized_pool, "reservable")
    for quantity, pieces in collected.doubles.items():
        sized = with_sizes(whole_hosts(pieces), history, "host")
        collected.emit(sized, quantity)
    held = sums.merge_held(committed, history, sized_pool, "committed", collected)
    seated = {}
    ceilings = {"reservation": held, "ondemand": sums.remaining(sized_total, held)}
    for origin, ceiling in ceilings.items():
        ours = occupied.filter(pl.col("origin") == origin)
        runs = active.filter(pl.col("origin") == origin)
        seated[origin] = sums.merge_held(ours, history, ceiling, f"occupied_{origin}", collected)
        sums.merge_held(runs, history, seated[origin], f"active_{origin}", collected)
    # Capacity in the pool that an instance without a reservation has taken cannot be leased.
    in_pool, _ = arithmetic.intersect(
        seated["ondemand"], sized_pool.select("hostname", "start", "end"), HOST
    )
    collected.emit(in_pool, "occupied_ondemand_in_pool")
    pool_known = by_quantity["reservable"].group_by("hostname").agg(pl.col("start").min())
    _out_of_pool(
        sized_total,
        sized_pool,
        pool_known,
        ondemand=seated["ondemand"],
        windows=windows,
        collected=collected,
    )
    idle_windows = sums.remaining(_unheld(windows, sized_pool, held), in_pool)
    collected.emit(idle_windows, "maintenance_in_pool")
    return collected.result()


def _out_of_pool(
    total: pl.DataFrame,
    pool: pl.DataFrame,
    pool_known: pl.DataFrame,
    *,
    ondemand: pl.DataFrame,
    windows: pl.DataFrame,
    collected: Collected,
) -> None:
    """Tell what total - reservable is: on-demand capacity on KVM, else maintenance or unknown."""
    _, outside = arithmetic.intersect(total, pool.select("hostname", "start", "end"), HOST)
    on_kvm = (pl.col("host_class") == KVM).fill_null(value=False)
    capacity = outside.filter(on_kvm)
    known_from = pool_known.drop_nulls("hostname").with_columns(end=arithmetic.MAX_TIME)
    known, unknown = arithmetic.intersect(outside.filter(~on_kvm), known_from, HOST)
    for quantity, pieces in (
        ("ondemand_capacity", capacity),
        ("maintenance_out_of_pool", known),
        ("unknown", unknown),
        ("maintenance_ondemand", _unheld(windows, capacity, ondemand)),
    ):
        collected.emit(pieces, quantity)


def _unheld(windows: pl.DataFrame, room: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Take maintenance windows from what of ``room`` nothing holds: a node that is held is held."""
    inside, _ = arithmetic.intersect(windows, room, HOST)
    return sums.remaining(inside, held)
