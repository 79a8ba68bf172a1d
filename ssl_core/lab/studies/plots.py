"""The figures. Each function draws one and returns it; accuracy is shown in percent, on the test images."""

from collections.abc import Collection
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib_inline.backend_inline import set_matplotlib_formats
from torch import Tensor

from ssl_core.train import Evaluation

from . import intervals

# One colour, marker and dash for a recipe everywhere; the colours are Okabe and Ito's, told apart by the colour-blind.
STYLE = {
    "best": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "supervised": {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    "corrected": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "published": {"color": "#D55E00", "marker": "v", "linestyle": ":"},
}
MOST_ROWS = 30  # classes that are shown one by one
OTHER = {"color": "#666666", "marker": "D", "linestyle": "-"}
TERM_COLORS = dict(
    zip(("supervised", "clustering", "consistency", "entropy", "pseudo_label"), sns.color_palette("colorblind"), strict=False)
)

plt.style.use(Path(__file__).with_name("style.mplstyle"))
if get_ipython():  # in a notebook, and so on the page made of it: twice the pixels, for fine screens and for paper
    set_matplotlib_formats("retina")


def _pixels(x: Tensor) -> np.ndarray:
    """Images (N, C, 28, 28), normalised, between 0 and 1 as Matplotlib wants them: grey ones (N, 28, 28), or (N, 28, 28, 3).

    The darkest pixel of all becomes 0, the lightest 1: so it was before they were normalised, but for a lack of contrast.
    """
    low, high = x.min().item(), x.max().item()
    pixels = ((x - low) / max(high - low, 1e-6)).permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[3] == 1 else pixels


def _board(rows: int, columns: int, side: float, tall: float, title: str) -> tuple[Figure, Axes]:
    """An empty figure for `rows` × `columns` images, `side` inches each, and its one axis (one each takes ten times as long).

    In the unit of the axis an image is 1 wide and high, and a row, with what is written over its images, `tall`.
    """
    figure = plt.figure(figsize=(side * columns, side * tall * rows), layout="none")
    axis = figure.add_axes(
        (0, 0, 1, 1), xlim=(0, columns), ylim=(tall * rows, 0)
    )  # what is beside it is saved, too: savefig.bbox
    axis.axis("off")
    axis.set_title(title, fontsize=11)
    plt.close(figure)
    return figure, axis


def _show(axis: Axes, pixels: np.ndarray, row: int, column: int, tall: float, text: str = "", color: str = "black") -> None:
    """Draws an image into its place on a board, and writes `text` over it."""
    left, bottom = column + 0.05, tall * (row + 1) - 0.05
    axis.imshow(pixels, cmap="gray_r", vmin=0, vmax=1, extent=(left, left + 0.9, bottom, bottom - 0.9))
    axis.text(column + 0.5, bottom - 0.92, text, fontsize=8, color=color, ha="center", va="bottom")


def images(x: Tensor, titles: list[str], columns: int, colors: list[str] | None = None, title: str = "") -> Figure:
    """Images (N, C, 28, 28) in a grid, each under its title."""
    tall = 1.2
    figure, axis = _board(-(-len(x) // columns), columns, 1.1, tall, title)
    for i, pixels in enumerate(_pixels(x)):
        _show(axis, pixels, i // columns, i % columns, tall, titles[i], colors[i] if colors else "black")
    return figure


def neighbors(x: Tensor, index: Tensor, which: Tensor) -> Figure:
    """The images `which` of `x`, a row each, and after each its nearest neighbours by `index` (N, K)."""
    rows = torch.cat([which[:, None], index[which]], dim=1)
    titles = ["image"] + [f"neighbour {i}" for i in range(1, rows.shape[1])]
    return images(x[rows.flatten()], titles * len(which), columns=rows.shape[1])


def labeled_images(x: Tensor, y: Tensor, classes: tuple[str, ...], most: int = 10) -> Figure:
    """The labelled images, a row for each class, at most `most` of each; a class without any has an empty row.

    Of very many classes the first MOST_ROWS are shown.
    """
    n_classes = min(len(classes), MOST_ROWS)
    figure, axis = _board(n_classes, most, 0.55, 1, f"Labelled images by class (how many); the first {most} of each")
    for c in range(n_classes):
        of_class = x[y == c]
        axis.text(-0.3, c + 0.5, f"{classes[c]}  ({len(of_class)})", ha="right", va="center")
        for i in range(min(most, len(of_class))):
            _show(axis, _pixels(of_class[i : i + 1])[0], c, i, 1)
    return figure


def answers(x: Tensor, title: str, by_run: dict[str, Tensor], classes: tuple[str, ...]) -> Figure:
    """One image (1, C, 28, 28), and beside it the class probabilities (n_classes,) by each run: the likeliest of many classes."""
    figure, (left, *others) = plt.subplots(1, 1 + len(by_run), figsize=(3 + 3 * len(by_run), 3))
    left.imshow(_pixels(x)[0], cmap="gray_r", vmin=0, vmax=1)
    left.set_title(title, fontsize=10)
    left.axis("off")
    for axis, (run, p) in zip(others, by_run.items(), strict=True):
        shown = p.argsort(descending=True)[:10].sort().values.flip(0)
        axis.barh([classes[c] for c in shown], 100 * p[shown].numpy(), color=STYLE.get(run.split(",")[0], OTHER)["color"])
        axis.set(xlim=(0, 100), xlabel="probability (%)")
        axis.set_title(run, fontsize=10)
    plt.close(figure)
    return figure


def loss_curves(history: list[dict[str, float]], weights: dict[str, float]) -> Figure:
    """The objective, and below it the weighted terms that it is the sum of, over epochs."""
    rows = pd.DataFrame(history)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True)
    top.plot(rows["epoch"], rows["total"], color="black")
    top.set(ylabel="total loss", title="What was minimised, and the weighted terms that add up to it")
    for name, weight in weights.items():
        if name in rows:
            bottom.plot(rows["epoch"], weight * rows[name], label=f"{weight:g} · {name}", color=TERM_COLORS[name])
    bottom.set(xlabel="epoch", ylabel="share of the loss")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    bottom.legend(fontsize=8)
    plt.close(figure)
    return figure


def accuracy_curve(by_epoch: dict[int, float], recipe: str, reference: dict[int, float] | None = None) -> Figure:
    """Test accuracy of the model as it was after the first and every fifth epoch; `reference` is shown beside it."""
    figure, axis = plt.subplots(figsize=(7, 3.2))
    axis.plot(by_epoch.keys(), [100 * a for a in by_epoch.values()], label=recipe, **STYLE.get(recipe, OTHER))
    if reference:
        axis.plot(reference.keys(), [100 * a for a in reference.values()], "x", color="black", label="the report")
        axis.legend()
    axis.set(xlabel="epoch", ylabel="test accuracy (%)", title="Accuracy as training went on, measured when it was over")
    plt.close(figure)
    return figure


def confusion_matrix(confusion: Tensor | np.ndarray, classes: tuple[str, ...], title: str = "") -> Figure:
    """Counts: rows are the truth, columns the prediction. The colour is the share of the row, so mistakes show.

    The counts themselves are written where there is room, of up to MOST_ROWS classes.
    """
    side = 1 + 0.4 * min(max(len(classes), 10), MOST_ROWS)
    figure, axis = plt.subplots(figsize=(side + 1, side))
    _draw_confusion(axis, np.asarray(confusion), classes, annotate=True)
    axis.set_title(title)
    plt.close(figure)
    return figure


def _draw_confusion(axis, counts: np.ndarray, classes: tuple[str, ...], annotate: bool) -> None:
    share = counts / counts.sum(axis=1, keepdims=True).clip(1)
    sns.heatmap(
        share,
        annot=counts if annotate and len(counts) <= MOST_ROWS else False,
        fmt="d",
        annot_kws={"size": 8},
        cmap="Blues",
        # A power scale: one mistake in a hundred is still seen.
        norm=plt.matplotlib.colors.PowerNorm(0.4, 0, 1),
        square=True,
        linewidths=0.5 if len(counts) <= MOST_ROWS else 0,
        cbar=annotate,
        cbar_kws={"label": "share of the row", "ticks": [0, 0.01, 0.1, 0.5, 1]} if annotate else None,
        xticklabels=classes if len(counts) <= MOST_ROWS else "auto",
        yticklabels=classes if len(counts) <= MOST_ROWS else "auto",
        ax=axis,
    )
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.tick_params(axis="y", rotation=0)
    axis.tick_params(axis="x", rotation=90 * (max(map(len, classes)) > 2))


def predictions(x: Tensor, y: Tensor, evaluation: Evaluation, classes: tuple[str, ...], title: str) -> Figure:
    """The first 16 images in a 4 × 4 grid, each with its prediction and the truth; mistakes in vermilion."""
    guesses = evaluation.predictions[:16].tolist()
    truth = y[:16].tolist()
    titles = [f"says {classes[guess]}, is {classes[true]}" for guess, true in zip(guesses, truth, strict=True)]
    colors = ["black" if guess == true else "#D55E00" for guess, true in zip(guesses, truth, strict=True)]
    return images(x[:16], titles, 4, colors, title)


def confused_pairs(confusion: Tensor, most: int = 5) -> list[tuple[int, int, int]]:
    """The commonest mistakes: (true class, predicted class, how many), at most `most`, the commonest first."""
    counts = confusion.clone().fill_diagonal_(0)
    n_classes = len(counts)
    order = counts.flatten().argsort(descending=True, stable=True)[:most].tolist()
    return [(i // n_classes, i % n_classes, int(counts.flatten()[i])) for i in order if counts.flatten()[i] > 0]


def worst_mistakes(
    x: Tensor, y: Tensor, evaluation: Evaluation, classes: tuple[str, ...], pairs: int = 4, columns: int = 8
) -> Figure | None:
    """For each of the commonest confusions a row of images, the most confident mistake first; None if there is no mistake."""
    found = confused_pairs(evaluation.confusion, pairs)
    if not found:
        return None
    confidence = evaluation.probabilities.max(dim=1).values
    tall = 1.3
    figure, axis = _board(len(found), columns, 1.0, tall, "The commonest confusions and the surest mistakes in each")
    for row, (true, predicted, count) in enumerate(found):
        mistakes = torch.nonzero((y == true) & (evaluation.predictions == predicted)).flatten()
        mistakes = mistakes[confidence[mistakes].argsort(descending=True)][:columns]
        for column, i in enumerate(mistakes):
            _show(axis, _pixels(x[i : i + 1])[0], row, column, tall, f"{100 * confidence[i]:.0f} % sure")
        label = f"{classes[true]} read as {classes[predicted]}\n{count} times"
        axis.text(-0.2, tall * (row + 1) - 0.5, label, ha="right", va="center", fontsize=9)
    return figure


def seeds(counts: Collection[int]) -> str:
    """How many seeds a figure is of, from how many each of its points is of: `5 seeds`, `1 to 5 seeds`."""
    several = " to ".join(f"{n}" for n in dict.fromkeys((min(counts), max(counts))))
    return f"{several} seed{'s' * (several != '1')}"


def accuracy_by_labels(curve: pd.DataFrame) -> Figure:
    """Mean test accuracy over the number of labels, a line for each recipe; bars are the 95 % intervals of `budget.curve`.

    The vertical axis is logarithmic in the error: the step from 98 to 99 % is as tall as that from 96 to 98 %, for each
    halves the mistakes.
    """
    figure, axis = plt.subplots(figsize=(7.5, 4.6))
    for recipe, rows in _by_recipe(curve):
        error = 100 * (1 - rows["mean"])
        # Nothing below a hundredth of a point: a bar that reached zero would have no end on this axis.
        bars = np.vstack([(100 * (rows["high"] - rows["mean"])).clip(upper=error - 0.01), 100 * (rows["mean"] - rows["low"])])
        axis.errorbar(rows["n_labels"], error, yerr=bars, capsize=3, label=recipe, **STYLE.get(recipe, OTHER))
    # Room for the bars of the best means; a longer one, of runs that differ wildly, is cut off and does not squeeze the rest.
    top = 100 * (1 - curve["mean"].max())
    axis.set_ylim(bottom=max(axis.get_ylim()[0], 0.5 * top))
    _error_axis(axis)
    label_axis(axis, curve["n_labels"])
    axis.set(
        ylabel="test accuracy (%), logarithmic in the error",
        title=f"Accuracy by number of labels ({seeds(curve['n'])}; bars: 95 % interval)",
    )
    axis.legend(loc="lower right")
    plt.close(figure)
    return figure


def total_cost(costs: pd.DataFrame) -> Figure:
    """What labels, computing and mistakes cost in all, over the number of labels: a line for each recipe, its minimum marked."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2))
    for recipe, rows in _by_recipe(costs):
        style = STYLE.get(recipe, OTHER)
        axis.plot(rows["n_labels"], rows["total"], label=recipe, **style)
        cheapest = rows.loc[rows["total"].idxmin()]
        axis.plot(cheapest["n_labels"], cheapest["total"], "o", markersize=15, fillstyle="none", color=style["color"])
    labels = costs.drop_duplicates("n_labels").sort_values("n_labels")
    axis.plot(labels["n_labels"], labels["labels"], color="black", linewidth=1, label="the labels alone")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda money, _: f"{money:g}"))
    label_axis(axis, costs["n_labels"])
    axis.set(ylabel="cost in all (in the unit of the prices)")
    axis.set_title(f"What it costs in all (means of {seeds(costs['n'])}); a ring marks the cheapest")
    axis.legend()
    plt.close(figure)
    return figure


def forecast(measured: dict[int, np.ndarray], fitted: intervals.Forecast, recipe: str) -> Figure:
    """Accuracies by number of labels, and what the curve that was fitted to the smaller sizes says of all, with its interval."""
    figure, axis = plt.subplots(figsize=(7.5, 3.8))
    sizes = np.geomspace(min(measured), max(measured), 25)
    guesses = [fitted.accuracy(n) for n in sizes]
    low, middle, high = (np.array([100 * getattr(guess, name) for guess in guesses]) for name in ("low", "mean", "high"))
    color = STYLE.get(recipe, OTHER)["color"]
    axis.fill_between(sizes, 100 - low, 100 - high, color=color, alpha=0.2, label="90 % interval")
    axis.plot(sizes, 100 - middle, color=color, label="forecast")
    for n, values in measured.items():
        known = n in fitted.sizes
        axis.plot([n] * len(values), 100 - 100 * values, "o", color=color, fillstyle="full" if known else "none")
    axis.plot([], [], "o", color=color, label="a run that it was fitted to")
    axis.plot([], [], "o", color=color, fillstyle="none", label="a run that it was not shown")
    _error_axis(axis)
    label_axis(axis, pd.Series(list(measured)))
    axis.set(ylabel="test accuracy (%)", title=f"{recipe}: what the small sizes foretell of the large ones")
    axis.legend(fontsize=8, loc="lower right")
    plt.close(figure)
    return figure


def _error_axis(axis) -> None:
    """An axis of errors in per cent, logarithmic and upside down, with the accuracies for its ticks."""
    axis.set_yscale("log")
    axis.invert_yaxis()
    high, low = axis.get_ylim()
    ticks = [tick for tick in (0.2, 0.3, 0.5, 0.7, 1, 2, 3, 5, 10, 20, 30, 50, 90) if low <= tick <= high]
    if len(ticks) < 3:
        ticks = MaxNLocator(5).tick_values(low, high)
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - error:.2f}".rstrip("0").rstrip(".")))
    axis.yaxis.set_minor_locator(NullLocator())


def calibration(tables: dict[str, tuple[pd.DataFrame, float]], title: str) -> Figure:
    """By recipe what `intervals.calibration` gives: how often it is right over how sure it says it is."""
    figure, axis = plt.subplots(figsize=(5.2, 4.6))
    axis.plot([0, 1], [0, 1], color="black", linewidth=1)
    for recipe in sorted(tables, key=order):
        table, gap = tables[recipe]
        style = STYLE.get(recipe, OTHER)
        color, label = style["color"], f"{recipe}: off by {100 * gap:.1f} points"
        axis.plot(table["confidence"], table["accuracy"], linestyle=style["linestyle"], color=color, linewidth=1)
        areas = 8 + 250 * table["count"] / table["count"].sum()
        axis.scatter(table["confidence"], table["accuracy"], areas, color=color, marker=style["marker"], label=label)
    axis.set(xlabel="how sure it says it is (mean of a bin)", ylabel="how often it is right", title=title)
    axis.legend(fontsize=8)
    plt.close(figure)
    return figure


def selective(curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """By recipe what `intervals.selective` gives: accuracy on the images that it answers, over the share that it answers."""
    figure, axis = plt.subplots(figsize=(6.5, 4))
    lowest = 0.1
    for recipe in sorted(curves, key=order):
        coverage, accuracy = curves[recipe]
        error = 100 * (1 - accuracy)
        style = STYLE.get(recipe, OTHER)
        axis.plot(100 * coverage, error.clip(min=0.01), color=style["color"], linestyle=style["linestyle"], label=recipe)
        lowest = min(lowest, error[len(error) // 2 :].min())
    axis.set_xlim(50, 100.5)
    axis.set_ylim(max(0.009, lowest), None)
    axis.set_yscale("log")
    axis.invert_yaxis()
    axis.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - error:.2f}".rstrip("0").rstrip(".")))
    axis.set(xlabel="answered (% of the test images, the surest first)", ylabel="accuracy on these (%)", title=title)
    axis.legend()
    plt.close(figure)
    return figure


def recall_by_labels(recall: dict[tuple[str, int], np.ndarray], classes: tuple[str, ...], recipe: str, of: str) -> Figure:
    """Of each class the share that was recognised, over the number of labels; `recall` by (recipe, number of labels).

    `of` says of how many seeds.
    """
    sizes = sorted(n for name, n in recall if name == recipe)
    figure, axis = plt.subplots(figsize=(7.5, 4))
    for c, name in enumerate(classes[:MOST_ROWS]):
        values = [100 * (1 - recall[recipe, n][c]) for n in sizes]
        axis.plot(sizes, np.clip(values, 0.05, None), marker="osv^DPX*<>"[c % 10], label=name, color=plt.cm.tab10(c % 10))
    _error_axis(axis)
    label_axis(axis, pd.Series(sizes))
    axis.set(ylabel="recognised (%)", title=f"{recipe}: each class by itself ({of})")
    axis.legend(fontsize=8, ncols=2)
    plt.close(figure)
    return figure


def label_axis(axis, sizes: pd.Series) -> None:
    """A logarithmic axis of the number of labels, with a tick at each measured size."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(sizes))))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("labelled images M (the rest unlabelled)")


def gains(gains_by_recipe: dict[str, pd.DataFrame], baseline: str = "supervised") -> Figure:
    """Accuracy gained over `baseline` on the same labelled images, in points, over the number of labels."""
    figure, axis = plt.subplots(figsize=(7.5, 3.6))
    for recipe, rows in gains_by_recipe.items():
        bars = 100 * (rows["high"] - rows["mean"]).fillna(0)
        axis.errorbar(rows["n_labels"], 100 * rows["mean"], yerr=bars, capsize=3, label=recipe, **STYLE.get(recipe, OTHER))
    axis.axhline(0, color="black", linewidth=1)
    axis.set_yscale("symlog", linthresh=1)
    axis.yaxis.set_major_locator(FixedLocator([-50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda gain, _: f"{gain:+g}" if gain else "0"))
    axis.yaxis.set_minor_locator(NullLocator())
    points = pd.concat(gains_by_recipe.values())
    label_axis(axis, points["n_labels"])
    axis.set_title(f"What the unlabelled images add to {baseline} ({seeds(points['n'])}; bars: 95 % interval)")
    axis.set_ylabel(f"points above {baseline}")
    axis.legend()
    plt.close(figure)
    return figure


def confusion_grid(matrices: dict[tuple[str, int], np.ndarray], classes: tuple[str, ...], of: str) -> Figure:
    """Confusion matrices, summed over seeds, `of` how many: a row for each recipe, a column for each number of labels."""
    recipes = sorted({recipe for recipe, _ in matrices}, key=order)
    sizes = sorted({n for _, n in matrices})
    figure, axes = plt.subplots(
        len(recipes), len(sizes), figsize=(2.3 * len(sizes), 2.5 * len(recipes)), squeeze=False, sharex=True, sharey=True
    )
    for row, recipe in zip(axes, recipes, strict=True):
        for axis, n in zip(row, sizes, strict=True):
            if (recipe, n) not in matrices:
                axis.axis("off")
                continue
            counts = matrices[recipe, n]
            _draw_confusion(axis, counts, classes, annotate=False)
            axis.set_title(f"{recipe}, M = {n}\n{100 * np.trace(counts) / counts.sum():.1f} %", fontsize=9)
            axis.tick_params(labelsize=7)
            axis.label_outer()
    figure.suptitle(f"Which classes are taken for which ({of}), and how many images are read rightly")
    plt.close(figure)
    return figure


def ablation(changes: pd.DataFrame) -> Figure:
    """What `budget.ablation` measured: a panel for each recipe that was changed, a row for each change, a mark for each M."""
    baselines = list(changes["baseline"].unique())
    rows = [changes[changes["baseline"] == baseline] for baseline in baselines]
    heights = [part["recipe"].nunique() for part in rows]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(7.5, 0.9 + 0.42 * sum(heights)), height_ratios=heights, squeeze=False, sharex=True
    )
    sizes = sorted(changes["n_labels"].unique())
    for axis, baseline, part in zip(axes.flat, baselines, rows, strict=True):
        names = list(part["recipe"].unique())
        for i, n in enumerate(sizes):
            of_size = part[part["n_labels"] == n]
            height = [names.index(name) + 0.22 * (i - (len(sizes) - 1) / 2) for name in of_size["recipe"]]
            bars = 100 * of_size["std"].fillna(0)
            style = {"fmt": "os^Dv"[i % 5], "color": plt.cm.viridis(0.85 * i / max(1, len(sizes) - 1)), "markersize": 5}
            axis.errorbar(100 * of_size["mean"], height, xerr=bars, capsize=2, label=f"M = {n}", **style)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_yticks(range(len(names)), [name.removeprefix(f"{baseline}-").replace("-", " ") for name in names])
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(f"`{baseline}` …", loc="left", fontsize=10)
        axis.set_xscale("symlog", linthresh=0.2)
        axis.xaxis.set_major_locator(FixedLocator([-50, -20, -10, -5, -2, -1, -0.5, -0.2, 0, 0.2, 0.5, 1, 2, 5]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda points, _: f"{points:+g}" if points else "0"))
        axis.xaxis.set_minor_locator(NullLocator())
    axes.flat[0].legend(fontsize=8)
    axes.flat[-1].set_xlabel("points of test accuracy gained (bars: one standard deviation over seeds)")
    plt.close(figure)
    return figure


def draws(by_draw: pd.DataFrame) -> Figure:
    """Accuracy over the number of labels, a line for each way to choose them, a panel for each recipe."""
    names = sorted(by_draw["recipe"].unique(), key=order)
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False)
    looks = {"random": ("o", "-", "#666666"), "class-balanced": ("s", "--", "#56B4E9"), "typical": ("^", "-", "#CC79A7")}
    for axis, name in zip(axes.flat, names, strict=True):
        for draw, rows in by_draw[by_draw["recipe"] == name].groupby("draw", observed=True):
            marker, line, color = looks[draw]
            axis.plot(rows["n_labels"], 100 * (1 - rows["mean"]), marker=marker, linestyle=line, color=color, label=draw)
            bounds = (100 * (1 - rows["mean"]), 100 * (1 - rows["worst"]))
            axis.fill_between(rows["n_labels"], *bounds, color=color, alpha=0.15, linewidth=0)
        axis.set(title=name, xscale="log")
        _error_axis(axis)
        label_axis(axis, by_draw["n_labels"])
        axis.legend(title="which images are labelled")
    axes[0, 0].set_ylabel("test accuracy, per cent")
    figure.suptitle(f"Accuracy by choice of the labelled images ({seeds(by_draw['n'])}; shade: down to the worst)", fontsize=11)
    plt.close(figure)
    return figure


def label_noise(by_fraction: pd.DataFrame) -> Figure:
    """Accuracy over the share of wrong labels, a line for each recipe and size; dotted, what copying the labels would give."""
    figure, axis = plt.subplots(figsize=(6.5, 3.8))
    sizes = sorted(by_fraction["n_labels"].unique())
    for (name, n), rows in by_fraction.groupby(["recipe", "n_labels"]):
        style = STYLE.get(name, OTHER) | {"linestyle": ("-", "--", ":")[sizes.index(n) % 3]}
        axis.errorbar(
            100 * rows["label_noise"],
            100 * rows["mean"],
            100 * rows["std"].fillna(0),
            capsize=3,
            label=f"{name}, M = {n}",
            **style,
        )
    share = 100 * by_fraction["label_noise"].max()
    axis.plot([0, share], [100, 100 - share], color="black", linewidth=0.8, linestyle=":", label="as wrong as its labels")
    axis.set(xlabel="wrong labels, per cent", ylabel="test accuracy, per cent")
    axis.set_title(f"What wrong labels cost ({seeds(by_fraction['n'])}; bars: standard deviation)")
    axis.legend()
    plt.close(figure)
    return figure


def cross_validation(estimates: pd.DataFrame) -> Figure:
    """What the labels alone say of the accuracy, with its interval, beside what the test images say; a panel for each recipe."""
    names = sorted(estimates["recipe"].unique(), key=order)
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=True):
        rows = estimates[estimates["recipe"] == name].sort_values(["n_labels", "seed"]).reset_index(drop=True)
        middle = 100 * rows["estimate"]
        reach = [middle - 100 * rows["low"], 100 * rows["high"] - middle]
        style = STYLE.get(name, OTHER) | {"linestyle": "none"}
        axis.errorbar(rows.index - 0.1, middle, reach, capsize=3, label="from the labels alone, 95 % interval", **style)
        axis.plot(rows.index + 0.1, 100 * rows["truth"], "_", color="black", markersize=14, label="on the test images")
        axis.set(title=name, xticks=rows.index, xticklabels=rows["n_labels"], xlabel="labelled images M, a column a run")
        axis.margins(x=0.2)
        axis.legend(loc="lower right")
    axes[0, 0].set_ylabel("accuracy, per cent")
    figure.suptitle("Accuracy estimated from the labels alone (each of five parts held back once), and the truth", fontsize=11)
    plt.close(figure)
    return figure


def bench(found: dict) -> Figure:
    """The training loop's speed against that of the report's, and where its time goes."""
    rates = found["rates"]
    bars = {"the report's loop": ("printed", OTHER["color"])} | {n: (n, STYLE[n]["color"]) for n in STYLE if n in rates}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
    for position, (key, color) in enumerate(bars.values()):
        left.barh(position, rates[key], color=color)
        left.text(rates[key], position, f" {rates[key]:.0f}", va="center")
    left.set(
        yticks=range(len(bars)), yticklabels=list(bars), xlabel="images a second, all cores", title="How fast it trains (medians)"
    )
    left.set_xlim(right=1.25 * max(rates[key] for key, _ in bars.values()))
    kernels, shares = zip(*found["profile"], strict=True)
    right.barh(kernels, [100 * share for share in shares], color=STYLE["best"]["color"])
    right.set(xlabel="per cent of the time of `best`, the five largest", title="Where the time goes")
    for axis in (left, right):
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
    plt.close(figure)
    return figure


def _by_recipe(curve: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return sorted(curve.groupby("recipe"), key=lambda item: order(item[0]))


def order(recipe: str) -> tuple[int, str]:
    """Recipes in the order of STYLE, others after them by name."""
    known = list(STYLE)
    return (known.index(recipe) if recipe in known else len(known), recipe)
