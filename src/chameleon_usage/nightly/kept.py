"""What a run keeps beside its tables for the next one, and whether it fits that one."""

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import polars as pl

from chameleon_usage.models.site import Site
from chameleon_usage.nightly.hosts import READINGS, Hosts
from chameleon_usage.reconstruct.reading import Reading
from chameleon_usage.usage.buckets import Availability, Period, Window
from chameleon_usage.usage.projects import Naming

FOLDER, TOLD = Path("stages", "update"), "kept.json"
PACKAGES = ("polars", "numpy")
"""On which the bytes of a table depend."""


@dataclass(frozen=True)
class Kept:
    """What a run keeps for the next.

    Attributes:
        hosts: the reading of all hosts, and by what to tell those that changed.
        rest: Segments, of what was counted over all hosts.
        legacy: models.stages.Legacy.
        schedule: models.stages.Schedule.
        known: of ``known_of``.
        window: of the tables.
    """

    hosts: Hosts
    rest: pl.DataFrame
    legacy: pl.DataFrame
    schedule: pl.DataFrame
    known: str
    window: Window


_BESIDE = ("rest", "legacy", "schedule")


def known_of(availability: Availability) -> str:
    """Tell, as text, of which quantities the tables tell, and of which enough."""
    told = sorted(availability.quantities)
    shares = sorted(availability.completeness.items())
    return repr((told, [(name, share >= availability.known_share) for name, share in shares]))


def fingerprint(site: Site, asked: Period, *, by_host: bool, by_project: Naming | None) -> str:
    """Give a number that differs between programs, configurations and options."""
    names = None
    if by_project is not None:  # a name tells the key of pseudonyms from any other
        names = by_project(pl.DataFrame({"project_id": ["name"]}))["project_id"].item()
    packages = [(name, version(name)) for name in PACKAGES]
    options = (asked, by_host, names, site, packages, platform.python_version())
    found = hashlib.sha256(repr(options).encode())
    source = Path(__file__).parents[1]
    for path in sorted(source.rglob("*.py")):
        found.update(f"\n{path.relative_to(source)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def save(target: Path, kept: Kept, fits: str) -> None:
    """Write what is kept below a site's new directory, when its tables are there."""
    folder = target / FOLDER
    tables = {name: getattr(kept.hosts.reading, name) for name in READINGS}
    tables |= {name: getattr(kept, name) for name in _BESIDE}
    tables |= {name: getattr(kept.hosts, name) for name in ("digests", "tied")}
    folder.mkdir(parents=True)
    for name, frame in tables.items():
        # Written and read in a third of the time that Parquet takes.
        frame.write_ipc(folder / f"{name}.arrow", compression="lz4")
    start, end, as_of = (
        moment.isoformat() for moment in (kept.window.start, kept.window.end, kept.hosts.as_of)
    )
    files = [*target.glob("*.parquet"), *folder.glob("*.arrow")]
    told = {
        "fits": fits,
        "as_of": as_of,
        "window": [start, end, kept.window.bucket],
        "known": kept.known,
        "shared": kept.hosts.shared,
        "files": _sums(target, files),
    }
    (folder / TOLD).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def load(target: Path, fits: str) -> Kept | str:
    """Read what the run before kept, or say why it is of no use."""
    path = target / FOLDER / TOLD
    if not path.exists():
        return "no run before it kept anything" if target.exists() else "there is no run before it"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["fits"] != fits:
            return "the run before it was of another version, configuration or choice of options"
        if _sums(target, [target / name for name in told["files"]]) != told["files"]:
            return "what the run before it wrote has been changed since"
        names = (*READINGS, *_BESIDE, "digests", "tied")
        tables = {name: pl.read_ipc(path.parent / f"{name}.arrow") for name in names}
        start, end, as_of = map(datetime.fromisoformat, (*told["window"][:2], told["as_of"]))
        window = Window(start, end, told["window"][2])
        reading = Reading(**{part.name: tables[part.name] for part in fields(Reading)})
        hosts = Hosts(as_of, tables["digests"], tables["tied"], told["shared"], reading)
        rest, legacy, schedule = (tables[name] for name in _BESIDE)
        return Kept(hosts, rest, legacy, schedule, told["known"], window)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        return "what the run before it kept is damaged"


def _sums(target: Path, files: Iterable[Path]) -> dict[str, str]:
    """Give the SHA-256 sum of each file."""
    sums = {}
    for path in sorted(files):
        with path.open("rb") as file:
            name = path.relative_to(target).as_posix()
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
