"""How far a trained network can be trusted: from the probabilities that each run keeps of its test images."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..runs import records
from ..runs.records import Record
from . import intervals

Said = dict[tuple[str, int], dict[int, np.ndarray]]


def said(run_records: list[Record], outputs: str | Path) -> Said:
    """By (recipe, number of labels) and seed: the probabilities (N, C) of the test images, of runs that kept them."""
    found: Said = {}
    for record in run_records:
        run = record.run
        if (probabilities := records.probabilities(run, outputs)) is not None:
            found.setdefault((run.recipe, run.n_labels), {})[run.seed] = probabilities
    return found


def pooled(said: Said, y: np.ndarray, n_labels: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By recipe, of all seeds at `n_labels` together: how sure of each answer, and whether it was right by the classes `y`."""
    return {
        recipe: (
            np.concatenate([p.max(axis=1) for p in by_seed.values()]),
            np.concatenate([p.argmax(axis=1) == y for p in by_seed.values()]),
        )
        for (recipe, n), by_seed in said.items()
        if n == n_labels
    }


def coverage_in_words(pooled: dict[str, tuple[np.ndarray, np.ndarray]], n_labels: int, accuracies: tuple[float, ...]) -> str:
    """On which share of the images each recipe is as accurate as each of `accuracies`, if it may abstain, Markdown."""
    lines = []
    for recipe, (confidence, right) in pooled.items():
        coverage, accuracy = intervals.selective(confidence, right)
        shares = []
        for wanted in accuracies:
            enough = np.flatnonzero(accuracy >= wanted)
            share = f"the surest **{100 * coverage[enough[-1]]:.1f} %**" if len(enough) else "no image"
            shares.append(f"{100 * wanted:g} % on {share}")
        lines.append(f"- `{recipe}` with {n_labels} labels: {', '.join(shares)}.")
    return "\n".join(lines)


def disagreements(said: Said, y: np.ndarray, one: str, two: str) -> pd.DataFrame:
    """Two recipes on the same labels and the same test images, a row a run of each, by `n_labels` and `seed`.

    `only_one` and `only_two` count the images that only one of them reads rightly; `p` is McNemar's.
    """
    rows = []
    for (recipe, n), by_seed in sorted(said.items()):
        for seed in sorted(set(by_seed) & set(said.get((two, n), {})) if recipe == one else ()):
            right = [p.argmax(axis=1) == y for p in (by_seed[seed], said[two, n][seed])]
            rows.append([n, seed, *intervals.mcnemar(*right)])
    return pd.DataFrame(rows, columns=["n_labels", "seed", "only_one", "only_two", "p"])


def disagreements_in_words(found: pd.DataFrame, one: str, two: str, level: float = 0.05) -> str:
    """In how many pairs of runs one is better by more than chance explains, from what `disagreements` found, Markdown."""
    sure = found["p"] < level
    better, worse = (
        int((sure & more).sum()) for more in (found["only_one"] > found["only_two"], found["only_one"] < found["only_two"])
    )
    pairs = f"Of {len(found)} pairs of runs `{one}` is better in **{better}** and `{two}` in **{worse}**"
    return f"{pairs}, by more than chance explains (p below {level:g}); in {len(found) - better - worse} neither."


def disagreement_table(found: pd.DataFrame, one: str, two: str) -> pd.DataFrame:
    """What `disagreements` found for a reader: a row a pair of runs."""
    table = found.assign(p=["< 0.001" if p < 0.001 else f"{p:.3f}" for p in found["p"]])
    names = {"n_labels": "labels M", "only_one": f"only {one} is right", "only_two": f"only {two} is right"}
    return table.rename(columns=names | {"p": "p-value (McNemar)"}).set_index("labels M")


def fewest(results: pd.DataFrame, said: Said) -> int:
    """The smallest number of labels, of runs with predictions, of which no draw missed a class; or the smallest of all."""
    missed = results[results["n_labels"].isin([n for _, n in said])].groupby("n_labels")["missing_classes"].max()
    covered = missed.index[missed == 0]
    return int(min(covered if len(covered) else missed.index))
