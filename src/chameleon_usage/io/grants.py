"""What is read of a site's databases, and the SQL that permits just that."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS, tables_of
from chameleon_usage.models.cells import place_of
from chameleon_usage.models.raw import (
    AUDIT,
    AUDIT_COLUMNS,
    AUDIT_OPTIONAL,
    AUDIT_TABLES,
    FILES_ONLY,
    RAW_TABLES,
)
from chameleon_usage.models.site import Site

REVISIONS = {"alembic_version": "version_num", "migrate_version": "version"}
"""Where the services' migrations note the revision of a schema: table to column."""


@dataclass(frozen=True)
class Wanted:
    """A table of a site's databases and the columns of it that are read.

    Attributes:
        name: ``<schema>.<table>``.
        required: columns without which the table is of no use.
        optional: columns that are read where they are.
        needed: an adapter of the site cannot do without the table.
        extra: an archive or an audit table, which most sites do not have.
        document: for an audit table, the columns of the audited table to which its JSON document
            is cut on the server, so that nothing else of it is ever read.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    needed: bool = False
    extra: bool = False
    document: tuple[str, ...] = ()

    @property
    def schema(self) -> str:
        """The database, in the words of MySQL."""
        return self.name.partition(".")[0]

    @property
    def table(self) -> str:
        """The name within its schema."""
        return self.name.partition(".")[2]

    @property
    def quoted(self) -> str:
        """The name as SQL has it."""
        return f"{quote(self.schema)}.{quote(self.table)}"


def quote(identifier: str) -> str:
    """Quote an identifier for MySQL and MariaDB."""
    return "`" + identifier.replace("`", "``") + "`"


def wanted(site: Site) -> list[Wanted]:
    """List the database tables that the adapters of a site read, by name.

    The live tables, those of Nova in the database of each cell, their archives (``nova.shadow_*``)
    and, for each live table, its audit table, which holds the changes of its rows where a site has
    switched that on: as documents, or in columns of the same names.

    Raises:
        UsageError: there are none.
    """
    needed = {table for name in site.adapters for table in ADAPTERS[name].tables}
    found = []
    for name in tables_of(site.adapters):
        spec = RAW_TABLES[name]
        if name.partition(".")[0] in FILES_ONLY:
            continue
        columns = tuple(spec.required), tuple(spec.optional)
        for cell in site.cells if name.startswith("nova.") else ("",):
            found.append(Wanted(place_of(name, cell), *columns, needed=name in needed))
            if spec.archive:
                found.append(Wanted(place_of(spec.archive, cell), *columns, extra=True))
        found.append(
            Wanted(
                AUDIT_TABLES[name],
                tuple(AUDIT_COLUMNS),
                (*AUDIT_OPTIONAL, *(column for column in spec.columns if column != "id")),
                extra=True,
                document=tuple(spec.columns),
            )
        )
    if not found:
        raise UsageError(f"site {site.key}: none of its adapters reads a database")
    return sorted(found, key=lambda table: table.name)


def grants(site: Site, user: str, host: str) -> str:
    """Write SQL for MySQL and MariaDB that lets a user read the wanted columns and nothing else.

    What every release of the services has is granted outright, so that a mistake is seen at once;
    what a site may lack is granted where it is, since GRANT fails on a table that is not there.

    Args:
        site: whose adapters are to read.
        user: the account; it is made, locked and without a password, if there is none.
        host: from which it connects.
    """
    tables = wanted(site)
    account = f"{_text(user)}@{_text(host)}"
    lines = [
        f"-- {site.name}: what chameleon-usage reads, and nothing else.",
        "-- To be run by an administrator of the server; run again, it changes nothing.",
        f"CREATE USER IF NOT EXISTS {account} ACCOUNT LOCK;",
        "",
    ]
    lines += [
        f"GRANT SELECT ({', '.join(map(quote, table.required))}) ON {table.quoted} TO {account};"
        for table in tables
        if table.needed
    ]
    lines += ["", "-- Not every site has these: granted where they are."]
    for table in tables:
        columns = table.optional if table.needed else table.required + table.optional
        lines += _where_present(table, columns, account)
    for schema in sorted({table.schema for table in tables} - {AUDIT}):
        for name, column in REVISIONS.items():
            lines += _where_present(Wanted(f"{schema}.{name}", (column,)), (column,), account)
    lines += [
        "",
        "-- Then, with a password of your own (and REQUIRE SSL before ACCOUNT, if you wish):",
        f"-- ALTER USER {account} IDENTIFIED BY '...' ACCOUNT UNLOCK;",
    ]
    return "\n".join(lines) + "\n"


def _where_present(table: Wanted, columns: Sequence[str], account: str) -> Iterator[str]:
    if not columns:
        return
    yield (
        "SELECT IFNULL(CONCAT('GRANT SELECT (', GROUP_CONCAT(CONCAT('`', column_name, '`')),\n"
        f"  {_text(f') ON {table.quoted} TO {account}')}), 'DO 0')\n"
        "  INTO @permit FROM information_schema.columns\n"
        f"  WHERE table_schema = {_text(table.schema)} AND table_name = {_text(table.table)}\n"
        f"  AND column_name IN ({', '.join(map(_text, columns))});\n"
        "PREPARE permit FROM @permit; EXECUTE permit; DEALLOCATE PREPARE permit;"
    )


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
