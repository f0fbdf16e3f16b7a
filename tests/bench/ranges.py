"""Time and memory of a site many times as large as a real one, range of hosts by range of hosts.

The facts of a simulated site are copied under other names of hosts, leases, instances and projects.
So the truth is known: all unit-seconds are those of one copy, times their number.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import polars as pl

from chameleon_usage import pipeline, ranges, stages
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.site import Site, load_sites
from chameleon_usage.models.stages import Ingested
from chameleon_usage.reconstruct.reading import together
from chameleon_usage.usage.buckets import Period
from support import PROJECT

RENAMED = ("hostname", "host_id", "entity_id", "reservation_id", "lease_id", "project_id")


def copy_of(ingested: Ingested, number: int) -> Ingested:
    """Give the facts under other names; an instance's stays keep theirs apart from the number."""
    tables = {
        name: frame.with_columns(
            pl.format(f"{number:03}-{{}}", pl.col(column)).cast(frame.schema[column])
            for column in RENAMED
            if column in frame.columns
        )
        for name, frame in ingested.tables().items()
    }
    return Ingested(**tables)


def cut_copies(
    facts: stages.FactsStage, site: Site, room: Path, copies: int, each: int
) -> tuple[stages.SegmentsStage, ranges.Cut]:
    """Cut one copy after another, as shards of facts would be, into ranges of one site."""
    cuts, lates = [], []
    for number in range(copies):
        own = replace(facts, ingested=copy_of(facts.ingested, number))
        folder = room / f"copy-{number}"
        late, cut = pipeline.cut_site(own, site, folder, each, by_project=False, keep=False)
        for place in (folder / "rows").iterdir():
            local = int(place.name.removeprefix("range="))
            target = room / "rows" / f"range={number * (each + 1) + local:06}"
            target.parent.mkdir(exist_ok=True)
            shutil.move(place, target)
        cuts.append(cut)
        lates.append(late)
    first = cuts[0]
    shared = first.plan.shared.observed
    about = replace(
        shared,
        **{
            name: pl.concat(getattr(cut.plan.shared.observed, name) for cut in cuts)
            for name in ("history", "maintenance", "status")
        },
    )
    numbers = [
        cut.ranges.with_columns(
            pl.col("hostname").cast(pl.String), range=pl.col("range") + number * (each + 1)
        )
        for number, cut in enumerate(cuts)
    ]
    lost = [
        {name: ranges.plain(getattr(cut.nameless, name)) for name in ("rows", "nameless")}
        for cut in cuts
    ]
    nameless = {
        part: {
            quantity: pl.concat(one[part][quantity] for one in lost) for quantity in lost[0][part]
        }
        for part in lost[0]
    }
    whole = replace(
        first,
        folder=room,
        count=copies * (each + 1) - 1,  # what names no host, of the last copy
        ranges=pl.concat(numbers),
        nameless=replace(first.nameless, **nameless),
        plan=replace(first.plan, shared=replace(first.plan.shared, observed=about)),
        early=together([cut.early for cut in cuts]),
    )
    grown = ("leases", "schedule", "rejects")
    late = replace(
        lates[0], **{name: pl.concat(getattr(late, name) for late in lates) for name in grown}
    )
    return late, whole


def measure(source: Path, copies: int, each: int, key: str) -> None:
    """Run and tell; in a process of its own."""
    site = load_sites(PROJECT / "data" / "sites.yaml", frozenset(ADAPTERS))[key]
    facts = stages.load_facts(source / key)
    rows = facts.ingested.intervals.height
    clock = [time.perf_counter()]
    with tempfile.TemporaryDirectory(dir=source) as name:
        late, cut = cut_copies(facts, site, Path(name), copies, each)
        clock.append(time.perf_counter())
        engine = ranges.AtHome()
        reading, begun = ranges.whole_reading(cut, engine)
        clock.append(time.perf_counter())
        window = pipeline.window_of(late, Period(), begun)
        sums = ranges.whole_tally(cut, engine, reading, window, by_host=False)
        clock.append(time.perf_counter())
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    late = replace(late, pieces=reading.pieces, rejects=pl.concat([late.rejects, reading.rejects]))
    pipeline.outputs(late, site, window, sums=sums)
    clock.append(time.perf_counter())
    last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    values = [name for name in sums["usage"].columns if "/" in name]
    checked = sums["usage"].select(pl.col(values).sum()).row(0)
    (source / f"sums-{key}-{copies}").write_text(
        json.dumps(dict(zip(values, checked, strict=True)))
    )
    steps = [f"{b - a:8.1f}" for a, b in itertools.pairwise(clock)]
    click.echo(
        f"{copies:4} x {rows:,} intervals: cut{steps[0]} s, read{steps[1]} s, add up{steps[2]} s, "
        f"tables{steps[3]} s; {peak:.2f} GiB, with the tables {last:.2f} GiB; "
        f"{size / 1e6:,.0f} MB on disk; {copies * rows / (clock[-1] - clock[0]):,.0f} intervals/s"
    )


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data/twin"))
@click.option("--site", "key", default="chi_tacc", show_default=True)
@click.option("--each", default=1, show_default=True, help="Ranges of each copy.")
@click.option("--within", "source", type=click.Path(path_type=Path), help="(for its own use)")
@click.argument("copies", nargs=-1, type=int, required=True)
def main(data_dir: Path, key: str, each: int, source: Path | None, copies: tuple[int, ...]) -> None:
    """Count a site COPIES times as large, for each number that is given."""
    if source:
        measure(source, copies[0], each, key)
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        call = ["chameleon-usage", "run", "--data-dir", data_dir, "--site", key]
        subprocess.run([*call, "--output", name, "--save-stages"], check=True)
        sums = {}
        for number in copies:
            own = [sys.executable, __file__, "--within", name, "--site", key, "--each", str(each)]
            subprocess.run([*own, str(number)], check=True)
            told = (Path(name) / f"sums-{key}-{number}").read_text()
            sums[number] = {
                k: v // number if v % number == 0 else None for k, v in json.loads(told).items()
            }
    one = next(iter(sums.values()))
    if any(other != one for other in sums.values()):
        sys.exit("Error: the sums are not those of one copy times their number")
    click.echo("sums: those of one copy times their number, exactly")


if __name__ == "__main__":
    main()
