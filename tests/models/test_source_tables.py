"""The declarations of the input tables: whole, about columns that are there, and all of use."""

from __future__ import annotations

import polars as pl
import pytest

from chameleon_usage.ingest.registry import ADAPTERS, tables_of
from chameleon_usage.models.raw import AT_THEIR_WORD, QUANTITIES, RAW_TABLES
from chameleon_usage.models.raw_table import RawTable
from chameleon_usage.models.site import ALLOWED_SOURCES, DEFAULT_SOURCES
from support import PROJECT
from support.sites import MAKERS, SITES

TABLES = sorted(RAW_TABLES)
ENDING = ("deleted_at", "end_time", "valid_to", "end_on")
"""How columns are called that say until when a row holds."""
PUBLISHED = tables_of(
    [name for site in ("chi_tacc_published", "chi_tacc_trace") for name in SITES[site].adapters]
)
"""Files of other makers; test_published.py and test_traces.py of tests/ingest have rows of them."""
IN_NO_ORDER = {"doni.hardware"}
"""Tables that tell and are asked by no site, as book/sources.md says of each."""


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
        strange = (named - set(spec.columns)) | (set(spec.taken_away) - set(spec.kept))
        assert not strange, f"{table}: models/raw.py speaks of {strange}, but declares no such"
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
        assert table in tables_of(ADAPTERS), f"{table}: no adapter of ingest/registry.py reads it"

    def test_an_adapter_answers_for_its_rows_if_it_tells_of_nodes(self, table):
        accounts = {
            name for a in ADAPTERS.values() for group in a.accounts.values() for name in group
        }
        spec = RAW_TABLES[table]
        if spec.tells:
            assert (spec.rows_of or table) in accounts, (
                f"{table}: name it in an adapter's accounts (ingest/registry.py)"
            )

    def test_somebody_asks_it_or_the_book_says_that_nobody_does(self, table):
        sites = [site.sources for site in SITES.values()]
        ordered = {
            t for of in (*sites, DEFAULT_SOURCES) for rule in of.values() for t in rule.order
        }
        asked = table in ordered or not RAW_TABLES[table].tells
        if table in IN_NO_ORDER:
            assert not asked, f"{table}: stands in an order now; take it out of IN_NO_ORDER"
        else:
            assert asked, (
                f"{table}: tells {RAW_TABLES[table].tells}, and stands in no order of "
                "models/site.py and data/sites.yaml; put it there, or say in book/sources.md and "
                "in IN_NO_ORDER that it stands in none"
            )

    def test_it_tells_of_quantity_types_that_there_are(self, table):
        assert set(RAW_TABLES[table].tells) <= set(QUANTITIES)


def test_rows_tell_what_their_table_is_declared_to_tell():
    found: dict[str, set[str]] = {}
    ended = MAKERS["chi_tacc"]()
    ended.lease("ended", 0, 1, [], status="TERMINATED")  # its allocations were deleted for good
    for make in (*MAKERS.values(), lambda: ended):
        pairs = make().facts.ingested.intervals.select("source", "quantity_type").unique()
        for source, quantity in pairs.iter_rows():
            found.setdefault(source, set()).add(quantity)
    wrong = [
        f"{table}: models/raw.py has it tell {sorted(RAW_TABLES[table].tells)}, and the test "
        f"sites' rows of it tell {sorted(found.get(table, ()))}; correct tells, or the adapter, or "
        "give a test site a row of it (full_site of tests/support/sites.py)"
        for table in TABLES
        if table not in PUBLISHED and set(RAW_TABLES[table].tells) != found.get(table, set())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_reads_declared_tables(name):
    strange = set(tables_of([name])) - set(RAW_TABLES)
    assert not strange, f"adapter {name}: declare {', '.join(strange)} in models/raw.py"


def test_a_site_has_every_adapter():
    sites = [*SITES.values(), *(make().site for make in MAKERS.values())]
    idle = set(ADAPTERS) - {name for site in sites for name in site.adapters}
    assert not idle, (
        f"{idle}: no entry of data/sites.yaml names the adapter, and no test site has it "
        "(full_site of tests/support/sites.py)"
    )


def test_every_adapter_module_is_registered():
    frame = {"__init__", "as_of", "base", "loader", "nova_moves", "registry", "renamed", "schedule"}
    modules = {path.stem for path in (PROJECT / "src/chameleon_usage/ingest").glob("*.py")} - frame
    used = {adapter.read.__module__.rpartition(".")[2] for adapter in ADAPTERS.values()}
    assert modules == used, f"ingest/registry.py has no adapter of {modules - used}"


def test_labels_tell_tables_apart():
    labels = [spec.label for spec in RAW_TABLES.values()]
    assert all(labels)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_usual_order_of_sources_is_among_those_that_can_tell(quantity):
    mute = set(DEFAULT_SOURCES[quantity].order) - set(ALLOWED_SOURCES[quantity])
    assert not mute, (
        f"{mute}: in models/site.py's order of {quantity}; models/raw.py: tells nothing"
    )
    assert set(AT_THEIR_WORD[quantity]) <= set(ALLOWED_SOURCES[quantity])
    assert AT_THEIR_WORD[quantity]
