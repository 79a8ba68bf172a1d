import math

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssl_core import losses

logits_pairs = st.integers(1, 8).flatmap(
    lambda n: st.tuples(*[arrays(np.float64, (n, 10), elements=st.floats(-30, 30, allow_subnormal=False))] * 2)
)


def leaf(values) -> torch.Tensor:
    return torch.tensor(np.asarray(values, dtype=np.float64), requires_grad=True)


@given(logits_pairs)
def test_entropy_equals_scipy(pair):
    logits = torch.from_numpy(pair[0])
    expected = scipy.stats.entropy(scipy.special.softmax(pair[0], axis=1), axis=1).mean()
    assert losses.entropy(logits).item() == pytest.approx(expected, abs=1e-9)


@given(logits_pairs)
def test_consistency_is_a_mean_squared_difference(pair):
    p, q = (scipy.special.softmax(x, axis=1) for x in pair)
    found = losses.consistency(*map(torch.from_numpy, pair)).item()
    assert found == pytest.approx(((p - q) ** 2).mean(), abs=1e-12)
    assert losses.consistency(torch.from_numpy(pair[0]), torch.from_numpy(pair[0])).item() == 0


@given(arrays(np.float64, (7, 5), elements=st.floats(-9, 9)), arrays(np.float64, (3, 5), elements=st.floats(-9, 9)))
def test_clustering_is_a_mean_distance_to_centroids(features, centroids):
    expected = scipy.spatial.distance.cdist(features, centroids).min(axis=1).mean()
    assert losses.clustering(torch.from_numpy(features), torch.from_numpy(centroids)).item() == pytest.approx(expected, abs=1e-9)


def test_entropy_by_hand():
    assert losses.entropy(torch.zeros(3, 10)).item() == pytest.approx(math.log(10))
    assert losses.entropy(torch.tensor([[200.0, 0.0]])).item() == 0.0  # exact at certainty, and no NaN


def test_less_entropy_is_more_confidence():
    logits = leaf([[1.0, 0.0, -1.0]])
    losses.entropy(logits).backward()
    confident = (logits - logits.grad).softmax(1)
    assert confident.max() > logits.softmax(1).max()


def test_clustering_by_hand_and_its_gradient():
    features, centroids = leaf([[3.0, 4.0], [10.0, 0.0]]), leaf([[0.0, 0.0], [10.0, 1.0]])
    loss = losses.clustering(features, centroids)
    loss.backward()
    assert loss.item() == (5.0 + 1.0) / 2
    assert features.grad.tolist() == pytest.approx(np.array([[0.3, 0.4], [0.0, -0.5]]))  # towards the nearest, halved by the mean
    assert centroids.grad is None


def test_clustering_gradient_is_finite_on_a_centroid():
    features = leaf([[1.0, 2.0]])
    losses.clustering(features, torch.tensor([[1.0, 2.0]], dtype=torch.float64)).backward()
    assert features.grad.isfinite().all()


def test_consistency_gradient_flows_through_both_views():
    one, other = leaf([[1.0, 0.0]]), leaf([[0.0, 1.0]])
    losses.consistency(one, other).backward()
    assert one.grad.abs().sum() > 0 and other.grad.abs().sum() > 0


def test_centroids_are_class_means_without_gradient():
    features = leaf([[1.0, 1.0], [3.0, 5.0], [7.0, 7.0]])
    centroids = losses.class_centroids(features, torch.tensor([2, 2, 9]))
    assert centroids.tolist() == [[2.0, 3.0], [7.0, 7.0]]
    assert not centroids.requires_grad and centroids.isfinite().all()


def test_pseudo_label_by_hand():
    probabilities = leaf([[0.95, 0.05], [0.6, 0.4], [0.1, 0.9]])
    logits = leaf([[0.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
    loss = losses.pseudo_label(probabilities, logits, threshold=0.9)
    loss.backward()
    confident = [
        math.log(2),
        -math.log(math.exp(2) / (1 + math.exp(2))),
    ]  # the second image is not confident enough, but counts in N
    assert loss.item() == pytest.approx(sum(confident) / 3)
    assert probabilities.grad is None
    assert logits.grad[1].tolist() == [0, 0] and logits.grad[0].abs().sum() > 0


@given(arrays(np.float64, (6, 4), elements=st.floats(0.1, 5)), st.floats(0.1, 2))
def test_contrastive_equals_its_sum_written_out(z, temperature):
    """SimCLR's equation 1, term by term, of three images in two views each."""
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    expected = []
    for i in range(6):
        others = [k for k in range(6) if k != i]
        scores = np.array([unit[i] @ unit[k] for k in others]) / temperature
        expected.append(scipy.special.logsumexp(scores) - unit[i] @ unit[(i + 3) % 6] / temperature)
    found = losses.contrastive(torch.from_numpy(z[:3]), torch.from_numpy(z[3:]), temperature)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-9)
