"""What both collectors read: intervals that end with the dump, and what each host was at a time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from chameleon_usage.intervals import arithmetic, keys
from chameleon_usage.intervals.cutting import parted
from chameleon_usage.models.stages import Ingested, rejects
from chameleon_usage.models.vocabulary import AS_OF, KVM, Reason
from chameleon_usage.reconstruct import inference

SIZES = ("vcpus", "memory_mb", "disk_gb", "gpus")
"""The columns that tell how big a node is."""

UNITS = ("node_units", *SIZES)
"""The columns that tell how much of a node a piece holds; see ``with_sizes``."""

HOST = ["hostname"]
"""The columns that tell hosts apart."""

SIZED_AS = {
    "total": "host",
    "reservable": "host",
    "committed": "allocation",
    "occupied": "instance",
    "active": "instance",
}
"""How the intervals of each quantity are sized; see ``with_sizes``."""

USABLE = ((pl.col("node_size") > 0) & pl.col("node_units").is_not_null()).fill_null(value=False)
"""Whether a piece of ``with_sizes`` can be counted: its size and its units are known."""


@dataclass(frozen=True)
class Observed:
    """What is known of a site, with names as enumerations in the order of the names.

    Attributes:
        intervals: the columns of Intervals, ``end`` being at most the moment of the dump, and
            ``open``: no row tells an end.
        history: of ``observed.profile_history``.
        maintenance: windows of hosts, disjoint: hostname, start, end.
        status: what sources say of whether hosts can be used (StatusIntervals).
        rejects: Rejects, of what begins after the dump was made.
        spoken_of: the quantity types that some source of the site tells.
        forgotten: those of them of which a source's service deletes rows for good.
        tells_status: whether any source says of a host whether it can be used.
        gone: the names of Blazar hosts whose row is gone: of ``inference.gone_hosts``.
        unallocated: whether reservations are there of which no allocation is left.
    """

    intervals: pl.DataFrame
    history: pl.DataFrame
    maintenance: pl.DataFrame
    status: pl.DataFrame
    rejects: pl.DataFrame
    spoken_of: frozenset[str]
    forgotten: frozenset[str]
    tells_status: bool
    gone: pl.DataFrame
    unallocated: bool


def observe(
    ingested: Ingested,
    as_of: datetime,
    gone: pl.DataFrame | None = None,
    *,
    unallocated: bool | None = None,
) -> Observed:
    """Close what is still open at the moment of the dump, and refuse what begins later.

    Args:
        ingested: what the adapters of a site say, or some of it.
        as_of: the moment of the dump.
        gone: ``Observed.gone`` of the whole site, where this is a part of it.
        unallocated: ``Observed.unallocated``, likewise.
    """
    now = pl.lit(as_of, dtype=pl.Datetime("us"))
    begun = pl.col("start") < now
    intervals, late = parted(ingested.intervals, begun)
    intervals = intervals.with_columns(
        end=pl.min_horizontal("end", now), open=pl.col("end").is_null()
    )
    # Some keep a row of maintenance for every hour.
    windows = arithmetic.union(ingested.maintenance, HOST)
    frames = [intervals, ingested.profiles, windows, ingested.status]
    intervals, profiles, maintenance, status, *found = enumerated(
        frames if gone is None else [*frames, gone]
    )
    refused = [
        rejects(
            part,
            stage=AS_OF,
            source=str(source),
            reason=Reason.BEGINS_LATER,
            row_id="entity_id",
        )
        for (source,), part in late.drop("start", "end")
        .partition_by("source", as_dict=True)
        .items()
    ]
    if unallocated is None:
        unallocated = inference.any_unallocated(intervals)
    return Observed(
        intervals,
        profile_history(profiles),
        maintenance,
        status,
        pl.concat([ingested.rejects, *refused]),
        frozenset(ingested.completeness["quantity_type"]),
        frozenset(ingested.completeness.filter(~pl.col("keeps"))["quantity_type"]),
        not status.is_empty(),
        found[0] if found else inference.gone_hosts(intervals),
        unallocated,
    )


def enumerated(frames: Iterable[pl.DataFrame]) -> list[pl.DataFrame]:
    """Make the names of hosts, their classes and types enumerations, the same in all frames.

    By number, names sort and compare in no time, and not by the order in which they came.
    """
    frames = list(frames)
    for name in ("hostname", "host_class", "node_type"):
        # The text of each name is looked up once, and not in every row.
        groups = {
            place: keys.groups(frame, [name])
            for place, frame in enumerate(frames)
            if name in frame.columns
        }
        texts = {
            place: frames[place][name][row].cast(pl.String) for place, (row, _) in groups.items()
        }
        kind = pl.Enum(pl.concat(texts.values()).drop_nulls().unique().sort())
        for place, (_, of) in groups.items():
            frames[place] = frames[place].with_columns(texts[place].cast(kind)[of])
    return frames


def instances(entities: pl.Series) -> pl.Series:
    """Name the instances of entities: the stays of a migrated machine, "<uuid>/<n>", are one."""
    row, of = keys.groups(entities.to_frame("entity"), ["entity"])
    names = entities[row]
    stays = names.filter(names.cast(pl.String).str.contains("/", literal=True))
    if stays.is_empty():
        return entities
    wholes = stays.cast(pl.String).str.extract("^([^/]*)").cast(entities.dtype)
    return names.replace(stays, wholes)[of]


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
        .sort("source")
        .group_by("hostname", "start")
        .agg(pl.col([*values, "_listed"]).drop_nulls().last())
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
            start=pl.when(first).then(arithmetic.MIN_TIME).otherwise("start"),
        )
        .with_columns(end=pl.col("start").shift(-1).over("hostname").fill_null(arithmetic.MAX_TIME))
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
        .then(arithmetic.MIN_TIME)
        .otherwise("start"),
        _earlier="node_type",
    )
    of_type = history.group_by(_earlier="node_type").agg(
        _gpus=pl.when(pl.col("gpus").n_unique() == 1).then(pl.col("gpus").first())
    )
    inside, outside = arithmetic.intersect(history, earlier, HOST)
    differs = pl.col("node_type").ne_missing(pl.col("_earlier"))
    retyped = inside.join(of_type, on="_earlier", how="left", maintain_order="left").with_columns(
        node_type="_earlier", gpus=pl.when(differs).then("_gpus").otherwise("gpus")
    )
    return pl.concat([retyped.select(outside.columns), outside]).sort("hostname", "start")


def with_sizes(pieces: pl.DataFrame, history: pl.DataFrame, what: str) -> pl.DataFrame:
    """Give each piece its host's class, node type and size at that time, and its units.

    On bare metal and devices everything holds the whole node. On KVM a "host" is whole, an
    "allocation" holds its slice, or the host if it is no slice, and an "instance" its own
    resources: vcpus / physical vcpus of the node, null where it does not tell its vcpus.

    Args:
        pieces: hostname, start, end; what the row itself tells, which may be null: host_class,
            node_type, ``SIZES``; nodes, how many whole nodes a piece is. Other columns are kept.
        history: of ``profile_history``.
        what: "host", "allocation" or "instance"; see ``SIZED_AS``.

    Returns:
        the pieces, cut where the host's profile changes, no second of them lost; a class or type
        that the history does not tell is the piece's own. Besides ``SIZES``, now what the piece
        holds of each (vcpus, MB, GB, GPUs), ``node_units`` and ``node_size``, whose quotient is
        nodes: both count vcpus on KVM, and nodes elsewhere and where nobody tells the vcpus of a
        whole KVM node. They may be null; see ``USABLE``.

    Raises:
        KeyError: ``what`` is none of the three.
    """
    own = pieces.rename({name: f"_own_{name}" for name in ("host_class", "node_type", *SIZES)})
    known, strange = arithmetic.intersect(own, history, HOST)
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


def whole_hosts(presence: pl.DataFrame) -> pl.DataFrame:
    """Complete the presence of hosts to rows that ``with_sizes`` takes as "host".

    Args:
        presence: hostname, start, end.

    Returns:
        its columns and nodes, always 1; host_class, node_type and ``SIZES`` are null, for the
        host's profile to tell.
    """
    return presence.with_columns(
        host_class=None,
        node_type=None,
        nodes=pl.lit(1, pl.Int64),
        **{name: pl.lit(None, pl.Int64) for name in SIZES},
    )
