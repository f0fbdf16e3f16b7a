# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = "chi_edge chi_tacc chi_uc kvm_tacc"

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
# days with a value is shown apart: who says nothing makes no error.
#
# Read *legacy* with care: its errors are inputs of the twin. Where the real caches and the rest of the
# public record contradict each other we assume that the caches are wrong, and the twin's collector
# misses as much: types and nodes from 2021 on, and a quarter of the leases in the months around the
# turn of 2016 to 2017. Where the record is silent the collector is exact, and its caches can be
# nearer to the truth than any reconstruction. That is kinder than the real caches may have been.
#
# At CHI@Edge the twin damages the record of containers alone. Its devices and their leases are whole,
# and an error of zero there says only that the pipeline adds none. The real record of devices is kept
# since May 2022.
#
# The *95th percentile* is the absolute error that 95 % of an era's days do not exceed, in nodes, and as a
# share of the mean truth.

# %% tags=["remove-cell"]
import numpy as np
import polars as pl
from great_tables import GT
from myst_nb import glue

from chameleon_usage.models.metrics import COLLECTORS, MEASURED, METRICS
from chameleon_usage.usage.ablation import ABLATIONS, NOTHING
from chameleon_usage.viz import ablation, truth
from chameleon_usage.viz.base import since_opening
from chameleon_usage.viz.paper import ROOT, site_names

figures = ROOT / output_dir / "plots"
names = site_names(sites.split(), config)
eras = {2016: "2016_2017", 2018: "2018_2019", 2020: "2020_2021", 2022: "2022_on"}
compared = ["total", "reservable", "committed", "occupied", "active"]

# %% [markdown]
# The truth of a day is the integral of its intervals, computed here anew: nothing of the pipeline
# is used for it.


# %% tags=["hide-input"]
def daily_means(intervals, edges):
    """Mean count between each two edges (seconds) of intervals (start, end, nodes)."""
    start, end = (intervals[c].dt.epoch("s").to_numpy() - edges[0] for c in ("start", "end"))
    nodes = intervals["nodes"].to_numpy()
    at = np.concatenate([start, end])
    step = np.concatenate([nodes, -nodes])
    order = np.argsort(at, kind="stable")
    count = np.concatenate([[0.0], np.cumsum(step[order])])
    moment = np.concatenate([[0.0], np.cumsum((step * at)[order])])
    t = edges - edges[0]
    seen = np.searchsorted(at[order], t, side="right")
    return np.diff(t * count[seen] - moment[seen]) / np.diff(t)


def truth_of(site, days):
    intervals = pl.read_parquet(ROOT / data_dir / site / "truth" / "intervals.parquet")
    edges = np.append(days.dt.epoch("s").to_numpy(), days.dt.epoch("s").max() + 86400)
    means = {
        kind: daily_means(intervals.filter(pl.col("quantity_type") == kind), edges)
        for kind in MEASURED
    }
    for kind in ("occupied", "active"):
        means[kind] = means[f"{kind}_reservation"] + means[f"{kind}_ondemand"]
    return pl.concat(
        pl.DataFrame({"timestamp": days, "count_type": kind, "truth": means[kind]})
        for kind in compared
    )


def era_of(timestamp):
    """Name the era of each time."""
    named = pl.lit(None, dtype=pl.String)
    for year, name in eras.items():
        named = pl.when(timestamp.dt.year() >= year).then(pl.lit(name)).otherwise(named)
    return named.alias("era")


# %% tags=["hide-input"]
def errors_of(site):
    usage = pl.read_parquet(ROOT / output_dir / site / "usage_timeline.parquet").with_columns(
        pl.col("collector_type", "count_type").cast(pl.String)
    )
    days = since_opening(usage)["timestamp"].unique().sort()
    # A day without a row is a day without a value.
    both = (
        truth_of(site, days)
        .join(usage.select("site", "collector_type").unique(), how="cross")
        .join(usage, on=["site", "collector_type", "timestamp", "count_type"], how="left")
    )
    known = pl.col("value").is_not_null()
    difference = pl.col("value") - pl.col("truth")
    true = pl.col("truth").filter(known).sum()
    return (
        both.with_columns(era_of(pl.col("timestamp")))
        .sort("timestamp")
        .group_by("site", "era", "count_type", "collector_type")
        .agg(
            pl.when(true > 0).then(difference.abs().sum() / true).alias("error"),
            pl.when(true > 0).then(difference.sum() / true).alias("bias"),
            pl.when(true > 0)
            .then(difference.abs().quantile(0.95) * known.sum() / true)
            .alias("p95"),
            difference.mean().alias("bias_nodes"),
            difference.abs().mean().alias("mean_absolute_nodes"),
            difference.abs().quantile(0.95).alias("p95_nodes"),
            known.mean().alias("known_days"),
            (pl.col("truth").sum() > 0).alias("there"),
        )
        # Before a site had anything, there is nothing to be wrong about.
        .filter(pl.col("there"))
        .drop("there")
        .sort("site", "era", "count_type", "collector_type")
    )


errors = pl.concat(errors_of(site) for site in names)

# %% [markdown]
# ## Every site, era and count

# %% mystnb={"figure": {"name": "fig-validation", "caption": "Error of each collector against the twin's truth, by era: a column for each site, a row for each count type, log scale. Further left is nearer to the truth; an error of 0.01 % or less lies on the left edge. Grey squares: legacy; triangles: uncorrected; circles: corrected, on top where they coincide. The thin line only joins the points of an era. A collector without a point gives no value there. Data: output/plots/validation.csv."}} tags=["hide-input"]
truth.errors(errors, site_names=names, count_types=compared).save("validation", figures)

# %% tags=["remove-cell"]
for row in errors.drop_nulls("error").iter_rows(named=True):
    key = f"{row['site']}_error_{row['era']}_{row['count_type']}_{row['collector_type']}"
    glue(key, row["error"], display=False)

# %% tags=["hide-input"]
ordered = errors.sort(
    pl.col("site").cast(pl.Enum(list(names))),
    "era",
    pl.col("count_type").cast(pl.Enum(compared)),
    pl.col("collector_type").cast(pl.Enum(list(COLLECTORS))),
)
(
    GT(
        ordered.filter(pl.col("collector_type") == "corrected")
        .drop("collector_type")
        .with_columns(
            pl.col("site").replace(names),
            pl.col("era").str.replace("_on", " on").str.replace("_", "–"),
            pl.col("count_type").replace({c: METRICS[c].label for c in compared}),
        ),
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
# The same for the two others; a dash where the collector gives no value.

# %% tags=["hide-input"]
others = [name for name in COLLECTORS if name != "corrected"]
cells = ordered.filter(pl.col("collector_type").is_in(others)).pivot(
    on="collector_type",
    on_columns=others,
    index=["site", "era", "count_type"],
    values=["error", "bias", "p95_nodes", "known_days"],
    maintain_order=True,
)
measures = ["error", "bias", "p95_nodes", "known_days"]
wide = (
    GT(
        cells.with_columns(
            pl.col("site").replace(names),
            pl.col("era").str.replace("_on", " on").str.replace("_", "–"),
            pl.col("count_type").replace({c: METRICS[c].label for c in compared}),
        ),
        id="table-validation-others",
        groupname_col="site",
    )
    .fmt_percent([f"{m}_{o}" for m in measures[:2] for o in others], decimals=1)
    .fmt_percent([f"known_days_{o}" for o in others], decimals=1)
    .fmt_number([f"p95_nodes_{o}" for o in others], decimals=1)
    .sub_missing(missing_text="–")
    .cols_label(
        count_type="count",
        **{
            f"{measure}_{o}": label
            for o in others
            for measure, label in zip(
                measures, ["error", "bias", "95th percentile (nodes)", "days known"], strict=True
            )
        },
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
# correction buys. Two corrections that mend the same hours hide behind each other here, since
# the one still does what the other leaves undone. A negative number means that the count is nearer to the
# truth without the correction. Each correction costs a run of the collector, so this is done for one
# bare-metal site and for KVM.

# %% tags=["remove-cell"]
ablated = [s for s in names if (ROOT / output_dir / "ablation" / s).is_dir()]


def ablation_of(site):
    """Give the error with each correction left out, on the days that are published as known."""
    counted = pl.read_parquet(ROOT / output_dir / "ablation" / site / "ablation.parquet")
    usage = pl.read_parquet(ROOT / output_dir / site / "usage_timeline.parquet").with_columns(
        pl.col("collector_type", "count_type").cast(pl.String)
    )
    published = usage.filter(pl.col("collector_type") == "corrected").drop_nulls("value")
    both = counted.join(published, on=["timestamp", "count_type"], how="semi").join(
        truth_of(site, usage["timestamp"].unique().sort()), on=["timestamp", "count_type"]
    )
    true = pl.col("truth").sum()
    return (
        both.with_columns(era_of(pl.col("timestamp")))
        .sort("timestamp")
        .group_by("site", "era", "count_type", "left_out")
        .agg(
            pl.when(true > 0)
            .then((pl.col("value") - pl.col("truth")).abs().sum() / true)
            .alias("error")
        )
        .drop_nulls("error")
    )


without = pl.concat(ablation_of(site) for site in ablated)
whole = without.filter(pl.col("left_out") == NOTHING).select(
    "site", "era", "count_type", pl.col("error").alias("with_all")
)
without = (
    without.filter(pl.col("left_out") != NOTHING)
    .join(whole, on=["site", "era", "count_type"])
    .with_columns((100 * (pl.col("error") - pl.col("with_all"))).alias("added"))
    .sort("site", "era", "count_type", "left_out")
)
labels = {name: what.label for name, what in ABLATIONS.items() if name != NOTHING}

# %% mystnb={"figure": {"name": "fig-ablation", "caption": "Percentage points by which the error of the corrected count grows when one correction is left out, against the twin's truth, by site, count and era. Empty: less than 0.005 points, or not to be left out there: a source that the site does not have. Data: output/plots/ablation.csv."}} tags=["hide-input"]
ablation.ablation(
    without,
    site_names={s: names[s] for s in ablated},
    count_types=compared,
    labels={k: v for k, v in labels.items() if (without["left_out"] == k).any()},
).save("ablation", figures)

# %% tags=["remove-cell"]
for row in without.iter_rows(named=True):
    cause = row["left_out"].replace(" ", "_")
    glue(
        f"{row['site']}_without_{cause}_{row['era']}_{row['count_type']}",
        row["error"],
        display=False,
    )
