"""Published files that nobody here has seen: of the same formats, they run unchanged or say why.

The same three hosts and five leases are written in other ways; each must give the same tables.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from chameleon_usage import pipeline
from chameleon_usage.errors import UsageError
from support.sites import TinySite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SITE = "chi_tacc_published"
MACHINES = "chameleon_machine_events/tacc_machine_events.csv"
LEASES = "chameleon_leases_tacc/on_demand/compute_haswell.csv"
ADVANCE = "chameleon_leases_tacc/in_advance/gpu_p100.csv"

HEAD = "lease_id,project_id,user_id,created_at,deleted_at,start_on,end_on,status,node_cnt,node_type"
FILES = {
    MACHINES: """\
EVENT_TIME,EVENT_TIME_SEC,HOST_NAME (PHYSICAL),EVENT,PROPERTIES
2020-01-01T00:00:00,0.0,aa,CREATE,"{'placement.rack': 6, 'node_type': 'compute_haswell', \
'architecture.smt_size': '48', 'main_memory.ram_size': '134956859392'}"
2020-01-03T12:00:00,0.0,bb,CREATE,"{'node_type': 'gpu_p100', 'architecture.smt_size': '24'}"
2020-01-06T00:00:00,0.0,aa,DELETE,
2020-01-08T00:00:00,0.0,aa,CREATE,"{'node_type': 'compute_haswell', 'architecture.smt_size': '48'}"
2020-01-11T00:00:00,0.0,bb,UPDATE,"{'node_type': 'gpu_p100', 'architecture.smt_size': '24'}"
""",
    LEASES: f"""\
{HEAD}
early,p,u,2020-01-02 00:00:00,2020-01-04 12:00:00,2020-01-02 00:00:00,2020-01-09 00:00:00,\
completed,3,compute_haswell
late,p,u,2020-01-05 06:00:00,,2020-01-05 00:00:00,2020-01-07 00:00:00,active,1,compute_haswell
""",
    ADVANCE: f"""\
{HEAD}
ahead,p,u,2020-01-01 00:00:00,2020-01-08 00:00:00,2020-01-06 00:00:00,2020-01-08 00:00:00,\
active,2,gpu_p100
given up,p,u,2020-01-01 00:00:00,2020-01-03 00:00:00,2020-01-06 00:00:00,2020-01-08 00:00:00,\
completed,2,gpu_p100
""",
}
TABLES = ("usage_timeline", "usage_by_node_type", "leadtime_leases", "rejects")


def tables(folder: Path, files: dict[str, str | bytes]) -> dict[str, pl.DataFrame]:
    """What the pipeline gives of the files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    site = TinySite(SITE)
    site.facts = pipeline.facts(site.site, folder)[0]
    return {name: site.outputs[name] for name in TABLES}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, pl.DataFrame]:
    return tables(tmp_path_factory.mktemp("plain"), FILES)


def columns_turned(text: str) -> str:
    """The same table with its columns in the other order."""
    frame = pl.read_csv(text.encode(), infer_schema=False)
    return frame.select(reversed(frame.columns)).write_csv()


def rows_turned(text: str) -> str:
    return pl.read_csv(text.encode(), infer_schema=False).reverse().write_csv()


def more_columns(text: str) -> str:
    frame = pl.read_csv(text.encode(), infer_schema=False)
    return frame.with_columns(pl.lit("x").alias("SOMETHING"), comment=pl.lit("a, b")).write_csv()


def quoted(text: str) -> str:
    frame = pl.read_csv(text.encode(), infer_schema=False)
    return frame.write_csv(quote_style="always")


STAMP = r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)"
WRITTEN: dict[str, Callable[[str], str | bytes]] = {
    "lines end as on Windows": lambda text: text.replace("\n", "\r\n"),
    "no line end at the end": lambda text: text.rstrip("\n"),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "columns in another order": columns_turned,
    "rows in another order": rows_turned,
    "columns that nobody knows": more_columns,
    "everything quoted": quoted,
    "fractions of seconds": lambda text: re.sub(STAMP, r"\1 \2.250000", text),
    "times with T": lambda text: re.sub(STAMP, r"\1T\2", text),
    "times in UTC, told": lambda text: re.sub(STAMP, r"\1T\2Z", text),
    "times with an offset": lambda text: re.sub(STAMP, r"\1 \2+00:00", text),
    "words for nothing": lambda text: text.replace(",,", ",NULL,"),
    "numbers with a point": lambda text: re.sub(
        r",(\d),(\w+)$", r",\1.0,\2", text, flags=re.MULTILINE
    ),
    "properties as JSON": lambda text: re.sub(
        r'"(\{.*\})"', lambda m: '"' + m[1].replace("'", '""') + '"', text
    ),
    "events in small letters": lambda text: re.sub(
        r",(CREATE|UPDATE|DELETE),", lambda m: f",{m[1].lower()},", text
    ),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_the_same_record_written_in_another_way_gives_the_same_tables(way, plain, tmp_path):
    files = {name: WRITTEN[way](text) for name, text in FILES.items()}
    assert files != FILES
    found = tables(tmp_path, files)
    for name, frame in plain.items():
        assert_frame_equal(found[name], frame)


def without(text: str, *columns: str) -> str:
    return pl.read_csv(text.encode(), infer_schema=False).drop(columns).write_csv()


class TestColumns:
    def test_who_made_a_lease_and_its_status_need_not_be_told(self, plain, tmp_path):
        lacking = ["project_id", "user_id", "status"]
        files = FILES | {n: without(FILES[n], *lacking) for n in (LEASES, ADVANCE)}
        found = tables(tmp_path, files)
        for name, frame in plain.items():
            assert_frame_equal(found[name], frame)

    def test_without_node_types_the_site_has_the_same_counts(self, plain, tmp_path):
        files = {n: without(FILES[n], "node_type") for n in (LEASES, ADVANCE)}
        files[MACHINES] = without(FILES[MACHINES], "PROPERTIES")
        found = tables(tmp_path, files)
        assert_frame_equal(found["usage_timeline"], plain["usage_timeline"])
        assert found["leadtime_leases"]["node_type"].null_count() == 4

    def test_without_a_time_of_deletion_a_lease_lasts_to_its_end(self, tmp_path):
        files = FILES | {n: without(FILES[n], "deleted_at") for n in (LEASES, ADVANCE)}
        usage = tables(tmp_path, files)["usage_timeline"].filter(
            pl.col("collector_type") == "corrected", pl.col("count_type") == "committed"
        )
        # 3 nodes from day 1 to 8; 1 from 4.25 to 6; twice 2 from 5 to 7.
        assert usage["value"].to_list() == [0, 3, 3, 3, 3.75, 8, 7, 3, 0, 0]

    @pytest.mark.parametrize(
        ("name", "column"),
        [(MACHINES, "EVENT"), (MACHINES, "EVENT_TIME"), (MACHINES, "HOST_NAME (PHYSICAL)")]
        + [(LEASES, name) for name in ("lease_id", "node_cnt", "start_on", "end_on")],
    )
    def test_what_the_count_rests_on_is_asked_for_by_name(self, name, column, tmp_path):
        files = FILES | {name: without(FILES[name], column)}
        with pytest.raises(UsageError, match=re.escape(f"lacks the column {column}")) as said:
            tables(tmp_path, files)
        assert str(tmp_path / name) in str(said.value)

    def test_a_type_of_node_that_nobody_knows_is_counted_by_its_name(self, plain, tmp_path):
        files = {n: text.replace("gpu_p100", "gpu_b300_liquid") for n, text in FILES.items()}
        found = tables(tmp_path, files)
        assert_frame_equal(found["usage_timeline"], plain["usage_timeline"])
        assert set(found["usage_by_node_type"]["node_type"].unique()) == {
            *("compute_haswell", "gpu_b300_liquid")
        }


WHOLE = "odd,p,u,2020-01-02 00:00:00,,2020-01-02 00:00:00,2020-01-03 00:00:00,active,1,x"


class TestRows:
    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (WHOLE.removeprefix("odd"), "missing key"),
            (
                WHOLE.replace(",2020-01-02 00:00:00,2020-01-03", ",soon,2020-01-03"),
                "unreadable start_on",
            ),
            (WHOLE.replace(",,", ", ,"), "unreadable deleted_at"),
            (WHOLE.replace(",1,x", ",two,x"), "unreadable node_cnt"),
            (WHOLE.replace("2020-01-03", "2020-01-01"), "end before start"),
            (WHOLE.replace(",1,x", ",0,x"), "no nodes"),
            (WHOLE.replace(",1,x", ",,x"), "no nodes"),
            (FILES[LEASES].splitlines()[1], "duplicate row"),
        ],
    )
    def test_a_row_that_cannot_be_used_is_a_reject_and_the_rest_counts(
        self, row, reason, plain, tmp_path
    ):
        found = tables(tmp_path, FILES | {LEASES: f"{FILES[LEASES]}{row}\n"})
        assert_frame_equal(found["usage_timeline"], plain["usage_timeline"])
        known = plain["rejects"]["source_row_id"].to_list()
        assert known == ["given up"]
        (more,) = found["rejects"].remove(pl.col("source_row_id").is_in(known)).to_dicts()
        assert more["reason"] == reason

    def test_a_lease_without_a_start_counts_from_its_creation(self, plain, tmp_path):
        row = WHOLE.replace(",2020-01-02 00:00:00,2020-01-03", ",,2020-01-03")
        found = tables(tmp_path, FILES | {LEASES: f"{FILES[LEASES]}{row}\n"})
        committed = (pl.col("collector_type") == "corrected") & (
            pl.col("count_type") == "committed"
        )
        more, before = (t["usage_timeline"].filter(committed)["value"] for t in (found, plain))
        assert (more - before).to_list() == [0, 1, *[0] * 8]
        assert_frame_equal(found["rejects"], plain["rejects"])

    def test_an_event_of_another_kind_says_that_the_host_is_there(self, plain, tmp_path):
        event = "2020-01-04T00:00:00,0.0,cc,MOVE,\n"
        found = tables(tmp_path, FILES | {MACHINES: FILES[MACHINES] + event})
        total = (pl.col("collector_type") == "corrected") & (pl.col("count_type") == "total")
        more, before = (t["usage_timeline"].filter(total)["value"] for t in (found, plain))
        assert (more - before).to_list() == [0, 0, 0, *[1] * 7]
