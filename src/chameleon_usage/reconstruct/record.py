"""Facts -> intervals: what both collectors read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.intervals import keys
from chameleon_usage.intervals.conservation import check_spans
from chameleon_usage.models.raw import NAME
from chameleon_usage.models.stages import Ingested
from chameleon_usage.models.vocabulary import PRESENT
from chameleon_usage.reconstruct.profiles import profile_history


@dataclass(frozen=True)
class Numbered:
    """Facts and what belongs to them, with numbers for names.

    A name compares, sorts and joins by its number then, and, as numbers go in order of the names,
    the order of rows decides nothing.

    Attributes:
        facts, entities, profiles: as domain.Facts, Entities and Profiles; entity_id is a number.
        maintenance: windows of hosts: hostname, start, end.
        names: the entities' names by their number, sorted.
    """

    facts: pl.DataFrame
    entities: pl.DataFrame
    profiles: pl.DataFrame
    maintenance: pl.DataFrame
    names: pl.Series


def number_names(ingested: Ingested) -> Numbered:
    """Number the names of entities, and cast those of hosts, classes and types to enumerations."""
    facts, entities = ingested.facts, ingested.entities
    (entity_of_fact, entity), names = _numbers([facts["entity_id"], entities["entity_id"]])
    entities = entities.with_columns(entity)
    frames = [entities, ingested.profiles, ingested.maintenance]
    for name in ("hostname", "host_class", "node_type"):
        having = [number for number, frame in enumerate(frames) if name in frame.columns]
        numbers, kinds = _numbers([frames[number][name].cast(NAME) for number in having])
        for number, codes in zip(having, numbers, strict=True):
            frames[number] = frames[number].with_columns(codes.cat.to(pl.Enum(kinds)))
    entities, profiles, maintenance = frames
    return Numbered(facts.with_columns(entity_of_fact), entities, profiles, maintenance, names)


def _numbers(columns: Sequence[pl.Series]) -> tuple[list[pl.Series], pl.Series]:
    """Number the names in columns of categories: (the numbers, the names sorted)."""
    codes = [column.to_physical() for column in columns]
    found = pl.concat(codes).unique().drop_nulls()
    names = found.cat.to(NAME).cast(pl.String)
    order = names.arg_sort()
    most = found.max()
    places = (
        pl.Series([0], dtype=pl.UInt32)
        .new_from_index(0, most + 1 if isinstance(most, int) else 0)
        .scatter(found.gather(order), pl.int_range(found.len(), dtype=pl.UInt32, eager=True))
    )
    return [places.gather(code).alias(code.name) for code in codes], names.gather(order)


def spans(numbered: Numbered, as_of: datetime) -> pl.DataFrame:
    """Turn facts into intervals and join what is known of their entities.

    Args:
        numbered: of ``number_names``.
        as_of: what is still open ends here.

    Returns:
        the columns of ``entities``, ``start``, ``end`` (clipped to ``as_of``) and ``open`` (the
        record names no end).

    Raises:
        UsageError: a fact speaks of an entity that is not listed.
    """
    facts, entities = numbered.facts, numbered.entities
    key = ["quantity_type", "source", "entity_id"]
    now = pl.lit(as_of, dtype=pl.Datetime("us"))
    entity = keys.find(facts, entities, key)
    if (lost := facts.filter(entity < 0)).height:
        *what, stranger = lost.select(key).row(0)
        told = ", ".join((*what, numbered.names[stranger]))
        raise UsageError(f"facts: the entity {told} is not among the entities")
    # Neighbours after one sort: an entity's next fact is the next row, if that is still its own.
    order = keys.ascending(keys.pack(entity, facts["timestamp"]))
    intervals = (
        facts.select("timestamp", "state", _key=entity)[order]
        .with_columns(
            end=pl.when(pl.col("_key") == pl.col("_key").shift(-1)).then(
                pl.col("timestamp").shift(-1)
            )
        )
        .filter((pl.col("state") == PRESENT) & (pl.col("timestamp") < now))
    )
    return entities[intervals["_key"]].hstack(
        intervals.select(
            start="timestamp", end=pl.min_horizontal("end", now), open=pl.col("end").is_null()
        )
    )


@dataclass(frozen=True)
class Record:
    """What both collectors read: the facts of a site as intervals.

    Attributes:
        rows: of ``spans``.
        history: of ``profiles.profile_history``.
        maintenance: windows of hosts: hostname, start, end.
        names: the entities' names by their number.
    """

    rows: pl.DataFrame
    history: pl.DataFrame
    maintenance: pl.DataFrame
    names: pl.Series


def read_record(ingested: Ingested, as_of: datetime) -> Record:
    """Turn facts into intervals, with numbers for names; no hour of them is lost."""
    numbered = number_names(ingested)
    rows = spans(numbered, as_of)
    check_spans(ingested.facts, rows, as_of)
    history = profile_history(numbered.profiles)
    return Record(rows, history, numbered.maintenance, numbered.names)
