"""Training and evaluation: `loss_terms` is the algorithm, `fit` the loop around it, `evaluate` gives the reported metrics."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .augment import Augment
from .checkpoint import Checkpoint
from .data import FullBatches, Pixels, Task
from .losses import class_centroids, clustering, consistency, entropy, pseudo_label
from .model import EVALUATION_BATCH, Net
from .optim import Optimizers
from .recipes import Recipe

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # labelled images, their classes, weak and strong views of unlabelled ones
TTA_BATCH = 500  # images that are augmented at a time when they are read; it decides which distortion each one gets


@dataclass(frozen=True)
class TrainingResult:
    """The final model, a row of `history` per epoch, and snapshots of the model after the first and every fifth epoch.

    A row holds epoch, step, seconds since the start, `total` (the objective that was minimised) and every loss term,
    unweighted; losses are means over the epoch's steps. `snapshots` maps an epoch to the model at its end: test accuracy
    during training can thus be measured after training, and steers nothing.
    """

    model: Net
    history: list[dict[str, float]]
    snapshots: dict[int, Net]
    recipe: Recipe
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """The performance of a model on N labelled images. `confusion` counts (C, C): rows are true classes, columns predictions."""

    probabilities: Tensor  # (N, C)
    correct: Tensor  # (N,), whether the most probable class is the true one
    confusion: Tensor
    nll: float  # mean negative log-likelihood in nats

    @property
    def predictions(self) -> Tensor:
        return self.probabilities.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """The fraction that is classified correctly; NaN without an image."""
        n = self.confusion.sum().item()
        return self.confusion.diag().sum().item() / n if n else math.nan

    @property
    def recall(self) -> Tensor:
        """The fraction of each class that is classified correctly, (C,); NaN for a class without an image."""
        return self.confusion.diag() / self.confusion.sum(dim=1)


class Teacher:
    """The moving average of a model's weights (mean teacher, Tarvainen & Valpola 2017), and its predictions.

    `prior` (C,) are the class frequencies, for a recipe without a uniform prior; without them such a teacher is not aligned.
    """

    def __init__(self, model: Net, recipe: Recipe, prior: Tensor | None = None):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.recipe = recipe
        self.prior = None if prior is None else prior.to(model.device)
        self.aligned = bool(recipe.align_decay) and (recipe.uniform_prior or prior is not None)
        self.steps = 0
        n_classes = model.linear2.out_features
        # A moving average of the teacher's predictions.
        self.class_frequency = torch.full((n_classes,), 1 / n_classes, device=model.device)

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "steps": self.steps, "class_frequency": self.class_frequency}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.steps, self.class_frequency = state["steps"], state["class_frequency"]

    @torch.no_grad()
    def update(self, model: Net) -> None:
        """Moves the averaged weights towards the model's. At first they are the plain mean, so that the start does not linger."""
        self.steps += 1
        decay = min(self.recipe.ema_decay, 1 - 1 / self.steps)
        for average, now in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(now, 1 - decay)

    @torch.no_grad()
    def probabilities(self, x: Tensor, candidates: Tensor | None = None, *, warmup: bool = False) -> Tensor:
        """Class probabilities (N, C) of the images `x`, without gradient.

        With `align_decay` they are aligned with a uniform class distribution, or with `prior` (distribution alignment,
        ReMixMatch, Berthelot et al. 2020, section 3.1): divided by the moving average of the predictions, multiplied by the
        target frequency, and normalised, so that no class swallows its neighbours. `candidates` (N, C) set the probability
        of all other classes to zero (partial labels, Lv et al. 2020). During `warmup` the teacher is not asked: the candidates
        are equally probable, so only an image with a single candidate has a confident class.
        """
        if warmup and candidates is not None:
            return candidates / candidates.sum(dim=1, keepdim=True)
        p = self.model(x)[0].softmax(dim=1)
        if self.aligned:
            self.class_frequency.lerp_(p.mean(dim=0), 1 - self.recipe.align_decay)
            p = p / self.class_frequency if self.prior is None else p * (self.prior / self.class_frequency)
        if candidates is not None:
            p = p * candidates
        return p / p.sum(dim=1, keepdim=True).clamp(min=1e-30)


def loss_terms(
    model: Net,
    teach: Callable[[Tensor], Tensor],
    batch: Batch,
    centroids: Tensor | None,
    recipe: Recipe,
) -> dict[str, Tensor]:
    """Every term of the loss that `recipe` weighs, unweighted: a scalar each, a mean over its batch.

    `batch` is `(x_l, y_l, x_weak, x_strong)`. The unlabelled views are empty for a recipe that uses none, and where every
    image has a label; their terms are then 0. All views pass through the model in one batch. `teach` gives class
    probabilities (N, C) for the weak views.
    """
    x_l, y_l, x_weak, x_strong = batch
    x_u = x_weak if recipe.learns_from_weak else x_weak[:0]
    x_strong = x_strong if recipe.learns_from_strong else x_strong[:0]
    logits, features = model(torch.cat([x_l, x_u, x_strong]))
    logits_l, logits_u, logits_strong = logits.split([len(x_l), len(x_u), len(x_strong)])
    features_u = features[len(x_l) : len(x_l) + len(x_u)]
    formulas: dict[str, Callable[[], Tensor]] = {
        "supervised": lambda: F.cross_entropy(logits_l, y_l),
        "clustering": lambda: clustering(features_u, centroids),  # type: ignore[arg-type]  # None only without this term
        "consistency": lambda: consistency(logits_u, logits_strong),
        "entropy": lambda: entropy(logits_u),
        "pseudo_label": lambda: pseudo_label(teach(x_weak), logits_strong, recipe.threshold),
    }
    zero = logits.new_zeros(())
    return {name: formulas[name]() if name == "supervised" or len(x_weak) else zero for name in recipe.terms}


def fit(
    model: Net,
    task: Task,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[dict[str, float], int], None] = lambda row, epochs: None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Trains `model` in place on `task` by `recipe`, on the device of the model.

    The result is a pure function of the arguments, the device and the number of threads, which reorders sums. Its model is the
    last one of the fixed schedule, with averaged weights if the recipe says so. `on_epoch(row, epochs)` is called after each
    epoch with the row of the history. With a `checkpoint`, training is saved with each snapshot, and resumes from the last one.
    Raises FloatingPointError, naming the step, after an epoch in which a loss was not finite.
    """
    training = Training(model, task.to(model.device), recipe, seed)
    if checkpoint and (state := checkpoint.read()):
        training.load_state_dict(state)
        on_epoch(training.history[-1], training.epochs)
    for epoch in range(len(training.history) + 1, training.epochs + 1):
        training.train_epoch()
        if takes_snapshot(epoch, training.epochs):
            training.snapshots[epoch] = copy.deepcopy(training.teacher.model)
            if checkpoint:
                checkpoint.write(training.state_dict())
        on_epoch(training.history[-1], training.epochs)
    return TrainingResult(training.teacher.model, training.history, training.snapshots, recipe, seed)


def takes_snapshot(epoch: int, epochs: int) -> bool:
    """Whether training keeps the model after this epoch: the first, every fifth and the last."""
    return epoch == 1 or epoch % 5 == 0 or epoch == epochs


class Training:
    """Everything that changes while a network is trained, and that a checkpoint therefore holds."""

    def __init__(self, model: Net, task: Task, recipe: Recipe, seed: int):
        if task.graph_misleads:
            recipe = recipe.without_contrast()
        self.model, self.task, self.recipe = model, task, recipe
        self.generator = torch.Generator(model.device).manual_seed(seed)
        model.precision = recipe.precision
        self.optimizers = Optimizers(model, recipe.learning_rate, recipe.muon_rate, getattr(torch, recipe.precision))
        self.teacher = Teacher(model, recipe, None if recipe.uniform_prior else task.class_prior)
        sizes = len(task.x_l), len(task.x_u)
        self.batches = IndexBatches(*sizes, recipe, self.generator)
        self.epochs = recipe.epochs_for(len(task.x_l))
        self.total_steps = self.epochs * recipe.steps_for(*sizes)
        self.weights = {name: recipe.weights[name] for name in recipe.terms}
        self.history: list[dict[str, float]] = []
        self.snapshots: dict[int, Net] = {}
        self.step, self.start = 0, time.perf_counter()

    @property
    def parts(self) -> "dict[str, Net | Teacher | Optimizers | IndexBatches]":
        return {"model": self.model, "teacher": self.teacher, "optimizers": self.optimizers, "batches": self.batches}

    def state_dict(self) -> dict:
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"random": self.generator.get_state(), "history": self.history, "step": self.step}
        return state | {"snapshots": {epoch: snapshot.state_dict() for epoch, snapshot in self.snapshots.items()}}

    def load_state_dict(self, state: dict) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.generator.set_state(state["random"])
        self.history, self.step = state["history"], state["step"]
        self.start = time.perf_counter() - self.history[-1]["seconds"]
        for epoch, weights in state["snapshots"].items():
            self.snapshots[epoch] = copy.deepcopy(self.teacher.model)
            self.snapshots[epoch].load_state_dict(weights)

    def train_epoch(self) -> None:
        """One epoch; appends its row to the history. Losses leave the device once an epoch: a GPU never waits for a step's."""
        task, recipe = self.task, self.recipe
        # The report's centroids: of the whole labelled set, once an epoch.
        centroids = class_centroids(embed(self.model, task.x_l), task.y_l) if "clustering" in recipe.terms else None
        losses = torch.stack([self.train_step(*indices, centroids) for indices in self.batches.epoch()])
        rows = [dict(zip(("total", *self.weights), row, strict=True)) for row in losses.tolist()]
        for step, row in enumerate(rows, self.step - len(rows) + 1):
            if not math.isfinite(row["total"]):
                raise FloatingPointError(f"the loss of recipe {recipe.name!r} is not finite at step {step}: {row}")
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        epoch, seconds = len(self.history) + 1, time.perf_counter() - self.start
        self.history.append({"epoch": epoch, "step": self.step, "seconds": seconds} | means)

    def train_step(self, labeled: Tensor, unlabeled: Tensor, centroids: Tensor | None) -> Tensor:
        """One step on these indices; returns the total loss and its terms, unweighted: (1 + number of terms,)."""
        task, recipe = self.task, self.recipe
        self.step += 1
        progress = self.step / self.total_steps
        constrained = progress <= recipe.graph_constrained
        candidates = task.candidates[unlabeled] if constrained and task.candidates is not None else None
        teach = partial(self.teacher.probabilities, candidates=candidates, warmup=progress <= recipe.graph_warmup)
        x_l, y_l, x_u = task.x_l[labeled], task.y_l[labeled], task.x_u[unlabeled]
        batch = views(x_l, y_l, x_u, recipe, self.generator, constrained=constrained)
        terms = self.terms(teach, batch, centroids)
        loss: Tensor = sum(weight * terms[name] for name, weight in self.weights.items())  # type: ignore[assignment]  # never empty
        self.optimizers.step(loss, recipe.decay_at(progress))
        self.teacher.update(self.model)
        return torch.stack([loss, *(terms[name] for name in self.weights)]).detach()

    def terms(self, teach: Callable[[Tensor], Tensor], batch: Batch, centroids: Tensor | None) -> dict[str, Tensor]:
        """The terms of the loss by name, as `loss_terms`; a subclass can add some, and their `weights`."""
        return loss_terms(self.model, teach, batch, centroids, self.recipe)


def views(x_l: Tensor, y_l: Tensor, x_u: Tensor, recipe: Recipe, generator: Generator, *, constrained: bool = False) -> Batch:
    """`(x_l, y_l, x_weak, x_strong)`: the labelled images and two views of the unlabelled ones, as the recipe distorts them.

    While candidates `constrained` the teacher, the strong view is that of `augment_constrained`, if the recipe has one.
    """

    def distorted(x: Tensor, augment: Callable | None) -> Tensor:
        return augment(x, generator) if augment and len(x) else x

    return (
        distorted(x_l, recipe.augment_labeled),
        y_l,
        distorted(x_u, recipe.augment_weak),
        distorted(x_u, (constrained and recipe.augment_constrained) or recipe.augment_strong),
    )


class IndexBatches:
    """The (labelled, unlabelled) index batches of one epoch after another.

    Without `steps_per_epoch`, as in the report: both sets are shuffled and walked in pairs until the shorter ends; the last
    batch may be partial. With it every batch is full, from an endless sequence of permutations.
    """

    def __init__(self, n_l: int, n_u: int, recipe: Recipe, generator: Generator):
        self.sizes, self.recipe, self.generator = (n_l, n_u), recipe, generator
        size_l, size_u = recipe.batch_for(n_l, n_u)
        self.labeled, self.unlabeled = FullBatches(n_l, size_l, generator), FullBatches(n_u, size_u, generator)

    def state_dict(self) -> dict:
        return {"labeled": self.labeled.ahead, "unlabeled": self.unlabeled.ahead}

    def load_state_dict(self, state: dict) -> None:
        self.labeled.ahead, self.unlabeled.ahead = state["labeled"], state["unlabeled"]

    def epoch(self) -> list[tuple[Tensor, Tensor]]:
        if self.recipe.steps_per_epoch is not None:
            return [(next(self.labeled), next(self.unlabeled)) for _ in range(self.recipe.steps_per_epoch)]
        n_l, n_u = self.sizes
        labeled, unlabeled = (torch.randperm(n, generator=self.generator, device=self.generator.device) for n in (n_l, n_u))
        labeled, unlabeled = labeled.split(self.recipe.batch_labeled), unlabeled.split(self.recipe.batch_unlabeled or 1)
        return list(zip(labeled, unlabeled if n_u else repeat(unlabeled[0]), strict=False))


@torch.no_grad()
def embed(model: Net, x: Pixels | Tensor) -> Tensor:
    """Feature vectors (N, D) of images `x`, without gradient."""
    return torch.cat([model(part.to(model.device))[1] for part in x.split(EVALUATION_BATCH)])


@torch.no_grad()
def probabilities(model: Net, x: Pixels | Tensor, views: int = 0, augment: Augment | None = None) -> Tensor:
    """Class probabilities (N, n_classes) of images `x` (N, C, side, side) by `model`, in main memory wherever the model is.

    With `views`, test-time augmentation (Krizhevsky et al. 2012, section 4.1): probabilities are averaged over the image itself
    and that many views distorted by `augment`. The distortions are the same at every call.
    """

    def once(x: Pixels | Tensor) -> Tensor:
        return torch.cat([model(part)[0].softmax(dim=1) for part in x.split(EVALUATION_BATCH)])

    x = x.to(model.device)
    p, generator = once(x), torch.Generator(model.device).manual_seed(0)
    for _ in range(views):
        assert augment is not None  # Recipe refuses views without it
        p += torch.cat([once(augment(part, generator)) for part in x.split(TTA_BATCH)])
    return p.div_(1 + views).cpu()


def evaluate(model: Net, x: Pixels | Tensor, y: Tensor, views: int = 0, augment: Augment | None = None) -> Evaluation:
    """The performance of `model` on images `x` (N, C, side, side) of classes `y` (N,), read as `probabilities` reads them."""
    return measure(probabilities(model, x, views, augment), y)


def measure(p: Tensor, y: Tensor) -> Evaluation:
    """The performance of predictions with probabilities `p` (N, n_classes) for images of classes `y` (N,)."""
    y, n_classes, predictions = y.cpu(), p.shape[1], p.argmax(dim=1)
    counts = torch.bincount(y * n_classes + predictions, minlength=n_classes**2)
    nll = F.nll_loss(p.clamp(min=torch.finfo(p.dtype).tiny).log(), y)
    return Evaluation(p, predictions == y, counts.reshape(n_classes, n_classes), nll.item())
