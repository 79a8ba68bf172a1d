"""Training that a notebook shows while it runs; it can be stopped and resumed."""

from dataclasses import dataclass
from pathlib import Path

import torch
from IPython.display import Markdown, display

from ssl_core import data, experiment, train
from ssl_core.checkpoint import Checkpoint
from ssl_core.model import Net

from ..runs import files, graph_cache, records
from ..runs.fingerprint import fingerprint
from ..runs.progress import text, to_go
from ..runs.spec import Run, training_device
from ..studies import run_figures


@dataclass(frozen=True)
class WatchResult:
    """What training left: all of it, or, if it was stopped, the content of its last checkpoint."""

    model: Net | None  # None before the first checkpoint
    history: list[dict[str, float]]  # of the epochs that this model was trained for
    accuracy: float | None  # on the test images, which are evaluated after training; None before


def watch(run: Run, folder: Path) -> WatchResult:
    """Trains as `train.ipynb` does, with a curve that grows in its place.

    The stop button, or Ctrl-C, ends it: the result is then the last checkpoint, of which the first and every fifth epoch leave
    one below `folder`, and the same call resumes there. A watched run is not recorded among the results.
    """
    settings, device = run.check().settings, training_device()
    path = folder / f"{run}" / records.CHECKPOINT
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(path, f"{fingerprint(run)}, {torch.get_num_threads()} threads, {device.type}")
    words = display(Markdown(f"`{run}` begins"), display_id=True)
    picture = display(Markdown(""), display_id=True)
    history = _kept(checkpoint)[1]

    def tell(line: str) -> None:
        words.update(Markdown(f"`{run}` · {line}"))

    def on_epoch(row: dict[str, float], epochs: int) -> None:
        if not history or row["epoch"] > history[-1]["epoch"]:
            history.append(row)
        left = to_go(row["epoch"], epochs, row["seconds"])
        tell(f"epoch {row['epoch']} of {epochs} · {left} · the stop button ends it and loses at most five epochs")
        picture.update(run_figures.loss_curves(history, settings.weights))

    try:
        tell("reading the images")
        images = data.load(run.data, files.DATA)
        task = experiment.prepare(
            images, run.labeling, settings, graph_cache.for_run(run, images, lambda event: tell(text(event)))
        )
        model = experiment.network(images, run.seed, device)
        result = train.fit(model, task, settings, run.seed, on_epoch, checkpoint)
        tell("evaluating on the test images")
        evaluation = train.evaluate(result.model, images.x_test, images.y_test, settings.tta_views, settings.tta_augment)
    except KeyboardInterrupt:
        model, history = _kept(checkpoint)
        done = f"after epoch {history[-1]['epoch']} of {settings.epochs}" if history else "before its first checkpoint"
        tell(f"**stopped {done}**; run the cell again to resume")
        picture.update(run_figures.loss_curves(history, settings.weights) if history else Markdown(""))
        return WatchResult(model, history, None)
    path.unlink()
    seconds = result.history[-1]["seconds"]
    tell(f"**{100 * evaluation.accuracy:.2f} %** test accuracy, after {seconds:.0f} s of training")
    return WatchResult(result.model, result.history, evaluation.accuracy)


def _kept(checkpoint: Checkpoint) -> tuple[Net | None, list[dict[str, float]]]:
    """The averaged model of a checkpoint, and its history; None and [] if there is none."""
    if (state := checkpoint.read()) is None:
        return None, []
    weights = state["teacher"]["model"]
    channels, n_classes = weights["conv1.weight"].shape[1], len(weights["linear2.bias"])
    model = Net(n_classes, channels)
    model.load_state_dict(weights)
    return model.requires_grad_(False), state["history"]
