"""The reference: what the pages show, renewed from finished runs."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ssl_core import recipes

from ..runs import files, records
from ..studies import budget, plots
from .build import build
from .tables import page_tables

PAGES = (files.ROOT / "README.md", files.REFERENCE / "README.md")  # that have places for generated tables


def refer(outputs: Path) -> None:
    """Renews the reference that the README shows, from the finished runs: its rows, its figures, and the README's tables.

    Rows of runs that are not in `outputs` stay if today's code would make the same: the reference can grow in several sittings.
    """
    folder = files.REFERENCE
    folder.mkdir(parents=True, exist_ok=True)
    results = pd.concat([records.table(records.read_all(outputs)), records.read_table(folder / "results.csv")], ignore_index=True)
    results = results[results["current"].astype(bool)].drop(columns="current")
    identity = ["data", "recipe", "draw", "n_labels", "label_noise", "fold", "seed"]
    results = results.drop_duplicates(identity).sort_values(identity)
    records.write_table(folder / "results.csv", results, "%.6g")
    plain = (results["label_noise"] == 0) & (results["fold"] == 0)
    digits = results[plain & (results["data"] == "mnist") & (results["draw"] == "random")]
    curve = budget.curve(digits[digits["recipe"].isin(recipes.RECIPES)])
    plots.accuracy_by_labels(curve).savefig(folder / "accuracy.png", dpi=150)
    if len(ablation := budget.ablation(digits)):
        plots.ablation(ablation).savefig(folder / "ablation.png", dpi=150)
    place(page_tables(results))


def place(texts: Mapping[str, str]) -> None:
    """Puts each text between the two comments that name its place, on every page that has that place."""
    for page in PAGES:
        if page.exists():
            text = page.read_text()
            for name, content in texts.items():
                marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
                text = marked.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
            files.write_atomically(page, text)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outputs", default="outputs", help="the folder of results, from the project's root")


def command(args: argparse.Namespace) -> None:
    refer(files.ROOT / args.outputs)
    build(files.REFERENCE)
