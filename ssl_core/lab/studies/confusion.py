"""Which classes are confused?"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..runs.records import Record
from . import learning_curve, words
from .run_figures import draw_confusion
from .study import Results, Study
from .style import new_figure, order


def confusions(records: Iterable[Record]) -> dict[tuple[str, int], np.ndarray]:
    """Confusion matrices by (recipe, number of labels), summed over seeds."""
    summed: dict[tuple[str, int], np.ndarray] = {}
    for record in records:
        key = record.parameters["recipe"], record.parameters["n_labels"]
        summed[key] = summed.get(key, 0) + np.array(record.confusion)
    return summed


def counts(records: Iterable[Record], classes: tuple[str, ...]) -> pd.DataFrame:
    """The confusion matrices as a table: `recipe`, `n_labels`, `seeds`, `true`, `predicted`, `count`; classes in their
    order.
    """
    records = list(records)
    seeds = Counter((record.parameters["recipe"], record.parameters["n_labels"]) for record in records)
    tables = []
    for (recipe, n), matrix in confusions(records).items():
        true, predicted = np.divmod(np.arange(matrix.size), len(classes))
        names = {"true": np.array(classes)[true], "predicted": np.array(classes)[predicted]}
        rows = pd.DataFrame(names | {"count": matrix.ravel()})
        tables.append(rows.assign(recipe=recipe, n_labels=n, seeds=seeds[recipe, n]))
    columns = ["recipe", "n_labels", "seeds", "true", "predicted", "count"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def matrix(counts: pd.DataFrame, recipe: str, n_labels: int) -> np.ndarray | None:
    """The confusion matrix of a recipe and number of labels; None if there is none."""
    rows = counts[(counts["recipe"] == recipe) & (counts["n_labels"] == n_labels)]
    side = round(len(rows) ** 0.5)
    return rows["count"].to_numpy().reshape(side, side) if side else None


def summarize(results: Results) -> pd.DataFrame:
    """The confusion matrices of the comparable runs."""
    return counts(results.records, results.classes)


def figure(counts: pd.DataFrame) -> Figure:
    """Confusion matrices: a row for each recipe, a column for each number of labels."""
    recipes, sizes = sorted(counts["recipe"].unique(), key=order), sorted(counts["n_labels"].unique())
    classes = tuple(dict.fromkeys(counts["true"]))
    size = 2.3 * len(sizes), 2.5 * len(recipes)
    drawn, axes = new_figure(*size, len(recipes), len(sizes), sharex=True, sharey=True)
    for row, recipe in zip(axes, recipes, strict=True):
        for axis, n in zip(row, sizes, strict=True):
            if (cells := matrix(counts, recipe, n)) is None:
                axis.axis("off")
                continue
            draw_confusion(axis, cells, classes, annotate=False)
            axis.set_title(f"{recipe}, M = {n}\n{100 * np.trace(cells) / cells.sum():.1f} %", fontsize=9)
            axis.tick_params(labelsize=7)
            axis.label_outer()
    images = counts.groupby(["recipe", "n_labels"])["count"].sum() / counts.groupby(["recipe", "n_labels"])["seeds"].first()
    said = f"{words.seeds(counts['seeds'])}, {words.tested(images.round().astype(int))}"
    drawn.suptitle(f"Confusion matrices ({said}), and test accuracy", fontsize=11)
    return drawn


STUDY = Study(
    name="confusion",
    question="Which classes are confused?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing="No run is finished.",
    figure=figure,
    reading="Rows are true classes, columns predicted ones; the colour is the share of the row, summed over seeds. A "
    "dark cell off the diagonal marks a class that is regularly taken for another. With few labels one column"
    " often swallows a neighbour.",
    needs_records=True,
)
