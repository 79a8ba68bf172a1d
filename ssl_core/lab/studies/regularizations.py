"""Other regularisations than those of the recipes: added to `supervised` one by one, and to `best` where that makes sense.

Weights and strengths are those of the papers where they have some for images of this kind; none was tuned.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_core.data import Task
from ssl_core.model import Net
from ssl_core.recipes import PLUS, STRONG, WEAK, Recipe
from ssl_core.train import Batch, Training

from .future_work import study
from .variants import Variant

BOTH = "supervised", "best"
RADIUS = 6.5  # of an adversarial change, in deviations of a pixel: 2 of the range from black to white (Miyato et al. 2018)
PROBE = 1e-2  # of the radius: the change by which its direction is found
DECAY = 0.1  # of the weights, relative to the learning rate
BATCH = 64  # unlabelled images a step that are added to `supervised`
SUM = 10.0  # of a squared error that is a mean over ten classes: the sum over them, as in the papers
Teach = Callable[[Tensor], Tensor]


class Added(Training):
    """Training with the terms `added` to the loss, each a method of that name."""

    added: ClassVar[Mapping[str, float]] = {}

    def __init__(self, model: Net, task: Task, recipe: Recipe, seed: int):
        super().__init__(model, task, recipe, seed)
        self.weights = {**self.weights, **self.added}

    def terms(self, teach: Teach, batch: Batch, centroids: Tensor | None) -> dict[str, Tensor]:
        return super().terms(teach, batch, centroids) | {name: getattr(self, name)(batch) for name in self.added}


class MeanTeacher(Added):
    """Mean teacher (Tarvainen & Valpola 2017): the strong view is read as the averaged weights read the weak one."""

    added: ClassVar[Mapping[str, float]] = {"mean_teacher": SUM}

    def mean_teacher(self, batch: Batch) -> Tensor:
        _, _, x_weak, x_strong = batch
        with torch.no_grad():
            target = self.teacher.model(x_weak)[0].softmax(dim=1)
        return F.mse_loss(self.model(x_strong)[0].softmax(dim=1), target)


class VirtualAdversarial(Added):
    """VAT (Miyato et al. 2018, equation 5): predictions stay under the change of a given size that alters them most."""

    added: ClassVar[Mapping[str, float]] = {"virtual_adversarial": 1.0}

    def virtual_adversarial(self, batch: Batch) -> Tensor:
        x = batch[2]
        with torch.no_grad():
            target = self.model(x)[0].softmax(dim=1)

        def divergence(change: Tensor) -> Tensor:
            return F.kl_div(self.model(x + change)[0].log_softmax(dim=1), target, reduction="batchmean")

        direction = _unit(torch.randn(x.shape, generator=self.generator, device=x.device)).requires_grad_()
        (steepest,) = torch.autograd.grad(divergence(PROBE * RADIUS * direction), direction)
        return divergence(RADIUS * _unit(steepest))


class Mixup(Added):
    """mixup (Zhang et al. 2018) of labelled images: the mean of two is read as the mean of their classes; α = 1."""

    added: ClassVar[Mapping[str, float]] = {"mixup": 1.0}

    def mixup(self, batch: Batch) -> Tensor:
        x, y = batch[:2]
        share = torch.rand((), generator=self.generator, device=x.device)
        order = torch.randperm(len(x), generator=self.generator, device=x.device)
        logits = self.model(share * x + (1 - share) * x[order])[0]
        return share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])


class WeightDecay(Training):
    """Weights shrink a little at each step, apart from the gradient (Loshchilov & Hutter 2019)."""

    def train_step(self, labeled: Tensor, unlabeled: Tensor, centroids: Tensor | None) -> Tensor:
        losses = super().train_step(labeled, unlabeled, centroids)
        rate = self.recipe.learning_rate * self.recipe.decay_at(self.step / self.total_steps)
        with torch.no_grad():
            for weight in self.model.parameters():
                if weight.ndim > 1:
                    weight.mul_(1 - DECAY * rate)
        return losses


class WithModes(Training):
    """Training of a network that differs between training and reading: dropout, and the moments of batch norm.

    The averaged weights read with the network's own moments.
    """

    def __init__(self, model: Net, task: Task, recipe: Recipe, seed: int):
        super().__init__(model, task, recipe, seed)
        self.model.train()
        self.teacher.model.eval()

    def train_step(self, labeled: Tensor, unlabeled: Tensor, centroids: Tensor | None) -> Tensor:
        losses = super().train_step(labeled, unlabeled, centroids)
        for average, now in zip(self.teacher.model.buffers(), self.model.buffers(), strict=True):
            average.copy_(now)
        return losses


class Dropout(Net):
    """The report's network with half of the hidden layer's outputs set to zero in training (Srivastava et al. 2014)."""

    def _hidden(self, features: Tensor) -> Tensor:
        return F.dropout(super()._hidden(features), 0.5, self.training)


class Normalized(Net):
    """The report's network with a normalisation of each convolution's output, of 32, 64 and 64 channels."""

    def __init__(self, norm: Callable[[int], nn.Module], n_classes: int, channels: int):
        super().__init__(n_classes, channels)
        for name in ("conv1", "conv2", "conv3"):
            convolution = getattr(self, name)
            setattr(self, name, nn.Sequential(convolution, norm(convolution.out_channels)))


def batch_norm(n_classes: int, channels: int) -> Net:
    """With batch norm (Ioffe & Szegedy 2015)."""
    return Normalized(nn.BatchNorm2d, n_classes, channels)


def group_norm(n_classes: int, channels: int) -> Net:
    """With group norm (Wu & He 2018), eight channels a group."""
    return Normalized(lambda n: nn.GroupNorm(n // 8, n), n_classes, channels)


def _unit(x: Tensor) -> Tensor:
    """Each of `x` (N, …) at length one."""
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]


def _unlabeled(recipe: Recipe) -> Recipe:
    """With unlabelled images, in two views that are distorted as the labelled ones."""
    if recipe.batch_unlabeled:
        return recipe
    return replace(recipe, batch_unlabeled=BATCH, augment_weak=WEAK, augment_strong=STRONG)


def _loss(what: str) -> Variant:
    """`supervised` with one of the report's losses more, as in the ablation."""
    summary, loss, strong = PLUS[what]

    def change(recipe: Recipe) -> Recipe:
        return replace(recipe, weights={**recipe.weights, **loss}, batch_unlabeled=BATCH, augment_strong=strong)

    return Variant(summary, ("supervised",), change)


def pi_model(recipe: Recipe) -> Recipe:
    """The Π-model (Laine & Aila 2017): both views are distorted, and are to be read alike."""
    return replace(_unlabeled(recipe), augment_weak=STRONG, weights={**recipe.weights, "consistency": SUM})


VARIANTS = {
    "clustering": _loss("clustering"),
    "consistency": _loss("consistency"),
    "entropy": _loss("entropy"),
    "pi-model": Variant("The Π-model: two distorted views are read alike", ("supervised",), pi_model),
    "mean-teacher": Variant("Mean teacher", ("supervised",), _unlabeled, training=MeanTeacher),
    "vat": Variant("Virtual adversarial training", BOTH, _unlabeled, training=VirtualAdversarial),
    "mixup": Variant("mixup of labelled images", BOTH, training=Mixup),
    "dropout": Variant("Dropout of half of the hidden layer", BOTH, network=Dropout, training=WithModes),
    "weight-decay": Variant("Weight decay", BOTH, training=WeightDecay),
    "batch-norm": Variant("Batch norm after each convolution", BOTH, network=batch_norm, training=WithModes),
    "group-norm": Variant("Group norm after each convolution", BOTH, network=group_norm),
}


STUDY = study(
    "regularizations",
    "Would another regularisation do better?",
    "What regularises `supervised` has to replace what the unlabelled images teach `best`; what helps"
    " `best` comes on top of that.",
)
