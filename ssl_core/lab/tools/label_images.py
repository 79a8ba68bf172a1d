"""Images to be labelled by hand, one at a time: their names, pictures of them, and their neighbours; nothing is decoded ahead."""

import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ssl_core import data, datasets, recipes
from ssl_core.datasets import DataSetInfo, scan, store, tables
from ssl_core.datasets.pixels import FORMATS, read_frame

from ..runs import files, graph_cache

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
        self._x = arrays["x"]
        self.names: Sequence[str] = tuple(map(str, range(len(self._x))))
        self._index = _kept_index(info)

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
    """The images of a folder, as they are on disk now; test images are not among them."""

    column, is_open = "file", True

    def __init__(self, name: str):
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
        self._in_graph, self._index = self._neighbors(name)
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

    def _neighbors(self, name: str) -> tuple[Sequence[str], Tensor | None]:
        """The images of the latest graph that was made of this folder, whatever labels it had; and their neighbours in it."""
        for info in store.infos(files.DATA, datasets.slug(name)):
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
        graph_cache.load(data.load(name, files.DATA), _pretraining(info))
    return NamedImages(name) if name in datasets.DATA_SETS else FolderImages(name)


def data_url(image: Image.Image) -> str:
    """The image as a PNG in a data URL."""
    content = BytesIO()
    image.save(content, "PNG")
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"


def _kept_index(info: DataSetInfo) -> Tensor | None:
    return graph_cache.kept_index(info, _pretraining(info))


def _pretraining(info: DataSetInfo) -> recipes.Pretraining:
    pretraining = recipes.BEST.for_images(info.background).pretraining
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
