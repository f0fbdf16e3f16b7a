"""What a set of leases says of its users: lead times, durations, early release, robots.

The published leases and the twin's are measured by the same definitions, under the names that
`data/calibration.yaml` gives the figures. All functions take `leases`, a row each: `site`, `user`,
`gpu` (the node type says so), `nodes`, and the times `created_at`, `start`, `end` and `deleted_at`
(null: never deleted).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROBOT_MINUTES, ROBOT_LEASES = 5, 100
"""A robot is a user with so many leases at a site, half of them held for less than so long."""

ADVANCE_MINUTES = 10
"""A lease is made in advance if it starts later than this after it was made. The published files
have the two kinds in two folders, and this limit parts them without a single exception."""

BOTH = "both sites"
GROUPS: dict[str, pl.Expr] = {
    "all": pl.lit(value=True),
    "non_gpu": ~pl.col("gpu"),
    "gpu": pl.col("gpu"),
}
CHANGED = "2017-12"
"""From this month on the published files hold hardly any lease that ran to its end."""

ERAS: dict[str, pl.Expr] = {
    "all": pl.lit(value=True),
    f"before {CHANGED}": pl.col("created_at").dt.strftime("%Y-%m") < CHANGED,
    f"from {CHANGED}": pl.col("created_at").dt.strftime("%Y-%m") >= CHANGED,
}
RESAMPLES, SEED = 400, 2016
"""How often users are drawn anew for an interval, and from which seed."""


@dataclass(frozen=True)
class Statistic:
    """A share of leases, or a quantile of what they say.

    Attributes:
        value: the condition whose share is meant, or the quantity.
        of: the leases that count.
        quantile: which, or None for a share.
    """

    value: pl.Expr
    of: pl.Expr
    quantile: float | None = None


HELD = pl.col("held_h") > 0
ADVANCE = pl.col("lead_h") > ADVANCE_MINUTES / 60
EVERY = pl.lit(value=True)
STATISTICS: dict[str, Statistic] = {
    "advance_share": Statistic(ADVANCE, EVERY),
    "advance_lead_median_h": Statistic(pl.col("lead_h"), ADVANCE & HELD, 0.5),
    "advance_lead_p90_h": Statistic(pl.col("lead_h"), ADVANCE & HELD, 0.9),
    "requested_median_h": Statistic(pl.col("requested_h"), EVERY, 0.5),
    "actual_median_h": Statistic(pl.col("held_h"), HELD, 0.5),
    "released_early_share": Statistic(pl.col("early_h") > 5 / 60, EVERY),
    "cancelled_before_start_share": Statistic(~HELD, EVERY),
    "seven_day_share": Statistic((pl.col("requested_h") - 168).abs() <= 2, EVERY),
    "longer_than_seven_days_share": Statistic(pl.col("requested_h") > 170, EVERY),
}
QUANTITIES: dict[str, Statistic] = {
    "lead time": STATISTICS["advance_lead_median_h"],
    "requested duration": STATISTICS["requested_median_h"],
    "actual duration": STATISTICS["actual_median_h"],
}
"""Of these the whole distribution is drawn."""

HOURS = [float(f"{h:.3g}") for h in np.geomspace(1 / 60, 3000, 61)]


def measured(leases: pl.DataFrame) -> pl.DataFrame:
    """Add the quantities in hours.

    Returns:
        `leases` with `lead_h` (start - creation), `requested_h` (end - start), `held_h` (earlier of
        end and deletion - later of start and creation; 0 or less: cancelled before the start),
        `early_h` (end - deletion; 0 if it was never deleted) and `node_hours`.
    """
    held = pl.min_horizontal("end", "deleted_at") - pl.max_horizontal("start", "created_at")
    return leases.with_columns(
        lead_h=hours(pl.col("start") - pl.col("created_at")),
        requested_h=hours(pl.col("end") - pl.col("start")),
        held_h=hours(held),
        early_h=hours(pl.col("end") - pl.col("deleted_at")).fill_null(0.0),
        node_hours=hours(held).clip(lower_bound=0) * pl.col("nodes"),
    )


def hours(duration: pl.Expr) -> pl.Expr:
    """Give a duration in hours."""
    return duration.dt.total_seconds() / 3600


def robots(leases: pl.DataFrame) -> pl.DataFrame:
    """Find the robots by their behaviour.

    Args:
        leases: from `measured`.

    Returns:
        `site`, `user`, `leases`, `median_minutes` (held), `node_hours`.
    """
    return (
        leases.group_by("site", "user")
        .agg(
            pl.len().alias("leases"),
            (60 * pl.col("held_h").median()).alias("median_minutes"),
            pl.col("node_hours").sum(),
        )
        .filter(pl.col("leases") >= ROBOT_LEASES, pl.col("median_minutes") < ROBOT_MINUTES)
        .sort("site", "user")
    )


def without_robots(leases: pl.DataFrame) -> pl.DataFrame:
    """Leave out the leases of robots."""
    return leases.join(robots(leases), on=["site", "user"], how="anti", maintain_order="left")


def figures(
    leases: pl.DataFrame, *, resamples: int = 0, only: tuple[str, str] | None = None
) -> pl.DataFrame:
    """Give every statistic of each site and of both, each era and each kind of node.

    Args:
        leases: from `measured`, without robots.
        resamples: how often users are drawn with replacement for the interval; 0: no interval.
            Leases of one user are alike, so users are drawn, not leases.
        only: of this site (or `BOTH`) and era.

    Returns:
        `site`, `era`, `nodes`, `figure`, `leases` (that count), `value`, and `low` and `high`, the
        95 % interval.
    """
    rows = [
        (*key, name, *statistic(part, of, resamples))
        for key, part in parts(leases, only)
        for name, of in STATISTICS.items()
    ]
    names = ["site", "era", "nodes", "figure", "leases", "value", "low", "high"]
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def survival(
    leases: pl.DataFrame, *, resamples: int = 0, only: tuple[str, str] | None = None
) -> pl.DataFrame:
    """Give the share of leases that is longer than each of `HOURS`.

    Args:
        leases: from `measured`, without robots.
        resamples: as in `figures`.
        only: as in `figures`.

    Returns:
        `site`, `era`, `nodes`, `quantity`, `hours`, `share`, `low`, `high`.
    """
    found = []
    for (site, era, nodes), part in parts(leases, only):
        if nodes == "all":
            continue
        for name, of in QUANTITIES.items():
            counted = part.filter(of.of)
            if counted.is_empty():
                continue
            longer = counted.select(of.value).to_numpy() > np.array(HOURS)
            draws = drawn(counted["user"], resamples)
            spread = (draws @ longer) / draws.sum(axis=1, keepdims=True)
            found.append(
                pl.DataFrame({"hours": HOURS, "share": longer.mean(axis=0)}).select(
                    *(pl.lit(v).alias(k) for k, v in (("site", site), ("era", era))),
                    pl.lit(nodes).alias("nodes"),
                    pl.lit(name).alias("quantity"),
                    "hours",
                    "share",
                    low=pl.lit(interval(spread)[0]),
                    high=pl.lit(interval(spread)[1]),
                )
            )
    return pl.concat(found)


def parts(
    leases: pl.DataFrame, only: tuple[str, str] | None = None
) -> Iterator[tuple[tuple[str, str, str], pl.DataFrame]]:
    """Give the leases of each site and of all together, era by era, by the kind of node.

    Args:
        leases: from `measured`.
        only: of this site (or `BOTH`) and era.
    """
    sites = leases["site"].unique().sort().to_list()
    whole = {site: pl.col("site") == site for site in sites}
    if len(sites) > 1:
        whole[BOTH] = pl.lit(value=True)
    for site, here in whole.items():
        for era, then in ERAS.items():
            for nodes, kind in GROUPS.items():
                if only and (site, era) != only:
                    continue
                part = leases.filter(here, then, kind)
                if part.height:
                    yield (site, era, nodes), part


def statistic(
    leases: pl.DataFrame, of: Statistic, resamples: int
) -> tuple[int, float | None, float | None, float | None]:
    """Give the number of leases that count, the value, and its 95 % interval."""
    counted = leases.filter(of.of)
    if counted.is_empty():
        return 0, None, None, None
    values = counted.select(of.value.cast(pl.Float64)).to_series().to_numpy()
    draws = drawn(counted["user"], resamples)
    if of.quantile is None:
        value = values.mean()
        spread = draws @ values / draws.sum(axis=1)
    else:
        value = np.quantile(values, of.quantile)
        order = np.argsort(values)
        ranks = draws[:, order].cumsum(axis=1)
        spread = values[order][(ranks >= of.quantile * ranks[:, -1:]).argmax(axis=1)]
    low, high = (None if bound is None else float(bound) for bound in interval(spread))
    return counted.height, float(value), low, high


def drawn(users: pl.Series, resamples: int) -> NDArray[np.int32]:
    """Give how often each lease counts in each sample of users drawn with replacement."""
    codes = users.rank("dense").to_numpy() - 1
    size = int(codes.max()) + 1
    rng = np.random.default_rng(SEED)
    often = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
    return often.astype(np.int32)[:, codes]


def interval(
    spread: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | tuple[None, None]:
    """Give the middle 95 % of the samples, or nothing of none."""
    if not len(spread):
        return None, None
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    return low, high
