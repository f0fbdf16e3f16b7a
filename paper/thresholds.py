"""What two thresholds of the method cost: the share that must be known, and the merge tolerance.

`python -m paper thresholds` counts some sites with each of several levels and records the errors;
the book reads the record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
import polars as pl

from chameleon_usage import pipeline
from chameleon_usage.models.metrics import KNOWN_SHARE, MEASURED
from chameleon_usage.models.site import DEFAULT_TOLERANCE
from chameleon_usage.viz.base import as_text, since_opening
from paper import errors, validation
from paper.project import ROOT
from paper.truth import daily_truth
from paper.twins import SEEDS, SIZE, WINDOW, measure_all, put, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chameleon_twin.calibration import Profile
    from chameleon_usage.models.site import Site
    from chameleon_usage.stages import FactsStage
    from chameleon_usage.usage.buckets import Window

RECORD = ROOT / "data" / "thresholds.csv"
SITES = ("chi_uc", "kvm_tacc")
"""Of the twin, a site for each cloud class that merges rows; beside them those of the services."""

LEVELS = {
    "known_share": ("0.8", "0.9", "0.95", "0.99"),
    "merge_tolerance": ("0m", "5m", "15m", "60m"),
}
OURS = {"known_share": str(KNOWN_SHARE), "merge_tolerance": DEFAULT_TOLERANCE}
"""Threshold to the level that the method has."""

DIGIT = 1e-6
"""The last digit of the record."""

KEY = ("site", "threshold", "level", "count_type")
COLUMNS = {**dict.fromkeys(KEY, pl.String), "error": pl.Float64, "known_days": pl.Float64}


def measure(site: str, size: Profile = SIZE) -> pl.DataFrame:
    """Count a site of the book's twin with each level of each threshold.

    Args:
        site: its key.
        size: of the twin.

    Returns:
        `COLUMNS`, sorted by `KEY`, rounded as the record is.
    """
    with twin_of(site, SEEDS[0], size=size) as twin:
        truth = twin.truth("intervals")
    return _with_each(site, twin.entry, twin.facts, WINDOW, truth)


def measure_services(release: str, site: str) -> pl.DataFrame:
    """Do the same with a site that the services wrote, of the release's fixture."""
    with errors.services_of(release, site) as (entry, facts, window, truth):
        return _with_each(errors.services_site(release, site), entry, facts, window, truth)


def _with_each(
    name: str, entry: Site, facts: FactsStage, window: Window, truth: pl.DataFrame
) -> pl.DataFrame:
    def measured() -> Iterator[pl.DataFrame]:
        for threshold, levels in LEVELS.items():
            for level in levels:
                tables = _counted(entry, facts, window, threshold, level)
                yield _held(tables, truth).with_columns(
                    site=pl.lit(name), threshold=pl.lit(threshold), level=pl.lit(level)
                )

    return (
        pl.concat(measured())
        .select(pl.col(column).cast(kind) for column, kind in COLUMNS.items())
        .with_columns(pl.col("error", "known_days").round(6))
        .sort(KEY)
    )


def _counted(
    entry: Site, facts: FactsStage, window: Window, threshold: str, level: str
) -> pl.DataFrame:
    """Give `usage_timeline` with one threshold at one level, and the other as the method has it."""
    if threshold == "merge_tolerance":
        entry = replace(entry, merge_tolerance=level)
    share = float(level) if threshold == "known_share" else KNOWN_SHARE
    stage = pipeline.segments(facts, entry)
    return pipeline.outputs(stage, entry, window, known_share=share)["usage_timeline"]


def _held(usage: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Give the errors of the corrected count over the whole time."""
    usage = since_opening(as_text(usage)).filter(pl.col("collector_type") == "corrected")
    days = usage["timestamp"].unique().sort()

    def whole(_: pl.Expr) -> pl.Expr:
        return pl.lit("whole").alias("era")

    return validation.errors(usage, daily_truth(truth, days, MEASURED), era=whole)


def read_record() -> pl.DataFrame:
    """Read what was recorded: `COLUMNS`, sorted by `KEY`."""
    return pl.read_csv(RECORD, schema=COLUMNS)


def at_services(record: pl.DataFrame, count: str) -> pl.DataFrame:
    """Say what the share that must be known costs on sites whose services delete for good.

    Args:
        record: of `read_record`.
        count: the count type.

    Returns:
        `level`, and for each place (bare metal, KVM) `<place>_error`, the largest of the releases,
        and `<place>_days`, the mean share of days with a value.
    """
    place = pl.col("site").str.split("/").list.last()
    names = [f"{where}_{what}" for where in ("baremetal", "kvm") for what in ("error", "days")]
    of_places = (
        record.filter(
            pl.col("site").str.starts_with("services/2"),
            threshold="known_share",
            count_type=count,
        )
        .group_by("level", place.alias("place"))
        .agg(error=pl.col("error").max(), days=pl.col("known_days").mean())
        .unpivot(["error", "days"], index=["level", "place"], variable_name="what")
        .with_columns(name=pl.format("{}_{}", "place", "what"))
    )
    return of_places.pivot(on="name", on_columns=names, index="level", values="value").sort("level")


def most_moved(record: pl.DataFrame, threshold: str) -> pl.DataFrame:
    """Give each site the most by which another level of a threshold changes an error or its days.

    Returns:
        `site`, `error`, `known_days`: the largest absolute differences from the method's level.
    """
    rows = record.filter(threshold=threshold)
    ours = rows.filter(level=OURS[threshold]).drop("level")
    both = rows.join(ours, on=["site", "threshold", "count_type"], suffix="_ours")
    return (
        both.group_by("site")
        .agg((pl.col(c) - pl.col(f"{c}_ours")).abs().max() for c in ("error", "known_days"))
        .sort("site")
    )


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Runs at once.")
def main(*, jobs: int) -> None:
    """Measure the errors with other thresholds; they are recorded in data/thresholds.csv."""
    wanted = [(measure, (site,)) for site in SITES]
    of_services = [(measure_services, place) for place in errors.services_sites()]
    measure_all([*wanted, *of_services], lambda new: put(RECORD, new, ["site"], KEY), jobs)
