"""Figures on an even background: how training images are framed, and new images that are put into the same frame.

A photograph of a digit is dark on light, has a shadow, and shows the digit anywhere and at any size; the images of MNIST are
light on black, 20 pixels long, and centred by mass.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from .info import SIDE

SIZE = 4 * SIDE  # pixels, of a new image in which the figure is looked for
DARK = 64  # of 255: what is darker is background, in training images
EVEN = 0.9  # of the border must be background
CONTRAST = 16  # of 255, the least of a figure


@dataclass(frozen=True)
class Framing:
    """Light figures on black: their longer side is `box` pixels, and their centre of mass is at the centre of the frame."""

    box: int

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Framing | None":
        """The framing of nine in ten of the images (N, 28, 28), bytes; None if they have no common one."""
        sides, offsets, clean = _measured(pixels)
        if clean.mean() < EVEN:
            return None
        low, box, high = np.quantile(sides[clean], [0.05, 0.5, 0.95])
        common = high - low <= 3 and np.quantile(offsets[clean], 0.9) <= 1.5
        return cls(round(float(box))) if common else None

    def fits(self, pixels: np.ndarray) -> np.ndarray:
        """Which (N,) of the images (N, 28, 28), bytes, are framed so already."""
        sides, offsets, clean = _measured(pixels)
        return clean & (np.abs(sides - self.box) <= 2) & (offsets <= 1.5)

    def framed(self, image: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
        """The figure in a grey image (H, W), bytes, as (28, 28), and whether it was darker than its background.

        Once if it is clear which is the figure and which the background; else each of the two, in turn; never if there is none.
        """
        whole = _enlarged(image)
        found = [_figure(values, _plane) for values in (whole, 255 - whole)]
        clear = [each is not None and each[1] >= EVEN for each in found]
        if not any(clear) and max(image.shape) > SIZE // 2:  # an uneven background: the edge of a shadow
            local = [_figure(values, _opened) for values in (whole, 255 - whole)]
            found += [each if each and each[1] >= EVEN else None for each in local]
        for i, each in enumerate(found):
            if each and (not any(clear) or clear[i]):
                frame = centered((255 * each[0]).round().astype(np.uint8), self.box)
                if frame is not None:
                    yield frame, i % 2 == 1


def _enlarged(image: np.ndarray) -> np.ndarray:
    """The image (H, W), bytes, with a longer side of SIZE pixels."""
    size = [max(1, round(side * SIZE / max(image.shape))) for side in image.shape[::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _measured(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of images (N, 28, 28): the figure's longer side, the distance of its centre from the frame's, and whether there is one."""
    edge = np.ones(pixels.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    clean = ((pixels[:, edge] < DARK).mean(axis=1) >= EVEN) & np.any(pixels >= DARK, axis=(1, 2))
    sides, offsets = [], []
    for axis in (2, 1):
        along, mass = np.any(pixels > 0, axis=axis), np.sum(pixels, axis=axis, dtype=float)
        sides.append(along.shape[1] - along[:, ::-1].argmax(axis=1) - along.argmax(axis=1))
        offsets.append(np.abs(mass @ np.arange(SIDE) / mass.sum(axis=1).clip(1) - (SIDE - 1) / 2))
    return np.maximum(*sides), np.maximum(*offsets), clean


def _figure(values: np.ndarray, background: Callable[[np.ndarray], np.ndarray | None]) -> tuple[np.ndarray, float] | None:
    """The light figure in an image (H, W), from 0 to 1, and the share of the border that is background; None without a figure."""
    values = values.astype(np.float32)
    below = background(values)
    if below is None:
        return None
    rise = values - below
    dark = rise[rise <= np.quantile(rise, 0.7)]
    rise -= np.median(dark)
    noise = 1.4826 * np.median(np.abs(dark - np.median(dark)))
    threshold = _otsu(rise.clip(0, 255))
    if threshold is None or (top := np.quantile(rise[rise > threshold], 0.75)) < max(CONTRAST, 5 * noise):
        return None
    least = max(0.1 * top, 3 * noise)
    ink = ((rise - least) / max(top - least, 1)).clip(0, 1)
    border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    pieces, n = ndimage.label(ndimage.binary_dilation(ink > 0.3, iterations=max(1, max(ink.shape) // 40)))
    mass = ndimage.sum(ink, pieces, range(1, n + 1))
    return ink * np.isin(pieces, 1 + np.flatnonzero(mass >= 0.15 * np.max(mass))), float((border < 0.3).mean())


def _plane(values: np.ndarray) -> np.ndarray | None:
    """A dark background as a plane (H, W) of brightness, fitted to the darker of two groups of pixels, again and again."""
    if (threshold := _otsu(values)) is None:
        return None
    height, width = values.shape
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    terms = np.stack([np.ones(values.size), x.ravel(), y.ravel()], axis=1).astype(np.float32)
    flat = values.ravel()
    near = flat <= threshold
    for _ in range(6):
        plane = terms @ np.linalg.lstsq(terms[near], flat[near], rcond=None)[0]
        near = np.abs(flat - plane) < 2.5 * (1.4826 * np.median(np.abs(flat - plane)[near]) + 2)
    return plane.reshape(values.shape)


def _opened(values: np.ndarray) -> np.ndarray:
    """A dark background as what is left of an image (H, W) without its light lines (white top-hat, Serra 1982)."""
    return ndimage.uniform_filter(ndimage.grey_opening(ndimage.median_filter(values, 3), max(values.shape) // 5 | 1), 3)


def _otsu(values: np.ndarray) -> int | None:
    """The threshold between the two groups of brightness from 0 to 255 (Otsu 1979); None if all are the same."""
    counts = np.bincount(values.ravel().astype(np.uint8), minlength=256)
    below, moment = counts.cumsum().astype(float), (counts * np.arange(256)).cumsum().astype(float)
    inside = np.flatnonzero((below > 0) & (below < below[-1]))
    if not len(inside):
        return None
    below_, total = below[inside], below[-1]
    between = (moment[-1] * below_ - moment[inside] * total) ** 2 / (below_ * (total - below_))
    return int(inside[between.argmax()])


def centered(ink: np.ndarray, box: int = 20) -> np.ndarray | None:
    """A figure (H, W), bytes, light on dark, as MNIST has it: (28, 28). None if all of it is dark.

    Its longer side is resized to `box` pixels, and its centre of mass is put at the centre of the 28 × 28, as far as it then fits
    (LeCun et al. 1998, section III.A).
    """
    image = Image.fromarray(ink)
    if (bounds := image.getbbox()) is None:
        return None
    image = image.crop(bounds)
    scale = box / max(image.size)
    small = np.asarray(image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX))
    if not small.any():  # so faint that nothing is left of it
        return None
    frame = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (_offset(small.sum(axis=1 - axis, dtype=float)) for axis in (0, 1))
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame


def _offset(mass: np.ndarray) -> int:
    """The start of a figure with this mass along an axis, so that its centre of mass is at the centre of the frame."""
    center = mass @ np.arange(len(mass)) / mass.sum()
    return int(np.clip(round(SIDE / 2 - center), 0, SIDE - len(mass)))
