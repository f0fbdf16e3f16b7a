"""Real triggers write an audit table on a real MariaDB whose own time zone is not UTC.

The test plays ten days: the session's clock says when a statement is run, as the triggers see it.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

import polars as pl
import pytest

from support.sites import TEN_DAYS, TinySite, day, on

if TYPE_CHECKING:
    from pathlib import Path

    from support.mariadb import MariaDB

pytestmark = pytest.mark.slow

HOSTS, AUDIT = "blazar.computehosts", "openstack_audit.audit_blazar_computehosts"
SITE = "tiny: {name: Tiny, adapters: [nova_hosts, blazar_hosts], db_uri: '${TINY_DB_URI}'}"
KEPT = (
    *("id", "hypervisor_hostname", "vcpus", "memory_mb", "local_gb", "reservable", "cpu_info"),
    *("created_at", "deleted_at"),
)
OWN = ("audit_id INT AUTO_INCREMENT PRIMARY KEY", "id VARCHAR(36)")
EVENT = "audit_event_type ENUM('INSERT', 'UPDATE', 'DELETE')"


class Played:
    """A server on which some days of a site are played.

    Attributes:
        kind: type of the audit table's times.
        document: the audited row is kept as JSON, else in columns, as the role first did it.
    """

    def __init__(self, server: MariaDB, kind: str, *, document: bool) -> None:
        self.server, self.document = server, document
        now = f"{kind} NULL DEFAULT CURRENT_TIMESTAMP"
        server.sql(
            f"ALTER TABLE {HOSTS} ADD cpu_info MEDIUMTEXT",
            f"UPDATE {HOSTS} SET cpu_info = 'private'",
            "CREATE DATABASE openstack_audit",
        )
        columns = [*OWN, EVENT, "audit_changed_by VARCHAR(255)", f"audit_changed_at {now}"]
        if document:
            columns += [f"audit_event_time {now}", "data JSON"]
        else:
            kinds = {"vcpus": "INT", "memory_mb": "INT", "local_gb": "INT"}
            kinds |= {
                "reservable": "TINYINT(1)",
                "created_at": "DATETIME",
                "deleted_at": "DATETIME",
            }
            columns += [f"{c} {kinds.get(c, 'TEXT')}" for c in KEPT if c != "id"]
        self.columns = columns

    def at(self, number: float, *statements: str) -> None:
        """Run statements at a day, in a session of the server's own time zone."""
        moment = int(day(number).replace(tzinfo=UTC).timestamp())
        self.server.sql(
            "SET time_zone = @@GLOBAL.time_zone",
            f"SET timestamp = {moment}",
            *statements,
            "SET timestamp = DEFAULT",
        )

    def values(self, row: str) -> str:
        if self.document:
            members = ", ".join(f"'{column}', {row}.{column}" for column in KEPT)
            return f"JSON_OBJECT({members})"
        return ", ".join(f"{row}.{column}" for column in KEPT if column != "id")

    def insert(self, kind: str, row: str) -> str:
        names = "data" if self.document else ", ".join(c for c in KEPT if c != "id")
        return (
            f"INSERT INTO {AUDIT} (id, audit_event_type, audit_changed_by, {names}) "
            f"VALUES ({row}.id, '{kind}', USER(), {self.values(row)})"
        )

    def switch_on(self, number: float) -> None:
        watched = "NOT (OLD.reservable <=> NEW.reservable)"
        self.at(
            number,
            f"CREATE TABLE {AUDIT} ({', '.join(self.columns)})",
            f"CREATE TRIGGER blazar.hosts_made AFTER INSERT ON {HOSTS} FOR EACH ROW "
            + self.insert("INSERT", "NEW"),
            f"CREATE TRIGGER blazar.hosts_changed AFTER UPDATE ON {HOSTS} FOR EACH ROW "
            f"IF {watched} THEN {self.insert('UPDATE', 'NEW')}; END IF",
            f"CREATE TRIGGER blazar.hosts_gone AFTER DELETE ON {HOSTS} FOR EACH ROW "
            + self.insert("DELETE", "OLD"),
        )
        if self.document:
            self.at(
                number,
                f"INSERT INTO {AUDIT} (id, audit_event_type, audit_event_time, audit_changed_by, "
                "data) SELECT src.id, 'INSERT', src.created_at, 'backfill', "
                f"{self.values('src')} FROM {HOSTS} src",
            )


@pytest.mark.parametrize(
    "form", [("DATETIME", True), ("TIMESTAMP", True), ("TIMESTAMP", False)], ids=str
)
def test_what_triggers_wrote_dates_every_change(form, mariadb, usage, tmp_path: Path, monkeypatch):
    kind, document = form
    site = TinySite(adapters=["nova_hosts", "blazar_hosts"])
    for name in ("h1", "h2", "h3"):
        site.hypervisor(name, 0)
    for name in ("h1", "h2"):
        site.pool_host(name, 0)
    mariadb.fill(site.write(tmp_path / "raw"))
    played = Played(mariadb, kind, document=document)
    # Before the switch-on nobody sees that h2 was out of the pool for an hour.
    played.at(1, f"UPDATE {HOSTS} SET reservable = 0 WHERE id = 'b-h2'")
    played.at(1.05, f"UPDATE {HOSTS} SET reservable = 1 WHERE id = 'b-h2'")
    played.switch_on(2)
    played.at(3.25, f"UPDATE {HOSTS} SET reservable = 0 WHERE id = 'b-h1'")
    played.at(5.5, f"UPDATE {HOSTS} SET reservable = 1 WHERE id = 'b-h1'")
    played.at(
        6,
        f"INSERT INTO {HOSTS} (id, hypervisor_hostname, hypervisor_type, vcpus, reservable, "
        "created_at, cpu_info) VALUES ('b-h3', 'h3', 'ironic', 48, 1, UTC_TIMESTAMP(), 'private')",
    )
    played.at(7.75, f"UPDATE {HOSTS} SET deleted_at = UTC_TIMESTAMP() WHERE id = 'b-h2'")
    played.at(8.5, f"DELETE FROM {HOSTS} WHERE id = 'b-h3'")

    config = tmp_path / "sites.yaml"
    config.write_text(SITE)
    monkeypatch.setenv("TINY_DB_URI", mariadb.uri())
    said = usage("grants", "--config", config, "--site", "tiny", "--user", "reader")
    mariadb.script(said.out)
    mariadb.sql(
        "ALTER USER reader@localhost IDENTIFIED BY 'secret-of-the-reader' ACCOUNT UNLOCK",
        "SET time_zone = '+00:00'",
        f"SET GLOBAL init_connect = CONCAT('SET timestamp = ', UNIX_TIMESTAMP('{day(10)}'))",
    )
    said = usage("extract", "--config", config, "--site", "tiny", "--data-dir", tmp_path / "data")
    assert said.status == 0, said.err

    rows = pl.read_parquet(tmp_path / "data" / "tiny" / f"{AUDIT}.parquet")
    told = rows.filter(pl.col("audit_changed_by").is_null() if document else pl.lit(value=True))
    assert told["audit_changed_at"].to_list() == [day(at) for at in (3.25, 5.5, 6, 8.5)]
    assert "private" not in str(rows.to_dicts())
    assert "root" not in str(rows.to_dicts())
    if document:
        assert set(rows["audit_changed_by"].drop_nulls()) == {"backfill"}
        assert "cpu_info" not in json.loads(rows["data"][0])

    said = usage(
        *("run", "--config", config, "--data-dir", tmp_path / "data", "--by-host"),
        *("--output", tmp_path / "out", *TEN_DAYS),
    )
    assert said.status == 0, said.err
    found = pl.read_parquet(tmp_path / "out" / "tiny" / "usage_by_host.parquet").filter(
        collector_type="corrected", count_type="reservable"
    )
    expected = {"h1": on((0, 3.25), (5.5, 10)), "h2": on((0, 7.75)), "h3": on((6, 8.5))}
    for host, days in expected.items():
        values = dict(
            found.filter(hypervisor_hostname=host)
            .select(pl.col("timestamp").dt.replace_time_zone(None), "value")
            .iter_rows()
        )
        assert [values.get(day(n), 0.0) for n in range(10)] == days, host
