"""Data sets: fetched and verified, by name or from a folder of images; as arrays of bytes, and what is known of them.

`describe(name)` tells about a data set without its images, `load(name)` reads these. To add one, see named.py.
"""

from pathlib import Path

import numpy as np

from . import folder
from .fetch import DATA_SETS, DataError, DataSet, fetch, read
from .folder import Folder

NAMES = (*DATA_SETS, *folder.SETS)
(MEAN,), (STD,) = DataSet.mean, DataSet.std  # of MNIST's training pixels in [0, 1]

__all__ = [
    "DATA_SETS",
    "MEAN",
    "NAMES",
    "STD",
    "DataError",
    "DataSet",
    "Folder",
    "check_name",
    "describe",
    "fetch",
    "load",
    "slug",
]


def check_name(name: object) -> None:
    """Raises ValueError unless `name` is that of a known data set, or the path of a folder that is there."""
    if name not in NAMES and not (isinstance(name, str) and "/" in name and Path(name).is_dir()):
        raise ValueError(f"data={name!r}: must be one of {', '.join(NAMES)}, or the path of a folder of images, with a / in it")


def describe(name: str, *, for_training: bool = True) -> DataSet | Folder:
    """Metadata of the data set or image folder `name`, without its images.

    Raises ValueError if there is none, or, `for_training`, if the folder has too few usable labels.
    """
    check_name(name)
    if name in DATA_SETS:
        return DATA_SETS[name]
    info = folder.describe(name)
    if for_training and info.problem:
        raise ValueError(info.problem)
    return info


def slug(name: str) -> str:
    """The data set's name as that of a folder of results."""
    return name if name in DATA_SETS else describe(name, for_training=False).slug


def load(name: str, root: str | Path = "data") -> tuple[DataSet | Folder, dict[str, np.ndarray]]:
    """The metadata and the arrays of the data set `name`, fetched into `root` if it is not there, and verified in any case.

    The arrays are `x` and `x_test`, bytes (N, C, 28, 28), and the classes `y` and `y_test`, int64 (N,), -1 for no label.
    Raises ValueError for an unknown name or an unusable folder, DataError if files can neither be verified nor replaced.
    """
    check_name(name)
    if name not in DATA_SETS:
        return folder.load(name)
    x, y, x_test, y_test = read(name, root)
    return DATA_SETS[name], {"x": x[:, None], "y": y, "x_test": x_test[:, None], "y_test": y_test}
