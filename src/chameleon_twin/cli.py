"""The command line of the twin."""

import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from .calibration import PROFILES, SITES, Profile
from .site import make

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
@click.option("--profile", default="full", show_default=True, type=click.Choice(list(PROFILES)))
def make_command(
    *, sites: tuple[str, ...], data_dir: Path, scale: float, seed: int, no_decay: bool, profile: str
) -> None:
    """Make the tables and the truth of the sites."""
    wanted = list(dict.fromkeys(sites)) or list(SITES)
    for site in wanted:
        if site not in SITES:
            raise click.BadParameter(
                f"unknown site {site!r}; the twin has {', '.join(SITES)}", param_hint="--site"
            )
    size = Profile(profile, scale)
    jobs = [(site, data_dir, seed, size, not no_decay) for site in wanted]
    done: tqdm[Any] = tqdm(total=len(jobs), unit="site", disable=not sys.stderr.isatty())
    if profile == "tiny" or len(jobs) == 1:  # a process of its own would cost more than it saves
        for job in jobs:
            _report(job[0], make(*job), done)
    else:
        with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(make, *job): job[0] for job in jobs}
            for future in as_completed(running):
                _report(running[future], future.result(), done)
    done.close()


def _report(site: str, counts: dict[str, int], progress: "tqdm[Any]") -> None:
    progress.update()
    progress.write(f"{site}: {len(counts)} tables, {sum(counts.values()):,} rows", file=sys.stderr)
