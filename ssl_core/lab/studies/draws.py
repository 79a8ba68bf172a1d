"""Which images should be labelled? Selections of the labelled images are compared."""

import pandas as pd
from matplotlib.figure import Figure

from ssl_core.datasets.checks import DRAWS

from . import learning_curve, words
from .study import Grid, Results, Study
from .style import drawn_error, error_axis, label_axis, new_figure, order

GRID = (
    Grid("10 20", "supervised best", "0 1 2 3 4", draw="typical"),
    Grid("10 20 50 100", "supervised best", "0 1 2 3 4"),
)
LOOKS = {"random": ("o", "-", "#666666"), "class-balanced": ("s", "--", "#56B4E9"), "typical": ("^", "-", "#CC79A7")}


def by_draw(runs: pd.DataFrame) -> pd.DataFrame:
    """For each recipe and size that was run with several draws, a row for each draw.

    It has the `mean`, `std` and `worst` accuracy over `n` seeds; `missed` counts the runs without a label of some
    class.
    """
    grouped = runs.groupby(["recipe", "n_labels", "draw"])
    table = grouped.agg(
        mean=("accuracy", "mean"),
        std=("accuracy", "std"),
        worst=("accuracy", "min"),
        n=("seed", "nunique"),
        n_test=("n_test", "min"),
        missed=("missing_classes", lambda missing: int((missing > 0).sum())),
    ).reset_index()
    several = table.groupby(["recipe", "n_labels"])["draw"].transform("size") > 1
    table["draw"] = pd.Categorical(table["draw"], DRAWS, ordered=True)
    return table[several].sort_values(["recipe", "n_labels", "draw"]).reset_index(drop=True)


def summarize(results: Results) -> pd.DataFrame:
    """The comparison of all draws."""
    return by_draw(pd.concat(results.select(draw=draw) for draw in DRAWS))


def table(draws: pd.DataFrame) -> pd.DataFrame:
    """A row for each size and recipe, a column for each draw."""
    texts = []
    for mean, std, n, missed in zip(draws["mean"], draws["std"], draws["n"], draws["missed"], strict=True):
        texts.append(words.percent(mean, std, n) + (f", {missed} missed a class" if missed else ""))
    rows = draws.assign(text=texts).pivot(index=["n_labels", "recipe"], columns="draw", values="text")
    return rows.fillna("–").rename_axis(index=["labels M", "recipe"], columns=None)


def figure(draws: pd.DataFrame) -> Figure:
    """Accuracy over the number of labels, a line for each draw, a panel for each recipe."""
    names, images = sorted(draws["recipe"].unique(), key=order), learning_curve.n_test(draws)
    drawn, axes = new_figure(5 * len(names), 3.6, 1, len(names))
    for axis, recipe in zip(axes.flat, names, strict=True):
        for draw, rows in draws[draws["recipe"] == recipe].groupby("draw", observed=True):
            marker, line, color = LOOKS[draw]
            error, worst = (drawn_error(rows[name], images) for name in ("mean", "worst"))
            axis.plot(rows["n_labels"], error, marker=marker, linestyle=line, color=color, label=draw)
            axis.fill_between(rows["n_labels"], error, worst, color=color, alpha=0.15, linewidth=0)
        axis.set_title(recipe)
        error_axis(axis, images)
        label_axis(axis, draws["n_labels"])
        axis.legend(title="selection of the labels")
    axes[0, 0].set_ylabel("test accuracy (%)")
    counts = f"{words.seeds(draws['n'])}, {words.tested(draws['n_test'])}"
    drawn.suptitle(f"Accuracy by selection of the labelled images ({counts})", fontsize=11)
    return drawn


def sentences(draws: pd.DataFrame) -> str:
    """The gain of typical images over random ones, Markdown."""
    lines = []
    for recipe, rows in draws.groupby("recipe"):
        means = rows.pivot(index="n_labels", columns="draw", values="mean")
        if not {"typical", "random"} <= set(means.columns):
            continue
        gained = (100 * (means["typical"] - means["random"])).dropna()
        points = ", ".join(f"{gain:+.2f} with {n}" for n, gain in gained.items())
        if points:
            lines.append(f"- `{recipe}` with typical instead of random labels, in points: {points}.")
    return "\n".join(lines)


def reference_table(results: Results) -> str:
    """Typical and random draws: a row for each number of labels, a column for each recipe and draw."""
    draws = by_draw(pd.concat(results.select(draw=draw) for draw in ("random", "typical")))
    if draws.empty:
        return ""
    rows = table(draws).unstack("recipe").swaplevel(axis=1).sort_index(axis=1, ascending=False)
    return words.markdown(rows.fillna("–"))


STUDY = Study(
    name="draws",
    question="Which images should be labelled?",
    grid=GRID,
    summarize=summarize,
    nothing="No size was run with several selections of the labels; `make label-studies` trains them.",
    table=table,
    note="Test accuracy in per cent: mean ± standard deviation over seeds (number of seeds).",
    figure=figure,
    reading="A line is the mean over seeds; the shade below it reaches down to the worst of them. Where the lines "
    "meet, the selection of the labels no longer matters.",
    sentences=sentences,
    markers={"draws": reference_table},
    notebook="label_studies",
)
