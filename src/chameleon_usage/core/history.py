"""What earlier snapshots knew: the versions of rows that the current dump no longer holds."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chameleon_usage.errors import UsageError

HISTORY, MANIFEST = "history", "manifest.json"
FATE = "record_fate"
ADDED, CHANGED, GONE, UNREAD = "added", "changed", "gone", "unread"
"""Fates of a row between two snapshots; unread: the later dump lacks the table."""
FORM = "%Y-%m-%dT%H%M%SZ"
"""How an increment's folder is named after the moment of its snapshot."""


@dataclass(frozen=True)
class Increment:
    """What one snapshot superseded of the one before it.

    Attributes:
        path: its folder.
        since: the last moment at which the superseded rows were seen.
        as_of: the moment at which they no longer were.
        manifest: its ``manifest.json``.
    """

    path: Path
    since: datetime
    as_of: datetime
    manifest: dict[str, Any]


def increments(directory: Path) -> list[Increment]:
    """List the increments of a site's directory, the earliest first.

    Raises:
        UsageError: a manifest of an increment is damaged.
    """
    found = []
    for path in sorted((directory / HISTORY).glob("*/" + MANIFEST)):
        since, as_of = (manifest_as_of(path, name) for name in ("since", "as_of"))
        found.append(Increment(path.parent, since, as_of, json.loads(path.read_text())))
    return sorted(found, key=lambda step: step.as_of)


def manifest_as_of(manifest: Path, name: str = "as_of") -> datetime:
    """Read when a dump was made from its manifest: naive UTC, whole seconds.

    Raises:
        UsageError: there is no manifest, or it does not tell.
    """
    try:
        moment = datetime.fromisoformat(json.loads(manifest.read_text())[name])
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
        return moment.replace(microsecond=0, tzinfo=None)
    except (ValueError, KeyError, TypeError, OSError, OverflowError) as error:
        raise UsageError(
            f"{manifest}: no readable {name!r} ({error!r}); it must be an ISO time in UTC"
        ) from error
