"""The command that shows what a run made: summary."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from chameleon_usage.cli.options import DATE, output_option, site_option
from chameleon_usage.models.metrics import METRICS, PARTITION
from chameleon_usage.stages import load_usage
from chameleon_usage.usage.summary import TABLES, summarise

_BLOCKS, _PLAIN = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
_WIDTH = 30
"""Of a bar that stands for all."""
_TYPES, _REASONS = 5, 10
"""How many node types and reasons are printed; --json has all."""


@click.command()
@output_option
@site_option
@click.option("--start", type=DATE, help="First day.  [default: that of the outputs]")
@click.option("--end", type=DATE, help="Day after the last.  [default: that of the outputs]")
@click.option("--json", "as_json", is_flag=True, help="Give the same, and more, as JSON.")
def summary(
    *, output: Path, name: str, start: datetime | None, end: datetime | None, as_json: bool
) -> None:
    """Show what the nodes of a site were doing in a period, and how well that is known."""
    tables = load_usage(output / name, TABLES)
    found = summarise(tables, name, start, end)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in _lines(found):
            click.echo(line)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    shades = _shades()
    yield f"{found['site']}, {found['start'][:10]} to {found['end'][:10]} (last day excluded), UTC"
    yield ""
    yield f"{'':24}{'node-hours':>14}{'share':>9}"
    for name in ("total", *PARTITION):
        state = found["states"][name]
        if name == "total" or state["node_hours"] != 0:
            bar = shades[-1] * round(_WIDTH * (state["share"] or 0)) if name != "total" else ""
            unsure = f"  known {_percent(state['known_share'])} of the time"
            yield (
                f"{METRICS[name].label:24}{_number(state['node_hours']):>14}"
                f"{_percent(state['share']):>9}  {bar}{unsure * (state['known_share'] < 1)}"
            ).rstrip()
    yield ""
    for ratio, share in found["ratios"].items():
        yield f"{ratio.replace('/', ' / '):24}{_percent(share):>23}"
    curve = "".join(_shade(point["share"], shades) for point in found["curve"])
    yield ""
    yield f"occupied / total over time, 0 to 100 %; ? is unknown\n|{curve}|"
    yield from _table(
        "Busiest node types",
        ("node-hours", "occupied / total"),
        [
            (row["node_type"], _number(row["node_hours"]), _percent(row["share"]))
            for row in found["node_types"]
        ],
        _TYPES,
    )
    yield "by occupied / total; where it is unknown, by node-hours"
    yield from _table(
        "Coverage",
        ("seen", "inferred"),
        [
            (quantity, _percent(by.get("seen", 0.0)), _percent(by.get("inferred", 0.0)))
            for quantity, by in found["coverage"].items()
            if {"seen", "inferred"} & set(by)
        ],
    )
    yield from _table(
        "Rejects (stage: reason)",
        ("rows", "hours"),
        [
            (f"{row['stage']}: {row['reason']}", f"{row['rows']:,}", _number(row["hours"]))
            for row in found["rejects"]
        ],
        _REASONS,
    )
    yield ""
    yield f"{found['leases']:,} leases were asked for in this time."


def _table(
    title: str, heads: tuple[str, str], rows: list[tuple[str, str, str]], most: int = 99
) -> Iterator[str]:
    width = max([24, *(len(row[0]) + 2 for row in rows[:most])])
    last = max(14, len(heads[1]) + 2)
    yield ""
    yield f"{title:{width}}{heads[0]:>14}{heads[1]:>{last}}"
    for name, *values in rows[:most]:
        yield f"{name:{width}}{values[0]:>14}{values[1]:>{last}}"
    if len(rows) > most:
        yield f"and {len(rows) - most} more, with --json"
    if not rows:
        yield "none"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _shades() -> str:
    """Give the characters of the chart, from none to all, that the terminal can show."""
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN
    return _BLOCKS


def _shade(share: float | None, shades: str) -> str:
    return "?" if share is None else shades[min(round(share * (len(shades) - 1)), len(shades) - 1)]
