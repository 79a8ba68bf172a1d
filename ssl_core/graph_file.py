"""A graph of neighbours in a file: it is made once, and read by whoever needs it again."""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from .datasets.machine import write_atomically
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
