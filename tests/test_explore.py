"""Looking around in finished runs: each picture, with menus and without."""

import json
import sys

import numpy as np
import pytest
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure

from ssl_core import data, train
from ssl_core.lab import explore, runs
from ssl_core.lab.runs import Run
from ssl_core.model import untrained


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Two short runs; the record of the second says that it is of older code."""
    folder, digits = tmp_path_factory.mktemp("outputs"), data.load("digits")
    for seed in (0, 1):
        run = Run(50, "supervised", seed, data="digits", smoke=True)
        model, parts = untrained(seed), data.split(digits.y, run.n_labels, seed)
        y_l = digits.y[parts.labeled]
        fit = train.fit(model, digits.x[parts.labeled], y_l, digits.x[parts.unlabeled], run.settings, seed)
        read = train.evaluate(fit.model, digits.x_test, digits.y_test)
        path = runs.save(run.folder(folder), run, y_l, fit, read, read, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "of older code"}))
    return folder


@pytest.fixture
def explorer(outputs):
    return explore.Explorer(outputs, "digits")


def test_runs_of_older_code_are_shown_and_marked(explorer):
    assert explorer.names == ["supervised, M = 50, seed 0", "supervised, M = 50, seed 1 (older code)"]
    assert len(explorer.results) == 1


def test_each_view_of_a_run_is_a_figure(explorer):
    name = explorer.names[0]
    for show in (explorer.confusion, explorer.map):
        assert isinstance(show(name), Figure)
    said, figure = explorer.curves(name)
    assert " %** of the test images" in said.data and isinstance(figure, Figure)
    assert isinstance(explorer.recall("supervised"), Figure)
    assert isinstance(explorer.distorted(10, 0.1, 6, 2.0, 0.4, 9), Figure)
    said, figure = explorer.budget(3.0, 10.0, 10_000, 99.0)
    assert "Cheapest in all" in said.data and isinstance(figure, Figure)


def test_a_cell_holds_the_images_that_the_matrix_counts_the_surest_first(explorer):
    name, classes = explorer.names[0], explorer.images.classes
    counts = np.array(explorer.records[name]["confusion"])
    for true, said in np.ndindex(counts.shape):
        found = explorer.cell(name, classes[true], classes[said])
        if not counts[true, said]:
            assert isinstance(found, Markdown) and found.data == f"No {classes[true]} was read as {classes[said]}."
            continue
        shown = [float(axis.get_title().removesuffix(" %")) for axis in found.axes if axis.get_title()]
        assert len(shown) == min(40, counts[true, said]) and shown == sorted(shown, reverse=True)


def test_the_model_is_the_trained_one(explorer):
    read = train.probabilities(explorer.model(explorer.names[0]), explorer.images.x_test)
    assert torch.allclose(read, explorer.probabilities(explorer.names[0]), atol=1e-6)


def test_no_runs_and_the_command_that_makes_them(tmp_path):
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


def test_what_is_shown_follows_the_controls(monkeypatch):
    seen = shown_and_replaced(monkeypatch)
    controls = explore.choose(
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


def test_an_error_is_shown_in_the_place_of_the_picture(monkeypatch):
    seen = shown_and_replaced(monkeypatch)
    controls = explore.choose(lambda n: Markdown(f"{12 // n}"), n=(0, 9, 1, 4))
    controls["n"].value = 0
    controls["n"].value = 6
    assert seen == ["3", "now **ZeroDivisionError:** integer division or modulo by zero", "now 2"]


def test_without_widgets_the_first_choice_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    seen = shown_and_replaced(monkeypatch)
    assert explore.choose(lambda **chosen: Markdown(f"{chosen}"), run=["a", "b"], turn=(0, 45, 1, 10)) == {}
    assert seen == ["{'run': 'a', 'turn': 10}"]
