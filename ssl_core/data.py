"""A data set as plain tensors; and its split into labelled and unlabelled images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin

import numpy as np
import torch
from torch import Generator, Tensor

from . import folder
from .fetch import DATA_SETS, DataSet, read

(MEAN,), (STD,) = DataSet.mean, DataSet.std  # of MNIST's training pixels in [0, 1]
BACKGROUND = -MEAN / STD  # a black pixel of MNIST, normalised
FOLDS = 5  # of a cross-validation
DRAWS = ("random", "stratified", "typical")
NAMES = (*DATA_SETS, *folder.SETS)


@dataclass(frozen=True)
class Images:
    """A data set in memory. Images are float32 (N, C, 28, 28), normalised; labels are int64 (N,), −1 where there is none."""

    name: str
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_test: Tensor = field(repr=False)
    classes: tuple[str, ...]

    def called(self, y: Tensor) -> list[str]:
        """The names of classes `y` (N,); `?` where there is none."""
        return [self.classes[c] if c >= 0 else "?" for c in y.tolist()]


@dataclass(frozen=True)
class Split:
    """Indices into the training images, int64: which are labelled, which are not."""

    labeled: Tensor
    unlabeled: Tensor


def known(name: str, to_train: bool = True) -> DataSet | folder.Folder:
    """What is known of the data set, or of the folder of images, `name`, without the images; ValueError if it is neither.

    Also, unless it is not `to_train` with, if a folder has not the labels that training takes.
    """
    check_name(name)
    if name in DATA_SETS:
        return DATA_SETS[name]
    about = folder.known(name)
    if to_train and about.problem:
        raise ValueError(about.problem)
    return about


def slug(name: str) -> str:
    """The data set's name as that of a folder of results."""
    return name if name in DATA_SETS else known(name, to_train=False).slug


def load(name: str = "mnist", root: str | Path = "data") -> Images:
    """The data set `name`, fetched first if `root` does not hold it, verified in any case; or the images of the folder `name`.

    Raises ValueError for an unknown name, or a folder that can't be used, and DataError if the files can neither be verified nor
    repaired.
    """
    check_name(name)
    if name in DATA_SETS:
        about, (x, y, x_test, y_test) = DATA_SETS[name], read(name, root)
        x, x_test = x[:, None], x_test[:, None]
    else:
        about, found = folder.load(name)
        x, y, x_test, y_test = (found[part] for part in ("x", "y", "x_test", "y_test"))
    y, y_test = torch.from_numpy(y), torch.from_numpy(y_test)
    x, x_test = (normalised(torch.from_numpy(pixels), about.mean, about.std) for pixels in (x, x_test))
    return Images(name, x, y, x_test, y_test, about.classes)


def split(y: Tensor, n_labels: int, seed: int, draw: str = "random", typical: Tensor | None = None) -> Split:
    """Which `n_labels` of the images with classes `y` (N,) are labelled: a pure function of its arguments.

    Images without a class, −1, are never labelled.

    `random` draws uniformly, as the report does: with few labels a class may be missing. `stratified` draws as many of
    each class as it can, give or take one. For one seed, a smaller draw of these is the beginning of a larger one. `typical`
    takes the images with the indices `typical`, which graph.typical chose without any label.
    """
    labels, without = torch.nonzero(y >= 0).flatten().numpy(), torch.nonzero(y < 0).flatten().numpy()
    check_n_labels(n_labels, len(labels))
    check_seed(seed)
    check_draw(draw)
    if (draw == "typical") != (typical is not None and len(typical) == n_labels):
        raise ValueError(f"typical={typical!r}: allowed are the indices of {n_labels} images for draw='typical', else None")
    # A stream of its own: the drawn subset does not depend on how training uses the same seed.
    order = labels[np.random.default_rng([seed, 0]).permutation(len(labels))]
    if draw == "stratified":
        shuffled = y.numpy()[order]
        rank_in_class = np.empty(len(order), dtype=np.int64)
        for c in np.unique(shuffled):
            members = np.flatnonzero(shuffled == c)
            rank_in_class[members] = np.arange(len(members))
        order = order[np.argsort(rank_in_class, kind="stable")]
    if draw == "typical":
        order = np.concatenate([typical.numpy(), order[~np.isin(order, typical.numpy())]])
    order = torch.from_numpy(np.concatenate([order, without]))
    return Split(labeled=order[:n_labels], unlabeled=order[n_labels:])


def hold_out(parts: Split, fold: int) -> tuple[Split, Tensor]:
    """The split without the labels of one of FOLDS parts of its labelled images, from 1; and the indices of that part.

    What a label is held back from is an unlabelled image like the others: so it would be for whoever had not labelled it.
    """
    labeled = torch.arange(len(parts.labeled)) % FOLDS != fold - 1
    held_out = parts.labeled[~labeled]
    return Split(parts.labeled[labeled], torch.cat([parts.unlabeled, held_out])), held_out


def mislabel(y_l: Tensor, fraction: float, seed: int, n_classes: int) -> Tensor:
    """Labels `y_l` (M,) of which this `fraction`, rounded, is wrong: another class, any of them as likely."""
    random = np.random.default_rng([seed, 1])
    wrong = random.permutation(len(y_l))[: round(fraction * len(y_l))]
    found = y_l.clone()
    found[wrong] = (found[wrong] + torch.from_numpy(random.integers(1, n_classes, len(wrong)))) % n_classes
    return found


class FullBatches:
    """Endlessly, index batches (size,) on the device of `generator`: every index comes once before any comes twice, and so on."""

    def __init__(self, n: int, size: int, generator: Generator):
        self.n, self.size, self.generator = n, size, generator
        self.ahead = torch.empty(0, dtype=torch.int64, device=generator.device)  # drawn, and not handed out yet

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        while len(self.ahead) < self.size:
            drawn = torch.randperm(self.n, generator=self.generator, device=self.generator.device)
            self.ahead = torch.cat([self.ahead, drawn])
        batch, self.ahead = self.ahead[: self.size], self.ahead[self.size :]
        return batch


def require(condition: bool, owner: object, parameter: str, allowed: str) -> None:
    """Raises ValueError, naming the field `parameter` of `owner`, its value and what is allowed, unless `condition`."""
    if not condition:
        raise ValueError(f"{parameter}={getattr(owner, parameter)!r}: allowed is {allowed}")


def check_types(owner: object) -> None:
    """Raises ValueError, naming the field, unless each field of a dataclass is of its declared type; numbers must be finite."""
    words = {int: "a whole number", float: "a finite number", tuple[float, float]: "(low, high), two finite numbers"}
    for each in fields(owner):
        allowed = words.get(each.type, getattr(each.type, "__name__", str(each.type)))
        require(_is_a(getattr(owner, each.name), each.type), owner, each.name, allowed)


def _is_a(value: object, kind: object) -> bool:
    kinds = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_is_a(value, one) for one in kinds)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_a, value, kinds))
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(_is_a(k, kinds[0]) and _is_a(v, kinds[1]) for k, v in value.items())
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool) and isfinite(value)
    return isinstance(value, kind)


def check_name(name: object) -> None:
    """Raises ValueError unless `name` is that of a known data set, or the path of a folder that is there."""
    if name not in NAMES and not (isinstance(name, str) and "/" in name and Path(name).is_dir()):
        raise ValueError(f"data={name!r}: allowed is {', '.join(NAMES)}, or the path of a folder of images, with a / in it")


def check_draw(draw: object) -> None:
    """Raises ValueError unless `draw` is a known way to draw the labelled images."""
    if draw not in DRAWS:
        raise ValueError(f"draw={draw!r}: allowed is {', '.join(DRAWS)}")


def check_wrong_labels(fraction: object) -> None:
    """Raises ValueError unless `fraction` is a number from 0 to below 1."""
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 <= fraction < 1:
        raise ValueError(f"wrong_labels={fraction!r}: allowed is a number from 0 to below 1")


def check_fold(fold: object, n_labels: int) -> None:
    """Raises ValueError unless `fold` is 0, or one of the parts into which `n_labels` images can be divided."""
    most = FOLDS if n_labels >= FOLDS else 0
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold <= most:
        raise ValueError(f"fold={fold!r}: allowed is a whole number from 0 to {most} with {n_labels} labels")


def check_n_labels(n_labels: object, most: int = 60_000) -> None:
    """Raises ValueError unless `n_labels` is a whole number from 1 to `most`, the images whose label may be used."""
    if not isinstance(n_labels, int) or isinstance(n_labels, bool) or not 1 <= n_labels <= most:
        raise ValueError(f"n_labels={n_labels!r}: allowed is a whole number from 1 to {most}")


def check_seed(seed: object) -> None:
    """Raises ValueError unless `seed` is a whole number from 0 to 2**32 - 1."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: allowed is a whole number from 0 to {2**32 - 1}")


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bytes (N, C, 28, 28) to float32, as ToTensor and Normalize give them with this mean and deviation of each channel."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return pixels.float().div_(255).sub_(mean).div_(std)
