"""Interrupted training resumes, and ends with the same bits."""

import pickle
from dataclasses import replace

import pytest
import torch

from ssl_core import train
from ssl_core.checkpoint import Checkpoint
from ssl_core.experiment import Labeling, prepare
from ssl_core.model import init_net
from ssl_core.recipes import RECIPES, SUPERVISED


def training(images, name, save_to=None, key="a", stop_after=None):
    """A short training, interrupted after `stop_after` epochs. Gives the result of `fit`, and the epochs that it reported."""
    recipe = RECIPES[name]
    recipe = replace(recipe, epochs=8, epochs_at={}, steps_per_epoch=recipe.steps_per_epoch and 3)
    task = prepare(images, Labeling(500, 0), SUPERVISED)
    y_u = images.y[task.split.unlabeled][:1000]
    candidates = torch.nn.functional.one_hot(y_u, 10).bool() if recipe.pretraining else None
    task = replace(task, x_u=task.x_u[:1000], candidates=candidates)
    reported = []

    def on_epoch(row, epochs):
        reported.append(row["epoch"])
        if row["epoch"] == stop_after:
            raise KeyboardInterrupt

    return train.fit(init_net(0), task, recipe, 0, on_epoch, save_to and Checkpoint(save_to, key)), reported


def same(one, other):
    def weights(result):
        return [p for model in (result.model, *result.snapshots.values()) for p in model.parameters()]

    def numbers(result):
        return [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]

    equal = all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
    return equal and numbers(one) == numbers(other) and one.snapshots.keys() == other.snapshots.keys()


@pytest.mark.parametrize("name, stop_after", [("best", 3), ("best", 7), ("supervised", 7), ("published", 7)])
@pytest.mark.slow
def test_resumed_training_ends_with_the_same_bits(images, tmp_path, name, stop_after):
    whole, _ = training(images, name)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        training(images, name, path, stop_after=stop_after)
    resumed, reported = training(images, name, path)
    # Saved after the first and every fifth epoch: the one from which it resumes is reported again.
    assert reported == list(range({3: 1, 7: 5}[stop_after], 9))
    assert same(whole, resumed)
    seconds = [row["seconds"] for row in resumed.history]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_foreign_or_damaged_checkpoint_is_ignored(images, tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        training(images, "supervised", path, stop_after=6)
    assert training(images, "supervised", path, key="b")[1][0] == 1
    content = path.read_bytes()
    for damaged in (b"", b"damaged", content[: len(content) // 2]):
        path.write_bytes(damaged)
        assert training(images, "supervised", path)[1][0] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt"]


def test_checkpoint_cannot_run_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path / "harmed").touch, ()

    path = tmp_path / "checkpoint.pt"
    for save in (
        lambda: torch.save({"key": "a", "model": Malicious()}, path),
        lambda: path.write_bytes(pickle.dumps(Malicious())),
    ):
        save()
        assert Checkpoint(path, "a").read() is None
    assert not (tmp_path / "harmed").exists()


def test_checkpoint_is_read_as_written(tmp_path):
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path, "a").write({"tensor": torch.arange(3), "number": 1.5, "rows": [{"epoch": 1}]})
    state = Checkpoint(path, "a").read()
    assert state["tensor"].tolist() == [0, 1, 2] and state["number"] == 1.5 and state["rows"] == [{"epoch": 1}]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert Checkpoint(path, "b").read() is None and Checkpoint(tmp_path / "none", "a").read() is None
