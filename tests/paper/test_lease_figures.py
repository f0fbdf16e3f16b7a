"""What leases say of their users: definitions by hand, another engine, and what always holds."""

from __future__ import annotations

from datetime import datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper import leases

T0 = datetime(2017, 6, 1)  # noqa: DTZ001 - naive UTC, as in the tables
HOUR = timedelta(hours=1)


def lease(
    lead: float, asked: float, deleted: float | None, *, user="u", gpu=False, nodes=1, site="a"
) -> dict[str, object]:
    """A lease made at T0, in hours: start after T0, length asked for, deletion after the start."""
    start = T0 + lead * HOUR
    return {
        "site": site,
        "user": user,
        "gpu": gpu,
        "nodes": nodes,
        "created_at": T0,
        "start": start,
        "end": start + asked * HOUR,
        "deleted_at": None if deleted is None else start + deleted * HOUR,
    }


def frame(*rows: dict[str, object]) -> pl.DataFrame:
    times = dict.fromkeys(["created_at", "start", "end", "deleted_at"], pl.Datetime("us"))
    return leases.measured(pl.DataFrame(rows, schema_overrides=times))


def value(table: pl.DataFrame, figure: str, nodes: str = "all", site: str = "a") -> float:
    return table.filter(site=site, era="all", nodes=nodes, figure=figure)["value"].item()


class TestFigures:
    LEASES = frame(
        lease(0, 48, 6),  # on demand, given back early
        lease(0, 168, None),  # a week, to its end
        lease(12, 200, 100),  # in advance, longer than a week, early
        lease(24, 24, -1),  # cancelled an hour before its start
        lease(100, 24, 25, gpu=True),  # deleted after its end
    )

    def test_quantities_of_a_lease(self):
        rows = self.LEASES.select("lead_h", "requested_h", "held_h", "early_h", "node_hours").rows()
        assert rows == [
            (0, 48, 6, 42, 6),
            (0, 168, 168, 0, 168),
            (12, 200, 100, 100, 100),
            (24, 24, -1, 25, 0),
            (100, 24, 24, -1, 24),
        ]

    @pytest.mark.parametrize(
        ("figure", "nodes", "expected"),
        [
            ("advance_share", "all", 3 / 5),
            ("advance_share", "gpu", 1),
            ("advance_lead_median_h", "all", 56),  # of 12 and 100: the cancelled one has none
            ("requested_median_h", "non_gpu", 108),
            ("actual_median_h", "all", 62),  # of 6, 24, 100 and 168
            ("released_early_share", "all", 3 / 5),
            ("cancelled_before_start_share", "all", 1 / 5),
            ("seven_day_share", "all", 1 / 5),
            ("longer_than_seven_days_share", "all", 1 / 5),
        ],
    )
    def test_figures_by_hand(self, figure, nodes, expected):
        assert value(leases.figures(self.LEASES), figure, nodes) == pytest.approx(expected)

    def test_a_lease_with_a_late_deletion_lasts_to_its_end_and_starts_when_it_was_made(self):
        (row,) = frame(lease(-2, 10, 50)).select("held_h", "lead_h").rows()
        assert row == (8, -2)

    @pytest.mark.parametrize(("minutes", "share"), [(10, 0), (10.5, 1)])
    def test_in_advance_is_more_than_ten_minutes_ahead(self, minutes, share):
        assert value(leases.figures(frame(lease(minutes / 60, 1, 1))), "advance_share") == share

    def test_sites_eras_and_kinds_of_nodes_have_their_own(self):
        late = lease(0, 1, 1, site="b") | {"created_at": datetime(2017, 12, 1)}  # noqa: DTZ001
        found = leases.figures(frame(lease(0, 1, 1), late)).filter(figure="seven_day_share")
        keys = set(found.select("site", "era", "nodes", "leases").iter_rows())
        assert {(s, "all", k, n) for s, n in (("a", 1), ("b", 1), (leases.BOTH, 2))
                for k in ("all", "non_gpu")} <= keys  # fmt: skip
        assert ("a", "before 2017-12", "all", 1) in keys
        assert ("b", "from 2017-12", "all", 1) in keys
        assert ("a", "from 2017-12", "all", 1) not in keys


class TestRobots:
    def test_a_robot_is_known_by_many_short_leases(self):
        many, short = leases.ROBOT_LEASES, leases.ROBOT_MINUTES / 60
        table = frame(
            *[lease(0, 1, short * 0.9, user="robot")] * many,
            *[lease(0, 1, short, user="slow")] * many,
            *[lease(0, 1, short * 0.9, user="rare")] * (many - 1),
        )
        (row,) = leases.robots(table).rows()
        assert row == ("a", "robot", many, pytest.approx(4.5), pytest.approx(many * 0.075))
        people = leases.without_robots(table)
        assert set(people["user"]) == {"slow", "rare"}
        assert people.height == 2 * many - 1

    def test_who_is_a_robot_at_one_site_is_not_so_at_another(self):
        many = leases.ROBOT_LEASES
        table = frame(*[lease(0, 1, 0.01)] * many, lease(0, 1, 0.01, site="b"))
        assert leases.without_robots(table)["site"].to_list() == ["b"]

    def test_half_of_the_leases_may_be_long(self):
        many = leases.ROBOT_LEASES
        table = frame(*[lease(0, 9, 0.01)] * (many + 1), *[lease(0, 9, None)] * (many - 1))
        assert leases.robots(table)["leases"].to_list() == [2 * many]


some_leases = st.lists(
    st.builds(
        lease,
        st.integers(-1, 400).map(lambda n: n / 4),
        st.integers(1, 900),
        st.none() | st.integers(-20, 900),
        user=st.sampled_from("xyz"),
        gpu=st.booleans(),
        nodes=st.integers(1, 3),
        site=st.sampled_from("ab"),
    ),
    min_size=1,
    max_size=25,
).map(lambda rows: frame(*rows))


class TestAlways:
    @pytest.mark.parametrize("most", [10, pytest.param(30, marks=pytest.mark.slow)])
    def test_another_engine_finds_the_same(self, most):
        @settings(max_examples=most)
        @given(some_leases)
        def hold(table):
            connection = duckdb.connect()
            connection.register("leases", table.to_arrow())
            told = connection.sql(
                """
                with l as (
                    select *, epoch(start - created_at) / 3600 as lead,
                        epoch("end" - start) / 3600 as asked,
                        epoch(least("end", deleted_at) - greatest(start, created_at)) / 3600 as held
                    from leases
                )
                select avg((lead > 1 / 6)::int), quantile_cont(asked, 0.5),
                    quantile_cont(held, 0.5) filter (held > 0),
                    quantile_cont(lead, 0.9) filter (lead > 1 / 6 and held > 0),
                    avg(coalesce(epoch("end" - deleted_at) > 300, false)::int),
                    avg((held <= 0)::int), sum(greatest(held, 0) * nodes)
                from l
                """
            ).fetchall()[0]
            site = leases.BOTH if table["site"].n_unique() > 1 else table["site"][0]
            found = leases.figures(table)
            names = (
                *("advance_share", "requested_median_h", "actual_median_h", "advance_lead_p90_h"),
                *("released_early_share", "cancelled_before_start_share"),
            )
            ours = [value(found, name, site=site) for name in names] + [table["node_hours"].sum()]
            assert ours == [None if v is None else pytest.approx(v) for v in told]

        hold()

    @settings(max_examples=20)
    @given(some_leases)
    def test_curves_fall_from_one_to_none_and_cross_the_median(self, table):
        curves = leases.survival(table, resamples=5)
        of = ["site", "era", "nodes", "quantity"]
        assert curves.select((pl.col("share").diff().over(of) > 1e-12).any()).item() is False
        assert curves.filter(pl.col("hours") == max(leases.HOURS))["share"].max() == 0
        assert curves.select(pl.col("share").is_between(0, 1).all()).item()
        assert curves.select((pl.col("low") <= pl.col("high")).all()).item()
        medians = leases.figures(table).filter(figure="requested_median_h")
        crossed = curves.filter(quantity="requested duration").join(
            medians.select("site", "era", "nodes", "value"), on=["site", "era", "nodes"]
        )
        longer = crossed.filter(pl.col("hours") >= pl.col("value"))["share"]
        assert longer.is_empty() or longer.max() <= 0.5

    @settings(max_examples=10)
    @given(some_leases)
    def test_the_same_leases_give_the_same_intervals_in_any_order(self, table):
        once, again = (
            leases.figures(t, resamples=8).filter(pl.col("figure").str.ends_with("share"))
            for t in (table, table.reverse())
        )
        assert once.equals(again)

    def test_an_interval_is_as_wide_as_users_differ(self):
        alike = frame(*[lease(0, 10, 5, user=u) for u in "abcdefgh"] * 3)
        found = leases.figures(alike, resamples=50).filter(nodes="all", era="all")
        told = found.drop_nulls("value")
        assert told.filter(
            (pl.col("low") != pl.col("value")) | (pl.col("high") != pl.col("value"))
        ).is_empty()
        apart = frame(*[lease(0, 10, 5, user="a")] * 30, *[lease(0, 10, None, user="b")] * 30)
        row = leases.figures(apart, resamples=200).filter(
            nodes="all", era="all", figure="released_early_share"
        )
        assert row.select("low", "value", "high").row(0) == (0, 0.5, 1)
