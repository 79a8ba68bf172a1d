"""Arrays of pixels as images that the network sees: what of a user's arrays is learned, and applied to new ones."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from sklearn.utils.validation import check_array

from .data import Pixels
from .datasets.checks import check_side
from .datasets.pixels import background, fitting_side, framed, grey, looks

DIGITS = 4  # after the point, to which mean and deviation are cut off, as the report gives MNIST's: 0.1306 and 0.3081


def flat(X: ArrayLike) -> tuple[ArrayLike, tuple[int, ...] | None]:
    """Images (N, H, W) or (N, H, W, C) as rows (N, ·), and the shape of one; rows as they are, and None."""
    if hasattr(X, "columns"):  # a data frame, whose columns have names
        return X, None
    array = np.asarray(X)
    if array.ndim in (3, 4) and array.size:
        shape = array.shape[1:]
        if len(shape) == 3 and shape[2] not in (1, 3):
            must = "must end with 1 or 3 channels, as (N, H, W, 3): np.moveaxis(X, 1, -1) if they come first"
            raise ValueError(f"X.shape={array.shape}: {must}")
        return array.reshape(len(array), -1), shape[:2] if shape[2:] == (1,) else shape
    return X, None


def image_shape(n_features: int) -> tuple[int, int]:
    """The height and the width of an image in a row of so many numbers: a square one if there is one, else one pixel high."""
    side = round(n_features**0.5)
    return (side, side) if side**2 == n_features else (1, n_features)


@dataclass(frozen=True)
class Look:
    """How rows of numbers become images; learned from training images, applied to all."""

    shape: tuple[int, ...]  # of an image: (H, W) or (H, W, C)
    side: int  # pixels, of the images as the network sees them
    scale: tuple[float, float]  # the numbers that become black and white: of bytes 0 and 255
    inverted: bool  # whether light and dark are exchanged, so that the background is dark
    mean: tuple[float, ...]  # per channel, of the pixels in [0, 1]
    std: tuple[float, ...]
    background: float  # the commonest value at the border of an image, normalised

    @classmethod
    def of(cls, rows: np.ndarray, shape: tuple[int, ...] | None, side: int) -> "tuple[Look, np.ndarray]":
        """The look of training images, `rows` (N, ·), and their pixels (N, C, side, side), bytes; `side` 0 is one that fits.

        Raises ValueError for a side that there is no network for, and if all images are of one colour.
        """
        if shape is None:
            shape = image_shape(rows.shape[1])
            if shape[0] == 1 < shape[1]:
                what = f"X has rows of {shape[1]} numbers, which make no square image: they are taken as images of 1 × {shape[1]}"
                warnings.warn(f"{what} pixels. Other shapes: X as (N, H, W) or (N, H, W, C).", stacklevel=5)
        side = check_side(side) or fitting_side([max(shape[:2])])
        scale = (0.0, 255.0) if rows.dtype == np.uint8 else (float(rows.min()), float(rows.max()))
        try:
            pixels, look = looks("X", _frames(rows, shape, scale, side), np.ones(len(rows), bool))
        except ValueError:
            raise ValueError("X: all images are of one colour, there is nothing to tell apart") from None
        mean, std = (np.floor(np.array(look[name]) * 10**DIGITS) / 10**DIGITS for name in ("mean", "std"))
        std = std.clip(10.0**-DIGITS)
        dark = float(((background(pixels)[0] / 255 - mean) / std).mean())
        found = cls(shape, side, scale, look["inverted"], tuple(mean.tolist()), tuple(std.tolist()), dark)
        return found, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """The bytes (N, C, side, side) of other images, `rows` (N, ·)."""
        most, usual = float(np.abs(rows).max(initial=0)), max(map(abs, self.scale))
        if 0 < 10 * most < usual or most > 10 * usual > 0:
            what = f"X has values up to {most:g}, and the training images up to {usual:g}"
            warnings.warn(f"{what}: are they in the same units?", stacklevel=4)
        pixels = _frames(rows, self.shape, self.scale, self.side)
        pixels = grey(pixels) if len(self.mean) == 1 else pixels
        return np.ascontiguousarray((255 - pixels if self.inverted else pixels).transpose(0, 3, 1, 2))

    def images(self, pixels: np.ndarray) -> Pixels:
        """Pixels (N, C, side, side), bytes, as images that are normalised when they are read."""
        return Pixels(torch.from_numpy(pixels), self.mean, self.std)


def checked(X: ArrayLike) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """`flat`, checked as scikit-learn checks arrays: finite numbers, two images or more."""
    rows, shape = flat(X)
    return check_array(rows, dtype="numeric", ensure_min_samples=2, input_name="X"), shape


def _frames(rows: np.ndarray, shape: tuple[int, ...], scale: tuple[float, float], side: int) -> np.ndarray:
    """Images in `rows` (N, ·) as bytes (N, side, side, 3)."""
    low, high = scale
    if rows.dtype != np.uint8 or scale != (0.0, 255.0):
        rows = ((rows.astype(np.float64) - low) * (255 / ((high - low) or 1.0))).round().clip(0, 255).astype(np.uint8)
    pixels = rows.reshape(len(rows), *shape[:2], -1)
    if shape[:2] != (side, side):
        pixels = np.stack([framed(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image), side) for image in pixels])
        pixels = pixels.reshape(len(rows), side, side, -1)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels
