"""How far each collector is from the truth, by era, and how much each correction takes away.

The error is the sum of the absolute differences over the sum of the truth, over the days on which
there is a value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from chameleon_usage.models.raw import QUANTITIES
from chameleon_usage.viz.base import as_text, since_opening
from paper import truth
from paper.eras import ERAS, era_of
from paper.kept import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

BY = ("site", "era", "count_type")

JUDGED = (*QUANTITIES, *truth.STATES)
"""Count types of which the errors of a site are told."""

NOTABLE = 0.01
"""Of a smaller part of the node-hours it says little how much is right."""


def errors(
    usage: pl.DataFrame, truth: pl.DataFrame, era: Callable[[pl.Expr], pl.Expr] = era_of
) -> pl.DataFrame:
    """Hold each collector of one site to the truth.

    Args:
        usage: `usage_timeline` of the site; a day without a row is a day without a value.
        truth: `timestamp`, `count_type`, `truth` on the days to judge.
        era: names the era of a time, as column `era`.

    Returns:
        `site`, `era`, `count_type`, `collector_type`; `error`, `bias` and `p95` as shares of the
        truth; `bias_nodes`, `mean_absolute_nodes`, `p95_nodes` in nodes; `known_days`: the share
        of days with a value. Eras in which the site had nothing are left out.
    """
    usage = as_text(usage)
    both = truth.join(usage.select("site", "collector_type").unique(), how="cross").join(
        usage, on=["site", "collector_type", "timestamp", "count_type"], how="left"
    )
    known = pl.col("value").is_not_null()
    difference = pl.col("value") - pl.col("truth")
    true = pl.col("truth").filter(known).sum()
    return (
        both.with_columns(era(pl.col("timestamp")))
        .sort("timestamp")
        .group_by(*BY, "collector_type")
        .agg(
            pl.when(true > 0).then(difference.abs().sum() / true).alias("error"),
            pl.when(true > 0).then(difference.sum() / true).alias("bias"),
            pl.when(true > 0)
            .then(difference.abs().quantile(0.95) * known.sum() / true)
            .alias("p95"),
            difference.mean().alias("bias_nodes"),
            difference.abs().mean().alias("mean_absolute_nodes"),
            difference.abs().quantile(0.95).alias("p95_nodes"),
            known.mean().alias("known_days"),
            (pl.col("truth").sum() > 0).alias("there"),
        )
        # Before a site had anything, there is nothing to be wrong about.
        .filter(pl.col("there"))
        .drop("there")
        .sort(*BY, "collector_type")
    )


def errors_of_site(site: str, output: Path, data: Path, count_types: Sequence[str]) -> pl.DataFrame:
    """Give `errors` of the output tables of a site since it opened; they are `kept`.

    Args:
        site: its key.
        output: the folder of the outputs, with one of each site.
        data: the folder of the raw tables, with the truth of each site.
        count_types: some of ``JUDGED``.
    """
    usage, intervals = output / site / "usage_timeline.parquet", truth.path(data, site)

    def measure() -> pl.DataFrame:
        counted = since_opening(pl.read_parquet(usage))
        days = counted["timestamp"].unique().sort()
        return errors(counted, truth.daily_truth(pl.read_parquet(intervals), days, JUDGED))

    found = kept(f"errors_{site}", measure, usage, intervals)
    return found.filter(pl.col("count_type").is_in(count_types))


def worst_days(of: pl.DataFrame) -> dict[str, Any]:
    """Give the row of `errors` whose worst days are off by most nodes, with `under`.

    Args:
        of: of `errors`, one collector of it.

    Returns:
        the row by column; `under` is the share of its absolute errors that are undercounts.
    """
    under = (1 - pl.col("bias") / pl.col("error")) / 2
    return (
        of.drop_nulls("error")
        .sort("p95_nodes", *BY, descending=[True, *[False] * len(BY)])
        .with_columns(under=under)
        .row(0, named=True)
    )


def at_least(value: float | None, decimals: int) -> float | None:
    """Round a lower bound down, so that the text never promises more than was found.

    >>> at_least(0.99470, 3), at_least(0.796, 2)
    (0.994, 0.79)
    """
    return None if value is None else math.floor(value * 10**decimals) / 10**decimals


def at_most(value: float | None, decimals: int) -> float | None:
    """Round an upper bound up.

    >>> at_most(0.3034, 2)
    0.31
    """
    return None if value is None else math.ceil(value * 10**decimals) / 10**decimals


def listed(parts: Sequence[str]) -> str:
    """Write a list as words.

    >>> listed(["1 at A", "2 at B", "3 at C"])
    '1 at A, 2 at B and 3 at C'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def ranges(recorded: pl.DataFrame) -> pl.DataFrame:
    """Say how large each measure is over several seeds.

    Args:
        recorded: of `seeds.read_record`.

    Returns:
        `site`, `era`, `count_type`, `collector_type`, `measure`; `low`, `mid` (the median), `high`.
    """
    value = pl.col("value")
    by = [*BY, "collector_type", "measure"]
    return recorded.group_by(by).agg(low=value.min(), mid=value.median(), high=value.max()).sort(by)


def without_error(of: pl.DataFrame, sites: Iterable[str], counts: Sequence[str]) -> pl.DataFrame:
    """Name the eras in which no collector has an error, as the truth is zero throughout.

    Args:
        of: of `ranges`, all collectors.
        sites: to look at.
        counts: the count types to look at.

    Returns:
        `site`, `era`, `count_type`.
    """
    grid = (
        pl.DataFrame({"site": list(sites)})
        .join(pl.DataFrame({"era": list(ERAS.values())}), how="cross")
        .join(pl.DataFrame({"count_type": list(counts)}), how="cross")
    )
    return grid.join(of, on=BY, how="anti")


def in_order(
    of: pl.DataFrame,
    measure: str,
    collector: str,
    sites: Iterable[str],
    counts: Sequence[str],
) -> pl.DataFrame:
    """Give the rows of `ranges` for one measure of one collector; sites, eras, counts in order."""
    return of.filter(
        pl.col("count_type").is_in(list(counts)), measure=measure, collector_type=collector
    ).sort(
        pl.col("site").cast(pl.Enum(list(sites))), "era", pl.col("count_type").cast(pl.Enum(counts))
    )


def in_percent(of: pl.DataFrame, decimals: int = 2) -> pl.DataFrame:
    """Write a range as words: median (smallest–largest), in percent, as column `words`.

    >>> in_percent(pl.DataFrame({"low": [0.01], "mid": [0.02], "high": [0.054]}), 1)["words"][0]
    '2.0 (1.0–5.4)'
    """

    def percent(name: str) -> pl.Expr:
        rounded = (100 * pl.col(name)).round(decimals)
        return rounded.map_elements(f"{{:.{decimals}f}}".format, return_dtype=pl.String)

    return of.with_columns(
        words=pl.format("{} ({}–{})", *(percent(name) for name in ("mid", "low", "high")))
    )


def by_count(of: pl.DataFrame) -> pl.DataFrame:
    """Give each count type a column of words: `site`, `era`, and the count types."""
    return of.pivot(on="count_type", index=["site", "era"], values="words")


def inferred(of: pl.DataFrame, counts: Sequence[str]) -> pl.DataFrame:
    """Say how much of the corrected count is inferred, and how much of that is right.

    Args:
        of: of `ranges`.
        counts: the count types to give.

    Returns:
        `site`, `era`, and for each count type `<count>_share`, the median share of the node-hours
        that is inferred, and `<count>_right`, the lowest share of these that the truth has.
    """
    told = {"inferred": ("share", pl.col("mid")), "inferred_wrong": ("right", 1 - pl.col("high"))}
    parts = [
        of.filter(pl.col("measure") == measure, pl.col("count_type").is_in(list(counts))).select(
            "site", "era", value, name=pl.format("{}_{}", "count_type", pl.lit(part))
        )
        for measure, (part, value) in (
            (measure, (part, value.alias("value"))) for measure, (part, value) in told.items()
        )
    ]
    names = [f"{count}_{part}" for count in counts for part, _ in told.values()]
    return pl.concat(parts).pivot(
        on="name", on_columns=names, index=["site", "era"], values="value"
    )


def apart_by_half(halves: pl.DataFrame) -> pl.DataFrame:
    """Say how far twins are from the real yearly means, in years that steered them and in others.

    Args:
        halves: `site`, `steered_by` (all, even, odd), `collector_type`, `count_type`, `year`,
            `real`, `twin`.

    Returns:
        `site`, `collector_type`, `count_type`, `years`; the median absolute difference, as a share
        of the real mean, where `all` years steer, and, where half of them do, in these (`inside`)
        and in the others (`outside`).
    """
    even = pl.col("year") % 2 == 0
    steered = pl.when(pl.col("steered_by") == "all").then(pl.lit("all"))
    where = steered.when((pl.col("steered_by") == "even") == even).then(pl.lit("inside"))
    by = ["site", "collector_type", "count_type"]
    apart = (pl.col("twin") / pl.col("real") - 1).abs()
    return (
        halves.with_columns(where.otherwise(pl.lit("outside")).alias("where"), apart.alias("apart"))
        .group_by(*by, "where")
        .agg(pl.col("apart").median(), pl.col("year").n_unique().alias("years"))
        .pivot(
            on="where",
            on_columns=["all", "inside", "outside"],
            index=[*by, "years"],
            values="apart",
        )
        .sort(by)
    )


def moved_by_half(recorded: pl.DataFrame) -> float | None:
    """Give the most by which the corrected error moves when half of the years steer the twin.

    Args:
        recorded: of `seeds.read_record`.

    Returns:
        percentage points; None where there is nothing to compare.
    """
    rows = recorded.filter(collector_type="corrected", measure="error_site")
    whole, half = (rows.filter((pl.col("steered_by") == "all") == all_) for all_ in (True, False))
    both = half.join(whole, on=["site", "seed", "era", "count_type"], suffix="_all")
    moved = both.select((100 * (pl.col("value") - pl.col("value_all"))).abs().max()).item()
    return None if moved is None else float(moved)


def of_services(recorded: pl.DataFrame) -> pl.DataFrame:
    """Give the errors on the sites that the services wrote.

    Args:
        recorded: `site` (services/<release>/<site>), `count_type`, `error`, `known_days`.

    Returns:
        `place`, `count_type`, and `error` and `known_days` of each release.
    """
    parts = pl.col("site").str.split("/")
    return (
        recorded.filter(pl.col("site").str.starts_with("services/"))
        .with_columns(place=parts.list.get(2, null_on_oob=True), release=parts.list.get(1))
        .sort("place", "count_type", "release")
        .pivot(on="release", index=["place", "count_type"], values=["error", "known_days"])
    )


def days_of_services(recorded: pl.DataFrame) -> dict[str, str]:
    """Write on how many days there is a value on the sites that the services wrote.

    Args:
        recorded: of these sites: `site` (services/<release>/<site>), `count_type`, `known_days`.

    Returns:
        `<count>_<place>` to the share with Blazar as it is published, `chameleon` to that of any
        count with Chameleon's branch; smallest to largest over releases, in percent.
    """
    parts = pl.col("site").str.split("/")
    rows = recorded.with_columns(place=parts.list.get(2), release=parts.list.get(1))
    branch = pl.col("release").str.starts_with("chameleon")
    of = {
        f"{count}_{place}": days["known_days"].to_list()
        for (count, place), days in rows.filter(~branch).group_by("count_type", "place")
    }
    of["chameleon"] = rows.filter(branch)["known_days"].to_list()
    ends = {key: {f"{min(days):.0%}": 0, f"{max(days):.0%}": 0} for key, days in of.items() if days}
    return {key: " to ".join(two) for key, two in sorted(ends.items())}


def with_more_damage(recorded: pl.DataFrame) -> pl.DataFrame:
    """Say how many percentage points of error each kind of damage adds when there is more of it.

    Args:
        recorded: `site`, `damage` ("nothing": as it is), `seed`, `era`, `count_type`, `error`.

    Returns:
        the rows of the kinds of damage, with `with_all`, the error of the same twin as it is, and
        `added`, in percentage points; sorted.
    """
    by = [*BY, "seed"]
    plain = recorded.filter(pl.col("damage") == "nothing").select(*by, with_all="error")
    return (
        recorded.filter(pl.col("damage") != "nothing")
        .join(plain, on=by)
        .with_columns((100 * (pl.col("error") - pl.col("with_all"))).alias("added"))
        .sort(*BY, "damage")
    )


def worst_of_each(felt: pl.DataFrame, kinds: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """Give each kind of damage the place at which more of it adds most.

    Args:
        felt: rows of `with_more_damage`.
        kinds: the calibration's: name to `what`, `rate`, `of`, `mark`.

    Returns:
        `what`, `rate`, `of`, `mark`, and `site`, `era`, `count_type`, `with_all`, `error` where it
        adds most, null where it is not felt; the most first.
    """
    told = pl.DataFrame(
        [
            {"damage": name, **{key: kind[key] for key in ("what", "of", "mark")}}
            | {"rate": float(kind["rate"])}
            for name, kind in kinds.items()
        ]
    )
    worst = felt.sort("added", *BY, descending=[True, *[False] * len(BY)]).unique(
        "damage", keep="first", maintain_order=True
    )
    return (
        told.join(worst, on="damage", how="left")
        .sort("added", "what", descending=[True, False], nulls_last=True)
        .select(
            *("what", "rate", "of", "mark"), *("site", "era", "count_type", "with_all", "error")
        )
    )


def errors_without(counted: pl.DataFrame, usage: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Give the errors of one site with each correction left out.

    Args:
        counted: `site`, `timestamp`, `count_type`, `left_out`, `value`.
        usage: `usage_timeline` of the site: only days published as known are judged.
        truth: `timestamp`, `count_type`, `truth`.

    Returns:
        `site`, `era`, `count_type`, `left_out`, `error`; rows with an error only.
    """
    published = as_text(usage).filter(pl.col("collector_type") == "corrected").drop_nulls("value")
    both = counted.join(published, on=["timestamp", "count_type"], how="semi").join(
        truth, on=["timestamp", "count_type"]
    )
    true = pl.col("truth").sum()
    return (
        both.with_columns(era_of(pl.col("timestamp")))
        .sort("timestamp")
        .group_by(*BY, "left_out")
        .agg(
            pl.when(true > 0)
            .then((pl.col("value") - pl.col("truth")).abs().sum() / true)
            .alias("error")
        )
        .drop_nulls("error")
    )


def added_errors(without: pl.DataFrame, nothing: str) -> pl.DataFrame:
    """Say how many percentage points of error each correction takes away.

    Args:
        without: from `errors_without`.
        nothing: what `left_out` says where every correction is kept.

    Returns:
        the rows of the corrections, with `with_all`, the error that all of them leave, and
        `added`, in percentage points; sorted.
    """
    whole = without.filter(pl.col("left_out") == nothing).select(
        *BY, pl.col("error").alias("with_all")
    )
    return (
        without.filter(pl.col("left_out") != nothing)
        .join(whole, on=BY)
        .with_columns((100 * (pl.col("error") - pl.col("with_all"))).alias("added"))
        .sort(*BY, "left_out")
    )


def most_added(without: pl.DataFrame) -> pl.DataFrame:
    """Give each correction the place at which its lack adds most, the most first.

    Args:
        without: from `added_errors`.
    """
    return (
        without.sort("added", *BY, "left_out", descending=[True, *[False] * (len(BY) + 1)])
        .unique("left_out", keep="first", maintain_order=True)
        .sort("added", "left_out", descending=[True, False])
    )


def most_costly(without: pl.DataFrame) -> pl.DataFrame:
    """Give each correction the place at which its lack saves most: `saved`, in percentage points.

    Args:
        without: from `added_errors`.

    Returns:
        the most first; a correction that costs nothing anywhere has 0 or less.
    """
    return most_added(without.with_columns((-pl.col("added")).alias("added"))).rename(
        {"added": "saved"}
    )
