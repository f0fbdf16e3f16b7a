"""Makes the tables that Blazar writes anew: an environment, a database, a script, an extraction.

``PYTHONPATH=tests python tests/services/blazar_make.py`` writes the fixture: for each release and
site the tables as ``chameleon-usage extract`` takes them, what is true (``blazar_truth.parquet``),
and the reservations (``reservations-<release>-<site>.json``). Blazar is licensed under Apache-2.0;
only what it writes is kept here.

``fixture/chameleon-2023.1`` is what ChameleonCloud/blazar wrote at its commit bbd20e84 (branch
chameleoncloud/2023.1), told the site ``chameleon`` of the same script. It is not made anew: no
package index has that version.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

from services.taking import take
from support import PROJECT
from support.command import alone, called
from support.mariadb import MariaDB

HERE = PROJECT / "tests" / "services"
RELEASES = {"2023.1": "11.0.1", "2026.2": "18.0.0"}
"""OpenStack's name of a release to Blazar's version: the one that Chameleon runs, and today's."""
SITES = ("baremetal", "kvm")
OF_BLAZAR = ("blazar_hosts", "blazar_allocations", "blazar_leases")
"""The adapters that read its tables."""
CONFIGURATION = """[DEFAULT]
transport_url = fake://
[database]
connection = {uri}
[nova]
az_aware = false
[physical:host]
before_end = snapshot
[oslo_messaging_notifications]
driver = noop
"""
TRUTH = {
    "kind": pl.String(),
    "hypervisor_hostname": pl.String(),
    "entity": pl.String(),
    "start": pl.Datetime("us"),
    "end": pl.Datetime("us"),
    "vcpus": pl.Int64(),
}


def environment(version: str) -> Path:
    """Make the environment of a version of Blazar, kept for the next time; give its programs."""
    lock = HERE / f"blazar-{version}.lock"
    place = PROJECT / "build" / "services" / f"blazar-{version}"
    done = place / "lock"
    with alone(place):
        if not done.exists() or done.read_text() != lock.read_text():
            called(sys.executable, "-m", "venv", "--clear", place)
            python = place / "bin" / "python"
            given = ["install", "-q", "--require-hashes", "-r", lock]
            uv = [Path(sys.executable).with_name("uv"), "--system-certs", "pip", *given]
            if subprocess.run([*uv, "--python", python], check=False).returncode:
                called(python, "-m", "pip", *given)
            done.write_text(lock.read_text())
    return place / "bin"


def write(server: MariaDB, release: str, site: str, work: Path) -> dict[str, object]:
    """Have Blazar write a site into the server's database; give what is true.

    The server's clock stands from then on where the site's time ended.
    """
    programs = environment(RELEASES[release])
    password = "secret-of-the-service"
    server.sql(
        "CREATE DATABASE blazar CHARACTER SET utf8mb3",
        f"CREATE OR REPLACE USER reader_service@127.0.0.1 IDENTIFIED BY '{password}'",
        "GRANT ALL ON blazar.* TO reader_service@127.0.0.1",
    )
    uri = server.uri("reader_service", password).replace("mysql:", "mysql+pymysql:") + "/blazar"
    configuration, told = work / "blazar.conf", work / "told.json"
    configuration.write_text(CONFIGURATION.format(uri=uri))
    for call in (
        ["blazar-db-manage", "--config-file", configuration, "upgrade", "head"],
        ["python", HERE / "blazar_script.py", site, configuration, told],
    ):
        called(
            programs / call[0],
            *call[1:],
            # Blazar chooses among equal hosts in the order of a set.
            env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"},
        )
    truth = json.loads(told.read_text())
    server.sql(
        "SET time_zone = '+00:00'",
        f"SET GLOBAL init_connect = CONCAT('SET timestamp = ', UNIX_TIMESTAMP('{truth['as_of']}'))",
    )
    return truth


def make(server: MariaDB, release: str, site: str, work: Path) -> tuple[Path, list[object]]:
    """Give the folder of a site's tables and truth, made anew, and its reservations."""
    truth = write(server, release, site, work)
    folder = take(server, site, OF_BLAZAR, work)
    rows = pl.DataFrame(truth["truth"], schema=TRUTH | dict.fromkeys(("start", "end"), pl.String()))
    rows.with_columns(pl.col("start", "end").str.to_datetime()).cast(TRUTH).write_parquet(
        folder / "blazar_truth.parquet"
    )
    return folder, truth["reservations"]


def reservations(release: str, site: str) -> Path:
    """Give the file of a site's reservations, which Nova's script reads."""
    return HERE / f"reservations-{release}-{site}.json"


def main() -> None:
    """Write the whole fixture."""
    for release in RELEASES:
        for site in SITES:
            with tempfile.TemporaryDirectory() as work:
                server = MariaDB(Path(work))
                try:
                    folder, told = make(server, release, site, Path(work))
                finally:
                    server.stop()
                kept = HERE / "fixture" / release / site
                kept.mkdir(parents=True, exist_ok=True)
                for path in folder.glob("blazar*.parquet"):
                    shutil.copy(path, kept)
                reservations(release, site).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
