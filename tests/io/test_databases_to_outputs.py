"""From databases to outputs: the twin's rows in a real MariaDB give what the twin's files give."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from polars.testing import assert_frame_equal

from chameleon_twin.cli import main as make_twin
from support import PROJECT
from support.command import called
from support.mariadb import SCHEMA, MariaDB

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SITES = ("chi_edge", "chi_tacc", "chi_uc", "kvm_tacc")
FIXTURE = PROJECT / "tests" / "services" / "fixture" / "2026.2"
PASSWORD = "secret-of-the-reader"
BY_HAND = "inventory.node_intervals.parquet"


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    """Every site of the twin, small."""
    folder = tmp_path_factory.mktemp("twin")
    said = CliRunner().invoke(
        make_twin, ["make", "--scale", "0.02", "--data-dir", str(folder)], catch_exceptions=False
    )
    assert said.exit_code == 0, said.output
    return folder


class Live:
    """The databases of a site of the twin, and what is made from them."""

    def __init__(self, server: MariaDB, usage, twin: Path, root: Path) -> None:
        self.server, self.usage, self.twin, self.root = server, usage, twin, root
        self.data = root / "data"

    def put(self, site: str, *, real_schema: bool = False) -> None:
        """Load a site; the server's clock stands where the twin's tables were read."""
        self.server.fill(self.twin / site, real_schema=real_schema)
        as_of = json.loads((self.twin / site / "manifest.json").read_text())["as_of"]
        self.server.sql(
            "SET time_zone = '+00:00'",
            f"SET GLOBAL init_connect = CONCAT('SET timestamp = ', UNIX_TIMESTAMP('{as_of}'))",
        )
        self.server.script(self.usage("grants", "--site", site, "--user", "reader").out)
        self.server.sql(
            "ALTER USER reader@localhost IDENTIFIED BY 'secret-of-the-reader' ACCOUNT UNLOCK"
        )

    def extract(self, site: str, to: Path | str, *more: str) -> None:
        said = self.usage("extract", "--site", site, "--data-dir", to, *more)
        assert said.status == 0, said.err

    def run(self, site: str, source: Path | str) -> dict[str, bytes]:
        """Give the bytes of every output file."""
        out = self.root / "out"
        said = self.usage(
            *("run", "--site", site, "--data-dir", source, "--output", out, "--by-host")
        )
        assert said.status == 0, said.err
        found = {path.name: path.read_bytes() for path in (out / site).glob("*.parquet")}
        assert "usage_by_host.parquet" in found
        return found


@pytest.fixture
def live(mariadb, usage, twin, tmp_path, monkeypatch) -> Live:
    for site in SITES:
        monkeypatch.setenv(f"{site.upper()}_DB_URI", mariadb.uri())
    return Live(mariadb, usage, twin, tmp_path)


def through_the_database(live: Live, site: str, *, real_schema: bool) -> dict[str, bytes]:
    live.put(site, real_schema=real_schema)
    if (live.twin / site / BY_HAND).exists():  # no database has it
        (live.data / site).mkdir(parents=True)
        shutil.copy(live.twin / site / BY_HAND, live.data / site)
    live.extract(site, live.data)
    return live.run(site, live.data)


class TestByteForByte:
    @pytest.mark.parametrize("site", SITES)
    def test_in_the_tables_that_the_services_migrations_make(self, live, site):
        if not SCHEMA.exists():
            pytest.skip("the services' own table definitions (../shared/schema) are not here")
        assert through_the_database(live, site, real_schema=True) == live.run(site, live.twin)

    @pytest.mark.parametrize("site", ["chi_edge", "kvm_tacc"])
    def test_in_tables_of_the_twins_columns(self, live, site):
        assert through_the_database(live, site, real_schema=False) == live.run(site, live.twin)


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """An S3 store on a loopback port."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-store",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    store.makedirs("usage", exist_ok=True)
    yield "s3://usage/sites/all"
    if store.exists("usage/sites"):
        store.rm("usage/sites", recursive=True)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


class TestStores:
    """A bucket is as good as a directory, as target and as input."""

    @pytest.fixture
    def stored(self, live, bucket) -> str:
        live.put("chi_edge")
        live.extract("chi_edge", bucket)
        return bucket

    def test_a_bucket_holds_what_a_directory_holds(self, live, stored):
        live.extract("chi_edge", live.data)
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        names = {path.name for path in (live.data / "chi_edge").iterdir()}
        assert {path.rpartition("/")[2] for path in store.ls(f"{stored}/chi_edge")} == names
        for name in names:
            held = store.cat_file(f"{stored}/chi_edge/{name}")
            assert held == (live.data / "chi_edge" / name).read_bytes()
        assert live.run("chi_edge", stored) == live.run("chi_edge", live.data)

    def test_an_extraction_replaces_its_own_and_leaves_the_rest(self, live, stored):
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.pipe_file(f"{stored}/chi_edge/history/2025.parquet", b"old")
        live.server.sql("DROP TABLE zun.container_actions")
        said = live.usage("extract", "--site", "chi_edge", "--data-dir", stored)
        assert said.status == 1
        assert "zun.container_actions" in said.err
        assert store.exists(f"{stored}/chi_edge/zun.container_actions.parquet")
        live.extract("chi_edge", stored, "--skip-missing")
        store.invalidate_cache()
        assert not store.exists(f"{stored}/chi_edge/zun.container_actions.parquet")
        assert store.cat_file(f"{stored}/chi_edge/history/2025.parquet") == b"old"

    def test_an_upload_that_was_broken_off_is_noticed(self, live, stored):
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.pipe_file(f"{stored}/chi_edge/blazar.leases.parquet", b"of the next extraction")
        said = live.usage("run", "--site", "chi_edge", "--data-dir", stored)
        assert said.status == 1
        assert "blazar.leases.parquet is not that of the manifest" in said.err

    def test_a_bucket_that_is_not_there(self, live, bucket):
        live.put("chi_edge")
        for command in ("extract", "run"):
            said = live.usage(command, "--site", "chi_edge", "--data-dir", "s3://nowhere/x")
            assert said.status == 1
            assert "s3://nowhere" in said.err
            assert "secret-of-the-store" not in said.err

    def test_a_store_of_another_kind(self, live):
        """Whatever fsspec knows: here, one that lives in memory."""
        live.put("chi_edge")
        live.extract("chi_edge", "memory://sites")
        assert live.run("chi_edge", "memory://sites") == live.run("chi_edge", live.twin)

    @pytest.mark.parametrize("place", ["ftp://me:hidden@host/x", "nothing://x"])
    def test_a_store_that_nobody_knows(self, live, place):
        said = live.usage("run", "--site", "chi_edge", "--data-dir", place)
        assert said.status == 1
        assert "hidden" not in said.err


class TestAnotherCloud:
    """The chapter on another cloud, its commands as they stand there."""

    def test_its_commands_lead_from_a_database_to_outputs(self, live, monkeypatch, tmp_path):
        page = (PROJECT / "book" / "another_cloud.md").read_text()
        [entry] = re.findall(r"(?ms)^```yaml\n(.*?)^```$", page)
        blocks = re.findall(r"(?ms)^```bash\n(.*?)^```$", page)
        commands = "".join(blocks).replace("\\\n", " ").splitlines()
        monkeypatch.chdir(tmp_path)
        Path("my_sites.yaml").write_text(entry)
        live.server.fill(live.twin / "kvm_tacc")
        for command in commands:
            name, *args = shlex.split(command.partition(" > ")[0])
            match [name, args[0]]:
                case ["chameleon-usage", "grants"]:
                    args[args.index("--host") + 1] = "localhost"
                    args[args.index("--user") + 1] = "reader"
                    live.server.script(live.usage(*args).out)
                    live.server.sql(
                        "ALTER USER reader@localhost IDENTIFIED BY 'secret-of-the-reader' "
                        "ACCOUNT UNLOCK"
                    )
                case ["export", setting] if "://" in setting:
                    monkeypatch.setenv(setting.partition("=")[0], live.server.uri())
                case ["chameleon-usage", "extract"]:
                    said = live.usage(*args)
                    assert said.status == 0, said.err
                case ["make", "book"]:
                    given = dict(arg.split("=") for arg in args[1:])
        config = ["--config", given["CONFIG"]]
        said = live.usage("run", *config, "--data-dir", given["DATA"], "--output", "output")
        assert said.status == 0, said.err
        assert live.usage("combine", "--output", "output").status == 0
        assert live.usage("check", *config, "--output", "output").status == 0
        usage = pl.read_parquet("output/combined/usage_timeline.parquet")
        assert set(usage["site"]) == {"my_cloud"}
        for count in ("total", "reservable", "committed", "occupied_ondemand"):
            assert usage.filter(collector_type="corrected", count_type=count)["value"].sum() > 0


ENDED = datetime(2024, 3, 1, tzinfo=UTC)
NEWEST = {
    "kvm": ("nova_cell0", "nova_cell1", "nova_cell2"),
    "baremetal": ("nova_cell0", "nova_cell1"),
}
"""The sites that the newest upstream Nova and Blazar wrote, with the cells of each."""


class TestUpstream:
    """The services' newest releases as everybody has them, with several cells."""

    @pytest.fixture
    def extracted(self, mariadb, usage, tmp_path, monkeypatch) -> Path:
        """Find out what is there, have the grants run, and extract: as an operator would."""
        monkeypatch.setenv("CLOUD_DB_URI", mariadb.uri())
        for site, cells in NEWEST.items():
            mariadb.clear()
            mariadb.fill(FIXTURE / site)
            for cell, table in itertools.product(cells, ("compute_nodes", "instances")):
                if not (FIXTURE / site / f"{cell}.{table}.parquet").exists():  # it was empty
                    mariadb.sql(
                        f"CREATE DATABASE IF NOT EXISTS {cell}",
                        f"CREATE TABLE {cell}.{table} LIKE nova_cell1.{table}",
                    )
            mariadb.sql(
                "SET time_zone = '+00:00'",
                f"SET GLOBAL init_connect = 'SET timestamp = {ENDED.timestamp():.0f}'",
                f"CREATE USER reader_all@localhost IDENTIFIED BY '{PASSWORD}'",
                "GRANT SELECT ON *.* TO reader_all@localhost",
            )
            monkeypatch.setenv("INIT_DB_URI", mariadb.uri("reader_all", PASSWORD))
            said = usage(*("init", "--site", site, "--db-uri", "${INIT_DB_URI}", "--output", "-"))
            assert said.status == 0, said.err
            entry = yaml.safe_load(said.out)
            assert tuple(entry[site]["cells"]) == cells
            entry[site]["db_uri"] = "${CLOUD_DB_URI}"
            config = tmp_path / f"{site}.yaml"
            config.write_text(yaml.safe_dump(entry))
            chosen = ["--config", config, "--site", site]
            mariadb.script(usage("grants", *chosen, "--user", "reader").out)
            mariadb.sql(f"ALTER USER reader@localhost IDENTIFIED BY '{PASSWORD}' ACCOUNT UNLOCK")
            said = usage("extract", *chosen, "--data-dir", tmp_path / "data")
            assert said.status == 0, said.err
        (tmp_path / "sites.yaml").write_text(
            "".join((tmp_path / f"{site}.yaml").read_text() for site in NEWEST)
        )
        return tmp_path

    def test_run_gives_what_the_files_give(self, usage, extracted):
        config = extracted / "sites.yaml"
        for site in NEWEST:
            raw = extracted / "raw" / site
            shutil.copytree(FIXTURE / site, raw)
            shutil.copy(extracted / "data" / site / "manifest.json", raw)
        for source in ("data", "raw"):
            out = extracted / "output" / source
            said = usage(
                *("run", "--config", config, "--data-dir", extracted / source, "--output", out)
            )
            assert said.status == 0, said.err
            assert usage("combine", "--output", out).status == 0
            said = usage("check", "--config", config, "--output", out)
            assert said.status == 0, said.err
        for site in NEWEST:
            one, other = (
                pl.read_parquet(extracted / "output" / source / site / "usage_timeline.parquet")
                for source in ("data", "raw")
            )
            assert_frame_equal(one, other)

    def test_the_book_is_made_of_them(self, extracted):
        listed = called("git", "ls-files", cwd=PROJECT)
        tree = extracted / "tree"
        for name in listed.splitlines():
            if (PROJECT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, tree / name)
        (tree / ".venv").symlink_to(PROJECT / ".venv")
        installed = [f"--old-file=.venv/{name}.done" for name in ("lock", "package")]
        choice = [f"DATA={extracted / 'data'}", f"CONFIG={extracted / 'sites.yaml'}"]
        made = subprocess.run(
            ["make", *installed, "book", *choice],
            cwd=tree,
            check=False,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        for site in NEWEST:
            page = (tree / "book" / "_build" / "html" / "notebooks" / f"{site}.html").read_text()
            assert "(from the site\N{RIGHT SINGLE QUOTATION MARK}s databases)" in page
