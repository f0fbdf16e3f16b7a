"""Check what was written: contracts, laws and declared gaps."""

from pathlib import Path

import polars as pl

from chameleon_usage.io import project_laws
from chameleon_usage.io.files import load_table
from chameleon_usage.models.frames import dy
from chameleon_usage.models.metrics import DERIVED, MEASURED, METRICS, PARTITION, names_in
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS
from chameleon_usage.models.site import Site
from chameleon_usage.models.vocabulary import Reason, stage_of

UNCOUNTABLE = [str(Reason.HOST_NOT_NAMED), str(Reason.NODES_NOT_KNOWN)]
"""Reasons to refuse what held a host or may have, nobody knows which or how many."""

TOLERANCE = 1e-6
GAP_SHARE = 0.5


def check_site(directory: Path, site: Site) -> list[str]:
    """Check one site's output directory.

    Args:
        directory: ``<output>/<site>``.
        site: its configuration, for the declared gaps.

    Returns:
        what is wrong, a sentence each; empty if all holds.
    """
    problems: list[str] = []
    tables: dict[str, pl.DataFrame] = {}
    for name, schema in OUTPUTS.items():
        path = directory / f"{name}.parquet"
        if not path.exists():
            if name not in OPTIONAL_OUTPUTS:
                problems.append(f"{path}: missing; run 'chameleon-usage run' again")
            continue
        tables[name] = load_table(path)
        extra = set(tables[name].columns) ^ set(schema.column_names())
        if extra:
            problems.append(f"{path}: columns differ from the contract: {', '.join(sorted(extra))}")
            del tables[name]
            continue
        try:
            schema.validate(tables[name])
        except (dy.exc.ValidationError, dy.exc.SchemaError) as error:
            problems.append(f"{path}: {error}")
            del tables[name]
    if "usage_timeline" in tables:
        problems += _laws(directory, tables["usage_timeline"])
        problems += _whole(directory, tables["usage_timeline"])
    problems += _between(directory, tables)
    if "comparison" in tables:
        problems += _differences(directory / "comparison.parquet", tables["comparison"])
    if "coverage" in tables:
        problems += _gaps(directory, tables["coverage"], site)
    return problems


def _between(directory: Path, tables: dict[str, pl.DataFrame]) -> list[str]:
    """Hold tables to each other."""
    problems = []
    if {"usage_timeline", "rejects"} <= set(tables):
        problems += _silences(directory, tables["usage_timeline"], tables["rejects"])
    if {"usage_timeline", "usage_by_resource"} <= set(tables):
        problems += _same_nodes(directory, tables)
    if {"usage_by_project", "usage_by_resource"} <= set(tables):
        problems += project_laws.shares(
            directory, tables["usage_by_project"], tables["usage_by_resource"]
        )
    if "sessions_by_project" in tables:
        problems += project_laws.sessions(directory, tables["sessions_by_project"])
    return problems


def _laws(directory: Path, timeline: pl.DataFrame) -> list[str]:
    """Hold the corrected collector to the hierarchy, the derived states and the partition.

    Each where the table has all that it speaks of.
    """
    corrected = timeline.filter(pl.col("collector_type") == "corrected")
    if corrected.is_empty():
        return [f"{directory}: usage_timeline holds no row of the corrected collector"]
    wide = corrected.pivot(on="count_type", index=["timestamp"], values="value")
    known = set(wide.columns)
    broken: dict[str, pl.Expr] = {}
    for child, metric in METRICS.items():
        parent = metric.within
        if {parent, child} <= known:
            broken[f"{parent} < {child}"] = pl.col(parent) < pl.col(child) - TOLERANCE
    for name, metric in DERIVED.items():
        if {name, *names_in(metric.formula)} <= known:
            off = (pl.col(name) - metric.expression).abs()
            broken[f"{name} is not its formula"] = off > TOLERANCE
    for name in wide.columns[1:]:
        broken[f"{name} is negative"] = pl.col(name) < -TOLERANCE
    if {"total", *PARTITION} <= known:
        off = (pl.col("total") - pl.sum_horizontal(PARTITION, ignore_nulls=False)).abs()
        broken["the partition does not add up to total"] = off > TOLERANCE
    problems = []
    for what, law in broken.items():
        rows = wide.filter(law)["timestamp"].sort()
        if rows.len():
            problems.append(
                f"{directory}: {what} in {rows.len()} buckets, first at {rows[0]:%F %T}"
            )
    return problems


def _whole(directory: Path, timeline: pl.DataFrame) -> list[str]:
    """Find missing buckets: every series has all, and no step is longer than the others.

    Months differ in length, by less than a fifth; a missing bucket makes a step twice as long.
    """
    stamps = timeline["timestamp"].unique().sort()
    steps = stamps.diff().drop_nulls().dt.total_seconds()
    gap = steps.len() > 1 and bool((steps > 1.5 * steps.median()).any())  # type: ignore[operator]
    lengths = timeline.group_by("collector_type", "count_type").len()["len"].unique().to_list()
    if gap or lengths not in ([], [stamps.len()]):
        return [f"{directory}: usage_timeline lacks buckets; run 'chameleon-usage run' again"]
    return []


def _silences(directory: Path, timeline: pl.DataFrame, rejects: pl.DataFrame) -> list[str]:
    """Find a quantity that is said to be none while rows of it were refused that nobody can count.

    Of such a bucket nobody knows, and the value is to be unknown.
    """
    problems = []
    length = timeline["timestamp"].unique().sort().diff().median()
    refused = rejects.cast({"reason": pl.String, "stage": pl.String}).filter(
        pl.col("reason").is_in(UNCOUNTABLE)
    )
    for name in MEASURED:
        stage = pl.col("stage") == stage_of("corrected", name)
        none = timeline.filter(
            (pl.col("collector_type") == "corrected")
            & (pl.col("count_type") == name)
            & (pl.col("value") == 0)
        ).select(
            first=pl.col("timestamp").dt.replace_time_zone(None),
            last=pl.col("timestamp").dt.replace_time_zone(None) + length,
        )
        silent = none.join_where(
            refused.filter(stage).select("source", "reason", "start", "end"),
            pl.col("start") <= pl.col("first"),
            pl.col("end") >= pl.col("last"),
        )
        if silent.height:
            row = silent.sort("first", "source", "reason").row(0, named=True)
            problems.append(
                f"{directory}: {name} is 0 in {silent['first'].n_unique()} buckets of which nobody "
                f"knows, first at {row['first']:%F %T} ({row['source']}: {row['reason']})"
            )
    return problems


def _same_nodes(directory: Path, tables: dict[str, pl.DataFrame]) -> list[str]:
    """Check that usage_timeline equals the nodes of usage_by_resource."""
    nodes = tables["usage_by_resource"].filter(pl.col("resource") == "nodes").drop("resource")
    if nodes.equals(tables["usage_timeline"]):
        return []
    return [f"{directory}: usage_timeline is not the nodes of usage_by_resource"]


def _differences(path: Path, comparison: pl.DataFrame) -> list[str]:
    off = comparison.filter(
        (pl.col("difference") - (pl.col("corrected") - pl.col("legacy"))).abs() > TOLERANCE
    )
    if off.is_empty():
        return []
    return [f"{path}: difference is not corrected - legacy in {off.height} rows"]


def _gaps(directory: Path, coverage: pl.DataFrame, site: Site) -> list[str]:
    """Confirm that a source that is declared blind before a date supports little before it."""
    problems = []
    for gap in site.known_gaps:
        before = coverage.filter(
            (pl.col("source") == gap.source)
            & (pl.col("timestamp").dt.date() < gap.before)
            & pl.col("known_share").is_not_null()
        )
        share = before.select(pl.col("known_share").mean()).item()
        if share is not None and share >= GAP_SHARE:
            problems.append(
                f"{directory}: {gap.source} is declared as a gap before {gap.before}, but supports "
                f"{share:.0%} of the host time there; correct known_gaps of site {site.key}"
            )
    return problems
