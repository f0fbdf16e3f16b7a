"""Ranges of hosts: a site is reconstructed range by range, in the memory that one of them takes.

The facts are written range by range (``cut``), each range is read by itself, by the functions that
read a whole site (``read``), and added up as integers (``usage.tally``). What is left is as large
as the outputs. Who takes a range, and when, is for an *engine* to say (``engines``): this process,
others, or many machines. Neither a digit nor the order of a row depends on it, nor on how many
ranges there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl

from chameleon_usage.engines.engine import Engine, Tables, plain
from chameleon_usage.engines.home import save_numbered
from chameleon_usage.io.files import save_tables
from chameleon_usage.models.frames import columns
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.site import Site
from chameleon_usage.models.stages import HeldPieces, Intervals, Segments, SourceSupport
from chameleon_usage.reconstruct import corrected, uncorrected
from chameleon_usage.reconstruct.corrected import Prepared
from chameleon_usage.reconstruct.observed import SIZED_AS, SIZES, Observed, enumerated
from chameleon_usage.reconstruct.reading import Corrections, Reading, together
from chameleon_usage.usage import lease_use
from chameleon_usage.usage.buckets import Window
from chameleon_usage.usage.tally import Tally, add_up, tally

MOST_ROWS = 20_000_000
"""Intervals above which a site is cut into ranges unasked."""

AT_ONCE = 8
"""Tallies that are added up together."""

TOLD, COUNTED, PLACED = range(3)
"""What a row of a range is for: the uncorrected collector; the corrected one; the same, of an
instance whose host was found late."""

ROWS = dict(columns(Intervals)) | {"open": pl.Boolean(), "use": pl.Int8()}
"""The columns of a range's rows."""


def named(frame: pl.DataFrame, kinds: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Give a frame its types again: names, which are texts or numbers in it, and all others."""
    return frame.with_columns(
        pl.col(name).cat.to(kind)
        if kind in (pl.Enum, pl.Categorical) and frame.schema[name].is_integer()
        else pl.col(name).cast(kind)
        for name, kind in kinds.items()
    )


TALLIED = ("segments", "support")
"""What of the reading of a range is only added up."""

GATHERED = ("rejects", "holdings", "adrift")
"""What of the readings of ranges is put together."""


@dataclass(frozen=True)
class Plan:
    """What is the same for every range.

    Attributes:
        site: its configuration.
        shared: what is known of the whole site, without any rows.
        by_project: tell, too, what projects held.
        whole: keep what the tables do not need, too.
        kinds: of the columns of a range's rows; of those of other processes, ``ROWS``.
    """

    site: Site
    shared: Prepared
    by_project: bool
    whole: bool
    kinds: Mapping[str, pl.DataType]

    @property
    def all_pieces(self) -> bool:
        """Whether what holds hosts is told piece by piece, and not only added up by lease."""
        return self.whole or self.by_project


@dataclass(frozen=True)
class Division:
    """Which hosts are of which range.

    Attributes:
        hosts: hostname, range.
        count: of ranges; what names no host is of one more, of this number.
    """

    hosts: pl.DataFrame
    count: int

    def of(self, hosts: pl.Series) -> pl.Series:
        """Give the range of each host of a row."""
        asked = hosts.alias("hostname").cast(self.hosts.schema["hostname"]).to_frame()
        found = asked.join(self.hosts, on="hostname", how="left", maintain_order="left")
        return found["range"].fill_null(self.count)


@dataclass(frozen=True)
class Cut:
    """A site in ranges, whose rows lie in a folder.

    Attributes:
        folder: where.
        plan: what is the same for all.
        division: which hosts are of which range.
        before: what was refused and counted before.
        to_assign: ``Prepared``, with what is needed to find hosts for its nameless instances.
    """

    folder: Path
    plan: Plan
    division: Division
    before: Reading
    to_assign: Prepared


def cut(
    observed: Observed,
    site: Site,
    folder: Path,
    count: int,
    *,
    by_project: bool = False,
    whole: bool = False,
    apart: bool = False,
) -> Cut:
    """Write what is observed of a site range by range.

    Args:
        observed: of ``observed.observe``.
        site: its configuration.
        folder: where to.
        count: of ranges: neighbours by name, with about as many rows each. What names no host is
            one more.
        by_project: tell, too, what projects held.
        whole: keep what the tables do not need, too.
        apart: write names as text, for other processes.
    """
    prepared, before = corrected.prepare(observed, site, Corrections())
    nameless = without_a_host(prepared)
    parts = rows_of(observed, prepared)
    hosts = pl.concat(hosts.alias("hostname") for _, hosts, _ in parts)
    division = balanced(hosts.drop_nulls().value_counts(name="rows"), count)
    kinds = dict(ROWS) if apart else dict(observed.intervals.schema) | {"use": ROWS["use"]}
    _write_rows(parts, division, folder, "rows", kinds, apart=apart)
    plan = Plan(site, without_rows(prepared, apart=apart), by_project, whole, kinds)
    return Cut(folder, plan, division, before, nameless)


Parts = list[tuple[pl.DataFrame, pl.Series, int]]
"""Rows, the host of each, or null, and what they are for."""


def rows_of(observed: Observed, prepared: Prepared) -> Parts:
    """Give the rows of which ranges are made; they are taken out of what is prepared."""
    of = prepared.rows
    seats = of["occupied"].select("entity_id", _seat="hostname", _sits=True).unique("entity_id")
    at = pl.when("_sits").then("_seat").otherwise("hostname").alias("_host")
    # A run is judged where the instance sits.
    seated = of["active"].join(seats, on="entity_id", how="left", maintain_order="left").select(at)
    parts = [
        (observed.intervals, observed.intervals["hostname"], TOLD),
        *((of[name], of[name]["hostname"], COUNTED) for name in of if name != "active"),
        (of["active"], seated["_host"], COUNTED),
    ]
    of.clear()
    return parts


def without_a_host(prepared: Prepared) -> Prepared:
    """Give what is needed to find hosts for nameless instances."""
    wanted = prepared.nameless["occupied"].select("reservation_id").unique()
    others = prepared.rows["occupied"].join(wanted, on="reservation_id", how="semi")
    return replace(without_rows(prepared), rows={"occupied": others}, nameless=prepared.nameless)


def without_rows(prepared: Prepared, *, apart: bool = False) -> Prepared:
    """Give what is known of a whole site, without any rows; names as text, if it goes elsewhere."""
    observed = prepared.observed
    known = {name: getattr(observed, name) for name in ("history", "maintenance", "status", "gone")}
    about = replace(
        observed,
        intervals=observed.intervals.clear(),
        rejects=observed.rejects.clear(),
        **(plain(known) if apart else known),
    )
    return replace(prepared, observed=about, rows={}, nameless={})


def balanced(hosts: pl.DataFrame, count: int) -> Division:
    """Divide hosts into so many ranges of about as many rows.

    Args:
        hosts: hostname, rows.
        count: of ranges.
    """
    before = pl.col("rows").cum_sum() - pl.col("rows")
    of = (before * count // pl.col("rows").sum()).cast(pl.Int64)
    return Division(hosts.sort("hostname").select("hostname", range=of), count)


def write_rows(parts: Parts, division: Division, folder: Path, name: str) -> None:
    """Write rows to the ranges of their hosts, for other processes.

    Args:
        parts: of ``rows_of``; they are taken out of the list.
        division: which hosts are of which range.
        folder: where to.
        name: what their files' names begin with.
    """
    _write_rows(parts, division, folder, name, ROWS, apart=True)


def _write_rows(
    parts: Parts,
    division: Division,
    folder: Path,
    name: str,
    kinds: Mapping[str, pl.DataType],
    *,
    apart: bool,
) -> None:
    # One after another: all of them together, and once more by range, take most of the memory.
    for number in reversed(range(len(parts))):
        frame, hosts, use = parts.pop()
        own = frame.with_columns(division.of(hosts), use=pl.lit(use, ROWS["use"]))
        _write(folder, f"{name}-{number}", own, kinds, apart=apart)


def _write(
    folder: Path, name: str, rows: pl.DataFrame, kinds: Mapping[str, pl.DataType], *, apart: bool
) -> None:
    """Write rows under the number of their range; of none, an empty file under the first."""
    parts = rows.partition_by("range", as_dict=True, include_key=False)
    for (number,), part in (parts or {(0,): rows.drop("range")}).items():
        told = part.select(
            (pl.col(column) if column in part.columns else pl.lit(None, kind).alias(column))
            for column, kind in kinds.items()
        )
        place = folder / "rows" / f"range={number:06}"
        if apart:
            save_tables(place, plain({name: told}))
        else:
            save_numbered(place, {name: told})


def _part(plan: Plan, rows: pl.DataFrame) -> tuple[Observed, Prepared, dict[str, pl.DataFrame]]:
    """Give what is known of a range, as the collectors read it; and its instances placed late."""
    shared = plan.shared.observed
    rows = named(rows, plan.kinds)
    hosts = rows.select(pl.col("hostname").unique().drop_nulls())
    maintenance, status = shared.maintenance, shared.status
    if maintenance.schema["hostname"] == pl.String:
        hosts = hosts.cast(pl.String)
    frames = [
        rows,
        shared.history,
        *(frame.join(hosts, on="hostname", how="semi") for frame in (maintenance, status)),
    ]
    if not isinstance(rows.schema["hostname"], pl.Enum):
        frames = enumerated(frames)
    rows, history, maintenance, status = frames
    use, quantity = pl.col("use"), pl.col("quantity_type")
    observed = replace(
        shared,
        intervals=rows.filter(use == TOLD).drop("use"),
        history=history,
        maintenance=maintenance,
        status=status,
    )
    counted, placed = (rows.filter(use == what).drop("use") for what in (COUNTED, PLACED))
    of = {name: counted.filter(quantity == name) for name in SIZED_AS}
    late = {name: placed.filter(quantity == name) for name in ("occupied", "active")}
    return observed, replace(plan.shared, rows=of, observed=observed), late


def leased(plan: Plan, wanted: pl.DataFrame, rows: pl.DataFrame) -> Tables:
    """Give the hosts of a range that the wanted reservations held: reservation_id, hostname.

    Args:
        plan: what is the same for every range.
        wanted: reservation_id.
        rows: of the range.
    """
    needed = ("hostname", "quantity_type", "reservation_id", "use")
    told = named(rows.select(needed), {name: plan.kinds[name] for name in needed})
    ours = told["use"] == COUNTED
    wanted = wanted.cast({"reservation_id": told.schema["reservation_id"]})
    theirs = told.filter(ours & (told["quantity_type"] == "committed")).join(
        wanted, on="reservation_id", how="semi"
    )
    hosts = theirs["hostname"].drop_nulls().unique()
    if hosts.is_empty():
        return {"leased": theirs.select("reservation_id", "hostname").clear()}
    _, part, _ = _part(plan, rows.filter(ours & told["hostname"].is_in(hosts.implode())))
    resolved = corrected.resolve(part, plan.site, Corrections())
    held = resolved.committed.select("reservation_id", "hostname").unique()
    return {"leased": held.join(wanted, on="reservation_id", how="semi")}


def read(plan: Plan, rows: pl.DataFrame) -> Tables:
    """Reconstruct a range: its segments and all that is told beside them.

    Args:
        plan: what is the same for every range.
        rows: of the range.

    Returns:
        tables of a ``Reading`` (``TALLIED``, ``GATHERED``, ``pieces``), ``claims`` (claim,
        lease_id) and ``first``: when the first segment of the corrected collector begins.

    Raises:
        ConservationError: a stage lost or invented hours.
    """
    observed, part, late = _part(plan, rows)
    told = uncorrected.collect(observed)
    resolved = corrected.resolve(part, plan.site, Corrections(), by_project=plan.by_project)
    mended = corrected.hold(resolved, late)
    both = together([told, mended])
    pieces = both.pieces
    if not plan.all_pieces:
        # The reservation or the lease, where one is told, names what holds a node.
        held_by = pl.coalesce("reservation_id", "lease_id")
        pieces = lease_use.of_leases(pieces).with_columns(
            pl.when(held_by.is_null()).then("entity_id").alias("entity_id"),
            *(pl.lit(None, pl.Int64).alias(name) for name in SIZES),
        )
    return {
        **{name: getattr(both, name) for name in (*TALLIED, *GATHERED)},
        "pieces": pieces,
        "claims": lease_use.claims_of(pieces),
        "first": mended.segments.select(pl.col("start").min()),
    }


def assign_hosts(parts: Cut, engine: Engine) -> None:
    """Find hosts for the instances that name none, and write each to its range."""
    lost = parts.to_assign.nameless["occupied"]
    if lost.is_empty():
        return
    wanted = lost.select("reservation_id").unique()
    wanted = plain({"wanted": wanted})["wanted"] if engine.apart else wanted
    found = engine.ask(parts.folder, partial(leased, parts.plan, wanted), ["leased"])
    kinds = {name: lost.schema[name] for name in ("reservation_id", "hostname")}
    committed = named(pl.concat(one["leased"] for one in found), kinds)
    late = corrected.place(parts.to_assign, committed, Corrections())
    seats = late["occupied"].select("entity_id", _host="hostname").unique("entity_id")
    runs = late["active"].join(seats, on="entity_id", how="left")
    rows = pl.concat(
        [
            late["occupied"].with_columns(_host="hostname"),
            runs.select(*late["active"].columns, "_host"),
        ]
    )
    rows = rows.with_columns(parts.division.of(rows["_host"]), use=pl.lit(PLACED, ROWS["use"]))
    _write(parts.folder, "placed", rows, parts.plan.kinds, apart=engine.apart)


def whole_reading(parts: Cut, engine: Engine) -> tuple[Reading, pl.DataFrame]:
    """Reconstruct all ranges.

    Returns:
        (the reading, with the segments that are of no range alone, no support, and pieces only if
        all are asked for; when the first segment of the corrected collector begins)

    Raises:
        ConservationError: a stage lost or invented hours.
    """
    assign_hosts(parts, engine)
    kept = (*TALLIED, *GATHERED, "pieces", "claims", "first")
    engine.keep(parts.folder, partial(read, parts.plan), kept)
    begun = pl.concat(part["first"] for part in engine.kept(parts.folder, ["first"]))
    pieces = ("pieces",) if parts.plan.all_pieces else ()
    gathered = _gathered(parts, engine, (*GATHERED, *pieces), parts.before)
    of_no_range = corrected.whole([replace(parts.before, adrift=gathered.pop("adrift"))])
    begun = pl.concat([begun, of_no_range.segments.select("start")]).min()
    return replace(of_no_range, **gathered), begun


def with_segments(parts: Cut, engine: Engine, reading: Reading) -> Reading:
    """Add to a reading of ``whole_reading`` the segments and the support of all ranges."""
    return replace(reading, **_gathered(parts, engine, TALLIED, reading))


def _gathered(
    parts: Cut, engine: Engine, names: Sequence[str], own: Reading
) -> dict[str, pl.DataFrame]:
    """Add tables that were kept of ranges to a reading's own, range by range."""
    whole = {name: [getattr(own, name)] for name in names}
    for tables in engine.kept(parts.folder, names):
        for name, found in whole.items():
            found.append(named(tables[name], found[0].schema))
    return {name: pl.concat(found) for name, found in whole.items()}


def _tally(window: Window, by_host: bool, tables: Tables) -> Tables:
    kinds = {"segments": Segments, "support": SourceSupport}
    segments, support = (named(tables[name], columns(kind)) for name, kind in kinds.items())
    return plain(tally(segments, support, window, by_host=by_host))


def whole_tally(
    parts: Cut, engine: Engine, reading: Reading, window: Window, *, by_host: bool
) -> Tally:
    """Add up the segments of all ranges, and those of none."""
    whole = tally(reading.segments, reading.support, window, by_host=by_host)
    work = partial(_tally, window, by_host)
    made = iter(engine.ask_kept(parts.folder, TALLIED, work, tuple(whole)))
    # Few at a time: a tally has many columns.
    while some := list(islice(made, AT_ONCE)):
        whole = add_up([plain(whole), *some])
    return whole


def _counted(
    unsettled: pl.DataFrame, given_back: pl.DataFrame, window: Window, tables: Tables
) -> Tables:
    pieces = named(tables["pieces"], columns(HeldPieces))
    held = lease_use.attribute(lease_use.settled(pieces, unsettled))
    return lease_use.counted(held, given_back, window)


def held_by_leases(
    parts: Cut, engine: Engine, leases: pl.DataFrame, window: Window
) -> dict[str, pl.DataFrame]:
    """Add up what leases held in all ranges (``lease_use.add_up``)."""
    kinds = {name: pl.String() if engine.apart else NAME for name in ("claim", "lease_id")}

    def claims() -> Iterable[pl.DataFrame]:
        return (named(part["claims"], kinds) for part in engine.kept(parts.folder, ["claims"]))

    given_back = lease_use.ended_early(leases)
    work = partial(_counted, lease_use.unsettled(claims), given_back, window)
    made = engine.ask_kept(parts.folder, ["pieces"], work, ["seconds", "begun"])
    return lease_use.add_counted(made, leases, window)
