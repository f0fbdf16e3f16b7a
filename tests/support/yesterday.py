"""The dump of an earlier moment, made of a later one, of which the rows since then are undone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from support.player import LATER

if TYPE_CHECKING:
    from pathlib import Path

BEGINS = ("created_at", "valid_from", "start_time")


def undone(rows: pl.DataFrame, moment: datetime, today: datetime) -> pl.DataFrame:
    """Take back what a raw table of today tells of the time after a moment."""
    now = pl.lit(moment, pl.Datetime("us"))
    for column in (name for name in BEGINS if name in rows.columns):
        rows = rows.filter((pl.col(column) <= now).fill_null(value=True))
    if "date" in rows.columns:  # a day is cached the next morning
        rows = rows.filter(pl.col("date").dt.offset_by("33h") <= now)
    if "updated_at" in rows.columns:  # what reports every minute did so then, too
        at = pl.col("updated_at")
        rows = rows.with_columns(pl.when(at > now).then(at - (today - moment)).otherwise(at))
    if {"deleted", "deleted_at"} <= set(rows.columns):  # the mark is set with the time
        kind = rows.schema["deleted"]
        alive = pl.lit(0 if kind.is_integer() else None).cast(kind)
        mark = pl.when(pl.col("deleted_at") > now).then(alive).otherwise("deleted")
        rows = rows.with_columns(deleted=mark)
    later = [name for name in LATER if name in rows.columns]
    return rows.with_columns(pl.when(pl.col(later) <= now).then(pl.col(later)))


def write_yesterday(today: Path, folder: Path, days: float = 1) -> Path:
    """Write the dump of some days before that of a site's directory."""
    told = json.loads((today / "manifest.json").read_text(encoding="utf-8"))
    now = datetime.fromisoformat(told["as_of"]).replace(tzinfo=None)
    moment = now - pl.Series([days * 86_400_000]).cast(pl.Duration("ms")).item()
    folder.mkdir(parents=True)
    for path in today.glob("*.parquet"):
        rows = undone(pl.read_parquet(path), moment, now)
        rows.write_parquet(folder / path.name, compression_level=1)
    manifest = json.dumps(told | {"as_of": moment.isoformat()})
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    return folder
