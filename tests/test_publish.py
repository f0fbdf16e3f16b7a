"""What is published, and how: the workflow runs the targets that everybody runs, and no more."""

from __future__ import annotations

import datetime as dt
import importlib.util
import re

import pytest
import yaml

from paper import html
from support import PROJECT

# YAML 1.1 reads the key `on` as a truth value.
TEXT = (PROJECT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT.replace("\non:", "\n'on':"))
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


def test_each_step_that_runs_something_is_a_target():
    targets = set(re.findall(r"(?m)^([a-z-]+):.*?## ", MAKEFILE))
    run = [step["run"] for step in STEPS if "run" in step]
    assert {"make test", "make book", "make verify", "make pdf", "make crate"} == set(run)
    assert {command.removeprefix("make ") for command in run} <= targets


def test_actions_are_pinned_by_their_major_version():
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", name)] == []


def test_each_job_may_do_what_it_needs():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    granted = {name: job.get("permissions") for name, job in WORKFLOW["jobs"].items()}
    assert granted == {
        "build": None,
        "pages": {"pages": "write", "id-token": "write"},
        "release": {"contents": "write"},
    }
    assert "secrets" not in TEXT


def test_nothing_is_published_that_was_not_built_and_tested():
    jobs = WORKFLOW["jobs"]
    assert jobs["pages"]["needs"] == jobs["release"]["needs"] == "build"
    order = [step.get("run") or step["uses"].split("@")[0] for step in jobs["build"]["steps"]]
    assert order.index("make verify") < order.index("actions/upload-pages-artifact")


def test_pages_go_out_from_main_and_files_from_a_tag():
    assert WORKFLOW["on"] == {"push": {"branches": ["main"], "tags": ["v*"]}}
    assert WORKFLOW["jobs"]["pages"]["if"] == "github.ref_type == 'branch'"
    assert WORKFLOW["jobs"]["release"]["if"] == "github.ref_type == 'tag'"


@pytest.mark.parametrize("name", ["chameleon-usage.pdf", "chameleon-usage.zip"])
def test_what_is_attached_is_what_the_targets_write(name):
    [upload] = [s for s in STEPS if s.get("uses", "").startswith("actions/upload-artifact@")]
    assert name in upload["with"]["path"]
    assert f"/{name}" in MAKEFILE


def test_the_citation_has_the_day_of_its_version():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert dt.date.fromisoformat(citation["date-released"]).year >= 2026


class TestCard:
    """How other sites show a link to a page: only a published book knows its address."""

    @pytest.fixture
    def card(self):
        path = PROJECT / "book" / "_ext" / "reachable.py"
        spec = importlib.util.spec_from_file_location("reachable", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.card

    def test_it_has_the_absolute_address_of_page_and_picture(self, card):
        tags = card("https://example.org/book/", "notebooks/a", "All <em>&amp;</em>", "B", "c.png")
        assert dict(re.findall(r'property="([^"]*)" content="([^"]*)"', tags)) == {
            "og:type": "article",
            "og:site_name": "B",
            "og:title": "All &amp;",
            "og:url": "https://example.org/book/notebooks/a.html",
            "og:image": "https://example.org/book/_static/c.png",
        }
        assert "og:image" not in card("https://example.org", "a", "A", "B", "")

    @pytest.mark.parametrize("url", ["", "https://example.org/"])
    def test_the_book_has_an_address_only_where_one_is_given(self, tmp_path, monkeypatch, url):
        picture = tmp_path / "facet.png"
        picture.write_bytes(b"png")
        monkeypatch.setattr(html, "CARD", picture)
        monkeypatch.setattr(html.render, "book_script", str)  # it takes seconds to make
        html.lay_out(tmp_path / "book", [], url)
        settings = yaml.safe_load((tmp_path / "book" / "_config.yml").read_text(encoding="utf-8"))
        assert settings["html"].get("baseurl", "") == url
        assert (tmp_path / "book" / "static" / "card.png").exists() == bool(url)

    def test_make_gives_the_address_and_keeps_such_pages_apart(self):
        assert "$(BOOK_URL:%=--url %)" in MAKEFILE
        assert "build/html$(if $(BOOK_URL),-published)" in MAKEFILE
        [book] = [step for step in STEPS if step.get("run") == "make book"]
        assert book["env"]["BOOK_URL"].startswith("https://")
