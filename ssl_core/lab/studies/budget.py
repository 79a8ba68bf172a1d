"""From records to the question: how does accuracy fall with the number of labels, and how many are worth having?

`results` is the table of `runs.table`, `curve` that of `curve(results)`; accuracy lies between 0 and 1.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_core.datasets import describe
from ssl_core.experiment import Result
from ssl_core.recipes import ABLATIONS

from ..runs.records import Record
from ..runs.spec import Run
from . import intervals

# The report's own figures. For the sizes that are not here it prints no number.
REPORT = {
    "epochs at M = 6000": {1: 0.8352, 5: 0.9733, 10: 0.9812, 15: 0.9828},
    "untrained": {"accuracy": 0.0997, "nll": 2.3059},
    "trained at M = 6000": {"accuracy": 0.9828, "nll": 0.0622},
}
WORTH = 0.005  # accuracy per doubling of the labels: below it, more labels are not called worth their price


def curve(results: pd.DataFrame) -> pd.DataFrame:
    """Per recipe and number of labels: `mean` and standard deviation `std` of accuracy over `n` seeds, mean nll and seconds.

    `std` is the sample's (n − 1) and NaN for a single seed; `low` and `high` bound the mean by `intervals.accuracy`, 95 %.
    """
    grouped, tested = results.groupby(["recipe", "n_labels"], sort=True), n_test(results)
    return grouped.agg(
        mean=("accuracy", "mean"),
        std=("accuracy", "std"),
        low=("accuracy", lambda values: intervals.accuracy(values, n_test=tested).low),
        high=("accuracy", lambda values: intervals.accuracy(values, n_test=tested).high),
        n=("seed", "nunique"),
        nll=("nll", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()


def n_test(results: pd.DataFrame) -> int:
    """How many test images the accuracies are of."""
    return int(results["n_test"].iloc[0]) if "n_test" in results else intervals.N_TEST


def gain(results: pd.DataFrame, recipe: str, baseline: str = "supervised") -> pd.DataFrame:
    """Per number of labels: accuracy of `recipe` minus that of `baseline`, paired by seed: `mean`, `std`, `n` seeds.

    `low` and `high` bound the mean by `intervals.paired`, 95 %; NaN for a single seed.
    """
    paired = results.pivot_table(index=["n_labels", "seed"], columns="recipe", values="accuracy")
    if not {recipe, baseline} <= set(paired.columns):
        return pd.DataFrame(columns=["n_labels", "mean", "std", "n", "low", "high"])
    difference = (paired[recipe] - paired[baseline]).dropna()
    grouped = difference.groupby("n_labels")
    return grouped.agg(
        mean="mean", std="std", n="count", low=lambda d: intervals.paired(d).low, high=lambda d: intervals.paired(d).high
    ).reset_index()


def ablation(results: pd.DataFrame) -> pd.DataFrame:
    """For each ablation of recipes.py that was run: `recipe`, `baseline`, and by `n_labels` what `gain` gives of the two."""
    rows = []
    for recipe in ABLATIONS:
        baseline = ABLATIONS[recipe].base
        rows.append(gain(results, recipe, baseline).assign(recipe=recipe, baseline=baseline))
    return pd.concat(rows, ignore_index=True)


def ablation_table(ablation: pd.DataFrame) -> pd.DataFrame:
    """A row for each ablation, a column for each number of labels: points of accuracy gained over the recipe that was changed."""
    texts = [percent(mean, std, int(n), "+") for mean, std, n in ablation[["mean", "std", "n"]].itertuples(index=False)]
    table = ablation.assign(text=texts).pivot(index="recipe", columns="n_labels", values="text").fillna("–")
    table = table.loc[[name for name in ABLATIONS if name in table.index]]
    return table.rename(columns=lambda n: f"M = {n}").rename_axis(index="points of accuracy", columns=None)


def means(curve: pd.DataFrame, recipe: str) -> pd.Series:
    """Mean accuracy of one recipe by number of labels, ascending."""
    return curve[curve["recipe"] == recipe].set_index("n_labels")["mean"].sort_index()


def labels_to_match(means: pd.Series, accuracy: float) -> float:
    """How many labels a recipe needs for `accuracy`, interpolated on a logarithmic axis.

    `means` maps numbers of labels to mean accuracy. NaN if no measured size reaches it; the smallest size if that does.
    """
    means = means.sort_index()
    sizes, values = np.log(means.index.to_numpy(float)), np.maximum.accumulate(means.to_numpy())
    if accuracy > values[-1]:
        return float("nan")
    above = int(np.argmax(values >= accuracy))
    if above == 0:
        return float(means.index[0])
    share = (accuracy - values[above - 1]) / (values[above] - values[above - 1])
    return float(np.exp(sizes[above - 1] + share * (sizes[above] - sizes[above - 1])))


def recommend(means: pd.Series, worth: float = WORTH) -> int:
    """The smallest number of labels beyond which no larger one gains more than `worth` accuracy per doubling.

    `means` maps numbers of labels to mean accuracy and must not be empty.
    """
    means = means.sort_index()
    for i, (n, here) in enumerate(means.items()):
        later = means.iloc[i + 1 :]
        if all((there - here) / np.log2(m / n) <= worth for m, there in later.items()):
            return int(n)
    raise ValueError("means is empty: must be one size or more")


def percent(mean: float, std: float = float("nan"), n: int = 1, sign: str = "") -> str:
    """`98.12 ± 0.10 (3)`: mean, standard deviation and number of seeds; of a single seed `98.12 (1)`."""
    spread = "" if np.isnan(std) else f" ± {100 * std:.2f}"
    return f"{100 * mean:{sign}.2f}{spread} ({n})"


def accuracy_table(curve: pd.DataFrame) -> pd.DataFrame:
    """A row for each number of labels, a column for each recipe, entries as `percent` writes them."""
    entries = curve.assign(text=[percent(*row) for row in zip(curve["mean"], curve["std"], curve["n"], strict=True)])
    return _labeled(entries.pivot(index="n_labels", columns="recipe", values="text").fillna("–"))


def gain_table(gains: dict[str, pd.DataFrame], baseline: str = "supervised") -> pd.DataFrame:
    """A row for each number of labels: the points that each recipe gains over `baseline`, from what `gain` gives for it."""
    columns = {
        f"{recipe}, points above {baseline}": pd.Series(
            [percent(row["mean"], row["std"], int(row["n"]), sign="+") for _, row in rows.iterrows()],
            index=rows["n_labels"],
        )
        for recipe, rows in gains.items()
    }
    return _labeled(pd.DataFrame(columns).sort_index().fillna("–"))


def gain_in_words(gains: dict[str, pd.DataFrame], baseline: str = "supervised") -> str:
    """Where each recipe is better or worse than `baseline` by more than chance explains, from what `gain` gives, Markdown."""
    lines = []
    for recipe, rows in gains.items():
        verdicts = {
            "**Better**": rows["low"] > 0,
            "**Worse**": rows["high"] < 0,
            "No sure difference": (rows["low"] <= 0) & (rows["high"] >= 0),
            "One seed, no interval": rows["low"].isna(),
        }
        said = []
        for verdict, here in verdicts.items():
            points = [
                f"{intervals.Estimate(mean, low, high, n).percent('+') if n > 1 else f'{100 * mean:+.2f}'} with {size}"
                for size, mean, low, high, n in rows.loc[here, ["n_labels", "mean", "low", "high", "n"]].itertuples(index=False)
            ]
            said += [f"{verdict}: {', '.join(points)}"] * bool(points)
        lines.append(f"- `{recipe}` against `{baseline}`, in points. {'. '.join(said)}.")
    return "\n".join(lines)


def labels_saved_table(curve: pd.DataFrame, baseline: str = "supervised") -> pd.DataFrame:
    """For each other recipe and number of labels: how many labels `baseline` needs for the same accuracy, in words."""
    reference = means(curve, baseline)
    table = {}
    for recipe in sorted(set(curve["recipe"]) - {baseline}):
        for n, accuracy in means(curve, recipe).items():
            needed = labels_to_match(reference, accuracy)
            if np.isnan(needed):
                text = f"more than {reference.index[-1]}"
            elif accuracy <= reference.iloc[0]:
                text = f"{reference.index[0]} or fewer"
            else:
                text = f"about {rounded(needed)}"
            table.setdefault(f"{recipe} is matched by {baseline} at", {})[n] = text
    return _labeled(pd.DataFrame(table).sort_index().fillna("–"))


def beside_report(records: list[Record]) -> pd.DataFrame:
    """What the report printed, beside what `published` measured here: mean over seeds, in per cent, or nats for NLL."""
    published = [record for record in records if record.parameters["recipe"] == "published"]
    rows = []

    def add(what: str, theirs: str, ours: list[float], scale: float = 100.0) -> None:
        if ours:
            decimals = 2 if scale == 100 else 4
            spread = f" ± {scale * np.std(ours, ddof=1):.{decimals}f}" if len(ours) > 1 else ""
            rows.append(
                {"what": what, "the report": theirs, "here": f"{scale * np.mean(ours):.{decimals}f}{spread} ({len(ours)})"}
            )

    untrained, trained = REPORT["untrained"], REPORT["trained at M = 6000"]
    by_seed = {record.parameters["seed"]: record.untrained for record in published}  # the same network at every M
    add("untrained, accuracy", f"{100 * untrained['accuracy']:.2f}", [metrics["accuracy"] for metrics in by_seed.values()])
    add("untrained, NLL", f"{untrained['nll']:.4f}", [metrics["nll"] for metrics in by_seed.values()], 1.0)
    at_6000 = [record for record in published if record.parameters["n_labels"] == 6000]
    for epoch, accuracy in REPORT["epochs at M = 6000"].items():
        ours = [record.test_accuracy[epoch] for record in at_6000 if epoch in record.test_accuracy]
        add(f"M = 6000, after epoch {epoch}", f"{100 * accuracy:.2f}", ours)
    add("M = 6000, NLL", f"{trained['nll']:.4f}", [record.nll for record in at_6000], 1.0)
    for n in sorted({record.parameters["n_labels"] for record in published} - {6000}, reverse=True):
        claim = {500: "“95 plus”", 50: "the lowest; no number"}.get(n, "no number")
        add(f"M = {n}, 50 epochs", claim, [record.accuracy for record in published if record.parameters["n_labels"] == n])
    return pd.DataFrame(rows, columns=["what", "the report", "here"]).set_index("what")


def confusions(records: list[Record]) -> dict[tuple[str, int], np.ndarray]:
    """Confusion matrices by (recipe, number of labels), summed over seeds."""
    summed: dict[tuple[str, int], np.ndarray] = {}
    for record in records:
        key = record.parameters["recipe"], record.parameters["n_labels"]
        summed[key] = summed.get(key, 0) + np.array(record.confusion)
    return summed


def missing_table(records: list[Record]) -> pd.DataFrame:
    """The runs whose draw left a class without a label."""
    rows = []
    for record in records:
        classes = describe(record.parameters["data"]).classes
        if missing := ", ".join(classes[c] for c in record.missing_classes):
            rows.append({**record.parameters, "without a label": missing, "accuracy": percent(record.accuracy)})
    columns = ["n_labels", "recipe", "seed", "without a label", "accuracy"]
    return _labeled(pd.DataFrame(rows, columns=columns).set_index("n_labels"))


def runs_table(results: pd.DataFrame, linked: bool = True) -> str:
    """Every run as a table in Markdown; if `linked`, with a link to its notebook from the outputs folder."""
    lines = ["| labels M | recipe | seed | accuracy | seconds |", "| ---: | --- | ---: | ---: | ---: |"]
    lines = [f"{line} {cell} |" for line, cell in zip(lines, ("notebook", "---"), strict=True)] if linked else lines
    for r in results.sort_values(["n_labels", "recipe", "seed"]).itertuples():
        line = f"| {r.n_labels} | {r.recipe} | {r.seed} | {100 * r.accuracy:.2f} % | {r.seconds:.0f} |"
        run = Run(r.n_labels, r.recipe, r.seed, r.data, r.draw)
        lines.append(f"{line} [as it ran]({run}/train.ipynb) |" if linked else line)
    return "\n".join(lines)


def in_words(results: pd.DataFrame) -> str:
    """The result in a few sentences, Markdown."""
    table = curve(results)
    fewest, most = int(table["n_labels"].min()), int(table["n_labels"].max())
    sentences = []
    for recipe in table["recipe"].unique():
        line = means(table, recipe)
        sizes = dict.fromkeys((line.index[0], line.index[-1]))
        ends = " and ".join(f"{100 * line[n]:.2f} % with {n} labels" for n in sizes)
        sentences.append(f"- `{recipe}` reaches {ends}.")
    if {"best", "supervised"} <= set(table["recipe"]):
        line = means(table, "best")
        n = recommend(line)
        needed = labels_to_match(means(table, "supervised"), line[n])
        match = f"more than {most}" if np.isnan(needed) else f"about {rounded(needed)}"
        if needed != fewest:
            sentences.append(f"- With {n} labels `best` is as good as labels alone are with **{match}**.")
    worth = ", ".join(f"{recommend(means(table, recipe))} with `{recipe}`" for recipe in table["recipe"].unique())
    sentences.append(f"- Beyond so many labels, more of them gain less than {100 * WORTH:g} point per doubling: {worth}.")
    seeds = sorted(set(results.groupby(["recipe", "n_labels"])["seed"].nunique()))
    tested = n_test(results)
    several = " to ".join(f"{n}" for n in dict.fromkeys((seeds[0], seeds[-1])))
    caveat = "One seed only: differences of a few tenths may be chance." if seeds == [1] else f"Means over {several} seeds."
    return "\n".join(
        [*sentences, f"\n{caveat} All accuracies are on the {tested:,} test images, looked at once, after training."]
    )


def candidates_in_words(candidates: Tensor, y: Tensor) -> str:
    """How far the graph narrows the class of each image, (N, C), and how rightly by the true classes `y` (N,), Markdown.

    How rightly is left out where some class is not known, −1.
    """
    if not len(y):
        return "No image is without a label: there is nothing to narrow."
    single = candidates.sum(dim=1) == 1
    if (y < 0).any():
        return f"**{100 * single.float().mean():.1f} %** of the unlabelled images have a single candidate."
    kept = candidates[torch.arange(len(y)), y]
    return (
        f"**{100 * single.float().mean():.1f} %** of the unlabelled images have a single candidate, and for"
        f" {100 * kept[single].float().mean():.2f} % of these it is the right one; of all, {100 * kept.float().mean():.2f} % have"
        " the right one among theirs. (So say the labels that training never sees; they are counted here, and serve nothing.)"
    )


def prior_in_words(prior: Tensor, classes: tuple[str, ...], uniform: bool) -> str:
    """How frequent the graph finds each class, (C,), Markdown; of many classes the most and the least frequent. Also whether
    training relies on it, or holds them to be alike (`uniform`).
    """
    order = prior.argsort(descending=True, stable=True).tolist()
    shown = order if len(order) <= 12 else [*order[:6], *order[-6:]]
    shares = ", ".join(f"{plain(classes[c])} {100 * prior[c]:.1f}" for c in shown)
    what = "All classes are held to be equally frequent" if uniform else "How frequent the classes are is estimated, not assumed"
    return f"{what}; by the graph, in per cent: {shares}."


def run_in_words(run: Run, untrained: float, trained: float, seconds: float, missing: list[str]) -> str:
    """What one run reached, in a sentence or two, Markdown; `missing` names the classes without a label."""
    sentences = [
        f"With **{run.n_labels} labels** `{run.recipe}` reads **{100 * trained:.2f} %** of the test images rightly,"
        f" from {100 * untrained:.2f} % before training, after {seconds:.0f} seconds."
    ]
    if missing:
        sentences.append(f"No label covers {', '.join(map(plain, missing))}: what such an image is called can't be learned.")
    if run.smoke:
        sentences.append("*This was a smoke run: the numbers mean nothing.*")
    return " ".join(sentences)


def verdict(curve: pd.DataFrame) -> str:
    """The recommended M of each recipe, in a sentence each, Markdown."""
    sentences = []
    for recipe in curve["recipe"].unique():
        line = means(curve, recipe)
        n = recommend(line)
        if n == line.index[-1]:
            why = "the largest that was run: each doubling up to it still gains more" if len(line) > 1 else "the only one run"
        else:
            why = f"it reaches {100 * line[n]:.2f} %, and {line.index[-1]} labels only {100 * line.iloc[-1]:.2f} %"
        sentences.append(f"- With `{recipe}`: **M = {n}**; {why}.")
    return (
        f"The smallest M beyond which no larger one gains more than {100 * WORTH:g} point per doubling of the labels"
        " (the report picked 1000 by eye):\n\n"
        + "\n".join(sentences)
        + "\n\nHalf a point per doubling is a matter of taste: whoever pays more for a mistake than for a label will go further."
    )


def plain(text: str) -> str:
    """A text of others, the name of a class say, for Markdown and HTML: nothing in it is markup."""
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text)


def rounded(n: float) -> str:
    """A number of labels that was interpolated: two digits are all that can be meant."""
    return f"{float(f'{n:.2g}'):.0f}"


def _labeled(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its axes named for a reader."""
    return table.rename_axis(index="labels M", columns=None)


def metrics_in_words(result: Result, classes: tuple[str, ...]) -> str:
    """What an experiment measured, before and after training, as a list in Markdown."""
    lines, views = [], result.training.recipe.tta_views
    for name, evaluation in (("untrained", result.untrained), ("trained", result.trained)):
        correct, n = int(evaluation.correct.sum()), len(evaluation.correct)
        lines.append(f"- {name}: average NLL {evaluation.nll:.4f}, accuracy {correct}/{n} ({100 * evaluation.accuracy:.2f} %)")
    if views:
        once = 100 * list(result.test_accuracy.values())[-1]
        lines.append(f"- without test-time augmentation {once:.2f} %; the accuracy above averages {1 + views} views")
    recall = ", ".join(f"{plain(c)} {100 * r:.1f}" for c, r in zip(classes, result.trained.recall.tolist(), strict=True))
    lines.append(f"- recall of each class, per cent: {recall}")
    if result.held_out:
        correct, n = int(result.held_out.correct.sum()), len(result.held_out.correct)
        lines.append(f"- on the labels held back: {correct}/{n} ({100 * result.held_out.accuracy:.2f} %)")
    return "\n".join(lines)
