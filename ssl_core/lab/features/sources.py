"""What `FEATURES=` names: where features come from, by what they are identified, and how they are read."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ..runs import files
from . import models, networks, onnx_files, tables
from .pictures import Pictures

MUST = "must be torchvision:NAME, timm:NAME, or the path of an ONNX file or of a table that ends in .npy, .csv or .parquet"
MOST_SIDE, MOST_BATCH = 1024, 256  # pixels, images: what a network may want at a time, on machines that people have
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Features from elsewhere: `name` identifies them, `words` say what they are, `read` gives those (N, D) of all images."""

    name: str  # as a part of a file name
    words: str
    read: Callable[[Pictures, Path, Tell], np.ndarray]  # of images, their folder; raises ValueError, without the parameter


def source(text: str) -> Source:
    """The source that a user named. Raises ValueError, without the parameter, if there is no such; weights are not loaded yet.

    `@112` at the end of a network's name gives it images of 112 pixels.
    """
    kind, _, name = text.partition(":")
    if kind in ("torchvision", "timm"):
        name, side = _side(name)
        network, key = (models.torchvision_model if kind == "torchvision" else models.timm_model)(name, side)
        return _of_network(text, name, network, key)
    path, side = _side(text)
    ending = Path(path).suffix.lower()
    if ending in tables.INSTEAD:
        raise ValueError(f"must end in {', '.join(tables.ENDINGS)} or .onnx: {tables.INSTEAD[ending]}")
    if ending not in (".onnx", *tables.ENDINGS):
        raise ValueError(MUST)
    if not (file := files.expanded("FEATURES", path)).is_file():
        raise ValueError(f"must be a file that is there, or torchvision:NAME; {file} is not")
    if ending == ".onnx":
        return _of_network(text, file.stem, *onnx_files.onnx_network(file, side))
    if side:
        raise ValueError(f"must be without @{side}: a table has no images")
    return _of_table(text, file)


def _side(text: str) -> tuple[str, int]:
    """A name, and the number of pixels after its `@`; 0 without one."""
    name, at, side = text.rpartition("@")
    if not at:
        return text, 0
    if not side.isdecimal() or not 8 <= int(side) <= MOST_SIDE:
        raise ValueError(f"must have a number of pixels from 8 to {MOST_SIDE} after its @")
    return name, int(side)


def _of_network(text: str, name: str, network: networks.Network, key: object) -> Source:
    if max(network.size) > MOST_SIDE or network.batch > MOST_BATCH:
        wants = f"it wants {max(1, network.batch)} of {network.size[0]} × {network.size[1]}"
        raise ValueError(f"must take images of at most {MOST_SIDE} pixels a side, at most {MOST_BATCH} at a time: {wants}")
    readable = (
        f"{name}-{network.size[0]}" if network.size[0] == network.size[1] else f"{name}-{network.size[0]}x{network.size[1]}"
    )
    return Source(_named(readable, key), f"{text}: {network.words}", lambda images, _, tell: networks.read(network, images, tell))


def _of_table(text: str, path: Path) -> Source:
    parts = [each for each in (path, path.with_suffix(".txt")) if each == path or (path.suffix == ".npy" and each.exists())]

    def read(images: Pictures, folder: Path, tell: Tell) -> np.ndarray:
        features, told = tables.read(path, images, folder)
        for sentence in told:
            tell(f"{path.name}: {sentence}")
        return features

    return Source(_named(path.stem, [sha256(each.read_bytes()).hexdigest() for each in parts]), text, read)


def _named(readable: str, key: object) -> str:
    """A file name of its own: readable, and a digest of what identifies the features."""
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", readable).strip("-.")[:40] or "features"
    return f"{slug}-{files.digest(key)[:8]}"
