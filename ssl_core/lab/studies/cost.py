"""What do labels, computing and mistakes cost, and which number of labels is the cheapest in total?

Money is in the unit of the prices.
"""

from dataclasses import dataclass, fields
from math import isfinite

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from . import intervals, learning_curve, words
from .study import Results, Study
from .style import label_axis, new_figure, order, style


@dataclass(frozen=True)
class Prices:
    """The prices. Raises ValueError for one that is negative or not finite."""

    seconds_per_label: float = 5.0  # to look at an image, choose one of ten keys, and check now and then
    wage_per_hour: float = 20.0  # of the person who labels
    compute_per_hour: float = 0.05  # of one processor core, rented
    cost_per_error: float = 0.1  # of one misclassified image, later: about half a minute of somebody's time
    future_images: float = 10_000  # that the trained network will classify

    def __post_init__(self):
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, int | float) or not isfinite(value) or value < 0:
                raise ValueError(f"{each.name}={value!r}: must be a finite number from 0")

    @property
    def label(self) -> float:
        """The price of one label."""
        return self.seconds_per_label / 3600 * self.wage_per_hour


def read_prices(*prices: float) -> tuple[Prices | None, str]:
    """The prices, in the order of their fields, and ""; or None and, in Markdown, why they cannot be used."""
    try:
        return Prices(*prices), ""
    except ValueError as error:
        return None, f"**No costs:** {error}"


def costs(runs: pd.DataFrame, prices: Prices) -> pd.DataFrame:
    """Per recipe and number of labels: the cost of `labels`, `computing` and `errors`, and their `total`; means of `n`
    seeds.

    `next tenth` is the cost in labels of 0.1 points, on the way from the size before; NaN where that step gained
    nothing.
    """
    grouped = runs.groupby(["recipe", "n_labels"])
    columns = {"accuracy": ("accuracy", "mean"), "seconds": ("seconds", "mean"), "n": ("seed", "nunique")}
    table = grouped.agg(**columns, n_test=("n_test", "min")).reset_index()
    table["labels"] = table["n_labels"] * prices.label
    table["computing"] = table["seconds"] / 3600 * prices.compute_per_hour
    table["errors"] = (1 - table["accuracy"]) * prices.future_images * prices.cost_per_error
    table["total"] = table["labels"] + table["computing"] + table["errors"]
    steps = table.groupby("recipe")[["labels", "accuracy"]].diff()
    table["next tenth"] = (steps["labels"] / (1000 * steps["accuracy"])).where(steps["accuracy"] > 0)
    return table


def best_value(runs: pd.DataFrame, prices: Prices, level: float = 0.9) -> dict[str, dict]:
    """By recipe: the number of labels with the lowest total, that `total`, and an interval for other seeds and test images.

    `low` and `high` bound the cheapest size over the samples of `intervals.resampled`.
    """
    answers, images = {}, learning_curve.n_test(runs)
    for recipe, rows in runs.groupby("recipe"):
        table = costs(rows, prices)
        cheapest = table.loc[table["total"].idxmin()]
        sizes, fixed = table["n_labels"].to_numpy(), (table["labels"] + table["computing"]).to_numpy()
        accuracies = intervals.resampled([rows.loc[rows["n_labels"] == n, "accuracy"].to_numpy() for n in sizes], images)
        totals = fixed[:, None] + (1 - accuracies) * prices.future_images * prices.cost_per_error
        choices = sizes[totals.argmin(axis=0)]
        low, high = np.quantile(choices, [(1 - level) / 2, (1 + level) / 2], method="nearest")
        value, total = int(cheapest["n_labels"]), float(cheapest["total"])
        answers[recipe] = {"value": value, "low": int(low), "high": int(high), "total": total}
    return answers


def summarize(results: Results, prices: Prices | None = None) -> pd.DataFrame:
    """The costs of the comparable runs; no row without prices."""
    return costs(results.runs, prices) if prices else pd.DataFrame()


def table(costs: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe and number of labels."""
    rows = costs.set_index(["recipe", "n_labels"]).drop(columns=["seconds", "n", "n_test"]).rename_axis(["recipe", "labels M"])
    return rows.map(lambda value: "–" if np.isnan(value) else f"{value:.3f}")


def figure(costs: pd.DataFrame) -> Figure:
    """The total cost over the number of labels, a line for each recipe, its minimum marked."""
    drawn, ((axis,),) = new_figure(7.5, 4.2)
    for recipe in sorted(costs["recipe"].unique(), key=order):
        rows = costs[costs["recipe"] == recipe]
        axis.plot(rows["n_labels"], rows["total"], label=recipe, **style(recipe))
        cheapest = rows.loc[rows["total"].idxmin()]
        ring = {"markersize": 15, "fillstyle": "none", "color": style(recipe)["color"]}
        axis.plot(cheapest["n_labels"], cheapest["total"], "o", **ring)
    few = costs["total"].max() < 100 * costs["labels"].min()  # powers of ten, too few for ticks
    labels = costs.drop_duplicates("n_labels").sort_values("n_labels")
    axis.plot(labels["n_labels"], labels["labels"], color="black", linewidth=1, label="the labels alone")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda money, _: f"{money:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda money, _: f"{money:g}" if few and f"{money:e}"[0] in "235" else ""))
    label_axis(axis, costs["n_labels"])
    axis.set_ylabel("total cost (in the unit of the prices)")
    counts = f"means of {words.seeds(costs['n'])}, {words.tested(costs['n_test'])}"
    axis.set_title(f"Total cost by number of labels ({counts}); a ring marks the cheapest", fontsize=11)
    axis.legend()
    return drawn


STUDY = Study(
    name="cost",
    question="What does it cost?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing="The prices cannot be used, so there are no costs.",
    table=table,
    note="In the unit of the prices. *next tenth*: the cost in labels of 0.1 points, on the way from the size before.",
    figure=figure,
    reading="On the left most of the money pays for mistakes, on the right for labels (the thin line). The ring marks"
    " the cheapest size that was run. The further apart the rings of two recipes are, the more the choice of "
    "the recipe is worth.",
)
