"""How accurate are the recipes on other data sets? They were tuned on MNIST alone."""

import pandas as pd

from . import learning_curve, words
from .study import Grid, Results, Study, page_table
from .style import order

RECIPES, SEEDS = "supervised best", "0 1 2"
GRID = (
    Grid("1000 250", RECIPES, SEEDS, data="fashion-mnist"),
    Grid("50", RECIPES, SEEDS, data="digits"),
    Grid("250", RECIPES, SEEDS, data="mnist-few-eights"),
    Grid("250", RECIPES, SEEDS, data="mnist-and-clothes"),
)


def summarize(results: Results) -> pd.DataFrame:
    """The learning curve of each data set but that of `results`, with the column `data`."""
    names = sorted(set(results.every["data"]) - {results.data})
    curves = {name: Results(results.every, name, results.draw).runs for name in names}
    tables = [learning_curve.curve(runs).assign(data=name) for name, runs in curves.items() if len(runs)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set and number of labels, a column for each recipe."""
    tables = {}
    for name, curve in curves.groupby("data"):
        tables[name] = learning_curve.table(curve).sort_index(ascending=False)
    rows = pd.concat(tables, names=["data set", "labels M"]).fillna("–")
    return rows[sorted(rows.columns, key=order, reverse=True)]


def sentences(curves: pd.DataFrame) -> str:
    """The number of test images of each data set, Markdown."""
    counts = (f"{words.plain(name)}: {words.tested(curve['n_test'])}" for name, curve in curves.groupby("data"))
    return f"Accuracies are on the test images of each data set ({'; '.join(counts)})."


STUDY = Study(
    name="other_sets",
    question="How accurate are the recipes on other data sets?",
    grid=GRID,
    summarize=summarize,
    nothing="No other data set was run.",
    table=table,
    note="Test accuracy in per cent: mean ± standard deviation over seeds (number of seeds).",
    sentences=sentences,
    markers={"other sets": page_table(summarize, table)},
)
