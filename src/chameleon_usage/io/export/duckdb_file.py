"""All outputs and the usual questions in one DuckDB file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from chameleon_usage.models.metrics import HOST_BY_HOST, METRICS, PARTITION
from chameleon_usage.models.outputs import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl

_STATES = ", ".join(f"'{name}'" for name in ("total", *PARTITION))

# Every name in them is the project's own.
VIEWS: dict[str, tuple[str, str, str]] = {
    "states": (
        "usage_timeline",
        "The disjoint states of all nodes that exist, corrected, a column each, beside their "
        "total.",
        f"""
        PIVOT (FROM usage_timeline WHERE collector_type = 'corrected')
        ON count_type IN ({_STATES}) USING first(value)
        GROUP BY site, timestamp
        ORDER BY site, timestamp
        """,
    ),
    "utilisation_monthly": (
        "usage_wide",
        "Committed over reservable nodes by month: sums divided, over buckets that know both.",
        """
        SELECT
            site,
            date_trunc('month', time AT TIME ZONE 'UTC')::DATE AS month,
            sum(committed) FILTER (WHERE reservable IS NOT NULL)
            / nullif(sum(reservable) FILTER (WHERE committed IS NOT NULL), 0) AS utilisation
        FROM usage_wide
        WHERE resource = 'nodes'
        GROUP BY site, month
        ORDER BY site, month
        """,
    ),
    "leadtime_monthly": (
        "leadtime_timeline",
        "Median lead time in hours, by month of the request and type.",
        """
        SELECT
            site,
            leadtime_type,
            date_trunc('month', timestamp AT TIME ZONE 'UTC')::DATE AS month,
            median(value) AS median_h,
            count(*) AS moments
        FROM leadtime_timeline
        GROUP BY site, leadtime_type, month
        ORDER BY site, leadtime_type, month
        """,
    ),
}
"""View to the table that it needs, what it shows, and its query."""


@dataclass(frozen=True)
class _Stream:
    """An Arrow stream of a frame: DuckDB reads one by itself, and a Polars frame with pyarrow."""

    frame: pl.DataFrame

    def __arrow_c_stream__(self, schema: object = None) -> object:
        return self.frame.__arrow_c_stream__(schema)


def write_duckdb(tables: Mapping[str, pl.DataFrame], path: Path) -> None:
    """Write a new DuckDB file: every table, the metric registry, and the views over them.

    Args:
        tables: output table name to frame (models.outputs.OUTPUTS).
        path: the file; it must not be there yet.

    Raises:
        OSError: DuckDB cannot write it.
    """
    try:
        with duckdb.connect(str(path)) as session:
            session.execute("SET TimeZone = 'UTC'")
            for name, frame in tables.items():
                session.register("frame", _Stream(frame))
                session.execute(f"CREATE TABLE {name} AS FROM frame")
                session.unregister("frame")
                session.execute(f"COMMENT ON TABLE {name} IS '{_quoted(OUTPUTS[name].__doc__)}'")
            _registry(session)
            for view, (needed, shown, query) in VIEWS.items():
                if needed in tables:
                    session.execute(f"CREATE VIEW {view} AS {query}")
                    session.execute(f"COMMENT ON VIEW {view} IS '{_quoted(shown)}'")
    except duckdb.Error as error:
        raise OSError(f"DuckDB: {str(error).splitlines()[0]}") from error


def _registry(session: duckdb.DuckDBPyConnection) -> None:
    session.execute(
        "CREATE TABLE metrics (count_type VARCHAR PRIMARY KEY, label VARCHAR, unit VARCHAR, "
        "formula VARCHAR, definition VARCHAR)"
    )
    session.executemany(
        "INSERT INTO metrics VALUES (?, ?, ?, ?, ?)",
        [[m.name, m.label, m.unit, m.formula or None, m.definition] for m in METRICS.values()],
    )
    parts = " ".join(f"{name}: {text}" for name, text in HOST_BY_HOST.items())
    session.execute(f"COMMENT ON COLUMN metrics.formula IS '{_quoted(parts)}'")


def _quoted(text: str | None) -> str:
    return " ".join((text or "").split()).replace("'", "''")
