"""The predictions that runs kept, read again and compared."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from ssl_core.lab.runs.spec import Run
from ssl_core.lab.studies import calibration, comparison

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
    records = [SimpleNamespace(run=run) for run in [*(run for run, _ in kept), without]]
    return calibration.predictions(records, tmp_path)


def test_runs_that_kept_their_predictions_are_read(found):
    assert set(found) == {("best", 50), ("supervised", 50)} and list(found["supervised", 50]) == [0, 1]
    pooled = calibration.pooled(found, Y, 50)
    best = pooled[pooled["recipe"] == "best"]
    assert best["confidence"].tolist() == [0.9, 0.8, 0.7, 0.6] and best["correct"].tolist() == [True, True, True, False]
    assert len(pooled[pooled["recipe"] == "supervised"]) == 8 and calibration.pooled(found, Y, 250).empty
    table = calibration.table(pooled)
    assert table.loc["best"].tolist() == ["75.00", "75.00", "30.00", "4"]
    assert calibration.figure(pooled).get_suptitle() == "With 50 labels (1 to 2 seeds, 4 test images)"


def test_the_share_that_is_answered_well_enough(found):
    said = calibration.sentences(calibration.pooled(found, Y, 50), (0.5, 0.99))
    few = "4 test images can't show 99 %: all 4 of 4 right shows 59.6 %"
    assert f"- `best` with 50 labels: 50 % accuracy on the most confident **100.0 %** of 4 test images; {few}." in said
    many = pd.DataFrame({"recipe": "best", "n_labels": 50, "seed": 0, "confidence": np.linspace(0.5, 1, 400)})
    said = calibration.sentences(many.assign(correct=np.arange(400) >= 100), (0.9, 0.99))
    shares = (
        "90 % accuracy on the most confident **83.2 %** of 400 test images; 99 % accuracy on the most confident **75.8 %** of"
    )
    assert said == f"- `best` with 50 labels: {shares} 400 test images."


def test_disagreement_is_counted_run_by_run(found):
    counted = comparison.disagreements(found, Y, "best", "supervised")
    table = comparison.table(counted)
    assert table.loc[50].tolist() == [0, 2, 1, "1.000"]  # seed 1 has no partner
    assert list(table.columns) == ["seed", "only best is right", "only supervised is right", "p-value (McNemar)"]


def test_pairs_are_counted_that_differ_by_more_than_chance_explains():
    rows = [(50, 0, 40, 5, 1e-7), (50, 1, 5, 40, 1e-7), (250, 0, 9, 8, 1.0), (250, 1, 12, 2, 0.013)]
    counted = pd.DataFrame(rows, columns=["n_labels", "seed", "only_one", "only_two", "p"])
    said = comparison.sentences(counted.assign(one="best", two="supervised", n_test=400))
    pairs = "Of 4 pairs of runs, on 400 test images,"
    assert said.startswith(f"{pairs} `best` is better in **2** and `supervised` in **1**, by more than chance explains")
    assert said.endswith("in 1 neither.")


def test_trust_is_shown_where_no_draw_missed_a_class(found):
    said = found | {("best", 10): found["best", 50], ("best", 250): found["best", 50]}
    rows = [(10, 3), (10, 0), (50, 0), (50, 1), (250, 0), (250, 0), (1000, 0)]
    results = pd.DataFrame(rows, columns=["n_labels", "missing_classes"])
    assert calibration.fewest(results, said) == 250
    assert calibration.fewest(results[results["missing_classes"] > 0], said) == 10  # there is no such size
    assert calibration.fewest(results, found) == 50  # of those that kept their predictions
