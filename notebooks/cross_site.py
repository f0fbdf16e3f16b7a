# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = "chi_edge chi_tacc chi_uc kvm_tacc"

# %% [markdown]
# (cross-site)=
# # All sites
#
# {% if twin %}```{note}
# Simulated: the numbers on this page are those of the twin, not of the real sites.
# ```
# {% endif %}

# %% tags=["remove-cell"]
import polars as pl
from great_tables import GT
from myst_nb import glue

from chameleon_usage.viz import findings
from chameleon_usage.viz.cross_site import cross_site_percent, cross_site_usage, site_comparison
from chameleon_usage.viz.paper import ROOT, site_names
from chameleon_usage.viz.tables import ALL, cross_site_table

figures = ROOT / output_dir / "plots"
names = site_names(sites.split(), config)
usage = pl.read_parquet(ROOT / output_dir / "combined" / "usage_timeline.parquet")
for key, value in findings.across_sites(usage, names).items():
    glue(f"all_{key}", value, display=False)

# %% [markdown]
# {% if found %}## In short
#
# - *Size.* The {% if found["sites"] > 1 %}{glue:text}`all_sites:.0f` sites together were{% else %}site was{% endif %}
#   largest in {glue:text}`all_size_year:.0f`, with {glue:text}`all_size_nodes:,.0f` nodes in the mean of
#   the year.
# {% if "held_peak" in found %}- *How full.* The fullest year was {glue:text}`all_held_peak:.0f`:
#   {glue:text}`all_held_peak_share:.1%` of all node-hours were in use{% if "unknown_sites" in found %} (at
#   {glue:text}`all_unknown_sites:s`, where nobody knows the use, leased){% endif %}. The emptiest was
#   {glue:text}`all_held_low:.0f`, with {glue:text}`all_held_low_share:.1%`.
# {% endif %}- *Room.* In the mean of {glue:text}`all_last_year:.0f`, {glue:text}`all_last_free:,.0f` of
#   {glue:text}`all_last_nodes:,.0f` nodes could have been used and were not: free, or leased with nothing
#   on them{% if "unknown_sites" in found %}; leased nodes of unknown use are not among them{% endif %}.
# {% if "part_site" in found %}- *Where.* Over the whole record, {glue:text}`all_part_share:.1%` of
#   the node-hours counted so were those of {glue:text}`all_part_site:s`.
# {% endif %}{% if "best_site" in found %}- *Beside each other.* In {glue:text}`all_best_year:.0f`
#   {glue:text}`all_best_site:s` had the largest part of its node-hours in use
#   ({glue:text}`all_best_share:.1%`), {glue:text}`all_worst_site:s` the smallest
#   ({glue:text}`all_worst_share:.1%`).{% if 'kvm_tacc' in sites %} On KVM that is the part of the hosts'
#   vCPUs that instances hold; on bare metal an instance holds the whole node.{% endif %} Sites of whose
#   use nothing is known are not compared.
# {% endif %}{% endif %}

# %% [markdown]
# ## The sum, and each beside the others

# %% mystnb={"figure": {"name": "fig-cross-site", "caption": "Nodes of all sites ({{ source }}), monthly means. Dark = used, light = could be used and was not (in the pool, leased or not{% if 'kvm_tacc' in sites %}; on KVM also what is open to machines on demand{% endif %}), black line = total{% if 'kvm_tacc' in sites %}; KVM in yellow{% endif %}. A middle shade is leased where nobody knows how much of it was used. White above the light shade is maintenance or not known. Grey, where there is any: not known, so that there is no sum. In the mean of the month in which a site opens, its own panel counts the days since, the sum all days. Before the record of a site begins, nothing is drawn and the sum lacks it{% if 'kvm_tacc' in sites %}: so with the first cloud of KVM@TACC{% endif %}. Data: output/plots/cross_site_usage.csv."}} tags=["hide-input"]
cross_site_usage(usage, site_names=names).save("cross_site_usage", figures)

# %% mystnb={"figure": {"name": "fig-cross-site-percent", "caption": "The sum in percent of the nodes that all sites have by then ({{ source }}), monthly means. At the bottom, dark, what was used at each site; the middle shade is leased where nobody knows how much of it was used; above, light, what could have been used and was not. The upper edge of the dark areas is how well the testbed as a whole was used, whatever its size. White at the top is maintenance or not known. Grey, where there is any: not known, so that there is no sum. Data: output/plots/cross_site_percent.csv."}} tags=["hide-input"]
cross_site_percent(usage, site_names=names).save("cross_site_percent", figures)

# %% [markdown]
# Yearly means, in nodes. *All* is the sum of each day over the sites whose record has begun by then, and its mean
# is over the year. The mean of a site is over the days from its first node on, so that in the year
# in which a site opens the parts exceed the sum. *Used* leaves out what nobody knows: nodes that are leased
# where no record of use is left. A sum without them says *at least* (≥). A dash: the
# record of the site has not begun yet{% if 'kvm_tacc' in sites %}; KVM@TACC had a first cloud before, which *All* lacks,
# too{% endif %}.

# %% tags=["hide-input"]
yearly = cross_site_table(usage, every="1y").with_columns(
    pl.col("timestamp").dt.year().alias("year")
)
columns = {**{s: n for s, n in names.items() if (yearly["site"] == s).any()}, ALL: "All"}
begun = yearly.group_by("site").agg(pl.col("year").min().alias("begun"))
every_year = yearly.select(pl.col("year").unique().sort()).join(begun, how="cross")
every_year = every_year.join(yearly, on=["site", "year"], how="left")


def cell(text, known):
    """Show what is known; a dash before the record of a site begins."""
    return (
        pl.when(pl.col("year") < pl.col("begun"))
        .then(pl.lit("–"))
        .when(known)
        .then(text)
        .otherwise(pl.lit("unknown"))
    )


def nodes(column):
    return pl.col(column).round(1).cast(pl.String)


sums = every_year.select(
    "year",
    "site",
    total=cell(nodes("total"), pl.col("total").is_not_null()),
    used=cell(
        pl.when(pl.col("site") == ALL, pl.col("leased") > 0)
        .then("≥ " + nodes("used"))
        .otherwise(nodes("used")),
        pl.col("used").is_not_null() & ((pl.col("site") == ALL) | (pl.col("leased") == 0)),
    ),
).pivot(on="site", on_columns=list(columns), index="year", values=["total", "used"])


def table(kind, header):
    """Show the yearly means of one kind, a column for each site and one for all."""
    shown = [f"{kind}_{site}" for site in columns]
    return (
        GT(sums.sort("year").select("year", *shown), id=f"table-cross-site-{kind}")
        .cols_label({f"{kind}_{site}": name for site, name in columns.items()})
        .cols_align("right", columns=shown)
        .tab_header(header)
    )


table("total", "Nodes in total")

# %% tags=["hide-input"]
table("used", "Nodes used")

# %% [markdown]
# ## How well each was used

# %% mystnb={"figure": {"name": "fig-cross-site-share", "caption": "Share of its nodes that were used (occupied / total), site by site ({{ source }}), monthly means: sites of different size on one scale. A site without a line has no record of use. Data: output/plots/cross_site_share.csv."}} tags=["hide-input"]
site_comparison(usage, site_names=names).save("cross_site_share", figures)

# %% [markdown]
# Yearly means of occupied / total. Where nobody knows what was used of some leased nodes, the share of all
# sites lies between two bounds: none of them, or all. A dash: the
# record of the site has not begun yet.


# %% tags=["hide-input"]
def percent(*parts):
    return (100 * pl.sum_horizontal(parts) / pl.col("total")).round(1).cast(pl.String)


shares = every_year.select(
    "year",
    "site",
    share=cell(
        pl.when(pl.col("leased") > 0)
        .then(percent("used") + "–" + percent("used", "leased"))
        .otherwise(percent("used"))
        + " %",
        pl.col("total").is_not_null()
        & pl.col("used").is_not_null()
        & ((pl.col("site") == ALL) | (pl.col("leased") == 0)),
    ),
).pivot(on="site", on_columns=list(columns), index="year", values="share")
(
    GT(shares.sort("year"), id="table-cross-site-share")
    .cols_label(columns)
    .cols_align("right", columns=list(columns))
)

# %% tags=["remove-cell"]
of_site = yearly.filter(pl.col("leased") == 0).drop_nulls(["used", "total"])
for row in of_site.sort("site", "year").iter_rows(named=True):
    glue(f"{row['site']}_used_share_{row['year']}", row["used"] / row["total"], display=False)
