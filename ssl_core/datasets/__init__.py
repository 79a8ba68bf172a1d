"""Data sets, by name or as a folder of images: fetched, verified and decoded into arrays of bytes, with their metadata.

`describe(name)` gives the metadata of a data set, `load(name)` also its images. Files lie in the data folder `root`, by
default the project's, or, where the package alone is installed, the user's cache. named.py lists the data sets that have a
name; to add one, add an entry there.
"""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from . import checks, folder
from .fetch import DataError
from .info import MEAN, SIDE, STD, DataSetInfo
from .named import DATA_SETS, NamedSet, PublishedSet
from .names import is_archive, is_image, not_a_folder
from .store import Arrays

_PROJECT = Path(__file__).resolve().parents[2]  # where the package lies in a checkout of the project
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssl-core"  # of whoever installed the package alone
DATA = (_PROJECT if (_PROJECT / "pyproject.toml").exists() else _CACHE) / "data"
NAMES = tuple(DATA_SETS)
ALLOWED = f"one of {', '.join(NAMES)}, or the path of a folder of images, with a / in it"

__all__ = [
    "DATA",
    "DATA_SETS",
    "MEAN",
    "NAMES",
    "SIDE",
    "STD",
    "DataError",
    "DataSetInfo",
    "NamedSet",
    "PublishedSet",
    "asked_side",
    "check_name",
    "describe",
    "fetch",
    "load",
    "pinned",
    "slug",
]


def check_name(name: object) -> None:
    """Raises ValueError unless `name` is that of a data set, or may be the path of a folder; the disk is not touched."""
    if isinstance(name, str) and "/" not in name and (is_archive(name) or is_image(name)):
        raise ValueError(f"data={name!r}: {not_a_folder(Path(name))}")
    if not isinstance(name, str) or (name not in DATA_SETS and "/" not in name):
        raise _unknown(name)


def asked_side(name: str, side: object) -> int:
    """The `side` in pixels that is asked for of the images of the data set or folder `name`; 0 if a set has it anyway.

    Raises ValueError if they can't have it; the disk is not touched.
    """
    side = checks.check_side(side)
    if (named := DATA_SETS.get(name)) is None or side not in (0, named.side):
        if isinstance(named, PublishedSet):
            raise ValueError(f"side={side!r}: must be {named.side} for data={name!r}, whose images are used as published")
        return side
    return 0


def describe(name: str, root: str | Path | None = None, side: int = 0, *, for_training: bool = True) -> DataSetInfo:
    """The metadata of the data set or image folder `name`, without its images.

    These get `side` × `side` pixels, or, for 0, as many as fit them. The first time, those of a folder, and of some sets, are
    decoded and kept below `root`. Raises ValueError if there is no such folder, if its images can't have this side, or,
    `for_training`, if it has too few usable labels.
    """
    check_name(name)
    info = metadata(name, _root(root), asked_side(name, side))
    if for_training and info.problem:
        raise ValueError(info.problem)
    return info


@cache
def metadata(name: str, root: Path, side: int = 0) -> DataSetInfo:
    """The same, read once in a process; also of a folder that can't be trained with."""
    if name in DATA_SETS:
        return DATA_SETS[name].describe(root, side)
    _check_folder(name, root, side)
    return folder.describe(name, root, side)


def load(name: str, root: str | Path | None = None, side: int = 0) -> tuple[DataSetInfo, Arrays]:
    """The metadata and the arrays of the data set or image folder `name`; it is fetched or decoded if `root` lacks it.

    The arrays are `x` and `x_test`, bytes (N, C, side, side), and the classes `y` and `y_test`, int64 (N,), −1 for no label.
    Raises ValueError for an unknown name, an unusable folder, or a side that its images can't have; DataError if files can
    neither be verified nor replaced.
    """
    check_name(name)
    side = asked_side(name, side)
    if name in DATA_SETS:
        return DATA_SETS[name].load(_root(root), side)
    _check_folder(name, _root(root), side)
    return folder.load(name, _root(root), side)


def fetch(name: str, root: str | Path | None = None) -> Path:
    """The file or folder below `root` that holds the data set `name`; fetched or made if it is missing."""
    return DATA_SETS[name].fetch(_root(root))


def slug(name: str) -> str:
    """The data set's name, or the folder's, as that of a folder of results; the folder is not opened."""
    return name if name in DATA_SETS else folder.slug(name)


def _check_folder(name: str, root: Path, side: int) -> None:
    """Raises ValueError unless `name` is the path of a folder that is there, or is pinned, or was read before."""
    path = Path(name)
    if path.is_file():
        raise ValueError(f"data={name!r}: {not_a_folder(path)}")
    if not path.is_dir() and not folder.pinned_file(name, root, side) and not folder.last_read(name, root, side):
        raise ValueError(f"{_unknown(name)}; this folder is not there")


def pinned(names: Iterable[str], root: str | Path | None = None, side: int = 0) -> dict[str, str]:
    """The environment in which child processes read the folders `names` as they are now, also after they have changed.

    Data sets that are no folders are passed over. Raises ValueError as `describe` does.
    """
    return folder.pinned([name for name in names if name not in DATA_SETS], _root(root), side)


def _unknown(name: object) -> ValueError:
    return ValueError(f"data={name!r}: must be {ALLOWED}")


def _root(root: str | Path | None) -> Path:
    return Path(DATA if root is None else root).resolve()
