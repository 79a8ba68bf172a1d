"""What is said of the images to label next: why each was chosen, how many classes there are, what more labels are worth."""

import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from ssl_core.clusters import Count
from ssl_core.datasets import tables
from ssl_core.graph import OUT_OF_DISTRIBUTION
from ssl_core.next_label import ClassAnswer, Suggestion, Worth, margin

from ..studies import intervals

UNSURE = 0.5  # margin between the two best classes below which both are named
SHORT = 0.5  # a class has too few labels if it has fewer than this share of those expected
# What stands in the column `why` if nobody typed there; the last ones were written by earlier versions.
WHY = (
    r"(stands for [\d,]+ images?( that no label reaches)?"
    r"|between .+ and .+: (the labels near it disagree|the trained run is unsure)"
    r"|probably .+, a class that has \d+ labels? of about \d+ expected"
    r"|(the most typical of|drawn at random from) \d+ similar images)"
)


def reasons(suggestion: Suggestion, y_l: Tensor, classes: Sequence[str], p: Tensor | None = None) -> list[str]:
    """Why each image was chosen, in words; `p` (N, C) are the probabilities of a trained run, if there is one."""
    images = [f"stands for {number:,} image{'s' * (number != 1)}" for number in suggestion.stands_for.tolist()]
    if not len(y_l):
        return images
    scores, best = suggestion.scores, suggestion.scores.argmax(dim=1).tolist()
    by_run = torch.zeros_like(scores) if p is None else p[suggestion.index]
    labels, expected = torch.bincount(y_l, minlength=len(classes)).tolist(), (suggestion.prior * len(y_l)).tolist()
    sentences = []
    for i, c in enumerate(best):
        if suggestion.mass[i] < OUT_OF_DISTRIBUTION:
            sentences.append(f"{images[i]} that no label reaches")
        elif margin(scores[i : i + 1]) < UNSURE:
            sentences.append(f"{_between(scores[i], classes)}: the labels near it disagree")
        elif p is not None and margin(by_run[i : i + 1]) < UNSURE:
            sentences.append(f"{_between(by_run[i], classes)}: the trained run is unsure")
        elif labels[c] < SHORT * expected[c]:
            has = tables.counted(labels[c], "label")
            sentences.append(f"probably {classes[c]}, a class that has {has} of about {expected[c]:.0f} expected")
        else:
            sentences.append(images[i])
    return sentences


def _between(scores: Tensor, classes: Sequence[str]) -> str:
    one, two = sorted(scores.topk(2).indices.tolist())
    return f"between {classes[one]} and {classes[two]}"


def how_many_classes(count: Count) -> str:
    """The estimated number of classes, or that the images do not tell."""
    if not count.sure:
        groups = f"{count.low} to {count.high} groups in nine of ten resampled graphs"
        return f"the images do not tell how many classes there are: {groups}"
    return f"about {count.value} classes ({count.low} to {count.high} in nine of ten resampled graphs)"


def next_round(worth: Worth | None, n: int, price: float) -> str:
    """What the next `n` labels are worth, and whether to stop at a `price`, the points of accuracy that a round must be worth."""
    if worth is None:
        are = "are" if n > 1 else "is"
        return f"what the next {tables.counted(n, 'label')} {are} worth can be said from {2 * n} labels of two classes on"
    points = f"{worth.points:.2f} points of accuracy ({worth.low:.2f} to {worth.high:.2f})"
    stop = f"stop, a round must be worth {price:g}" if worth.high < price else "go on"
    return f"the next {tables.counted(n, 'label')} are worth about {points}: {stop}"


def class_table(answers: Sequence[ClassAnswer], classes: Sequence[str]) -> pd.DataFrame:
    """The answers of each class, a row each: its labels, their recall by the other labels, and what more of them are worth."""
    rows = []
    for name, answer in zip(classes, answers, strict=True):
        recall = "no label"
        if answer.labels:
            low, high = intervals.wilson(answer.right / answer.labels, answer.labels)
            recall = f"{answer.right} of {answer.labels} ({100 * low:.0f} to {100 * high:.0f} %)"
        row = {
            "class": name,
            "recognised by the others": recall,
            "more of it": answer.more,
            "as many at random": _as_random(answer),
        }
        rows.append(row)
    return pd.DataFrame(rows).set_index("class")


def _as_random(answer: ClassAnswer) -> str:
    """How many random labels are worth as much as more of a class; that it can't be told, if the interval spans all."""
    if not math.isfinite(answer.at_random) or (answer.low < 1 and math.isinf(answer.high)):
        return "can't tell"
    low, number, high = (f"{each:.0f}" if math.isfinite(each) else "more" for each in (answer.low, answer.at_random, answer.high))
    return f"{number if answer.at_random >= 1 else 'less than 1'} ({low} to {high})"
