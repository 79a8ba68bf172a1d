"""Are MNIST's own labels right? All 70,000 are checked against one another.

`python -m ssl_core.lab own-labels` makes the graph of all images, training and test together, and writes the list in the
reference. Every reported accuracy is against the labels as they are.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from ssl_core import data, graph, label_errors
from ssl_core.recipes import BEST

from ..runs import files
from ..runs.progress import Progress
from ..runs.spec import Run
from . import run_figures
from .study import Results, Study, page_table

ROWS = files.REFERENCE / "own_labels.csv"
LISTED = 0.05  # least probability to be wrong
SHOWN = 50  # images on the page
# The test images whose label people refuted: of the five who were shown each, at most two chose it (Northcutt, Athalye & Mueller
# 2021, "Pervasive label errors in test sets destabilize machine learning benchmarks"; github.com/cleanlab/label-errors,
# mturk/mnist_mturk.json). They were shown the images that cleanlab doubted, and no others.
REFUTED = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)


def check_all() -> pd.DataFrame:
    """A row for each label of MNIST that is wrong with LISTED or more, the worst first, and for each that people refuted."""
    torch.set_num_threads(1)
    images = data.load("mnist", files.DATA)
    x, y = torch.cat([images.x, images.x_test]), torch.cat([images.y, images.y_test])
    assert BEST.pretraining is not None
    neighbors = graph.build(x, BEST.pretraining, Progress(Run(0, "best", 0)))
    check = label_errors.check(neighbors, torch.arange(len(y)), y, len(images.classes))
    n, columns = len(images.y), {"given": y, "suggested": check.suggested, "p_wrong": check.p_wrong}
    rows = pd.DataFrame({name: values.tolist() for name, values in columns.items()})
    rows.insert(0, "part", ["training"] * n + ["test"] * (len(y) - n))
    rows.insert(1, "index", [*range(n), *range(len(y) - n)])
    rows["refuted"] = (rows["part"] == "test") & rows["index"].isin(REFUTED)
    rows["suspect"] = check.suspect.tolist()
    return rows[(rows["p_wrong"] >= LISTED) | rows["refuted"]].sort_values("p_wrong", ascending=False, kind="stable")


def summarize(_: Results, path: Path = ROWS) -> pd.DataFrame:
    """The list in the reference."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


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
    return run_figures.images(torch.stack(x), titles, columns=10, colors=colors, title="Label → what all other labels suggest")


def sentences(rows: pd.DataFrame) -> str:
    """How many labels are doubted, and how many of those that people refuted, Markdown."""
    suspects, refuted = rows[rows["suspect"]], rows[rows["refuted"]]
    n_test, found = int((suspects["part"] == "test").sum()), int(refuted["suspect"].sum())
    listed = int((refuted["p_wrong"] >= LISTED).sum())
    return (
        f"- {len(suspects)} of 70,000 labels are suspect: {len(suspects) - n_test} of training and {n_test} of test images.\n"
        f"- People refuted {len(refuted)} labels of test images (Northcutt et al. 2021): {found} are suspect, {listed} listed.\n"
        "- Most others are right, but of odd digits, unlike all that bear the label. A person has to decide."
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
    reading="Each image has the label that it bears and what the other labels suggest. In orange are labels that people refuted.",
    picture="own_labels.png",
    sentences=sentences,
    markers={"own labels": page_table(summarize, table)},
    notebook="label_studies",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments."""


def command(_: argparse.Namespace) -> None:
    rows = check_all()
    files.write_atomically(ROWS, rows.to_csv(index=False, float_format="%.4f"))
    print(f"own-labels: {len(rows)} labels in {ROWS}; make reference shows them")
