"""Simulated users who stop when next_label.worth says so: how often they were right to stop, and how late they did.

Each labels images of a small graph in rounds, and sees nothing but labels. Truth is the accuracy of label spreading on all images
of the graph: was the round after the stop really worth less than the user's price?
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_core import graph, next_label, selection
from ssl_core.graph import Neighbors
from ssl_core.next_label import Reach

from ..studies import intervals

STRATEGIES = ("random", "typical", "suggest")
ROUNDS = (5, 10, 20, 50)  # labels a round
PRICES = (0.1, 3.0)  # points a round; drawn between these, uniform on a logarithmic scale
MOST = 400  # labels that a user gives


@dataclass(frozen=True)
class Part:
    """A graph of some images of a data set, whose classes `y` (N,) are known, and what each label would bring."""

    name: str
    neighbors: Neighbors
    y: np.ndarray
    reach: Reach


def part(name: str, neighbors: Neighbors, y: Tensor, size: int, seed: int, *, uniform_prior: bool = True) -> Part:
    """The graph of `size` random images of a larger one, by the same features; of all, if there are no more."""
    index = torch.from_numpy(np.random.default_rng([seed, 5]).permutation(len(y))[:size])
    features = neighbors.features[index].float()
    small = Neighbors(*graph.neighbors(features, neighbors.index.shape[1]), features)
    reach = next_label.reach_of_all(small, y[index], uniform_prior=uniform_prior)
    return Part(name, small, y[index].numpy(), reach)


def simulate(parts: Sequence[Part], n_users: int, seed: int) -> pd.DataFrame:
    """A row per user: `data`, `strategy`, `n` labels a round, `price`; what they got, see `_outcome`. A pure function."""
    random, rows = np.random.default_rng([seed, 6]), []
    for user in range(n_users):
        each = parts[user % len(parts)]
        strategy, n = str(random.choice(STRATEGIES)), int(random.choice(ROUNDS))
        price = float(np.exp(random.uniform(*np.log(PRICES))))
        accuracy, worth = _rounds(each, strategy, n, int(random.integers(1 << 30)))
        outcome = _outcome(np.array(accuracy), np.array(worth), price)
        rows.append({"data": each.name, "strategy": strategy, "n": n, "price": price} | outcome)
    return pd.DataFrame(rows)


def _rounds(each: Part, strategy: str, n: int, seed: int) -> tuple[list[float], list[float]]:
    """The accuracy in per cent after each round of `n` labels, and the most that the next is worth, by next_label.worth_of."""
    order = np.random.default_rng(seed).permutation(len(each.y))
    labeled, accuracy, worth = order[:0], [], []
    classes: np.ndarray | None = None
    for _ in range(min(14, min(MOST, len(each.y) // 2) // n)):
        if strategy == "random":
            new = order[len(labeled) :][:n]
        elif strategy == "typical" or classes is None:
            new = selection.typical(each.neighbors, n, seed, torch.from_numpy(labeled)).index.numpy()
        else:
            unsure = 1 - next_label.margin(torch.from_numpy(each.reach.scores(labeled))).numpy()
            new = next_label.select(each.neighbors, labeled, n, seed, len(np.unique(each.y[labeled])), unsure)
        labeled, before = np.concatenate([labeled, new]), classes
        classes = each.reach.classes(labeled)
        accuracy.append(100 * float((classes == each.y).mean()))
        if before is None or len(np.unique(each.y[labeled[:-n]])) < 2:
            worth.append(np.inf)
        else:
            worth.append(next_label.worth_of(torch.from_numpy(before), torch.from_numpy(classes)).high)
    return accuracy, worth


def _outcome(accuracy: np.ndarray, worth: np.ndarray, price: float) -> dict[str, float]:
    """After which round the user `stopped` (NaN: never), whether that was `right`, and how many rounds `late`.

    It was right if the next round gained less than the price. It is late by the rounds since the first one after which it was.
    """
    gain = np.diff(accuracy)
    stops = np.flatnonzero(worth[:-1] < price)
    if not len(stops):
        return {"stopped": np.nan, "right": np.nan, "late": np.nan}
    first = int(np.flatnonzero(np.append(gain, -np.inf) < price)[0])
    return {"stopped": int(stops[0]) + 1, "right": float(gain[stops[0]] < price), "late": int(stops[0]) - first}


def summary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, and one of all: users, how many stopped, how many of these were right (95 % interval), rounds late."""
    rows = []
    for name, group in [*outcomes.groupby("data"), ("all", outcomes)]:
        stopped = group.dropna()
        low, high = intervals.wilson(stopped["right"].mean(), len(stopped)) if len(stopped) else (np.nan, np.nan)
        right = f"{100 * stopped['right'].mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})" if len(stopped) else "–"
        late = stopped["late"].mean() if len(stopped) else np.nan
        rows.append({"data": name, "users": len(group), "stopped": len(stopped), "right to stop": right, "rounds late": late})
    return pd.DataFrame(rows).set_index("data").round(1)
