"""The stages one after another, each of which can be saved, loaded and run alone."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from chameleon_usage.engines.engine import Engine
from chameleon_usage.errors import UsageError
from chameleon_usage.ingest import loader, registry, renamed
from chameleon_usage.models import cells
from chameleon_usage.models.frames import Parts, Table, columns, conform, empty
from chameleon_usage.models.metrics import HELD, KNOWN_SHARE
from chameleon_usage.models.outputs import OUTPUTS, Coverage
from chameleon_usage.models.raw import AT_THEIR_WORD
from chameleon_usage.models.site import Site
from chameleon_usage.models.stages import (
    HeldPieces,
    Holdings,
    Ingested,
    Schedule,
    Segments,
    Sessions,
    SourceSupport,
)
from chameleon_usage.ranges import (
    Cut,
    held_by_leases,
    whole_reading,
    whole_tally,
    with_segments,
)
from chameleon_usage.reconstruct import corrected, uncorrected
from chameleon_usage.reconstruct.inference import name_booked_hosts
from chameleon_usage.reconstruct.observed import Observed, observe
from chameleon_usage.reconstruct.projects import sessions
from chameleon_usage.reconstruct.reading import Reading, together
from chameleon_usage.stages import (
    FactsStage,
    SegmentsStage,
    load_facts,
    moment,
)
from chameleon_usage.usage import causes, coverage, lease_use, projected, projects
from chameleon_usage.usage.buckets import Availability, Period, Window
from chameleon_usage.usage.long import Earlier
from chameleon_usage.usage.projects import Naming
from chameleon_usage.usage.tables import leadtime_tables, usage_tables
from chameleon_usage.usage.tally import Tally, tally

MOST_BUCKETS = 200_000


def facts(
    site: Site, data_dir: Path, *, skip_missing: bool = False, progress: bool = False
) -> tuple[FactsStage, tuple[str, ...]]:
    """Read a site's raw tables and find when each entity was present.

    Args:
        site: its configuration.
        data_dir: holds a directory per site; files of other layouts lie below it directly.
        skip_missing: leave out adapters whose table is absent.
        progress: show a bar on a terminal.

    Returns:
        (the stage, what was asked for and is absent or holds no row: tables, and columns)

    Raises:
        UsageError: tables are missing or cannot be read, or an order names none that is read.
        ConservationError: a row is unaccounted for.
    """
    inputs = loader.load_raw_inputs(
        data_dir if site.files else data_dir / site.key,
        registry.tables_of(site.adapters),
        files=site.files,
        progress=progress,
    )
    inputs = renamed.under_latest_name(inputs)
    check_orders(site)
    without_rows = [table for table, rows in inputs.rows.items() if not rows]
    able, left_out = registry.able(inputs.rows, site.adapters, skip_missing=skip_missing)
    ingested = registry.run_adapters(inputs, able)
    return FactsStage(ingested, inputs.as_of, left_out), (*inputs.absent, *without_rows)


def check_orders(site: Site) -> None:
    """Refuse a source priority none of whose sources the site's adapters read."""
    read = registry.tables_of(site.adapters)
    for quantity, rule in site.declared.items():
        told = set(read) & set(AT_THEIR_WORD[quantity])
        if told and not set(read) & set(rule.order):
            raise UsageError(
                f"site {site.key}: the order of {quantity} ({', '.join(rule.order)}) names no "
                f"table that its adapters read; they read {', '.join(read)}"
            )


def window_of(
    stage: SegmentsStage, asked: Window | Period, begun: pl.DataFrame | None = None
) -> Window:
    """Give the window that is asked for, or as much of one as the tables cover.

    By default it begins with the bucket in which the first of their rows begins, and ends with the
    last bucket that is over by ``as_of``.

    Args:
        stage: segments and what goes with them.
        asked: the window.
        begun: when the first segment begins (``start``), where those of the stage are not all.

    Raises:
        UsageError: the tables cover no bucket of it, or there are too many.
    """
    as_of = stage.as_of.item()
    mended = pl.col("collector_type") == "corrected"
    rows = (stage.segments.filter(mended) if begun is None else begun)["start"]
    begin = pl.concat([rows, stage.legacy["timestamp"].cast(rows.dtype), stage.as_of["as_of"]])
    first = begin.to_frame().min().item()
    floor = pl.Series([first]).dt.truncate(asked.bucket)[0]
    start = asked.start or floor
    if asked.end and asked.end <= floor:
        raise UsageError(
            f"--end {asked.end:%F}: the tables begin with {first:%F}; give a later end"
        )
    step = pl.Series([as_of]).dt.offset_by(asked.bucket)[0]
    edges = Window(start, asked.end or max(start, step), asked.bucket).edges
    over = edges.filter(edges <= as_of)
    if over.len() < 2:
        raise UsageError(
            f"the tables end with {as_of:%F %T} (as_of), before a bucket of {asked.bucket} from "
            f"{start:%F} on is over: give an earlier --start or a shorter --bucket"
        )
    return check_window(Window(start, asked.end or over[-1], asked.bucket))


def check_window(window: Window) -> Window:
    """Give a window back whose ends and buckets make sense.

    Raises:
        UsageError: they do not.
    """
    if window.start >= window.end:
        raise UsageError(
            f"--start {window.start:%F} is not before --end {window.end:%F}: give an earlier start"
        )
    if (buckets := len(window.edges) - 1) > MOST_BUCKETS:
        raise UsageError(
            f"--bucket {window.bucket} makes {buckets} buckets, more than {MOST_BUCKETS}: "
            "give a longer bucket or a shorter window"
        )
    return window


def segments(stage: FactsStage, site: Site, *, by_project: bool = False) -> SegmentsStage:
    """Read the intervals twice: each row at its word, and reconstructed; by project, if asked.

    Raises:
        ConservationError: a stage lost or invented hours.
    """
    observed = observe(stage.ingested, stage.as_of)
    plain = uncorrected.collect(observed)
    mended = corrected.collect(observed, site, by_project=by_project)
    late = late_of(stage, observed)
    return with_reading(late, together([plain, mended]), by_project=by_project)


def late_of(
    stage: FactsStage, observed: Observed, names: pl.DataFrame | None = None
) -> SegmentsStage:
    """Give what the next stage takes from the facts, without any segment.

    Args:
        stage: the facts.
        observed: what is observed of them.
        names: host_id and hostname of hosts that are named, where not all intervals are observed.
    """
    ingested, names = stage.ingested, observed.intervals if names is None else names
    return SegmentsStage(
        segments=empty(Segments),
        support=empty(SourceSupport),
        pieces=empty(HeldPieces),
        holdings=empty(Holdings),
        sessions=empty(Sessions),
        legacy=ingested.legacy,
        leases=ingested.leases,
        schedule=name_booked_hosts(ingested.schedule, names, observed.gone),
        rejects=observed.rejects,
        join_log=ingested.join_log,
        availability=_availability(ingested),
        as_of=moment(stage.as_of),
    )


def with_reading(late: SegmentsStage, reading: Reading, *, by_project: bool) -> SegmentsStage:
    """Add a reading to what the facts tell besides."""
    seats = reading.pieces.filter(pl.col("quantity_type") != "committed")
    return replace(
        late,
        segments=reading.segments,
        support=reading.support,
        pieces=reading.pieces,
        holdings=reading.holdings,
        sessions=sessions(seats) if by_project else late.sessions,
        rejects=pl.concat([late.rejects, reading.rejects]),
    )


def trace_parts(site: Site, output: Path) -> tuple[dict[str, pl.DataFrame], datetime]:
    """Give what a public trace of a site is made of, from its saved facts.

    Returns:
        (hosts: when each existed, and what it was (Segments, and host_class); held: what held them
        (HeldPieces); leases (Leases), as the corrected collector counts them), as_of
    """
    stage = load_facts(output / site.key)
    observed = observe(stage.ingested, stage.as_of)
    reading = corrected.collect(observed, site)
    classes = observed.history.group_by("hostname").agg(pl.col("host_class").last())
    total = reading.segments.filter(pl.col("quantity_type") == "total")
    classes = classes.cast(pl.String)
    hosts = total.cast({"hostname": pl.String}).join(classes, on="hostname", how="left")
    return {"hosts": hosts, "held": reading.pieces, "leases": stage.ingested.leases}, stage.as_of


def _availability(ingested: Ingested) -> pl.DataFrame:
    """List the quantity types that the site's sources speak of, and how complete the best is."""
    held = pl.when(pl.col("ever") > 0).then(pl.col("held") / pl.col("ever")).otherwise(0.0)
    share = pl.when(pl.col("ever").is_null()).then(1.0).otherwise(held.clip(upper_bound=1.0))
    return (
        ingested.completeness.group_by("quantity_type").agg(share=share.max()).sort("quantity_type")
    )


def availability_of(stage: SegmentsStage, known_share: float = KNOWN_SHARE) -> Availability:
    """Tell what the tables of a site can tell of."""
    return Availability(
        frozenset(stage.availability["quantity_type"]),
        dict(stage.availability.iter_rows()),
        stage.as_of.item(),
        known_share,
    )


def observed_of(stage: FactsStage, *, keep: bool) -> tuple[SegmentsStage, Observed]:
    """Part what is cut into ranges of hosts from what is not; the stage serves no more then."""
    observed = observe(stage.ingested, stage.as_of)
    late = late_of(stage, observed)
    return late if keep else unnamed(late), observed


def unnamed(late: SegmentsStage) -> SegmentsStage:
    """Let go of the names of millions of bookings, which only a saved stage tells."""
    return replace(late, schedule=conform(late.schedule.drop("entity_id", "host_id"), Schedule))


def in_ranges(
    late: SegmentsStage, parts: Cut, engine: Engine, asked: Window | Period, *, by_host: bool
) -> tuple[SegmentsStage, Window, Tally]:
    """Do as ``segments`` does, range by range.

    Args:
        late: of ``late_of``.
        parts: the site in ranges.
        engine: who works on them.
        asked: the window; see ``window_of``.
        by_host: add up by host, too.

    Returns:
        (the stage, without the segments of ranges unless they are to be kept; the window; the sums
        of all segments)
    """
    reading, begun = whole_reading(parts, engine)
    window = window_of(late, asked, begun)
    sums = whole_tally(parts, engine, reading, window, by_host=by_host)
    sums = {**sums, **held_by_leases(parts, engine, late.leases, window)}
    if parts.plan.whole:
        reading = with_segments(parts, engine, reading)
    return with_reading(late, reading, by_project=parts.plan.by_project), window, sums


def outputs(
    stage: SegmentsStage,
    site: Site,
    window: Window,
    *,
    by_host: bool = False,
    by_project: Naming | None = None,
    known_share: float = KNOWN_SHARE,
    sums: Tally | None = None,
) -> dict[str, pl.DataFrame]:
    """Make every output table of a site, each held to its contract.

    Args:
        stage: of ``segments``.
        site: its configuration.
        window: the time to cover and its buckets.
        by_host: make usage_by_host, too.
        by_project: make the tables of projects, too, with their names changed so.
        known_share: what is known to a smaller share is null.
        sums: of the segments, where those of the stage are not all.

    Returns:
        table name to frame (OUTPUTS).
    """
    if sums is None:
        sums = tally(stage.segments, stage.support, window, by_host=by_host)
    made = each_output(stage, site, window, sums, by_project=by_project, known_share=known_share)
    return {
        name: table if isinstance(table, pl.DataFrame) else pl.concat(table, rechunk=True)
        for name, table in made
    }


def each_output(
    stage: SegmentsStage,
    site: Site,
    window: Window,
    sums: Tally,
    *,
    by_project: Naming | None = None,
    known_share: float = KNOWN_SHARE,
    earlier: Earlier | None = None,
) -> Iterator[tuple[str, Table]]:
    """Give every output table as soon as it is made, as ``outputs`` does; segments are not needed.

    Args:
        stage: of ``segments``.
        site: its configuration.
        window: the time to cover and its buckets.
        sums: of the segments.
        by_project: make the tables of projects, too, with their names changed so.
        known_share: what is known to a smaller share is null.
        earlier: a run whose series are taken over where they are the same.

    Yields:
        name and table (OUTPUTS), held to its contract, or held to it as its parts are taken.
    """
    availability = availability_of(stage, known_share)
    small: dict[str, pl.DataFrame] = {}
    # What takes as long as they do, and needs none of them, is made beside the usage tables.
    pool = ThreadPoolExecutor(1)
    beside = pool.submit(_beside_usage, stage, site, window, sums, availability=availability)
    pool.shutdown(wait=False)  # not here: whoever takes no more tables waits for none
    for name, table in usage_tables(
        sums["usage"],
        sums.get("hosts"),
        stage.legacy,
        availability,
        window,
        site=site.key,
        earlier=earlier,
    ):
        yield name, _held(name, table)
        if name in ("usage_timeline", "usage_by_resource") and isinstance(table, pl.DataFrame):
            small[name] = table
    tables, leased = beside.result()
    timeline = small["usage_timeline"]
    tables["lease_use"] = lease_use.lease_use(leased, timeline, site.key)
    caches = coverage.supported_by_caches(timeline, site.key)
    tables["coverage"] = tables["coverage"].vstack(caches).sort(Coverage.primary_key())
    if by_project is not None:
        held = pl.col("quantity_type").is_in(HELD) & (pl.col("collector_type") == "corrected")
        if stage.holdings.is_empty() and sums["seconds"].select(held.any()).item():
            raise UsageError(
                f"the saved segments of site {site.key} do not tell projects apart: "
                "run with --by-project from the raw tables, or with --from facts"
            )
        tables["usage_by_project"] = projects.usage_by_project(
            stage.holdings,
            small["usage_by_resource"],
            availability,
            window,
            site=site.key,
            naming=by_project,
        )
        tables["sessions_by_project"] = projects.sessions_by_project(
            stage.sessions, window, availability.as_of, site=site.key, naming=by_project
        )
    for name in list(tables):  # written one by one, they make room for each other
        yield name, _held(name, tables.pop(name))
    yield "rejects", _held("rejects", _in_order(stage.rejects))


def _beside_usage(
    stage: SegmentsStage,
    site: Site,
    window: Window,
    sums: Tally,
    *,
    availability: Availability,
) -> tuple[dict[str, pl.DataFrame], Mapping[str, pl.DataFrame]]:
    """Make what needs none of the usage tables, as ``each_output`` takes it.

    Returns:
        (tables by name, coverage without what the caches support; the sums of leases)
    """
    tables = leadtime_tables(stage.leases, site.key)
    leased: Mapping[str, pl.DataFrame] = sums
    if "lease_hours" not in sums:
        leased = lease_use.add_up([lease_use.attribute(stage.pieces)], stage.leases, window)
    waits = projected.leadtime_projected(sums["pool"], stage.schedule, availability, window, site)
    tables["leadtime_projected"] = waits
    tables["leadtime_timeline"] = projected.with_projected(tables["leadtime_timeline"], waits)
    sliced = sums["sliced"]["quantity_type"].unique().cast(pl.String).to_list()
    mended = sums["sliced"].filter(pl.col("collector_type") == "corrected")["quantity_type"]
    tables["coverage"] = coverage.coverage_table(
        sums["held"],
        sums["supported"],
        mended.cast(pl.String).to_list(),
        availability,
        window,
        site=site.key,
    )
    tables["comparison_causes"] = causes.comparison_causes(
        sums["seconds"], stage.rejects, sliced, availability, window, site=site.key
    )
    tables["join_log"] = stage.join_log.sort("name")
    return tables, leased


def _in_order(refused: pl.DataFrame) -> pl.DataFrame:
    """Sort rejects, their keys as an operator finds them; one table after another saves room."""
    first = ["stage", "source"]
    tables = refused.select(first).unique().sort(first)
    written = cells.written(pl.col("source_row_id"))
    sorted_ = [
        refused.filter(stage=stage, source=source)
        .sort(refused.columns)
        .with_columns(source_row_id=written)
        for stage, source in tables.iter_rows()
    ]
    return pl.concat([refused.clear(), *sorted_]).rechunk()


ORDER = {
    "usage_by_project": ("resource", "count_type", "project_id", "node_type", "timestamp"),
    "usage_by_node_type": ("collector_type", "resource", "count_type", "node_type", "timestamp"),
    "usage_by_host": ("collector_type", "count_type", "hypervisor_hostname", "timestamp"),
}
"""Tables of millions of rows, all of one site, and the columns by which they are written."""


def _held(name: str, table: Table) -> Table:
    """Hold an output to its contract, part by part where it is made so."""
    if not isinstance(table, pl.DataFrame):
        return _held_parts(name, table)
    _hold(name, table)
    return table


def _held_parts(name: str, parts: Parts) -> Parts:
    last: pl.DataFrame | None = None
    for part in parts:
        _hold(name, part if last is None else pl.concat([last, part]))
        last = part.tail(1)
        yield part


def _hold(name: str, frame: pl.DataFrame) -> None:
    """Hold an output to its contract.

    Keys that ascend from row to row are unique: seen at a glance, where dataframely's comparison of
    all keys took a tenth of a whole run, and a gigabyte. It says what is wrong with a short table.
    """
    contract = OUTPUTS[name]
    if frame.schema == columns(contract):
        rules = [
            rule
            for column, declared in contract.columns().items()
            for rule in declared.validation_rules(pl.col(column)).values()
        ]
        key = ORDER.get(name, [column for column in contract.primary_key() if column != "site"])
        checks = [pl.all_horizontal(rules).all(), *([_ascends(key)] if key else [])]
        if frame.select(pl.all_horizontal(checks)).item():
            return
    elif name in ORDER:
        raise AssertionError(f"{name}: its columns are not those of its contract; please report it")
    if name in ORDER:
        raise AssertionError(f"{name}: a key comes twice or a value is missing; please report it")
    contract.validate(frame)


def _ascends(key: Sequence[str]) -> pl.Expr:
    """Tell whether the rows of a frame, of which there is none or more, ascend by a key."""
    ascends = pl.lit(value=False)
    for column in map(pl.col, reversed(key)):
        before = column.shift(1)
        ascends = (column > before) | ((column == before) & ascends)
    return (ascends | (pl.int_range(pl.len()) == 0)).fill_null(value=False).all()
