"""The analyses of the labels themselves, on tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from ssl_core import data
from ssl_core.datasets.checks import FOLDS
from ssl_core.lab.runs import files, records
from ssl_core.lab.studies import cross_validation, draws, intervals, label_noise, own_labels, words
from ssl_core.lab.studies.study import Results


def row(accuracy, n_labels=50, recipe="best", seed=0, draw="random", wrong=0.0, fold=0, held_out=np.nan, missing=0, n_test=400):
    return {
        "recipe": recipe,
        "n_labels": n_labels,
        "seed": seed,
        "draw": draw,
        "accuracy": accuracy,
        "label_noise": wrong,
        "fold": fold,
        "held_out": held_out,
        "missing_classes": missing,
        "n_test": n_test,
    }


def test_draws_are_compared_where_there_are_several():
    rows = [row(0.8, 20, seed=s, missing=s) for s in (0, 1)] + [row(0.98 + s / 100, 20, seed=s, draw="typical") for s in (0, 1)]
    found = draws.by_draw(pd.DataFrame([*rows, row(0.99, 50)]))
    assert found["n_labels"].tolist() == [20, 20] and found["draw"].tolist() == ["random", "typical"]
    assert found["worst"].tolist() == [0.8, 0.98] and found["missed"].tolist() == [1, 0]
    table = draws.table(found)
    assert table.loc[(20, "best")].tolist() == ["80.00 ± 0.00 (2), 1 missed a class", "98.50 ± 0.71 (2)"]
    assert draws.sentences(found) == "- `best` with typical instead of random labels, in points: +18.50 with 20."
    assert "2 seeds, 400 test images" in draws.figure(found).get_suptitle()


def test_wrong_labels_cost_what_the_same_seeds_lose():
    rows = [row(0.99 - w * (1 + s), seed=s, wrong=w) for s in (0, 1) for w in (0.0, 0.1)]
    found = label_noise.by_label_noise(pd.DataFrame([*rows, row(0.5, seed=2, wrong=0.1), row(0.9, recipe="supervised")]))
    assert found["recipe"].tolist() == ["best", "best"] and found["label_noise"].tolist() == [0.0, 0.1]
    assert found["loss"].tolist() == pytest.approx([0, 0.15]) and found["n"].tolist() == [2, 2]
    assert found["mean"].tolist() == pytest.approx([0.99, 0.84]), "a seed without right labels is left out"
    assert label_noise.table(found).index.tolist() == ["0 %", "10 %"]
    assert words.flat(label_noise.table(found)).columns.tolist() == ["best, M = 50"]
    assert label_noise.sentences(found) == "- `best` with 50 labels loses, in points: 15.00 at 10 %."
    assert "2 seeds, 400 test images" in label_noise.figure(found).axes[0].get_title()


def test_an_estimate_counts_every_label_once_and_needs_all_folds():
    # Of 52 labels the first two folds hold back eleven, the others ten: one mistake in each.
    sizes = [11, 11, 10, 10, 10]
    folds = [row(0.5, 52, fold=f, held_out=(n - 1) / n) for f, n in enumerate(sizes, 1)]
    found = cross_validation.cross_validated(
        pd.DataFrame([row(0.97, 52), *folds, row(0.9, 60), row(0.9, 60, fold=1, held_out=1.0)])
    )
    assert len(found) == 1 and found.loc[0, "estimate"] == pytest.approx(47 / 52) and found.loc[0, "truth"] == 0.97
    assert (found.loc[0, "low"], found.loc[0, "high"]) == intervals.proportion(47, 52) and len(folds) == FOLDS
    table = cross_validation.table(found)
    assert table.loc[("best", 52), "estimated"] == "90.38" and table.iloc[0, -1] == "0 of 1"
    low, high = (f"{100 * bound:.2f}" for bound in intervals.proportion(47, 52))
    assert table.loc[("best", 52), "95 % interval"] == f"{low} to {high}"
    assert cross_validation.sentences(found) == "0 of 1 intervals contain the accuracy on the 400 test images."
    assert "on 400 test images" in cross_validation.figure(found).get_suptitle()


def test_nothing_to_compare_is_an_empty_table():
    plain = pd.DataFrame([row(0.99), row(0.9, recipe="supervised")])
    assert all(len(found(plain)) == 0 for found in (draws.by_draw, label_noise.by_label_noise, cross_validation.cross_validated))


@given(n=st.integers(1, 2000), share=st.floats(0, 1), level=st.sampled_from([0.5, 0.9, 0.95]))
def test_wilsons_interval_is_where_the_score_test_changes_its_mind(n, share, level):
    right = round(share * n)
    low, high = intervals.proportion(right, n, level)
    # (p̂ − p)² = z²·p·(1 − p)/n, a quadratic equation in p
    spread = norm.ppf((1 + level) / 2) ** 2 / n
    roots = np.roots([1 + spread, -2 * right / n - spread, (right / n) ** 2]).real
    assert [low, high] == pytest.approx(sorted(roots), abs=1e-7)


def test_own_labels_are_listed_by_doubt():
    y = torch.tensor([3, 1, 4, 1])
    p = torch.zeros(4, 10)
    p[[0, 1, 2, 3], [3, 7, 4, 1]] = torch.tensor([1.0, 0.9, 0.45, 0.3])
    p[2, 9], p[3, 2], p[1, 1] = 0.55, 0.7, 0.1
    rows = own_labels.listed(p, y, 2)
    assert rows["given"].tolist() == [1, 1, 4] and rows["suggested"].tolist() == [7, 2, 9]
    assert rows["part"].tolist() == ["training", "test", "test"] and rows["index"].tolist() == [1, 1, 0]
    assert rows["suspect"].tolist() == [True, True, False] and not rows["refuted"].any()


def test_own_labels_of_the_reference():
    table = records.read_table(files.REFERENCE / "results.csv")
    rows = own_labels.summarize(Results(table))
    labels = data.load("mnist", files.DATA)
    of_test = rows[rows["part"] == "test"]
    assert labels.y_test[of_test["index"].tolist()].tolist() == of_test["given"].tolist()
    assert sorted(rows.loc[rows["refuted"], "index"]) == sorted(own_labels.REFUTED) and len(own_labels.REFUTED) == 15
    assert rows["p_wrong"].is_monotonic_decreasing and len(own_labels.table(rows)) == 15
    assert "14 are suspect" in own_labels.sentences(rows)
    assert own_labels.summarize(Results(table, data="digits")).empty and own_labels.summarize(Results(table[:0])).empty
