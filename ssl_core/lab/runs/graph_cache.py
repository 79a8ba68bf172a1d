"""The graph of neighbours on disk: it is made once, from images without labels, for all runs of a sweep."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssl_core import datasets, graph, graph_file
from ssl_core import features as foreign
from ssl_core.data import Images
from ssl_core.datasets import DataSetInfo
from ssl_core.device import training_device
from ssl_core.graph import Neighbors
from ssl_core.progress import Progress, Tell
from ssl_core.recipes import Pretraining

from ..features import kept
from . import files
from .fingerprint import FEATURES_CODE, GRAPH_CODE, code_digest, non_default
from .spec import Run

FOLDER = files.DATA / "graphs"


def path(data_name: str, pretraining: Pretraining, folder: Path = FOLDER, *, side: int = 0, features: str = "") -> Path:
    """The file that keeps the graph. Its name follows from everything that changes it: the images, the settings and the code.

    Of `features` from elsewhere, these take the place of the settings of our own.
    """
    return _path(datasets.describe(data_name, side=side, for_training=False), pretraining, folder, features)


def path_for(run: Run) -> Path | None:
    """The file of the graph that `run` needs; None if it needs none."""
    return None if run.pretraining is None else path(run.data, run.pretraining, side=run.side, features=run.features)


def kept_index(info: DataSetInfo, pretraining: Pretraining, folder: Path = FOLDER) -> Tensor | None:
    """The neighbours (N, K), int64, of the images that `info` describes; None if their graph is not there."""
    try:
        with safe_open(_path(info, pretraining, folder), "pt") as file:
            return file.get_tensor("index").long()
    except (OSError, SafetensorError):
        return None


def _path(info: DataSetInfo, pretraining: Pretraining, folder: Path, features: str = "") -> Path:
    made_by: list[object] = (
        [features, pretraining.neighbors, code_digest(FEATURES_CODE)] if features else [non_default(pretraining)]
    )
    made_by += ["index"] * (info.n_images >= graph.MANY)
    key = files.digest([info.checksum, *made_by, code_digest(GRAPH_CODE)])[:16]
    return folder / f"{info.slug}-{key}.safetensors"


def for_run(run: Run, images: Images, tell: Tell | None = None, device: str = "auto") -> Neighbors | None:
    """The graph that `run` needs; None if it needs none."""
    if (pretraining := run.pretraining) is None:
        return None
    return load(images, pretraining, tell or Progress(run), device=device, info=run.info, features=run.features)


def load(
    images: Images,
    pretraining: Pretraining,
    tell: Tell | None = None,
    folder: Path = FOLDER,
    device: str = "auto",
    *,
    info: DataSetInfo | None = None,
    features: str = "",
) -> Neighbors:
    """The graph of the training images, from disk or, the first time, made: for MNIST in 2 to 4 minutes of one core.

    All runs have the same graph. A run that finds another one making it waits. `tell` is given the events of progress.
    `info` describes the images, where they are not just the training images of the data set of this name. With the name of
    `features` from elsewhere it is their graph; ValueError if they are not kept.
    """
    tell = tell or Progress(images.name)
    info = info or datasets.describe(images.name, side=images.side, for_training=False)
    target = _path(info, pretraining, folder, features)

    def build() -> Neighbors:
        if features:
            return foreign.graph_of(kept.of_training(images.name, features, info), pretraining.neighbors)
        return graph.build(images.x.to(training_device(device)), pretraining, tell)

    neighbors = graph_file.kept("data", target, build, lambda: tell({"stage": "wait"}))
    k, n = neighbors.index.shape[1], len(neighbors.index)
    tell({"stage": "graph ready", "k": k, "images": n, "seconds": neighbors.seconds})
    return neighbors


def seconds(target: Path) -> float:
    """The seconds that making the graph in the file `target` took."""
    with safe_open(target, "pt") as file:
        return file.get_tensor("seconds").item()
