"""How large may the pool be? Time and memory of each phase of `best`, from the images on disk to a label for each of them."""

import argparse
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

from ssl_core import data, experiment, graph, selection
from ssl_core.datasets import describe
from ssl_core.datasets.machine import cores
from ssl_core.device import threads
from ssl_core.graph import Neighbors
from ssl_core.progress import Event, Progress
from ssl_core.train import evaluate, fit, probabilities

from ..runs import files
from ..runs.fingerprint import fingerprint
from ..runs.spec import Run
from .cells import CellTable, of_earlier_code
from .cells import configure as configure
from .study import Results, Study, page_table

SETS = ("mnist", "mnist-250000", "mnist-1000000")
N_LABELS = 50  # of one random draw
QUERIES = 1000  # images whose neighbours are searched for exactly, too
PHASES = {  # as the table calls them
    "images": "read the images",
    "features": "learn the features",
    "neighbors": "find the neighbours",
    "selection": f"select {N_LABELS} images",
    "spreading": "spread and check the labels",
    "training": "train",
    "prediction": "classify all images",
}


@dataclass(frozen=True)
class Cell:
    """One pool."""

    data: str

    def __str__(self) -> str:
        return self.data

    @property
    def run(self) -> Run:
        return Run(N_LABELS, "best", 0, self.data)


@dataclass
class Clock:
    """The seconds and the peak memory, in GB, of the phases so far."""

    row: dict[str, str] = field(default_factory=dict)
    start: float = 0.0

    def begin(self) -> None:
        """Begins a phase."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # on Linux: the peak begins anew
        self.start = time.perf_counter()

    def end(self, phase: str) -> None:
        """Ends the phase of that name, and begins the next one."""
        self.row |= {f"{phase}_seconds": f"{time.perf_counter() - self.start:.1f}", f"{phase}_gb": f"{peak():.2f}"}
        self.begin()

    @property
    def seconds(self) -> float:
        return sum(float(value) for name, value in self.row.items() if name.endswith("_seconds"))


def peak() -> float:
    """The peak memory of this process in GB: since `clear_refs` was written to, or, where there is none, since it began."""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def measure(cell: Cell) -> dict[str, object]:
    """The row of a pool: seconds and peak memory of each phase, the accuracies, and the share of neighbours that are found.

    Test accuracy is that of a run; `pool` is the share of the unlabelled images that are classified rightly. The graph is made
    anew, whether or not one is kept; that the features of all images are read counts to the search.
    """
    run, tell, clock = cell.run, Progress(cell), Clock()
    describe(cell.data)  # a pool is made the first time
    settings, pretraining = run.settings, run.pretraining
    assert pretraining is not None  # of this recipe
    clock.begin()
    images = data.load(cell.data, files.DATA)
    clock.end("images")

    def on_event(event: Event) -> None:
        if event["stage"] == "search":
            clock.end("features")
        tell(event)

    with threads(cores()):  # ask the index
        neighbors = graph.build(images.x, pretraining, on_event)
    clock.end("neighbors")
    found = recall(neighbors)
    clock.begin()
    selection.typical(neighbors, N_LABELS, run.seed)
    clock.end("selection")
    task = experiment.prepare(images, run.labeling, settings, neighbors)
    clock.end("spreading")
    training = fit(experiment.network(images, run.seed), task, settings, run.seed, tell.on_epoch)
    clock.end("training")
    p = probabilities(training.model, images.x)
    clock.end("prediction")
    unlabeled = task.split.unlabeled if task.split else torch.arange(len(images.y))
    right = (p.argmax(dim=1) == images.y)[unlabeled].float().mean().item()
    test = evaluate(training.model, images.x_test, images.y_test, settings.tta_views, settings.tta_augment).accuracy
    numbers = {"n_images": len(images.x), "accuracy": f"{test:.6f}", "pool": f"{right:.6f}", "recall": f"{found:.4f}"}
    return vars(cell) | numbers | clock.row | {"seconds": f"{clock.seconds:.1f}", "key": key(cell)}


def recall(neighbors: Neighbors) -> float:
    """The share of the nearest neighbours of QUERIES random images that the graph has."""
    n, k = neighbors.index.shape
    which = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:QUERIES]
    x = F.normalize(neighbors.features[which].float(), dim=1)
    similarity, nearest = torch.empty(len(which), 0), torch.empty(len(which), 0, dtype=torch.int64)
    for others in torch.arange(n).split(20_000):
        table = x @ F.normalize(neighbors.features[others].float(), dim=1).T
        table[which[:, None] == others] = -torch.inf  # not itself
        similarity, best = torch.cat([similarity, table], dim=1).topk(min(k, similarity.shape[1] + len(others)), dim=1)
        nearest = torch.cat([nearest, others.expand(len(which), -1)], dim=1).gather(1, best)
    return (nearest[:, :, None] == neighbors.index[which][:, None, :]).any(dim=2).float().mean().item()


def key(cell: Cell) -> str:
    """Changes with whatever the accuracies follow from; a pool that is not there need not be made to know it."""
    return files.digest([cell.data, fingerprint(replace(cell.run, data="mnist"))])[:16]


TABLE = CellTable(
    path=files.REFERENCE / "pools.csv",
    columns=(
        *("data", "n_images", "accuracy", "pool", "recall"),
        *(f"{phase}_{what}" for phase in PHASES for what in ("seconds", "gb")),
        *("seconds", "key"),
    ),
    cell=Cell,
    grid=lambda: [Cell(name) for name in SETS],
    key=key,
    measure=measure,
    told=lambda row: f"{100 * float(str(row['accuracy'])):.2f} %",
    kind=str,
    apart=True,
    seconds={"mnist": 600, "mnist-250000": 900, "mnist-1000000": 2400},
)


def command(_: argparse.Namespace) -> None:
    TABLE.complete("1")  # one at a time: each may use all cores


def summarize(results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """The measured pools, the smallest first. None without any finished run."""
    numbers = dict.fromkeys(TABLE.columns[1:-1], float)
    pools = pd.DataFrame() if results.every.empty else measured.frame(**numbers)
    return pools if pools.empty else pools.sort_values("n_images", ignore_index=True)


def table(pools: pd.DataFrame) -> pd.DataFrame:
    """A row for each phase, with its seconds and peak memory, and a column for each pool."""
    columns = {f"{row.n_images:,.0f} images": _column(row._asdict()) for row in pools.itertuples()}
    return pd.DataFrame(columns).rename_axis("phase")


def _column(pool: dict) -> dict[str, str]:
    told = {shown: f"{pool[f'{phase}_seconds']:.0f} s, {pool[f'{phase}_gb']:.1f} GB" for phase, shown in PHASES.items()}
    most = max(pool[f"{phase}_gb"] for phase in PHASES)
    told["all"] = f"{pool['seconds'] / 60:.0f} min, {most:.1f} GB"
    shares = {"neighbours found": "recall", "test accuracy": "accuracy", "accuracy on the unlabelled images": "pool"}
    return told | {shown: f"{pool[name]:.2%}" for shown, name in shares.items()}


STUDY = Study(
    name="pools",
    question="How large may the pool be?",
    grid=(),
    summarize=summarize,
    nothing="No pool was measured; `make pools` does that.",
    table=table,
    note=f"Seconds and peak memory of each phase of `best` with {N_LABELS} labels of one random draw, in one process.",
    sentences=of_earlier_code,
    markers={"pools": page_table(summarize, table)},
    notebook="ablation",
)
