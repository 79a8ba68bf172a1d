import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ssl_core.model import Net, init_net, max_pool


def test_net_has_its_parameters_features_and_logits(images):
    model = init_net(0)
    assert sum(p.numel() for p in model.parameters()) == 231_854
    logits, features = model(images.x[:7])
    assert logits.shape == (7, 10) and features.shape == (7, 576)
    assert features.min() >= 0


def test_net_equals_the_reports_layers(images):
    """The report's order is convolution, ReLU, pooling; ours pools first, which is the same function."""
    model = init_net(3)
    features = nn.Sequential(
        model.conv1, nn.ReLU(), nn.MaxPool2d(2), model.conv2, nn.ReLU(), nn.MaxPool2d(2), model.conv3, nn.ReLU(), nn.Flatten()
    )
    classifier = nn.Sequential(model.linear1, nn.ReLU(), model.linear2)
    expected = features(images.x[:50])
    logits, found = model(images.x[:50])
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(logits, classifier(expected), atol=1e-5)


@given(st.integers(0, 2**32), *[st.integers(1, 9)] * 4, st.sampled_from([torch.contiguous_format, torch.channels_last]))
def test_pooling_without_gradient_equals_pytorch_bitwise(seed, n, channels, height, width, memory_format):
    x = torch.randn(n, channels, 1 + height, 1 + width, generator=torch.Generator().manual_seed(seed)).to(
        memory_format=memory_format
    )
    with torch.no_grad():
        found = max_pool(x)
    assert torch.equal(found, nn.MaxPool2d(2)(x)) and torch.equal(found, max_pool(x))


def test_pooling_keeps_nan():
    with torch.no_grad():
        assert max_pool(torch.tensor([[[[1.0, 2.0], [float("nan"), 3.0]]]])).isnan().all()


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, two, other = init_net(1), init_net(1), init_net(2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one.linear1.weight, two.linear1.weight)
    assert not torch.equal(one.linear1.weight, other.linear1.weight)
    torch.manual_seed(1)
    assert torch.equal(one.linear1.weight, Net().linear1.weight)  # PyTorch's default initialisation
