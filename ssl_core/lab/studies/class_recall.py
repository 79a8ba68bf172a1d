"""Which classes would profit most from more labels?"""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from . import confusion, learning_curve, words
from .run_figures import MOST_ROWS
from .study import Results, Study
from .style import error_axis, label_axis, new_figure, order


def recall(counts: pd.DataFrame) -> pd.DataFrame:
    """From confusion.counts: `recipe`, `n_labels`, `seeds`, `class`, and `recall`, the share of its images that is
    recognised.
    """
    keys = ["recipe", "n_labels", "seeds", "true"]
    images = counts.groupby(keys, sort=False)["count"].sum()
    correct = counts[counts["true"] == counts["predicted"]].groupby(keys, sort=False)["count"].sum()
    return (correct / images.clip(lower=1)).rename("recall").reset_index().rename(columns={"true": "class"})


def summarize(results: Results) -> pd.DataFrame:
    """The recall of each class, over all seeds of a recipe and number of labels."""
    return recall(confusion.summarize(results))


def figure(recalls: pd.DataFrame) -> Figure:
    """The recall of each class over the number of labels; a panel for each recipe."""
    names = sorted(recalls["recipe"].unique(), key=order)
    drawn, axes = new_figure(7.5, 3.8 * len(names), len(names), sharex=True)
    for axis, recipe in zip(axes.flat, names, strict=True):
        rows = recalls[recalls["recipe"] == recipe]
        for c, name in enumerate(list(rows["class"].unique())[:MOST_ROWS]):
            own = rows[rows["class"] == name].sort_values("n_labels")
            missed = np.clip(100 * (1 - own["recall"]), 0.05, None)
            axis.plot(own["n_labels"], missed, marker="osv^DPX*<>"[c % 10], label=name, color=colormaps["tab10"](c % 10))
        error_axis(axis)
        label_axis(axis, rows["n_labels"])
        axis.set(ylabel="recognised (%)", title=f"{recipe}: recall of each class ({words.seeds(rows['seeds'])})")
        axis.legend(fontsize=8, ncols=2)
        axis.label_outer()
    return drawn


STUDY = Study(
    name="class_recall",
    question="Which classes would profit most from more labels?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing="No run is finished.",
    figure=figure,
    reading="Each line is a class; the axis is logarithmic in the share that is missed. If a line lies far below the "
    "others, more or better chosen labels of that class would help most.",
    needs_records=True,
)
