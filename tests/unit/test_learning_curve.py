"""The learning curve: numbers, tables and sentences, by hand and by properties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_core.lab.studies import learning_curve, unlabeled_gain

SIZES = [50, 250, 1000, 6000]
curves = st.lists(st.floats(0.1, 1.0), min_size=4, max_size=4).map(lambda values: pd.Series(values, index=SIZES))


def results(rows):
    """A table of runs from (recipe, n_labels, seed, accuracy)."""
    return pd.DataFrame(rows, columns=["recipe", "n_labels", "seed", "accuracy"]).assign(nll=0.1, seconds=1.0, n_test=10_000)


def test_a_curve_has_mean_spread_and_number_of_seeds():
    found = learning_curve.curve(results([("a", 50, 0, 0.8), ("a", 50, 1, 0.9), ("a", 250, 0, 0.95)]))
    assert found["mean"].tolist() == pytest.approx([0.85, 0.95])
    assert found["std"][0] == pytest.approx(np.std([0.8, 0.9], ddof=1)) and np.isnan(found["std"][1])
    assert found["n"].tolist() == [2, 1]


@given(curves)
def test_each_measured_size_matches_itself_or_a_smaller_one(means):
    for n, accuracy in means.items():
        assert learning_curve.labels_to_match(means, accuracy) <= n * (1 + 1e-9)


@given(curves, st.floats(0, 1.2), st.floats(0, 1.2))
def test_more_accuracy_never_needs_fewer_labels(means, one, other):
    low, high = sorted((one, other))
    few, many = learning_curve.labels_to_match(means, low), learning_curve.labels_to_match(means, high)
    assert np.isnan(many) or few <= many
    assert np.isnan(learning_curve.labels_to_match(means, means.max() + 0.01))


def test_labels_are_interpolated_on_a_logarithmic_axis():
    means = pd.Series({100: 0.9, 10_000: 0.98})
    assert learning_curve.labels_to_match(means, 0.94) == pytest.approx(1000)
    assert learning_curve.labels_to_match(means, 0.5) == 100


@given(curves)
def test_beyond_the_recommended_size_no_doubling_is_worth_it(means):
    n = learning_curve.recommend(means, 0.005)
    assert all((means[m] - means[n]) / np.log2(m / n) <= 0.005 for m in SIZES if m > n)
    for smaller in (m for m in SIZES if m < n):
        assert any((means[m] - means[smaller]) / np.log2(m / smaller) > 0.005 for m in SIZES if m > smaller)


def test_the_recommendation_by_hand():
    assert learning_curve.recommend(pd.Series({50: 0.90, 250: 0.97, 1000: 0.975, 6000: 0.985})) == 250
    assert learning_curve.recommend(pd.Series({50: 0.90, 6000: 0.985})) == 6000
    assert learning_curve.recommend(pd.Series({50: 0.99})) == 50


def test_tables_and_words_say_what_was_measured():
    rows = [("best", 50, 0, 0.97), ("supervised", 50, 0, 0.88), ("supervised", 250, 0, 0.96), ("supervised", 1000, 0, 0.98)]
    table = results(rows)
    curve = learning_curve.curve(table)
    assert learning_curve.table(curve).loc[50].to_dict() == {"best": "97.00 (1)", "supervised": "88.00 (1)"}
    assert learning_curve.table(curve).loc[250, "best"] == "–"
    assert unlabeled_gain.labels_saved(curve, "best", 50) == "about 500"
    gains = unlabeled_gain.table(unlabeled_gain.gains(table))
    assert gains.loc[50, "best, points above supervised"] == "+9.00 (1)"
    assert gains.loc[50, "best is matched by supervised at"] == "about 500"
    assert learning_curve.figure(curve).axes and unlabeled_gain.figure(unlabeled_gain.gains(table)).axes
    assert "with 50 labels" in learning_curve.sentences(curve) and "**about 500**" in learning_curve.sentences(curve)
    assert "50 with `best`, 1000 with `supervised`" in learning_curve.sentences(curve)
    assert "One seed only" in learning_curve.sentences(curve)
    more = results([*rows, ("best", 50, 1, 0.96)])
    assert "Means over 1 to 2 seeds." in learning_curve.sentences(learning_curve.curve(more))
    assert "Means over 2 seeds." in learning_curve.sentences(
        learning_curve.curve(results([*rows, *((*row[:2], 1, row[3]) for row in rows)]))
    )
    assert "With `supervised`: **M = 1000**" in learning_curve.verdict(curve) and "counts" not in learning_curve.verdict(curve)


def test_a_recommendation_from_few_test_images_says_what_one_of_them_counts():
    curve = learning_curve.curve(results([("best", n, 0, 1.0) for n in (10, 20)]).assign(n_test=20))
    said = learning_curve.verdict(curve)
    assert "**M = 10**; it reaches 100.00 %, and 20 labels 100.00 %." in said
    assert said.endswith("With 20 test images, one counts 5 points: so few hardly show such a step.")
