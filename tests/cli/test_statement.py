"""A project's month: the totals are those of the tables, and the page needs nothing else."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

from datetime import datetime
from html.parser import HTMLParser

import polars as pl
import pytest

from chameleon_usage import pipeline
from chameleon_usage.cli import statement_page
from chameleon_usage.errors import UsageError
from chameleon_usage.usage.buckets import Window
from chameleon_usage.usage.statement import ALL_TYPES, LEASED, STATES, statement
from chameleon_usage.viz import palette
from support.sites import DAY0, TinySite, day

JANUARY = datetime(2020, 1, 1)


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    site = TinySite(as_of=60)
    site.host("h1", node_type="one")
    site.host("h2", node_type="two")
    site.lease("L1", -1, 9, ["b-h1", "b-h2"], created_at=-1)
    site.lease("L2", 20, 40, ["b-h1"], project_id="q<i>")
    site.instance("I1", "h1", 0, 2, lease="L1", active=0.5)
    site.instance("I2", "h2", 1, 9, lease="L1", active=1.25)
    return pipeline.outputs(
        site.stage_by_project, site.site, Window(DAY0, day(60)), by_project=pl.DataFrame.clone
    )


@pytest.fixture(scope="module")
def told(tables):
    return statement(tables, "chi_tacc", "p", JANUARY)


class TestNumbers:
    def test_held_is_what_the_table_says(self, told, tables):
        assert told.held == 2 * 9 * 24
        rows = tables["usage_by_project"].filter(
            pl.col("project_id") == "p", pl.col("resource") == "nodes"
        )
        for name in ("committed", "occupied", "idle"):
            whole = told.use.filter(
                pl.col("count_type") == name,
                pl.col("resource") == "nodes",
                pl.col("node_type") == ALL_TYPES,
            )
            expected = rows.filter(pl.col("count_type") == name)["value"].sum() * 24
            assert whole["hours"].item() == pytest.approx(expected)

    def test_node_types_add_up(self, told):
        key = ["count_type", "resource"]
        whole = told.use.filter(pl.col("node_type") == ALL_TYPES)
        typed = told.use.filter(pl.col("node_type") != ALL_TYPES)
        sums = typed.group_by(key).agg(parts=pl.col("hours").sum())
        both = whole.join(sums, on=key)
        assert both.height == whole.height > 0
        assert (both["hours"] - both["parts"]).abs().max() < 1e-9

    def test_days_add_up_to_what_is_held(self, told):
        assert told.days["timestamp"].n_unique() == 31
        total = told.days.select(pl.sum_horizontal(*STATES, LEASED).sum()).item()
        assert total == pytest.approx(told.held)
        assert told.days[LEASED].sum() == 0

    def test_the_share_of_the_site(self, told):
        committed = told.use.filter(
            pl.col("count_type") == "committed", pl.col("resource") == "nodes"
        )
        both = 2 * 9 + 11
        assert committed["share"][0] == pytest.approx(18 / both)
        assert committed["share"].null_count() == committed.height - 1
        assert set(committed["known_share"]) == {1.0}

    def test_sessions(self, told):
        assert told.sessions.row(0, named=True) == {
            "node_type": ALL_TYPES,
            "started": 2,
            "ended": 2,
            "present": 2,
            "launched": 2,
            "build_hours": (12 + 6) / 2,
        }

    def test_who_was_there_before_is_present_and_has_not_started(self, tables):
        site = TinySite(as_of=60)
        site.host("h1", start=-10)
        site.lease("L1", -5, 40)
        site.instance("I1", "h1", -4, 35, lease="L1")
        made = pipeline.outputs(
            site.stage_by_project, site.site, Window(DAY0, day(60)), by_project=pl.DataFrame.clone
        )
        row = statement(made, "chi_tacc", "p", JANUARY).sessions.row(0, named=True)
        assert (row["started"], row["ended"], row["present"]) == (0, 0, 1)
        assert row["build_hours"] is None

    def test_where_use_is_unknown_what_was_leased_is_told(self, tables):
        lease = tables["usage_by_project"].filter(pl.col("count_type") == "committed")
        told = statement(tables | {"usage_by_project": lease}, "chi_tacc", "p", JANUARY)
        assert told.days[LEASED].sum() == pytest.approx(told.held)

    @pytest.mark.parametrize(
        ("project", "month", "said"),
        [
            ("nobody", JANUARY, "project nobody has no use in 2020-01"),
            ("p", datetime(2020, 2, 1), "project p has no use"),
            ("p", datetime(2020, 3, 1), "not all of 2020-03"),
            ("p", datetime(2019, 12, 1), "not all of 2019-12"),
        ],
    )
    def test_what_cannot_be_told(self, tables, project, month, said):
        tables = {**tables}
        with pytest.raises(UsageError, match=said):
            statement(tables, "chi_tacc", project, month)

    def test_buckets_that_do_not_fit_a_month(self, tables):
        weeks = {
            name: frame.filter(pl.col("timestamp").dt.ordinal_day() % 7 == 3)
            if "timestamp" in frame.columns
            else frame
            for name, frame in tables.items()
        }
        with pytest.raises(UsageError, match="--bucket 1d"):
            statement(weeks, "chi_tacc", "p", datetime(2020, 2, 1))


class Elements(HTMLParser):
    """The elements of a page, and its attributes; it says which are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


class TestPage:
    def test_needs_nothing_else(self, told):
        text = statement_page.page(told)
        read = Elements(text)
        assert read.open == []
        assert {"svg", "table", "h1"} <= set(read.names)
        assert not {"script", "link", "img", "iframe", "object"} & set(read.names)
        assert not [name for name, _ in read.attributes if name in ("src", "href", "onload")]
        assert "://" not in text
        assert "@import" not in text

    def test_the_chart_says_what_it_shows(self, told):
        text = statement_page.chart(told.days)
        label = dict(Elements(text).attributes)["aria-label"]
        assert label.startswith("Node-hours of each day, at most 48.0")
        assert text.count("<rect") > 9

    def test_a_name_is_no_markup(self, tables):
        text = statement_page.page(statement(tables, "chi_tacc", "q<i>", JANUARY))
        assert "q<i>" not in text
        assert "q&lt;i&gt;" in text

    def test_colours_are_those_of_the_book(self):
        for name, colour in statement_page.COLOURS.items():
            assert colour == palette.STATES[name]


class TestCommand:
    @pytest.fixture
    def out(self, ran):
        def site() -> TinySite:
            site = TinySite(as_of=60)
            site.host("h1", node_type="one")
            site.lease("L1", 1, 9)
            return site

        return ran("statement", site, "--start", "2020-01-01", "--by-project")

    def call(self, usage, out, target):
        where = ("--output", out, "--site", "chi_tacc", "--to", target)
        return usage("statement", *where, "--project", "p", "--month", "2020-01")

    def test_writes_two_tables_and_a_page(self, usage, out, tmp_path):
        said = self.call(usage, out, tmp_path / "to")
        assert said.status == 0, said.err
        stem = "statement_chi_tacc_p_2020-01"
        assert {path.name for path in (tmp_path / "to").iterdir()} == {
            *(f"{stem}.csv", f"{stem}_days.csv", f"{stem}.html"),
        }
        totals = pl.read_csv(tmp_path / "to" / f"{stem}.csv")
        assert totals.row(0)[:4] == ("Committed", "all", 192.0, "nodes x hours")
        assert pl.read_csv(tmp_path / "to" / f"{stem}_days.csv").height == 31

    def test_twice_the_same_bytes(self, usage, out, tmp_path):
        for name in ("one", "two"):
            self.call(usage, out, tmp_path / name)
        one, two = (
            {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
            for name in ("one", "two")
        )
        assert one == two

    def test_a_site_that_was_not_run_by_project_names_the_way_out(self, usage, out, tmp_path):
        (out / "chi_tacc" / "sessions_by_project.parquet").unlink()
        said = self.call(usage, out, tmp_path / "to")
        assert said.status == 1
        assert "sessions_by_project.parquet: not there; run 'chameleon-usage run --by" in said.err
