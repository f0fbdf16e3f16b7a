# %% tags=["parameters", "remove-cell"]
site = "chi_tacc"
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"

# %% [markdown]
# (site-{{ site }})=
# # {{ site_name }}
#
# {% if twin %}```{note}
# Simulated: the numbers on this page are those of the twin's {{ site_name }}, not of the real one.
# ```
# {% endif %}

# %% tags=["remove-cell"]
import polars as pl
from great_tables import GT
from myst_nb import glue

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.viz import base, findings
from chameleon_usage.viz.breakdown import node_types, resources
from chameleon_usage.viz.collectors import comparison, usage_facet
from chameleon_usage.viz.known import coverage, known
from chameleon_usage.viz.leadtime import leadtime
from chameleon_usage.viz.paper import ROOT, site_names
from chameleon_usage.viz.rejects import rejects
from chameleon_usage.viz.stack import usage_stack
from chameleon_usage.viz.tables import rejected

here = ROOT / output_dir / site
figures = ROOT / output_dir / "plots"
name = site_names([site], config)[site]
usage = pl.read_parquet(here / "usage_timeline.parquet")
for key, value in findings.of_site(here).items():
    glue(f"{site}_{key}", value, display=False)

# %% [markdown]
# ## In short
#
# {% if "used_share" in found %}- *Used.* {glue:text}`{{ site }}_used_share:.1%` of all node-hours were
#   occupied{% if "used_peak" in found %}, most in {glue:text}`{{ site }}_used_peak:.0f`
#   ({glue:text}`{{ site }}_used_peak_share:.1%`), least in {glue:text}`{{ site }}_used_low:.0f`
#   ({glue:text}`{{ site }}_used_low_share:.1%`){% endif %}.{% if "ran_share" in found %} Of what was
#   occupied, {glue:text}`{{ site }}_ran_share:.1%` ran; the rest was held by instances that were stopped
#   or not yet running.{% endif %}
# {% endif %}{% if "leased_share" in found %}- *Leased.* Leases held
#   {glue:text}`{{ site }}_leased_share:.1%` of the nodes in the pool{% if "leased_of_all" in found %}, which
#   is {glue:text}`{{ site }}_leased_of_all:.1%` of all node-hours of the site{% endif %}{% if "leased_peak" in found %};
#   of the pool most in
#   {glue:text}`{{ site }}_leased_peak:.0f` ({glue:text}`{{ site }}_leased_peak_share:.1%`), least in
#   {glue:text}`{{ site }}_leased_low:.0f` ({glue:text}`{{ site }}_leased_low_share:.1%`){% endif %}.{% if "idle_share" in found %}
#   On {glue:text}`{{ site }}_idle_share:.1%` of what was leased stood no instance.{% endif %}
# {% endif %}{% if "busy_type" in found %}- *Which nodes.* Of the types with a hundredth or more of the
#   site's node-hours, {glue:text}`{{ site }}_busy_type:s` had the highest share of its node-hours
#   {{ found["busy_word"] }} ({glue:text}`{{ site }}_busy_share:.1%`), {glue:text}`{{ site }}_quiet_type:s` the
#   lowest ({glue:text}`{{ site }}_quiet_share:.1%`). Of all {{ found["busy_word"] }} node-hours,
#   {glue:text}`{{ site }}_most_type:s` has the largest part, {glue:text}`{{ site }}_most_share:.1%`.{% if "untyped_share" in found %}
#   Of {glue:text}`{{ site }}_untyped_share:.1%` of the node-hours no record tells the type; they are not
#   ranked.{% endif %}
# {% endif %}{% if "leases" in found %}- *Ahead.* Of all {glue:text}`{{ site }}_leases:,.0f` leases, however short,
#   {glue:text}`{{ site }}_advance_share:.1%` were made more than an hour ahead{% if "advance_hours" in found %},
#   by {glue:text}`{{ site }}_advance_hours:,.0f` hours in the median{% endif %}, and
#   {glue:text}`{{ site }}_failed_share:.1%` were cancelled or ended in error.
# {% endif %}{% if "gap_year" in found or "word_year" in found %}- *Other counts.*{% if "gap_year" in found %}
#   The yearly means of *corrected* and *legacy* are furthest apart in
#   {glue:text}`{{ site }}_gap_year:.0f`, for {glue:text}`{{ site }}_gap_count:s`: corrected counts
#   {glue:text}`{{ site }}_gap_nodes:.1f` nodes {{ found["gap_word"] }}{% if "gap_share" in found %}, which is
#   {glue:text}`{{ site }}_gap_share:.1%` of its own count{% endif %}.{% if "gap_types" in found %} Of these,
#   {glue:text}`{{ site }}_gap_types:.1f` are of node types that legacy does not have in that
#   year{% if found["gap_types"] < found["gap_nodes"] - 0.05 %}, the rest are
#   elsewhere{% endif %}.{% endif %}{% endif %}{% if "word_year" in found %}
#   Today's rows, taken at their word, are furthest off in {glue:text}`{{ site }}_word_year:.0f`, for
#   {glue:text}`{{ site }}_word_count:s`: {glue:text}`{{ site }}_word_uncorrected:,.1f` nodes, where the
#   reconstruction has {glue:text}`{{ site }}_word_corrected:,.1f`.{% endif %}
# {% endif %}{% if "refused_rows" in found %}- *Refused.* The audit has
#   {glue:text}`{{ site }}_refused_rows:,.0f` entries{% if "refused_records" in found %} on
#   {glue:text}`{{ site }}_refused_records:,.0f` rows of tables, each of which can be refused once for every
#   quantity{% endif %}.{% if "refused_reason" in found %} Where no other row tells the same hours, most were
#   refused for: {glue:text}`{{ site }}_refused_reason:s`, in {glue:text}`{{ site }}_refused_source:s`
#   ({glue:text}`{{ site }}_refused_hours:,.0f` entity-hours).{% else %} No hour is lost with them.{% endif %}
# {% endif %}

# %% [markdown]
# ## What the nodes were doing
#
# Every {% if has_ondemand %}share of a {% endif %}node is in exactly one state at every moment. The
# parts add up to the black line.{% if use_unknown %} No record of what ran on this site is left:
# what a lease holds is *leased (use unknown)*, whether or not anything ran on it.{% endif %}
# {% if site == "kvm_tacc" %}
# The site's first cloud had databases of its own and is not in this record: the tables hold no
# node before the record begins, though the real site had some.
# {% endif %}

# %% mystnb={"figure": {"name": "fig-{{ site }}-stack", "caption": "Nodes of {{ site_name }} by what they were doing ({{ source }}), weekly means. The parts add up to the black line, the total. Nothing is drawn before the first day on which the site has a node.{% if use_unknown %} Leased (use unknown): a lease holds the node, and nobody knows whether anything ran on it.{% endif %}{% if has_unknown %} Grey: not known, which is not zero.{% endif %} Data: output/plots/{{ site }}_stack.csv."}} tags=["hide-input"]
usage_stack(usage, site_name=name).save(f"{site}_stack", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-percent", "caption": "The same in percent of all nodes of {{ site_name }} ({{ source }}): how {% if use_unknown %}much of it was leased{% else %}well the site was used{% endif %}, whatever its size. Data: output/plots/{{ site }}_stack_percent.csv."}} tags=["hide-input"]
usage_stack(usage, site_name=name, percent=True).save(f"{site}_stack_percent", figures)

# %% [markdown]
# Yearly means, in nodes. A value is given where at least 95 % of the year's days are known. The mean of
# the year in which a site opens is over the days from its first node on.

# %% tags=["hide-input"]
shown = ["total", "reservable", "committed", "occupied", "active", "available", "idle"]
collectors = ["legacy", "uncorrected", "corrected"]
yearly = (
    base.coarsen(base.since_opening(usage), "1y", by=["collector_type", "count_type"])
    .with_columns(pl.col("timestamp").dt.year().alias("year"))
    .drop_nulls("value")
)
if (yearly.filter(pl.col("count_type") == "ondemand_capacity")["value"] > 0).any():
    shown.append("available_ondemand")
(
    GT(
        yearly.filter(pl.col("collector_type") == "corrected")
        .pivot(on="count_type", on_columns=shown, index="year", values="value")
        .remove(pl.col("total") == 0)
        .sort("year")
        .select("year", *shown),
        id=f"table-{site}-yearly",
    )
    .fmt_number(shown, decimals=1)
    .sub_missing(missing_text="unknown")
    .cols_label({count: METRICS[count].label for count in shown})
    .tab_options(table_font_size="85%")
)

# %% tags=["remove-cell"]
for row in yearly.sort("collector_type", "count_type", "year").iter_rows(named=True):
    tail = "" if row["collector_type"] == "corrected" else f"_{row['collector_type']}"
    glue(f"{site}_{row['count_type']}_{row['year']}{tail}", row["value"], display=False)

# %% [markdown]
# ## The collectors side by side
#
# *uncorrected* takes each row of today's databases at its word, *corrected* is our reconstruction.
# {% if has_legacy %}*legacy* is what the earlier collector wrote at the time.{% else %}The earlier
# collector left no figures of this site.{% endif %}

# %% mystnb={"figure": {"name": "fig-{{ site }}-facet", "caption": "The same four counts by each collector at {{ site_name }} ({{ source }}), monthly means, from the day on which the site opens. Dashed below the solid line: rows are gone. Dashed above it: rows that were closed late or never, or are counted twice.{% if has_legacy %} The wide grey line is legacy: below the solid line it lacks node types that it does not know, or leases that it did not note; above it, it counts hosts that no record names.{% endif %}{% if use_unknown %} Occupied: the rows of containers are gone, so the corrected count is not known. A dashed zero is what today's tables say, not what happened.{% endif %} Data: output/plots/{{ site }}_facet.csv."}} tags=["hide-input"]
usage_facet(usage, site_name=name).save(f"{site}_facet", figures)

# %% mystnb={"figure": {"name": "fig-{{ site }}-comparison", "caption": "Corrected minus legacy at {{ site_name }} ({{ source }}), monthly means in nodes. Zero means that both agree; nothing is drawn where one of them has no figure. Data: output/plots/{{ site }}_comparison.csv."}} tags=["hide-input"] when="has_legacy"
compared = pl.read_parquet(here / "comparison.parquet")
comparison(compared, site_name=name).save(f"{site}_comparison", figures)

# %% [markdown] when="has_causes"
# Why *corrected* and *uncorrected* differ, as far as the audit knows: what was inferred adds to what
# the rows say, what was refused takes away. The rest is what no single row accounts for, most of
# all the replay of events, which moves the bounds of instances that are kept.

# %% tags=["hide-input"] when="has_causes"
causes = (
    pl.read_parquet(here / "comparison_causes.parquet")
    .with_columns(
        pl.lit("2016–2017").alias("era"),
        pl.col("timestamp").dt.year().alias("year"),
        pl.col("cause").eq("rest").alias("is_rest"),
    )
    .with_columns(
        pl.when(pl.col("year") >= 2022)
        .then(pl.lit("2022 on"))
        .when(pl.col("year") >= 2020)
        .then(pl.lit("2020–2021"))
        .when(pl.col("year") >= 2018)
        .then(pl.lit("2018–2019"))
        .otherwise("era")
        .alias("era")
    )
)
eras = causes["era"].unique().sort().to_list()
by_cause = (
    causes.group_by("count_type", "cause", "is_rest", "era", maintain_order=True)
    .agg(pl.col("node_hours").sum())
    .pivot(on="era", on_columns=eras, index=["count_type", "is_rest", "cause"])
    .remove(pl.all_horizontal(pl.col(eras).abs().fill_null(0) < 500))
)
(
    GT(
        by_cause.sort(pl.col("count_type").cast(pl.Enum(list(METRICS))), "is_rest", "cause").select(
            pl.col("count_type").replace({c: m.label for c, m in METRICS.items()}), "cause", *eras
        ),
        id=f"table-{site}-causes",
        groupname_col="count_type",
        rowname_col="cause",
    )
    .fmt_number(eras, decimals=0, scale_by=1e-3, force_sign=True)
    .sub_missing(missing_text="")
    .tab_options(table_font_size="85%")
    .tab_header("Corrected minus uncorrected, in thousands of node-hours")
)

# %% [markdown]
# ## Node types and resources

# %% mystnb={"figure": {"name": "fig-{{ site }}-node-types", "caption": "What the nodes of each type were doing at {{ site_name }} ({{ source }}), monthly means, the types with most node-hours first.{% if has_unknown %} Light grey: not known.{% endif %} Data: output/plots/{{ site }}_node_types.csv."}} tags=["hide-input"]
node_types(pl.read_parquet(here / "usage_by_node_type.parquet"), site_name=name).save(
    f"{site}_node_types", figures
)

# %% mystnb={"figure": {"name": "fig-{{ site }}-resources", "caption": "What each resource of {{ site_name }} was doing ({{ source }}), in percent of its total, monthly means.{% if not has_ondemand and not devices %} A bare-metal instance holds the whole node in every resource.{% endif %} Grey, where there is any: not known. {% if has_ondemand %}How many GPUs a slice or a virtual machine holds is in none of the tables that are read.{% else %}Nobody recorded the resources of hosts that are gone unless an inventory lists them.{% endif %} Data: output/plots/{{ site }}_resources.csv."}} tags=["hide-input"]
resources(pl.read_parquet(here / "usage_by_resource.parquet"), site_name=name).save(
    f"{site}_resources", figures
)

# %% [markdown]
# ## Lead times
#
# How long before its start a lease was made, and how long until the first instance of it was built, where that is
# known, else until its start event.

# %% mystnb={"figure": {"name": "fig-{{ site }}-leadtime", "caption": "Hours from a lease's creation to its requested start, and to its first real start, at {{ site_name }} ({{ source }}); a point is a lease, and where there are many, only some are drawn, as the title says; colour is the node type, log scale. Most leases start at once: they lie on the lower edge. Data: output/plots/{{ site }}_leadtime.csv."}} tags=["hide-input"]
leases = pl.read_parquet(here / "leadtime_leases.parquet")
leadtime(leases, site_name=name).save(f"{site}_leadtime", figures)

# %% [markdown]
# The start date of a lease that begins at once is cut to the full minute and so lies just before
# its creation: the lead time is then slightly negative, and 0.00 here. Where no first create is
# known, the lease's start event stands in for it, which follows within seconds: with many such
# leases (the join log below says how many) the median of the effective lead time is that of the event.

# %% tags=["hide-input"]
outcomes = (
    leases.group_by("outcome")
    .agg(
        pl.len().alias("leases"),
        pl.col("requested_h").median().clip(0).alias("requested, median (h)"),
        pl.col("effective_h").median().clip(0).alias("effective, median (h)"),
    )
    .sort("leases", "outcome", descending=[True, False])
)
(
    GT(outcomes, id=f"table-{site}-outcomes")
    .fmt_integer("leases")
    .fmt_number(outcomes.columns[2:], decimals=2)
    .sub_missing(missing_text="–")
)

# %% [markdown]
# ## What did not count, and why
#
# No hour is lost without a reason: what goes in is either kept or rejected.

# %% mystnb={"figure": {"name": "fig-{{ site }}-rejects", "caption": "Entity-hours that the corrected count rejected at {{ site_name }} ({{ source }}), by stage, source and reason, with the number of rows; log scale. One hour can be rejected once for each quantity, so they do not add up. Pale, where there is any: another source was believed for these hours, and nothing is lost. Data: output/plots/{{ site }}_rejects.csv."}} tags=["hide-input"]
audit = pl.read_parquet(here / "rejects.parquet")
rejects(audit, site_name=name).save(f"{site}_rejects", figures)

# %% tags=["remove-cell"]
lost = rejected(audit).filter(~pl.col("superseded"))
glue(f"{site}_rejected_rows", int(lost["rows"].sum()), display=False)
twice = audit.filter(
    pl.col("stage") == "corrected total", pl.col("reason") == "duplicate of another row of the host"
)
glue(f"{site}_rejected_total", float(twice["hours"].sum()) / 1e6, display=False)

# %% [markdown]
# The joins between tables. Unmatched is not always lost: a join can ask for what only some rows
# have (a reservation of whole nodes has no instance reservation, one that nobody used has no first
# create), and a host whose row is gone is found again by other records.

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
# ## How much is known

# %% [markdown]
# What is published was either seen, by a record of the first source that knows the host, or
# inferred from other records. What neither can tell is not known, and no number stands for it.

# %% mystnb={"figure": {"name": "fig-{{ site }}-known", "caption": "How much of each year at {{ site_name }} ({{ source }}) rests on records of the first source that knows the host (dark), how much was inferred from others (pale), and how much nobody knows (grey). {% if has_ondemand %}What slices of hosts hold is a sum of many records, and not told apart. {% endif %}Data: output/plots/{{ site }}_known.csv."}} tags=["hide-input"]
shares = pl.read_parquet(here / "coverage.parquet")
known(shares, pl.read_parquet(here / "usage_timeline.parquet"), site_name=name).save(
    f"{site}_known", figures
)

# %% mystnb={"figure": {"name": "fig-{{ site }}-coverage", "caption": "Share of host time that each source knows at {{ site_name }} ({{ source }}), by month and quantity. Bright: the source knows. Dark: the source is silent, and something else had to bear witness, or, where all sources together are dark, nobody knows. White: no host that it could know of. Data: output/plots/{{ site }}_coverage.csv."}} tags=["hide-input"]
on_demand = "available_ondemand" in shown
coverage(shares, site_name=name, on_demand=on_demand).save(f"{site}_coverage", figures)
