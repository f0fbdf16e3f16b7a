"""Run one notebook for the book.

A notebook is a py:percent file. Its markdown cells and cell metadata are Jinja templates over its
own parameters and a few words more (see `context`); sentences that depend on the results stand in
`words/<notebook>.md.j2`, and a cell names them. Parameters come from the command line. An unknown
parameter or an unknown word is an error. What is written depends on the inputs alone: no times, no
random ids, no paths.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import jinja2
import jupytext
import nbformat
import papermill

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file
from paper.context import context, engine
from paper.project import ROOT
from paper.shell import HERE

if TYPE_CHECKING:
    from collections.abc import Callable

NOTEBOOKS = ROOT / "notebooks"
PARAMETERS = "parameters"


def read_notebook(name: str) -> nbformat.NotebookNode:
    """Read `notebooks/<name>.py`.

    Raises:
        UsageError: there is no such notebook.
    """
    known = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.py"))}
    if name not in known:
        raise UsageError(f"no notebook called '{name}': choose one of {', '.join(known)}")
    return jupytext.read(known[name], fmt="py:percent")


def defaults(notebook: nbformat.NotebookNode, name: str) -> dict[str, Any]:
    """Give the parameters of a notebook and their default values.

    Raises:
        UsageError: it has no cell tagged `parameters`, or more than plain values in it.
    """
    cells = [c for c in notebook.cells if PARAMETERS in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UsageError(f"notebooks/{name}.py needs exactly one cell tagged '{PARAMETERS}'")
    found: dict[str, Any] = {}
    for node in ast.parse(cells[0].source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=key)], value=value):
                found[key] = ast.literal_eval(value)
            case _:
                raise UsageError(
                    f"notebooks/{name}.py, parameters cell, line {node.lineno}: "
                    "only lines of the form `name = value`"
                )
    return found


def parameters(
    notebook: nbformat.NotebookNode, name: str, given: tuple[tuple[str, str], ...]
) -> dict[str, Any]:
    """Merge what the command line gives into the defaults, typed like these.

    Raises:
        UsageError: a parameter that the notebook does not have, or a value of another type.
    """
    merged = defaults(notebook, name)
    for key, text in given:
        if key not in merged:
            raise UsageError(
                f"notebooks/{name}.py has no parameter '{key}': it has {', '.join(merged)}"
            )
        if isinstance(merged[key], str):
            merged[key] = text
            continue
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        if type(value) is not type(merged[key]):
            raise UsageError(
                f"notebooks/{name}.py, parameter '{key}': '{text}' is not a "
                f"{type(merged[key]).__name__}"
            )
        merged[key] = value
    return merged


def filler(name: str, words: dict[str, Any]) -> Callable[[str], str]:
    """Give what fills a template of a notebook.

    `words.x()` in a template is what the macro `x` of the notebook's file in `words/` says.
    """
    templates = engine()
    given = words
    if f"{name}.md.j2" in templates.list_templates():
        given = words | {"words": templates.get_template(f"{name}.md.j2").make_module(words)}
    return lambda template: templates.from_string(template).render(given)


def fill(notebook: nbformat.NotebookNode, name: str, words: dict[str, Any]) -> None:
    """Fill the templates in markdown cells and in cell metadata; drop the cells of another case.

    A cell with the metadata `when` stays where the word that it names is true.

    Raises:
        UsageError: a template names a word that nobody gives.
    """
    said = filler(name, words)

    def filled(value: Any) -> Any:  # noqa: ANN401 - what JSON holds
        if isinstance(value, str):
            return " ".join(said(value).split())
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return value

    for number, cell in enumerate(notebook.cells):
        try:
            if cell.cell_type == "markdown":
                cell.source = said(cell.source)
            cell.metadata = nbformat.from_dict(filled(dict(cell.metadata)))
        except jinja2.UndefinedError as error:
            raise UsageError(
                f"cell {number}: {error.message}; known: {', '.join(words)}"
            ) from error
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "when" not in cell.metadata or words[cell.metadata.pop("when")]
    ]


def settle(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from run to run, and the cells that a reader need not see."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        for key in ("papermill", "execution", "lines_to_next_cell"):
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            tags.append("remove-cell")
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain")
            if text:  # object addresses
                output["data"]["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", text)
    nbformat.validate(notebook)


def run_notebook(name: str, out: Path, given: tuple[tuple[str, str], ...]) -> None:
    """Execute a notebook and write it, whole or not at all."""
    notebook = read_notebook(name)
    values = parameters(notebook, name, given)
    fill(notebook, name, context(values))
    notebook.metadata["kernelspec"] = {"display_name": "", "language": "python", "name": "python3"}
    try:
        done = papermill.execute_notebook(
            notebook,
            None,
            engine_name=HERE,
            parameters=values,
            cwd=str(ROOT),
            progress_bar=False,
            log_output=False,
        )
    except (papermill.PapermillExecutionError, UsageError) as error:
        raise UsageError(f"notebooks/{name}.py failed\n{error}") from error
    settle(done)
    text = nbformat.writes(done)
    with whole_file(out) as part:
        part.write_text(text, encoding="utf-8")


@click.command()
@click.argument("name")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-p", "--parameter", "given", nargs=2, multiple=True, help="NAME VALUE")
def main(name: str, out: Path, given: tuple[tuple[str, str], ...]) -> None:
    """Execute notebooks/NAME.py and write it to OUT."""
    run_notebook(name, out, given)
