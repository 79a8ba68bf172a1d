"""What is each ingredient of the recipes worth?"""

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_core.recipes import ABLATIONS, RECIPES

from . import words
from .study import Grid, Results, Study, page_table
from .style import new_figure, points_axis
from .unlabeled_gain import gain

GRID = (Grid("50 1000 250", "best supervised ablations", "0 1 2"),)


def changes(runs: pd.DataFrame) -> pd.DataFrame:
    """For each ablation that was run: `recipe`, `baseline`, and by `n_labels` the `gain` over its baseline."""
    bases = {name: recipe.base for name, recipe in ABLATIONS.items() if recipe.base}
    rows = [gain(runs, name, base).assign(recipe=name, baseline=base) for name, base in bases.items()]
    rows = [table for table in rows if len(table)]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def summarize(results: Results) -> pd.DataFrame:
    """The changes of accuracy by all ablations."""
    return changes(results.select(RECIPES | ABLATIONS))


def table(changes: pd.DataFrame) -> pd.DataFrame:
    """A row for each ablation, a column for each number of labels: points gained over the unchanged recipe."""
    texts = [words.percent(mean, std, int(n), "+") for mean, std, n in changes[["mean", "std", "n"]].itertuples(index=False)]
    rows = changes.assign(text=texts).pivot(index="recipe", columns="n_labels", values="text").fillna("–")
    rows = rows.loc[[name for name in ABLATIONS if name in rows.index]]
    return rows.rename(columns=lambda n: f"M = {n}").rename_axis(index="points of accuracy", columns=None)


def figure(changes: pd.DataFrame) -> Figure:
    """A panel for each recipe that was changed, a row for each change, a mark for each number of labels."""
    baselines = list(changes["baseline"].unique())
    panels = [changes[changes["baseline"] == baseline] for baseline in baselines]
    heights = [panel["recipe"].nunique() for panel in panels]
    size = 7.5, 0.9 + 0.42 * sum(heights)
    drawn, axes = new_figure(*size, len(panels), height_ratios=heights, sharex=True)
    for axis, baseline, panel in zip(axes.flat, baselines, panels, strict=True):
        draw_changes(axis, panel, sorted(changes["n_labels"].unique()))
        names = list(panel["recipe"].unique())
        axis.set_yticks(range(len(names)), [name.removeprefix(f"{baseline}-").replace("-", " ") for name in names])
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(f"`{baseline}` …", loc="left", fontsize=10)
    axes.flat[0].legend(fontsize=8)
    tested = words.tested(changes["n_test"])
    axes.flat[-1].set_xlabel(f"points of accuracy gained on {tested} (bars: one standard deviation over seeds)")
    return drawn


def draw_changes(axis: Axes, panel: pd.DataFrame, sizes: list[int]) -> None:
    """A row for each `recipe` of the panel, in their order, and in it a mark for each of the numbers of labels."""
    names = list(panel["recipe"].unique())
    for i, n in enumerate(sizes):
        rows = panel[panel["n_labels"] == n]
        height = [names.index(name) + 0.22 * (i - (len(sizes) - 1) / 2) for name in rows["recipe"]]
        color = colormaps["viridis"](0.85 * i / max(1, len(sizes) - 1))
        means, bars = 100 * rows["mean"], 100 * rows["std"].fillna(0)
        mark = "os^Dv"[i % 5]
        axis.errorbar(means, height, xerr=bars, label=f"M = {n}", fmt=mark, color=color, markersize=5, capsize=2)
    axis.axvline(0, color="black", linewidth=1)
    points_axis(axis.xaxis, 0.2)


def recipe_list(changes: pd.DataFrame) -> str:
    """The ablations, each with its change, Markdown."""
    return "\n".join(f"- **{name}**: {ABLATIONS[name].summary}." for name in changes["recipe"].unique())


def sentences(changes: pd.DataFrame) -> str:
    """The changes whose 95 % interval excludes zero, by number of labels, Markdown."""
    lines = []
    for n, rows in changes.groupby("n_labels"):
        for verdict, chosen in (("gain", rows["low"] > 0), ("cost", rows["high"] < 0)):
            points = [f"`{row.recipe}` {100 * row.mean:+.2f}" for row in rows[chosen].itertuples()]
            if points:
                lines.append(f"- With {n} labels these {verdict} accuracy, in points: {', '.join(points)}.")
    interval = f"95 % interval, over seeds and the {words.tested(changes['n_test'])}, includes zero"
    ending = f"All other changes may be chance: their {interval}, or there is one seed."
    return "\n".join([*lines, f"\n{ending}"])


STUDY = Study(
    name="ablation",
    question="What is each ingredient worth?",
    grid=GRID,
    summarize=summarize,
    nothing="No ablation was run together with its recipe; `make ablation` trains them.",
    table=table,
    note="Points of test accuracy gained over the unchanged recipe: mean ± standard deviation (number of seeds).",
    figure=figure,
    reading="A mark to the left of zero means that the change costs accuracy. Where an ingredient of `best` was "
    "removed, a mark further left means that the ingredient is worth more. Where a loss was added to "
    "`supervised`, a mark to the right means that it helps. The axis is linear up to 0.2 points and "
    "logarithmic beyond, so that a collapse and 0.1 points fit into one figure. A mark whose bar crosses zero"
    " may be chance.",
    picture="ablation.png",
    sentences=sentences,
    markers={"ablation": page_table(summarize, table)},
    notebook="ablation",
)
