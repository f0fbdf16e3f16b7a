# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = ""
real_dir = "data/real"
facts_file = "data/facts.yaml"
published_sites = "chi_tacc chi_uc"

# %% [markdown]
# (real-appendix)=
# # The real record in numbers
#
# {{ words.opening() }}

# %% tags=["remove-cell"]
import polars as pl
from great_tables import GT
from myst_nb import glue

from chameleon_usage.io.files import whole_file
from paper import leases, outcome, published, record
from paper.calibration import beside as set_beside
from paper.calibration import by_block, targets
from paper.figures import real_record
from paper.kept import kept
from paper.project import ROOT, is_twin, read_yaml, site_names

figures = ROOT / output_dir / "plots"
real = ROOT / real_dir
names = site_names(sites, config)
ours = "twin" if is_twin(ROOT / data_dir) else "database"
calibration = read_yaml("data/calibration.yaml")
facts = read_yaml(facts_file)
curves = record.published_means(calibration, facts)
usage = {
    site: pl.read_parquet(ROOT / output_dir / site / "usage_timeline.parquet") for site in names
}

# %% [markdown] when="has_published"
# ## Hosts by node type

# %% tags=["remove-cell"] when="has_published"
present = [site for site in published_sites.split() if site in names]
whole = leases.BOTH if len(present) > 1 else present[0]
by_type = {s: ROOT / output_dir / s / "usage_by_node_type.parquet" for s in present}
types = kept(
    "machine_types",
    lambda: published.machine_types(real, {s: pl.read_parquet(by_type[s]) for s in present}, ours),
    real / "published_machines.csv",
    *by_type.values(),
)
events = pl.read_csv(real / "published_machine_events.csv")

# %% mystnb={"figure": {"name": "fig-real-machines", "caption": "Hosts by node type, monthly means. Left: the published machine events, which are complete to the second and so have no interval. Right: the corrected total of the {{ words.ours() }} ({{ source }}) in the same months, as far as it covers them. A host that is named a type only later has it from its start, since the events name none before 2016. {{ words.removals() }} Data: {{ output_dir }}/plots/real_machines.csv."}} tags=["hide-input"] when="has_published"
real_record.machines(types, site_names=names, ours=ours).save("real_machines", figures)

# %% tags=["hide-input"] when="has_published"
turns = (
    events.filter(pl.col("event").is_in(["CREATE", "DISABLE", "ENABLE"]))
    .with_columns(pl.col("site").replace(names), pl.col("event").str.to_lowercase() + "d")
    .pivot(
        on="event",
        index=["site", "year"],
        values="hosts",
        on_columns=["created", "disabled", "enabled"],
    )
    .with_columns(pl.col("created", "disabled", "enabled").fill_null(0))
    .sort("site", "year")
)
(
    GT(turns.rename({"created": "enrolled"}), id="table-real-machines", groupname_col="site")
    .cols_label(disabled="taken out of service", enabled="put into service")
    .tab_header("Hosts with an event of the kind, by year (published machine events)")
)

# %% [markdown] when="has_published"
# ## Robots

# %% tags=["remove-cell"] when="has_published"
robots = pl.read_csv(real / "published_robots.csv")

# %% tags=["hide-input"] when="has_published"
(
    GT(
        robots.with_columns(pl.col("site").replace(site_names(published_sites, config))),
        id="table-real-robots",
    )
    .fmt_integer(["leases", "node_hours"])
    .fmt_number("median_minutes", decimals=2)
    .fmt_percent("share_of_leases", decimals=1)
    .fmt_percent("share_of_node_hours", decimals=2)
    .cols_label(
        users="users found",
        median_minutes="held, median (min)",
        node_hours="node-hours",
        share_of_leases="of all leases",
        share_of_node_hours="of all node-hours",
    )
    .tab_header("What the rule for robots sets apart in the published leases")
)

# %% [markdown] when="has_published"
# ## Leases before the files changed, and after

# %% tags=["remove-cell"] when="has_published"
by_era = published.figures_by_era(pl.read_csv(real / "published_leases.csv").filter(site=whole))

# %% tags=["hide-input"] when="has_published"
(
    GT(by_era, id="table-real-eras", rowname_col="figure")
    .cols_align("right", pl.selectors.exclude("figure"))
    .tab_header("The same before the files changed and after: real leases, with 95% intervals")
)

# %% [markdown] when="has_curves"
# ## Published curves
#
# The published plots show two collectors: the legacy caches, and today's databases taken at their
# word, which we call *uncorrected*.

# %% tags=["remove-cell"] when="has_curves"
made = [record.our_means(table, calibration, ours) for table in usage.values()]
both = pl.concat([curves, *made]).filter(
    pl.col("site").is_in([s for s in names if s in calibration["real_curves"]]),
    pl.col("count_type").is_in(record.COMPARED),
    pl.col("collector_type").is_in(list(record.COLLECTORS.values())),
)

# %% mystnb={"figure": {"name": "fig-real-record", "caption": "Yearly means in nodes: the real published curves (solid, large points) beside those of the {{ words.ours() }} (dashed, small points; {{ source }}), a row for each quantity and a column for each site; each panel has its own scale. Grey: legacy; purple: uncorrected. The nearer a dashed line lies to the solid one of its colour, the more alike. No solid line where the published plot gives no value, and nothing before a site opened: a year's mean is over the days since, and over the part of the year that the curve has. The curves were read off plots to about half a node. Data: {{ output_dir }}/plots/real_record.csv."}} tags=["hide-input"] when="has_curves"
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
    .cols_label(collector_type="collector", count_type="quantity")
    .tab_header("How alike the yearly means are, 2016 to 2025")
)

# %% [markdown] when="has_curves"
# Of {glue:text}`record_years:.0f` yearly means from 2016 on, {glue:text}`record_years_near:.0f` lie within 15% of the
# real ones. *Idle* is the difference of two of them, so its error in percent says little. In nodes it differs by
# {glue:text}`record_idle:.0f` in the median, and by {glue:text}`record_idle_most:.0f` at most. *Uncorrected* idle is negative
# before 2022, as the real one is: more nodes in use than leased.

# %% [markdown] when="has_calibration"
# ## The twin against reality
#
# {{ words.calibration() }}

# %% tags=["remove-cell"] when="has_calibration"
held = pl.read_csv(real / "published_files.csv")
ours_measured = leases.measured(
    published.leases_of_all(ROOT / output_dir, ROOT / data_dir, present, held["month"])
)


def came_out(site):
    """Measure in the tables of one site."""
    folder = ROOT / data_dir / site
    tables = sorted(folder.rglob("*.parquet"))
    return kept(f"outcome_{site}", lambda: outcome.of_site(folder, site, calibration), *tables)


simulated = [s for s in calibration["sites"] if (ROOT / data_dir / s / "truth").is_dir()]
found = outcome.behaviour(ours_measured) | outcome.by_name(map(came_out, simulated))
fit = set_beside(targets(calibration), found, list(names))
with whole_file(figures / "twin_against_reality.csv") as part:
    fit.with_columns(pl.col("outcome", "difference", "deviation").round(4)).write_csv(part)
blocks = by_block(fit)
glue("fit_figures", fit.height, display=False)
glue("fit_near", blocks["near"].sum(), display=False)

# %% tags=["hide-input"] when="has_calibration"
(
    GT(
        blocks.with_columns(pl.col("which").str.replace_many(names)),
        id="table-twin-against-reality",
        rowname_col="block",
    )
    .fmt_percent("median", decimals=1)
    .fmt_percent("worst", decimals=0, force_sign=True)
    .sub_missing(missing_text="–", columns="which")
    .cols_label(
        near="within 5%", median="median deviation", worst="worst", which="the figure farthest off"
    )
    .tab_header("Figures that the twin is calibrated to, and how near it came")
    .tab_options(table_font_size="80%")
)
