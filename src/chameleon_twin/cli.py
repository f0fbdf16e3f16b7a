"""The command line of the twin."""

import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from .calibration import PROFILES, SITES, Profile, damages
from .site import make, options

WORKERS = 2


@click.group()
def main() -> None:
    """Simulated sites whose truth is known."""


@main.command("make")
@click.option("--site", "sites", multiple=True, help="A site to make; all of them by default.")
@click.option("--data-dir", default="data/twin", show_default=True, type=click.Path(path_type=Path))
@click.option("--scale", default=1.0, show_default=True, type=click.FloatRange(0.01, 100),
              help="Size of fleet and demand against the real ones.")  # fmt: skip
@click.option("--seed", default=2016, show_default=True, type=click.IntRange(min=0))
@click.option("--no-decay", is_flag=True, help="Write the tables as if nothing was ever lost.")
@click.option("--damage", multiple=True, metavar="NAME=FACTOR",
              help="Make a kind of damage so many times as frequent; all: every kind.")  # fmt: skip
@click.option("--profile", default="full", show_default=True, type=click.Choice(list(PROFILES)))
@click.option("--overwrite", is_flag=True,
              help="Replace what other options, or no twin, have made, too.")  # fmt: skip
def make_command(
    *, sites: tuple[str, ...], data_dir: Path, scale: float, seed: int, no_decay: bool,
    damage: tuple[str, ...], profile: str, overwrite: bool,
) -> None:  # fmt: skip
    """Make the tables and the truth of the sites."""
    factors = _factors(damage)
    wanted = list(dict.fromkeys(sites)) or list(SITES)
    for site in wanted:
        if site not in SITES:
            raise click.BadParameter(
                f"unknown site {site!r}; the twin has {', '.join(SITES)}", param_hint="--site"
            )
    size = Profile(profile, scale)
    if not overwrite:
        asked = options(seed, size, not no_decay, factors)
        for site in wanted:
            _spare_others(data_dir / site, asked)
    jobs = [(site, data_dir, seed, size, not no_decay) for site in wanted]
    done: tqdm[Any] = tqdm(total=len(jobs), unit="site", disable=not sys.stderr.isatty())
    if profile == "tiny" or len(jobs) == 1:  # a process of its own would cost more than it saves
        for job in jobs:
            _report(job[0], make(*job, factors=factors), done)
    else:
        with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(make, *job, factors=factors): job[0] for job in jobs}
            for future in as_completed(running):
                _report(running[future], future.result(), done)
    done.close()


def _spare_others(folder: Path, asked: dict[str, object]) -> None:
    """Refuse to replace a folder that is not the same twin, of an earlier program perhaps."""
    if not folder.exists():
        return
    manifest = folder / "manifest.json"
    found = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    if found.get("kind") != "twin":
        told = "holds tables that no twin made"
    elif other := [name for name, value in asked.items() if found.get(name) != value]:
        told = "holds a twin with " + ", ".join(f"{name} {found.get(name)}" for name in other)
    else:
        return
    raise click.ClickException(
        f"{folder} {told}: name another directory with --data-dir, or replace it with --overwrite"
    )


def _factors(damage: tuple[str, ...]) -> dict[str, float]:
    """What each kind of damage is multiplied by, where the command says so."""
    factors: dict[str, float] = {}
    for given in damage:
        name, _, factor = given.partition("=")
        try:
            times = float(factor)
        except ValueError:
            times = -1.0
        if not 0 <= times < float("inf"):
            raise click.BadParameter(
                f"{given!r}: expected NAME=FACTOR, the factor a number of at least 0",
                param_hint="--damage",
            )
        if name not in {"all", *damages()}:
            raise click.BadParameter(
                f"unknown kind {name!r}; known are all, {', '.join(damages())}",
                param_hint="--damage",
            )
        factors |= dict.fromkeys(damages() if name == "all" else [name], times)
    return factors


def _report(site: str, counts: dict[str, int], progress: "tqdm[Any]") -> None:
    progress.update()
    progress.write(f"{site}: {len(counts)} tables, {sum(counts.values()):,} rows", file=sys.stderr)
