"""The result of a collector (``Reading``), and what gathers it step by step (``Collected``).

Both end in segments (Segments): who held what, when, and how much of it. Every hour that
goes in comes out, as kept or as rejected; ``check_conservation`` holds each step of a collector to
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import columns, conform, empty
from chameleon_usage.models.stages import (
    HeldPieces,
    Holdings,
    Rejects,
    Segments,
    SourceSupport,
    rejects,
)
from chameleon_usage.models.vocabulary import Reason
from chameleon_usage.reconstruct.observed import HOST
from chameleon_usage.reconstruct.projects import Projects

_ADRIFT = {name: columns(HeldPieces)[name] for name in ("project_id", "nodes", "start", "end")} | {
    "room": pl.Boolean()
}


@dataclass(frozen=True)
class Reading:
    """What a collector makes of the intervals.

    Attributes:
        segments: Segments.
        rejects: Rejects.
        support: SourceSupport (the corrected collector only).
        pieces: what holds hosts, each under its own key, before it is united or added up
            (HeldPieces; the corrected collector only).
        holdings: of projects (Holdings), if they were asked for.
        adrift: of ``uncounted.keep_adrift``.
    """

    segments: pl.DataFrame
    rejects: pl.DataFrame
    support: pl.DataFrame
    pieces: pl.DataFrame
    holdings: pl.DataFrame = field(default_factory=partial(empty, Holdings))
    adrift: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_ADRIFT))


@dataclass(frozen=True)
class Corrections:
    """What the corrected collector does beside source priority: all of it, but for an ablation.

    Attributes:
        merge: a host, and what holds it, counts once at a time.
        clamp: pool time, allocations and instances live only inside their parents; runs and
            containers always do.
        name_gone_hosts: a Blazar host whose row is gone takes the hostname of its instances.
        infer_allocations: an instance is evidence of an allocation that left no row.
        assign_hosts: an instance that names no node gets the only host its reservation leaves free.
        find_reservations: an instance whose request spec is purged gets the reservation that
            held its host.
    """

    merge: bool = True
    clamp: bool = True
    name_gone_hosts: bool = True
    infer_allocations: bool = True
    assign_hosts: bool = True
    find_reservations: bool = True


@dataclass
class Collected:
    """A reading in the making.

    Attributes:
        collector: the ``collector_type`` of its segments.
        corrections: what the collector does.
        segments, rejects, support, pieces, adrift: the parts of the reading so far.
        doubles: quantity to rows of a host beside another of its rows, where they are to count.
        projects: takes what projects hold, if that is asked for.
    """

    collector: str
    corrections: Corrections = field(default_factory=Corrections)
    segments: list[pl.DataFrame] = field(default_factory=list)
    rejects: list[pl.DataFrame] = field(default_factory=list)
    support: list[pl.DataFrame] = field(default_factory=list)
    pieces: list[pl.DataFrame] = field(default_factory=list)
    adrift: list[pl.DataFrame] = field(default_factory=list)
    doubles: dict[str, pl.DataFrame] = field(default_factory=dict)
    projects: Projects | None = None

    def emit(self, pieces: pl.DataFrame, quantity: str) -> None:
        """Count pieces as segments.

        Args:
            pieces: the columns of Segments but ``collector_type`` and ``quantity_type``;
                others are left out.
            quantity: the ``quantity_type`` they count as.
        """
        if pieces.is_empty():
            return
        self.segments.append(
            conform(
                pieces.with_columns(
                    collector_type=pl.lit(self.collector), quantity_type=pl.lit(quantity)
                ),
                Segments,
            )
        )

    def keep(self, pieces: pl.DataFrame, quantity: str) -> None:
        """Keep pieces of what holds hosts, with the keys of which segments know nothing."""
        self.pieces.append(conform(pieces.with_columns(quantity_type=pl.lit(quantity)), HeldPieces))

    def record_support(self, quantity: str, own: pl.DataFrame, published: pl.DataFrame) -> None:
        """Record how far each source's own presences reach within what is published."""
        within, _ = arithmetic.intersect(own, published.select("hostname", "start", "end"), HOST)
        self.support.append(
            conform(within.with_columns(quantity_type=pl.lit(quantity)), SourceSupport)
        )

    def refuse(self, pieces: pl.DataFrame, stage: str, reason: Reason) -> None:
        """Record pieces of intervals that are not counted; one row per source and stretch."""
        if pieces.height:
            by_source = pieces.partition_by("source", maintain_order=True, as_dict=True)
            for (source,), part in by_source.items():
                self.rejects.append(
                    rejects(
                        part, stage=stage, source=str(source), reason=reason, row_id="entity_id"
                    )
                )

    def part(
        self, kept: pl.DataFrame, lost: pl.DataFrame, stage: str, reason: Reason, *, on: bool
    ) -> pl.DataFrame:
        """Refuse what a correction takes away, and give the rest; all, if it is not on."""
        if not on:
            return pl.concat([kept, lost.select(kept.columns)])
        self.refuse(lost, stage, reason)
        return kept

    def result(self) -> Reading:
        """Put the parts together."""
        reading = Reading(
            pl.concat([empty(Segments), *self.segments]),
            pl.concat([empty(Rejects), *self.rejects]),
            pl.concat([empty(SourceSupport), *self.support]),
            pl.concat([empty(HeldPieces), *self.pieces]),
            adrift=pl.concat([pl.DataFrame(schema=_ADRIFT), *self.adrift]),
        )
        if self.projects is None:
            return reading
        return replace(reading, holdings=self.projects.holdings(reading.segments))


def together(readings: Sequence[Reading]) -> Reading:
    """Put readings of parts of a site together."""
    return Reading(
        **{
            part.name: pl.concat(getattr(one, part.name) for one in readings)
            for part in fields(Reading)
        }
    )
