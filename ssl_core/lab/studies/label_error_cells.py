"""Cells of the study of label errors: labels of which some are made wrong, what each method suspects, and how right it is.

Each method is given the same labels and answers with suspects and with a score for every label, the higher the more probably
wrong:

- `graph`: label_errors.check, which `best` follows;
- `neighbors`: a vote of the K nearest labelled images, in the features of the graph, the image itself left out;
- `cleanlab-supervised`, `cleanlab-best`: confident learning (Northcutt, Jiang & Chuang 2021) by cleanlab, with its defaults, on
  probabilities from a cross-validation of that recipe, of `best` without our check.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, precision_score, recall_score
from torch import Tensor

from ssl_core import data, experiment, graph, label_errors
from ssl_core.data import Images
from ssl_core.datasets import describe
from ssl_core.datasets.checks import FOLDS
from ssl_core.graph import Neighbors
from ssl_core.train import fit, probabilities

from ..runs import files, fingerprint
from ..runs.spec import Run
from .cells import CellTable, graph_file, images_and_graph
from .cells import configure as configure

SETS = ("mnist", "fashion-mnist", "digits")
SIZES = (100, 1000, 6000)  # labels; digits has too few images for the last
SEEDS = (0, 1, 2)
NOISES = ("uniform-1", "uniform-5", "uniform-10", "uniform-20", "uniform-40", "pair-10", "pair-30", "swap-50")
PAIRS = {"mnist": (4, 9), "fashion-mnist": (2, 6), "digits": (4, 9)}  # 2 and 6: pullover and shirt
CLEANLAB = {"cleanlab-supervised": "supervised", "cleanlab-best": "best-without-checking"}  # and the recipe of its networks
SECONDS = {"graph": 20.0, "neighbors": 10.0, "cleanlab-supervised": 210.0, "cleanlab-best": 900.0}  # before one is measured
METHODS = tuple(SECONDS)
QUICK = "digits"  # of a second a cell where nothing is trained
FIRST = ("uniform-5", "uniform-20", "pair-10"), (1000, 100)  # measured before the other noises and sizes
K = 10  # see `vote`


@dataclass(frozen=True)
class Cell:
    """One method on one set of labels."""

    data: str
    method: str
    n_labels: int
    noise: str
    seed: int

    def __str__(self) -> str:
        return f"{self.data}/{self.method}/m{self.n_labels}-{self.noise}/seed{self.seed}"

    @property
    def rank(self) -> tuple[object, ...]:
        """What comes first: what needs no training, then `supervised`; the small set, the first noises and sizes, seed 0."""
        noises, sizes = FIRST
        late, cost = self.n_labels not in sizes, max(METHODS.index(self.method), 1)
        return cost, self.data != QUICK, late, self.seed, self.noise not in noises, self.data, -self.n_labels, self.noise

    @property
    def run(self) -> Run:
        """The run with the recipe that gives the method its probabilities; another one's stands for the labels alone."""
        return Run(self.n_labels, CLEANLAB.get(self.method, "best"), self.seed, self.data)


# --- labels


def noisy(y: Tensor, noise: str, seed: int, classes: tuple[int, int], n_classes: int) -> Tensor:
    """Labels `y` (M,) of which some are made wrong: a pure function of the arguments.

    `uniform-5`: 5 % of all become another class, uniformly at random (data.corrupt_labels). `pair-10`: 10 % of the labels of
    either of two `classes` become the other. `swap-50`: 50 % of those of the first become the second.
    """
    kind, percent = noise.split("-")
    if kind == "uniform":
        return data.corrupt_labels(y, int(percent) / 100, seed, n_classes)
    random, changed = np.random.default_rng([seed, 2]), y.clone()
    for given, other in (classes, classes[::-1]) if kind == "pair" else (classes,):
        members = random.permutation(torch.nonzero(y == given).flatten().numpy())
        changed[members[: round(int(percent) / 100 * len(members))]] = other
    return changed


def labels(cell: Cell) -> tuple[Tensor, Tensor]:
    """The labelled images (M,) of a cell, and their labels (M,), of which some are wrong."""
    images, _ = images_and_graph(cell.data)
    labeled = data.split(images.y, cell.n_labels, cell.seed).labeled
    return labeled, noisy(images.y[labeled], cell.noise, cell.seed, PAIRS[cell.data], len(images.classes))


# --- methods: the suspects (M,) and the scores (M,) of labels `y_l` (M,) of the images `labeled` (M,)


def suspects(cell: Cell, labeled: Tensor, y_l: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The suspects of the cell's method, bool, and its score of every label."""
    images, neighbors = images_and_graph(cell.data)
    n_classes = len(images.classes)
    if cell.method == "graph":
        uniform_prior, (alpha, _) = describe(cell.data).uniform_prior, cell.run.settings.check_alpha
        check = label_errors.check(neighbors, labeled, y_l, n_classes, uniform_prior=uniform_prior, alpha=alpha)
        return check.suspect.numpy(), check.p_wrong.numpy()
    if cell.method == "neighbors":
        return vote(neighbors.features[labeled], y_l, n_classes)
    find = cleanlab()
    return find(y_l.numpy(), cross_validated(images, neighbors, labeled, y_l, cell.run))


def vote(features: Tensor, y_l: Tensor, n_classes: int, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    """A vote of the `k` most similar other labelled images, by cosine of `features` (M, D), each as heavy as it is similar.

    After Wilson 1972: the label is suspect if another class has more of the vote; its score is the share of the vote against it.

    K was chosen on the 43,720 images of MNIST that no cell labels, for uniform-5, -20, -40 and pair-30: of 3, 5, 10, 20, 30 and
    50, 10 has the best mean of F1 and of average precision over 100, 1000 and 6000 labels (0.850 and 0.879). With 6000 labels
    alone, 30 is better (0.925 and 0.903, not 0.899 and 0.891); with 100 it is far worse (0.538 and 0.808, not 0.762 and 0.868).
    """
    similarity, index = graph.neighbors(features.float(), k)
    share = torch.zeros(len(y_l), n_classes).scatter_add_(1, y_l[index], similarity.clamp(min=0))
    share /= share.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return (share.argmax(dim=1) != y_l).numpy(), 1 - share.gather(1, y_l[:, None])[:, 0].numpy()


def cross_validated(images: Images, neighbors: Neighbors, labeled: Tensor, y_l: Tensor, run: Run) -> np.ndarray:
    """Class probabilities (M, C) of the labelled images by networks that learned from the labels of the other folds."""
    recipe, y = run.settings, images.y.clone()
    y[labeled] = y_l
    p = torch.zeros(len(y), len(images.classes))
    for fold in range(1, FOLDS + 1):
        task = experiment.prepare(replace(images, y=y), replace(run, fold=fold).labeling, recipe, neighbors)
        training = fit(experiment.network(images, run.seed), task, recipe, run.seed)
        assert task.held_out is not None  # of a fold
        p[task.held_out] = probabilities(training.model, images.x[task.held_out], recipe.tta_views, recipe.tta_augment)
    return F.normalize(p[labeled].double(), p=1, dim=1).numpy()


@cache
def cleanlab() -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The suspects and scores of labels (M,) with probabilities (M, C) by cleanlab. ValueError if it is not installed.

    Its filter and its score are the defaults: `prune_by_noise_rate`, and one minus the probability of the label.
    """
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        raise ValueError("method='cleanlab': must have cleanlab: pip install '.[study]'") from None
    return lambda y, p: (find_label_issues(y, p, n_jobs=1), 1 - get_label_quality_scores(y, p))


# --- measurement


def measure(cell: Cell) -> dict[str, object]:
    """The row of a cell: how right the suspects and the scores are, and label spreading after the first are corrected.

    As many labels are corrected as are wrong, those with the highest scores. Precision is NaN without a suspect, recall and
    average precision without a wrong label.
    """
    start = time.perf_counter()
    images, _ = images_and_graph(cell.data)
    labeled, y_l = labels(cell)
    wrong = (y_l != images.y[labeled]).numpy()
    suspect, scores = suspects(cell, labeled, y_l)
    first = np.argsort(-scores, kind="stable")[: wrong.sum()]
    corrected = y_l.clone()
    corrected[first] = images.y[labeled][first]
    found = {
        **assess(wrong, suspect, scores),
        "before": accuracy_of(cell.data, cell.n_labels, cell.seed, cell.noise),
        "corrected": accuracy(cell.data, labeled, corrected),
        "clean": accuracy_of(cell.data, cell.n_labels, cell.seed),
    }
    counts = {"wrong": int(wrong.sum()), "suspects": int(suspect.sum()), "unlabeled": len(images.y) - len(labeled)}
    told = {name: f"{value:.6f}" for name, value in found.items()}
    return asdict(cell) | counts | told | {"seconds": f"{time.perf_counter() - start:.1f}", "key": key(cell)}


def assess(wrong: np.ndarray, suspect: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Precision and recall of the suspects (M,), and the average precision of the scores (M,), against the wrong ones (M,)."""
    return {
        "precision": float(precision_score(wrong, suspect)) if suspect.any() else float("nan"),
        "recall": float(recall_score(wrong, suspect)) if wrong.any() else float("nan"),
        "average_precision": float(average_precision_score(wrong, scores)) if wrong.any() else float("nan"),
    }


def accuracy(name: str, labeled: Tensor, y_l: Tensor) -> float:
    """The accuracy of label spreading from these labels on the unlabelled training images."""
    images, neighbors = images_and_graph(name)
    scores = graph.spread(neighbors, labeled, y_l, len(images.classes), uniform_prior=describe(name).uniform_prior)
    right = scores.argmax(dim=1) == images.y
    right[labeled] = False
    return right.sum().item() / (len(right) - len(labeled))


@lru_cache(maxsize=4)
def accuracy_of(name: str, n_labels: int, seed: int, noise: str = "uniform-0") -> float:
    """The accuracy of label spreading from the labels as they are given; by default, all are right."""
    return accuracy(name, *labels(Cell(name, "graph", n_labels, noise, seed)))


@cache
def key(cell: Cell) -> str:
    """Changes with whatever the cell's numbers follow from: graph, the code of our check, K; of cleanlab's, the run."""
    code = [fingerprint.code_digest(fingerprint.CHECK_CODE), cell.run.settings.check_alpha] if cell.method == "graph" else ""
    trained = fingerprint.fingerprint(cell.run) if cell.method in CLEANLAB else ""
    parts = [graph_file(cell.data), PAIRS[cell.data], code, K if cell.method == "neighbors" else "", trained]
    return files.digest(parts)[:8]


# --- the table of rows, and the command


def grid() -> list[Cell]:
    """All cells, in the order in which they are measured."""
    made = (Cell(*values) for values in product(SETS, METHODS, SIZES, NOISES, SEEDS))
    return sorted((cell for cell in made if (cell.data, cell.n_labels) != ("digits", 6000)), key=lambda cell: cell.rank)


TABLE = CellTable(
    path=files.REFERENCE / "label_errors.csv",
    columns=(
        *("data", "method", "n_labels", "noise", "seed", "wrong", "suspects", "precision", "recall", "average_precision"),
        *("before", "corrected", "clean", "unlabeled", "seconds", "key"),
    ),
    cell=Cell,
    grid=grid,
    key=key,
    measure=measure,
    told=lambda row: ", ".join(f"{name} {float(str(row[name])):.1%}" for name in ("precision", "recall")),
    kind=lambda cell: f"{cell.data} {cell.method}",
    seconds={f"{name} {method}": SECONDS[method] / (20 if name == QUICK else 1) for name, method in product(SETS, METHODS)},
)


def command(args: argparse.Namespace) -> None:
    cleanlab()  # fails at once where the package is missing
    TABLE.complete(args.jobs)
