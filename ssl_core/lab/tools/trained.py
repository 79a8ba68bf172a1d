"""A finished run as something to classify with: its network, its settings, and what it remembers of its images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssl_core import data, datasets, train
from ssl_core.augment import Augment
from ssl_core.datasets import SIDE
from ssl_core.datasets.pixels import grey
from ssl_core.device import computes_bfloat16
from ssl_core.familiarity import MOST
from ssl_core.model import PRECISIONS, Net
from ssl_core.recipes import LINEAR

from ..runs import files, records
from ..runs.records import Record

OUTDATED = "an earlier version made it, without what this needs: remove it and train it again"


@dataclass(frozen=True)
class Trained:
    """A finished run: its network, its settings, and its predictions for the test images. The data set need not be there."""

    parameters: Mapping[str, Any]
    fingerprint: str
    recipe: Mapping[str, Any]
    model: Net
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    inverted: bool
    scale: tuple[float, float] | None  # of images with more than 8 bits a pixel
    checksum: str  # of the data set; '' in a record of an earlier version
    tta_views: int
    tta_augment: Augment | None
    confidence: np.ndarray  # (N,), of its predictions for the test images
    correct: np.ndarray  # (N,), which of them are
    kept: records.KeptImages | None = field(repr=False)  # what the record keeps of a folder's images

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities (N, C) of normalised images, with the test-time augmentation of the run."""
        return train.probabilities(self.model, x, self.tta_views, self.tta_augment)

    def normalized(self, pixels: np.ndarray) -> Tensor:
        """Images (N, C, side, side), bytes as the run was trained on them, normalised."""
        return data.normalize(torch.from_numpy(np.ascontiguousarray(pixels)), self.mean, self.std)

    def as_trained(self, pixels: np.ndarray) -> np.ndarray:
        """Decoded images (N, side, side, 3) as the run was trained on them: bytes (N, C, side, side)."""
        if len(self.mean) == 1:
            pixels = grey(pixels)
        pixels = 255 - pixels if self.inverted else pixels
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    @cached_property
    def sample(self) -> np.ndarray | None:
        """A random sample of the training images, bytes (N, C, side, side); None if there is none."""
        if self.kept is not None:
            return self.kept.sample
        name = self.parameters["data"]
        if name not in datasets.DATA_SETS:
            return None
        try:
            x = datasets.load(name, files.DATA, self.model.side)[1]["x"]
        except datasets.DataError:  # on a machine that has only the run
            return None
        return x[np.random.default_rng(0).permutation(len(x))[: 2 * MOST]]


def load(path: Path) -> Trained:
    """The run whose record lies in the folder `path`; raises ValueError unless it is a whole run that today's code can use."""
    if (record := records.read(path)) is None:
        raise ValueError(f"RUN={str(path)!r}: must be the folder of a finished run, with a run.json")
    if record.parameters["recipe"] == LINEAR.name:
        must = "must be a run that trained a network: linear classifies features, which new images do not have"
        raise ValueError(f"RUN={str(path)!r}: {must}")
    try:
        trained = _trained(record, path)
    except KeyError:
        raise ValueError(f"RUN={str(path)!r}: {OUTDATED}") from None
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"RUN={str(path)!r}: its files can't be read, or do not fit today's code ({reason})") from None
    if not all(weight.isfinite().all() for weight in trained.model.state_dict().values()):
        raise ValueError(f"RUN={str(path)!r}: its weights are not all finite numbers")
    return trained


def _trained(record: Record, path: Path) -> Trained:
    info, augment, predictions = record.images, record.recipe["tta_augment"], load_file(path / "predictions.safetensors")
    model = Net(len(info["classes"]), len(info["mean"]), info.get("side", SIDE)).to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(path / "model.safetensors"))
    if record.recipe.get("precision") == PRECISIONS[1] and computes_bfloat16():
        model.precision = PRECISIONS[1]
    return Trained(
        parameters=record.parameters,
        fingerprint=record.fingerprint,
        recipe=record.recipe,
        model=model.requires_grad_(False),
        **_frozen({name: info[name] for name in ("classes", "mean", "std", "inverted")}),
        **_frozen({"scale": info.get("scale")}),
        checksum=info.get("checksum", ""),
        tta_views=record.recipe["tta_views"],
        tta_augment=augment and Augment(**_frozen(augment)),
        confidence=predictions["probabilities"].max(dim=1).values.numpy(),
        correct=predictions["right"].numpy(),
        kept=records.kept_images(path),
    )


def _frozen(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with tuples, for which JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
