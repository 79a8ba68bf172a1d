"""Other data sets: each with its own curve, what `best` gains there, and what is not mixed."""

import pandas as pd
import pytest

from ssl_core.lab.runs import records
from ssl_core.lab.studies import other_sets, unlabeled_gain, words
from ssl_core.lab.studies.study import Results


def table_of(rows):
    """A table of runs from (data, draw, recipe, n_labels, seed, accuracy)."""
    made = pd.DataFrame(rows, columns=["data", "draw", "recipe", "n_labels", "seed", "accuracy"])
    defaults = {"n_test": 500, "nll": 0.1, "seconds": 1.0, "label_noise": 0.0, "fold": 0, "n_clusters": 0, "current": True}
    empty = records.table([])
    filled = made.assign(**{**defaults, "side": 0, "features": "", "precision": "auto"})
    return filled.reindex(columns=[*empty.columns, *filled.columns.difference(empty.columns)])


@pytest.fixture
def curves():
    rows = [("mnist", "random", "best", 50, seed, 0.99) for seed in range(3)]
    for seed in range(5):
        rows += [("animals", "class-balanced", "best", 50, seed, 0.8 + seed / 100)]
        rows += [("animals", "class-balanced", "supervised", 50, seed, 0.5 + seed / 200)]
        rows += [("kana", "class-balanced", "best", 46, seed, 0.61 - (-1) ** seed / 100)]
        rows += [("kana", "class-balanced", "supervised", 46, seed, 0.6)]
        rows += [("animals", "random", "best", 0, seed, 0.7)]
    rows += [("digits", "random", "best", 50, 0, 0.97), ("digits", "random", "supervised", 50, 0, 0.9)]
    return other_sets.summarize(Results(table_of(rows)))


def test_each_set_but_the_pages_has_its_curve_and_a_paired_gain(curves):
    assert set(curves["data"]) == {"animals", "kana", "digits"}
    best = curves[curves["recipe"] == "best"].set_index(["data", "draw", "n_labels"])
    assert best.loc[("animals", "class-balanced", 50), "gain"] == pytest.approx(0.31)
    assert curves.loc[curves["recipe"] == "supervised", "gain"].isna().all()
    runs = pd.DataFrame(
        [("best", 50, s, 0.8 + s / 100) for s in range(5)] + [("supervised", 50, s, 0.5 + s / 200) for s in range(5)],
        columns=["recipe", "n_labels", "seed", "accuracy"],
    )
    alone = unlabeled_gain.gain(runs.assign(n_test=500), "best").iloc[0]
    assert best.loc[("animals", "class-balanced", 50), "gain_low"] == pytest.approx(alone["low"])


def test_clusters_are_named_as_another_measure_and_gain_nothing(curves):
    clusters = curves[curves["n_labels"] == 0]
    assert clusters["draw"].tolist() == ["none"] and clusters["gain"].isna().all()
    rows = other_sets.table(curves)
    assert rows.loc[("animals", "none", "0 (clusters)"), "best"].startswith("70.00")
    assert rows.loc[("animals", "none", "0 (clusters)"), "best gains, points"] == "–"


def test_table_tells_gains_of_several_seeds_alone(curves):
    rows = other_sets.table(curves)
    assert list(rows.columns) == ["supervised", "best", "best gains, points"]
    assert rows.loc[("animals", "class-balanced", 50), "best gains, points"].startswith("+31.00 (+")
    assert rows.loc[("digits", "random", 50), "best gains, points"] == "–"
    assert "| `kana`, class-balanced, 46 | 60.00 ± 0.00 (5) |" in words.markdown(rows)


def test_sentences_name_where_best_is_not_surely_better(curves):
    said = other_sets.sentences(curves)
    assert said.startswith("Over 2 combinations of data set and number of labels, `best` gains **+15.90 points**")
    assert "in 1 of them by more than chance explains" in said and "not so on `kana` with 46 (+0.80)." in said
    assert said.count("it loses") == 0 and "trained for: `supervised` 1 seconds, `best` 1 seconds of one core" in said
    lost = curves.assign(gain=-curves["gain"], gain_low=-curves["gain_high"], gain_high=-curves["gain_low"])
    said = other_sets.gained(lost)
    assert "in 0 of them" in said
    assert "; not so on `kana` with 46 (-0.80); it loses by more than that on `animals` with 50 (-31.00)." in said
    assert other_sets.gained(curves[curves["data"] == "digits"]) == "", "one seed has no interval"


def test_figure_has_a_row_for_each_selection_and_a_mark_for_each_recipe(curves):
    (axis,) = other_sets.figure(curves).axes
    rows = [label.get_text() for label in axis.get_yticklabels()]
    animals, others = (
        ["animals, class-balanced, 50", "animals, none, 0 (clusters)"],
        ["digits, random, 50", "kana, class-balanced, 46"],
    )
    assert rows == animals + others
    places = {bars.get_label(): sorted(bars.lines[0].get_ydata().tolist()) for bars in axis.containers}
    assert places == {"best": [0, 1, 2, 3], "supervised": [0, 2, 3]}
