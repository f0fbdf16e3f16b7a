"""Files and directories that appear whole or not at all."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source

from chameleon_usage.errors import UsageError

OLD = "old"
"""Where what a new directory replaces waits, in the temporary one."""


def is_store(place: str) -> bool:
    """Whether a place is a store that a URL names, rather than a directory."""
    return "://" in place


def shows_password(url: str) -> bool:
    """Whether a URL holds a password in the clear."""
    return re.search(r"//[^/@]*:.*@", url) is not None


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Keep other runs away from a directory for as long as this one takes.

    Raises:
        UsageError: another run has it, or it cannot be written: known before anything is computed.
    """
    path = target.parent / f".{target.name}.lock"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
    except BlockingIOError:
        raise UsageError(
            f"{target}: another run is writing it; wait for it, or name another directory with "
            "--output"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{target}: cannot be written ({error}); name another directory with --output"
        ) from error
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str]:
    """Open a file that no other process has locked; the lock goes with the process."""
    while True:
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise
        if os.fstat(lock.fileno()).st_nlink:
            return lock
        lock.close()  # a run that has just ended took it away


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Fill a directory that appears at ``target`` whole, or not at all.

    Yields:
        an empty directory beside the target; on success it takes the target's place.

    Raises:
        UsageError: it cannot be written; what was at the target before is still there.
    """
    with beside(target) as scratch:
        new = scratch / "new"
        new.mkdir()
        try:
            yield new
            if target.exists():
                target.replace(scratch / OLD)
            new.replace(target)
        finally:
            _bring_back(scratch, target)  # ended between the two renames


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Write a file that appears at ``target`` whole, or not at all.

    Yields:
        a path beside the target; on success what is written there takes the target's place.

    Raises:
        UsageError: it cannot be written; what was at the target before is still there.
    """
    with beside(target) as scratch:
        part = scratch / target.name
        yield part
        part.replace(target)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """Give a temporary directory beside a target, free of what killed runs left there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in sorted(target.parent.glob(f".{target.name}.*")):
            pid = left.name.removeprefix(f".{target.name}.").split(".")[0]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                _bring_back(left, target)
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.{os.getpid()}.", dir=target.parent, ignore_cleanup_errors=True
        ) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise UsageError(
            f"{target}: could not be written ({str(error).partition(chr(10))[0]}); what was there "
            "before is untouched. Make room, or name another directory"
        ) from error


def _bring_back(scratch: Path, target: Path) -> None:
    """Put the old directory back where it was moved away and nothing took its place."""
    if (scratch / OLD).exists() and not target.exists():
        (scratch / OLD).replace(target)


@contextmanager
def writing() -> Iterator[None]:
    """Raise an OSError where a Parquet file cannot be written, for which Polars has no such name.

    So an error of reading or of computing is never taken for one of writing.
    """
    try:
        yield
    except pl.exceptions.ComputeError as error:
        raise OSError(error) from error


def save_tables(directory: Path, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write each frame to ``<name>.parquet`` in a directory.

    Raises:
        OSError: one cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        save_table(directory / f"{name}.parquet", frame)


def save_table(path: Path, table: pl.DataFrame | Iterator[pl.DataFrame]) -> None:
    """Write a table, each part to a row group of its own if it comes in parts.

    Raises:
        OSError: it cannot be written.
    """
    failed: list[BaseException] = []
    rows = table.lazy() if isinstance(table, pl.DataFrame) else _scan(table, failed)
    try:
        # The quickest level: the usual one takes a fifth less room and two fifths more time.
        with writing():
            rows.sink_parquet(path, compression="zstd", compression_level=1)
    except OSError:
        if failed:
            raise failed[0] from None
        raise


def _scan(parts: Iterator[pl.DataFrame], failed: list[BaseException]) -> pl.LazyFrame:
    """Give the rows of parts, which Polars asks for one after another as it writes them.

    Args:
        parts: there is at least one.
        failed: gets what is raised where a part is made, of which Polars keeps but the words.
    """
    first = next(parts)

    def source(*_: object) -> Iterator[pl.DataFrame]:
        try:
            yield first
            yield from parts
        except BaseException as error:
            failed.append(error)
            raise

    return register_io_source(source, schema=first.schema)


def load_table(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read one table of a stage, of the outputs or of a range; or some of its columns.

    Raises:
        UsageError: it is not there, or is damaged.
    """
    try:
        return pl.read_parquet(path, columns=columns)
    except (pl.exceptions.PolarsError, OSError) as error:
        option = " --save-stages" if "stages" in path.parts else ""
        raise UsageError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); "
            f"run 'chameleon-usage run{option}' again"
        ) from error
