"""How accurate are the recipes on other data sets than that of the page?"""

from itertools import product

import pandas as pd

from . import learning_curve, words
from .study import Grid, Results, Study, page_table
from .style import order

BALANCED = "class-balanced"
RECIPES, SEEDS = "supervised best", "0 1 2"
GRID = (
    Grid("1000 250", RECIPES, SEEDS, data="fashion-mnist"),
    Grid("50", RECIPES, SEEDS, data="digits"),
    Grid("250", RECIPES, SEEDS, data="mnist-few-eights"),
    Grid("250", RECIPES, SEEDS, data="mnist-and-clothes"),
)


def summarize(results: Results) -> pd.DataFrame:
    """The learning curves of each data set but that of `results`, with the columns `data` and `draw`."""
    names = sorted(set(results.every["data"]) - {results.data})
    parts = product(names, dict.fromkeys((results.draw, BALANCED)))
    curves = {(name, draw): Results(results.every, name, draw).runs for name, draw in parts}
    tables = [learning_curve.curve(runs).assign(data=name, draw=draw) for (name, draw), runs in curves.items() if len(runs)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, selection and number of labels, a column for each recipe."""
    tables = {}
    for names, curve in curves.groupby(["data", "draw"]):
        tables[names] = learning_curve.table(curve).sort_index(ascending=False)
    rows = pd.concat(tables, names=["data set", "selection", "labels M"]).fillna("–")
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
