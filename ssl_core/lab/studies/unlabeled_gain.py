"""What do the unlabelled images add, on the same labelled images?"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from . import intervals, learning_curve, words
from .study import Results, Study
from .style import label_axis, new_figure, order, points_axis, style

BASELINE = "supervised"
COLUMNS = ["n_labels", "mean", "std", "n", "low", "high", "n_test"]


def gain(runs: pd.DataFrame, recipe: str, baseline: str = BASELINE) -> pd.DataFrame:
    """Per number of labels: accuracy of `recipe` minus that of `baseline`, paired by seed: `mean`, `std`, `n` seeds.

    `low` and `high` bound the mean by `intervals.paired`, 95 %; NaN for a single seed. `n_test` counts the test images.
    """
    paired = runs.pivot_table(index=["n_labels", "seed"], columns="recipe", values="accuracy")
    if not {recipe, baseline} <= set(paired.columns):
        return pd.DataFrame(columns=COLUMNS)
    difference = (paired[recipe] - paired[baseline]).dropna()
    grouped, images = difference.groupby("n_labels"), learning_curve.n_test(runs)
    table = grouped.agg(
        mean="mean",
        std="std",
        n="count",
        low=lambda d: intervals.paired(d, n_test=images).low,
        high=lambda d: intervals.paired(d, n_test=images).high,
    )
    return table.reset_index().assign(n_test=images)


def gains(runs: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """The `gain` of each other recipe over `baseline`, and `matched`: the labels that `baseline` needs for the same
    accuracy.
    """
    curve = learning_curve.curve(runs)
    tables = []
    for recipe in sorted(set(runs["recipe"]) - {baseline}):
        rows = gain(runs, recipe, baseline)
        matched = [labels_saved(curve, recipe, n, baseline) for n in rows["n_labels"]]
        tables.append(rows.assign(recipe=recipe, baseline=baseline, matched=matched))
    tables = [rows for rows in tables if len(rows)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*COLUMNS, "recipe", "baseline", "matched"])


def labels_saved(curve: pd.DataFrame, recipe: str, n_labels: int, baseline: str = BASELINE) -> str:
    """The number of labels that `baseline` needs to be as accurate as `recipe` with `n_labels`, in words."""
    reference = learning_curve.means(curve, baseline)
    accuracy = learning_curve.means(curve, recipe)[n_labels]
    needed = learning_curve.labels_to_match(reference, accuracy)
    if np.isnan(needed):
        return f"more than {reference.index[-1]}"
    if accuracy <= reference.iloc[0]:
        return f"{reference.index[0]} or fewer"
    return f"about {words.rounded(needed)}"


def summarize(results: Results) -> pd.DataFrame:
    """The gains of the comparable runs."""
    return gains(results.runs)


def table(gains: pd.DataFrame) -> pd.DataFrame:
    """A row for each number of labels; for each recipe the points gained, and the labels that the baseline needs."""
    columns = {}
    for recipe, of_recipe in gains.groupby("recipe"):
        baseline, rows = of_recipe["baseline"].iloc[0], of_recipe.set_index("n_labels")
        points = zip(rows["mean"], rows["std"], rows["n"], strict=True)
        texts = [words.percent(mean, std, int(n), sign="+") for mean, std, n in points]
        columns[f"{recipe}, points above {baseline}"] = pd.Series(texts, index=rows.index)
        columns[f"{recipe} is matched by {baseline} at"] = rows["matched"]
    return pd.DataFrame(columns).sort_index().fillna("–").rename_axis(index="labels M")


def figure(gains: pd.DataFrame) -> Figure:
    """Points of accuracy gained over the baseline, over the number of labels; the bars are 95 % intervals."""
    baseline = gains["baseline"].iloc[0]
    drawn, ((axis,),) = new_figure(7.5, 3.6)
    for recipe in sorted(gains["recipe"].unique(), key=order):
        rows = gains[gains["recipe"] == recipe]
        bars = [100 * distance.fillna(0) for distance in (rows["mean"] - rows["low"], rows["high"] - rows["mean"])]
        axis.errorbar(rows["n_labels"], 100 * rows["mean"], yerr=bars, capsize=3, label=recipe, **style(recipe))
    axis.axhline(0, color="black", linewidth=1)
    points_axis(axis.yaxis, 1)
    label_axis(axis, gains["n_labels"])
    counts = f"{words.seeds(gains['n'])}, {words.tested(gains['n_test'])}"
    axis.set_title(f"Gain from the unlabelled images over {baseline} ({counts}; bars: 95 % interval)", fontsize=10)
    axis.set_ylabel(f"points above {baseline}")
    axis.legend()
    return drawn


def sentences(gains: pd.DataFrame) -> str:
    """The sizes at which each recipe is better or worse than the baseline by more than chance explains, Markdown."""
    lines = []
    for (recipe, baseline), rows in gains.groupby(["recipe", "baseline"]):
        verdicts = {
            "**Better**": rows["low"] > 0,
            "**Worse**": rows["high"] < 0,
            "No sure difference": (rows["low"] <= 0) & (rows["high"] >= 0),
            "One seed, no interval": rows["low"].isna(),
        }
        parts = [f"{verdict}: {', '.join(_points(rows[chosen]))}" for verdict, chosen in verdicts.items() if chosen.any()]
        lines.append(f"- `{recipe}` against `{baseline}`, in points. {'. '.join(parts)}.")
    return "\n".join([*lines, f"\nThe intervals are over the seeds and the {words.tested(gains['n_test'])}."])


def _points(rows: pd.DataFrame) -> list[str]:
    texts = []
    for row in rows.itertuples():
        estimate = intervals.Estimate(row.mean, row.low, row.high, row.n)
        texts.append(f"{estimate.percent('+') if row.n > 1 else f'{100 * row.mean:+.2f}'} with {row.n_labels}")
    return texts


STUDY = Study(
    name="unlabeled_gain",
    question="What do the unlabelled images add?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing="No size was run both with `supervised` and with another recipe.",
    table=table,
    note="Points of test accuracy gained: mean ± standard deviation over seeds (number of seeds).",
    figure=figure,
    reading="A point above zero means that the recipe is more accurate than `supervised` on the same labelled images."
    " The axis is linear up to 1 point and logarithmic beyond. The bars are 95 % intervals of the mean "
    "difference, paired by seed, over seeds and test images; if a bar excludes zero, chance alone rarely explains "
    "the difference.",
    sentences=sentences,
)
