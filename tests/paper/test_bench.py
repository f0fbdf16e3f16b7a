"""The page on time and memory says what was recorded, and what of it carries over."""

import json

from paper import bench

TOLD = json.loads(bench.RECORD.read_text(encoding="utf-8"))


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
