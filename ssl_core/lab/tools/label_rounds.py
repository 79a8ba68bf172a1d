"""Labelling in rounds, played through on a data set whose classes are known: for the notebook that shows how."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ssl_core import data, next_label
from ssl_core.data import Images
from ssl_core.datasets.checks import check_whole
from ssl_core.graph import Neighbors

from . import label_advice, label_next


@dataclass(frozen=True)
class Course:
    """What was labelled, why, and what came of it."""

    labeled: Tensor  # (M,), indices in the order of selection
    table: pd.DataFrame  # a row per round, by the number of labels after it
    reasons: pd.DataFrame  # the first images of each round, with why they were chosen


def sizes(rounds: str) -> list[int]:
    """The numbers of images of the rounds in a text such as `10 10 30`; raises ValueError if one is not a whole number."""
    return [check_whole("rounds", int(each) if each.isdecimal() else each) for each in rounds.split() or [""]]


def label(
    images: Images, neighbors: Neighbors, numbers: Sequence[int], price: float, seed: int, *, uniform_prior: bool = True
) -> Course:
    """Rounds of `numbers` images, whose true classes are the labels; with what next_label.worth said before each."""
    labeled, rows, reasons, accuracy = torch.empty(0, dtype=torch.int64), [], [], 0.0
    for i, n in enumerate(numbers, 1):
        y_l, n_classes = images.y[labeled], len(images.classes)
        worth = next_label.worth(neighbors, labeled, y_l, n, n_classes, uniform_prior=uniform_prior)
        suggestion = next_label.suggest(neighbors, labeled, y_l, n, n_classes, seed, uniform_prior=uniform_prior)
        why = label_advice.reasons(suggestion, y_l, images.classes)
        names = images.class_names(images.y[suggestion.index])
        reasons += [{"round": i, "class": name, "why": text} for name, text in list(zip(names, why, strict=True))[:5]]
        labeled, before = torch.cat([labeled, suggestion.index]), accuracy
        accuracy = _accuracy(images, neighbors, labeled, uniform_prior=uniform_prior)
        expected: dict[str, object] = {"expected": None, "low": None, "high": None, "advice": "–"}
        if worth:
            advice = "stop" if worth.high < price else "go on"
            expected = {"expected": worth.points, "low": worth.low, "high": worth.high, "advice": advice}
        rows.append({"labels": len(labeled), "accuracy": accuracy, "gained": accuracy - before, **expected})
    table = pd.DataFrame(rows).set_index("labels")
    return Course(labeled, table.astype({"expected": float, "low": float, "high": float}).round(2), pd.DataFrame(reasons))


def _accuracy(images: Images, neighbors: Neighbors, labeled: Tensor, *, uniform_prior: bool) -> float:
    """The accuracy of label spreading on the training images that have a class, in per cent."""
    return 100 * label_next.accuracy(images, label_next.propagate(images, neighbors, labeled, uniform_prior=uniform_prior))


def curve(images: Images, neighbors: Neighbors, course: Course, n_seeds: int, *, uniform_prior: bool = True) -> Figure:
    """Accuracy over the number of labels, the expected worth of each round as a bar from where it began, and random images."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="labels", ylabel="accuracy of label spreading (%)", xscale="log")
    table = course.table
    axes.plot(table.index, table["accuracy"], marker="o", label="in rounds")
    for n in table.index:
        right = [
            _accuracy(images, neighbors, data.split(images.y, n, seed).labeled, uniform_prior=uniform_prior)
            for seed in range(n_seeds)
        ]
        axes.plot([n] * n_seeds, right, "x", color="gray", label="random images" if n == table.index[0] else None)
    begun = table["accuracy"].shift().dropna()
    known = table.loc[begun.index].dropna()
    axes.vlines(
        known.index, *(begun[known.index] + known[each] for each in ("low", "high")), linewidth=3, alpha=0.4, label="expected"
    )
    for n in table.index[table["advice"] == "stop"][:1]:
        axes.annotate("stop before this round", (n, table.loc[n, "accuracy"]), (0, -25), textcoords="offset points", ha="right")
    axes.set_xticks(table.index, map(str, table.index))
    axes.minorticks_off()
    axes.legend()
    return figure
