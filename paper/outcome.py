"""What came out of the twin's tables: the figures of `paper.calibration`, measured.

Rows are counted in the raw tables, usage is that of the raw tables read naively, as the real curves
were, and what decays on purpose is measured in the twin's truth.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from chameleon_twin.calibrate import legacy, uncorrected, yearly_means
from chameleon_twin.calibration import Profile, load
from paper import leases as of_leases
from paper.calibration import BOTH, KEY, SIZES, Figures, block_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

NEAR = timedelta(days=2)
"""Hosts that are taken out together leave within so many days of the date."""


def of_site(folder: Path, site: str, document: Mapping[str, Any]) -> pl.DataFrame:
    """Measure the figures of the calibration file in the tables of a simulated site.

    Args:
        folder: its raw tables and its truth.
        site: its key.
        document: data/calibration.yaml.

    Returns:
        `block`, `site`, `name` and what came out: `outcome`.
    """
    facts = document["sites"][site]
    found: Figures = {}
    truth = pl.read_parquet(folder / "truth" / "intervals.parquet")
    sizes = truth.filter(quantity_type="total").group_by("node_type").agg(pl.col(SIZES).max())
    for node_type, *values in sizes.iter_rows():
        for size, value in zip(SIZES, values, strict=True):
            found["size of a node", "", f"{node_type}, {size}"] = value
    for table in facts["row_counts"]:
        found["row count", site, table] = rows_of(folder, table)
    found |= {("fleet", site, name): n for name, n in fleet(truth, facts, document).items()}
    made = pl.col("created_at").dt.date()
    for day in facts.get("surviving_pool_rows", {}):
        rows = pl.scan_parquet(folder / "blazar.computehosts.parquet").filter(made <= day)
        found["row of the pool", site, f"by {day}"] = count(rows)
    found |= usage(folder, truth, site)
    archived = rows_of(folder, "nova.shadow_instances")
    if whole := archived + rows_of(folder, "nova.instances"):
        found["share or count", site, "archived_share"] = archived / whole
    held = truth.filter(pl.col("quantity_type") == "occupied_reservation")
    found["share or count", site, "containers"] = held.height
    return pl.DataFrame(
        [(*key, float(value)) for key, value in found.items()],
        schema=dict.fromkeys(KEY, pl.String) | {"outcome": pl.Float64},
        orient="row",
    )


def by_name(tables: Iterable[pl.DataFrame]) -> Figures:
    """Give what came out of several sites, of `of_site`, by (block, site, name)."""
    return {(block, site, name): n for t in tables for block, site, name, n in t.iter_rows()}


def behaviour(leases: pl.DataFrame) -> Figures:
    """Measure what users do, and how many leases are robots'.

    Args:
        leases: the twin's, from `paper.leases.measured`, robots included.

    Returns:
        (block, site, name) to what came out.
    """
    people = of_leases.without_robots(leases)
    both = of_leases.figures(people, only=(of_leases.BOTH, "all"))
    found: Figures = {
        ("leases", BOTH, f"{name}, {kind}"): value
        for kind, name, value in both.select("nodes", "figure", "value").iter_rows()
    }
    robots = of_leases.robots(leases).group_by("site").agg(pl.col("leases").sum())
    share = leases.group_by("site").len().join(robots, on="site", how="left").fill_null(0)
    for site, every, of_robots in share.iter_rows():
        found["share or count", site, "robot_share"] = of_robots / every
    return found


def rows_of(folder: Path, table: str) -> int:
    """Count the rows of a raw table; none where there is none."""
    path = folder / f"{table}.parquet"
    return count(pl.scan_parquet(path)) if path.exists() else 0


def count(rows: pl.LazyFrame) -> int:
    """Count rows."""
    return int(rows.select(pl.len()).collect().item())


def fleet(
    truth: pl.DataFrame, facts: Mapping[str, Any], document: Mapping[str, Any]
) -> dict[str, float]:
    """Count the hosts that came, left and stayed as the site's calendar names them.

    Args:
        truth: intervals of a site.
        facts: its block of the calibration file.
        document: the whole of it.
    """
    found: dict[str, float] = {}
    lives = {
        quantity: truth.filter(quantity_type=quantity)
        .sort("start")
        .group_by("host", maintain_order=True)
        .agg(pl.col("node_type").first(), pl.col("start").min(), pl.col("end").max())
        for quantity in ("total", "reservable")
    }
    hosts = lives["total"]
    begun = pl.col("start").dt.date()
    starts: dict[str, list[date]] = {}
    for batch in facts["hardware"]:
        starts.setdefault(batch["node_type"], []).append(batch["from"])
    for node_type, days in starts.items():
        ordered = sorted(set(days))
        for day, following in zip(ordered, [*ordered[1:], date.max], strict=True):
            came = hosts.filter(begun >= day, begun < following, node_type=node_type)
            found[f"{node_type} from {day}"] = came.height
    for batch in facts.get("early_removals", []):
        ends = pl.col("end").dt.date().is_between(batch["at"] - NEAR, batch["at"] + NEAR)
        found[f"removed at {batch['at']}"] = hosts.filter(ends).height
    pooled = lives["reservable"].join(hosts.select("host", over="end"), on="host")
    for batch in facts.get("left_pool_early", []):
        ends = pl.col("end").dt.date().is_between(batch["at"] - NEAR, batch["at"] + NEAR)
        later = pl.col("over") > pl.col("end") + NEAR
        found[f"out of the pool at {batch['at']}"] = pooled.filter(ends, later).height
    for batch in facts.get("pool", []):
        came = pooled.filter(begun.is_between(batch["from"] - NEAR, batch["from"] + NEAR))
        found[f"into the pool at {batch['from']}"] = came.height
    types = {b["life"]: b["node_type"] for b in facts["hardware"] if "life" in b}
    for life in facts.get("kept", {}):
        stayed = hosts.filter(pl.col("end") >= document["as_of"], node_type=types[life])
        found[f"{life} kept"] = stayed.height
    return found


def usage(folder: Path, truth: pl.DataFrame, site: str) -> Figures:
    """Give the yearly means in nodes: true ones, and those of either collector.

    Args:
        folder: the raw tables of a site.
        truth: its intervals.
        site: its key.
    """
    calibration = load(site, Profile("full", 1.0))
    opened = {"begin": calibration.opened}
    # The KVM target is of the time before every launch needed a lease.
    required = calibration.facts.get("reservations_required")
    until = {"stop": epoch(required)} if required else {}
    curves = {"current": uncorrected(folder, calibration.as_of, calibration)}
    if (folder / "chameleon_usage.node_usage_report_cache.parquet").exists():
        curves["legacy"] = legacy(folder)
    true = {
        "total": mean_by_year(truth, "total", **opened),
        "committed": mean_by_year(truth, "committed", **opened),
        "occupied": mean_by_year(
            truth, "occupied_reservation", "occupied_ondemand", **opened, **until
        ),
    }
    found = by_year("true usage", site, {k: true[k] for k in ("committed", "occupied")})
    surplus = {"maintenance_nodes": mean_by_year(truth, "maintenance")}
    if len(curves) > 1:
        now, then = curves["current"], curves["legacy"]
        surplus["lingering_nodes"] = less(now["occupied"], then["occupied"])
        surplus["orphan_nodes"] = less(now["total"], true["total"])
    for curve, of in curves.items():
        if {"committed", "occupied", "reservable"} <= set(of):
            of["idle"] = less(of["committed"], of["occupied"])
            of["available"] = less(of["reservable"], of["committed"])
        for quantity, years in of.items():
            name = f"{curve}_{quantity}"
            found |= by_year(block_of(name), site, {name: years})
    return found | by_year("maintenance and surplus rows", site, surplus)


def mean_by_year(truth: pl.DataFrame, *quantities: str, **within: int) -> dict[int, float]:
    """Give the yearly means of some quantities of the truth, added up."""
    part = truth.filter(pl.col("quantity_type").is_in(quantities))
    start, end = (part[column].dt.epoch("s").to_numpy() for column in ("start", "end"))
    return yearly_means(start, end, part["nodes"].to_numpy(), **within)


def by_year(block: str, site: str, levels: Mapping[str, Mapping[int, float]]) -> Figures:
    """Name yearly levels as figures."""
    return {
        (block, site, f"{name}, {year}"): nodes
        for name, years in levels.items()
        for year, nodes in years.items()
    }


def epoch(day: date) -> int:
    """Give the first second of a day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def less(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    """Give the differences of the years that both have."""
    return {year: one[year] - other[year] for year in one if year in other}
