"""Facts -> segments: the two readings of the same facts, ``uncorrected`` and ``corrected``.

Both end in segments (domain.Segments): who held what, when, and how much of it. Every hour that
goes in comes out, as kept or as rejected; ``check_conservation`` holds each step to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from chameleon_usage.core import engine
from chameleon_usage.core.conservation import (
    REPORT,
    ConservationError,
    check_conservation,
    check_spans,
)
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.base import PRESENT, Ingested, conform, rejects
from chameleon_usage.ingest.nova import KVM
from chameleon_usage.models.domain import WITNESSES, Bearing, Rejects, Segments
from chameleon_usage.models.raw import NAME
from chameleon_usage.models.site import Priority, Site

UNCORRECTED_SOURCES = {
    "total": ("nova.compute_nodes", "blazar.devices", "trace.machine_events"),
    "reservable": ("blazar.computehosts", "blazar.devices"),
    "committed": (
        "blazar.computehost_allocations",
        "blazar.device_allocations",
        "published.leases",
    ),
    "occupied": ("nova.instances", "zun.container"),
    "active": ("nova.instances", "zun.container"),
}
"""The service tables whose rows the uncorrected collector takes at their word."""

SIZES = ("vcpus", "memory_mb", "disk_gb", "gpus")
UNITS = ("node_units", *SIZES)
HOST = ["hostname"]
TIME_ORDER = ("source", "entity_id")


@dataclass(frozen=True)
class Reading:
    """What a collector makes of the facts.

    Attributes:
        segments: domain.Segments.
        rejects: domain.Rejects.
        bearing: domain.Bearing (the corrected collector only).
    """

    segments: pl.DataFrame
    rejects: pl.DataFrame
    bearing: pl.DataFrame


@dataclass(frozen=True)
class Corrections:
    """What the corrected collector does beside source priority: all of it, but for an ablation.

    Attributes:
        merge: a host, and what holds it, counts once at a time.
        clamp: a child lives only inside its parents.
        name_gone_hosts: a Blazar host whose row is gone takes the hostname of its instances.
        infer_allocations: an instance bears witness of an allocation that left no row.
        place: an instance that names no node gets the only host its reservation leaves free.
        find_reservations: an instance whose request spec is purged gets the reservation that
            held its host.
    """

    merge: bool = True
    clamp: bool = True
    name_gone_hosts: bool = True
    infer_allocations: bool = True
    place: bool = True
    find_reservations: bool = True


@dataclass
class Collected:
    """A reading in the making.

    Attributes:
        names: the entities' names by their number.
    """

    names: pl.Series
    corrections: Corrections = field(default_factory=Corrections)
    segments: list[pl.DataFrame] = field(default_factory=list)
    rejects: list[pl.DataFrame] = field(default_factory=list)
    bearing: list[pl.DataFrame] = field(default_factory=list)
    doubles: dict[str, pl.DataFrame] = field(default_factory=dict)

    def bear(self, quantity: str, own: pl.DataFrame, published: pl.DataFrame) -> None:
        """Record how far each source's own presences reach within what is published."""
        within, _ = engine.cut(own, published.select("hostname", "start", "end"), HOST)
        self.bearing.append(conform(within.with_columns(quantity_type=pl.lit(quantity)), Bearing))

    def refuse(self, pieces: pl.DataFrame, stage: str, reason: str) -> None:
        """Record pieces of intervals that are not counted; one row per source and stretch."""
        if pieces.height:
            if pieces["entity_id"].dtype == pl.UInt32:
                pieces = pieces.with_columns(entity_id=self.names.gather(pieces["entity_id"]))
            by_source = pieces.partition_by("source", maintain_order=True, as_dict=True)
            for (source,), part in by_source.items():
                self.rejects.append(
                    rejects(
                        part, stage=stage, source=str(source), reason=reason, row_id="entity_id"
                    )
                )

    def part(
        self, kept: pl.DataFrame, lost: pl.DataFrame, stage: str, reason: str, *, on: bool
    ) -> pl.DataFrame:
        """Refuse what a correction takes away, and give the rest; all, if it is not on."""
        if not on:
            return pl.concat([kept, lost.select(kept.columns)])
        self.refuse(lost, stage, reason)
        return kept

    def result(self) -> "Reading":
        """Put the parts together."""
        return Reading(
            pl.concat([Segments.create_empty(), *self.segments]),
            pl.concat([Rejects.create_empty(), *self.rejects]),
            pl.concat([Bearing.create_empty(), *self.bearing]),
        )


@dataclass(frozen=True)
class Numbered:
    """Facts and what belongs to them, with numbers for names.

    A name compares, sorts and joins by its number then, and, as numbers go in order of the names,
    the order of rows decides nothing.

    Attributes:
        facts, entities, profiles: as domain.Facts, Entities and Profiles; entity_id is a number.
        maintenance: windows of hosts: hostname, start, end.
        names: the entities' names by their number, sorted.
    """

    facts: pl.DataFrame
    entities: pl.DataFrame
    profiles: pl.DataFrame
    maintenance: pl.DataFrame
    names: pl.Series


def number_names(ingested: Ingested) -> Numbered:
    """Number the names of entities, and cast those of hosts, classes and types to enumerations."""
    facts, entities = ingested.facts, ingested.entities
    (entity_of_fact, entity), names = _numbers([facts["entity_id"], entities["entity_id"]])
    entities = entities.with_columns(entity)
    frames = [entities, ingested.profiles, ingested.maintenance]
    for name in ("hostname", "host_class", "node_type"):
        having = [number for number, frame in enumerate(frames) if name in frame.columns]
        numbers, kinds = _numbers([frames[number][name].cast(NAME) for number in having])
        for number, codes in zip(having, numbers, strict=True):
            frames[number] = frames[number].with_columns(codes.cat.to(pl.Enum(kinds)))
    entities, profiles, maintenance = frames
    return Numbered(facts.with_columns(entity_of_fact), entities, profiles, maintenance, names)


def _numbers(columns: Sequence[pl.Series]) -> tuple[list[pl.Series], pl.Series]:
    """Number the names in columns of categories: (the numbers, the names sorted)."""
    codes = [column.to_physical() for column in columns]
    found = pl.concat(codes).unique().drop_nulls()
    names = found.cat.to(NAME).cast(pl.String)
    order = names.arg_sort()
    most = found.max()
    places = (
        pl.Series([0], dtype=pl.UInt32)
        .new_from_index(0, most + 1 if isinstance(most, int) else 0)
        .scatter(found.gather(order), pl.int_range(found.len(), dtype=pl.UInt32, eager=True))
    )
    return [places.gather(code).alias(code.name) for code in codes], names.gather(order)


def spans(numbered: Numbered, as_of: datetime) -> pl.DataFrame:
    """Turn facts into intervals and join what is known of their entities.

    Args:
        numbered: of ``number_names``.
        as_of: what is still open ends here.

    Returns:
        the columns of ``entities``, ``start``, ``end`` (clipped to ``as_of``) and ``open`` (the
        record names no end).

    Raises:
        UsageError: a fact speaks of an entity that is not listed.
    """
    facts, entities = numbered.facts, numbered.entities
    key = ["quantity_type", "source", "entity_id"]
    now = pl.lit(as_of, dtype=pl.Datetime("us"))
    number = pl.lit(0, pl.Int64)
    for name in key:
        number = number * 2**24 + pl.col(name).to_physical().cast(pl.Int64)
    listed, spoken = (frame.select(number).to_series() for frame in (entities, facts))
    order = listed.arg_sort()
    listed = listed.gather(order)
    places = listed.search_sorted(spoken)
    if (lost := facts.filter(listed.extend_constant(None, 1).gather(places) != spoken)).height:
        *what, entity = lost.select(key).row(0)
        told = ", ".join((*what, numbered.names[entity]))
        raise UsageError(f"facts: the entity {told} is not among the entities")
    # Neighbours after one sort: an entity's next fact is the next row, if that is still its own.
    intervals = (
        engine.sort_by_key_and_time(facts.select("timestamp", "state", _key=places), "timestamp")
        .with_columns(
            end=pl.when(pl.col("_key") == pl.col("_key").shift(-1)).then(
                pl.col("timestamp").shift(-1)
            )
        )
        .filter((pl.col("state") == PRESENT) & (pl.col("timestamp") < now))
    )
    return entities[order.gather(intervals["_key"])].hstack(
        intervals.select(
            start="timestamp", end=pl.min_horizontal("end", now), open=pl.col("end").is_null()
        )
    )


@dataclass(frozen=True)
class Record:
    """What both collectors read: the facts of a site as intervals.

    Attributes:
        rows: of ``spans``.
        history: of ``profile_history``.
        maintenance: windows of hosts: hostname, start, end.
        names: the entities' names by their number.
    """

    rows: pl.DataFrame
    history: pl.DataFrame
    maintenance: pl.DataFrame
    names: pl.Series


def read_record(ingested: Ingested, as_of: datetime) -> Record:
    """Turn facts into intervals, with numbers for names; no hour of them is lost."""
    numbered = number_names(ingested)
    rows = spans(numbered, as_of)
    check_spans(ingested.facts, rows, as_of)
    history = profile_history(numbered.profiles)
    return Record(rows, history, numbered.maintenance, numbered.names)


def profile_history(profiles: pl.DataFrame) -> pl.DataFrame:
    """Tell what each host was at every time: class, node type, sizes.

    A row holds from its start until the host's next row that says otherwise; the first known value
    holds before, too. Blazar's and Nova's word on the node type goes before the inventory's, but
    where the inventory dates a change of type: then it was of the earlier type before.

    Returns:
        hostname, start, end, host_class, node_type and sizes: a partition of all time per host.
    """
    values = ["host_class", "node_type", *SIZES]
    filled = pl.col(values).forward_fill().backward_fill().over("hostname")
    by_time = (
        profiles.with_columns(
            _listed=pl.when(pl.col("source").cast(pl.String).str.starts_with("inventory.")).then(
                "node_type"
            ),
            node_type=pl.when(~pl.col("source").cast(pl.String).str.starts_with("inventory.")).then(
                "node_type"
            ),
        )
        .group_by("hostname", "start")
        .agg(pl.col([*values, "_listed"]).sort_by("source").drop_nulls().last())
        .sort("hostname", "start")
        .with_columns(filled, pl.col("_listed").forward_fill().backward_fill().over("hostname"))
        .with_columns(node_type=pl.coalesce("node_type", "_listed"))
        .drop("_listed")
    )
    changed = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(name).shift(1).over("hostname")) for name in values
    )
    first = pl.col("hostname").is_first_distinct()
    history = (
        by_time.filter(changed | first)
        .with_columns(
            start=pl.when(first).then(engine.MIN_TIME).otherwise("start"),
        )
        .with_columns(end=pl.col("start").shift(-1).over("hostname").fill_null(engine.MAX_TIME))
    )
    return _with_earlier_types(history, profiles)


def _with_earlier_types(history: pl.DataFrame, profiles: pl.DataFrame) -> pl.DataFrame:
    """Give hosts the node types that the inventory says they had before a dated change of type.

    Blazar's properties are written over without a date, so that today's type would hold for all
    the past; where its rows tell several types of a host, it dates their change itself. The GPUs of
    an earlier type are as many as other hosts of that type have, if they agree; else nobody knows.
    """
    in_inventory = pl.col("source").cast(pl.String).str.starts_with("inventory.")
    typed = profiles.filter(pl.col("node_type").is_not_null())
    dated = (
        typed.filter(~in_inventory)
        .group_by("hostname")
        .agg(pl.col("node_type").n_unique())
        .filter(pl.col("node_type") > 1)
    )
    listed = (
        typed.filter(in_inventory)
        .join(dated, on="hostname", how="anti")
        .sort("hostname", "start", "node_type")
        .with_columns(end=pl.col("start").shift(-1).over("hostname"))
        .filter(pl.col("node_type").n_unique().over("hostname") > 1)
    )
    earlier = listed.filter(pl.col("start") < pl.col("end")).select(
        "hostname",
        "end",
        start=pl.when(pl.col("hostname").is_first_distinct())
        .then(engine.MIN_TIME)
        .otherwise("start"),
        _earlier="node_type",
    )
    of_type = history.group_by(_earlier="node_type").agg(
        _gpus=pl.when(pl.col("gpus").n_unique() == 1).then(pl.col("gpus").first())
    )
    inside, outside = engine.cut(history, earlier, HOST)
    differs = pl.col("node_type").ne_missing(pl.col("_earlier"))
    retyped = inside.join(of_type, on="_earlier", how="left", maintain_order="left").with_columns(
        node_type="_earlier", gpus=pl.when(differs).then("_gpus").otherwise("gpus")
    )
    return pl.concat([retyped.select(outside.columns), outside]).sort("hostname", "start")


def _sized(pieces: pl.DataFrame, history: pl.DataFrame, what: str) -> pl.DataFrame:
    """Give each piece its host's class, node type and size at that time, and its units.

    On bare metal and devices everything holds the whole node. On KVM a "host" is whole, an
    "allocation" holds its slice, or the host if it is no slice, and an "instance" its own
    resources: vcpus / physical vcpus of the node, null where it does not tell its vcpus.
    """
    own = pieces.rename({name: f"_own_{name}" for name in ("host_class", "node_type", *SIZES)})
    known, strange = engine.cut(own, history, HOST)
    sized = pl.concat([known, strange], how="diagonal").with_columns(
        host_class=pl.coalesce("host_class", "_own_host_class"),
        node_type=pl.coalesce("node_type", "_own_node_type"),
    )
    on_kvm = (pl.col("host_class") == KVM).fill_null(value=False)
    part = {
        "host": pl.lit(value=False),
        "allocation": on_kvm & pl.col("_own_vcpus").is_not_null(),
        "instance": on_kvm,
    }[what]
    countable = on_kvm & (pl.col("vcpus").is_not_null() | part)
    return sized.with_columns(
        node_units=pl.when(part)
        .then("_own_vcpus")
        .when(countable)
        .then("vcpus")
        .otherwise("nodes"),
        node_size=pl.when(countable).then("vcpus").otherwise(1),
        **{
            name: pl.when(part).then(f"_own_{name}").otherwise(pl.col(name) * pl.col("nodes"))
            for name in SIZES
        },
    )


def _emit(pieces: pl.DataFrame, collector: str, quantity: str) -> pl.DataFrame:
    return conform(
        pieces.with_columns(collector_type=pl.lit(collector), quantity_type=pl.lit(quantity)),
        Segments,
    )


def _split_origin(pieces: pl.DataFrame) -> Iterable[tuple[str, pl.DataFrame]]:
    reserved = (pl.col("reservation_id").is_not_null() | (pl.col("host_class") != KVM)).fill_null(
        value=True
    )
    yield "reservation", pieces.filter(reserved)
    yield "ondemand", pieces.filter(~reserved)


def uncorrected(record: Record) -> Reading:
    """Take each row of today's databases at its word.

    Its own interval, neither merged nor clamped; an allocation whose host row is gone, and an
    instance that names no node, are dropped.

    Args:
        record: of ``read_record``.

    Returns:
        the reading.
    """
    rows, history = record.rows, record.history
    collected = Collected(record.names)
    for quantity, sources in UNCORRECTED_SOURCES.items():
        own = rows.filter(
            (pl.col("quantity_type") == quantity)
            & pl.col("source").is_in(list(sources))
            & ~(pl.lit(quantity in {"total", "reservable"}) & pl.col("inferred"))
        )
        named = pl.col("hostname").is_not_null() | (pl.col("source") == "published.leases")
        collected.refuse(own.filter(~named), f"uncorrected {quantity}", "host row is gone")
        sized = _sized(own.filter(named), history, HOLDERS[quantity])
        unsized, sized = sized.filter(~_USABLE), sized.filter(_USABLE)
        collected.refuse(unsized, f"uncorrected {quantity}", "size unknown")
        check_conservation(f"uncorrected {quantity}", own, own.filter(~named), unsized, sized)
        if quantity in {"occupied", "active"}:
            for origin, part in _split_origin(sized):
                collected.segments.append(_emit(part, "uncorrected", f"{quantity}_{origin}"))
        else:
            collected.segments.append(_emit(sized, "uncorrected", quantity))
    return collected.result()


def corrected(record: Record, site: Site, corrections: Corrections | None = None) -> Reading:
    """Reconstruct: source priority, gap-filling, merging, clamping.

    Args:
        record: of ``read_record``.
        site: source priority and merge tolerance.
        corrections: for an ablation, what to leave out.

    Returns:
        the reading; per host and instant total >= reservable >= committed >=
        occupied_reservation >= active_reservation.
    """
    made = corrections or Corrections()
    rows, history = record.rows, record.history
    collected = Collected(record.names, made)
    if made.name_gone_hosts:
        rows = _name_gone_hosts(rows)
    rows = rows.with_columns(instance=_instances(rows["entity_id"], record.names))
    by_quantity = {
        quantity: rows.filter(pl.col("quantity_type") == quantity)
        for quantity in UNCORRECTED_SOURCES
    }
    by_quantity["active"] = _preferred(
        by_quantity["active"], "active", site, by_quantity["occupied"]
    )
    by_quantity["occupied"] = _preferred(by_quantity["occupied"], "occupied", site)
    listed = pl.col("source").is_in(site.sources["committed"].order)
    by_quantity["committed"], unlisted = (
        by_quantity["committed"].filter(having) for having in (listed, ~listed)
    )
    collected.refuse(unlisted, "corrected committed", "source not in the site's priority")
    if made.infer_allocations:
        lost = _lost_allocations(by_quantity["committed"], by_quantity["occupied"])
        by_quantity["committed"] = pl.concat([by_quantity["committed"], lost], how="diagonal")
    windows = engine.union(record.maintenance, HOST)
    total = _total(by_quantity, site, collected)
    reservable = _reservable(by_quantity, total, site, collected)
    committed = _committed(by_quantity["committed"], reservable, collected)
    occupied = _occupied(by_quantity["occupied"], committed, total, history, collected)
    active = _active(by_quantity["active"], occupied, collected)

    sized_total = _sized(_whole(total), history, "host")
    collected.segments.append(_emit(sized_total, "corrected", "total"))
    sized_pool = _sized(_whole(reservable), history, "host")
    collected.segments.append(_emit(sized_pool, "corrected", "reservable"))
    for quantity, pieces in collected.doubles.items():
        sized = _sized(_whole(pieces), history, "host")
        collected.segments.append(_emit(sized, "corrected", quantity))
    held = _held(committed, history, sized_pool, "committed", collected)
    seated = {}
    ceilings = {"reservation": held, "ondemand": _remaining(sized_total, held)}
    for origin, ceiling in ceilings.items():
        ours = occupied.filter(pl.col("origin") == origin)
        runs = active.filter(pl.col("origin") == origin)
        seated[origin] = _held(ours, history, ceiling, f"occupied_{origin}", collected)
        _held(runs, history, seated[origin], f"active_{origin}", collected)
    # Capacity in the pool that an instance without a reservation has taken cannot be leased.
    in_pool, _ = engine.cut(seated["ondemand"], sized_pool.select("hostname", "start", "end"), HOST)
    collected.segments.append(_emit(in_pool, "corrected", "occupied_ondemand_in_pool"))
    pool_known = by_quantity["reservable"].group_by("hostname").agg(pl.col("start").min())
    _out_of_pool(
        sized_total,
        sized_pool,
        pool_known,
        ondemand=seated["ondemand"],
        windows=windows,
        collected=collected,
    )
    idle_windows = _remaining(_unheld(windows, sized_pool, held), in_pool)
    collected.segments.append(_emit(idle_windows, "corrected", "maintenance_in_pool"))
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
    _, outside = engine.cut(total, pool.select("hostname", "start", "end"), HOST)
    on_kvm = (pl.col("host_class") == KVM).fill_null(value=False)
    capacity = outside.filter(on_kvm)
    known_from = pool_known.drop_nulls("hostname").with_columns(end=engine.MAX_TIME)
    known, unknown = engine.cut(outside.filter(~on_kvm), known_from, HOST)
    for quantity, pieces in (
        ("ondemand_capacity", capacity),
        ("maintenance_out_of_pool", known),
        ("unknown", unknown),
        ("maintenance_ondemand", _unheld(windows, capacity, ondemand)),
    ):
        collected.segments.append(_emit(pieces, "corrected", quantity))


def _unheld(windows: pl.DataFrame, room: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Take maintenance windows from what of ``room`` nothing holds: a node that is held is held."""
    inside, _ = engine.cut(windows, room, HOST)
    return _remaining(inside, held)


def _remaining(room: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Take what is held from the units of a room, host by host and instant by instant."""
    levels = held.filter(pl.col("hostname").is_not_null()).select(
        "hostname", "start", "end", *(pl.col(name).alias(f"_held_{name}") for name in UNITS)
    )
    partly, free = engine.cut(room, levels, HOST)
    left = partly.with_columns(
        pl.col(name) - pl.col(f"_held_{name}").fill_null(0) for name in UNITS
    ).filter(pl.col("node_units") > 0)
    return pl.concat([left.select(free.columns), free])


HOLDERS = {
    "total": "host",
    "reservable": "host",
    "committed": "allocation",
    "occupied": "instance",
    "active": "instance",
}
"""What holds a node for each quantity; see ``_sized``."""

_USABLE = ((pl.col("node_size") > 0) & pl.col("node_units").is_not_null()).fill_null(value=False)


def _whole(presence: pl.DataFrame) -> pl.DataFrame:
    """Complete host presence to rows that ``_sized`` takes."""
    return presence.with_columns(
        host_class=None,
        node_type=None,
        nodes=pl.lit(1, pl.Int64),
        **{name: pl.lit(None, pl.Int64) for name in SIZES},
    )


# --- hosts whose Blazar row is gone -----------------------------------------------------------


def _name_gone_hosts(rows: pl.DataFrame) -> pl.DataFrame:
    """Give a Blazar host id whose row is gone the hostname that its reservations' instances name.

    Every reservation in which the id and a hostname meet is a vote; a hostname that another id of
    the same reservation has is out. The most votes win; a tie names nobody.
    """
    committed = rows.filter(
        (pl.col("quantity_type") == "committed") & pl.col("host_id").is_not_null()
    )
    unnamed = committed.filter(pl.col("hostname").is_null())
    if unnamed.is_empty():
        return rows
    pairs = unnamed.select("reservation_id", "host_id").unique()
    taken = committed.filter(pl.col("hostname").is_not_null()).select("reservation_id", "hostname")
    seen = (
        rows.filter((pl.col("quantity_type") == "occupied") & pl.col("hostname").is_not_null())
        .select("reservation_id", "hostname")
        .unique()
    )
    candidates = pairs.join(seen, on="reservation_id").join(
        taken, on=["reservation_id", "hostname"], how="anti"
    )
    named = unnamed.select("host_id", _name="hostname").clear()
    for _ in range(len(pairs)):
        votes = (
            candidates.group_by("host_id", "hostname")
            .agg(votes=pl.len())
            .sort("host_id", "votes", "hostname", descending=[False, True, False])
        )
        winners = (
            votes.group_by("host_id", maintain_order=True)
            .agg(
                _name=pl.col("hostname").first(),
                clear=(pl.col("votes") == pl.col("votes").max()).sum() == 1,
            )
            .filter("clear")
            .select("host_id", "_name")
        )
        if winners.is_empty():
            break
        named = pl.concat([named, winners])
        settled = pairs.join(winners, on="host_id").select("reservation_id", hostname="_name")
        candidates = candidates.join(winners, on="host_id", how="anti").join(
            settled, on=["reservation_id", "hostname"], how="anti"
        )
    return (
        rows.join(named, on="host_id", how="left")
        .with_columns(
            hostname=pl.coalesce("hostname", "_name"),
            inferred=pl.col("inferred")
            | (pl.col("hostname").is_null() & pl.col("_name").is_not_null()),
        )
        .drop("_name")
    )


def _lost_allocations(committed: pl.DataFrame, occupied: pl.DataFrame) -> pl.DataFrame:
    """Infer allocations that left no row from instances on a host their reservation does not list.

    When a host is replaced in a running lease, the healer may write the new host over the old one;
    and before 2018-07 the row of a removed host was deleted. The reservation held the host at
    least from its start to the end of the last instance it had there.
    """
    pair = ["reservation_id", "hostname"]
    spans_of = committed.group_by("reservation_id", maintain_order=True).agg(
        pl.col("lease_id", "project_id", "host_class", "vcpus", "memory_mb", "disk_gb").first(),
        _from=pl.col("start").min(),
        _to=pl.col("end").max(),
    )
    return (
        occupied.drop_nulls(pair)
        .join(committed, on=pair, how="anti")
        .select(*pair, "source", "entity_id", "end")
        .sort(*pair, "end", "entity_id")
        .group_by(pair, maintain_order=True)
        .agg(pl.col("source", "entity_id", "end").last())
        .join(spans_of, on="reservation_id", how="inner")
        .with_columns(start="_from", end=pl.min_horizontal("end", "_to"))
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(
            quantity_type=pl.lit("committed", committed["quantity_type"].dtype),
            nodes=pl.lit(1, pl.Int64),
            inferred=pl.lit(value=True),
            open=pl.lit(value=False),
        )
        .drop("_from", "_to")
    )


# --- hosts ------------------------------------------------------------------------------------


def _per_source(spans_: pl.DataFrame, source: pl.Expr, tolerance: str) -> pl.DataFrame:
    """Merge rows of one host and source to presences; inferred where no row of its own tells it."""
    named = spans_.filter(pl.col("hostname").is_not_null()).with_columns(source=source)
    on = ["hostname", "source"]
    whole = engine.union(named, on, tolerance=tolerance)
    told = engine.union(named.filter(~pl.col("inferred")), on, tolerance=tolerance)
    _, rest = engine.cut(whole, told, on)
    return pl.concat(
        [
            told.with_columns(inferred=pl.lit(value=False)),
            rest.with_columns(inferred=pl.lit(value=True)),
        ]
    )


def _witnesses(of: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Collect records that name a host; one without an end of its own never extends its life."""
    return pl.concat(
        [
            frame.filter(pl.col("hostname").is_not_null() & ~pl.col("open")).select(
                "hostname", "start", "end", inferred=pl.lit(value=True)
            )
            for frame in of
        ]
    )


def _resolve(
    hosts: pl.DataFrame,
    witnesses: pl.DataFrame,
    quantity: str,
    site: Site,
    collected: Collected,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Merge each source's rows, then let the site's source priority decide.

    Returns:
        (the resolved presences, what each source says without inference)
    """
    # Rebalancing leaves short gaps between a hypervisor's rows; Blazar's enrolments have none.
    tolerance = site.merge_tolerance if quantity == "total" else "0s"
    own = pl.concat(
        [
            _per_source(hosts, pl.col("source"), tolerance),
            _per_source(witnesses, pl.lit(WITNESSES, dtype=hosts["source"].dtype), tolerance),
        ]
    )
    fallback = Priority("supplement", tuple(hosts["source"].unique().sort()))
    rule = site.sources.get(quantity, fallback)
    resolved = engine.resolve_source_priority(
        own, policy=rule.policy, order=rule.order, on=HOST, fillers=(WITNESSES,)
    )
    _account(hosts, resolved, quantity, rule, collected)
    seen = _per_source(hosts.filter(~pl.col("inferred")), pl.col("source"), tolerance)
    told = pl.concat([seen, own.filter(pl.col("source") == WITNESSES)])
    return resolved, told.filter(pl.col("source").is_in(rule.order))


def _account(
    hosts: pl.DataFrame, resolved: pl.DataFrame, quantity: str, rule: Priority, collected: Collected
) -> None:
    """Account for the hours of host rows that are not what was resolved from them."""
    stage = f"corrected {quantity}"
    nameless = hosts.filter(pl.col("hostname").is_null())
    collected.refuse(nameless, stage, "no instance names the host")
    named = hosts.filter(pl.col("hostname").is_not_null())
    single, twice = engine.separate(named, ["hostname", "source"], ["entity_id"])
    if collected.corrections.merge:
        collected.refuse(twice, stage, "duplicate of another row of the host")
    else:
        collected.doubles[quantity] = twice
    kept, rest = engine.cut(
        single, resolved.select("hostname", "source", "start", "end"), ["hostname", "source"]
    )
    listed = pl.col("source").is_in(rule.order)
    collected.refuse(rest.filter(listed), stage, "a source of higher priority speaks")
    collected.refuse(rest.filter(~listed), stage, "source not in the site's priority")
    check_conservation(stage, hosts, nameless, twice, kept, rest)


def _total(rows: dict[str, pl.DataFrame], site: Site, collected: Collected) -> pl.DataFrame:
    pool = rows["reservable"].with_columns(open=pl.lit(value=False))
    # An instance that no reservation asked for may name anything.
    asked_for = rows["occupied"].filter(pl.col("reservation_id").is_not_null())
    witnesses = _witnesses([pool, rows["committed"], asked_for])
    resolved, own = _resolve(rows["total"], witnesses, "total", site, collected)
    collected.bear("total", own, resolved)
    return resolved


def _reservable(
    rows: dict[str, pl.DataFrame], total: pl.DataFrame, site: Site, collected: Collected
) -> pl.DataFrame:
    witnesses = _witnesses([rows["committed"]])
    resolved, own = _resolve(rows["reservable"], witnesses, "reservable", site, collected)
    inside, outside = engine.cut(resolved, total.select("hostname", "start", "end"), HOST)
    check_conservation("corrected reservable: clamp", resolved, inside, outside)
    inside = collected.part(
        inside.with_columns(entity_id="hostname"),
        outside.with_columns(entity_id="hostname"),
        "corrected reservable",
        "outside total",
        on=collected.corrections.clamp,
    ).drop("entity_id")
    collected.bear("reservable", own, inside)
    return inside


# --- what holds a host ------------------------------------------------------------------------


def _committed(rows: pl.DataFrame, reservable: pl.DataFrame, collected: Collected) -> pl.DataFrame:
    """Clamp allocations to their host's time in the pool."""
    stage = "corrected committed"
    hostless = rows.filter(pl.col("host_id").is_null() & pl.col("hostname").is_null())
    nameless = rows.filter(pl.col("host_id").is_not_null() & pl.col("hostname").is_null())
    named = rows.filter(pl.col("hostname").is_not_null())
    collected.refuse(nameless, stage, "no instance names the host")
    inside, outside = engine.cut(named, reservable.select("hostname", "start", "end"), HOST)
    check_conservation(f"{stage}: clamp", rows, hostless, nameless, inside, outside)
    inside = collected.part(
        inside, outside, stage, "outside reservable", on=collected.corrections.clamp
    )
    return pl.concat([inside, hostless.select(inside.columns)])


def _preferred(
    rows: pl.DataFrame, quantity: str, site: Site, known: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Keep, of each instance, the witness that the site's source priority puts first.

    A witness that speaks of an instance in ``known`` knows it, even if it has no row here: what
    it saw occupy and never run was never active.
    """
    rule = site.sources.get(quantity)
    if rule is None or rows.is_empty():
        return rows
    columns = ["source", "instance"]
    told = (
        rows.select(columns)
        if known is None
        else pl.concat([rows.select(columns), known.select(columns)])
    )
    best = (
        engine.ranked_by_source(told, rule.order)
        .group_by("instance")
        .agg(_best=pl.col("_rank").min())
    )
    return (
        engine.ranked_by_source(rows, rule.order)
        .join(best, on="instance", how="left")
        .filter(pl.col("_rank") == pl.col("_best"))
        .drop("_rank", "_best")
    )


def _instances(entities: pl.Series, names: pl.Series) -> pl.Series:
    """Number the instances of entities: the stays of a migrated machine, "<uuid>/<n>", are one."""
    stays = names.str.contains("/", literal=True).arg_true()
    wholes = names.search_sorted(names.gather(stays).str.extract("^([^/]*)"))
    own = pl.int_range(names.len(), dtype=pl.UInt32, eager=True)
    return own.scatter(stays, wholes).gather(entities)


def _occupied(
    rows: pl.DataFrame,
    committed: pl.DataFrame,
    total: pl.DataFrame,
    history: pl.DataFrame,
    collected: Collected,
) -> pl.DataFrame:
    """Clip instances to their reservation's commitment on their host, or to their host's life.

    Returns:
        pieces with ``origin`` reservation or ondemand.
    """
    stage = "corrected occupied"
    kept = _place(rows, committed) if collected.corrections.place else rows
    nowhere = kept.filter(pl.col("hostname").is_null())
    collected.refuse(nowhere, stage, "no host named and none inferred")
    placed = kept.filter(pl.col("hostname").is_not_null())
    if collected.corrections.find_reservations:
        placed = _reserve(placed, committed)
    reserved = placed.filter(pl.col("reservation_id").is_not_null())
    holds = engine.union(
        committed.filter(pl.col("hostname").is_not_null()), ["reservation_id", "hostname"]
    )
    inside, outside = engine.cut(reserved, holds, ["reservation_id", "hostname"])
    check_conservation(f"{stage}: clip to reservation", reserved, inside, outside)
    inside = collected.part(
        inside, outside, stage, "outside its reservation", on=collected.corrections.clamp
    )

    free = placed.filter(pl.col("reservation_id").is_null())
    classes = history.group_by("hostname").agg(_class=pl.col("host_class").last())
    free = free.join(classes, on="hostname", how="left")
    on_kvm = (pl.col("_class") == KVM).fill_null(value=False)
    devices = pl.col("source") == "zun.container"
    stray = free.filter(~on_kvm & ~devices)
    collected.refuse(stray, stage, "no reservation covers it")
    ondemand = free.filter(on_kvm & ~devices).drop("_class")
    lives, lost = engine.cut(ondemand, total.select("hostname", "start", "end"), HOST)
    check_conservation(f"{stage}: clip to host", ondemand, lives, lost)
    lives = collected.part(lives, lost, stage, "outside total", on=collected.corrections.clamp)

    on_devices = free.filter(devices).drop("_class")
    leased = engine.union(committed.filter(pl.col("hostname").is_not_null()), HOST)
    used, unused = engine.cut(on_devices, leased, HOST)
    check_conservation(f"{stage}: clip to lease", on_devices, used, unused)
    collected.refuse(unused, stage, "no reservation covers it")
    check_conservation(stage, rows, nowhere, reserved, stray, ondemand, on_devices)
    return pl.concat(
        [
            inside.with_columns(origin=pl.lit("reservation")),
            used.select(inside.columns).with_columns(origin=pl.lit("reservation")),
            lives.select(inside.columns).with_columns(origin=pl.lit("ondemand")),
        ]
    )


def _place(rows: pl.DataFrame, committed: pl.DataFrame) -> pl.DataFrame:
    """Give a reserved instance that names no node the one host of its reservation left free."""
    lost = rows.filter(pl.col("hostname").is_null() & pl.col("reservation_id").is_not_null())
    if lost.is_empty():
        return rows
    keys = ["source", "entity_id"]
    hosts = committed.select("reservation_id", "hostname").unique().drop_nulls()
    others = rows.filter(pl.col("hostname").is_not_null()).select(
        "reservation_id", "hostname", other_start="start", other_end="end"
    )
    lives = lost.group_by(*keys, "reservation_id").agg(pl.col("start").min(), pl.col("end").max())
    options = lives.join(hosts, on="reservation_id")
    busy = options.join(others, on=["reservation_id", "hostname"]).filter(
        (pl.col("other_start") < pl.col("end")) & (pl.col("start") < pl.col("other_end"))
    )
    free = options.join(busy, on=[*keys, "hostname"], how="anti")
    only = (
        free.group_by(keys)
        .agg(_host=pl.col("hostname").first(), _options=pl.len())
        .filter(pl.col("_options") == 1)
        .drop("_options")
    )
    return (
        rows.join(only, on=keys, how="left")
        .with_columns(
            hostname=pl.coalesce("hostname", "_host"),
            inferred=pl.col("inferred") | pl.col("_host").is_not_null(),
        )
        .drop("_host")
    )


def _reserve(rows: pl.DataFrame, committed: pl.DataFrame) -> pl.DataFrame:
    """Find the reservation of instances whose request spec is purged.

    A host committed to a lease of the instance's project when it was created holds it.
    """
    orphans = rows.filter(pl.col("reservation_id").is_null() & pl.col("project_id").is_not_null())
    if orphans.is_empty():
        return rows
    holds = committed.select(
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


def _active(rows: pl.DataFrame, occupied: pl.DataFrame, collected: Collected) -> pl.DataFrame:
    """Clip the running time of each instance to where and when it occupies."""
    stage = "corrected active"
    runs = rows.select("source", "entity_id", "start", "end")
    seats = occupied.drop("source")
    inside, outside = engine.cut(runs, seats, ["entity_id"])
    check_conservation(f"{stage}: clip to occupied", runs, inside, outside)
    collected.refuse(outside, stage, "outside occupied")
    return inside.select(occupied.columns)


def _held(
    pieces: pl.DataFrame,
    history: pl.DataFrame,
    ceiling: pl.DataFrame,
    quantity: str,
    collected: Collected,
) -> pl.DataFrame:
    """Merge what holds a host: a union on bare metal and devices, a sum of slices on KVM.

    A KVM sum never exceeds what its parent holds of the host at that time (``ceiling``).

    Returns:
        the sized rows that were emitted.
    """
    stage = f"corrected {quantity}"
    sized = _sized(pieces, history, HOLDERS[quantity.split("_", maxsplit=1)[0]])
    unsized, sized = sized.filter(~_USABLE), sized.filter(_USABLE)
    collected.refuse(unsized, stage, "size unknown")
    check_conservation(f"{stage}: sizes", pieces, unsized, sized)
    shared = ((pl.col("host_class") == KVM) & pl.col("hostname").is_not_null()).fill_null(
        value=False
    )
    single = sized.filter(~shared & pl.col("hostname").is_not_null())
    kept, twice = engine.separate(single, HOST, TIME_ORDER)
    check_conservation(f"{stage}: union per host", single, kept, twice)
    kept = collected.part(
        kept, twice, stage, "the host is already held", on=collected.corrections.merge
    )
    hostless = sized.filter(~shared & pl.col("hostname").is_null())
    parts = [
        kept.select(*_SIZED_COLUMNS),
        hostless.select(*_SIZED_COLUMNS),
        _slices(sized.filter(shared), ceiling, stage, collected),
    ]
    whole = pl.concat(parts)
    collected.segments.append(_emit(whole, "corrected", quantity))
    return whole


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
    sums = engine.stack(
        slots, ["hostname", "host_class", "node_type", "node_size"], [*UNITS, *untold]
    )
    limits = ceiling.filter(pl.col("host_class") == KVM).select(
        "hostname", "start", "end", *(pl.col(name).alias(f"_max_{name}") for name in UNITS)
    )
    inside, outside = engine.cut(sums, limits, HOST)
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
            reason="more than its parent holds of the host",
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
    return int(pieces.select((pl.col(units) * engine.SECONDS).sum()).item() or 0)
