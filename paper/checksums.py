"""Hold what the default build shows to what was recorded, and with it the README's figure.

Summed are values, not pixels and not the bytes of a format: the rows of each site's output tables,
the numbers behind each figure, the tables of each notebook as they are shown, and the numbers that
a notebook gives to the text. Only the default build, the twin's sites, is recorded.
"""

from __future__ import annotations

import csv
import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING

import click
import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.io.columns import content
from chameleon_usage.io.files import whole_file
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS
from paper.project import ROOT, site_entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORD = ROOT / "data" / "checksums.csv"
OUTPUT = ROOT / "output"
NOTEBOOKS = ROOT / "book" / "notebooks"
README_FIGURE = ROOT / "book" / "assets" / "collectors.svg"
DRAWN = OUTPUT / "plots" / "chi_tacc_facet.svg"


def shown_by(notebook: Path) -> Iterator[tuple[str, bytes]]:
    """Give each table that a notebook shows, by its id, and all the numbers that it glued."""
    numbers = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            data = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
            html = data.get("text/html", "")
            for table in re.findall(r'<div id="(table-[\w-]+)"', html):
                yield f"{notebook.name}#{table}", html.encode()
            if glued := output.get("metadata", {}).get("scrapbook"):
                numbers[glued["name"]] = data["application/papermill.record/text/plain"]
    yield f"{notebook.name}#numbers", json.dumps(numbers, sort_keys=True).encode()


def shown() -> Iterator[tuple[str, bytes]]:
    """Give all that is summed: its name in the record, and its values."""
    sites = site_entries("", "data/sites.yaml")
    always = [name for name in OUTPUTS if name not in OPTIONAL_OUTPUTS]
    tables = [OUTPUT / site / f"{name}.parquet" for site in sites for name in always]
    there = [path for path in tables if path.exists()]
    for path in (*there, *OUTPUT.glob("ablation/*/ablation.parquet")):
        yield path.relative_to(OUTPUT).as_posix(), content(pl.read_parquet(path))
    for path in OUTPUT.glob("plots/*.csv"):
        yield path.name, path.read_bytes()
    for path in NOTEBOOKS.glob("*.ipynb"):
        yield from shown_by(path)


def sums() -> dict[str, str]:
    """Give the checksum of all that is there, by name.

    Raises:
        UsageError: nothing was made.
    """
    found = {name: sha256(values).hexdigest() for name, values in shown()}
    if not found:
        raise UsageError(f"{OUTPUT} and {NOTEBOOKS} are empty; run 'make notebooks' first")
    return dict(sorted(found.items()))


def record() -> None:
    """Keep the sums of what is there now, and show its figure in the README."""
    with whole_file(RECORD) as part:
        lines = ["file,sha256", *(f"{name},{value}" for name, value in sums().items())]
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with whole_file(README_FIGURE) as part:
        part.write_bytes(DRAWN.read_bytes())


def check() -> None:
    """Hold what is there now to the record.

    Raises:
        UsageError: something differs; it is named.
    """
    with RECORD.open(encoding="utf-8", newline="") as lines:
        recorded = {row["file"]: row["sha256"] for row in csv.DictReader(lines)}
    found = sums()
    wrong = sorted(name for name in recorded | found if recorded.get(name) != found.get(name))
    if README_FIGURE.read_bytes() != DRAWN.read_bytes():
        wrong.append(README_FIGURE.name)
    if wrong:
        raise UsageError(
            f"not as recorded in {RECORD.relative_to(ROOT)}: {', '.join(wrong)}. "
            "If the change is meant, look at the figures and run 'make record'"
        )


@click.command()
@click.option("--record", "keep", is_flag=True, help="Keep the sums of what is there now.")
def main(keep: bool) -> None:
    """Hold the default build's tables, figures and numbers to the recorded checksums."""
    record() if keep else check()
