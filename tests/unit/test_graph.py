import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from ssl_core import data, graph, progress
from ssl_core.device import threads
from ssl_core.graph import Neighbors
from ssl_core.lab.runs import graph_cache
from ssl_core.recipes import BEST

SETTINGS = replace(BEST.pretraining, steps=3, batch=16)


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def neighbors(features, k):
    """The graph of these features."""
    return Neighbors(*graph.neighbors(features, k), features)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(5, 60), d=st.integers(2, 8), k=st.integers(1, 4), seed=st.integers(0, 99), compared=st.integers(1, 70))
def test_neighbors_equal_scikit_learn(n, d, k, seed, compared):
    features = numbers(seed, n, d)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "BLOCK", compared)
        similarity, index = graph.neighbors(features, k)
    theirs = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(features.numpy())
    distances, _ = theirs.kneighbors(features.numpy())
    assert np.allclose(1 - distances[:, 1:], similarity.numpy(), atol=1e-4)
    assert not (index == torch.arange(n)[:, None]).any(), "no image is its own neighbour"
    assert all(len(set(row)) == k for row in index.tolist()), "none comes twice"
    found = F.cosine_similarity(features[:, None], features[index], dim=2)
    assert torch.allclose(found, similarity, atol=1e-5), "each similarity is that to the image beside it"


@pytest.mark.parametrize("kind", ["images", "noise", "copies"])
def test_an_index_finds_almost_all_neighbors(images, kind, monkeypatch):
    """Of real images, of points without any structure, and of images that are there twenty times."""
    made = {
        "images": lambda: images.x[:4000].flatten(1) - images.x[:4000].mean(0).flatten(),
        "noise": lambda: numbers(0, 4000, 30),
        "copies": lambda: images.x[:100].flatten(1).repeat(20, 1),
    }
    features, k, events = made[kind](), 10, []
    monkeypatch.setattr(graph, "BLOCK", 150)
    similarity, index = graph.approximate_neighbors(features, k, 1, events.append)
    exact, _ = graph.neighbors(features, k)
    assert (similarity >= exact - 1e-3).float().mean() > 0.97, "as near as the nearest"
    assert not (index == torch.arange(len(features))[:, None]).any() and all(len(set(row)) == k for row in index.tolist())
    expected = F.cosine_similarity(features[:, None], features[index[:, :3]], dim=2)
    assert torch.allclose(expected, similarity[:, :3], atol=1e-5)
    assert (similarity.diff(dim=1) <= 0).all(), "the nearest first"
    again = graph.approximate_neighbors(features, k, 2)
    assert torch.equal(similarity, again[0]) and torch.equal(index, again[1])
    assert re.match(r"graph · \d+% of the search · \d+ s, about \d+ s to go", progress.text(events[-1]))
    assert events[-1]["stage"] == "index" and 0 < events[0]["step"] <= events[-1]["step"] <= events[-1]["steps"]


@settings(deadline=None, max_examples=20)
@given(n=st.integers(2, 40), d=st.integers(1, 5), k=st.integers(1, 4), seed=st.integers(0, 99))
def test_an_index_of_few_has_all(n, d, k, seed):
    features = numbers(seed, n, d)
    if k >= n:
        with pytest.raises(ValueError, match=f"^k={k}: must be below the number of rows, {n}$"):
            graph.approximate_neighbors(features, k)
        return
    similarity, _ = graph.approximate_neighbors(features, k)
    exact, _ = graph.neighbors(features, k)
    assert torch.allclose(similarity, exact, atol=2e-3), "half precision decides between all but equal ones"


def test_many_images_have_an_index(digits, monkeypatch):
    monkeypatch.setattr(graph, "MANY", 1000)
    few = replace(SETTINGS, gradients=0.5)
    events = []
    found = graph.build(digits.x, few, events.append)
    monkeypatch.setattr(graph, "MANY", 10_000)
    exact = graph.build(digits.x, few)
    assert torch.equal(found.features, exact.features)
    assert (found.index[:, :, None] == exact.index[:, None, :]).any(dim=2).float().mean() > 0.97
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    monkeypatch.setattr(graph, "MANY", 1000)
    with pytest.raises(ValueError, match=r"^1000 images or more: must have usearch to find neighbours: pip install usearch$"):
        graph.build(digits.x, few)


@pytest.mark.parametrize("side", [28, 48])
def test_threads_of_the_process_change_no_bit_of_a_graph(side, monkeypatch):
    """Large images take two threads, whatever the process has: as many on a machine of one core."""
    original, used = graph.pretrain, []
    monkeypatch.setattr(graph, "pretrain", lambda *given: used.append(torch.get_num_threads()) or original(*given))
    x, found = numbers(0, 64, 1, side, side), []
    for n in (1, 2, 3):
        with threads(n):
            found.append(graph.build(x, replace(SETTINGS, gradients=0.5)))
            assert torch.get_num_threads() == n
    assert used == [1 if side == 28 else 2] * 3
    for other in found[1:]:
        assert torch.equal(found[0].features, other.features) and torch.equal(found[0].index, other.index)


def two_moons(n=200):
    """Two interleaved half circles, in three dimensions so that cosines tell them apart: nearest to a label is often wrong."""
    t = torch.linspace(0, torch.pi, n)
    upper = torch.stack([t.cos(), t.sin()], 1)
    lower = torch.stack([1 - t.cos(), 0.5 - t.sin()], 1)
    points = torch.cat([upper, lower])
    return torch.cat([points, torch.full((2 * n, 1), 2.0)], 1), torch.arange(2).repeat_interleave(n)


def test_labels_spread_along_a_cluster():
    x, y = two_moons()
    labeled = torch.tensor([100, 300])
    scores = graph.spread(neighbors(x, 8), labeled, y[labeled], 2)
    nearest = torch.cdist(x, x[labeled]).argmin(dim=1)
    assert (scores.argmax(dim=1) == y).all() and (nearest == y).float().mean() < 0.9


@settings(deadline=None, max_examples=20)
@given(m=st.integers(1, 30), seed=st.integers(0, 99))
def test_scores_are_a_distribution_over_labelled_classes(m, seed):
    y = torch.randint(0, 10, (60,), generator=torch.Generator().manual_seed(seed))
    scores = graph.spread(neighbors(numbers(seed, 60, 4), 5), torch.arange(m), y[:m], 10)
    assert scores.shape == (60, 10) and torch.allclose(scores.sum(dim=1), torch.ones(60), atol=1e-5)
    present = y[:m].unique()
    assert (scores[:, present] > 0).all() and scores.sum().item() == pytest.approx(scores[:, present].sum().item())


def uneven():
    """Two overlapping groups of 950 and 50 points, and one label of each."""
    group = torch.arange(2).repeat_interleave(torch.tensor([950, 50]))
    x = torch.eye(2, 3)[group] + 0.22 * numbers(5, 1000, 3)
    return x, group, torch.tensor([10, 960])


def test_rare_class_stays_rare_without_uniform_prior():
    x, y, labeled = uneven()
    similar = neighbors(x, 10)
    even = graph.spread(similar, labeled, y[labeled], 2)
    assert even.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
    free = graph.spread(similar, labeled, y[labeled], 2, uniform_prior=False)
    assert (free.argmax(1) == y).float().mean() > (even.argmax(1) == y).float().mean() + 0.02
    assert torch.allclose(free.sum(1), torch.ones(1000), atol=1e-5)
    prior = graph.class_prior(free)
    assert prior.sum().item() == pytest.approx(1) and prior.tolist() == pytest.approx([0.95, 0.05], abs=0.03)


@settings(deadline=None, max_examples=20)
@given(m=st.integers(2, 20), seed=st.integers(0, 99))
def test_label_mass_equals_a_dense_solution(m, seed):
    """Against a dense solution with NumPy; labels of a frequent class count no more than those of a rare one."""
    y = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(seed))
    similar = neighbors(numbers(seed, 60, 4), 5)
    mass = graph.label_mass(similar, torch.arange(m), y[:m], alpha=0.9)
    adjacency = np.zeros((60, 60))
    np.put_along_axis(adjacency, similar.index.numpy(), similar.similarity.clamp(min=0).double().numpy() ** 4, 1)
    adjacency = np.maximum(adjacency, adjacency.T)
    scale = 1 / np.sqrt(adjacency.sum(1))
    source = np.zeros(60)
    for c in y[:m].unique().tolist():
        source[:m][y[:m] == c] = 1 / (y[:m] == c).sum().item()
    expected = np.linalg.solve(np.eye(60) - 0.9 * scale[:, None] * adjacency * scale, source)
    assert np.allclose(mass, expected / np.median(expected), atol=1e-2 * mass.max())


def test_foreign_images_are_out_of_distribution():
    group = torch.arange(3).repeat_interleave(torch.tensor([200, 200, 60]))  # the third group is foreign
    x = torch.eye(3, 5)[group] + 0.2 * numbers(1, 460, 5)
    labeled = torch.tensor([3, 203])
    far = graph.label_mass(neighbors(x, 8), labeled, group[labeled]) < graph.OUT_OF_DISTRIBUTION
    assert far[group == 2].float().mean() > 0.9 and far[group < 2].float().mean() < 0.05


def test_most_images_may_be_out_of_distribution():
    group = torch.arange(2).repeat_interleave(torch.tensor([40, 160]))  # no way leads from the labels to the second group
    x = torch.cat([numbers(0, 40, 2).abs() @ torch.eye(2, 4), numbers(1, 160, 2).abs() @ torch.eye(4)[2:]])
    mass = graph.label_mass(neighbors(x, 5), torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert mass.isfinite().all() and (mass[group == 1] < graph.OUT_OF_DISTRIBUTION).all() and (mass[group == 0] > 0).any()


def test_class_prior_counts_best_classes_with_smoothing():
    scores = torch.tensor([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert graph.class_prior(scores).tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])


def test_unreached_images_keep_every_candidate():
    x = torch.cat([numbers(0, 20, 2).abs() @ torch.eye(2, 6), numbers(1, 20, 2).abs() @ torch.eye(6)[4:]])  # two islands
    scores = graph.spread(neighbors(x, 3), torch.tensor([0, 1]), torch.tensor([0, 1]), 2)
    assert graph.candidates(scores, 0.6)[20:].all()


def test_candidates_score_within_the_margin():
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.39, 0.21]])
    assert graph.candidates(scores, 0.6).tolist() == [[True, True, False], [True, True, False]]
    assert graph.candidates(scores, 1.0).sum(dim=1).tolist() == [1, 1]


@pytest.mark.slow
def test_pretraining_aligns_views_and_is_deterministic(images):
    losses = []
    settings = replace(SETTINGS, steps=30, batch=64)
    one = graph.pretrain(images.x[:2000], settings, lambda step, loss: losses.append(loss.item()))
    torch.manual_seed(99)
    two = graph.pretrain(images.x[:2000], settings)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert sum(losses[-5:]) < sum(losses[:5]) and len(losses) == 30
    assert one.features(images.x[:7]).shape == (7, 300)


@pytest.fixture
def few(images):
    return data.Images("mnist", images.x[:300], images.y[:300], images.x_test[:0], images.y_test[:0], images.classes)


def naive_histograms(image):
    """Histograms (cells, orientations) of the gradients of a grey image, pixel by pixel, before they are made relative."""
    height, width = image.shape
    padded, found = np.pad(image, 1, mode="edge"), np.zeros((7, 7, 9))
    for y, x in np.ndindex(height, width):
        across, down = padded[y + 1, x + 2] - padded[y + 1, x], padded[y + 2, x + 1] - padded[y, x + 1]
        position = np.arctan2(down, across) % np.pi * 9 / np.pi
        first, share = int(position), position - int(position)
        found[y * 7 // height, x * 7 // width, first % 9] += np.hypot(across, down) * (1 - share) / 16
        found[y * 7 // height, x * 7 // width, (first + 1) % 9] += np.hypot(across, down) * share / 16
    return found


def test_gradients_are_those_of_a_naive_loop(images):
    for x in images.x[:3]:
        expected = naive_histograms(x[0].double().numpy())
        squares = np.pad((expected**2).sum(axis=2), 1, mode="edge")
        around = np.mean([squares[i : i + 7, j : j + 7] for i in range(3) for j in range(3)], axis=0)
        expected /= np.sqrt(around)[:, :, None] + 0.1
        found = graph._histograms(x[None]).reshape(9, 7, 7).permute(1, 2, 0)
        assert np.allclose(found, expected, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(side=st.integers(8, 40), channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
def test_gradients_see_neither_brightness_nor_which_channel(side, channels, seed):
    x = numbers(seed, 1, channels, side, side)
    histograms = graph._histograms(x)
    assert histograms.shape == (1, 441) and torch.isfinite(histograms).all()
    assert torch.allclose(graph._histograms(x + 3), histograms, atol=1e-2)
    assert torch.allclose(graph._histograms(-x), histograms, atol=1e-2), "dark on light has the same edges"
    assert torch.allclose(graph._histograms(x.flip(1)), histograms, atol=1e-3)
    assert graph._histograms(torch.full_like(x, 0.7)).abs().max() < 1e-3


def test_gradients_find_better_neighbours_than_pixels(digits):
    """Neighbours of the same class among scikit-learn's digits: by gradients, by pixels."""

    def purity(features):
        _, index = graph.neighbors(features, 10)
        return (digits.y[index] == digits.y[:, None]).float().mean().item()

    assert graph.gradients(digits.x).shape == (len(digits.x), 60)
    assert purity(graph.gradients(digits.x)) > purity(digits.x[:].flatten(1) - digits.x[:].flatten(1).mean(0)) + 0.01


def test_gradients_join_what_is_learned(few):
    learned, joined = (graph.build(few.x, replace(SETTINGS, gradients=weight)) for weight in (0.0, 0.5))
    assert learned.features.shape[1] == 300 and joined.features.shape[1] == 360
    learned, joined = learned.features.float(), joined.features.float()
    assert torch.allclose(joined[:, :300], F.normalize(learned), atol=1e-3)
    assert torch.allclose(joined[:, 300:].norm(dim=1), torch.tensor(0.5), atol=1e-3)


def test_graph_is_made_once_and_again_if_damaged(few, tmp_path):
    events = []
    last = {"stage": "graph", "step": 3, "steps": 3}

    def trained():
        return any(last.items() <= event.items() for event in events)

    made = graph_cache.load(few, SETTINGS, events.append, tmp_path)
    assert made.similarity.shape == made.index.shape == (300, SETTINGS.neighbors) and trained()
    assert made.features.shape == (300, 360) and made.features.dtype == torch.float16
    events.clear()
    again = graph_cache.load(few, SETTINGS, events.append, tmp_path)
    assert torch.equal(again.index, made.index) and not any("step" in event for event in events)
    graph_cache.path("mnist", SETTINGS, tmp_path).write_bytes(b"damaged")
    repaired = graph_cache.load(few, SETTINGS, events.append, tmp_path)
    assert torch.equal(repaired.index, made.index) and trained()


def test_graph_file_depends_on_settings(tmp_path):
    assert graph_cache.path("mnist", SETTINGS, tmp_path) != graph_cache.path(
        "mnist", replace(SETTINGS, temperature=0.4), tmp_path
    )
