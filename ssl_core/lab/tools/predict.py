"""What a finished run says of other images, or of its own unlabelled ones: a table, the doubtful first where a person reviews it.

`make predict RUN=outputs/mnist/best/m50/seed0 IMAGES=folder` reads the images of a folder; without IMAGES those that the run
had no label of. With ONNX=file it also writes the network for programs without PyTorch.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

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
from ..runs.spec import Run
from ..studies import intervals

PART = 10_000  # images, after which it tells how far it is
REMAKE = "it was made by an earlier version, which did not keep what this takes: remove it, and train it again"


@dataclass(frozen=True)
class Trained:
    """A finished run: its network, what it was given, and how it did on its test images. Its data need not be there any more."""

    parameters: dict[str, object]
    model: Net
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    inverted: bool
    copies: int
    augment: Augment | None
    confidence: np.ndarray  # (N,), of its answers to the test images
    right: np.ndarray  # (N,)

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities (N, n_classes) of normalised images, read as often as the run read its test images."""
        return train.probabilities(self.model, x, self.copies, self.augment)

    def sure_from(self, target: float) -> tuple[float, float]:
        """The least confidence from which the answers to the test images were right in a share of `target`; and their coverage.

        Infinity and 0 if there is no such confidence.
        """
        coverage, accuracy = intervals.selective(self.confidence, self.right)
        enough = np.flatnonzero(accuracy >= target)
        if not len(enough):
            return float("inf"), 0.0
        return float(np.sort(self.confidence)[::-1][enough[-1]]), float(coverage[enough[-1]])


def load(path: Path) -> Trained:
    """The run whose record lies in the folder `path`; ValueError if what is there is not a whole run that code can use."""

    def refuse(why: str) -> ValueError:
        return ValueError(f"RUN={str(path)!r}: {why}")

    if (record := records.read(path)) is None:
        raise refuse("must be the folder of a finished run: it has a run.json")
    try:
        about, recipe, said = record.images, record.recipe, load_file(path / "predictions.safetensors")
        model = Net(len(about["classes"]), len(about["mean"])).to(memory_format=torch.channels_last)
        model.load_state_dict(load_file(path / "model.safetensors"))
        augment = recipe["tta_augment"] and Augment(**{name: _as_tuple(value) for name, value in recipe["tta_augment"].items()})
        found = Trained(
            parameters=record.parameters,
            model=model.requires_grad_(False),
            **{name: _as_tuple(about[name]) for name in ("classes", "mean", "std", "inverted")},
            copies=recipe["tta_views"],
            augment=augment,
            confidence=said["probabilities"].max(dim=1).values.numpy(),
            right=said["right"].numpy(),
        )
    except KeyError:
        raise refuse(REMAKE) from None
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise refuse(f"its files can't be read, or do not fit today's code ({' '.join(str(error).split())[:200]})") from None
    if not all(weight.isfinite().all() for weight in model.state_dict().values()):
        raise refuse("its weights are not all finite numbers")
    return found


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def read_images(place: Path, trained: Trained) -> tuple[list[str], Tensor, list[tuple[str, str]]]:
    """The images below the folder `place`, decoded as those of training: names, tensor, and what could not be read, and why."""
    if not place.is_dir():
        raise ValueError(f"IMAGES={str(place)!r}: must be a folder of images")
    files, skipped = images_below(place)
    read = {}
    for file, result in zip(files, decode_all([place / file for file in files]), strict=True):
        try:
            read[file], _ = result.result()
        except UnreadableImage as error:
            skipped.append((file, str(error)))
    if not read:
        raise ValueError(f"IMAGES={str(place)!r}: no image that can be read among {len(files) + len(skipped)} files")
    pixels = np.stack(list(read.values()))
    if len(trained.mean) == 1:
        pixels = grey(pixels)
    pixels = 255 - pixels if trained.inverted else pixels
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return list(read), data.normalize(tensor, trained.mean, trained.std), skipped


def unlabeled(trained: Trained) -> tuple[list[str], Tensor, np.ndarray | None]:
    """The training images of which the run had no label: names (in a set that has no files, numbers), tensor, and whether each is
    far from every label, by the graph of a run that has one.
    """
    run = Run(**trained.parameters)
    images = data.load(run.data, files.DATA)
    neighbors = graph_cache.for_run(run, images)
    split = experiment.prepare(images, run.labeling, run.settings, neighbors).split
    names = run.info.files or range(len(images.x))
    far = None
    if run.settings.pretraining:
        mass = graph.label_mass(neighbors, split.labeled, images.y[split.labeled])
        far = (mass < graph.OUT_OF_DISTRIBUTION)[split.unlabeled].numpy()
    return [str(names[i]) for i in split.unlabeled.tolist()], images.x[split.unlabeled], far


def table(trained: Trained, names: list[str], x: Tensor, sure: float) -> pd.DataFrame:
    """A row an image: `file`, `label`, `confidence`, and `abstain`, yes where the confidence is below `sure`."""
    said, start = [], time.monotonic()
    for part in x.split(PART):
        said.append(trained.probabilities(part))
        if (done := sum(map(len, said))) < len(x):
            left = (time.monotonic() - start) * (len(x) / done - 1)
            print(f"predict: {done}/{len(x)} images read, about {left:.0f} s to go", flush=True)
    said = torch.cat(said)
    confidence, label = said.max(dim=1)
    return pd.DataFrame(
        {
            "file": names,
            "label": [trained.classes[c] for c in label.tolist()],
            "confidence": confidence.numpy().round(5),
            "abstain": np.where(confidence.numpy() < sure, "yes", "no"),
        }
    )


class Portable(nn.Module):
    """From pixels in [0, 1], (N, C, 28, 28), to class probabilities: the network, with what comes before and after it."""

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

    It reads each image once: the copies that vote here are not part of it.
    """
    try:
        import onnx
    except ImportError:
        raise ValueError(f"ONNX={str(path)!r}: needs onnx; install it: .venv/bin/pip install '.[onnx]'") from None
    example = (torch.zeros(2, len(trained.mean), SIDE, SIDE),)
    batch = {"pixels": {0: torch.export.Dim("images")}}
    names = {"input_names": ["pixels"], "output_names": ["probabilities"], "dynamic_shapes": batch}
    written = torch.onnx.export(Portable(trained).eval(), example, dynamo=True, verbose=False, **names).model_proto
    written.metadata_props.append(onnx.StringStringEntryProto(key="classes", value="\n".join(trained.classes)))
    files.write_atomically(path, written.SerializeToString())


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, help="the folder of a finished run, from the project's root")
    parser.add_argument("--images", default="", help="a folder of images; empty: the images of which the run had no label")
    parser.add_argument("--target", default="0.99", help="the accuracy that answers should have; the run abstains from others")
    parser.add_argument("--onnx", default="", help="also write the network to this file")


def command(args: argparse.Namespace) -> None:
    path = files.ROOT / args.run
    target = sweep.decimal(args.target)
    if not isinstance(target, float) or not 0 < target <= 1:
        raise ValueError(f"TARGET={args.target!r}: must be a number above 0, to 1")
    trained = load(path)
    if args.onnx:
        export(trained, files.writable("ONNX", (files.ROOT / args.onnx).parent) / Path(args.onnx).name)
    sure, coverage = trained.sure_from(target)
    skipped: list[tuple[str, str]] = []
    far = None
    if args.images:
        names, x, skipped = read_images(files.ROOT / Path(args.images).expanduser(), trained)
    else:
        names, x, far = unlabeled(trained)
    rows = table(trained, names, x, sure)
    if not args.images:  # what a person reviews: the doubtful first
        rows = rows.sort_values("confidence", kind="stable")
        if far is not None:
            rows["far"] = np.where(far[rows.index], "yes", "no")
            rows = rows.sort_values("far", ascending=False, kind="stable")
    written = path / ("predictions.csv" if args.images else "pseudo_labels.csv")
    files.write_atomically(written, rows.to_csv(index=False))
    for file, why in skipped:
        print(f"left out: {file}: {why}")
    abstains = (rows["abstain"] == "yes").mean()
    print(f"predict: {len(rows)} images in {written}, {len(skipped)} files left out")
    print(
        f"predict: it abstains from {100 * abstains:.1f} %: those less sure than {sure:.4f}; of the test images it answered"
        f" {100 * coverage:.1f} % when it was at least so sure, {100 * target:g} % of them rightly"
    )
    if far is not None:
        kind = "they may be of no class, or of a kind that no label shows, however sure the network is" if far.any() else "none"
        print(f"predict: far from every label in the graph are {far.sum()} images ({100 * far.mean():.1f} %): {kind}")
