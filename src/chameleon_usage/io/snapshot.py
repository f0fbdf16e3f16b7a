"""A read-only session that sees all tables of a server as they were at one moment."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncmy
import polars as pl
from asyncmy import converters
from asyncmy.cursors import Cursor, SSCursor
from asyncmy.errors import Error, OperationalError

from chameleon_usage.errors import UsageError
from chameleon_usage.io.columns import Writer, kind_of
from chameleon_usage.io.databases import Address, refused
from chameleon_usage.io.grants import REVISIONS, Wanted, quote
from chameleon_usage.io.privacy import Privacy
from chameleon_usage.models.raw import AUDIT
from chameleon_usage.snapshots.audit import BACKFILL

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK = 5_000
"""Rows taken from the connection at a time."""

_SESSION = (
    "SET time_zone = '+00:00'",
    "SET sql_mode = ''",
    # Text as it is stored: the server would write '?' for bytes that are not of its encoding.
    "SET character_set_results = NULL",
    "SET lock_wait_timeout = 60",  # a table that is just being altered is not waited for all day
    "SET net_write_timeout = 600",
    "SET max_statement_time = 0",  # MariaDB
    "SET max_execution_time = 0",  # MySQL
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
)
_UNKNOWN_VARIABLE, _NO_SUCH_INDEX = 1193, 1176
_OF_ONE_TABLE = {
    1142: "is not granted",
    1143: "is not granted in every column",
    1146: "is gone",
    1054: "has lost a column",
    1205: "is locked",
    1412: "was changed after the snapshot was taken",
}
"""Errors after which the other tables can still be read, and what they say of the table."""


@dataclass(frozen=True)
class Column:
    """What a column holds.

    Attributes:
        kind: its type.
        utf8: its text is in UTF-8, or has no encoding.
        zoned: a time that the server itself gives in the session's time zone (TIMESTAMP).
    """

    kind: pl.DataType
    utf8: bool
    zoned: bool = False


@dataclass(frozen=True)
class Plan:
    """A statement that reads a table, and the types of its columns."""

    table: Wanted
    select: str
    kinds: dict[str, pl.DataType]


def plan(table: Wanted, columns: Mapping[str, Column]) -> Plan | str:
    """Choose the columns that are there; say why the table cannot be read if one is wanting."""
    if not columns:
        return "is not there, or not granted"
    if absent := [name for name in table.required if name not in columns]:
        return f"has no column {', '.join(absent)}, or it is not granted"
    names = [name for name in (*table.required, *table.optional) if name in columns]
    return Plan(
        table,
        f"SELECT {', '.join(_term(table, name, columns) for name in names)} FROM {table.quoted}",
        {name: columns[name].kind for name in names},
    )


def _term(table: Wanted, name: str, columns: Mapping[str, Column]) -> str:
    if table.document and name in _OF_AUDIT:
        return _OF_AUDIT[name](table, columns)
    return quote(name) if columns[name].utf8 else f"CONVERT({quote(name)} USING utf8mb4)"


def _document(table: Wanted, _columns: Mapping[str, Column]) -> str:
    """Cut a document to the columns that are read of the audited table."""
    parts = ", ".join(f"'{part}', JSON_EXTRACT(data, '$.{part}')" for part in table.document)
    return f"IF(JSON_VALID(data), JSON_OBJECT({parts}), NULL)"


def _utc(name: str, columns: Mapping[str, Column]) -> str:
    """Give a time that the server filled in; in a DATETIME it is of the server's own time zone."""
    return name if columns[name].zoned else f"CONVERT_TZ({name}, @@GLOBAL.time_zone, '+00:00')"


def _event_time(_table: Wanted, columns: Mapping[str, Column]) -> str:
    """Give the time of an event: a back-filled one is a service's, which is in UTC as it stands."""
    event = _utc("audit_event_time", columns)
    return f"IF({event} = {_utc('audit_changed_at', columns)}, {event}, audit_event_time)"


_OF_AUDIT: dict[str, Callable[[Wanted, Mapping[str, Column]], str]] = {
    "data": _document,
    "audit_changed_by": lambda *_: f"IF(audit_changed_by = '{BACKFILL}', audit_changed_by, NULL)",
    "audit_changed_at": lambda _, columns: _utc("audit_changed_at", columns),
    "audit_event_time": _event_time,
}
"""How an audit table's own columns are read, where it is not as they stand."""


class TableError(Exception):
    """One table cannot be read; the rest can."""


@dataclass
class Snapshot:
    """A read-only session that sees all tables as they were at one moment."""

    address: Address
    privacy: Privacy | None = None
    connection: asyncmy.connection.Connection = field(init=False)

    async def __aenter__(self) -> Self:
        # Whatever a value is, the server's own bytes come; only what is sent is converted.
        known = converters.conversions.items()
        encoders = {kind: make for kind, make in known if not isinstance(kind, int)}
        try:
            self.connection = await asyncmy.connect(
                **self.address.settings(), use_unicode=False, conv=encoders
            )
        except (Error, OSError) as error:
            raise refused(self.address, error) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self.connection.close()

    async def rows(self, statement: str) -> list[tuple[str | None, ...]]:
        """Run a statement whose answer is short."""
        async with self.connection.cursor() as cursor:
            await cursor.execute(statement)
            found = await cursor.fetchall() if cursor.description else ()
        return [tuple(None if v is None else v.decode() for v in row) for row in found]

    async def begin(self) -> dict[str, str]:
        """Take the snapshot; give its time and the server's version."""
        for setting in _SESSION:
            try:
                await self.rows(setting)
            except Error as error:
                if error.args[0] != _UNKNOWN_VARIABLE:
                    raise
        await self.rows("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        sql = "SELECT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%dT%H:%i:%s'), VERSION()"
        ((as_of, version),) = await self.rows(sql)
        return {"as_of": as_of or "", "server_version": version or ""}

    async def columns(self, schemas: Iterable[str]) -> dict[str, dict[str, Column]]:
        """List what the user may read: table to column to what it is."""
        names = ", ".join(f"'{schema}'" for schema in sorted(schemas))
        found: dict[str, dict[str, Column]] = {}
        for row in await self.rows(
            "SELECT CONCAT(table_schema, '.', table_name), column_name, character_set_name, "
            "data_type, column_type, numeric_precision, numeric_scale "
            "FROM information_schema.columns "
            f"WHERE table_schema IN ({names}) ORDER BY ordinal_position"
        ):
            table, column, encoding, *kind = (value or "" for value in row)
            utf8 = encoding in ("", "ascii") or encoding.startswith("utf8")
            zoned = kind[0] == "timestamp"
            found.setdefault(table, {})[column] = Column(kind_of(*kind), utf8, zoned)
        return found

    async def revisions(self, listed: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
        """Read the revisions of the schemas that tell them."""
        found = {}
        for name in sorted(listed):
            schema, _, table = name.partition(".")
            column = REVISIONS.get(table)
            if column in listed[name] and schema != AUDIT:
                rows = await self.rows(f"SELECT {column} FROM {quote(schema)}.{quote(table)}")
                found[schema] = ", ".join(sorted(str(row[0]) for row in rows))
        return found

    async def dump(self, plan: Plan, folder: Path, bar: "tqdm[Any]") -> dict[str, Any]:
        """Stream a table into its file; give its entry in the manifest."""
        rows = 0
        try:
            # As mysqldump does: so the lock on the table's definition goes when it has been read.
            await self.rows("SAVEPOINT before_table")
            with Writer(folder / f"{plan.table.name}.parquet", plan.kinds, self.privacy) as writer:
                cursor = await self._open(plan.select)
                while chunk := await cursor.fetchmany(CHUNK):
                    writer.add(chunk)
                    rows += len(chunk)
                    bar.update(len(chunk))
                await cursor.close()
            await self.rows("ROLLBACK TO SAVEPOINT before_table")
        except Error as error:
            said = _OF_ONE_TABLE.get(error.args[0])
            if said and self.connection.connected:
                (folder / f"{plan.table.name}.parquet").unlink(missing_ok=True)
                raise TableError(f"{said} ({error.args[1]})") from None
            raise UsageError(
                f"{self.address}: the connection was lost in {plan.table.name} after {rows:,} rows "
                f"({error.args[-1]}); nothing was written, run it again"
            ) from None
        return writer.facts

    async def _open(self, select: str) -> Cursor:
        """Begin to read in the order of the primary key, so that equal tables make equal files."""
        cursor = self.connection.cursor(cursor=SSCursor)
        try:
            await cursor.execute(f"{select} FORCE INDEX (PRIMARY)")
        except OperationalError as error:
            if error.args[0] != _NO_SUCH_INDEX:
                raise
            await cursor.execute(select)
        return cursor
