"""What a reader takes home: the numbers behind the sentences that open a page of results.

Every function takes frames shaped as the output contracts and returns findings by name. What the
data do not tell is not among them, and the page leaves its sentence out.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.models.metrics import KNOWN_SHARE, METRICS
from chameleon_usage.models.vocabulary import TOLD_TWICE
from chameleon_usage.viz.base import as_text, coarsen, since_opening
from chameleon_usage.viz.tables import (
    ALL,
    QUANTITIES,
    cross_site_table,
    partition_table,
    rejected,
)

if TYPE_CHECKING:
    from pathlib import Path

Findings = dict[str, float | int | str]

COMPARED = ("total", "reservable", "committed", "occupied")
LEAST_SHARE = 0.01
"""A node type with a smaller part of the site's node-hours is passed over."""


def of_site(folder: Path) -> Findings:
    """Give all findings of one site; none where its tables are not there yet.

    Args:
        folder: its output tables.
    """
    made = folder / "usage_timeline.parquet"
    return _of_site(folder, made.stat().st_mtime_ns) if made.exists() else {}


@cache  # the words of a page name them, and its cells glue them
def _of_site(folder: Path, _: int) -> Findings:
    def table(name: str) -> pl.DataFrame:
        return as_text(pl.read_parquet(folder / f"{name}.parquet"))

    usage = table("usage_timeline")
    return {
        **use(usage),
        **gap(table("comparison"), table("comparison_by_node_type")),
        **at_their_word(usage),
        **busiest(table("usage_by_node_type")),
        **ahead(table("leadtime_leases")),
        **waste(table("lease_use")),
        **refused(table("rejects")),
    }


def use(usage: pl.DataFrame) -> Findings:
    """Say in which year most was leased and used, and how much of it ran.

    Args:
        usage: `usage_timeline` of one site.

    Returns:
        `leased` (committed / reservable; `leased_of_all`: / total, where there is capacity on
        demand beside the pool) and `used` (occupied / total), each with the year and
        the share of its `peak` and its `low`; `idle_share` of what was leased; `ran_share` of
        what was occupied, and its lowest year. Ratios of sums, over the days that know both; a
        year of which too few days do is passed over.
    """
    wide = (
        since_opening(usage)
        .filter(pl.col("collector_type") == "corrected")
        .pivot(on="count_type", on_columns=list(METRICS), index="timestamp", values="value")
    )
    found: Findings = {}
    ratios = {
        "leased": ("committed", "reservable"),
        "used": ("occupied", "total"),
        "idle": ("idle", "committed"),
        "ran": ("active", "occupied"),
    }
    for name, (part, whole) in ratios.items():
        both = wide.select("timestamp", part=part, whole=whole)
        told = both.drop_nulls()
        if told.is_empty() or told["whole"].sum() <= 0:
            continue
        found[f"{name}_share"] = told.select(pl.col("part").sum() / pl.col("whole").sum()).item()
        years = (
            both.group_by(pl.col("timestamp").dt.year().alias("year"))
            .agg(
                pl.all_horizontal(pl.col("part", "whole").is_not_null()).mean().alias("known"),
                (pl.when(pl.col("part").is_not_null()).then("whole").sum()).alias("whole"),
                (pl.when(pl.col("whole").is_not_null()).then("part").sum()).alias("part"),
            )
            .filter(pl.col("known") >= KNOWN_SHARE, pl.col("whole") > 0)
            .select("year", (pl.col("part") / pl.col("whole")).alias("share"))
            .sort("share", "year")
        )
        if years["share"].n_unique() > 1:
            (low, least), (peak, most) = years.row(0), years.row(-1)
            found |= {f"{name}_peak": peak, f"{name}_peak_share": most}
            found |= {f"{name}_low": low, f"{name}_low_share": least}
    if "leased_share" in found and (wide["ondemand_capacity"] > 0).any():
        of_all = wide.drop_nulls(["committed", "total"]).select("committed", "total").sum()
        found["leased_of_all"] = of_all.select(pl.col("committed") / pl.col("total")).item()
    return found


def gap(comparison: pl.DataFrame, by_node_type: pl.DataFrame) -> Findings:
    """Say where legacy and the corrected count are furthest apart, and why.

    Args:
        comparison: `comparison` of one site.
        by_node_type: `comparison_by_node_type` of it.

    Returns:
        `gap_year`, `gap_count` (the words for it), `gap_nodes` that corrected counts more or fewer
        (`gap_word`), `gap_share` of the corrected count, and, where that tells a part of the gap,
        `gap_types`: the nodes of types that legacy has none of in that year, less those of types
        that only legacy has.
    """
    yearly = (
        coarsen(
            comparison.filter(pl.col("count_type").is_in(COMPARED)).drop_nulls("difference"),
            "1y",
            by=["count_type"],
            value="difference",
        )
        .drop_nulls()
        .sort(pl.col("difference").abs(), "timestamp", "count_type")
    )
    if yearly.is_empty() or yearly["difference"][-1] == 0:
        return {}
    worst = yearly.row(-1, named=True)
    this = (
        pl.col("count_type") == worst["count_type"],
        pl.col("timestamp").dt.year() == worst["timestamp"].year,
        pl.col("legacy").is_not_null(),
        pl.col("corrected").is_not_null(),
    )
    days = comparison.filter(*this)
    found: Findings = {
        "gap_year": worst["timestamp"].year,
        "gap_count": METRICS[worst["count_type"]].label.lower(),
        "gap_nodes": abs(worst["difference"]),
        "gap_word": "more" if worst["difference"] > 0 else "fewer",
    }
    if days["corrected"].sum() > 0:
        share = pl.col("difference").sum().abs() / pl.col("corrected").sum()
        found["gap_share"] = days.select(share).item()
    types = (
        by_node_type.filter(
            this[0],
            pl.col("node_type") != "unknown",
            pl.col("timestamp").is_in(days["timestamp"].implode()),
        )
        .group_by("node_type")
        .agg(pl.col("legacy", "corrected").fill_null(0).sum())
        .sort("node_type")  # so that the sum over types has one order, and one last digit
    )
    both_ways = (("corrected", "legacy"), ("legacy", "corrected"))
    lacks, only = (pl.col(one).filter(pl.col(other) == 0).sum() for one, other in both_ways)
    of_types = types.select((lacks - only) / days.height).item()
    if 0 < of_types <= worst["difference"]:
        found["gap_types"] = of_types
    return found


def at_their_word(usage: pl.DataFrame) -> Findings:
    """Say where today's rows, taken at their word, are furthest from the corrected count.

    Args:
        usage: `usage_timeline` of one site.

    Returns:
        `word_year`, `word_count` (the words for it), `word_uncorrected`, `word_corrected`: nodes.
    """
    yearly = (
        coarsen(
            since_opening(usage).filter(pl.col("count_type").is_in(COMPARED)),
            "1y",
            by=["collector_type", "count_type"],
        )
        .pivot(
            on="collector_type",
            on_columns=["uncorrected", "corrected"],
            index=["timestamp", "count_type"],
            values="value",
        )
        .drop_nulls()
        .with_columns((pl.col("uncorrected") - pl.col("corrected")).abs().alias("off"))
        .sort("off", "timestamp", "count_type")
    )
    if yearly.is_empty() or yearly["off"][-1] == 0:
        return {}
    worst = yearly.row(-1, named=True)
    return {
        "word_year": worst["timestamp"].year,
        "word_count": METRICS[worst["count_type"]].label.lower(),
        "word_uncorrected": worst["uncorrected"],
        "word_corrected": worst["corrected"],
    }


def busiest(by_node_type: pl.DataFrame) -> Findings:
    """Say which node types were held most and least of their time.

    Args:
        by_node_type: `usage_by_node_type` of one site.

    Returns:
        `busy_word` (`occupied`, or `leased` where nobody knows what was used), `busy_type`,
        `busy_share`, `quiet_type`, `quiet_share`, and `most_type`, `most_share`: the type with
        most of the site's such node-hours, and its part of them; `untyped_share` of the nodes of
        no known type, where it is worth telling.
    """
    daily = partition_table(
        by_node_type.filter(pl.col("resource") == "nodes"),
        every="1d",
        by=["node_type"],
        sparse=True,
    ).drop_nulls("total")
    use_unknown = daily["leased"].sum() > 0
    held = ["active", "stopped", "idle", "leased"] if use_unknown else ["active", "stopped"]
    types = (
        daily.group_by("node_type")
        .agg(pl.col("total").sum(), pl.sum_horizontal(held).sum().alias("held"))
        .filter(pl.col("total") >= LEAST_SHARE * pl.col("total").sum())
        .with_columns((pl.col("held") / pl.col("total")).alias("share"))
        .sort("share", "node_type")
    )
    unknown = pl.col("node_type") == "unknown"
    untyped = types.select(pl.col("total").filter(unknown).sum()).item()
    types = types.filter(~unknown)
    if types.height < 2 or types["held"].sum() <= 0:
        return {}
    most = types.sort("held", "node_type").row(-1, named=True)
    found: Findings = {}
    if untyped > 0:
        found["untyped_share"] = untyped / daily.select(pl.col("total").sum()).item()
    return found | {
        "busy_word": "leased" if use_unknown else "occupied",
        "busy_type": types["node_type"][-1],
        "busy_share": types["share"][-1],
        "quiet_type": types["node_type"][0],
        "quiet_share": types["share"][0],
        "most_type": most["node_type"],
        "most_share": most["held"] / daily.select(pl.sum_horizontal(held).sum()).item(),
    }


def ahead(leases: pl.DataFrame) -> Findings:
    """Say how many leases were made in advance, and how many came to nothing.

    Args:
        leases: `leadtime_leases` of one site.

    Returns:
        `leases`; `advance_share` of them made more than an hour before their start, and
        `advance_hours`, the median of these; `failed_share`: cancelled or in error.
    """
    told = leases.drop_nulls("requested_h")
    if told.is_empty():
        return {}
    advance = told.filter(pl.col("requested_h") > 1)
    found: Findings = {
        "leases": leases.height,
        "advance_share": advance.height / told.height,
        "failed_share": leases.filter(pl.col("outcome").is_in(["cancelled", "error"])).height
        / leases.height,
    }
    median = advance["requested_h"].median()
    if isinstance(median, float):
        found["advance_hours"] = median
    return found


def waste(use: pl.DataFrame) -> Findings:
    """Say how much of what leases held they did not use, and what they gave back.

    Args:
        use: `lease_use` of one site.

    Returns:
        `unused_share` of the node-hours that leases held, `never_share` on nodes that never had an
        instance, `waiting_share` before the first one and `after_share` between two or after the
        last; `no_show_share` of the leases, all of them over the months whose use is known.
        `given_back_share` of the node-hours asked for.
    """
    whole = use.select(pl.col("reserved_h", "given_back_h").sum()).row(0)
    known = use.drop_nulls("used_h").select(pl.col(pl.Float64, pl.Int64).sum())
    found: Findings = {}
    if whole[0] > 0:
        found["given_back_share"] = whole[1] / sum(whole)
    if known["reserved_h"].item() > 0:
        of = known.row(0, named=True)
        found |= {
            "unused_share": 1 - of["used_h"] / of["reserved_h"],
            "never_share": of["never_used_h"] / of["reserved_h"],
            "waiting_share": of["idle_before_h"] / of["reserved_h"],
            "after_share": (of["idle_between_h"] + of["idle_after_h"]) / of["reserved_h"],
            "no_show_share": of["no_shows"] / max(of["leases"], 1),
        }
    return found


def refused(audit: pl.DataFrame) -> Findings:
    """Say how many records did not count, and for what most hours were lost.

    Args:
        audit: `rejects` of one site.

    Returns:
        `refused_rows` of the audit, on `refused_records` rows of tables; `refused_hours`,
        `refused_reason` and `refused_source` of the reason with most hours. What another source
        or another row tells is not lost, and not the reason looked for.
    """
    lost = rejected(audit).filter(~pl.col("superseded"))
    found: Findings = {"refused_rows": int(lost["rows"].sum())}
    if lost.height:
        of_lost = audit.join(lost, on=["stage", "source", "reason"], how="semi")
        found["refused_records"] = of_lost.select("source", "source_row_id").n_unique()
    only = lost.filter(~pl.col("reason").is_in(TOLD_TWICE), pl.col("hours") > 0)
    if only.height:
        first = only.row(0, named=True)
        found |= {f"refused_{name}": first[name] for name in ("hours", "reason", "source")}
    return found


def across_sites(usage: pl.DataFrame, site_names: dict[str, str]) -> Findings:
    """Say how large and how busy all sites together were, and which of them the most.

    Args:
        usage: `usage_timeline` of all sites.
        site_names: site to its name.

    Returns:
        `sites`; `size_year`, `size_nodes`: when they had most nodes; `last_year` of the record,
        with `last_nodes` and `last_free` that could have been used and were not; `held_peak`,
        `held_peak_share`, `held_low`, `held_low_share`: when most and least of them was used, or
        leased at sites of whose use nobody knows (`unknown_sites`); `part_site`, `part_share`: the
        site with most of the node-hours in use; `best_year`, `best_site`, `best_share`,
        `worst_site`, `worst_share` of their nodes in use.
    """
    table = cross_site_table(
        usage.filter(pl.col("site").is_in(list(site_names))), every="1y"
    ).with_columns(pl.col("timestamp").dt.year().alias("year"))
    together = table.filter(pl.col("site") == ALL).drop_nulls(QUANTITIES).sort("year")
    if together.is_empty():
        return {}
    held = (pl.col("used") + pl.col("leased")).alias("held")
    together = together.with_columns(held).with_columns(
        (pl.col("held") / pl.col("total")).alias("share")
    )
    size, last = together.sort("total", "year").row(-1, named=True), together.row(-1, named=True)
    by_share = together.sort("share", "year")
    low, peak = by_share.row(0, named=True), by_share.row(-1, named=True)
    found: Findings = {
        "sites": table.filter(pl.col("site") != ALL)["site"].n_unique(),
        "size_year": size["year"],
        "size_nodes": size["total"],
        "last_year": last["year"],
        "last_nodes": last["total"],
        "last_free": last["available"],
    }
    untold = table.filter(pl.col("leased") > 0, pl.col("site") != ALL)["site"].unique().sort()
    if untold.len():
        found["unknown_sites"] = " and ".join(site_names[site] for site in untold)
    if low["share"] < peak["share"]:
        found |= {"held_peak": peak["year"], "held_peak_share": peak["share"]}
        found |= {"held_low": low["year"], "held_low_share": low["share"]}
    each = table.filter(pl.col("site") != ALL).drop_nulls(QUANTITIES)
    hours = (
        each.with_columns(held)
        .group_by("site")
        .agg((pl.col("held") * pl.col("days")).sum())
        .sort("held", "site")
    )
    if hours.height > 1 and hours["held"].sum() > 0:
        found["part_site"] = site_names[hours["site"][-1]]
        found["part_share"] = hours["held"][-1] / hours["held"].sum()
    known = each.filter(pl.col("leased") == 0).with_columns(
        (pl.col("used") / pl.col("total")).alias("share")
    )
    # The latest year in which there are two to compare.
    years = known.group_by("year").agg(pl.len()).filter(pl.col("len") > 1)["year"]
    if years.len():
        of_year = known.filter(pl.col("year") == years.max()).sort("share", "site")
        if of_year["share"][0] < of_year["share"][-1]:
            found |= {
                "best_year": of_year["year"][-1],
                "best_site": site_names[of_year["site"][-1]],
                "best_share": of_year["share"][-1],
                "worst_site": site_names[of_year["site"][0]],
                "worst_share": of_year["share"][0],
            }
    return found
