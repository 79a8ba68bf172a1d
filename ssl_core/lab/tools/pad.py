"""A digit drawn with the mouse, scaled and centred as MNIST's are."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from ssl_core.datasets.pixels import SIDE

BOX = 20  # pixels, of the square that a digit of MNIST fits into


class Pad(anywidget.AnyWidget):
    """A square to draw on. Its `value` is the drawing, a PNG as a data URL; '' while it is empty."""

    _esm = Path(__file__).with_name("pad.js")
    value = traitlets.Unicode("").tag(sync=True)


def drawn(value: str) -> np.ndarray | None:
    """The drawing in the `value` of a pad as bytes (28, 28), light on dark, `centered`; None if nothing is drawn."""
    with Image.open(BytesIO(b64decode(value.partition(",")[2])), formats=["PNG"]) as image:
        return centered(np.asarray(image.convert("L")))


def centered(ink: np.ndarray) -> np.ndarray | None:
    """A drawing (H, W), bytes, light on dark, as MNIST has it: (28, 28). None if all of it is dark.

    Its longer side is resized to 20 pixels, and its centre of mass is put at the centre of the 28 × 28, as far as it then fits
    (LeCun et al. 1998, section III.A).
    """
    image = Image.fromarray(ink)
    if (bounds := image.getbbox()) is None:
        return None
    image = image.crop(bounds)
    scale = BOX / max(image.size)
    small = np.asarray(image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX))
    if not small.any():  # so faint that nothing is left of it
        return None
    frame = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (_offset(small.sum(axis=1 - axis, dtype=float)) for axis in (0, 1))
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame


def _offset(mass: np.ndarray) -> int:
    """The start of a drawing with this mass along an axis, so that its centre of mass is at the centre of the frame."""
    center = mass @ np.arange(len(mass)) / mass.sum()
    return int(np.clip(round(SIDE / 2 - center), 0, SIDE - len(mass)))
