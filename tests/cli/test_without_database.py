"""The commands of "Without any database" in the book, over files as the public ones are."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import polars as pl
import pytest
import yaml

from support import PROJECT
from support.sites import TEN_DAYS, full_site

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (PROJECT / "book" / "operating.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## Without any database") :]
BLOCKS = re.findall(r"```bash\n(.*?)```", SECTION, flags=re.DOTALL)
[ENTRY] = re.findall(r"```yaml\n(.*?)```", SECTION, flags=re.DOTALL)
"""Of the site's trace, in a file of sites."""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with the project's sites, a cloud's own file of sites, and its dump."""
    (tmp_path / "data").mkdir()
    sites = PROJECT / "data" / "sites.yaml"
    (tmp_path / "data" / "sites.yaml").symlink_to(sites)
    own = {"my_cloud": yaml.safe_load(sites.read_text(encoding="utf-8"))["chi_uc"]}
    (tmp_path / "sites.yaml").write_text(yaml.safe_dump(own) + ENTRY)
    site = full_site()
    folder = site.write(tmp_path / "data" / "extracted")
    folder.rename(folder.with_name("my_cloud"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(usage, block: str) -> None:
    """Run the program's commands of a block; `make` and its environment have tests of their own."""
    for line in block.strip().splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if program not in ("make", "."):
            assert program == "chameleon-usage"
            said = usage(*arguments)
            assert said.status == 0, said.err


def test_there_are_four_blocks():
    assert len(BLOCKS) == 4


def test_a_site_is_published_and_read_again(usage, place):
    run(usage, BLOCKS[2])
    run(usage, BLOCKS[3])
    trace = place / "published" / "trace"
    names = {path.name for path in trace.iterdir()}
    kinds = ("machine", "instance", "lease")
    assert names == {*(f"my_cloud_{kind}_events.csv" for kind in kinds), "manifest.json"}
    told, again = (
        pl.read_parquet(place / "output" / site / "usage_timeline.parquet")
        .filter(pl.col("count_type").is_in(["total", "committed", "occupied", "active"]))
        .filter(pl.col("collector_type") == "corrected")
        .drop("site")
        for site in ("my_cloud", "my_cloud_trace")
    )
    known = again.join(told, on=["timestamp", "count_type"], suffix="_told")
    assert known.height > 20
    assert known["value"].equals(known["value_told"])
    text = "".join(path.read_text() for path in trace.iterdir())
    # By default nothing has its own name.
    assert not re.search(r"\b(h[123]|I[12]|L[1-6]|p|q)\b", text)


def test_a_trace_without_leases(usage, place):
    run(usage, BLOCKS[2])
    (place / "data" / "external").mkdir()
    for kind in ("machine", "instance"):
        path = place / "published" / "trace" / f"my_cloud_{kind}_events.csv"
        path.rename(place / "data" / "external" / f"chi_uc_{kind}_events.csv")
    run(usage, BLOCKS[1])
    rows = pl.read_parquet("output/chi_uc_trace/usage_timeline.parquet")
    known = set(rows.drop_nulls("value")["count_type"].unique())
    assert {"total", "occupied_ondemand", "active_ondemand"} <= known
    assert not known & {"committed", "reservable"}


def test_the_record_until_2021(usage, place):
    folder = place / "data" / "external"
    files = {
        "chameleon_machine_events/uc_machine_events.csv": (
            "EVENT_TIME,EVENT_TIME_SEC,HOST_NAME (PHYSICAL),EVENT,PROPERTIES\n"
            "2020-01-01T00:00:00,0.0,aa,CREATE,\"{'node_type': 'gpu'}\"\n"
            "2020-01-09T00:00:00,0.0,aa,UPDATE,\"{'node_type': 'gpu'}\"\n"
        ),
        "chameleon_leases_uc/on_demand/gpu.csv": (
            "lease_id,project_id,user_id,created_at,deleted_at,start_on,end_on,status,node_cnt,"
            "node_type\na,p,u,2020-01-02,2020-01-04,2020-01-02,2020-01-05,active,1,gpu\n"
        ),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    run(usage, BLOCKS[0])


class TestRefused:
    @pytest.fixture
    def saved(self, usage, place):
        said = usage(
            *("run", "--site", "my_cloud", "--data-dir", place / "data" / "extracted"),
            *("--save-stages", *TEN_DAYS),
        )
        assert said.status == 0, said.err
        return place

    def test_a_directory_of_others(self, usage, saved):
        (saved / "mine").mkdir()
        (saved / "mine" / "letter.txt").write_text("dear")
        said = usage("export", "--site", "my_cloud", "--to", "trace:mine")
        assert said.status == 1
        assert "mine holds other files" in said.err
        assert [path.name for path in (saved / "mine").iterdir()] == ["letter.txt"]

    def test_a_site_whose_facts_were_not_saved(self, usage, place):
        run(usage, BLOCKS[2].splitlines()[0].replace(" --save-stages", ""))
        said = usage("export", "--site", "my_cloud", "--to", "trace:out")
        assert said.status == 1
        assert "--save-stages" in said.err
        assert not (place / "out").exists()

    def test_an_earlier_trace_is_replaced_whole(self, usage, saved):
        for _ in range(2):
            assert usage("export", "--site", "my_cloud", "--to", "trace:out").status == 0
            first = {path.name: path.read_bytes() for path in (saved / "out").iterdir()}
            (saved / "out" / "chi_tacc_lease_events.csv").write_text("old")
        assert usage("export", "--site", "my_cloud", "--to", "trace:out").status == 0
        assert {path.name: path.read_bytes() for path in (saved / "out").iterdir()} == first
