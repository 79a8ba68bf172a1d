"""Which images to label, before any has a label: those that together stand for all others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .clusters import embedding
from .datasets.checks import check_n_labels
from .graph import Neighbors

REFERENCE = 6000  # images, at most, that are to be stood for: a random half of all, another for another seed
CANDIDATES = 3000  # images, at most, of which the next one is the best
FEW = 50  # labels, at most, for which k-means improves the selection as a whole


@dataclass(frozen=True)
class Selection:
    """Images to label, in the order of their selection."""

    index: Tensor  # (n,), int64
    stands_for: Tensor  # (n,), the number of images that are closer to it than to any other selected or labelled one
    typicality: Tensor  # (n,), mean similarity to the nearest neighbours


def typical(neighbors: Neighbors, n: int, seed: int, labeled: Tensor | None = None) -> Selection:
    """The `n` images that together stand best for all others, selected without labels.

    One after the other, each raises most the similarity of a random half of all images to the nearest selected one (MaxHerding,
    Bae et al. 2024; the kernel is the cosine in the embedding of the graph, times typicality⁴). Up to FEW, these are the seeds
    of a k-means clustering of the embedding, and the most typical image of each cluster is selected, the largest cluster first
    (as TypiClust, Hacohen et al. 2022). Images in `labeled` (indices) count as selected, and are not selected again. Raises
    ValueError if `n` is not a whole number from 1 to the number of images left.
    """
    labeled = torch.empty(0, dtype=torch.int64) if labeled is None else labeled
    check_n_labels(n, len(neighbors.index) - len(labeled))
    space, typicality = embedding(neighbors), neighbors.similarity.mean(dim=1).numpy()
    before = labeled.numpy()
    chosen = _herd(space, neighbors, typicality, n, seed, before)
    if not len(before) and 1 < n <= FEW:
        chosen = _medoids(space, typicality, chosen)
        if len(chosen) < n:  # many images are the same
            chosen = np.concatenate([chosen, _herd(space, neighbors, typicality, n - len(chosen), seed, chosen)])
    stands_for = torch.from_numpy(represented(space, chosen, before))
    return Selection(torch.from_numpy(chosen), stands_for, torch.from_numpy(typicality[chosen]))


def represented(space: np.ndarray, chosen: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The number of images (n,) that are closer to each of those `chosen` than to any other of them and of those `before`."""
    anchors = space[np.concatenate([chosen, before])]
    nearest = np.concatenate([(part @ anchors.T).argmax(axis=1) for part in np.array_split(space, 20)])
    return np.bincount(nearest, minlength=len(chosen))[: len(chosen)]


def _herd(space: np.ndarray, neighbors: Neighbors, typicality: np.ndarray, n: int, seed: int, before: np.ndarray) -> np.ndarray:
    """The indices (n,) of the images that, one after the other, raise most the similarity to those selected `before`."""
    order = np.random.default_rng([seed, 2]).permutation(len(space))
    reference = space[order[: min(REFERENCE, (len(order) + 1) // 2)]]
    weight = (typicality.clip(0) ** 4).astype(np.float32)

    def kernel(candidates: np.ndarray) -> np.ndarray:
        return (reference @ space[candidates].T).clip(0) * weight[candidates]

    reached = np.zeros(len(reference), np.float32)
    for part in np.array_split(before, len(before) // CANDIDATES + 1):
        reached = np.maximum(reached, kernel(part).max(axis=1, initial=0))
    chosen: list[int] = []
    for candidates in _candidates(neighbors, typicality, before):
        similarity = kernel(candidates)
        gains = np.maximum(similarity - reached[:, None], 0).sum(axis=0, dtype=np.float64)
        for _ in range(min(n - len(chosen), len(candidates))):
            best = _best(gains, similarity, reached)
            chosen.append(int(candidates[best]))
            reached, gains[best] = np.maximum(reached, similarity[:, best]), -1
        if len(chosen) == n:
            break
    return np.array(chosen, dtype=np.int64)


def _best(gains: np.ndarray, similarity: np.ndarray, reached: np.ndarray) -> int:
    """The candidate with the largest gain now; `gains` (C,) hold earlier ones, which bound today's from above (Minoux 1978)."""
    fresh = np.zeros(len(gains), bool)
    while not fresh[best := int(gains.argmax())]:
        gains[best] = np.maximum(similarity[:, best] - reached, 0).sum(dtype=np.float64)
        fresh[best] = True
    return best


def _candidates(neighbors: Neighbors, typicality: np.ndarray, before: np.ndarray) -> Iterator[np.ndarray]:
    """The images that are more typical than their neighbours, then the others, the most typical first; CANDIDATES at a time."""
    free = np.ones(len(typicality), bool)
    free[before] = False
    peak = typicality >= typicality[neighbors.index.numpy()].max(axis=1)
    order = np.argsort(-typicality, kind="stable")
    for group in (order[(peak & free)[order]], order[(~peak & free)[order]]):
        for start in range(0, len(group), CANDIDATES):
            yield group[start : start + CANDIDATES]


def _medoids(space: np.ndarray, typicality: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The most typical image of each cluster of a k-means clustering that begins at the images `seeds`, the largest first."""
    from sklearn.cluster import KMeans  # imported late: it costs a second, and most runs do not need it
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the same for any number of threads
        cluster = KMeans(len(seeds), init=space[seeds], n_init=1).fit_predict(space)
    members = [np.flatnonzero(cluster == c) for c in range(len(seeds))]
    members = sorted((each for each in members if len(each)), key=len, reverse=True)
    return np.array([each[typicality[each].argmax()] for each in members], dtype=np.int64)
