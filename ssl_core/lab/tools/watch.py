"""Training that a notebook shows while it runs; it can be stopped and resumed."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from IPython.display import Markdown, display

from ssl_core import data, experiment, train
from ssl_core.checkpoint import Checkpoint
from ssl_core.device import training_device
from ssl_core.model import Net
from ssl_core.progress import text, to_go
from ssl_core.recipes import Recipe

from ..runs import files, graph_cache, records
from ..runs.fingerprint import fingerprint
from ..runs.spec import Run
from ..studies import run_figures

History = list[dict[str, float]]


@dataclass(frozen=True)
class WatchResult:
    """The end of training or, if it was stopped, its last checkpoint."""

    model: Net | None  # None before the first checkpoint
    history: History  # of the epochs that this model was trained for
    accuracy: float | None  # on the test images, which are evaluated after training; None before


class Panel:
    """The output of the cell: a line of text, and below it the loss curves of `history`; both are replaced in place."""

    def __init__(self, run: Run, settings: Recipe, history: History):
        self.run, self.settings, self.history = run, settings, list(history)
        self.line = display(Markdown(f"`{run}` begins"), display_id=True)
        self.curves = display(Markdown(""), display_id=True)

    def tell(self, line: str) -> None:
        self.line.update(Markdown(f"`{self.run}` · {line}"))

    def draw(self) -> None:
        self.curves.update(run_figures.loss_curves(self.history, self.settings.weights) if self.history else Markdown(""))

    def on_epoch(self, row: dict[str, float], epochs: int) -> None:
        """Adds an epoch; those before a checkpoint are in the history already."""
        if not self.history or row["epoch"] > self.history[-1]["epoch"]:
            self.history.append(row)
        left = to_go(row["epoch"], epochs, row["seconds"])
        self.tell(f"epoch {row['epoch']} of {epochs} · {left} · the stop button ends training and loses at most five epochs")
        self.draw()

    def stopped(self, history: History) -> None:
        """Shows what the last checkpoint holds."""
        self.history = history
        when = f"after epoch {history[-1]['epoch']} of {self.settings.epochs}" if history else "before its first checkpoint"
        self.tell(f"**stopped {when}**; run the cell again to resume")
        self.draw()


def watch(run: Run, folder: Path) -> WatchResult:
    """Trains `run` as `train.ipynb` does, with curves that grow in the output of the cell.

    The stop button, or Ctrl-C, ends training: the result is then the last checkpoint, and the same call resumes there.
    Checkpoints lie below `folder`. A watched run is not recorded among the results.
    """
    checkpoint = _checkpoint(run.check(), folder)
    panel = Panel(run, run.settings, _read(checkpoint, run)[1])
    try:
        with interrupts_kept() as stop_if_pressed:
            result, accuracy = _train(run, checkpoint, panel, stop_if_pressed)
    except KeyboardInterrupt:
        model, history = _read(checkpoint, run)
        panel.stopped(history)
        return WatchResult(model, history, None)
    checkpoint.path.unlink()
    panel.tell(f"**{100 * accuracy:.2f} %** test accuracy, after {result.history[-1]['seconds']:.0f} s of training")
    return WatchResult(result.model, result.history, accuracy)


@contextmanager
def interrupts_kept() -> Iterator[Callable[[], None]]:
    """A function that raises KeyboardInterrupt if the stop button was pressed before.

    A press raises it at once, too; but where that happens in a finaliser or a callback of another library, Python drops it.
    """
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    def stop_if_pressed() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield stop_if_pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _train(
    run: Run, checkpoint: Checkpoint, panel: Panel, stop_if_pressed: Callable[[], None]
) -> tuple[train.TrainingResult, float]:
    """Trains, and evaluates on the test images."""
    panel.tell("reading the images")
    images, settings = data.load(run.data, files.DATA, run.side), run.settings
    neighbors = graph_cache.for_run(run, images, lambda event: panel.tell(text(event)))
    task = experiment.prepare(images, run.labeling, settings, neighbors)
    model = experiment.network(images, run.seed, training_device())

    def on_epoch(row: dict[str, float], epochs: int) -> None:
        panel.on_epoch(row, epochs)
        stop_if_pressed()

    result = train.fit(model, task, settings, run.seed, on_epoch, checkpoint)
    panel.tell("evaluating on the test images")
    evaluation = train.evaluate(result.model, images.x_test, images.y_test, settings.tta_views, settings.tta_augment)
    return result, evaluation.accuracy


def _checkpoint(run: Run, folder: Path) -> Checkpoint:
    """The checkpoint of the run below `folder`; it is valid for the same code, threads, kind of device and precision."""
    path = folder / f"{run}" / records.CHECKPOINT
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = f"{torch.get_num_threads()} threads, {training_device().type}, {run.settings.precision}"
    return Checkpoint(path, f"{fingerprint(run)}, {kind}")


def _read(checkpoint: Checkpoint, run: Run) -> tuple[Net | None, History]:
    """The averaged model of a checkpoint, and its history; None and [] if there is none."""
    if (state := checkpoint.read()) is None:
        return None, []
    weights = state["teacher"]["model"]
    channels, n_classes = weights["conv1.weight"].shape[1], len(weights["linear2.bias"])
    model = Net(n_classes, channels, run.info.side)
    model.precision = run.settings.precision
    model.load_state_dict(weights)
    return model.requires_grad_(False), state["history"]
