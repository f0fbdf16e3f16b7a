"""A site's corrected history, written as a public trace and read again: the same history."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import Phase, assume, given, settings

from chameleon_usage import pipeline, stages
from chameleon_usage.intervals.arithmetic import union
from chameleon_usage.io.privacy import Privacy
from chameleon_usage.io.traces import export_traces
from chameleon_usage.reconstruct import corrected
from chameleon_usage.reconstruct.observed import UNITS, observe
from support.little_sites import little_sites
from support.sites import SITES, TinySite, lively

if TYPE_CHECKING:
    from chameleon_usage.models.site import Site

KEPT = (
    *("total", "committed", "occupied_reservation", "occupied_ondemand"),
    *("active_reservation", "active_ondemand"),
)
"""What a trace holds; reservable, maintenance and status it does not."""
PRIVACY = {"keep": None, "omit": Privacy(), "key": Privacy(b"0123456789abcdef")}


def read_again(
    site: Site, facts: stages.FactsStage, folder: Path, privacy: Privacy | None = None
) -> stages.SegmentsStage:
    """Export a site's saved facts as a trace, and read that."""
    stages.save_facts(folder / "out" / site.key / "stages", facts)
    parts = pipeline.trace_parts(site, folder / "out")
    export_traces(folder / "trace", {site.key: parts}, privacy)
    reader: Site = replace(
        SITES["chi_tacc_trace"],
        files={
            name: pattern.replace("chi_tacc", site.key)
            for name, pattern in SITES["chi_tacc_trace"].files.items()
        },
    )
    return pipeline.segments(pipeline.facts(reader, folder / "trace")[0], reader)


def steps(stage) -> pl.DataFrame:
    """Give what was held of each host as steps, second-exact, whatever the hosts are called."""
    rows = stage.segments.filter(
        (pl.col("collector_type") == "corrected") & pl.col("quantity_type").is_in(KEPT)
    )
    of = ["quantity_type", "node_type", "node_size", *UNITS]
    rows = rows.with_columns(pl.col("hostname", *of).cast(pl.String).fill_null("-"))
    return union(rows, ["hostname", *of]).select("start", "end", *of).sort(pl.all())


def assert_same(site: TinySite, stage: stages.SegmentsStage) -> None:
    again, told = steps(stage), steps(site.stage)
    assert again.equals(told), pl.concat(
        [
            again.join(told, on=told.columns, how="anti"),
            told.join(again, on=told.columns, how="anti"),
        ]
    ).rows()


@pytest.mark.parametrize("privacy", PRIVACY)
@pytest.mark.parametrize("key", ["chi_tacc", "kvm_tacc"])
class TestLively:
    def test_every_second_is_told_again_and_so_are_lead_times(self, key, privacy, tmp_path):
        site = lively(key)
        stage = read_again(site.site, site.facts, tmp_path, PRIVACY[privacy])
        assert_same(site, stage)
        told, again = (
            frame.drop("lease_id").sort(pl.all()) for frame in (site.stage.leases, stage.leases)
        )
        assert told.height > 1
        assert again.equals(told)


def shares_a_node(site: TinySite) -> bool:
    """Tell whether an instance that never ends is followed by another on its bare-metal node.

    Then the trace is read as if the first were over, since a node has one at a time: the node is
    occupied as before, but runs only when the second does.
    """
    held = corrected.collect(observe(site.facts.ingested, site.facts.as_of), site.site).pieces
    rows = held.filter(pl.col("quantity_type") == "occupied_reservation")
    rows = rows.select("hostname", "entity_id", "start", "end")
    followed = rows.join(rows, on="hostname", suffix="_next").filter(
        (pl.col("start_next") > pl.col("start"))
        & (pl.col("entity_id") != pl.col("entity_id_next"))
        & (pl.col("end") >= site.facts.as_of)
    )
    return followed.height > 0


class TestGenerated:
    """Virtual machines share hosts; a bare-metal node has one instance at a time."""

    @pytest.mark.parametrize("most", [3, pytest.param(8, marks=pytest.mark.slow)])
    def test_bare_metal(self, most):
        @settings(max_examples=most, phases=[Phase.generate])
        @given(site=little_sites("chi_tacc", most=6))
        def hold(site):
            assume(not shares_a_node(site))
            with tempfile.TemporaryDirectory() as folder:
                assert_same(site, read_again(site.site, site.facts, Path(folder)))

        hold()

    @pytest.mark.parametrize("most", [3, pytest.param(8, marks=pytest.mark.slow)])
    def test_virtual_machines(self, most):
        @settings(max_examples=most, phases=[Phase.generate])
        @given(site=little_sites("kvm_tacc", most=6))
        def hold(site):
            with tempfile.TemporaryDirectory() as folder:
                assert_same(site, read_again(site.site, site.facts, Path(folder)))

        hold()


@pytest.mark.parametrize("key", ["chi_tacc", "chi_uc", "kvm_tacc"])
def test_the_twin_as_it_is_today(decayed_twin, key, tmp_path):
    facts = pipeline.facts(SITES[key], decayed_twin)[0]
    told = pipeline.segments(facts, SITES[key])
    again = read_again(SITES[key], facts, tmp_path, PRIVACY["omit"])
    assert steps(told).height > 100
    assert steps(again).equals(steps(told))
    columns = [name for name in told.leases.columns if name != "lease_id"]
    assert (
        again.leases.select(columns).sort(columns).equals(told.leases.select(columns).sort(columns))
    )
