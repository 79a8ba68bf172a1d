"""Images that were decoded once are kept on disk, with their metadata; the name of the file follows from what made it."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from .info import DataSetInfo
from .machine import digest, lock, write_atomically

Arrays = dict[str, np.ndarray]  # `x` and `x_test`, bytes (N, C, side, side); `y` and `y_test`, int64 (N,), −1 for no label
# x, y, x_test, y_test and the names of the classes; images are bytes (N, H, W), or (N, H, W, 3) in colour, of any size.
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]
# The modules that decide how images are read, and what is told of them.
CODE = (
    "pixels",
    "walk",
    "names",
    "tables",
    "table_names",
    "scan",
    "copies",
    "copy_table",
    "duplicates",
    "grouping",
    "decoding",
    "folder",
    "info",
    "named",
    "packaged",
    "kana",
)
KEPT_VERSIONS = 3  # of a folder that changes: a sweep that began with one of them may still read it


def kept(root: Path, slug: str, key: object, make: Callable[[], tuple[Arrays, DataSetInfo]]) -> Path:
    """The file below `root` with the arrays for `slug` and `key`; `make` is called if it is missing or not whole.

    `key` is a value that JSON can hold. The versions of a `slug` that were used last stay: KEPT_VERSIONS of them.
    """
    path = place(root, slug, key)
    folder = path.parent
    if is_whole(path):  # it can be used where nothing may be written
        touch(path)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / f"{slug}.lock"):  # another process may be making it
        if not is_whole(path):
            arrays, info = make()
            write_atomically(path, safetensors.numpy.save(arrays, {"info": json.dumps(asdict(info))}))
        for other in _versions(folder, slug)[KEPT_VERSIONS:]:
            other.unlink(missing_ok=True)
    return path


def place(root: Path, slug: str, key: object) -> Path:
    """The file below `root` that keeps the arrays for `slug` and `key`, once they are made."""
    return root / "folders" / f"{slug}-{digest([code_digest(), key])[:16]}.safetensors"


def of_side(slug: str, side: int) -> str:
    """The name of what is kept for `slug` where another `side` of its images was asked for than the one that fits them, 0."""
    return f"{slug}-side{side}" if side else slug


def newest(root: Path, slug: str) -> Path | None:
    """The kept file of a `slug` that was used last, if one is whole."""
    return next(kept_files(root, slug), None)


def kept_files(root: Path, slug: str) -> Iterator[Path]:
    """The kept files of a `slug` that are whole, that used last first."""
    return filter(is_whole, _versions(root / "folders", slug))


def _versions(folder: Path, slug: str) -> list[Path]:
    """The kept files of a `slug`, that used last first."""
    return sorted(folder.glob(f"{slug}-{'?' * 16}.safetensors"), key=_used, reverse=True)


def touch(path: Path) -> None:
    """Notes that a kept file is in use."""
    with suppress(OSError):  # another user's: it is used all the same
        os.utime(path)


def _used(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def read_info(path: Path) -> DataSetInfo:
    """The metadata in a kept file."""
    with safe_open(path, "numpy") as file:
        content = json.loads(file.metadata()["info"])
    fields: dict[str, Any] = {name: _frozen(value) for name, value in content.items()}
    return DataSetInfo(**fields)


def read(path: Path) -> tuple[DataSetInfo, Arrays]:
    """The metadata and the arrays in a kept file."""
    return read_info(path), safetensors.numpy.load_file(path)


@cache
def code_digest() -> str:
    """SHA-256 of the code that decides how images are read: after a change they are read again."""
    sources = [Path(__file__).with_name(f"{name}.py").read_text() for name in CODE]
    return digest(sources)


def is_whole(path: Path) -> bool:
    """Whether a kept file is there in full."""
    try:
        with safe_open(path, "numpy") as file:
            return "info" in file.metadata()
    except (OSError, SafetensorError, TypeError):
        return False


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
