"""Stages can be saved, loaded and run alone, and give the same bytes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from chameleon_usage import stages
from chameleon_usage.errors import UsageError
from chameleon_usage.io import files
from support.sites import LIVELY, PROJECT, TEN_DAYS, TinySite, lively

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = PROJECT / "data" / "sites.yaml"


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.parquet"))
    }


@pytest.fixture
def saved(usage, lively_outputs, tmp_path):
    """Outputs with their stages, and no raw tables. Gives a function to run on."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(lively_outputs("--by-host", "--save-stages"), out)
    call = ("run", "--config", CONFIG, "--data-dir", raw, "--output", out, *TEN_DAYS, "--by-host")

    def again(stage: str, *args: str) -> Path:
        said = usage(*call, "--from", stage, *args)
        assert said.status == 0, said.err
        return out

    again.out = out
    return again


@pytest.mark.parametrize("stage", ["facts", "segments", "usage"])
def test_from_a_saved_stage_come_the_same_bytes(saved, stage):
    before = bytes_below(saved.out)
    assert len(before) > 60
    assert bytes_below(saved(stage)) == before


def test_one_stage_after_another_comes_to_the_same_bytes(saved):
    before, one = bytes_below(saved.out), ("--site", "chi_tacc")
    saved("segments", *one)
    saved("facts", *one)
    assert bytes_below(saved("usage", *one)) == before


@pytest.mark.parametrize("stage", ["facts", "segments"])
def test_a_saved_stage_serves_other_buckets(saved, stage):
    out = saved(stage, "--bucket", "1h", "--site", "chi_tacc")
    timeline = pl.read_parquet(out / "chi_tacc" / "usage_timeline.parquet")
    assert timeline["timestamp"].n_unique() == 240


def test_without_being_asked_no_stage_is_saved(lively_outputs):
    out = lively_outputs()
    assert (out / "chi_tacc" / "usage_timeline.parquet").exists()
    assert not (out / "chi_tacc" / "stages").exists()


def test_a_damaged_stage_is_named(saved, usage, tmp_path):
    path = next((saved.out / "chi_tacc" / "stages" / "segments").glob("segments.parquet"))
    path.write_bytes(path.read_bytes()[:50])
    before = bytes_below(saved.out)
    said = usage("run", "--config", CONFIG, "--output", tmp_path / "out", "--from", "segments")
    assert said.status != 0
    assert str(path) in said.err
    assert "--save-stages" in said.err
    assert bytes_below(saved.out) == before


@pytest.mark.parametrize("key", LIVELY)
class TestEachStageAlone:
    def test_facts_are_what_was_saved(self, key, tmp_path):
        stage = lively(key).facts
        stages.save_facts(tmp_path / "stages", stage)
        loaded = stages.load_facts(tmp_path)
        assert loaded.as_of == stage.as_of
        for name, frame in stage.ingested.tables().items():
            assert_frame_equal(loaded.ingested.tables()[name], frame, check_row_order=False)

    def test_segments_are_what_was_saved(self, key, tmp_path):
        stage = lively(key).stage
        stages.save_segments(tmp_path / "stages", stage)
        loaded = stages.load_segments(tmp_path)
        for name, frame in vars(stage).items():
            assert_frame_equal(vars(loaded)[name], frame, check_row_order=False)

    def test_usage_is_what_was_saved(self, key, tmp_path):
        tables = lively(key).outputs
        stages.save_usage(tmp_path, tables.items())
        loaded = stages.load_usage(tmp_path)
        assert loaded.keys() == tables.keys()
        for name, frame in tables.items():
            assert_frame_equal(loaded[name], frame)

    def test_facts_say_who_entered_which_state_when_by_whose_word(self, key):
        facts, entities = stages.facts_of(lively(key).facts.ingested.intervals)
        assert facts.columns == ["timestamp", "source", "entity_id", "quantity_type", "state"]
        assert facts.height > 0
        key = ["source", "entity_id", "quantity_type"]
        assert facts.join(entities, on=key, how="anti").is_empty()


def test_a_site_of_caches_alone_runs_from_each_of_its_stages(usage, tmp_path):
    """No table of it names a host: it has no interval, and no count but the legacy one."""
    site = TinySite("chi_tacc", adapters=["legacy"])
    site.cached_day(2, total_hours=48.0)
    site.write(tmp_path / "raw")
    config = tmp_path / "sites.yaml"
    config.write_text("chi_tacc: {adapters: [legacy]}")
    call = ("run", "--config", config, "--data-dir", tmp_path / "raw", "--site", "chi_tacc")
    made = []
    for stage in (("--save-stages",), ("--from", "facts"), ("--from", "segments")):
        said = usage(*call, "--output", tmp_path / "out", *TEN_DAYS, *stage)
        assert said.status == 0, said.err
        made.append(pl.read_parquet(tmp_path / "out" / "chi_tacc" / "usage_timeline.parquet"))
    assert made[0].equals(made[1])
    assert made[0].equals(made[2])
    total = made[0].filter(pl.col("count_type") == "total").sort("timestamp")
    assert set(made[0]["collector_type"]) == {"legacy"}
    assert total["value"].to_list()[1:4] == [None, 2.0, None]


def test_stages_that_are_not_there_name_the_way_out(tmp_path):
    for load in (stages.load_facts, stages.load_segments):
        with pytest.raises(UsageError, match="--save-stages"):
            load(tmp_path)
    with pytest.raises(UsageError, match="chameleon-usage run"):
        stages.load_usage(tmp_path)


class TestWholeDirectory:
    def test_appears_with_everything_in_it(self, tmp_path):
        with files.whole_directory(tmp_path / "a" / "site") as scratch:
            (scratch / "one").write_text("1")
            assert not (tmp_path / "a" / "site").exists()
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["site"]
        assert (tmp_path / "a" / "site" / "one").read_text() == "1"

    def test_takes_the_place_of_an_older_one(self, tmp_path):
        for text in ("1", "2"):
            with files.whole_directory(tmp_path / "site") as scratch:
                (scratch / text).write_text(text)
        assert [path.name for path in tmp_path.rglob("*")] == ["site", "2"]

    def test_after_an_error_all_is_as_before(self, tmp_path):
        with files.whole_directory(tmp_path / "site") as scratch:
            (scratch / "one").write_text("1")

        def break_off() -> None:
            with files.whole_directory(tmp_path / "site") as scratch:
                (scratch / "two").write_text("2")
                raise KeyError

        with pytest.raises(KeyError):
            break_off()
        assert [path.name for path in tmp_path.rglob("*")] == ["site", "one"]
