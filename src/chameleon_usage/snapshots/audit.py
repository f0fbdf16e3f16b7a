"""What audit tables tell: each change of a row, from the day on which its triggers were made.

Triggers of chi-in-a-box's role ``audit_tables`` write a row for each INSERT, UPDATE and DELETE of a
service's row, with that row as it was then: as a JSON document, in the role's first form in
columns. An UPDATE is written only where a column that the role watches has changed. When a table is
switched on, the role back-fills it: an INSERT for each row that is there, and a DELETE for each
that the service has marked as deleted, dated by the row's own ``created_at`` and ``deleted_at``,
but with the values of that day. So a back-filled row is read as a snapshot of the day on which it
was written.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from chameleon_usage.models.raw import AUDIT_COLUMNS, AUDIT_OPTIONAL, AUDIT_TABLES, RAW_TABLES
from chameleon_usage.models.raw_table import TIME, RawTable
from chameleon_usage.models.vocabulary import UNREADABLE, Reason

BACKFILL = "backfill"
"""By whom the role says that a back-filled row was written."""
EVENTS = INSERT, UPDATE, DELETE = ("INSERT", "UPDATE", "DELETE")
NOT_WATCHED = {
    "ironic.nodes": ("power_state", "provision_state", "provision_updated_at"),
}
"""Columns that the role keeps and that change often, with no row written for it: that one row shows
a value does not say that it stayed so until the next."""
_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_AUDITED, _EVENT_TIME, _WRITTEN = "audit_event_type", "audit_event_time", "audit_changed_at"


def as_stored(name: str) -> RawTable:
    """Declare the audit table of an input table as its file has it."""
    audited = {column: kind for column, kind in RAW_TABLES[name].columns.items() if column != "id"}
    return _declare(name, AUDIT_COLUMNS, AUDIT_OPTIONAL | audited)


def as_read(name: str) -> RawTable:
    """Declare what ``opened`` makes of it: the audited row's columns, and ``told``."""
    own = AUDIT_COLUMNS | AUDIT_OPTIONAL
    own = {column: kind for column, kind in own.items() if column not in ("id", "data")}
    return replace(
        _declare(name, own | RAW_TABLES[name].validated | {"told": pl.Boolean()}),
        words=RAW_TABLES[name].words,
    )


def _declare(
    name: str, required: dict[str, pl.DataType], optional: dict[str, pl.DataType] | None = None
) -> RawTable:
    return RawTable(
        label=AUDIT_TABLES[name],
        required=required,
        optional=optional or {},
        key=("audit_id",),
        begin=None,
        end=None,
        tells=(),
    )


def opened(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Take the audited rows out of their documents.

    Args:
        rows: an audit table, columns of ``as_stored``.
        name: the input table that it audits.

    Returns:
        columns of ``as_read``, the audited row's as text; ``told`` is false where there is no row,
        since the document is none.
    """
    table = RAW_TABLES[name]
    documents = [_document(value) for value in rows["data"]]
    own_id = rows["id"].cast(pl.String)
    columns = []
    for column in table.columns:
        values = [None if row is None else _text(row.get(column)) for row in documents]
        told = pl.Series(column, values, dtype=pl.String)
        if column != "id":
            told = told.fill_null(rows[column].cast(pl.String, strict=False))
        if (column,) == table.key:
            # Of a table that is known by another column, the number of the row is no key.
            known = own_id if column == "id" else own_id.str.extract(f"({_UUID})")
            told = told.fill_null(known)
        columns.append(told)
    values_of = [column for column in table.columns if column != "id"]
    in_columns = rows.select(pl.any_horizontal(pl.col(values_of).is_not_null())).to_series()
    readable = pl.Series([document is not None for document in documents], dtype=pl.Boolean)
    return (
        rows.select(_AUDITED, "audit_id", _EVENT_TIME, _WRITTEN, "audit_changed_by")
        .hstack(columns)
        .with_columns(told=readable | (in_columns & rows["data"].is_null()))
        .with_columns(pl.lit(None, pl.String).alias(c) for c in NOT_WATCHED.get(name, ()))
        .with_columns(**table.derived)
        .select(list(as_read(name).columns))
    )


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
"""Numbers stay as they are written: each value is cast to its column's type like that of a dump."""


def _document(value: object) -> dict[str, Any] | None:
    try:
        text = value.decode() if isinstance(value, bytes) else str(value)
        found = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: object) -> str | None:
    """Write a member of a document as a dump has it."""
    if value is None or isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, bool) else json.dumps(value)


def refusal(name: str) -> pl.Expr:
    """Say why a row cannot be used, over the columns of ``as_read``; null where it can."""
    key = pl.any_horizontal(pl.col(RAW_TABLES[name].key).is_null())
    return (
        pl.when(~pl.col("told"))
        .then(pl.lit(UNREADABLE.format("data")))
        .when(pl.col(_AUDITED).is_in(EVENTS).fill_null(value=False).not_())
        .then(pl.lit(UNREADABLE.format(_AUDITED)))
        .when(pl.min_horizontal(_WRITTEN, _EVENT_TIME).is_null())
        .then(pl.lit(UNREADABLE.format(_WRITTEN)))
        .when(key)
        .then(pl.lit(Reason.MISSING_KEY))
    )


def observations(rows: pl.DataFrame, name: str, moments: Sequence[datetime]) -> pl.DataFrame:
    """Tell what state of a row each row of an audit table shows, and when.

    The time of a row is ``audit_event_time`` where it has one, but nothing is written down before
    it happens: a column that was added later holds, in older rows, when it was added. Nor does it
    lie before the switch-on.

    Args:
        rows: columns of ``as_read``.
        name: the input table that they audit.
        moments: of the snapshots, in order.

    Returns:
        the input table's columns, and of each state ``seen``, when it was so; ``began``, since
        when, null of a back-filled row; ``unseen``, the next snapshot; ``purged``: the row was
        deleted for good then; ``order``, among those of one moment.
    """
    table = RAW_TABLES[name]
    written, event = pl.col(_WRITTEN), pl.col(_EVENT_TIME)
    switched_on = pl.coalesce(written, event).min()
    # Dumps of other makers may leave out who wrote a row.
    unnamed = pl.col("audit_changed_by").is_null() & (pl.col(_AUDITED) != UPDATE)
    inserted = pl.col(_AUDITED) == INSERT
    own = (
        pl.when(inserted).then(_column(table, "created_at")).otherwise(_column(table, "deleted_at"))
    )
    repeated = unnamed & (event < written) & (event == own)
    backfilled = (pl.col("audit_changed_by") == BACKFILL) | repeated
    time = pl.max_horizontal(pl.min_horizontal(written, event), switched_on)
    ended = pl.col(table.end) if table.end in rows.columns else pl.lit(None, TIME)
    gone = ~pl.col("_backfilled") & (pl.col(_AUDITED) == DELETE)
    made = ~pl.col("_backfilled") & (pl.col(_AUDITED) == INSERT)
    snapshots = pl.DataFrame({"unseen": list(moments)}, schema={"unseen": TIME})
    created = [name for name in ("created_at",) if name in table.kept]
    states = (
        rows.with_columns(_backfilled=backfilled.fill_null(value=False))
        .with_columns(
            pl.when(made).then(pl.coalesce(name, time)).otherwise(name).alias(name)
            for name in created
        )
        .with_columns(
            seen=pl.when(pl.col("_backfilled")).then(pl.coalesce(written, event)).otherwise(time),
            # A row that the service had marked as deleted before was over then, not now.
            began=pl.when(gone)
            .then(pl.min_horizontal(time, ended))
            .when(~pl.col("_backfilled"))
            .then(time),
            purged=gone & ended.is_null(),
        )
        .sort("seen")
        .join_asof(snapshots, left_on="seen", right_on="unseen", strategy="forward")
        .with_columns(pl.coalesce("unseen", "seen"))
        .select(*table.kept, "seen", "began", "unseen", "purged", order="audit_id")
    )
    purged = states.filter("purged").with_columns(unseen="seen")
    # What is deleted was so until then.
    before = purged.with_columns(began=pl.lit(None, TIME), purged=pl.lit(value=False))
    return pl.concat([states.filter(~pl.col("purged")), before, purged])


def not_kept(rows: pl.DataFrame, name: str) -> list[str]:
    """List the columns of the input table of which an audit table tells nothing at all.

    That no row has been marked as deleted does say something, and of what the role does not watch
    only the moment is known.
    """
    table = RAW_TABLES[name]
    others = {table.end, *NOT_WATCHED.get(name, ())}
    empty = (column for column in table.kept if rows[column].null_count() == rows.height)
    return [column for column in empty if column not in others]


def latest(observed: pl.DataFrame, name: str) -> pl.DataFrame:
    """Give an input table as its audit table leaves it: for a site that has no more than that."""
    table = RAW_TABLES[name]
    last = observed.sort("seen", "order").unique(table.key, keep="last", maintain_order=True)
    return last.filter(~pl.col("purged")).select(list(table.kept))


def _column(table: RawTable, column: str) -> pl.Expr:
    return pl.col(column) if column in table.kept else pl.lit(None, TIME)
