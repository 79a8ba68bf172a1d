"""The images of a data set as they were published, or as they lie in a folder, in RGB and at the size that a network wants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ssl_core import datasets
from ssl_core.datasets import DATA_SETS, DataSetInfo
from ssl_core.datasets.named import CollectedSet, DistortedSet
from ssl_core.datasets.pixels import SIDE, UnreadableImage, read_frame

from ..runs import files

# It is part of what identifies features: other words, other features.
FRAMING = "RGB; longer side resized, bilinear; the rest filled with the median colour of the border"
Picture = Callable[[tuple[int, int]], np.ndarray]  # from (height, width) to bytes (height, width, 3)


@dataclass(frozen=True)
class Pictures:
    """All images of a data set, training and test images: what they are called, and how each is read.

    Those of a named set are in its order, the training images first, and called by their number. Those of a folder are in the
    order of their file names: it stays as it is when labels change.
    """

    names: tuple[str, ...]
    checksum: str  # of the images in this order, as our own networks see them; labels do not count
    readers: Callable[[], Sequence[Picture]] = field(repr=False)  # in the order of `names`


def pictures(name: str) -> Pictures:
    """The images of the data set, or the folder, `name`. Raises ValueError and DataError as datasets.load does."""
    return _pictures(name, datasets.describe(name, for_training=False))


@lru_cache(maxsize=1)
def _pictures(name: str, info: DataSetInfo) -> Pictures:
    if not info.files:
        return Pictures(tuple(map(str, range(info.n_images + info.n_test))), info.checksum, lambda: _of_named_set(name))
    _, arrays = datasets.load(name, files.DATA)
    every, x = info.files + info.files_test, np.concatenate([arrays["x"], arrays["x_test"]])
    order = sorted(range(len(every)), key=every.__getitem__)
    checksum = sha256("\0".join(every[i] for i in order).encode() + x[order].tobytes()).hexdigest()
    names = tuple(every[i] for i in order)
    return Pictures(names, checksum, lambda: [_of_file(Path(name), file, info.scale) for file in names])


def names_in(info: DataSetInfo) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What Pictures call the training and the test images that `info` describes."""
    numbers = tuple(map(str, range(info.n_images + info.n_test)))
    return (info.files, info.files_test) if info.files else (numbers[: info.n_images], numbers[info.n_images :])


def _of_named_set(name: str) -> list[Picture]:
    if isinstance(named := DATA_SETS[name], CollectedSet) and not isinstance(named, DistortedSet):
        x, _, x_test, *_ = named.collect(files.DATA)  # of the size that they were published in
    else:
        _, arrays = datasets.load(name, files.DATA)
        x, x_test = arrays["x"][:, 0], arrays["x_test"][:, 0]

    def picture(pixels: np.ndarray) -> Picture:
        return lambda size: framed(Image.fromarray(pixels).convert("RGB"), size)

    return [picture(pixels) for part in (x, x_test) for pixels in part]


def _of_file(folder: Path, file: str, scale: tuple[float, float] | None) -> Picture:
    def picture(size: tuple[int, int]) -> np.ndarray:
        try:
            return _read(folder / file, size, scale)
        except UnreadableImage as error:
            raise ValueError(f"data={str(folder)!r}: {file}: must be there to be read for FEATURES ({error})") from None

    return picture


def _read(path: Path, size: tuple[int, int], scale: tuple[float, float] | None) -> np.ndarray:
    """An image file at `size`, bytes (H, W, 3). Raises UnreadableImage; for `scale` see pixels.decode."""
    frame = read_frame(path, lambda image: framed(image, size))
    if max(size) <= 4 * SIDE:
        return frame.pixels(scale)
    with Image.open(path) as image:  # read_frame decodes a JPEG no larger than our own networks need it
        if image.format not in ("JPEG", "MPO"):
            return frame.pixels(scale)
        image.draft("RGB", (2 * max(size), 2 * max(size)))
        return framed(ImageOps.exif_transpose(image).convert("RGB"), size)


def framed(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """An image in RGB as bytes (H, W, 3), or one of mode F as float32 (H, W), `size` being (H, W): see FRAMING."""
    height, width = size
    scale = min(height / image.height, width / image.width)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = np.asarray(image if inner == image.size else image.resize(inner, Image.Resampling.BILINEAR, reducing_gap=3.0))
    frame = np.empty((height, width, *small.shape[2:]), small.dtype)
    frame[:] = np.median(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]), axis=0)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame
