"""The images to label next, in view of the labels that are there; what the next round is worth; and which class is short.

Label spreading is linear until it balances the classes. What one label brings to every image is therefore computed once; what
would be known without some of the labels is then a sum of columns, and needs no solver.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import graph
from .clusters import spectrum
from .datasets.checks import check_n_labels
from .graph import Neighbors, adjacency
from .selection import typical

REFERENCE = 6000  # images, at most, that are to be stood for
CANDIDATES = 4000  # images, at most, of which the next one is the best
CERTAIN = 0.1  # the weight of an image whose class is certain, relative to one between two classes


@dataclass(frozen=True)
class Suggestion:
    """Images to label next, in the order of their selection, and what is known of each."""

    index: Tensor  # (n,), int64
    stands_for: Tensor  # (n,), the number of images that are closer to it than to any other selected or labelled one
    typicality: Tensor  # (n,), mean similarity to the nearest neighbours
    scores: Tensor  # (n, C), class scores by the labels; 0 without any label
    mass: Tensor  # (n,), label mass relative to the median image; 0 without any label


def suggest(
    neighbors: Neighbors,
    labeled: Tensor,
    y_l: Tensor,
    n: int,
    n_classes: int,
    seed: int,
    p: Tensor | None = None,
    uniform_prior: bool = True,
) -> Suggestion:
    """The `n` images to label next, where the images `labeled` (M,) have the classes `y_l` (M,).

    One after the other, each raises most the similarity of all images to the nearest selected or labelled one, as
    selection.typical does; but an image counts by how unsure its class is: 1 minus the margin between the two best classes of
    label spreading, and of `p` (N, C), the probabilities of a trained network, where given. Without any label it is
    selection.typical. Raises ValueError if `n` is not a whole number from 1 to the number of images left.
    """
    check_n_labels(n, len(neighbors.index) - len(labeled))
    if not len(labeled):
        selection = typical(neighbors, n, seed)
        nothing = torch.zeros(n, n_classes)
        return Suggestion(selection.index, selection.stands_for, selection.typicality, nothing, nothing.sum(dim=1))
    scores = graph.spread(neighbors, labeled, y_l, n_classes, uniform_prior=uniform_prior)
    unsure = 1 - margin(scores)
    if p is not None:
        unsure = torch.maximum(unsure, 1 - margin(p))
    typicality = neighbors.similarity.mean(dim=1)
    embedding = spectrum(adjacency(neighbors)).embedding
    weight = CERTAIN + (1 - CERTAIN) * unsure.numpy()
    chosen = torch.from_numpy(_herd(embedding, typicality.numpy(), neighbors.index.numpy(), weight, n, seed, labeled.numpy()))
    stands_for = torch.from_numpy(_stands_for(embedding, chosen.numpy(), labeled.numpy()))
    mass = graph.label_mass(neighbors, labeled, y_l)
    return Suggestion(chosen, stands_for, typicality[chosen], scores[chosen], mass[chosen])


def margin(scores: Tensor) -> Tensor:
    """The distance (N,) of the best from the second-best of the scores (N, C) of an image; 1 of a single class."""
    best = scores.topk(min(2, scores.shape[1]), dim=1).values
    return best[:, 0] - best[:, 1] if best.shape[1] > 1 else torch.ones(len(scores))


def _herd(
    embedding: np.ndarray, typicality: np.ndarray, index: np.ndarray, weight: np.ndarray, n: int, seed: int, before: np.ndarray
) -> np.ndarray:
    """The indices (n,) of the images that, one after the other, raise most the weighted similarity to those selected `before`."""
    sample = np.random.default_rng([seed, 2]).permutation(len(embedding))[:REFERENCE]
    reference, worth = embedding[sample], weight[sample].astype(np.float32)
    typical4 = (typicality.clip(0) ** 4).astype(np.float32)

    def kernel(images: np.ndarray) -> np.ndarray:
        return (embedding[images] @ reference.T).clip(0) * typical4[images, None]

    reached = np.zeros(len(reference), np.float32)
    for part in np.array_split(before, len(before) // CANDIDATES + 1):
        reached = np.maximum(reached, kernel(part).max(axis=0, initial=0))
    candidates = _candidates(typicality, index, before, n)
    similarity = kernel(candidates)
    chosen: list[int] = []
    for _ in range(n):
        gains = np.maximum(similarity - reached, 0) @ worth
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        reached = np.maximum(reached, similarity[chosen[-1]])
    return candidates[chosen]


def _candidates(typicality: np.ndarray, index: np.ndarray, before: np.ndarray, n: int) -> np.ndarray:
    """The most typical images of their neighbourhood that have no label; also others if these are fewer than `n`."""
    free = np.ones(len(typicality), bool)
    free[before] = False
    peak = typicality >= typicality[index].max(axis=1)
    order = np.lexsort((-typicality, ~peak))
    order = order[free[order]]
    return order[: max(n, min(CANDIDATES, int((peak & free).sum())))]


def _stands_for(embedding: np.ndarray, chosen: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The number of images (n,) that are closer to each of those `chosen` than to any other of them and of those `before`."""
    anchors = embedding[np.concatenate([chosen, before])]
    nearest = np.concatenate([(part @ anchors.T).argmax(axis=1) for part in np.array_split(embedding, 20)])
    return np.bincount(nearest, minlength=len(chosen))[: len(chosen)]
