import html

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_core.lab import budget
from ssl_core.lab.runs import Run

SIZES = [50, 250, 1000, 6000]
curves = st.lists(st.floats(0.1, 1.0), min_size=4, max_size=4).map(lambda values: pd.Series(values, index=SIZES))


def results(rows):
    return pd.DataFrame(rows, columns=["recipe", "n_labels", "seed", "accuracy"]).assign(nll=0.1, seconds=1.0)


def test_a_curve_has_mean_spread_and_number_of_seeds():
    found = budget.curve(results([("a", 50, 0, 0.8), ("a", 50, 1, 0.9), ("a", 250, 0, 0.95)]))
    assert found["mean"].tolist() == pytest.approx([0.85, 0.95])
    assert found["std"][0] == pytest.approx(np.std([0.8, 0.9], ddof=1)) and np.isnan(found["std"][1])
    assert found["n"].tolist() == [2, 1]


def test_gains_are_told_with_what_chance_explains():
    rng = np.random.default_rng(0)
    rows = [("supervised", n, seed, 0.9) for n in (50, 250, 500) for seed in range(5)] + [("supervised", 1000, 0, 0.95)]
    rows += [("best", 50, seed, 0.95 + 0.001 * rng.standard_normal()) for seed in range(5)]
    rows += [("best", 250, seed, 0.8 + 0.001 * rng.standard_normal()) for seed in range(5)]
    rows += [("best", 500, seed, 0.9 + 0.01 * (-1) ** seed) for seed in range(5)]
    rows += [("best", 1000, 0, 0.97)]
    gains = budget.gain(results(rows), "best")
    said = budget.gain_in_words({"best": gains})
    theirs = scipy.stats.t.interval(0.95, 4, gains["mean"][0], gains["std"][0] / 5**0.5)
    interval = " to ".join(f"{100 * bound:+.2f}" for bound in theirs)
    assert said.startswith(
        f"- `best` against `supervised`, in points. **Better**: {100 * gains['mean'][0]:+.2f} ({interval}) with 50."
    )
    assert "**Worse**: -9.99 (" in said and "with 250. No sure difference: +0.20 (-1.16 to +1.56) with 500." in said
    assert said.endswith("One seed, no interval: +2.00 with 1000.")


def test_gain_is_paired_by_seed():
    rows = [
        ("best", 50, 0, 0.9),
        ("best", 50, 1, 0.8),
        ("best", 50, 2, 0.1),
        ("supervised", 50, 0, 0.7),
        ("supervised", 50, 1, 0.6),
    ]
    found = budget.gain(results(rows), "best")
    assert found["mean"].tolist() == pytest.approx([0.2]) and found["n"].tolist() == [2]  # seed 2 has no partner
    assert found["std"].tolist() == pytest.approx([0.0])
    assert budget.gain(results(rows[:3]), "best").empty


@given(curves)
def test_each_measured_size_matches_itself_or_a_smaller_one(means):
    for n, accuracy in means.items():
        assert budget.labels_to_match(means, accuracy) <= n * (1 + 1e-9)


@given(curves, st.floats(0, 1.2), st.floats(0, 1.2))
def test_more_accuracy_never_needs_fewer_labels(means, one, other):
    low, high = sorted((one, other))
    few, many = budget.labels_to_match(means, low), budget.labels_to_match(means, high)
    assert np.isnan(many) or few <= many
    assert np.isnan(budget.labels_to_match(means, means.max() + 0.01))


def test_labels_are_interpolated_on_a_logarithmic_axis():
    means = pd.Series({100: 0.9, 10_000: 0.98})
    assert budget.labels_to_match(means, 0.94) == pytest.approx(1000)
    assert budget.labels_to_match(means, 0.5) == 100


@given(curves)
def test_beyond_the_recommended_size_no_doubling_is_worth_it(means):
    n = budget.recommend(means, 0.005)
    assert all((means[m] - means[n]) / np.log2(m / n) <= 0.005 for m in SIZES if m > n)
    for smaller in (m for m in SIZES if m < n):
        assert any((means[m] - means[smaller]) / np.log2(m / smaller) > 0.005 for m in SIZES if m > smaller)


def test_the_recommendation_by_hand():
    assert budget.recommend(pd.Series({50: 0.90, 250: 0.97, 1000: 0.975, 6000: 0.985})) == 250
    assert budget.recommend(pd.Series({50: 0.90, 6000: 0.985})) == 6000
    assert budget.recommend(pd.Series({50: 0.99})) == 50


def test_tables_and_words_say_what_was_measured():
    rows = [("best", 50, 0, 0.97), ("supervised", 50, 0, 0.88), ("supervised", 250, 0, 0.96), ("supervised", 1000, 0, 0.98)]
    table = results(rows)
    curve = budget.curve(table)
    assert budget.accuracy_table(curve).loc[50].to_dict() == {"best": "97.00 (1)", "supervised": "88.00 (1)"}
    assert budget.accuracy_table(curve).loc[250, "best"] == "–"
    assert budget.labels_saved_table(curve).loc[50].tolist() == ["about 500"]
    gains = budget.gain_table({"best": budget.gain(table, "best")})
    assert gains.loc[50, "best, points above supervised"] == "+9.00 (1)"
    assert "with 50 labels" in budget.in_words(table) and "**about 500**" in budget.in_words(table)
    assert "50 with `best`, 1000 with `supervised`" in budget.in_words(table)
    assert "One seed only" in budget.in_words(table)
    assert "Means over 1 to 2 seeds." in budget.in_words(results([*rows, ("best", 50, 1, 0.96)]))
    assert "Means over 2 seeds." in budget.in_words(results([*rows, *((*row[:2], 1, row[3]) for row in rows)]))
    assert "With `supervised`: **M = 1000**" in budget.verdict(curve)


def test_names_of_others_are_no_markup():
    name = '<script>alert("1")</script> [x](y) **b** | $z$'
    said = budget.run_in_words(Run(50, "best", 0), 0.1, 0.9, 60, [name])
    assert not set("<>[]*|$()") & set(said.split("No label covers ")[1].split(": what")[0])
    assert html.unescape(said).count(name) == 1


def test_beside_the_report():
    record = {
        "run": {"recipe": "published", "n_labels": 6000, "seed": 0},
        "untrained": {"accuracy": 0.1, "nll": 2.306},
        "test_accuracy": {"1": 0.84, "5": 0.97, "10": 0.98, "15": 0.983},
        "nll": 0.06,
        "accuracy": 0.983,
    }
    table = budget.beside_report([record])
    assert table.loc["M = 6000, after epoch 15"].tolist() == ["98.28", "98.30 (1)"]
    assert table.loc["untrained, NLL"].tolist() == ["2.3059", "2.3060 (1)"]
    assert budget.beside_report([]).empty


def test_the_prior_is_told_and_what_is_made_of_it():
    said = budget.prior_in_words(torch.tensor([0.2, 0.7, 0.1]), ("a", "b", "c"), uniform=False)
    assert said == "How frequent the classes are is estimated, not assumed; by the graph, in per cent: b 70.0, a 20.0, c 10.0."
    said = budget.prior_in_words(torch.full((100,), 0.01), tuple(f"class {i}" for i in range(100)), uniform=True)
    assert said.startswith("All classes are held to be equally frequent;") and said.count("1.0") == 12


def test_candidates_are_counted_in_words():
    candidates = torch.tensor([[True, False, False], [True, True, False], [False, True, False], [False, False, True]])
    said = budget.candidates_in_words(candidates, torch.tensor([0, 1, 1, 0]))
    assert said.startswith("**75.0 %** of the unlabelled images have a single candidate, and for 66.67 % of these")
    assert "of all, 75.00 % have the right one" in said
