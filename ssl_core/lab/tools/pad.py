"""A digit drawn with the mouse, scaled and centred as MNIST's are."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

from ssl_core.datasets.framing import centered


class Pad(anywidget.AnyWidget):
    """A square to draw on. Its `value` is the drawing, a PNG as a data URL; '' while it is empty."""

    _esm = Path(__file__).with_name("pad.js")
    value = traitlets.Unicode("").tag(sync=True)


def drawn(value: str) -> np.ndarray | None:
    """The drawing in the `value` of a pad as bytes (28, 28), light on dark, `centered`; None if nothing is drawn."""
    with Image.open(BytesIO(b64decode(value.partition(",")[2])), formats=["PNG"]) as image:
        return centered(np.asarray(image.convert("L")))
