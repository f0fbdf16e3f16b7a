"""What no row tells and other rows imply: names of hosts, allocations, hosts and reservations."""

from collections.abc import Sequence

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.cutting import parted
from chameleon_usage.models.stages import MISSING, MORE, REPLACED
from chameleon_usage.models.vocabulary import KVM

LEASES = "blazar.leases"
"""Tells of allocations that are gone, and not of which hosts."""


def gone_hosts(rows: pl.DataFrame) -> pl.DataFrame:
    """Tell the hostname that the instances of its reservations name of a host whose row is gone.

    Every reservation in which the id and a hostname meet is a vote; a hostname that another id of
    the same reservation has is out. The most votes win; a tie names nobody.

    Args:
        rows: all of ``Observed.intervals``; of their columns quantity_type, reservation_id,
            host_id and hostname are read.

    Returns:
        host_id, Blazar's, and hostname of those whose name was found.
    """
    kind, told = pl.col("quantity_type"), rows.select("reservation_id", "host_id", "hostname")
    committed = told.filter(rows.select(kind == "committed").to_series()).drop_nulls("host_id")
    taken, unnamed = parted(committed, pl.col("hostname").is_not_null())
    named = unnamed.select("host_id", "hostname").clear()
    if unnamed.is_empty():
        return named
    pairs = unnamed.select("reservation_id", "host_id").unique()
    taken = taken.join(pairs, on="reservation_id", how="semi")
    seen = (
        told.filter(rows.select(kind == "occupied").to_series())
        .select("reservation_id", "hostname")
        .join(pairs, on="reservation_id", how="semi")
        .drop_nulls("hostname")
        .unique()
    )
    candidates = pairs.join(seen, on="reservation_id").join(
        taken, on=["reservation_id", "hostname"], how="anti"
    )
    for _ in range(len(pairs)):
        votes = (
            candidates.group_by("host_id", "hostname")
            .agg(votes=pl.len())
            .sort("host_id", "votes", "hostname", descending=[False, True, False])
        )
        winners = (
            votes.group_by("host_id", maintain_order=True)
            .agg(
                pl.col("hostname").first(),
                clear=(pl.col("votes") == pl.col("votes").max()).sum() == 1,
            )
            .filter("clear")
            .select("host_id", "hostname")
        )
        if winners.is_empty():
            break
        named = pl.concat([named, winners])
        settled = pairs.join(winners, on="host_id").select("reservation_id", "hostname")
        candidates = candidates.join(winners, on="host_id", how="anti").join(
            settled, on=["reservation_id", "hostname"], how="anti"
        )
    return named


def any_unallocated(rows: pl.DataFrame) -> bool:
    """Tell whether Blazar has reservations of which no allocation is left.

    Args:
        rows: of ``Observed.intervals``, or of Intervals.
    """
    ended = ~pl.col("entity_id").cast(pl.String).str.ends_with(REPLACED)
    promised = (pl.col("source") == LEASES) & (pl.col("quantity_type") == "committed")
    return bool(rows.filter(promised).select(ended.any()).item())


def name_gone_hosts(rows: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """Name the hosts of rows.

    Args:
        rows: of their columns host_id, hostname and inferred are read.
        gone: of ``gone_hosts``.

    Returns:
        the rows, with hostname where it was found, which makes them ``inferred``.
    """
    if gone.is_empty() or rows["host_id"].null_count() == rows.height:
        return rows
    ids = rows.select("host_id")
    found = ids.join(gone, on="host_id", how="left", maintain_order="left")["hostname"]
    unnamed = pl.col("hostname").is_null() & found.is_not_null()
    return rows.with_columns(
        hostname=pl.coalesce("hostname", found), inferred=pl.col("inferred") | unnamed
    )


def name_booked_hosts(
    schedule: pl.DataFrame, rows: pl.DataFrame, gone: pl.DataFrame
) -> pl.DataFrame:
    """Name the hosts of bookings.

    Args:
        schedule: models.stages.Schedule.
        rows: all of ``Observed.intervals``; of their columns host_id and hostname are read.
        gone: of ``gone_hosts``.

    Returns:
        the schedule, with hostname where it was found.
    """
    told = rows.select(gone.columns).drop_nulls()
    named = pl.concat([told, gone.cast(told.schema)])
    names = named.group_by("host_id").agg(_name=pl.col("hostname").min())
    return (
        schedule.join(names, on="host_id", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("hostname", pl.col("_name").cast(schedule.schema["hostname"])).alias(
                "hostname"
            )
        )
        .drop("_name")
    )


def lost_allocations(
    committed: pl.DataFrame, promised: pl.DataFrame, occupied: pl.DataFrame
) -> pl.DataFrame:
    """Infer allocations that left no row from instances on a host that no row gives them.

    Three things take the row away. When a host is replaced in a running lease, the healer may write
    the new host over the old one, and before 2018-07 the row of a removed host was deleted: the
    reservation held the host at least from its start to the end of the last instance it had there.
    When a lease ends, Blazar deletes its allocations for good, but keeps the reservation: it held
    the host from its start to its end. When a lease is deleted, nothing is left of it: it held the
    host at least while its instances were there. Of a slice of a KVM host the same holds, of the
    last two at least while the instance was there.

    Args:
        committed: allocations: the columns of ``Observed.intervals``.
        promised: reservations of which no allocation is left: the same columns.
        occupied: stays of instances: the same columns.

    Returns:
        allocations of one node or slice, ``inferred``; source and entity_id are those of an
        instance. Some columns that are not told are left out.
    """
    pair = ["reservation_id", "hostname"]
    told = ["lease_id", "project_id", "host_class", "vcpus", "memory_mb", "disk_gb"]
    stays = occupied.drop_nulls(pair).join(committed, on=pair, how="anti", nulls_equal=True)
    by_reservation, by_promise = (
        rows.join(stays, on="reservation_id", how="semi", maintain_order="left")
        .group_by("reservation_id", maintain_order=True)
        .agg(pl.col(told).first(), _from=pl.col("start").min(), _to=pl.col("end").max())
        for rows in (committed, promised)
    )
    last = (
        stays.sort(*pair, "end", "entity_id")
        .group_by(pair, maintain_order=True)
        .agg(pl.col("source", "entity_id", "end").last(), first=pl.col("start").min())
    )
    sliced = (pl.col("host_class") == KVM).fill_null(value=False)
    replaced = (
        last.join(by_reservation, on="reservation_id", how="inner")
        .join(by_promise, on="reservation_id", how="anti")
        .with_columns(start="_from", end=pl.min_horizontal("end", "_to"), open=pl.lit(value=False))
    )
    ended = _in_turn(
        last.join(by_promise.filter(~sliced), on="reservation_id", how="inner"), promised
    )
    ended_slices = (
        stays.drop(told)
        .join(by_promise.filter(sliced), on="reservation_id")
        .with_columns(
            start=pl.max_horizontal("start", "_from"),
            end=pl.min_horizontal("end", "_to"),
            open=pl.lit(value=False),
        )
    )
    deleted = (
        stays.join(by_reservation, on="reservation_id", how="anti")
        .join(by_promise, on="reservation_id", how="anti")
        .with_columns(pl.col("vcpus").fill_null(0))  # no whole host, where it is a slice
    )
    columns = [*pair, "source", "entity_id", *told, "start", "end", "open"]
    return (
        pl.concat(frame.select(columns) for frame in (replaced, ended, ended_slices, deleted))
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(
            quantity_type=pl.lit("committed", committed["quantity_type"].dtype),
            node_type=pl.lit(None, committed["node_type"].dtype),
            gpus=pl.lit(None, pl.Int64),
            nodes=pl.lit(1, pl.Int64),
            inferred=pl.lit(value=True),
        )
    )


def take_turns(
    committed: pl.DataFrame, lost: pl.DataFrame, occupied: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Cut what a reservation would hold beyond what it asks for: a host was written over another.

    The healer writes the new host into the row of the old one, and when the lease ends nothing
    tells when. The old host's last instance does: a row that was used last holds its host from
    then on, or from its own first instance.

    Args:
        committed: allocations of ``Observed.intervals``, with what is ``asked``.
        lost: of ``lost_allocations``.
        occupied: stays of instances.

    Returns:
        (the allocations, what they did not hold, the lost ones, each until its host was replaced)
    """
    pair = ["reservation_id", "hostname"]
    sizeless = pl.col("vcpus").is_null()
    # Only of reservations that lost an allocation is there anything to cut.
    rows = committed.filter(sizeless).join(lost, on="reservation_id", how="semi")
    rows = rows.drop_nulls([*pair, "asked"])
    known, shown = (
        frame.group_by(pair).agg(pl.col("end").max())
        for frame in (rows, lost.join(rows, on="reservation_id", how="semi"))
    )
    asked = rows.group_by("reservation_id").agg(_most=pl.col("asked").max())
    used = occupied.join(rows, on="reservation_id", how="semi").drop_nulls("hostname")
    first = used.group_by(pair).agg(first=pl.col("start").min())
    hosts = (
        pl.concat([shown.with_columns(_kept=False), known.with_columns(_kept=True)])
        .join(shown.select("reservation_id").unique(), on="reservation_id", how="semi")
        .join(asked, on="reservation_id")
        .join(first, on=pair, how="left")
        .with_columns(pl.col("first").fill_null(arithmetic.MAX_TIME))
        .sort("reservation_id", "_kept", "first", "hostname")
    )
    turns = _turns(hosts)
    by_lost = pl.col("_place") - pl.col("_most") < (~pl.col("_kept")).sum().over("reservation_id")
    since = turns.filter(by_lost).select(*pair, "_since").drop_nulls("_since")
    until = turns.filter(pl.col("_next").is_not_null() & ~pl.col("_kept")).select(
        *pair, _until=pl.min_horizontal("end", "_next")
    )
    late = committed.join(since, on=pair, how="left", maintain_order="left").with_columns(
        _since=pl.min_horizontal(pl.max_horizontal("start", "_since"), "end")
    )
    held = late.with_columns(start="_since").filter(pl.col("start") < pl.col("end"))
    before = late.with_columns(end="_since").filter(pl.col("start") < pl.col("end"))
    lost = (
        lost.join(since, on=pair, how="left")
        .join(until, on=pair, how="left")
        .with_columns(
            start=pl.max_horizontal("start", "_since"), end=pl.min_horizontal("end", "_until")
        )
        .filter(pl.col("start") < pl.col("end"))
    )
    return held.drop("_since"), before.drop("_since"), lost.drop("_since", "_until")


def _turns(hosts: pl.DataFrame) -> pl.DataFrame:
    """Tell which host of a reservation took another's place, of more than it asks for.

    Args:
        hosts: reservation_id, first and end of its instances there, _most of its nodes at once; in
            the order in which they were held.

    Returns:
        the rows with _next, when the host that took its place was first used, and _since, when the
        one whose place it took was given up; null where there is none.
    """
    turn = ["reservation_id", "_place"]
    placed = hosts.with_columns(_place=pl.int_range(pl.len()).over("reservation_id"))
    nexts = placed.select(turn[0], _place=pl.col("_place") - pl.col("_most"), _next="first")
    ends = placed.join(nexts, on=turn, how="left", maintain_order="left")
    befores = ends.filter(pl.col("_next").is_not_null()).select(
        turn[0],
        _place=pl.col("_place") + pl.col("_most"),
        _since=pl.min_horizontal("end", "_next"),
    )
    return ends.join(befores, on=turn, how="left", maintain_order="left")


def _in_turn(shown: pl.DataFrame, promised: pl.DataFrame) -> pl.DataFrame:
    """Tell when reservations of ended leases held the hosts on which their instances were.

    From start to end, if no more hosts are shown than the reservation asked for. Of more, the one
    first used was replaced by the one used first after all others: when its last instance ended,
    or when the other's first one began. Of a reservation that lost a host and got no other, each
    is sure to be held to the end of its last instance only.

    Args:
        shown: reservation_id, hostname, first and end of its instances there, _from and _to.
        promised: of ``lost_allocations``.

    Returns:
        the rows with start, end and open.
    """
    asked = promised.group_by("reservation_id").agg(
        _most=pl.col("nodes").sum(),
        _short=pl.col("entity_id").cast(pl.String).str.ends_with(MISSING).any(),
    )
    turns = _turns(
        shown.join(asked, on="reservation_id").sort("reservation_id", "first", "hostname")
    )
    end = pl.when("_short").then(pl.min_horizontal("end", "_to")).otherwise("_to")
    replaced = pl.col("_next").is_not_null()
    return turns.with_columns(
        start=pl.coalesce("_since", "_from"),
        end=pl.when(replaced).then(pl.min_horizontal("end", "_next")).otherwise(end),
        open=pl.lit(value=False),
    )


def unseen(
    promised: pl.DataFrame, lost: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Tell what is left of reservations without allocations when instances have shown some of them.

    Args:
        promised: reservations: entity_id (``<reservation_id>/more`` of nodes that may have been
            held beside those that were, ``/missing`` where one was lost), reservation_id, nodes,
            host_class.
        lost: of ``lost_allocations``.

    Returns:
        (pieces whose remaining ``nodes`` are known to have been held, those of which only the bound
        is known, those of which every node is shown)
    """
    shown = lost.select("reservation_id", "start", "end", _shown="nodes")
    shown = arithmetic.sum_overlaps(
        shown.join(promised, on="reservation_id", how="semi"), ["reservation_id"], ["_shown"]
    )
    more = pl.col("entity_id").cast(pl.String).str.contains(f"({MORE}|{MISSING})$")
    certain = pl.col("nodes").filter(~more).sum().over("reservation_id")
    partly, not_at_all = arithmetic.intersect(
        promised.with_columns(_certain=certain), shown, ["reservation_id"]
    )
    left = pl.concat([partly, not_at_all], how="diagonal").with_columns(
        nodes=pl.col("nodes")
        - pl.when(more)
        .then((pl.col("_shown") - pl.col("_certain")).clip(0))
        .otherwise("_shown")
        .fill_null(0)
    )
    left = left.drop("_shown", "_certain")
    some, none = left.filter(pl.col("nodes") > 0), left.filter(pl.col("nodes") <= 0)
    bounded = more | (pl.col("host_class") == KVM).fill_null(value=False)
    return some.filter(~bounded), some.filter(bounded), none


def assign_hosts(lost: pl.DataFrame, others: pl.DataFrame, committed: pl.DataFrame) -> pl.DataFrame:
    """Give a reserved instance that names no node the one host of its reservation left free.

    Args:
        lost: stays of instances in a reservation, and without a hostname: the columns of
            ``Observed.intervals``.
        others: stays of instances that name a host: reservation_id, hostname, start, end.
        committed: what reservations hold: reservation_id, hostname.

    Returns:
        source, entity_id and hostname of those whose host was found.
    """
    keys = ["source", "entity_id"]
    hosts = committed.select("reservation_id", "hostname").drop_nulls()
    hosts = hosts.join(lost, on="reservation_id", how="semi").unique()
    others = others.select("reservation_id", "hostname", other_start="start", other_end="end")
    lives = lost.group_by(*keys, "reservation_id").agg(pl.col("start").min(), pl.col("end").max())
    options = lives.join(hosts, on="reservation_id")
    busy = options.join(others, on=["reservation_id", "hostname"]).filter(
        (pl.col("other_start") < pl.col("end")) & (pl.col("start") < pl.col("other_end"))
    )
    free = options.join(busy, on=[*keys, "hostname"], how="anti")
    return (
        free.group_by(keys)
        .agg(pl.col("hostname").first(), _options=pl.len())
        .filter(pl.col("_options") == 1)
        .drop("_options")
    )


def find_reservations(
    rows: pl.DataFrame, committed: pl.DataFrame, seen_by: Sequence[str]
) -> pl.DataFrame:
    """Find the reservation of instances whose request spec is purged.

    A host committed to a lease of the instance's project when it was created holds it, unless the
    instance's own request names no reservation. What only other instances show is no evidence.

    Args:
        rows: stays of instances, each with its hostname: the columns of ``Observed.intervals``.
        committed: allocations: hostname, project_id, reservation_id, start, end.
        seen_by: the sources that tell of instances.

    Returns:
        the rows, with reservation_id where it was found: of several the one that began last.
    """
    orphans = rows.filter(
        pl.col("reservation_id").is_null()
        & pl.col("project_id").is_not_null()
        & ~pl.col("unreserved").fill_null(value=False)
    )
    if orphans.is_empty():
        return rows
    told = committed.filter(~pl.col("source").is_in(seen_by))
    holds = told.select(
        "hostname", "project_id", hold="reservation_id", from_="start", to="end"
    ).drop_nulls(["hostname", "project_id"])
    keys = ["source", "entity_id"]
    births = orphans.group_by(*keys, "hostname", "project_id").agg(pl.col("start").min())
    found = (
        births.join(holds, on=["hostname", "project_id"])
        .filter((pl.col("from_") <= pl.col("start")) & (pl.col("start") < pl.col("to")))
        .sort(*keys, "from_", "hold")
        .unique(keys, keep="last", maintain_order=True)
        .select(*keys, "hold")
    )
    return (
        rows.join(found, on=keys, how="left")
        .with_columns(reservation_id=pl.coalesce("reservation_id", "hold"))
        .drop("hold")
    )
