"""The identity of a run: its parameters, its recipe, its data and the code of the science, as one short digest.

Notebooks, plots and the lab are no part of it. A digest of code that `certify` found to make the same numbers stands for the
earlier one, so that finished runs stay finished.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock

from ssl_core import selection
from ssl_core.augment import Augment
from ssl_core.datasets.checks import Dataclass
from ssl_core.graph import MANY
from ssl_core.model import PRECISIONS
from ssl_core.recipes import BEST, PRETRAINING, Pretraining, Recipe, get

from . import files
from .spec import AUTO, DRAWS_ON_DISK, Run

CERTIFIED = Path(__file__).with_name("certified.json")
PARSER = Lock()  # Python 3.11 counts the parser's recursion for all threads together: two at once can raise SystemError
# All code that makes numbers, as modules of ssl_core. Images enter by their checksum, too.
GRAPH_CODE = ("data", "augment", "model", "losses", "optim", "recipes", "graph")
SCIENCE = (*GRAPH_CODE, "experiment", "train", "checkpoint", "datasets.pixels")
CHECK_CODE = ("clusters", "label_errors")  # of runs that check their labels
FEATURES_CODE = ("features",)  # of runs with features from elsewhere, whose name is among their parameters
SELECTION_CODE = ("clusters", "selection")  # of runs whose labelled images, or clusters, the graph decides on
# Fields that have been renamed, and their names at the time: a name changes no number, and so voids no finished run.
FORMER_NAMES = {
    "label_noise": "wrong_labels",
    "pretraining": "graph",
    "overlay": "clutter",
    "graph_warmup": "graph_alone",
    "graph_constrained": "guided",
    "augment_constrained": "augment_guided",
    "tta_augment": "augment_test",
    "tta_views": "test_copies",
}


def fingerprint(
    run: Run, settings: Recipe | None = None, pretraining: Pretraining | None = None, *, in_one_order: bool = True
) -> str:
    """Changes if and only if the parameters, the recipe, the images or the code that makes the numbers change.

    With other `settings`, or another `pretraining` of the graph, than the run's own, that of the same run with these. Where the
    machine chooses the precision it is no part: the record tells it.
    `in_one_order` is False of versions that put the images into one order, data.split, for the draw `random` alone.
    """
    told, settings, pretraining = ("name", "summary", "base"), settings or run.settings, pretraining or run.pretraining
    if run.precision == AUTO:
        settings = settings.in_precision(PRECISIONS[0])
        pretraining = pretraining and replace(pretraining, precision=PRECISIONS[0])
    recipe = {name: value for name, value in non_default(settings).items() if name not in told}
    parts = [non_default(run), recipe, run.info.checksum, code_digest()]
    if pretraining and pretraining != settings.pretraining:  # the graph decides which images are labelled
        parts.append(non_default(pretraining))
    if run.draw == "typical" or not run.n_labels:
        parts.append(code_digest(SELECTION_CODE))
        classes = len(run.info.classes)
        if settings.uniform_prior and (run.n_labels or run.n_clusters or classes) == classes <= selection.FEW:
            parts.append("even clusters")  # as later versions find; see experiment.prepare
    if run.draw == "typical" and run.n_labels > selection.FEW:
        parts.append("covers images")  # as later versions select after the first few
    if settings.check_labels and run.n_labels:
        parts.append(code_digest(CHECK_CODE))
    if in_one_order and (run.draw != "random" or not run.n_labels or run.info.n_labels < run.info.n_images):
        parts.append("in one order")
    if run.features:
        parts.append(code_digest(FEATURES_CODE))
    if pretraining and run.info.n_images >= MANY:
        parts.append("index")  # finds the neighbours, which earlier versions compared all for
    return files.digest(parts)[:16]


def former_fingerprints(run: Run) -> Iterator[str]:
    """The fingerprints of the run in earlier versions that the reference still has rows of.

    The latest of these spread all labels as far as one a class. Before, images were distorted more strongly, and their contrast
    was not varied. Before, images were put into another order, unless they were drawn at random. Before, no histograms of
    gradients joined the graph's features, which were learned as long from few images as from many; and before that, labels were
    not checked: where all are right, it is almost the same run.
    """
    yield fingerprint(run, run.followed(_before_alpha(get(run.recipe))))
    settings = run.followed(_before_contrast(get(run.recipe)))
    pretraining = settings.pretraining
    if run.pretraining and not pretraining:  # of `best`, for the draw `typical`
        pretraining = run.followed(_before_contrast(BEST)).pretraining
    yield fingerprint(run, settings, pretraining)
    yield fingerprint(run, settings, pretraining, in_one_order=False)
    if pretraining is None:
        return
    steps = (get(run.recipe).pretraining or PRETRAINING).steps
    pretraining = replace(pretraining, gradients=0.0, steps=steps)
    settings = replace(settings, pretraining=settings.pretraining and pretraining)
    yield fingerprint(run, settings, pretraining, in_one_order=False)
    if settings.check_labels and not run.label_noise:
        yield fingerprint(run, replace(settings, check_labels=False), pretraining, in_one_order=False)


def _before_alpha(recipe: Recipe) -> Recipe:
    """The recipe as it was before labels spread less far where there are many."""
    return replace(recipe, graph_alpha=Recipe.graph_alpha, check_alpha=Recipe.check_alpha)


def _before_contrast(recipe: Recipe) -> Recipe:
    """The recipe as it was before it varied contrast. Its teacher was then guided by more candidates, and believed later."""

    def before(value: object) -> object:
        if isinstance(value, Pretraining):  # all features were learned as those of few images are today
            return replace(value, augment=value.augment_few or value.augment, augment_few=None)
        if isinstance(value, Augment) and value.contrast:
            return replace(value, rotation=(-10, 10), shear=(-6, 6), elastic=0.4, contrast=0.0)
        return value

    former = _before_alpha(recipe.mapped(before))
    return replace(former, threshold=0.95, graph_margin=0.6) if "pseudo_label" in recipe.terms else former


def non_default(value: Dataclass) -> dict[str, object]:
    """A dataclass as a dictionary of the fields that are not at their default: a new field changes nothing until it is used."""
    changed = {}
    for field in fields(value):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if (content := getattr(value, field.name)) != default:
            changed[FORMER_NAMES.get(field.name, field.name)] = _content(content)
    return changed


def _content(value: object) -> object:
    """The value of a field: of a dataclass the fields that are not at their default, of a renamed draw its former name."""
    if is_dataclass(value) and not isinstance(value, type):
        return non_default(value)
    return DRAWS_ON_DISK.get(value, value) if isinstance(value, str) else value


def code_digest(modules: tuple[str, ...] = SCIENCE) -> str:
    """The digest of these modules, or the earlier one that `certify` found to make the same numbers."""
    current = digest(modules)
    return json.loads(CERTIFIED.read_text()).get(current, current)


@cache
def digest(modules: tuple[str, ...] = SCIENCE) -> str:
    """SHA-256 of modules of `ssl_core`, without comments, docstrings and layout.

    Constants in recipes.py are left out, since the fingerprint holds a run's own recipe: tuning one recipe does not void the
    runs of the others.
    """
    paths = [files.ROOT / "ssl_core" / f"{name.replace('.', '/')}.py" for name in modules]
    sources = [stripped(path.read_text(), without_constants=path.stem == "recipes") for path in paths]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def stripped(source: str, *, without_constants: bool = False) -> str:
    """Python source without comments, docstrings and layout; on request without module-level assignments."""
    with PARSER:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    if without_constants:
        tree.body = [node for node in tree.body if not isinstance(node, ast.Assign | ast.AnnAssign)]
    return ast.unparse(tree)
