"""What was measured, kept until the files that it was measured from change, or the code.

A page of all sites is made again when one of them has changed; the measures of the others, and
those that two pages share, need not be taken again.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

import polars as pl

from chameleon_usage.io.files import whole_file
from paper.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def kept(name: str, measure: Callable[[], pl.DataFrame], *files: Path) -> pl.DataFrame:
    """Give what `measure` gives, or gave when these files were as they are now.

    Args:
        name: of the measure, and of the site.
        measure: reads nothing but the files and what is under version control.
        files: each is told by its time and size.
    """
    paths = "\n".join(str(path.resolve()) for path in files)
    told = [path.stat() for path in files]
    of = _sum(_code(), paths, *(f"{one.st_mtime_ns} {one.st_size}" for one in told))
    place = ROOT / "build" / "kept" / f"{name}-{_sum(paths)[:8]}.parquet"
    if place.exists() and pl.read_parquet_metadata(place).get("of") == of:
        return pl.read_parquet(place)
    found = measure()
    with whole_file(place) as part:
        found.write_parquet(part, metadata={"of": of})
    return found


@cache
def _code() -> str:
    """Give a sum over all that a measure may depend on besides its files."""
    made_by = [path for folder in ("src", "paper") for path in (ROOT / folder).rglob("*.py")]
    told = [path for path in (ROOT / "data").glob("*.*") if path.is_file()]
    lock = ROOT / "requirements.txt"
    return _sum(*(path.read_text(encoding="utf-8") for path in sorted([*made_by, *told, lock])))


def _sum(*texts: str) -> str:
    return sha256("\0".join(texts).encode()).hexdigest()
