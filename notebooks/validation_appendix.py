# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = ""

# %% [markdown]
# (validation-appendix)=
# # Validation in numbers
#
# The tables behind the chapter on [validation](#seeds), in its order. It says what each of them measures, and
# what follows from it.

# %% tags=["remove-cell"]
import polars as pl
import polars.selectors as cs
from great_tables import GT
from myst_nb import glue

from chameleon_usage.models.metrics import COLLECTORS, METRICS
from paper import projected, seeds, thresholds, validation
from paper.eras import era_label
from paper.figures import ablation
from paper.kept import kept
from paper.project import ROOT, read_yaml, site_names

figures = ROOT / output_dir / "plots"
names = site_names(sites, config)
compared = ["total", "reservable", "committed", "occupied", "active"]
judged = [*compared, "idle", "stopped"]
labels = {count: METRICS[count].label for count in judged}
on_twins = seeds.read_record().filter(pl.col("site").is_in(list(names)))
ranges = validation.ranges(on_twins.filter(steered_by=seeds.ALL))


def of(measure, collector):
    """Give one measure of one collector, sites and eras in order."""
    return validation.in_order(ranges, measure, collector, names, compared)


def named(table):
    """Write sites and eras as readers know them."""
    return table.with_columns(pl.col("site").replace(names), era_label(pl.col("era")))


# %% [markdown]
# ## Several seeds

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
    .tab_header("Error of the corrected count, in percent of node-hours: median (smallest–largest)")
)

# %% [markdown]
# ## Lease by lease
#
# A lease is *off* if the count misses more than a hundredth of its node-hours on the hosts that it held.

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
    .tab_header("Leases on the right hosts, in percent: median (smallest–largest)")
)

# %% [markdown]
# ## What is inferred
#
# The part of the corrected node-hours that is marked as inferred, in the median of the twins, and how much of it the
# truth has, in the worst of them.

# %% tags=["hide-input"]
inferred = ["total", "reservable", "committed"]
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
# by SQL and without any part of the pipeline, on every seventh day and for each node type and number of nodes. Of the
# values that the pipeline gives, at least {glue:text}`projected_within_least:.1%` in any era are within an hour of the truth,
# for one node or more. But in {glue:text}`projected_no_wait:.0%` of them or more there was no wait, and that is easily
# right. Where somebody would have had to wait, {glue:text}`projected_waits_least:.0%` to
# {glue:text}`projected_waits_most:.0%` of an era's values are within an hour (the lowest share is of
# {glue:text}`projected_waits_few:.0f` values); over all sites and eras it is {glue:text}`projected_waits:.1%`.
#
# The pipeline gives no value where an extension wrote over the end that a lease had before. With more nodes asked for
# at once more leases matter, and less is known: {glue:text}`projected_known_least:.0%` of the days and node types have a
# value for {glue:text}`projected_most_nodes:.0f` nodes at {glue:text}`projected_known_site:s`
# ({glue:text}`projected_known_era:s`). The table has all of them.

# %% tags=["remove-cell"]


def held_at(site):
    """Hold one site to the truth."""
    waits = ROOT / output_dir / site / "leadtime_projected.parquet"
    truth = ROOT / data_dir / site / "truth"
    files = (waits, truth / "pool.parquet", truth / "knowledge.parquet")
    return kept(f"projected_{site}", lambda: projected.held_to_truth(waits, truth), *files)


held = pl.concat(map(held_at, names))
glue("projected_within_least", validation.at_least(held["within"].min(), 3), display=False)
waited = held.filter(pl.col("waits") > 0).sort("within_of_waits", "site", "era", "nodes")
right = (waited["within_of_waits"] * waited["waits"]).sum() / waited["waits"].sum()
least_known = held.sort("known", "site", "era", "nodes").row(0, named=True)
for key, value in {
    "no_wait": validation.at_least(1 - held["waits"].sum() / held["values"].sum(), 2),
    "waits": right,
    "waits_least": validation.at_least(waited["within_of_waits"].min(), 2),
    "waits_most": waited["within_of_waits"].max(),
    "waits_few": waited["waits"].first(),
    "most_nodes": least_known["nodes"],
    "known_site": names[least_known["site"]],
    "known_era": pl.select(era_label(pl.lit(least_known["era"]))).item(),
    "known_least": least_known["known"],
}.items():
    glue(f"projected_{key}", value, display=False)
for row in held.iter_rows(named=True):
    for part in ("known", "within"):
        glue(
            f"{row['site']}_projected_{part}_{row['era']}_{row['nodes']}", row[part], display=False
        )

# %% tags=["hide-input"]
(
    GT(
        named(held),
        id="table-projected",
        groupname_col="site",
    )
    .fmt_percent(["known", "within", "within_of_waits"], decimals=1)
    .fmt_number(["mean_absolute_h", "wait_h"], decimals=1)
    .sub_missing(missing_text="–")
    .tab_spanner("of days and types", ["known"])
    .tab_spanner("of the known, within an hour", ["within", "within_of_waits"])
    .tab_spanner("hours", ["mean_absolute_h", "wait_h"])
    .tab_spanner("number of values", ["values", "waits"])
    .fmt_integer(["values", "waits"])
    .cols_label(
        known="known",
        within="all",
        within_of_waits="with a wait",
        mean_absolute_h="mean |error|",
        wait_h="mean true wait",
        values="all",
        waits="with a wait",
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
        "Assumed, not found: error of the twin's caches in percent, median (smallest–largest)"
    )
)

# %% [markdown]
# (thresholds)=
# ## Two thresholds
#
# *What is known to less than {glue:text}`threshold_known:.0%` is published as unknown.* On the twins of
# CHI@UC and KVM@TACC no error and no day changes between {glue:text}`threshold_lowest:.0%` and
# {glue:text}`threshold_highest:.0%`, as Chameleon's services keep their rows. Where ended leases are deleted
# for good, as on the [sites that the services wrote](#services), the level is a choice between days and errors: a lower one
# gives a few more days and a much larger error on KVM, a higher one gives up days for little.
#
# *Rows of a host that lie less than 15 minutes apart are one presence.* Between no tolerance and an hour no error of
# any quantity changes by more than {glue:text}`tolerance_moves:.4%` of the node-hours: the gaps that services leave
# when they share out their nodes anew last for minutes. The tolerance keeps one presence from falling into many; no result rests on it.
#
# Both were measured beforehand, by `python -m paper thresholds`, and are recorded in `data/thresholds.csv`.

# %% tags=["remove-cell"]
at_levels = thresholds.read_record()
levels = sorted(map(float, thresholds.LEVELS["known_share"]))
glue("threshold_known", float(thresholds.OURS["known_share"]), display=False)
glue("threshold_lowest", levels[0], display=False)
glue("threshold_highest", levels[-1], display=False)
moved = thresholds.most_moved(at_levels, "merge_tolerance")["error"].max()
glue("tolerance_moves", max(moved, thresholds.DIGIT), display=False)

# %% tags=["hide-input"]
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
# ## Years to which the twin was not calibrated
#
# The twin is calibrated to the yearly means of the published curves: how much is leased and used, how many
# nodes are in maintenance, linger, are listed twice, or are lacking in the caches. That its means
# [resemble the real ones](#real-record) shows only that the calibration works. So we also made twins that were
# calibrated to the even years alone, and to the odd years alone; in between, each level was taken from the line between
# its neighbours. A yearly mean of leased or used nodes is apart from the real one by {glue:text}`halves_inside:.1%` in the years of the
# calibration and by {glue:text}`halves_outside:.1%` in the others, in the median of sites, quantities and collectors; singly
# these lie between {glue:text}`halves_inside_least:.1%` and {glue:text}`halves_inside_most:.1%`, and between
# {glue:text}`halves_outside_least:.1%` and {glue:text}`halves_outside_most:.1%`. The dates of the hardware, some of which were read off the same curves, and
# the behaviour of leases are the same for all, so total and reservable are hardly tested. (By
# `python -m chameleon_twin.halves`, in `data/halves.csv`.)
#
# So a year's level of use is not predicted by its neighbours, and the twin's likeness in it is a fit.

# %% tags=["remove-cell"]
of_use = validation.apart_by_half(
    pl.read_csv(ROOT / "data" / "halves.csv").filter(
        pl.col("site").is_in(list(names)), pl.col("count_type").is_in(["committed", "occupied"])
    )
)
for part in ("inside", "outside"):
    glue(f"halves_{part}", of_use[part].median(), display=False)
    glue(f"halves_{part}_least", of_use[part].min(), display=False)
    glue(f"halves_{part}_most", of_use[part].max(), display=False)

# %% tags=["hide-input"]
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
        count_type="quantity",
        all="calibrated to all years",
        inside="years of the calibration",
        outside="other years",
    )
    .tab_spanner("calibrated to half of the years", ["inside", "outside"])
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("Median difference of yearly means from the real ones")
)

# %% tags=["remove-cell"]
recorded = pl.read_csv(ROOT / "data" / "errors.csv")
counted = [count for count in METRICS if (recorded["count_type"] == count).any()]
counts = {count: METRICS[count].label for count in counted}

# %% [markdown] when="has_services"
# ## Sites that the services wrote

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
    .cols_label(count_type="quantity")
    .cols_label_with(
        cs.starts_with("error", "known"), fn=lambda name: name.replace("_", " ").rsplit(" ", 1)[-1]
    )
    .tab_spanner("error", cs.starts_with("error"))
    .tab_spanner("days known", cs.starts_with("known_days"))
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("The corrected count on the services' sites, by release")
)

# %% [markdown]
# (tables-damage)=
# ## Twice the damage

# %% tags=["remove-cell"]
kinds = read_yaml("data/calibration.yaml")["damage"]
doubled = validation.with_more_damage(recorded.filter(pl.col("site").is_in(list(names))))
noticed = doubled.filter(pl.col("added").abs() >= ablation.NOTICEABLE)["damage"]
felt = {name: kind["what"] for name, kind in kinds.items() if name in noticed}
shown = felt or {name: kind["what"] for name, kind in kinds.items()}
damaged = {site: name for site, name in names.items() if (doubled["site"] == site).any()}

# %% mystnb={"figure": {"name": "fig-damage", "caption": "Percentage points by which the error of the corrected count grows when one kind of damage is twice as frequent, by site, quantity and era; the years before 2022 are one era here. Purple: the error grows; green: it shrinks. Shades go with the square root; numbers below 1 have two decimals, those from 10 on none. A dot: less than 0.005 points. A dash: the site cannot have such damage. Grey: no error is defined, as the truth is zero or there is no value. Data: {{ output_dir }}/plots/damage.csv."}} tags=["hide-input"]
ablation.twice_the_damage(doubled, site_names=damaged, count_types=counted, labels=shown).save(
    "damage", figures
)

# %% [markdown]
# A kind that adds less than 0.005 points to every error has dashes in this table.

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
    .cols_label(what="damage", of="of what", place="where", with_all="error", error="when twice")
    .tab_options(table_font_size="80%", table_width="100%")
    .tab_header("Every kind of damage, how frequent the twin has it, and what twice as much does")
)

# %% [markdown]
# ## The book's own twin
#
# All numbers of the twin from which the chapters of results were made. The *95th percentile* is the
# absolute error that 95% of an era's days do not exceed, in nodes, and as a share of the mean truth. The truth of a
# day is the integral of its intervals, computed here without any part of the pipeline. *Idle* and *stopped* are differences
# of two counts, so their errors are a larger part of them.

# %% tags=["remove-cell"]
places = (ROOT / output_dir, ROOT / data_dir)
errors = pl.concat(validation.errors_of_site(site, *places, judged) for site in names)
ordered = errors.sort(
    pl.col("site").cast(pl.Enum(list(names))),
    "era",
    pl.col("count_type").cast(pl.Enum(judged)),
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
        count_type="quantity",
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
        count_type="quantity",
        **{f"{measure}_{o}": label for o in others for measure, label in measures.items()},
    )
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("Legacy and uncorrected against the truth")
)
for other in others:
    wide = wide.tab_spanner(other, [f"{measure}_{other}" for measure in measures])
wide
