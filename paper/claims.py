"""Say of each claim, figure and table of the book what it comes from: the page *claims*.

A claim is a sentence of the text with a number that a notebook glued. Claims, figures and tables
are read off the pages and the notebooks of a build, so none is missing, and none that is gone
stays. README.md has the short form, written by `python -m paper claims --readme`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file
from chameleon_usage.models.outputs import OPTIONAL_OUTPUTS, OUTPUTS, PROJECT_TABLES
from paper import seconds, validation
from paper.project import ROOT, read_yaml
from paper.steps import NOTEBOOKS, RECORDS, SAME, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

BOOK = ROOT / "book"
README = ROOT / "README.md"
TABLE = re.compile(r"(?<=<!-- claims -->\n).*?(?=<!-- /claims -->)", re.DOTALL)

GLUED = re.compile(r"\{glue:text\}`notebooks/(?P<page>\w+)\.ipynb::(?P<key>\w+):(?P<form>[^`]+)`")
DATA = re.compile(r"Data: (\S+)\.\n?$")
DRAWN = re.compile(
    r"(?ms)^```\{(?:figure|graphviz)\}[^\n]*\n:name: (?P<name>fig-[\w-]+)\n(?P<what>.*?)^```$"
)
TRUTH = re.compile(r"(?s)<!-- truth -->.*?<!-- /truth -->")
SITE = r"(?P<site>chi_edge|chi_tacc|chi_uc|kvm_tacc)"
ERROR = re.compile(
    rf"{SITE}_error_(?P<era>\d{{4}}_\d{{4}}|2022_on)_(?P<count>\w+)_"
    r"(?P<collector>legacy|uncorrected|corrected)"
)
FACTS_FILE = "data/facts.yaml"
OUTPUT_OF = {
    r"facts_\w+": FACTS_FILE,
    rf"{SITE}_error_(?:site|host)_\w+": "data/seeds.csv",
    r"errors_(?:seeds|largest_\w+)": "data/seeds.csv",
    r"errors_(?:most|all)_added|services_\w+": "data/errors.csv",
    ERROR.pattern: "output/SITE/usage_timeline.parquet",
    rf"{SITE}_without_\w+": "output/ablation/SITE/ablation.parquet",
    rf"{SITE}_rejected_\w+": "output/SITE/rejects.parquet",
    rf"{SITE}_\w+_\d{{4}}(?:_legacy|_uncorrected)?": "output/SITE/usage_timeline.parquet",
}
"""Name of a glued number, as a pattern, to the file that the notebook takes it from; the first
counts."""

HOW = {
    "quoted": "quoted",
    "read off plots": "read off plots",
    "computed": "computed from published files",
    "recipe": "computed by `data/real/recipe.py`",
}
"""How a published fact came from its source, as data/facts.yaml has it, to what readers see."""

RECIPE = "python -m data.real.recipe data/external"
"""Makes the aggregates that some facts are taken from; it needs what `make external` fetches."""

MANY = 3
"""So many ranges are not written out."""

SEEDS_FILE = "as in `data/seeds.csv`"

ON_REQUEST = {
    name: "--by-project" if name in PROJECT_TABLES else "--by-host" for name in OPTIONAL_OUTPUTS
}
"""Output table to the option that it is written with."""

PAGE = """\
(where-from)=
# Where each claim, figure and table comes from

This page is made with the book. A *claim* is a sentence of the text with a number in it. The text
takes each number from a notebook. The notebook computes it from output tables, or reads it from a
file under `data`. There are published facts, which are typed, and records of many twins.

*Tolerance* is by how much a result may differ from ours. *None* means the same digits on any
machine with the environment of the lock. A twin of another seed (`chameleon-twin make --seed N
--data-dir DIR`) has other numbers. They should lie about where those of the recorded seeds do:
*seeds* gives the smallest and the largest.

For the default choice of data `make verify` compares with recorded checksums: the rows of each
site's output tables, the data behind each figure, the tables of the notebooks, and all numbers that
the notebooks give to the text. It does not compare how pages and figures look. The records of many
twins it takes as they are; slow tests make some of them again.

(claims-steps)=
## Steps

SITE is the key of a site. A command makes what it needs first. Seconds are those of one
processor core for the step alone, rounded up, as `python -m paper seconds` measures them.

{steps}

All have the tolerance *none* but `make crate`: it tells the environment, so another version of
Python shows. The last four are no part of `make book`: they take many twins, so the project carries
what they found. Their seconds are by the clock, on two cores. A claim from a file under `data` thus
has two commands: that of the step with this output makes the number anew, that of the notebook
shows it.

(claims-text)=
## Claims

These are the claims of the chapters. The numbers in the text of a notebook's own page come from
that notebook, and from the output tables that its code reads.

Published facts. They are typed, in `data/facts.yaml`, and the notebook `facts` shows
[each with its place in the source](#facts). The tolerance is *none*. What is computed comes from
files that `make external` fetches, or as `data/README.md` tells. For leases and machine events the
command is `python -m data.real.recipe data/external`; it was not timed. Tests hold its facts to the
aggregates in `data/real`. Where the files are at hand, they also compute all but the quoted facts
anew.

```{{table}}
:class: claims

{facts}
```

Results, each with the notebook and the file that it takes the numbers from:

```{{table}}
:class: claims

{results}
```

(claims-figures)=
## Figures

Each with a file of numbers is there as SVG and as PNG, too, under the same name. The others are
drawings, made from the text of their page.

{figures}

(claims-tables)=
## Tables

The tables on the pages of notebooks, by their id:

{tables}

The output tables, from which all others are made; the [usage database](#chapter-implementation)
tells what they hold:

{outputs}
"""


@dataclass(frozen=True)
class Claim:
    """A sentence of a page, or all of a table there, with numbers that notebooks glued.

    Attributes:
        page: without folder and ending.
        section: the heading above it.
        says: the sentence as Markdown, or which table it is.
        glued: page of the notebook, name and format of each number.
    """

    page: str
    section: str
    says: str
    glued: tuple[tuple[str, str, str], ...]

    @property
    def notebooks(self) -> list[str]:
        """The notebooks that give the numbers."""
        return sorted({page for page, _, _ in self.glued})

    @property
    def outputs(self) -> list[str]:
        """The files that the notebooks take the numbers from."""
        return sorted({output_of(key) for _, key, _ in self.glued})

    @property
    def published(self) -> bool:
        """Whether all its numbers are published facts."""
        return self.notebooks == ["facts"]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """How its published facts came from their sources, and from which."""
        keys = (key for page, key, _ in self.glued if page == "facts")
        of = (known_facts()[key.removeprefix("facts_")] for key in keys)
        return sorted({(one["how"], one["source"]) for one in of})

    @property
    def made(self) -> dict[str, str]:
        """Each command that it takes to make its numbers anew, and what that writes."""
        records = (step for step in RECORDS.values() if step.output in self.outputs)
        return {
            **({RECIPE: "data/real/*.csv"} if "recipe" in dict(self.facts) else {}),
            **{step.command: step.output for step in records},
            **{NOTEBOOKS[name].command: f"book/notebooks/{name}.ipynb" for name in self.notebooks},
        }


@cache
def known_facts() -> dict[str, dict[str, Any]]:
    """Give the published facts by name."""
    facts: dict[str, dict[str, Any]] = read_yaml(FACTS_FILE)
    return facts


def output_of(key: str) -> str:
    """Name the file that a notebook takes a glued number from.

    Raises:
        UsageError: nothing says so.
    """
    for pattern, output in OUTPUT_OF.items():
        if re.fullmatch(pattern, key):
            return output
    raise UsageError(f"the text has a number '{key}': say in paper/claims.py, OUTPUT_OF, of what")


def claims_of(page: str, text: str) -> Iterator[Claim]:
    """Give the claims of a page, in their order."""
    text = re.sub(r"(?ms)^(`{3,}).*?^\1$|<!-- .*? -->\n?", "", text)
    text = re.sub(r",?\s*\{cite(?::\w+)?\}`[^`]*`", "", text)
    text = re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", text)
    heading = ""
    for block in re.split(r"\n\s*\n|\n(?=(?:-|\d+\.) )|(?<=\n)(?=#)", text):
        if title := re.match(r"(?:\([\w-]+\)=\n)?#+ (.*)", block.strip()):
            heading = title[1]
        if block.lstrip().startswith("|"):
            if glued := tuple(GLUED.findall(block)):
                yield Claim(page, heading, f"The table of *{heading}*", glued)
            continue
        line = re.sub(r"^(?:-|\d+\.) ", "", " ".join(block.split()))
        for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z*\"“({])", line):
            glued = tuple(GLUED.findall(sentence))
            if glued and "``" not in sentence:  # that would be an example of how one is written
                yield Claim(page, heading, sentence, glued)


def contents() -> list[str]:
    """Give the pages in the order of the book; one of them stands for those of all sites."""
    toc = read_yaml(BOOK / "_toc.yml")
    files = (chapter["file"] for part in toc["parts"] for chapter in part["chapters"])
    return [toc["root"], *files]


def chapters() -> dict[str, str]:
    """Give the text of each page that is written by hand, in the order of the book."""
    paths = {name: BOOK / f"{name}.md" for name in contents()}
    return {n: path.read_text(encoding="utf-8") for n, path in paths.items() if path.exists()}


def claims(pages: Iterable[str]) -> list[Claim]:
    """Give the claims of the text whose numbers the notebooks of `pages` glue."""
    there = {*pages}
    return [
        claim
        for name, text in chapters().items()
        for claim in claims_of(name, text)
        if there.issuperset(claim.notebooks)
    ]


@cache
def ranges() -> dict[tuple[str, str, str, str], tuple[float, float]]:
    """Give, for site, era, count and collector, the least and largest error over the seeds."""
    recorded = pl.read_csv(ROOT / "data" / "seeds.csv").filter(
        steered_by="all", measure="error_site"
    )
    keys = ("site", "era", "count_type", "collector_type")
    return {
        (row["site"], row["era"], row["count_type"], row["collector_type"]): (
            row["low"],
            row["high"],
        )
        for row in validation.ranges(recorded).select(*keys, "low", "high").iter_rows(named=True)
    }


def range_of(key: str) -> tuple[float, float] | None:
    """Give what other seeds give for a number of the book's own twin; None: nobody measured it."""
    if not (match := ERROR.fullmatch(key)):
        return None
    return ranges().get((match["site"], match["era"], match["count"], match["collector"]))


def tolerance(claim: Claim) -> str:
    """Say by how much the numbers of a claim may differ, where the seed is another."""
    if claim.published:
        return SAME
    if {*claim.outputs} == {"data/seeds.csv"}:
        return f"{SAME}; seeds: as it says"
    found: dict[str, None] = {}
    for _, key, form in claim.glued:
        if ends := range_of(key):
            low, high = (format(end, form) for end in ends)
            found[low if low == high else f"{low}–{high}"] = None
    if not found:
        return SAME
    return f"{SAME}; seeds: {', '.join(found) if len(found) < MANY else SEEDS_FILE}"


@dataclass(frozen=True)
class Shown:
    """A figure or a table.

    Attributes:
        name: that the text cites it by.
        section: the heading above it.
        data: the file with its numbers; empty: there is none.
        notebook: the page of the notebook that shows it; empty: the text does.
    """

    name: str
    section: str
    data: str = ""
    notebook: str = ""

    @property
    def maker(self) -> str:
        """The notebook's page, or SITE where it is that of a site."""
        return self.notebook if self.notebook in {*NOTEBOOKS, ""} else "SITE"

    def general(self, text: str) -> str:
        """Write SITE in a name or a path for the key of the site that it is of."""
        return text.replace(self.notebook, "SITE") if self.maker == "SITE" else text


def shown_by(notebook: Path) -> tuple[list[Shown], list[Shown]]:
    """Give the figures and the tables of a notebook that was run."""
    figures, tables, section = [], [], ""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            titles = re.findall(r"(?m)^#+ (.*)$", "".join(cell["source"]))
            section = titles[-1] if titles else section
        if figure := cell["metadata"].get("mystnb", {}).get("figure"):
            data = DATA.search(figure["caption"])
            figures.append(Shown(figure["name"], section, data[1] if data else "", notebook.stem))
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            names = re.findall(r'<div id="(table-[\w-]+)"', html)
            tables += [Shown(name, section, "", notebook.stem) for name in names]
    return figures, tables


def drawn_in(text: str) -> list[Shown]:
    """Give the figures that a page of the text holds."""
    found = []
    for figure in DRAWN.finditer(text):
        heading = re.findall(r"(?m)^#+ (.*)$", text[: figure.start()])[-1]
        data = DATA.search(figure["what"])
        found.append(Shown(figure["name"], heading, data[1] if data else ""))
    return found


def shown_in(notebooks: Sequence[Path]) -> tuple[list[Shown], list[Shown]]:
    """Give the figures and the tables of a book with these notebooks, in its order."""
    texts = chapters()
    run = {path.stem: path for path in sorted(notebooks)}
    figures: list[Shown] = []
    tables: list[Shown] = []
    for file in contents():
        name = file.removeprefix("notebooks/")
        if file in texts:
            text = texts[file]
            figures += drawn_in(text if "validation" in run else TRUTH.sub("", text))
        elif name in NOTEBOOKS:  # `site` stands for the page of each site
            pages = (p for p in run if p == name or (name == "site" and p not in NOTEBOOKS))
            for more_figures, more_tables in map(shown_by, map(run.__getitem__, pages)):
                figures += more_figures
                tables += more_tables
    return figures, tables


def together(shown: Iterable[Shown]) -> list[list[Shown]]:
    """Set what the pages of several sites show alike side by side."""
    rows: dict[tuple[str, str], list[Shown]] = {}
    for one in shown:
        rows.setdefault((one.maker, one.general(one.name)), []).append(one)
    return list(rows.values())


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Lay out a table of Markdown.

    >>> print(grid(("step", "seconds"), [("data", "60")], right=["seconds"]))
    | step | seconds |
    |---|---:|
    | data | 60 |
    """
    rule = ["---:" if name in right else "---" for name in head]
    cells, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join([cells, f"|{'|'.join(rule)}|", *others])


def _code(*texts: str) -> str:
    return ", ".join(f"`{text}`" for text in texts if text)


def steps(pages: Iterable[str]) -> str:
    """Give the table of the steps of a build with these notebooks."""
    made = {page if page in NOTEBOOKS else "site" for page in pages}
    taken = seconds.recorded()
    return grid(
        ("makes", "seconds", "command, output"),
        (
            (step.makes, f"{taken[name]:,}", _code(step.command, step.output))
            for name, step in STEPS.items()
            if name not in NOTEBOOKS or name in made
        ),
        right=("seconds",),
    )


def _where(claim: Claim) -> str:
    """Link the page of a claim; the first page needs no link, and has no place in the PDF."""
    return "first page" if claim.page == "index" else f"{{doc}}`{claim.page}`"


def _how(claim: Claim) -> str:
    """Say how the published facts of a claim came from their sources, and cite these."""
    return "; ".join(f"{HOW[how]} {{cite}}`{source}`" for how, source in claim.facts)


def page(notebooks: Sequence[Path]) -> str:
    """Give the page as MyST Markdown, for a book with these notebooks."""
    pages = [path.stem for path in notebooks]
    drawn, tabled = shown_in(notebooks)
    of_text = claims(pages)
    facts = grid(
        ("claim (and where)", "how, and from what"),
        ((f"{claim.says} ({_where(claim)})", _how(claim)) for claim in of_text if claim.published),
    )
    results = grid(
        ("claim (and where)", "tolerance", "notebook, file"),
        (
            (
                f"{claim.says} ({_where(claim)})",
                tolerance(claim),
                _code(*claim.notebooks, *claim.outputs),
            )
            for claim in of_text
            if not claim.published
        ),
    )
    figures = grid(
        ("figure", "shows", "notebook, numbers"),
        (
            (
                ", ".join(f"{{numref}}`%s <{one.name}>`" for one in row),
                row[0].section,
                _code(row[0].maker, row[0].general(row[0].data)),
            )
            for row in together(drawn)
        ),
    )
    tables = grid(
        ("table", "shows", "notebook"),
        (
            (_code(row[0].general(row[0].name)), row[0].section, _code(row[0].maker))
            for row in together(tabled)
        ),
    )
    outputs = grid(
        ("table", "command"),
        (
            (
                _code(f"output/SITE/{name}.parquet"),
                _code(
                    f"chameleon-usage run {ON_REQUEST[name]}" if name in ON_REQUEST else "make run"
                ),
            )
            for name in OUTPUTS
        ),
    )
    return PAGE.format(
        steps=steps(pages),
        facts=facts,
        results=results,
        figures=figures,
        tables=tables,
        outputs=outputs,
    )


def readme() -> str:
    """Give the table of README.md: the claims of its abstract, then the steps."""
    recorded = seconds.recorded()
    taken = {step.command: f"{recorded[name]:,}" for name, step in STEPS.items()}
    of_steps = (
        (
            step.makes,
            f"[{name}](notebooks/{name}.py)" if name in NOTEBOOKS else "",
            {step.command: step.output},
            step.tolerance,
        )
        for name, step in STEPS.items()
    )
    of_abstract = (
        (
            f"“{' '.join(GLUED.sub('…', claim.says).split()[:7])} …”"
            + "".join(f", {HOW[how]}" for how in dict(claim.facts)),
            ", ".join(f"[{name}](notebooks/{name}.py)" for name in claim.notebooks),
            claim.made,
            tolerance(claim),
        )
        for claim in claims(NOTEBOOKS)
        if (claim.page, claim.section) == ("index", "Abstract")
    )
    table = grid(
        ("claim or figure", "notebook", "command", "output", "seconds", "tolerance"),
        (
            (
                *(what, notebook, _code(*made), _code(*made.values())),
                *(" + ".join(taken.get(command, "not timed") for command in made), may_differ),
            )
            for what, notebook, made, may_differ in (*of_abstract, *of_steps)
        ),
        right=["seconds"],
    )
    return f"{table}\n"


@click.command()
@click.argument("notebooks", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--readme", "short", is_flag=True, help="Write the table of README.md anew.")
def main(notebooks: tuple[Path, ...], short: bool) -> None:
    """Print the page for a book with NOTEBOOKS, or write the README's table."""
    if not short:
        click.echo(page(notebooks), nl=False)
        return
    text = TABLE.sub(lambda _: readme(), README.read_text(encoding="utf-8"))
    with whole_file(README) as part:
        part.write_text(text, encoding="utf-8")
