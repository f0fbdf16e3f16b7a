"""Random sources and identifiers, all drawn from (seed, site, purpose) and nothing else."""

from zlib import crc32

import numpy as np
import polars as pl

HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
# Where the 32 hexadecimal digits of a UUID sit among its 36 characters.
DIGITS = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])


def source(seed: int, site: str, purpose: str) -> np.random.Generator:
    """A generator for each purpose: one more draw in one place moves nothing elsewhere."""
    return np.random.default_rng([seed, crc32(site.encode()), crc32(purpose.encode())])


def uuids(rng: np.random.Generator, n: int) -> pl.Series:
    """`n` random version-4 UUIDs as strings."""
    raw = rng.integers(0, 16, (n, 32), dtype=np.uint8)
    raw[:, 12] = 4
    raw[:, 16] = 8 + (raw[:, 16] & 3)
    text = np.full((n, 36), ord("-"), dtype=np.uint8)
    text[:, DIGITS] = HEX[raw]
    whole = text.tobytes().decode("ascii")
    return pl.Series([whole[i : i + 36] for i in range(0, 36 * n, 36)], dtype=pl.String)


def hexes(rng: np.random.Generator, n: int) -> pl.Series:
    """`n` random 32-digit identifiers, as Keystone gives to projects and users."""
    return uuids(rng, n).str.replace_all("-", "", literal=True)
