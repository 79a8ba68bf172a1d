"""Recipes: everything about a run that is not its data, its number of labels or its seed. A recipe is a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, isfinite

from .augment import Augment

TERMS = ("supervised", "clustering", "consistency", "entropy", "pseudo_label")


@dataclass(frozen=True)
class Recipe:
    """The weights of the loss terms, the schedule and the augmentation of a run."""

    name: str
    summary: str
    weights: Mapping[str, float]  # of the terms of the loss; a term that is not named has weight 0
    epochs: int
    epochs_at: Mapping[int, int] = field(default_factory=dict)  # n_labels → epochs, where they differ
    steps_per_epoch: int | None = None  # None: as many as the labelled images fill, as in the report
    batch_labeled: int = 200
    batch_unlabeled: int = 200
    augment_labeled: Augment | None = None
    augment_weak: Augment | None = None  # the view x_weak of an unlabelled image; None: the image itself
    augment_strong: Augment | None = None  # its other view, x_strong
    learning_rate: float = 1e-3  # of Adam
    cosine_decay: bool = False  # of the learning rate, to zero; else it stays
    weight_decay: float = 0.0  # decoupled, as in AdamW
    ema_decay: float = 0.0  # of the averaged weights, per step; 0: no averaging
    threshold: float = 0.95  # least confidence of a pseudo-label that counts
    align_decay: float = 0.0  # distribution alignment

    def uses_unlabeled(self):
        return any(w for n, w in self.weights.items() if n != "supervised")

SUP_AUG = Augment(rotation=(-15, 15), scale=(0.85, 1.15), shear=(-10, 10), translate=(-2.5, 2.5))
PUBLISHED = Recipe("published", "", {"supervised": 1, "clustering": 0.1, "consistency": 0.5, "entropy": -0.05}, epochs=50, epochs_at={6000: 15},
                   augment_strong=Augment(rotation=(15, 15), translate=(0.1, 0.1), interpolation="nearest", fill=0.0))
SUPERVISED = Recipe("supervised", "", {"supervised": 1}, epochs=50, steps_per_epoch=30, batch_labeled=200, augment_labeled=SUP_AUG, cosine_decay=True, ema_decay=0.99)
CORRECTED = replace(PUBLISHED, name="corrected", weights={"supervised": 1, "clustering": 0.1, "consistency": 0.5, "entropy": 0.05}, epochs_at={}, steps_per_epoch=30,
                    augment_strong=Augment(rotation=(-15, 15), translate=(-2.8, 2.8)))
BEST = replace(SUPERVISED, name="best", weights={"supervised": 1, "pseudo_label": 1}, batch_labeled=64, batch_unlabeled=256, augment_weak=Augment(translate=(-1,1)), augment_strong=SUP_AUG, threshold=0.9, align_decay=0.99)
RECIPES = {r.name: r for r in (PUBLISHED, SUPERVISED, CORRECTED, BEST)}
