"""Files and directories appear whole or not at all, whatever ended a run before."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import (
    load_table,
    save_table,
    save_tables,
    whole_directory,
    whole_file,
)
from chameleon_usage.usage.long import LongTable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = pytest.mark.parametrize("whole", [whole_directory, whole_file])


def fill(part: Path, text: str) -> None:
    """Write the file, or one into the directory."""
    (part / "one" if part.is_dir() else part).write_text(text)


def told(target: Path) -> str:
    return (target / "one" if target.is_dir() else target).read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@KINDS
class TestBoth:
    def test_a_new_one_takes_the_place_of_the_old_and_can_be_read_by_all(self, whole, tmp_path):
        target = tmp_path / "made" / "site"
        for text in ("old", "new"):
            with whole(target) as part:
                fill(part, text)
        assert (names(target.parent), told(target)) == (["site"], "new")
        assert target.stat().st_mode & 0o044 == 0o044

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError()])
    def test_what_cannot_be_written_leaves_the_old(self, whole, tmp_path, error):
        target = tmp_path / "site"
        with whole(target) as part:
            fill(part, "old")

        def fail() -> None:
            with whole(target) as part:
                fill(part, "half")
                raise error

        with pytest.raises(UsageError, match=r"site: could not be written .* untouched"):
            fail()
        assert (names(tmp_path), told(target)) == (["site"], "old")

    def test_what_a_killed_run_left_is_swept_and_a_living_ones_stays(self, whole, tmp_path):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        for pid in (ended.pid, os.getpid()):
            (tmp_path / f".site.{pid}.x" / "new").mkdir(parents=True)
        with whole(tmp_path / "site") as part:
            fill(part, "new")
        assert names(tmp_path) == [f".site.{os.getpid()}.x", "site"]


def test_a_directory_that_a_killed_run_had_moved_away_comes_back(tmp_path):
    with whole_directory(tmp_path / "site") as scratch:
        fill(scratch, "old")
    kill = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from chameleon_usage.io.files import whole_directory\n"
        "replace, done = Path.replace, []\n"
        "def second(self, target):\n"
        "    if done: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    done.append(replace(self, target))\n"
        "Path.replace = second\n"
        "with whole_directory(Path('site')): pass\n"
    )
    ended = subprocess.run([sys.executable, "-c", kill], cwd=tmp_path, check=False)
    assert ended.returncode == -9
    assert not (tmp_path / "site").exists()
    with pytest.raises(KeyError), whole_directory(tmp_path / "site"):
        raise KeyError
    assert (names(tmp_path), told(tmp_path / "site")) == (["site"], "old")


TABLES = {"one": pl.DataFrame({"x": [1]})}


class TestTables:
    def test_a_full_disk_leaves_the_old_and_is_named(self, tmp_path):
        def fill_up() -> None:
            with whole_directory(tmp_path / "site") as scratch:
                (scratch / "one.parquet").symlink_to("/dev/full")
                save_tables(scratch, TABLES)

        with pytest.raises(UsageError, match=r"site: could not be written .*No space left"):
            fill_up()

    @pytest.mark.parametrize(
        ("folder", "advice"), [("stages", "run --save-stages' again"), ("rows", "run' again")]
    )
    def test_a_damaged_one_is_named_though_it_is_read_while_others_are_written(
        self, folder, advice, tmp_path
    ):
        save_tables(tmp_path / folder, TABLES)
        path = tmp_path / folder / "one.parquet"
        path.write_bytes(path.read_bytes()[:-20])

        def read() -> None:
            with whole_directory(tmp_path / "site"):
                load_table(path)

        with pytest.raises(UsageError, match=rf"{folder}/one.parquet: cannot be read .*{advice}"):
            read()

    def test_an_error_of_computing_is_none_of_writing(self, tmp_path):
        def compute() -> None:
            with whole_directory(tmp_path / "site"):
                pl.read_ipc(b"nothing that Polars wrote")

        with pytest.raises(pl.exceptions.ComputeError):
            compute()


class TestPartByPart:
    """A table that is made part by part is written as if it had been whole."""

    def test_the_bytes_are_those_of_the_whole_table(self, tmp_path):
        numbers = pl.int_range(400_000, eager=True)
        kinds = {"collector": pl.Enum(["a", "b"]), "type": pl.Enum(["x", "y"])}
        table = LongTable(kinds)
        for number, label in enumerate([(1, 0), (0, 1), (0, 0)]):
            rows = numbers[number * 9 : (number + 1) * 120_001]
            table.add(label, rows.to_numpy(), rows.cast(pl.Float64).to_numpy())
        whole = pl.concat(LongTable(kinds, series=dict(table.series)).parts(), rechunk=True)
        assert whole["collector"].is_sorted()
        assert whole.height == sum(len(values) for _, values in table.series.values())
        save_table(tmp_path / "whole", whole)
        save_table(tmp_path / "parts", table.parts())
        assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
        assert not table.series

    def test_an_empty_table_is_one_part(self, tmp_path):
        table = LongTable({"type": pl.Enum(["x"])})
        save_table(tmp_path / "none", table.parts())
        assert pl.read_parquet(tmp_path / "none").columns == ["type", "timestamp", "value"]

    def test_what_is_wrong_with_a_part_is_told_as_it_is(self, tmp_path):
        def parts() -> Iterator[pl.DataFrame]:
            yield pl.DataFrame({"a": [1]})
            msg = "a key comes twice"
            raise AssertionError(msg)

        with pytest.raises(AssertionError, match="a key comes twice"):
            save_table(tmp_path / "wrong", parts())
