"""The experiment as an estimator of scikit-learn: `fit(X, y)` with −1 for what has no label."""

import copy
import ctypes
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from . import arrays, device, graph, graph_file, recipes
from .data import Images, Task
from .datasets.checks import check_seed
from .datasets.machine import cores, digest
from .experiment import Labeling, check_recipe, network, prepare
from .graph import Neighbors
from .labels import encoded
from .model import EVALUATION_BATCH, PRECISIONS
from .progress import Progress
from .recipes import LINEAR, Pretraining, Recipe
from .train import TrainingResult, fit, probabilities

ONE_CLASS = "y: the number of classes has to be greater than one; got 1 class (-1 is no class, but no label)"
MISLED = (
    "y: these labels hardly follow from one another over the graph of neighbours: the images are alike in another way than their"
    " classes, or most labels are wrong; `best` then learns from all labels, and from them alone"
)
KEEP = 1 << 30  # bytes: what is freed is kept for the next step, up to so many


class SemiSupervisedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of images that learns from a few labels and from the images without one.

    It trains a small network (231,854 parameters for grey images of 28 × 28 pixels) by one of the project's recipes. `best`
    learns features without labels, links each image to its neighbours, spreads the labels over this graph, and trains a teacher
    and a network on what they say (FixMatch, Sohn et al. 2020; SimCLR, Chen et al. 2020; label spreading, Zhou et al. 2004).

    Parameters
    ----------
    recipe : str or Recipe, default="best"
        `best`, `quick`, `supervised`, `corrected` or `published`, or a Recipe of your own.
    graph : None, str, Path or Neighbors, default=None
        A folder in which graphs of neighbours are kept, so that the next fit on the same images does not make one again; or the
        `graph_` of an estimator that was fitted to the same images. None: it is kept in this estimator alone.
    uniform_prior : bool, default=False
        Whether all classes are known to be equally frequent. Otherwise the graph estimates their frequencies.
    n_clusters : int, default=0
        Without any label: the number of clusters that stand in for classes. 0: as many as the graph suggests.
    side : int, default=0
        The side of the images as the network sees them: 28, or 32 to 96 pixels. 0: as it fits the images.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the network's products; `auto` is the faster one on this machine.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where the network is trained; `auto` is a GPU that PyTorch can use, or else the processor.
    n_jobs : int, default=None
        Threads; None is 1 and −1 all cores. The number changes the order of sums, and so the last digits.
    random_state : int, RandomState instance or None, default=0
        The seed. The same one gives the same numbers on the same machine; None draws one.
    verbose : int, default=0
        1 prints how far it is, and how long to go.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes; without any label the numbers of the clusters.
    n_features_in_ : int
        Numbers in an image.
    transduction_ : ndarray of shape (n_samples,)
        The class of each image that was given to `fit`; computed when it is asked for.
    label_distributions_ : ndarray of shape (n_samples, n_classes)
        Their class probabilities; computed when they are asked for.
    left_out_ : ndarray of shape (n_left_out,)
        Images whose label the others contradict: training did without it. None where the labels hardly follow from one another:
        `fit` warns then, and only labelled images are learned from.
    graph_ : Neighbors or None
        The graph of neighbours of the images; None of a recipe without one.
    model_ : Net
        The network.
    history_ : list of dict
        The losses, a row per epoch.
    n_iter_ : int
        Epochs.

    Notes
    -----
    Of scikit-learn's wrappers, those that give `y` codes of their own (VotingClassifier, BaggingClassifier, cross_val_predict
    with probabilities) take −1 for a class. cross_val_score and searches do not; they use `score`, which leaves images without
    a label out. A pickle holds the training images.

    Examples
    --------
    >>> from dataclasses import replace
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from ssl_core import RECIPES, SemiSupervisedClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> few = np.where(np.arange(len(y)) < 50, y, -1)  # the first 50 images have a label
    >>> short = replace(RECIPES["supervised"], epochs=5)  # of 50
    >>> classifier = SemiSupervisedClassifier(short).fit(X, few)
    >>> bool(classifier.score(X[50:], y[50:]) > 0.8)
    True
    """

    def __init__(
        self,
        recipe: str | Recipe = "best",
        *,
        graph: str | Path | Neighbors | None = None,
        uniform_prior: bool = False,
        n_clusters: int = 0,
        side: int = 0,
        precision: str = "auto",
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 0,
    ):
        self.recipe = recipe
        self.graph = graph
        self.uniform_prior = uniform_prior
        self.n_clusters = n_clusters
        self.side = side
        self.precision = precision
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> "SemiSupervisedClassifier":
        """Learns from images and labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, H, W, channels)
            Images: bytes, or numbers, of which the lowest becomes black and the highest white. A row is a square image, if its
            length is a square. One and three channels are grey and colours.
        y : array of shape (n_samples,)
            Classes, numbers or texts. Of an image without a label −1; or it is masked (numpy.ma).

        Returns
        -------
        self
            The fitted estimator. It warns if no image has a label: its classes are clusters then.

        Raises
        ------
        ValueError
            For arrays or parameters that make no sense, before anything is trained.
        """
        before = dict(self.__dict__)
        try:
            return self._fit(X, y)
        except BaseException:  # also an interruption leaves the fit before as it was
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(self, X: ArrayLike, y: ArrayLike) -> "SemiSupervisedClassifier":
        rows, shape = arrays.flat(X)
        codes, classes = encoded(y)
        rows = validate_data(self, rows, dtype="numeric", ensure_min_samples=2)
        recipe, seed = recipe_of(self.recipe), seed_of(self.random_state)
        check_consistent_length(rows, codes)
        n_labels = int((codes >= 0).sum())
        check_recipe(recipe, n_labels)
        if not n_labels:
            warnings.warn("y has no label: classes are clusters, and these have numbers in place of names", stacklevel=2)
        elif len(classes) < 2:
            raise ValueError(ONE_CLASS)
        labeling = Labeling(n_labels, seed, n_clusters=0 if n_labels else plain(self.n_clusters))
        look, pixels = arrays.Look.of(rows, shape, plain(self.side))
        images = as_images(look, pixels, codes, tuple(map(str, classes)))
        recipe = fitting(recipe, look, self.precision, len(pixels), uniform_prior=self.uniform_prior)
        recipe = recipe.for_labels(n_labels, len(classes))
        tell = Progress(type(self).__name__) if self.verbose else None
        with working(self.n_jobs):
            task = prepare(images, labeling, recipe, self._neighbors(images, look, pixels, recipe.pretraining, tell))
            untrained = network(images, seed, device.training_device(self.device), task.n_clusters)
            training = fit(untrained, task, recipe, seed, tell.on_epoch if tell else lambda row, epochs: None)
        if task.graph_misleads:
            warnings.warn(MISLED, stacklevel=2)
        self.classes_ = np.arange(task.n_clusters) if task.n_clusters else classes
        self._remember(look, pixels, task, training)
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The class (n_samples,) of images of the size of those that `fit` was given."""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """The probability of each class, in the order of `classes_`, for images: (n_samples, n_classes)."""
        check_is_fitted(self)
        rows, shape = arrays.flat(X)
        if shape is not None and shape != self.look_.shape and np.prod(shape) == self.n_features_in_:
            raise ValueError(f"X has images of shape {shape}, but SemiSupervisedClassifier is expecting {self.look_.shape}")
        rows = validate_data(self, rows, dtype="numeric", reset=False)
        return self._probabilities(self.look_.pixels(rows))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The accuracy on the images that have a label; as of any classifier, where all have. NaN if none has."""
        codes, classes = encoded(y)
        known = codes >= 0
        if not known.any():
            return float("nan")
        predictions = self.predict(X)
        check_consistent_length(predictions, codes)
        right = predictions[known] == classes[codes[known]]
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)[known]))

    @cached_property
    def label_distributions_(self) -> np.ndarray:
        check_is_fitted(self)
        return self._probabilities(self._pixels)

    @property
    def transduction_(self) -> np.ndarray:
        p = self.label_distributions_
        return self.classes_[p.argmax(axis=1)]

    def __getstate__(self) -> dict:
        state = dict(super().__getstate__())
        if "model_" in state:  # whoever reads it may have no GPU
            state["model_"] = copy.deepcopy(self.model_).cpu()
        return state

    # --- what `fit` and `predict` are made of

    def _neighbors(
        self, images: Images, look: arrays.Look, pixels: np.ndarray, pretraining: Pretraining | None, tell: Progress | None
    ) -> Neighbors | None:
        """The graph of the images: of the parameter `graph`, or that of the last fit, if they are the same, or made."""
        self.graph_: Neighbors | None
        given = isinstance(self.graph, Neighbors)
        key = "" if given or pretraining is None else key_of(look, pixels, pretraining, self.device)
        if pretraining is None:
            self.graph_ = None
        elif self.graph is not None or getattr(self, "_graph_key", "") != key:
            self.graph_ = neighbors_of(images, pretraining, self.graph, self.device, key, tell)
        self._graph_key: str = key
        return self.graph_

    def _remember(self, look: arrays.Look, pixels: np.ndarray, task: Task, training: TrainingResult) -> None:
        """Keeps what was learned."""
        self.__dict__.pop("label_distributions_", None)  # of an earlier fit
        self.look_, self._pixels, self.recipe_, self.model_ = look, pixels, training.recipe, training.model
        self.history_, self.n_iter_ = training.history, len(training.history)
        self.left_out_ = np.empty(0, np.int64) if task.check is None else task.check.labeled[task.check.left_out].numpy()

    def _probabilities(self, pixels: np.ndarray) -> np.ndarray:
        recipe, n = self.recipe_, len(pixels)
        if not recipe.tta_views:  # full batches: what stands beside an image then changes no digit of its probabilities
            pixels = np.resize(pixels, (n + -n % EVALUATION_BATCH, *pixels.shape[1:]))
        x = self.look_.images(pixels)
        with working(self.n_jobs):
            p = probabilities(self.model_, x, recipe.tta_views, recipe.tta_augment)[:n].double()
        return (p / p.sum(dim=1, keepdim=True)).numpy()


def recipe_of(recipe: str | Recipe) -> Recipe:
    """The recipe, of that name; raises ValueError for one that there is not, or that is none for images."""
    found = recipe if isinstance(recipe, Recipe) else recipes.get(recipe)
    if found.name == LINEAR.name:
        raise ValueError(f"recipe={LINEAR.name!r}: must be another one; scikit-learn has LogisticRegression")
    return found


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a user gives
    """A whole number of NumPy's as one of Python's; anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """The seed that `random_state` stands for, as scikit-learn understands it; raises ValueError for what is none."""
    number = plain(random_state)
    return check_seed(number) if isinstance(number, int) else int(check_random_state(number).randint(2**31))


def as_images(look: arrays.Look, pixels: np.ndarray, codes: np.ndarray, classes: tuple[str, ...]) -> Images:
    """Training images with the classes `codes` (N,), −1 for none; no test image."""
    x, y = look.images(pixels), torch.from_numpy(codes)
    return Images("X", x, y, x[:0], y[:0], classes, look.side)


def fitting(recipe: Recipe, look: arrays.Look, precision: str, n_images: int, *, uniform_prior: bool) -> Recipe:
    """The recipe for `n_images` of this look on this machine. Raises ValueError for a precision that there is not."""
    if precision not in (allowed := ("auto", *PRECISIONS)):
        raise ValueError(f"precision={precision!r}: must be one of {', '.join(allowed)}")
    if precision == PRECISIONS[1] and not device.computes_bfloat16():
        raise ValueError(f"precision={precision!r}: must be auto or {PRECISIONS[0]} on this processor")
    recipe = recipe.for_images(look.background, side=look.side, uniform_prior=uniform_prior, n_images=n_images)
    return recipe.in_precision(device.best_precision() if precision == "auto" else precision)


def key_of(look: arrays.Look, pixels: np.ndarray, pretraining: Pretraining, where: str) -> str:
    """What the graph of these images follows from, made on the device `where`, as a digest."""
    follows = [hashlib.sha256(pixels.tobytes()).hexdigest(), repr(look), repr(pretraining), device.training_device(where).type]
    return digest(follows)[:16]


def neighbors_of(
    images: Images,
    pretraining: Pretraining,
    given: str | Path | Neighbors | None,
    where: str,
    key: str,
    tell: Progress | None,
) -> Neighbors:
    """The graph of the images: the one `given`; of a folder, that of the name `key` there, made if it is not; or made."""
    x, on_step = images.x, tell or (lambda event: None)

    def build() -> Neighbors:
        return graph.build(x.to(device.training_device(where)), pretraining, on_step)

    if given is None:
        return build()
    if isinstance(given, Neighbors):
        neighbors = given
    elif isinstance(given, str | Path) and str(given).strip():
        neighbors = graph_file.kept("graph", Path(given).expanduser() / f"graph-{key}.safetensors", build)
    else:
        raise ValueError(f"graph={given!r}: must be None, a folder, or the graph_ of an estimator")
    if len(neighbors.index) != len(x):
        raise ValueError(f"graph: must be of the {len(x)} images of X; it is of {len(neighbors.index)}")
    return neighbors


@contextmanager
def working(n_jobs: int | None) -> Iterator[None]:
    """Runs PyTorch with so many threads; None is 1, −1 all cores. Raises ValueError for what is no number of them.

    Memory that a step frees is kept for the next one, where the system's library can do that (glibc): training takes a fifth
    less time.
    """
    n_jobs = plain(n_jobs)
    n = 1 if n_jobs is None else cores() + 1 + n_jobs if isinstance(n_jobs, int) and n_jobs < 0 else n_jobs
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n_jobs={n_jobs!r}: must be None, a whole number from 1, or −1 for all cores")
    with suppress(OSError, AttributeError):
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            ctypes.CDLL(None).mallopt(parameter, KEEP)
    with device.threads(n):
        yield
