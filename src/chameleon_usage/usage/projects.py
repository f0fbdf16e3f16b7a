"""The output tables that tell projects apart, made on request only."""

from collections.abc import Callable
from datetime import datetime

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import columns, conform, finish
from chameleon_usage.models.metrics import OF_PROJECTS
from chameleon_usage.models.outputs import SessionsByProject, UsageByProject
from chameleon_usage.models.vocabulary import UNKNOWN_PROJECT
from chameleon_usage.usage.buckets import (
    Availability,
    Window,
    derive,
    extents,
    mean_usage,
    unit_seconds,
)
from chameleon_usage.usage.tables import UNTYPED

Naming = Callable[[pl.DataFrame], pl.DataFrame]
"""What becomes of the names in a frame's ``project_id``; null stays null."""

_GROUP = ["project_id", "node_type"]


def usage_by_project(
    holdings: pl.DataFrame,
    by_resource: pl.DataFrame,
    availability: Availability,
    window: Window,
    *,
    site: str,
    naming: Naming,
) -> pl.DataFrame:
    """Integrate what projects held.

    Args:
        holdings: models.stages.Holdings.
        by_resource: models.outputs.UsageByResource of the site: where it is unknown, so are its
            parts.
        availability: what the site's tables can tell of.
        window: the time to cover and its buckets.
        site: the site's key.
        naming: what becomes of the names of projects.

    Returns:
        models.outputs.UsageByProject, series by series: by resource, count type, project, node
        type and time.
    """
    held = arithmetic.clip(_named(holdings, naming), window.start, window.end)
    spells = _with_spells(held, [*_GROUP, "node_size"], window)
    sums = unit_seconds(
        spells.with_columns(collector_type=pl.lit("corrected")), window, [*_GROUP, "spell"]
    )
    site_rows = by_resource.filter(
        pl.col("collector_type") == "corrected", pl.col("value").is_not_null()
    )
    kinds = columns(UsageByProject)
    parts = [
        states.select("timestamp", *_GROUP, value=name)
        .filter((pl.col("value") != 0) & known[name])
        .with_columns(
            site=pl.lit(site),
            count_type=pl.lit(name, kinds["count_type"]),
            resource=pl.lit(resource, kinds["resource"]),
        )
        for resource, means in mean_usage(sums, window, _GROUP)
        for states in [derive(means, availability)]
        for known in [_known(states, site_rows.filter(pl.col("resource") == resource))]
        for name in OF_PROJECTS
    ]
    return conform(pl.concat(parts), UsageByProject)


def _known(states: pl.DataFrame, site_rows: pl.DataFrame) -> pl.DataFrame:
    """Tell for each row of a frame which counts of the site are known in its bucket."""
    told = site_rows.group_by("timestamp").agg(
        (pl.col("count_type") == name).any().alias(name) for name in OF_PROJECTS
    )
    flags = states.select("timestamp").join(told, on="timestamp", how="left", maintain_order="left")
    return flags.with_columns(pl.col(OF_PROJECTS).fill_null(value=False))


def _named(frame: pl.DataFrame, naming: Naming) -> pl.DataFrame:
    """Name projects as they are to be written, and node types, and enumerate both in order."""
    texts = naming(frame).with_columns(
        pl.col("project_id").cast(pl.String).fill_null(UNKNOWN_PROJECT),
        pl.col("node_type").cast(pl.String).fill_null(UNTYPED),
    )
    return texts.cast({name: pl.Enum(texts[name].unique().sort()) for name in _GROUP})


def _with_spells(held: pl.DataFrame, by: list[str], window: Window) -> pl.DataFrame:
    """Number (``spell``) the runs of buckets in which a group, of ``by``, has anything.

    To integrate over these takes the room of what there is, not that of all buckets of each group.
    """
    spells = arithmetic.union(_whole_buckets(held.select(*by, "start", "end"), window), by)
    inside, _ = arithmetic.intersect(held, spells.with_row_index("spell"), by)
    return inside


def _whole_buckets(spans: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Lengthen spans within the window to the borders of their buckets."""
    edges, first, last = window.edges, *_buckets(spans, window)
    return spans.with_columns(start=edges[first], end=edges[last + 1])


def _buckets(spans: pl.DataFrame, window: Window) -> tuple[pl.Series, pl.Series]:
    """Find the buckets of the first and of the last second of spans within the window."""
    edges = window.edges
    return (
        edges.search_sorted(spans["start"], side="right").cast(pl.Int64) - 1,
        edges.search_sorted(spans["end"], side="left").cast(pl.Int64) - 1,
    )


def sessions_by_project(
    sessions: pl.DataFrame, window: Window, as_of: datetime, *, site: str, naming: Naming
) -> pl.DataFrame:
    """Count the sessions of projects.

    Args:
        sessions: models.stages.Sessions.
        window: the time to cover and its buckets.
        site: the site's key.
        as_of: when the tables were read; a session that lasts till then has not ended.
        naming: what becomes of the names of projects.

    Returns:
        models.outputs.SessionsByProject.
    """
    named, edges, by = _named(sessions, naming), window.edges, [*_GROUP, "spell"]
    build = (pl.col("launched_at") - pl.col("start")).dt.total_seconds()
    second = pl.duration(seconds=1)
    ended = named.filter(pl.col("end") < as_of)
    moments = pl.concat(
        [
            named.select(*_GROUP, "start", what=pl.lit("started"), amount=1),
            ended.select(*_GROUP, start=pl.col("end") - second, what=pl.lit("ended"), amount=1),
            *(
                named.drop_nulls("launched_at").select(
                    *_GROUP, start="launched_at", what=pl.lit(what), amount=amount
                )
                for what, amount in (("launched", pl.lit(1)), ("build_seconds", build))
            ),
        ],
        how="vertical_relaxed",
    ).with_columns(end=pl.col("start") + second)
    there = arithmetic.clip(named, window.start, window.end).with_columns(amount=1)
    there = _with_spells(_whole_buckets(there, window), _GROUP, window)
    counted = arithmetic.clip(moments, window.start, window.end)
    counted = counted.with_columns(bucket=_buckets(counted, window)[0])
    rows = (
        arithmetic.integrate(there, edges, by, ["amount"], groups=extents(there, by, edges))
        .join(window.timestamps, on="bucket")
        .select(*_GROUP, "bucket", "timestamp", present=pl.col("amount") // pl.col("length"))
    )
    for what in ("started", "ended", "launched", "build_seconds"):
        sums = (
            counted.filter(pl.col("what") == what)
            .group_by(*_GROUP, "bucket")
            .agg(pl.col("amount").sum().alias(what))
        )
        rows = rows.join(sums, on=[*_GROUP, "bucket"], how="left").with_columns(
            pl.col(what).fill_null(0)
        )
    return finish(rows, SessionsByProject, site)
