"""Input validation: what is read of raw tables, and what is refused."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.loader import RawInputs, load_raw_inputs
from support.sites import day, uid, write_table

if TYPE_CHECKING:
    from pathlib import Path

NODES = "nova.compute_nodes"
NODE = {"id": 1, "vcpus": 48, "hypervisor_hostname": "h1", "created_at": 0}


def load(folder: Path, *names: str, **options) -> RawInputs:
    return load_raw_inputs(folder, names or (NODES,), **options)


def refused(inputs: RawInputs) -> list[tuple[str, str, str]]:
    return sorted(inputs.rejects.select("source", "source_row_id", "reason").rows())


class TestTables:
    def test_only_the_declared_columns_are_read(self, tmp_path):
        path = write_table(tmp_path, NODES, [NODE])
        pl.read_parquet(path).with_columns(password=pl.lit("x")).write_parquet(path)
        table = load(tmp_path).tables[NODES]
        assert "password" not in table.columns
        assert table["hypervisor_hostname"].to_list() == ["h1"]

    def test_secret_columns_are_never_among_them(self):
        from chameleon_usage.models.raw import RAW_TABLES

        secret = {"user_data", "key_data", "environment", "websocket_token"}
        for name, table in RAW_TABLES.items():
            assert not secret & set(table.columns), name

    def test_a_column_of_a_later_release_is_null_where_it_is_missing(self, tmp_path):
        row = {"id": "a", "compute_host_id": "h", "reservation_id": "r", "created_at": 0}
        path = write_table(tmp_path, "blazar.computehost_allocations", [row])
        pl.read_parquet(path).drop("deleted_at").write_parquet(path)
        inputs = load(tmp_path, "blazar.computehost_allocations")
        table = inputs.tables["blazar.computehost_allocations"]
        assert table["deleted_at"].to_list() == [None]

    def test_an_absent_table_is_listed_and_reads_as_empty(self, tmp_path):
        write_table(tmp_path, NODES, [NODE])
        inputs = load(tmp_path, NODES, "nova.services", "blazar.events")
        assert set(inputs.absent) == {"nova.services", "blazar.events"}
        assert inputs.get("nova.services").is_empty()
        assert "created_at" in inputs.get("nova.services").columns

    def test_archived_rows_are_read_with_the_live_ones(self, tmp_path):
        write_table(tmp_path, "nova.instances", [{"uuid": "live", "created_at": 1}])
        path = write_table(tmp_path, "nova.instances", [{"uuid": "old", "created_at": 0}])
        path.rename(tmp_path / "nova.shadow_instances.parquet")
        write_table(tmp_path, "nova.instances", [{"uuid": "live", "created_at": 1}])
        table = load(tmp_path, "nova.instances").tables["nova.instances"]
        assert sorted(table["uuid"]) == ["live", "old"]

    def test_archived_hosts_and_services_are_read_too(self, tmp_path):
        path = write_table(tmp_path, NODES, [NODE | {"id": 1, "hypervisor_hostname": "old"}])
        path.rename(tmp_path / "nova.shadow_compute_nodes.parquet")
        write_table(tmp_path, NODES, [NODE | {"id": 2, "hypervisor_hostname": "new"}])
        path = write_table(tmp_path, "nova.services", [{"id": 1, "host": "old"}])
        path.rename(tmp_path / "nova.shadow_services.parquet")
        write_table(tmp_path, "nova.services", [{"id": 2, "host": "new"}])
        tables = load(tmp_path, NODES, "nova.services").tables
        assert sorted(tables[NODES]["hypervisor_hostname"]) == ["new", "old"]
        assert sorted(tables["nova.services"]["host"]) == ["new", "old"]

    def test_a_row_both_live_and_archived_counts_once(self, tmp_path):
        path = write_table(tmp_path, "nova.instances", [{"uuid": "u", "created_at": 1}])
        (tmp_path / "nova.shadow_instances.parquet").write_bytes(path.read_bytes())
        inputs = load(tmp_path, "nova.instances")
        assert inputs.tables["nova.instances"].height == 1
        assert refused(inputs) == [("nova.instances", "u", "duplicate row")]

    def test_request_specs_are_reduced_to_the_reservation(self, tmp_path):
        hint, flavor = uid("hint"), uid("flavor")
        rows = [
            {"instance_uuid": "a", "spec": f'{{"scheduler_hints": {{"reservation": "{hint}"}}}}'},
            {"instance_uuid": "b", "spec": f'{{"scheduler_hints": {{"reservation": ["{hint}"]}}}}'},
            {"instance_uuid": "c", "spec": f'{{"flavor": {{"name": "reservation:{flavor}"}}}}'},
            {"instance_uuid": "d", "spec": '{"flavor": {"name": "m1.small"}}'},
            {"instance_uuid": "e", "spec": None},
        ]
        write_table(tmp_path, "nova_api.request_specs", rows)
        write_table(tmp_path, NODES, [NODE])
        table = load(tmp_path, NODES, "nova_api.request_specs").tables["nova_api.request_specs"]
        assert "spec" not in table.columns
        assert table.sort("instance_uuid").select("hint", "flavor").rows() == [
            (hint, None),
            (hint, None),
            (None, flavor),
            (None, None),
            (None, None),
        ]


class TestTypes:
    @pytest.mark.parametrize(
        "text",
        [
            "2020-01-02 03:04:05",
            "2020-01-02T03:04:05",
            "2020-01-02 03:04:05.000000",
            "2020-01-02 03:04:05.9",
        ],
    )
    def test_times_as_text_to_the_whole_second(self, tmp_path, text):
        write_table(tmp_path, NODES, [NODE | {"created_at": text}])
        assert load(tmp_path).tables[NODES]["created_at"][0] == datetime(2020, 1, 2, 3, 4, 5)

    @pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
    def test_times_with_a_zone_become_utc(self, tmp_path, zone):
        path = write_table(tmp_path, NODES, [NODE])
        moment = pl.col("created_at").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        pl.read_parquet(path).with_columns(moment).write_parquet(path)
        assert load(tmp_path).tables[NODES]["created_at"].to_list() == [day(0)]

    @pytest.mark.parametrize("zero", ["0000-00-00 00:00:00", "0000-00-00", ""])
    def test_a_zero_date_is_null_and_no_reject(self, tmp_path, zero):
        write_table(tmp_path, NODES, [NODE | {"deleted_at": zero}])
        inputs = load(tmp_path)
        assert inputs.tables[NODES]["deleted_at"].to_list() == [None]
        assert refused(inputs) == []

    def test_what_cannot_be_read_is_refused_with_its_first_such_column(self, tmp_path):
        rows = [
            NODE,
            NODE | {"id": 2, "vcpus": "many"},
            NODE | {"id": 3, "vcpus": "lots", "created_at": "then"},
        ]
        write_table(tmp_path, NODES, rows)
        inputs = load(tmp_path)
        assert inputs.tables[NODES]["id"].to_list() == [1]
        assert inputs.rows[NODES] == 3
        assert refused(inputs) == [
            (NODES, "2", "unreadable vcpus"),
            (NODES, "3", "unreadable created_at"),
        ]

    def test_bytes_that_are_no_text_and_fractions_of_a_number_are_refused(self, tmp_path):
        path = write_table(tmp_path, NODES, [NODE | {"id": n} for n in range(5)])
        names = pl.Series([b"h1", b"\xff", None, b"", b"h5"], dtype=pl.Binary)
        sizes = pl.Series([48.0, 48.0, None, float("nan"), 0.5])
        pl.read_parquet(path).with_columns(host=names, vcpus=sizes).write_parquet(path)
        inputs = load(tmp_path)
        assert inputs.tables[NODES].select("id", "host", "vcpus").rows() == [
            (0, "h1", 48),
            (2, None, None),
            (3, None, None),
        ]
        assert refused(inputs) == [
            (NODES, "1", "unreadable host"),
            (NODES, "4", "unreadable vcpus"),
        ]

    @pytest.mark.parametrize("blank", ["", " ", "\t \n", "\u00a0", "\u2003\u3000"])
    @pytest.mark.parametrize("name", ["h2", " h2", "~h2", "\u00e9", "\u3000h2", "\x7f"])
    def test_a_blank_name_is_none_and_all_others_stay_as_they_are(self, tmp_path, blank, name):
        rows = [NODE | {"id": n, "host": host} for n, host in enumerate(["h1", blank, name, None])]
        write_table(tmp_path, NODES, rows)
        assert load(tmp_path).tables[NODES]["host"].to_list() == ["h1", None, name, None]

    def test_numbers_that_are_no_times_are_refused(self, tmp_path):
        path = write_table(tmp_path, NODES, [NODE])
        pl.read_parquet(path).with_columns(created_at=pl.lit(7)).write_parquet(path)
        (tmp_path / "manifest.json").write_text('{"as_of": "2020-02-01"}')
        assert refused(load(tmp_path)) == [(NODES, "1", "unreadable created_at")]


class TestKeys:
    def test_the_same_row_twice_counts_once(self, tmp_path):
        write_table(tmp_path, NODES, [NODE, NODE])
        inputs = load(tmp_path)
        assert inputs.tables[NODES].height == 1
        assert refused(inputs) == [(NODES, "1", "duplicate row")]

    def test_which_of_two_rows_stays_does_not_hang_on_their_order(self, tmp_path):
        one, other = NODE, NODE | {"vcpus": 24}
        kept = []
        for rows in ([one, other], [other, one]):
            write_table(tmp_path, NODES, rows)
            kept.append(load(tmp_path).tables[NODES]["vcpus"].to_list())
        assert kept[0] == kept[1]
        assert len(kept[0]) == 1

    def test_a_row_without_its_key_is_refused(self, tmp_path):
        write_table(tmp_path, NODES, [NODE, NODE | {"id": None}])
        inputs = load(tmp_path)
        assert inputs.tables[NODES].height == 1
        assert [reason for _, _, reason in refused(inputs)] == ["missing key"]


class TestAsOf:
    """The manifest's, else the greatest created, updated or deleted_at found; never an end_date."""

    LEASE = {  # noqa: RUF012
        "id": "L", "created_at": 1, "updated_at": 4, "deleted_at": 3, "start_date": 2,
        "end_date": 50,
    }  # fmt: skip

    def test_the_manifests(self, tmp_path):
        write_table(tmp_path, "blazar.leases", [self.LEASE])
        (tmp_path / "manifest.json").write_text(json.dumps({"as_of": "2020-03-01T12:00:00"}))
        assert load(tmp_path, "blazar.leases").as_of == datetime(2020, 3, 1, 12)

    @pytest.mark.parametrize("text", ["2020-03-01T12:00:00Z", "2020-03-01T06:00:00-06:00"])
    def test_the_manifests_is_turned_to_utc(self, tmp_path, text):
        write_table(tmp_path, "blazar.leases", [self.LEASE])
        (tmp_path / "manifest.json").write_text(json.dumps({"as_of": text}))
        assert load(tmp_path, "blazar.leases").as_of == datetime(2020, 3, 1, 12)

    @pytest.mark.parametrize("column", ["created_at", "updated_at", "deleted_at"])
    def test_else_the_last_thing_recorded(self, tmp_path, column):
        write_table(tmp_path, "blazar.leases", [self.LEASE, {"id": "M", column: 8}])
        assert load(tmp_path, "blazar.leases").as_of == day(8)

    def test_an_update_is_found_where_nothing_else_of_it_is_read(self, tmp_path):
        path = write_table(tmp_path, "nova.instances", [{"uuid": "u", "created_at": 1}])
        frame = pl.read_parquet(path).with_columns(updated_at=pl.lit(day(9), pl.Datetime("us")))
        frame.write_parquet(path)
        assert load(tmp_path, "nova.instances").as_of == day(9)

    def test_never_the_files_time(self, tmp_path):
        path = write_table(tmp_path, "blazar.leases", [self.LEASE])
        later = (datetime.now(UTC) + timedelta(days=1)).timestamp()
        os.utime(path, (later, later))
        assert load(tmp_path, "blazar.leases").as_of == day(4)

    def test_where_nothing_tells_it_the_way_out_is_named(self, tmp_path):
        write_table(tmp_path, "blazar.leases", [{"id": "L", "start_date": 2, "end_date": 9}])
        with pytest.raises(UsageError, match=r"manifest\.json with 'as_of'"):
            load(tmp_path, "blazar.leases")


class TestOtherLayouts:
    def test_files_of_other_makers_by_path_or_glob(self, tmp_path):
        header = (
            "id,vcpus,memory_mb,local_gb,hypervisor_hostname,hypervisor_type,created_at,deleted_at"
        )
        for number in (1, 2):
            (tmp_path / f"part{number}").mkdir()
            (tmp_path / f"part{number}" / "nodes.csv").write_text(
                f"{header}\n{number},48,1000,10,h{number},ironic,2020-01-01 00:00:00,\n"
            )
        inputs = load(tmp_path, files={NODES: "*/nodes.csv"})
        table = inputs.tables[NODES].sort("id")
        assert table.select("id", "hypervisor_hostname", "created_at", "deleted_at").rows() == [
            (1, "h1", day(0), None),
            (2, "h2", day(0), None),
        ]
