"""A run that makes anew only what changed since the run before."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from chameleon_usage import pipeline
from chameleon_usage.intervals import keys
from chameleon_usage.io import files
from chameleon_usage.models.metrics import RESOURCES
from chameleon_usage.models.outputs import OUTPUTS
from chameleon_usage.models.site import Site
from chameleon_usage.nightly import hosts
from chameleon_usage.nightly.days import (
    Touched,
    differing,
    differs_when,
    runs_of,
    series_of,
    spliced,
    sums_of,
)
from chameleon_usage.nightly.kept import Kept, fingerprint, known_of, load, save
from chameleon_usage.reconstruct.observed import observe
from chameleon_usage.stages import SegmentsStage, save_facts, save_segments, save_usage
from chameleon_usage.usage import projected, projects
from chameleon_usage.usage.buckets import Availability, Period, Window
from chameleon_usage.usage.projects import Naming
from chameleon_usage.usage.tables import UNTYPED, Elsewhere, enumeration, usage_tables
from chameleon_usage.usage.tally import beside_usage, tally

Tables = dict[str, pl.DataFrame]


def run_update(
    site: Site,
    data_dir: Path,
    output: Path,
    asked: Period,
    *,
    save_stages: bool = False,
    by_host: bool = False,
    by_project: Naming | None = None,
    skip_missing: bool = False,
    progress: bool = False,
) -> tuple[Tables, pipeline.Notes]:
    """Run a site as ``pipeline.run_pipeline`` does, and take over what has not changed.

    What a run takes over is what the run before it kept, in ``<output>/<site>/stages/update``, if
    that was of the same version, configuration and options; else all is made in full.

    Returns:
        (the output tables that are ``REPORTED``, what is to be said of all)
    """
    target = output / site.key
    with files.claimed(target):
        early, absent = pipeline.facts(site, data_dir, skip_missing=skip_missing, progress=progress)
        fits = fingerprint(site, asked, by_host=by_host, by_project=by_project)
        before = load(target, fits)
        earlier = before if isinstance(before, Kept) else None
        observed = observe(early.ingested, early.as_of)
        reread = hosts.read(
            observed,
            site,
            early.as_of,
            earlier.hosts if earlier else None,
            by_project=by_project is not None,
        )
        late = pipeline.with_reading(
            pipeline.late_of(early, observed), reread.whole, by_project=by_project is not None
        )
        window = pipeline.window_of(late, asked)
        night = _Night(site, target, late, window, reread, by_host=by_host, by_project=by_project)
        why = before if isinstance(before, str) else ""
        made = None
        if earlier:
            made, why = night.tables(earlier)
        sums = (
            beside_usage(late.segments, late.support, window)
            if made
            else tally(late.segments, late.support, window, by_host=by_host)
        )
        kept = Kept(
            reread.kept,
            reread.rest.segments,
            late.legacy,
            late.schedule,
            known_of(pipeline.availability_of(late)),
            window,
        )
        with files.whole_directory(target) as scratch:
            each = pipeline.each_output(late, site, window, sums, by_project=by_project, made=made)
            tables = save_usage(scratch, each, pipeline.REPORTED)
            if save_stages:
                save_facts(scratch / "stages", early)
                save_segments(scratch / "stages", late)
            save(scratch, kept, fits)
    anew = f"{reread.again:,} of {reread.kept.digests.height:,} hosts, {why}"
    return tables, pipeline.Notes(absent, early.left_out, window, anew)


_SPLICED = (
    *("usage_timeline", "usage_by_resource", "usage_by_node_type", "usage_by_host"),
    *("comparison", "comparison_by_node_type", "usage_wide"),
)
_EVER = {
    "usage_by_node_type": ["collector_type", "resource", "count_type", "node_type"],
    "usage_by_host": ["collector_type", "count_type", "hypervisor_hostname"],
}
"""Tables that hold the series that are ever other than 0."""


@dataclass(frozen=True)
class _Night:
    """What the tables of an update are made of."""

    site: Site
    target: Path
    late: SegmentsStage
    window: Window
    reread: hosts.Reread
    by_host: bool
    by_project: Naming | None

    def tables(self, before: Kept) -> tuple[Tables | None, str]:
        """Make the tables by bucket from those before; None where that cannot be done.

        Returns:
            (the tables, how much of them was made anew, and why)
        """
        availability = pipeline.availability_of(self.late)
        window, every = self.window, len(self.window.edges) - 1
        same = (before.window.start, before.window.bucket) == (window.start, window.bucket)
        if not same or window.end < before.window.end:
            return None, "all buckets: the window has moved"
        if self.reread.gone is None or known_of(availability) != before.known:
            return None, "all buckets: the tables tell of other quantities, or of more hours"
        spans = self._spans(before)
        touched = Touched.by(spans, window)
        if not touched.few:
            return None, f"all buckets: {touched.count:,} of {every:,} are touched"
        old = {name: self._before(name) for name in self._names()}
        new = self._anew(old, touched, availability)
        if self._new_series(old, new, touched):
            return None, "all buckets: there are other series than before"
        tables = {name: self._spliced(name, old[name], new[name], touched) for name in new}
        if self._lost_series(tables):
            return None, "all buckets: there are fewer series than before"
        tables["leadtime_projected"] = self._waits(before, spans, availability)
        if self.by_project is not None:
            name = "usage_by_project"
            rows = projects.usage_by_project(
                pl.concat([self.late.holdings.clear(), *touched.cut(self.late.holdings)]),
                tables["usage_by_resource"],
                availability,
                window,
                site=self.site.key,
                naming=self.by_project,
            )
            tables[name] = self._spliced(name, self._before(name), rows, touched)
        return tables, f"{touched.count:,} of {every:,} buckets"

    def _names(self) -> list[str]:
        return [name for name in _SPLICED if self.by_host or name != "usage_by_host"]

    def _before(self, name: str) -> pl.DataFrame:
        return files.load_table(self.target / f"{name}.parquet")

    def _spans(self, before: Kept) -> list[pl.DataFrame]:
        """Give the times at which anything is other than before: frames of ``start``, ``end``."""
        since, now = before.hosts.as_of, self.late.as_of.item()
        gone, come, rest = self.reread.gone, self.reread.come, self.reread.rest
        assert gone is not None and come is not None  # noqa: S101, PT018 - for the type checker
        day = pl.col("timestamp").dt.offset_by("1d")
        legacy = differing(before.legacy, self.late.legacy).select(start="timestamp", end=day)
        tail = pl.DataFrame({"start": [since], "end": [max(now, self.window.end)]})
        return [
            tail.cast(pl.Datetime("us")),
            legacy,
            differs_when(gone.segments, come.segments),
            differs_when(gone.holdings, come.holdings),
            differs_when(hosts.until_now(before.rest, since, now), rest.segments),
        ]

    def _anew(self, old: Tables, touched: Touched, availability: Availability) -> Tables:
        """Make the usage tables of which the rows of touched buckets are right."""
        segments = self.late.segments
        labels = {name: series_of(old[name], of) for name, of in _EVER.items() if name in old}
        resources = frozenset(old["usage_by_resource"]["resource"].unique().cast(pl.String))
        kinds = enumeration(segments["node_type"])
        typed = segments.with_columns(pl.col("node_type").cast(kinds).fill_null(UNTYPED))
        named = segments.filter(pl.col("hostname").is_not_null())
        made = usage_tables(
            sums_of(typed, touched, ["node_type"], tuple(RESOURCES)),
            sums_of(named, touched, ["hostname", "node_type"], ["nodes"]) if self.by_host else None,
            self.late.legacy,
            availability,
            self.window,
            site=self.site.key,
            elsewhere=Elsewhere(
                resources, labels["usage_by_node_type"], labels.get("usage_by_host")
            ),
        )
        return {
            name: table if isinstance(table, pl.DataFrame) else pl.concat(table)
            for name, table in made
        }

    def _spliced(
        self, name: str, old: pl.DataFrame, new: pl.DataFrame, touched: Touched
    ) -> pl.DataFrame:
        key = OUTPUTS[name].primary_key()
        order = pipeline.ORDER.get(name) or [column for column in key if column != "site"]
        return spliced(old, new, touched, order)

    def _new_series(self, old: Tables, new: Tables, touched: Touched) -> bool:
        """Whether there are series that would have rows in other buckets, too."""
        labels = ["collector_type", "count_type", "resource"]
        before, now = (
            set(of["usage_by_resource"].select(labels).unique().rows()) for of in (old, new)
        )
        if before != now:
            return True
        for name, label in _EVER.items():
            if name in new:
                anew = new[name].filter(pl.Series(touched.has(keys.epoch(new[name]["timestamp"]))))
                derived = runs_of(anew, label).filter(pl.col("collector_type") != "legacy")
                if derived.join(runs_of(old[name], label), on=label, how="anti").height:
                    return True
        return False

    @staticmethod
    def _lost_series(tables: Tables) -> bool:
        """Whether there are series that are 0 in every bucket, which would have no row."""
        some = (pl.col("value").fill_null(0) > 0).any()
        if not tables["usage_by_resource"].group_by("resource").agg(some)["value"].all():
            return True
        for name, label in _EVER.items():
            if name in tables:
                derived = series_of(tables[name], label).filter(
                    pl.col("collector_type") != "legacy"
                )
                if not derived["ever"].all():
                    return True
        return False

    def _waits(
        self, before: Kept, spans: list[pl.DataFrame], availability: Availability
    ) -> pl.DataFrame:
        """Make leadtime_projected, of the days at which anything was known otherwise."""
        planned = differing(before.schedule, self.late.schedule)
        known = planned.select("end", start="known_from").filter(pl.col("start") < pl.col("end"))
        days = Touched.by([*spans, known], Window(self.window.start, self.window.end, "1d"))
        pool = projected.whole_hosts(self.late.segments)
        rows = [
            projected.leadtime_projected(pool, self.late.schedule, availability, run, self.site)
            for run in days.windows()
        ]
        old = self._before("leadtime_projected")
        return self._spliced("leadtime_projected", old, pl.concat([old.clear(), *rows]), days)
