"""Read and write pages side by side, and do nothing twice: half of a book's time."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import pybtex_docutils
from pybtex.backends import plaintext
from pybtex.plugin import register_plugin
from sphinx.search.en import SearchEnglish

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


SILENT = ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")
"""Extensions that do not say so, but one acts when all pages are read and one on no HTML."""


def allow(app: Sphinx, *_: object) -> None:
    """Declare what those leave out; without it Sphinx reads page after page, and warns."""
    for name in SILENT:
        app.extensions[name].parallel_read_safe = True


def told(env: BuildEnvironment) -> str:
    """Give all that one page may tell of another, but for numbers that a notebook glued."""
    std, cite = env.domaindata["std"], env.domaindata["cite"]
    return json.dumps(
        {
            "headings": {page: contents.pformat() for page, contents in env.tocs.items()},
            "numbers": [env.toc_secnumbers, env.toc_fignumbers, env.domaindata["math"]],
            "labels": [std["labels"], std["anonlabels"]],
            "citations": sorted((one.key, one.citation_id) for one in cite["citations"]),
        },
        sort_keys=True,
        default=str,
    )


def to_write(_: Sphinx, env: BuildEnvironment) -> list[str]:
    """Have all pages written, not only those read again, where one may tell another's news."""
    before, env.told = getattr(env, "told", None), told(env)  # type: ignore[attr-defined]
    return [] if before == env.told else sorted(env.found_docs)  # type: ignore[attr-defined]


def forget(app: Sphinx) -> list[tuple[str, dict[str, str], str]]:
    """Leave words out of the index of the search that no page has any more; add no page."""
    index = app.builder.indexer  # type: ignore[attr-defined]
    for pages_of in (index._mapping, index._title_mapping):  # noqa: SLF001 - nothing else has them
        for word in [word for word, pages in pages_of.items() if not pages]:
            del pages_of[word]
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into Sphinx before it reads, and hold the citations' writers ready."""
    # Else they are looked for among all installed packages, at every citation.
    register_plugin("pybtex.backends", "plaintext", plaintext.Backend, force=True)
    register_plugin("pybtex.backends", "docutils", pybtex_docutils.Backend, force=True)
    SearchEnglish.stem = cache(SearchEnglish.stem)  # type: ignore[method-assign]
    app.connect("env-before-read-docs", allow)
    app.connect("env-get-updated", to_write, priority=900)  # when all is numbered
    app.connect("html-collect-pages", forget)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
