"""Describe the outputs of a build and where they came from, as an RO-Crate, and pack both.

The description, `ro-crate-metadata.json` (https://w3id.org/ro/crate/1.2), is written beside the
outputs: each file with its checksum, the raw tables that they were made from with theirs, the
program, its environment, and the commands. The archive holds the outputs and the description. The
same build in the same environment gives the same bytes: no clock is read, and nothing is
compressed, as compressors differ from machine to machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file
from chameleon_usage.models.outputs import OUTPUTS
from paper.project import ROOT, is_twin, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/crate/1.2"
KINDS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""Ending of a table or figure to its media type; other files are none."""

SOURCES = ("Makefile", "pyproject.toml", "requirements.txt", "data/*.*", "data/real/*.*")
SOURCE_TREES = ("notebooks", "paper", "src")

Entity = dict[str, Any]


def checksum(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files(directory: Path) -> dict[str, Path]:
    """Give the tables and figures below a directory, sorted by their name from there.

    Links are followed: where not all is of one choice, sites stand as links.
    """
    found = (
        Path(place, name)
        for place, _, names in os.walk(directory, followlinks=True)
        for name in names
        if Path(name).suffix in KINDS and name != METADATA
    )
    return dict(sorted((path.relative_to(directory).as_posix(), path) for path in found))


def source_sum() -> str:
    """Give one checksum over the program and the records that it reads, with or without Git."""
    found = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    found += [path for tree in SOURCE_TREES for path in (ROOT / tree).rglob("*.*")]
    lines = [
        f"{checksum(path)}  {path.relative_to(ROOT).as_posix()}\n"
        for path in sorted(found)
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def commit() -> str | None:
    """Give the commit that is checked out; None without Git, or where a file was changed."""

    def told(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - our own
            ["git", "-C", str(ROOT), *words],  # noqa: S607 - wherever it is
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        own = Path(told("rev-parse", "--show-toplevel")) == ROOT
        whole = not told("status", "--porcelain", "--untracked-files=no")
        return told("rev-parse", "HEAD") if own and whole else None
    except (OSError, subprocess.CalledProcessError):
        return None


def _refer(names: Iterable[str]) -> list[Entity]:
    return [{"@id": name} for name in names]


def _file(name: str, path: Path) -> Entity:
    """Describe an output: an output table by its contract."""
    entity: Entity = {
        "@id": name,
        "@type": "File",
        "name": name,
        "encodingFormat": KINDS[path.suffix],
        "contentSize": str(path.stat().st_size),
        "sha256": checksum(path),
    }
    if path.suffix == ".parquet" and (contract := OUTPUTS.get(path.stem)):
        entity["description"] = " ".join((contract.__doc__ or "").split())
        entity["variableMeasured"] = list(contract.columns())
    return entity


def _licence(name: str, address: str) -> Entity:
    return {"@id": address, "@type": "CreativeWork", "name": name}


SIMULATED = _licence("CC-BY-4.0", "https://spdx.org/licenses/CC-BY-4.0")
OWN = _licence("not stated: whoever publishes these outputs says it", "#licence")
OF_PROGRAM = _licence("Apache-2.0", "https://spdx.org/licenses/Apache-2.0")


def describe(
    outputs: Mapping[str, Path], inputs: Mapping[str, Path], choice: str, *, simulated: bool
) -> Entity:
    """Give the description of outputs.

    Args:
        outputs: the files of the archive, by their name in it.
        inputs: the raw tables, by their name from the data directory.
        choice: what follows `make run` on the command line.
        simulated: whether the raw tables are of the twin.
    """
    citation = read_yaml("CITATION.cff")
    authors = {"@id": "#authors", "@type": "Organization", "name": citation["authors"][0]["name"]}
    licence = SIMULATED if simulated else OWN
    raw = {f"#input/{name}": path for name, path in inputs.items()}
    drawn = [name for name in outputs if name.startswith("plots/")]
    tables = [name for name in outputs if name not in drawn]
    python = platform.python_version()
    program: Entity = {
        "@id": "#program",
        "@type": "SoftwareApplication",
        "name": "chameleon-usage",
        "version": str(citation["version"]),
        "license": {"@id": OF_PROGRAM["@id"]},
        "author": {"@id": authors["@id"]},
        "runtimePlatform": f"Python {python}",
        "softwareRequirements": {"@id": "#lock"},
        "sha256": source_sum(),
    }
    if revision := commit():
        program["identifier"] = f"git:{revision}"
    lock = {
        "@id": "#lock",
        "@type": "DigitalDocument",
        "name": "requirements.txt",
        "description": "Every package of the environment, with its version and checksums.",
        "sha256": checksum(ROOT / "requirements.txt"),
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": "Usage history of an OpenStack testbed: output tables and figures",
        "description": f"{'Simulated. ' if simulated else ''}{citation['abstract'].strip()}",
        "datePublished": str(citation["date-released"]),
        "version": str(citation["version"]),
        "author": {"@id": authors["@id"]},
        "license": {"@id": licence["@id"]},
        "hasPart": _refer(outputs),
        "mentions": _refer(["#tables", "#figures"]),
    }
    made = [
        {
            "@id": name,
            "@type": "CreateAction",
            "name": what,
            "description": f"{command} {choice}",
            "instrument": {"@id": program["@id"]},
            "object": _refer(taken),
            "result": _refer(results),
        }
        for name, what, command, taken, results in (
            ("#tables", "raw tables to output tables", "make run", raw, tables),
            ("#figures", "output tables to figures", "make notebooks", tables, drawn),
        )
    ]
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": PROFILE},
    }
    of_inputs = [
        {
            "@id": name,
            "@type": "DigitalDocument",
            "name": name.removeprefix("#input/"),
            "contentSize": str(path.stat().st_size),
            "sha256": checksum(path),
        }
        for name, path in raw.items()
    ]
    return {
        "@context": f"{PROFILE}/context",
        "@graph": [
            *(descriptor, root, authors, licence, OF_PROGRAM, program, lock, *made),
            *(_file(name, path) for name, path in outputs.items()),
            *of_inputs,
        ],
    }


def pack(outputs: Mapping[str, Path], out: Path) -> None:
    """Write the archive: the same files give the same bytes."""
    with whole_file(out) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, path in outputs.items():
            entry = zipfile.ZipInfo(name)  # of 1980, as no time is given
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target)


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--output", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--data-dir", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--config", default="data/sites.yaml", show_default=True, help="As make has it.")
@click.option("--bucket", default="1d", show_default=True, help="As make has it.")
@click.argument("sites", nargs=-1, required=True)
def main(
    out: Path, sites: tuple[str, ...], *, output: Path, data_dir: Path, config: str, bucket: str
) -> None:
    """Describe the outputs of SITES, and pack them into OUT."""
    outputs = files(output)
    if not outputs:
        raise UsageError(f"{output}: no outputs; run 'make notebooks' first")
    raw = {f"{s}/{name}": path for s in sorted(sites) for name, path in files(data_dir / s).items()}
    choice = f'DATA={data_dir} SITES="{" ".join(sorted(sites))}" CONFIG={config} BUCKET={bucket}'
    told = describe(outputs, raw, choice, simulated=is_twin(data_dir))
    with whole_file(output / METADATA) as part:
        part.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    pack({METADATA: output / METADATA, **outputs}, out)
    click.echo(f"Outputs and where they came from: {out}")
