"""Makes the tables of two sites as Nova itself writes them, and what is true of them.

    PYTHONPATH=tests python tests/services/nova_make.py [--release R] [--site S] [--out DIR]

Needs MariaDB's server and a package index. Each release of Nova has an environment of its own,
``build/services/nova-<version>``, from ``nova-<version>.lock``. ``scenario.py`` runs in it, against
a server that lives as long as this; its tables become ``<schema>.<table>.parquet`` in
``<out>/<release>/<site>``, with ``truth.parquet`` beside them. Two runs make the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from support import PROJECT
from support.mariadb import MariaDB

HERE = Path(__file__).parent
FIXTURE = HERE / "fixture"
RELEASES = {"2023.1": "27.5.1", "2026.2": "34.0.0", "chameleon-2023.1": "27.5.1"}
"""OpenStack's name of a release to Nova's version: the one that Chameleon runs, and today's.

In Chameleon's own, it is the leases that are others: those of its fork of Blazar.
"""
SITES = {
    "kvm": ("nova_cell0", "nova_cell1", "nova_cell2"),
    "baremetal": ("nova_cell0", "nova_cell1"),
}
"""Sites, with the schemas of their cells; cell 0 has what never came to one."""
MADE = [
    (release, site)
    for release in RELEASES
    for site in SITES
    if (HERE / f"reservations-{release}-{site}.json").exists()
]
"""Releases and sites: those that Blazar has leases at."""
ROW = "id created_at updated_at deleted_at deleted"
WIDE = {
    "compute_nodes": f"{ROW} uuid host hypervisor_hostname hypervisor_type vcpus memory_mb "
    "local_gb",
    "services": f"{ROW} uuid host binary report_count disabled disabled_reason last_seen_up "
    "forced_down version",
    "instances": f"{ROW} uuid host node launched_on project_id vm_state task_state power_state "
    "vcpus memory_mb root_gb ephemeral_gb launched_at terminated_at instance_type_id hidden",
    "instance_actions": f"{ROW} action instance_uuid start_time finish_time message",
    "instance_actions_events": f"{ROW} action_id event start_time finish_time result host",
    "migrations": f"{ROW} uuid instance_uuid migration_type status source_compute source_node "
    "dest_compute dest_node old_instance_type_id new_instance_type_id hidden cross_cell_move",
}
"""Of each table of a cell the columns that may be of use; its archive has the same."""
OF_API = {
    "request_specs": "id created_at updated_at instance_uuid spec",
    "instance_mappings": "id created_at updated_at instance_uuid cell_id project_id "
    "queued_for_delete",
    "cell_mappings": "id uuid name",
    "flavors": "id name vcpus memory_mb root_gb",
}
TYPES = {"bigint": pl.Int64, "int": pl.Int64, "tinyint": pl.Int64, "datetime": pl.Datetime("us")}
QUIET = {"PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "0"}


def environment(version: str) -> Path:
    """Make a version's environment from its lock if it is not there; give its interpreter."""
    lock, folder = HERE / f"nova-{version}.lock", PROJECT / "build" / "services" / f"nova-{version}"
    python, done = folder / "bin" / "python", folder / lock.name
    if not done.exists() or done.read_bytes() != lock.read_bytes():
        uv = [sys.executable, "-m", "uv", "--system-certs"]
        subprocess.run(
            [*uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True
        )
        sync = [*uv, "pip", "sync", "-q", "--python", python, "--require-hashes", lock]
        subprocess.run(sync, check=True)
        done.write_bytes(lock.read_bytes())
    return python


def make(release: str, site: str, out: Path) -> Path:
    """Make a site's tables and truth, and give their folder."""
    python, folder = environment(RELEASES[release]), out / release / site
    enrolled = pl.read_parquet(FIXTURE / release / site / "blazar_truth.parquet")
    with tempfile.TemporaryDirectory(dir=PROJECT / "build", prefix="nova-") as scratch:
        truth = Path(scratch) / "truth.csv"
        server = MariaDB(Path(scratch))
        try:
            for schema in ("nova_api", *(f"nova_cell{number}" for number in range(3))):
                server.sql(f"CREATE DATABASE {schema} CHARACTER SET utf8mb3")
            server.sql(
                "CREATE USER nova@'127.0.0.1' IDENTIFIED BY 'nova'",
                "GRANT ALL ON *.* TO nova@'127.0.0.1'",
            )
            told = subprocess.run(
                [
                    *(python, HERE / "scenario.py", site, "--truth", truth),
                    *("--server", f"mysql+pymysql://nova:nova@127.0.0.1:{server.port}"),
                    *("--reservations", HERE / f"reservations-{release}-{site}.json"),
                    *("--hosts", *enrolled["hypervisor_hostname"].unique().sort()),
                ],
                env=os.environ | QUIET,
                capture_output=True,
                text=True,
                check=False,
            )
            if told.returncode:
                raise RuntimeError(f"Nova {release}, {site}:\n{told.stderr[-20_000:]}")
            folder.mkdir(parents=True, exist_ok=True)
            for name, frame in tables(server, site).items():
                frame.write_parquet(folder / f"{name}.parquet", compression_level=19)
        finally:
            server.stop()
        pl.read_csv(truth, try_parse_dates=True).with_columns(
            pl.col("start", "end").cast(pl.Datetime("us"))
        ).write_parquet(folder / "truth.parquet")
    return folder


def tables(server: MariaDB, site: str) -> dict[str, pl.DataFrame]:
    """Read what the services wrote, tables without rows left out."""
    wanted = {("nova_api", name): columns for name, columns in OF_API.items()}
    for cell in SITES[site]:
        for name, columns in WIDE.items():
            wanted |= {(cell, name): columns, (cell, f"shadow_{name}"): columns}
    found = {}
    for (schema, table), columns in wanted.items():
        frame = _table(server, schema, table, columns.split())
        if frame.height:
            found[f"{schema}.{table}"] = frame
    return found


def _table(server: MariaDB, schema: str, table: str, columns: list[str]) -> pl.DataFrame:
    listed: dict[str, Any] = dict(
        server.sql(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = '{schema}' AND table_name = '{table}'"
        )
    )
    names = [name for name in columns if name in listed]
    quoted = ", ".join(f"`{name}`" for name in names)
    rows = server.sql(f"SELECT {quoted} FROM {schema}.{table} ORDER BY id")
    types = {name: TYPES.get(listed[name], pl.String) for name in names}
    return pl.DataFrame(list(rows), schema=types, orient="row")


def main() -> None:
    """Make what is asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--release", choices=RELEASES, action="append")
    parser.add_argument("--site", choices=SITES, action="append")
    parser.add_argument("--out", type=Path, default=FIXTURE)
    asked = parser.parse_args()
    for release, site in MADE:
        if release in (asked.release or RELEASES) and site in (asked.site or SITES):
            sys.stdout.write(f"{make(release, site, asked.out)}\n")


if __name__ == "__main__":
    main()
