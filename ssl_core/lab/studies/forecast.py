"""What do a few hundred labels predict about a few thousand?

A saturating power law (intervals.Forecast) is fitted to the small sizes and compared with the runs of the larger ones.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_core.datasets import describe

from . import learning_curve, words
from .intervals import Estimate, Forecast
from .study import Results, Study
from .style import drawn_error, error_axis, label_axis, new_figure, order, style

FORECAST_FROM = 500  # labels: the forecast that checks itself is fitted to runs with at most so many
LEVEL = 0.9  # of the intervals


def accuracies(runs: pd.DataFrame, recipe: str) -> dict[int, np.ndarray]:
    """The accuracies of one recipe, one per seed, by number of labels, ascending."""
    rows = runs[runs["recipe"] == recipe]
    return {int(n): group["accuracy"].to_numpy() for n, group in rows.groupby("n_labels", sort=True)}


def covered(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that had a label of every class; the others follow another law."""
    return runs[runs["missing_classes"] == 0]


def fitted(runs: pd.DataFrame, recipe: str, most: int = FORECAST_FROM) -> Forecast:
    """The law fitted to runs of `recipe` with at most `most` labels; ValueError for fewer than three sizes."""
    small = {n: values for n, values in accuracies(runs, recipe).items() if n <= most}
    return Forecast(small, learning_curve.n_test(runs))


def forecast(runs: pd.DataFrame, recipe: str) -> dict:
    """The forecast for sizes that were not run, and its check on sizes that were; for answers.json.

    `check`: fitted to at most FORECAST_FROM labels, the prediction for each larger size beside the measurement.
    `beyond`: fitted to all sizes, the accuracy at two and four times the largest. `next_100`: the gain of 100 more
    labels.

    Raises ValueError for fewer than three sizes.
    """
    runs = covered(runs)
    measured, tested = accuracies(runs, recipe), learning_curve.n_test(runs)
    whole = Forecast(measured, tested)
    check = checked(runs, recipe).set_index("n_labels")[["value", "low", "high", "measured", "inside"]]
    largest = max(measured)
    n_images = describe(runs["data"].iloc[0]).n_images
    beyond = {n: _interval(whole.accuracy(n, LEVEL)) for n in (2 * largest, 4 * largest) if n <= n_images}
    return {
        "check": check.to_dict("index"),
        "beyond": beyond,
        "next_100": {n: _interval(whole.gain(n, 100, LEVEL)) for n in measured},
    }


def checked(runs: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """A row for each size that the small ones predict: `value`, `low`, `high`, the `measured` mean, and `inside`.

    No row if there are fewer than three small sizes.
    """
    measured, rows = accuracies(runs, recipe), []
    if sum(n <= FORECAST_FROM for n in measured) >= 3:
        law = fitted(runs, recipe)
        for n, values in measured.items():
            if n > FORECAST_FROM:
                guess, mean = law.run(n, len(values), LEVEL), float(values.mean())
                rows.append([recipe, n, guess.mean, guess.low, guess.high, mean, bool(guess.low <= mean <= guess.high)])
    return pd.DataFrame(rows, columns=["recipe", "n_labels", "value", "low", "high", "measured", "inside"])


def summarize(results: Results) -> pd.DataFrame:
    """The runs with a label of every class, of recipes with three sizes to fit the law and a larger one to check it."""
    runs = covered(results.runs)
    names = [recipe for recipe in runs["recipe"].unique() if len(checked(runs, recipe))]
    return runs[runs["recipe"].isin(names)]


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """The check: a row for each recipe and size, per cent."""
    names = sorted(runs["recipe"].unique(), key=order)
    rows = []
    for row in pd.concat([checked(runs, recipe) for recipe in names]).itertuples():
        guess = Estimate(row.value, row.low, row.high, 0).percent()
        rows.append([row.recipe, row.n_labels, guess, f"{100 * row.measured:.2f}", "yes" if row.inside else "no"])
    columns = ["recipe", "labels M", f"forecast ({100 * LEVEL:g} % interval)", "measured", "inside"]
    return pd.DataFrame(rows, columns=columns).set_index("recipe")


def figure(runs: pd.DataFrame) -> Figure:
    """The runs, and the law fitted to the small sizes with its interval; a panel for each recipe."""
    names = sorted(runs["recipe"].unique(), key=order)
    drawn, axes = new_figure(7.5, 3.6 * len(names), len(names), sharex=True)
    for axis, recipe in zip(axes.flat, names, strict=True):
        _draw(axis, runs, recipe)
    return drawn


def _draw(axis: Axes, runs: pd.DataFrame, recipe: str) -> None:
    measured, law = accuracies(runs, recipe), fitted(runs, recipe)
    sizes, color = np.geomspace(min(measured), max(measured), 25), style(recipe)["color"]
    guesses = [law.accuracy(n, LEVEL) for n in sizes]
    low, middle, high = (drawn_error([getattr(guess, name) for guess in guesses], law.n_test) for name in ("low", "mean", "high"))
    axis.fill_between(sizes, low, high, color=color, alpha=0.2, label=f"{100 * LEVEL:g} % interval")
    axis.plot(sizes, middle, color=color, label="forecast")
    for n, values in measured.items():
        fill = "full" if n in law.sizes else "none"
        axis.plot([n] * len(values), drawn_error(values, law.n_test), "o", color=color, fillstyle=fill)
    axis.plot([], [], "o", color=color, label="a run that the law was fitted to")
    axis.plot([], [], "o", color=color, fillstyle="none", label="a run that it was not fitted to")
    error_axis(axis, law.n_test)
    label_axis(axis, runs["n_labels"])
    tested = words.tested(runs["n_test"])
    axis.set(ylabel="test accuracy (%)", title=f"{recipe}: forecast from up to {FORECAST_FROM} labels ({tested})")
    axis.legend(fontsize=8, loc="lower right")
    axis.label_outer()


def sentences(runs: pd.DataFrame) -> str:
    """The number of measured means that lie in their interval, Markdown."""
    lines = []
    for recipe in sorted(runs["recipe"].unique(), key=order):
        check = checked(runs, recipe)
        outside = ", ".join(str(n) for n in check.loc[~check["inside"], "n_labels"])
        ending = f"; outside: M = {outside}" if outside else ""
        lines.append(f"- `{recipe}`: {check['inside'].sum()} of {len(check)} measured means lie in their interval{ending}.")
    return "\n".join(lines)


def _interval(estimate: Estimate) -> dict:
    return {"value": estimate.mean, "low": estimate.low, "high": estimate.high}


STUDY = Study(
    name="forecast",
    question="What do small numbers of labels predict?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing=f"It takes three sizes up to {FORECAST_FROM} labels, and a larger one, to check a forecast.",
    table=table,
    note="Test accuracy in per cent.",
    figure=figure,
    reading="The law was fitted to the filled points and not to the open ones, which should lie in the band nine "
    "times in ten. The table's interval also includes the scatter of a few seeds. A wide band is an honest "
    "one: three or four sizes allow many curves.",
    sentences=sentences,
)
