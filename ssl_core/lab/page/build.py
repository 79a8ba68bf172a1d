"""From records to what people look at: results.csv, the results notebook and its page."""

import argparse
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ssl_core.datasets import check_name

from ..features import kept
from ..runs import files, records
from ..runs.notebook import FOLDER, RESULTS, Execution, parameter_names
from ..runs.spec import AUTO, current_draw, side_of
from . import html

PAGES = ("results", "label_studies", "ablation", "future_work")  # the notebooks that read a folder of results


def build(
    outputs: Path,
    data: str = "mnist",
    draw: str = "random",
    notebook: Path = RESULTS,
    settings: Mapping[str, float] = MappingProxyType({}),
    **asked: Any,
) -> None:
    """Writes `results.csv` into `outputs`, the executed notebook beside it, and the notebook as a page.

    LookupError if no run is finished. The table has every finished run; the notebook and the page show those of
    one data set and one way to draw the labels, `asked` for by side, features from elsewhere and precision. `settings` are
    other parameters of the notebook, prices for one. Of a folder that has no runs, but a `results.csv` that tells of some, the
    page shows these.
    """
    run_records = records.read_all(outputs)
    results = records.results(outputs, run_records)
    if records.comparable(results, data, draw, **asked).empty:
        raise LookupError(records.nothing_to_show(results, data, draw, outputs))
    if run_records:
        records.write_table(outputs / "results.csv", results)
    else:
        print(f"no run is in {outputs}: the page is of the table alone that is there")
    executed = outputs / notebook.name
    parameters: dict[str, object] = {"outputs": str(outputs), "data": data, "draw": draw, **asked}
    known = parameter_names(notebook)  # a page of studies has what they ask for
    Execution(notebook, executed, {name: parameters[name] for name in parameters if name in known} | dict(settings)).run()
    page = executed.with_suffix(".html")
    files.write_atomically(page, html.as_page(executed))
    print(f"{len(results)} run{'s' * (len(results) != 1)} in {outputs / 'results.csv'}; the page is {page}")


def read_settings(text: str, notebook: Path) -> dict[str, float]:
    """`name=number` pairs, separated by blanks; ValueError for a name that the notebook does not have, or no number."""
    asked = ("outputs", "data", "draw", "side", "features", "precision")
    names = [name for name in parameter_names(notebook) if name not in asked]
    settings = {}
    for pair in text.split():
        name, _, value = pair.partition("=")
        if name not in names:
            raise ValueError(f"SET={pair!r}: must be a name of {', '.join(names) or 'none'}, and = with a number")
        try:
            settings[name] = float(value)
        except ValueError:
            raise ValueError(f"SET={pair!r}: must be a number after the =") from None
        if not (isfinite(settings[name]) and settings[name] >= 0):
            raise ValueError(f"SET={pair!r}: must be a finite number from 0 after the =")
    return settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outputs", default="outputs", help="the folder of results, from the project's root")
    parser.add_argument("--data", default="mnist", help="the data set that the page is about")
    parser.add_argument("--draw", default="random", help="how the labelled images were selected")
    parser.add_argument("--side", default="", help="the side of its images in pixels, of runs for which one was asked for")
    parser.add_argument("--features", default="", help="features from elsewhere, as `sweep` was given them")
    parser.add_argument("--precision", default=AUTO, help="precision that was asked for: auto, float32 or bfloat16")
    parser.add_argument(
        "--notebook", default="results", help="the page's notebook: results, label_studies, ablation or future_work"
    )
    parser.add_argument("--set", default="", help="parameters of the notebook: wage_per_hour=30 target_accuracy=0.995")


def command(args: argparse.Namespace) -> None:
    if args.notebook not in PAGES:
        raise ValueError(f"notebook={args.notebook!r}: must be one of {', '.join(PAGES)}")
    notebook = FOLDER / f"{args.notebook}.ipynb"
    settings = read_settings(args.set, notebook)
    data = files.located(args.data)
    check_name(data)
    draw, side = current_draw(args.draw), side_of(data, args.side)
    features = args.features if kept.is_name(args.features) else kept.prepare(args.features, data)
    asked = {"side": side, "features": features, "precision": args.precision}
    build(files.outputs(args.outputs), data, draw, notebook, settings, **asked)
