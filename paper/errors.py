"""How large the error is from seed to seed, and when a kind of damage is twice as frequent.

Every seed and every kind of damage takes a twin and a run of the pipeline, together longer than
the whole book. So `python -m paper errors` does it apart and records what it finds, and the book
reads the record.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import polars as pl

from chameleon_twin.calibration import SITES, Profile, damages, load
from chameleon_twin.site import make
from chameleon_usage import pipeline
from chameleon_usage.cli.options import read_sites
from chameleon_usage.io import files
from chameleon_usage.usage.buckets import Window
from chameleon_usage.viz.base import since_opening
from paper import validation
from paper.eras import before_and_after_2022
from paper.project import ROOT
from paper.truth import daily_truth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECORD = ROOT / "data" / "errors.csv"
NOTHING = "nothing"
"""What `damage` says where every kind is as frequent as the calibration file states."""

SEEDS = (2016, 1, 2, 3, 4)
"""The first is the book's own."""

DAMAGE_SEEDS = SEEDS[:2]
FACTOR = 2.0
SIZE = Profile("full", 1.0)
"""The real one: of a tenth of the hosts, one that has lost its row would be ten times as much."""

COUNTED = (
    "total",
    "reservable",
    "committed",
    "occupied_reservation",
    "occupied_ondemand",
    "active_reservation",
    "active_ondemand",
)
"""What the collectors count; everything else follows from it by formulas."""

KEY = ("site", "damage", "seed", "era", "count_type")
COLUMNS = {
    **dict.fromkeys(("site", "damage"), pl.String),
    "seed": pl.Int64,
    **dict.fromkeys(("era", "count_type"), pl.String),
    "error": pl.Float64,
    "known_days": pl.Float64,
}


def measure(site: str, damage: str, seed: int) -> pl.DataFrame:
    """Make a site of the twin, count it, and hold the corrected count to the truth.

    Args:
        site: its key.
        damage: the kind that is `FACTOR` times as frequent, or `NOTHING`.
        seed: of the twin.

    Returns:
        the columns of the record; the numbers as it keeps them.
    """
    factors = {} if damage == NOTHING else {damage: FACTOR}
    window = Window(pipeline.DEFAULT_START, pipeline.DEFAULT_END, "1d")
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(site, folder, seed, SIZE, True, factors=factors)
        entry = read_sites(ROOT / "data" / "sites.yaml", [site])[site]
        tables, _ = pipeline.run_pipeline(entry, folder, folder / "output", window)
        intervals = pl.read_parquet(folder / site / "truth" / "intervals.parquet")
    usage = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")
    days = since_opening(usage)["timestamp"].unique().sort()
    truth = daily_truth(intervals, days, COUNTED)
    errors = validation.errors(usage, truth, era=before_and_after_2022)
    return (
        errors.drop_nulls("error")
        .with_columns(damage=pl.lit(damage), seed=pl.lit(seed, pl.Int64))
        .select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
        .with_columns(pl.col("error", "known_days").round(6))
        .sort(KEY)
    )


def runs(
    sites: Sequence[str] = SITES,
    kinds: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Iterator[tuple[str, str, int]]:
    """Give (site, damage, seed) of what is to be measured: kinds where a site can have them.

    Args:
        sites: their keys.
        kinds: of damage, or `NOTHING`; empty: all.
        seeds: empty: `SEEDS`, and `DAMAGE_SEEDS` of kinds of damage.
    """
    for damage, site in product(kinds or (NOTHING, *damages()), sites):
        if damage == NOTHING or load(site, SIZE).share(damage):
            usual = SEEDS if damage == NOTHING else DAMAGE_SEEDS
            yield from ((site, damage, seed) for seed in seeds or usual)


def read_record() -> pl.DataFrame:
    """Read what was recorded: `COLUMNS`, sorted by `KEY`."""
    return pl.read_csv(RECORD, schema=COLUMNS)


def write_record(measured: Sequence[pl.DataFrame]) -> None:
    """Put what was measured into the record, in the place of what it had of the same runs."""
    new = pl.concat(measured)
    known = [read_record()] if RECORD.exists() else []
    kept = [old.join(new, on=["site", "damage", "seed"], how="anti") for old in known]
    with files.whole_file(RECORD) as part:
        pl.concat([*kept, new]).sort(KEY).write_csv(part)


@click.command()
@click.option("--site", "sites", multiple=True, type=click.Choice(SITES), help="Only these.")
@click.option(
    "--damage",
    "kinds",
    multiple=True,
    type=click.Choice([NOTHING, *damages()]),
    help="Only these kinds, twice as frequent; `nothing`: the twin as it is.",
)
@click.option("--seed", "seeds", multiple=True, type=int, help="Only these seeds of the twin.")
@click.option("--jobs", default=2, show_default=True, help="Runs at once.")
def main(
    *, sites: tuple[str, ...], kinds: tuple[str, ...], seeds: tuple[int, ...], jobs: int
) -> None:
    """Measure the error on twins of several seeds and damages, and record it: data/errors.csv.

    What is recorded of other runs stays.
    """
    # Runs side by side share the cores; a process reads this before it loads Polars.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    wanted = list(runs(sites or SITES, kinds, seeds))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running = {pool.submit(measure, *run): run for run in wanted}
        for done, future in enumerate(as_completed(running), 1):
            write_record([future.result()])
            what = " ".join(map(str, running[future]))
            click.echo(f"{done} of {len(wanted)}: {what}", err=True)
