"""Hold the data behind every figure, and the README's figure, to what was recorded.

Only the default build, the twin's sites, is recorded. A figure's numbers are summed, not its
pixels.
"""

from __future__ import annotations

import csv
import hashlib

import click

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file
from paper.project import ROOT

RECORD = ROOT / "data" / "checksums.csv"
PLOTS = ROOT / "output" / "plots"
README_FIGURE = ROOT / "book" / "assets" / "collectors.svg"
DRAWN = PLOTS / "chi_tacc_facet.svg"


def sums() -> dict[str, str]:
    """Give the checksum of the data of every figure that was drawn, by file name.

    Raises:
        UsageError: none was drawn.
    """
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(PLOTS.glob("*.csv"))
    }
    if not found:
        raise UsageError(f"{PLOTS}: no figure's data; run 'make notebooks' first")
    return found


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
    """Hold the default build's figures to the recorded checksums."""
    record() if keep else check()
