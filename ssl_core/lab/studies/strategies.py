"""How do our selections of the images to label compare with the field's? The cells are measured by strategy_cells.py."""

from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import intervals, learning_curve, words
from .cells import CellTable
from .strategy_cells import MEASURES, OURS, SETS, STRATEGIES, TABLE
from .study import Results, Study, page_table
from .style import drawn_error, error_axis, label_axis, new_figure

LOOKS = {  # of each strategy: marker, dash, colour
    "random": ("o", "-", "#666666"),
    "class-balanced": ("s", "-", "#AAAAAA"),
    "typical": ("^", "-", "#CC79A7"),
    "next": ("*", "-", "#0072B2"),
    "typiclust": ("v", "--", "#009E73"),
    "probcover": ("D", "--", "#56B4E9"),
    "max-herding": ("P", "--", "#E69F00"),
    "core-set": ("X", "--", "#000000"),
    "margin": ("<", ":", "#D55E00"),
    "entropy": (">", ":", "#A6761D"),
    "badge": ("h", ":", "#7570B3"),
}
NOTE = (
    "Accuracy in per cent, mean ± standard deviation (number of seeds): of label spreading (`spreading`) on the training images, "
    "of networks on the test images. The best of a set and size is in bold."
)
DIFFERENCES = (
    "Ours minus the best other strategy, chosen by its mean over the seeds that all have, in points, with the 95 % interval:"
)


def summarize(results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """A row for each finished cell; `current` says whether today's code would make the same. None without any finished run."""
    return pd.DataFrame() if results.every.empty else measured.frame(accuracy=float, images=int, classes=int)


def by_strategy(cells: pd.DataFrame) -> pd.DataFrame:
    """The `mean`, `std` and `worst` accuracy over the `n` seeds of each measure, set, strategy and size."""
    groups = cells.groupby(["measure", "data", "strategy", "n_labels"])
    names = {"mean": "mean", "std": "std", "worst": "min", "n": "size"}
    means = groups["accuracy"].agg(**names).join(groups["images"].min()).reset_index()
    for name, values in {"measure": MEASURES, "data": SETS, "strategy": STRATEGIES}.items():
        means[name] = pd.Categorical(means[name], list(values), ordered=True)
    return means.sort_values(["measure", "data", "strategy", "n_labels"]).reset_index(drop=True)


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each measure, set and strategy, a column for each size; the best of a set and size is in bold."""
    means = by_strategy(cells)
    rounded = means.assign(mean=means["mean"].round(4))  # as the reader sees them
    best = rounded.groupby(["measure", "data", "n_labels"], observed=True)["mean"].transform("max") == rounded["mean"]
    texts = [words.percent(*row) for row in zip(means["mean"], means["std"], means["n"], strict=True)]
    means["text"] = [f"**{text}**" if bold else text for text, bold in zip(texts, best, strict=True)]
    heads = ["measure", "data", "strategy"]
    rows = means.astype(dict.fromkeys(heads, object)).pivot(index=heads, columns="n_labels", values="text")
    order = means[heads].drop_duplicates().itertuples(index=False, name=None)
    return rows.loc[list(order)].fillna("–").rename(columns="M = {}".format).rename_axis(columns=None)


def against_best(cells: pd.DataFrame) -> pd.DataFrame:
    """Ours beside the best `other` strategy, by its mean over the seeds that all have, for each measure, set and size.

    `estimate` is the difference with its interval (intervals.paired), `std` the spread of the other over `n` seeds.
    """
    rows = []
    for (measure, name, n_labels), group in cells.groupby(["measure", "data", "n_labels"]):
        accuracy = group.pivot(index="seed", columns="strategy", values="accuracy").dropna()
        same = accuracy.drop(columns=list(OURS), errors="ignore")
        for ours in accuracy.columns.intersection(OURS) if same.size else ():
            other = same.mean().idxmax()
            difference = (accuracy[ours] - same[other]).to_numpy()
            estimate = intervals.paired(difference, n_test=int(group["images"].min()))
            found = {"ours": ours, "other": other, "estimate": estimate, "std": same[other].std(), "n": len(same)}
            rows.append({"measure": measure, "data": name, "n_labels": n_labels} | found)
    return pd.DataFrame(rows)


def averages(cells: pd.DataFrame) -> pd.DataFrame:
    """The mean accuracy over all sets and sizes, a row for each measure and a column for each strategy; NaN where one is missing.

    First of the seeds, so that each set and size counts the same.
    """
    means = cells.pivot_table(index=["measure", "data", "n_labels"], columns="strategy", values="accuracy")
    return means.groupby("measure").agg(lambda values: values.mean(skipna=False))


def figure(cells: pd.DataFrame) -> Figure:
    """Accuracy over the number of labels: a row of panels for each measure, a column for each set, a line for each strategy."""
    means = by_strategy(cells)
    measures = [name for name in MEASURES if name in set(means["measure"])]
    drawn, axes = new_figure(3.9 * len(SETS), 3.6 * len(measures) + 0.9, len(measures), len(SETS))
    for (row, measured), (column, name) in product(enumerate(measures), enumerate(SETS)):
        panel = means[(means["measure"] == measured) & (means["data"] == name)]
        axis = axes[row, column]
        if panel.empty:
            axis.set_axis_off()
            continue
        draw_panel(axis, panel)
        axis.set_title(f"{name}, {'label spreading' if measured == 'spreading' else measured}")
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy (%)")
    handles = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    shown = [name for name in STRATEGIES if name in handles]
    drawn.legend([handles[name] for name in shown], shown, ncols=len(shown), loc="outside lower center")
    drawn.suptitle(f"Accuracy by selection of the labelled images ({words.seeds(means['n'])})", fontsize=11)
    return drawn


def draw_panel(axis: Axes, means: pd.DataFrame) -> None:
    """The lines of one measure and set; the shade below ours reaches down to the worst seed."""
    images = learning_curve.n_test(means.rename(columns={"images": "n_test"}))
    for strategy, rows in means.groupby("strategy", observed=True):
        marker, line, color = LOOKS[strategy]
        error, worst = (drawn_error(rows[name], images) for name in ("mean", "worst"))
        width = 2.2 if strategy in OURS else 1.1
        axis.plot(
            rows["n_labels"], error, marker=marker, linestyle=line, color=color, label=strategy, linewidth=width, markersize=5
        )
        if strategy in OURS:
            axis.fill_between(rows["n_labels"], error, worst, color=color, alpha=0.15, linewidth=0)
    error_axis(axis, images)
    label_axis(axis, means["n_labels"])


def sentences(cells: pd.DataFrame) -> str:
    """The table and, for each of ours, measure and set, its difference from the best other strategy, in points; Markdown."""
    compared, lines = against_best(cells), []
    for (ours, measure, name), rows in compared.groupby(["ours", "measure", "data"]):
        pairs = zip(rows["estimate"], rows["n_labels"], rows["other"], strict=True)
        points = [f"{_points(estimate)} with {n_labels} (`{other}`)" for estimate, n_labels, other in pairs]
        lines.append(f"- `{ours}`, {measure}, `{name}`: {'; '.join(points)}.")
    verdicts = [verdict(ours, measure, rows) for (ours, measure), rows in compared.groupby(["ours", "measure"])]
    overall = [
        f"Mean over the sets and sizes, {measure}: " + ", ".join(f"`{name}` {100 * mean:.2f}" for name, mean in row.items()) + "."
        for measure, values in averages(cells).iterrows()
        if len(row := values.dropna().sort_values(ascending=False))
    ]
    before = f"{int((~cells['current']).sum())} of {len(cells)} measurements are by earlier code.\n\n" * int(
        not cells["current"].all()
    )
    return "\n\n".join([before + NOTE, words.markdown(table(cells)), *overall, *verdicts, DIFFERENCES, "\n".join(lines)])


def _points(estimate: intervals.Estimate) -> str:
    """A difference in points, with its interval if there are several seeds."""
    return estimate.percent("+") if estimate.n > 1 else f"{100 * estimate.mean:+.2f}"


def verdict(ours: str, measure: str, rows: pd.DataFrame) -> str:
    """In how many sets and sizes ours is no worse than the best other strategy, within its spread; and the mean difference."""
    several = rows[rows["n"] > 1]
    gains = [estimate.mean for estimate in rows["estimate"]]
    within = sum(estimate.mean >= -std for estimate, std in zip(several["estimate"], several["std"], strict=True))
    spread = f", and in {within} of {len(several)} no further below it than its standard deviation" if len(several) else ""
    ahead = sum(gain >= 0 for gain in gains)
    mean = f"{100 * sum(gains) / len(gains):+.2f} points on average"
    return (
        f"**`{ours}`, {measure}**: at least as good as the best other in {ahead} of {len(gains)} sets and sizes{spread}; {mean}."
    )


STUDY = Study(
    name="strategies",
    question="Which selection is best?",
    grid=(),
    summarize=summarize,
    nothing="No selection was measured; `make label-strategies` does that.",
    figure=figure,
    reading="A line is the mean over seeds; the shade below ours, `typical` and `next`, reaches down to the worst seed. "
    "Dashed lines select without labels, dotted ones by a classifier that learns from the labels of earlier rounds.",
    picture="strategies.png",
    sentences=sentences,
    markers={"strategies": page_table(summarize, table)},
    notebook="label_studies",
)
