"""Classifies images with a finished run: those of a folder, or the run's own unlabelled ones, the least confident first.

`make predict RUN=outputs/mnist/best/m50/seed0 IMAGES=folder` classifies the images of a folder; without IMAGES, those of which
the run had no label. With ONNX=file it also writes the network for programs without PyTorch.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_core import data, experiment, graph, train
from ssl_core.augment import Augment
from ssl_core.datasets.folder import decode_all
from ssl_core.datasets.pixels import SIDE, UnreadableImage, grey
from ssl_core.datasets.scan import images_below
from ssl_core.model import Net

from ..runs import files, graph_cache, records, sweep
from ..runs.progress import to_go
from ..runs.records import Record
from ..runs.spec import Run
from ..studies import intervals

CHUNK = 10_000  # images between two lines of progress
OUTDATED = "an earlier version made it, without what this needs: remove it and train it again"


@dataclass(frozen=True)
class Trained:
    """A finished run: its network, its settings, and its predictions for the test images. The data set need not be there."""

    parameters: Mapping[str, Any]
    model: Net
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    inverted: bool
    tta_views: int
    tta_augment: Augment | None
    confidence: np.ndarray  # (N,), of its predictions for the test images
    correct: np.ndarray  # (N,), which of them are

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities (N, C) of normalised images, with the test-time augmentation of the run."""
        return train.probabilities(self.model, x, self.tta_views, self.tta_augment)

    def threshold(self, accuracy: float) -> tuple[float, float]:
        """The least confidence from which predictions for the test images have this accuracy, and the fraction of such images.

        Infinity and 0 if there is no such confidence.
        """
        coverage, selective_accuracy = intervals.selective(self.confidence, self.correct)
        reached = np.flatnonzero(selective_accuracy >= accuracy)
        if not len(reached):
            return float("inf"), 0.0
        return float(np.sort(self.confidence)[::-1][reached[-1]]), float(coverage[reached[-1]])


def load(path: Path) -> Trained:
    """The run whose record lies in the folder `path`; raises ValueError unless it is a whole run that today's code can use."""
    if (record := records.read(path)) is None:
        raise ValueError(f"RUN={str(path)!r}: must be the folder of a finished run, with a run.json")
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
    model = Net(len(info["classes"]), len(info["mean"])).to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(path / "model.safetensors"))
    return Trained(
        parameters=record.parameters,
        model=model.requires_grad_(False),
        **_frozen({name: info[name] for name in ("classes", "mean", "std", "inverted")}),
        tta_views=record.recipe["tta_views"],
        tta_augment=augment and Augment(**_frozen(augment)),
        confidence=predictions["probabilities"].max(dim=1).values.numpy(),
        correct=predictions["right"].numpy(),
    )


def _frozen(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with tuples, for which JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def read_images(folder: Path, trained: Trained) -> tuple[list[str], Tensor, list[tuple[str, str]]]:
    """The images below `folder`, decoded as those of training: file names, tensor (N, C, 28, 28), and skipped files with reasons.

    Raises ValueError if there is none.
    """
    if not folder.is_dir():
        raise ValueError(f"IMAGES={str(folder)!r}: must be a folder of images")
    names, skipped = images_below(folder)
    pixels = {}
    for name, result in zip(names, decode_all([folder / name for name in names]), strict=True):
        try:
            pixels[name], _ = result.result()
        except UnreadableImage as error:
            skipped.append((name, str(error)))
    if not pixels:
        raise ValueError(f"IMAGES={str(folder)!r}: no image that can be read among {len(skipped)} files")
    return list(pixels), _normalized(np.stack(list(pixels.values())), trained), skipped


def _normalized(pixels: np.ndarray, trained: Trained) -> Tensor:
    """Decoded images (N, 28, 28, 3) as the network was trained on them: (N, C, 28, 28)."""
    if len(trained.mean) == 1:
        pixels = grey(pixels)
    pixels = 255 - pixels if trained.inverted else pixels
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return data.normalize(tensor, trained.mean, trained.std)


def unlabeled(trained: Trained) -> tuple[list[str], Tensor, np.ndarray | None]:
    """The training images of which the run had no label: names (numbers, in a set without files) and tensor (U, C, 28, 28).

    Also which of them (U,) are far from every label in the graph; None for a recipe without a graph.
    """
    run = Run(**trained.parameters)
    images = data.load(run.data, files.DATA)
    neighbors = graph_cache.for_run(run, images)
    split = experiment.prepare(images, run.labeling, run.settings, neighbors).split
    assert split is not None  # of a task that was prepared
    names = run.info.files or range(len(images.x))
    far = None
    if neighbors and run.settings.pretraining:
        mass = graph.label_mass(neighbors, split.labeled, images.y[split.labeled])
        far = (mass < graph.OUT_OF_DISTRIBUTION)[split.unlabeled].numpy()
    return [str(names[i]) for i in split.unlabeled.tolist()], images.x[split.unlabeled], far


def table(trained: Trained, names: list[str], x: Tensor, threshold: float) -> pd.DataFrame:
    """A row per image: `file`, `label`, `confidence`, and `abstain`, yes where the confidence is below `threshold`."""
    parts, start = [], time.monotonic()
    for chunk in x.split(CHUNK):
        parts.append(trained.probabilities(chunk))
        if (done := sum(map(len, parts))) < len(x):
            left = to_go(done, len(x), time.monotonic() - start)
            print(f"predict: {done}/{len(x)} images classified, {left}", flush=True)
    confidence, label = torch.cat(parts).max(dim=1)
    return pd.DataFrame(
        {
            "file": names,
            "label": [trained.classes[c] for c in label.tolist()],
            "confidence": confidence.numpy().round(5),
            "abstain": np.where(confidence.numpy() < threshold, "yes", "no"),
        }
    )


def review_order(rows: pd.DataFrame, far: np.ndarray | None) -> pd.DataFrame:
    """The rows as a person reviews them: the least confident first, and before them those that are `far` from every label."""
    rows = rows.sort_values("confidence", kind="stable")
    if far is None:
        return rows
    return rows.assign(far=np.where(far[rows.index], "yes", "no")).sort_values("far", ascending=False, kind="stable")


class Portable(nn.Module):
    """From pixels in [0, 1], (N, C, 28, 28), to class probabilities: the network, with what comes before and after it."""

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained):
        super().__init__()
        self.model, self.inverted = trained.model, trained.inverted
        self.register_buffer("mean", torch.tensor(trained.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(trained.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        pixels = 1 - pixels if self.inverted else pixels
        return self.model((pixels - self.mean) / self.std)[0].softmax(dim=1)


def export(trained: Trained, path: Path) -> None:
    """Writes the network as ONNX: from `pixels` (N, C, 28, 28) in [0, 1] to `probabilities` (N, n_classes), classes as metadata.

    The test-time augmentation is not part of it.
    """
    try:
        import onnx
    except ImportError:
        raise ValueError(f"ONNX={str(path)!r}: needs onnx; install it: .venv/bin/pip install '.[onnx]'") from None
    example = (torch.zeros(2, len(trained.mean), SIDE, SIDE),)
    program = torch.onnx.export(
        Portable(trained).eval(),
        example,
        dynamo=True,
        verbose=False,
        input_names=["pixels"],
        output_names=["probabilities"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("images")}},
    )
    assert program is not None  # with dynamo
    model = program.model_proto
    model.metadata_props.append(onnx.StringStringEntryProto(key="classes", value="\n".join(trained.classes)))
    files.write_atomically(path, model.SerializeToString())


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, help="the folder of a finished run, from the project's root")
    parser.add_argument("--images", default="", help="a folder of images; empty: the images of which the run had no label")
    parser.add_argument("--target", default="0.99", help="the accuracy that answers should have; it abstains from others")
    parser.add_argument("--onnx", default="", help="also write the network to this file")


def command(args: argparse.Namespace) -> None:
    if not args.run.strip():
        raise ValueError(f"RUN={args.run!r}: must be the folder of a finished run")
    folder, target = files.ROOT / Path(args.run).expanduser(), sweep.decimal(args.target)
    if not isinstance(target, float) or not 0 < target <= 1:
        raise ValueError(f"TARGET={args.target!r}: must be a number above 0, to 1")
    trained = load(folder)
    if args.onnx:
        export(trained, files.writable("ONNX", (files.ROOT / args.onnx).parent) / Path(args.onnx).name)
    threshold, coverage = trained.threshold(target)
    if args.images:
        names, x, skipped = read_images(files.ROOT / Path(args.images).expanduser(), trained)
        rows, path = table(trained, names, x, threshold), folder / "predictions.csv"
    else:
        names, x, far = unlabeled(trained)
        rows, path, skipped = review_order(table(trained, names, x, threshold), far), folder / "pseudo_labels.csv", []
    files.write_atomically(path, rows.to_csv(index=False))
    for file, reason in skipped:
        print(f"left out: {file}: {reason}")
    print(f"predict: {len(rows)} images in {path}, {len(skipped)} files left out")
    for sentence in sentences(rows, target, threshold, coverage):
        print(f"predict: {sentence}")


def sentences(rows: pd.DataFrame, target: float, threshold: float, coverage: float) -> list[str]:
    """A summary of the whole table."""
    abstained = f"abstained on {100 * (rows['abstain'] == 'yes').mean():.1f} %"
    if coverage:
        answered = f"it answered {100 * coverage:.1f} % of the test images, at least {100 * target:g} % of them correctly"
        lines = [f"{abstained} (confidence below {threshold:.4f}). At this threshold {answered}."]
    else:
        lines = [f"{abstained}: at no threshold were {100 * target:g} % of its answers to the test images correct."]
    if "far" in rows:
        far = (rows["far"] == "yes").sum()
        meaning = "; they may belong to no class, or to a variant that no label shows, whatever the confidence" if far else ""
        lines.append(f"{far} images ({100 * far / len(rows):.1f} %) are far from every label in the graph{meaning}.")
    return lines
