"""Several sources of one host make one history: the three policies, second by second."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.vocabulary import POLICIES
from chameleon_usage.reconstruct.hosts import resolve_source_priority
from support.every_second import (
    at,
    disjoint,
    held,
    quick,
    seconds_of,
    some_intervals,
)

SOURCES = ("high", "middle", "low")


def told(*rows: tuple[str, str, int, int]) -> pl.DataFrame:
    """Segments of host, source, start, end."""
    return pl.DataFrame(
        [
            {"key": key, "source": source, "start": at(start), "end": at(end), "inferred": False}
            for key, source, start, end in rows
        ],
        schema={
            "key": pl.String,
            "source": pl.String,
            "start": pl.Datetime("us"),
            "end": pl.Datetime("us"),
            "inferred": pl.Boolean,
        },
    )


def resolve(segments: pl.DataFrame, policy: str, fillers=("low",)) -> list[tuple]:
    resolved = resolve_source_priority(
        segments, policy=policy, order=SOURCES, on=["key"], fillers=fillers
    )
    return [
        (
            row["key"],
            row["source"],
            seconds_of(row["start"]),
            seconds_of(row["end"]),
            row["inferred"],
        )
        for row in resolved.sort("key", "start").iter_rows(named=True)
    ]


@st.composite
def some_told(draw) -> pl.DataFrame:
    parts = [
        arithmetic.union(draw(some_intervals(most=4)), ["key"]).with_columns(
            source=pl.lit(name), inferred=pl.lit(value=False)
        )
        for name in SOURCES
    ]
    return pl.concat(parts)


class TestResolveSourcePriority:
    def test_authoritative_the_first_source_that_knows_the_host_wins_throughout(self):
        rows = told(("a", "middle", 5, 8), ("a", "low", 0, 20), ("b", "low", 1, 2))
        assert [r[:4] for r in resolve(rows, "authoritative")] == [
            ("a", "middle", 5, 8),
            ("b", "low", 1, 2),
        ]

    def test_gap_fill_before_the_first_row_a_lower_source_speaks(self):
        rows = told(("a", "high", 10, 15), ("a", "middle", 5, 12))
        assert resolve(rows, "gap-fill") == [
            ("a", "middle", 5, 10, True),
            ("a", "high", 10, 15, False),
        ]

    def test_gap_fill_after_the_last_row_only_indirect_evidence_is_believed(self):
        """A source knows a host from its first row to as_of; its rows can be lost meanwhile."""
        rows = told(("a", "high", 0, 5), ("a", "middle", 4, 12), ("a", "low", 0, 20))
        assert resolve(rows, "gap-fill") == [("a", "high", 0, 5, False), ("a", "low", 5, 20, True)]

    def test_gap_fill_between_the_rows_indirect_evidence_makes_the_host_present(self):
        rows = told(("a", "high", 0, 5), ("a", "high", 9, 12), ("a", "low", 4, 8))
        assert resolve(rows, "gap-fill") == [
            ("a", "high", 0, 5, False),
            ("a", "low", 5, 8, True),
            ("a", "high", 9, 12, False),
        ]

    def test_gap_fill_a_source_that_is_no_filler_leaves_the_gap(self):
        rows = told(("a", "high", 0, 5), ("a", "high", 9, 12), ("a", "middle", 4, 8))
        assert [r[1:4] for r in resolve(rows, "gap-fill")] == [("high", 0, 5), ("high", 9, 12)]

    def test_supplement_any_source_that_says_yes(self):
        rows = told(("a", "high", 3, 5), ("a", "middle", 4, 8), ("a", "low", 0, 20))
        assert [r[1:4] for r in resolve(rows, "supplement")] == [
            ("low", 0, 3),
            ("high", 3, 5),
            ("middle", 5, 8),
            ("low", 8, 20),
        ]

    def test_a_source_that_is_not_listed_is_ignored(self):
        assert resolve(told(("a", "hearsay", 0, 5)), "supplement") == []

    def test_an_unknown_policy_is_named_with_the_choice(self):
        with pytest.raises(ValueError, match=r"'majority'.*authoritative, gap-fill, supplement"):
            resolve(told(("a", "high", 0, 5)), "majority")

    @quick
    @given(some_told(), st.sampled_from(POLICIES))
    def test_one_history_per_host_within_what_was_told(self, rows, policy):
        resolved = resolve_source_priority(
            rows, policy=policy, order=SOURCES, on=["key"], fillers=["low"]
        )
        assert disjoint(resolved, "key")
        assert set(held(resolved, "key", "source")) <= set(held(rows, "key", "source"))
        high = {k for k in held(rows, "key", "source") if k[1] == "high"}
        assert {k for k in held(resolved, "key", "source") if k[1] == "high"} == high

    @quick
    @given(some_told())
    def test_agrees_with_the_rules_second_by_second(self, rows):
        said = set(held(rows, "key", "source"))
        for policy in POLICIES:
            expected = set()
            for key in "ab":
                history: dict[int, str] = {}
                for source in SOURCES:
                    mine = {t for k, name, t in said if (k, name) == (key, source)}
                    believed = {t for t in mine if self.believed(policy, source, t, set(history))}
                    history |= dict.fromkeys(believed, source)
                expected |= {(key, source, second) for second, source in history.items()}
            resolved = resolve_source_priority(
                rows, policy=policy, order=SOURCES, on=["key"], fillers=["low"]
            )
            assert set(held(resolved, "key", "source")) == expected, policy

    @staticmethod
    def believed(policy: str, source: str, second: int, higher: set[int]) -> bool:
        """Whether a source is believed at a second, given those that the higher ones hold.

        A source knows a host from its first row on; where it has no row only the filler speaks.
        """
        if not higher:
            return True
        if policy == "authoritative" or second in higher:
            return False
        if policy == "supplement":
            return True
        return second < min(higher) or source == "low"

    @quick
    @given(some_told(), st.sampled_from(POLICIES), st.randoms())
    def test_does_not_depend_on_the_order_of_rows(self, rows, policy, random):
        order = list(range(rows.height))
        random.shuffle(order)
        assert resolve(rows[order] if order else rows, policy) == resolve(rows, policy)
