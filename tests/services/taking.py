"""What an operator does: has the grants run, and extracts a site's tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.mariadb import MariaDB


def take(
    server: MariaDB, site: str, adapters: Sequence[str], work: Path, cells: Sequence[str] = ()
) -> Path:
    """Take the tables that adapters read of a site, as an operator would; give their folder."""
    sites = work / "sites.yaml"
    entry = {"adapters": [*adapters], "db_uri": "${SERVICES_DB_URI}"}
    sites.write_text(yaml.safe_dump({site: entry | ({"cells": [*cells]} if cells else {})}))

    def ask(verb: str, *more: str | Path) -> str:
        said = subprocess.run(
            [
                *(Path(sys.executable).with_name("chameleon-usage"), verb),
                *("--config", sites, "--site", site, *more),
            ],
            capture_output=True,
            text=True,
            env=os.environ | {"SERVICES_DB_URI": server.uri()},
            check=False,
        )
        assert said.returncode == 0, said.stderr
        return said.stdout

    server.script(ask("grants", "--user", "reader"))
    server.sql("ALTER USER reader@localhost IDENTIFIED BY 'secret-of-the-reader' ACCOUNT UNLOCK")
    ask("extract", "--data-dir", work / "data")
    return work / "data" / site
