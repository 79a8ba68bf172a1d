"""The image files of a folder as pixels of one size: read on all cores, with one scale for those of more than 8 bits."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .info import SIDE
from .machine import cores
from .pixels import Frame, UnreadableImage, enlarged, fitting_side, longer_side, read_frame, scale_of
from .walk import WHOLE, Listing

FEW_LEVELS = 64  # of 256: with fewer, a scale is told to be too wide
TELL_EVERY = 5  # seconds between two lines of progress


def side_of(listing: Listing, side: int) -> int:
    """The `side` that was asked for, with a note if it enlarges all images; for 0 the one that fits the training images."""
    with ThreadPoolExecutor(cores()) as threads:
        longer = [each for each in threads.map(longer_side, [listing.folder / file for file, _ in listing.train]) if each]
    if side and longer and (most := max(longer)) < side:
        listing.note(WHOLE, enlarged(most, side))
    return side or fitting_side(longer)


def entries(listing: Listing, side: int) -> tuple[np.ndarray, list[str | None], tuple[float, float] | None]:
    """The pixels (N, side, side, 3) of all images, and the digests of their files: None for those that can't be read.

    Also the scale of those with more than 8 bits a pixel, from the values of the training images; None if there are none.
    """
    n, title = len(listing.entries), listing.folder.name
    megabytes = max(1, n * side * side * 3 / 1e6)
    print(f"{title}: {n} images; decoding takes {megabytes:.0f} MB of memory and is done once", file=sys.stderr)
    pixels = np.zeros((n, side, side, 3), np.uint8)
    digests: list[str | None] = [None] * n
    deep: dict[int, Frame] = {}
    start = printed = time.monotonic()
    for i, result in enumerate(read_all([listing.folder / file for file, _ in listing.entries], side)):
        file, _ = listing.entries[i]
        try:
            frame = result.result()
            digests[i] = frame.digest
            for text in frame.notes:
                listing.note(file, text)
            if frame.deep:
                deep[i] = frame
            else:
                pixels[i] = frame.values
        except UnreadableImage as error:
            listing.skip(file, str(error))
        if (now := time.monotonic()) - printed > TELL_EVERY:
            printed = now
            left = (now - start) / (i + 1) * (n - i - 1)
            print(f"{title}: {i + 1}/{n} images decoded, about {left:.0f} s to go", file=sys.stderr, flush=True)
    return pixels, digests, _scaled(listing, deep, pixels)


def _scaled(listing: Listing, deep: Mapping[int, Frame], pixels: np.ndarray) -> tuple[float, float] | None:
    """Writes the frames `deep`, with more than 8 bits a pixel, into `pixels` by one scale, which it returns."""
    if not deep:
        return None
    scale = scale_of([frame for i, frame in deep.items() if i < len(listing.train)] or list(deep.values()))
    for i, frame in deep.items():
        pixels[i] = frame.pixels(scale)
    several = f"{len(deep)} images have" if len(deep) > 1 else "1 image has"
    listing.note(WHOLE, f"{several} more than 8 bits a pixel: the value {scale[0]:g} becomes black, {scale[1]:g} white")
    levels = len(np.unique(pixels[list(deep), :, :, 0]))
    if levels < FEW_LEVELS < len(np.unique([frame.values for frame in deep.values()])):
        middle = float(np.median([np.median(frame.values) for frame in deep.values()]))
        farthest = max(deep, key=lambda i: float(np.abs(deep[i].values - middle).max()))
        told = f"values far from all others, such as in {listing.entries[farthest][0]}, stretch this scale"
        listing.note(WHOLE, f"of 256 levels of grey these images use {levels}: {told}")
    return scale


def read_all(paths: Sequence[Path], side: int = SIDE) -> Iterator[Future[Frame]]:
    """Reads image files on all cores. One future for each, in order: its `result()` is that of pixels.read_frame."""
    threads = ThreadPoolExecutor(cores())
    futures = deque(threads.submit(read_frame, path, side=side) for path in paths)
    try:
        while futures:
            yield futures.popleft()
    finally:
        threads.shutdown(cancel_futures=True)
