"""The commands that compute: run, combine, check."""

import importlib
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path

import click
import polars as pl

from chameleon_usage import pipeline, stages
from chameleon_usage.cli.options import (
    DATE,
    bucket_option,
    choose,
    config_option,
    output_option,
    read_sites,
    sites_option,
)
from chameleon_usage.errors import UsageError
from chameleon_usage.io import files
from chameleon_usage.io.check import check_site
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.models.site import Site
from chameleon_usage.usage.buckets import Window

MOST_BUCKETS = 200_000


@click.command()
@config_option
@sites_option
@click.option(
    "--data-dir",
    default="data/twin",
    show_default=True,
    help="Raw tables: <data-dir>/<site>/<schema>.<table>.parquet; or s3://BUCKET/PREFIX.",
)
@output_option
@click.option(
    "--start",
    type=DATE,
    default=f"{pipeline.DEFAULT_START:%F}",
    show_default=True,
    help="First day.",
)
@click.option(
    "--end",
    type=DATE,
    default=f"{pipeline.DEFAULT_END:%F}",
    show_default=True,
    help="Day after the last.",
)
@bucket_option
@click.option("--save-stages", is_flag=True, help="Keep facts and segments beside the outputs.")
@click.option(
    "--from",
    "resume_from",
    type=click.Choice(pipeline.SAVED_STAGES),
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
    sites = read_sites(config, names)
    if resume_from:
        data_dir = "."  # not read
    patterns = [pattern for name in names for pattern in sites[name].files.values()]
    with _fetched(data_dir, names or sites, patterns) as folder:
        for site in choose(sites, names, output if resume_from else folder):
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


def _fetched(
    place: str, folders: Iterable[str], patterns: Iterable[str]
) -> AbstractContextManager[Path]:
    """Give the directory of the raw tables; what reaches a store is slow to load."""
    if not files.is_store(place):
        return nullcontext(Path(place))
    stores = importlib.import_module("chameleon_usage.io.stores")
    folder: AbstractContextManager[Path] = stores.fetched(place, folders, patterns)
    return folder


def _bucket(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,4}(m|h|d|w|mo|q|y)", text):
        raise UsageError(
            f"--bucket {text!r} is no duration of a minute or more; use for example 1h, 1d, 1w, 1mo"
        )
    return text


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


@click.command()
@output_option
@sites_option
def combine(output: Path, names: Sequence[str]) -> None:
    """Put the output tables of all sites together in <output>/combined."""
    tables = stages.load_combined(output, stages.sites_with_outputs(output, names))
    with files.whole_directory(output / stages.COMBINED) as scratch:
        files.save_tables(scratch, tables)


@click.command()
@config_option
@output_option
@sites_option
def check(config: Path, output: Path, names: Sequence[str]) -> None:
    """Check contracts, laws and declared gaps of what was written."""
    chosen = choose(read_sites(config, names), names, output)
    problems = [problem for site in chosen for problem in check_site(output / site.key, site)]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise UsageError(f"{len(problems)} of the checks fail")
    click.echo(
        f"{', '.join(site.key for site in chosen)}: {len(OUTPUTS)} contracts and all laws hold"
    )
