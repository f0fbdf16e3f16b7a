"""What the notebooks tabulate: eras, causes, outcomes, and cells that say what is not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.viz.tables import ALL
from paper import tables
from paper.eras import ERAS, era_label, era_of

STAMP = pl.Datetime("us", "UTC")


def year(number: int) -> datetime:
    return datetime(number, 1, 1, tzinfo=UTC)


def daily(
    site: str, values: dict[str, float | None], years=range(2019, 2021), collector="corrected"
):
    """A usage timeline of whole years with the same values on every day."""
    days = pl.datetime_range(
        year(years[0]), year(years[-1] + 1) - timedelta(days=1), "1d", eager=True, time_zone="UTC"
    )
    return pl.concat(
        pl.DataFrame({"timestamp": days.cast(STAMP)}).select(
            pl.lit(site).alias("site"),
            "timestamp",
            pl.lit(collector).alias("collector_type"),
            pl.lit(kind).alias("count_type"),
            pl.lit(value, pl.Float64).alias("value"),
        )
        for kind, value in values.items()
    )


class TestEras:
    @pytest.mark.parametrize(
        ("when", "name"),
        [(2016, "2016_2017"), (2017, "2016_2017"), (2021, "2020_2021"), (2025, "2022_on")],
    )
    def test_each_year_has_one(self, when, name):
        assert pl.select(era_of(pl.lit(year(when)))).item() == name

    def test_readers_see_a_dash(self):
        names = pl.DataFrame({"era": list(ERAS.values())}).select(era_label(pl.col("era")))
        assert names["era"].to_list() == ["2016–2017", "2018–2019", "2020–2021", "2022 on"]


class TestOneSite:
    def test_years_without_a_node_are_left_out_and_unknown_is_empty(self):
        usage = pl.concat(
            [
                daily("a", {"total": 0, "occupied": 0}, range(2018, 2019)),
                daily("a", {"total": 4, "occupied": None}, range(2019, 2020)),
                daily("a", {"total": 4, "occupied": 1}, range(2020, 2021)),
            ]
        )
        table = tables.corrected_by_year(tables.yearly_means(usage), ["total", "occupied"])
        assert table.rows() == [(2019, 4, None), (2020, 4, 1)]

    def test_causes_are_added_up_by_era_the_rest_last(self):
        causes = pl.DataFrame(
            [
                (year(2016), "total", "rest", 600.0),
                (year(2017), "total", "a", 400.0),
                (year(2016), "total", "a", 200.0),
                (year(2022), "total", "a", -700.0),
                (year(2022), "total", "small", 499.0),
                (year(2022), "occupied", "a", 900.0),
            ],
            schema={
                "timestamp": STAMP,
                "count_type": pl.String,
                "cause": pl.String,
                "node_hours": pl.Float64,
            },
            orient="row",
        )
        table = tables.causes_by_era(causes)
        assert table.columns == ["count_type", "cause", "2016–2017", "2022 on"]
        assert table.rows() == [
            (METRICS["total"].label, "a", 600, -700),
            (METRICS["total"].label, "rest", 600, None),
            (METRICS["occupied"].label, "a", None, 900),
        ]

    def test_leases_are_counted_by_outcome_the_most_first(self):
        leases = pl.DataFrame(
            {
                "outcome": ["error", "started", "started"],
                "requested_h": [None, -0.5, -0.1],
                "effective_h": [None, 1.0, 3.0],
            },
            schema_overrides={"requested_h": pl.Float64},
        )
        assert tables.lease_outcomes(leases).rows() == [
            ("started", 2, 0, 2),
            ("error", 1, None, None),
        ]

    def test_duplicate_hours_are_those_of_total(self):
        audit = pl.DataFrame(
            [
                ("corrected total", "duplicate of another row of the host", 2.0),
                ("corrected total", "no start", 3.0),
                ("corrected reservable", "duplicate of another row of the host", 5.0),
            ],
            schema=["stage", "reason", "hours"],
            orient="row",
        )
        assert tables.duplicate_hours(audit) == 2


class TestAllSites:
    @pytest.fixture
    def by_year(self):
        known = {
            "total": 10.0,
            "reservable": 10.0,
            "committed": 4.0,
            "occupied": 2.0,
            "ondemand_capacity": 0.0,
        }
        late = {
            "total": 6.0,
            "reservable": 6.0,
            "committed": 3.0,
            "occupied": None,
            "ondemand_capacity": 0.0,
        }
        usage = pl.concat([daily("a", known), daily("late", late, range(2020, 2021))])
        return tables.sites_by_year(usage)

    def test_a_site_whose_record_has_not_begun_has_a_dash(self, by_year):
        cells = tables.total_cells(by_year, ["a", "late", ALL])
        assert cells.rows() == [(2019, "10.0", "–", "10.0"), (2020, "10.0", "6.0", "16.0")]

    def test_unknown_use_is_unknown_of_a_site_and_at_least_of_all(self, by_year):
        cells = tables.used_cells(by_year, ["a", "late", ALL])
        assert cells.rows() == [(2019, "2.0", "–", "2.0"), (2020, "2.0", "unknown", "≥ 2.0")]

    def test_a_share_lies_between_bounds(self, by_year):
        cells = tables.share_cells(by_year, ["a", "late", ALL])
        assert cells.rows() == [
            (2019, "20.0%", "–", "20.0%"),
            (2020, "20.0%", "unknown", "12.5–31.2%"),
        ]

    def test_only_known_shares_are_cited(self, by_year):
        shares = tables.used_shares(by_year)
        assert shares.rows() == [("a", 2019, 0.2), ("a", 2020, 0.2), (ALL, 2019, 0.2)]
