"""Read and write pages side by side, and look for nothing twice: a third of a book's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pybtex_docutils
from pybtex.backends import plaintext
from pybtex.plugin import register_plugin

if TYPE_CHECKING:
    from sphinx.application import Sphinx


SILENT = ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")
"""Extensions that do not say so, but one acts when all pages are read and one on no HTML."""


def allow(app: Sphinx, *_: object) -> None:
    """Declare what those leave out; without it Sphinx reads page after page, and warns."""
    for name in SILENT:
        app.extensions[name].parallel_read_safe = True


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into Sphinx before it reads, and hold the citations' writers ready."""
    # Else they are looked for among all installed packages, at every citation.
    register_plugin("pybtex.backends", "plaintext", plaintext.Backend, force=True)
    register_plugin("pybtex.backends", "docutils", pybtex_docutils.Backend, force=True)
    app.connect("env-before-read-docs", allow)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
