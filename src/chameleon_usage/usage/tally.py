"""What the tables need of segments, as integers that add up over ranges of hosts.

Each range of hosts is tallied by itself. Integers add up to the same in whatever order, and
whichever way the hosts are divided; they are divided once, when all are together.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from chameleon_usage.models.frames import columns
from chameleon_usage.models.stages import Segments
from chameleon_usage.usage.buckets import Window, unit_seconds
from chameleon_usage.usage.causes import node_seconds
from chameleon_usage.usage.coverage import held_time, supported_time
from chameleon_usage.usage.projected import whole_hosts
from chameleon_usage.usage.tables import UNTYPED, enumeration

Tally = Mapping[str, pl.DataFrame]
"""usage, hosts: unit-seconds by node type, and by host, if asked for; held, supported: of coverage;
seconds: of causes; sliced: what holds parts of nodes; pool: of projected lead times."""

_SUMS = {"held": "held", "supported": "held", "seconds": "node_units"}
_UNITED = ("sliced", "pool")
_OF_TEXT = ("held", "supported")


def tally(
    segments: pl.DataFrame, support: pl.DataFrame, window: Window, *, by_host: bool = False
) -> Tally:
    """Add up the segments of a site, or of a range of its hosts.

    Args:
        segments: Segments.
        support: SourceSupport.
        window: the time to cover.
        by_host: add up by host, too.
    """
    kinds = enumeration(segments["node_type"])
    typed = segments.with_columns(pl.col("node_type").cast(kinds).fill_null(UNTYPED))
    with ThreadPoolExecutor(1) as pool:  # each of the two keeps about one core busy
        beside = pool.submit(_beside_usage, segments, support, window)
        made = {"usage": unit_seconds(typed, window, ["node_type"]), **beside.result()}
    if by_host:
        named = segments.filter(pl.col("hostname").is_not_null())
        made["hosts"] = unit_seconds(named, window, ["hostname", "node_type"], ["nodes"])
    return made


def _beside_usage(segments: pl.DataFrame, support: pl.DataFrame, window: Window) -> Tally:
    """Add up what ``tally`` does but for what the usage tables are made of."""
    sliced = segments.filter(pl.col("node_size") > 1)
    return {
        "held": held_time(segments, window),
        "supported": supported_time(support, window),
        "seconds": node_seconds(segments, window),
        "sliced": sliced.select("collector_type", "quantity_type").unique(),
        "pool": whole_hosts(segments),
    }


def add_up(parts: Sequence[Tally]) -> Tally:
    """Add up tallies of ranges of hosts; names may be written as text in them."""
    if len(parts) == 1:
        return parts[0]
    whole = {}
    for name in parts[0]:
        frames = [part[name] for part in parts]
        if name in _UNITED:
            whole[name] = pl.concat(frames).unique()
        elif name in _SUMS:
            stacked = pl.concat(frames if name in _OF_TEXT else map(_typed, frames))
            key = [column for column in stacked.columns if column != _SUMS[name]]
            whole[name] = stacked.group_by(key).agg(pl.col(_SUMS[name]).sum()).sort(key)
        else:
            whole[name] = _add_units(frames)
    return whole


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Bring columns of segments to their types again."""
    kinds = {name: kind for name, kind in columns(Segments).items() if name in frame.columns}
    return frame.cast(kinds)  # type: ignore[arg-type]


def _add_units(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up frames of ``buckets.unit_seconds``, as it would give them of all segments."""
    names = parts[0].columns
    index = names[: names.index("bucket")]
    stacked = _typed(pl.concat(parts, how="diagonal_relaxed"))
    sums = stacked.group_by(*index, "bucket").agg(pl.exclude(*index, "bucket").sum())
    every = (
        sums.group_by(index)
        .agg(pl.int_range(pl.col("bucket").min(), pl.col("bucket").max() + 1).alias("bucket"))
        .explode("bucket")
        .sort(*index, "bucket")
    )
    filled = every.join(
        sums, on=[*index, "bucket"], how="left", maintain_order="left", nulls_equal=True
    )
    return filled.with_columns(
        pl.col("collector_type").cast(pl.String), pl.exclude(*index).fill_null(0)
    )
