"""Random affine and elastic distortion in one resampling, patch overlay, and contrast; each image gets its own draw."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .data import BACKGROUND
from .datasets.checks import LARGER, check_types, require

Range = tuple[float, float]


@dataclass(frozen=True)
class Augment:
    """A random distortion of images. Each (low, high) is the range of a uniform draw.

    Angles are positive in the direction of `torchvision.transforms.functional.affine`, which is the test's oracle: with
    `elastic=0` the two agree, whatever the parameters. Images are never mirrored: a mirrored digit is another sign.
    """

    rotation: Range = (0.0, 0.0)  # degrees
    scale: Range = (1.0, 1.0)  # factor
    shear: Range = (0.0, 0.0)  # degrees, along x and along y, drawn apart
    translate: Range = (0.0, 0.0)  # pixels, along x and along y, drawn apart
    elastic: float = 0.0  # pixels: standard deviation of the displacement at the knots of a coarse grid
    overlay: int = 0  # pixels: side of the square patch of another image that is laid over each; odd, or 0 for none
    contrast: float = 0.0  # how much brightness and contrast vary: the logs of a factor and an exponent are drawn from ± this
    interpolation: str = "bilinear"  # or "nearest"
    fill: float = BACKGROUND  # what lies outside the image, in normalised units: MNIST's black

    def __post_init__(self):
        check_types(self)
        bounds = {"rotation": (-360, 360), "scale": (0.01, 100), "shear": (-80, 80), "translate": (-100, 100)}
        for parameter, (least, most) in bounds.items():
            low, high = getattr(self, parameter)
            require(least <= low <= high <= most, self, parameter, f"(low, high), in this order, from {least} to {most}")
        require(0 <= self.elastic <= 100, self, "elastic", "0 to 100")
        require(0 <= self.contrast <= 5, self, "contrast", "0 to 5")
        require(-100 <= self.fill <= 100, self, "fill", "-100 to 100")
        odd = self.overlay % 2 == 1 and self.overlay in range(LARGER[-1])
        require(self.overlay == 0 or odd, self, "overlay", f"0 or an odd number up to {LARGER[-1] - 1}")
        require(self.interpolation in ("bilinear", "nearest"), self, "interpolation", "bilinear, nearest")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Distorted copies of images `x` (N, C, H, W), same shape, on the same device as `generator`; no gradient is kept."""
        n, _, height, width = x.shape
        grid = _grid(self._inverse_matrices(n, width, height, generator), height, width)
        if self.elastic:
            grid = grid + self._displacement(n, height, width, generator)
        warped = F.grid_sample(x - self.fill, grid, mode=self.interpolation, padding_mode="zeros", align_corners=False)
        warped = warped + self.fill
        warped = self._overlaid(warped, generator) if self.overlay else warped
        return self._contrasted(warped, generator) if self.contrast else warped

    def scaled(self, factor: float) -> "Augment":
        """The same distortion of images that are larger by `factor`: what is measured in pixels grows with them."""
        low, high = (factor * pixels for pixels in self.translate)
        overlay = 2 * round((factor * self.overlay - 1) / 2) + 1 if self.overlay else 0  # the next odd number
        return replace(self, translate=(low, high), elastic=factor * self.elastic, overlay=overlay)

    def _inverse_matrices(self, n: int, width: int, height: int, generator: Generator) -> Tensor:
        """(n, 2, 3): for each output pixel, in [-1, 1] coordinates, where in the input it comes from."""

        def draw(bounds: Range, *shape: int) -> Tensor:
            low, high = bounds
            return low + (high - low) * torch.rand(n, *shape, generator=generator, device=generator.device)

        angle, scale = draw(self.rotation).deg2rad(), draw(self.scale)
        shear_x, shear_y = draw(self.shear, 2).deg2rad().unbind(1)
        shift_x, shift_y = (draw(self.translate, 2) * 2).unbind(1)
        shift = torch.stack([shift_x / width, shift_y / height], 1)
        # Rotation · shear · scale, in the order of torchvision's affine, then inverted.
        a = (angle - shear_y).cos() / shear_y.cos()
        b = -(angle - shear_y).cos() * shear_x.tan() / shear_y.cos() - angle.sin()
        c = (angle - shear_y).sin() / shear_y.cos()
        d = -(angle - shear_y).sin() * shear_x.tan() / shear_y.cos() + angle.cos()
        forward = scale[:, None, None] * torch.stack([torch.stack([a, b], 1), torch.stack([c, d], 1)], 1)
        inverse = torch.linalg.inv_ex(forward).inverse  # there always is one, and a GPU need not be asked
        return torch.cat([inverse, -inverse @ shift[:, :, None]], dim=2)

    def _displacement(self, n: int, height: int, width: int, generator: Generator, knots: int = 6) -> Tensor:
        """(n, H, W, 2): a smooth random shift of each pixel, after Simard et al. (2003), interpolated between knots."""

        def cubic(size: int) -> Tensor:  # (size, knots): the weights of bicubic interpolation along one axis
            one_knot = torch.eye(knots, device=generator.device)[None, None]
            return F.interpolate(one_knot, (size, knots), mode="bicubic", align_corners=True)[0, 0]

        at_knots = torch.randn(n, 2, knots, knots, generator=generator, device=generator.device) * self.elastic
        shift_x, shift_y = (cubic(height) @ at_knots @ cubic(width).T * 2).unbind(1)
        return torch.stack([shift_x / width, shift_y / height], 3)

    def _overlaid(self, x: Tensor, generator: Generator) -> Tensor:
        """Images `x` with a square patch of another image of the batch laid over each; the brighter of two pixels is kept.

        CutMix (Yun et al. 2019) by maximum and without mixing labels: the network learns to ignore foreign strokes. Without
        it, sevens with a bar through the stem, rare among few labels, are taken for twos.
        """
        n, _, height, width = x.shape
        half = self.overlay // 2
        if self.overlay >= min(height, width):
            raise ValueError(f"overlay={self.overlay!r}: must be below {min(height, width)}, the side of the images")

        def near_center(size: int) -> Tensor:  # (n, size): whether a row, or a column, is in the square
            center = torch.randint(half, size - half, (n, 1), generator=generator, device=generator.device)
            return (torch.arange(size, device=x.device) - center).abs() <= half

        square = (near_center(height)[:, :, None] & near_center(width)[:, None, :])[:, None]
        return torch.where(square, torch.maximum(x, x.roll(1, dims=0)), x)

    def _contrasted(self, x: Tensor, generator: Generator) -> Tensor:
        """Images `x` in another light: how far a pixel is from `fill`, relative to the farthest, to a power, times a factor.

        The background stays; others may leave the range of the data. Channels share one draw.
        """
        logs = torch.empty(2, len(x), 1, 1, 1, device=x.device).uniform_(-self.contrast, self.contrast, generator=generator)
        factor, exponent = logs.exp_()
        distance = x - self.fill
        farthest = distance.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)
        return self.fill + distance.sign() * (distance.abs() / farthest) ** exponent * (factor * farthest)


def _grid(matrices: Tensor, height: int, width: int) -> Tensor:
    """The source of each output pixel, (n, H, W, 2): as F.affine_grid, in a tenth of its time on small images."""
    x, y = ((2 * torch.arange(size, device=matrices.device) + 1) / size - 1 for size in (width, height))
    along_x, along_y, shift = matrices[:, :, :, None, None].unbind(2)  # (n, 2, 1, 1) each
    return (along_x * x + along_y * y[:, None] + shift).permute(0, 2, 3, 1)
