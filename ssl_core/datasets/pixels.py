"""Image files as pixels: of any size, kind and colour, brought to what the network sees."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
SIDE = 28  # pixels, of what the network sees
MOST_PIXELS = 80_000_000  # of an image file; a larger one is hardly meant
GREY = 16  # of 255: channels that differ by no more are of one grey


def decode(path: Path) -> tuple[np.ndarray, str] | str:
    """An image file as bytes (28, 28, 3) and the digest of its content; or what is wrong with it, in words."""
    try:
        content = path.read_bytes()
        if not content:
            return "an empty file"
        with Image.open(BytesIO(content), formats=sorted(set(FORMATS.values()))) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                return _too_large(width * height)
            image.draft("RGB", (4 * SIDE, 4 * SIDE))  # a JPEG can be decoded at a fraction of its size
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                image = _eight_bits(image)
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return framed(image.convert("RGB")), hashlib.sha256(content).hexdigest()
    except Image.DecompressionBombError:
        return _too_large(None)
    except UnidentifiedImageError:
        return f"not an image of a kind that is read: {', '.join(sorted(set(FORMATS.values())))}"
    except Exception as error:  # Pillow raises whatever a broken file leads to
        return f"can't be read ({' '.join(str(error).replace(str(path), 'it').split())[:100]})"


def framed(image: Image.Image) -> np.ndarray:
    """An image in colour as bytes (28, 28, 3).

    The longer side is made to measure, and the shorter one filled up on both sides with the commonest colour of the border.
    """
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    height, width, _ = small.shape
    frame = np.empty((SIDE, SIDE, 3), np.uint8)
    frame[:] = np.median(border, axis=0)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    frame[top : top + height, left : left + width] = small
    return frame


def _too_large(pixels: int | None) -> str:
    size = f"{pixels / 1e6:.0f} million" if pixels else "many million"
    return f"{size} pixels: must be at most {MOST_PIXELS // 1_000_000} million"


def _eight_bits(image):
    """An image of more than eight bits a pixel in eight; brightness is kept, as far as it says what white is."""
    values = np.asarray(image, dtype=np.float64)
    white = 1.0 if image.mode == "F" and values.max() <= 1 else 255.0 if values.max() <= 255 else 65535.0
    return Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))


def looks(title: str, pixels: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, dict]:
    """The pixels (N, 28, 28, C) as the network will see them, and what is known of them.

    Images without colour have one channel. A background that is even and light becomes dark, and what is on it light: what is
    shifted into an image, and laid over another, then fits.
    """
    which = np.flatnonzero(training)
    if np.mean([np.ptp(pixels[i], axis=2).max() > GREY for i in which]) < 0.01:
        pixels = grey(pixels)
    edge = np.ones((SIDE, SIDE), bool)
    edge[1:-1, 1:-1] = False
    border = pixels[which][:, edge].astype(np.int16)
    background = np.median(border, axis=(0, 1))
    even = (np.abs(border - background) <= 2 * GREY).all(axis=2).mean() > 0.5
    inverted = bool(even and background.mean() > 127)
    if inverted:
        pixels, background = 255 - pixels, 255 - background
    # From counts of the 256 levels: exact, and without a copy in floating point.
    counts = np.stack([np.bincount(pixels[which, :, :, c].ravel(), minlength=256) for c in range(pixels.shape[3])])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    std = np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)
    if std.max() < 1e-3:
        raise ValueError(f"data={title!r}: all images are of one colour; there is nothing to tell apart")
    std = std.clip(1e-3)
    return pixels, {
        "channels": len(mean),
        "mean": mean.tolist(),
        "std": std.tolist(),
        "background": float(((background / 255 - mean) / std).mean()),
        "inverted": inverted,
    }


def grey(pixels: np.ndarray) -> np.ndarray:
    """Colours (N, 28, 28, 3) as one channel of brightness, by the weights that Pillow uses (ITU-R 601-2)."""
    grey = np.empty((*pixels.shape[:3], 1), np.uint8)
    for part in range(0, len(pixels), 1000):
        grey[part : part + 1000, ..., 0] = (pixels[part : part + 1000].astype(np.uint32) @ (299, 587, 114) + 500) // 1000
    return grey
