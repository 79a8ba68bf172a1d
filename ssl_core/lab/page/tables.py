"""The generated tables of the pages, in Markdown, from a table of runs."""

import numpy as np
import pandas as pd

from ssl_core import recipes

from ..studies import budget, labels, plots

# The highest published accuracies on MNIST with so many labels, larger networks and GANs included; the README names the sources.
OTHERS_BEST = {
    "60000": "99.64",
    "1000": "99.26 ± 0.03",
    "100": "99.21 ± 0.10",
    "50": "98.94 ± 0.48",
    "20, two a class": "97.5 ± 2.4",
    "10, one a class": "96.5 ± 2.6",
}
FEW = {10: "10, one a class", 20: "20, two a class"}  # labels, of which there are as many of each class in the README's table


def page_tables(results: pd.DataFrame) -> dict[str, str]:
    """The README's tables, Markdown, by the name of their place in it; entries are mean ± std (seeds), in per cent or points."""
    of_recipes, digits = ~results["recipe"].isin(recipes.ABLATIONS), results["data"] == "mnist"
    at_random, balanced = results["draw"] == "random", results["draw"] == "class-balanced"
    all_labels, right_labels = results["fold"] == 0, results["label_noise"] == 0
    plain = of_recipes & all_labels & right_labels
    # Ten or twenty random images seldom show all ten digits: of so few the table has as many of each class.
    shown = plain & (results["draw"] == np.where(results["n_labels"] <= max(FEW), "class-balanced", "random"))
    special = of_recipes & digits & at_random
    return {
        "results": _by_labels(results[shown & digits]),
        "other sets": _by_set(results[shown & ~digits]),
        "ablation": _markdown(budget.ablation_table(budget.ablation(results[digits & at_random & all_labels & right_labels]))),
        "draws": _by_draw(results[plain & digits & ~balanced]),
        "wrong labels": _by_wrong_labels(results[special & all_labels]),
        "folds": _by_folds(results[special & right_labels]),
    }


def _by_set(results: pd.DataFrame) -> str:
    """A row for each data set and number of labels; a column for each recipe."""
    if results.empty:
        return ""
    tables = {name: budget.accuracy_table(budget.curve(of_one)) for name, of_one in results.groupby("data", sort=False)}
    rows = {f"`{name}`, {n}": table.loc[n] for name, table in tables.items() for n in sorted(table.index, reverse=True)}
    table = pd.DataFrame(rows).T.fillna("–").rename_axis("data set, labels M")
    return _markdown(table[sorted(table.columns, key=plots.order, reverse=True)])


def _by_labels(results: pd.DataFrame) -> str:
    """A row for each number of labels, from the most; a column for each recipe; last, the seconds that a run takes."""
    if results.empty:
        return ""
    curve = budget.curve(results)
    table = budget.accuracy_table(curve).sort_index(ascending=False)
    names = sorted(table.columns, key=plots.order, reverse=True)
    table = table[names].rename(index=lambda n: FEW.get(n, str(n)))
    seconds = results.groupby("recipe")["seconds"].median()
    table.loc["seconds"] = [f"{seconds[name]:.0f}" for name in names]
    if (results["data"] == "mnist").all():
        printed = {"6000": "98.28", "500": "“95 plus”", "50": "“the lowest”"}
        table.insert(0, "the report prints", [printed.get(n, "–") for n in table.index])
        table["others' best"] = [OTHERS_BEST.get(n, "–") for n in table.index]
    return _markdown(table.rename_axis("labels M"))


def _by_draw(results: pd.DataFrame) -> str:
    """A row for each number of labels, a column for each recipe and way to draw them."""
    table = labels.draw_table(labels.by_draw(results)).unstack("recipe").swaplevel(axis=1)
    table = table.rename(columns=_code()).sort_index(axis=1, ascending=False)
    table.columns = [", ".join(names) for names in table.columns]
    return _markdown(table.fillna("–"))


def _by_wrong_labels(results: pd.DataFrame) -> str:
    """A row for each share of wrong labels, a column for each recipe and number of labels."""
    table = labels.label_noise_table(labels.by_label_noise(results))
    code = _code()
    columns = {name: ", ".join([code[name.split(", ")[0]], *name.split(", ")[1:]]) for name in table.columns}
    return _markdown(table.rename(columns=columns))


def _by_folds(results: pd.DataFrame) -> str:
    """A row for each recipe and number of labels: the accuracy estimated from the labels alone, and the truth."""
    table = labels.cross_validation_table(labels.cross_validated(results)).rename(index=_code())
    table.index = pd.Index([", ".join(map(str, names)) for names in table.index], name="recipe, labels M")
    return _markdown(table)


def _code() -> dict[str, str]:
    """The names of recipes as code."""
    return {name: f"`{name}`" for name in recipes.RECIPES | recipes.ABLATIONS}


def _markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, its recipes as code."""
    if table.empty:
        return ""
    table = table.rename(columns=_code(), index=_code())
    lines = [[table.index.name, *map(str, table.columns)], ["---:"] * (1 + table.shape[1])]
    lines += [[str(name), *row] for name, row in table.iterrows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
