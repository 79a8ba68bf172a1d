"""Which wrong labels does each method find? The cells are measured by label_error_cells.py."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import words
from .cells import CellTable
from .label_error_cells import METHODS, NOISES, SETS, TABLE
from .study import Results, Study, page_table
from .style import new_figure

LOOKS = {  # of each method: marker, colour
    "graph": ("*", "#0072B2"),
    "neighbors": ("^", "#009E73"),
    "cleanlab-supervised": ("s", "#E69F00"),
    "cleanlab-best": ("o", "#D55E00"),
}
OURS = "graph"
MEASURES = ("precision", "recall", "average_precision")
HEADS = ["data", "n_labels", "noise"]
NOTE = (
    "Precision / recall of the suspects and, after the semicolon, average precision of the ranking of all labels, in per cent: "
    "mean (number of seeds), of precision over those with a suspect. The best of several rankings is in bold."
)
CORRECTED = (
    "Accuracy of label spreading on the unlabelled training images, in per cent, once as many labels are corrected as are wrong, "
    "the most suspect ones: mean over the seeds of all methods that are measured."
)


def summarize(results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """A row for each finished cell; `current` says whether today's code would make the same. None without any finished run."""
    numbers = dict.fromkeys([*MEASURES, "before", "corrected", "clean"], float) | {"wrong": int, "suspects": int}
    cells = pd.DataFrame() if results.every.empty else measured.frame(**numbers)
    return cells if cells.empty else with_f1(cells)


def with_f1(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with `f1`, the harmonic mean of precision and recall: NaN where no label is wrong, 0 without a suspect."""
    right = (cells["precision"] * cells["suspects"]).fillna(0)
    f1 = 2 * right / (cells["wrong"] + cells["suspects"])
    return cells.assign(f1=f1.where(cells["wrong"] > 0))


def by_method(cells: pd.DataFrame) -> pd.DataFrame:
    """The mean over the `n` seeds of each number, for each set, number of labels, noise and method, in the order of the study."""
    groups = cells.groupby([*HEADS, "method"])
    numbers = [*MEASURES, "f1", "before", "corrected", "clean"]
    means = groups[numbers].mean().join(groups.size().rename("n")).reset_index()
    for name, values in {"data": SETS, "noise": NOISES, "method": METHODS}.items():
        means[name] = pd.Categorical(means[name], list(values), ordered=True)
    return means.sort_values([*HEADS, "method"]).reset_index(drop=True)


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each set, number of labels and noise, a column for each method; the best of several rankings is in bold."""
    means = by_method(cells)
    ap = (100 * means["average_precision"]).round(1)
    in_row = ap.groupby([means[name] for name in HEADS], observed=True)
    best = (ap == in_row.transform("max")) & (in_row.transform("count") > 1)
    rows = zip(means["precision"], means["recall"], ap, best, means["n"], strict=True)
    means["text"] = [
        f"{_percent(p)} / {_percent(r)}; {f'**{a:.1f}**' if bold else _dashed(a)} ({n})" for p, r, a, bold, n in rows
    ]
    return _pivot(means, "text").rename_axis(columns=None)


def _pivot(means: pd.DataFrame, values: str) -> pd.DataFrame:
    """A row for each set, number of labels and noise, a column for each method, in the order of the study."""
    rows = means.astype(dict.fromkeys([*HEADS, "method"], object)).pivot(index=HEADS, columns="method", values=values)
    order = means[HEADS].drop_duplicates().itertuples(index=False, name=None)
    return rows.loc[list(order), [name for name in METHODS if name in rows]].fillna("–")


def _percent(fraction: float) -> str:
    return _dashed(100 * fraction)


def _dashed(number: float) -> str:
    """The number with one digit; a dash where it is not defined."""
    return "–" if np.isnan(number) else f"{number:.1f}"


def accuracies(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each set and size: label spreading before, after the corrections of each method, and with right labels.

    Only labels that all methods with a cell of the set and size have been given count, so that all have the same.
    """
    rows = []
    for (name, n_labels), group in cells.groupby(["data", "n_labels"]):
        by_labels = group.pivot(index=["noise", "seed"], columns="method", values="corrected").dropna()
        if len(by_labels):
            given = group.drop_duplicates(["noise", "seed"]).set_index(["noise", "seed"]).loc[by_labels.index]
            means = {"as given": given["before"].mean()} | by_labels.mean().to_dict() | {"all right": given["clean"].mean()}
            rows.append({"data": name, "M": n_labels, "sets of labels": len(given)} | means)
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    frame["data"] = pd.Categorical(frame["data"], list(SETS), ordered=True)
    heads = ["as given", *(name for name in METHODS if name in frame), "all right"]
    frame = frame.sort_values(["data", "M"]).astype({"data": object}).set_index(["data", "M"])
    texts = frame[heads].map(lambda accuracy: "–" if np.isnan(accuracy) else f"{100 * accuracy:.2f}")
    return frame[["sets of labels"]].join(texts)


def against(cells: pd.DataFrame, other: str) -> pd.DataFrame:
    """Ours beside the method `other`: F1 and average precision of both by set, size and noise, over the seeds that both have."""
    rows = []
    for heads, group in cells.groupby(HEADS):
        pairs = group.pivot(index="seed", columns="method", values=["f1", "average_precision"])
        if {OURS, other} <= set(group["method"]) and len(same := pairs.loc[:, (slice(None), [OURS, other])].dropna()):
            means = {
                f"{name}_{who}": same[measured, method].mean()
                for name, measured in {"f1": "f1", "ap": MEASURES[2]}.items()
                for who, method in {"ours": OURS, "other": other}.items()
            }
            rows.append(dict(zip(HEADS, heads, strict=True)) | means | {"n": len(same)})
    return pd.DataFrame(rows)


def verdict(cells: pd.DataFrame, other: str, name: str) -> str:
    """Where ours is above the method `other` on the set `name`, by F1 and by average precision, and where it is not; or ""."""
    rows = against(cells[cells["data"] == name], other)
    if rows.empty:
        return ""
    said = []
    for measured, called in {"f1": "F1", "ap": "average precision"}.items():
        gain = (rows[f"{measured}_ours"] - rows[f"{measured}_other"]).round(3)
        points = 100 * (rows[f"{measured}_ours"].mean() - rows[f"{measured}_other"].mean())
        where = [
            f"{noise} of {n} ({100 * each:+.1f})"
            for each, n, noise in sorted(zip(gain, rows["n_labels"], rows["noise"], strict=True))
            if each < 0
        ]
        below = f", below it with {', '.join(where)}" if where else ""
        said.append(f"by {called}, no worse in {int((gain >= 0).sum())} of {len(rows)}, {points:+.1f} points on average{below}")
    return f"- `{OURS}` beside `{other}`, `{name}`: {'; '.join(said)}."


def figure(cells: pd.DataFrame) -> Figure:
    """Precision over recall of the suspects: one panel for each set, a point for each method, size and noise."""
    means = by_method(cells)
    drawn, axes = new_figure(4.2 * len(SETS), 4.6, 1, len(SETS), sharex=True, sharey=True)
    for axis, name in zip(axes[0], SETS, strict=True):
        draw_panel(axis, means[means["data"] == name])
        axis.set(title=name, xlabel="recall (%)")
    axes[0, 0].set_ylabel("precision (%)")
    handles = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    shown = [name for name in METHODS if name in handles]
    drawn.legend([handles[name] for name in shown], shown, ncols=len(shown), loc="outside lower center")
    drawn.suptitle(f"Suspects among labels of which some are wrong ({words.seeds(means['n'])})", fontsize=11)
    return drawn


def draw_panel(axis: Axes, means: pd.DataFrame) -> None:
    """The points of one set; the more labels, the larger."""
    for (method, n_labels), rows in means.groupby(["method", "n_labels"], observed=True):
        marker, color = LOOKS[method]
        size = 3 + 2 * np.log10(n_labels / 100) + 3 * (marker == "*")
        look = {"marker": marker, "color": color, "markersize": size, "linestyle": "none", "alpha": 0.75}
        axis.plot(100 * rows["recall"], 100 * rows["precision"], label=method, markeredgewidth=0, **look)
    axis.set(xlim=(-3, 103), ylim=(-3, 103))


def sentences(cells: pd.DataFrame) -> str:
    """The tables, and where ours is above each other method, by set; Markdown."""
    verdicts = [line for other in METHODS if other != OURS for name in SETS if (line := verdict(cells, other, name))]
    before = [f"{int((~cells['current']).sum())} of {len(cells)} measurements are by earlier code."] * (
        not cells["current"].all()
    )
    corrected = words.markdown(accuracies(cells))
    return "\n\n".join(
        [*before, "\n".join(verdicts), NOTE, words.markdown(table(cells)), *([CORRECTED, corrected] if corrected else [])]
    )


STUDY = Study(
    name="label_errors",
    question="Which wrong labels are found?",
    grid=(),
    summarize=summarize,
    nothing="No check of labels was measured; `make label-errors` does that.",
    figure=figure,
    reading="A point is the mean over seeds of one number of labels and one kind of noise; larger points have more labels. "
    "At the upper right all wrong labels are found, and no right one is accused.",
    picture="label_errors.png",
    sentences=sentences,
    markers={"label errors": page_table(summarize, table)},
    notebook="label_studies",
)
