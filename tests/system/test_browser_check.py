"""One round of checking labels as a person does it: in JupyterLab in Chromium, with keys and with the mouse.

What is seen on the way is kept as pictures in `outputs/browser`.
"""

import csv

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from test_browser_lab import Notebook, window
from test_browser_label import Hand

from ssl_core import datasets, graph, graph_file
from ssl_core.graph import Neighbors
from ssl_core.lab.runs import graph_cache
from ssl_core.lab.tools import label_images

N, M, WRONG = 300, 200, 20  # images, of these with a label, and of these with a wrong one


@pytest.fixture(scope="module")
def project(copy_project, images, tmp_path_factory):
    """A copy of the project with a folder of digits, some labels of which are wrong, and its graph of neighbours, by pixels."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    (project / "data").unlink()
    (folder := project / "scans").mkdir()
    pixels = images.x[:N, 0].mul(datasets.STD).add(datasets.MEAN).mul(255).round().byte().numpy()
    for i in range(N):
        Image.fromarray(pixels[i]).save(folder / f"{i:03}.png")
    random, labels = np.random.default_rng(0), images.y[:M].clone()
    wrong = random.choice(M, WRONG, replace=False)
    labels[wrong] = (labels[wrong] + torch.from_numpy(random.integers(1, 10, WRONG))) % 10
    (folder / "labels.csv").write_text(
        "file,label\n" + "".join(f"{i:03}.png,{label}\n" for i, label in enumerate(labels.tolist()))
    )
    info, whole = label_images.whole(str(folder), *datasets.load(str(folder), project / "data"))
    target = graph_cache._path(info, label_images.pretraining_of(info), project / "data" / "graphs")
    target.parent.mkdir()
    x = (whole.x[:] - whole.x[:].min()).flatten(1)
    graph_file.write(target, Neighbors(*graph.neighbors(x, 10), x.half()))
    return project


@pytest.fixture(scope="module")
def address(start_lab, project):
    _, address, token = start_lab(project)
    return f"{address}/lab/tree/notebooks/NAME?token={token}&reset"


class Check(Hand):
    """The panel of check_labels.ipynb, open in JupyterLab."""

    def __init__(self, page, project, address):
        self.page, self.folder, self.list = page, project / "scans", project / "outputs" / "label_errors.csv"
        self.notebook = Notebook(
            page, project, address, "check_labels.ipynb", {'data = \\"mnist\\"': f'data = \\"{self.folder}\\"'}
        )
        self.panel = page.locator(".label-by-hand")

    @property
    def shown(self):
        return self.panel.locator(".frame img").get_attribute("alt").removeprefix("The image to check: ")

    @property
    def decided(self):
        return {row["file"]: row["decision"] for row in self.rows if row["decision"]}

    @property
    def rows(self):
        with self.list.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    def label(self, name):
        with (self.folder / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
            return next(row["label"] or row.get("status", "") for row in csv.DictReader(file) if row["file"] == name)

    def places(self):
        """Where things are in the panel, also the label and its buttons."""
        top = self.panel.bounding_box()
        box = self.panel.locator(".check").bounding_box()
        return [*super().places(), (box["x"] - top["x"], round(box["y"] - top["y"]), box["width"], box["height"])]


def test_one_round_of_decisions(browser, project, address):
    with window(browser) as page:
        check = Check(page, project, address)
        before = (check.folder / "labels.csv").read_bytes()
        check.run()
        rows = check.rows
        names = [row["file"] for row in rows]
        assert check.shown == names[0] and not check.decided and (check.folder / "labels.csv").read_bytes() == before
        assert page.locator(".jp-RenderedText", has_text=f"{M} labels of 10 classes checked, about ").count() == 1
        check.panel.locator(".hint").click()
        n_cells = page.locator(".jp-Cell").count()

        # The label, what the others say, and the neighbours with theirs.
        row = rows[0]
        reason = check.panel.locator(".reason").inner_text()
        assert reason == f"Labelled {row['given']}, wrong with probability {row['evidence']}: {row['why']}"
        assert check.panel.get_by_role("button", name=f"Correct to {row['suggested']}").get_attribute("aria-keyshortcuts") == "↓"
        told = check.panel.locator(".neighbors figcaption").all_inner_texts()
        assert len(told) == 10 and {*told} <= {*"0123456789·"} and row["suggested"] in told
        check.keep("check")
        found = Axe().run(page, context=".label-by-hand")
        assert found.violations_count == 0, found.generate_report()

        # Keys, one a decision; then undo; then the mouse.
        places = check.places()
        check.press("ArrowDown", "ArrowUp", "Delete")
        assert check.decided == {names[0]: row["suggested"], names[1]: "keep", names[2]: "drop"}
        assert [check.label(name) for name in names[:3]] == [row["suggested"], rows[1]["given"], ""]
        check.press("-")
        assert check.label(names[3]) == "no class"
        check.press("ArrowLeft", "Backspace")
        assert check.label(names[3]) == rows[3]["given"] and check.label(names[2]) == rows[2]["given"] and check.shown == names[2]
        check.click(f"Correct to {rows[2]['suggested']}", exact=True)
        check.click(f"Keep {rows[3]['given']}", exact=True)
        other = next(c for c in "0123456789" if c not in (rows[4]["given"], rows[4]["suggested"]))
        check.press(other)
        check.click("No label")
        assert [check.label(name) for name in names[2:6]] == [rows[2]["suggested"], rows[3]["given"], other, ""]
        check.press("ArrowRight")
        assert check.shown == names[7] and check.places() == places
        assert check.panel.locator(".head strong").inner_text().startswith("6 labels decided, ")
        check.keep("check-later")

        # No key went to the notebook.
        check.press("x", "a", "b")
        assert page.locator(".jp-Cell").count() == n_cells and page.locator(".jp-Dialog").count() == 0

        # Somebody else decides meanwhile: it is asked which counts.
        text = check.list.read_text()
        line = next(line for line in text.splitlines() if line.startswith(names[7]))
        check.list.write_text(text.replace(line, f"{line}drop"))
        check.press("ArrowUp")
        asked = check.panel.get_by_role("alert").inner_text()
        assert asked == "Somebody else answered meanwhile: no label. Which is it?" and check.places() == places
        check.click(f"Write {rows[7]['given']}")
        assert check.decided[names[7]] == "keep" and check.label(names[7]) == rows[7]["given"]

        # A later sitting goes on, and can take back what an earlier one did.
        done = check.decided
        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_role("menuitem", name="Restart Kernel and Run All Cells…").click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        check.panel.wait_for(state="detached", timeout=240_000)  # the former kernel's
        check.panel.wait_for(timeout=240_000)
        check.notebook.wait_for_the_end()
        assert check.shown == names[6] and check.decided == done, "what was skipped comes in its place again"
        check.click("Undo")
        check.click("Undo")
        assert check.shown == names[5] and check.label(names[5]) == rows[5]["given"] and names[5] not in check.decided

        # To the end of the suspects.
        check.panel.locator(".frame").click()
        for _ in range(len(rows)):
            if check.panel.locator(".check").is_hidden():
                break
            check.press("ArrowDown")
        assert check.panel.locator(".frame").inner_text().startswith("All suspects are decided.")
        assert check.panel.locator(".head strong").inner_text().endswith(" labels decided, 0 to go of the suspects")
        check.keep("check-end")
        with (check.folder / "label_decisions.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) >= len(check.decided)
