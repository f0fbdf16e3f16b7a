"""Both laws of the audit are asserted in every run: what loses a row or an hour stops it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage import stages
from chameleon_usage.ingest import loader, registry
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.arithmetic import ConservationError
from support.sites import LIVELY, TinySite, lively_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from chameleon_usage.models.stages import Ingested
from support.sites import MAKERS, full_site


def answered_for(key: str) -> list[tuple[str, str, str, str]]:
    """List site, adapter, frame and table of every row that an adapter answers for."""
    site = MAKERS[key]()
    return [
        (key, name, frame, table)
        for name in site.site.adapters
        for frame, tables in ADAPTERS[name].accounts.items()
        for table in tables
        if table in site.tables
    ]


def losing(name: str, lose: Callable[[Ingested], Ingested], monkeypatch) -> None:
    """Let an adapter give back less than it has."""
    adapter = ADAPTERS[name]
    broken = replace(adapter, read=lambda inputs: lose(adapter.read(inputs)))
    monkeypatch.setitem(registry.ADAPTERS, name, broken)


@pytest.mark.parametrize(
    ("key", "name", "frame", "table"), [row for key in MAKERS for row in answered_for(key)]
)
def test_an_adapter_that_drops_a_row_stops_the_run(key, name, frame, table, monkeypatch):
    def lose(told: Ingested) -> Ingested:
        rows = getattr(told, frame)
        if frame == "intervals":
            rows = rows.filter(pl.col("source") == table)
            if rows.is_empty():
                return replace(told, aside=told.aside.filter(pl.col("source") != table))
            row = rows["entity_id"][0]
            return replace(told, intervals=told.intervals.filter(pl.col("entity_id") != row))
        if frame == "legacy":
            day = rows["timestamp"].max() if table.endswith("node_count_cache") else rows[0, 0]
            return replace(told, legacy=rows.filter(pl.col("timestamp") != day))
        return replace(told, **{frame: rows[1:]})

    losing(name, lose, monkeypatch)
    site = MAKERS[key]()
    with pytest.raises(ConservationError, match=rf"stage adapter {name}, table .*{table}") as told:
        site.facts  # noqa: B018 - computed when read
    assert "neither kept nor rejected" in str(told.value) or "rows in" in str(told.value)


@pytest.mark.parametrize("name", ["nova_hosts", "blazar_allocations", "blazar_leases", "inventory"])
def test_an_adapter_that_forgets_what_it_refused_stops_the_run(name, monkeypatch):
    def lose(told: Ingested) -> Ingested:
        return replace(told, rejects=told.rejects.clear(), aside=told.aside.clear())

    losing(name, lose, monkeypatch)
    with pytest.raises(ConservationError, match=rf"stage adapter {name}, table .* neither kept"):
        full_site().facts  # noqa: B018 - computed when read


def test_an_adapter_that_keeps_and_rejects_the_same_row_stops_the_run(monkeypatch):
    def both(told: Ingested) -> Ingested:
        row = told.rejects[:1].with_columns(
            source=pl.lit("nova.instances", told.rejects.schema["source"]),
            source_row_id=pl.lit("I1"),
        )
        return replace(told, rejects=told.rejects.vstack(row))

    losing("nova_instances", both, monkeypatch)
    with pytest.raises(ConservationError, match=r"nova.instances: 0 rows .* 1 are both \(as I1\)"):
        lively_site().facts  # noqa: B018 - computed when read


def test_an_instance_that_only_runs_stops_the_run(monkeypatch):
    def mute(told):
        return replace(told, intervals=told.intervals.filter(pl.col("quantity_type") == "active"))

    losing("nova_instances", mute, monkeypatch)
    with pytest.raises(
        ConservationError, match=r"nova_instances, table nova.instances: \d+ rows are neither"
    ):
        lively_site().facts  # noqa: B018 - computed when read


def test_input_validation_that_drops_a_row_stops_the_run(monkeypatch):
    whole = loader._without_duplicates

    def lose(good, name):
        kept, refused = whole(good, name)
        return kept[1:] if name == "blazar.leases" else kept, refused

    monkeypatch.setattr(loader, "_without_duplicates", lose)
    with pytest.raises(
        ConservationError, match=r"stage input validation, table blazar.leases: .* \(-1\)"
    ):
        lively_site().facts  # noqa: B018 - computed when read


def test_saved_facts_of_which_one_is_lost_stop_the_run():
    facts, entities = stages.facts_of(lively_site().facts.ingested.intervals)
    assert stages.intervals_of(facts, entities).height > 0
    ended = facts.with_row_index().filter(pl.col("state") == "absent")["index"][0]
    twice = pl.concat([facts, facts[ended].with_columns(pl.col("timestamp").dt.offset_by("1h"))])
    with pytest.raises(ConservationError, match=r"stage intervals: [+-]\d.* entity-hours"):
        stages.intervals_of(twice, entities)


@pytest.mark.parametrize("make", LIVELY.values(), ids=LIVELY)
@pytest.mark.parametrize("lost", ["inside", "outside"])
def test_a_clamp_that_loses_hours_stops_the_run(make, lost, monkeypatch):
    cut = arithmetic.intersect

    def lose(children, parents, on):
        inside, outside = cut(children, parents, on)
        return (inside[1:], outside) if lost == "inside" else (inside, outside[1:])

    site = make()
    site.facts  # noqa: B018 - made before the arithmetic is broken
    monkeypatch.setattr(arithmetic, "intersect", lose)
    with pytest.raises(ConservationError, match=r"stage (un)?corrected .*: -\d.* after against"):
        site.stage  # noqa: B018 - computed when read


def test_a_union_that_loses_hours_names_the_table(monkeypatch):
    separate = arithmetic.split_overlaps
    site = lively_site()
    site.facts  # noqa: B018 - made before the arithmetic is broken
    monkeypatch.setattr(
        arithmetic,
        "split_overlaps",
        lambda *given: (separate(*given)[0], separate(*given)[1].clear()),
    )
    told = r"stage corrected total: -120.0000 entity-hours .*\(nova.compute_nodes -120.0000\)"
    with pytest.raises(ConservationError, match=told):
        site.stage  # noqa: B018 - computed when read


def test_every_row_is_kept_rejected_or_set_aside():
    """The same sum, over the saved facts, by hand for one table."""
    site = full_site()
    ingested = site.facts.ingested
    services = [row["id"] for row in site.tables["nova.services"]]
    assert ingested.aside.filter(source="nova.services")["source_row_id"].to_list() == [
        str(number) for number in services
    ]
    leases = {row["id"] for row in site.tables["blazar.leases"]}
    kept = set(ingested.leases["lease_id"])
    aside = set(ingested.aside.filter(source="blazar.leases")["source_row_id"])
    assert kept | aside == leases
    assert aside == {"addresses"}


def test_a_day_cached_at_two_times_counts_as_cached_last_and_the_other_is_a_reject():
    site = TinySite()
    site.host()
    site.cached_day(3, total_hours=24.0, maint_hours=24.0)
    site.cached_day(3.5, total_hours=48.0)
    assert site.daily("legacy", "total")[3] == 2
    assert site.daily("legacy", "maintenance")[3] == 0
    assert site.rejected("chameleon_usage.node_usage_report_cache") == {
        "2020-01-04|compute": "day cached again"
    }


def test_the_command_says_so_and_writes_nothing(usage, tmp_path, monkeypatch):
    losing("nova_hosts", lambda told: replace(told, intervals=told.intervals[1:]), monkeypatch)
    lively_site().write(tmp_path / "raw")
    with pytest.raises(ConservationError, match="please report it"):
        usage("run", "--data-dir", tmp_path / "raw", "--output", tmp_path / "out")
    assert not (tmp_path / "out" / "chi_tacc").exists()
