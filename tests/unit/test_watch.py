"""Training that is watched: the same as any other, also when it was stopped amid."""

import signal
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from ssl_core import data, train
from ssl_core.lab import live
from ssl_core.lab.runs import Run
from ssl_core.model import init_net

RUN = Run(60, "supervised", 3, data="digits", smoke=True)


@pytest.fixture
def places(monkeypatch):
    """What is displayed, in order, and what takes its place."""
    seen = []

    class Handle:
        def update(self, now):
            seen.append(now)

    monkeypatch.setattr(live, "display", lambda thing, display_id: Handle())
    return seen


def texts(seen):
    return [thing.data for thing in seen if hasattr(thing, "data")]


def stopping_at(epoch, monkeypatch):
    """The stop button is pressed when the curve of that epoch is drawn: the kernel is sent SIGINT."""
    draw, pressed = live.plots.loss_curves, []

    def drawn(history, weights):
        if history[-1]["epoch"] == epoch and not pressed:
            pressed.append(epoch)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
            signal.raise_signal(signal.SIGINT)
        return draw(history, weights)

    monkeypatch.setattr(live.plots, "loss_curves", drawn)


def weights(model):
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def whole():
    """What `fit` makes of the same run."""
    digits = data.load("digits")
    parts = data.split(digits.y, RUN.n_labels, RUN.seed)
    x_l, y_l, x_u = digits.x[parts.labeled], digits.y[parts.labeled], digits.x[parts.unlabeled]
    fit = train.fit(init_net(RUN.seed), x_l, y_l, x_u, RUN.settings, RUN.seed)
    settings = RUN.settings
    return fit, train.evaluate(fit.model, digits.x_test, digits.y_test, settings.tta_views, settings.tta_augment)


def test_it_trains_as_any_other_run(whole, places, tmp_path):
    found = live.watch(RUN, tmp_path)
    assert torch.equal(weights(found.model), weights(whole[0].model)) and found.accuracy == whole[1].accuracy
    assert [row["total"] for row in found.history] == [row["total"] for row in whole[0].history]
    assert texts(places)[-1].startswith(f"`{RUN}` · **{100 * found.accuracy:.2f} %** of the test images")
    assert not list(tmp_path.rglob("*.pt")), "nothing is left to go on from"


def test_stopped_it_keeps_the_last_checkpoint_and_goes_on_from_there(whole, places, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        stopping_at(1, patch)
        stopped = live.watch(RUN, tmp_path)
    assert isinstance(places[-1], Figure) and list(places[-1].axes[0].lines[0].get_xdata()) == [1], "what is kept is shown"
    assert texts(places)[-1].endswith("**stopped after epoch 1 of 2**; run the cell again, and it goes on from there")
    assert stopped.accuracy is None and [row["epoch"] for row in stopped.history] == [1]
    assert torch.equal(weights(stopped.model), weights(whole[0].snapshots[1]))
    found = live.watch(RUN, tmp_path)
    assert torch.equal(weights(found.model), weights(whole[0].model)) and [row["epoch"] for row in found.history] == [1, 2]


def test_stopped_before_its_first_checkpoint_it_begins_anew(places, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(live.data, "load", interrupted)
        found = live.watch(RUN, tmp_path)
    assert (found.model, found.history, found.accuracy) == (None, [], None)
    assert "stopped before its first checkpoint" in texts(places)[-2] and texts(places)[-1] == ""
    assert live.watch(RUN, tmp_path).accuracy is not None


def test_best_is_guided_by_its_graph(places, tmp_path):
    found = live.watch(replace(RUN, recipe="best"), tmp_path)
    assert any("neighbours of each of" in text for text in texts(places))
    assert found.history[0]["pseudo_label"] > 0, "in the first steps only what the graph allows can teach"
