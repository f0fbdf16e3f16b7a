# %% tags=["parameters", "remove-cell"]
sites = ""  # some of them, with blanks between; empty: all that the twin simulates
start = ""  # the first day, as in "2018-01-01"; empty: from the first on
end = ""  # the day after the last one; empty: to the last
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"

# %% [markdown]
# (cross-site)=
# # All sites
#
# {{ words.simulated() }}

# %% tags=["remove-cell"]
import polars as pl
from great_tables import GT
from myst_nb import glue

from chameleon_usage.viz.cross_site import cross_site_percent, cross_site_usage, site_comparison
from chameleon_usage.viz.tables import ALL
from paper import findings, period, tables
from paper.project import ROOT, events, site_colours, site_names

output = period.cut(ROOT, "combined", output_dir, start, end)
figures = output / "plots"
names = site_names(sites, config)
colours = site_colours(sites, config)
usage = pl.read_parquet(output / "combined" / "usage_timeline.parquet")

# %% tags=["remove-cell"]
for key, value in findings.across_sites(usage, names).items():
    glue(f"all_{key}", value, display=False)

# %% [markdown]
# {{ words.in_short() }}

# %% [markdown]
# ## The sum, and each beside the others

# %% mystnb={"figure": {"name": "fig-cross-site", "caption": "{{ words.usage() }} Data: {{ output_dir }}/plots/cross_site_usage.csv."}} tags=["hide-input"]
marked = events(list(names), of_all=True).with_columns(
    pl.format("{}: {}", pl.col("site").replace(names), "label").alias("label")
)
cross_site_usage(usage, site_names=names, site_colours=colours, events=marked).save(
    "cross_site_usage", figures
)

# %% mystnb={"figure": {"name": "fig-cross-site-percent", "caption": "The sum in percent of the nodes that all sites have by then ({{ source }}), monthly means. At the bottom, dark, what was used at each site; stripes (a plain colour in the key), what was leased and of unknown use; above, light, what could have been used and was not. The upper edge of the dark areas is the utilisation of the whole testbed, whatever its size; where there are stripes above, it is a lower bound. White at the top is maintenance. Grey, where there is any, is not known: nodes of unknown state at the top, or months without a sum. Data: {{ output_dir }}/plots/cross_site_percent.csv."}} tags=["hide-input"]
cross_site_percent(usage, site_names=names, site_colours=colours).save(
    "cross_site_percent", figures
)

# %% [markdown]
# {{ words.yearly() }}

# %% tags=["remove-cell"]
by_year = tables.sites_by_year(usage)
columns = {**{s: n for s, n in names.items() if (by_year["site"] == s).any()}, ALL: "All"}


def table(cells, kind):
    """Set the cells of each site and of all."""
    return (
        GT(cells, id=f"table-cross-site-{kind}")
        .cols_label(columns)
        .cols_align("right", columns=list(columns))
    )


# %% tags=["hide-input"]
table(tables.total_cells(by_year, columns), "total").tab_header("Nodes in total")

# %% tags=["hide-input"]
table(tables.used_cells(by_year, columns), "used").tab_header("Nodes used")

# %% [markdown]
# ## How well each was used

# %% mystnb={"figure": {"name": "fig-cross-site-share", "caption": "Share of its nodes that were used (occupied / total), site by site ({{ source }}), monthly means: sites of different size on one scale. A site without a line, named below the title, has no data on its use. Data: {{ output_dir }}/plots/cross_site_share.csv."}} tags=["hide-input"]
site_comparison(usage, site_names=names, site_colours=colours).save("cross_site_share", figures)

# %% [markdown]
# Yearly means of occupied / total. Where nobody knows how many of some leased nodes were used, the share of all
# sites lies between two bounds: none of them, or all. A dash: the
# series of the site has not begun yet.

# %% tags=["hide-input"]
table(tables.share_cells(by_year, columns), "share")

# %% tags=["remove-cell"]
for row in tables.used_shares(by_year).iter_rows(named=True):
    glue(f"{row['site']}_used_share_{row['year']}", row["share"], display=False)
