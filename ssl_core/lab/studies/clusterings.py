"""Other clusterings than label spreading, on the same features: what they find without labels, and as candidates of `best`.

A clustering gives each image a cluster. As candidates, a cluster stands for the classes of the labelled images in it; where there
are none, any class may be right.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from ssl_core import graph, selection
from ssl_core.clusters import embedding
from ssl_core.data import Task
from ssl_core.graph import Neighbors
from ssl_core.losses import class_centroids

from .future_work import study
from .variants import Variant

COMPONENTS = 20  # principal ones of the features, for the densities of mixtures and HDBSCAN
SAMPLE = 10_000  # images that HDBSCAN clusters; the others follow the nearest of these
SMALLEST = 50  # images of a cluster of HDBSCAN, at least: where it is smaller, most images of a class have none
Find = Callable[[Neighbors, int], Tensor]


def _features(neighbors: Neighbors) -> np.ndarray:
    return neighbors.features.float().numpy()


@lru_cache(maxsize=1)
def _components(neighbors: Neighbors) -> np.ndarray:
    from sklearn.decomposition import PCA  # imported late, as are the others: they cost a second

    return PCA(COMPONENTS, random_state=0).fit_transform(_features(neighbors))


def k_means(neighbors: Neighbors, n: int) -> Tensor:
    """The cluster (N,) of each image by k-means of the features (Lloyd 1982), the best of ten starts."""
    return _k_means(_features(neighbors), n)


def _k_means(rows: np.ndarray, n: int) -> Tensor:
    from sklearn.cluster import KMeans

    return torch.from_numpy(KMeans(n, n_init=10, random_state=0).fit_predict(rows)).long()


def gaussian_mixture(neighbors: Neighbors, n: int) -> Tensor:
    """By a mixture of Gaussians with full covariances, of the features' principal components."""
    from sklearn.mixture import GaussianMixture

    return torch.from_numpy(GaussianMixture(n, random_state=0, n_init=3).fit_predict(_components(neighbors))).long()


def spectral(neighbors: Neighbors, n: int) -> Tensor:
    """By k-means in the space of the graph's leading eigenvectors (Ng, Jordan & Weiss 2001)."""
    return _k_means(embedding(neighbors), n)


def hdbscan(neighbors: Neighbors, _: int) -> Tensor:
    """By HDBSCAN (Campello, Moulavi & Sander 2013), which decides itself how many there are; −1 of noise."""
    from sklearn.cluster import HDBSCAN

    rows = _components(neighbors)
    chosen = np.random.default_rng(0).choice(len(rows), min(SAMPLE, len(rows)), replace=False)
    found = HDBSCAN(min_cluster_size=SMALLEST, copy=True).fit_predict(rows[chosen])
    sample, cluster = torch.from_numpy(rows[chosen]).float(), np.empty(len(rows), np.int64)
    for part in np.split(np.arange(len(rows)), range(1000, len(rows), 1000)):
        nearest = torch.cdist(torch.from_numpy(rows[part]).float(), sample).argmin(dim=1)
        cluster[part] = found[nearest.numpy()]
    return torch.from_numpy(cluster)


def spread(neighbors: Neighbors, n: int) -> Tensor:
    """By label spreading from `n` typical images: what `best` does without labels."""
    typical = selection.typical(neighbors, n, 0, even=True).index  # SETS have equally frequent classes
    return graph.spread(neighbors, typical, torch.arange(n), n).argmax(dim=1)


def by_labels(neighbors: Neighbors, task: Task, n_classes: int, find: Find) -> Tensor:
    """Class scores (N, n_classes): the share of each class among the labelled images of an image's cluster."""
    assert task.split  # of a task that experiment.prepare made
    cluster = kept(neighbors, n_classes, find) + 1  # 0: of no cluster
    counts = torch.zeros(int(cluster.max()) + 1, n_classes)
    counts.index_put_((cluster[task.split.labeled], task.y_l), torch.ones(len(task.y_l)), accumulate=True)
    counts[0] = 0
    counts[counts.sum(dim=1) == 0] = 1
    return (counts / counts.sum(dim=1, keepdim=True))[cluster]


@lru_cache(maxsize=8)
def kept(neighbors: Neighbors, n: int, find: Find) -> Tensor:
    """The clusters that `find` finds, once for all cells of a process."""
    return find(neighbors, n)


def centroids(neighbors: Neighbors, task: Task, n_classes: int) -> Tensor:
    """Class scores (N, n_classes), 1 for the class whose labelled images have the nearest mean, as in the report."""
    assert task.split  # of a task that experiment.prepare made
    features = neighbors.features.float()
    means = class_centroids(features[task.split.labeled], task.y_l)
    nearest = torch.cat([torch.cdist(part, means).argmin(dim=1) for part in features.split(5000)])
    return torch.nn.functional.one_hot(task.y_l.unique()[nearest], n_classes).float()


def _variant(summary: str, find: Find) -> Variant:
    return Variant(summary, ("best",), candidates=partial(by_labels, find=find), clusters=partial(kept, find=find))


VARIANTS = {
    "centroids": Variant("The nearest mean of the labelled images of a class, as in the report", ("best",), candidates=centroids),
    "k-means": _variant("k-means of the features", k_means),
    "gaussian-mixture": _variant("Gaussians with full covariances, of 20 principal components of the features", gaussian_mixture),
    "spectral": _variant("k-means of the graph's leading eigenvectors", spectral),
    "hdbscan": _variant("HDBSCAN of 20 principal components of the features", hdbscan),
    "typical": _variant("Label spreading from typical images, as `best` does without labels", spread),
}


STUDY = study(
    "clusterings",
    "Would another clustering do better?",
    "`best` spreads labels along the graph of neighbours. The others give it candidates from the same features.",
)
