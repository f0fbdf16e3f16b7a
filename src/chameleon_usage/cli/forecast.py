"""The command that looks ahead: forecast."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from chameleon_usage import pipeline
from chameleon_usage.cli.options import (
    EXTRACT_FIRST,
    config_option,
    data_dir_option,
    fetched,
    progress,
    read_sites,
    site_option,
)
from chameleon_usage.errors import UsageError
from chameleon_usage.usage.forecast import WEEKS
from chameleon_usage.usage.forecast import forecast as look_ahead
from chameleon_usage.usage.projected import NODES


@click.command()
@config_option
@site_option
@data_dir_option
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    multiple=True,
    default=NODES,
    show_default=True,
    help="How many nodes are asked for at once; repeat it.",
)
@click.option(
    "--hours", type=click.IntRange(min=1), default=24, show_default=True, help="For how long."
)
@click.option("--skip-missing", is_flag=True, help="Leave out adapters whose tables are absent.")
@click.option("--json", "as_json", is_flag=True, help="Give the same, by day, as JSON.")
def forecast(
    *,
    config: Path,
    name: str,
    data_dir: str,
    nodes: tuple[int, ...],
    hours: int,
    skip_missing: bool,
    as_json: bool,
) -> None:
    """Show which nodes are free when, and how many are booked in the coming weeks.

    By the bookings at the moment at which the tables were read. KVM hosts, which are leased in
    slices, are left out.
    """
    site = read_sites(config, [name])[name]
    with fetched(data_dir, [name], site.files.values()) as folder:
        if not site.files and not (folder / name).is_dir():
            raise UsageError(f"no directory {folder / name}: {EXTRACT_FIRST}")
        stage, _ = pipeline.facts(site, folder, skip_missing=skip_missing, progress=progress())
    late = pipeline.segments(stage, site)
    found = look_ahead(late.segments, late.schedule, stage.as_of, nodes=nodes, duration=f"{hours}h")
    if as_json:
        click.echo(json.dumps({"site": name, **found}, indent=2))
        return
    for line in _lines(name, found):
        click.echo(line)


def _lines(name: str, found: dict[str, Any]) -> Iterator[str]:
    types, numbers = found["node_types"], [*(found["node_types"] or [{"free": {}}])[0]["free"]]
    yield f"{name} as of {found['as_of'].replace('T', ' ')} UTC"
    yield ""
    if not types:
        yield "No node is in the pool that is leased as a whole."
        return
    width = max(24, *(len(row["node_type"]) + 2 for row in types))
    yield f"Free for {found['duration'].removesuffix('h')} h from"
    yield f"{'':{width}}{'pool':>6}" + "".join(f"{_nodes(number):>18}" for number in numbers)
    for row in types:
        times = (_time(row["free"][number], found["as_of"]) for number in numbers)
        yield f"{row['node_type']:{width}}{row['pool']:>6}" + "".join(f"{at:>18}" for at in times)
    yield ""
    yield "Booked, in nodes, mean of each week"
    yield f"{'':{width}}{'pool':>6}" + "".join(f"{f'week {n + 1}':>10}" for n in range(WEEKS))
    for row in types:
        days = [b["value"] for b in found["booked"] if b["node_type"] == row["node_type"]]
        weeks = [sum(days[7 * week : 7 * week + 7]) / 7 for week in range(WEEKS)]
        yield f"{row['node_type']:{width}}{row['pool']:>6}" + "".join(f"{w:>10.1f}" for w in weeks)


def _nodes(number: str) -> str:
    return f"{number} node{'s' * (number != '1')}"


def _time(at: str | None, now: str) -> str:
    if at is None:
        return "too few"
    return "now" if at == now else at.replace("T", " ")[:16]
