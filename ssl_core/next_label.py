"""The images to label next, in view of the labels that are there; what the next round is worth; and which class is short.

Label spreading is linear until it balances the classes. What one label brings to every image is therefore computed once; what
would be known without some of the labels is then a sum of columns, and needs no solver.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import graph
from .datasets.checks import check_n_labels
from .graph import Neighbors
from .selection import FEW, cover, stands_for, typical, typicality_of

# Points of accuracy that a round gains per point of images whose class the round before it changed: what nine of ten rounds lie
# between, and the mean (simulated on random parts of MNIST and Fashion-MNIST; `label_users.py` does it again).
GAIN = (-0.2, 0.06, 0.8)
RESOLUTION = 0.05  # points that are added to the upper limit: a round that changed nothing may be followed by one that does
TRIES = 20  # of labels taken away at random
PER_CLASS = 2  # labels
CERTAIN = 0.1  # the weight of an image whose class is certain, relative to one between two classes


@dataclass(frozen=True)
class Suggestion:
    """Images to label next, in the order of their selection, and what is known of each."""

    index: Tensor  # (n,), int64
    stands_for: Tensor  # (n,), the number of images that are closer to it than to any other selected or labelled one
    typicality: Tensor  # (n,), mean similarity to the nearest neighbours
    scores: Tensor  # (n, C), class scores by the labels; 0 without any label
    mass: Tensor  # (n,), label mass relative to the median image; 0 without any label
    prior: Tensor  # (C,), the class frequencies by the labels; 0 without any


def suggest(
    neighbors: Neighbors,
    labeled: Tensor,
    y_l: Tensor,
    n: int,
    n_classes: int,
    seed: int,
    *,
    p: Tensor | None = None,
    passed: Tensor | None = None,
    uniform_prior: bool = True,
) -> Suggestion:
    """The `n` images to label next, where the images `labeled` (M,) have the classes `y_l` (M,).

    They are those that selection.typical selects, but an image counts by how unsure its class is: 1 minus the margin between the
    two best classes of label spreading, and of `p` (N, C), the probabilities of a trained network, where given. Images, instead
    of clusters, are covered as soon as there are PER_CLASS labels for each class seen: then few classes are unseen. Images in
    `passed` have no label and are not selected either. Without any label it is selection.typical, `even` if there are `n`
    classes and a `uniform_prior`. Raises ValueError if `n` is not a whole number from 1 to the number of images left.
    """
    before = labeled if passed is None else torch.cat([labeled, passed])
    check_n_labels(n, len(neighbors.index) - len(before))
    if not len(labeled):
        selection = typical(neighbors, n, seed, before, even=uniform_prior and n == n_classes)
        nothing = torch.zeros(n, n_classes)
        empty = nothing, nothing.sum(dim=1), nothing.sum(dim=0)
        return Suggestion(selection.index, selection.stands_for, selection.typicality, *empty)
    scores = graph.spread(neighbors, labeled, y_l, n_classes, uniform_prior=uniform_prior)
    unsure = 1 - margin(scores)
    if p is not None:
        unsure = torch.maximum(unsure, 1 - margin(p))
    chosen = select(neighbors, before.numpy(), n, seed, len(y_l.unique()), unsure.numpy())
    index, stand, typicality = torch.from_numpy(chosen), stands_for(neighbors, chosen, before.numpy()), typicality_of(neighbors)
    mass = graph.label_mass(neighbors, labeled, y_l)
    prior = graph.class_prior(scores)
    return Suggestion(index, stand, torch.from_numpy(typicality[chosen]), scores[index], mass[index], prior)


def select(neighbors: Neighbors, before: np.ndarray, n: int, seed: int, n_seen: int, unsure: np.ndarray) -> np.ndarray:
    """The indices (n,) of the images to label after those `before`, of `n_seen` classes; `unsure` (N,) is what each is worth."""
    return cover(neighbors, n, seed, before, min(PER_CLASS * n_seen, FEW), CERTAIN + (1 - CERTAIN) * unsure)


def margin(scores: Tensor) -> Tensor:
    """The distance (N,) of the best from the second-best of the scores (N, C) of an image; 1 of a single class."""
    best = scores.topk(min(2, scores.shape[1]), dim=1).values
    return best[:, 0] - best[:, 1] if best.shape[1] > 1 else torch.ones(len(scores))


@dataclass(frozen=True)
class Worth:
    """What the next round of labels is worth, in points of accuracy of label spreading on the training images."""

    points: float
    low: float  # nine of ten rounds were worth `low` to `high` in simulations
    high: float
    changed: float  # per cent of the images whose class changed by the last round


def worth(
    neighbors: Neighbors, labeled: Tensor, y_l: Tensor, n: int, n_classes: int, *, uniform_prior: bool = True
) -> Worth | None:
    """What the next `n` labels are worth, by what the last `n` of `labeled` (M,) changed; None below 2·n labels of two classes.

    A round can't be worth more than the share of the images whose class it changes (stabilizing predictions, Bloodgood &
    Vijay-Shanker 2009), and rounds change less and less. Most changes gain nothing: GAIN is what they did gain.
    """
    if len(labeled) < 2 * n or len(y_l[:-n].unique()) < 2:
        return None
    ways = [
        graph.spread(neighbors, labeled[:m], y_l[:m], n_classes, uniform_prior=uniform_prior) for m in (len(y_l) - n, len(y_l))
    ]
    return worth_of(*(scores.argmax(dim=1) for scores in ways))


def worth_of(before: Tensor, after: Tensor) -> Worth:
    """What a round after the last one is worth, where the last one changed the classes (N,) `before` to those `after`."""
    changed = 100 * (before != after).float().mean().item()
    low, points, high = (share * changed for share in GAIN)
    return Worth(points, low, high + RESOLUTION, changed)


@dataclass(frozen=True)
class Reach:
    """What each of M labels brings to each of N images, before classes are balanced: the columns of (I − αS)⁻¹."""

    columns: np.ndarray  # (N, M), float32
    labeled: np.ndarray  # (M,), indices
    y_l: np.ndarray  # (M,)
    uniform_prior: bool

    def scores(self, kept: np.ndarray) -> np.ndarray:
        """The scores (N, C) of the C classes present, by the labels `kept` (indices below M) alone, as of graph.spread."""
        shares = (self.y_l[kept, None] == np.unique(self.y_l[kept])).astype(np.float32)
        return graph.balanced(self.columns[:, kept] @ (shares / shares.sum(axis=0)), uniform_prior=self.uniform_prior)

    def classes(self, kept: np.ndarray) -> np.ndarray:
        """The class (N,) of each image by the labels `kept` alone."""
        return np.unique(self.y_l[kept])[self.scores(kept).argmax(axis=1)]

    def without_each(self) -> np.ndarray:
        """The class (M,) of each labelled image by all other labels."""
        everyone = np.arange(len(self.y_l))
        return np.array([self.classes(np.delete(everyone, i))[image] for i, image in enumerate(self.labeled)])


def reach(neighbors: Neighbors, labeled: Tensor, y_l: Tensor, *, uniform_prior: bool = True, alpha: float = 0.999) -> Reach:
    """What each label brings to each image."""
    system = graph.system(neighbors, alpha).astype(np.float32).tocsr()
    sources = np.zeros((len(neighbors.index), len(labeled)), np.float32)
    sources[labeled.numpy(), np.arange(len(labeled))] = 1
    return Reach(graph.solve(system, sources), labeled.numpy(), y_l.numpy(), uniform_prior)


def reach_of_all(neighbors: Neighbors, y: Tensor, *, uniform_prior: bool = True, alpha: float = 0.999) -> Reach:
    """As `reach`, as if all images were labelled, for a few thousand of them: a dense matrix (N, N), inverted as a whole."""
    columns = np.linalg.inv(graph.system(neighbors, alpha).astype(np.float32).toarray())
    return Reach(columns, np.arange(len(y)), y.numpy(), uniform_prior)


@dataclass(frozen=True)
class ClassAnswer:
    """What the labels say of one class."""

    labels: int  # that it has
    right: int  # of these, those that the other labels alone give this class
    more: int  # labels of the class, that are worth as much as
    at_random: float  # so many drawn at random, at the median; NaN where it can't be told
    low: float  # to `high` in nine of ten tries, 0 and infinity for fewer and more than can be tried
    high: float


def by_class(reached: Reach, n: int, n_classes: int, seed: int) -> list[ClassAnswer]:
    """What the labels say of each class, and how many random labels are worth as much as `n` more of it.

    Measured backwards: `n` labels of the class are taken away (half of them, if it has fewer than 2·n), or other numbers at
    random; as much is worth what changes as many images.
    """
    random, everyone = np.random.default_rng([seed, 4]), np.arange(len(reached.y_l))
    whole, alone = reached.classes(everyone), reached.without_each()

    def changes(pool: np.ndarray, number: int) -> list[float]:
        tries = [np.setdiff1d(everyone, random.choice(pool, number, replace=False)) for _ in range(TRIES)]
        return [float((reached.classes(kept) != whole).mean()) for kept in tries]

    numbers = np.unique(np.geomspace(1, max(1, len(everyone) // 2), 6).astype(int))
    at_random = np.maximum.accumulate([np.mean(changes(everyone, number)) for number in numbers]) if len(everyone) > 1 else None
    answers = []
    for c in range(n_classes):
        members = np.flatnonzero(reached.y_l == c)
        more = min(n, len(members) // 2)
        equal = np.full(TRIES, np.nan)
        if more and at_random is not None and at_random[-1] > at_random[0]:
            changed = np.array(changes(members, more))
            equal = np.where(changed > 0, np.interp(changed, at_random, numbers, left=0, right=np.inf), 0)
        low, median, high = np.quantile(equal, [0.05, 0.5, 0.95], method="nearest").tolist()
        answers.append(ClassAnswer(len(members), int((alone[members] == c).sum()), more, median, low, high))
    return answers
