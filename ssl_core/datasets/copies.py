"""Near copies: pictures that were saved again, made lighter or darker, or moved by a pixel; and groups of them.

Two pictures are near copies if they correlate by SAME or more once one is moved by up to a pixel, and if the same holds, more
loosely, for what sets each apart from the mean picture: the things before a camera that does not move. Of MNIST's test images
none is a near copy of 1,000 training images that were drawn at random.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

SAME = 0.985  # correlation of near copies
SAME_CONTENT = 0.75  # the same without the mean picture
LIKELY = 0.98  # of their spectra, which a shift does not change
CANDIDATES = 4  # the most similar spectra, whose pictures are compared
FREQUENCIES = 5
CHUNK = 500
LEAST_CONTRAST = 2.0  # standard deviation, of 255: a picture with less is empty
SHIFTS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def near_copies(pictures: np.ndarray, others: np.ndarray | None = None, mean: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Pairs (i, j): picture i (N, 28, 28), bytes, is a near copy of j of the `others`, or of the pictures themselves (i < j).

    Of each picture up to CANDIDATES are compared. `mean` (28, 28) is the mean picture, by default that of the others.
    Takes seconds for 10,000 pictures and 60,000 others.
    """
    itself = others is None
    others = pictures if others is None else others
    if not len(pictures) or not len(others):
        return []
    mean = mean_picture(others) if mean is None else mean
    spectra, other_spectra = _spectra(pictures), _spectra(others)
    pairs = []
    for start in range(0, len(pictures), CHUNK):
        likeness = spectra[start : start + CHUNK] @ other_spectra.T
        if itself:
            rows = np.arange(len(likeness))
            likeness[rows, rows + start] = -1
        promising = np.flatnonzero(likeness.max(axis=1) >= LIKELY)
        if not len(promising):
            continue
        likeness = likeness[promising]
        n = min(CANDIDATES, len(others))
        best = np.argpartition(likeness, -n, axis=1)[:, -n:] if n < len(others) else np.tile(np.arange(n), (len(promising), 1))
        i, j = np.repeat(promising + start, n), best.ravel()
        keep = np.take_along_axis(likeness, best, axis=1).ravel() >= LIKELY
        i, j = i[keep], j[keep]
        same = _same(pictures[i], others[j], mean)
        pairs += list(zip(i[same].tolist(), j[same].tolist(), strict=True))
    return sorted({(min(pair), max(pair)) for pair in pairs}) if itself else sorted(pairs)


def mean_picture(pictures: np.ndarray) -> np.ndarray:
    """The mean (28, 28) of pictures, or of some thousands of many."""
    return pictures[:: max(1, len(pictures) // 5000)].mean(axis=0)


def _spectra(pictures: np.ndarray) -> np.ndarray:
    """Amplitudes (N, D) of the low frequencies, roots of them, of length 1; zeros for an empty picture."""
    parts = []
    for start in range(0, len(pictures), 10 * CHUNK):
        part = pictures[start : start + 10 * CHUNK].astype(np.float32)
        waves = np.fft.rfft2(part - part.mean(axis=(1, 2), keepdims=True))[:, :, : FREQUENCIES + 1]
        amplitudes = np.sqrt(np.abs(np.concatenate([waves[:, : FREQUENCIES + 1], waves[:, -FREQUENCIES:]], axis=1)))
        flat = amplitudes.reshape(len(part), -1).astype(np.float32)
        flat[part.std(axis=(1, 2)) < LEAST_CONTRAST] = 0
        parts.append(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))
    return np.concatenate(parts)


def _same(first: np.ndarray, second: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Which of the pairs of pictures (N, 28, 28) are near copies, as a mask (N,)."""
    same = np.zeros(len(first), bool)
    first, second = first.astype(np.float32), second.astype(np.float32)
    for dy, dx in SHIFTS:
        a, b = _window(first, dy, dx), _window(second, -dy, -dx)
        hits = np.flatnonzero(~same & (correlation(without(a), without(b)) >= SAME))
        means = (_window(mean[None], dy, dx), _window(mean[None], -dy, -dx))
        same[hits] = correlation(without(a[hits], means[0]), without(b[hits], means[1])) >= SAME_CONTENT
    return same


def _window(pictures: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The part (N, ·) of pictures that is left if they are moved by (dy, dx)."""
    side = pictures.shape[1]
    part = pictures[:, max(dy, 0) : side + min(dy, 0), max(dx, 0) : side + min(dx, 0)]
    return part.reshape(len(pictures), -1)


def without(flat: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Rows without their own mean; and without the part that is proportional to the row `mean` (1, D)."""
    flat = flat - flat.mean(axis=1, keepdims=True)
    if mean is None:
        return flat
    unit = without(mean)
    unit = unit / max(float(np.linalg.norm(unit)), 1e-9)
    return flat - (flat @ unit.T) * unit


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1) + 1e-9)


def one_photo(entries: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """Pairs of files, given with their classes, that Roboflow made of one photo, by their names: `x_jpg.rf.<hash>.jpg`."""
    first: dict[tuple[str, str], int] = {}
    pairs = []
    for i, (file, label) in enumerate(entries):
        if made := re.fullmatch(r"(.+)\.rf\.[0-9A-Za-z]{8,}", PurePosixPath(file).stem):
            j = first.setdefault((made[1], label), i)
            pairs += [(j, i)] if i != j else []
    return pairs


def groups(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """The group of each of `n` images, by the number of its first member; `pairs` are in one group."""
    parent = list(range(n))

    def top(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        low, high = sorted((top(i), top(j)))
        parent[high] = low
    return [top(i) for i in range(n)]
