"""What labels, computing and mistakes cost, and which number of labels is the cheapest in all.

Money is in whatever unit the prices are given in. `results` is the table of `runs.table`.
"""

from dataclasses import dataclass, fields
from math import isfinite

import numpy as np
import pandas as pd

RESAMPLES = 1000


@dataclass(frozen=True)
class Prices:
    """What things cost. Raises ValueError for a price that is negative or not finite."""

    seconds_per_label: float = 5.0  # to look at an image, choose one of ten keys, and look again now and then
    wage_per_hour: float = 20.0  # of the person who labels
    compute_per_hour: float = 0.05  # of one processor core, rented
    cost_per_error: float = 0.1  # what one misread image costs later, say half a minute of somebody's time
    future_images: float = 10_000  # how many images the trained network will read

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or not isfinite(value) or value < 0:
                raise ValueError(f"{field.name}={value!r}: must be a finite number from 0")

    @property
    def label(self) -> float:
        return self.seconds_per_label / 3600 * self.wage_per_hour


def costs(results: pd.DataFrame, prices: Prices) -> pd.DataFrame:
    """Per recipe and number of labels: what `labels`, `computing` and `errors` cost, and in all, `total`; means of `n` seeds."""
    grouped = results.groupby(["recipe", "n_labels"])
    table = grouped.agg(accuracy=("accuracy", "mean"), seconds=("seconds", "mean"), n=("seed", "nunique")).reset_index()
    table["labels"] = table["n_labels"] * prices.label
    table["computing"] = table["seconds"] / 3600 * prices.compute_per_hour
    table["errors"] = (1 - table["accuracy"]) * prices.future_images * prices.cost_per_error
    table["total"] = table["labels"] + table["computing"] + table["errors"]
    # Of what a tenth of a point costs on the way from the size before, where the step gained anything.
    steps = table.groupby("recipe")[["labels", "accuracy"]].diff()
    table["next tenth"] = (steps["labels"] / (1000 * steps["accuracy"])).where(steps["accuracy"] > 0)
    return table


def best_value(results: pd.DataFrame, prices: Prices, level: float = 0.9) -> dict[str, dict]:
    """By recipe: the number of labels that was cheapest in all, its `total`, and what it might have been with other seeds.

    `low` and `high` bound the cheapest sizes of 1000 tables whose seeds are drawn again, size by size, with replacement; they
    are the value itself where every size has one seed.
    """
    found = {}
    for recipe, rows in results.groupby("recipe"):
        table = costs(rows, prices)
        cheapest = table.loc[table["total"].idxmin()]
        sizes, fixed = table["n_labels"].to_numpy(), (table["labels"] + table["computing"]).to_numpy()
        errors = [resampled(1 - rows.loc[rows["n_labels"] == n, "accuracy"].to_numpy()) for n in sizes]
        totals = fixed[:, None] + np.array(errors) * prices.future_images * prices.cost_per_error
        choices = sizes[totals.argmin(axis=0)]
        low, high = np.quantile(choices, [(1 - level) / 2, (1 + level) / 2], method="nearest")
        value, total = int(cheapest["n_labels"]), float(cheapest["total"])
        found[recipe] = {"value": value, "low": int(low), "high": int(high), "total": total}
    return found


def resampled(values: np.ndarray) -> np.ndarray:
    """Means (RESAMPLES,) of `values` drawn again with replacement: the bootstrap, the same draws every time."""
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return np.asarray(values)[draws].mean(axis=1)
