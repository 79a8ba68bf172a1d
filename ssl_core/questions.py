"""Three questions about a pile of images, on arrays: which to label next, which labels are wrong, and how many it takes.

Examples
--------
>>> from dataclasses import replace
>>> import numpy as np
>>> from sklearn.datasets import load_digits
>>> from ssl_core import RECIPES, label_issues, suggest
>>> X, y = load_digits(return_X_y=True)
>>> short = replace(RECIPES["quick"], pretraining=replace(RECIPES["quick"].pretraining, steps=20))
>>> first = suggest(X[:300], 20, recipe=short, graph=folder)  # the folder keeps the graph
>>> len(set(first.tolist()))
20
>>> spoilt = np.where(np.arange(300) == 7, (y[:300] + 1) % 10, y[:300])
>>> bool(7 in label_issues(X[:300], spoilt, recipe=short, graph=folder).index)
True
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length

from . import arrays, experiment, label_errors, next_label
from .data import Images, drawn
from .datasets.checks import check_whole
from .estimator import MISLED, ONE_CLASS, as_images, fitting, key_of, neighbors_of, plain, recipe_of, seed_of, working
from .experiment import Labeling
from .forecast import Forecast
from .graph import Neighbors
from .labels import encoded
from .progress import Progress
from .recipes import Recipe

HELD_BACK = 0.5  # of the labels: what they measure is less sure with fewer, and there are fewer to learn from with more
SIZES = 3  # numbers of labels that are tried, at least: two determine no curve


@dataclass(frozen=True)
class _Pile:
    """Images, their labels and their graph, as the three questions need them."""

    images: Images
    classes: np.ndarray
    recipe: Recipe  # that fits the images
    neighbors: Neighbors | None

    @property
    def labeled(self) -> torch.Tensor:
        return torch.nonzero(self.images.y >= 0).flatten()

    @property
    def graph(self) -> Neighbors:
        assert self.neighbors is not None  # of a recipe with a graph
        return self.neighbors


def suggest(
    X: ArrayLike,
    n: int,
    y: ArrayLike | None = None,
    *,
    recipe: str | Recipe = "best",
    graph: str | Path | Neighbors | None = None,
    uniform_prior: bool = False,
    random_state: int = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> np.ndarray:
    """Which images to label next. As `make label-next`.

    Together they stand for all images (MaxHerding, Bae et al. 2024); with labels, those count most whose class the labels leave
    open.

    Parameters
    ----------
    X : array
        Images, as of SemiSupervisedClassifier.fit.
    n : int
        How many to suggest.
    y : array of shape (n_samples,), default=None
        The labels so far, −1 for images without one. None: there is none yet.
    recipe, graph, uniform_prior, random_state, n_jobs, verbose
        As of SemiSupervisedClassifier; the recipe says how the graph is made.

    Returns
    -------
    ndarray of shape (n,)
        Their indices, the most useful first.
    """
    given = np.full(len(X), -1) if y is None else y  # type: ignore[arg-type]  # whatever has rows
    pile = _pile(X, given, _with_graph(recipe), graph, uniform_prior=uniform_prior, n_jobs=n_jobs, verbose=verbose)
    y_l, n_classes, seed = pile.images.y[pile.labeled], max(1, len(pile.classes)), seed_of(random_state)
    return next_label.suggest(pile.graph, pile.labeled, y_l, plain(n), n_classes, seed, uniform_prior=uniform_prior).index.numpy()


@dataclass(frozen=True)
class LabelIssues:
    """Labels that the others contradict, the worst first.

    Attributes
    ----------
    index : ndarray of shape (k,)
        The images.
    given : ndarray of shape (k,)
        Their labels.
    suggested : ndarray of shape (k,)
        The most probable classes.
    p_wrong : ndarray of shape (k,)
        The probability that the label is wrong.
    n_wrong : float
        How many of all labels are wrong, by estimate.
    low, high : float
        The interval of that number: in nine of ten resamples.
    unchecked : ndarray of shape (n_unchecked,)
        Images whose label is the only one of its class: it can't be checked.
    """

    index: np.ndarray
    given: np.ndarray
    suggested: np.ndarray
    p_wrong: np.ndarray
    n_wrong: float
    low: float
    high: float
    unchecked: np.ndarray


def label_issues(
    X: ArrayLike,
    y: ArrayLike,
    *,
    recipe: str | Recipe = "best",
    graph: str | Path | Neighbors | None = None,
    uniform_prior: bool = False,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> LabelIssues:
    """Which labels are wrong: those that the others contradict as they spread over the graph. As `make check-labels`.

    Parameters
    ----------
    X, y : arrays
        Images, and their labels, as of SemiSupervisedClassifier.fit.
    recipe, graph, uniform_prior, n_jobs, verbose
        As of SemiSupervisedClassifier; the recipe says how the graph is made.

    Returns
    -------
    LabelIssues
        The labels that are wrong with more than 60 % and for which another class is more probable; and how many are, in all.
        It warns if the labels hardly follow from one another: the list can't be trusted then.
    """
    followed = _with_graph(recipe)
    pile = _pile(X, y, followed, graph, uniform_prior=uniform_prior, n_jobs=n_jobs, verbose=verbose)
    classes, labeled = pile.classes, pile.labeled
    if len(classes) < 2:
        raise ValueError(ONE_CLASS)
    given, alpha = (labeled, pile.images.y[labeled]), followed.check_alpha_for(len(labeled), len(classes))
    check = label_errors.check(pile.graph, *given, len(classes), uniform_prior=uniform_prior, alpha=alpha)
    if check.graph_misleads:
        warnings.warn(MISLED, stacklevel=2)
    worst = [i for i in check.p_wrong.argsort(descending=True, stable=True).tolist() if check.suspect[i]]
    labels, suggested = (classes[each[worst].numpy()] for each in (check.y_l, check.suggested))
    interval = check.n_wrong, check.low, check.high
    return LabelIssues(
        labeled[worst].numpy(), labels, suggested, check.p_wrong[worst].numpy(), *interval, labeled[~check.checked].numpy()
    )


@dataclass(frozen=True)
class Budget:
    """How many labels it takes.

    Attributes
    ----------
    target : float
        The accuracy to be reached.
    n_labels : float
        With so many labels the mean accuracy reaches it, by the learning curve; infinity if with none.
    low, high : float
        The interval of that number, with a probability of 0.9.
    accuracy : dict of int to list of float
        What was measured: by number of labels, one accuracy for each draw.
    n_test : int
        Images on which it was measured.
    """

    target: float
    n_labels: float
    low: float
    high: float
    accuracy: dict[int, list[float]]
    n_test: int


def how_many(
    X: ArrayLike,
    y: ArrayLike,
    target: float = 0.99,
    *,
    recipe: str | Recipe = "best",
    sizes: Sequence[int] | None = None,
    repeats: int = 2,
    graph: str | Path | Neighbors | None = None,
    uniform_prior: bool = False,
    random_state: int = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Budget:
    """How many labels it takes to classify these images with the accuracy `target`. As `make sweep` and its results page.

    Half of the labels of each class are held back to measure with. Networks learn from several numbers of the others, and a
    saturating power law through their accuracies (Hestness et al. 2017) says with how many labels the target is reached.

    Parameters
    ----------
    X, y : arrays
        Images, and their labels so far, as of SemiSupervisedClassifier.fit.
    target : float, default=0.99
        The accuracy, between 0 and 1.
    sizes : sequence of int, default=None
        Numbers of labels to try, three or more. None: a fourth, a half and all of those that are not held back.
    repeats : int, default=2
        Draws of each size, class-balanced.
    recipe, graph, uniform_prior, random_state, n_jobs, verbose
        As of SemiSupervisedClassifier.

    Returns
    -------
    Budget
        The number of labels with its interval, and the accuracies that were measured. Few labels give a wide interval.
    """
    if not isinstance(target, int | float) or not 0 < target < 1:
        raise ValueError(f"target={target!r}: must be a number between 0 and 1")
    chosen, seed = recipe_of(recipe), seed_of(random_state)
    codes, classes = encoded(y)
    tried = _sizes(sizes, int((codes >= 0).sum()), len(classes))
    seeds = range(seed, seed + check_whole("repeats", plain(repeats)))
    pile = _pile(X, y, chosen, graph, uniform_prior=uniform_prior, n_jobs=n_jobs, verbose=verbose)
    with working(n_jobs):
        accuracy, n_test = _measured(pile, tried, seeds, verbose=verbose)
    needed = Forecast({n: np.array(values) for n, values in accuracy.items()}, n_test).labels_for(target)
    n_labels, low, high = (max(1.0, n) for n in (needed.mean, needed.low, needed.high))
    return Budget(target, n_labels, low, high, accuracy, n_test)


def _measured(pile: _Pile, sizes: list[int], seeds: range, *, verbose: int) -> tuple[dict[int, list[float]], int]:
    """The accuracies with each of the `sizes`, one a seed, on the labels that are held back; and the number of these."""
    labels = pile.images.y
    order = drawn(labels, len(pile.labeled), seeds[0])
    members = [order[labels[order] == c] for c in range(len(pile.classes))]
    test = torch.cat([each[: int(HELD_BACK * len(each))] for each in members])  # of each class: frequencies stay as they are
    left = labels.clone()
    left[test] = -1
    images = replace(pile.images, y=left, x_test=pile.images.x[test], y_test=labels[test])
    accuracy: dict[int, list[float]] = {n: [] for n in sizes}
    for n in sizes:
        for seed in seeds:
            _, result = experiment.run(images, Labeling(n, seed, "class-balanced"), pile.recipe, pile.neighbors)
            accuracy[n].append(result.trained.accuracy)
            if verbose:
                print(f"how_many · {n} labels, draw {seed}: {100 * accuracy[n][-1]:.2f} %", flush=True)
    return accuracy, len(test)


def _sizes(sizes: Sequence[int] | None, n_labels: int, n_classes: int) -> list[int]:
    """The numbers of labels to try; raises ValueError if there are too few labels for three, or if they are none."""
    if n_classes < 2:
        raise ValueError(ONE_CLASS)
    if sizes is not None and (isinstance(sizes, str) or not np.iterable(sizes)):
        raise ValueError(f"sizes={sizes!r}: must be {SIZES} or more different whole numbers")
    most = n_labels - round(HELD_BACK * n_labels)
    if most < (least := 4 * max(2, n_classes)):
        must = f"must be {2 * least} or more, of {n_classes} classes: half of them are held back to measure with"
        raise ValueError(f"y has {n_labels} labels: {must}")
    tried = sorted(set(sizes if sizes is not None else (most // 4, most // 2, most)))
    if len(tried) < SIZES or not all(isinstance(n, int | np.integer) and n_classes <= n <= most for n in tried):
        raise ValueError(f"sizes={sizes!r}: must be {SIZES} or more different whole numbers from {n_classes} to {most}")
    return [int(n) for n in tried]


def _with_graph(recipe: str | Recipe) -> Recipe:
    """The recipe; raises ValueError if it has no graph of neighbours."""
    chosen = recipe_of(recipe)
    if chosen.pretraining is None:
        raise ValueError(f"recipe={chosen.name!r}: must be one with a graph of neighbours, as best and quick")
    return chosen


def _pile(
    X: ArrayLike,
    y: ArrayLike,
    recipe: Recipe,
    given: str | Path | Neighbors | None,
    *,
    uniform_prior: bool,
    n_jobs: int | None,
    verbose: int,
) -> _Pile:
    """The images and labels, checked, with their graph if the recipe has one."""
    rows, shape = arrays.checked(X)
    codes, classes = encoded(y)
    check_consistent_length(rows, codes)
    look, pixels = arrays.Look.of(rows, shape, 0)
    images = as_images(look, pixels, codes, tuple(map(str, classes)))
    recipe = fitting(recipe, look, "auto", len(pixels), uniform_prior=uniform_prior)
    if recipe.pretraining is None:
        return _Pile(images, classes, recipe, None)
    with working(n_jobs):
        key = key_of(look, pixels, recipe.pretraining, "auto")
        neighbors = neighbors_of(images, recipe.pretraining, given, "auto", key, Progress("graph") if verbose else None)
    return _Pile(images, classes, recipe, neighbors)
