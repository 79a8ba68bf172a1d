"""Other data sets by name: images of any size in memory, which are brought to measure like those of a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .fetch import DATA_SETS, DataError, from_mirrors, read

# Each function is given the data folder and returns x, y, x_test, y_test and the classes; images are (N, H, W), or (N, H, W, 3)
# in colour.
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]


def _sklearn_digits(root: Path) -> Arrays:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    pixels = (found.images * (255 / 16)).round().astype(np.uint8)
    x, x_test, y, y_test = train_test_split(pixels, found.target, test_size=0.2, stratify=found.target, random_state=0)
    return x, y, x_test, y_test, tuple("0123456789")


def _torchvision(title: str, train: Mapping[str, object], test: Mapping[str, object]) -> Callable[[Path], Arrays]:
    """A set that torchvision fetches and verifies; `train` and `test` are the arguments that its parts are asked for with."""

    def arrays(root: Path) -> Arrays:
        from torchvision import datasets

        parts = []
        for arguments in (train, test):
            try:
                found = from_mirrors(lambda arguments=arguments: getattr(datasets, title)(str(root), download=True, **arguments))
            except Exception as error:
                raise DataError(
                    f"{title} is not there, and its mirrors did not give it: {' '.join(str(error).split())[:200]}"
                ) from None
            x, y = np.asarray(found.data), np.asarray(found.labels if title == "SVHN" else found.targets)
            x = x.transpose(0, 2, 1) if title == "EMNIST" else x.transpose(0, 2, 3, 1) if title == "SVHN" else x
            parts += [x, y[:, 0] if y.ndim == 2 else y]
        classes = datasets.KMNIST.classes if title == "KMNIST" else "0123456789"
        return *parts, tuple(classes)

    return arrays


def _few_eights(root: Path) -> Arrays:
    """MNIST with one in ten of its eights to train with: a class that is rarer than the others."""
    x, y, *rest = read("mnist", root)
    eights = np.flatnonzero(y == 8)
    left_out = eights[len(eights) // 10 :]
    return np.delete(x, left_out, axis=0), np.delete(y, left_out), *rest, DATA_SETS["mnist"].classes


def _and_clothes(root: Path) -> Arrays:
    """48,000 of MNIST's images to train with, and 12,000 of Fashion-MNIST's, which have no label: a fifth is foreign."""
    x, y, *rest = read("mnist", root)
    clothes, *_ = read("fashion-mnist", root)
    x, y = np.concatenate([x[:48_000], clothes[:12_000]]), np.concatenate([y[:48_000], np.full(12_000, -1)])
    return x, y, *rest, DATA_SETS["mnist"].classes


SETS: Mapping[str, Callable[[Path], Arrays]] = {
    "digits": _sklearn_digits,
    "kmnist": _torchvision("KMNIST", {"train": True}, {"train": False}),
    "emnist-digits": _torchvision("EMNIST", {"split": "digits", "train": True}, {"split": "digits", "train": False}),
    "qmnist": _torchvision("QMNIST", {"what": "train"}, {"what": "test10k"}),
    "usps": _torchvision("USPS", {"train": True}, {"train": False}),
    "mnist-few-eights": _few_eights,
    "mnist-and-clothes": _and_clothes,
    "svhn": _torchvision("SVHN", {"split": "train"}, {"split": "test"}),
}
