"""The commands that begin: init, check-config."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import click

from chameleon_usage import pipeline
from chameleon_usage.cli.options import (
    OWN_CONFIG,
    config_option,
    option_file_option,
    quiet_option,
    say,
)
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS, tables_of
from chameleon_usage.models.site import Site, judge_sites
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE


@click.command()
@click.option(
    "--db-uri",
    required=True,
    help="mysql://USER@HOST:PORT, or '${NAME}': an environment variable that holds the URI, "
    "password and all.",
)
@option_file_option
@click.option("--site", "key", default="my_cloud", show_default=True, help="Key of the site.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    default=OWN_CONFIG,
    show_default=True,
    help="File to write, which must not be there yet; - shows it instead.",
)
@quiet_option
def init(*, db_uri: str, option_file: Path | None, key: str, output: Path) -> None:
    """Ask a database what is there, and write a site configuration of it."""
    from chameleon_usage.io import databases, survey  # noqa: PLC0415 - slow to load

    if str(output) != "-" and output.exists():
        raise UsageError(f"{output} is there already: name another file with --output")
    if not re.fullmatch(r"(?!combined$)[a-z][a-z0-9_]*", key):
        raise UsageError(f"--site {key!r}: expected lower case letters, digits and underscores")
    found = survey.survey(survey.Database(databases.resolve(db_uri, option_file=option_file)))
    variable = survey.variable_of(db_uri, key)
    text = survey.write_entry(found, key, variable)
    if not found.adapters():
        click.echo(text, err=True)
        raise UsageError(
            "the account sees no table that an adapter could read: check its permissions, "
            "or the address"
        )
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written ({error})") from error
    say(
        f"{output}: {key}: {', '.join(found.adapters())}. Read it, set {variable}, then: "
        f"chameleon-usage check-config {output}"
    )


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_option
@quiet_option
def check_config(*, file: Path | None, config: Path) -> None:
    """Check a site configuration: names, orders of sources, environment variables.

    A variable that is not set is a warning: only extract needs it.
    """
    path = file or config
    sites, found = judge_sites(path, frozenset(ADAPTERS))
    problems = [str(problem) for problem in found]
    for site in sites.values():
        try:
            pipeline.check_orders(site)
        except UsageError as error:
            problems.append(f"{path}: {error}")
        for warning in _warnings(site):
            click.echo(f"{path}: site {site.key}: WARNING: {warning}", err=True)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise UsageError(f"{path}: {len(problems)} of {len(sites) + len(found)} sites are wrong")
    say(f"{path}: {', '.join(sites)}: nothing is wrong", err=False)


def _warnings(site: Site) -> Iterator[str]:
    if site.db_uri and not os.environ.get(variable := site.db_uri.strip("${}")):
        yield f"the environment variable {variable} is not set"
    read = {*tables_of(site.adapters), INDIRECT_EVIDENCE}
    for quantity, rule in site.declared.items():
        if idle := [name for name in rule.order if name not in read]:
            yield f"sources: {quantity}: no adapter of the site reads {', '.join(idle)}"
    if unread := sorted(set(site.files) - read):
        yield f"files: no adapter of the site reads {', '.join(unread)}"
    if mute := sorted({gap.source for gap in site.known_gaps} - read):
        yield f"known_gaps: no adapter of the site reads {', '.join(mute)}"
