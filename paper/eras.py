"""The eras of the record: what is lost, and so what can be known, differs between them."""

from __future__ import annotations

import polars as pl

ERAS = {2016: "2016_2017", 2018: "2018_2019", 2020: "2020_2021", 2022: "2022_on"}
"""First year to the era's name in the names of results."""


def era_of(timestamp: pl.Expr) -> pl.Expr:
    """Name the era of each time, as column `era`."""
    years, names = list(ERAS), list(ERAS.values())
    named = pl.lit(names[0])
    for year, name in zip(years[1:], names[1:], strict=True):
        named = pl.when(timestamp.dt.year() >= year).then(pl.lit(name)).otherwise(named)
    return named.alias("era")


def halves_of(timestamp: pl.Expr) -> pl.Expr:
    """Name the part of the record of each time, as column `era`: since 2022 little is lost."""
    first, last = min(ERAS), max(ERAS)
    later = timestamp.dt.year() >= last
    named = pl.when(later).then(pl.lit(ERAS[last])).otherwise(pl.lit(f"{first}_{last - 1}"))
    return named.alias("era")


def era_label(era: pl.Expr) -> pl.Expr:
    """Write an era as readers see it: 2016–2017, 2022 on."""
    return era.str.replace("_on", " on").str.replace("_", "–")
