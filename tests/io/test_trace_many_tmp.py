"""A site's corrected history, written as a public trace and read again: the same history."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import Phase, given, settings

from chameleon_usage import pipeline, stages
from chameleon_usage.intervals.arithmetic import union
from chameleon_usage.io.privacy import Privacy
from chameleon_usage.io.traces import export_traces
from chameleon_usage.reconstruct.observed import UNITS
from support.little_sites import little_sites
from support.sites import LIVELY, SITES, TinySite

if TYPE_CHECKING:
    from chameleon_usage.models.site import Site

KEPT = (
    *("total", "committed", "occupied_reservation", "occupied_ondemand"),
    *("active_reservation", "active_ondemand"),
)
"""What a trace holds; reservable, maintenance and status it does not."""
PRIVACY = {"keep": None, "omit": Privacy(), "key": Privacy(b"0123456789abcdef")}


def read_again(site: TinySite, folder: Path, privacy: Privacy | None = None):
    """Export a site's saved facts as a trace, and read that with the same window."""
    saved = folder / "out" / site.site.key / "stages"
    stages.save_facts(saved, site.facts)
    parts = pipeline.trace_parts(site.site, folder / "out")
    export_traces(folder / "trace", {site.site.key: parts}, privacy)
    reader: Site = replace(
        SITES["chi_tacc_trace"],
        files={
            name: pattern.replace("chi_tacc", site.site.key)
            for name, pattern in SITES["chi_tacc_trace"].files.items()
        },
    )
    stage = pipeline.segments(pipeline.facts(reader, folder / "trace")[0], reader)
    return stage, pipeline.outputs(stage, reader, site.window)


def steps(stage) -> pl.DataFrame:
    """Give what was held of each host as steps, second-exact, whatever the hosts are called."""
    rows = stage.segments.filter(
        (pl.col("collector_type") == "corrected") & pl.col("quantity_type").is_in(KEPT)
    )
    of = ["quantity_type", "node_type", "node_size", *UNITS]
    rows = rows.with_columns(pl.col("hostname", *of).cast(pl.String).fill_null("-"))
    return union(rows, ["hostname", *of]).select("start", "end", *of).sort(pl.all())


def assert_same(site: TinySite, folder: Path, privacy: Privacy | None = None) -> None:
    again, told = steps(read_again(site, folder, privacy)[0]), steps(site.stage)
    assert again.equals(told), pl.concat(
        [
            again.join(told, on=told.columns, how="anti"),
            told.join(again, on=told.columns, how="anti"),
        ]
    ).rows()


@pytest.mark.parametrize("privacy", PRIVACY)
@pytest.mark.parametrize("key", ["chi_tacc", "kvm_tacc"])
class TestLively:
    def test_every_second_is_told_again(self, key, privacy, tmp_path):
        assert_same(LIVELY[key](), tmp_path, PRIVACY[privacy])

    def test_so_are_lead_times(self, key, privacy, tmp_path):
        site = LIVELY[key]()
        _, tables = read_again(site, tmp_path, PRIVACY[privacy])
        columns = ["created_at", "node_type", "nodes", "requested_h", "effective_h", "outcome"]
        again, told = (
            t["leadtime_leases"].select(columns).sort(columns) for t in (tables, site.outputs)
        )
        assert told.height > 1
        assert again.equals(told)


class TestGenerated:
    @settings(max_examples=80, phases=[Phase.generate])
    @given(site=little_sites("chi_tacc"))
    def test_bare_metal(self, site):
        with tempfile.TemporaryDirectory() as folder:
            assert_same(site, Path(folder))

    @settings(max_examples=80, phases=[Phase.generate])
    @given(site=little_sites("kvm_tacc"))
    def test_virtual_machines(self, site):
        with tempfile.TemporaryDirectory() as folder:
            assert_same(site, Path(folder))
