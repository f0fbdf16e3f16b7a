"""What the outputs cover, and how much of it the records can speak of."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from chameleon_usage.intervals import arithmetic

KNOWN_ENOUGH = 0.95
"""A site's value is published where at least this share of its host time is known."""


@dataclass(frozen=True)
class Window:
    """The time the outputs cover, and their buckets (a Polars duration)."""

    start: datetime
    end: datetime
    bucket: str = "1d"

    @property
    def edges(self) -> pl.Series:
        """Borders of the buckets, both ends included."""
        return arithmetic.bucket_edges(self.start, self.end, self.bucket)

    @property
    def timestamps(self) -> pl.DataFrame:
        """Bucket number, its start (UTC) and its length in seconds."""
        edges = self.edges
        return pl.DataFrame(
            {
                "bucket": pl.int_range(len(edges) - 1, eager=True),
                "timestamp": edges[:-1].dt.replace_time_zone("UTC"),
                "length": edges.dt.epoch("s").diff().drop_nulls(),
            }
        )


@dataclass(frozen=True)
class Known:
    """What the records of a site can speak of.

    Attributes:
        quantities: measured quantity types that some source of the site tells.
        completeness: quantity type to the share of its rows that are still there.
        as_of: the records end here; a bucket that reaches further is unknown.
    """

    quantities: frozenset[str]
    completeness: Mapping[str, float]
    as_of: datetime

    def buckets(self, window: Window) -> pl.DataFrame:
        """List the window's buckets that the records cover (``timestamp``)."""
        recorded = pl.lit(self.as_of).dt.epoch("s") - pl.col("timestamp").dt.epoch("s")
        return window.timestamps.filter(
            pl.min_horizontal(recorded, "length") >= KNOWN_ENOUGH * pl.col("length")
        ).select("timestamp")
