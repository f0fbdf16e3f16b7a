"""A site of copies holds so many times what one copy holds, to the last unit-second."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from bench.copies import MOST, write_copies
from chameleon_usage import pipeline
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.site import load_sites
from chameleon_usage.usage.buckets import Window
from chameleon_usage.usage.tally import tally
from support import PROJECT
from support.sites import DAY0, DAYS, LIVELY, day

if TYPE_CHECKING:
    from pathlib import Path

COPIES = 3
WINDOW = Window(DAY0, day(DAYS))


def sums_of(folder: Path, key: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the unit-seconds of a site by node type and bucket, and its segments stage's rejects."""
    site = load_sites(PROJECT / "data" / "sites.yaml", frozenset(ADAPTERS))[key]
    cached = pl.col("source").cast(pl.String).str.ends_with("_cache")  # of the site as a whole
    late = pipeline.segments(pipeline.facts(site, folder)[0], site)
    return tally(late.segments, late.support, WINDOW)["usage"], late.rejects.filter(~cached)


@pytest.mark.parametrize("key", LIVELY)
def test_unit_seconds_are_those_of_one_copy_times_their_number(key, lively_raw, tmp_path):
    for number in (1, COPIES):
        write_copies(lively_raw / key, tmp_path / str(number) / key, number)
    (one, refused), (all_, all_refused) = (
        sums_of(tmp_path / str(number), key) for number in (1, COPIES)
    )
    units = one.columns[one.columns.index("bucket") + 1 :]
    assert all_.equals(one.with_columns(pl.col(units) * COPIES))
    assert one.select(pl.sum_horizontal(pl.col(units).sum())).item() > 0
    assert all_refused.height == refused.height * COPIES
    told = json.loads((tmp_path / str(COPIES) / key / "manifest.json").read_text())
    path = tmp_path / str(COPIES) / key / "nova.instances.parquet"
    if path.exists():
        assert pl.read_parquet(path).height == told["tables"]["nova.instances"]


@pytest.mark.parametrize("copies", [0, MOST + 1])
def test_copies_that_cannot_be_told_apart_are_refused(copies, tmp_path):
    with pytest.raises(ValueError, match=f"{copies} copies"):
        write_copies(tmp_path, tmp_path / "new", copies)
