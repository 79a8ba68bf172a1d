"""Recipes: everything about a run except its data, its labels and its seed.

A recipe is a value. `dataclasses.replace(BEST, threshold=0.7)` is a variation of one; a misspelt field raises.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import ceil, cos, pi
from typing import Any

from .augment import Augment
from .data import BACKGROUND
from .datasets import SIDE
from .datasets.checks import check_seed, check_types, require
from .model import NETWORKS, PRECISIONS, network_for

SPREAD, CHECKED = 0.001, 0.0002  # of 1 − α for each label that a class has: where labels spread, and where they are checked
TERMS = ("supervised", "clustering", "consistency", "entropy", "pseudo_label")


def half_cosine(progress: float) -> float:
    """Falls from 1 to 0 as `progress` rises from 0 to 1."""
    return 0.5 * (1 + cos(pi * progress))


def _alpha(bounds: tuple[float, float], distance: float) -> float:
    """The number between the `bounds` (low, high) that is nearest to 1 − `distance`."""
    low, high = bounds
    return max(low, min(high, round(1 - distance, 6)))


@dataclass(frozen=True)
class Pretraining:
    """The making of the graph of neighbours, from all images without their labels: once for all runs of a sweep."""

    augment: Augment  # of either view
    augment_few: Augment | None = None  # where `passes` allows fewer than `steps`: few images teach more if they vary more
    steps: int = 1500
    passes: int = 50  # over all images, at most: what a small set teaches, it has taught by then
    batch: int = 256  # images, two views each
    temperature: float = 0.5  # of the contrastive loss
    learning_rate: float = 2e-3  # of Adam
    muon_rate: float = 0.01  # of Muon
    dimensions: int = 128  # of the projection that the loss compares
    neighbors: int = 10  # of an image in the graph
    seed: int = 0  # the graph is the same for all seeds of a run
    gradients: float = 0.0  # weight of histograms of gradients beside the features that are learned
    precision: str = PRECISIONS[0]  # of the network's products while features are learned

    def __post_init__(self):
        check_types(self)
        for parameter in ("steps", "passes", "dimensions", "neighbors"):
            require(getattr(self, parameter) >= 1, self, parameter, "at least 1")
        require(self.batch >= 2, self, "batch", "at least 2: each image is contrasted with another")
        require(self.temperature > 0, self, "temperature", "above 0")
        require(0 < self.learning_rate <= 100, self, "learning_rate", "above 0, to 100")
        require(0 <= self.muon_rate <= 100, self, "muon_rate", "0 to 100")
        require(0 <= self.gradients <= 100, self, "gradients", "0 to 100")
        require(self.precision in PRECISIONS, self, "precision", f"one of {', '.join(PRECISIONS)}")
        check_seed(self.seed)

    def for_images(self, adapt: Callable[[Augment], Augment], n_images: int | None) -> "Pretraining":
        """These settings with the distortion for `n_images`, adapted, and no more steps than `passes` over them take."""
        few = self.augment_few and adapt(self.augment_few)
        if n_images is None:
            return replace(self, augment=adapt(self.augment), augment_few=few)
        enough = ceil(self.passes * n_images / min(self.batch, n_images))
        augment = (few if enough < self.steps else None) or adapt(self.augment)
        return replace(self, augment=augment, augment_few=None, steps=min(self.steps, enough))


@dataclass(frozen=True)
class Recipe:
    """The weights of the loss terms, the schedule and the distortions of a run. Raises ValueError for a value out of range."""

    name: str
    summary: str  # one sentence, for tables and notebooks
    weights: Mapping[str, float]  # of the loss terms, see losses.py; a term that is not named has weight 0
    epochs: int
    epochs_at: Mapping[int, int] = field(default_factory=dict)  # number of labels → epochs, where they differ
    steps_per_epoch: int | None = None  # None: as many as there are batches of labelled images, as in the report
    batch_labeled: int = 200  # images
    batch_unlabeled: int = 200
    augment_labeled: Augment | None = None  # None: the image as it is
    augment_weak: Augment | None = None  # of an unlabelled image's first view
    augment_strong: Augment | None = None  # of its second view
    augment_constrained: Augment | None = None  # of its second view while candidates constrain the teacher; None: as otherwise
    tta_augment: Augment | None = None  # test-time augmentation: how the additional views of a test image are distorted
    tta_views: int = 0  # how many additional views, beside the image itself
    learning_rate: float = 1e-3  # of Adam
    muon_rate: float = 0.0  # the learning rate of Muon, which then moves the weights of the hidden layers; 0: Adam moves all
    cosine_decay: bool = False  # the learning rates fall along a half cosine to zero; otherwise they are constant
    ema_decay: float = 0.0  # per step, of the averaged weights that teach and are reported; 0: the weights themselves
    threshold: float = 0.95  # least confidence of a pseudo-label that counts
    align_decay: float = 0.0  # distribution alignment: decay per step of the teacher's mean prediction; 0: no alignment
    uniform_prior: bool = True  # whether classes are assumed equally frequent; otherwise the graph estimates their frequencies
    pretraining: Pretraining | None = None  # of the graph over which labels are spread, to find candidates; None: no graph
    check_labels: bool = False  # whether labels that the others contradict, over the graph, are left out
    check_alpha: tuple[float, float] = (0.99, 0.99)  # how far they spread then: (with many a class, with few)
    graph_alpha: tuple[float, float] = (0.999, 0.999)  # how far labels spread: (with many a class, with one)
    graph_margin: float = 0.6  # a class is a candidate if its score is at least this fraction of the best score
    graph_warmup: float = 0.0  # fraction of all steps in which candidates alone supply the targets, without the teacher
    graph_constrained: float = 0.0  # fraction of all steps, warm-up included, in which candidates constrain the teacher
    base: str | None = None  # of an ablation: the recipe that it varies
    network: str = "report"  # one of model.NETWORKS: that of images of 28 × 28 pixels, or that of larger ones
    precision: str = PRECISIONS[0]  # of the network's products; weights, averages, optimisers' states and losses are float32

    def __post_init__(self):
        check_types(self)
        valid = all(name in TERMS for name in self.weights)
        require(valid and bool(self.terms), self, "weights", f"a weight for some of {', '.join(TERMS)}, not all zero")
        require(self.epochs >= 1 and all(e >= 1 for e in self.epochs_at.values()), self, "epochs", "at least 1")
        require(self.steps_per_epoch is None or self.steps_per_epoch >= 1, self, "steps_per_epoch", "None or at least 1")
        require(self.batch_labeled >= 1, self, "batch_labeled", "at least 1")
        require(self.batch_unlabeled >= (self.terms != ("supervised",)), self, "batch_unlabeled", "at least 1 if a term uses it")
        require(self.tta_views >= 0, self, "tta_views", "0 or more")
        require(self.tta_views == 0 or self.tta_augment is not None, self, "tta_augment", "an Augment where tta_views is above 0")
        require(0 < self.learning_rate <= 100, self, "learning_rate", "above 0, to 100")
        require(0 <= self.ema_decay < 1, self, "ema_decay", "0 to below 1")
        require(0 <= self.threshold <= 1, self, "threshold", "0 to 1")
        require(0 <= self.align_decay < 1, self, "align_decay", "0 to below 1")
        require(0 <= self.muon_rate <= 100, self, "muon_rate", "0 to 100")
        require(not self.check_labels or self.pretraining is not None, self, "check_labels", "False without pretraining")
        require(self.network in NETWORKS, self, "network", f"one of {', '.join(NETWORKS)}")
        require(self.precision in PRECISIONS, self, "precision", f"one of {', '.join(PRECISIONS)}")
        for parameter in ("graph_alpha", "check_alpha"):
            near, far = getattr(self, parameter)
            require(0 < near <= far < 1, self, parameter, "(low, high), in this order, between 0 and 1")
        require(0 < self.graph_margin <= 1, self, "graph_margin", "above 0, to 1")
        require(0 <= self.graph_warmup <= 1, self, "graph_warmup", "0 to 1")
        require(self.graph_warmup <= self.graph_constrained <= 1, self, "graph_constrained", "graph_warmup to 1")

    def mapped(self, change: Callable[[Any], Any]) -> "Recipe":
        """This recipe with `change` of each of its values in place of the value."""
        return replace(self, **{each.name: change(getattr(self, each.name)) for each in fields(self)})

    def without_contrast(self) -> "Recipe":
        """This recipe with views as light as their images: where shapes do not tell the classes apart, light may."""
        return self.mapped(lambda value: replace(value, contrast=0.0) if isinstance(value, Augment) else value)

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms whose weight is not zero, in the order of TERMS: an ablation is a weight of zero."""
        return tuple(name for name in TERMS if self.weights.get(name))

    @property
    def learns_from_weak(self) -> bool:
        """Whether gradient flows through the weak view; otherwise only the teacher sees it."""
        return bool({"clustering", "consistency", "entropy"} & set(self.terms))

    @property
    def learns_from_strong(self) -> bool:
        """Whether the strong view is used at all."""
        return bool({"consistency", "pseudo_label"} & set(self.terms))

    def for_images(
        self, background: float, *, side: int = SIDE, uniform_prior: bool = True, n_images: int | None = None
    ) -> "Recipe":
        """This recipe adapted to another data set: pixels shifted in get the value `background` (normalised).

        It takes the network for images of `side` × `side` pixels, and what is measured in pixels grows with them. Without a
        `uniform_prior` the class frequencies are estimated. Pretraining takes fewer steps where `n_images`, with and without
        labels, are few. Raises ValueError for `published` and another side than the report's.
        """
        self.check_side(side)

        def filled(augment: Augment) -> Augment:
            augment = augment if side == SIDE else augment.scaled(side / SIDE)
            return replace(augment, fill=background) if augment.fill == BACKGROUND else augment

        def adapted(value: object) -> object:
            if isinstance(value, Augment):
                return filled(value)
            return value.for_images(filled, n_images) if isinstance(value, Pretraining) else value

        return replace(self.mapped(adapted), network=network_for(side), uniform_prior=self.uniform_prior and uniform_prior)

    def check_side(self, side: int) -> None:
        """Raises ValueError if this recipe can't be followed on images of `side` × `side` pixels: the report prints a network."""
        if side != SIDE and self.name == PUBLISHED.name:
            printed = f"recipe={self.name!r} has the report's network, printed for images of {SIDE} × {SIDE} pixels"
            raise ValueError(
                f"side={side}: must be {SIDE}: {printed}; recipe='corrected' takes larger ones, side={SIDE} shrinks them"
            )

    def in_precision(self, precision: str) -> "Recipe":
        """This recipe, and its graph's pretraining, computed in that precision; `published` stays as printed, `linear` too."""
        if self.name in (PUBLISHED.name, LINEAR.name):
            return self
        pretraining = self.pretraining and replace(self.pretraining, precision=precision)
        return replace(self, precision=precision, pretraining=pretraining)

    def for_labels(self, n_labels: int, n_classes: int) -> "Recipe":
        """This recipe as it is for `n_labels` of `n_classes`: also a network that is trained without a fold of them gets this."""
        graph, check = self.graph_alpha_for(n_labels, n_classes), self.check_alpha_for(n_labels, n_classes)
        exact = replace(self, graph_alpha=(graph, graph), check_alpha=(check, check))
        return replace(exact, epochs=self.epochs_for(n_labels), epochs_at={})

    def graph_alpha_for(self, n_labels: int, n_classes: int) -> float:
        """The α of label spreading: 1 − α is proportional to the number of labels a class has, as the nearest of them is near."""
        return _alpha(self.graph_alpha, SPREAD * n_labels / max(1, n_classes))

    def check_alpha_for(self, n_labels: int, n_classes: int) -> float:
        """The same where labels are checked: by those near by, whatever is far away."""
        return _alpha(self.check_alpha, CHECKED * n_labels / max(1, n_classes))

    def epochs_for(self, n_labels: int) -> int:
        """The number of epochs with `n_labels`."""
        return self.epochs_at.get(n_labels, self.epochs)

    def steps_for(self, n_labels: int, n_unlabeled: int) -> int:
        """Optimiser steps of one epoch. In the report an epoch ends with the shorter of its two lists of batches."""
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch
        steps = ceil(n_labels / self.batch_labeled)
        return min(steps, ceil(n_unlabeled / self.batch_unlabeled)) if n_unlabeled and self.batch_unlabeled else steps

    def batch_for(self, n_labels: int, n_unlabeled: int) -> tuple[int, int]:
        """Labelled and unlabelled images of a full batch.

        With few labels these are the recipe's numbers. With many, the labelled part grows to their share of all images, so
        that no labelled image is drawn more rarely than an unlabelled one.
        """
        both = self.batch_labeled + self.batch_unlabeled
        if self.steps_per_epoch is None or not self.batch_unlabeled:
            return self.batch_labeled, self.batch_unlabeled
        labeled = max(self.batch_labeled, round(both * n_labels / (n_labels + n_unlabeled)))
        return labeled, both - labeled

    def images_for(self, n_labels: int, n_unlabeled: int) -> int:
        """Images that training passes through the network, all views counted. The cost of a run is proportional to it."""
        labeled, unlabeled = self.batch_for(n_labels, n_unlabeled)
        labeled = min(n_labels, labeled) if self.steps_per_epoch is None else labeled
        views = labeled + (1 + self.learns_from_strong) * unlabeled
        return self.epochs_for(n_labels) * self.steps_for(n_labels, n_unlabeled) * views

    def decay_at(self, progress: float) -> float:
        """The factor of the learning rates when the fraction `progress` of all steps, 0 to 1, is done."""
        return half_cosine(progress) if self.cosine_decay else 1.0


# The report as printed. Its sign of the entropy term, Σ p·log p, is a weight of −0.05 on the entropy; its epochs have
# ceil(M/200) steps; it trained 15 epochs for its figure at M = 6000, and 50 in its sweep. The repairs without which the
# printed code does not run, or turns every weight into NaN:
#   1. its call of torchvision's affine lacks arguments: scale 1 and shear 0 are filled in. The rest stays as it would
#      have worked: always +15°, a shift of 0.1 *pixels* (which nearest-neighbour sampling rounds away), and 0 outside
#      the image, which after normalisation is a dark grey and not the background;
#   2. a digit without a labelled image has no centroid, where the report divides by zero.
PUBLISHED = Recipe(
    name="published",
    summary="The report's method as printed, with the smallest repairs that let it run",
    weights={"supervised": 1.0, "clustering": 0.1, "consistency": 0.5, "entropy": -0.05},
    epochs=50,
    epochs_at={6000: 15},
    augment_strong=Augment(rotation=(15, 15), translate=(0.1, 0.1), interpolation="nearest", fill=0.0),
)

# The report's four terms with its bugs fixed: confident predictions are rewarded, not punished; the transformed copy
# is turned either way and really moved (0.1 of the image's size); and every M gets as many steps as the report's sweep
# gives M = 6000, 50 epochs of 30.
CORRECTED = replace(
    PUBLISHED,
    name="corrected",
    summary="The report's four terms with its bugs fixed, and the same number of steps at every M",
    weights={"supervised": 1.0, "clustering": 0.1, "consistency": 0.5, "entropy": 0.05},
    epochs_at={},
    steps_per_epoch=30,
    augment_strong=Augment(rotation=(-15, 15), translate=(-2.8, 2.8)),
)

# Labels alone, as strong as we could make them with this network: augmentation, enough steps, a cosine schedule, averaged
# weights and test-time augmentation. The strength of the augmentation was chosen for small M, where it matters most; at
# M = 6000 a weaker one does as well.
WEAK = Augment(rotation=(-5, 5), translate=(-1.5, 1.5))
STRONG = Augment(rotation=(-15, 15), scale=(0.85, 1.15), shear=(-10, 10), translate=(-2.5, 2.5), elastic=0.7)
SUPERVISED = Recipe(
    name="supervised",
    summary="Labels alone: cross-entropy on distorted copies of the labelled images",
    weights={"supervised": 1.0},
    epochs=50,
    steps_per_epoch=40,
    batch_labeled=128,
    batch_unlabeled=0,
    augment_labeled=STRONG,
    tta_augment=WEAK,
    tta_views=8,
    learning_rate=2e-3,
    cosine_decay=True,
    ema_decay=0.99,
)

# The report's three ideas, each in a stronger form. FixMatch (Sohn et al. 2020) joins consistency and entropy minimisation:
# an averaged teacher labels a weakly distorted view, and the network learns that label on a strongly distorted view. The
# target is the image's own prediction (consistency) and one-hot (entropy minimisation). Distribution alignment keeps every
# class alive. Clustering: features learned without labels give each image neighbours; labels spread over these give it
# candidate classes. Candidates first supply the targets alone, then constrain the teacher, then leave it free.
# Digits are written at any slant, clothes are photographed upright: these distortions are mild enough for both. Varying the
# contrast replaces what stronger ones taught.
DISTORTED = Augment(rotation=(-5, 5), scale=(0.9, 1.1), shear=(-4, 4), translate=(-2, 2), elastic=0.2, contrast=0.5)
PRETRAINING = Pretraining(
    augment=replace(STRONG, rotation=(-5, 5), shear=(-5, 5), elastic=0.4, overlay=9, contrast=0.5),
    augment_few=replace(STRONG, overlay=9),
    gradients=0.7,
)
BEST = replace(
    SUPERVISED,
    name="best",
    summary="A teacher of averaged weights, guided by label-free clusters, labels the unlabelled images",
    weights={"supervised": 1.0, "pseudo_label": 1.0},
    steps_per_epoch=30,
    batch_labeled=32,
    batch_unlabeled=160,
    augment_labeled=DISTORTED,
    augment_weak=WEAK,
    augment_strong=DISTORTED,
    augment_constrained=replace(DISTORTED, overlay=9),
    learning_rate=1e-3,
    muon_rate=0.01,
    threshold=0.8,
    align_decay=0.99,
    pretraining=PRETRAINING,
    check_labels=True,
    check_alpha=(0.95, 0.99),
    graph_alpha=(0.99, 0.999),
    graph_margin=0.9,
    graph_warmup=0.2,
    graph_constrained=0.4,
)

# For whoever waits; `make frontier` measures what each second of it buys.
QUICK = replace(
    BEST,
    name="quick",
    summary="`best` with a fifth of its pretraining and three fifths of its training",
    epochs=30,
    pretraining=replace(PRETRAINING, steps=300),
)

# What a network that others trained knows already: no network is trained, see features.py.
LINEAR = Recipe(
    name="linear",
    summary="Logistic regression on features from elsewhere (FEATURES=…); no network is trained",
    weights={"supervised": 1.0},
    epochs=1,
    steps_per_epoch=1,
    batch_unlabeled=0,
)

RECIPES = {recipe.name: recipe for recipe in (PUBLISHED, SUPERVISED, CORRECTED, BEST, QUICK, LINEAR)}

# Ablations: `best` without each of its ingredients, and `supervised` plus each of the report's losses, on 64 unlabelled images a
# step, undistorted and, for consistency, transformed.
WEAKLY = {"augment_labeled": WEAK, "augment_strong": WEAK, "augment_constrained": replace(WEAK, overlay=9)}
NO_OVERLAY = {
    "pretraining": replace(PRETRAINING, augment=replace(PRETRAINING.augment, overlay=0), augment_few=STRONG),
    "augment_constrained": None,
}
NO_GRAPH = {"pretraining": None, "check_labels": False, "graph_warmup": 0.0, "graph_constrained": 0.0}
NO_GRADIENTS = {"pretraining": replace(PRETRAINING, gradients=0.0)}
WITHOUT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "clusters": ("No graph: the teacher is never guided", NO_GRAPH),
    "gradients": ("Neighbours by the features that are learned alone", NO_GRADIENTS),
    "checking": ("Every label is believed", {"check_labels": False}),
    "clutter": ("No patch overlay, neither in the graph's features nor in training", NO_OVERLAY),
    "teacher": ("Candidates supply the targets to the end: no pseudo-labels", {"graph_warmup": 1.0, "graph_constrained": 1.0}),
    "release": ("Candidates constrain the teacher to the end", {"graph_constrained": 1.0}),
    "distortion": ("All views distorted as weakly as the teacher's", WEAKLY),
    "alignment": ("No distribution alignment", {"align_decay": 0.0}),
    "averaging": ("The network is its own teacher, without averaged weights", {"ema_decay": 0.0}),
    "muon": ("Adam for all weights, as in `supervised`", {"muon_rate": 0.0, "learning_rate": SUPERVISED.learning_rate}),
}
PLUS = {
    "clustering": ("The report's clustering loss", {"clustering": 0.1}, None),
    "consistency": ("The report's consistency loss, its transformation fixed", {"consistency": 0.5}, CORRECTED.augment_strong),
    "consistency-printed": ("The report's consistency loss as printed", {"consistency": 0.5}, PUBLISHED.augment_strong),
    "entropy": ("The report's entropy loss, its sign fixed", {"entropy": 0.05}, None),
    "entropy-printed": ("The report's entropy loss, sign as printed", {"entropy": -0.05}, None),
}
ABLATIONS = {
    f"best-without-{what}": replace(BEST, name=f"best-without-{what}", summary=summary, base="best", **changes)
    for what, (summary, changes) in WITHOUT.items()
} | {
    f"supervised-plus-{what}": replace(
        SUPERVISED,
        name=f"supervised-plus-{what}",
        summary=summary,
        base="supervised",
        weights={**SUPERVISED.weights, **loss},
        batch_unlabeled=64,
        augment_strong=strong,
    )
    for what, (summary, loss, strong) in PLUS.items()
}


def get(name: object) -> Recipe:
    """The recipe or ablation called `name`; raises ValueError that lists the recipes if there is none."""
    if not isinstance(name, str) or name not in RECIPES | ABLATIONS:
        raise ValueError(f"recipe={name!r}: must be one of {', '.join(RECIPES)}, or of recipes.ABLATIONS")
    return (RECIPES | ABLATIONS)[name]
