"""What runs kept of their predictions, read again and compared."""

import numpy as np
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
    table = trust.disagreement_table(found, Y, "best", "supervised")
    assert table.loc[50].tolist() == [0, 2, 1, "1.000"]  # seed 1 has no partner
