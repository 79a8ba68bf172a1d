"""Selects the images to label next: the most representative ones, as a list to fill in and a sheet of pictures.

`make label-next N=50` writes both. Labels that are filled in are kept, and the next images are selected in view of them.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ssl_core import data, graph, recipes
from ssl_core.data import Images
from ssl_core.datasets import check_name, describe
from ssl_core.datasets.checks import check_n_labels, check_seed, check_whole
from ssl_core.graph import Neighbors, Selection

from ..runs import files, graph_cache, sweep
from ..studies import run_figures

COLUMNS = ["label", "cluster", "images_in_cluster", "similarity", "why"]
PER_SHEET = 100  # images


@dataclass(frozen=True)
class Pool:
    """The training images from which some are selected. The list names them in `column`: by `file`, or by their `index`."""

    images: Images
    column: str
    names: tuple[str, ...] | range
    test_files: tuple[str, ...] = ()  # of a folder's test images, which are not selected

    def number(self, name: object) -> int | None:
        """The index of the image called `name`: −1 for a test image, None if there is none."""
        if self.column == "file":
            return self.by_name.get(name)
        if isinstance(name, int | float) and not name % 1 and 0 <= name < len(self.names):
            return int(name)
        return None

    @cached_property
    def by_name(self) -> dict[object, int]:
        numbers: dict[object, int] = {name: i for i, name in enumerate(self.names)}
        return numbers | dict.fromkeys(self.test_files, -1)

    @property
    def labeled(self) -> list[int]:
        """The images that need no label: those of a folder that have one. A named set's labels are what is asked for."""
        return torch.nonzero(self.images.y >= 0).flatten().tolist() if self.column == "file" else []


def pool(name: str) -> Pool:
    """The training images of the data set, or of the folder, `name`; a folder may have no label yet."""
    images, info = data.load(name, files.DATA), describe(name, files.DATA, for_training=False)
    if info.files:
        return Pool(images, "file", info.files, info.files_test)
    return Pool(images, "index", range(len(images.x)))


def read_labels(path: Path, pool: Pool) -> pd.DataFrame:
    """The rows of an earlier list whose `label` is filled in; raises ValueError for an image or a label that can't be."""
    if not path.exists():
        return pd.DataFrame(columns=[pool.column, *COLUMNS])
    try:
        rows = pd.read_csv(path, dtype={"label": str, "file": str})
    except pd.errors.EmptyDataError:
        rows = pd.DataFrame()
    if missing := {pool.column, "label"} - set(rows):
        columns = f"the columns {pool.column} and label (no {', '.join(sorted(missing))})"
        raise ValueError(f"{path.name}: must be a table with {columns}; another list may be in its place")
    rows = rows.dropna(subset=["label"])
    for line, name, label in zip(rows.index + 2, rows[pool.column], rows["label"], strict=True):
        _check_row(f"{path.name}, line {line}", pool, name, label)
    return rows.astype({"index": int}) if pool.column == "index" else rows


def _check_row(place: str, pool: Pool, name: object, label: str) -> None:
    if pool.number(name) is None:
        allowed = f"from 0 to {len(pool.names) - 1}" if pool.column == "index" else "an image of the folder"
        raise ValueError(f"{place}: {pool.column}={name!r}: must be {allowed}")
    if pool.column == "index" and label not in pool.images.classes:
        raise ValueError(f"{place}: label={label!r}: must be one of {', '.join(pool.images.classes)}")


def select(pool: Pool, neighbors: Neighbors, n: int, seed: int, labeled: list[int]) -> pd.DataFrame:
    """The `n` images to label next, a row each in the order of selection, with the reason; none of those `labeled`."""
    selection = graph.typical(neighbors, n, seed, torch.tensor(labeled, dtype=torch.int64))
    names = [pool.names[i] for i in selection.index.tolist()]
    rows = pd.DataFrame({pool.column: names, "label": "", "cluster": selection.cluster})
    rows["images_in_cluster"] = selection.sizes[selection.cluster].numpy()
    rows["similarity"] = selection.typicality.numpy().round(3)
    first = ~rows["cluster"].duplicated()
    rows["why"] = np.where(first, "the most typical of ", "drawn at random from ")
    rows["why"] += rows["images_in_cluster"].astype(str) + " similar images"
    return rows[[pool.column, *COLUMNS]]


def write_sheets(pool: Pool, names: list[object], outputs: Path) -> None:
    """Writes pictures of the images called `names`, PER_SHEET on a sheet, in place of earlier sheets."""
    for old in outputs.glob("label_next*.png"):
        old.unlink()
    for sheet, start in enumerate(range(0, len(names), PER_SHEET), 1):
        part = names[start : start + PER_SHEET]
        titles = [str(name).rsplit("/", 1)[-1][-14:] for name in part]
        x = pool.images.x[[pool.number(name) for name in part]]
        figure = run_figures.images(x, titles, columns=10, title=f"To be labelled, by {pool.column}")
        figure.savefig(outputs / (f"label_next_{sheet}.png" if len(names) > PER_SHEET else "label_next.png"))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--number", default="50", help="how many images to select")
    parser.add_argument("--seed", default="0", help="another seed selects other images")
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--outputs", default="outputs", help="where the list goes, from the project's root")


def command(args: argparse.Namespace) -> None:
    n, seed = check_whole("N", sweep.number(args.number)), check_seed(sweep.number(args.seed))
    name = files.located(args.data)
    outputs = files.writable("OUTPUTS", files.outputs(args.outputs))
    check_name(name)
    images = pool(name)
    kept = read_labels(outputs / "label_next.csv", images)
    numbers = map(images.number, kept[images.column])
    labeled = sorted({*images.labeled, *(i for i in numbers if i is not None and i >= 0)})
    check_n_labels(n, len(images.names) - len(labeled))
    background = describe(name, files.DATA, for_training=False).background
    pretraining = recipes.BEST.for_images(background).pretraining
    assert pretraining is not None  # of this recipe
    neighbors = graph_cache.load(images.images, pretraining)
    rows = select(images, neighbors, n, seed, labeled)
    files.write_atomically(outputs / "label_next.csv", pd.concat([kept, rows]).to_csv(index=False))
    write_sheets(images, rows[images.column].tolist(), outputs)
    before = f"{len(kept)} labels kept, " if len(kept) else ""
    print(f"label-next: {before}{n} images selected; fill in the column `label` of {outputs / 'label_next.csv'}")
    if images.column == "file":
        print("label-next: once filled in, append these lines to the folder's labels.csv (create it if there is none)")


# --- for the notebook: what labels reach before anything is trained


def labeled_sheet(images: Images, index: Tensor, title: str) -> Figure:
    """The first 100 of the images `index` with their classes; prints the classes that none of them has."""
    missing = [name for c, name in enumerate(images.classes) if c not in images.y[index]]
    print(f"classes without a label: {', '.join(missing) or 'none'}")
    first = index[:100]
    return run_figures.images(images.x[first], images.class_names(images.y[first]), columns=10, title=title)


def cluster_table(images: Images, selection: Selection) -> pd.DataFrame:
    """The selected images with the size of their clusters and the similarity of their nearest neighbours."""
    names = images.class_names(images.y[selection.index])
    columns = {
        "most typical image": [f"{name} (image {i})" for i, name in zip(selection.index.tolist(), names, strict=True)],
        "images in the cluster": selection.sizes[selection.cluster],
        "similarity of the nearest": selection.typicality.numpy().round(3),
    }
    return pd.DataFrame(columns).set_index("most typical image")


def propagate(images: Images, neighbors: Neighbors, labeled: Tensor) -> Tensor:
    """The class (N,) that label spreading gives each image, from the labels of the images `labeled`."""
    return graph.spread(neighbors, labeled, images.y[labeled], len(images.classes)).argmax(dim=1)


def accuracy(images: Images, predictions: Tensor) -> float:
    """The fraction of the training images that is classified correctly, of those that have a class."""
    return (predictions == images.y)[images.y >= 0].float().mean().item()


def confusions(y: Tensor, predictions: Tensor) -> list[tuple[int, int, Tensor]]:
    """The pairs of a true and another predicted class, the most frequent first, each with the indices of its images."""
    wrong = torch.nonzero((y >= 0) & (predictions != y)).flatten()
    pairs, group = torch.stack([y[wrong], predictions[wrong]], dim=1).unique(dim=0, return_inverse=True)
    groups = [(true, predicted, wrong[group == i]) for i, (true, predicted) in enumerate(pairs.tolist())]
    return sorted(groups, key=lambda each: -len(each[2]))


def confusion_sheets(images: Images, neighbors: Neighbors, predictions: dict[str, Tensor]) -> Iterator[Figure]:
    """For each selection by name, the ten most typical images of its most frequent confusion."""
    for name, predicted_classes in predictions.items():
        for true, predicted, index in confusions(images.y, predicted_classes)[:1]:
            pair = f"{images.classes[true]} classified as {images.classes[predicted]}"
            typical = index[neighbors.similarity[index].mean(dim=1).argsort(descending=True)[:10]]
            yield run_figures.images(images.x[typical], [""] * len(typical), 10, title=f"{name}: {pair}, {len(index)} times")


def compare(images: Images, neighbors: Neighbors, sizes: Iterable[int], n_seeds: int) -> pd.DataFrame:
    """Random and typical selections of several sizes, a row each: accuracy of label spreading, and number of classes."""
    rows = []
    for n in sorted(set(sizes)):
        for seed in range(n_seeds):
            selections = {"random": data.split(images.y, n, seed).labeled, "typical": graph.typical(neighbors, n, seed).index}
            for name, labeled in selections.items():
                correct = accuracy(images, propagate(images, neighbors, labeled))
                n_classes = len(images.y[labeled].unique())
                rows.append({"labels M": n, "selection": name, "accuracy": correct, "classes": n_classes})
    return pd.DataFrame(rows)


def summary(comparison: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in percent, mean and worst of the seeds, and the fewest classes with a label."""
    groups = comparison.assign(accuracy=100 * comparison["accuracy"]).groupby(["labels M", "selection"])
    aggregated = groups.agg(
        mean=("accuracy", "mean"), worst=("accuracy", "min"), fewest_classes=("classes", "min"), seeds=("accuracy", "size")
    )
    return aggregated.round(2)
