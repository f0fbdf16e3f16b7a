"""Joins of one row by number give what a join gives."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from chameleon_usage.ingest.base import Joins, among, join_one
from chameleon_usage.models.raw_table import NAME

ROWS = [3, None, 1, 7, 3, 10**12]
KEYS = {
    "near": [1, 3, 5, None],
    "far apart": [3, -(10**15), 10**12],
    "none": [],
    "only null": [None],
}


def keyed(keys: list[int | None], kind: pl.DataType, **columns: list[int]) -> pl.DataFrame:
    column = pl.Series("key", keys, dtype=pl.Int64)
    texts = column.cast(pl.String).cast(kind) if kind == NAME else column
    return pl.DataFrame([texts, *(pl.Series(name, values) for name, values in columns.items())])


@pytest.mark.parametrize("kind", [pl.Int64(), NAME], ids=["numbers", "names"])
@pytest.mark.parametrize("keys", KEYS)
class TestKeys:
    def test_all_rows_stay_in_order_beside_the_one_with_their_key(self, keys, kind):
        rows = keyed(ROWS, kind, row=list(range(len(ROWS))))
        others = keyed(KEYS[keys], kind, other=list(range(len(KEYS[keys]))))
        joined, matched = join_one(rows, others, "key")
        expected = rows.join(others, on="key", how="left", maintain_order="left")
        assert_frame_equal(joined, expected, check_dtypes=False)
        assert matched == expected["other"].count()

    def test_which_are_among_others_that_come_twice(self, keys, kind):
        others = keyed(KEYS[keys] * 2, kind)
        found = among(keyed(ROWS, kind), others, "key").to_list()
        assert found == [key is not None and key in KEYS[keys] for key in ROWS]


def test_where_a_key_comes_twice_each_match_is_a_row():
    joins = Joins()
    joined = joins.left("a -> b", keyed([1, 2], NAME), keyed([2, 2], NAME, b=[5, 6]), "key")
    assert joined.rows() == [("1", None), ("2", 5), ("2", 6)]
    assert joins.log().row(0) == ("a -> b", 2, 1, 1, 2.0)
