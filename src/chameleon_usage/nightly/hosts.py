"""Which hosts changed since an earlier run, and the reading of all from theirs and the earlier one.

A host is read again where any row of it is another than before. Of the others the earlier reading
holds, but for one thing: what was still so when the earlier tables were read is so until now. Steps
4 to 8 of the reconstruction go host by host, and only compare times with each other; so where no
time of a host lies between the two moments, its reading is the same, each end at the one moment
moved to the other. (``tests/nightly`` holds generated sites to that.)
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime

import polars as pl
import polars.selectors as cs

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.metrics import OF_STATUS
from chameleon_usage.models.site import Site
from chameleon_usage.models.vocabulary import stage_of
from chameleon_usage.reconstruct import corrected, uncorrected, usable
from chameleon_usage.reconstruct.corrected import Prepared
from chameleon_usage.reconstruct.observed import Observed
from chameleon_usage.reconstruct.reading import Collected, Corrections, Reading, together

READINGS = tuple(part.name for part in fields(Reading))
HOST = "hostname"
SEAT = "_host"
"""The host of a row: of a run where its instance sits."""

_SEEDS = (0, 1)


@dataclass(frozen=True)
class Hosts:
    """What a run keeps of hosts.

    Attributes:
        as_of: when the tables were read.
        digests: hostname, and two numbers of 64 bits that depend on every value of its rows.
        tied: hostname of those in reservations of which an instance names no host.
        shared: what is the same for all hosts, as text.
        reading: of all hosts; what names none, too.
    """

    as_of: datetime
    digests: pl.DataFrame
    tied: pl.DataFrame
    shared: str
    reading: Reading


@dataclass(frozen=True)
class Reread:
    """The reading of a site.

    Attributes:
        kept: of hosts, to keep for the next run.
        rest: what is refused and counted over all hosts.
        again: how many hosts were read again.
        gone, come: the readings of these hosts as they were, each end at the earlier moment moved
            to this one, and as they are; None where no earlier run is of use.
    """

    kept: Hosts
    rest: Reading
    again: int
    gone: Reading | None = None
    come: Reading | None = None

    @property
    def whole(self) -> Reading:
        """The reading of the site."""
        return together([self.rest, self.kept.reading])


def read(
    observed: Observed, site: Site, as_of: datetime, before: Hosts | None, *, by_project: bool
) -> Reread:
    """Reconstruct a site, but for the hosts of which nothing changed.

    Args:
        observed: of ``observed.observe``.
        site: its configuration.
        as_of: when its tables were read.
        before: of the earlier run, whose configuration and options were the same; or none.
        by_project: tell, too, what projects held.
    """
    prepared, early = corrected.prepare(observed, site, Corrections())
    prepared = _seated(prepared)
    told = [*map(sorted, (observed.spoken_of, observed.forgotten)), observed.tells_status]
    shared = repr([prepared.leased, prepared.purged, prepared.seen_by, *told])
    digests = _digests(prepared, as_of)
    tied = _tied(prepared)
    if before is None or before.shared != shared or before.as_of > as_of:
        reading = _read(prepared, site, None, by_project=by_project)
        kept = Hosts(as_of, digests, tied, shared, reading)
        return Reread(kept, _rest(early, reading), digests.height)
    quiet = _quiet(prepared, digests, before, as_of)
    quiet = quiet.join(pl.concat([tied, before.tied]), on=HOST, how="anti")
    again = digests.select(HOST).join(quiet, on=HOST, how="anti")
    come = _read(prepared, site, again[HOST], by_project=by_project)
    held, gone = _parted(before.reading, quiet, before.as_of, as_of)
    held, stated = _restated(held, observed)
    gone, come = (together(pair) for pair in ((gone, stated[0]), (come, stated[1])))
    reading = together([held, come])
    kept = Hosts(as_of, digests, tied, shared, reading)
    return Reread(kept, _rest(early, reading), again.height, gone, come)


def _rest(early: Reading, hosts: Reading) -> Reading:
    """Add what is counted over all hosts to what was counted before they were read."""
    return corrected.whole([replace(early, adrift=hosts.adrift)])


def _seated(prepared: Prepared) -> Prepared:
    """Tell of each run the host on which its instance sits, where it is judged."""
    runs = prepared.rows["active"]
    seats = prepared.rows["occupied"].select("entity_id", _seat=HOST, _sits=True)
    at = pl.when("_sits").then("_seat").otherwise(HOST).alias(SEAT)
    runs = runs.join(
        seats.unique("entity_id"), on="entity_id", how="left", maintain_order="left"
    ).with_columns(at)
    return replace(prepared, rows=prepared.rows | {"active": runs.drop("_seat", "_sits")})


def _tied(prepared: Prepared) -> pl.DataFrame:
    """Name the hosts of the reservations of instances that name none: found by comparing hosts."""
    wanted = prepared.nameless["occupied"].select("reservation_id").unique()
    theirs = [
        prepared.rows[name].join(wanted, on="reservation_id", how="semi").select(HOST)
        for name in ("committed", "occupied")
    ]
    return pl.concat(theirs).drop_nulls().unique().cast(pl.String)


def _inputs(prepared: Prepared) -> dict[str, pl.DataFrame]:
    """Give all that the reading of a host is made of, with the host of each row.

    But for its status, which a heartbeat changes every night; see ``_restated``.
    """
    observed = prepared.observed
    frames = {"told": observed.intervals, **prepared.rows}
    frames |= {"history": observed.history, "maintenance": observed.maintenance}
    return {
        name: frame if SEAT in frame.columns else frame.with_columns(pl.col(HOST).alias(SEAT))
        for name, frame in frames.items()
    }


def _digests(prepared: Prepared, as_of: datetime) -> pl.DataFrame:
    """Give two numbers for each host that tell whether its rows are the same as before.

    What ends at the moment of the dump is as if it had no end.
    """
    sums = []
    for number, frame in enumerate(_inputs(prepared).values()):
        # Enumerations are numbered anew in each run; categories are hashed by their text.
        rows = frame.with_columns(
            cs.enum().cast(pl.String),
            _of=pl.lit(number),
            end=pl.when(pl.col("end") != as_of).then(pl.col("end")),
        )
        hashes = [rows.drop(SEAT).hash_rows(seed=seed) for seed in _SEEDS]
        of_rows = pl.DataFrame([rows[SEAT].cast(pl.String).alias(HOST), *hashes])
        of_rows.columns = [HOST, "first", "second"]
        sums.append(of_rows.drop_nulls(HOST).group_by(HOST).agg(pl.col("first", "second").sum()))
    # Sums of hashes wrap around, and do not depend on the order of the rows.
    return pl.concat(sums).group_by(HOST).agg(pl.col("first", "second").sum()).sort(HOST)


def _quiet(
    prepared: Prepared, digests: pl.DataFrame, before: Hosts, as_of: datetime
) -> pl.DataFrame:
    """Name the hosts of which nothing changed, and no time lies between the two moments."""
    same = digests.join(before.digests, on=digests.columns, how="semi").select(HOST)
    between = pl.lit(value=False)
    for bound in (pl.col("start"), pl.when(pl.col("end") != as_of).then(pl.col("end"))):
        between |= bound.is_between(before.as_of, as_of).fill_null(value=False)
    restless = [
        frame.filter(between).select(pl.col(SEAT).cast(pl.String).alias(HOST))
        for frame in _inputs(prepared).values()
    ]
    # What was told of them reaches to the moment of the earlier dump at most, and its hours are
    # those between its bounds; else it cannot be told anew from these.
    told = before.reading
    late = [
        frame.filter((pl.col("start") >= before.as_of) | (pl.col("end") > before.as_of)).select(
            HOST
        )
        for frame in (getattr(told, name) for name in READINGS)
    ]
    open_ = told.rejects.filter(pl.col("end") == before.as_of)
    late.append(open_.filter(pl.col("hours").ne_missing(_HOURS)).select(HOST))
    moved = pl.concat([*restless, *(names.cast(pl.String) for names in late)])
    return same.join(moved.drop_nulls().unique(), on=HOST, how="anti")


_HOURS = (pl.col("end") - pl.col("start")).dt.total_seconds() / 3600
"""As ``models.stages.rejects`` tells them."""


def _read(prepared: Prepared, site: Site, hosts: pl.Series | None, *, by_project: bool) -> Reading:
    """Take steps 4 to 8 for some hosts, or all, and for what names none."""
    observed, made = prepared.observed, Corrections()
    runs = prepared.rows["active"].select("entity_id", _seat=SEAT).unique("entity_id")
    part = prepared
    if hosts is not None:

        def ours(frame: pl.DataFrame) -> pl.DataFrame:
            key = SEAT if SEAT in frame.columns else HOST
            kind = frame.schema[key]
            return frame.filter(
                pl.col(key).is_null() | pl.col(key).is_in(hosts.cast(kind).implode())
            )

        observed = replace(
            observed,
            intervals=ours(observed.intervals),
            maintenance=ours(observed.maintenance),
            status=ours(observed.status),
        )
        of = {name: ours(frame) for name, frame in prepared.rows.items()}
        part = replace(prepared, rows=of, observed=observed)
    part = replace(part, rows=part.rows | {"active": part.rows["active"].drop(SEAT)})
    told = uncorrected.collect(observed)
    resolved = corrected.resolve(part, site, made, by_project=by_project)
    mended = corrected.hold(resolved, corrected.place(prepared, resolved.committed, made))
    both = together([told, mended])
    # A run that is refused tells its instance alone.
    nameless = pl.col(HOST).is_null() & (pl.col("stage") == stage_of("corrected", "active"))
    seats = runs.select(source_row_id=pl.col("entity_id").cast(pl.String), _seat="_seat")
    found = both.rejects.filter(nameless).join(seats, on="source_row_id", how="left")
    found = found.with_columns(pl.col("_seat").cast(pl.Categorical).alias(HOST)).drop("_seat")
    return replace(both, rejects=pl.concat([both.rejects.filter(~nameless), found]))


def _parted(
    reading: Reading, quiet: pl.DataFrame, since: datetime, until: datetime
) -> tuple[Reading, Reading]:
    """Divide an earlier reading into that of the hosts that are quiet, and of all others.

    Returns:
        (theirs, that of the others), each end at ``since`` moved to ``until``
    """
    names = quiet[HOST].cast(pl.Categorical).implode()
    ours = pl.col(HOST).is_in(names).fill_null(value=False)
    parts = (
        {name: until_now(getattr(reading, name).filter(which), since, until) for name in READINGS}
        for which in (ours, ~ours)
    )
    first, second = (Reading(**tables) for tables in parts)
    return first, second


def _restated(held: Reading, observed: Observed) -> tuple[Reading, tuple[Reading, Reading]]:
    """Tell anew which of the hosts that are not read again could be used.

    Returns:
        (their reading without it, (what it told of that, what it tells now))
    """
    of_status = pl.col("quantity_type").is_in(sorted(OF_STATUS))
    parts = []
    for which in (~of_status, of_status):
        none = {name: getattr(held, name).clear() for name in READINGS}
        own = {name: getattr(held, name).filter(which) for name in ("segments", "support")}
        parts.append(replace(held, **own) if which is not of_status else Reading(**none | own))
    rest, before = parts
    now = Collected("corrected")
    if observed.tells_status:
        kind = observed.status.schema[HOST]
        mine = rest.segments.filter(pl.col("collector_type") == "corrected").cast({HOST: kind})
        room = {
            name: mine.filter(pl.col("quantity_type") == name)
            for name in ("total", "reservable", "maintenance_out_of_pool")
        }
        out = room.pop("maintenance_out_of_pool")
        windows = arithmetic.union(observed.maintenance, [HOST])
        usable.split_by_status(observed.status, windows, room, out, now)
    return rest, (before, now.result())


def until_now(rows: pl.DataFrame, since: datetime, until: datetime) -> pl.DataFrame:
    """Move each end at one moment to another."""
    open_ = pl.col("end") == since
    moved = rows.with_columns(
        end=pl.when(open_).then(pl.lit(until, pl.Datetime("us"))).otherwise("end")
    )
    if "hours" not in rows.columns:
        return moved
    return moved.with_columns(
        hours=pl.when(rows.select(open_).to_series()).then(_HOURS).otherwise("hours")
    )
