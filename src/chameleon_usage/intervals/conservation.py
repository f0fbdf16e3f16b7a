"""The laws of the audit, asserted in every run: no row and no hour goes without a trace."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.raw import NAME, RAW_TABLES, RawInputs
from chameleon_usage.models.stages import Ingested
from chameleon_usage.models.vocabulary import PRESENT

REPORT = "the pipeline itself is wrong: please report it with the site's manifest"


class ConservationError(AssertionError):
    """A stage lost or invented rows or hours: a bug, never the user's fault."""


def check_conservation(stage: str, before: pl.DataFrame, *after: pl.DataFrame) -> None:
    """Assert that the entity-seconds of a stage are all accounted for.

    Args:
        stage: what is asserted.
        before: intervals that went in.
        after: intervals that came out, as kept or as rejected.

    Raises:
        ConservationError: names the stage, the difference in hours and, where the intervals tell
            it, the tables it lies in.
    """
    difference = sum(arithmetic.seconds(frame) for frame in after) - arithmetic.seconds(before)
    if difference:
        raise ConservationError(
            f"stage {stage}: {difference / 3600:+.4f} entity-hours after against before"
            f"{_by_table(before, *after)}; {REPORT}"
        )


def _by_table(before: pl.DataFrame, *after: pl.DataFrame) -> str:
    """Name the tables in which hours were lost or invented, if the intervals tell theirs."""
    if not all("source" in frame.columns for frame in (before, *after)):
        return ""
    signed = [
        frame.select("source", seconds=arithmetic.SECONDS * sign)
        for frame, sign in [(before, -1), *((frame, 1) for frame in after)]
    ]
    sums = pl.concat(signed).group_by("source").agg(pl.col("seconds").sum()).sort("source")
    told = [f"{name} {value / 3600:+.4f}" for name, value in sums.iter_rows() if value]
    return f" ({', '.join(told)})" if told else ""


def check_door(inputs: RawInputs) -> None:
    """Assert that every row found in a file was let in or refused.

    Raises:
        ConservationError: names the table and the difference.
    """
    refused = dict(inputs.rejects.group_by("source").len().iter_rows())
    for table, found in inputs.rows.items():
        _check_number("door", table, found, inputs.tables[table].height + refused.get(table, 0))


def check_rows(
    adapter: str, accounts: Mapping[str, Sequence[str]], inputs: RawInputs, told: Ingested
) -> None:
    """Assert that an adapter keeps each row of its tables, rejects it or sets it aside, once.

    Args:
        adapter: its name.
        accounts: frame of the result to the tables whose rows it keeps: ``entities`` and
            ``leases`` are held to the rows' keys, ``maintenance`` and ``legacy`` to their number.
        inputs: the raw tables that it read.
        told: what it gave back.

    Raises:
        ConservationError: names the adapter, the table and the difference.
    """
    stage = f"adapter {adapter}"
    _check_told(stage, accounts.get("entities", ()), told)
    others = pl.concat([told.rejects, told.aside], how="diagonal").select("source", "source_row_id")
    for frame, tables in accounts.items():
        if frame in _COUNTED:
            found = sum(inputs.get(table).height for table in tables)
            kept = getattr(told, frame).select(_COUNTED[frame])
            kept = kept.unique() if frame == "legacy" else kept
            left = others.filter(pl.col("source").is_in(tables)).height
            _check_number(stage, ", ".join(tables), found, kept.height + left)
            continue
        for table in tables:
            rows = _keys(inputs.get(table), *RAW_TABLES[table].key)
            if table in ENTITY_KEYS:
                rows = _keys(inputs.get(table), *ENTITY_KEYS[table]).unique()
            here = _keys(others.filter(pl.col("source") == table), "source_row_id")
            if frame == "leases":
                here = pl.concat([here, _keys(told.leases, "lease_id")])
                kept = here.clear()
            else:
                kept = _keys(told.entities.filter(pl.col("source") == table), "entity_id")
            wrong, places = _wrongly_placed(rows, kept, here)
            if wrong.len():
                lost = int((places == 0).sum())
                raise ConservationError(
                    f"stage {stage}, table {table}: {lost} rows are neither kept nor rejected, "
                    f"{wrong.len() - lost} are both (as {min(wrong)}); {REPORT}"
                )


def _wrongly_placed(
    rows: pl.Series, kept: pl.Series, here: pl.Series
) -> tuple[pl.Series, npt.NDArray[np.int64]]:
    """Give the names that are not in one place exactly, and in how many each is.

    Args:
        rows: all names, each once.
        kept: those that are kept, one place however often it tells a name.
        here: those in other places, each time it tells a name.
    """
    of_rows, of_kept, of_others = (
        names.drop_nulls().to_physical().to_numpy() for names in (rows, kept, here)
    )
    size = 1 + max(int(codes.max(initial=0)) for codes in (of_rows, of_kept, of_others))
    places = np.bincount(of_others, minlength=size)
    is_kept = np.zeros(size, np.bool_)
    is_kept[of_kept] = True
    found = (places + is_kept)[of_rows]
    return rows.filter(found != 1), found[found != 1]


def _check_told(stage: str, tables: Sequence[str], told: Ingested) -> None:
    """Assert that each row that is kept holds something at some time; it need not have run."""
    key = ["source", "quantity_type", "entity_id"]
    kept = told.entities.filter(
        pl.col("source").is_in(tables) & (pl.col("quantity_type") != "active")
    )
    silent = kept.join(told.facts.filter(pl.col("state") == PRESENT), on=key, how="anti")
    if silent.height:
        named = silent.select(pl.col(key).cast(pl.String)).sort(key).row(0)
        raise ConservationError(
            f"stage {stage}: {silent.height} entities are kept and no fact tells of them "
            f"(as {', '.join(named)}); {REPORT}"
        )


def _keys(frame: pl.DataFrame, *names: str) -> pl.Series:
    """Name the rows as their rejects or entities do."""
    if len(names) == 1 and frame[names[0]].dtype == NAME:
        return frame[names[0]].alias("key")
    parts = [pl.col(name).cast(pl.String) for name in names]
    return frame.select(key=pl.concat_str(parts, separator="|").cast(NAME)).to_series()


_COUNTED = {"maintenance": ["hostname", "start", "end"], "legacy": ["timestamp", "node_type"]}
ENTITY_KEYS = {"trace.machine_events": ("HOST_NAME (PHYSICAL)",)}
"""Tables of which several rows tell one entity, and the columns that name it."""


def _check_number(stage: str, table: str, found: int, accounted: int) -> None:
    if found != accounted:
        raise ConservationError(
            f"stage {stage}, table {table}: {found} rows in, {accounted} kept or rejected "
            f"({accounted - found:+d}); {REPORT}"
        )


def check_spans(facts: pl.DataFrame, spans: pl.DataFrame, as_of: datetime) -> None:
    """Assert that the intervals between facts hold all the hours that the facts tell.

    The hours of an entity are the sum of the times at which it left less those at which it came,
    with ``as_of`` for what has not come yet or not left yet: a sum that needs no order.

    Args:
        facts: domain.Facts.
        spans: the intervals made of them: ``source``, ``start``, ``end``.
        as_of: when the tables were read.

    Raises:
        ConservationError: names the table and the difference in hours.
    """
    now = pl.lit(as_of, dtype=pl.Datetime("us"))
    came = pl.col("state") == PRESENT
    until = (now - pl.min_horizontal("timestamp", now)).dt.total_seconds()
    told = facts.group_by("source").agg(told=pl.when(came).then(until).otherwise(-until).sum())
    made = spans.group_by("source").agg(made=arithmetic.SECONDS.sum())
    wrong = (
        told.join(made, on="source", how="full", coalesce=True)
        .with_columns(pl.col("told", "made").fill_null(0))
        .filter(pl.col("told") != pl.col("made"))
        .sort("source")
    )
    if wrong.height:
        table, before, after = wrong.row(0)
        raise ConservationError(
            f"stage intervals, table {table}: {(after - before) / 3600:+.4f} entity-hours "
            f"after against before; {REPORT}"
        )
