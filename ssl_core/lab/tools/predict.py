"""Classifies images with a finished run: those of a folder, or the run's own unlabelled ones, the least confident first.

`make predict RUN=outputs/mnist/best/m50/seed0 IMAGES=folder` classifies the images of a folder; without IMAGES, those of which
the run had no label. With ONNX=file it also writes the network for programs without PyTorch.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_core import data, datasets, experiment, graph
from ssl_core.data import Pixels
from ssl_core.datasets import DataSetInfo, decoding, tables
from ssl_core.datasets.pixels import FORMATS, UnreadableImage
from ssl_core.datasets.tables import counted
from ssl_core.model import PRECISIONS
from ssl_core.progress import to_go

from ..runs import files, graph_cache, records, sweep
from ..runs.spec import Run
from ..studies import intervals
from . import clusters
from .new_images import NewImages, Reader, by_text, several
from .portable import export
from .trained import OUTDATED, Trained, load

CHUNK = 10_000  # images between two lines of progress


def unlabeled(trained: Trained) -> tuple[NewImages, list[str]]:
    """The training images of which the run had no label, named by number in a set without files; and what is to be said of them.

    If its folder has changed since, those that are there now, as the run was trained on such images.
    """
    name = trained.parameters["data"]
    if name in datasets.DATA_SETS:
        return _own(trained, trained.model.side, ())
    try:
        side = _side(trained)
        info, arrays = datasets.load(name, files.DATA, side)
    except ValueError:
        if Path(name).is_dir():
            raise
        gone = "this folder is not there any more, and nothing of it is kept; give IMAGES=folder, where the images are now"
        raise ValueError(f"data={name!r}: {gone}") from None
    same = trained.checksum == info.checksum if trained.checksum else records.is_current(trained.parameters, trained.fingerprint)
    if same:
        return _own(trained, side, info.skipped)
    if trained.kept is None:
        raise ValueError(f"data={name!r}: its images have changed since the run, and {OUTDATED}")
    same_scale = info.scale in (None, trained.scale)
    x = _as_trained(arrays["x"], info, trained) if same_scale else _read_again(name, info, trained)
    had = np.isin(np.array(info.files), trained.kept.labeled) | np.isin(records.digests(x), trained.kept.digests)
    index = np.flatnonzero(~had)
    if not len(index):
        raise ValueError(f"data={name!r}: no image is left of which the run had no label")
    reader, pixels = Reader(trained), x[index]
    tensor = trained.normalized(pixels)
    nothing = np.full(len(index), "", dtype=object)
    far = reader.far(tensor, pixels, nothing)
    new = NewImages([info.files[i] for i in index], tensor, nothing, far, list(info.skipped))
    since = f"its images have changed since the run: {info.n_images} to train with now"
    changed = f"{name}: {since}. All are read as the run read its own; {had.sum()} had a label."
    return new, [changed, *reader.sentences(new)]


def _side(trained: Trained) -> int:
    """The side with which the run's folder is read as the run read it: what was asked for then, or the one that it got."""
    asked = trained.parameters.get("side", 0)
    fits = datasets.describe(trained.parameters["data"], files.DATA, asked, for_training=False).side == trained.model.side
    return asked if fits else trained.model.side


def _own(trained: Trained, side: int, skipped: Sequence[tuple[str, str]]) -> tuple[NewImages, list[str]]:
    """As `unlabeled`, for a run whose data set has not changed; `far` by the graph, if its recipe has one."""
    run = Run(**{**trained.parameters, "side": side, "precision": trained.recipe.get("precision", PRECISIONS[0])})
    images = data.load(run.data, files.DATA, run.side)
    neighbors = graph_cache.for_run(run, images)
    task = experiment.prepare(images, run.labeling, run.settings, neighbors)
    split = task.split
    assert split is not None  # of a task that was prepared
    index = split.unlabeled if run.n_labels else torch.arange(len(images.x))
    if not len(index):
        raise ValueError(f"data={run.data!r}: the run had a label of every image; give IMAGES=folder")
    names, far, told = run.info.files or range(len(images.x)), None, []
    if neighbors and run.settings.pretraining:
        mass = graph.label_mass(neighbors, split.labeled, task.y_l)
        far = (mass < graph.OUT_OF_DISTRIBUTION)[index].numpy()
        told = [_far_sentence(far)]
    nothing = np.full(len(index), "", dtype=object)
    own = [str(names[i]) for i in index.tolist()]
    return NewImages(own, images.part(index), nothing, far, list(skipped)), told


def _as_trained(x: np.ndarray, info: DataSetInfo, trained: Trained) -> np.ndarray:
    """The images (N, C, side, side) of a data set, bytes, as the run was trained on such images."""
    decoded = np.broadcast_to(255 - x if info.inverted else x, (len(x), 3, *x.shape[2:]))
    return trained.as_trained(np.ascontiguousarray(decoded.transpose(0, 2, 3, 1)))


def _read_again(name: str, info: DataSetInfo, trained: Trained) -> np.ndarray:
    """The training images of the folder `name`, as `_as_trained`, but by the scale of the run.

    Images with more than 8 bits a pixel share one scale, which one new image can change. Raises ValueError if they are gone.
    """
    pixels = []
    paths = [Path(name) / file for file in info.files]
    for file, result in zip(info.files, decoding.read_all(paths, trained.model.side), strict=True):
        try:
            pixels.append(result.result().pixels(trained.scale))
        except UnreadableImage as error:
            raise ValueError(f"data={name!r}: {file}: must be there to be read, by the run's scale ({error})") from None
    return trained.as_trained(np.stack(pixels))


def table(trained: Trained, images: NewImages, threshold: float) -> pd.DataFrame:
    """A row per image: `file`, `label`, `confidence`; and `abstain`, yes if the confidence is below `threshold` or it is far.

    Columns `far` and `changed` follow where they are known.
    """
    p, names = clusters.merged(_classified(trained, images.x), trained.classes)  # clusters may share a name
    confidence, label = p.max(dim=1)
    abstain = confidence.numpy() < threshold
    columns = {
        "file": images.names,
        "label": [names[c] for c in label.tolist()],
        "confidence": confidence.numpy().astype(float).round(5),  # of float32, a table shows digits that are none
    }
    if images.far is not None:
        abstain = abstain | images.far
        columns["far"] = np.where(images.far, "yes", "no")
    if images.changes.any():
        columns["changed"] = images.changes
    columns["abstain"] = np.where(abstain, "yes", "no")
    return pd.DataFrame(columns)


def _classified(trained: Trained, x: Pixels | Tensor) -> Tensor:
    """Class probabilities (N, C); tells how far it is."""
    parts, start = [], time.monotonic()
    for chunk in x.split(CHUNK):
        parts.append(trained.probabilities(chunk))
        if (done := sum(map(len, parts))) < len(x):
            left = to_go(done, len(x), time.monotonic() - start)
            print(f"predict: {done}/{len(x)} images classified, {left}", flush=True)
    return torch.cat(parts)


def review_order(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as a person reviews them: the least confident first, and before them those that are far."""
    rows = rows.sort_values("confidence", kind="stable")
    return rows.sort_values("far", ascending=False, kind="stable") if "far" in rows else rows


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, help="the folder of a finished run, from the project's root")
    parser.add_argument("--images", default="", help="a folder of images; empty: the images of which the run had no label")
    parser.add_argument("--target", default="0.99", help="the accuracy that answers should have; it abstains from others")
    parser.add_argument("--onnx", default="", help="also write the network to this file")


def command(args: argparse.Namespace) -> None:
    if not args.run.strip():
        raise ValueError(f"RUN={args.run!r}: must be the folder of a finished run")
    place, target = files.expanded("RUN", args.run), sweep.decimal(args.target)
    if not isinstance(target, float) or not 0 < target <= 1:
        raise ValueError(f"TARGET={args.target!r}: must be a number above 0, to 1")
    trained = load(place)
    files.writable("RUN", place)
    trained, about_clusters = _with_names(trained, place)
    if args.onnx:
        export(trained, onnx := files.expanded("ONNX", args.onnx))
        print(f"predict: the network is in {onnx}")
    threshold = intervals.threshold(trained.confidence, trained.correct, target)
    if args.images:
        reader = Reader(trained)
        images = reader.read(files.expanded("IMAGES", args.images))
        rows, path, told = table(trained, images, threshold.value), place / "predictions.csv", reader.sentences(images)
    else:
        images, told = unlabeled(trained)
        rows, path = review_order(table(trained, images, threshold.value)), place / "pseudo_labels.csv"
    _write(path, rows, str(files.expanded("IMAGES", args.images)) if args.images else "")
    for line in _left_out(images.skipped):
        print(f"left out: {line}")
    print(f"predict: {counted(len(rows), 'image')} in {path}, {counted(len(images.skipped), 'file')} left out")
    for sentence in [*about_clusters, *told, _abstained(rows, threshold)]:
        print(f"predict: {sentence}")


def _with_names(trained: Trained, place: Path) -> tuple[Trained, list[str]]:
    """The run with the names that a person gave its clusters, where it had no label; and what is to be said of these."""
    if trained.parameters["n_labels"]:
        return trained, []
    names, told = clusters.read_names(place / clusters.NAMES, len(trained.classes))
    if names == list(trained.classes):
        told = [f"labels are the numbers of clusters: name them in {place / clusters.NAMES}"]
    return replace(trained, classes=tuple(names)), told


def _write(path: Path, rows: pd.DataFrame, folder: str) -> None:
    """Writes the list of images in `folder`, "" for the run's own.

    An earlier one that somebody has changed since it was written, or that is of another folder, is kept under another name.
    """
    mark = path.with_name(f".{path.name}.sha256")
    written, _, earlier = mark.read_text().partition("\n") if mark.exists() else ("", "", "")
    if path.exists():
        content = path.read_bytes()
        changed = "was changed by hand" if files.digest(content.hex()) != written else ""
        if why := changed or (f"was of {earlier}" if earlier not in ("", folder) else ""):
            print(f"predict: {path.name} {why}: it is kept as {files.keep_beside(path, content).name}")
    tables.write(path, list(rows.columns), rows.to_dict("records"))
    files.write_atomically(mark, f"{files.digest(path.read_bytes().hex())}\n{folder}")


def _left_out(skipped: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The files that are left out, and why; those of an ending that is not read, as a number and one of them."""
    images = [Path(file).suffix.lower() in FORMATS for file, _ in skipped]
    yield from (f"{file}: {reason}" for (file, reason), image in zip(skipped, images, strict=True) if image)
    others = by_text([each for each, image in zip(skipped, images, strict=True) if not image])
    yield from (f"{several(names)}: {reason}" for reason, names in others.items())


def _far_sentence(far: np.ndarray) -> str:
    meaning = "; they may belong to no class, or to a variant that no label shows, whatever the confidence" if far.any() else ""
    are = f"{counted(int(far.sum()), 'image')} ({100 * far.mean():.1f} %) {'is' if far.sum() == 1 else 'are'}"
    return f"{are} far from every label in the graph{meaning}."


def _abstained(rows: pd.DataFrame, threshold: intervals.Threshold) -> str:
    """How many images it abstained on, and what the test images show of the others."""
    share = f"abstained on {100 * (rows['abstain'] == 'yes').mean():.1f} %"
    if threshold.coverage:
        return f"{share}; at a confidence of {threshold.value:.4f} or more, {threshold.sentence()}"
    lower = np.floor(100 * threshold.most) / 100
    return f"{share}: {threshold.sentence()}" + (f"; TARGET={lower:g} can be shown" if lower else "")
