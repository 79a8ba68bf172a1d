"""Selects the images to label next: the most representative ones, as a list to fill in and a sheet of pictures.

`make label-next N=50` writes both. Labels that are filled in are kept, and the next images are selected in view of them.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ssl_core import clusters, data, graph, next_label, train
from ssl_core.data import Images
from ssl_core.datasets import DataSetInfo, check_name, describe, tables
from ssl_core.datasets.checks import check_seed, check_whole
from ssl_core.datasets.walk import WHOLE
from ssl_core.graph import Neighbors

from ..features import kept
from ..runs import files, graph_cache, sweep
from ..runs.spec import side_of
from ..studies import run_figures
from . import label_advice, trained
from .label_images import pretraining_of

OURS = {  # what stands in the other columns if nobody typed there; spreadsheets may write 12,0 for 12
    "stands_for": r"\d+([.,]0*)?",
    "cluster": r"\d+([.,]0*)?",  # of lists of earlier versions, as the next one
    "images_in_cluster": r"\d+([.,]0*)?",
    "similarity": r"-?\d*[.,]?\d+([eE]-\d+)?",
    "why": label_advice.WHY,
    "": r"\d+",  # a script that numbers the rows
}
COLUMNS = ["label", "stands_for", "similarity", "why"]
NAMES = ("file", "index", "label")
PER_SHEET = 100  # images
SOON = 10_000  # images, for which the number of classes takes a few seconds


@dataclass(frozen=True)
class Pool:
    """The training images from which some are selected. The list names them in `column`: by `file`, or by their `index`."""

    images: Images
    column: str
    names: tuple[str, ...] | range
    test_files: tuple[str, ...] = ()  # of a folder's test images, which are not selected
    folder: Path = Path()

    def numbers(self, names: Sequence[str]) -> list[int | None]:
        """The indices of the images with these names in a list: −1 for a test image, None for a name that none has."""
        if self.column == "index":
            whole = [re.fullmatch(r"(\d{1,9})([.,]0{0,2})?", name) for name in names]  # pandas writes 12.0 for 12
            return [int(each[1]) if each and int(each[1]) < len(self.names) else None for each in whole]
        files = tables.match(names, self.by_name, self.folder)
        return [self.by_name[files[name]] if name in files else None for name in names]

    @cached_property
    def by_name(self) -> dict[str, int]:
        return {str(name): i for i, name in enumerate(self.names)} | dict.fromkeys(self.test_files, -1)

    @property
    def labeled(self) -> list[int]:
        """The images that need no label: those of a folder that have one. A named set's labels are what is asked for."""
        return torch.nonzero(self.images.y >= 0).flatten().tolist() if self.column == "file" else []


@dataclass(frozen=True)
class Earlier:
    """What somebody typed into an earlier list."""

    columns: tuple[str, ...] = ()  # of the list, in its order
    rows: tuple[dict[str, str], ...] = ()  # in which something was typed
    numbers: tuple[int, ...] = ()  # of their images, −1 for a test image
    notes: tuple[str, ...] = ()  # what was noticed in reading it
    content: bytes | None = None  # of the file; None if there is none

    @property
    def labels(self) -> list[str]:
        return [row["label"] for row in self.rows if row["label"]]


@dataclass(frozen=True)
class Given:
    """The labels that are there, of the folder and of the list, in the order in which they were given."""

    labeled: Tensor  # (M,), indices
    y_l: Tensor  # (M,), their classes
    passed: Tensor  # (P,), images without a label of which something else was typed: they are not selected again
    classes: tuple[str, ...]  # those of the data set, and what else was typed


def pool(name: str, side: int = 0) -> Pool:
    """The training images of the data set, or of the folder, `name`; a folder may have no label yet."""
    images, info = data.load(name, files.DATA, side), describe(name, files.DATA, side, for_training=False)
    if info.files:
        return Pool(images, "file", info.files, info.files_test, Path(name))
    return Pool(images, "index", range(len(images.x)))


def read_list(path: Path, pool: Pool) -> Earlier:
    """The rows of an earlier list in which something was typed: a label, text in a column of one's own, or changed text in ours.

    Raises ValueError for a file that is no such list, and for a label of no image or no class.
    """
    if sentence := tables.nearly(path.parent, path.name):
        raise ValueError(sentence)
    if not path.exists():
        return Earlier()
    content = path.read_bytes() if path.is_file() else None
    table = tables.read(path, [pool.column, "label"])
    numbers = pool.numbers([row[pool.column] for row in table.rows])
    rows = list(zip(table.rows, numbers, strict=True))
    labeled = {row[pool.column]: number for row, number in rows if row["label"]}
    if pool.column == "file" and labeled and all(number is None for number in labeled.values()):
        raise ValueError(tables.difference(labeled, pool.by_name, path.name))
    for line, (row, number) in zip(table.lines, rows, strict=True):
        _check_row(f"{path.name}, line {line}", row, number, pool)
    kept = [(row, number) for row, number in rows if _is_typed(row, number)]
    found = tuple(number for _, number in kept if number is not None)
    return Earlier(table.columns, tuple(row for row, _ in kept), found, table.notes, content)


def contradictions(earlier: Earlier, pool: Pool) -> list[str]:
    """A sentence for each image that has several labels in the list."""
    labels: dict[str, set[str]] = {}
    for row, number in zip(earlier.rows, earlier.numbers, strict=False):  # rows without an image come last
        if row["label"]:
            labels.setdefault(str(pool.names[number]) if number >= 0 else row[pool.column], set()).add(row["label"])
    several = {name: sorted(each) for name, each in labels.items() if len(each) > 1}
    return [f"{name} has the labels {' and '.join(map(tables.quoted, each))}: keep one" for name, each in several.items()]


def _is_typed(row: dict[str, str], number: int | None) -> bool:
    """Did somebody type in this row? It may also be a remark in place of an image, which this module did not write."""
    if row["label"] or (number is None and not row.get("why")):
        return True
    return any(cell and not re.fullmatch(OURS.get(column, ""), cell) for column, cell in row.items() if column not in NAMES)


def _check_row(place: str, row: dict[str, str], number: int | None, pool: Pool) -> None:
    """Raises ValueError for a label of no image or no class, or where cells moved into other columns."""
    name, label, classes = row[pool.column], row["label"], pool.images.classes
    if re.fullmatch(OURS["why"], row.get("similarity", "")):
        raise ValueError(f"{place}: similarity={row['similarity']!r}: must be a number; is a comma missing?")
    if any(re.fullmatch(rf"{OURS['why']}\s*[;\t|].*[^;\t|\s].*", cell) for cell in row.values()):
        raise ValueError(f"{place}: {tables.IN_ONE_COLUMN}")
    if not label:
        return
    if number is None:
        allowed = f"from 0 to {len(pool.names) - 1}" if pool.column == "index" else "an image of the folder"
        raise ValueError(f"{place}: {pool.column}={tables.quoted(name)}: must be {allowed}")
    if pool.column == "index" and label not in classes:
        alike = [each for each in classes if tables.appearance(each) == tables.appearance(label)]
        hint = f": write {tables.quoted(alike[0])}" if alike else ""
        raise ValueError(f"{place}: label={tables.quoted(label)}: must be one of {', '.join(classes)}{hint}")


def given(pool: Pool, earlier: Earlier) -> Given:
    """The labels of a folder, and then those of the list in its order; the first that an image has."""
    classes, of_image = list(pool.images.classes), {i: int(pool.images.y[i]) for i in pool.labeled}
    for row, number in zip(earlier.rows, earlier.numbers, strict=False):  # rows without an image come last
        if row["label"] and number >= 0:
            if row["label"] not in classes:
                classes.append(row["label"])
            of_image.setdefault(number, classes.index(row["label"]))
    passed = {number for number in earlier.numbers if number >= 0} - set(of_image)
    labeled, y_l, passed_over = (
        torch.tensor([*each], dtype=torch.int64) for each in (of_image, of_image.values(), sorted(passed))
    )
    return Given(labeled, y_l, passed_over, tuple(classes))


def select(
    pool: Pool, neighbors: Neighbors, n: int, seed: int, given: Given, p: Tensor | None = None, *, uniform_prior: bool = True
) -> list[dict[str, object]]:
    """The `n` images to label next, a row each in their order, with the reason; `p` (N, C) as of next_label.suggest."""
    suggestion = next_label.suggest(
        neighbors, given.labeled, given.y_l, n, len(given.classes), seed, p=p, passed=given.passed, uniform_prior=uniform_prior
    )
    why = label_advice.reasons(suggestion, given.y_l, given.classes, p)
    columns = suggestion.index.tolist(), suggestion.stands_for.tolist(), suggestion.typicality.tolist(), why
    return [
        {pool.column: pool.names[i], "label": "", "stands_for": number, "similarity": f"{similarity:.3f}", "why": reason}
        for i, number, similarity, reason in zip(*columns, strict=True)
    ]


def advice(neighbors: Neighbors, given: Given, n: int, price: float, *, uniform_prior: bool) -> Iterator[str]:
    """Sentences on what is known before the next `n` are selected: how many classes there are; or what these are worth."""
    if not len(given.labeled) and not given.classes:
        if len(neighbors.index) > SOON:
            yield "looking for the number of classes: about a minute for 60,000 images"
        yield label_advice.how_many_classes(clusters.estimate(neighbors))
    if len(given.labeled):
        yield label_advice.next_round(
            next_label.worth(neighbors, given.labeled, given.y_l, n, len(given.classes), uniform_prior=uniform_prior), n, price
        )


def probabilities(run: Path, pool: Pool, classes: Sequence[str]) -> Tensor:
    """The class probabilities (N, C) of the training images by a finished run of the same data set, in the order of `classes`.

    Raises ValueError if it is a run of another data set, or has other classes.
    """
    network = trained.load(run)
    shape = len(network.mean), network.model.side
    if network.parameters["data"] != pool.images.name or shape != pool.images.shape[1:]:
        must, was = (repr(name) for name in (pool.images.name, network.parameters["data"]))
        if network.model.side != pool.images.shape[2]:
            must, was = f"{must} with SIDE={pool.images.shape[2]}", f"{was} with SIDE={network.model.side}"
        raise ValueError(f"RUN={str(run)!r}: must be a run of {must}; its images are those of {was}")
    if missing := [name for name in network.classes if name not in classes]:
        raise ValueError(f"RUN={str(run)!r}: must have classes that there are; it has {tables.quoted(missing[0])}")
    print(f"label-next: classifying {len(pool.images.x)} images with {run}", flush=True)
    p = torch.zeros(len(pool.images.x), len(classes))
    p[:, [classes.index(name) for name in network.classes]] = train.probabilities(network.model, pool.images.x)
    return p


def write_list(path: Path, pool: Pool, earlier: Earlier, rows: list[dict[str, object]]) -> None:
    """Writes the list, with the rows of the earlier one before the new ones.

    Where the earlier one's encoding was guessed, the file as it was stays beside it. Raises ValueError if it was changed
    since it was read.
    """
    if (path.read_bytes() if path.exists() else None) != earlier.content:
        raise ValueError(f"{path.name}: was changed in the meantime: the same command again takes it as it is now")
    if earlier.content and earlier.notes:
        files.keep_beside(path, earlier.content)
    ours = [pool.column, *COLUMNS]
    columns = [*earlier.columns, *(column for column in ours if column not in earlier.columns)]
    tables.write(path, columns, [*earlier.rows, *rows])


def write_sheets(pool: Pool, names: list[object], outputs: Path) -> None:
    """Writes pictures of the images called `names`, PER_SHEET on a sheet, in place of earlier sheets."""
    for old in outputs.glob("label_next*.png"):
        old.unlink()
    for sheet, start in enumerate(range(0, len(names), PER_SHEET), 1):
        part = names[start : start + PER_SHEET]
        titles = [str(name).rsplit("/", 1)[-1][-14:] for name in part]
        x = pool.images.x[[pool.by_name[str(name)] for name in part]]
        figure = run_figures.images(x, titles, columns=10, title=f"To be labelled, by {pool.column}")
        figure.savefig(outputs / (f"label_next_{sheet}.png" if len(names) > PER_SHEET else "label_next.png"))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--number", default="50", help="how many images to select")
    parser.add_argument("--seed", default="0", help="another seed selects other images")
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--side", default="", help="the side of the images in pixels, as of make sweep")
    parser.add_argument("--outputs", default="outputs", help="where the list goes, from the project's root")
    parser.add_argument("--run", default="", help="a finished run of the same data set: where it is unsure counts too")
    parser.add_argument("--features", default="", help="from elsewhere: torchvision:NAME, timm:NAME, an ONNX file or a table")
    parser.add_argument("--worth", default="0.1", help="points of accuracy that a round must be worth: below, it says stop")


def command(args: argparse.Namespace) -> None:
    n, seed = check_whole("N", sweep.number(args.number)), check_seed(sweep.number(args.seed))
    price = sweep.decimal(args.worth)
    if not isinstance(price, float) or not 0 <= price <= 100:
        raise ValueError(f"WORTH={args.worth!r}: must be a number from 0 to 100, points of accuracy")
    name = files.located(args.data)
    outputs = files.writable("OUTPUTS", files.outputs(args.outputs))
    check_name(name)
    images = pool(name, side := side_of(name, args.side))
    path = outputs / "label_next.csv"
    earlier = read_list(path, images)
    alike = tables.look_alikes([*earlier.labels, *images.images.classes]) if images.column == "file" else []
    alike += [f"{path.name}: {each}" for each in contradictions(earlier, images)]
    for note in (*(f"{path.name}: {each}" for each in earlier.notes), *alike):
        print(f"label-next: {note}")
    labels = given(images, earlier)
    info = describe(name, files.DATA, side, for_training=False)
    _check_left(n, len(images.names) - len(labels.labeled) - len(labels.passed), info)
    p = probabilities(files.expanded("RUN", args.run), images, labels.classes) if args.run.strip() else None
    neighbors = graph_cache.load(images.images, pretraining_of(info), features=kept.prepare(args.features, name))
    for sentence in advice(neighbors, labels, n, price, uniform_prior=info.uniform_prior):
        print(f"label-next: {sentence}", flush=True)
    rows = select(images, neighbors, n, seed, labels, p, uniform_prior=info.uniform_prior)
    write_list(path, images, earlier, rows)
    write_sheets(images, [row[images.column] for row in rows], outputs)
    n_labels, n_others = len(earlier.labels), len(earlier.rows) - len(earlier.labels)
    before = f"{tables.counted(n_labels, 'label')} kept, " if n_labels else ""
    before += f"{tables.counted(n_others, 'other row')} kept, " if n_others else ""
    print(f"label-next: {before}{n} images selected; fill in the column `label` of {path}")
    if images.column == "file" and images.labeled and not (images.folder / "labels.csv").exists():
        print("label-next: once filled in, move these images into the folders of their classes, beside the labelled ones")
    elif images.column == "file":
        print("label-next: once filled in, append these lines to the folder's labels.csv (create it if there is none)")


def _check_left(n: int, left: int, info: DataSetInfo) -> None:
    """Raises ValueError if fewer than `n` images are `left` without a label; of a folder, also with what was recognised."""
    if n > left:
        notes = "".join(f"; {text}" for file, text in info.notes if file == WHOLE)
        if not left:
            raise ValueError(f"N={n}: every image has a label, none is left to select{notes}")
        raise ValueError(f"N={n}: must be a whole number from 1 to {left}, the images without a label{notes}")


# --- for the notebook: what labels reach before anything is trained


def labeled_sheet(images: Images, index: Tensor, title: str) -> Figure:
    """The first 100 of the images `index` with their classes; prints the classes that none of them has."""
    missing = [name for c, name in enumerate(images.classes) if c not in images.y[index]]
    print(f"classes without a label: {', '.join(missing) or 'none'}")
    first = index[:100]
    return run_figures.images(images.x[first], images.class_names(images.y[first]), columns=10, title=title)


def propagate(images: Images, neighbors: Neighbors, labeled: Tensor, *, uniform_prior: bool = True) -> Tensor:
    """The class (N,) that label spreading gives each image, from the labels of the images `labeled`."""
    scores = graph.spread(neighbors, labeled, images.y[labeled], len(images.classes), uniform_prior=uniform_prior)
    return scores.argmax(dim=1)


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
            first = index[neighbors.similarity[index].mean(dim=1).argsort(descending=True)[:10]]
            yield run_figures.images(images.x[first], [""] * len(first), 10, title=f"{name}: {pair}, {len(index)} times")
