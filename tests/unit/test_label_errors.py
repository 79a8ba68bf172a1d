"""Which labels are wrong, by all other labels; and training that does without them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import spsolve
from sklearn.metrics import average_precision_score, cohen_kappa_score

from ssl_core import data, experiment, graph, label_errors, recipes, train
from ssl_core.experiment import Labeling
from ssl_core.graph import Neighbors, neighbors


@pytest.fixture(scope="module")
def blobs():
    """The graph of three far groups of 100, 60 and 40 points, and the groups."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat_interleave(torch.tensor([100, 60, 40]))
    points = 4 * torch.eye(3)[y] + torch.randn(200, 3, generator=generator)
    return Neighbors(*neighbors(points, 8), points), y


def confuse(y_l, a, b, fraction):
    """The labels, where the first `fraction` of those of `a` and of `b` are given to the other."""
    confused = y_l.clone()
    for one, other in ((a, b), (b, a)):
        members = torch.nonzero(y_l == one).flatten()
        confused[members[: round(fraction * len(members))]] = other
    return confused


@pytest.mark.parametrize(("fraction", "least"), [(0.05, 0.8), (0.2, 0.9), (0.4, 0.9)])
def test_wrong_labels_are_found(digits, similar, fraction, least):
    labeled = data.split(digits.y, 500, 0).labeled
    true = digits.y[labeled]
    y_l = data.corrupt_labels(true, fraction, 0, 10)
    check = label_errors.check(similar, labeled, y_l, 10)
    wrong, found = y_l != true, check.suspect
    assert (found & wrong).sum() >= least * wrong.sum() and (found & wrong).sum() >= least * found.sum()
    assert check.low - 10 <= wrong.sum() <= check.high + 10 and check.low <= check.n_wrong <= check.high
    assert (check.suggested[found & wrong] == true[found & wrong]).float().mean() > 0.9
    assert average_precision_score(wrong, check.p_wrong) > 0.9


def test_right_labels_are_believed(digits, similar):
    for seed in range(3):
        labeled = data.split(digits.y, 500, seed).labeled
        check = label_errors.check(similar, labeled, digits.y[labeled], 10)
        assert check.suspect.sum() <= 7 and check.left_out.sum() <= 5 and check.low <= 7


def test_confusion_of_two_classes_is_found(digits, similar):
    """A careless labeller takes 4 for 9 and 9 for 4, in three of ten cases."""
    labeled = data.split(digits.y, 500, 0).labeled
    true = digits.y[labeled]
    y_l = confuse(true, 4, 9, 0.3)
    check = label_errors.check(similar, labeled, y_l, 10)
    wrong, found = y_l != true, check.suspect
    assert (found & wrong).sum() >= 0.8 * wrong.sum() and (found & wrong).sum() >= 0.8 * found.sum()
    assert check.confusion[4, 9] > 0.1 and check.confusion[9, 4] > 0.1 and check.confusion[0, 1] < 0.05
    torch.testing.assert_close(check.confusion.sum(dim=1), torch.ones(10))


def test_scores_are_those_of_spreading_from_the_other_folds(blobs):
    """The one solution for each class and fold gives what a direct solver gives without the fold."""
    similar, y = blobs
    labeled = torch.arange(0, 200, 4)
    y_l = y[labeled].numpy()
    spreading = label_errors._Spreading(similar, (labeled.numpy(), y_l), 3, uniform_prior=True, alpha=label_errors.ALPHA)
    scores, checked = spreading.scores(np.ones(len(y_l), np.float32))
    assert checked.all()
    matrix = graph.system(similar, label_errors.ALPHA).tocsc()
    scale = scores[0] / _without(matrix, labeled.numpy(), y_l, spreading.fold, 0)
    for i in range(len(y_l)):
        expected = _without(matrix, labeled.numpy(), y_l, spreading.fold, i) * scale
        np.testing.assert_allclose(scores[i], expected, rtol=5e-3, atol=1e-6)


def _without(matrix, labeled, y_l, fold, i):
    """What the labels of each class outside the fold of label `i` bring to its image, per label."""
    sources = np.zeros((matrix.shape[0], 3))
    for c in range(3):
        others = labeled[(y_l == c) & (fold != fold[i])]
        sources[others, c] = 1 / len(others)
    return spsolve(matrix, sources)[labeled[i]]


def test_one_label_of_each_class_cannot_be_checked(digits, similar):
    labeled = data.split(digits.y, 10, 0, "class-balanced").labeled
    check = label_errors.check(similar, labeled, digits.y[labeled].roll(1), 10)
    assert not check.checked.any() and not check.suspect.any() and check.n_wrong == check.high == 0


def test_the_only_label_of_a_class_is_believed(blobs):
    similar, y = blobs
    labeled = torch.tensor([*range(0, 100, 10), *range(100, 160, 10), 170])
    y_l = y[labeled]
    y_l[-1] = 2
    check = label_errors.check(similar, labeled, y_l, 3)
    assert not check.checked[-1] and check.checked[:-1].all() and not check.suspect.any()


def test_a_class_keeps_its_least_doubtful_label():
    p = torch.tensor([[0.9, 0.1, 0], [0.1, 0.9, 0], [0.9, 0.02, 0.08], [0.8, 0.05, 0.15]])
    y_l, checked = torch.tensor([0, 1, 2, 2]), torch.ones(4, dtype=torch.bool)
    check = label_errors.LabelCheck(torch.arange(4), p, y_l, checked, torch.eye(3), 1.8, 1, 2)
    assert check.suspect.tolist() == [False, False, True, True] and check.left_out.tolist() == [False, False, True, False]


def test_a_graph_that_contradicts_most_labels_is_not_believed(digits, similar):
    """Classes that have nothing to do with what the images look like, as where a lamp decides and not the figure."""
    images = replace(digits, y=torch.arange(len(digits.y)) * 7919 % 5, classes=tuple("abcde"))
    for n, misled in ((60, True), (300, True), (30, False)):
        task = experiment.prepare(images, Labeling(n, seed=0), recipes.BEST, similar)
        assert task.check.graph_misleads == misled == (task.candidates is None) == (task.class_prior is None)
        assert not misled or (not task.check.left_out.any() and len(task.y_l) == n and not len(task.x_u))
        trained = train.Training(experiment.network(images, 0), task, recipes.BEST, 0)
        assert trained.recipe.augment_labeled.contrast == (0 if misled else recipes.BEST.augment_labeled.contrast)
        assert [len(part) for part in next(iter(trained.batches.epoch()))] == ([192, 0] if misled else [32, 160])
    for noise in (0, 0.2, 0.5):
        task = experiment.prepare(digits, Labeling(100, seed=0, label_noise=noise), recipes.BEST, similar)
        assert not task.check.graph_misleads and task.candidates is not None, "with most labels right the graph is right"


@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(2, 6))
def test_agreement_is_cohens_kappa(seed, n, n_classes):
    one, two = np.random.default_rng(seed).integers(0, n_classes, (2, n))
    expected = cohen_kappa_score(one, two) if len({*one, *two}) > 1 else 1
    assert label_errors._kappa(one, two, n_classes) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.6), st.integers(4, 80), st.booleans())
def test_properties(blobs, seed, fraction, n, uniform):
    similar, y = blobs
    labeled = data.split(y, n, seed).labeled
    y_l = data.corrupt_labels(y[labeled], fraction, seed, 3)
    check, again = (label_errors.check(similar, labeled, y_l, 3, uniform_prior=uniform) for _ in range(2))
    assert torch.equal(check.p, again.p) and (check.n_wrong, check.low, check.high) == (again.n_wrong, again.low, again.high)
    torch.testing.assert_close(check.p.sum(dim=1), torch.ones(n))
    assert (check.p_wrong >= 0).all() and (check.p_wrong <= 1).all() and not (check.suspect & ~check.checked).any()
    assert (check.suggested[check.suspect] != y_l[check.suspect]).all()
    assert set(y_l.tolist()) == set(y_l[~check.left_out].tolist()), "each class keeps a label"
    assert check.graph_misleads == (check.checked.sum() >= label_errors.FEWEST and check.agreement < label_errors.FAIR)
    assert not (check.graph_misleads and check.left_out.any())
    assert check.n_wrong == pytest.approx(check.p_wrong.sum().item(), abs=1e-3)
    assert 0 <= check.low <= check.high <= n


@pytest.mark.slow
@pytest.mark.parametrize(("n", "slack", "draws", "least"), [(300, 3, 20, 16), (100, 0, 40, 31)])
def test_interval_holds_the_number_of_wrong_labels(digits, similar, n, slack, draws, least):
    """If nine in ten hold it, fewer than 31 of 40 have a probability of 0.005."""
    inside = 0
    for seed in range(draws):
        labeled = data.split(digits.y, n, seed).labeled
        y_l = data.corrupt_labels(digits.y[labeled], 0.4 / draws * seed, seed, 10)
        check = label_errors.check(similar, labeled, y_l, 10)
        inside += bool(check.low - slack <= (y_l != digits.y[labeled]).sum() <= check.high + slack)
    assert inside >= least


@pytest.mark.slow
def test_interval_knows_of_odd_images_where_the_graph_is_poor(images):
    """By pixels, 600 digits are a poor graph. An interval that takes odd images for wrong labels holds the number in 17 of 30."""
    x, y, labeled, inside = images.x[:600].flatten(1), images.y[:600], torch.arange(400), 0
    poor = Neighbors(*neighbors(x, 10), x)
    for seed in range(30):
        y_l = data.corrupt_labels(y[labeled], 0.05 * (seed % 5), seed, 10)
        check = label_errors.check(poor, labeled, y_l, 10)
        inside += bool(check.low <= (y_l != y[labeled]).sum() <= check.high)
    assert inside >= 21


def test_best_leaves_suspects_out_of_training(digits, similar):
    recipe = replace(recipes.BEST, check_labels=True)
    labeling = Labeling(300, seed=1, label_noise=0.2)
    task = experiment.prepare(digits, labeling, recipe, similar)
    believing = experiment.prepare(digits, labeling, replace(recipe, check_labels=False), similar)
    assert believing.check is None and len(believing.y_l) == 300
    out = task.check.labeled[task.check.left_out]
    assert 40 <= len(out) <= 75 and len(task.y_l) == 300 - len(out) and len(task.x_l) + len(task.x_u) == len(digits.x)
    assert not set(out.tolist()) & set(task.split.labeled.tolist()) and set(out.tolist()) <= set(task.split.unlabeled.tolist())
    wrong = (task.y_l != digits.y[task.split.labeled]).float().mean()
    assert wrong < 0.05 < (believing.y_l != digits.y[believing.split.labeled]).float().mean()
    assert task.candidates.shape == (len(task.x_u), 10)


def test_no_label_is_checked_where_clusters_stand_in_for_classes(digits, similar):
    task = experiment.prepare(digits, Labeling(0, seed=0), replace(recipes.BEST, check_labels=True), similar)
    assert task.check is None and task.n_clusters == 10


def test_checking_needs_a_graph():
    with pytest.raises(ValueError, match=r"check_labels=True: must be False without pretraining"):
        replace(recipes.SUPERVISED, check_labels=True)
