"""The notebooks as JupyterLab opens them: text and conditions follow the parameters when run.

In the book the templates of a notebook are filled before it runs. A reviewer changes a parameter
and runs again, so here they are filled by the kernel: cells of text are `%%markdown`, which takes
templates, and `%%when WORD` leaves out a cell of another case. Beside each notebook stands the
same as a script, its pair: JupyterLab writes both, and reads what was changed in either.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import jupytext
import myst_nb
import nbformat
from IPython.core.getipython import get_ipython
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from chameleon_usage.io.files import whole_file
from paper.context import context
from paper.project import ROOT
from paper.run import NOTEBOOKS, PARAMETERS, defaults, filler, parameters, read_notebook

PAIR = "ipynb,py:percent"
OPENING = """\
Change a parameter in the next cell and choose *Run*, *Run All Cells*: text, figures and tables
follow. What is drawn is written under `output_dir`; the book and its notebooks stay as they are."""

UNTOLD = "…"
"""Stands for a number that a later cell tells."""

_GLUE = re.compile(r"\{glue:text\}`(\w+):([^`]*)`")
_FOR_SPHINX = [
    (re.compile(r"^\([\w-]+\)=\n", re.MULTILINE), ""),  # labels
    (re.compile(r"^```\{note\}\n(.*?)\n```$", re.MULTILINE | re.DOTALL), r"> \1"),
    (re.compile(r" ?\(\[how\]\(#[\w-]+\)\)"), ""),
    (re.compile(r"\[([^]]*)\]\(#[\w-]+\)"), r"\1"),  # links to other pages
]


def plain(text: str, numbers: dict[str, Any]) -> str:
    """Write what only the book understands as plain markdown; a number not told yet is `…`.

    >>> plain("[Used](#used): {glue:text}`a:.1%` of {glue:text}`b:.0f`", {"a": 0.5})
    'Used: 50.0% of …'
    """

    def told(found: re.Match[str]) -> str:
        value = numbers.get(found[1])
        return UNTOLD if value is None else format(value, found[2])

    text = _GLUE.sub(told, text)
    for pattern, instead in _FOR_SPHINX:
        text = pattern.sub(instead, text)
    return text


class Page:
    """The words of a notebook while its kernel runs."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        self.name = name
        self.words = context(given)
        found, prefix = self.words.get("found", {}), self.words.get("prefix", "")
        self.numbers = {f"{prefix}{key}": value for key, value in found.items()}

    def text(self, template: str) -> str:
        """Fill a template."""
        return plain(filler(self.name, self.words)(template), self.numbers)


def begin(name: str) -> None:
    """Let a notebook's cells use `%%markdown` and `%%when`, with its parameters as they are."""
    shell: Any = get_ipython()
    known = defaults(read_notebook(name), name)
    page = Page(name, {key: shell.user_ns[key] for key in known})

    waiting: dict[str, str] = {}  # display to the text that cites numbers of later cells

    def show(display: str, cell: str, *, again: bool = False) -> None:
        said = page.text(cell)
        if not again or UNTOLD not in said:
            known_as = {"display_id": display}
            shell.display_pub.publish({"text/markdown": said}, transient=known_as, update=again)
            waiting.pop(display, None)
        if UNTOLD in said:
            waiting[display] = cell

    def markdown(_: str, cell: str) -> None:
        show(uuid4().hex, cell)

    def catch_up(*_: object) -> None:
        for display, cell in list(waiting.items()):
            show(display, cell, again=True)

    def when(word: str, cell: str) -> None:
        if page.words[word.strip()]:
            shell.run_cell(cell).raise_error()

    def glue(key: str, value: Any, **_: Any) -> None:  # noqa: ANN401 - whatever a notebook glues
        page.numbers[key] = value

    shell.register_magic_function(markdown, "cell")
    shell.register_magic_function(when, "cell")
    shell.events.register("post_run_cell", catch_up)
    myst_nb.glue = glue  # before the notebook imports it


def opened(name: str, given: tuple[tuple[str, str], ...]) -> nbformat.NotebookNode:
    """Give a notebook for JupyterLab, its text filled for the parameters that it opens with."""
    source = read_notebook(name)
    values = parameters(source, name, given)
    page = Page(name, values)
    hidden = {"jupyter": {"source_hidden": True}}

    def prose(template: str, word: str = "") -> nbformat.NotebookNode:
        said = page.text(template) if page.words.get(word, True) else ""
        if word:
            template = f"{{% if {word} %}}\n{template}\n{{% endif %}}"
        output = new_output("display_data", {"text/markdown": said})
        return new_code_cell(f"%%markdown\n{template}", metadata=hidden, outputs=[output])

    cells = [new_markdown_cell(OPENING)]
    for cell in source.cells:
        word = cell.metadata.get("when", "")
        if cell.cell_type == "markdown":
            cells.append(prose(cell.source, word))
            continue
        if PARAMETERS in cell.metadata.get("tags", []):
            lines = new_code_cell(set_in(cell.source, values), metadata={"tags": [PARAMETERS]})
            setup = f"from paper import lab\n\nlab.begin({json.dumps(name)})"
            cells += [lines, new_code_cell(setup, metadata=hidden)]
            continue
        code = f"%%when {word}\n{cell.source}" if word else cell.source
        unseen = "remove-cell" in cell.metadata["tags"]  # by readers of the book
        cells.append(new_code_cell(code, metadata=hidden if unseen else {}))
        if "mystnb" in cell.metadata:
            cells.append(prose(cell.metadata["mystnb"]["figure"]["caption"], word))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:03d}"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "jupytext": {"formats": PAIR}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def set_in(source: str, values: dict[str, Any]) -> str:
    """Put values into a cell of parameters; its comments stay.

    >>> set_in('start = ""  # a day', {"start": "2018-01-01"})
    'start = "2018-01-01"  # a day'
    """
    line = re.compile(r'^(\w+) = ("[^"\n]*"|[^#\n]*\S)', re.MULTILINE)
    return line.sub(lambda m: f"{m[1]} = {json.dumps(values[m[1]])}", source)


def link(output: Path, into: Path) -> None:
    """Link the tables of each site, so that what is drawn from them leaves the book's figures."""
    into.mkdir(parents=True, exist_ok=True)
    for path in sorted(output.iterdir()):
        if path.is_dir() and path.name not in ("plots", "periods"):
            (into / path.name).unlink(missing_ok=True)
            (into / path.name).symlink_to(os.path.relpath(path, into))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.argument("names", nargs=-1, required=True)
@click.option("-p", "--parameter", "given", nargs=2, multiple=True, help="NAME VALUE")
def main(folder: Path, names: tuple[str, ...], given: tuple[tuple[str, str], ...]) -> None:
    """Write the notebooks NAMES to FOLDER, each with its pair, where they are not there yet.

    A notebook that has changed since is written anew. One takes the parameters that it has.
    """
    asked = dict(given)
    if "output_dir" in asked:
        link(ROOT / asked["output_dir"], ROOT / folder / "output")
        asked["output_dir"] = str(folder / "output")
    for name in names:
        source, out = NOTEBOOKS / f"{name}.py", folder / f"{name}.ipynb"
        notebook = read_notebook(name)
        if out.exists() and out.stat().st_mtime > source.stat().st_mtime:
            continue
        known = defaults(notebook, name)
        page = opened(name, tuple((key, asked[key]) for key in known if key in asked))
        # The script last: JupyterLab takes the cells from it where it is the younger.
        for path, form in ((out, "ipynb"), (out.with_suffix(".py"), "py:percent")):
            with whole_file(path) as part:
                part.write_text(jupytext.writes(page, fmt=form), encoding="utf-8")
