"""Networks that others trained, as functions from images to features, whatever program runs them: see models.py and onnx.py."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from ssl_core.datasets.machine import cores
from ssl_core.progress import to_go

from .pictures import FRAMING, Pictures

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of each channel, of pixels in [0, 1]
GREY = (299, 587, 114)  # of 1000, the weights of a grey image (ITU-R 601-2)
BATCH = 16  # images
TELL_EVERY = 20  # seconds between two lines of progress

Apply = Callable[[np.ndarray], np.ndarray]  # from images (B, C, H, W), float32, to features (B, D) or (B, D, 1, 1)


@dataclass(frozen=True)
class Network:
    """What a network's input must be, and how it is loaded."""

    load: Callable[[], Apply]  # raises ValueError, without the name of the parameter, if it can't be had
    size: tuple[int, int]  # height and width
    channels: int = 3
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    batch: int = 0  # images, if it takes no other number

    @property
    def words(self) -> str:
        """How its input is made, in words."""
        mean, std = ("/".join(f"{value:g}" for value in values) for values in self.normalization)
        color = "RGB" if self.channels == 3 else "grey"
        return f"{self.size[0]} × {self.size[1]} pixels, {color} in [0, 1], less {mean}, divided by {std}; {FRAMING}"

    def input(self, pixels: np.ndarray) -> np.ndarray:
        """The input (B, C, H, W), float32, from images (N, H, W, 3), bytes; filled up to the batch that it takes."""
        if self.channels == 1:
            pixels = (pixels.astype(np.uint32) @ np.array(GREY, np.uint32) + 500)[..., None] // 1000
        mean, std = (np.array(values, np.float32) for values in self.normalization)
        x = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
        return np.concatenate([x, np.zeros((max(0, self.batch - len(x)), *x.shape[1:]), np.float32)])


def read(network: Network, images: Pictures, tell: Callable[[str], None]) -> np.ndarray:
    """The features (N, D), float32, of all images, on all cores; `tell` is given a line of progress now and then.

    A batch is computed by one thread: the result is the same for any number of cores. Raises ValueError if the network can't be
    had, if it does not take such images, or if one of them is gone.
    """
    step, threads = network.batch or BATCH, torch.get_num_threads()
    apply, readers, parts = network.load(), images.readers(), []
    _try(apply, network)
    tell(f"{len(readers)} images, {network.words}")
    start = told = time.monotonic()

    def part(first: int) -> np.ndarray:
        torch.set_num_threads(1)
        pixels = np.stack([picture(network.size) for picture in readers[first : first + step]])
        return apply(network.input(pixels))[: len(pixels)].reshape(len(pixels), -1)

    try:
        with ThreadPoolExecutor(cores()) as pool:
            for features in pool.map(part, range(0, len(readers), step)):
                parts.append(features)
                if (now := time.monotonic()) - told > TELL_EVERY:
                    told, done = now, len(parts) * step
                    tell(f"{done}/{len(readers)} images read, {to_go(done, len(readers), now - start)}")
    finally:
        torch.set_num_threads(threads)
    return np.concatenate(parts).astype(np.float32)


def _try(apply: Apply, network: Network) -> None:
    """Raises ValueError unless the network makes a row of features of each of two images: before all of them are read."""
    two = network.input(np.zeros((2, *network.size, 3), np.uint8)[: network.batch or 2])
    try:
        shape = apply(two).shape
    except Exception as error:  # of whatever library runs it
        side = f"{network.size[0]} × {network.size[1]}"
        raise ValueError(f"must take images of {side} pixels ({' '.join(str(error).split())[:150]})") from None
    if len(shape) not in (2, 4) or set(shape[2:]) - {1} or shape[1] < 2 or shape[0] != len(two):
        must = "must have an output (N, D) or (N, D, 1, 1), a row of features an image"
        raise ValueError(f"{must}; of {len(two)} images it makes {tuple(shape)}")
