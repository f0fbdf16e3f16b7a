"""Write the paper as PDF, from the pages of the book: one file to read, one to look things up.

The first part of the book is the paper, the others are its supplement. Sections have numbers in the
paper and letters in the supplement, and a link names the section that it leads to, as on paper
nobody can click. Each file lists the references that it cites. Figures keep the numbers that Sphinx
gave them.

Pandoc turns the pages into Typst, which sets them; both come in wheels. A link to nowhere is an
error. The same pages give the same bytes: no clock is read, and no font of the machine.
"""

from __future__ import annotations

import copy
import html
import json
import posixpath
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
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
FIRST = "index.html"
REFERENCE = ".citation"  # an entry of a list of references
# What a page has for screens only: folded code, marks to copy links, labels that no citation names.
FOR_SCREENS = f"script, style, details.hide, .headerlink, .toctree-wrapper, {REFERENCE} .label"
HEADINGS = ["h1", "h2", "h3", "h4"]
FULL_WIDTH, FULL_HEIGHT = 703, 760  # of the largest chart that leaves room for text, in its units
TEXT_WIDTH, CELL_MARGINS = 453, 8  # points, as in pdf.typ; the latter are beside a cell's text
TABLE_SIZES = (8.5, 7.5, 6.5)  # points of the font
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
        width, height = (
            float(size[1]) if (size := re.match(rf'<svg\b[^>]*? {side}="([\d.]+)', svg)) else 0.0
            for side in ("width", "height")
        )
        full = max(width, FULL_WIDTH, height * FULL_WIDTH / FULL_HEIGHT)
        self.drawings.append(re.sub(r'font-family="[^"]*"', f'font-family="{FONT}"', svg))
        self.labels.append(label)
        return f'<img src="{len(self.labels) - 1}.svg" width="{(width or full) / full:.0%}">'

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
    for title in page.select(".admonition-title, .caption-number"):
        embolden(title)
    for code in page.select("div[class^=highlight-]"):
        language = str(code.get_attribute_list("class")[0]).removeprefix("highlight-")
        code.name, code["class"] = "pre", language
        code.string = code.get_text().strip("\n")
    for code in page.select("code"):
        del code["class"]  # a name is of no language
        code.string = code.get_text()
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


@dataclass
class Document:
    """One of the two files: its name, its parts of the book, all pages, and lists of references."""

    file: str
    is_paper: bool
    parts: list[tuple[str, list[str]]]
    pages: dict[str, Tag]
    references: dict[str, Tag]

    def places(self) -> dict[tuple[str, str], Tag]:
        """Take all anchors away; give what they named, by page and fragment."""
        pages = self.pages | self.references
        found = {(name, ""): page for name, page in pages.items()}
        for name, page in pages.items():
            for place in page.select("[id]"):
                found[name, str(place.attrs.pop("id"))] = place
        return found

    def number(self) -> dict[int, str]:
        """Number pages and their sections; give the number that a link to each heading names.

        Keys are identities of headings. Lists of references have no number, nor has the first page.
        """
        found: dict[int, str] = {}
        names = [name for _, part in self.parts for name in part]
        for place, name in enumerate(names, 1):
            chapter, section = str(place) if self.is_paper else letter(place), 0
            for heading in self.pages[name].find_all(HEADINGS):
                section += heading.name == "h2"
                found[id(heading)] = f"{chapter}.{section}" if section else chapter
                if heading.name in ("h1", "h2"):
                    heading.insert(0, f"{found[id(heading)]}\N{EM SPACE}")
        return found


def letter(place: int) -> str:
    """Give the letter of a place: A to Z, then AA and on."""
    before, own = divmod(place - 1, len(ascii_uppercase))
    return (letter(before) if before else "") + ascii_uppercase[own]


def links(name: str, page: Tag) -> list[tuple[Tag, tuple[str, str]]]:
    """Give the links of a page into the book, each with the page and fragment it leads to."""
    found = []
    for link in page.select("a[href]"):
        url = urlsplit(str(link["href"]))
        if not url.scheme:
            path = posixpath.join(posixpath.dirname(name), url.path) if url.path else name
            found.append((link, (posixpath.normpath(path), unquote(url.fragment))))
    return found


def documents(book: Path, pictures: Pictures, names: tuple[str, str]) -> list[Document]:
    """Read the book as the paper and, if it has more than one part, the supplement.

    Pages that list references go into both, with what is cited there.
    """
    chapters = parts(book / FIRST)
    listed = (FIRST, *(name for _, part in chapters for name in part))
    pages = {name: article(book / name, pictures) for name in listed}
    listing = {name: page for name, page in pages.items() if page.select_one(REFERENCE)}
    found = []
    for file, own in zip(names, (chapters[:1], chapters[1:]), strict=True):
        held = {FIRST: pages[FIRST]} if file == names[0] else {}
        kept = []
        for part, members in own:
            told = [name for name in members if name not in listing]
            held |= {name: pages[name] for name in told}
            kept += [(part, told)] if told else []
        if not kept:
            continue
        cited = {target for name, page in held.items() for _, target in links(name, page)}
        references = {}
        for name, page in listing.items():
            references[name] = copy.copy(page)
            for entry in references[name].select(REFERENCE):
                if (name, entry.get("id")) not in cited:
                    entry.decompose()
            if not references[name].select_one(REFERENCE):
                del references[name]
        found.append(Document(file, file == names[0], kept, held, references))
    return found


def connect(held: list[Document]) -> None:
    """Let links lead to their places, in the same file or the other, and leave no other anchor.

    A link to a section names its number. In the other file a section stands for all that it holds,
    as Typst names only headings so that other files can find them.

    Raises:
        UsageError: a link points to nowhere.
    """
    found = [
        (document, name, link, key)
        for document in held
        for name, page in document.pages.items()
        for link, key in links(name, page)
    ]
    places = {document.file: document.places() for document in held}
    title = held[0].pages[FIRST].h1
    numbers = {key: number for document in held for key, number in document.number().items()}
    for document, name, link, key in found:
        homes = sorted(places, key=lambda file: file != document.file)
        home = next((file for file in homes if key in places[file]), None)
        if home is None:
            raise UsageError(f"{name}: the link to {link['href']} leads nowhere")
        place, new = landing(places[home][key]), "-".join(key)
        if place is title:  # which becomes no heading
            place = place.find_next("h2") or place
        if home != document.file and place.name not in HEADINGS:
            place, new = place.find_previous(HEADINGS) or place, f"{new}-section"
        anchor = place.attrs.setdefault("id", re.sub(r"\W+", "-", new))
        link["href"] = f"#{anchor}" if home == document.file else f"{home}#{anchor}"
        if id(place) in numbers:
            mark = EMPTY.new_tag("span", attrs={"typst:text:size": "0.85em"})
            mark.string = f"\N{NO-BREAK SPACE}§{numbers[id(place)]}"
            link.append(mark)
    for document in held:
        for page in (document.pages | document.references).values():
            for box in page.select("section, div"):
                box.unwrap()


def ems(text: str) -> float:
    """Estimate how wide a text runs, in sizes of the font; rather too wide."""
    wide, narrow = "mwMW%@—", "iljtfrI.,:;!'|()[]/ "
    return sum(
        0.9 if c in wide else 0.32 if c in narrow else 0.7 if c.isupper() else 0.53 for c in text
    )


def measured(cell: Tag) -> str:
    """Give the text of a cell, with letters of middle width for code."""
    return "".join(
        re.sub(r"[^\s/]", "n", text) if text.find_parent("code") else text for text in cell.strings
    ).strip()


def room(size: float, columns: int) -> float:
    """Give how much text the columns of a table hold side by side, in sizes of the font."""
    return (TEXT_WIDTH - columns * CELL_MARGINS) / size


def fit_tables(page: Tag) -> None:
    """Give the columns of tables that would be too wide widths at which no word breaks.

    A column gets a share by its text, of which long cells count most, but at least its longest word
    and at most its longest cell. A table whose words alone are too wide is set smaller.
    """
    for table in page.select("table"):
        for given in table.select("colgroup"):
            given.decompose()
        rows = [row.select("td, th") for row in table.select("tr")]
        count = max(map(len, rows))
        full = [row for row in rows if len(row) == count]
        columns = [[measured(row[i]) for row in full] for i in range(count)]
        shares = [sum(ems(cell) ** 2 for cell in column) ** 0.5 for column in columns]
        least = [max(map(ems, re.split(r"\s|(?<=/)", " ".join(column)))) for column in columns]
        most = [max(map(ems, column)) for column in columns]
        if sum(most) <= room(TABLE_SIZES[0], count):
            continue
        fitting = [size for size in TABLE_SIZES if sum(least) <= room(size, count)]
        size = fitting[0] if fitting else TABLE_SIZES[-1]
        low, high = 0.0, room(size, count)
        for _ in range(40):
            scale = (low + high) / 2
            widths = [
                max(a, min(scale * share, b))
                for a, share, b in zip(least, shares, most, strict=True)
            ]
            low, high = (scale, high) if sum(widths) <= room(size, count) else (low, scale)
        points = [width * size + CELL_MARGINS for width in widths]
        table["typst:text:size"] = f"{size}pt"
        group = EMPTY.new_tag("colgroup")
        for width in points:
            group.append(EMPTY.new_tag("col", style=f"width: {width / sum(points):.2%}"))
        if table.caption is None:
            table.insert(0, group)
        else:
            table.caption.insert_after(group)


def typeset(text: str, pictures: Pictures) -> str:
    """Turn HTML into Typst."""
    source = pypandoc.convert_text(text, "typst", READER)
    # What Pandoc makes of TeX's "\;", and of a full stop after a word.
    return pictures.labelled(source.replace("#h(0em)", "thick").replace(" . $", ". $"))


def front_matter(page: Tag) -> tuple[dict[str, str], str, str]:
    """Take the first page apart: title, subtitle and author; the abstract; what follows it.

    The subtitle is in bold, the authors are not; the abstract is the first section.
    """
    known = {"title": "", "subtitle": "", "author": ""}
    sections: list[str] = []
    for heading in page.select("h2, h3, h4"):
        heading.name = f"h{int(heading.name[1]) - 1}"  # as the title is no heading in the PDF
    title, *elements = page.find_all(True, recursive=False)
    known["title"] = title.get_text().strip()
    for element in elements:
        if element.name == "h1":
            sections.append("")
        if sections:
            held, above = sections[-1], str(element.find_previous_sibling())
            # As on other pages, a figure comes before its heading.
            floats = element.name == "figure" and held == above
            sections[-1] = f"{element}{held}" if floats else f"{held}{element}"
        else:
            line = "subtitle" if element.find("strong") else "author"
            known[line] = ", ".join(filter(None, (known[line], element.get_text().strip())))
    return known, "".join(sections[:1]), "".join(sections[1:])


def sources(book: Path, folder: Path, name: str = "chameleon-usage") -> list[Path]:
    """Write the Typst sources of the paper and its supplement, and their drawings, into `folder`.

    Args:
        book: the book as HTML.
        folder: an empty one.
        name: of the paper's file.

    Returns:
        the sources, each named as its PDF is.
    """
    pictures = Pictures()
    held = documents(book, pictures, (f"{name}.pdf", f"{name}-supplement.pdf"))
    connect(held)
    for page in (page for document in held for page in document.pages.values()):
        fit_tables(page)
    known, abstract, rest = front_matter(held[0].pages.pop(FIRST))
    known |= {"paper": held[0].file, "supplement": held[1].file if held[1:] else ""}
    settings = ", ".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in known.items()
    )
    style = f"{STYLE.read_text(encoding='utf-8')}\n#let about = ({settings})\n"
    found = []
    for document in held:
        source = folder / Path(document.file).with_suffix(".typ")
        if document.is_paper:
            for page in document.pages.values():
                for heading in page.select(":is(h1, h2, h3, h4):has(+ figure)"):
                    # A figure floats, so there would be nothing that the heading stays with.
                    heading.insert_before(*heading.find_next_siblings("figure", limit=1))
            pages = "".join(map(str, document.pages.values()))
            body = ["#show: the-paper.with(..about)\n#abstract[", typeset(abstract, pictures), "]"]
            body += [typeset(rest, pictures), "#show: chapters"]
        else:
            for page in (document.pages | document.references).values():
                for heading in page.find_all(HEADINGS):  # parts are the first level
                    heading.name = f"h{int(heading.name[1]) + 1}"
            pages = "".join(
                f"<h1>{html.escape(part)}</h1>"
                + "".join(str(document.pages[name]) for name in names)
                for part, names in document.parts
            )
            body = ["#show: the-supplement.with(..about)"]
        body += [typeset(pages, pictures), "#show: references"]
        body += [typeset(str(page), pictures) for page in document.references.values()]
        source.write_text("\n\n".join([style, *body]), encoding="utf-8")
        found.append(source)
    for number, drawing in enumerate(pictures.drawings):
        (folder / f"{number}.svg").write_text(drawing, encoding="utf-8")
    return found


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
    """Write the paper, of which BOOK is the HTML, to OUT, and its supplement beside it."""
    with tempfile.TemporaryDirectory() as folder:
        done = {
            out.with_name(f"{source.stem}.pdf"): pdf(source)
            for source in reversed(sources(book, Path(folder), out.stem))
        }
    for file, content in done.items():  # the paper last, as what says that both are there
        with whole_file(file) as part:
            part.write_bytes(content)
