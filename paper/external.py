"""Fetch the public files that data/external.yaml lists, and hold each to its checksum."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file
from paper.project import ROOT, read_yaml

LIST = ROOT / "data" / "external.yaml"
PLACE = ROOT / "data" / "external"


@dataclass(frozen=True)
class External:
    """One public file.

    Attributes:
        name: where it lies below the folder of external files.
        address: of the file, or, where ``direct`` is not so, of the page that leads to it.
        size: in bytes, null where it cannot be known.
        sha256: the same.
        direct: whether the address is the file's own.
    """

    name: str
    address: str
    size: int | None
    sha256: str | None
    direct: bool


def sources() -> dict[str, Any]:
    """Read who published what: title, address, licence, citation and files of each source."""
    found: dict[str, Any] = read_yaml(LIST)
    return found


def listed() -> list[External]:
    """Give the public files of all sources, in the order of the list."""
    found = []
    for source in sources().values():
        for name, file in source["files"].items():
            address = source["address"] + (f"/{file['at']}" if file["at"] else "")
            found.append(External(name, address, file["size"], file["sha256"], bool(file["at"])))
    return found


def check(file: External, path: Path) -> None:
    """Hold a file to its recorded size and checksum, if there are any.

    Raises:
        UsageError: it is not there, or is another; the message names both sums and the way out.
    """
    if not path.exists():
        raise UsageError(f"{path}: missing; {file.address} has it (make external)")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if file.sha256 not in {None, found} or file.size not in {None, path.stat().st_size}:
        raise UsageError(
            f"{path}: sha256 {found} of {path.stat().st_size} bytes, expected {file.sha256} of "
            f"{file.size}: it was cut short or is another version. Fetch {file.address} again; if "
            f"it was published anew, correct {LIST.relative_to(ROOT)}"
        )


def provide(file: External, place: Path, origin: Path | None) -> bool:
    """Bring a file to its place, whole and checked, unless it is there.

    Args:
        file: which.
        place: the folder of external files.
        origin: a folder that holds it, there or anywhere below; None fetches it.

    Returns:
        whether it is there now; not, where ``origin`` does not hold it, or where it can only be
        fetched by hand.

    Raises:
        UsageError: it is another file, or cannot be fetched.
    """
    target = place / file.name
    if target.exists() and (origin is None or file.sha256):
        check(file, target)
        return True
    if origin is not None:
        path = origin / file.name
        # What has no fixed place is looked for by its name; the last of several is the newest.
        others = [] if file.direct else sorted(origin.rglob(path.name))
        found = path if path.exists() else others[-1] if others else None
        if found is None:
            return False
        check(file, found)
        with whole_file(target) as part:
            shutil.copyfile(found, part)
        return True
    if not file.direct:
        return False
    with whole_file(target) as part:
        _fetch(file, part)
        check(file, part)
    return True


def _fetch(file: External, path: Path) -> None:
    import pooch  # noqa: PLC0415 - loaded where something is fetched

    try:
        pooch.HTTPDownloader()(file.address, str(path), None)
    except OSError as error:
        raise UsageError(
            f"{file.address} cannot be fetched ({type(error).__name__}): where there is no "
            "network, bring the files otherwise and name their folder: make external FROM=DIR"
        ) from error


@click.command()
@click.option(
    "--from",
    "origin",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take the files from this folder instead of fetching them.",
)
@click.option("--to", "place", type=click.Path(path_type=Path), default=PLACE)
def main(origin: Path | None, place: Path) -> None:
    """Bring the public files of data/external.yaml to data/external, each held to its checksum."""
    absent = [file for file in listed() if not provide(file, place, origin)]
    for file in absent:
        click.echo(f"not there: {file.name}, to be had from {file.address}")
    click.echo(f"{len(listed()) - len(absent)} files are in {place}")
