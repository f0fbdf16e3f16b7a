"""The commands that compute: run, combine, check."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import polars as pl

from chameleon_usage import pipeline, runs, stages
from chameleon_usage.cli.options import (
    DATE,
    EXTRACT_FIRST,
    bucket_option,
    choose,
    config_option,
    data_dir_option,
    fetched,
    output_option,
    progress,
    quiet_option,
    read_sites,
    say,
    sites_option,
)
from chameleon_usage.engines import slurm, spark
from chameleon_usage.engines.engine import Engine
from chameleon_usage.engines.home import AtHome
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.io import files
from chameleon_usage.io.check import check_site
from chameleon_usage.io.privacy import KEEP, project_names
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.site import Site
from chameleon_usage.ranges import MOST_ROWS
from chameleon_usage.runs import EACH_SHARD, MOST_RAW_ROWS
from chameleon_usage.usage.buckets import Period, Window
from chameleon_usage.usage.summary import rejects_within

RUN_FIRST = "run 'chameleon-usage run' first, or name another directory with --output"


@click.command()
@config_option
@sites_option
@data_dir_option
@output_option
@click.option("--start", type=DATE, help="First day.  [default: that of the first row]")
@click.option(
    "--end", type=DATE, help="Day after the last.  [default: when the tables were read, as_of]"
)
@bucket_option
@click.option("--save-stages", is_flag=True, help="Keep facts and segments beside the outputs.")
@click.option(
    "--from",
    "resume_from",
    type=click.Choice(runs.SAVED_STAGES),
    help="Start from a saved stage instead of the raw tables.",
)
@click.option("--by-host", is_flag=True, help="Write usage_by_host, too.")
@click.option("--by-project", is_flag=True, help="Write the use and sessions of projects, too.")
@click.option(
    "--projects",
    "naming",
    metavar="keep|omit|KEY",
    default=KEEP,
    show_default=True,
    help="With --by-project: names as they are, left out, or under pseudonyms with the key in "
    "'${NAME}' or in a file.",
)
@click.option(
    "--ranges",
    "count",
    type=click.IntRange(min=1),
    help="Ranges of hosts to reconstruct one after another, each in memory by itself.  "
    f"[default: one for every {MOST_ROWS // 10**6} million intervals]",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    help="Shards of the raw tables, each read by a process by itself; 1: read them whole.  "
    f"[default: one for every {EACH_SHARD // 10**6} million rows, if there are more than "
    f"{MOST_RAW_ROWS // 10**6} million]",
)
@click.option(
    "--engine",
    type=click.Choice(["spark", "slurm"]),
    help="Reconstruct ranges on the workers of a cluster, which must see --output, too: of the "
    "Spark server in SPARK_REMOTE, or of spark-submit; or in job arrays of Slurm.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Ranges, or shards, at a time on this machine: about as many as it has cores.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Take over what has not changed since the last run with --update.",
)
@click.option("--skip-missing", is_flag=True, help="Leave out adapters whose tables are absent.")
@quiet_option
def run(
    *,
    config: Path,
    names: Sequence[str],
    data_dir: str,
    output: Path,
    start: datetime | None,
    end: datetime | None,
    bucket: str,
    resume_from: str | None,
    save_stages: bool,
    by_host: bool,
    by_project: bool,
    naming: str,
    skip_missing: bool,
    count: int | None,
    shards: int | None,
    engine: str | None,
    jobs: int,
    update: bool,
) -> None:
    """Turn raw tables into the output tables of each site."""
    if update and resume_from == "usage":
        raise UsageError("--from usage makes no table, so there is nothing to --update")
    if naming != KEEP and not by_project:
        raise UsageError("--projects says how --by-project names them: give that, too")
    if (shards or 1) > 1 and (save_stages or resume_from):
        raise UsageError("--shards reads and keeps no stage: leave out --save-stages and --from")
    named = project_names(naming) if by_project else None
    period = Period(start, end, _bucket(bucket))
    if start and end:  # wrong before anything is read
        pipeline.check_window(Window(start, end, bucket))
    sites = read_sites(config, names)
    options = runs.Options(
        save_stages=save_stages,
        resume_from=resume_from,
        by_host=by_host,
        by_project=named,
        skip_missing=skip_missing,
        progress=progress(),
        count=count,
        shards=shards,
        engine=_workers(engine, jobs),
        update=update,
    )
    if resume_from:
        data_dir = "."  # not read
    patterns = [pattern for name in names for pattern in sites[name].files.values()]
    with fetched(data_dir, names or sites, patterns) as folder:
        advice = RUN_FIRST if resume_from else EXTRACT_FIRST
        for site in choose(sites, names, output if resume_from else folder, advice):
            tables, notes = runs.run_site(site, folder, output, period, options)
            _report(site, tables, notes)


def _workers(engine: str | None, jobs: int) -> Engine | None:
    if engine and jobs > 1:
        raise UsageError("--jobs is for this machine: a cluster has settings of its own for that")
    if engine == "spark":
        return spark.Cluster(spark.session())
    if engine == "slurm":
        return slurm.JobArray()
    return AtHome(jobs) if jobs > 1 else None


def _bucket(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,4}(m|h|d|w|mo|q|y)", text):
        raise UsageError(
            f"--bucket {text!r} is no duration of a minute or more; use for example 1h, 1d, 1w, 1mo"
        )
    return text


def _report(site: Site, tables: dict[str, pl.DataFrame], notes: runs.Notes) -> None:
    """Say what was written, all of it of the window; what is missing is never silent."""
    for name, lacks in notes.left_out.items():
        rows = [table for tables in ADAPTERS[name].accounts.values() for table in tables]
        told = sorted({quantity for table in rows for quantity in RAW_TABLES[table].tells})
        click.echo(
            f"{site.key}: WARNING: adapter {name} is left out, for want of {', '.join(lacks)}: "
            f"what it tells of {', '.join(told or rows)} is missing from the count",
            err=True,
        )
    if notes.absent:
        say(f"{site.key}: absent or empty: {', '.join(notes.absent)}")
    if notes.window is None:
        say(f"{site.key}: every table holds to its contract")
        return
    if notes.anew:
        say(f"{site.key}: made anew: {notes.anew}")
    start, end = notes.window.start, notes.window.end
    refused = rejects_within(tables["rejects"], start, end)
    asked = tables["leadtime_leases"]["created_at"].dt.replace_time_zone(None)
    leases = asked.is_between(start, end, closed="left").sum()
    say(
        f"{site.key}: {start:%F} to {end:%F}: {tables['usage_timeline'].height:,} rows of usage; "
        f"{leases:,} leases; {refused.height:,} rows refused "
        f"({refused['hours'].sum():,.0f} entity-hours)"
    )


@click.command()
@output_option
@sites_option
@quiet_option
def combine(output: Path, names: Sequence[str]) -> None:
    """Put the output tables of all sites together in <output>/combined."""
    sites = stages.sites_with_outputs(output, names)
    with files.whole_directory(output / stages.COMBINED) as scratch:
        stages.save_usage(scratch, stages.each_combined(output, sites))


@click.command()
@config_option
@output_option
@sites_option
@quiet_option
def check(config: Path, output: Path, names: Sequence[str]) -> None:
    """Check contracts, laws and declared gaps of what was written."""
    chosen = choose(read_sites(config, names), names, output, RUN_FIRST)
    problems = [problem for site in chosen for problem in check_site(output / site.key, site)]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise UsageError(f"{len(problems)} of the checks fail")
    say(
        f"{', '.join(site.key for site in chosen)}: {len(OUTPUTS)} contracts and all laws hold",
        err=False,
    )
