"""Wrong input, configuration or call: a message that names it and the way out, and no half output.

Whatever goes wrong, the command ends with a status that is not 0, without a traceback (the
``usage`` fixture lets no exception pass), and the output directory is as it was.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest
import yaml

from chameleon_usage.models.site import DEFAULT_SOURCES
from support.sites import PROJECT, TinySite, lively, lively_edge_site, lively_site, write_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG = PROJECT / "data" / "sites.yaml"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    lively_site().write(folder)
    return folder


@pytest.fixture
def raw(good, tmp_path) -> Path:
    """Raw tables of one good site, to be spoilt."""
    return shutil.copytree(good, tmp_path / "raw")


@pytest.fixture
def fails(usage, tmp_path):
    """Run over ``raw`` and return the message of the failure, which must leave nothing behind."""

    def run(*args: str | Path, output: Path = tmp_path / "out") -> str:
        defaults = {"--config": CONFIG, "--data-dir": tmp_path / "raw", "--output": output}
        given = [part for item in defaults.items() if item[0] not in args for part in item]
        before = sorted(tmp_path.rglob("*"))
        said = usage("run", *given, *args)
        assert said.status != 0, said.err
        assert "Traceback" not in said.err
        new = set(tmp_path.rglob("*")) - set(before)
        assert new <= {output}, new
        return said.err

    return run


def site_file(raw: Path, table: str) -> Path:
    return raw / "chi_tacc" / f"{table}.parquet"


class TestDirectories:
    def test_a_missing_data_directory(self, fails, tmp_path):
        message = fails("--data-dir", tmp_path / "nowhere")
        assert str(tmp_path / "nowhere") in message
        assert "make data" in message
        assert "--data-dir" in message

    @pytest.mark.usefixtures("raw")
    def test_a_data_directory_without_the_named_site(self, fails, tmp_path):
        message = fails("--site", "chi_uc")
        assert str(tmp_path / "raw" / "chi_uc") in message
        assert "--data-dir" in message

    def test_a_data_directory_without_any_site(self, fails, tmp_path):
        (tmp_path / "raw").mkdir()
        message = fails()
        assert str(tmp_path / "raw") in message
        assert "chi_tacc" in message

    def test_a_site_directory_without_tables(self, fails, tmp_path):
        (tmp_path / "raw" / "chi_tacc").mkdir(parents=True)
        message = fails()
        assert str(tmp_path / "raw" / "chi_tacc") in message
        assert "<schema>.<table>.parquet" in message

    @pytest.mark.usefixtures("raw")
    def test_an_output_that_cannot_be_written(self, fails, tmp_path):
        (tmp_path / "taken").write_text("a file, not a directory")
        message = fails("--output", tmp_path / "taken", output=tmp_path / "taken")
        assert str(tmp_path / "taken") in message
        assert "name another directory" in message
        assert (tmp_path / "taken").read_text() == "a file, not a directory"


class TestTables:
    def test_an_empty_table(self, fails, raw):
        path = site_file(raw, "nova.compute_nodes")
        pl.read_parquet(path).clear().write_parquet(path)
        message = fails()
        assert "nova.compute_nodes" in message
        assert "no row" in message or "empty" in message
        assert "extract" in message

    def test_only_empty_tables(self, fails, raw):
        (raw / "chi_tacc" / "manifest.json").unlink()
        for path in (raw / "chi_tacc").glob("*.parquet"):
            pl.read_parquet(path).clear().write_parquet(path)
        message = fails()
        assert str(raw / "chi_tacc") in message
        assert "extract" in message or "manifest.json" in message

    @pytest.mark.parametrize("keep", [0, 3, 0.5, 0.98])
    def test_a_truncated_parquet_file(self, fails, raw, keep):
        path = site_file(raw, "blazar.leases")
        whole = path.read_bytes()
        path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
        message = fails()
        assert str(path) in message
        assert "blazar.leases" in message
        assert "extract it again" in message

    def test_a_file_that_is_no_parquet(self, fails, raw):
        path = site_file(raw, "nova.instances")
        path.write_text("uuid,node\n1,2\n")
        message = fails()
        assert str(path) in message
        assert "extract it again" in message

    @pytest.mark.parametrize(
        ("table", "column"),
        [
            ("nova.compute_nodes", "hypervisor_hostname"),
            ("nova.instances", "node"),
            ("blazar.computehosts", "hypervisor_hostname"),
            ("blazar.leases", "start_date"),
            ("blazar.reservations", "lease_id"),
            ("blazar.computehost_allocations", "compute_host_id"),
            ("chameleon_usage.node_usage_report_cache", "total_hours"),
        ],
    )
    def test_a_table_without_a_required_column(self, fails, raw, table, column):
        path = site_file(raw, table)
        pl.read_parquet(path).drop(column).write_parquet(path)
        message = fails()
        assert str(path) in message
        assert f"lacks the column {column}" in message
        assert "extract" in message

    def test_a_missing_table_names_the_adapter_and_the_ways_out(self, fails, raw):
        site_file(raw, "nova.compute_nodes").unlink()
        message = fails()
        for word in ("nova_hosts", "nova.compute_nodes", "extract", "--skip-missing"):
            assert word in message

    def test_a_missing_table_can_be_skipped(self, usage, raw, tmp_path):
        site_file(raw, "nova.instances").unlink()
        said = usage(
            *("run", "--config", CONFIG, "--data-dir", raw, "--output", tmp_path / "out"),
            "--skip-missing",
        )
        assert said.status == 0, said.err
        assert "nova.instances" in said.err
        timeline = pl.read_parquet(tmp_path / "out" / "chi_tacc" / "usage_timeline.parquet")
        known = timeline.filter(pl.col("value").is_not_null() & (pl.col("value") > 0))
        types = known.filter(pl.col("collector_type") == "corrected")["count_type"].unique()
        assert "committed" in types
        assert "occupied" not in types

    def test_an_absent_optional_table_is_reported_and_skipped(self, usage, raw, tmp_path):
        site_file(raw, "nova_api.request_specs").unlink()
        said = usage("run", "--config", CONFIG, "--data-dir", raw, "--output", tmp_path / "out")
        assert said.status == 0, said.err
        assert "nova_api.request_specs" in said.err

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "",
            "[]",
            "{}",
            '{"as_of": null}',
            '{"as_of": 20200101}',
            '{"as_of": "yesterday"}',
            '"2020-01-01"',
        ],
    )
    def test_a_broken_manifest(self, fails, raw, text):
        manifest = raw / "chi_tacc" / "manifest.json"
        manifest.write_text(text)
        message = fails()
        assert str(manifest) in message
        assert "as_of" in message
        assert "ISO" in message

    def test_one_bad_site_leaves_nothing_of_itself(self, usage, raw, tmp_path):
        """Sites are independent: what was good before stays."""
        out = tmp_path / "out"
        call = ("run", "--config", CONFIG, "--data-dir", raw, "--output", out)
        assert usage(*call).status == 0
        before = {path: path.read_bytes() for path in sorted(out.rglob("*.parquet"))}
        site_file(raw, "blazar.leases").write_bytes(b"PAR1")
        assert usage(*call).status != 0
        assert {path: path.read_bytes() for path in sorted(out.rglob("*.parquet"))} == before
        assert [path.name for path in out.iterdir()] == ["chi_tacc"]


@pytest.mark.usefixtures("raw")
class TestCall:
    def test_an_unknown_site(self, fails):
        message = fails("--site", "chi_mars")
        assert "chi_mars" in message
        assert "chi_tacc" in message

    @pytest.mark.parametrize("end", ["2019-01-01", "2020-01-01"])
    def test_a_start_that_is_not_before_the_end(self, fails, end):
        message = fails("--start", "2020-01-01", "--end", end)
        assert "--start" in message
        assert "2020-01-01" in message
        assert f"--end {end}" in message

    def test_a_date_that_is_none(self, fails):
        assert "'soon'" in fails("--start", "soon")

    @pytest.mark.parametrize("bucket", ["fortnight", "1", "0d", "-1d", ""])
    def test_a_bucket_that_is_no_length_of_time(self, fails, bucket):
        message = fails("--bucket", bucket)
        assert "--bucket" in message
        assert "1h" in message

    @pytest.mark.parametrize("stage", ["facts", "segments", "usage"])
    def test_a_stage_that_was_never_saved(self, fails, tmp_path, stage):
        message = fails("--site", "chi_tacc", "--from", stage)
        assert str(tmp_path / "out" / "chi_tacc") in message
        assert "chameleon-usage run" in message

    def test_an_unknown_stage(self, fails):
        assert "facts" in fails("--from", "the-middle")


@pytest.mark.usefixtures("raw")
class TestConfiguration:
    @pytest.fixture
    def fails_with(self, fails, tmp_path):
        def run(**changes: object) -> str:
            entry = yaml.safe_load(CONFIG.read_text())["chi_tacc"] | changes
            path = tmp_path / "sites.yaml"
            path.write_text(yaml.safe_dump({"chi_tacc": entry}))
            message = fails("--config", path)
            assert str(path) in message
            assert "chi_tacc" in message
            return message

        return run

    def test_an_unknown_adapter(self, fails_with):
        message = fails_with(adapters=["nova_hosts", "crystal_ball"])
        assert "crystal_ball" in message
        assert "blazar_hosts" in message

    def test_no_adapter(self, fails_with):
        assert "adapters" in fails_with(adapters=[])

    def test_an_unknown_key(self, fails_with):
        message = fails_with(adaptors=["nova_hosts"])
        assert "adaptors" in message
        assert "adapters" in message

    def test_an_unknown_policy(self, fails_with):
        message = fails_with(sources={"total": {"policy": "majority", "order": ["witnesses"]}})
        assert "majority" in message
        assert "gap-fill" in message

    def test_a_source_priority_without_order(self, fails_with):
        assert "order" in fails_with(sources={"total": {"policy": "gap-fill", "order": []}})

    def test_a_source_priority_that_is_no_mapping(self, fails_with):
        assert "sources" in fails_with(sources={"total": "nova.compute_nodes"})

    def test_an_unknown_quantity_type(self, fails_with):
        message = fails_with(
            sources={"totals": {"policy": "gap-fill", "order": ["nova.compute_nodes"]}}
        )
        assert "totals" in message
        assert "total" in message

    def test_an_unknown_source(self, fails_with):
        message = fails_with(
            sources={"total": {"policy": "gap-fill", "order": ["nova.compute_node"]}}
        )
        assert "nova.compute_node" in message

    def test_a_source_that_tells_nothing_of_the_quantity(self, fails_with):
        order = ["nova.compute_nodes", "blazar.computehosts"]
        message = fails_with(sources={"total": {"policy": "gap-fill", "order": order}})
        assert "blazar.computehosts tells nothing of total" in message
        assert "witnesses" in message

    @pytest.mark.parametrize("quantity", ["committed", "occupied", "active"])
    def test_a_policy_that_a_quantity_does_not_have(self, quantity, fails_with):
        order = list(DEFAULT_SOURCES[quantity].order)
        message = fails_with(sources={quantity: {"policy": "supplement", "order": order}})
        assert f"policy of {quantity} must be authoritative" in message

    def test_a_known_gap_without_a_date(self, fails_with):
        message = fails_with(known_gaps=[{"source": "nova.compute_nodes", "before": "early"}])
        assert "known_gaps" in message

    def test_an_address_where_a_reference_belongs(self, fails_with):
        """A password must not stand in the configuration, nor in a message."""
        message = fails_with(db_uri="mysql://reader:s3cret@db/nova")
        assert "db_uri" in message
        assert "s3cret" not in message

    def test_a_merge_tolerance_that_is_no_duration(self, fails_with):
        assert "merge_tolerance" in fails_with(merge_tolerance="a while")

    def test_a_longest_lease_that_is_no_duration(self, fails_with):
        assert "'longest_lease' must be a duration like 15m or 7d" in fails_with(
            longest_lease="a week"
        )

    @pytest.mark.parametrize("cells", ["nova", [], ["nova", "nova"], ["nova_api"], ["cell 1"]])
    def test_cells_that_are_none(self, fails_with, cells):
        assert "'cells' must be a list of the databases" in fails_with(cells=cells)

    @pytest.mark.parametrize("text", ["", "- chi_tacc", "chi_tacc: [", "\x00"])
    def test_a_file_that_is_no_configuration(self, fails, tmp_path, text):
        path = tmp_path / "sites.yaml"
        path.write_text(text)
        assert str(path) in fails("--config", path)

    def test_a_missing_file(self, fails, tmp_path):
        assert str(tmp_path / "none.yaml") in fails("--config", tmp_path / "none.yaml")


@pytest.fixture
def plain() -> Mapping[str, pl.DataFrame]:
    """What the lively site gives as it is."""
    return lively("chi_tacc").outputs


class TestBadRowsDoNotStopTheRun:
    """Good rows go on, bad ones are in the rejects with a reason."""

    def run(self, site: TinySite, raw: Path, **columns: pl.Expr) -> Mapping[str, pl.DataFrame]:
        """Run through files with a table's columns changed as another dump may have them."""
        from chameleon_usage import pipeline

        folder = site.write(raw)
        for name, expression in columns.items():
            path = folder / f"{name.replace('__', '.')}.parquet"
            pl.read_parquet(path).with_columns(expression).write_parquet(path)
        site.facts = pipeline.facts(site.site, raw)[0]
        return site.outputs

    @staticmethod
    def same(left: Mapping[str, pl.DataFrame], right: Mapping[str, pl.DataFrame]) -> None:
        for name in ("usage_timeline", "usage_by_resource", "rejects", "leadtime_leases"):
            assert left[name].equals(right[name]), name

    def test_integers_and_times_as_text_are_read_as_what_they_say(self, plain, tmp_path):
        texts = self.run(
            lively_site(),
            tmp_path / "b" / "raw",
            nova__compute_nodes=pl.all().cast(pl.String),
            blazar__leases=pl.all().cast(pl.String),
            blazar__computehosts=pl.all().cast(pl.String),
        )
        self.same(plain, texts)

    @pytest.mark.parametrize("zone", ["UTC", "America/Chicago"])
    def test_times_with_a_zone_are_the_same_moments(self, plain, tmp_path, zone):
        times = pl.col(pl.Datetime("us")).dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        zoned = self.run(
            lively_site(),
            tmp_path / "b" / "raw",
            blazar__leases=times,
            blazar__computehost_allocations=times,
            nova__instances=times,
        )
        self.same(plain, zoned)

    @pytest.mark.parametrize("unit", ["ms", "ns"])
    def test_times_in_another_unit_are_the_same_moments(self, plain, tmp_path, unit):
        times = pl.col(pl.Datetime("us")).dt.cast_time_unit(unit)
        other = self.run(lively_site(), tmp_path / "b" / "raw", blazar__leases=times)
        self.same(plain, other)

    def test_unknown_extra_columns_are_ignored(self, plain, tmp_path):
        more = self.run(
            lively_site(),
            tmp_path / "b" / "raw",
            nova__instances=pl.lit("secret").alias("user_data"),
            blazar__leases=pl.lit(1).alias("start"),
        )
        self.same(plain, more)

    def test_unreadable_values_are_rejected_row_by_row(self, tmp_path):
        site = TinySite()
        site.hypervisor("h1", 0, vcpus="many")
        site.hypervisor("h2", "the day before")
        site.hypervisor("h3", 0)
        tables = self.run(site, tmp_path / "raw")
        rejects = tables["rejects"].filter(pl.col("source") == "nova.compute_nodes")
        reasons = dict(rejects.select("source_row_id", "reason").iter_rows())
        assert reasons == {"1": "unreadable vcpus", "2": "unreadable created_at"}
        total = tables["usage_timeline"].filter(
            (pl.col("collector_type") == "uncorrected") & (pl.col("count_type") == "total")
        )
        assert total["value"].to_list() == [1.0] * 10

    def test_a_zero_date_is_no_value_and_no_error(self, tmp_path):
        site = TinySite()
        site.hypervisor("h1", 0, "0000-00-00 00:00:00")
        site.hypervisor("h2", 0, 4)
        tables = self.run(site, tmp_path / "raw")
        total = tables["usage_timeline"].filter(
            (pl.col("collector_type") == "corrected") & (pl.col("count_type") == "total")
        )
        assert total["value"].to_list() == [2, 2, 2, 2, 1, 1, 1, 1, 1, 1]

    def test_duplicated_rows_count_once(self, plain, tmp_path):
        site = lively_site()
        for name in ("nova.compute_nodes", "blazar.leases", "nova.instances"):
            site.tables[name] += site.tables[name][:3]
        twice = self.run(site, tmp_path / "b" / "raw")
        assert plain["usage_by_resource"].equals(twice["usage_by_resource"])
        assert plain["leadtime_leases"].equals(twice["leadtime_leases"])
        again = twice["rejects"].filter(
            (pl.col("reason") == "duplicate row")
            & ~pl.col("source").cast(pl.String).str.starts_with("chameleon_usage")
        )
        assert sorted(again.group_by("source").len().rows()) == [
            ("blazar.leases", 3),
            ("nova.compute_nodes", 3),
            ("nova.instances", 3),
        ]

    def test_a_row_without_its_key_is_rejected(self, tmp_path):
        site = TinySite()
        site.hypervisor("h1", 0)
        site.hypervisor("h2", 0, id=None)
        tables = self.run(site, tmp_path / "raw")
        rejects = tables["rejects"].filter(pl.col("source") == "nova.compute_nodes")
        assert rejects["reason"].to_list() == ["missing key"]
        total = tables["usage_timeline"].filter(
            (pl.col("collector_type") == "corrected") & (pl.col("count_type") == "total")
        )
        assert total["value"].to_list() == [1.0] * 10

    def test_dangling_keys_are_rejected_with_their_reason(self, tmp_path):
        site = lively_site()
        site.allocation("never leased", "b-h1", 2)
        tables = self.run(site, tmp_path / "raw")
        rejects = tables["rejects"].filter(
            (pl.col("source") == "blazar.computehost_allocations") & (pl.col("stage") == "ingest")
        )
        assert "reservation is gone" in rejects["reason"].to_list()

    def test_an_edge_device_without_a_name_is_not_lost_in_silence(self, tmp_path):
        site = lively_edge_site()
        site.device("x", 2, name=None)
        tables = self.run(site, tmp_path / "raw")
        assert "d-x" in tables["rejects"]["source_row_id"].to_list()


def test_the_writer_of_these_tables_writes_zero_dates_as_text(tmp_path):
    path = write_table(tmp_path, "nova.compute_nodes", [{"created_at": "0000-00-00 00:00:00"}])
    assert pl.read_parquet(path)["created_at"].to_list() == ["0000-00-00 00:00:00"]
