"""What figures mark beside their data: events, missing months, what nobody tells, and keys."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import altair as alt
import polars as pl
import pytest

from chameleon_usage.viz import base, collectors, cross_site, palette, render
from chameleon_usage.viz.rejects import rejects
from chameleon_usage.viz.stack import usage_stack

START = datetime(2019, 1, 1, tzinfo=UTC)
NAMES = {"a": "CHI@A", "b": "CHI@B"}


def usage(site: str, days: int = 800, **counts: float) -> pl.DataFrame:
    """Constant counts of one site."""
    rows = [
        (site, START + timedelta(days=day), "corrected", name, value)
        for name, value in counts.items()
        for day in range(days)
    ]
    columns = ["site", "timestamp", "collector_type", "count_type", "value"]
    return pl.DataFrame(rows, schema=columns, orient="row").cast(
        {"timestamp": pl.Datetime("us", "UTC"), "value": pl.Float64}
    )


def site_of(site: str) -> pl.DataFrame:
    parts = {"active": 4.0, "stopped": 0.0, "idle": 1.0, "available": 4.0, "maintenance": 1.0}
    sums = {"total": 10.0, "reservable": 9.0, "committed": 5.0, "occupied": 4.0}
    rest = {"available_ondemand": 0.0, "unknown": 0.0, "ondemand_capacity": 0.0}
    return usage(site, **parts, **sums, **rest)


def events(*happened: tuple[int, str]) -> pl.DataFrame:
    """Events so many days after the start."""
    return pl.DataFrame(
        {
            "timestamp": [START + timedelta(days=day) for day, _ in happened],
            "label": [label for _, label in happened],
        }
    ).cast({"timestamp": pl.Datetime("us", "UTC")})


def svg(figure: base.Figure) -> str:
    return render.chart_svg(figure.chart.to_dict())


def places(drawn: str) -> dict[str, tuple[float, float]]:
    """Where each text of a figure stands, from the corner of its group."""
    found = re.findall(r'<text [^>]*translate\(([-\d.]+),([-\d.]+)\)"[^>]*>([^<]*)<', drawn)
    return {text: (float(x), float(y)) for x, y, text in found}


class TestEvents:
    def test_each_has_its_label_above_the_plot(self):
        marked = usage_stack(site_of("a"), site_name="A", events=events((100, "new"), (600, "old")))
        where = places(svg(marked))
        assert where["new"][1] == where["old"][1] < 0
        assert where["new"][0] < where["old"][0]

    def test_labels_that_would_touch_stand_above_each_other(self):
        near = events((400, "one that is long"), (410, "another one"), (430, "third of them"))
        where = places(svg(usage_stack(site_of("a"), site_name="A", events=near)))
        heights = [where[label][1] for label in near["label"]]
        assert len(set(heights)) == 3
        assert all(abs(a - b) >= 10 for a, b in itertools.pairwise(heights))

    def test_what_lies_outside_the_figure_is_left_out(self):
        drawn = svg(usage_stack(site_of("a"), site_name="A", events=events((-9, "before"))))
        assert "before" not in drawn
        assert drawn == svg(usage_stack(site_of("a"), site_name="A"))


class TestInferred:
    def shares(self, share: float) -> pl.DataFrame:
        days = [START + timedelta(days=day) for day in range(800)]
        told = pl.DataFrame({"timestamp": days}).cast(pl.Datetime("us", "UTC"))
        return told.join(
            pl.DataFrame({"quantity_type": ["total", "committed", "occupied"]}), how="cross"
        ).with_columns(source=pl.lit("inferred"), known_share=pl.lit(share))

    def test_a_strip_below_the_stack_says_how_much_is(self):
        marked = usage_stack(site_of("a"), site_name="A", shares=self.shares(0.25))
        assert marked.data["inferred_total"].to_list() == [0.25] * marked.data.height
        assert "inferred_occupied" not in marked.data.columns
        drawn = svg(marked)
        assert ">inferred: total<" in drawn
        assert 'opacity="0.25"' in drawn

    def test_there_is_none_where_nothing_is(self):
        plain = usage_stack(site_of("a"), site_name="A")
        marked = usage_stack(site_of("a"), site_name="A", shares=self.shares(0.0))
        assert svg(marked) == svg(plain)
        assert marked.data.equals(plain.data)


class TestComparison:
    def compared(self) -> pl.DataFrame:
        days = [START + timedelta(days=day) for day in range(365)]
        missing = [day.month == 5 for day in days]
        return pl.concat(
            pl.DataFrame(
                {
                    "timestamp": days,
                    "count_type": count,
                    "difference": [None if gone else 3.0 for gone in missing],
                }
            )
            for count in base.COMPARED
        ).cast({"timestamp": pl.Datetime("us", "UTC")})

    def test_a_month_without_a_figure_is_grey_in_every_panel(self):
        drawn = svg(collectors.comparison(self.compared(), site_name="A"))
        assert drawn.upper().count(palette.UNKNOWN_EDGE) == len(base.COMPARED)
        whole = self.compared().with_columns(pl.col("difference").fill_null(1.0))
        assert palette.UNKNOWN_EDGE not in svg(collectors.comparison(whole, site_name="A")).upper()


class TestAllSites:
    def both(self) -> pl.DataFrame:
        unused = pl.col("count_type").is_in(["active", "stopped", "idle", "occupied"])
        return pl.concat([site_of("a"), site_of("b").filter(~unused)])

    @pytest.mark.parametrize("draw", [cross_site.cross_site_usage, cross_site.cross_site_percent])
    def test_the_key_names_what_is_white(self, draw):
        assert f">{cross_site.REST}<" in svg(draw(self.both(), site_names=NAMES))

    def test_what_is_free_where_no_use_is_known_is_not_leased(self):
        key = svg(cross_site.cross_site_usage(self.both(), site_names=NAMES))
        assert ">CHI@A, not used<" in key
        assert ">CHI@B, not leased<" in key
        assert "CHI@B, not used" not in key

    def test_parts_and_rest_make_the_total(self):
        spec = cross_site.cross_site_usage(site_of("a"), site_names={"a": "CHI@A"}).chart.to_dict()
        tables = [text for text in spec["datasets"].values() if isinstance(text, str)]
        stacked = [pl.read_csv(text.encode()) for text in tables if cross_site.REST in text]
        assert stacked
        for table in stacked:
            sums = table.group_by("timestamp").agg(pl.col("nodes").sum())["nodes"]
            assert sums.to_list() == pytest.approx([10.0] * sums.len())


class TestRejects:
    def test_numbers_stand_within_the_frame(self):
        audit = pl.DataFrame(
            {
                "stage": "ingest",
                "source": ["a", "b", "c"],
                "reason": "no end",
                "hours": [9.9e6, 1.2e3, 0.5],
            }
        )
        spec = rejects(audit, site_name="A").chart.to_dict()
        marks = {layer["mark"].get("align") for layer in spec["layer"]}
        assert marks == {None, "left", "right"}
        top = spec["layer"][0]["encoding"]["x"]["scale"]["domain"][1]
        assert top > 1.5 * 9.9e6


def test_both_ends_of_a_range_have_one_type():
    """Else Vega-Lite warns in the console of every reader."""
    times = pl.DataFrame({"timestamp": [START], "until": [START + timedelta(days=1)]})
    chart: Any = (
        alt.Chart(base.inline_values(times.cast(pl.Datetime("us", "UTC"))))
        .mark_rect()
        .encode(x="timestamp:T", x2="until:T")
    )
    encoding = base.both_ends_alike(chart.to_dict())["encoding"]
    assert encoding["x2"]["type"] == encoding["x"]["type"] == "temporal"


def test_headings_of_panels_stand_at_one_height():
    spec = collectors.usage_facet(site_of("a"), site_name="A").chart.to_dict()
    marks = [panel["layer"][-1]["mark"] for panel in spec["concat"]]
    assert [mark["text"] for mark in marks] == [base.LABELS[count] for count in base.COMPARED]
    assert len({mark["y"] for mark in marks}) == 1
