"""Which images to label, before any has a label: those that together stand for all others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from .clusters import embedding
from .datasets.checks import check_n_labels
from .graph import Neighbors, balanced

REFERENCE = 6000  # images, at most, that are to be stood for: a random half of all, another for another seed
CANDIDATES = 3000  # images, at most, of which the next one is the best
SOFTNESS = (0.2, 0.02)  # of `even_clusters`, first and last: the difference of cosines at which a share is less by a factor of e
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


def typical(neighbors: Neighbors, n: int, seed: int, labeled: Tensor | None = None, *, even: bool = False) -> Selection:
    """The `n` images that together stand best for all others, selected without labels: see `cover`.

    Up to FEW, without any before them, these are the seeds of a k-means clustering of the embedding, and the most typical image
    of each cluster is selected, the largest cluster first (as TypiClust, Hacohen et al. 2022). If there are known to be `n`
    classes, equally frequent, clusters can be `even`, too: see `even_clusters`; their image is also near the center. Images in
    `labeled` (indices) count as selected, and are not selected again. Raises ValueError if `n` is not a whole number from 1 to
    the number of images left.
    """
    before = np.empty(0, np.int64) if labeled is None else labeled.numpy()
    check_n_labels(n, len(neighbors.index) - len(before))
    typicality = typicality_of(neighbors)
    first = before[:0] if len(before) else cover(neighbors, min(n, FEW), seed, before, FEW)
    if len(first) > 1:
        rows = embedding(neighbors)
        with threadpool_limits(1):  # the same for any number of threads
            as_even = even and n <= FEW
            cluster, fit = even_clusters(rows, first, seed) if as_even else (_clusters(rows, first), np.ones(len(rows)))
        first = _medoids(cluster, fit * typicality)  # fewer, if many images are the same
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


def _medoids(cluster: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """The image of each `cluster` (N,) that is worth most (N,), the largest cluster first."""
    members = [np.flatnonzero(cluster == c) for c in range(cluster.max() + 1)]
    members = sorted((each for each in members if len(each)), key=len, reverse=True)
    return np.array([each[worth[each].argmax()] for each in members], dtype=np.int64)


def _clusters(rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The clusters (N,) of `rows` (N, D) by k-means that begins at the rows `seeds` (K,)."""
    from sklearn.cluster import KMeans  # imported late: it costs a second, and most runs do not need it

    return KMeans(len(seeds), init=rows[seeds], n_init=1).fit_predict(rows)


def even_clusters(rows: np.ndarray, seeds: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters (N,) of about the same size of `rows` (N, D), of length one, and the cosine (N,) of each row to its center.

    k-means that begins at the rows `seeds` (K,), in which each row belongs in part to every center, and all centers get as much:
    entropic optimal transport (Cuturi 2013), as in SwAV (Caron et al. 2020). At first cosines matter little, then more and more
    (deterministic annealing, Rose 1998): so the seeds decide less. The centers are those of REFERENCE random rows.
    """

    def shares(part: np.ndarray, centers: np.ndarray, softness: float) -> np.ndarray:
        cosine = part @ centers.T
        return balanced(np.exp((cosine - cosine.max(axis=1, keepdims=True)) / softness), uniform_prior=True)

    centers, sample = rows[seeds], rows[np.random.default_rng([seed, 7]).permutation(len(rows))[:REFERENCE]]
    for softness in (*np.geomspace(*SOFTNESS, 30).tolist(), *[SOFTNESS[1]] * 10):
        centers = shares(sample, centers, softness).T @ sample
        centers /= np.linalg.norm(centers, axis=1, keepdims=True).clip(1e-12)
    cluster = shares(rows, centers, SOFTNESS[1]).argmax(axis=1)
    return cluster, (rows * centers[cluster]).sum(axis=1)
