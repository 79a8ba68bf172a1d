"""The frontier of accuracy over seconds: its cells, its figure and its table."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_core import data
from ssl_core.lab.runs import files
from ssl_core.lab.studies import frontier
from ssl_core.lab.studies.study import Results
from ssl_core.recipes import BEST, QUICK

points = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(points)
def test_frontier_has_what_nothing_dominates(seconds_and_accuracy):
    rows = [{"data": "mnist", "total": float(s), "accuracy": a / 10} for s, a in seconds_and_accuracy]
    means = pd.DataFrame(rows).drop_duplicates().reset_index(drop=True)
    for row, on in zip(means.itertuples(), frontier.on_frontier(means), strict=True):
        others = [o for o in means.itertuples() if o.Index != row.Index]
        dominated = any(o.total <= row.total and o.accuracy >= row.accuracy for o in others)
        assert on == (not dominated)


def test_cells_shorten_best_and_recipes_are_among_them():
    cells = frontier.grid()
    assert len(cells) == len(set(cells)) == len(frontier.SETS) * len(frontier.STEPS) * len(frontier.EPOCHS) * len(frontier.SEEDS)
    for cell in cells[:5]:
        settings = cell.settings
        assert (settings.pretraining.steps, settings.epochs) == (cell.steps, cell.epochs)
        whole = replace(settings, epochs=BEST.epochs, pretraining=cell.run.settings.pretraining)
        assert whole == cell.run.settings, "nothing else differs from best"
    for recipe in (BEST, QUICK):
        assert recipe.pretraining.steps in frontier.STEPS and recipe.epochs in frontier.EPOCHS


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A few images, and a table of its own."""
    monkeypatch.setattr(frontier, "N_LABELS", 10)
    return replace(frontier.TABLE, path=tmp_path / "frontier.csv")


def test_cell_is_measured_on_training_images_that_were_held_out(small):
    cell = frontier.Cell("digits", 2, 1, 0)
    pool, digits = frontier.pool("digits"), data.load("digits", files.DATA)
    n = len(digits.x) * 5 // 6
    assert torch.equal(pool.x, digits.x[:n]) and torch.equal(pool.x_test, digits.x[n:]) and len(pool.y_test) == len(digits.x) - n
    row = frontier.measure(cell)
    small.keep(row, cell)
    assert small.read()[cell]["key"] == frontier.key(cell) and 0 <= float(row["accuracy"]) <= 1
    found = frontier.summarize(Results(pd.DataFrame({"any": [1]})), small)
    assert found["accuracy"].tolist() == [float(row["accuracy"])] and found["current"].all()
    assert found["total"].item() == float(row["graph"]) + float(row["training"])
    assert frontier.key(cell) != frontier.key(replace(cell, steps=3)) != frontier.key(replace(cell, epochs=2))


def test_reference_is_shown():
    means = frontier.summarize(Results(pd.DataFrame({"any": [1]})))
    table = frontier.table(means)
    assert set(table.index) == set(frontier.SETS) and "`best`" in table["recipe"].tolist()
    axes = frontier.figure(means).axes
    assert [axis.get_title() for axis in axes] == list(frontier.SETS)
    best = means.groupby("data")["accuracy"].max()
    assert best["mnist"] > 0.99 and best["fashion-mnist"] > 0.7
