"""The few steps that all adapters share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from chameleon_usage.models.frames import columns, conform
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import ASIDE, COMPLETENESS, Ingested, Intervals, JoinLog, rejects
from chameleon_usage.models.vocabulary import BARE_METAL, INGEST, KVM, Reason

HELD = ("occupied_reservation", "occupied_ondemand", "active_reservation", "active_ondemand")
"""What a source of instances tells."""

_SPARSE = 8
"""Numbers for each key, at most, where these are looked up in a table."""

LARGEST = 2**30
"""No size of a machine reaches this; sums of sizes times seconds stay exact below it."""


def host_class() -> pl.Expr:
    """Tell a bare-metal node (Ironic) from a KVM host by its hypervisor type."""
    kind = pl.col("hypervisor_type").str.to_lowercase()
    return pl.when(kind == "ironic").then(pl.lit(BARE_METAL)).when(kind != "").then(pl.lit(KVM))


def positive(column: str) -> pl.Expr:
    """Read a size; 0 and less mean that it was never filled in, 2^30 and more are no size."""
    return pl.when(pl.col(column).is_between(1, LARGEST - 1)).then(pl.col(column))


def amount(size: pl.Expr) -> pl.Expr:
    """Read what an instance or a slice asked for, which may be none of a resource."""
    return pl.when(size.is_between(0, LARGEST - 1)).then(size)


def deleted_at(*signs: str) -> pl.Expr:
    """Tell when a row was deleted: its date, else, where only its flag says so, its last change.

    Args:
        signs: columns with times at which the row still was, besides created_at and updated_at.

    A row that Nova flags as not deleted (0) is there again, whatever date it bears; elsewhere such
    a row has no flag.
    """
    return (
        pl.when(pl.col("deleted").cast(pl.String) == "0")
        .then(None)
        .when(flagged_undated())
        .then(pl.max_horizontal("created_at", "updated_at", *signs))
        .otherwise("deleted_at")
    )


def flagged_undated() -> pl.Expr:
    """Tell whether only its flag says that a row is deleted."""
    return ~pl.col("deleted").cast(pl.String).is_in(["", "0"]) & pl.col("deleted_at").is_null()


def deletion_is_inferred() -> pl.Expr:
    """Tell whether a row's flag and its date of deletion disagree."""
    back = (pl.col("deleted").cast(pl.String) == "0") & pl.col("deleted_at").is_not_null()
    return (flagged_undated() | back).fill_null(value=False)


def speaks_of(
    source: str,
    *quantities: str,
    held: int | None = None,
    ever: int | None = None,
    keeps: bool = True,
) -> pl.DataFrame:
    """Say which quantity types a source tells, whether it has a row of them or not.

    Args:
        source: the table.
        quantities: the quantity types.
        held: rows that it still holds.
        ever: rows that it ever had, where it does not keep them all.
        keeps: whether its service keeps the rows that it deletes.
    """
    told = {"quantity_type": quantities, "source": source, "keeps": keeps}
    return pl.DataFrame(told | {"held": held, "ever": ever}, schema=COMPLETENESS)


def concat(parts: Iterable[Ingested]) -> Ingested:
    """Put the results of several adapters together."""
    listed = list(parts) or [Ingested()]
    return Ingested(
        **{
            name: pl.concat([getattr(part, name) for part in listed])
            for name in Ingested().tables()
        }
    )


def present(rows: pl.DataFrame, source: str, *quantities: str) -> pl.DataFrame:
    """Say that entities were present from ``start`` to ``end``.

    Args:
        rows: ``entity_id``, ``start``, ``end`` (null: no row tells an end) and what else is known
            of each entity; intervals of one entity neither overlap nor touch, none is empty.
        source: the table that tells so.
        quantities: the quantity types that the entities count for.

    Returns:
        Intervals; an entity holds one node and is not inferred unless the rows say otherwise.
    """
    usual = {"nodes": pl.lit(1, pl.Int64), "inferred": pl.lit(value=False)}
    missing = {name: value for name, value in usual.items() if name not in rows.columns}
    return pl.concat(
        conform(
            rows.with_columns(source=pl.lit(source), quantity_type=pl.lit(quantity), **missing),
            Intervals,
        )
        for quantity in quantities
    )


def set_aside(rows: pl.DataFrame, source: str, row_id: str) -> pl.DataFrame:
    """List rows that say nothing of a node: neither kept nor lost."""
    aside = rows.select(source=pl.lit(source), source_row_id=pl.col(row_id))
    return aside.cast(ASIDE)  # type: ignore[arg-type]


def refuse(
    rows: pl.DataFrame, source: str, row_id: str, reason: pl.Expr | Reason | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those with a usable [start, end) and rejects.

    Args:
        rows: with ``start`` and ``end`` (null: no row tells an end).
        source: the table that they are rows of.
        row_id: the column with the key of each.
        reason: null, or why a row is refused whatever its bounds are. Then a null start, an end
            before the start and an empty interval are refused, each with its reason.

    Returns:
        (good rows, rejects)
    """
    start, end = pl.col("start"), pl.col("end")
    bounds = (
        pl.when(start.is_null())
        .then(pl.lit(Reason.NO_START))
        .when(end < start)
        .then(pl.lit(Reason.END_BEFORE_START))
        .when(end == start)
        .then(pl.lit(Reason.EMPTY_INTERVAL))
    )
    why = rows.select(_reason=bounds if reason is None else pl.coalesce(reason, bounds))
    judged = why["_reason"].is_not_null()
    return rows.filter(~judged) if judged.any() else rows, rejects(
        rows.filter(judged).hstack(why.filter(judged)),
        stage=INGEST,
        source=source,
        reason=pl.col("_reason"),
        row_id=row_id,
    )


def among(rows: pl.DataFrame, others: pl.DataFrame, on: str) -> pl.Series:
    """Tell which rows have a key that others have, too; null is none."""
    return _places(rows, others, on).is_not_null()


def join_one(rows: pl.DataFrame, others: pl.DataFrame, on: str) -> tuple[pl.DataFrame, int]:
    """Join rows, all and in their order, with the one that has their key, if there is one.

    Returns:
        (the rows with the columns of ``others``, how many matched)
    """
    place = _places(rows, others, on)
    found = others.select(pl.exclude(on).gather(place))
    return rows.hstack(found), place.len() - place.null_count()


def _places(rows: pl.DataFrame, others: pl.DataFrame, on: str) -> pl.Series:
    """Give for each row the place of the other that has its key; null if none has.

    Keys are names or integers: in a table of all numbers between the least and the most they are
    found in a fraction of the time of a join, unless they lie far apart.
    """
    row, other = (frame[on].to_physical().cast(pl.Int64) for frame in (rows, others))
    least, most = other.min(), other.max()
    if not isinstance(least, int) or not isinstance(most, int):
        return pl.repeat(None, rows.height, dtype=pl.Int64, eager=True)
    if most - least > _SPARSE * (rows.height + others.height):
        placed = others.select(on).with_row_index("_place").unique(on, keep="any")
        return rows.select(on).join(placed, on=on, how="left", maintain_order="left")["_place"]
    table = np.full(most - least + 3, -1, np.int32)  # its ends are for what lies beyond
    before = least - 1
    table[other.fill_null(before).to_numpy() - before] = np.arange(others.height)
    table[0] = -1
    index = np.clip(row.fill_null(before).to_numpy() - before, 0, len(table) - 1)
    place = pl.Series(table[index])
    return place.set(place < 0, None)


def least(rows: pl.DataFrame, by: str) -> pl.DataFrame:
    """Give the least value of every other column for each key."""
    if rows[by].n_unique() == rows.height:  # as of most; to group takes long
        return rows
    return rows.group_by(by).agg(pl.all().min())


def _numbered(left: pl.Series, right: pl.Series) -> bool:
    """Tell whether ``join_one`` can join these keys."""
    same = left.dtype == right.dtype and (right.dtype == NAME or right.dtype.is_integer())
    return same and right.drop_nulls().n_unique() == right.len() - right.null_count()


@dataclass
class Joins:
    """A left join that keeps count of what it matched."""

    rows: list[dict[str, object]] = field(default_factory=list)

    def left(
        self, name: str, left: pl.DataFrame, right: pl.DataFrame, on: str | Sequence[str]
    ) -> pl.DataFrame:
        """Join and log: rows left, matched, unmatched, and rows out per matched row."""
        if isinstance(on, str) and _numbered(left[on], right[on]):
            joined, hits = join_one(left, right, on)
        else:
            right = right.with_columns(_hit=pl.lit(value=True))
            joined = left.join(right, on=on, how="left", maintain_order="left")
            hits = int(joined["_hit"].count())
            joined = joined.drop("_hit")
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
        return joined

    def log(self) -> pl.DataFrame:
        """Give the join log so far (JoinLog)."""
        return pl.DataFrame(self.rows, schema=columns(JoinLog))
