"""What each correction buys: the corrected count with one of them left out at a time."""

import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import click
import polars as pl

from chameleon_usage import pipeline
from chameleon_usage.cli.options import (
    DATE,
    bucket_option,
    choose,
    config_option,
    output_option,
    read_sites,
    sites_option,
)
from chameleon_usage.intervals import arithmetic
from chameleon_usage.io import files
from chameleon_usage.models.frames import dy
from chameleon_usage.models.metrics import MEASURED
from chameleon_usage.models.raw import QUANTITIES
from chameleon_usage.models.site import Priority, Site
from chameleon_usage.models.stages import Ingested
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE
from chameleon_usage.reconstruct import corrected
from chameleon_usage.reconstruct.observed import observe
from chameleon_usage.reconstruct.reading import Corrections
from chameleon_usage.usage import causes
from chameleon_usage.usage.buckets import Availability, Window

NOTHING = "nothing"
"""The name of the count with every correction."""

SAMPLING = "integral"
"""The name of the count that takes what holds at 00:00 UTC for the whole day."""

_AT_ONCE = 2
"""Counts at a time; each takes memory."""


class Ablation(dy.Schema):
    """The corrected count with one correction left out, in nodes."""

    site = dy.String(primary_key=True)
    timestamp = dy.Datetime(time_unit="us", time_zone="UTC", primary_key=True)
    left_out = dy.String(primary_key=True)  # "nothing" for the corrected count itself
    count_type = dy.String(primary_key=True)
    value = dy.Float64(allow_inf=False, allow_nan=False)


@dataclass(frozen=True)
class Without:
    """One correction left out.

    Attributes:
        label: how figures call the correction.
        corrections: what the collector still does.
        source: a source taken out of every order of the site's source priority.
    """

    label: str
    corrections: Corrections = field(default_factory=Corrections)
    source: str = ""


ABLATIONS: dict[str, Without] = {
    NOTHING: Without("nothing left out"),
    SAMPLING: Without("integral, not midnight"),
    "merging": Without("merging of duplicates", Corrections(merge=False)),
    "clamping": Without("clamping to parents", Corrections(clamp=False)),
    "inventory": Without("the inventory", source="inventory.node_intervals"),
    "services": Without("nova.services", source="nova.services"),
    "witnesses": Without("indirect evidence", source=INDIRECT_EVIDENCE),
    "gone hosts": Without("naming gone hosts", Corrections(name_gone_hosts=False)),
    "lost allocations": Without("inferring lost allocations", Corrections(infer_allocations=False)),
    "purged specs": Without("finding reservations", Corrections(find_reservations=False)),
    "placing": Without("assigning hosts", Corrections(assign_hosts=False)),
    "event replay": Without("event replay", source="nova.instance_actions"),
}
"""Name of each correction to what leaves it out; ``nothing`` first."""


def ablate(
    ingested: Ingested,
    as_of: datetime,
    site: Site,
    window: Window,
    names: Collection[str] = tuple(ABLATIONS),
) -> pl.DataFrame:
    """Count with each correction left out that the site's configuration has.

    Args:
        ingested: what the site's adapters say, read once.
        as_of: when its tables were read.
        site: its configuration.
        window: the time to cover, and its buckets.
        names: which of ``ABLATIONS``.

    Returns:
        Ablation.
    """
    observed = observe(ingested, as_of)
    recorded = Availability(frozenset(), {}, as_of).buckets(window)

    def count(name: str, without: Without, changed: Site) -> pl.DataFrame:
        segments = corrected.collect(observed, changed, without.corrections).segments.filter(
            pl.col("quantity_type").is_in(MEASURED)
        )
        readings = {name: segments}
        if name == NOTHING:
            readings[SAMPLING] = at_midnight(segments)
        return pl.concat(
            daily_nodes(read, window).with_columns(left_out=pl.lit(label))
            for label, read in readings.items()
        )

    asked = [of for of in _applicable(site) if of[0] in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # most of a count is NumPy's, on one core
        parts = list(pool.map(count, *zip(*asked, strict=True)))
    counted = pl.concat(parts).join(recorded, on="timestamp", how="semi")
    return Ablation.validate(
        counted.select(pl.lit(site.key).alias("site"), *Ablation.column_names()[1:]), cast=True
    )


def _applicable(site: Site) -> Iterator[tuple[str, Without, Site]]:
    """Give the ablations that change something at a site, with its configuration changed."""
    for name, without in ABLATIONS.items():
        if name == SAMPLING:
            continue  # another reading of the same segments
        if not without.source:
            yield name, without, site
            continue
        sources = {
            quantity: Priority(rule.policy, tuple(s for s in rule.order if s != without.source))
            for quantity, rule in site.sources.items()
        }
        listed = {s for rule in site.declared.values() for s in rule.order}
        if without.source in listed and all(rule.order for rule in sources.values()):
            yield name, without, replace(site, sources=sources)


def at_midnight(segments: pl.DataFrame) -> pl.DataFrame:
    """Stretch or shrink segments to the whole days at whose 00:00 UTC they hold."""

    def next_midnight(name: str) -> pl.Expr:
        return (pl.col(name) - pl.duration(microseconds=1)).dt.truncate("1d").dt.offset_by("1d")

    return segments.with_columns(start=next_midnight("start"), end=next_midnight("end")).filter(
        pl.col("start") < pl.col("end")
    )


def daily_nodes(segments: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Average segments over buckets: ``timestamp``, ``count_type`` of ``QUANTITIES``, ``value``."""
    clipped = arithmetic.clip(segments, window.start, window.end)
    sums = arithmetic.integrate(
        clipped, window.edges, ["quantity_type", "node_size"], ["node_units"]
    )
    means = (
        sums.join(window.timestamps, on="bucket")
        .with_columns(
            count_type=causes.count_type("quantity_type"),
            value=pl.col("node_units") / pl.col("node_size") / pl.col("length"),
        )
        .sort("quantity_type", "node_size", "timestamp")
        .group_by("timestamp", "count_type", maintain_order=True)
        .agg(pl.col("value").sum())
    )
    every = window.timestamps.select("timestamp").join(
        pl.DataFrame({"count_type": QUANTITIES}), how="cross"
    )
    return every.join(means, on=["timestamp", "count_type"], how="left").with_columns(
        pl.col("value").fill_null(0.0)
    )


@click.command()
@config_option
@sites_option
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("data/twin"),
    show_default=True,
    help="Raw tables: <data-dir>/<site>/<schema>.<table>.parquet.",
)
@output_option
@click.option("--start", type=DATE, default="2016-01-01", show_default=True, help="First day.")
@click.option("--end", type=DATE, default="2026-01-01", show_default=True, help="Day after last.")
@bucket_option
def main(
    *,
    config: Path,
    names: Sequence[str],
    data_dir: Path,
    output: Path,
    start: datetime,
    end: datetime,
    bucket: str,
) -> None:
    """Count with each correction left out in turn: <output>/ablation/<site>/ablation.parquet."""
    window = Window(start, end, bucket)
    for site in choose(read_sites(config, names), names, data_dir, "make it with 'make data'"):
        stage, _ = pipeline.facts(site, data_dir, progress=sys.stderr.isatty())
        with files.whole_directory(output / "ablation" / site.key) as scratch:
            files.save_tables(
                scratch, {"ablation": ablate(stage.ingested, stage.as_of, site, window)}
            )
