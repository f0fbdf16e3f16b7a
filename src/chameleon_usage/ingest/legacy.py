"""The legacy collector's daily caches -> count types, and maintenance windows."""

import polars as pl

from chameleon_usage.ingest.base import refuse, set_aside
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import LEGACY_CACHE
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.stages import Ingested, Legacy, rejects
from chameleon_usage.models.vocabulary import INGEST, Reason

COUNT_CACHE = "chameleon_usage.node_count_cache"
MAINTENANCE_TABLE = "chameleon_usage.node_maintenance"

_HOURS = ("maint_hours", "reserved_hours", "used_hours", "idle_hours", "total_hours")
_COUNTS = {
    "total": pl.col("total_hours"),
    "reservable": pl.col("total_hours") - pl.col("maint_hours"),
    "maintenance": pl.col("maint_hours"),
    "committed": pl.col("reserved_hours") + pl.col("used_hours"),
    "occupied": pl.col("used_hours"),
    "occupied_reservation": pl.col("used_hours"),
    "idle": pl.col("reserved_hours"),
    "available": pl.col("idle_hours"),
}
"""Count type to hours of the cache; a value is hours / 24."""


def caches(inputs: RawInputs) -> Ingested:
    """node_usage_report_cache -> one value per UTC date, node type and count type.

    A day cached twice counts once, as it was cached last. A day that only ``node_count_cache``
    holds gives its total. Upper and lower case are one, as to the database that kept the caches.
    """
    day = pl.col("date").dt.truncate("1d").alias("timestamp")
    row_id = pl.concat_str(pl.col("date").dt.date().cast(pl.String), "node_type", separator="|")
    reports, counts = (
        inputs.get(table).with_columns(day, row_id=row_id) for table in (LEGACY_CACHE, COUNT_CACHE)
    )
    spelling = _spelling(pl.concat([reports["node_type"], counts["node_type"]]))
    rows, counts = (
        table.with_columns(pl.col("node_type").str.to_lowercase().replace(spelling))
        for table in (reports, counts)
    )
    impossible = pl.any_horizontal(
        pl.col(name).is_null() | ~pl.col(name).is_between(0, 24 * 100_000) for name in _HOURS
    )
    reported, reported_again = _last_of_day(rows.filter(~impossible))
    counts_of = {name: _COUNTS[name] / 24 for name in sorted(_COUNTS)}
    values = (
        reported.select("timestamp", "node_type", **counts_of)
        .sort("timestamp", "node_type")
        .with_row_index("_row")
        .unpivot(index=["_row", "timestamp", "node_type"], variable_name="count_type")
        .sort("_row", maintain_order=True)  # the count types of each row are in order
        .drop("_row")
    )
    days = reported.select("timestamp").unique()
    counted, counted_again = _last_of_day(counts.join(days, on="timestamp", how="anti"))
    totals = counted.select(
        "timestamp",
        "node_type",
        count_type=pl.lit("total"),
        value=pl.col("cnt").cast(pl.Float64),
    )
    return Ingested(
        legacy=conform(
            pl.concat([values, totals.sort(pl.all())]).sort("timestamp", maintain_order=True),
            Legacy,
        ),
        aside=set_aside(counts.join(days, on="timestamp", how="semi"), COUNT_CACHE, "row_id"),
        rejects=pl.concat(
            rejects(bad, stage=INGEST, source=source, reason=reason, row_id="row_id")
            for bad, source, reason in (
                (rows.filter(impossible), LEGACY_CACHE, Reason.IMPOSSIBLE_HOURS),
                (reported_again, LEGACY_CACHE, Reason.CACHED_AGAIN),
                (counted_again, COUNT_CACHE, Reason.CACHED_AGAIN),
            )
        ),
    )


def _spelling(names: pl.Series) -> dict[str, str]:
    """Tell how each name is mostly written: by lower case, the spelling of the most rows."""
    most = (
        names.value_counts(name="rows")
        .sort("rows", "node_type", descending=[True, False])
        .unique(pl.col("node_type").str.to_lowercase(), keep="first", maintain_order=True)
    )
    return {name.lower(): name for name in most["node_type"].drop_nulls()}


def _last_of_day(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split the rows of each day and node type into the one cached last, and the others."""
    key = ["timestamp", "node_type"]
    if rows.select(key).n_unique() == rows.height:
        return rows, rows.clear()
    ordered = rows.sort(pl.all())
    last = pl.struct(key).is_last_distinct()
    return ordered.filter(last), ordered.filter(~last)


def maintenance(inputs: RawInputs) -> Ingested:
    """node_maintenance -> windows per host."""
    rows = inputs.get(MAINTENANCE_TABLE).select(
        "id",
        hostname="hypervisor_hostname",
        start="start_time",
        end=pl.col("end_time").fill_null(inputs.as_of),  # still open
    )
    nameless = pl.when(pl.col("hostname").is_null()).then(pl.lit(Reason.NO_HOST))
    good, bad = refuse(rows, MAINTENANCE_TABLE, "id", nameless)
    return Ingested(maintenance=good.select("hostname", "start", "end"), rejects=bad)
