"""Why corrected and uncorrected differ, in node-hours, as far as the audit knows."""

from collections.abc import Collection, Iterator
from itertools import pairwise

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.metrics import MEASURED
from chameleon_usage.models.outputs import ComparisonCauses
from chameleon_usage.models.raw import AT_THEIR_WORD, QUANTITIES, RAW_TABLES
from chameleon_usage.models.vocabulary import SOURCES, Reason, stage_of
from chameleon_usage.usage.buckets import Availability, Window

REST = "rest"
"""What no cause accounts for: among it the replay of events, which moves bounds of what is kept."""

SAME_IN_BOTH = Reason.HOST_NOT_NAMED
"""The reason of rejects that the uncorrected collector does not count either."""

IN_NODE_HOURS = Reason.BEYOND_PARENT
"""The reason of the rejects of KVM that are told in node-hours, not in hours of a slice."""


def comparison_causes(
    seconds: pl.DataFrame,
    rejects: pl.DataFrame,
    sliced: Collection[str],
    availability: Availability,
    window: Window,
    *,
    site: str,
) -> pl.DataFrame:
    """Account for corrected - uncorrected, year by year.

    What was inferred adds to what the rows say, what the corrected collector refused of rows that
    the uncorrected one counts takes away from it.

    Args:
        seconds: of ``node_seconds``.
        rejects: Rejects.
        sliced: quantity types that hold parts of nodes.
        availability: what the site's tables can tell of; other count types are left out.
        window: the time to cover.
        site: the site's key.

    Returns:
        ComparisonCauses: of each year and count type the causes sum to the difference.
    """
    years = _years(window)
    hours = _hours(seconds)
    total = hours.group_by("bucket", "count_type").agg(node_hours=_difference())
    inferred = (
        hours.filter("inferred")
        .group_by("bucket", "count_type", "source")
        .agg(node_hours=_difference())
        .select(
            "bucket",
            "count_type",
            cause=pl.format("inferred from {}", pl.col("source").fill_null("?")),
            node_hours="node_hours",
        )
    )
    kvm = pl.Series("quantity_type", sorted(sliced), pl.String).to_frame()
    shared = set(kvm.select(count_type("quantity_type")).to_series()) - {"total", "reservable"}
    refused = _refused(rejects, shared, years)
    # Sums of floats depend on their order.
    causes = pl.concat([inferred, refused]).sort("bucket", "count_type", "cause")
    explained = causes.group_by("bucket", "count_type", maintain_order=True).agg(
        _explained=pl.col("node_hours").sum()
    )
    rest = total.join(explained, on=["bucket", "count_type"], how="left").select(
        "bucket",
        "count_type",
        cause=pl.lit(REST),
        node_hours=pl.col("node_hours") - pl.col("_explained").fill_null(0.0),
    )
    starts = pl.DataFrame(
        {
            "bucket": pl.int_range(len(years) - 1, eager=True),
            "timestamp": years[:-1].dt.replace_time_zone("UTC"),
        }
    )
    spoken = [name for name in QUANTITIES if _told(name, availability)]
    return ComparisonCauses.validate(
        pl.concat([causes.join(total, on=["bucket", "count_type"], how="semi"), rest])
        .filter(pl.col("count_type").is_in(spoken), pl.col("node_hours").abs() > NEGLIGIBLE)
        .join(starts, on="bucket")
        .select(pl.lit(site).alias("site"), "timestamp", "count_type", "cause", "node_hours")
        .sort("timestamp", "count_type", "cause"),
        cast=True,
    )


COUNTED_ROWS = pl.DataFrame(
    [
        (quantity, name)
        for quantity in QUANTITIES
        for name, table in RAW_TABLES.items()
        if quantity in table.tells and (table.rows_of or name) in AT_THEIR_WORD[quantity]
    ],
    schema={"count_type": pl.String, "source": pl.Enum(SOURCES)},
    orient="row",
)
"""Whose rows the uncorrected collector counts; the corrected one reads them with their events."""

NEGLIGIBLE = 1e-6
"""Node-hours that a sum of floats may be off."""


def _told(name: str, availability: Availability) -> bool:
    parts = (
        [name] if name in availability.quantities else [f"{name}_reservation", f"{name}_ondemand"]
    )
    return any(
        part in availability.quantities
        and availability.completeness.get(part, 1.0) >= availability.known_share
        for part in parts
    )


def count_type(column: str) -> pl.Expr:
    """Name a quantity type without telling reservation from on-demand."""
    return pl.col(column).cast(pl.String).str.replace("_(reservation|ondemand)$", "")


def _difference() -> pl.Expr:
    sign = pl.when(pl.col("collector_type") == "corrected").then(1.0).otherwise(-1.0)
    return (sign * pl.col("hours")).sum()


def _years(window: Window) -> pl.Series:
    return arithmetic.bucket_edges(window.start, window.end, "1y")


_BY = ["collector_type", "quantity_type", "source", "inferred", "node_size"]


def node_seconds(segments: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Add up the units of segments (Segments) year by year.

    Returns:
        ``bucket``, ``collector_type``, ``quantity_type``, ``source``, ``inferred``, ``node_size``
        and ``node_units``, in unit-seconds.
    """
    rows, years = segments.select(*_BY, "node_units", "start", "end"), _years(window)
    return pl.concat(
        arithmetic.integrate(
            arithmetic.clip(counted, window.start, window.end), years, _BY, ["node_units"]
        )
        for name in MEASURED
        for counted in [rows.filter(pl.col("quantity_type") == name)]
    )


def _hours(seconds: pl.DataFrame) -> pl.DataFrame:
    """Give node-hours per year, collector, count type, source and whether inferred."""
    return seconds.sort("bucket", *_BY).select(
        "bucket",
        "collector_type",
        pl.col("source").cast(pl.String),
        "inferred",
        count_type=count_type("quantity_type"),
        hours=pl.col("node_units") / pl.col("node_size") / 3600,
    )


def _refused(rejects: pl.DataFrame, shared: set[str], years: pl.Series) -> pl.DataFrame:
    """Give what the corrected collector refused of what the uncorrected one counts, negative.

    Args:
        rejects: Rejects.
        shared: count types in which a row may hold a part of a node: its hours are no node-hours.
        years: borders of the years.
    """
    found = [
        part.with_columns(bucket=pl.lit(number, pl.Int64), count_type=pl.lit(name))
        for name in QUANTITIES
        for number, part in enumerate(_refused_of(name, rejects, years, shared=name in shared))
    ]
    return pl.concat(found).select(
        "bucket", "count_type", pl.col("reason").cast(pl.String).alias("cause"), "node_hours"
    )


def _refused_of(
    name: str, rejects: pl.DataFrame, years: pl.Series, *, shared: bool
) -> Iterator[pl.DataFrame]:
    """Do so for one count type, year by year: of all, millions of rejects would take gigabytes.

    Yields:
        ``reason`` and ``node_hours`` of each year.
    """
    quantities = [q for q in (*QUANTITIES, *MEASURED) if q.split("_")[0] == name]
    uncorrected, mended = (
        pl.col("stage").is_in([stage_of(collector, quantity) for quantity in quantities])
        for collector in ("uncorrected", "corrected")
    )
    sources = COUNTED_ROWS.filter(count_type=name)["source"]
    counts = pl.col("reason") == IN_NODE_HOURS if shared else pl.col("reason") != SAME_IN_BOTH
    mine = (
        rejects.lazy()
        .filter(mended, counts, pl.col("source").is_in(sources.implode()))
        .select("source_row_id", "reason", "start", "end", "hours")
        .drop_nulls(["start", "end", "hours"])
        .join(
            rejects.lazy().filter(uncorrected).select("source_row_id"),
            on="source_row_id",
            how="anti",
        )
        .collect()
    )
    whole = (pl.col("end") - pl.col("start")).dt.total_seconds()
    lasting = mine.filter(whole > 0).with_columns(_rate=pl.col("hours") / whole)
    for begin, end in pairwise(years):
        yield (
            arithmetic.clip(lasting, begin, end)
            .with_columns(hours=pl.col("_rate") * whole)
            .filter(pl.col("hours") > 0)
            .sort("source_row_id", "start", "reason", "end", "hours")
            .group_by("reason", maintain_order=True)
            .agg(node_hours=-pl.col("hours").sum())
        )
