"""A digit drawn with the mouse, brought to the measure of MNIST's."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from ssl_core.datasets.pixels import SIDE

BOX = 20  # pixels that a digit of MNIST fits into


class Pad(anywidget.AnyWidget):
    """A square to draw on. `value` is what was drawn, a PNG as a data URL, and '' while that is nothing."""

    _esm = Path(__file__).with_name("pad.js")
    value = traitlets.Unicode("").tag(sync=True)


def drawn(value: str) -> np.ndarray | None:
    """What a pad holds as its `value`, (28, 28) bytes, light on dark, as `centred` places it; None if nothing is drawn."""
    with Image.open(BytesIO(b64decode(value.partition(",")[2])), formats=["PNG"]) as image:
        return centred(np.asarray(image.convert("L")))


def centred(ink: np.ndarray) -> np.ndarray | None:
    """A drawing (H, W), bytes, light on dark, as MNIST would have it, (28, 28); None if all is dark.

    It is made to fit into 20 × 20 pixels, its sides in proportion, and its centre of mass is put into the middle of the 28 × 28,
    as far as it then fits (LeCun et al. 1998, section III.A).
    """
    image = Image.fromarray(ink)
    if (bounds := image.getbbox()) is None:
        return None
    image = image.crop(bounds)
    scale = BOX / max(image.size)
    small = np.asarray(image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX))
    if not (mass := small.sum(dtype=float)):  # so faint that nothing is left of it
        return None
    frame = np.zeros((SIDE, SIDE), np.uint8)
    place = []
    for axis, size in enumerate(small.shape):
        middle = (small.sum(axis=1 - axis, dtype=float) @ np.arange(size)) / mass
        start = int(np.clip(round(SIDE / 2 - middle), 0, SIDE - size))
        place.append(slice(start, start + size))
    frame[tuple(place)] = small
    return frame
