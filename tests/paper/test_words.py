"""The sentences of the pages: clauses that need a number stand where it was found."""

from __future__ import annotations

import jinja2
import pytest

from chameleon_usage.errors import UsageError
from paper import run
from paper.context import engine, say
from support import PROJECT

WORDS = sorted(path.name for path in (PROJECT / "paper" / "words").iterdir())


def said(found: dict, *clauses: str) -> str:
    return say({"found": found, "prefix": "a_"}, *clauses)


class TestSay:
    CLAUSES = ("Used: {used:.1%}", ", most in {year:.0f}", ", {word}", ".")

    def test_numbers_are_cited_and_words_stand_as_they_are(self):
        assert said({"used": 0.5, "year": 2019, "word": "so"}, *self.CLAUSES) == (
            "Used: {glue:text}`a_used:.1%`, most in {glue:text}`a_year:.0f`, so."
        )

    def test_a_clause_without_its_number_is_left_out(self):
        assert said({"used": 0.5}, *self.CLAUSES) == "Used: {glue:text}`a_used:.1%`."

    def test_without_the_first_clause_nothing_is_said(self):
        assert said({"year": 2019, "word": "so"}, *self.CLAUSES) == ""


def spoken(page: str, macro: str, **words) -> str:
    """What a macro says, in one line."""
    module = engine().get_template(f"{page}.md.j2").make_module(words)
    return " ".join(str(getattr(module, macro)()).split())


class TestTemplates:
    def test_each_is_that_of_a_notebook_which_names_all_it_says(self):
        for name in WORDS:
            page = name.removesuffix(".md.j2")
            text = (PROJECT / "notebooks" / f"{page}.py").read_text(encoding="utf-8")
            macros = [m for m in dir(engine().get_template(name).make_module({})) if m[0] != "_"]
            own = (PROJECT / "paper" / "words" / name).read_text(encoding="utf-8")
            assert macros
            for macro in macros:
                assert f"words.{macro}()" in text or own.count(f"{macro}()") > 1, macro

    def test_a_predecessor_is_told_where_there_is_one(self):
        assert spoken("site", "states", use_unknown=False, predecessor="") == ""
        told = spoken("site", "states", use_unknown=False, predecessor="first cloud")
        assert told.startswith("The site's first cloud had databases of its own")
        words = {"source": "simulated", "has_ondemand": True, "legends": ["B in yellow"]}
        words |= {"has_events": False}
        caption = spoken("cross_site", "usage", **words, predecessors={"B": "first cloud"})
        assert (
            "black line = total; B in yellow. Stripes (a plain colour in the key): leased"
            in caption
        )
        assert "the sum leaves it out, as it does the first cloud of B." in caption
        yearly = spoken("cross_site", "yearly", predecessors={"B": "first cloud"})
        assert yearly.endswith("not begun yet; B had a first cloud before, which *All* lacks, too.")
        assert spoken("cross_site", "yearly", predecessors={}).endswith("has not begun yet.")

    @pytest.mark.parametrize("marked", [True, False])
    def test_events_are_told_where_a_figure_marks_some(self, marked):
        words = {"source": "s", "site_name": "A", "has_events": marked, "has_ondemand": False}
        told = (
            spoken("site", "stack", **words),
            spoken("cross_site", "usage", legends=[], predecessors={}, **words),
        )
        assert ["dated events" in text for text in told] == [marked] * 2

    def test_other_counts_say_where_the_rest_of_the_gap_is(self):
        found = {"gap_year": 1, "gap_count": "total", "gap_nodes": 3.0, "gap_word": "more"}
        told = spoken("site", "other_counts", found=found | {"gap_types": 1.0}, prefix="")
        assert told.startswith("- *Other counts.* The yearly means of *corrected* and *legacy*")
        assert told.endswith(
            "does not have in that year, the rest to other types or to none that is known."
        )
        told = spoken("site", "other_counts", found=found | {"gap_types": 2.96}, prefix="")
        assert told.endswith("does not have in that year.")
        assert spoken("site", "other_counts", found={}, prefix="") == ""

    @pytest.mark.parametrize("twin", [True, False])
    def test_only_the_twin_s_numbers_are_called_simulated(self, twin):
        words = {"twin": twin, "has_curves": True, "site_name": "A"}
        pages = ("site", "simulated"), ("cross_site", "simulated")
        told = [spoken(page, macro, **words) for page, macro in pages]
        assert [bool(text) for text in told] == [twin, twin]
        assert ("twin" in spoken("real_record", "opening", **words)) == twin

    @pytest.mark.parametrize("both", [True, False])
    def test_beside_a_database_the_real_record_says_nothing_of_the_twin(self, both):
        words = {"twin": False, "has_curves": True, "both_published": both, "output_dir": "o"}
        macros = ("opening", "machines", "usage", "files", "robots", "people", "where")
        told = " ".join(spoken("real_record", macro, **words) for macro in macros)
        told += spoken("real_appendix", "removals", **words)
        assert "twin" not in told
        assert ("CHI@TACC and CHI@UC together" in told) == both
        assert ("people_requested_tacc" in told) == both

    def test_a_word_that_nobody_gives_is_an_error(self):
        with pytest.raises(jinja2.UndefinedError, match="'site_name' is undefined"):
            spoken("site", "percent", source="simulated")

    def test_a_sentence_that_is_not_there_is_an_error(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run, "NOTEBOOKS", tmp_path)
        (tmp_path / "site.py").write_text(
            '# %% tags=["parameters"]\na = 1\n\n# %% [markdown]\n# {{ words.stuck() }}\n'
        )
        with pytest.raises(UsageError, match=r"cell 1: .*has no attribute 'stuck'"):
            run.fill(run.read_notebook("site"), "site", {"a": 1})
