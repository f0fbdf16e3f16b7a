"""The example report, made by the published KPI Reporter from a database that export filled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import polars as pl
import pytest
import yaml

from chameleon_usage.io.export.sql import write_sql
from chameleon_usage.models.outputs import OUTPUTS
from support.command import alone, called
from support.sites import PROJECT

KPIREPORT = PROJECT / "dashboards" / "kpireport"
SECRET = "secret-of-the-report"


@pytest.fixture(scope="session")
def kpireport() -> Path:
    """The program in an environment of its own, kept for the next time."""
    wanted = KPIREPORT / "requirements.txt"
    place = PROJECT / "build" / "kpireport"
    done = place / "requirements.txt"
    with alone(place):
        if not done.exists() or done.read_text() != wanted.read_text():
            called(sys.executable, "-m", "venv", "--clear", place)
            python = place / "bin" / "python"
            quick = [Path(sys.executable).with_name("uv"), "--system-certs", "pip", "install", "-q"]
            if subprocess.run([*quick, "--python", python, "-r", wanted], check=False).returncode:
                called(python, "-m", "pip", "install", "-q", "-r", wanted)
            done.write_text(wanted.read_text())
    return place / "bin" / "kpireport"


def usage_wide() -> pl.DataFrame:
    """Two weeks of two sites: 10 nodes each, of which 4 and then 5 of 8 are leased."""
    first, last = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 14, tzinfo=UTC)
    days = pl.datetime_range(first, last, "1d", eager=True)
    week = pl.col("time").dt.week()
    frame = pl.DataFrame({"time": days}).join(pl.DataFrame({"site": ["a", "b"]}), how="cross")
    return OUTPUTS["usage_wide"].validate(
        frame.with_columns(
            resource=pl.lit("nodes"),
            total=10.0,
            reservable=8.0,
            committed=pl.when(week == 1).then(4.0).otherwise(5.0),
            occupied_ondemand=0.0,
            occupied_reserved=3.0,
            active_ondemand=0.0,
            active_reserved=2.0,
        )
        .cast(OUTPUTS["usage_wide"].create_empty().schema)
        .select(OUTPUTS["usage_wide"].column_names())
    )


def leadtime_timeline() -> pl.DataFrame:
    return OUTPUTS["leadtime_timeline"].validate(
        pl.DataFrame(
            {
                "site": ["a", "a", "b"],
                "timestamp": [datetime(2024, 1, day, 5, tzinfo=UTC) for day in (3, 9, 10)],
                "leadtime_type": ["requested"] * 3,
                "value": [1.0, 2.0, 3.0],
            }
        ).cast(OUTPUTS["leadtime_timeline"].create_empty().schema)
    )


@pytest.mark.slow
def test_the_report_of_a_week(kpireport, mariadb, tmp_path, monkeypatch):
    mariadb.sql(
        "CREATE DATABASE usage_history",
        f"CREATE USER reader_report@'%' IDENTIFIED BY '{SECRET}'",
        "GRANT ALL ON usage_history.* TO reader_report@'%'",
    )
    monkeypatch.setenv("URI", mariadb.uri("reader_report", SECRET) + "/usage_history")
    tables = {"usage_wide": usage_wide(), "leadtime_timeline": leadtime_timeline()}
    write_sql(tables, ["a", "b"], "${URI}")
    options = tmp_path / "my.cnf"
    options.write_text(
        f"[client]\nhost=127.0.0.1\nport={mariadb.port}\nuser=reader_report\npassword={SECRET}\n"
    )
    own = {
        "USAGE_MYSQL_OPTIONS": f"{options}",
        "USAGE_DB_NAME": "usage_history",
        "USAGE_REPORT_DIR": f"{tmp_path / 'report'}",
        "MPLCONFIGDIR": f"{tmp_path}",
    }
    said = subprocess.run(
        [kpireport, "--config-file", KPIREPORT / "config.yaml", "--end-date", "2024-01-15"],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "ERROR" not in said.stderr, said.stderr
    page = tmp_path / "report" / "latest-testbed-usage" / "index.html"
    text = re.sub(r"(?s)<style.*?</style>|<[^>]+>", " ", page.read_text())
    text = " ".join(unescape(text).split())
    assert "Error rendering" not in text
    # 5 of 8, after 4 of 8 in the week before; 2 sites of 5 nodes for 7 days, a quarter more.
    assert "62.5 %" in text
    assert "12.5" in text
    assert "1680" in text
    assert "25.0%" in text
    views = yaml.safe_load((KPIREPORT / "config.yaml").read_text())["views"]
    assert all(view["title"] in text for view in views.values())
    assert re.search(r"a 10\.0 8\.0 5\.0 3\.0 62\.5 b 10\.0 8\.0 5\.0 3\.0 62\.5", text)
    figure = page.parent / "nodes" / "figure.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert SECRET not in said.stdout + said.stderr + page.read_text()
