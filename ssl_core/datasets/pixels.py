"""Image files as pixels: images of any size, kind and colour become what the network sees."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
SIDE = 28  # pixels, of what the network sees
MOST_PIXELS = 80_000_000  # of an image file: one that is larger is a mistake, or an attack
GREY = 16  # of 255: an image whose channels differ by no more is grey


class UnreadableImage(ValueError):
    """An image file that can't be used; the message is the reason."""


def decode(path: Path) -> tuple[np.ndarray, str]:
    """An image file as bytes (28, 28, 3), and the SHA-256 of its content. Raises UnreadableImage."""
    try:
        content = path.read_bytes()
        if not content:
            raise UnreadableImage("an empty file")
        with Image.open(BytesIO(content), formats=sorted(set(FORMATS.values()))) as image:
            return framed(_in_color(image)), hashlib.sha256(content).hexdigest()
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(_too_large("many million")) from None
    except UnidentifiedImageError:
        kinds = ", ".join(sorted(set(FORMATS.values())))
        raise UnreadableImage(f"not an image of a kind that is read: {kinds}") from None
    except Exception as error:  # Pillow raises whatever a broken file leads to
        raise UnreadableImage(f"can't be read ({' '.join(str(error).replace(str(path), 'it').split())[:100]})") from None


def _in_color(image: Image.Image) -> Image.Image:
    """An opened image upright, in RGB with 8 bits per channel, on white where it is transparent."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UnreadableImage(_too_large(f"{width * height / 1e6:.0f} million"))
    image.draft("RGB", (4 * SIDE, 4 * SIDE))  # a JPEG can be decoded at a fraction of its size
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _too_large(size: str) -> str:
    return f"{size} pixels: must be at most {MOST_PIXELS // 1_000_000} million"


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image with more than 8 bits per pixel in 8 bits. White is 1, 255 or 65535: the least that holds all its values."""
    values = np.asarray(image, dtype=np.float64)
    white = 1.0 if image.mode == "F" and values.max() <= 1 else 255.0 if values.max() <= 255 else 65535.0
    return Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))


def framed(image: Image.Image) -> np.ndarray:
    """An RGB image as bytes (28, 28, 3).

    Its longer side is resized to 28 pixels. The shorter one is filled up on both sides with the median colour of the border.
    """
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    height, width, _ = small.shape
    frame = np.empty((SIDE, SIDE, 3), np.uint8)
    frame[:] = np.median(border, axis=0)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    frame[top : top + height, left : left + width] = small
    return frame


def looks(title: str, pixels: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, dict]:
    """The pixels (N, 28, 28, C) as the network will see them, and the fields of DataSetInfo that describe them.

    The figures are those of the images where `training` (N,) is True. Images without colour get one channel. An even and light
    background becomes dark, and what is on it light: pixels that are shifted into an image, or laid over it, then fit.
    Raises ValueError if all pixels are of one colour.
    """
    index = np.flatnonzero(training)
    if np.mean([np.ptp(pixels[i], axis=2).max() > GREY for i in index]) < 0.01:
        pixels = grey(pixels)
    background, even = _background(pixels[index])
    inverted = bool(even and background.mean() > 127)
    if inverted:
        pixels, background = 255 - pixels, 255 - background
    mean, std = _moments(pixels, index)
    if std.max() < 1e-3:
        raise ValueError(f"data={title!r}: all images are of one colour; there is nothing to tell apart")
    std = std.clip(1e-3)
    return pixels, {
        "channels": len(mean),
        "mean": tuple(mean.tolist()),
        "std": tuple(std.tolist()),
        "background": float(((background / 255 - mean) / std).mean()),
        "inverted": inverted,
    }


def _background(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """The median colour (C,) at the border of images (N, 28, 28, C), and whether more than half of the border is near it."""
    edge = np.ones((SIDE, SIDE), bool)
    edge[1:-1, 1:-1] = False
    border = pixels[:, edge].astype(np.int16)
    background = np.median(border, axis=(0, 1))
    near = (np.abs(border - background) <= 2 * GREY).all(axis=2)
    return background, bool(near.mean() > 0.5)


def _moments(pixels: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) of the pixels in [0, 1] of the images `index`.

    They follow from counts of the 256 levels: exact, and without a copy in floating point.
    """
    counts = np.stack([np.bincount(pixels[index, :, :, c].ravel(), minlength=256) for c in range(pixels.shape[3])])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    return mean, np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Colours (N, 28, 28, 3) as one channel of brightness, by the weights that Pillow uses (ITU-R 601-2)."""
    grey = np.empty((*pixels.shape[:3], 1), np.uint8)
    for part in range(0, len(pixels), 1000):
        grey[part : part + 1000, ..., 0] = (pixels[part : part + 1000].astype(np.uint32) @ (299, 587, 114) + 500) // 1000
    return grey
