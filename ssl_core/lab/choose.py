"""Which images to label next: those that represent best what is there, as a list to fill in and a sheet to look at.

`make label-next N=50` writes both; labels that were filled in are kept, and the next images chosen beside them.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch

from ssl_core import data, graph, recipes
from ssl_core.data import Images
from ssl_core.fetch import DataError

from . import plots, runs, shared, sweep

COLUMNS = ["index", "label", "cluster", "images_in_cluster", "similarity", "why"]
PER_SHEET = 100  # images


def read(path: Path, images: Images) -> pd.DataFrame:
    """The rows of an earlier list whose `label` was filled in; ValueError for an index or a label that can't be."""
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        rows = pd.read_csv(path, dtype={"label": str})
    except pd.errors.EmptyDataError:
        rows = pd.DataFrame()
    if missing := {"index", "label"} - set(rows):
        raise ValueError(f"{path.name}: allowed is a table with the columns index and label (no {', '.join(sorted(missing))})")
    rows = rows.dropna(subset=["label"])
    for place, index in rows["index"].items():
        if not isinstance(index, int | float) or not 0 <= index < len(images.x) or index % 1:
            raise ValueError(f"{path.name}, line {place + 2}: index={index!r}: allowed is 0 to {len(images.x) - 1}")
    for place, label in rows["label"].items():
        if label not in images.classes:
            raise ValueError(f"{path.name}, line {place + 2}: label={label!r}: allowed is {', '.join(images.classes)}")
    return rows.astype({"index": int})


def choose(images: Images, found: shared.Neighbors, n: int, seed: int, labeled: pd.DataFrame) -> pd.DataFrame:
    """The `n` images to label next, a row each in the order of their choice, with the reason."""
    choice = graph.typical(found.features, found.similarity, n, seed, torch.tensor(labeled["index"].tolist(), dtype=torch.int64))
    rows = pd.DataFrame({"index": choice.index, "label": "", "cluster": choice.cluster})
    rows["images_in_cluster"] = choice.sizes[choice.cluster].numpy()
    rows["similarity"] = choice.typicality.numpy().round(3)
    first = ~rows["cluster"].duplicated()
    kinds = {True: "the most typical of {} alike", False: "one more of {} alike, drawn by chance"}
    rows["why"] = [kinds[one].format(size) for one, size in zip(first, rows["images_in_cluster"], strict=True)]
    return rows[COLUMNS]


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ssl_core.lab.choose", description=__doc__.splitlines()[0])
    parser.add_argument("--number", default="50", help="how many images to choose")
    parser.add_argument("--seed", default="0", help="another seed chooses others")
    parser.add_argument("--data", default="mnist", help="the data set")
    parser.add_argument("--outputs", default="outputs", help="where the list goes, from the project's root")
    given = parser.parse_args(arguments)
    try:
        n, seed = sweep.number(given.number), sweep.number(given.seed)
        runs.check_whole("N", n)
        data.check_seed(seed)
        outputs = runs.writable("OUTPUTS", runs.ROOT / given.outputs)
        images = data.load(given.data, runs.ROOT / "data")
        labeled = read(outputs / "label_next.csv", images)
        data.check_n_labels(n, len(images.x) - len(labeled))
        found = shared.load_graph(images, recipes.BEST.graph, lambda line: print(line, flush=True))
    except (ValueError, DataError) as error:
        sys.exit(f"label-next: {error}")
    rows = choose(images, found, n, seed, labeled)
    runs.write_atomically(outputs / "label_next.csv", pd.concat([labeled, rows]).to_csv(index=False))
    for old in outputs.glob("label_next*.png"):
        old.unlink()
    for sheet, start in enumerate(range(0, n, PER_SHEET), 1):
        part = rows["index"].tolist()[start : start + PER_SHEET]
        titles = [f"{i}" for i in part]
        figure = plots.images(images.x[part], titles, columns=10, title="To be labelled, by index")
        figure.savefig(outputs / (f"label_next_{sheet}.png" if n > PER_SHEET else "label_next.png"))
    kept = f"{len(labeled)} labels kept, " if len(labeled) else ""
    print(f"label-next: {kept}{n} images chosen; fill in the column `label` of {outputs / 'label_next.csv'}")


if __name__ == "__main__":
    main()
