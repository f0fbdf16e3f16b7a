# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = "chi_edge chi_tacc chi_uc kvm_tacc"
real_dir = "data/real"
facts_file = "data/facts.yaml"
published_site = "chi_tacc"

# %% [markdown]
# (real-record)=
# # The real record
#
# {% if not has_curves %}
# The testbed published curves, machine events and leases of its own sites. This book was built from
# databases of others, so that there is nothing to set beside them here.
# {% else %}
# {% if twin %}What is real on this page, and what is simulated?{% else %}What was published, and what
# is counted here?{% endif %} *Real* are the yearly means of the curves that
# the testbed published, read off their plots, and what the published machine events and leases
# give when the same pipeline reads them. {% if twin %}*Simulated* is the twin.{% else %}Beside them
# stand the figures of the databases that this book was built from.{% endif %} They need
# not agree in every year. {% if twin %}The twin was fitted to these very means, so that likeness shows only that the fit
# succeeded.{% else %}How alike they are is what this page
# shows.{% endif %}
# {% endif %}

# %% tags=["remove-cell"]
import polars as pl
import yaml
from great_tables import GT
from myst_nb import glue

from chameleon_usage.viz import base, real_record
from chameleon_usage.viz.paper import ROOT, is_twin, site_names

figures = ROOT / output_dir / "plots"
names = site_names(sites.split(), config)
ours = "twin" if is_twin(ROOT / data_dir) else "database"
calibration = yaml.safe_load((ROOT / "data" / "calibration.yaml").read_text(encoding="utf-8"))
curves = calibration["real_curves"]
compared = ["total", "reservable", "committed", "occupied", "idle"]

# %% [markdown] when="has_curves"
# ## Published curves
#
# The published plots show two collectors: the legacy caches, and today's databases taken at their
# word, which we call *uncorrected*.

# %% tags=["remove-cell"] when="has_curves"
collector_of = {"legacy": "legacy", "current": "uncorrected"}
rows = []
for site, series in curves.items():
    for key, years in series.items():
        prefix, _, count_type = key.partition("_")
        if prefix in collector_of and count_type in compared:
            rows += [
                (site, collector_of[prefix], count_type, year, float(mean))
                for year, (mean, _bins) in years.items()
            ]
# Where the plots' digitised curve lacks a year, the means read off it by eye stand in.
have = {row[:4] for row in rows}
site_of = {site.split("_", 1)[1]: site for site in curves if site.startswith("chi_")}
facts = yaml.safe_load((ROOT / facts_file).read_text(encoding="utf-8"))
for key, fact in facts.items():
    short, _, rest = key.partition("_")
    year, _, what = rest.partition("_")
    prefix, _, count_type = what.partition("_")
    if short in site_of and year.isdigit() and prefix in collector_of and count_type in compared:
        row = (site_of[short], collector_of[prefix], count_type, int(year))
        if row not in have:
            rows.append((*row, float(fact["value"])))
real = pl.DataFrame(
    rows, schema=["site", "collector_type", "count_type", "year", "value"], orient="row"
).with_columns(pl.lit("real").alias("record"))
# Where a curve begins within a year, or ends, our mean is over the same part of it.
begins = pl.DataFrame(
    [
        (site, collector_of[prefix], count_type, day)
        for site, series in calibration["curves_begin"].items()
        for prefix, _, count_type, day in (
            (*name.partition("_"), day) for name, day in series.items()
        )
    ],
    schema=["site", "collector_type", "count_type", "begin"],
    orient="row",
)


def over_the_curves(site):
    """Give our daily values on the days that the site's curves cover."""
    usage = pl.read_parquet(ROOT / output_dir / site / "usage_timeline.parquet")
    day = pl.col("timestamp").dt.date()
    return (
        base.since_opening(usage)
        .with_columns(pl.col("collector_type", "count_type").cast(pl.String))
        .join(begins, on=["site", "collector_type", "count_type"], how="left")
        .remove((day < pl.col("begin")).fill_null(value=False))
        .remove(day >= calibration["curves_end"])
        .drop("begin")
    )


made = (
    pl.concat(
        over_the_curves(site)
        .drop_nulls("value")
        .group_by(
            "site",
            "collector_type",
            "count_type",
            pl.col("timestamp").dt.truncate("1y"),
            maintain_order=True,
        )
        .agg(pl.col("value").mean())
        for site in names
    )
    .drop_nulls("value")
    .select(
        "site",
        "collector_type",
        "count_type",
        pl.col("timestamp").dt.year().cast(pl.Int64).alias("year"),
        "value",
        pl.lit(ours).alias("record"),
    )
)
both = pl.concat([real, made]).filter(
    pl.col("site").is_in([s for s in names if s in curves]),
    pl.col("count_type").is_in(compared),
    pl.col("collector_type").is_in(list(collector_of.values())),
)

# %% mystnb={"figure": {"name": "fig-real-record", "caption": "Yearly means in nodes: the real published curves (solid, large points) beside ours (dashed, small points; {{ source }}), a panel for each site and count type that has a real curve; each panel has its own scale. Grey: legacy; purple: uncorrected. The nearer a dashed line lies to the solid one of its colour, the more alike. No solid line where the published plot gives no value, and nothing before a site opened: a year's mean is over the days since, and over the part of the year that the curve has. Data: output/plots/real_record.csv."}} tags=["hide-input"] when="has_curves"
real_record.records(both, site_names=names, count_types=compared).save("real_record", figures)

# %% tags=["hide-input"] when="has_curves"
ratios = (
    both.pivot(
        on="record",
        on_columns=["real", ours],
        index=["site", "collector_type", "count_type", "year"],
        values="value",
    )
    .drop_nulls()
    .with_columns((pl.col(ours) / pl.col("real") - 1).alias("difference"))
)
near = pl.col("difference").abs() <= 0.15
measured = ratios.filter(pl.col("count_type") != "idle", pl.col("year") >= 2016)
glue("record_years", measured.height, display=False)
glue("record_years_near", measured.filter(near).height, display=False)
idle = both.filter(pl.col("count_type") == "idle").pivot(
    on="record",
    on_columns=["real", ours],
    index=["site", "collector_type", "year"],
    values="value",
)
apart = idle.drop_nulls().select((pl.col(ours) - pl.col("real")).abs()).to_series()
glue("record_idle", apart.median(), display=False)
glue("record_idle_most", apart.max(), display=False)
summary = (
    measured.group_by("site", "collector_type", "count_type")
    .agg(
        pl.len().alias("years"),
        near.sum().alias("years within 15 %"),
        pl.col("difference").median().alias("median difference"),
    )
    .sort("site", "count_type", "collector_type")
    .with_columns(pl.col("site").replace(names))
)
(
    GT(summary, id="table-real-record", groupname_col="site")
    .fmt_percent("median difference", decimals=1, force_sign=True)
    .cols_label(collector_type="collector", count_type="count")
    .tab_header("How alike the yearly means are, 2016 to 2025")
)

# %% [markdown] when="has_curves"
# Of {glue:text}`record_years:.0f` yearly means from 2016 on, {glue:text}`record_years_near:.0f` lie within 15 % of the
# real ones. *Idle* is the difference of two of them, so that its error in percent says little. In nodes it differs by
# {glue:text}`record_idle:.0f` in the middle, and by {glue:text}`record_idle_most:.0f` at most. *Uncorrected* idle is negative
# before 2022, as the real one is: more nodes in use than leased.

# %% [markdown] when="has_published"
# ## Published machine events and leases
#
# The testbed published its machine events, and others a part of its leases. The pipeline reads
# them like any other source. `data/README.md` says where the files are; here are their monthly
# means.
#
# From 2018 on the files hold a part of the leases and stand far below the level. Around the turn
# of 2016 to 2017 they exceed it, and hold more nodes than the caches of the time{% if twin %}; the twin
# assumes that the caches lack leases there{% endif %}. The machine events retire nobody in 2020, where the caches
# fall: they bear witness of total, and are no measure of it. Leases shorter than five minutes,
# which robots make to test the testbed, are left out of the lead times on both sides.

# %% tags=["hide-input"] when="has_published"
month = pl.col("month").str.to_datetime("%Y-%m", time_zone="UTC").alias("timestamp")
monthly = pl.read_csv(ROOT / real_dir / "published_monthly.csv").select(
    (pl.col("quantity_type") + " (nodes)").alias("panel"),
    month,
    pl.lit("real").alias("record"),
    pl.col("nodes").alias("value"),
)
requested = pl.read_csv(ROOT / real_dir / "published_leadtime.csv").select(
    pl.lit("requested lead time, 90th percentile (h)").alias("panel"),
    month,
    pl.lit("real").alias("record"),
    pl.col("requested_h_p90").alias("value"),
)
here = ROOT / output_dir / published_site
usage = pl.read_parquet(here / "usage_timeline.parquet").filter(
    pl.col("collector_type") == "corrected", pl.col("count_type").is_in(["total", "committed"])
)
# Robots' leases are those held for less than five minutes, as in data/real/recipe.py.
held = pl.read_parquet(ROOT / data_dir / published_site / "blazar.leases.parquet").select(
    pl.col("id").alias("lease_id"),
    (
        pl.min_horizontal("end_date", "deleted_at") - pl.max_horizontal("start_date", "created_at")
    ).alias("held"),
)
leases = (
    pl.read_parquet(here / "leadtime_leases.parquet")
    .join(held, on="lease_id", how="left")
    .remove(pl.col("held").is_between(pl.duration(), pl.duration(minutes=5), closed="none"))
)
beside = pl.concat(
    [
        base.coarsen(usage, "1mo", by=["count_type"]).select(
            (pl.col("count_type") + " (nodes)").alias("panel"),
            pl.col("timestamp"),
            pl.lit(ours).alias("record"),
            "value",
        ),
        leases.group_by(pl.col("created_at").dt.truncate("1mo").alias("timestamp"))
        .agg(pl.col("requested_h").quantile(0.9, "linear").alias("value"))
        .select(
            pl.lit("requested lead time, 90th percentile (h)").alias("panel"),
            "timestamp",
            pl.lit(ours).alias("record"),
            "value",
        ),
    ]
)
published = pl.concat([monthly, requested])
beside = beside.join(published.select("panel", "timestamp"), on=["panel", "timestamp"], how="semi")
published = pl.concat([published, beside])

# %% mystnb={"figure": {"name": "fig-published-record", "caption": "What the published machine events (total), leases (committed) and requests (lead time) of CHI@TACC say by month, in black, beside the corrected count ({{ source }}), in dark blue, on the months of which both tell. Lead time: the 90th percentile of a month's leases, without robots'. Data: output/plots/published_record.csv."}} tags=["hide-input"] when="has_published"
real_record.published(
    published, site_name=site_names([published_site], config)[published_site], ours=ours
).save("published_record", figures)

# %% tags=["remove-cell"] when="has_published"
highest = (
    published.filter(pl.col("panel") == "total (nodes)")
    .group_by("record")
    .agg(pl.col("value").max())
)
for record, value in highest.iter_rows():
    glue(f"published_total_{'real' if record == 'real' else 'ours'}", value, display=False)

# %% [markdown] when="has_published"
# At its highest, the real total is {glue:text}`published_total_real:.0f` nodes, and ours
# {glue:text}`published_total_ours:.0f`.

# %% [markdown] when="has_published"
# The 90th percentile jumps between minutes and days, as it turns on whether a tenth of a month's
# leases were made in advance. Steadier is their share over the whole time. The published files
# sort their leases themselves, and leave out one user as a robot; of ours, those count that start more than an hour
# after they were made, without leases of less than five minutes.

# %% tags=["hide-input"] when="has_published"
gpu = pl.col("node_type").str.contains("gpu").fill_null(value=False)
advance = (
    leases.filter(
        pl.col("created_at").is_between(
            requested["timestamp"].min(), requested["timestamp"].max().replace(day=28)
        )
    )
    .group_by(gpu.alias("gpu"))
    .agg((pl.col("requested_h") > 1).mean().alias("share"))
)
ours_of = dict(advance.iter_rows())
(
    GT(
        pl.DataFrame(
            {
                "leases of": ["nodes with GPU", "nodes without GPU"],
                "real": [facts["leases_advance_gpu"]["value"], facts["leases_advance"]["value"]],
                ours: [ours_of.get(True), ours_of.get(False)],
            }
        ),
        id="table-published-advance",
    )
    .fmt_percent(["real", ours], decimals=1)
    .sub_missing(missing_text="–")
    .tab_header("Share of leases reserved in advance")
)
