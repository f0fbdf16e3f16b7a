"""Outputs as tables of MySQL, MariaDB, PostgreSQL or SQLite.

All tables of one call change together: a reader sees the rows of before or those of after, never
an empty table and never half of one. Rows of sites that are not written stay as they are.
"""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dataframely as dy
import polars as pl
import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from chameleon_usage.errors import UsageError
from chameleon_usage.io import databases
from chameleon_usage.models.outputs import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pymysql
    from pymysql.cursors import Cursor

MYSQL, POSTGRESQL, SQLITE = "mysql", "postgresql", "sqlite"
DRIVERS = {MYSQL: "mysql+pymysql://", POSTGRESQL: "postgresql+psycopg", SQLITE: "sqlite+pysqlite"}

KEY_LENGTH = 128
"""Characters of a text that is part of a key; MySQL allows 768 in a whole key."""
ROWS_AT_ONCE = 10_000
NEW = "__new"
"""What the name of a table ends with that is being filled for the first time."""

ADVICE = {
    MYSQL: "Check that the database is there and that the user has SELECT, INSERT, DELETE, CREATE, "
    "ALTER and DROP on it",
    POSTGRESQL: "Check host, user and password, that the database is there, and that the user may "
    "create tables in it",
    SQLITE: "Check that the directory is there and can be written, and that no other program keeps "
    "the file locked",
}
"""What helps most often where a database refuses."""


def write_sql(
    tables: Mapping[str, pl.DataFrame],
    sites: Collection[str],
    target: str,
    *,
    option_file: Path | None = None,
) -> None:
    """Put output tables into a database, in place of the rows of the same sites.

    Args:
        tables: output table name to frame (models.outputs.OUTPUTS), each with a ``site`` column.
        sites: whose rows the frames hold, and no others.
        target: ``SCHEME://USER@HOST:PORT/DATABASE`` or ``sqlite:///FILE``, without a password; or
            ``${NAME}``, an environment variable that holds such a URI, with or without one.
        option_file: of the MySQL client, for user and password.

    Raises:
        UsageError: the database cannot be reached, refuses, or holds a table of that name with
            other columns. What was there before is then as it was.
    """
    engine, place = _engine(target, option_file)
    try:
        with engine.connect() as session:
            _write(session, tables, sites, place)
    except (SQLAlchemyError, psycopg.Error) as error:
        # The statement and its values are left out, and with them whatever is confidential.
        answer = " ".join(str(getattr(error, "orig", None) or error).split())
        raise UsageError(
            f"{place}: {answer}; what was there before is untouched. {ADVICE[engine.dialect.name]}"
        ) from None
    finally:
        engine.dispose()


def _write(
    session: sa.Connection,
    tables: Mapping[str, pl.DataFrame],
    sites: Collection[str],
    place: str,
) -> None:
    there = set(sa.inspect(session).get_table_names())
    # MySQL ends a transaction at each CREATE: there a new table is filled under another name.
    ending = NEW if session.dialect.name == MYSQL else ""
    stored = {name: sql_table(name, "" if name in there else ending) for name in tables}
    fresh = [table for name, table in stored.items() if name not in there]
    for name in stored.keys() & there:
        _compare(session, stored[name], place)
    try:
        for table in fresh:
            table.drop(session, checkfirst=True)
            table.create(session)
        for name, frame in tables.items():
            session.execute(sa.delete(stored[name]).where(stored[name].c.site.in_(sites)))
            _fill(session, stored[name], frame)
        session.commit()
        if ending and fresh:
            pairs = [f"{table.name} TO {table.name.removesuffix(ending)}" for table in fresh]
            session.exec_driver_sql(f"RENAME TABLE {', '.join(pairs)}")
    except BaseException:
        session.rollback()
        for table in fresh if ending else ():
            table.drop(session, checkfirst=True)
        raise


def _fill(session: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
    """Append rows by the fastest way that each driver has."""
    frame = frame.select(table.columns.keys())
    if session.dialect.name == POSTGRESQL:
        copy = f"COPY {table.name} ({', '.join(frame.columns)}) FROM STDIN CSV"
        raw = cast("psycopg.Connection", session.connection.driver_connection)
        with raw.cursor() as cursor, cursor.copy(copy) as out:
            for part in frame.iter_slices(ROWS_AT_ONCE):
                out.write(part.write_csv(include_header=False))
        return
    insert = str(sa.insert(table).compile(dialect=session.dialect))
    frame = frame.with_columns(
        pl.selectors.datetime().dt.strftime("%F %T"), pl.selectors.enum().cast(pl.String)
    )
    for part in frame.iter_slices(ROWS_AT_ONCE):
        session.exec_driver_sql(insert, part.rows())


def sql_table(name: str, ending: str = "") -> sa.Table:
    """Give the table of an output as its contract defines it: columns, types, key.

    Times are UTC: ``TIMESTAMP WITH TIME ZONE`` in PostgreSQL, ``DATETIME`` elsewhere.

    Args:
        name: the output (models.outputs.OUTPUTS).
        ending: what the table's own name has beyond it.
    """
    columns = [
        sa.Column(
            column_name,
            _kind(column),
            primary_key=column.primary_key,
            nullable=column.nullable,
            autoincrement=False,
        )
        for column_name, column in OUTPUTS[name].columns().items()
    ]
    return sa.Table(
        name + ending,
        sa.MetaData(),
        *columns,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )


def _kind(column: dy.Column) -> sa.types.TypeEngine[Any]:
    if isinstance(column, dy.Enum | dy.String):
        return sa.String(KEY_LENGTH) if column.primary_key else sa.Text()
    if isinstance(column, dy.Datetime):
        return sa.DateTime(timezone=True)
    numbers: dict[pl.DataType, sa.types.TypeEngine[Any]] = {
        pl.Float64(): sa.Double(),
        pl.Int64(): sa.BigInteger(),
        pl.Boolean(): sa.Boolean(),
    }
    return numbers[column.dtype]


def _compare(session: sa.Connection, table: sa.Table, place: str) -> None:
    """Refuse a table that is called like an output and is none."""
    inspector = sa.inspect(session)
    found = [column["name"] for column in inspector.get_columns(table.name)]
    key = inspector.get_pk_constraint(table.name)["constrained_columns"]
    wanted = [column.name for column in table.columns]
    wanted_key = [column.name for column in table.primary_key]
    if sorted(found) != sorted(wanted) or sorted(key) != sorted(wanted_key):
        raise UsageError(
            f"{place}: table {table.name} is there with the columns {', '.join(found)} and the key "
            f"({', '.join(key)}), not {', '.join(wanted)} with ({', '.join(wanted_key)}): "
            "drop or rename it, or export to another database"
        )


# --- connections --------------------------------------------------------------------------------


def _engine(target: str, option_file: Path | None) -> tuple[sa.Engine, str]:
    """Give an engine of SQLAlchemy, and how a message names the database."""
    uri, place = databases.reveal(target)
    url = databases.read_url(uri)
    scheme = url.get_backend_name() if url else ""
    if scheme in databases.SCHEMES:
        return _mysql(databases.resolve(target, option_file=option_file))
    if url is None or scheme not in DRIVERS or not url.database:
        raise UsageError(
            f"{place} is no address of a database: expected SCHEME://USER@HOST:PORT/DATABASE with "
            f"mysql, mariadb or postgresql, or sqlite:///FILE; special characters in user and "
            "password are percent-encoded"
        )
    return _sqlite(url) if scheme == SQLITE else _postgresql(url)


def _mysql(address: databases.Address) -> tuple[sa.Engine, str]:
    if not address.database:
        raise UsageError(f"{address}: no database in the URI; add it: mysql://USER@HOST/DATABASE")

    def connect() -> pymysql.Connection[Cursor]:
        session = databases.connect(replace(address, database=""))
        session.select_db(address.database)
        with session.cursor() as cursor:
            # What does not fit is refused, not cut.
            cursor.execute("SET SESSION sql_mode = 'TRADITIONAL'")
        return session

    engine = sa.create_engine(
        DRIVERS[MYSQL], creator=connect, paramstyle="format", hide_parameters=True
    )
    return engine, f"{address}/{address.database}"


def _postgresql(url: sa.URL) -> tuple[sa.Engine, str]:
    """Leave a password that is not in the URI to libpq's own ways, or ask for it."""
    shown = sa.URL.create(POSTGRESQL, url.username, None, url.host, url.port, url.database)
    place = shown.render_as_string()
    libpq = {"PGPASSWORD", "PGPASSFILE", "PGSERVICE"} & os.environ.keys()
    known = url.password or libpq or Path("~/.pgpass").expanduser().exists()
    if not known and sys.stdin.isatty():
        url = url.set(password=getpass.getpass(f"Password of {place}: "))
    url = url.set(drivername=DRIVERS[POSTGRESQL])
    arguments = {"connect_timeout": databases.CONNECT_TIMEOUT}
    return sa.create_engine(url, connect_args=arguments, hide_parameters=True), place


def _sqlite(url: sa.URL) -> tuple[sa.Engine, str]:
    engine = sa.create_engine(url.set(drivername=DRIVERS[SQLITE]), hide_parameters=True)
    # Python's driver would leave CREATE outside the transaction; it is told to begin none.
    sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    sa.event.listen(engine, "begin", lambda session: session.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine, f"{url.database}"
