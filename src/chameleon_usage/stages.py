"""The stages between raw tables and outputs: what each is, and how it is saved and loaded."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import polars.selectors as cs

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import load_table, save_tables
from chameleon_usage.models.frames import conform
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.models.stages import Entities, Facts, Ingested, Segments, SourceSupport

COMBINED = "combined"
"""The directory beside the sites' own that holds all of them together."""


@dataclass(frozen=True)
class FactsStage:
    """Facts of a site, and when its tables were read."""

    ingested: Ingested
    as_of: datetime


@dataclass(frozen=True)
class SegmentsStage:
    """Segments of a site and all that the usage tables need beside them."""

    segments: pl.DataFrame
    bearing: pl.DataFrame
    legacy: pl.DataFrame
    leases: pl.DataFrame
    rejects: pl.DataFrame
    join_log: pl.DataFrame
    known: pl.DataFrame
    as_of: pl.DataFrame


def moment(as_of: datetime) -> pl.DataFrame:
    """Give a time as a frame of one row, as stages are saved."""
    return pl.DataFrame({"as_of": [as_of]}, schema={"as_of": pl.Datetime("us")})


_NAMED = {"facts": Facts, "entities": Entities, "segments": Segments, "bearing": SourceSupport}


def _as_text(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Write names as text: the numbers of categories differ from run to run."""
    return {name: frame.cast({cs.categorical(): pl.String}) for name, frame in tables.items()}


def _as_named(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {
        name: conform(frame, _NAMED[name]) if name in _NAMED else frame
        for name, frame in tables.items()
    }


def save_facts(directory: Path, stage: FactsStage) -> None:
    """Write the facts stage: a Parquet file for each of its frames."""
    tables = stage.ingested.tables() | {"as_of": moment(stage.as_of)}
    save_tables(directory / "facts", _as_text(tables))


def load_facts(directory: Path) -> FactsStage:
    """Read what ``save_facts`` wrote."""
    folder = _saved(directory, "facts")
    tables = {name: load_table(folder / f"{name}.parquet") for name in Ingested().tables()}
    return FactsStage(Ingested(**_as_named(tables)), load_table(folder / "as_of.parquet").item())


def save_segments(directory: Path, stage: SegmentsStage) -> None:
    """Write the segments stage: a Parquet file for each of its frames."""
    save_tables(directory / "segments", _as_text(vars(stage)))


def load_segments(directory: Path) -> SegmentsStage:
    """Read what ``save_segments`` wrote."""
    folder = _saved(directory, "segments")
    names = SegmentsStage.__dataclass_fields__
    tables = {name: load_table(folder / f"{name}.parquet") for name in names}
    return SegmentsStage(**_as_named(tables))


def save_usage(directory: Path, tables: dict[str, pl.DataFrame]) -> None:
    """Write the output tables."""
    save_tables(directory, tables)


def load_usage(directory: Path) -> dict[str, pl.DataFrame]:
    """Read the output tables that are there; plots and reports need nothing else."""
    found = {
        name: load_table(directory / f"{name}.parquet")
        for name in OUTPUTS
        if (directory / f"{name}.parquet").exists()
    }
    if not found:
        raise UsageError(f"{directory}: no output tables; run 'chameleon-usage run' first")
    return found


def sites_with_outputs(output: Path, names: Sequence[str] = ()) -> list[str]:
    """List the sites that have outputs: the named ones, or all if none is named.

    Raises:
        UsageError: a named site, or every site, has no outputs.
    """
    present = sorted(
        path.parent.name
        for path in output.glob("*/usage_timeline.parquet")
        if path.parent.name != COMBINED and (not names or path.parent.name in names)
    )
    if missing := sorted(set(names) - set(present)):
        raise UsageError(f"{output}: no outputs of {', '.join(missing)}; run them first")
    if not present:
        raise UsageError(f"{output} holds no site's outputs; run 'chameleon-usage run' first")
    return present


def load_combined(
    output: Path, sites: Iterable[str], tables: Collection[str] = tuple(OUTPUTS)
) -> dict[str, pl.DataFrame]:
    """Read the output tables of several sites together.

    Args:
        output: holds one directory a site.
        sites: sites to read, in this order.
        tables: tables to read, as far as they are there.

    Returns:
        table name to the rows of all sites; a table without a ``site`` column gets one.
    """
    parts: dict[str, list[pl.DataFrame]] = {}
    for site in sites:
        for name in OUTPUTS:
            path = output / site / f"{name}.parquet"
            if name not in tables or not path.exists():
                continue
            frame = load_table(path)
            keyed = (
                frame if "site" in frame.columns else frame.select(pl.lit(site).alias("site"), "*")
            )
            parts.setdefault(name, []).append(keyed)
    return {name: pl.concat(frames) for name, frames in parts.items()}


def _saved(directory: Path, stage: str) -> Path:
    folder = directory / "stages" / stage
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no saved {stage}; run 'chameleon-usage run --save-stages' first"
        )
    return folder
