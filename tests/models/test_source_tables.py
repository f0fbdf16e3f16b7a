"""The declarations of the input tables: whole, about columns that are there, and all of use."""

from __future__ import annotations

import polars as pl
import pytest

from chameleon_usage.ingest.registry import ADAPTERS, tables_of
from chameleon_usage.models.raw import AT_THEIR_WORD, QUANTITIES, RAW_TABLES, RawTable
from chameleon_usage.models.site import ALLOWED_SOURCES, DEFAULT_SOURCES

TABLES = sorted(RAW_TABLES)
ENDING = ("deleted_at", "end_time", "valid_to", "end_on")
"""How columns are called that say until when a row holds."""


@pytest.mark.parametrize("name", ["label", "required", "begin", "end", "tells"])
def test_what_every_declaration_must_say_cannot_be_left_out(name):
    said = {"label": "x", "required": {}, "begin": None, "end": None, "tells": ()}
    RawTable(**said)
    with pytest.raises(TypeError, match=name):
        RawTable(**{key: value for key, value in said.items() if key != name})


@pytest.mark.parametrize("table", TABLES)
class TestEachTable:
    def test_it_speaks_of_columns_that_it_has(self, table):
        spec = RAW_TABLES[table]
        single = (spec.begin, spec.end, spec.flag, spec.held_host, spec.one_at_a_time)
        named = {*spec.key, *spec.entity, *spec.written_over, *spec.slot, *filter(None, single)}
        if spec.ending_status:
            named |= {spec.ending_status.column, spec.ending_status.at}
        assert named <= set(spec.columns)
        assert set(spec.taken_away) <= set(spec.kept)
        times = {spec.begin, spec.end} - {None}
        assert {spec.columns[column] for column in times} <= {pl.Datetime("us")}

    def test_a_column_that_ends_rows_is_declared_as_their_end(self, table):
        """Else a row that is gone from a later snapshot would live for ever."""
        spec = RAW_TABLES[table]
        ends = [column for column in ENDING if column in spec.columns]
        if ends and not spec.slot:
            assert spec.end in ends, f"{table} has the column {ends[0]}: declare it as its end"
        if spec.tells and not (spec.remade or spec.rows_of):
            assert spec.end or spec.ending_status, f"{table} tells of {spec.tells}: say how it ends"

    def test_a_flag_and_a_holder_are_declared_as_such(self, table):
        spec = RAW_TABLES[table]
        assert (spec.flag == "reservable") == ("reservable" in spec.columns)
        if "committed" in spec.tells and spec.names_hosts:
            assert spec.held_host, f"{table}: the host of an allocation is written over in place"
        if spec.tells == ("total",) or "reservable" in spec.tells:
            names = {"hypervisor_hostname", "name"} & set(spec.columns)
            if spec.at_its_word and names:
                assert spec.one_at_a_time in names, f"{table}: a host has one row at a time"

    def test_an_adapter_reads_it(self, table):
        assert table in tables_of(ADAPTERS), f"{table}: no adapter reads it"

    def test_an_adapter_answers_for_its_rows_if_it_tells_of_nodes(self, table):
        accounts = {
            name for a in ADAPTERS.values() for group in a.accounts.values() for name in group
        }
        spec = RAW_TABLES[table]
        if spec.tells:
            assert (spec.rows_of or table) in accounts, f"{table}: name it in an adapter's accounts"

    def test_it_tells_of_quantity_types_that_there_are(self, table):
        assert set(RAW_TABLES[table].tells) <= set(QUANTITIES)


def test_every_adapter_reads_declared_tables():
    assert set(tables_of(ADAPTERS)) <= set(RAW_TABLES)


def test_labels_tell_tables_apart():
    labels = [spec.label for spec in RAW_TABLES.values()]
    assert all(labels)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_usual_order_of_sources_is_among_those_that_can_tell(quantity):
    assert set(DEFAULT_SOURCES[quantity].order) <= set(ALLOWED_SOURCES[quantity])
    assert set(AT_THEIR_WORD[quantity]) <= set(ALLOWED_SOURCES[quantity])
    assert AT_THEIR_WORD[quantity]
