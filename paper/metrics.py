"""Write the page that defines every metric, from the registry that the schemas read too."""

from __future__ import annotations

from pathlib import Path

import click

from chameleon_usage.io.files import whole_file
from chameleon_usage.models.metrics import (
    COLLECTORS,
    HOST_BY_HOST,
    IN_POOL,
    LEADTIMES,
    METRICS,
    PARTITION,
    RESOURCES,
    USE,
)


def page() -> str:
    """Give the page as MyST markdown."""
    lines = [
        "(metrics)=",
        "# Metrics",
        "",
        "Every quantity of the output tables, once. This page is made from the registry in the",
        "code: the formulas that stand here are those that are computed, checked and drawn.",
        "",
        "## Count types",
        "",
        "Where there is no formula, records tell the quantity; the others are algebra over it.",
        "Each value is a time-weighted mean over its bucket, so that value × length is node-hours.",
        "",
        "| `count_type` | definition | formula |",
        "|---|---|---|",
    ]
    lines += [f"| `{m.name}` | {m.definition} | {_code(m.formula)} |" for m in METRICS.values()]
    lines += [
        "",
        "At every moment these are disjoint and add up to `total`: "
        + ", ".join(f"`{part}`" for part in PARTITION)
        + ".",
        "",
        "Formulas also speak of what only a reading host by host tells, as the corrected collector",
        "does. In the uncorrected one "
        + " and ".join(f"`{name}`" for name in HOST_BY_HOST if name in IN_POOL)
        + " are 0, the others unknown.",
        "",
        "| part of a formula | definition |",
        "|---|---|",
        *(f"| `{n}` | {text} |" for n, text in HOST_BY_HOST.items() if n not in METRICS),
        "",
        "## How full a site is",
        "",
        "Figures and dashboards across sites show these parts of a site's nodes.",
        "",
        "| part | formula |",
        "|---|---|",
        *(f"| {part} | {_code(formula)} |" for part, formula in USE.items()),
        "",
        "## Resources",
        "",
        "| `resource` | unit |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {unit} |" for name, unit in RESOURCES.items()]
    lines += ["", "## Collectors", "", "| `collector_type` | definition |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in COLLECTORS.items()]
    lines += ["", "## Lead times", "", "| `leadtime_type` | definition |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in LEADTIMES.items()]
    return "\n".join(lines) + "\n"


def _code(formula: str) -> str:
    return f"`{formula}`" if formula else "–"


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def main(out: Path) -> None:
    """Write the page to OUT."""
    with whole_file(out) as part:
        part.write_text(page(), encoding="utf-8")
