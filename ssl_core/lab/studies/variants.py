"""Variants of a recipe in what the report leaves to future work: other clusterings, regularisations and networks.

Each is one change of a recipe, trained on the same labelled images as the recipe itself, and evaluated on training images that
are held out: accuracy, accuracy on corrupted images (robustness.py), seconds, parameters and operations. The studies in STUDIES
name them.
"""

import argparse
import ast
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_core import data, experiment, graph, recipes
from ssl_core.clusters import compare
from ssl_core.data import Pixels, Task
from ssl_core.graph import Neighbors
from ssl_core.model import Net
from ssl_core.recipes import Recipe
from ssl_core.train import Training, evaluate

from ..runs import files
from ..runs.fingerprint import fingerprint, stripped
from ..runs.spec import Run
from .cells import CellTable
from .cells import configure as configure
from .frontier import neighbors, pool
from .robustness import N_IMAGES, accuracies

STUDIES = ("clusterings", "regularizations", "architectures")  # modules of this package with VARIANTS
UNCHANGED = "unchanged"
SETS = ("mnist", "fashion-mnist")
SIZES = (50, 1000)  # labels, equally many of each class
SEEDS = (0, 1, 2)
RECIPES = ("supervised", "best", "published")
SECONDS = {"supervised": 120.0, "best": 180.0, "published": 60.0}  # of a cell, before one is measured


@dataclass(frozen=True)
class Variant:
    """One change of the recipes in `recipes`."""

    summary: str
    recipes: tuple[str, ...]
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe
    network: Callable[[int, int], Net] = Net  # untrained, of the numbers of classes and channels
    training: type[Training] = Training
    candidates: Callable[[Neighbors, Task, int], Tensor] | None = None  # scores (N, C) in place of those of label spreading
    clusters: Callable[[Neighbors, int], Tensor] | None = None  # (N,): the cluster of each image, of so many, without labels


@dataclass(frozen=True)
class Cell:
    """A recipe with one change, or unchanged, on one set of labels."""

    study: str
    variant: str
    recipe: str
    data: str
    n_labels: int
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe} {self.variant}/{self.data}/m{self.n_labels}/seed{self.seed}"

    @property
    def run(self) -> Run:
        """The run of the recipe itself."""
        return Run(self.n_labels, self.recipe, self.seed, self.data, "class-balanced")

    @property
    def change(self) -> Variant:
        return variants(self.study)[self.variant]

    @property
    def settings(self) -> Recipe:
        """The recipe in full, with its change."""
        return self.run.followed(self.change.change(recipes.get(self.recipe)))


def variants(study: str) -> Mapping[str, Variant]:
    """The variants of a study, by name; of `unchanged`, that one."""
    if study == UNCHANGED:
        return {UNCHANGED: Variant("The recipe as it is", RECIPES)}
    return import_module(f".{study}", __package__).VARIANTS


def measure(cell: Cell) -> dict[str, object]:
    """The row of a cell."""
    start, settings, variant = time.perf_counter(), cell.settings, cell.change
    images = pool(cell.data)
    near = neighbors(cell.data, settings.pretraining) if settings.pretraining else None
    task = experiment.prepare(images, cell.run.labeling, settings, near)
    if variant.candidates and near and task.split:
        scores = variant.candidates(near, task, len(images.classes))
        candidates = graph.candidates(scores, settings.graph_margin)[task.split.unlabeled]
        task = replace(task, candidates=candidates, class_prior=graph.class_prior(scores))
    model = untrained(variant, cell.seed, len(images.classes), images.x.shape[1])
    costs = {"parameters": sum(p.numel() for p in model.parameters()), "operations": operations(model, images.x[:1])}
    trained, seconds = train(variant, model, task, settings, cell.seed)
    accuracy = evaluate(trained, images.x_test, images.y_test, settings.tta_views, settings.tta_augment).accuracy
    by_kind = accuracies(trained, bytes_held_out(cell.data), images.y_test[:N_IMAGES])
    told = " ".join(f"{each:.4f}" for each in np.concatenate(list(by_kind.values())))
    found = {"accuracy": f"{accuracy:.6f}", **clustered(cell), **costs, "training": f"{seconds:.1f}", "corrupted": told}
    return asdict(cell) | found | {"seconds": f"{time.perf_counter() - start:.1f}", "key": key(cell)}


def bytes_held_out(name: str) -> Pixels:
    """The first N_IMAGES of those that `pool` holds out, as bytes."""
    x, first = data.load(name, files.DATA).x, len(pool(name).x)
    assert isinstance(x, Pixels)  # of a set with a name
    return x.part(torch.arange(first, first + N_IMAGES))


def untrained(variant: Variant, seed: int, n_classes: int, channels: int) -> Net:
    """The network of a variant, a pure function of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return variant.network(n_classes, channels).to(memory_format=torch.channels_last)


def train(variant: Variant, model: Net, task: Task, settings: Recipe, seed: int) -> tuple[Net, float]:
    """The trained network of a variant, with averaged weights if the recipe says so, and the seconds of a core that it took.

    torch's global state, from which dropout draws, is seeded, and left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training, start = variant.training(model, task, settings, seed), time.process_time()
        for _ in range(training.epochs):
            training.train_epoch()
    return training.teacher.model, time.process_time() - start


def operations(model: Net, x: Tensor) -> int:
    """The floating-point operations that reading one image `x` (1, C, 28, 28) takes, a product and its sum being two."""
    from torch.utils.flop_counter import FlopCounterMode  # imported late: few need it

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    model.train()
    return counter.get_total_flops()


def clustered(cell: Cell) -> dict[str, str]:
    """How well the clusters of a variant, found without labels, match the classes of all images; '' of a variant without any."""
    if not (find := cell.change.clusters):
        return dict.fromkeys(("clusters", "ari", "nmi"), "")
    images, settings = pool(cell.data), cell.settings
    assert settings.pretraining is not None  # of a recipe with a graph
    cluster = find(neighbors(cell.data, settings.pretraining), len(images.classes))
    p = torch.nn.functional.one_hot(cluster.clamp(min=0), max(1, int(cluster.max()) + 1))
    found = compare(p[cluster >= 0].float(), images.y[cluster >= 0], len(images.classes))
    share = (cluster >= 0).float().mean().item()  # an image of no cluster is classified wrongly
    accuracy = found.accuracy * share if share else 0.0
    return {"clusters": f"{accuracy:.6f}", "ari": f"{found.ari:.6f}", "nmi": f"{found.nmi:.6f}"}


@cache
def key(cell: Cell) -> str:
    """Changes with whatever a cell's numbers follow from."""
    settings = cell.settings
    code = [_code(module) for module in ("variants", "robustness", *([] if cell.study == UNCHANGED else [cell.study]))]
    held_out = [inspect.getsource(function) for function in (pool, neighbors)]
    return files.digest([fingerprint(cell.run, settings, settings.pretraining), cell.variant, code, held_out])[:8]


@cache
def _code(module: str) -> str:
    """The code of a module of this package, without what only shows its numbers: what is assigned to STUDY."""
    tree = ast.parse(stripped(Path(__file__).with_name(f"{module}.py").read_text()))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STUDY")]
    return ast.unparse(tree)


def grid() -> list[Cell]:
    """All cells, in the order in which they are measured: the first seed, MNIST and few labels first."""
    changes = [(UNCHANGED, UNCHANGED, recipe) for recipe in RECIPES]
    for study in STUDIES:
        changes += [(study, name, recipe) for name, variant in variants(study).items() for recipe in variant.recipes]
    order = product(SEEDS, SETS, SIZES, changes)
    return [Cell(*change, name, n_labels, seed) for seed, name, n_labels, change in order]


TABLE = CellTable(
    path=files.REFERENCE / "future_work.csv",
    columns=(
        *("study", "variant", "recipe", "data", "n_labels", "seed", "accuracy", "clusters", "ari", "nmi"),
        *("parameters", "operations", "training", "corrupted", "seconds", "key"),
    ),
    cell=Cell,
    grid=grid,
    key=key,
    measure=measure,
    told=lambda row: f"{100 * float(str(row['accuracy'])):.2f} %",
    kind=lambda cell: cell.recipe,
    seconds=SECONDS,
)


def command(args: argparse.Namespace) -> None:
    TABLE.complete(args.jobs)
