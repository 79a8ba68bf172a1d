"""What would other packages reach with the same labels? Each is run as its user would install it, in an environment of its own.

A program for each stands in `ssl_core/lab/peers`, with a file of what pip installs for it. It is given the labelled images of the
project's own draws, the others without labels, and the test images; one core, and a limit of time. Our own classifier is run
likewise, in the project's environment.
"""

import argparse
import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import psutil
import torch
from matplotlib.figure import Figure

from ssl_core import data, datasets
from ssl_core.datasets.machine import lock

from ..runs import files
from ..runs.executors import tree_memory
from ..runs.fingerprint import code_digest
from . import words
from .cells import CellTable, number, of_earlier_code
from .cells import configure as configure_cells
from .study import Results, Study, page_table
from .style import new_figure

PROGRAMS = Path(__file__).parents[1] / "peers"
ENVIRONMENTS = files.ROOT / "outputs" / "peers"  # one folder for each peer's packages, of up to 6 GB
SETS = ("mnist", "fashion-mnist")
SIZES = (50, 250, 1000, 10)  # labels
SEEDS = (0, 1, 2)
INSTALL_SECONDS, RUN_SECONDS = 1800, 3600  # at most
LOOK_SECONDS = 0.2  # between two looks at the memory of a run
OURS = "ours"


@dataclass(frozen=True)
class Peer:
    """A package and one of its methods."""

    package: str
    program: str  # the name of its file in PROGRAMS, and of that of its requirements
    argument: str = ""  # the method, of a program that has several
    seconds: float = 300.0  # of a run, before one is measured
    transductive: bool = False  # whether it is given the test images when it learns, without their labels

    @property
    def source(self) -> Path:
        return PROGRAMS / f"{self.program}.py"

    @property
    def requirements(self) -> Path:
        return self.source.with_suffix(".txt")

    @property
    def lines(self) -> int:
        """The lines of the program with code in them: what a user writes."""
        text = self.source.read_text().split('"""', 2)[2]
        return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines())


PEERS = {
    "best (ours)": Peer("ssl_core", OURS, "best"),
    "quick (ours)": Peer("ssl_core", OURS, "quick", 150.0),
    "supervised (ours)": Peer("ssl_core", OURS, "supervised", 120.0),
    "Poisson learning (GraphLearning)": Peer("GraphLearning", "poisson", "", 60.0, transductive=True),
    "label spreading (scikit-learn)": Peer("scikit-learn", "scikit_learn", "label-spreading", 60.0),
    "self-training (scikit-learn)": Peer("scikit-learn", "scikit_learn", "self-training", 200.0),
    "FixMatch (USB)": Peer("semilearn", "usb", "fixmatch", 300.0),
    "FreeMatch (USB)": Peer("semilearn", "usb", "freematch", 300.0),
    "FixMatch (LAMDA-SSL)": Peer("LAMDA-SSL", "lamda_ssl", "", 300.0),
    "Poisson learning (ModSSC)": Peer("modssc", "modssc_vae", "", 900.0, transductive=True),
}


@dataclass(frozen=True)
class Cell:
    """A peer on one set of labels."""

    peer: str
    data: str
    n_labels: int
    seed: int

    def __str__(self) -> str:
        return f"{self.peer}/{self.data}/m{self.n_labels}/seed{self.seed}"


# --- environments


def environment(peer: Peer, folder: Path | None = None, seconds: float = INSTALL_SECONDS) -> Path:
    """The Python of the peer's environment, which is made the first time; ours is the project's. RuntimeError with the reason.

    Nothing of it is seen by the project: another folder, another Python, and no variable of this one's.
    """
    if peer.program == OURS:
        return Path(sys.executable)
    place = (folder or ENVIRONMENTS) / peer.program
    place.parent.mkdir(parents=True, exist_ok=True)
    python, ready, wanted = place / "bin" / "python", place / ".ready", _digest(peer.requirements)
    log = place.with_suffix(".log")  # beside the folder, which is emptied
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(peer.requirements)]
    with lock(place.with_suffix(".lock")):
        if ready.exists() and ready.read_text() == wanted:
            return python
        ready.unlink(missing_ok=True)
        print(f"{peer.package}: installing it in {place} …", flush=True)
        with log.open("w") as told:
            for step in ([sys.executable, "-m", "venv", "--clear", str(place)], install):
                if problem := run(step, told, seconds).problem:
                    raise RuntimeError(f"can't be installed ({problem}): {_reason(log)}")
        ready.write_text(wanted)
    return python


@dataclass(frozen=True)
class Outcome:
    """How a process ended: what went wrong, "" if nothing did; its seconds of the processor, and its peak of memory in GB."""

    problem: str
    seconds: float
    memory: float


def run(command: Sequence[str], told: TextIO, limit: float) -> Outcome:
    """Runs a command on one core, in a process group of its own that is ended after `limit` seconds; `told` takes its output.

    Its memory is looked at several times a second: the peak that the system keeps begins with what this process takes.
    """
    start, memory = time.monotonic(), 0
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT, env=variables(), start_new_session=True
    )
    try:
        tree = psutil.Process(process.pid)
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() - start > limit:
                raise TimeoutError
            memory = max(memory, tree_memory(tree))
            time.sleep(LOOK_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        _, _, usage = os.wait4(process.pid, 0)
        if not isinstance(error, TimeoutError):
            raise
        return Outcome(f"not finished after {limit:.0f} seconds", _cpu(usage), memory / 1e9)
    finally:
        process.returncode = 0  # it has been waited for
    code = os.waitstatus_to_exitcode(status)
    return Outcome("" if code == 0 else f"ended with status {code}", _cpu(usage), memory / 1e9)


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def variables() -> dict[str, str]:
    """The environment of a peer's process: one thread, and nothing of this project's Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MPL", "JUPYTER"))}
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return kept | dict.fromkeys(threads, "1") | {"CUDA_VISIBLE_DEVICES": ""}


# --- measurement


def draw(cell: Cell) -> str:
    """How the labelled images are drawn: ten at random lack classes; of the others, MNIST's are those of the README."""
    return "random" if cell.data == "mnist" and cell.n_labels > 10 else "class-balanced"


def write_task(cell: Cell, path: Path) -> np.ndarray:
    """Writes what a peer is given; returns the classes (T,) of the test images, which it is not given."""
    info, arrays = datasets.load(cell.data, files.DATA)
    x, y, x_test = arrays["x"][:, 0], arrays["y"], arrays["x_test"][:, 0]
    split = data.split(torch.from_numpy(y), cell.n_labels, cell.seed, draw(cell))
    labeled, unlabeled = split.labeled.numpy(), split.unlabeled.numpy()
    known = {"x_labeled": x[labeled], "y_labeled": y[labeled], "x_unlabeled": x[unlabeled], "x_test": x_test}
    np.savez(path, **known, n_classes=len(info.classes), seed=cell.seed)
    return arrays["y_test"]


def measure(cell: Cell) -> dict[str, object]:
    """The row of a cell: its accuracy, seconds of the processor and memory; or, of one that fails, why."""
    start, peer = time.monotonic(), PEERS[cell.peer]
    row: dict[str, object] = asdict(cell) | {"accuracy": "", "cpu": "", "memory": "", "lines": peer.lines, "problem": ""}
    try:
        row |= predicted(cell, peer, environment(peer))
    except RuntimeError as error:
        row["problem"] = " ".join(str(error).split())
    return row | {"seconds": f"{time.monotonic() - start:.1f}", "key": "" if row["problem"] else key(cell)}


def predicted(cell: Cell, peer: Peer, python: Path, limit: float = RUN_SECONDS) -> dict[str, object]:
    """Accuracy, seconds and memory of a peer's program. RuntimeError if it fails, hangs, or answers something else."""
    with tempfile.TemporaryDirectory() as place:
        task, answer, log = (Path(place) / name for name in ("task.npz", "answer.npy", "log"))
        y = write_task(cell, task)
        with log.open("w") as told:
            command = [str(python), "-P", str(peer.source), str(task), str(answer), *filter(None, [peer.argument])]
            outcome = run(command, told, limit)
        if outcome.problem:
            raise RuntimeError(f"{outcome.problem}: {_reason(log)}")
        try:
            answers = np.load(answer, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"no predictions: {error}") from None
    if answers.shape != y.shape:
        raise RuntimeError(f"predictions of shape {answers.shape}: must be {y.shape}")
    return {"accuracy": f"{(answers == y).mean():.6f}", "cpu": f"{outcome.seconds:.1f}", "memory": f"{outcome.memory:.2f}"}


@cache
def key(cell: Cell) -> str:
    """Changes with whatever the numbers of a cell follow from: the program, what is installed, and of ours the code."""
    peer = PEERS[cell.peer]
    installed = code_digest() if peer.program == OURS else _digest(peer.requirements)
    return files.digest([_digest(peer.source), installed, peer.argument, draw(cell)])[:8]


def _reason(log: Path) -> str:
    """The last error that a program told, or else its last line; without the folders in it."""
    lines = log.read_text(errors="replace").strip().splitlines()
    said = [line for line in lines if "error" in line.lower()] or lines or ["it told nothing"]
    return re.sub(r"(/[\w.+-]+)+/", "", said[-1].strip())[:200]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def grid() -> list[Cell]:
    """All cells, in the order in which they are measured: a failing peer is met early."""
    return [Cell(peer, name, n, seed) for seed, n, name, peer in product(SEEDS, SIZES, SETS, PEERS)]


TABLE = CellTable(
    path=files.REFERENCE / "peers.csv",
    columns=("peer", "data", "n_labels", "seed", "accuracy", "cpu", "memory", "lines", "problem", "seconds", "key"),
    cell=Cell,
    grid=grid,
    key=key,
    measure=measure,
    told=lambda row: str(row["problem"] or f"{100 * float(str(row['accuracy'])):.2f} %, {row['cpu']} s"),
    kind=lambda cell: cell.peer,
    seconds={name: peer.seconds for name, peer in PEERS.items()},
)


def configure(parser: argparse.ArgumentParser) -> None:
    configure_cells(parser)
    parser.add_argument("--peers", default="", help=f"only these, separated by commas, of: {'; '.join(PEERS)}")


def command(args: argparse.Namespace) -> None:
    """Makes the environments, then measures; a peer whose environment can't be made is told, and skipped."""
    names = [name.strip() for name in args.peers.split(",")] if args.peers else list(PEERS)
    if unknown := [name for name in names if name not in PEERS]:
        raise ValueError(f"peers={unknown[0]!r}: must be one of {', '.join(PEERS)}")
    left_out = {}
    for name in names:
        try:
            environment(PEERS[name])
        except RuntimeError as error:
            left_out[name] = str(error)
            print(f"{name}: left out, {error}", flush=True)
            _note(name, str(error))
    replace(TABLE, grid=lambda: [cell for cell in grid() if cell.peer in set(names) - set(left_out)]).complete(args.jobs)


def _note(name: str, problem: str) -> None:
    """Keeps, in place of a peer's first missing row, why there is none."""
    if missing := [cell for cell in TABLE.missing() if cell.peer == name]:
        unknown = dict.fromkeys(("accuracy", "cpu", "memory", "key"), "")
        TABLE.keep(asdict(missing[0]) | unknown | {"lines": PEERS[name].lines, "problem": problem, "seconds": "0"}, missing[0])


# --- what is shown

TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000)  # seconds
LOOKS = ("o", "P", "s", "^", "v", "D", "X", "<", ">", "*", "p", "h")  # a marker for each peer


def summarize(results: Results, measured: CellTable = TABLE) -> pd.DataFrame:
    """A row for each finished cell, also of those that failed. None without any finished run."""
    numbers = dict.fromkeys(("accuracy", "cpu", "memory"), number)
    return pd.DataFrame() if results.every.empty else measured.frame(**numbers, lines=int, problem=str)  # type: ignore[arg-type]


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each peer: accuracy by data set and number of labels; its seconds, memory and lines."""
    cells = cells[cells["problem"] == ""]
    means = cells.groupby(["peer", "data", "n_labels"])["accuracy"].agg(["mean", "std", "size"]).reset_index()
    means["text"] = [words.percent(mean, std, int(n)) for mean, std, n in means[["mean", "std", "size"]].itertuples(index=False)]
    texts = means.pivot(index="peer", columns=["data", "n_labels"], values="text")
    texts = texts.reindex([name for name in PEERS if name in texts.index])
    texts = texts[sorted(texts.columns, key=lambda head: (SETS.index(head[0]), head[1]))].fillna("–")
    texts.columns = [f"{name}, M = {n}" for name, n in texts.columns]
    groups = cells.groupby("peer")
    return texts.assign(
        seconds=groups["cpu"].median().map("{:.0f}".format),
        GB=groups["memory"].max().map("{:.1f}".format),
        lines=groups["lines"].first(),
    )


def figure(cells: pd.DataFrame) -> Figure:
    """Accuracy over seconds of the processor: a row for each data set, a column for each number of labels."""
    cells = cells[cells["problem"] == ""]
    sets, sizes = [name for name in SETS if name in set(cells["data"])], sorted(cells["n_labels"].unique())
    drawn, axes = new_figure(3.2 * len(sizes) + 0.6, 2.8 * len(sets) + 0.9, len(sets), len(sizes), sharex=True, sharey="row")
    ticks = [tick for tick in TICKS if 0.7 * cells["cpu"].min() < tick < 1.4 * cells["cpu"].max()]
    for (i, name), (j, n) in product(enumerate(sets), enumerate(sizes)):
        rows = cells[(cells["data"] == name) & (cells["n_labels"] == n)].groupby("peer")[["accuracy", "cpu"]].mean()
        for k, peer in enumerate(PEERS):
            if peer in rows.index:
                look = {"color": f"C{k}", "marker": LOOKS[k % len(LOOKS)], "linestyle": "none"}
                axes[i, j].plot(rows.loc[peer, "cpu"], 100 * rows.loc[peer, "accuracy"], label=peer, **look)
        axes[i, j].set_title(f"{name}, M = {n}", fontsize=10)
        axes[i, j].set_xscale("log")
        axes[i, j].set_xticks(ticks, map(str, ticks))
        axes[i, j].minorticks_off()
    for axis in axes[-1]:
        axis.set_xlabel("seconds of one core")
    for axis in axes[:, 0]:
        axis.set_ylabel("test accuracy (%)")
    handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawn.legend(handles.values(), handles.keys(), ncols=4, loc="outside lower center", fontsize=8)
    return drawn


def sentences(cells: pd.DataFrame) -> str:
    """What is not comparable, and which peers failed, with the reason, Markdown."""
    told = [f"*{name}* learns with the test images at hand." for name, peer in PEERS.items() if peer.transductive]
    failed = cells[cells["problem"] != ""].drop_duplicates(["peer", "problem"])
    told += [
        f"*{row.peer}* failed on `{row.data}`, M = {row.n_labels}: {words.plain(row.problem)}." for row in failed.itertuples()
    ]
    return " ".join([*told, of_earlier_code(cells)])


STUDY = Study(
    name="peers",
    question="What would other packages reach with the same labels?",
    grid=(),
    summarize=summarize,
    nothing="No other package was measured; `make peers` does that.",
    table=table,
    note="Test accuracy in per cent: mean ± standard deviation (number of seeds). Seconds of one core (median) and GB of memory"
    " (at most), from arrays to predictions; lines of code that a user writes.",
    figure=figure,
    reading="The higher and the farther to the left, the better.",
    picture="peers.png",
    sentences=sentences,
    markers={"peers": page_table(summarize, table)},
    notebook="future_work",
)
