"""The book as HTML, from the text, the notebooks that were run, and a script out of a wheel."""

from __future__ import annotations

import gc
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import yaml
from jupyter_book.sphinx import build_sphinx

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_directory, whole_file
from chameleon_usage.viz import render
from paper import bench, claims
from paper.project import ROOT, read_yaml

BOOK = ROOT / "book"
LOCK = ROOT / "requirements.txt"
SITES = "notebooks/site"
"""What stands in `book/_toc.yml` for the pages of the sites, as they are of one notebook."""
CARD = ROOT / "output" / "plots" / "chi_tacc_facet.png"
"""The picture beside a link to the book."""


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

    The page of the claims is made here, as it tells of the notebooks that this book has. A file
    that is as it was keeps its time, by which Sphinx knows the pages to read again.

    Args:
        source: the folder; what does not belong to the book goes.
        notebooks: those that were run.
        url: where the book will stand. Only with it can pages say how to show a link to them.
    """
    made = {"_build", "notebooks", "__pycache__", "_toc.yml"}
    files = {
        path.relative_to(BOOK): path.read_bytes()
        for path in BOOK.rglob("*")
        if path.is_file() and made.isdisjoint(path.relative_to(BOOK).parts)
    }
    files |= {Path("notebooks", path.name): path.read_bytes() for path in notebooks}
    files[Path("claims.md")] = claims.page(notebooks).encode()
    files[Path("bench.md")] = bench.page().encode()
    files[Path("static", "charts.js")] = script(source)
    if url:
        config = Path("_config.yml")
        settings = yaml.safe_load(files[config])
        settings["html"]["baseurl"] = url
        files[config] = yaml.safe_dump(settings, sort_keys=False).encode()
        if CARD.exists():
            files[Path("static", "card.png")] = CARD.read_bytes()
    complete = read_yaml(BOOK / "_toc.yml")
    contents = table_of_contents(complete, [path.stem for path in notebooks])
    toc = Path("_toc.yml")
    files[toc] = yaml.safe_dump(contents, sort_keys=False).encode()
    for path in source.rglob("*"):
        inner = path.relative_to(source)
        if path.is_file() and inner not in files and inner.parts[0] != "_build":
            path.unlink()
    for inner, content in files.items():
        path = source / inner
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return source / toc


def script(source: Path) -> bytes:
    """Give the script of the charts, which takes a second to make: once for a lock and a maker."""
    kept = source / "_build" / f"charts-{sum_of(LOCK, Path(render.__file__))[:12]}.js"
    if not kept.is_file():
        with whole_file(kept) as part:
            part.write_text(render.book_script() + "\n", encoding="utf-8")
    return kept.read_bytes()


def makers(source: Path) -> str:
    """Give a sum over all that makes a page of what is read: Sphinx notices no change of these."""
    config = (source / "_config.yml", source / "_toc.yml", source / "references.bib")
    return sum_of(LOCK, Path(__file__), *config, *sorted((source / "_ext").rglob("*.py")))


def others(source: Path) -> str:
    """Give a sum over all that is read but what notebooks say, with the names of all files."""
    files = {path.relative_to(source): path for path in source.rglob("*") if path.is_file()}
    read = sorted(name for name in files if {"_build", "__pycache__"}.isdisjoint(name.parts))
    names = sha256("\0".join(map(str, read)).encode()).hexdigest()
    return names + sum_of(*(files[name] for name in read if name.suffix != ".ipynb"))


def sum_of(*files: Path) -> str:
    """Give a sum over the contents of files."""
    return sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def build(source: Path, toc: Path) -> Path:
    """Build the pages of `source`; give their folder.

    What earlier pages were read to is kept. So are the pages, where nothing but notebooks has
    changed: what cites a changed one is read again (`absent`), and all are written where a heading
    or the number of a figure is another (`at_once`). Of a build with a warning nothing is kept: a
    page that is not read again does not warn again.

    Raises:
        UsageError: Sphinx failed or warned.
    """
    made, built_by = source / "_build", source / "_build" / "built-by"
    html, by = made / "html", [makers(source), others(source)]
    before = built_by.read_text(encoding="utf-8").split() if built_by.is_file() else []
    if before[:1] != by[:1]:
        shutil.rmtree(made, ignore_errors=True)
    elif before != by:
        shutil.rmtree(html, ignore_errors=True)
    for style in (html / "_static").glob("mystnb.*.css"):
        style.unlink()  # pages tell whether it was there before it is made
    built_by.unlink(missing_ok=True)
    told = {"external_toc_path": str(toc), "latex_individualpages": False, "nitpicky": True}
    gc.disable()  # half of the time would go into looking at trees of pages that stay
    try:
        failed = build_sphinx(
            source,
            html,
            noconfig=True,
            path_config=source / "_config.yml",
            confoverrides=told,
            force_all=not html.is_dir(),
            quiet=True,
            warningiserror=True,
            keep_going=True,
            jobs=min(os.cpu_count() or 1, 4),
        )
    finally:
        gc.enable()
    if failed:
        raise UsageError(f"{source}: the book could not be built; Sphinx says above why")
    (html / ".buildinfo").unlink(missing_ok=True)  # Sphinx's own note, with a sum over paths
    built_by.write_text("\n".join(by), encoding="utf-8")
    return html


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.argument("notebooks", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--url", default="", help="Where the book will stand: https://...")
def main(out: Path, notebooks: tuple[Path, ...], url: str) -> None:
    """Build the book with NOTEBOOKS; OUT is replaced whole, or stays as it is."""
    work = out.parent.resolve() / "book"
    html = build(work, lay_out(work, list(notebooks), url))
    with whole_directory(out) as part:
        shutil.copytree(html, part, dirs_exist_ok=True)
        (part / "index.html").touch()  # by which make knows that this was done
