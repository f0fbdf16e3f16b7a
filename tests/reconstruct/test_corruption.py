"""More than two hundred ways to spoil a dump, each with one of three ends and none in silence.

- What changes the form of a file and not what it says changes nothing at all.
- What makes a file unreadable ends with one line that names the file, the table and the way out.
- What changes what rows say is read as what they say now: the plain-Python reading of the design
  gives the same numbers of the same rows, or the row is refused by name.
"""

# ruff: noqa: S311 - seeded choices, the same in every run
from __future__ import annotations

import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from chameleon_usage import pipeline, runs, stages
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest import loader
from chameleon_usage.ingest.registry import ADAPTERS, tables_of
from chameleon_usage.io import check
from chameleon_usage.models import cells
from chameleon_usage.models.raw import RAW_TABLES
from support.as_designed import assert_as_designed
from support.sites import MAKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from chameleon_usage.models.raw_inputs import RawInputs
    from support.sites import TinySite

FILES = [(key, table) for key, make in MAKERS.items() for table in sorted(make().tables)]


@pytest.fixture(scope="session")
def written(once) -> Path:
    """The tables of each site as they are."""
    return once("clean", lambda folder: [make().write(folder) for make in MAKERS.values()])


def copied(tables: Path, folder: Path) -> Path:
    """A copy of a site's tables, to be spoilt."""
    return shutil.copytree(tables, folder / tables.name)


@pytest.fixture(scope="module")
def clean(written) -> dict[str, RawInputs]:
    """What input validation lets in of each site as it is."""
    return {key: read(make(), written / key) for key, make in MAKERS.items()}


def read(site: TinySite, folder: Path, *tables: str) -> RawInputs:
    """Read a site's tables, or some of them, as input validation does."""
    return loader.load_raw_inputs(folder, tables or tables_of(site.site.adapters))


def read_spoilt(site: TinySite, path: Path) -> RawInputs:
    """Read the table of a file, and what is read beside it."""
    beside = [cells.ACTIONS] if path.stem == cells.EVENTS else []
    return read(site, path.parent, path.stem, *beside)


def assert_same(inputs: RawInputs, expected: RawInputs, *, ordered: bool = True) -> None:
    """Compare everything that the stages after input validation can see."""
    assert inputs.as_of == expected.as_of
    assert inputs.absent == expected.absent
    assert inputs.rows == expected.rows
    for name, table in expected.tables.items():
        assert_frame_equal(inputs.tables[name], table, check_row_order=ordered)
    assert_frame_equal(inputs.rejects, expected.rejects, check_row_order=ordered)


# --- the same said in another form --------------------------------------------------------------

TIMES = cs.datetime()
WHOLE = cs.integer()


def zoned(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        TIMES.dt.replace_time_zone("UTC").dt.convert_time_zone("America/Chicago")
    )


def as_text(form: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(TIMES.dt.strftime(form))


def more_columns(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(user_data=pl.lit("secret"), extra=pl.lit(1), zeit=pl.lit(None))


FORMS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "columns in another order": lambda frame: frame.select(reversed(frame.columns)),
    "more columns": more_columns,
    "narrow integers": lambda frame: frame.with_columns(WHOLE.cast(pl.Int32)),
    "unsigned integers": lambda frame: frame.with_columns(WHOLE.cast(pl.UInt64)),
    "whole numbers as floats": lambda frame: frame.with_columns(WHOLE.cast(pl.Float64)),
    "numbers as text": lambda frame: frame.with_columns(WHOLE.cast(pl.String)),
    "times in Chicago": zoned,
    "times in milliseconds": lambda frame: frame.with_columns(TIMES.dt.cast_time_unit("ms")),
    "times in nanoseconds": lambda frame: frame.with_columns(TIMES.dt.cast_time_unit("ns")),
    "times as ISO text": as_text("%Y-%m-%dT%H:%M:%SZ"),
    "times as MySQL text": as_text("%Y-%m-%d %H:%M:%S.%6f"),
    "times as text of another zone": lambda frame: as_text("%Y-%m-%d %H:%M:%S%:z")(zoned(frame)),
    "names as categories": lambda frame: frame.with_columns(cs.string().cast(pl.Categorical)),
}

WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "uncompressed": lambda frame, path: frame.write_parquet(path, compression="uncompressed"),
    "gzip": lambda frame, path: frame.write_parquet(path, compression="gzip"),
    "rows one by one": lambda frame, path: frame.write_parquet(path, row_group_size=1),
    "dictionaries": lambda frame, path: pq.write_table(
        frame.to_arrow().cast(dictionaries(frame.to_arrow().schema)), path
    ),
    "another maker's file": lambda frame, path: pq.write_table(
        frame.to_arrow(), path, version="1.0", data_page_version="2.0", use_dictionary=False
    ),
}


def dictionaries(schema: pa.Schema) -> pa.Schema:
    """Encode texts as dictionaries."""
    text = pa.dictionary(pa.int32(), pa.string())
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return pa.schema(
        [
            pa.field(
                field.name, text if any(is_text(field.type) for is_text in texts) else field.type
            )
            for field in schema
        ]
    )


def plain_times(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """Give the time columns as times, zero dates as null: what another form can say."""
    names = [name for name, kind in RAW_TABLES[table].columns.items() if kind == pl.Datetime("us")]
    return frame.with_columns(pl.col(names).cast(pl.Datetime("us")))


def at_one_site(ways: Iterable[str]) -> list[Any]:
    """Try each way at one site, at the others with the slow tests."""
    return [
        pytest.param(way, key, marks=[] if site == number % len(MAKERS) else pytest.mark.slow)
        for number, way in enumerate(ways)
        for site, key in enumerate(MAKERS)
    ]


@pytest.mark.parametrize(("form", "key"), at_one_site(FORMS))
def test_another_form_of_all_tables_is_read_the_same(key, form, clean, written, tmp_path):
    folder = copied(written / key, tmp_path)
    for path in folder.glob("*.parquet"):
        frame = plain_times(pl.read_parquet(path), path.stem)
        FORMS[form](frame).write_parquet(path)
    assert_same(read(MAKERS[key](), folder), clean[key])


@pytest.mark.parametrize(("writer", "key"), at_one_site(WRITERS))
def test_another_writer_of_all_tables_is_read_the_same(key, writer, clean, written, tmp_path):
    folder = copied(written / key, tmp_path)
    for path in folder.glob("*.parquet"):
        WRITERS[writer](pl.read_parquet(path), path)
    assert_same(read(MAKERS[key](), folder), clean[key])


def sampled(files: Iterable[tuple[str, str]]) -> list[Any]:
    """Take one table in three at once, the others with the slow tests."""
    return [
        pytest.param(*file, marks=[pytest.mark.slow] if number % 3 else [])
        for number, file in enumerate(files)
    ]


SAMPLED = sampled(FILES)


@pytest.mark.parametrize(("key", "table"), SAMPLED)
def test_shuffled_rows_are_the_same_rows(key, table, clean, written, tmp_path):
    folder = copied(written / key, tmp_path)
    path = folder / f"{table}.parquet"
    pl.read_parquet(path).sample(fraction=1, shuffle=True, seed=7).write_parquet(path)
    assert_same(read(MAKERS[key](), folder), clean[key], ordered=False)


@pytest.mark.parametrize(("key", "table"), SAMPLED)
def test_rows_that_come_twice_count_once_and_are_rejects(key, table, clean, written, tmp_path):
    folder = copied(written / key, tmp_path)
    path = folder / f"{table}.parquet"
    frame = pl.read_parquet(path)
    pl.concat([frame, frame]).write_parquet(path)
    inputs, expected = read(MAKERS[key](), folder), clean[key]
    for name in expected.tables:
        assert_frame_equal(inputs.tables[name], expected.tables[name], check_row_order=False)
    again = inputs.rejects.filter(source=table).height
    assert again == expected.rejects.filter(source=table).height + frame.height


@pytest.mark.parametrize("key", MAKERS)
def test_shuffled_files_give_the_same_bytes(key, tmp_path):
    written = []
    for shuffle in (None, 3):
        site = MAKERS[key]()
        raw, out = tmp_path / f"raw{shuffle}", tmp_path / f"out{shuffle}"
        site.write(raw, shuffle=shuffle)
        runs.run_site(site.site, raw, out, site.window)
        written.append({path.name: path.read_bytes() for path in out.rglob("*.parquet")})
    assert written[0] == written[1]


# --- files that cannot be read ------------------------------------------------------------------


def assert_refused(site: TinySite, path: Path, *told: str) -> None:
    """One line, which names the file, the table, what else is told, and the way out."""
    with pytest.raises(UsageError) as error:
        read_spoilt(site, path)
    message = str(error.value)
    assert "\n" not in message
    for word in (str(path), path.stem, *told):
        assert word in message
    assert "extract" in message or "expected" in message or "check how" in message, message


@pytest.mark.parametrize(
    ("key", "table", "column"),
    [
        (key, table, random.Random(f"{key} {table}").choice(sorted(RAW_TABLES[table].required)))
        for key, table in FILES
    ],
)
def test_a_dropped_column_is_named(key, table, column, written, tmp_path):
    folder = copied(written / key, tmp_path)
    path = folder / f"{table}.parquet"
    pl.read_parquet(path).drop(column).write_parquet(path)
    assert_refused(MAKERS[key](), path, column)


BREAKAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing left": lambda _: b"",
    "cut short": lambda whole: whole[: len(whole) * 2 // 3],
    "head lost": lambda whole: whole[len(whole) // 3 :],
    "footer overwritten": lambda whole: whole[:-508] + b"\x00" * 500 + whole[-8:],
    "text": lambda _: b"id,created_at\n1,2020-01-01\n",
    "a saved error page": lambda _: "<html>503 überlastet</html>".encode("latin-1"),
}


@pytest.mark.parametrize(
    ("breakage", "key", "table"),
    [(name, *random.Random(f"{name} {n}").choice(FILES)) for name in BREAKAGES for n in range(4)],
)
def test_a_damaged_file_is_named(breakage, key, table, written, tmp_path):
    folder = copied(written / key, tmp_path)
    path = folder / f"{table}.parquet"
    path.write_bytes(BREAKAGES[breakage](path.read_bytes()))
    assert_refused(MAKERS[key](), path)


@pytest.mark.parametrize("number", range(8))
def test_swapped_files_are_named(number, written, tmp_path):
    key, table = random.Random(f"swap {number}").choice(FILES)
    required = set(RAW_TABLES[table].required)
    others = [
        other for k, other in FILES if k == key and not required <= set(RAW_TABLES[other].columns)
    ]
    folder = copied(written / key, tmp_path)
    path = folder / f"{table}.parquet"
    other = folder / f"{random.Random(number).choice(others)}.parquet"
    path.write_bytes(other.read_bytes())
    assert_refused(MAKERS[key](), path, "lacks the column")


@pytest.mark.parametrize(("key", "table"), FILES[::3])
def test_a_column_of_lists_is_named(key, table, written, tmp_path):
    folder = copied(written / key, tmp_path)
    path = folder / f"{table}.parquet"
    column = min(RAW_TABLES[table].required)
    pl.read_parquet(path).with_columns(pl.concat_list(pl.col(column))).write_parquet(path)
    assert_refused(MAKERS[key](), path, f"column {column}", "List")


NEEDED = sorted(
    {
        (key, table)
        for key, make in MAKERS.items()
        for name in make().site.adapters
        for table in ADAPTERS[name].tables
        if table not in ADAPTERS[name].may_be_empty
    }
)


@pytest.mark.parametrize(("key", "table"), NEEDED)
def test_an_empty_table_is_named(key, table, tmp_path):
    site = MAKERS[key]()
    path = site.write(tmp_path) / f"{table}.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(UsageError) as error:
        pipeline.facts(site.site, tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert table in message
    assert "no row" in message
    assert "extract it again" in message


OPTIONAL = [row for row in FILES if row not in NEEDED]


@pytest.mark.parametrize(("key", "table"), sampled(OPTIONAL))
def test_an_optional_table_that_is_empty_is_reported(key, table, tmp_path):
    site = MAKERS[key]()
    path = site.write(tmp_path) / f"{table}.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    _, missing = pipeline.facts(site.site, tmp_path)
    assert table in missing


@pytest.mark.parametrize(
    ("key", "table", "column"),
    [
        (key, table, column)
        for key, table in FILES
        for column, kind in RAW_TABLES[table].optional.items()
        if kind == pl.Datetime("us")
    ],
)
def test_a_time_column_of_a_later_release_that_is_not_there_is_reported(
    key, table, column, written, tmp_path
):
    folder = copied(written / key, tmp_path)
    path = folder / f"{table}.parquet"
    pl.read_parquet(path).drop(column).write_parquet(path)
    assert f"{table}.{column}" in read_spoilt(MAKERS[key](), path).absent


# --- values that cannot be read: the row is refused by name, all others count ---------------------


Where = tuple[str, str, str]
"""Site, table and column."""


@pytest.fixture
def refuses_the_first(
    clean, written, tmp_path
) -> Callable[[Where, Callable[[list[Any]], pl.Series]], None]:
    """Write other values into a column: its first row must be refused, all others be as ever."""

    def run(where: Where, spoil: Callable[[list[Any]], pl.Series]) -> None:
        key, table, column = where
        path = copied(written / key, tmp_path) / f"{table}.parquet"
        frame = pl.read_parquet(path)
        frame.with_columns(spoil(frame[column].to_list()).alias(column)).write_parquet(path)
        inputs, expected = read_spoilt(MAKERS[key](), path), clean[key]
        assert_frame_equal(inputs.tables[table], expected.tables[table][1:])
        assert f"unreadable {column}" in inputs.rejects.filter(source=table)["reason"].to_list()

    return run


def texts(good: list[Any], bad: str) -> pl.Series:
    """Give all but the first value as they are, as text."""
    return pl.Series([bad, *(None if value is None else str(value) for value in good[1:])])


UNREADABLE: dict[str, Callable[[list[Any]], pl.Series]] = {
    "a word": lambda good: texts(good, "viele"),
    "a decimal comma": lambda good: texts(good, "48,5"),
    "half a number": lambda good: pl.Series([0.5, *good[1:]], dtype=pl.Float64),
    "infinite": lambda good: pl.Series([float("inf"), *good[1:]], dtype=pl.Float64),
    "beyond 64 bits": lambda good: texts(good, "9" * 25),
    "hexadecimal": lambda good: texts(good, "0x30"),
}
NUMBERS = [
    ("chi_tacc", "nova.compute_nodes", "vcpus"),
    ("chi_tacc", "nova.compute_nodes", "id"),
    ("chi_tacc", "blazar.computehosts", "reservable"),
    ("chi_tacc", "nova.instances", "memory_mb"),
    ("kvm_tacc", "blazar.instance_reservations", "vcpus"),
    ("kvm_tacc", "nova.instance_actions_events", "action_id"),
    ("chi_edge", "blazar.devices", "reservable"),
]


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("where", NUMBERS, ids="-".join)
def test_a_number_that_is_none_refuses_its_row(where, kind, refuses_the_first):
    refuses_the_first(where, UNREADABLE[kind])


@pytest.mark.parametrize(
    "moment", ["gestern", "2020-02-30 00:00:00", "24.12.2020", "1577836800", "2020-01-01T25:00:00Z"]
)
@pytest.mark.parametrize(
    "where",
    [
        ("chi_tacc", "nova.compute_nodes", "created_at"),
        ("chi_tacc", "blazar.leases", "end_date"),
        ("kvm_tacc", "nova.instances", "deleted_at"),
        ("chi_edge", "blazar.device_allocations", "created_at"),
    ],
    ids="-".join,
)
def test_a_moment_that_is_none_refuses_its_row(where, moment, refuses_the_first):
    refuses_the_first(where, lambda good: texts(good, moment))


@pytest.mark.parametrize("octets", [b"n\xf6de", b"\xff\xfe\x00", b"h\xc3"])
@pytest.mark.parametrize(
    "where",
    [
        ("chi_tacc", "nova.compute_nodes", "hypervisor_hostname"),
        ("kvm_tacc", "nova.instances", "node"),
        ("chi_edge", "blazar.devices", "name"),
    ],
    ids="-".join,
)
def test_a_name_that_is_no_utf8_refuses_its_row(where, octets, refuses_the_first):
    def spoil(good: list[str | None]) -> pl.Series:
        others = [None if name is None else name.encode() for name in good[1:]]
        return pl.Series([octets, *others], dtype=pl.Binary)

    refuses_the_first(where, spoil)


# --- rows that say something else: read as what they say now -------------------------------------


def time_columns(table: str, row: dict[str, Any]) -> list[str]:
    """Name the time columns that a row fills."""
    kinds = RAW_TABLES[table].columns
    return [
        name
        for name, kind in kinds.items()
        if kind == pl.Datetime("us") and isinstance(row.get(name), int | float)
    ]


def skew(hours: float) -> Callable[[random.Random, str, list[dict[str, Any]]], None]:
    """Put the clock of a table's service forward or back."""

    def change(_: random.Random, table: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            for name in time_columns(table, row):
                row[name] += hours / 24

    return change


def moment(days: float | str | None) -> Callable[[random.Random, str, list[dict[str, Any]]], None]:
    """Put a moment in place of some others."""

    def change(dice: random.Random, table: str, rows: list[dict[str, Any]]) -> None:
        for row in dice.sample(rows, min(2, len(rows))):
            for name in (
                dice.sample(time_columns(table, row), 1) if time_columns(table, row) else ()
            ):
                row[name] = days

    return change


def dangle(dice: random.Random, table: str, rows: list[dict[str, Any]]) -> None:
    """Let a reference point to nothing."""
    keys = ("_id", "uuid", "hostname", "host", "node")
    for row in dice.sample(rows, min(2, len(rows))):
        names = [
            name
            for name in row
            if name.endswith(keys) and name not in RAW_TABLES[table].key and row[name] is not None
        ]
        for name in dice.sample(names, min(1, len(names))):
            number = RAW_TABLES[table].columns.get(name) == pl.Int64()
            row[name] = 999_999 if number else "0badc0de-0000-4000-8000-000000000000"


def sizes(value: int | None) -> Callable[[random.Random, str, list[dict[str, Any]]], None]:
    """Put a number in place of sizes."""

    def change(dice: random.Random, _: str, rows: list[dict[str, Any]]) -> None:
        for row in dice.sample(rows, min(2, len(rows))):
            for name in ("vcpus", "memory_mb", "local_gb", "root_gb", "disk_gb"):
                if name in row:
                    row[name] = value

    return change


def swap_bounds(_: random.Random, table: str, rows: list[dict[str, Any]]) -> None:
    """Let starts and ends change places."""
    for row in rows[1::2]:
        names = time_columns(table, row)
        if len(names) > 1:
            row[names[0]], row[names[-1]] = row[names[-1]], row[names[0]]


def drop_half(dice: random.Random, _: str, rows: list[dict[str, Any]]) -> None:
    """Lose half of the rows."""
    rows[:] = dice.sample(rows, (len(rows) + 1) // 2)


CHANGES: dict[str, Callable[[random.Random, str, list[dict[str, Any]]], None]] = {
    "clock an hour fast": skew(1),
    "clock six hours slow": skew(-6),
    "clock two days fast": skew(48),
    "moments lost": moment(None),
    "zero dates": moment("0000-00-00 00:00:00"),
    "the year 1900": moment(-43_829.0),
    "the year 2200": moment(65_744.0),
    "dangling keys": dangle,
    "sizes of 2^62": sizes(2**62),
    "sizes below zero": sizes(-48),
    "sizes lost": sizes(None),
    "starts and ends swapped": swap_bounds,
    "half of the rows lost": drop_half,
}
ROWS = [
    (change, key, table)
    for key, table in FILES
    for change in CHANGES
    if not table.startswith(("chameleon_usage.node_usage", "chameleon_usage.node_count"))
]
SOME = [
    random.Random(change).choice([row for row in ROWS if row[0] == change]) for change in CHANGES
]
"""Each change once; all others with the slow tests."""


def assert_read_as_it_stands(change: str, key: str, table: str) -> TinySite:
    """Compare with the plain reading of the same rows; the laws hold, too."""
    site = MAKERS[key]()
    CHANGES[change](random.Random(f"{change} {key} {table}"), table, site.tables[table])
    assert_as_designed(site)
    return site


@pytest.mark.parametrize(("change", "key", "table"), SOME)
def test_other_values_are_read_as_they_stand(change, key, table):
    assert_read_as_it_stands(change, key, table)


@pytest.mark.slow
@pytest.mark.parametrize(("change", "key", "table"), sorted(set(ROWS) - set(SOME)))
def test_all_other_values_are_read_as_they_stand(change, key, table, tmp_path):
    site = assert_read_as_it_stands(change, key, table)
    stages.save_usage(tmp_path, site.outputs.items())
    assert check.check_site(tmp_path, replace(site.site, known_gaps=())) == []
