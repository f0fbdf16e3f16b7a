"""Figures: exact means, parts that add up, unknown that is not zero, files that never differ."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import vl_convert as vlc
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.metrics import COLLECTORS, PARTITION
from chameleon_usage.models.site import load_sites
from chameleon_usage.viz import base, collectors, cross_site, palette, render, tables
from chameleon_usage.viz.availability import availability, coverage
from chameleon_usage.viz.rejects import rejects
from chameleon_usage.viz.stack import node_types, out_of_use, resources, usage_stack
from paper.figures import ablation, real_record, truth
from support import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2019, 1, 1, tzinfo=UTC)
SITE = "CHI@Test"
SHADES = {
    key: site.colours
    for key, site in load_sites(PROJECT / "data/sites.yaml", frozenset(ADAPTERS)).items()
}


def daily(values: dict[str, list[float | None]], *, collector="corrected", site="test"):
    """A usage timeline: one list of daily values for each count type."""
    return pl.DataFrame(
        [
            (site, START + timedelta(days=day), collector, kind, value)
            for kind, days in values.items()
            for day, value in enumerate(days)
        ],
        schema={
            "site": pl.String,
            "timestamp": pl.Datetime("us", "UTC"),
            "collector_type": pl.Enum(list(COLLECTORS)),
            "count_type": pl.String,
            "value": pl.Float64,
        },
        orient="row",
    )


def site_of(days: int = 90, *, unknown_from: int | None = None, **parts: float) -> pl.DataFrame:
    """A site whose parts are constant, from some day on not known."""
    amounts = dict.fromkeys(PARTITION, 0.0) | parts
    amounts["total"] = sum(amounts.values())
    amounts["idle_and_occupied"] = 0.0
    amounts["occupied"] = amounts["active"] + amounts["stopped"]
    amounts["committed"] = amounts["occupied"] + amounts["idle"]
    amounts["reservable"] = amounts["committed"] + amounts["available"]
    amounts["ondemand_capacity"] = amounts["available_ondemand"]
    del amounts["idle_and_occupied"]
    known = days if unknown_from is None else unknown_from
    return daily({k: [v] * known + [None] * (days - known) for k, v in amounts.items()})


def svg(figure: base.Figure) -> str:
    """Draw a figure as it stands on a page without scripts."""
    return render.chart_svg(figure.chart.to_dict())


class TestCoarsen:
    @given(st.lists(st.floats(0, 1000), min_size=59, max_size=59))
    def test_a_month_times_its_length_is_its_node_days(self, values):
        months = base.coarsen(daily({"total": values}), "1mo", by=["count_type"])
        assert months["value"].to_list() == pytest.approx(
            [sum(values[:31]) / 31, sum(values[31:]) / 28]
        )

    @pytest.mark.parametrize(("unknown", "known"), [(1, True), (2, False), (31, False)])
    def test_a_month_is_known_where_95_percent_of_its_days_are(self, unknown, known):
        month = base.coarsen(
            daily({"total": [None] * unknown + [7.0] * (31 - unknown)}), "1mo", by=["count_type"]
        )
        assert month["value"].to_list() == ([7.0] if known else [None])

    def test_the_order_of_rows_changes_nothing(self):
        frame = daily({"total": [0.1 * day for day in range(59)], "idle": [0.3] * 59})
        shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
        args = ("1mo",)
        assert base.coarsen(shuffled, *args, by=["count_type"]).equals(
            base.coarsen(frame, *args, by=["count_type"])
        )


class TestPartition:
    def test_the_parts_add_up_to_the_total(self):
        table = tables.partition_table(
            site_of(active=5, stopped=1, idle=2, available=10, maintenance=3, unknown=1), every="1w"
        )
        parts = table.select(pl.sum_horizontal(list(base.PARTS))).to_series()
        assert parts.to_list() == pytest.approx(table["total"].to_list())
        assert table["leased"].sum() == 0

    def test_leased_nodes_whose_use_nobody_knows_are_leased(self):
        frame = site_of(active=5, idle=2, available=10).filter(
            ~pl.col("count_type").is_in(["active", "stopped", "idle", "occupied"])
        )
        table = tables.partition_table(frame, every="1mo")
        assert table["leased"].to_list() == pytest.approx([7] * 3)
        assert table["active"].sum() == 0
        assert table["total"].to_list() == pytest.approx([17] * 3)

    def test_what_is_not_known_is_null_not_zero(self):
        table = tables.partition_table(site_of(active=5, available=5, unknown_from=31), every="1mo")
        assert table["total"].to_list() == [10, None, None]
        assert table["active"].to_list() == [5, None, None]

    def test_a_part_that_a_node_type_never_has_is_none(self):
        frame = site_of(active=5, available=10).filter(
            pl.col("count_type").is_in(["total", "reservable", "committed", "active", "available"])
        )
        table = tables.partition_table(frame, every="1mo", sparse=True)
        assert table.select("total", "active", "idle", "leased", "maintenance").row(0) == (
            *(15, 5, 0, 0, 0),
        )
        dense = tables.partition_table(frame, every="1mo")
        assert dense.select("total", "active", "leased").row(0) == (15, 0, 5)

    def test_the_time_before_there_was_anything_is_left_out(self):
        before = {k: [0.0] * 31 + [1.0] * 28 for k in ("total", "available")}
        rest = dict.fromkeys(("committed", *PARTITION), [0.0] * 59)
        table = tables.partition_table(daily({**rest, **before}), every="1mo")
        assert table["timestamp"].to_list() == [datetime(2019, 2, 1, tzinfo=UTC)]

    def test_percent_adds_up_to_a_hundred(self):
        figure = usage_stack(site_of(active=1, idle=1, available=4), site_name=SITE, percent=True)
        parts = figure.data.select(pl.sum_horizontal(list(base.PARTS))).to_series()
        assert parts.to_list() == pytest.approx([100] * figure.data.height, abs=0.1)

    def test_an_unknown_stretch_is_grey_and_says_so(self):
        known = svg(usage_stack(site_of(active=5), site_name=SITE))
        gap = svg(usage_stack(site_of(active=5, unknown_from=40), site_name=SITE))
        for mark in (palette.UNKNOWN_EDGE, ">not known<"):
            assert known.count(mark) < gap.count(mark)

    def test_a_part_that_nobody_tells_is_zero_only_where_the_others_make_the_total(self):
        frame = site_of(active=5, available=10)
        untold = frame.with_columns(
            pl.when(pl.col("count_type") != "maintenance").then("value").alias("value")
        )
        assert tables.partition_table(untold, every="1mo").equals(
            tables.partition_table(frame, every="1mo")
        )
        short = untold.with_columns(
            pl.col("value") + (pl.col("count_type") == "total").cast(pl.Float64)
        )
        assert tables.partition_table(short, every="1mo")["total"].null_count() == 3

    def test_a_week_that_began_before_the_record_starts_with_it(self):
        table = tables.partition_table(site_of(active=5), every="1w")
        assert table["timestamp"].min() == START
        assert START.weekday() != 0


class TestOutOfUse:
    def test_causes_add_up_and_what_came_before_the_records_is_unknown(self):
        known = [None] * 14 + [1.0] * 14
        causes = {"broken": known, "planned": [v and 2.0 for v in known]}
        causes |= {key: [v and 0.0 for v in known] for key in ("disabled", "unexplained")}
        usage = daily(
            {"total": [10.0] * 28} | {f"out_of_use_{name}": of for name, of in causes.items()}
        )
        figure = out_of_use(usage, site_name=SITE)
        totals = figure.data["total"].to_list()
        assert totals[0] is None
        assert totals[-1] == 3
        assert figure.data["out_of_use_planned"][-1] == 2
        assert "broken 1.0" in figure.chart.to_dict()["description"]
        assert "not known" in svg(figure)


class TestOpening:
    """Before a site has a node, a zero is no finding."""

    OPENS = START + timedelta(days=40)

    def late(self) -> pl.DataFrame:
        zero = pl.when(pl.col("timestamp") >= self.OPENS).then("value").otherwise(0.0)
        return site_of(active=5).with_columns(zero.alias("value"))

    def test_the_days_before_it_are_left_out(self):
        kept = base.since_opening(self.late())
        assert kept["timestamp"].min() == self.OPENS
        assert kept.equals(self.late().filter(pl.col("timestamp") >= self.OPENS))

    def test_it_is_the_first_node_that_any_collector_counts(self):
        other = daily({"total": [0.0, 3.0]}, collector="uncorrected")
        kept = base.since_opening(pl.concat([self.late(), other]))
        assert kept["timestamp"].min() == START + timedelta(days=1)

    def test_what_is_not_known_is_not_left_out(self):
        unknown = self.late().with_columns(
            pl.when(pl.col("timestamp") >= self.OPENS).then("value").alias("value")
        )
        assert base.since_opening(unknown).equals(unknown)

    def test_no_figure_begins_before_it(self):
        for figure, buckets in (
            (collectors.usage_facet(self.late(), site_name=SITE), 2),  # months
            (usage_stack(self.late(), site_name=SITE), 8),  # weeks
        ):
            assert figure.data["timestamp"].min() == self.OPENS
            assert figure.data["timestamp"].unique().len() == buckets

    def test_the_mean_of_its_first_bucket_is_over_the_days_since(self):
        table = tables.partition_table(self.late(), every="1mo")
        assert table["total"].to_list() == [5, 5]


class TestFacet:
    """The collectors side by side."""

    def panel(self, frame: pl.DataFrame, number: int) -> dict[str, Any]:
        figure = collectors.usage_facet(frame, site_name=SITE)
        panels: list[dict[str, Any]] = figure.chart.to_dict()["concat"]
        return panels[number]

    @pytest.mark.parametrize("rows", ["null", "absent"])
    def test_what_the_corrected_count_does_not_know_is_not_drawn_as_zero(self, rows):
        usage = site_of(active=5, available=5)
        unknown = usage.with_columns(
            pl.when(pl.col("count_type") != "occupied").then("value").alias("value")
        )
        if rows == "absent":
            unknown = unknown.drop_nulls("value")
        zero = daily({"occupied": [0.0] * 90, "total": [9.0] * 90}, collector="uncorrected")
        frame = pl.concat([unknown, zero])
        occupied = self.panel(frame, 3)
        assert palette.UNKNOWN_EDGE in str(occupied["layer"][0])
        assert occupied["layer"][-2]["encoding"]["y"]["scale"]["domain"] == [0, 1]
        assert palette.UNKNOWN_EDGE not in str(self.panel(frame, 0))
        words = collectors.usage_facet(frame, site_name=SITE).chart.to_dict()["description"]
        assert "occupied uncorrected 0.0, corrected not known" in words


class TestRejects:
    AUDIT = pl.DataFrame(
        [
            ("uncorrected committed", "allocations", "host row is gone", 9000.0),
            ("corrected total", "hosts", "a source of higher priority speaks", 500.0),
            ("corrected total", "hosts", "no start", 5.0),
            ("corrected active", "hosts", "no start", 7.0),
        ],
        schema=["stage", "source", "reason", "hours"],
        orient="row",
    )

    def test_leave_out_what_counts_in_the_corrected_count(self):
        figure = rejects(self.AUDIT, site_name=SITE)
        assert "host row is gone" not in str(figure.chart.to_dict())
        assert figure.data["hours"].to_list() == [500, 7, 5]

    def test_set_apart_the_hours_that_another_source_tells(self):
        table = tables.rejected(self.AUDIT)
        assert table["superseded"].to_list() == [True, False, False]
        assert "another source was believed" in svg(rejects(self.AUDIT, site_name=SITE))

    def test_without_hours_say_so(self):
        audit = self.AUDIT.tail(1).with_columns(hours=pl.lit(0.0))
        subtitle = rejects(audit, site_name=SITE).chart.to_dict()["title"]["subtitle"]
        assert "none of these rows held any hour" in subtitle


class TestCoverage:
    def test_has_no_row_on_demand_where_nothing_can_be_used_so(self):
        shares = pl.DataFrame(
            {
                "timestamp": [START] * 2,
                "quantity_type": ["occupied_reservation", "occupied_ondemand"],
                "source": ["records"] * 2,
                "known_share": [1.0] * 2,
            }
        ).cast({"timestamp": pl.Datetime("us", "UTC")})
        draw = coverage
        assert draw(shares, site_name=SITE).data.height == 2
        assert draw(shares, site_name=SITE, on_demand=False).data.height == 1

    def test_is_blank_before_any_source_names_a_node(self):
        shares = pl.DataFrame(
            {
                "timestamp": [START, START + timedelta(days=40)] * 2,
                "quantity_type": ["total"] * 4,
                "source": ["records"] * 2 + ["hosts"] * 2,
                "known_share": [1.0, 1.0, None, 0.5],
            }
        ).cast({"timestamp": pl.Datetime("us", "UTC")})
        table = coverage(shares, site_name=SITE).data
        assert table["timestamp"].unique().to_list() == [datetime(2019, 2, 1, tzinfo=UTC)]

    def test_months_that_follow_each_other_with_the_same_share_are_drawn_as_one(self):
        months = [datetime(2019, month, 1, tzinfo=UTC) for month in range(1, 7)]
        shares = pl.DataFrame(
            {
                "timestamp": months,
                "quantity_type": ["total"] * 6,
                "source": ["hosts"] * 6,
                "known_share": [1.0, 1.0, 0.5, None, 0.5, 0.5],
            }
        ).cast({"timestamp": pl.Datetime("us", "UTC")})
        spec = coverage(shares, site_name=SITE).chart.to_dict()
        (cells,) = (pl.read_csv(data.encode()) for data in spec["datasets"].values())
        assert cells.drop("row").rows() == [
            ("2019-01-01T00:00Z", "2019-03-01T00:00Z", 1.0),
            ("2019-03-01T00:00Z", "2019-04-01T00:00Z", 0.5),
            ("2019-05-01T00:00Z", "2019-07-01T00:00Z", 0.5),
        ]


class TestAvailability:
    def test_a_year_divides_as_its_node_days_do_and_days_without_a_value_are_not_known(self):
        days = [START, START + timedelta(days=1), START + timedelta(days=2)]
        usage = pl.DataFrame(
            {
                "site": "test",
                "timestamp": days,
                "collector_type": "corrected",
                "count_type": "total",
                "value": [1.0, 3.0, None],
            }
        ).cast({"timestamp": pl.Datetime("us", "UTC")})
        shares = pl.DataFrame(
            {
                "timestamp": days[:2] * 2,
                "quantity_type": "total",
                "source": ["seen"] * 2 + ["inferred"] * 2,
                "known_share": [1.0, 0.5, 0.0, 0.5],
            }
        ).cast({"timestamp": pl.Datetime("us", "UTC")})
        table = availability(shares, usage, site_name=SITE).data
        assert dict(table.select("part", "share").iter_rows()) == pytest.approx(
            {"seen": 2 / 3 * 2.5 / 4, "inferred": 2 / 3 * 1.5 / 4, "known": 0, "unknown": 1 / 3},
            abs=1e-4,
        )
        assert set(table["count_type"]) == {"total"}

    def test_what_is_not_told_apart_is_known_or_unknown_as_a_whole(self):
        days = pl.Series([START, START + timedelta(days=1)], dtype=pl.Datetime("us", "UTC"))
        values = {"total": [2.0, 2.0], "occupied": [None, None], "active": [1.0, None]}
        usage = pl.concat(
            pl.DataFrame(
                {"site": "test", "timestamp": days, "count_type": name, "value": value},
                schema_overrides={"value": pl.Float64},
            )
            for name, value in values.items()
        ).with_columns(pl.lit("corrected").alias("collector_type"))
        shares = pl.DataFrame(
            {"timestamp": days, "quantity_type": "total", "source": "seen", "known_share": 1.0}
        )
        table = availability(shares, usage, site_name=SITE).data.filter(pl.col("share") > 0)
        assert table.select("count_type", "part", "share").rows() == [
            ("total", "seen", 1.0),
            ("occupied", "unknown", 1.0),
            ("active", "known", 0.5),
            ("active", "unknown", 0.5),
        ]


class TestRecords:
    def test_no_line_leads_across_a_year_without_a_value(self):
        table = pl.DataFrame({"year": [2017, 2020], "value": [3.0, 4.0]}).with_columns(
            *(
                pl.lit(value).alias(name)
                for name, value in {
                    "site": "test",
                    "collector_type": "legacy",
                    "count_type": "total",
                    "record": "real",
                }.items()
            )
        )
        figure = real_record.records(table, site_names={"test": SITE}, count_types=["total"])
        datasets = figure.chart.to_dict()["datasets"].values()
        (values,) = (data for data in datasets if isinstance(data, str))
        assert [line.split(",")[-2:] for line in values.splitlines()[1:]] == [
            *(["2017", "3.0"], ["2018", ""], ["2019", ""], ["2020", "4.0"]),
        ]


class TestCrossSite:
    def test_used_and_available_make_what_could_be_used(self):
        table = tables.cross_site_table(
            site_of(active=5, stopped=1, idle=2, available=10, maintenance=4), every="1mo"
        )
        assert table.select("total", "used", "leased", "available").row(0) == (22, 6, 0, 12)

    def test_a_site_without_records_of_use_is_leased_not_unused(self):
        frame = site_of(active=5, idle=2, available=10).filter(pl.col("count_type") != "occupied")
        table = tables.cross_site_table(frame, every="1mo")
        assert table.select("total", "used", "leased", "available").row(0) == (17, 0, 7, 10)
        share = cross_site.site_comparison(frame, site_names={"test": SITE})
        assert share.data["used_percent"].null_count() == share.data.height
        assert SITE not in str(share.chart.to_dict())

    def test_where_no_site_has_a_record_of_use_the_comparison_says_so(self, tmp_path):
        frame = site_of(active=5, idle=2, available=10).filter(pl.col("count_type") != "occupied")
        share = cross_site.site_comparison(frame, site_names={"test": SITE})
        assert "nothing to show" in share.save("share", tmp_path)._repr_html_()

    def test_the_sum_does_not_wait_for_a_site_without_records_yet(self):
        late = site_of(active=1, available=2).with_columns(
            pl.lit("late").alias("site"),
            pl.when(pl.col("timestamp") >= datetime(2019, 3, 1, tzinfo=UTC)).then("value"),
        )
        table = tables.cross_site_table(pl.concat([site_of(active=5), late]), every="1mo")
        months = table.group_by("site", maintain_order=True).agg(pl.col("timestamp").dt.month())
        assert dict(months.iter_rows()) == {"all": [1, 2, 3], "late": [3], "test": [1, 2, 3]}
        assert table.null_count().sum_horizontal().item() == 0

    def late(self, day: int) -> pl.DataFrame:
        """A site of ten nodes, nine of them used, that opens on a day of the record."""
        opens = START + timedelta(days=day)
        return site_of(active=9, available=1).with_columns(
            pl.lit("late").alias("site"),
            pl.when(pl.col("timestamp") >= opens).then("value").otherwise(0.0).alias("value"),
        )

    def test_the_mean_of_a_site_is_over_the_days_that_it_was_there(self):
        usage = pl.concat([site_of(active=5, available=5), self.late(21)])
        table = tables.cross_site_table(usage, every="1mo")
        first = table.filter(pl.col("timestamp") == START).rows_by_key("site", unique=True)
        assert first["late"] == (START, 10, 10, 9, 0, 1, 0)
        assert first["all"][1:] == pytest.approx(
            (31, 10 + 10 * 10 / 31, 5 + 90 / 31, 0, 5 + 10 / 31, 0)
        )

    def test_the_percent_of_the_sum_are_of_the_nodes_there_by_then(self):
        usage = pl.concat([site_of(active=5, available=5), self.late(31)])
        names = {"test": SITE, "late": "Late"}
        table = cross_site.cross_site_percent(usage, site_names=names).data
        assert table["used_percent"].to_list() == [50, 70, 70]
        assert table["usable_percent"].to_list() == [100, 100, 100]
        assert table[f"{SITE}, used"].to_list() == [50, 25, 25]
        assert table["Late, used"].to_list() == [None, 45, 45]

    def test_the_sum_is_not_known_where_a_part_of_it_is_not(self):
        usage = pl.concat([site_of(active=5, unknown_from=31), self.late(0)])
        table = tables.cross_site_table(usage, every="1mo").filter(pl.col("site") == tables.ALL)
        assert table["used"].to_list() == [14, None, None]

    def test_the_sum_is_not_known_after_one_of_the_sites_was_read(self):
        early = self.late(0).filter(pl.col("timestamp") < START + timedelta(days=31))
        usage = pl.concat([site_of(active=5), early])
        table = tables.cross_site_table(usage, every="1mo").filter(pl.col("site") == tables.ALL)
        assert table["used"].to_list() == [14, None, None]

    def test_where_no_use_is_known_at_all_there_is_still_a_total(self, tmp_path):
        frame = site_of(active=5).filter(pl.col("count_type") != "occupied")
        frame = frame.with_columns(
            pl.when(pl.col("count_type") == "total").then("value").alias("value")
        )
        for draw in (cross_site.cross_site_usage, cross_site.cross_site_percent):
            page = draw(frame, site_names={"test": SITE}).save("all", tmp_path)._repr_html_()
            assert "not known" in page

    @pytest.mark.parametrize(("days", "label"), [(90, "Jan 2019"), (800, ">2019<")])
    def test_of_less_than_two_years_months_are_named(self, days, label):
        usage = site_of(days, active=5, available=5)
        assert label in svg(cross_site.cross_site_usage(usage, site_names={"test": SITE}))

    def test_kvm_is_yellow(self):
        for shade in SHADES["kvm_tacc"]:
            red, green, blue = (int(shade[i : i + 2], 16) for i in (1, 3, 5))
            assert min(red, green) > 1.4 * blue


def draw_anew(name: str) -> base.Figure:
    """Draw one figure anew."""
    usage = site_of(active=5, stopped=1, idle=2, available=10, maintenance=4, unknown=1)
    typed = usage.with_columns(pl.lit("nodes").alias("resource"), pl.lit("gpu").alias("node_type"))
    month = pl.lit(START).cast(pl.Datetime("us", "UTC")).alias("timestamp")
    errors = pl.DataFrame({"site": ["test"], "era": ["2022_on"], "count_type": ["total"]})
    draw: dict[str, Callable[[], base.Figure]] = {
        "stack": lambda: usage_stack(usage, site_name=SITE),
        "percent": lambda: usage_stack(usage, site_name=SITE, percent=True),
        "out_of_use": lambda: out_of_use(
            site_of(reservable_usable=18, **dict.fromkeys(palette.OUT_OF_USE, 2)), site_name=SITE
        ),
        "facet": lambda: collectors.usage_facet(usage, site_name=SITE),
        "node_types": lambda: node_types(typed, site_name=SITE),
        "resources": lambda: resources(typed, site_name=SITE),
        "cross_site": lambda: cross_site.cross_site_usage(usage, site_names={"test": SITE}),
        "cross_percent": lambda: cross_site.cross_site_percent(usage, site_names={"test": SITE}),
        "share": lambda: cross_site.site_comparison(usage, site_names={"test": SITE}),
        "rejects": lambda: rejects(
            pl.DataFrame(
                {
                    "stage": ["ingest", "ingest"],
                    "source": ["a", "a"],
                    "reason": ["no end", "no end"],
                    "hours": [3.0, None],
                }
            ),
            site_name=SITE,
        ),
        "coverage": lambda: coverage(
            usage.select(
                "timestamp",
                pl.col("count_type").alias("quantity_type"),
                pl.lit("a").alias("source"),
                (pl.col("value") / 100).alias("known_share"),
            ),
            site_name=SITE,
        ),
        "availability": lambda: availability(
            usage.filter(pl.col("count_type") == "total").select(
                "timestamp",
                pl.col("count_type").alias("quantity_type"),
                pl.lit("seen").alias("source"),
                pl.lit(1.0).alias("known_share"),
            ),
            usage,
            site_name=SITE,
        ),
        "comparison": lambda: collectors.comparison(
            usage.rename({"value": "difference"}).filter(pl.col("count_type") == "total"),
            site_name=SITE,
        ),
        "readings": lambda: truth.readings(
            errors.with_columns(
                pl.lit("corrected").alias("collector_type"), low=0.01, mid=0.02, high=0.03
            ),
            site_names={"test": SITE},
            count_types=["total"],
        ),
        "units": lambda: truth.units(
            errors.with_columns(pl.lit("error_host").alias("measure"), low=0.01, mid=0.02, high=1),
            site_names={"test": SITE},
            count_types=["total"],
        ),
        "ablation": lambda: ablation.ablation(
            errors.with_columns(pl.lit("merging").alias("left_out"), pl.lit(1.5).alias("added")),
            site_names={"test": SITE},
            count_types=["total"],
            labels={"merging": "merging of duplicates"},
        ),
        "records": lambda: real_record.records(
            pl.DataFrame(
                {
                    "site": ["test"] * 2,
                    "collector_type": ["legacy"] * 2,
                    "count_type": ["total"] * 2,
                    "year": [2019, 2020],
                    "record": ["real", "twin"],
                    "value": [3.0, 4.0],
                }
            ),
            site_names={"test": SITE},
            count_types=["total"],
        ),
        "published": lambda: real_record.published(
            pl.DataFrame(
                {
                    "site": "test",
                    "count_type": "total",
                    "record": ["files", "caches", "twin"],
                    "value": [1.0, 2.0, 3.0],
                }
            ).with_columns(month),
            site_names={"test": SITE},
            files="files",
            caches="caches",
            ours="twin",
            partial="",
        ),
        "machines": lambda: real_record.machines(
            pl.DataFrame(
                {"site": "test", "record": ["files", "twin"], "node_type": "gpu", "value": 2.0}
            ).with_columns(month),
            site_names={"test": SITE},
            ours="twin",
        ),
    }
    return draw[name]()


FIGURES = (
    *("stack", "percent", "out_of_use", "facet", "node_types", "resources", "cross_site"),
    *("cross_percent", "share"),
    *("rejects", "coverage", "availability", "comparison"),
    *("readings", "units", "ablation", "records", "published", "machines"),
)
drawn = cache(draw_anew)


class TestSavedAgain:
    @pytest.fixture
    def saved(self, tmp_path, monkeypatch):
        """A saved figure, its page, and a process that cannot draw."""
        page = drawn("coverage").save("a", tmp_path)._repr_html_()
        render._DRAWN.clear()
        monkeypatch.setattr(render.vlc, "vegalite_to_svg", lambda *_, **__: 1 / 0)
        return tmp_path, page

    def test_the_same_chart_is_not_drawn_again(self, saved):
        folder, page = saved
        before = [(folder / f"a.{kind}").read_bytes() for kind in ("svg", "png")]
        assert drawn("coverage").save("a", folder)._repr_html_() == page
        assert [(folder / f"a.{kind}").read_bytes() for kind in ("svg", "png")] == before

    def test_another_chart_is(self, saved):
        with pytest.raises(ZeroDivisionError):
            drawn("rejects").save("a", saved[0])

    def test_a_picture_that_others_wrote_is_not_taken_for_it(self, saved):
        folder, _ = saved
        picture = folder / "a.png"
        picture.write_bytes(vlc.svg_to_png((folder / "a.svg").read_text()))
        with pytest.raises(ZeroDivisionError):
            drawn("coverage").save("a", folder)

    def test_its_picture_is_whole(self, saved):
        with Image.open(saved[0] / "a.png") as picture:
            picture.load()
            assert len(picture.text["Comment"]) == 64


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    def test_tells_its_finding_in_words_and_numbers(self, name):
        words = drawn(name).chart.to_dict()["description"]
        assert "CHI@Test" in words or "the real published curves" in words or "used" in words
        assert len(words) > 40
        assert not re.search(r"\b(None|nan|inf)\b", words)

    def test_is_the_same_on_every_run(self, name, tmp_path):
        again = draw_anew(name)
        for folder, chart in (("one", drawn(name)), ("two", again)):
            render._DRAWN.clear()
            chart.save(name, tmp_path / folder)
        files = sorted(p.name for p in (tmp_path / "one").iterdir())
        assert files == [f"{name}.csv", f"{name}.png", f"{name}.svg"]
        for file in files:
            one, two = ((tmp_path / folder / file).read_bytes() for folder in ("one", "two"))
            assert one == two
            assert one

    def test_names_no_other_place(self, name):
        spec = drawn(name).chart.to_dict()
        page = render.chart_html(spec)
        places = set(re.findall(r"https?://[^\"'\s<>)]+", page))
        assert places <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
            spec["$schema"],
        }


class TestPage:
    def test_ids_of_two_charts_on_one_page_differ(self):
        spec = drawn("coverage").chart.to_dict()
        pages = [render.chart_html(spec | {"title": title}) for title in ("one", "two")]
        ids = [set(re.findall(r'\bid="([^"]+)"', page)) for page in pages]
        assert len(ids[0]) > 1
        assert ids[0].isdisjoint(ids[1])
        for page, own in zip(pages, ids, strict=True):
            assert set(re.findall(r"url\(#([^)]+)\)", page.split("<script")[0])) <= own

    def test_the_words_of_a_chart_cannot_break_out_of_it(self):
        spec = drawn("stack").chart.to_dict() | {"description": '</script><b>"&'}
        page = render.chart_html(spec)
        assert page.count("</script>") == 1
        assert "<b>" not in page

    def test_the_script_of_the_book_keeps_to_itself(self):
        script = render.book_script()
        assert script.startswith("(() => {")
        assert script == render.book_script()


class TestSvg:
    def test_leaves_out_what_nobody_sees(self):
        svg = (
            '<svg width="9"><path class="background" d="M0,0h0v0h0Z"/>'
            '<path aria-label="a: 1" d="M0,1.23456L2,1.23456L2,3" opacity="1" '
            'fill="rgb(0, 16, 255)"/><text font-family="A">1.23456</text></svg>'
        )
        assert render._slim(svg) == (
            '<svg width="9" font-family="A"><path d="M0,1.23H2V3" fill="#0010ff"/>'
            "<text>1.23456</text></svg>"
        )

    @pytest.mark.parametrize("name", FIGURES)
    def test_looks_the_same_and_is_shorter(self, name):
        spec = json.dumps(drawn(name).chart.to_dict(), sort_keys=True)
        whole = vlc.vegalite_to_svg(spec, allowed_base_urls=[])
        slim = render.chart_svg(json.loads(spec))
        assert len(slim) < 0.7 * len(whole)
        before, after = (
            np.asarray(Image.open(BytesIO(vlc.svg_to_png(svg))).convert("RGB")).astype(int)
            for svg in (whole, slim)
        )
        differs = np.abs(before - after)
        assert differs.mean() < 0.1
        assert (differs > 64).mean() < 1e-3


class TestNothing:
    def test_an_empty_table_is_a_figure_that_says_so(self, tmp_path):
        typed = site_of().with_columns(
            pl.lit("nodes").alias("resource"), pl.lit("gpu").alias("node_type")
        )
        figure = node_types(typed.clear(), site_name=SITE)
        assert "nothing to show" in figure.save("types", tmp_path)._repr_html_()
        assert (tmp_path / "types.png").stat().st_size > 0


class TestPalette:
    @pytest.mark.parametrize(
        "colours",
        [
            [*palette.STATES.values(), *palette.OUT_OF_USE.values()],
            [look[0] for look in palette.COLLECTORS.values()],
            [look[3] for look in palette.COLLECTORS.values()],
            [shade for shades in SHADES.values() for shade in shades],
            list(palette.node_type_colours([f"type {i}" for i in range(7)]).values()),
        ],
    )
    def test_one_colour_one_meaning(self, colours):
        assert len(set(colours)) == len(colours)

    def test_states_collectors_sites_and_node_types_share_no_colour(self):
        kinds = [
            {*palette.STATES.values(), *palette.OUT_OF_USE.values()},
            {look[0] for look in palette.COLLECTORS.values()},
            {shade for shades in SHADES.values() for shade in shades},
            set(palette.node_type_colours([f"type {i}" for i in range(7)]).values()),
        ]
        assert len(set().union(*kinds)) == sum(map(len, kinds))

    def test_every_part_and_collector_has_its_colour(self):
        assert set(PARTITION) <= set(palette.STATES) == set(base.PARTS)
        assert set(COLLECTORS) <= set(palette.COLLECTORS)

    def test_a_site_of_another_maker_keeps_its_colour(self):
        assert palette.site_shades("my_site") == palette.site_shades(
            "my_site", {"a": SHADES["chi_uc"]}
        )
        assert palette.site_shades("a", {"a": SHADES["chi_uc"]}) == SHADES["chi_uc"]
