"""The views of finished runs, with controls and without."""

import json
import shutil
import sys
from base64 import b64encode
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.display import Markdown
from matplotlib.figure import Figure
from PIL import Image

from ssl_core import data, experiment
from ssl_core.datasets import describe
from ssl_core.datasets.framing import centered
from ssl_core.lab.runs import files, records
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import explore


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Two short runs; the record of the second says that it is of older code."""
    folder, digits = tmp_path_factory.mktemp("outputs"), data.load("digits", files.DATA)
    for seed in (0, 1):
        run = Run(50, "supervised", seed, data="digits", smoke=True)
        task, result = experiment.run(digits, run.labeling, run.settings)
        path = records.save(run.folder(folder), run, task, result)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "of older code"}))
    return folder


@pytest.fixture
def explorer(outputs):
    return explore.Explorer(outputs, "digits")


def test_runs_of_older_code_are_marked(explorer):
    assert explorer.names == ["supervised, M = 50, seed 0", "supervised, M = 50, seed 1 (older code)"]
    assert len(explorer.results) == 1


def test_each_view_of_a_run_is_a_figure(explorer):
    name = explorer.names[0]
    for show in (explorer.confusion, explorer.map):
        assert isinstance(show(name), Figure)
    text, figure = explorer.curves(name)
    assert " %** test accuracy" in text.data and isinstance(figure, Figure)
    assert isinstance(explorer.recall("supervised"), Figure)
    assert isinstance(explorer.distorted(10, 0.1, 6, 2.0, 0.4, 9), Figure)
    text, figure = explorer.budget(3.0, 10.0, 10_000, 99.0)
    assert "Cheapest in total" in text.data and isinstance(figure, Figure)


def test_cell_shows_the_counted_images_most_confident_first(explorer):
    name, classes = explorer.names[0], explorer.images.classes
    counts = np.array(explorer.records[name].confusion)
    for true, predicted in np.ndindex(counts.shape):
        view = explorer.cell(name, classes[true], classes[predicted])
        if not counts[true, predicted]:
            assert isinstance(view, Markdown) and view.data == f"No {classes[true]} was classified as {classes[predicted]}."
            continue
        shown = [float(text.get_text().removesuffix(" %")) for text in view.axes[0].texts]
        assert len(shown) == min(40, counts[true, predicted]) and shown == sorted(shown, reverse=True)


def test_run_without_predictions_says_so(outputs, tmp_path):
    shutil.copytree(outputs, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("predictions.safetensors"):
        path.unlink()
    explorer = explore.Explorer(tmp_path, "digits")
    name = explorer.names[0]
    assert explorer.cell(name, "1", "1").data == f"{name} kept only the counts, not its predictions."
    assert name == "supervised, M = 50, seed 0"


def test_model_gives_the_recorded_probabilities(explorer):
    name = explorer.names[0]
    probabilities = explorer.trained(name).probabilities(explorer.images.x_test)
    assert torch.allclose(probabilities, explorer.probabilities(name), atol=1e-6)


def as_pad(ink):
    """What a pad holds on which `ink` (H, W) is drawn."""
    file = BytesIO()
    Image.fromarray(ink).convert("RGBA").save(file, "PNG")
    return "data:image/png;base64," + b64encode(file.getvalue()).decode()


def test_two_runs_classify_a_drawing(explorer):
    ink = np.zeros((280, 280), np.uint8)
    ink[40:240, 130:150] = 255
    for drawing, title in (
        (as_pad(ink), "What the network sees"),
        (as_pad(0 * ink), "Nothing drawn yet: a test image"),
        ("", "Nothing"),
    ):
        text, figure = explorer.drawn(drawing, *explorer.names)
        assert text.data.startswith(title) and text.data.count("**") == 4 and " %)" in text.data
        assert figure.axes[0].get_title().startswith(title) and len(figure.axes) == 3
        assert sum(bar.get_width() for bar in figure.axes[1].patches) == pytest.approx(100, abs=0.1)
    assert len(explorer.drawn("", *explorer.names[:1] * 2)[1].axes) == 2, "one run, compared with itself, is shown once"


def test_drawing_is_centered_as_mnist_is(images):
    """Real digits, ten times as large and moved to a corner, come back to where they were, but for the smoothing."""
    info = describe("mnist")
    digits = (images.x_test[:200, 0] * info.std[0] + info.mean[0]).mul(255).round().byte().numpy()
    for i, digit in enumerate(digits):
        ink = np.zeros((400, 400), np.uint8)
        large = np.asarray(Image.fromarray(digit).resize((280, 280), Image.Resampling.NEAREST))
        corner = (i % 3 * 60, i % 2 * 120)
        ink[corner[0] : corner[0] + 280, corner[1] : corner[1] + 280] = large
        placed = centered(ink)
        assert np.abs(placed.astype(int) - digit).mean() < 1, i


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    top=st.integers(0, 50),
    left=st.integers(0, 50),
    ink=st.integers(1, 255),
)
def test_any_drawing_fits(width, height, top, left, ink):
    drawing = np.zeros((400, 400), np.uint8)
    drawing[top : top + height, left : left + width] = ink
    placed = centered(drawing)
    rows, columns = placed.any(axis=1).nonzero()[0], placed.any(axis=0).nonzero()[0]
    assert placed.shape == (28, 28) and max(np.ptp(rows), np.ptp(columns)) == 20 - 1
    assert 13 <= rows.mean() <= 14.5 and 13 <= columns.mean() <= 14.5
    assert centered(0 * drawing) is None


def test_without_anywidget_there_is_no_pad(monkeypatch):
    assert explore.pad().value == ""
    monkeypatch.setitem(sys.modules, "ssl_core.lab.tools.pad", None)
    assert explore.pad() == ""


def test_without_runs_the_error_names_the_command(tmp_path):
    with pytest.raises(LookupError, match=r"no finished run of data='mnist', draw='random' in .*: `make sweep` makes them"):
        explore.Explorer(tmp_path)


def shown_and_replaced(monkeypatch):
    """What is displayed, and what takes its place, as texts, in order."""
    seen = []

    class Handle:
        def update(self, now):
            seen.append(f"now {now.data}")

    def display(*things, **_):
        seen.extend(thing.data for thing in things if isinstance(thing, Markdown))
        return Handle()

    monkeypatch.setattr(explore, "display", display)
    return seen


def test_outputs_follow_the_controls(monkeypatch):
    seen = shown_and_replaced(monkeypatch)
    controls = explore.show_with_controls(
        lambda **chosen: (Markdown(f"{chosen}"), Markdown("below")),
        run=["a", "b"],
        turn=(0, 45, 1, 10),
        scale=(0.0, 0.5, 0.05, 0.1),
    )
    assert seen == ["{'run': 'a', 'turn': 10, 'scale': 0.1}", "below"]
    controls["run"].value = "b"
    controls["turn"].value = 30
    assert seen[2::2] == ["now {'run': 'b', 'turn': 10, 'scale': 0.1}", "now {'run': 'b', 'turn': 30, 'scale': 0.1}"]
    assert seen[3::2] == ["now below"] * 2


def test_error_replaces_the_picture(monkeypatch):
    seen = shown_and_replaced(monkeypatch)
    controls = explore.show_with_controls(lambda n: Markdown(f"{12 // n}"), n=(0, 9, 1, 4))
    controls["n"].value = 0
    controls["n"].value = 6
    assert seen == ["3", "now **ZeroDivisionError:** integer division or modulo by zero", "now 2"]


def test_without_widgets_the_first_choice_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    seen = shown_and_replaced(monkeypatch)
    assert explore.show_with_controls(lambda **chosen: Markdown(f"{chosen}"), run=["a", "b"], turn=(0, 45, 1, 10)) == {}
    assert seen == ["{'run': 'a', 'turn': 10}"]
