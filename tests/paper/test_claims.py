"""The table of claims: nothing of the paper is missing in it, and all that it names is there."""

from __future__ import annotations

import ast
import csv
import json
import re
from typing import Any

import nbformat
import pytest
import yaml

from chameleon_usage.errors import UsageError
from chameleon_usage.models.outputs import OUTPUTS
from paper import claims, seconds
from paper.__main__ import COMMANDS
from paper.project import site_entries
from paper.steps import NOTEBOOKS, RECORDS, STEPS
from support import PROJECT

BOOK = PROJECT / "book"
SITES = list(site_entries("", "data/sites.yaml"))
PAGES = [*SITES, *NOTEBOOKS]
ALL = claims.claims(PAGES)
FACTS = yaml.safe_load((PROJECT / "data" / "facts.yaml").read_text(encoding="utf-8"))
TARGETS = set(
    re.findall(r"(?m)^([a-z-]+):.*?## ", (PROJECT / "Makefile").read_text(encoding="utf-8"))
)


def glued(text: str) -> set[str]:
    """Name the numbers of a page, but for examples, which stand in double backticks."""
    return set(
        re.findall(r"\{glue:text\}`notebooks/\w+\.ipynb::(\w+):", re.sub("``.*?``", "", text))
    )


def notebook(folder, name, figure, table):
    """Write a notebook that was run: a heading, a figure, a table and a number."""
    output = nbformat.v4.new_output
    caption = f"Nodes. Data: output/plots/{name}_x.csv."
    cells = [
        nbformat.v4.new_markdown_cell("# All\n\n## What they did"),
        nbformat.v4.new_code_cell(
            metadata={"mystnb": {"figure": {"name": figure, "caption": caption}}},
            outputs=[output("display_data", {"text/html": f'<div id="{table}" style=""></div>'})],
        ),
    ]
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


class TestClaims:
    @pytest.mark.parametrize("page", sorted(claims.chapters()))
    def test_every_glued_number_of_a_page_is_in_a_claim(self, page):
        text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
        told = {key for claim in ALL if claim.page == page for _, key, _ in claim.glued}
        examples = {"facts_users_2016"} if page == "implementation" else set()
        assert glued(text) - examples == told

    def test_every_page_of_the_book_is_read(self):
        assert set(claims.chapters()) == {path.stem for path in BOOK.glob("*.md")}
        assert ALL[0].page == "index"

    def test_each_number_is_computed_from_a_file_that_a_step_writes(self):
        named = {output for claim in ALL for output in claim.outputs}
        assert named
        for output in named:
            place, _, file = output.rpartition("/")
            if place == "output/SITE":
                assert file.removesuffix(".parquet") in OUTPUTS
            else:
                assert place == "output/ablation/SITE" or (PROJECT / output).exists(), output
            if output.endswith(".csv"):
                assert output in {step.output for step in RECORDS.values()}

    def test_a_number_from_a_record_has_the_command_that_makes_it_and_the_one_that_shows_it(self):
        [claim, *_] = [claim for claim in ALL if claim.outputs == ["data/seeds.csv"]]
        assert claim.made == {
            "python -m paper seeds": "data/seeds.csv",
            "make book/notebooks/validation.ipynb": "book/notebooks/validation.ipynb",
        }

    def test_a_published_fact_says_whether_it_was_quoted_or_computed_and_by_what(self):
        told = {pair for claim in ALL for pair in claim.facts}
        assert {how for how, _ in told} == set(claims.HOW)
        assert {("recipe", "chisim"), ("quoted", "chameleon_docs_faq")} <= told
        [robots, *_] = [claim for claim in ALL if claim.facts == [("recipe", "chisim")]]
        assert list(robots.made) == [claims.RECIPE, "make book/notebooks/facts.ipynb"]
        assert (PROJECT / "data" / "real" / "recipe.py").exists()

    def test_a_number_of_unknown_origin_is_told_with_the_way_out(self):
        with pytest.raises(UsageError, match=r"'strange': say in paper/claims\.py, OUTPUT_OF"):
            claims.output_of("strange")

    def test_a_sentence_is_one_claim_and_a_table_is_another(self):
        one, two = (f"{{glue:text}}`notebooks/facts.ipynb::facts_{x}:.0f`" for x in "ab")
        text = (
            f"# Title\n\n## Part\n\nNothing here. It is {one} {{cite}}`who`, see [it](#x). So!\n\n"
            f"- First {one}.\n- Then none.\n\n| a |\n|---|\n| {two} |\n\n``{one}`` is how.\n"
        )
        found = list(claims.claims_of("page", text))
        assert [claim.says for claim in found] == [
            f"It is {one}, see it.",
            f"First {one}.",
            "The table of *Part*",
        ]
        assert found[2].glued == (("facts", "facts_b", ".0f"),)

    def test_what_a_build_does_not_have_is_not_claimed(self):
        assert {page for claim in claims.claims(["facts"]) for page in claim.notebooks} == {"facts"}

    def test_published_facts_may_not_differ_and_errors_have_the_range_of_the_seeds(self):
        assert {claims.tolerance(claim) for claim in ALL if claim.published} == {"none"}
        key = "chi_tacc_error_2018_2019_reservable_uncorrected"
        [claim] = [c for c in ALL if {k for _, k, _ in c.glued} == {key}]
        low, high = claims.range_of(key)
        assert 0 < low < high < 1
        assert claims.tolerance(claim) == f"none; seeds: {low:.1%}–{high:.1%}"


class TestSteps:
    def test_every_notebook_is_a_step(self):
        assert set(NOTEBOOKS) == {path.stem for path in (PROJECT / "notebooks").glob("*.py")}

    @pytest.mark.parametrize("name", STEPS)
    def test_the_command_is_there(self, name):
        match STEPS[name].command.split():
            case ["make", file] if "/" in file:
                assert file == f"book/notebooks/{'SITE' if name == 'site' else name}.ipynb"
            case ["make", target]:
                assert target in TARGETS
            case ["python", "-m", "paper", command]:
                assert command in COMMANDS
            case other:
                assert other == ["python", "-m", "chameleon_twin.halves"]
        assert not STEPS[name].changed or (PROJECT / STEPS[name].changed).exists()

    def test_each_has_its_seconds(self):
        assert set(seconds.recorded()) == set(STEPS)
        assert set(seconds.recorded().values()) <= set(seconds.LADDER)

    def test_a_time_is_rounded_up(self):
        assert [seconds.rounded(t) for t in (0.2, 1, 61, 9999)] == [1, 1, 90, 3600]

    def test_what_is_measured_anew_is_recorded_beside_the_rest(self, tmp_path, monkeypatch):
        monkeypatch.setattr(seconds, "RECORD", tmp_path / "seconds.csv")
        monkeypatch.setattr(seconds, "measure", {"pdf": 3.2, "data": 40.0}.__getitem__)
        for names in (["pdf"], ["data"]):
            seconds.main(names, standalone_mode=False)
        assert (tmp_path / "seconds.csv").read_text() == "step,seconds\ndata,45\npdf,5\n"

    def test_a_command_that_fails_is_no_time(self, monkeypatch):
        monkeypatch.setattr(seconds, "ROOT", PROJECT / "data")  # where no Makefile is
        with pytest.raises(UsageError, match="make pdf failed"):
            seconds.measure("pdf")


class TestPage:
    def test_figures_and_tables_of_several_sites_share_a_row(self, tmp_path):
        built = [
            notebook(tmp_path, site, f"fig-{site}-x", f"table-{site}-y")
            for site in ("chi_uc", "chi_edge")
        ]
        lines = claims.page([*built, notebook(tmp_path, "facts", "fig-f", "table-f")]).splitlines()
        both = "{numref}`%s <fig-chi_edge-x>`, {numref}`%s <fig-chi_uc-x>`"
        assert f"| {both} | What they did | `SITE`, `output/plots/SITE_x.csv` |" in lines
        assert "| `table-SITE-y` | What they did | `SITE` |" in lines
        assert "| `table-f` | What they did | `facts` |" in lines

    def test_every_figure_says_where_its_data_are(self):
        for path in (PROJECT / "notebooks").glob("*.py"):
            for caption in re.findall(r'(?m)^# %% mystnb=(.*?)"\}\}', path.read_text("utf-8")):
                assert re.search(r" Data: \S.*\.csv\.$", caption), caption

    @pytest.mark.parametrize("page", sorted(claims.chapters()))
    def test_every_named_figure_of_the_text_is_found(self, page):
        text = claims.chapters()[page]
        found = {one.name for one in claims.drawn_in(text)}
        assert found == set(re.findall(r"(?m)^:name: (fig-.*)$", text))

    def test_the_figure_of_the_first_page_has_the_numbers_of_the_notebook_s(self):
        [first] = claims.drawn_in(claims.chapters()["index"])
        assert (first.name, first.data) == ("fig-collectors", "output/plots/chi_tacc_facet.csv")

    def test_without_truth_there_is_no_figure_of_it(self, tmp_path):
        path = notebook(tmp_path, "facts", "fig-f", "table-f")
        assert "fig-collectors" not in claims.page([path])
        assert "fig-collectors" in claims.page([path, notebook(tmp_path, "validation", "a", "b")])

    def test_the_readme_has_the_table_as_it_is_made(self):
        [table] = claims.TABLE.findall(claims.README.read_text(encoding="utf-8"))
        assert table == claims.readme(), "write it anew: python -m paper claims --readme"

    def test_the_readme_has_every_number_of_its_abstract(self):
        abstract = (BOOK / "index.md").read_text("utf-8").split("## Abstract")[1].split("\n## ")[0]
        first = [claim for claim in ALL if claim.section == "Abstract"]
        assert glued(abstract) == {key for claim in first for _, key, _ in claim.glued}
        assert claims.readme().count("“") == len(first)

    def test_the_command_prints_the_page_and_writes_the_table(self, tmp_path, monkeypatch, capsys):
        path = notebook(tmp_path, "facts", "fig-f", "table-f")
        claims.main([str(path)], standalone_mode=False)
        assert capsys.readouterr().out == claims.page([path])
        readme = tmp_path / "README.md"
        readme.write_text("before\n<!-- claims -->\nold\n<!-- /claims -->\nafter\n")
        monkeypatch.setattr(claims, "README", readme)
        claims.main(["--readme"], standalone_mode=False)
        expected = f"before\n<!-- claims -->\n{claims.readme()}<!-- /claims -->\nafter\n"
        assert readme.read_text() == expected


@pytest.fixture(scope="module")
def notebooks(built):
    return sorted((built.parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def results(notebooks) -> dict[str, Any]:
    """Give what the built notebooks glued, numbers and texts."""
    return {
        output["metadata"]["scrapbook"]["name"]: ast.literal_eval(
            "".join(output["data"]["application/papermill.record/text/plain"])
        )
        for path in notebooks
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    }


@pytest.mark.slow
class TestBuild:
    """What the book that was built last says of itself."""

    def test_every_claim_lies_within_its_tolerance(self, results):
        tested = 0
        for claim in ALL:
            for _, key, form in claim.glued:
                if claim.published:
                    assert results[key] == FACTS[key.removeprefix("facts_")]["value"], key
                elif ends := claims.range_of(key):
                    low, high = ends  # recorded to six digits
                    assert low - 1e-6 <= results[key] <= high + 1e-6, key
                    tested += 1
                assert format(results[key], form)
        assert tested

    def test_the_claims_that_are_ranges_hold_the_book_s_own_twin(self, results):
        """What is computed from the output tables lies where the abstract says it does."""
        tested = 0
        for key in {key for claim in ALL for _, key, _ in claim.glued if key.endswith("_low")}:
            if "_error_site_" in key:
                low, high = results[key], results[key.removesuffix("low") + "high"]
                site, rest = key.split("_error_site_")
                era, collector, _ = rest.rsplit("_", 2)
                own = results[f"{site}_error_{era}_committed_{collector}"]
                assert low - 1e-6 <= own <= high + 1e-6, key
                tested += 1
        assert tested > 5

    def test_every_recorded_figure_is_in_the_table_and_no_other(self, notebooks):
        with (PROJECT / "data" / "checksums.csv").open(newline="") as lines:
            files = {row["file"] for row in csv.DictReader(lines)}
        recorded = {name for name in files if name.endswith(".csv")}
        shown = [one for path in notebooks for one in claims.shown_by(path)[0]]
        data = [one.data.rpartition("/")[2] for one in shown]
        assert len(set(data)) == len(data)
        assert recorded - set(data) == {"twin_against_reality.csv"}  # of a table
        assert set(data) <= recorded

    def test_every_output_table_of_the_build_is_in_the_table(self, notebooks):
        page = claims.page(notebooks)
        for path in (PROJECT / "output").glob("*/*.parquet"):
            if path.parent.name in SITES:
                assert f"| `output/SITE/{path.name}` |" in page

    def test_the_page_shows_each_claim_with_its_number(self, built, notebooks):
        text = (built / "claims.html").read_text(encoding="utf-8")
        figures = [one for path in notebooks for one in claims.shown_by(path)[0]]
        assert text.count("<tr") > len(ALL) + len(figures) / len(SITES)
        assert "n/a" not in text
