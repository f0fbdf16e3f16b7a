"""Where outputs can go, told apart by scheme or suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chameleon_usage.errors import UsageError
from chameleon_usage.io.export import duckdb_file, openmetrics, package, sql
from chameleon_usage.io.files import whole_directory, whole_file
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.stages import each_combined, sites_with_outputs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

DASHBOARD_TABLES = (
    "usage_wide",
    "usage_timeline",
    "leadtime_timeline",
    "comparison",
    "coverage",
)
"""What a database gets unless told otherwise: all that dashboards and reports ask, and no key of
a lease or of a row."""

TARGETS = """\
Targets, told apart by scheme or suffix:
  mysql://USER@HOST/DATABASE, mariadb://..., postgresql://..., sqlite:///FILE
                        tables of a database; rows of the same sites are replaced
  FILE.duckdb           all tables, and views over them, in one file
  FILE.om               OpenMetrics text, to backfill Prometheus, in blocks of a year:
                        promtool tsdb create-blocks-from openmetrics \\
                          --max-block-duration=8760h FILE.om DIR
  csv:DIR, json:DIR     a file a table, described by datapackage.json
  trace:DIR             events of machines, instances and leases, as a public trace; needs the facts
                        that run --save-stages keeps
A password stands in an environment variable that holds the whole URI (--to '${NAME}'), in an
option file, or is asked for."""


def export(
    output: Path,
    target: str,
    *,
    names: Sequence[str] = (),
    chosen: Collection[str] = (),
    option_file: Path | None = None,
) -> dict[str, int]:
    """Put output tables where they are looked at, whole or not at all.

    Args:
        output: the output directory of ``chameleon-usage run``.
        target: one of ``TARGETS``.
        names: sites; all that are there if empty.
        chosen: tables; if empty ``DASHBOARD_TABLES`` for a database, else all.
        option_file: of the MySQL client, for user and password.

    Returns:
        table name to the number of rows that were written.

    Raises:
        UsageError: the target is of no known kind or cannot be written, or there are no outputs.
            What was at the target before is then as it was.
    """
    kind = _kind(target)
    usual = {"database": DASHBOARD_TABLES, "openmetrics": openmetrics.TABLES}
    wanted = tuple(chosen) or usual.get(kind, tuple(OUTPUTS))
    if kind == "openmetrics" and (unfit := set(chosen) - set(openmetrics.TABLES)):
        raise UsageError(
            f"{', '.join(sorted(unfit))} cannot be told as metrics; "
            f"choose among {', '.join(openmetrics.TABLES)}"
        )
    sites = sites_with_outputs(output, names)
    tables = dict(each_combined(output, sites, wanted))
    if missing := set(chosen) - set(tables):
        raise UsageError(
            f"{output}: no table {', '.join(sorted(missing))}; leave it out, or run "
            "'chameleon-usage run' so that it is written (usage_by_host needs --by-host, "
            "those of projects need --by-project)"
        )
    if kind == "database":
        sql.write_sql(tables, sites, target, option_file=option_file)
    elif kind in package.FORMATS:
        directory = Path(target.partition(":")[2])
        _refuse_other_directory(directory)
        with whole_directory(directory) as scratch:
            package.write_package(tables, scratch, kind)
    else:
        write = {"duckdb": duckdb_file.write_duckdb, "openmetrics": openmetrics.write_openmetrics}
        with whole_file(Path(target)) as part:
            write[kind](tables, part)
    return {name: frame.height for name, frame in tables.items()}


def _kind(target: str) -> str:
    scheme, separator, rest = target.partition(":")
    if separator and scheme in package.FORMATS and rest:
        return scheme
    if "://" in target or target.startswith("${"):
        return "database"
    kinds = {".duckdb": "duckdb", ".om": "openmetrics"}
    try:
        return kinds[Path(target).suffix]
    except KeyError:
        # What was meant as an address may hold a password: it is not repeated.
        raise UsageError(f"--to names no known target. {TARGETS}") from None


def _refuse_other_directory(directory: Path) -> None:
    """A directory is replaced whole: only one that an export wrote may be."""
    if not package.replaceable(directory):
        raise UsageError(
            f"{directory} holds other files than those of an export: name a new or empty directory"
        )
