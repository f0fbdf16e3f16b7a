"""The words that a notebook's markdown, captions and sentences may use."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Any

import jinja2
import polars as pl

from chameleon_usage.viz.base import as_text
from paper import period, truth
from paper.findings import across_sites, of_site
from paper.project import ROOT, events, is_twin, read_yaml, site_entries, site_names
from paper.tables import LEAST_HOURS

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ROOT / "paper" / "words"


def engine() -> jinja2.Environment:
    """Give what fills templates: those of `words/` by name; an unknown word is an error."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WORDS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - no HTML
    )
    templates.globals["say"] = say
    return templates


@jinja2.pass_context
def say(context: jinja2.runtime.Context, first: str, *clauses: str) -> str:
    """Join the clauses of a sentence; leave out those that name what was not found.

    `{name:format}` cites the number that the page glues, `{name}` is a word as it is. Without
    all that the first clause names, nothing is said.

    >>> say(
    ...     {"found": {"used": 0.5}, "prefix": "all_"},
    ...     "In use: {used:.1%}",
    ...     ", most in {peak:.0f}",
    ...     ".",
    ... )
    'In use: {glue:text}`all_used:.1%`.'
    """
    found, prefix = context["found"], context["prefix"]
    said = []
    for clause in (first, *clauses):
        parts = list(Formatter().parse(clause or ""))
        if any(name is not None and name not in found for _, name, _, _ in parts):
            if clause is first:
                return ""
            continue
        for text, name, form, _ in parts:
            said.append(text)
            if name is not None:
                said.append(f"{{glue:text}}`{prefix}{name}:{form}`" if form else found[name])
    return "".join(said)


def context(values: dict[str, Any]) -> dict[str, Any]:
    """Give what templates may name: the parameters, and what their values tell.

    `found` are the findings of the page, by name (see `findings.py`), and `prefix` what their
    names are glued under; `twin`: the data are simulated; `source`: the phrase that says where the
    numbers come from; `has_truth`: the truth about the site is there, too.
    """
    words = dict(values)
    output = ROOT
    if "output_dir" in values:
        asked = values["output_dir"], values.get("start", ""), values.get("end", "")
        output = period.cut(ROOT, values.get("site", "combined"), *asked)
        words["output_dir"] = period.folder(*asked)
    if "site" in values:
        words |= site_words(values["site"], values["config"], output)
    if "sites" in values:
        if "start" in values:  # the page of all sites: the other pages of several have no period
            words |= all_words(values["sites"], values["config"], output)
        recorded = (ROOT / "data" / "errors.csv").read_text(encoding="utf-8")
        words["has_services"] = "\nservices/" in recorded
    if "data_dir" in values:
        words["twin"] = is_twin(ROOT / values["data_dir"])
        site, data = values.get("site"), ROOT / values["data_dir"]
        words["has_truth"] = site is not None and truth.known(data, site)
        words["source"] = "simulated" if words["twin"] else "from the site's databases"
    if "real_dir" in values:
        sites = set(site_entries(values["sites"], values["config"]))
        published = set(values["published_sites"].split())
        words["has_published"] = not sites.isdisjoint(published)
        words["both_published"] = published <= sites
        words["has_calibration"] = words["twin"] and words["has_published"]
        curves = read_yaml("data/calibration.yaml")["real_curves"]
        words["has_curves"] = not sites.isdisjoint(curves)
    return words


def site_words(site: str, config: str, output: Path) -> dict[str, Any]:
    """Give what the page of one site names, and what it mentions only where there is some of it.

    `site_name`; `devices`: it leases these rather than nodes; `predecessor`: what there was before
    its record begins. `has_causes`: causes of a difference between corrected and uncorrected that
    the table shows; `has_legacy`: figures of the legacy collector to compare with;
    `has_events`: dated events that figures mark; `has_lease_use`: leases of whole nodes;
    `has_ondemand`: capacity to use without a lease; `has_projected`: nodes that are leased as a
    whole, which can be waited for; `has_status`: records that tell whether nodes could be used, of
    a week or more; `use_unknown`: leased nodes of which nobody knows whether they were used;
    `has_unknown`: nodes or days of which the state is not known.
    """
    here = output / site
    entry = site_entries(site, config)[site]
    compared, caused = here / "comparison.parquet", here / "comparison_causes.parquet"
    used = here / "lease_use.parquet"
    waits = here / "leadtime_projected.parquet"
    large = pl.col("node_hours").abs() >= LEAST_HOURS
    counts = corrected_counts(here / "usage_timeline.parquet")
    committed, total = counts.get("committed", EMPTY), counts.get("total", EMPTY)
    return {
        "site_name": site_names(site, config)[site],
        "devices": "edge_devices" in entry.get("adapters", ()),
        "predecessor": entry.get("predecessor", ""),
        "found": of_site(here),
        "prefix": f"{site}_",
        "has_events": not events([site]).is_empty(),
        "has_causes": caused.exists() and not pl.read_parquet(caused).filter(large).is_empty(),
        "has_legacy": compared.exists() and pl.read_parquet(compared)["legacy"].count() > 0,
        "has_lease_use": used.exists() and not pl.read_parquet(used).is_empty(),
        "has_ondemand": some(counts.get("ondemand_capacity", EMPTY)),
        "has_projected": waits.exists() and not pl.read_parquet(waits).is_empty(),
        "has_status": any(
            some(of) and of.count() >= WEEK
            for name, of in counts.items()
            if name.startswith(("reservable_", "out_of_"))
        ),
        "use_unknown": some(committed) and counts.get("occupied", EMPTY).count() == 0,
        "has_unknown": some(counts.get("unknown", EMPTY)) or total.has_nulls(),
    }


def all_words(sites: str, config: str, output: Path) -> dict[str, Any]:
    """Give what the page of all sites names.

    `legends`: what is to be said of their colours; `predecessors`: name of a site to what there
    was before its record begins; `has_events`: dated events that figures mark; `has_ondemand`: one
    of them has capacity to use without a lease.
    """
    combined = output / "combined" / "usage_timeline.parquet"
    entries, names = site_entries(sites, config), site_names(sites, config)
    counts = corrected_counts(combined, list(entries))
    return {
        "has_events": not events(list(entries), of_all=True).is_empty(),
        "legends": [entry["legend"] for entry in entries.values() if "legend" in entry],
        "predecessors": {
            names[site]: entry["predecessor"]
            for site, entry in entries.items()
            if "predecessor" in entry
        },
        "found": across_sites(pl.read_parquet(combined), names) if combined.exists() else {},
        "prefix": "all_",
        "has_ondemand": some(counts.get("ondemand_capacity", EMPTY)),
    }


EMPTY = pl.Series(dtype=pl.Float64)
WEEK = 7
"""Days; what is known of fewer is not drawn, as figures are of weeks."""


def some(values: pl.Series) -> bool:
    """Whether there is any of it."""
    return bool((values > 0).any())


def corrected_counts(usage: Path, sites: list[str] | None = None) -> dict[str, pl.Series]:
    """Give the corrected values of a usage table by count type; none where it is not there yet."""
    if not usage.exists():
        return {}
    corrected = as_text(pl.read_parquet(usage)).filter(pl.col("collector_type") == "corrected")
    if sites is not None:
        corrected = corrected.filter(pl.col("site").is_in(sites))
    return {
        str(key[0]): part["value"]
        for key, part in corrected.partition_by("count_type", as_dict=True).items()
    }
