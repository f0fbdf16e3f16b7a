"""What is said of an input table: its columns, and how its rows are to be read."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

TIME, INT, FLOAT, TEXT = pl.Datetime("us"), pl.Int64(), pl.Float64(), pl.String()
NAME = pl.Categorical()
"""Type of the keys by which large tables are joined: each distinct name is stored once."""


@dataclass(frozen=True)
class EndingStatus:
    """How a table without a time of deletion tells that a row is over.

    Attributes:
        column: holds the status.
        values: those of rows that are over.
        at: the column with the time since when.
    """

    column: str
    values: tuple[str, ...]
    at: str


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """What one input table holds, and how its rows are to be read.

    What has no default must be said of every table, if only to say that there is none.

    Attributes:
        label: how figures and prose call it.
        required: column to type; a file without one of them is refused.
        begin: the column that says since when a row holds.
        end: the column that says until when; None where a row that is gone from a later snapshot
            still says what it said, as a request does.
        tells: quantity types of which it may tell.
        key: columns that identify a row; a second row with the same key is a duplicate.
        counted: integers that count up in each cell of Nova, so that they are keys in one only.
        same: columns that two states of one row share; with another value, a row of the same key
            is of another cell.
        optional: column to type; a missing one is read as null (columns that came with a later
            release, or that only some deployments have).
        derived: columns computed while reading, from columns that are not kept (JSON documents).
        archive: the table that holds rows archived out of this one, same columns.
        at_its_word: the uncorrected collector counts its rows.
        rows_of: the table whose rows, and whose keys, its entities are, if it is another one.
        entity: columns that name an entity, where several rows tell of one.
        names_hosts: its rows tell which host they are about.
        ending_status: how rows end where no column has the time of it.
        flag: a column that takes the row out of the count while it is 0.
        held_host: a column that is written over in place: the row held the earlier host until then.
        one_at_a_time: a name that has one row at a time: a row that is gone ended before the next
            row of that name was made.
        taken_away: columns that the service empties, and earlier snapshots still know.
        written_over: columns that the service overwrites; the first value is the right one.
        slot: columns that say what a row describes: a new row with the same values replaces one
            that is gone.
        heartbeat: its updated_at is touched though nothing changes, and so dates no change.
        remade: a file that is made anew from a history of its own, so that the latest says all.
        words: texts that become names when they are validated: few are distinct, or they are
            compared with names.
        used: which of its rows adapters read, if not all: the others are validated and let go.
        reduced: column to what of it adapters read, if not all (None: nothing): likewise.
    """

    label: str
    required: dict[str, pl.DataType]
    begin: str | None
    end: str | None
    tells: tuple[str, ...]
    key: tuple[str, ...] = ("id",)
    optional: dict[str, pl.DataType] = field(default_factory=dict)
    derived: dict[str, pl.Expr] = field(default_factory=dict)
    counted: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    archive: str | None = None
    at_its_word: bool = False
    rows_of: str | None = None
    entity: tuple[str, ...] = ()
    names_hosts: bool = True
    ending_status: EndingStatus | None = None
    flag: str | None = None
    held_host: str | None = None
    one_at_a_time: str | None = None
    taken_away: tuple[str, ...] = ()
    written_over: tuple[str, ...] = ()
    slot: tuple[str, ...] = ()
    heartbeat: bool = False
    remade: bool = False
    words: tuple[str, ...] = ()
    used: pl.Expr | None = None
    reduced: dict[str, pl.Expr | None] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """Every stored column that is read, with its type."""
        return self.required | self.optional

    @property
    def kept(self) -> dict[str, pl.DataType]:
        """The columns of the frame after input validation."""
        return self.validated | dict.fromkeys(self.words, NAME)

    @property
    def validated(self) -> dict[str, pl.DataType]:
        """The columns as they are validated: what documents held in their place, words as text."""
        documents = {
            name for expression in self.derived.values() for name in expression.meta.root_names()
        }
        stored = {name: kind for name, kind in self.columns.items() if name not in documents}
        return stored | dict.fromkeys(self.derived, NAME)


def texts(*names: str) -> dict[str, pl.DataType]:
    """Declare columns of text."""
    return dict.fromkeys(names, TEXT)


def names(*names: str) -> dict[str, pl.DataType]:
    """Declare columns of names."""
    return dict.fromkeys(names, NAME)


def times(*names: str) -> dict[str, pl.DataType]:
    """Declare columns of times."""
    return dict.fromkeys(names, TIME)


def ints(*names: str) -> dict[str, pl.DataType]:
    """Declare columns of whole numbers."""
    return dict.fromkeys(names, INT)


SOFT_DELETED: dict[str, Any] = {"begin": "created_at", "end": "deleted_at"}
"""Of a table whose rows the service dates itself and keeps when they are deleted."""
