"""The commands that move data in and out: grants, extract, record, export."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from chameleon_usage.cli.options import (
    DATE,
    choose,
    config_option,
    option_file_option,
    output_option,
    progress,
    quiet_option,
    read_sites,
    say,
    site_option,
    sites_option,
)
from chameleon_usage.errors import UsageError
from chameleon_usage.io import databases
from chameleon_usage.io.export.target import TARGETS
from chameleon_usage.io.export.target import export as export_outputs
from chameleon_usage.io.extract import extract as extract_site
from chameleon_usage.io.files import is_store
from chameleon_usage.io.grants import grants as grants_sql
from chameleon_usage.io.privacy import OMIT, parse_privacy
from chameleon_usage.io.traces import export_traces
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.pipeline import trace_parts
from chameleon_usage.snapshots.record import Changes, add_snapshot, last_changes, restore

_TRACE, _KEEP = "trace:", "keep"
_NOTES = {"zero_dates": "zero dates are null", "not_utf8": "values are Latin-1, not UTF-8"}


@click.command()
@config_option
@site_option
@click.option("--user", default="chameleon_usage", show_default=True, help="Account that reads.")
@click.option(
    "--host", default="localhost", show_default=True, help="Machine it comes from; % is any."
)
def grants(config: Path, name: str, user: str, host: str) -> None:
    """Print the SQL that lets the extractor read what it needs, and nothing else."""
    click.echo(grants_sql(read_sites(config, [name])[name], user, host), nl=False)


@click.command()
@config_option
@site_option
@click.option(
    "--db-uri",
    help="mysql://USER@HOST:PORT, or '${NAME}': an environment variable that holds the URI, "
    "password and all. Default: the site's db_uri.",
)
@option_file_option
@click.option(
    "--data-dir",
    default="data/extracted",
    show_default=True,
    help="Gets <data-dir>/<site>/<schema>.<table>.parquet; a directory or s3://BUCKET/PREFIX.",
)
@click.option(
    "--privacy",
    metavar="KEY|omit",
    help="Projects and users: under pseudonyms with the key in '${NAME}' or in a file, or left out "
    "('omit'). Default: as they are.",
)
@click.option(
    "--skip-missing",
    is_flag=True,
    help="Replace an earlier extraction even if a table of it cannot be read any more.",
)
@quiet_option
def extract(
    *,
    config: Path,
    name: str,
    db_uri: str | None,
    option_file: Path | None,
    data_dir: str,
    privacy: str | None,
    skip_missing: bool,
) -> None:
    """Copy the tables that a site's adapters read from its databases."""
    site = read_sites(config, [name])[name]
    if not (uri := db_uri or site.db_uri or ("mysql://" if option_file else "")):
        raise UsageError(f"{config}: site {name} has no 'db_uri'; give --db-uri or --option-file")
    manifest, lacking = extract_site(
        site,
        databases.resolve(uri, option_file=option_file),
        data_dir,
        privacy=parse_privacy(privacy) if privacy else None,
        skip_missing=skip_missing,
        progress=progress(),
    )
    tables = manifest["tables"]
    rows = sum(table["rows"] for table in tables.values())
    say(f"{name}: {len(tables)} tables, {rows:,} rows as of {manifest['as_of']} UTC")
    for table, facts in tables.items():
        for what in ("zero_dates", "not_utf8"):
            for column, count in facts.get(what, {}).items():
                say(f"{name}: {table}.{column}: {count:,} {_NOTES[what]}")
    for table, reason in manifest["missing"].items():
        say(f"{name}: {table} {reason}")
    if not is_store(data_dir):
        _tell(name, last_changes(Path(data_dir) / name))
    if lacking:
        raise UsageError(
            f"{data_dir}/{name} lacks what the site's adapters cannot do without: "
            f"{', '.join(lacking)}; grant it (chameleon-usage grants) and extract again"
        )


@click.command()
@config_option
@site_option
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="The record: <data-dir>/<site> holds the current dump and its history.",
)
@click.option(
    "--from",
    "dump",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A new dump of the site, which becomes the current one.",
)
@click.option("--as-of", type=DATE, help="Give the dump as it stood then (UTC), into --to.")
@click.option("--to", "target", type=click.Path(path_type=Path), help="Directory to give it into.")
@quiet_option
def record(
    *,
    config: Path,
    name: str,
    data_dir: Path,
    dump: Path | None,
    as_of: datetime | None,
    target: Path | None,
) -> None:
    """Add a dump to a site's record, or give back an earlier one."""
    if (dump is None) == (as_of is None) or (as_of is None) != (target is None):
        raise UsageError("give either --from, or --as-of together with --to")
    site = read_sites(config, [name])[name]
    if dump is not None:
        _tell(name, add_snapshot(data_dir / site.key, dump))
    elif as_of is not None and target is not None:
        restored = restore(data_dir / site.key, as_of, target)
        say(f"{site.key}: the dump of {restored:%F %T} is in {target}")


def _tell(name: str, changes: dict[str, Changes]) -> None:
    for table, change in changes.items():
        if change != Changes():
            kept = ", kept whole: the new dump lacks it or one of its columns"
            say(
                f"{name}: {table}: {change.added:,} rows new, {change.changed:,} changed, "
                f"{change.gone:,} gone{kept if change.whole else ''}"
            )
    say(f"{name}: recorded")


@click.command(epilog=f"\b\n{TARGETS}")
@config_option
@output_option
@sites_option
@click.option("--to", "target", required=True, metavar="TARGET", help="Where to; see below.")
@click.option(
    "--table",
    "chosen",
    multiple=True,
    type=click.Choice(list(OUTPUTS)),
    metavar="NAME",
    help="Table; repeat it. Default: what dashboards ask in a database, elsewhere all.",
)
@click.option(
    "--privacy",
    metavar="KEY|omit|keep",
    default=OMIT,
    show_default=True,
    help="Of a trace, hosts, instances, leases and projects: under pseudonyms with the key in "
    "'${NAME}' or in a file, numbered and without projects ('omit'), or as they are ('keep').",
)
@option_file_option
@quiet_option
def export(
    *,
    config: Path,
    output: Path,
    names: Sequence[str],
    target: str,
    chosen: Sequence[str],
    privacy: str,
    option_file: Path | None,
) -> None:
    """Put output tables into a database or into files, whole or not at all."""
    if target.startswith(_TRACE):
        sites = choose(read_sites(config, names), names, output, "run 'chameleon-usage run' first")
        written = export_traces(
            Path(target.removeprefix(_TRACE)),
            {site.key: trace_parts(site, output) for site in sites},
            None if privacy == _KEEP else parse_privacy(privacy),
        )
    else:
        written = export_outputs(
            output, target, names=names, chosen=chosen, option_file=option_file
        )
    for name, rows in written.items():
        say(f"{name}: {rows:,} rows")
