"""The page on time and memory says what was recorded, and what of it carries over."""

import json

from paper import bench
from paper.project import site_names

TOLD = json.loads(bench.RECORD.read_text(encoding="utf-8"))
RANGES = json.loads(bench.RANGES.read_text(encoding="utf-8"))
NIGHTS = json.loads(bench.NIGHTS.read_text(encoding="utf-8"))
NAMES = site_names(" ".join(TOLD["sites"]), "data/sites.yaml")


def test_each_site_has_a_row_with_its_ratio_to_the_floor():
    page = bench.page()
    for of in TOLD["sites"].values():
        ratio = f"{of['seconds'] / of['floor_documents']:.1f}"
        [row] = [line for line in page.splitlines() if f"| {of['rows']:,} |" in line]
        assert f"| {ratio} |" in row
        assert f"| {of['memory_gib']:.2f} GiB |" in row


def test_reading_alone_is_quicker_than_running_and_documents_cost():
    for site, of in TOLD["sites"].items():
        assert 0 < of["floor"] < of["seconds"], site
        assert of["floor"] < of["floor_documents"] * 1.5, site  # times are never exact


def test_machine_and_versions_are_told():
    page = bench.page()
    assert TOLD["machine"]["processor"] in page
    for name in ("Python", "polars", "chameleon-usage"):
        assert f"{name} {TOLD['machine']['versions'][name]}" in page


def test_each_run_range_by_range_has_a_column():
    lines = [line.strip("| ").split(" | ") for line in bench.page().splitlines()]
    firsts = [number for number, line in enumerate(lines) if line[-1].endswith("×")]
    assert sum(len(lines[first]) for first in firsts) == len(RANGES["runs"])  # one column each
    tables = [{label: cells for label, *cells in lines[n + 2 : n + 12]} for n in firsts]
    for of in RANGES["runs"]:
        at_home = of["engine"] in {"threads", "processes"}
        name = f"{of['jobs']} {of['engine']}" if at_home else of["engine"].title()
        [(first, table)] = [
            (first, table)
            for first, table in zip(firsts, tables, strict=True)
            if f"{name}, {of['copies']}×" in lines[first]
        ]
        column = lines[first].index(f"{name}, {of['copies']}×")
        assert table["*intervals*"][column] == f"{of['intervals']:,}"
        assert table["*facts*"][column] == f"{of['facts']:.1f} s"
        assert table["*driver*"][column] == f"{of['driver_with_tables_gib']:.1f} GiB"
        worker = f"{of['worker_gib']:.1f} GiB" if of["worker_gib"] else "–"
        assert table["*worker*"][column] == worker


def test_what_ranges_take_grows_with_the_site_at_most():
    for engine in {of["engine"] for of in RANGES["runs"]}:
        sizes = {of["copies"]: of for of in RANGES["runs"] if of["engine"] == engine}
        assert 1 in sizes
        for times, of in sizes.items():
            assert of["together_gib"] < {"threads": 3, "processes": 8}.get(engine, 16)
            for what in ("rows_mb", "cpu_seconds"):
                assert of[what] / times < 1.1 * sizes[1][what]


def test_each_update_stands_beside_its_run_in_full():
    page = bench.page()
    for of in NIGHTS["runs"]:
        [row] = [
            line
            for line in page.splitlines()
            if f", {of['tables']} tables, " in line
            and f"| {of['night']} | {of['anew']} |" in line
            and line.startswith(f"| {NAMES[of['site']]}, ")
            and f", {'hours since ' + of['since'] if of['since'] else 'days'} |" in line
        ]
        for kind in ("whole", "update"):
            assert f"| {of[kind]['cpu_seconds']:.1f} s, {of[kind]['memory_gib']:.2f} GiB " in row
