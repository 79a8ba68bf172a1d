"""Which images to label, before any has a label: those that together stand for all others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .clusters import embedding
from .datasets.checks import check_n_labels
from .graph import Neighbors

REFERENCE = 6000  # images, at most, that are to be stood for: a random half of all, another for another seed
CANDIDATES = 3000  # images, at most, of which the next one is the best
FEW = 20  # labels, at most, that are to find the clusters, of which the embedding knows no more; later ones cover the images


@dataclass(frozen=True)
class Selection:
    """Images to label, in the order of their selection."""

    index: Tensor  # (n,), int64
    stands_for: Tensor  # (n,), the number of images that are closer to it than to any other selected or labelled one
    typicality: Tensor  # (n,), mean similarity to the nearest neighbours


@dataclass(frozen=True)
class Space:
    """Where images that are alike lie close: `rows` (N, D) of length one, and the `kernel` of their cosines, 0 to 1.

    A selected image's `similarity` to others, or the `gain` by it, is multiplied by a power of its typicality.
    """

    rows: np.ndarray
    kernel: Callable[[np.ndarray], np.ndarray]
    similarity: int
    gain: int


def of_clusters(neighbors: Neighbors) -> Space:
    """The embedding of the graph: images of one cluster are almost the same there."""
    return Space(embedding(neighbors), lambda cosine: cosine.clip(0), similarity=4, gain=0)


def of_images(neighbors: Neighbors) -> Space:
    """The features that the graph joins, with a Gaussian kernel, σ = 1: images of one cluster differ, too."""
    rows = neighbors.features.to(torch.float32, copy=True)
    rows /= rows.norm(dim=1, keepdim=True).clamp(min=1e-12)  # in place: of a million images, a copy is 1.4 GB
    return Space(rows.numpy(), lambda cosine: np.exp(2 * (cosine - 1)), similarity=0, gain=4)


def typical(neighbors: Neighbors, n: int, seed: int, labeled: Tensor | None = None) -> Selection:
    """The `n` images that together stand best for all others, selected without labels: see `cover`.

    Up to FEW, without any before them, these are the seeds of a k-means clustering of the embedding, and the most typical image
    of each cluster is selected, the largest cluster first (as TypiClust, Hacohen et al. 2022). Images in `labeled` (indices)
    count as selected, and are not selected again. Raises ValueError if `n` is not a whole number from 1 to the number of images
    left.
    """
    before = np.empty(0, np.int64) if labeled is None else labeled.numpy()
    check_n_labels(n, len(neighbors.index) - len(before))
    typicality = typicality_of(neighbors)
    first = before[:0] if len(before) else cover(neighbors, min(n, FEW), seed, before, FEW)
    if len(first) > 1:
        first = _medoids(embedding(neighbors), typicality, first)  # fewer, if many images are the same
    rest = cover(neighbors, n - len(first), seed, np.concatenate([before, first]), FEW)
    chosen = np.concatenate([first, rest])
    return Selection(torch.from_numpy(chosen), stands_for(neighbors, chosen, before), torch.from_numpy(typicality[chosen]))


def typicality_of(neighbors: Neighbors) -> np.ndarray:
    """The mean similarity (N,) of each image to its nearest neighbours."""
    return neighbors.similarity.mean(dim=1).numpy()


def cover(neighbors: Neighbors, n: int, seed: int, before: np.ndarray, few: int, worth: np.ndarray | None = None) -> np.ndarray:
    """The indices (n,) of the images that together with those selected `before` cover the most: see `herd`.

    The first `few` of both cover the clusters; all others the images, among which there are differences within a cluster.
    """
    first = min(n, max(0, few - len(before)))
    chosen = np.empty(0, np.int64)
    for space, number in ((of_clusters, first), (of_images, n - first)):
        if number:
            selected = np.concatenate([before, chosen])
            new = herd(space(neighbors), neighbors, number, seed, selected, worth)
            chosen = np.concatenate([chosen, new])
    return chosen


def stands_for(neighbors: Neighbors, chosen: np.ndarray, before: np.ndarray) -> Tensor:
    """The number of images (n,) that are closer to each of those `chosen` than to any other of them and of those `before`."""
    anchored = np.concatenate([chosen, before])
    rows = (of_clusters if len(anchored) <= FEW else of_images)(neighbors).rows
    anchors = rows[anchored]
    nearest = np.concatenate([(part @ anchors.T).argmax(axis=1) for part in np.array_split(rows, 20)])
    return torch.from_numpy(np.bincount(nearest, minlength=len(chosen))[: len(chosen)])


def herd(
    space: Space, neighbors: Neighbors, n: int, seed: int, before: np.ndarray, worth: np.ndarray | None = None
) -> np.ndarray:
    """The indices (n,) of the images that, one after the other, raise most the similarity to those selected `before`.

    That is the sum of the similarities of a random half of all images, each times its `worth` (N,), to the nearest selected one
    (MaxHerding, Bae et al. 2024).
    """
    typicality = typicality_of(neighbors)
    order = np.random.default_rng([seed, 2]).permutation(len(space.rows))
    order = order[: min(REFERENCE, (len(order) + 1) // 2)]
    reference = space.rows[order]
    inside, outside = ((typicality.clip(0) ** power).astype(np.float32) for power in (space.similarity, space.gain))
    shares = np.ones(len(order), np.float32) if worth is None else worth[order].astype(np.float32)

    def similar(candidates: np.ndarray) -> np.ndarray:
        return space.kernel(reference @ space.rows[candidates].T) * inside[candidates]

    reached = np.zeros(len(reference), np.float32)
    for part in np.array_split(before, len(before) // CANDIDATES + 1):
        reached = np.maximum(reached, similar(part).max(axis=1, initial=0))
    chosen: list[int] = []
    for candidates in _candidates(neighbors, typicality, before):
        similarity = similar(candidates)
        gains = (np.maximum(similarity - reached[:, None], 0) * shares[:, None]).sum(axis=0, dtype=np.float64)
        gains *= outside[candidates]
        for _ in range(min(n - len(chosen), len(candidates))):
            best = _best(gains, similarity, reached, shares, outside[candidates])
            chosen.append(int(candidates[best]))
            reached, gains[best] = np.maximum(reached, similarity[:, best]), -1
        if len(chosen) == n:
            break
    return np.array(chosen, dtype=np.int64)


def _best(gains: np.ndarray, similarity: np.ndarray, reached: np.ndarray, shares: np.ndarray, weight: np.ndarray) -> int:
    """The candidate with the largest gain now; `gains` (C,) hold earlier ones, which bound today's from above (Minoux 1978)."""
    fresh = np.zeros(len(gains), bool)
    while not fresh[best := int(gains.argmax())]:
        gains[best] = (np.maximum(similarity[:, best] - reached, 0) * shares).sum(dtype=np.float64) * weight[best]
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
