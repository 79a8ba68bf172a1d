"""Watched training equals any other, also after it was stopped."""

import signal
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from ssl_core import data, experiment
from ssl_core.lab.runs import files
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import watch

RUN = Run(60, "supervised", 3, data="digits", smoke=True)


@pytest.fixture
def updates(monkeypatch):
    """What replaces the displayed things, in order."""
    seen = []

    class Handle:
        def update(self, now):
            seen.append(now)

    monkeypatch.setattr(watch, "display", lambda thing, display_id: Handle())
    return seen


def texts(seen):
    return [thing.data for thing in seen if hasattr(thing, "data")]


def stopping_at(epoch, monkeypatch):
    """The stop button is pressed when the curve of that epoch is drawn: the kernel is sent SIGINT."""
    draw, pressed = watch.run_figures.loss_curves, []

    def drawn(history, weights):
        if history[-1]["epoch"] == epoch and not pressed:
            pressed.append(epoch)
            signal.raise_signal(signal.SIGINT)
        return draw(history, weights)

    monkeypatch.setattr(watch.run_figures, "loss_curves", drawn)


def weights(model):
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def whole():
    """The same run, unwatched."""
    digits = data.load("digits", files.DATA)
    return experiment.run(digits, RUN.labeling, RUN.settings)[1]


def test_watched_training_equals_any_other(whole, updates, tmp_path):
    result = watch.watch(RUN, tmp_path)
    assert torch.equal(weights(result.model), weights(whole.training.model)) and result.accuracy == whole.trained.accuracy
    assert [row["total"] for row in result.history] == [row["total"] for row in whole.training.history]
    assert texts(updates)[-1].startswith(f"`{RUN}` · **{100 * result.accuracy:.2f} %** test accuracy")
    assert not list(tmp_path.rglob("*.pt")), "no checkpoint is left"


def test_stopped_training_resumes_from_its_last_checkpoint(whole, updates, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        stopping_at(1, patch)
        stopped = watch.watch(RUN, tmp_path)
    assert isinstance(updates[-1], Figure) and list(updates[-1].axes[0].lines[0].get_xdata()) == [1], "the checkpoint is shown"
    assert texts(updates)[-1].endswith("**stopped after epoch 1 of 2**; run the cell again to resume")
    assert stopped.accuracy is None and [row["epoch"] for row in stopped.history] == [1]
    assert torch.equal(weights(stopped.model), weights(whole.training.snapshots[1]))
    result = watch.watch(RUN, tmp_path)
    assert torch.equal(weights(result.model), weights(whole.training.model))
    assert [row["epoch"] for row in result.history] == [1, 2]


class Finalized:
    """The stop button is pressed while Python removes one of these."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_press_that_python_drops_stops_after_the_epoch(updates, monkeypatch, tmp_path):
    draw, before = watch.run_figures.loss_curves, signal.getsignal(signal.SIGINT)

    def drawn(history, weights):
        Finalized()
        return draw(history, weights)

    monkeypatch.setattr(watch.run_figures, "loss_curves", drawn)
    stopped = watch.watch(RUN, tmp_path)
    assert stopped.accuracy is None and [row["epoch"] for row in stopped.history] == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_training_stopped_before_its_first_checkpoint_starts_again(updates, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(watch.data, "load", interrupted)
        result = watch.watch(RUN, tmp_path)
    assert (result.model, result.history, result.accuracy) == (None, [], None)
    assert "stopped before its first checkpoint" in texts(updates)[-2] and texts(updates)[-1] == ""
    assert watch.watch(RUN, tmp_path).accuracy is not None


def test_best_learns_from_its_graph_at_first(updates, tmp_path):
    result = watch.watch(replace(RUN, recipe="best"), tmp_path)
    assert any("neighbours of each of" in text for text in texts(updates))
    assert result.history[0]["pseudo_label"] > 0, "in the first steps the graph's candidates supply the targets"
