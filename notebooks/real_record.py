# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = ""
real_dir = "data/real"
facts_file = "data/facts.yaml"
published_sites = "chi_tacc chi_uc"

# %% [markdown]
# (real-record)=
# # The real record
#
# {{ words.opening() }}

# %% tags=["remove-cell"]
import polars as pl
from great_tables import GT
from myst_nb import glue

from chameleon_usage.viz.palette import site_shades
from paper import leases, published, record
from paper.figures import real_leases, real_record
from paper.project import ROOT, is_twin, read_yaml, site_colours, site_names

figures = ROOT / output_dir / "plots"
real = ROOT / real_dir
names = site_names(sites, config)
ours = "twin" if is_twin(ROOT / data_dir) else "database"
calibration = read_yaml("data/calibration.yaml")
facts = read_yaml(facts_file)
curves = record.published_means(calibration, facts)

# %% [markdown] when="has_published"
# ## The machines, 2015 to 2020
#
# {{ words.machines() }}

# %% tags=["remove-cell"] when="has_published"
present = [site for site in published_sites.split() if site in names]
whole = leases.BOTH if len(present) > 1 else present[0]
machines = pl.read_csv(real / "published_machines.csv")
events = pl.read_csv(real / "published_machine_events.csv")
last = machines.filter(pl.col("month") == pl.col("month").max().over("site"))
for site in published_sites.split():
    own = events.filter(site=site)
    glue(f"machines_{site}_events", own["events"].sum(), display=False)
    glue(f"machines_{site}_last", last.filter(site=site)["nodes"].sum(), display=False)
    glue(f"machines_{site}_deleted", own.filter(event="DELETE")["events"].sum(), display=False)
    off = machines.filter(site=site).group_by("month").agg(pl.col("disabled", "nodes").sum())
    off = off.filter(pl.col("month") >= "2017").sort("month")  # one order, one last digit
    glue(f"machines_{site}_off", off["disabled"].sum() / off["nodes"].sum(), display=False)

# %% [markdown] when="has_published"
# ## The use of the machines
#
# {{ words.usage() }}

# %% tags=["remove-cell"] when="has_published"
by_month = published.published_months(real, curves, present)
usage = [pl.read_parquet(ROOT / output_dir / s / "usage_timeline.parquet") for s in present]
counted = published.our_months(pl.concat(usage), by_month, ours)
shares = published.share_published(by_month)
for label, of in (("before", pl.col("year") < 2018), ("after", pl.col("year") >= 2018)):
    found = shares.filter(of)["share"]
    glue(f"share_{label}_least", found.min(), display=False)
    glue(f"share_{label}_most", found.max(), display=False)
sums = shares.filter(pl.col("year") >= 2018).select(pl.col("files", "caches").sum())
glue("share_after", (sums["files"] / sums["caches"]).item(), display=False)

# %% mystnb={"figure": {"name": "fig-published-record", "caption": "Nodes by month: the published files (black), the caches of the time (grey bars, yearly means of the digitised curves, to about half a node), and the corrected count of the *{{ words.ours() }}* (indigo). Total: from the machine events. Committed: from the lease files, which hold only a part of the leases. From 2018 on the black line therefore lies far below the grey bars: compare the indigo line with the bars. No bar: that year cannot be read off the published plot. Data: {{ output_dir }}/plots/published_record.csv."}} tags=["hide-input"] when="has_published"
real_record.published(
    pl.concat([by_month, counted]),
    site_names=names,
    files=published.FILES,
    caches=published.CACHES,
    ours=ours,
    partial=" (the files hold a part)",
).save("published_record", figures)

# %% [markdown] when="has_published"
# ## What the lease files hold
#
# {{ words.files() }}

# %% tags=["remove-cell"] when="has_published"
held = pl.read_csv(real / "published_files.csv")
early = pl.col("month") < leases.CHANGED
for label, of in (("before", early), ("after", ~early)):
    made = held.filter(of).select(pl.col("leases", "completed", "early").sum())
    glue(f"files_{label}_completed", (made["completed"] / made["leases"]).item(), display=False)
    glue(f"files_{label}_early", (made["early"] / made["leases"]).item(), display=False)
changed = pl.Series([leases.CHANGED]).str.to_date("%Y-%m").dt.strftime("%B %Y").item()
glue("files_month", changed, display=False)
declared = site_colours(published_sites, config)
shades = {site: site_shades(site, declared)[0] for site in published_sites.split()}

# %% mystnb={"figure": {"name": "fig-real-files", "caption": "Leases in the published files by the month in which they were made, those of robots left out (left), and the share of them that their user deleted before their end (right; months with fewer than ten leases left out). Dashed line: the month from which on the files hold another kind of leases. {{ words.peak() }}The fall in the last month is of leases still running when the files were made. Counts of all rows of the files, so without an interval. Data: {{ output_dir }}/plots/real_files.csv."}} tags=["hide-input"] when="has_published"
real_leases.files(
    held,
    site_names=site_names(published_sites, config),
    colours=shades,
    changed=leases.CHANGED,
).save("real_files", figures)

# %% [markdown] when="has_published"
# ### Robots
#
# {{ words.robots() }}

# %% tags=["remove-cell"] when="has_published"
robots = pl.read_csv(real / "published_robots.csv")
glue("robot_minutes", leases.ROBOT_MINUTES, display=False)
glue("robot_least", leases.ROBOT_LEASES, display=False)
glue("robot_leases", robots["leases"].sum(), display=False)
glue("robot_hours", robots["node_hours"].sum(), display=False)
glue(
    "leases_all",
    held.select((pl.col("leases") + pl.col("robot_leases")).sum()).item(),
    display=False,
)
glue("leases_people", held["leases"].sum(), display=False)

# %% [markdown] when="has_published"
# ## How people lease
#
# {{ words.people() }}

# %% tags=["remove-cell"] when="has_published"
ours_measured = leases.measured(
    published.leases_of_all(ROOT / output_dir, ROOT / data_dir, present, held["month"])
)
ours_people = leases.without_robots(ours_measured)
real_curve = pl.read_csv(real / "published_survival.csv").filter(site=whole, era="all")
our_curve = leases.survival(ours_people, only=(whole, "all"))
both_curves = pl.concat(
    [
        real_curve.with_columns(pl.lit("real").alias("record")),
        our_curve.with_columns(pl.lit(ours).alias("record")),
    ],
    how="vertical_relaxed",
)

# %% mystnb={"figure": {"name": "fig-real-survival", "caption": "Share of leases longer than a time, on nodes with GPUs and without: lead time of those made in advance, requested duration of all, actual duration of those that held nodes. Solid, with bands: real, {{ words.where() }}, 2016-09 to 2021-06, without robots; the band is the 95% interval when users are drawn with replacement. Dashed: leases of the {{ words.ours() }} ({{ source }}), of the same months and by the same rules. {{ words.short() }}A step is a limit or a round number that people ask for: a day, a week. Data: {{ output_dir }}/plots/real_survival.csv."}} tags=["hide-input"] when="has_published"
real_leases.survival(both_curves, ours=ours).save("real_survival", figures)

# %% tags=["remove-cell"] when="has_published"
real_figures = pl.read_csv(real / "published_leases.csv").filter(site=whole)
our_figures = leases.figures(ours_people, only=(whole, "all"))
beside = published.figures_beside(real_figures.filter(era="all"), our_figures)
if whole == leases.BOTH:
    apart = pl.read_csv(real / "published_leases.csv").filter(
        site="chi_tacc", era="all", nodes="non_gpu", figure="requested_median_h"
    )
    glue("people_requested_tacc", apart["value"].item(), display=False)
    together = real_figures.filter(era="all", nodes="non_gpu", figure="requested_median_h")
    glue("people_requested_both", together["value"].item(), display=False)
for label, era in (("before", 1), ("after", 2)):
    of_era = real_figures.filter(era=list(leases.ERAS)[era], nodes="all")
    for name, figure in (("early", "released_early_share"), ("held", "actual_median_h")):
        value = of_era.filter(figure=figure)["value"].item()
        glue(f"people_{name}_{label}", value, display=False)

ours_early = our_figures.filter(nodes="all", figure="released_early_share")["value"]
glue("people_early_ours", ours_early.item() if len(ours_early) else None, display=False)
held_for = both_curves.filter(pl.col("hours") <= 1, quantity="actual duration")
short = held_for.filter(hours=held_for["hours"].max()).sort("record", "nodes")
glue("people_short_h", short["hours"].max(), display=False)
for label, kind in (("", "non_gpu"), ("_gpu", "gpu")):
    for name, made_by in (("real", "real"), ("ours", ours)):
        share = short.filter(nodes=kind, record=made_by)["share"]
        value = 1 - share.item() if len(share) else None
        glue(f"people_short{label}_{name}", value, display=False)

# %% tags=["hide-input"] when="has_published"
(
    GT(beside, id="table-real-leases", groupname_col="nodes", rowname_col="figure")
    .cols_label(leases="leases", real="real", interval="95% interval", ours=ours)
    .fmt_integer("leases")
    .cols_align("right", ["real", "interval", "ours"])
    .tab_header("Lead times and durations of published leases, without robots")
)
