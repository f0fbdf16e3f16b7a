# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = ""

# %% [markdown]
# (validation)=
# # Distance to the truth
#
# The twin keeps the truth of its simulated sites beside their damaged tables, so every count can be held
# to it. The error of a count is
#
# $$ E = \frac{\sum_d |v_d - t_d|}{\sum_d t_d} $$
#
# over the days $d$ of an era on which it gives a value $v_d$, with $t_d$ the truth. A day without a value
# is no error; the share of days with one is given apart.
#
# What is tested is the *method*: how much of the distance between today's rows, taken at their word
# (*uncorrected*), and the truth the corrections remove. Whether the damage is as in the twin, no twin can
# say: [twice as much of it](#damage), [sites that the services wrote](#services) and
# [years that did not steer the twin](#halves) are the tests of that.
#
# (seeds)=
# ## Corrected against uncorrected

# %% tags=["remove-cell"]
import polars as pl
import polars.selectors as cs
import yaml
from great_tables import GT
from myst_nb import glue

from chameleon_usage.models.metrics import COLLECTORS, METRICS
from chameleon_usage.viz.base import since_opening
from paper import projected, seeds, thresholds, validation
from paper.ablation import ABLATIONS, NOTHING
from paper.eras import era_label
from paper.figures import ablation, truth
from paper.project import ROOT, site_names
from paper.truth import daily_truth

figures = ROOT / output_dir / "plots"
names = site_names(sites, config)
compared = ["total", "reservable", "committed", "occupied", "active"]
labels = {count: METRICS[count].label for count in compared}

# %% tags=["remove-cell"]
on_twins = seeds.read_record().filter(pl.col("site").is_in(list(names)))
of_seeds = on_twins.filter(steered_by=seeds.ALL)
ranges = validation.ranges(of_seeds)
glue("errors_seeds", of_seeds["seed"].n_unique(), display=False)


def of(measure, collector):
    """Give one measure of one collector, sites and eras in order."""
    return (
        ranges.filter(measure=measure, collector_type=collector)
        .filter(pl.col("count_type").is_in(compared))
        .sort(
            pl.col("site").cast(pl.Enum(list(names))),
            "era",
            pl.col("count_type").cast(pl.Enum(compared)),
        )
    )


def named(table):
    """Write sites and eras as readers know them."""
    return table.with_columns(pl.col("site").replace(names), era_label(pl.col("era")))


# %% tags=["remove-cell"]
early = pl.col("era") != "2022_on"
for collector in ("uncorrected", "corrected"):
    for span, here in (("before_2022", early), ("2022_on", ~early)):
        # Where the corrected count gives no value there is nothing to compare.
        both = of("error_site", collector).join(
            of("error_site", "corrected"), on=["site", "era", "count_type"], how="semi"
        )
        largest = both.filter(here)["high"].max()
        glue(f"errors_largest_{span}_{collector}", largest, display=False)
for row in ranges.filter(count_type="committed").iter_rows(named=True):
    for end in ("low", "mid", "high"):
        key = f"{row['site']}_{row['measure']}_{row['era']}_{row['collector_type']}_{end}"
        glue(key, row[end], display=False)

# %% [markdown]
# The figure shows {glue:text}`errors_seeds:.0f` twins of the real size, the book's own among them. With
# another seed others ask at other times, and the damage hits other rows. Such twins take longer than the book, so they
# were measured apart, by `python -m paper seeds`, and stand in `data/seeds.csv`; a test measures
# one again.

# %% mystnb={"figure": {"name": "fig-validation", "caption": "Error of the uncorrected (triangles) and the corrected count (circles) against the twin's truth, by era: a column for each site, a row for each count type, log scale. Further left is nearer to the truth; an error of 0.01 % or less lies on the left edge. The point is the median of twins of several seeds, the line goes from the smallest to the largest. No point: no value is given there. Data: {{ output_dir }}/plots/validation.csv."}} tags=["hide-input"]
truth.readings(ranges.filter(measure="error_site"), site_names=names, count_types=compared).save(
    "validation", figures
)

# %% [markdown]
# Before 2022 the uncorrected count is off by up to
# {glue:text}`errors_largest_before_2022_uncorrected:.0%`, the corrected one by
# {glue:text}`errors_largest_before_2022_corrected:.1%` at most. From 2022 on, where today's tables are
# whole, these are {glue:text}`errors_largest_2022_on_uncorrected:.0%` and
# {glue:text}`errors_largest_2022_on_corrected:.2%`. The corrected count gives no value for the use of CHI@Edge, as
# the rows of its containers are gone; taken at its word, what is left misses nearly all of it. For the
# devices and leases of CHI@Edge an error of zero says only that the pipeline adds none: the twin leaves their rows whole.

# %% tags=["hide-input"]
(
    GT(
        named(validation.by_count(validation.in_percent(of("error_site", "corrected")))),
        id="table-seeds",
        groupname_col="site",
    )
    .cols_label(
        **{k: v for k, v in labels.items() if k in set(of("error_site", "corrected")["count_type"])}
    )
    .sub_missing(missing_text="–")
    .tab_options(table_font_size="80%", table_width="100%")
    .tab_header(
        "Error of the corrected count, in percent of node-hours: median (smallest to largest)"
    )
)

# %% [markdown]
# (by-host)=
# ## Host by host, type by type, lease by lease
#
# In the sum of a site, an hour on a wrong host cancels against the same hour missed on the right one. Added up
# host by host and day by day it counts twice. A node of an unknown or wrong type counts twice by
# node type: where it was, and where it was not.

# %% mystnb={"figure": {"name": "fig-units", "caption": "Error of the corrected count on the same twins, when the absolute errors are added up over the days of the site (circles), of its node types (squares) or of its hosts (diamonds). Squares to the right of the circles: the nodes are counted, but not all of their types are known. Axes, point and line as above. Data: {{ output_dir }}/plots/units.csv."}} tags=["hide-input"]
truth.units(
    ranges.filter(collector_type="corrected").filter(pl.col("measure").is_in(list(truth.UNITS))),
    site_names=names,
    count_types=compared,
).save("units", figures)

# %% [markdown]
# Of each lease, the table says how many of its node-hours are on the hosts that it really held. A lease
# is *off* if the count misses more than a hundredth of them. (Two leases can share a KVM
# host, so KVM has no row.) What is counted beyond all leases is in the figure's errors by host.

# %% tags=["hide-input"]
of_leases = pl.concat(
    of(measure, collector).with_columns(name=pl.lit(f"{measure}_{collector}"))
    for measure in ("error_lease", "leases_off")
    for collector in ("uncorrected", "corrected")
)
(
    GT(
        named(
            validation.in_percent(of_leases).pivot(
                on="name", index=["site", "era"], values="words", maintain_order=True
            )
        ),
        id="table-leases",
        groupname_col="site",
    )
    .tab_spanner("node-hours of leases missed", cs.starts_with("error_lease"))
    .tab_spanner("leases off", cs.starts_with("leases_off"))
    .cols_label_with(cs.starts_with("error_lease", "leases_off"), fn=lambda n: n.rsplit("_", 1)[-1])
    .sub_missing(missing_text="–")
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("Leases on the right hosts, in percent: median (smallest to largest)")
)

# %% [markdown]
# (inferred-right)=
# ## How often what is inferred is right
#
# The table gives the part of the corrected node-hours that is marked as *inferred*, in the median of the
# twins, and how much of it the truth has, on that host and at that time, in the worst of them. Of
# occupied and active hardly anything is inferred: at most {glue:text}`inferred_most_occupied:.2%`.

# %% tags=["hide-input"]
inferred = ["total", "reservable", "committed"]
glue(
    "inferred_most_occupied",
    ranges.filter(measure="inferred").filter(~pl.col("count_type").is_in(inferred))["high"].max(),
    display=False,
)
of_inferred = validation.inferred(ranges, inferred).sort(
    pl.col("site").cast(pl.Enum(list(names))), "era"
)
table = GT(named(of_inferred), id="table-inferred", groupname_col="site")
for count in inferred:
    table = table.tab_spanner(labels[count], [f"{count}_share", f"{count}_right"])
(
    table.fmt_percent(cs.ends_with("_share"), decimals=1)
    .fmt_percent(cs.ends_with("_right"), decimals=2)
    .cols_label_with(cs.ends_with("_share"), fn=lambda _: "inferred")
    .cols_label_with(cs.ends_with("_right"), fn=lambda _: "of it right")
    .sub_missing(missing_text="–")
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("What is inferred, and how much of it the truth confirms")
)

# %% [markdown]
# (projected-errors)=
# ## Projected lead times
#
# The twin keeps what its scheduler knew at each moment. So the wait for nodes can be computed from that knowledge too,
# by SQL and without any part of the pipeline, on every seventh day and for each node type and number of nodes. The table says for how
# many of them the pipeline gives a value, and how many of its values are within an hour of the truth. As waiting is rare,
# the share is given apart for the cases in which somebody would have had to wait. What is unknown has a cause:
# an extension writes over the end that a lease had before, and with more nodes asked for at once, more leases matter.

# %% tags=["remove-cell"]
waits = {
    site: pl.read_parquet(ROOT / output_dir / site / "leadtime_projected.parquet") for site in names
}
weekly = pl.col("timestamp").dt.epoch("d") % 7 == 0
waits = {site: of_site.filter(weekly) for site, of_site in waits.items() if of_site.height}
held = pl.concat(
    projected.projected_errors(
        of_site, projected.true_waits(of_site, ROOT / data_dir / site / "truth")
    )
    for site, of_site in waits.items()
)
for row in held.iter_rows(named=True):
    for part in ("known", "within"):
        glue(
            f"{row['site']}_projected_{part}_{row['era']}_{row['nodes']}", row[part], display=False
        )

# %% tags=["hide-input"]
measured = [name for name in held.columns if name not in ("site", "era", "nodes")]
(
    GT(
        held.with_columns(pl.col("site").replace(names), era_label(pl.col("era"))),
        id="table-projected",
        groupname_col="site",
    )
    .fmt_percent(["known", "within", "within_of_waits"], decimals=1)
    .fmt_number(["mean_absolute_h", "wait_h"], decimals=1)
    .sub_missing(missing_text="–")
    .tab_spanner("of days and types", ["known"])
    .tab_spanner("of the known, within an hour", ["within", "within_of_waits"])
    .tab_spanner("hours", ["mean_absolute_h", "wait_h"])
    .cols_label(
        known="known",
        within="all",
        within_of_waits="with a wait",
        mean_absolute_h="mean |error|",
        wait_h="mean true wait",
    )
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("Projected lead times against what the twin's scheduler knew")
)

# %% [markdown]
# (legacy-errors)=
# ## The caches of the time
#
# The errors of *legacy* are **inputs of the twin, not findings**. Where the real caches and the rest of the
# published record contradict each other we assume that the caches are wrong, and the twin's collector
# misses as much: types and nodes from 2021 on, and a quarter of the leases in the months around the
# turn of 2016 to 2017. Where nothing published contradicts them the twin's collector is exact, and then its
# caches are nearer to the truth than any reconstruction can be. The real caches may have been worse.
# They name no host, so that nothing can be said of hosts or leases.

# %% tags=["hide-input"]
of_caches = pl.concat([of("error_site", "legacy"), of("known_days", "legacy").head(0)])
cached = of("known_days", "legacy").group_by("site", "era").agg(pl.col("mid").max().alias("days"))
(
    GT(
        named(
            validation.by_count(validation.in_percent(of_caches, 1)).join(
                cached, on=["site", "era"], how="left", maintain_order="left"
            )
        ),
        id="table-legacy",
        groupname_col="site",
    )
    .cols_label(
        **{k: v for k, v in labels.items() if (of_caches["count_type"] == k).any()},
        days="days cached",
    )
    .fmt_percent("days", decimals=0)
    .sub_missing(missing_text="–")
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header(
        "Assumed, not found: error of the twin's caches in percent, median (smallest to largest)"
    )
)

# %% [markdown]
# (thresholds)=
# ## Two thresholds
#
# *What is known to less than {glue:text}`threshold_known:.0%` is published as unknown.* On the twins of
# CHI@UC and KVM@TACC no error and no day changes between {glue:text}`threshold_lowest:.0%` and
# {glue:text}`threshold_highest:.0%`, as Chameleon's services keep their rows. Where ended leases are deleted
# for good, as on the [sites that the services wrote](#services), the level is a choice between days and errors. The table
# has both. A lower level gives a few more days and a much larger error on KVM; a higher one gives up days for little.
#
# *Rows of a host that lie less than 15 minutes apart are one presence.* Between no tolerance and an hour no error of
# any count changes by more than {glue:text}`tolerance_moves:.4%` of the node-hours: the gaps that services leave
# when they share out their nodes anew last for minutes. The tolerance keeps one presence from falling into many; no result rests on it.
#
# Both were measured apart, by `python -m paper thresholds`, and stand in `data/thresholds.csv`.

# %% tags=["hide-input"]
at_levels = thresholds.read_record()
levels = sorted(map(float, thresholds.LEVELS["known_share"]))
glue("threshold_known", float(thresholds.OURS["known_share"]), display=False)
glue("threshold_lowest", levels[0], display=False)
glue("threshold_highest", levels[-1], display=False)
moved = thresholds.most_moved(at_levels, "merge_tolerance")["error"].max()
glue("tolerance_moves", max(moved, thresholds.DIGIT), display=False)
(
    GT(
        thresholds.at_services(at_levels, "committed").with_columns(
            pl.col("level").cast(pl.Float64)
        ),
        id="table-thresholds",
    )
    .fmt_percent("level", decimals=0)
    .fmt_percent(cs.ends_with("_error"), decimals=2)
    .fmt_percent(cs.ends_with("_days"), decimals=0)
    .tab_spanner("bare metal", cs.starts_with("baremetal"))
    .tab_spanner("KVM", cs.starts_with("kvm"))
    .cols_label(level="must be known")
    .cols_label_with(cs.ends_with("_error"), fn=lambda _: "largest error")
    .cols_label_with(cs.ends_with("_days"), fn=lambda _: "days known")
    .tab_options(table_font_size="85%")
    .tab_header("Committed on sites that the services wrote, by the share that must be known")
)

# %% [markdown]
# (halves)=
# ## Years that did not steer the twin
#
# The twin is steered by the yearly means of the published curves: how much is leased and used, how many
# nodes are in maintenance, linger, are listed twice, or are lacking in the caches. That its means
# [resemble the real ones](#real-record) shows only that the steering works. So we also made twins that were steered by the even years alone, and
# by the odd years alone; in between, each level was taken from the line between its neighbours. The table has the
# median distance of a yearly mean from the real one: when all years steer, and, when half of them do, in these and
# in the others. The dates of the hardware, some of which were read off the same curves, and the behaviour of leases
# are the same for all, so total and reservable are hardly tested. (By `python -m chameleon_twin.halves`, in `data/halves.csv`.)
#
# So a year's level of use is not predicted by its neighbours, and the twin's likeness in it is a
# fit. The errors of the method depend little on that fit: on the twins that half of the years steer, the error of
# the corrected count differs from that of the book's own twin by {glue:text}`halves_moved:.2f` percentage points at
# most, whatever the site, era and count.

# %% tags=["hide-input"]
glue("halves_moved", validation.moved_by_half(on_twins), display=False)
halves = validation.apart_by_half(
    pl.read_csv(ROOT / "data" / "halves.csv").filter(pl.col("site").is_in(list(names)))
)
(
    GT(
        halves.sort(
            pl.col("site").cast(pl.Enum(list(names))),
            "collector_type",
            pl.col("count_type").cast(pl.Enum(compared)),
        ).with_columns(pl.col("site").replace(names), pl.col("count_type").replace(labels)),
        id="table-halves",
        groupname_col="site",
    )
    .fmt_percent(["all", "inside", "outside"], decimals=1)
    .cols_label(
        collector_type="collector",
        count_type="count",
        all="all years steer",
        inside="years that steer",
        outside="other years",
    )
    .tab_spanner("half of the years steer", ["inside", "outside"])
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("Median difference of yearly means from the real ones")
)

# %% tags=["remove-cell"]
recorded = pl.read_csv(ROOT / "data" / "errors.csv")
counted = [count for count in METRICS if (recorded["count_type"] == count).any()]
counts = {count: METRICS[count].label for count in counted}

# %% [markdown] when="has_services"
# (services)=
# ## Sites that the services wrote
#
# The twin is written by the hands that wrote the pipeline. So there are also sites that Nova and Blazar
# wrote themselves: their code ran through sixty days of a script which knows what it did. They are small,
# lively, and full of what goes wrong. Blazar as it is published deletes ended leases and removed hosts for good. So
# some days are unknown, and what is missed on the others counts as error here: of a removed host that nobody used
# nothing is left.

# %% when="has_services" tags=["hide-input"]
(
    GT(
        validation.of_services(recorded)
        .sort("place", pl.col("count_type").cast(pl.Enum(list(METRICS))))
        .with_columns(
            pl.col("place").replace({"baremetal": "bare metal", "kvm": "KVM"}),
            pl.col("count_type").replace({name: what.label for name, what in METRICS.items()}),
        ),
        id="table-services",
        groupname_col="place",
    )
    .fmt_percent(cs.starts_with("error"), decimals=2)
    .fmt_percent(cs.starts_with("known_days"), decimals=0)
    .sub_missing(missing_text="–")
    .cols_label(count_type="count")
    .cols_label_with(
        cs.starts_with("error", "known"), fn=lambda name: name.replace("_", " ").rsplit(" ", 1)[-1]
    )
    .tab_spanner("error", cs.starts_with("error"))
    .tab_spanner("days known", cs.starts_with("known_days"))
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("The corrected count on the services' sites, by release")
)

# %% [markdown]
# (damage)=
# ## Twice the damage
#
# How often each kind of damage happens is an assumption, but for one share that the real row counts tell. So here each
# kind in turn is made twice as frequent, on the book's own twin of one bare-metal site and of KVM, and the
# count made again. A kind that adds less than 0.005 points to every error has a dash in the table below. What is
# already in every row cannot be doubled, and the eras in which everything was deleted are no shares.

# %% tags=["remove-cell"]
kinds = yaml.safe_load((ROOT / "data" / "calibration.yaml").read_text(encoding="utf-8"))["damage"]
doubled = validation.with_more_damage(recorded.filter(pl.col("site").is_in(list(names))))
noticed = doubled.filter(pl.col("added").abs() >= ablation.NOTICEABLE)["damage"]
felt = {name: kind["what"] for name, kind in kinds.items() if name in noticed}
shown = felt or {name: kind["what"] for name, kind in kinds.items()}
damaged = {site: name for site, name in names.items() if (doubled["site"] == site).any()}
glue("errors_kinds", len(kinds), display=False)
glue("errors_kinds_felt", len(felt), display=False)
glue("errors_most_added", doubled["added"].max(), display=False)

# %% [markdown]
# Of {glue:text}`errors_kinds:.0f` kinds {glue:text}`errors_kinds_felt:.0f` are felt. None adds more than {glue:text}`errors_most_added:.2f` percentage points to the
# error of any count.

# %% mystnb={"figure": {"name": "fig-damage", "caption": "Percentage points by which the error of the corrected count grows when one kind of damage is twice as frequent, by site, count and era. A dot: less than 0.005 points. Empty: such damage cannot be there, or there is no count. Data: {{ output_dir }}/plots/damage.csv."}} tags=["hide-input"]
ablation.twice_the_damage(doubled, site_names=damaged, count_types=counted, labels=shown).save(
    "damage", figures
)

# %% tags=["hide-input"]
places = pl.concat_str(
    pl.col("site").replace(names),
    pl.col("count_type").replace(counts),
    era_label(pl.col("era")),
    separator=", ",
)
(
    GT(
        validation.worst_of_each(
            doubled.filter(pl.col("added") >= ablation.NOTICEABLE), kinds
        ).select("what", "rate", "of", "mark", "with_all", "error", place=places),
        id="table-damage",
    )
    .fmt_percent(["with_all", "error"], decimals=2)
    .fmt_number("rate", n_sigfig=2, drop_trailing_zeros=True)
    .sub_missing(missing_text="–")
    .cols_move_to_start(["what", "rate", "of", "mark", "place"])
    .tab_spanner("where more of it adds most", ["place", "with_all", "error"])
    .cols_label(what="damage", of="of what", place="count", with_all="error", error="when twice")
    .tab_options(table_font_size="80%", table_width="100%")
    .tab_header("Every kind of damage, how frequent the twin has it, and what twice as much does")
)


# %% tags=["remove-cell"]
def usage_of(site):
    return pl.read_parquet(ROOT / output_dir / site / "usage_timeline.parquet")


def truth_of(site, usage):
    intervals = pl.read_parquet(ROOT / data_dir / site / "truth" / "intervals.parquet")
    return daily_truth(intervals, usage["timestamp"].unique().sort(), compared)


usages = {site: usage_of(site) for site in names}
errors = pl.concat(
    validation.errors(usage, truth_of(site, since_opening(usage))) for site, usage in usages.items()
)
for row in errors.drop_nulls("error").iter_rows(named=True):
    key = f"{row['site']}_error_{row['era']}_{row['count_type']}_{row['collector_type']}"
    glue(key, row["error"], display=False)

# %% [markdown]
# (ablation)=
# ## What each correction buys
#
# An *ablation* leaves out one correction and keeps all others. The error that it adds is what the
# correction buys. Where two corrections mend the same hours, both look small here, since
# the one still does what the other leaves undone. A negative number means that the count is nearer to the
# truth without the correction. Each correction costs a run of the collector, so this is done for one
# bare-metal site and for KVM.

# %% tags=["remove-cell"]
ablated = {s: n for s, n in names.items() if (ROOT / output_dir / "ablation" / s).is_dir()}


def without_of(site):
    counted = pl.read_parquet(ROOT / output_dir / "ablation" / site / "ablation.parquet")
    return validation.errors_without(counted, usages[site], truth_of(site, usages[site]))


without = validation.added_errors(pl.concat(map(without_of, ablated)), NOTHING)
left_out = {k: what.label for k, what in ABLATIONS.items() if (without["left_out"] == k).any()}

# %% mystnb={"figure": {"name": "fig-ablation", "caption": "Percentage points by which the error of the corrected count grows when one correction is left out, against the twin's truth, by site, count and era. A dot: less than 0.005 points. Empty: nothing to leave out, as the site does not have that source or gives no count there. Data: {{ output_dir }}/plots/ablation.csv."}} tags=["hide-input"]
ablation.ablation(without, site_names=ablated, count_types=compared, labels=left_out).save(
    "ablation", figures
)

# %% tags=["remove-cell"]
for row in without.iter_rows(named=True):
    cause = row["left_out"].replace(" ", "_")
    glue(
        f"{row['site']}_without_{cause}_{row['era']}_{row['count_type']}",
        row["error"],
        display=False,
    )

# %% [markdown]
# (validation-appendix)=
# ## Appendix: the book's own twin in numbers
#
# All numbers of the twin from which the chapters of results were made. The *95th percentile* is the
# absolute error that 95 % of an era's days do not exceed, in nodes, and as a share of the mean truth. The truth of a
# day is the integral of its intervals, computed here without any part of the pipeline.


# %% tags=["remove-cell"]
ordered = errors.sort(
    pl.col("site").cast(pl.Enum(list(names))),
    "era",
    pl.col("count_type").cast(pl.Enum(compared)),
    pl.col("collector_type").cast(pl.Enum(list(COLLECTORS))),
).with_columns(
    pl.col("site").replace(names), era_label(pl.col("era")), pl.col("count_type").replace(labels)
)

# %% tags=["hide-input"]
(
    GT(
        ordered.filter(pl.col("collector_type") == "corrected").drop("collector_type"),
        id="table-validation",
        groupname_col="site",
    )
    .fmt_percent(["error", "bias", "p95"], decimals=2)
    .fmt_percent("known_days", decimals=1)
    .fmt_number(["mean_absolute_nodes", "bias_nodes", "p95_nodes"], decimals=2)
    .sub_missing(missing_text="–")
    .tab_spanner("percent of node-hours", ["error", "bias", "p95"])
    .tab_spanner("nodes", ["mean_absolute_nodes", "bias_nodes", "p95_nodes"])
    .cols_label(
        count_type="count",
        p95="95th percentile",
        mean_absolute_nodes="mean |error|",
        bias_nodes="bias",
        p95_nodes="95th percentile",
        known_days="days known",
    )
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("The corrected count against the truth")
)

# %% [markdown]
# This table has the same for the two other collectors; a dash where the collector gives no value.

# %% tags=["remove-cell"]
others = [name for name in COLLECTORS if name != "corrected"]
measures = {
    "error": "error",
    "bias": "bias",
    "p95_nodes": "95th percentile (nodes)",
    "known_days": "days known",
}
cells = ordered.filter(pl.col("collector_type").is_in(others)).pivot(
    on="collector_type",
    on_columns=others,
    index=["site", "era", "count_type"],
    values=list(measures),
    maintain_order=True,
)

# %% tags=["hide-input"]
wide = (
    GT(cells, id="table-validation-others", groupname_col="site")
    .fmt_percent([f"{m}_{o}" for m in ("error", "bias", "known_days") for o in others], decimals=1)
    .fmt_number([f"p95_nodes_{o}" for o in others], decimals=1)
    .sub_missing(missing_text="–")
    .cols_label(
        count_type="count",
        **{f"{measure}_{o}": label for o in others for measure, label in measures.items()},
    )
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("Legacy and uncorrected against the truth")
)
for other in others:
    wide = wide.tab_spanner(other, [f"{measure}_{other}" for measure in measures])
wide
