# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = ""

# %% [markdown]
# (validation)=
# # Distance to the truth
#
# The twin keeps the truth of its simulated sites beside their damaged tables. The error of a
# collector is
#
# $$ E = \frac{\sum_d |v_d - t_d|}{\sum_d t_d} $$
#
# over the days $d$ of an era on which it gives a value $v_d$, with $t_d$ the truth. The share of
# days with a value is shown apart, since a collector makes no error on a day without a value.
#
# Read *legacy* with care: its errors are inputs of the twin. Where the real caches and the rest of the
# published record contradict each other we assume that the caches are wrong, and the twin's collector
# misses as much: types and nodes from 2021 on, and a quarter of the leases in the months around the
# turn of 2016 to 2017. Where nothing published contradicts the caches the collector is exact, and its
# caches can be nearer to the truth than any reconstruction. The real caches may have been worse.
#
# At CHI@Edge the twin damages the table of containers alone. Its devices and their leases are whole,
# and an error of zero there says only that the pipeline adds none. The real rows of devices are kept
# since May 2022.
#
# The *95th percentile* is the absolute error that 95 % of an era's days do not exceed, in nodes, and as a
# share of the mean truth.

# %% tags=["remove-cell"]
import polars as pl
import polars.selectors as cs
import yaml
from great_tables import GT
from myst_nb import glue

from chameleon_usage.models.metrics import COLLECTORS, METRICS
from chameleon_usage.viz.base import since_opening
from paper import projected, validation
from paper.ablation import ABLATIONS, NOTHING
from paper.eras import era_label
from paper.figures import ablation, truth
from paper.project import ROOT, site_names
from paper.truth import daily_truth

figures = ROOT / output_dir / "plots"
names = site_names(sites, config)
compared = ["total", "reservable", "committed", "occupied", "active"]
labels = {count: METRICS[count].label for count in compared}

# %% [markdown]
# The truth of a day is the integral of its intervals. It is computed here, without any part of the
# pipeline.


# %% tags=["hide-input"]
def usage_of(site):
    return pl.read_parquet(ROOT / output_dir / site / "usage_timeline.parquet")


def truth_of(site, usage):
    intervals = pl.read_parquet(ROOT / data_dir / site / "truth" / "intervals.parquet")
    return daily_truth(intervals, usage["timestamp"].unique().sort(), compared)


# %% tags=["hide-input"]
usages = {site: usage_of(site) for site in names}
errors = pl.concat(
    validation.errors(usage, truth_of(site, since_opening(usage))) for site, usage in usages.items()
)

# %% [markdown]
# ## Every site, era and count

# %% mystnb={"figure": {"name": "fig-validation", "caption": "Error of each collector against the twin's truth, by era: a column for each site, a row for each count type, log scale. Further left is nearer to the truth; an error of 0.01 % or less lies on the left edge. Grey squares: legacy; triangles: uncorrected; circles: corrected, on top where they coincide. The thin line only joins the points of an era. A collector without a point gives no value there. Data: {{ output_dir }}/plots/validation.csv."}} tags=["hide-input"]
truth.errors(errors, site_names=names, count_types=compared).save("validation", figures)

# %% tags=["remove-cell"]
for row in errors.drop_nulls("error").iter_rows(named=True):
    key = f"{row['site']}_error_{row['era']}_{row['count_type']}_{row['collector_type']}"
    glue(key, row["error"], display=False)

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
# (seeds)=
# ## From seed to seed
#
# All that was one twin. Another seed lets others ask at other times, and the damage hits other rows. The
# errors of {glue:text}`errors_seeds:.0f` twins of the real size, the book's own among them, are these. They take longer
# than the book, so they were computed apart, by `python -m paper errors`, and stand in
# `data/errors.csv`. A test computes some of them again.

# %% tags=["remove-cell"]
recorded = pl.read_csv(ROOT / "data" / "errors.csv")
of_seeds = recorded.filter(pl.col("damage") == "nothing", pl.col("site").is_in(list(names)))
counted = [count for count in METRICS if (of_seeds["count_type"] == count).any()]
counts = {count: METRICS[count].label for count in counted}
glue("errors_seeds", of_seeds["seed"].n_unique(), display=False)
for (era,), of_era in of_seeds.group_by("era"):
    glue(f"errors_largest_{era}", of_era["error"].max(), display=False)

# %% mystnb={"figure": {"name": "fig-seeds", "caption": "Error of the corrected count on twins of several seeds: a column for each site, a row for each count type, log scale. A circle for each twin, a tick at the median, a line from the smallest to the largest. An error of 0.01 % or less lies on the left edge. Data: {{ output_dir }}/plots/seeds.csv."}} tags=["hide-input"]
truth.seeds(of_seeds, site_names=names, count_types=counted).save("seeds", figures)

# %% tags=["hide-input"]
(
    GT(
        validation.spread(of_seeds)
        .sort(pl.col("site").cast(pl.Enum(list(names))), "era")
        .with_columns(pl.col("site").replace(names), era_label(pl.col("era")))
        .select("site", "era", *counted),
        id="table-seeds",
        groupname_col="site",
    )
    .cols_label(**counts)
    .sub_missing(missing_text="–")
    .tab_options(table_font_size="85%", table_width="100%")
    .tab_header("Error over the seeds, in percent of node-hours: median (smallest to largest)")
)

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

# %% mystnb={"figure": {"name": "fig-damage", "caption": "Percentage points by which the error of the corrected count grows when one kind of damage is twice as frequent, by site, count and era. Empty: less than 0.005 points. Data: {{ output_dir }}/plots/damage.csv."}} tags=["hide-input"]
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

# %% mystnb={"figure": {"name": "fig-ablation", "caption": "Percentage points by which the error of the corrected count grows when one correction is left out, against the twin's truth, by site, count and era. Empty: less than 0.005 points, or not to be left out there: a source that the site does not have. Data: {{ output_dir }}/plots/ablation.csv."}} tags=["hide-input"]
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
