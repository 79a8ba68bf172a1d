import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ssl_core.model import init_net
from ssl_core.optim import Muon, Optimizers, orthogonal


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 60), m=st.integers(1, 60), seed=st.integers(0, 99), size=st.sampled_from([1e-4, 1.0, 1e4]))
def test_orthogonal_keeps_singular_vectors_and_evens_their_values(n, m, seed, size):
    matrix = torch.randn(n, m, generator=torch.Generator().manual_seed(seed)) * size
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonal(matrix) @ vh.T  # diagonal where the vectors are kept
    assert torch.allclose(inside, torch.diag(inside.diag()), atol=0.02)
    large = s > 0.01 * s.norm()  # what is much smaller needs more than five steps
    assert ((inside.diag()[large] > 0.5) & (inside.diag()[large] < 1.3)).all()


def test_muon_step_is_as_large_as_the_rate():
    for gradient in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(64, 32, 3, 3))
        weight.grad = gradient * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=0.02).step()
        largest = torch.linalg.matrix_norm(weight.detach().flatten(1), 2).item()
        assert 0.02 * 0.7 < largest < 0.02 * 1.3


def test_orthogonal_treats_wide_and_tall_alike():
    wide = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(orthogonal(wide).T, orthogonal(wide.T), atol=1e-6)


def test_muon_moves_hidden_weights_and_adam_the_others():
    model = init_net(0)
    adam, muon = Optimizers(model, 1e-3, 0.02).rates
    names = {id(p): name for name, p in model.named_parameters()}
    in_muon = [names[id(p)] for p in muon.param_groups[0]["params"]]
    assert in_muon == ["conv1.weight", "conv2.weight", "conv3.weight", "linear1.weight"]
    assert len(adam.param_groups[0]["params"]) + len(in_muon) == len(names)
    (alone,) = Optimizers(model, 1e-3, 0.0).rates
    assert isinstance(alone, torch.optim.Adam) and len(alone.param_groups[0]["params"]) == len(names)


@pytest.mark.parametrize("muon_rate", [0.0, 0.01])
def test_steps_go_downhill(muon_rate):
    model = init_net(0)
    x, y = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    optimizers = Optimizers(model, 1e-3, muon_rate)
    losses = []
    for _ in range(30):
        losses.append(nn.functional.cross_entropy(model(x)[0], y))
        optimizers.step(losses[-1], decay=1.0)
    assert losses[-1] < 0.5 * losses[0]


def test_zero_decay_moves_nothing():
    model, before = init_net(0), init_net(0)
    Optimizers(model, 1e-3, 0.01).step(model(torch.ones(2, 1, 28, 28))[0].sum(), decay=0.0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
