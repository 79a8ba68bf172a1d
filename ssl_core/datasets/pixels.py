"""Image files as pixels: images of any size, kind and colour become what the network sees."""

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from .info import SIDE

try:
    import pillow_heif
except ImportError:
    HEIF: tuple[str, ...] = ()
else:
    pillow_heif.register_heif_opener()
    HEIF = (".heic", ".heif")

_ENDINGS = {  # of the formats of Pillow that need no other program; some need a library that it may be built without
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "WEBP": (".webp",) if features.check("webp") else (),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "ICO": (".ico",),
    "JPEG2000": (".jp2", ".j2k") if features.check("jpg_2000") else (),
    "AVIF": (".avif",) if features.check("avif") else (),
    "HEIF": HEIF,
}
FORMATS = {ending: name for name, endings in _ENDINGS.items() for ending in endings}
NEEDS_HEIF = "is read only with pillow-heif: .venv/bin/pip install '.[heic]'"
FITTING = (SIDE, 48, 64)  # pixels, the sides that images get unless another one is asked for
MOST_PIXELS = 80_000_000  # of an image file: one that is larger is a mistake, or an attack
MOST_BYTES = 1_000_000_000
BITS, PHOTOMETRIC, SAMPLE_FORMAT, NO_DATA = 258, 262, 339, 42113  # tags of a TIFF; the last is GDAL's, of a map
BEGINNINGS = {b"\x89PNG": "PNG", b"GIF8": "GIF"}  # of files of which Pillow says no more if they are damaged
GREY = 16  # of 255: an image whose channels differ by no more is grey

# They name no file. What matters of them is told with the file's name.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableImage(ValueError):
    """An image file that can't be used; the message is the reason."""


@dataclass(frozen=True)
class Frame:
    """An image file at the network's size: bytes (side, side, 3), or float32 (side, side) if it has more than 8 bits a pixel."""

    values: np.ndarray
    digest: str  # SHA-256 of the file
    notes: tuple[str, ...] = ()  # what of the file is not used

    @property
    def deep(self) -> bool:
        """Whether it has more than 8 bits a pixel: its values need a scale."""
        return self.values.ndim == 2

    def pixels(self, scale: tuple[float, float] | None = None) -> np.ndarray:
        """The bytes (side, side, 3); the values of `scale` become 0 and 255, by default the image's own lowest and highest."""
        if not self.deep:
            return self.values
        low, high = scale or scale_of([self])
        share = (self.values.astype(np.float64) - low) / ((high - low) or 1.0)
        return np.repeat((share * 255).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def scale_of(frames: Sequence[Frame]) -> tuple[float, float]:
    """The lowest and the highest value of frames with more than 8 bits a pixel."""
    return float(min(frame.values.min() for frame in frames)), float(max(frame.values.max() for frame in frames))


def decode(path: Path, scale: tuple[float, float] | None = None) -> tuple[np.ndarray, str]:
    """An image file as bytes (28, 28, 3), and the SHA-256 of its content. Raises UnreadableImage.

    `scale` is the lowest and the highest value of images with more than 8 bits a pixel (DataSetInfo.scale).
    """
    frame = read_frame(path)
    return frame.pixels(scale), frame.digest


def read_frame(path: Path, resize: Callable[[Image.Image], np.ndarray] | None = None, side: int = SIDE) -> Frame:
    """An image file at the network's size, or as `resize` makes it from an image in RGB or of mode F. Raises UnreadableImage."""
    try:
        content = _content(path)
        with Image.open(BytesIO(content), formats=_kinds(path)) as image:
            notes = _unused(image)
            values, no_numbers = _at_size(image, resize or partial(framed, side=side), side)
        if no_numbers:
            notes.append(f"{no_numbers} pixel{'s are' if no_numbers > 1 else ' that is'} no number: filled with the median")
        return Frame(values, hashlib.sha256(content).hexdigest(), tuple(notes))
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(_too_large("many million")) from None
    except UnidentifiedImageError:
        raise UnreadableImage(_unidentified(content)) from None
    except Exception as error:  # Pillow raises whatever a broken file leads to
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{error}".replace(str(path), "it")
        raise UnreadableImage(f"can't be read ({' '.join(reason.split())[:100] or type(error).__name__})") from None


def read_grey(path: Path, most: int, scale: tuple[float, float] | None = None) -> np.ndarray:
    """An image file in grey, bytes (H, W), made smaller if its longer side has more than `most` pixels.

    Raises UnreadableImage. For `scale` see `decode`.
    """

    def resize(image: Image.Image) -> np.ndarray:
        image.thumbnail((most, most), Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.asarray(image)

    return grey(read_frame(path, resize).pixels(scale)[None])[0, ..., 0]


def _kinds(path: Path) -> list[str]:
    """The formats that a file may have; TGA, which has no mark, only by its ending."""
    return sorted({name for ending, name in FORMATS.items() if name != "TGA" or ending == path.suffix.lower()})


def _content(path: Path) -> bytes:
    """The bytes of a file; a pipe, which may never end, is not opened."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("not a file, but a pipe, a socket or a device")
    if status.st_size > MOST_BYTES:
        raise UnreadableImage(f"{status.st_size / 1e9:.1f} GB: must be at most {MOST_BYTES // 1_000_000_000} GB")
    if not (content := path.read_bytes()):
        raise UnreadableImage("an empty file")
    return content


def _unidentified(content: bytes) -> str:
    """Why Pillow does not know a file."""
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1") and not HEIF:
        return f"HEIC by its content, which {NEEDS_HEIF}"
    if content.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in place of the image: `git lfs pull` fetches it"
    if begun := [name for mark, name in BEGINNINGS.items() if content.startswith(mark)]:
        return f"damaged: it begins like {begun[0]}, but what follows can't be read"
    if content[:4] in (b"II*\0", b"MM\0*"):
        return "a TIFF with pixels that are not read: must be grey with up to 32 bits, or 3 or 4 colours with 8 or 16 bits each"
    return f"not an image of a kind that is read: {', '.join(dict.fromkeys(FORMATS.values()))}"


def _unused(image: Image.Image) -> list[str]:
    """What of an opened image is not used: further pages or frames, and bits."""
    notes = []
    frames = 1
    if image.format != "MPO":  # of a phone: the same picture for another eye, or its depths
        with suppress(Exception):  # a broken page, which is not used
            frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"{frames} {'pages' if image.format == 'TIFF' else 'frames'}: the first is used")
    raw = str(getattr(image, "tile", "")) if image.format == "PNG" else ""
    bits = getattr(image, "tag_v2", {}).get(258, ())
    if len(image.getbands()) > 1 and (";16" in raw or max(bits, default=8) > 8):
        notes.append("16 bits in each colour: the upper 8 are used")
    return notes


def _at_size(image: Image.Image, resize: Callable[[Image.Image], np.ndarray], side: int) -> tuple[np.ndarray, int]:
    """The values of a Frame from an opened image, and the number of its pixels that are no number.

    It is turned upright, and lies on white where it is transparent.
    """
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UnreadableImage(_too_large(f"{width * height / 1e6:.0f} million"))
    image.draft("RGB", (4 * side, 4 * side))  # a JPEG can be decoded at a fraction of its size
    tags = getattr(image, "tag_v2", {})
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values, no_numbers = _finite(_deep(np.asarray(image), tags))
        return resize(Image.fromarray(values)), no_numbers
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return resize(image.convert("RGB")), 0


def _too_large(size: str) -> str:
    return f"{size} pixels: must be at most {MOST_PIXELS // 1_000_000} million"


def _deep(values: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """Values (H, W) of more than 8 bits as float32, by the `tags` of their TIFF: the higher the brighter."""
    bits, kind, white_is_zero = tags.get(BITS, (16,))[0], tags.get(SAMPLE_FORMAT, (1,))[0], tags.get(PHOTOMETRIC) == 0
    if values.dtype == np.int32 and bits == 32 and kind == 1:  # Pillow reads them as if they had a sign
        values = values.view(np.uint32)
    values = values.astype(np.float32)
    if nothing := re.match(r"\s*-?\d+(\.\d*)?(e[+-]?\d+)?", str(tags.get(NO_DATA, "")), re.IGNORECASE):
        values = np.where(values == np.float32(nothing[0]), np.nan, values)
    return 2.0**bits - 1 - values if white_is_zero and kind == 1 else values


def _finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values of which those that are no number, or infinite, have become the median of the others; and how many they were."""
    finite = np.isfinite(values)
    if finite.all():
        return values, 0
    if not finite.any():
        raise UnreadableImage("no pixel that is a number")
    return np.where(finite, values, np.median(values[finite])), int((~finite).sum())


def framed(image: Image.Image, side: int = SIDE) -> np.ndarray:
    """An RGB image as bytes (side, side, 3), or one of mode F as float32 (side, side).

    Its longer side is resized to `side` pixels, bilinearly over all pixels that one is made of, so that nothing aliases. The
    shorter one is filled up on both sides with the median colour of the border.
    """
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    height, width = small.shape[:2]
    frame = np.empty((side, side, *small.shape[2:]), small.dtype)
    frame[:] = np.median(border, axis=0)
    top, left = (side - height) // 2, (side - width) // 2
    frame[top : top + height, left : left + width] = small
    return frame


def longer_side(path: Path) -> int:
    """The longer side of an image file in pixels, by its head alone; 0 if that can't be read."""
    try:
        if not path.is_file():  # a pipe, which may never end
            return 0
        with Image.open(path, formats=_kinds(path)) as image:
            return max(image.size)
    except Exception:  # Pillow raises whatever a broken file leads to; when it is decoded, it is told why
        return 0


def fitting_side(longer: Sequence[int]) -> int:
    """The largest of FITTING that enlarges no more than half of the images with these longer sides; the smallest, if all do."""
    median = sorted(longer)[(len(longer) - 1) // 2] if longer else 0
    return max((side for side in FITTING if side <= median), default=SIDE)


def enlarged(most: int, side: int) -> str:
    """What there is to say if `side` enlarges all images, of which the largest has `most` pixels."""
    return f"SIDE={side}: no image has more than {most} pixels, so all are enlarged: this shows no more, and takes longer"


def reduced(pixels: np.ndarray) -> np.ndarray:
    """Images (N, H, H, C), bytes, at 28 × 28 pixels, at which copies are looked for."""
    if pixels.shape[1] == SIDE:
        return pixels
    small = np.empty((len(pixels), SIDE, SIDE, pixels.shape[3]), np.uint8)
    for i, c in np.ndindex(len(pixels), pixels.shape[3]):
        channel = Image.fromarray(np.ascontiguousarray(pixels[i, ..., c]))
        small[i, ..., c] = np.asarray(channel.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return small


def looks(title: str, pixels: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, dict]:
    """The pixels (N, side, side, C) as the network will see them, and the fields of DataSetInfo that describe them.

    The figures are those of the images where `training` (N,) is True. Images without colour get one channel. An even and light
    background becomes dark, and what is on it light: pixels that are shifted into an image, or laid over it, then fit.
    Raises ValueError if all pixels are of one colour.
    """
    index = np.flatnonzero(training)
    if np.mean([np.ptp(pixels[i], axis=2).max() > GREY for i in index]) < 0.01:
        pixels = grey(pixels)
    color, even = background(pixels[index])
    inverted = bool(even and color.mean() > 127)
    if inverted:
        pixels, color = 255 - pixels, 255 - color
    mean, std = _moments(pixels, index)
    if std.max() < 1e-3:
        raise ValueError(f"data={title!r}: all images are of one colour; there is nothing to tell apart")
    std = std.clip(1e-3)
    return pixels, {
        "channels": len(mean),
        "mean": tuple(mean.tolist()),
        "std": tuple(std.tolist()),
        "background": float(((color / 255 - mean) / std).mean()),
        "inverted": inverted,
    }


def background(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """The median colour (C,) at the border of images (N, side, side, C), and whether more than half of the border is near it."""
    edge = np.ones(pixels.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    border = pixels[:, edge].astype(np.int16)
    color = np.median(border, axis=(0, 1))
    near = (np.abs(border - color) <= 2 * GREY).all(axis=2)
    return color, bool(near.mean() > 0.5)


def _moments(pixels: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) of the pixels in [0, 1] of the images `index`.

    They follow from counts of the 256 levels: exact, and without a copy in floating point.
    """
    counts = np.zeros((pixels.shape[3], 256), np.int64)
    for part in np.split(index, range(1000, len(index), 1000)):
        counts += [np.bincount(pixels[part, :, :, c].ravel(), minlength=256) for c in range(len(counts))]
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    return mean, np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Colours (N, side, side, 3) as one channel of brightness, by the weights that Pillow uses (ITU-R 601-2)."""
    grey = np.empty((*pixels.shape[:3], 1), np.uint8)
    for part in range(0, len(pixels), 1000):
        grey[part : part + 1000, ..., 0] = (pixels[part : part + 1000].astype(np.uint32) @ (299, 587, 114) + 500) // 1000
    return grey
