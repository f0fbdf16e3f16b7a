"""A run of a site: from raw tables, or from a saved stage, to its output directory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path

import polars as pl

from chameleon_usage.engines.engine import Engine
from chameleon_usage.engines.home import AtHome
from chameleon_usage.engines.tasks import Processes, Tasks
from chameleon_usage.ingest import registry
from chameleon_usage.io import files
from chameleon_usage.models.frames import empty
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.models.site import Site
from chameleon_usage.models.stages import Segments, SourceSupport
from chameleon_usage.nightly.update import Update
from chameleon_usage.pipeline import (
    availability_of,
    check_orders,
    each_output,
    facts,
    in_ranges,
    late_of,
    observed_of,
    segments,
    unnamed,
    window_of,
)
from chameleon_usage.ranges import MOST_ROWS, cut
from chameleon_usage.shards import facts as sharded
from chameleon_usage.shards.deal import reason_against, rows_told
from chameleon_usage.stages import (
    FactsStage,
    SegmentsStage,
    load_facts,
    load_segments,
    load_usage,
    save_facts,
    save_segments,
    save_usage,
)
from chameleon_usage.usage.buckets import Period, Window
from chameleon_usage.usage.projects import Naming
from chameleon_usage.usage.tally import Tally, tally

SAVED_STAGES = ("facts", "segments", "usage")
REPORTED = {
    "usage_timeline": ["timestamp", "collector_type", "count_type", "value"],
    "leadtime_leases": ["created_at"],
    "rejects": ["start", "end", "hours"],
}
"""Output tables of which a run gives an account, and what of them; all else is only written."""
MOST_RAW_ROWS = 100_000_000
"""Raw rows above which a site is read in shards unasked: whole, they take over 8 GB."""
EACH_SHARD, EACH_RANGE = 5_000_000, 1_000_000
"""Raw rows of a shard, and intervals of a range of a site that is read in shards, by default."""


@dataclass(frozen=True)
class Options:
    """What is asked of a run.

    Attributes:
        save_stages: keep facts and segments under ``<output>/<site>/stages``.
        resume_from: ``facts``, ``segments`` or ``usage``: read that saved stage instead of what
            goes before it. From ``usage`` only the contracts are checked again.
        by_host: write usage_by_host, too.
        by_project: write the tables of projects, too, with their names changed so.
        skip_missing: leave out adapters whose table is absent.
        progress: show bars on a terminal.
        count: of the ranges of hosts, one of which is in memory at a time. Default: one, or more
            where the site has more than ``ranges.MOST_ROWS`` intervals, or there is an engine.
        shards: of the raw tables, each of which is read by a process by itself; 1: they are read
            whole, as they are wherever a stage is to be kept. Default: one, or more where there are
            more than ``MOST_RAW_ROWS`` rows.
        engine: who works on ranges; by default this process, or its children where a site is read
            in shards.
        update: take over what has not changed since the last run of which this was asked, and keep
            what the next one needs for that in ``<output>/<site>/stages/update``.
    """

    save_stages: bool = False
    resume_from: str | None = None
    by_host: bool = False
    by_project: Naming | None = None
    skip_missing: bool = False
    progress: bool = False
    count: int | None = None
    shards: int | None = None
    engine: Engine | None = None
    update: bool = False

    @property
    def keep(self) -> bool:
        """Whether stages are kept."""
        return self.save_stages or self.resume_from is not None

    @property
    def jobs(self) -> int:
        """Ranges or shards at a time at home."""
        return self.engine.jobs if self.engine else 1


PLAIN = Options()


@dataclass(frozen=True)
class Notes:
    """What is to be said of a run beside its tables.

    Attributes:
        absent: tables and columns that were asked for and were absent or empty.
        left_out: adapters that did not run, and the tables that each lacks.
        window: what the tables cover; None where they were only checked.
        anew: how much an update made anew, and why.
    """

    absent: tuple[str, ...] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    window: Window | None = None
    anew: str = ""


@dataclass(frozen=True)
class _Summed:
    """What the output tables are made of."""

    late: SegmentsStage
    window: Window
    sums: Tally
    notes: Notes = field(default_factory=Notes)
    early: FactsStage | None = None


def run_site(
    site: Site, data_dir: Path, output: Path, asked: Window | Period, options: Options = PLAIN
) -> tuple[dict[str, pl.DataFrame], Notes]:
    """Run a site from raw tables, or from a saved stage, to its output directory.

    Args:
        site: its configuration.
        data_dir: where the raw tables are.
        output: gets the directory ``<output>/<site>``, whole or not at all.
        asked: the time to cover and its buckets; see ``pipeline.window_of``.
        options: what else is asked for.

    Returns:
        (what is ``REPORTED`` of the output tables, what is to be said of all)

    Raises:
        UsageError: the input or the window is wrong, or another run is writing the directory.
    """
    target = output / site.key
    if options.resume_from == "usage":
        return _validated(target), Notes()
    with files.claimed(target):
        raw = data_dir if site.files else data_dir / site.key
        shards = 1 if options.keep else options.shards or shards_unasked(site, raw)
        if shards > 1:
            made = _from_shards(site, raw, target, asked, replace(options, shards=shards))
        elif options.resume_from == "segments":
            made = _from_segments(load_segments(target), asked, options)
        else:
            made = _from_facts(site, data_dir, target, asked, options)
        tables, notes = _write(site, target, made, options)
        return tables, replace(notes, window=made.window)


def _write(
    site: Site, target: Path, made: _Summed, options: Options
) -> tuple[dict[str, pl.DataFrame], Notes]:
    """Make the output tables and write them."""
    late, window, notes, early = made.late, made.window, made.notes, made.early
    if not options.keep:  # what is added up serves no more
        late = replace(late, segments=empty(Segments), support=empty(SourceSupport))
    earlier = (
        Update.since(target, made.sums, availability_of(late), window) if options.update else None
    )
    with files.whole_directory(target) as scratch:
        told = each_output(
            late, site, window, made.sums, by_project=options.by_project, earlier=earlier
        )
        tables = save_usage(scratch, told, REPORTED)
        if earlier:
            earlier.save(scratch)
            notes = replace(notes, anew=earlier.said)
        if options.keep:
            if early is None and (target / "stages" / "facts").is_dir():
                early = load_facts(target)
            if early is not None:
                save_facts(scratch / "stages", early)
            save_segments(scratch / "stages", late)
    return tables, notes


def _from_segments(late: SegmentsStage, asked: Window | Period, options: Options) -> _Summed:
    window = window_of(late, asked)
    sums = tally(late.segments, late.support, window, by_host=options.by_host)
    return _Summed(late, window, sums)


def _from_facts(
    site: Site, data_dir: Path, target: Path, asked: Window | Period, options: Options
) -> _Summed:
    """Reconstruct a site whose facts are in memory together, at once or range by range."""
    notes = Notes()
    if options.resume_from == "facts":
        early = load_facts(target)
    else:
        early, absent = facts(
            site, data_dir, skip_missing=options.skip_missing, progress=options.progress
        )
        notes = Notes(absent, early.left_out)
    kept = early if options.keep else None  # what is not kept makes room for what follows
    rows, by_project = early.ingested.intervals.height, options.by_project is not None
    count = options.count or max(options.jobs, ceil(rows / MOST_ROWS))
    if not rows or (options.engine is None and count == 1):
        late = segments(early, site, by_project=by_project)
        del early
        return replace(_from_segments(late, asked, options), notes=notes, early=kept)
    with files.beside(target) as room:
        workers = options.engine or AtHome()
        late, observed = observed_of(early, keep=options.keep)
        del early
        parts = cut(
            observed,
            site,
            room,
            count,
            by_project=by_project,
            whole=options.keep,
            apart=workers.apart,
        )
        del observed
        late, window, sums = in_ranges(late, parts, workers, asked, by_host=options.by_host)
    return _Summed(late, window, sums, notes, kept)


def _from_shards(
    site: Site, raw: Path, target: Path, asked: Window | Period, options: Options
) -> _Summed:
    """Reconstruct a site whose facts are never in memory together."""
    check_orders(site)
    engine = options.engine if options.engine and options.engine.apart else None
    workers = (
        engine if isinstance(engine, Tasks) else Processes(options.jobs, progress=options.progress)
    )
    with files.beside(target) as room:
        read = sharded.facts(
            site, raw, options.shards or 1, room, workers, skip_missing=options.skip_missing
        )
        count = options.count or max(options.jobs, ceil(read.intervals / EACH_RANGE))
        ingested, observed, parts = sharded.cut(
            read, site, room, count, workers, by_project=options.by_project is not None
        )
        late = unnamed(late_of(FactsStage(ingested, read.as_of), observed, read.names))
        late, window, sums = in_ranges(
            late, parts, engine or workers, asked, by_host=options.by_host
        )
    return _Summed(late, window, sums, Notes(read.absent, read.left_out))


def shards_unasked(site: Site, raw: Path) -> int:
    """Tell in how many shards a site is read unasked."""
    rows = rows_told(raw)
    if rows <= MOST_RAW_ROWS or reason_against(raw, registry.tables_of(site.adapters), site.files):
        return 1
    return ceil(rows / EACH_SHARD)


def _validated(directory: Path) -> dict[str, pl.DataFrame]:
    """Hold what was written to its contracts, table by table; give those that are reported."""
    reported = load_usage(directory, REPORTED)
    reported = {name: reported[name].select(columns) for name, columns in REPORTED.items()}
    for name, contract in OUTPUTS.items():
        if (path := directory / f"{name}.parquet").exists():
            contract.validate(files.load_table(path))
    return reported
