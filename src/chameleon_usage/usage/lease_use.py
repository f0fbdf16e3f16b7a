"""How leases used the nodes they held: used, idle, never used, given back early.

A *claim* is the time for which a lease holds a node, a *stay* that for which an instance of it sits
there; both are those of the corrected count, so that ``reserved_h`` adds up to its *committed* and
``used_h`` to its *occupied_reservation*. Whole nodes and devices alone are counted: many leases
share a KVM host, and a slice that is not used leaves nothing idle that others could not use.

**Which lease a node belongs to.** A node is reserved once at a time, whatever claims it:

1. where an instance sits on it, by the lease of that instance; of several instances the one counts
   whose stay began first;
2. where there is none, or its lease has no claim there, by the claim that began first.

Claims and stays of one reservation that touch or overlap are one. What begins at the same time goes
by the reservation's id. So a lease never uses a node that it does not hold, and no hour of a node
is counted twice.

Hours of a node that its lease did not use lie before the lease's first instance there, between two,
after the last one, or there never was one. A *no-show* is a lease that held nodes, none of which
ever had an instance of it. A lease that is deleted before its end gives back the nodes that it held
until then; these hours, up to its end, are in no other column.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import conform, finish
from chameleon_usage.models.metrics import KNOWN_SHARE
from chameleon_usage.models.outputs import LeaseUse
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import HeldPieces
from chameleon_usage.models.vocabulary import KVM
from chameleon_usage.usage.buckets import Window
from chameleon_usage.usage.tables import UNTYPED

_HOST = ["hostname"]
_FIRST = ["_since", "claim"]
"""Of two claims, or stays, the one counts that comes first by these."""
IDLE = ("idle_before_h", "idle_between_h", "idle_after_h", "never_used_h")
_HOURS = ("reserved_h", "used_h", *IDLE, "given_back_h")
_NEED_STAYS = ("used_h", *IDLE, "no_shows")
"""Columns that are null where nobody knows what was used."""


_LEASE = ("_lease", "_beside")
"""Columns by which a lease is known among all of a site: 128 bits of its id, which take less room
and time than the id where there are millions, and are the same in every range of hosts."""


def known_by(lease: str) -> list[pl.Expr]:
    """Give ``_LEASE`` of the column with the lease's id."""
    text = pl.col(lease).cast(pl.String)
    return [text.hash(seed).alias(name) for seed, name in enumerate(_LEASE)]


def lease_use(sums: Mapping[str, pl.DataFrame], timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Make lease_use, a row for each month and node type with a lease.

    Args:
        sums: of ``add_up``.
        timeline: models.outputs.UsageTimeline of the site: a month in which it does not know what
            was committed has no rows; one in which it does not know what was occupied has null.
        site: the site's key.

    Returns:
        models.outputs.LeaseUse.
    """
    rows = (
        sums["lease_hours"]
        .sort("timestamp")
        .join(
            sums["lease_counts"],
            on=["timestamp", "node_type"],
            how="left",
            maintain_order="left",
        )
        .join_asof(_known_months(timeline), on="timestamp", check_sortedness=False)
        .filter("held")
        .with_columns(pl.col("leases", "no_shows", "released_early").fill_null(0))
        .with_columns(pl.when("used").then(pl.col(name)).alias(name) for name in _NEED_STAYS)
    )
    return finish(rows, LeaseUse, site)


def add_up(
    parts: Iterable[pl.DataFrame], leases: pl.DataFrame, window: Window
) -> dict[str, pl.DataFrame]:
    """Add up what leases held, and count them.

    Args:
        parts: of ``attribute``, of the site or of one range of its hosts after another.
        leases: Leases.
        window: the time to cover; its months begin with the first day of each.

    Returns:
        lease_hours: timestamp, node_type and the hours, where there are any; lease_counts:
        timestamp (the month in which leases began), node_type (of the first node that each held)
        and how many they are.
    """
    early = ended_early(leases)
    seconds, begun = [], []
    for part in parts:
        held = part.with_columns(*known_by("lease"), pl.col("what").cast(pl.Enum(_HOURS)))
        returned = given_back(held, early)
        seconds.append(_by_month(pl.concat([held, returned], how="diagonal"), window))
        begun.append(_first_held(held, returned))
    return {
        "lease_hours": _hours(pl.concat(seconds), window),
        "lease_counts": _count_leases(_first_of_all(begun), leases, window),
    }


def claims_of(pieces: pl.DataFrame) -> pl.DataFrame:
    """Name the lease of each claim (HeldPieces) as far as a range tells: claim, lease_id."""
    claim = pl.coalesce("reservation_id", "lease_id", "entity_id").alias("claim")
    return of_leases(pieces).group_by(claim).agg(pl.col("lease_id").min()).cast(pl.String)


def unsettled(parts: Callable[[], Iterable[pl.DataFrame]]) -> pl.DataFrame:
    """Find the claims whose lease ranges tell differently, as where one of them does not know it.

    Args:
        parts: gives what ``claims_of`` made of each range.

    Returns:
        claim, lease_id: what all ranges together tell.
    """

    def known(part: pl.DataFrame) -> pl.DataFrame:
        return part.select(_claim=pl.col("claim").hash(), _lease=pl.col("lease_id").hash())

    every = pl.concat(known(part) for part in parts()).unique()
    several = every.filter(pl.col("_claim").is_duplicated()).select("_claim").unique()
    found = [
        part.filter(known(part)["_claim"].is_in(several["_claim"].implode())) for part in parts()
    ]
    return pl.concat(found).group_by("claim").agg(pl.col("lease_id").min()).drop_nulls()


def settled(pieces: pl.DataFrame, leases: pl.DataFrame) -> pl.DataFrame:
    """Give pieces (HeldPieces) the leases of ``unsettled``."""
    claim = pl.coalesce("reservation_id", "lease_id", "entity_id").cast(pl.String)
    named = leases.rename({"lease_id": "_lease_id"})
    told = pieces.with_columns(claim=claim).join(
        named, on="claim", how="left", maintain_order="left"
    )
    lease = pl.coalesce(pl.col("_lease_id").cast(pieces.schema["lease_id"]), "lease_id")
    return conform(told.with_columns(lease_id=lease), HeldPieces)


def attribute(pieces: pl.DataFrame) -> pl.DataFrame:
    """Give each hour of a reserved node to one lease, and say whether it was used.

    Args:
        pieces: HeldPieces.

    Returns:
        lease (its id, or that of the reservation where nobody knows the lease), hostname,
        node_type, nodes, start, end and ``what`` they were: ``used_h`` or one of ``IDLE``. Disjoint
        per host; nodes that nobody names are held by as many as claim them.

    Raises:
        ConservationError: the hours of the hosts that are claimed are not given once each.
    """
    rows = _numbered(pieces)
    claimed = pl.col("quantity_type") == "committed"
    named = rows.filter(pl.col("hostname").is_not_null())
    unnamed = rows.filter(claimed & pl.col("hostname").is_null())
    claims = _merged(named.filter(claimed), ["claim", "hostname", "node_type"])
    stays = _merged(named.filter(~claimed), ["claim", "hostname"])
    stays, _ = arithmetic.split_overlaps(stays, _HOST, _FIRST)
    taken = stays.select("hostname", "start", "end", _by="claim")
    beside, free = arithmetic.intersect(claims, taken, _HOST)
    whose = pl.col("_by").eq_missing(pl.col("claim"))
    own, others = beside.filter(whose).drop("_by"), beside.filter(~whose).drop("_by")
    own, _ = arithmetic.split_overlaps(own, _HOST, _FIRST)
    _, others = arithmetic.intersect(others, own.select("hostname", "start", "end"), _HOST)
    others, _ = arithmetic.split_overlaps(others, _HOST, _FIRST)
    free, _ = arithmetic.split_overlaps(free, _HOST, _FIRST)
    arithmetic.check_conservation("lease_use", arithmetic.union(claims, _HOST), own, others, free)
    pieces = pl.concat(
        [
            own.with_columns(used=True),
            others.with_columns(used=True),
            free.with_columns(used=False),
            unnamed.with_columns(used=False),
        ],
        how="diagonal",
    )
    of_claim = rows.group_by("claim").agg(
        lease=pl.coalesce(pl.col("lease_id").min(), pl.col("reservation_id").first())
    )
    return (
        _placed(pieces.join(of_claim, on="claim", how="left", nulls_equal=True))
        .with_columns(pl.col("nodes").fill_null(1))
        .select("lease", "hostname", "node_type", "nodes", "start", "end", "what")
        .sort("start", "hostname", "node_type")
    )


def of_leases(pieces: pl.DataFrame) -> pl.DataFrame:
    """Keep the pieces (HeldPieces) of which ``lease_use`` is made: whole nodes, by leases."""
    slices = (pl.col("host_class") == KVM) & pl.col("hostname").is_not_null()
    return pieces.filter(
        pl.col("quantity_type").is_in(["committed", "occupied_reservation"])
        & ~slices.fill_null(value=False)
    )


def _numbered(pieces: pl.DataFrame) -> pl.DataFrame:
    """Keep what holds whole nodes by leases, with names that sort and compare by number.

    ``claim`` is the number of the reservation or, where none is told, of what tells of the lease.
    """
    held = of_leases(pieces).with_columns(
        reservation_id=pl.coalesce("reservation_id", "lease_id", "entity_id")
    )
    typed = held.with_columns(pl.col("node_type").cast(pl.String).fill_null(UNTYPED))
    for name in ("hostname", "node_type"):
        names = typed[name].unique().cast(pl.String).drop_nulls().sort()
        typed = typed.with_columns(pl.col(name).cast(pl.Enum(names)))
    claims = held.select(pl.col("reservation_id").drop_nulls().unique())
    ordered = claims.sort(pl.col("reservation_id").cast(pl.String)).with_row_index("claim")
    return typed.join(ordered, on="reservation_id", how="left")


def _merged(rows: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """Unite rows that touch or overlap; ``_since`` is when each began."""
    return arithmetic.union(rows, on).with_columns(_since="start")


def _placed(pieces: pl.DataFrame) -> pl.DataFrame:
    """Say what pieces were: unused time lies beside the use of the same node by the same lease."""
    uses = (
        pieces.filter("used")
        .group_by("lease", "hostname")
        .agg(_first=pl.col("start").min(), _last=pl.col("end").max())
    )
    return pieces.join(uses, on=["lease", "hostname"], how="left").with_columns(
        what=pl.when("used")
        .then(pl.lit("used_h"))
        .when(pl.col("_first").is_null())
        .then(pl.lit("never_used_h"))
        .when(pl.col("end") <= pl.col("_first"))
        .then(pl.lit("idle_before_h"))
        .when(pl.col("start") >= pl.col("_last"))
        .then(pl.lit("idle_after_h"))
        .otherwise(pl.lit("idle_between_h"))
        .cast(pl.Enum(_HOURS))
    )


def ended_early(leases: pl.DataFrame) -> pl.DataFrame:
    """Give the Leases that were deleted before their end: ``_LEASE``, end_date, deleted_at."""
    early = leases.filter(pl.col("deleted_at") < pl.col("end_date"))
    return early.select("end_date", "deleted_at", *known_by("lease_id"))


def given_back(held: pl.DataFrame, early: pl.DataFrame) -> pl.DataFrame:
    """Give what leases that were deleted before their end would have held until then.

    Args:
        held: of ``attribute``, with ``_LEASE``.
        early: of ``ended_early``.

    Returns:
        the columns of ``held``, from the deletion to the end: of each node held until then.
    """
    return (
        held.join(early, left_on=[*_LEASE, "end"], right_on=[*_LEASE, "deleted_at"])
        .with_columns(start="end", end="end_date", what=pl.lit("given_back_h", pl.Enum(_HOURS)))
        .drop("end_date")
    )


def _months(window: Window) -> pl.Series:
    """List the borders of the window's months, the first of which may begin before it."""
    first = pl.Series([window.start]).dt.truncate("1mo")[0]
    return arithmetic.bucket_edges(first, window.end, "1mo")


def _by_month(pieces: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Add up node-seconds: bucket (the month), node_type and ``_HOURS``."""
    what = pl.col("what")
    units = arithmetic.clip(pieces, window.start, window.end).with_columns(
        pl.when((what == name) | ((what != "given_back_h") & pl.lit(name == "reserved_h")))
        .then("nodes")
        .otherwise(0)
        .alias(name)
        for name in _HOURS
    )
    sums = arithmetic.integrate(units, _months(window), ["node_type"], list(_HOURS))
    return sums.with_columns(pl.col("node_type").cast(pl.String))


def _hours(seconds: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Give node-hours of node-seconds: timestamp, node_type and ``_HOURS``, where there are any."""
    sums = seconds.group_by("bucket", "node_type").agg(pl.col(_HOURS).sum())
    some = sums.filter(pl.any_horizontal(pl.col(_HOURS) > 0))
    return some.select(
        _months(window).dt.replace_time_zone("UTC").gather(some["bucket"]).alias("timestamp"),
        "node_type",
        *(pl.col(name) / 3600 for name in _HOURS),
    )


def _first_held(held: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Give the first node that each lease held, and whether it used any or gave any back."""
    used = held.filter(pl.col("what") == "used_h").select(_LEASE).unique()
    early = returned.select(_LEASE).unique()
    return (
        held.unique(_LEASE, keep="first", maintain_order=True)  # by start, and then by host
        .join(used.with_columns(_used=pl.lit(value=True)), on=_LEASE, how="left")
        .join(early.with_columns(_early=pl.lit(value=True)), on=_LEASE, how="left")
        .select(*_LEASE, "start", pl.col("hostname", "node_type").cast(NAME), "_used", "_early")
    )


def _first_of_all(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Give the same of all ranges: a lease may have hosts in several."""
    every = pl.concat(parts)
    again = pl.struct(_LEASE).is_duplicated()
    if len(parts) == 1 or not (several := every.filter(again)).height:
        return every
    ordered = several.sort(*_LEASE, "start", "hostname", "node_type")
    first = ordered.group_by(_LEASE).agg(
        pl.col("start", "hostname", "node_type").first(), pl.col("_used", "_early").max()
    )
    return pl.concat([every.filter(~again), first.select(every.columns)])


def _count_leases(begun: pl.DataFrame, leases: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Count leases in the month in which they began, by the type of the first node they held."""
    told = leases.select("extended", *known_by("lease_id"))
    month = pl.col("start").dt.truncate("1mo").dt.replace_time_zone("UTC")
    return (
        begun.filter(pl.col("start").is_between(window.start, window.end, closed="left"))
        .join(told, on=_LEASE, how="left")
        .group_by(pl.col("node_type").cast(pl.String), timestamp=month)
        .agg(
            leases=pl.len(),
            no_shows=pl.col("_used").null_count(),
            released_early=pl.col("_early").count(),
            extended=pl.when(pl.col("extended").is_not_null().any()).then(pl.col("extended").sum()),
        )
    )


def _known_months(timeline: pl.DataFrame) -> pl.DataFrame:
    """Tell of each month, or longer bucket, whether what leases held and used is known.

    Returns:
        timestamp, ascending, ``held`` and ``used``.
    """
    known = pl.col("value").is_not_null()

    def mostly(count_type: str) -> pl.Expr:
        share = known.filter(pl.col("count_type") == count_type).mean()
        return (share >= KNOWN_SHARE).fill_null(value=False)

    return (
        timeline.filter(pl.col("collector_type") == "corrected")
        .group_by(timestamp=pl.col("timestamp").dt.truncate("1mo"))
        .agg(held=mostly("committed"), used=mostly("occupied_reservation"))
        .sort("timestamp")
    )
