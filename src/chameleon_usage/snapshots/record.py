"""The record that grows: each new dump leaves behind what it supersedes, and nothing else.

A site's directory holds the current dump whole. What is no longer in it lies in
``history/<as_of>``, an increment for each later snapshot: the rows that were changed or gone when
that snapshot was made, as they had been, and the keys of the rows that were new. An increment is a
step back: undone one after the other from the current dump, they give every earlier one.
"""

import filecmp
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import OLD, save_tables, whole_directory
from chameleon_usage.models import cells
from chameleon_usage.models.raw import AUDIT_TABLES, RAW_TABLES
from chameleon_usage.snapshots.history import (
    ADDED,
    CHANGE_TYPE,
    CHANGED,
    FORM,
    GONE,
    HISTORY,
    MANIFEST,
    UNREAD,
    Increment,
    increments,
    manifest_as_of,
)

ROWS_AT_ONCE = 1_000_000
"""Larger tables are compared in parts, so that memory does not grow with them."""

_KEYS = (
    {name: table.key for name, table in RAW_TABLES.items()}
    | {table.archive: table.key for table in RAW_TABLES.values() if table.archive}
    | dict.fromkeys(AUDIT_TABLES.values(), ("audit_id",))
)


@dataclass(frozen=True)
class Changes:
    """What a snapshot changed in a table.

    Attributes:
        added: keys that were not there before.
        changed: rows that another row of the same key took the place of.
        gone: rows whose key is no longer there.
        whole: the tables cannot be compared row by row (a column or the whole table is missing
            from the newer, or is of another type), and the older is kept whole.
    """

    added: int = 0
    changed: int = 0
    gone: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Dump:
    """A dump in memory.

    Attributes:
        as_of: when it was made.
        tables: ``<schema>.<table>`` to frame.
        manifest: what its manifest.json said.
    """

    as_of: datetime
    tables: dict[str, pl.DataFrame]
    manifest: dict[str, Any]


# --- frames -----------------------------------------------------------------------------------


def diff(old: pl.DataFrame, new: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Find what ``new`` supersedes of ``old``.

    Rows are compared whole, in the columns of ``old``; their order does not count. A key that
    comes several times is superseded with all its rows, or not at all.

    Args:
        old: the earlier state of a table.
        new: the later one, with at least the columns of ``old``, of the same types.
        key: columns that identify a row.

    Returns:
        the columns of ``old`` and ``record_fate``: rows of ``old`` that are ``changed`` or
        ``gone``, and for each key that only ``new`` has a row ``added``, null in the other columns;
        sorted.
    """
    new, keys = new.select(old.columns), list(key)
    touched = _touched(old, new, keys)
    before, after = (
        frame.join(touched, on=keys, how="semi", nulls_equal=True) for frame in (old, new)
    )
    parts = (
        (before.join(after, on=keys, how="semi", nulls_equal=True), CHANGED),
        (before.join(after, on=keys, how="anti", nulls_equal=True), GONE),
        (after.select(keys).unique().join(before, on=keys, how="anti", nulls_equal=True), ADDED),
    )
    return pl.concat(
        [rows.with_columns(pl.lit(change).alias(CHANGE_TYPE)) for rows, change in parts],
        how="diagonal",
    ).sort(*keys, *old.columns, nulls_last=True)


def _touched(old: pl.DataFrame, new: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Find the keys whose rows are not the same in both."""
    if any(frame.select(key).is_duplicated().any() for frame in (old, new)):
        # All rows of a key count together.
        counted = [frame.group_by(old.columns).len("_n") for frame in (old, new)]
        return pl.concat(
            one.join(other, on=one.columns, how="anti", nulls_equal=True).select(key)
            for one, other in (counted, counted[::-1])
        )
    # Each key comes once: compared a column at a time, in a quarter of the time.
    places = (
        old.select(key)
        .with_row_index("_old")
        .join(
            new.select(key).with_row_index("_new"),
            on=key,
            how="full",
            coalesce=True,
            nulls_equal=True,
        )
    )
    both = places.drop_nulls(["_old", "_new"])
    differs = pl.zeros(both.height, dtype=pl.Boolean, eager=True)
    for column in set(old.columns) - set(key):
        differs |= old[column].gather(both["_old"]).ne_missing(new[column].gather(both["_new"]))
    alone = places.filter(pl.col("_old").is_null() | pl.col("_new").is_null())
    return pl.concat([both.filter(differs), alone]).select(key)


def undo(new: pl.DataFrame, increment: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Take a step back: give the table that ``diff`` found the increment of.

    Args:
        new: the later state of a table.
        increment: what ``diff`` gave.
        key: the same as there.

    Returns:
        the earlier state, its rows in no particular order.
    """
    kept = new.join(increment.select(key), on=list(key), how="anti", nulls_equal=True)
    before = increment.filter(pl.col(CHANGE_TYPE) != ADDED).drop(CHANGE_TYPE)
    return pl.concat([kept.select(before.columns), before])


def key_of(name: str, columns: Sequence[str]) -> list[str]:
    """Tell by which columns the rows of a table are known."""
    for key in (_KEYS.get(cells.table_of(name), ()), ("uuid",), ("id",)):
        if key and set(key) <= set(columns):
            return list(key)
    return list(columns)


# --- files ------------------------------------------------------------------------------------


def add_snapshot(site_dir: Path, dump: Path) -> dict[str, Changes]:
    """Let a new dump take the place of a site's current one, and keep what it supersedes.

    The site's directory is replaced whole or not at all; interrupted, nothing has happened, and
    the same call again does it. The dump itself is copied and stays. Files and folders beside the
    tables stay with the site.

    Args:
        site_dir: ``<data-dir>/<site>``; need not be there for the first snapshot.
        dump: a directory with ``<schema>.<table>.parquet`` files and a ``manifest.json``, whose
            ``as_of`` is later than the current dump's.

    Returns:
        what changed in each table; empty if the site holds this very dump already.

    Raises:
        UsageError: the dump has no table or no ``as_of``, is not later than the current one, or
            cannot be read; or the site's directory cannot be written.
    """
    if not _tables(dump):
        raise UsageError(
            f"{dump} holds no <schema>.<table>.parquet file: name the directory of a site's dump"
        )
    manifest_as_of(dump / MANIFEST)
    if _tables(site_dir) and _same_files(site_dir, dump):
        return {}
    with recording(site_dir) as scratch:
        shutil.copytree(dump, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns(HISTORY))
    return last_changes(site_dir)


@contextmanager
def recording(site_dir: Path, tables: Collection[str] | None = None) -> Iterator[Path]:
    """Fill a directory with a dump that takes the place of a site's current one.

    What the new dump supersedes is kept. All this happens whole or not at all.

    Args:
        site_dir: ``<data-dir>/<site>``; need not be there for the first snapshot.
        tables: those that a dump may hold; other ones beside them stay. Default: all.

    Yields:
        a scratch directory for the tables and the ``manifest.json`` with its ``as_of``.

    Raises:
        UsageError: as ``add_snapshot``.
    """
    with whole_directory(site_dir) as scratch:
        stray = sorted(site_dir.parent.glob(f".{site_dir.name}.*/{OLD}"))
        if stray and not site_dir.exists():
            raise UsageError(
                f"{site_dir} is not there, but {stray[-1]} is, which an interrupted run moved "
                f"away: name it {site_dir} again"
            )
        since = _since(site_dir, tables)
        yield scratch
        as_of = manifest_as_of(scratch / MANIFEST)
        if since is not None and since >= as_of:
            raise UsageError(
                f"{site_dir} holds the dump of {since}, and the new one's as_of {as_of} is not "
                "later: record dumps in the order in which they were made"
            )
        _carry(site_dir, scratch, _tables(site_dir) if tables is None else tables)
        if since is not None:
            target = scratch / HISTORY / as_of.strftime(FORM)
            target.mkdir(parents=True)
            _write_increment(site_dir, scratch, target, since=since, as_of=as_of)
        if _since(site_dir, tables) != since:
            raise UsageError(f"{site_dir} changed meanwhile: record one dump at a time")


def last_changes(site_dir: Path) -> dict[str, Changes]:
    """Tell what a site's current dump changed in each table; empty if it is the first."""
    at = manifest_as_of(site_dir / MANIFEST)
    return {
        name: Changes(**counts)
        for step in increments(site_dir)
        if step.as_of == at
        for name, counts in step.manifest["tables"].items()
    }


def _since(site_dir: Path, tables: Collection[str] | None) -> datetime | None:
    held = _tables(site_dir).keys()
    there = held if tables is None else held & set(tables)
    return manifest_as_of(site_dir / MANIFEST) if there else None


def dump_as_of(site_dir: Path, moment: datetime) -> Dump:
    """Give a site's dump as it stood at a moment: that of the last snapshot until then.

    Args:
        site_dir: ``<data-dir>/<site>``.
        moment: naive UTC.

    Returns:
        every table with the rows and columns that it had; rows in no particular order.

    Raises:
        UsageError: the record does not reach back so far, or has a gap where a dump took the place
            of another without being recorded.
    """
    at = manifest_as_of(site_dir / MANIFEST)
    tables = {name: _read(path) for name, path in _tables(site_dir).items()}
    manifest = json.loads((site_dir / MANIFEST).read_text())
    for step in reversed(increments(site_dir)):
        if at <= moment:
            break
        if step.as_of != at:
            raise UsageError(
                f"{site_dir}: the record has a gap between {step.as_of} and {at}, where a dump was "
                f"put in place without 'chameleon-usage record'; it can be read from {at} on"
            )
        names = step.manifest["tables"]
        tables = {name: _before(step, name, tables.get(name)) for name in names}
        at, manifest = step.since, step.manifest["superseded"]
    if at > moment:
        raise UsageError(f"{site_dir}: the record begins at {at}, after {moment}")
    return Dump(at, tables, manifest)


def restore(site_dir: Path, moment: datetime, target: Path) -> datetime:
    """Write a site's dump as it stood at a moment (``dump_as_of``) to a directory of its own.

    Returns:
        when that dump was made.

    Raises:
        UsageError: as ``dump_as_of``, or the directory is there already or cannot be written.
    """
    if target.exists():
        raise UsageError(f"{target} is there already: name a new directory")
    dump = dump_as_of(site_dir, moment)
    with whole_directory(target) as scratch:
        save_tables(scratch, dump.tables)
        (scratch / MANIFEST).write_text(json.dumps(dump.manifest, indent=2) + "\n")
    return dump.as_of


def _before(step: Increment, name: str, new: pl.DataFrame | None) -> pl.DataFrame:
    """Undo one increment of one table."""
    path = step.path / f"{name}.parquet"
    if step.manifest["tables"][name]["whole"] or new is None:
        return _read(path).drop(CHANGE_TYPE)
    if not path.exists():
        return new
    return undo(new, _read(path), key_of(name, new.columns))


def _write_increment(
    site_dir: Path, dump: Path, target: Path, *, since: datetime, as_of: datetime
) -> None:
    old, new = _tables(site_dir), _tables(dump)
    changes = {}
    for name, path in old.items():
        if name in new and filecmp.cmp(path, new[name], shallow=False):
            changes[name] = Changes()
            continue
        increment, whole, wider = _compare(name, path, new.get(name))
        rows = dict(increment[CHANGE_TYPE].value_counts().iter_rows())
        changes[name] = Changes(
            rows.get(ADDED, 0),
            rows.get(CHANGED, 0),
            rows.get(GONE, 0) + rows.get(UNREAD, 0),
            whole=whole,
        )
        if increment.height or whole or wider:
            save_tables(target, {name: increment})
    manifest = {
        "as_of": as_of.isoformat(),
        "since": since.isoformat(),
        "tables": {name: asdict(change) for name, change in changes.items()},
        "superseded": json.loads((site_dir / MANIFEST).read_text()),
    }
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _compare(name: str, old: Path, new: Path | None) -> tuple[pl.DataFrame, bool, bool]:
    """Compare a table of two dumps.

    Returns:
        (the increment, whether it is the old table whole, whether the new one has more columns)
    """
    if new is None:
        return _read(old).with_columns(pl.lit(UNREAD).alias(CHANGE_TYPE)), True, False
    kinds, now = _schema(old), _schema(new)
    key = key_of(name, list(kinds))
    if any(now.get(column) != kind for column, kind in kinds.items()):
        rows = _read(old)
        here = pl.lit(value=False)
        if set(key) <= set(now):
            as_text = pl.concat_str(pl.col(key).cast(pl.String), separator="|", ignore_nulls=True)
            here = as_text.is_in(_read(new).select(as_text).to_series().implode())
        change = pl.when(here).then(pl.lit(CHANGED)).otherwise(pl.lit(GONE))
        return rows.with_columns(change.alias(CHANGE_TYPE)), True, False
    parts = [diff(*pair, key) for pair in _parts(old, new, key)]
    increment = pl.concat(parts)
    if len(parts) > 1:
        increment = increment.sort(*key, *kinds, nulls_last=True)
    return increment, False, len(now) > len(kinds)


def _parts(old: Path, new: Path, key: list[str]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Read two files by parts of limited size; all rows of one key are in the same part."""
    parts = max(_rows(old), _rows(new)) // ROWS_AT_ONCE + 1
    if parts == 1:
        yield _read(old), _read(new)
        return
    number = pl.struct(key).hash() % parts
    for part in range(parts):
        yield _read(old, number == part), _read(new, number == part)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); extract the table again, or "
            "take the file back from a copy"
        ) from error


def _schema(path: Path) -> dict[str, pl.DataType]:
    with _reading(path):
        return pl.read_parquet_schema(path)


def _rows(path: Path) -> int:
    with _reading(path):
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _read(path: Path, part: pl.Expr | None = None) -> pl.DataFrame:
    with _reading(path):
        scan = pl.scan_parquet(path)
        return (scan if part is None else scan.filter(part)).collect()


def _tables(directory: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(directory.glob("*.parquet"))}


def _same_files(one: Path, other: Path) -> bool:
    tables = _tables(one), _tables(other)
    names = [*(path.name for path in tables[0].values()), MANIFEST]
    return tables[0].keys() == tables[1].keys() and not any(filecmp.cmpfiles(one, other, names)[1:])


def _carry(site_dir: Path, scratch: Path, tables: Collection[str]) -> None:
    """Take along what is not of the dump: the history, and whatever else lies there."""
    superseded = {f"{name}.parquet" for name in tables} | {MANIFEST}
    for path in site_dir.rglob("*"):
        inner = path.relative_to(site_dir)
        if path.is_dir():
            (scratch / inner).mkdir(parents=True, exist_ok=True)
        elif inner.as_posix() not in superseded and not (scratch / inner).exists():
            (scratch / inner).parent.mkdir(parents=True, exist_ok=True)
            _link(path, scratch / inner)


def _link(path: Path, copy: Path) -> None:
    """Give a file a second name where the file system can, so that it costs no space."""
    try:
        os.link(path, copy)
    except OSError:
        shutil.copy2(path, copy)
