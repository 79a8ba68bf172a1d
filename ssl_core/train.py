"""Training and evaluation: `loss_terms` is the algorithm, `fit` the schedule around it, `evaluate` what is reported."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from . import checkpoint
from .augment import Augment
from .data import FullBatches
from .losses import class_centroids, clustering, consistency, entropy, pseudo_label
from .model import EVALUATION_BATCH, Net
from .optim import Optimizers
from .recipes import Recipe

COPIED = 500  # images of which copies are drawn at a time: it decides which ones they get


@dataclass(frozen=True)
class Fit:
    """What training leaves: the final model, a row of `history` per epoch, and copies of the model on the way.

    A row holds epoch, step, seconds since the start, `total` (the objective that was minimised) and every term of the
    loss, unweighted, each a mean over the epoch's steps. `snapshots` maps an epoch (the first and every fifth) to the
    model as it was then: with them the test set can wait until training is over, and steers nothing.
    """

    model: Net
    history: list[dict[str, float]]
    snapshots: dict[int, Net]


@dataclass(frozen=True)
class Evaluation:
    """How a model does on N labelled images. `confusion` counts (C, C): rows are the truth, columns the prediction."""

    probabilities: Tensor  # (N, C)
    right: Tensor  # (N,), whether the likeliest class was the true one
    confusion: Tensor
    nll: float  # mean negative log-likelihood in nats

    @property
    def predictions(self) -> Tensor:
        return self.probabilities.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        return self.confusion.diag().sum().item() / self.confusion.sum().item()

    @property
    def recall(self) -> Tensor:
        """Of each class, the fraction that was recognised, (C,); NaN for a class without an image."""
        return self.confusion.diag() / self.confusion.sum(dim=1)


class Teacher:
    """The moving average of a model's weights (mean teacher, Tarvainen & Valpola 2017), and what it says of an image.

    `prior` (C,) says how frequent each class is, for a recipe without a uniform prior; such a teacher is not aligned without it.
    """

    def __init__(self, model: Net, recipe: Recipe, prior: Tensor | None = None):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.recipe = recipe
        self.prior = None if prior is None else prior.to(model.device)
        self.aligned = bool(recipe.align_decay) and (recipe.uniform_prior or prior is not None)
        self.steps = 0
        n_classes = model.linear2.out_features
        # Of the teacher's predictions of late.
        self.class_frequency = torch.full((n_classes,), 1 / n_classes, device=model.device)

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "steps": self.steps, "class_frequency": self.class_frequency}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.steps, self.class_frequency = state["steps"], state["class_frequency"]

    @torch.no_grad()
    def update(self, model: Net) -> None:
        """Moves the averaged weights towards the model's. Over the first steps it is their mean: no start lingers."""
        self.steps += 1
        decay = min(self.recipe.ema_decay, 1 - 1 / self.steps)
        for average, now in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(now, 1 - decay)

    @torch.no_grad()
    def probabilities(self, x: Tensor, candidates: Tensor | None = None, alone: bool = False) -> Tensor:
        """Class probabilities (N, C) of the images `x`, without gradient.

        With `align_decay` they are aligned with a uniform distribution of the classes, or with `prior` (ReMixMatch, Berthelot
        et al. 2020, section 3.1): divided by how often each class was predicted of late, multiplied by how often it should be,
        and made to sum to one again, so that no class swallows its neighbours. With `candidates` (N, C) they are shared out
        among the classes that are True there (as in learning from partial labels, Lv et al. 2020). If these stand `alone`,
        before there is a teacher worth asking, they are all as likely: only an image with a single candidate then has a sure
        class.
        """
        if alone and candidates is not None:
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
    batch: tuple[Tensor, Tensor, Tensor, Tensor],
    centroids: Tensor | None,
    recipe: Recipe,
) -> dict[str, Tensor]:
    """Every term of the loss that `recipe` weighs, unweighted: a scalar each, a mean over its batch.

    `batch` is `(x_l, y_l, x_weak, x_strong)`; the unlabelled views are empty for a recipe that uses none, and where every
    image has a label: what they would teach is then 0. All views that the model needs to see go through it in one pass.
    `teach` gives class probabilities (N, C) for the weak views.
    """
    x_l, y_l, x_weak, x_strong = batch
    x_u = x_weak if recipe.learns_from_weak else x_weak[:0]
    x_strong = x_strong if recipe.learns_from_strong else x_strong[:0]
    logits, features = model(torch.cat([x_l, x_u, x_strong]))
    logits_l, logits_u, logits_strong = logits.split([len(x_l), len(x_u), len(x_strong)])
    features_u = features[len(x_l) : len(x_l) + len(x_u)]
    formulas: dict[str, Callable[[], Tensor]] = {
        "supervised": lambda: F.cross_entropy(logits_l, y_l),
        "clustering": lambda: clustering(features_u, centroids),
        "consistency": lambda: consistency(logits_u, logits_strong),
        "entropy": lambda: entropy(logits_u),
        "pseudo_label": lambda: pseudo_label(teach(x_weak), logits_strong, recipe.threshold),
    }
    idle = logits.new_zeros(())
    return {name: formulas[name]() if name == "supervised" or len(x_weak) else idle for name in recipe.terms}


def fit(
    model: Net,
    x_l: Tensor,
    y_l: Tensor,
    x_u: Tensor,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[dict[str, float], int], None] = lambda row, epochs: None,
    candidates: Tensor | None = None,
    prior: Tensor | None = None,
    save_to: Path | None = None,
    key: str = "",
) -> Fit:
    """Trains `model` in place on labelled images (M, C, 28, 28) with classes (M,) and unlabelled images (U, C, 28, 28).

    `candidates` (U, C) is True for the classes that an unlabelled image may have by the graph of a recipe that has one, and
    `prior` (C,) is how frequent each class is, if the recipe does not hold them to be alike. All of it is done on the device of
    `model`; the images may come from elsewhere. The result is a pure function of the arguments (and of the device, and of the
    number of threads, which reorders sums). What is returned is the last model of the schedule, averaged if the recipe says so.

    `on_epoch(row, epochs)` is called after each epoch with the row of the history. Raises FloatingPointError, naming the step,
    after an epoch in which a loss was not finite: to look at each step's at once would keep a GPU waiting.

    With `save_to`, training is saved to that file whenever it keeps a snapshot, and goes on from there if the file is of the same
    `key`, which must change with whatever changes the result.
    """
    device = model.device
    x_l, y_l, x_u = x_l.to(device), y_l.to(device), x_u.to(device)
    candidates = None if candidates is None else candidates.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    optimizers = Optimizers(model, recipe.learning_rate, recipe.weight_decay, recipe.muon_rate)
    teacher = Teacher(model, recipe, None if recipe.uniform_prior else prior)
    epochs, start = recipe.epochs_for(len(x_l)), time.perf_counter()
    total_steps = epochs * recipe.steps_for(len(x_l), len(x_u))
    history, snapshots, step = [], {}, 0
    batches = IndexBatches(len(x_l), len(x_u), recipe, generator)
    parts = {"model": model, "teacher": teacher, "optimizers": optimizers, "batches": batches}
    if save_to and (saved := checkpoint.read(save_to, key)):
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        generator.set_state(saved["random"])
        history, step, start = saved["history"], saved["step"], start - saved["history"][-1]["seconds"]
        for epoch, weights in saved["snapshots"].items():
            snapshots[epoch] = copy.deepcopy(teacher.model)
            snapshots[epoch].load_state_dict(weights)
        on_epoch(history[-1], epochs)
    for epoch in range(len(history) + 1, epochs + 1):
        # The report's centroids: of the whole labelled set, once an epoch.
        centroids = class_centroids(embed(model, x_l), y_l) if "clustering" in recipe.terms else None
        taken = []
        for labeled, unlabeled in batches.epoch():
            step += 1
            progress = step / total_steps
            guided = progress <= recipe.guided
            given = candidates[unlabeled] if guided and candidates is not None else None
            teach = partial(teacher.probabilities, candidates=given, alone=progress <= recipe.graph_alone)
            batch = views(x_l[labeled], y_l[labeled], x_u[unlabeled], recipe, generator, guided)
            terms = loss_terms(model, teach, batch, centroids, recipe)
            loss = sum(recipe.weights[name] * value for name, value in terms.items())
            taken.append(torch.stack([loss, *terms.values()]).detach())
            optimizers.step(loss, recipe.decay_at(progress))
            teacher.update(model)
        rows = [dict(zip(("total", *recipe.terms), row, strict=True)) for row in torch.stack(taken).tolist()]
        for at, row in enumerate(rows, step - len(rows) + 1):
            if not math.isfinite(row["total"]):
                raise FloatingPointError(f"the loss of recipe {recipe.name!r} is not finite at step {at}: {row}")
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        history.append({"epoch": epoch, "step": step, "seconds": time.perf_counter() - start} | means)
        if epoch == 1 or epoch % 5 == 0 or epoch == epochs:
            snapshots[epoch] = copy.deepcopy(teacher.model)
            if save_to:
                state = {name: part.state_dict() for name, part in parts.items()}
                state |= {"random": generator.get_state(), "history": history, "step": step}
                state["snapshots"] = {when: snapshot.state_dict() for when, snapshot in snapshots.items()}
                checkpoint.write(save_to, key, state)
        on_epoch(history[-1], epochs)
    return Fit(teacher.model, history, snapshots)


def views(
    x_l: Tensor, y_l: Tensor, x_u: Tensor, recipe: Recipe, generator: Generator, guided: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`(x_l, y_l, x_weak, x_strong)`: the labelled images and two views of the unlabelled ones, as the recipe distorts them."""

    def distorted(x: Tensor, augment: Callable | None) -> Tensor:
        return augment(x, generator) if augment and len(x) else x

    return (
        distorted(x_l, recipe.augment_labeled),
        y_l,
        distorted(x_u, recipe.augment_weak),
        distorted(x_u, (guided and recipe.augment_guided) or recipe.augment_strong),
    )


class IndexBatches:
    """An epoch's (labelled, unlabelled) index batches, an epoch after the other.

    Without `steps_per_epoch`, as in the report: both sets are shuffled and walked in pairs until the shorter ends, the
    last batch being what is left. With it, each batch is full: the next of an endless row of permutations.
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
def embed(model: Net, x: Tensor) -> Tensor:
    """Feature vectors (N, 576) of images `x`, without gradient."""
    return torch.cat([model(part.to(model.device))[1] for part in x.split(EVALUATION_BATCH)])


@torch.no_grad()
def probabilities(model: Net, x: Tensor, copies: int = 0, augment: Augment | None = None) -> Tensor:
    """What `model` makes of images `x` (N, C, 28, 28): class probabilities (N, n_classes).

    With `copies`, each image is read as it is and in so many copies that `augment` distorts, and the probabilities are
    averaged (test-time augmentation; Krizhevsky et al. 2012, section 4.1). The copies are the same at every call. The result
    is in the processor's memory, wherever the model is.
    """

    def once(x: Tensor) -> Tensor:
        return torch.cat([model(part)[0].softmax(dim=1) for part in x.split(EVALUATION_BATCH)])

    x = x.to(model.device)
    p, generator = once(x), torch.Generator(model.device).manual_seed(0)
    for _ in range(copies):
        p += torch.cat([once(augment(part, generator)) for part in x.split(COPIED)])
    return p.div_(1 + copies).cpu()


@torch.no_grad()
def evaluate(model: Net, x: Tensor, y: Tensor, copies: int = 0, augment: Augment | None = None) -> Evaluation:
    """How `model` does on images `x` (N, C, 28, 28) of classes `y` (N,), read as `probabilities` reads them."""
    p, y = probabilities(model, x, copies, augment), y.cpu()
    n_classes, said = p.shape[1], p.argmax(dim=1)
    counts = torch.bincount(y * n_classes + said, minlength=n_classes**2)
    nll = F.nll_loss(p.clamp(min=torch.finfo(p.dtype).tiny).log(), y)
    return Evaluation(p, said == y, counts.reshape(n_classes, n_classes), nll.item())
