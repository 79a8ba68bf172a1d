"""How accurate is a network if there are no test images? The labels themselves can tell, by cross-validation."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ssl_core.datasets.checks import FOLDS

from . import intervals, words
from .study import Grid, Results, Study, page_table
from .style import new_figure, order, style

GRID = (Grid("50 250 1000", "supervised best", "0", folds="0 1 2 3 4 5"),)


def cross_validated(runs: pd.DataFrame) -> pd.DataFrame:
    """The accuracy estimated from the labels, and the truth: a row for each run whose folds were all held out.

    `recipe`, `n_labels`, `seed`; `estimate`, the share of the M labels that were predicted correctly while they were
    held out, with Wilson's 95 % interval `low` to `high`; and `truth`, the accuracy on `n_test` test images of the
    network that learned from all M labels.
    """
    rows = []
    for (recipe, n_labels, seed), group in runs.groupby(["recipe", "n_labels", "seed"]):
        whole, parts = group[group["fold"] == 0], group[group["fold"] > 0]
        if len(whole) != 1 or len(parts) != FOLDS:
            continue
        sizes = np.array([len(range(fold - 1, n_labels, FOLDS)) for fold in parts["fold"]])
        correct = round(float((parts["held_out"] * sizes).sum()))
        low, high = intervals.proportion(correct, int(sizes.sum()))
        truth = whole[["accuracy", "n_test"]].iloc[0]
        rows.append([recipe, n_labels, seed, correct / sizes.sum(), low, high, *truth])
    columns = ["recipe", "n_labels", "seed", "estimate", "low", "high", "truth", "n_test"]
    return pd.DataFrame(rows, columns=columns).astype({"n_test": int})


def summarize(results: Results) -> pd.DataFrame:
    """The estimates from all runs with correct labels."""
    runs = results.select(variants=True)
    return cross_validated(runs[runs["label_noise"] == 0])


def table(estimates: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe and size, in per cent and points."""
    rows = []
    for (recipe, n), group in estimates.groupby(["recipe", "n_labels"]):
        error = (group["estimate"] - group["truth"]).abs().mean()
        figures = [f"{100 * x:.2f}" for x in (group["estimate"].mean(), group["truth"].mean(), error)]
        inside = ((group["low"] <= group["truth"]) & (group["truth"] <= group["high"])).sum()
        interval = " to ".join(f"{100 * group[bound].mean():.2f}" for bound in ("low", "high"))
        rows.append([recipe, n, *figures, interval, f"{inside} of {len(group)}"])
    columns = ["recipe", "labels M", "estimated", "on the test images", "mean error", "95 % interval", "covered"]
    return pd.DataFrame(rows, columns=columns).set_index(["recipe", "labels M"])


def figure(estimates: pd.DataFrame) -> Figure:
    """The accuracy estimated from the labels, with its interval, beside the test accuracy; a panel for each recipe."""
    names = sorted(estimates["recipe"].unique(), key=order)
    drawn, axes = new_figure(5 * len(names), 3.6, 1, len(names))
    for axis, name in zip(axes.flat, names, strict=True):
        rows = estimates[estimates["recipe"] == name].sort_values(["n_labels", "seed"]).reset_index(drop=True)
        middle = 100 * rows["estimate"]
        bars = [middle - 100 * rows["low"], 100 * rows["high"] - middle]
        look = style(name) | {"linestyle": "none", "label": "from the labels alone, 95 % interval"}
        axis.errorbar(rows.index - 0.1, middle, bars, capsize=3, **look)
        axis.plot(rows.index + 0.1, 100 * rows["truth"], "_", color="black", markersize=14, label="on the test images")
        axis.set(
            title=name,
            xticks=rows.index,
            xticklabels=rows["n_labels"],
            xlabel="labelled images M, one column for each run",
        )
        axis.margins(x=0.2)
        axis.legend(loc="lower right")
    axes[0, 0].set_ylabel("accuracy (%)")
    tested = words.tested(estimates["n_test"])
    drawn.suptitle(f"Accuracy estimated from the labels alone ({FOLDS}-fold cross-validation), and on {tested}", fontsize=11)
    return drawn


def sentences(estimates: pd.DataFrame) -> str:
    """The number of intervals that contain the truth, Markdown."""
    inside = ((estimates["low"] <= estimates["truth"]) & (estimates["truth"] <= estimates["high"])).sum()
    return f"{inside} of {len(estimates)} intervals contain the accuracy on the {words.tested(estimates['n_test'])}."


STUDY = Study(
    name="cross_validation",
    question="How accurate is a network if there are no test images?",
    grid=GRID,
    summarize=summarize,
    nothing=f"It takes a run with all its labels, and {FOLDS} that hold out a part each: `make label-studies`.",
    table=table,
    note="Per cent and points; the interval is Wilson's.",
    figure=figure,
    reading="The black stroke beside each estimate is the test accuracy. The bars are long where labels are few: of "
    "50 labels, a single misclassified one counts 2 points. Estimates are slightly low, since each network "
    "learned from four fifths of the labels.",
    sentences=sentences,
    markers={"folds": page_table(summarize, table)},
    notebook="label_studies",
)
