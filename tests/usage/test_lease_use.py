"""Use of leased nodes: each hour of a node is one lease's, used or idle, and adds up to usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from chameleon_usage.models.frames import conform
from chameleon_usage.models.stages import HeldPieces, Leases
from chameleon_usage.usage.buckets import Window
from chameleon_usage.usage.lease_use import (
    IDLE,
    add_up,
    attribute,
    claims_of,
    ended_early,
    ends_of,
    given_back,
    known_by,
    lease_use,
    settled,
    unsettled,
)
from support.sites import LIVELY, day, lively

START = day(0)
WINDOW = Window(START, day(60))
Row = tuple[str, str, int, int]


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def leased(claims: list[Row], stays: list[Row]) -> pl.DataFrame:
    """What leases hold and use: (lease, host, first hour, hour after the last) each."""
    rows = [
        (kind, f"r-{lease}", lease, host, at(start), at(end), 1, "gpu")
        for kind, part in (("committed", claims), ("occupied_reservation", stays))
        for lease, host, start, end in part
    ]
    names = ["quantity_type", "reservation_id", "lease_id", "hostname", "start", "end"]
    return conform(pl.DataFrame(rows, [*names, "nodes", "node_type"], orient="row"), HeldPieces)


def hours_of(held: pl.DataFrame) -> dict[tuple[str, str], float]:
    """Lease and what its nodes were to node-hours."""
    hours = (pl.col("end") - pl.col("start")).dt.total_seconds() / 3600 * pl.col("nodes")
    sums = held.group_by("lease", "what").agg(hours.sum()).sort("lease", "what")
    return {(lease, what): value for lease, what, value in sums.iter_rows()}


def leases_of(*rows: tuple[str, int, int | None], extended: bool | None = None) -> pl.DataFrame:
    """Leases: (id, hour of the end that was asked for, hour of the deletion)."""
    told = [
        (lease, at(end), None if gone is None else at(gone), START, "started", extended)
        for lease, end, gone in rows
    ]
    names = ["lease_id", "end_date", "deleted_at", "created_at", "outcome", "extended"]
    return conform(pl.DataFrame(told, names, orient="row"), Leases)


def known(**values: float | None) -> pl.DataFrame:
    """A timeline in which these count types have one value throughout."""
    days = [START.replace(tzinfo=UTC) + timedelta(days=day) for day in range(60)]
    return pl.concat(
        pl.DataFrame({"timestamp": days}).with_columns(
            collector_type=pl.lit("corrected"),
            count_type=pl.lit(name),
            value=pl.lit(value, pl.Float64),
        )
        for name, value in values.items()
    )


EVERYTHING = known(committed=1.0, occupied_reservation=1.0)


def table(
    frame: pl.DataFrame, leases: pl.DataFrame | None = None, told: pl.DataFrame = EVERYTHING
) -> pl.DataFrame:
    every = leases_of() if leases is None else leases
    return lease_use(add_up([attribute(frame)], every, WINDOW), told, "test")


def back_of(held: pl.DataFrame, leases: pl.DataFrame) -> pl.DataFrame:
    return given_back(held, ends_of(held.select(known_by("lease")), ended_early(leases)))


class TestWhichLease:
    def test_a_node_is_idle_before_between_and_after_its_instances(self):
        held = attribute(leased([("A", "h", 0, 24)], [("A", "h", 2, 5), ("A", "h", 9, 20)]))
        assert hours_of(held) == {
            ("A", "idle_before_h"): 2,
            ("A", "used_h"): 14,
            ("A", "idle_between_h"): 4,
            ("A", "idle_after_h"): 4,
        }

    def test_a_node_without_an_instance_was_never_used_though_its_lease_was(self):
        held = attribute(leased([("A", "h", 0, 9), ("A", "g", 0, 9)], [("A", "h", 0, 9)]))
        assert hours_of(held) == {("A", "used_h"): 9, ("A", "never_used_h"): 9}

    def test_of_several_claims_the_one_with_an_instance_counts(self):
        claims = [("A0", "h", 0, 1), ("A1", "h", 0, 1), ("A2", "h", 0, 1), ("A3", "h", 0, 9)]
        held = attribute(leased([*claims, ("A4", "h", 1, 2)], [("A4", "h", 1, 2)]))
        assert hours_of(held) == {
            ("A0", "never_used_h"): 1,
            ("A4", "used_h"): 1,
            ("A3", "never_used_h"): 7,
        }

    def test_of_claims_without_an_instance_the_first_counts(self):
        held = attribute(leased([("B", "h", 0, 5), ("A", "h", 2, 9)], []))
        assert hours_of(held) == {("B", "never_used_h"): 5, ("A", "never_used_h"): 4}

    def test_the_first_claim_has_the_node_again_when_the_other_leaves(self):
        held = attribute(leased([("B", "h", 0, 9), ("A", "h", 1, 9)], [("A", "h", 4, 6)]))
        assert hours_of(held) == {("B", "never_used_h"): 7, ("A", "used_h"): 2}

    def test_of_two_instances_the_first_counts(self):
        both = [("A", "h", 0, 9), ("B", "h", 0, 9)]
        held = attribute(leased(both, [("B", "h", 1, 5), ("A", "h", 3, 8)]))
        assert hours_of(held)[("B", "used_h")] == 4
        assert hours_of(held)[("A", "used_h")] == 3

    def test_an_instance_that_names_no_reservation_is_of_the_first_claim(self):
        frame = leased([("A", "h", 0, 9), ("B", "h", 1, 9)], [("B", "h", 2, 5)]).with_columns(
            pl.when(pl.col("quantity_type") == "committed").then("reservation_id")
        )
        assert hours_of(attribute(frame))[("A", "used_h")] == 3

    def test_nodes_that_nobody_names_are_never_used(self):
        frame = leased([("A", "h", 0, 2), ("B", "h", 0, 2)], [])
        frame = frame.with_columns(hostname=pl.lit(None, pl.Categorical), nodes=pl.lit(3, pl.Int64))
        assert hours_of(attribute(frame)) == {
            ("A", "never_used_h"): 6,
            ("B", "never_used_h"): 6,
        }

    def test_a_reservation_stands_for_a_lease_that_nobody_knows(self):
        frame = leased([("A", "h", 0, 2)], []).with_columns(lease_id=pl.lit(None, pl.Categorical))
        assert hours_of(attribute(frame)) == {("r-A", "never_used_h"): 2}


class TestGivenBack:
    def test_is_what_was_held_at_the_deletion_until_the_end(self):
        held = attribute(leased([("A", "h", 0, 4), ("A", "g", 0, 4), ("A", "left", 0, 2)], []))
        back = back_of(held, leases_of(("A", 24, 4)))
        assert hours_of(back) == {("A", "given_back_h"): 40}
        assert sorted(back["hostname"]) == ["g", "h"]

    @pytest.mark.parametrize("deleted", [None, 4, 5])
    def test_a_lease_that_reaches_its_end_gives_nothing_back(self, deleted):
        held = attribute(leased([("A", "h", 0, 4)], []))
        assert back_of(held, leases_of(("A", 4, deleted))).is_empty()


class TestTable:
    def test_a_month_and_type_have_a_row(self):
        claims = [("A", "h", 700, 800), ("B", "g", 0, 9), ("B", "f", 0, 9)]
        rows = table(leased(claims, [("A", "h", 750, 800)]), leases_of(("B", 10, 9))).rows(
            named=True
        )
        assert [(row["timestamp"].month, row["reserved_h"]) for row in rows] == [(1, 62), (2, 56)]
        january, february = rows
        assert (january["used_h"], january["idle_before_h"], january["never_used_h"]) == (0, 44, 18)
        assert (february["used_h"], february["idle_before_h"]) == (50, 6)
        assert (january["leases"], january["no_shows"], january["released_early"]) == (2, 1, 1)
        assert (january["given_back_h"], february["given_back_h"]) == (2, 0)
        assert (february["leases"], february["no_shows"]) == (0, 0)

    def test_where_use_is_not_known_it_is_null_and_what_is_held_is_not(self):
        told = known(committed=1.0, occupied_reservation=None)
        row = table(leased([("A", "h", 0, 9)], []), told=told).row(0, named=True)
        assert row["reserved_h"] == 9
        assert {row[name] for name in ("used_h", "no_shows", *IDLE)} == {None}

    def test_where_leases_are_not_known_there_is_no_row(self):
        told = known(committed=None, occupied_reservation=None)
        assert table(leased([("A", "h", 0, 9)], []), told=told).is_empty()

    @pytest.mark.parametrize(("extended", "counted"), [(None, None), (True, 1), (False, 0)])
    def test_extensions_are_counted_where_a_row_tells(self, extended, counted):
        rows = table(leased([("A", "h", 0, 9)], []), leases_of(("A", 9, None), extended=extended))
        assert rows["extended"].to_list() == [counted]

    @pytest.mark.parametrize("key", ["chi_tacc", "chi_edge"])
    def test_adds_up_to_usage(self, key):
        site = lively(key)
        rows, usage = site.outputs["lease_use"], site.outputs["usage_timeline"]
        means = usage.filter(pl.col("collector_type") == "corrected").group_by("count_type")
        hours = dict(means.agg(24 * pl.col("value").sum()).iter_rows())
        assert rows["reserved_h"].sum() == pytest.approx(hours["committed"], rel=1e-12)
        assert rows["used_h"].sum() == pytest.approx(hours["occupied_reservation"], rel=1e-12)
        assert rows.select(pl.sum_horizontal(IDLE)).sum().item() == pytest.approx(hours["idle"])

    def test_slices_of_kvm_hosts_are_left_out(self):
        assert "kvm_tacc" in LIVELY
        assert lively("kvm_tacc").outputs["lease_use"].is_empty()


class TestRanges:
    """What hosts make of leases adds up, in whichever ranges they come."""

    def test_a_lease_with_hosts_in_two_ranges_counts_once(self):
        frame = leased([("A", "h", 2, 9), ("A", "g", 0, 9), ("B", "g", 20, 30)], [("A", "h", 3, 4)])
        frame = frame.with_columns(node_type=pl.col("hostname"))
        parts = [frame.filter(hostname="h"), frame.filter(hostname="g")]
        leases = leases_of(("A", 12, 9), ("B", 30, None))
        whole, by_range = (
            lease_use(add_up(map(attribute, of), leases, WINDOW), EVERYTHING, "test")
            for of in ([frame], parts)
        )
        assert by_range.equals(whole)
        assert whole.select("node_type", "leases", "released_early", "no_shows").rows() == [
            ("g", 2, 1, 1),
            ("h", 0, 0, 0),
        ]

    def test_a_lease_that_one_range_does_not_know_is_told_by_another(self):
        named, other = leased([("A", "h", 0, 9)], []), leased([("B", "f", 0, 9)], [])
        unknown = named.with_columns(lease_id=pl.lit(None, pl.Categorical))
        parts = [claims_of(frame) for frame in (named, unknown, other)]
        told = unsettled(lambda: parts)
        assert told.rows() == [("r-A", "A")]
        assert settled(unknown, told)["lease_id"].to_list() == ["A"]
        assert unsettled(lambda: [parts[0], parts[2]]).is_empty()


# --- a second opinion: hour by hour, in SQL -----------------------------------------------------

ORACLE = """
WITH hours AS (SELECT unnest(range(0, 40)) AS hour),
claimed AS (
    SELECT hour, hostname, lease, min(start) AS since
    FROM claims JOIN hours ON hour >= start AND hour < "end"
    GROUP BY ALL
),
sitting AS (
    SELECT hour, hostname, lease, min(start) AS since
    FROM stays JOIN hours ON hour >= start AND hour < "end"
    GROUP BY ALL
),
on_it AS (  -- the instance that counts
    SELECT hour, hostname, arg_min(lease, (since, lease)) AS guest
    FROM sitting GROUP BY ALL
)
SELECT hour, hostname, coalesce(
        max(lease) FILTER (lease = guest), arg_min(lease, (since, lease))
    ) AS lease, any_value(guest) IS NOT NULL AS used
FROM claimed LEFT JOIN on_it USING (hour, hostname)
GROUP BY hour, hostname ORDER BY ALL
"""


def by_hour(claims: list[Row], stays: list[Row]) -> pl.DataFrame:
    """The lease of each host and hour and whether it is used, as DuckDB says."""
    names = ["lease", "hostname", "start", "end"]
    kinds = [pl.String, pl.String, pl.Int64, pl.Int64]
    frames = [
        pl.DataFrame(rows, dict(zip(names, kinds, strict=True)), orient="row")
        for rows in (claims, stays)
    ]
    with duckdb.connect() as session:
        for name, frame in zip(("claims", "stays"), frames, strict=True):
            session.register(name, frame.to_arrow())
        return session.sql(ORACLE).pl()


@st.composite
def nodes_and_leases(draw):
    """Claims of up to five leases on two hosts, and stays within them."""
    claims: list[Row] = []
    stays: list[Row] = []
    for lease in "ABCDE"[: draw(st.integers(1, 5))]:
        for host in ("g", "h"):
            edges = sorted(draw(st.sets(st.integers(0, 39), max_size=4)))
            for start, end in zip(edges[::2], edges[1::2], strict=False):
                claims.append((lease, host, start, end))
                stay = sorted(draw(st.sets(st.integers(start, end), max_size=2)))
                if len(stay) == 2:
                    stays.append((lease, host, *stay))
    return claims, stays


class TestSecondOpinion:
    @pytest.mark.parametrize("most", [20, pytest.param(60, marks=pytest.mark.slow)])
    def test_every_hour_of_a_node_is_of_the_lease_that_sql_finds(self, most):
        @settings(max_examples=most)
        @given(nodes_and_leases())
        def hold(drawn):
            claims, stays = drawn
            held = attribute(leased(claims, stays))
            hour = (pl.col("start") - START).dt.total_hours()
            last = (pl.col("end") - START).dt.total_hours()
            ours = (
                held.with_columns(hour=pl.int_ranges(hour, last))
                .explode("hour")
                .select("hour", "hostname", "lease", used=pl.col("what") == "used_h")
                .sort("hour", "hostname")
            )
            assert_frame_equal(ours, by_hour(claims, stays), check_dtypes=False)

        hold()

    def test_three_leases_on_a_node(self):
        claims = [
            *((lease, "h1", 0, 1) for lease in ("A0", "A1", "A2")),
            *(("A3", "h1", 0, 22), ("A4", "h1", 1, 2)),
        ]
        stays = [("A4", "h1", 1, 2)]
        hours = by_hour(claims, stays)
        assert hours.filter(lease="A4").rows() == [(1, "h1", "A4", True)]
        assert hours_of(attribute(leased(claims, stays)))[("A4", "used_h")] == 1

    @pytest.mark.parametrize("most", [15, pytest.param(40, marks=pytest.mark.slow)])
    def test_what_is_reserved_is_used_or_idle_and_no_order_matters(self, most):
        @settings(max_examples=most)
        @given(nodes_and_leases())
        def hold(drawn):
            claims, stays = drawn
            frame = leased(claims, stays)
            rows = table(frame)
            parts = rows.select(pl.sum_horizontal("used_h", *IDLE)).to_series()
            assert parts.to_list() == rows["reserved_h"].to_list()
            assert table(frame.reverse()).equals(rows)
            assert rows["leases"].sum() <= len({lease for lease, *_ in claims})

        hold()
