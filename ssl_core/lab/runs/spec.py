"""A run: the values that identify it, the folder where its record belongs, and the recipe that it follows in full."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_core import datasets, recipes
from ssl_core.datasets import DATA_SETS, SIDE, DataSetInfo
from ssl_core.datasets.checks import check_draw, check_n_labels
from ssl_core.device import best_precision, computes_bfloat16
from ssl_core.experiment import Labeling, check_recipe
from ssl_core.model import PRECISIONS
from ssl_core.recipes import LINEAR, PUBLISHED, Pretraining, Recipe

FORMER_DRAWS = {"stratified": "class-balanced"}  # a former value of `draw`: still accepted, and still part of folder names
DRAWS_ON_DISK = {draw: former for former, draw in FORMER_DRAWS.items()}
AUTO = "auto"


@dataclass(frozen=True)
class Run:
    """The parameters of a run. Raises ValueError, naming parameter and value, for what no data set could satisfy.

    It opens no folder of images: `check` does, and says whether the data set has what the run asks for.
    """

    n_labels: int
    recipe: str
    seed: int
    data: str = "mnist"
    draw: str = "random"
    smoke: bool = False  # a few steps only, to see that everything works; the metrics mean nothing
    label_noise: float = 0.0  # the fraction of labels that is replaced by another class
    fold: int = 0  # the part of the labels, 1 to 5, that is held back to estimate the accuracy; 0: none
    n_clusters: int = 0  # without labels: that stand in for classes; 0: as many as there are classes, or as the graph suggests
    side: int = 0  # pixels, of the images; 0: as many as fit them, or as the data set has
    features: str = ""  # from elsewhere, in place of our own: their name in data/features; see ../features
    precision: str = AUTO  # of the network's products: one of model.PRECISIONS, or the one that pays on this machine

    def __post_init__(self):
        object.__setattr__(self, "draw", current_draw(self.draw))
        datasets.check_name(self.data)
        object.__setattr__(self, "side", datasets.asked_side(self.data, self.side))
        recipes.get(self.recipe).check_side(self.side or SIDE)
        if self.data in DATA_SETS:
            check_n_labels(self.n_labels, DATA_SETS[self.data].n_labels, least=0)
        _ = self.labeling
        check_recipe(recipes.get(self.recipe), self.n_labels)
        check_features(self.features)
        if self.precision not in (AUTO, *PRECISIONS):
            raise ValueError(f"precision={self.precision!r}: must be one of {', '.join((AUTO, *PRECISIONS))}")
        if self.recipe in (PUBLISHED.name, LINEAR.name):
            object.__setattr__(self, "precision", AUTO)  # which is float32 for them
        if self.recipe == LINEAR.name and not self.features:
            raise ValueError(f"recipe={self.recipe!r}: must be another one without FEATURES, which it is trained on")
        if not (self.recipe == LINEAR.name or recipes.get(self.recipe).pretraining or self.draw == "typical"):
            object.__setattr__(self, "features", "")  # nothing follows from them
        if not isinstance(self.smoke, bool):
            raise ValueError(f"smoke={self.smoke!r}: must be True or False")

    def __str__(self) -> str:
        kind = "" if self.draw == "random" else f"-{DRAWS_ON_DISK.get(self.draw, self.draw)}"
        kind += f"-wrong{100 * self.label_noise:g}" if self.label_noise else ""
        kind += f"-fold{self.fold}" if self.fold else ""
        kind += f"-clusters{self.n_clusters}" if self.n_clusters else ""
        kind += f"-side{self.side}" if self.side else ""
        kind += f"-{self.features}" if self.features else ""
        kind += f"-{self.precision}" if self.precision != AUTO else ""
        return f"{datasets.slug(self.data)}/{self.recipe}/m{self.n_labels}{kind}/seed{self.seed}"

    def check(self) -> "Run":
        """The run itself; raises ValueError unless its data set is there and has the labels and images that it asks for."""
        recipes.get(self.recipe).check_side(self.info.side)
        if self.precision == PRECISIONS[1] and not computes_bfloat16():
            must = f"must be {AUTO} or {PRECISIONS[0]} on this processor, which lacks instructions for it (amx_bf16)"
            raise ValueError(f"precision={self.precision!r}: {must}")
        check_n_labels(self.n_labels, self.info.n_labels, least=0)
        if self.n_clusters > self.info.n_images:
            raise ValueError(f"n_clusters={self.n_clusters}: must be at most {self.info.n_images}, the number of images")
        if self.draw == "typical" and self.info.n_labels < self.info.n_images:
            raise ValueError(f"draw='typical': must be random or class-balanced where images lack a label, as in {self.data!r}")
        return self

    def folder(self, outputs: str | Path) -> Path:
        """The folder of this run's record."""
        return Path(outputs) / str(self)

    @property
    def labeling(self) -> Labeling:
        """The labels that training is given."""
        return Labeling(self.n_labels, self.seed, self.draw, self.label_noise, self.fold, self.n_clusters)

    @property
    def info(self) -> DataSetInfo:
        """The metadata of the data set; a folder of images is read the first time."""
        return datasets.describe(self.data, side=self.side, for_training=self.n_labels > 0)

    @property
    def settings(self) -> Recipe:
        """The recipe in full, as this run follows it."""
        return self.followed(recipes.get(self.recipe))

    def followed(self, recipe: Recipe) -> Recipe:
        """That recipe in full, as this run would follow it."""
        info = self.info
        side = 1 if recipe.name == LINEAR.name else info.side  # features take the place of pixels
        recipe = adapted(recipe, info, side=side, precision=self.precision).for_labels(self.n_labels, len(info.classes))
        if not self.smoke:
            return recipe
        pretraining = recipe.pretraining and replace(recipe.pretraining, steps=3)
        short = replace(recipe, epochs=2, steps_per_epoch=recipe.steps_per_epoch and 3, pretraining=pretraining)
        return replace(short, tta_views=min(1, recipe.tta_views))

    @property
    def pretraining(self) -> Pretraining | None:
        """The pretraining of the graph that the run needs, for its recipe or for the draw `typical`; None if it needs none."""
        pretraining = self.settings.pretraining
        return self.followed(recipes.BEST).pretraining if self.draw == "typical" and not pretraining else pretraining


def adapted(recipe: Recipe, info: DataSetInfo, *, side: int = 0, precision: str = AUTO) -> Recipe:
    """The recipe for these images on this machine, in the precision that was asked for; `side` where it is not the images'."""
    recipe = recipe.for_images(info.background, side=side or info.side, uniform_prior=info.uniform_prior, n_images=info.n_images)
    return recipe.in_precision(best_precision() if precision == AUTO else precision)


def side_of(data: str, text: str) -> int:
    """The side of the images of `data` that a user asked for, 0 for nothing or `auto`; raises ValueError for what is none."""
    text = text.strip()
    return datasets.asked_side(data, 0 if text in ("", "auto") else int(text) if text.isdecimal() else text)


def check_features(features: object) -> None:
    """Raises ValueError unless `features` is '' or names features as they are kept: readable, and a digest."""
    if not isinstance(features, str) or (features and not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*-[0-9a-f]{8}", features)):
        raise ValueError(f"features={features!r}: must be '', or the name of features that `make sweep FEATURES=…` keeps")


def current_draw(draw: str) -> str:
    """The draw under its present name; raises ValueError for one that is not known."""
    draw = FORMER_DRAWS.get(draw, draw) if isinstance(draw, str) else draw
    check_draw(draw)
    return draw
