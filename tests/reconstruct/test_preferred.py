"""Each instance is told by one source: the first of the order that knows it."""

from types import SimpleNamespace

import polars as pl
import pytest

from chameleon_usage.reconstruct.holders import preferred

SITE = SimpleNamespace(sources={"occupied": SimpleNamespace(order=("nova", "events"))})


def told(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["source", "entity_id"], orient="row").with_row_index()


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["u", "v", "w", "x"])])
def test_the_first_source_that_knows_an_instance_tells_all_of_it(kind):
    rows = told(("events", "v"), ("nova", "u"), ("events", "u"), ("nova", "u"), ("else", "w"))
    kept = preferred(rows.cast({"entity_id": kind}), "occupied", SITE)
    assert kept["index"].to_list() == [0, 1, 3]


def test_a_source_that_knows_it_elsewhere_goes_before_one_that_is_here():
    rows, known = told(("events", "u"), ("events", "v")), told(("nova", "u"), ("else", "v"))
    assert preferred(rows, "occupied", SITE, known)["entity_id"].to_list() == ["v"]


def test_of_nothing_is_nothing():
    assert preferred(told().cast({"source": pl.String}), "occupied", SITE).is_empty()
