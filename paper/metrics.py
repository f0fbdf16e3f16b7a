"""Write the page that defines every metric, from the registry that the schemas read too."""

from __future__ import annotations

from pathlib import Path

import click

from chameleon_usage.io.files import whole_file
from chameleon_usage.models.metrics import COLLECTORS, LEADTIMES, METRICS, PARTITION, RESOURCES


def page() -> str:
    """Give the page as MyST markdown."""
    lines = [
        "(metrics)=",
        "# Metrics",
        "",
        "Every quantity of the output tables, once. This page is made from the registry in the",
        "code that the schemas, the figures and the checks read too.",
        "",
        "## Count types",
        "",
        "Where there is no formula, the quantity is measured; the others are algebra over it.",
        "Each value is a time-weighted mean over its bucket, so that value × length is node-hours.",
        "",
        "| `count_type` | definition | formula |",
        "|---|---|---|",
    ]
    lines += [f"| `{m.name}` | {m.definition} | {m.formula or '–'} |" for m in METRICS.values()]
    lines += [
        "",
        "At every moment these are disjoint and add up to `total`: "
        + ", ".join(f"`{part}`" for part in PARTITION)
        + ".",
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


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def main(out: Path) -> None:
    """Write the page to OUT."""
    with whole_file(out) as part:
        part.write_text(page(), encoding="utf-8")
