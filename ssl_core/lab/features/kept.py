"""Features from elsewhere on disk, one file for a data set and a source; a run names them, and needs their source no more."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssl_core import datasets
from ssl_core import features as foreign
from ssl_core.data import Images, load
from ssl_core.datasets import DataSetInfo
from ssl_core.datasets.machine import lock
from ssl_core.datasets.tables import counted

from ..runs import files
from ..runs.spec import Run, check_features
from .pictures import Pictures, names_in, pictures
from .sources import source

FOLDER = files.DATA / "features"
NOT_YET = "not-yet-00000000"  # in place of the name of features that are not read yet


@dataclass(frozen=True)
class Features:
    """Features (N, D), float32, of the images called `names`; `words` say what they are."""

    values: Tensor
    names: tuple[str, ...]
    words: str

    def of(self, names: tuple[str, ...]) -> Tensor:
        """The features of these images, in this order; raises ValueError for one that is not among them."""
        row = {name: i for i, name in enumerate(self.names)}
        if unknown := [name for name in names if name not in row]:
            raise ValueError(f"features: have none for {unknown[0]}: give FEATURES to `make sweep` again, as at first")
        return self.values[[row[name] for name in names]]


def prepare(text: str, name: str) -> str:
    """The name of the features that a user named, for the data set, or the folder, `name`; '' for none.

    The first time they are read, and kept below the data folder. Raises ValueError, in one line, if they can't be had, or are
    not a row of finite numbers for each image.
    """
    if not (text := text.strip()):
        return ""
    images = pictures(name)
    if is_name(text) and _path(name, images, text).exists():  # of a run: its source need not be there any more
        return text
    try:
        named = source(text)
        path = _path(name, images, named.name)
        if not path.exists():
            files.writable("data", path.parent)
            with lock(path.with_suffix(".lock")):
                if not path.exists():
                    values = named.read(images, Path(name), lambda sentence: print(f"features: {sentence}", flush=True))
                    _write(path, _checked(values, images), named.words)
    except ValueError as error:
        raise ValueError(f"FEATURES={text!r}: {str(error).removeprefix(f'FEATURES={text!r}: ')}") from None
    with safe_open(path, "pt") as file:
        n, width = file.get_slice("features").get_shape()
    print(f"features: {named.name}, {width} numbers for each of {counted(n, 'image')} of {name}", flush=True)
    return named.name


def is_name(text: str) -> bool:
    """Whether `text` is the name of features as they are kept, and no source of some."""
    try:
        check_features(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=2)
def kept(name: str, features: str) -> Features:
    """The features called `features` of all images of a data set; raises ValueError if they are not kept any more."""
    images = pictures(name)
    try:
        with safe_open(path := _path(name, images, features), "pt") as file:
            words = file.metadata()["words"]
        return Features(safetensors.torch.load_file(path)["features"], images.names, words)
    except (OSError, SafetensorError):
        again = "are not kept for these images: give FEATURES to `make sweep` again, as at first"
        raise ValueError(f"features={features!r}: {again}") from None


def size(name: str, features: str) -> int:
    """The bytes that these features of a data set take."""
    return _path(name, pictures(name), features).stat().st_size


def in_place_of_pixels(run: Run, images: Images | None = None) -> Images:
    """The images of a run, with features (N, D, 1, 1) in place of pixels."""
    found, images = kept(run.data, run.features), images or load(run.data, files.DATA, run.side)
    x, x_test = (found.of(names) for names in names_in(run.info))
    x, x_test = (foreign.as_images(part, x.mean(dim=0)) for part in (x, x_test))
    return Images(images.name, x, images.y, x_test, images.y_test, images.classes)


def of_training(name: str, features: str, info: DataSetInfo) -> Tensor:
    """The features (N, D) of the training images that `info` describes."""
    return kept(name, features).of(names_in(info)[0])


def _path(name: str, images: Pictures, features: str) -> Path:
    return FOLDER / f"{datasets.slug(name)}-{files.digest(images.checksum)[:8]}-{features}.safetensors"


def _write(path: Path, values: np.ndarray, words: str) -> None:
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    files.write_atomically(path, safetensors.torch.save({"features": tensor}, {"words": words}))


def _checked(values: np.ndarray, images: Pictures) -> np.ndarray:
    """The features (N, D), float32; raises ValueError unless they are finite, and differ between images."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if values.shape[1] < 2:
        raise ValueError("must have two numbers an image or more")
    if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
        of = f"{len(bad)} of {len(values)} rows are not, such as that of {images.names[bad[0]]}"
        raise ValueError(f"must have finite numbers, as float32 can hold: {of}")
    if (values == values[:1]).all():
        raise ValueError("must differ between images: all rows are equal")
    return values
