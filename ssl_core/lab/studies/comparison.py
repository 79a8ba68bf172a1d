"""Do two recipes, trained on the same labels, differ on the same test images by more than chance?"""

import numpy as np
import pandas as pd

from . import calibration, intervals, learning_curve, words
from .calibration import Predictions
from .study import Results, Study

PAIR = ("best", "supervised")


def disagreements(predictions: Predictions, y: np.ndarray, one: str, two: str) -> pd.DataFrame:
    """A row for each pair of runs of two recipes, by `n_labels` and `seed`.

    `only_one` and `only_two` count the images that only one of the two classifies correctly; `p` is McNemar's.
    """
    rows = []
    for (recipe, n), by_seed in sorted(predictions.items()):
        for seed in sorted(set(by_seed) & set(predictions.get((two, n), {})) if recipe == one else ()):
            correct = [p.argmax(axis=1) == y for p in (by_seed[seed], predictions[two, n][seed])]
            rows.append([n, seed, *intervals.mcnemar(*correct)])
    table = pd.DataFrame(rows, columns=["n_labels", "seed", "only_one", "only_two", "p"])
    return table.assign(one=one, two=two, n_test=len(y))


def summarize(results: Results) -> pd.DataFrame:
    """The disagreements of `best` and `supervised`."""
    kept = calibration.predictions(results.records, results.outputs)
    return disagreements(kept, results.y_test if kept else np.array([]), *PAIR)


def sentences(pairs: pd.DataFrame, level: float = 0.05) -> str:
    """In how many pairs of runs one recipe is better by more than chance explains, Markdown."""
    one, two = pairs[["one", "two"]].iloc[0]
    sure = pairs["p"] < level
    better, worse = (
        int((sure & more).sum()) for more in (pairs["only_one"] > pairs["only_two"], pairs["only_one"] < pairs["only_two"])
    )
    pair = f"{len(pairs)} pairs of runs, on {words.tested(pairs['n_test'])},"
    counts = f"Of {pair} `{one}` is better in **{better}** and `{two}` in **{worse}**"
    return f"{counts}, by more than chance explains (p below {level:g}); in {len(pairs) - better - worse} neither."


def table(pairs: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair of runs."""
    one, two = pairs[["one", "two"]].iloc[0]
    rows = pairs.drop(columns=["one", "two", "n_test"]).assign(p=["< 0.001" if p < 0.001 else f"{p:.3f}" for p in pairs["p"]])
    names = {"n_labels": "labels M", "only_one": f"only {one} is right", "only_two": f"only {two} is right"}
    return rows.rename(columns=names | {"p": "p-value (McNemar)"}).set_index("labels M")


STUDY = Study(
    name="comparison",
    question="Do two recipes differ on the same images?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing="No runs of `best` and `supervised` with the same labels kept their predictions.",
    table=table,
    note="The number of test images that only one of two runs classifies correctly.",
    sentences=sentences,
)
