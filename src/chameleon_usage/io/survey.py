"""Ask a database what is there: services, releases, cells, rows and dates; no row is copied."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

import pymysql

from chameleon_usage.ingest.registry import ADAPTERS, tables_of
from chameleon_usage.io.databases import Address, connect
from chameleon_usage.io.grants import REVISIONS, quote
from chameleon_usage.models.cells import SCHEMA
from chameleon_usage.models.raw import AUDIT, FILES_ONLY, RAW_TABLES
from chameleon_usage.models.site import DEFAULT_SOURCES
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE

SCHEMAS = [*sorted({name.partition(".")[0] for name in RAW_TABLES} - {*FILES_ONLY}), AUDIT]
"""The services' schemas of which something is read."""
ALSO = ("ironic",)
"""A schema that is named where it is there; nothing is read of it."""

_REVISIONS = {
    "8f2f1571d55b": "Xena to Zed",
    "16f1fbcab42b": "Xena to Zed",
    "ccb0fa1a2252": "Xena to Zed",
    "960aac0e09ea": "2023.1",
    "1b91788ec3a6": "2023.2",
    "1acf2c98e646": "2023.2",
    "13863f4e1612": "2024.1 or 2024.2",
    "d60bddf7a903": "2025.1 to 2026.1",
    "2903cd72dc14": "2025.1 to 2026.1",
    "ab450ba04102": "2026.2 or later",
    "d67eeaabee36": "Xena",
    "b30f573d3377": "Yoga to 2023.1",
    "cdeec0c85668": "2023.2 or later",
    "02e2f2186d98": "2020 to 2023.2",
    "553383923ca0": "2024.1 or later",
    "f979327df44b": "2020 to 2023.2",
    "3f2b36231bee": "2024.1 or later",
}
"""Last revision of a schema (of Nova, its API, Blazar, Zun) to the releases that end with it."""
_COLUMNS = (
    ("instances", "compute_id", "2023.2 or later"),
    ("instances", "hidden", "Train to 2023.1"),
    ("resource_properties", "id", "2020 or later"),
)
"""Table, a column of it, and the releases that have it: where no revision can be read."""

LATE = timedelta(days=30)
"""A source that begins later than others by more than this may not know the time before."""
_TIMES = ("created_at", "updated_at", "deleted_at")


class Server(Protocol):
    """What is asked of a database server."""

    def version(self) -> str:
        """Give its version."""
        ...

    def columns(self) -> dict[str, set[str]]:
        """List the columns that can be read, by ``<schema>.<table>``."""
        ...

    def revisions(self, table: str, column: str) -> list[str]:
        """Give the values of a table of revisions."""
        ...

    def extent(self, table: str, times: Sequence[str]) -> tuple[int, str, str] | None:
        """Count the rows; give the first and last of their times; None if it may not be read."""
        ...


class Database:
    """A MySQL or MariaDB server."""

    def __init__(self, address: Address) -> None:
        self._connection = connect(address)

    def _rows(self, statement: str) -> Sequence[tuple[object, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def version(self) -> str:
        """Give its version."""
        return str(self._rows("SELECT VERSION()")[0][0])

    def columns(self) -> dict[str, set[str]]:
        """List the columns that can be read, by ``<schema>.<table>``."""
        found: dict[str, set[str]] = {}
        for table, column in self._rows(
            "SELECT CONCAT(table_schema, '.', table_name), column_name "
            "FROM information_schema.columns"
        ):
            found.setdefault(str(table), set()).add(str(column))
        return found

    def revisions(self, table: str, column: str) -> list[str]:
        """Give the values of a table of revisions; none if it may not be read."""
        try:
            rows = self._rows(f"SELECT {quote(column)} FROM {_quoted(table)}")
        except pymysql.Error:
            return []
        return sorted(str(row[0]) for row in rows)

    def extent(self, table: str, times: Sequence[str]) -> tuple[int, str, str] | None:
        """Count the rows; give the first and last of their times; None if it may not be read."""
        # No zero date, and no date that stands for "never".
        sound = [
            f"CASE WHEN {quote(name)} BETWEEN '1990-01-01' AND '2999-01-01' THEN {quote(name)} END"
            for name in times
        ]
        asked = "".join(f", MIN({term}), MAX({term})" for term in sound)
        try:
            [[count, *found]] = self._rows(f"SELECT COUNT(*){asked} FROM {_quoted(table)}")
        except pymysql.Error:
            return None
        told = sorted(str(moment)[:10] for moment in found if moment is not None) or [""]
        return int(str(count)), told[0], told[-1]


def _quoted(table: str) -> str:
    return ".".join(map(quote, table.split(".", 1)))


@dataclass(frozen=True)
class Found:
    """A table of the database.

    Attributes:
        name: as the program calls it; those of a cell count as Nova's.
        place: ``<schema>.<table>`` on the server.
        rows: their number; None where they cannot be counted.
        first, last: dates, or empty.
        lacking: columns without which it is of no use.
    """

    name: str
    place: str
    rows: int | None
    first: str = ""
    last: str = ""
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What is on a server.

    Attributes:
        version: of the server.
        releases: schema to what can be told of its release.
        cells: schemas that hold Nova's tables of a cell.
        tables: those that adapters can read.
    """

    version: str
    releases: Mapping[str, str] = field(default_factory=dict)
    cells: tuple[str, ...] = ()
    tables: tuple[Found, ...] = ()

    def of(self, name: str) -> list[Found]:
        """List the tables of a name that are of use: several where there are cells."""
        return [table for table in self.tables if table.name == name and not table.lacking]

    def has_rows(self, name: str) -> bool:
        """Whether a table holds rows, or may: some cannot be counted."""
        return any(table.rows != 0 for table in self.of(name))

    def adapters(self) -> dict[str, list[str]]:
        """Give the adapters that can run, and the tables that each finds."""
        able = {}
        for name, adapter in ADAPTERS.items():
            needed = [table for table in adapter.tables if table not in adapter.may_be_empty]
            there = all(self.of(table) for table in adapter.tables)
            if there and all(map(self.has_rows, needed or adapter.tables)):
                found = [table for table in tables_of([name]) if self.has_rows(table)]
                if needed or adapter.tables or found:
                    able[name] = found
        return able

    def first(self, name: str) -> str:
        """Give the first date of a table, or nothing."""
        return min((table.first for table in self.of(name) if table.first), default="")


def survey(server: Server) -> Survey:
    """Ask a server what is there."""
    columns = server.columns()
    schemas = sorted({table.partition(".")[0] for table in columns})
    cells = tuple(
        schema
        for schema in schemas
        if {f"{schema}.instances", f"{schema}.compute_nodes"} <= set(columns)
    )
    known = [name for name in schemas if name in (*SCHEMAS, *ALSO) or name in cells]
    releases = {name: _release(server, name, columns) for name in known}
    tables = [
        found
        for name in sorted(RAW_TABLES)
        if name.partition(".")[0] not in FILES_ONLY
        for found in _tables(server, name, cells, columns)
    ]
    return Survey(server.version(), releases, cells, tuple(tables))


def _tables(
    server: Server, name: str, cells: Sequence[str], columns: Mapping[str, Collection[str]]
) -> Iterator[Found]:
    schema, _, table = name.partition(".")
    spec = RAW_TABLES[name]
    for place in [f"{cell}.{table}" for cell in cells] if schema == "nova" else [name]:
        if there := columns.get(place):
            times = [time for time in _TIMES if time in there]
            times = times or [time for time in (spec.begin, spec.end) if time and time in there]
            lacking = tuple(column for column in spec.required if column not in there)
            extent = server.extent(place, times)
            rows, first, last = extent or (None, "", "")
            yield Found(name, place, rows, first, last, lacking)


def _release(server: Server, schema: str, columns: Mapping[str, Collection[str]]) -> str:
    told: dict[str, list[str]] = {}
    for table, column in REVISIONS.items():
        if column in columns.get(f"{schema}.{table}", ()):
            told[table] = server.revisions(f"{schema}.{table}", column)
    if revisions := told.get("alembic_version"):
        names = sorted({_REVISIONS.get(one, "unknown to this program") for one in revisions})
        return f"release {', '.join(names)} (revision {', '.join(revisions)})"
    if numbers := told.get("migrate_version"):
        return f"release Wallaby or older (migration {', '.join(numbers)})"
    for table, column, release in _COLUMNS:
        if column in columns.get(f"{schema}.{table}", ()):
            return f"release {release}, by its columns"
    return "release not told"


def write_entry(found: Survey, key: str, variable: str) -> str:
    """Write a commented site configuration of what a survey found.

    Args:
        found: the survey.
        key: of the site.
        variable: the environment variable that holds the address.

    Returns:
        YAML; it names the variable and repeats nothing of the address.
    """
    lines = [
        "# Written by 'chameleon-usage init': what the database shows to the account that asked.",
        f"# Server: {found.version}.",
    ]
    for schema, release in found.releases.items():
        lines += ["#", f"# {schema}: {release}"]
        tables = [table for table in found.tables if table.place.startswith(f"{schema}.")]
        lines += [f"#   {_described(table)}" for table in tables]
    if absent := [name for name in SCHEMAS if name not in found.releases]:
        lines += ["#", f"# Not there, or not granted: {', '.join(absent)}."]
    readable = [cell for cell in found.cells if re.fullmatch(SCHEMA, cell)]
    for cell in found.cells:
        if cell not in readable:
            lines.append(
                f"# {cell} holds a cell of Nova that 'extract' does not read, for its name: dump "
                f"its tables as nova_{cell}.<table>.parquet"
            )
    cells = [f"  cells: [{', '.join(readable)}] # Nova's"] * (readable not in ([], ["nova"]))
    able = found.adapters()
    lines += [
        "",
        f"{key}:",
        f"  name: {key.replace('_', ' ').title()} # for readers",
        "  # The variable that holds mysql://USER:PASSWORD@HOST:PORT. No secret goes here.",
        f"  db_uri: ${{{variable}}}",
        *cells,
        "  # What reads the tables. Take out what the site is not to count.",
        f"  adapters:{'' if able else ' [] # nothing that can be read was found'}",
        *(f"    - {name} # {', '.join(tables)}" for name, tables in able.items()),
    ]
    for name in ADAPTERS:
        if name not in able and not {t.partition(".")[0] for t in tables_of([name])} & FILES_ONLY:
            lines.append(f"    # - {name}: {_why_not(found, name)}")
    return "\n".join([*lines, *_sources(found, able), *_gaps(found), ""])


def _described(table: Found) -> str:
    name = table.place.partition(".")[2]
    rows = "cannot be read" if table.rows is None else f"{table.rows:,} rows"
    dates = f", {table.first} to {table.last}" if table.first else ""
    lacking = f"; of no use without {', '.join(table.lacking)}" if table.lacking else ""
    return f"{name}: {rows}{dates}{lacking}"


def _why_not(found: Survey, name: str) -> str:
    needed = ADAPTERS[name].tables or tables_of([name])
    absent = [table for table in needed if not found.of(table)]
    return f"no {', '.join(absent)}" if absent else "no rows"


def _sources(found: Survey, able: Collection[str]) -> Iterator[str]:
    """Write the orders of the sources that are there; what is left out is a comment."""
    read = {table for table in tables_of(able) if found.has_rows(table)}
    rules = []
    for quantity, rule in DEFAULT_SOURCES.items():
        order = [name for name in rule.order if name in read]
        if order:
            order += [INDIRECT_EVIDENCE] * (INDIRECT_EVIDENCE in rule.order)
            rules.append(f"    {quantity}: {{policy: {rule.policy}, order: [{', '.join(order)}]}}")
        else:
            rules.append(f"    # {quantity}: nothing here tells of it")
    yield "  # Which source is believed where two speak of the same, the first before the others;"
    yield f"  # '{INDIRECT_EVIDENCE}' are all other rows that name a host. These are the defaults."
    told = any("order:" in rule for rule in rules)
    yield "  sources:" if told else "  # sources:"
    yield from rules


def _gaps(found: Survey) -> Iterator[str]:
    """Propose what a source that begins late does not know, for the operator to decide."""
    begin = min(filter(None, (found.first(table.name) for table in found.tables)), default="")
    first = {name: found.first(name) for name in ("nova.compute_nodes", "blazar.computehosts")}
    late = [
        f"  #   - {{source: {name}, before: {day}}}"
        for name, day in first.items()
        if day and date.fromisoformat(day) - date.fromisoformat(begin) > LATE
    ]
    if late:
        yield f"  # Other rows begin with {begin}. If the hosts were there before, declare it:"
        yield "  # known_gaps:"
        yield from late


def variable_of(uri: str, key: str) -> str:
    """Name the environment variable of a site's address: that of the reference, or a usual one."""
    reference = re.fullmatch(r"\$\{(\w+)\}", uri)
    return reference[1] if reference else f"{key.upper()}_DB_URI"
