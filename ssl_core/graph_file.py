"""A graph of neighbours in a file: it is made once, and read by whoever needs it again."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import safetensors.torch
import torch
from filelock import Timeout
from safetensors import SafetensorError

from .datasets.machine import lock, writable, write_atomically
from .graph import Neighbors


def write(path: Path, neighbors: Neighbors) -> None:
    """Writes the graph into the file `path`, whole or not at all."""
    tensors = {"similarity": neighbors.similarity, "index": neighbors.index.int(), "features": neighbors.features}
    tensors["seconds"] = torch.tensor(neighbors.seconds)
    write_atomically(path, safetensors.torch.save(tensors))


def read(path: Path) -> Neighbors | None:
    """The graph in the file `path`, or None if it is not there or not whole."""
    try:
        tensors = safetensors.torch.load_file(path)
        seconds = tensors["seconds"].item()
        return Neighbors(tensors["similarity"], tensors["index"].long(), tensors["features"], seconds)
    except (OSError, KeyError, SafetensorError):
        return None


def kept(parameter: str, path: Path, build: Callable[[], Neighbors], wait: Callable[[], object] = lambda: None) -> Neighbors:
    """The graph in the file `path`; the first time, the one that `build` makes.

    A whole file needs no lock, nor the right to make one. `wait` is called if another process is making the graph. Raises
    ValueError, naming `parameter`, if the folder cannot be written to.
    """
    if neighbors := read(path):
        return neighbors
    writable(parameter, path.parent)
    with ExitStack() as held:
        try:
            held.enter_context(lock(path.with_suffix(".lock"), timeout=0))
        except Timeout:
            wait()
            held.enter_context(lock(path.with_suffix(".lock")))
        if (neighbors := read(path)) is None:
            write(path, neighbors := build())
        return neighbors
