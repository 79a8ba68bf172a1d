"""The images to label next in view of labels; what a round and a class are worth; users who stop by it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core import data, graph, next_label, selection
from ssl_core.graph import Neighbors, neighbors
from ssl_core.lab.tools import label_advice, label_users

NOTHING = torch.empty(0, dtype=torch.int64)


@pytest.fixture(scope="module")
def blobs():
    """The graph of three far groups of 100, 60 and 40 points."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.eye(3).repeat_interleave(torch.tensor([100, 60, 40]), dim=0)
    points = 10 * centers + torch.randn(200, 3, generator=generator)
    return Neighbors(*neighbors(points, 8), points)


def test_without_labels_it_is_the_selection_that_covers(similar):
    suggestion = next_label.suggest(similar, NOTHING, NOTHING, 10, 0, seed=0)
    assert torch.equal(suggestion.index, selection.typical(similar, 10, 0).index) and suggestion.scores.shape == (10, 0)
    for n, uniform in ((10, True), (10, False), (12, True)):  # of ten classes: one image each, if they are equally frequent
        one_each = next_label.suggest(similar, NOTHING, NOTHING, n, 10, seed=0, uniform_prior=uniform).index
        assert torch.equal(one_each, selection.typical(similar, n, 0, even=uniform and n == 10).index)


def test_next_image_lies_in_the_group_without_a_label(blobs):
    suggestion = next_label.suggest(blobs, torch.tensor([0, 1, 100]), torch.tensor([0, 0, 1]), 1, 3, seed=0)
    assert suggestion.index[0] >= 160 and suggestion.mass[0] < graph.OUT_OF_DISTRIBUTION and suggestion.stands_for[0] == 40
    assert label_advice.reasons(suggestion, torch.tensor([0, 0, 1]), "abc") == ["stands for 40 images that no label reaches"]


def test_images_passed_over_are_not_selected_again(blobs):
    passed = torch.arange(160, 199)
    suggestion = next_label.suggest(blobs, torch.tensor([0, 100]), torch.tensor([0, 1]), 159, 2, 0, passed=passed)
    assert sorted([*suggestion.index.tolist(), 0, 100]) == [*range(160), 199]
    with pytest.raises(ValueError, match=r"n_labels=160: must be a whole number from 1 to 159"):
        next_label.suggest(blobs, torch.tensor([0, 100]), torch.tensor([0, 1]), 160, 2, 0, passed=passed)


@pytest.mark.parametrize("group", range(3))
def test_where_the_trained_run_is_unsure_counts(group):
    """Of three groups that the graph tells apart, the next image comes from the one that the run can't tell from another."""
    generator, y = torch.Generator().manual_seed(0), torch.arange(3).repeat_interleave(60)
    points = 10 * torch.eye(3)[y] + torch.randn(180, 3, generator=generator)
    graph_of_groups, labeled, p = Neighbors(*neighbors(points, 8), points), torch.tensor([0, 60, 120]), torch.eye(3)[y]
    p[y == group] = (torch.eye(3)[group] + torch.eye(3)[(group + 1) % 3]) / 2
    suggestion = next_label.suggest(graph_of_groups, labeled, y[labeled], 1, 3, 0, p=p)
    one, two = sorted([group, (group + 1) % 3])
    assert y[suggestion.index[0]] == group
    assert label_advice.reasons(suggestion, y[labeled], "abc", p) == [
        f"between {'abc'[one]} and {'abc'[two]}: the trained run is unsure"
    ]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5), st.integers(1, 10))
def test_suggestions_are_new_and_a_pure_function(similar, digits, n_labels, n, seed, n_seen):
    labeled = torch.from_numpy(np.random.default_rng(seed).permutation(len(digits.y))[:n_labels])
    y_l = digits.y[labeled] % n_seen  # of one class only, too
    one, two = (next_label.suggest(similar, labeled, y_l, n, n_seen, seed) for _ in range(2))
    assert (
        torch.equal(one.index, two.index) and len(one.index.unique()) == n and not set(one.index.tolist()) & set(labeled.tolist())
    )
    assert len(label_advice.reasons(one, y_l, "0123456789"[:n_seen])) == n


def test_suggestions_are_no_worse_than_random_ones(similar, digits):
    """From 10 labels to 40, by label spreading on digits; random ones of three seeds reach 91 % on average."""
    labeled = NOTHING
    for n in (10, 10, 20):
        suggestion = next_label.suggest(similar, labeled, digits.y[labeled], n, 10, 0, uniform_prior=False)
        labeled = torch.cat([labeled, suggestion.index])
    random = [data.split(digits.y, 40, seed).labeled for seed in range(3)]
    ours, *others = (
        (graph.spread(similar, each, digits.y[each], 10).argmax(1) == digits.y).float().mean() for each in (labeled, *random)
    )
    assert ours > max(others) and len(digits.y[labeled[:20]].unique()) == 10


@pytest.mark.parametrize("uniform_prior", [True, False])
def test_reach_gives_what_spreading_gives(similar, digits, uniform_prior):
    """Of all labels, and of some of them; two ways to compute it, and graph.spread as the oracle."""
    labeled = data.split(digits.y, 70, 0).labeled
    reached = next_label.reach(similar, labeled, digits.y[labeled], uniform_prior=uniform_prior)
    whole = next_label.reach_of_all(similar, digits.y, uniform_prior=uniform_prior)
    for kept in (torch.arange(70), torch.arange(5, 40)):
        spread = graph.spread(similar, labeled[kept], digits.y[labeled[kept]], 10, uniform_prior=uniform_prior)
        for classes in (reached.classes(kept.numpy()), whole.classes(labeled[kept].numpy())):
            assert (torch.from_numpy(classes) == spread.argmax(dim=1)).float().mean() > 0.998
    without = reached.without_each()
    for i in (0, 33, 69):
        others = labeled[torch.arange(70) != i]
        scores = graph.spread(similar, others, digits.y[others], 10, uniform_prior=uniform_prior)
        assert scores[labeled[i]].argmax() == without[i]


def test_worth_is_bounded_by_what_the_last_round_changed(similar, digits):
    labeled = data.split(digits.y, 60, 0).labeled
    worth = next_label.worth(similar, labeled, digits.y[labeled], 20, 10)
    before, after = (graph.spread(similar, labeled[:m], digits.y[labeled[:m]], 10).argmax(dim=1) for m in (40, 60))
    assert (
        worth.changed == pytest.approx(100 * (before != after).float().mean().item()) and worth.low <= worth.points <= worth.high
    )
    assert next_label.worth(similar, labeled, digits.y[labeled], 31, 10) is None, "too few labels"
    assert next_label.worth(similar, labeled, torch.zeros(60, dtype=torch.int64), 20, 10) is None, "one class"


def test_sentences_on_the_next_round():
    worth = next_label.Worth(0.1, -0.2, 0.8, 1.0)
    assert label_advice.next_round(worth, 20, 1) == (
        "the next 20 labels are worth about 0.10 points of accuracy (-0.20 to 0.80): stop, a round must be worth 1"
    )
    assert label_advice.next_round(worth, 20, 0.5).endswith(": go on")
    assert label_advice.next_round(None, 1, 1) == "what the next 1 label is worth can be said from 2 labels of two classes on"


def test_answers_of_classes(blobs):
    """One group with labels of its own, and one in which two classes contradict each other."""
    labeled = torch.tensor([*range(20), *range(100, 120), 160, 161])
    y_l = torch.tensor([0] * 20 + [1] * 10 + [2] * 10 + [2, 2])  # the second group is contested
    answers = next_label.by_class(next_label.reach(blobs, labeled, y_l), 5, 4, seed=0)
    assert [each.labels for each in answers] == [20, 10, 12, 0] and answers[0].right == 20
    assert answers[2].right < 6 and answers[0].at_random == 0, "labels that all agree are worth nothing more"
    table = label_advice.class_table(answers, "abcd")
    assert table.loc["a", "recognised by the others"].startswith("20 of 20 (84 to 100 %)")
    assert list(table.loc["d"]) == ["no label", 0, "can't tell"]


def test_users_were_right_to_stop(similar, digits):
    """At least nine in ten of forty users, each on one of two random halves of digits."""
    parts = [label_users.part("digits", similar, digits.y, 900, seed, uniform_prior=False) for seed in range(2)]
    outcomes = label_users.simulate(parts, 40, seed=0)
    stopped = outcomes.dropna()
    assert len(outcomes) == 40 and len(stopped) > 20 and stopped["right"].mean() >= 0.9
    assert label_users.summary(outcomes).loc["all", "users"] == 40


def test_outcome_of_a_user_by_hand():
    accuracy, worth = np.array([50.0, 60.0, 60.5, 62.0, 62.0]), np.array([np.inf, 9.0, 0.8, 0.2, 0.2])
    assert label_users._outcome(accuracy, worth, 1.0) == {"stopped": 3, "right": 0.0, "late": 1}
    assert label_users._outcome(accuracy, worth, 0.5) == {"stopped": 4, "right": 1.0, "late": 0}
    assert np.isnan(label_users._outcome(accuracy, worth, 0.1)["stopped"])
