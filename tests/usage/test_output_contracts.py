"""What every output table promises, on tiny sites with a bit of everything."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest

from chameleon_usage import pipeline, runs
from chameleon_usage.io import files
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS
from chameleon_usage.usage.buckets import Window
from support.algebra import OF_SUMS, PARTITION
from support.sites import DAYS, LIVELY, TinySite, day, lively, lively_site, on

COLUMNS = {
    "usage_timeline": ["site", "timestamp", "collector_type", "count_type", "value"],
    "usage_by_resource": [
        "site", "timestamp", "collector_type", "count_type", "resource", "value",
    ],
    "usage_by_node_type": [
        "site", "timestamp", "collector_type", "count_type", "resource", "node_type", "value",
    ],
    "usage_by_host": [
        "site", "timestamp", "collector_type", "count_type", "hypervisor_hostname", "node_type",
        "value",
    ],
    "usage_by_project": [
        "site", "timestamp", "count_type", "resource", "project_id", "node_type", "value",
    ],
    "sessions_by_project": [
        "site", "timestamp", "project_id", "node_type", "started", "ended", "present", "launched",
        "build_seconds",
    ],
    "leadtime_leases": [
        "site", "lease_id", "node_type", "created_at", "nodes", "requested_h", "effective_h",
        "outcome",
    ],
    "leadtime_timeline": ["site", "timestamp", "leadtime_type", "value"],
    "lease_use": [
        "site", "timestamp", "node_type", "reserved_h", "used_h", "idle_before_h",
        "idle_between_h", "idle_after_h", "never_used_h", "given_back_h", "leases", "no_shows",
        "released_early", "extended",
    ],
    "leadtime_projected": ["site", "timestamp", "node_type", "nodes", "value"],
    "comparison": [
        "site", "timestamp", "count_type", "legacy", "uncorrected", "corrected", "difference",
        "relative_difference",
    ],
    "comparison_by_node_type": [
        "site", "timestamp", "count_type", "node_type", "legacy", "uncorrected", "corrected",
        "difference", "relative_difference",
    ],
    "comparison_causes": ["site", "timestamp", "count_type", "cause", "node_hours"],
    "coverage": ["site", "timestamp", "source", "quantity_type", "known_share"],
    "rejects": ["stage", "source", "source_row_id", "reason", "start", "end", "hours"],
    "join_log": ["name", "rows_left", "matched", "unmatched", "fan_out"],
    "usage_wide": [
        "time", "site", "resource", "total", "reservable", "committed", "occupied_ondemand",
        "occupied_reserved", "active_ondemand", "active_reserved",
    ],
}  # fmt: skip

KEYS = {
    "usage_timeline": ["site", "timestamp", "collector_type", "count_type"],
    "usage_by_resource": ["site", "timestamp", "collector_type", "count_type", "resource"],
    "usage_by_node_type": [
        "site", "timestamp", "collector_type", "count_type", "resource", "node_type",
    ],
    "usage_by_host": ["site", "timestamp", "collector_type", "count_type", "hypervisor_hostname"],
    "usage_by_project": [
        "site", "timestamp", "count_type", "resource", "project_id", "node_type",
    ],
    "sessions_by_project": ["site", "timestamp", "project_id", "node_type"],
    "leadtime_leases": ["site", "lease_id"],
    "leadtime_timeline": ["site", "timestamp", "leadtime_type"],
    "lease_use": ["site", "timestamp", "node_type"],
    "leadtime_projected": ["site", "timestamp", "node_type", "nodes"],
    "comparison": ["site", "timestamp", "count_type"],
    "comparison_by_node_type": ["site", "timestamp", "count_type", "node_type"],
    "comparison_causes": ["site", "timestamp", "count_type", "cause"],
    "coverage": ["site", "timestamp", "source", "quantity_type"],
    "join_log": ["name"],
    "usage_wide": ["time", "site", "resource"],
}  # fmt: skip


@pytest.fixture(scope="module", params=list(LIVELY))
def site(request) -> TinySite:
    return lively(request.param)


@pytest.fixture(scope="module")
def bare_metal() -> TinySite:
    return lively("chi_tacc")


def wide(site: TinySite, collector: str, resource: str = "nodes") -> pl.DataFrame:
    rows = site.outputs["usage_by_resource"].filter(
        (pl.col("collector_type") == collector) & (pl.col("resource") == resource)
    )
    return rows.pivot(on="count_type", index="timestamp", values="value").sort("timestamp")


class TestEveryTable:
    """What a table of outputs needs, wherever it is asked for."""

    def test_what_is_declared_is_made(self, site):
        lacking = set(OUTPUTS) - set(site.outputs)
        assert not lacking, (
            f"{lacking}: in OUTPUTS of models/outputs.py, but made neither by usage/tables.py nor "
            "by outputs of pipeline.py"
        )

    def test_what_is_not_asked_for_is_not_made(self, site):
        plain = pipeline.outputs(site.stage, site.site, site.window)
        assert set(plain) == set(OUTPUTS) - OPTIONAL_OUTPUTS, (
            "OPTIONAL_OUTPUTS of models/outputs.py names what is made on request alone"
        )

    @pytest.mark.parametrize("name", OUTPUTS)
    def test_its_columns_and_key_are_told_here(self, name):
        told = COLUMNS.get(name), KEYS.get(name, [])
        declared = OUTPUTS[name].column_names(), OUTPUTS[name].primary_key()
        assert (told[0], set(told[1])) == (declared[0], set(declared[1])), (
            f"{name}: COLUMNS or KEYS of test_output_contracts.py are not models/outputs.py's"
        )

    @pytest.mark.parametrize("name", OUTPUTS)
    def test_it_is_explained(self, name):
        words = vars(OUTPUTS[name]).get("__doc__") or ""
        assert words.strip(), f"{name}: its schema in models/outputs.py has no docstring"


class TestColumnsAndKeys:
    def test_exactly_the_columns_of_the_contract_and_no_more(self, site):
        for name, table in site.outputs.items():
            assert table.columns == COLUMNS.get(name), f"{name}: others than COLUMNS has"
        assert site.outputs.keys() == COLUMNS.keys()

    def test_keys_are_unique(self, site):
        for name, key in KEYS.items():
            assert not site.outputs[name].select(key).is_duplicated().any(), name

    def test_keys_are_never_null(self, site):
        for name, key in KEYS.items():
            assert site.outputs[name].select(key).null_count().sum_horizontal().item() == 0, name

    def test_no_nan_and_no_inf_anywhere(self, site):
        for name, table in site.outputs.items():
            for column in table.select(cs.float()):
                assert column.drop_nulls().is_finite().all(), f"{name}.{column.name}"

    def test_times_carry_utc(self, site):
        for name in ("usage_timeline", "leadtime_timeline", "coverage", "comparison"):
            assert site.outputs[name].schema["timestamp"] == pl.Datetime("us", "UTC"), name

    def test_tables_with_rows_that_have_a_value_only(self, site):
        for name in (
            *("usage_by_node_type", "usage_by_host", "usage_by_project", "leadtime_timeline"),
        ):
            assert site.outputs[name]["value"].null_count() == 0, name

    def test_every_table_says_something(self, bare_metal):
        assert [name for name, table in bare_metal.outputs.items() if table.is_empty()] == []


class TestTimeline:
    def test_every_day_of_ten_years_is_there(self):
        site = lively_site(as_of=DAYS)
        site.window = Window(day(-1461), day(2192))
        timeline = site.outputs["usage_timeline"]
        for (collector, count_type), series in timeline.group_by("collector_type", "count_type"):
            days = series["timestamp"].dt.date()
            assert days.n_unique() == series.height == 3653, (collector, count_type)
            assert days.min() == date(2016, 1, 1)
            assert days.max() == date(2025, 12, 31)

    def test_what_lies_after_as_of_is_unknown_and_not_zero(self):
        site = lively_site(days=DAYS, as_of=6)
        assert site.corrected("total")[5] is not None
        assert site.corrected("total")[6:] == [None] * 4
        assert site.uncorrected("committed")[6:] == [None] * 4

    def test_the_timeline_is_the_nodes_of_usage_by_resource(self, site):
        nodes = site.outputs["usage_by_resource"].filter(pl.col("resource") == "nodes")
        assert site.outputs["usage_timeline"].equals(nodes.drop("resource"))

    def test_node_types_add_up_to_the_site(self, site):
        key = ["collector_type", "count_type", "resource", "timestamp"]
        summed = site.outputs["usage_by_node_type"].group_by(key).agg(parts=pl.col("value").sum())
        both = site.outputs["usage_by_resource"].join(summed, on=key, how="inner")
        assert both.filter(pl.col("value").is_not_null()).height > 0
        off = both.filter((pl.col("value") - pl.col("parts")).abs() > 1e-9)
        assert off.is_empty(), off

    def test_hosts_add_up_to_the_site(self, site):
        key = ["collector_type", "count_type", "timestamp"]
        summed = site.outputs["usage_by_host"].group_by(key).agg(parts=pl.col("value").sum())
        both = site.outputs["usage_timeline"].join(summed, on=key, how="inner")
        assert both.height > 0
        off = both.filter((pl.col("value") - pl.col("parts")).abs() > 1e-9)
        assert off.is_empty(), off

    def test_exact_values_of_the_bare_metal_site(self, bare_metal):
        """h2 is there till day 9 and in the pool till 8; h4 was never in it, h5 till day 5."""
        assert bare_metal.corrected("total") == [5, 5, 5, 5, 5, 5, 5, 5, 5, 4]
        assert bare_metal.corrected("reservable") == [4, 4, 4, 4, 4, 3, 3, 3, 2, 2]
        assert bare_metal.corrected("committed") == [0, 2, 2.75, 3, 2.5, 2, 1, 1, 0, 0]
        assert bare_metal.corrected("occupied") == [0, 0.75, 2.5, 3, 2, 1, 0, 0, 0, 0]
        assert bare_metal.corrected("active") == [0, 0.5, 2.5, 2, 2, 1, 0, 0, 0, 0]
        assert bare_metal.corrected("idle") == [0, 1.25, 0.25, 0, 0.5, 1, 1, 1, 0, 0]
        assert bare_metal.corrected("unknown") == [1.0] * 10
        assert bare_metal.corrected("maintenance") == [0, 0, 0, 0, 0, 1, 2, 1, 2, 1]
        assert bare_metal.corrected("available") == [4, 2, 1.25, 1, 1.5, 1, 1, 2, 2, 2]

    def test_exact_values_of_the_kvm_site(self):
        """k1 48 vcpus, k2 24, k3 96 outside the pool; slices of 12, machines of 32 and 16."""
        site = lively("kvm_tacc")
        # The allocation on k2 is evidence that it was there a day before its rows begin.
        pooled = [1, 2, 2, 2, 2, 2, 2, 2, 1, 1]
        assert site.corrected("reservable") == pooled
        assert site.corrected("total") == [n + 1 for n in pooled]
        assert site.inferred("total") == [(day(1), day(2))]
        assert site.corrected("committed") == on((1, 6))
        assert site.corrected("occupied_reservation") == [
            0, 0.125, 0.25, 0.25, 0.25, 0, 0, 0, 0, 0,
        ]  # fmt: skip
        third, sixth = 32 / 96, 16 / 96
        machines = [0, 0, third] + [0.5] * 6 + [sixth]
        assert site.corrected("occupied_ondemand") == pytest.approx(machines, abs=1e-12)
        running = [0, 0, third, 0.5, sixth, 0.5, 0.5, 0.5, 0.5, sixth]
        assert site.corrected("active_ondemand") == pytest.approx(running, abs=1e-12)
        assert site.corrected("ondemand_capacity") == [1.0] * 10
        free = [1 - n for n in machines]
        assert site.corrected("available_ondemand") == pytest.approx(free, abs=1e-12)


def signed_zeros(site: TinySite) -> dict[str, list[str]]:
    """List the columns of output tables that hold -0.0, as text tables would show it."""
    found = {
        table: [
            column.name
            for column in frame.select(cs.float())
            if np.signbit(column.filter(column == 0).to_numpy()).any()
        ]
        for table, frame in site.outputs.items()
    }
    return {table: names for table, names in found.items() if names}


class TestAlgebra:
    """Derived states are algebra over aligned series."""

    @pytest.mark.parametrize("collector", ["uncorrected", "corrected"])
    @pytest.mark.parametrize("resource", ["nodes", "vcpus", "memory_mb"])
    def test_derived_states(self, site, collector, resource):
        table = wide(site, collector, resource)
        held = False
        for name, formula in OF_SUMS.items():
            if name in table.columns:
                differ = table.filter((pl.col(name) - formula).abs() > 1e-9)
                assert differ.is_empty(), name
                held = True
        # Edge devices have no size in vcpus or memory.
        assert held or (site.site.key == "chi_edge" and resource != "nodes")

    def test_available_is_reservable_less_committed_where_no_window_is(self):
        site = lively_site()
        del site.tables["chameleon_usage.node_maintenance"]
        table = wide(site, "corrected")
        gap = table["available"] - (table["reservable"] - table["committed"])
        assert gap.abs().max() < 1e-9

    def test_a_maintenance_window_takes_only_from_available(self, bare_metal):
        """h3 is free on day 6; h1 is held on day 3, and stays held."""
        plain = lively_site()
        del plain.tables["chameleon_usage.node_maintenance"]
        less = [a - b for a, b in zip(
            plain.corrected("available"), bare_metal.corrected("available"), strict=True
        )]  # fmt: skip
        assert less == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        for name in ("total", "reservable", "committed", "occupied", "active", "idle"):
            assert plain.corrected(name) == bare_metal.corrected(name)

    def test_the_partition_adds_up_to_total(self, site):
        table = wide(site, "corrected")
        parts = table.select(pl.sum_horizontal(PARTITION, ignore_nulls=False)).to_series()
        known = parts.is_not_null() & table["total"].is_not_null()
        assert known.any()
        assert ((parts - table["total"]).abs() < 1e-9).filter(known).all()

    def test_nothing_is_negative(self, site):
        table = wide(site, "corrected")
        for name in table.columns[1:]:
            assert (table[name].drop_nulls() >= -1e-9).all(), name

    def test_zero_has_no_sign(self, site):
        assert not signed_zeros(site)

    def test_zero_has_no_sign_where_nothing_is_in_the_pool(self):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.pool_host("h1", -5, -3)
        assert site.uncorrected("available") == [0.0] * DAYS
        assert not signed_zeros(site)

    def test_zero_has_no_sign_where_more_is_taken_than_there_is(self):
        site = TinySite()
        site.pool_host("h1", 4, node_type="compute")
        site.lease("L", 2, 6)
        site.cached_day(3, "other", total_hours=24.0)
        assert min(site.uncorrected("available")) < 0
        assert not signed_zeros(site)

    def test_on_demand_states_are_none_on_bare_metal(self, bare_metal):
        for name in ("ondemand_capacity", "available_ondemand", "occupied_ondemand"):
            assert bare_metal.corrected(name) == [0.0] * DAYS

    def test_the_hierarchy_holds_for_every_host_and_day(self, site):
        rows = site.outputs["usage_by_host"].filter(pl.col("collector_type") == "corrected")
        table = rows.pivot(
            on="count_type", index=["hypervisor_hostname", "timestamp"], values="value"
        ).with_columns(cs.float().fill_null(0.0))
        chain = ["total", "reservable", "committed", "occupied_reservation", "active_reservation"]
        for parent, child in itertools.pairwise(chain):
            broken = table.filter(pl.col(parent) < pl.col(child) - 1e-9)
            assert broken.is_empty(), f"{parent} < {child}: {broken}"


class TestComparison:
    def test_holds_the_three_collectors_of_the_timeline(self, bare_metal):
        for collector in ("legacy", "uncorrected", "corrected"):
            series = bare_metal.outputs["comparison"].filter(pl.col("count_type") == "committed")
            expected = bare_metal.daily(collector, "committed")
            assert series.sort("timestamp")[collector].to_list() == expected

    @pytest.mark.parametrize("name", ["comparison", "comparison_by_node_type"])
    def test_difference_and_relative_difference(self, bare_metal, name):
        table = bare_metal.outputs[name]
        both = table.filter(pl.col("legacy").is_not_null() & pl.col("corrected").is_not_null())
        assert both.filter(pl.col("legacy") != 0).height > 10
        for row in both.iter_rows(named=True):
            assert row["difference"] == row["corrected"] - row["legacy"]
            if row["legacy"] == 0:
                assert row["relative_difference"] is None
            else:
                assert row["relative_difference"] == row["difference"] / row["legacy"]
        unknown = table.filter(pl.col("legacy").is_null() | pl.col("corrected").is_null())
        assert unknown["difference"].null_count() == unknown.height

    def test_a_day_without_legacy_use_has_no_relative_difference(self, bare_metal):
        row = bare_metal.outputs["comparison"].row(
            by_predicate=(pl.col("count_type") == "occupied")
            & (pl.col("timestamp") == day(3).replace(tzinfo=UTC)),
            named=True,
        )
        assert (row["legacy"], row["corrected"], row["difference"]) == (0, 3, 3)
        assert row["relative_difference"] is None

    def test_without_legacy_caches_there_is_nothing_to_compare_with(self):
        table = lively("kvm_tacc").outputs["comparison"]
        assert table["legacy"].null_count() == table.height
        assert table["relative_difference"].null_count() == table.height


class TestUsageWide:
    def test_holds_the_corrected_values_under_the_consumers_names(self, site):
        names = {
            "occupied_reserved": "occupied_reservation",
            "active_reserved": "active_reservation",
        }
        told = 0
        for resource in ("nodes", "vcpus", "memory_mb", "disk_gb", "gpus"):
            rows = site.outputs["usage_wide"].filter(pl.col("resource") == resource).sort("time")
            for column in COLUMNS["usage_wide"][3:]:
                expected = site.corrected(names.get(column, column), resource=resource)
                if expected:
                    assert rows[column].to_list() == expected, (resource, column)
                    told += 1
                else:
                    assert rows[column].null_count() == rows.height, (resource, column)
        assert told >= 7


class TestLeadTimes:
    def test_one_row_for_every_lease_that_asks_for_nodes(self, bare_metal):
        rows = bare_metal.outputs["leadtime_leases"].sort("lease_id")
        leases = dict(rows.select("lease_id", "requested_h").iter_rows())
        assert leases == {"L0": 0, "L1": 0, "L2": 0, "L3": 120, "L4": 168, "L5": 0, "L6": 24}
        by_id = {row["lease_id"]: row for row in rows.iter_rows(named=True)}
        assert by_id["L1"]["effective_h"] == 12
        assert by_id["L1"]["nodes"] == 2
        assert by_id["L1"]["node_type"] == "compute_skylake"
        assert by_id["L2"]["node_type"] == "gpu_p100"
        assert by_id["L4"]["effective_h"] is None

    def test_a_lease_of_other_things_asks_for_no_node(self):
        site = lively_site()
        site.lease("ip", 3, 4, [], resource_type="virtual:floatingip")
        assert "ip" not in site.outputs["leadtime_leases"]["lease_id"].to_list()

    @pytest.mark.parametrize(("leads", "median"), [([1, 3, 8], 3.0), ([2, 4], 3.0), ([5], 5.0)])
    def test_the_timeline_is_the_median_where_several_leases_share_a_moment(self, leads, median):
        site = TinySite()
        site.host()
        for lead in leads:
            site.lease(f"L{lead}", 2 + lead / 24, 3 + lead / 24, created_at=2)
        points = site.outputs["leadtime_timeline"].filter(
            (pl.col("leadtime_type") == "requested")
            & (pl.col("timestamp") == day(2).replace(tzinfo=UTC))
        )
        assert points["value"].to_list() == [median]

    def test_its_time_is_the_requests(self, bare_metal):
        rows = bare_metal.outputs["leadtime_timeline"]
        stamps = set(rows.filter(pl.col("leadtime_type") != "projected")["timestamp"])
        assert stamps == {
            datetime(2019, 12, 12, tzinfo=UTC),
            *(day(n).replace(tzinfo=UTC) for n in (1, 2, 2.25, 7)),
        }


class TestAudit:
    """Rows in = rows kept + rows rejected; entity-hours likewise."""

    @pytest.mark.parametrize(
        ("table", "quantity"),
        [
            ("nova.compute_nodes", "total"),
            ("blazar.computehosts", "reservable"),
            ("blazar.computehost_allocations", "committed"),
            ("nova.instances", "occupied"),
        ],
    )
    def test_every_row_is_kept_or_rejected_once(self, bare_metal, table, quantity):
        key = "uuid" if table == "nova.instances" else "id"
        rows = [str(row[key]) for row in bare_metal.tables[table]]
        entities = bare_metal.facts.ingested.intervals.filter(
            (pl.col("source") == table) & (pl.col("quantity_type") == quantity)
        )
        refused = bare_metal.outputs["rejects"].filter(
            (pl.col("source") == table) & pl.col("stage").is_in(["input validation", "ingest"])
        )
        kept = set(entities["entity_id"]) & set(rows)
        gone = refused["source_row_id"].to_list()
        assert sorted([*kept, *gone]) == sorted(rows)

    def test_every_reject_has_a_reason_and_its_hours(self, bare_metal):
        rejects = bare_metal.outputs["rejects"]
        assert rejects["reason"].null_count() == 0
        timed = rejects.filter(pl.col("start") < pl.col("end"))
        spans = (timed["end"] - timed["start"]).dt.total_seconds() / 3600
        assert timed.height > 3
        assert (timed["hours"] - spans).abs().max() < 1e-9

    def test_hours_of_committed_are_kept_or_rejected(self, bare_metal):
        """Counted by hand: 10 + 2.25 + 2 days; an hour of a host that nobody names."""
        kept = sum(bare_metal.corrected("committed")) * 24
        lost = bare_metal.outputs["rejects"].filter(pl.col("stage") == "corrected committed")
        assert kept == (10 + 2.25 + 2) * 24
        assert lost["hours"].sum() == pytest.approx(1)

    def test_every_join_is_logged_with_what_it_matched(self, bare_metal):
        log = bare_metal.outputs["join_log"]
        assert (log["matched"] + log["unmatched"] == log["rows_left"]).all()
        row = log.row(
            by_predicate=pl.col("name").str.contains("computehost_allocations -> blazar.computeh"),
            named=True,
        )
        assert (row["matched"], row["unmatched"], row["fan_out"]) == (7, 1, 1.0)


def digests(tables: dict[str, pl.DataFrame], folder) -> dict[str, str]:
    files.save_tables(folder, tables)
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.parquet"))
    }


class TestSameBytes:
    @pytest.mark.parametrize(
        "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
    )
    def test_the_order_of_input_rows_changes_no_byte(self, site, seed, tmp_path):
        site.write(tmp_path / "in", shuffle=seed)
        facts = pipeline.facts(site.site, tmp_path / "in")[0]
        stage = pipeline.segments(facts, site.site, by_project=True)
        tables = pipeline.outputs(
            stage, site.site, site.window, by_host=True, by_project=pl.DataFrame.clone
        )
        expected = digests(site.outputs, tmp_path / "plain")
        assert len(expected) == len(OUTPUTS)
        assert digests(tables, tmp_path / "shuffled") == expected

    def test_running_twice_writes_the_same_bytes(self, tmp_path):
        site = lively_site()
        site.write(tmp_path / "raw")
        found = []
        for name in ("first", "second"):
            runs.run_site(
                site.site,
                tmp_path / "raw",
                tmp_path / name,
                site.window,
                runs.Options(save_stages=True),
            )
            found.append(
                {
                    path.relative_to(tmp_path / name): path.read_bytes()
                    for path in sorted((tmp_path / name).rglob("*.parquet"))
                }
            )
        assert len(found[0]) > 20
        assert found[0] == found[1]


class TestSeriesBySeries:
    """The longest tables' keys are unique if no series comes twice and each ascends."""

    @pytest.mark.parametrize("name", ["usage_by_node_type", "usage_by_host", "usage_by_project"])
    def test_what_is_not_of_the_contract_stops_the_run(self, name):
        site = TinySite()
        site.host("h1", node_type="one")
        site.host("h2", node_type="two")
        site.lease("L1", 1, 9, ["b-h1", "b-h2"])
        table = site.outputs[name]
        pipeline._hold(name, table)
        third = pl.int_range(pl.len()) == 2
        for wrong in (
            pl.concat([table, table]),
            pl.concat([table.head(3), table]),
            table.reverse(),
            table.with_columns(pl.when(~third).then("value").alias("value")),
            table.with_columns(pl.when(third).then(float("nan")).otherwise("value").alias("value")),
        ):
            with pytest.raises(AssertionError, match=f"{name}: a key comes twice or a value is"):
                pipeline._hold(name, wrong)
        with pytest.raises(AssertionError, match=f"{name}: its columns are not"):
            pipeline._hold(name, table.cast({"value": pl.Float32}))

    @pytest.mark.parametrize(
        ("name", "thing"),
        [
            ("usage_by_node_type", ["resource", "node_type"]),
            ("usage_by_host", ["hypervisor_hostname"]),
        ],
    )
    def test_what_a_thing_never_has_is_not_told(self, site, name, thing):
        rows = site.outputs[name].filter(pl.col("collector_type") != "legacy")
        for other in ("count_type", "timestamp"):
            most = rows.group_by("collector_type", *thing, other).agg(pl.col("value").abs().max())
            assert most.height > 0
            assert most.filter(pl.col("value") == 0).is_empty(), (name, other)

    @pytest.mark.parametrize(("count_type", "told"), [("committed", 10), ("occupied", 0)])
    def test_a_zero_among_what_a_host_has_is_told(self, count_type, told):
        site = TinySite()
        site.host("h1")
        site.lease("L1", 2, 4)
        rows = site.outputs["usage_by_host"].filter(
            pl.col("collector_type") == "corrected", pl.col("count_type") == count_type
        )
        assert rows.height == told
