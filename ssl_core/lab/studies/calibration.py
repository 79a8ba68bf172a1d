"""How far can the confidence of a trained network be trusted?

From the class probabilities that each run keeps of its test images; `Predictions` are those of several runs.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs import records
from ..runs.records import Record
from . import intervals, learning_curve, words
from .study import Results, Study
from .style import drawn_error, error_axis, new_figure, order, style

Predictions = dict[tuple[str, int], dict[int, np.ndarray]]  # by (recipe, number of labels) and seed: (N, C)

ACCURACIES = (0.995, 0.999)  # that a network which may abstain should reach


def predictions(run_records: Iterable[Record], outputs: str | Path | None) -> Predictions:
    """The class probabilities of the test images by the runs that kept them."""
    kept: Predictions = {}
    for record in run_records:
        run = record.run
        if outputs is not None and (probabilities := records.probabilities(run, outputs)) is not None:
            kept.setdefault((run.recipe, run.n_labels), {})[run.seed] = probabilities
    return kept


def pooled(predictions: Predictions, y: np.ndarray, n_labels: int) -> pd.DataFrame:
    """The answers of all runs with `n_labels`: `recipe`, `n_labels`, `seed`, `confidence`, and `correct` by the classes
    `y`.
    """
    tables = [
        pd.DataFrame({"confidence": p.max(axis=1), "correct": p.argmax(axis=1) == y}).assign(recipe=recipe, n_labels=n, seed=seed)
        for (recipe, n), by_seed in predictions.items()
        for seed, p in by_seed.items()
        if n == n_labels
    ]
    columns = ["recipe", "n_labels", "seed", "confidence", "correct"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def fewest(runs: pd.DataFrame, predictions: Predictions) -> int:
    """The smallest number of labels, of runs with predictions, at which no draw missed a class; or the smallest."""
    missed = runs[runs["n_labels"].isin([n for _, n in predictions])].groupby("n_labels")["missing_classes"].max()
    complete = missed.index[missed == 0]
    return int(min(complete if len(complete) else missed.index))


def coverage(confidence: np.ndarray, correct: np.ndarray, accuracy: float) -> float:
    """The largest share of the images, the most confident ones, of which this `accuracy` was measured; 0 if of none."""
    covered, reached = intervals.selective(confidence, correct)
    enough = np.flatnonzero(reached >= accuracy)
    return float(covered[enough[-1]]) if len(enough) else 0.0


def images(answers: pd.DataFrame) -> int:
    """The number of test images behind the answers of one recipe: each seed has all of them."""
    return len(answers) // max(1, answers["seed"].nunique())


def summarize(results: Results) -> pd.DataFrame:
    """The answers at the smallest number of labels at which no draw missed a class."""
    kept = predictions(results.records, results.outputs)
    if not kept:
        return pooled({}, np.array([]), 0)
    return pooled(kept, results.y_test, fewest(results.runs, kept))


def table(answers: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe: accuracy, confidence and expected calibration error."""
    rows = {}
    for recipe in sorted(answers["recipe"].unique(), key=order):
        own = answers[answers["recipe"] == recipe]
        _, error = intervals.calibration(own["confidence"], own["correct"])
        means = {
            "accuracy": own["correct"].mean(),
            "mean confidence": own["confidence"].mean(),
            "calibration error": error,
        }
        rows[recipe] = {name: f"{100 * value:.2f}" for name, value in means.items()} | {"test images": f"{images(own):,}"}
    return pd.DataFrame(rows).T.rename_axis("recipe")


def figure(answers: pd.DataFrame) -> Figure:
    """Left: accuracy over confidence. Right: accuracy on the answered images over their share."""
    drawn, ((left, right),) = new_figure(11, 4.4, 1, 2)
    for recipe in sorted(answers["recipe"].unique(), key=order):
        own = answers[answers["recipe"] == recipe]
        _draw_calibration(left, own["confidence"], own["correct"], recipe)
        _draw_coverage(right, own, recipe)
    left.plot([0, 1], [0, 1], color="black", linewidth=1)
    left.set(xlabel="confidence (mean of a bin)", ylabel="accuracy (of the bin)", title="Calibration")
    for handle in left.legend(fontsize=8).legend_handles:
        handle.set(sizes=[30])
    right.set_xlim(50, 100.5)
    n_test = min(images(own) for _, own in answers.groupby("recipe"))
    lowest = min(line.get_ydata().min() for line in right.lines)
    right.set_ylim(bottom=max(0.009, 0.8 * lowest))  # of many test images, the few least doubtful mistakes are cut off
    error_axis(right, n_test)
    right.set(xlabel="answered (% of the test images, the most confident first)", ylabel="accuracy on these (%)")
    right.set_title("Accuracy if the network may abstain")
    right.legend(fontsize=8)
    counts = answers.groupby("recipe")["seed"].nunique()
    said = f"{words.seeds(counts)}, {words.tested([n_test])}"
    drawn.suptitle(f"With {answers['n_labels'].iloc[0]} labels ({said})", fontsize=11)
    return drawn


def _draw_calibration(axis: Axes, confidence: pd.Series, correct: pd.Series, recipe: str) -> None:
    bins, error = intervals.calibration(confidence, correct)
    look = style(recipe)
    axis.plot(bins["confidence"], bins["accuracy"], linestyle=look["linestyle"], color=look["color"], linewidth=1)
    areas = 8 + 250 * bins["count"] / bins["count"].sum()
    label = f"{recipe}: error {100 * error:.1f} points"
    axis.scatter(bins["confidence"], bins["accuracy"], areas, color=look["color"], marker=look["marker"], label=label)


def _draw_coverage(axis: Axes, own: pd.DataFrame, recipe: str) -> None:
    covered, accuracy = intervals.selective(own["confidence"], own["correct"])
    shown, look = covered >= 0.5, style(recipe)  # the axis begins there, and its limits follow from what is drawn
    error = drawn_error(accuracy[shown], images(own))
    axis.plot(100 * covered[shown], error, color=look["color"], linestyle=look["linestyle"], label=recipe)


def sentences(answers: pd.DataFrame, accuracies: Iterable[float] = ACCURACIES) -> str:
    """The share of the images that each recipe answers with each of `accuracies`, if it may abstain, Markdown.

    Without an accuracy that so few test images cannot show, even if all are answered correctly; see intervals.threshold.
    """
    lines = []
    for (recipe, n_labels), own in answers.groupby(["recipe", "n_labels"], sort=False):
        n, shares = images(own), []
        for accuracy in sorted(accuracies):
            perfect = intervals.threshold(np.ones(n), np.ones(n, bool), accuracy)
            if np.isinf(perfect.value):
                shares.append(perfect.sentence())
                break  # nor a higher one
            share = coverage(own["confidence"], own["correct"], accuracy)
            most = f"the most confident **{100 * share:.1f} %** of {words.tested([n])}" if share else "no image"
            shares.append(f"{100 * accuracy:g} % accuracy on {most}")
        lines.append(f"- `{recipe}` with {n_labels} labels: {'; '.join(shares)}.")
    return "\n".join(lines)


STUDY = Study(
    name="calibration",
    question="How far can the confidence be trusted?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing="No run kept its predictions.",
    table=table,
    note="All test images and seeds, per cent. *Calibration error*: the expected calibration error, in points; with few "
    "test images chance alone makes it large.",
    figure=figure,
    reading="Left: on the diagonal a network is right as often as its confidence says; below it, it is overconfident."
    " The error is the expected calibration error, the mean gap over all answers (15 bins). The area of a "
    "mark follows the number of answers in its bin; small marks scatter by chance. Right: at the right end "
    "every image is answered; to the left, the least confident answers are left to a person.",
    sentences=sentences,
    needs_records=True,
)
