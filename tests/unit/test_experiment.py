"""The experiment as a function: the task that it prepares, and the result that it measures."""

import math
from dataclasses import replace

import pytest
import torch

from ssl_core import clusters, data, experiment, graph, label_errors, selection, train
from ssl_core.experiment import Labeling
from ssl_core.recipes import BEST, SUPERVISED

SHORT = {"epochs": 2, "steps_per_epoch": 3}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def neighbors(digits):
    """A graph on the pixels themselves: nothing is learned, and the neighbours are good."""
    features = digits.x[:].flatten(1)
    return graph.Neighbors(*graph.neighbors(features, 10), features.half())


def test_task_without_graph_is_the_split(digits):
    task = experiment.prepare(digits, Labeling(50, 3), SUPERVISED)
    split = data.split(digits.y, 50, 3)
    assert torch.equal(task.x_l[:], digits.x[split.labeled]) and torch.equal(task.y_l, digits.y[split.labeled])
    assert torch.equal(task.x_u[:], digits.x[split.unlabeled]) and len(task.held_out) == 0
    assert task.candidates is None and task.class_prior is None


def test_label_noise_replaces_the_labels_of_training_only(digits):
    clean, noisy = (experiment.prepare(digits, Labeling(100, 0, label_noise=noise), SUPERVISED) for noise in (0.0, 0.2))
    assert (clean.y_l != noisy.y_l).sum() == 20 and torch.equal(clean.x_l[:], noisy.x_l[:])
    assert torch.equal(digits.y, data.load("digits").y), "the data set keeps its labels"


def test_withheld_fold_joins_the_unlabeled_images(digits):
    whole, part = (experiment.prepare(digits, Labeling(52, 0, fold=fold), SUPERVISED) for fold in (0, 1))
    assert len(part.held_out) == 11 and len(part.x_l) == 41 and len(part.x_u) == len(whole.x_u) + 11
    assert set(part.split.labeled.tolist()) | set(part.held_out.tolist()) == set(whole.split.labeled.tolist())
    assert torch.equal(part.y_held_out, digits.y[part.held_out])


def test_held_out_labels_may_be_noisy(digits):
    task = experiment.prepare(digits, Labeling(50, 0, label_noise=0.5, fold=2), SUPERVISED)
    assert (task.y_held_out != digits.y[task.held_out]).any()


def test_graph_gives_candidates_and_class_prior(digits, neighbors):
    task = experiment.prepare(digits, Labeling(50, 0, "class-balanced"), BEST, neighbors)
    single = task.candidates.sum(dim=1) == 1
    right = task.candidates[torch.arange(len(task.x_u)), digits.y[task.split.unlabeled]]
    assert task.candidates.shape == (len(digits.x) - 50, 10) and single.float().mean() > 0.3
    assert right[single].float().mean() > 0.9
    assert task.class_prior.sum() == pytest.approx(1) and (task.class_prior - 0.1).abs().max() < 0.05


@pytest.mark.parametrize("n_labels, alpha", [(10, 0.999), (50, 0.995), (300, 0.99)])
def test_labels_spread_less_far_the_more_there_are(digits, neighbors, n_labels, alpha):
    believing = replace(BEST, check_labels=False)
    task = experiment.prepare(digits, Labeling(n_labels, 0, "class-balanced"), believing, neighbors)
    scores = graph.spread(neighbors, task.split.labeled, task.y_l, 10, alpha=alpha)
    assert torch.equal(task.candidates, graph.candidates(scores, BEST.graph_margin)[task.split.unlabeled])


@pytest.mark.parametrize("n_labels, alpha", [(100, 0.99), (1000, 0.98)])
def test_labels_are_checked_by_nearer_ones_the_more_there_are(digits, neighbors, n_labels, alpha):
    found = experiment.prepare(digits, Labeling(n_labels, 0, label_noise=0.1), BEST, neighbors).check
    check = label_errors.check(neighbors, found.labeled, found.y_l, 10, uniform_prior=BEST.uniform_prior, alpha=alpha)
    assert torch.equal(found.p, check.p)


def test_typical_draw_is_the_selection_of_the_graph(digits, neighbors):
    task = experiment.prepare(digits, Labeling(20, 5, "typical"), SUPERVISED, neighbors)
    assert torch.equal(task.split.labeled.sort().values, selection.typical(neighbors, 20, 5).index.sort().values)


@pytest.mark.parametrize("labeling, recipe", [(Labeling(50, 0), BEST), (Labeling(50, 0, "typical"), SUPERVISED)])
def test_missing_graph_is_named(digits, labeling, recipe):
    with pytest.raises(ValueError, match=r"^neighbors=None: must be the graph of the images for recipe="):
        experiment.prepare(digits, labeling, recipe)


def test_more_labels_than_there_are_is_named(digits):
    with pytest.raises(ValueError, match=r"^n_labels=1438: must be a whole number from 1 to 1437$"):
        experiment.prepare(digits, Labeling(1438, 0), SUPERVISED)


@pytest.mark.parametrize("field, value", [("n_labels", -1), ("seed", -1), ("draw", "lucky"), ("label_noise", 1.0), ("fold", 6)])
def test_labeling_names_what_makes_no_sense(field, value):
    with pytest.raises(ValueError, match=rf"^{field}={value!r}: must be "):
        Labeling(**{"n_labels": 50, "seed": 0} | {field: value})


def test_fold_is_trained_as_long_as_all_labels(digits):
    recipe = replace(SUPERVISED, epochs=4, epochs_at={50: 2}, steps_per_epoch=1)
    for fold in (0, 1):
        _, result = experiment.run(digits, Labeling(50, 0, fold=fold), recipe)
        assert len(result.training.history) == 2


def test_run_is_its_parts_one_after_the_other(digits):
    recipe = replace(SUPERVISED, **SHORT)
    task, result = experiment.run(digits, Labeling(50, 1, fold=3), recipe)
    again = train.fit(experiment.network(digits, 1), task, recipe, 1)
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), result.training.model.parameters(), strict=True))
    expected = train.evaluate(again.model, digits.x_test, digits.y_test, recipe.tta_views, recipe.tta_augment)
    assert torch.equal(result.trained.probabilities, expected.probabilities)
    assert result.untrained.accuracy == train.evaluate(experiment.network(digits, 1), digits.x_test, digits.y_test).accuracy
    assert list(result.test_accuracy) == [1, 2] and int(result.held_out.confusion.sum()) == len(task.held_out)


def test_without_labels_clusters_are_the_classes(digits, neighbors):
    task = experiment.prepare(digits, Labeling(0, 3), BEST, neighbors)
    by_number = task.y_l.argsort()
    assert (
        torch.equal(task.split.labeled[by_number], selection.typical(neighbors, 10, 3, even=True).index) and task.n_clusters == 10
    )
    assert task.y_l[by_number].tolist() == list(range(10)) and len(task.x_u) == len(digits.x) - 10
    blind = replace(digits, y=torch.full_like(digits.y, -1), classes=())
    again = experiment.prepare(blind, Labeling(0, 3, n_clusters=10), BEST, neighbors)
    assert torch.equal(again.candidates, task.candidates), "no label takes part"
    assert experiment.prepare(blind, Labeling(0, 3), BEST, neighbors).n_clusters == clusters.estimate(neighbors).value


def test_clusters_are_evaluated_by_their_best_naming(digits, neighbors):
    task, result = experiment.run(digits, Labeling(0, 0, n_clusters=12), replace(BEST, **SHORT), neighbors)
    found = result.clustering
    assert len(task.y_l) == 12 == len(found.names) and sorted(found.names)[2:] == list(range(10))
    assert (
        result.trained.accuracy
        == pytest.approx(found.accuracy)
        == pytest.approx(list(result.test_accuracy.values())[-1], abs=0.2)
    )
    assert result.trained.confusion.shape == (12, 12) and result.trained.confusion.sum() == len(digits.y_test)


def test_images_without_classes_have_no_accuracy(digits, neighbors):
    blind = replace(digits, y=torch.full_like(digits.y, -1), classes=(), x_test=digits.x_test[:0], y_test=digits.y_test[:0])
    _, result = experiment.run(blind, Labeling(0, 0, n_clusters=3), replace(BEST, **SHORT), neighbors)
    assert math.isnan(result.trained.accuracy) and math.isnan(result.clustering.ari)


@pytest.mark.parametrize(
    "field, value, must",
    [
        ("draw", "typical", "'random' with n_labels=0: there is no label"),
        ("label_noise", 0.1, "0.0 with n_labels=0: there is no label"),
        ("fold", 1, "a whole number from 0 to 0 with 0 labels"),
        ("n_clusters", 1, "0, for as many as there are classes, or from 2 to 1000"),
    ],
)
def test_without_labels_what_needs_them_is_refused(field, value, must):
    with pytest.raises(ValueError, match=rf"^{field}={value!r}: must be {must}$"):
        Labeling(**{"n_labels": 0, "seed": 0, field: value})


def test_labels_leave_no_room_for_clusters(digits, neighbors):
    with pytest.raises(ValueError, match=r"^n_clusters=5: must be 0 with labels$"):
        Labeling(50, 0, n_clusters=5)
    with pytest.raises(ValueError, match=r"^n_labels=0: must be 1 or more for recipe='supervised', which needs labels; "):
        experiment.prepare(digits, Labeling(0, 0), SUPERVISED, neighbors)
