"""The frame: environment, commands, licences, and what the Makefile redoes and what it leaves."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.site import load_sites
from support import PROJECT
from support.command import called

METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
LOCKED_APART = {"spark": "tests/cluster/spark.lock"}
"""Extras that are no part of the environment, and their locks."""
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
README = (PROJECT / "README.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*?## ", MAKEFILE, flags=re.MULTILINE))


def asked() -> list[Requirement]:
    project = METADATA["project"]
    groups = project["optional-dependencies"]
    extras = [r for name, group in groups.items() if name not in LOCKED_APART for r in group]
    return [
        Requirement(r)
        for r in [*project["dependencies"], *extras, *METADATA["build-system"]["requires"]]
    ]


def pins() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", LOCK, re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


class TestEnvironment:
    @pytest.mark.parametrize("requirement", asked(), ids=str)
    def test_what_the_package_asks_for_is_pinned(self, requirement):
        versions = pins().get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in requirements.txt: compile the lock anew"
        assert all(requirement.specifier.contains(version) for version in versions)

    @pytest.mark.parametrize("extra", LOCKED_APART)
    def test_what_is_locked_apart_is_pinned_with_hashes(self, extra):
        lock = (PROJECT / LOCKED_APART[extra]).read_text(encoding="utf-8")
        blocks = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
        assert [block.split("\n")[0] for block in blocks if "--hash=sha256:" not in block] == []
        found = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
        for requirement in map(Requirement, METADATA["project"]["optional-dependencies"][extra]):
            assert requirement.specifier.contains(found[requirement.name])

    def test_every_pin_has_a_hash(self):
        blocks = re.split(r"^(?=[\w.-]+(?:\[[^\]]*\])?==)", LOCK, flags=re.MULTILINE)[1:]
        assert len(blocks) == sum(map(len, pins().values()))
        assert [b.split("\n")[0] for b in blocks if "--hash=sha256:" not in b] == []

    @pytest.mark.parametrize("name", ["requirements.txt", "environment.yml", "pyproject.toml"])
    def test_no_index_is_named(self, name):
        assert "://" not in (PROJECT / name).read_text(encoding="utf-8")

    def test_conda_users_get_the_same(self):
        environment = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
        assert environment["name"] == METADATA["project"]["name"]
        python, pip, rest = environment["dependencies"]
        version = python.removeprefix("python=")
        assert METADATA["project"]["requires-python"] == f">={version}"
        assert METADATA["tool"]["mypy"]["python_version"] == version
        assert METADATA["tool"]["ruff"]["target-version"] == "py" + version.replace(".", "")
        assert (pip, rest) == ("pip", {"pip": ["-r requirements.txt"]})


class TestPackage:
    """What an operator installs."""

    def test_the_wheel_holds_the_operators_tool_alone(self, tmp_path):
        [path] = WheelBuilder(str(PROJECT)).build(directory=str(tmp_path), versions=["standard"])
        wheel = zipfile.ZipFile(path)
        tops = {name.split("/")[0] for name in wheel.namelist()}
        version = METADATA["project"]["version"]
        assert tops == {"chameleon_usage", f"chameleon_usage-{version}.dist-info"}
        [points] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        assert re.findall(r"(?m)^(\S+) =", wheel.read(points).decode()) == ["chameleon-usage"]

    def test_a_checkout_has_the_twins_command_too(self):
        command = Path(sys.executable).with_name("chameleon-twin")
        assert "--site" in called(command, "make", "--help")

    def test_what_the_tool_imports_is_required_and_nothing_else_is(self):
        package = PROJECT / "src" / "chameleon_usage"
        files = [path for path in package.rglob("*.py") if "viz" not in path.parts]
        taken = set()
        for path in files:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    taken |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    taken.add(node.module)
        found = {name.split(".")[0] for name in taken} - sys.stdlib_module_names
        needed = {{"yaml": "pyyaml"}.get(name, name) for name in found - {"chameleon_usage"}}
        required = {Requirement(r).name for r in METADATA["project"]["dependencies"]}
        # SQLAlchemy loads the driver of PostgreSQL by itself.
        assert needed | {"psycopg"} == required

    def test_the_image_is_made_of_files_that_are_there(self):
        lines = (PROJECT / "Containerfile").read_text(encoding="utf-8").splitlines()
        copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
        sources = [word for word in copied if not word.startswith(("--", "/"))]
        assert {"pyproject.toml", "hatch_build.py", "requirements.txt"} <= set(sources)
        assert [name for name in sources if not (PROJECT / name).exists()] == []


class TestPapers:
    def test_the_two_licences_are_the_standard_texts(self):
        assert METADATA["project"]["license"] == "Apache-2.0 AND CC-BY-4.0"
        assert METADATA["project"]["license-files"] == ["LICENSE", "LICENSE-TEXT"]
        code = (PROJECT / "LICENSE").read_text(encoding="utf-8")
        text = (PROJECT / "LICENSE-TEXT").read_text(encoding="utf-8")
        assert "Version 2.0, January 2004" in code
        assert "END OF TERMS AND CONDITIONS" in code
        assert text.startswith("Creative Commons Attribution 4.0 International")
        assert "Section 8" in text

    def test_the_citation_is_that_of_this_version(self):
        citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
        assert citation["version"] == METADATA["project"]["version"]
        assert citation["title"] in README.replace("\n> ", " ")

    def test_the_readme_names_commands_and_files_that_exist(self):
        commands = set(re.findall(r"`?make (?:PYTHON=\S+ )?([a-z]+)", README))
        assert {"book", "test"} <= commands <= TARGETS
        links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
        assert links
        assert [link for link in links if not (PROJECT / link).exists()] == []

    def test_the_contributors_page_names_commands_files_and_rooms_that_exist(self):
        page = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        assert {"test", "book", "verify"} <= set(re.findall(r"make ([a-z]+)", page)) <= TARGETS
        package = PROJECT / "src" / "chameleon_usage"
        paths = [
            path
            for path, new in re.findall(r"`(?:python )?([\w./]+(?:/|\.\w+))`(, new)?", page)
            if not new
        ]
        assert len(paths) > 20
        lost = [p for p in paths if not (PROJECT / p).exists() and not (package / p).exists()]
        assert lost == [], "CONTRIBUTING.md names files that are not there"
        told = page.split("## The folders")[1].split("## ")[0]
        rooms = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
        assert [room for room in sorted(rooms) if f"`{room}`" not in told] == []

    def test_the_checks_are_the_two_commands_first(self):
        script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
        assert os.access(PROJECT / ".ci" / "run", os.X_OK)
        lines = [line for line in script.splitlines() if line.startswith("make ")]
        assert lines[:2] == ["make test", "make book"]
        subprocess.run(["bash", "-n", PROJECT / ".ci" / "run"], check=True)


ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "models": ("errors",),
    "intervals": (),
    "io.files": ("errors",),
    "snapshots": ("errors", "models", "intervals", "io.files"),
    "ingest": ("errors", "models", "intervals", "snapshots", "io.files"),
    "reconstruct": ("errors", "models", "intervals"),
    "usage": ("errors", "models", "intervals", "reconstruct"),
    "stages": ("errors", "models", "intervals", "io.files"),
    "engines": ("errors", "io.files"),
    "ranges": ("errors", "models", "intervals", "reconstruct", "usage", "engines", "io.files"),
    "shards": (
        *("errors", "models", "intervals", "snapshots", "ingest", "reconstruct", "ranges"),
        *("engines", "io.files"),
    ),
    "nightly": ("models", "intervals", "usage"),
    "pipeline": (
        *("errors", "models", "ingest", "reconstruct", "usage", "stages", "ranges", "engines"),
        "io.files",
    ),
    "runs": (
        *("models", "ingest", "usage", "stages", "ranges", "engines", "shards", "nightly"),
        *("pipeline", "io.files"),
    ),
    "io": ("errors", "models", "intervals", "snapshots", "ingest", "stages", "io.files"),
    "viz": ("models", "io.files"),
    "cli": (
        *("errors", "models", "snapshots", "ingest", "usage", "stages", "ranges", "engines"),
        *("pipeline", "runs", "io", "io.files"),
    ),
}
"""Room of the house to the rooms from which it may import; the first import from none."""


def imports_of(path: Path) -> set[str]:
    """Give the modules of the project that a file imports, packages of what it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0].startswith("chameleon_")}


def room_of(name: str) -> str:
    """Name the room of a module, given without the package."""
    return "io.files" if name.startswith("io.files") else name.split(".", maxsplit=1)[0]


class TestArrows:
    """Who may import whom."""

    def test_each_room_imports_from_those_before_it_alone(self):
        package = PROJECT / "src" / "chameleon_usage"
        wrong, rooms = [], set()
        for path in sorted(package.rglob("*.py")):
            inner = path.relative_to(package).with_suffix("")
            room = room_of(".".join(inner.parts).removesuffix(".__init__"))
            if room == "__init__":
                continue
            rooms.add(room)
            for name in imports_of(path):
                other = room_of(name.removeprefix("chameleon_usage."))
                if other != room and other not in ROOMS.get(room, ()):
                    wrong.append(f"{inner}: {name}")
        assert not wrong, "\n".join(wrong)
        assert rooms == set(ROOMS)

    @pytest.mark.parametrize("one", ["chameleon_twin", "chameleon_usage"])
    def test_twin_and_pipeline_share_no_code(self, one):
        files = sorted((PROJECT / "src" / one).rglob("*.py"))
        assert files
        strange = {name for path in files for name in imports_of(path)}
        assert {name.split(".")[0] for name in strange} <= {one}

    def test_the_program_knows_nothing_of_the_paper(self):
        files = sorted((PROJECT / "src").rglob("*.py"))
        taken = re.compile(r"^\s*(?:from|import) paper\b", re.MULTILINE)
        assert [path for path in files if taken.search(path.read_text("utf-8"))] == []

    def test_no_test_imports_another(self):
        tests = {path.stem for path in (PROJECT / "tests").rglob("test_*.py")}
        for path in (PROJECT / "tests").rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            taken = set(re.findall(r"^\s*(?:from|import) (?:\w+\.)*(\w+)", text, re.MULTILINE))
            assert not taken & tests, path


# Stand-ins for the commands that the Makefile calls: each writes what it would write, and a line
# in a log, so that a test sees what was redone.
COMMAND = """#!/usr/bin/env bash
set -euo pipefail
echo "$(basename "$0") $*" >> log
fail() { if [ -e "fail-$1" ]; then echo half > "$2"; exit 1; fi; }
case "$(basename "$0") $1 ${2-} ${3-}" in
    "chameleon-twin make"*)
        mkdir -p "$5/$3/truth"
        echo raw > "$5/$3/nova.instances.parquet"
        echo '{}' > "$5/$3/manifest.json" ;;
    "chameleon-usage run"*) mkdir -p "$7/$3"; echo usage > "$7/$3/usage_timeline.parquet" ;;
    "python -m paper ablation")
        mkdir -p "$9/ablation/$5"
        echo ablation > "$9/ablation/$5/ablation.parquet" ;;
    "chameleon-usage combine"*)
        mkdir -p "$3/combined"
        echo all > "$3/combined/usage_timeline.parquet" ;;
    "python -m paper run")
        mkdir -p "$(dirname "$5")"
        if [ "$4" = site ]; then
            fail "$8" "$5"
            mkdir -p "${!#}/plots"
            touch "${!#}/plots/$8_stack."{svg,png}
        fi
        echo notebook > "$5" ;;
    "python -m paper html") mkdir -p "$4"; echo "${@:5}" > "$4/index.html" ;;
    "python -m paper metrics") echo page > "$4" ;;
    "python -m paper pdf") mkdir -p "$(dirname "$5")"; echo paper > "$5" ;;
esac
"""


class Tree:
    """A copy of the Makefile with stand-ins around it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copy(PROJECT / "Makefile", root)
        shutil.copy(PROJECT / "pyproject.toml", root)
        for name in ("chameleon-twin", "chameleon-usage", "python"):
            self.write(f".venv/bin/{name}", COMMAND).chmod(0o755)
        for folder in ("src", "notebooks", "paper"):
            for path in (PROJECT / folder).rglob("*.py"):
                self.write(str(path.relative_to(PROJECT)), "")
        for name in (
            *("requirements.txt", "data/calibration.yaml", "data/events.yaml", "data/facts.yaml"),
            *(f"data/{name}.csv" for name in ("errors", "halves", "seeds", "thresholds")),
            "paper/pdf.typ",
            *("book/_config.yml", "book/_toc.yml", "book/references.bib", "book/index.md"),
        ):
            self.write(name, "")
        shutil.copy(PROJECT / "data" / "sites.yaml", root / "data")
        self.age(60)
        self.write(".venv/lock.done", "")
        self.write(".venv/package.done", "")
        self.age(50)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def age(self, seconds: float) -> None:
        """Make every file this much older."""
        for path in self.root.rglob("*"):
            status = path.lstat()
            times = (status.st_atime - seconds, status.st_mtime - seconds)
            os.utime(path, times, follow_symlinks=False)

    def make(self, *args: str) -> tuple[int, list[str]]:
        """Run make; give its exit status and the commands that it ran."""
        log = self.root / "log"
        log.unlink(missing_ok=True)
        self.age(10)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            ["make", *args], cwd=self.root, env=clean, capture_output=True, text=True, check=False
        )
        self.said = done.stdout + done.stderr
        return done.returncode, log.read_text().splitlines() if log.exists() else []

    def has(self, name: str) -> bool:
        return (self.root / name).exists()

    def files(self) -> dict[str, str]:
        """Give every file, and what is in it."""
        return {
            str(p.relative_to(self.root)): p.read_text()
            for p in self.root.rglob("*")
            if p.is_file()
        }


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path)


def about(commands: list[str], word: str) -> list[str]:
    return [command for command in commands if word in command]


def calibration() -> dict:
    return yaml.safe_load((PROJECT / "data" / "calibration.yaml").read_text(encoding="utf-8"))


class TestMakefile:
    def test_plain_make_lists_what_can_be_asked_for(self, tree):
        status, commands = tree.make()
        assert (status, commands) == (0, [])
        assert set(re.findall(r"^  make ([\w-]+)", tree.said, re.MULTILINE)) == TARGETS
        assert {"book", "test", "data", "run", "notebooks", "verify", "bench", "clean"} <= TARGETS

    @pytest.mark.parametrize(
        ("asked", "jobs"),
        [((), 2), (("JOBS=3",), 3), (("-j3",), 3), (("-j", "1"), 1), (("-j",), 2)],
    )
    def test_j_is_heard_by_what_runs_its_own_jobs(self, tree, asked, jobs):
        status, _ = tree.make("--dry-run", "test", *asked)
        assert status == 0, tree.said
        assert f"pytest -q -n {jobs} " in tree.said

    def test_a_book_from_nothing_makes_each_step_once(self, tree):
        status, commands = tree.make("book")
        assert status == 0, tree.said
        assert len(about(commands, "chameleon-twin make")) == 4
        assert len(about(commands, "chameleon-usage run")) == 4
        assert len(about(commands, "chameleon-usage combine")) == 1
        assert len(about(commands, "paper run site")) == 4
        assert len(about(commands, "paper html")) == 1
        assert tree.has("book/_build/html/index.html")
        assert "The paper: book/_build/html/index.html" in tree.said

    def test_the_marks_of_the_sites_are_those_that_the_program_reads(self, tree):
        _, commands = tree.make("book", "-j1")
        sites = load_sites(PROJECT / "data" / "sites.yaml", frozenset(ADAPTERS))
        twin, large, ablation = (
            {key for key, site in sites.items() if getattr(site, mark)}
            for mark in ("twin", "large", "ablation")
        )
        made, ran, ablated = (
            [c.split()[c.split().index("--site") + 1] for c in about(commands, what)]
            for what in ("chameleon-twin make", "chameleon-usage run", "paper ablation")
        )
        assert set(made) == set(ran) == twin == set(calibration()["sites"])
        assert set(ran[: len(large)]) == large
        assert set(ablated) == ablation

    def test_a_second_book_redoes_nothing(self, tree):
        tree.make("book")
        tree.write("paper/__pycache__/html.pyc", "kept by Python while the book was made")
        assert tree.make("book") == (0, [])

    def test_bytecode_that_another_command_kept_makes_nothing_old(self, tree):
        tree.make("book")
        for folder in ("paper", "paper/figures", "src/chameleon_usage/viz"):
            tree.write(f"{folder}/__pycache__/pdf.cpython-311.pyc", "")
        assert tree.make("book") == (0, [])

    @pytest.mark.parametrize("more", [["DATA=dump"], ["SITES=chi_uc"], ["CONFIG=mine.yaml"]])
    def test_a_dry_run_changes_nothing(self, tree, more):
        tree.write("dump/my_site/nova.instances.parquet", "real")
        tree.write("mine.yaml", "")
        tree.make("book")
        before = tree.files()
        status, commands = tree.make("--dry-run", "book", *more)
        assert (status, commands) == (0, []), tree.said
        assert "paper html" in tree.said
        assert tree.files() == {k: v for k, v in before.items() if k != "log"}

    def test_the_paper_as_one_file_comes_from_the_pages_when_asked_for(self, tree):
        tree.make("book")
        assert not tree.has("book/_build/pdf")
        status, commands = tree.make("pdf")
        assert (status, len(commands)) == (0, 1), tree.said
        assert "paper pdf build/html build/pdf/" in commands[0]
        assert tree.make("pdf") == (0, [])
        tree.make("run", "SITES=chi_tacc")
        assert tree.has("book/_build/pdf/chameleon-usage.pdf")
        assert tree.make("pdf") == (0, [])

    def test_touching_one_site_redoes_that_site_and_what_combines_sites(self, tree):
        tree.make("book")
        tree.age(10)
        tree.write("data/twin/chi_uc/nova.instances.parquet", "other")
        status, commands = tree.make("book")
        assert status == 0
        assert about(commands, "chameleon-twin") == []
        assert [c.split()[3] for c in about(commands, "chameleon-usage run")] == ["chi_uc"]
        assert [c.split()[8] for c in about(commands, "paper run site")] == ["chi_uc"]
        assert {c.split()[4] for c in about(commands, "paper run")} == {
            *("site", "cross_site", "validation", "real_record"),
            *("validation_appendix", "real_appendix"),
        }

    def test_a_site_of_which_nothing_was_published_leaves_the_real_record(self, tree):
        tree.write("notebooks/real_record.py", 'published_sites = "chi_tacc chi_uc"\n')
        tree.make("book")
        tree.age(10)
        tree.write("data/twin/chi_edge/zun.container.parquet", "other")
        _, commands = tree.make("book")
        again = {c.split()[4] for c in about(commands, "paper run")}
        assert "real_appendix" in again
        assert "real_record" not in again

    def test_touching_a_figure_redoes_no_pipeline(self, tree):
        tree.make("book")
        tree.age(10)
        tree.write("src/chameleon_usage/viz/stack.py", "# new")
        status, commands = tree.make("book")
        assert status == 0
        assert about(commands, "chameleon-") == []
        assert len(about(commands, "paper run site")) == 4

    def test_an_interrupted_book_leaves_no_half_file_and_goes_on(self, tree):
        fail = tree.write("fail-chi_uc", "")
        status, _ = tree.make("book")
        assert status != 0
        assert not tree.has("book/notebooks/chi_uc.ipynb")
        assert not tree.has("book/_build/html/index.html")
        fail.unlink()
        status, commands = tree.make("book")
        assert status == 0
        assert about(commands, "chameleon-usage run") == []
        assert tree.has("book/_build/html/index.html")

    def test_other_data_make_no_twin_and_never_mix(self, tree):
        tree.make("book")
        before = tree.files()
        tree.write("dump/my_site/nova.instances.parquet", "real")
        status, commands = tree.make("book", "DATA=dump")
        assert status == 0, tree.said
        assert about(commands, "chameleon-twin") == []
        assert [c.split()[3] for c in about(commands, "chameleon-usage run")] == ["my_site"]
        assert about(commands, "validation") == []
        shown = (tree.root / "book/_build/html/index.html").read_text()
        assert "my_site.ipynb" in shown
        assert "chi_tacc.ipynb" not in shown
        (output,) = re.findall(r"Its tables: (\S+)", tree.said)
        there = {path.name for path in (tree.root / output).iterdir()}
        assert there == {"my_site", "combined", "ablation"}
        default = ("output/", "book/notebooks/", "build/html/")
        kept, was = (
            {name: text for name, text in files.items() if name.startswith(default)}
            for files in (tree.files(), before)
        )
        assert kept == was

    def test_choices_side_by_side_do_not_disturb_each_other(self, tree):
        tree.write("dump/my_site/nova.instances.parquet", "real")
        choices = [[], ["DATA=dump"], ["SITES=chi_tacc kvm_tacc"], ["SITES=chi_uc"]]
        for more in choices:
            assert tree.make("book", *more)[0] == 0, tree.said
        for more in choices:
            assert tree.make("book", "pdf", *more)[1][1:] == []  # the paper as one file is new
            assert tree.make("book", "pdf", *more) == (0, [])
            shown = (tree.root / "book/_build/html/index.html").read_text()
            assert ("my_site" in shown) == (more == ["DATA=dump"])
            assert ("chi_uc" in shown) == (more in ([], ["SITES=chi_uc"]))

    def test_pages_that_an_earlier_build_put_there_give_way(self, tree):
        tree.write("book/_build/html/index.html", "older")
        tree.make("book")
        assert not (tree.root / "book/_build/html").is_symlink()
        assert "older" not in (tree.root / "book/_build/html/index.html").read_text()

    def test_another_configuration_reaches_each_step_and_never_mixes(self, tree):
        tree.make("book")
        tree.write("mine.yaml", "")
        for config, more in (("mine.yaml", ["CONFIG=mine.yaml"]), ("data/sites.yaml", [])):
            status, commands = tree.make("book", "verify", *more)
            assert status == 0, tree.said
            assert about(commands, "chameleon-twin") == []
            ran = [
                c for c in commands if re.search(r"usage (run|check)|paper ablation|-p data_dir", c)
            ]
            runs = 4 if more else 0  # those of the default choice are still fresh
            assert len(about(ran, "usage run")) == len(about(ran, "paper run site")) == runs
            assert len(about(ran, "usage check")) == 1
            assert [
                c for c in ran if not re.search(rf"-config {config}|-p config {config}", c)
            ] == []
            assert tree.make("book", *more) == (0, [])
            assert len(about(commands, "paper checksums")) == (0 if more else 1)

    def test_other_buckets_reach_each_count_and_never_mix(self, tree):
        tree.make("book")
        status, commands = tree.make("book", "BUCKET=1h")
        assert status == 0, tree.said
        counts = [c for c in commands if re.search(r"usage run|paper ablation", c)]
        assert len(about(counts, "usage run")) == 4
        assert len(about(counts, "paper ablation")) == 2
        assert [c for c in counts if not c.endswith("--bucket 1h")] == []
        (output,) = re.findall(r"Its tables: (\S+)", tree.said)
        assert output.startswith("build/choices/")
        assert tree.make("book")[1] == []

    def test_fewer_sites_keep_what_is_fresh_and_drop_the_others(self, tree):
        tree.make("book")
        status, commands = tree.make("book", "SITES=chi_tacc kvm_tacc")
        assert status == 0
        assert about(commands, "chameleon-usage run") == []
        assert about(commands, "python -m paper ablation") == []
        assert about(commands, "paper run site") == []
        combined = about(commands, "combine")
        assert len(combined) == 1
        assert combined[0].endswith("--site chi_tacc --site kvm_tacc")
        (output,) = re.findall(r"Its tables: (\S+)", tree.said)
        assert tree.has(f"{output}/chi_tacc/usage_timeline.parquet")
        assert not tree.has(f"{output}/chi_uc")
        tree.age(10)
        tree.write("data/twin/chi_tacc/nova.instances.parquet", "other")
        _, commands = tree.make("book", "SITES=chi_tacc kvm_tacc")
        assert len(about(commands, "chameleon-usage run")) == 1
        assert len(about(commands, "combine")) == 1

    def test_only_the_default_choice_is_recorded(self, tree):
        status, commands = tree.make("record", "SITES=chi_tacc")
        assert (status != 0, about(commands, "checksums")) == (True, [])
        assert "Only the default choice is recorded" in tree.said

    def test_uv_itself_is_installed_from_its_lines_of_the_lock(self):
        makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
        [script] = re.findall(r"sed -n '([^']+)' requirements\.txt \| .*--require-hashes", makefile)
        lock = called("sed", "-n", script.replace("$$", "$"), PROJECT / "requirements.txt")
        first, *others = lock.splitlines()
        assert re.fullmatch(r"uv==[\d.]+ \\", first)
        assert others
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in others)
        assert not others[-1].endswith("\\")

    def test_a_folder_without_sites_is_told(self, tree):
        tree.write("empty/readme.txt", "")
        status, commands = tree.make("book", "DATA=empty")
        assert (status != 0, commands) == (True, [])
        assert "No site in DATA=empty" in tree.said
