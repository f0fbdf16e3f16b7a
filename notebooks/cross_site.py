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

from chameleon_usage.viz import across
from chameleon_usage.viz.paper import ROOT, site_names

figures = ROOT / output_dir / "plots"
names = site_names(sites.split(), config)
usage = pl.read_parquet(ROOT / output_dir / "combined" / "usage_timeline.parquet")

# %% [markdown]
# ## The sum, and each beside the others

# %% mystnb={"figure": {"name": "fig-cross-site", "caption": "Nodes of all sites ({{ source }}), monthly means. Dark = used, light = could be used and was not (in the pool, leased or not{% if 'kvm_tacc' in sites %}; on KVM also what is open to machines on demand{% endif %}), black line = total{% if 'kvm_tacc' in sites %}; KVM in yellow{% endif %}. A middle shade is leased where nobody knows how much of it was used. White above the light shade is maintenance or not known. Grey, where there is any: not known, so that there is no sum. Before the record of a site begins, the sum lacks it{% if 'kvm_tacc' in sites %}: so with the first cloud of KVM@TACC{% endif %}. Data: output/plots/cross_site_usage.csv."}} tags=["hide-input"]
across.cross_site_usage(usage, site_names=names).save("cross_site_usage", figures)

# %% [markdown]
# ## How well each was used

# %% mystnb={"figure": {"name": "fig-cross-site-share", "caption": "Share of its nodes that were used (occupied / total), site by site ({{ source }}), monthly means: sites of different size on one scale. A site without a line has no record of use. Data: output/plots/cross_site_share.csv."}} tags=["hide-input"]
across.site_comparison(usage, site_names=names).save("cross_site_share", figures)

# %% [markdown]
# Yearly means of occupied / total. A dash: the site has no record yet.

# %% tags=["hide-input"]
yearly = across.cross_site_table(usage, every="1y").with_columns(
    pl.col("timestamp").dt.year().alias("year"),
    pl.when(pl.col("leased") == 0).then(pl.col("used") / pl.col("total")).alias("share"),
)
begun = yearly.group_by("site").agg(pl.col("year").min().alias("begun"))
cells = (
    yearly.select("year")
    .unique()
    .join(begun, how="cross")
    .join(yearly, on=["site", "year"], how="left")
    .with_columns(
        pl.when(pl.col("share").is_not_null())
        .then((100 * pl.col("share")).round(1).cast(pl.String) + " %")
        .when(pl.col("year") < pl.col("begun"))
        .then(pl.lit("–"))
        .otherwise(pl.lit("unknown"))
        .alias("cell")
    )
)
wide = (
    cells.filter(pl.col("site").is_in(list(names)))
    .with_columns(pl.col("site").replace(names))
    .pivot(on="site", on_columns=list(names.values()), index="year", values="cell")
    .sort("year")
)
(GT(wide, id="table-cross-site-share").cols_align("right", columns=wide.columns[1:]))

# %% tags=["remove-cell"]
for row in yearly.drop_nulls("share").iter_rows(named=True):
    glue(f"{row['site']}_used_share_{row['year']}", row["share"], display=False)
