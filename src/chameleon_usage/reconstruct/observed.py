"""What both collectors read: intervals that end with the dump, and what each host was."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from chameleon_usage.models.stages import Ingested, rejects
from chameleon_usage.models.vocabulary import AS_OF, Reason
from chameleon_usage.reconstruct.profiles import profile_history


@dataclass(frozen=True)
class Observed:
    """What is known of a site, with names as enumerations in the order of the names.

    Attributes:
        intervals: the columns of Intervals, ``end`` being at most the moment of the dump, and
            ``open``: no row tells an end.
        history: of ``profiles.profile_history``.
        maintenance: windows of hosts: hostname, start, end.
        rejects: Rejects, of what begins after the dump was made.
    """

    intervals: pl.DataFrame
    history: pl.DataFrame
    maintenance: pl.DataFrame
    rejects: pl.DataFrame


def observe(ingested: Ingested, as_of: datetime) -> Observed:
    """Close what is still open at the moment of the dump, and refuse what begins later."""
    now = pl.lit(as_of, dtype=pl.Datetime("us"))
    begun = pl.col("start") < now
    late = ingested.intervals.filter(~begun).drop("start", "end")
    intervals = ingested.intervals.filter(begun).with_columns(
        end=pl.min_horizontal("end", now), open=pl.col("end").is_null()
    )
    frames = [intervals, ingested.profiles, ingested.maintenance]
    for name in ("hostname", "host_class", "node_type"):
        told = [frame[name].unique().cast(pl.String) for frame in frames if name in frame.columns]
        # By number, names sort and compare in no time, and not by the order in which they came.
        kind = pl.Enum(pl.concat(told).drop_nulls().unique().sort())
        frames = [frame.cast({name: kind} if name in frame.columns else {}) for frame in frames]
    intervals, profiles, maintenance = frames
    refused = [
        rejects(
            part,
            stage=AS_OF,
            source=str(source),
            reason=Reason.BEGINS_LATER,
            row_id="entity_id",
        )
        for (source,), part in late.partition_by("source", as_dict=True).items()
    ]
    return Observed(
        intervals,
        profile_history(profiles),
        maintenance,
        pl.concat([ingested.rejects, *refused]),
    )
