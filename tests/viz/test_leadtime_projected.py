"""The figure of projected lead times: means of what is known, grey where too little is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from chameleon_usage.viz.leadtime_projected import TYPES, projected

START = datetime(2024, 1, 1, tzinfo=UTC)


def waits(of: dict[str, list[float | None]], nodes: int = 1) -> pl.DataFrame:
    rows = [
        (START + timedelta(days=day), node_type, nodes, value)
        for node_type, days in of.items()
        for day, value in enumerate(days)
    ]
    kinds = {"timestamp": pl.Datetime("us", "UTC"), "node_type": pl.String, "nodes": pl.Int64}
    return pl.DataFrame(rows, schema=kinds | {"value": pl.Float64}, orient="row")


def test_a_quarter_is_the_mean_of_its_known_days_if_half_of_them_are():
    figure = projected(
        waits({"gpu": [24.0, 0.0, None], "fpga": [5.0, None, None]}), site_name="CHI@Test"
    )
    assert figure.data.select("node_type", "wait_h").rows() == [("fpga", None), ("gpu", 12.0)]


def test_each_number_of_nodes_has_its_panel_and_its_words():
    both = pl.concat([waits({"gpu": [0.0] * 9}), waits({"gpu": [30.0] * 9}, 4)])
    spec = projected(both, site_name="CHI@Test").chart.to_dict()
    assert [panel["title"]["text"] for panel in spec["vconcat"]] == ["1 node", "4 nodes at once"]
    assert "4 at once: mean of the known quarters and types (100%) 30 hours" in spec["description"]


def test_types_that_were_longest_in_the_pool_are_shown():
    many = {f"type {number:02}": [0.0] * (30 + number) for number in range(TYPES + 3)}
    shown = set(projected(waits(many), site_name="CHI@Test").data["node_type"])
    assert shown == set(sorted(many)[3:])


def test_it_is_the_same_on_every_run_and_says_so_where_there_is_nothing(tmp_path):
    table = waits({"gpu": [24.0, 0.0, None]})
    first, again = (
        projected(rows, site_name="S").save("a", tmp_path / name)._repr_html_()
        for name, rows in (("one", table), ("two", table.reverse()))
    )
    assert first == again
    files = [(tmp_path / name / "a.svg").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    empty = projected(table.clear(), site_name="S").save("b", tmp_path)
    assert "nothing to show" in empty._repr_html_()
