"""Selection without labels, and the clusters of the graph: against independent oracles, and what must hold for any graph."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import laplacian
from sklearn.metrics import adjusted_rand_score

from ssl_core import clusters, graph, selection
from ssl_core.graph import Neighbors


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def neighbors(features, k):
    return Neighbors(*graph.neighbors(features, k), features)


def blobs(sizes, noise=0.05, d=12):
    """Groups of points around axes of their own, and to which group each belongs."""
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.eye(d)[group] + noise * numbers(0, len(group), d), group


def test_selected_images_are_the_densest_of_the_largest_clusters():
    sizes = [40, 10, 30, 20]
    x, group = blobs(sizes)
    similar = neighbors(x, 5)
    found = selection.typical(similar, 4, seed=0)
    assert group[found.index].tolist() == [0, 2, 3, 1] and found.stands_for.sort().values.tolist() == sorted(sizes)
    density = similar.similarity.mean(dim=1)
    for image, typicality in zip(found.index, found.typicality, strict=True):
        assert density[image] == density[group == group[image]].max() == typicality


def test_clusters_without_a_label_come_first():
    x, group = blobs([40, 10, 30, 20])
    found = selection.typical(neighbors(x, 5), 2, seed=0, labeled=torch.tensor([0, 45]))
    assert group[found.index].tolist() == [2, 3]


@pytest.mark.parametrize("space", ["of_clusters", "of_images"])
@pytest.mark.parametrize("weighted", [False, True])
def test_each_selected_image_raises_the_similarity_most(space, weighted):
    """Against a plain greedy search over all candidates, without bounds."""
    x = numbers(1, 60, 5)
    similar, none = neighbors(x, 4), np.zeros(0, np.int64)
    worth = np.random.default_rng(0).random(60) if weighted else None
    chosen = selection.herd(getattr(selection, space)(similar), similar, 60, 7, none, worth)
    assert sorted(chosen) == list(range(60)), "all images, each once"
    half, typicality = np.random.default_rng([7, 2]).permutation(60)[:30], similar.similarity.mean(dim=1).numpy().clip(0)
    shares, rows = np.ones(30) if worth is None else worth[half], torch.nn.functional.normalize(x, dim=1).numpy()
    if space == "of_clusters":
        embedding = clusters.spectrum(graph.adjacency(similar)).embedding
        kernel, factor = (embedding[half] @ embedding.T).clip(0) * typicality**4, np.ones(60)
    else:
        kernel, factor = np.exp(-((rows[half, None] - rows[None]) ** 2).sum(axis=2)), typicality**4
    peaks = {i for i in range(60) if typicality[i] >= typicality[similar.index[i].numpy()].max()}
    reached = np.zeros(30, np.float32)
    for step, image in enumerate(chosen[:20]):
        left = (peaks - set(chosen[:step])) or (set(range(60)) - set(chosen[:step]))
        gain = {i: (np.maximum(kernel[:, i] - reached, 0) @ shares) * factor[i] for i in left}
        assert gain[image] == pytest.approx(max(gain.values()), abs=1e-4)
        reached = np.maximum(reached, kernel[:, image])


def test_later_images_differ_within_a_cluster():
    """Four long arcs, each dense at one end: no image is far from a selected one, as it would be by clusters alone."""
    angle = torch.linspace(0, 1, 150).square() * torch.pi / 2
    arcs = [torch.stack([angle.cos(), angle.sin()], dim=1) @ torch.eye(8)[2 * i : 2 * i + 2] for i in range(4)]
    x = torch.cat(arcs)
    similar = neighbors(x, 8)
    found = selection.typical(similar, 40, seed=0).index.numpy()
    by_clusters = selection.cover(similar, 40, 0, np.zeros(0, np.int64), few=40)
    farthest = [float((x @ x[each].T).max(dim=1).values.min()) for each in (found, by_clusters)]
    assert farthest[0] > 0.98 > farthest[1]


@settings(deadline=None, max_examples=15)
@given(n=st.integers(1, 80), n_labeled=st.integers(0, 20), seed=st.integers(0, 99), copies=st.integers(0, 60))
def test_selected_images_are_distinct_unlabelled_and_deterministic(n, n_labeled, seed, copies):
    features = numbers(seed, 100, 6)
    features[:copies] = features[0]  # many images may be the same
    similar = neighbors(features, 5)
    labeled = torch.randperm(100, generator=torch.Generator().manual_seed(seed))[:n_labeled]
    one, two = (selection.typical(similar, n, seed, labeled) for _ in range(2))
    assert torch.equal(one.index, two.index) and len(one.index.unique()) == n == len(one.stands_for)
    assert not torch.isin(one.index, labeled).any()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_images_can_all_be_selected(n):
    found = selection.typical(neighbors(numbers(0, 5, 4), 4), n, 0)
    assert len(found.index.unique()) == n and (n == 5 or found.stands_for.sum() == 5)


def test_more_images_than_are_left_are_refused():
    with pytest.raises(ValueError, match=r"^n_labels=16: must be a whole number from 1 to 15"):
        selection.typical(neighbors(numbers(0, 20, 4), 3), 16, 0, torch.arange(5))


def split_class(seed):
    """480 directions (N, 12) of four classes, 120 of each: one in three islands, one alone, and two that almost touch."""
    random, axes = np.random.default_rng(seed), np.eye(12)
    islands = [axes[0] + 1.2 * axes[4 + i] for i in range(3)]
    middles = [*islands, axes[1], axes[2] + 0.2 * axes[8], axes[2] - 0.2 * axes[8]]
    sizes, y = [40] * 3 + [120] * 3, [0] * 3 + [1, 2, 3]
    rows = np.repeat(middles, sizes, axis=0) + 0.05 * random.standard_normal((480, 12))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), np.repeat(y, sizes)


def test_even_clusters_are_classes_of_which_one_has_islands():
    """From almost wherever they begin, in four of six groups of images. k-means often takes islands for clusters."""
    found = []
    for seed, begun_in in enumerate(combinations([0, 40, 80, 130, 250, 370], 4)):
        rows, y = split_class(seed)
        cluster, fit = selection.even_clusters(rows, np.array(begun_in), seed)
        assert fit.shape == (480,) and 0.7 < fit.min() <= fit.max() < 1.0001
        found.append([adjusted_rand_score(y, each) > 0.95 for each in (cluster, selection._clusters(rows, np.array(begun_in)))])
    even, plain = np.sum(found, axis=0).tolist()
    assert even >= 12 and plain <= 8, f"found from {even} and {plain} of 15 starts"


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), n=st.integers(1, 6), d=st.integers(2, 8))
def test_even_clusters_are_almost_the_best_of_their_size(seed, n, d):
    """Against the exact assignment of equally many rows to each of the same centers (the Hungarian method), of any rows."""
    rows = np.random.default_rng(seed).standard_normal((60 * n, d)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cluster, fit = selection.even_clusters(rows, np.arange(n), seed)
    sizes = np.bincount(cluster, minlength=n)
    assert sizes.min() >= 40 and sizes.max() <= 80
    # The center of a cluster is the direction from which the fit of its rows follows.
    centers = np.stack([np.linalg.lstsq(rows[cluster == c], fit[cluster == c], rcond=None)[0] for c in range(n)])
    cosine = (rows @ centers.T).repeat(60, axis=1)
    best = cosine[linear_sum_assignment(-cosine)].mean()
    assert fit.mean() >= best - 0.02


def test_even_clusters_are_asked_for_by_name(ten_groups):
    """Of ten equal groups both kinds find one image each; more labels than FEW ask for no clusters."""
    images, similar, _ = ten_groups
    for even in (False, True):
        assert images.y[selection.typical(similar, 10, 0, even=even).index].unique().tolist() == list(range(10))
    one, two = (selection.typical(similar, 30, 0, even=even).index for even in (False, True))
    assert torch.equal(one, two)


@pytest.mark.parametrize("n", [300, 1600])  # computed densely, and by Lanczos' method
def test_spectrum_is_that_of_the_normalized_laplacian(n):
    weights = graph.adjacency(neighbors(numbers(2, n, 3), 6))
    found = clusters.spectrum(weights, 8)
    theirs = 1 - np.linalg.eigvalsh(laplacian(weights, normed=True).toarray())[:8]
    assert np.allclose(found.values, theirs, atol=1e-4) and np.allclose(found.vectors.T @ found.vectors, np.eye(8), atol=1e-5)
    assert np.allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("sizes", [[60] * 2, [80, 60, 40], [50] * 7, [40, 90] * 6])
@pytest.mark.parametrize("noise", [0.05, 0.12])
def test_number_of_clear_clusters_is_found(sizes, noise):
    x, group = blobs(sizes, noise, 14)
    similar = neighbors(x, 8)
    count = clusters.estimate(similar)
    assert count.value == len(sizes) and count.low <= count.value <= count.high and count.sure
    found = selection.typical(similar, len(sizes), 0).index
    scores = graph.spread(similar, found, torch.arange(len(sizes)), len(sizes), uniform_prior=False)
    assert adjusted_rand_score(group, scores.argmax(1)) > 0.95


def test_no_number_is_claimed_where_there_are_no_clusters():
    counts = [clusters.estimate(neighbors(numbers(seed, 300, 4), 8), seed) for seed in range(4)]
    assert not all(count.sure for count in counts)
    assert clusters.estimate(neighbors(numbers(0, 3, 4), 2)).value == 2


def test_gap_is_relative_to_a_line_of_points():
    line = 1 - 0.002 * np.arange(1, 13) ** 2.0  # no clusters: distances grow as a power
    assert clusters.largest_gap(np.concatenate([line[:5], line[5:] - 0.05])) == 5
    assert clusters.largest_gap(np.array([1.0, 0.9999, 0.9995, 0.8])) == 3, "unconnected parts are clusters"


@settings(deadline=None, max_examples=30)
@given(k=st.integers(2, 6), c=st.integers(2, 6), n=st.integers(1, 40), seed=st.integers(0, 999))
def test_best_naming_is_the_best_of_all(k, c, n, seed):
    random = np.random.default_rng(seed)
    cluster, y = torch.from_numpy(random.integers(k, size=n)), torch.from_numpy(random.integers(c, size=n))
    names = clusters.best_names(cluster, y, k, c)
    assert len(set(names[names >= 0].tolist())) == min(k, c) == (names >= 0).sum()
    padded = [*range(c), *[-1] * max(0, k - c)]
    best = max(sum(each[a] == b for a, b in zip(cluster.tolist(), y.tolist(), strict=True)) for each in permutations(padded, k))
    assert (names[cluster] == y).sum() == best
    p = torch.nn.functional.one_hot(cluster, k).float()
    by_class = clusters.by_class(p, names, c)
    assert by_class.shape == (n, max(k, c)) and torch.equal(by_class.sum(1), torch.ones(n))
    assert ((by_class.argmax(1) == y) == (names[cluster] == y)).all()
    found = clusters.compare(p, y, c)
    assert found.accuracy == pytest.approx(best / n) and found.ari == pytest.approx(adjusted_rand_score(y, cluster))


def test_unconnected_parts_are_all_found():
    """Lanczos' method from one vector can overlook one of several equal eigenvalues."""
    block = sparse.csr_matrix(np.ones((400, 400)) - np.eye(400))
    values = clusters.spectrum(sparse.block_diag([block] * 5).tocsr(), 8).values
    assert (values > 1 - 1e-6).sum() == 5
