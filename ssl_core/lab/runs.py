"""One run: what identifies it, its record on disk; and all records as a table."""

import ast
import hashlib
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.torch import save_file

import ssl_core
from ssl_core import data, recipes
from ssl_core.fetch import DATA_SETS, DataSet
from ssl_core.folder import Folder
from ssl_core.recipes import Pretraining, Recipe
from ssl_core.train import Evaluation, Fit

ROOT = Path(ssl_core.__file__).resolve().parents[1]  # of the project
FILES = ("model.safetensors", "predictions.safetensors", "train.ipynb", "run.json")  # of a run, the record last
CHECKPOINT = "checkpoint.pt"  # of a run that is not finished
NOTEBOOK = ROOT / "notebooks" / "train.ipynb"
SAME = Path(__file__).with_name("same.json")
# For a process that trains: large tensors that are freed at every step would go back to the system, to be faulted in again.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
RECORD_KEYS = {"fingerprint", "run", "accuracy", "nll", "seconds", "confusion", "missing_classes"}
SCIENCE = ("data", "augment", "model", "losses", "optim", "recipes", "graph", "train", "checkpoint")


@dataclass(frozen=True)
class Run:
    """What a run is made from. Raises ValueError, naming parameter, value and what is allowed, for what can't be run."""

    n_labels: int
    recipe: str
    seed: int
    data: str = "mnist"
    draw: str = "random"
    smoke: bool = False  # a few steps only, to see that everything works; its numbers mean nothing
    wrong_labels: float = 0.0  # the fraction of the labels that are made wrong
    fold: int = 0  # of data.FOLDS, the part of the labels that is held back to estimate the accuracy; 0: none

    def __post_init__(self):
        data.check_name(self.data)
        data.check_n_labels(self.n_labels, self.known.n_labels)
        recipes.get(self.recipe)
        data.check_seed(self.seed)
        data.check_draw(self.draw)
        if self.draw == "typical" and self.known.n_labels < self.known.n_images:
            raise ValueError(
                f"draw='typical': allowed is random, stratified where not all of the images are labelled, as in {self.data!r}"
            )
        data.check_wrong_labels(self.wrong_labels)
        data.check_fold(self.fold, self.n_labels)
        if not isinstance(self.smoke, bool):
            raise ValueError(f"smoke={self.smoke!r}: allowed is True or False")

    def __str__(self) -> str:
        kind = "" if self.draw == "random" else f"-{self.draw}"
        kind += f"-wrong{100 * self.wrong_labels:g}" if self.wrong_labels else ""
        kind += f"-fold{self.fold}" if self.fold else ""
        return f"{data.slug(self.data)}/{self.recipe}/m{self.n_labels}{kind}/seed{self.seed}"

    def folder(self, outputs: str | Path) -> Path:
        """Where the record of this run belongs."""
        return Path(outputs) / str(self)

    @property
    def known(self) -> DataSet | Folder:
        """What is known of the data set."""
        return data.known(self.data)

    @property
    def settings(self) -> Recipe:
        """The recipe in full, as this run follows it."""
        recipe = recipes.get(self.recipe).on(self.known.background, self.known.uniform_prior)
        if not self.smoke:
            return replace(recipe, epochs=recipe.epochs_for(self.n_labels), epochs_at={})
        graph = recipe.graph and replace(recipe.graph, steps=3)
        short = replace(recipe, epochs=2, epochs_at={}, steps_per_epoch=recipe.steps_per_epoch and 3, graph=graph)
        return replace(short, test_copies=min(1, recipe.test_copies))

    @property
    def graph(self) -> Pretraining | None:
        """What makes the graph that the run needs, for its recipe or to find the images that it labels; None if it needs none."""
        if self.settings.graph or self.draw != "typical":
            return self.settings.graph
        return replace(self, recipe="best").settings.graph

    @property
    def fingerprint(self) -> str:
        """Changes if and only if the parameters, the recipe, the data or the code that make the numbers change."""
        recipe = {name: value for name, value in _chosen(self.settings).items() if name not in ("name", "summary")}
        parts = [_chosen(self), recipe, self.known.checksum, code_digest()]
        if self.graph != self.settings.graph:  # it decides which images are labelled
            parts.append(_chosen(self.graph))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _chosen(value: object) -> object:
    """A dataclass as a dictionary of the fields that are not at their default: a new field changes nothing until it is used."""
    if not is_dataclass(value):
        return value
    found = {}
    for field in fields(value):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if (given := getattr(value, field.name)) != default:
            found[field.name] = _chosen(given)
    return found


def code_digest() -> str:
    """The digest of the code behind the numbers, or the earlier one that certify.py found to make the same numbers."""
    digest = bare_digest()
    return json.loads(SAME.read_text()).get(digest, digest)


@cache
def bare_digest() -> str:
    """SHA-256 of the science and of the training notebook, without comments, docstrings and layout."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", [])]
    return hashlib.sha256("\n".join([digest(SCIENCE), *(_bare("".join(c["source"])) for c in code)]).encode()).hexdigest()


@cache
def digest(modules: tuple[str, ...]) -> str:
    """SHA-256 of modules of `ssl_core`, without comments, docstrings and layout.

    The constants in recipes.py are left out, since a run's own recipe is in its fingerprint: to tune one recipe is not to
    retrain the others.
    """
    sources = [_bare((ROOT / "ssl_core" / f"{name}.py").read_text(), name == "recipes") for name in modules]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _bare(source: str, without_constants: bool = False) -> str:
    """Python source without comments, docstrings and layout; on request without module-level assignments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    if without_constants:
        tree.body = [node for node in tree.body if not isinstance(node, ast.Assign)]
    return ast.unparse(tree)


def from_notebook(namespace: Mapping[str, object]) -> Run:
    """The run that the variables of a notebook describe.

    papermill only warns of a parameter that the notebook does not have, and then trains with the defaults. Here it is an
    error: papermill's cell of injected parameters is looked up in IPython's list of executed cells, `In`.
    """
    known = set(parameter_names())
    for cell in namespace.get("In", []):
        if cell.startswith("# Parameters\n"):
            given = {node.id for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)}
            if unknown := sorted(given - known - {"True", "False", "None"}):
                raise ValueError(f"unknown notebook parameter {', '.join(unknown)}: allowed is {', '.join(sorted(known))}")
    check_whole("threads", namespace["threads"])
    processor(namespace["device"])
    given = {name: namespace[name] for name in Run.__dataclass_fields__}
    return Run(**given | {"data": located(given["data"])})


def located(data_name: object) -> object:
    """The name of a data set as it is; the path of a folder, which is taken from the project's root, in full."""
    if not isinstance(data_name, str) or data_name in DATA_SETS or "/" not in data_name:
        return data_name
    return str((ROOT / Path(data_name).expanduser()).resolve())


def papermill(notebook: Path, executed: Path, parameters: Mapping[str, object]) -> list[str]:
    """The command that executes `notebook` with `parameters` into `executed`, printing what its cells print."""
    options = ["-y", json.dumps(dict(parameters)), "-k", "python3", "--no-progress-bar", "--log-output"]
    program = "import ssl_core.lab; from papermill.__main__ import papermill; papermill()"  # starts faster than -m papermill
    return [sys.executable, "-c", program, str(notebook), str(executed), *options]


def check_whole(name: str, value: object) -> None:
    """Raises ValueError unless `value` is a whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r}: allowed is a whole number from 1")


def processor(device: object) -> torch.device:
    """Where `device` says that a run is trained; `auto` is a GPU if there is one. Raises ValueError for one that is not there."""
    here = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if device not in ("auto", *here):
        raise ValueError(f"device={device!r}: allowed is auto, cpu, or cuda where PyTorch finds a GPU, here {', '.join(here)}")
    torch.backends.cudnn.deterministic = True  # of the ways to compute a convolution, one that adds in the same order each time
    return torch.device(here[-1] if device == "auto" else device)


def writable(parameter: str, folder: Path) -> Path:
    """`folder`, made if it is not there; raises ValueError, naming `parameter`, unless files can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"{parameter}={str(folder)!r}: allowed is a folder that can be written to ({error.strerror})") from None


def parameter_names(notebook: Path = NOTEBOOK) -> list[str]:
    """The names that a notebook's `parameters` cell assigns."""
    for cell in json.loads(notebook.read_text())["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return [target.id for node in ast.parse("".join(cell["source"])).body for target in node.targets]
    raise LookupError(f"{notebook.name} has no cell tagged 'parameters'")


def save(
    folder: str | Path,
    run: Run,
    labels: torch.Tensor,
    fit: Fit,
    untrained: Evaluation,
    trained: Evaluation,
    test_accuracy: Mapping[int, float],
    held_out: Evaluation | None = None,
) -> Path:
    """Writes weights and predictions, then, last and atomically, `run.json`: where that exists, the run was finished.

    `predictions.safetensors` holds the probabilities (N, C) of the test images, in their order, and whether the likeliest class
    was `right`. With the record these are all that reading other images takes (predict.py). `labels` are the classes of the
    labelled images; `test_accuracy` maps epochs to the accuracy of that epoch's snapshot; `held_out` is of the labels that a
    fold held back.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.cpu().contiguous() for name, tensor in fit.model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    save_file({"probabilities": trained.probabilities.contiguous(), "right": trained.right}, folder / "predictions.safetensors")
    per_class = torch.bincount(labels, minlength=len(trained.recall)).tolist()
    record = {
        "fingerprint": run.fingerprint,
        "run": asdict(run),
        "recipe": asdict(run.settings),
        "images": {name: getattr(run.known, name) for name in ("classes", "mean", "std", "inverted")},
        "labels_per_class": per_class,
        "missing_classes": [c for c, count in enumerate(per_class) if count == 0],
        "history": fit.history,
        "test_accuracy": test_accuracy,
        "untrained": {"accuracy": untrained.accuracy, "nll": untrained.nll},
        "accuracy": trained.accuracy,
        "nll": trained.nll,
        "held_out": held_out and {"images": int(held_out.confusion.sum()), "accuracy": held_out.accuracy},
        "recall": [None if math.isnan(share) else share for share in trained.recall.tolist()],  # of a class without test images
        "confusion": trained.confusion.tolist(),
        "seconds": fit.history[-1]["seconds"],
        "threads": torch.get_num_threads(),
        "device": fit.model.device.type,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "numpy": np.__version__,
        },
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_atomically(folder / "run.json", json.dumps(record, indent=1, allow_nan=False))
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return folder / "run.json"


def probabilities(run: Run, outputs: str | Path) -> np.ndarray | None:
    """Of a finished run, the class probabilities (N, C) of the test images; None if the run kept none, as older code did."""
    try:
        return load_file(run.folder(outputs) / "predictions.safetensors")["probabilities"]
    except (OSError, SafetensorError):
        return None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces the file in one step: a reader, or a crash, sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def read(folder: str | Path) -> dict | None:
    """The record in `folder`, or None if there is none that can be read."""
    try:
        record = json.loads((Path(folder) / "run.json").read_text())
        complete = record.keys() >= RECORD_KEYS and record["run"].keys() >= {"data", "recipe", "n_labels", "seed", "draw"}
        return record if complete else None
    except (OSError, ValueError, AttributeError):
        return None


def finished(run: Run, outputs: str | Path) -> bool:
    """Whether `run` needs no training: its notebook and a record with its present fingerprint are there."""
    folder = run.folder(outputs)
    record = read(folder)
    return record is not None and record["fingerprint"] == run.fingerprint and (folder / "train.ipynb").exists()


def records(outputs: str | Path) -> list[dict]:
    """All records below `outputs`, ordered; each with `current`: whether today's code would make the same numbers."""
    found = []
    for path in sorted(Path(outputs).glob("*/*/m*/seed*/run.json")):
        if (record := read(path.parent)) is not None:
            found.append(record | {"current": is_current(record["run"], record["fingerprint"])})
    return sorted(found, key=lambda r: (r["run"]["data"], r["run"]["recipe"], r["run"]["n_labels"], r["run"]["seed"]))


def select(records: list[dict], *which, **of_which) -> list[dict]:
    """The records whose rows in `table(records)` are `comparable`, which has the other parameters."""
    return [records[i] for i in comparable(table(records), *which, **of_which).index]


def comparable(
    results: pd.DataFrame,
    data: str = "mnist",
    draw: str = "random",
    names: Collection[str] = recipes.RECIPES,
    plain: bool = True,
) -> pd.DataFrame:
    """The rows of runs that may be compared with each other: current ones, of one data set, one way to draw and these recipes.

    If `plain`, only those of all the labels that were drawn, as they are; otherwise also those of wrong labels and of folds.
    """
    of_one_kind = (results["data"] == data) & (results["draw"] == draw) & results["recipe"].isin(list(names))
    as_drawn = (not plain) | ((results["wrong_labels"] == 0) & (results["fold"] == 0))
    return results[of_one_kind & as_drawn & results["current"].astype(bool)]


def is_current(parameters: Mapping[str, object], fingerprint: str) -> bool:
    """Whether a run of these parameters has this fingerprint today; not if it is from a version with others."""
    try:
        return Run(**parameters).fingerprint == fingerprint
    except (TypeError, ValueError):
        return False


def table(records: list[dict]) -> pd.DataFrame:
    """A row per record; accuracy between 0 and 1 and nll in nats, both on the test images; seconds of training."""
    measured = ["accuracy", "nll", "seconds"]
    kind = ["draw", "wrong_labels", "fold"]
    other = ["held_out", "missing_classes", "n_test", "current", "fingerprint"]
    columns = ["data", "recipe", "n_labels", "seed", *measured, *kind, *other]
    rows = []
    for r in records:
        counted = {"recipe": r["run"]["recipe"], "missing_classes": len(r["missing_classes"])}
        counted |= {"n_test": int(np.sum(r["confusion"]))}
        held_out = {"held_out": r["held_out"]["accuracy"] if r.get("held_out") else float("nan")}
        rows.append({"wrong_labels": 0.0, "fold": 0} | r["run"] | r | counted | held_out)
    return pd.DataFrame([{name: row[name] for name in columns} for row in rows], columns=columns)


def results(outputs: str | Path, found: list[dict] | None = None) -> pd.DataFrame:
    """The table of the records below `outputs`, `found` or read now; where none are, as in the reference, its `results.csv`."""
    found = records(outputs) if found is None else found
    return table(found) if found else read_table(Path(outputs) / "results.csv")


def read_table(path: Path) -> pd.DataFrame:
    """What `table` gave and a file keeps, but `current` is as of today; without a row if there is no such file.

    Raises ValueError for a file that is no such table.
    """
    if not path.exists():
        return table([])
    columns = [name for name in table([]).columns if name != "current"]
    try:
        kept = pd.read_csv(path)
    except ValueError:
        kept = pd.DataFrame()
    if lacking := [name for name in columns if name not in kept]:
        raise ValueError(f"{path}: allowed is a table of runs as `make sweep` writes it; it lacks {', '.join(lacking)}")
    parameters = kept[["n_labels", "recipe", "seed", "data", "draw", "wrong_labels", "fold"]].to_dict("records")
    return kept[columns].assign(current=[is_current(p, f) for p, f in zip(parameters, kept["fingerprint"], strict=True)])


def print_line(run: Run) -> Callable[[str], None]:
    """Prints a line of progress, after the name of the run, at once."""
    return lambda line: print(f"{run} · {line}", flush=True)


def print_progress(run: Run) -> Callable[[dict[str, float], int], None]:
    """For `fit`: prints a line after the first and every fifth epoch, with the run, the epoch, the loss and the time to go."""

    def on_epoch(row: dict[str, float], epochs: int) -> None:
        epoch, seconds = int(row["epoch"]), row["seconds"]
        if epoch == 1 or epoch % 5 == 0 or epoch == epochs:
            left = seconds * (epochs - epoch) / epoch
            loss, step = row["total"], int(row["step"])
            print(
                f"{run} · epoch {epoch:2}/{epochs} · step {step} · loss {loss:.4f} · {seconds:.0f} s, about {left:.0f} s to go",
                flush=True,
            )

    return on_epoch
