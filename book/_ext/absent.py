"""Let the book be built without the notebooks that this build has no data for.

Prose cites results of notebooks. Where the book is made from other data, some of these notebooks,
or some of their numbers, do not exist: a citation of such a number becomes "n/a", and text between
`<!-- truth -->` and `<!-- /truth -->` is left out where there is no truth to compare with. Text
between `<!-- no truth -->` and `<!-- /no truth -->` is left out where there is one.
Published facts are never absent: a wrong name there stays an error.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

GLUED = re.compile(r"\{glue:\w+\}`notebooks/(?P<page>\w+)\.ipynb::(?P<key>\w+)(?::[^`]*)?`")
TRUTH, NO_TRUTH = (
    re.compile(rf"<!-- {mark} -->.*?<!-- /{mark} -->\n?", re.DOTALL)
    for mark in ("truth", "no truth")
)
PREFIX = "application/papermill.record/"


def results(folder: Path) -> dict[str, set[str]]:
    """Give the notebooks below `folder` and the names that each has glued."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found[path.stem] = {
            output["metadata"]["scrapbook"]["name"]
            for cell in cells
            for output in cell.get("outputs", [])
            if "scrapbook" in output.get("metadata", {})
        }
    return found


def fit(text: str, found: dict[str, set[str]]) -> str:
    """Fit a page to the results there are."""
    text = (NO_TRUTH if "validation" in found else TRUTH).sub("", text)

    def kept(match: re.Match[str]) -> str:
        page, key = match["page"], match["key"]
        return match[0] if page == "facts" or key in found.get(page, ()) else "n/a"

    return GLUED.sub(kept, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into Sphinx's reading of pages."""
    found = results(Path(app.srcdir) / "notebooks")

    def read(_: Sphinx, page: str, source: list[str]) -> None:
        if not page.startswith("notebooks/"):
            # Built again, the page is read again where a notebook that it cites has changed.
            for cited in found.keys() & {match["page"] for match in GLUED.finditer(source[0])}:
                app.env.note_dependency(f"notebooks/{cited}.ipynb")
            source[0] = fit(source[0], found)

    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
