"""Two numbers for each bucket, which differ where anything that is summed up in it does.

What a table tells of a bucket is made of the sums of that bucket alone, and of what the tables of a
site can tell of at all (``buckets.Availability``). So where these are as they were, its rows are.
"""

import hashlib
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from chameleon_usage.usage.buckets import Availability, Window, quantities
from chameleon_usage.usage.tally import Tally

SUMMED = ("usage", "hosts")
"""The sums of which the tables by node type and by host are made."""


def fingerprints(sums: Tally, availability: Availability, window: Window) -> pl.DataFrame:
    """Give the numbers of each bucket that the tables cover.

    They are sums of all seconds, each times two numbers that depend on whose and of what they are.
    So they do not depend on the order of the rows, and where there are no seconds it makes no
    difference whether there is a row that says so.

    Returns:
        ``timestamp``, ``length`` (seconds), ``first`` and ``second``, each of 64 bits.
    """
    found = np.zeros((2, len(window.edges) - 1), np.uint64)
    for name in SUMMED:
        if name in sums:
            _add(found, name, sums[name])
    first, second = found
    numbered = window.timestamps.select("timestamp", "length", first=first, second=second)
    return numbered.join(availability.buckets(window), on="timestamp", how="semi")


def _add(found: npt.NDArray[np.uint64], name: str, sums: pl.DataFrame) -> None:
    """Add the sums of ``buckets.unit_seconds`` to the numbers of their buckets."""
    labels = sums.columns[: sums.columns.index("bucket")]
    other = [pl.col(label).ne_missing(pl.col(label).shift(1)) for label in labels]
    follows = pl.col("bucket") == pl.col("bucket").shift(1) + 1
    heads = sums.select((pl.any_horizontal(other) | ~follows).fill_null(value=True).arg_true())
    head = heads.to_series().to_numpy()
    texts = sums[head].select(pl.col(labels).cast(pl.String)).rows()
    bucket = sums["bucket"].to_numpy()
    seconds = {of: sums[of].to_numpy().view(np.uint64) for of in quantities(sums)}
    for text, (begin, end) in zip(texts, pairwise([*head, sums.height]), strict=True):
        into = found[:, bucket[begin] : bucket[begin] + end - begin]
        for quantity, every in seconds.items():
            some = every[begin:end]
            if some.any():
                key = repr((name, text, quantity)).encode()
                factors = np.frombuffer(hashlib.blake2b(key, digest_size=16).digest(), np.uint64)
                into += factors[:, None] * some
