# %% tags=["parameters", "remove-cell"]
facts_file = "data/facts.yaml"
events_file = "data/events.yaml"
references_file = "book/references.bib"

# %% [markdown]
# (facts)=
# # Published facts
#
# This table has every published number that the text cites, and where it was published. The text
# takes the numbers from here.

# %% tags=["remove-cell"]
import polars as pl
import yaml
from great_tables import GT
from myst_nb import glue
from pybtex.database import parse_file

from paper.project import ROOT, read_yaml, site_names

facts = read_yaml(facts_file)
names = site_names("", "data/sites.yaml")
references = parse_file(ROOT / references_file).entries


def cited(key):
    """Name a reference as the text does, author and year, with its address."""
    entry = references[key]
    names = [" ".join(p.prelast_names + p.last_names).strip("{}") for p in entry.persons["author"]]
    who = names[0] if len(names) == 1 else f"{names[0]} et al."
    if len(names) == 2:
        who = " and ".join(names)
    words = f"{who}, {entry.fields['year']}"
    doi = entry.fields.get("doi")
    place = entry.fields.get("url") or (doi and f"https://doi.org/{doi}")
    return f"[{words}]({place})" if place else words


# %% tags=["hide-input"]
for name, fact in facts.items():
    glue(f"facts_{name}", fact["value"], display=False)
table = pl.DataFrame(
    [
        {
            "fact": fact["text"],
            "value": f"{fact['value']:,}"
            if isinstance(fact["value"], int | float)
            else fact["value"],
            "unit": fact["unit"],
            "source": cited(fact["source"]),
            "where": fact["where"],
        }
        for fact in facts.values()
    ],
    schema=["fact", "value", "unit", "source", "where"],
    orient="row",
)
(
    GT(table, id="table-facts")
    .cols_align("right", columns="value")
    .fmt_markdown("source")
    .cols_width({"fact": "32%", "value": "11%", "unit": "13%", "source": "21%", "where": "23%"})
    .tab_options(table_font_size="85%", table_width="100%")
)

# %% [markdown]
# (facts-events)=
# ## Dated events
#
# Figures mark these events. Where a date is read off a curve or an inventory, it may be some weeks off.

# %% tags=["hide-input"]
happened = yaml.safe_load((ROOT / events_file).read_text(encoding="utf-8"))
dated = pl.DataFrame(
    [
        {
            "site": names[event["site"]],
            "date": event["date"].isoformat(),
            "event": event["text"],
            "source": cited(event["source"]),
            "where": event["where"],
        }
        for event in happened
    ]
)
(
    GT(dated, id="table-events", groupname_col="site")
    .fmt_markdown("source")
    .cols_width({"date": "14%", "event": "33%", "source": "25%", "where": "28%"})
    .tab_options(table_font_size="85%", table_width="100%")
)
