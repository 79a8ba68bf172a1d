"""Do the report's figures hold? What it printed, beside what `published` measures here.

The report trained on MNIST. It prints no accuracy for the numbers of labels beside 6000 that are not in CLAIMS.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..runs.records import Record
from ..runs.spec import Run
from .study import Grid, Results, Study

SIZES = "6000 2000 1000 500 250 50"
GRID = (Grid(SIZES, "published corrected", "0 1 2 3 4"),)
CURVE = {1: 0.8352, 5: 0.9733, 10: 0.9812, 15: 0.9828}  # accuracies by epoch at M = 6000
UNTRAINED = {"accuracy": 0.0997, "nll": 2.3059}
TRAINED_NLL = 0.0622  # at M = 6000
CLAIMS = {500: "“95 plus”", 50: "the lowest; no number"}  # of its sweep over M


def printed_curve(run: Run) -> dict[int, float] | None:
    """The accuracies by epoch that the report prints for this run; None for a run that it does not show."""
    shown = (run.recipe, run.n_labels, run.data) == ("published", 6000, "mnist")
    return CURVE if shown else None


def beside_report(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each figure of the report: `what`, `the report`, and `here` the mean over seeds, in per cent, or nats
    for NLL.
    """
    published = [record for record in records if record.parameters["recipe"] == "published"]
    at = {n: [record for record in published if record.parameters["n_labels"] == n] for n in _sizes(published)}
    by_seed = {record.parameters["seed"]: record.untrained for record in published}  # the same network at every M
    at_6000 = at.get(6000, [])
    rows = [
        _row(
            "untrained, accuracy",
            _percent(UNTRAINED["accuracy"]),
            [metrics["accuracy"] for metrics in by_seed.values()],
        ),
        _row("untrained, NLL", f"{UNTRAINED['nll']:.4f}", [metrics["nll"] for metrics in by_seed.values()], 1.0),
    ]
    for epoch, accuracy in CURVE.items():
        here = [record.test_accuracy[epoch] for record in at_6000 if epoch in record.test_accuracy]
        rows.append(_row(f"M = 6000, after epoch {epoch}", _percent(accuracy), here))
    rows.append(_row("M = 6000, NLL", f"{TRAINED_NLL:.4f}", [record.nll for record in at_6000], 1.0))
    for n, runs in at.items():
        if n != 6000:
            rows.append(_row(f"M = {n}, 50 epochs", CLAIMS.get(n, "no number"), [record.accuracy for record in runs]))
    return pd.DataFrame([row for row in rows if row], columns=["what", "the report", "here"])


def _sizes(records: list[Record]) -> list[int]:
    return sorted({record.parameters["n_labels"] for record in records}, reverse=True)


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f}"


def _row(what: str, printed: str, here: list[float], scale: float = 100.0) -> list[str] | None:
    """A row of the table; None if nothing was measured here."""
    if not here:
        return None
    decimals = 2 if scale == 100 else 4
    spread = f" ± {scale * np.std(here, ddof=1):.{decimals}f}" if len(here) > 1 else ""
    return [what, printed, f"{scale * np.mean(here):.{decimals}f}{spread} ({len(here)})"]


def summarize(results: Results) -> pd.DataFrame:
    """The comparison; no row for another data set than the report's."""
    return beside_report(results.records if results.data == "mnist" else [])


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each figure of the report."""
    return rows.set_index("what")


STUDY = Study(
    name="report_claims",
    question="Do the report's figures hold?",
    grid=GRID,
    summarize=summarize,
    nothing="It takes runs of `published` on MNIST, the only data set of the report.",
    table=table,
    note="Accuracy on MNIST's 10,000 test images in per cent, NLL in nats: mean ± standard deviation (number of seeds).",
    needs_records=True,
)
