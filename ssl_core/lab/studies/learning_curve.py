"""How does test accuracy fall with the number of labels, and how many labels are enough?

A `curve` is the table that `curve` makes; accuracy lies between 0 and 1.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ssl_core.recipes import RECIPES

from . import intervals, words
from .study import Grid, Results, Study
from .style import drawn_error, error_axis, label_axis, new_figure, order, style

GRID = (
    Grid("6000 2000 1000 500 250 100 50", "supervised published best", "0 1 2 3 4"),
    Grid("60000", "supervised best", "0 1 2 3 4"),
    Grid("10 20", "supervised published best", "0 1 2 3 4", draw="class-balanced"),
    Grid("0", "best", "0 1 2 3 4"),
)
WORTH = 0.005  # accuracy per doubling of the labels: below it, more labels are not called worth their price
FEW_IMAGES = 1000  # with fewer test images, the pages say what these can show
NONE = "0 (clusters)"  # their accuracy is that of the best naming
FEW = {0: NONE, 10: "10, one a class", 20: "20, two a class"}  # of so few labels the pages show class-balanced draws
PRINTED = {"6000": "98.28", "500": "“95 plus”", "50": "“the lowest”"}  # by the report
# The highest published accuracies on MNIST, of larger networks too; outputs/reference/README.md names the sources.
OTHERS_BEST = {
    "60000": "99.64",
    "1000": "99.26 ± 0.03",
    "100": "99.21 ± 0.10",
    "50": "98.94 ± 0.48",
    "20, two a class": "97.5 ± 2.4",
    "10, one a class": "96.5 ± 2.6",
    NONE: "98.4",
}
FRONT_PAGE = (60_000, 6000, 1000, 250, 50, 0)  # numbers of labels


def curve(runs: pd.DataFrame) -> pd.DataFrame:
    """Per recipe and number of labels: `mean` and standard deviation `std` of accuracy over `n` seeds, mean nll and
    seconds.

    `std` is the sample's (n − 1) and NaN for a single seed; `low` and `high` bound the mean by `intervals.accuracy`, 95
    %.
    """
    grouped, images = runs.groupby(["recipe", "n_labels"], sort=True), n_test(runs)
    return grouped.agg(
        mean=("accuracy", "mean"),
        std=("accuracy", "std"),
        low=("accuracy", lambda values: intervals.accuracy(values, n_test=images).low),
        high=("accuracy", lambda values: intervals.accuracy(values, n_test=images).high),
        n=("seed", "nunique"),
        n_test=("n_test", "min"),
        nll=("nll", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()


def n_test(runs: pd.DataFrame) -> int:
    """The number of test images, the smallest if it differs among the runs; of no runs that of MNIST."""
    return int(runs["n_test"].min()) if len(runs) else intervals.N_TEST


def labeled(curve: pd.DataFrame) -> pd.DataFrame:
    """The rows with labels: clustering accuracy, without any, is another measure, and takes part in no comparison."""
    return curve[curve["n_labels"] > 0]


def means(curve: pd.DataFrame, recipe: str) -> pd.Series:
    """Mean accuracy of one recipe by number of labels, ascending."""
    curve = labeled(curve)
    return curve[curve["recipe"] == recipe].set_index("n_labels")["mean"].sort_index()


def labels_to_match(means: pd.Series, accuracy: float) -> float:
    """The number of labels that a recipe needs for `accuracy`, interpolated on a logarithmic axis.

    `means` maps numbers of labels to mean accuracy. NaN if no measured size reaches it; the smallest size if that does.
    """
    accuracy -= 1e-9  # equal means may differ in their last digits
    means = means.sort_index()
    sizes, values = np.log(means.index.to_numpy(float)), np.maximum.accumulate(means.to_numpy())
    if accuracy > values[-1]:
        return float("nan")
    above = int(np.argmax(values >= accuracy))
    if above == 0:
        return float(means.index[0])
    share = (accuracy - values[above - 1]) / (values[above] - values[above - 1])
    return float(np.exp(sizes[above - 1] + share * (sizes[above] - sizes[above - 1])))


def recommend(means: pd.Series, worth: float = WORTH) -> int:
    """The smallest number of labels beyond which no larger one gains more than `worth` accuracy per doubling.

    `means` maps numbers of labels to mean accuracy; ValueError if it is empty.
    """
    means = means.sort_index()
    for i, (n, accuracy) in enumerate(means.items()):
        later = means.iloc[i + 1 :]
        if all((larger - accuracy) / np.log2(m / n) <= worth for m, larger in later.items()):
            return int(n)
    raise ValueError("means is empty: must be one size or more")


def summarize(results: Results) -> pd.DataFrame:
    """The curve of the comparable runs, and of those without labels."""
    return curve(pd.concat([results.runs, results.clustered]))


def table(curve: pd.DataFrame) -> pd.DataFrame:
    """A row for each number of labels, a column for each recipe."""
    entries = curve.assign(text=[words.percent(*row) for row in zip(curve["mean"], curve["std"], curve["n"], strict=True)])
    entries = entries.pivot(index="n_labels", columns="recipe", values="text").fillna("–")
    return entries.rename_axis(index="labels M", columns=None)


def figure(curve: pd.DataFrame) -> Figure:
    """Mean test accuracy over the number of labels, a line for each recipe; the bars are 95 % intervals.

    The vertical axis is logarithmic in the error: the step from 98 to 99 % is as tall as that from 96 to 98 %.
    """
    drawn, ((axis,),) = new_figure(7.5, 4.6)
    images, zero = n_test(curve), place_of_zero(curve)
    for recipe in sorted(curve["recipe"].unique(), key=order):
        rows = curve[curve["recipe"] == recipe]
        high, error, low = (drawn_error(rows[name], images) for name in ("high", "mean", "low"))
        bars = np.vstack([error - high, np.maximum(low - error, 0)])
        few = rows["n_labels"] == 0  # clustering accuracy stands apart, and no line leads there
        axis.errorbar(rows["n_labels"][~few], error[~few], yerr=bars[:, ~few], capsize=3, label=recipe, **style(recipe))
        if few.any():
            apart = {**style(recipe), "linestyle": "none", "markerfacecolor": "white"}
            told = f"{recipe}, no label: clustering accuracy"
            axis.errorbar([zero] * few.sum(), error[few], yerr=bars[:, few], capsize=3, label=told, **apart)
    # Room for the bars of the best means; the bar of runs that differ wildly is cut off and does not squeeze the rest.
    axis.set_ylim(bottom=max(axis.get_ylim()[0], 0.5 * drawn_error(curve["mean"].max(), images)))
    error_axis(axis, images)
    label_axis(axis, curve["n_labels"].replace(0, zero), {zero: "0"})
    counts = f"{words.seeds(curve['n'])}, {words.tested(curve['n_test'])}"
    axis.set_title(f"Accuracy by number of labels ({counts}; bars: 95 % interval)", fontsize=11)
    axis.set_ylabel("test accuracy (%), logarithmic in the error")
    axis.legend(loc="lower right")
    return drawn


def place_of_zero(curve: pd.DataFrame) -> float:
    """Where no label stands on a logarithmic axis: half a decade before the fewest."""
    return float(labeled(curve)["n_labels"].min() / 3) if len(labeled(curve)) else 1.0


def sentences(curve: pd.DataFrame) -> str:
    """The result in a few sentences, Markdown."""
    lines = [
        f"- Without a label, the clusters of `{row.recipe}`, each named by the class that fits it best, are right for"
        f" **{100 * row.mean:.2f} %** of the test images: its *clustering accuracy*."
        for row in curve[curve["n_labels"] == 0].itertuples()
    ]
    curve = labeled(curve)
    if curve.empty:
        return "\n".join(lines)
    recipes = curve["recipe"].unique()
    for recipe in recipes:
        line = means(curve, recipe)
        sizes = dict.fromkeys((line.index[0], line.index[-1]))
        ends = " and ".join(f"{100 * line[n]:.2f} % with {n} labels" for n in sizes)
        lines.append(f"- `{recipe}` reaches {ends}.")
    if {"best", "supervised"} <= set(recipes):
        lines += _match(curve)
    enough = ", ".join(f"{recommend(means(curve, recipe))} with `{recipe}`" for recipe in recipes)
    lines.append(f"- Beyond these numbers of labels, a doubling gains less than {100 * WORTH:g} points: {enough}.")
    counts = set(curve["n"])
    seeds = "One seed only: differences of a few tenths of a point may be chance." if counts == {1} else ""
    seeds = seeds or f"Means over {words.seeds(counts)}."
    return "\n".join([*lines, f"\n{seeds} {_tested(curve)}"])


def _tested(curve: pd.DataFrame) -> str:
    """The number of test images, what so few can show, and that not all runs had the same."""
    n, counts = n_test(curve), set(curve["n_test"])
    are = "is" if counts == {1} else "are"
    said = [f"All accuracies are on the {words.tested(counts)}, which {are} evaluated once, after training."]
    if len(counts) > 1:
        said.append("**Not all runs had the same test images:** compare their accuracies with care.")
    if n < FEW_IMAGES:
        low = 100 * intervals.proportion(n, n)[0]
        said.append(f"One image counts {_points(n)} points, and the 95 % interval of a perfect score begins at {low:.1f} %.")
    return " ".join(said)


def _points(n: int) -> str:
    """What one of `n` test images counts, in points of accuracy: `100`, `33`, `0.25`."""
    return f"{float(f'{100 / n:.2g}'):g}"


def _match(curve: pd.DataFrame) -> list[str]:
    """The number of labels with which `supervised` is as good as `best` is with its recommended number."""
    line, labels_alone = means(curve, "best"), means(curve, "supervised")
    n = recommend(line)
    needed = labels_to_match(labels_alone, line[n])
    if needed == curve["n_labels"].min():
        return []
    match = f"more than {labels_alone.index[-1]}" if np.isnan(needed) else f"about {words.rounded(needed)}"
    return [f"- With {n} labels `best` is as good as `supervised` is with **{match}**."]


def recipe_list(curve: pd.DataFrame) -> str:
    """The recipes with their summaries, Markdown."""
    shown = set(curve["recipe"])
    return "\n".join(f"- **{name}**: {recipe.summary}." for name, recipe in RECIPES.items() if name in shown)


def verdict(curve: pd.DataFrame) -> str:
    """The recommended M of each recipe, Markdown."""
    lines, curve = [], labeled(curve)
    for recipe in curve["recipe"].unique():
        line = means(curve, recipe)
        n = recommend(line)
        if n == line.index[-1]:
            why = "the largest that was run; each doubling up to it still gains more" if len(line) > 1 else "the only one run"
        else:
            only = "only " if line[n] < line.iloc[-1] else ""
            why = f"it reaches {100 * line[n]:.2f} %, and {line.index[-1]} labels {only}{100 * line.iloc[-1]:.2f} %"
        lines.append(f"- With `{recipe}`: **M = {n}**; {why}.")
    rule = f"The smallest M beyond which no larger one gains more than {100 * WORTH:g} points per doubling of the labels:"
    taste = "This threshold is a matter of taste: if mistakes cost you more, label more."
    if 1 / (n := n_test(curve)) > WORTH:
        taste += f" With {words.tested([n])}, one counts {_points(n)} points: so few hardly show such a step."
    return "\n\n".join([rule, "\n".join(lines), taste])


def reference_table(results: Results) -> str:
    """The table of the reference: a row for each number of labels, from the most; last, the median seconds of a run."""
    runs = _reference_runs(results)
    if runs.empty:
        return ""
    rows = _columns(runs)
    seconds = runs.groupby("recipe")["seconds"].median()
    rows.loc["seconds"] = [f"{seconds[name]:.0f}" for name in rows.columns]
    rows.insert(0, "the report prints", [PRINTED.get(n, "–") for n in rows.index])
    return words.markdown(rows.assign(**{"others' best": [OTHERS_BEST.get(n, "–") for n in rows.index]}))


def front_table(results: Results) -> str:
    """The table of the front page: five numbers of labels."""
    runs = _reference_runs(results)
    runs = runs[runs["n_labels"].isin(FRONT_PAGE) & (runs["recipe"] != "corrected")]
    if runs.empty:
        return ""
    rows = _columns(runs)
    return words.markdown(rows.assign(**{"others' best": [OTHERS_BEST.get(n, "–") for n in rows.index]}))


def _reference_runs(results: Results) -> pd.DataFrame:
    """Random draws; of very few labels class-balanced ones, since a random draw seldom shows all classes."""
    random, balanced = (results.select(RECIPES, draw) for draw in ("random", "class-balanced"))
    return pd.concat([random[random["n_labels"] > max(FEW)], balanced[balanced["n_labels"] <= max(FEW)], results.clustered])


def _columns(runs: pd.DataFrame) -> pd.DataFrame:
    """The table, most labels first and the best recipe last."""
    rows = table(curve(runs)).sort_index(ascending=False)
    return rows[sorted(rows.columns, key=order, reverse=True)].rename(index=lambda n: FEW.get(n, str(n)))


STUDY = Study(
    name="learning_curve",
    question="How does accuracy fall with the number of labels?",
    grid=GRID,
    summarize=summarize,
    nothing="No run is finished.",
    table=lambda curve: table(curve).rename(index={0: NONE}),
    note="Test accuracy in per cent: mean ± standard deviation over seeds (number of seeds). Without labels it is clustering"
    " accuracy: that of the best naming of clusters.",
    figure=figure,
    reading="Fewer labels are to the left. The vertical axis is logarithmic in the *error*: equal steps upwards "
    "divide the number of mistakes by equal factors. If two lines run side by side, a factor k apart, one "
    "recipe needs k times the labels. The bars are 95 % intervals of the expected accuracy. They cover two "
    "sources of noise, the seeds and the finite test set; all lines share the second. Overlapping bars do not"
    " decide whether one recipe beats another: the paired comparison below does.",
    picture="accuracy.png",
    sentences=recipe_list,
    markers={"results": reference_table, "summary": front_table},
)
