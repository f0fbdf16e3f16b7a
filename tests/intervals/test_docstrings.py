"""The examples in the docstrings of the interval functions: every function has one, and it runs."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import doctest
import inspect
from datetime import datetime

import polars as pl
import pytest

from chameleon_usage.intervals import arithmetic


def day(number: int) -> datetime:
    return datetime(2020, 1, number)


def days(*rows: tuple[str, int, int]) -> pl.DataFrame:
    hosts, starts, ends = zip(*rows, strict=True)
    return pl.DataFrame({"host": hosts, "start": map(day, starts), "end": map(day, ends)})


def days_of(frame: pl.DataFrame) -> list[tuple[str, int, int]]:
    names = pl.col(frame.columns[0])
    return sorted(frame.select(names, pl.col("start", "end").dt.day()).rows())


FUNCTIONS = [
    function
    for name, function in inspect.getmembers(arithmetic, inspect.isfunction)
    if not name.startswith("_")
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_the_example_of_each_function_gives_what_it_says(function):
    words = vars(arithmetic) | {"day": day, "days": days, "days_of": days_of}
    (examples,) = doctest.DocTestFinder(recurse=False).find(function, globs=words)
    assert examples.examples, f"{function.__name__} has no example"
    said: list[str] = []
    doctest.DocTestRunner().run(examples, out=said.append)
    assert said == []
