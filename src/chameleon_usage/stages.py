"""The stages between raw tables and outputs: what each is, and how it is saved and loaded."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl
import polars.selectors as cs

from chameleon_usage.errors import UsageError
from chameleon_usage.intervals.arithmetic import check_conservation
from chameleon_usage.io.files import load_table, save_table, save_tables
from chameleon_usage.models.frames import Table, conform
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.models.stages import (
    MAINTENANCE,
    Entities,
    Facts,
    HeldPieces,
    Holdings,
    Ingested,
    Intervals,
    Schedule,
    Segments,
    Sessions,
    SourceSupport,
)
from chameleon_usage.models.vocabulary import ABSENT, PRESENT

COMBINED = "combined"
"""The directory beside the sites' own that holds all of them together."""


@dataclass(frozen=True)
class FactsStage:
    """What a site's adapters gave, saved as facts, and when its tables were read.

    Attributes:
        left_out: adapters that did not run, and the tables that each lacks; not saved.
    """

    ingested: Ingested
    as_of: datetime
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentsStage:
    """Segments of a site and all that the usage tables need beside them.

    ``holdings`` and ``sessions``, of projects, are empty unless they were asked for.
    """

    segments: pl.DataFrame
    support: pl.DataFrame
    pieces: pl.DataFrame
    holdings: pl.DataFrame
    sessions: pl.DataFrame
    legacy: pl.DataFrame
    leases: pl.DataFrame
    schedule: pl.DataFrame
    rejects: pl.DataFrame
    join_log: pl.DataFrame
    availability: pl.DataFrame
    as_of: pl.DataFrame


def moment(as_of: datetime) -> pl.DataFrame:
    """Give a time as a frame of one row, as stages are saved."""
    return pl.DataFrame({"as_of": [as_of]}, schema={"as_of": pl.Datetime("us")})


_NAMED = {
    "segments": Segments,
    "support": SourceSupport,
    "pieces": HeldPieces,
    "holdings": Holdings,
    "sessions": Sessions,
    "schedule": Schedule,
}


def _settled(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Write names as text and rows in order: both differ from run to run in memory."""
    texts = {name: frame.cast({cs.categorical(): pl.String}) for name, frame in tables.items()}
    return {name: frame.sort(frame.columns, nulls_last=True) for name, frame in texts.items()}


def facts_of(intervals: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the saved form of intervals: Facts, and the Entities that they speak of."""
    key = ["source", "quantity_type", "entity_id"]
    begun = intervals.select(*key, timestamp="start", state=pl.lit(PRESENT))
    ended = intervals.select(*key, timestamp="end", state=pl.lit(ABSENT)).drop_nulls("timestamp")
    entities = intervals.unique(key, keep="first", maintain_order=True)
    return conform(pl.concat([begun, ended]), Facts), conform(entities, Entities)


def intervals_of(facts: pl.DataFrame, entities: pl.DataFrame) -> pl.DataFrame:
    """Give the intervals between facts.

    Args:
        facts: Facts, in any order.
        entities: Entities.

    Returns:
        Intervals.

    Raises:
        UsageError: a fact speaks of an entity that is not listed.
        ConservationError: the intervals do not hold the hours that the facts tell.
    """
    key = ["source", "quantity_type", "entity_id"]
    strangers = facts.join(entities, on=key, how="anti")
    if strangers.height:
        stranger = ", ".join(map(str, strangers.select(pl.col(key).cast(pl.String)).row(0)))
        raise UsageError(f"facts: the entity {stranger} is not among the entities")
    spans = (
        facts.sort(*key, "timestamp")
        .with_columns(end=pl.col("timestamp").shift(-1).over(key))
        .filter(pl.col("state") == PRESENT)
        .rename({"timestamp": "start"})
    )
    # The hours of an entity are the sum of the times at which it left less those at which it came,
    # a sum that needs no order.
    came, now = pl.col("state") == PRESENT, pl.lit(facts["timestamp"].max(), pl.Datetime("us"))
    until = (now - pl.col("timestamp")).dt.total_seconds()
    held = facts.select(pl.when(came).then(until).otherwise(-until).sum()).item()
    check_conservation("intervals", held, spans.with_columns(pl.col("end").fill_null(now)))
    return conform(spans.join(entities, on=key, how="left"), Intervals)


def save_facts(directory: Path, stage: FactsStage) -> None:
    """Write the facts stage: a Parquet file for each of its frames."""
    tables = stage.ingested.tables()
    facts, entities = facts_of(tables.pop("intervals"))
    tables |= {"facts": facts, "entities": entities, "as_of": moment(stage.as_of)}
    save_tables(directory / "facts", _settled(tables))


def load_facts(directory: Path) -> FactsStage:
    """Read what ``save_facts`` wrote."""
    folder = _saved(directory, "facts")
    names = {"facts", "entities", *Ingested().tables()} - {"intervals"}
    tables = {name: load_table(folder / f"{name}.parquet") for name in names}
    facts, entities = conform(tables.pop("facts"), Facts), conform(tables.pop("entities"), Entities)
    tables["intervals"] = intervals_of(facts, entities)
    tables["schedule"] = conform(tables["schedule"], Schedule)
    tables["maintenance"] = tables["maintenance"].cast(MAINTENANCE)  # type: ignore[arg-type]
    return FactsStage(Ingested(**tables), load_table(folder / "as_of.parquet").item())


def save_segments(directory: Path, stage: SegmentsStage) -> None:
    """Write the segments stage: a Parquet file for each of its frames."""
    save_tables(directory / "segments", _settled(vars(stage)))


def load_segments(directory: Path) -> SegmentsStage:
    """Read what ``save_segments`` wrote."""
    folder = _saved(directory, "segments")
    names = SegmentsStage.__dataclass_fields__
    tables = {name: load_table(folder / f"{name}.parquet") for name in names}
    named = {name: conform(tables[name], schema) for name, schema in _NAMED.items()}
    return SegmentsStage(**(tables | named))


def save_usage(
    directory: Path,
    tables: Iterable[tuple[str, Table]],
    keep: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, pl.DataFrame]:
    """Write the output tables, each while the next is made.

    Args:
        directory: where to.
        tables: names and tables.
        keep: tables that are wanted again, each of which is whole, and their columns.

    Returns:
        these columns of those tables, by name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kept, written = {}, []
    with ThreadPoolExecutor(1) as writer:
        for name, table in tables:
            written.append(writer.submit(save_table, directory / f"{name}.parquet", table))
            if keep and name in keep and isinstance(table, pl.DataFrame):
                kept[name] = table.select(keep[name])
        for one in written:
            one.result()
    return kept


def load_usage(
    directory: Path, tables: Collection[str] = tuple(OUTPUTS)
) -> dict[str, pl.DataFrame]:
    """Read the output tables that are there; plots and reports need nothing else."""
    found = {
        name: load_table(directory / f"{name}.parquet")
        for name in OUTPUTS
        if name in tables and (directory / f"{name}.parquet").exists()
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


def each_combined(
    output: Path, sites: Sequence[str], tables: Collection[str] = tuple(OUTPUTS)
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Read the output tables of several sites together, one table after another.

    Args:
        output: holds one directory a site.
        sites: sites to read, in this order.
        tables: tables to read, as far as they are there.

    Yields:
        the name of a table and the rows of all sites; one without a ``site`` column gets it.
    """
    for name in OUTPUTS:
        paths = {site: output / site / f"{name}.parquet" for site in sites if name in tables}
        read = [
            frame if "site" in frame.columns else frame.select(pl.lit(site).alias("site"), "*")
            for site, path in paths.items()
            if path.exists()
            for frame in [load_table(path)]
        ]
        if read:
            yield name, pl.concat(read)


def _saved(directory: Path, stage: str) -> Path:
    folder = directory / "stages" / stage
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no saved {stage}; run 'chameleon-usage run --save-stages' first"
        )
    return folder
