"""The corrected collector: how the history of a site is reconstructed, in eight steps.

What comes in are the intervals of all sources (``observed.Observed``): when the rows of each table
say that an entity was there. What goes out are segments: who held what, when. In between, no hour
is lost: it is kept, or it is rejected with its reason (``reading.Collected``).

1. ``inference.name_gone_hosts``: a Blazar host whose row is gone takes the hostname that the
   instances of its reservations name. Assumes that instances sit where their reservation holds a
   host; names nobody where two names have as many votes.
2. ``holders.preferred``: each instance is told by one source, the first of the site's priority that
   knows it. Assumes that a source knows all of an instance or nothing; an instance of which half
   the events are lost is told by that half.
3. ``inference.lost_allocations``: an instance on a host that its reservation does not list stands
   for an allocation that left no row. Assumes that it could not be there otherwise; finds nothing
   where no instance was started, so what was leased and never used stays lost, but for the number
   of nodes, where Blazar still has the reservation. ``inference.take_turns``: of more hosts than a
   reservation asks for, one was written over another, and they held it in turn; what the row tells
   beyond that is refused. Allocations of a source that the site does not list are refused here.
4. ``hosts.resolve_total``: when each host existed, by source priority; rows of a host that overlap
   or lie less than the merge tolerance apart are one. What merely names a host fills in what its
   rows leave out, as far as its own end is known; a host that nobody used after its last row ends
   too early.
5. ``hosts.resolve_reservable``: when each host was in the pool, within its life. Assumes that an
   enrolment is contiguous; a host that was taken out for a while and kept its id seems to stay.
6. ``holders.clamp_allocations``: allocations live only while their host is in the pool.
7. ``inference.assign_hosts``, ``holders.clip_instances`` and ``holders.clip_runs``: instances
   without a host or a reservation get the only one that fits (``inference.find_reservations``),
   then live only within it, or within their host's life where none is needed (on KVM, and where no
   source tells of leases at all); they run only while they occupy. A reservation found by project
   and host can be a neighbour's of the same project.
8. ``holders.merge_held``: what holds a host is united on bare metal and devices, and added up on
   KVM, never beyond what its parent holds. ``_out_of_pool`` then tells what total - reservable is,
   and ``usable.split_by_status``, beside all this, which hosts could be used and why others not.
   Assumes that two leases cannot hold a node at once; of two that claim it, the first row wins.

The first three steps look at whole reservations, wherever their hosts are (``prepare``). All others
go host by host (``resolve``, ``hold``), so that ranges of hosts can be reconstructed one after
another or side by side, with equal results; in between, ``place`` compares the hosts of the few
reservations of which an instance names none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.arithmetic import check_conservation
from chameleon_usage.models.site import Site
from chameleon_usage.models.vocabulary import KVM, Reason, stage_of
from chameleon_usage.reconstruct import holders, hosts, inference, uncounted, usable
from chameleon_usage.reconstruct.observed import (
    HOST,
    SIZED_AS,
    Observed,
    whole_hosts,
    with_sizes,
)
from chameleon_usage.reconstruct.projects import Projects
from chameleon_usage.reconstruct.reading import Collected, Corrections, Reading, together


@dataclass(frozen=True)
class Prepared:
    """What the first three steps make of a site, or of a range of its hosts.

    Attributes:
        rows: quantity to the columns of ``Observed.intervals``, without the nameless.
        nameless: occupied and active of the instances of a reservation that name no host, whichever
            range they will turn out to be of.
        observed: what is known of all the site's hosts; its intervals are not read any more.
        leased: whether a source tells of leases.
        purged: whether leases may be over that left no row.
        seen_by: the sources that tell of the site's instances.
    """

    rows: dict[str, pl.DataFrame]
    nameless: dict[str, pl.DataFrame]
    observed: Observed
    leased: bool
    purged: bool
    seen_by: tuple[str, ...]


@dataclass(frozen=True)
class Resolved:
    """What steps 4 to 6 make of the same: when hosts existed, were in the pool and were leased."""

    part: Prepared
    total: pl.DataFrame
    reservable: pl.DataFrame
    committed: pl.DataFrame
    collected: Collected


def collect(
    observed: Observed,
    site: Site,
    corrections: Corrections | None = None,
    *,
    by_project: bool = False,
) -> Reading:
    """Reconstruct: source priority, gap-filling, merging, clamping.

    Args:
        observed: of ``observed.observe``.
        site: source priority and merge tolerance.
        corrections: for an ablation, what to leave out.
        by_project: tell, too, what projects held.

    Returns:
        the reading; per host and instant total >= reservable >= committed >=
        occupied_reservation >= active_reservation.
    """
    made = corrections or Corrections()
    prepared, early = prepare(observed, site, made)
    resolved = resolve(prepared, site, made, by_project=by_project)
    late = hold(resolved, place(prepared, resolved.committed, made))
    return whole([early, late])


def whole(readings: Sequence[Reading]) -> Reading:
    """Put the readings of all parts of a site together, and count what no part can alone."""
    collected = Collected("corrected")
    uncounted.count_nodes(pl.concat(reading.adrift for reading in readings), collected)
    return together([*readings, collected.result()])


def prepare(observed: Observed, site: Site, made: Corrections) -> tuple[Prepared, Reading]:
    """Take the steps that look at whole reservations, over all hosts.

    Returns:
        (what the next steps need, what these refuse and count)
    """
    rows, history = observed.intervals, observed.history
    collected = Collected("corrected", made)
    leased = "committed" in observed.spoken_of
    if not leased:  # A request that names a reservation tells of leases that nobody knows.
        rows = rows.with_columns(reservation_id=pl.lit(None, rows.schema["reservation_id"]))
    # 1. Hosts whose row is gone get their names.
    gone = observed.gone if made.name_gone_hosts else observed.gone.clear()
    of = {name: rows.filter(pl.col("quantity_type") == name) for name in SIZED_AS}
    of = {name: inference.name_gone_hosts(frame, gone) for name, frame in of.items()}
    # 2. Each instance is told by one source.
    of["active"] = holders.preferred(of["active"], "active", site, of["occupied"])
    of["occupied"] = holders.preferred(of["occupied"], "occupied", site)
    # 3. Allocations that left no row are inferred.
    listed = pl.col("source").is_in(site.sources["committed"].order)
    unlisted = of["committed"].filter(~listed)
    collected.refuse(unlisted, stage_of("corrected", "committed"), Reason.NOT_IN_PRIORITY)
    of["committed"] = of["committed"].filter(listed)
    by_lease = pl.col("source") == inference.LEASES
    kept, promised = of["committed"].filter(~by_lease), of["committed"].filter(by_lease)
    lost = inference.lost_allocations(kept, promised, of["occupied"])
    lost = lost if made.infer_allocations else lost.clear()
    kept, replaced, lost = inference.take_turns(kept, lost, of["occupied"])
    collected.refuse(replaced, stage_of("corrected", "committed"), Reason.HELD_ANOTHER_HOST)
    told = inference.LEASES in site.sources["committed"].order
    purged = "committed" in observed.forgotten or (told and observed.unallocated)
    unseen = _unseen(promised, lost, history, collected, purged=purged)
    of["committed"] = pl.concat([kept, unseen, lost], how="diagonal")
    seen_by = tuple(of["occupied"]["source"].unique().cast(pl.String).sort())
    nameless = pl.col("hostname").is_null() & pl.col("reservation_id").is_not_null()
    aside = {"occupied": of["occupied"].filter(nameless)}
    its = pl.col("entity_id").is_in(aside["occupied"]["entity_id"].unique().implode())
    aside["active"] = of["active"].filter(its)
    of |= {"occupied": of["occupied"].filter(~nameless), "active": of["active"].filter(~its)}
    return Prepared(of, aside, observed, leased, purged, seen_by), collected.result()


def resolve(part: Prepared, site: Site, made: Corrections, *, by_project: bool = False) -> Resolved:
    """Tell when hosts existed, were in the pool and were leased."""
    collected = Collected("corrected", made, projects=Projects() if by_project else None)
    of, history = part.rows, part.observed.history
    # 4. and 5. Hosts exist, and are in the pool.
    total = hosts.resolve_total(of, history, site, collected)
    reservable = hosts.resolve_reservable(of, total, site, collected)
    # 6. What holds a host lives only within its parents.
    committed = holders.clamp_allocations(of["committed"], reservable, history, collected)
    return Resolved(part, total, reservable, committed, collected)


def place(
    prepared: Prepared, committed: pl.DataFrame, made: Corrections
) -> dict[str, pl.DataFrame]:
    """Give nameless instances the hosts that are found for them.

    Args:
        prepared: of the whole site.
        committed: what is left, of all hosts, of the reservations of such instances.
        made: whether to.

    Returns:
        ``Prepared.nameless``, with the hostnames that were found, which makes occupied inferred.
    """
    lost, runs = prepared.nameless["occupied"], prepared.nameless["active"]
    if lost.is_empty() or not made.assign_hosts:
        return prepared.nameless
    others = prepared.rows["occupied"].filter(pl.col("hostname").is_not_null())
    found = inference.assign_hosts(lost, others, committed)
    seats = lost.drop("hostname").join(found, on=["source", "entity_id"], how="left")
    seats = seats.with_columns(inferred=pl.col("inferred") | pl.col("hostname").is_not_null())
    return {"occupied": seats.select(lost.columns), "active": runs}


def hold(resolved: Resolved, nameless: dict[str, pl.DataFrame]) -> Reading:
    """Tell what held hosts, and put the reading together.

    Args:
        resolved: of ``resolve``.
        nameless: those of ``place`` whose host is one of these.
    """
    part, collected = resolved.part, resolved.collected
    observed, history = part.observed, part.observed.history
    total, reservable, committed = resolved.total, resolved.reservable, resolved.committed
    of = {name: pl.concat([part.rows[name], rows]) for name, rows in nameless.items()}
    # 7. Instances live only within what they sit in.
    occupied = holders.clip_instances(
        of["occupied"],
        committed,
        total,
        history,
        collected,
        leased=part.leased,
        purged=part.purged,
        seen_by=part.seen_by,
    )
    active = holders.clip_runs(of["active"], occupied, collected)
    # 8. What is held is united, or added up below its parent's share of the host.
    room = {"total": total, "reservable": reservable}
    room = {name: with_sizes(whole_hosts(host), history, "host") for name, host in room.items()}
    for quantity, pieces in room.items():
        collected.emit(pieces, quantity)
    for quantity, pieces in collected.doubles.items():
        collected.emit(with_sizes(whole_hosts(pieces), history, "host"), quantity)
    held = holders.merge_held(committed, history, room["reservable"], "committed", collected)
    seated = {}
    # Nothing but slices of KVM hosts, and what is added up of them, has a ceiling.
    on_kvm = (pl.col("host_class") == KVM).fill_null(value=False)
    left = holders.remaining(room["total"].filter(on_kvm), held.filter(on_kvm))
    ceilings = {"reservation": held, "ondemand": left}
    for origin, ceiling in ceilings.items():
        ours, runs = (frame.filter(pl.col("origin") == origin) for frame in (occupied, active))
        seated[origin] = holders.merge_held(ours, history, ceiling, f"occupied_{origin}", collected)
        holders.merge_held(runs, history, seated[origin], f"active_{origin}", collected)
    pool_known = part.rows["reservable"].group_by("hostname").agg(pl.col("start").min())
    windows = observed.maintenance
    out = _out_of_pool(
        room,
        pool_known,
        seated["ondemand"],
        windows,
        collected,
        forgotten="reservable" in observed.forgotten,
    )
    if observed.tells_status:
        usable.split_by_status(observed.status, windows, room, out, collected)
    # Capacity in the pool that an instance without a reservation has taken cannot be leased.
    in_pool, _ = arithmetic.intersect(
        seated["ondemand"], room["reservable"].select("hostname", "start", "end"), HOST
    )
    collected.emit(in_pool, "occupied_ondemand_in_pool")
    idle_windows = holders.remaining(_unheld(windows, room["reservable"], held), in_pool)
    collected.emit(idle_windows, "maintenance_in_pool")
    return collected.result()


def _unseen(
    promised: pl.DataFrame,
    lost: pl.DataFrame,
    history: pl.DataFrame,
    collected: Collected,
    *,
    purged: bool,
) -> pl.DataFrame:
    """Give what reservations held on hosts that nobody names; refuse what nobody can count."""
    stage = stage_of("corrected", "committed")
    unseen, bounds, shown = inference.unseen(promised, lost)
    collected.refuse(shown, stage, Reason.HIGHER_PRIORITY)
    collected.refuse(bounds, stage, Reason.NODES_NOT_KNOWN)
    check_conservation(f"{stage}: reservations", promised, unseen, bounds, shown)
    uncounted.count_unnamed(bounds, history, collected)
    if purged:
        uncounted.count_gone_leases(lost.filter(pl.col("lease_id").is_null()), history, collected)
    return unseen


def _out_of_pool(
    room: dict[str, pl.DataFrame],
    pool_known: pl.DataFrame,
    ondemand: pl.DataFrame,
    windows: pl.DataFrame,
    collected: Collected,
    *,
    forgotten: bool,
) -> pl.DataFrame:
    """Tell what total - reservable is: on-demand capacity on KVM, else maintenance or unknown.

    Returns:
        what of it is maintenance.
    """
    pool = room["reservable"].select("hostname", "start", "end")
    _, outside = arithmetic.intersect(room["total"], pool, HOST)
    on_kvm = (pl.col("host_class") == KVM).fill_null(value=False)
    capacity = outside.filter(on_kvm)
    known_from = pool_known.drop_nulls("hostname").with_columns(end=arithmetic.MAX_TIME)
    known, unknown = arithmetic.intersect(outside.filter(~on_kvm), known_from, HOST)
    if forgotten:
        uncounted.count_hosts(outside, pool, known_from, collected)
    for quantity, pieces in (
        ("ondemand_capacity", capacity),
        ("maintenance_out_of_pool", known),
        ("unknown", unknown),
        ("maintenance_ondemand", _unheld(windows, capacity, ondemand)),
    ):
        collected.emit(pieces, quantity)
    return known


def _unheld(windows: pl.DataFrame, room: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Take maintenance windows from what of ``room`` nothing holds: a node that is held is held."""
    inside, _ = arithmetic.intersect(windows, room, HOST)
    return holders.remaining(inside, held)
