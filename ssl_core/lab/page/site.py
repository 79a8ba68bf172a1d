"""The command `site`: executed notebooks, results and documents as a static site that needs no network.

A page lies where its source lies in the project, with the ending `.html`: links between sources become links between pages.
"""

import argparse
import os
import posixpath
import re
import shutil
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from bs4 import BeautifulSoup, PageElement, Tag

from ..runs import files
from ..runs.executors import LocalExecutor
from ..runs.notebook import FOLDER, KEEP_MEMORY, Execution, NotebookFailed
from ..runs.spec import Run
from ..runs.sweep import cores, lock, sweep
from . import api, html

RESULTS_PAGE = "outputs/reference/results.html"
DOCUMENTS = (  # in the order of the index
    *("README.md", "REPORT.md", "outputs/reference/README.md", "notebooks/README.md", "data/README.md"),
    *("ssl_core/README.md", "ssl_core/lab/README.md", "tests/README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
)
NAVIGATION = {
    "Home": "index.html",
    "Results": RESULTS_PAGE,
    "Notebooks": "notebooks/README.md",
    "API": api.SOURCE,
    "Report": "REPORT.md",
    "Read me": "README.md",
}
RUNS = (
    Run(50, "supervised", 0),
    Run(1000, "supervised", 0),
)  # that explore.ipynb shows; the first one's notebook is the page of train


@dataclass(frozen=True)
class Example:
    """The parameters of a notebook for the site."""

    note: str  # what a visitor must know of it, HTML
    parameters: Mapping[str, object]
    folder: str = ""  # for the parameter of that name or `outputs`, below the folder of the site's own runs


OF_REFERENCE = Example("The runs are those of the reference, of which the repository has the table.", {}, "reference")
EXAMPLES = {  # in the order of the index
    "quickstart": Example(
        "The data set is scikit-learn's digits, with 50 labels, and the recipe <code>quick</code>.",
        {"data": "digits", "n_labels": 50, "recipe": "quick"},
        "graphs",
    ),
    "train": Example(
        "One run of 50 labels with the recipe <code>supervised</code>, which is quicker than <code>best</code>.", {}
    ),
    "results": OF_REFERENCE,
    "label_studies": OF_REFERENCE,
    "ablation": OF_REFERENCE,
    "future_work": OF_REFERENCE,
    "watch": Example(
        "The data set is scikit-learn's digits, which takes less time than MNIST.", {"recipe": "supervised", "data": "digits"}
    ),
    "explore": Example("Two runs with the recipe <code>supervised</code>: 50 labels and 1000 labels.", {}, "runs"),
    "label_next": Example(
        "The data set is scikit-learn's digits; the features were learned in 300 steps instead of 1500.",
        {"data": "digits", "n_seeds": 2, "steps": 300},
    ),
    "label": Example(
        "The data set is scikit-learn's digits. The panel needs JupyterLab: here it is its summary in words.",
        {"data": "digits"},
        "hand",
    ),
    "check_labels": Example(
        "The data set is scikit-learn's digits, with its own labels. The panel needs JupyterLab: here it is its summary.",
        {"data": "digits"},
        "checked",
    ),
    "own_images": Example("The folder is the example that the notebook makes itself.", {}, "own_images"),
}


def build(site: Path, names: list[str]) -> None:
    """Executes the notebooks called `names` and writes the site into the folder `site`.

    Raises NotebookFailed, naming the notebook, if one fails; what was executed until then is kept in `site/.work`.
    """
    work = site / ".work"
    with lock(work):
        shutil.copytree(files.REFERENCE, work / "reference", dirs_exist_ok=True)
        executed = execute(names, work)
        bodies = {document: html.of_markdown((files.ROOT / document).read_text()) for document in DOCUMENTS}
        bodies[api.SOURCE] = html.of_markdown(api.markdown())
        for name, notebook in executed.items():
            bodies[f"notebooks/{name}.ipynb"] = _with_note(_read(notebook, work, code=True), EXAMPLES[name].note)
        if "results" in executed:
            bodies[RESULTS_PAGE] = _read(executed["results"], work, code=False)
        bodies["index.html"] = index(bodies)
        for source, body in bodies.items():
            write(site, source, body, bodies.keys())
    shutil.rmtree(work)


def execute(names: list[str], work: Path) -> dict[str, Path]:
    """Executes notebooks, two at a time, and prints a line for each; returns the executed copies by name."""
    if {"train", "explore"} & set(names):
        grid = list(RUNS if "explore" in names else RUNS[:1])
        for _, error in sweep(grid, work / "runs", LocalExecutor(min(len(grid), cores()), "cpu"), threads=1):
            raise NotebookFailed(f"train.ipynb: {error}")
    others = [name for name in reversed(names) if name != "train"]  # the last of EXAMPLES take longest

    executions = {name: Execution(FOLDER / f"{name}.ipynb", work / f"{name}.ipynb", parameters(name, work)) for name in others}

    def execute_one(name: str) -> Path:
        start = time.monotonic()
        try:
            executions[name].run(**KEEP_MEMORY, OMP_NUM_THREADS="1")
        except NotebookFailed as error:
            raise NotebookFailed(f"{name}.ipynb: {error}") from None
        print(f"{name}.ipynb: executed in {time.monotonic() - start:.0f} s", flush=True)
        return work / f"{name}.ipynb"

    pool = ThreadPoolExecutor(min(2, cores()))
    try:
        executed = dict(zip(others, pool.map(execute_one, others), strict=True))
    except BaseException:  # one failed, or the user interrupts: the other one need not go on
        for execution in executions.values():
            execution.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    if "train" in names:
        executed["train"] = RUNS[0].folder(work / "runs") / "train.ipynb"
    return {name: executed[name] for name in names}


def parameters(name: str, work: Path) -> dict[str, object]:
    """The parameters of a notebook for the site."""
    example = EXAMPLES[name]
    if not example.folder:
        return dict(example.parameters)
    where = {"own_images": "folder", "quickstart": "graphs"}.get(name, "outputs")
    return {where: str(work / example.folder), **example.parameters}


def index(bodies: Mapping[str, BeautifulSoup]) -> BeautifulSoup:
    """The first page: how the README begins, then links to all pages."""
    entries = {source: _entry(source, body) for source, body in bodies.items()}
    parts = {
        "introduction": _introduction(bodies["README.md"]),
        "results": RESULTS_PAGE if RESULTS_PAGE in bodies else None,
        "notebooks": [entry for source, entry in entries.items() if source.endswith(".ipynb")],
        "documents": [entries[source] for source in (*DOCUMENTS, api.SOURCE)],
    }
    return BeautifulSoup(html.TEMPLATES.get_template("index.html.j2").render(parts), "html.parser")


def write(site: Path, source: str, body: BeautifulSoup, sources: Collection[str]) -> None:
    """Writes the page of `source`, with its links, and copies the pictures that it shows."""
    page = page_of(source)
    for element in body.select("a[href], img[src]"):
        _relink(element, source, sources)
    for image in body.select("img[src]"):
        if not (address := str(image["src"])).startswith("data:"):
            picture = posixpath.normpath(posixpath.join(posixpath.dirname(source), address))
            (site / picture).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(files.ROOT / picture, site / picture)
    links = [html.Link(text, _relative(page_of(to), page), to == source) for text, to in NAVIGATION.items() if to in sources]
    (site / page).parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(site / page, html.document(body, links))


def page_of(source: str) -> str:
    """The path of the page of a source, both from the top folder."""
    return str(PurePosixPath(source).with_suffix(".html"))


def _relative(path: str, page: str) -> str:
    """The link from a page to a path, both from the top folder."""
    return posixpath.relpath(path, posixpath.dirname(page) or ".")


def _relink(element: Tag, source: str, sources: Collection[str]) -> None:
    """Turns a link to a source into one to its page.

    A link to another file of the project leads to the repository, if a GitHub workflow says its address; otherwise it is removed.
    """
    address = str(element.get("href", ""))
    if element.name == "img" or address.startswith(("#", "http:", "https:", "mailto:")):
        return
    path, _, fragment = address.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    readme = posixpath.normpath(posixpath.join(target, "README.md"))
    to = next((candidate for candidate in (target, readme) if candidate in sources), None)
    if to:
        element["href"] = _relative(page_of(to), page_of(source)) + (f"#{html.slug(fragment)}" if fragment else "")
    elif repository := os.environ.get("GITHUB_REPOSITORY"):
        element["href"] = f"{os.environ['GITHUB_SERVER_URL']}/{repository}/blob/{os.environ['GITHUB_SHA']}/{target}"
    else:
        element.unwrap()


def _read(notebook: Path, work: Path, *, code: bool) -> BeautifulSoup:
    """The cells of an executed notebook, without the paths of the machine that executed it."""
    text = notebook.read_text().replace(f"{work}/", "outputs/").replace(f"{files.ROOT}/", "")
    shown = work / "shown.ipynb"
    shown.write_text(text)
    return html.of_notebook(shown, code=code)


def _with_note(body: BeautifulSoup, note: str) -> BeautifulSoup:
    """The page of a notebook with a note below its title."""
    text = f'<p class="note">Executed by <code>make site</code>. {note}</p>'
    html.first(body, "h1").insert_after(BeautifulSoup(text, "html.parser"))
    return body


def _introduction(readme: BeautifulSoup) -> str:
    """The beginning of the README, before its first section, HTML."""
    parts = takewhile(lambda part: _tag(part) != "h2", readme.children)
    return "".join(str(part) for part in parts if _tag(part) != "nav")


def _tag(part: PageElement) -> str:
    return part.name if isinstance(part, Tag) else ""


def _entry(source: str, body: BeautifulSoup) -> dict[str, str]:
    """The entry of a page in the index: its title and its first sentence."""
    text = next((p.get_text(" ", strip=True) for p in body.find_all("p") if "note" not in (p.get("class") or ())), "")
    return {"href": source, "title": html.first(body, "h1").get_text(), "summary": re.split(r"(?<=[.?!]) ", text)[0]}


def selection(only: str) -> list[str]:
    """The names of notebooks in a text such as "train,results"; all of those that there are if it is empty."""
    there = [name for name in EXAMPLES if (FOLDER / f"{name}.ipynb").exists()]
    names = [name.strip() for name in only.split(",") if name.strip()] or there
    if unknown := [name for name in names if name not in there]:
        raise ValueError(f"only={unknown[0]!r}: must be one of {', '.join(there)}")
    return [name for name in there if name in names]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outputs", default="outputs/site", help="the folder of the site, from the project's root")
    parser.add_argument("--only", default="", help="names of notebooks, with commas: train,results (default: all)")


def command(args: argparse.Namespace) -> None:
    names, start = selection(args.only), time.monotonic()
    site = files.writable("outputs", files.outputs(args.outputs))
    build(site, names)
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    seconds = time.monotonic() - start
    print(f"{len(names)} notebooks in {seconds:.0f} s, {size / 1e6:.1f} MB; the site begins at {site / 'index.html'}")
