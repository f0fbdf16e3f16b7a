# %% tags=["parameters", "remove-cell"]
facts_file = "data/facts.yaml"

# %% [markdown]
# (facts)=
# # Published facts
#
# Every published number that the text cites, with the place where it stands. The text takes them
# from here.

# %% tags=["remove-cell"]
import polars as pl
import yaml
from great_tables import GT
from myst_nb import glue

from chameleon_usage.viz.paper import ROOT

facts = yaml.safe_load((ROOT / facts_file).read_text(encoding="utf-8"))

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
            "source": fact["source"],
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
    .cols_width({"fact": "40%", "value": "12%", "unit": "10%", "source": "20%", "where": "18%"})
    .tab_options(table_font_size="85%", table_width="100%")
)
