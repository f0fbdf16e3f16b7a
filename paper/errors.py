"""How large the error is when a kind of damage is twice as frequent, and on the services' sites.

Every kind of damage takes a twin and a run of the pipeline, together longer than the whole book.
So `python -m paper errors` does it apart and records what it finds, and the book
reads the record.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import polars as pl

from chameleon_twin.calibration import SITES, damages, load
from chameleon_usage import pipeline
from chameleon_usage.models.metrics import MEASURED
from chameleon_usage.models.site import DEFAULT_SOURCES, Site
from chameleon_usage.usage.buckets import Window
from chameleon_usage.viz.base import since_opening
from paper import validation
from paper.eras import halves_of
from paper.project import ROOT
from paper.truth import daily_truth
from paper.twins import SEEDS, SIZE, WINDOW, measure_all, put, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chameleon_usage.stages import FactsStage

RECORD = ROOT / "data" / "errors.csv"
NOTHING = "nothing"
"""What `damage` says where every kind is as frequent as the calibration file states."""

EVERY = "all"
"""What `damage` says where all kinds are more frequent at once."""

DAMAGED = ("chi_tacc", "kvm_tacc")
"""The sites of which each kind of damage is made more frequent."""

FACTOR = 2.0
SERVICES = ROOT / "tests" / "services" / "fixture"
"""Holds a folder for each release, and in it one for each site that the services wrote."""

ADAPTERS = {
    "nova": ("nova_hosts", "nova_instances"),
    "blazar": ("blazar_hosts", "blazar_allocations", "blazar_leases"),
}
"""Service to what reads its tables."""

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
        damage: the kind that is `FACTOR` times as frequent, or `NOTHING`, or `EVERY`.
        seed: of the twin.

    Returns:
        the columns of the record; the numbers as it keeps them.
    """
    kinds = {NOTHING: [], EVERY: damages()}.get(damage, [damage])
    factors = dict.fromkeys(kinds, FACTOR)
    with twin_of(site, seed, factors=factors) as twin:
        stage = pipeline.segments(twin.facts, twin.entry)
        tables = pipeline.outputs(stage, twin.entry, WINDOW)
        intervals = twin.truth("intervals")
    usage = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")
    days = since_opening(usage)["timestamp"].unique().sort()
    truth = daily_truth(intervals, days, MEASURED)
    return _of_record(validation.errors(usage, truth, era=halves_of), damage, seed)


def _of_record(errors: pl.DataFrame, damage: str, seed: int) -> pl.DataFrame:
    """Give errors as the record keeps them."""
    return (
        errors.drop_nulls("error")
        .with_columns(damage=pl.lit(damage), seed=pl.lit(seed, pl.Int64))
        .select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
        .with_columns(pl.col("error", "known_days").round(6))
        .sort(KEY)
    )


def measure_services(release: str, site: str) -> pl.DataFrame:
    """Count a site that the services themselves wrote, and hold the count to what is true.

    Args:
        release: of the services.
        site: folder of the release's fixture: the tables, and beside them `*truth.parquet`.

    Returns:
        the columns of the record; `site` as `services_site` names it, and seed 0.
    """
    with services_of(release, site) as (entry, facts, window, intervals):
        tables = pipeline.outputs(pipeline.segments(facts, entry), entry, window)
    usage = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")
    truth = daily_truth(intervals, usage["timestamp"].unique().sort(), MEASURED)
    return _of_record(validation.errors(usage, truth, era=halves_of), NOTHING, 0).select(
        pl.lit(services_site(release, site)).alias("site"), *list(COLUMNS)[1:]
    )


@contextmanager
def services_of(release: str, site: str) -> Iterator[tuple[Site, FactsStage, Window, pl.DataFrame]]:
    """Read a site that the services wrote: its entry, facts, window, and the true intervals."""
    folder = SERVICES / release / site
    told = pl.concat(
        pl.read_parquet(path, columns=["kind", "hypervisor_hostname", "start", "end", "vcpus"])
        for path in sorted(folder.glob("*truth.parquet"))
    )
    first, last = (told[name].dt.truncate("1d") for name in ("start", "end"))
    window = Window(first.min(), last.max(), "1d")  # type: ignore[arg-type]
    with TemporaryDirectory() as scratch:
        raw = Path(scratch) / site
        raw.mkdir()
        for path in folder.glob("*.*.parquet"):
            (raw / path.name).symlink_to(path)
        here = [name for name in ADAPTERS if any(raw.glob(f"{name}*.parquet"))]
        adapters = tuple(adapter for name in here for adapter in ADAPTERS[name])
        entry = Site(key=site, name=site, adapters=adapters, sources=DEFAULT_SOURCES)
        facts, _ = pipeline.facts(entry, raw.parent)
        yield entry, facts, window, shares_of_hosts(told)


def services_sites() -> list[tuple[str, str]]:
    """List (release, site) of what the services wrote."""
    folders = {path.parent for path in SERVICES.glob("*/*/*truth.parquet")}
    return sorted((folder.parent.name, folder.name) for folder in folders)


def services_site(release: str, site: str) -> str:
    """Name a site that the services wrote, as the record does."""
    return f"services/{release}/{site}"


def shares_of_hosts(told: pl.DataFrame) -> pl.DataFrame:
    """Add up what is on a host: its vcpus over those of the host, at most 1.

    Args:
        told: `kind`, `hypervisor_hostname`, `start`, `end`, `vcpus`; what is in the cloud or in
            the pool has those of the host.

    Returns:
        `quantity_type`, `start`, `end`, `nodes`.
    """
    whole = told.filter(pl.col("kind").is_in(["total", "reservable"]))
    sizes = whole.group_by("hypervisor_hostname").agg(size=pl.col("vcpus").max())
    by = ["kind", "hypervisor_hostname"]
    steps = pl.concat(
        [
            told.select(*by, start=at, step=sign * pl.col("vcpus"))
            for at, sign in (("start", 1), ("end", -1))
        ]
    )
    levels = (
        steps.group_by(*by, "start")
        .agg(pl.col("step").sum())
        .sort(*by, "start")
        .with_columns(
            held=pl.col("step").cum_sum().over(by), end=pl.col("start").shift(-1).over(by)
        )
    )
    return (
        levels.filter(pl.col("held") > 0)
        .join(sizes, on="hypervisor_hostname")
        .select(
            "start",
            "end",
            quantity_type="kind",
            nodes=pl.min_horizontal(pl.lit(1.0), pl.col("held") / pl.col("size")),
        )
    )


def runs(
    sites: Sequence[str] = DAMAGED, kinds: Sequence[str] = ()
) -> Iterator[tuple[str, str, int]]:
    """Give (site, damage, seed) of what is to be measured: kinds where a site can have them.

    Args:
        sites: their keys.
        kinds: of damage, or `NOTHING` or `EVERY`; empty: all.
    """
    for damage, site in product(kinds or (NOTHING, EVERY, *damages()), sites):
        if damage in {NOTHING, EVERY} or load(site, SIZE).share(damage):
            yield site, damage, SEEDS[0]


def read_record() -> pl.DataFrame:
    """Read what was recorded: `COLUMNS`, sorted by `KEY`."""
    return pl.read_csv(RECORD, schema=COLUMNS)


@click.command()
@click.option("--site", "sites", multiple=True, type=click.Choice(SITES), help="Only these.")
@click.option(
    "--damage",
    "kinds",
    multiple=True,
    type=click.Choice([NOTHING, EVERY, *damages()]),
    help="Only these kinds, twice as frequent; `nothing`: the twin as it is; `all`: all at once.",
)
@click.option("--services", is_flag=True, help="Only the sites that the services wrote.")
@click.option("--jobs", default=2, show_default=True, help="Runs at once.")
def main(*, sites: tuple[str, ...], kinds: tuple[str, ...], services: bool, jobs: int) -> None:
    """Measure the error with more of each damage, and on the services' sites.

    It is recorded in data/errors.csv. What is recorded of other runs stays.
    """
    wanted = [] if services else [(measure, run) for run in runs(sites or DAMAGED, kinds)]
    of_services = [] if sites or kinds else [(measure_services, run) for run in services_sites()]
    measure_all(
        [*wanted, *of_services], lambda new: put(RECORD, new, ["site", "damage", "seed"], KEY), jobs
    )
