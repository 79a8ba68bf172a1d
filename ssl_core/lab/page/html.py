"""Notebooks and Markdown as HTML pages, for screens, phones, paper and screen readers.

Each page is one file that needs no network. The templates beside this module hold the HTML, the style and the script.
Captions and alternative texts depend on the text around a figure or a table: they are added to the parsed page.
"""

import re
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import mistune
import nbformat
from bs4 import BeautifulSoup, Comment, Tag
from jinja2 import Environment, FileSystemLoader
from mistune.plugins import table as tables
from nbconvert import HTMLExporter
from PIL import Image
from pygments.formatters import HtmlFormatter

FOLDER = Path(__file__).parent
HOW_TO_READ = "How to read it:"  # begins the paragraph after a figure that becomes its caption
HEADINGS = ["h1", "h2", "h3"]
CODE_BLOCK = {"class": "code", "tabindex": "0", "role": "group", "aria-label": "Code"}  # as in cells.html.j2
WIDGET = "application/vnd.jupyter.widget-view+json"
# Not nbconvert's Markdown, which reads no table in a list.
MARKDOWN = mistune.create_markdown(escape=False, plugins=[tables.table, tables.table_in_list])
TEMPLATES = Environment(loader=FileSystemLoader(FOLDER), keep_trailing_newline=True)


@dataclass(frozen=True)
class Link:
    """An entry of the navigation at the head of a page."""

    text: str
    href: str
    here: bool = False  # whether it leads to the page that it stands on


def as_page(notebook: Path) -> str:
    """An executed notebook as one HTML file without code cells."""
    return document(of_notebook(notebook, code=False))


def document(body: BeautifulSoup, links: Sequence[Link] = ()) -> str:
    """The whole file: style and script inline, navigation if there are links; the first heading is its title."""
    css = (FOLDER / "page.css").read_text()
    if body.select_one(".code"):
        css += HtmlFormatter(style="default", nobackground=True).get_style_defs(".code")
    js = (FOLDER / "page.js").read_text()
    title = first(body, "h1").get_text()
    return TEMPLATES.get_template("page.html.j2").render(title=title, body=body, links=links, css=css, js=js)


def of_notebook(notebook: Path, *, code: bool) -> BeautifulSoup:
    """The cells of an executed notebook, with their code or without."""
    content = nbformat.read(notebook, as_version=4)
    for data in (output.get("data", {}) for cell in content.cells for output in cell.get("outputs", ())):
        if "image/png" in data:
            data["image/png"] = _small(data["image/png"])
        if WIDGET in data:
            data.clear()
            data["text/markdown"] = "*JupyterLab shows menus and sliders here.*"
    exporter = HTMLExporter(
        template_file=str(FOLDER / "cells.html.j2"),
        exclude_input=not code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],  # lines printed one by one are one text
    )
    page = BeautifulSoup(exporter.from_notebook_node(content)[0], "html.parser")
    _name_headings(page)
    counts: Counter[str] = Counter()
    for figure in page.find_all("figure"):
        _caption(page, figure, counts)
    return _finish(page)


def of_markdown(text: str) -> BeautifulSoup:
    """A text in Markdown."""
    page = BeautifulSoup(str(MARKDOWN(text)), "html.parser")
    _name_headings(page)
    return _finish(page)


def first(element: Tag, name: str) -> Tag:
    """The first element called `name` in one that has such."""
    inside = element.find(name)
    assert isinstance(inside, Tag)
    return inside


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it: "In short" is reached by #in-short."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _small(png: str) -> str:
    """A PNG, base64, with a palette of 256 colours: a third of the size, and a figure looks the same."""
    buffer = BytesIO()
    picture = Image.open(BytesIO(b64decode(png))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return min(png, b64encode(buffer.getvalue()).decode(), key=len)


def _name_headings(page: BeautifulSoup) -> None:
    """Gives each heading an id of its own, so that it can be linked to."""
    for mark in [*page.select("a.anchor-link, style"), *page.find_all(string=lambda text: isinstance(text, Comment))]:
        mark.extract()
    counts: Counter[str] = Counter()
    for heading in page.find_all(["h1", "h2", "h3", "h4"]):
        name = slug(heading.get_text())
        heading["id"] = f"{name}-{counts[name]}" if counts[name] else name
        counts[name] += 1


def _finish(page: BeautifulSoup) -> BeautifulSoup:
    """Makes tables usable on a phone and with a screen reader, and lists the sections of a long page below its title."""
    for number, table in enumerate(page.find_all("table"), 1):
        _improve_table(page, table, number)
    for block in page.select("pre:not([class])"):
        if not block.find_parent(class_="code"):  # a block of Markdown
            block.wrap(page.new_tag("div", attrs=CODE_BLOCK))
    sections = page.find_all("h2")
    if len(sections) >= 4:
        items = "".join(f'<li><a href="#{section["id"]}">{section.decode_contents()}</a></li>' for section in sections)
        details = f"<details><summary>Contents</summary><ul>{items}</ul></details>"
        contents = f'<nav aria-label="Contents" class="contents">{details}</nav>'
        first(page, "h1").insert_after(BeautifulSoup(contents, "html.parser"))
    return page


def _heading(element: Tag) -> Tag:
    """The heading of the section in which an element stands."""
    heading = element.find_previous(HEADINGS)
    assert isinstance(heading, Tag)
    return heading


def _caption(page: BeautifulSoup, figure: Tag, counts: Counter[str]) -> None:
    """Gives a figure an id with a link to it, an alternative text, and a caption: the paragraph that says how to read it."""
    heading = _heading(figure)
    name = str(heading["id"])
    counts[name] += 1
    number = counts[name]
    figure["id"] = f"figure-{name}" + (f"-{number}" if number > 1 else "")
    label = f"Link to this figure: {heading.get_text()}" + (f", {number}" if number > 1 else "")
    link = page.new_tag("a", attrs={"class": "anchor", "href": f"#{figure['id']}", "aria-label": label})
    figure.append(link)
    alternative = f"Figure: {heading.get_text()}"
    after = link.find_next(["p", "img", "h2", "h3"])
    if after is not None and after.name == "p" and after.get_text().startswith(HOW_TO_READ):
        after.name = "figcaption"
        figure.append(after)
        alternative += "; the caption says how to read it"
    first(figure, "img")["alt"] = alternative


def _improve_table(page: BeautifulSoup, table: Tag, number: int) -> None:
    """Makes a table scroll by itself where it is too wide, and gives it one header row.

    A table with numbers can be sorted by its columns, unless a cell spans several rows.
    """
    _join_header_rows(table)
    del table["border"]
    for cell in table.find_all(style=True):
        if "right" in cell["style"]:
            cell["class"] = "number"
        del cell["style"]
    numeric = "dataframe" in (table.get("class") or ()) or table.select_one(".number")
    sortable = numeric and not table.select_one("[rowspan]")
    for head in first(table, "thead").find_all("th"):
        head["scope"] = "col"
        if not head.get_text(strip=True):
            head.name = "td"
            del head["scope"]
        elif sortable:
            button = page.new_tag("button", type="button")
            button.extend(list(head.contents))
            head.append(button)
    for head in first(table, "tbody").find_all("th"):
        head["scope"] = "rowgroup" if head.get("rowspan") else "row"
    label = f"{_heading(table).get_text()}, table {number}"
    table.wrap(page.new_tag("div", attrs={"class": "scrolls", "role": "region", "tabindex": "0", "aria-label": label}))


def _join_header_rows(table: Tag) -> None:
    """One header row of two: pandas writes the name of the index into a row of its own."""
    rows = first(table, "thead").find_all("tr")
    if len(rows) == 2:
        for above, below in zip(rows[0].find_all("th"), rows[1].find_all("th"), strict=True):
            if not above.get_text(strip=True):
                above.string = below.get_text()
        rows[1].decompose()
