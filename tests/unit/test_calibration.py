"""What runs kept of their predictions, read again and compared."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from ssl_core.lab import trust
from ssl_core.lab.runs import Run

Y = np.array([0, 1, 2, 2])
SURE = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.0, 0.3, 0.7], [0.0, 0.6, 0.4]])  # the last is wrong
UNSURE = np.array([[0.4, 0.6, 0.0], [0.9, 0.1, 0.0], [0.0, 0.3, 0.7], [0.0, 0.4, 0.6]])  # the first two are


@pytest.fixture
def found(tmp_path):
    kept = [(Run(50, "best", 0), SURE), (Run(50, "supervised", 0), UNSURE), (Run(50, "supervised", 1), SURE)]
    for run, probabilities in kept:
        run.folder(tmp_path).mkdir(parents=True)
        save_file({"probabilities": probabilities}, run.folder(tmp_path) / "predictions.safetensors")
    without = Run(250, "best", 0)
    records = [{"run": {"n_labels": r.n_labels, "recipe": r.recipe, "seed": r.seed}} for r in [*(r for r, _ in kept), without]]
    return trust.said(records, tmp_path)


def test_runs_that_kept_their_predictions_are_read(found):
    assert set(found) == {("best", 50), ("supervised", 50)} and list(found["supervised", 50]) == [0, 1]
    pooled = trust.pooled(found, Y, 50)
    assert pooled["best"][0].tolist() == [0.9, 0.8, 0.7, 0.6] and pooled["best"][1].tolist() == [True, True, True, False]
    assert len(pooled["supervised"][0]) == 8 and trust.pooled(found, Y, 250) == {}


def test_the_share_that_is_answered_well_enough(found):
    said = trust.coverage_in_words(trust.pooled(found, Y, 50), 50, (0.9, 1.0))
    assert "- `best` with 50 labels: 90 % on the surest **75.0 %**, 100 % on the surest **75.0 %**." in said


def test_disagreement_is_counted_run_by_run(found):
    counted = trust.disagreements(found, Y, "best", "supervised")
    table = trust.disagreement_table(counted, "best", "supervised")
    assert table.loc[50].tolist() == [0, 2, 1, "1.000"]  # seed 1 has no partner
    assert list(table.columns) == ["seed", "only best is right", "only supervised is right", "p-value (McNemar)"]


def test_pairs_are_counted_that_differ_by_more_than_chance_explains():
    rows = [(50, 0, 40, 5, 1e-7), (50, 1, 5, 40, 1e-7), (250, 0, 9, 8, 1.0), (250, 1, 12, 2, 0.013)]
    counted = pd.DataFrame(rows, columns=["n_labels", "seed", "only_one", "only_two", "p"])
    said = trust.disagreements_in_words(counted, "best", "supervised")
    assert said.startswith("Of 4 pairs of runs `best` is better in **2** and `supervised` in **1**, by more than chance explains")
    assert said.endswith("in 1 neither.")


def test_trust_is_shown_where_no_draw_missed_a_class(found):
    said = found | {("best", 10): found["best", 50], ("best", 250): found["best", 50]}
    rows = [(10, 3), (10, 0), (50, 0), (50, 1), (250, 0), (250, 0), (1000, 0)]
    results = pd.DataFrame(rows, columns=["n_labels", "missing_classes"])
    assert trust.fewest(results, said) == 250
    assert trust.fewest(results[results["missing_classes"] > 0], said) == 10  # there is no such size
    assert trust.fewest(results, found) == 50  # of those that kept their predictions
