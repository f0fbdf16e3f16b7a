# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
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
names = site_names(sites.split())
usage = pl.read_parquet(ROOT / output_dir / "combined" / "usage_timeline.parquet")

# %% [markdown]
# ## The sum, and each beside the others

# %% mystnb={"figure": {"name": "fig-cross-site", "caption": "Nodes of all sites ({{ source }}), monthly means. Dark = used, light = could have been used, black line = total; KVM in yellow. A middle shade is leased where nobody knows how much of it was used. White above the light shade is maintenance. Hatched: at least one site is not known, so there is no sum. Data: output/plots/cross_site_usage.csv."}} tags=["hide-input"]
across.cross_site_usage(usage, site_names=names).save("cross_site_usage", figures)

# %% [markdown]
# ## How well each was used

# %% mystnb={"figure": {"name": "fig-cross-site-share", "caption": "Share of its nodes that were used, site by site ({{ source }}), monthly means: sites of different size on one scale. A site without a line has no record of use. Data: output/plots/cross_site_share.csv."}} tags=["hide-input"]
across.site_comparison(usage, site_names=names).save("cross_site_share", figures)

# %% tags=["hide-input"]
yearly = across.cross_site_table(usage, every="1y").with_columns(
    pl.col("timestamp").dt.year().alias("year"),
    pl.when(pl.col("leased") == 0).then(pl.col("used") / pl.col("total")).alias("share"),
)
wide = (
    yearly.filter(pl.col("site").is_in(list(names)))
    .with_columns(pl.col("site").replace(names))
    .pivot(on="site", on_columns=list(names.values()), index="year", values="share")
    .sort("year")
)
(
    GT(wide, id="table-cross-site-share")
    .fmt_percent(wide.columns[1:], decimals=1)
    .sub_missing(missing_text="unknown")
)

# %% tags=["remove-cell"]
for row in yearly.drop_nulls("share").iter_rows(named=True):
    glue(f"{row['site']}_used_share_{row['year']}", row["share"], display=False)
