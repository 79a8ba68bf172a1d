"""Other networks than the report's: narrower, wider, deeper, residual, without convolutions, and a very small one.

The graph of `best` is made by the report's network for all of them: what differs is what is trained.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_core.datasets import SIDE
from ssl_core.model import N_HIDDEN, PRECISIONS, Net

from .future_work import study
from .variants import RECIPES, Variant

LADDER = (1000, 500, 250, 250, 250)  # units of the hidden layers (Rasmus et al. 2015, section 4.1)


class Wide(Net):
    """The report's layers, with `width` times as many channels and hidden units."""

    def __init__(self, width: float, n_classes: int, channels: int):
        nn.Module.__init__(self)
        self.side, self.precision = SIDE, PRECISIONS[0]
        few, many, hidden = (max(1, round(width * n)) for n in (32, 64, N_HIDDEN))
        self.conv1 = nn.Conv2d(channels, few, 3)
        self.conv2 = nn.Conv2d(few, many, 3)
        self.conv3 = nn.Conv2d(many, many, 3)
        self.linear1 = nn.Linear(9 * many, hidden)
        self.linear2 = nn.Linear(hidden, n_classes)


class Deep(Net):
    """The report's network with a block more: two convolutions of 3 × 3 that keep the size; `residual`, its input is added."""

    def __init__(self, n_classes: int, channels: int, *, residual: bool = False):
        super().__init__(n_classes, channels)
        self.residual, linear = residual, (self.linear1, self.linear2)
        del self.linear1, self.linear2
        self.block = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1) for _ in range(2)])
        self.linear1, self.linear2 = linear  # after the block: Muon is told the last layer by its place

    def _convolutions(self, x: Tensor) -> Tensor:
        x = super()._convolutions(x)
        one, two = self.block
        inner = two(F.relu(one(x)))
        return F.relu(x + inner if self.residual else inner)


class Perceptron(Net):
    """Linear layers alone, of the sizes of the ladder network; its features are the outputs of the last hidden one."""

    def __init__(self, n_classes: int, channels: int):
        nn.Module.__init__(self)
        self.side, self.precision = SIDE, PRECISIONS[0]
        sizes = (channels * SIDE**2, *LADDER)
        self.hidden = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(sizes)])
        self.linear2 = nn.Linear(sizes[-1], n_classes)

    def _layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.linear2(x), x


def half(n_classes: int, channels: int) -> Net:
    return Wide(0.5, n_classes, channels)


def double(n_classes: int, channels: int) -> Net:
    return Wide(2.0, n_classes, channels)


def tiny(n_classes: int, channels: int) -> Net:
    """About 20,000 parameters."""
    return Wide(0.29, n_classes, channels)


def residual(n_classes: int, channels: int) -> Net:
    return Deep(n_classes, channels, residual=True)


VARIANTS = {
    "tiny": Variant("Channels and hidden units times 0.29: about 20,000 parameters", RECIPES, network=tiny),
    "half": Variant("Half of the channels and hidden units", RECIPES, network=half),
    "double": Variant("Twice as many channels and hidden units", RECIPES, network=double),
    "deep": Variant("A block of two convolutions more", RECIPES, network=Deep),
    "residual": Variant("The same block, whose input is added to its output", RECIPES, network=residual),
    "perceptron": Variant(
        "Linear layers of 1000, 500 and three times 250 units, as in ladder networks", RECIPES, network=Perceptron
    ),
}


STUDY = study(
    "architectures",
    "Would another network do better?",
    "A narrow network costs less and a wide one more; what they gain or lose is to be seen beside their operations.",
)
