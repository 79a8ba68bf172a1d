"""Training that can be watched in a notebook, stopped, and gone on with."""

from dataclasses import dataclass
from pathlib import Path

import torch
from IPython.display import Markdown, display

from ssl_core import checkpoint, data, graph, train
from ssl_core.model import Net, untrained

from . import plots, runs, shared
from .runs import Run


@dataclass(frozen=True)
class Watched:
    """What training has left: all of it, or, if it was stopped, what its last checkpoint holds."""

    model: Net | None  # None before the first checkpoint
    history: list[dict[str, float]]  # of the epochs that this model was trained for
    accuracy: float | None  # on the test images, which are looked at when training is over; None before


def watch(run: Run, folder: Path) -> Watched:
    """Trains as `train.ipynb` does, with a curve that grows in its place.

    The stop button, or Ctrl-C, ends it: what is returned is then the last checkpoint (the first epoch and every fifth leave one
    below `folder`), and the same call goes on from there. A run that is watched is not recorded among the results.
    """
    settings = run.settings
    path = folder / f"{run}" / runs.CHECKPOINT
    path.parent.mkdir(parents=True, exist_ok=True)
    device = runs.processor("auto")
    key = f"{run.fingerprint}, {torch.get_num_threads()} threads, {device.type}"
    said = display(Markdown(f"`{run}` begins"), display_id=True)
    picture = display(Markdown(""), display_id=True)
    history = _kept(path, key)[1]

    def tell(line: str) -> None:
        said.update(Markdown(f"`{run}` · {line}"))

    def on_epoch(row: dict[str, float], epochs: int) -> None:
        if not history or row["epoch"] > history[-1]["epoch"]:
            history.append(row)
        left = row["seconds"] * (epochs - row["epoch"]) / row["epoch"]
        tell(
            f"epoch {row['epoch']} of {epochs} · about {left:.0f} s to go · the stop button ends it: at most five epochs are lost"
        )
        picture.update(plots.loss_curves(history, settings.weights))

    try:
        tell("reading the images")
        images = data.load(run.data, runs.ROOT / "data")
        typical = shared.typical(images, run, tell) if run.draw == "typical" else None
        parts = data.split(images.y, run.n_labels, run.seed, run.draw, typical)
        x_l, y_l, x_u = images.x[parts.labeled], images.y[parts.labeled], images.x[parts.unlabeled]
        candidates, prior = None, None
        if settings.graph:
            found = shared.load_graph(images, settings.graph, tell)
            scores = graph.spread(found.similarity, found.index, parts.labeled, y_l, len(images.classes), settings.uniform_prior)
            prior = graph.class_prior(scores)
            candidates = graph.candidates(scores, settings.graph_margin)[parts.unlabeled]
        model = untrained(run.seed, len(images.classes), images.x.shape[1]).to(device)
        fit = train.fit(model, x_l, y_l, x_u, settings, run.seed, on_epoch, candidates, prior, path, key)
        tell("reading the test images")
        read = train.evaluate(fit.model, images.x_test, images.y_test, settings.test_copies, settings.augment_test)
    except KeyboardInterrupt:
        model, history = _kept(path, key)
        done = f"after epoch {history[-1]['epoch']} of {settings.epochs}" if history else "before its first checkpoint"
        tell(f"**stopped {done}**; run the cell again, and it goes on from there")
        picture.update(plots.loss_curves(history, settings.weights) if history else Markdown(""))
        return Watched(model, history, None)
    path.unlink()
    tell(f"**{100 * read.accuracy:.2f} %** of the test images, after {fit.history[-1]['seconds']:.0f} s of training")
    return Watched(fit.model, fit.history, read.accuracy)


def _kept(path: Path, key: str) -> tuple[Net | None, list[dict[str, float]]]:
    """The averaged model of a checkpoint, and its history; None and [] if there is none."""
    if (saved := checkpoint.read(path, key)) is None:
        return None, []
    weights = saved["teacher"]["model"]
    channels, n_classes = weights["conv1.weight"].shape[1], len(weights["linear2.bias"])
    model = Net(n_classes, channels)
    model.load_state_dict(weights)
    return model.requires_grad_(False), saved["history"]
