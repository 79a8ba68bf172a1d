"""The report's network, and the same for larger images."""

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .datasets import SIDE

NETWORKS = ("report", "strided")  # the report's, of images of SIDE × SIDE pixels; the one for larger images
PRECISIONS = ("float32", "bfloat16")  # of the network's products; its weights are float32 with either
N_HIDDEN = 300
N_PARAMETERS = 231_854  # with ten classes and grey images
EVALUATION_BATCH = 100  # images in one forward pass without gradient: they fit into the cache; the number changes no result


class Net(nn.Module):
    """Three 3×3 convolutions and two linear layers; no padding, normalisation or dropout (the report, section Model).

    `forward` takes images (N, channels, side, side) and returns `(logits (N, n_classes), features (N, 576))`. The features are
    the flattened, non-negative output of the last convolution: what the clustering loss measures distances between. With the
    `precision` bfloat16 all layers compute in it (torch.autocast); weights and results are float32.

    Of images larger than the report's, the first convolution takes larger steps, `strided`: the other layers then see about as
    much as the report's do, and the cost grows little. There are 576 features or more, 1024 of 64 × 64 pixels.
    """

    def __init__(self, n_classes: int = 10, channels: int = 1, side: int = SIDE):
        super().__init__()
        self.side, self.precision = side, PRECISIONS[0]
        stride, padding = first_step(side)
        self.conv1 = nn.Conv2d(channels, 32, 2 * stride + 1, stride, padding)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.linear1 = nn.Linear(64 * last_side(side) ** 2, N_HIDDEN)
        self.linear2 = nn.Linear(N_HIDDEN, n_classes)
        shape = n_classes, channels, side
        assert shape != (10, 1, SIDE) or sum(p.numel() for p in self.parameters()) == N_PARAMETERS

    @property
    def device(self) -> torch.device:
        """The device of the weights; images must be there too."""
        return self.linear2.weight.device

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.precision == PRECISIONS[0]:
            return self._layers(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            logits, features = self._layers(x)
        return logits.float(), features.float()

    def _layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self._convolutions(x).flatten(1)
        return self.linear2(self._hidden(features)), features

    def _convolutions(self, x: Tensor) -> Tensor:
        # The report applies ReLU, then pools; relu(max_pool(x)) is the same function and touches a quarter of the memory.
        x = F.relu(max_pool(self.conv1(x)))
        x = F.relu(max_pool(self.conv2(x)))
        return F.relu(self.conv3(x))

    def _hidden(self, features: Tensor) -> Tensor:
        return F.relu(self.linear1(features))


def network_for(side: int) -> str:
    """Which of NETWORKS is the one for images of `side` × `side` pixels."""
    return NETWORKS[side != SIDE]


def first_step(side: int) -> tuple[int, int]:
    """The stride of the first convolution, and how much is added to each border so that its output has 24 × 24 pixels or more.

    From 28 pixels on the stride is 1, from 47 on 2, from 78 on 3; only sides of 47 to 50 need a border.
    """
    stride = max(1, round(side / 31))
    return stride, max(0, ceil((25 * stride + 1 - side) / 2))


def last_side(side: int) -> int:
    """The side of the last convolution's output for images of `side` × `side` pixels: 3 for 28, 4 for 32, 64 and 96."""
    stride, padding = first_step(side)
    first = (side + 2 * padding - 2 * stride - 1) // stride + 1
    return (first // 2 - 2) // 2 - 2


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


def init_net(seed: int, n_classes: int = 10, channels: int = 1, side: int = SIDE) -> Net:
    """The network with PyTorch's default initial weights, a pure function of `seed`; torch's global state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(n_classes, channels, side).to(memory_format=torch.channels_last)
