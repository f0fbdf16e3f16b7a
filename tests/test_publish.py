"""What is published, and how: the workflow runs the targets that everybody runs, and no more."""

from __future__ import annotations

import datetime as dt
import re

import pytest
import yaml

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
