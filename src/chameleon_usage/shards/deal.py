"""The raw tables of a site, dealt into shards: each has all the rows of its leases and instances.

Leases are dealt by their id. What belongs to one follows it, whatever table it stands in: its
reservations, their allocations, the instances that were launched in them, all that was done to
these. So the adapters read a shard as they read a site. Tables of hosts are small: every shard has
them whole.

Rows go from file to file as they are stored, unjudged, some at a time; what is kept in memory is
the number of each thing that follows another, and its shard.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.ingest.loader import check_columns, paths_of, reading
from chameleon_usage.io.files import writing
from chameleon_usage.models import cells
from chameleon_usage.models.raw import AUDIT_TABLES, RAW_TABLES
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.raw_values import as_kind
from chameleon_usage.snapshots.history import HISTORY, MANIFEST

_SPARSE = 8
"""Numbers for each key, at most, where these are looked up in a table."""
_KEY, _SHARD = "_key", "_shard"
_SHARDS = pl.UInt16()


@dataclass(frozen=True)
class _Deal:
    """How the rows of a table are dealt.

    Attributes:
        column: names the thing whose shard a row goes to.
        thing: what kind of a thing it is.
        follows: columns of the table, or of its documents, the first of which that is not null
            names a thing of the kind ``leader`` whose shard this thing goes to, too. Things of
            which no row says so go by their own name.
        leader: what kind of a thing that is.
    """

    column: str
    thing: str
    follows: tuple[str, ...] = ()
    leader: str = ""


_OF_RESERVATION = _Deal("reservation_id", "reservation")

DEALT: Mapping[str, _Deal] = {
    "blazar.leases": _Deal("id", "lease"),
    "blazar.events": _Deal("lease_id", "lease"),
    "blazar.reservations": _Deal("id", "reservation", ("lease_id",), "lease"),
    "blazar.computehost_reservations": _OF_RESERVATION,
    "blazar.instance_reservations": _OF_RESERVATION,
    "blazar.device_reservations": _OF_RESERVATION,
    "blazar.computehost_allocations": _OF_RESERVATION,
    "blazar.device_allocations": _OF_RESERVATION,
    "nova_api.request_specs": _Deal("instance_uuid", "instance", ("flavor", "hint"), "reservation"),
    "nova.instances": _Deal("uuid", "instance"),
    "nova.migrations": _Deal("instance_uuid", "instance"),
    "nova.instance_actions": _Deal("id", "action", ("instance_uuid",), "instance"),
    "nova.instance_actions_events": _Deal("action_id", "action"),
    "zun.container": _Deal("uuid", "container", ("reservation_id",), "reservation"),
    "zun.container_actions": _Deal("id", "container action", ("container_uuid",), "container"),
    "zun.container_actions_events": _Deal("action_id", "container action"),
    "chameleon_usage.node_maintenance": _Deal("hypervisor_hostname", "host"),
}
"""Tables that are dealt; those that say where a thing goes before those whose rows go there."""


def reason_against(directory: Path, tables: Sequence[str], files: Mapping[str, str]) -> str:
    """Tell why the raw tables of a site cannot be dealt; nothing if they can.

    Args:
        directory: where they are.
        tables: names of those that its adapters read.
        files: where those of other layouts are.
    """
    if files:
        return "its files are not those of 'chameleon-usage extract'"
    if not (directory / MANIFEST).exists():
        return f"{directory / MANIFEST}, which tells when its tables were read, is not there"
    if (directory / HISTORY).is_dir():
        return f"{directory / HISTORY} tells of its rows, too"
    audits = (
        directory / f"{AUDIT_TABLES[name]}.parquet" for name in tables if name in AUDIT_TABLES
    )
    if audited := next((path for path in audits if path.exists()), None):
        return f"{audited} tells of its rows, too"
    whole = [name for name in tables if name.startswith(("trace.", "published."))]
    return f"{whole[0]} is read whole" if whole else ""


def rows_told(directory: Path) -> int:
    """Tell how many raw rows the manifest of a site lists; none if it lists none, or is damaged."""
    try:
        listed = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["tables"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
    # The extractor lists what it knows of each file, the twin the rows alone.
    rows = (table.get("rows") if isinstance(table, dict) else table for table in listed)
    return sum(number for number in rows if isinstance(number, int))


def deal(directory: Path, tables: Sequence[str], count: int, room: Path) -> list[Path]:
    """Deal the raw tables of a site into shards.

    Args:
        directory: holds them.
        tables: names of those that its adapters read.
        count: of shards.
        room: where to: a directory a shard, in which files have their names.

    Returns:
        the directories of the shards, and then that of the tables that are not dealt, alone.

    Raises:
        UsageError: a file lacks a column, or its rows cannot be dealt.
    """
    shards = [room / f"shard={number:04}" for number in range(count)]
    hosts = room / "hosts"
    for place in (*shards, hosts):
        place.mkdir(parents=True)
    every = [
        directory / MANIFEST,
        *files_of(directory, [one for one in tables if one not in DEALT]),
    ]
    for path in every:
        for place in (*shards, hosts):
            (place / path.name).symlink_to(path.resolve())
    numbers = cells.numbers(files_of(directory, tables))
    known: dict[str, _Places] = {}
    for name, rule in DEALT.items():
        paths = files_of(directory, [name]) if name in tables else []
        files = [_File(path, name, cells.raised_by(path, numbers)) for path in paths]
        if not files:
            continue
        things = {file: file.number(rule.column) for file in files}
        if rule.follows:
            led = [file.led(things[file], rule, known, count) for file in files]
            known[rule.thing] = _Places(led, name)
        at = {file: _shard(thing, rule.thing, known, count) for file, thing in things.items()}
        if RAW_TABLES[name].key != (rule.column,):
            _Places([file.kept(at[file]) for file in files], name)
        for file in files:
            file.write(at[file], shards)
    return [*shards, hosts]


def files_of(directory: Path, tables: Sequence[str]) -> list[Path]:
    """List the files of tables, those of their archives and of other cells included."""
    names = [part for name in tables for part in (name, RAW_TABLES[name].archive) if part]
    return sorted({path for name in names for path in paths_of(directory, name)})


class _File:
    """A file of a table that is dealt; what its rows go by is read as the loader reads it."""

    def __init__(self, path: Path, name: str, raised_by: int) -> None:
        """Look at the columns.

        Args:
            path: the file.
            name: the table.
            raised_by: by how much what its cell counts is raised.

        Raises:
            UsageError: it lacks a column, or cannot be read.
        """
        self.path, self.name, self.raised_by = path, name, raised_by
        self.spec, self.stored = RAW_TABLES[name], pl.scan_parquet(path)
        with reading(path, name):
            self.kinds = self.stored.collect_schema()
        check_columns(path, name, self.kinds.names())
        roots = {root for of in self.spec.derived.values() for root in of.meta.root_names()}
        documents = [self._read(column) for column in roots if column in self.kinds]
        self.scan = self.stored.with_columns(documents).with_columns(**self._derived())

    def _derived(self) -> dict[str, pl.Expr]:
        """Give what is derived of the documents that there are."""
        derived = self.spec.derived.items()
        return {name: of for name, of in derived if self.kinds.keys() >= {*of.meta.root_names()}}

    def _read(self, column: str) -> pl.Expr:
        stored, kind = self.kinds[column], self.spec.columns[column]
        if stored.is_nested():
            raise UsageError(
                f"{self.path}: table {self.name}, column {column} holds {stored}, expected {kind}; "
                "extract the table again"
            )
        return as_kind(pl.col(column), stored, pl.String() if kind == NAME else kind)

    def number(self, column: str) -> pl.Expr:
        """Make a number of a column: itself, told apart by cell, or the hash of a text."""
        if column not in self.spec.columns:
            return _hash(pl.col(column))
        value = self._read(column)
        if not self.spec.columns[column].is_integer():
            return _hash(value)
        return value + self.raised_by if column in self.spec.counted else value

    def led(
        self, thing: pl.Expr, rule: _Deal, known: Mapping[str, "_Places"], count: int
    ) -> pl.DataFrame:
        """Give the things (``_KEY``) of rows that say whom they follow, and the shard of these."""
        there = {*self.kinds, *self._derived()}
        numbers = [self.number(column) for column in rule.follows if column in there]
        leader = pl.coalesce(*numbers, pl.lit(None, pl.Int64))
        at = pl.when(leader.is_not_null()).then(_shard(leader, rule.leader, known, count))
        return self._select(thing, at)

    def kept(self, at: pl.Expr) -> pl.DataFrame:
        """Give the keys of the rows (``_KEY``), and their shard."""
        keys = [self.number(column) for column in self.spec.key]
        one = keys[0] if len(keys) == 1 else _hash(pl.concat_str(keys, separator=" "))
        return self._select(one, at)

    def _select(self, key: pl.Expr, at: pl.Expr) -> pl.DataFrame:
        with reading(self.path, self.name):
            both = self.scan.select(key.alias(_KEY), at.alias(_SHARD)).drop_nulls()
            return both.collect(engine="streaming")

    def write(self, at: pl.Expr, shards: Sequence[Path]) -> None:
        """Write each row to the file of its shard, in their order; none has an empty one."""
        read = [column for column in self.spec.columns if column in self.kinds]
        rows = self.stored.select(*read, at.alias(_SHARD))

        def path_of(told: "pl.io.partition.FileProviderArgs") -> str:
            return f"shard={told.partition_keys.item():04}/{self.path.name}"

        whole = pl.PartitionBy(
            shards[0].parent,
            key=_SHARD,
            include_key=False,
            approximate_bytes_per_file=2**62,
            file_path_provider=path_of,
        )
        try:
            rows.sink_parquet(whole, compression_level=1, mkdir=True)
        except pl.exceptions.ComputeError as error:
            if "os error" in str(error):  # there is no room for the shards
                raise OSError(error) from error
            with reading(self.path, self.name):
                raise
        none = rows.drop(_SHARD).clear().collect()
        for place in shards:
            if not (place / self.path.name).exists():
                with writing():
                    none.write_parquet(place / self.path.name)


def _hash(value: pl.Expr) -> pl.Expr:
    """Make a number of a text; of none, none."""
    return pl.when(value.is_not_null()).then(value.hash(0).reinterpret(signed=True))


def _shard(number: pl.Expr, thing: str, known: Mapping[str, "_Places"], count: int) -> pl.Expr:
    """Tell the shard of a thing of this number."""
    own = (number.hash(1) % count).cast(_SHARDS)
    if thing not in known:
        return own
    told = number.map_batches(known[thing].of, return_dtype=_SHARDS, is_elementwise=True)
    return pl.when(told > 0).then(told - 1).otherwise(own)


class _Places:
    """Where the things go that follow others: in a table by their number, or in order."""

    def __init__(self, told: Iterable[pl.DataFrame], name: str) -> None:
        """Take numbers and shards as the rows of a table tell them.

        Raises:
            UsageError: of one thing they tell two shards.
        """
        every = pl.concat(told)
        keys, shards = every[_KEY].to_numpy(), every[_SHARD].to_numpy() + 1
        self.first, last = (int(keys.min()), int(keys.max())) if len(keys) else (0, -1)
        self.dense = last - self.first < _SPARSE * len(keys)
        if self.dense:  # the last is for all beyond
            self.keys, self.shards = keys[:0], np.zeros(last - self.first + 2, shards.dtype)
            self.shards[keys - self.first] = shards
            differ = (self.shards[keys - self.first] != shards).any()
        else:
            order = np.argsort(keys)
            self.keys, self.shards = keys[order], shards[order]
            same = self.keys[1:] == self.keys[:-1]
            differ = (same & (self.shards[1:] != self.shards[:-1])).any()
        if differ:
            raise UsageError(
                f"{name}: two rows of one key belong to different leases or instances, so that the "
                "site cannot be read in shards; read it whole, with --shards 1"
            )

    def of(self, numbers: pl.Series) -> pl.Series:
        """Give the shard of things, counted from 1; 0 of those of which none is told."""
        asked = numbers.fill_null(self.first - 1).to_numpy()
        if self.dense:
            place, beyond = asked - self.first, len(self.shards) - 1
            return pl.Series(self.shards[np.where((place < 0) | (place > beyond), beyond, place)])
        place = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)
        return pl.Series(np.where(self.keys[place] == asked, self.shards[place], np.uint16(0)))
