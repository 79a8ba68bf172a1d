"""A data set as plain tensors; and its split into labelled and unlabelled images."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from . import datasets
from .datasets import MEAN, STD
from .datasets.checks import FOLDS, check_draw, check_n_labels, check_seed

if TYPE_CHECKING:
    from .label_errors import LabelCheck

BACKGROUND = -MEAN / STD  # a black pixel of MNIST, normalised


class Pixels:
    """Images (N, C, side, side) that stay bytes: those that an index asks for are read as float32, normalised.

    It stands where a tensor of normalised images can, which takes four times the memory. `index` tells which of the images in
    `values` these are, by default all.
    """

    def __init__(self, values: Tensor, mean: tuple[float, ...], std: tuple[float, ...], index: Tensor | None = None):
        self.values, self.mean, self.std, self.index = values, mean, std, index

    def __len__(self) -> int:
        return len(self.values if self.index is None else self.index)

    def __getitem__(self, index: Any) -> Tensor:  # noqa: ANN401 - whatever indexes a tensor
        images, *within = index if isinstance(index, tuple) else (index,)
        x = normalize(self.values[images if self.index is None else self.index[images]], self.mean, self.std)
        return x[(*[slice(None)] * (x.dim() - 3), *within)] if within else x

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self), *self.values.shape[1:]])

    @property
    def device(self) -> torch.device:
        return self.values.device

    def part(self, index: Tensor) -> "Pixels":
        """The images of an `index` (M,) of whole numbers, without a copy of their bytes."""
        return Pixels(self.values, self.mean, self.std, index if self.index is None else self.index[index])

    def split(self, size: int) -> Iterator[Tensor]:
        """All images, `size` at a time."""
        return (self[start : start + size] for start in range(0, max(1, len(self)), size))

    def to(self, device: torch.device | str) -> "Pixels":
        """The same images on that device."""
        if self.device == torch.device(device):
            return self
        values = self.values if self.index is None else self.values[self.index]
        return Pixels(values.to(device), self.mean, self.std)


@dataclass(frozen=True)
class Images:
    """A data set in memory. Images are (N, C, side, side), normalised; labels are int64 (N,), −1 where there is none."""

    name: str
    x: Pixels | Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_test: Tensor = field(repr=False)
    classes: tuple[str, ...]
    side: int = 0  # pixels, that were asked for; 0: as many as fit the images

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of classes, of channels, and the side in pixels: what the network is built for."""
        return len(self.classes), *self.x.shape[1:3]

    def part(self, index: Tensor) -> Pixels | Tensor:
        """The training images of an `index` (M,); bytes are not copied."""
        return self.x.part(index) if isinstance(self.x, Pixels) else self.x[index]

    def class_names(self, y: Tensor) -> list[str]:
        """The names of classes `y` (N,); `?` for −1, no label."""
        return [self.classes[c] if c >= 0 else "?" for c in y.tolist()]


@dataclass(frozen=True)
class Split:
    """Indices into the training images, int64: which are labelled, which are not."""

    labeled: Tensor
    unlabeled: Tensor


@dataclass(frozen=True)
class Task:
    """Everything that training is given beside the network, the recipe and the seed; see experiment.prepare.

    Images are (·, C, side, side), classes int64. `candidates` (U, C) is True for the classes that the graph allows for an
    unlabelled image, and `class_prior` (C,) estimates the class frequencies; both are None without a graph,
    and where `check` says that it misleads.
    """

    x_l: Pixels | Tensor  # (M, C, side, side), the labelled images
    y_l: Tensor  # (M,), their classes, label noise included
    x_u: Pixels | Tensor  # (U, C, side, side), the unlabelled images; none where `check` says that the graph misleads
    candidates: Tensor | None = None
    class_prior: Tensor | None = None
    split: Split | None = None  # which training images these are
    held_out: Tensor | None = None  # (H,), indices of the labelled images of a withheld fold
    y_held_out: Tensor | None = None  # (H,), their classes, label noise included
    n_clusters: int = 0  # of a task without labels: classes are clusters, and its labelled images stand for one each
    check: "LabelCheck | None" = None  # of a recipe that checks labels: all of them, also those that it left out

    @property
    def graph_misleads(self) -> bool:
        """Whether the labels are learned from alone, since the graph knows nothing of their classes."""
        return self.check is not None and self.check.graph_misleads

    def to(self, device: torch.device) -> "Task":
        """The task with the tensors that training uses on `device`."""
        names = ("x_l", "y_l", "x_u", "candidates", "class_prior")
        moved = {name: tensor.to(device) for name in names if (tensor := getattr(self, name)) is not None}
        return replace(self, **moved)


def load(name: str = "mnist", root: str | Path | None = None, side: int = 0) -> Images:
    """The data set `name`, fetched first if `root` does not hold it, verified in any case; or the images of the folder `name`.

    They get `side` × `side` pixels, or, for 0, as many as fit them. Raises ValueError for an unknown name, or a folder that
    can't be used, and DataError if the files can neither be verified nor repaired.
    """
    info, arrays = datasets.load(name, root, side)
    y, y_test = torch.from_numpy(arrays["y"]), torch.from_numpy(arrays["y_test"])
    x = Pixels(torch.from_numpy(arrays["x"]), info.mean, info.std)
    x_test = normalize(torch.from_numpy(arrays["x_test"]), info.mean, info.std)
    return Images(name, x, y, x_test, y_test, info.classes, side)


def split(y: Tensor, n_labels: int, seed: int, draw: str = "random", typical: Tensor | None = None) -> Split:
    """The split of images with classes `y` (N,) into `n_labels` labelled and the others: a pure function of its arguments.

    Both parts are in one random order of all images: which images are labelled decides what is trained, not how they were drawn.
    For the rest see `drawn`.
    """
    labeled = torch.zeros(len(y), dtype=torch.bool)
    labeled[drawn(y, n_labels, seed, draw, typical)] = True
    order = torch.from_numpy(_order(len(y), seed))
    return Split(labeled=order[labeled[order]], unlabeled=order[~labeled[order]])


def drawn(y: Tensor, n_labels: int, seed: int, draw: str = "random", typical: Tensor | None = None) -> Tensor:
    """The indices (n_labels,) of the images to label, in the order in which they are drawn.

    Images without a class, −1, are never labelled. `random` draws uniformly, as the report does: with few labels a class may
    be missing. `class-balanced` draws equally many of each class, to within one. With either, and one seed, a smaller draw is
    the beginning of a larger one. `typical` takes the images with the indices `typical`, which selection.typical selected without
    labels. Raises ValueError for a bad argument.
    """
    labels = torch.nonzero(y >= 0).flatten().numpy()
    check_n_labels(n_labels, len(labels))
    check_seed(seed)
    check_draw(draw)
    if (draw == "typical") != (typical is not None and len(typical) == n_labels):
        raise ValueError(f"typical={typical!r}: must be the indices of {n_labels} images for draw='typical', else None")
    if typical is not None:
        return typical
    order = labels[_order(len(labels), seed)]
    if draw == "class-balanced":
        shuffled = y.numpy()[order]
        rank_in_class = np.empty(len(order), dtype=np.int64)
        for c in np.unique(shuffled):
            members = np.flatnonzero(shuffled == c)
            rank_in_class[members] = np.arange(len(members))
        order = order[np.argsort(rank_in_class, kind="stable")]
    return torch.from_numpy(order[:n_labels])


def _order(n: int, seed: int) -> np.ndarray:
    """A random order of `n` images, from a stream of its own: it does not depend on how training uses the same seed."""
    return np.random.default_rng([seed, 0]).permutation(n)


def withhold_fold(split: Split, fold: int) -> tuple[Split, Tensor]:
    """The split without the labels of part `fold`, 1 to FOLDS, of its labelled images; and the indices of that part, int64.

    Images whose label is held back join the unlabelled set.
    """
    return leave_out(split, torch.arange(len(split.labeled)) % FOLDS == fold - 1)


def leave_out(split: Split, mask: Tensor) -> tuple[Split, Tensor]:
    """The split in which the labelled images of the `mask` (M,) are unlabelled; and their indices, int64."""
    out = split.labeled[mask]
    return Split(split.labeled[~mask], torch.cat([split.unlabeled, out])), out


def corrupt_labels(y_l: Tensor, label_noise: float, seed: int, n_classes: int) -> Tensor:
    """Labels `y_l` (M,) of which the fraction `label_noise`, rounded, is replaced by another class, uniformly at random."""
    random = np.random.default_rng([seed, 1])
    wrong = random.permutation(len(y_l))[: round(label_noise * len(y_l))]
    noisy = y_l.clone()
    noisy[wrong] = (noisy[wrong] + torch.from_numpy(random.integers(1, n_classes, len(wrong)))) % n_classes
    return noisy


class FullBatches:
    """An endless stream of index batches (size,) on the device of `generator`: one permutation of range(n) after another."""

    def __init__(self, n: int, size: int, generator: Generator):
        self.n, self.size, self.generator = n, size, generator
        self.ahead = torch.empty(0, dtype=torch.int64, device=generator.device)  # drawn, not yet used

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        while len(self.ahead) < self.size:
            permutation = torch.randperm(self.n, generator=self.generator, device=self.generator.device)
            self.ahead = torch.cat([self.ahead, permutation])
        batch, self.ahead = self.ahead[: self.size], self.ahead[self.size :]
        return batch


def normalize(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bytes (N, C, H, W) to float32, as ToTensor and Normalize give them with this mean and deviation of each channel."""
    center, scale = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (mean, std))
    return pixels.float().div_(255).sub_(center).div_(scale)
