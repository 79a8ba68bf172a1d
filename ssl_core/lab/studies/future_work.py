"""What the report leaves to future work, shown: the variants of clusterings.py, regularizations.py and architectures.py.

The study of this module is of robustness: how recipes, and their variants, read corrupted images.
"""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ssl_core.datasets import describe

from . import words
from .ablation import draw_changes
from .cells import CellTable, number, of_earlier_code
from .robustness import KINDS, N_IMAGES
from .study import Results, Study, page_table
from .style import new_figure, order, style
from .unlabeled_gain import gain
from .variants import RECIPES, SETS, TABLE, UNCHANGED, variants

CLUSTERED = "clusterings"  # the study whose variants find clusters without labels
NOTHING = "No variant was measured; `make future-work` does that."
NOTE = (
    "Points of accuracy gained over the recipe as it is, whose own accuracy is in its row: mean ± standard deviation (number of"
    " seeds), on 10,000 training images that are held out. *Robust* is the same on corrupted images, over all sets and sizes."
    " *Time* is that of training, relative to the recipe's."
)


def cells(results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """A row for each finished cell: `robust` is the mean accuracy on corrupted images. None without any finished run."""
    names = ("accuracy", "clusters", "ari", "nmi", "parameters", "operations", "training")
    frame = pd.DataFrame() if results.every.empty else measured.frame(**dict.fromkeys(names, number), corrupted=str)  # type: ignore[arg-type]
    if frame.empty:
        return frame
    n_images = {name: describe(name).n_images for name in frame["data"].unique()}
    n_test = frame["data"].map(n_images) - frame["data"].map(n_images) * 5 // 6
    return frame.assign(robust=[np.mean(by_kind) for by_kind in _corrupted(frame)], n_test=n_test)


def _corrupted(frame: pd.DataFrame) -> list[np.ndarray]:
    """The accuracies (kinds, strengths) of each row."""
    return [np.array(text.split(), float).reshape(len(KINDS), -1) for text in frame["corrupted"]]


def changes(study: str, results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """What each variant of a study gains: a row for each data set, recipe, variant and number of labels, if any.

    `mean`, `std`, `n`, `low` and `high` are as of unlabeled_gain.gain; `robust` is the gain on corrupted images, `time` the
    factor of the seconds of training. Of the recipe as it is, they are its own accuracies.
    """
    frame = cells(results, measured)
    if frame.empty:
        return frame
    tables = []
    for (name, recipe), rows in frame[frame["study"].isin([study, UNCHANGED])].groupby(["data", "recipe"]):
        base = rows[rows["variant"] == UNCHANGED]
        if not (rows["study"] == study).any():
            continue
        for variant in [UNCHANGED, *variants(study)]:
            of_variant = rows[rows["variant"] == variant]
            if len(gained := _gained(base, of_variant, unchanged=variant == UNCHANGED)):
                tables.append(gained.assign(data=name, recipe=recipe, variant=variant))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _gained(base: pd.DataFrame, rows: pd.DataFrame, *, unchanged: bool) -> pd.DataFrame:
    """The gain of the `rows` of one variant over those of the recipe, by number of labels."""
    both = base.merge(rows, on=["n_labels", "seed"], suffixes=("_base", ""))
    if both.empty:
        return both
    sums = both.groupby("n_labels")
    means = sums[["parameters", "operations", "clusters", "ari", "nmi", "current"]].mean(numeric_only=True)
    means["current"] = sums["current"].all()
    means["time"] = sums["training"].mean() / sums["training_base"].mean()
    if unchanged:
        robust, found = sums["robust"].mean(), sums["accuracy"].agg(mean="mean", std="std", n="size")
        return means.join(found).assign(robust=robust, low=np.nan, high=np.nan, n_test=both["n_test"].iloc[0]).reset_index()
    robust = (both["robust"] - both["robust_base"]).groupby(both["n_labels"]).mean()
    runs = pd.concat([base.assign(recipe="base"), rows.assign(recipe="variant")])
    return means.assign(robust=robust).reset_index().merge(gain(runs, "variant", "base"), on="n_labels")


def table(changes: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe and variant: points gained by data set and number of labels, robustness, time and size."""
    rows = changes.assign(
        text=[
            words.percent(row.mean, row.std, int(row.n), "" if row.variant == UNCHANGED else "+")
            for row in changes.itertuples(index=False)
        ],
        head=[f"{row.data}, M = {row.n_labels}" for row in changes.itertuples(index=False)],
    )
    places = {name: i for i, name in enumerate(dict.fromkeys(rows["variant"]))}
    rows = rows.sort_values(["recipe", "variant"], key=lambda column: column.map({**places, **_places(RECIPES)}), kind="stable")
    groups, heads = rows.groupby(["recipe", "variant"], sort=False), sorted(rows["head"].unique(), key=_head_order)
    texts = rows.pivot(index=["recipe", "variant"], columns="head", values="text").reindex(groups.size().index)[heads].fillna("–")
    changed = [variant != UNCHANGED for _, variant in texts.index]
    robust = [
        f"{100 * value:{'+' if is_change else ''}.2f}" for value, is_change in zip(groups["robust"].mean(), changed, strict=True)
    ]
    texts = texts.assign(robust=robust, time=groups["time"].mean().map("× {:.2f}".format))
    if len(set(rows["operations"])) == 1:
        return texts
    size = {"parameters": groups["parameters"].first().map("{:,.0f}".format)}
    return texts.assign(**size | {"million operations": (groups["operations"].first() / 1e6).map("{:.1f}".format)})


def _places(names: tuple[str, ...]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def _head_order(head: str) -> tuple[int, int]:
    name, size = head.split(", M = ")
    return SETS.index(name), int(size)


def figure(changes: pd.DataFrame) -> Figure:
    """A column for each data set, a panel for each recipe, a row for each variant, a mark for each number of labels."""
    gained = changes[changes["variant"] != UNCHANGED].assign(base=changes["recipe"], recipe=changes["variant"])
    recipes = [name for name in RECIPES if name in set(gained["base"])]
    sets = [name for name in SETS if name in set(gained["data"])]
    names = {base: list(gained[gained["base"] == base]["recipe"].unique()) for base in recipes}
    heights = [len(names[base]) for base in recipes]
    size = 2 + 4.2 * len(sets), 1.2 + 0.36 * sum(heights)
    drawn, axes = new_figure(*size, len(recipes), len(sets), height_ratios=heights, sharex=True, sharey="row")
    for (i, base), (j, name) in ((row, column) for row in enumerate(recipes) for column in enumerate(sets)):
        axis, panel = axes[i, j], gained[(gained["base"] == base) & (gained["data"] == name)]
        full = panel.set_index("recipe").reindex(names[base]).rename_axis("recipe").reset_index()
        draw_changes(axis, full, sorted(gained["n_labels"].unique()))
        axis.set_yticks(range(len(names[base])), names[base])
        axis.set_ylim(len(names[base]) - 0.5, -0.5)
        axis.margins(x=0.1)
        axis.set_title(f"`{base}`, {name} …", loc="left", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8)
    tested = words.tested(gained["n_test"]).replace("test", "held-out")
    drawn.supxlabel(f"points of accuracy gained on {tested} (bars: one standard deviation over seeds)", fontsize=10)
    return drawn


def sentences(changes: pd.DataFrame) -> str:
    """Which variants gain or lose by more than chance explains; of a single seed, that nothing is sure; Markdown."""
    gained = changes[changes["variant"] != UNCHANGED]
    lines = []
    for (recipe, name, n), rows in gained.groupby(["recipe", "data", "n_labels"]):
        for verdict, chosen in (("gain", rows["low"] > 0), ("lose", rows["high"] < 0)):
            if points := [f"{row.variant} {100 * row.mean:+.2f}" for row in rows[chosen].itertuples()]:
                lines.append(f"- `{recipe}`, `{name}`, {n} labels: surely {verdict}, in points: {', '.join(points)}.")
    ending = "All others may be chance: their 95 % interval includes zero, or there is one seed."
    clusters = words.markdown(clustered(changes))
    return "\n\n".join(filter(None, ["\n".join(lines), ending, of_earlier_code(changes), clusters and CLUSTERS, clusters]))


CLUSTERS = "What the clusterings find without any label: clustering accuracy, adjusted Rand index, normalised mutual information."


def clustered(changes: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set and clustering: how well its clusters match the classes, in per cent."""
    found = changes.dropna(subset=["clusters"]).drop_duplicates(["data", "variant"])
    numbers = found.set_index(["data", "variant"])[["clusters", "ari", "nmi"]]
    return (100 * numbers).map("{:.2f}".format).rename(columns={"clusters": "accuracy", "ari": "ARI", "nmi": "NMI"})


def described(study: str) -> str:
    """The variants of a study, each with its change and its recipes, Markdown."""
    return "\n".join(f"- **{name}** ({', '.join(each.recipes)}): {each.summary}." for name, each in variants(study).items())


def study(name: str, question: str, reading: str) -> Study:
    """The study of the variants in the module `name` of this package."""
    summarize = partial(changes, name)
    return Study(
        name=name,
        question=question,
        grid=(),
        summarize=summarize,
        nothing=NOTHING,
        table=table,
        note=NOTE,
        figure=figure,
        reading=f"A mark to the right of zero means that the variant gains. {reading}",
        picture=f"{name}.png",
        sentences=sentences,
        markers={name: page_table(summarize, table)}
        | ({"clusters found": page_table(summarize, clustered)} if name == CLUSTERED else {}),
        notebook="future_work",
    )


# --- robustness of the recipes as they are


def corrupted(results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """The mean accuracy of each recipe as it is: by data set, number of labels, kind of corruption, and strength; 0 is none."""
    frame = cells(results, measured)
    frame = frame[frame["variant"] == UNCHANGED] if len(frame) else frame
    if frame.empty:
        return frame
    rows = []
    for row, by_kind in zip(frame.itertuples(), _corrupted(frame), strict=True):
        same = {"data": row.data, "recipe": row.recipe, "n_labels": row.n_labels, "seed": row.seed, "current": row.current}
        for kind, values in zip(KINDS, by_kind, strict=True):
            rows += [same | {"kind": kind, "strength": i, "accuracy": value} for i, value in enumerate([row.accuracy, *values])]
    groups = pd.DataFrame(rows).groupby(["data", "n_labels", "kind", "strength", "recipe"], as_index=False)
    return groups.agg(accuracy=("accuracy", "mean"), n=("seed", "size"), current=("current", "all"))


def curves(means: pd.DataFrame) -> Figure:
    """A row of panels for each data set and number of labels, a panel for each kind, a line for each recipe over the strength."""
    groups = [group for _, group in means.groupby(["n_labels", "data"])]
    drawn, axes = new_figure(11, 0.9 + 1.7 * len(groups), len(groups), len(KINDS), sharex=True, sharey="row")
    for i, group in enumerate(groups):
        for axis, kind in zip(axes[i], KINDS, strict=True):
            for recipe in sorted(group["recipe"].unique(), key=order):
                line = group[(group["kind"] == kind) & (group["recipe"] == recipe)]
                axis.plot(line["strength"], 100 * line["accuracy"], label=recipe, **style(recipe))
            axis.set_xticks(range(4))
        first = group.iloc[0]
        axes[i, 0].set_ylabel(f"{first['data']}, M = {first['n_labels']}\naccuracy (%)", fontsize=9)
    for axis, (kind, (_, strengths)) in zip(axes[0], KINDS.items(), strict=True):
        axis.set_title(f"{kind}\n{', '.join(f'{each:g}' for each in strengths)}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("strength (0: none)", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, ncols=len(labels), loc="outside lower center", fontsize=9)
    return drawn


def robust_table(means: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, number of labels and recipe: the accuracy without corruption, and by kind."""
    heads = ["data", "n_labels", "recipe"]
    clean = means[means["strength"] == 0].groupby(heads)["accuracy"].first()
    by_kind = means[means["strength"] > 0].pivot_table(index=heads, columns="kind", values="accuracy")[list(KINDS)]
    rows = by_kind.assign(all=by_kind.mean(axis=1))
    rows.insert(0, "as they are", clean)
    return (100 * rows).map("{:.2f}".format).rename(columns={"all": "all kinds"}).rename_axis(index={"n_labels": "labels M"})


STUDY = Study(
    name="robustness",
    question="How robust are the recipes?",
    grid=(),
    summarize=corrupted,
    nothing=NOTHING,
    table=robust_table,
    note=f"Accuracy in per cent on held-out training images as they are, and on {N_IMAGES:,} of them, corrupted: mean of three"
    " strengths, and of the seeds.",
    figure=curves,
    reading="The flatter a line, the less the corruption matters. Above each panel: the strengths, in pixels, degrees, as a"
    " factor, or as a standard deviation.",
    picture="robustness.png",
    sentences=of_earlier_code,
    markers={"robustness": page_table(corrupted, robust_table)},
    notebook="future_work",
)
