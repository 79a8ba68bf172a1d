"""How accurate are the recipes on other data sets than that of the page?"""

import pandas as pd
from matplotlib.figure import Figure

from . import intervals, learning_curve, unlabeled_gain, words
from .learning_curve import NONE
from .study import Grid, Results, Study, page_table, page_text
from .style import new_figure, order, style

BALANCED = "class-balanced"
RECIPE, BASELINE = "best", "supervised"
BOTH, SEEDS, FIVE = f"{BASELINE} {RECIPE}", "0 1 2", "0 1 2 3 4"
GRID = (
    Grid("1000 250 100 50 10", BOTH, FIVE, data="fashion-mnist", draw=BALANCED),
    Grid("250 50 10", BOTH, FIVE, data="animals", draw=BALANCED),
    Grid("1150 230 46", BOTH, FIVE, data="kana", draw=BALANCED),
    Grid("50 10 2", BOTH, FIVE, data="solar-cells", draw=BALANCED),
    Grid("0", RECIPE, SEEDS, data="fashion-mnist"),
    Grid("0", RECIPE, SEEDS, data="animals"),
    Grid("50", BOTH, SEEDS, data="digits"),
    Grid("250", BOTH, SEEDS, data="mnist-few-eights"),
    Grid("250", BOTH, SEEDS, data="mnist-and-clothes"),
)
GAIN = ["gain", "gain_low", "gain_high"]
GAINED = f"{RECIPE} gains, points"


def summarize(results: Results) -> pd.DataFrame:
    """The learning curves of each data set but that of `results`, with the columns `data` and `draw`.

    `gain` is the accuracy of `best` minus that of `supervised`, paired by seed, in the rows of `best`; see
    unlabeled_gain.gain. Runs without labels are there once a set, with the draw "none".
    """
    tables = []
    for name in sorted(set(results.every["data"]) - {results.data}):
        for draw in dict.fromkeys((results.draw, BALANCED)):
            runs = Results(results.every, name, draw).runs
            if len(runs):
                tables.append(_with_gain(learning_curve.curve(runs), runs).assign(data=name, draw=draw))
        if len(clustered := Results(results.every, name).clustered):
            tables.append(learning_curve.curve(clustered).assign(data=name, draw="none"))
    if not tables:
        return pd.DataFrame()
    curves = pd.concat(tables, ignore_index=True)
    return curves.reindex(columns=list(dict.fromkeys([*curves.columns, *GAIN])))


def _with_gain(curve: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    gain = unlabeled_gain.gain(runs, RECIPE, BASELINE).rename(columns={"mean": "gain", "low": "gain_low", "high": "gain_high"})
    return curve.merge(gain[["n_labels", *GAIN]].assign(recipe=RECIPE), how="left", on=["recipe", "n_labels"])


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, selection and number of labels, a column for each recipe, and the points gained."""
    tables = {}
    for names, curve in curves.groupby(["data", "draw"]):
        tables[names] = learning_curve.table(curve).sort_index(ascending=False)
        gains = _sure(curve)
        texts = [intervals.Estimate(r.gain, r.gain_low, r.gain_high, r.n).percent("+") for r in gains.itertuples()]
        tables[names][GAINED] = pd.Series(texts, index=gains["n_labels"], dtype=object)
        tables[names] = tables[names].rename(index={0: NONE})
    rows = pd.concat(tables, names=["data set", "selection", "labels M"]).fillna("–")
    return rows[[*sorted(rows.columns.drop(GAINED), key=order, reverse=True), GAINED]]


def _sure(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows whose gain has an interval: those of several seeds."""
    return curves.dropna(subset=GAIN)


def figure(curves: pd.DataFrame) -> Figure:
    """A row for each data set, selection and number of labels, a mark for each recipe; the bars are 95 % intervals."""
    keys = ["data", "draw", "n_labels"]
    rows = curves[keys].drop_duplicates().sort_values(keys, ascending=[True, True, False]).reset_index(drop=True)
    places = {key: place for place, key in enumerate(rows.itertuples(index=False, name=None))}
    drawn, ((axis,),) = new_figure(7.5, 1.3 + 0.26 * len(rows))
    for recipe in sorted(curves["recipe"].unique(), key=order):
        of_recipe = curves[curves["recipe"] == recipe]
        y = [places[key] for key in of_recipe[keys].itertuples(index=False, name=None)]
        bars = [100 * (of_recipe["mean"] - of_recipe["low"]), 100 * (of_recipe["high"] - of_recipe["mean"])]
        axis.errorbar(100 * of_recipe["mean"], y, xerr=bars, capsize=2, label=recipe, **{**style(recipe), "linestyle": "none"})
    axis.set_yticks(range(len(rows)), [f"{name}, {draw}, {n or NONE}" for name, draw, n in places])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    for place in rows.index[1:][rows["data"].ne(rows["data"].shift())[1:]]:
        axis.axhline(place - 0.5, color="black", linewidth=0.6)
    axis.set_xlabel("test accuracy (%); without labels, clustering accuracy")
    axis.set_title(f"Accuracy on other data sets ({words.seeds(curves['n'])}; bars: 95 % interval)", fontsize=11)
    drawn.legend(ncols=4, loc="outside lower center")
    return drawn


def sentences(curves: pd.DataFrame) -> str:
    """What `best` gains over all sets, where it surely does not, and the number of test images of each set, Markdown."""
    counts = (f"{words.plain(name)}: {words.tested(curve['n_test'])}" for name, curve in curves.groupby("data"))
    said = f"Accuracies are on the test images of each data set ({'; '.join(counts)})."
    return "\n\n".join(filter(None, [gained(curves), said]))


def gained(curves: pd.DataFrame) -> str:
    """What `best` gains over sets and sizes, where not surely, and how long runs took, Markdown; "" if nothing tells."""
    gains = _sure(curves)
    if gains.empty:
        return ""
    better, worse = gains["gain_low"] > 0, gains["gain_high"] < 0
    counted = f"Over {len(gains)} combinations of data set and number of labels, `{RECIPE}` gains"
    surely = f"in {better.sum()} of them by more than chance explains (the paired 95 % interval is above 0)"
    rest = _named("; not so on", gains[~better & ~worse]) + _named("; it loses by more than that on", gains[worse])
    points = f"**{100 * gains['gain'].mean():+.2f} points** over `{BASELINE}` on average"
    return f"{counted} {points}, {surely}{rest}. {_times(curves)}"


def _named(what: str, gains: pd.DataFrame) -> str:
    named = ", ".join(f"`{row.data}` with {row.n_labels} ({100 * row.gain:+.2f})" for row in gains.itertuples())
    return f"{what} {named}" if named else ""


def _times(curves: pd.DataFrame) -> str:
    """How long a run of each recipe was trained, a sentence."""
    seconds = learning_curve.labeled(curves).groupby("recipe")["seconds"].median()
    times = ", ".join(f"`{recipe}` {seconds[recipe]:.0f} seconds" for recipe in sorted(seconds.index, key=order, reverse=True))
    return f"At the median, a run was trained for: {times} of one core, while another core trained as well."


STUDY = Study(
    name="other_sets",
    question="How accurate are the recipes on other data sets?",
    grid=GRID,
    summarize=summarize,
    nothing="No other data set was run.",
    table=table,
    note="Test accuracy in per cent: mean ± standard deviation over seeds (number of seeds); gains are paired by seed, with"
    " 95 % intervals.",
    figure=figure,
    reading="The farther a circle is to the right of the square in its row, the more the unlabelled images help.",
    picture="other_sets.png",
    sentences=sentences,
    markers={"other sets": page_table(summarize, table), "other sets gained": page_text(summarize, gained)},
)
