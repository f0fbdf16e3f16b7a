"""The operator's face: grants, extract, run, combine, export, check."""

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import polars as pl

from chameleon_usage.core import ablation, loader, pipeline
from chameleon_usage.core.registry import ADAPTERS
from chameleon_usage.core.usage import Window
from chameleon_usage.errors import UsageError
from chameleon_usage.io import databases, stores
from chameleon_usage.io.audit import check_site
from chameleon_usage.io.export.target import TARGETS
from chameleon_usage.io.export.target import export as export_outputs
from chameleon_usage.io.extract import extract as extract_site
from chameleon_usage.io.grants import grants as grants_sql
from chameleon_usage.io.privacy import parse_privacy
from chameleon_usage.io.record import Changes, add_snapshot, restore
from chameleon_usage.models.domain import OUTPUTS
from chameleon_usage.models.site import Site, load_sites

_NOTES = {"zero_dates": "zero dates are null", "not_utf8": "values are Latin-1, not UTF-8"}
MOST_BUCKETS = 200_000
_DATE = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("data/sites.yaml"),
    show_default=True,
    help="Site configuration.",
)
output_option = click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("output"),
    show_default=True,
    help="Directory of the output tables, one directory a site.",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("data/twin"),
    show_default=True,
    help="Raw tables: <data-dir>/<site>/<schema>.<table>.parquet.",
)
site_option = click.option(
    "--site", "names", multiple=True, help="Site key; repeat it. Default: every site with data."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Reconstruct the usage history of an OpenStack testbed from its services' databases."""


@cli.command()
@config_option
@click.option("--site", "name", required=True, help="Site key.")
@click.option("--user", default="chameleon_usage", show_default=True, help="Account that reads.")
@click.option(
    "--host", default="localhost", show_default=True, help="Machine it comes from; % is any."
)
def grants(config: Path, name: str, user: str, host: str) -> None:
    """Print the SQL that lets the extractor read what it needs, and nothing else."""
    click.echo(grants_sql(_site(config, name), user, host), nl=False)


@cli.command()
@config_option
@click.option("--site", "name", required=True, help="Site key.")
@click.option(
    "--db-uri",
    help="mysql://USER@HOST:PORT, or '${NAME}': an environment variable that holds the URI, "
    "password and all. Default: the site's db_uri.",
)
@click.option(
    "--option-file",
    type=click.Path(path_type=Path),
    help="User, password and the rest, in the form of ~/.my.cnf.",
)
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
    site = _site(config, name)
    if not (uri := db_uri or site.db_uri or ("mysql://" if option_file else "")):
        raise UsageError(f"{config}: site {name} has no 'db_uri'; give --db-uri or --option-file")
    found = extract_site(
        site,
        databases.resolve(uri, option_file=option_file),
        data_dir,
        privacy=parse_privacy(privacy) if privacy else None,
        skip_missing=skip_missing,
        progress=sys.stderr.isatty(),
    )
    tables = found.manifest["tables"]
    rows = sum(table["rows"] for table in tables.values())
    click.echo(
        f"{name}: {len(tables)} tables, {rows:,} rows as of {found.manifest['as_of']} UTC", err=True
    )
    for table, told in tables.items():
        for what in ("zero_dates", "not_utf8"):
            for column, count in told.get(what, {}).items():
                click.echo(f"{name}: {table}.{column}: {count:,} {_NOTES[what]}", err=True)
    for table, reason in found.missing.items():
        click.echo(f"{name}: {table} {reason}", err=True)
    if found.lacking:
        raise UsageError(
            f"{data_dir}/{name} lacks what the site's adapters cannot do without: "
            f"{', '.join(found.lacking)}; grant it (chameleon-usage grants) and extract again"
        )


def _site(config: Path, name: str) -> Site:
    sites = load_sites(config, frozenset(ADAPTERS))
    if name not in sites:
        raise UsageError(f"unknown site {name}; the configuration has {', '.join(sites)}")
    return sites[name]


@cli.command()
@config_option
@site_option
@click.option(
    "--data-dir",
    default="data/twin",
    show_default=True,
    help="Raw tables: <data-dir>/<site>/<schema>.<table>.parquet; or s3://BUCKET/PREFIX.",
)
@output_option
@click.option(
    "--start",
    type=_DATE,
    default=f"{pipeline.DEFAULT_START:%F}",
    show_default=True,
    help="First day.",
)
@click.option(
    "--end",
    type=_DATE,
    default=f"{pipeline.DEFAULT_END:%F}",
    show_default=True,
    help="Day after the last.",
)
@click.option("--bucket", default="1d", show_default=True, help="Length of a bucket: 1h, 1d, 1mo.")
@click.option("--save-stages", is_flag=True, help="Keep facts and segments beside the outputs.")
@click.option(
    "--from",
    "resume_from",
    type=click.Choice(pipeline.STAGES),
    help="Start from a saved stage instead of the raw tables.",
)
@click.option("--by-host", is_flag=True, help="Write usage_by_host, too.")
@click.option("--skip-missing", is_flag=True, help="Leave out adapters whose tables are absent.")
def run(
    *,
    config: Path,
    names: Sequence[str],
    data_dir: str,
    output: Path,
    start: datetime,
    end: datetime,
    bucket: str,
    resume_from: str | None,
    save_stages: bool,
    by_host: bool,
    skip_missing: bool,
) -> None:
    """Turn raw tables into the output tables of each site."""
    if start >= end:
        raise UsageError(f"--start {start:%F} is not before --end {end:%F}: give an earlier start")
    window = Window(start, end, _bucket(bucket))
    if (buckets := len(window.edges) - 1) > MOST_BUCKETS:
        raise UsageError(
            f"--bucket {bucket} makes {buckets} buckets, more than {MOST_BUCKETS}: "
            "give a longer bucket or a shorter window"
        )
    known = load_sites(config, frozenset(ADAPTERS))
    if resume_from:
        data_dir = "."  # not read
    files = [pattern for name in names if name in known for pattern in known[name].files.values()]
    with stores.fetched(data_dir, names or known, files) as folder:
        for site in _choose(known, names, folder, output, resume_from):
            tables, absent = pipeline.run_pipeline(
                site,
                folder,
                output,
                window,
                save_stages=save_stages,
                resume_from=resume_from,
                by_host=by_host,
                skip_missing=skip_missing,
                progress=sys.stderr.isatty(),
            )
            _report(site, tables, absent)


def _bucket(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,4}(m|h|d|w|mo|q|y)", text):
        raise UsageError(
            f"--bucket {text!r} is no duration of a minute or more; use for example 1h, 1d, 1w, 1mo"
        )
    return text


def _choose(
    sites: dict[str, Site],
    names: Sequence[str],
    data_dir: Path,
    output: Path,
    resume_from: str | None,
) -> list[Site]:
    """Pick the named sites, or every site that has data (or a saved stage)."""
    if unknown := [name for name in names if name not in sites]:
        raise UsageError(
            f"unknown site {', '.join(unknown)}; the configuration has {', '.join(sites)}"
        )
    if names:
        return [sites[name] for name in names]
    base = output if resume_from else data_dir
    if not base.is_dir():
        raise UsageError(
            f"no directory {base}: make the default data with 'make data', or name another "
            "with --data-dir"
        )
    found = [site for site in sites.values() if (base / site.key).is_dir()]
    if not found:
        raise UsageError(
            f"{base} holds no site's directory; expected one of {', '.join(sites)}, "
            "or name a site with --site"
        )
    return found


def _report(site: Site, tables: dict[str, pl.DataFrame], absent: Sequence[str]) -> None:
    rejected = tables["rejects"]
    hours = rejected["hours"].sum() or 0.0
    click.echo(
        f"{site.key}: {tables['usage_timeline'].height:,} rows of usage; "
        f"{rejected.height:,} rows refused ({hours:,.0f} entity-hours)",
        err=True,
    )
    if absent:
        click.echo(f"{site.key}: absent or empty: {', '.join(absent)}", err=True)


@cli.command()
@output_option
@click.option("--site", "names", multiple=True, help="Site key; repeat it. Default: all present.")
def combine(output: Path, names: Sequence[str]) -> None:
    """Put the output tables of all sites together in <output>/combined."""
    tables = pipeline.load_combined(output, pipeline.sites_with_outputs(output, names))
    with loader.whole_directory(output / pipeline.COMBINED) as scratch:
        loader.save_tables(scratch, tables)


@cli.command(epilog=f"\b\n{TARGETS}")
@output_option
@click.option("--site", "names", multiple=True, help="Site key; repeat it. Default: all present.")
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
    "--option-file",
    type=click.Path(path_type=Path),
    help="Option file of the MySQL client, for user and password.",
)
def export(
    *,
    output: Path,
    names: Sequence[str],
    target: str,
    chosen: Sequence[str],
    option_file: Path | None,
) -> None:
    """Put output tables into a database or into files, whole or not at all."""
    written = export_outputs(output, target, names=names, chosen=chosen, option_file=option_file)
    for name, rows in written.items():
        click.echo(f"{name}: {rows:,} rows", err=True)


@cli.command()
@config_option
@site_option
@data_dir_option
@output_option
def ablate(*, config: Path, names: Sequence[str], data_dir: Path, output: Path) -> None:
    """Count with each correction left out in turn: <output>/ablation/<site>/ablation.parquet."""
    window = Window(pipeline.DEFAULT_START, pipeline.DEFAULT_END)
    sites = _choose(load_sites(config, frozenset(ADAPTERS)), names, data_dir, output, None)
    for site in sites:
        stage, _ = pipeline.facts(site, data_dir, progress=sys.stderr.isatty())
        with loader.whole_directory(output / "ablation" / site.key) as scratch:
            loader.save_tables(scratch, {"ablation": ablation.ablate(stage, site, window)})


@cli.command()
@config_option
@output_option
@site_option
def check(config: Path, output: Path, names: Sequence[str]) -> None:
    """Check contracts, laws and declared gaps of what was written."""
    sites = load_sites(config, frozenset(ADAPTERS))
    chosen = _choose(sites, names, output, output, "usage")
    problems = [problem for site in chosen for problem in check_site(output / site.key, site)]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise UsageError(f"{len(problems)} of the checks fail")
    click.echo(
        f"{', '.join(site.key for site in chosen)}: {len(OUTPUTS)} contracts and all laws hold"
    )


@cli.command()
@config_option
@click.option("--site", "name", required=True, help="Site key.")
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
@click.option("--as-of", type=_DATE, help="Give the dump as it stood then (UTC), into --to.")
@click.option("--to", "target", type=click.Path(path_type=Path), help="Directory to give it into.")
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
    [site] = _choose(load_sites(config, frozenset(ADAPTERS)), [name], data_dir, data_dir, None)
    if dump is not None:
        _tell(site, add_snapshot(data_dir / site.key, dump))
    elif as_of is not None and target is not None:
        restored = restore(data_dir / site.key, as_of, target)
        click.echo(f"{site.key}: the dump of {restored:%F %T} is in {target}", err=True)


def _tell(site: Site, changes: dict[str, Changes]) -> None:
    for table, change in changes.items():
        if change != Changes():
            kept = ", kept whole: the new dump lacks it or one of its columns"
            click.echo(
                f"{site.key}: {table}: {change.added:,} rows new, {change.changed:,} changed, "
                f"{change.gone:,} gone{kept if change.whole else ''}",
                err=True,
            )
    click.echo(f"{site.key}: recorded", err=True)


def main() -> None:
    """Run the command line; a UsageError becomes one line and exit status 1."""
    try:
        cli()
    except UsageError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
