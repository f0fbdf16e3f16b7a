"""What every adapter gives back, and the few steps all of them share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from chameleon_usage.models.frames import columns, conform
from chameleon_usage.models.stages import (
    COMPLETENESS,
    Entities,
    Facts,
    Ingested,
    JoinLog,
    Rejects,
)
from chameleon_usage.models.vocabulary import ABSENT, PRESENT

HELD = ("occupied_reservation", "occupied_ondemand", "active_reservation", "active_ondemand")


def speaks_of(source: str, *quantities: str, share: float = 1.0) -> pl.DataFrame:
    """Say which quantity types a source tells, whether it has a row of them or not."""
    return pl.DataFrame(
        {"quantity_type": quantities, "source": source, "share": share}, schema=COMPLETENESS
    )


def concat(parts: Iterable[Ingested]) -> Ingested:
    """Put the results of several adapters together."""
    listed = list(parts)
    return Ingested(
        **{
            name: pl.concat([getattr(part, name) for part in listed])
            for name in Ingested().tables()
        }
    )


def entities(rows: pl.DataFrame, source: str, quantity_type: str) -> pl.DataFrame:
    """Make the side table of entities from rows that name them (``entity_id``)."""
    defaults = {"nodes": pl.lit(1, pl.Int64), "inferred": pl.lit(value=False)}
    missing = {name: value for name, value in defaults.items() if name not in rows.columns}
    return conform(
        rows.with_columns(source=pl.lit(source), quantity_type=pl.lit(quantity_type), **missing),
        Entities,
    )


def facts(intervals: pl.DataFrame, source: str, quantity_type: str) -> pl.DataFrame:
    """Turn disjoint intervals per entity into facts; an open end makes no fact.

    Args:
        intervals: columns ``entity_id``, ``start``, ``end`` (null: still so); intervals of one
            entity neither overlap nor touch, none is empty.
        source: the table that bears witness.
        quantity_type: what the entity counts for.
    """
    begun = intervals.select("entity_id", timestamp="start", state=pl.lit(PRESENT))
    ended = intervals.filter(pl.col("end").is_not_null()).select(
        "entity_id", timestamp="end", state=pl.lit(ABSENT)
    )
    return conform(
        pl.concat([begun, ended]).with_columns(
            source=pl.lit(source), quantity_type=pl.lit(quantity_type)
        ),
        Facts,
    )


def rejects(
    rows: pl.DataFrame, *, stage: str, source: str, reason: pl.Expr | str, row_id: str
) -> pl.DataFrame:
    """Record refused rows; hours are those of ``start``..``end`` where both are known."""
    bounds = [
        pl.col(name) if name in rows.columns else pl.lit(None, pl.Datetime("us")).alias(name)
        for name in ("start", "end")
    ]
    span = (pl.col("end") - pl.col("start")).dt.total_seconds() / 3600
    return conform(
        rows.with_columns(bounds).with_columns(
            stage=pl.lit(stage),
            source=pl.lit(source),
            source_row_id=pl.col(row_id).cast(pl.String),
            reason=pl.lit(reason) if isinstance(reason, str) else reason,
            hours=pl.when(span.is_not_null()).then(pl.max_horizontal(span, pl.lit(0.0))),
        ),
        Rejects,
    )


def set_aside(rows: pl.DataFrame, source: str, row_id: str) -> pl.DataFrame:
    """Record rows that say nothing of a node: neither kept nor lost."""
    return rows.select(source=pl.lit(source), source_row_id=pl.col(row_id).cast(pl.String))


def refuse_bad_bounds(
    rows: pl.DataFrame, *, stage: str, source: str, row_id: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those with a usable [start, end) and rejects.

    A null start, an end before the start and an empty interval are refused, each with its reason.

    Returns:
        (good rows, rejects)
    """
    start, end = pl.col("start"), pl.col("end")
    reason = (
        pl.when(start.is_null())
        .then(pl.lit("no start"))
        .when(end < start)
        .then(pl.lit("end before start"))
        .when(end == start)
        .then(pl.lit("empty interval"))
    )
    judged = rows.with_columns(_reason=reason)
    bad = judged.filter(pl.col("_reason").is_not_null())
    good = judged.filter(pl.col("_reason").is_null()).drop("_reason")
    return good, rejects(bad, stage=stage, source=source, reason=pl.col("_reason"), row_id=row_id)


def state_intervals(changes: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """Turn changes of a Boolean state into the intervals in which it holds, within each life.

    Args:
        changes: ``entity_id``, ``timestamp``, ``on``, and ``order``, which decides at one instant.
        lives: ``entity_id``, ``start``, ``end`` (null: still alive); one row per entity.

    Returns:
        ``entity_id``, ``start``, ``end`` (null: still so), disjoint per entity.
    """
    numbered = lives.with_row_index("_life")
    within = (
        changes.join(numbered, on="entity_id", how="inner")
        .with_columns(timestamp=pl.max_horizontal("timestamp", "start"))
        .filter(pl.col("end").is_null() | (pl.col("timestamp") < pl.col("end")))
        .select("_life", "timestamp", "order", "on")
        .sort("_life", "timestamp", "order")
    )
    # After one sort a life's changes are neighbours; of those at one instant the last one holds.
    alone = (pl.col("_life") != pl.col("_life").shift(-1)).fill_null(value=True)
    last = alone | (pl.col("timestamp") != pl.col("timestamp").shift(-1))
    first = (pl.col("_life") != pl.col("_life").shift(1)).fill_null(value=True)
    turns = within.filter(last).filter(first | (pl.col("on") != pl.col("on").shift(1)))
    held = turns.with_columns(end=pl.when(~alone).then(pl.col("timestamp").shift(-1))).filter("on")
    life = numbered.select("entity_id", _end="end")[held["_life"]]
    return life.hstack(held.select(start="timestamp", end="end")).select(
        "entity_id", "start", end=pl.coalesce("end", "_end")
    )


@dataclass
class Joins:
    """A left join that keeps count of what it matched."""

    rows: list[dict[str, object]] = field(default_factory=list)

    def left(
        self, name: str, left: pl.DataFrame, right: pl.DataFrame, on: str | Sequence[str]
    ) -> pl.DataFrame:
        """Join and log: rows left, matched, unmatched, and rows out per matched row."""
        keys = [on] if isinstance(on, str) else list(on)
        joined = left.join(
            right.with_columns(_hit=pl.lit(value=True)),
            on=keys,
            how="left",
            maintain_order="left",
        )
        hits = int(joined["_hit"].count())
        unmatched = joined.height - hits
        matched = left.height - unmatched
        self.rows.append(
            {
                "name": name,
                "rows_left": left.height,
                "matched": matched,
                "unmatched": unmatched,
                "fan_out": hits / matched if matched else 0.0,
            }
        )
        return joined.drop("_hit")

    def log(self) -> pl.DataFrame:
        """Give the join log so far (domain.JoinLog)."""
        return pl.DataFrame(self.rows, schema=columns(JoinLog))
