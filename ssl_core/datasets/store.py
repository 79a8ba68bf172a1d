"""Images that were decoded once are kept on disk, with their metadata; the name of the file follows from what made it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from .info import DataSetInfo
from .machine import digest, write_atomically

Arrays = dict[str, np.ndarray]  # `x` and `x_test`, bytes (N, C, 28, 28); `y` and `y_test`, int64 (N,), −1 for no label
CODE = ("pixels", "scan", "folder", "named")  # the modules that decide how images are read


def kept(root: Path, slug: str, key: object, make: Callable[[], tuple[Arrays, DataSetInfo]]) -> Path:
    """The file below `root` with the arrays for `slug` and `key`; `make` is called if it is missing or not whole.

    `key` is a value that JSON can hold. A new file replaces those of the same `slug` and other keys.
    """
    folder = root / "folders"
    path = folder / f"{slug}-{digest([code_digest(), key])[:16]}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{slug}.lock"):  # another process may be making it
        if not _is_whole(path):
            arrays, info = make()
            write_atomically(path, safetensors.numpy.save(arrays, {"info": json.dumps(asdict(info))}))
            for other in folder.glob(f"{slug}-{'?' * 16}.safetensors"):
                if other != path:
                    other.unlink()
    return path


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


def _is_whole(path: Path) -> bool:
    try:
        read_info(path)
        return True
    except (OSError, SafetensorError, TypeError, KeyError):
        return False


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
