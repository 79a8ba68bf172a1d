"""About the labels themselves: which images get one, how much wrong ones harm, and whether they can stand in for a test set.

`results` is the table of `runs.table`, of one data set; accuracy lies between 0 and 1.
"""

import numpy as np
import pandas as pd

from ssl_core.datasets.checks import DRAWS, FOLDS

from . import budget, intervals


def by_draw(results: pd.DataFrame) -> pd.DataFrame:
    """Of each recipe and size that was run with several draws: a row a draw, with `mean`, `std`, `n` seeds, and the worst run.

    `missed` counts the runs without a label of some class.
    """
    grouped = results.groupby(["recipe", "n_labels", "draw"])
    table = grouped.agg(
        mean=("accuracy", "mean"),
        std=("accuracy", "std"),
        worst=("accuracy", "min"),
        n=("seed", "nunique"),
        missed=("missing_classes", lambda missing: int((missing > 0).sum())),
    ).reset_index()
    several = table.groupby(["recipe", "n_labels"])["draw"].transform("size") > 1
    table["draw"] = pd.Categorical(table["draw"], DRAWS, ordered=True)
    return table[several].sort_values(["recipe", "n_labels", "draw"]).reset_index(drop=True)


def by_label_noise(results: pd.DataFrame) -> pd.DataFrame:
    """Of each recipe and size that was run with wrong labels: by their fraction, the accuracy, and what they cost.

    `mean`, `std` and `n` are of the accuracy, of the seeds that were run with right labels and with each fraction; `loss` is what
    they lose in the mean, positive where wrong labels harm.
    """
    rows = []
    for (recipe, n_labels), group in results.groupby(["recipe", "n_labels"]):
        by_seed = group.pivot_table(index="seed", columns="label_noise", values="accuracy").dropna()
        if len(by_seed.columns) < 2 or 0.0 not in by_seed.columns or by_seed.empty:
            continue
        for fraction, values in by_seed.items():
            loss = (by_seed[0.0] - values).mean()
            rows.append([recipe, n_labels, fraction, values.mean(), values.std(), len(values), loss])
    return pd.DataFrame(rows, columns=["recipe", "n_labels", "label_noise", "mean", "std", "n", "loss"])


def cross_validated(results: pd.DataFrame) -> pd.DataFrame:
    """Of each run whose labels were all held back once, a fold after the other: the accuracy estimated from them, and the truth.

    A row a run: `recipe`, `n_labels`, `seed`; `estimate`, the share of the M labels that were read rightly when they were held
    back, with the 95 % interval `low` to `high` (Wilson's) that whoever has no test images would give; and `truth`, the accuracy
    on the test images of the network that learned from all M labels.
    """
    rows = []
    for (recipe, n_labels, seed), group in results.groupby(["recipe", "n_labels", "seed"]):
        whole, parts = group[group["fold"] == 0], group[group["fold"] > 0]
        if len(whole) != 1 or len(parts) != FOLDS:
            continue
        sizes = np.array([len(range(fold - 1, n_labels, FOLDS)) for fold in parts["fold"]])
        right = round(float((parts["held_out"] * sizes).sum()))
        low, high = intervals.proportion(right, int(sizes.sum()))
        rows.append([recipe, n_labels, seed, right / sizes.sum(), low, high, whole["accuracy"].iloc[0]])
    return pd.DataFrame(rows, columns=["recipe", "n_labels", "seed", "estimate", "low", "high", "truth"])


def draw_table(draws: pd.DataFrame) -> pd.DataFrame:
    """What `by_draw` found for a reader: a row for each recipe and size, a column for each draw."""
    texts = []
    for mean, std, n, missed in zip(draws["mean"], draws["std"], draws["n"], draws["missed"], strict=True):
        texts.append(budget.percent(mean, std, n) + (f", {missed} missed a class" if missed else ""))
    table = draws.assign(text=texts).pivot(index=["n_labels", "recipe"], columns="draw", values="text")
    return table.fillna("–").rename_axis(index=["labels M", "recipe"], columns=None)


def label_noise_table(wrong: pd.DataFrame) -> pd.DataFrame:
    """What `by_label_noise` found for a reader: a row for each share of wrong labels, a column for each recipe and size."""
    texts = [budget.percent(*row) for row in zip(wrong["mean"], wrong["std"], wrong["n"], strict=True)]
    columns = [f"{recipe}, M = {n}" for recipe, n in zip(wrong["recipe"], wrong["n_labels"], strict=True)]
    table = wrong.assign(text=texts, column=columns).pivot(index="label_noise", columns="column", values="text")
    table.index = [f"{100 * fraction:g} %" for fraction in table.index]
    return table.fillna("–").rename_axis(index="wrong labels", columns=None)


def cross_validation_table(estimates: pd.DataFrame) -> pd.DataFrame:
    """What `cross_validated` found for a reader: a row for each recipe and size, in per cent and points."""
    rows = []
    for (recipe, n), group in estimates.groupby(["recipe", "n_labels"]):
        off = (group["estimate"] - group["truth"]).abs().mean()
        figures = [f"{100 * x:.2f}" for x in (group["estimate"].mean(), group["truth"].mean(), off)]
        inside = ((group["low"] <= group["truth"]) & (group["truth"] <= group["high"])).sum()
        reach = 50 * (group["high"] - group["low"]).mean()
        rows.append([recipe, n, *figures, f"± {reach:.2f}, {inside} of {len(group)} hold it"])
    columns = ["recipe", "labels M", "estimated", "on the test images", "off by, on average", "its 95 % intervals"]
    return pd.DataFrame(rows, columns=columns).set_index(["recipe", "labels M"])
