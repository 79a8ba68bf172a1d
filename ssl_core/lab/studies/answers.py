"""Answers to the questions of a person with unlabelled images: as data, for `answers.json`, and in sentences.

`runs` is a table of comparable runs (records.table). An answer that the runs cannot give is left out, with its reason.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from . import intervals, learning_curve, words
from .cost import Prices, best_value
from .forecast import LEVEL, accuracies, forecast
from .unlabeled_gain import BASELINE
from .words import rounded

SURE = 0.9  # the probability with which a target should be reached


def answers(runs: pd.DataFrame, prices: Prices | None, target: float, baseline: str = BASELINE) -> dict:
    """The content of `answers.json`: `n_test`, `best_value_n_labels`, and by recipe `target_n_labels`, `labels_saved`
    and `forecast`.

    An answer that the runs cannot give is `{"left_out": reason}`.
    """

    def attempt(answer: Callable[[], dict]) -> dict:
        try:
            return answer()
        except ValueError as error:
            return {"left_out": str(error)}

    names = sorted(runs["recipe"].unique())
    return _without_nan(
        {
            "n_test": learning_curve.n_test(runs),
            "best_value_n_labels": attempt(lambda: best_value(runs, _checked(prices))),
            "target_n_labels": {name: attempt(partial(reach, runs, name, target)) for name in names},
            "labels_saved": {name: attempt(partial(saved, runs, name, baseline)) for name in names if name != baseline},
            "forecast": {name: attempt(partial(forecast, runs, name)) for name in names},
        }
    )


def _checked(prices: Prices | None) -> Prices:
    if prices is None:
        raise ValueError("the prices cannot be used")
    return prices


def reach(runs: pd.DataFrame, recipe: str, target: float) -> dict:
    """The smallest number of labels with which a new run is at least `target` accurate with probability `SURE`.

    `value` is None if no measured size is; `chance` maps sizes to the probability. `low` and `high` bound the smallest
    size whose *mean* reaches the target, over the samples of `intervals.resampled`; None beyond the largest size.
    Raises ValueError for a target that is none, that so few test images cannot show, or if every size has one seed.
    """
    if not isinstance(target, int | float) or not 0 < target <= 1:
        raise ValueError(f"target_accuracy={target!r}: must be a number above 0, to 1")
    by_size = accuracies(runs, recipe)
    images = learning_curve.n_test(runs)
    if (most := intervals.chance_to_reach(np.ones(2), target, images)) < SURE:
        few = f"{words.tested([images])} can't show {100 * target:g} %"
        raise ValueError(f"{few}: with all of them right, its probability would be {most:.2f}, and must be {SURE:g}")
    chance = {n: intervals.chance_to_reach(values, target, images) for n, values in by_size.items()}
    if all(math.isnan(c) for c in chance.values()):
        raise ValueError(f"one seed at each size of {recipe}: the spread of runs, and so any probability, is not known")
    sure = [n for n, c in chance.items() if c >= SURE]
    reached = intervals.resampled(list(by_size.values()), images) >= target
    sizes = np.array([*by_size, np.inf])
    first = sizes[np.vstack([reached, np.ones(reached.shape[1], bool)]).argmax(axis=0)]
    low, high = _bounds(first)
    return {"target": target, "value": min(sure, default=None), "low": low, "high": high, "chance": chance}


def saved(runs: pd.DataFrame, recipe: str, baseline: str) -> dict:
    """By number of labels: the labels that `baseline` needs for the accuracy of `recipe` (`value`), with an interval.

    The interval is over the samples of `intervals.resampled`; None stands for more than the largest measured size.
    """
    if baseline not in set(runs["recipe"]):
        raise ValueError(f"no run of {baseline} to compare {recipe} with")
    reference, own = accuracies(runs, baseline), accuracies(runs, recipe)
    samples = intervals.resampled([*reference.values(), *own.values()], learning_curve.n_test(runs))
    again = [pd.Series(column, index=reference) for column in samples[: len(reference)].T]
    mean = pd.Series({n: values.mean() for n, values in reference.items()})
    matches = {}
    for (n, values), others in zip(own.items(), samples[len(reference) :], strict=True):
        needed = [learning_curve.labels_to_match(row, accuracy) for accuracy, row in zip(others, again, strict=True)]
        low, high = _bounds(np.nan_to_num(needed, nan=np.inf))
        value = learning_curve.labels_to_match(mean, values.mean())
        matches[n] = {"value": _whole(value), "low": low, "high": high}
    return matches


def _bounds(sizes: np.ndarray) -> tuple[int | None, int | None]:
    """The interval of LEVEL of bootstrapped sizes; None for infinity."""
    low, high = np.quantile(sizes, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return _whole(low), _whole(high)


def sentences(answers: dict, prices: Prices | None, baseline: str = BASELINE) -> str:
    """The answers in sentences, Markdown."""
    lines = [_cheapest(answers["best_value_n_labels"], prices)]
    lines += [_target(name, answer) for name, answer in answers["target_n_labels"].items()]
    for name, answer in answers["labels_saved"].items():
        if answer and "left_out" not in answer:
            n = _of_interest(answers, name, answer, min(answer))
            match = answer[n]
            much = f"about {rounded(match['value'])}" if match["value"] else f"more than were tried with `{baseline}`"
            lines.append(f"- *Labels saved:* with {n}, `{name}` is as good as `{baseline}` with **{much}**{_span(match)}.")
    for name, answer in answers["forecast"].items():
        if "left_out" in answer:
            lines.append(f"- *The next 100 labels* with `{name}`: left out; {answer['left_out']}.")
            continue
        n = _of_interest(answers, name, answer["next_100"], max(answer["next_100"]))
        value, low, high = (100 * answer["next_100"][n][bound] for bound in ("value", "low", "high"))
        lines.append(f"- *The next 100 labels* after {n} would add {value:.2f} points ({low:.2f} to {high:.2f}) with `{name}`.")
    return "\n".join([*lines, f"\nThese answers rest on {words.tested([answers['n_test']])}."])


def _cheapest(answer: dict, prices: Prices | None) -> str:
    if "left_out" in answer:
        return f"- *Cheapest in total:* left out; {answer['left_out']}."
    assert prices is not None  # or the answer would be left out
    values = ", ".join(f"**{value['value']}** with `{name}`{_span(value)}" for name, value in answer.items())
    mistakes = f"{prices.cost_per_error:g} for each mistake in {prices.future_images:,.0f} future images"
    return f"- *Cheapest in total*, at {prices.label:.3f} per label and {mistakes}: {values}."


def _target(name: str, answer: dict) -> str:
    if "left_out" in answer:
        return f"- *To reach a target* with `{name}`: left out; {answer['left_out']}."
    what = f"- *To reach {100 * answer['target']:g} %* with a probability of {SURE:g}, `{name}` needs"
    return f"{what} **{answer['value']} labels**." if answer["value"] else f"{what} more labels than were tried."


def _of_interest(answers: dict, recipe: str, by_size: dict, otherwise: int) -> int:
    """Of an answer by number of labels, the number to report: the cheapest in total, if it is there."""
    cheapest = answers["best_value_n_labels"].get(recipe, {}).get("value")
    return cheapest if cheapest in by_size else otherwise


def _span(answer: dict) -> str:
    low, high = answer["low"], answer["high"]
    if low == high:
        return ""
    low, high = (rounded(n) if n else "more than were tried" for n in (low, high))
    return f" ({low} to {high})"


def _whole(n: float) -> int | None:
    return round(float(n)) if math.isfinite(n) else None


def _without_nan(content: dict) -> dict:
    """The same with None for NaN, which JSON does not know."""
    known = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in content.items()}
    return {key: _without_nan(value) if isinstance(value, dict) else value for key, value in known.items()}
