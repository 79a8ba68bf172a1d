"""What `notebooks/explore.ipynb` shows of finished runs, by the choices of whoever looks at it.

Each method of `Explorer` makes a figure; `choose` puts menus and sliders for its arguments above it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from ssl_core import data, experiment, train
from ssl_core.augment import Augment
from ssl_core.datasets import describe

from ..runs import files, graph_cache, records
from ..runs.records import Record
from ..studies import answers, class_recall, confusion, cost, run_figures, words
from ..studies.style import order
from . import predict

MAPPED = 1000  # test images on a map
OUTLINED = [Stroke(linewidth=3, foreground="white"), Normal()]  # letters that can be read over points


def choose(show: Callable[..., object], **choices: list | tuple) -> dict[str, object]:
    """Displays what `show` returns, below a control for each argument: a menu for a list, a slider for (low, high, step, value).

    A choice may also be a widget that has a `value`, or that value alone, which no one can change. Returns the controls. What is
    displayed, one thing or a tuple of as many each time, is replaced when a control moves, and stays in the saved notebook.
    Without ipywidgets it is displayed once, with the first of each list and each slider's value.
    """
    chosen = {name: _first(given) for name, given in choices.items()}
    controls = _controls(choices)
    # Not in ipywidgets' Output: whoever executes a notebook without a browser may wait for ever for it (nbclient, issue 312).
    handles = [display(each, display_id=True) for each in _parts(show(**chosen))]

    def update(name: str, change: dict) -> None:
        chosen[name] = change["new"]
        try:
            found = _parts(show(**chosen))
        except Exception as error:  # it would be lost in a log, and the old picture be taken for the new one
            found = (Markdown(f"**{type(error).__name__}:** {error}"),) * len(handles)
        for handle, each in zip(handles, found, strict=True):
            handle.update(each)

    for name, control in controls.items():
        control.observe(partial(update, name), "value")
    return controls


def pad() -> object:
    """A square to draw on; without the package for it what such a square holds while it is empty."""
    try:
        from .pad import Pad
    except ImportError:
        return ""
    return Pad()


def _first(given: object) -> object:
    """What is chosen before anybody chooses."""
    return given[0] if isinstance(given, list) else given[3] if isinstance(given, tuple) else getattr(given, "value", given)


def _controls(choices: dict[str, list | tuple]) -> dict[str, object]:
    """Displays the menus and sliders, and returns them by name; none without ipywidgets."""
    try:
        import ipywidgets as widgets
    except ImportError:
        return {}
    controls = {}
    for name, given in choices.items():
        described = {
            "description": name.replace("_", " "),
            "style": {"description_width": "initial"},
            "layout": widgets.Layout(width="30em"),
        }
        if isinstance(given, list):
            controls[name] = widgets.Dropdown(options=given, **described)
        elif isinstance(given, tuple):
            low, high, step, value = given
            kind = widgets.FloatSlider if isinstance(step, float) else widgets.IntSlider
            controls[name] = kind(value=value, min=low, max=high, step=step, continuous_update=False, **described)
        elif isinstance(given, widgets.Widget):
            controls[name] = given
    display(widgets.VBox(list(controls.values())))
    return controls


def _parts(found: object) -> tuple:
    return found if isinstance(found, tuple) else (found,)


class Explorer:
    """The finished runs on one data set, of one way to draw labels. Raises LookupError if there is none."""

    def __init__(self, outputs: Path, data_name: str = "mnist", draw: str = "random"):
        every = [record for record in records.read_all(outputs) if (record.row["data"], record.row["draw"]) == (data_name, draw)]
        plain = [record for record in every if not record.row["label_noise"] and not record.row["fold"]]
        if not plain:
            raise LookupError(f"no finished run of data={data_name!r}, draw={draw!r} in {outputs}: `make sweep` makes them")
        self.outputs, self.images = outputs, data.load(data_name, files.DATA)
        plain.sort(key=lambda record: (order(record.row["recipe"]), record.row["n_labels"], record.row["seed"]))
        self.records = {self._name(record): record for record in plain}
        self.results = records.table(records.select(plain, data_name, draw))

    @staticmethod
    def _name(record: Record) -> str:
        row = record.row
        return f"{row['recipe']}, M = {row['n_labels']}, seed {row['seed']}" + ("" if record.current else " (older code)")

    @property
    def names(self) -> list[str]:
        """What the runs are called in menus; those of older code say so."""
        return list(self.records)

    def curves(self, run: str) -> tuple[Markdown, Figure]:
        """What came out; what was minimised, and how it fell."""
        record = self.records[run]
        said = f"**{100 * record.accuracy:.2f} %** test accuracy, after {record.seconds:.0f} s of training"
        return Markdown(said), run_figures.loss_curves(record.history, record.recipe["weights"])

    def confusion(self, run: str) -> Figure:
        """Which classes are taken for which."""
        return run_figures.confusion_matrix(np.array(self.records[run].confusion), self.images.classes, run)

    def recall(self, recipe: str) -> Figure:
        """Of each class the share that was recognised, over the number of labels."""
        records = [record for record in self.records.values() if record.row["recipe"] == recipe]
        return class_recall.figure(class_recall.recall(confusion.counts(records, self.images.classes)))

    def cell(self, run: str, true: str, said: str) -> Figure | Markdown:
        """The test images of one cell of the confusion matrix, the surest answer first."""
        if (probabilities := self.probabilities(run)) is None:
            return Markdown(f"{run} kept only how many, not which.")
        confidence, answer = probabilities.max(dim=1)
        classes = self.images.classes
        inside = (self.images.y_test == classes.index(true)) & (answer == classes.index(said))
        which = torch.nonzero(inside).flatten()
        if not len(which):
            return Markdown(f"No {true} was read as {said}.")
        which = which[confidence[which].argsort(descending=True)]
        title = f"{run}: {len(which)} times {true} read as {said}" + (", the 40 surest" if len(which) > 40 else "")
        titles = [f"{100 * c:.0f} %" for c in confidence[which[:40]]]
        return run_figures.images(self.images.x_test[which[:40]], titles, 10, title=title)

    @cache  # noqa: B019 - an explorer lives as long as its notebook
    def probabilities(self, run: str) -> Tensor | None:
        """Of the test images, as the run kept them; None if it did not."""
        kept = records.probabilities(self.records[run].run, self.outputs)
        return None if kept is None else torch.from_numpy(kept)

    @cache  # noqa: B019
    def trained(self, run: str) -> predict.Trained:
        """The trained network."""
        return predict.load(self.records[run].run.folder(self.outputs))

    def drawn(self, drawing: str, one: str, other: str) -> tuple[Markdown, Figure]:
        """What two runs make of what is drawn on a pad, or, as long as that is nothing, of a test image."""
        about, pixels = describe(self.images.name), None
        if drawing:
            from .pad import drawn  # there is a pad, so the package for it is there too

            pixels = drawn(drawing)
        if pixels is None:
            x, title = self.images.x_test[:1], "Nothing drawn yet: a test image"
        else:
            x = data.normalize(torch.from_numpy(pixels)[None, None].expand(1, len(about.mean), -1, -1), about.mean, about.std)
            title = "What the network sees"
        by_run = {run: self.trained(run).probabilities(x)[0] for run in dict.fromkeys((one, other))}
        said = "; ".join(
            f"{run}: **{words.plain(self.images.classes[p.argmax()])}** ({100 * p.max():.0f} %)" for run, p in by_run.items()
        )
        return Markdown(f"{title}. {said}"), run_figures.answers(x, title, by_run, self.images.classes)

    @cache  # noqa: B019
    def map(self, run: str) -> Figure:
        """Features of test images, and of the labelled ones, in two dimensions (t-SNE, van der Maaten & Hinton 2008)."""
        from sklearn.manifold import TSNE

        shown = self.records[run].run
        # Without the recipe's graph, which the labels of a random draw do not depend on.
        neighbors = graph_cache.for_run(shown, self.images) if shown.draw == "typical" else None
        recipe = replace(shown.settings, pretraining=None)
        labeled = experiment.prepare(self.images, shown.labeling, recipe, neighbors).split.labeled[:MAPPED]
        x = torch.cat([self.images.x_test[:MAPPED], self.images.x[labeled]])
        y = torch.cat([self.images.y_test[:MAPPED], self.images.y[labeled]]).numpy()
        place = TSNE(random_state=0, init="pca").fit_transform(train.embed(self.trained(run).model, x).numpy())
        known = np.arange(len(x)) >= len(x) - len(labeled)
        figure, axis = plt.subplots(figsize=(7.5, 6))
        for c, name in enumerate(self.images.classes[: run_figures.MOST_ROWS]):
            of_class = place[(y == c) & ~known]
            axis.scatter(*of_class.T, s=8, color=plt.cm.tab20(c % 20), label=name, alpha=0.7)
            if len(of_class):  # its name in its midst, for whoever can't tell the colours apart
                axis.text(*np.median(of_class, axis=0), name, ha="center", va="center", weight="bold", path_effects=OUTLINED)
        axis.scatter(*place[known].T, s=30, facecolors="none", edgecolors="black", linewidths=0.8, label="labelled")
        axis.set(xticks=[], yticks=[], title=f"{run}: near is alike for the network")
        axis.legend(fontsize=8, markerscale=2, bbox_to_anchor=(1, 1), loc="upper left")
        plt.close(figure)
        return figure

    def distorted(self, rotation: int, scale: float, shear: int, translate: float, elastic: float, overlay: int) -> Figure:
        """Eight images, and three distorted copies of each."""
        augment = Augment(
            rotation=(-rotation, rotation),
            scale=(1 - scale, 1 + scale),
            shear=(-shear, shear),
            translate=(-translate, translate),
            elastic=elastic,
            overlay=overlay,
        )
        eight, generator = self.images.x[:8], torch.Generator().manual_seed(0)
        rows = [eight, *(augment(eight, generator) for _ in range(3))]
        titles = [name for name in ("image", "copy", "another", "a third") for _ in range(8)]
        return run_figures.images(torch.cat(rows), titles, columns=8)

    def budget(
        self, cents_per_label: float, cents_per_error: float, future_images: int, target_accuracy: float
    ) -> tuple[Markdown, Figure | Markdown]:
        """What labels and mistakes cost, which number of labels is cheapest in all, and which reaches the target."""
        if self.results.empty:
            said = "No run of today's code by one of the recipes to compare: `make sweep` trains them."
            return Markdown(said), Markdown("")
        # A label's price as a wage: an hour for each.
        prices = cost.Prices(3600, cents_per_label / 100, 0.05, cents_per_error / 100, future_images)
        said = answers.sentences(answers.answers(self.results, prices, target_accuracy / 100), prices)
        return Markdown(said), cost.figure(cost.costs(self.results, prices))
