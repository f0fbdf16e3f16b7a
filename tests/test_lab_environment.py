"""Where reviewers run the notebooks: the lock of JupyterLab, the target, Binder and the image."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import PROJECT
from support.command import called


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


PIN = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)

BLOCK = re.compile(r"^(?=[\w.-]+(?:\[[^\]]*\])?==)", re.MULTILINE)


def pins(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for package, version in PIN.findall(text(name)):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


GROUP = [Requirement(r) for r in tomllib.loads(text("pyproject.toml"))["dependency-groups"]["lab"]]
LAB, MAIN = pins("requirements-lab.txt"), pins("requirements.txt")
TARGETS = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


class TestLock:
    @pytest.mark.parametrize("requirement", GROUP, ids=str)
    def test_what_the_group_asks_for_is_pinned(self, requirement):
        versions = LAB.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not in requirements-lab.txt: compile it anew"
        assert all(requirement.specifier.contains(version) for version in versions)

    def test_its_versions_are_those_of_the_first_lock(self):
        both = LAB.keys() & MAIN.keys()
        assert {"ipykernel", "nbclient"} <= both
        assert {name for name in both if not LAB[name] <= MAIN[name]} == set(), "compile it anew"

    def test_every_pin_has_a_hash_and_no_index_is_named(self):
        lock = text("requirements-lab.txt")
        blocks = BLOCK.split(lock)[1:]
        assert len(blocks) == sum(map(len, LAB.values()))
        assert [b.split("\n")[0] for b in blocks if "--hash=sha256:" not in b] == []
        assert "://" not in lock

    def test_neither_book_nor_tests_install_it(self):
        assert "jupyterlab" in LAB
        assert "jupyterlab" not in MAIN
        dry = ["make", "--dry-run", "--always-make", "book", "test", "SITES=chi_uc"]
        said = called(*dry, cwd=PROJECT)
        assert "requirements.txt" in said
        assert "requirements-lab.txt" not in said


class TestTarget:
    @pytest.mark.parametrize("more", [[], ["SITES=chi_uc kvm_tacc"], ["BUCKET=1h"]])
    def test_opens_a_notebook_of_the_choice_that_it_writes(self, more):
        said = called("make", "--dry-run", "lab", "FLAGS=--no-browser", *more, cwd=PROJECT)
        [written] = re.findall(r"python -m paper lab (.*)", said)
        [opened] = re.findall(r"jupyter lab (.*)", said)
        folder, *words = shlex.split(written)
        assert folder == "build/lab" if not more else folder.startswith("build/choices/")
        assert shlex.split(opened)[-2:] == ["--no-browser", f"{folder}/site.ipynb"]
        given = {words[at + 1]: words[at + 2] for at, word in enumerate(words) if word == "-p"}
        assert given["output_dir"] == f"{folder.removesuffix('build/lab')}output"
        assert given["site"] in given["sites"].split()
        names = words[: words.index("-p")]
        assert {*names} <= {path.stem for path in (PROJECT / "notebooks").glob("*.py")}
        assert {"site", "cross_site", "validation"} <= {*names}


class TestBinder:
    def test_installs_the_two_locks_and_nothing_else(self):
        asked = [line for line in text(".binder/requirements.txt").splitlines() if line[0] != "#"]
        assert asked == ["-r ../requirements.txt", "-r ../requirements-lab.txt"]
        version = text(".binder/runtime.txt").strip().removeprefix("python-")
        assert f"python={version}" in text("environment.yml")

    def test_makes_by_targets_that_exist_in_the_image_own_environment(self):
        script = PROJECT / ".binder" / "postBuild"
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", script], check=True)
        lines = [line for line in script.read_text().splitlines() if not line.startswith("#")]
        [made] = [line.split()[1:] for line in lines if line.startswith("make ")]
        assert made
        assert set(made) <= TARGETS
        stamps = set(re.findall(r"\$\(VENV\)/(\w+)\.done", text("Makefile")))
        [loop] = [line for line in lines if line.startswith("for stamp in ")]
        assert set(loop.split(";")[0].split()[3:]) == stamps

    def test_pip_takes_both_locks_together(self):
        """A package of both would otherwise be asked for twice, with other hashes."""
        of_both: dict[str, list[set[str]]] = {}
        for name in ("requirements.txt", "requirements-lab.txt"):
            for block in re.split(r"^(?=[\w.-]+(?:\[[^\]]*\])?==)", text(name), flags=re.MULTILINE)[
                1:
            ]:
                pin = block.split(" \\\n")[0].split(" ;")[0]
                hashes = set(re.findall(r"--hash=(\S+)", block))
                of_both.setdefault(pin, []).append(hashes)
        twice = {pin: found for pin, found in of_both.items() if len(found) > 1}
        assert twice
        assert [pin for pin, (one, *more) in twice.items() if any(one != two for two in more)] == []


class TestImage:
    STAGES = re.split(r"^(?=FROM )", text("Containerfile"), flags=re.MULTILINE)[1:]

    def test_the_operators_tool_is_what_is_built_by_default(self):
        assert 'ENTRYPOINT ["chameleon-usage"]' in self.STAGES[-1]

    def test_the_lab_is_made_by_targets_that_exist(self):
        [lab] = [stage for stage in self.STAGES if " AS lab\n" in stage]
        made = re.findall(r"^RUN make (.*)$", lab, re.MULTILINE)
        [command] = re.findall(r'^CMD \["make", "([a-z-]+)", "FLAGS=([^"]*)"\]$', lab, re.MULTILINE)
        assert {*made, command[0]} == {"lab-notebooks", "lab"} <= TARGETS
        assert "--no-browser" in command[1]

    def test_takes_nothing_along_that_it_makes_for_itself(self):
        ignored = {line.removeprefix("**/") for line in text(".dockerignore").splitlines()}
        made = {line.strip("/") for line in text(".gitignore").splitlines() if line}
        assert made <= ignored
        kept = ["requirements.txt", "requirements-lab.txt", "Makefile", "data", "book", "paper"]
        assert not ignored & set(kept)
