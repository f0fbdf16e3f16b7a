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

import numpy as np
import polars as pl

from chameleon_usage.intervals import arithmetic, keys, sorting
from chameleon_usage.intervals.sorting import Numbers
from chameleon_usage.models.frames import conform, finish
from chameleon_usage.models.metrics import KNOWN_SHARE
from chameleon_usage.models.outputs import LeaseUse
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import HeldPieces
from chameleon_usage.models.vocabulary import KVM
from chameleon_usage.usage.buckets import Window
from chameleon_usage.usage.tables import UNTYPED

_HOST = ["hostname"]
_FIRST = ["_since", "_name"]
"""Of two claims, or stays, the one counts that comes first by these."""
IDLE = ("idle_before_h", "idle_between_h", "idle_after_h", "never_used_h")
_HOURS = ("reserved_h", "used_h", *IDLE, "given_back_h")
_NEED_STAYS = ("used_h", *IDLE, "no_shows")
"""Columns that are null where nobody knows what was used."""


_MOST = 2**63 - 1
"""After every number and time."""

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
    return add_counted((counted(part, early, window) for part in parts), leases, window)


def counted(part: pl.DataFrame, early: pl.DataFrame, window: Window) -> dict[str, pl.DataFrame]:
    """Do so in one range of hosts.

    Args:
        part: of ``attribute``.
        early: of ``ended_early``.
        window: the time to cover.

    Returns:
        seconds: of ``_by_month``; begun: of ``_first_held``.
    """
    names, lease = numbered(part["lease"].cast(NAME))
    held = part.with_columns(pl.col("what").cast(pl.Enum(_HOURS)), _of=pl.Series(lease))
    known = names.to_frame("lease").select(known_by("lease"))
    ours = early.join(known, on=_LEASE, how="semi")  # a range has few of a large site's
    returned = given_back(held, ends_of(known, ours)[lease])
    return {
        "seconds": pl.concat(_by_month(some, window) for some in (held, returned)),
        "begun": _first_held(held, known, returned),
    }


def add_counted(
    parts: Iterable[Mapping[str, pl.DataFrame]], leases: pl.DataFrame, window: Window
) -> dict[str, pl.DataFrame]:
    """Add up what is ``counted`` in all ranges; names may be written as text."""
    seconds, begun = [], []
    for part in parts:
        seconds.append(part["seconds"])
        begun.append(part["begun"].cast({"hostname": NAME, "node_type": NAME}))
    return {
        "lease_hours": _hours(pl.concat(seconds), window),
        "lease_counts": _count_leases(_first_of_all(begun), leases, window),
    }


def claims_of(pieces: pl.DataFrame) -> pl.DataFrame:
    """Name the lease of each claim (HeldPieces) as far as a range tells: claim, lease_id."""
    claim = pl.coalesce("reservation_id", "lease_id", "entity_id").alias("claim")
    return of_leases(pieces).group_by(claim).agg(pl.col("lease_id").min())


def unsettled(parts: Callable[[], Iterable[pl.DataFrame]]) -> pl.DataFrame:
    """Find the claims whose lease ranges tell differently, as where one of them does not know it.

    Args:
        parts: gives what ``claims_of`` made of each range.

    Returns:
        claim, lease_id: what all ranges together tell.
    """

    def known(part: pl.DataFrame) -> pl.DataFrame:
        return part.select(_claim=pl.col("claim").hash(), _lease=pl.col("lease_id").hash())

    every = pl.concat(known(part) for part in parts())
    claim, lease = (every[name].to_numpy() for name in every.columns)
    order = np.argsort(claim)
    claim, lease = claim[order], lease[order]
    again = (claim[1:] == claim[:-1]) & (lease[1:] != lease[:-1])
    several = pl.Series(np.unique(claim[1:][again]))
    found = [part.filter(known(part)["_claim"].is_in(several.implode())) for part in parts()]
    return pl.concat(found).group_by("claim").agg(pl.col("lease_id").min()).drop_nulls()


def settled(pieces: pl.DataFrame, leases: pl.DataFrame) -> pl.DataFrame:
    """Give pieces (HeldPieces) the leases of ``unsettled``."""
    claim = pl.coalesce("reservation_id", "lease_id", "entity_id").cast(leases.schema["claim"])
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
        node_type, nodes, start, end and ``what`` they were: ``used_h`` or one of ``IDLE``; in no
        order. Disjoint per host; nodes that nobody names are held by as many as claim them.

    Raises:
        ConservationError: the hours of the hosts that are claimed are not given once each.
    """
    held = of_leases(pieces).select(
        *("quantity_type", "hostname", "nodes", "lease_id", "start", "end"),
        pl.col("node_type").fill_null(UNTYPED),
        name=pl.coalesce("reservation_id", "lease_id", "entity_id"),
    )
    names, claim = numbered(held["name"])
    types, node_type = numbered(held["node_type"])
    rows = held.with_columns(claim=pl.Series(claim), node_type=pl.Series(node_type))
    claimed = pl.col("quantity_type") == "committed"
    named = rows.filter(pl.col("hostname").is_not_null())
    unnamed = rows.filter(claimed & pl.col("hostname").is_null())
    claims = _merged(named.filter(claimed), ["claim", "hostname", "node_type"], names)
    stays = _merged(named.filter(~claimed), ["claim", "hostname"], names)
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
    leases, of_claim = numbered(_leases_of(rows, names))
    lease = of_claim[pieces["claim"].to_numpy()]
    return pieces.select(
        leases[lease].alias("lease"),
        "hostname",
        types[pieces["node_type"]],
        *(pl.col("nodes").fill_null(1), "start", "end"),
        what=_placed(pieces, lease),
    )


def of_leases(pieces: pl.DataFrame) -> pl.DataFrame:
    """Keep the pieces (HeldPieces) of which ``lease_use`` is made: whole nodes, by leases."""
    slices = (pl.col("host_class") == KVM) & pl.col("hostname").is_not_null()
    return pieces.filter(
        pl.col("quantity_type").is_in(["committed", "occupied_reservation"])
        & ~slices.fill_null(value=False)
    )


def numbered(names: pl.Series) -> tuple[pl.Series, Numbers]:
    """Number names (Categorical, none null) from 0 on: each once, and the number of each row."""
    code = names.to_physical().to_numpy().astype(np.int64)
    code -= code.min(initial=_MOST)
    row = np.full(int(code.max(initial=-1)) + 1, -1)
    row[code] = np.arange(len(code))
    some = row >= 0
    return names[row[some]], (np.cumsum(some) - 1)[code]


def _leases_of(rows: pl.DataFrame, names: pl.Series) -> pl.Series:
    """Give the lease of each claim, or its name where no row of it tells one."""
    told = rows.select("claim", "lease_id").drop_nulls().unique()
    if (np.bincount(told["claim"].to_numpy()) > 1).any():
        told = told.sort("lease_id", descending=True)  # so that the first by name is put in last
    place = np.arange(len(names))
    place[told["claim"].to_numpy()] = len(names) + np.arange(told.height)
    return pl.concat([names, told["lease_id"].alias(names.name)])[place]


def _merged(rows: pl.DataFrame, on: list[str], names: pl.Series) -> pl.DataFrame:
    """Unite rows that touch or overlap; ``_since`` is when each began."""
    united = arithmetic.union(rows, on)
    return united.with_columns(names[united["claim"]].alias("_name"), _since="start")


def _placed(pieces: pl.DataFrame, lease: Numbers) -> pl.Series:
    """Say what pieces were: unused time lies beside the use of the same node by the same lease."""
    if pieces.is_empty():
        return pl.Series([], dtype=pl.Enum(_HOURS))
    host = keys.number(pieces, _HOST)
    of, row = sorting.ascending(lease * (host.max() + 1) + host)
    head = np.append(True, of[1:] != of[:-1])
    start, end = (keys.instants(pieces[bound])[row] for bound in ("start", "end"))
    used = pieces["used"].to_numpy()[row]
    heads, of = np.flatnonzero(head), np.cumsum(head) - 1
    first = np.minimum.reduceat(np.where(used, start, _MOST), heads)[of]
    last = np.maximum.reduceat(np.where(used, end, -_MOST), heads)[of]
    cases = {
        "used_h": used,
        "never_used_h": first == _MOST,
        "idle_before_h": end <= first,
        "idle_after_h": start >= last,
    }
    what = np.empty(len(row), np.int64)
    codes = [_HOURS.index(name) for name in cases]
    what[row] = np.select(list(cases.values()), codes, _HOURS.index("idle_between_h"))
    return pl.Series(_HOURS, dtype=pl.Enum(_HOURS))[what]


def ended_early(leases: pl.DataFrame) -> pl.DataFrame:
    """Give the Leases that were deleted before their end: ``_LEASE``, end_date, deleted_at."""
    early = leases.filter(pl.col("deleted_at") < pl.col("end_date"))
    return early.select("end_date", "deleted_at", *known_by("lease_id"))


def ends_of(leases: pl.DataFrame, early: pl.DataFrame) -> pl.DataFrame:
    """Give end_date and deleted_at of leases (``_LEASE``), row by row; null if not in ``early``."""
    return leases.join(early, on=_LEASE, how="left", maintain_order="left")


def given_back(held: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """Give what leases that were deleted before their end would have held until then.

    Args:
        held: of ``attribute``.
        ends: of ``ends_of``, of the lease of each row.

    Returns:
        the columns of ``held``, from the deletion to the end: of each node held until then.
    """
    until = (held["end"] == ends["deleted_at"]).fill_null(value=False)
    return held.filter(until).with_columns(
        start="end",
        end=ends["end_date"].filter(until),
        what=pl.lit("given_back_h", pl.Enum(_HOURS)),
    )


def _months(window: Window) -> pl.Series:
    """List the borders of the window's months, the first of which may begin before it."""
    first = pl.Series([window.start]).dt.truncate("1mo")[0]
    return arithmetic.bucket_edges(first, window.end, "1mo")


def _by_month(pieces: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Add up node-seconds: bucket (the month), node_type and ``_HOURS``."""
    units = arithmetic.clip(pieces, window.start, window.end)
    sums = arithmetic.integrate(units, _months(window), ["node_type", "what"], ["nodes"])
    what, nodes = pl.col("what").cast(pl.String), pl.col("nodes")
    return sums.filter(nodes != 0).select(
        "bucket",
        pl.col("node_type").cast(pl.String),
        *(
            pl.when(what.is_in(["used_h", *IDLE]) if name == "reserved_h" else what == name)
            .then(nodes)
            .otherwise(0)
            .alias(name)
            for name in _HOURS
        ),
    )


def _hours(seconds: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Give node-hours of node-seconds: timestamp, node_type and ``_HOURS``, where there are any."""
    sums = seconds.group_by("bucket", "node_type").agg(pl.col(_HOURS).sum())
    some = sums.filter(pl.any_horizontal(pl.col(_HOURS) > 0))
    return some.select(
        _months(window).dt.replace_time_zone("UTC").gather(some["bucket"]).alias("timestamp"),
        "node_type",
        *(pl.col(name) / 3600 for name in _HOURS),
    )


def _first_held(held: pl.DataFrame, known: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Give the first node that each lease held, and whether it used any or gave any back."""
    lease, start = held["_of"].to_numpy(), keys.instants(held["start"])
    first, place = np.full((2, known.height), _MOST)
    np.minimum.at(first, lease, start)
    # Of the nodes that a lease began with, the first by name.
    some = np.flatnonzero(start == first[lease])
    begun = held.select("hostname", "node_type")[some]
    nodes = begun.unique().sort(begun.columns)
    np.minimum.at(place, lease[some], keys.find(begun, nodes, begun.columns))
    flags = {"_used": held.filter(pl.col("what") == "used_h"), "_early": returned}
    return known.select(
        *_LEASE,
        pl.Series(first).cast(pl.Datetime("us")).alias("start"),
        *(nodes[name].cast(NAME)[place] for name in begun.columns),
        *(_flag(of["_of"], known.height).alias(name) for name, of in flags.items()),
    )


def _flag(some: pl.Series, count: int) -> pl.Series:
    """Flag so many numbers: true for some of them, null for the others."""
    return pl.Series([None, True])[(np.bincount(some.to_numpy(), minlength=count) > 0).astype(int)]


def _first_of_all(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Give the same of all ranges: a lease may have hosts in several."""
    every = pl.concat(parts)
    again = pl.col(_LEASE[0]).is_duplicated()  # or looks so: both numbers take long to compare
    if len(parts) == 1 or not (several := every.filter(again)).height:
        return every
    ordered = several.sort(*_LEASE, "start", "hostname", "node_type")
    first = ordered.group_by(_LEASE).agg(
        pl.col("start", "hostname", "node_type").first(), pl.col("_used", "_early").max()
    )
    return pl.concat([every.filter(~again), first.select(every.columns)])


def _count_leases(begun: pl.DataFrame, leases: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Count leases in the month in which they began, by the type of the first node they held."""
    told = leases.drop_nulls("extended").select("extended", *known_by("lease_id"))
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
