"""The way of one allocation through the program, traced: few files carry it, all of them named."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import polars.selectors as cs

import chameleon_usage
from support import PROJECT
from support.sites import TinySite

if TYPE_CHECKING:
    from types import FrameType

WAY = (
    *("cli/run.py", "pipeline.py", "ingest/loader.py", "ingest/registry.py", "ingest/blazar.py"),
    *("ingest/base.py", "reconstruct/observed.py", "reconstruct/corrected.py"),
    *("reconstruct/holders.py", "reconstruct/reading.py", "usage/buckets.py", "usage/tables.py"),
    *("stages.py", "io/files.py"),
)
"""The files that carry or change an allocation, from the command to the output's file."""
EVIDENCE = (
    *("snapshots/history.py", "reconstruct/uncorrected.py", "reconstruct/hosts.py"),
    *("reconstruct/inference.py", "ingest/schedule.py", "usage/projected.py", "usage/lease_use.py"),
)
"""Those that look at it: for what it tells of others, or to count it another way."""
TOOLS = ("intervals", "models")
"""Rooms that know nothing of allocations: arithmetic and schemas."""


def holds(value: Any, row: str) -> bool:
    """Whether a frame, or one of some frames, holds the row of that key."""
    if isinstance(value, pl.DataFrame):
        names = value.select(cs.string() | cs.categorical())
        return any((column.cast(pl.String) == row).any() for column in names)
    if isinstance(value, list | tuple):
        return any(holds(part, row) for part in value)
    return isinstance(value, dict) and any(holds(part, row) for part in value.values())


def files_that_hold(row: str, site: TinySite) -> set[str]:
    """Make a site's outputs and list the files whose functions take or give the row."""
    root = str(Path(chameleon_usage.__file__).parent) + os.sep
    found: set[str] = set()
    looking = False

    def trace(frame: FrameType, event: str, result: Any) -> None:
        nonlocal looking
        code = frame.f_code
        # Called for millions of functions, nearly all of other packages.
        if looking or not code.co_filename.startswith(root):
            return
        looking = True
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = [frame.f_locals.get(name) for name in given] if event == "call" else [result]
        if holds(values, row):
            found.add(Path(code.co_filename).relative_to(root).as_posix())
        looking = False

    sys.setprofile(trace)
    try:
        dict(site.outputs)  # computed when read
    finally:
        sys.setprofile(None)
    return found


def test_an_allocation_passes_fourteen_files_at_most_and_each_is_named():
    site = TinySite(adapters=["nova_hosts", "blazar_hosts", "blazar_allocations"])
    site.host("h1")
    site.lease("L1", 1, 3, ["b-h1"])
    allocation = site.tables["blazar.computehost_allocations"][-1]["id"]
    found = files_that_hold(allocation, site)
    carried = {name for name in found if not name.startswith(TOOLS)} - set(EVIDENCE)
    assert "ingest/blazar.py" in carried
    assert carried <= set(WAY), f"these carry it, too: {sorted(carried - set(WAY))}"
    assert len(WAY) <= 14
    page = (PROJECT / "book" / "implementation.md").read_text(encoding="utf-8")
    assert [name for name in (*WAY, *EVIDENCE) if f"`{name}`" not in page] == []
