"""Values as a MySQL server writes them -> typed columns of a Parquet file."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl

from chameleon_usage.io.files import writing
from chameleon_usage.io.privacy import Privacy

GROUP_ROWS, GROUP_BYTES = 1 << 17, 1 << 25
"""A row group of a file is closed at whichever of the two comes first."""
LEVEL = 1
"""Of compression: the quickest."""


def kind_of(name: str, full: str, precision: str, scale: str) -> pl.DataType:
    """Give the type of a column as ``information_schema.columns`` describes it."""
    signed = "unsigned" not in full
    if name == "decimal":
        return pl.Decimal(int(precision), int(scale))
    kinds = {
        "tinyint": pl.Int8() if signed else pl.UInt8(),
        "smallint": pl.Int16() if signed else pl.UInt16(),
        **dict.fromkeys(("mediumint", "int"), pl.Int32() if signed else pl.UInt32()),
        "bigint": pl.Int64() if signed else pl.UInt64(),
        "year": pl.UInt16(),
        "float": pl.Float32(),
        "double": pl.Float64(),
        "date": pl.Date(),
        **dict.fromkeys(("datetime", "timestamp"), pl.Datetime("us")),
        **dict.fromkeys(
            ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit"),
            pl.Binary(),
        ),
    }
    return kinds.get(name, pl.String())


_SECONDS, _FRACTIONS = "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.f"  # the first is read faster
_WHOLE = "0000-00-00 00:00:00"


class Writer:
    """Turns rows of bytes into row groups of a Parquet file, and takes note of what it saw.

    Attributes:
        facts: the table's entry in the manifest, once the file is closed: ``rows``, ``bytes`` of
            the file, ``checksum`` of the content, ``columns`` with their types, and, by column and
            where there were any, the numbers of ``zero_dates`` (null in the file) and of values
            that are ``not_utf8`` (read as Latin-1).
    """

    def __init__(
        self, path: Path, kinds: Mapping[str, pl.DataType], privacy: Privacy | None = None
    ) -> None:
        self.path, self.kinds, self.privacy = path, kinds, privacy
        # Polars appends to no file: each group is one of its own until the table has been read.
        self.groups = tempfile.TemporaryDirectory(prefix=".groups", dir=path.parent)
        self.written: list[Path] = []
        self.parts: list[pl.DataFrame] = []
        self.held = 0
        self.sum = hashlib.sha256()
        self.rows = 0
        self.zero_dates: dict[str, int] = {}
        self.not_utf8: dict[str, int] = {}
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self.groups:
            if kind is not None:
                return
            self._flush()
            if not self.written:
                self._write(pl.DataFrame(schema=dict(self.kinds)))
            with writing():
                pl.scan_parquet(self.written).sink_parquet(
                    self.path,
                    compression="zstd",
                    compression_level=LEVEL,
                    row_group_size=GROUP_ROWS,
                )
        self.facts = {
            "rows": self.rows,
            "bytes": self.path.stat().st_size,
            "checksum": f"sha256:{self.sum.hexdigest()}",
            "columns": {
                name: str(kind) for name, kind in pl.read_parquet_schema(self.path).items()
            },
            **({"zero_dates": self.zero_dates} if self.zero_dates else {}),
            **({"not_utf8": self.not_utf8} if self.not_utf8 else {}),
        }

    def add(self, rows: Sequence[tuple[bytes | None, ...]]) -> None:
        """Take rows of values as the server wrote them."""
        columns = zip(self.kinds, zip(*rows, strict=True), strict=True)
        part = pl.DataFrame([pl.Series(name, values, pl.Binary) for name, values in columns])
        self.parts.append(part)
        self.held += int(part.estimated_size())
        if self.held >= GROUP_BYTES or len(self.parts) * len(rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self.parts:
            return
        raw = pl.concat(self.parts)
        self.parts, self.held = [], 0
        frame = pl.DataFrame([self._typed(raw[name], kind) for name, kind in self.kinds.items()])
        if self.privacy:
            frame = self.privacy.protect(frame)
        self.rows += frame.height
        self.sum.update(content(frame))
        self._write(frame)

    def _write(self, frame: pl.DataFrame) -> None:
        self.written.append(Path(self.groups.name) / f"{len(self.written):08}.parquet")
        with writing():
            frame.write_parquet(self.written[-1], compression="zstd", compression_level=LEVEL)

    def _typed(self, raw: pl.Series, kind: pl.DataType) -> pl.Series:
        if kind == pl.Binary:
            return raw
        text = self._decoded(raw)
        if kind == pl.String:
            return text
        if kind == pl.Date:
            moments = text.str.to_date("%Y-%m-%d", strict=False)
        elif kind == pl.Datetime("us"):
            form = _SECONDS if text.str.len_bytes().max() == len(_WHOLE) else _FRACTIONS
            moments = text.str.to_datetime(form, time_unit="us", strict=False)
        else:
            return text.cast(kind)
        if nulled := moments.null_count() - text.null_count():
            self.zero_dates[raw.name] = self.zero_dates.get(raw.name, 0) + nulled
        return moments

    def _decoded(self, raw: pl.Series) -> pl.Series:
        try:
            return raw.cast(pl.String)
        except pl.exceptions.ComputeError:  # at least one value is not in UTF-8
            pass
        # Bytes from before the tables were in UTF-8: each is a character of Latin-1.
        texts, broken = [], 0
        for value in raw:
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                texts.append(value.decode("latin-1"))
                broken += 1
        self.not_utf8[raw.name] = self.not_utf8.get(raw.name, 0) + broken
        return pl.Series(raw.name, texts, dtype=pl.String)


def content(frame: pl.DataFrame) -> bytes:
    """Give the rows of a frame in the one form over which the manifest's checksums run: CSV."""
    return (
        frame.with_columns(pl.col(pl.Binary).bin.encode("hex"))
        .write_csv(include_header=False, datetime_format=_FRACTIONS, date_format="%Y-%m-%d")
        .encode()
    )
