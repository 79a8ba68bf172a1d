"""Clustering without labels: features invariant to distortion, a graph of nearest neighbours, label spreading over it.

The report pulls each unlabelled image towards the nearest class mean, in features learned from a few labels. Here features
are learned from all images without labels, and labels spread from neighbour to neighbour, along the shape of each cluster.
What is learned forgets what distortions change, of clothes too much; histograms of gradients, which nobody learned, are joined.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import Tensor, nn

from .data import FullBatches, Pixels
from .datasets import SIDE
from .device import threads
from .losses import contrastive
from .model import EVALUATION_BATCH, N_HIDDEN, init_net
from .optim import Optimizers
from .recipes import Pretraining, half_cosine

# Label mass, relative to the median image, below which an image counts as out-of-distribution: digits lie well above it, clothes
# among digits well below.
OUT_OF_DISTRIBUTION = 0.25
BLOCK = 2000  # images that are compared with as many others at a time
MANY = 150_000  # images from which on an index finds the neighbours: to compare all takes 4 minutes there, 3 hours of a million
ORIENTATIONS, CELLS, COMPONENTS = 9, 7, 60  # of `gradients`: of an edge; along each side of an image; that are kept
COLUMNS = 50  # right-hand sides that are solved at once: 12 MB each time for 60,000 images


@dataclass(frozen=True, eq=False)  # one is equal to itself alone: what follows from it can be cached
class Neighbors:
    """The graph: the K nearest other images of each of N images, by cosine `similarity` and `index` (N, K), int64.

    Of MANY images or more, an index finds almost all of these.
    """

    similarity: Tensor
    index: Tensor
    features: Tensor  # (N, 360), half precision; (N, 300) without gradients
    seconds: float = 0.0  # that making it took


class Encoder(nn.Module):
    """The network up to its first linear layer, and a projection on top for the contrastive loss."""

    def __init__(self, seed: int, dimensions: int, channels: int = 1, side: int = SIDE):
        super().__init__()
        self.net = init_net(seed, N_HIDDEN, channels, side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(N_HIDDEN, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """The projections (N, dimensions) of images `x` (N, C, side, side) that the contrastive loss compares."""
        return self.projection(F.relu(self.net(x)[0]))

    @torch.no_grad()
    def features(self, x: Pixels | Tensor) -> Tensor:
        """The output (N, 300) of the first linear layer for images `x`, after its ReLU, without gradient."""
        return _stacked((F.relu(self.net.linear1(self.net(part)[1])) for part in x.split(EVALUATION_BATCH)), len(x))


def build(
    x: Pixels | Tensor, pretraining: Pretraining, tell: Callable[[dict[str, object]], None] = lambda event: None
) -> Neighbors:
    """The graph of images `x` (N, C, side, side), made on their device: a pure function of the arguments.

    One thread makes it, of images of more than 28 pixels two: the number follows from the images, for it changes the last digits.
    Where an index finds the neighbours, as many as PyTorch has ask it, on the processor.

    `tell` is called with an event now and then: `{"stage": "graph", "step": 100, "steps": 1500, "loss": …, "seconds": …}`.
    """
    start, n_threads = time.perf_counter(), torch.get_num_threads()
    if len(x) >= MANY:
        _index_class()  # what is missing is said before any work

    def on_step(step: int, loss: Tensor) -> None:
        if step == 1 or step % 100 == 0 or step == pretraining.steps:
            seconds = time.perf_counter() - start
            tell({"stage": "graph", "step": step, "steps": pretraining.steps, "loss": loss.item(), "seconds": seconds})

    with threads(1 if x.shape[-1] <= SIDE else 2):
        encoder = pretrain(x, pretraining, on_step)
        tell({"stage": "search", "seconds": time.perf_counter() - start})
        features = encoder.features(x)
        if pretraining.gradients:
            features = F.normalize(features)
            features = torch.cat([features, pretraining.gradients * F.normalize(gradients(x))], dim=1)
        similarity, index = nearest(features, pretraining.neighbors, n_threads, tell)
    return Neighbors(similarity.cpu(), index.cpu(), features.half().cpu(), time.perf_counter() - start)


def pretrain(
    x: Pixels | Tensor, settings: Pretraining, on_step: Callable[[int, Tensor], None] = lambda step, loss: None
) -> Encoder:
    """An encoder trained, without labels, to map two distorted views of an image (N, C, side, side) to similar projections.

    A pure function of the arguments, their device and the number of threads; `on_step(step, loss)` is called after each step.
    """
    model = Encoder(settings.seed, settings.dimensions, *x.shape[1:3]).to(x.device)
    generator = torch.Generator(x.device).manual_seed(settings.seed)
    model.net.precision = settings.precision
    optimizers = Optimizers(model, settings.learning_rate, settings.muon_rate, getattr(torch, settings.precision))
    batches = FullBatches(len(x), min(settings.batch, len(x)), generator)
    for step in range(1, settings.steps + 1):
        images = x[next(batches)]
        views = torch.cat([settings.augment(images, generator), settings.augment(images, generator)])
        one, two = model(views).chunk(2)
        loss = contrastive(one, two, settings.temperature)
        optimizers.step(loss, half_cosine(step / settings.steps))
        on_step(step, loss.detach())
    return model


@torch.no_grad()
def gradients(x: Pixels | Tensor) -> Tensor:
    """The COMPONENTS principal components (N, 60) of histograms of oriented gradients of images `x` (N, C, H, W), normalised.

    After Dalal & Triggs 2005: in each of 7 × 7 cells the strength of edges by orientation, of the channel where it is greatest,
    relative to that of the cells around. Shape and texture count, brightness and single pixels do not.
    """
    rows = _stacked((_histograms(part) for part in x.split(BLOCK)), len(x))
    rows -= rows.mean(dim=0)
    _, vectors = torch.linalg.eigh((rows.T @ rows).double())
    return rows @ vectors[:, -COMPONENTS:].to(rows.dtype)


def _histograms(x: Tensor) -> Tensor:
    """Histograms (N, 441) of oriented gradients of images `x` (N, C, H, W); an edge counts for the two nearest orientations."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across, down = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strength, channel = across.hypot(down).max(dim=1, keepdim=True)
    angle = torch.atan2(down.gather(1, channel), across.gather(1, channel)) % torch.pi
    position = angle * (ORIENTATIONS / torch.pi)
    first, share = position.long() % ORIENTATIONS, position.frac()
    by_orientation = x.new_zeros(len(x), ORIENTATIONS, *x.shape[2:])
    by_orientation.scatter_(1, first, strength * (1 - share)).scatter_add_(1, (first + 1) % ORIENTATIONS, strength * share)
    cells = F.adaptive_avg_pool2d(by_orientation, CELLS)
    energy = F.avg_pool2d(F.pad(cells.square().sum(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate"), 3, 1)
    return (cells / (energy.sqrt() + 0.1)).flatten(1)


def _stacked(parts: Iterable[Tensor], n: int) -> Tensor:
    """The rows (n, D) of all parts (·, D). Unlike torch.cat, it holds no more than one part beside the result."""
    whole, start = torch.empty(0), 0
    for part in parts:
        whole = whole if start else part.new_empty(n, part.shape[1])
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


@torch.no_grad()
def neighbors(features: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` most similar other rows of each row of `features` (N, D): cosine similarities (N, k) and indices (N, k).

    All others, if there are fewer than `k`. Each similarity is computed once and serves both rows. Our own code instead of a
    library's: blocks of 16 MB keep memory flat, and the result is the same bit for bit on every run.
    """
    k = min(k, len(features) - 1)
    similarity = features.new_full((len(features), k), -torch.inf)
    index = torch.zeros_like(similarity, dtype=torch.int64)

    def consider(start: int, others: int, table: Tensor) -> None:
        """Updates the best `k` of the rows from `start` on with `table`, their similarities to the rows from `others` on."""
        rows = slice(start, start + len(table))
        new = table.topk(min(k, table.shape[1]), dim=1)
        values, best = torch.cat([new.values, similarity[rows]], dim=1).sort(dim=1, descending=True, stable=True)
        similarity[rows] = values[:, :k]
        index[rows] = torch.cat([new.indices + others, index[rows]], dim=1).gather(1, best[:, :k])

    # The tables of a row come in ascending order; the sort is stable, so of equal similarities the later one is kept.
    parts = list(zip(range(0, len(features), BLOCK), F.normalize(features, dim=1).split(BLOCK), strict=True))
    for at, (start, part) in enumerate(parts):
        consider(start, start, (part @ part.T).fill_diagonal_(-torch.inf))  # not itself
        for others, other in parts[at + 1 :]:
            table = part @ other.T
            consider(start, others, table)
            consider(others, start, table.T.contiguous())
    return similarity, index


def nearest(
    features: Tensor, k: int, n_threads: int = 1, tell: Callable[[dict[str, object]], None] = lambda event: None
) -> tuple[Tensor, Tensor]:
    """The `k` nearest other rows of each row of `features` (N, D): exact ones, or of MANY or more rows approximate ones."""
    return neighbors(features, k) if len(features) < MANY else approximate_neighbors(features, k, n_threads, tell)


def _index_class() -> Any:  # noqa: ANN401 - of a package without types
    """usearch's index. Raises ValueError if the package is missing."""
    try:
        from usearch.index import Index  # imported late: few need it
    except ImportError:
        raise ValueError(f"{MANY} images or more: must have usearch to find neighbours: pip install usearch") from None
    return Index


@torch.no_grad()
def approximate_neighbors(
    features: Tensor, k: int, n_threads: int = 1, tell: Callable[[dict[str, object]], None] = lambda event: None
) -> tuple[Tensor, Tensor]:
    """What `neighbors` finds, or almost: each row is compared with those alone that an index leads to. Similarities are exact.

    The index is a hierarchy of navigable graphs (HNSW, Malkov & Yashunin 2020), by usearch; `make pools` measures which share of
    the neighbours it finds. One thread makes it and `n_threads` ask it: the result is the same bit for bit on every run, and for
    any number of them. Raises ValueError without usearch, and if there are not more than `k` rows.
    """
    if k >= (n := len(features)):
        raise ValueError(f"k={k}: must be below the number of rows, {n}")
    table = _index_class()(ndim=features.shape[1], metric="ip", dtype="f16")
    similarity, index = torch.empty(n, k), torch.empty(n, k, dtype=torch.int64)
    start_time, parts = time.perf_counter(), [torch.arange(n).split(BLOCK)] * 2

    def of_length_one(rows: Tensor) -> Tensor:
        return F.normalize(features[rows.to(features.device)], dim=-1).cpu()

    for step, rows in enumerate(chain(*parts), 1):
        x = of_length_one(rows)
        if len(table) < n:
            table.add(rows.numpy(), x.half().numpy(), threads=1)
        else:
            matches = table.search(x.half().numpy(), k + 1, threads=n_threads)
            missing = np.arange(k + 1) >= matches.counts[:, None]  # of a row that the index leads to few others from
            found = torch.from_numpy(np.where(missing, rows[:, None].numpy(), matches.keys.astype(np.int64)))
            cosine = torch.einsum("ij,ikj->ik", x, of_length_one(found))
            cosine[found == rows[:, None]] = -torch.inf  # not itself
            values, best = cosine.sort(dim=1, descending=True, stable=True)
            similarity[rows], index[rows] = values[:, :k].clamp(min=-1), found.gather(1, best[:, :k])
        if step % 20 == 0:
            seconds = time.perf_counter() - start_time
            tell({"stage": "index", "step": step, "steps": 2 * len(parts[0]), "seconds": seconds})
    return similarity, index


def spread(
    neighbors: Neighbors, labeled: Tensor, y_l: Tensor, n_classes: int, *, uniform_prior: bool = True, alpha: float = 0.999
) -> Tensor:
    """Class scores (N, n_classes) of all N images, rows summing to one, from the classes `y_l` (M,) of the images `labeled`.

    Label spreading (Zhou et al. 2004): the scores F solve (I − αS)·F = Y, where S is the symmetric, normalised adjacency of the
    graph with weights similarity⁴, and each column of Y is divided by its number of labels. With a `uniform_prior`, Sinkhorn's
    iteration balances F to a uniform distribution over the classes that have a label. Without, each column is normalised to
    the class's distribution over the images, so that an image's scores are likelihoods, whatever the class frequencies.
    Classes without a label score 0. An image that no label reaches scores equally for all others. Conjugate gradients solve
    the system, one class at a time.
    """
    n, matrix, classes = len(neighbors.index), system(neighbors, alpha), y_l.unique().tolist()
    scores = np.zeros((n, len(classes)))
    for column, c in enumerate(classes):
        source = np.zeros(n)
        source[labeled[y_l == c].numpy()] = 1 / int((y_l == c).sum())
        scores[:, column], _ = cg(matrix, source, rtol=1e-4, maxiter=60)
    all_classes = torch.zeros(n, n_classes)
    all_classes[:, classes] = torch.from_numpy(balanced(scores, uniform_prior=uniform_prior)).float()
    return all_classes


def balanced(scores: np.ndarray, *, uniform_prior: bool) -> np.ndarray:
    """The solutions (N, C) of label spreading as class scores whose rows sum to one; see `spread`."""
    scores = np.maximum(scores, 0) + 1e-12
    for _ in range(50 if uniform_prior else 1):
        scores /= scores.sum(axis=0) * scores.shape[1] / len(scores)
        scores /= scores.sum(axis=1, keepdims=True)
    return scores


def label_mass(neighbors: Neighbors, labeled: Tensor, y_l: Tensor, alpha: float = 0.999) -> Tensor:
    """The total label mass (N,) that label spreading brings to each image; every class contributes the same total.

    Values are relative to the median reached image. Below OUT_OF_DISTRIBUTION an image resembles no labelled one: it is foreign,
    or a variant that no label shows.
    """
    source = np.zeros(len(neighbors.index))
    source[labeled.numpy()] = 1 / torch.bincount(y_l)[y_l].numpy()
    mass, _ = cg(system(neighbors, alpha), source, rtol=1e-4, maxiter=60)
    return torch.from_numpy(mass / np.median(mass[mass > 0])).float()


def adjacency(neighbors: Neighbors) -> sparse.csr_matrix:
    """The weights (N, N) of the graph, symmetric: similarity⁴ where either image is a neighbour of the other."""
    n, k = neighbors.index.shape
    weights = neighbors.similarity.clamp(min=0).double().pow(4).flatten().numpy()
    directed = sparse.csr_matrix((weights, (np.arange(n).repeat(k), neighbors.index.flatten().numpy())), shape=(n, n))
    return directed.maximum(directed.T)


def normalized(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """The symmetric `weights` (N, N) of a graph, each divided by the roots of the sums of its row and of its column."""
    scale = sparse.diags(1 / np.sqrt(np.maximum(weights.sum(axis=1).A1, 1e-12)))
    return scale @ weights @ scale


def system(neighbors: Neighbors, alpha: float) -> sparse.spmatrix:
    """I − αS (N, N), where S is the normalised adjacency of the graph."""
    return sparse.identity(len(neighbors.index)) - alpha * normalized(adjacency(neighbors))


def solve(matrix: sparse.csr_matrix, sources: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The solutions (N, B), float32, of the system of that matrix for each of the columns of `sources` (N, B).

    Conjugate gradients for COLUMNS at once, each to a residual of 1e-4 of its source, in at most 60 steps: a tenth of the time
    of one by one. They begin at `start` (N, B), which is overwritten, or at 0.
    """
    solutions = np.zeros_like(sources) if start is None else start
    for i in range(0, sources.shape[1], COLUMNS):
        part = slice(i, i + COLUMNS)
        enough = 1e-8 * (sources[:, part] ** 2).sum(axis=0)
        residual = sources[:, part] - matrix @ solutions[:, part] if start is not None else sources[:, part].copy()
        solutions[:, part] += _solve_together(matrix, residual, enough)
    return solutions


def _solve_together(matrix: sparse.csr_matrix, residual: np.ndarray, enough: np.ndarray) -> np.ndarray:
    """What solves the system for the columns of `residual` (N, B), which is overwritten, until their squares are `enough`."""
    x, direction, squares = np.zeros_like(residual), residual.copy(), (residual**2).sum(axis=0)
    for _ in range(60):
        image = matrix @ direction
        step = squares / np.maximum((direction * image).sum(axis=0), 1e-30)
        x += step * direction
        residual -= step * image
        before, squares = squares, (residual**2).sum(axis=0)
        if (squares < enough).all():
            break
        direction = residual + squares / np.maximum(before, 1e-30) * direction
    return x


def class_prior(scores: Tensor) -> Tensor:
    """The class frequencies (C,) by scores (N, C): the share of images whose best class it is, with add-one smoothing."""
    return (torch.bincount(scores.argmax(dim=1), minlength=scores.shape[1]) + 1) / (len(scores) + scores.shape[1])


def candidates(scores: Tensor, margin: float) -> Tensor:
    """The candidate classes of each image, a mask like `scores` (N, C): those that score at least `margin` times the best."""
    return scores >= margin * scores.max(dim=1, keepdim=True).values
