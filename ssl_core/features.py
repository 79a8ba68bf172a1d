"""Features that were made elsewhere, by a network that others trained for one: their graph, and logistic regression on them.

`network`, `fit` and `assess` are those of experiment.py and train.py for the recipe `linear`: its images are features
(N, D, 1, 1) in place of pixels.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import graph
from .data import Images, Task
from .device import threads
from .experiment import Result
from .graph import Neighbors
from .recipes import Recipe
from .train import TrainingResult, evaluate

COMPONENTS = 100  # of the features, in which images are compared
C = 100.0  # the weight of the labels against that of the penalty, as in scikit-learn's LogisticRegression
ITERATIONS = 500  # of L-BFGS, at most


def graph_of(features: Tensor, k: int) -> Neighbors:
    """The graph of `features` (N, D): the `k` nearest other images of each, by the cosine of their `components`."""
    start, n_threads = time.perf_counter(), torch.get_num_threads()
    with threads(1):
        compared = F.normalize(components(features), dim=1)
        similarity, index = graph.nearest(compared, k, n_threads)
    return Neighbors(similarity, index, compared.half(), time.perf_counter() - start)


def components(features: Tensor) -> Tensor:
    """The first COMPONENTS principal components (N, ·) of `features` (N, D), each divided by the root of its deviation.

    Halfway between the features as they are, of which a few directions decide, and whitened ones, in which noise counts as much.
    """
    centered = (features - features.mean(dim=0)).double()
    variance, directions = torch.linalg.eigh(centered.T @ centered / len(features))
    n = min(COMPONENTS, *features.shape)
    variance, directions = variance[-n:], directions[:, -n:]
    return (centered @ directions / variance.clamp(min=1e-9 * float(variance[-1])) ** 0.25).float()


def as_images(features: Tensor, mean: Tensor) -> Tensor:
    """Features (N, D) in place of pixels, (N, D, 1, 1): their directions from the `mean` (D,) of the training images.

    As unit vectors they are of one scale, whoever made them, so that one C fits all.
    """
    return F.normalize(features - mean, dim=1)[..., None, None]


class Head(nn.Module):
    """The classifier of features (N, D, 1, 1): logits (N, n_classes), linear in them. Untrained, it prefers no class."""

    def __init__(self, n_classes: int, dimensions: int):
        super().__init__()
        self.linear = nn.Linear(dimensions, n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @property
    def device(self) -> torch.device:
        return self.linear.weight.device

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = x.flatten(1)
        return self.linear(features), features


def network(images: Images, *_: object) -> Head:
    """The untrained classifier: the same for all seeds, and always on the processor, where fitting it takes seconds."""
    return Head(*images.shape[:2])


def fit(
    model: Head,
    task: Task,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[dict[str, float], int], None] = lambda row, epochs: None,
    *_: object,
) -> TrainingResult:
    """Fits `model` in place to the labelled images by multinomial logistic regression; a pure function of model and task.

    It minimises the sum of cross-entropies and half the squared weights over C, as scikit-learn does, by L-BFGS with Wolfe's
    conditions, in double precision and one thread. The history has one row: the mean cross-entropy at the end.
    """
    start = time.perf_counter()
    x, y = task.x_l[:].flatten(1).double(), task.y_l
    head = Head(model.linear.out_features, x.shape[1]).double()
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=ITERATIONS, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = head.linear.weight.square().sum() / (2 * C * len(y))
        total = F.cross_entropy(head.linear(x), y) + penalty
        total.backward()
        return total

    with threads(1):
        optimizer.step(loss)
    model.load_state_dict(head.state_dict())
    with torch.no_grad():
        mean = F.cross_entropy(model(task.x_l[:])[0], y).item()
    row = {"epoch": 1, "step": 1, "seconds": time.perf_counter() - start, "total": mean, "supervised": mean}
    on_epoch(row, 1)
    return TrainingResult(model, [row], {1: model}, recipe, seed)  # type: ignore[arg-type,dict-item]  # in place of a Net


def assess(images: Images, task: Task, training: TrainingResult) -> Result:
    """Evaluates on the test images, and on a withheld fold, after training: experiment.assess."""
    untrained, trained = (evaluate(model, images.x_test, images.y_test) for model in (network(images), training.model))  # type: ignore[arg-type]
    held_out = None
    if task.held_out is not None and task.y_held_out is not None and len(task.held_out):
        held_out = evaluate(training.model, images.x[task.held_out], task.y_held_out)
    return Result(training, untrained, trained, {1: trained.accuracy}, held_out)
