"""The record: a dump that takes another's place loses nothing of it."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from chameleon_usage.errors import UsageError
from chameleon_usage.snapshots import record
from chameleon_usage.snapshots.history import ADDED, CHANGE_TYPE, CHANGED, GONE, HISTORY
from chameleon_usage.snapshots.record import Changes, add_snapshot, diff, dump_as_of, undo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START = datetime(2024, 1, 1)
SCHEMA = {
    "id": pl.String,
    "host": pl.String,
    "size": pl.Float64,
    "at": pl.Datetime("us"),
}
LEASES = "blazar.leases"

quick = settings(max_examples=60, deadline=None)


def week(number: int) -> datetime:
    return START + timedelta(weeks=number)


def table(*rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def write_dump(folder: Path, number: int, tables: Mapping[str, pl.DataFrame]) -> Path:
    """Write the dump of a week."""
    folder.mkdir(parents=True)
    for name, frame in tables.items():
        frame.write_parquet(folder / f"{name}.parquet")
    (folder / "manifest.json").write_text(
        json.dumps({"as_of": week(number).isoformat(), "kind": f"dump {number}"})
    )
    return folder


def same(left: pl.DataFrame, right: pl.DataFrame) -> None:
    """Hold that two frames have the same columns, types and rows, whatever their order."""
    assert left.schema == right.schema
    rows = [
        frame.sort(frame.columns, nulls_last=True) if frame.columns else frame
        for frame in (left, right)
    ]
    assert_frame_equal(*rows)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """A handful of rows of few keys: keys are missing, come twice, and come back."""
    row = st.tuples(
        st.sampled_from(["a", "b", "c", "d", None]),
        st.sampled_from(["h1", "h2", None]),
        st.sampled_from([0.0, 1.5, float("nan"), None]),
        st.sampled_from([START, START + timedelta(seconds=1), None]),
    )
    return table(*draw(st.lists(row, max_size=6)))


class TestDiff:
    def test_equal_rows_cost_nothing(self):
        rows = table(("a", "h1", 1.0, START), ("b", None, None, None))
        assert diff(rows, rows.reverse(), ["id"]).is_empty()

    def test_a_row_that_changed_is_kept_as_it_was(self):
        old, new = table(("a", "h1", 1.0, START)), table(("a", "h2", 1.0, START))
        assert diff(old, new, ["id"]).rows() == [("a", "h1", 1.0, START, CHANGED)]

    def test_a_row_that_is_gone_is_kept(self):
        old = table(("a", "h1", 1.0, START), ("b", "h1", 2.0, None))
        assert diff(old, old.head(1), ["id"]).rows() == [("b", "h1", 2.0, None, GONE)]

    def test_of_a_new_row_the_key_alone_is_noted(self):
        new = table(("a", "h1", 1.0, START), ("b", "h1", 2.0, None))
        assert diff(new.head(1), new, ["id"]).rows() == [("b", None, None, None, ADDED)]

    def test_a_key_that_comes_twice_is_kept_with_all_its_rows(self):
        old = table(("a", "h1", 1.0, START), ("a", "h1", 1.0, START))
        assert diff(old, old.head(1), ["id"])[CHANGE_TYPE].to_list() == [CHANGED, CHANGED]

    @quick
    @given(tables(), tables(), st.sampled_from([["id"], ["id", "host"], list(SCHEMA)]))
    def test_a_step_back_gives_the_earlier_table(self, old, new, key):
        same(undo(new, diff(old, new, key), key), old)

    @quick
    @given(tables(), tables())
    def test_the_order_of_rows_changes_nothing(self, old, new):
        assert_frame_equal(
            diff(old, new, ["id"]), diff(old.reverse(), new.reverse(), ["id"]), check_exact=True
        )

    @quick
    @given(tables(), tables())
    def test_no_row_is_kept_that_is_still_there(self, old, new):
        increment = diff(old, new, ["id"])
        kept = increment.filter(pl.col(CHANGE_TYPE) == GONE)
        assert kept.join(new, on="id", how="semi", nulls_equal=True).is_empty()
        once = [rows.filter(pl.col("id").is_unique()) for rows in (old, new)]
        alone = once[0].join(once[1], on=list(SCHEMA), how="semi", nulls_equal=True)
        assert increment.join(alone, on="id", how="semi", nulls_equal=True).is_empty()


class TestRecord:
    @pytest.mark.parametrize("most", [8, pytest.param(25, marks=pytest.mark.slow)])
    def test_every_earlier_dump_comes_back(self, tmp_path_factory, most):
        """Rows come, change and go; tables come and go, gain and lose columns, change types."""

        @settings(max_examples=most, deadline=None)
        @given(
            st.lists(
                st.dictionaries(
                    st.sampled_from([LEASES, "nova.unheard_of", "own.table"]),
                    st.tuples(tables(), st.sampled_from(["", "wider", "narrower", "retyped"])),
                    min_size=1,
                ),
                min_size=2,
                max_size=5,
            ),
            st.sampled_from([2, 1_000_000]),
        )
        def hold(dumps, rows_at_once):
            folder = tmp_path_factory.mktemp("record")
            shapes = {
                "": lambda frame: frame,
                "wider": lambda frame: frame.with_columns(more=pl.lit(1)),
                "narrower": lambda frame: frame.drop("size"),
                "retyped": lambda frame: frame.cast({"size": pl.String}),
            }
            told = [
                {name: shapes[shape](frame) for name, (frame, shape) in dump.items()}
                for dump in dumps
            ]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(record, "ROWS_AT_ONCE", rows_at_once)
                for number, dump in enumerate(told):
                    add_snapshot(folder / "site", write_dump(folder / f"{number}", number, dump))
            for number, dump in enumerate(told):
                for moment in (week(number), week(number) + timedelta(days=6)):
                    back = dump_as_of(folder / "site", moment)
                    assert back.as_of == week(number)
                    assert back.manifest["kind"] == f"dump {number}"
                    assert back.tables.keys() == dump.keys()
                    for name, frame in dump.items():
                        same(back.tables[name], frame)

        hold()

    def test_the_current_dump_is_the_last_one_file_by_file(self, tmp_path):
        for number in range(3):
            dump = write_dump(
                tmp_path / str(number), number, {LEASES: table((f"{number}",) * 1 + (None,) * 3)}
            )
            add_snapshot(tmp_path / "site", dump)
        site = files(tmp_path / "site")
        assert {name: site[name] for name in site if not name.startswith(HISTORY)} == files(dump)

    def test_an_increment_holds_what_was_superseded_and_no_more(self, tmp_path):
        rows = [(str(number), "h", 1.0, START) for number in range(100)]
        first = write_dump(tmp_path / "0", 0, {LEASES: table(*rows), "own.table": table()})
        changed = [("0", "h", 2.0, START), *rows[2:], ("new", "h", 1.0, START)]
        second = write_dump(tmp_path / "1", 1, {LEASES: table(*changed), "own.table": table()})
        add_snapshot(tmp_path / "site", first)
        told = add_snapshot(tmp_path / "site", second)
        assert told == {LEASES: Changes(1, 1, 1), "own.table": Changes()}
        increment = tmp_path / "site" / HISTORY / "2024-01-08T000000Z"
        assert sorted(path.name for path in increment.iterdir()) == [
            f"{LEASES}.parquet",
            "manifest.json",
        ]
        assert pl.read_parquet(increment / f"{LEASES}.parquet").height == 3

    def test_recording_the_same_dump_again_changes_nothing(self, tmp_path):
        for number in range(2):
            dump = write_dump(
                tmp_path / str(number), number, {LEASES: table(("a", str(number), None, None))}
            )
            add_snapshot(tmp_path / "site", dump)
        before = files(tmp_path / "site")
        assert add_snapshot(tmp_path / "site", dump) == {}
        assert files(tmp_path / "site") == before

    def test_what_lies_beside_the_tables_stays(self, tmp_path):
        site = write_dump(tmp_path / "site", 0, {LEASES: table()})
        (site / "truth").mkdir()
        (site / "truth" / "intervals.parquet").write_bytes(b"x")
        (site / "NOTES").write_text("ours")
        add_snapshot(site, write_dump(tmp_path / "1", 1, {LEASES: table()}))
        assert (site / "NOTES").read_text() == "ours"
        assert (site / "truth" / "intervals.parquet").read_bytes() == b"x"

    def test_the_dump_that_was_recorded_may_be_written_over(self, tmp_path):
        dump = write_dump(tmp_path / "0", 0, {LEASES: table(("a", None, None, None))})
        add_snapshot(tmp_path / "site", dump)
        (dump / f"{LEASES}.parquet").write_bytes(b"other")
        assert pl.read_parquet(tmp_path / "site" / f"{LEASES}.parquet").height == 1

    def test_equal_inputs_give_equal_bytes(self, tmp_path):
        rows = table(*((str(number), "h", 1.0, START) for number in range(50)))
        for run in ("one", "other"):
            for number in range(3):
                frame = rows.filter(pl.int_range(pl.len()) % (number + 2) == 0)
                if run == "other":
                    frame = frame.reverse()
                dump = write_dump(tmp_path / run / str(number), number, {LEASES: frame})
                add_snapshot(tmp_path / run / "site", dump)
        history = [
            {name: data for name, data in files(tmp_path / run / "site").items() if HISTORY in name}
            for run in ("one", "other")
        ]
        assert len(history[0]) == 4
        assert history[0] == history[1]


class TestCommand:
    @pytest.fixture
    def recorded(self, tmp_path, usage) -> Path:
        config = tmp_path / "sites.yaml"
        config.write_text("here: {adapters: [blazar_leases]}")
        for number in range(3):
            rows = table(*((str(n), str(number), None, None) for n in range(number + 1)))
            write_dump(tmp_path / str(number), number, {LEASES: rows})
            said = usage(
                "record", "--config", config, "--site", "here",
                "--data-dir", tmp_path / "data", "--from", tmp_path / str(number),
            )  # fmt: skip
            assert said.status == 0, said.err
        assert f"here: {LEASES}: 1 rows new, 2 changed, 0 gone" in said.err
        return tmp_path

    def test_a_dump_that_was_recorded_comes_back_as_a_dump(self, recorded, usage):
        options = ["record", "--config", recorded / "sites.yaml", "--site", "here"]
        options += ["--data-dir", recorded / "data", "--as-of", "2024-01-10"]
        said = usage(*options, "--to", recorded / "back")
        assert said.status == 0, said.err
        assert "the dump of 2024-01-08 00:00:00" in said.err
        same(*(pl.read_parquet(recorded / f / f"{LEASES}.parquet") for f in ("back", "1")))
        manifests = [
            json.loads((recorded / f / "manifest.json").read_text()) for f in ("back", "1")
        ]
        assert manifests[0] == manifests[1]
        again = usage(*options, "--to", recorded / "back")
        assert again.status == 1
        assert "is there already" in again.err

    def test_what_is_asked_for_must_be_clear(self, recorded, usage):
        options = ["record", "--config", recorded / "sites.yaml", "--data-dir", recorded / "data"]
        for more in ((), ("--from", recorded / "0", "--as-of", "2024-01-10"), ("--to", "x")):
            said = usage(*options, "--site", "here", *more)
            assert (said.status, "either --from" in said.err) == (1, True)
        said = usage(*options, "--site", "nowhere", "--from", recorded / "0")
        assert (said.status, "unknown site nowhere" in said.err) == (1, True)


class TestFaults:
    @pytest.fixture
    def site(self, tmp_path) -> Path:
        site = tmp_path / "site"
        for number in range(2):
            dump = write_dump(
                tmp_path / str(number), number, {LEASES: table((f"{number}", None, None, None))}
            )
            add_snapshot(site, dump)
        return site

    @pytest.mark.parametrize("at", range(1, 7))
    def test_an_interrupted_run_leaves_all_as_it_was_and_redone_gives_the_same(
        self, site, tmp_path, monkeypatch, at
    ):
        """The run ends at the nth file that it writes, links or renames."""
        next_dump = write_dump(tmp_path / "2", 2, {LEASES: table(("2", None, None, None))})
        whole = tmp_path / "whole"
        shutil.copytree(site, whole)
        add_snapshot(whole, next_dump)
        before = files(site)
        count = iter(range(1, 100))

        def falter(act):
            def acting(*args, **options):
                if next(count) == at:
                    raise KeyboardInterrupt
                return act(*args, **options)

            return acting

        with monkeypatch.context() as patch:
            for owner, name in (
                (shutil, "copy2"),
                (os, "link"),
                (pl.LazyFrame, "sink_parquet"),
                (type(site), "write_text"),
                (type(site), "replace"),
            ):
                patch.setattr(owner, name, falter(getattr(owner, name)))
            with pytest.raises(KeyboardInterrupt):
                add_snapshot(site, next_dump)
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".site.")]
        assert files(site) == before
        assert left == []
        add_snapshot(site, next_dump)
        assert files(site) == files(whole)

    def test_a_full_disk_is_told_and_loses_nothing(self, site, tmp_path, monkeypatch):
        before = files(site)
        dump = write_dump(tmp_path / "2", 2, {LEASES: table()})

        def full(*_args, **_options):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(pl.LazyFrame, "sink_parquet", full)
            with pytest.raises(UsageError, match="No space left on device"):
                add_snapshot(site, dump)
        assert files(site) == before

    @pytest.mark.parametrize(("number", "words"), [(0, "is not later"), (1, "is not later")])
    def test_a_dump_that_is_not_later_is_refused(self, site, tmp_path, number, words):
        dump = write_dump(tmp_path / "again", number, {LEASES: table()})
        with pytest.raises(UsageError, match=words):
            add_snapshot(site, dump)

    def test_a_dump_without_its_time_is_refused(self, site, tmp_path):
        dump = write_dump(tmp_path / "2", 2, {LEASES: table()})
        (dump / "manifest.json").unlink()
        with pytest.raises(UsageError, match="no readable 'as_of'"):
            add_snapshot(site, dump)

    def test_a_directory_without_tables_is_refused(self, site, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="holds no <schema>"):
            add_snapshot(site, tmp_path / "empty")

    def test_a_damaged_table_is_named_and_nothing_is_replaced(self, site, tmp_path):
        before = files(site)
        dump = write_dump(tmp_path / "2", 2, {LEASES: table()})
        (dump / f"{LEASES}.parquet").write_bytes(b"PAR1 and then nothing")
        with pytest.raises(UsageError, match=rf"{LEASES}\.parquet"):
            add_snapshot(site, dump)
        assert files(site) == before

    def test_a_site_that_was_moved_away_is_not_begun_anew(self, site, tmp_path):
        away = tmp_path / f".site.{os.getpid()}.x"
        away.mkdir()
        site.rename(away / "old")
        with pytest.raises(UsageError, match="interrupted run moved away"):
            add_snapshot(site, write_dump(tmp_path / "2", 2, {LEASES: table()}))

    def test_a_dump_put_in_place_by_hand_is_a_gap_that_is_told(self, site, tmp_path):
        shutil.copytree(write_dump(tmp_path / "5", 5, {LEASES: table()}), site, dirs_exist_ok=True)
        assert dump_as_of(site, week(5)).tables[LEASES].is_empty()
        with pytest.raises(UsageError, match="the record has a gap"):
            dump_as_of(site, week(1))

    def test_before_the_first_snapshot_nothing_is_known(self, site):
        with pytest.raises(UsageError, match="the record begins at 2024-01-01"):
            dump_as_of(site, week(0) - timedelta(seconds=1))
