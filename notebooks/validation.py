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
from great_tables import GT
from myst_nb import glue

from chameleon_usage.models.metrics import COLLECTORS, METRICS
from chameleon_usage.viz.base import since_opening
from paper import validation
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
