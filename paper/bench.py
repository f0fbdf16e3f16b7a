"""The page on time and memory, from what `make bench` recorded in data/bench.json.

Times are of one machine on one day, so nothing else is made from them, and they are measured again
only when somebody asks.
"""

from __future__ import annotations

import json

from paper.project import ROOT, site_names

RECORD = ROOT / "data" / "bench.json"

PAGE = """\
(chapter-bench)=
# Time and memory

`make bench` measured this on {processor} ({cores} cores, {memory} GiB of memory), with {versions}.
Each figure is the median of three runs, each in a process of its own, on the twin, which has the
real number of rows. `make bench` prints its own figures, and records them for this page.

The *floor* is the time to read the columns that are needed from the Parquet files and do nothing
with them, without and with the JSON documents in them. No program that reads these files is faster.
A time without its machine says little, but its ratio to a floor of the same minutes carries over.

| site | rows | floor | floor, JSON | run | ratio | processor | memory |
|---|---:|---:|---:|---:|---:|---:|---:|
{sites}

*Ratio* is the time of the run over that of the floor with JSON. *Processor* is the time of all
cores, *memory* the most that the process held.

All sites, {jobs} at a time with one thread each, as `make run` does it, took {together:.1f} s; the
largest process held {most:.2f} GiB. A yardstick, the exact daily means of 1.2 million intervals in
DuckDB, took {before:.2f} s before all this and {after:.2f} s after it.

A site with more rows than one machine has memory for is counted in
[ranges of its hosts](#chapter-operating), one after another or on many machines.
`tests/bench/ranges.py` measures that on copies of a site, `tests/bench/kernels.py` the interval
functions alone, and `make bench-extract` the [extraction](#chapter-extracting).
"""


def page() -> str:
    """Give the page, as Markdown."""
    told = json.loads(RECORD.read_text(encoding="utf-8"))
    machine, together = told["machine"], told["together"]
    names = site_names(" ".join(told["sites"]), "data/sites.yaml")
    rows = [
        f"| {names[site]} | {of['rows']:,} | {of['floor']:.2f} s | {of['floor_documents']:.2f} s "
        f"| {of['seconds']:.1f} s | {of['seconds'] / of['floor_documents']:.1f} "
        f"| {of['cpu_seconds']:.1f} s | {of['memory_gib']:.2f} GiB |"
        for site, of in sorted(told["sites"].items())
    ]
    return PAGE.format(
        processor=machine["processor"],
        cores=machine["cores"],
        memory=machine["memory_gib"],
        versions=", ".join(f"{name} {number}" for name, number in machine["versions"].items()),
        sites="\n".join(rows),
        jobs=together["jobs"],
        together=together["seconds"],
        most=together["memory_gib"],
        before=told["yardstick"][0],
        after=told["yardstick"][1],
    )
