"""The project around the notebooks: its root, its sites, and whether its data are simulated."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
"""The source tree, wherever the notebook's kernel was started."""


def read_yaml(path: str | Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Give what a YAML file holds; `path` is from the root. By libyaml, six times as fast."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return yaml.load(text, Loader=yaml.CSafeLoader)


def site_entries(sites: str, config: str) -> dict[str, dict[str, Any]]:
    """Give each site its entry in the site configuration, in the order of `sites`.

    Args:
        sites: keys with blanks between them; none of them means all that the twin simulates.
        config: the site configuration, from the root. The pipeline has checked it.

    Returns:
        site to entry; an empty one for a site that the configuration does not have.
    """
    entries = read_yaml(config) or {}
    simulated = sorted(key for key, entry in entries.items() if entry.get("twin"))
    return {site: entries.get(site, {}) for site in sites.split() or simulated}


def site_names(sites: str, config: str) -> dict[str, str]:
    """Give each site its full name: as the site configuration has it, else as it is."""
    return {site: entry.get("name", site) for site, entry in site_entries(sites, config).items()}


def site_colours(sites: str, config: str) -> dict[str, tuple[str, str, str]]:
    """Give the shades, dark first, of those sites for which the configuration declares some."""
    entries = site_entries(sites, config)
    return {site: tuple(e["colours"]) for site, e in entries.items() if "colours" in e}


def events(sites: Sequence[str], *, of_all: bool = False) -> pl.DataFrame:
    """Give the dated events of `data/events.yaml` that figures mark.

    Args:
        sites: whose.
        of_all: those that are marked where all sites are drawn together, with the site's name.

    Returns:
        `site`, `timestamp`, `label`.
    """
    told = read_yaml("data/events.yaml")
    kept = [e for e in told if e["site"] in sites and (not of_all or e.get("all_sites"))]
    rows = [(e["site"], datetime.combine(e["date"], time(), tzinfo=UTC), e["label"]) for e in kept]
    return pl.DataFrame(rows, schema=["site", "timestamp", "label"], orient="row").cast(
        {"site": pl.String, "timestamp": pl.Datetime("us", "UTC"), "label": pl.String}
    )


def is_twin(data_dir: Path) -> bool:
    """Whether the data were simulated, as the manifests beside them say."""
    return any(
        json.loads(path.read_text(encoding="utf-8")).get("kind") == "twin"
        for path in sorted(data_dir.glob("*/manifest.json"))
    )
