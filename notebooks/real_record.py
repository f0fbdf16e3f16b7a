# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = ""
real_dir = "data/real"
facts_file = "data/facts.yaml"
published_site = "chi_tacc"

# %% [markdown]
# (real-record)=
# # The real record
#
# {{ words.opening() }}

# %% tags=["remove-cell"]
import polars as pl
import yaml
from great_tables import GT
from myst_nb import glue

from paper import record
from paper.figures import real_record
from paper.project import ROOT, is_twin, site_names

figures = ROOT / output_dir / "plots"
names = site_names(sites, config)
ours = "twin" if is_twin(ROOT / data_dir) else "database"
calibration = yaml.safe_load((ROOT / "data" / "calibration.yaml").read_text(encoding="utf-8"))
facts = yaml.safe_load((ROOT / facts_file).read_text(encoding="utf-8"))

# %% [markdown] when="has_curves"
# ## Published curves
#
# The published plots show two collectors: the legacy caches, and today's databases taken at their
# word, which we call *uncorrected*.

# %% tags=["remove-cell"] when="has_curves"
made = [
    record.our_means(
        pl.read_parquet(ROOT / output_dir / site / "usage_timeline.parquet"), calibration, ours
    )
    for site in names
]
both = pl.concat([record.published_means(calibration, facts), *made]).filter(
    pl.col("site").is_in([s for s in names if s in calibration["real_curves"]]),
    pl.col("count_type").is_in(record.COMPARED),
    pl.col("collector_type").is_in(list(record.COLLECTORS.values())),
)

# %% mystnb={"figure": {"name": "fig-real-record", "caption": "Yearly means in nodes: the real published curves (solid, large points) beside ours (dashed, small points; {{ source }}), a panel for each site and count type that has a real curve; each panel has its own scale. Grey: legacy; purple: uncorrected. The nearer a dashed line lies to the solid one of its colour, the more alike. No solid line where the published plot gives no value, and nothing before a site opened: a year's mean is over the days since, and over the part of the year that the curve has. Data: {{ output_dir }}/plots/real_record.csv."}} tags=["hide-input"] when="has_curves"
real_record.records(both, site_names=names, count_types=record.COMPARED).save(
    "real_record", figures
)

# %% tags=["remove-cell"] when="has_curves"
measured = record.likeness(both, ours)
apart = record.idle_apart(both, ours)
glue("record_years", measured.height, display=False)
glue("record_years_near", measured["near"].sum(), display=False)
glue("record_idle", apart.median(), display=False)
glue("record_idle_most", apart.max(), display=False)

# %% tags=["hide-input"] when="has_curves"
summary = record.likeness_by_series(measured).with_columns(pl.col("site").replace(names))
(
    GT(summary, id="table-real-record", groupname_col="site")
    .fmt_percent("median difference", decimals=1, force_sign=True)
    .cols_label(collector_type="collector", count_type="count")
    .tab_header("How alike the yearly means are, 2016 to 2025")
)

# %% [markdown] when="has_curves"
# Of {glue:text}`record_years:.0f` yearly means from 2016 on, {glue:text}`record_years_near:.0f` lie within 15 % of the
# real ones. *Idle* is the difference of two of them, so its error in percent says little. In nodes it differs by
# {glue:text}`record_idle:.0f` in the median, and by {glue:text}`record_idle_most:.0f` at most. *Uncorrected* idle is negative
# before 2022, as the real one is: more nodes in use than leased.

# %% [markdown] when="has_published"
# ## Published machine events and leases
#
# The testbed published its machine events, and others published a part of its leases. The pipeline
# reads them like any other source. `data/README.md` says where the files are; this page has their
# monthly means.
#
# {{ words.machine_events() }}

# %% tags=["remove-cell"] when="has_published"
here = ROOT / output_dir / published_site
published = record.published_months(ROOT / real_dir)
leases = record.peoples_leases(
    pl.read_parquet(here / "leadtime_leases.parquet"),
    pl.read_parquet(ROOT / data_dir / published_site / "blazar.leases.parquet"),
)
usage = pl.read_parquet(here / "usage_timeline.parquet")
months = record.months_of_both(published, record.our_months(usage, leases, ours))

# %% mystnb={"figure": {"name": "fig-published-record", "caption": "What the published machine events (total), leases (committed) and requests (lead time) of CHI@TACC say by month, in black, beside the corrected count ({{ source }}), in dark blue, on the months of which both tell. Lead time: the 90th percentile of a month's leases, without robots'. Data: {{ output_dir }}/plots/published_record.csv."}} tags=["hide-input"] when="has_published"
real_record.published(
    months, site_name=site_names(published_site, config)[published_site], ours=ours
).save("published_record", figures)

# %% tags=["remove-cell"] when="has_published"
totals = months.filter(pl.col("panel") == "total (nodes)")
for name, label in (("real", "real"), (ours, "ours")):
    highest = totals.filter(pl.col("record") == name)["value"].max()
    glue(f"published_total_{label}", highest, display=False)

# %% [markdown] when="has_published"
# At its highest, the real total is {glue:text}`published_total_real:.0f` nodes, and ours
# {glue:text}`published_total_ours:.0f`.

# %% [markdown] when="has_published"
# The 90th percentile jumps between minutes and days, since it depends on whether a tenth of a month's
# leases were made in advance. Their share over the whole time is steadier. The published files say
# which leases were made in advance, and one user is left out as a robot; of ours, a lease was made in advance
# if it starts more than an hour after it was made, and leases of less than five minutes are left out.

# %% tags=["hide-input"] when="has_published"
advance = record.advance_shares(leases, published)
(
    GT(
        pl.DataFrame(
            {
                "leases of": ["nodes with GPU", "nodes without GPU"],
                "real": [facts["leases_advance_gpu"]["value"], facts["leases_advance"]["value"]],
                ours: [advance.get(True), advance.get(False)],
            }
        ),
        id="table-published-advance",
    )
    .fmt_percent(["real", ours], decimals=1)
    .sub_missing(missing_text="–")
    .tab_header("Share of leases reserved in advance")
)
