"""Which images to label next: those that represent best what is there, as a list to fill in and a sheet to look at.

`make label-next N=50` writes both; labels that were filled in are kept, and the next images chosen beside them.
"""

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from ssl_core import data, graph, recipes
from ssl_core.data import Images
from ssl_core.datasets import check_name, describe
from ssl_core.datasets.checks import check_n_labels, check_seed, check_whole
from ssl_core.graph import Neighbors

from ..runs import files, graph_cache, sweep
from ..studies import run_figures

COLUMNS = ["label", "cluster", "images_in_cluster", "similarity", "why"]
PER_SHEET = 100  # images


@dataclass(frozen=True)
class Pile:
    """Images of which some are to be labelled. `column` says how the list calls them: by `file`, or by their `index`."""

    images: Images
    column: str
    names: tuple[str, ...] | range
    to_test_with: tuple[str, ...] = ()  # labelled images that are not among those

    def number(self, name: object) -> int | None:
        """Which image is called `name`: −1 for one to test with, None if there is none."""
        if self.column == "file":
            return self.by_name.get(name)
        whole = isinstance(name, int | float) and not name % 1 and 0 <= name < len(self.names)
        return int(name) if whole else None

    @cached_property
    def by_name(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)} | dict.fromkeys(self.to_test_with, -1)


def pile(name: str) -> Pile:
    """The training images of the data set, or of the folder, `name`; it may be one without any label."""
    images = data.load(name, files.DATA)
    info = describe(name, files.DATA, for_training=False)
    if info.files:
        return Pile(images, "file", info.files, info.files_test)
    return Pile(images, "index", range(len(images.x)))


def read(path: Path, given: Pile) -> pd.DataFrame:
    """The rows of an earlier list whose `label` was filled in; ValueError for an image or a label that can't be."""
    if not path.exists():
        return pd.DataFrame(columns=[given.column, *COLUMNS])
    try:
        rows = pd.read_csv(path, dtype={"label": str, "file": str})
    except pd.errors.EmptyDataError:
        rows = pd.DataFrame()
    if missing := {given.column, "label"} - set(rows):
        columns = f"the columns {given.column} and label (no {', '.join(sorted(missing))})"
        raise ValueError(f"{path.name}: must be a table with {columns}; another list may be in its place")
    rows = rows.dropna(subset=["label"])
    for place, name in rows[given.column].items():
        if given.number(name) is None:
            allowed = f"0 to {len(given.names) - 1}" if given.column == "index" else "an image of the folder"
            raise ValueError(f"{path.name}, line {place + 2}: {given.column}={name!r}: must be {allowed}")
    if given.column == "index":
        for place, label in rows["label"].items():
            if label not in given.images.classes:
                allowed = ", ".join(given.images.classes)
                raise ValueError(f"{path.name}, line {place + 2}: label={label!r}: must be {allowed}")
        rows = rows.astype({"index": int})
    return rows


def choose(given: Pile, neighbors: Neighbors, n: int, seed: int, labeled: list[int]) -> pd.DataFrame:
    """The `n` images to label next, a row each in the order of their choice, with the reason; none of those `labeled`."""
    choice = graph.typical(neighbors, n, seed, torch.tensor(labeled, dtype=torch.int64))
    names = [given.names[i] for i in choice.index.tolist()]
    rows = pd.DataFrame({given.column: names, "label": "", "cluster": choice.cluster})
    rows["images_in_cluster"] = choice.sizes[choice.cluster].numpy()
    rows["similarity"] = choice.typicality.numpy().round(3)
    first = ~rows["cluster"].duplicated()
    kinds = {True: "the most typical of {} alike", False: "one more of {} alike, drawn by chance"}
    rows["why"] = [kinds[one].format(size) for one, size in zip(first, rows["images_in_cluster"], strict=True)]
    return rows[[given.column, *COLUMNS]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--number", default="50", help="how many images to select")
    parser.add_argument("--seed", default="0", help="another seed selects other images")
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--outputs", default="outputs", help="where the list goes, from the project's root")


def command(args: argparse.Namespace) -> None:
    n, seed, name = sweep.number(args.number), sweep.number(args.seed), files.located(args.data)
    check_whole("N", n)
    check_seed(seed)
    outputs = files.writable("OUTPUTS", files.ROOT / args.outputs)
    check_name(name)
    here = pile(name)
    kept = read(outputs / "label_next.csv", here)
    # A folder's own labels count too; a data set's are what is asked for.
    own = torch.nonzero(here.images.y >= 0).flatten().tolist() if here.column == "file" else []
    labeled = sorted({*own, *map(here.number, kept[here.column])} - {-1})
    check_n_labels(n, len(here.names) - len(labeled))
    settings = recipes.BEST.for_images(describe(name, for_training=False).background).pretraining
    neighbors = graph_cache.load(here.images, settings)
    rows = choose(here, neighbors, n, seed, labeled)
    files.write_atomically(outputs / "label_next.csv", pd.concat([kept, rows]).to_csv(index=False))
    for old in outputs.glob("label_next*.png"):
        old.unlink()
    for sheet, start in enumerate(range(0, n, PER_SHEET), 1):
        part = rows[here.column].tolist()[start : start + PER_SHEET]
        titles = [str(name).rsplit("/", 1)[-1][-14:] for name in part]
        shown = here.images.x[[here.number(name) for name in part]]
        figure = run_figures.images(shown, titles, columns=10, title=f"To be labelled, by {here.column}")
        figure.savefig(outputs / (f"label_next_{sheet}.png" if n > PER_SHEET else "label_next.png"))
    before = f"{len(kept)} labels kept, " if len(kept) else ""
    print(f"label-next: {before}{n} images chosen; fill in the column `label` of {outputs / 'label_next.csv'}")
    if here.column == "file":
        print("label-next: a folder that has a labels.csv, or no labels yet, takes these lines into its labels.csv as they are")
