"""How much a new image resembles those of training: a network can be sure of what is nothing that it was trained for.

The larger of two distances in the features of the last convolution counts: from a Gaussian of the predicted class, with a
covariance of low rank (Mahalanobis distance: Lee et al. 2018; probabilistic principal components: Tipping & Bishop 1999), and
from the nearest training images (Sun et al. 2022). No label is needed, and no foreign image.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import EVALUATION_BATCH, Net

MOST = 3000  # training images that the distances are measured from, and, at most, as many to calibrate them
LEAST = 40  # training images, fewer of which can't tell
RANK = 64
NEAREST = 5


@dataclass(frozen=True)
class _Gaussian:
    """The features (N, D) of one predicted class: `mean`, principal `axes` (D, k), their `variance`, and that of the rest."""

    mean: Tensor
    axes: Tensor
    variance: Tensor
    rest: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> "_Gaussian":
        mean = features.mean(dim=0)
        centered = features - mean
        _, scale, axes = torch.linalg.svd(centered, full_matrices=False)
        variance, rank = scale**2 / len(features), min(RANK, len(features) // 4)
        rest = variance[rank:].sum() / (features.shape[1] - rank)
        return cls(mean, axes[:rank].T, variance[:rank].clamp(min=1e-6), rest.clamp(min=1e-6))

    def distance(self, features: Tensor) -> Tensor:
        """The Mahalanobis distance (N,) of features (N, D)."""
        centered = features - self.mean
        along = centered @ self.axes
        rest = (centered.square().sum(dim=1) - along.square().sum(dim=1)).clamp(min=0)
        return ((along.square() / self.variance).sum(dim=1) + rest / self.rest).sqrt()


class Familiarity:
    """Distances of images from the training images of `model`, of which `x` (N, C, side, side) is a random sample, normalised.

    Raises ValueError if there are fewer than LEAST.
    """

    def __init__(self, model: Net, x: Tensor):
        if len(x) < LEAST:
            raise ValueError(f"x={len(x)} images: must be {LEAST} or more")
        self.model = model
        n = min(MOST, len(x) // 2)
        features, classes = self._embed(x[: 2 * n])
        self.bank = F.normalize(features[:n], dim=1)
        self.gaussians = {c: _Gaussian.fit(features[:n][classes[:n] == c]) for c in classes[:n].unique().tolist()}
        held_out = self._parts(features[n:], classes[n:])
        known = held_out.isfinite().all(dim=1)
        self.center, self.scale = held_out[known].mean(dim=0), held_out[known].std(dim=0).clamp(min=1e-6)
        self.held_out = self._larger(held_out)

    def distance(self, x: Tensor) -> Tensor:
        """The distance (N,) of each image `x` (N, C, side, side), in standard deviations from that of a training image.

        Infinite for an image of a predicted class that no image of the sample has.
        """
        return self._larger(self._parts(*self._embed(x)))

    def limit(self, share: float) -> float:
        """The distance that the fraction `share` of the training images exceeds, which the distances are not fitted to."""
        return self.held_out.quantile(1 - share).item()

    def _embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features (N, D) of images and their predicted classes (N,)."""
        with torch.no_grad():
            parts = [self.model(part) for part in x.to(self.model.device).split(EVALUATION_BATCH)]
        return torch.cat([features for _, features in parts]).cpu(), torch.cat(
            [logits.argmax(dim=1) for logits, _ in parts]
        ).cpu()

    def _parts(self, features: Tensor, classes: Tensor) -> Tensor:
        """The two distances (N, 2) of features (N, D)."""
        mahalanobis = torch.full((len(features),), torch.inf)
        for c, gaussian in self.gaussians.items():
            members = classes == c
            mahalanobis[members] = gaussian.distance(features[members])
        directions = F.normalize(features, dim=1).split(1000)
        nearest = [(part @ self.bank.T).topk(min(NEAREST, len(self.bank)), dim=1).values.mean(dim=1) for part in directions]
        return torch.stack([mahalanobis, 1 - torch.cat(nearest)], dim=1)

    def _larger(self, parts: Tensor) -> Tensor:
        return ((parts - self.center) / self.scale).amax(dim=1)
