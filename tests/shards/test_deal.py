"""Raw tables are dealt into shards: no row is lost, and what belongs together stays together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage.ingest.registry import ADAPTERS, tables_of
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.shards.deal import DEALT, deal, rows_told
from chameleon_usage.shards.facts import GATHERED, of_shards
from support.sites import LIVELY, TinySite, lively, uid

if TYPE_CHECKING:
    from pathlib import Path

COUNT, SOME = 5, 30


def dealt(site: TinySite, folder: Path, count: int = COUNT) -> list[Path]:
    raw = site.write(folder / "raw")
    return deal(raw, tables_of(site.site.adapters), count, folder / "room")


def rows(places: list[Path], table: str) -> pl.DataFrame:
    """Give the rows of a table in all shards, with the number of each."""
    return pl.concat(
        pl.read_parquet(place / f"{table}.parquet").with_columns(shard=pl.lit(number))
        for number, place in enumerate(places)
    )


def assert_beside(rows: pl.DataFrame, others: pl.DataFrame, on: str) -> None:
    """Each row that names another lies in its shard."""
    assert rows.height >= SOME
    named = rows.join(others, on=on, how="semi")
    assert named.height >= SOME
    assert named.join(others, on=["shard", on], how="anti").is_empty()


def test_every_dealt_table_is_one_and_each_thing_is_told_before_it_is_followed():
    assert DEALT.keys() <= RAW_TABLES.keys()
    told: set[str] = set()
    for name, rule in DEALT.items():
        assert rule.column in RAW_TABLES[name].columns, name
        if rule.follows:
            assert set(rule.follows) <= RAW_TABLES[name].kept.keys(), name
            told.add(rule.thing)
        assert not rule.leader or rule.leader in told | {"lease"}, name


def test_each_adapter_of_hosts_reads_no_dealt_table_but_what_is_gathered_of_it():
    hosts = {name: adapter for name, adapter in ADAPTERS.items() if not of_shards(name)}
    assert len(hosts) > 5
    for name, adapter in hosts.items():
        told = {*adapter.tables, *adapter.optional, *adapter.beside}
        assert not told & DEALT.keys() or name in GATHERED, name


@pytest.mark.parametrize("key", LIVELY)
def test_each_row_goes_to_one_shard_and_keeps_its_place_in_the_order(key, tmp_path):
    site = lively(key)
    *shards, hosts = dealt(site, tmp_path)
    assert len(shards) == COUNT
    for path in (tmp_path / "raw" / key).glob("*.parquet"):
        whole = pl.read_parquet(path).with_row_index()
        if path.stem not in DEALT:
            for place in (*shards, hosts):
                assert pl.read_parquet(place / path.name).equals(whole.drop("index"))
            continue
        assert not (hosts / path.name).exists()
        parts = [pl.read_parquet(place / path.name) for place in shards]
        read = [name for name in RAW_TABLES[path.stem].columns if name in whole.columns]
        assert all(part.columns == read for part in parts)
        found = [
            part.join(whole, on=read, how="left", nulls_equal=True, maintain_order="left")["index"]
            for part in parts
        ]
        assert all(places.is_sorted() for places in found)
        assert sorted(pl.concat(found)) == list(whole["index"])


def test_what_belongs_to_a_lease_follows_it(tmp_path):
    site = TinySite()
    site.host("a")
    for number in range(SOME):
        lease = f"L{number}"
        site.lease(lease, 1, 5, ["b-a"])
        site.instance(f"I{number}", "a", 1, 5, lease=lease)
        site.add("nova.migrations", instance_uuid=f"I{number}", status="done", created_at=2)
    *shards, _ = dealt(site, tmp_path)
    leases = rows(shards, "blazar.leases").rename({"id": "lease_id"})
    assert leases["shard"].n_unique() == COUNT
    reservations = rows(shards, "blazar.reservations").rename({"id": "reservation_id"})
    assert_beside(reservations, leases, "lease_id")
    for table in ("blazar.computehost_reservations", "blazar.computehost_allocations"):
        assert_beside(rows(shards, table), reservations, "reservation_id")
    hint = pl.col("spec").str.extract(r'"reservation": \["([^"]+)"')
    specs = rows(shards, "nova_api.request_specs").with_columns(reservation_id=hint)
    assert_beside(specs, reservations, "reservation_id")
    instances = rows(shards, "nova.instances").rename({"uuid": "instance_uuid"})
    assert_beside(instances, specs, "instance_uuid")
    actions = rows(shards, "nova.instance_actions").rename({"id": "action_id"})
    for table in (rows(shards, "nova.migrations"), actions):
        assert_beside(table, instances, "instance_uuid")
    assert_beside(rows(shards, "nova.instance_actions_events"), actions, "action_id")


def test_what_follows_nothing_goes_by_its_own_name(tmp_path):
    site = TinySite()
    site.host("a")
    for number in range(SOME):
        site.instance(f"I{number}", "a", 1, 5)
        site.allocation(f"lost{number}", "b-a", 1, 5)
    *shards, _ = dealt(site, tmp_path)
    instances = rows(shards, "nova.instances").rename({"uuid": "instance_uuid"})
    assert instances["shard"].n_unique() == COUNT
    assert_beside(rows(shards, "nova.instance_actions"), instances, "instance_uuid")
    assert rows(shards, "blazar.computehost_allocations")["shard"].n_unique() == COUNT


def test_instances_of_a_reservation_that_is_gone_stay_together(tmp_path):
    site = TinySite()
    site.host("a")
    for number in range(20):
        site.instance(f"I{number}", "a", 1, 5, lease="gone")
    *shards, _ = dealt(site, tmp_path)
    assert rows(shards, "nova.instances")["shard"].n_unique() == 1


def test_numbers_of_two_cells_are_not_one_thing(tmp_path):
    site = TinySite()
    site.host("a")
    for number in range(SOME):
        site.instance(f"I{number}", "a", 1, 5)
    raw = site.write(tmp_path / "raw")
    for table in ("instances", "instance_actions", "instance_actions_events"):
        own = pl.read_parquet(raw / f"nova.{table}.parquet")
        names = pl.col("uuid" if table == "instances" else "instance_uuid")
        other = own if table.endswith("events") else own.with_columns("x" + names)
        other.write_parquet(raw / f"nova_cell1.{table}.parquet")
    *shards, _ = deal(raw, tables_of(site.site.adapters), COUNT, tmp_path / "room")
    for cell in ("nova", "nova_cell1"):
        instances = rows(shards, f"{cell}.instances").rename({"uuid": "instance_uuid"})
        actions = rows(shards, f"{cell}.instance_actions").rename({"id": "action_id"})
        assert_beside(actions, instances, "instance_uuid")
        assert_beside(rows(shards, f"{cell}.instance_actions_events"), actions, "action_id")


def test_containers_follow_their_reservation_and_what_was_done_to_them_follows_them(tmp_path):
    site = LIVELY["chi_edge"]()
    for number in range(SOME):
        lease = f"M{number}"
        site.lease(lease, 2, 5, ["d-pi"], resource_type="device")
        hint = f'{{"zun.reservation_id": {{"reservation": "{uid(lease)}"}}}}'
        site.container(f"C{number}", "pi", 2.5, annotations=hint)
        done = {"container_uuid": f"C{number}", "start_time": 3, "id": 100 + number}
        site.add("zun.container_actions", action="create", **done)
        site.add("zun.container_actions_events", action_id=100 + number, result="Success")
    *shards, _ = dealt(site, tmp_path)
    reservations = rows(shards, "blazar.reservations").rename({"id": "reservation_id"})
    containers = rows(shards, "zun.container").rename({"uuid": "container_uuid"})
    hinted = containers.with_columns(
        RAW_TABLES["zun.container"].derived["reservation_id"].alias("reservation_id")
    )
    assert_beside(hinted, reservations, "reservation_id")
    actions = rows(shards, "zun.container_actions").rename({"id": "action_id"})
    assert_beside(actions, containers, "container_uuid")
    assert_beside(rows(shards, "zun.container_actions_events"), actions, "action_id")


@pytest.mark.parametrize(
    ("told", "rows"),
    [
        (None, 0),
        ("", 0),
        ("[]", 0),
        ('{"as_of": "2020-01-01"}', 0),
        ('{"tables": ["a"]}', 0),
        ('{"tables": {"nova.instances": 3, "blazar.leases": 4, "other": null}}', 7),
        ('{"tables": {"nova.instances": {"rows": 5, "bytes": 9}, "other": {"bytes": 1}}}', 5),
    ],
)
def test_rows_are_those_that_the_manifest_lists(told, rows, tmp_path):
    if told is not None:
        (tmp_path / "manifest.json").write_text(told)
    assert rows_told(tmp_path) == rows
