"""Three questions about a pile of images, on arrays: which to label next, which labels are wrong, and how many it takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from . import arrays, experiment, label_errors, next_label, recipes
from .data import Images, drawn
from .datasets.checks import check_seed
from .estimator import as_images, fitting, key_of, neighbors_of, threads
from .experiment import Labeling
from .forecast import Forecast
from .graph import Neighbors
from .labels import encoded
from .progress import Progress
from .recipes import BEST, Recipe

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


def suggest(
    X: ArrayLike,
    n: int,
    y: ArrayLike | None = None,
    *,
    graph: str | Path | Neighbors | None = None,
    uniform_prior: bool = False,
    random_state: int = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> np.ndarray:
    """Which images to label next.

    Together they stand for all images (MaxHerding, Bae et al. 2024); with labels, those count most whose class the labels leave
    open. As `make label-next`.

    Parameters
    ----------
    X : array of images, as of SemiSupervisedClassifier.fit
    n : int
        How many to suggest.
    y : array of shape (n_samples,), default=None
        The labels so far, −1 for images without one. None: there is none yet.
    graph, uniform_prior, random_state, n_jobs, verbose
        As of SemiSupervisedClassifier.

    Returns
    -------
    ndarray of shape (n,)
        Their indices, the most useful first.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from ssl_core import SemiSupervisedClassifier, suggest
    >>> X, y = load_digits(return_X_y=True)
    >>> chosen = suggest(X[:300], 20, graph=cache)
    >>> len(set(chosen.tolist()))
    20
    """
    given = np.full(len(X), -1) if y is None else y  # type: ignore[arg-type]  # whatever has rows
    pile = _pile(X, given, BEST, graph, uniform_prior=uniform_prior, n_jobs=n_jobs, verbose=verbose)
    assert pile.neighbors is not None  # `best` has a graph
    suggestion = next_label.suggest(
        pile.neighbors,
        pile.labeled,
        pile.images.y[pile.labeled],
        n,
        max(1, len(pile.classes)),
        check_seed(random_state),
        uniform_prior=uniform_prior,
    )
    return suggestion.index.numpy()


@dataclass(frozen=True)
class LabelIssues:
    """Labels that the others contradict, the worst first."""

    index: np.ndarray  # (k,), of the images
    given: np.ndarray  # (k,), their labels
    suggested: np.ndarray  # (k,), the most probable classes
    p_wrong: np.ndarray  # (k,), the probability that the label is wrong
    n_wrong: float  # how many of all labels are wrong, by estimate
    low: float  # to `high` in nine of ten resamples
    high: float
    unchecked: np.ndarray  # images whose label is the only one of its class: it can't be checked


def label_issues(
    X: ArrayLike,
    y: ArrayLike,
    *,
    graph: str | Path | Neighbors | None = None,
    uniform_prior: bool = False,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> LabelIssues:
    """Which labels are wrong: those that the others contradict as they spread over the graph. As `make check-labels`.

    Parameters
    ----------
    X : array of images, as of SemiSupervisedClassifier.fit
    y : array of shape (n_samples,)
        The labels, −1 for images without one.
    graph, uniform_prior, n_jobs, verbose
        As of SemiSupervisedClassifier.

    Returns
    -------
    LabelIssues
        The labels that are wrong with more than 60 % and for which another class is more probable; and how many are, in all.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from ssl_core import label_issues
    >>> X, y = load_digits(return_X_y=True)
    >>> spoilt = np.where(np.arange(300) == 7, (y[:300] + 1) % 10, y[:300])
    >>> 7 in label_issues(X[:300], spoilt, graph=cache).index
    True
    """
    pile = _pile(X, y, BEST, graph, uniform_prior=uniform_prior, n_jobs=n_jobs, verbose=verbose)
    assert pile.neighbors is not None  # `best` has a graph
    if len(pile.classes) < 2:
        raise ValueError(f"y: the number of classes has to be greater than one; got {len(pile.classes)} class")
    labeled = pile.labeled
    check = label_errors.check(pile.neighbors, labeled, pile.images.y[labeled], len(pile.classes), uniform_prior=uniform_prior)
    worst = [i for i in check.p_wrong.argsort(descending=True, stable=True).tolist() if check.suspect[i]]
    return LabelIssues(
        labeled[worst].numpy(),
        pile.classes[check.y_l[worst].numpy()],
        pile.classes[check.suggested[worst].numpy()],
        check.p_wrong[worst].numpy(),
        check.n_wrong,
        check.low,
        check.high,
        labeled[~check.checked].numpy(),
    )


@dataclass(frozen=True)
class Budget:
    """How many labels it takes."""

    target: float  # accuracy
    n_labels: float  # with which the mean accuracy reaches it, by the learning curve; infinity if no number does
    low: float  # to `high` with a probability of 0.9
    high: float
    accuracy: dict[int, list[float]]  # that was measured, by number of labels: one for each draw
    n_test: int  # images on which it was


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
    """How many labels it takes to classify these images with the accuracy `target`.

    Half of the labels, drawn at random, are held back to measure with. Networks learn from several numbers of the others, and a
    saturating power law through their accuracies (Hestness et al. 2017) says with how many labels the target is reached. As
    `make sweep` and its results page.

    Parameters
    ----------
    X : array of images, as of SemiSupervisedClassifier.fit
    y : array of shape (n_samples,)
        The labels so far, −1 for images without one.
    target : float, default=0.99
        Between 0 and 1.
    recipe : str or Recipe, default="best"
        What is trained.
    sizes : sequence of int, default=None
        Numbers of labels to try, three or more. None: a fourth, a half and all of those that are not held back.
    repeats : int, default=2
        Draws of each size.
    graph, uniform_prior, random_state, n_jobs, verbose
        As of SemiSupervisedClassifier.

    Returns
    -------
    Budget
        The number of labels with its interval, and the accuracies that were measured. Few labels give a wide interval.
    """
    if not isinstance(target, int | float) or not 0 < target < 1:
        raise ValueError(f"target={target!r}: must be a number between 0 and 1")
    if not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"repeats={repeats!r}: must be a whole number from 1")
    chosen = recipe if isinstance(recipe, Recipe) else recipes.get(recipe)
    codes, classes = encoded(y)
    tried = _sizes(sizes, int((codes >= 0).sum()), len(classes))
    pile = _pile(X, y, chosen, graph, uniform_prior=uniform_prior, n_jobs=n_jobs, verbose=verbose)
    labels = pile.images.y
    test = drawn(labels, round(HELD_BACK * len(pile.labeled)), check_seed(random_state), "class-balanced")
    left = labels.clone()
    left[test] = -1
    images = replace(pile.images, y=left, x_test=pile.images.x[test], y_test=labels[test])
    accuracy: dict[int, list[float]] = {n: [] for n in tried}
    with threads(n_jobs):
        for n in tried:
            for seed in range(random_state, random_state + repeats):
                labeling = Labeling(n, seed, "class-balanced")
                _, result = experiment.run(images, labeling, pile.recipe, pile.neighbors)
                accuracy[n].append(result.trained.accuracy)
                if verbose:
                    print(f"how_many · {n} labels, draw {seed}: {100 * accuracy[n][-1]:.2f} %", flush=True)
    needed = Forecast({n: np.array(values) for n, values in accuracy.items()}, len(test)).labels_for(target)
    return Budget(target, needed.mean, needed.low, needed.high, accuracy, len(test))


def _sizes(sizes: Sequence[int] | None, n_labels: int, n_classes: int) -> list[int]:
    """The numbers of labels to try; raises ValueError if there are too few labels for three, or if they are none."""
    most = n_labels - round(HELD_BACK * n_labels)
    if most < (least := 4 * max(2, n_classes)):
        must = f"must be {2 * least} or more, of {n_classes} classes: half of them are held back to measure with"
        raise ValueError(f"y has {n_labels} labels: {must}")
    tried = sorted(set(sizes if sizes is not None else (most // 4, most // 2, most)))
    if len(tried) < SIZES or not all(isinstance(n, int | np.integer) and n_classes <= n <= most for n in tried):
        raise ValueError(f"sizes={sizes!r}: must be {SIZES} or more different whole numbers from {n_classes} to {most}")
    return [int(n) for n in tried]


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
    if len(rows) != len(codes):
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {[len(rows), len(codes)]}")
    look, pixels = arrays.Look.of(rows, shape, 0)
    images = as_images(look, pixels, codes, tuple(map(str, classes)))
    recipe = fitting(recipe, look, "auto", uniform_prior=uniform_prior)
    if recipe.pretraining is None:
        return _Pile(images, classes, recipe, None)
    with threads(n_jobs):
        key = key_of(look, pixels, recipe.pretraining)
        neighbors = neighbors_of(images, recipe.pretraining, given, "auto", key, Progress("graph") if verbose else None)
    return _Pile(images, classes, recipe, neighbors)
