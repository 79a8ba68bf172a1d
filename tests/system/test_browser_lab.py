"""The notebooks as a person uses them: JupyterLab in Chromium, a real mouse, menus, sliders, and the stop button.

What is seen on the way is kept as pictures in `outputs/browser`.
"""

import re
from contextlib import contextmanager
from dataclasses import replace
from math import cos, pi, sin

import pytest

from ssl_core import experiment, train
from ssl_core.lab.runs import files, records
from ssl_core.lab.runs.spec import Run

PICTURES = files.ROOT / "outputs" / "browser"
FIRST, SECOND = Run(50, "supervised", 0), Run(6000, "supervised", 0)


@pytest.fixture(scope="module")
def project(browser, images, copy_project, tmp_path_factory):
    """A copy of the project with two finished runs: of fifty labels, and of enough to read a drawn digit."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    for run, epochs in ((FIRST, 2), (SECOND, 12)):
        settings = replace(run.settings, epochs=epochs, tta_views=0)
        task = experiment.prepare(images, run.labeling, settings)
        training = train.fit(experiment.network(images, run.seed), task, settings, run.seed)
        result = experiment.assess(images, task, training)
        result = replace(result, training=replace(training, recipe=run.settings))  # recorded as if it was not shorter
        records.save(run.folder(folder / "outputs"), run, task, result)
    return folder


@pytest.fixture(scope="module")
def address(start_lab, project):
    _, address, token = start_lab(project)
    return f"{address}/lab/tree/notebooks/NAME?token={token}&reset"


class Notebook:
    """A notebook that is open in JupyterLab; `change` are texts in its cells and what stands there instead."""

    def __init__(self, page, project, address, name, change=()):
        path = project / "notebooks" / name
        text = path.read_text()
        for old, new in dict(change).items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        self.page = page
        page.goto(address.replace("NAME", name), timeout=120_000)
        self.wait_for_idle()

    def wait_for_idle(self, seconds=240):
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=1000 * seconds)

    def run_all(self):
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def wait_for_the_end(self, seconds=240):
        """Until the last cell has a number, and the kernel nothing more to do; no cell may have failed."""
        last = self.page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
        self.page.wait_for_function(
            r"prompt => /\[\d+\]/.test(prompt.textContent)", arg=last.element_handle(), timeout=1000 * seconds
        )
        self.wait_for_idle()
        assert self.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]', has_text="Traceback").count() == 0
        assert self.page.locator(".jp-RenderedText", has_text="Traceback").count() == 0

    def cell(self, source):
        """The code cell with this text in it."""
        return self.page.locator(".jp-CodeCell", has=self.page.locator(".jp-InputArea", has_text=source)).first

    def show(self, cell, picture):
        """Brings a cell into view, and keeps what is seen."""
        cell.scroll_into_view_if_needed()
        PICTURES.mkdir(parents=True, exist_ok=True)
        cell.screenshot(path=PICTURES / f"{picture}.png")


@contextmanager
def window(browser):
    """A window of JupyterLab; it may ask for nothing but what this machine gives, and no script in it may fail."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    page.close()
    assert failed == []
    assert [url for url in asked if not re.match(r"(https?|ws)://127\.0\.0\.1:|data:|blob:", url)] == []


@pytest.fixture
def page(browser):
    with window(browser) as page:
        yield page


@pytest.fixture(scope="module")
def explorer(browser, project, address):
    """`explore.ipynb`, run to its end."""
    with window(browser) as page:
        notebook = Notebook(page, project, address, "explore.ipynb")
        notebook.run_all()
        notebook.wait_for_the_end()
        yield notebook


def picture(cell):
    """The source of a cell's last picture."""
    return cell.locator(".jp-OutputArea-output img").last.get_attribute("src")


def changed(page, cell, before):
    """Waits until a cell's last picture is another one."""
    page.wait_for_function(
        "([cell, before]) => [...cell.querySelectorAll('.jp-OutputArea-output img')].at(-1).src !== before",
        arg=[cell.element_handle(), before],
        timeout=60_000,
    )


def test_train(page, project, address):
    notebook = Notebook(
        page,
        project,
        address,
        "train.ipynb",
        {'recipe = \\"best\\"': 'recipe = \\"supervised\\"', "smoke = False": "smoke = True"},
    )
    notebook.run_all()
    notebook.wait_for_the_end()
    assert page.locator(".jp-OutputArea-output img").count() >= 8
    notebook.show(notebook.cell("run_figures.worst_mistakes"), "train")


def test_every_view_has_its_figure(explorer):
    for view in ("curves", "confusion", "cell", "recall", "map", "distorted", "drawn", "budget"):
        cell = explorer.cell(f"explorer.{view}")
        assert cell.locator(".jp-OutputArea-output img").count() == 1
        explorer.show(cell, f"explore-{view}")


def test_figures_and_words_follow_the_controls(explorer):
    page = explorer.page

    # A menu: the other run's matrix takes the place of the first's.
    cell = explorer.cell("explorer.confusion")
    before = picture(cell)
    cell.locator("select").select_option(label="supervised, M = 6000, seed 0")
    changed(page, cell, before)

    # A slider, with the keyboard: more rotation.
    cell = explorer.cell("explorer.distorted")
    before = picture(cell)
    cell.get_by_role("slider").first.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    changed(page, cell, before)
    explorer.show(cell, "explore-distorted-more")

    # A price: the recommendation in words follows.
    cell = explorer.cell("explorer.budget")
    answers = cell.locator(".jp-RenderedMarkdown").first
    assert "at 0.030 per label" in answers.inner_text()
    cell.get_by_role("slider").first.focus()
    page.keyboard.press("End")
    answers.filter(has_text="at 0.500 per label").wait_for(timeout=60_000)


def stroke(page, canvas, points):
    """Draws through `points`, from (0, 0) at the top left of the canvas to (1, 1), with the mouse button held."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def test_drawn_digit_is_classified(explorer):
    page, cell = explorer.page, explorer.cell("explorer.drawn")
    canvas = cell.locator("canvas")
    cell.locator("select").last.select_option(label="supervised, M = 6000, seed 0")
    text = cell.locator(".jp-RenderedMarkdown").last
    digits = {
        "0": [(0.5 + 0.25 * sin(2 * pi * t / 24), 0.5 - 0.36 * cos(2 * pi * t / 24)) for t in range(25)],
        "1": [(0.52, 0.12), (0.48, 0.88)],
        "7": [(0.25, 0.18), (0.75, 0.18), (0.45, 0.88)],
    }
    for digit, points in digits.items():
        stroke(page, canvas, points)
        text.filter(has_text=re.compile(rf"What the network sees\. .* M = 6000, seed 0: {digit} \(\d+ %\)")).wait_for(
            timeout=30_000
        )
        explorer.wait_for_idle()
        explorer.show(cell, f"explore-drawn-{digit}")
        cell.get_by_role("button", name="Clear").click()
        text.filter(has_text="Nothing drawn yet").wait_for(timeout=30_000)


def test_watched_training_stops_and_resumes(page, project, address):
    change = {'recipe = \\"best\\"': 'recipe = \\"supervised\\"', "n_labels = 50 ": "n_labels = 1000 "}
    notebook = Notebook(page, project, address, "watch.ipynb", change)
    notebook.run_all()
    cell = notebook.cell("watch.watch")
    text = cell.locator(".jp-RenderedMarkdown").first

    def stop_after(epoch):
        text.filter(has_text=re.compile(rf"epoch {epoch} of 50")).wait_for(timeout=120_000)
        page.get_by_role("button", name="Interrupt the kernel").click()
        text.filter(has_text="stopped after epoch").wait_for(timeout=30_000)
        notebook.wait_for_idle()
        return int(re.search(r"stopped after epoch (\d+) of 50", text.inner_text())[1])

    assert stop_after(3) == 1
    assert cell.locator(".jp-OutputArea-output img").count() == 1
    notebook.show(cell, "watch-stopped")
    # The last cell ran: it says what is there, and its assertions hold. Then on, from the checkpoint, past the next one.
    notebook.wait_for_the_end()
    assert "1 of 50 epochs are done" in page.locator(".jp-CodeCell").last.inner_text()
    notebook.run_all()
    assert stop_after(6) == 5
    assert cell.locator(".jp-OutputArea-output img").count() == 1
