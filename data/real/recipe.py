"""Make the aggregates of this folder from the published record of CHI@TACC and CHI@UC.

    python -m data.real.recipe DIRECTORY        (from the root of the project)

DIRECTORY holds the public files that ``data/external.yaml`` lists with their checksums, as `make
external` fetches them. They carry no licence to pass them on, so only what is computed here is
kept, without the id of any lease, user or host:

- published_monthly.csv: site, month, quantity_type (total, committed), nodes (time-weighted mean);
- published_machines.csv: site, month, node_type, nodes, disabled (of these, by the last event);
- published_machine_events.csv: site, year, event, events, hosts (that had one);
- published_files.csv: site, month of creation, leases, robot_leases, advance_leases, completed
  (status), early (deleted before the end), node_hours; robots' leases are only in the second;
- published_robots.csv: site, users that the rule finds, leases, median_minutes, node_hours, and
  share_of_leases and share_of_node_hours;
- published_leases.csv: what `paper.leases.figures` gives, without robots;
- published_survival.csv: what `paper.leases.survival` gives, without robots.
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
from paper import leases as of_leases

HERE = Path(__file__).parent
SITES = {"chi_tacc": "tacc", "chi_uc": "uc"}
HOST = "HOST_NAME (PHYSICAL)"
GENERIC = ["compute", "compute_ib", "moonshot"]
"""Names of the first years, before node types were told apart."""


def check_sources(directory: Path, sites: list[str]) -> None:
    """Hold the files of some sites to the recorded checksums.

    Raises:
        UsageError: a file is missing or differs.
    """
    whose = tuple(SITES[site] for site in sites)
    for file in external.listed():
        if file.name.startswith("chameleon_") and any(one in file.name for one in whose):
            external.check(file, directory / file.name)


def read_leases(directory: Path, site: str) -> pl.DataFrame:
    """Read the lease files of one site as `paper.leases` wants them.

    Returns:
        its columns, `kind` (the folder), `status` and those of `measured`.
    """
    folder = directory / f"chameleon_leases_{SITES[site]}"
    rows = pl.concat(
        pl.read_csv(path, infer_schema=False).with_columns(kind=pl.lit(path.parent.name))
        for path in sorted(folder.glob("*/*.csv"))
    )
    moment = pl.col("created_at", "deleted_at", "start_on", "end_on")
    return of_leases.measured(
        rows.with_columns(moment.str.to_datetime("%Y-%m-%d %H:%M:%S")).select(
            pl.lit(site).alias("site"),
            pl.col("user_id").alias("user"),
            pl.col("node_type").str.contains("gpu").alias("gpu"),
            pl.col("node_cnt").cast(pl.Int64).alias("nodes"),
            "created_at",
            pl.col("start_on").alias("start"),
            pl.col("end_on").alias("end"),
            "deleted_at",
            "kind",
            "status",
        )
    )


def whole_months(moments: pl.Series) -> tuple[str, str]:
    """Give the first day of the first whole month of a record, and the day after its last one."""
    months = moments.sort().dt.truncate("1mo")
    return months.dt.offset_by("1mo").dt.strftime("%F")[0], months.dt.strftime("%F")[-1]


def monthly(directory: Path, site: str, told: dict[str, pl.Series]) -> pl.DataFrame:
    """Run the pipeline over the files of one site and reduce its usage to whole months.

    Args:
        directory: of the published files.
        site: whose.
        told: quantity type to the moments that its record has.
    """
    entry = load_sites(HERE.parent / "sites.yaml", frozenset(ADAPTERS))[f"{site}_published"]
    stage, _ = pipeline.facts(entry, directory)
    window = Window(datetime(2015, 6, 1), datetime(2021, 7, 1), "1mo")  # noqa: DTZ001 - naive UTC
    tables = pipeline.outputs(pipeline.segments(stage, entry), entry, window)
    usage = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")
    day = pl.col("timestamp").dt.strftime("%F")
    return pl.concat(
        usage.filter(pl.col("count_type") == quantity, day >= first, day < after).select(
            pl.lit(site).alias("site"),
            pl.col("timestamp").dt.strftime("%Y-%m").alias("month"),
            pl.lit(quantity).alias("quantity_type"),
            pl.col("value").round(3).alias("nodes"),
        )
        for quantity, (first, after) in ((q, whole_months(m)) for q, m in told.items())
    )


def read_events(directory: Path, site: str) -> pl.DataFrame:
    """Read the machine events of one site: `host`, `time`, `event`, `node_type` from then on.

    A type that a host has only later holds before, too: the events name none before 2016.
    """
    rows = pl.read_csv(
        directory / "chameleon_machine_events" / f"{SITES[site]}_machine_events.csv",
        infer_schema=False,
    ).select(
        pl.col(HOST).alias("host"),
        pl.col("EVENT_TIME").str.to_datetime("%Y-%m-%dT%H:%M:%S").alias("time"),
        pl.col("EVENT").alias("event"),
        pl.col("PROPERTIES").str.extract("'node_type': '([^']*)'").alias("told"),
    )
    particular = pl.when(~pl.col("told").is_in(GENERIC)).then("told")
    return (
        rows.sort("host", "time", "event")
        .with_columns(
            pl.coalesce(
                expr.fill_null(strategy="forward").fill_null(strategy="backward").over("host")
                for expr in (particular, pl.col("told"))
            ).alias("node_type")
        )
        .drop("told")
    )


def machines(events: pl.DataFrame, site: str) -> pl.DataFrame:
    """Give the monthly means of hosts by node type, and how many of them were disabled."""
    first, after = (datetime.fromisoformat(day) for day in whole_months(events["time"]))
    state = {
        "there": pl.when(pl.col("event").is_in(["CREATE", "DELETE"])).then(
            pl.col("event") == "CREATE"
        ),
        "off": pl.when(pl.col("event").is_in(["ENABLE", "DISABLE"])).then(
            pl.col("event") == "DISABLE"
        ),
    }
    lives = events.with_columns(
        pl.col("time").shift(-1).over("host").fill_null(after).alias("until"),
        *(
            held.fill_null(strategy="forward").over("host").fill_null(name == "there").alias(name)
            for name, held in state.items()
        ),
    ).filter("there")
    months = pl.DataFrame(
        {"month": pl.datetime_range(first, after, "1mo", closed="left", eager=True)}
    ).with_columns(pl.col("month").dt.offset_by("1mo").alias("next"))
    share = (
        (pl.min_horizontal("until", "next") - pl.max_horizontal("time", "month"))
        .dt.total_seconds()
        .clip(lower_bound=0)
    ) / (pl.col("next") - pl.col("month")).dt.total_seconds()
    return (
        lives.join(months, how="cross")
        .with_columns(share.alias("nodes"))
        .group_by(pl.col("month").dt.strftime("%Y-%m"), "node_type")
        .agg(
            pl.col("nodes").sum().round(3),
            pl.col("nodes").filter("off").sum().round(3).alias("disabled"),
        )
        .filter(pl.col("nodes") > 0)
        .sort("month", "node_type")
        .select(pl.lit(site).alias("site"), "month", "node_type", "nodes", "disabled")
    )


def events_by_year(events: pl.DataFrame, site: str) -> pl.DataFrame:
    """Count the events of each kind by year, and the hosts that had one."""
    return (
        events.group_by(pl.col("time").dt.year().alias("year"), "event")
        .agg(pl.len().alias("events"), pl.col("host").n_unique().alias("hosts"))
        .sort("year", "event")
        .select(pl.lit(site).alias("site"), "year", "event", "events", "hosts")
    )


def files_by_month(leases: pl.DataFrame, people: pl.DataFrame) -> pl.DataFrame:
    """Say month by month which leases the files hold."""
    month = pl.col("created_at").dt.strftime("%Y-%m").alias("month")
    every = leases.group_by("site", month).agg(pl.len().alias("every"))
    return (
        people.group_by("site", month)
        .agg(
            pl.len().alias("leases"),
            of_leases.ADVANCE.sum().alias("advance_leases"),
            (pl.col("status") == "completed").sum().alias("completed"),
            (pl.col("early_h") > 0).sum().alias("early"),
            pl.col("node_hours").sum().round(1),
        )
        .join(every, on=["site", "month"], how="right")
        .select(
            *("site", "month", "leases"),
            (pl.col("every") - pl.col("leases")).alias("robot_leases"),
            *("advance_leases", "completed", "early", "node_hours"),
        )
        .sort("site", "month")
    )


def robots(leases: pl.DataFrame) -> pl.DataFrame:
    """Tell what the rule for robots sets apart."""
    whole = leases.group_by("site").agg(pl.len().alias("every"), pl.col("node_hours").sum())
    return (
        of_leases.robots(leases)
        .group_by("site")
        .agg(
            pl.len().alias("users"),
            pl.col("leases").sum(),
            pl.col("median_minutes").mean().round(3),
            pl.col("node_hours").sum().round(1),
        )
        .join(whole, on="site", suffix="_of_all")
        .select(
            pl.exclude("every", "node_hours_of_all"),
            (pl.col("leases") / pl.col("every")).round(5).alias("share_of_leases"),
            (pl.col("node_hours") / pl.col("node_hours_of_all"))
            .round(5)
            .alias("share_of_node_hours"),
        )
        .sort("site")
    )


def aggregates(directory: Path, sites: list[str]) -> dict[str, pl.DataFrame]:
    """Reduce the published files of some sites to what the project carries.

    Returns:
        file name to frame.
    """
    read = {site: read_leases(directory, site) for site in sites}
    events = {site: read_events(directory, site) for site in sites}
    every = pl.concat(read.values())
    people = of_leases.without_robots(every)
    rounded = pl.col("value", "low", "high").round(5)
    return {
        "published_monthly.csv": pl.concat(
            monthly(
                directory,
                site,
                {"total": events[site]["time"], "committed": read[site]["created_at"]},
            )
            for site in sites
        ),
        "published_machines.csv": pl.concat(machines(of, site) for site, of in events.items()),
        "published_machine_events.csv": pl.concat(
            events_by_year(of, site) for site, of in events.items()
        ),
        "published_files.csv": files_by_month(every, people),
        "published_robots.csv": robots(every),
        "published_leases.csv": of_leases.figures(
            people, resamples=of_leases.RESAMPLES
        ).with_columns(rounded),
        "published_survival.csv": of_leases.survival(
            people, resamples=of_leases.RESAMPLES
        ).with_columns(pl.col("share", "low", "high").round(4)),
    }


def main() -> None:
    """Check the sources and write the aggregates beside this file."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m data.real.recipe DIRECTORY")
    directory = Path(sys.argv[1])
    try:
        check_sources(directory, list(SITES))
        for name, frame in aggregates(directory, list(SITES)).items():
            frame.write_csv(HERE / name)
    except UsageError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
