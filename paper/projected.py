"""Projected lead times from what the twin's scheduler really knew, by SQL alone."""

from contextlib import suppress
from pathlib import Path

import duckdb
import polars as pl

from paper.eras import era_of

_WAITS = """
WITH days AS (
    SELECT day, row_number() OVER (ORDER BY day) AS number
    FROM (SELECT DISTINCT timestamp::TIMESTAMP AS day FROM asked)
), pool AS (
    SELECT DISTINCT day, node_type, host FROM days
    JOIN read_parquet($pool) ON known_from <= day AND (known_to IS NULL OR day < known_to)
), booked AS (
    SELECT day, pool.node_type, host, plan.start, plan."end"
    FROM pool JOIN read_parquet($knowledge) AS plan USING (host)
    WHERE plan.known_from <= day AND (plan.known_to IS NULL OR day < plan.known_to)
      AND plan."end" > day
), moments AS (  -- a request can start now, or where a booking ends
    SELECT DISTINCT day, node_type, day AS moment FROM pool
    UNION SELECT DISTINCT day, node_type, "end" FROM booked
), busy AS (
    SELECT day, node_type, moment, count(DISTINCT host) AS hosts
    FROM moments JOIN booked USING (day, node_type)
    WHERE start < moment + INTERVAL 24 HOUR AND moment < "end"
    GROUP BY ALL
), free AS (
    SELECT day, node_type, moment, size - coalesce(hosts, 0) AS hosts
    FROM moments LEFT JOIN busy USING (day, node_type, moment)
    JOIN (SELECT day, node_type, count(*) AS size FROM pool GROUP BY ALL) USING (day, node_type)
)
SELECT day AS timestamp, node_type, nodes, min(epoch(moment) - epoch(day)) / 3600 AS truth
FROM free JOIN (SELECT DISTINCT nodes FROM asked) ON hosts >= nodes
GROUP BY ALL ORDER BY ALL
"""


def true_waits(projected: pl.DataFrame, truth: Path) -> pl.DataFrame:
    """Compute the waits for the days and numbers of nodes of a table from the twin's truth.

    Args:
        projected: models.outputs.LeadtimeProjected of one site, some days of it.
        truth: the site's folder with ``knowledge.parquet`` and ``pool.parquet``.

    Returns:
        timestamp (UTC), node_type, nodes, truth (hours).
    """
    asked = projected.select("timestamp", "nodes").unique()
    asked = asked.with_columns(pl.col("timestamp").dt.replace_time_zone(None))
    files = {name: str(truth / f"{name}.parquet") for name in ("pool", "knowledge")}
    with duckdb.connect() as database:
        # A notebook would show it; a kernel that cannot draw it refuses the word, and draws none.
        with suppress(duckdb.InvalidInputException):
            database.execute("SET enable_progress_bar = false")
        database.register("asked", asked)
        found = pl.DataFrame(database.sql(_WAITS, params=files).to_arrow_table())
    return found.with_columns(
        pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    )


_MEASURES = ("within", "within_of_waits", "mean_absolute_h", "wait_h", "values", "waits")


def projected_errors(projected: pl.DataFrame, true: pl.DataFrame) -> pl.DataFrame:
    """Hold the projected lead times of one site to the truth, by era and number of nodes.

    Args:
        projected: models.outputs.LeadtimeProjected.
        true: of ``true_waits``.

    Returns:
        site, era, nodes; ``known``: the share of days and types of the truth with a value; of
        those ``within``: the share within an hour, ``within_of_waits``: the same where the true
        wait is not 0, and ``mean_absolute_h``; ``wait_h``: the mean true wait of all; ``values``:
        how many have a value, and ``waits``: how many of these have a true wait that is not 0.
    """
    site = projected["site"].first()
    key = ["timestamp", "node_type", "nodes"]
    difference = (pl.col("value") - pl.col("truth")).abs()
    return (
        true.join(projected, on=key, how="left")
        .with_columns(era_of(pl.col("timestamp")))
        .sort(key)
        .group_by("era", "nodes")
        .agg(
            site=pl.lit(site, pl.String).first(),
            known=pl.col("value").is_not_null().mean(),
            within=(difference <= 1).mean(),
            within_of_waits=(difference <= 1).filter(pl.col("truth") > 0).mean(),
            mean_absolute_h=difference.mean(),
            wait_h=pl.col("truth").mean(),
            values=pl.col("value").count(),
            waits=pl.col("value").filter(pl.col("truth") > 0).count(),
        )
        .select("site", "era", "nodes", "known", *_MEASURES)
        .sort("site", "era", "nodes")
    )


def held_to_truth(waits: Path, truth: Path) -> pl.DataFrame:
    """Hold what was projected at one site for every seventh day to the truth.

    Args:
        waits: its models.outputs.LeadtimeProjected.
        truth: as of ``true_waits``.

    Returns:
        as `projected_errors`; no row where nothing was projected.
    """
    weekly = pl.read_parquet(waits).filter(pl.col("timestamp").dt.epoch("d") % 7 == 0)
    return projected_errors(weekly, true_waits(weekly, truth))
