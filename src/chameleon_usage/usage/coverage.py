"""How much of what is published has the support of a source, and how much is inferred."""

from collections.abc import Collection

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import finish
from chameleon_usage.models.metrics import SCHEDULE, STATUS
from chameleon_usage.models.outputs import Coverage
from chameleon_usage.models.raw import LEGACY_CACHE
from chameleon_usage.usage.buckets import Availability, Window


def supported_by_caches(timeline: pl.DataFrame, site: str) -> pl.DataFrame:
    """Tell how much of the corrected count the caches of the time support: a bound from outside.

    The caches name no host, so they cannot speak for one; but more nodes than they counted need
    other evidence.

    Args:
        timeline: usage_timeline.
        site: the site's key.

    Returns:
        Coverage, of the buckets that both collectors know.
    """
    legacy, corrected = pl.col("legacy"), pl.col("corrected")
    return finish(
        timeline.filter(pl.col("count_type").is_in(["total", "reservable", "committed"]))
        .pivot(
            on="collector_type",
            on_columns=["legacy", "corrected"],
            index=["timestamp", "count_type"],
            values="value",
        )
        .filter(legacy.is_not_null() & (corrected > 0))
        .with_columns(
            quantity_type="count_type",
            source=pl.lit(LEGACY_CACHE),
            known_share=pl.min_horizontal(legacy / corrected, 1.0),
        ),
        Coverage,
        site,
    )


SEEN = ["total", "reservable", "committed", "occupied_reservation"]
"""Quantities of which coverage says how much was seen, and how much inferred."""

USABLE = "reservable_usable"
"""The quantity of which a source supports the time in the pool whose status it tells."""


_BY = ["quantity_type", "source"]


def held_time(segments: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Add up the published host time that a row tells of (``seen``) and that is ``inferred``.

    Args:
        segments: Segments.
        window: the time to cover.

    Returns:
        quantity_type, source, bucket and ``held``, in seconds.
    """
    published = segments.lazy().filter(
        (pl.col("collector_type") == "corrected") & pl.col("quantity_type").is_in(SEEN)
    )
    inferred, seen = (pl.lit(word, pl.Enum(["inferred", "seen"])) for word in ("inferred", "seen"))
    seen = pl.when("inferred").then(inferred).otherwise(seen)
    held = published.select("quantity_type", "start", "end", source=seen)
    return supported_time(held.collect(), window)


def supported_time(support: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Add up the host time that each source supports (SourceSupport), as ``held_time`` does."""
    counted = arithmetic.clip(
        support.select(*_BY, "start", "end", held=pl.lit(1, pl.Int64)), window.start, window.end
    )
    return arithmetic.integrate(counted, window.edges, _BY, ["held"]).with_columns(
        pl.col(_BY).cast(pl.String)
    )


def coverage_table(
    held: pl.DataFrame,
    supported: pl.DataFrame,
    sliced: Collection[str],
    availability: Availability,
    window: Window,
    *,
    site: str,
) -> pl.DataFrame:
    """Tell how much of the published host time each source's own rows tell.

    And how much of it is ``seen``, by a row of the first source that knows the host, and how
    much ``inferred``.

    Args:
        held: of ``held_time``.
        supported: of ``supported_time``.
        sliced: quantity types that hold parts of nodes.
        availability: what the site's tables can tell of.
        window: the time to cover.
        site: the site's key.

    Returns:
        Coverage, of the buckets that the tables cover; null where nothing is published.
    """
    timestamps = window.timestamps
    # A sum of slices is not the word of one row: such a quantity is left out.
    sums = pl.col("quantity_type").is_in(sorted({*sliced} - {"total", "reservable"}))
    held = held.filter(~sums)

    def share(own: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
        index = ["quantity_type", "bucket"]
        whole = published.group_by(index).agg(_published=pl.col("held").sum())
        return (
            own.join(whole, on=index)
            .join(timestamps, on="bucket")
            .with_columns(
                known_share=pl.when(pl.col("_published") > 0).then(
                    pl.col("held") / pl.col("_published")
                )
            )
        )

    pool = held.filter(pl.col("quantity_type") == "reservable")
    status = pool.with_columns(quantity_type=pl.lit(USABLE))
    supported = supported.with_columns(
        pl.col("quantity_type").replace("status_known_in_pool", USABLE)
    )
    shares = [share(supported, pl.concat([held, status])), share(held, held)]
    told = [
        timestamps.select(
            "timestamp", quantity_type=pl.lit(quantity), known_share=pl.lit(value)
        ).with_columns(source=pl.lit("records"))
        for quantity, value in sorted(availability.completeness.items())
        if quantity not in {STATUS, SCHEDULE}
    ]
    columns = ["timestamp", "quantity_type", "source", "known_share"]
    table = pl.concat([frame.select(columns) for frame in (*shares, *told)])
    covered = availability.buckets(window)
    return finish(table.join(covered, on="timestamp", how="semi"), Coverage, site)
