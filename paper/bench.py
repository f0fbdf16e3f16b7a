"""The page on time and memory, from what was measured and recorded.

`make bench` records in data/bench.json, `tests/bench/ranges.py --record` in data/ranges.json and
`tests/bench/nightly.py --record` in data/nightly.json. Times are of one machine on one day, so
nothing else is made from them, and they are measured again only when somebody asks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paper.project import ROOT, site_names

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = ROOT / "data" / "bench.json"
RANGES = ROOT / "data" / "ranges.json"
NIGHTS = ROOT / "data" / "nightly.json"

PAGE = """\
(chapter-bench)=
# Time and memory

`make bench` measured this on {processor} ({cores} cores, {memory} GiB of memory), with {versions}.
Each figure is the median of three runs, each in a process of its own, on the twin, which has the
real number of rows. `make bench` prints its own figures, and records them for this page.

The *floor* is the time of a process that starts, reads the columns that are needed from the Parquet
files, does nothing with them and ends: without, and with the JSON documents in them. No program of
this kind that reads these files is faster. A time without its machine says little, but its ratio to
a floor of the same minutes carries over.

| site | rows | floor | floor, JSON | run | ratio | processor | memory |
|---|---:|---:|---:|---:|---:|---:|---:|
{sites}

*Ratio* is the time of the run over that of the floor with JSON. *Processor* is the time of all
cores, *memory* the most that the process held.

All sites, {jobs} at a time with one thread each, as `make run` does it, took {together:.1f} s; the
largest process held {most:.2f} GiB. A yardstick, the exact daily means of 1.2 million intervals in
DuckDB, took {before:.2f} s before all this and {after:.2f} s after it.

`tests/bench/kernels.py` measures the interval functions alone, and `make bench-extract` the
[extraction](#chapter-extracting).

## Range by range

A site with more rows than one machine has memory for is counted in
[ranges of its hosts](#beyond-one-machine), some at a time or on many machines.
`tests/bench/ranges.py --record` measured that on {ranges_processor} ({ranges_cores} cores). It
copies the raw tables of {site} under other names, so that the site is so many *times* as large and
every sum is known: it must be that of one copy, times their number, to the last second. *Threads*
are of one process, which reads the site whole; *processes* read it in shards.

{at_home}

*Spark* is a local cluster of Spark itself, *Sail* a single server that speaks its protocol.

{clusters}

*Start* is until a worker can work, *facts* from raw tables to intervals, and *all steps* from raw
tables to output tables. *Rate* is that of the two steps which are done range by range, from their
rows on disk to the sums of all segments. *Processor* is the time of all cores, *shuffle* the size
of the rows of all ranges. Memory is the most that was held: *worker* by the largest of the
processes that work on ranges, *driver* by the one that adds up and makes the tables, *together* by
all at any time. Of threads, the one process is worker and driver; elsewhere a dash says that the
largest worker was not told apart.

## Night after night

With [`--update`](#every-night) a run takes over what has not changed since the night before.
`tests/bench/nightly.py --record` held each update to a run in full, byte for byte, and measured
both, on {nights_processor} ({nights_cores} cores): on the dump of the next night, and on one in
which a single lease of years ago ends earlier.

| run | dump | made anew | in full | update |
|---|---|---|---:|---:|
{nights}

Times are seconds of processors, of all cores together and the best of three; memory is the most
that a process held in any of them.

{paying}
"""

_AT_HOME = {"threads": "{jobs} threads", "processes": "{jobs} processes"}
_CLUSTERS = {"sail": "Sail", "spark": "Spark"}
"""Engines, and what the head of a column calls them."""


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
    ranges = json.loads(RANGES.read_text(encoding="utf-8"))
    nights = json.loads(NIGHTS.read_text(encoding="utf-8"))
    return PAGE.format(
        nights="\n".join(map(_of_nights, nights["runs"])),
        nights_processor=nights["machine"]["processor"],
        nights_cores=nights["machine"]["cores"],
        paying=_paying(nights["runs"]),
        ranges_processor=ranges["machine"]["processor"],
        ranges_cores=ranges["machine"]["cores"],
        site=site_names(ranges["site"], "data/sites.yaml")[ranges["site"]],
        at_home=_table_of_ranges(ranges["runs"], _AT_HOME),
        clusters=_table_of_ranges(ranges["runs"], _CLUSTERS),
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


_STEPS = ("facts", "cut", "read", "add_up", "tables")
_MEASURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "intervals": lambda of: f"{of['intervals']:,}",
    "start": lambda of: f"{of['start_up']:.1f} s",
    "facts": lambda of: f"{of['facts']:.1f} s",
    "all steps": lambda of: f"{sum(of[step] for step in _STEPS):,.0f} s",
    "rate, intervals/s": lambda of: f"{of['intervals'] / (of['read'] + of['add_up']):,.0f}",
    "processor": lambda of: f"{of['cpu_seconds']:,.0f} s",
    "shuffle": lambda of: f"{of['rows_mb']:,.0f} MB",
    "worker": lambda of: f"{of['worker_gib']:.1f} GiB" if of["worker_gib"] else "–",
    "driver": lambda of: f"{of['driver_with_tables_gib']:.1f} GiB",
    "together": lambda of: f"{of['together_gib']:.1f} GiB",
}
"""What the table of ranges tells of a run."""


def _table_of_ranges(runs: list[dict[str, Any]], engines: dict[str, str]) -> str:
    """Give the table of some engines, a column for each run: there are fewer than measures."""
    order = list(engines)
    runs = [of for of in runs if of["engine"] in engines]
    runs = sorted(runs, key=lambda of: (order.index(of["engine"]), of["copies"]))
    heads = [f"{engines[of['engine']].format(**of)}, {of['copies']}×" for of in runs]
    lines = [["", *heads], ["---", *["---:"] * len(runs)]]
    lines += [[f"*{name}*", *map(told, runs)] for name, told in _MEASURES.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_BUCKETS = {"1d": "days", "1h": "hours"}


def _of_nights(of: dict[str, Any]) -> str:
    """Give a row of the table of updates."""
    whole, update = of["whole"], of["update"]
    site = site_names(of["site"], "data/sites.yaml")[of["site"]]
    buckets = _BUCKETS[of["bucket"]] + (f" since {of['since']}" if of["since"] else "")
    in_full, taken_over = (
        f"{run['cpu_seconds']:.1f} s, {run['memory_gib']:.2f} GiB" for run in (whole, update)
    )
    return (
        f"| {site}, {of['tables']} tables, {buckets} | {of['night']} | {of['anew']} "
        f"| {in_full} | {taken_over} |"
    )


_ALL = "all buckets"
"""What is told of an update that takes nothing over."""
_LITTLE = 0.05
"""The share of a time by which that of the same run can differ from one minute to the next."""


def _paying(runs: list[dict[str, Any]]) -> str:
    """Say of which runs an update saves time, and of which it does not."""
    shares: dict[str, list[float]] = {}
    for of in runs:
        kind = f"{of['tables']} tables in {_BUCKETS[of['bucket']]}"
        kind = _ALL if of["anew"].startswith(_ALL) else kind
        saved = 1 - of["update"]["cpu_seconds"] / of["whole"]["cpu_seconds"]
        shares.setdefault(kind, []).append(saved)
    anew = shares.pop(_ALL, [])
    pays = {kind: of for kind, of in shares.items() if max(of) > _LITTLE}
    told = ", ".join(f"up to {max(of):.0%} with {kind}" for kind, of in pays.items())
    others = " and ".join(kind for kind in shares if kind not in pays)
    said = [f"Where buckets are taken over, an update saves {told or 'next to nothing'}."]
    if others and told:
        said.append(f"With {others} it saves less than {_LITTLE:.0%}: a run in full is as good.")
    if anew:
        most = max(0.0, -min(anew))
        said.append(f"Where it makes all of them anew it costs up to {most:.0%} more.")
    return " ".join(said)
