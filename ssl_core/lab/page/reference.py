"""The command `reference`: makes everything that the pages show, and renews the reference from it.

A run that is finished in the outputs folder is kept, so that the command can be interrupted and repeated.
"""

import argparse
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from ..runs import files, records
from ..runs.fingerprint import fingerprint
from ..studies import registry
from ..studies.study import Grid, Results
from . import sweep_and_build
from .tables import page_tables

PAGES = (files.ROOT / "README.md", files.REFERENCE / "README.md")  # that have places for generated tables
ORDER = ("data", "recipe", "draw", "n_labels", "label_noise", "fold", "seed")  # of the rows


def renew(outputs: Path) -> None:
    """Renews the reference from the finished runs in `outputs`: its rows, its figures, and the tables of the pages.

    Rows of runs that are not in `outputs` stay if today's code would make the same, so the reference can grow in
    several sittings.
    """
    folder = files.REFERENCE
    folder.mkdir(parents=True, exist_ok=True)
    found = [record for record in records.read_all(outputs) if not record.smoke]
    tables = [records.table(found), records.read_table(folder / "results.csv")]
    results = pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
    results = results[results["current"].astype(bool)].drop(columns="current")
    results = results.drop_duplicates(list(records.PARAMETERS))
    records.write_table(table := folder / "results.csv", results, order=ORDER, float_format="%.6g")
    results = records.read_table(table)  # rounded, as the pages are compared with it
    draw_pictures(results, folder)
    place(page_tables(results))


def draw_pictures(results: pd.DataFrame, folder: Path) -> None:
    """Writes the figures of the studies that have a `picture` into `folder`."""
    reference = Results(results.assign(current=True))
    for study in registry.studies().values():
        if study.picture and study.figure and len(summary := study.summarize(reference)):
            study.figure(summary).savefig(folder / study.picture, dpi=150)


def place(texts: Mapping[str, str]) -> None:
    """Puts each text between the two comments that name its place, on every page that has that place."""
    for page in PAGES:
        if page.exists():
            text = page.read_text()
            for name, content in texts.items():
                marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
                text = marked.sub(partial(_between, content), text)
            files.write_atomically(page, text)


def _between(content: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}{content}\n{marks[2]}"


def overview(names: list[str], outputs: Path) -> str:
    """The grids of these studies, and how many of their runs are finished in `outputs` and in the reference."""
    table = records.read_table(files.REFERENCE / "results.csv")
    kept = set(table.loc[table["current"].astype(bool), "fingerprint"])
    lines: list[str] = []
    owners: dict[tuple[Grid, ...], str] = {}  # of a grid, the study that has it first
    for name in names:
        study = registry.get(name)
        owner = owners.setdefault(tuple(study.grid), name)
        lines.append(f"{name}: {study.question}" + ("" if owner == name else f" (the runs of {owner})"))
        for grid in study.grid if owner == name else ():
            values = [
                f"{key.upper()}={value!r}" for key, value in vars(grid).items() if value != getattr(grid.__class__, key, None)
            ]
            lines.append(f"  {len(registry.grid_runs(grid)):4} runs: {' '.join(values)}")
    runs = registry.runs(names)
    finished = sum(records.finished(run, outputs) for run in runs)
    rows = sum(fingerprint(run) in kept for run in runs)
    return "\n".join([*lines, f"{len(runs)} different runs: {finished} finished in {outputs}, {rows} in the reference"])


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", nargs="+", default=[], metavar="NAME", help="only the runs of these studies")
    parser.add_argument("--dry-run", action="store_true", help="print the grids and how many runs are finished, and stop")
    parser.add_argument("--no-training", action="store_true", help="renew the reference from the runs that are finished")
    sweep_and_build.configure_machine(parser)


def command(args: argparse.Namespace) -> None:
    names, outputs = args.study or list(registry.studies()), files.outputs(args.outputs)
    if args.dry_run:
        print(overview(names, outputs))
        return

    def then() -> None:
        renew(outputs)
        sweep_and_build.build_pages(files.REFERENCE, registry.notebooks(names), "mnist", "random")

    if args.no_training:
        then()
    else:
        sweep_and_build.run_grid(registry.runs(names), args, then)
