"""The questions of a person with a pile of images, answered from finished runs: as data, for `answers.json`, and in sentences.

`results` is the table of `runs.table`. What can't be computed is left out with its reason, and spoils nothing else.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from ssl_core.datasets import describe

from . import budget, intervals
from .cost import Prices, best_value, resampled

SURE = 0.9  # the probability with which a target should be reached
FORECAST_FROM = 500  # labels: the forecast checks itself by what runs with no more of them say of the others
LEVEL = 0.9  # of the intervals of forecasts and answers


def answers(results: pd.DataFrame, prices: Prices | None, target: float, baseline: str = "supervised") -> dict:
    """What `answers.json` holds. By recipe: `best_value_n_labels`, `target_n_labels`, `labels_saved` and `forecast`.

    An answer that can't be given is `{"left_out": why}`.
    """

    def attempt(answer: Callable[[], dict]) -> dict:
        try:
            return answer()
        except ValueError as error:
            return {"left_out": str(error)}

    names = sorted(results["recipe"].unique())
    found = {
        "best_value_n_labels": attempt(lambda: best_value(results, _priced(prices))),
        "target_n_labels": {name: attempt(lambda name=name: reach(results, name, target)) for name in names},
        "labels_saved": {name: attempt(lambda name=name: saved(results, name, baseline)) for name in names if name != baseline},
        "forecast": {name: attempt(lambda name=name: forecast(results, name)) for name in names},
    }
    return _without_nan(found)


def _priced(prices: Prices | None) -> Prices:
    if prices is None:
        raise ValueError("the prices can't be used")
    return prices


def reach(results: pd.DataFrame, recipe: str, target: float) -> dict:
    """The smallest number of labels with which a new run is at least `target` accurate with probability `SURE`.

    `value` is None if no measured size is; `chance` maps sizes to the probability. `low` and `high` bound the smallest size
    whose *mean* reaches the target, over 1000 bootstrap samples of the seeds; None beyond the largest size.
    """
    if not isinstance(target, int | float) or not 0 < target <= 1:
        raise ValueError(f"target_accuracy={target!r}: must be a number above 0, to 1")
    by_size = accuracies(results, recipe)
    chance = {n: intervals.chance_to_reach(values, target, budget.n_test(results)) for n, values in by_size.items()}
    if all(math.isnan(c) for c in chance.values()):
        raise ValueError(f"one seed at each size of {recipe}: how much runs differ, and so any chance, is not known")
    sure = [n for n, c in chance.items() if c >= SURE]
    reached = np.array([resampled(values) >= target for values in by_size.values()])
    sizes = np.array([*by_size, np.inf])
    first = sizes[np.vstack([reached, np.ones(reached.shape[1], bool)]).argmax(axis=0)]
    low, high = np.quantile(first, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return {"target": target, "value": min(sure, default=None), "low": _whole(low), "high": _whole(high), "chance": chance}


def saved(results: pd.DataFrame, recipe: str, baseline: str) -> dict:
    """By number of labels: how many `baseline` needs for what `recipe` reaches (`value`), and the interval of that number.

    The interval is of 1000 bootstrap samples of the seeds; None stands for more than the largest measured size.
    """
    if baseline not in set(results["recipe"]):
        raise ValueError(f"no run of {baseline} to compare {recipe} with")
    theirs = accuracies(results, baseline)
    again = pd.DataFrame({n: resampled(values) for n, values in theirs.items()})
    mean = pd.Series({n: values.mean() for n, values in theirs.items()})
    found = {}
    for n, values in accuracies(results, recipe).items():
        # Another stream than the baseline's, or the two would be resampled in step.
        samples = resampled(values)[::-1]
        needed = [budget.labels_to_match(row, accuracy) for accuracy, (_, row) in zip(samples, again.iterrows(), strict=True)]
        low, high = np.quantile(np.nan_to_num(needed, nan=np.inf), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
        value = budget.labels_to_match(mean, values.mean())
        found[n] = {"value": _whole(value), "low": _whole(low), "high": _whole(high)}
    return found


def forecast(results: pd.DataFrame, recipe: str) -> dict:
    """What the learning curve says of sizes that were not run, and whether it would have been right of those that were.

    `check`: fitted on at most `FORECAST_FROM` labels, the prediction for each larger size beside what was measured there.
    `beyond`: fitted on all, the accuracy at two and four times the largest size. `next_100`: what 100 more labels would add.
    Runs whose draw missed a class don't count: they follow another law.
    """
    measured = accuracies(covered(results), recipe)
    whole = intervals.Forecast(measured, budget.n_test(results))
    small = {n: values for n, values in measured.items() if n <= FORECAST_FROM}
    check = {}
    if len(small) >= 3:
        fitted = intervals.Forecast(small, budget.n_test(results))
        for n, values in measured.items():
            if n not in small:
                guess = fitted.run(n, len(values), LEVEL)
                inside = bool(guess.low <= values.mean() <= guess.high)
                check[n] = _interval(guess) | {"measured": float(values.mean()), "inside": inside}
    largest, most = max(measured), n_images(results)
    beyond = {n: _interval(whole.accuracy(n, LEVEL)) for n in (2 * largest, 4 * largest) if n <= most}
    return {"check": check, "beyond": beyond, "next_100": {n: _interval(whole.gain(n, 100, LEVEL)) for n in measured}}


def covered(results: pd.DataFrame) -> pd.DataFrame:
    """The runs that had a label of every class."""
    return results[results["missing_classes"] == 0] if "missing_classes" in results else results


def n_images(results: pd.DataFrame) -> int:
    """How many images there are to label."""
    return describe(results["data"].iloc[0]).n_images if "data" in results else 60_000


def accuracies(results: pd.DataFrame, recipe: str) -> dict[int, np.ndarray]:
    """Of one recipe: number of labels, ascending → one accuracy per seed."""
    rows = results[results["recipe"] == recipe]
    return {int(n): group["accuracy"].to_numpy() for n, group in rows.groupby("n_labels", sort=True)}


def in_words(found: dict, prices: Prices | None, baseline: str = "supervised") -> str:
    """The answers in sentences, Markdown."""
    lines = []
    if "left_out" in found["best_value_n_labels"]:
        lines.append(f"- *Cheapest in all:* left out; {found['best_value_n_labels']['left_out']}.")
    else:
        values = ", ".join(f"**{a['value']}** with `{name}`{_span(a)}" for name, a in found["best_value_n_labels"].items())
        to_come = f"{prices.future_images:,.0f} images to come"
        each = f"{prices.label:.3f} a label and {prices.cost_per_error:g} for each mistake in {to_come}"
        lines.append(f"- *Cheapest in all*, at {each}: {values}.")
    for name, answer in found["target_n_labels"].items():
        if "left_out" in answer:
            lines.append(f"- *To reach a target* with `{name}`: left out; {answer['left_out']}.")
            continue
        what = f"- *To reach {100 * answer['target']:g} %* with a probability of {SURE:g}, `{name}` needs"
        lines.append(f"{what} **{answer['value']} labels**." if answer["value"] else f"{what} more labels than were tried.")
    for name, answer in found["labels_saved"].items():
        if answer and "left_out" not in answer:
            n = _of_interest(found, name, answer, min(answer))
            match = answer[n]
            much = f"about {budget.rounded(match['value'])}" if match["value"] else f"more than were tried with `{baseline}`"
            lines.append(f"- *Labels saved:* with {n}, `{name}` is as good as `{baseline}` with **{much}**{_span(match)}.")
    for name, answer in found["forecast"].items():
        if "left_out" in answer:
            lines.append(f"- *The next 100 labels* with `{name}`: left out; {answer['left_out']}.")
            continue
        n = _of_interest(found, name, answer["next_100"], max(answer["next_100"]))
        gain = answer["next_100"][n]
        points = f"{100 * gain['value']:.2f} points ({100 * gain['low']:.2f} to {100 * gain['high']:.2f})"
        lines.append(f"- *The next 100 labels* after {n} would add {points} with `{name}`.")
    return "\n".join(lines)


def _of_interest(found: dict, recipe: str, by_size: dict, otherwise: int) -> int:
    """Of the sizes of an answer that has one for each, the one to speak of: the cheapest in all, if it is there."""
    cheapest = found["best_value_n_labels"].get(recipe, {}).get("value")
    return cheapest if cheapest in by_size else otherwise


def check_table(found: dict) -> pd.DataFrame:
    """The forecast's check of itself: a row for each recipe and size, per cent."""
    rows = []
    for name, answer in found["forecast"].items():
        for n, guess in answer.get("check", {}).items():
            span = f"{100 * guess['value']:.2f} ({100 * guess['low']:.2f} to {100 * guess['high']:.2f})"
            verdict = "yes" if guess["inside"] else "no"
            rows.append([name, n, span, f"{100 * guess['measured']:.2f}", verdict])
    columns = ["recipe", "labels M", "forecast (90 % interval)", "measured", "inside"]
    return pd.DataFrame(rows, columns=columns).set_index("recipe")


def _span(answer: dict) -> str:
    low, high = answer["low"], answer["high"]
    if low == high:
        return ""
    low, high = (budget.rounded(n) if n else "more than were tried" for n in (low, high))
    return f" ({low} to {high})"


def _interval(estimate: intervals.Estimate) -> dict:
    return {"value": estimate.mean, "low": estimate.low, "high": estimate.high}


def _whole(n: float) -> int | None:
    return round(float(n)) if math.isfinite(n) else None


def _without_nan(value: object) -> object:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
