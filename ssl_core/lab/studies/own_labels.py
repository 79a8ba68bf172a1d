"""Are MNIST's own labels right? All 70,000 are checked by networks that did not see them.

`python -m ssl_core.lab own-labels` trains `supervised` on four fifths of all labels, five times, and writes the list in the
reference. (The graph alone takes ones with a foot for twos: it doubts 121 labels, of which people refuted 1.) Every reported
accuracy is against the labels as they are.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ssl_core import data, experiment, train
from ssl_core.data import Images, Task
from ssl_core.label_errors import SUSPECT
from ssl_core.recipes import RECIPES

from ..runs import files
from . import run_figures
from .study import Results, Study, page_table

ROWS = files.REFERENCE / "own_labels.csv"
FOLDS = 5
LISTED = 0.5  # least probability to be wrong
SHOWN = 50  # images on the page
# The test images whose label people refuted: of the five who were shown each, at most two chose it (Northcutt, Athalye & Mueller
# 2021, "Pervasive label errors in test sets destabilize machine learning benchmarks"; github.com/cleanlab/label-errors,
# mturk/mnist_mturk.json). They were shown the images that cleanlab doubted, and no others.
REFUTED = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)


def cross_validated(x: Tensor, y: Tensor, images: Images) -> Tensor:
    """The class probabilities (N, C) of images `x` with labels `y` (N,), each by a network that was trained without its fold."""
    recipe, fold = RECIPES["supervised"].for_labels(len(y), len(images.classes)), torch.arange(len(y)) % FOLDS
    p = torch.zeros(len(y), len(images.classes))
    for f in range(FOLDS):
        print(f"own-labels: network {f + 1} of {FOLDS}", flush=True)
        kept = fold != f
        task = Task(x[kept], y[kept], x[:0])
        training = train.fit(experiment.network(images, f), task, recipe, f)
        p[~kept] = train.probabilities(training.model, x[~kept], recipe.tta_views, recipe.tta_augment)
    return p


def listed(p: Tensor, y: Tensor, n_training: int) -> pd.DataFrame:
    """A row for each label that is wrong with LISTED or more by `p`, the worst first, and for each that people refuted."""
    columns = {"given": y, "suggested": p.argmax(dim=1), "p_wrong": 1 - p.gather(1, y[:, None])[:, 0]}
    rows = pd.DataFrame({name: values.tolist() for name, values in columns.items()})
    rows.insert(0, "part", ["training"] * n_training + ["test"] * (len(y) - n_training))
    rows.insert(1, "index", [*range(n_training), *range(len(y) - n_training)])
    rows["refuted"] = (rows["part"] == "test") & rows["index"].isin(REFUTED)
    rows["suspect"] = (rows["p_wrong"] > SUSPECT) & (rows["suggested"] != rows["given"])
    return rows[(rows["p_wrong"] >= LISTED) | rows["refuted"]].sort_values("p_wrong", ascending=False, kind="stable")


def summarize(results: Results, path: Path = ROWS) -> pd.DataFrame:
    """The list in the reference; no row without any run, or beside the results of another data set."""
    return pd.read_csv(path) if path.exists() and results.data == "mnist" and len(results.every) else pd.DataFrame()


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The refuted labels, the most suspect first."""
    ranks = rows.assign(rank=range(1, len(rows) + 1))[rows["refuted"]]
    columns = {"test image": "index", "label": "given", "suggested": "suggested", "place on the list": "rank"}
    shown = pd.DataFrame({name: ranks[column].astype(str) for name, column in columns.items()})
    return shown.assign(**{"probably wrong": [f"{100 * p:.1f} %" for p in ranks["p_wrong"]]}).set_index("test image")


def figure(rows: pd.DataFrame) -> Figure:
    """The most suspect labels; those of test images that people refuted are in colour."""
    images, worst = data.load("mnist", files.DATA), rows[:SHOWN]
    x = [
        (images.x if row.part == "training" else images.x_test)[row.index_]
        for row in worst.rename(columns={"index": "index_"}).itertuples()
    ]
    titles = [f"{row.given} → {row.suggested}  {100 * row.p_wrong:.0f} %" for row in worst.itertuples()]
    colors = ["#D55E00" if refuted else "black" for refuted in worst["refuted"]]
    return run_figures.images(
        torch.stack(x), titles, columns=10, colors=colors, title="Label → what a network suggests that did not see it"
    )


def sentences(rows: pd.DataFrame) -> str:
    """How many labels are doubted, and how many of those that people refuted, Markdown."""
    suspects, refuted = rows[rows["suspect"]], rows[rows["refuted"]]
    n_test, found = int((suspects["part"] == "test").sum()), int(refuted["suspect"].sum())
    listed = int((refuted["p_wrong"] >= LISTED).sum())
    return (
        f"- {len(suspects)} of 70,000 labels are suspect: {len(suspects) - n_test} of training and {n_test} of test images.\n"
        f"- People refuted {len(refuted)} labels of test images (Northcutt et al. 2021): {found} are suspect, {listed} listed.\n"
        "- Many others are right, but of odd digits. A person has to decide."
    )


STUDY = Study(
    name="own_labels",
    question="Are MNIST's own labels right?",
    grid=(),
    summarize=summarize,
    nothing="The labels were not checked; `python -m ssl_core.lab own-labels` does that.",
    table=table,
    note="The test images whose label people refuted:",
    figure=figure,
    reading="Each image has its label, and what a network suggests that was trained without it. "
    "Labels that people refuted are in orange.",
    picture="own_labels.png",
    sentences=sentences,
    markers={"own labels": page_table(summarize, table)},
    notebook="label_studies",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments."""


def command(_: argparse.Namespace) -> None:
    torch.set_num_threads(1)  # another number of threads changes the last digits
    images = data.load("mnist", files.DATA)
    x, y = torch.cat([images.x[:], images.x_test]), torch.cat([images.y, images.y_test])
    rows = listed(cross_validated(x, y, images), y, len(images.y))
    files.write_atomically(ROWS, rows.to_csv(index=False, float_format="%.4f"))
    print(f"own-labels: {len(rows)} labels in {ROWS}; make reference shows them")
