"""Which classes would profit most from more labels?"""

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from . import confusion, intervals, learning_curve, words
from .learning_curve import FEW_IMAGES
from .run_figures import MOST_ROWS
from .study import Results, Study
from .style import drawn_error, error_axis, label_axis, new_figure, order


def recall(counts: pd.DataFrame) -> pd.DataFrame:
    """From confusion.counts: `recipe`, `n_labels`, `seeds`, `class`, `n_test`, the number of its test images, and
    `recall`, the share of these that is recognised; NaN of a class without a test image.
    """
    keys = ["recipe", "n_labels", "seeds", "true"]
    images = counts.groupby(keys, sort=False)["count"].sum()
    correct = counts[counts["true"] == counts["predicted"]].groupby(keys, sort=False)["count"].sum()
    table = pd.DataFrame({"recall": correct / images.where(images > 0), "n_test": images}).reset_index()
    return table.rename(columns={"true": "class"}).assign(n_test=(table["n_test"] / table["seeds"]).round().astype(int))


def summarize(results: Results) -> pd.DataFrame:
    """The recall of each class, over all seeds of a recipe and number of labels."""
    return recall(confusion.summarize(results))


def figure(recalls: pd.DataFrame) -> Figure:
    """The recall of each class over the number of labels; a panel for each recipe."""
    names = sorted(recalls["recipe"].unique(), key=order)
    drawn, axes = new_figure(7.5, 3.8 * len(names), len(names), sharex=True)
    for axis, recipe in zip(axes.flat, names, strict=True):
        rows = recalls[recalls["recipe"] == recipe]
        most, images = rows["n_test"].max(), rows.groupby("n_labels")["n_test"].sum()
        counts = f"{words.seeds(rows['seeds'])}, {words.tested(images)}"
        for c, name in enumerate(list(rows["class"].unique())[:MOST_ROWS]):
            own = rows[rows["class"] == name].sort_values("n_labels")
            label, look = f"{name} ({own['n_test'].min()})", {"marker": "osv^DPX*<>"[c % 10], "color": colormaps["tab10"](c % 10)}
            axis.plot(own["n_labels"], drawn_error(own["recall"], most), label=label, **look)
        error_axis(axis, most)
        label_axis(axis, rows["n_labels"])
        axis.set(ylabel="recognised (%)", title=f"{recipe}: recall of each class ({counts})")
        axis.legend(fontsize=8, ncols=2, title="class (test images)", title_fontsize=8)
        axis.label_outer()
    return drawn


def sentences(recalls: pd.DataFrame) -> str:
    """The class with the fewest test images, what these can show, and the classes without any, Markdown."""
    images = recalls.groupby("class", sort=False)["n_test"].min()
    lines, fewest = [], images[images > 0].idxmin()
    if images[fewest] < FEW_IMAGES:
        low = 100 * intervals.proportion(images[fewest], images[fewest])[0]
        what = f"The class with the fewest test images is {words.plain(fewest)}, with {images[fewest]}"
        lines.append(f"{what}: the 95 % interval of a recall of 100 % begins there at {low:.1f} %.")
    if untested := [words.plain(name) for name in images.index[images == 0]]:
        lines.append(f"No test image shows {', '.join(untested)}: nothing is known of such a class.")
    return " ".join(lines)


STUDY = Study(
    name="class_recall",
    question="Which classes would profit most from more labels?",
    grid=learning_curve.GRID,
    summarize=summarize,
    nothing="No run is finished.",
    figure=figure,
    sentences=sentences,
    reading="Each line is a class; the axis is logarithmic in the share that is missed. If a line lies far below the "
    "others, more or better chosen labels of that class would help most.",
    needs_records=True,
)
