"""Write formulas as MathML when the book is built, so that browsers show them without a script."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

CONVERTER = LatexToMathML(fancy_error=False)


def mathml(tex: str, *, block: bool) -> str:
    """Give a formula as a `<math>` element; its TeX is the attribute `alttext`.

    Raises:
        ExtensionError: the formula is not TeX, or uses a command without a counterpart in MathML.
    """
    try:
        element = CONVERTER.convert_with_local_state(tex, displaystyle=block)
    except LatexError as error:
        raise ExtensionError(f"no MathML for the formula {tex!r}: {error}") from error
    return element.replace("<math", f'<math alttext="{html.escape(tex.strip())}"', 1)


def inline(page: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula inside a line."""
    page.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def block(page: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula on lines of its own.

    Where the page is narrow its box scrolls, from the keyboard too: the theme looks for this class.
    """
    page.body.append(page.starttag(node, "div", CLASS="math pst-scrollable-table-container"))
    page.body.append(f"{mathml(node.astext(), block=True)}</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Name the renderer that `html_math_renderer` asks for."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
