"""The law of rows, asserted in every run: each is kept, rejected or set aside, and just once."""

from collections.abc import Mapping, Sequence

import polars as pl

from chameleon_usage.intervals.conservation import REPORT, ConservationError
from chameleon_usage.models.raw import NAME, RAW_TABLES, RawInputs
from chameleon_usage.models.stages import Ingested

_COUNTED = {"maintenance": ["hostname", "start", "end"], "legacy": ["timestamp", "node_type"]}
"""Frames that do not name the rows they are made of, and what tells these apart."""


def check_input_validation(inputs: RawInputs) -> None:
    """Assert that every row found in a file was let in or refused.

    Raises:
        ConservationError: names the table and the difference.
    """
    refused = dict(inputs.rejects.group_by("source").len().iter_rows())
    for table, found in inputs.rows.items():
        accounted = inputs.tables[table].height + refused.get(table, 0)
        _check_number("input validation", table, found, accounted)


def check_rows(
    adapter: str, accounts: Mapping[str, Sequence[str]], inputs: RawInputs, result: Ingested
) -> None:
    """Assert that an adapter keeps each row of its tables, rejects it or sets it aside, once.

    Args:
        adapter: its name.
        accounts: frame of the result to the tables whose rows it keeps: ``intervals`` and
            ``leases`` are held to the rows' keys, ``maintenance`` and ``legacy`` to their number.
            An instance need not have run: its intervals of ``active`` do not count.
        inputs: the raw tables that it read.
        result: what it gave back.

    Raises:
        ConservationError: names the adapter, the table and the difference.
    """
    stage = f"adapter {adapter}"
    others = pl.concat([result.rejects, result.aside], how="diagonal").select(
        "source", "source_row_id"
    )
    for frame, tables in accounts.items():
        if frame in _COUNTED:
            found = sum(inputs.get(table).height for table in tables)
            kept = getattr(result, frame).select(_COUNTED[frame])
            kept = kept.unique() if frame == "legacy" else kept
            left = others.filter(pl.col("source").is_in(tables)).height
            _check_number(stage, ", ".join(tables), found, kept.height + left)
            continue
        for table in tables:
            spec = RAW_TABLES[table]
            rows = _keys(inputs.get(table), *(spec.entity or spec.key)).unique()
            if frame == "leases":
                kept = _keys(result.leases, "lease_id")
            else:
                own = (pl.col("source") == table) & (pl.col("quantity_type") != "active")
                kept = _keys(result.intervals.filter(own), "entity_id").unique()
            places = pl.concat(
                [kept, _keys(others.filter(pl.col("source") == table), "source_row_id")]
            )
            found_in = places.group_by("key").len("places")
            wrong = (
                rows.join(found_in, on="key", how="left")
                .filter(pl.col("places").fill_null(0) != 1)
                .sort("key")
            )
            if wrong.height:
                lost = wrong["places"].null_count()
                raise ConservationError(
                    f"stage {stage}, table {table}: {lost} rows are neither kept nor rejected, "
                    f"{wrong.height - lost} are both (as {wrong['key'][0]}); {REPORT}"
                )


def _keys(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Name the rows as their rejects or entities do: ``key``."""
    if len(names) == 1 and frame.schema[names[0]] == NAME:
        return frame.select(key=names[0])
    parts = [pl.col(name).cast(pl.String) for name in names]
    return frame.select(key=pl.concat_str(parts, separator="|").cast(NAME))


def _check_number(stage: str, table: str, found: int, accounted: int) -> None:
    if found != accounted:
        raise ConservationError(
            f"stage {stage}, table {table}: {found} rows in, {accounted} kept or rejected "
            f"({accounted - found:+d}); {REPORT}"
        )
