"""Images to be labelled by hand, one at a time: their names, pictures of them, and their neighbours; nothing is decoded ahead."""

import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ssl_core import data, datasets, recipes
from ssl_core.datasets import DataSetInfo, scan, store, tables
from ssl_core.datasets.pixels import FORMATS, background, read_frame

from ..runs import files, graph_cache
from ..runs.spec import adapted

MOST_NEIGHBORS = 10
LARGE, SMALL = 800, 160  # pixels of the longer side of a picture, at most


class ImagesToLabel(Protocol):
    """The training images of a data set. The column `column` of tables names them."""

    column: str
    names: Sequence[str]
    classes: Sequence[str]  # those that are there without the answers
    labels: Mapping[str, str]  # by name, which the images have without a table: by their folders
    is_open: bool  # whether there may be other classes

    def match(self, names: Collection[str]) -> Mapping[str, str]:
        """The images that names in a table mean; a name that fits none has no entry."""

    def is_there(self, name: str) -> bool: ...

    def picture(self, name: str, side: int) -> str:
        """A PNG as a data URL, at most `side` pixels wide and high; raises UnreadableImage."""

    def neighbors(self, name: str) -> list[str]:
        """The images most like it, the most alike first; none if their graph is not there."""


class NamedImages:
    """The training images of a named set; their labels, which are asked for, are not told."""

    column, is_open = "index", False

    def __init__(self, name: str):
        info, arrays = datasets.load(name, files.DATA)
        self.classes: Sequence[str] = info.classes
        self.labels: Mapping[str, str] = {}
        self._x, self._y = arrays["x"], arrays["y"]
        self.names: Sequence[str] = tuple(map(str, range(len(self._x))))
        self._index = _kept_index(info)

    def tell_labels(self) -> None:
        """Tells the set's own labels."""
        self.labels = {name: self.classes[c] for name, c in zip(self.names, self._y.tolist(), strict=True) if c >= 0}

    def match(self, names: Collection[str]) -> Mapping[str, str]:
        whole = {name: re.fullmatch(r"0*(\d{1,9})([.,]0{0,2})?", name) for name in names}  # pandas writes 12.0 for 12
        return {name: found[1] for name, found in whole.items() if found and int(found[1]) < len(self.names)}

    def is_there(self, name: str) -> bool:
        return True

    def picture(self, name: str, side: int) -> str:
        pixels = self._x[int(name)].transpose(1, 2, 0)
        return data_url(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))

    def neighbors(self, name: str) -> list[str]:
        return [] if self._index is None else [str(i) for i in self._index[int(name), :MOST_NEIGHBORS].tolist()]


class FolderImages:
    """The images of a folder, as they are on disk now; test images are not among them.

    `in_whole`: their neighbours are first looked for in the graph of the whole folder; see `whole`.
    """

    column, is_open = "file", True

    def __init__(self, name: str, *, in_whole: bool = False):
        self.folder = Path(name)
        if not self.folder.is_dir():
            raise ValueError(f"data={name!r}: must be the path of a folder of images; this folder is not there")
        listing = scan.scan(self.folder)
        self.has_table = (self.folder / scan.TABLE).exists()
        self.names: Sequence[str] = sorted(file for file, _ in listing.train)
        self.labels: Mapping[str, str] = {} if self.has_table else {file: label for file, label in listing.train if label}
        self.classes: Sequence[str] = sorted(set(self.labels.values()))
        left_out = {file for file, reason in listing.skipped if reason.startswith(f"{scan.TABLE} says")}
        self._files = frozenset(self.names) | left_out  # which the table may name
        self._in_graph, self._index = self._neighbors(name, in_whole=in_whole)
        self._place = {file: i for i, file in enumerate(self._in_graph)}

    def match(self, names: Collection[str]) -> Mapping[str, str]:
        return tables.match(names, self._files, self.folder)

    def is_there(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def picture(self, name: str, side: int) -> str:
        return data_url(_photo(self.folder / name, side))

    def neighbors(self, name: str) -> list[str]:
        if self._index is None or name not in self._place:
            return []
        files = [self._in_graph[i] for i in self._index[self._place[name], :MOST_NEIGHBORS].tolist()]
        return [file for file in files if self.is_there(file)]

    def _neighbors(self, name: str, *, in_whole: bool) -> tuple[Sequence[str], Tensor | None]:
        """The images of the latest graph that was made of this folder, whatever labels it had; and their neighbours in it."""
        for of_whole in (True, False)[not in_whole :]:
            for path in store.kept_files(files.DATA, datasets.slug(name)):
                info = whole(name, *store.read(path))[0] if of_whole else store.read_info(path)
                if (index := _kept_index(info)) is not None:
                    return info.files, index
        return (), None


def images_to_label(name: str, *, make_graph: bool = False) -> ImagesToLabel:
    """The images of the data set, or the folder, `name`; `make_graph` makes the graph of neighbours first if it is missing.

    Raises ValueError for an unknown name and for a folder without an image.
    """
    datasets.check_name(name)
    if make_graph:
        info = datasets.describe(name, files.DATA, for_training=False)
        graph_cache.load(data.load(name, files.DATA), pretraining_of(info))
    return NamedImages(name) if name in datasets.DATA_SETS else FolderImages(name)


def whole(name: str, info: DataSetInfo, arrays: store.Arrays) -> tuple[DataSetInfo, data.Images]:
    """All images of the folder `name` that may have a label in its table, in the order of their files; and their metadata.

    Test images are among them if they were drawn from the labelled ones. The metadata follow from the images alone: their graph
    stays as it is when labels change, by which other images are drawn.
    """
    parts = ("",) if info.own_test else ("", "_test")
    names = info.files if info.own_test else info.files + info.files_test
    order = sorted(range(len(names)), key=names.__getitem__)
    x, y = (np.concatenate([arrays[f"{letter}{part}"] for part in parts])[order] for letter in "xy")
    levels = np.stack([np.bincount(x[:, c].ravel(), minlength=256) for c in range(x.shape[1])]) / x[:, 0].size
    mean = levels @ np.arange(256) / 255
    std = np.sqrt(levels @ (np.arange(256) / 255) ** 2 - mean**2).clip(1e-3)
    color, _ = background(x.transpose(0, 2, 3, 1))
    changed = replace(
        info,
        checksum=sha256(x.tobytes()).hexdigest(),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        background=float(((color / 255 - mean) / std).mean()),
        files=tuple(names[i] for i in order),
        files_test=(),
        n_images=len(x),
    )
    images, labels = data.Pixels(torch.from_numpy(x), changed.mean, changed.std), torch.from_numpy(y)
    return changed, data.Images(name, images, labels, images[:0], labels[:0], info.classes)


def data_url(image: Image.Image) -> str:
    """The image as a PNG in a data URL."""
    content = BytesIO()
    image.save(content, "PNG")
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"


def _kept_index(info: DataSetInfo) -> Tensor | None:
    return graph_cache.kept_index(info, pretraining_of(info))


def pretraining_of(info: DataSetInfo) -> recipes.Pretraining:
    """The settings of the graph of these images."""
    pretraining = adapted(recipes.BEST, info).pretraining
    assert pretraining is not None  # of this recipe
    return pretraining


def _photo(path: Path, side: int) -> Image.Image:
    """The image in a file, upright, at most `side` pixels wide and high. Raises UnreadableImage."""

    def resize(image: Image.Image) -> np.ndarray:
        image.thumbnail((side, side), reducing_gap=3.0)
        return np.asarray(image)

    frame = read_frame(path, resize)
    if FORMATS.get(path.suffix.lower()) != "JPEG":
        return Image.fromarray(frame.pixels())
    with Image.open(path) as file:  # read_frame decodes a JPEG no larger than the network needs it
        file.draft("RGB", (side, side))
        image = ImageOps.exif_transpose(file).convert("RGB")
    image.thumbnail((side, side), reducing_gap=3.0)
    return image
