"""The recorded thresholds: the method's own among them, and the same when measured again."""

from __future__ import annotations

import polars as pl
import pytest

from paper import errors, thresholds

WRITTEN = errors.services_sites()


class TestRecord:
    def test_has_the_level_of_the_method(self):
        record = thresholds.read_record()
        for threshold, level in thresholds.OURS.items():
            assert level in thresholds.LEVELS[threshold]
            assert set(record.filter(threshold=threshold)["level"]) == set(
                thresholds.LEVELS[threshold]
            )

    def test_has_every_site(self):
        written = {errors.services_site(*place) for place in WRITTEN}
        assert set(thresholds.read_record()["site"]) == {*thresholds.SITES, *written}

    @pytest.mark.skipif(not WRITTEN, reason="no site that the services wrote is here")
    def test_measured_again_it_is_the_same(self):
        release, site = WRITTEN[0]
        kept = thresholds.read_record().filter(site=errors.services_site(release, site))
        again = thresholds.measure_services(release, site)
        assert again.drop("error", "known_days").rows() == kept.drop("error", "known_days").rows()
        for column in ("error", "known_days"):
            assert (again[column] - kept[column]).abs().max() <= 2e-6

    def test_at_the_level_of_the_method_they_are_the_recorded_errors(self):
        both = (
            thresholds.read_record()
            .filter(threshold="known_share", level=thresholds.OURS["known_share"])
            .join(errors.read_record(), on=["site", "count_type"], suffix="_recorded", how="inner")
            .filter(pl.col("site").str.starts_with("services/"))
        )
        assert both.height
        assert (both["error"] - both["error_recorded"]).abs().max() <= 2e-6


class TestTables:
    RECORD = pl.DataFrame(
        [
            ("services/2023.1/kvm", "known_share", "0.9", "committed", 0.02, 0.5),
            ("services/2023.1/kvm", "known_share", "0.95", "committed", 0.01, 0.4),
            ("services/2026.2/kvm", "known_share", "0.95", "committed", 0.00, 0.2),
        ],
        schema=thresholds.COLUMNS,
        orient="row",
    )

    def test_of_the_releases_the_worst_error_and_the_mean_of_days(self):
        found = thresholds.at_services(self.RECORD, "committed")
        assert found.select("level", "kvm_error", "kvm_days").rows() == [
            ("0.9", 0.02, 0.5),
            ("0.95", 0.01, pytest.approx(0.3)),
        ]

    def test_what_another_level_changes_most(self):
        moved = thresholds.most_moved(self.RECORD, "known_share")
        assert moved.rows() == [
            ("services/2023.1/kvm", pytest.approx(0.01), pytest.approx(0.1)),
            ("services/2026.2/kvm", 0, 0),
        ]
