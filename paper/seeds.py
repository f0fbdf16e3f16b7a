"""How far each way of counting is from the truth on twins of several seeds, down to host and lease.

Each takes a twin and a run of the pipeline, together longer than the whole book. So
`python -m paper seeds` does it apart and records what it finds, and the book reads the record.
"""

from __future__ import annotations

from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING

import click
import polars as pl

from chameleon_twin.calibration import HALVES, SITES, Profile
from chameleon_twin.halves import SITES as STEERED
from chameleon_usage import pipeline
from chameleon_usage.viz.base import as_text, since_opening
from paper import by_unit, validation
from paper.eras import ERAS
from paper.project import ROOT
from paper.truth import daily_truth
from paper.twins import SEEDS, SIZE, WINDOW, measure_all, put, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECORD = ROOT / "data" / "seeds.csv"
ALL = "all"
RUN = ("site", "seed", "steered_by")
KEY = (*RUN, "count_type", "collector_type", "measure", "era")
COLUMNS = {
    "site": pl.String,
    "seed": pl.Int64,
    **dict.fromkeys(KEY[2:], pl.String),
    "value": pl.Float64,
}
"""`steered_by`: the years whose real curves steer the twin, as in data/halves.csv. `measure` is
`error_site` or `known_days` (see `validation.errors`), or one of `by_unit`."""


def measure(site: str, seed: int, years: str = ALL, size: Profile = SIZE) -> pl.DataFrame:
    """Make a site of the twin, count it, and hold every collector to the truth.

    Args:
        site: its key.
        seed: of the twin.
        years: of `halves.HALVES`, or `ALL`: whose real curves steer it.
        size: of the twin.

    Returns:
        `COLUMNS`, sorted by `KEY`, rounded as the record is.
    """
    with twin_of(site, seed, years=None if years == ALL else years, size=size) as twin:
        stage = pipeline.segments(twin.facts, twin.entry)
        usage = as_text(pipeline.outputs(stage, twin.entry, WINDOW)["usage_timeline"])
        truth, knowledge = twin.truth("intervals"), twin.truth("knowledge")
    opened = since_opening(usage)
    counted = by_unit.as_intervals(stage.segments)
    whole_nodes = (truth["nodes"] == 1).all()
    found = [
        _of_site(opened, truth),
        by_unit.errors_by(counted, truth, opened),
        by_unit.errors_of_inferred(counted, truth, spans_of_eras()),
    ]
    if whole_nodes:  # of two leases on a KVM host, a count does not say which it has
        held = by_unit.held_by_leases(knowledge, twin.facts.as_of)
        found.append(by_unit.errors_of_leases(counted, held, (WINDOW.start, WINDOW.end)))
    return (
        pl.concat(found)
        .with_columns(
            site=pl.lit(site),
            steered_by=pl.lit(years),
            seed=pl.lit(seed, pl.Int64),
            value=pl.col("value").round(6),
        )
        .select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
        .sort(KEY)
    )


def _of_site(usage: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Give the errors of the site's sums in the columns of `by_unit`."""
    days = usage["timestamp"].unique().sort()
    errors = validation.errors(usage, daily_truth(truth, days, by_unit.COUNTS))
    return (
        errors.rename({"error": "error_site"})
        .unpivot(
            ["error_site", "known_days"],
            index=["era", "collector_type", "count_type"],
            variable_name="measure",
        )
        .drop_nulls("value")
        .select(pl.col(name).cast(kind) for name, kind in by_unit.COLUMNS.items())
    )


def spans_of_eras() -> pl.DataFrame:
    """Give `era`, `since` and `until` (naive UTC) of each era of the record."""
    since = [datetime.fromisoformat(f"{year}-01-01") for year in ERAS]
    return pl.DataFrame({"era": list(ERAS.values()), "since": since}).with_columns(
        until=pl.col("since").shift(-1, fill_value=WINDOW.end)
    )


def read_record() -> pl.DataFrame:
    """Read what was recorded: `COLUMNS`, sorted by `KEY`."""
    return pl.read_csv(RECORD, schema=COLUMNS)


def runs(sites: Sequence[str] = SITES, seeds: Sequence[int] = ()) -> Iterator[tuple[str, int, str]]:
    """Give (site, seed, years) of what is recorded: each seed, and halves of the years with one.

    Args:
        sites: their keys.
        seeds: empty: all, and the halves of the years.
    """
    yield from product(sites, seeds or SEEDS, [ALL])
    if not seeds:
        yield from product([s for s in sites if s in STEERED], SEEDS[:1], HALVES)


@click.command()
@click.option("--site", "sites", multiple=True, type=click.Choice(SITES), help="Only these.")
@click.option("--seed", "seeds", multiple=True, type=int, help="Only these seeds of the twin.")
@click.option("--jobs", default=2, show_default=True, help="Runs at once.")
def main(*, sites: tuple[str, ...], seeds: tuple[int, ...], jobs: int) -> None:
    """Measure the errors on twins of several seeds, by site, node type, host and lease.

    They are recorded in data/seeds.csv. What is recorded of other runs stays.
    """
    wanted = [(measure, run) for run in runs(sites or SITES, seeds)]
    measure_all(wanted, lambda new: put(RECORD, new, RUN, KEY), jobs)
