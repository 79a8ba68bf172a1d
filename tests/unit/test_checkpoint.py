"""Training that is cut off and goes on ends with the same bits."""

import pickle
from dataclasses import replace

import pytest
import torch

from ssl_core import checkpoint, data, train
from ssl_core.model import init_net
from ssl_core.recipes import RECIPES


def training(images, name, save_to=None, key="a", stop_after=None):
    """A short training; `stop_after` so many epochs, Ctrl-C. Gives what `fit` returns, and the epochs that it told of."""
    recipe = RECIPES[name]
    recipe = replace(recipe, epochs=8, epochs_at={}, steps_per_epoch=recipe.steps_per_epoch and 3)
    parts = data.split(images.y, 500, 0)
    x_u, y_u = images.x[parts.unlabeled][:1000], images.y[parts.unlabeled][:1000]
    candidates = torch.nn.functional.one_hot(y_u, 10).bool() if recipe.pretraining else None
    told = []

    def on_epoch(row, epochs):
        told.append(row["epoch"])
        if row["epoch"] == stop_after:
            raise KeyboardInterrupt

    x_l, y_l = images.x[parts.labeled], images.y[parts.labeled]
    return train.fit(init_net(0), x_l, y_l, x_u, recipe, 0, on_epoch, candidates, None, save_to, key), told


def same(one, other):
    def weights(fit):
        return [p for model in (fit.model, *fit.snapshots.values()) for p in model.parameters()]

    def told(fit):
        return [{name: value for name, value in row.items() if name != "seconds"} for row in fit.history]

    equal = all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
    return equal and told(one) == told(other) and one.snapshots.keys() == other.snapshots.keys()


@pytest.mark.parametrize("name, stop_after", [("best", 3), ("best", 7), ("supervised", 7), ("published", 7)])
def test_training_that_was_cut_off_ends_with_the_same_bits(images, tmp_path, name, stop_after):
    whole, _ = training(images, name)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        training(images, name, path, stop_after=stop_after)
    resumed, told = training(images, name, path)
    # Saved after the first and every fifth epoch: the one that it goes on from is told again.
    assert told == list(range({3: 1, 7: 5}[stop_after], 9))
    assert same(whole, resumed)
    seconds = [row["seconds"] for row in resumed.history]
    assert seconds == sorted(seconds)


def test_a_checkpoint_of_other_training_or_a_damaged_one_is_passed_over(images, tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        training(images, "supervised", path, stop_after=6)
    assert training(images, "supervised", path, key="b")[1][0] == 1
    content = path.read_bytes()
    for damaged in (b"", b"damaged", content[: len(content) // 2]):
        path.write_bytes(damaged)
        assert training(images, "supervised", path)[1][0] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt"]


def test_a_checkpoint_can_not_run_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path / "harmed").touch, ()

    path = tmp_path / "checkpoint.pt"
    for save in (
        lambda: torch.save({"key": "a", "model": Malicious()}, path),
        lambda: path.write_bytes(pickle.dumps(Malicious())),
    ):
        save()
        assert checkpoint.read(path, "a") is None
    assert not (tmp_path / "harmed").exists()


def test_what_was_written_is_read_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.write(path, "a", {"tensor": torch.arange(3), "number": 1.5, "rows": [{"epoch": 1}]})
    found = checkpoint.read(path, "a")
    assert found["tensor"].tolist() == [0, 1, 2] and found["number"] == 1.5 and found["rows"] == [{"epoch": 1}]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert checkpoint.read(path, "b") is None and checkpoint.read(tmp_path / "none", "a") is None
