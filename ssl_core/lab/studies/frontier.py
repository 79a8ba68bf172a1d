"""How much accuracy does each second buy? `best` with shorter pretraining and shorter training, on held-out training images."""

import argparse
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from ssl_core import data, experiment
from ssl_core.data import Images
from ssl_core.datasets import describe
from ssl_core.graph import Neighbors
from ssl_core.recipes import BEST, QUICK, Pretraining, Recipe

from ..runs import files, graph_cache
from ..runs.fingerprint import fingerprint
from ..runs.spec import Run
from . import words
from .cells import CellTable, of_earlier_code
from .cells import configure as configure
from .study import Results, Study, page_table
from .style import new_figure

SETS = ("mnist", "fashion-mnist")
STEPS = (100, 300, 600, 1500)  # of the pretraining
EPOCHS = (10, 20, 30, 50)  # of training
SEEDS = (0, 1)
N_LABELS = 50  # equally many of each class
COLORS = dict(zip(STEPS, ("#E69F00", "#009E73", "#0072B2", "#D55E00"), strict=True))
TICKS = (10, 20, 50, 100, 200, 400, 800)  # seconds
MARKERS = dict(zip(EPOCHS, "v^so", strict=True))


@dataclass(frozen=True)
class Cell:
    """One run of `best`, shortened."""

    data: str
    steps: int
    epochs: int
    seed: int

    def __str__(self) -> str:
        return f"{self.data}/{self.steps} steps, {self.epochs} epochs/seed{self.seed}"

    @property
    def run(self) -> Run:
        return Run(N_LABELS, "best", self.seed, self.data, "class-balanced")

    @property
    def settings(self) -> Recipe:
        settings = self.run.settings
        pretraining = settings.pretraining and replace(settings.pretraining, steps=self.steps)
        return replace(settings, epochs=self.epochs, pretraining=pretraining)


@lru_cache(maxsize=1)
def pool(name: str) -> Images:
    """The training images, the last sixth of them in place of the test images."""
    images = data.load(name, files.DATA)
    n = len(images.x) * 5 // 6
    return replace(images, x=images.x[:n], y=images.y[:n], x_test=images.x[n:], y_test=images.y[n:])


@lru_cache(maxsize=1)
def neighbors(name: str, pretraining: Pretraining) -> Neighbors:
    images, info = pool(name), describe(name)
    info = replace(info, checksum=f"{info.checksum}, the first {len(images.x)}")
    return graph_cache.load(images, pretraining, lambda event: None, info=info)


def measure(cell: Cell) -> dict[str, object]:
    """The row of a cell: accuracy on the held-out images, and the seconds of one core for the graph and for training."""
    start, settings, images = time.monotonic(), cell.settings, pool(cell.data)
    assert settings.pretraining is not None  # of this recipe
    graph = neighbors(cell.data, settings.pretraining)
    _, result = experiment.run(images, cell.run.labeling, settings, graph)
    row = {
        "accuracy": f"{result.trained.accuracy:.6f}",
        "graph": f"{graph.seconds:.1f}",
        "training": f"{result.training.history[-1]['seconds']:.1f}",
    }
    return vars(cell) | row | {"seconds": f"{time.monotonic() - start:.1f}", "key": key(cell)}


def key(cell: Cell) -> str:
    """Changes with whatever the number of a cell follows from."""
    return fingerprint(cell.run, cell.settings, cell.settings.pretraining)


def grid() -> list[Cell]:
    """All cells; those after one another have different graphs, which several processes make at a time."""
    order = product(SEEDS, EPOCHS[::-1], STEPS, SETS)
    return [Cell(name, steps, epochs, seed) for seed, epochs, steps, name in order]


TABLE = CellTable(
    path=files.REFERENCE / "frontier.csv",
    columns=("data", "steps", "epochs", "seed", "accuracy", "graph", "training", "seconds", "key"),
    cell=Cell,
    grid=grid,
    key=key,
    measure=measure,
    told=lambda row: f"{100 * float(str(row['accuracy'])):.2f} %",
    kind=lambda cell: f"{cell.epochs}",
    seconds={f"{epochs}": 15 + 0.6 * epochs for epochs in EPOCHS},
)


def command(args: argparse.Namespace) -> None:
    TABLE.complete(args.jobs)


def summarize(results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """The mean of each set and setting: its accuracy, its standard deviation, and its seconds. None without any finished run."""
    numbers = dict.fromkeys(("accuracy", "graph", "training"), float)
    cells = pd.DataFrame() if results.every.empty else measured.frame(**numbers)
    if cells.empty:
        return cells
    cells = cells.assign(total=cells["graph"] + cells["training"])
    groups = cells.groupby(["data", "steps", "epochs"], as_index=False)
    named = {"sd": ("accuracy", "std"), "n": ("seed", "size"), "current": ("current", "all")}
    return groups.agg(**{name: (name, "mean") for name in ("accuracy", "graph", "training", "total")}, **named)


def on_frontier(means: pd.DataFrame) -> pd.Series:
    """Whether no setting of the same set is both faster and as accurate."""
    ordered = means.sort_values(["total", "accuracy"], ascending=[True, False])
    best_before = ordered.groupby("data")["accuracy"].transform(lambda column: column.cummax().shift(fill_value=0))
    return (ordered["accuracy"] > best_before).reindex(means.index)


def figure(means: pd.DataFrame) -> Figure:
    """Accuracy over seconds, one panel for each set; the frontier is a line."""
    drawn, axes = new_figure(5.4 * len(SETS), 4.6, 1, len(SETS))
    for axis, name in zip(axes[0], SETS, strict=True):
        rows = means[means["data"] == name]
        edge = rows[on_frontier(rows)].sort_values("total")
        axis.plot(edge["total"], 100 * edge["accuracy"], color="0.7", zorder=0)
        for row in rows.itertuples():
            look = {"color": COLORS[row.steps], "marker": MARKERS[row.epochs], "linestyle": "none"}
            label = f"{row.steps} steps, {row.epochs} epochs"
            axis.errorbar(row.total, 100 * row.accuracy, 100 * row.sd, capsize=2, label=label, **look)
        axis.set(title=name, xlabel="seconds of one core: graph and training", xscale="log")
        axis.set_xticks(ticks := [t for t in TICKS if 0.8 * rows["total"].min() < t < 1.3 * rows["total"].max()], map(str, ticks))
        axis.minorticks_off()
    axes[0, 0].set_ylabel(f"held-out accuracy with {N_LABELS} labels (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, ncols=len(STEPS), loc="outside lower center", fontsize=8)
    return drawn


def table(means: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting, in the order of its time."""
    rows = means.assign(
        recipe=[_recipe(steps, epochs) for steps, epochs in zip(means["steps"], means["epochs"], strict=True)],
        accuracy=[words.percent(*row) for row in means[["accuracy", "sd", "n"]].itertuples(index=False)],
        frontier=on_frontier(means).map({True: "yes", False: ""}),
        **{name: means[name].map("{:.0f}".format) for name in ("graph", "training", "total")},
    )
    rows = rows.iloc[means["total"].argsort(kind="stable")].sort_values("data", ascending=False, kind="stable")
    columns = ["steps", "epochs", "recipe", "accuracy", "graph", "training", "total", "frontier"]
    return rows.set_index("data")[columns]


def _recipe(steps: int, epochs: int) -> str:
    """The name of the recipe that is so long."""
    for recipe in (BEST, QUICK):
        assert recipe.pretraining is not None  # of these recipes
        if (recipe.pretraining.steps, recipe.epochs) == (steps, epochs):
            return f"`{recipe.name}`"
    return ""


STUDY = Study(
    name="frontier",
    question="How much accuracy does each second buy?",
    grid=(),
    summarize=summarize,
    nothing="No frontier was measured; `make frontier` does that.",
    table=table,
    note="Accuracy on held-out training images, mean ± standard deviation over seeds (%); seconds of one core.",
    figure=figure,
    reading="A point is the mean over seeds of `best` with so many steps of pretraining and epochs of training. No setting is "
    "both faster and more accurate than one on the line.",
    picture="frontier.png",
    sentences=of_earlier_code,
    markers={"frontier": page_table(summarize, table)},
    notebook="ablation",
)
