"""What all runs of a sweep share: the graph of neighbours. It is made once, from images without labels, and kept on disk."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ssl_core import graph
from ssl_core.data import Images, known, slug
from ssl_core.recipes import Pretraining

from . import runs
from .runs import Run

FOLDER = runs.ROOT / "data" / "graphs"
SCIENCE = ("data", "augment", "model", "losses", "optim", "recipes", "graph")


def path(data_name: str, settings: Pretraining, folder: Path = FOLDER) -> Path:
    """Where the graph is kept: a name of its own for whatever changes it, the data, the settings or the code."""
    parts = [known(data_name, to_train=False).checksum, asdict(settings), runs.digest(SCIENCE)]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{slug(data_name)}-{key}.safetensors"


@dataclass(frozen=True)
class Neighbors:
    """Of each of N images the K nearest others, their cosine `similarity` and `index` (N, K); and its `features` (N, D)."""

    similarity: Tensor
    index: Tensor
    features: Tensor  # of half precision


def load_graph(
    images: Images,
    settings: Pretraining,
    tell: Callable[[str], None] = print,
    folder: Path = FOLDER,
    device: str = "auto",
) -> Neighbors:
    """The graph of the training images, from disk or, the first time, made.

    Making it takes about five minutes of one core. It is done by one thread, whatever the run uses, or on a GPU if `device` says
    so, once: all runs have the same graph. A run that finds another at it waits for it. `tell` is given a line now and then.
    """
    target = path(images.name, settings, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            tell("graph · another run is making it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _read(target)
        if kept is None:
            kept = _make(images.x.to(runs.processor(device)), settings, tell)
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            safetensors.torch.save_file(kept, temporary)
            os.replace(temporary, target)
    tell(f"graph · {settings.neighbors} neighbours of each of {len(images.x)} images, made in {kept['seconds'].item():.0f} s")
    return Neighbors(kept["similarity"], kept["index"].long(), kept["features"])


def typical(images: Images, run: Run, tell: Callable[[str], None] = print, folder: Path = FOLDER) -> Tensor:
    """Indices (n_labels,) of the training images that `run` labels if its draw is `typical`."""
    found = load_graph(images, run.graph, tell, folder)
    return graph.typical(found.features, found.similarity, run.n_labels, run.seed).index


def _make(x: Tensor, settings: Pretraining, tell: Callable[[str], None]) -> dict[str, Tensor]:
    threads, start = torch.get_num_threads(), time.perf_counter()

    def on_step(step: int, loss: Tensor) -> None:
        if step == 1 or step % 100 == 0 or step == settings.steps:
            seconds = time.perf_counter() - start
            left = seconds * (settings.steps - step) / step
            tell(f"graph · step {step}/{settings.steps} · loss {loss:.3f} · {seconds:.0f} s, about {left:.0f} s to go")

    torch.set_num_threads(1)
    try:
        encoder = graph.pretrain(x, settings, on_step)
        tell("graph · searching the nearest neighbours")
        features = encoder.features(x)
        similarity, index = graph.neighbors(features, settings.neighbors)
    finally:
        torch.set_num_threads(threads)
    seconds = torch.tensor(time.perf_counter() - start)
    made = {"similarity": similarity, "index": index.int(), "features": features.half(), "seconds": seconds}
    return {name: tensor.cpu() for name, tensor in made.items()}


def _read(target: Path) -> dict[str, Tensor] | None:
    """What was kept, or None if it is not there or not whole."""
    try:
        return safetensors.torch.load_file(target)
    except (OSError, safetensors.SafetensorError):
        return None
