# %% tags=["parameters", "remove-cell"]
data_dir = "data/twin"
output_dir = "output"
config = "data/sites.yaml"
sites = ""

# %% [markdown]
# (validation)=
# # Validation against the twin
#
# The twin keeps the truth of its simulated sites beside their damaged tables, so every count can be held
# to it. The error of a count is
#
# $$ E = \frac{\sum_d |v_d - t_d|}{\sum_d t_d} $$
#
# over the days $d$ of an era on which it gives a value $v_d$, with $t_d$ the truth. A day without a value
# is no error; the share of days with one is given apart.
#
# What is tested is the *method*: how much of the distance between today's rows, taken at their word
# (*uncorrected*), and the truth the corrections remove. Whether the damage is as in the twin, no twin can
# say: [twice as much of it](#damage), [sites that the services wrote](#services) and
# [years to which the twin was not calibrated](#halves) are the tests of that. All tables stand in an
# [appendix](#validation-appendix).
#
# (seeds)=
# ## Corrected against uncorrected

# %% tags=["remove-cell"]
import polars as pl
from myst_nb import glue

from chameleon_usage.models.metrics import METRICS
from chameleon_usage.viz import palette
from paper import seeds, validation
from paper.ablation import ABLATIONS, NOTHING
from paper.eras import era_label
from paper.errors import EVERY
from paper.figures import ablation, truth
from paper.kept import kept
from paper.project import ROOT, read_yaml, site_names
from paper.truth import daily_truth, path

figures = ROOT / output_dir / "plots"
names = site_names(sites, config)
compared = ["total", "reservable", "committed", "occupied", "active"]
labels = {count: METRICS[count].label for count in compared}

# %% tags=["remove-cell"]
on_twins = seeds.read_record().filter(pl.col("site").is_in(list(names)))
of_seeds = on_twins.filter(steered_by=seeds.ALL)
ranges = validation.ranges(of_seeds)
glue("errors_seeds", of_seeds["seed"].n_unique(), display=False)


def of(measure, collector):
    """Give one measure of one collector, sites and eras in order."""
    return validation.in_order(ranges, measure, collector, names, compared)


# %% tags=["remove-cell"]
early = pl.col("era") != "2022_on"
for collector in ("uncorrected", "corrected"):
    for span, here in (("before_2022", early), ("2022_on", ~early)):
        # Where the corrected count gives no value there is nothing to compare.
        both = of("error_site", collector).join(
            of("error_site", "corrected"), on=["site", "era", "count_type"], how="semi"
        )
        largest = both.filter(here)["high"].max()
        glue(f"errors_largest_{span}_{collector}", largest, display=False)
by_type = []
for site, name in names.items():
    most = of("error_node_type", "corrected").filter(site=site)["high"].max()
    glue(f"errors_largest_node_type_{site}", most, display=False)
    by_type += [] if most is None else [f"{most:.1%} at {name}"]
glue("errors_by_type", validation.listed(by_type), display=False)
for row in ranges.filter(count_type="committed").iter_rows(named=True):
    for end in ("low", "mid", "high"):
        key = f"{row['site']}_{row['measure']}_{row['era']}_{row['collector_type']}_{end}"
        glue(key, row[end], display=False)

# %% tags=["remove-cell"]
facts = read_yaml("data/facts.yaml")
now, then = (facts[f"tacc_2024_{counted}_total"]["value"] for counted in ("current", "legacy"))
glue("caches_2024_fewer", now - then, display=False)
glue("caches_2024_share", 1 - then / now, display=False)

# %% [markdown]
# The figure shows {glue:text}`errors_seeds:.0f` twins of the real size, the book's own among them. With
# another seed users ask at other times, and the damage hits other rows. So few seeds give a range, and no confidence
# interval. To make them takes longer than the book, so they
# were measured beforehand, by `python -m paper seeds`, and recorded in `data/seeds.csv`; a test measures
# one again.

# %% mystnb={"figure": {"name": "fig-validation", "caption": "Error of the uncorrected (triangles) and the corrected count (circles) against the twin's truth, by era: a column for each site, a row for each quantity, log scale. Further left is nearer to the truth: before 2022 the circles lie far left of the triangles. An error of 0.01% or less lies on the left edge. The point is the median of twins of several seeds, the line goes from the smallest to the largest. No point: the collector gives no value there. Where the truth is zero, both give a value and the error is not defined. Data: {{ output_dir }}/plots/validation.csv."}} tags=["hide-input"]
zero = validation.without_error(ranges, names, compared)
look = {
    "site_names": names,
    "count_types": compared,
    "zero": zero,
    "seeds": of_seeds["seed"].n_unique(),
}
truth.readings(ranges.filter(measure="error_site"), **look).save("validation", figures)

# %% [markdown]
# Where the corrected count gives a value, the uncorrected one is off by up to
# {glue:text}`errors_largest_before_2022_uncorrected:.0%` before 2022, the corrected one by up to
# {glue:text}`errors_largest_before_2022_corrected:.1%`. From 2022 on these are
# {glue:text}`errors_largest_2022_on_uncorrected:.0%` and {glue:text}`errors_largest_2022_on_corrected:.2%`. The error of
# *uncorrected* before 2022 [follows from the published curves](#chapter-discussion); that of *corrected* is the result. From
# 2022 on the services keep deleted rows, so the twin loses no row of a host or a lease; other damage goes on. In 2024 the real caches of CHI@TACC still
# count {glue:text}`caches_2024_fewer:.0f` nodes ({glue:text}`caches_2024_share:.0%`) fewer than the databases. We attribute
# this to node types that the caches' collector did not know, and cannot verify it. If it is the databases that count too
# many, the error since 2022 is larger.
#
# The corrected count gives no value for the use of CHI@Edge, as
# the rows of its containers are gone; taken at its word, what is left misses nearly all of it. For the
# devices and leases of CHI@Edge an error of zero says only that the pipeline adds none: the twin leaves their rows whole.
#
# (bad-days)=
# The error is a mean over an era, and hides bad days. In the book's own twin the worst are those of
# {glue:text}`worst_days_count:s` at {glue:text}`worst_days_site:s` in {glue:text}`worst_days_era:s`: the error is
# {glue:text}`worst_days_error:.1%`, but on one day in twenty the count is off by more than
# {glue:text}`worst_days_nodes:.0f` nodes, or {glue:text}`worst_days_p95:.1%` of the mean. Of the errors
# there, {glue:text}`worst_days_under:.0%` are undercounts: nodes that no row names. The
# [tables](#validation-appendix) have the bias and the worst days of every quantity.

# %% [markdown]
# (by-host)=
# ## Host by host, type by type, lease by lease
#
# In the sum of a site, an hour on a wrong host cancels against the same hour missed on the right one. Added up
# host by host and day by day it counts twice. A node of an unknown or wrong type counts twice by
# node type: where it was, and where it was not.

# %% mystnb={"figure": {"name": "fig-units", "caption": "Error of the corrected count on the same twins, when the absolute errors are added up over the days of the site (circles), of its node types (squares) or of its hosts (diamonds). Squares to the right of the circles, as at KVM@TACC: the nodes are counted, but not all of their types are known. Axes, marks and words as above. Data: {{ output_dir }}/plots/units.csv."}} tags=["hide-input"]
truth.units(
    ranges.filter(collector_type="corrected").filter(pl.col("measure").is_in(list(palette.UNITS))),
    **look,
).save("units", figures)

# %% tags=["remove-cell"]
for measure in ("error_lease", "leases_off"):
    for collector in ("uncorrected", "corrected"):
        glue(f"errors_{measure}_{collector}", of(measure, collector)["high"].max(), display=False)

# %% [markdown]
# By node type, the largest error of any quantity and era is {glue:text}`errors_by_type:s`. At KVM@TACC no row
# gives the type of some hosts: their hours stand under *unknown* and are missing under their type. A series of
# one node type can be wrong by so much where the sum of the site is nearly exact.
#
# Lease by lease, up to {glue:text}`errors_error_lease_corrected:.1%` of the node-hours of an era's leases are not on the
# hosts that they really held; uncorrected, up to {glue:text}`errors_error_lease_uncorrected:.0%`. A lease is *off* if the
# count misses more than a hundredth of its node-hours: up to {glue:text}`errors_leases_off_corrected:.1%` of an era's leases
# are, against {glue:text}`errors_leases_off_uncorrected:.0%`. (Two leases can share a KVM host, so KVM is
# not among them.) What is counted beyond all leases is in the figure's errors by host.

# %% [markdown]
# (inferred-right)=
# ## How often what is inferred is right
#
# Some of the corrected node-hours are marked as *inferred*. Most are where all rows were deleted: at
# {glue:text}`inferred_most_site:s` in {glue:text}`inferred_most_era:s`, in the median of the twins,
# {glue:text}`inferred_most_total:.1%` of total, {glue:text}`inferred_most_reservable:.1%` of reservable and
# {glue:text}`inferred_most_committed:.1%` of committed. Of occupied and active it is nowhere more than
# {glue:text}`inferred_most_occupied:.2%`. Where at least {glue:text}`inferred_notable:.0%` is
# inferred, the truth has at
# least {glue:text}`inferred_least_right:.1%` of it on that host and at that time, in the worst of the
# twins; of the little that is inferred elsewhere, at least {glue:text}`inferred_least_right_else:.0%`.

# %% tags=["remove-cell"]
inferred = ["total", "reservable", "committed"]
of_inferred = validation.inferred(ranges, inferred)
most_of_others = ranges.filter(
    pl.col("measure") == "inferred", ~pl.col("count_type").is_in(inferred)
)["high"].max()
glue("inferred_most_occupied", most_of_others, display=False)
shares = [of_inferred[f"{count}_share"] for count in inferred]
rights = [of_inferred[f"{count}_right"] for count in inferred]
right = pl.DataFrame({"share": pl.concat(shares), "right": pl.concat(rights)})
most = of_inferred.sort("total_share", "site", "era", nulls_last=False).row(-1, named=True)
glue("inferred_most_site", names[most["site"]], display=False)
glue("inferred_most_era", pl.select(era_label(pl.lit(most["era"]))).item(), display=False)
for count in inferred:
    glue(f"inferred_most_{count}", most[f"{count}_share"], display=False)
notable = right.filter(pl.col("share") >= validation.NOTABLE)
glue("inferred_notable", validation.NOTABLE, display=False)
glue("inferred_least_right", validation.at_least(notable["right"].min(), 3), display=False)
glue("inferred_least_right_else", validation.at_least(right["right"].min(), 2), display=False)

# %% [markdown]
# (choices)=
# ## Our own choices
#
# The corrected count has two thresholds: the share that must be known for a value to be published, and the gap within
# which two rows of a host are one presence. On the twins [neither matters](#thresholds). The caches' errors are [inputs of the twin](#legacy-errors), and [projected lead
# times](#projected-errors) are held to what its scheduler knew. The twin is calibrated to the curves that it resembles. On twins that were
# [calibrated to half of the years](#halves) the error of the corrected count differs from that on the book's own by
# {glue:text}`halves_moved:.2f` percentage points at most, whatever the site, era and quantity.

# %% tags=["remove-cell"]
glue("halves_moved", validation.at_most(validation.moved_by_half(on_twins), 2), display=False)

# %% tags=["remove-cell"]
recorded = pl.read_csv(ROOT / "data" / "errors.csv")
by_services = recorded.filter(pl.col("site").str.starts_with("services/"))
glue("services_most", by_services["error"].max(), display=False)
leased = by_services.filter(count_type="committed")
glue("services_committed", leased["error"].max(), display=False)
for key, days in validation.days_of_services(by_services).items():
    glue(f"services_days_{key}", days, display=False)

# %% [markdown] when="has_services"
# (services)=
# ## Sites that the services wrote
#
# Twin and pipeline were written by the same people, and may share a misreading. So there are also sites whose rows Nova
# and Blazar wrote themselves: a script drove the services' own code through sixty days, and recorded what it did. These
# sites are small, and have many failures. Blazar as it is published deletes ended leases and removed hosts for good. So
# some days are unknown, and what is missed on the others counts as error here: of a removed host that nobody used
# nothing is left. On the days that have
# a value the largest error of any quantity is {glue:text}`services_most:.1%`; of committed it is
# {glue:text}`services_committed:.2%`. But many days have no value. With Blazar as it is published, reservable is known on
# {glue:text}`services_days_reservable_baremetal:s` of the days on bare metal and committed on
# {glue:text}`services_days_committed_baremetal:s`; on KVM these are {glue:text}`services_days_reservable_kvm:s` and,
# depending on the release, {glue:text}`services_days_committed_kvm:s`. With Chameleon's branch, which keeps the rows and which only the bare-metal site ran, every
# quantity is known on {glue:text}`services_days_chameleon:s` of the days.

# %% [markdown]
# (damage)=
# ## Twice the damage
#
# How often each kind of damage happens is an assumption, but for one share that the real row counts tell. So here each
# kind in turn is made twice as frequent, on the book's own twin of one bare-metal site and of KVM, and the
# count made again. What is already in every row cannot be doubled, nor what is lost in an era in which everything was
# deleted. Of {glue:text}`errors_kinds:.0f` kinds of damage, doubling changes an error by at least
# {glue:text}`errors_noticeable:.3f` percentage points for {glue:text}`errors_kinds_felt:.0f`. No kind adds
# more than {glue:text}`errors_most_added:.2f` percentage points to the error of any quantity ([table of all
# kinds](#tables-damage)). With all kinds twice as frequent at once it is {glue:text}`errors_all_added:.2f` points at most.

# %% tags=["remove-cell"]
kinds = read_yaml("data/calibration.yaml")["damage"]
doubled = validation.with_more_damage(recorded.filter(pl.col("site").is_in(list(names))))
noticed = doubled.filter(pl.col("added").abs() >= ablation.NOTICEABLE)["damage"]
glue("errors_noticeable", ablation.NOTICEABLE, display=False)
glue("errors_kinds", len(kinds), display=False)
glue("errors_kinds_felt", len(set(noticed) & set(kinds)), display=False)
together = pl.col("damage") == EVERY
for key, rows in (("most", ~together), ("all", together)):
    added = validation.at_most(doubled.filter(rows)["added"].max(), 2)
    glue(f"errors_{key}_added", added, display=False)

# %% tags=["remove-cell"]
places = (ROOT / output_dir, ROOT / data_dir)
errors = pl.concat(validation.errors_of_site(site, *places, [*compared, "idle"]) for site in names)
for row in errors.drop_nulls("error").iter_rows(named=True):
    key = f"{row['site']}_error_{row['era']}_{row['count_type']}_{row['collector_type']}"
    glue(key, row["error"], display=False)
worst = validation.worst_days(
    errors.filter(pl.col("count_type").is_in(compared), collector_type="corrected")
)
glue("worst_days_site", names[worst["site"]], display=False)
glue("worst_days_count", labels[worst["count_type"]].lower(), display=False)
glue("worst_days_era", pl.select(era_label(pl.lit(worst["era"]))).item(), display=False)
for name, key in {"error": "error", "nodes": "p95_nodes", "p95": "p95", "under": "under"}.items():
    glue(f"worst_days_{name}", worst[key], display=False)

# %% [markdown]
# (ablation)=
# ## What each correction buys
#
# An *ablation* leaves out one correction and keeps all others. The error that it adds is what the
# correction buys. Where two corrections mend the same hours, both look small here, since
# the one still does what the other leaves undone. A negative number means that the count is nearer to the
# truth without the correction. Each correction costs a run of the collector, so this is done for one
# bare-metal site and for KVM. A sample at midnight is compared day for day; over a year most of its error evens out.
#
# Four corrections buy most. Without
# *{glue:text}`ablation_1_what:s`* the error of {glue:text}`ablation_1_count:s`
# at {glue:text}`ablation_1_site:s` is {glue:text}`ablation_1_error:.0%` in {glue:text}`ablation_1_era:s`, with it
# {glue:text}`ablation_1_with_all:.1%`. Without *{glue:text}`ablation_2_what:s`* it is {glue:text}`ablation_2_error:.0%` for
# {glue:text}`ablation_2_count:s` ({glue:text}`ablation_2_site:s`, {glue:text}`ablation_2_era:s`) and not
# {glue:text}`ablation_2_with_all:.1%`, without *{glue:text}`ablation_3_what:s`* {glue:text}`ablation_3_error:.0%` for
# {glue:text}`ablation_3_count:s` ({glue:text}`ablation_3_site:s`, {glue:text}`ablation_3_era:s`) and not
# {glue:text}`ablation_3_with_all:.1%`, without *{glue:text}`ablation_4_what:s`* {glue:text}`ablation_4_error:.0%` for
# {glue:text}`ablation_4_count:s` ({glue:text}`ablation_4_site:s`, {glue:text}`ablation_4_era:s`) and not
# {glue:text}`ablation_4_with_all:.1%`.
#
# Some steps cost as well. Leaving out *{glue:text}`ablation_costly_what:s`* would lower the error of
# {glue:text}`ablation_costly_count:s` at {glue:text}`ablation_costly_site:s` in {glue:text}`ablation_costly_era:s` by
# {glue:text}`ablation_costly_points:.2f` percentage points, the most of all; no other step costs more than
# {glue:text}`ablation_costly_next:.2f` anywhere.
#
# | label | what is left out | in the [method](#chapter-method) |
# |---|---|---|
# | integral, not midnight | the mean over the day: the count at 00:00 UTC stands for it | time |
# | merging of duplicates | several rows of a host are one presence | when each quantity holds |
# | clamping to parents | a child is cut to what carries it | clamping |
# | the inventory, nova.services | this source, in the order of total | source priority |
# | indirect evidence | the last source in the orders of total and reservable | source priority |
# | naming gone hosts | a host whose row is gone has the name that instances give | naming a host |
# | inferring lost allocations | an instance shows that its reservation held the host | deleted for good |
# | finding reservations | an instance without a link gets the lease that held its host | naming a host |
# | assigning hosts | an instance without a node gets the one host left in its reservation | naming a host |
# | event replay | the actions of instances: when they let go of a host, and ran | when each quantity holds |

# %% tags=["remove-cell"]
ablated = {s: n for s, n in names.items() if (ROOT / output_dir / "ablation" / s).is_dir()}


def without_of(site):
    counted = ROOT / output_dir / "ablation" / site / "ablation.parquet"
    usage = ROOT / output_dir / site / "usage_timeline.parquet"
    intervals = path(ROOT / data_dir, site)

    def measure():
        tables = [pl.read_parquet(table) for table in (counted, usage, intervals)]
        true = daily_truth(tables[2], tables[1]["timestamp"].unique().sort(), compared)
        return validation.errors_without(*tables[:2], true)

    return kept(f"without_{site}", measure, counted, usage, intervals)


without = validation.added_errors(pl.concat(map(without_of, ablated)), NOTHING)

# %% tags=["remove-cell"]
left_out = {k: what.label for k, what in ABLATIONS.items() if (without["left_out"] == k).any()}
most = validation.most_added(without).with_columns(
    era_label(pl.col("era")),
    pl.col("left_out").replace(left_out),
    pl.col("site").replace(names),
    pl.col("count_type").replace(labels).str.to_lowercase(),
)
for place, row in enumerate(most.head(4).iter_rows(named=True), 1):
    for key, column in (("what", "left_out"), ("count", "count_type")):
        glue(f"ablation_{place}_{key}", row[column], display=False)
    for key in ("site", "era", "error", "with_all"):
        glue(f"ablation_{place}_{key}", row[key], display=False)
costly = validation.most_costly(without)
first = costly.row(0, named=True)
glue("ablation_costly_what", left_out[first["left_out"]], display=False)
glue("ablation_costly_count", labels[first["count_type"]].lower(), display=False)
glue("ablation_costly_site", names[first["site"]], display=False)
glue("ablation_costly_era", pl.select(era_label(pl.lit(first["era"]))).item(), display=False)
glue("ablation_costly_points", first["saved"], display=False)
others_cost = costly["saved"].slice(1).max() or 0.0
glue("ablation_costly_next", validation.at_most(others_cost, 2), display=False)

# %% mystnb={"figure": {"name": "fig-ablation", "caption": "Percentage points by which the error of the corrected count grows when one correction is left out, against the twin's truth, by site, quantity and era. Purple: the error grows; green: it shrinks. Shades go with the square root; numbers below 1 have two decimals, those from 10 on none. A dot: less than 0.005 points. A dash: nothing to leave out, as the site has no such source. Grey: no error is defined, as the truth is zero or there is no value. Data: {{ output_dir }}/plots/ablation.csv."}} tags=["hide-input"]
ablation.ablation(without, site_names=ablated, count_types=compared, labels=left_out).save(
    "ablation", figures
)
