"""What is no longer needed of the raw tables goes, and nothing that an adapter reads goes early."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage.ingest.loader import load_raw_inputs
from chameleon_usage.ingest.registry import ADAPTERS, run_adapters
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.raw_inputs import RawInputs
from support.sites import day, write_table

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = "blazar.events"


def events(folder: Path) -> Path:
    """Three events of one lease, of which one tells when it began."""
    kinds = [("start_lease", "DONE"), ("start_lease", "UNDONE"), ("end_lease", "DONE")]
    write_table(
        folder,
        EVENTS,
        [
            {
                "id": str(number),
                "lease_id": "L",
                "event_type": kind,
                "status": status,
                "time": number,
                "updated_at": 1,
            }
            for number, (kind, status) in enumerate(kinds)
        ],
    )
    return folder


def dated(folder: Path) -> Path:
    (folder / "manifest.json").write_text(json.dumps({"as_of": day(9).isoformat()}))
    return folder


def days_of(folder: Path) -> tuple[list[int], int]:
    inputs = load_raw_inputs(folder, [EVENTS])
    days = (inputs.tables[EVENTS]["time"] - day(0)).dt.total_days()
    return sorted(days), inputs.rows[EVENTS]


class TestRows:
    def test_rows_that_no_adapter_reads_go_and_are_counted_as_found(self, tmp_path):
        assert days_of(dated(events(tmp_path))) == ([0], 3)

    def test_without_a_manifest_all_stay_to_tell_when_they_were_read(self, tmp_path):
        assert days_of(events(tmp_path)) == ([0, 1, 2], 3)

    def test_with_earlier_snapshots_all_stay_to_tell_what_became_of_them(self, tmp_path):
        (tmp_path / "history").mkdir()
        assert days_of(dated(events(tmp_path))) == ([0, 1, 2], 3)

    @pytest.mark.parametrize("history", [False, True])
    def test_a_column_goes_with_the_rows(self, tmp_path, history):
        if history:
            (tmp_path / "history").mkdir()
        table = load_raw_inputs(dated(events(tmp_path)), [EVENTS]).tables[EVENTS]
        assert ("id" in table.columns) == history

    @pytest.mark.parametrize(
        ("deleted", "kept"), [("r", "1"), ("0", "0"), (None, None), ("", None)]
    )
    def test_of_the_mark_of_a_deleted_row_no_more_stays_than_that(self, tmp_path, deleted, kept):
        name = "blazar.computehost_allocations"
        write_table(tmp_path, name, [{"id": "a", "created_at": 0, "deleted": deleted}])
        assert load_raw_inputs(dated(tmp_path), [name]).tables[name]["deleted"].to_list() == [kept]

    def test_reservations_of_addresses_go_and_unknown_ones_stay(self, tmp_path):
        name = "blazar.reservations"
        kinds = ["physical:host", "virtual:floatingip", "network", "strange", None]
        rows = [{"id": str(n), "resource_type": kind} for n, kind in enumerate(kinds)]
        write_table(tmp_path, name, rows)
        inputs = load_raw_inputs(dated(tmp_path), [name])
        assert inputs.tables[name]["id"].to_list() == ["0", "3", "4"]
        assert inputs.rows[name] == 5

    def test_a_row_that_comes_twice_is_refused_before_it_goes(self, tmp_path):
        path = events(tmp_path) / f"{EVENTS}.parquet"
        rows = pl.read_parquet(path)
        pl.concat([rows, rows[2:]]).write_parquet(path)
        inputs = load_raw_inputs(dated(tmp_path), [EVENTS])
        assert inputs.rejects["source_row_id"].to_list() == ["2"]
        assert inputs.rows[EVENTS] == 4


class TestTables:
    @pytest.mark.parametrize("name", ADAPTERS)
    def test_an_adapter_reads_only_tables_that_it_declares(self, name, monkeypatch):
        asked: set[str] = set()
        get = RawInputs.get

        def noted(self: RawInputs, table: str) -> pl.DataFrame:
            asked.add(table)
            return get(self, table)

        monkeypatch.setattr(RawInputs, "get", noted)
        ADAPTERS[name].read(no_rows())
        adapter = ADAPTERS[name]
        assert asked <= {*adapter.tables, *adapter.optional, *adapter.beside}

    def test_a_table_goes_with_the_last_adapter_that_reads_it(self, monkeypatch):
        from chameleon_usage.ingest import registry

        held: dict[str, set[str]] = {}

        def noted(name: str, _accounts: object, inputs: RawInputs, _result: object) -> None:
            held[name] = set(inputs.tables)

        monkeypatch.setattr(registry, "check_rows", noted)
        inputs = no_rows()
        inputs.rows.update(dict.fromkeys(inputs.rows, 1))
        run_adapters(inputs, ["blazar_leases", "nova_instances", "maintenance"])
        assert EVENTS in held["blazar_leases"]
        assert EVENTS not in held["nova_instances"]
        assert "nova.instances" in held["nova_instances"]
        assert held["maintenance"] == {"chameleon_usage.node_maintenance"}
        assert not inputs.tables


def no_rows() -> RawInputs:
    tables = {name: pl.DataFrame(schema=table.kept) for name, table in RAW_TABLES.items()}
    none = pl.DataFrame(schema=dict.fromkeys(("source", "source_row_id", "reason"), pl.String))
    return RawInputs(tables, none, dict.fromkeys(tables, 0), (), day(9))
