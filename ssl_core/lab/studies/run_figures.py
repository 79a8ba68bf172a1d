"""Figures of one run and of single images. Each function draws one figure and returns it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ssl_core.train import Evaluation

from .style import new_figure, style, use_style

MOST_ROWS = 30  # classes that are shown one by one
WRONG = "#D55E00"  # the colour of a misclassified image
TERMS = ("supervised", "clustering", "consistency", "entropy", "pseudo_label")
TERM_COLORS = dict(zip(TERMS, sns.color_palette("colorblind"), strict=False))


def _pixels(x: Tensor) -> np.ndarray:
    """Normalised images (N, C, 28, 28) as Matplotlib shows them: between 0 and 1, grey ones (N, 28, 28), colour (N, 28,
    28, 3).

    The darkest pixel of all images becomes 0 and the lightest 1.
    """
    low, high = x.min().item(), x.max().item()
    pixels = ((x - low) / max(high - low, 1e-6)).permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[3] == 1 else pixels


def _board(rows: int, columns: int, side: float, tall: float, title: str) -> tuple[Figure, Axes]:
    """An empty figure for `rows` × `columns` images of `side` inches, with a single axis.

    One axis for each image would be ten times slower. In units of this axis an image is 1 wide and high; a row of
    images with their titles is `tall`.
    """
    use_style()
    board = Figure(figsize=(side * columns, side * tall * rows), layout="none")  # type: ignore[arg-type]  # Matplotlib's types lack it
    # Text beside the axis is saved, too: savefig.bbox.
    axis = board.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(tall * rows, 0))
    axis.axis("off")
    axis.set_title(title, fontsize=11)
    return board, axis


def _show(axis: Axes, pixels: np.ndarray, cell: tuple[int, int], tall: float, text: str = "", color: str = "black") -> None:
    """Draws an image into a cell (row, column) of a board, and writes `text` above it."""
    row, column = cell
    left, bottom = column + 0.05, tall * (row + 1) - 0.05
    axis.imshow(pixels, cmap="gray_r", vmin=0, vmax=1, extent=(left, left + 0.9, bottom, bottom - 0.9))
    axis.text(column + 0.5, bottom - 0.92, text, fontsize=8, color=color, ha="center", va="bottom")


def images(x: Tensor, titles: list[str], columns: int, colors: list[str] | None = None, title: str = "") -> Figure:
    """Images (N, C, 28, 28) in a grid, each below its title."""
    tall = 1.2
    board, axis = _board(-(-len(x) // columns), columns, 1.1, tall, title)
    for i, pixels in enumerate(_pixels(x)):
        _show(axis, pixels, divmod(i, columns), tall, titles[i], colors[i] if colors else "black")
    return board


def neighbors(x: Tensor, index: Tensor, which: Tensor) -> Figure:
    """The images `which` of `x`, one in each row, followed by its nearest neighbours by `index` (N, K)."""
    rows = torch.cat([which[:, None], index[which]], dim=1)
    titles = ["image"] + [f"neighbour {i}" for i in range(1, rows.shape[1])]
    return images(x[rows.flatten()], titles * len(which), columns=rows.shape[1])


def labeled_images(x: Tensor, y: Tensor, classes: tuple[str, ...], most: int = 10) -> Figure:
    """The labelled images, a row for each of up to MOST_ROWS classes, at most `most` in a row.

    A class without a label has an empty row.
    """
    n_classes = min(len(classes), MOST_ROWS)
    board, axis = _board(n_classes, most, 0.55, 1, f"Labelled images by class (number); up to {most} of each")
    for c in range(n_classes):
        of_class = x[y == c]
        axis.text(-0.3, c + 0.5, f"{classes[c]}  ({len(of_class)})", ha="right", va="center")
        for i in range(min(most, len(of_class))):
            _show(axis, _pixels(of_class[i : i + 1])[0], (c, i), 1)
    return board


def answers(x: Tensor, title: str, by_run: dict[str, Tensor], classes: tuple[str, ...]) -> Figure:
    """One image (1, C, 28, 28), and beside it the class probabilities (n_classes,) by each run; up to ten likely
    classes.
    """
    drawn, axes = new_figure(3 + 3 * len(by_run), 3, 1, 1 + len(by_run))
    left, *others = axes.flat
    left.imshow(_pixels(x)[0], cmap="gray_r", vmin=0, vmax=1)
    left.set_title(title, fontsize=10)
    left.axis("off")
    for axis, (run, p) in zip(others, by_run.items(), strict=True):
        shown = p.argsort(descending=True)[:10].sort().values.flip(0)
        axis.barh([classes[c] for c in shown], 100 * p[shown].numpy(), color=style(run.split(",")[0])["color"])
        axis.set(xlim=(0, 100), xlabel="probability (%)")
        axis.set_title(run, fontsize=10)
    return drawn


def loss_curves(history: list[dict[str, float]], weights: Mapping[str, float]) -> Figure:
    """The total loss over epochs, and below it the weighted terms that add up to it."""
    rows = pd.DataFrame(history)
    drawn, axes = new_figure(7, 5, 2, 1, sharex=True)
    top, bottom = axes.flat
    top.plot(rows["epoch"], rows["total"], color="black")
    top.set(ylabel="total loss", title="The objective, and the weighted terms that add up to it")
    for name, weight in weights.items():
        if name in rows:
            bottom.plot(rows["epoch"], weight * rows[name], label=f"{weight:g} · {name}", color=TERM_COLORS[name])
    bottom.set(xlabel="epoch", ylabel="weighted terms")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    bottom.legend(fontsize=8)
    return drawn


def scatter(places: np.ndarray, group: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Points at `places` (N, 2), coloured by `group` (N,); the name of each group stands in its middle."""
    drawn, ((axis,),) = new_figure(7, 6.5)
    colors = sns.color_palette("husl", len(names))
    axis.scatter(*places.T, s=4, c=[colors[g] for g in group], linewidths=0)
    for g in np.unique(group):
        x, y = np.median(places[group == g], axis=0)
        axis.text(
            x, y, names[g], ha="center", va="center", fontsize=11, bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1}
        )
    axis.set(xticks=[], yticks=[], title=title)
    return drawn


def accuracy_curve(by_epoch: dict[int, float], recipe: str, reference: dict[int, float] | None = None) -> Figure:
    """Test accuracy of the model after the first and every fifth epoch; `reference` holds the report's."""
    drawn, ((axis,),) = new_figure(7, 3.2)
    axis.plot(by_epoch.keys(), [100 * a for a in by_epoch.values()], label=recipe, **style(recipe))
    if reference:
        axis.plot(reference.keys(), [100 * a for a in reference.values()], "x", color="black", label="the report")
        axis.legend()
    axis.set(xlabel="epoch", ylabel="test accuracy (%)", title="Accuracy during training, evaluated after training")
    return drawn


def confusion_matrix(confusion: Tensor | np.ndarray, classes: tuple[str, ...], title: str = "") -> Figure:
    """Counts: rows are true classes, columns predicted ones. The colour is the share of the row, so that mistakes show.

    Of up to MOST_ROWS classes the counts are written into the cells.
    """
    side = 1 + 0.4 * min(max(len(classes), 10), MOST_ROWS)
    drawn, ((axis,),) = new_figure(side + 1, side)
    draw_confusion(axis, np.asarray(confusion), classes, annotate=True)
    axis.set_title(title)
    return drawn


def draw_confusion(axis: Axes, counts: np.ndarray, classes: tuple[str, ...], *, annotate: bool) -> None:
    """Draws a confusion matrix on `axis`; if `annotate`, with its counts and a colour bar."""
    share = counts / counts.sum(axis=1, keepdims=True).clip(1)
    few = len(counts) <= MOST_ROWS
    sns.heatmap(
        share,
        annot=counts if annotate and few else False,
        fmt="d",
        annot_kws={"size": 8},
        cmap="Blues",
        norm=PowerNorm(0.4, 0, 1),  # one mistake in a hundred is still visible
        square=True,
        linewidths=0.5 if few else 0,
        cbar=annotate,
        cbar_kws={"label": "share of the row", "ticks": [0, 0.01, 0.1, 0.5, 1]} if annotate else None,
        xticklabels=classes if few else "auto",
        yticklabels=classes if few else "auto",
        ax=axis,
    )
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.tick_params(axis="y", rotation=0)
    axis.tick_params(axis="x", rotation=90 * (max(map(len, classes)) > 2))


def predictions(x: Tensor, y: Tensor, evaluation: Evaluation, classes: tuple[str, ...], title: str) -> Figure:
    """The first 16 images in a 4 × 4 grid, each with predicted and true class; mistakes in vermilion."""
    pairs = list(zip(evaluation.predictions[:16].tolist(), y[:16].tolist(), strict=True))
    titles = [f"predicted {classes[predicted]}, is {classes[true]}" for predicted, true in pairs]
    colors = ["black" if predicted == true else WRONG for predicted, true in pairs]
    return images(x[:16], titles, 4, colors, title)


def confused_pairs(confusion: Tensor, most: int = 5) -> list[tuple[int, int, int]]:
    """The commonest mistakes: (true class, predicted class, count), at most `most`, the commonest first."""
    counts = confusion.clone().fill_diagonal_(0)
    n_classes = len(counts)
    commonest = counts.flatten().argsort(descending=True, stable=True)[:most].tolist()
    return [(*divmod(i, n_classes), int(counts.flatten()[i])) for i in commonest if counts.flatten()[i] > 0]


def worst_mistakes(x: Tensor, y: Tensor, evaluation: Evaluation, classes: tuple[str, ...]) -> Figure | None:
    """A row of images for each of the four commonest confusions, the most confident mistake first.

    None if there is no mistake.
    """
    pairs, columns, tall = confused_pairs(evaluation.confusion, 4), 8, 1.3
    if not pairs:
        return None
    confidence = evaluation.probabilities.max(dim=1).values
    board, axis = _board(len(pairs), columns, 1.0, tall, "The commonest confusions, the most confident mistakes first")
    for row, (true, predicted, count) in enumerate(pairs):
        mistakes = torch.nonzero((y == true) & (evaluation.predictions == predicted)).flatten()
        mistakes = mistakes[confidence[mistakes].argsort(descending=True)][:columns]
        for column, i in enumerate(mistakes):
            _show(axis, _pixels(x[i : i + 1])[0], (row, column), tall, f"confidence {100 * confidence[i]:.0f} %")
        label = f"{classes[true]} classified as {classes[predicted]}\n{count} times"
        axis.text(-0.2, tall * (row + 1) - 0.5, label, ha="right", va="center", fontsize=9)
    return board
