"""The book as HTML, from the text, the notebooks that were run, and a script out of a wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_directory
from chameleon_usage.viz.render import book_script
from paper import claims
from paper.project import ROOT

BOOK = ROOT / "book"
SITES = "notebooks/site"
"""What stands in `book/_toc.yml` for the pages of the sites, as they are of one notebook."""
CARD = ROOT / "output" / "plots" / "chi_tacc_facet.png"
"""The picture beside a link to the book."""
STRICT = ["-n", "-W", "--keep-going", "-q"]


def table_of_contents(complete: dict[str, Any], pages: list[str]) -> dict[str, Any]:
    """Leave out the notebooks that were not run, and put those of the sites where `SITES` stands.

    Args:
        complete: `book/_toc.yml`, which names no site.
        pages: the notebooks that were run, without folder; those that `complete` does not name
            are of one site each, and come in alphabetical order.
    """
    files = [chapter["file"] for part in complete["parts"] for chapter in part["chapters"]]
    sites = sorted(name for page in pages if (name := f"notebooks/{page}") not in files)

    def fitted(file: str) -> list[dict[str, str]]:
        run = not file.startswith("notebooks/") or file.removeprefix("notebooks/") in pages
        names = sites if file == SITES else [file] if run else []
        return [{"file": name} for name in names]

    parts = [
        {**part, "chapters": [c for chapter in part["chapters"] for c in fitted(chapter["file"])]}
        for part in complete["parts"]
    ]
    return {**complete, "parts": parts}


def lay_out(source: Path, notebooks: list[Path], url: str = "") -> Path:
    """Put the text, the notebooks and the script together in `source`; give the contents' file.

    The page of the claims is made here, as it tells of the notebooks that this book has.

    Args:
        source: the folder; what was there goes.
        notebooks: those that were run.
        url: where the book will stand. Only with it can pages say how to show a link to them.
    """
    shutil.rmtree(source, ignore_errors=True)
    made = shutil.ignore_patterns("_build", "notebooks", "__pycache__", "_toc.yml")
    shutil.copytree(BOOK, source, ignore=made)
    (source / "notebooks").mkdir()
    for notebook in notebooks:
        shutil.copy(notebook, source / "notebooks")
    (source / "claims.md").write_text(claims.page(notebooks), encoding="utf-8")
    (source / "static").mkdir()
    (source / "static" / "charts.js").write_text(book_script() + "\n", encoding="utf-8")
    if url:
        config = source / "_config.yml"
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        settings["html"]["baseurl"] = url
        config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        if CARD.exists():
            shutil.copy(CARD, source / "static" / "card.png")
    complete = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    contents = table_of_contents(complete, [path.stem for path in notebooks])
    toc = source / "_toc.yml"
    toc.write_text(yaml.safe_dump(contents, sort_keys=False), encoding="utf-8")
    return toc


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.argument("notebooks", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--url", default="", help="Where the book will stand: https://...")
def main(out: Path, notebooks: tuple[Path, ...], url: str) -> None:
    """Build the book with NOTEBOOKS; OUT is replaced whole, or stays as it is."""
    work = out.parent.resolve() / "book"
    toc = lay_out(work, list(notebooks), url)
    book = Path(sys.executable).with_name("jupyter-book")
    places = ["--toc", str(toc), "--path-output", str(work)]
    done = subprocess.run([book, "build", work, *places, *STRICT], check=False)  # noqa: S603 - our own
    if done.returncode:
        raise UsageError(f"{out}: the book could not be built; Sphinx says above why")
    html = work / "_build" / "html"
    (html / ".buildinfo").unlink(missing_ok=True)  # Sphinx's own note, with a sum over paths
    with whole_directory(out) as part:
        shutil.copytree(html, part, dirs_exist_ok=True)
