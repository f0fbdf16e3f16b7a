"""What the notebooks and their runner ask of the project around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[3]
"""The source tree, wherever the notebook's kernel was started."""


def site_names(sites: Iterable[str], config: str) -> dict[str, str]:
    """Give each site its full name: as the site configuration has it, else as it is."""
    known = _sites(config)
    return {site: known.get(site, {}).get("name", site) for site in sites}


def has_devices(site: str, config: str) -> bool:
    """Whether a site of the site configuration leases devices rather than nodes."""
    return "edge_devices" in _sites(config).get(site, {}).get("adapters", ())


def _sites(config: str) -> dict[str, dict[str, Any]]:
    return yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))


def is_twin(data_dir: Path) -> bool:
    """Whether the data were simulated, as the manifests beside them say."""
    return any(
        json.loads(path.read_text(encoding="utf-8")).get("kind") == "twin"
        for path in sorted(data_dir.glob("*/manifest.json"))
    )
