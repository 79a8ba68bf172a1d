"""From records to what people look at: results.csv, the results notebook and its page; the README's figure and table."""

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from ssl_core import recipes

from . import budget, html, labels, places, plots, runs

RESULTS, ABLATION = (runs.ROOT / "notebooks" / f"{name}.ipynb" for name in ("results", "ablation"))
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


def build(
    outputs: Path,
    data: str = "mnist",
    draw: str = "random",
    notebook: Path = RESULTS,
    settings: Mapping[str, float] = MappingProxyType({}),
) -> bool:
    """Writes `results.csv` into `outputs`, the executed notebook beside it, and the notebook as a page.

    False, with a message, if no run is finished. The table has every finished run; the notebook and the page show those of
    one data set and one way to draw the labels. `settings` are other parameters of the notebook, prices for one. Of a folder
    that has no runs, but a `results.csv` that tells of some, the page shows these.
    """
    records = runs.records(outputs)
    results = runs.results(outputs, records)
    if runs.comparable(results, data, draw).empty:
        print(f"no finished run of data={data!r}, draw={draw!r} in {outputs}: `make sweep` makes them", file=sys.stderr)
        return False
    if records:
        runs.write_atomically(outputs / "results.csv", results.to_csv(index=False))
    else:
        print(f"no run is in {outputs}: the page is of the table alone that is there")
    executed = outputs / notebook.name
    command = runs.papermill(notebook, executed, {"outputs": str(outputs), "data": data, "draw": draw, **settings})
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{notebook.name} failed, see {executed}: {places.last_error(done.stdout.splitlines())}")
    page = executed.with_suffix(".html")
    runs.write_atomically(page, html.as_page(executed))
    print(f"{len(results)} runs in {outputs / 'results.csv'}; the page is {page}")
    return True


def readme_tables(results: pd.DataFrame) -> dict[str, str]:
    """The README's tables, Markdown, by the name of their place in it; entries are mean ± std (seeds), in per cent or points."""
    of_recipes, digits = ~results["recipe"].isin(recipes.ABLATIONS), results["data"] == "mnist"
    at_random, one_of_each = results["draw"] == "random", results["draw"] == "stratified"
    all_labels, right_labels = results["fold"] == 0, results["wrong_labels"] == 0
    plain = of_recipes & all_labels & right_labels
    # Ten or twenty random images seldom show all ten digits: of so few the table has as many of each class.
    shown = plain & (results["draw"] == np.where(results["n_labels"] <= max(FEW), "stratified", "random"))
    special = of_recipes & digits & at_random
    return {
        "results": _by_labels(results[shown & digits]),
        "other sets": _by_set(results[shown & ~digits]),
        "ablation": _markdown(budget.ablation_table(budget.ablation(results[digits & at_random & all_labels & right_labels]))),
        "draws": _by_draw(results[plain & digits & ~one_of_each]),
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
    table = labels.wrong_labels_table(labels.by_wrong_labels(results))
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


def refer(outputs: Path) -> None:
    """Renews the reference that the README shows, from the finished runs: its rows, its figures, and the README's tables.

    Rows of runs that are not in `outputs` stay if today's code would make the same: the reference can grow in several sittings.
    """
    folder = runs.ROOT / "outputs" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    results = pd.concat([runs.table(runs.records(outputs)), runs.read_table(folder / "results.csv")], ignore_index=True)
    results = results[results["current"].astype(bool)].drop(columns="current")
    identity = ["data", "recipe", "draw", "n_labels", "wrong_labels", "fold", "seed"]
    results = results.drop_duplicates(identity).sort_values(identity)
    runs.write_atomically(folder / "results.csv", results.to_csv(index=False, float_format="%.6g"))
    plain = (results["wrong_labels"] == 0) & (results["fold"] == 0)
    digits = results[plain & (results["data"] == "mnist") & (results["draw"] == "random")]
    curve = budget.curve(digits[digits["recipe"].isin(recipes.RECIPES)])
    plots.accuracy_by_labels(curve).savefig(folder / "accuracy.png", dpi=150)
    if len(ablation := budget.ablation(digits)):
        plots.ablation(ablation).savefig(folder / "ablation.png", dpi=150)
    place(readme_tables(results))


def place(texts: Mapping[str, str]) -> None:
    """Puts each text into the README, between the two comments that name its place; a place that is not there is passed over."""
    readme = runs.ROOT / "README.md"
    text = readme.read_text()
    for name, given in texts.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text = marked.sub(lambda m, given=given: f"{m[1]}{given}\n{m[2]}", text)
    runs.write_atomically(readme, text)


def read_settings(text: str, notebook: Path) -> dict[str, float]:
    """`name=number` pairs, separated by blanks; ValueError for a name that the notebook does not have, or no number."""
    known = [name for name in runs.parameter_names(notebook) if name not in ("outputs", "data", "draw")]
    found = {}
    for pair in text.split():
        name, _, value = pair.partition("=")
        if name not in known:
            raise ValueError(f"SET={pair!r}: allowed is a name of {', '.join(known) or 'none'}, and = with a number")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"SET={pair!r}: allowed is a number after the =") from None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ssl_core.lab.page", description=__doc__)
    parser.add_argument("--outputs", default="outputs", help="the folder of results, from the project's root")
    parser.add_argument("--data", default="mnist", help="the data set that the page is about")
    parser.add_argument("--draw", default="random", help="how the labelled images were drawn")
    parser.add_argument("--ablation", action="store_true", help="what each ingredient is worth, instead of all results")
    parser.add_argument("--reference", action="store_true", help="also renew outputs/reference and the README's table")
    parser.add_argument("--set", default="", help="parameters of the notebook: wage_per_hour=30 target_accuracy=0.995")
    given = parser.parse_args()
    notebook = ABLATION if given.ablation else RESULTS
    try:
        settings = read_settings(given.set, notebook)
    except ValueError as error:
        sys.exit(f"results: {error}")
    try:
        if not build(runs.ROOT / given.outputs, runs.located(given.data), given.draw, notebook, settings):
            sys.exit(1)
        if given.reference:
            refer(runs.ROOT / given.outputs)
            build(runs.ROOT / "outputs" / "reference")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"results: {error}")


if __name__ == "__main__":
    main()
