"""Pools of images: how much time and memory each phase takes."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from ssl_core import graph, recipes
from ssl_core.lab.studies import pools
from ssl_core.lab.studies.study import Results
from ssl_core.train import evaluate


def test_pool_is_measured_phase_by_phase(digits, tmp_path, monkeypatch):
    short = replace(recipes.BEST, epochs=1, steps_per_epoch=2, tta_views=0, pretraining=replace(recipes.PRETRAINING, steps=3))
    monkeypatch.setitem(recipes.RECIPES, "best", short)
    table = replace(pools.TABLE, path=tmp_path / "pools.csv", grid=lambda: [pools.Cell("digits")])
    cell, seen = pools.Cell("digits"), []
    monkeypatch.setattr(pools, "evaluate", lambda *arguments: seen.append(evaluate(*arguments)) or seen[-1])
    row = pools.measure(cell)
    table.keep(row, cell)
    assert float(row["accuracy"]) == pytest.approx(seen[0].accuracy, abs=1e-6) and 0 <= float(row["pool"]) <= 1
    assert float(row["recall"]) > 0.999, "so few are searched for exactly; features are kept in half precision"
    seconds = {name: float(row[f"{name}_seconds"]) for name in pools.PHASES}
    assert sum(seconds.values()) == pytest.approx(float(row["seconds"]), abs=0.1) and seconds["features"] > 0
    assert all(0.1 < float(row[f"{name}_gb"]) < 8 for name in pools.PHASES)
    found = pools.summarize(Results(pd.DataFrame({"any": [1]})), table)
    shown = pools.table(found)
    assert list(shown.columns) == ["1,437 images"] and found["current"].all() and not pools.STUDY.sentences(found)
    assert {"train", "all", "test accuracy"} <= {*shown.index} and shown.loc["neighbours found"].item().startswith(
        ("99.9", "100")
    )


def test_recall_counts_the_neighbors_that_an_exact_search_finds(digits, similar):
    assert pools.recall(similar) == 1
    half = replace(similar, index=torch.cat([similar.index[:, :5], (similar.index[:, 5:] + 700) % len(digits.y)], dim=1))
    assert 0.5 <= pools.recall(half) < 0.55
    worse = graph.Neighbors(similar.similarity, torch.zeros_like(similar.index), similar.features)
    assert pools.recall(worse) < 0.2


def test_a_pool_is_not_made_to_know_whether_its_row_is_current(monkeypatch):
    monkeypatch.setattr(pools, "describe", lambda name: pytest.fail("the pool would be made"))
    keys = {pools.key(cell) for cell in pools.TABLE.grid()}
    assert len(keys) == len(pools.SETS)
