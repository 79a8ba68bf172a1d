"""Labels by hand as a person gives them: in JupyterLab in Chromium, with keys and with the mouse; the table says what counts.

What is seen on the way is kept as pictures in `outputs/browser`.
"""

import csv

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from test_browser_lab import Notebook, window

from ssl_core import data, datasets, graph, graph_file, recipes
from ssl_core.graph import Neighbors
from ssl_core.lab.runs import graph_cache
from ssl_core.lab.runs.spec import adapted

N = 40  # images


@pytest.fixture(scope="module")
def project(copy_project, images, tmp_path_factory):
    """A copy of the project with a folder of digits without labels, and its graph of neighbours, by pixels."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    (project / "data").unlink()
    (folder := project / "digits").mkdir()
    for i in range(N):
        pixels = images.x[i, 0].mul(datasets.STD).add(datasets.MEAN).mul(255).round().byte()
        Image.fromarray(pixels.numpy()).save(folder / f"{i:02}.png")
    x, info = data.load(str(folder), project / "data").x[:], datasets.describe(str(folder), project / "data", for_training=False)
    pretraining = adapted(recipes.BEST, info).pretraining
    target = graph_cache._path(info, pretraining, project / "data" / "graphs")
    target.parent.mkdir()
    graph_file.write(target, Neighbors(*graph.neighbors(x.flatten(1), 10), x.flatten(1)))
    return project


@pytest.fixture(scope="module")
def address(start_lab, project):
    _, address, token = start_lab(project)
    return f"{address}/lab/tree/notebooks/NAME?token={token}&reset"


class Hand:
    """The panel, open in JupyterLab."""

    def __init__(self, page, project, address, change):
        self.page, self.table = page, project / "digits" / "labels.csv"
        self.notebook = Notebook(page, project, address, "label.ipynb", change)
        self.panel = page.locator(".label-by-hand")

    def run(self):
        self.notebook.run_all()
        self.notebook.wait_for_the_end()
        self.panel.wait_for()

    def press(self, *keys):
        """Keys, each when the panel has taken the one before; the keyboard must be in the panel."""
        for key in keys:
            self.page.keyboard.press(key)
            self.settle()

    def click(self, name, exact=False):
        self.panel.get_by_role("button", name=name, exact=exact).click()
        self.settle()

    def settle(self):
        self.page.wait_for_function("!document.querySelector('.label-by-hand[aria-busy]')", timeout=20_000)

    def name(self, label):
        """Types a label into the box, and Enter."""
        self.press("/")
        self.page.keyboard.type(label)
        self.press("Enter")

    @property
    def shown(self):
        return self.panel.locator(".frame img").get_attribute("alt").removeprefix("The image to label: ")

    @property
    def said(self):
        """What the table says, by the image's number."""
        with self.table.open(encoding="utf-8-sig", newline="") as file:
            return {int(row["file"][:2]): row["label"] or row.get("status", "") for row in csv.DictReader(file)}

    def places(self):
        """Where things are in the panel: they may not move from image to image."""
        names, top = (".frame", ".commands", ".find", ".classes", ".neighbors"), self.panel.bounding_box()
        boxes = [self.panel.locator(name).bounding_box() for name in names]
        return [(box["x"] - top["x"], round(box["y"] - top["y"]), box["width"], box["height"]) for box in boxes]

    def keep(self, picture):
        self.settle()
        self.notebook.show(self.panel, picture)


def test_answers_with_keys_and_mouse(browser, project, address):
    with window(browser) as page:
        hand = Hand(page, project, address, {'data = \\"mnist\\"': f'data = \\"{project}/digits\\"'})
        hand.run()
        assert hand.shown == "00.png" and not hand.table.exists()
        hand.panel.locator(".hint").click()
        n_cells = page.locator(".jp-Cell").count()

        # New classes, by keys and by mouse; then their keys and buttons.
        hand.name("five")
        assert hand.said == {0: "five"} and hand.shown == "01.png"
        hand.panel.get_by_label("Class by name").fill("zero")
        hand.click("New class: zero")
        assert hand.said == {0: "five", 1: "zero"}
        hand.name("four")
        places = hand.places()
        hand.name("one")
        hand.click("zero")
        hand.press("1")
        assert hand.said == {0: "five", 1: "zero", 2: "four", 3: "one", 4: "zero", 5: "five"}
        assert hand.places() == places

        # Undo, twice, with a key and a click; the last answer counts. Skip and no class the same way.
        hand.press("ArrowLeft")
        hand.click("Undo")
        assert hand.said == {0: "five", 1: "zero", 2: "four", 3: "one"} and hand.shown == "04.png"
        hand.press("2", "-")
        hand.click("Not an image of any class")
        assert hand.said == {0: "five", 1: "zero", 2: "four", 3: "one", 4: "zero", 5: "no class", 6: "no class"}
        hand.press("ArrowRight")
        hand.click("Skip")
        assert hand.shown == "09.png" and len(hand.said) == 7
        assert hand.panel.locator(".head strong").inner_text() == f"7 answered (2 of no class), {N - 7} to go"
        assert hand.panel.locator(".neighbors img").count() == 10 and hand.places() == places

        # The beginning of a name, not of two; who types fast answers nothing that was not shown.
        hand.name("f")
        assert len(hand.said) == 7 and hand.panel.get_by_role("button", name="New class: f").is_visible()
        hand.press("Escape")
        hand.name("fou")
        assert hand.said[9] == "four"
        before = hand.said
        page.keyboard.press("3")
        page.keyboard.press("3")
        hand.settle()
        assert len(hand.said) in (len(before) + 1, len(before) + 2) and set(hand.said) - {*before} <= {10, 11}
        hand.keep("label")

        # No key went to the notebook: `x` would have cut a cell, 0 0 would restart the kernel.
        hand.press("x", "a", "b", "0", "0")
        assert page.locator(".jp-Cell").count() == n_cells and page.locator(".jp-Dialog").count() == 0

        found = Axe().run(page, context=".label-by-hand")
        assert found.violations_count == 0, found.generate_report()

        # Somebody else answers meanwhile: it is asked which counts.
        image = hand.shown
        other = hand.table.read_text()
        hand.table.write_text(f"{other}{image},seven,\n")
        hand.press("1")
        assert hand.panel.get_by_role("alert").inner_text() == "Somebody else answered meanwhile: seven. Which is it?"
        assert hand.places() == places
        hand.keep("label-question")
        hand.click("Write five")
        assert hand.said[int(image[:2])] == "five"
        hand.press("Backspace")
        assert hand.said[int(image[:2])] == "seven" and hand.shown == image
        hand.press("1")
        answered = hand.said

        # The browser anew: the kernel goes on. Then the kernel anew: the table goes on.
        shown = hand.shown
        hand.press("Control+s")  # which is JupyterLab's, also in the panel
        page.wait_for_timeout(2000)
        page.goto(address.replace("NAME", "label.ipynb"), timeout=120_000)
        hand.notebook.wait_for_idle()
        hand.panel.wait_for()
        assert hand.shown == shown
        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_role("menuitem", name="Restart Kernel and Run All Cells…").click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        page.wait_for_timeout(1000)
        hand.notebook.wait_for_the_end()
        hand.panel.wait_for()
        assert hand.shown == "07.png" and hand.said == answered, "what was skipped comes in its place again"

        # To the end.
        hand.panel.locator(".frame").click()
        for _ in range(N - len(answered)):
            hand.press("1")
        assert hand.panel.locator(".frame").inner_text() == "No image is left." and len(hand.said) == N
        assert hand.panel.locator(".head strong").inner_text() == f"{N} answered (2 of no class), 0 to go"
        hand.keep("label-end")
        info = datasets.describe(f"{project}/digits", project / "data-of-a-sweep")
        assert info.classes == ("five", "four", "one", "zero") and info.n_labels + info.n_test == N - 2


def test_an_answer_that_cannot_be_written_stays(browser, project, address):
    """The table is one of another kind meanwhile; then the person mends it."""
    with window(browser) as page:
        (project / "second").mkdir()
        change = {'labels = \\"\\"': f'labels = \\"{project}/second/labels.csv\\"'}
        hand = Hand(page, project, address, change)
        hand.table = project / "second" / "labels.csv"
        hand.run()
        hand.panel.locator(".frame").click()
        hand.name("five")
        shown, content = hand.shown, hand.table.read_text()
        hand.table.write_text("something else")
        hand.press("1")
        assert "not written, give the answer again: labels.csv: must be a table" in hand.panel.get_by_role("status").inner_text()
        assert hand.shown == shown and hand.table.read_text() == "something else"
        hand.keep("label-unwritten")
        hand.table.write_text(content)
        hand.press("1")
        assert len(hand.said) == 2 and hand.panel.get_by_role("status").inner_text() == f"image {shown}: five"
