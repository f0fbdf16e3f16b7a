# %% tags=["parameters", "remove-cell"]
site = "chi_tacc"  # or another of which output_dir has a folder
start = ""  # the first day, as in "2018-01-01"; empty: from the first on
end = ""  # the day after the last one; empty: to the last
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"

# %% [markdown]
# (site-{{ site }})=
# # {{ site_name }}
#
# {{ words.simulated() }}
#
# A [guide to the pages of the sites](#reading-sites) says how to read their figures and tables.

# %% tags=["remove-cell"]
import polars as pl
from great_tables import GT
from myst_nb import glue

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.viz.availability import availability, coverage
from chameleon_usage.viz.base import COMPARED
from chameleon_usage.viz.collectors import comparison, usage_facet
from chameleon_usage.viz.leadtime import density, leadtime
from chameleon_usage.viz.leadtime_projected import projected
from chameleon_usage.viz.leadtime_shares import delays, hours_of_week, survival
from chameleon_usage.viz.lease_use import lease_use
from chameleon_usage.viz.rejects import rejects
from chameleon_usage.viz.stack import node_types, out_of_use, resources, usage_stack
from chameleon_usage.viz.tables import rejected
from paper import findings, period, tables, truth
from paper.project import ROOT, events, is_twin, site_names

output = period.cut(ROOT, site, output_dir, start, end)
here = output / site
figures = output / "plots"
name = site_names(site, config)[site]
heading = f"Simulated {name}" if is_twin(ROOT / data_dir) else name
usage = pl.read_parquet(here / "usage_timeline.parquet")

# %% tags=["remove-cell"]
for key, value in findings.of_site(here).items():
    glue(f"{site}_{key}", value, display=False)

# %% [markdown]
# {{ words.in_short() }}

# %% [markdown]
# ## What the nodes were doing
#
# {{ words.states() }}

# %% mystnb={"figure": {"name": "fig-{{ site }}-stack", "caption": "{{ words.stack() }} Data: {{ output_dir }}/plots/{{ site }}_stack.csv."}} tags=["hide-input"]
shares = pl.read_parquet(here / "coverage.parquet")
usage_stack(usage, site_name=name, events=events([site]), shares=shares).save(
    f"{site}_stack", figures
)

# %% mystnb={"figure": {"name": "fig-{{ site }}-percent", "caption": "{{ words.percent() }} Data: {{ output_dir }}/plots/{{ site }}_stack_percent.csv."}} tags=["hide-input"]
usage_stack(usage, site_name=name, percent=True).save(f"{site}_stack_percent", figures)

# %% tags=["remove-cell"]
yearly = tables.yearly_means(usage)
on_demand = (yearly.filter(pl.col("count_type") == "ondemand_capacity")["value"] > 0).any()
shown = ["total", "reservable", "committed", "occupied", "active", "available", "idle"]
shown += ["available_ondemand"] if on_demand else []

# %% tags=["hide-input"]
(
    GT(tables.corrected_by_year(yearly, shown), id=f"table-{site}-yearly")
    .tab_header("Yearly means, in nodes")
    .fmt_number(shown, decimals=1)
    .sub_missing(missing_text="unknown")
    .cols_label({count: METRICS[count].label for count in shown})
    .tab_options(table_font_size="85%")
)

# %% tags=["remove-cell"]
for row in yearly.sort("collector_type", "count_type", "year").iter_rows(named=True):
    tail = "" if row["collector_type"] == "corrected" else f"_{row['collector_type']}"
    glue(f"{site}_{row['count_type']}_{row['year']}{tail}", row["value"], display=False)

# %% [markdown] when="has_status"
# ## Usable or not

# %% mystnb={"figure": {"name": "fig-{{ site }}-out-of-use", "caption": "Nodes of {{ site_name }} ({{ source }}) that were out of use, in the pool or not, by cause, weekly means. Black line: all of them. Grey: not known. Data: {{ output_dir }}/plots/{{ site }}_out_of_use.csv."}} tags=["hide-input"] when="has_status"
out_of_use(usage, site_name=name).save(f"{site}_out_of_use", figures)

# %% tags=["hide-input"] when="has_status"
pool = ["reservable", "reservable_usable", "reservable_unusable"]
(
    GT(tables.corrected_by_year(yearly, pool), id=f"table-{site}-usable")
    .fmt_number(pool, decimals=1)
    .sub_missing(missing_text="unknown")
    .cols_label({count: METRICS[count].label for count in pool})
    .tab_options(table_font_size="85%")
)

# %% [markdown]
# ## The collectors side by side
#
# {{ words.collectors() }}

# %% mystnb={"figure": {"name": "fig-{{ site }}-facet", "caption": "{{ words.facet() }} Data: {{ output_dir }}/plots/{{ site }}_facet.csv."}} tags=["hide-input"]
beside = usage
if truth.known(ROOT / data_dir, site):
    beside = truth.beside(usage, pl.read_parquet(truth.path(ROOT / data_dir, site)), COMPARED)
usage_facet(beside, site_name=heading).save(f"{site}_facet", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-comparison", "caption": "Corrected minus legacy at {{ site_name }} ({{ source }}), monthly means in nodes. Grey: one of them has no figure. Data: {{ output_dir }}/plots/{{ site }}_comparison.csv."}} tags=["hide-input"] when="has_legacy"
compared = pl.read_parquet(here / "comparison.parquet")
comparison(compared, site_name=name).save(f"{site}_comparison", figures)

# %% tags=["hide-input"] when="has_causes"
causes = tables.causes_by_era(pl.read_parquet(here / "comparison_causes.parquet"))
eras = causes.columns[2:]
(
    GT(causes, id=f"table-{site}-causes", groupname_col="count_type", rowname_col="cause")
    .fmt_number(eras, decimals=0, scale_by=1e-3, force_sign=True)
    .sub_missing(missing_text="")
    .tab_options(table_font_size="85%")
    .tab_header("Corrected minus uncorrected, in thousands of node-hours")
)

# %% [markdown]
# ## Node types and resources

# %% mystnb={"figure": {"name": "fig-{{ site }}-node-types", "caption": "{{ words.node_types() }} Data: {{ output_dir }}/plots/{{ site }}_node_types.csv."}} tags=["hide-input"]
node_types(pl.read_parquet(here / "usage_by_node_type.parquet"), site_name=name).save(
    f"{site}_node_types", figures
)

# %% mystnb={"figure": {"name": "fig-{{ site }}-resources", "caption": "{{ words.resources() }} Data: {{ output_dir }}/plots/{{ site }}_resources.csv."}} tags=["hide-input"]
resources(pl.read_parquet(here / "usage_by_resource.parquet"), site_name=name).save(
    f"{site}_resources", figures
)

# %% [markdown]
# ## Lead times

# %% tags=["remove-cell"]
leases = tables.with_gpus(
    pl.read_parquet(here / "leadtime_leases.parquet"),
    pl.read_parquet(here / "usage_by_node_type.parquet"),
)

# %% mystnb={"figure": {"name": "fig-{{ site }}-leadtime-density", "caption": "{{ words.density() }} Data: {{ output_dir }}/plots/{{ site }}_leadtime_density.csv."}} tags=["hide-input"]
density(leases, site_name=name).save(f"{site}_leadtime_density", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-leadtime", "caption": "{{ words.points() }} Data: {{ output_dir }}/plots/{{ site }}_leadtime.csv."}} tags=["hide-input"]
leadtime(leases, site_name=name).save(f"{site}_leadtime", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-leadtime-survival", "caption": "{{ words.survival() }} Data: {{ output_dir }}/plots/{{ site }}_leadtime_survival.csv."}} tags=["hide-input"]
survival(leases, site_name=name).save(f"{site}_leadtime_survival", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-leadtime-delays", "caption": "{{ words.delays() }} Data: {{ output_dir }}/plots/{{ site }}_leadtime_delays.csv."}} tags=["hide-input"]
delays(leases, site_name=name).save(f"{site}_leadtime_delays", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-leadtime-week", "caption": "{{ words.week() }} Data: {{ output_dir }}/plots/{{ site }}_leadtime_week.csv."}} tags=["hide-input"]
hours_of_week(leases, site_name=name).save(f"{site}_leadtime_week", figures)

# %% tags=["hide-input"]
outcomes = tables.lease_outcomes(leases)
(
    GT(outcomes, id=f"table-{site}-outcomes")
    .fmt_integer("leases")
    .fmt_number(outcomes.columns[2:], decimals=2)
    .sub_missing(missing_text="–")
)

# %% mystnb={"figure": {"name": "fig-{{ site }}-leadtime-projected", "caption": "{{ words.projected() }} Data: {{ output_dir }}/plots/{{ site }}_leadtime_projected.csv."}} tags=["hide-input"] when="has_projected"
waits = pl.read_parquet(here / "leadtime_projected.parquet")
projected(waits, site_name=name).save(f"{site}_leadtime_projected", figures)

# %% [markdown] when="has_lease_use"
# ## Leased, and not used
#
# {{ words.lease_use() }}

# %% mystnb={"figure": {"name": "fig-{{ site }}-lease-use", "caption": "{{ words.waste() }} Data: {{ output_dir }}/plots/{{ site }}_lease_use.csv."}} tags=["hide-input"] when="has_lease_use"
use = pl.read_parquet(here / "lease_use.parquet")
lease_use(use, site_name=name).save(f"{site}_lease_use", figures)

# %% tags=["hide-input"] when="has_lease_use"
(
    GT(tables.lease_use_by_year(use), id=f"table-{site}-lease-use")
    .fmt_integer("leases")
    .fmt_number(["reserved", "given back"], decimals=0)
    .fmt_percent(["no-shows", "released early", "used", "idle"], decimals=1)
    .sub_missing(missing_text="unknown")
    .tab_spanner("share of leases", ["no-shows", "released early"])
    .tab_spanner("node-hours", ["reserved", "given back"])
    .tab_spanner("share of reserved", ["used", "idle"])
    .tab_options(table_font_size="85%")
)

# %% [markdown]
# ## What did not count, and why

# %% mystnb={"figure": {"name": "fig-{{ site }}-rejects", "caption": "Hours of rows that the corrected count rejected at {{ site_name }} ({{ source }}), by stage, source and reason, with the number of rows; the scale is linear near zero and logarithmic above. Data: {{ output_dir }}/plots/{{ site }}_rejects.csv."}} tags=["hide-input"]
audit = pl.read_parquet(here / "rejects.parquet")
rejects(audit, site_name=name).save(f"{site}_rejects", figures)

# %% tags=["remove-cell"]
lost = rejected(audit).filter(~pl.col("superseded"))
glue(f"{site}_rejected_rows", int(lost["rows"].sum()), display=False)
glue(f"{site}_rejected_total", tables.duplicate_hours(audit) / 1e6, display=False)

# %% tags=["hide-input"]
joins = pl.read_parquet(here / "join_log.parquet").with_columns(
    pl.when(pl.col("matched") > 0).then("fan_out").alias("fan_out")
)
(
    GT(joins, id=f"table-{site}-joins")
    .fmt_integer([c for c, t in joins.schema.items() if t.is_integer()])
    .fmt_number([c for c, t in joins.schema.items() if t.is_float()], decimals=3)
    .sub_missing(missing_text="–")
    .cols_label(name="join", rows_left="rows", fan_out="matches per matched row")
    .tab_options(table_font_size="85%")
)

# %% [markdown]
# ## Data availability

# %% mystnb={"figure": {"name": "fig-{{ site }}-known", "caption": "{{ words.known() }} Data: {{ output_dir }}/plots/{{ site }}_known.csv."}} tags=["hide-input"]
availability(shares, usage, site_name=name).save(f"{site}_known", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-coverage", "caption": "Share of host time that each source supports at {{ site_name }} ({{ source }}), by month and quantity: dark is known, grey is not. White: nothing was there yet. Data: {{ output_dir }}/plots/{{ site }}_coverage.csv."}} tags=["hide-input"]
coverage(shares, site_name=name, on_demand=on_demand).save(f"{site}_coverage", figures)
