"""The report's network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_FEATURES = 576
N_HIDDEN = 300
N_PARAMETERS = 231_854  # with ten classes and grey images
EVALUATION_BATCH = 100  # images in one forward pass without gradient: they fit into the cache; the number changes no result


class Net(nn.Module):
    """Three 3×3 convolutions and two linear layers; no padding, normalisation or dropout (the report, section Model).

    `forward` takes images (N, channels, 28, 28) and returns `(logits (N, n_classes), features (N, 576))`. The features are
    the flattened, non-negative output of the last convolution: what the clustering loss measures distances between.
    """

    def __init__(self, n_classes: int = 10, channels: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.linear1 = nn.Linear(N_FEATURES, N_HIDDEN)
        self.linear2 = nn.Linear(N_HIDDEN, n_classes)
        assert (n_classes, channels) != (10, 1) or sum(p.numel() for p in self.parameters()) == N_PARAMETERS

    @property
    def device(self) -> torch.device:
        """The device of the weights; images must be there too."""
        return self.conv1.weight.device

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # The report applies ReLU, then pools; relu(max_pool(x)) is the same function and touches a quarter of the memory.
        x = F.relu(max_pool(self.conv1(x)))
        x = F.relu(max_pool(self.conv2(x)))
        features = F.relu(self.conv3(x)).flatten(1)
        return self.linear2(F.relu(self.linear1(features))), features


def max_pool(x: Tensor) -> Tensor:
    """The maximum of each 2 × 2 pixels of `x` (N, C, H, W): (N, C, H // 2, W // 2).

    Without gradient, two element-wise maxima of whole rows give the same values in a quarter of the time.
    """
    if torch.is_grad_enabled():
        return F.max_pool2d(x, 2)
    height, width = (side // 2 * 2 for side in x.shape[2:])
    rows = x[:, :, :height, :width].permute(0, 2, 3, 1)  # channels_last: the channels of a pixel are contiguous
    rows = torch.maximum(rows[:, ::2], rows[:, 1::2])
    return torch.maximum(rows[:, :, ::2], rows[:, :, 1::2]).permute(0, 3, 1, 2)


def init_net(seed: int, n_classes: int = 10, channels: int = 1) -> Net:
    """The network with PyTorch's default initial weights, a pure function of `seed`; torch's global state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(n_classes, channels).to(memory_format=torch.channels_last)
