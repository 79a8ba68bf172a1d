"""The runs themselves: a list with links to their notebooks, and those whose draw missed a class."""

from collections.abc import Iterable

import pandas as pd

from ssl_core.datasets import describe
from ssl_core.datasets.tables import counted

from ..runs.records import Record
from ..runs.spec import Run
from .study import Results
from .words import percent


def run_list(results: Results) -> str:
    """Every comparable run as a table in Markdown; with a link to its notebook if its record is there."""
    linked = bool(results.records)
    lines = ["| labels M | recipe | seed | accuracy | seconds |", "| ---: | --- | ---: | ---: | ---: |"]
    lines = [f"{line} {cell} |" for line, cell in zip(lines, ("notebook", "---"), strict=True)] if linked else lines
    for row in pd.concat([results.runs, results.clustered]).sort_values(["n_labels", "recipe", "seed"]).itertuples():
        line = f"| {row.n_labels} | {row.recipe} | {row.seed} | {100 * row.accuracy:.2f} % | {row.seconds:.0f} |"
        more = {"n_clusters": row.n_clusters, "side": row.side, "features": row.features, "precision": row.precision}
        run = Run(row.n_labels, row.recipe, row.seed, row.data, row.draw, **more)
        lines.append(f"{line} [as it ran]({run}/train.ipynb) |" if linked else line)
    return "\n".join(lines)


def scope_sentence(results: Results) -> str:
    """The number of smoke runs, and of finished runs that are not comparable, Markdown; "" if none."""
    sentences = []
    if n_smoke := sum(record.smoke for record in results.records):
        are, metrics = ("are smoke runs", "their metrics") if n_smoke > 1 else ("is a smoke run", "its metrics")
        sentences.append(f"**{n_smoke} of these {are} of a few steps: {metrics} mean nothing.**")
    if results.left_out:
        reasons = "of other data, selections, recipes or code, or with label noise or withheld folds"
        sentences.append(f"*Not counted here: {counted(results.left_out, 'other run')} ({reasons}).*")
    return "\n\n".join(sentences)


def missing_sentence(runs: pd.DataFrame) -> str:
    """The number of runs without a label of some class, Markdown."""
    return f"{(runs['missing_classes'] > 0).sum()} of {len(runs)} runs had no label of at least one class."


def missing_table(records: Iterable[Record]) -> pd.DataFrame:
    """The runs whose draw left a class without a label."""
    rows = []
    for record in records:
        classes = describe(record.parameters["data"], side=record.parameters.get("side", 0)).classes
        if missing := ", ".join(classes[c] for c in record.missing_classes):
            rows.append({**record.parameters, "without a label": missing, "accuracy": percent(record.accuracy)})
    columns = ["n_labels", "recipe", "seed", "without a label", "accuracy"]
    return pd.DataFrame(rows, columns=columns).set_index("n_labels").rename_axis(index="labels M")
