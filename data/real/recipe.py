"""Make the aggregates of this folder from the published record of CHI@TACC.

    python data/real/recipe.py DIRECTORY

DIRECTORY holds the public files of CHI@TACC that ``data/external.yaml`` lists with their checksums,
as `make external` fetches them. They carry no licence to pass them on, so only what is computed
here is kept:

- published_monthly.csv: month, quantity_type (total, committed), nodes (time-weighted mean);
- published_leadtime.csv: month, leases, and median and 90th percentile of their requested lead time
  in hours; robots' leases (shorter than five minutes) are counted apart.
"""

import sys
from datetime import datetime
from pathlib import Path

import polars as pl

from chameleon_usage import pipeline
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.site import load_sites
from chameleon_usage.usage.buckets import Window
from paper import external

HERE = Path(__file__).parent
SITE = "chi_tacc_published"
# The first whole month of each record, and the month after its last whole one.
RECORDED = {
    "total": ("2015-07-01", "2020-09-01"),
    "committed": ("2016-10-01", "2021-06-01"),
}


def check_sources(directory: Path) -> None:
    """Hold the files to the recorded checksums.

    Raises:
        UsageError: a file is missing or differs.
    """
    for file in external.listed():
        if "tacc" in file.name and file.sha256:
            external.check(file, directory / file.name)


def aggregates(directory: Path) -> dict[str, pl.DataFrame]:
    """Run the pipeline over the published files and reduce its outputs to months.

    Returns:
        file name to frame.
    """
    site = load_sites(HERE.parent / "sites.yaml", frozenset(ADAPTERS))[SITE]
    stage, _ = pipeline.facts(site, directory)
    start, end = (datetime.fromisoformat(day) for day in ("2015-07-01", "2021-07-01"))
    tables = pipeline.outputs(pipeline.segments(stage, site), site, Window(start, end, "1mo"))
    month = pl.col("timestamp").dt.strftime("%Y-%m").alias("month")
    usage = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")
    monthly = pl.concat(
        usage.filter(
            (pl.col("count_type") == quantity)
            & (pl.col("timestamp").dt.strftime("%F") >= first)
            & (pl.col("timestamp").dt.strftime("%F") < after)
        ).select(month, quantity_type=pl.lit(quantity), nodes=pl.col("value").round(3))
        for quantity, (first, after) in RECORDED.items()
    )
    held = stage.ingested.intervals.filter(pl.col("source") == "published.leases").select(
        lease_id=pl.col("entity_id").cast(pl.String),
        seconds=(pl.col("end") - pl.col("start")).dt.total_seconds(),
    )
    leases = tables["leadtime_leases"].join(held, on="lease_id", how="left")
    by_month = leases.with_columns(
        month=pl.col("created_at").dt.strftime("%Y-%m"),
        robot=(pl.col("seconds") < 300).fill_null(value=False),
    )
    lead = pl.col("requested_h").filter(~pl.col("robot"))
    leadtime = (
        by_month.group_by("month")
        .agg(
            leases=(~pl.col("robot")).sum(),
            robot_leases=pl.col("robot").sum(),
            requested_h_median=lead.median().round(3),
            requested_h_p90=lead.quantile(0.9, "linear").round(3),
        )
        .sort("month")
    )
    return {"published_monthly.csv": monthly, "published_leadtime.csv": leadtime}


def main() -> None:
    """Check the sources and write the aggregates beside this file."""
    if len(sys.argv) != 2:
        sys.exit("usage: python data/real/recipe.py DIRECTORY")
    directory = Path(sys.argv[1])
    try:
        check_sources(directory)
        for name, frame in aggregates(directory).items():
            frame.write_csv(HERE / name)
    except UsageError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
