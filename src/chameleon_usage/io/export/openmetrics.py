"""Outputs as OpenMetrics text with timestamps, for backfilling Prometheus.

The format is that of the OpenMetrics specification 1.0, as ``promtool tsdb create-blocks-from
openmetrics`` reads it: the samples of a series together and in order of time, ``# EOF`` last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.models.metrics import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Family:
    """A metric family: which column of which table, told apart by which labels."""

    name: str
    help: str
    table: str
    value: str
    labels: tuple[str, ...]
    resource: str = ""


FAMILIES: tuple[Family, ...] = (
    *(
        Family(
            name=f"chameleon_usage_{resource}",
            help=f"Time-weighted mean of the bucket that begins then, in {unit}.",
            table="usage_by_resource",
            value="value",
            labels=("site", "collector_type", "count_type"),
            resource=resource,
        )
        for resource, unit in RESOURCES.items()
    ),
    Family(
        name="chameleon_leadtime_hours",
        help="Lead time of the leases that were requested then, in hours; the median of several.",
        table="leadtime_timeline",
        value="value",
        labels=("site", "leadtime_type"),
    ),
    Family(
        name="chameleon_coverage_ratio",
        help="Share of the published host time that a source's own rows support.",
        table="coverage",
        value="known_share",
        labels=("site", "source", "quantity_type"),
    ),
)

TABLES = tuple(dict.fromkeys(family.table for family in FAMILIES))


def write_openmetrics(tables: Mapping[str, pl.DataFrame], path: Path) -> None:
    """Write the output tables that families speak of; a value that is null is no sample.

    Args:
        tables: output table name to frame (models.outputs.OUTPUTS).
        path: the text file.
    """
    with path.open("wb") as file:
        for family in FAMILIES:
            if family.table not in tables:
                continue
            frame = tables[family.table]
            if family.resource:
                frame = frame.filter(pl.col("resource") == family.resource)
            samples = _samples(frame, family)
            if samples.is_empty():
                continue
            file.write(f"# TYPE {family.name} gauge\n# HELP {family.name} {family.help}\n".encode())
            samples.write_csv(file, include_header=False, quote_style="never")
        file.write(b"# EOF\n")


def _samples(frame: pl.DataFrame, family: Family) -> pl.DataFrame:
    """Give one line a sample: ``name{label="value",...} value seconds``."""
    labels = [
        pl.format(f'{label}="{{}}"', _escaped(pl.col(label).cast(pl.String)))
        for label in family.labels
    ]
    return (
        frame.filter(pl.col(family.value).is_not_null())
        .sort(*family.labels, "timestamp")
        .select(
            pl.format(
                f"{family.name}{{{{{{}}}}}} {{}} {{}}",
                pl.concat_str(labels, separator=","),
                pl.col(family.value),
                pl.col("timestamp").dt.epoch("s"),
            )
        )
    )


def _escaped(text: pl.Expr) -> pl.Expr:
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.str.replace_all(plain, escaped, literal=True)
    return text
