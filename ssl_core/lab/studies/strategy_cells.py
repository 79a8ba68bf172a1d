"""Cells of the study of selection strategies: what each selects, how good that is, and the table that keeps the measurements.

Every strategy selects in rounds, from the same label-free features, and knows the labels of its earlier rounds. A selection is
measured by label spreading over the graph, and by networks that are trained on exactly its labels. The rows are kept in a table
of their own, since it is the selected images, not a draw, that identify such a run.
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_core import data, experiment, graph, selection
from ssl_core.data import Images
from ssl_core.datasets import describe
from ssl_core.graph import Neighbors
from ssl_core.train import fit

from ..runs import files, fingerprint
from ..runs.spec import Run
from .cells import CellTable, graph_file, images_and_graph
from .cells import configure as configure

SETS = ("mnist", "fashion-mnist", "digits", "mnist-few-eights")
SIZES = (10, 20, 50, 100, 250)  # labels after each round
SEEDS = (0, 1, 2, 3, 4)
POOL = 4000  # images, drawn at random for each seed, among which the field's strategies select: some compare all pairs
OURS = ("typical", "next")  # without labels, and in view of them
FIELD = ("typiclust", "probcover", "max-herding", "core-set", "margin", "entropy", "badge")  # by scikit-activeml
STRATEGIES = ("random", "class-balanced", *OURS, *FIELD)
MEASURES = {"spreading": 6.0, "best": 130.0, "supervised": 60.0}  # seconds that a cell takes, before one is measured
QUICK = "digits"  # of a second a cell
FIRST = ("mnist", "fashion-mnist", "digits"), (10, 50), ("core-set", "entropy", "class-balanced")  # trained first; not so these


@dataclass(frozen=True)
class Cell:
    """One measurement of one selection."""

    data: str
    strategy: str
    n_labels: int
    seed: int
    measure: str

    def __str__(self) -> str:
        return f"{self.data}/{self.strategy}/m{self.n_labels}/seed{self.seed}/{self.measure}"

    @property
    def rank(self) -> tuple[object, ...]:
        """What comes first: label spreading, on the small set for all seeds; then trained cells that already tell much."""
        if self.measure == "spreading":
            return False, self.data != QUICK, self.seed, self.data
        sets, sizes, late = FIRST
        other = self.data not in sets or self.n_labels not in sizes or self.strategy in late
        return True, self.seed, other, self.data, self.n_labels

    @property
    def run(self) -> Run:
        """The run with the same recipe and seed, whose labelled images are others."""
        return Run(self.n_labels, "best" if self.measure == "spreading" else self.measure, self.seed, self.data)


# --- selection


@lru_cache(maxsize=1)
def read_set(name: str) -> tuple[Images, Neighbors, np.ndarray]:
    """The images of a data set, their graph, and its features (N, 360), float64, of length one."""
    images, neighbors = images_and_graph(name)
    features = torch.nn.functional.normalize(neighbors.features.double(), dim=1).numpy()
    return images, neighbors, features


@lru_cache(maxsize=8)
def selected(name: str, strategy: str, seed: int) -> Tensor:
    """The images (SIZES[-1],) that `strategy` selects in rounds, each in view of the labels of the rounds before."""
    images, neighbors, features = read_set(name)
    if strategy in ("random", "class-balanced"):
        return data.drawn(images.y, SIZES[-1], seed, strategy)
    if strategy in OURS:
        return own_rounds(strategy, images, neighbors, seed, uniform_prior=describe(name).uniform_prior)
    pool = data.drawn(images.y, min(POOL, len(images.y)), seed)  # begins with the images that `random` selects
    return pool[field_rounds(strategy, features[pool], images.y[pool].numpy(), len(images.classes), seed)]


def own_rounds(strategy: str, images: Images, neighbors: Neighbors, seed: int, *, uniform_prior: bool) -> Tensor:
    """The images that `typical` or `next` selects: selection.typical, next_label.suggest."""
    from ssl_core.next_label import suggest

    before = torch.empty(0, dtype=torch.int64)
    for size in SIZES:
        n, y_l = size - len(before), images.y[before]
        if strategy == "typical":
            new = selection.typical(neighbors, n, seed, before, even=uniform_prior and n == len(images.classes)).index
        else:
            new = suggest(neighbors, before, y_l, n, len(images.classes), seed, uniform_prior=uniform_prior).index
        before = torch.cat([before, new])
    return before


def field_rounds(strategy: str, x: np.ndarray, y: np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """The rows of features `x` (N, D) that a strategy of scikit-activeml selects, given the classes `y` (N,) round by round.

    A strategy with a classifier has logistic regression, and takes the first rows in its first round, when there is no label.
    """
    from skactiveml.classifier import SklearnClassifier
    from sklearn.linear_model import LogisticRegression

    classifier = SklearnClassifier(LogisticRegression(max_iter=1000), classes=range(n_classes), missing_label=-1, random_state=0)
    query, needs_classifier = field_strategy(strategy, n_classes, seed)
    order = np.arange(SIZES[0]) if needs_classifier else np.empty(0, np.int64)
    for size in SIZES:
        if size > len(order):
            known = np.full(len(y), -1)
            known[order] = y[order]
            more = {"clf": classifier} if needs_classifier else {}
            order = np.concatenate([order, query.query(x, known, batch_size=size - len(order), **more)])
    assert len(np.unique(order)) == SIZES[-1]
    return order


def field_strategy(name: str, n_classes: int, seed: int) -> tuple[Any, bool]:
    """A strategy of scikit-activeml, with its defaults where nothing else is said, and whether it needs a classifier.

    TypiClust (Hacohen et al. 2022); ProbCover (Yehuda et al. 2022), which looks for its radius in finer steps than by default, as
    the features are close; MaxHerding (Bae et al. 2024) with the paper's Gaussian kernel, σ = 1; CoreSet (Sener & Savarese 2018);
    margin and entropy (Settles 2009); BADGE (Ash et al. 2020). Raises ValueError if scikit-activeml is not installed.
    """
    try:
        from skactiveml import pool
    except ImportError:
        raise ValueError(f"strategy={name!r}: must have scikit-activeml: pip install '.[study]'") from None
    common = {"missing_label": -1, "random_state": seed}
    match name:
        case "typiclust":
            return pool.TypiClust(**common), False
        case "probcover":
            return pool.ProbCover(n_classes=n_classes, deltas=np.arange(1, 21) / 20, **common), False
        case "max-herding":
            return pool.MaxHerding(metric_dict={"gamma": 1.0}, **common), False
        case "core-set":
            return pool.CoreSet(**common), False
        case "margin" | "entropy":
            return pool.UncertaintySampling(method={"margin": "margin_sampling"}.get(name, name), **common), True
        case "badge":
            return pool.Badge(**common), True
    raise ValueError(f"strategy={name!r}: must be one of {', '.join(STRATEGIES)}")


# --- measurement


def measure(cell: Cell) -> dict[str, object]:
    """The row of a cell: label spreading's accuracy on the training images, or a trained network's on the test images."""
    start = time.perf_counter()
    images, neighbors, _ = read_set(cell.data)
    labeled = selected(cell.data, cell.strategy, cell.seed)[: cell.n_labels]
    if cell.measure == "spreading":
        scores = spread(cell, images, neighbors, labeled)
        accuracy, n = (scores.argmax(dim=1) == images.y).double().mean().item(), len(images.y)
    else:
        accuracy, n = trained(cell, images, neighbors, labeled), len(images.y_test)
    found = {"accuracy": f"{accuracy:.6f}", "images": n, "classes": len(images.y[labeled].unique())}
    return asdict(cell) | found | {"seconds": f"{time.perf_counter() - start:.1f}", "key": key(cell)}


def spread(cell: Cell, images: Images, neighbors: Neighbors, labeled: Tensor) -> Tensor:
    """The class scores (N, C) of all training images, from the labels of the images `labeled`."""
    uniform_prior = describe(cell.data).uniform_prior
    return graph.spread(neighbors, labeled, images.y[labeled], len(images.classes), uniform_prior=uniform_prior)


def trained(cell: Cell, images: Images, neighbors: Neighbors, labeled: Tensor) -> float:
    """The test accuracy of the network that the cell's recipe trains, as experiment.run does but for the labelled images."""
    recipe = cell.run.settings
    task = experiment.prepare(images, replace(cell.run.labeling, draw="typical"), recipe, neighbors, labeled)
    training = fit(experiment.network(images, cell.seed), task, recipe, cell.seed)
    return experiment.assess(images, task, training).trained.accuracy


@cache
def key(cell: Cell) -> str:
    """Changes with whatever the cell's number follows from: graph, rounds, our selection's code; of trained ones, the run."""
    code = {"typical": fingerprint.SELECTION_CODE, "next": (*fingerprint.SELECTION_CODE, "next_label")}.get(cell.strategy, ())
    parts = [graph_file(cell.data), SIZES, POOL, fingerprint.code_digest(code)]
    return files.digest([*parts, "" if cell.measure == "spreading" else fingerprint.fingerprint(cell.run)])[:8]


# --- the table of rows, and the command


def grid() -> list[Cell]:
    """All cells, in the order in which they are measured."""
    return sorted((Cell(*values) for values in product(SETS, STRATEGIES, SIZES, SEEDS, MEASURES)), key=lambda cell: cell.rank)


TABLE = CellTable(
    path=files.REFERENCE / "strategies.csv",
    columns=("data", "strategy", "n_labels", "seed", "measure", "accuracy", "images", "classes", "seconds", "key"),
    cell=Cell,
    grid=grid,
    key=key,
    measure=measure,
    told=lambda row: f"{float(str(row['accuracy'])):.2%}",
    kind=lambda cell: cell.measure,
    seconds=MEASURES,
)


def command(args: argparse.Namespace) -> None:
    field_strategy("badge", 2, 0)  # fails at once where the package is missing
    TABLE.complete(args.jobs)
