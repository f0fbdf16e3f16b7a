"""Outputs as CSV or JSON files that a Frictionless data package describes.

The description (https://specs.frictionlessdata.io, version 1) is made from the schemas of
models/outputs.py: what a file holds is said in one place.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import dataframely as dy
import polars as pl

from chameleon_usage.models.outputs import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

DESCRIPTION = "datapackage.json"
NAME = "chameleon-usage"
FORMATS = ("csv", "json")
_ISO = "%Y-%m-%dT%H:%M:%SZ"

KINDS: dict[type[dy.Column], str] = {
    dy.String: "string",
    dy.Enum: "string",
    dy.Datetime: "datetime",
    dy.Float64: "number",
    dy.Int64: "integer",
    dy.Bool: "boolean",
}


def write_package(tables: Mapping[str, pl.DataFrame], directory: Path, file_format: str) -> None:
    """Write one file a table, and datapackage.json.

    Args:
        tables: output table name to frame (models.outputs.OUTPUTS).
        directory: where to; it is there.
        file_format: ``csv``, or ``json`` (a list of objects, one a row). Times are ISO 8601 in
            UTC, a value that is not known is empty or null.
    """
    resources = []
    for name, frame in tables.items():
        path = directory / f"{name}.{file_format}"
        WRITERS[file_format](frame.with_columns(pl.selectors.datetime().dt.strftime(_ISO)), path)
        resources.append(describe(name, frame, path))
    description = {
        "profile": "tabular-data-package",
        "name": NAME,
        "title": "Usage history of an OpenStack testbed",
        "resources": resources,
    }
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def replaceable(directory: Path) -> bool:
    """Whether nothing is there but what an export wrote."""
    if not directory.exists():
        return True
    if not directory.is_dir():
        return False
    there = {path.name for path in directory.iterdir()}
    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        ours = {DESCRIPTION, *(resource["path"] for resource in description["resources"])}
        return description["name"] == NAME and there <= ours
    except (OSError, ValueError, KeyError, TypeError):
        return not there


def describe(name: str, frame: pl.DataFrame, path: Path) -> dict[str, Any]:
    """Describe the file of an output table as a tabular data resource.

    Args:
        name: the table.
        frame: its rows; a column that the contract does not name (the site that a combined
            table adds) is described by its type.
        path: the written file, for size and checksum.
    """
    contract = OUTPUTS[name]
    columns = contract.columns()
    fields = [_field(column, columns.get(column, dy.String())) for column in frame.columns]
    schema: dict[str, Any] = {"fields": fields, "missingValues": [""]}
    if key := contract.primary_key():
        # A combined table has the site before the keys of one site.
        schema["primaryKey"] = [c for c in frame.columns if c in key or c not in columns]
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "profile": "tabular-data-resource",
        "name": name,
        "path": path.name,
        "description": " ".join((contract.__doc__ or "").split()),
        "format": path.suffix[1:],
        "mediatype": {"csv": "text/csv", "json": "application/json"}[path.suffix[1:]],
        "encoding": "utf-8",
        "bytes": path.stat().st_size,
        "hash": f"sha256:{checksum}",
        "schema": schema,
    }


def _field(name: str, column: dy.Column) -> dict[str, Any]:
    constraints: dict[str, Any] = {}
    if not column.nullable:
        constraints["required"] = True
    if isinstance(column, dy.Enum):
        constraints["enum"] = list(column.categories)
    for bound, word in (("min", "minimum"), ("max", "maximum")):
        if (limit := getattr(column, bound, None)) is not None:
            constraints[word] = limit
    field: dict[str, Any] = {"name": name, "type": KINDS[type(column)]}
    return field | ({"constraints": constraints} if constraints else {})


WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    "csv": lambda frame, path: frame.write_csv(path),
    "json": lambda frame, path: frame.write_json(path),
}
