"""A data set as plain tensors; and its split into labelled and unlabelled images."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from .fetch import DATA_SETS, fetch

MEAN, STD = 0.1306, 0.3081  # of MNIST's training pixels in [0, 1], as the report gives them; of other data sets too
BACKGROUND = -MEAN / STD  # a black pixel, normalised
DRAWS = ("random", "stratified")


@dataclass(frozen=True)
class Images:
    """A data set in memory. Images are float32 (N, 1, 28, 28), normalised; labels are int64 (N,)."""

    name: str
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_test: Tensor = field(repr=False)
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Indices into the training images, int64: which are labelled, which are not."""

    labeled: Tensor
    unlabeled: Tensor


def load(name: str = "mnist", root: str | Path = "data") -> Images:
    """The data set `name`, fetched first if `root` does not hold it, verified in any case.

    Raises ValueError for an unknown name and DataError if the files can neither be verified nor repaired.
    """
    check_name(name)
    fetch(name, root)
    from torchvision import datasets  # imported late: it costs a second, and the checks above should not

    known = DATA_SETS[name]
    train, test = (getattr(datasets, known.folder)(str(root), train=part) for part in (True, False))
    return Images(
        name=name,
        x=_normalised(train.data),
        y=train.targets,
        x_test=_normalised(test.data),
        y_test=test.targets,
        classes=known.classes,
    )


def split(y: Tensor, n_labels: int, seed: int, draw: str = "random") -> Split:
    """Which `n_labels` of the images with classes `y` (N,) are labelled: a pure function of its arguments.

    `random` draws uniformly, as the report does: with few labels a class may be missing. `stratified` draws as many of
    each class as it can, give or take one. For one seed, a smaller draw is the beginning of a larger one.
    """
    n = len(y)
    check_n_labels(n_labels, n)
    check_seed(seed)
    check_draw(draw)
    # A stream of its own: the drawn subset does not depend on how training uses the same seed.
    order = np.random.default_rng([seed, 0]).permutation(n)
    if draw == "stratified":
        shuffled = y.numpy()[order]
        rank_in_class = np.empty(n, dtype=np.int64)
        for c in np.unique(shuffled):
            members = np.flatnonzero(shuffled == c)
            rank_in_class[members] = np.arange(len(members))
        order = order[np.argsort(rank_in_class, kind="stable")]
    order = torch.from_numpy(order)
    return Split(labeled=order[:n_labels], unlabeled=order[n_labels:])


def full_batches(n: int, size: int, generator: Generator) -> Iterator[Tensor]:
    """Endlessly, index batches (size,): every index comes once before any comes twice, and so on."""
    ahead = torch.empty(0, dtype=torch.int64)
    while True:
        while len(ahead) < size:
            ahead = torch.cat([ahead, torch.randperm(n, generator=generator)])
        yield ahead[:size]
        ahead = ahead[size:]


def require(condition: bool, owner: object, parameter: str, allowed: str) -> None:
    """Raises ValueError, naming the field `parameter` of `owner`, its value and what is allowed, unless `condition`."""
    if not condition:
        raise ValueError(f"{parameter}={getattr(owner, parameter)!r}: allowed is {allowed}")


def check_name(name: object) -> None:
    """Raises ValueError unless `name` is that of a known data set."""
    if name not in DATA_SETS:
        raise ValueError(f"data={name!r}: allowed is {', '.join(DATA_SETS)}")


def check_draw(draw: object) -> None:
    """Raises ValueError unless `draw` is a known way to draw the labelled images."""
    if draw not in DRAWS:
        raise ValueError(f"draw={draw!r}: allowed is {', '.join(DRAWS)}")


def check_n_labels(n_labels: object, n_images: int = 60_000) -> None:
    """Raises ValueError unless `n_labels` is a whole number from 1 to `n_images`."""
    if not isinstance(n_labels, int) or isinstance(n_labels, bool) or not 1 <= n_labels <= n_images:
        raise ValueError(f"n_labels={n_labels!r}: allowed is a whole number from 1 to {n_images}")


def check_seed(seed: object) -> None:
    """Raises ValueError unless `seed` is a whole number from 0 to 2**32 - 1."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: allowed is a whole number from 0 to {2**32 - 1}")


def _normalised(pixels: Tensor) -> Tensor:
    """Bytes (N, 28, 28) to float32 (N, 1, 28, 28), as ToTensor and Normalize give them."""
    return pixels.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD)
