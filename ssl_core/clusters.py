"""Clusters of the graph, found without labels: a space in which they lie apart, their number, and how well they match classes.

Images that are joined by many short ways lie close in the space of the graph's leading eigenvectors (spectral clustering, Ng et
al. 2001; diffusion maps, Coifman & Lafon 2006).
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.linalg import eigsh
from torch import Tensor

from .graph import Neighbors, adjacency, normalized

DIMENSIONS = 20  # eigenvectors of the space
ALPHA = 0.999  # as of label spreading: the weight of an eigenvector is that which spreading gives it
SPARE = 12  # eigenvectors
DENSE = 1500  # images
MOST = 20  # eigenvalues among which the largest gap is looked for
RESAMPLES = 20  # of the graph's edges, to see how sure the number of clusters is
CONNECTED = 1e-3  # distance of an eigenvalue from 1


@dataclass(frozen=True)
class Spectrum:
    """The leading eigenvalues (D,), descending from 1, and eigenvectors (N, D) of the normalised adjacency."""

    values: np.ndarray
    vectors: np.ndarray

    @property
    def embedding(self) -> np.ndarray:
        """A direction (N, D), float32, for each image: the cosine of two is large if a label would spread between them."""
        rows = self.vectors / np.sqrt(1 - ALPHA * self.values.clip(0, 1))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)


def spectrum(weights: sparse.csr_matrix, dimensions: int = DIMENSIONS) -> Spectrum:
    """The spectrum of a graph with symmetric `weights` (N, N), normalised: a pure function of its arguments.

    Lanczos' method (Lehoucq et al. 1998) starts from one vector and can overlook one of several equal eigenvalues, such as those
    of the unconnected parts of a graph. It is therefore asked for SPARE more than are returned; up to DENSE images, all
    eigenvectors are computed instead.
    """
    n, matrix = weights.shape[0], normalized(weights).tocsr()
    if n <= DENSE:
        values, vectors = np.linalg.eigh(matrix.toarray())
    else:
        start = np.random.default_rng(0).standard_normal(n)
        values, vectors = eigsh(matrix, k=dimensions + SPARE, which="LA", tol=1e-4, v0=start)
    order = np.argsort(-values)[:dimensions]
    return Spectrum(values[order], vectors[:, order])


_LEADING: WeakKeyDictionary[Neighbors, Spectrum] = WeakKeyDictionary()


def leading(neighbors: Neighbors) -> Spectrum:
    """The spectrum of the graph, which is kept as long as the graph: each round of labels needs it."""
    if neighbors not in _LEADING:
        _LEADING[neighbors] = spectrum(adjacency(neighbors))
    return _LEADING[neighbors]


def embedding(neighbors: Neighbors) -> np.ndarray:
    """The embedding (N, D) of the graph, see Spectrum."""
    return leading(neighbors).embedding


@dataclass(frozen=True)
class Count:
    """An estimated number of clusters: `low` to `high` in nine of ten resampled graphs; the fraction `share` says `value`."""

    value: int
    low: int
    high: int
    share: float

    @property
    def sure(self) -> bool:
        """Whether most resampled graphs agree, and none is far off; otherwise the images do not tell."""
        return self.share >= 0.5 and self.high - self.low <= 2


def estimate(neighbors: Neighbors, seed: int = 0) -> Count:
    """The number of clusters of the graph: that of the eigenvalues before the largest gap (von Luxburg 2007, section 8.3).

    How sure that is show graphs whose edges are weighted at random (the Bayesian bootstrap, Rubin 1981). From 2 to MOST − 1.
    """
    weights, random = sparse.triu(adjacency(neighbors)).tocsr(), np.random.default_rng([seed, 3])
    counts = []
    for _ in range(RESAMPLES):
        resampled = weights.copy()
        resampled.data *= random.exponential(size=len(weights.data))
        counts.append(largest_gap(spectrum((resampled + resampled.T).tocsr(), MOST).values))
    low, high = np.quantile(counts, [0.05, 0.95], method="nearest").tolist()
    value = int(np.bincount(counts).argmax())
    return Count(value, int(low), int(high), counts.count(value) / RESAMPLES)


def largest_gap(values: np.ndarray) -> int:
    """The number of eigenvalues, at least 2, before the largest gap of `values` (D,), which descend from 1.

    The distances of eigenvalues from 1 grow as a power of their number where there are no clusters (Weyl's law): a gap is large
    if the distance grows by a high power there. Below CONNECTED, parts of the graph count as unconnected.
    """
    distance = np.log((1 - values).clip(CONNECTED))
    number = np.log(np.arange(1, len(values) + 1))
    return 2 + int((np.diff(distance[1:]) / np.diff(number[1:])).argmax()) if len(values) > 2 else 2


@dataclass(frozen=True)
class Clustering:
    """How well clusters match classes, on the test images; NaN without any that has a class."""

    names: tuple[int, ...]  # the class that each cluster is named by, −1 for one that is left over
    accuracy: float  # of the best one-to-one naming
    ari: float  # adjusted Rand index (Hubert & Arabie 1985)
    nmi: float  # normalised mutual information, by the arithmetic mean of the entropies


def compare(p: Tensor, y: Tensor, n_classes: int) -> Clustering:
    """Clusters, by their probabilities `p` (N, K), beside classes `y` (N,)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # imported late: it costs a second

    predictions = p.argmax(dim=1)
    names = best_names(predictions, y, p.shape[1], n_classes)
    if not len(y):
        return Clustering(tuple(names.tolist()), *[float("nan")] * 3)
    accuracy = (names[predictions] == y).float().mean().item()
    ari, nmi = (score(y.numpy(), predictions.numpy()) for score in (adjusted_rand_score, normalized_mutual_info_score))
    return Clustering(tuple(names.tolist()), accuracy, float(ari), float(nmi))


def best_names(cluster: Tensor, y: Tensor, n_clusters: int, n_classes: int) -> Tensor:
    """The class (n_clusters,) of each cluster in the one-to-one naming that is right for most images; −1 where none is left.

    `cluster` and `y` (N,) are the clusters and classes of images (the Hungarian method, Kuhn 1955).
    """
    counts = torch.bincount(cluster * n_classes + y, minlength=n_clusters * n_classes).reshape(n_clusters, n_classes)
    clusters, classes = linear_sum_assignment(-counts.numpy())
    names = torch.full((n_clusters,), -1)
    names[clusters] = torch.from_numpy(classes)
    return names


def by_class(p: Tensor, names: Tensor, n_classes: int) -> Tensor:
    """The probabilities `p` (N, K) of clusters, each in the column of the class that `names` (K,) it by.

    (N, K), or (N, n_classes) if that is more: clusters without a name follow, and a class that names none has probability 0.
    """
    columns, without = names.clone(), names < 0
    columns[without] = torch.arange(n_classes, n_classes + int(without.sum()))
    sorted_p = p.new_zeros(len(p), max(n_classes, len(names)))
    sorted_p[:, columns] = p
    return sorted_p
