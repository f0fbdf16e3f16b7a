"""Reviewers run again: each notebook alone and soon, JupyterLab, and the book's own once more."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import nbformat
import pytest

from paper.lab import link
from paper.run import run_notebook
from support import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted(path.stem for path in (PROJECT / "notebooks").glob("*.py"))
BIN = Path(sys.executable).parent
TOKEN = "of-this-test-alone"
SECONDS = 20
"""What a notebook may take of a core; by the clock it is less, where nobody else has the cores."""


@pytest.fixture(scope="module")
def outputs() -> Path:
    """Output tables of the default choice."""
    if not (PROJECT / "output" / "combined").is_dir():
        pytest.skip("no output tables: run `make run`")
    return PROJECT / "output"


@pytest.fixture(scope="module")
def opened(outputs, tmp_path_factory) -> Path:
    """A folder with the notebooks for JupyterLab."""
    folder = tmp_path_factory.mktemp("lab")
    subprocess.run(
        [sys.executable, "-m", "paper", "lab", folder, *NOTEBOOKS, "-p", "output_dir", outputs],
        cwd=PROJECT,
        check=True,
    )
    return folder


def used() -> float:
    """Give the seconds of a core that processes started here have used."""
    of = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of.ru_utime + of.ru_stime


class TestAlone:
    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            *((name, {}) for name in NOTEBOOKS),
            ("site", {"site": "chi_edge"}),
            ("site", {"site": "chi_tacc", "start": "2018-03-01", "end": "2019-03-01"}),
            ("cross_site", {"sites": "chi_uc kvm_tacc", "start": "2024-01-01"}),
        ],
        ids=lambda value: value if isinstance(value, str) else " ".join(value.values()) or "all",
    )
    def test_each_runs_from_saved_outputs_with_other_parameters(
        self, opened, tmp_path, name, changes
    ):
        notebook = nbformat.read(opened / f"{name}.ipynb", as_version=4)
        cell = notebook.cells[1]
        for key, value in changes.items():
            cell.source, found = re.subn(
                rf'^{key} = "[^"]*"', f'{key} = "{value}"', cell.source, flags=re.MULTILINE
            )
            assert found
        nbformat.write(notebook, tmp_path / "run.ipynb")
        begun, clock = used(), time.monotonic()
        subprocess.run(
            [BIN / "jupyter-execute", "--inplace", tmp_path / "run.ipynb"],
            env=os.environ | {"IPYTHONDIR": str(tmp_path)},
            check=True,
        )
        took = used() - begun
        assert took < SECONDS, f"{time.monotonic() - clock:.1f} s by the clock"
        done = nbformat.read(tmp_path / "run.ipynb", as_version=4)
        kinds = {
            kind
            for cell in done.cells
            for output in cell.get("outputs", [])
            for kind in output.get("data", {})
        }
        assert {"text/html", "text/markdown"} <= kinds

    @pytest.mark.parametrize("bucket", ["1h", "1w"])
    def test_a_site_runs_with_other_buckets(self, lively_raw, lively_outputs, tmp_path, bucket):
        outputs = lively_outputs("--bucket", bucket)
        given = {"site": "chi_tacc", "output_dir": outputs, "data_dir": lively_raw}
        link(outputs, tmp_path / "output")
        given["output_dir"] = tmp_path / "output"
        run_notebook("site", tmp_path / "site.ipynb", tuple((k, str(v)) for k, v in given.items()))
        assert (tmp_path / "output" / "plots" / "chi_tacc_stack.svg").exists()


@pytest.fixture
def server(opened, tmp_path) -> Iterator[str]:
    """The address of a JupyterLab on a port of its own choice."""
    program = shutil.which("jupyter-lab", path=str(BIN))
    if program is None:
        pytest.skip("JupyterLab is not installed: run `make lab-notebooks`")
    places = {f"JUPYTER_{what}_DIR": str(tmp_path) for what in ("RUNTIME", "CONFIG", "DATA")}
    settings = PROJECT / "paper" / "jupyterlab"
    command = [program, "--no-browser", "--allow-root", "--port=0"]
    command += [f"--LabApp.app_settings_dir={settings}", f"--ServerApp.root_dir={opened}"]
    with subprocess.Popen(
        command,
        env=os.environ | places | {"JUPYTER_TOKEN": TOKEN, "IPYTHONDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        for _ in range(600):
            told = [json.loads(p.read_text() or "{}") for p in tmp_path.glob("jpserver-*.json")]
            if told and told[0] and answers(told[0]["url"]):
                break
            assert process.poll() is None, "JupyterLab ended"
            time.sleep(0.2)
        yield told[0]["url"]
        process.terminate()


def ask(url: str, path: str, method: str = "GET", content: dict | None = None) -> bytes:
    """Ask the server as one who has the token; give what it says."""
    here = urlsplit(url)
    connection = HTTPConnection(here.hostname, here.port, timeout=60)
    body = json.dumps(content) if content else None
    connection.request(method, f"/{path}", body, {"Authorization": f"token {TOKEN}"})
    reply = connection.getresponse()
    said = reply.read()
    connection.close()
    assert reply.status == 200, said
    return said


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "api"))
    except OSError:
        return False


class TestJupyterLab:
    def test_starts_here_alone_and_lists_the_notebooks_with_their_pairs(self, server):
        assert urlsplit(server).hostname in {"localhost", "127.0.0.1"}
        listed = {file["name"] for file in json.loads(ask(server, "api/contents/"))["content"]}
        assert {f"{name}.{end}" for name in NOTEBOOKS for end in ("ipynb", "py")} <= listed
        asked = "lab/api/settings/@jupyterlab/apputils-extension:notification"
        shown = json.loads(ask(server, asked))["schema"]["properties"]
        assert shown["fetchNews"]["default"] == "false"  # nobody outside is asked
        assert not shown["checkForUpdates"]["default"]

    def test_saving_a_notebook_writes_its_pair(self, server, opened):
        notebook = json.loads(ask(server, "api/contents/facts.ipynb"))
        assert notebook["content"]["cells"][1]["metadata"]["tags"] == ["parameters"]
        notebook["content"]["cells"][0]["source"] = "Said by a reviewer."
        ask(server, "api/contents/facts.ipynb", "PUT", notebook)
        assert "# Said by a reviewer." in (opened / "facts.py").read_text()


@pytest.mark.parametrize("name", ["facts", "chi_edge", "cross_site", "real_record", "validation"])
def test_a_notebook_of_the_book_runs_again_to_the_same_outputs(outputs, tmp_path, name):
    executed = PROJECT / "book" / "notebooks" / f"{name}.ipynb"
    if not executed.exists():
        pytest.skip("no notebooks have been run: run `make book`")
    link(outputs, tmp_path / "output")
    text = executed.read_text(encoding="utf-8")
    # Figures go to a folder of the test, and all that is read is the same.
    text = text.replace(r"output_dir = \"output\"", rf"output_dir = \"{tmp_path}/output\"")
    (tmp_path / f"{name}.ipynb").write_text(text, encoding="utf-8")
    (tmp_path / "sanitize.cfg").write_text("[addresses]\nregex:  at 0x[0-9a-f]+\nreplace: \n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    again = ["--nbval", "--nbval-sanitize-with=sanitize.cfg", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *again, f"{name}.ipynb"],
        cwd=tmp_path,
        env=os.environ | {"IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
