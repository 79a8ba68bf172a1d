"""Clustering without labels: features that ignore distortions, a graph of nearest neighbours, labels spread along it.

The report pulls each unlabelled image towards the nearest class mean, in features that a few labels have shaped. Here the
features are learned from all images and no label, and nearness is followed from image to image, along a cluster's own shape.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import Tensor, nn

from .data import FullBatches, check_n_labels
from .losses import contrastive
from .model import EVALUATION_BATCH, N_HIDDEN, untrained
from .optim import Optimizers
from .recipes import Pretraining, half_cosine

FAR = 0.25  # of what of labels arrives at the median image; at digits far more does, at clothes among them far less
COMPARED = 2000  # images with as many others at a time, while the nearest are searched
MOST_CLUSTERS = 500  # into which images are divided to choose typical ones; TypiClust's bound


class Encoder(nn.Module):
    """The report's network up to its first linear layer, and two more on top that only the contrastive loss sees."""

    def __init__(self, seed: int, dimensions: int, channels: int = 1):
        super().__init__()
        self.net = untrained(seed, N_HIDDEN, channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(N_HIDDEN, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """What is compared, (N, dimensions), of images `x` (N, C, 28, 28)."""
        return self.projection(F.relu(self.net(x)[0]))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """What the first linear layer makes of images `x`, after its ReLU: (N, 300), without gradient."""
        return torch.cat([F.relu(self.net.linear1(self.net(part)[1])) for part in x.split(EVALUATION_BATCH)])


def pretrain(x: Tensor, settings: Pretraining, on_step: Callable[[int, Tensor], None] = lambda step, loss: None) -> Encoder:
    """An encoder that has learned, without labels, that two distorted views of an image (N, C, 28, 28) are the same thing.

    A pure function of the arguments, their device and the number of threads; `on_step(step, loss)` is called after each step.
    """
    model = Encoder(settings.seed, settings.dimensions, x.shape[1]).to(x.device)
    generator = torch.Generator(x.device).manual_seed(settings.seed)
    optimizers = Optimizers(model, settings.learning_rate, 0.0, settings.muon_rate)
    batches = FullBatches(len(x), min(settings.batch, len(x)), generator)
    for step in range(1, settings.steps + 1):
        images = x[next(batches)]
        views = torch.cat([settings.augment(images, generator), settings.augment(images, generator)])
        loss = contrastive(*model(views).chunk(2), settings.temperature)
        optimizers.step(loss, half_cosine(step / settings.steps))
        on_step(step, loss.detach())
    return model


@torch.no_grad()
def neighbors(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` most similar other rows of each row of `features` (N, D): cosine similarities (N, k) and indices (N, k).

    All others, if there are fewer than `k`. Each similarity is computed once, for the one row and for the other.
    """
    k = min(k, len(features) - 1)
    similarity = features.new_full((len(features), k), -torch.inf)
    index = torch.zeros_like(similarity, dtype=torch.int64)

    def consider(start: int, others: int, table: Tensor) -> None:
        """Keeps what is among the highest in `table`, the similarities of the rows from `start` on to those from `others` on."""
        rows = slice(start, start + len(table))
        new = table.topk(min(k, table.shape[1]), dim=1)
        values, best = torch.cat([new.values, similarity[rows]], dim=1).sort(dim=1, descending=True, stable=True)
        similarity[rows] = values[:, :k]
        index[rows] = torch.cat([new.indices + others, index[rows]], dim=1).gather(1, best[:, :k])

    # For each row the tables come in rising order: of equals from two of them the later is kept, since sort is stable.
    parts = list(zip(range(0, len(features), COMPARED), F.normalize(features, dim=1).split(COMPARED), strict=True))
    for at, (start, part) in enumerate(parts):
        consider(start, start, (part @ part.T).fill_diagonal_(-torch.inf))  # not itself
        for others, other in parts[at + 1 :]:
            table = part @ other.T
            consider(start, others, table)
            consider(others, start, table.T.contiguous())
    return similarity, index


def spread(
    similarity: Tensor,
    index: Tensor,
    labeled: Tensor,
    y_l: Tensor,
    n_classes: int,
    uniform_prior: bool = True,
    alpha: float = 0.999,
) -> Tensor:
    """Class scores (N, n_classes) of all N images, rows summing to one, from the classes `y_l` (M,) of the images `labeled`.

    Label spreading (Zhou et al. 2004): the scores F solve (I − αS)·F = Y, S being the symmetric, normalised adjacency of
    the graph with weights similarity⁴. Y is divided by the labels of each class. With a `uniform_prior` F is balanced by
    Sinkhorn's iteration to a uniform distribution over the classes that have a label; without, each class's scores are its
    distribution over the images, and of an image the classes are compared by how likely they make it, whatever their frequency.
    Classes without a label score 0. What no label reaches scores alike for all others. The system is solved by conjugate
    gradients, one class at a time.
    """
    n, system, present = len(index), _system(similarity, index, alpha), y_l.unique().tolist()
    scores = np.zeros((n, len(present)))
    for column, c in enumerate(present):
        source = np.zeros(n)
        source[labeled[y_l == c].numpy()] = 1 / int((y_l == c).sum())
        scores[:, column], _ = cg(system, source, rtol=1e-4, maxiter=60)
    scores = np.maximum(scores, 0) + 1e-12
    for _ in range(50 if uniform_prior else 1):
        scores /= scores.sum(axis=0) * len(present) / n
        scores /= scores.sum(axis=1, keepdims=True)
    found = torch.zeros(n, n_classes)
    found[:, present] = torch.from_numpy(scores).float()
    return found


def reach(similarity: Tensor, index: Tensor, labeled: Tensor, y_l: Tensor, alpha: float = 0.999) -> Tensor:
    """How much of any label arrives at each image, (N,), where labels are spread as by `spread`.

    Which class it is does not matter, and the labels of each count together for one. 1 is the median of the images at which any
    arrives. One at which less than FAR does is like none that has a label: it is foreign, or of a kind that no label shows.
    """
    source = np.zeros(len(index))
    source[labeled.numpy()] = 1 / torch.bincount(y_l)[y_l].numpy()
    arrived, _ = cg(_system(similarity, index, alpha), source, rtol=1e-4, maxiter=60)
    return torch.from_numpy(arrived / np.median(arrived[arrived > 0])).float()


def _system(similarity: Tensor, index: Tensor, alpha: float) -> sparse.spmatrix:
    """I − αS (N, N), S being the symmetric, normalised adjacency of the graph with weights similarity⁴."""
    n, k = index.shape
    weights = similarity.clamp(min=0).double().pow(4).flatten().numpy()
    directed = sparse.csr_matrix((weights, (np.arange(n).repeat(k), index.flatten().numpy())), shape=(n, n))
    adjacency = directed.maximum(directed.T)
    scale = sparse.diags(1 / np.sqrt(np.maximum(adjacency.sum(axis=1).A1, 1e-12)))
    return sparse.identity(n) - alpha * (scale @ adjacency @ scale)


def class_prior(scores: Tensor) -> Tensor:
    """How frequent each class is, (C,), by scores (N, C): the share of the images that it scores best at, and one more each."""
    return (torch.bincount(scores.argmax(dim=1), minlength=scores.shape[1]) + 1) / (len(scores) + scores.shape[1])


def candidates(scores: Tensor, margin: float) -> Tensor:
    """The classes that an image may have, as a mask like `scores` (N, C): those at least `margin` times as likely as the best."""
    return scores >= margin * scores.max(dim=1, keepdim=True).values


@dataclass(frozen=True)
class Choice:
    """Images to label, in the order of their choice: `index` (n,); of each, its `cluster` and how typical it is there."""

    index: Tensor
    cluster: Tensor  # (n,), of the clusters numbered from 0
    sizes: Tensor  # of all clusters, in images
    typicality: Tensor  # (n,), mean similarity to the nearest neighbours


def typical(features: Tensor, similarity: Tensor, n: int, seed: int, labeled: Tensor | None = None) -> Choice:
    """The `n` images that represent all best, chosen without a label (TypiClust, Hacohen et al. 2022, section 3).

    `features` (N, D) are clustered by k-means into as many clusters as there will be labels, at most MOST_CLUSTERS. From each
    cluster the most typical image is taken: that whose nearest neighbours, by their `similarity` (N, K), are nearest. Clusters
    with the fewest labels come first, of these the largest. Images `labeled` before count as labels, and are not chosen.
    After the first image of a cluster, the next ones are random: the second most typical is much like the first.
    """
    from sklearn.cluster import KMeans  # imported late: it costs a second, and most runs do not need it
    from threadpoolctl import threadpool_limits

    labeled = torch.empty(0, dtype=torch.int64) if labeled is None else labeled
    check_n_labels(n, len(features) - len(labeled))
    z = F.normalize(features.float(), dim=1).numpy()
    n_clusters = min(n + len(labeled), MOST_CLUSTERS)
    with threadpool_limits(1):  # the same clusters however many threads there are
        cluster = KMeans(n_clusters, n_init=1, max_iter=30, random_state=seed).fit_predict(z)
    cluster = torch.from_numpy(cluster).long()
    typicality = similarity.mean(dim=1)
    sizes = torch.bincount(cluster, minlength=n_clusters)
    # Of each cluster a pile: on top the most typical image, below it the others in random order.
    rank = torch.rand(len(z), generator=torch.Generator().manual_seed(seed))
    free = torch.ones(len(z), dtype=torch.bool)
    free[labeled] = False
    piles = []
    for c in range(n_clusters):
        members = torch.nonzero((cluster == c) & free).flatten()
        members = members[rank[members].argsort()]
        if len(members):
            first = typicality[members].argmax()
            members = torch.cat([members[:first], members[first + 1 :], members[first : first + 1]])
        piles.append(members.tolist())
    n_labels = torch.bincount(cluster[labeled], minlength=n_clusters).tolist()
    waiting = [(n_labels[c], -int(sizes[c]), c) for c in range(n_clusters) if piles[c]]
    heapq.heapify(waiting)
    chosen = []
    while len(chosen) < n:
        n_labels_there, size, c = waiting[0]
        chosen.append(piles[c].pop())
        if piles[c]:
            heapq.heapreplace(waiting, (n_labels_there + 1, size, c))
        else:
            heapq.heappop(waiting)
    index = torch.tensor(chosen)
    return Choice(index, cluster[index], sizes, typicality[index])
