"""The numbers of a bucket differ where anything in it does, and nowhere else."""

from __future__ import annotations

import polars as pl
import pytest

from chameleon_usage.nightly.fingerprints import fingerprints
from chameleon_usage.usage.buckets import Availability, Window
from support.sites import DAY0, day

WINDOW = Window(DAY0, day(4))
KNOWN = Availability(frozenset(), {}, day(4))
LABELS = {"collector_type": "corrected", "node_type": "a", "node_size": 1, "nodes": 1}
SUMS = pl.DataFrame({"bucket": [0, 1, 2, 3], "total": [9, 9, 9, 9], "active": [1, 0, 0, 2]})


def labelled(sums: pl.DataFrame, **labels: object) -> pl.DataFrame:
    told = [pl.lit(value).alias(name) for name, value in (LABELS | labels).items()]
    return sums.select(*told, *sums.columns)


def numbers(*parts: pl.DataFrame, name: str = "usage", known: Availability = KNOWN) -> pl.DataFrame:
    return fingerprints({name: pl.concat(parts, how="diagonal").fill_null(0)}, known, WINDOW)


def differing(*parts: pl.DataFrame, **options: object) -> list[int]:
    """Give the days of which the numbers are others than those of ``SUMS``."""
    before, now = numbers(labelled(SUMS)), numbers(*parts, **options)
    assert now.height == 4
    return [number for number in range(4) if before.row(number) != now.row(number)]


def test_one_sum_is_another():
    other = SUMS.with_columns(active=pl.Series([1, 0, 3, 2]))
    assert differing(labelled(other)) == [2]


def test_a_sum_is_that_of_another_quantity():
    swapped = SUMS.rename({"total": "active", "active": "total"})
    assert differing(labelled(swapped)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "label", [{"node_type": "b"}, {"collector_type": "uncorrected"}, {"node_size": 2}, {"nodes": 2}]
)
def test_a_sum_is_that_of_something_else(label):
    assert differing(labelled(SUMS[:2]), labelled(SUMS[2:], **label)) == [2, 3]


def test_what_two_things_have_is_not_added_up():
    ours, theirs = (SUMS.with_columns(active=pl.Series([1, 0, 0, n])) for n in (2, 5))
    one = numbers(labelled(ours), labelled(theirs, node_type="b"))
    other = numbers(labelled(theirs), labelled(ours, node_type="b"))
    assert one["first"].to_list()[:3] == other["first"].to_list()[:3]
    assert one.row(3) != other.row(3)


def test_hosts_are_not_node_types():
    assert differing(labelled(SUMS), name="hosts") == [0, 1, 2, 3]


def test_neither_order_nor_rows_and_columns_without_anything_make_a_difference():
    none = SUMS.with_columns(pl.col("total", "active") * 0)
    empty = labelled(none, node_type="b")
    assert differing(empty, labelled(SUMS.with_columns(idle=pl.lit(0, pl.Int64)))) == []
    assert differing(labelled(SUMS[2:]), labelled(SUMS[:2])) == []


def test_a_bucket_that_the_tables_do_not_cover_has_none():
    some = numbers(labelled(SUMS), known=Availability(frozenset(), {}, day(3.5)))
    assert some["timestamp"].to_list() == numbers(labelled(SUMS))["timestamp"].to_list()[:3]
