"""Semi-supervised digit recognition: how many images do I have to label?

The science, in the order in which to read it: data, augment, model, losses, optim, recipes, graph, experiment, train,
checkpoint. `ssl_core.datasets` fetches, checks and decodes images; `ssl_core.lab` runs experiments and reads their results.
"""

from .data import Images, Split, Task, load, split
from .experiment import Labeling, assess, prepare
from .model import Net, init_net
from .recipes import RECIPES, Recipe
from .train import evaluate, fit

__all__ = [
    "RECIPES",
    "Images",
    "Labeling",
    "Net",
    "Recipe",
    "Split",
    "Task",
    "assess",
    "evaluate",
    "fit",
    "init_net",
    "load",
    "prepare",
    "split",
]
