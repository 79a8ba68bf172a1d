"""One experiment: from images, labels and a recipe to the task that is trained, and from the trained network to its result.

This is the one place for the sequence: selection of the labelled images, label noise, withheld fold, check of the labels, graph,
candidates, network, training, evaluation. `run` does all of it; notebooks and tools call its parts to show or to watch them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import clusters, graph, label_errors, selection
from .checkpoint import Checkpoint
from .clusters import Clustering
from .data import Images, Task, corrupt_labels, leave_out, split, withhold_fold
from .datasets.checks import check_draw, check_fold, check_label_noise, check_n_clusters, check_n_labels, check_seed
from .graph import Neighbors
from .model import Net, init_net, network_for
from .recipes import Recipe
from .train import Evaluation, TrainingResult, evaluate, fit, measure, probabilities


@dataclass(frozen=True)
class Labeling:
    """The labels that training is given. Raises ValueError, naming the parameter, for a value that makes no sense.

    With 0 labels, clusters stand in for classes.
    """

    n_labels: int
    seed: int
    draw: str = "random"  # how the labelled images are selected: one of checks.DRAWS
    label_noise: float = 0.0  # the fraction of labels that is replaced by another class
    fold: int = 0  # the part of the labels, 1 to checks.FOLDS, that is held back to estimate the accuracy; 0: none
    n_clusters: int = 0  # without labels; 0: as many as there are classes, or, if that is not known, as the graph suggests

    def __post_init__(self):
        check_n_labels(self.n_labels, least=0)
        check_seed(self.seed)
        check_draw(self.draw)
        check_label_noise(self.label_noise)
        check_fold(self.fold, self.n_labels)
        check_n_clusters(self.n_clusters, self.n_labels)
        for parameter, value in {"draw": "random", "label_noise": 0.0}.items() if not self.n_labels else ():
            if (given := getattr(self, parameter)) != value:
                raise ValueError(f"{parameter}={given!r}: must be {value!r} with n_labels=0: there is no label")


def prepare(
    images: Images, labeling: Labeling, recipe: Recipe, neighbors: Neighbors | None = None, typical: Tensor | None = None
) -> Task:
    """The task: labelled and unlabelled images, and, for a recipe with a graph, candidates and class prior.

    A recipe that checks labels leaves out those that the others contradict: their images are unlabelled then.

    `typical` are the indices of the images to label with the draw `typical`; by default selection.typical selects them.
    `neighbors` is the graph of the training images. Without labels, the image that stands for a cluster is given the cluster's
    number as its class. Raises ValueError if `neighbors` is None and `recipe` or the draw needs it, if there are fewer labels
    than `labeling` asks for, if `recipe` can't do without any, or if it is not one for images of this size (Recipe.for_images).
    """
    check_recipe(recipe, labeling.n_labels)
    if recipe.network != (fitting := network_for(side := images.shape[2])):
        must = f"must be {fitting!r} for images of {side} × {side} pixels; see Recipe.for_images"
        raise ValueError(f"network={recipe.network!r}: {must}")
    if neighbors is None and (recipe.pretraining or labeling.draw == "typical"):
        raise ValueError(f"neighbors=None: must be the graph of the images for recipe={recipe.name!r}, draw={labeling.draw!r}")
    n, seed, n_classes = labeling.n_labels, labeling.seed, len(images.classes)
    y, draw, n_clusters = images.y.clone(), labeling.draw, 0
    if neighbors and not n:
        n = n_classes = n_clusters = labeling.n_clusters or n_classes or clusters.estimate(neighbors).value
        draw = "typical"
    if neighbors and draw == "typical" and typical is None:
        even = recipe.uniform_prior and n == (len(images.classes) or n)
        typical = selection.typical(neighbors, n, seed, even=even).index
    if n_clusters:
        y = torch.full_like(y, -1)
        y[typical] = torch.arange(n_clusters)
    parts = split(y, n, seed, draw, typical)
    y[parts.labeled] = corrupt_labels(y[parts.labeled], labeling.label_noise, seed, n_classes)
    parts, held_out = withhold_fold(parts, labeling.fold) if labeling.fold else (parts, parts.labeled[:0])
    check, candidates, prior, unlabeled = None, None, None, parts.unlabeled
    if neighbors and recipe.check_labels and not n_clusters:
        given = parts.labeled, y[parts.labeled]
        alpha = recipe.check_alpha_for(n, n_classes)
        check = label_errors.check(neighbors, *given, n_classes, uniform_prior=recipe.uniform_prior, alpha=alpha)
        parts, _ = leave_out(parts, check.left_out)
        unlabeled = parts.unlabeled[:0] if check.graph_misleads else parts.unlabeled
    y_l = y[parts.labeled]
    if neighbors and recipe.pretraining and not (check and check.graph_misleads):
        alpha = recipe.graph_alpha_for(n, n_classes)
        scores = graph.spread(neighbors, parts.labeled, y_l, n_classes, uniform_prior=recipe.uniform_prior, alpha=alpha)
        candidates = graph.candidates(scores, recipe.graph_margin)[parts.unlabeled]
        prior = graph.class_prior(scores)
    x_l, x_u = images.part(parts.labeled), images.part(unlabeled)
    return Task(x_l, y_l, x_u, candidates, prior, parts, held_out, y[held_out], n_clusters, check)


def check_recipe(recipe: Recipe, n_labels: int) -> None:
    """Raises ValueError if there is no label and `recipe` learns from nothing else: it needs the graph."""
    if not n_labels and not recipe.pretraining:
        raise ValueError(f"n_labels=0: must be 1 or more for recipe={recipe.name!r}, which needs labels; recipe='best' does not")


def network(images: Images, seed: int, device: str | torch.device = "cpu", n_clusters: int = 0) -> Net:
    """The untrained network for these images: a pure function of `seed` and of the numbers of classes, channels and pixels.

    Of a task without labels, it tells `n_clusters` apart.
    """
    n_classes, channels, side = images.shape
    return init_net(seed, n_clusters or n_classes, channels, side).to(device)


@dataclass(frozen=True)
class Result:
    """The measurements of an experiment on the test images, and on the labels of a withheld fold."""

    training: TrainingResult
    untrained: Evaluation
    trained: Evaluation  # the final model, with the test-time augmentation of the recipe
    test_accuracy: dict[int, float]  # by epoch, of the snapshots, without test-time augmentation
    held_out: Evaluation | None  # of the labels of the withheld fold; None without a fold
    clustering: Clustering | None = None  # of a task without labels: its accuracies are those of the best naming of clusters


def assess(images: Images, task: Task, training: TrainingResult) -> Result:
    """Evaluates on the test images, after training: the untrained network, the snapshots and the final model."""
    recipe, x, y = training.recipe, images.x_test, images.y_test
    if task.n_clusters:
        return _assess_clusters(images, task, training)
    untrained = evaluate(network(images, training.seed), x, y)
    test_accuracy = {epoch: evaluate(model, x, y).accuracy for epoch, model in training.snapshots.items()}
    trained = evaluate(training.model, x, y, recipe.tta_views, recipe.tta_augment)
    held_out = None
    if task.held_out is not None and len(task.held_out):
        assert task.y_held_out is not None  # a task has both or neither
        x_held_out = images.x[task.held_out]
        held_out = evaluate(training.model, x_held_out, task.y_held_out, recipe.tta_views, recipe.tta_augment)
    return Result(training, untrained, trained, test_accuracy, held_out)


def _assess_clusters(images: Images, task: Task, training: TrainingResult) -> Result:
    """As `assess`, of a network that tells clusters apart: each model is evaluated by the best naming of its own clusters."""
    recipe, x, y, n_classes = training.recipe, images.x_test, images.y_test, len(images.classes)

    def named(p: Tensor) -> Evaluation:
        return measure(clusters.by_class(p, clusters.best_names(p.argmax(dim=1), y, p.shape[1], n_classes), n_classes), y)

    p = probabilities(training.model, x, recipe.tta_views, recipe.tta_augment)
    untrained = named(probabilities(network(images, training.seed, n_clusters=task.n_clusters), x))
    test_accuracy = {epoch: named(probabilities(model, x)).accuracy for epoch, model in training.snapshots.items()}
    clustering = clusters.compare(p, y, n_classes)
    return Result(training, untrained, named(p), test_accuracy, None, clustering)


def run(
    images: Images, labeling: Labeling, recipe: Recipe, neighbors: Neighbors | None = None, checkpoint: Checkpoint | None = None
) -> tuple[Task, Result]:
    """The whole experiment on the processor, one seed for the labels and for training."""
    recipe = recipe.for_labels(labeling.n_labels, len(images.classes))
    task = prepare(images, labeling, recipe, neighbors)
    training = fit(network(images, labeling.seed, n_clusters=task.n_clusters), task, recipe, labeling.seed, checkpoint=checkpoint)
    return task, assess(images, task, training)
