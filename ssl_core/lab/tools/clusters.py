"""The clusters of a run without labels, for people: a sheet and a map of them, and the small table in which they get names."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ssl_core import data, experiment, train
from ssl_core.data import Images
from ssl_core.datasets import tables

from ..runs import files, graph_cache
from ..runs.spec import Run
from ..studies import run_figures
from .trained import load

NAMES = "cluster_names.csv"  # in the folder of the run
COLUMNS = ("cluster", "name", "images", "example")
PER_CLUSTER = 12  # images on the sheet
ON_MAP = 2000  # images on the map


def sheet(images: Images, cluster: Tensor, examples: Tensor, names: Sequence[str]) -> Figure:
    """A row for each cluster: the image that stands for it, then others by chance.

    `cluster` (N,) is that of each training image, `examples` (K,) the images that stand for them.
    """
    rows, titles = [], []
    order = torch.randperm(len(cluster), generator=torch.Generator().manual_seed(0))
    for c, example in enumerate(examples.tolist()):
        members = order[cluster[order] == c]
        shown = [example, *members[members != example][: PER_CLUSTER - 1].tolist()]
        blank = PER_CLUSTER - len(shown)
        rows += [images.x[shown], torch.full((blank, *images.x.shape[1:]), images.x[shown].min().item())]
        titles += [f"{names[c]}: {len(members):,}", *[""] * (PER_CLUSTER - 1)]
    title = "Clusters, with their number of images; the first image stands for each"
    return run_figures.images(torch.cat(rows), titles, PER_CLUSTER, title=title)


def plane(features: Tensor, cluster: Tensor, names: Sequence[str]) -> Figure:
    """A map of images drawn by chance: those with similar `features` (N, D) lie close (t-SNE, van der Maaten & Hinton 2008)."""
    from sklearn.manifold import TSNE  # imported late: it costs a second

    shown = torch.randperm(len(cluster), generator=torch.Generator().manual_seed(0))[:ON_MAP]
    directions = torch.nn.functional.normalize(features[shown].float(), dim=1).numpy()
    perplexity = min(30.0, (len(shown) - 1) / 3)
    places = TSNE(2, perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(directions)
    return run_figures.scatter(
        places, cluster[shown].numpy(), names, f"{len(shown):,} of {len(cluster):,} images; colour: the cluster"
    )


def read_names(path: Path, n_clusters: int) -> tuple[list[str], list[str]]:
    """The name of each cluster, its number where it has none, from the table in `path`; and what is to be said of it.

    Raises ValueError if the table names a cluster twice, or one that is not there.
    """
    names = [str(c) for c in range(n_clusters)]
    if not path.exists():
        return names, []
    table, named = tables.read(path, COLUMNS[:2]), dict.fromkeys(names, "")
    for line, row in zip(table.lines, table.rows, strict=True):
        place, number, name = f"{path.name}, line {line}", row["cluster"], row["name"]
        if number not in named:
            raise ValueError(f"{place}: cluster={tables.quoted(number)}: must be a whole number from 0 to {n_clusters - 1}")
        if named[number] and name:
            raise ValueError(
                f"{place}: cluster={number}: must have one name, not {tables.quoted(named[number])} and {tables.quoted(name)}"
            )
        named[number] = named[number] or name
    without = [number for number in names if not named[number]]
    nameless = f"{path.name}: no name for cluster {', '.join(without)}: the number stands for it"
    return [named[number] or number for number in names], [*table.notes, *[nameless][: 0 < len(without) < n_clusters]]


def write(place: Path) -> list[str]:
    """Writes clusters.png, map.png and the table of names into `place`, the folder of a run without labels; what is to be said.

    A table of an earlier run in the same place is kept under another name.
    """
    trained = load(place)
    run = Run(**trained.parameters)
    images = data.load(run.data, files.DATA, run.side)
    neighbors = graph_cache.for_run(run, images)
    task = experiment.prepare(images, run.labeling, run.settings, neighbors)
    assert neighbors is not None  # of a run without labels
    assert task.split is not None
    cluster, file_names = train.probabilities(trained.model, images.x).argmax(dim=1), run.info.files or range(len(images.x))
    standing = task.split.labeled[task.y_l.argsort()]  # the images that stand for the clusters, by number
    examples = [str(file_names[i]) for i in standing.tolist()]
    path, said = place / NAMES, []
    if path.exists() and not _is_of(path, examples):
        said.append(
            f"{NAMES} named the clusters of an earlier run: it is kept as {files.keep_beside(path, path.read_bytes()).name}"
        )
        path.unlink()
    if not path.exists():
        sizes = torch.bincount(cluster, minlength=len(examples)).tolist()
        rows = zip(range(len(examples)), [""] * len(examples), sizes, examples, strict=True)
        tables.write(path, COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in rows])
    names, notes = read_names(path, len(examples))
    sheet(images, cluster, standing, names).savefig(place / "clusters.png")
    plane(neighbors.features, cluster, names).savefig(place / "map.png")
    return [*said, *notes, f"see clusters.png and map.png in {place}, and write names into {NAMES} there"]


def _is_of(path: Path, examples: Sequence[str]) -> bool:
    """Whether the table in `path` was written for the clusters that the images called `examples` stand for."""
    theirs = {row["cluster"]: row.get("example", "") for row in tables.read(path, COLUMNS[:2]).rows}
    return all(not theirs.get(str(c)) or theirs[str(c)] == example for c, example in enumerate(examples))


def merged(p: Tensor, names: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """The probabilities `p` (N, K) of clusters, added up where clusters have the same name, and the different names."""
    different = tuple(dict.fromkeys(names))
    column = torch.tensor([different.index(name) for name in names])
    return p.new_zeros(len(p), len(different)).index_add_(1, column, p), different
