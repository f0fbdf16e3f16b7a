"""Run one notebook for the book, or write the book's table of contents.

A notebook is a py:percent file. Its markdown cells and cell metadata are Jinja templates over its
own parameters and a few words more (see `context`); its parameters come from the command line. An
unknown parameter or an unknown word is an error. What is written depends on the inputs alone: no
times, no random ids, no paths.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import jinja2
import jupytext
import nbformat
import papermill
import polars as pl
import yaml
from nbclient.exceptions import DeadKernelError
from traitlets.config import Config

from chameleon_usage.errors import UsageError
from chameleon_usage.viz.findings import across_sites, of_site
from chameleon_usage.viz.paper import ROOT, has_devices, is_twin, site_names
from chameleon_usage.viz.render import write_atomically

NOTEBOOKS = ROOT / "notebooks"
PARAMETERS = "parameters"


def read_notebook(name: str) -> nbformat.NotebookNode:
    """Read `notebooks/<name>.py`.

    Raises:
        UsageError: there is no such notebook.
    """
    known = {
        path.stem: path
        for path in sorted(NOTEBOOKS.glob("*.py"))
        if path.read_text(encoding="utf-8").startswith("# %%")
    }
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


def context(values: dict[str, Any]) -> dict[str, Any]:
    """Give the words that markdown and captions may use, beside the parameters themselves.

    `site_name` is the site's full name, `source` the phrase that says where the numbers come from;
    `found` the findings of the page, by name (see `viz/findings.py`); see also `site_words`.
    """
    words = dict(values)
    if "site" in values:
        words["site_name"] = site_names([values["site"]], values["config"])[values["site"]]
        words |= site_words(ROOT / values["output_dir"] / values["site"])
        words["found"] = of_site(ROOT / values["output_dir"] / values["site"])
        words["devices"] = has_devices(values["site"], values["config"])
    if "sites" in values:
        words["found"] = {}
        combined = ROOT / values["output_dir"] / "combined" / "usage_timeline.parquet"
        if combined.exists():
            names = site_names(values["sites"].split(), values["config"])
            words["found"] = across_sites(pl.read_parquet(combined), names)
    if "data_dir" in values:
        words["twin"] = is_twin(ROOT / values["data_dir"])
        words["source"] = "simulated" if words["twin"] else "from the site's databases"
    if "real_dir" in values:
        sites = set(values["sites"].split())
        words["has_published"] = values["published_site"] in sites
        text = (ROOT / "data" / "calibration.yaml").read_text(encoding="utf-8")
        words["has_curves"] = not sites.isdisjoint(yaml.safe_load(text)["real_curves"])
    return words


def site_words(output: Path) -> dict[str, bool]:
    """Give what a site's page mentions only where there is some of it.

    `has_causes`: causes of a difference between corrected and uncorrected that the table shows;
    `has_legacy`: figures of the legacy collector to compare with; `has_ondemand`: capacity to use
    without a lease; `use_unknown`: leased nodes of which nobody knows whether they were used;
    `has_unknown`: nodes or days of which the state is not known.
    """
    compared, usage = output / "comparison.parquet", output / "usage_timeline.parquet"
    caused = output / "comparison_causes.parquet"
    counts: dict[str, pl.Series] = {}
    if usage.exists():
        corrected = pl.read_parquet(usage).filter(pl.col("collector_type") == "corrected")
        counts = {
            key[0]: part["value"]
            for key, part in corrected.partition_by("count_type", as_dict=True).items()
        }

    def some(key: str) -> bool:
        return key in counts and bool((counts[key] > 0).any())

    return {
        "has_causes": caused.exists()
        and not pl.read_parquet(caused).filter(pl.col("node_hours").abs() >= 500).is_empty(),
        "has_legacy": compared.exists() and pl.read_parquet(compared)["legacy"].count() > 0,
        "has_ondemand": some("ondemand_capacity"),
        "use_unknown": some("committed")
        and ("occupied" not in counts or counts["occupied"].count() == 0),
        "has_unknown": some("unknown") or ("total" in counts and counts["total"].has_nulls()),
    }


def fill(notebook: nbformat.NotebookNode, words: dict[str, Any]) -> None:
    """Fill the templates in markdown cells and in cell metadata; drop the cells of another case.

    A cell with the metadata `when` stays where the word that it names is true.

    Raises:
        UsageError: a template names a word that nobody gives.
    """
    engine = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no HTML

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return engine.from_string(value).render(words)
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return value

    for number, cell in enumerate(notebook.cells):
        try:
            if cell.cell_type == "markdown":
                cell.source = filled(cell.source)
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
    fill(notebook, context(values))
    notebook.metadata["kernelspec"] = {"display_name": "", "language": "python", "name": "python3"}
    # The kernel is reached through sockets in a folder of its own: no open ports, no clashes.
    with tempfile.TemporaryDirectory() as sockets:
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        try:
            done = papermill.execute_notebook(
                notebook,
                None,
                parameters=values,
                cwd=str(ROOT),
                progress_bar=False,
                log_output=False,
                config=config,
                shutdown_kernel="immediate",
            )
        except (papermill.PapermillExecutionError, DeadKernelError) as error:
            raise UsageError(f"notebooks/{name}.py failed\n{error}") from error
    settle(done)
    text = nbformat.writes(done)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda part: part.write_text(text, encoding="utf-8"))


def table_of_contents(complete: dict[str, Any], pages: list[str]) -> dict[str, Any]:
    """Fit the book's complete table of contents to the notebooks that were run.

    Args:
        complete: `book/_toc.yml`.
        pages: the notebooks that exist, without folder; those that the complete table does not
            name are sites of other makers and follow the sites that it does name.
    """
    named = {
        chapter["file"].removeprefix("notebooks/")
        for part in complete["parts"]
        for chapter in part["chapters"]
        if chapter["file"].startswith("notebooks/")
    }
    further = [{"file": f"notebooks/{page}"} for page in pages if page not in named]
    parts = []
    for part in complete["parts"]:
        chapters = []
        for chapter in part["chapters"]:
            file = chapter["file"]
            if file == "notebooks/cross_site":
                chapters += further
            if not file.startswith("notebooks/") or file.removeprefix("notebooks/") in pages:
                chapters.append(chapter)
        parts.append({**part, "chapters": chapters})
    return {**complete, "parts": parts}


@click.group()
def main() -> None:
    """Notebooks and table of contents of the book."""


@main.command()
@click.argument("name")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-p", "--parameter", "given", nargs=2, multiple=True, help="NAME VALUE")
def run(name: str, out: Path, given: tuple[tuple[str, str], ...]) -> None:
    """Execute notebooks/NAME.py and write it to OUT."""
    run_notebook(name, out, given)


@main.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("pages", nargs=-1)
def toc(out: Path, pages: tuple[str, ...]) -> None:
    """Write book/_toc.yml, less the notebooks that are not among PAGES, to OUT."""
    complete = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    fitted = yaml.safe_dump(table_of_contents(complete, list(pages)), sort_keys=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda part: part.write_text(fitted, encoding="utf-8"))


if __name__ == "__main__":
    # The kernel leaves nothing in the home directory.
    (ROOT / "build" / "ipython").mkdir(parents=True, exist_ok=True)
    os.environ["IPYTHONDIR"] = str(ROOT / "build" / "ipython")
    try:
        main()
    except UsageError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
