"""Semi-supervised digit recognition: how many images do I have to label?

The science, in the order in which to read it: data, augment, model, losses, optim, recipes, graph, experiment, train,
checkpoint. `ssl_core.datasets` fetches, checks and decodes images; `ssl_core.lab` runs experiments and reads their results.
"""

from typing import TYPE_CHECKING

from .data import Images, Split, Task, load, split
from .experiment import Labeling, assess, prepare
from .model import Net, init_net
from .recipes import RECIPES, Recipe
from .train import evaluate, fit

if TYPE_CHECKING:
    from .estimator import SemiSupervisedClassifier
    from .questions import how_many, label_issues, suggest

__version__ = "0.3.0.dev0"
__all__ = [
    "RECIPES",
    "Images",
    "Labeling",
    "Net",
    "Recipe",
    "SemiSupervisedClassifier",
    "Split",
    "Task",
    "assess",
    "evaluate",
    "fit",
    "how_many",
    "init_net",
    "label_issues",
    "load",
    "prepare",
    "split",
    "suggest",
]


_LATER = {"SemiSupervisedClassifier": "estimator", **dict.fromkeys(("how_many", "label_issues", "suggest"), "questions")}


def __getattr__(name: str) -> object:
    """What is made for scikit-learn is imported when it is asked for: scikit-learn takes a second."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
