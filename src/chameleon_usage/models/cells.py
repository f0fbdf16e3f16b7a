"""The cells of one Nova: databases of the same tables, each of which counts its rows from 1.

A dump keeps them apart by schema: ``nova_cell1.instances.parquet`` beside
``nova_cell2.instances.parquet``. The numbers of the n-th cell are raised by n * ``CELL``, those of
rows of several cells in one file by ``MIXED``, so that each is a key again; ``written`` undoes it.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from chameleon_usage.models.raw import RAW_TABLES

CELL, MIXED = 10**12, 10**15
"""What numbers of the next cell are raised by: one of its own files, one in the same file."""

ACTIONS, EVENTS = "nova.instance_actions", "nova.instance_actions_events"
SCHEMA = r"nova(?!_api\b)\w*"
"""What the database of a cell is called: nova, nova_cell1 and the like."""
_FILE = re.compile(rf"^({SCHEMA})\.[a-z_]+\.(?:parquet|csv)$")


def pattern(table: str) -> str:
    """Give the glob that also finds a table's files of other cells."""
    schema, name = table.split(".")
    return f"{schema}*.{name}.parquet" if schema == "nova" else f"{table}.parquet"


def is_of_cell(path: Path) -> bool:
    """Tell whether a file is named like one of a cell of Nova."""
    return _FILE.match(path.name) is not None


def place_of(table: str, cell: str) -> str:
    """Name a table of Nova's as it is called in a cell."""
    return table.replace("nova.", f"{cell}.", 1) if table.startswith("nova.") else table


def table_of(place: str) -> str:
    """Name a table as it is called where there is one cell: nova_cell1.instances is of nova's."""
    return re.sub(rf"^{SCHEMA}\.", "nova.", place)


def numbers(paths: Iterable[Path]) -> dict[str, int]:
    """Number the cells that files belong to: schema to number, ``nova`` itself being 0."""
    schemas = {match[1] for path in paths if (match := _FILE.match(path.name))}
    return {schema: number for number, schema in enumerate(sorted(schemas | {"nova"}))}


def raised(rows: pl.DataFrame, name: str, path: Path, cells: Mapping[str, int]) -> pl.DataFrame:
    """Make the numbers of a cell's file keys among those of all cells."""
    by = raised_by(path, cells)
    if not by:
        return rows
    return rows.with_columns(pl.col(column) + by for column in RAW_TABLES[name].counted)


def raised_by(path: Path, cells: Mapping[str, int]) -> int:
    """Tell by how much the numbers of a file's rows are raised."""
    match = _FILE.match(path.name)
    return cells[match[1]] * CELL if match else 0


def parted(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Tell rows of several cells in one file apart: the same number, but not the same thing.

    In the order of the file, the second of a number is of another cell than the first.
    """
    spec = RAW_TABLES[name]
    if rows["id"].n_unique() == rows.height:
        return rows
    # A text is compared as it is, a null with none.
    ours = rows.with_columns(_thing=pl.struct(spec.same)).with_row_index("_place")
    things = ours.group_by("id", "_thing").agg(pl.col("_place").min())
    cell = things.with_columns(_cell=pl.col("_place").rank("ordinal").over("id").cast(pl.Int64) - 1)
    return (
        ours.join(cell.drop("_place"), on=["id", "_thing"], how="left", maintain_order="left")
        .with_columns(id=pl.col("id") + pl.col("_cell") * MIXED)
        .select(rows.columns)
    )


def rejoined(actions: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Find the action of each event where several cells in one file have one of its number.

    Of the actions of that number it is the one that began last before the event, or, if none
    did, next after it; of those that began together, the one of the event's own place.
    """
    number = pl.col("id") % MIXED
    if actions.is_empty() or int(actions["id"].max() or 0) < MIXED:  # type: ignore[arg-type]
        return events
    several = actions.select(action_id=number, _action="id", _began="start_time").filter(
        pl.len().over("action_id") > 1
    )
    late = (pl.col("start_time") - pl.col("_began")).dt.total_seconds()
    found = (
        events.join(several, on="action_id", how="inner")
        .with_columns(
            _after=late >= 0,
            _gap=late.abs(),
            _placed=(pl.col("_action") // MIXED) == (pl.col("id") // MIXED),
        )
        .sort(
            "id",
            "_after",
            "_gap",
            "_placed",
            "_action",
            descending=[False, True, False, True, False],
        )
        .unique("id", keep="first", maintain_order=True)
        .select("id", "_action")
    )
    joined = events.join(found, on="id", how="left", maintain_order="left")
    return joined.with_columns(action_id=pl.coalesce("_action", "action_id")).drop("_action")


def written(key: pl.Expr) -> pl.Expr:
    """Write a key as the operator finds it: the number in its cell, after the cell's own."""
    raised_by = key.str.extract_groups(r"^(\d{1,6}?)(\d{12})$")
    cell = raised_by.struct.field("1").cast(pl.Int64, strict=False)
    number = raised_by.struct.field("2").cast(pl.Int64, strict=False)
    named = pl.concat_str(pl.lit("cell "), cell, pl.lit(": "), number)
    return pl.when(cell.is_not_null()).then(named).otherwise(key)
