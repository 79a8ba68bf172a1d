"""The report's future work: variants of recipes, how they are measured, and what is shown of them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from torch import nn

from ssl_core import experiment, graph, losses, train
from ssl_core.data import Pixels, Task
from ssl_core.experiment import Labeling
from ssl_core.graph import Neighbors
from ssl_core.lab.studies import clusterings, future_work, regularizations, robustness, variants
from ssl_core.lab.studies.study import Results
from ssl_core.lab.studies.variants import UNCHANGED, Cell
from ssl_core.model import N_PARAMETERS, Net, init_net
from ssl_core.recipes import BEST, SUPERVISED

ANY = Results(pd.DataFrame({"any": [1]}))  # studies of cells ask only whether there is a run at all
CHANGES = [(study, name) for study in variants.STUDIES for name in variants.variants(study)]


def short(recipe):
    """Three steps of it."""
    return replace(recipe, epochs=1, epochs_at={}, steps_per_epoch=3)


@pytest.fixture(scope="module")
def task(digits, similar):
    return experiment.prepare(digits, Labeling(50, seed=0), BEST, similar)


def test_grid_pairs_each_variant_with_its_recipe():
    grid = variants.grid()
    assert len(grid) == len(set(grid)) and len({variants.key(cell) for cell in grid[:40]}) == 40
    for cell in grid:
        assert replace(cell, study=UNCHANGED, variant=UNCHANGED) in grid, "what it is compared with"
    first = [cell for cell in grid if (cell.seed, cell.data, cell.n_labels) == (0, "mnist", 50)]
    assert grid[: len(first)] == first, "one whole comparison comes first"


def test_a_variant_changes_one_thing():
    for study, name in CHANGES:
        variant = variants.variants(study)[name]
        for recipe in variant.recipes:
            changed, base = (Cell(*which, recipe, "mnist", 50, 0).settings for which in ((study, name), (UNCHANGED, UNCHANGED)))
            other = [variant.network is not Net, variant.training is not train.Training, variant.candidates is not None]
            assert any(other) or changed != base, name
            assert changed == base or study == "regularizations", name


@pytest.mark.slow
@pytest.mark.parametrize(("study", "name"), CHANGES, ids=lambda text: text)
def test_each_variant_trains(study, name, digits, similar):
    """Three steps: the loss is finite, all its terms are told, and the weights move."""
    variant = variants.variants(study)[name]
    for recipe in variant.recipes:
        settings = short(Cell(study, name, recipe, "digits", 50, 0).settings)
        task = experiment.prepare(digits, Labeling(50, seed=0), settings, similar if settings.pretraining else None)
        model, untouched = (variants.untrained(variant, 0, 10, 1) for _ in range(2))
        before = {name: weight.clone() for name, weight in untouched.named_parameters()}
        assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters()), "a function of the seed"
        training = variant.training(model, task, settings, 0)
        training.train_epoch()
        assert set(training.weights) == set(training.history[-1]) - {"total", "epoch", "step", "seconds"}
        assert np.isfinite(list(training.history[-1].values())).all()
        total = sum(weight * training.history[-1][name] for name, weight in training.weights.items())
        assert training.history[-1]["total"] == pytest.approx(total, rel=1e-4)
        assert all(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())
        *_, last = (name for name, weight in model.named_parameters() if weight.ndim > 1)
        assert last == "linear2.weight", "Muon moves all layers but the last"
        assert not training.teacher.model(digits.x_test[:9])[0].isnan().any()


@pytest.mark.parametrize("name", [name for name in clusterings.VARIANTS if name != "hdbscan"])
def test_clusterings_name_their_clusters_by_labels(name, digits, similar, task):
    scores = clusterings.VARIANTS[name].candidates(similar, task, 10)
    assert scores.shape == (len(digits.x), 10)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(len(scores)))
    right = scores.argmax(dim=1) == digits.y
    assert right.float().mean() > 0.6, "much better than chance"
    again = clusterings.VARIANTS[name].candidates(similar, task, 10)
    assert torch.equal(scores, again)


def test_a_cluster_without_a_label_allows_every_class():
    cluster = torch.tensor([0, 0, 1, 1, -1, 2])
    named = clusterings.by_labels(None, labels_of([0, 2, 3]), 3, lambda neighbors, n: cluster)
    assert named.tolist()[:2] == [[1, 0, 0]] * 2 and named[2].tolist() == [0, 0.5, 0.5]
    assert torch.allclose(named[4:], torch.full((2, 3), 1 / 3)), "of no cluster, and of one that nobody labelled"
    assert graph.candidates(named, 0.9)[4:].all()


def labels_of(indices):
    """A task of labelled images of the classes 0, 1, 2."""
    nothing = torch.zeros(0)
    split = experiment.split(torch.arange(3), 3, 0)
    split = type(split)(torch.tensor(indices), torch.arange(0))
    return Task(nothing, torch.tensor([0, 1, 2]), nothing, split=split)


def test_blobs_are_found_without_labels():
    random = np.random.default_rng(0)
    y = np.repeat(range(3), 200)
    x = torch.from_numpy(np.eye(30)[y * 10] + 0.05 * random.normal(size=(600, 30))).float()
    blobs = Neighbors(*graph.neighbors(x, 10), x.half())
    for find in (
        clusterings.k_means,
        clusterings.gaussian_mixture,
        clusterings.spectral,
        clusterings.hdbscan,
        clusterings.spread,
    ):
        assert adjusted_rand_score(y, find(blobs, 3)) > 0.95, find.__name__


def test_centroids_are_those_of_the_report(digits, similar, task):
    scores = clusterings.centroids(similar, task, 10)
    features, labeled = similar.features.float(), task.split.labeled
    means = losses.class_centroids(features[labeled], task.y_l)
    nearest = (features[:50, None] - means[None]).norm(dim=2).argmin(dim=1)
    assert scores[:50].argmax(dim=1).tolist() == task.y_l.unique()[nearest].tolist() and set(scores.unique().tolist()) == {0, 1}


# --- regularisations


def of(kind, digits, recipe=SUPERVISED, **changes):
    settings = short(regularizations._unlabeled(replace(recipe, **changes)))
    task = experiment.prepare(digits, Labeling(50, seed=0), settings)
    return kind(init_net(0), task, settings, 0)


def views(training):
    return train.views(
        training.task.x_l[:20], training.task.y_l[:20], training.task.x_u[:20], training.recipe, training.generator
    )


@pytest.mark.slow
def test_adversarial_change_alters_more_than_a_random_one(digits):
    training = of(regularizations.VirtualAdversarial, digits)
    for _ in range(10):
        training.train_epoch()
    batch = views(training)
    adversarial = np.mean([training.virtual_adversarial(batch).item() for _ in range(5)])
    x, target = batch[2], training.model(batch[2])[0].softmax(dim=1)
    change = regularizations.RADIUS * regularizations._unit(torch.randn(5, *x.shape, generator=training.generator).flatten(0, 1))
    moved = training.model(x.repeat(5, 1, 1, 1) + change)[0].log_softmax(dim=1)
    by_chance = F.kl_div(moved, target.repeat(5, 1), reduction="batchmean").item()
    assert adversarial > 2 * by_chance > 0


def test_mixup_is_cross_entropy_of_mixed_classes(digits):
    training = of(regularizations.Mixup, digits)
    batch, state = views(training), training.generator.get_state()
    found = training.mixup(batch)
    training.generator.set_state(state)
    share, order = torch.rand((), generator=training.generator), torch.randperm(20, generator=training.generator)
    x, y = batch[:2]
    soft = share * F.one_hot(y, 10) + (1 - share) * F.one_hot(y[order], 10)
    assert found.item() == pytest.approx(
        F.cross_entropy(training.model(share * x + (1 - share) * x[order])[0], soft).item(), rel=1e-5
    )


def test_mean_teacher_teaches_without_gradient(digits):
    training = of(regularizations.MeanTeacher, digits)
    training.train_epoch()
    training.mean_teacher(views(training)).backward()
    assert all(weight.grad is None for weight in training.teacher.model.parameters())
    assert any(weight.grad.abs().sum() > 0 for weight in training.model.parameters())


def test_weight_decay_shrinks_weights_alone(digits):
    decayed, plain = of(regularizations.WeightDecay, digits), of(train.Training, digits)
    steps = [next(iter(training.batches.epoch())) for training in (decayed, plain)]
    for training, step in zip((decayed, plain), steps, strict=True):
        training.train_step(*step, None)
    for shrunk, weight in zip(decayed.model.parameters(), plain.model.parameters(), strict=True):
        rate = decayed.recipe.learning_rate * decayed.recipe.decay_at(1 / 3)
        factor = 1 - regularizations.DECAY * rate if weight.ndim > 1 else 1
        torch.testing.assert_close(shrunk, factor * weight)


def test_batch_norm_reads_with_moments_of_training(digits):
    variant = regularizations.VARIANTS["batch-norm"]
    settings = short(SUPERVISED)
    task = experiment.prepare(digits, Labeling(50, seed=0), settings)
    training = variant.training(variants.untrained(variant, 0, 10, 1), task, settings, 0)
    training.train_epoch()
    for average, now in zip(training.teacher.model.buffers(), training.model.buffers(), strict=True):
        assert torch.equal(average, now)
    assert not training.teacher.model.training and training.model.training
    one, all_of_them = (training.teacher.model(digits.x_test[:n])[0][0] for n in (1, 50))
    torch.testing.assert_close(one, all_of_them, msg="an image is read alike, whatever stands beside it")


def test_dropout_is_off_where_images_are_read(digits):
    model = variants.untrained(regularizations.VARIANTS["dropout"], 0, 10, 1)
    x = digits.x_test[:9]
    assert not torch.equal(model(x)[0], model(x)[0])
    torch.testing.assert_close(model.eval()(x)[0], init_net(0).eval()(x)[0])


# --- networks and their cost


def test_networks_have_the_size_that_their_names_tell():
    sizes = {}
    for name, variant in variants.variants("architectures").items():
        sizes[name] = sum(weight.numel() for weight in variants.untrained(variant, 0, 10, 1).parameters())
    assert 19_000 < sizes["tiny"] < 21_000 and sizes["tiny"] < sizes["half"] < N_PARAMETERS < sizes["double"]
    assert sizes["deep"] == sizes["residual"] == N_PARAMETERS + 2 * (64 * 64 * 9 + 64)
    ladder = [784, 1000, 500, 250, 250, 250, 10]
    assert sizes["perceptron"] == sum(a * b + b for a, b in pairwise(ladder))


def test_operations_are_two_for_each_product():
    by_hand = 26**2 * 32 * 9 + 11**2 * 64 * 288 + 3**2 * 64 * 576 + 576 * 300 + 300 * 10
    assert variants.operations(init_net(0), torch.zeros(1, 1, 28, 28)) == 2 * by_hand


def test_residual_block_without_weights_is_the_report_network():
    model = variants.untrained(variants.variants("architectures")["residual"], 0, 10, 1)
    nn.init.zeros_(model.block[1].weight), nn.init.zeros_(model.block[1].bias)
    report = Net()
    report.load_state_dict({name: weight for name, weight in model.state_dict().items() if not name.startswith("block")})
    x = torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(model(x)[0], report(x)[0])


# --- robustness


@settings(deadline=None)
@given(st.sampled_from(list(robustness.KINDS)), st.integers(1, 3), st.integers(1, 12))
def test_corrupted_images_keep_shape_range_and_place(kind, strength, n):
    bytes_ = torch.randint(0, 256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
    one, again = (robustness.corrupted(Pixels(bytes_, (0.1,), (0.3,)), kind, strength) for _ in range(2))
    assert one.values.shape == bytes_.shape and one.values.dtype == torch.uint8 and torch.equal(one.values, again.values)
    assert not torch.equal(one.values, bytes_) and (one.mean, one.std) == ((0.1,), (0.3,))


def test_corruptions_do_what_they_say():
    x = torch.zeros(4, 1, 28, 28)
    x[:, :, 13:15, 13:15] = 1
    assert [image[0].nonzero()[0].tolist() for image in robustness.shifted(x, 4)] == [[17, 17], [9, 17], [17, 9], [9, 9]]
    torch.testing.assert_close(robustness.rotated(x, 90), x, atol=1e-4, rtol=0)
    large, small = robustness.scaled(x, 2)[:2, 0].sum(dim=(1, 2))
    assert large > 12 and small < 2
    assert robustness.blurred(x, 1.0).sum().item() == pytest.approx(x.sum().item(), rel=1e-3)
    white = torch.ones(50, 1, 28, 28)
    assert (robustness.occluded(white, 10).sum(dim=(1, 2, 3)) == 28**2 - 100).all()
    assert robustness.noisy(white, 0.2).std().item() == pytest.approx(0.2, rel=0.05)


@pytest.mark.slow
def test_stronger_corruption_costs_more(images):
    """The report's network, trained a little, on MNIST."""
    task = experiment.prepare(images, Labeling(1000, seed=0), recipe := replace(SUPERVISED, epochs=2, tta_views=0))
    model = train.fit(experiment.network(images, 0), task, recipe, 0).model
    x = Pixels(((images.x_test[:1000] * 0.3081 + 0.1306) * 255).round().clamp(0, 255).byte(), (0.1306,), (0.3081,))
    found = robustness.accuracies(model, x, images.y_test[:1000])
    clean = train.evaluate(model, images.x_test[:1000], images.y_test[:1000]).accuracy
    for kind, (weak, medium, strong) in found.items():
        assert clean + 0.01 >= weak >= medium - 0.01 and medium >= strong - 0.01, kind
    assert np.mean(list(found.values())) < clean - 0.05


# --- cells and what is shown


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A table of its own, of a few steps on digits."""
    monkeypatch.setattr(variants, "bytes_held_out", lambda name: pixels_held_out())
    return replace(variants.TABLE, path=tmp_path / "future_work.csv")


def pixels_held_out():
    x = variants.pool("digits").x_test
    return Pixels((255 * (x - x.min()) / (x.max() - x.min())).byte(), (0.3,), (0.3,))


@pytest.mark.slow
def test_cells_are_kept_and_compared_with_the_recipe(measured, monkeypatch):
    monkeypatch.setattr(Cell, "settings", property(lambda cell: short(cell.run.followed(cell.change.change(SUPERVISED)))))
    cells = [Cell(UNCHANGED, UNCHANGED, "supervised", "digits", 50, seed) for seed in (0, 1)]
    cells += [Cell("architectures", "tiny", "supervised", "digits", 50, seed) for seed in (0, 1)]
    for cell in cells:
        measured.keep(variants.measure(cell), cell)
    assert {row["key"] for row in measured.read().values()} == {variants.key(cell) for cell in cells}
    monkeypatch.setattr(future_work, "SETS", ("digits",))
    changes = future_work.changes("architectures", ANY, measured)
    rows = {cell: {name: float(row[name]) for name in ("accuracy", "training")} for cell, row in measured.read().items()}
    gains = [rows[b]["accuracy"] - rows[a]["accuracy"] for a, b in zip(cells[:2], cells[2:], strict=True)]
    (of_tiny,) = changes[changes["variant"] == "tiny"].itertuples()
    assert (
        of_tiny.mean == pytest.approx(np.mean(gains)) and of_tiny.std == pytest.approx(np.std(gains, ddof=1)) and of_tiny.n == 2
    )
    times = [sum(rows[cell]["training"] for cell in part) for part in (cells[2:], cells[:2])]
    assert of_tiny.time == pytest.approx(times[0] / times[1])
    shown = future_work.table(changes)
    assert shown.index.tolist() == [("supervised", UNCHANGED), ("supervised", "tiny")]
    assert shown["parameters"].tolist() == [f"{N_PARAMETERS:,}", "20,760"] and changes["current"].all()
    assert [axis.get_title("left") for axis in future_work.figure(changes).axes] == ["`supervised`, digits …"]
    assert future_work.changes("clusterings", ANY, measured).empty
    alike = future_work.table(changes.assign(operations=1.0))
    assert alike.columns.tolist() == shown.columns.tolist()[:3], "what is the same everywhere is not told"
    curves = future_work.corrupted(ANY, measured)
    assert set(curves["kind"]) == set(robustness.KINDS) and set(curves["strength"]) == {0, 1, 2, 3}
    assert len(future_work.curves(curves).axes) == len(robustness.KINDS)
    assert future_work.robust_table(curves).shape == (1, len(robustness.KINDS) + 2)


def test_clusters_of_a_variant_are_measured_without_labels(monkeypatch, digits, similar):
    monkeypatch.setattr(variants, "pool", lambda name: digits)
    monkeypatch.setattr(variants, "neighbors", lambda name, pretraining: similar)
    found = variants.clustered(Cell("clusterings", "spectral", "best", "digits", 50, 0))
    assert float(found["clusters"]) > 0.7
    expected = adjusted_rand_score(digits.y, clusterings.spectral(similar, 10))
    assert float(found["ari"]) == pytest.approx(expected, abs=1e-5)
    noise = replace(variants.variants("clusterings")["spectral"], clusters=lambda near, n: torch.full((len(digits.y),), -1))
    monkeypatch.setattr(Cell, "change", property(lambda cell: noise))
    assert variants.clustered(Cell("clusterings", "spectral", "best", "digits", 50, 0))["clusters"] == "0.000000"


def test_what_only_shows_a_number_is_no_part_of_its_key(monkeypatch, tmp_path):
    code = variants._code("architectures")
    assert "STUDY" not in code and "VARIANTS" in code and "Linear" in code
