"""The ranges of a site on the workers of a cluster, through Spark's own interface.

Spark moves the rows of each range to a worker, writes what is made of them to the folder that all
see, and does it again where a worker is lost. What is made, the functions of ``ranges`` decide, the
same as at home. Tables are written as bytes: their types are none of Spark's business.
"""

import importlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from chameleon_usage.engines.engine import Tables, Work, plain
from chameleon_usage.errors import UsageError

ASKED, READINGS = "asked.parquet", "readings.parquet"

PATIENCE = 5.0
"""Seconds in which a server has to answer; Spark's own client would ask for ten minutes."""


def session() -> Any:  # noqa: ANN401 - of a library that need not be installed
    """Give the session that the environment tells of: SPARK_REMOTE, or that of spark-submit.

    Raises:
        UsageError: Spark's client is not installed, or there is no session to be had.
    """
    try:
        sql = importlib.import_module("pyspark.sql")
    except ImportError as error:
        raise UsageError(
            f"--engine spark: {error}; install the package with its extra, chameleon-usage[spark]"
        ) from error
    try:
        _reach(os.environ.get("SPARK_REMOTE", ""))
        return sql.SparkSession.builder.appName("chameleon-usage").getOrCreate()
    except Exception as error:
        raise UsageError(
            f"--engine spark: no session ({str(error).partition(chr(10))[0]}); name a server in "
            "SPARK_REMOTE, as sc://HOST:15002, or start the command by spark-submit"
        ) from error


def _reach(url: str) -> None:
    """Wait for a server to answer, if the address is that of one.

    Raises:
        TimeoutError: it does not; told without the rest of the URL, which may hold a token.
        ValueError: it is no address of one.
    """
    if not url.startswith("sc://"):
        return
    grpc = importlib.import_module("grpc")
    builder = importlib.import_module("pyspark.sql.connect.client").DefaultChannelBuilder
    try:
        address = builder(url)
    except Exception:  # noqa: BLE001 - its words may repeat the token
        raise ValueError("the address is not like sc://HOST:15002/;token=TOKEN") from None
    with address.toChannel() as channel:
        try:
            grpc.channel_ready_future(channel).result(PATIENCE)
        except grpc.FutureTimeoutError:
            raise TimeoutError(
                f"{address.endpoint} did not answer within {PATIENCE:.0f} s"
            ) from None


class Cluster:
    """Each range on some worker, all of which see the folder under the same name."""

    jobs = 1
    apart = True

    def __init__(self, spark: Any) -> None:  # noqa: ANN401
        """Take a session."""
        self.spark = spark

    def ask(self, folder: Path, work: Work, names: Sequence[str]) -> Iterable[Tables]:
        """Give what the work makes of each range's rows."""
        _make(self._of_rows(folder, work, names), folder / ASKED)
        return _collected(folder / ASKED, names)

    def keep(self, folder: Path, work: Work, names: Sequence[str]) -> None:
        """Keep what the work makes of each range's rows."""
        _make(self._of_rows(folder, work, names), folder / READINGS)

    def kept(self, folder: Path, names: Sequence[str]) -> Iterable[Tables]:
        """Give tables that were kept of each range."""
        return _collected(folder / READINGS, names)

    def ask_kept(
        self,
        folder: Path,
        of: Sequence[str],
        work: Callable[[Tables], Tables],
        names: Sequence[str],
    ) -> Iterable[Tables]:
        """Give what the work makes of tables that were kept of each range."""

        def each(batches: Iterator[Any]) -> Iterator[Any]:
            for batch in batches:
                for row in batch.to_pylist():
                    yield from _packed(work(_unpacked(row)), names).to_batches()

        readings = self.spark.read.parquet(str(folder / READINGS)).select(*of)
        place = folder / f"of-{'-'.join(of)}.parquet"
        _make(readings.mapInArrow(each, _schema(names)), place)
        return _collected(place, names)

    def _of_rows(self, folder: Path, work: Work, names: Sequence[str]) -> Any:  # noqa: ANN401
        def one(table: Any) -> Any:  # noqa: ANN401 - tables of Arrow
            rows = pl.DataFrame(pl.from_arrow(table))
            return _packed(work(rows.drop("range")), names)

        rows = self.spark.read.parquet(str(folder / "rows"))
        return rows.groupBy("range").applyInArrow(one, _schema(names))


def _schema(names: Sequence[str]) -> str:
    return ", ".join(f"{name} binary" for name in names)


def _packed(tables: Tables, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Give a row of Arrow, with the bytes of each table."""
    arrow = importlib.import_module("pyarrow")
    texts, row = plain(tables), {}
    for name in names:
        file = io.BytesIO()
        texts[name].write_ipc(file, compression="zstd")
        row[name] = [file.getvalue()]
    # Spark takes no large binaries, which Polars would make.
    return arrow.table(row, arrow.schema([(name, arrow.binary()) for name in names]))


def _unpacked(row: dict[str, bytes]) -> dict[str, pl.DataFrame]:
    return {name: pl.read_ipc(io.BytesIO(told)) for name, told in row.items()}


def _make(rows: Any, place: Path) -> None:  # noqa: ANN401
    """Have all workers make rows: what is only iterated over is made range after range."""
    rows.write.mode("overwrite").parquet(str(place))


def _collected(place: Path, names: Sequence[str]) -> Iterable[Tables]:
    """Read what was made, range by range, where it lies: Spark's driver has no room for it."""
    files = sorted(place.glob("*.parquet"))
    rows = (pl.read_parquet(file, columns=list(names)).iter_rows(named=True) for file in files)
    return (_unpacked(row) for some in rows for row in some)
