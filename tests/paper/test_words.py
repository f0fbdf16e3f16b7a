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
        plain = {"has_ondemand": False, "use_unknown": False}
        assert spoken("site", "states", **plain, predecessor="").endswith(
            "add up to the black line."
        )
        told = spoken("site", "states", **plain, predecessor="first cloud")
        assert "The site's first cloud had databases of its own" in told
        words = {"source": "simulated", "has_ondemand": True, "legends": ["B in yellow"]}
        caption = spoken("cross_site", "usage", **words, predecessors={"B": "first cloud"})
        assert "black line = total; B in yellow. A middle" in caption
        assert "the sum lacks it: so with the first cloud of B." in caption
        yearly = spoken("cross_site", "yearly", predecessors={"B": "first cloud"})
        assert yearly.endswith("not begun yet; B had a first cloud before, which *All* lacks, too.")
        assert spoken("cross_site", "yearly", predecessors={}).endswith("has not begun yet.")

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            ({"has_ondemand": True}, "How many GPUs a slice or a virtual machine holds is in none"),
            ({"devices": True}, "doing (s), in percent of its total, monthly means. Grey, where"),
            ({}, "A bare-metal instance holds the whole node in every resource. Grey, where"),
        ],
    )
    def test_resources_are_explained_by_what_the_site_has(self, words, sentence):
        plain = {"has_ondemand": False, "devices": False, "site_name": "A", "source": "s"}
        assert sentence in spoken("site", "resources", **(plain | words))

    def test_other_counts_say_where_the_rest_of_the_gap_is(self):
        found = {"gap_year": 1, "gap_count": "total", "gap_nodes": 3.0, "gap_word": "more"}
        told = spoken("site", "other_counts", found=found | {"gap_types": 1.0}, prefix="")
        assert told.startswith("- *Other counts.* The yearly means of *corrected* and *legacy*")
        assert told.endswith("does not have in that year, the rest are elsewhere.")
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
        macros = ("opening", "machines", "removals", "usage", "files", "robots", "people", "where")
        told = " ".join(spoken("real_record", macro, **words) for macro in macros)
        assert "twin" not in told
        assert ("CHI@TACC and CHI@UC together" in told) == both
        assert ("people_requested_tacc" in told) == both

    def test_a_word_that_nobody_gives_is_an_error(self):
        with pytest.raises(jinja2.UndefinedError, match="'site_name' is undefined"):
            spoken("site", "percent", source="simulated", use_unknown=False)

    def test_a_sentence_that_is_not_there_is_an_error(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run, "NOTEBOOKS", tmp_path)
        (tmp_path / "site.py").write_text(
            '# %% tags=["parameters"]\na = 1\n\n# %% [markdown]\n# {{ words.stuck() }}\n'
        )
        with pytest.raises(UsageError, match=r"cell 1: .*has no attribute 'stuck'"):
            run.fill(run.read_notebook("site"), "site", {"a": 1})
