"""Selections beside the field's: each on small sets whose answers are known."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_core import data, experiment
from ssl_core.experiment import Labeling
from ssl_core.lab.runs import files, records
from ssl_core.lab.studies import intervals, strategies
from ssl_core.lab.studies import strategy_cells as cells
from ssl_core.lab.studies.strategy_cells import Cell
from ssl_core.lab.studies.study import Results

CELL = Cell("digits", "random", 10, 0, "spreading")


@pytest.fixture(scope="module")
def small(ten_groups):
    """The ten groups as read_set has a data set: with features of length one."""
    images, neighbors, features = ten_groups
    return images, neighbors, torch.nn.functional.normalize(features.double(), dim=1).numpy()


@pytest.fixture
def measured(small, monkeypatch):
    monkeypatch.setattr(cells, "read_set", lambda name: small)
    cells.selected.cache_clear()
    yield
    cells.selected.cache_clear()


@pytest.mark.parametrize("strategy", cells.STRATEGIES)
def test_each_strategy_selects_different_images_in_rounds_the_same_each_time(strategy, small, measured):
    if strategy in cells.FIELD:
        pytest.importorskip("skactiveml")
    order = cells.selected("digits", strategy, 0)
    assert len(order.unique()) == len(order) == cells.SIZES[-1]
    cells.selected.cache_clear()
    assert torch.equal(order, cells.selected("digits", strategy, 0))
    assert (strategy in ("typical", "next")) or not torch.equal(order, cells.selected("digits", strategy, 1))


def test_strategies_that_cover_see_each_of_ten_groups_in_ten_labels(small, measured):
    pytest.importorskip("skactiveml")
    for strategy in ("typical", "next", "typiclust", "probcover", "max-herding", "core-set", "class-balanced"):
        assert len(small[0].y[cells.selected("digits", strategy, 3)[:10]].unique()) == 10, strategy


def test_later_rounds_know_the_labels_of_earlier_ones(small, measured, monkeypatch):
    skactiveml = pytest.importorskip("skactiveml.pool")
    seen = []
    query = skactiveml.UncertaintySampling.query

    def watched(self, x, y, **options):
        seen.append((y >= 0).sum())
        assert np.array_equal(y[y >= 0], small[0].y[pool].numpy()[y >= 0])
        return query(self, x, y, **options)

    pool = data.split(small[0].y, 300, 0).labeled
    monkeypatch.setattr(skactiveml.UncertaintySampling, "query", watched)
    order = cells.selected("digits", "margin", 0)
    assert seen == [10, 20, 50, 100], "the first round is random"
    assert torch.equal(order[:10], cells.selected("digits", "random", 0)[:10])


def test_margin_selects_the_smallest_margin_of_logistic_regression(small):
    pytest.importorskip("skactiveml")
    from sklearn.linear_model import LogisticRegression

    x, y = small[2], small[0].y.numpy()
    order = cells.field_rounds("margin", x, y, 10, 0)
    p = np.sort(LogisticRegression(max_iter=1000).fit(x[order[:10]], y[order[:10]]).predict_proba(np.delete(x, order[:10], 0)))
    chosen = np.sort(LogisticRegression(max_iter=1000).fit(x[order[:10]], y[order[:10]]).predict_proba(x[order[10:20]]))
    assert np.sort(chosen[:, -1] - chosen[:, -2]) == pytest.approx(np.sort(p[:, -1] - p[:, -2])[:10], abs=1e-6)


def test_spreading_is_the_share_of_training_images_that_it_classifies_correctly(small, measured):
    row = cells.measure(CELL)
    labeled = data.split(small[0].y, 10, 0).labeled
    nearest = labeled[(small[2] @ small[2][labeled].T).argmax(1)]
    assert float(row["accuracy"]) == pytest.approx((small[0].y[nearest] == small[0].y).double().mean().item(), abs=0.1)
    assert row["images"] == 300 and row["classes"] == len(small[0].y[labeled].unique())


@pytest.mark.parametrize("recipe", ["best", "supervised"])
def test_a_network_is_trained_as_an_experiment_on_the_same_labels(recipe, small, measured, monkeypatch):
    tasks = []
    monkeypatch.setattr(cells, "fit", lambda network, task, recipe, seed: tasks.append((task, recipe)))
    result = type("", (), {"trained": type("", (), {"accuracy": 0.5})})
    monkeypatch.setattr(experiment, "assess", lambda images, task, training: result)
    assert cells.measure(replace(CELL, n_labels=20, measure=recipe))["accuracy"] == "0.500000"
    task, settings = tasks[0]
    expected = experiment.prepare(small[0], Labeling(20, 0), settings, small[1])
    for name in ("x_l", "y_l", "x_u", "candidates", "class_prior"):
        one, two = getattr(task, name), getattr(expected, name)
        assert (one is None and two is None) or torch.equal(one, two), name
    assert settings.name == recipe and torch.equal(task.split.labeled, expected.split.labeled)


def test_a_key_changes_with_what_the_number_follows_from(monkeypatch):
    trained, own = replace(CELL, measure="best"), replace(CELL, strategy="next")
    before = [cells.key(each) for each in (CELL, trained, own)]
    cells.key.cache_clear()
    monkeypatch.setattr(cells.fingerprint, "code_digest", lambda modules=(): f"other {modules}")
    after = [cells.key(each) for each in (CELL, trained, own)]
    cells.key.cache_clear()
    assert len(set(before)) == 3 and all(one != two for one, two in zip(before, after, strict=True))


def made_row(cell, accuracy=0.5, key=None):
    row = {"accuracy": accuracy, "images": 300, "classes": 10, "seconds": 2.0, "key": key or cells.key(cell)}
    return {name: getattr(cell, name) for name in ("data", "strategy", "n_labels", "seed", "measure")} | row


def test_finished_cells_are_kept_and_stale_ones_measured_again(tmp_path):
    path, stale = tmp_path / "rows.csv", replace(CELL, seed=1)
    table = replace(cells.TABLE, path=path)
    assert table.read() == {} and len(table.missing()) == len(cells.grid())
    table.keep(made_row(CELL), CELL)
    table.keep(made_row(stale, key="before"), stale)
    left = table.missing()
    assert CELL not in left and stale in left and len(left) == len(cells.grid()) - 1
    assert dict(zip(table.frame()["seed"], table.frame()["current"], strict=True)) == {0: True, 1: False}
    table.keep(made_row(stale, 0.75), stale)
    assert set(table.read()) == {CELL, stale} and table.read()[stale]["accuracy"] == "0.75"
    path.write_text("something else\n1\n")
    with pytest.raises(ValueError, match=r"^rows\.csv: must be a table with the columns data and strategy"):
        table.read()


def test_the_order_gives_a_picture_early():
    grid = cells.grid()
    assert len(set(grid)) == len(grid) == 4 * 11 * 5 * 5 * 3
    assert all(cell.measure == "spreading" for cell in grid[:1100]) and all(cell.data == "digits" for cell in grid[:275])
    assert [cell.seed for cell in grid[275:1100]] == [seed for seed in range(5) for _ in range(165)]
    early = grid[1100 : 1100 + 3 * 2 * 8 * 2]
    assert {(c.data, c.n_labels, c.seed) for c in early} == {(d, n, 0) for d in cells.FIRST[0] for n in (10, 50)}


def test_the_time_to_go_is_that_of_finished_cells_of_the_measure(tmp_path):
    table = replace(cells.TABLE, path=tmp_path / "rows.csv")
    for seed, seconds in enumerate((1, 3, 50)):
        cell = replace(CELL, seed=seed)
        table.keep(made_row(cell) | {"seconds": seconds}, cell)
    assert table.to_go([CELL, CELL, replace(CELL, measure="best")], 2) == (3 + 3 + cells.MEASURES["best"]) / 2


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    with pytest.raises(ValueError, match=r"^strategy='badge': must have scikit-activeml: pip install '\.\[study\]'$"):
        cells.field_strategy("badge", 10, 0)


@pytest.mark.slow
def test_a_stopped_command_keeps_the_cells_at_work_and_goes_on(tmp_path):
    path = tmp_path / "rows.csv"
    code = (
        "import signal, sys, time; from pathlib import Path; from ssl_core.lab.studies import strategy_cells as cells\n"
        "from dataclasses import replace\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "def slow(cell):\n    time.sleep(1)\n    return {**cells.asdict(cell), 'accuracy': '0.5', 'images': 1, 'classes': 1, "
        "'seconds': '1', 'key': cells.key(cell)}\n"
        "table = replace(cells.TABLE, path=Path(sys.argv[1]), measure=slow)\ntable.measure_all(table.missing()[:40], 2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not path.exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    out, error = process.communicate(timeout=60)
    assert process.returncode and "KeyboardInterrupt" in error
    table = replace(cells.TABLE, path=path)
    rows = table.read()
    assert len(out.splitlines()) < len(rows) < 40, "those at work are kept"
    assert not set(rows) & set(table.missing())


def frame(accuracies, measure="spreading", n_labels=10, name="mnist"):
    """A row for each strategy and seed, from accuracies by strategy."""
    made = [
        {"data": name, "strategy": strategy, "n_labels": n_labels, "seed": seed, "measure": measure, "accuracy": each}
        for strategy, values in accuracies.items()
        for seed, each in enumerate(values)
    ]
    return pd.DataFrame(made).assign(images=60000, classes=10, current=True)


def test_ours_is_compared_with_the_best_other_on_the_same_seeds():
    # Over the two seeds that all have badge is better, over all three core-set.
    values = {"next": [0.9, 0.8], "badge": [0.7, 0.8, 0.9], "core-set": [0.6, 0.6, 1.5], "typical": [1.0, 1.0]}
    found = strategies.against_best(frame(values))
    row = found[found["ours"] == "next"].iloc[0]
    assert row["other"] == "badge" and row["n"] == 2 and row["std"] == pytest.approx(np.std([0.7, 0.8], ddof=1))
    expected = intervals.paired(np.array([0.2, 0.0]), n_test=60000)
    assert [getattr(row["estimate"], name) for name in ("mean", "low", "high", "n")] == pytest.approx([*vars(expected).values()])
    assert strategies.against_best(frame({"next": [0.9]})).empty and len(found) == 2


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_the_difference_is_that_of_the_means_over_shared_seeds(ours, other):
    n = min(len(ours), len(other))
    found = strategies.against_best(frame({"next": ours[:n], "badge": other}))
    assert found.loc[0, "estimate"].mean == pytest.approx(np.mean(ours[:n]) - np.mean(other[:n]), abs=1e-9)


def test_table_figure_and_words_show_what_is_there():
    cells_of = frame({"next": [0.98, 0.99], "badge": [0.97, 0.97]})
    both = pd.concat([cells_of, frame({"next": [0.5], "random": [0.75]}, "best", 50, "digits")])
    table = strategies.table(both)
    assert table.loc[("spreading", "mnist", "next"), "M = 10"] == "**98.50 ± 0.71 (2)**"
    assert table.loc[("best", "digits", "random")].tolist() == ["–", "**75.00 (1)**"]
    said = strategies.sentences(both.assign(current=[False, *[True] * (len(both) - 1)]))
    assert said.startswith("1 of 6 measurements are by earlier code.")
    assert "**`next`, spreading**: at least as good as the best other in 1 of 1 sets and sizes, and in 1 of 1 no further" in said
    assert "- `next`, best, `digits`: -25.00 with 50 (`random`)." in said
    drawn = strategies.figure(both)
    assert drawn.get_suptitle() == "Accuracy by selection of the labelled images (1 to 2 seeds)"
    titles = [axis.get_title() for axis in drawn.axes if axis.get_title()]
    assert titles == ["mnist, label spreading", "digits, best"]


def test_the_study_reads_the_reference():
    results = Results(records.read_table(files.REFERENCE / "results.csv").assign(current=True))
    found = strategies.summarize(results)
    assert len(found) == len(cells.TABLE.read()) and found["accuracy"].between(0, 1).all()
    assert set(found["strategy"]) <= set(cells.STRATEGIES)
