"""How like the real testbed a twin is in years that did not steer it.

`python -m chameleon_twin.halves` makes twins that are steered by the real curves of the even years
alone, of the odd ones alone, and of all, and records their yearly means beside the real ones in
data/halves.csv. The calendar of the hardware and the behaviour of leases are the same in all.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import polars as pl

from .calibrate import legacy, uncorrected
from .calibration import HALVES, PATH, Profile, load
from .site import make

RECORD = PATH.with_name("halves.csv")
SITES = ("chi_tacc", "chi_uc", "kvm_tacc")
"""Those of which curves were published."""

COLLECTORS = {"current": "uncorrected", "legacy": "legacy"}
"""What the published plots call a collector, and what it is called here."""

QUANTITIES = ("total", "reservable", "committed", "occupied")
COLUMNS = {
    **dict.fromkeys(("site", "steered_by", "collector_type", "count_type"), pl.String),
    "year": pl.Int64,
    "real": pl.Float64,
    "twin": pl.Float64,
}


def measure(site: str, years: str | None, seed: int, size: Profile) -> pl.DataFrame:
    """Make a site that is steered by some years, and give its yearly means beside the real ones.

    Columns: `COLUMNS`; `steered_by` is `years`, or "all".
    """
    cal = load(site, Profile("full", 1.0))
    with TemporaryDirectory() as scratch:
        make(site, Path(scratch), seed, size, True, factors={}, years=years)
        folder = Path(scratch) / site
        ours = {"current": uncorrected(folder, cal.as_of, cal)}
        if (folder / "chameleon_usage.node_usage_report_cache.parquet").exists():
            ours["legacy"] = legacy(folder)

    def rows() -> Iterator[tuple[object, ...]]:
        for curve, real in cal.real_curves.items():
            collector, quantity = curve.split("_", 1)
            if quantity in QUANTITIES:
                for year, (mean, _) in real.items():
                    means = (mean, round(ours[collector][quantity][year], 2))
                    if year > 2015:  # the sites opened in that year
                        yield site, years or "all", COLLECTORS[collector], quantity, year, *means

    return pl.DataFrame(list(rows()), schema=COLUMNS, orient="row")


@click.command()
@click.option("--seed", default=2016, show_default=True, type=click.IntRange(min=0))
def main(seed: int) -> None:
    """Make three twins of each site, and record their yearly means in data/halves.csv."""
    found = []
    for site in SITES:
        for years in (None, *HALVES):
            found.append(measure(site, years, seed, Profile("full", 1.0)))
            click.echo(f"{site}: {years or 'all'}", err=True)
    pl.concat(found).write_csv(RECORD)


if __name__ == "__main__":
    main()
