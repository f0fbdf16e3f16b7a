"""Figures of lead times: every lease counts, and pictures show what the tables say."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chameleon_usage.viz import palette, raster, render
from chameleon_usage.viz.leadtime import density, leadtime
from chameleon_usage.viz.leadtime_axis import Grid, foot, rung
from chameleon_usage.viz.leadtime_shares import delays, hours_of_week, survival

SITE = "CHI@Test"
START = datetime(2019, 1, 7, tzinfo=UTC)  # a Monday
DRAW = {f.__name__: f for f in (density, leadtime, survival, delays, hours_of_week)}


def leases_of(*rows: tuple, **columns: object) -> pl.DataFrame:
    """Leases from (hours after START, requested, effective), all with the same `columns`."""
    return pl.DataFrame(
        [(START + timedelta(hours=at), *hours) for at, *hours in rows],
        schema={
            "created_at": pl.Datetime("us", "UTC"),
            "requested_h": pl.Float64,
            "effective_h": pl.Float64,
        },
        orient="row",
    ).with_columns(
        pl.lit(value).alias(name)
        for name, value in ({"node_type": "gpu_p100", "gpu": True} | columns).items()
    )


@cache
def many(count: int) -> pl.DataFrame:
    """Leases of two types over ten years at most, a third of them at once."""
    rows = [
        (7 * i % 87_000, (i % 3) * 1.3 ** (i % 31), None if i % 5 == 0 else 0.5 + i % 37)
        for i in range(count)
    ]
    typed = [leases_of(*rows[k::2], node_type=f"type_{k}", gpu=bool(k)) for k in (0, 1)]
    return pl.concat(typed)


def pixels(uri: str) -> np.ndarray:
    file = b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(BytesIO(file)).convert("RGBA"))


def pictures(figure) -> list[np.ndarray]:
    return [
        pixels(uri)
        for uri in re.findall(r"data:image/png;base64,[\w+/=]+", str(figure.chart.to_dict()))
    ]


@pytest.mark.parametrize("name", DRAW)
class TestEveryFigure:
    def test_says_what_it_shows_and_is_the_same_on_every_run(self, name, tmp_path):
        files = {}
        for folder in ("one", "two"):
            render._DRAWN.clear()
            DRAW[name](many(200), site_name=SITE).save(name, tmp_path / folder)
            files[folder] = [p.read_bytes() for p in sorted((tmp_path / folder).iterdir())]
        assert files["one"] == files["two"]
        assert len(files["one"]) == 3
        words = DRAW[name](many(200), site_name=SITE).chart.to_dict()["description"]
        assert words.startswith(SITE)
        assert not re.search(r"\b(None|nan|inf)\b", words)

    def test_of_no_lease_says_so(self, name, tmp_path):
        page = DRAW[name](many(4).clear(), site_name=SITE).save(name, tmp_path)._repr_html_()
        assert "nothing to show" in page

    def test_of_a_hundred_thousand_leases_is_light(self, name, tmp_path):
        drawing = DRAW[name](many(100_000), site_name=SITE).save(name, tmp_path)
        assert len(drawing._repr_html_()) < 200_000
        assert (tmp_path / f"{name}.svg").stat().st_size < 60_000
        assert (tmp_path / f"{name}.csv").stat().st_size < 1_000_000

    def test_of_one_kind_only_is_drawn_all_the_same(self, name, tmp_path):
        untold = many(50).with_columns(effective_h=pl.lit(None, pl.Float64))
        DRAW[name](untold, site_name=SITE).save(name, tmp_path)


class TestBins:
    @given(st.floats(-1, 1e5), st.sampled_from([0.0625, 0.125, 1 / 12]))
    def test_a_lead_time_lies_in_its_bin(self, hours, step):
        frame = pl.DataFrame({"hours": [hours]}).select(rung=rung(pl.col("hours"), step))
        number = frame.item()
        below, above = (
            pl.DataFrame({"rung": [k]}).select(foot(step)).item() for k in (number, number + 1)
        )
        if hours <= 1 / 60:
            assert (number, below) == (0, None)
        else:
            assert below * 0.999 <= hours <= above * 1.001 + 1e-4

    @given(st.lists(st.integers(0, 9000), min_size=1, max_size=30), st.integers(1, 200))
    def test_time_is_cut_into_no_more_bins_than_asked_for(self, days, most):
        table = leases_of(*((24 * day, 1.0, 1.0) for day in days)).with_columns(hours="requested_h")
        grid, binned = Grid.over(table, 0.125, most)
        assert binned.height == table.height
        assert grid.columns <= most
        into = binned["created_at"] - binned["timestamp"]
        assert into.min() >= timedelta(0)
        assert into.max() < grid.length


class TestPicture:
    def test_has_a_pixel_for_each_bin_counted_from_below(self):
        chart = raster.picture(
            pl.Series([0, 2]), pl.Series([0, 1]),
            raster.painted(["#102030", "#ff0000"], pl.Series([1.0, 0.4])), (3, 2),
            {"x": 0, "x2": 3, "y": 0, "y2": 2}, x="x:Q", x2="x2:Q", y="y:Q",
        )  # fmt: skip
        drawn = pixels(chart.to_dict()["mark"]["url"])
        assert drawn.shape == (2, 3, 4)
        assert drawn[1, 0].tolist() == [16, 32, 48, 255]
        assert drawn[0, 2].tolist() == [255, 0, 0, 102]
        assert (drawn[..., 3] > 0).sum() == 2

    def test_shades_go_from_one_to_the_most(self):
        shades = raster.ramp(pl.Series([1, 10, 100]), 100).select("r", "g", "b").rows()
        ends = [tuple(bytes.fromhex(shade[1:])) for shade in palette.COUNTS]
        assert [shades[0], shades[2]] == ends
        middle = [(low + high) / 2 for low, high in zip(*ends, strict=True)]
        assert shades[1] == pytest.approx(middle, abs=1)


class TestDensity:
    def test_every_lease_is_counted_once_in_each_panel(self):
        leases = many(500)
        bins = density(leases, site_name=SITE).data.filter(pl.col("row").str.starts_with("leases"))
        counted = bins.group_by("leadtime_type").agg(pl.col("leases").sum())
        assert dict(counted.iter_rows()) == {
            "requested": 500,
            "effective": leases["effective_h"].count(),
        }

    def test_lines_are_those_of_the_quarter(self):
        hours = [0.0, 0.0, *(float(h) for h in range(1, 20))]
        leases = leases_of(*((i, hour, None) for i, hour in enumerate(hours)))
        data = density(leases, site_name=SITE).data
        lines = dict(data.filter(pl.col("hours").is_not_null()).select("row", "hours").iter_rows())
        assert lines["median"] == 9
        assert lines["median of those not at once"] == 10
        assert (lines["10 %"], lines["90 %"]) == (1, 17)

    def test_a_quarter_with_few_leases_has_no_line(self):
        data = density(leases_of(*((i, 2.0, 2.0) for i in range(9))), site_name=SITE).data
        assert data["row"].unique().to_list() == ["leases of the bin from"]


class TestPoints:
    def test_all_leases_are_drawn(self):
        leases = many(3000)
        data = leadtime(leases, site_name=SITE).data
        assert data.filter(leadtime_type="requested")["leases"].sum() == 3000

    def test_a_point_has_the_colour_of_most_of_its_leases(self):
        few, most = (
            leases_of(*[(0, 5.0, None)] * count, node_type=name)
            for count, name in ((2, "rare"), (3, "usual"))
        )
        drawn = pictures(leadtime(pl.concat([few, most]), site_name=SITE))
        assert len(drawn) == 1
        points = drawn[0][drawn[0][..., 3] > 0]
        assert len(points) == 1
        shade = palette.node_type_colours(["usual", "rare"])["usual"]
        assert points[0][:3].tolist() == list(bytes.fromhex(shade[1:]))

    def test_at_once_no_type_hides_another(self):
        typed = [leases_of((0, 0.0, None), node_type=f"type {k}") for k in range(9)]
        (drawn,) = pictures(leadtime(pl.concat(typed), site_name=SITE))
        assert (drawn[..., 3] > 0).sum() == 8  # seven types and the others


class TestSurvival:
    def test_shares_are_of_those_who_wait_longer(self):
        leases = leases_of((0, 0.0, 0.3), (1, 0.0, 0.3), (2, 3.0, None), (3, 30.0, 30.5))
        data = survival(leases, site_name=SITE).data
        asked = data.filter(leadtime_type="requested")
        assert asked["share"].to_list()[0] == 0.5
        assert asked.filter(pl.col("waits_h") > 3)["share"].to_list()[0] == 0.25
        assert asked["leases"].unique().to_list() == [4]
        assert data.filter(leadtime_type="effective")["share"].to_list()[0] == 1

    def test_it_never_rises(self):
        shares = survival(many(900), site_name=SITE).data
        falls = shares.group_by("leadtime_type", "gpu").agg(pl.col("share").diff().max())
        assert (falls["share"] <= 0).all()

    def test_leases_of_unknown_nodes_are_left_out(self):
        known = leases_of((0, 2.0, 2.0))
        unknown = leases_of((0, 9.0, 9.0), gpu=None).cast({"gpu": pl.Boolean})
        data = survival(pl.concat([known, unknown]), site_name=SITE).data
        assert data["leases"].unique().to_list() == [1]


class TestDelays:
    def test_counts_by_both(self):
        leases = leases_of((0, 0.0, 0.0), (1, 0.0, 0.5), (2, 24.0, 24.5), (3, 24.0, None))
        data = delays(leases, site_name=SITE).data
        assert data["leases"].to_list() == [1, 1, 1]
        assert data["requested_from_h"].is_null().to_list() == [True, True, False]
        assert data["later_from_h"].is_null().to_list() == [True, False, False]


class TestHoursOfWeek:
    def test_are_those_of_utc(self):
        data = hours_of_week(leases_of((1, 0.0, 30.0)), site_name=SITE).data
        assert data.rows() == [("created", 1, 1, 1), ("started", 2, 7, 1)]

    def test_monday_is_on_top(self):
        drawn = pictures(hours_of_week(leases_of((1, 0.0, None)), site_name=SITE))
        assert np.argwhere(drawn[0][..., 3] > 0).tolist() == [[0, 1]]
