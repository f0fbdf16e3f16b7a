"""Rows parted in two."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from chameleon_usage.intervals.cutting import parted


@pytest.mark.parametrize("values", [[], [1, 2], [3, 4], [1, None, 3], [None]])
def test_every_row_is_of_one_part_and_nothing_known_of_the_second(values):
    rows = pl.DataFrame({"value": values}, schema={"value": pl.Int64})
    small, others = parted(rows, pl.col("value") < 3)
    assert_frame_equal(small, rows.filter(pl.col("value") < 3))
    assert_frame_equal(others, rows.filter(pl.col("value").is_null() | (pl.col("value") >= 3)))
