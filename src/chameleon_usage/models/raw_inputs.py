"""The raw tables of one site, as they passed input validation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.raw_table import TEXT, TIME

WINDOWS = {"source": TEXT, "entity_id": TEXT, "start": TIME, "end": TIME, "state": TEXT}


@dataclass(frozen=True)
class RawInputs:
    """The raw tables of one site, as they passed input validation.

    Attributes:
        tables: name to frame, with the columns of its ``RawTable`` that adapters read.
        rejects: rows that did not: ``source``, ``source_row_id``, ``reason``.
        rows: name to number of rows found in the file, refused ones included.
        absent: tables that were asked for and are not there, and time columns of later releases
            that a table does not have (``<table>.<column>``).
        as_of: the moment at which the tables were read from the services' databases.
        superseded: name to the earlier versions of rows that snapshots saw or an audit table
            kept: the table's columns, ``until``, when each was changed or deleted, and ``known``.
        windows: when an entity of a ``source`` was ``absent`` though its row does not say so, and
            when its presence is ``inferred`` (``state``), as snapshots and audit tables tell.
        audited: name to the rows of which an audit table tells since when they stand as they do
            now: the table's key and ``known``.
        spans: table of hosts to when allocations held each of them (``blazar_hosts.spans``), where
            those of ``tables`` are only some.
    """

    tables: dict[str, pl.DataFrame]
    rejects: pl.DataFrame
    rows: dict[str, int]
    absent: tuple[str, ...]
    as_of: datetime
    superseded: dict[str, pl.DataFrame] = field(default_factory=dict)
    windows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=WINDOWS))
    audited: dict[str, pl.DataFrame] = field(default_factory=dict)
    spans: dict[str, pl.DataFrame] = field(default_factory=dict)

    def get(self, name: str) -> pl.DataFrame:
        """Give a table, or an empty one with its columns if it is absent."""
        if name in self.tables:
            return self.tables[name]
        return pl.DataFrame(schema=RAW_TABLES[name].kept)

    def versions(self, name: str, by: Sequence[str] = (), *, told: bool = False) -> pl.DataFrame:
        """Give a table's rows with their earlier versions, and since when each stood so.

        Args:
            name: the table.
            by: what makes rows versions of one thing, if it is not the table's key.
            told: only rows of which a snapshot or an audit table tells something: of large tables
                they are few or none, and to put all rows in order takes long.

        Returns:
            the table's columns, ``since`` (null: from the first), ``until`` (null: to the end) and
            ``known``: since when an audit table shows it so (null: none does). Of what was before,
            the first version says no more than the row of a single dump.
        """
        table, key, own = self.get(name), list(by or RAW_TABLES[name].key), RAW_TABLES[name].key
        earlier = [self.superseded[name]] if name in self.superseded else []
        if told:
            tellers = [*earlier, *([self.audited[name]] if name in self.audited else [])]
            keys = [table.select(own).clear(), *(rows.select(own) for rows in tellers)]
            table = table.join(pl.concat(keys), on=own, how="semi")
        if name in self.audited:
            table = table.join(self.audited[name], on=own, how="left")
        else:
            table = table.with_columns(known=pl.lit(None, TIME))
        last = table.with_columns(until=pl.lit(None, TIME))
        if not earlier:
            return last.with_columns(since=pl.lit(None, TIME))
        return (
            pl.concat([*earlier, last], how="diagonal")
            .sort(*key, "until", nulls_last=True)
            .with_columns(since=pl.col("until").shift(1).over(key))
        )
