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
OF_NOVA = ("nova_hosts", "nova_instances")
"""The adapters that read its tables."""
QUIET = {"PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "0"}


def environment(version: str) -> Path:
    """Make a version's environment from its lock if it is not there; give its interpreter."""
    lock, folder = HERE / f"nova-{version}.lock", PROJECT / "build" / "services" / f"nova-{version}"
    python, done = folder / "bin" / "python", folder / lock.name
    with alone(folder):
        if not done.exists() or done.read_bytes() != lock.read_bytes():
            uv = [sys.executable, "-m", "uv", "--system-certs"]
            called(*uv, "venv", "-q", "--clear", "--python", sys.executable, folder)
            called(*uv, "pip", "sync", "-q", "--python", python, "--require-hashes", lock)
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
            taken = take(server, site, OF_NOVA, Path(scratch), SITES[site])
            for path in taken.glob("*.parquet"):
                if pl.scan_parquet(path).select(pl.len()).collect().item():
                    shutil.copy(path, folder)
        finally:
            server.stop()
        pl.read_csv(truth, try_parse_dates=True).with_columns(
            pl.col("start", "end").cast(pl.Datetime("us"))
        ).write_parquet(folder / "truth.parquet")
    return folder


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
