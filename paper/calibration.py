"""The figures that the twin is calibrated to, and how near what came out is.

A figure of `data/calibration.yaml` is named by its block, its site and a name. `paper.outcome`
measures the same figures in the twin's tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY = ["block", "site", "name"]
Figures = dict[tuple[str, str, str], float]
LEASED = ("chi_tacc", "chi_uc")
BOTH = ", ".join(LEASED)
"""The sites whose leases were published, together."""

SIZES = ("vcpus", "memory_mb", "disk_gb", "gpus")
NEAR = 0.05
"""Figures at most so far apart, relatively, are told as near."""

LEFT_OUT: dict[str, str] = {
    "as_of": "a date",
    "curves_begin": "dates",
    "curves_end": "a date",
    "damage": "assumed rates: how often it happens nobody has published",
    "node_types.*.popularity": "a weight; seen in what is leased",
    "sites.*.hardware.pool_delay_days": "a delay; seen in the rows of the pool",
    "sites.*.legacy": "habits of the collector; seen in the legacy curves",
    "sites.*.nova_recreated": "seen in the row counts and the uncorrected curves",
    "sites.*.inventory_unlisted_share": "seen in the error of the inventory",
    "sites.*.lease_size": "a weight; seen in what is leased",
    "sites.*.maintenance_nodes.2026": "the twin ends in that January",
    "sites.chi_edge.robot_share": "leases of devices are not among the measured ones",
}
"""Numbers of the file that are no figure to compare with, and why."""


def targets(document: Mapping[str, Any]) -> Figures:
    """Give the figures of the calibration file.

    Args:
        document: data/calibration.yaml.

    Returns:
        (block, site, name) to target; the site is empty where all share the figure.
    """
    found: Figures = {("leases", BOTH, k): v for k, v in _leases(document["leases"]).items()}
    for node_type, sizes in document["node_types"].items():
        found |= {("size of a node", "", f"{node_type}, {size}"): sizes[size] for size in SIZES}
    for site, facts in document["sites"].items():
        for table, rows in facts["row_counts"].items():
            found["row count", site, table] = rows
        found |= {("fleet", site, name): hosts for name, hosts in _fleet(facts).items()}
        for day, rows in facts.get("surviving_pool_rows", {}).items():
            found["row of the pool", site, f"by {day}"] = rows
        for name in ("robot_share", "archived_share", "containers"):
            if f"sites.{site}.{name}" not in LEFT_OUT and name in facts:
                found["share or count", site, name] = facts[name]
        last = document["as_of"].year
        found |= {(b, site, name): v for (b, name), v in _levels(facts, last).items()}
    for site, curves in document["real_curves"].items():
        for curve, years in curves.items():
            for year, (nodes, _bins) in years.items():
                found[block_of(curve), site, f"{curve}, {year}"] = nodes
    return found


def _leases(facts: Mapping[str, Any]) -> dict[str, float]:
    """Give the figures of all leases, and those of nodes with GPU and of others."""
    found: dict[str, float] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= {f"{figure}, {name}": each for figure, each in value.items()}
        else:
            found[f"{name}, all"] = value
    return found


def _fleet(facts: Mapping[str, Any]) -> dict[str, float]:
    """Give the hosts that a site's calendar lets come, go and stay."""
    found: dict[str, float] = {}
    for batch in facts["hardware"]:
        name = f"{batch['node_type']} from {batch['from']}"
        found[name] = found.get(name, 0) + batch["count"]
    for batch in facts.get("early_removals", []):
        found[f"removed at {batch['at']}"] = batch["count"]
    for batch in facts.get("left_pool_early", []):
        found[f"out of the pool at {batch['at']}"] = batch["count"]
    for batch in facts.get("pool", []):
        found[f"into the pool at {batch['from']}"] = batch["count"]
    return found | {f"{life} kept": count for life, count in facts.get("kept", {}).items()}


def _levels(facts: Mapping[str, Any], last: int) -> dict[tuple[str, str], float]:
    """Give the yearly levels in nodes that a site is steered to, before the `last` year."""
    found = {
        ("true usage", f"{quantity}, {year}"): nodes
        for quantity, years in facts["targets"].items()
        for year, nodes in years.items()
    }
    for quantity in ("maintenance_nodes", "lingering_nodes", "orphan_nodes"):
        for year, nodes in facts.get(quantity, {}).items():
            if year < last:
                found["maintenance and surplus rows", f"{quantity}, {year}"] = nodes
    return found


def block_of(curve: str) -> str:
    """Give the block of a curve; idle and available are differences of others."""
    if curve.endswith(("_idle", "_available")):
        return "difference of two curves"
    return "legacy curve" if curve.startswith("legacy") else "uncorrected curve"


def beside(aims: Figures, measured: Figures, sites: Sequence[str]) -> pl.DataFrame:
    """Set what came out beside what was aimed at.

    Args:
        aims: from `targets`.
        measured: from `paper.outcome.outcome`.
        sites: those that were made.

    Returns:
        `block`, `site`, `name`, `target`, `outcome`, `difference`, and `deviation` =
        difference / |target|, null for a target of 0. In the order of the file, without figures of
        sites that were not made and sizes of nodes that no site has.
    """
    rows = [
        (*key, float(aim), measured.get(key))
        for key, aim in aims.items()
        if set(key[1].split(", ")) <= {*sites, ""} and (key[1] or key in measured)
    ]
    gap = pl.col("outcome") - pl.col("target")
    return pl.DataFrame(
        rows,
        schema=dict.fromkeys(KEY, pl.String) | dict.fromkeys(["target", "outcome"], pl.Float64),
        orient="row",
    ).with_columns(
        gap.alias("difference"),
        pl.when(pl.col("target") != 0).then(gap / pl.col("target").abs()).alias("deviation"),
    )


def by_block(table: pl.DataFrame) -> pl.DataFrame:
    """Sum up `beside`, block by block.

    Returns:
        `block`, `figures`, `near` (how many are within 5 %, or 0 as they should be), `median` (of
        the absolute deviations), `worst` (deviation), and `which` figure that is
        (null: all are exact).
    """
    size = pl.col("deviation").abs()
    as_none = (pl.col("target") == 0) & (pl.col("outcome") == 0)
    name = pl.concat_str(
        pl.when(pl.col("site") != "").then(pl.col("site") + ": ").otherwise(pl.lit("")), "name"
    )
    return table.group_by("block", maintain_order=True).agg(
        pl.len().alias("figures"),
        ((size <= NEAR).fill_null(value=False) | as_none).sum().alias("near"),
        size.median().alias("median"),
        pl.col("deviation").sort_by(size, nulls_last=False).last().alias("worst"),
        pl.when(size.max() > 0).then(name.sort_by(size, nulls_last=False).last()).alias("which"),
    )
