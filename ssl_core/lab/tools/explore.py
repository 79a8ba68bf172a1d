"""The views of finished runs in `notebooks/explore.ipynb`: figures that follow menus and sliders.

Each method of `Explorer` is a view; `show_with_controls` puts menus and sliders for its arguments above it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from PIL import Image
from torch import Tensor

from ssl_core import data, experiment, recipes, train
from ssl_core.augment import Augment
from ssl_core.datasets import describe

from ..runs import files, graph_cache, records
from ..runs.records import Record
from ..runs.spec import current_draw
from ..studies import answers, class_recall, confusion, cost, run_figures, words
from ..studies.style import new_figure, order
from . import predict

MAPPED = 1000  # test images on a map
SHOWN = 40  # images of a cell of the confusion matrix
OUTLINED = [Stroke(linewidth=3, foreground="white"), Normal()]  # text that can be read over points

View = Callable[..., object]
Choice = object  # a list, for a menu; (low, high, step, value), for a slider; a widget that has a `value`; or a fixed value


def show_with_controls(view: View, **choices: Choice) -> dict[str, Any]:
    """Displays what `view` returns, below a control for each of its arguments; returns the controls.

    What is displayed, one thing or a tuple of as many each time, is replaced when a control moves, and stays in the saved
    notebook. Without ipywidgets it is displayed once, with the first of each list and each slider's value.
    """
    arguments = {name: _initial(choice) for name, choice in choices.items()}
    controls = _controls(choices)
    # Not in ipywidgets' Output: nbclient may wait for ever for it when no browser is there (its issue 312).
    handles = [display(each, display_id=True) for each in _as_tuple(view(**arguments))]

    def update(name: str, change: Mapping[str, object]) -> None:
        arguments[name] = change["new"]
        try:
            outputs = _as_tuple(view(**arguments))
        except Exception as error:  # a log would hide it, and the earlier picture would be taken for the new one
            outputs = (Markdown(f"**{type(error).__name__}:** {error}"),) * len(handles)
        for handle, output in zip(handles, outputs, strict=True):
            handle.update(output)

    for name, control in controls.items():
        control.observe(partial(update, name), "value")
    return controls


def distortion_sliders() -> dict[str, Choice]:
    """Sliders for `Explorer.distorted`, at first at the strong distortion with which `best` begins."""
    strong = recipes.BEST.augment_constrained
    assert strong is not None  # of this recipe
    return {
        "rotation": (0, 45, 1, int(strong.rotation[1])),
        "scale": (0.0, 0.5, 0.05, round(strong.scale[1] - 1, 3)),
        "shear": (0, 30, 1, int(strong.shear[1])),
        "translate": (0.0, 6.0, 0.5, float(strong.translate[1])),
        "elastic": (0.0, 3.0, 0.1, strong.elastic),
        "overlay": (1, 15, 2, strong.overlay),
        "contrast": (0.0, 1.5, 0.1, strong.contrast),
    }


def pad() -> object:
    """A square to draw on; without anywidget the value of an empty one."""
    try:
        from .pad import Pad
    except ImportError:
        return ""
    return Pad()


def _initial(choice: Choice) -> object:
    """The value of a control before it is moved."""
    if isinstance(choice, list):
        return choice[0]
    return choice[3] if isinstance(choice, tuple) else getattr(choice, "value", choice)


def _controls(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Displays the controls, and returns them by name; none without ipywidgets, and none for a fixed value."""
    try:
        import ipywidgets as widgets
    except ImportError:
        return {}
    controls = {}
    for name, choice in choices.items():
        options = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
        options["layout"] = widgets.Layout(width="30em")
        if isinstance(choice, list):
            controls[name] = widgets.Dropdown(options=choice, **options)
        elif isinstance(choice, tuple):
            low, high, step, value = choice
            slider = widgets.FloatSlider if isinstance(step, float) else widgets.IntSlider
            controls[name] = slider(value=value, min=low, max=high, step=step, continuous_update=False, **options)
        elif isinstance(choice, widgets.Widget):
            controls[name] = choice
    display(widgets.VBox(list(controls.values())))
    return controls


def _as_tuple(outputs: object) -> tuple:
    return outputs if isinstance(outputs, tuple) else (outputs,)


class Explorer:
    """The finished runs on one data set, with one selection of labels. Raises LookupError if there is none."""

    def __init__(self, outputs: Path, data_name: str = "mnist", draw: str = "random"):
        draw = current_draw(draw)
        found = records.read_all(outputs)
        runs = [record for record in found if _is_plain(record, data_name, draw) and record.has_todays_images]
        if not runs:
            raise LookupError(records.nothing_to_show(records.table(found), data_name, draw, outputs))
        self.outputs, self.images = outputs, data.load(data_name, files.DATA)
        runs.sort(key=lambda record: (order(record.row["recipe"]), record.row["n_labels"], record.row["seed"]))
        self.records = {_name(record): record for record in runs}
        self.results = records.table(records.select(runs, data_name, draw))

    @property
    def names(self) -> list[str]:
        """The runs as menus call them; those of older code are marked."""
        return list(self.records)

    @property
    def recipes(self) -> list[str]:
        """The recipes of the runs, in their order."""
        return list(dict.fromkeys(record.row["recipe"] for record in self.records.values()))

    def of_recipe_first(self, recipe: str) -> list[str]:
        """The names of all runs, those of `recipe` first."""
        return sorted(self.names, key=lambda name: self.records[name].row["recipe"] != recipe)

    def curves(self, run: str) -> tuple[Markdown, Figure]:
        """The test accuracy, and the loss and its terms during training."""
        record = self.records[run]
        accuracy = f"**{100 * record.accuracy:.2f} %** test accuracy, after {record.seconds:.0f} s of training"
        return Markdown(accuracy), run_figures.loss_curves(record.history, record.recipe["weights"])

    def confusion(self, run: str) -> Figure:
        """The confusion matrix."""
        return run_figures.confusion_matrix(np.array(self.records[run].confusion), self.images.classes, run)

    def recall(self, recipe: str) -> Figure:
        """The recall of each class over the number of labels."""
        runs = [record for record in self.records.values() if record.row["recipe"] == recipe]
        return class_recall.figure(class_recall.recall(confusion.counts(runs, self.images.classes)))

    def cell(self, run: str, true: str, predicted: str) -> Figure | Markdown:
        """The test images of one cell of the confusion matrix, the most confident predictions first."""
        if (probabilities := self.probabilities(run)) is None:
            return Markdown(f"{run} kept only the counts, not its predictions.")
        confidence, label = probabilities.max(dim=1)
        classes = self.images.classes
        in_cell = (self.images.y_test == classes.index(true)) & (label == classes.index(predicted))
        index = torch.nonzero(in_cell).flatten()
        if not len(index):
            return Markdown(f"No {true} was classified as {predicted}.")
        index = index[confidence[index].argsort(descending=True)]
        title = f"{run}: {len(index)} times {true} classified as {predicted}"
        title += f", the {SHOWN} most confident" if len(index) > SHOWN else ""
        index = index[:SHOWN]
        return run_figures.images(self.images.x_test[index], [f"{100 * c:.0f} %" for c in confidence[index]], 10, title=title)

    @cache  # noqa: B019 - an explorer lives as long as its notebook
    def probabilities(self, run: str) -> Tensor | None:
        """The class probabilities (N, C) of the test images, as the run kept them; None if it did not."""
        kept = records.probabilities(self.records[run].run, self.outputs)
        return None if kept is None else torch.from_numpy(kept)

    @cache  # noqa: B019
    def trained(self, run: str) -> predict.Trained:
        """The trained network."""
        return predict.load(self.records[run].run.folder(self.outputs))

    def drawn(self, drawing: str, one: str, other: str) -> tuple[Markdown, Figure]:
        """The predictions of two runs for a drawing, the `value` of a pad; as long as it is empty, for a test image."""
        x, title = self._drawing(drawing)
        by_run = {run: self.trained(run).probabilities(x)[0] for run in dict.fromkeys((one, other))}
        names = [words.plain(name) for name in self.images.classes]
        labels = "; ".join(f"{run}: **{names[p.argmax()]}** ({100 * p.max():.0f} %)" for run, p in by_run.items())
        return Markdown(f"{title}. {labels}"), run_figures.answers(x, title, by_run, self.images.classes)

    def _drawing(self, drawing: str) -> tuple[Tensor, str]:
        """The drawing as an image (1, C, side, side), or a test image if nothing is drawn; and a title."""
        pixels = None
        if drawing:
            from .pad import drawn  # there is a pad, so the package for it is there too

            pixels = drawn(drawing)
        if pixels is None:
            return self.images.x_test[:1], "Nothing drawn yet: a test image"
        info = describe(self.images.name, files.DATA)
        pixels = np.asarray(Image.fromarray(pixels).resize((info.side, info.side)))
        channels = torch.from_numpy(pixels)[None, None].expand(1, info.channels, -1, -1)
        return data.normalize(channels, info.mean, info.std), "What the network sees"

    @cache  # noqa: B019
    def map(self, run: str) -> Figure:
        """The features of test images and of the labelled ones in two dimensions (t-SNE, van der Maaten & Hinton 2008)."""
        from sklearn.manifold import TSNE

        labeled = self._labeled(run)[:MAPPED]
        x = torch.cat([self.images.x_test[:MAPPED], self.images.x[labeled]])
        y = torch.cat([self.images.y_test[:MAPPED], self.images.y[labeled]]).numpy()
        points = TSNE(random_state=0, init="pca").fit_transform(train.embed(self.trained(run).model, x).numpy())
        figure, ((axis,),) = new_figure(7.5, 6)
        _draw_map(axis, points, y, np.arange(len(x)) >= len(x) - len(labeled), self.images.classes)
        axis.set(xticks=[], yticks=[], title=f"{run}: images that the network finds alike are near each other")
        return figure

    def _labeled(self, run: str) -> Tensor:
        """The indices of the training images whose label the run had."""
        parameters = self.records[run].run
        # Without the recipe's graph, on which a random selection does not depend.
        neighbors = graph_cache.for_run(parameters, self.images) if parameters.draw == "typical" else None
        recipe = replace(parameters.settings, pretraining=None, check_labels=False)
        split = experiment.prepare(self.images, parameters.labeling, recipe, neighbors).split
        assert split is not None  # of a task that was prepared
        return split.labeled

    def distorted(
        self, rotation: int, scale: float, shear: int, translate: float, elastic: float, overlay: int, *, contrast: float = 0.0
    ) -> Figure:
        """Eight images, and three distorted copies of each."""
        augment = Augment(
            rotation=(-rotation, rotation),
            scale=(1 - scale, 1 + scale),
            shear=(-shear, shear),
            translate=(-translate, translate),
            elastic=elastic,
            overlay=overlay,
            contrast=contrast,
            fill=describe(self.images.name, files.DATA).background,
        )
        images, generator = self.images.x[:8], torch.Generator().manual_seed(0)
        rows = [images, *(augment(images, generator) for _ in range(3))]
        titles = [name for name in ("image", "copy 1", "copy 2", "copy 3") for _ in range(8)]
        return run_figures.images(torch.cat(rows), titles, columns=8)

    def budget(
        self, cents_per_label: float, cents_per_error: float, future_images: int, target_accuracy: float
    ) -> tuple[Markdown, Figure | Markdown]:
        """The cost of labels and errors: the number of labels that is cheapest, and the one that reaches the target."""
        if self.results.empty:
            return Markdown("No run of today's code by a recipe that can be compared: `make sweep` trains them."), Markdown("")
        # A label's price as a wage: one hour for each.
        prices = cost.Prices(3600, cents_per_label / 100, 0.05, cents_per_error / 100, future_images)
        sentences = answers.sentences(answers.answers(self.results, prices, target_accuracy / 100), prices)
        return Markdown(sentences), cost.figure(cost.costs(self.results, prices))


def _is_plain(record: Record, data_name: str, draw: str) -> bool:
    """Whether the run is of this data set and selection, without label noise and with all labels."""
    row = record.row
    return (row["data"], row["draw"], row["side"]) == (data_name, draw, 0) and not row["label_noise"] and not row["fold"]


def _name(record: Record) -> str:
    row = record.row
    return f"{row['recipe']}, M = {row['n_labels']}, seed {row['seed']}" + ("" if record.current else " (older code)")


def _draw_map(axis: Axes, points: np.ndarray, y: np.ndarray, labeled: np.ndarray, classes: tuple[str, ...]) -> None:
    """Draws test images as points (N, 2) in the colour of their class, and rings around the labelled ones."""
    for c, name in enumerate(classes[: run_figures.MOST_ROWS]):
        members = points[(y == c) & ~labeled]
        axis.scatter(members[:, 0], members[:, 1], s=8, color=colormaps["tab20"](c % 20), label=name, alpha=0.7)
        if len(members):  # the name at the centre, for readers who can't tell the colours apart
            middle = np.median(members, axis=0)
            axis.text(middle[0], middle[1], name, ha="center", va="center", weight="bold", path_effects=OUTLINED)
    ringed = points[labeled]
    axis.scatter(ringed[:, 0], ringed[:, 1], s=30, facecolors="none", edgecolors="black", linewidths=0.8, label="labelled")
    axis.legend(fontsize=8, markerscale=2, bbox_to_anchor=(1, 1), loc="upper left")
