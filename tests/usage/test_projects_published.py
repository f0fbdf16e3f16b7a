"""What is published of projects: a few named, no group too small, nothing lost."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_usage.errors import UsageError
from chameleon_usage.models.vocabulary import ALL_PROJECTS, UNKNOWN_PROJECT
from chameleon_usage.usage.projects_published import (
    EVERYTHING_ELSE,
    OTHER_TYPES,
    Period,
    held,
    published,
)
from support.sites import TinySite, day

HELD = {"project_id": pl.String(), "node_type": pl.String(), "node_hours": pl.Float64()}


def cells(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=HELD, orient="row")


many = st.dictionaries(
    st.tuples(
        st.sampled_from([*(f"p{n:02}" for n in range(14)), UNKNOWN_PROJECT]),
        st.sampled_from(["a", "b", "c", "d", "e"]),
    ),
    st.integers(1, 1000),
    min_size=1,
    max_size=40,
).map(lambda found: cells(*((*key, float(hours)) for key, hours in sorted(found.items()))))


class TestGuarantees:
    """For whatever projects there are, and whatever is asked for."""

    @given(many, st.integers(0, 16), st.integers(2, 6))
    @settings(max_examples=300)
    def test_what_is_published(self, rows, top, least):
        known = rows.filter(pl.col("project_id") != UNKNOWN_PROJECT)
        projects = known["project_id"].n_unique()
        if projects < least:
            with pytest.raises(UsageError, match=f"{projects} projects .* fewer than {least}"):
                published(rows, top, least)
            return
        table = published(rows, top, least)
        named = table.filter(pl.col("project_id") != EVERYTHING_ELSE)
        rest = table.filter(pl.col("project_id") == EVERYTHING_ELSE)
        # No cell stands for 1..k-1 projects, but those of the named, at most as many as asked for.
        assert (rest["projects"] >= least).all()
        assert set(named["projects"]) <= {1}
        names = named["project_id"].unique()
        assert names.len() <= top
        assert UNKNOWN_PROJECT not in names
        assert projects - names.len() == 0 or projects - names.len() >= least
        # Nothing is lost.
        assert table["node_hours"].sum() == pytest.approx(rows["node_hours"].sum())
        assert table["share"].sum() == pytest.approx(1)
        # A node type of its own is that of enough projects, and its cells are exactly its rows.
        for kind in table["node_type"].unique().to_list():
            if kind != OTHER_TYPES:
                of_kind = known.filter(pl.col("node_type") == kind)
                assert of_kind["project_id"].n_unique() >= least
                hours = table.filter(pl.col("node_type") == kind)["node_hours"].sum()
                both = rows.filter(pl.col("node_type") == kind)["node_hours"].sum()
                assert hours == pytest.approx(both)
        merged = rows.filter(~pl.col("node_type").is_in(table["node_type"].unique().implode()))
        if merged.height:
            others = merged.filter(pl.col("project_id") != UNKNOWN_PROJECT)
            assert others["project_id"].n_unique() >= least

    @given(many)
    @settings(max_examples=50)
    def test_the_named_are_the_greatest_and_the_order_of_rows_is_all_one(self, rows):
        projects = rows.filter(pl.col("project_id") != UNKNOWN_PROJECT)
        if projects["project_id"].n_unique() < 2:
            return
        table = published(rows, 3, 2)
        assert published(rows.sample(fraction=1, shuffle=True, seed=1), 3, 2).equals(table)
        sizes = projects.group_by("project_id").agg(pl.col("node_hours").sum())
        names = table["project_id"].unique().implode()
        inside = sizes.filter(pl.col("project_id").is_in(names))["node_hours"]
        outside = sizes.filter(~pl.col("project_id").is_in(names))["node_hours"]
        if inside.len() and outside.len():
            assert inside.min() >= outside.max()


class TestExamples:
    SIX = cells(*((f"p{n}", "a", 10.0 * n) for n in range(1, 7)))

    def test_the_greatest_are_named_and_all_others_are_one_row(self):
        table = published(self.SIX, 2, 3)
        assert table.select("project_id", "projects", "node_hours").rows() == [
            ("p6", 1, 60.0),
            ("p5", 1, 50.0),
            (EVERYTHING_ELSE, 4, 100.0),
        ]

    def test_fewer_are_named_where_the_rest_would_be_too_few(self):
        assert published(self.SIX, 4, 3)["project_id"].to_list() == [
            *("p6", "p5", "p4", EVERYTHING_ELSE),
        ]

    def test_where_all_are_named_nobody_is_left(self):
        assert EVERYTHING_ELSE not in published(self.SIX, 6, 3)["project_id"]

    def test_what_no_project_is_known_of_hides_among_enough(self):
        rows = pl.concat([self.SIX, cells((UNKNOWN_PROJECT, "a", 5.0))])
        assert published(rows, 6, 3).rows()[-1][:4] == (EVERYTHING_ELSE, "a", 3, 65.0)

    def test_a_node_type_of_too_few_is_merged_with_the_next(self):
        rows = pl.concat([self.SIX, cells(("p1", "rare", 1.0), ("p6", "b", 1.0))])
        table = published(rows, 0, 3)
        assert table.select("node_type", "projects", "node_hours").rows() == [
            (OTHER_TYPES, 6, 212.0)
        ]

    def test_periods_that_share_a_day_overlap(self):
        january = Period(datetime(2025, 1, 1), datetime(2025, 2, 1))
        assert january.overlaps(Period(datetime(2025, 1, 31), datetime(2025, 3, 1)))
        assert not january.overlaps(Period(datetime(2025, 2, 1), datetime(2025, 3, 1)))


class TestHeld:
    def test_what_was_leased_in_the_period(self):
        site = TinySite()
        site.host("h1", node_type="one")
        site.lease("L1", 1, 4)
        site.lease("L2", 5, 6.5, project_id="q")
        tables = site.outputs
        found = held(tables["usage_by_project"], tables["usage_timeline"], Period(day(2), day(6)))
        assert found.rows() == [("p", "one", 48.0), ("q", "one", 24.0)]

    def test_names_that_were_left_out_are_an_error(self):
        site = TinySite()
        site.host()
        site.lease("L1", 1, 4)
        tables = site.outputs
        nameless = tables["usage_by_project"].with_columns(project_id=pl.lit(ALL_PROJECTS))
        with pytest.raises(UsageError, match="--projects keep"):
            held(nameless, tables["usage_timeline"], Period(day(2), day(6)))


class TestCommand:
    @pytest.fixture
    def call(self, ran, usage):
        def site() -> TinySite:
            site = TinySite()
            for number in range(4):
                site.host(f"h{number}", node_type="one")
                site.lease(f"L{number}x", 1, 9, [f"b-h{number}"], project_id=f"p{number}")
            return site

        out = ran("projects", site, "--by-project")

        def asked(*args):
            site = ("--output", out, "--site", "chi_tacc")
            period = ("--start", "2020-01-01", "--end", "2020-01-11")
            return usage("projects", *site, *period, "--least", "2", *args)

        return asked

    def test_prints_and_writes_the_table(self, call, tmp_path):
        said = call("--top", "1", "--to", tmp_path / "public")
        assert said.status == 0, said.err
        assert EVERYTHING_ELSE in said.out
        [path] = (tmp_path / "public").iterdir()
        assert pl.read_csv(path)["node_hours"].to_list() == [192.0, 576.0]

    def test_warns_of_a_period_that_overlaps(self, call, tmp_path):
        assert "WARNING" not in call("--to", tmp_path).err
        assert "WARNING" not in call("--to", tmp_path).err  # the same again, in its place
        said = call("--to", tmp_path, "--end", "2020-01-05")
        assert said.status == 0
        assert "projects_chi_tacc_2020-01-01_2020-01-11.csv is of a time that overlaps" in said.err

    def test_tables_that_are_not_there_name_the_way_out(self, call, tmp_path):
        (tmp_path / "out" / "chi_tacc" / "usage_by_project.parquet").unlink()
        said = call()
        assert said.status == 1
        assert (
            "usage_by_project.parquet: not there; run 'chameleon-usage run --by-project'"
            in said.err
        )

    def test_too_few_projects_are_an_error(self, call):
        assert "choose a longer time" in call("--least", "5").err
