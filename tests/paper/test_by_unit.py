"""Errors by host, node type and lease, and of what is inferred, each against examples and SQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_twin.calibration import Profile
from chameleon_usage import pipeline
from chameleon_usage.viz.base import as_text
from paper import by_unit, seeds
from paper.truth import means_by, seconds_held
from paper.twins import WINDOW, twin_of

DAY = datetime(2019, 1, 1)  # noqa: DTZ001 - the services keep naive UTC
TINY = Profile("tiny", 1.0)


def rows(*told: tuple[str, str | None, float, float], inferred: bool = False) -> pl.DataFrame:
    """Committed intervals from (host, node type, first hour, last hour)."""
    at = [(h, t, DAY + timedelta(hours=a), DAY + timedelta(hours=b), 1.0) for h, t, a, b in told]
    schema: dict[str, Any] = {
        "host": pl.String,
        "node_type": pl.String,
        "start": pl.Datetime("us"),
        "end": pl.Datetime("us"),
        "nodes": pl.Float64,
    }
    return pl.DataFrame(at, schema=schema, orient="row").with_columns(
        quantity_type=pl.lit("committed"),
        collector_type=pl.lit("corrected"),
        inferred=pl.lit(inferred),
    )


def known(*values: float | None) -> pl.DataFrame:
    """Published values of the first days."""
    days = [DAY.replace(tzinfo=UTC) + timedelta(days=n) for n in range(len(values))]
    return pl.DataFrame(
        {
            "timestamp": pl.Series(days, dtype=pl.Datetime("us", "UTC")),
            "collector_type": "corrected",
            "count_type": "committed",
            "value": pl.Series(values, dtype=pl.Float64),
        }
    )


def by(errors: pl.DataFrame) -> dict[str, float]:
    return dict(errors.select("measure", "value").iter_rows())


class TestHostsAndTypes:
    def test_hours_on_a_wrong_host_count_twice(self):
        truth = rows(("a", "x", 0, 24), ("b", "x", 0, 24))
        wrong = rows(("a", "x", 0, 24), ("c", "x", 0, 24))
        found = by(by_unit.errors_by(wrong, truth, known(2, 0)))
        assert found == {"error_host": pytest.approx(1), "error_node_type": pytest.approx(0)}

    def test_a_type_that_is_not_known_counts_where_it_was_and_where_it_was_not(self):
        truth = rows(("a", "x", 0, 24), ("b", "x", 0, 24))
        untyped = rows(("a", "x", 0, 24), ("b", None, 0, 24))
        found = by(by_unit.errors_by(untyped, truth, known(2, 0)))
        assert found == {"error_host": pytest.approx(0), "error_node_type": pytest.approx(1)}

    def test_days_that_are_not_published_are_not_judged(self):
        truth = rows(("a", "x", 0, 48))
        found = by(by_unit.errors_by(rows(("a", "x", 12, 24)), truth, known(0.5, None)))
        assert found["error_host"] == pytest.approx(0.5)

    def test_as_the_published_table_by_host_and_sql_say(self):
        with twin_of("chi_uc", 7, size=TINY) as twin:
            stage = pipeline.segments(twin.facts, twin.entry)
            tables = pipeline.outputs(stage, twin.entry, WINDOW, by_host=True)
            truth = twin.truth("intervals")
        usage = as_text(tables["usage_timeline"])
        counted = by_unit.as_intervals(stage.segments)
        found = by_unit.errors_by(counted, truth, usage).filter(measure="error_host")
        for count in ("total", "committed"):
            for collector in by_unit.READINGS:
                published = as_text(tables["usage_by_host"]).filter(
                    count_type=count, collector_type=collector
                )
                ours = found.filter(count_type=count, collector_type=collector)
                assert ours.height == 4
                expected = self.by_sql(published, truth.filter(quantity_type=count))
                for era, value in ours.select("era", "value").iter_rows():
                    assert value == pytest.approx(expected[era], abs=1e-9), (count, collector, era)

    def by_sql(self, published: pl.DataFrame, truth: pl.DataFrame) -> dict[str, float]:
        """Errors by host of the days of an era, from the published table, without the pipeline."""
        query = """
        WITH days AS (
            SELECT unnest(generate_series(TIMESTAMP '2016-01-01', '2025-12-31', '1 day')) AS day
        ), ours AS (
            SELECT hypervisor_hostname AS host, timezone('UTC', timestamp) AS day, sum(value) AS v
            FROM published GROUP BY ALL
        ), theirs AS (
            SELECT host, day, sum(nodes * epoch(least("end", day + INTERVAL 1 DAY)
                - greatest(start, day))) / 86400 AS t
            FROM truth JOIN days ON start < day + INTERVAL 1 DAY AND day < "end" GROUP BY ALL
        )
        SELECT CASE WHEN year(day) < 2018 THEN '2016_2017' WHEN year(day) < 2020 THEN '2018_2019'
            WHEN year(day) < 2022 THEN '2020_2021' ELSE '2022_on' END AS era,
            sum(abs(coalesce(v, 0) - coalesce(t, 0))) / sum(t)
        FROM ours FULL JOIN theirs USING (host, day) GROUP BY era
        """
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            database.register("published", published)
            database.register("truth", truth)
            return dict(database.sql(query).fetchall())

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", None]),
                st.integers(-5, 40),
                st.integers(1, 20),
                st.integers(1, 3),
            ),
            max_size=8,
        )
    )
    @settings(max_examples=50, deadline=None)
    def test_means_of_groups_are_those_of_each_alone(self, told):
        edges = np.array([0, 10, 20, 30]) + int(DAY.replace(tzinfo=UTC).timestamp())
        frame = pl.DataFrame(
            [(g, DAY + timedelta(seconds=a), DAY + timedelta(seconds=a + n), k)
             for g, a, n, k in told],
            schema={"g": pl.String, "start": pl.Datetime("us"), "end": pl.Datetime("us"),
                    "nodes": pl.Int64}, orient="row",
        )  # fmt: skip
        found = means_by(frame, "g", pl.Series(["", "a", "b"]), edges)
        for row, group in enumerate((None, "a", "b")):
            for column in range(3):
                seconds = range(10 * column, 10 * column + 10)
                held = sum(
                    k for g, a, n, k in told if g == group for s in seconds if a <= s < a + n
                )
                assert found[row, column] == pytest.approx(held / 10)


class TestLeases:
    def leases(self, *told: tuple[str, str, float, float]) -> pl.DataFrame:
        plain = rows(*((host, None, a, b) for _, host, a, b in told))
        return plain.select("host", "start", "end").insert_column(
            0, pl.Series("lease_id", [lease for lease, *_ in told])
        )

    def test_only_hours_on_its_own_hosts_are_found(self):
        leases = self.leases(("1", "a", 0, 10), ("1", "b", 0, 10), ("2", "c", 0, 20))
        counted = rows(("a", None, 0, 10), ("c", None, 0, 30), ("d", None, 0, 10))
        found = by_unit.errors_of_leases(counted, leases, (DAY, DAY + timedelta(days=9)))
        of = by(found.filter(collector_type="corrected"))
        assert of == {"error_lease": pytest.approx(10 / 40), "leases_off": 0.5}

    def test_a_host_that_is_counted_twice_is_found_once(self):
        counted = rows(("a", None, 0, 6), ("a", None, 4, 8))
        held = seconds_held(self.leases(("1", "a", 0, 10)), counted)
        assert held.tolist() == [8 * 3600]

    def test_a_plan_holds_as_long_as_it_was_the_plan(self):
        at = [DAY + timedelta(days=n) for n in range(6)]
        knowledge = pl.DataFrame(
            {
                "lease_id": ["1", "1"],
                "host": ["a", "a"],
                "known_from": [at[0], at[2]],
                "known_to": [at[2], None],
                "start": [at[1], at[1]],
                "end": [at[3], at[5]],
            },
            schema_overrides={"known_to": pl.Datetime("us")},
        )
        held = by_unit.held_by_leases(knowledge, at[4])
        assert held.select("start", "end").rows() == [(at[1], at[2]), (at[2], at[4])]


class TestInferred:
    def test_it_is_right_where_the_truth_has_that_host(self):
        truth = rows(("a", None, 0, 30))
        counted = pl.concat(
            [rows(("a", None, 0, 10)), rows(("a", None, 10, 20), ("b", None, 0, 10), inferred=True)]
        )
        eras = pl.DataFrame({"era": ["x"], "since": [DAY], "until": [DAY + timedelta(days=2)]})
        found = by(by_unit.errors_of_inferred(counted, truth, eras))
        assert found == {"inferred": pytest.approx(2 / 3), "inferred_wrong": pytest.approx(0.5)}


class TestRecord:
    def test_has_every_run_and_no_other(self):
        assert set(seeds.read_record().select(seeds.RUN).unique().rows()) == set(seeds.runs())

    def test_is_sorted_and_each_row_once(self):
        record = seeds.read_record()
        assert record.rows() == record.sort(seeds.KEY).rows()
        assert record.select(seeds.KEY).is_unique().all()

    def test_a_tiny_twin_gives_every_measure_and_shares(self):
        found = seeds.measure("chi_uc", 1, size=TINY)
        assert set(found["measure"]) == set(seeds.read_record()["measure"])
        shares = found.filter(~pl.col("measure").str.starts_with("error"))["value"]
        assert shares.is_between(0, 1).all()

    @pytest.mark.slow
    def test_made_again_it_is_the_same(self):
        kept = seeds.read_record().filter(site="chi_uc", seed=2016, steered_by="odd")
        again = seeds.measure("chi_uc", 2016, "odd")
        assert again.drop("value").rows() == kept.drop("value").rows()
        assert (again["value"] - kept["value"]).abs().max() <= 2e-6


def test_the_folder_of_a_twin_is_gone_when_it_is_measured():
    with twin_of("chi_edge", 1, size=TINY) as twin:
        assert twin.truth("intervals").height
        folder = twin.folder
    assert not folder.exists()
