"""What do wrong labels cost?"""

import pandas as pd
from matplotlib.figure import Figure

from ssl_core.recipes import RECIPES

from . import words
from .study import Grid, Results, Study, page_table
from .style import new_figure, style

BELIEVING = "best-without-checking"
GRID = (Grid("100 1000", f"supervised best {BELIEVING}", "0 1 2", label_noise="0 0.01 0.05 0.1 0.2 0.4"),)


def by_label_noise(runs: pd.DataFrame) -> pd.DataFrame:
    """For each recipe and size that was run with label noise, a row for each fraction of wrong labels.

    `mean`, `std` and `n` describe the accuracy of the seeds that were run with correct labels and with each fraction;
    `loss` is their mean loss of accuracy, on `n_test` test images.
    """
    rows = []
    for (recipe, n_labels), group in runs.groupby(["recipe", "n_labels"]):
        by_seed = group.pivot_table(index="seed", columns="label_noise", values="accuracy").dropna()
        if len(by_seed.columns) < 2 or 0.0 not in by_seed.columns or by_seed.empty:
            continue
        for fraction, values in by_seed.items():
            loss = (by_seed[0.0] - values).mean()
            rows.append([recipe, n_labels, fraction, values.mean(), values.std(), len(values), loss, group["n_test"].min()])
    return pd.DataFrame(rows, columns=["recipe", "n_labels", "label_noise", "mean", "std", "n", "loss", "n_test"])


def summarize(results: Results) -> pd.DataFrame:
    """The comparison of all runs without withheld folds."""
    runs = results.select({*RECIPES, BELIEVING}, variants=True)
    return by_label_noise(runs[runs["fold"] == 0])


def table(noise: pd.DataFrame) -> pd.DataFrame:
    """A row for each fraction of wrong labels, a column for each recipe and size."""
    texts = [words.percent(*row) for row in zip(noise["mean"], noise["std"], noise["n"], strict=True)]
    rows = noise.assign(text=texts, size=[f"M = {n}" for n in noise["n_labels"]])
    rows = rows.pivot(index="label_noise", columns=["recipe", "size"], values="text")
    rows.index = [f"{100 * fraction:g} %" for fraction in rows.index]
    return rows.fillna("–").rename_axis(index="wrong labels", columns=[None, None])


def figure(noise: pd.DataFrame) -> Figure:
    """Accuracy over the fraction of wrong labels, a line for each recipe and size."""
    drawn, ((axis,),) = new_figure(6.5, 3.8)
    sizes = sorted(noise["n_labels"].unique())
    for (name, n), rows in noise.groupby(["recipe", "n_labels"]):
        look = style(name) | {"linestyle": ("-", "--", ":")[sizes.index(n) % 3], "label": f"{name}, M = {n}"}
        axis.errorbar(100 * rows["label_noise"], 100 * rows["mean"], 100 * rows["std"].fillna(0), capsize=3, **look)
    most = 100 * noise["label_noise"].max()
    axis.plot([0, most], [100, 100 - most], color="black", linewidth=0.8, linestyle=":", label="as accurate as its labels")
    axis.set(xlabel="wrong labels (%)", ylabel="test accuracy (%)")
    counts = f"{words.seeds(noise['n'])}, {words.tested(noise['n_test'])}"
    axis.set_title(f"Accuracy with wrong labels ({counts}; bars: standard deviation)", fontsize=11)
    axis.legend()
    return drawn


def sentences(noise: pd.DataFrame) -> str:
    """The loss with each fraction of wrong labels, Markdown."""
    lines = []
    for (recipe, n), rows in noise[noise["label_noise"] > 0].groupby(["recipe", "n_labels"]):
        losses = ", ".join(f"{100 * row.loss:.2f} at {100 * row.label_noise:g} %" for row in rows.itertuples())
        lines.append(f"- `{recipe}` with {n} labels loses, in points: {losses}.")
    return "\n".join(lines)


STUDY = Study(
    name="label_noise",
    question="What do wrong labels cost?",
    grid=GRID,
    summarize=summarize,
    nothing="No run had wrong labels; `make label-studies` trains them.",
    table=table,
    note="Test accuracy in per cent: mean ± standard deviation over seeds (number of seeds).",
    figure=figure,
    reading="On the dotted line a network would be as accurate as its labels. Above it, the network does not believe "
    "every label.",
    sentences=sentences,
    markers={"wrong labels": page_table(summarize, table)},
    notebook="label_studies",
)
