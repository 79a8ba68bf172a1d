"""Notebooks and Markdown as pages: captions, anchors, tables, and nothing that a browser would have to fetch."""

import base64
import io

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from ssl_core.lab.page import html

TABLE = """<table border="1" class="dataframe"><thead>
<tr style="text-align: right;"><th></th><th>accuracy</th></tr><tr><th>labels</th><th></th></tr></thead>
<tbody><tr><th>50</th><td>99.3</td></tr></tbody></table>"""


def png(width=200, height=120):
    """A picture of few colours, base64."""
    buffer = io.BytesIO()
    pixels = np.full((height, width, 4), 255, dtype=np.uint8)
    pixels[20:40, 30:90] = (0, 114, 178, 255)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def notebook(tmp_path):
    """A notebook with every kind of output."""
    figure = {"image/png": png(), "text/plain": "<Figure>"}
    outputs = [
        new_output("execute_result", figure, metadata={"image/png": {"width": 100, "height": 60}}, execution_count=1),
        new_output("display_data", figure),
    ]
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("plot(1 < 2)", outputs=outputs, execution_count=1),
        new_markdown_cell("*How to read it:* from left to right.\n\nAnother paragraph."),
        new_markdown_cell("## In short"),
        new_code_cell("table", outputs=[new_output("execute_result", {"text/html": TABLE, "text/plain": "table"})]),
        new_code_cell("print(3)", outputs=[new_output("stream", name="stdout", text=text) for text in ("3 < 4\n", "5\n")]),
        new_code_cell("menu", outputs=[new_output("display_data", {html.WIDGET: {"model_id": "1"}, "text/plain": "VBox()"})]),
        new_markdown_cell("## In short"),
        new_code_cell("None"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


def test_a_page_without_code(notebook):
    page = BeautifulSoup(html.as_page(notebook), "html.parser")
    assert page.title.get_text() == "Title" and page.html["lang"] == "en" and not page.select(".code, nav")
    assert "plot(" not in page.get_text() and [text.get_text() for text in page.find_all("pre")] == ["3 < 4\n5\n"]
    assert [heading["id"] for heading in page.find_all(["h1", "h2"])] == ["title", "in-short", "in-short-1"]
    assert not page.find_all(["link", "iframe"]) and not page.find_all("script", src=True)


def test_figures_have_captions_alternative_texts_and_anchors(notebook):
    first, second = BeautifulSoup(html.as_page(notebook), "html.parser").find_all("figure")
    assert (first["id"], second["id"]) == ("figure-title", "figure-title-2")
    assert first.a["href"] == "#figure-title" and (first.img["width"], first.img["height"]) == ("100", "60")
    assert first.img["alt"] == "Figure: Title" and first.figcaption is None
    assert second.img["alt"] == "Figure: Title; the caption says how to read it"
    assert second.figcaption.get_text() == "How to read it: from left to right."


def test_pictures_get_a_palette_and_keep_their_pixels(notebook):
    image = BeautifulSoup(html.as_page(notebook), "html.parser").img
    encoded = image["src"].removeprefix("data:image/png;base64,")
    small, large = (Image.open(io.BytesIO(base64.b64decode(text))) for text in (encoded, png()))
    assert small.mode == "P" and len(encoded) < len(png()) / 10
    assert np.array_equal(np.asarray(small.convert("RGB")), np.asarray(large.convert("RGB")))


def test_tables_have_one_header_row_and_can_be_sorted(notebook):
    region = BeautifulSoup(html.as_page(notebook), "html.parser").select_one(".scrolls")
    assert region["aria-label"] == "In short, table 1" and region["tabindex"] == "0"
    (row,) = region.thead.find_all("tr")
    assert [head.button.get_text() for head in row.find_all("th")] == ["labels", "accuracy"]
    assert region.tbody.th["scope"] == "row" and not region.find_all(style=True)


def test_a_page_with_code(notebook):
    page = html.of_notebook(notebook, code=True)
    assert [block.get_text().strip() for block in page.select(".code")] == ["plot(1 < 2)", "table", "print(3)", "menu", "None"]
    assert "JupyterLab shows menus" in page.get_text() and "VBox" not in page.get_text() and not page.find("script")
    links = [html.Link("Home", "index.html"), html.Link("Here", "a.html", here=True)]
    document = BeautifulSoup(html.document(page, links), "html.parser")
    assert document.select_one("header [aria-current=page]").get_text() == "Here" and document.select_one("a.skip")
    assert ".code .k" in document.style.get_text(), "the colours of the code are in the page"


def test_markdown():
    text = "# One\n\n| a | b |\n| :-- | --: |\n| x | 1 |\n\n| c | d |\n| --- | --- |\n| y | z |\n\n    code\n\n"
    page = html.of_markdown(text + "".join(f"## Is `{name}` it?\n\n" for name in "abcd"))
    numbers, words = page.find_all("table")
    assert len(numbers.find_all("button")) == 2 and not words.find_all("button")
    assert [cell.get("class") for cell in numbers.find_all("td")] == [None, "number"]
    assert page.select_one(".code pre").get_text() == "code"
    assert [link["href"] for link in page.select("nav a")] == [f"#is-{name}-it" for name in "abcd"]


def test_markdown_of_the_project():
    """A table within a list is a table, and a comment is no text."""
    page = html.of_markdown("# One\n\n1. item\n\n   | a | b |\n   | --- | --- |\n   | x | y |\n\n<!-- places -->\n")
    assert page.select_one("ol td").get_text() == "x" and "places" not in page.get_text()


@pytest.mark.parametrize(("heading", "anchor"), [("In short", "in-short"), ("What it is: M = 50?", "what-it-is-m--50")])
def test_anchors_are_those_of_github(heading, anchor):
    assert html.slug(heading) == anchor
