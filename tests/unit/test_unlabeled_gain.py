"""The gain from the unlabelled images: paired, and told with what chance explains."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from ssl_core.lab.studies import ablation, unlabeled_gain


def results(rows):
    """A table of runs from (recipe, n_labels, seed, accuracy)."""
    return pd.DataFrame(rows, columns=["recipe", "n_labels", "seed", "accuracy"]).assign(nll=0.1, seconds=1.0, n_test=10_000)


def test_gains_are_told_with_what_chance_explains():
    rng = np.random.default_rng(0)
    rows = [("supervised", n, seed, 0.9) for n in (50, 250, 500) for seed in range(5)] + [("supervised", 1000, 0, 0.95)]
    rows += [("best", 50, seed, 0.95 + 0.001 * rng.standard_normal()) for seed in range(5)]
    rows += [("best", 250, seed, 0.8 + 0.001 * rng.standard_normal()) for seed in range(5)]
    rows += [("best", 500, seed, 0.9 + 0.01 * (-1) ** seed) for seed in range(5)]
    rows += [("best", 1000, 0, 0.97)]
    many = results(rows).assign(n_test=10**9)  # so many test images add nothing to the interval of the seeds
    gains = unlabeled_gain.gain(many, "best")
    said = unlabeled_gain.sentences(unlabeled_gain.gains(many))
    theirs = scipy.stats.t.interval(0.95, 4, gains["mean"][0], gains["std"][0] / 5**0.5)
    interval = " to ".join(f"{100 * bound:+.2f}" for bound in theirs)
    assert said.startswith(
        f"- `best` against `supervised`, in points. **Better**: {100 * gains['mean'][0]:+.2f} ({interval}) with 50."
    )
    assert "**Worse**: -9.99 (" in said and "with 250. No sure difference: +0.20 (-1.16 to +1.56) with 500." in said
    assert "One seed, no interval: +2.00 with 1000." in said
    assert said.endswith("The intervals are over the seeds and the 1,000,000,000 test images.")


def test_seeds_that_agree_on_few_test_images_decide_nothing():
    rows = [(recipe, 50, seed, right / 20) for recipe, right in (("best", 20), ("supervised", 19)) for seed in range(3)]
    gains = unlabeled_gain.gains(results(rows).assign(n_test=20))
    said = unlabeled_gain.sentences(gains)
    assert "No sure difference: +5.00 (" in said and said.endswith("over the seeds and the 20 test images.")
    assert "3 seeds, 20 test images" in unlabeled_gain.figure(gains).axes[0].get_title()


def test_gain_is_paired_by_seed():
    rows = [
        ("best", 50, 0, 0.9),
        ("best", 50, 1, 0.8),
        ("best", 50, 2, 0.1),
        ("supervised", 50, 0, 0.7),
        ("supervised", 50, 1, 0.6),
    ]
    found = unlabeled_gain.gain(results(rows), "best")
    assert found["mean"].tolist() == pytest.approx([0.2]) and found["n"].tolist() == [2]  # seed 2 has no partner
    assert found["std"].tolist() == pytest.approx([0.0])
    assert unlabeled_gain.gain(results(rows[:3]), "best").empty


def test_an_ablation_is_compared_with_its_own_recipe():
    rows = [("best", 50, seed, 0.99) for seed in range(3)] + [("supervised", 50, seed, 0.9) for seed in range(3)]
    rows += [("best-without-muon", 50, seed, 0.97 + seed / 1000) for seed in range(3)]
    rows += [("supervised-plus-entropy", 50, 0, 0.92)]
    changes = ablation.changes(results(rows)).set_index("recipe")
    assert changes["baseline"].tolist() == ["best", "supervised"]
    assert changes["mean"].tolist() == pytest.approx([-0.019, 0.02])
    table = ablation.table(changes.reset_index())
    assert table["M = 50"].tolist() == ["-1.90 ± 0.10 (3)", "+2.00 (1)"]
    said = ablation.sentences(changes.reset_index())
    assert "With 50 labels these cost accuracy, in points: `best-without-muon` -1.90." in said and "entropy" not in said
    assert said.endswith("over seeds and the 10,000 test images, includes zero, or there is one seed.")
    assert "on 10,000 test images" in ablation.figure(changes.reset_index()).axes[-1].get_xlabel()
    assert ablation.changes(results(rows[:6])).empty
