"""An executed notebook as a page: one file that needs no network, for a screen, a phone, paper, and who has it read aloud."""

from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter

HOW_TO_READ = "How to read it:"  # begins the paragraph after a figure that is its caption
# A shell of our own: nbconvert's links scripts from the network, and the page must be complete without one.
SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
body {{ color: #222; background: #fff; }}
h1, h2, h3 {{ line-height: 1.2; margin-top: 2rem; }}
a {{ color: #0050a0; }}
img {{ max-width: 100%; height: auto; }}
figure {{ margin: 1rem 0; }}
figcaption {{ color: #444; font-size: 0.95rem; }}
pre {{ white-space: pre-wrap; }}
.scrolls {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border: 0; border-collapse: collapse; }}
th, td {{ padding: 0.25rem 0.75rem; border: 0; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
th button {{ font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }}
th button:hover {{ text-decoration: underline; }}
th[aria-sort=ascending] button::after {{ content: " ▲"; }}
th[aria-sort=descending] button::after {{ content: " ▼"; }}
code {{ background: #f3f3f3; padding: 0 0.2em; }}
@media print {{
  body {{ max-width: none; margin: 0; font-size: 10pt; }}
  figure, tr, li {{ break-inside: avoid; }}
  h1, h2, h3 {{ break-after: avoid; }}
  .scrolls {{ overflow: visible; }}
}}
</style>
</head>
<body><main>
{body}
</main>
<script>
// A click on the head of a column sorts the rows by it, by number where each begins with one; another turns the order round.
for (const button of document.querySelectorAll("th button")) button.onclick = () => {{
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.cells[head.cellIndex].innerText.trim();
  const rows = [...body.rows], numbers = rows.every(row => text(row) === "–" || !isNaN(parseFloat(text(row))));
  const value = row => numbers ? (text(row) === "–" ? -Infinity : parseFloat(text(row))) : text(row);
  rows.sort((one, other) => (value(one) < value(other) ? -1 : value(one) > value(other) ? 1 : 0) * (down ? -1 : 1));
  body.append(...rows);
}};
</script>
</body>
</html>
"""


def as_page(notebook: Path) -> str:
    """An executed notebook as one HTML file without code cells."""
    exporter = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True
    )
    body, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4))
    page = BeautifulSoup(body, "html.parser")
    for mark in page.select("a.anchor-link, style"):
        mark.decompose()
    for cell in page.select("div.cell"):  # those without text or output, and numbers that a reader has no use for
        del cell["id"]
        if not cell.get_text(strip=True) and not cell.find("img"):
            cell.decompose()
    for image in page.find_all("img"):
        _caption(page, image)
    for number, table in enumerate(page.find_all("table"), 1):
        _readable(page, table, number)
    return SHELL.format(title=page.h1.get_text(), body=str(page))


def _heading(element: Tag) -> str:
    """The heading under which something stands."""
    return element.find_previous(["h1", "h2", "h3"]).get_text()


def _caption(page: BeautifulSoup, image: Tag) -> None:
    """Makes an image a figure: with an alternative text, and the paragraph that says how to read it as its caption."""
    heading = _heading(image)
    image["alt"] = f"Figure: {heading}"
    image.wrap(page.new_tag("figure"))
    after = image.find_next(["p", "img", "h2", "h3"])
    if after is not None and after.name == "p" and after.get_text().startswith(HOW_TO_READ):
        after.name = "figcaption"
        image.parent.append(after)
        image["alt"] += "; the caption says how to read it"


def _readable(page: BeautifulSoup, table: Tag, number: int) -> None:
    """A table that scrolls by itself where it is too wide, with one row of heads; to be sorted if no cell spans several rows."""
    heads = table.thead.find_all("tr")
    if len(heads) == 2:  # pandas writes the name of the index into a row of its own
        for above, below in zip(heads[0].find_all("th"), heads[1].find_all("th"), strict=True):
            if not above.get_text(strip=True):
                above.string = below.get_text()
        heads[1].decompose()
    del table["border"]
    for element in table.find_all(style=True):
        del element["style"]
    for head in table.thead.find_all("th"):
        head["scope"] = "col"
        if head.get_text(strip=True) and not table.find(attrs={"rowspan": True}):
            text = head.get_text(strip=True)
            head.clear()
            head.append(page.new_tag("button", type="button", string=text))
        elif not head.get_text(strip=True):
            head.name = "td"
    for head in table.tbody.find_all("th"):
        head["scope"] = "rowgroup" if head.get("rowspan") else "row"
    label = f"{_heading(table)}, table {number}"
    table.wrap(page.new_tag("div", attrs={"class": "scrolls", "role": "region", "tabindex": "0", "aria-label": label}))
