"""Write the paper as one PDF file, from the pages of the book.

Pages come in the order of the sidebar; figures keep the numbers that Sphinx gave them. Pandoc turns
the pages into Typst, which sets them; both come in wheels. A link to nowhere is an error. The same
pages give the same bytes: no clock is read, and no font of the machine.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click
import pypandoc
import typst
from bs4 import BeautifulSoup

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import whole_file

if TYPE_CHECKING:
    from bs4 import Tag

STYLE = Path(__file__).with_name("pdf.typ")
# What a page has for screens only: folded code, marks to copy links, labels that no citation names.
FOR_SCREENS = "script, style, details.hide, .headerlink, .toctree-wrapper, .citation .label"
HEADINGS = ["h1", "h2", "h3", "h4"]
FULL_WIDTH = 703  # of a chart that takes the width of the text, in its own units
FONT = "Libertinus Serif"  # comes with Typst; a little narrower than the one charts are made for
READER = "html+tex_math_single_backslash-auto_identifiers"
EMPTY = BeautifulSoup("", "html.parser")


class Pictures:
    """The drawings of the book, by number: parsers of HTML would spoil the case of SVG."""

    def __init__(self) -> None:
        self.drawings: list[str] = []
        self.labels: list[str] = []

    def keep(self, svg: str, label: str) -> str:
        """Keep a drawing and its description; give the HTML that shows it."""
        size = re.search(r'\bwidth="([\d.]+)', svg)
        width = min(float(size[1]) / FULL_WIDTH, 1) if size else 1
        self.drawings.append(re.sub(r'font-family="[^"]*"', f'font-family="{FONT}"', svg))
        self.labels.append(label)
        return f'<img src="{len(self.labels) - 1}.svg" width="{width:.0%}">'

    def labelled(self, source: str) -> str:
        """Describe the drawings where Typst shows them, which Pandoc does not."""
        return re.sub(
            r'image\("(\d+)\.svg"',
            lambda m: f"{m[0]}, alt: {json.dumps(self.labels[int(m[1])], ensure_ascii=False)}",
            source,
        )


def parts(index: Path) -> list[tuple[str, list[str]]]:
    """Give the parts of the book, each with its pages, from the sidebar of its first page."""
    page = BeautifulSoup(index.read_text(encoding="utf-8"), "html.parser")
    return [
        (caption.get_text(strip=True), [str(link["href"]) for link in chapters.select("a")])
        for caption in page.select("nav.bd-links p.caption")
        if (chapters := caption.find_next_sibling("ul"))
    ]


def article(path: Path, pictures: Pictures) -> Tag:
    """Read what a page has to say.

    Raises:
        UsageError: it is no page of a book.
    """

    def chart(match: re.Match[str]) -> str:
        label = re.search(r'aria-label="([^"]*)"', match[0])
        return pictures.keep(match[0], html.unescape(label[1]) if label else "")

    text = re.sub(r"<svg\b.*?</svg>", chart, path.read_text(encoding="utf-8"), flags=re.DOTALL)
    page = BeautifulSoup(text, "html.parser").select_one("article.bd-article")
    if page is None or page.find("h1") is None:
        raise UsageError(f"{path} is no page of a book: build it anew with `make book`")
    for gone in page.select(FOR_SCREENS):
        gone.decompose()
    for diagram in page.select("object[data], img[src*='_images/'][src$='.svg']"):
        svg = (path.parent / str(diagram.get("data", diagram.get("src")))).read_text("utf-8")
        label = str(diagram.get("alt", diagram.get_text(strip=True)))
        shown = pictures.keep(svg[svg.index("<svg") :], label)
        diagram.replace_with(BeautifulSoup(shown, "html.parser"))
    simplify_text(page)
    simplify_tables(page)
    return page


def embolden(element: Tag) -> None:
    """Set what an element holds in bold."""
    strong = EMPTY.new_tag("strong")
    strong.extend(list(element.contents))
    element.append(strong)


def simplify_text(page: Tag) -> None:
    """Say in plain elements what the page says with classes."""
    for note in page.select("div.admonition"):
        note.name = "blockquote"
    for title in page.select(".admonition-title"):
        embolden(title)
    for code in page.select("div[class^=highlight-]"):
        language = str(code.get_attribute_list("class")[0]).removeprefix("highlight-")
        code.name, code["class"] = "pre", language
        code.string = code.get_text().strip("\n")
    for formula in page.select("math"):
        tex = str(formula["alttext"])
        formula.replace_with(rf"\[{tex}\]" if formula.get("display") else rf"\({tex}\)")
    for link in page.select("a.github, a.gitlab"):
        link.string = str(link["href"])  # which the theme abbreviates


def simplify_tables(page: Tag) -> None:
    """Say in plain elements what a table says with classes, and give it its title as a caption."""
    for paragraph in page.select(":is(td, th, li) > p:only-child"):
        paragraph.unwrap()  # or columns would all be of one width, and lists far apart
    for cell in page.select("td, th"):
        side = re.search(r"right|center", " ".join(map(str, cell.get_attribute_list("class"))))
        cell["style"] = f"text-align: {side[0] if side else 'left'}"
    for cell in page.select("thead th, th.gt_group_heading"):
        embolden(cell)
    for table in page.select("table:has(tr.gt_heading)"):
        titles = [
            title.extract().get_text(" ", strip=True) for title in table.select("tr.gt_heading")
        ]
        table.insert(0, EMPTY.new_tag("caption", string=". ".join(filter(None, titles))))


def landing(place: Tag) -> Tag:
    """Give the element that stands for a place of a page: one that Typst can label.

    A page and a section begin with their heading, an anchor stands before what it names, and in
    anything else but a figure it is the first words.
    """
    if place.name == "figure" or place.name in HEADINGS:
        return place
    heading = place.find(HEADINGS)
    if heading is not None:
        return heading
    text = place.find(string=re.compile(r"\S"))
    if text is None or text.parent is None:
        following = place.find_next_sibling()
        return landing(following) if following is not None else place
    return text.parent if text.parent.get("id") else text.wrap(EMPTY.new_tag("span"))


def connect(pages: dict[str, Tag]) -> None:
    """Let links between pages point into the one document, and leave no other anchor.

    Raises:
        UsageError: a link points to nowhere.
    """
    places = {(name, ""): page for name, page in pages.items()}
    for name, page in pages.items():
        for place in page.select("[id]"):
            places[name, str(place.attrs.pop("id"))] = place
    for name, page in pages.items():
        for link in page.select("a[href]"):
            url = urlsplit(str(link["href"]))
            if url.scheme:
                continue
            folder = posixpath.dirname(name)
            target = posixpath.normpath(posixpath.join(folder, url.path)) if url.path else name
            key = (target, unquote(url.fragment))
            if key not in places:
                raise UsageError(f"{name}: the link to {url.geturl()} leads nowhere")
            anchor = re.sub(r"\W+", "-", f"{target}-{url.fragment}")
            link["href"] = f"#{landing(places[key]).attrs.setdefault('id', anchor)}"
    for page in pages.values():
        for box in page.select("section, div"):
            box.unwrap()


def typeset(text: str, pictures: Pictures) -> str:
    """Turn HTML into Typst."""
    source = pypandoc.convert_text(text, "typst", READER)
    # What Pandoc makes of TeX's "\;", and of a full stop after a word.
    return pictures.labelled(source.replace("#h(0em)", "thick").replace(" . $", ". $"))


def paper(book: Path, folder: Path) -> Path:
    """Write the paper's Typst source and drawings into `folder`.

    Args:
        book: the book as HTML.
        folder: an empty one.

    Returns:
        the source, as a file of that folder.
    """
    pictures = Pictures()
    chapters = parts(book / "index.html")
    names = ["index.html", *(name for _, part in chapters for name in part)]
    pages = {name: article(book / name, pictures) for name in names}
    connect(pages)
    first = pages["index.html"]
    title, author = (
        element.extract().get_text(strip=True) for element in first.select("h1, h1 + p")
    )
    for page in pages.values():  # parts are the first level
        for heading in page.find_all(HEADINGS):
            heading.name = f"h{int(heading.name[1]) + 1}"
    body = "".join(
        f"<h1>{html.escape(part)}</h1>" + "".join(str(pages[name]) for name in names)
        for part, names in chapters
    )
    title, author = (json.dumps(text, ensure_ascii=False) for text in (title, author))
    source = [
        STYLE.read_text(encoding="utf-8"),
        f"#show: paper.with(title: {title}, author: {author})",
        typeset(str(first), pictures),
        "#contents",
        typeset(body, pictures),
    ]
    for number, drawing in enumerate(pictures.drawings):
        (folder / f"{number}.svg").write_text(drawing, encoding="utf-8")
    main = folder / "paper.typ"
    main.write_text("\n\n".join(source), encoding="utf-8")
    return main


def pdf(source: Path) -> bytes:
    """Set a Typst source.

    Raises:
        UsageError: Typst refuses it, or warns.
    """
    try:
        done, warnings = typst.compile_with_warnings(str(source), ignore_system_fonts=True)
    except typst.TypstError as error:
        raise UsageError(f"the paper cannot be set: {error}") from error
    if warnings:
        raise UsageError(f"the paper cannot be set well: {warnings[0]}")
    return done


@click.command()
@click.argument("book", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def main(book: Path, out: Path) -> None:
    """Write the paper, of which BOOK is the HTML, to OUT."""
    with tempfile.TemporaryDirectory() as folder:
        done = pdf(paper(book, Path(folder)))
    with whole_file(out) as part:
        part.write_bytes(done)
