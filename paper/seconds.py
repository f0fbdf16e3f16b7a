"""How many seconds of one processor core each step takes, recorded in data/seconds.csv.

They are processor time, which depends less than the clock on what else the machine does. Still they
are of one machine on one day: nothing is made from the record but the page and the table that show
it, and it is measured again only when somebody asks.
"""

from __future__ import annotations

import csv
import resource
import subprocess
from bisect import bisect_left

import click

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file
from paper.project import ROOT, site_entries
from paper.steps import RECORDS, STEPS

RECORD = ROOT / "data" / "seconds.csv"
LADDER = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900, 1200, 1800, 3600)
"""To which a time is rounded up, so that what differs from day to day does not show."""


def recorded() -> dict[str, int]:
    """Give the recorded seconds of each step."""
    with RECORD.open(encoding="utf-8", newline="") as lines:
        return {row["step"]: int(row["seconds"]) for row in csv.DictReader(lines)}


def rounded(measured: float) -> int:
    """Round a time up to the next rung.

    >>> rounded(3.2), rounded(61)
    (5, 90)
    """
    return LADDER[min(bisect_left(LADDER, measured), len(LADDER) - 1)]


def measure(name: str) -> float:
    """Take the time of one step alone, with all that it needs made before.

    Raises:
        UsageError: its command fails.
    """
    step = STEPS[name]
    sites = list(site_entries("", "data/sites.yaml")) if "SITE" in step.command else [""]
    taken = []
    for site in sites:  # the slowest is told
        words = step.command.replace("SITE", site).split()
        if words[0] == "make" and step.changed:
            _call(words)
            words += ["--what-if", step.changed]
        begin = _used()
        _call(words)
        taken.append(_used() - begin)
    return max(taken)


def _used() -> float:
    """Give the processor time of all commands that were called and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _call(words: list[str]) -> None:
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603 - our own
    if done.returncode:
        raise UsageError(f"{' '.join(words)} failed\n{done.stdout}{done.stderr}")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(STEPS)))
def main(names: tuple[str, ...]) -> None:
    """Time the steps NAMES, or all but those of many twins, and record them, rounded up.

    Each is timed alone, when all that it needs is made.
    """
    found = recorded() if RECORD.exists() else {}
    for name in names or [name for name in STEPS if name not in RECORDS]:
        taken = measure(name)
        found[name] = rounded(taken)
        click.echo(f"{name}: {taken:.1f} s")
    with whole_file(RECORD) as part:
        lines = [f"{name},{found[name]}" for name in STEPS if name in found]
        part.write_text("\n".join(["step,seconds", *lines]) + "\n", encoding="utf-8")
