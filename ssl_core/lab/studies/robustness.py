"""How well a network reads images that are shifted, turned, scaled, noisy, blurred or partly covered.

Kinds of corruption after MNIST-C (Mu & Gilmer 2019), in three strengths each; the strengths are ours. Nothing is random but the
noise and the places that are covered, and these are the same at every call.
"""

from collections.abc import Callable, Mapping
from math import ceil

import torch
from torch import Generator, Tensor

from ssl_core.data import Pixels
from ssl_core.model import Net
from ssl_core.train import evaluate

N_IMAGES = 2000  # that are corrupted: the first of those to test with


def _moved(x: Tensor, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> Tensor:
    """Images moved by an affine map around their centre; black comes in at the border."""
    import torchvision.transforms.v2.functional as tv  # imported late: it costs half a second

    return tv.affine(x, angle, list(shift), scale, [0.0, 0.0], interpolation=tv.InterpolationMode.BILINEAR, fill=[0.0])


def shifted(x: Tensor, pixels: float) -> Tensor:
    """Moved along one of the diagonals, `pixels` in each direction: a fourth of the images along each."""
    moved = torch.empty_like(x)
    for i, signs in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        moved[i::4] = _moved(x[i::4], shift=(signs[0] * pixels, signs[1] * pixels))
    return moved


def rotated(x: Tensor, degrees: float) -> Tensor:
    """Every second image is turned one way, the others the other way."""
    turned = torch.empty_like(x)
    turned[::2], turned[1::2] = _moved(x[::2], degrees), _moved(x[1::2], -degrees)
    return turned


def scaled(x: Tensor, factor: float) -> Tensor:
    """Every second image is enlarged, the others are reduced by the same factor."""
    changed = torch.empty_like(x)
    changed[::2], changed[1::2] = _moved(x[::2], scale=factor), _moved(x[1::2], scale=1 / factor)
    return changed


def noisy(x: Tensor, deviation: float) -> Tensor:
    """With normal noise of that standard deviation, of 1 from black to white."""
    return x + deviation * torch.randn(x.shape, generator=Generator().manual_seed(0))


def blurred(x: Tensor, pixels: float) -> Tensor:
    """By a Gaussian of that standard deviation."""
    import torchvision.transforms.v2.functional as tv

    return tv.gaussian_blur(x, [2 * ceil(3 * pixels) + 1] * 2, [pixels] * 2)


def occluded(x: Tensor, side: float) -> Tensor:
    """With a black square of that side anywhere in each image."""
    n, _, height, width = x.shape
    generator = Generator().manual_seed(0)

    def covered(size: int) -> Tensor:  # (n, size): whether a row, or a column, is in the square
        first = torch.randint(0, size - int(side) + 1, (n, 1), generator=generator)
        place = torch.arange(size)
        return (first <= place) & (place < first + side)

    return x.masked_fill((covered(height)[:, :, None] & covered(width)[:, None, :])[:, None], 0.0)


# Of images of 28 × 28 pixels, light on black.
KINDS: Mapping[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, float, float]]] = {
    "shifted": (shifted, (2, 4, 6)),  # pixels
    "rotated": (rotated, (15, 30, 45)),  # degrees
    "scaled": (scaled, (1.2, 1.4, 1.7)),  # factor
    "noisy": (noisy, (0.1, 0.2, 0.4)),  # standard deviation
    "blurred": (blurred, (0.7, 1.2, 2.0)),  # standard deviation, pixels
    "occluded": (occluded, (6, 10, 14)),  # side of the square, pixels
}


def corrupted(x: Pixels, kind: str, strength: int) -> Pixels:
    """The images `x` (N, C, 28, 28), corrupted by one of KINDS in the strength 1, 2 or 3, as bytes again."""
    change, strengths = KINDS[kind]
    values = x.values if x.index is None else x.values[x.index]
    changed = change(values.float() / 255, strengths[strength - 1])
    return Pixels((255 * changed).round().clamp(0, 255).byte(), x.mean, x.std)


def accuracies(model: Net, x: Pixels, y: Tensor) -> dict[str, list[float]]:
    """The accuracy of `model` on images `x` of classes `y` for each kind of corruption, in its three strengths."""
    return {kind: [evaluate(model, corrupted(x, kind, strength), y).accuracy for strength in (1, 2, 3)] for kind in KINDS}
