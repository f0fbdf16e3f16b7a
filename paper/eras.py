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


def before_and_after_2022(timestamp: pl.Expr) -> pl.Expr:
    """Name the half of the record of each time, as column `era`: since 2022 little is lost."""
    later = timestamp.dt.year() >= max(ERAS)
    return (
        pl.when(later).then(pl.lit(ERAS[max(ERAS)])).otherwise(pl.lit("before_2022")).alias("era")
    )


def era_label(era: pl.Expr) -> pl.Expr:
    """Write an era as readers see it: 2016–2017, before 2022, 2022 on."""
    return era.str.replace("_on", " on").str.replace("before_", "before ").str.replace("_", "–")
