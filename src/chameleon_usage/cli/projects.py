"""The commands that tell who used how much: projects, for all to see, and statement, for one."""

import re
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

import click
import polars as pl

from chameleon_usage.cli.options import DATE, output_option, quiet_option, say, site_option
from chameleon_usage.cli.statement_page import page
from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file
from chameleon_usage.models.metrics import METRICS, RESOURCES
from chameleon_usage.stages import load_usage
from chameleon_usage.usage.projects_published import Period, held, published
from chameleon_usage.usage.statement import TABLES, Statement
from chameleon_usage.usage.statement import statement as sum_up

_FILE = "projects_{site}_{start:%F}_{end:%F}.csv"
_FILES = re.compile(r"projects_(?P<site>.+)_(?P<start>[\d-]{10})_(?P<end>[\d-]{10})[.]csv")


@click.command()
@output_option
@site_option
@click.option("--start", type=DATE, required=True, help="First day.")
@click.option("--end", type=DATE, required=True, help="Day after the last.")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Name at most so many projects; 0 names none.",
)
@click.option(
    "--least",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Whatever is not of a named project is of at least so many.",
)
@click.option(
    "--to", "target", type=click.Path(path_type=Path), help="Directory: write the table there, too."
)
@quiet_option
def projects(
    *,
    output: Path,
    name: str,
    start: datetime,
    end: datetime,
    top: int,
    least: int,
    target: Path | None,
) -> None:
    """Show who held how many node-hours, with small groups merged, so that it can be published."""
    if start >= end:
        raise UsageError(f"--start {start:%F} is not before --end {end:%F}: give an earlier start")
    tables = _load(output / name, ("usage_timeline", "usage_by_project"))
    period = Period(start, end)
    table = published(
        held(tables["usage_by_project"], tables["usage_timeline"], period), top, least
    )
    for line in _lines(table):
        click.echo(line)
    if target is not None:
        path = target / _FILE.format(site=name, start=start, end=end)
        for other in _overlapping(target, name, path.name, period):
            click.echo(
                f"{path}: WARNING: {other} is of a time that overlaps: the difference of the two "
                f"may tell of fewer than {least} projects; publish one of them",
                err=True,
            )
        with whole_file(path) as part:
            table.write_csv(part)
        say(f"{path}: {table.height} rows")


def _load(directory: Path, tables: Collection[str]) -> dict[str, pl.DataFrame]:
    """Read output tables, all of which are needed."""
    for table in tables:
        path = directory / f"{table}.parquet"
        if not path.exists():
            raise UsageError(
                f"{path}: not there; run 'chameleon-usage run --by-project' for this site first, "
                "or name another directory with --output"
            )
    return load_usage(directory, tables)


def _overlapping(directory: Path, site: str, mine: str, period: Period) -> Iterator[str]:
    """Name what was published before of the site and of a time that overlaps, but is another."""
    for path in sorted(directory.glob("*.csv")):
        if (found := _FILES.fullmatch(path.name)) and path.name != mine:
            start, end = (datetime.fromisoformat(found[bound]) for bound in ("start", "end"))
            if found["site"] == site and period.overlaps(Period(start, end)):
                yield path.name


def _lines(table: pl.DataFrame) -> Iterator[str]:
    widths = [max(16, *table[name].str.len_chars()) + 2 for name in ("project_id", "node_type")]
    yield (
        f"{'project':{widths[0]}}{'node type':{widths[1]}}{'projects':>10}{'node-hours':>14}"
        f"{'share':>9}"
    )
    for project, node_type, count, hours, share in table.iter_rows():
        yield (
            f"{project:{widths[0]}}{node_type:{widths[1]}}{count:>10,}{hours:>14,.0f}"
            f"{100 * share:>7.1f} %"
        )


@click.command()
@output_option
@site_option
@click.option("--project", required=True, help="As the tables name it.")
@click.option(
    "--month", type=click.DateTime(["%Y-%m"]), required=True, help="Which, as 2025-03; UTC."
)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory: gets two CSV files and a page.",
)
@quiet_option
def statement(*, output: Path, name: str, project: str, month: datetime, target: Path) -> None:
    """Write what one project used in a month: tables as CSV, and a page that needs nothing else."""
    told = sum_up(_load(output / name, TABLES), name, project, month)
    stem = re.sub(r"[^\w.-]", "_", f"statement_{name}_{project}_{month:%Y-%m}")
    texts = {
        f"{stem}.csv": _totals(told).write_csv(),
        f"{stem}_days.csv": told.days.write_csv(datetime_format="%F"),
        f"{stem}.html": page(told),
    }
    for file, text in texts.items():
        with whole_file(target / file) as part:
            part.write_text(text, encoding="utf-8")
    say(f"{target / stem}.html: {told.held:,.1f} node-hours")


def _totals(told: Statement) -> pl.DataFrame:
    """Lay out use and sessions as one table: measure, node_type, amount, unit, shares."""
    use = told.use.select(
        measure=pl.col("count_type")
        .cast(pl.String)
        .replace_strict({name: metric.label for name, metric in METRICS.items()}),
        node_type="node_type",
        amount="hours",
        unit=pl.format("{} x hours", pl.col("resource").cast(pl.String).replace_strict(RESOURCES)),
        share_of_site="share",
        known_share="known_share",
    )
    sessions = told.sessions.rename({"build_hours": "mean time of building"}).unpivot(
        index="node_type", variable_name="measure", value_name="amount"
    )
    unit = pl.when(pl.col("measure") == "mean time of building").then(pl.lit("hours"))
    sessions = sessions.select(
        measure=pl.format("Sessions: {}", "measure"),
        node_type="node_type",
        amount=pl.col("amount").cast(pl.Float64),
        unit=unit.otherwise(pl.lit("sessions")),
    )
    return pl.concat([use, sessions], how="diagonal")
