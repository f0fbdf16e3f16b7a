"""The site configuration: which adapters a site has, and which source is believed."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from chameleon_usage.errors import UsageError
from chameleon_usage.models import cells
from chameleon_usage.models.raw import QUANTITIES, RAW_TABLES
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE, POLICIES, SOURCES

DEFAULT_TOLERANCE = "15m"


@dataclass(frozen=True)
class Priority:
    """How the sources of one quantity type make one history; see hosts.resolve_source_priority."""

    policy: str
    order: tuple[str, ...]


@dataclass(frozen=True)
class KnownGap:
    """A source that is known to say nothing before a date."""

    source: str
    before: date


@dataclass(frozen=True)
class Site:
    """One site of the configuration.

    Attributes:
        key: its name in paths and tables' ``site`` column.
        name: how figures and prose call it.
        adapters: names of the registry, in any order.
        sources: quantity type to source priority.
        declared: those of ``sources`` that the entry itself gives; the rest are defaults.
        known_gaps: declared, and confirmed by coverage.
        merge_tolerance: rows of one host less than this apart are one presence.
        longest_lease: the longest that a lease may be when it is made, if the site has such a rule;
            a longer one was extended.
        files: table to path or glob, for layouts other than <schema>.<table>.parquet.
        db_uri: a reference to an environment variable, never a secret.
        cells: the databases of Nova's cells, all on that server.
        twin: whether the simulator makes it.
        large: whether its steps are begun first.
        ablation: whether the paper leaves out each correction once.
        colours: of what is used, leased (nobody knows if used) and available; or none.
        legend: what captions say of the colours.
        predecessor: what stood before the record begins.
    """

    key: str
    name: str
    adapters: tuple[str, ...]
    sources: Mapping[str, Priority]
    known_gaps: tuple[KnownGap, ...] = ()
    merge_tolerance: str = DEFAULT_TOLERANCE
    longest_lease: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    db_uri: str = ""
    cells: tuple[str, ...] = ("nova",)
    declared: Mapping[str, Priority] = field(default_factory=dict)
    twin: bool = False
    large: bool = False
    ablation: bool = False
    colours: Sequence[str] = ()
    legend: str = ""
    predecessor: str = ""


DEFAULT_SOURCES = {
    "total": Priority(
        "gap-fill",
        (
            "nova.compute_nodes",
            "blazar.devices",
            "trace.machine_events",
            "nova.services",
            "inventory.node_intervals",
            INDIRECT_EVIDENCE,
        ),
    ),
    "reservable": Priority(
        "gap-fill", ("blazar.computehosts", "blazar.devices", INDIRECT_EVIDENCE)
    ),
    "committed": Priority(
        "authoritative",
        (
            "blazar.computehost_allocations",
            "blazar.device_allocations",
            "blazar.leases",
            "published.leases",
            "trace.lease_events",
        ),
    ),
    **dict.fromkeys(
        ("occupied", "active"),
        Priority(
            "authoritative",
            (
                *("nova.instance_actions", "nova.instances"),
                *("zun.container", "trace.instance_events"),
            ),
        ),
    ),
}
"""Where a site's entry says nothing: one source of each instance, never two."""

ALLOWED_SOURCES = {
    quantity: [
        *(name for name, table in RAW_TABLES.items() if quantity in table.tells),
        *([INDIRECT_EVIDENCE] if quantity in {"total", "reservable"} else []),
    ]
    for quantity in QUANTITIES
}
"""Who can tell of each quantity type at all; a site's order chooses among these."""

HELD_BY = ("committed", "occupied", "active")
"""Told of what holds a host: of each the first source that knows it is believed."""

_FOR_PAPER: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("twin", "large", "ablation"), (bool, "true or false")),
    **dict.fromkeys(("legend", "predecessor"), (str, "words")),
    "colours": (list, 'three of "#RRGGBB", dark first'),
}
"""Keys that only the paper reads: the type of each, and the words for it."""

_KEYS = {field.name for field in fields(Site)} - {"key", "declared"}
_ANCHORS = "defaults"


def load_sites(path: Path, adapters: frozenset[str]) -> dict[str, Site]:
    """Read the site configuration.

    Args:
        path: a YAML file: site key to its entry; the key ``defaults`` holds YAML anchors only.
        adapters: the names that the registry knows.

    Raises:
        UsageError: the file, a key or a value is wrong; the message names it.
    """
    sites, problems = judge_sites(path, adapters)
    if problems:
        raise problems[0]
    return sites


def judge_sites(path: Path, adapters: frozenset[str]) -> tuple[dict[str, Site], list[UsageError]]:
    """Read the site configuration as ``load_sites`` does; give the good sites and what is wrong.

    Raises:
        UsageError: the file is none.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: the site configuration cannot be read: {error}") from error
    if not isinstance(document, dict) or not set(document) - {_ANCHORS}:
        raise UsageError(f"{path}: expected a mapping of site keys to entries")
    sites: dict[str, Site] = {}
    problems: list[UsageError] = []
    for key, entry in document.items():
        if key != _ANCHORS:
            try:
                sites[key] = _site(path, key, entry, adapters)
            except UsageError as problem:
                problems.append(problem)
    return sites, problems


def _strange(what: str, found: Iterable[str], known: Collection[str]) -> str:
    """Name what is not known, the nearest right name beside it; empty if there is nothing."""
    strange = []
    for name in sorted(set(found) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        strange.append(f"{name} (did you mean {near[0]}?)" if near else name)
    return f"unknown {what} {', '.join(strange)}; known: {', '.join(sorted(known))}" * bool(strange)


def _site(path: Path, key: str, entry: object, adapters: frozenset[str]) -> Site:
    def wrong(what: str) -> UsageError:
        return UsageError(f"{path}: site {key}: {what}")

    if not re.fullmatch(r"(?!combined$)[a-z][a-z0-9_]*", str(key)) or not isinstance(entry, dict):
        raise wrong(
            "expected a key of lower case letters, digits and underscores (not 'combined'), "
            "and a mapping"
        )
    if complaint := _strange("key", map(str, entry), _KEYS):
        raise wrong(complaint)
    names: Any = entry.get("adapters")
    named: Any = entry.get("cells", ["nova"])
    drawn: dict[str, Any] = {key: entry[key] for key in _FOR_PAPER if key in entry}
    if complaint := _misnamed(names, adapters) or _not_cells(named) or _misdrawn(drawn):
        raise wrong(complaint)
    db_uri = str(entry.get("db_uri", ""))
    if db_uri and not re.fullmatch(r"\$\{\w+\}", db_uri):
        raise wrong("'db_uri' must be a reference like ${CHI_TACC_DB_URI}, not an address")
    try:
        sources = {
            quantity: _priority(rule) for quantity, rule in (entry.get("sources") or {}).items()
        }
        gaps = tuple(
            KnownGap(gap["source"], _date(gap["before"])) for gap in entry.get("known_gaps") or ()
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise wrong(f"'sources' or 'known_gaps': {error}") from error
    files = entry.get("files") or {}
    if not isinstance(files, dict):
        raise wrong("'files' must map table names to paths or globs below the data directory")
    if complaint := _misplaced(files, sources, gaps):
        raise wrong(complaint)
    if complaint := _no_durations(entry):
        raise wrong(complaint)
    return Site(
        key=key,
        name=str(entry.get("name", key)),
        adapters=tuple(names),
        sources=DEFAULT_SOURCES | sources,
        declared=sources,
        known_gaps=gaps,
        merge_tolerance=str(entry.get("merge_tolerance", DEFAULT_TOLERANCE)),
        longest_lease=str(entry.get("longest_lease", "")),
        files={table: str(pattern).lstrip("/") for table, pattern in files.items()},
        db_uri=db_uri,
        cells=tuple(named),
        **drawn,
    )


def _misdrawn(drawn: Mapping[str, Any]) -> str:
    """Say what is wrong with the keys that only the paper reads; empty if nothing is."""
    for key, value in drawn.items():
        kind, words = _FOR_PAPER[key]
        shades = value if key == "colours" and isinstance(value, list) else ["#000000"] * 3
        if (
            not isinstance(value, kind)
            or len(shades) != 3
            or not all(re.fullmatch("#[0-9A-Fa-f]{6}", str(shade)) for shade in shades)
        ):
            return f"'{key}' must be {words}, not {value!r}"
    return ""


def _no_durations(entry: Mapping[str, Any]) -> str:
    """Say which value is no duration; empty if none is wrong."""
    for name in [key for key in ("merge_tolerance", "longest_lease") if key in entry]:
        if not re.fullmatch(r"\d+[smhd]", str(entry[name])):
            return f"'{name}' must be a duration like 15m or 7d, not {str(entry[name])!r}"
    return ""


def _misnamed(names: object, adapters: frozenset[str]) -> str:
    """Say what is wrong with a list of adapters; empty if nothing is."""
    if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
        return "'adapters' must be a list of at least one adapter, each once"
    return _strange("adapter", map(str, names), adapters)


def _not_cells(names: object) -> str:
    """Say what is wrong with a list of cells' databases; empty if nothing is."""
    listed = list(map(str, names)) if isinstance(names, list) else []
    if (
        listed
        and len(set(listed)) == len(listed)
        and all(re.fullmatch(cells.SCHEMA, name) for name in listed)
    ):
        return ""
    return (
        "'cells' must be a list of the databases of Nova's cells, each once and named like nova or "
        f"nova_cell1, not {names!r}"
    )


def _misplaced(
    files: Iterable[object], sources: Mapping[str, Priority], gaps: Iterable[KnownGap]
) -> str:
    """Say which table or source nothing knows, or is of no use where it stands; empty if none."""
    complaints = {
        "files": _strange("table", map(str, files), RAW_TABLES),
        "sources": _unknown(sources),
        "known_gaps": _strange("source", (gap.source for gap in gaps), SOURCES),
    }
    return "; ".join(f"'{key}': {complaint}" for key, complaint in complaints.items() if complaint)


def _unknown(sources: Mapping[str, Priority]) -> str:
    """Name quantity types and sources that nothing knows; empty if there are none."""
    for what, found, known in (
        ("quantity type", set(sources), set(QUANTITIES)),
        ("source", {name for rule in sources.values() for name in rule.order}, set(SOURCES)),
    ):
        if complaint := _strange(what, found, known):
            return complaint
    for quantity, rule in sources.items():
        if mute := [name for name in rule.order if name not in ALLOWED_SOURCES[quantity]]:
            return (
                f"{', '.join(mute)} tells nothing of {quantity}; "
                f"choose among {', '.join(ALLOWED_SOURCES[quantity])}"
            )
        if quantity in HELD_BY and rule.policy != "authoritative":
            return (
                f"the policy of {quantity} must be authoritative, not {rule.policy}: of what holds "
                "a host, the first source that knows it is believed"
            )
    return ""


def _priority(rule: Mapping[str, Any]) -> Priority:
    if msg := _strange("policy", [str(rule["policy"])], POLICIES):
        raise ValueError(msg)
    if not rule["order"]:
        msg = "'order' is empty"
        raise ValueError(msg)
    return Priority(rule["policy"], tuple(rule["order"]))


def _date(value: object) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))
