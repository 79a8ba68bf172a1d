"""The records of finished runs: written last, read again also where older code wrote them, and all of them as a table."""

import json
import math
import platform
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as arrays_as_bytes
from safetensors.torch import save as tensors_as_bytes

from ssl_core import datasets, familiarity, recipes
from ssl_core.data import Task
from ssl_core.datasets import DataError
from ssl_core.datasets.tables import counted
from ssl_core.experiment import Result
from ssl_core.label_errors import LabelCheck
from ssl_core.progress import EVENTS

from ..features import kept
from . import files
from .fingerprint import FORMER_NAMES, fingerprint, former_fingerprints
from .spec import AUTO, DRAWS_ON_DISK, FORMER_DRAWS, Run

FILES = ("model.safetensors", "predictions.safetensors", "train.ipynb", "run.json")  # of a run, the record last
IMAGES = "images.safetensors"  # of a run with a folder of images, beside FILES: what it keeps of them
CHECKPOINT = "checkpoint.pt"  # of a run that is not finished
# That identify a row of the table:
PARAMETERS = (
    *("data", "recipe", "n_labels", "seed", "draw", "label_noise", "fold", "n_clusters", "side", "features", "precision"),
)
IMAGE_FIELDS = ("classes", "mean", "std", "inverted", "scale", "checksum", "side")  # of DataSetInfo, to read new images by
COLUMNS = (
    *("data", "recipe", "n_labels", "seed", "accuracy", "nll", "seconds"),
    *("draw", "label_noise", "fold", "held_out", "missing_classes", "n_test", "current", "fingerprint"),
    *("n_clusters", "ari", "nmi", "side", "features", "precision"),
)
# Columns that earlier tables lack:
LATER = {"n_clusters": 0, "ari": math.nan, "nmi": math.nan, "side": 0, "features": "", "precision": AUTO}
IN_CSV = {"label_noise": "wrong_labels"}  # results.csv keeps its column names


@dataclass(frozen=True)
class Record:
    """The record of a finished run. Accuracies lie between 0 and 1, NLL is in nats, both on the test images.

    Of a run without labels they are those of the best naming of its clusters. NaN without test images.
    """

    parameters: Mapping[str, Any]  # the fields of Run
    fingerprint: str
    current: bool  # whether today's code would make the same numbers
    accuracy: float
    nll: float
    seconds: float  # of training
    confusion: list[list[int]]  # rows are true classes, columns predicted ones
    missing_classes: list[int]  # that no label covers
    recipe: Mapping[str, Any]  # the recipe in full
    images: Mapping[str, Any]  # IMAGE_FIELDS of the images it was trained on; former records have the first four
    history: list[dict[str, float]]  # a row per epoch
    test_accuracy: dict[int, float]  # by epoch
    untrained: Mapping[str, float]  # accuracy and nll before training
    held_out: Mapping[str, float] | None  # accuracy and number of images of a withheld fold
    clustering: Mapping[str, Any] | None = None  # of a run without labels: the class that each cluster is named by, ARI and NMI

    @property
    def run(self) -> Run:
        """The run; ValueError or TypeError if today's code knows no such run."""
        return Run(**self.parameters)

    @property
    def has_todays_images(self) -> bool:
        """Whether its data set is as it was; True for a former record, which does not tell."""
        return self.images.get("checksum", checksum := self.run.info.checksum) == checksum

    @property
    def smoke(self) -> bool:
        """Whether it had a few steps only, so that its metrics mean nothing."""
        return bool(self.parameters.get("smoke"))

    @property
    def n_test(self) -> int:
        return int(np.sum(self.confusion))

    @property
    def row(self) -> dict[str, Any]:
        """The record as a row of the table."""
        row = {"draw": "random", "label_noise": 0.0, "fold": 0} | LATER
        row |= {name: self.parameters[name] for name in PARAMETERS if name in self.parameters}
        row |= {"held_out": self.held_out["accuracy"] if self.held_out else float("nan")}
        row |= {"missing_classes": len(self.missing_classes), "n_test": self.n_test}
        row |= {name: self.clustering[name] if self.clustering else float("nan") for name in ("ari", "nmi")}
        row |= {name: getattr(self, name) for name in ("accuracy", "nll", "seconds", "current", "fingerprint")}
        return {name: row[name] for name in COLUMNS}


def save(folder: str | Path, run: Run, task: Task, result: Result) -> Path:
    """Writes weights and predictions, then, last and atomically, `run.json`: where that exists, the run was finished.

    `predictions.safetensors` holds the probabilities (N, C) of the test images, in their order, and which predictions are
    `right`. Raises ValueError if what was trained is not what `run` says, as after a change of the notebook.
    """
    folder, training, trained = Path(folder), result.training, result.trained
    check_trained(run, task, result)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.cpu().contiguous() for name, tensor in training.model.state_dict().items()}
    predictions = {"probabilities": trained.probabilities.contiguous(), "right": trained.correct}
    # Not by safetensors' own save_file: nobody else could read its files, whatever the umask.
    files.write_atomically(folder / "model.safetensors", tensors_as_bytes(weights))
    files.write_atomically(folder / "predictions.safetensors", tensors_as_bytes(predictions))
    if run.info.files:
        assert task.split is not None  # of a run
        _keep_images(folder / IMAGES, run, task.split.labeled.numpy() if run.n_labels else np.zeros(0, np.int64))
    per_class = torch.bincount(task.y_l, minlength=len(trained.recall)).tolist()
    held_out, clustering = result.held_out, result.clustering
    content = {
        "fingerprint": fingerprint(run),
        "run": asdict(run),
        "recipe": asdict(training.recipe),
        "images": _images(run, task),
        "features": run.features and kept.kept(run.data, run.features).words,
        "labels_per_class": per_class,
        "missing_classes": [c for c, count in enumerate(per_class) if count == 0],
        "history": training.history,
        "test_accuracy": result.test_accuracy,
        "untrained": {"accuracy": result.untrained.accuracy, "nll": result.untrained.nll},
        "accuracy": trained.accuracy,
        "nll": trained.nll,
        "clustering": clustering and {"names": clustering.names, "ari": clustering.ari, "nmi": clustering.nmi},
        "label_check": _label_check(task.check),
        "held_out": held_out and {"images": int(held_out.confusion.sum()), "accuracy": held_out.accuracy},
        "recall": trained.recall.tolist(),  # None of a class without test images
        "confusion": trained.confusion.tolist(),
        "seconds": training.history[-1]["seconds"],
        "threads": torch.get_num_threads(),
        "device": training.model.device.type,
        "versions": {"python": platform.python_version(), "torch": torch.__version__}  # with its build: +cpu, +cu130
        | {name: version(name) for name in ("torchvision", "numpy")},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    files.write_atomically(folder / "run.json", json.dumps(_finite(content), indent=1, allow_nan=False))
    for name in (CHECKPOINT, EVENTS):
        (folder / name).unlink(missing_ok=True)
    return folder / "run.json"


def _images(run: Run, task: Task) -> dict[str, Any]:
    """IMAGE_FIELDS of the run's data set; without labels the numbers of the clusters take the place of classes."""
    images = {name: getattr(run.info, name) for name in IMAGE_FIELDS}
    return images | {"classes": [str(c) for c in range(task.n_clusters)]} if task.n_clusters else images


def _finite(content: object) -> object:
    """The same for JSON: None in place of NaN."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


@dataclass(frozen=True)
class KeptImages:
    """What a run keeps of a folder's images, which may change: a random sample, and which of them it had a label of."""

    sample: np.ndarray  # (N, C, side, side), bytes as the network saw them
    labeled: list[str]  # file names
    digests: np.ndarray  # of the labelled images


def _keep_images(path: Path, run: Run, labeled: np.ndarray) -> None:
    x = datasets.load(run.data, side=run.side)[1]["x"]
    sample = x[np.random.default_rng(0).permutation(len(x))[: 2 * familiarity.MOST]]
    names = json.dumps([run.info.files[i] for i in labeled])
    files.write_atomically(path, arrays_as_bytes({"sample": sample, "digests": digests(x[labeled])}, {"labeled": names}))


def kept_images(folder: Path) -> KeptImages | None:
    """What the run in `folder` keeps of its images; None for a named data set, or if a former version recorded it."""
    path = folder / IMAGES
    if not path.exists():
        return None
    with safe_open(path, "numpy") as file:
        return KeptImages(file.get_tensor("sample"), json.loads(file.metadata()["labeled"]), file.get_tensor("digests"))


def digests(x: np.ndarray) -> np.ndarray:
    """A number (N,), int64, for each image of `x` (N, C, side, side), bytes: equal for equal images."""
    return np.array([int.from_bytes(sha256(image.tobytes()).digest()[:8], "big", signed=True) for image in x], np.int64)


def check_trained(run: Run, task: Task, result: Result) -> None:
    """Raises ValueError unless recipe, seed and labels are those of `run`: a notebook may have been changed by its reader."""
    expected = {
        "recipe": (result.training.recipe, run.settings),
        "seed": (result.training.seed, run.seed),
        "n_labels": (0 if task.n_clusters else _n_labels(task), run.n_labels),
    }
    for name, (trained, stated) in expected.items():
        if trained != stated:
            raise ValueError(f"{name}: training used another one than the run {run} states; not recorded")


def _n_labels(task: Task) -> int:
    """The number of labels that the task was given, with those held back and those left out."""
    held_out = 0 if task.held_out is None else len(task.held_out)
    return held_out + (len(task.y_l) if task.check is None else len(task.check.y_l))


def _label_check(check: LabelCheck | None) -> dict[str, Any] | None:
    """How many labels are wrong, and which were left out: index, the label, the suggested class, how probably it is wrong."""
    if check is None:
        return None
    columns = check.labeled, check.y_l, check.suggested, check.p_wrong
    left_out = zip(*(column[check.left_out].tolist() for column in columns), strict=True)
    numbers = {"n_wrong": check.n_wrong, "low": check.low, "high": check.high, "unchecked": int((~check.checked).sum())}
    return numbers | {"left_out": [[*row, round(p, 4)] for *row, p in left_out]}


def read(folder: str | Path) -> Record | None:
    """The record in `folder`, or None if there is none that can be read."""
    try:
        content = json.loads((Path(folder) / "run.json").read_text())
        if not content["run"].keys() >= {"data", "recipe", "n_labels", "seed", "draw"}:
            return None
        return _record(content)
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        return None


def _record(content: dict) -> Record:
    """A record from the content of `run.json`, which may have been written with former names."""
    parameters = current_names(content["run"])
    parameters["draw"] = FORMER_DRAWS.get(parameters["draw"], parameters["draw"])
    return Record(
        parameters=parameters,
        current=is_current(parameters, content["fingerprint"]),
        recipe=current_names(content.get("recipe", {})),
        images=content.get("images", {}),
        history=content.get("history", []),
        test_accuracy={int(epoch): _number(accuracy) for epoch, accuracy in content.get("test_accuracy", {}).items()},
        untrained=content.get("untrained", {}),
        held_out=content.get("held_out"),
        clustering=content.get("clustering") and {name: _number(each) for name, each in content["clustering"].items()},
        **{name: _number(content[name]) for name in ("accuracy", "nll")},
        **{name: content[name] for name in ("fingerprint", "seconds", "confusion", "missing_classes")},
    )


def _number(value: object) -> Any:  # noqa: ANN401  # of any kind, from JSON
    """NaN for None, which stands for it in JSON; anything else as it is."""
    return math.nan if value is None else value


def current_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with today's names of renamed fields, and without removed fields that were not in use."""
    today = {former: name for name, former in FORMER_NAMES.items()}
    removed = ("weight_decay", "flip")
    nested = {name: current_names(value) if isinstance(value, dict) else value for name, value in content.items()}
    return {today.get(name, name): value for name, value in nested.items() if value or name not in removed}


def finished(run: Run, outputs: str | Path) -> bool:
    """Whether `run` needs no training: its notebook and a record with its present fingerprint are there."""
    folder = run.folder(outputs)
    record = read(folder)
    return record is not None and record.fingerprint == fingerprint(run) and (folder / "train.ipynb").exists()


def is_current(parameters: Mapping[str, Any], digest: str, *, or_former: bool = False) -> bool:
    """Whether a run of these parameters has this fingerprint today; `or_former`, in one of fingerprint.former_fingerprints.

    False if today's code knows no such run, or if its data set cannot be had.
    """
    try:
        run = Run(**parameters)
        return fingerprint(run) == digest or (or_former and digest in former_fingerprints(run))
    except (TypeError, ValueError, DataError):
        return False


def read_all(outputs: str | Path) -> list[Record]:
    """All records below `outputs`, by data set, recipe, number of labels and seed; names on stderr those that are damaged."""
    records = []
    for path in sorted(Path(outputs).glob("*/*/m*/seed*/run.json")):
        if record := read(path.parent):
            records.append(record)
        else:
            print(f"left out: {path}: it is damaged, or no record of a run", file=sys.stderr)
    return sorted(records, key=lambda record: tuple(record.row[name] for name in PARAMETERS[:4]))


def probabilities(run: Run, outputs: str | Path) -> np.ndarray | None:
    """The class probabilities (N, C) of the test images by a finished run; None if it kept none, as older code did."""
    try:
        return load_file(run.folder(outputs) / "predictions.safetensors")["probabilities"]
    except (OSError, KeyError, SafetensorError):
        return None


def table(records: list[Record]) -> pd.DataFrame:
    """A row per record with the columns COLUMNS; accuracy between 0 and 1 and nll in nats, both on the test images."""
    return pd.DataFrame([record.row for record in records], columns=list(COLUMNS))


def results(outputs: str | Path, records: list[Record] | None = None) -> pd.DataFrame:
    """The table of `records`, or of those below `outputs`; where none are, as in the reference, its `results.csv`."""
    records = read_all(outputs) if records is None else records
    return table(records) if records else read_table(Path(outputs) / "results.csv")


def write_table(path: Path, results: pd.DataFrame, *, order: Sequence[str] = (), float_format: str | None = None) -> None:
    """Writes a table of runs as CSV, which keeps former names; sorted by the columns `order`."""
    results = results.assign(draw=results["draw"].replace(DRAWS_ON_DISK))
    results = results.sort_values(list(order)) if order else results
    files.write_atomically(path, results.rename(columns=IN_CSV).to_csv(index=False, float_format=float_format))


def read_table(path: Path) -> pd.DataFrame:
    """The table of runs in a CSV file, with `current` as of today; no row if there is no such file.

    The reference takes hours: rows from the versions of fingerprint.former_fingerprints count as current.

    Raises ValueError for a file that is no such table.
    """
    if not path.exists():
        return table([])
    columns = [name for name in COLUMNS if name != "current"]
    try:
        results = pd.read_csv(path, dtype={"features": str}).rename(columns={old: new for new, old in IN_CSV.items()})
    except ValueError:
        results = pd.DataFrame()
    results = results.assign(**{name: value for name, value in LATER.items() if name not in results})
    if lacking := [name for name in columns if name not in results]:
        raise ValueError(f"{path}: must be a table of runs as `make sweep` writes it; it lacks {', '.join(lacking)}")
    results = results.assign(draw=results["draw"].replace(FORMER_DRAWS), features=results["features"].fillna(""))
    parameters = results[list(PARAMETERS)].to_dict("records")
    current = [is_current(run, digest, or_former=True) for run, digest in zip(parameters, results["fingerprint"], strict=True)]
    return results[columns].assign(current=current)


def select(records: list[Record], *which: Any, **more: Any) -> list[Record]:
    """The records whose rows in `table(records)` are `comparable`, which takes the other arguments."""
    return [records[i] for i in comparable(table(records), *which, **more).index]


def comparable(
    results: pd.DataFrame,
    data: str = "mnist",
    draw: str = "random",
    names: Collection[str] = recipes.RECIPES,
    *,
    side: int = 0,
    variants: bool = False,
    features: str = "",
    precision: str = AUTO,
) -> pd.DataFrame:
    """The rows of runs that may be compared: current ones, of one data set, one `side` of its images, one draw, these recipes.

    Without `variants` only those trained on all labels as drawn; with, also those of label noise and of withheld folds. Runs
    without labels are never among them: their accuracy means something else; see `clustered`. Runs that use features from
    elsewhere are among them if it is these `features`. `precision` is what was asked for; `published` always has its own.
    """
    rows = (results["data"] == data) & (results["draw"] == draw) & results["recipe"].isin(list(names)) & (results["n_labels"] > 0)
    plain_recipes = [name for name in names if not recipes.get(name).pretraining] if draw != "typical" else []
    rows &= (results["features"] == features) | ((results["features"] == "") & results["recipe"].isin(plain_recipes))
    rows &= (results["side"] == side) & ((results["precision"] == precision) | (results["recipe"] == recipes.PUBLISHED.name))
    plain = (results["label_noise"] == 0) & (results["fold"] == 0)
    return results[rows & (plain | variants) & results["current"].astype(bool)]


def clustered(
    results: pd.DataFrame, data: str = "mnist", *, side: int = 0, features: str = "", precision: str = AUTO
) -> pd.DataFrame:
    """The rows of current runs without labels of one data set, one `side` of its images, that have test images."""
    rows = (results["data"] == data) & (results["n_labels"] == 0) & (results["n_test"] > 0)
    rows &= (results["side"] == side) & (results["features"] == features) & (results["precision"] == precision)
    return results[rows & results["current"].astype(bool)]


def nothing_to_show(results: pd.DataFrame, data: str, draw: str, outputs: str | Path) -> str:
    """Why no row of `results` is comparable, and what to do."""
    found, runs = results[(results["data"] == data) & (results["draw"] == draw)], f"data={data!r}, draw={draw!r} in {outputs}"
    if found.empty:
        return f"no finished run of {runs}: `make sweep` makes them"
    if len(current := found[found["current"].astype(bool)]):
        others = current[["side", "features", "precision"]].drop_duplicates().head(3).to_dict("records")
        return f"no such run of {runs}: {counted(len(current), 'finished run')} there, of others: {str(others).strip('[]')}"
    return f"{counted(len(found), 'finished run')} of {runs}, but not of today's images or code: `make sweep` repeats them"
